"""What compressors make of texts whose entropy is known."""

import gzip
import random

import pytest

from llmcourse.text.ngrams import COMPRESSORS, compressed_bits_per_byte


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
    with pytest.raises(ValueError, match="got an empty one"):
        compressed_bits_per_byte("", before="text")
