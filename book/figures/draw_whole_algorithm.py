"""Diagrams of the chapter *whole_algorithm*.

Blue is what is computed forwards, orange the gradients that come back.
"""

from drawing import Drawing, drawing

COLUMNS = (14, 160, 302, 444)  # what goes in, and three operations
WIDE = 102


@drawing
def tape_forwards_and_back() -> Drawing:
    """Three operations with their numbers, the tape, and the gradients."""
    d = Drawing(466)
    names = ("add", "relu", "linear")
    results = ("3, −3", "3, 0", "6")
    d.text(14, 18, "forwards", colour="blue", bold=True, anchor="start")
    for y, name, value in ((64, "a", "2, −1"), (114, "b", "1, −2")):
        d.box(COLUMNS[0], y, WIDE, 34, f"{name} = {value}", tint="blue")
        d.arrow((COLUMNS[0] + WIDE, y + 17), (COLUMNS[1] - 2, 106))
    d.box(COLUMNS[3], 14, WIDE, 34, "w = 2, 5", tint="blue")
    d.arrow((COLUMNS[3] + WIDE / 2, 48), (COLUMNS[3] + WIDE / 2, 70))
    for x, name, result in zip(COLUMNS[1:], names, results, strict=True):
        d.box(x, 72, WIDE, 34, name, tint="grey", mono=True, rounded=0)
        d.box(x, 106, WIDE, 34, result, tint="blue", rounded=0)
        d.arrow((x + WIDE / 2, 140), (x + WIDE / 2, 192), dashed=True, colour="grey")
        d.box(x, 194, WIDE, 48, f"back\nof {name}", tint="white", mono=True)
    for x in COLUMNS[1:3]:
        d.arrow((x + WIDE, 106), (x + WIDE + 38, 106))
        d.line((x + WIDE, 218), (x + WIDE + 40, 218), colour="grey")
    d.text(COLUMNS[0], 176, "each appends\na function", anchor="start", colour="grey")
    d.text(COLUMNS[0], 218, "tape", anchor="start", bold=True)
    d.text(COLUMNS[0], 276, "backwards", anchor="start", colour="orange", bold=True)
    gradients = ("2, 0", "2, 5", "1")
    for x, gradient in zip(COLUMNS[1:], gradients, strict=True):
        d.box(x, 322, WIDE, 34, gradient, tint="orange")
    for y, name in ((298, "a"), (348, "b")):
        d.box(COLUMNS[0], y, WIDE, 34, f"{name}: 2, 0", tint="orange")
        d.arrow((COLUMNS[1], 339), (COLUMNS[0] + WIDE + 2, y + 17), colour="orange")
    for x in COLUMNS[2:]:
        d.arrow((x, 339), (x - 38, 339), colour="orange")
    d.box(COLUMNS[3], 402, WIDE, 34, "w: 3, 0", tint="orange")
    d.arrow((COLUMNS[3] + WIDE / 2, 356), (COLUMNS[3] + WIDE / 2, 400), colour="orange")
    for x, call in zip(COLUMNS[1:], ("3rd", "2nd", "1st"), strict=True):
        d.arrow((x + 20, 242), (x - 10, 326), dashed=True, colour="grey")
        d.text(x + 24, 276, f"{call} call", anchor="start", colour="grey")
    return d


