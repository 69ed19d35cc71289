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
from typing import Literal, NamedTuple

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
    """Where one policy stood, from the start of its training to the end.

    Raises:
        ValueError: If there is no moment, or the lists are not of one length.
    """

    kl: tuple[float, ...]  # from the start, in nats per answer
    gold: tuple[float, ...]  # mean, in points
    proxy: tuple[float, ...]  # mean, without unit

    def __post_init__(self) -> None:
        """Raise ValueError for lists that make no curve."""
        lengths = {len(self.kl), len(self.gold), len(self.proxy)}
        if len(lengths) > 1 or not self.kl:
            raise ValueError(
                "a curve needs as many KL divergences as gold and proxy rewards, at "
                f"least one, got {len(self.kl)}, {len(self.gold)}, {len(self.proxy)}"
            )

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


class GoldLaw(NamedTuple):
    """Gold reward over d = √KL: start + d (rise − fall · ln d)."""

    start: float  # in points
    rise: float  # in points per √nat
    fall: float  # the same, for each e-fold of d

    def gold(self, kl: float) -> float:
        """Return the gold reward at a KL divergence, in points."""
        d = sqrt(max(kl, 0.0))
        return self.start + (d * (self.rise - self.fall * np.log(d)) if d else 0.0)


def fit_gold(curve: Curve) -> GoldLaw:
    """Return the law that comes closest to the gold rewards of a curve.

    The start is the curve's first gold reward; the other two are found by least
    squares.

    Raises:
        ValueError: If fewer than two moments are away from the start.

    Source: Gao, Schulman and Hilton (2023), section 3.1, for reinforcement learning.

    >>> law = GoldLaw(start=4.0, rise=2.0, fall=0.5)
    >>> kl = (0.0, 1.0, 4.0, 25.0, 100.0)
    >>> gold = tuple(law.gold(x) for x in kl)
    >>> [round(float(x), 6) for x in fit_gold(Curve(kl=kl, gold=gold, proxy=kl))]
    [4.0, 2.0, 0.5]
    """
    kl, gold = np.array(curve.kl), np.array(curve.gold)
    away = kl > 0
    away[0] = False
    if away.sum() < 2:
        raise ValueError(
            f"a law needs two moments away from the start, got {int(away.sum())}"
        )
    d = np.sqrt(kl[away])
    columns = np.stack((d, -d * np.log(d)), axis=1)
    (rise, fall), *_ = np.linalg.lstsq(columns, gold[away] - gold[0], rcond=None)
    return GoldLaw(float(gold[0]), float(rise), float(fall))


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
