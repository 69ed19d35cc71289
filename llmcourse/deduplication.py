"""Remove copies: exact ones by a hash, near ones by MinHash and LSH.

A text that stands a hundred times in a corpus is learned a hundred times as
often, and by heart; a copy of a test text in the training text makes the test
worthless (Lee et al. 2022).
"""

import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmcourse.documents import Document, Removal, StepReport, excerpt, summarise
from llmcourse.minhash import candidate_pairs, signatures
from llmcourse.shingles import Hashes, fingerprint, jaccard, shingles, words


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

    Args:
        documents: Clean documents.

    >>> documents = [Document("The fox."), Document("A hen."), Document("the fox.")]
    >>> [document.text for document in remove_duplicates(documents)[0]]
    ['The fox.', 'A hen.']
    """
    first: dict[int, Document] = {}
    kept: list[Document] = []
    removals: list[Removal] = []
    for document in documents:
        original = first.setdefault(fingerprint(document.text), document)
        if original is document:
            kept.append(document)
        else:
            removals.append(Removal(document, "copy", _likeness(original, 1.0)))
    return kept, summarise("remove duplicates", documents, kept, removals)


def remove_near_duplicates(
    documents: Sequence[Document],
    *,
    threshold: float = 0.7,
    n: int = 5,
    n_hashes: int = 128,
    n_bands: int = 32,
    seed: int = 0,
) -> tuple[list[Document], StepReport]:
    """Return the documents without near copies of earlier ones that stay.

    Each removed document is like one that is kept. To remove whole `clusters`
    instead, as Lee et al. (2022) do, is simple but risky: where A is like B, B
    like C, and so on, a chain of small changes takes all but one of them.

    Args:
        documents: Documents, best without exact copies.
        threshold: Jaccard similarity from which on two texts are copies.
        n: Length of a shingle, in words.
        n_hashes: Length of a signature.
        n_bands: Bands of a signature; divides `n_hashes`.
        seed: Seed of the hashes.

    Raises:
        ValueError: If the threshold is not above 0 and at most 1, if all texts
            have fewer than n words, or if the bands do not divide the hashes.
    """
    _check_threshold(threshold)
    sets = _shingle_sets([document.text for document in documents], n)
    removals: dict[int, Removal] = {}
    like: dict[int, int] = {}  # of each removed document, the one that stays
    # The pairs are sorted: when one comes first in a pair, all that could remove it
    # has been seen. What stays speaks for what was removed: of many in one bucket
    # only neighbours are candidates.
    for one, j in candidate_pairs(signatures(sets, n_hashes, seed), n_bands).tolist():
        if j in removals:
            continue
        i = like.get(one, one)
        similarity = jaccard(sets[i], sets[j])
        if similarity >= threshold:
            detail = _likeness(documents[i], similarity)
            removals[j], like[j] = Removal(documents[j], "near copy", detail), i
    kept = [document for i, document in enumerate(documents) if i not in removals]
    ordered = [removals[i] for i in sorted(removals)]
    return kept, summarise("remove near duplicates", documents, kept, ordered)


def near_duplicates(
    texts: Sequence[str],
    *,
    threshold: float = 0.7,
    n: int = 5,
    n_hashes: int = 128,
    n_bands: int = 32,
    seed: int = 0,
) -> list[Pair]:
    """Return the pairs of texts whose Jaccard similarity reaches the threshold.

    LSH proposes pairs, exact Jaccard similarity decides: no false pair is
    returned, and a true one of similarity J is missed with the probability
    1 − `candidate_probability(J, n_bands, n_hashes // n_bands)`; where many texts
    share a bucket, with a larger one, see `candidate_pairs`.

    Args:
        texts: Any texts.
        threshold: Least similarity, above 0 and at most 1.
        n: Length of a shingle, in words.
        n_hashes: Length of a signature.
        n_bands: Bands of a signature; divides `n_hashes`.
        seed: Seed of the hashes.

    Raises:
        ValueError: If the threshold is not above 0 and at most 1, if all texts
            have fewer than n words, or if the bands do not divide the hashes.
    """
    _check_threshold(threshold)
    sets = _shingle_sets(texts, n)
    pairs = []
    for i, j in candidate_pairs(signatures(sets, n_hashes, seed), n_bands).tolist():
        similarity = jaccard(sets[i], sets[j])
        if similarity >= threshold:
            pairs.append(Pair(i, j, similarity))
    return pairs


def clusters(n_items: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each item the first item that it is connected with.

    Union–find: each item points towards the root of its cluster. With the pairs
    of `near_duplicates`, the families of texts that were copied from each other.

    Args:
        n_items: Number of items.
        pairs: Items that belong together.

    Source: Tarjan and van Leeuwen (1984), path halving; unlike there, the
    smaller item becomes the root, since the first document is to stay.

    >>> clusters(5, [(1, 3), (3, 4)])
    [0, 1, 2, 1, 1]
    """
    parent = list(range(n_items))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for a, b in pairs:
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    return [root(item) for item in range(n_items)]


