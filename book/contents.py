"""Sphinx extension: cards of the chapters, a gallery of explorers, the citation.

A line `% cards of chapters` in a page becomes a card for each chapter, in the order of
the table of contents; `% gallery of explorers` becomes every explorer, drawn by the
state that its chapter's notebook holds, and `% list of explorers` a line for each.
Titles, times and explorers stand in the chapters alone. `% citation` becomes
CITATION.cff as BibTeX.

Pages with explorers get the script that draws them, widgets.js.
"""

from __future__ import annotations

import json
import pkgutil
import re
from functools import cache, cached_property
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
GALLERY = "% gallery of explorers"
LIST = "% list of explorers"
CARDS = "% cards of chapters"
CITATION = "% citation"
# The diagram that says best what a chapter is about.
PICTURES = {
    "pipeline": "from-stories-to-a-loss",
    "whole_algorithm": "tape-forwards-and-back",
    "corpus": "shared-shingles",
    "tokenization": "text-to-ids",
    "embeddings": "equally-far-apart",
    "attention": "attention-by-hand",
    "transformer": "transformer-block",
    "pretraining": "training-loop",
    "scaling_laws": "compute-optimal-frontier",
    "scaling": "two-processes-one-step",
    "fine_tuning": "correction-of-rank-one",
    "instruction_tuning": "who-writes-what",
    "rlhf": "one-round-of-grpo",
    "reward_hacking": "best-of-five-by-hand",
    "reasoning": "layers-or-tokens",
    "context_window": "needle-at-three-depths",
    "retrieval": "way-of-a-question",
    "deployment": "three-ways-to-share-steps",
    "real_models": "where-the-parameters-are",
}
# Explorers that show something else than the first line of their class says.
PURPOSES = {
    "Is it *un · believ · able*?": "Show GPT-2's merges of one word, at the beginning "
    "of a text and after a space.",
    "Explore: what base-llm knows of the next word": "Show what temperature, top-k and "
    "top-p do to what base-llm expects next, over its whole vocabulary.",
    "Explore: what was written on the way": "Show what a policy wrote in each round of "
    "its training, with its learned and gold reward.",
}
ROLE = re.compile(r"\{\w+\}`([^`<]*?)(?: <[^`]*>)?`")
# As in "**Takes** about 40 minutes to read with the code."
READING = re.compile(r"\*\*Takes\*\* about (.*?) to read with the code")
RUNNING = re.compile(r"\*\*Runs in\*\* about (.*?) on ")


