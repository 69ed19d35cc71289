"""Pre-tokens, merges learned and applied."""

import sys
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenization_cases import PATTERNS, searching, split_by, texts
from tokenizers import pre_tokenizers

from llmcourse.text import bpe
from llmcourse.text.bpe import (
    BYTE_ORDER,
    BYTE_TO_CHAR,
    CHAR_TO_BYTE,
    DIGITS_PATTERN,
    GPT2_PATTERN,
    GPT4_PATTERN,
    apply_merges,
    compile_pattern,
    learn_merges,
    merge_steps,
    show,
    spell,
    to_utf8,
    unspell,
)

ASSIGNED = [
    char
    for char in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(char)
    not in {"Cn", "Co", "Cs"}  # not assigned, private, surrogate
]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (GPT2_PATTERN, ["It", "'s", "  ", " 2026", "\n", " and", " I", "'", "Mx"]),
        (
            GPT4_PATTERN,
            ["It", "'s", "  ", " ", "202", "6", "\n", " and", " I", "'M", "x"],
        ),
        (
            DIGITS_PATTERN,
            ["It", "'s", "   ", *"2026", "\n", " and", " I", "'", "Mx"],
        ),
    ],
)
def test_one_sentence_under_three_patterns(pattern, expected):
    """Digits: a run with its space, threes, singles; 'M is one for GPT-4's only."""
    assert compile_pattern(pattern).findall("It's   2026\n and I'Mx") == expected


@given(texts)
@searching
def test_pretokens_join_to_the_text(text):
    for pattern in [*PATTERNS, "b+", "(?:a|b)(?=a)"]:
        assert "".join(compile_pattern(pattern).findall(text)) == text


@given(st.binary(max_size=30))
@searching
def test_spelling_is_undone(piece):
    assert unspell(spell(piece)) == piece
    assert not any(
        char.isspace() or not char.isprintable()
        for char in spell(piece)
        if char != "\xad"
    )


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_character_splits_as_in_tokenizers(pattern):
    """Each assigned character, after a letter and after a sign and a digit."""
    for before in ["a", "'1"]:
        text = "".join(f"{before}{char}" for char in ASSIGNED)
        theirs = [text[a:b] for _, (a, b) in split_by(pattern).pre_tokenize_str(text)]
        assert compile_pattern(pattern).findall(text) == theirs


@given(texts)
@searching
def test_texts_split_as_in_tokenizers(text):
    for pattern in PATTERNS:
        theirs = [piece for piece, _ in split_by(pattern).pre_tokenize_str(text)]
        ours = compile_pattern(pattern).findall(text)
        assert [spell(to_utf8(pretoken)) for pretoken in ours] == theirs


def test_a_foreign_pattern_keeps_what_it_skips_as_in_tokenizers():
    split = pre_tokenizers.Split(pattern="b", behavior="isolated")
    text = "aabbcab"
    theirs = [piece for piece, _ in split.pre_tokenize_str(text)]
    assert compile_pattern("b").findall(text) == theirs == ["aa", "b", "b", "ca", "b"]


