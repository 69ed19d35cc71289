"""Counts as a language model, and compressors."""

import gzip
import math
import random

import pytest

from llmcourse.text import tales
from llmcourse.text.ngrams import COMPRESSORS, NGramModel, compressed_bits_per_byte

TEXTS = ["the fox ran", "the fox slept", "the hen ran"]


def test_worked_example():
    """By hand, with ten possible words; nine seen, five of them different.

    P(ran) = (2 + 5 · 1/10) / (9 + 5) = 2.5/14; after "fox" came two words, each
    once, so P(ran | fox) = (1 + 2 · 2.5/14) / (2 + 2).
    """
    model = NGramModel(TEXTS, n=2, vocab_size=10)
    assert model.prob("ran") == pytest.approx(2.5 / 14)
    after_fox = (1 + 2 * 2.5 / 14) / 4
    assert model.prob("ran", ("fox",)) == pytest.approx(after_fox)
    assert model.surprises("the fox ran")[2] == pytest.approx(-math.log(after_fox))


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("context", [("the",), ("the", "hen"), ("owl",), ("", "the")])
def test_probabilities_sum_to_one(n, context):
    words = {word for text in TEXTS for word in text.split()}
    model = NGramModel(TEXTS, n, vocab_size=len(words) + 3)
    unseen = 3 * model.prob("whale", context)
    seen = math.fsum(model.prob(word, context) for word in words)
    assert seen + unseen == pytest.approx(1)


def test_only_the_last_words_count():
    model = NGramModel(TEXTS, n=2)
    assert model.prob("ran", ("hen", "fox")) == model.prob("ran", ("fox",))
    assert model.prob("ran", ("owl",)) == model.prob("ran")  # never seen


def test_the_beginning_of_a_text_is_a_context():
    model = NGramModel(["a b", "a c", "b a"], n=3)
    assert model.surprises("a")[0] < -math.log(model.prob("b", ("", "")))


def test_longer_memory_learns_the_tales_but_stays_above_their_entropy():
    train = [story.text for story in tales.generate(80, seed=1)]
    unseen = list(tales.generate(12, seed=2))
    floor = -sum(story.log_prob for story in unseen)
    losses = [
        sum(sum(NGramModel(train, n).surprises(story.text)) for story in unseen)
        for n in (1, 2, 3)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] > floor


def test_rows_of_ids_are_counted_as_words_are():
    ids = {word: n for n, word in enumerate(["the", "fox", "hen", "ran", "slept"])}
    rows = [[ids[word] for word in text.split()] for text in TEXTS]
    by_words, by_ids = NGramModel(TEXTS, n=3), NGramModel(rows, n=3)
    assert by_ids.surprises(rows[0]) == by_words.surprises(TEXTS[0])
    assert by_ids.loss(rows) == pytest.approx(by_words.loss(TEXTS))
    prices = [price for text in TEXTS for price in by_words.surprises(text)]
    assert by_words.loss(TEXTS) == pytest.approx(sum(prices) / 9)


def test_a_loss_needs_a_word():
    with pytest.raises(ValueError, match="words must be at least 1, got 0"):
        NGramModel(TEXTS, n=2).loss([])


@pytest.mark.parametrize(
    ("texts", "n", "vocab_size", "message"),
    [
        (TEXTS, 0, 10, "at least 1, got 0"),
        (TEXTS, 2, 0, "vocab_size must be at least 1, got 0"),
        ([" "], 2, 10, "at least one word"),
    ],
)
def test_refusals(texts, n, vocab_size, message):
    with pytest.raises(ValueError, match=message):
        NGramModel(texts, n, vocab_size)


def test_sizes_by_hand():
    """A compressed file of n bytes is 8 n bits, spread over the bytes of the text."""
    text = "naïve " * 50  # 7 bytes each
    size = len(gzip.compress(text.encode(), compresslevel=9, mtime=0))
    assert compressed_bits_per_byte(text)["gzip"] == 8 * size / 350


def test_random_bits_cannot_be_compressed():
    """Two letters, evenly drawn: 1 bit each, and none gets much below."""
    rng = random.Random(0)
    text = "".join(rng.choice("ab") for _ in range(20_000))
    for bits in compressed_bits_per_byte(text).values():
        assert 0.99 < bits < 1.5


def test_what_stood_before_is_copied_if_it_is_near_enough():
    """gzip looks back 32 KiB: behind more than that, it cannot copy."""
    rng = random.Random(1)
    text, filler = (
        "".join(rng.choice("abcdefgh") for _ in range(n)) for n in (2000, 40_000)
    )
    near = compressed_bits_per_byte(text, before=filler + text)
    far = compressed_bits_per_byte(text, before=text + filler)
    alone = compressed_bits_per_byte(text)
    assert near["gzip"] < 0.2 < 2.9 < far["gzip"]
    assert max(near["xz"], far["xz"]) < 0.2
    assert min(alone.values()) > 2.9


def test_sizes_are_the_same_every_time():
    text = "Once upon a time. " * 9
    assert compressed_bits_per_byte(text) == compressed_bits_per_byte(text)
    assert list(compressed_bits_per_byte(text)) == list(COMPRESSORS)


def test_refusal():
    with pytest.raises(ValueError, match="n_bytes must be at least 1, got 0"):
        compressed_bits_per_byte("", before="text")


def test_more_words_than_there_may_be_are_refused():
    with pytest.raises(ValueError, match="vocab_size must be at least 3, got 2"):
        NGramModel(["a b c"], 1, vocab_size=2)
