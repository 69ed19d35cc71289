"""The book's diagrams: each a function that draws with a few shapes, written as SVG.

    python book/figures/drawing.py          draw all again

The modules `draw_*.py` beside this one hold the diagrams. All have the same width,
letters, and colours, on a ground of their own, so they can be read in any notebook;
the site turns them dark with the page (`book/static/book.css`).
"""

import importlib
import math
import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent
WIDTH = 560  # a phone shows it at 358: letters of 16 then have 10 pixels
COLOURS = {
    "ink": "#1b1b1b",
    "grey": "#6b6b6b",
    "blue": "#0072b2",
    "orange": "#b85c00",
    "green": "#007a5a",
    "pink": "#a8447e",
}
TINTS = {
    "none": "none",
    "white": "#ffffff",
    "grey": "#eeeeee",
    "blue": "#d6eaf6",
    "orange": "#fbe5cc",
    "green": "#d5efe6",
    "pink": "#f6dfec",
}
DRAWINGS: dict[str, Callable[[], "Drawing"]] = {}


def drawing(function: Callable[[], "Drawing"]) -> Callable[[], "Drawing"]:
    """Register a diagram: `block_of_gpt` is drawn into `block-of-gpt.svg`."""
    DRAWINGS[function.__name__.replace("_", "-")] = function
    return function


