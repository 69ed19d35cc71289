"""MinHash and LSH: find similar texts without comparing every pair.

Two ideas of a page each. *MinHash*: put all shingles in a random order; the
first shingle of A is the first of B with probability J, the Jaccard similarity
of A and B. Do so under k orders, and the share of agreements estimates J:

    signature of A   [17, 93, 40,  8]
    signature of B   [17, 51, 40,  8]    3 of 4 agree: J ≈ 0.75

*LSH banding*: cut the k numbers into bands of r; two texts become a candidate
pair if all r numbers of some band agree. That happens with the probability
1 − (1 − Jʳ)ᵇ, a steep S over J, and a band is found by sorting, not by pairs.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, UInt64

from llmcourse.shingles import Hashes, mix

Signatures = UInt64[np.ndarray, "text n_hashes"]
Pairs = Int64[np.ndarray, "pair 2"]

_CHUNK = 4096  # shingles hashed at a time, so that a long text needs no more memory
_MAX_DISTANCE = 64  # how far apart in a sorted bucket two texts are still paired


def signature(
    shingles: Hashes, n_hashes: int = 128, seed: int = 0
) -> UInt64[np.ndarray, "n_hashes"]:
    """Return the MinHash signature of a set of shingles.

    Each order of the shingles is a hash function x → a·x + b modulo 2⁶⁴, a odd,
    of shingles that are random numbers already. An empty set has the signature
    of all ones.

    Args:
        shingles: A set of shingles, as `shingles.shingles` returns it.
        n_hashes: Number of orders, k.
        seed: Another seed gives other orders.

    Raises:
        ValueError: If `n_hashes` is not positive.

    Source: Broder (1997), section 3.
    """
    if n_hashes < 1:
        raise ValueError(f"a signature needs at least one hash, got {n_hashes}")
    numbers = mix(np.arange(2 * n_hashes, dtype=np.uint64) + _start(seed))
    factors = (numbers[:n_hashes] | np.uint64(1))[:, None]
    offsets = numbers[n_hashes:, None]
    smallest = np.full(n_hashes, np.iinfo(np.uint64).max, dtype=np.uint64)
    for start in range(0, len(shingles), _CHUNK):
        hashes = factors * shingles[start : start + _CHUNK] + offsets
        np.minimum(smallest, hashes.min(axis=1), out=smallest)
    return smallest


def signatures(
    shingle_sets: Sequence[Hashes], n_hashes: int = 128, seed: int = 0
) -> Signatures:
    """Return the MinHash signatures of many sets of shingles, one in each row.

    Args:
        shingle_sets: One set of shingles for each text.
        n_hashes: Number of hashes in a signature.
        seed: Another seed gives other orders.

    Raises:
        ValueError: If `n_hashes` is not positive.
    """
    rows = [signature(each, n_hashes, seed) for each in shingle_sets]
    return np.array(rows, dtype=np.uint64).reshape(len(rows), n_hashes)


def estimated_jaccard(
    a: UInt64[np.ndarray, "n_hashes"], b: UInt64[np.ndarray, "n_hashes"]
) -> float:
    """Return the share of hashes that agree, an estimate of Jaccard similarity.

    Its standard error is √(J(1 − J) / n_hashes): 0.04 for 128 hashes at J = 0.7.

    Args:
        a: A signature.
        b: Another one, of the same length and seed.

    >>> estimated_jaccard(np.array([1, 2], np.uint64), np.array([1, 3], np.uint64))
    0.5
    """
    return float(np.mean(a == b))


def candidate_probability(jaccard: float, n_bands: int, n_rows: int) -> float:
    """Return the probability that banding proposes a pair of this similarity.

    Args:
        jaccard: Jaccard similarity of the pair, from 0 to 1.
        n_bands: Number of bands, b.
        n_rows: Number of hashes in a band, r.

    Source: Leskovec, Rajaraman and Ullman (2020), section 3.4.2.

    >>> [round(candidate_probability(j, 20, 5), 3) for j in (0.2, 0.5, 0.8)]
    [0.006, 0.47, 1.0]
    """
    return float(1 - (1 - jaccard**n_rows) ** n_bands)


def candidate_pairs(signatures: Signatures, n_bands: int) -> Pairs:
    """Return the pairs of texts that agree in at least one whole band.

    Unlike the book, texts that share a bucket with hundreds of others are paired
    with their next 64 in it only: the pairs still connect the whole bucket, and
    a corpus of a million copies of one page does not need 10¹² pairs.

    Args:
        signatures: One signature in each row.
        n_bands: Number of bands; divides the number of hashes.

    Returns:
        Indices (smaller, larger) of each pair, sorted, each pair once.

    Raises:
        ValueError: If the bands do not divide the number of hashes evenly.

    Source: Leskovec, Rajaraman and Ullman (2020), section 3.4.1.

    >>> candidate_pairs(np.array([[1, 2], [3, 2], [4, 5]], np.uint64), n_bands=2)
    array([[0, 1]])
    """
    n_texts, n_hashes = signatures.shape
    if n_bands < 1 or n_hashes % n_bands:
        raise ValueError(
            f"wanted a number of bands that divides {n_hashes} hashes, got {n_bands}"
        )
    codes: list[np.ndarray] = []
    for band in np.split(signatures, n_bands, axis=1):
        keys = _band_keys(band)
        order = np.argsort(keys, kind="stable").astype(np.uint64)
        keys = keys[order]
        for distance in range(1, min(_MAX_DISTANCE, n_texts - 1) + 1):
            same = keys[:-distance] == keys[distance:]
            if not same.any():
                break
            # Stable: within a bucket the order is that of the texts.
            smaller, larger = order[:-distance][same], order[distance:][same]
            codes.append(smaller * np.uint64(n_texts) + larger)
    unique = np.unique(np.concatenate([np.empty(0, np.uint64), *codes]))
    pairs = np.stack(np.divmod(unique, np.uint64(max(n_texts, 1))), axis=1)
    return pairs.astype(np.int64)


def _band_keys(
    band: UInt64[np.ndarray, "text n_rows"],
) -> UInt64[np.ndarray, "text"]:
    """Return one number for each row of a band, equal for equal rows."""
    keys = np.zeros(len(band), dtype=np.uint64)
    for column in band.T:
        keys = mix(keys ^ column)
    return keys


def _start(seed: int) -> np.uint64:
    """Return where the random numbers of this seed begin."""
    return np.uint64(mix(np.array([seed % 2**64], dtype=np.uint64))[0])
