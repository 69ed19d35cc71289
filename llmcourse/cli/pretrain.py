"""The command `pretrain`: from text to a model in a folder, in one go or in several."""

from functools import partial
from typing import Annotated, Literal

import typer

from llmcourse.cli.console import (
    Data,
    LearningRate,
    Machine,
    OutFolder,
    Precision,
    Quiet,
    Resume,
    Samples,
    Seed,
    Steps,
    Stories,
    Threads,
    documents_of,
)
from llmcourse.cli.running import Command, follow, show, show_model
from llmcourse.recipes import base


def pretrain(
    preset: Annotated[
        Literal["base-llm", "small", "tiny"], typer.Option(help="The recipe.")
    ] = "small",
    data: Data = None,
    out_folder: OutFolder = None,
    resume: Resume = False,
    steps: Steps = None,
    learning_rate: LearningRate = None,
    precision: Precision = None,
    vocab_size: Annotated[int | None, typer.Option(help="The preset's.", min=1)] = None,
    seed: Seed = 0,
    threads: Threads = None,
    stories: Stories = base.N_STORIES,
    samples: Samples = base.N_SAMPLES,
    machine: Machine = "",
    quiet: Quiet = False,
) -> None:
    """Pretrain a model on tales, with their entropy floor, or on your text.

    In the folder are then `checkpoints/`, `log.jsonl` and `model/`. Ctrl-C stops, and
    with `--resume` the same command goes on, to the same model.

    `llmcourse pretrain --preset base-llm --out run/`

    `llmcourse pretrain --data "notes/**/*.txt" --out my-run/`
    """
    command = Command(pretrain, locals())
    config = base.configured(
        preset,
        seed=seed,
        vocab_size=vocab_size,
        precision=precision,
        steps=steps,
        learning_rate=learning_rate,
    )
    recipe = partial(
        base.make_base,
        config,
        sources=tuple(data or ()),
        documents=documents_of(data or (), config.n_stories, seed),
        n_stories=stories,
        n_samples=samples,
    )
    folder, quality = follow(command, recipe)
    show(base.loss_table(quality))
    show_model(folder / "model", "generate")
