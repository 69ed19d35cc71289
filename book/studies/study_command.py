"""The command of a study: a program that trains many models, one after the other.

    python book/studies/scaling_study.py --out results.json

A study writes what it finds into a file, and goes on from there if it was stopped; the
command shows it on standard error, line by line.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from llmcourse.training.loop import keep_freed_memory


def run_study_command(
    study: Callable[..., object],
    description: str,
    arguments: Sequence[str] | None = None,
) -> None:
    """Run a study as the command line asks, in one thread.

    Args:
        study: Takes the path of the file, and `progress`, which is called with each
            thing that was found.
        description: The first line is shown as help.
        arguments: Of the command line; None takes the process's own.

    Raises:
        SystemExit: If there is no `--out`, or no folder for it, or help was asked for.
    """
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="file of the results")
    chosen = parser.parse_args(arguments)
    if not chosen.out.parent.is_dir():  # known before anything takes time
        parser.error(f"there is no folder {str(chosen.out.parent)!r} to write into")
    torch.set_num_threads(1)
    keep_freed_memory()
    study(chosen.out, progress=partial(print, file=sys.stderr))
