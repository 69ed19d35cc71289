"""Shingles, MinHash, exact and near copies."""

import hashlib
import math
import os
import random
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcourse.text.deduplication import (
    Pair,
    candidate_pairs,
    candidate_probability,
    estimated_jaccard,
    fingerprint,
    jaccard,
    mix,
    near_duplicates,
    ngram_hashes,
    plant_near_duplicates,
    precision_recall,
    remove_duplicates,
    remove_near_duplicates,
    shingles,
    signatures,
    words,
)
from llmcourse.text.documents import Document, tales

SMALL_TEXTS = st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join)


def signature(numbers, **options):
    return signatures([numbers], **options)[0]


def word_set(text, n):
    """The definition: the set of runs of n words, by Python's own sets."""
    split = words(text)
    runs = {tuple(split[i : i + n]) for i in range(len(split) - n + 1)}
    return runs or ({tuple(split)} if split else set())


def test_three_shingles_of_two_words():
    """the cat, cat sat, sat the; "the cat" again is the same one."""
    assert len(shingles("The cat sat. The cat!", n=2)) == 3


def test_two_texts_share_two_of_four_shingles():
    """{ab, bc, cd} and {bc, cd, de}: 2 in common, 4 in all."""
    assert jaccard(shingles("a b c d", 2), shingles("b c d e", 2)) == 0.5


@given(a=SMALL_TEXTS, b=SMALL_TEXTS, n=st.integers(1, 5))
def test_jaccard_is_that_of_sets_of_word_runs(a, b, n):
    one, other = word_set(a, n), word_set(b, n)
    wanted = len(one & other) / len(one | other) if one | other else 1.0
    assert jaccard(shingles(a, n), shingles(b, n)) == wanted


@given(text=st.text(), n=st.integers(1, 4))
def test_every_run_of_words_has_one_hash(text, n):
    assert len(ngram_hashes(text, n)) == max(len(words(text)) - n + 1, 0)


@given(text=st.text())
def test_words_do_not_depend_on_the_unicode_form(text):
    assert words(unicodedata.normalize("NFD", text)) == words(text)


def test_words_know_no_case_and_no_punctuation():
    assert words("Straße, STRASSE; ﬁx_me!") == ["strasse", "strasse", "fix_me"]


def test_a_run_hash_depends_on_the_order_of_the_words():
    assert ngram_hashes("a b", 2)[0] != ngram_hashes("b a", 2)[0]


def test_run_hashes_are_the_polynomial_computed_with_large_integers():
    """BLAKE2 of each word, and Python's integers, which do not overflow at 2⁶⁴."""
    hashes = [
        int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little")
        for word in b"one two three four".split()
    ]
    step = 0x9E3779B97F4A7C15
    totals = [
        (hashes[i] + step * hashes[i + 1] + step**2 * hashes[i + 2]) % 2**64
        for i in range(2)
    ]
    wanted = mix(np.array(totals, dtype=np.uint64))
    np.testing.assert_array_equal(ngram_hashes("one two three four", 3), wanted)


