"""Trainings on a reward, as lines: what was gained, against how far the policy went.

    points of a study ── curves_of ── smoothed ── plot_against_kl

The KL divergence says how much a gain has cost of what the policy was before, so it is
the axis on which methods of different speeds can be compared: what counts is not how
soon one arrives, but how much higher one stands at the same distance.

Source: the form of the figures is that of Gao, Schulman and Hilton (2023), "Scaling
laws for reward model overoptimization".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import sqrt
from statistics import fmean
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from llmcourse.plotting import LINE_STYLES


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What made one policy of the study."""

    method: str  # ppo, grpo or dpo
    n_pairs: int  # that the reward model, or DPO, learns from
    cost: float | int  # of leaving the start: KL weight, or DPO's beta
    seed: int = 0  # of the policy's training
    reward_seed: int = 0  # of the reward model's, and of which pairs it learns from


@dataclass(frozen=True, kw_only=True)
class StudyPoint(Experiment):
    """Where a policy stood at one moment of its training."""

    step: int  # updates of DPO, iterations of the others
    kl: float  # from the start, in nats per answer
    gold: float  # mean, in points
    proxy: float  # mean, without unit
    accuracy: float  # of the reward model on held-out pairs, as a fraction

    @property
    def experiment(self) -> Experiment:
        """Which policy it was."""
        names = [field.name for field in fields(Experiment)]
        return Experiment(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Where one policy stood, from the start of its training to the end."""

    kl: tuple[float, ...]  # from the start, in nats per answer
    gold: tuple[float, ...]  # mean, in points
    proxy: tuple[float, ...]  # mean, without unit

    def smoothed(self, width: int) -> "Curve":
        """Return the curve of means over `width` moments, fewer towards both ends.

        Every moment of a training is judged by some tens of answers, so single ones
        are noise.

        Raises:
            ValueError: If the width is not odd and positive.

        >>> gold, rest = (4.0, 7.0, 7.0), (0.0, 1.0, 5.0)
        >>> Curve(kl=rest, gold=gold, proxy=rest).smoothed(3).gold
        (4.0, 6.0, 7.0)
        """
        if width < 1 or width % 2 == 0:
            raise ValueError(f"width must be odd and positive, got {width}")
        return Curve(
            kl=_means(self.kl, width),
            gold=_means(self.gold, width),
            proxy=_means(self.proxy, width),
        )


def _means(values: Sequence[float], width: int) -> tuple[float, ...]:
    """Return means around each value, over as many before it as after it."""
    reach = [min(i, len(values) - 1 - i, width // 2) for i in range(len(values))]
    return tuple(fmean(values[i - k : i + k + 1]) for i, k in enumerate(reach))


def curves_of(points: Sequence[StudyPoint]) -> dict[Experiment, Curve]:
    """Return the curve of each policy, in order of their first points."""
    found: dict[Experiment, list[StudyPoint]] = {}
    for point in points:
        found.setdefault(point.experiment, []).append(point)
    for own in found.values():
        own.sort(key=lambda point: point.step)
    return {
        experiment: Curve(
            kl=tuple(point.kl for point in own),
            gold=tuple(point.gold for point in own),
            proxy=tuple(point.proxy for point in own),
        )
        for experiment, own in found.items()
    }


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
