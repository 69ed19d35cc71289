"""How good a ranking is, when it is known what should be at its top.

    ranking    c  a  x  b         relevant: a, b, d

    recall@2   1/3      of the relevant ones, those among the first two
    hit@2      1        is there one at all?
    MRR        1/2      1 / the place of the first; the mean over many queries
    nDCG@4     0.50     later places count less: 1/log₂(1 + place)

All lie between 0 and 1. Each is of one query: average over many, and give the mean an
interval with `evaluation.bootstrap_interval`, or a share of hits one with
`evaluation.wilson_interval`.
"""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence


def recall_at_k(
    ranking: Sequence[Hashable], relevant: Collection[Hashable], k: int
) -> float:
    """Return the share of the relevant items that are among the first k.

    Args:
        ranking: Items from the best on, without repetitions; it may be short.
        relevant: What should be found.
        k: How many of the ranking are looked at.

    Raises:
        ValueError: If nothing is relevant, an item is ranked twice, or k is less
            than 1.

    >>> recall_at_k("caxb", relevant="abd", k=2)
    0.33...
    """
    wanted = _checked(ranking, relevant, k)
    return len(wanted.intersection(ranking[:k])) / len(wanted)


def hit_at_k(
    ranking: Sequence[Hashable], relevant: Collection[Hashable], k: int
) -> bool:
    """Return whether any relevant item is among the first k.

    Where any one of them answers the query, this is what counts.

    Args:
        ranking: As in `recall_at_k`, like those that follow.
        relevant: See there.
        k: See there.

    Raises:
        ValueError: As `recall_at_k`.
    """
    return not _checked(ranking, relevant, k).isdisjoint(ranking[:k])


def reciprocal_rank(
    ranking: Sequence[Hashable], relevant: Collection[Hashable]
) -> float:
    """Return 1 over the place of the first relevant item, 0 if there is none.

    Its mean over queries is called MRR.

    Args:
        ranking: As in `recall_at_k`.
        relevant: See there.

    Raises:
        ValueError: As `recall_at_k`.

    >>> reciprocal_rank("caxb", relevant="abd")
    0.5
    """
    wanted = _checked(ranking, relevant, 1)
    places = (n for n, item in enumerate(ranking, start=1) if item in wanted)
    return 1 / first if (first := next(places, 0)) else 0.0


def ndcg_at_k(
    ranking: Sequence[Hashable], gains: Mapping[Hashable, float | int], k: int
) -> float:
    """Return the normalised discounted cumulative gain of the first k, from 0 to 1.

    The item at place i gives its gain divided by log₂(1 + i); the sum is divided by
    that of the best order there could be.

    Args:
        ranking: As in `recall_at_k`.
        gains: What each item is worth; others are worth nothing.
        k: As in `recall_at_k`.

    Raises:
        ValueError: If no gain is above 0 or one is below, an item is ranked twice, or
            k is less than 1.

    Source: Järvelin and Kekäläinen (2002), "Cumulated gain-based evaluation of IR
    techniques", with the discount that is usual today.

    >>> round(ndcg_at_k("caxb", {"a": 1, "b": 1, "d": 1}, k=4), 2)
    0.5
    """
    if any(not gain >= 0 for gain in gains.values()):
        raise ValueError(f"gains must not be negative, got {min(gains.values())}")
    _checked(ranking, [item for item, gain in gains.items() if gain > 0], k)
    best = sorted(gains.values(), reverse=True)
    reached = [gains.get(item, 0) for item in ranking]
    return _discounted(reached[:k]) / _discounted(best[:k])


def _discounted(gains: Sequence[float | int]) -> float:
    return math.fsum(gain / math.log2(1 + n) for n, gain in enumerate(gains, start=1))


def _checked(
    ranking: Sequence[Hashable], relevant: Collection[Hashable], k: int
) -> set[Hashable]:
    if k < 1 or not relevant:
        raise ValueError(
            f"wanted k at least 1 and something relevant, got {k} and {len(relevant)}"
        )
    if len(set(ranking)) < len(ranking):
        raise ValueError("an item may be ranked once, got one twice")
    return set(relevant)
