"""Diagrams of the chapter *scaling_laws*.

Orange is what comes from the size of the model, blue what comes from the text, grey the
floor.
"""

import math

from drawing import Drawing, drawing


@drawing
def one_budget_three_sizes() -> Drawing:
    """The loss of three models with the same budget, in its three parts."""
    d = Drawing(250)
    left, scale = 166, 132.0  # pixels for a nat
    d.text(14, 22, "parameters", anchor="start", bold=True)
    for x, name, colour in (
        (left + 33, "floor", "grey"),
        (left + 150, "size", "orange"),
        (left + 270, "text", "blue"),
    ):
        d.text(x, 22, name, bold=True, colour=colour)
    for number, size in enumerate((5_000, 10_000, 20_000)):
        y = 44 + 66 * number
        parts = (0.5, 100 / math.sqrt(size), 1000 / math.sqrt(1e10 / size))
        d.text(14, y + 22, f"{size:,}", anchor="start")
        x = float(left)
        for part, tint in zip(parts, ("grey", "orange", "blue"), strict=True):
            d.box(x, y, scale * part, 44, f"{part:.2f}", tint=tint, rounded=2)
            x += scale * part
        best = size == 10_000
        colour = "green" if best else "ink"
        d.text(x + 6, y + 22, f"{sum(parts):.2f}", anchor="start", bold=best,
               colour=colour)  # fmt: skip
    return d


@drawing
def six_flops_for_a_weight() -> Drawing:
    """What one weight costs for one token: forward once, backward twice."""
    d = Drawing(250)
    rows = (
        ("forward", "y  +=  w · x", "output of the layer", "blue"),
        ("backward", "∂w  +=  x · ∂y", "gradient of the weight", "orange"),
        ("backward", "∂x  +=  w · ∂y", "for the layer below", "orange"),
    )
    for number, (way, formula, what, tint) in enumerate(rows):
        y = 14 + 62 * number
        d.text(14, y + 24, way, anchor="start", bold=True)
        d.box(110, y, 150, 48, formula, tint=tint)
        d.text(274, y + 24, what, anchor="start")
        d.text(546, y + 24, "2 FLOPs", anchor="end", bold=True)
    d.line((440, 204), (546, 204))
    d.text(546, 224, "6 FLOPs", anchor="end", bold=True, colour="green")
    d.text(14, 224, "a weight w between an input x and an output y", anchor="start")
    return d


@drawing
def compute_optimal_frontier() -> Drawing:
    """Lines of equal budget, the lowest loss on each, and the line through the dots."""
    d = Drawing(300)
    left, bottom, right, top = 60, 250, 530, 20
    d.arrow((left, bottom), (left, top))
    d.arrow((left, bottom), (right, bottom))
    d.text(right, bottom + 20, "parameters N, log scale", anchor="end")
    d.text(left + 10, top + 4, "tokens D, log scale", anchor="start")
    for number, budget in enumerate(("C", "4C", "16C")):
        shift = 95 * number
        middle = (150 + shift, 190 - 0.62 * shift)
        start = (middle[0] - 70, middle[1] - 46)
        end = (middle[0] + 66, middle[1] + 43)
        d.line(start, end, colour="blue", width=2)
        d.circle(*middle, 6, tint="green")
        d.text(end[0] + 8, end[1] - 4, budget, anchor="start", colour="blue")
    d.arrow((110, 215), (425, 19.5), colour="green", dashed=True)
    d.text(452, 44, "frontier", colour="green", anchor="start", bold=True)
    d.text(430, 190, "too large,\nread too little", colour="grey")
    d.text(72, 62, "too small,\nread too much", anchor="start", colour="grey")
    return d
