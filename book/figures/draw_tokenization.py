"""Diagrams of the chapter *tokenization*.

Blue is the given text, orange what is looked for in it, green what comes out.
"""

from collections.abc import Sequence

from drawing import Drawing, drawing


def _pieces(
    d: Drawing,
    x: float,
    y: float,
    pieces: Sequence[str],
    tints: str = "",
    *,
    unit: float = 28,
    height: float = 32,
    size: int = 16,
) -> None:
    """Draw pieces of a text as boxes, as wide as their letters.

    Args:
        d: The picture.
        x: Of the left edge.
        y: Of the upper edge.
        pieces: From left to right.
        tints: A letter for each piece: b(lue), o(range), g(reen), or a dot for white.
        unit: The width of a letter.
        height: Of the boxes.
        size: Of letters.
    """
    names = {"b": "blue", "o": "orange", "g": "green", ".": "white"}
    for piece, tint in zip(pieces, tints or "." * len(pieces), strict=True):
        width = unit * len(piece)
        d.box(
            x + 2, y, width - 4, height, piece,
            tint=names[tint], size=size, mono=True, rounded=4,
        )  # fmt: skip
        x += width


@drawing
def three_merges() -> Drawing:
    """The three rounds of byte-pair encoding on `banana` and `bandana`."""
    d = Drawing(330)
    rounds = (
        ("b a n a n a", "b a n d a n a", "......", ".......", "an", (1, 3), (1, 4)),
        ("b an an a", "b an d an a", ".gg.", ".g.g.", "ban", (0,), (0,)),
        ("ban an a", "ban d an a", "g..", "g...", "ana", (1,), (2,)),
        ("ban ana", "ban d ana", ".g", "..g", "", (), ()),
    )
    counts = {"an": "a n: 4 times", "ban": "b an: 2 times", "ana": "an a: 2 times"}
    for i, (one, two, tints, tints2, new, at, at2) in enumerate(rounds):
        y = 14 + 90 * i
        for x, word, colours, starts in (
            (150, one, tints, at),
            (346, two, tints2, at2),
        ):
            pieces = word.split()
            _pieces(d, x, y, pieces, colours)
            for start in starts:
                left = x + 28 * len("".join(pieces[:start]))
                width = 28 * len("".join(pieces[start : start + 2]))
                d.line(
                    (left + 4, y + 41), (left + width - 4, y + 41),
                    colour="orange", width=4,
                )  # fmt: skip
        if i == 0:
            d.text(14, y + 16, "letters", anchor="start", colour="blue", bold=True)
        if new:
            d.text(14, y + 52, counts[new], anchor="start", colour="orange", bold=True)
            d.text(
                14, y + 106, f"new: {new}", anchor="start", colour="green", bold=True
            )
    return d


@drawing
def order_of_merges() -> Drawing:
    """`cabana` under the same three merges in two orders."""
    d = Drawing(222)
    trees = (
        (14, "b an before an a", [("an", 3, 1), ("ban", 2, 2)], "c a ban a"),
        (294, "an a before b an", [("an", 3, 1), ("ana", 3, 2)], "c a b ana"),
    )
    unit = 42
    for left, title, merges, pieces in trees:
        d.text(left + 3 * unit, 20, title, bold=True)
        for new, start, level in merges:
            d.box(
                left + unit * start + 2, 124 - 40 * level, unit * len(new) - 4, 36,
                new, tint="green" if level == 2 else "orange", mono=True, rounded=4,
            )  # fmt: skip
        for i, letter in enumerate("cabana"):
            _pieces(d, left + unit * i, 124, [letter], "b", unit=unit, height=36)
        d.arrow((left + 3 * unit, 164), (left + 3 * unit, 186))
        d.text(left + 3 * unit, 202, "·".join(pieces.split()), bold=True, mono=True)
    d.text(14, 62, "2nd", anchor="start", colour="grey", size=15)
    d.text(14, 102, "1st", anchor="start", colour="grey", size=15)
    return d


