"""The command `pipeline`: every stage, one after the other."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.text import Text

from llmcourse.cli.console import (
    Quiet,
    Seed,
    Sources,
    bars,
    documents_of,
    make_folder,
    out,
)
from llmcourse.training import pipeline as stages
from llmcourse.training.losses import gap_to_floor
from llmcourse.training.presets import SMALL


def pipeline(
    sources: Sources = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Keep tokenizer and model here.")
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Training steps.", min=1)
    ] = SMALL.pretraining.steps,
    n_stories: Annotated[int, typer.Option(help="Number of tales.")] = SMALL.n_stories,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Take raw text to a model that writes, in about a minute.

    `llmcourse pipeline`

    `llmcourse pipeline --steps 2000 --out my-model/`

    `llmcourse pipeline "notes/**/*.txt"`
    """
    torch.set_num_threads(1)  # for matrices this small a second thread only waits
    training = replace(SMALL.pretraining, steps=steps)
    config = replace(SMALL, n_stories=n_stories, pretraining=training, seed=seed)
    documents = documents_of(sources, n_stories, seed) if sources else None
    if out_folder is not None:
        make_folder(out_folder)
    with bars(quiet) as show:
        result = stages.run(config, documents, show)
    out.print(f"\n{result.data.report}\n")
    out.print(f"tokenizer: {result.tokenizer.vocab_size:,} tokens")
    first = result.history.evaluations[0]
    out.print(f"loss: {first.loss:.2f} → {result.loss:.2f} nats/token on held-out text")
    if result.floor is not None:
        floor = result.floor.value
        gap = gap_to_floor(result.loss, floor)
        out.print(f"floor: {floor:.2f} nats/token; the loss is {gap:.0%} above it")
    for name, text in (("before", result.before), ("after", result.after)):
        out.print(Text(f"\n{name} training: {text[:600]}"))
    out.print("\nwhat comes next: llmcourse finetune, llmcourse align, llmcourse serve")
    if out_folder is not None:
        stages.save(result, out_folder)
        out.print(f"kept in {out_folder}")
