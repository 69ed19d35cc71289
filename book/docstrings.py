"""Sphinx extension: read the package's docstrings as their authors mean them.

Docstrings draw small diagrams and tables as indented text. To reStructuredText that is
a quotation, to be filled like prose; this extension marks it as literal. A class's
fields get the comments beside them, signatures lose what only Python needs, and a long
value is not shown. A name in backticks is a link to its description in any module.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from docutils import nodes
from pydantic import BaseModel
from sphinx import addnodes
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode
from traitlets import HasTraits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


def mark_literal(lines: list[str]) -> list[str]:
    """Return a docstring's lines with each indented paragraph marked as literal.

    What follows a heading such as ``Args:`` without a blank line is left alone. Literal
    text shows its backticks, so they are dropped, except in a line with quotes (code).

    >>> mark_literal(["Scores:", "", "    q · k", "", "Then on."])
    ['Scores:', '', '.. code-block:: text', '', '    q · k', '', 'Then on.']
    >>> mark_literal(["Files::", "", "    code  says `what`"])[0::4]
    ['Files:', '    code  says what']
    >>> mark_literal(["", "    from here import this"])[1]
    '.. code-block:: python'
    >>> mark_literal(["Args:", "    x: A number."])
    ['Args:', '    x: A number.']
    """
    marked: list[str] = []
    outside, literal = True, False  # outside: the last line with words is not indented
    for number, line in enumerate(lines):
        indented = line.startswith("    ")
        if indented and outside and number > 0 and not lines[number - 1].strip():
            if len(marked) > 1 and marked[-2].endswith("::"):
                marked[-2] = marked[-2][:-1]
            is_code = re.match(r"\s+(?:from|import|def|class) ", line)
            marked += [f".. code-block:: {'python' if is_code else 'text'}", ""]
            literal = True
        if line.strip():
            outside = not indented
            literal = literal and indented
        marked.append(line.replace("`", "") if literal and '"' not in line else line)
    return marked


def comment_of(owner: type, field: str) -> str:
    """Return the comments above and beside a class's field, as a sentence.

    >>> from llmcourse.alignment.ppo import PPOConfig
    >>> comment_of(PPOConfig, "value_learning_rate")
    'Of the critic.'
    >>> comment_of(PPOConfig, "gae_lambda")  # a symbol keeps its case
    'λ of the advantage estimates.'
    """
    above, beside = r"((?:^    # .+\n)*)", r"(?:  # (.+(?:\n {5,}# .+)*))?$"
    pattern = rf"{above}^    {field}: [^#\n]*?{beside}"
    found = re.search(pattern, inspect.getsource(owner), re.MULTILINE)
    parts = found.groups(default="") if found else ()
    parts = [part for part in parts if not part.endswith((":\n", ":"))]  # of several
    words = " ".join(re.sub(r"\s*# ", " ", part).strip() for part in parts).strip()
    start = words[:1].upper() if words[:1].isascii() else words[:1]
    return f"{start}{words[1:].rstrip('.')}." if words else ""


def describe_fields(owner: type) -> list[str]:
    """Return a section on the arguments of a dataclass or model, from its comments.

    >>> from llmcourse.alignment.ppo import PPOConfig
    >>> describe_fields(PPOConfig)[4]
    '    max_new_tokens: Of an answer.'
    """
    if dataclasses.is_dataclass(owner):
        names = [each.name for each in dataclasses.fields(owner) if each.init]
    else:
        names = [*getattr(owner, "model_fields", ())]
    found = {}
    for name in names:
        classes = (c for c in owner.__mro__ if name in inspect.get_annotations(c))
        comments = (comment_of(each, name) for each in classes)
        said = next(filter(None, comments), "")  # a subclass may change just the value
        if issubclass(owner, BaseModel):  # they show no signature
            about = owner.model_fields[name]
            default = about.get_default()
            if about.is_required():
                said = f"{said} Required.".strip()
            elif default is None or isinstance(default, bool | int | float | str):
                said = f"{said} Default: {default!r}.".strip()
        if said:
            found[name] = said
    return ["", "Args:", *(f"    {k}: {v}" for k, v in found.items())] if found else []


def simplify(signature: str) -> str:
    """Return a signature without what only Python needs.

    >>> simplify("(x: ~a._Item = <factory>, y: ~a.Annotated[int, Depends(f)] = 1)")
    '(x: Item = ..., y: int = 1)'
    >>> simplify("(f=<function f.<lambda>>, g=<function g>)")
    '(f=..., g=...)'
    """
    signature = re.sub(r"<(?:factory|function (?:[^<>]|<\w+>)*)>", "...", signature)
    depends = r"[~\w.]*\bAnnotated\[([^,]+), [~\w.]*Depends\([^)]*\)\]"  # FastAPI's
    signature = re.sub(depends, r"\1", signature)
    return re.sub(r"~?\b(?:\w+\.)*_([A-Z]\w*)", r"\1", signature)


def sign(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """Return a signature as its readers need it.

    Models, protocols and classes that pass on all arguments have none: what they take
    is said below, or elsewhere.
    """
    if what == "class" and signature:
        if issubclass(obj, HasTraits):
            own = inspect.signature(obj.__init__)
            own = own.replace(parameters=[*own.parameters.values()][1:])
            signature = stringify_signature(own, unqualified_typehints=True)
        foreign = not (getattr(obj.__init__, "__module__", "") or "").startswith("llm")
        if issubclass(obj, BaseModel) or getattr(obj, "_is_protocol", False):
            return "", None
        if re.fullmatch(r"\(\*\w+[^,]*, \*\*\w+[^,]*\)", signature) or (
            foreign and obj.__new__ is object.__new__
        ):
            return "", None
    return signature and simplify(signature), returned and simplify(returned)


def skip(
    app: Sphinx, what: str, name: str, obj: Any, skipped: bool, options: Any
) -> bool | None:
    """Leave out pydantic's own settings."""
    return True if name == "model_config" else None


