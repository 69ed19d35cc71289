"""The runs of n words by which two texts are compared.

A text is cut into words (case and punctuation ignored), and every run of n
words, a *shingle*, becomes a number of 64 bits:

    "The cat sat. The cat!"  n = 2  →  {the cat, cat sat, sat the}

The numbers depend on the text alone, not on the machine or the process:
Python's own `hash` differs from run to run.
"""

import hashlib
import re
import unicodedata
from functools import lru_cache

import numpy as np
from jaxtyping import UInt64

Hashes = UInt64[np.ndarray, "_"]  # of one text; each has its own number

_WORD = re.compile(r"\w+")
_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd


def words(text: str) -> list[str]:
    """Return the words of a text: compatibility form, folded case, no punctuation.

    >>> words("The cat – the CAT!")
    ['the', 'cat', 'the', 'cat']
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.casefold())


def fingerprint(text: str, salt: str = "") -> int:
    r"""Return a number of 64 bits, equal for texts that differ in case and spaces only.

    Args:
        text: Any text.
        salt: Another salt gives other, independent numbers.

    >>> fingerprint("The cat sat.") == fingerprint("the  cat\nsat.")
    True
    """
    return _digest(f"{salt}\n{' '.join(text.casefold().split())}")


def word_hashes(text: str) -> Hashes:
    """Return one number of 64 bits for each word of a text, in order."""
    return np.array([_cached_digest(word) for word in words(text)], dtype=np.uint64)


def ngram_hashes(text: str, n: int) -> Hashes:
    """Return one number of 64 bits for each run of n words, in order.

    The hash of a run is h₁ + c·h₂ + c²·h₃ + … modulo 2⁶⁴ for the hashes of its
    words, computed for all runs at once, then mixed.

    Args:
        text: A text; with fewer than n words it has no run.
        n: Length of a run, in words.

    Raises:
        ValueError: If n is not positive.

    >>> len(ngram_hashes("the cat sat on the mat", n=3))
    4
    """
    if n < 1:
        raise ValueError(f"an n-gram needs n of at least 1 word, got {n}")
    hashes = word_hashes(text)
    count = max(len(hashes) - n + 1, 0)
    total = np.zeros(count, dtype=np.uint64)
    for offset in reversed(range(n)):
        total = total * _STEP + hashes[offset : offset + count]
    return mix(total)


def shingles(text: str, n: int = 5) -> Hashes:
    """Return the set of shingles of a text: sorted, each once.

    A text of fewer than n words is one shingle, itself.

    Args:
        text: Any text; one without words has no shingle.
        n: Length of a shingle, in words.

    Raises:
        ValueError: If n is not positive.

    Source: Broder (1997), section 2.

    >>> len(shingles("the cat sat the cat", n=2))
    3
    """
    hashes = ngram_hashes(text, n)
    if len(hashes) == 0 and (short := words(text)):
        hashes = np.array([_digest(" ".join(short))], dtype=np.uint64)
    return np.unique(hashes)


def jaccard(a: Hashes, b: Hashes) -> float:
    """Return the share of shingles that two sets have in common, from 0 to 1.

    Jaccard similarity is ``|A ∩ B| / |A ∪ B|``; two empty sets count as equal.

    Args:
        a: A set of shingles, as `shingles` returns it.
        b: Another one.

    >>> jaccard(shingles("a b c d", n=2), shingles("b c d e", n=2))  # 2 of 4
    0.5
    """
    shared = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - shared
    return shared / union if union else 1.0


def mix(numbers: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """Return numbers of 64 bits, scrambled so that every bit depends on all.

    Source: Steele et al. (2014), the finaliser of SplitMix64 (by Stafford).
    """
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64[np.ndarray, "*shape"] = numbers ^ (numbers >> np.uint64(31))
    return mixed


def _digest(text: str) -> int:
    data = text.encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


_cached_digest = lru_cache(maxsize=2**17)(_digest)
