"""Diagrams of the chapter *pipeline*.

Blue is text and its numbers, orange the model and its guesses, green the right answer.
"""

import math

from drawing import Drawing, drawing


@drawing
def two_sentences_as_a_tree() -> Drawing:
    """A language of two sentences, and the losses of two models on each word."""
    d = Drawing(310)
    columns = (176, 304, 432)
    start, the = (60, 84), (columns[0], 84)
    d.circle(*start, 6, tint="blue")
    d.arrow((68, 84), (132, 84))
    d.box(the[0] - 40, 64, 80, 40, "the", tint="blue")
    d.text(98, 66, "1")
    for y, second, third in ((44, "cat", "sat"), (124, "dog", "ran")):
        d.arrow((218, 84), (262, y))
        d.box(columns[1] - 40, y - 20, 80, 40, second, tint="orange", bold=True)
        d.arrow((346, y), (390, y))
        d.box(columns[2] - 40, y - 20, 80, 40, third, tint="blue")
        d.text(367, y - 16, "1")
    d.text(232, 48, "1/2")
    d.text(232, 122, "1/2")
    d.text(516, 180, "mean", bold=True)
    d.text(14, 180, "losses", anchor="start", bold=True)
    d.line((14, 200), (546, 200), colour="grey")
    floor, uniform = math.log(2) / 3, math.log(5)
    for y, name, values, mean in (
        (226, "perfect", ("0", "ln 2", "0"), floor),
        (276, "untrained", ("ln 5", "ln 5", "ln 5"), uniform),
    ):
        colour = "green" if y < 250 else "orange"
        d.text(14, y, name, anchor="start", bold=True, colour=colour)
        for x, value in zip(columns, values, strict=True):
            d.text(x, y, value)
        d.text(516, y, f"{mean:.2f}", bold=True, colour=colour)
    return d


@drawing
def from_stories_to_a_loss() -> Drawing:
    """Stages 1 to 3 of the page, with the shape of each step's output."""
    d = Drawing(470)
    rows = (
        ("raw text", "6,000 stories, 4,704,115 characters", "blue"),
        ("documents", "5,403 for training, 290 and 307 for measuring", "blue"),
        ("one row of ids", "1,106,583 numbers from 0 to 2,047", "blue"),
        ("ids", "B × T: B = 1 story of T ids", "blue"),
        ("stream", "B × T × D: D = 96 numbers for each id", "orange"),
        ("logits", "B × T × V: V = 2,048 scores for each id", "orange"),
        ("loss", "one number", "green"),
    )
    steps = (
        "clean, split",
        "tokenize",
        "cut into windows",
        "look up",
        "two layers, scores",
        "compare with targets",
    )
    for i, (name, shape, tint) in enumerate(rows):
        y = 14 + 67 * i
        d.box(14, y, 146, 36, name, tint=tint, bold=True)
        d.text(178, y + 18, shape, anchor="start")
    for i, step in enumerate(steps):
        y = 52 + 67 * i
        d.arrow((87, y), (87, y + 27))
        d.text(102, y + 13, step, anchor="start", colour="grey")
    return d


@drawing
def targets_are_ids_shifted() -> Drawing:
    """The first nine ids of the training text: what is read, what is to be guessed."""
    d = Drawing(286)
    words = ("mark", "C", "arl", ",", "␣a", "␣proud", "␣boy", ",", "␣lived")
    numbers = (0, 35, 1485, 12, 258, 1507, 393, 12, 409)
    left, unit = 84, 51

    def row(y: float, name: str, first: int, last: int, tint: str) -> None:
        d.text(72, y + 24, name, anchor="end", bold=True)
        for column, i in enumerate(range(first, last)):
            x = left + unit * column
            d.box(x, y, unit, 48, f"{words[i]}\n{numbers[i]}", tint=tint, line="grey",
                  size=13, rounded=0)  # fmt: skip

    row(14, "window", 0, 9, "white")
    row(114, "ids", 0, 8, "blue")
    row(222, "targets", 1, 9, "green")
    for i in range(8):
        x = left + unit * (i + 0.5)
        d.arrow((x, 164), (x, 218), colour="orange")
    d.line((left, 64), (left, 110), colour="grey", dashed=True)
    d.line((left + 8 * unit, 64), (left + 8 * unit, 110), colour="grey", dashed=True)
    d.text(500, 190, "guess", anchor="start", colour="orange", size=15)
    return d