def process(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Mark the docstring before napoleon turns its sections into markup.

    To napoleon, words before a colon are a variable's type, unless a comment comes
    first.
    """
    if what == "class" and not {"Args:", "Attributes:"} & {*lines}:
        lines += describe_fields(obj)
    lines[:] = mark_literal(lines)
    is_variable = what in ("attribute", "property", "data")
    if is_variable and lines and not lines[0].startswith("Alias for field"):
        lines[:0] = ["..", ""]


def describe_field(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Say of a named tuple's field what the comment beside it says."""
    if lines and lines[0].startswith("Alias for field number"):
        module, owner, field = name.rsplit(".", 2)
        lines[:] = [comment_of(getattr(import_module(module), owner), field)]


def shorten_values(app: Sphinx, page: nodes.document) -> None:
    """Write an ellipsis for each constant's value that would be a wall of text."""
    for value in page.findall(addnodes.desc_annotation):
        text = value.astext()
        if text.startswith(" = ") and (len(text) > 250 or "<function" in text):
            value.children = [nodes.Text(" = …")]


def described_as(name: str, module: str, described: Iterable[str]) -> str | None:
    """Return the full name that a docstring means, if just one of those ends in it.

    A common word is rather a parameter, unless a module beside this one is called so.

    Args:
        name: As in the docstring, in backticks.
        module: The docstring's.
        described: Full names to choose from.

    >>> names = ["llmcourse.text.bpe", "llmcourse.text.bpe.BPE", "llmcourse.model.size"]
    >>> described_as("BPE", "llmcourse.model.costs", names)
    'llmcourse.text.bpe.BPE'
    >>> described_as("bpe", "llmcourse.text.corpus", names)
    'llmcourse.text.bpe'
    >>> described_as("size", "llmcourse.text.corpus", names)
    """
    ends = [each for each in described if each.endswith(f".{name}")]
    if name.isalpha() and name.islower():
        beside = f"{module.rpartition('.')[0]}.{name}"
        ends = [each for each in ends if each == beside]
    return ends[0] if len(ends) == 1 else None


def link_elsewhere(
    app: Sphinx, env: BuildEnvironment, node: nodes.Element, words: nodes.TextElement
) -> nodes.reference | None:
    """Return a link for a name in backticks that stands in another module."""
    if (node["refdomain"], node["reftype"]) != ("py", "obj"):
        return None
    objects = env.domains["py"].data["objects"]
    kinds = ("class", "data", "exception", "function", "module")
    known = (name for name, entry in objects.items() if entry.objtype in kinds)
    name = described_as(node["reftarget"], node.get("py:module") or "", known)
    if name is None:
        return None
    page, anchor = objects[name].docname, objects[name].node_id
    return make_refnode(app.builder, node["refdoc"], page, anchor, words, name)


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension, partly ahead of napoleon.

    Comments come after it: in a field, words before a colon are a type to napoleon.
    """
    app.connect("autodoc-process-docstring", process, priority=100)
    app.connect("autodoc-process-docstring", describe_field, priority=900)
    app.connect("autodoc-process-signature", sign)
    app.connect("autodoc-skip-member", skip)
    app.connect("doctree-read", shorten_values)
    app.connect("missing-reference", link_elsewhere)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
