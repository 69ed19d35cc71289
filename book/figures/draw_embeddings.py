"""Diagrams of the chapter *embeddings*.

Blue is the word in question, green its company or a right answer, orange noise, steps
and errors.
"""

import math

from drawing import Drawing, drawing


@drawing
def equally_far_apart() -> Drawing:
    """One-hot vectors of three words, and what we want instead."""
    d = Drawing(262)
    d.text(140, 22, "one-hot vectors", bold=True)
    fox, hedgehog, soup = (64, 200), (216, 200), (140, 68)
    for one, other in ((fox, hedgehog), (hedgehog, soup), (soup, fox)):
        d.line(one, other, colour="grey")
    distance = f"{math.sqrt(2):.2f}"
    d.text(140, 216, distance, colour="orange", bold=True)
    d.text(74, 128, distance, colour="orange", bold=True)
    d.text(206, 128, distance, colour="orange", bold=True)
    for place, name, dy, dx in (
        (fox, "fox", 26, 0),
        (hedgehog, "hedgehog", 26, 0),
        (soup, "soup", 0, 34),
    ):
        d.circle(*place, 8, tint="blue")
        d.text(place[0] + dx, place[1] + dy, name)
    d.line((280, 40), (280, 240), colour="grey", dashed=True)
    d.text(420, 22, "what we want", bold=True)
    d.line((376, 200), (446, 200), colour="green")
    d.line((376, 200), (412, 68), (446, 200), colour="grey")
    d.text(411, 224, "near", colour="green", bold=True)
    d.text(462, 128, "far", colour="orange", bold=True)
    for x, y, name, dx, anchor in (
        (376, 200, "fox", -16, "end"),
        (446, 200, "hedgehog", 16, "start"),
        (412, 68, "soup", 16, "start"),
    ):
        d.circle(x, y, 8, tint="blue")
        d.text(x + dx, y, name, anchor=anchor)
    return d


@drawing
def rows_copied_and_gradients_added() -> Drawing:
    """The text `cow cow hen` looks up rows; the gradients of copies are added."""
    d = Drawing(338)
    table = (("0 hen", "2", "1"), ("1 cow", "1", "2"), ("2 tin", "−1", "0"))
    gradient = (("0 hen", "1", "1"), ("1 cow", "2", "2"), ("2 tin", "0", "0"))
    text = (("cow", 1), ("cow", 1), ("hen", 0))
    for top, rows, colour, left_title, right_title in (
        (42, table, "blue", "table", "vectors of the text"),
        (216, gradient, "orange", "gradient", "their gradients"),
    ):
        forward = top < 100
        d.text(142, top - 22, left_title, bold=True, colour=colour)
        d.text(404, top - 22, right_title, bold=True, colour=colour)
        for i, (name, *values) in enumerate(rows):
            y = top + 38 * i
            d.text(84, y + 16, name, anchor="end")
            d.cells(
                94, y, [values], width=48, height=32,
                tint=lambda row, column, i=i, colour=colour: (
                    colour if i < 2 else "white"
                ),
            )  # fmt: skip
        for i, (word, number) in enumerate(text):
            y = top + 38 * i
            ends = ((196, top + 38 * number + 16), (348, y + 16))
            d.arrow(*(ends if forward else ends[::-1]), colour=colour)
            values = list(table[number][1:]) if forward else ["1", "1"]
            d.cells(
                354, y, [values], width=48, height=32,
                tint=lambda row, column, colour=colour: colour,
            )  # fmt: skip
            d.text(464, y + 16, word, anchor="start")
        d.text(272, top - 22, "copied" if forward else "added", colour="grey")
    return d


@drawing
def one_pair_and_its_noise() -> Drawing:
    """A word, its window, and the two kinds of words that it is scored against."""
    d = Drawing(364)
    words = ("a", "proud", "boy", "lived", "on", "the", "market")
    widths = (44, 76, 62, 72, 48, 58, 88)
    x = 40.0
    places = {}
    for word, width in zip(words, widths, strict=True):
        tint = {"boy": "blue", "proud": "green"}.get(word, "white")
        d.box(x, 42, width, 36, word, tint=tint, bold=tint != "white")
        places[word] = x + width / 2
        x += width + 6
    d.bracket(40, 34, 326, below=False)
    d.text(203, 14, "window, m = 2", colour="grey")
    d.box(40, 194, 132, 44, "boy: v", tint="blue", bold=True)
    d.line((places["boy"], 78), (places["boy"], 100), (106, 100), (106, 194),
           colour="blue", arrow=True)  # fmt: skip
    others = ("proud", "wears", "duck", "the", "talkative", "george")
    d.text(454, 106, "u · v", anchor="start", colour="grey")
    for i, word in enumerate(others):
        y = 120 + 40 * i
        company = i == 0
        d.line((172, 216), (330, y + 17), colour="green" if company else "orange")
        d.box(330, y, 110, 34, f"{word}: u", tint="green" if company else "orange")
        d.text(452, y + 17, "high" if company else "low", anchor="start",
               colour="green" if company else "orange", bold=True)  # fmt: skip
    d.text(106, 274, "one word from the\nwindow, and K = 5\ndrawn at random", size=16)
    return d


def _plane(
    d: Drawing,
    x: float,
    y: float,
    low: tuple[float, float],
    high: tuple[float, float],
    unit: float,
) -> None:
    """Draw two axes with a mark at each unit; (x, y) is the origin."""
    d.line((x + low[0] * unit, y), (x + high[0] * unit, y), colour="grey", width=1)
    d.line((x, y - low[1] * unit), (x, y - high[1] * unit), colour="grey", width=1)
    for i in range(math.ceil(low[0]), math.floor(high[0]) + 1):
        d.line((x + i * unit, y - 3), (x + i * unit, y + 3), colour="grey")
    for i in range(math.ceil(low[1]), math.floor(high[1]) + 1):
        d.line((x - 3, y - i * unit), (x + 3, y - i * unit), colour="grey")


