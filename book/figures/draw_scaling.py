"""Diagrams of *scaling*: blue is what is held, orange what is sent, green a result."""

from drawing import Drawing, drawing


@drawing
def two_processes_one_step() -> Drawing:
    """Two copies of the model, each with its rows; gradients are added, steps agree."""
    d = Drawing(372)
    for rank, (left, rows) in enumerate(((20, "rows 0, 2"), (310, "rows 1, 3"))):
        middle = left + 115
        d.text(middle, 20, f"process {rank}", bold=True)
        d.box(left, 42, 110, 40, "weights w", tint="blue")
        d.box(left + 120, 42, 110, 40, rows)
        d.arrow((left + 55, 82), (left + 90, 116))
        d.arrow((left + 175, 82), (left + 140, 116))
        d.box(left + 40, 118, 150, 40, f"gradient {rank}", tint="orange")
        d.arrow((middle, 158), (middle, 196), colour="orange")
        d.arrow((middle, 244), (middle, 276), colour="orange")
        d.box(left + 40, 278, 150, 36, "step")
        d.arrow((middle, 314), (middle, 330))
        d.box(left + 60, 330, 110, 34, "weights w′", tint="green")
    d.box(20, 198, 520, 46, "all-reduce: gradient 0 + gradient 1", tint="orange",
          line="orange", bold=True)  # fmt: skip
    d.text(280, 347, "the same", colour="green", bold=True)
    return d


@drawing
def ring_of_three() -> Drawing:
    """What each of three processes holds before, halfway through and after."""
    d = Drawing(268)
    start = [[f"{part}{rank}" for part in "abc"] for rank in range(3)]
    sums = {0: "b", 1: "c", 2: "a"}  # the part whose sum a process has
    stages = (
        (86, "at the start", start),
        (
            254,
            "reduce-scatter",
            [["Σ" + p if sums[r] == p else "" for p in "abc"] for r in range(3)],
        ),
        (422, "all-gather", [["Σ" + part for part in "abc"] for _ in range(3)]),
    )
    for left, name, rows in stages:
        d.text(left + 63, 22, name, bold=True)
        for rank, row in enumerate(rows):

            def tint(_: int, column: int, row: list[str] = row) -> str:
                return (
                    "green" if "Σ" in row[column] else "blue" if row[column] else "none"
                )

            d.cells(
                left, 44 + 66 * rank, [row], width=42, height=44, tint=tint, size=17
            )
    for rank in range(3):
        d.text(40, 66 + 66 * rank, f"process {rank}", size=15)
    for left in (216, 384):
        d.arrow((left, 132), (left + 34, 132), width=2)
    d.text(233, 246, "2 rounds", colour="orange")
    d.text(401, 246, "2 rounds", colour="orange")
    return d


@drawing
def what_zero_shards() -> Drawing:
    """What one of four processes holds, by stage, to scale in bytes per parameter."""
    d = Drawing(262)
    left, scale, n = 116, 22.0, 4
    whole = (
        ("weights", 2, "blue"),
        ("gradients", 2, "orange"),
        ("optimizer", 12, "grey"),
    )
    for x, (name, _, colour) in zip((140, 226, 340), whole, strict=True):
        d.text(x, 20, name, bold=True, colour=colour)
    d.text(546, 20, "bytes", anchor="end", bold=True)
    for stage, name in enumerate(("DDP", "ZeRO-1", "ZeRO-2", "FSDP")):
        y = 40 + 56 * stage
        d.text(16, y + 20, name, anchor="start", bold=True)
        x, held = float(left), 0.0
        for place, (_, n_bytes, tint) in enumerate(whole):
            share = n_bytes / n if place >= 3 - stage else n_bytes
            d.box(x, y, scale * n_bytes, 40, tint="none", line="grey", dashed=True,
                  rounded=0)  # fmt: skip
            d.box(x, y, scale * share, 40, tint=tint, rounded=0)
            x += scale * n_bytes + 6
            held += share
        d.text(546, y + 20, f"{held:g}", anchor="end", bold=True, colour="green")
    return d


@drawing
def feed_forward_in_two() -> Drawing:
    """A feed-forward network cut by hidden units, and the one sum at its end."""
    d = Drawing(236)
    d.box(14, 92, 56, 44, "x", tint="blue")
    for rank, y in enumerate((36, 148)):
        d.arrow((70, 114), (106, y + 26))
        d.box(108, y, 124, 52, "half of gate,\nhalf of up", tint="grey", size=15)
        d.arrow((232, y + 26), (256, y + 26))
        d.box(258, y, 80, 52, "half of\nhidden", size=15)
        d.arrow((338, y + 26), (362, y + 26))
        d.box(364, y, 70, 52, "half of\ndown", tint="grey", size=15)
        d.arrow((434, y + 26), (464, 114 + (10 if rank else -10)), colour="orange")
        d.text(272, y - 16 if rank == 0 else y + 70, f"process {rank}", bold=True)
    d.circle(476, 114, 15, "+", tint="orange")
    d.text(496, 68, "all-reduce", colour="orange", size=15)
    d.arrow((491, 114), (508, 114))
    d.box(510, 92, 40, 44, "y", tint="green")
    return d


@drawing
def pipeline_of_four_stages() -> Drawing:
    """Micro-batches forward and backward through four stages, and who waits."""
    stages, parts = 4, 4
    steps = 2 * (parts + stages - 1)
    d = Drawing(250)
    left, width = 84, 33
    for stage in range(stages):
        y = 42 + 40 * stage
        d.text(14, y + 17, f"stage {stage + 1}", anchor="start")
        for step in range(steps):
            forward = step - stage
            backward = step - (parts + stages - 1) - (stages - 1 - stage)
            x = left + width * step
            if 0 <= forward < parts:
                d.box(x, y, width, 34, str(forward + 1), tint="blue", rounded=0)
            elif 0 <= backward < parts:
                d.box(x, y, width, 34, str(parts - backward), tint="orange", rounded=0)
            else:
                d.box(x, y, width, 34, tint="none", line="grey", dashed=True, rounded=0)
    d.text(left + width * 2, 22, "forward", bold=True, colour="blue")
    d.text(left + width * 12, 22, "backward", bold=True, colour="orange")
    d.arrow((left, 218), (left + width * steps, 218))
    d.text(left + width * steps / 2, 236, f"{steps} time steps")
    return d
