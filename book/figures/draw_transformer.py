"""Diagrams of the chapter *transformer*.

Blue is what is read or given, orange what attention looks for, green what comes out.
"""

import math

from drawing import Drawing, drawing

PARTS = (
    (205, "attention", "orange", "gathers from\nearlier places"),
    (85, "feed-forward\nnetwork", "green", "each place\nby itself"),
)
POWERS = 2, 4, 1  # by hand: e to the scores of the third token's query
VALUES = 7, 14, 0


@drawing
def transformer_block() -> Drawing:
    """A block: two parts that read the stream, and add to it."""
    d = Drawing(310)
    d.text(90, 20, "residual stream", size=15, colour="blue", bold=True)
    d.arrow((90, 300), (90, 36), colour="blue", width=5)
    for y, name, tint, note in PARTS:
        d.line((90, y + 60), (170, y + 60))
        d.box(170, y + 42, 84, 36, "norm", tint="grey")
        d.arrow((254, y + 60), (296, y + 60))
        d.box(296, y + 30, 130, 60, name, tint=tint, bold=True)
        d.arrow((361, y + 30), (361, y), (104, y))
        d.circle(90, y, 13, "+")
        d.text(438, y + 60, note, size=15, colour="grey", anchor="start")
    return d


@drawing
def attention_by_hand() -> Drawing:
    """One query, three keys: shares of the values, by the width of the arrows."""
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
    """The weights by hand: a triangle, for nobody sees the future."""
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
    d.text(280, 20, "6 query heads of 8 coordinates: 48")
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
    d.text(280, 206, "2 key-value heads: 16 for keys, 16 for values")
    return d


@drawing
def rotary_turns() -> Drawing:
    """Query and key, turned by their places: the angle between depends on distance."""
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
def feed_forward_gate() -> Drawing:
    """The network: widen, decide what to keep, bring back."""
    d = Drawing(280)
    y, narrow, wide = 138, 39, 104  # of 24 and of 64 coordinates
    d.box(24, y - narrow / 2, 36, narrow, "24", tint="blue", rounded=0)
    d.text(42, y + narrow / 2 + 16, "x", italic=True)
    for middle, name, side in ((70, "gate", -1), (206, "up", 1)):
        d.arrow((60, y), (152, middle))
        d.text(88, y + side * 58, name, bold=True)
        d.box(154, middle - wide / 2, 36, wide, "64", tint="grey", rounded=0)
    d.box(226, 53, 76, 34, "switch", tint="orange")
    d.arrow((190, 70), (224, 70))
    d.arrow((302, 70), (340, 70), (340, 122))
    d.arrow((190, 206), (340, 206), (340, 154))
    d.circle(340, y, 15, "⊙")
    d.arrow((355, y), (392, y))
    d.box(394, y - wide / 2, 36, wide, "64", tint="grey", rounded=0)
    d.arrow((430, y), (498, y))
    d.text(463, y - 18, "down", bold=True)
    d.box(500, y - narrow / 2, 36, narrow, "24", tint="green", rounded=0)
    return d


@drawing
def key_value_cache() -> Drawing:
    """What is read for each new token, with the cache and without it."""
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
    d.text(294, 270, "its keys and values kept", anchor="start")
    return d


@drawing
def induction_in_two_layers() -> Drawing:
    """A B G D A: the first layer notes what came before, the second looks for it."""
    d = Drawing(336)
    letters = "ABGDA"
    places = [130 + 95 * i for i in range(5)]
    for y, row in ((86, "layer 2"), (216, "layer 1"), (310, "read")):
        d.text(14, y, row, anchor="start", bold=True)
    for x, letter in zip(places, letters, strict=True):
        d.line((x, 292), (x, 56), colour="blue", width=3)
        d.box(x - 22, 292, 44, 36, letter, tint="blue", bold=True)
    for i, letter in enumerate(letters[:-1]):
        start, end = places[i], places[i + 1]
        d.arrow((start, 262), (end, 234), colour="orange", width=2 + 2 * (i == 0))
        found = i == 0
        d.box(
            end - 38, 198, 76, 34, f"after {letter}", bold=found,
            tint="orange" if found else "white",
        )  # fmt: skip
    d.box(places[4] - 38, 122, 76, 34, "after A?", tint="orange", bold=True)
    d.arrow((places[1], 176), (places[4], 86), colour="orange", width=4)
    d.text(272, 118, "fetch B", colour="orange", bold=True)
    d.box(places[4] - 22, 14, 44, 36, "B", tint="green", bold=True)
    d.arrow((places[4], 70), (places[4], 51), colour="blue", width=3)
    return d


@drawing
def how_far_ngrams_see() -> Drawing:
    """How far back the hero's name is, at four returns, and what a 6-gram sees."""
    d = Drawing(270)
    gaps, unit, right, reach = (45, 25, 13, 7), 9.4, 506, 5
    d.text(right + 4, 22, "next: Leo", anchor="end", bold=True, colour="green")
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
    d.text(94, 246, "the 5 words that n = 6 sees", anchor="start")
    d.box(332, 236, 22, 20, tint="grey", line="grey", rounded=0)
    d.text(362, 246, "not seen", anchor="start")
    return d


@drawing
def whole_model() -> Drawing:
    """From nine tokens to nine rows of logits, with the four states of the stream."""
    d = Drawing(420)
    x = 250
    parts = (
        (338, "embedding", "grey"),
        (266, "block 1", "white"),
        (214, "block 2", "white"),
        (162, "block 3", "white"),
        (100, "norm", "grey"),
        (52, "embedding, again", "grey"),
    )
    d.text(x, 402, "9 tokens")
    d.arrow((x, 388), (x, 374))
    for y, name, tint in parts:
        d.box(x - 90, y, 180, 34, name, tint=tint, bold=name.startswith("block"))
    for start, end in ((338, 302), (266, 250), (214, 198), (162, 136)):
        d.line((x, start), (x, end), colour="blue", width=5)
    d.arrow((x, 100), (x, 88))
    d.arrow((x, 52), (x, 36))
    d.text(x, 20, "logits (9, 512)", bold=True, colour="green")
    for y in (319, 258, 206, 149):
        d.line((x + 10, y), (404, y), colour="blue", dashed=True)
    d.line((404, 149), (404, 319), colour="blue", dashed=True)
    d.arrow((404, 234), (426, 234), colour="blue", dashed=True)
    d.text(432, 234, "stream\n(4, 9, 64)", anchor="start", colour="blue", bold=True)
    d.text(140, 355, "E: 512 × 64", anchor="end")
    d.text(140, 69, "E: 512 × 64", anchor="end")
    return d


@drawing
def two_halves_of_a_head() -> Drawing:
    """Where a head looks, and what comes of it: what was put there, and learned."""
    d = Drawing(256)
    halves = (
        (16, "where it looks", "queries and keys", "orange", (2, 61), "learned"),
        (290, "what it hands on", "values and output", "green", (100, 80), "put there"),
    )
    for x, name, matrices, tint, (before, after), origin in halves:
        d.box(x, 16, 254, 64, tint=tint)
        d.text(x + 127, 36, name, bold=True)
        d.text(x + 127, 60, matrices)
        for dx, share, when in ((52, before, "before"), (202, after, "after")):
            height = share * 0.6
            d.box(x + dx - 26, 190 - height, 52, height, tint=tint, rounded=0)
            d.text(x + dx, 176 - height, f"{share} %", bold=True)
            d.text(x + dx, 208, when)
        d.arrow((x + 92, 150), (x + 162, 150), colour="grey")
        d.text(x + 127, 240, origin, bold=True)
    return d
