"""The command `evaluate`: how good a model is."""

import json
from typing import Annotated

import typer

from llmcourse.cli.console import (
    Model,
    Quiet,
    Samples,
    Stories,
    app,
    bars,
    documents_of,
    out,
)
from llmcourse.cli.results import measure, print_loss, print_samples
from llmcourse.pretrained import load_pretrained
from llmcourse.story_evaluation import TEST_SEED, TaleLoss
from llmcourse.text_loss import TextLoss, text_loss


@app.command()
def evaluate(
    model: Model,
    data: Annotated[
        list[str] | None,
        typer.Option(help="notes/**/*.txt or python_docs: your text, not the tales."),
    ] = None,
    stories: Stories = 500,
    samples: Samples = 200,
    show: Annotated[
        int, typer.Option(help="How many of the samples to print.", min=0)
    ] = 2,
    seed: Annotated[int, typer.Option(help="Of stories and samples.")] = TEST_SEED,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model: on fresh tales, against their floor, or on your own text.

    `llmcourse evaluate --model base-llm`

    `llmcourse evaluate --model my-run/model --data "notes/**/*.txt" --json`
    """
    loaded, tokenizer = load_pretrained(model)
    loss: TextLoss | TaleLoss
    written = None
    with bars(quiet) as draw:
        if data:
            texts = [document.text for document in documents_of(data, stories, seed)]
            loss = text_loss(loaded, tokenizer, texts, lambda *at: draw("text", *at))
        else:
            loss, written = measure(loaded, tokenizer, stories, samples, seed, draw)
    if as_json:
        found = {"model": model} | loss.to_json()
        if written:
            found["samples"] = written.to_json()
        out.print_json(json.dumps(found))
        return
    print_loss(loss)
    if written:
        print_samples(written, show)
