"""Diagrams of *deployment*: orange is what is computed, blue what comes in."""

from drawing import Drawing, drawing

REQUESTS = {"A": 2, "B": 7, "C": 3, "D": 1, "E": 4}
TINTS = dict(zip(REQUESTS, ("orange", "blue", "green", "pink", "grey"), strict=True))


@drawing
def three_ways_to_share_steps() -> Drawing:
    """One by one, in fixed pairs, and with slots that are refilled at once."""
    d = Drawing(346)
    step = 30

    def run(x: float, y: float, name: str) -> float:
        width = step * REQUESTS[name]
        d.box(x, y, width, 28, name, tint=TINTS[name], rounded=0, bold=True)
        return x + width

    def idle(x: float, y: float, end: float) -> None:
        d.box(x, y, end - x, 28, tint="none", line="grey", dashed=True, rounded=0)

    def title(y: float, words: str, n_steps: int) -> None:
        d.text(16, y, words, anchor="start", bold=True)
        d.text(526, y, f"{n_steps} steps", anchor="end", colour="orange", bold=True)

    title(20, "one after the other", sum(REQUESTS.values()))
    x = 16.0
    for name in REQUESTS:
        x = run(x, 36, name)
    pairs = ("AB", "CD", "E")
    title(100, "in fixed pairs", sum(max(REQUESTS[n] for n in p) for p in pairs))
    x = 16.0
    for pair in pairs:
        end = x + step * max(REQUESTS[name] for name in pair)
        for row, name in enumerate(pair):
            done = run(x, 116 + 28 * row, name)
            if done < end:
                idle(done, 116 + 28 * row, end)
        if len(pair) == 1:
            idle(x, 144, end)
        x = end
    ends = [0, 0]
    for name, length in REQUESTS.items():
        slot = ends.index(min(ends))
        run(16 + step * ends[slot], 224 + 28 * slot, name)
        ends[slot] += length
    title(208, "a free slot goes to the next request", max(ends))
    idle(16 + step * min(ends), 224 + 28 * ends.index(min(ends)), 16 + step * max(ends))
    for number in range(1, 18):
        d.text(1 + step * number, 300, f"{number}", size=15, colour="grey")
    d.text(16, 326, "steps; dashed: an idle slot", size=15, anchor="start",
           colour="grey")  # fmt: skip
    return d


@drawing
def weights_fetched_once() -> Drawing:
    """The same weights are fetched for 256 tokens, for one, and for sixteen."""
    d = Drawing(302)
    columns = (
        ("prefill", 256, "256 tokens"),
        ("decode, alone", 1, "1 token"),
        ("decode, 16", 16, "16 tokens"),
    )
    for number, (name, n_tokens, words) in enumerate(columns):
        middle = 94 + 186 * number
        d.text(middle, 20, name, bold=True)
        d.box(middle - 74, 38, 148, 50, "all weights", tint="grey")
        d.arrow((middle, 88), (middle, 122))
        size = 7
        rows, wide = (16, 16) if n_tokens == 256 else (1, n_tokens)
        left, top = middle - wide * size / 2, 126
        d.box(left, top, wide * size, rows * size, tint="orange", rounded=0)
        for k in range(1, wide):
            at = left + k * size
            d.line((at, top), (at, top + rows * size), colour="orange", width=0.7)
        for k in range(1, rows):
            at = top + k * size
            d.line((left, at), (left + wide * size, at), colour="orange", width=0.7)
        d.text(middle, 256, words)
        flops = f"{n_tokens / 2:g}" if n_tokens > 1 else "1/2"
        d.text(middle, 282, f"{flops} FLOPs per byte", colour="orange", bold=True)
    return d


@drawing
def caches_beside_the_weights() -> Drawing:
    """To scale: the weights, and the caches of sixteen requests."""
    d = Drawing(164)
    scale = 5.25
    d.text(16, 20, "weights, shared by all: 18.6 MiB", anchor="start", bold=True)
    d.box(16, 36, 18.6 * scale, 30, tint="grey", rounded=0)
    d.text(16, 100, "caches, one for each of 16 requests: 96 MiB", anchor="start",
           bold=True)  # fmt: skip
    d.cells(16, 116, [["6"] * 16], width=6 * scale, height=30,
            tint=lambda _, j: "orange")  # fmt: skip
    return d


