"""BM25, rank fusion, and measures of how good a ranking is.

BM25 scores how well documents match the words of a query, by counting:

    rare words count more                 "zither" says more than "the"
    each further occurrence counts less   ten times is not ten times as good as once
    long documents need more matches      they contain many words by chance

For query words q and a document of d words, f(q) of which are q:

    Σ  ln(1 + (N − n(q) + ½) / (n(q) + ½)) · f(q) / (f(q) + k₁ (1 − b + b d / mean))
    q      n(q) of the N documents have q

Nothing is learned, and only whole words match.

Reciprocal rank fusion merges rankings whose scores cannot be compared into one. Only
ranks count, so it does not matter that BM25 gives 11.3 and a cosine 0.4:

    by words     7 2 5        7: 1/(60 + 1) + 1/(60 + 2)
    by vectors   4 7 9        4: 1/(60 + 1)            …
    together     7 4 2 5 9

A ranking can be measured where the relevant items are known, one query at a time:

    ranking    c  a  x  b         relevant: a, b, d

    hit@2      1        is any of them among the first two?
    MRR        1/2      1 / the rank of the first, averaged over many queries
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from llmcourse.arguments import check_range


class BM25:
    """An index of documents, by their word counts.

    Args:
        documents: Each as a sequence of words.
        k1: How soon further occurrences stop counting; 0 counts any number as one.
        b: How much the length of a document counts, from 0 to 1.

    Raises:
        ValueError: If there are no documents, or k1 or b is out of range.

    Source: Robertson and Zaragoza (2009), "The probabilistic relevance framework: BM25
    and beyond", section 3.4; as in Lucene, with 1 + … in the logarithm, so that no
    score is negative, and without the factor k₁ + 1, which does not change the order.

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
        check_range(0, k1=k1)
        check_range(0, 1, b=b)
        counts = [Counter(document) for document in documents]
        check_range(1, documents=len(counts))
        lengths = torch.tensor([sum(c.values()) for c in counts], dtype=torch.float64)
        mean = float(lengths.mean()) or 1.0  # any, if no document has words
        norms = (k1 * (1 - b + b * lengths / mean)).tolist()
        self.n_documents = len(counts)
        self._weights: dict[str, dict[int, float]] = {}  # by word, then document
        for number, (count, norm) in enumerate(zip(counts, norms, strict=True)):
            for word, n in count.items():
                self._weights.setdefault(word, {})[number] = n / (n + norm)

    def scores(self, query: Iterable[str]) -> Float[Tensor, "document"]:
        """Return how well each document matches, no unit; 0 where no word does.

        Args:
            query: Words; one that occurs twice counts twice.
        """
        total = [0.0] * self.n_documents
        for word in query:
            weights = self._weights.get(word, {})
            n_with = len(weights)
            rarity = math.log1p((self.n_documents - n_with + 0.5) / (n_with + 0.5))
            for number, weight in weights.items():
                total[number] += weight * rarity
        return torch.tensor(total, dtype=torch.float64)

    def search(self, query: Iterable[str], k: int) -> list[tuple[int, float]]:
        """Return the indices and scores of the k best documents, best first.

        Documents without any word of the query are left out; ties keep the order of
        the documents.

        Raises:
            ValueError: If k is less than 1.
        """
        check_range(1, k=k)
        scores = self.scores(query)
        order = scores.argsort(descending=True, stable=True)[:k].tolist()
        return [(i, float(scores[i])) for i in order if scores[i] > 0]


_Item = TypeVar("_Item", bound=Hashable)


def reciprocal_rank_fusion(rankings: Sequence[Sequence[_Item]]) -> list[_Item]:
    """Return all items by the sum of 1 / (60 + rank) over the rankings, best first.

    A ranking adds nothing to items that it lacks. Ties go to the item that comes first
    when the rankings are read one after another.

    Args:
        rankings: Each best first, without repetitions.

    Source: Cormack, Clarke and Büttcher (2009), "Reciprocal rank fusion outperforms
    Condorcet and individual rank learning methods".

    >>> reciprocal_rank_fusion([["a", "b"], ["c", "b"]])
    ['b', 'a', 'c']
    """
    shares: defaultdict[_Item, list[float]] = defaultdict(list)
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            shares[item].append(1 / (60 + rank))
    # The exact sum does not depend on the order of the rankings.
    return sorted(shares, key=lambda item: -math.fsum(shares[item]))


def hit_at_k(
    ranking: Sequence[Hashable], relevant: Collection[Hashable], k: int
) -> bool:
    """Return whether any relevant item is among the first k.

    This is what matters where any one relevant item answers the query.

    Args:
        ranking: Items, best first, without repetitions; may be shorter than k.
        relevant: What should be found.
        k: How many items to look at.

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
    """Return 1 over the rank of the first relevant item, or 0 if there is none.

    The mean over queries is called MRR, mean reciprocal rank.

    Args:
        ranking: Items, best first, without repetitions; may be cut off.
        relevant: What should be found.

    Raises:
        ValueError: If nothing is relevant.

    >>> reciprocal_rank("caxb", relevant="abd")
    0.5
    """
    check_range(1, relevant=len(relevant))
    for place, item in enumerate(ranking, start=1):
        if item in relevant:
            return 1 / place
    return 0.0
