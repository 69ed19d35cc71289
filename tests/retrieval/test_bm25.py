"""BM25, fusion and measures: against libraries, obvious loops and numbers by hand."""

import math
import random

import pytest
import torch

from llmcourse.retrieval.bm25 import (
    BM25,
    hit_at_k,
    reciprocal_rank,
    reciprocal_rank_fusion,
)
from llmcourse.text.deduplication import words
from llmcourse.text.tales import generate

TALES = [words(story.text) for story in generate(60, seed=1)]
QUERIES = [
    ["where", "did", "nora", "live"],
    words("Who had to carry the waffles to the blacksmith?"),
    ["the", "the", "owl"],
    ["zzz"],
    [],
]


def slow_scores(documents, query, k1, b):
    n, mean = len(documents), sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        total = 0.0
        for word in query:
            n_with = sum(word in other for other in documents)
            f = document.count(word)
            idf = math.log(1 + (n - n_with + 0.5) / (n_with + 0.5))
            if f:
                total += idf * f / (f + k1 * (1 - b + b * len(document) / mean))
        scores.append(total)
    return scores


# Worked example


def test_two_documents_by_hand():
    """N = 2, lengths 1 and 3, mean 2; k₁ = 1 and b = 1, so the norms are 1/2 and 3/2.

    "red" is in both: ln(1 + (0 + ½) / (2 + ½)) = ln 1.2; "hat" in one:
    ln(1 + 1.5 / 1.5) = ln 2. The first scores ln 1.2 · 1 / (1 + ½), the second, with
    red twice,
    ln 1.2 · 2 / (2 + 1.5) + ln 2 · 1 / (1 + 1.5).
    """
    index = BM25([["red"], ["red", "hat", "red"]], k1=1, b=1)
    expected = [math.log(1.2) / 1.5, math.log(1.2) * 2 / 3.5 + math.log(2) / 2.5]
    assert index.scores(["red", "hat"]).tolist() == pytest.approx(expected)
    assert [number for number, _ in index.search(["red", "hat"], k=5)] == [1, 0]


def test_words():
    assert words("Straße, ÉTÉ x_1! 3.5") == ["strasse", "été", "x_1", "3", "5"]
    assert words("I ❤️ you, 👩‍💻!") == ["i", "you"]
    whole = ["हिन्दी", "كَتَبَ", "שָׁלוֹם", "i̇stanbul", "12"]
    assert words("हिन्दी, كَتَبَ שָׁלוֹם: İstanbul ½") == [*whole[:4], "1", "2"]


def test_second_twice_beats_first_once_by_hand():
    """b: 1/(60 + 2) twice is 0.0323; a and c: 1/(60 + 1) once is 0.0164."""
    assert reciprocal_rank_fusion([["a", "b"], ["c", "b"]]) == ["b", "a", "c"]


def test_measures_by_hand():
    """Relevant are a, b and d; a is second and b fourth."""
    assert [hit_at_k("caxb", "abd", k) for k in (1, 2)] == [False, True]
    assert reciprocal_rank("caxb", "abd") == 1 / 2
    assert reciprocal_rank("cxb", "ab") == 1 / 3
    assert reciprocal_rank([], "a") == 0
    assert not hit_at_k([], "a", 3)


# Law


def test_rare_words_count_more_and_repetitions_less_and_less():
    documents = [["a", "b"], ["a", "c"], ["a", "a"], ["c", "c"]]
    rare, common = BM25(documents).scores(["b"]), BM25(documents).scores(["a"])
    assert rare[0] > common[0]
    by_count = [BM25([["a"] * n + ["x"] * (9 - n), ["y"] * 9]) for n in (1, 2, 3)]
    one, two, three = (float(index.scores(["a"])[0]) for index in by_count)
    assert two - one > three - two > 0


def test_k1_of_zero_counts_presence_and_b_of_zero_forgets_lengths():
    documents = [["a", "a", "b"], ["a"], ["c"]]
    present = BM25(documents, k1=0).scores(["a"]).tolist()
    assert present[0] == present[1] > present[2] == 0
    documents = [["a", *["b"] * 9], ["a"], ["c"]]
    assert BM25(documents, b=0).scores(["a"])[:2].diff() == 0
    assert BM25(documents, b=1).scores(["a"])[:2].diff() > 0


def test_search_is_the_sorted_scores_without_those_that_match_nothing():
    index = BM25([["b"], ["a"], ["a"], ["a", "a"], ["c"]])
    assert [number for number, _ in index.search(["a"], k=9)] == [3, 1, 2]
    assert [number for number, _ in index.search(["a"], k=2)] == [3, 1]
    assert index.search(["zzz"], k=2) == []


