"""The explorer of word vectors: a map, neighbours, sums."""

import base64
from collections.abc import Mapping
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from llmcourse.arguments import check_range
from llmcourse.text.embeddings import WordVectors, project
from llmcourse.widgets.base import Explorer, checked_texts, counted, script

MAX_WORDS: Final = 1_000
MAX_CLASSES: Final = 12  # six colours, filled or hollow


def pack(vectors: Float[Tensor, "word d_model"]) -> tuple[str, float]:
    """Return vectors as one signed byte for each coordinate, and the byte's unit.

    The bytes are in base64, row by row. The rounding error is at most half a unit, and
    the unit is the largest coordinate divided by 127.

    Raises:
        ValueError: If a coordinate is not finite, or all are zero.

    >>> packed, unit = pack(torch.tensor([[1.27, 0.0, -0.636]]))
    >>> list(base64.b64decode(packed)), round(unit, 4)  # 192 is -64
    ([127, 0, 192], 0.01)
    """
    largest = vectors.abs().max().item()
    if not 0 < largest < float("inf"):
        raise ValueError(f"vectors must be finite and not all zero, got {largest}")
    unit = largest / 127
    values = (vectors / unit).round().to(torch.int8)
    return base64.b64encode(values.numpy().tobytes()).decode("ascii"), unit


class EmbeddingExplorer(Explorer):
    """Show word vectors: a flat map, the neighbours of a word, and sums of vectors.

    The map shows the two principal components. Neighbours under three similarities,
    and answers to "a is to b as c is to what?", are computed in the page from the
    vectors themselves, rounded to one byte for each coordinate.

    Args:
        vectors: The words to show, at most 1,000.
        classes: Word to class, for its colour; not every word needs one.
        word: The word chosen at the start; by default the first.
        analogy: The words a, b and c at the start; by default the first three.

    Raises:
        ValueError: If there are fewer than four words or more than 1,000, more than
            12 classes, or a chosen word is not among them.

    >>> vectors = WordVectors(["cow", "hen", "red", "tin"], torch.eye(4))
    >>> EmbeddingExplorer(vectors, {"cow": "animal", "hen": "animal"}, word="hen")
    EmbeddingExplorer(4 words, 1 class)
    """

    _css = script("explorer.css", "embedding.css")
    _esm = script("common.js", "embedding.js")

    def __init__(
        self,
        vectors: WordVectors,
        classes: Mapping[str, str],
        *,
        word: str | None = None,
        analogy: tuple[str, str, str] | None = None,
    ) -> None:
        words = checked_texts(vectors.words)
        check_range(4, MAX_WORDS, words=len(words))
        names = list(dict.fromkeys(classes[w] for w in words if w in classes))
        check_range(0, MAX_CLASSES, classes=len(names))
        named = [word or words[0], *(analogy or words[:3])]
        if unknown := [w for w in named if w not in vectors]:
            raise ValueError(f"wanted words with a vector, got {unknown[0]!r}")
        ids = [vectors.ids[w] for w in named]
        packed, scale = pack(vectors.vectors)
        points = project(vectors.vectors, 2).points
        points = points / points.abs().max()
        super().__init__(
            f"{len(words)} words, {counted(len(names), 'class', 'classes')}",
            words=words,
            classes=names,
            class_of=[names.index(classes[w]) if w in classes else -1 for w in words],
            packed=packed,
            scale=scale,
            width=vectors.vectors.shape[1],
            points=[[round(x, 3) for x in point] for point in points.tolist()],
            chosen=ids[0],
            analogy=ids[1:],
        )
