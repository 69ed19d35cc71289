"""Diagrams of *retrieval*: blue is the question, orange what is read for it."""

import math
from itertools import pairwise

from drawing import Drawing, drawing


@drawing
def way_of_a_question() -> Drawing:
    """Search, prompt, answer: the model reads one tale out of forty."""
    d = Drawing(302)
    d.box(16, 14, 220, 40, "Who does Hazel live with?", tint="blue")
    d.arrow((96, 54), (96, 92))
    d.text(108, 73, "search", size=15, anchor="start")
    d.cells(16, 94, [[""] * 8] * 5, width=20, height=20,
            tint=lambda i, j: "orange" if 8 * i + j == 39 else "grey")  # fmt: skip
    d.text(96, 228, "the book: 40 tales", size=15, colour="grey")
    d.arrow((166, 194), (166, 208), (211, 208), (211, 112), (246, 112),
            colour="orange", width=2.5)  # fmt: skip
    d.arrow((236, 34), (402, 34), (402, 152), (376, 152), colour="blue", width=2.5)
    d.box(246, 92, 130, 40, "tale 39", tint="orange")
    d.box(246, 132, 130, 40, "question", tint="blue")
    d.text(311, 76, "the prompt", size=15, colour="grey")
    d.arrow((311, 172), (311, 222))
    d.box(256, 222, 110, 52, "model", bold=True)
    d.arrow((366, 248), (402, 248))
    d.box(402, 222, 144, 52, "Hazel lived with\nher grandfather.", tint="green")
    d.text(474, 291, "source: tale 39", size=15, colour="orange")
    return d


@drawing
def three_ways_to_cut() -> Drawing:
    """The first two tales of the book, cut by tokens, by sentences and by tales."""
    d = Drawing(296)
    sentences = (0, 38, 68, 105, 153, 198, 232, 269, 311, 347)

    def x(n_tokens: float) -> float:
        return 18 + 1.5 * n_tokens

    d.line((x(198), 36), (x(198), 272), dashed=True, colour="pink", width=2)
    d.text(x(198), 20, "a new tale", size=15, colour="pink")
    d.text(18, 20, "every 100 tokens", bold=True, anchor="start")
    for number in range(4):
        start, top = 80 * number, 38 + 38 * (number % 2)
        d.box(
            x(start), top, 150, 30, f"{start}–{start + 100}", tint="orange", rounded=0
        )
        if number:
            d.box(x(start), top, 30, 30, tint="blue", rounded=0)
        if number < 3:
            d.box(x(start + 80), top, 30, 30, tint="blue", rounded=0)
    d.text(18, 144, "whole sentences, up to 48 tokens", bold=True, anchor="start")
    for start, end in pairwise(sentences):
        box = (x(start), 160, 1.5 * (end - start), 30)
        d.box(*box, f"{end - start}", tint="orange", rounded=0)
    d.text(18, 222, "whole tales, up to 288 tokens", bold=True, anchor="start")
    for start, end in ((0, 198), (198, 347)):
        box = (x(start), 238, 1.5 * (end - start), 30)
        d.box(*box, f"{end - start}", tint="orange", rounded=0)
    d.text(544, 284, "tokens", size=15, colour="grey", anchor="end")
    return d


