"""The command `evaluate`: how good a model is."""

import json
from typing import Annotated

import typer

from llmcourse.cli.console import (
    Quiet,
    Samples,
    Stories,
    app,
    bars,
    documents_of,
    out,
)
from llmcourse.cli.evaluate_all import evaluate_all
from llmcourse.cli.results import measure, print_loss, print_samples, print_scores
from llmcourse.finetuning.answering import has_chat_tokens
from llmcourse.finetuning.instruction_evaluation import instruction_scores
from llmcourse.model.folders import load_pretrained
from llmcourse.recipes.instruct_card import scores_to_json
from llmcourse.training.story_evaluation import TEST_SEED, TaleLoss
from llmcourse.training.text_loss import TextLoss, text_loss


@app.command()
def evaluate(
    model: Annotated[
        str | None,
        typer.Option(help="A model's folder, or the name of a shipped one."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All shipped models, as their cards say.")
    ] = False,
    data: Annotated[
        list[str] | None,
        typer.Option(help="notes/**/*.txt or python_docs: your text, not the tales."),
    ] = None,
    stories: Stories = 500,
    samples: Samples = 200,
    questions: Annotated[
        int,
        typer.Option(help="Instructions of each kind, for models that answer.", min=0),
    ] = 30,
    show: Annotated[
        int, typer.Option(help="How many of the samples to print.", min=0)
    ] = 2,
    seed: Annotated[int, typer.Option(help="Of stories and samples.")] = TEST_SEED,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model: on fresh tales, against their floor, or on your own text.

    A model that knows conversations is asked instructions, too. With `--all` every
    shipped model is measured as its card says, whatever else is named.

    `llmcourse evaluate --model base-llm`

    `llmcourse evaluate --model my-run/model --data "notes/**/*.txt" --json`

    `llmcourse evaluate --all`
    """
    if everything:
        evaluate_all(quiet)
        return
    if model is None:
        raise ValueError("wanted --model or --all, got neither")
    loaded, tokenizer = load_pretrained(model)
    loss: TextLoss | TaleLoss
    written, scores = None, None
    with bars(quiet) as draw:
        if data:
            texts = [document.text for document in documents_of(data, stories, seed)]
            loss = text_loss(loaded, tokenizer, texts, lambda *at: draw("text", *at))
        else:
            loss, written = measure(loaded, tokenizer, stories, samples, seed, draw)
            if questions and has_chat_tokens(tokenizer):
                scores = instruction_scores(
                    loaded,
                    tokenizer,
                    questions,
                    seed,
                    progress=lambda *at: draw("answers", *at),
                )
    if as_json:
        found = {"model": model} | loss.to_json()
        if written:
            found["samples"] = written.to_json()
        if scores:
            found["instructions"] = scores_to_json(scores)
        out.print_json(json.dumps(found))
        return
    print_loss(loss)
    if written:
        print_samples(written, show)
    if scores:
        print_scores(scores)
