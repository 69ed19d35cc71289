"""One ranking made of several, when their scores cannot be compared.

    by words     7 2 5        7: 1/(60 + 1) + 1/(60 + 2)
    by vectors   4 7 9        4: 1/(60 + 1)            …
    together     7 4 2 5 9

Only places count, so it does not matter that BM25 gives 11.3 and a cosine 0.4.
"""

from collections.abc import Hashable, Sequence
from typing import TypeVar

_Item = TypeVar("_Item", bound=Hashable)


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[_Item]], k: float | int = 60
) -> list[tuple[_Item, float]]:
    """Return all items with the sum of 1 / (k + rank) over the rankings, best first.

    An item gets nothing from a ranking that it is not in. Of items with equal sums the
    one that comes first in the rankings, read one after the other, comes first.

    Args:
        rankings: Each from the best on, without repetitions.
        k: The larger, the less the first places count more than those after them.

    Raises:
        ValueError: If k is negative, or an item stands twice in a ranking.

    Source: Cormack, Clarke and Büttcher (2009), "Reciprocal rank fusion outperforms
    Condorcet and individual rank learning methods", where k is 60.

    >>> reciprocal_rank_fusion([["a", "b"], ["c", "b"]], k=1)
    [('b', 0.66...), ('a', 0.5), ('c', 0.5)]
    """
    if not k >= 0:
        raise ValueError(f"k must be at least 0, got {k}")
    sums: dict[_Item, float] = {}
    for ranking in rankings:
        if len(set(ranking)) < len(ranking):
            raise ValueError("an item may stand in a ranking once, got one twice")
        for rank, item in enumerate(ranking, start=1):
            sums[item] = sums.get(item, 0.0) + 1 / (k + rank)
    return sorted(sums.items(), key=lambda pair: -pair[1])