@drawing
def how_alike_are_hen_and_cow() -> Drawing:
    """Three measures of two vectors in the plane."""
    d = Drawing(276)
    x, y, unit = 50, 232, 92
    _plane(d, x, y, (-0.3, -0.3), (2.4, 2.4), unit)
    hen, cow = (2, 1), (1, 2)
    at = [(x + a * unit, y - b * unit) for a, b in (hen, cow)]
    d.line(*at, colour="orange", dashed=True, width=2.5)
    arc = [
        (x + 62 * math.cos(t), y - 62 * math.sin(t))
        for t in (
            math.atan2(1, 2) + i / 12 * (math.atan2(2, 1) - math.atan2(1, 2))
            for i in range(13)
        )
    ]
    d.line(*arc, colour="green", width=2.5)
    for place in at:
        d.arrow((x, y), place, colour="blue", width=2.5)
    d.text(at[0][0] + 14, at[0][1] + 22, "hen (2, 1)")
    d.text(at[1][0] + 4, at[1][1] - 16, "cow (1, 2)")
    dot = hen[0] * cow[0] + hen[1] * cow[1]
    rows = (
        ("dot product", f"{dot}", "blue", "lengths and angle"),
        ("cosine", "4/5", "green", "the angle alone"),
        ("distance", "√2", "orange", "from tip to tip"),
    )
    for i, (name, value, colour, of) in enumerate(rows):
        row = 50 + 78 * i
        d.text(330, row, name, anchor="start", colour=colour, bold=True)
        d.text(530, row, value, anchor="end", colour=colour, bold=True, size=18)
        d.text(330, row + 24, of, anchor="start", colour="grey")
    return d


@drawing
def one_step_of_learning() -> Drawing:
    """The three vectors of *By hand* before the step, and after it."""
    d = Drawing(268)
    before = {"v": (1, 0), "u₊": (0, 1), "u₋": (0, -2)}
    after = {"v": (1, 1.5), "u₊": (0.5, 1), "u₋": (-0.5, -2)}
    colours = {"v": "blue", "u₊": "green", "u₋": "orange"}
    unit = 56
    for x, name, vectors in ((110, "before", before), (390, "after", after)):
        d.text(x, 18, name, bold=True)
        y = 138
        _plane(d, x, y, (-1.3, -2.2), (1.5, 1.75), unit)
        for sign, (a, b) in vectors.items():
            end = (x + a * unit, y - b * unit)
            d.arrow((x, y), end, colour=colours[sign], width=3)
            left = a < 0 or b < 0 or (name == "after" and sign == "u₊")
            d.text(
                end[0] + (-16 if b < 0 else -42 if left else 16),
                end[1] - (8 if b >= 0 else -2), sign,
                colour=colours[sign], bold=True, size=18,
            )  # fmt: skip
        for i, sign in enumerate(("u₊", "u₋")):
            dot = sum(p * q for p, q in zip(vectors["v"], vectors[sign], strict=True))
            value = f"{dot:g}".replace("-", "−")
            d.text(
                x + 38, 222 + 28 * i, f"v · {sign} = {value}", anchor="start",
                colour=colours[sign], bold=True,
            )  # fmt: skip
    d.arrow((218, 138), (284, 138), width=3)
    return d


@drawing
def where_the_sum_lands() -> Drawing:
    """Two analogies, in the plane of their first three words, to scale."""
    d = Drawing(352)
    # Places are those of the chapter's vectors, each brought to length 1.
    panels = (
        (66, "baker", ("kneading", 0.59, 0), ("tailor", -0.05, 0.67)),
        (332, "girl", ("boy", 0.26, 0), ("mother", 0.2, 1.27)),
    )
    unit, y = 165, 304
    for x, first, (second, p, q), (third, r, s) in panels:
        d.text(x - 48, 22, f"{first} : {second} =", anchor="start", bold=True)
        d.text(x - 48, 44, f"{third} : ?", anchor="start", bold=True)
        a = (x, y)
        b = (x + p * unit, y - q * unit)
        c = (x + r * unit, y - s * unit)
        total = (b[0] + c[0] - a[0], b[1] + c[1] - a[1])
        d.line(a, c, colour="grey", dashed=True)
        d.line(b, total, colour="grey", dashed=True)
        for start, end in ((a, b), (c, total)):
            d.arrow((start[0] + 6, start[1]), (end[0] - 8, end[1]), colour="orange",
                    width=2.5)  # fmt: skip
        for place in (a, b, c):
            d.circle(*place, 6, tint="blue")
        for sign in (-1, 1):
            start = (total[0] - 6, total[1] - 6 * sign)
            end = (total[0] + 6, total[1] + 6 * sign)
            d.line(start, end, width=3, colour="orange")
        d.text(a[0] - (6 if first == "girl" else 0), y + 24, first)
        d.text(b[0] + 4, y + 24, second)
    d.text(58, 170, "tailor")
    d.circle(66 + 0.45 * unit, y - 0.55 * unit, 6, tint="green")
    d.text(130, 216, "sewing", anchor="end", colour="green", bold=True)
    d.text(353, 94, "mother", anchor="end")
    d.text(426, 100, "nearest to ×", anchor="start", colour="orange", bold=True)
    d.text(426, 130, "1  mother", anchor="start")
    d.text(447, 150, "not allowed", anchor="start", colour="grey")
    d.text(426, 178, "2  grandmother", anchor="start")
    d.text(426, 206, "3  father", anchor="start", colour="green", bold=True)
    return d
