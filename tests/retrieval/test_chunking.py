"""Texts cut into chunks that cover them exactly."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenization_cases import sentencepiece

from llmcourse.retrieval import chunking
from llmcourse.retrieval.chunking import (
    Chunk,
    fixed_chunks,
    recursive_chunks,
    sentence_chunks,
)
from llmcourse.text.bpe import GPT4_PATTERN
from llmcourse.text.tales import generate
from llmcourse.text.tokenizer_files import BPEOptions
from llmcourse.text.tokenizers import BPETokenizer

CUTTERS = (fixed_chunks, sentence_chunks, recursive_chunks)
TALES = [story.text for story in generate(40, seed=0)]
LETTERS = BPETokenizer.train(["a"], vocab_size=256)  # a token for each byte
TOKENIZERS = (
    BPETokenizer.train(TALES, 400),
    BPETokenizer.train([*TALES, "One.\n\nTwo.\n\n" * 9], 400, pattern=GPT4_PATTERN),
    LETTERS,
)
SPACED = (
    sentencepiece(TALES, vocab_size=400),
    sentencepiece(TALES, "always", crossing=True, vocab_size=400),
)
WRITTEN = st.text(
    st.one_of(st.sampled_from("ab A.\n \t!?\"'1▁"), st.characters(codec="utf-8")),
    max_size=80,
)

# Worked example


def test_paragraphs_then_sentences_then_words_by_hand():
    """Twelve characters a chunk. The first paragraph is 9 long, and the second,

    with the empty line before it, 20, too long; its first sentence is 2 + 11 long,
    too long again, so words are put together: "\\n\\nTwo three" is 11, and "four." with
    its space 6; the last sentence, 5 long, is another piece of the paragraph.
    """
    text = "One. Uno.\n\nTwo three four. Five."
    texts = [chunk.text for chunk in recursive_chunks(text, LETTERS, 12)]
    assert texts == ["One. Uno.", "\n\nTwo three", " four.", " Five."]


def test_windows_of_five_that_share_two_by_hand():
    """They begin every 5 - 2 = 3 characters: at 0, 3 and 6; the third reaches the end.

    Of ten characters ⌈(10 - 2) / 3⌉ = 3 chunks.
    """
    chunks = fixed_chunks("abcdefghij", LETTERS, 5, overlap=2)
    assert [(c.start, c.end) for c in chunks] == [(0, 5), (3, 8), (6, 10)]
    assert chunks[1] == Chunk("defgh", 3, 8, 5)


def test_sentences_are_repeated_whole_or_not_at_all():
    """Sentences of 5, 6 and 6 characters, two of which fit into twelve.

    With an overlap of 6 the second chunk repeats " Two." and not a letter of "One".
    """
    text = "Uno!? Two. Tres. Vier."
    chunks = sentence_chunks(text, LETTERS, 12, overlap=6)
    assert [c.text for c in chunks] == ["Uno!? Two.", " Two. Tres.", " Tres. Vier."]
    chunks = sentence_chunks(text, LETTERS, 12, overlap=4)
    assert [c.text for c in chunks] == ["Uno!? Two.", " Tres. Vier."]


# Law


@settings(max_examples=300)
@given(
    text=WRITTEN,
    cutter=st.sampled_from(CUTTERS),
    tokenizer=st.sampled_from(TOKENIZERS),
    size=st.integers(4, 24),
    share=st.floats(0, 1, exclude_max=True),
)
def test_chunks_cover_any_text_exactly(text, cutter, tokenizer, size, share):
    overlap = int(share * size)
    chunks = cutter(text, tokenizer, size, overlap)
    assert all(text[c.start : c.end] == c.text != "" for c in chunks)
    assert all(1 <= c.n_tokens <= size for c in chunks)
    assert [c.start for c in chunks[:1]] == [0][: len(text)]
    assert [c.end for c in chunks[-1:]] == [len(text)][: len(text)]
    for before, after in pairwise(chunks):
        assert before.start < after.start <= before.end < after.end
        shared = tokenizer.encode(text[after.start : before.end])
        # Cut out, a piece may have other tokens than in its text, but never many.
        assert len(shared) <= overlap + 4
    if not overlap:
        assert "".join(c.text for c in chunks) == text
        assert sum(c.n_tokens for c in chunks) == len(tokenizer.encode(text))


@settings(max_examples=200)
@given(
    text=WRITTEN,
    cutter=st.sampled_from(CUTTERS),
    tokenizer=st.sampled_from(SPACED),
    size=st.integers(5, 24),
)
def test_a_space_before_a_text_is_no_part_of_its_chunks(text, cutter, tokenizer, size):
    chunks = cutter(text, tokenizer, size)
    assert all(text[c.start : c.end] == c.text != "" for c in chunks)
    assert "".join(c.text for c in chunks) == text
    assert sum(c.n_tokens for c in chunks) == len(tokenizer.encode(text))


def test_a_sign_of_the_text_that_is_a_space_to_the_tokenizer_can_be_cut_off():
    """Of SentencePiece, ▁ is one byte in pieces, and three in the text."""
    text = "▁Zq ▁Zq é"
    chunks = fixed_chunks(text, SPACED[0], 4)
    assert "".join(c.text for c in chunks) == text
    assert {c.n_tokens for c in chunks[:-1]} == {4}


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_all_fixed_chunks_but_the_last_are_full(tokenizer):
    text = "".join(TALES[:3])
    n = len(tokenizer.encode(text))
    for size, overlap in ((64, 0), (64, 16), (50, 49)):
        chunks = fixed_chunks(text, tokenizer, size, overlap)
        assert len(chunks) == -(-(n - overlap) // (size - overlap))
        assert {c.n_tokens for c in chunks[:-1]} == {size}


def test_sentences_that_fit_stay_whole():
    text = " ".join(TALES)
    chunks = sentence_chunks(text, TOKENIZERS[0], 120)
    assert max(c.n_tokens for c in chunks) > 90
    assert all(re.search(r"[.!?][\"']?\Z", c.text) for c in chunks)


def test_tales_that_fit_are_chunks_of_their_own():
    tokenizer = TOKENIZERS[0]
    longest = max(len(tokenizer.encode(f"\n\n{tale}")) for tale in TALES)
    chunks = recursive_chunks("\n\n".join(TALES), tokenizer, longest)
    assert [c.text.strip() for c in chunks] == TALES


def test_no_character_is_cut_in_two():
    text = "🦊🦉" * 9
    chunks = fixed_chunks(text, LETTERS, 7)
    assert [c.text for c in chunks] == list(text)
    assert {c.n_tokens for c in chunks} == {4}


def test_a_long_text_takes_no_long_time():
    text = " " * 20_000 + "a" * 20_000 + "\n \n" * 5_000
    for cutter in CUTTERS:
        chunks = cutter(text, LETTERS, 256, 32)
        assert (chunks[0].start, chunks[-1].end) == (0, len(text))


# Reference


def test_fixed_chunks_equal_slices_of_the_ids():
    tokenizer, text = TOKENIZERS[0], TALES[0] + " " + TALES[1]
    ids = tokenizer.encode(text)
    assert text.isascii()
    expected = [tokenizer.decode(ids[i : i + 30]) for i in range(0, len(ids) - 10, 20)]
    assert [c.text for c in fixed_chunks(text, tokenizer, 30, 10)] == expected


# Refusal


@pytest.mark.parametrize("cutter", CUTTERS)
def test_nothing_is_lost_where_a_tokenizer_composes_or_drops(cutter):
    text = "cafe\u0301 " * 10 + "The end\x0f is here."
    composes = BPETokenizer.train([text], 260).with_options(nfc=True)
    vocab = {piece: i for i, piece in enumerate(bytes([b]) for b in range(32, 256))}
    drops = BPETokenizer(vocab, [], options=BPEOptions(drops_bytes=True))
    for tokenizer in (composes, drops):
        assert "".join(chunk.text for chunk in cutter(text, tokenizer, 16)) == text


@pytest.mark.parametrize("cutter", CUTTERS)
def test_refusals(cutter):
    with pytest.raises(ValueError, match="size must be at least 4, got 3"):
        cutter("a", LETTERS, 3)
    for overlap in (-1, 8):
        with pytest.raises(ValueError, match=f"must be in 0 … 7, got {overlap}"):
            cutter("a", LETTERS, 8, overlap)
    with pytest.raises(ValueError, match="surrogate"):
        cutter("\ud800", TOKENIZERS[0], 8)


def test_characters_that_share_tokens_are_not_cut_for_ever(monkeypatch):
    """Between two borders there can be more tokens than one character has."""
    monkeypatch.setattr(chunking, "_borders", lambda *_: ([0, 3], [0, 5]))
    for cutter in CUTTERS:
        with pytest.raises(ValueError, match="size must be at least 5, got 4"):
            cutter("龍虎豹", LETTERS, 4)
        assert [chunk.text for chunk in cutter("龍虎豹", LETTERS, 5)] == ["龍虎豹"]
