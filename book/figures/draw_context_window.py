"""Diagrams of *context_window*: blue is what is kept, orange what is looked at."""

import math

from drawing import Drawing, drawing


@drawing
def two_ends_of_the_window() -> Drawing:
    """A line of tokens: as long as a tale, as long as the window, and beyond."""
    d = Drawing(172)

    def x(n_tokens: float) -> float:
        return 20 + 0.88 * n_tokens

    d.box(x(0), 74, x(240) - x(0), 44, "tales: up to 240", tint="blue", rounded=0)
    d.box(x(240), 74, x(512) - x(240), 44, "fits, but hardly ever trained",
          tint="grey", rounded=0)  # fmt: skip
    d.box(
        x(513), 74, 552 - x(513), 44, tint="none", line="pink", dashed=True, rounded=0
    )
    for n, aside, words, colour in (
        (120, 0, "mostly found", "green"),
        (400, -24, "mostly lost", "pink"),
        (513, 8, "refused", "pink"),
    ):
        d.arrow((x(n), 46), (x(n), 72), colour=colour, width=2)
        d.text(x(n) + aside, 30, f"{n}: {words}", colour=colour, bold=True)
    for n in (0, 240, 512):
        d.text(x(n), 136, f"{n}", size=15, colour="grey")
    d.text(x(256), 158, "length of the text, in tokens", size=15, colour="grey")
    return d


@drawing
def softmax_in_two_pieces() -> Drawing:
    """Three numbers are kept from key to key; a new largest score shrinks the sums."""
    d = Drawing(258)
    heads = ((62, 104, "score 0\nvalue 8"), (246, 150, "score ln 3\nvalue 4"))
    for left, width, words in heads:
        d.box(left, 14, width, 50, words, tint="blue", size=15)
        d.arrow((left + width / 2, 64), (left + width / 2, 90))
    rows = (
        ("m", "0", "ln 3", "rises"),
        ("ℓ", "1", "1/3 + 1 = 4/3", "× 1/3"),
        ("u", "8", "8/3 + 4 = 20/3", "× 1/3"),
    )
    for number, (name, first, second, change) in enumerate(rows):
        y = 112 + 50 * number
        d.text(36, y, name, italic=True, bold=True)
        d.box(62, y - 20, 104, 40, first, tint="orange")
        d.arrow((166, y), (246, y))
        d.text(206, y - 13, change, size=15, colour="pink")
        d.box(246, y - 20, 150, 40, second, tint="orange")
    d.line((396, 162), (424, 162), (424, 212), (396, 212))
    d.arrow((424, 187), (484, 187))
    d.text(454, 172, "u / ℓ", italic=True)
    d.circle(505, 187, 20, "5", tint="green")
    d.text(505, 225, "same result", size=15, colour="green")
    return d


