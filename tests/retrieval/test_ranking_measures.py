"""Recall, hits, reciprocal ranks and nDCG."""

import itertools
import math
import random

import pytest

from llmcourse.retrieval.bm25 import hit_at_k, ndcg_at_k, recall_at_k, reciprocal_rank

# Worked example


def test_four_places_by_hand():
    """Relevant are a, b and d; a is second and b fourth.

    nDCG@4: (1/log₂3 + 1/log₂5) / (1 + 1/log₂3 + 1/2) = (0.631 + 0.431) / 2.131.
    """
    assert [recall_at_k("caxb", "abd", k) for k in (1, 2, 4, 9)] == pytest.approx(
        [0, 1 / 3, 2 / 3, 2 / 3]
    )
    assert [hit_at_k("caxb", "abd", k) for k in (1, 2)] == [False, True]
    assert reciprocal_rank("caxb", "abd") == 1 / 2
    gains = dict.fromkeys("abd", 1)
    assert ndcg_at_k("caxb", gains, 4) == pytest.approx(1.0616 / 2.1309, abs=1e-4)


# Law


def test_the_best_order_has_one_and_any_other_less():
    gains = {0: 3, 1: 2, 2: 1}
    for order in itertools.permutations(range(3)):
        found = ndcg_at_k(order, gains, 3)
        assert found == pytest.approx(1) if order == (0, 1, 2) else found < 1


def test_recall_grows_with_k_and_missing_ones_count():
    rng = random.Random(0)
    for _ in range(20):
        ranking = rng.sample(range(12), 8)
        relevant = rng.sample(range(12), 3)
        shares = [recall_at_k(ranking, relevant, k) for k in range(1, 9)]
        assert shares == sorted(shares)
        assert shares[-1] == len(set(ranking) & set(relevant)) / 3
        assert hit_at_k(ranking, relevant, 5) == (shares[4] > 0)


def test_nothing_found_is_zero():
    assert recall_at_k([], "a", 3) == reciprocal_rank([], "a") == 0
    assert not hit_at_k([], "a", 3)
    assert ndcg_at_k([], {"a": 1}, 3) == 0


# Reference


def test_ndcg_equal_to_the_best_of_all_orders():
    gains = dict(zip("abcde", (0, 3, 1, 0, 2), strict=True))

    def dcg(order):
        return sum(gains[i] / math.log2(n + 2) for n, i in enumerate(order[:3]))

    best = max(map(dcg, itertools.permutations("abcde")))
    for order in itertools.permutations("abcde"):
        assert ndcg_at_k(order, gains, 3) == pytest.approx(dcg(order) / best)


# Refusal


def test_refusals():
    for measure in (recall_at_k, hit_at_k):
        with pytest.raises(ValueError, match="something relevant, got 3 and 0"):
            measure("ab", "", 3)
        with pytest.raises(ValueError, match="k at least 1 and .*, got 0 and 1"):
            measure("ab", "a", 0)
        with pytest.raises(ValueError, match="ranked once, got one twice"):
            measure("aa", "a", 1)
    with pytest.raises(ValueError, match="something relevant"):
        reciprocal_rank("ab", [])
    with pytest.raises(ValueError, match="something relevant"):
        ndcg_at_k("ab", {"a": 0}, 1)
    for bad in (-1, math.nan):
        with pytest.raises(ValueError, match="gains must not be negative"):
            ndcg_at_k("ab", {"a": 1, "b": bad}, 1)
