"""BM25: how well documents match the words of a query, by counting.

    rare words count more                 "zither" tells more than "the"
    each further occurrence counts less   ten times is not ten times as good as once
    long documents must have more         they contain many words by chance

For query words q and a document of d words, with f(q) of them q:

    Σ  ln(1 + (N − n(q) + ½) / (n(q) + ½)) · f(q) / (f(q) + k₁ (1 − b + b d / mean))
    q      of N documents n(q) have q

Nothing is learned, and nothing is matched but whole words.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

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
