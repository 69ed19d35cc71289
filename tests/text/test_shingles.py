import hashlib
import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcourse.text.deduplication import (
    fingerprint,
    jaccard,
    mix,
    ngram_hashes,
    shingles,
    word_hashes,
    words,
)

SMALL_TEXTS = st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join)


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
    """Python's integers do not overflow: an independent account of modulo 2⁶⁴."""
    hashes = [int(h) for h in word_hashes("one two three four")]
    step = 0x9E3779B97F4A7C15
    totals = [
        (hashes[i] + step * hashes[i + 1] + step**2 * hashes[i + 2]) % 2**64
        for i in range(2)
    ]
    wanted = mix(np.array(totals, dtype=np.uint64))
    np.testing.assert_array_equal(ngram_hashes("one two three four", 3), wanted)


def test_word_hashes_are_blake2():
    digest = hashlib.blake2b("füchse".encode(), digest_size=8).digest()
    assert int(word_hashes("Füchse")[0]) == int.from_bytes(digest, "little")


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
    with pytest.raises(ValueError, match="at least 1 word, got 0"):
        function("a b c", n=0)