@drawing
def model_of_one_page() -> Drawing:
    """All matrices of the page's model, with their sizes."""
    d = Drawing(566)
    stream, right = 82, 396
    d.arrow((stream, 518), (stream, 152), colour="blue", width=5)
    d.box(14, 518, 136, 40, "words 261 × 24", tint="green")
    d.box(190, 518, 136, 40, "places 32 × 24", tint="green")
    d.arrow((258, 518), (258, 490), (97, 490))
    d.circle(stream, 490, 13, "+")
    d.text(14, 450, "24", colour="blue", bold=True, anchor="start")
    d.text(14, 470, "numbers", colour="blue", size=15, anchor="start")
    # Attention
    d.line((stream, 416), (130, 416))
    d.box(130, 400, 60, 32, "norm", tint="grey")
    d.arrow((190, 416), (212, 416))
    d.box(214, 384, 150, 64, "query, key, value\n3 × (24 × 24)", tint="orange")
    d.arrow((364, 416), (right - 2, 416))
    d.box(right, 390, 146, 52, "attend:\n2 heads of 12", tint="white")
    d.box(right, 468, 146, 34, "cache", dashed=True)
    d.arrow((289, 448), (289, 485), (right - 2, 485), dashed=True)
    d.arrow((right + 73, 468), (right + 73, 444), dashed=True)
    d.arrow((right + 73, 390), (right + 73, 362))
    d.box(right, 324, 146, 36, "output 24 × 24", tint="orange")
    d.arrow((right, 342), (97, 342))
    d.circle(stream, 342, 13, "+")
    # The network of each place
    d.line((stream, 282), (130, 282))
    d.box(130, 266, 60, 32, "norm", tint="grey")
    d.arrow((190, 282), (212, 282))
    d.box(214, 264, 150, 36, "wide 72 × 24", tint="orange")
    d.arrow((364, 282), (right + 41, 282))
    d.box(right + 43, 266, 60, 32, "relu", tint="white")
    d.arrow((right + 73, 266), (right + 73, 240))
    d.box(right, 202, 146, 36, "narrow 24 × 72", tint="orange")
    d.arrow((right, 220), (97, 220))
    d.circle(stream, 220, 13, "+")
    # Out
    d.box(stream - 30, 118, 60, 32, "norm", tint="grey")
    d.arrow((stream, 118), (stream, 98))
    d.box(14, 60, 136, 36, "words, again", tint="green")
    d.arrow((stream, 60), (stream, 36))
    d.text(14, 20, "261 scores, one for each word", anchor="start", bold=True)
    table = (
        ("words", "6,264"),
        ("places", "768"),
        ("attention", "2,304"),
        ("network", "3,456"),
        ("total", "12,792"),
    )
    for i, (name, size) in enumerate(table):
        bold = name == "total"
        d.text(330, 52 + 24 * i, name, anchor="start", bold=bold)
        d.text(500, 52 + 24 * i, size, anchor="end", bold=bold)
    d.line((330, 136), (500, 136), colour="grey")
    return d


@drawing
def one_word_at_a_time() -> Drawing:
    """How the model writes: read a word, score all, draw one, read that."""
    d = Drawing(250)
    left, middle, right = 14, 214, 424
    d.box(left, 60, 122, 44, "last word\nand its place", tint="blue")
    d.arrow((left + 122, 82), (middle - 2, 82))
    d.box(middle, 60, 132, 44, "next_word", tint="orange", mono=True)
    d.arrow((middle + 132, 82), (right - 2, 82))
    d.box(right, 60, 122, 44, "261 scores", tint="blue")
    d.box(middle, 10, 132, 30, "cache", dashed=True)
    d.arrow((middle + 50, 60), (middle + 50, 42), dashed=True)
    d.arrow((middle + 82, 40), (middle + 82, 58), dashed=True)
    d.text(middle + 144, 25, "keys and values so far", anchor="start", size=15)
    d.arrow((right + 61, 104), (right + 61, 150))
    d.text(right + 51, 127, "softmax", anchor="end", mono=True, size=15)
    d.box(right, 152, 122, 84, tint="white")
    shares = (("boy", 0.45), ("girl", 0.43), ("otter", 0.02))
    for i, (word, share) in enumerate(shares):
        y = 172 + 22 * i
        d.text(right + 52, y, word, anchor="end", size=15)
        d.box(right + 58, y - 7, 130 * share, 14, tint="green", rounded=0)
    d.arrow((right, 194), (middle + 134, 194))
    d.box(middle, 172, 132, 44, "draw one word", tint="green")
    d.arrow((middle, 194), (left + 61, 194), (left + 61, 106))
    d.text(left + 70, 176, "read it as well", anchor="start", size=15)
    return d
