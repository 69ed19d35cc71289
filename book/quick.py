"""Sphinx extension: build the book on all processors, without work that no page shows.

Jupyter Book has Sphinx read and write one page after the other, and number figures,
which no page refers to by number. pybtex searches every installed package for the
writer of citations each time that a citation is resolved.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment


def leave_out_figure_numbers(app: Sphinx, config: Config) -> None:
    """Undo what Jupyter Book's support for LaTeX sets in spite of `_config.yml`."""
    config.numfig = False


def read_in_parallel(app: Sphinx, env: BuildEnvironment, pages: list[str]) -> None:
    """Declare for two of Jupyter Book's extensions that they do not mind.

    One numbers sections when all pages are read, the other acts for LaTeX alone.
    """
    for name in ("sphinx_multitoc_numbering", "sphinx_jupyterbook_latex"):
        app.extensions[name].parallel_read_safe = True


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension; on the configuration it acts last."""
    from pybtex.plugin import find_plugin, register_plugin

    app.parallel = os.cpu_count() or 1
    app.connect("config-inited", leave_out_figure_numbers, priority=900)
    app.connect("env-before-read-docs", read_in_parallel)
    group, name = "pybtex.backends", "plaintext"
    register_plugin(group, name, find_plugin(group, name), force=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