@drawing
def rounding_to_eight_and_four_bits() -> Drawing:
    """Four weights of a row on a scale of 255 numbers, and on one of 15."""
    d = Drawing(286)
    row = (0.30, -0.11, 0.02, -0.27)
    largest = max(map(abs, row))

    def x(weight: float) -> float:
        return 312 + 750 * weight

    def signed(words: str) -> str:
        return words.replace("-", "−")

    for y, words in ((56, "8 bits"), (134, "weights"), (212, "4 bits")):
        d.text(14, y, words, anchor="start", bold=True)
    d.text(14, 264, "times scale", anchor="start", size=15, colour="grey")
    for y, steps, side in ((56, 127, 1), (212, 7, -1)):
        scale = largest / steps
        d.line((x(-largest), y), (x(largest), y), colour="grey")
        for step in range(-steps, steps + 1, 2 if steps == 127 else 1):
            at, thin = x(step * scale), 0.5 if steps == 127 else 1.2
            d.line((at, y - 7), (at, y + 7), colour="grey", width=thin)
        for weight in row:
            number = round(weight / scale)
            at = x(number * scale)
            d.arrow((x(weight), 134 - 7 * side), (at, y + 9 * side), colour="blue")
            d.text(at, y - 26 * side, signed(f"{number}"), bold=True, colour="orange")
            if steps == 7:
                back = signed(f"{number * scale:.2f}") if number else "0"
                d.text(at, 264, back, size=15, colour="grey")
    for weight in row:
        d.circle(x(weight), 134, 6, tint="blue")
        side = -1 if weight == largest else 1
        d.text(x(weight) + 12 * side, 134, signed(f"{weight:.2f}"), size=15,
               anchor="start" if side > 0 else "end")  # fmt: skip
    return d


@drawing
def slots_queue_and_429() -> Drawing:
    """Eight requests are answered, sixteen wait, and any others are refused."""
    d = Drawing(196)
    d.box(16, 62, 112, 52, "60 requests", tint="blue")
    d.arrow((128, 88), (168, 88), width=2)
    d.text(250, 40, "queue: 16 places", bold=True)
    d.cells(170, 66, [[""] * 8] * 2, width=20, height=22, tint=lambda i, j: "grey")
    d.arrow((330, 88), (370, 88), width=2)
    d.text(430, 40, "8 slots", bold=True)
    d.cells(372, 60, [[""] * 4] * 2, width=29, height=28, tint=lambda i, j: "orange")
    d.arrow((488, 88), (546, 88), width=2, colour="green")
    d.text(517, 134, "answers", size=15, colour="green")
    d.arrow((72, 114), (72, 150), colour="pink", width=2)
    d.text(16, 170, "all full: 429, try again later", colour="pink", anchor="start",
           bold=True)  # fmt: skip
    return d


@drawing
def slots_and_pages() -> Drawing:
    """A whole window for each request, or pages as they are needed."""
    d = Drawing(296)
    used = {"A": 3, "B": 1, "C": 5}
    tints = {"A": "orange", "B": "blue", "C": "green", "": "white"}
    d.text(16, 20, "a window for each request", anchor="start", bold=True)
    for number, (name, pages) in enumerate(used.items()):
        cells = [name] * pages + [""] * (8 - pages)
        d.cells(16, 36 + 36 * number, [cells], width=44, height=30,
                tint=lambda _, j, cells=cells: tints[cells[j]])  # fmt: skip
    d.text(384, 87, "the rest is reserved", size=15, colour="grey", anchor="start")
    d.text(16, 176, "pages as they are needed", anchor="start", bold=True)
    cells = list("CAACBCCAC") + [""] * 15
    for row in range(3):
        part = cells[8 * row : 8 * row + 8]
        d.cells(16, 192 + 30 * row, [part], width=44, height=30,
                tint=lambda _, j, part=part: tints[part[j]])  # fmt: skip
    d.text(384, 237, "free for others", size=15, colour="green", anchor="start")
    return d


