"""Diagrams of the chapter *pretraining*.

Blue is what is read, orange what is asked or looked for, green what comes out.
"""

import math

from drawing import Drawing, drawing


@drawing
def guesses_of_one_window() -> Drawing:
    """Nine words are eight examples, answered in one pass."""
    d = Drawing(234)
    words = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
    left, width = 74, 59
    for y, name, row, tint in (
        (190, "read", words[:-1], "blue"),
        (14, "target", words[1:], "green"),
    ):
        d.text(14, y + 17, name, anchor="start", bold=True)
        d.cells(
            left, y, [row], width=width, height=34,
            tint=lambda _, __, tint=tint: tint,
        )  # fmt: skip
    d.box(left, 88, 8 * width, 62, tint="grey")
    for s in range(8):
        x = left + (s + 0.5) * width
        d.arrow((x, 190), (x, 152))
        d.arrow((x, 88), (x, 50))
    d.text(left + 4 * width, 119, "one pass: each position sees what is to its left")
    return d


@drawing
def training_loop() -> Drawing:
    """Scores, loss, gradient, clip, step, and again."""
    d = Drawing(330)
    stations = (
        (280, 84, "scores", "(B, T, V)"),
        (470, 158, "loss", "one number"),
        (402, 276, "gradient", "for each weight"),
        (158, 276, "clip", "if too long"),
        (90, 158, "step", "weights move"),
    )
    arrows = (
        ((342, 84), (450, 84), (450, 128)),
        ((450, 188), (450, 246)),
        ((330, 276), (232, 276)),
        ((110, 246), (110, 190)),
        ((110, 128), (110, 84), (216, 84)),
    )
    for points in arrows:
        d.arrow(*points, width=2)
    for x, y, name, note in stations:
        wide = 124 if x == 280 else 144
        d.box(
            x - wide / 2, y - 30, wide, 60, tint="orange" if name == "loss" else "white"
        )
        d.text(x, y - 11, name, bold=True)
        d.text(x, y + 12, note, size=15, colour="grey")
    d.box(208, 6, 144, 30, "next batch", tint="blue")
    d.arrow((280, 36), (280, 53), width=2)
    d.text(280, 180, "2400 steps", bold=True, colour="green")
    return d


@drawing
def gradient_accumulation() -> Drawing:
    """A batch of four windows at once, and in two parts."""
    d = Drawing(318)
    d.text(14, 20, "at once", anchor="start", bold=True)
    d.text(14, 166, "in two parts", anchor="start", bold=True)

    def part(y: float, numbers: range) -> float:
        for i, number in enumerate(numbers):
            d.box(
                40, y + 27 * i, 150, 24, f"window {number}", tint="blue", line="grey",
                rounded=2,
            )  # fmt: skip
        middle = y + 27 * len(numbers) / 2 - 1.5
        d.arrow((194, middle), (242, middle))
        d.box(244, middle - 17, 104, 34, "gradient")
        return middle

    middle = part(36, range(1, 5))
    d.arrow((348, middle), (450, middle))
    d.box(452, middle - 17, 80, 34, "step", tint="green", bold=True)
    ends = part(182, range(1, 3)), part(254, range(3, 5))
    y = sum(ends) / 2
    for end in ends:
        near = y + math.copysign(13, end - y)
        d.arrow((348, end), (400, end), (400, near))
    d.circle(400, y, 13, "+")
    d.arrow((413, y), (450, y))
    d.box(452, y - 17, 80, 34, "step", tint="green", bold=True)
    return d


