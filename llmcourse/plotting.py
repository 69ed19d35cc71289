"""Figures of the course: one style, and functions that draw, most into a given `ax`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from math import cos, dist, nan, pi, sin
from pathlib import Path
from statistics import median
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator
from matplotlib.transforms import Bbox
from matplotlib_inline import backend_inline

STYLE = Path(__file__).with_name("course.mplstyle")
LINE_STYLES = ("-", "--", "-.", ":")


def use_course_style() -> None:
    """Set the course's figure style, and PNG figures without a version stamp.

    Otherwise every PNG would contain matplotlib's version, and an upgrade would change
    every figure in the book.
    """
    plt.style.use(STYLE)
    set_formats: Callable[..., None] = backend_inline.set_matplotlib_formats
    set_formats("png", metadata={"Software": None})


def plot_bars(
    ax: Axes, values: Mapping[str, float | int], label: str, digits: int = 2
) -> None:
    """Draw one horizontal bar for each named value, with the value at its end.

    Args:
        ax: Where to draw.
        values: Name to value, drawn from top to bottom.
        label: What the values are, with the unit.
        digits: Digits after the decimal point.
    """
    bars = ax.barh(list(values), list(values.values()), height=0.65)
    ax.bar_label(bars, fmt=f"%.{digits}f", padding=3, fontsize=8)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.margins(x=0.15)
    ax.set(xlabel=label)


def label_lines(ax: Axes, fontsize: float | int = 8) -> list[Annotation]:
    """Write the label of each line at its last point, in its colour: no legend.

    Where ends are close together, labels move up and down as little as needed.

    Args:
        ax: Axes with labelled lines; a line without points gets no label.
        fontsize: In points.

    Returns:
        The labels, from the lowest to the highest.
    """
    ax.figure.canvas.draw()  # lays the figure out
    points = 72 / ax.figure.dpi  # of one pixel
    ends = []
    for line in ax.get_lines():
        if not str(line.get_label()).startswith("_"):
            drawn = np.asarray(line.get_xydata())
            drawn = drawn[np.isfinite(drawn).all(axis=1)]
            if not len(drawn):
                continue
            x, y = drawn[-1].tolist()
            height = line.get_transform().transform((x, y))[1] * points
            ends.append((height, (x, y), line))
    ends.sort(key=lambda end: end[0])
    places = _spread([height for height, _, _ in ends], room=1.25 * fontsize)
    labels = []
    for (height, end, line), place in zip(ends, places, strict=True):
        label = ax.annotate(
            str(line.get_label()),
            end,
            xycoords=line.get_transform(),
            xytext=(6, place - height),
            textcoords="offset points",
            color=line.get_color(),
            fontsize=fontsize,
            verticalalignment="center",
            annotation_clip=False,
        )
        label.set_path_effects([withStroke(linewidth=2, foreground="white")])
        labels.append(label)
    return labels


def _move_off_lines(ax: Axes, labels: Iterable[Annotation]) -> None:
    """Put a label that a line of `ax` crosses under or over its line's end, if it can.

    Args:
        ax: The axes that the labels are of.
        labels: As `label_lines` returns them.
    """
    paths = [line.get_transform().transform_path(line.get_path()) for line in ax.lines]
    for label in labels:
        beside = label.xyann, "left"
        places = beside, ((0, -11), "center"), ((0, 11), "center"), beside
        for position, side in places:
            label.set(position=position, horizontalalignment=side)
            box = label.get_window_extent()
            if not any(path.intersects_bbox(box, filled=False) for path in paths):
                break


def _spread(wanted: Sequence[float | int], room: float | int) -> list[float]:
    """Return places as near as possible to those wanted, at least `room` apart.

    The sum of the squared moves is minimal: what would collide is spread as one group
    around its mean.

    Args:
        wanted: In rising order.
        room: The least distance between neighbours.

    >>> _spread([0, 10, 11, 30], room=4)
    [0.0, 8.5, 12.5, 30.0]
    """
    groups: list[tuple[float, int]] = []  # middle and size of each
    for place in wanted:
        middle, n = float(place), 1
        while groups and middle - groups[-1][0] < room * (n + groups[-1][1]) / 2:
            other, m = groups.pop()
            middle, n = (middle * n + other * m) / (n + m), n + m
        groups.append((middle, n))
    return [middle + room * (i - (n - 1) / 2) for middle, n in groups for i in range(n)]


def plot_loss(
    ax: Axes,
    curves: Mapping[str, tuple[Sequence[float | int], Sequence[float | int]]],
    levels: Mapping[str, float | int],
) -> None:
    """Draw losses over training and the levels to compare them with.

    Curves and levels are labelled at their right ends.

    Args:
        ax: Where to draw.
        curves: Name to (tokens seen, loss in nats per token).
        levels: Name to loss in nats per token: a floor, a baseline, log V.

    Raises:
        ValueError: If a curve's two sequences differ in length.
    """
    for number, (name, (tokens, losses)) in enumerate(curves.items()):
        dense = len(tokens) > 100  # a point per batch: a band, not a line
        style, width = LINE_STYLES[number % len(LINE_STYLES)], 0.7 if dense else None
        alpha = 0.6 if dense else None
        ax.plot(tokens, losses, style, label=name, linewidth=width, alpha=alpha)
    for name, level in levels.items():
        ax.axhline(level, color="0.45", linestyle=":", linewidth=1, label=name)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set(xlabel="tokens seen", ylabel="loss (nats/token)")
    label_lines(ax)


def plot_training(
    curves: Mapping[str, tuple[Sequence[float | int], Sequence[float | int]]],
    levels: Mapping[str, float | int],
) -> None:
    """Draw losses over training, and how far they are above the floor, on a log scale.

    Args:
        curves: As in `plot_loss`.
        levels: As in `plot_loss`; one of them is named "floor".
    """
    _, (ax, above) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    ax.set(ylim=(0, 1.08 * max(levels.values())))
    above.set(yscale="log")
    for panel in (ax, above):
        panel.locator_params(axis="x", nbins=4)
    plot_loss(ax, curves, levels)
    floor = levels["floor"]
    excess = {
        name: (seen, [loss - floor if loss > floor else nan for loss in losses])
        for name, (seen, losses) in curves.items()
    }
    plot_loss(above, excess, {})
    above.set(ylabel="loss above the floor (nats/token)")
    plain_log_ticks(above.yaxis)


def plain_log_ticks(axis: Axis) -> None:
    """Label 1, 2 and 5 times each power of ten on a logarithmic axis, in plain numbers.

    Args:
        axis: Whose scale is logarithmic already; setting the scale undoes this.
    """
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}")


def plot_map(
    ax: Axes,
    points: Sequence[Sequence[float]],
    words: Sequence[str],
    classes: Sequence[str],
) -> list[Text]:
    """Draw words as dots in the colours of their classes, and label what has room.

    The name of each class is written near the middle of its dots. Then words are
    written beside their dots, starting with those farthest from their class's middle; a
    word that would cover a dot or another label is left out.

    Args:
        ax: Where to draw. Its limits and place in the figure are fixed here.
        points: One place for each word.
        words: The words.
        classes: The class of each word.

    Returns:
        The labels, the classes' names first; none covers another.

    Raises:
        ValueError: If there are not as many points and classes as words.
    """
    middles = _draw_dots(ax, points, classes)
    ax.figure.canvas.draw()  # lays the figure out: from here on nothing moves
    dots = [Bbox([p - 2.5, p + 2.5]) for p in ax.transData.transform(points)]
    labels: list[Text] = []
    taken: list[Bbox] = []
    for number, (name, middle) in enumerate(middles.items()):
        label = ax.annotate(
            name, middle, size=8.5, weight="bold", color=f"C{number % 7}"
        )
        labels += _placed(ax, label, taken, [12.0 * step for step in range(8)])
    taken += dots
    order = zip(points, words, classes, strict=True)
    for point, word, _ in sorted(order, key=lambda o: -dist(o[0], middles[o[2]])):
        label = ax.annotate(word, (point[0], point[1]), size=6.5, color="0.25")
        labels += _placed(ax, label, taken, [7.0])
    return labels


def _draw_dots(
    ax: Axes, points: Sequence[Sequence[float]], classes: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Draw the dots of each class, and return the middle of each."""
    middles = {}
    for number, name in enumerate(dict.fromkeys(classes)):
        own = [p for p, held in zip(points, classes, strict=True) if held == name]
        x, y = zip(*own, strict=True)
        middles[name] = median(x), median(y)
        marker = "osD^"[number // 7 % 4]  # there are seven colours
        ax.scatter(x, y, s=8, marker=marker, color=f"C{number % 7}")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.margins(0.08)
    return middles


def _placed(
    ax: Axes, label: Annotation, taken: list[Bbox], reach: Iterable[float]
) -> list[Annotation]:
    """Move a label to where it covers nothing, and note its box; else remove it.

    Args:
        ax: The axes whose width it must not exceed.
        label: The label, at its point.
        taken: Boxes that it must not cover; its own is added.
        reach: Distances from the point to try, in points.
    """
    label.anncoords = "offset points"
    label.set(verticalalignment="center", in_layout=False)
    label.set_path_effects([withStroke(linewidth=2, foreground="white")])
    for radius, turn in product(reach, range(8)):
        x, y = radius * cos(turn * pi / 4), radius * sin(turn * pi / 4)
        side = "center" if abs(x) < 1 else ("left" if x > 0 else "right")
        label.set(position=(x, y), horizontalalignment=side)
        box = label.get_window_extent()
        inside = ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1
        if inside and not any(box.overlaps(other) for other in taken):
            taken.append(box)
            return [label]
    label.remove()
    return []


_ROOTS = (0, 1, 2, 3, 5, 8, 12, 20)  # of the divergences that `plot_against_kl` marks


def plot_against_kl(
    ax: Axes,
    groups: Mapping[str, Sequence[tuple[float, float, float, float]]],
    quantity: Literal["gold", "proxy"] = "gold",
) -> None:
    """Draw rewards over the KL divergence: a line and a band for each group of curves.

    The x axis has a square-root scale: equal steps on it are equal steps of d = √KL.

    Args:
        ax: Where to draw.
        groups: Name to points (KL, mean, lowest and highest reward), as
            `alignment.evaluation.band_of` returns them; none is empty.
        quantity: Which reward is drawn.
    """
    farthest = 1.0
    for number, (name, band) in enumerate(groups.items()):
        colour, style = f"C{number % 7}", LINE_STYLES[number % len(LINE_STYLES)]
        kl, means, low, high = zip(*band, strict=True)
        ax.plot(kl, means, style, marker="o", markersize=3, color=colour, label=name)
        ax.fill_between(kl, low, high, color=colour, alpha=0.15, linewidth=0)
        farthest = max(farthest, *kl)
    # A margin of the axis may lie below 0.
    ax.set_xscale("function", functions=(lambda x: np.maximum(x, 0) ** 0.5, np.square))
    ax.set_xlim(0, 1.05 * farthest)
    ax.xaxis.set_major_locator(FixedLocator([root**2 for root in _ROOTS]))
    ax.set(xlabel="KL (nats/answer), square-root scale")
    ax.set(ylabel=f"{quantity} reward" + " (points)" * (quantity == "gold"))
    if len(groups) > 1:
        _move_off_lines(ax, label_lines(ax))
