import re
from itertools import pairwise, product

import pytest

from llmcourse.checks import tokenization as checks

RIGHT = {
    "bananas": ["ban", "ana", "s"],
    "Ananas": ["A", "n", "ana", "s"],
    "mañana": ["m", "a", "\\xc3", "\\xb1", "ana"],
}


def test_right_pieces_pass():
    checks.predict_pieces(RIGHT)


def test_a_byte_may_be_written_with_one_backslash():
    checks.predict_pieces(RIGHT | {"mañana": ["m", "a", "\xc3", "\xb1", "ana"]})


@pytest.mark.parametrize(
    ("word", "pieces", "lesson"),
    [
        ("bananas", ["b", "an", "ana", "s"], "in the order learned"),
        ("bananas", ["ban", "ana"], "spell it in full"),
        ("Ananas", ["An", "ana", "s"], "different bytes"),
        ("mañana", ["m", "a", "ñ", "ana"], "ñ is two bytes"),
        ("mañana", ["m", "a", "ana"], "spell it in full"),
        ("mañana", ["m", "a", "\\xc3\\xb1", "ana"], "two bytes"),
    ],
)
def test_wrong_pieces_fail(word, pieces, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.predict_pieces(RIGHT | {word: pieces})


@pytest.mark.parametrize("word", RIGHT)
def test_no_other_cut_of_a_word_passes(word):
    signs = [sign for piece in RIGHT[word] for sign in re.findall(r"\\x..|.", piece)]
    for joints in product(("", " "), repeat=len(signs) - 1):
        pieces = "".join(map(str.__add__, signs, (*joints, ""))).split()
        if pieces != RIGHT[word]:
            with pytest.raises(AssertionError, match="is not cut into"):
                checks.predict_pieces(RIGHT | {word: pieces})


def merge(pieces, left, right, *, backwards=False):
    """Return the pieces with each `left, right` joined."""
    joined, pieces = [], list(pieces)
    while pieces:
        if backwards and pieces[-2:] == [left, right]:
            joined, pieces = [left + right, *joined], pieces[:-2]
        elif backwards:
            joined, pieces = [pieces[-1], *joined], pieces[:-1]
        elif pieces[:2] == [left, right]:
            joined, pieces = [*joined, left + right], pieces[2:]
        else:
            joined, pieces = [*joined, pieces[0]], pieces[1:]
    return joined


def split(pretoken):
    return [bytes([byte]) for byte in pretoken]


def by_rank(pretoken, merges):
    pieces = split(pretoken)
    for left, right in merges:
        pieces = merge(pieces, left, right)
    return pieces


def from_the_right(pretoken, merges):
    pieces = split(pretoken)
    for left, right in merges:
        pieces = merge(pieces, left, right, backwards=True)
    return pieces


def first_merge_only(pretoken, merges):
    """Join only one occurrence of each pair."""
    pieces = split(pretoken)
    for left, right in merges:
        for i in range(len(pieces) - 1):
            if pieces[i : i + 2] == [left, right]:
                pieces[i : i + 2] = [left + right]
                break
    return pieces


def by_characters(pretoken, merges):
    pieces = [character.encode() for character in pretoken.decode()]
    for left, right in merges:
        pieces = merge(pieces, left, right)
    return pieces


def by_spelling(pretoken, merges):
    """Join whatever spells the same as a merge."""
    pieces = split(pretoken)
    for left, right in merges:
        i = 0
        while i < len(pieces) - 1:
            if pieces[i] + pieces[i + 1] == left + right:
                pieces[i : i + 2] = [left + right]
            i += 1
    return pieces


def latest_merge_first(pretoken, merges):
    pieces = split(pretoken)
    while True:
        pairs = set(pairwise(pieces))
        known = [pair for pair in reversed(merges) if pair in pairs]
        if not known:
            return pieces
        pieces = merge(pieces, *known[0])


def greedy(pretoken, vocab):
    pieces = []
    while pretoken:
        end = max(n for n in range(1, len(pretoken) + 1) if pretoken[:n] in vocab)
        pieces.append(pretoken[:end])
        pretoken = pretoken[end:]
    return pieces


def test_encoding_by_rank_passes():
    checks.encode_pretoken(by_rank)


def test_the_merges_stay_as_they_are():
    """Whatever a wrong answer does to them, the right one passes afterwards."""

    def taken_out(pretoken, merges):
        pieces = split(pretoken)
        while merges:
            pieces = merge(pieces, *merges.pop(0))
        return pieces

    with pytest.raises(AssertionError, match="changes what"):
        checks.encode_pretoken(taken_out)
    checks.encode_pretoken(by_rank)


@pytest.mark.parametrize(
    ("encode", "lesson"),
    [
        (lambda text, _: split(text), "wherever its pair occurs"),
        (lambda text, _: [text] if text else [], "every byte is a piece"),
        (
            lambda text, merges: greedy(
                text, {*split(bytes(range(256))), *(a + b for a, b in merges)}
            ),
            "the longest piece was taken first",
        ),
        (lambda text, merges: by_rank(text, sorted(merges)), "order of the merges"),
        (from_the_right, "from left to right"),
        (first_merge_only, "wherever its pair occurs"),
        (latest_merge_first, "the order of the merges"),
        (by_characters, "ñ is two bytes"),
        (by_spelling, "compare both"),
    ],
)
def test_other_encodings_fail(encode, lesson):
    with pytest.raises(AssertionError, match=re.escape(lesson)):
        checks.encode_pretoken(encode)


def test_longest_match_passes():
    checks.longest_match(greedy)


def grown(pretoken, vocab):
    """Grow a piece byte by byte while it is known: misses pieces behind a gap."""
    pieces = []
    while pretoken:
        end = 1
        while end < len(pretoken) and pretoken[: end + 1] in vocab:
            end += 1
        pieces.append(pretoken[:end])
        pretoken = pretoken[end:]
    return pieces


def longest_anywhere(text, vocab):
    """Take the longest piece that stands anywhere, then cut what is beside it."""
    for size in range(len(text), 0, -1):
        for start in range(len(text) - size + 1):
            end = start + size
            if text[start:end] in vocab:
                before = longest_anywhere(text[:start], vocab)
                return [*before, text[start:end], *longest_anywhere(text[end:], vocab)]
    return []


def used_up(text, vocab):
    pieces = []
    while text:
        pieces += greedy(text, vocab)[:1]
        text = text[len(pieces[-1]) :]
        vocab = vocab - {piece for piece in pieces if len(piece) > 1}
    return pieces


def endless(pretoken, vocab):
    return greedy(pretoken, vocab) or [b""]


@pytest.mark.parametrize(
    ("cut", "lesson"),
    [
        (lambda text, _: by_rank(text, checks.FRUIT_MERGES), "byte-pair encoding"),
        (lambda text, _: split(text), "starts with ana"),
        (grown, "none of its beginnings"),
        (endless, "no pieces"),
        (longest_anywhere, "from left to right"),
        (
            lambda text, vocab: greedy(text, {p for p in vocab if len(p) < 4}),
            "abba is two",
        ),
        (used_up, "two pieces"),
    ],
)
def test_other_matches_fail(cut, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.longest_match(cut)


def test_groups_from_the_right_pass():
    checks.digit_groups(
        lambda number: re.findall(r"\d{1,3}(?=(?:\d{3})*$)", number),
    )


@pytest.mark.parametrize(
    ("group", "lesson"),
    [
        (lambda number: re.findall(r"\d{1,3}", number), "counted from the left"),
        (lambda number: re.findall(r"\d{3}", number), "1·234·567"),
        (lambda number: f"{int(number):,}".split(","), "0·042, every digit"),
        (
            lambda number: [
                part
                for part in (number[: len(number) % 3], *re.findall("...", number[1:]))
                if part
            ],
            "123",
        ),
        (
            lambda number: [
                number[: len(number) % 3],
                *re.findall("...", number[len(number) % 3 :]),
            ],
            "123 is 123",
        ),
    ],
)
def test_other_groups_fail(group, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.digit_groups(group)
