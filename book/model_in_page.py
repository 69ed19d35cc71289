"""Sphinx extension: a model of the course writes in the pages that have a place for it.

    :::{div} llmcourse-writing
    On the course's site, `base-llm` writes on here from *Once there was*.
    :::

Where a page has such a block, the writing explorer takes its place. What stands in it
is read where there is no site, as in JupyterLab; its emphasised words begin the text.

The weights are made of the package's model folder with every build: as a file to fetch,
and as a script for pages that are opened from a folder, where nothing can be fetched.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MODEL = "base-llm"
MARK = "llmcourse-writing"


def write_files(app: Sphinx) -> None:
    """Write weights, script and style to where the site's static files are."""
    from llmcourse.model.folders import find_model
    from llmcourse.widgets.base import script
    from llmcourse.widgets.page_model import page_model, page_script

    if app.builder.format != "html":
        return
    source = find_model(MODEL)
    weights = page_model(source)
    version = hashlib.sha256(weights).hexdigest()[:12]  # a new model, a new address
    about = {
        "file": f"{MODEL}.safetensors?{version}",
        "script": f"{MODEL}.js?{version}",
        "bytes": len(weights),
        "vocabulary": json.loads((source / "config.json").read_text())["vocab_size"],
    }
    folder = Path(app.outdir) / "_static" / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{MODEL}.safetensors").write_bytes(weights)
    text = b64encode(weights).decode()
    (folder / f"{MODEL}.js").write_text(f'window.llmcourseWeights = "{text}";\n')
    (folder / "writing.js").write_text(page_script(MODEL=about), encoding="utf-8")
    style = script("explorer.css", "writing.css")
    (folder / "writing.css").write_text(style, encoding="utf-8")


def add_files(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Load the explorer on the pages that have a place for it."""
    if MARK in context.get("body", ""):
        app.add_js_file("model/writing.js", loading_method="defer")
        app.add_css_file("model/writing.css")


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension."""
    app.connect("builder-inited", write_files)
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
