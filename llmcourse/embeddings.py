"""Vectors for words: what is near what, sums of them, and maps.

Three ways to say how alike two vectors are, larger is more alike:

    dot         x · y             grows with the length of both
    cosine      x · y / |x| |y|   the angle alone
    euclidean   −|x − y|          the distance, lengths included

All that is asked of vectors here works for any of them: those of `skipgram`, or the
rows of a language model's embedding matrix.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

SIMILARITIES: Final = ("cosine", "euclidean", "dot")


def similarities(
    queries: Float[Tensor, "*batch d_model"],
    vectors: Float[Tensor, "vocab d_model"],
    kind: str = "cosine",
) -> Float[Tensor, "*batch vocab"]:
    """Return how alike each query is to each vector, larger is more alike.

    Cosines have no unit and lie in −1 … 1, dot products and distances are in the
    units of the vectors. The cosine with a vector of zeros is 0.

    Raises:
        ValueError: If the kind is none of the three.

    >>> x, others = torch.tensor([1.0, 0.0]), torch.tensor([[3.0, 4.0], [1.0, 1.0]])
    >>> [similarities(x, others, kind).tolist() for kind in ("dot", "euclidean")]
    [[3.0, 1.0], [-4.47..., -1.0]]
    """
    if kind == "dot":
        return queries @ vectors.T
    if kind == "cosine":
        return normalize(queries, dim=-1) @ normalize(vectors, dim=-1).T
    if kind == "euclidean":
        # Differences one by one: the shortcut by squares loses small distances.
        flat = queries.reshape(-1, queries.shape[-1])
        mode = "donot_use_mm_for_euclid_dist"
        return -torch.cdist(flat, vectors, compute_mode=mode).reshape(
            *queries.shape[:-1], len(vectors)
        )
    raise ValueError(f"kind must be one of {', '.join(SIMILARITIES)}, got {kind!r}")


def nearest(
    vectors: Float[Tensor, "vocab d_model"],
    query: Float[Tensor, "d_model"],
    k: int,
    kind: str = "cosine",
    exclude: Iterable[int] = (),
) -> tuple[Int[Tensor, "k"], Float[Tensor, "k"]]:
    """Return the ids of the k vectors most alike to a query, and their similarities.

    Args:
        vectors: Where to look.
        query: Any vector.
        k: How many, the most alike first.
        kind: One of `SIMILARITIES`; it also decides the unit.
        exclude: Ids that do not count, such as the query's own.

    Raises:
        ValueError: If there are not k vectors to choose from, or the kind is unknown.

    >>> ids, _ = nearest(torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0]]),
    ...     query=torch.tensor([2.0, 1.0]), k=2)
    >>> ids
    tensor([0, 1])
    """
    left_out = sorted(set(exclude))
    if not 1 <= k <= len(vectors) - len(left_out):
        raise ValueError(
            f"k must be in 1 … {len(vectors) - len(left_out)}, the vectors that are "
            f"not excluded, got {k}"
        )
    scores = similarities(query, vectors, kind)
    scores[left_out] = float("-inf")
    values, ids = scores.topk(k)
    return ids, values


class WordVectors:
    """Words, each with its vector.

    Args:
        words: Distinct words.
        vectors: One row for each.

    Raises:
        ValueError: If a word stands twice, or there are more or fewer rows.

    >>> v = WordVectors(["hen", "cow", "tin"], torch.tensor([[2.0, 1], [1, 1], [0, 1]]))
    >>> v["cow"]
    tensor([1., 1.])
    >>> [word for word, _ in v.nearest("hen", k=2)]
    ['cow', 'tin']
    """

    def __init__(
        self, words: Sequence[str], vectors: Float[Tensor, "vocab d_model"]
    ) -> None:
        self.words, self.vectors = list(words), vectors
        self.ids = {word: i for i, word in enumerate(self.words)}
        if not len(self.ids) == len(self.words) == len(vectors):
            raise ValueError(
                f"wanted one vector for each distinct word, got {len(vectors)} for "
                f"{len(self.words)} words, {len(self.ids)} of them distinct"
            )

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.ids

    def __getitem__(self, word: str) -> Float[Tensor, "d_model"]:
        return self.vectors[self._id(word)]

    def only(self, words: Iterable[str]) -> "WordVectors":
        """Return the vectors of some words, in their order.

        Raises:
            ValueError: If a word is unknown, or comes twice.
        """
        chosen = list(words)
        return WordVectors(chosen, self.vectors[[self._id(word) for word in chosen]])

    def nearest(
        self, word: str, k: int = 5, kind: str = "cosine"
    ) -> list[tuple[str, float]]:
        """Return the k other words most alike to a word, and their similarities.

        Raises:
            ValueError: If the word or the kind is unknown, or there are not k others.
        """
        own = self._id(word)
        return self._named(*nearest(self.vectors, self[word], k, kind, [own]))

    def analogy(
        self, a: str, b: str, c: str, k: int = 5, *, exclude: bool = True
    ) -> list[tuple[str, float]]:
        """Return the k best answers to "a is to b as c is to what?", with cosines.

        Args:
            a: As in king : man :: queen : ?.
            b: What stands to `a` as the answer does to `c`.
            c: What the answer belongs to.
            k: How many answers, the best first.
            exclude: Whether a, b and c do not count as answers, as is usual.

        Raises:
            ValueError: If a word is unknown or there are not k answers.
        """
        ids = [self._id(word) for word in (a, b, c)]
        query = analogy_query(*self.vectors[ids])
        return self._named(
            *nearest(self.vectors, query, k, exclude=ids if exclude else ())
        )

    def _named(self, ids: Tensor, values: Tensor) -> list[tuple[str, float]]:
        names = [self.words[i] for i in ids.tolist()]
        return list(zip(names, values.tolist(), strict=True))

    def _id(self, word: str) -> int:
        if word not in self.ids:
            raise ValueError(f"wanted one of {len(self)} known words, got {word!r}")
        return self.ids[word]


def analogy_query(
    a: Float[Tensor, "*batch d_model"],
    b: Float[Tensor, "*batch d_model"],
    c: Float[Tensor, "*batch d_model"],
) -> Float[Tensor, "*batch d_model"]:
    """Return where the answer to "a is to b as c is to what?" should lie, no unit.

    The step from a to b, made from c. All three are brought to length 1 first, so
    that no word counts more for being long.

    Source: Mikolov, Yih and Zweig (2013), "Linguistic regularities in continuous
    space word representations", section 4.

    >>> analogy_query(*torch.tensor([[1.0, 0], [0, 1], [1, 0]]))
    tensor([0., 1.])
    """
    return normalize(b, dim=-1) - normalize(a, dim=-1) + normalize(c, dim=-1)


class Projection(NamedTuple):
    """What `project` returns."""

    points: Float[Tensor, "vocab component"]  # the shadows of the vectors
    directions: Float[Tensor, "component d_model"]  # unit vectors, at right angles
    explained: Float[Tensor, "component"]  # share of the variance along each


def project(
    vectors: Float[Tensor, "vocab d_model"], n_components: int = 2
) -> Projection:
    """Return the principal components: the flat map that keeps most of the variance.

    The mean is taken off; the directions are the first right singular vectors of
    what is left, and each explains its squared singular value's share. A direction
    and its opposite explain as much, so each is turned to make its largest
    coordinate positive: the map does not flip from one computer to another.

    Args:
        vectors: At least two.
        n_components: How many directions to keep.

    Raises:
        ValueError: If there are fewer vectors or coordinates than components, or
            all vectors are equal.

    Source: Pearson (1901), "On lines and planes of closest fit".

    >>> points, _, explained = project(torch.tensor([[0.0, 0], [2, 0], [4, 0]]), 1)
    >>> points.squeeze(1).tolist(), explained.item()
    ([-2.0, 0.0, 2.0], 1.0)
    """
    if not 1 <= n_components <= min(len(vectors) - 1, vectors.shape[1]):
        raise ValueError(
            f"n_components must be in 1 … {min(len(vectors) - 1, vectors.shape[1])} "
            f"for {len(vectors)} vectors of {vectors.shape[1]}, got {n_components}"
        )
    centred = vectors - vectors.mean(dim=0)
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    if not sizes[0] > 0:
        raise ValueError("wanted vectors that differ, got all equal")
    directions = directions[:n_components]
    largest = directions.abs().argmax(dim=1, keepdim=True)
    directions = directions * directions.gather(1, largest).sign()
    explained = sizes.square() / sizes.square().sum()
    return Projection(centred @ directions.T, directions, explained[:n_components])


def neighbour_purity(
    vectors: Float[Tensor, "vocab d_model"],
    labels: Int[Tensor, "vocab"],
    k: int = 1,
    kind: str = "cosine",
) -> Float[Tensor, "vocab"]:
    """Return, for each vector, the share of its k nearest others with its own label.

    The mean is a number for how well the labels' groups are apart: 1 if every
    vector lies among its own, about the groups' own shares if labels mean nothing.

    Raises:
        ValueError: If there are not k others, or the kind is unknown.

    >>> pairs = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> neighbour_purity(pairs, labels=torch.tensor([0, 0, 1, 0]))
    tensor([1., 1., 0., 0.])
    """
    if not 1 <= k < len(vectors):
        raise ValueError(f"k must be in 1 … {len(vectors) - 1}, got {k}")
    scores = similarities(vectors, vectors, kind).fill_diagonal_(float("-inf"))
    ids = scores.topk(k).indices  # (V, k)
    return (labels[ids] == labels[:, None]).float().mean(dim=1)
