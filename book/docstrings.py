"""Sphinx extension: read the package's docstrings as their authors mean them.

Docstrings draw small diagrams and tables as indented text. To reStructuredText that is
a quotation, to be filled like prose; this extension marks it as literal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def mark_literal(lines: list[str]) -> list[str]:
    """Return a docstring's lines with each indented paragraph marked as literal.

    What follows a heading such as ``Args:`` without a blank line is left alone.

    >>> mark_literal(["Scores:", "", "    q · k", "", "Then on."])
    ['Scores:', '', '::', '', '    q · k', '', 'Then on.']
    >>> mark_literal(["Args:", "    x: A number."])
    ['Args:', '    x: A number.']
    """
    marked: list[str] = []
    outside = True  # the last line that is not blank is not indented
    for number, line in enumerate(lines):
        indented = line.startswith("    ")
        if indented and outside and number > 0 and not lines[number - 1].strip():
            marked += ["::", ""]
        if line.strip():
            outside = not indented
        marked.append(line)
    return marked


def process(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Mark the docstring before napoleon turns its sections into markup."""
    lines[:] = mark_literal(lines)


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension, ahead of napoleon."""
    app.connect("autodoc-process-docstring", process, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
