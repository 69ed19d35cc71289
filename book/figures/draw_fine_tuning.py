"""Diagrams of the chapter *fine_tuning*.

Blue is what is read, grey what is frozen, green what learns, orange the question.
"""

from drawing import Drawing, drawing


@drawing
def two_things_agree() -> Drawing:
    """Four pairings in a square: no line has both equal ones on one side."""
    d = Drawing(300)
    columns, rows = (210, 420), (62, 204)  # u, v: he and she; she and he
    names = (("Toffee, sister", "Anna, aunt"), ("Digby, brother", "Rosa, brother"))
    for y, word in zip(rows, ("she", "he"), strict=True):
        d.text(14, y, f"relative: {word}", anchor="start")
    for x, word in zip(columns, ("he", "she"), strict=True):
        d.text(x, 278, f"hero: {word}")

    def place(u: float, v: float) -> tuple[float, float]:
        x = columns[0] + (u + 1) / 2 * (columns[1] - columns[0])
        return x, rows[1] + (v + 1) / 2 * (rows[0] - rows[1])

    d.line(place(-0.4, 1.4), place(1.45, -0.45), colour="grey", dashed=True, width=2)
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            equal = i != j
            d.circle(
                x, y, 20, "+" if equal else "−", tint="orange" if equal else "white"
            )
            d.text(x, y + (-36 if i == 0 else 36), names[i][j], size=15)
    d.text(478, 182, "3 of 4", anchor="start", colour="grey", bold=True)
    d.text(14, 122, "+  ambiguous", anchor="start", colour="orange", bold=True)
    d.text(14, 146, "−  clear", anchor="start", bold=True)
    return d


@drawing
def correction_of_rank_one() -> Drawing:
    """The input (1, 0, 0) through W, and around it through A and B."""
    d = Drawing(280)
    weight, a, b, scale, z = ((1, 0, 2), (0, 1, 1)), (1, 0, -1), (1, 2), 2, (1, 0, 0)
    plain = [sum(w * x for w, x in zip(row, z, strict=True)) for row in weight]
    inner = sum(w * x for w, x in zip(a, z, strict=True))
    extra = [scale * w * inner for w in b]
    total = [p + e for p, e in zip(plain, extra, strict=True)]

    def column(x: float, y: float, numbers: tuple | list, tint: str) -> None:
        rows = [[f"{n}".replace("-", "−")] for n in numbers]
        d.cells(x, y, rows, width=36, height=30, tint=lambda *_: tint, size=16)

    column(14, 95, z, "blue")
    d.text(32, 78, "z", italic=True)
    d.arrow((50, 125), (80, 125), (80, 68), (140, 68))
    d.arrow((50, 155), (80, 155), (80, 205), (108, 205))
    rows = [[str(n) for n in row] for row in weight]
    d.cells(142, 38, rows, width=36, height=30, tint=lambda *_: "grey", size=16)
    d.text(196, 20, "W, frozen", bold=True)
    d.arrow((250, 68), (392, 68))
    column(394, 38, plain, "white")
    rows = [[f"{n}".replace("-", "−") for n in a]]
    d.cells(110, 190, rows, width=36, height=30, tint=lambda *_: "green", size=16)
    d.text(164, 238, "A", bold=True)
    d.arrow((218, 205), (242, 205))
    column(244, 190, [inner], "white")
    d.arrow((280, 205), (302, 205))
    column(304, 175, b, "green")
    d.text(322, 253, "B", bold=True)
    d.arrow((340, 205), (392, 205))
    d.text(366, 188, f"× {scale}")
    column(394, 175, extra, "white")
    d.arrow((430, 68), (462, 68), (462, 111))
    d.arrow((430, 205), (462, 205), (462, 139))
    d.circle(462, 125, 14, "+")
    d.arrow((476, 125), (504, 125))
    column(506, 95, total, "white")
    return d