@drawing
def four_ways_to_read_a_book() -> Drawing:
    """What is left of forty tales when the question comes."""
    d = Drawing(414)

    def strip(top: float, *lit: int) -> None:
        d.cells(16, top, [[""] * 40], width=9.5, height=24,
                tint=lambda _, j: "orange" if j in lit else "grey")  # fmt: skip

    def calls(y: float, words: str) -> None:
        d.text(544, y, words, anchor="end", size=15)

    d.text(544, 18, "calls beforehand", anchor="end", size=15, colour="grey")
    d.text(16, 18, "truncate", anchor="start", bold=True)
    d.text(110, 18, "as much as fits", anchor="start", size=15, colour="orange")
    strip(34, 0, 1)
    d.box(35, 34, 4.75, 24, tint="orange", line="grey", rounded=0)
    calls(46, "none")
    d.text(16, 90, "map-reduce", anchor="start", bold=True)
    strip(106)
    calls(118, "40 + 3 + 1")
    for number, (left, right) in enumerate(((16, 140), (143, 267), (270, 396))):
        d.line((left, 132), (left + 42, 150), colour="grey")
        d.line((right, 132), (right - 42, 150), colour="grey")
        d.box(left + 42, 150, right - left - 84, 22, tint="grey", rounded=0)
        d.line((left + 62, 172), (196 + 10 * number, 192), colour="grey")
    d.box(186, 192, 40, 22, tint="orange", rounded=0)
    d.text(236, 204, "one summary", anchor="start", size=15, colour="orange")
    d.text(16, 242, "refine", anchor="start", bold=True)
    strip(258)
    calls(270, "40")
    for number in range(9):
        left = 16 + 42 * number
        d.arrow((left + 4, 300), (left + 40, 300))
        d.line((left + 22, 282), (left + 22, 300), colour="grey")
    d.box(398, 289, 40, 22, tint="orange", rounded=0)
    d.text(448, 301, "one summary", anchor="start", size=15, colour="orange")
    d.text(16, 336, "retrieve", anchor="start", bold=True)
    d.text(376, 338, "tale 39", size=15, colour="orange")
    strip(352, 39)
    calls(364, "none")
    d.text(16, 396, "orange: what the model reads with the question", size=15,
           anchor="start", colour="orange")  # fmt: skip
    return d


@drawing
def score_by_rare_words() -> Drawing:
    """Repetitions count less and less; a rare word counts more."""
    d = Drawing(276)

    def at(times: float, weight: float) -> tuple[float, float]:
        return 44 + 42 * times, 224 - 180 * weight

    d.text(16, 20, "f / (f + 1)", italic=True, anchor="start")
    d.line(at(0, 1.04), at(0, 0), at(4.7, 0), colour="grey")
    d.line(at(0, 1), at(4.7, 1), colour="grey", dashed=True)
    d.text(32, at(0, 1)[1], "1", size=15, colour="grey")
    curve = [at(f / 10, f / (f + 10)) for f in range(48)]
    d.line(*curve, colour="blue", width=3)
    for times, words in ((1, "1/2"), (2, "2/3"), (3, "3/4"), (4, "4/5")):
        weight = times / (times + 1)
        d.circle(*at(times, weight), 6, tint="blue")
        d.text(at(times, 0)[0] + 4, at(times, weight)[1] + 20, words, size=15)
        d.text(at(times, 0)[0], 241, f"{times}", size=15, colour="grey")
    d.text(140, 263, "occurrences in the passage", size=15, colour="grey")
    red, hat = math.log(1.6), math.log(1 + 2.5 / 1.5)
    passages = (
        ("a red boat", red / 2, 0.0),
        ("a blue boat", 0.0, 0.0),
        ("a red hat, a red coat", red * 2 / 3, hat / 2),
    )
    for number, (words, of_red, of_hat) in enumerate(passages):
        top = 44 + 72 * number
        d.text(290, top, words, anchor="start")
        d.line((290, top + 14), (290, top + 44), colour="grey")
        left = 290.0
        for name, part, tint in (("red", of_red, "pink"), ("hat", of_hat, "orange")):
            if part:
                d.box(
                    left, top + 16, 250 * part, 26, name, tint=tint, size=15, rounded=0
                )
                left += 250 * part
        d.text(left + 10, top + 29, f"{of_red + of_hat:.2f}", anchor="start", bold=True)
    return d


@drawing
def first_right_chunk() -> Drawing:
    """Three questions, the place of the first right chunk, and how it scores."""
    d = Drawing(262)
    for x, words in ((92, "1"), (136, "2"), (180, "3"), (224, "4")):
        d.text(x, 46, words, size=15, colour="grey")
    d.text(158, 20, "chunks, best first", size=15, colour="grey")
    heads = ((306, "recall\nat 1"), (396, "recall\nat 3"), (500, "1 / place"))
    for x, words in heads:
        d.text(x, 32, words, size=15)
    places = (1, 3, None)
    for number, place in enumerate(places):
        y = 82 + 46 * number
        d.text(16, y, f"q{number + 1}", anchor="start", bold=True)
        d.cells(70, y - 16, [["", "", "", ""]], width=44, height=32,
                tint=lambda _, j: "grey")  # fmt: skip
        if place is not None:
            d.box(26 + 44 * place, y - 16, 44, 32, "right", tint="green", size=15,
                  rounded=0)  # fmt: skip
        values = (
            f"{int(place == 1)}",
            f"{int(place is not None and place <= 3)}",
            "0" if place is None else "1" if place == 1 else f"1/{place}",
        )
        for (x, _), value in zip(heads, values, strict=True):
            d.text(x, y, value)
    d.line((70, 202), (544, 202), colour="grey")
    d.text(246, 226, "mean", anchor="end", size=15)
    ranks = [0 if place is None else 1 / place for place in places]
    sums = (sum(p == 1 for p in places), sum(p is not None for p in places))
    ends = (f"{sums[0]}/3", f"{sums[1]}/3", f"{sum(ranks) / 3:.2f}")
    for (x, _), value in zip(heads, ends, strict=True):
        d.text(x, 226, value, bold=True)
    d.text(500, 248, "MRR", size=15, colour="grey")
    return d


