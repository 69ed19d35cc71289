"""What the explorers share: style, state and `repr`, and checks of both."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import anywidget
import traitlets

from llmcourse.text.bpe import to_utf8

_HERE: Final = Path(__file__).parent

IN_PAGE = ("writing", "sentence", "chat", "comparison")  # they run a `page_model`


def script(*names: str) -> str:
    """Return one JavaScript module or style, joined from files of this folder."""
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names)


def checked_texts(texts: Sequence[str]) -> list[str]:
    """Return the texts as a list, after checking that each is a non-empty string."""
    if isinstance(texts, str) or not texts:
        raise ValueError(f"wanted a list of at least one text, got {texts!r}")
    for text in texts:
        if not isinstance(text, str) or not text:
            raise ValueError(f"each text must be a string, not empty, got {text!r}")
        to_utf8(text)
    return list(texts)


def counted(n: int, one: str, many: str = "") -> str:
    """Return a number with its noun.

    >>> counted(1, "class", "classes"), counted(0, "text"), counted(1200, "text")
    ('1 class', '0 texts', '1,200 texts')
    """
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def as_json(value: object) -> str:
    """Return a value as JSON: one line in a notebook, however long a list it holds.

    Raises:
        ValueError: If a number in it is not finite.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise ValueError("numbers must be finite, got an infinite one or NaN") from None


class Explorer(anywidget.AnyWidget):
    """A widget in the course's style whose ``repr`` is the same in every run.

    Args:
        summary: What the ``repr`` says of it.
        state: What the page gets, and may change: `model.get("name")` in JavaScript.

    Raises:
        ValueError: If a number in the state is not finite.
    """

    _css = script("explorer.css")

    def __init__(self, summary: str, **state: Any) -> None:
        as_json(state)
        self._summary = summary
        self.add_traits(**{name: traitlets.Any().tag(sync=True) for name in state})
        super().__init__(**state)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._summary})"
