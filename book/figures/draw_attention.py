"""Diagrams of the chapter *attention*.

Blue is the input, orange what attention looks for, green what comes out.
"""

import math

from drawing import Drawing, drawing

POWERS = 2, 4, 1  # by hand: e to the scores of the third token's query
VALUES = 7, 14, 0


@drawing
def how_far_ngrams_see() -> Drawing:
    """How far back the hero's name is at each of four returns; what a 6-gram sees."""
    d = Drawing(270)
    gaps, unit, right, reach = (45, 25, 13, 7), 9.4, 506, 5
    d.text(right + 4, 22, "next word: Leo", anchor="end", bold=True, colour="green")
    for i, gap in enumerate(gaps):
        y = 46 + 46 * i
        for back in range(1, gap + 1):
            tint = "blue" if back == gap else "orange" if back <= reach else "grey"
            d.box(
                right - back * unit, y, unit, 28, tint=tint, line="grey", rounded=0,
            )  # fmt: skip
        x = right - gap * unit
        d.text(x - 6, y + 14, "Leo", anchor="end", colour="blue", bold=True)
        d.text(right + 10, y + 14, f"{gap}", anchor="start")
    d.box(64, 236, 22, 20, tint="orange", line="grey", rounded=0)
    d.text(94, 246, "the 5 words seen with n = 6", anchor="start")
    d.box(332, 236, 22, 20, tint="grey", line="grey", rounded=0)
    d.text(362, 246, "not seen", anchor="start")
    return d


@drawing
def attention_by_hand() -> Drawing:
    """One query, three keys: the width of each arrow is the share of a value."""
    d = Drawing(400)
    total = sum(POWERS)
    places = 170, 310, 450
    d.box(225, 12, 170, 38, "query of token 3", tint="orange", bold=True)
    for y, row in ((118, "key"), (200, "weight"), (279, "value"), (372, "gathered")):
        d.text(20, y, row, anchor="start", bold=True)
    rows = zip(places, ("(1, 0)", "(0, 1)", "(0, 0)"), POWERS, VALUES, strict=True)
    for number, (x, key, power, value) in enumerate(rows, start=1):
        d.text(x, 86, f"token {number}", colour="grey")
        start = 310 + (x - 310) * 0.4
        side = 0 if x == 310 else math.copysign(31, 310 - x)
        d.arrow((start, 50), (x + side, 75), colour="orange")
        d.box(x - 42, 102, 84, 32, key)
        height = 84 * power / total
        d.box(x - 42, 240 - height, 84, height, tint="orange", rounded=0)
        d.text(x, 228 - height, f"{power}/{total}", bold=True)
        d.box(x - 42, 262, 84, 34, str(value), tint="blue")
        end = 310 + (x - 310) * 0.2
        d.arrow((x, 296), (end, 354), colour="blue", width=12 * power / total)
    result = sum(p * v for p, v in zip(POWERS, VALUES, strict=True)) / total
    d.box(262, 355, 96, 34, f"{result:g}", tint="green", bold=True)
    return d


@drawing
def causal_triangle() -> Drawing:
    """The weights by hand: a triangle, since no token sees the future."""
    d = Drawing(250)
    left, width = 130, 84
    rows = []
    for t in range(3):
        total = sum(POWERS[: t + 1])
        shares = [f"{power}/{total}" for power in POWERS[: t + 1]]
        rows.append((["1"] if t == 0 else shares) + ["0"] * (2 - t))
    for s, value in enumerate(VALUES):
        x = left + (s + 0.5) * width
        d.text(x, 24, f"token {s + 1}")
        d.text(x, 46, f"value {value}", size=15, colour="blue")
    d.cells(
        left, 62, rows, width=width, height=48, size=16,
        tint=lambda t, s: "orange" if s <= t else "grey",
    )  # fmt: skip
    d.text(470, 35, "gathered", bold=True)
    for t, result in enumerate(("7", "11⅔", "10")):
        y = 62 + (t + 0.5) * 48
        d.text(112, y, f"token {t + 1} asks", anchor="end")
        d.arrow((left + 3 * width + 8, y), (432, y))
        d.box(436, y - 17, 68, 34, result, tint="green", bold=True)
    d.text(left + 1.5 * width, 228, "grey: the future", size=15, colour="grey")
    return d


