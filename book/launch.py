"""Sphinx extension: how each chapter opens, and notebooks that run elsewhere at once.

What a chapter begins with (what its reader will be able to do, what is needed, how
long it takes) becomes a card, with links that run the notebook, download it, or show
the chapter as slides (static/slides.js).

Colab opens notebooks from GitHub alone, and lacks this package. So with the site come
notebooks that install it and its models in their first cell, `_build/colab/`; the
workflow `pages` puts them on the branch `colab`, to which the links lead.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
BRANCH = "colab"
AIMS = "You will be able to"
FACTS = ("You need", "Takes", "Runs in")
INSTALL = (
    '%pip install -q "llmcourse[chapters] @ git+{repository}"'
    ' "llmcourse-models @ git+{repository}#subdirectory=llmcourse/models"'
)
LINKS = """
<p><strong>Run it</strong> in
<a class="external" href="{binder}">Binder</a>,
<a class="external" href="{colab}">Colab</a> or
<a class="external" href="{codespaces}">Codespaces</a>, or
<a href="../_sources/{page}.ipynb" download>download the notebook</a>.</p>
<p id="slides-1"><strong>Teach it</strong> with <a href="#slides-1">slides</a>.</p>
"""


def addresses(repository: str, branch: str, page: str) -> dict[str, str]:
    """Return where a notebook of a repository on GitHub can be run.

    >>> addresses("https://github.com/ada/engine", "main", "book/a")["colab"]
    'https://colab.research.google.com/github/ada/engine/blob/colab/book/a.ipynb'
    """
    name = repository.removeprefix("https://github.com/").strip("/")
    colab = f"https://colab.research.google.com/github/{name}/blob/{BRANCH}"
    return {
        "binder": f"https://mybinder.org/v2/gh/{name}/{branch}"
        f"?urlpath=lab/tree/{page}.ipynb",
        "colab": f"{colab}/{page}.ipynb",
        "codespaces": f"https://codespaces.new/{name}",
    }


def box(name: str, *children: nodes.Node) -> nodes.container:
    """Return a plain `<div>`, as sphinx-design makes them."""
    return nodes.container(
        "", *children, is_div=True, design_component="div", classes=[name]
    )


def make_card(app: Sphinx, doctree: nodes.document) -> None:
    """Put the paragraphs that a chapter opens with into a card."""
    page = app.env.docname
    options = app.config.html_theme_options
    repository = options.get("repository_url", "")
    if not (HERE.parent / f"{page}.ipynb").is_file() or page.count("/") > 1:
        return
    chapter = next(doctree.findall(nodes.section))
    aims, facts = box("aims"), box("facts")
    card = box("opening", aims, facts)
    for child in list(chapter.children):
        begin = child.astext() if isinstance(child, nodes.paragraph) else ""
        if begin == AIMS or (isinstance(child, nodes.bullet_list) and aims.children):
            chosen = aims
        elif begin.startswith(FACTS):
            chosen = facts
        elif isinstance(child, nodes.section):
            break
        else:
            continue
        if card.parent is None:
            chapter.insert(chapter.index(child), card)
        chapter.remove(child)
        chosen.append(child)
    if not aims.children:
        card.remove(aims)
    if repository.startswith("https://github.com/"):
        there = addresses(repository, options["repository_branch"], page)
        facts += nodes.raw("", LINKS.format(page=page, **there), format="html")


def mend_buttons(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Let the theme's button for Colab lead to the notebook that runs there."""
    branch = app.config.html_theme_options.get("repository_branch", "")
    for group in context.get("header_buttons", ()):
        for button in group.get("buttons", ()):
            if button.get("text") == "Colab":
                button["url"] = button["url"].replace(
                    f"/blob/{branch}/", f"/blob/{BRANCH}/", 1
                )


def for_colab(notebook: dict[str, Any], repository: str, site: str) -> dict[str, Any]:
    """Return a notebook that installs the course, and shows what Colab can show."""
    from handouts import unfolded

    cells = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = unfolded("".join(cell["source"]))
            text = text.replace("](figures/", f"]({site}_images/")
            cell = {**cell, "source": text}
        elif cell["metadata"].get("jupyter"):  # folded elsewhere; Colab's word for it
            cell = {**cell, "metadata": {**cell["metadata"], "cellView": "form"}}
        cells.append(cell)
    install = {
        "cell_type": "code",
        "execution_count": None,
        "id": "install",
        "metadata": {},
        "outputs": [],
        "source": INSTALL.format(repository=repository),
    }
    return {**notebook, "cells": [cells[0], install, *cells[1:]]}


def write_for_colab(app: Sphinx, error: Exception | None) -> None:
    """Write all notebooks for Colab beside the built site."""
    if error or app.builder.name != "html":
        return
    repository = app.config.html_theme_options.get("repository_url", "")
    target = Path(app.outdir).parent / "colab" / HERE.name
    (target / "assignments").mkdir(parents=True, exist_ok=True)
    for path in [*HERE.glob("*.ipynb"), *HERE.glob("assignments/*.ipynb")]:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        made = for_colab(notebook, repository, app.config.html_baseurl)
        text = json.dumps(made, ensure_ascii=False, indent=1)
        (target / path.relative_to(HERE)).write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension; the theme adds its buttons before."""
    app.connect("doctree-read", make_card)
    app.connect("html-page-context", mend_buttons, priority=900)
    app.connect("build-finished", write_for_colab)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
