"""One ranking out of several."""

import random

import pytest

from llmcourse.retrieval.bm25 import reciprocal_rank_fusion

# Worked example


def test_second_twice_beats_first_once_by_hand():
    """b: 1/(60 + 2) twice is 0.0323; a and c: 1/(60 + 1) once is 0.0164."""
    fused = reciprocal_rank_fusion([["a", "b"], ["c", "b"]])
    assert [item for item, _ in fused] == ["b", "a", "c"]
    assert fused[0][1] == pytest.approx(2 / 62)
    assert fused[1][1] == fused[2][1] == pytest.approx(1 / 61)


# Law


def test_one_ranking_stays_and_equal_ones_stay():
    ranking = [5, 3, 9, 1]
    for rankings in ([ranking], [ranking] * 3, [ranking, []]):
        assert [i for i, _ in reciprocal_rank_fusion(rankings)] == ranking
    assert reciprocal_rank_fusion([]) == []


def test_scores_do_not_matter_and_ties_keep_their_order():
    assert [i for i, _ in reciprocal_rank_fusion([[1, 2], [2, 1]])] == [1, 2]


# Reference


def test_equal_to_the_sum_over_all_rankings():
    rng = random.Random(0)
    rankings = [rng.sample(range(20), rng.randint(1, 15)) for _ in range(4)]
    for item, score in reciprocal_rank_fusion(rankings, k=7):
        places = [r.index(item) + 1 for r in rankings if item in r]
        assert score == pytest.approx(sum(1 / (7 + place) for place in places))
    fused = reciprocal_rank_fusion(rankings, k=7)
    assert {item for item, _ in fused} == {item for r in rankings for item in r}
    assert [s for _, s in fused] == sorted((s for _, s in fused), reverse=True)


# Refusal


def test_refusals():
    with pytest.raises(ValueError, match="k must be at least 0, got -1"):
        reciprocal_rank_fusion([[1]], k=-1)
    with pytest.raises(ValueError, match="stand in a ranking once"):
        reciprocal_rank_fusion([[1, 2, 1]])