@drawing
def each_question_its_passage() -> Drawing:
    """A batch: every question must prefer its own passage to all others."""
    d = Drawing(268)
    d.box(16, 88, 122, 168, "token\nvectors for\nquestions", tint="blue")
    d.box(212, 12, 332, 40, "token vectors for passages", tint="orange")
    for k in range(4):
        middle = 253.5 + 83 * k
        d.text(middle, 70, f"passage {k + 1}", size=15)
        d.arrow((138, 109 + 42 * k), (166, 109 + 42 * k))
        d.text(190, 109 + 42 * k, f"q{k + 1}", size=15)
    rows = [["own" if i == j else "" for j in range(4)] for i in range(4)]
    d.cells(212, 88, rows, width=83, height=42,
            tint=lambda i, j: "green" if i == j else "grey")  # fmt: skip
    return d


@drawing
def two_rankings_fused() -> Drawing:
    """Second in both rankings beats first in one."""
    d = Drawing(190)
    for left, name, order in ((16, "words", "ab"), (150, "vectors", "cb")):
        d.text(left + 48, 20, name, bold=True)
        for rank, item in enumerate(order, 1):
            top = 38 + 52 * (rank - 1)
            tint = "orange" if item == "b" else "grey"
            d.box(left, top, 40, 40, item, tint=tint)
            d.text(left + 50, top + 20, f"1/{60 + rank}", anchor="start")
    d.arrow((254, 84), (300, 84))
    sums: dict[str, float] = {}
    for order in ("ab", "cb"):
        for rank, item in enumerate(order, 1):
            sums[item] = sums.get(item, 0) + 1 / (60 + rank)
    d.text(420, 20, "sum", bold=True)
    for number, item in enumerate(sorted(sums, key=lambda item: -sums[item])):
        top = 38 + 48 * number
        d.box(316, top, 40, 40, item, tint="orange" if item == "b" else "grey")
        d.box(366, top + 8, 3600 * sums[item], 24, tint="green", rounded=0)
        d.text(376 + 3600 * sums[item], top + 20, f"{sums[item]:.4f}", anchor="start")
    return d


@drawing
def small_pieces_lose_the_name() -> Drawing:
    """In small pieces, the answer is apart from the name in the question."""
    d = Drawing(334)
    d.box(16, 14, 320, 40, "Complete: David was dressed in …", tint="blue")
    d.text(544, 34, "score", anchor="end", size=15, colour="grey")
    d.text(16, 82, "pieces of 16 tokens", anchor="start", bold=True)
    rows = (
        ("… a calm boy called David, who had a home in", "3.03", "grey"),
        ("a quiet valley … He often wore a new", "0.00", "grey"),
        ("crimson apron and liked singing. One week …", "0.00", "orange"),
    )
    for number, (words, score, tint) in enumerate(rows):
        top = 98 + 44 * number
        d.box(16, top, 400, 36, words, tint=tint)
        d.text(544, top + 18, score, anchor="end", bold=number != 1)
    d.text(430, 116, "first", anchor="start", size=15)
    d.text(430, 204, "answer", anchor="start", size=15, colour="orange")
    d.text(16, 254, "pieces of 64 tokens", anchor="start", bold=True)
    d.box(16, 270, 400, 40, "… David … crimson apron and liked singing …",
          tint="orange")  # fmt: skip
    d.text(430, 290, "both", anchor="start", size=15, colour="orange")
    d.text(544, 290, "2.83", anchor="end", bold=True)
    return d
