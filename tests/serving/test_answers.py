"""Text as it is drawn: never taken back, never too late."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenization_cases import sentencepiece

from llmcourse.serving.answers import TextPieces
from llmcourse.text.tokenizers import BPETokenizer

TOKENIZER = BPETokenizer.train(
    ["the bees see the trees"], 266, special_tokens=["<|endoftext|>"]
)


def pieces_of(ids, stop=()):
    pieces = TextPieces(TOKENIZER, stop)
    found = [pieces.push(id_) for id_ in ids]
    return [*found, pieces.finish()], pieces.stopped


# Worked example


def test_worked_example_of_a_character_in_three_bytes():
    """€ is E2 82 AC: nothing, nothing, the character. Cut off, it is U+FFFD."""
    ids = TOKENIZER.encode("€")
    assert pieces_of(ids) == (["", "", "€", ""], False)
    assert pieces_of(ids[:2]) == (["", "", "\ufffd"], False)


def test_worked_example_of_what_is_held_back():
    """ "ab" may become "abc": it is given out once it has not."""
    ids = TOKENIZER.encode("xabd")
    assert pieces_of(ids, ["abc"]) == (["x", "", "", "abd", ""], False)
    assert pieces_of(TOKENIZER.encode("xabc"), ["abc"]) == (["x"] + [""] * 4, True)


# Laws


@settings(max_examples=60)
@given(
    st.text(alphabet="ab €\0", max_size=12) | st.text("the bs", max_size=12),
    st.lists(st.text("abe€hst", min_size=1, max_size=3), max_size=3),
)
@example("the bees", ["the", "h"])  # both are in one token
def test_the_pieces_are_the_text_up_to_the_first_stop(text, stop):
    found, stopped = pieces_of(TOKENIZER.encode(text), stop)
    # The first to be complete ends the text, not the first to begin.
    begins = {one: text.find(one) for one in stop if one in text}
    first = min((begins[one] + len(one) for one in begins), default=None)
    ends = [begin for one, begin in begins.items() if begin + len(one) == first]
    assert "".join(found) == (text[: min(ends)] if ends else text)
    assert stopped == bool(ends)


def test_special_tokens_are_no_text():
    end = TOKENIZER.special_tokens["<|endoftext|>"]
    assert pieces_of([end, *TOKENIZER.encode("bee"), end])[0].count("") >= 2
    assert "".join(pieces_of([end, *TOKENIZER.encode("bee"), end])[0]) == "bee"


# Reference


@settings(max_examples=40)
@given(st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=12))
def test_equals_decode(ids):
    assert "".join(pieces_of(ids)[0]) == TOKENIZER.decode(ids, skip_special_tokens=True)


def test_what_goes_on_keeps_its_space_and_bytes_wait_for_the_next_piece():
    tokenizer = sentencepiece(["the bees see the trees"])
    ids = tokenizer.encode("bees é see")
    for goes_on, text in ((True, " bees é see"), (False, "bees é see")):
        pieces = TextPieces(tokenizer, goes_on=goes_on)
        assert "".join([*map(pieces.push, ids), pieces.finish()]) == text
    pieces = TextPieces(tokenizer, ["é s"])
    assert "".join(map(pieces.push, ids)) == "bees "
    assert pieces.stopped


def test_a_text_begins_where_the_bytes_before_it_end():
    """A run of bytes is held back until it is whole: a new line, in Llama 2's."""
    tokenizer = sentencepiece(["a b c"])
    pieces = TextPieces(tokenizer, goes_on=True)
    ids = tokenizer.encode("a\n\nb")
    assert [tokenizer.pieces[i] for i in ids] == [b" a", b"\n", b"\n", b"b"]
    begins = []
    for id_ in ids:
        begins.append(pieces.offset(id_))
        pieces.push(id_)
    assert begins == [0, 2, 2, 4]
    assert pieces.offset(None) == 5


def test_a_special_token_does_not_end_a_run_of_bytes():
    tokenizer = sentencepiece(["a b c"])
    pieces = TextPieces(tokenizer)
    unknown = tokenizer.special_tokens["<unk>"]
    new_line, letter = tokenizer.encode("\n")[-1], tokenizer.encode("b")[-1]
    begins = []
    for id_ in (letter, new_line, unknown, new_line, letter):
        begins.append(pieces.offset(id_))
        pieces.push(id_)
    assert begins == [0, 1, 1, 1, 3]