@drawing
def learning_rate_shape() -> Drawing:
    """The learning rate: up in a straight line, down along half a cosine."""
    d = Drawing(244)
    steps, warmup, peak = 2400, 100, 0.008  # as in the chapter
    left, right, top, bottom = 76, 540, 24, 196

    def point(step: float, rate: float) -> tuple[float, float]:
        x = left + (right - left) * step / steps
        return x, bottom - (bottom - top) * rate / peak

    curve = [point(0, 0), point(warmup, peak)]
    for i in range(1, 41):
        done = i / 40
        rate = peak * 0.5 * (1 + math.cos(math.pi * done))
        curve.append(point(warmup + done * (steps - warmup), rate))
    x, _ = point(warmup, 0)
    d.line((x, bottom), (x, top), colour="grey", dashed=True)
    d.line((left, top), (x, top), colour="grey", dashed=True)
    d.line((left, top - 10), (left, bottom), (right + 10, bottom))
    d.line(*curve, colour="green", width=3.5)
    d.text(left - 8, top, f"{peak}", anchor="end")
    d.text(left - 8, bottom, "0", anchor="end")
    d.text(x, bottom + 18, f"{warmup}")
    d.text(right, bottom + 18, f"{steps}", anchor="end")
    d.text((left + right) / 2, bottom + 18, "step")
    d.text(x + 12, 172, "← warm-up", anchor="start", bold=True)
    d.text(330, 76, "half a cosine", anchor="start", bold=True)
    return d


@drawing
def stopped_and_resumed() -> Drawing:
    """Four steps in one go, and the same four around an interruption."""
    d = Drawing(276)
    places = [180 + 100 * i for i in range(4)]

    def step(number: int, y: float, tint: str = "blue") -> None:
        d.box(places[number - 1] - 32, y - 18, 64, 36, f"step {number}", tint=tint)

    def join(first: int, y: float) -> None:
        d.arrow((places[first - 1] + 32, y), (places[first] - 34, y))

    rows = (
        (36, "in one go", (1, 2, 3, 4)),
        (112, "stopped", (1, 2, 3)),
        (240, "resumed", (3, 4)),
    )
    for y, name, numbers in rows:
        d.text(14, y, name, anchor="start", bold=True)
        for number in numbers:
            if number != numbers[0]:
                join(number - 1, y)
            tint = "grey" if (name, number) == ("stopped", 3) else "blue"
            step(number, y, tint)
    d.text(places[3] - 20, 112, "error", colour="orange", bold=True)
    d.line((places[2] + 44, 100), (places[2] + 44, 124), colour="orange", width=4)
    d.arrow((places[1], 130), (places[1], 160))
    d.box(places[1] - 58, 162, 116, 36, "checkpoint", tint="green", bold=True)
    d.arrow((places[1], 198), (places[1], 240), (places[2] - 34, 240))
    d.line((places[3] + 16, 222), (places[3] + 16, 54), colour="green", dashed=True)
    d.text(places[3] + 6, 172, "same bits", colour="green", anchor="end", bold=True)
    return d


@drawing
def two_halves_of_copying() -> Drawing:
    """Finding and handing on: either one without the other pays little."""
    d = Drawing(286)
    columns, rows, width, height = (104, 392), (48, 188), 154, 80
    for x, name in zip(
        columns, ("looks everywhere", "looks at the colour"), strict=True
    ):
        d.text(x + width / 2, 22, name, bold=True)
    for y, name in zip(
        rows, ("hands on\nnoise", "hands it on\nunchanged"), strict=True
    ):
        d.text(10, y + height / 2, name, anchor="start", bold=True)
    cells = (
        ("usual start:\nnoise", "noise"),
        ("copying start:\na mean of all", "crimson"),
    )
    for y, row in zip(rows, cells, strict=True):
        for x, words in zip(columns, row, strict=True):
            good = words == "crimson"
            d.box(
                x, y, width, height, words, bold=good,
                tint="green" if good else "orange" if ":" in words else "white",
            )  # fmt: skip
    start, end = columns[0] + width, columns[1]
    for y, pays in zip(rows, (False, True), strict=True):
        style = "green" if pays else "grey"
        middle = y + height / 2
        d.arrow(
            (start, middle), (end - 2, middle),
            colour=style, dashed=not pays, width=4 if pays else 1.5,
        )  # fmt: skip
        name = "pays at once" if pays else "pays little"
        d.text((start + end) / 2, middle - 17, name, colour=style)
    for x, pays in zip(columns, (False, True), strict=True):
        style = "green" if pays else "grey"
        middle = x + width / 2
        d.arrow(
            (middle, rows[0] + height), (middle, rows[1] - 2),
            colour=style, dashed=not pays, width=4 if pays else 1.5,
        )  # fmt: skip
        name = "pays" if pays else "pays little"
        side, anchor = (-12, "end") if pays else (12, "start")
        y = (rows[0] + height + rows[1]) / 2
        d.text(middle + side, y, name, colour=style, anchor=anchor)
    return d


