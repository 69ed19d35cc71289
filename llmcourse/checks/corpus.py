"""Checks of the chapter *corpus*."""

from collections.abc import Callable, Collection, Sequence
from math import isclose
from unittest.mock import patch

from llmcourse.checks.base import check
from llmcourse.text.deduplication import candidate_probability

Texts = Sequence[str]


@check
def containment(fn: Callable[[set[str], set[str]], float]) -> None:
    """Check a function that measures containment.

    Args:
        fn: Maps two sets to the share of the first that is in the second.
    """
    short, long = {"a b", "b c"}, {"a b", "b c", "c d", "d e", "e f", "f g"}
    assert isclose(fn({"a b", "b c"}, {"b c", "c d", "d e"}), 0.5), (
        "half of {'a b', 'b c'} is in the other set: the answer is 1/2; divide what "
        "is shared by the size of the first set, not of the union"
    )
    assert isclose(fn(short, long), 1.0), (
        "every shingle of the short set is in the long one: containment is 1, "
        "however long the other is; that is what Jaccard similarity cannot see"
    )
    assert isclose(fn(long, short), 2 / 6), (
        "containment has a direction: of six shingles of the long set, two are in "
        "the short one"
    )
    assert fn(set(), long) == 0.0, (
        "a text without shingles shares nothing: return 0, and do not divide by 0"
    )


@check
def choose_bands(fn: Callable[[int, float], tuple[int, int]]) -> None:
    """Check a function that chooses bands of hashes.

    Args:
        fn: Maps hashes and threshold to bands and hashes per band.
    """
    cases = [(128, 0.7), (128, 0.4), (112, 0.75), (100, 0.5), (12, 1.0), (12, 0.0)]
    for n_hashes, threshold in cases:
        n_bands, n_rows = fn(n_hashes, threshold)
        assert n_bands * n_rows == n_hashes, (
            f"{n_bands} bands of {n_rows} use {n_bands * n_rows} hashes, and there "
            f"are {n_hashes}: try only the numbers that divide it"
        )
        best = min(
            (bands for bands in range(1, n_hashes + 1) if n_hashes % bands == 0),
            key=lambda bands: abs((1 / bands) ** (bands / n_hashes) - threshold),
        )
        assert n_bands == best, (
            f"for {n_hashes} hashes and a threshold of {threshold} the curve of "
            f"{n_bands} bands rises at (1/b)^(1/r) = "
            f"{(1 / n_bands) ** (n_bands / n_hashes):.2f}; {best} bands come nearer, "
            f"and propose a pair at the threshold with probability "
            f"{candidate_probability(threshold, best, n_hashes // best):.2f}"
        )


@check
def is_held_out(fn: Callable[[str, float], bool]) -> None:
    """Check a function that says whether a text is held out.

    Args:
        fn: Maps a text and the held-out share to True or False.
    """
    texts = [f"Story number {i} of a long evening." for i in range(2000)]
    with patch("builtins.hash", wraps=hash) as used:
        sides = [bool(fn(text, 0.15)) for text in texts]
    assert sides == [bool(fn(text, 0.15)) for text in texts], (
        "asked twice, a text changed sides: draw no random number, hash the text"
    )
    assert not used.called, (
        "Python's hash of a string is another one in every process: a text held out "
        "today would be trained on tomorrow; take one from hashlib"
    )
    # With 2,000 draws at 0.15, one function in 100,000 falls outside 229 … 371.
    assert 229 <= sum(sides) <= 371, (
        f"a share of 0.15 of 2,000 texts is about 300, and {sum(sides)} were held "
        "out: read the hash as a number from 0 to 1 and compare it with the share"
    )
    larger = [bool(fn(text, 0.3)) for text in texts]
    assert all(small <= large for small, large in zip(sides, larger, strict=True)), (
        "with a larger share, texts left the held-out part: one number per text, "
        "compared with the share, keeps them in"
    )
    assert not any(fn(text, 0.0) for text in texts[:100]), (
        "a share of 0 holds out nothing: compare with <, not with <="
    )


@check
def find_leaks(fn: Callable[[Texts, Texts, int], Collection[int]]) -> None:
    """Check a function that finds test texts that leaked into training.

    Args:
        fn: Maps training texts, test texts and n to indices of test texts.
    """
    train = ["the fox ran into the old mill", "a hen sat on the wall", "one two"]
    test = [
        "they say the fox ran into a door",  # shares "the fox ran into"
        "old fox ran the mill into",
        "A HEN, sat on: the wall!",
        "the wall one two",
        "we sat on the walls, next to the old mill",
    ]
    found = set(fn(train, test, 4))
    assert 1 not in found, (
        "'old fox ran the mill into' has all its words from training, but no run of "
        "four in their order: compare runs, not words"
    )
    assert 3 not in found, (
        "'the wall one two' reaches from the end of one training text into the next, "
        "and is in neither: cut each text into runs by itself"
    )
    assert 2 in found, (
        "'A HEN, sat on: the wall!' is a training text in capitals and with other "
        "punctuation: compare words in one form, as `deduplication.words` gives them"
    )
    assert 4 not in found, (
        "'sat on the walls' and 'to the old mill' are in training only as characters: "
        "'walls' is not 'wall', 'to' not 'into'. Compare tuples of words, not strings"
    )
    assert found == {0, 2}, (
        f"the tests 0 and 2 share four words in a row with training, got {found}"
    )
    for n, wanted in ((3, {0, 2, 4}), (2, {0, 1, 2, 3, 4})):
        found = set(fn(train, test, n))
        assert found == wanted, (
            f"with runs of {n} words the tests {wanted} share one, got {found}: is n "
            "used, and are there runs at the beginning and at the end of each text?"
        )
