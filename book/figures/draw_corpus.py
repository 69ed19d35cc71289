"""Diagrams of the chapter *corpus*.

Orange is what a step looks for or removes, green what is shared or kept.
"""

from itertools import pairwise

from drawing import Drawing, drawing

from llmcourse.text import deduplication, tales
from llmcourse.text.tales import word_surprises

ONE = "the fox ran into the old mill"
OTHER = "the fox ran out of the old mill"
FERRY = (
    "The ferry to the island leaves at eight in the morning and at noon. In winter it "
    "waits for the tide, and when the wind is too strong it does not leave at all, so "
    "that the children of the island have a holiday nobody planned."
)
LIGHT = (
    "The old lighthouse was built in 1866 and has been dark since the storm of 1953. "
    "This week two painters and a carpenter began to repair the lamp room, and they "
    "found a letter behind the stairs."
)


def _shingles(sentence: str) -> list[str]:
    return [" ".join(pair) for pair in pairwise(sentence.split())]


@drawing
def shared_shingles() -> Drawing:
    """The word pairs of two sentences, with the shared ones in the middle."""
    d = Drawing(282)
    one, other = _shingles(ONE), _shingles(OTHER)
    shared = [run for run in one if run in other]
    union = list(dict.fromkeys(one + other))
    d.text(14, 22, f"A: {ONE}", anchor="start", bold=True, colour="blue")
    d.text(546, 258, f"B: {OTHER}", anchor="end", bold=True, colour="pink")
    d.box(14, 42, 360, 160, tint="blue", line="blue", rounded=16)
    d.box(186, 78, 360, 160, tint="pink", line="pink", rounded=16)
    d.box(186, 78, 188, 124, tint="green", line="green", rounded=10)
    for i, run in enumerate(run for run in one if run not in shared):
        d.text(100, 108 + 30 * i, run)
    for i, run in enumerate(shared):
        d.text(280, 95 + 30 * i, run, bold=True)
    for i, run in enumerate(run for run in other if run not in shared):
        d.text(460, 126 + 30 * i, run)
    d.text(
        280, 220, f"{len(shared)} of {len(union)} are shared", colour="green", bold=True
    )
    return d


@drawing
def first_of_all_decides() -> Drawing:
    """The nine shingles in three orders: do the minima of A and B agree?"""
    d = Drawing(304)
    one, other = _shingles(ONE), _shingles(OTHER)
    union = list(dict.fromkeys(one + other))
    tints = {"A B": "green", "A": "blue", "B": "pink"}
    for row, (factor, offset) in enumerate(((3, 1), (2, 2), (3, 5))):
        y = 16 + 98 * row
        value = {run: (factor * x + offset) % 11 for x, run in enumerate(union)}
        order = sorted(union, key=value.__getitem__)
        d.text(12, y + 22, f"{factor}x + {offset}", anchor="start", bold=True)
        for i, run in enumerate(order):
            of = " ".join(n for n, runs in (("A", one), ("B", other)) if run in runs)
            d.box(
                78 + 44 * i, y, 42, 44, run.replace(" ", "\n"),
                tint=tints[of], size=14, rounded=4,
            )  # fmt: skip
            d.text(99 + 44 * i, y + 60, of, size=14, bold=i == 0)
        d.line((76, y - 4), (122, y - 4), (122, y + 72), (76, y + 72), (76, y - 4),
               colour="orange", width=3)  # fmt: skip
        agree = order[0] in one and order[0] in other
        d.text(
            512, y + 22, "agree" if agree else "differ",
            colour="green" if agree else "ink", bold=True,
        )  # fmt: skip
    return d