def test_empty_documents_match_nothing():
    assert BM25([[], []]).scores(["a"]).tolist() == [0, 0]
    assert BM25([["a"], []]).scores(["a"])[1] == 0


def test_one_ranking_stays_and_equal_ones_stay():
    ranking = [5, 3, 9, 1]
    for rankings in ([ranking], [ranking] * 3, [ranking, []]):
        assert reciprocal_rank_fusion(rankings) == ranking
    assert reciprocal_rank_fusion([]) == []


def test_scores_do_not_matter_and_ties_keep_their_order():
    assert reciprocal_rank_fusion([[1, 2], [2, 1]]) == [1, 2]
    # "A" has the ranks 1, 7, 2 and "B" 1, 2, 7: sums made in order would differ.
    rankings = ["Aabcdefg", "Bhijklmn", "oBpqrsA", "tAuvwxB"]
    assert reciprocal_rank_fusion(rankings)[:2] == ["A", "B"]
    assert reciprocal_rank_fusion([rankings[1], *rankings])[0] == "B"


# Reference


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (0, 1)])
def test_equal_to_the_formula_written_out(k1, b):
    index = BM25(TALES, k1=k1, b=b)
    for query in QUERIES:
        expected = torch.tensor(slow_scores(TALES, query, k1, b)).double()
        torch.testing.assert_close(index.scores(query), expected)


def test_equal_to_bm25s():
    bm25s = pytest.importorskip("bm25s")
    theirs = bm25s.BM25(method="lucene", k1=1.2, b=0.6)
    theirs.index(TALES, show_progress=False)
    ours = BM25(TALES, k1=1.2, b=0.6)
    for query in QUERIES[:2]:
        expected = torch.tensor(theirs.get_scores(query)).double()
        torch.testing.assert_close(ours.scores(query), expected, rtol=1e-5, atol=1e-5)


def test_equal_to_rank_bm25_where_words_are_rare():
    """It has another idf, ln((N - n + ½) / (n + ½)), and the factor k₁ + 1.

    For words that few documents have, each word's scores are in a fixed ratio.
    """
    rank_bm25 = pytest.importorskip("rank_bm25")
    theirs, ours = rank_bm25.BM25Okapi(TALES), BM25(TALES)
    assert (theirs.k1, theirs.b) == (1.5, 0.75)
    for word in random.Random(0).sample(sorted({w for t in TALES for w in t}), 40):
        n_with = sum(word in document for document in TALES)
        if n_with > len(TALES) / 4:
            continue
        odds = (len(TALES) - n_with + 0.5) / (n_with + 0.5)
        scale = (theirs.k1 + 1) * math.log(odds) / math.log(1 + odds)
        expected = torch.tensor(theirs.get_scores([word])).double()
        torch.testing.assert_close(ours.scores([word]) * scale, expected)


def test_equal_to_the_sum_over_all_rankings():
    rng = random.Random(0)
    rankings = [rng.sample(range(20), rng.randint(1, 15)) for _ in range(4)]
    fused = reciprocal_rank_fusion(rankings)
    sums = [
        sum(1 / (60 + r.index(item) + 1) for r in rankings if item in r)
        for item in fused
    ]
    assert sums == pytest.approx(sorted(sums, reverse=True), abs=1e-12)
    assert sorted(fused) == sorted({item for r in rankings for item in r})


def test_a_hit_is_a_reciprocal_rank_of_at_least_one_over_k():
    rng = random.Random(0)
    for _ in range(20):
        ranking, relevant = rng.sample(range(12), 8), rng.sample(range(12), 3)
        for k in range(1, 9):
            near = reciprocal_rank(ranking, relevant) >= 1 / k
            assert hit_at_k(ranking, relevant, k) == near


# Refusal


def test_refusals():
    with pytest.raises(ValueError, match="documents must be at least 1, got 0"):
        BM25([])
    for k1, b in ((-1, 0.5), (1, 1.5), (math.nan, 0.5), (math.inf, 0.5)):
        with pytest.raises(
            ValueError, match="k1 must be at least 0|b must be in 0 … 1"
        ):
            BM25([["a"]], k1=k1, b=b)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        BM25([["a"]]).search(["a"], k=0)


def test_refusals_of_measures():
    with pytest.raises(ValueError, match="relevant must be at least 1, got 0"):
        hit_at_k("ab", "", 3)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        hit_at_k("ab", "a", 0)
    with pytest.raises(ValueError, match="relevant must be at least 1, got 0"):
        reciprocal_rank("ab", [])