@drawing
def text_to_ids() -> Drawing:
    """A sentence, cut by GPT-2 into pre-tokens, bytes and pieces, and numbered."""
    d = Drawing(372)
    pretokens = ["It", "'s", "␣2", "␣cafés", ",", "␣isn", "'t", "␣it", "?"]
    unit, left = 18.4, 120
    d.text(108, 30, "text", anchor="end", bold=True, colour="blue")
    d.box(left, 14, 422, 32, "It's 2 cafés, isn't it?", tint="blue", mono=True)
    d.arrow((331, 48), (331, 78))
    d.text(345, 62, "cut", anchor="start", colour="grey")
    d.text(108, 98, "pre-tokens", anchor="end", bold=True)
    _pieces(d, left, 82, pretokens, "...o.....", unit=unit, size=14)
    x = left + unit * 6
    d.line((x + 2, 116), (left, 152), colour="orange")
    d.line((x + 6 * unit - 2, 116), (left + 7 * 52, 152), colour="orange")
    d.text(left + 7 * 26, 142, "each by itself", colour="grey")
    d.text(108, 172, "characters", anchor="end", bold=True)
    d.text(108, 204, "bytes", anchor="end", bold=True)
    numbers = [str(byte) for byte in " cafés".encode()]
    d.cells(
        left, 156, [list("ĠcafÃ©s"), numbers],
        width=52, height=32, mono=True, tint=lambda row, column: "orange",
    )  # fmt: skip
    d.arrow((left + 182, 224), (left + 182, 254))
    d.text(left + 196, 238, "merge", anchor="start", colour="grey")
    d.text(108, 274, "pieces", anchor="end", bold=True)
    for start, n, piece, number in ((0, 4, "Ġcaf", 19945), (4, 3, "Ã©s", 20954)):
        d.box(left + 52 * start + 2, 258, 52 * n - 4, 32, piece, mono=True, rounded=4)
        middle = left + 52 * (start + n / 2)
        d.arrow((middle, 292), (middle, 322))
        d.box(
            left + 52 * start + 2, 326, 52 * n - 4, 32, str(number),
            tint="green", mono=True, rounded=4,
        )  # fmt: skip
    d.text(left + 196, 306, "number", anchor="start", colour="grey")
    d.text(108, 342, "ids", anchor="end", bold=True, colour="green")
    return d


@drawing
def half_characters() -> Drawing:
    """GPT-2's tokens of `so 👍`: two of them share one character."""
    d = Drawing(250)
    unit, left = 58, 132
    rows = (
        (33, "characters", "blue"),
        (81, "bytes", "ink"),
        (129, "token ids", "orange"),
        (183, "one by one", "ink"),
        (221, "as a stream", "green"),
    )
    for y, name, colour in rows:
        d.text(118, y, name, anchor="end", bold=True, colour=colour)
    for start, n, sign in ((0, 1, "s"), (1, 1, "o"), (2, 1, "␣"), (3, 4, "👍")):
        d.box(
            left + unit * start + 2, 16, unit * n - 4, 34, sign,
            tint="blue", size=18, rounded=4,
        )  # fmt: skip
    d.cells(
        left, 65, [[str(byte) for byte in "so 👍".encode()]],
        width=unit, height=32, mono=True,
        tint=lambda row, column: "blue" if column > 2 else "white",
    )  # fmt: skip
    tokens = (
        (0, 2, 568, "so", "so"),
        (2, 4, 50169, "␣�", "␣"),
        (6, 1, 235, "�", "👍"),
    )
    for start, n, number, alone, stream in tokens:
        x = left + unit * start
        d.box(
            x + 2, 112, unit * n - 4, 34, str(number),
            tint="orange", mono=True, rounded=4,
        )  # fmt: skip
        d.box(x + 2, 167, unit * n - 4, 32, alone, mono=True, rounded=4)
        d.box(x + 2, 205, unit * n - 4, 32, stream, tint="green", mono=True, rounded=4)
    return d


@drawing
def prompt_that_ends_in_a_space() -> Drawing:
    """A text and its beginning, cut by GPT-2: the last tokens differ."""
    d = Drawing(190)
    left, unit = 116, 25
    d.text(102, 34, "whole text", anchor="end", bold=True, colour="blue")
    d.text(102, 118, "prompt", anchor="end", bold=True, colour="orange")
    whole, prompt = ["The", "␣sky", "␣is", "␣blue", "."], ["The", "␣sky", "␣is", "␣"]
    _pieces(d, left, 16, whole, "bbb..", unit=unit, height=36)
    _pieces(d, left, 100, prompt, "bbbo", unit=unit, height=36)
    for start, n in ((0, 3), (3, 4), (7, 3)):
        d.text(left + unit * (start + n / 2), 76, "=", bold=True, size=18)
    d.text(left + unit * 12.5, 76, "≠", bold=True, colour="orange", size=18)
    d.box(
        left + unit * 11 + 2, 100, unit * 4 - 4, 36, "blue",
        line="grey", dashed=True, mono=True, rounded=4,
    )  # fmt: skip
    d.text(left + unit * 13, 160, "seldom seen after a lone ␣", colour="grey")
    return d


