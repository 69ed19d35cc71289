"""Checks of the chapter *embeddings*."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from llmcourse.checks.base import check, check_shape, random


@check
def name_neighbours(answer: Mapping[str, str]) -> None:
    """Check which of three vectors is nearest to (1, 2) under three similarities.

    Args:
        answer: ``"dot"``, ``"cosine"`` and ``"euclidean"``, each with a word.

    Raises:
        AssertionError: If a similarity is missing or has the wrong word.

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


@check
def noise_probs(fn: Callable[[Tensor, float], Tensor]) -> None:
    """Check a function that maps counts and a power to noise words' probabilities."""
    counts = torch.tensor([81, 16, 1])
    got = fn(counts, 0.75).float()
    check_shape(got, counts.shape, "one probability for each word")
    assert torch.isclose(got.sum(), torch.tensor(1.0)), (
        f"probabilities sum to 1, these to {got.sum().item():.3f}: divide by the sum "
        "after the power is taken, not before"
    )
    assert not torch.allclose(got, counts / counts.sum()), (
        "these are the words' own shares: where is the power?"
    )
    wanted = torch.tensor([27.0, 8.0, 1.0]) / 36
    assert torch.allclose(got, wanted), (
        "81, 16 and 1 to the power 3/4 are 27, 8 and 1, so the probabilities are "
        f"27/36, 8/36 and 1/36, got {[round(p, 3) for p in got.tolist()]}"
    )
    even = fn(counts, 0.0)
    assert torch.allclose(even.float(), torch.full((3,), 1 / 3)), (
        "with power 0 all words are alike: is the power used?"
    )


@check
def first_direction(fn: Callable[[Tensor], Tensor]) -> None:
    """Check a function that finds the direction along which vectors vary most."""
    along = random(50, 1, seed=1) * torch.tensor([6.0, -3.0, -2.0]) / 7
    vectors = along + 0.7 * random(50, 3, seed=2)
    wanted = torch.linalg.svd(vectors - vectors.mean(dim=0)).Vh[0]
    got = fn(vectors + torch.tensor([0.0, 0.0, 30.0])).float()
    check_shape(got, (3,), "one direction with a number for each coordinate")
    length = got.norm().item()
    assert abs(length - 1) < 1e-3, (
        f"a direction is a vector of length 1, this one has {length:.2f}"
    )
    assert abs(got[2].item()) < 0.9, (
        "this direction leads from the origin to where all the vectors are: take "
        "their mean off first, or it counts as variation"
    )
    cosine = (got @ wanted).abs().item()
    assert cosine > 0.999, (
        f"the vectors vary most along ({', '.join(f'{x:.2f}' for x in wanted)}); the "
        f"cosine with your direction is {cosine:.3f}; if you multiply again and again, "
        "do it more often"
    )