def test_another_process_finds_the_same_numbers():
    """Python's own hash of a string would differ: its seed is another one there."""
    code = (
        "from llmcourse.text.deduplication import fingerprint, ngram_hashes;"
        "print(fingerprint('a b c'), *ngram_hashes('a b c', 2))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1234"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    here = [fingerprint("a b c"), *ngram_hashes("a b c", 2)]
    assert done.stdout.split() == [str(number) for number in here]


def test_fingerprints_see_punctuation_but_no_case_and_no_spaces():
    assert fingerprint(" A  b\n") == fingerprint("a b")
    assert fingerprint("x + y") != fingerprint("x - y")
    assert fingerprint("a b", salt="1") != fingerprint("a b", salt="2")


def test_lone_surrogates_are_hashed_too():
    assert fingerprint("\ud800") != fingerprint("\ud801")


def test_mixing_one_bit_changes_half_of_the_bits():
    """32 of 64 on average; the mean over 64 one-bit changes lies within 4 errors.

    Each bit flips like a coin: standard error √(64 · ¼ / 64) = 0.5 bits, so a
    good mixer fails with a probability of 6e-5.
    """
    before = np.full(64, 12345, dtype=np.uint64)
    after = before ^ (np.uint64(1) << np.arange(64, dtype=np.uint64))
    flipped = mix(before) ^ mix(after)
    bits = [int(number).bit_count() for number in flipped]
    assert abs(np.mean(bits) - 32) < 2


@pytest.mark.parametrize("function", [shingles, ngram_hashes])
def test_runs_of_no_words_are_refused(function):
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        function("a b c", n=0)


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


def test_the_order_of_shingles_does_not_matter():
    numbers = RNG.integers(0, 2**63, 30, dtype=np.uint64)
    one = signature(numbers, n_hashes=16)
    np.testing.assert_array_equal(one, signature(numbers[::-1].copy(), n_hashes=16))


def test_no_texts_have_no_candidates():
    assert candidate_pairs(signatures([], 8), n_bands=4).shape == (0, 2)


@pytest.mark.parametrize("n_bands", [5, 16])
def test_bands_that_do_not_divide_the_hashes_are_refused(n_bands):
    with pytest.raises(ValueError, match="equal division"):
        candidate_pairs(np.zeros((3, 8), dtype=np.uint64), n_bands)


def random_texts(n, seed, n_words=150):
    """Return texts that have nothing in common but single words."""
    rng = random.Random(seed)
    vocabulary = [f"word{i}" for i in range(2000)]
    return [" ".join(rng.choices(vocabulary, k=n_words)) for _ in range(n)]


def edit(text, places):
    """Return the text with the words at the places replaced."""
    return " ".join(f"new{i}" if i in places else w for i, w in enumerate(text.split()))


def documents(texts):
    return [Document(text, f"d{i}") for i, text in enumerate(texts)]


def names(found):
    return [document.name for document in found]


def test_the_first_of_two_copies_stays():
    kept, report = remove_duplicates(documents(["The fox.", "A hen.", "the  FOX.\n"]))
    assert names(kept) == ["d0", "d1"]
    assert report.reasons == {"copy": 1}
    assert "d2: copy: like d0" in str(report)


def test_one_object_twice_is_a_copy():
    document = Document("The fox.", name="d0")
    kept, report = remove_duplicates([document, document])
    assert names(kept) == ["d0"]
    assert report.reasons == {"copy": 1}


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
    (J = 80/120 = 0.67). The pairs still connect all three.
    """
    a = random_texts(1, seed=2, n_words=104)[0]
    b, c = edit(a, {20, 40}), edit(a, {20, 40, 60, 80})
    kept, _ = remove_near_duplicates(documents([a, b, c]), threshold=0.7)
    assert names(kept) == ["d0", "d2"]
    pairs = [(pair.first, pair.second) for pair in near_duplicates([a, b, c])]
    assert pairs == [(0, 1), (1, 2)]


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

    Missed by all of 128 hashes: 0.7¹²⁸ = 1e-20.
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
    assert near_duplicates(texts, threshold=0.3, n_bands=128) == wanted
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


def test_equal_texts_shorter_than_a_shingle_are_copies():
    long = random_texts(1, seed=7)[0]
    kept, _ = remove_near_duplicates(documents([long, "two words", "two, words"]))
    assert names(kept) == ["d0", "d1"]


def test_found_nothing_is_precise_and_recalls_nothing():
    assert precision_recall([], [Pair(0, 1, 1.0)]) == (1.0, 0.0)


def test_texts_of_signs_are_kept_apart():
    texts = [Document(text) for text in ("😀😀 😀", "→ ↑ ↓", "+++[>++<-].", "→ ↑ ↓")]
    kept, _ = remove_near_duplicates(texts)
    assert [document.text for document in kept] == [d.text for d in texts[:3]]


def test_recall_of_nothing_is_refused():
    with pytest.raises(ValueError, match="wanted must be at least 1, got 0"):
        precision_recall([Pair(0, 1, 1.0)], [])


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
@pytest.mark.parametrize("texts", [[], ["a b c d e f"]])
def test_an_impossible_threshold_is_refused(threshold, texts):
    with pytest.raises(
        ValueError, match="threshold must be positive|threshold must be in 0 … 1"
    ):
        near_duplicates(texts, threshold=threshold)
    with pytest.raises(
        ValueError, match="threshold must be positive|threshold must be in 0 … 1"
    ):
        remove_near_duplicates(documents(texts), threshold=threshold)


def test_bands_of_near_duplicates_that_do_not_divide_the_hashes_are_refused():
    with pytest.raises(ValueError, match="equal division"):
        near_duplicates(["a b c d e f"], n_bands=30)


def test_more_copies_than_texts_are_refused():
    with pytest.raises(ValueError, match="texts must be at least 2, got 1"):
        plant_near_duplicates(["a b"], [0.5, 0.5])


def test_a_copy_of_impossible_similarity_is_refused():
    with pytest.raises(ValueError, match=r"similarity must be in 0 … 1, got 1\.5"):
        plant_near_duplicates(["a b"], [1.5])
