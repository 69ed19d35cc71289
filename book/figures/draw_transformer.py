"""Diagrams of the chapter *transformer*."""

from drawing import Drawing, drawing

PARTS = (
    (205, "attention", "orange", "gathers from\nearlier places"),
    (85, "feed-forward\nnetwork", "green", "each place\nby itself"),
)


@drawing
def transformer_block() -> Drawing:
    """A block: two parts that read the stream, and add to it."""
    d = Drawing(310)
    d.text(90, 20, "residual stream", size=15, colour="blue", bold=True)
    d.arrow((90, 300), (90, 36), colour="blue", width=5)
    for y, name, tint, note in PARTS:
        d.line((90, y + 60), (170, y + 60))
        d.box(170, y + 42, 84, 36, "norm", tint="grey")
        d.arrow((254, y + 60), (296, y + 60))
        d.box(296, y + 30, 130, 60, name, tint=tint, bold=True)
        d.arrow((361, y + 30), (361, y), (104, y))
        d.circle(90, y, 13, "+")
        d.text(438, y + 60, note, size=15, colour="grey", anchor="start")
    return d
