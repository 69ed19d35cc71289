"""The command of a study: a program that trains many models, one after the other.

    python book/studies/scaling_study.py --out results.json

A study writes what it finds into a file, and goes on from there if it was stopped; the
command shows it on standard error, line by line.
"""

import argparse
import ast
import hashlib
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jupytext
import torch

from llmcourse.studies import Study, load_study, save_study
from llmcourse.training.checkpoints import check_config_matches
from llmcourse.training.loop import keep_freed_memory

_Point = TypeVar("_Point")


def resumed(
    path: str | Path, recipe: dict[str, Any], point: Callable[..., _Point]
) -> Study[_Point]:
    """Return the study of a file, or a new one where there is no file.

    Args:
        path: The file of the results.
        recipe: What is asked now.
        point: As in `studies.load_study`.

    Raises:
        ValueError: If the file holds no study, or results of another recipe.
    """
    if not Path(path).exists():
        return Study(recipe=recipe)
    study = load_study(path, point)
    refusal = f"{str(path)!r} holds results of another recipe"
    check_config_matches(refusal, study.recipe, recipe)
    return study


def with_points(
    study: Study[_Point],
    points: Iterable[_Point],
    path: str | Path,
    progress: Callable[[_Point], None] | None,
) -> Study[_Point]:
    """Return a study with some more points; write it, and tell of each of them."""
    new = tuple(points)
    study = replace(study, points=(*study.points, *new))
    save_study(study, path)
    if progress is not None:
        for point in new:
            progress(point)
    return study


def page_functions(page: Path, names: Collection[str]) -> tuple[dict[str, Any], str]:
    """Return what a chapter's code defines under some names, and a hash of it.

    The hash in a study's recipe keeps results of an older page from being taken for
    new ones.

    Args:
        page: The chapter's source.
        names: Of functions, classes and constants.
    """
    cells = jupytext.read(page, fmt="py:percent").cells
    source = [c.source for c in cells if c.cell_type == "code"]
    imports, kept = [], []
    for node in ast.parse("\n".join(source)).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
        elif isinstance(node, ast.Assign):
            given = {n.id for n in ast.walk(node.targets[0]) if isinstance(n, ast.Name)}
            kept += [node] if given & {*names} else []
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
            kept.append(node)
    text = "\n".join(ast.unparse(node) for node in kept)
    found: dict[str, Any] = {}
    exec(compile(ast.Module([*imports, *kept], []), str(page), "exec"), found)
    return found, hashlib.sha256(text.encode()).hexdigest()


def run_study_command(
    study: Callable[..., object],
    description: str,
    arguments: Sequence[str] | None = None,
    options: Mapping[str, str | int] = {},
) -> None:
    """Run a study as the command line asks, in one thread.

    Args:
        study: Takes the path of the file, and `progress`, which is called with each
            thing that was found.
        description: The first line is shown as help.
        arguments: Of the command line; None takes the process's own.
        options: Names of further arguments of the study, with what they are if the
            command line says nothing else.

    Raises:
        SystemExit: If there is no `--out`, or no folder for it, or help was asked for.
    """
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="file of the results")
    for name, default in options.items():
        told = f"default: {default}"
        parser.add_argument(f"--{name}", type=type(default), default=default, help=told)
    chosen = parser.parse_args(arguments)
    if not chosen.out.parent.is_dir():  # known before anything takes time
        parser.error(f"there is no folder {str(chosen.out.parent)!r} to write into")
    torch.set_num_threads(1)
    keep_freed_memory()
    said = {name: getattr(chosen, name) for name in options}
    study(chosen.out, progress=partial(print, file=sys.stderr), **said)
