"""The command `evaluate`: how good a model is."""

import json
from typing import Annotated

import typer
from rich.text import Text

from llmcourse.cli.console import (
    Data,
    Model,
    Questions,
    Quiet,
    Samples,
    Stories,
    bars,
    documents_of,
    out,
)
from llmcourse.cli.running import show
from llmcourse.finetuning.answering import has_chat_tokens
from llmcourse.finetuning.instruction_evaluation import instruction_scores
from llmcourse.model.folders import load_pretrained
from llmcourse.recipes.base import (
    N_SAMPLES,
    N_STORIES,
    loss_table,
    tale_quality,
    text_quality,
)
from llmcourse.recipes.instruct import score_table, scores_to_json
from llmcourse.training.story_evaluation import TEST_SEED, Sample


def evaluate(
    model: Model,
    data: Data = None,
    stories: Stories = N_STORIES,
    samples: Samples = N_SAMPLES,
    questions: Questions = 30,
    show_samples: Annotated[
        int, typer.Option("--show", help="How many of the samples to print.", min=0)
    ] = 2,
    seed: Annotated[int, typer.Option(help="Of stories and samples.")] = TEST_SEED,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on fresh tales, with their floor, or on your text.

    A model that knows conversations is asked instructions, too.

    `llmcourse evaluate --model base-llm`

    `llmcourse evaluate --model my-run/model --data "notes/**/*.txt" --json`
    """
    loaded, tokenizer = load_pretrained(model)
    written: list[Sample] = []
    with bars(quiet) as draw:
        if data:
            texts = [document.text for document in documents_of(data, stories, seed)]
            quality = text_quality(loaded, tokenizer, texts, draw)
        else:
            quality, written = tale_quality(
                loaded, tokenizer, stories, samples, seed, draw
            )
            if questions and has_chat_tokens(tokenizer):
                scores = instruction_scores(
                    loaded,
                    tokenizer,
                    questions,
                    seed,
                    progress=lambda *at: draw("answers", *at),
                )
                quality["instructions"] = scores_to_json(scores)
    if as_json:
        out.print_json(json.dumps({"model": model} | quality))
        return
    out.print(
        f"text: {quality['n_documents']:,} documents, {quality['n_tokens']:,} tokens, "
        f"{quality['n_bytes']:,} bytes"
    )
    show(loss_table(quality))
    for sample in written[:show_samples]:
        out.print(Text(f"\n{sample.text}\n→ {sample.error or 'valid'}"))
    if "instructions" in quality:
        show(score_table(quality["instructions"]))
