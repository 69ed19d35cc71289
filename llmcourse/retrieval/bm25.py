"""BM25: how well documents match the words of a query, by counting.

    rare words count more                 "zither" tells more than "the"
    each further occurrence counts less   ten times is not ten times as good as once
    long documents must have more         they contain many words by chance

For query words q and a document of d words, with f(q) of them q:

    Σ  ln(1 + (N − n(q) + ½) / (n(q) + ½)) · f(q) / (f(q) + k₁ (1 − b + b d / mean))
    q      of N documents n(q) have q

Nothing is learned, and nothing is matched but whole words.

One ranking made of several, when their scores cannot be compared.

    by words     7 2 5        7: 1/(60 + 1) + 1/(60 + 2)
    by vectors   4 7 9        4: 1/(60 + 1)            …
    together     7 4 2 5 9

Only places count, so it does not matter that BM25 gives 11.3 and a cosine 0.4.

How good a ranking is, when it is known what should be at its top.

    ranking    c  a  x  b         relevant: a, b, d

    recall@2   1/3      of the relevant ones, those among the first two
    hit@2      1        is there one at all?
    MRR        1/2      1 / the place of the first; the mean over many queries
    nDCG@4     0.50     later places count less: 1/log₂(1 + place)

All lie between 0 and 1. Each is of one query: average over many, and give the mean an
interval with `intervals.bootstrap_interval`, or a share of hits one with
`intervals.wilson_interval`.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor


def words(text: str) -> list[str]:
    """Return the words of a text as a search compares them.

    >>> words("Mia's two boats (RED)!")
    ['mia', 's', 'two', 'boats', 'red']
    """
    return re.findall(r"\w+", text.casefold())


class BM25:
    """Documents whose words are counted, once.

    Args:
        documents: The words of each.
        k1: How soon further occurrences stop to count; 0 counts any number as one.
        b: How much the length of a document counts, from 0 to 1.

    Raises:
        ValueError: If there is no document, or k1 or b is out of its range.

    Source: Robertson and Zaragoza (2009), "The probabilistic relevance framework: BM25
    and beyond", section 3.4; as Lucene has it: with 1 + … in the logarithm, so that no
    word counts negative, and without the factor k₁ + 1, which changes no order.

    >>> index = BM25([["red", "boat"], ["red", "hat"], ["old", "red", "hat"]])
    >>> index.search(["a", "boat"], k=2)  # only one document has any of the words
    [(0, 0.41...)]
    """

    def __init__(
        self,
        documents: Iterable[Sequence[str]],
        k1: float | int = 1.5,
        b: float | int = 0.75,
    ) -> None:
        if not k1 >= 0 or not 0 <= b <= 1 or math.isinf(k1):
            raise ValueError(f"wanted k1 at least 0 and b in 0 … 1, got {k1} and {b}")
        counts = [Counter(document) for document in documents]
        if not counts:
            raise ValueError("BM25 needs at least one document, got none")
        lengths = torch.tensor([sum(c.values()) for c in counts], dtype=torch.float64)
        mean = max(float(lengths.mean()), 1.0)
        norms = (k1 * (1 - b + b * lengths / mean)).tolist()
        found: dict[str, list[tuple[int, float]]] = {}  # word: documents, their weights
        for number, (count, norm) in enumerate(zip(counts, norms, strict=True)):
            for word, n in count.items():
                found.setdefault(word, []).append((number, n / (n + norm)))
        self.n_documents = len(counts)
        self._found = {
            word: (
                torch.tensor([number for number, _ in entries]),
                torch.tensor([weight for _, weight in entries], dtype=torch.float64)
                * self._rarity(len(entries)),
            )
            for word, entries in found.items()
        }

    def _rarity(self, n_with: int) -> float:
        return math.log1p((self.n_documents - n_with + 0.5) / (n_with + 0.5))

    def scores(self, query: Iterable[str]) -> Float[Tensor, "document"]:
        """Return how well each document matches, no unit; 0 where no word does.

        Args:
            query: Words; one that stands twice counts twice.
        """
        total = torch.zeros(self.n_documents, dtype=torch.float64)
        for word in query:
            if word in self._found:
                numbers, weights = self._found[word]
                total[numbers] += weights
        return total

    def search(self, query: Iterable[str], k: int) -> list[tuple[int, float]]:
        """Return the k best documents by number, with their scores, the best first.

        Documents without any word of the query are not among them; of equal ones the
        first comes first.

        Raises:
            ValueError: If k is less than 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        scores = self.scores(query)
        order = scores.argsort(descending=True, stable=True)[:k].tolist()
        return [(i, float(scores[i])) for i in order if scores[i] > 0]


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
