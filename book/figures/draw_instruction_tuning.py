"""Diagrams of the chapter *instruction_tuning*.

Blue is what the user writes, green what the assistant writes, grey what the program
adds, pink a second conversation, orange where care is needed.
"""

from drawing import Drawing, drawing


@drawing
def who_writes_what() -> Drawing:
    """A conversation in its template: marks, question and answer."""
    d = Drawing(272)
    wide = {"<|endoftext|>": 138, "<|assistant|>": 138, "<|user|>": 138, "<|end|>": 84}
    rows = (
        (14, (("<|endoftext|>", "grey"),)),
        (
            70,
            (
                ("<|user|>", "grey"),
                *((word, "blue") for word in ("who", "hid", "?")),
                ("<|end|>", "grey"),
            ),
        ),
        (
            126,
            (
                ("<|assistant|>", "grey"),
                *((word, "green") for word in ("the", "owl", ".", "<|end|>")),
            ),
        ),
    )
    for y, row in rows:
        x = 52.0
        for word, tint in row:
            width = wide.get(word, 60)
            mark = word.startswith("<")
            d.box(x, y, width, 38, word, tint=tint, mono=mark, bold=tint == "green")
            if tint == "green":
                d.text(x + width / 2, y + 56, "✓", colour="green", bold=True)
            x += width + 10
    d.text(192, 182, "counts:", colour="green", anchor="end", bold=True)
    for x, tint, word in (
        (26, "grey", "the program"),
        (184, "blue", "the user"),
        (312, "green", "the assistant (the model)"),
    ):
        d.box(x, 228, 26, 20, tint=tint, rounded=3)
        d.text(x + 34, 238, word, anchor="start", size=15)
    return d


@drawing
def padded_or_packed() -> Drawing:
    """Two conversations of 26 and 13 places, in two rows or in one."""
    d = Drawing(238)
    longer, ours, unit = 26, 13, 12
    left, long, short = 46, longer * unit, ours * unit
    d.text(
        left,
        20,
        f"padded: 2 × {longer} = {2 * longer} places",
        anchor="start",
        bold=True,
    )
    d.box(left, 40, long, 34, f"the longer one: {longer}", tint="white", rounded=0)
    d.box(left, 80, short, 34, f"ours: {ours}", tint="pink", rounded=0)
    d.box(left + short, 80, short, 34, "padding", dashed=True, line="grey", rounded=0)
    total = longer + ours
    d.text(
        left,
        164,
        f"packed: {longer} + {ours} = {total} places",
        anchor="start",
        bold=True,
    )
    d.box(left, 184, long, 34, f"the longer one: {longer}", tint="white", rounded=0)
    d.box(left + long, 184, short, 34, f"ours: {ours}", tint="pink", rounded=0)
    return d


@drawing
def packed_but_apart() -> Drawing:
    """How far back each of 39 places looks when two conversations are packed."""
    d = Drawing(336)
    longer, ours, unit = 26, 13, 7
    left, top = 150, 24
    for t in range(longer + ours):
        first = 0 if t < longer else longer
        d.box(
            left + first * unit, top + t * unit, (t - first + 1) * unit, unit,
            tint="white" if t < longer else "pink",
            line="grey" if t < longer else "pink", rounded=0,
        )  # fmt: skip
    middle = top + longer * unit
    d.box(
        left, middle + 4, longer * unit - 6, ours * unit - 4, "not seen",
        dashed=True, line="orange",
    )  # fmt: skip
    for y, name in (
        (top + longer * unit / 2, "the longer\none, 0 to 25"),
        (middle + ours * unit / 2, "ours,\n0 to 12"),
    ):
        d.text(14, y, name, anchor="start")
    d.text(left + 270, top + 40, "the future:\nnot seen", colour="grey")
    d.arrow((left, 314), (left + (longer + ours) * unit, 314), colour="grey")
    d.text(
        left + (longer + ours) * unit + 10,
        314,
        "looked at",
        anchor="start",
        colour="grey",
    )
    return d


@drawing
def typed_marks() -> Drawing:
    """A typed mark stays text, or becomes a real one."""
    d = Drawing(296)
    d.text(280, 18, "the user types", bold=True)
    d.box(150, 34, 260, 38, "Who won?<|end|>…", tint="blue", mono=True)
    for x, name in ((140, "ids first"), (420, "text first")):
        d.arrow((280 + (x - 280) * 0.5, 72), (x, 116))
        d.text(x, 134, name, bold=True)
    x = 20.0
    for piece in ("<", "|", "end", "|", ">"):
        width = 64 if piece == "end" else 38
        d.box(x, 156, width, 38, piece, tint="blue", mono=True)
        x += width + 5
    d.box(370, 156, 100, 38, "<|end|>", tint="orange", mono=True, bold=True)
    for x, kind, turns in (
        (140, "five pieces of text", "1 turn"),
        (420, "one mark: id 3075", "2 turns"),
    ):
        d.text(x, 218, kind)
        d.text(x, 254, f"{turns} of the assistant", bold=True)
    d.text(140, 278, "the one to come", colour="grey", size=15)
    d.text(420, 278, "one is forged", colour="orange", size=15)
    return d


@drawing
def what_counts_without_a_mask() -> Drawing:
    """The first conversation's 101 targets: counted with the mask, and without it."""
    d = Drawing(236)
    parts = (
        (50, False),
        (11, False),
        (6, True),
        (13, False),
        (5, True),
        (9, False),
        (7, True),
    )
    left, unit = 27, 5
    counted = sum(n for n, answer in parts if answer), sum(n for n, _ in parts)
    for y, name, masked in (
        (50, "with the mask", True),
        (144, "without the mask", False),
    ):
        n = counted[0 if masked else 1]
        d.text(
            left,
            y - 26,
            f"{name}: {n} of {counted[1]} targets count",
            anchor="start",
            bold=True,
        )
        x = left
        for number, (n, answer) in enumerate(parts):
            words = f"the story: {n}" if number == 0 else str(n)
            counts = answer or not masked
            d.box(
                x, y, n * unit, 38, words, tint="green" if counts else "blue",
                bold=counts, rounded=0,
            )  # fmt: skip
            x += n * unit
    for x, tint, word in (
        (27, "blue", "only read"),
        (167, "green", "read and counted"),
    ):
        d.box(x, 206, 26, 20, tint=tint, rounded=3)
        d.text(x + 34, 216, word, anchor="start")
    return d
