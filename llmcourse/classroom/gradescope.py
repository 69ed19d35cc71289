"""One assignment as an autograder for Gradescope, with the same engine inside.

    setup.sh            what grading imports, and bubblewrap
    run_autograder      python -m llmcourse.classroom.gradescope /autograder
    package/llmcourse   this package, without the models
    secret/NAME.py      the assignment's source, readable only by root
    secret/NAME.ipynb   its release, so that nbgrader is not needed there

Gradescope runs each hand-in in a container of its own. If the container allows a
sandbox, the student's code runs in one; otherwise it runs as another user, who cannot
read the source. Results are written as Gradescope specifies them
(https://gradescope-autograders.readthedocs.io/en/latest/specs).
"""

import os
import re
import shlex
import shutil
import sys
from dataclasses import replace
from importlib.metadata import requires
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat

from llmcourse.classroom.assignments import (
    data_of,
    points,
    read_source,
    release,
    write,
)
from llmcourse.classroom.collecting import HandIn, choose, notebooks_in
from llmcourse.classroom.grading import Graded, grade
from llmcourse.classroom.opening import TORCH
from llmcourse.classroom.pages import render
from llmcourse.classroom.sandbox import PACKAGE, available, files_of
from llmcourse.classroom.student import Student
from llmcourse.files import write_file, write_json

NOBODY = 65534
NEEDED = ("filelock", "jupytext", "nbformat", "numpy", "torch")  # what grading imports
UNREADABLE = (
    "this file could not be opened as a notebook: restart the kernel, save, and hand "
    "in the .ipynb again"
)


def requirements() -> list[str]:
    """Return what pip must install there, with this package's bounds on versions."""
    lines = [line.partition(";")[0].strip() for line in requires("llmcourse") or []]
    found = {re.split(r"[^\w-]", line, maxsplit=1)[0].lower(): line for line in lines}
    return [found[name] for name in NEEDED]


def write_autograder(source: Path, path: Path, seed: int) -> Path:
    """Write an assignment's autograder.

    Args:
        source: The assignment's source.
        path: The zip to write.
        seed: Seeds the inputs of hidden tests; no student should know it.

    Raises:
        ValueError: As in `assignments.read_source`.
    """
    *others, torch = map(shlex.quote, requirements())
    scripts = {
        "setup.sh": render("setup.sh", torch=torch, index=TORCH, others=others),
        "run_autograder": render("run_autograder", seed=seed),
    }
    with TemporaryDirectory() as folder:
        root = Path(folder) / "autograder"
        unused = shutil.ignore_patterns("models", "__pycache__")
        shutil.copytree(PACKAGE, root / "package" / "llmcourse", ignore=unused)
        (root / "secret").mkdir()
        shutil.copy(source, root / "secret")
        released = root / "secret" / f"{source.stem}.ipynb"
        write(release(read_source(source)), released)
        if data := data_of(source):
            shutil.copytree(data, released.with_suffix(""))
        for name, text in scripts.items():
            (root / name).write_text(text, encoding="utf-8")
            (root / name).chmod(0o755)
        made = shutil.make_archive(str(root), "zip", root)
        write_file(path, Path(made).read_bytes())
    return path


def results(graded: Graded, notes: list[str], visible: set[str]) -> dict[str, object]:
    """Return what Gradescope reads: the points and message of each test."""
    return {
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "output": "\n".join(notes),
        "tests": [
            {
                "name": result.name,
                "score": result.earned,
                "max_score": result.points,
                "status": "passed" if result.is_passed else "failed",
                "output": result.message,
                "visibility": "visible"
                if result.name in visible
                else "after_published",
            }
            for result in graded.results
        ],
    }


def main(root: Path) -> None:
    """Grade the hand-in under `submission`; write `results/results.json`."""
    [path] = (root / "source" / "secret").glob("*.py")
    source = read_source(path)
    hand_in = HandIn(student="student")
    for found in notebooks_in(root / "submission"):
        hand_in.add(*found)
    released = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    notebook = choose(hand_in, released)
    blocked = source.metadata["llmcourse"]["blocked"]
    if unsafe := not available():
        for hidden in files_of(blocked):  # from all but the package's owner
            hidden.chmod(0o700 if hidden.is_dir() else 0o600)
    user = 0 if os.getuid() else NOBODY
    data = data_of(path)
    with Student(30, data=data, blocked=blocked, unsafe=unsafe, user=user) as student:
        graded = grade(source, notebook, student)
    if not hand_in.readable:
        failed = [replace(result, message=UNREADABLE) for result in graded.results]
        graded = replace(graded, results=failed)
    visible = {
        str(cell.id)
        for cell in source.cells
        if points(cell) and "BEGIN HIDDEN" not in cell.source
    }
    report = results(graded, hand_in.notes + graded.flags, visible)
    (root / "results").mkdir(exist_ok=True)
    write_json(root / "results" / "results.json", report)
    write(notebook, root / "results" / "graded.ipynb")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