class Drawing:
    """A picture of boxes, arrows, cells and words; units are pixels, y goes down.

    Args:
        height: Of the picture; its width is always the same.
    """

    def __init__(self, height: int) -> None:
        self.height = height
        self.parts: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: int = 16,
        colour: str = "ink",
        anchor: str = "middle",
        bold: bool = False,
        mono: bool = False,
        italic: bool = False,
    ) -> None:
        r"""Write words, centred in height at y; a `\n` begins a new line.

        Args:
            x: Of the anchor: `start`, `middle` or `end` of the words.
            y: Of their middle.
            words: A few.
            size: Of letters, 13 or more.
            colour: One of `COLOURS`.
            anchor: Which part of the words is at x.
            bold: Heavy.
            mono: As code.
            italic: Slanted.

        Raises:
            ValueError: If they run out of the picture.
        """
        lines = words.split("\n")
        length = max(map(len, lines)) * size * (0.61 if mono else 0.5)
        left = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * length
        if left < 0 or left + length > WIDTH or not 0 <= y <= self.height:
            raise ValueError(f"{words!r} at {x}, {y} runs out of the picture")
        style = f'fill="{COLOURS[colour]}" font-size="{size}" text-anchor="{anchor}"'
        style += ' font-weight="600"' * bold + ' font-style="italic"' * italic
        style += ' font-family="ui-monospace, Menlo, Consolas, monospace"' * mono
        top = y - (len(lines) - 1) * size * 0.6 + size * 0.35
        for number, line in enumerate(lines):
            at = f'x="{_n(x)}" y="{_n(top + number * size * 1.2)}"'
            self.parts.append(f"<text {at} {style}>{escape(line)}</text>")

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        words: str = "",
        *,
        tint: str = "white",
        line: str = "ink",
        size: int = 16,
        dashed: bool = False,
        bold: bool = False,
        mono: bool = False,
        rounded: float = 6,
    ) -> None:
        """Draw a box, by its upper left corner, with words in its middle.

        Raises:
            ValueError: If the words do not fit.
        """
        style = f'fill="{TINTS[tint]}" stroke="{COLOURS[line]}" stroke-width="1.5"'
        style += ' stroke-dasharray="5 4"' * dashed
        self.parts.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" '
            f'rx="{_n(rounded)}" {style}/>'
        )
        if words:
            letters = max(map(len, words.split("\n")))
            if letters * size * (0.6 if mono else 0.48) > width:
                raise ValueError(f"{words!r} does not fit into a box of {width}")
            middle = (x + width / 2, y + height / 2)
            self.text(*middle, words, size=size, bold=bold, mono=mono)

    def circle(
        self, x: float, y: float, radius: float, words: str = "", *, tint: str = "white"
    ) -> None:
        """Draw a circle around a sign, such as + or ×."""
        self.parts.append(
            f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" '
            f'fill="{TINTS[tint]}" stroke="{COLOURS["ink"]}" stroke-width="1.5"/>'
        )
        if words:
            self.text(x, y, words, size=16)

    def line(
        self,
        *points: tuple[float, float],
        arrow: bool = False,
        colour: str = "ink",
        dashed: bool = False,
        width: float = 1.5,
    ) -> None:
        """Draw a line through points, with an arrow's head at its end if asked for."""
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        style = f'fill="none" stroke="{COLOURS[colour]}" stroke-width="{_n(width)}"'
        style += ' stroke-dasharray="5 4"' * dashed
        self.parts.append(f'<polyline points="{path}" {style}/>')
        if arrow:
            self._head(points[-2], points[-1], colour, max(9.0, 3 * width))

    def arrow(
        self,
        *points: tuple[float, float],
        colour: str = "ink",
        dashed: bool = False,
        width: float = 1.5,
    ) -> None:
        """Draw a line with an arrow's head at its end."""
        self.line(*points, arrow=True, colour=colour, dashed=dashed, width=width)

    def _head(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        colour: str,
        size: float,
    ) -> None:
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        corners = [
            (
                end[0] - size * math.cos(angle + turn),
                end[1] - size * math.sin(angle + turn),
            )
            for turn in (0.4, -0.4)
        ]
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in (end, *corners))
        self.parts.append(f'<polygon points="{path}" fill="{COLOURS[colour]}"/>')

    def cells(
        self,
        x: float,
        y: float,
        rows: Sequence[Sequence[str]],
        *,
        width: float = 34,
        height: float = 28,
        tint: Callable[[int, int], str] = lambda row, column: "white",
        size: int = 15,
        mono: bool = False,
    ) -> None:
        """Draw a table of cells, such as a matrix or a row of tokens.

        Args:
            x: Of its left edge.
            y: Of its upper edge.
            rows: What the cells say.
            width: Of a cell.
            height: Of a cell.
            tint: Of each cell, by row and column.
            size: Of letters.
            mono: As code.
        """
        for i, row in enumerate(rows):
            for j, words in enumerate(row):
                left, top = x + j * width, y + i * height
                self.box(
                    left, top, width, height, words,
                    tint=tint(i, j), line="grey", size=size, mono=mono, rounded=0,
                )  # fmt: skip

    def bracket(
        self, x: float, y: float, width: float, words: str = "", *, below: bool = True
    ) -> None:
        """Draw a bracket under (or over) a stretch, with words at its middle."""
        depth = 8 if below else -8
        self.line((x, y), (x, y + depth), (x + width, y + depth), (x + width, y))
        if words:
            self.text(x + width / 2, y + 2.6 * depth, words, size=15)

    def svg(self) -> str:
        """Return the picture as a file's text."""
        size = f'width="{WIDTH}" height="{self.height}"'
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
            f'viewBox="0 0 {WIDTH} {self.height}" '
            "font-family=\"'Source Sans 3', 'Segoe UI', Roboto, Arial, sans-serif\">"
        )
        ground = f'<rect {size} rx="8" fill="#ffffff"/>'
        return "\n".join([head, ground, *self.parts, "</svg>"]) + "\n"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def all_drawings() -> dict[str, str]:
    """Return the text of each diagram's file, by its name."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    for path in sorted(FOLDER.glob("draw_*.py")):
        importlib.import_module(path.stem)
    known = sys.modules["drawing"].DRAWINGS if "drawing" in sys.modules else DRAWINGS
    return {name: function().svg() for name, function in sorted(known.items())}


def main() -> None:
    """Write all diagrams."""
    for name, text in all_drawings().items():
        (FOLDER / f"{name}.svg").write_text(text, encoding="utf-8")
        print(f"{name}.svg")


if __name__ == "__main__":
    main()
