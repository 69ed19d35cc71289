"""Sphinx extension: look up the writer of citations once, not once for each.

pybtex searches every installed package for it each time a citation is resolved, which
takes a tenth of the time that the book takes to build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybtex.plugin import find_plugin, register_plugin

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, object]:
    """Register what pybtex would search for."""
    group, name = "pybtex.backends", "plaintext"
    register_plugin(group, name, find_plugin(group, name), force=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
