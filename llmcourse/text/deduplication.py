"""Remove copies: exact ones by a hash, near ones by MinHash and LSH.

A text that occurs a hundred times in a corpus is seen a hundred times as often, and
learned by heart. A copy of a test text in the training text makes the test worthless
(Lee et al. 2022).

*Shingles.* A text is cut into words (case and punctuation ignored), and every run of
n words, a shingle, becomes a 64-bit number. It depends on the text alone, unlike
Python's own `hash`, which differs between processes:

    "The cat sat. The cat!"  n = 2  →  {the cat, cat sat, sat the}

*MinHash.* Put all shingles in a random order; the first shingle of A is the first of
B with probability J, the Jaccard similarity of A and B. Repeat this for k orders, and
the share of agreements estimates J:

    signature of A   [17, 93, 40,  8]
    signature of B   [17, 51, 40,  8]    3 of 4 agree: J ≈ 0.75

*LSH banding.* Cut the k numbers into b bands of r; two texts become a candidate pair
if all r numbers of some band agree. That happens with probability 1 − (1 − Jʳ)ᵇ, a
steep S-curve in J. Not all pairs are compared: texts with equal bands share a bucket.
"""

import hashlib
import random
import re
import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import regex
from jaxtyping import Int64, UInt64

from llmcourse.arguments import check_positive, check_range
from llmcourse.text.documents import Document, Removal, StepReport, excerpt, summarise

Hashes = UInt64[np.ndarray, "_"]  # of one text; texts differ in how many
Signatures = UInt64[np.ndarray, "text n_hashes"]

_CHUNK = 4096  # shingles hashed at a time, which limits memory for long texts
_NEIGHBOURS = 64  # in a bucket with which a text is paired
_WORD = re.compile(r"\w+")
# For other scripts, with their marks; a mark alone, as in emoji, is not a word.
_ANY_WORD = regex.compile(r"[\p{Alphabetic}\p{N}\p{Pc}][\w\p{N}]*")
_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd


def words(text: str) -> list[str]:
    """Return the words of a text: compatibility form, folded case, no punctuation.

    >>> words("The cat – the CAT!")
    ['the', 'cat', 'the', 'cat']
    """
    if text.isascii():
        return _WORD.findall(text.casefold())
    return _ANY_WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def fingerprint(text: str, salt: str = "") -> int:
    r"""Return a 64-bit number, equal for texts that differ only in case and spaces.

    Args:
        text: What is hashed.
        salt: Another salt gives other, independent numbers.

    >>> fingerprint("The cat sat.") == fingerprint("the  cat\nsat.")
    True
    """
    return _digest(f"{salt}\n{' '.join(text.casefold().split())}")


def ngram_hashes(text: str, n: int) -> Hashes:
    """Return one 64-bit number for each run of n words, in order.

    The hash of a run is h₁ + c·h₂ + c²·h₃ + … modulo 2⁶⁴, where h are the hashes of
    its words, computed for all runs at once, then mixed.

    Args:
        text: Any text; one with fewer than n words has no runs.
        n: Length of a run, in words.

    Raises:
        ValueError: If n is not positive.

    >>> len(ngram_hashes("the cat sat on the mat", n=3))
    4
    """
    check_range(1, n=n)
    hashes = np.array([_word_digest(word) for word in words(text)], dtype=np.uint64)
    count = max(len(hashes) - n + 1, 0)
    total = np.zeros(count, dtype=np.uint64)
    for offset in reversed(range(n)):
        total = total * _STEP + hashes[offset : offset + count]
    return mix(total)


def shingles(text: str, n: int = 5) -> Hashes:
    """Return the set of shingles of a text: sorted, each once.

    A text of fewer than n words is one shingle, itself.

    Args:
        text: Any text; one of signs alone is also one shingle, an empty one has none.
        n: Length of a shingle, in words.

    Raises:
        ValueError: If n is not positive.

    Source: Broder (1997), section 2.

    >>> len(shingles("the cat sat the cat", n=2))
    3
    """
    hashes = ngram_hashes(text, n)
    if len(hashes) == 0 and (short := words(text) or text.split()):
        hashes = np.array([_digest(" ".join(short))], dtype=np.uint64)
    return np.unique(hashes)


def jaccard(a: Hashes, b: Hashes) -> float:
    """Return the share of shingles that two sets have in common, from 0 to 1.

    Jaccard similarity is ``|A ∩ B| / |A ∪ B|``; two empty sets count as equal. The
    sets are as `shingles` returns them.

    >>> jaccard(shingles("a b c d", n=2), shingles("b c d e", n=2))  # 2 of 4
    0.5
    """
    shared = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - shared
    return shared / union if union else 1.0


