"""Checks of the chapter *embeddings*."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from llmcourse.checks.base import check


@check
def name_neighbours(answer: Mapping[str, str]) -> None:
    """Check which of three vectors is nearest to (1, 2) under three similarities.

    Args:
        answer: ``"dot"``, ``"cosine"`` and ``"euclidean"``, each with a word.

    >>> name_neighbours({"dot": "owl"})
    Traceback (most recent call last):
    AssertionError: the answer lacks 'cosine': name a word for each similarity
    """
    lessons = {  # of owl (12, 0), hen (3, 4) and cow (0, 1)
        "dot": (
            "owl",
            "multiply coordinate by coordinate and add: a long vector gains",
        ),
        "cosine": (
            "hen",
            "divide the dot product by both lengths: only the angle is left",
        ),
        "euclidean": ("cow", "the distance is the length of the difference"),
    }
    for kind, (right, lesson) in lessons.items():
        assert kind in answer, (
            f"the answer lacks {kind!r}: name a word for each similarity"
        )
        assert answer[kind] == right, (
            f"by {kind} the nearest is not {answer[kind]!r}: {lesson}"
        )


@check
def nearest_words(nearest: Callable[[Tensor, int, int], Sequence[int]]) -> None:
    """Check a function that maps vectors, an id and k to the k nearest other ids.

    Nearest is measured by cosine.
    """
    vectors = torch.tensor([[2.0, 1.0], [20.0, -5.0], [1.0, 0.4], [-2.0, -1.0]])
    got = nearest(vectors, 0, 2)
    assert 0 not in got, (
        "a word is always nearest to itself: leave its own id out before choosing"
    )
    assert len(got) == 2, f"asked for 2 neighbours, got {len(got)}"
    assert got != [1, 2], (
        "the long vector came first: divide by the lengths, or large dot products win"
    )
    assert got != [3, 1], "the most opposite vector came first: sort the other way"
    assert got == [2, 1], f"the nearest are 2, then 1, got {got}"
    got = nearest(1e-3 * vectors, 0, 3)
    assert got == [2, 1, 3], (
        "shorter vectors have the same angles, and even the most opposite one comes "
        f"before the word itself: the nearest are 2, 1, 3, got {got}"
    )
    twins = torch.cat((vectors, 2 * vectors[2:3]))
    got = nearest(twins, 4, 4)
    assert got == [2, 0, 1, 3], (
        "vector 4 points where 2 does, so 2 is the nearest to it: leave a word out by "
        f"its id, not by its rank; wanted 2, 0, 1, 3, got {got}"
    )