@drawing
def low_rank_to_scale() -> Drawing:
    """A matrix of 256 by 256, and its adapter of rank 4, to scale."""
    d = Drawing(294)
    side, width, rank = 192, 256, 4
    thin = side * rank / width
    d.box(40, 50, side, side, f"{width**2:,}\nfrozen", tint="grey", rounded=0)
    d.text(40 + side / 2, 26, f"W: {width} × {width}", bold=True)
    d.text(262, 50 + side / 2, "+", size=22)
    d.box(292, 50, thin, side, tint="green", line="green", rounded=0)
    d.text(288, 26, f"B: {width} × {rank}", bold=True)
    d.box(330, 50, side, thin, tint="green", line="green", rounded=0)
    d.text(330 + side, 26, f"A: {rank} × {width}", anchor="end", bold=True)
    d.text(330 + side / 2, 50 + side / 2, f"{2 * width * rank:,} learn", colour="green")
    d.text(136, 268, "(drawn to scale)", size=15, colour="grey")
    return d


@drawing
def three_ways() -> Drawing:
    """Head only, LoRA and full: what is frozen and what learns."""
    d = Drawing(330)
    for i, (name, size) in enumerate(
        (("head only", "about 4 N"), ("LoRA", "about 4 N"), ("full", "16 N"))
    ):
        x, full, lora = 16 + 186 * i, name == "full", name == "LoRA"
        d.text(x + 78, 20, name, bold=True)
        d.box(x, 42, 156, 36, "head", tint="green", bold=True)
        for row, part in enumerate(("last layer", "…", "first layer", "embedding")):
            y = 90 + 42 * row
            narrow = lora and part != "embedding"
            d.box(
                x, y, 100 if narrow else 156, 36, part,
                tint="green" if full else "grey", bold=full,
            )  # fmt: skip
            if narrow:
                d.box(x + 106, y, 50, 36, "+ BA", tint="green", bold=True)
        d.text(x + 78, 276, f"{size} bytes")
    for x, tint, word in ((172, "green", "learns"), (302, "grey", "frozen")):
        d.box(x, 300, 26, 20, tint=tint, rounded=3)
        d.text(x + 34, 310, word, anchor="start")
    return d


@drawing
def asked_at_the_last_token() -> Drawing:
    """Three openings in a batch, padded on the right, classified at the last token."""
    d = Drawing(262)
    openings = (
        ("Digby", "brother", 16, 1),
        ("Toffee", "sister", 19, 0),
        ("Anna", "aunt", 21, 1),
    )
    left, width, longest = 72, 22, 21
    for i, (name, last, n, label) in enumerate(openings):
        y = 42 + 70 * i
        d.text(14, y + 15, name, anchor="start", bold=True)
        row = [[""] * (n - 1) + [str(label)] + [""] * (longest - n)]
        d.cells(
            left, y, row, width=width, height=30,
            tint=lambda _, j, n=n: (
                "blue" if j < n - 1 else "orange" if j == n - 1 else "white"
            ),
        )  # fmt: skip
        d.text(left + (n - 0.5) * width, y - 16, last)
    for x, tint, word in (
        (72, "blue", "read"),
        (172, "orange", "classified here"),
        (342, "white", "padding"),
    ):
        d.box(x, 236, 22, 20, tint=tint, line="grey", rounded=0)
        d.text(x + 30, 246, word, anchor="start")
    return d


@drawing
def what_labels_leave_open() -> Drawing:
    """Which relatives are a he or a she: from the labels alone, and from the tales."""
    d = Drawing(300)
    names = ("mother", "father"), ("sister", "brother"), ("aunt", "uncle")
    new = ("grandmother", "grandfather")
    for x, start, read in (
        (16, "random start", False),
        (292, "pretrained start", True),
    ):
        d.text(x + 126, 20, start, bold=True)
        for j, word in enumerate(("she", "he")):
            d.text(x + 60 + 132 * j, 48, word, colour="grey")
        if read:
            d.box(x, 62, 252, 176, tint="blue", line="blue")
        else:
            d.box(x, 62, 252, 124, tint="green", line="green")
            d.box(x, 194, 252, 44, dashed=True, line="grey")
        for i, pair in enumerate(names):
            for j, word in enumerate(pair):
                d.text(x + 60 + 132 * j, 84 + 40 * i, word)
        for j, word in enumerate(new):
            words, colour = (word, "ink") if read else (f"{word} ?", "grey")
            d.text(x + 60 + 132 * j, 216, words, colour=colour)
    for x, tint, word in (
        (16, "green", "learned from labels"),
        (292, "blue", "known from the tales"),
    ):
        d.box(x, 264, 26, 20, tint=tint, rounded=3)
        d.text(x + 34, 274, word, anchor="start")
    return d