@drawing
def thousands_under_thousands() -> Drawing:
    """Two numbers, cut in threes from the left and from the right."""
    d = Drawing(290)
    unit, left = 52, 176
    for start, n, name in ((0, 1, "millions"), (1, 3, "thousands"), (4, 3, "ones")):
        d.text(left + unit * (start + n / 2), 22, name, colour="grey")
        d.line(
            (left + unit * start + 4, 38), (left + unit * (start + n) - 4, 38),
            colour="grey",
        )  # fmt: skip
    ways = (
        (54, "from the left", "orange", "123 4", "o.", "123 456 7", "o.."),
        (182, "from the right", "green", "1 234", "g.", "1 234 567", ".g."),
    )
    for y, name, colour, short, tints, long, tints2 in ways:
        d.text(left - 20, y + 41, name, anchor="end", bold=True, colour=colour)
        _pieces(d, left + 3 * unit, y, short.split(), tints, unit=unit, height=38)
        _pieces(d, left, y + 44, long.split(), tints2, unit=unit, height=38)
    return d


@drawing
def one_word_in_three_ways() -> Drawing:
    """`lighthouses` as BPE, WordPiece and Unigram, trained on the tales, cut it."""
    d = Drawing(566)
    left, unit, word = 16, 44, "lighthouses"

    def box(start: int, y: float, piece: str, n: int, tint: str) -> None:
        names = {"b": "blue", "o": "orange", "g": "green", ".": "white"}
        d.box(
            left + unit * start + 2, y, unit * n - 4, 28, piece,
            tint=names[tint], mono=True, rounded=4,
        )  # fmt: skip

    d.text(left, 20, "BPE: merge, from the bottom up", anchor="start", bold=True)
    for i, letter in enumerate("Ġ" + word):
        box(i, 136, letter, 1, "g" if i in (6, 11) else "b")
    pairs = ((0, "Ġl"), (2, "ig"), (4, "ht"), (7, "ou"), (9, "se"))
    for start, piece in pairs:
        box(start, 104, piece, 2, "o")
    box(2, 72, "ight", 4, "o")
    box(7, 72, "ouse", 4, "g")
    box(0, 40, "Ġlight", 6, "g")

    d.text(
        left, 200, "WordPiece: the longest known piece, from the left",
        anchor="start", bold=True,
    )  # fmt: skip
    for i, letter in enumerate(word, start=1):
        box(i, 220, letter, 1, "b")
    steps = ((1, 5, "light"), (6, 1, "##h"), (7, 3, "##ous"), (10, 2, "##es"))
    for row, (start, n, piece) in enumerate(steps):
        y = 252 + 30 * row
        box(start, y, piece, n, "g")
        if start + n < 12:
            end = left + unit * (start + n)
            d.arrow(
                (left + unit * 12 - 4, y + 14), (end + 4, y + 14),
                colour="grey", dashed=True,
            )  # fmt: skip

    d.text(left, 404, "Unigram: the most probable path", anchor="start", bold=True)
    y = 532
    for i, letter in enumerate("▁" + word):
        x = left + unit * i
        colour, width = ("green", 4.0) if i == 11 else ("grey", 1.5)
        d.line((x, y), (x + unit, y), colour=colour, width=width)
        d.text(x + unit / 2, y + 18, letter, mono=True)
    arcs = (
        (6, 40, "▁light: 0.00032", "grey", 1.5),
        (11, 80, "▁lighthouse: 0.00013", "green", 4.0),
    )
    for n, up, words, colour, width in arcs:
        x = left + unit * n
        path = (left, y), (left + 20, y - up), (x - 20, y - up), (x, y)
        d.line(*path, colour=colour, width=width)
        d.text((left + x) / 2, y - up - 14, words, colour=colour, mono=True, size=15)
    d.text(left + unit * 11.5, y - 18, "0.024", colour="green", mono=True, size=13)
    for i in range(13):
        d.circle(left + unit * i, y, 5)
    return d