class Chapter:
    """What a chapter's notebook says about itself."""

    def __init__(self, name: str, notebook: dict[str, Any]) -> None:
        self.name = name
        self.notebook = notebook

    @cached_property
    def opening(self) -> list[str]:
        """The paragraphs of the first cell."""
        return "".join(self.notebook["cells"][0]["source"]).split("\n\n")

    @property
    def title(self) -> str:
        """The heading."""
        return self.opening[0].split("# ")[1]

    @property
    def sentence(self) -> str:
        """What stands below the heading, its first sentence."""
        return ROLE.sub(r"\1", self.opening[1].splitlines()[0]).replace("**", "")

    @property
    def times(self) -> str:
        """How long it takes to read and to run."""
        text = "\n".join(self.opening)
        reading, running = READING.search(text), RUNNING.search(text)
        said = [f"Read in {reading[1]}"] if reading else []
        said += [f"runs in {running[1]}"] if running else []
        line = ", ".join(said)
        return line[:1].upper() + line[1:]

    def explorers(self) -> list[tuple[str, str, str]]:
        """Return section, purpose and model id of each explorer."""
        purposes = explorer_purposes()
        found = []
        section = ""
        for cell in self.notebook["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                for heading in re.findall(r"^##+ (.*)$", source, re.MULTILINE):
                    section = heading
            for output in cell.get("outputs", ()):
                if VIEW in output.get("data", {}):
                    kind = re.findall(r"^(\w+Explorer)\(", source, re.MULTILINE)[-1]
                    purpose = PURPOSES.get(section, purposes[kind])
                    found.append((section, purpose, output["data"][VIEW]["model_id"]))
        return found

    def state(self, model_id: str) -> dict[str, Any]:
        """Return an explorer's model as the notebook holds it."""
        states = self.notebook["metadata"]["widgets"][STATE]["state"]
        return dict(states[model_id])


def chapters(files: list[str]) -> list[Chapter]:
    """Return those of a table of contents' files that are chapters."""
    found = []
    for file in files:
        path = HERE.parent / f"{file}.ipynb"
        if path.parent == HERE and path.is_file():
            notebook = json.loads(path.read_text(encoding="utf8"))
            found.append(Chapter(path.stem, notebook))
    return found


def cards(book: list[Chapter]) -> str:
    """Return the cards as MyST."""
    parts = [":::::{grid} 1 2 2 3", ":gutter: 3", ":class-container: chapters", ""]
    for number, chapter in enumerate(book, start=1):
        parts += [
            f"::::{{grid-item-card}} {number}. {chapter.title}",
            f":link: {chapter.name}",
            ":link-type: doc",
            f":img-top: figures/{PICTURES[chapter.name]}.svg",
            "",
            chapter.sentence,
            ":::{div} times",
            chapter.times,
            ":::",
            "::::",
        ]
    return "\n".join([*parts, ":::::"])


@cache
def explorer_purposes() -> dict[str, str]:
    """Return the first line of each explorer's docstring."""
    from llmcourse import widgets

    purposes = {}
    for info in pkgutil.iter_modules(widgets.__path__, "llmcourse.widgets."):
        for name, value in vars(import_module(info.name)).items():
            if name.endswith("Explorer"):
                purposes[name] = value.__doc__.splitlines()[0]
    return purposes


def gallery(book: list[Chapter]) -> tuple[str, str]:
    """Return a list of all explorers, and the explorers with one state, as MyST."""
    from docutils.nodes import make_id

    overview = []
    parts = []
    states = {}
    for chapter in book:
        for section, purpose, model_id in chapter.explorers():
            key = f"{chapter.name}-{model_id}"
            states[key] = chapter.state(model_id)
            view = json.dumps({"model_id": key})
            place = f"{chapter.name}.html#{make_id(section.replace('*', ''))}"
            title = ROLE.sub(r"\1", section).replace("*", "").removeprefix("Explore: ")
            if title == "By hand":
                title = f"{chapter.title}, by hand"
            title = title[0].upper() + title[1:]
            purpose = purpose.replace("Show ", "Shows ", 1)
            here = f'<a href="#{make_id(title)}">{escape(title)}</a>'
            overview.append(f"- {here}: s{escape(purpose[1:])}")
            there = f'<a href="{place}">{escape(chapter.title)}</a>'
            parts += [
                f"## {title}",
                "```{raw} html",
                f"<p>{escape(purpose)} Read about it in {there}.</p>",
                f'<div class="cell_output"><script type="{VIEW}">{view}</script></div>',
                "```",
                "",
            ]
    text = json.dumps({"state": states}).replace("</", "<\\/")
    script = f'<script type="{STATE}">{text}</script>'
    return "\n".join(overview), "\n".join([*parts, "```{raw} html", script, "```"])


def citation(about: dict[str, Any], year: str, address: str) -> str:
    """Return the fields of a CITATION.cff as BibTeX, in a block to copy.

    >>> about = {"title": "T", "version": "1", "authors": [{"name": "the authors"}]}
    >>> print(citation(about, "2026", "https://example.org"))
    ```bibtex
    @software{t2026,
      title = {T},
      author = {{the authors}},
      version = {1},
      year = {2026},
      url = {https://example.org}
    }
    ```
    """
    authors = " and ".join(f"{{{author['name']}}}" for author in about["authors"])
    fields = {
        "title": about["title"],
        "author": authors,
        "version": about["version"],
        "year": year,
        "url": address,
    }
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    key = f"{about['title'].split()[0].lower()}{year}"
    return f"```bibtex\n@software{{{key},\n{lines}\n}}\n```"


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace the lines of a page before it is parsed."""
    text = source[0]
    if CITATION in text:
        about = yaml.safe_load((HERE.parent / "CITATION.cff").read_text("utf8"))
        address = app.config.html_baseurl
        text = text.replace(CITATION, citation(about, app.config.copyright, address))
    source[0] = text
    if CARDS not in text and GALLERY not in text:
        return
    book = chapters(list(app.config.external_site_map))
    for chapter in book:
        app.env.note_dependency(str(HERE / f"{chapter.name}.ipynb"))
    if CARDS in text:
        text = text.replace(CARDS, cards(book))
    if GALLERY in text:
        overview, explorers = gallery(book)
        text = text.replace(LIST, overview).replace(GALLERY, explorers)
    source[0] = text


def add_runtime(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Add the script that draws explorers to the pages that have some."""
    if f'type="{VIEW}"' in context.get("body", ""):
        app.add_js_file("widgets.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension."""
    app.connect("source-read", read)
    app.connect("html-page-context", add_runtime)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
