"""The cell that a class's notebook opens with: when and where to hand in, installing.

It is made from the settings in `course.json`, and leaves out what a setting is empty
for. The same settings say where the book is, so that links to chapters lead there:

    repository  where `pip` takes the package from, which is on no index yet
    site        the address of the book's site, with or without a slash at the end
    hand_in     where to hand in: a link, or words
    due         the date and time, by assignment
    late        what happens to late work
    assistants  what students may ask an assistant
"""

import copy
import re
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from llmcourse.classroom.pages import render

OPENING = "for-this-class"  # the cell's id
TORCH = "https://download.pytorch.org/whl/cpu"  # builds without graphics cards
CHAPTER = re.compile(r"\[([^\]]*)\]\(\.\./(\w+)\.(?:ipynb|md)\)")
ASSISTANTS = (
    "You may ask an assistant to explain an idea or an error message. "
    "You may not paste a task and hand in what comes back. "
    "Add a cell at the end that says what you used an assistant for. "
    "You may be asked to explain any cell that you hand in."
)
NUMBERS = {"seed": 1 << 50, "seconds": 100_000, "memory_gib": 10_000}  # at most
TEXTS = ("repository", "site", "hand_in", "late", "assistants")


def homepage() -> str:
    """Return the address of this package's repository, empty if it is not known."""
    try:
        urls = metadata("llmcourse").get_all("Project-URL", [])
    except PackageNotFoundError:
        return ""
    return dict(str(url).split(", ", 1) for url in urls).get("Homepage", "")


def check_settings(settings: dict[str, Any]) -> None:
    """Check the settings: numbers, texts, and dates as a text for each assignment.

    Raises:
        ValueError: If one is not.
    """
    for name in TEXTS:
        if not isinstance(settings[name], str):
            raise ValueError(
                f"course.json: {name!r} must be a text, got {settings[name]!r}"
            )
    for name, most in NUMBERS.items():
        value = settings[name]
        if type(value) is not int or not 0 < value <= most:
            raise ValueError(
                f"course.json: {name!r} must be a whole number from 1 to {most:,}, "
                f"got {value!r}"
            )
    due = settings["due"]
    if not isinstance(due, dict) or not all(isinstance(d, str) for d in due.values()):
        raise ValueError(
            'course.json: "due" must be a text for each assignment, as in '
            f'{{"tokenization": "Friday 18:00"}}, got {due!r}'
        )


def left_out(settings: dict[str, Any], name: str) -> list[str]:
    """Return the settings about which an assignment's notebook says nothing."""
    empty = [text for text in TEXTS if not settings[text]]
    return empty + ["due"] * (not settings["due"].get(name))


def opening(settings: dict[str, Any], name: str) -> str:
    """Return the text of the cell, as Markdown."""
    own = {"name": name, "due": settings["due"].get(name), "torch": TORCH}
    return render("opening.md", **settings | own)


def linked(text: str, site: str) -> str:
    """Return Markdown whose links to chapters lead to the site, or are only names.

    >>> linked("Read [Attention](../attention.ipynb).", "https://ada.example")
    'Read [Attention](https://ada.example/book/attention.html).'
    >>> linked("Read [Attention](../attention.ipynb).", "")
    'Read *Attention*.'
    """
    shown = rf"[\1]({site.rstrip('/')}/book/\2.html)" if site else r"*\1*"
    return CHAPTER.sub(shown, text)


def without_links(text: str) -> str:
    """Return Markdown in which all links are names, as `linked` without a site.

    So a text can be recognised whether it was released with a site or without.

    >>> without_links("Read [Attention](https://ada.example/attention.html).")
    'Read *Attention*.'
    """
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"*\1*", text).strip()


def with_opening(source: NotebookNode, settings: dict[str, Any]) -> NotebookNode:
    """Return an assignment's source as one class gets it.

    The opening is a cell of text without points: whether a hand-in still has it makes
    no difference to its grade.

    Raises:
        ValueError: As in `check_settings`.
    """
    check_settings(settings)
    made: NotebookNode = copy.deepcopy(source)
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, settings["site"])
    text = opening(settings, made.metadata["llmcourse"]["assignment"])
    made.cells.insert(0, new_markdown_cell(text, id=OPENING))
    return made
