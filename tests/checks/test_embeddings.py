import math

import pytest
import torch

from llmcourse.checks import embeddings as checks
from llmcourse.text.embeddings import nearest, noise_distribution, project

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


def test_the_packages_noise_passes():
    checks.noise_probs(noise_distribution)
    checks.noise_probs(lambda n, power: noise_distribution(n, power).double())


@pytest.mark.parametrize(
    ("noise_probs", "lesson"),
    [
        (lambda counts, power: (counts / counts.sum()) ** power, "after the power"),
        (lambda counts, power: counts / counts.sum(), "where is the power"),
        (lambda counts, power: (w := counts**0.5) / w.sum(), "27, 8 and 1"),
        (lambda counts, power: (w := counts**0.75) / w.sum(), "is the power used"),
        (lambda counts, power: noise_distribution(counts, power).sum(), "each word"),
        (lambda counts, power: counts.mul_(2) / counts.sum(), "changes what"),
    ],
)
def test_other_noise_fails(noise_probs, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.noise_probs(noise_probs)


def by_svd(vectors):
    return project(vectors, 1).directions[0]


def in_double(vectors):
    return project(vectors.double(), 1).directions[0]


def without_centring(vectors):
    return torch.linalg.svd(vectors, full_matrices=False).Vh[0]


def by_power_iteration(vectors):
    centred = vectors - vectors.mean(dim=0)
    direction = torch.ones(vectors.shape[1])
    for _ in range(50):
        direction = centred.T @ (centred @ direction)
        direction = direction / direction.norm()
    return direction


def by_one_product(vectors):
    centred = vectors - vectors.mean(dim=0)
    direction = centred.T @ (centred @ torch.ones(vectors.shape[1]))
    return direction / direction.norm()


def row_of_eigenvectors(vectors):
    return torch.linalg.eigh(vectors.T.cov()).eigenvectors[-1]


@pytest.mark.parametrize(
    "fn", [by_svd, by_power_iteration, in_double, lambda x: -by_svd(x)]
)
def test_directions_found_in_two_ways_pass(fn):
    checks.first_direction(fn)


def first_row_of_squares(x):
    x = x - x.mean(dim=0)
    row = (x.T @ x)[0]
    return row / row.norm()


@pytest.mark.parametrize(
    ("fn", "lesson"),
    [
        (without_centring, "take their mean off"),
        (lambda x: 3 * by_svd(x), "length 1, this one has 3.00"),
        (lambda x: project(x, 2).directions[1], "vary most along"),
        (lambda x: project(x, 2).directions, "one direction"),
        (lambda x: torch.tensor([math.sqrt(0.5), math.sqrt(0.5), 0]), "vary most"),
        (by_one_product, "do it more often"),
        (lambda x: by_svd((x - x.mean(dim=0)) / x.std(dim=0)), "vary most"),
        (lambda x: without_centring(x - x.mean(dim=1, keepdim=True)), "vary most"),
        (row_of_eigenvectors, "vary most"),
        (first_row_of_squares, "do it more often"),
        (lambda x: by_svd(x.sub_(x.mean(dim=0))), "changes what"),
    ],
)
def test_other_directions_fail(fn, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.first_direction(fn)
