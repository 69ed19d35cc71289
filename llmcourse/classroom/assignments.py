"""One source per assignment, and the notebook that students get.

A source is a percent script, like a chapter's, whose headers say what each cell is:

    # %% [markdown]                      text
    # %% given="setup"                   code that everyone has: imports, data
    # %% answer="merge"                  the reference, between two marks:
                                             ### BEGIN SOLUTION … ### END SOLUTION
    # %% test="merge" points=1           asserts that students see
    # %% hidden="merge" points=2         asserts that they do not see
    # %% [markdown] written="a" points=3   the model answer and how to mark it

The script's header holds `blocked`, the modules of the package that contain the
answer, and `version`, to be increased when names or points change.

`read_source` adds nbgrader's metadata, and nbgrader's own preprocessors make the
release: stubs for solutions, no hidden tests. A cell's id is its name, so that a
rebuilt release is the same to the byte, and a hand-in's cells can be found.
"""

import ast
import copy
import re
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode

from llmcourse.files import write_file

KINDS = ("given", "answer", "test", "hidden", "written")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}


def read_source(path: Path) -> NotebookNode:
    """Return the source of an assignment as a notebook with nbgrader's metadata.

    Raises:
        ValueError: If a cell's header is not of the form above, or names repeat.
    """
    notebook: NotebookNode = jupytext.read(path, fmt="py:percent")
    own = notebook.metadata.get("llmcourse", {})
    if extra := set(own) - {"version", "blocked"}:
        raise ValueError(f"{path.name}: unknown settings {', '.join(sorted(extra))}")
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = NotebookNode(METADATA)
    notebook.metadata["llmcourse"] = {
        "assignment": path.stem,
        "version": own.get("version", 1),
        "blocked": list(own.get("blocked", ())),
    }
    names = []
    for number, cell in enumerate(notebook.cells):
        kind, name = _kind(path, cell)
        points = cell.metadata.get("points")
        if (points is not None) != (kind in ("test", "hidden", "written")):
            raise ValueError(f"{path.name}: {kind} {name!r} has points={points}")
        cell.metadata = NotebookNode()
        cell.id = f"text-{number:02}"
        if not kind:
            continue
        cell.id = name if kind in ("answer", "written") else f"{kind}-{name}"
        if kind == "hidden":
            cell.source = _hide(cell.source)
        cell.metadata["nbgrader"] = _metadata(kind, cell.id, points)
        names.append(cell.id)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{path.name}: names used twice: {', '.join(twice)}")
    return notebook


def data_of(path: Path) -> Path | None:
    """Return the folder beside a source that is laid beside its notebook, if any."""
    folder = path.with_suffix("")
    return folder if folder.is_dir() else None


def _kind(path: Path, cell: NotebookNode) -> tuple[str, str]:
    """Return a cell's kind and its name; two empty strings for text."""
    found = [(kind, cell.metadata[kind]) for kind in KINDS if kind in cell.metadata]
    where = f"{path.name}, cell {cell.source[:40]!r}"
    if len(found) > 1:
        raise ValueError(
            f"{where}: cannot be {' and '.join(kind for kind, _ in found)}"
        )
    if not found:
        if cell.cell_type == "code":
            raise ValueError(f"{where}: code must have one of {', '.join(KINDS)}")
        return "", ""
    kind, name = found[0]
    if not re.fullmatch(r"[a-z0-9-]+", str(name)):
        raise ValueError(f"{where}: wanted a name of a-z, 0-9 and -, got {name!r}")
    if (kind == "written") != (cell.cell_type == "markdown"):
        raise ValueError(f"{where}: {kind} cannot be in a {cell.cell_type} cell")
    return kind, str(name)


def _hide(source: str) -> str:
    """Put all but the comments at the top between nbgrader's marks."""
    if "HIDDEN TESTS" in source:
        raise ValueError(
            "`hidden=` hides a whole cell, so it needs no marks of its own: take BEGIN "
            f"and END HIDDEN TESTS out of the one that begins {source[:40]!r}"
        )
    lines = source.split("\n")
    code = (i for i, line in enumerate(lines) if not line.startswith("#"))
    if not (top := next(code, 0)):
        raise ValueError(
            f"a hidden test must be a comment followed by code, got {lines[0]!r}"
        )
    shown, hidden = lines[:top], lines[top:]
    marks = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"
    return "\n".join([*shown, marks[0], *hidden, marks[1]])


def _metadata(kind: str, name: str, points: float | int | None) -> dict[str, Any]:
    graded = kind in ("test", "hidden", "written")
    solution = kind in ("answer", "written")
    metadata = {
        "grade": graded,
        "grade_id": name,
        "locked": not solution,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }
    return {**metadata, "points": points} if graded else metadata


def grade_id(cell: NotebookNode) -> str:
    """Return the name of a cell, empty for text."""
    return str(cell.metadata.get("nbgrader", {}).get("grade_id", ""))


def is_answer(cell: NotebookNode) -> bool:
    """Return whether a student is to fill in a cell, code or text."""
    return bool(cell.metadata.get("nbgrader", {}).get("solution"))


def is_test(cell: NotebookNode) -> bool:
    """Return whether a cell's asserts give points."""
    own = cell.metadata.get("nbgrader", {})
    return bool(own.get("grade")) and not own.get("solution")


def is_given(cell: NotebookNode) -> bool:
    """Return whether a cell is code that is given and not graded."""
    own = cell.metadata.get("nbgrader", {})
    return bool(own.get("locked")) and not own.get("grade")


def points(cell: NotebookNode) -> float:
    """Return the points of a cell."""
    return float(cell.metadata.get("nbgrader", {}).get("points", 0))


def defined(code: str) -> dict[str, bool]:
    r"""Return the names that code defines, and whether each is a function.

    >>> defined("LIMIT = 3\ndef merge(ids): ...")
    {'LIMIT': False, 'merge': True}
    """
    names: dict[str, bool] = {}
    try:
        body = ast.parse(code).body
    except SyntaxError:  # a student's; its functions can still be found
        found = re.findall(r"^def (\w+)", code, re.MULTILINE)
        return dict.fromkeys(found, True)
    for node in body:
        if isinstance(node, ast.FunctionDef):
            names[node.name] = True
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {t.id: False for t in targets if isinstance(t, ast.Name)}
    return names


def release(source: NotebookNode) -> NotebookNode:
    """Return what students get: no solutions, no hidden tests, no answers.

    nbgrader's own preprocessors make it.
    """
    from nbgrader import preprocessors

    notebook: NotebookNode = copy.deepcopy(source)
    resources: dict[str, Any] = {}
    for step in (
        preprocessors.LockCells(),
        preprocessors.ClearSolutions(),
        preprocessors.ClearOutput(),
        preprocessors.ClearHiddenTests(),
        preprocessors.ComputeChecksums(),
    ):
        notebook, resources = step.preprocess(notebook, resources)
    return notebook


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook, whole or not at all; a lone surrogate becomes "?"."""
    write_file(path, (nbformat.writes(notebook) + "\n").encode("utf-8", "replace"))
