"""The command of a study: a program that trains for hours and fills one file.

    python -m llmcourse.scaling_study --out results.json

What it has found goes into the file and, line by line, to standard error.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from llmcourse.memory import keep_freed_memory


@runtime_checkable
class StudyFunction(Protocol):
    """What trains, and writes what it finds into a file."""

    def __call__(self, path: Path, /, *, progress: Any) -> object:
        """Fill the file, and call `progress` with each thing that was found."""


def run_study_command(
    study: StudyFunction, description: str, arguments: Sequence[str] | None = None
) -> None:
    """Run a study as the command line asks, in one thread.

    Args:
        study: What to run.
        description: The first line is shown as help.
        arguments: Of the command line; None takes the process's own.

    Raises:
        SystemExit: If there is no `--out`, or help was asked for.
    """
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="file of the results")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    keep_freed_memory()
    study(chosen.out, progress=partial(print, file=sys.stderr))
