"""Sphinx extension: read the package's docstrings as their authors mean them.

Docstrings draw small diagrams and tables as indented text. To reStructuredText that is
a quotation, to be filled like prose; this extension marks it as literal. A field of a
named tuple gets the comment beside it, and a long value is not shown.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def mark_literal(lines: list[str]) -> list[str]:
    """Return a docstring's lines with each indented paragraph marked as literal.

    What follows a heading such as ``Args:`` without a blank line is left alone. Literal
    text shows its backticks, so they are dropped, except in a line with quotes (code).

    >>> mark_literal(["Scores:", "", "    q · k", "", "Then on."])
    ['Scores:', '', '::', '', '    q · k', '', 'Then on.']
    >>> mark_literal(["Files:", "", "    code  says `what`"])[-1]
    '    code  says what'
    >>> mark_literal(["Args:", "    x: A number."])
    ['Args:', '    x: A number.']
    """
    marked: list[str] = []
    outside, literal = True, False  # outside: the last line with words is not indented
    for number, line in enumerate(lines):
        indented = line.startswith("    ")
        if indented and outside and number > 0 and not lines[number - 1].strip():
            marked += ["::", ""]
            literal = True
        if line.strip():
            outside = not indented
            literal = literal and indented
        marked.append(line.replace("`", "") if literal and '"' not in line else line)
    return marked


def field_comment(name: str) -> list[str]:
    """Return the comment beside a named tuple's field, as a docstring's lines.

    >>> field_comment("llmcourse.model.costs.Cost.flops")
    ['Of matrix products.']
    """
    module, owner, field = name.rsplit(".", 2)
    source = inspect.getsource(getattr(import_module(module), owner))
    beside = rf"^    {field}: .*  # (.+(?:\n +# .+)*)"
    found = re.search(beside, source, re.MULTILINE)
    words = re.sub(r"\n +# ", " ", found[1]) if found else ""
    return [f"{words[0].upper()}{words[1:]}."] if words else []


def process(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Mark the docstring before napoleon turns its sections into markup."""
    lines[:] = mark_literal(lines)


def describe_field(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Say of a named tuple's field what the comment beside it says."""
    if lines and lines[0].startswith("Alias for field number"):
        lines[:] = field_comment(name)


def shorten_values(app: Sphinx, page: nodes.document) -> None:
    """Write an ellipsis for each constant's value that would be a wall of text."""
    for value in page.findall(addnodes.desc_annotation):
        if value.astext().startswith(" = ") and len(value.astext()) > 800:
            value.children = [nodes.Text(" = …")]


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension, partly ahead of napoleon.

    Comments come after it: in a field, words before a colon are a type to napoleon.
    """
    app.connect("autodoc-process-docstring", process, priority=100)
    app.connect("autodoc-process-docstring", describe_field, priority=900)
    app.connect("doctree-read", shorten_values)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
