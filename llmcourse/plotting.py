"""Figures of the course: one style, and functions that draw into a given `ax`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib_inline import backend_inline

from llmcourse.pretraining import History

STYLE = Path(__file__).with_name("course.mplstyle")
LINE_STYLES = ("-", "--", "-.", ":")


def use_course_style() -> None:
    """Set the course's figure style, and PNG figures without a version stamp.

    Without the second part every PNG would carry matplotlib's version, and an
    upgrade would rewrite every figure of the book.
    """
    plt.style.use(STYLE)
    set_formats: Callable[..., None] = backend_inline.set_matplotlib_formats
    set_formats("png", metadata={"Software": None})


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


def plot_bars(
    ax: Axes, values: Mapping[str, float | int], label: str, digits: int = 2
) -> None:
    """Draw one horizontal bar for each named value, with the value at its end.

    Args:
        ax: Where to draw.
        values: Name to value, drawn from top to bottom.
        label: What the values are, with the unit.
        digits: Digits after the decimal point.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("plot_bars needs at least one value, got none")
    bars = ax.barh(list(values), list(values.values()), height=0.65)
    ax.bar_label(bars, fmt=f"%.{digits}f", padding=3, fontsize=8)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.margins(x=0.15)
    ax.set(xlabel=label)
