"""The command `check`: your own notebook against the tests that it shows."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from llmcourse.arguments import as_value_error
from llmcourse.cli.console import out
from llmcourse.extras import needed_for


def check(
    notebook: Annotated[Path, typer.Argument(help="The notebook of an assignment.")],
) -> None:
    """Run your assignment notebook against the tests that it shows.

    Nothing is sent anywhere. The exit code is 0 when all tests pass.

    `llmcourse check tokenization.ipynb`
    """
    with needed_for("check", "classroom"):
        import nbformat
    from llmcourse.classroom.grading import grade, score_card
    from llmcourse.classroom.student import Student

    content = notebook.read_bytes()
    # nbformat's many errors all mean the same.
    with as_value_error(f"{notebook} is not a readable notebook", Exception):
        own = nbformat.reads(content.decode("utf-8-sig"), as_version=4)
    if "assignment" not in (own.metadata.get("llmcourse") or {}):
        raise ValueError(f"{notebook} is not the notebook of an assignment")
    # For a call that takes a moment, if it ever ends.
    with Student(seconds=20.0, unsafe=True) as student:
        graded = grade(own, own, student)
    for line in score_card(graded):
        out.print(line)
    if graded.earned < graded.points:
        sys.exit(1)