@drawing
def three_ways_through_the_table() -> Drawing:
    """The table of 12 by 12 scores: as a whole, tile by tile, and as a band."""
    d = Drawing(260)
    n, size, w = 12, 13.5, 3

    def kind(way: int, row: int, column: int) -> str:
        seen = column <= row and (way < 2 or row - column < w)
        if way == 1:
            computed = column // w <= row // w
        else:
            computed = way == 0 or 0 <= row // w - column // w <= 1
        return "orange" if seen else "grey" if computed else "none"

    for way, name in enumerate(("naive", "chunked", "window of 3")):
        left, top, total = 15 + 184 * way, 42, 0
        d.text(left + n * size / 2, 22, name, bold=True)
        for row in range(n):
            kinds = [kind(way, row, column) for column in range(n)]
            total += n - kinds.count("none")
            for tint in ("orange", "grey"):
                if tint in kinds:
                    start, length = kinds.index(tint), kinds.count(tint)
                    if way == 2 and tint == "grey":  # on both sides of the band
                        d.parts += _runs(left, top + row * size, kinds, size)
                        continue
                    box = (left + start * size, top + row * size, length * size, size)
                    d.box(*box, tint=tint, line="grey", rounded=0)
        for k in range(n + 1):
            at = k * size
            heavy = {"width": 2.2} if way and k % w == 0 else {"width": 0.5}
            d.line(
                (left + at, top), (left + at, top + n * size), colour="grey", **heavy
            )
            d.line(
                (left, top + at), (left + n * size, top + at), colour="grey", **heavy
            )
        if way == 1:
            order = 0
            for i in range(n // w):
                for j in range(i + 1):
                    order += 1
                    at = (left + (j + 0.5) * w * size, top + (i + 0.5) * w * size)
                    d.text(*at, f"{order}", bold=True, size=15)
        held = "9 at a time" if way == 1 else "all at once" if way == 0 else "in blocks"
        d.text(left + n * size / 2, 231, f"{total} scores,\n{held}", size=15)
    return d


def _runs(left: float, top: float, kinds: list[str], size: float) -> list[str]:
    """Return the boxes of a row's hidden scores, one for each."""
    d = Drawing(300)
    for column, tint in enumerate(kinds):
        if tint == "grey":
            d.box(
                left + column * size, top, size, size, tint=tint, line="grey", rounded=0
            )
    return d.parts


@drawing
def reach_over_layers() -> Drawing:
    """With a window of three, each layer reaches two positions further back."""
    d = Drawing(242)

    def at(position: int, level: int) -> tuple[float, float]:
        return 136 + 49 * position, 190 - 74 * level

    for level in (1, 2):
        for position in range(9):
            for back in range(3):
                if position - back < 0:
                    continue
                lit = position >= 8 - 2 * (2 - level)
                ends = at(position - back, level - 1), at(position, level)
                colour, width = ("orange", 2.5) if lit else ("grey", 0.5)
                d.line(*ends, colour=colour, width=width)
    for level, name in enumerate(("tokens", "layer 1", "layer 2")):
        d.text(14, at(0, level)[1], name, anchor="start")
        for position in range(9):
            lit = position >= 8 - 2 * (2 - level)
            last = "t" if position == 8 and level == 2 else ""
            d.circle(*at(position, level), 13, last, tint="orange" if lit else "white")
    d.bracket(at(4, 0)[0], 210, at(8, 0)[0] - at(4, 0)[0])
    d.text(at(4, 0)[0] - 12, 220, "2 layers × 2 back", anchor="end", size=15)
    return d


@drawing
def state_of_fixed_size() -> Drawing:
    """Each position adds its product to one table, which the query reads."""
    d = Drawing(226)
    d.cells(30, 44, [[""]] * 4, width=26, height=26, tint=lambda i, j: "blue")
    d.text(43, 26, "φ(k)", italic=True)
    d.text(76, 96, "×")
    d.cells(94, 83, [["", "", "", "", "1"]], width=26, height=26,
            tint=lambda i, j: "blue")  # fmt: skip
    d.text(159, 64, "v and a 1", italic=True)
    d.arrow((232, 96), (296, 96))
    d.text(264, 80, "adds to", size=15)
    d.cells(300, 44, [[""] * 5] * 4, width=26, height=26,
            tint=lambda i, j: "grey" if j < 4 else "pink")  # fmt: skip
    d.text(365, 26, "state: d × (d + 1)", bold=True)
    d.arrow((365, 204), (365, 152), colour="orange", width=2)
    d.text(352, 188, "φ(q) reads it", anchor="end", colour="orange")
    d.arrow((430, 96), (462, 96))
    d.cells(466, 86, [[""] * 4], width=20, height=20, tint=lambda i, j: "green")
    d.text(506, 68, "c", italic=True)
    d.text(506, 134, "divided by\nthe sum", size=15, colour="grey")
    return d


@drawing
def kept_while_writing() -> Drawing:
    """Bytes after 300 positions: full attention keeps growing, the others do not."""
    d = Drawing(232)
    n, width, w = 300, 32, 32
    rows = (
        ("full: all keys and values", 2 * n * width * 4, "grows with every token"),
        ("window of 32: the last 32", 2 * w * width * 4, "stays the same"),
        ("linear: one table, 32 × 33", width * (width + 1) * 4, "stays the same"),
    )
    for number, (name, n_bytes, then) in enumerate(rows):
        top = 14 + 74 * number
        length = 470 * n_bytes / rows[0][1]
        d.text(16, top + 8, name, anchor="start", bold=True)
        d.box(16, top + 24, length, 28, tint="blue", rounded=0)
        if not number:
            d.arrow((486, top + 38), (544, top + 38), colour="blue", width=3)
            d.text(251, top + 38, f"{n_bytes:,} bytes: {then}")
        else:
            d.text(26 + length, top + 38, f"{n_bytes:,} bytes: {then}", anchor="start")
    return d


@drawing
def cache_as_a_box() -> Drawing:
    """Heads by layers by positions: sharing keys and values makes the box thinner."""
    d = Drawing(262)
    shift = (70.0, -46.0)
    for left, heads, name in ((100, 32, "one each"), (338, 8, "four share one"),
                              (468, 1, "all share one")):  # fmt: skip
        width, top, height = 4.5 * heads, 76, 110
        right, low = left + width, top + height
        d.box(left, top, width, height, tint="blue", rounded=0)
        back = [(x + shift[0], y + shift[1]) for x, y in ((left, top), (right, top),
                                                          (right, low))]  # fmt: skip
        d.line((left, top), *back, (right, low))
        d.line((right, top), back[1])
        gib = 2 * 32 * heads * 128 * 2 * 131_072 / 2**30
        middle = left + max(width, 44) / 2 if heads > 1 else left + 18
        d.text(middle, low + 20, f"{heads} head{'s' * (heads > 1)}", size=15)
        d.text(middle, low + 42, f"{gib:.0f} GiB", bold=True, colour="orange")
        d.text(middle, low + 63, name, size=15, colour="grey")
    d.text(90, 131, "32 layers", anchor="end", size=15)
    d.text(122, 40, "131,072\npositions", anchor="end", size=15)
    return d


@drawing
def positions_squeezed() -> Drawing:
    """Positions 0 to 576 get the angles of 0 to 192, which were seen in training."""
    d = Drawing(206)

    def x(position: float) -> float:
        return 24 + 0.88 * position

    d.text(16, 20, "position", anchor="start", bold=True)
    d.line((x(0), 58), (x(576), 58), colour="orange", width=4)
    d.box(x(0), 150, x(192) - x(0), 22, tint="green", rounded=0)
    d.box(x(192), 150, x(576) - x(192), 22, tint="none", line="grey", dashed=True,
          rounded=0)  # fmt: skip
    d.text(x(384), 161, "angles never seen in training", size=15, colour="grey")
    for position in range(0, 577, 64):
        d.line((x(position), 53), (x(position), 63), colour="orange", width=2)
        if position % 192 == 0:
            d.text(x(position), 40, f"{position}", size=15)
            d.arrow((x(position), 66), (x(position / 3), 148))
            d.text(x(position / 3), 188, f"{position // 3}", size=15)
    d.text(378, 122, "gets the angle of", size=15, anchor="start")
    return d


@drawing
def angles_slowed_down() -> Drawing:
    """How many times more slowly each of the 16 pairs turns, in three ways."""
    d = Drawing(336)
    d_head, base, factor, length = 32, 10_000.0, 3.0, 192
    pairs = range(d_head // 2)

    def pair_of(turns: int) -> float:
        return d_head * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(pair_of(32)), 0)
    high = min(math.ceil(pair_of(1)), d_head - 1)
    ramp = [min(max((i - low) / (high - low), 0), 1) for i in pairs]
    ways = {
        "linear": [factor for _ in pairs],
        "NTK-aware": [factor ** (2 * i / (d_head - 2)) for i in pairs],
        "YaRN": [1 / (1 - share + share / factor) for share in ramp],
    }
    for number, (name, slower) in enumerate(ways.items()):
        ground = 92 + 92 * number
        d.text(14, ground - 28, name, anchor="start", bold=True)
        for i, times in enumerate(slower):
            height = 22 * times
            tint = "white" if times < 1.005 else "orange"
            d.box(130 + 24 * i, ground - height, 18, height, tint=tint, rounded=0)
        d.line((124, ground), (516, ground), colour="grey")
        for times in (1, 3):
            d.text(546, ground - 22 * times, f"{times} ×", size=15, anchor="end",
                   colour="grey")  # fmt: skip
    d.text(130, 300, "fast pairs:\nneighbours", size=15, anchor="start")
    d.text(512, 300, "slow pairs:\nfar tokens", size=15, anchor="end")
    d.arrow((225, 300), (415, 300), colour="grey")
    return d


@drawing
def needle_at_three_depths() -> Drawing:
    """The same needle at the beginning, in the middle and at the end of a text."""
    d = Drawing(216)
    rows = (("beginning", 0.0), ("middle", 0.5), ("end", 1.0))
    for number, (name, depth) in enumerate(rows):
        top = 40 + 50 * number
        d.text(14, top + 16, name, anchor="start", bold=True)
        d.box(104, top, 440, 32, tint="grey", rounded=0)
        d.box(104, top, 52, 32, "Ella", tint="blue", rounded=0)
        left = 156 + depth * (444 - 156 - 64)
        d.box(left, top, 64, 32, "white", tint="orange", rounded=0, bold=True)
        d.box(444, top, 100, 32, "in her …", tint="blue", rounded=0)
    d.text(104, 20, "who", anchor="start", size=15, colour="grey")
    d.text(300, 20, "sentences from other tales", size=15, colour="grey")
    d.text(544, 20, "the question", anchor="end", size=15, colour="grey")
    d.text(104, 198, "orange: the needle, a fine white raincoat", anchor="start",
           size=15, colour="orange")  # fmt: skip
    return d


@drawing
def rows_and_angles() -> Drawing:
    """Learned positions end with training; four back is the same angle anywhere."""
    d = Drawing(254)

    def x(position: float) -> float:
        return 16 + 8.2 * position

    d.text(16, 20, "learned: a vector for each position", anchor="start", bold=True)
    d.box(x(0), 36, x(24) - x(0), 34, "trained", tint="blue", rounded=0)
    d.box(x(24), 36, x(64) - x(24), 34, "noise: never trained", tint="grey", rounded=0)
    for position, words in ((0, "1"), (24, "24"), (64, "64")):
        anchor = "start" if position == 0 else "end"
        d.text(x(position), 86, words, size=15, colour="grey", anchor=anchor)
    d.text(16, 132, "turning: an angle for each distance", anchor="start", bold=True)
    d.line((x(0), 206), (x(64), 206), colour="grey")
    for position in range(0, 65, 4):
        d.line((x(position), 202), (x(position), 210), colour="grey")
    for start in (8, 28, 52):
        middle = x(start + 2)
        d.arrow((x(start + 4), 204), (x(start + 4), 176), (x(start), 176),
                (x(start), 200), colour="orange", width=2)  # fmt: skip
        d.text(middle, 160, "4 back", size=15, colour="orange")
    d.line((x(24), 146), (x(24), 222), dashed=True, colour="pink", width=2)
    d.text(x(24), 238, "trained up to here", size=15, colour="pink")
    return d