@drawing
def guesses_checked() -> Drawing:
    """Guesses are kept up to the first wrong one, which the large model replaces."""
    d = Drawing(220)
    guesses = ("lived", "in", "the", "woods")
    own = ("lived", "in", "a", "")
    d.text(16, 20, "Ida, a bossy girl, …", anchor="start", italic=True)
    rows = (("small model,\n4 steps", guesses, 42), ("large model,\n1 step", own, 122))
    for name, words, top in rows:
        d.text(16, top + 20, name, anchor="start", size=15)
        for k, word in enumerate(words):
            right = k < 2
            tint = "green" if right else "pink" if top < 100 else "orange"
            if word:
                d.box(150 + 100 * k, top, 88, 40, word, tint=tint)
            if top < 100 and k < 3:
                d.arrow((194 + 100 * k, 82), (194 + 100 * k, 120))
                d.text(206 + 100 * k, 101, "✓" if right else "✗", anchor="start",
                       bold=True)  # fmt: skip
    d.text(494, 101, "dropped", size=15, colour="pink")
    d.bracket(150, 176, 288)
    d.text(294, 206, "3 tokens from one step of the large model", bold=True)
    return d


@drawing
def prefill_then_decode() -> Drawing:
    """The whole prompt at once, then one token per step, looking at the cache."""
    d = Drawing(258)
    size, prompt, written = 26, 9, ("I", "da", ",", "a")
    d.text(120 + size * prompt / 2, 20, "the prompt", size=15, colour="grey")
    d.text(14, 51, "prefill", anchor="start", bold=True)
    d.cells(120, 36, [[""] * prompt], width=size, height=30,
            tint=lambda i, j: "orange")  # fmt: skip
    for step in range(1, 4):
        y = 36 + 44 * step
        d.text(14, y + 15, f"decode {step}", anchor="start", bold=True)
        old = prompt + step - 1
        d.cells(120, y, [[""] * old], width=size, height=30,
                tint=lambda i, j: "grey")  # fmt: skip
        d.cells(120 + size * old, y, [[""]], width=size, height=30,
                tint=lambda i, j: "orange")  # fmt: skip
    for step, word in enumerate(written):
        y = 51 + 44 * step
        right = 120 + size * (prompt + step)
        d.arrow((right, y), (right + 26, y))
        d.box(right + 28, y - 15, 36, 30, word, tint="green", rounded=15)
    d.text(120, 232, "orange: computed in this step; grey: in the cache", size=15,
           anchor="start")  # fmt: skip
    return d


@drawing
def percentiles_of_120_answers() -> Drawing:
    """Which of 120 answers, sorted from fastest to slowest, each percentile is."""
    d = Drawing(150)

    def x(place: int) -> float:
        return 16 + 4.4 * (place - 0.5)

    d.box(16, 78, 4.4 * 120, 28, tint="grey", rounded=0)
    for k in range(1, 120):
        d.line((16 + 4.4 * k, 78), (16 + 4.4 * k, 106), colour="grey", width=0.5)
    for p, top in ((50, 52), (95, 52), (99, 26)):
        place = -(-p * 120 // 100)
        words = f"p{p}: the {place}th"
        d.line((x(place), 106), (x(place), top + 12), colour="orange", width=3)
        anchor = "middle" if p == 50 else "end"
        d.text(x(place) + (0 if p == 50 else 6), top, words, anchor=anchor, bold=True,
               colour="orange")  # fmt: skip
    d.text(16, 128, "fastest", anchor="start", size=15, colour="grey")
    d.text(544, 128, "slowest", anchor="end", size=15, colour="grey")
    return d


@drawing
def rows_for_every_slot() -> Drawing:
    """A product has a row for every slot, so each row is computed in the same way."""
    d = Drawing(222)
    for number, (name, taken) in enumerate((("alone", 1), ("with seven others", 8))):
        left = 16 + 280 * number
        d.text(left + 110, 20, name, bold=True)
        for row in range(8):
            tint = "orange" if row == 0 else "blue" if row < taken else "white"
            d.box(left, 40 + 18 * row, 84, 18, tint=tint, line="grey", rounded=0)
        d.text(left + 104, 112, "×")
        d.box(left + 122, 70, 84, 84, "weights", tint="grey")
        d.text(left, 204, "a row for each slot", size=15, anchor="start")
    return d