def test_the_byte_alphabet_is_that_of_tokenizers_in_code_point_order():
    assert "".join(BYTE_TO_CHAR.values()) == "".join(
        sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    assert sorted(BYTE_ORDER) == list(range(256))
    assert all(CHAR_TO_BYTE[chr(byte)] == byte for byte in b"aZ09!~")


def test_bytes_that_are_no_text_are_shown_one_by_one():
    assert show("né".encode() + b"\xe2\x82") == r"né\xe2\x82"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(a", "regular expression"), ("(a)", r"\(\?:"), ("a*", "empty string")],
)
def test_unfit_patterns_are_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        compile_pattern(pattern)


def test_a_character_outside_the_byte_alphabet_is_refused():
    with pytest.raises(ValueError, match="got ' ' in 'a b'"):
        unspell("a b")


# Few letters make many ties, and overlaps such as "aaa".
words = st.dictionaries(
    st.text("abc", min_size=1, max_size=12).map(str.encode),
    st.integers(1, 4),
    min_size=1,
    max_size=8,
)


def train_by_recounting(word_counts: dict[bytes, int], n_merges: int):
    """The definition: count all pairs, merge the most frequent one, count again."""
    split = {word: [BYTE_ORDER.index(byte) for byte in word] for word in word_counts}
    merges = []
    for symbol in range(256, 256 + n_merges):
        counts = Counter()
        for word, symbols in split.items():
            for pair in pairwise(symbols):
                counts[pair] += word_counts[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        split = {
            word: replaced(symbols, best, symbol) for word, symbols in split.items()
        }
        merges.append(best)
    return merges


def replaced(symbols: list[int], pair: tuple[int, int], symbol: int) -> list[int]:
    out = []
    i = 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            out.append(symbol)
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


def table(merges):
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    return ranks, [256 + rank for rank in range(len(merges))]


def test_the_textbook_word():
    """aaabdaaabac, with a, b, c, d = 64, 65, 66, 67:

    - aa stands four times (overlaps count), more than any other: X = aa
    - XabdXabac: Xa and ab both stand twice; a = 64 < X = 256, so ab: Y = ab
    - XYdXYac: only XY stands twice: Z = XY
    - ZdZac: Zd, dZ, Za, ac once each; the smallest is ac = (64, 66)
    """
    merges = learn_merges({b"aaabdaaabac": 1}, n_merges=4)
    assert merges == [(64, 64), (64, 65), (256, 257), (64, 66)]


def test_on_equal_counts_the_smaller_symbols_win_in_the_order_of_the_alphabet():
    """A space is byte 32 but symbol 220, so "b " comes after "ba" and before " a"."""
    merges = learn_merges({b" a": 1, b"b ": 1, b"ba": 1}, n_merges=3)
    assert merges == [(65, 64), (65, 220), (220, 64)]


def test_three_steps_to_lowest():
    """With merges lo, low, es, est: the earliest-learned goes first, not the leftmost.

    In "lowest" lo goes first, then low, then es, then est.
    """
    letters = dict(zip("lowest", range(6), strict=True))
    ranks, products = table([(0, 1), (256, 2), (3, 4), (258, 5)])
    steps = list(merge_steps([letters[c] for c in "lowest"], ranks, products))
    assert [len(step) for step in steps] == [6, 5, 4, 3, 2]
    assert steps[2] == [257, 3, 4, 5]
    assert steps[-1] == [257, 259]


@given(words, st.integers(0, 30))
@searching
def test_incremental_counts_learn_what_recounting_learns(word_counts, n_merges):
    expected = train_by_recounting(word_counts, n_merges)
    assert learn_merges(word_counts, n_merges) == expected


@given(words)
@searching
def test_learning_ends_when_every_word_is_one_symbol(word_counts):
    merges = learn_merges(word_counts, n_merges=10_000)
    ranks, products = table(merges)
    for word in word_counts:
        symbols = [BYTE_ORDER.index(byte) for byte in word]
        assert len(apply_merges(symbols, ranks, products)) == 1


@given(words, st.integers(0, 30))
@searching
def test_no_two_merges_make_the_same_piece(word_counts, n_merges):
    """A piece bounded on both sides was merged the same way wherever it stood."""
    pieces = [bytes([byte]) for byte in BYTE_ORDER]
    for left, right in learn_merges(word_counts, n_merges):
        pieces.append(pieces[left] + pieces[right])
    assert len(set(pieces)) == len(pieces)


@given(words, st.integers(0, 30), st.text("abc", max_size=40).map(str.encode))
@searching
def test_the_heap_applies_merges_as_the_definition_does(word_counts, n_merges, word):
    ranks, products = table(learn_merges(word_counts, n_merges))
    symbols = [BYTE_ORDER.index(byte) for byte in word]
    *_, last = merge_steps(symbols, ranks, products)
    assert apply_merges(symbols, ranks, products) == last


def test_neither_way_to_apply_merges_changes_what_it_was_given():
    symbols = [0, 0, 0]
    apply_merges(symbols, {(0, 0): 0}, [256])
    list(merge_steps(symbols, {(0, 0): 0}, [256]))
    assert symbols == [0, 0, 0]


@pytest.mark.parametrize("pattern", [r"(?=[A-Z])", r"\b", r"(?<=\s)"])
def test_a_pattern_that_matches_between_characters_is_refused(pattern):
    with pytest.raises(ValueError, match="must not match the empty string"):
        bpe.count_pretokens(["one Two foo"], pattern)
    with pytest.raises(ValueError, match="must not match the empty string"):
        bpe.splitter(pattern)("one Two foo")


def test_one_string_in_place_of_a_list_is_refused():
    with pytest.raises(ValueError, match="list of strings, got one string"):
        bpe.count_pretokens("low lower", GPT2_PATTERN)


def test_a_lone_surrogate_is_refused():
    with pytest.raises(ValueError, match=r"lone surrogate U\+D83D in 'so \\ud83d!'"):
        bpe.count_pretokens(["so \ud83d!"], r"[\s\S]+")
