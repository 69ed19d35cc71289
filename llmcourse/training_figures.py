"""Figures of trainings: losses over tokens, scaling laws, rewards over KL divergence.

They are no part of `plotting`, which every chapter loads, as they load what they draw.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from llmcourse.alignment.curves import Curve
from llmcourse.plotting import LINE_STYLES
from llmcourse.training.config import History
from llmcourse.training.scaling import Law, Point


def plot_loss(
    ax: Axes,
    curves: Mapping[str, tuple[Sequence[float | int], Sequence[float | int]]],
    levels: Mapping[str, float | int],
) -> None:
    """Draw losses over training and the levels to compare them with.

    Args:
        ax: Where to draw.
        curves: Name to (tokens seen, loss in nats per token).
        levels: Name to loss in nats per token: a floor, a baseline, log V.

    Raises:
        ValueError: If a curve's two sequences differ in length or are empty.
    """
    for number, (name, (tokens, losses)) in enumerate(curves.items()):
        if len(tokens) != len(losses) or not tokens:
            raise ValueError(
                f"curve {name!r} needs as many tokens as losses, at least one, "
                f"got {len(tokens)} and {len(losses)}"
            )
        ax.plot(tokens, losses, LINE_STYLES[number % len(LINE_STYLES)], label=name)
    beside = ax.get_yaxis_transform()  # x in widths of the axes, y in nats
    for name, level in levels.items():
        ax.axhline(level, color="0.45", linestyle=":", linewidth=1)
        ax.text(1.01, level, name, transform=beside, va="center", fontsize=8)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set(xlabel="tokens seen", ylabel="loss (nats/token)")
    if len(curves) > 1:
        ax.legend()


def plot_history(
    ax: Axes, history: History, tokens_per_step: int, levels: Mapping[str, float | int]
) -> None:
    """Draw the losses of a training, on its batches and on held-out text.

    Args:
        ax: Where to draw.
        history: What `pretrain` returned.
        tokens_per_step: Batch size times context length.
        levels: As in `plot_loss`.
    """
    updates, evaluations = history.updates, history.evaluations
    curves = {
        "training batches": (
            [update.step * tokens_per_step for update in updates],
            [update.loss for update in updates],
        ),
        "held-out text": (
            [evaluation.step * tokens_per_step for evaluation in evaluations],
            [evaluation.loss for evaluation in evaluations],
        ),
    }
    plot_loss(ax, curves, levels)


def plot_scaling(
    ax: Axes, points: Sequence[Point], law: Law, floor: float | int
) -> None:
    """Draw the losses of trainings of several sizes over tokens, and a law.

    Both axes are logarithmic. Each size of model has a colour and a mark of its own,
    and its number of parameters is written at the end of its line.

    Args:
        ax: Where to draw.
        points: The trainings; those the law was not fitted to may be among them.
        law: Drawn as a line for each size.
        floor: The lowest possible loss, in nats per token.

    Raises:
        ValueError: If there is no point.
    """
    if not points:
        raise ValueError("plot_scaling needs at least one point, got none")
    texts = sorted({point.n_tokens for point in points})
    along = [texts[0] * (texts[-1] / texts[0]) ** (i / 40) for i in range(41)]
    for number, size in enumerate(sorted({point.n_parameters for point in points})):
        own = [(p.n_tokens, p.loss) for p in points if p.n_parameters == size]
        colour, mark = f"C{number % 7}", "osD^v"[number % 5]
        losses = [law.loss(size, n) for n in along]
        ax.plot(along, losses, linewidth=1, color=colour)
        ax.plot(*zip(*own, strict=True), mark, markersize=4, color=colour)
        name = f" {size:,}"
        ax.text(along[-1], losses[-1], name, color=colour, va="center", fontsize=8)
    ax.axhline(floor, color="0.45", linestyle=":", linewidth=1)
    ax.text(texts[0], floor, "floor", va="bottom", fontsize=8)
    ax.set(xscale="log", yscale="log", xlabel="tokens, log scale")
    ax.set(ylabel="loss (nats/token), log scale")
    ax.yaxis.set_major_locator(FixedLocator([0.25, 0.5, 1, 2, 4]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter("{x:g}")


def plot_against_kl(
    ax: Axes,
    groups: Mapping[str, Sequence[Curve]],
    quantity: Literal["gold", "proxy"] = "gold",
    width: int = 1,
) -> None:
    """Draw rewards over the KL divergence, a colour and a line style for each group.

    The lower axis is that of d = √KL, so equal steps on it are equal steps of d. A
    dot stands at the end of each training.

    Args:
        ax: Where to draw.
        groups: Name to the curves, of several seeds for example.
        quantity: What to draw.
        width: As in `Curve.smoothed`.

    Raises:
        ValueError: If there is no curve, or as `Curve.smoothed`.
    """
    if not any(groups.values()):
        raise ValueError("plot_against_kl needs at least one curve, got none")
    for number, (name, curves) in enumerate(groups.items()):
        colour, style = f"C{number % 7}", LINE_STYLES[number % len(LINE_STYLES)]
        for order, curve in enumerate(curves):
            smooth = curve.smoothed(width)
            kl = [max(x, 0.0) for x in smooth.kl]
            heights = smooth.gold if quantity == "gold" else smooth.proxy
            label = "" if order else name
            ax.plot(kl, heights, style, color=colour, linewidth=1.2, label=label)
            ax.plot(kl[-1:], heights[-1:], "o", color=colour, markersize=3.5)
    ax.set_xscale("function", functions=(_root, np.square))
    farthest = max(x for curves in groups.values() for c in curves for x in c.kl)
    ax.set_xlim(0, 1.05 * max(farthest, 1.0))
    ax.xaxis.set_major_locator(FixedLocator(_ticks(farthest)))
    ax.set(xlabel="KL (nats/answer), square-root scale")
    ax.set(ylabel=f"{quantity} reward" + " (points)" * (quantity == "gold"))
    if len(groups) > 1:
        ax.legend()


def _ticks(farthest: float) -> list[float]:
    """Return round numbers that are far enough from each other as square roots."""
    found = [0.0]
    for power in range(-1, 6):
        for digit in (1, 2, 5):
            x = digit * 10.0**power
            if x <= farthest and sqrt(x) - sqrt(found[-1]) > 0.11 * sqrt(farthest):
                found.append(x)
    return found


def _root(x: np.ndarray) -> np.ndarray:
    """Return square roots; 0 below 0, where margins of an axis lie."""
    roots: np.ndarray = np.sqrt(np.maximum(x, 0.0))
    return roots
