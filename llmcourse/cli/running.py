"""What commands that train share: cores, folders, and how to stop."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import typer

from llmcourse.checkpoints import checkpoint_paths
from llmcourse.cli.console import say
from llmcourse.schedule import PretrainingConfig, without_imitation

_Config = TypeVar("_Config", bound=PretrainingConfig)


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_precision(config: _Config, asked: str | None) -> _Config:
    """Return the config in the precision asked for, or else in what is fast here."""
    if asked is None:
        return without_imitation(config)
    precision: Any = asked
    return replace(config, precision=precision)


def command_line(words: Sequence[str], options: Mapping[str, Any]) -> str:
    """Return a command line to be typed again, with the options that were given."""
    given = [
        text
        for name, value in options.items()
        if value is not None
        for text in (f"--{name.replace('_', '-')}", str(value))
    ]
    return shlex.join([*words, *given])


def prepare_folder(folder: Path, resume: bool) -> None:
    """Make the folder before anything takes time; refuse one that is taken."""
    if not resume and checkpoint_paths(folder / "checkpoints"):
        raise ValueError(
            f"{str(folder)!r} holds checkpoints already: add --resume to go on with "
            "that training, or name another folder"
        )
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot write into {str(folder)!r}: {error.strerror or error}"
        raise OSError(error.errno, message) from error


@contextmanager
def stoppable(command: str) -> Iterator[None]:
    """Turn Ctrl-C into a word on how to go on, and the exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped; to go on: {command} --resume")
        raise typer.Exit(130) from None
