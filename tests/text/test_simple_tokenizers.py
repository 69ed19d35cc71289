import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenization_cases import searching, texts

from llmcourse.text.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    WordTokenizer,
)


def test_four_words_by_hand():
    """Ids follow the list, 1 to 4; 0 is left for all that is not in it."""
    tokenizer = WordTokenizer(["deep", "learning", "is", "powerful"])
    assert tokenizer.encode("deep learning is powerful") == [1, 2, 3, 4]
    assert tokenizer.encode("Deep learning is powerful.") == [0, 2, 3, 0]
    assert tokenizer.decode([1, 2, 3, 0]) == "deep learning is <unk>"
    assert tokenizer.tokens("unbelievable learning") == ["<unk>", "learning"]


def test_training_ranks_words_by_frequency_then_alphabet():
    tokenizer = WordTokenizer.train(["b a  b\n", "c\ta <unk> d"])
    assert tokenizer.words == ["<unk>", "a", "b", "c", "d"]
    assert WordTokenizer.train(["b a b", "c a d"], vocab_size=3).words[1:] == ["a", "b"]


def test_three_views_of_one_word():
    """é is one character, U+00E9, and two bytes, C3 A9."""
    assert CharacterTokenizer().encode("né") == [110, 0xE9]
    assert ByteTokenizer().encode("né") == [110, 0xC3, 0xA9]
    assert CharacterTokenizer().tokens("né") == ["n", "é"]
    assert ByteTokenizer().tokens("né") == ["n", r"\xc3", r"\xa9"]


@given(text=texts)
@searching
def test_characters_and_bytes_lose_nothing(text):
    for tokenizer in [CharacterTokenizer(), ByteTokenizer()]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert len(tokenizer.tokens(text)) == len(ids)
        assert all(0 <= i < tokenizer.vocab_size for i in ids)


@given(text=texts)
@searching
def test_words_seen_in_training_come_back_with_single_spaces(text):
    tokenizer = WordTokenizer.train(["one word", text])
    assert tokenizer.decode(tokenizer.encode(text)) == " ".join(text.split())


@given(ids=st.lists(st.integers(0, 255)))
@searching
def test_any_bytes_decode_as_python_would(ids):
    assert ByteTokenizer().decode(ids) == bytes(ids).decode("utf-8", errors="replace")


def test_all_of_them_are_tokenizers():
    some: list[Tokenizer] = [
        WordTokenizer(["low"]),
        CharacterTokenizer(),
        ByteTokenizer(),
    ]
    for tokenizer in some:
        assert tokenizer.decode(tokenizer.encode("low")) == "low"


@pytest.mark.parametrize("texts", [[], [""], [" \n"], ["<unk>"]])
def test_a_corpus_without_words_is_refused(texts):
    with pytest.raises(ValueError, match="at least one word, got none"):
        WordTokenizer.train(texts)


@pytest.mark.parametrize("vocab_size", [-1, 0, 1, 5])
def test_sizes_that_the_words_cannot_fill_are_refused(vocab_size):
    with pytest.raises(ValueError, match=f"from 2 to 4.*got {vocab_size}"):
        WordTokenizer.train(["low lower lowest"], vocab_size)


def test_one_string_in_place_of_a_list_is_refused():
    with pytest.raises(ValueError, match="list of strings, got one string"):
        WordTokenizer.train("low lower")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "a"], r"distinct, got \['a'\]"),
        (["<unk>"], "distinct"),
        ([""], "without white space"),
        (["a b"], "without white space"),
    ],
)
def test_unfit_vocabularies_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        WordTokenizer(words)


@pytest.mark.parametrize("wrong", [-1, 0x110000])
def test_ids_outside_the_vocabulary_are_refused(wrong):
    for tokenizer in [WordTokenizer(["a"]), CharacterTokenizer(), ByteTokenizer()]:
        with pytest.raises(ValueError, match=f"ids must be from 0.*got {wrong}"):
            tokenizer.decode([wrong])


def test_a_lone_surrogate_has_no_bytes():
    with pytest.raises(ValueError, match=r"lone surrogate U\+D83D"):
        ByteTokenizer().encode("\ud83d")
