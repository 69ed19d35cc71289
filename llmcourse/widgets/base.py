"""What the explorers share: their style, and a text form without an address."""

from pathlib import Path
from typing import Final

import anywidget

_HERE: Final = Path(__file__).parent


def script(*names: str) -> str:
    """Return one JavaScript module or style, joined from files of this folder."""
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names)


class Explorer(anywidget.AnyWidget):
    """A widget in the course's style whose ``repr`` is the same in every run."""

    _css = script("explorer.css")
    _summary = ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._summary})"