def plant_near_duplicates(
    texts: Sequence[str],
    similarities: Sequence[float],
    *,
    n: int = 5,
    seed: int = 0,
) -> tuple[list[str], list[Pair]]:
    """Return the texts followed by edited copies, and the pairs that this makes.

    Words of a copy are replaced, one after another at random places, by words
    that stand in no text, as long as the similarity stays above the one asked.

    Args:
        texts: Texts; the i-th similarity is for a copy of the i-th text.
        similarities: Wanted Jaccard similarities, each above 0 and at most 1.
        n: Length of a shingle, in words.
        seed: The same seed gives the same copies.

    Returns:
        All texts, and a pair (original, copy, exact similarity) for each copy.

    Raises:
        ValueError: If there are fewer texts than similarities, or one of these is
            not above 0 and at most 1.
    """
    if len(similarities) > len(texts):
        wanted = len(similarities)
        raise ValueError(f"{wanted} copies need {wanted} texts, got {len(texts)}")
    copies, pairs = [], []
    for i, similarity in enumerate(similarities):
        if not 0 < similarity <= 1:
            raise ValueError(f"a similarity is above 0, at most 1, got {similarity}")
        copy = _edited(texts[i], similarity, n, random.Random(f"{seed} {i}"))
        reached = jaccard(shingles(texts[i], n), shingles(copy, n))
        copies.append(copy)
        pairs.append(Pair(i, len(texts) + i, reached))
    return [*texts, *copies], pairs


def precision_recall(
    found: Iterable[Pair], wanted: Iterable[Pair]
) -> tuple[float, float]:
    """Return the shares of found pairs that are wanted and of wanted ones found.

    Args:
        found: Pairs that a method returned.
        wanted: Pairs that it should have returned.

    Raises:
        ValueError: If nothing is wanted: recall has no meaning then.

    >>> precision_recall([Pair(0, 1, 0.9), Pair(2, 3, 0.8)], [Pair(0, 1, 0.9)])
    (0.5, 1.0)
    """
    got = {(pair.first, pair.second) for pair in found}
    right = {(pair.first, pair.second) for pair in wanted}
    if not right:
        raise ValueError("recall needs at least one wanted pair, got none")
    hits = len(got & right)
    return hits / len(got) if got else 1.0, hits / len(right)


def _edited(text: str, similarity: float, n: int, rng: random.Random) -> str:
    """Return the text, words replaced until one more would be too many."""
    original, tokens, tag = shingles(text, n), text.split(" "), rng.getrandbits(64)
    places = rng.sample(range(len(tokens)), len(tokens))

    def edited(count: int) -> str:
        new = {place: f"edit{place}x{tag}" for place in places[:count]}
        return " ".join(new.get(i, token) for i, token in enumerate(tokens))

    # Similarity falls with the number of edits: bisect for the last one allowed.
    count = bisect_right(
        range(1, len(tokens) + 1),
        -similarity,
        key=lambda count: -jaccard(original, shingles(edited(count), n)),
    )
    return edited(count)


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")


def _shingle_sets(texts: Sequence[str], n: int) -> list[Hashes]:
    """Return the shingles of each text; refuse if all texts are too short."""
    sets = [shingles(text, n) for text in texts]
    if max(map(len, sets), default=n) <= 1:  # perhaps each text is one shingle
        longest = max(len(words(text)) for text in texts)
        if longest < n:
            raise ValueError(
                f"shingles of {n} words need a text of at least {n} words, "
                f"the longest of {len(texts)} has {longest}"
            )
    return sets


def _likeness(original: Document, similarity: float) -> str:
    name = original.name or excerpt(original.text)
    return f"like {name} (Jaccard {similarity:.2f})"
