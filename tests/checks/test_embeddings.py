import math

import pytest
import torch
from embedding_cases import nearest

from llmcourse.checks import embeddings as checks

VECTORS = {"owl": (12.0, 0.0), "hen": (3.0, 4.0), "cow": (0.0, 1.0)}
QUERY = (1.0, 2.0)
RIGHT = {"dot": "owl", "cosine": "hen", "euclidean": "cow"}


def by_cosine(vectors, i, k):
    return nearest(vectors, vectors[i], k, exclude=[i])[0]


def by_dot(vectors, i, k):
    return nearest(vectors, vectors[i], k, "dot", exclude=[i])[0]


def by_distance(vectors, i, k):
    return nearest(vectors, vectors[i], k, "euclidean", exclude=[i])[0]


def itself_too(vectors, i, k):
    return nearest(vectors, vectors[i], k)[0]


def backwards(vectors, i, k):
    return nearest(vectors, -vectors[i], k, exclude=[i])[0]


def one_too_many(vectors, i, k):
    return by_cosine(vectors, i, k + 1)


def in_place(vectors, i, k):
    vectors /= vectors.norm(dim=1, keepdim=True)
    return by_dot(vectors, i, k)


def by_a_threshold(vectors, i, k):
    """Dividing by lengths plus a constant, against a division by zero: too large."""
    unit = vectors / (vectors.norm(dim=1, keepdim=True) + 0.1)
    return by_dot(unit, i, k)


def with_cosine_zero(vectors, i, k):
    """The word itself gets the cosine 0, which is more than that of opposite ones."""
    cosines = torch.cosine_similarity(vectors, vectors[i][None])
    cosines[i] = 0.0
    return cosines.topk(k).indices


def without_the_first(vectors, i, k):
    cosines = torch.cosine_similarity(vectors, vectors[i][None])
    return cosines.argsort(descending=True, stable=True)[1 : k + 1]


def test_right_neighbours_pass():
    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    similarities = {
        "dot": lambda v: dot(QUERY, v),
        "cosine": lambda v: dot(QUERY, v) / math.hypot(*v),
        "euclidean": lambda v: -math.dist(QUERY, v),
    }
    for kind, similarity in similarities.items():
        assert RIGHT[kind] == max(VECTORS, key=lambda word: similarity(VECTORS[word]))
    checks.name_neighbours(RIGHT)


@pytest.mark.parametrize(
    ("kind", "word", "lesson"),
    [
        ("dot", "hen", "a long vector gains"),
        ("cosine", "owl", "only the angle"),
        ("cosine", "cow", "only the angle"),
        ("euclidean", "owl", "length of the difference"),
    ],
)
def test_wrong_neighbours_fail(kind, word, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.name_neighbours(RIGHT | {kind: word})


@pytest.mark.parametrize("kind", RIGHT)
@pytest.mark.parametrize("word", VECTORS)
def test_no_other_neighbour_passes(kind, word):
    if word != RIGHT[kind]:
        with pytest.raises(AssertionError, match=f"by {kind}"):
            checks.name_neighbours(RIGHT | {kind: word})


def test_the_nearest_by_cosine_pass():
    checks.nearest_words(by_cosine)


@pytest.mark.parametrize(
    ("nearest_words", "lesson"),
    [
        (itself_too, "leave its own id out"),
        (by_dot, "divide by the lengths"),
        (backwards, "sort the other way"),
        (one_too_many, "asked for 2 neighbours, got 3"),
        (in_place, "changes what"),
        (by_a_threshold, "the same angles"),
        (with_cosine_zero, "before the word itself"),
        (without_the_first, "not by its rank"),
        (lambda vectors, i, k: by_cosine(vectors, 0, k), "not by its rank"),
    ],
)
def test_other_nearest_words_fail(nearest_words, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.nearest_words(nearest_words)
