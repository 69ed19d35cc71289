import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcourse.text.deduplication import (
    Pair,
    clusters,
    jaccard,
    near_duplicates,
    plant_near_duplicates,
    precision_recall,
    remove_duplicates,
    remove_near_duplicates,
    shingles,
)
from llmcourse.text.documents import Document, tales


def random_texts(n, seed, n_words=150):
    """Return texts that have nothing in common but single words."""
    rng = random.Random(seed)
    vocabulary = [f"word{i}" for i in range(2000)]
    return [" ".join(rng.choices(vocabulary, k=n_words)) for _ in range(n)]


def edit(text, places):
    """Return the text with the words at the places replaced."""
    return " ".join(f"new{i}" if i in places else w for i, w in enumerate(text.split()))


def documents(texts):
    return [Document(text, "test", f"d{i}") for i, text in enumerate(texts)]


def names(found):
    return [document.name for document in found]


def test_the_first_of_two_copies_stays():
    kept, report = remove_duplicates(documents(["The fox.", "A hen.", "the  FOX.\n"]))
    assert names(kept) == ["d0", "d1"]
    assert report.reasons == {"copy": 1}
    assert "d2: copy: like d0" in str(report)


def test_one_changed_word_of_hundred_and_four_is_a_near_copy():
    """104 words have 100 shingles of 5; one word is in 5 of them.

    J = 95 / (95 + 5 + 5) = 0.905.
    """
    text = random_texts(1, seed=1, n_words=104)[0]
    (pair,) = near_duplicates([text, edit(text, {50})])
    assert pair == Pair(0, 1, 95 / 105)
    kept, report = remove_near_duplicates(documents([text, edit(text, {50})]))
    assert names(kept) == ["d0"]
    assert "d1: near copy: like d0 (Jaccard 0.90)" in str(report)


def test_a_chain_of_small_changes_keeps_what_is_like_no_kept_text():
    """A ~ B and B ~ C, but not A ~ C: B goes; C stays, as it is unlike A.

    Of 100 shingles, B lacks 10 of A's (J = 90/110 = 0.82), C lacks 20 of A's
    (J = 80/120 = 0.67). The cluster holds all three.
    """
    a = random_texts(1, seed=2, n_words=104)[0]
    b, c = edit(a, {20, 40}), edit(a, {20, 40, 60, 80})
    kept, _ = remove_near_duplicates(documents([a, b, c]), threshold=0.7)
    assert names(kept) == ["d0", "d2"]
    pairs = [(pair.first, pair.second) for pair in near_duplicates([a, b, c])]
    assert clusters(3, pairs) == [0, 0, 0]


def test_of_many_copies_one_stays():
    """Of so many in one bucket only neighbours are compared with each other."""
    text = random_texts(1, seed=3, n_words=200)[0]
    copies = [f"{text} ending {number}" for number in range(200)]
    kept, _ = remove_near_duplicates(documents(copies))
    assert names(kept) == ["d0"]


def test_precision_and_recall_on_planted_copies():
    """150 copies of J ≥ 0.75 have to be found, decoys of J < 0.7 must not.

    A copy of J = 0.7 is missed with the probability (1 − 0.7⁴)³² = 1.5e-4; more
    than one of 160 missed: false alarm below 3e-4. Precision is exact, since
    similarities are checked, so a single false pair is an error.
    """
    similarities = [0.75 + 0.25 * i / 150 for i in range(150)]
    decoys = [0.55 + 0.1 * i / 150 for i in range(150)]
    texts, planted = plant_near_duplicates(
        random_texts(300, seed=3), [*similarities, *decoys]
    )
    found = near_duplicates(texts, threshold=0.7)
    wanted = [pair for pair in planted if pair.similarity >= 0.7]
    assert sum(pair.similarity < 0.7 for pair in planted) > 100
    precision, recall = precision_recall(found, wanted)
    assert precision == 1
    assert recall > 1 - 2 / len(wanted)


