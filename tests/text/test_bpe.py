from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenization_cases import searching

from llmcourse.text import bpe
from llmcourse.text.bpe import (
    BYTE_ORDER,
    GPT2_PATTERN,
    PretokenCache,
    apply_merges,
    learn_merges,
    merge_steps,
)

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


def test_the_cache_stays_bounded_and_right(monkeypatch):
    monkeypatch.setattr(bpe, "_CACHE_SIZE", 3)
    monkeypatch.setattr(bpe, "_CACHED_LENGTH", 5)
    calls = []
    cache = PretokenCache(lambda word: calls.append(word) or [len(word)])
    for word in ["a", "bb", "a", "ccc", "dddd", "a", "too long", "too long"]:
        assert cache[word] == [len(word)]
        assert len(cache) <= 3
    assert calls == ["a", "bb", "ccc", "dddd", "a", "too long", "too long"]


def test_one_string_in_place_of_a_list_is_refused():
    with pytest.raises(ValueError, match="list of strings, got one string"):
        bpe.count_pretokens("low lower", GPT2_PATTERN)


def test_a_lone_surrogate_is_refused():
    with pytest.raises(ValueError, match=r"lone surrogate U\+D83D in 'so \\ud83d!'"):
        bpe.count_pretokens(["so \ud83d!"], r"[\s\S]+")
