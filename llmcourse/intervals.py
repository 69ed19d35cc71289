"""How certain a measured number is: intervals for shares and for means.

A score on n questions is a sample: other questions would have given a different score.
`wilson_interval` takes a number of successes, `bootstrap_interval` any values:

    9 of 10 right              →  0.60 … 0.98    (wilson)
    mean of 0, 1, 1, 1, 0, …   →  drawn again and again from the values themselves

`win_rate` compares two methods, item by item. All assume that the n outcomes are
independent. Where they are not, as with many questions about one word, average over
each word first and pass one value per word.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from llmcourse.arguments import check_range

LEVEL = 0.95  # confidence: the share of such intervals that hold the true value
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)  # 1.96


class Interval(NamedTuple):
    """Where a quantity lies, with 95 % confidence."""

    low: float
    high: float


class Count(NamedTuple):
    """How many of some cases were right: answers, stories, facts.

    >>> Count(1, 4).share
    0.25
    """

    right: int
    n: int

    @property
    def share(self) -> float:
        """Share of the right ones, as a fraction."""
        return self.right / self.n

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the share that more cases would show."""
        return wilson_interval(self.right, self.n)

    def to_json(self) -> dict[str, Any]:
        """Return counts, share and interval."""
        interval = self.interval._asdict()
        return self._asdict() | {"share": self.share, "interval": interval}


def wilson_interval(successes: int, n: int) -> Interval:
    """Return the Wilson interval of a success rate at 95 %, as fractions of one.

    It contains the rates p from which the observed one is less than z standard
    deviations away, where the deviation is that of p itself, √(p (1 − p) / n). Unlike
    "rate ± z deviations" it works for few trials, and for rates near 0 or 1.

    Args:
        successes: How many of the trials succeeded.
        n: Number of independent trials.

    Raises:
        ValueError: If there is no trial, or successes are not in 0 … n.

    Source: Wilson (1927), "Probable inference"; compared with others by Brown, Cai
    and DasGupta (2001).

    >>> low, high = wilson_interval(9, 10)
    >>> round(low, 2), round(high, 2)
    (0.6, 0.98)
    """
    check_range(1, n=n)
    check_range(0, n, successes=successes)
    z2 = Z**2
    rate = successes / n
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = 0.0 if successes == 0 else centre - half  # exact there, apart from rounding
    high = 1.0 if successes == n else centre + half
    return Interval(low, high)


def bootstrap_interval(
    values: Float[Tensor, "n"], generator: torch.Generator
) -> Interval:
    """Return the bootstrap interval of a mean at 95 %, in the unit of the values.

    From the n values, n are drawn with replacement and averaged; this is done 2,000
    times, and the interval leaves out equal shares of the means at both ends. To
    compare two methods on the same items, pass the differences.

    Args:
        values: One for each independent item.
        generator: Source of randomness.

    Raises:
        ValueError: If there are fewer than two values.

    Source: Efron (1979), "Bootstrap methods: another look at the jackknife".

    >>> generator = torch.Generator().manual_seed(0)
    >>> low, high = bootstrap_interval(torch.tensor([0.0, 1.0] * 50), generator)
    >>> abs(low - 0.4) < 0.02 and abs(high - 0.6) < 0.02
    True
    """
    check_range(2, n_values=len(values))
    tail = (1 - LEVEL) / 2
    draws = torch.randint(len(values), (2000, len(values)), generator=generator)
    means = values.double()[draws].mean(dim=1)
    ends = torch.tensor([tail, 1 - tail], dtype=means.dtype)
    low, high = means.quantile(ends).tolist()
    return Interval(low, high)


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """How often one of two methods was better, on the same items."""

    wins: int
    ties: int
    losses: int
    interval: Interval  # of the rate, at 95 %

    @property
    def n(self) -> int:
        """Number of items."""
        return self.wins + self.ties + self.losses

    @property
    def rate(self) -> float:
        """Share of wins, with a tie as half a win: 1/2 between equals."""
        return (self.wins + self.ties / 2) / self.n

    def to_json(self) -> dict[str, Any]:
        """Return counts, rate and interval."""
        return vars(self) | {"rate": self.rate, "interval": self.interval._asdict()}


def win_rate(
    ours: Float[Tensor, "item"],
    theirs: Float[Tensor, "item"],
    generator: torch.Generator,
) -> WinRate:
    """Return how often one is better than the other, with a bootstrap interval.

    Args:
        ours: A score for each item; more is better.
        theirs: Scores of the same items, in the same order.
        generator: Source of randomness.

    Raises:
        ValueError: If there are fewer than two scores, or one is NaN.

    >>> ours, theirs = torch.tensor([[3.0, 2, 5, 1], [1.0, 2, 4, 4]])
    >>> found = win_rate(ours, theirs, torch.Generator().manual_seed(0))
    >>> found.wins, found.ties, found.losses, found.rate
    (2, 1, 1, 0.625)
    """
    if (ours.isnan() | theirs.isnan()).any():
        raise ValueError("a win rate needs scores that can be compared, got NaN")
    values = torch.where(ours == theirs, 0.5, (ours > theirs).double())
    wins, ties, losses = (int((values == value).sum()) for value in (1.0, 0.5, 0.0))
    interval = bootstrap_interval(values, generator)
    return WinRate(wins=wins, ties=ties, losses=losses, interval=interval)
