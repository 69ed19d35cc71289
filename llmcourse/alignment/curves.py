"""Trainings on a reward, as lines: what was gained, against how far the policy went.

    points of a study ── curves_of ── band_of ── plot_against_kl

The KL divergence says how much a gain has cost of what the policy was before, so it is
the axis on which methods of different speeds can be compared: what counts is not how
soon one arrives, but how much higher one stands at the same distance.

Source: the form of the figures is that of Gao, Schulman and Hilton (2023), "Scaling
laws for reward model overoptimization".
"""

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
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
    """What a policy was at one moment of its training."""

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
    """What became of one policy, from the start of its training to the end."""

    kl: tuple[float, ...]  # from the start, in nats per answer
    gold: tuple[float, ...]  # mean, in points
    proxy: tuple[float, ...]  # mean, without unit


EDGES = (1, 4, 9, 25, 64, 144, 400)  # nats; between the classes of a band


class Band(NamedTuple):
    """Some curves within one class of the KL divergence."""

    kl: float  # mean over the curves, in nats per answer
    mean: float  # of the reward
    low: float  # of the lowest curve
    high: float


def band_of(
    curves: Sequence[Curve], quantity: Literal["gold", "proxy"] = "gold"
) -> list[Band]:
    """Return what some curves have in each class of the KL divergence.

    Every moment of a training is judged by some tens of answers, so single ones are
    noise, and the highest of many is a lucky one. So each curve's moments within a
    class are averaged first, and each curve counts once. A class that a curve never
    was in is left out.

    Args:
        curves: Of several seeds, say.
        quantity: Which reward.

    >>> gold, kl = (4.0, 6.0, 7.0), (0.0, 2.0, 3.0)
    >>> band_of([Curve(kl=kl, gold=gold, proxy=kl)])[1]
    Band(kl=2.5, mean=6.5, low=6.5, high=6.5)
    """
    bands = []
    for number in range(len(EDGES) + 1):
        within = [
            [i for i, kl in enumerate(curve.kl) if bisect(EDGES, kl) == number]
            for curve in curves
        ]
        if not all(within):
            continue
        pairs = list(zip(curves, within, strict=True))
        means = [fmean(getattr(c, quantity)[i] for i in own) for c, own in pairs]
        kl = fmean(fmean(c.kl[i] for i in own) for c, own in pairs)
        bands.append(Band(kl, fmean(means), min(means), max(means)))
    return bands


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
) -> None:
    """Draw rewards over the KL divergence: a line and a band for each group of curves.

    The lower axis is that of d = √KL, so equal steps on it are equal steps of d.

    Args:
        ax: Where to draw.
        groups: Name to the curves, of several seeds for example.
        quantity: What to draw: see `band_of`.

    Raises:
        ValueError: If there is no curve.
    """
    farthest = 0.0
    for number, (name, curves) in enumerate(groups.items()):
        colour, style = f"C{number % 7}", LINE_STYLES[number % len(LINE_STYLES)]
        kl, means, low, high = zip(*band_of(curves, quantity), strict=True)
        ax.plot(kl, means, style, marker="o", markersize=3, color=colour, label=name)
        ax.fill_between(kl, low, high, color=colour, alpha=0.15, linewidth=0)
        farthest = max(farthest, *kl)
    ax.set_xscale("function", functions=(_root, np.square))
    ax.set_xlim(0, 1.05 * max(farthest, 1.0))
    ax.xaxis.set_major_locator(FixedLocator([0, *EDGES]))
    ax.set(xlabel="KL (nats/answer), square-root scale")
    ax.set(ylabel=f"{quantity} reward" + " (points)" * (quantity == "gold"))
    if len(groups) > 1:
        ax.legend()


def _root(x: np.ndarray) -> np.ndarray:
    """Return square roots; 0 below 0, where margins of an axis lie."""
    roots: np.ndarray = np.sqrt(np.maximum(x, 0.0))
    return roots