@drawing
def shared_keys() -> Drawing:
    """Grouped queries: six query heads share two key-value heads."""
    d = Drawing(236)
    d.text(280, 20, "6 query heads × 8 coordinates = 48")
    for group in range(2):
        middle = 150 + 260 * group
        for number in range(3):
            x = middle + 84 * (number - 1)
            name = f"query {3 * group + number + 1}"
            d.box(x - 38, 40, 76, 40, name, tint="orange")
            d.line((x, 80), (x, 106))
        d.line((middle - 84, 106), (middle + 84, 106))
        d.arrow((middle, 106), (middle, 134))
        for name, x in (("key", middle - 80), ("value", middle + 4)):
            d.box(x, 136, 76, 40, f"{name} {group + 1}", tint="blue")
    d.text(280, 206, "2 key-value heads: 16 coordinates for keys, 16 for values")
    return d


@drawing
def rotary_turns() -> Drawing:
    """Query and key, turned by their positions: their angle depends on the distance."""
    d = Drawing(260)
    key_at, query_at = math.radians(20), math.radians(60)
    for x, s, t in ((96, 0, 1), (280, 3, 4), (450, 0, 3)):
        y, radius = 100, 62
        d.circle(x, y, radius)
        angles = key_at + s, query_at + t  # one radian for each place
        tips = []
        for angle, name, colour in zip(
            angles, ("key", "query"), ("blue", "orange"), strict=True
        ):
            tip = x + radius * math.cos(angle), y - radius * math.sin(angle)
            d.arrow((x, y), tip, colour=colour, width=3.5)
            far = radius + 17
            over = 4 * len(name) * abs(math.cos(angle))
            d.text(
                x + (far + over) * math.cos(angle), y - far * math.sin(angle),
                name, colour=colour, size=15, bold=True,
            )  # fmt: skip
            tips.append(tip)
        steps = [angles[0] + (angles[1] - angles[0]) * i / 20 for i in range(21)]
        d.line(*((x + 22 * math.cos(a), y - 22 * math.sin(a)) for a in steps))
        score = math.cos(angles[1] - angles[0])
        d.text(x, 200, f"key at {s}, query at {t}", size=15)
        apart = t - s
        d.text(x, 222, f"{apart} apart:", size=15)
        d.text(x, 244, f"score {score:.2f}".replace("-", "−"), bold=True)
    return d


@drawing
def key_value_cache() -> Drawing:
    """What is read for each new token, with and without the cache."""
    d = Drawing(292)
    words = "Once", "upon", "a", "time"
    for left, name, cached in ((38, "with the cache", True), (314, "without", False)):
        d.text(left + 104, 20, name, bold=True)
        n_read = 0
        for t in range(4):
            for s, word in enumerate(words[: t + 1]):
                now = s == t or not cached
                n_read += now
                d.box(
                    left + 52 * s, 42 + 44 * t, 52, 34, word, rounded=0,
                    tint="blue" if now else "grey", line="grey", bold=now, size=15,
                )  # fmt: skip
        d.text(left + 104, 232, f"{n_read} tokens read")
    d.box(120, 260, 26, 20, tint="blue", line="grey", rounded=0)
    d.text(154, 270, "read now", anchor="start")
    d.box(260, 260, 26, 20, tint="grey", line="grey", rounded=0)
    d.text(294, 270, "keys and values in the cache", anchor="start")
    return d


@drawing
def two_halves_of_a_head() -> Drawing:
    """Where a head looks, which is learned, and what it hands on, which is built in."""
    d = Drawing(236)
    words = "Leo", "wore", "a", "cape", "…", "said"
    for i, word in enumerate(words):
        d.box(20 + 66 * i, 16, 60, 34, word, tint="blue" if i == 0 else "white")
    d.text(470, 33, "next?", bold=True)
    d.arrow((380, 52), (380, 78), (50, 78), (50, 54), colour="orange", width=3)
    d.box(20, 100, 250, 62, tint="orange")
    d.text(145, 120, "where it looks", bold=True)
    d.text(145, 144, "queries and keys")
    d.text(145, 186, "learned", bold=True, colour="orange")
    d.arrow((270, 131), (302, 131), width=3)
    d.box(304, 100, 236, 62, tint="green")
    d.text(422, 120, "what it hands on", bold=True)
    d.text(422, 144, "values and output")
    d.text(380, 186, "built in at the start", bold=True, colour="green")
    d.arrow((505, 162), (505, 192), colour="green", width=3)
    d.box(475, 194, 60, 34, "Leo", tint="green", bold=True)
    return d