def mix(numbers: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """Return 64-bit numbers, scrambled so that every bit depends on all input bits.

    Source: Steele et al. (2014), the finaliser of SplitMix64 (by Stafford).
    """
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64[np.ndarray, "*shape"] = numbers ^ (numbers >> np.uint64(31))
    return mixed


def _digest(text: str) -> int:
    data = text.encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


_word_digest = lru_cache(maxsize=2**17)(_digest)


def signatures(shingle_sets: Sequence[Hashes], n_hashes: int = 128) -> Signatures:
    """Return the MinHash signatures of many sets of shingles, one in each row.

    Each order of the shingles is given by a hash function x → a·x + b modulo 2⁶⁴,
    a odd; shingles are random numbers already. The signature of an empty set is all
    1 bits.

    Args:
        shingle_sets: One set of shingles for each text, as `shingles` returns it.
        n_hashes: Number of orders, k.

    Source: Broder (1997), section 3.
    """
    numbers = mix(np.arange(2 * n_hashes, dtype=np.uint64))
    factors = (numbers[:n_hashes] | np.uint64(1))[:, None]
    offsets = numbers[n_hashes:, None]
    ones = np.iinfo(np.uint64).max
    smallest = np.full((len(shingle_sets), n_hashes), ones, dtype=np.uint64)
    for row, shingles in zip(smallest, shingle_sets, strict=True):
        for i in range(0, len(shingles), _CHUNK):
            hashes = factors * shingles[i : i + _CHUNK] + offsets
            np.minimum(row, hashes.min(axis=1), out=row)
    return smallest


def estimated_jaccard(
    a: UInt64[np.ndarray, "n_hashes"], b: UInt64[np.ndarray, "n_hashes"]
) -> float:
    """Return the share of hashes that agree, an estimate of Jaccard similarity.

    Its standard error is √(J(1 − J) / n_hashes): 0.04 for 128 hashes at J = 0.7.

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


def candidate_pairs(
    signatures: Signatures, n_bands: int
) -> Int64[np.ndarray, "pair 2"]:
    """Return the pairs of texts that agree in at least one whole band.

    Unlike in the book, texts that share a bucket with hundreds of others are paired
    only with the next 64 in it: the pairs still connect the whole bucket, and a
    corpus of a million copies of one page does not need 10¹² pairs.

    Args:
        signatures: One signature in each row.
        n_bands: Number of bands; must divide the number of hashes.

    Returns:
        Indices (smaller, larger) of each pair, sorted, each pair once.

    Raises:
        ValueError: If `n_bands` is below 1 or does not divide the number of hashes.

    Source: Leskovec, Rajaraman and Ullman (2020), section 3.4.1.

    >>> candidate_pairs(np.array([[1, 2], [3, 2], [4, 5]], np.uint64), n_bands=2)
    array([[0, 1]])
    """
    check_range(1, n_bands=n_bands)
    pairs: set[tuple[int, int]] = set()
    for band in np.split(signatures, n_bands, axis=1):
        buckets: defaultdict[bytes, list[int]] = defaultdict(list)
        for text, numbers in enumerate(band):
            buckets[numbers.tobytes()].append(text)
        for bucket in buckets.values():
            for place, text in enumerate(bucket, start=1):
                pairs.update((text, other) for other in bucket[place:][:_NEIGHBOURS])
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)


@dataclass(frozen=True)
class Pair:
    """Two near duplicates, by their places in the corpus."""

    first: int
    second: int
    similarity: float  # exact Jaccard similarity of their shingles


def remove_duplicates(
    documents: Sequence[Document],
) -> tuple[list[Document], StepReport]:
    """Return the documents without exact copies; the first of each stays.

    Copies may differ in case and spaces.

    >>> documents = [Document("The fox."), Document("A hen."), Document("the fox.")]
    >>> [document.text for document in remove_duplicates(documents)[0]]
    ['The fox.', 'A hen.']
    """
    first: dict[int, int] = {}
    places = [first.setdefault(fingerprint(d.text), i) for i, d in enumerate(documents)]
    like = {i: (place, 1.0) for i, place in enumerate(places) if place != i}
    return _without_copies(documents, like, "remove duplicates", "copy")


def remove_near_duplicates(
    documents: Sequence[Document],
    *,
    threshold: float = 0.7,
    n: int = 5,
    n_bands: int = 32,
) -> tuple[list[Document], StepReport]:
    """Return the documents without near copies of earlier ones that are kept.

    Each removed document is like one that is kept. Lee et al. (2022) remove whole
    clusters instead. That is simple but risky: where A is like B, B like C, and so
    on, a chain of small changes removes all but one of them.

    Args:
        documents: Documents, preferably without exact copies.
        threshold: The least Jaccard similarity at which two texts are copies.
        n: Length of a shingle, in words.
        n_bands: Bands of a signature; must divide its 128 hashes.

    Raises:
        ValueError: If the threshold is not above 0 and at most 1, if n is not
            positive, or if the bands do not divide the hashes.
    """
    sets = _shingle_sets([document.text for document in documents], n, threshold)
    like: dict[int, tuple[int, float]] = {}  # for each copy: what stays, how alike
    # The pairs are sorted: when a document comes first in a pair, every pair that
    # could remove it has been seen. If it was removed, the document that stays takes
    # its place, since in a full bucket only neighbours are candidates.
    for one, j in candidate_pairs(signatures(sets), n_bands).tolist():
        if j not in like:
            i, _ = like.get(one, (one, 1.0))
            similarity = jaccard(sets[i], sets[j])
            if similarity >= threshold:
                like[j] = i, similarity
    return _without_copies(documents, like, "remove near duplicates", "near copy")


def near_duplicates(
    texts: Sequence[str], *, threshold: float = 0.7, n_bands: int = 32
) -> list[Pair]:
    """Return the pairs of texts whose Jaccard similarity reaches the threshold.

    LSH proposes pairs, exact Jaccard similarity decides: no false pair is
    returned, and a true one of similarity J is missed with probability
    1 − `candidate_probability(J, n_bands, 128 // n_bands)`, more often where
    hundreds of texts share a bucket.

    Args:
        texts: Any texts.
        threshold: Least similarity of their shingles, above 0 and at most 1.
        n_bands: Bands of a signature; must divide its 128 hashes.

    Raises:
        ValueError: If the threshold is not above 0 and at most 1, or if the bands do
            not divide the hashes.
    """
    sets = _shingle_sets(texts, 5, threshold)
    candidates = candidate_pairs(signatures(sets), n_bands).tolist()
    pairs = [Pair(i, j, jaccard(sets[i], sets[j])) for i, j in candidates]
    return [pair for pair in pairs if pair.similarity >= threshold]


def plant_near_duplicates(
    texts: Sequence[str], similarities: Sequence[float]
) -> tuple[list[str], list[Pair]]:
    """Return the texts followed by edited copies, and the pairs that this makes.

    Words of a copy are replaced, one after another at random places, by words that
    occur in no text, as long as the similarity is at least the one asked for.

    Args:
        texts: Texts; the i-th similarity is for a copy of the i-th text.
        similarities: Jaccard similarities to reach, each above 0 and at most 1.

    Returns:
        All texts, and a pair (original, copy, exact similarity) for each copy.

    Raises:
        ValueError: If there are fewer texts than similarities, or one of these is
            not above 0 and at most 1.
    """
    check_range(len(similarities), texts=len(texts))
    copies, pairs = [], []
    for i, similarity in enumerate(similarities):
        check_positive(similarity=similarity)
        check_range(0, 1, similarity=similarity)
        copy = _edited(texts[i], similarity, random.Random(f"0 {i}"))
        reached = jaccard(shingles(texts[i]), shingles(copy))
        copies.append(copy)
        pairs.append(Pair(i, len(texts) + i, reached))
    return [*texts, *copies], pairs


def precision_recall(
    found: Iterable[Pair], wanted: Iterable[Pair]
) -> tuple[float, float]:
    """Return the shares of found pairs that are wanted, and of wanted pairs found.

    Args:
        found: Pairs that a method returned.
        wanted: Pairs that it should have returned.

    Raises:
        ValueError: If nothing is wanted: recall is then undefined.

    >>> precision_recall([Pair(0, 1, 0.9), Pair(2, 3, 0.8)], [Pair(0, 1, 0.9)])
    (0.5, 1.0)
    """
    got = {(pair.first, pair.second) for pair in found}
    right = {(pair.first, pair.second) for pair in wanted}
    check_range(1, wanted=len(right))
    hits = len(got & right)
    return hits / len(got) if got else 1.0, hits / len(right)


def _edited(text: str, similarity: float, rng: random.Random) -> str:
    """Return the text with as many words replaced as the similarity allows."""
    original, tokens, tag = shingles(text), text.split(" "), rng.getrandbits(64)
    places = rng.sample(range(len(tokens)), len(tokens))

    def edited(count: int) -> str:
        new = {place: f"edit{place}x{tag}" for place in places[:count]}
        return " ".join(new.get(i, token) for i, token in enumerate(tokens))

    # Similarity falls with the number of edits: bisect for the last one allowed.
    count = bisect_right(
        range(1, len(tokens) + 1),
        -similarity,
        key=lambda count: -jaccard(original, shingles(edited(count))),
    )
    return edited(count)


def _shingle_sets(texts: Sequence[str], n: int, threshold: float) -> list[Hashes]:
    """Return the shingles of each text; refuse a threshold or n that cannot work."""
    check_positive(threshold=threshold)
    check_range(0, 1, threshold=threshold)
    return [shingles(text, n) for text in texts]


def _without_copies(
    documents: Sequence[Document],
    like: Mapping[int, tuple[int, float]],
    step: str,
    reason: str,
) -> tuple[list[Document], StepReport]:
    """Return the documents that are like no other, and the report of the step.

    Args:
        documents: Of a corpus.
        like: For each copy, by its place, the place of what stays and how alike it is.
        step: The name of the step.
        reason: Why a copy is removed.
    """
    kept = [document for i, document in enumerate(documents) if i not in like]
    removals = []
    for copy, (i, similarity) in sorted(like.items()):
        name = documents[i].name or excerpt(documents[i].text)
        detail = f"like {name} (Jaccard {similarity:.2f})"
        removals.append(Removal(documents[copy], reason, detail))
    return kept, summarise(step, documents, kept, removals)