@pytest.mark.parametrize("similarity", [0.3, 0.6, 0.9, 1.0])
def test_planted_copies_have_the_similarity_that_was_asked(similarity):
    """One word is in 5 of 146 shingles: the next edit would cross the line."""
    texts, pairs = plant_near_duplicates(random_texts(5, seed=4), [similarity] * 5)
    assert len(texts) == 10
    for pair in pairs:
        exact = jaccard(shingles(texts[pair.first]), shingles(texts[pair.second]))
        assert pair.similarity == exact
        assert similarity <= pair.similarity <= similarity + 10 / 146


def test_near_duplicates_are_those_of_a_loop_over_all_pairs():
    """With bands of one row every pair of J ≥ 0.3 is proposed.

    Missed by all of 64 hashes: 0.7⁶⁴ = 1e-10.
    """
    base = random_texts(12, seed=5)
    texts, _ = plant_near_duplicates(base, [0.3, 0.4, 0.5, 0.6, 0.8])
    sets = [shingles(text) for text in texts]
    wanted = [
        Pair(i, j, jaccard(sets[i], sets[j]))
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
        if jaccard(sets[i], sets[j]) >= 0.3
    ]
    assert near_duplicates(texts, threshold=0.3, n_hashes=64, n_bands=64) == wanted
    assert len(wanted) >= 5


def test_what_is_kept_is_no_near_copy_and_what_goes_is_one():
    """Three copies of each of ten texts, all J ≥ 0.86 to each other by design."""
    base = random_texts(10, seed=6, n_words=204)
    variants = [edit(text, {10 * k}) for text in base for k in range(3)]
    texts = [*base, *variants]
    random.Random(0).shuffle(texts)
    kept, report = remove_near_duplicates(documents(texts))
    assert len(kept) == 10
    assert report.documents_removed == 30
    assert near_duplicates([document.text for document in kept]) == []


def test_tales_are_no_copies_of_each_other():
    kept, _ = remove_near_duplicates(list(tales(200, seed=0)), threshold=0.9)
    assert len(kept) == 200


@given(
    pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=15),
)
def test_clusters_are_connected_components(pairs):
    reach = {i: {i} for i in range(10)}
    for _ in range(10):
        for a, b in pairs:
            joined = reach[a] | reach[b]
            reach |= dict.fromkeys(joined, joined)
    assert clusters(10, pairs) == [min(reach[i]) for i in range(10)]


def test_equal_texts_shorter_than_a_shingle_are_copies():
    long = random_texts(1, seed=7)[0]
    kept, _ = remove_near_duplicates(documents([long, "two words", "two, words"]))
    assert names(kept) == ["d0", "d1"]


def test_found_nothing_is_precise_and_recalls_nothing():
    assert precision_recall([], [Pair(0, 1, 1.0)]) == (1.0, 0.0)


def test_recall_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one wanted pair"):
        precision_recall([Pair(0, 1, 1.0)], [])


def test_shingles_longer_than_every_text_are_refused():
    with pytest.raises(ValueError, match="at least 5 words, the longest of 2 has 3"):
        near_duplicates(["one two three", "four"])


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
@pytest.mark.parametrize("texts", [[], ["a b c d e f"]])
def test_an_impossible_threshold_is_refused(threshold, texts):
    with pytest.raises(ValueError, match="above 0 and at most 1, got"):
        near_duplicates(texts, threshold=threshold)
    with pytest.raises(ValueError, match="above 0 and at most 1, got"):
        remove_near_duplicates(documents(texts), threshold=threshold)


def test_bands_that_do_not_divide_the_hashes_are_refused():
    with pytest.raises(ValueError, match="divides 128 hashes, got 30"):
        near_duplicates(["a b c d e f"], n_bands=30)


def test_more_copies_than_texts_are_refused():
    with pytest.raises(ValueError, match="2 copies need 2 texts, got 1"):
        plant_near_duplicates(["a b"], [0.5, 0.5])


def test_a_copy_of_impossible_similarity_is_refused():
    with pytest.raises(ValueError, match=r"above 0, at most 1, got 1\.5"):
        plant_near_duplicates(["a b"], [1.5])
