import math

import numpy as np
import pytest

from llmcourse.text.deduplication import (
    candidate_pairs,
    candidate_probability,
    estimated_jaccard,
    signature,
    signatures,
)

RNG = np.random.default_rng(0)


def random_sets(n_pairs, size, shared):
    """Return pairs of sets of `size` random numbers with `shared` in common."""
    pairs = []
    for _ in range(n_pairs):
        numbers = RNG.integers(0, 2**63, 2 * size - shared, dtype=np.uint64)
        pairs.append((np.unique(numbers[:size]), np.unique(numbers[size - shared :])))
    return pairs


def test_two_texts_of_three_share_a_band():
    """Two bands of one hash: rows 0 and 1 agree in the second, row 2 with none."""
    rows = np.array([[1, 2], [3, 2], [4, 5]], dtype=np.uint64)
    assert candidate_pairs(rows, n_bands=2).tolist() == [[0, 1]]
    assert candidate_pairs(rows, n_bands=1).tolist() == []


def test_the_s_curve_by_hand():
    """J = 1/2, 2 bands of 2 rows: 1 − (1 − 1/4)² = 7/16."""
    assert candidate_probability(0.5, n_bands=2, n_rows=2) == 7 / 16


def test_the_share_of_equal_hashes_estimates_jaccard():
    """60 of 140 in common, J = 3/7; 200 pairs × 128 hashes.

    Within 4 standard errors of √(J(1 − J) / (200 · 128)): false alarm 6e-5.
    """
    pairs = random_sets(200, size=100, shared=60)
    estimates = [estimated_jaccard(signature(a), signature(b)) for a, b in pairs]
    jaccard = 60 / 140
    error = math.sqrt(jaccard * (1 - jaccard) / (200 * 128))
    assert abs(np.mean(estimates) - jaccard) < 4 * error


def test_hashes_of_one_signature_are_independent():
    """The spread of the estimates is the binomial one, within a fifth.

    A standard deviation from 400 pairs has a relative error of 1/√800 = 3.5 %;
    20 % is more than 5 of them: false alarm 1e-6. Dependent hashes spread more.
    """
    pairs = random_sets(400, size=100, shared=60)
    estimates = [estimated_jaccard(signature(a), signature(b)) for a, b in pairs]
    jaccard = 60 / 140
    binomial = math.sqrt(jaccard * (1 - jaccard) / 128)
    assert abs(np.std(estimates) / binomial - 1) < 0.2


@pytest.mark.parametrize(("n_bands", "n_rows"), [(32, 4), (16, 8), (21, 6)])
def test_banding_proposes_pairs_as_often_as_the_s_curve_says(n_bands, n_rows):
    """400 pairs of J = 3/7 or 9/11; within 4 standard errors: false alarm 6e-5."""
    for shared in (60, 90):
        jaccard = shared / (200 - shared)
        sets = [each for pair in random_sets(400, 100, shared) for each in pair]
        found = candidate_pairs(signatures(sets, n_bands * n_rows), n_bands)
        hits = sum(1 for i, j in found.tolist() if i % 2 == 0 and j == i + 1)
        wanted = candidate_probability(jaccard, n_bands, n_rows)
        error = math.sqrt(wanted * (1 - wanted) / 400)
        assert abs(hits / 400 - wanted) <= 4 * error + 1 / 400


def test_candidates_are_those_of_a_loop_over_all_pairs():
    rows = RNG.integers(0, 4, (50, 6), dtype=np.uint64)  # many agreements
    wanted = [
        [i, j]
        for i in range(50)
        for j in range(i + 1, 50)
        if any((rows[i, b : b + 2] == rows[j, b : b + 2]).all() for b in (0, 2, 4))
    ]
    assert candidate_pairs(rows, n_bands=3).tolist() == wanted


def test_a_crowded_bucket_is_connected_without_all_its_pairs():
    rows = np.ones((1000, 2), dtype=np.uint64)
    pairs = candidate_pairs(rows, n_bands=1).tolist()
    assert len(pairs) < 64 * 1000
    assert {(i, i + 1) for i in range(999)} <= {tuple(pair) for pair in pairs}


def test_a_long_set_has_the_signature_of_its_parts():
    """Hashed in chunks: the minimum of minima is the minimum."""
    numbers = np.unique(RNG.integers(0, 2**63, 10_000, dtype=np.uint64))
    halves = [signature(numbers[:3000]), signature(numbers[3000:])]
    np.testing.assert_array_equal(signature(numbers), np.minimum(*halves))


def test_the_order_of_shingles_does_not_matter_and_the_seed_does():
    numbers = RNG.integers(0, 2**63, 30, dtype=np.uint64)
    one = signature(numbers, n_hashes=16)
    np.testing.assert_array_equal(one, signature(numbers[::-1].copy(), n_hashes=16))
    assert not (one == signature(numbers, n_hashes=16, seed=1)).any()


def test_no_texts_have_no_candidates():
    assert candidate_pairs(signatures([], 8), n_bands=4).shape == (0, 2)


@pytest.mark.parametrize("n_bands", [0, 5, 16])
def test_bands_that_do_not_divide_the_hashes_are_refused(n_bands):
    with pytest.raises(ValueError, match=f"divides 8 hashes, got {n_bands}"):
        candidate_pairs(np.zeros((3, 8), dtype=np.uint64), n_bands)


def test_a_signature_of_no_hashes_is_refused():
    with pytest.raises(ValueError, match="at least one hash, got 0"):
        signature(np.zeros(3, dtype=np.uint64), n_hashes=0)
