"""Diagrams of *reward_hacking*: orange is the reward model, green what people want."""

import math
from collections import Counter
from itertools import combinations, pairwise
from statistics import fmean

from drawing import Drawing, drawing


@drawing
def best_of_five_by_hand() -> Drawing:
    """More choice always raises the proxy; gold rises and then falls."""
    d = Drawing(280)
    answers = ((1, 1), (2, 4), (3, 6), (4, 8), (9, 3))  # proxy, gold

    def at(n: float, points: float) -> tuple[float, float]:
        return 80 + 88 * (n - 1), 225 - 20 * points

    d.line(at(0.8, 9.6), at(0.8, 0), at(5.3, 0), colour="grey")
    for n in range(1, 6):
        d.text(at(n, 0)[0], 243, f"{n}", size=15, colour="grey")
    d.text(at(3, 0)[0], 266, "n: answers to choose from", size=15)
    for points in (0, 3, 6, 9):
        d.text(52, at(1, points)[1], f"{points}", size=15, colour="grey", anchor="end")
    kept = [
        [max(way) for way in combinations(answers, n)]
        for n in range(1, len(answers) + 1)
    ]
    means = [[fmean(answer[k] for answer in ways) for ways in kept] for k in (0, 1)]
    for mine, other, name, colour in (
        (*means, "proxy", "orange"),
        (*means[::-1], "gold", "green"),
    ):
        places = [at(n, mean) for n, mean in enumerate(mine, start=1)]
        d.line(*places, colour=colour, width=3)
        for place, mean, beside in zip(places, mine, other, strict=True):
            d.circle(*place, 4, tint=colour)
            above = -16 if mean > beside else 17
            d.text(place[0], place[1] + above, f"{mean:.1f}", size=15, colour=colour)
        d.text(places[-1][0] + 22, places[-1][1], name, anchor="start", colour=colour,
               bold=True)  # fmt: skip
    return d


@drawing
def small_preference_becomes_certainty() -> Drawing:
    """Four endings, three liked almost equally: with a small beta, one takes all."""
    d = Drawing(236)
    rewards = {"1": 1.0, "0.9": 0.9, "0.8": 0.8, "0": 0.0}
    for number, beta in enumerate((None, 0.1, 0.02)):
        left = 20 + 184 * number
        shares = {
            name: 1.0 if beta is None else math.exp((reward - 1) / beta)
            for name, reward in rewards.items()
        }
        whole = sum(shares.values())
        d.text(left + 76, 18, "reference" if beta is None else f"β = {beta}", bold=True)
        for k, (name, share) in enumerate(shares.items()):
            height = 140 * share / whole
            x = left + 40 * k
            tint = "grey" if beta is None else "green"
            d.box(x, 198 - height, 34, height, tint=tint, rounded=0)
            percent = f"{100 * share / whole:.0f} %"
            d.text(x + 17, 198 - height - 12, percent, size=14)
            d.text(x + 17, 214, name, size=15)
        d.line((left - 4, 198), (left + 160, 198), colour="grey")
    return d


@drawing
def distinct_runs() -> Drawing:
    """Two sentences, their runs of two words, and which of them occur twice."""
    d = Drawing(190)
    sentences = ("a gentle girl lived here", "a gentle boy lived here")
    runs = [list(pairwise(sentence.split())) for sentence in sentences]
    counts = Counter(runs[0] + runs[1])
    for row, (sentence, own) in enumerate(zip(sentences, runs, strict=True)):
        top = 20 + 82 * row
        for k, word in enumerate(sentence.split()):
            d.text(66 + 106 * k, top, word)
        for k, run in enumerate(own):
            colour = "pink" if counts[run] > 1 else "blue"
            d.bracket(70 + 106 * k, top + 14, 98)
            d.line((70 + 106 * k, top + 22), (168 + 106 * k, top + 22), colour=colour,
                   width=4)  # fmt: skip
            words = "twice" if counts[run] > 1 else "once"
            d.text(119 + 106 * k, top + 38, words, size=15, colour=colour)
    different, whole = len(counts), counts.total()
    words = f"{different} distinct runs out of {whole}: {different / whole:.2f}"
    d.text(280, 172, words, bold=True)
    return d


@drawing
def reward_model_reads_surprises() -> Drawing:
    """Four numbers for a token, each times a learned vector, join the token's own."""
    d = Drawing(346)
    rows = (
        ("token", "", "its vector", "blue"),
        ("surprisal", "s ×", "a vector", "orange"),
        ("expected", "e ×", "a vector", "orange"),
        ("place", "n ×", "a vector", "orange"),
        ("repeated", "w ×", "a vector", "orange"),
    )
    for number, (name, factor, vector, tint) in enumerate(rows):
        y = 48 + 50 * number
        d.text(14, y, name, anchor="start", bold=not number)
        d.text(152, y, factor, anchor="end")
        d.box(162, y - 17, 84, 34, vector, tint=tint, size=15)
        d.line((246, y), (272, y))
    d.line((272, 48), (272, 248))
    d.arrow((272, 148), (288, 148))
    d.circle(301, 148, 13, "+")
    d.arrow((314, 148), (336, 148))
    d.box(336, 30, 66, 236, "layers", tint="grey")
    d.box(432, 30, 112, 107, "mean\nover tokens", tint="grey", size=15)
    d.box(432, 159, 112, 107, "maximum\nover tokens", tint="pink", size=15, bold=True)
    d.arrow((402, 84), (432, 84))
    d.arrow((402, 212), (432, 212))
    d.text(417, 286, "half each", size=15, colour="grey")
    d.line((544, 84), (553, 84), (553, 318), (520, 318), arrow=True)
    d.line((544, 212), (553, 212))
    d.text(510, 318, "reward r", anchor="end", colour="green", bold=True)
    d.bracket(92, 272, 154)
    d.text(169, 295, "s and e from base-llm", size=15, colour="orange")
    return d
