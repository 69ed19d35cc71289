"""Sphinx extension: the package's reference, without a list of modules to keep.

A line `% modules of llmcourse.text` in a page stands for what the folder's own
docstring says, and for every module in it with its public names, one level below the
heading before it; `% commands` stands for every command of the command line, with what
its `--help` says.
"""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import typer

from llmcourse.cli import COMMANDS, load_command

if TYPE_CHECKING:
    from sphinx.application import Sphinx

LINE = re.compile(r"^% modules of ([\w.]+)$", re.MULTILINE)


def describe(module: str) -> str:
    """Return the Markdown that documents one module.

    >>> print(describe("llmcourse.files"))
    ```{eval-rst}
    .. automodule:: llmcourse.files
       :members:
    ```
    <BLANKLINE>
    """
    return f"```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```\n"


def in_order(modules: list[str], map_of_them: str) -> list[str]:
    r"""Return modules as a folder's docstring lists them, and then those that it omits.

    >>> in_order(["base", "bpe", "tales"], "Text.\n\n  tales  stories\n  bpe  pairs")
    ['tales', 'bpe', 'base']
    """
    places = re.findall(r"^ +(\w+)", map_of_them, re.MULTILINE)
    return sorted(modules, key=[*places, *modules].index)


EXAMPLES = re.compile(r"(?:^`[^`\n]+`$\s*)+", re.MULTILINE)


def describe_command(name: str, command: Any, level: int = 3) -> str:
    """Return the Markdown that documents one command, or a group of them.

    >>> print(describe_command("llmcourse check", load_command("check"))[:30])
    ### `llmcourse check`
    <BLANKLINE>
    Run you
    """

    def block(lines: re.Match[str]) -> str:
        found = re.findall(r"`(.+)`", lines[0])
        return "\n".join(["```bash", *found, "```", ""])

    def cell(text: str) -> str:
        return re.sub(r"([|*])", r"\\\1", text)

    def meant(text: str) -> str:  # a dash is what two hyphens outside code become
        return re.sub(r"--[a-z][a-z-]*", r"`\g<0>`", cell(text))

    parts = [f"{'#' * level} `{name}`", EXAMPLES.sub(block, command.help)]
    context = typer.Context(command)
    listed = [param.get_help_record(context) for param in command.get_params(context)]
    rows = [
        f"| `{cell(usage)}` | {meant(meaning)} |"
        for usage, meaning in filter(None, listed)
        if usage != "--help"
    ]
    if rows:
        parts.append("\n".join(["| Option | Meaning |", "|---|---|", *rows]))
    for part, inner in getattr(command, "commands", {}).items():
        parts.append(describe_command(f"{name} {part}", inner, level + 1))
    return "\n\n".join(parts)


def expand(text: str) -> str:
    """Return a page with each such line replaced."""

    def modules(line: re.Match[str]) -> str:
        folder = line[1]
        spec = find_spec(folder)
        if spec is None or spec.submodule_search_locations is None:
            raise ValueError(f"{folder} is not a package")
        parts = [describe(folder)]
        level = "###" if "\n## " in text[: line.start()] else "##"
        found = [m.name for m in pkgutil.iter_modules(spec.submodule_search_locations)]
        for name in in_order(found, import_module(folder).__doc__ or ""):
            path = f"{folder}.{name}"
            parts.append(f"{level} `{name}`\n\n`{path}`\n\n{describe(path)}")
        return "\n".join(parts)

    def commands(_: re.Match[str]) -> str:
        every = (describe_command(f"llmcourse {c}", load_command(c)) for c in COMMANDS)
        return "\n\n".join(every)

    return re.sub(
        r"^% commands$", commands, LINE.sub(modules, text), flags=re.MULTILINE
    )


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace the lines of a page before it is parsed."""
    source[0] = expand(source[0])


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
