"""Sphinx extension: the package's reference, without a list of modules to keep.

A line `% modules of llmcourse.text` in a page stands for what the folder's own
docstring says, and for every module in it with its public names.
"""

from __future__ import annotations

import pkgutil
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

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


def expand(text: str) -> str:
    """Return a page with each such line replaced."""

    def modules(line: re.Match[str]) -> str:
        folder = line[1]
        spec = find_spec(folder)
        if spec is None or spec.submodule_search_locations is None:
            raise ValueError(f"{folder} is not a package")
        parts = [describe(folder)]
        for module in pkgutil.iter_modules(spec.submodule_search_locations):
            name = f"{folder}.{module.name}"
            parts.append(f"## `{name}`\n\n{describe(name)}")
        return "\n".join(parts)

    return LINE.sub(modules, text)


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace the lines of a page before it is parsed."""
    source[0] = expand(source[0])


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
