"""Diagrams of the chapter *transformer*.

Blue is the input, orange what attention looks for, green what comes out.
"""

from drawing import Drawing, drawing

PARTS = (
    (205, "attention", "orange", "gathers from\nearlier tokens"),
    (85, "feed-forward\nnetwork", "green", "each position\nby itself"),
)


@drawing
def transformer_block() -> Drawing:
    """A block: two parts that read the stream and add to it."""
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
def feed_forward_gate() -> Drawing:
    """The network: widen, decide what to keep, narrow again."""
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
def whole_model() -> Drawing:
    """From ids to logits, with the four states of the stream."""
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
    d.text(x, 402, "2 × 9 tokens")
    d.arrow((x, 388), (x, 374))
    for y, name, tint in parts:
        d.box(x - 90, y, 180, 34, name, tint=tint, bold=name.startswith("block"))
    for start, end in ((338, 302), (266, 250), (214, 198), (162, 136)):
        d.line((x, start), (x, end), colour="blue", width=5)
    d.arrow((x, 100), (x, 88))
    d.arrow((x, 52), (x, 36))
    d.text(x, 20, "logits (2, 9, 512)", bold=True, colour="green")
    for y in (319, 258, 206, 149):
        d.line((x + 10, y), (404, y), colour="blue", dashed=True)
    d.line((404, 149), (404, 319), colour="blue", dashed=True)
    d.arrow((404, 234), (426, 234), colour="blue", dashed=True)
    d.text(432, 234, "stream\n(4, 2, 9, 64)", anchor="start", colour="blue", bold=True)
    d.text(140, 355, "E: 512 × 64", anchor="end")
    d.text(140, 69, "E: 512 × 64", anchor="end")
    return d


@drawing
def who_sees_whom() -> Drawing:
    """Three masks: of an encoder, of a decoder, and of both together."""
    d = Drawing(226)
    size = 26
    tables = (
        (20, "encoder", 4, lambda row, column: True, ("read",)),
        (160, "decoder-only", 4, lambda row, column: column <= row, ("written",)),
        (312, "encoder–decoder", 7, lambda row, column: column <= row + 4, ("", "")),
    )
    for x, name, columns, sees, below in tables:
        rows = 3 if columns == 7 else 4
        d.text(x + columns * size / 2, 20, name, bold=True)
        for row in range(rows):
            for column in range(columns):
                source = columns == 7 and column < 4
                tint = "grey"
                if sees(row, column):
                    tint = "blue" if source or name == "encoder" else "orange"
                d.box(
                    x + column * size, 44 + row * size, size, size,
                    tint=tint, line="grey", rounded=0,
                )  # fmt: skip
        if len(below) == 1:
            d.text(x + columns * size / 2, 168, below[0])
    d.bracket(312, 128, 4 * size, "source")
    d.bracket(312 + 4 * size, 128, 3 * size, "written")
    d.box(60, 196, 22, 20, tint="grey", line="grey", rounded=0)
    d.text(90, 206, "not seen", anchor="start")
    d.box(190, 196, 22, 20, tint="blue", line="grey", rounded=0)
    d.text(220, 206, "seen: the source", anchor="start")
    d.box(370, 196, 22, 20, tint="orange", line="grey", rounded=0)
    d.text(400, 206, "seen: what is written", anchor="start", size=15)
    return d


@drawing
def experts_for_a_token() -> Drawing:
    """A router's four scores, the two best experts, and their shares."""
    d = Drawing(296)
    powers, used = (3, 1, 2, 9), (0, 3)
    d.box(245, 250, 70, 36, "token", tint="blue", bold=True)
    d.arrow((280, 250), (280, 232))
    d.box(60, 196, 440, 34, "router: scores ln 3, 0, ln 2, ln 9", tint="orange")
    total = sum(powers[i] for i in used)
    for i, power in enumerate(powers):
        x = 62 + 116 * i
        chosen = i in used
        tint = "green" if chosen else "grey"
        d.box(x, 114, 90, 46, f"expert {i + 1}", tint=tint, bold=chosen)
        if chosen:
            d.arrow((x + 45, 196), (x + 45, 164), width=1.5)
            d.arrow((x + 45, 114), (280, 54), colour="green", width=8 * power / total)
            side = -44 if i == 0 else 44
            d.text(x + 45 + side, 84, f"{power}/{total}", bold=True)
        else:
            d.text(x + 45, 176, "not used", size=15, colour="grey")
    d.circle(280, 36, 17, "+")
    return d