@drawing
def bands_that_agree() -> Drawing:
    """Signatures of three pairs of texts: which hashes agree, and which bands."""
    d = Drawing(392)
    pairs = (
        ("ferry and ferry/old", FERRY, FERRY.replace("at noon", "at one"), 3),
        ("sentences A and B", ONE, OTHER, 2),
        ("ferry and lighthouse", FERRY, LIGHT, 3),
    )
    size = 16.5
    for row, (name, first, second, n) in enumerate(pairs):
        y = 46 + 124 * row
        sets = [deduplication.shingles(text, n=n) for text in (first, second)]
        agree = [
            a == b
            for a, b in zip(*deduplication.signatures(sets, 128).tolist(), strict=True)
        ]
        bands = [agree[i : i + 4] for i in range(0, 128, 4)]
        similarity = deduplication.jaccard(*sets)
        found = sum(map(all, bands))
        d.text(16, y - 20, name, anchor="start", bold=True)
        d.text(280, y - 20, f"similarity {similarity:.2f}")
        words = f"{found} bands agree" if found else "no band agrees"
        d.text(544, y - 20, words, anchor="end", bold=True,
               colour="orange" if found else "ink")  # fmt: skip
        for i, band in enumerate(bands):
            x = 16 + size * i
            for j, same in enumerate(band):
                d.box(
                    x + 1, y + size * j, size - 3, size - 2,
                    tint="green" if same else "white", line="green" if same else "grey",
                    rounded=0,
                )  # fmt: skip
            if all(band):
                d.line(
                    (x + 1, y + 72), (x + size - 2, y + 72), colour="orange", width=5
                )
    return d


@drawing
def twelve_pages_become_three() -> Drawing:
    """How far each of the twelve pages gets through the steps."""
    d = Drawing(390)
    steps = (
        "clean", "boiler-\nplate", "lan-\nguage", "quality", "copies", "near\ncopies",
    )  # fmt: skip
    pages = (
        ("lighthouse", 6),
        ("cafe", 6),
        ("ferry", 6),
        ("cafe?lang=en", 5),
        ("ferry/old", 5),
        ("lighthouse?print=1", 4),
        ("archive/lighthouse", 4),
        ("offers", 3),
        ("teaser", 3),
        ("404", 3),
        ("leuchtturm", 2),
        ("empty", 1),
    )
    at = [206 + 60 * i for i in range(6)]
    for x, step in zip(at, steps, strict=True):
        d.text(x, 24, step, size=15, bold=True)
        d.line((x, 46), (x, 352), colour="grey", dashed=True, width=1)
    for row, (name, end) in enumerate(pages):
        y = 62 + 25 * row
        d.text(168, y, name, size=14, anchor="end", mono=True)
        stop = at[end] if end < 6 else 538
        colour = "orange" if end < 6 else "green"
        d.line((176, y), (stop, y), colour=colour, width=3)
        if end < 6:
            for sign in (-1, 1):
                d.line((stop - 6, y - 6 * sign), (stop + 6, y + 6 * sign), width=3,
                       colour="orange")  # fmt: skip
        else:
            d.circle(538, y, 7, tint="green")
    d.text(168, 372, "pages left", size=15, anchor="end", bold=True)
    for i, x in enumerate(at):
        left = sum(end > i for _, end in pages)
        d.text(x, 372, str(left), bold=True)
    return d


@drawing
def contained_but_not_similar() -> Drawing:
    """A near copy shares most of both texts; a leak all of one, little of the other."""
    d = Drawing(280)
    left = 128
    d.text(16, 22, "near copy: similarity finds it", anchor="start", bold=True)
    d.text(16, 62, "one text", anchor="start")
    d.text(16, 102, "the other", anchor="start")
    for y, cut in ((46, 150), (86, 150)):
        d.box(left, y, 190, 30, tint="green", rounded=0)
        d.box(left + cut, y, 14, 30, tint="white", rounded=0)
    d.text(left + 206, 82, "most of both is shared", anchor="start", colour="green")
    d.text(16, 156, "leak: similarity misses it", anchor="start", bold=True)
    d.text(16, 196, "test text", anchor="start")
    d.box(left + 96, 180, 76, 30, tint="green", rounded=0)
    d.text(left + 188, 196, "all of this is shared", anchor="start", colour="green")
    d.text(16, 246, "training text", anchor="start")
    d.box(left, 230, 416, 30, tint="white", rounded=0)
    d.box(left + 96, 230, 76, 30, tint="green", rounded=0)
    for x in (left + 96, left + 172):
        d.line((x, 210), (x, 230), colour="green", dashed=True)
    return d