@drawing
def levels_of_loss() -> Drawing:
    """Levels of loss, between two of which the model will end, and what each knows."""
    d = Drawing(196)
    left, unit, y = 36, 62, 96
    levels = (
        ("log V", 7.62, "nothing", "ink"),
        ("unigram", 6.09, "how frequent\na token is", "ink"),
        ("bigram", 2.78, "also the token\nbefore", "ink"),
        ("floor", 0.45, "the\ngrammar", "green"),
    )
    d.arrow((left, y), (546, y))
    for name, value, knows, colour in levels:
        x = left + unit * value
        d.circle(x, y, 7, tint="green" if colour == "green" else "blue")
        d.text(x, y - 50, name, bold=True, colour=colour)
        d.text(x, y - 26, f"{value:.2f}", colour=colour)
        d.text(x, y + 38, knows)
    floor, bigram = left + unit * 0.45, left + unit * 2.78
    d.text((floor + bigram) / 2, y - 22, "?", size=22, bold=True, colour="orange")
    d.line((floor + 12, y), (bigram - 12, y), colour="orange", width=4)
    d.text(546, 176, "nats per token", anchor="end", colour="grey")
    return d


@drawing
def preferences_in_two_steps() -> Drawing:
    """First a reward model from comparisons, then a policy from its rewards."""
    d = Drawing(356)
    d.text(14, 22, "first: learn what is preferred", anchor="start", bold=True)
    d.box(14, 62, 120, 52, "base-llm-\nsmall", tint="blue")
    d.box(214, 62, 120, 52, "annotator", tint="green")
    d.box(422, 62, 124, 52, "reward\nmodel", tint="orange")
    d.arrow((136, 88), (210, 88))
    d.text(173, 62, "400\ntexts", size=15)
    d.arrow((336, 88), (418, 88))
    d.text(378, 62, "400\npairs", size=15)
    d.text(74, 134, "4 texts for each\nof 100 beginnings", size=15, colour="grey")
    d.text(274, 134, "prefers one of two;\nerrs in 15 of 100", size=15, colour="grey")
    d.line((14, 172), (546, 172), colour="grey", dashed=True)
    d.text(14, 200, "then: learn to earn rewards", anchor="start", bold=True)
    d.box(14, 252, 120, 52, "base-llm-\nsmall", tint="blue")
    d.box(214, 252, 120, 52, "policy", tint="orange", bold=True)
    d.box(422, 252, 124, 52, "reward\nmodel", tint="orange")
    d.line((210, 278), (136, 278), dashed=True)
    d.text(173, 328, "penalty for moving away", size=15)
    d.arrow((336, 266), (418, 266))
    d.text(378, 248, "texts", size=15)
    d.arrow((420, 292), (338, 292))
    d.text(378, 312, "rewards", size=15)
    return d


@drawing
def models_and_their_origin() -> Drawing:
    """Which of the seven models was made from which."""
    d = Drawing(316)
    at = (14, 205, 396)
    for x, name in zip(at, ("text", "+ instructions", "+ preferences"), strict=True):
        d.text(x + 75, 22, name, bold=True, colour="grey")
    models = (
        (0, 50, "this page's model", "blue"),
        (1, 50, "this page's model,\nafter instructions", "orange"),
        (0, 150, "base-llm", "blue"),
        (1, 150, "instruct-llm", "orange"),
        (2, 150, "aligned-llm", "green"),
        (0, 250, "base-llm-small", "blue"),
        (2, 250, "base-llm-small,\nafter preferences", "green"),
    )
    for column, y, words, tint in models:
        d.box(at[column], y, 150, 56, words, tint=tint)
    for start, end, y in ((0, 1, 78), (0, 1, 178), (1, 2, 178), (0, 2, 278)):
        d.arrow((at[start] + 152, y), (at[end] - 4, y))
    return d
