"""Diagrams of *reasoning*: green is right, orange is wrong, blue is a model."""

from collections.abc import Sequence
from statistics import fmean, stdev

from drawing import Drawing, drawing

N_LAYERS = 3  # drawn; the models have more


def stack(d: Drawing, x: float, bottom: float, width: float = 74) -> None:
    """Draw the layers of a model, the first one lowest."""
    for number in range(N_LAYERS):
        top = bottom - 28 - 46 * number
        d.box(x, top, width, 28, f"layer {number + 1}", tint="blue", size=15)
        if number:
            d.arrow((x + width / 2, top + 46), (x + width / 2, top + 28))


@drawing
def layers_or_tokens() -> Drawing:
    """A direct answer is as deep as the layers; a chain passes them many times."""
    d = Drawing(308)
    d.text(76, 18, "direct", bold=True)
    d.text(370, 18, "worked", bold=True)
    stack(d, 39, 226)
    d.arrow((76, 252), (76, 226))
    d.text(76, 268, "question")
    d.arrow((76, 106), (76, 80))
    d.text(76, 64, "ten", colour="green", bold=True)
    d.text(76, 294, "3 layers deep", size=15, colour="grey")
    d.line((164, 36), (164, 300), colour="grey", dashed=True)
    read, said = ("question", "seven", "nine"), ("seven", "nine", "ten")
    for k, (word, after) in enumerate(zip(read, said, strict=True)):
        x = 192 + 126 * k
        stack(d, x, 226)
        d.arrow((x + 37, 252), (x + 37, 226))
        d.text(x + 37, 268, word)
        d.arrow((x + 37, 106), (x + 37, 80))
        last = k == len(read) - 1
        d.text(x + 37, 64, after, colour="green" if last else "ink", bold=last)
        if not last:
            d.line(
                (x + 68, 64), (x + 100, 64), (x + 100, 268), (x + 136, 268),
                arrow=True, colour="orange",
            )  # fmt: skip
    d.text(370, 294, "3 layers for each token written", size=15, colour="grey")
    return d


def group(
    d: Drawing, top: float, name: str, answers: Sequence[tuple[str, int]]
) -> None:
    """Draw one question's answers with their rewards and advantages."""
    rewards = [reward for _, reward in answers]
    mean = fmean(rewards)
    spread = stdev(rewards) or 1.0
    d.text(14, top + 62, name, anchor="start", bold=True)
    for k, (said, reward) in enumerate(answers):
        y = top + 18 + 30 * k
        d.box(128, y - 13, 170, 26, said, tint="green" if reward else "orange", size=15)
        d.line((98, top + 62), (128, y), colour="grey")
        d.arrow((298, y), (340, y))
        d.text(362, y, f"{reward}", bold=True)
        d.arrow((384, y), (426, y))
        advantage = (reward - mean) / spread
        colour = "green" if advantage > 0 else "orange" if advantage < 0 else "grey"
        d.text(486, y, said_as(advantage), colour=colour)


def said_as(advantage: float) -> str:
    """Return an advantage with its sign."""
    return f"{advantage:+.1f}".replace("-", "−") if advantage else "0"


@drawing
def checked_groups() -> Drawing:
    """Two groups of GRPO: one has something to compare, the other nothing."""
    d = Drawing(326)
    for x, words in ((213, "answers"), (362, "reward"), (486, "advantage")):
        d.text(x, 16, words, size=15, colour="grey")
    wrong = ("… So nine.", "… So six.", "… So twelve.")
    group(d, 32, "Kate", [("… So ten.", 1), *((said, 0) for said in wrong)])
    d.line((14, 170), (546, 170), colour="grey", dashed=True)
    wrong = ("… So two.", "… So six.", "… So two.", "… So one.")
    group(d, 184, "Otto", [(said, 0) for said in wrong])
    return d


@drawing
def vote_or_verifier() -> Drawing:
    """Five answers to two questions: a vote needs many right ones, a verifier one."""
    d = Drawing(238)
    for x, words in ((230, "five answers"), (420, "vote"), (508, "verifier")):
        d.text(x, 18, words, size=15, colour="grey")
    rows = (("Kate", 10, (10, 7, 10, 9, 10)), ("Otto", 5, (4, 5, 4, 2, 4)))
    for k, (name, right, said) in enumerate(rows):
        y = 70 + 86 * k
        d.text(14, y, f"{name}: {right}", anchor="start", bold=True)
        for j, number in enumerate(said):
            tint = "green" if number == right else "orange"
            d.circle(130 + 50 * j, y, 20, f"{number}", tint=tint)
        voted = max(set(said), key=said.count)
        tint = "green" if voted == right else "orange"
        d.box(395, y - 20, 50, 40, f"{voted}", tint=tint, bold=True)
        d.box(483, y - 20, 50, 40, f"{right}", tint="green", bold=True)
        d.arrow((356, y), (392, y))
    d.text(230, 218, "green is right", size=15, colour="green")
    d.text(420, 218, "the majority", size=15, colour="grey")
    d.text(508, 218, "any right", size=15, colour="grey")
    return d


@drawing
def three_lessons_for_a_student() -> Drawing:
    """What a student is shown: an answer, a checked chain, or all probabilities."""
    d = Drawing(292)
    d.box(12, 104, 98, 84, "teacher\n3 layers", tint="blue", bold=True)
    d.box(450, 104, 98, 84, "student\n1 layer", tint="blue", bold=True)
    d.text(280, 20, "labels: the answer alone", size=15, colour="grey")
    d.box(206, 36, 148, 34, "So ten.", tint="green")
    d.line((354, 53), (500, 53), (500, 102), arrow=True)
    d.text(280, 104, "checked chains, token by token", size=15, colour="grey")
    d.box(186, 120, 188, 52, "nine less two\nis seven …", tint="green")
    d.arrow((110, 146), (184, 146))
    d.arrow((374, 146), (448, 146))
    d.text(280, 202, "the same, with all probabilities", size=15, colour="grey")
    for k, (word, share) in enumerate((("six", 8), ("seven", 88), ("eight", 4))):
        x = 206 + 50 * k
        d.box(x, 262 - 0.5 * share, 38, 0.5 * share, tint="green", rounded=0)
        d.text(x + 19, 276, word, size=15)
    d.line((61, 190), (61, 248), (196, 248), arrow=True)
    d.line((364, 248), (500, 248), (500, 190), arrow=True)
    return d
