"""BM25, one ranking made of several, and how good a ranking is.

BM25 says how well documents match the words of a query, by counting:

    rare words count more                 "zither" tells more than "the"
    each further occurrence counts less   ten times is not ten times as good as once
    long documents must have more         they contain many words by chance

For query words q and a document of d words, with f(q) of them q:

    Σ  ln(1 + (N − n(q) + ½) / (n(q) + ½)) · f(q) / (f(q) + k₁ (1 − b + b d / mean))
    q      of N documents n(q) have q

Nothing is learned, and nothing is matched but whole words.

Reciprocal rank fusion makes one ranking of several whose scores cannot be compared.
Only places count, so it does not matter that BM25 gives 11.3 and a cosine 0.4:

    by words     7 2 5        7: 1/(60 + 1) + 1/(60 + 2)
    by vectors   4 7 9        4: 1/(60 + 1)            …
    together     7 4 2 5 9

A ranking is measured where it is known what should be at its top, one query at a time:

    ranking    c  a  x  b         relevant: a, b, d

    hit@2      1        is any of them among the first two?
    MRR        1/2      1 / the place of the first; the mean over many queries
"""

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from llmcourse.arguments import check_range


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
        mean = float(lengths.mean()) or 1.0  # of documents without words alone: any
        norms = (k1 * (1 - b + b * lengths / mean)).tolist()
        self.n_documents = len(counts)
        self._weights: dict[str, dict[int, float]] = {}  # of a word, by document
        for number, (count, norm) in enumerate(zip(counts, norms, strict=True)):
            for word, n in count.items():
                self._weights.setdefault(word, {})[number] = n / (n + norm)

    def _rarity(self, n_with: int) -> float:
        return math.log1p((self.n_documents - n_with + 0.5) / (n_with + 0.5))

    def scores(self, query: Iterable[str]) -> Float[Tensor, "document"]:
        """Return how well each document matches, no unit; 0 where no word does.

        Args:
            query: Words; one that occurs twice counts twice.
        """
        total = [0.0] * self.n_documents
        for word in query:
            weights = self._weights.get(word, {})
            rarity = self._rarity(len(weights))
            for number, weight in weights.items():
                total[number] += weight * rarity
        return torch.tensor(total, dtype=torch.float64)

    def search(self, query: Iterable[str], k: int) -> list[tuple[int, float]]:
        """Return the numbers and scores of the k best documents, the best first.

        Documents without any word of the query are not among them; of equal ones the
        first comes first.

        Raises:
            ValueError: If k is less than 1.
        """
        check_range(1, k=k)
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
        ValueError: If k is negative, or an item is in a ranking twice.

    Source: Cormack, Clarke and Büttcher (2009), "Reciprocal rank fusion outperforms
    Condorcet and individual rank learning methods", where k is 60.

    >>> reciprocal_rank_fusion([["a", "b"], ["c", "b"]], k=1)
    [('b', 0.66...), ('a', 0.5), ('c', 0.5)]
    """
    check_range(0, k=k)
    shares: dict[_Item, list[float]] = {}
    for ranking in rankings:
        if len(set(ranking)) < len(ranking):
            raise ValueError("a ranking must not contain an item twice")
        for rank, item in enumerate(ranking, start=1):
            shares.setdefault(item, []).append(1 / (k + rank))
    sums = [(item, math.fsum(own)) for item, own in shares.items()]  # in any order
    return sorted(sums, key=lambda pair: -pair[1])


def hit_at_k(
    ranking: Sequence[Hashable], relevant: Collection[Hashable], k: int
) -> bool:
    """Return whether any relevant item is among the first k.

    Where any one of them answers the query, this is what counts.

    Args:
        ranking: Items, the best first, without repetitions; it may be short.
        relevant: What should be found.
        k: How many of the ranking are looked at.

    Raises:
        ValueError: If nothing is relevant, or k is less than 1.

    >>> [hit_at_k("caxb", relevant="abd", k=k) for k in (1, 2)]
    [False, True]
    """
    check_range(1, k=k)
    return reciprocal_rank(ranking[:k], relevant) > 0


def reciprocal_rank(
    ranking: Sequence[Hashable], relevant: Collection[Hashable]
) -> float:
    """Return 1 over the place of the first relevant item, 0 if there is none.

    Its mean over queries is called MRR.

    Args:
        ranking: Items, the best first, without repetitions; it may be short.
        relevant: What should be found.

    Raises:
        ValueError: If nothing is relevant.

    >>> reciprocal_rank("caxb", relevant="abd")
    0.5
    """
    if not relevant:
        raise ValueError("wanted something relevant to look for, got nothing")
    for place, item in enumerate(ranking, start=1):
        if item in relevant:
            return 1 / place
    return 0.0
