"""What commands that train share: options, cores, folders, and how to stop."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import typer

from llmcourse.cli.console import say
from llmcourse.training.checkpoints import checkpoint_paths
from llmcourse.training.config import PretrainingConfig, fall_back_to_float32
from llmcourse.training.loop import keep_freed_memory

OutFolder = Annotated[
    Path | None,
    typer.Option("--out", help="For checkpoints, logs and models; run-PRESET."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the folder's checkpoints.")
]
Steps = Annotated[int | None, typer.Option(help="The preset's.", min=1)]
LearningRate = Annotated[float | None, typer.Option(help="At its peak; the preset's.")]
Precision = Annotated[
    str | None, typer.Option(help="float32 or bfloat16; what is fast here.")
]
Threads = Annotated[int | None, typer.Option(help="Processor cores; all.", min=1)]
Machine = Annotated[
    str, typer.Option(help="Words for the model's card on what trained it.")
]

_Config = TypeVar("_Config", bound=PretrainingConfig)


def use_cores(threads: int | None) -> None:
    """Compute on so many cores, or all, and keep the memory that trainings free."""
    keep_freed_memory()
    torch.set_num_threads(threads or n_cores())


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given, which are not None."""
    return {name: value for name, value in options.items() if value is not None}


def in_precision(config: _Config, asked: str | None) -> _Config:
    """Return the config in the precision asked for, or else in what is fast here."""
    if asked is None:
        return fall_back_to_float32(config)
    precision: Any = asked
    return replace(config, precision=precision)


def command_line(words: Sequence[str], options: Mapping[str, Any]) -> str:
    """Return a command line to be typed again, with the options that were given."""
    said = [
        text
        for name, value in given(options).items()
        for text in (f"--{name.replace('_', '-')}", str(value))
    ]
    return shlex.join([*words, *said])


def prepare_folders(*folders: Path, resume: bool) -> None:
    """Make the folders before anything takes time; refuse one that is taken.

    One is taken if a training has checkpoints there, or an earlier part of it does, in
    a folder inside.
    """
    taken = [each for each in folders if _has_checkpoint(each / "checkpoints")]
    if taken and not resume:
        raise ValueError(
            f"{str(taken[0])!r} holds checkpoints already: add --resume to go on with "
            "that training, or name another folder"
        )
    if resume and not taken:
        say(f"no checkpoint in {str(folders[0])!r}: training starts at the beginning")
    for folder in folders:
        make_folder(folder / "checkpoints")


def make_folder(path: Path) -> None:
    """Make a folder, before anything takes time.

    Raises:
        OSError: If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot write into {str(path)!r}: {error.strerror or error}"
        raise OSError(error.errno, message) from error


def _has_checkpoint(folder: Path) -> bool:
    inside = (path for path in folder.rglob("*") if path.is_dir())
    return any(checkpoint_paths(each) for each in (folder, *inside))


@contextmanager
def stoppable(command: str) -> Iterator[None]:
    """Turn Ctrl-C into a word on how to go on, and the exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped; to go on: {command} --resume")
        raise typer.Exit(130) from None
