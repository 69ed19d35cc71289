import itertools
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenization_cases import PATTERNS, searching, split_by, texts
from tokenizers import pre_tokenizers

from llmcourse.text.bpe import (
    BYTE_ORDER,
    BYTE_TO_CHAR,
    CHAR_TO_BYTE,
    DIGITS_PATTERN,
    GPT2_PATTERN,
    GPT4_PATTERN,
    checked_ids,
    checked_int,
    checked_text,
    checked_texts,
    compile_pattern,
    decided_pretokens,
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


@given(texts, texts)
@searching
def test_what_is_decided_stays(text, more):
    for pattern in PATTERNS:
        pretokens, end = decided_pretokens(pattern, text)
        assert "".join(pretokens) == text[:end]
        whole = compile_pattern(pattern).findall(text + more)
        assert whole[: len(pretokens)] == pretokens


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_decided_stays_in_all_short_texts(pattern):
    """White space with line breaks, and contractions, cut at every place."""
    split = compile_pattern(pattern).findall
    for alphabet, length in [(" \na", 6), ("'lr ", 5)]:
        for characters in itertools.product(alphabet, repeat=length):
            text = "".join(characters)
            for end in range(1, length):
                decided, _ = decided_pretokens(pattern, text[:end])
                assert split(text)[: len(decided)] == decided


@pytest.mark.parametrize("pattern", PATTERNS)
def test_long_text_is_decided_almost_to_its_end(pattern):
    for part in ["lower case, ", "日本語。", "12", "🙂", "\n", " \n x", "'ll"]:
        text = part * 50 + "xyz."
        assert decided_pretokens(pattern, text)[1] >= len(text) - len(part) * 2 - 8


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


def test_streaming_by_an_unknown_pattern_is_refused():
    with pytest.raises(ValueError, match="streaming needs GPT2_PATTERN"):
        decided_pretokens(r"\S+|\s+", "some text")


def test_a_character_outside_the_byte_alphabet_is_refused():
    with pytest.raises(ValueError, match="got ' ' in 'a b'"):
        unspell("a b")


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(ValueError, match=r"whole Unicode.*lone surrogate U\+DE00"):
        to_utf8("ok \ude00")


@pytest.mark.parametrize("wrong", [-1, 5, 10**30])
def test_ids_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"from 0 to 4, got {wrong}"):
        list(checked_ids([0, 4, wrong], vocab_size=5))


# Under pytest, jaxtyping's hook refuses wrong types before the functions themselves do;
# __wrapped__ is the function without it.
@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (checked_text, [b"low"], "must be a string, got bytes"),
        (checked_int, [2.5, "vocab_size"], "vocab_size must be an integer, got 2.5"),
        (checked_texts, ["low"], "list of strings, got one string"),
    ],
)
def test_wrong_types_are_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(function, "__wrapped__", function)(*arguments)
