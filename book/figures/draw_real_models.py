"""Diagrams of *real_models*.

Blue is what is stored, orange what is looked for, green what comes out, grey the rest.
"""

from drawing import Drawing, drawing

PARTS = (  # of SmolLM2-135M: millions of parameters, bits for each in the file
    ("embedding", 28.3, 8.5, "green"),
    ("attention", 26.5, 5.0, "orange"),
    ("networks", 79.6, 5.0, "blue"),
)


@drawing
def where_the_parameters_are() -> Drawing:
    """Shares of the parameters, and bytes in memory and in the file, to scale."""
    d = Drawing(178)
    scale = 0.967  # pixels for a megabyte
    x: float = 20
    d.text(20, 24, "in memory, as float32: 538 MB", anchor="start", bold=True)
    for name, n, _, tint in PARTS:
        share = f"{n / 134.5:.0%}"
        d.box(x, 42, 4 * n * scale, 48, f"{name}\n{share}", tint=tint, rounded=0)
        x += 4 * n * scale
    d.text(20, 120, "in the file: 97 MB", anchor="start", bold=True)
    x = 20
    for _, n, bits, tint in PARTS:
        d.box(x, 136, n * bits / 8 * scale, 32, tint=tint, rounded=0)
        x += n * bits / 8 * scale
    d.text(x + 14, 152, "8.5, 5 and 5 bits per weight", anchor="start")
    return d


@drawing
def block_of_q4_1() -> Drawing:
    """Four weights, their steps on a scale, and the bytes that hold them."""
    d = Drawing(292)
    weights, steps = ("−0.6", "0.9", "0.1", "0.3"), (0, 15, 7, 9)
    tints = ("blue", "orange", "green", "pink")
    d.text(20, 32, "weights", anchor="start", bold=True)
    d.cells(150, 16, [weights], width=92, height=34, tint=lambda _, j: tints[j])
    left, unit = 70, 28.0
    d.line((left, 140), (left + 15 * unit, 140))
    for n in range(16):
        d.line((left + n * unit, 134), (left + n * unit, 146))
        d.text(left + n * unit, 160, str(n), size=14)
    for j, step in enumerate(steps):
        at = left + step * unit
        d.arrow((196 + 92 * j, 50), (at, 130), colour="grey")
    d.text(20, 186, "least −0.6", anchor="start")
    d.text(540, 186, "15 steps of 0.1", anchor="end")
    d.text(20, 240, "stored", anchor="start", bold=True)
    d.box(110, 218, 96, 44, "scale 0.1", tint="grey", rounded=0)
    d.box(206, 218, 96, 44, "least −0.6", tint="grey", rounded=0)
    for j, step in enumerate(steps):
        d.box(302 + 58 * j, 218, 58, 44, f"{step:04b}", tint=tints[j], mono=True,
              rounded=0)  # fmt: skip
    d.text(206, 277, "2 bytes each", size=14)
    d.text(418, 277, "4 bits each", size=14)
    return d


@drawing
def stripe_of_an_induction_head() -> Drawing:
    """Three random tokens, twice: where an induction head looks."""
    d = Drawing(330)
    tokens = ("cup", "red", "sky") * 2
    left, top, size = 170, 56, 42
    looks = {3: 1, 4: 2, 5: 3}

    def tint(row: int, column: int) -> str:
        if looks.get(row) == column:
            return "orange"
        return "white" if column <= row else "grey"

    for n, token in enumerate(tokens):
        colour = "grey" if n < 3 else "ink"
        d.text(left + (n + 0.5) * size, top - 16, token, size=15)
        d.text(left - 10, top + (n + 0.5) * size, token, size=15, anchor="end",
               colour=colour)  # fmt: skip
    d.cells(left, top, [[""] * 6] * 6, width=size, height=size, tint=tint)
    for row, column in looks.items():
        d.text(left + (column + 0.5) * size, top + (row + 0.5) * size, "●", size=16)
        d.arrow(
            (left + 6 * size + 8, top + (row + 0.5) * size),
            (470, top + (row + 0.5) * size),
        )
        d.text(478, top + (row + 0.5) * size, tokens[column], anchor="start", bold=True,
               colour="green")  # fmt: skip
    d.text(20, top + 1.5 * size, "first time", anchor="start", colour="grey")
    d.text(20, top + 4.5 * size, "second time", anchor="start")
    d.text(left + 3 * size, 18, "looks at", bold=True)
    d.text(500, top + 2.2 * size, "predicts", bold=True, colour="green")
    return d


@drawing
def three_places_to_teach() -> Drawing:
    """Short answers: told or shown in the prompt, or learned by the weights."""
    d = Drawing(262)
    rows = (
        ("told", ("question", "“in one word”"), "weights"),
        ("shown", ("8 questions, 8 answers", "question"), "weights"),
        ("learned", ("question",), "weights + BA"),
    )
    d.text(250, 20, "what the model reads", bold=True)
    d.text(468, 20, "what it computes with", bold=True)
    for n, (name, read, weights) in enumerate(rows):
        y = 40 + 74 * n
        d.text(14, y + 27, name, anchor="start", bold=True)
        x: float = 90
        for words in read:
            width = 12 + 8.6 * len(words)
            new = words != "question"
            d.box(x, y, width, 54, words, tint="orange" if new else "white")
            x += width + 8
        d.arrow((x, y + 27), (402, y + 27))
        d.box(404, y, 132, 54, weights, tint="orange" if n == 2 else "blue")
    return d