@drawing
def told_early_needed_late() -> Drawing:
    """Where a tale mentions its facts, along its 134 words."""
    d = Drawing(366)
    story = next(iter(tales.generate(1, seed=3)))
    words = [word.strip('.,!?"') for word in story.text.split()]
    surprise = word_surprises(story.text)
    rows = (
        ("hero", {"Polly": ""}),
        ("trait", {"hasty": ""}),
        ("shade", {"lilac": ""}),
        ("count", {"eleven": "11", "ten": "10", "nine": "9"}),
        ("food", {"apricots": "", "apricot": ""}),
        ("helper", {"finch": ""}),
        ("friend", {"Nadia": ""}),
    )
    left, unit = 134, 3.05
    d.circle(left, 22, 7, tint="orange")
    d.text(left + 14, 22, "first: surprise in nats", anchor="start", colour="orange")
    d.circle(left + 230, 22, 5, tint="green")
    d.text(left + 243, 22, "again: 0.0", anchor="start", colour="green")
    for row, (fact, shown) in enumerate(rows):
        y = 76 + 37 * row
        places = [i for i, word in enumerate(words) if word in shown]
        name = next(iter(shown))
        d.text(left - 14, y, f"{fact}: {name}", anchor="end", size=15)
        d.line((left, y), (left + unit * len(words), y), colour="grey", width=1)
        for i in places:
            x = left + unit * i
            first = i == places[0]
            d.circle(x, y, 7 if first else 5, tint="orange" if first else "green")
            if shown[words[i]]:
                d.text(x, y - 16, shown[words[i]], size=14)
            if first:
                d.text(
                    x + 12, y - 10, f"{surprise[i]:.1f}", size=14, anchor="start",
                    colour="orange", bold=True,
                )  # fmt: skip
            elif surprise[i] > 0.005:
                raise ValueError(f"{words[i]} is not certain at {i}")
    y = 322
    d.arrow((left, y), (548, y))
    for number in (1, 50, 100):
        x = left + unit * (number - 1)
        d.line((x, y - 4), (x, y + 4))
        d.text(x, y + 20, str(number), size=15)
    d.text(546, y + 20, "word", anchor="end", size=15)
    return d


@drawing
def one_flat_file() -> Drawing:
    """Documents joined in one file of ids, and slices of that file."""
    d = Drawing(262)
    d.text(14, 22, "documents", anchor="start", bold=True, colour="blue")
    d.text(14, 126, "one file", anchor="start", bold=True)
    d.text(14, 226, "slices", anchor="start", bold=True, colour="green")
    x = 120.0
    for name, width in (("story 1", 134), ("story 2", 100), ("story 3", 164)):
        d.box(x, 6, width - 26, 34, name, tint="blue")
        d.arrow((x + width / 2 - 13, 44), (x + width / 2 - 13, 106))
        d.box(x, 110, width - 26, 34, "ids", rounded=0)
        d.box(x + width - 26, 110, 26, 34, "0", tint="orange", rounded=0, bold=True)
        d.arrow((x + width - 13, 84), (x + width - 13, 106), colour="orange")
        d.text(x + width - 13, 70, "end", colour="orange")
        x += width
    for y in (23, 127):
        d.text(537, y, "…")
    for x, y in ((182, 156), (360, 156)):
        d.box(x, 210, 130, 32, "ids, 0, ids" if x < 200 else "ids", tint="green")
        for edge in (x, x + 130):
            d.line((edge, y - 8), (edge, 206), dashed=True, colour="green")
    return d