@drawing
def loss_of_what_came() -> Drawing:
    """The loss of a word over its probability, with three points from the example."""
    d = Drawing(290)
    left, right, top, bottom, highest = 60, 530, 20, 236, 4.0

    def point(p: float) -> tuple[float, float]:
        y = bottom + (bottom - top) * math.log(p) / highest
        return left + (right - left) * p, y

    curve = [point(math.exp(-highest * (1 - i / 60))) for i in range(61)]
    d.line((left, top - 6), (left, bottom), (right, bottom))
    d.line(*curve, colour="blue", width=3)
    total = math.exp(3) + math.e + 6
    for p, name in (
        (1 / total, "lazy"),
        (1 / 8, "knowing nothing"),
        (math.exp(3) / total, "dog"),
    ):
        x, y = point(p)
        d.circle(x, y, 6, tint="orange")
        words = f"{name}: {-math.log(p):.2f}"
        d.text(x + 16, y - 12, words, anchor="start", bold=name == "dog")
    for p in (0, 0.25, 0.5, 0.75, 1):
        d.text(left + (right - left) * p, bottom + 18, f"{p:g}")
    for loss in range(5):
        d.text(
            left - 12,
            bottom - (bottom - top) * loss / highest,
            f"{loss}",
            anchor="end",
        )
    d.text((left + right) / 2, 276, "probability of the word that came")
    d.text(right, top, "loss in nats: −ln p", anchor="end", colour="blue", bold=True)
    return d


@drawing
def step_of_adamw() -> Drawing:
    """From a weight's gradient to its step."""
    d = Drawing(268)
    d.box(14, 74, 96, 44, "gradient g", tint="orange")
    for y, words in ((14, "m: running\nmean of g"), (118, "v: running\nmean of g²")):
        d.box(166, y, 116, 60, words, tint="blue")
        d.arrow((110, 96), (138, 96), (138, y + 30), (164, y + 30))
        d.arrow((282, y + 30), (310, y + 30), (310, 96), (336, 96))
    d.box(338, 68, 96, 56, "m / √v\n−1 … 1", tint="white", bold=True)
    d.arrow((434, 96), (488, 96), (488, 192), width=2)
    d.text(496, 140, "− rate ×", anchor="start", colour="grey")
    d.box(446, 194, 100, 56, "weight", tint="green", bold=True)
    d.box(216, 196, 170, 52, "multiply by\n1 − rate × decay", tint="grey")
    d.arrow((386, 222), (444, 222))
    d.text(204, 222, "weight decay", anchor="end", bold=True)
    return d


@drawing
def bits_of_three_formats() -> Drawing:
    """Sign, exponent and fraction of three formats of numbers."""
    d = Drawing(206)
    left, width = 104, 13.6
    parts = ((1, "grey"), (8, "orange"), (23, "blue"))
    for y, name, sizes in (
        (44, "float32", (1, 8, 23)),
        (98, "bfloat16", (1, 8, 7)),
        (152, "float16", (1, 5, 10)),
    ):
        d.text(14, y + 18, name, anchor="start", bold=True)
        x = float(left)
        for size, (_, tint) in zip(sizes, parts, strict=True):
            words = "" if size == 1 else str(size)
            d.box(x, y, size * width, 36, words, tint=tint, rounded=2)
            x += size * width
    d.text(left, 22, "sign", anchor="middle")
    d.text(left + 5 * width, 22, "exponent", colour="orange", bold=True)
    d.text(left + 20 * width, 22, "fraction", colour="blue", bold=True)
    return d
