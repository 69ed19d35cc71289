"""Replacements for steps of nbgrader, named in its configuration.

nbgrader runs a hand-in in a kernel, tests and all. Here the cells have already been run
(`grading`), and nbgrader is given their outputs. Of a hidden test, students see the
message, not the code; of a teacher's comment, all that was written.
"""

import re
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor

HIDDEN = re.compile(
    r"^.*### BEGIN HIDDEN TESTS.*\n(?:.*\n)*?.*### END HIDDEN TESTS.*\n?", re.MULTILINE
)
# Markdown shows what is in these as it is.
CODE_OR_MATH = re.compile(r"(`+[^`]+`+|\$[^$\n]+\$)")


def without_tags(comment: str) -> str:
    """Return a comment in Markdown in which `<` begins no tag of HTML.

    >>> without_tags("if a<b, see `x<y`")
    'if a&lt;b, see `x<y`'
    """
    parts = CODE_OR_MATH.split(comment)
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "".join(parts)


class Recorded(NbGraderPreprocessor):  # type: ignore[misc]
    """Give the cells of a hand-in the outputs that `grading` recorded."""

    def preprocess(
        self, notebook: NotebookNode, resources: dict[str, Any]
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Copy the outputs, cell by cell."""
        own = resources["nbgrader"]
        path = Path("results", own["assignment"], f"{own['student']}.ipynb")
        recorded = nbformat.read(path, as_version=4)
        for cell, ran in zip(notebook.cells, recorded.cells, strict=True):
            if cell.cell_type == "code":
                cell.execution_count, cell.outputs = ran.execution_count, ran.outputs
        return notebook, resources


class HideHiddenTests(NbGraderPreprocessor):  # type: ignore[misc]
    """Reduce a hidden test to its first comment and message; show comments whole."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Remove a hidden test's code and traceback, and the tags from a comment."""
        own = cell.metadata.get("nbgrader", {})
        if own.get("comment"):
            own["comment"] = without_tags(own["comment"])
        if cell.cell_type == "code" and "BEGIN HIDDEN TESTS" in cell.source:
            cell.source = HIDDEN.sub("", cell.source + "\n").strip()
            for output in cell.outputs:
                if output.output_type == "error":
                    output.traceback = [output.evalue]
        return cell, resources
