"""Tokenizers in the forms of other models', beside Hugging Face's `tokenizers`.

The files of the models are not here. What is made is of their form: the same steps
around a byte-level BPE that was trained on a few words.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenization_cases import (
    GPT4_IN_OTHER_WORDS,
    SPECIAL,
    searching,
    sentencepiece_document,
    texts,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from llmcourse.text.packing import text_borders
from llmcourse.text.tokenizer_files import BPEOptions
from llmcourse.text.tokenizers import BPETokenizer

CORPUS = [
    "low lower lowest 12345 naïve Ångström e\u0301 don't DON'T 日本語 \n\n x_1 "
] * 2
QWEN = GPT4_IN_OTHER_WORDS.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
DEEPSEEK = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
FORMS = {
    "llama 3": {"splits": [GPT4_IN_OTHER_WORDS], "start": True, "ignore_merges": True},
    "qwen 2.5": {"splits": [QWEN], "normalizer": {"type": "NFC"}},
    "deepseek": {
        "splits": DEEPSEEK,
        "start": True,
        "normalizer": {"type": "Sequence", "normalizers": []},
    },
    "o200k with gaps": {"splits": [O200K], "gap": 9},
    "cl100k with gaps": {"splits": [GPT4_IN_OTHER_WORDS], "gap": 9},
    "bytes left out, as smollm2": {"splits": [QWEN], "left_out": ["Ħ", "ÿ", "į"]},
    "all at once": {
        "splits": DEEPSEEK,
        "start": True,
        "ignore_merges": True,
        "gap": 3,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
    },
}
SENTENCEPIECE = {
    "llama 2": {},
    "llama 2, as first published": {"late": ("<unk>", "<s>", "</s>")},
    "pieces of several words": {"crossing": True},
    "mistral": {"scheme": "first"},
    "mistral, some late": {"scheme": "first", "late": ("<s>",), "crossing": True},
    "always, cut": {"scheme": "always", "splits": True},
    "always, pieces of several words": {"scheme": "always", "crossing": True},
    "never, cut": {"scheme": "never", "splits": True, "strips": False},
    "first, cut": {"scheme": "first", "splits": True, "strips": False},
}


def make_document(
    splits, start=False, ignore_merges=False, normalizer=None, gap=0, left_out=()
):
    """Return a tokenizer.json of such a form."""
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator(CORPUS, trainer)
    document = json.loads(theirs.to_str())
    model = document["model"]
    for name in left_out:
        del model["vocab"][name]
    ids = {name: n for n, name in enumerate(model["vocab"])}
    model["vocab"] = ids
    first = len(model["vocab"]) + gap
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    document["added_tokens"] = [
        {"id": first + n, "content": name, **flags, "special": True}
        for n, name in enumerate(SPECIAL)
    ]
    # Where ids are left out, the numbers of the others stand in the vocabulary, too:
    # `tokenizers` numbers those that do not anew.
    model["vocab"] |= {
        token["content"]: token["id"] for token in document["added_tokens"]
    }
    if ignore_merges:
        model["ignore_merges"] = True
        del model["merges"][-12:]  # their products are pieces all the same
    split = {"type": "Split", "behavior": "Isolated", "invert": False}
    document["normalizer"] = normalizer
    document["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            *({**split, "pattern": {"Regex": pattern}} for pattern in splits),
            {**BYTE_LEVEL, "use_regex": False},
        ],
    }
    if start:
        token = {"SpecialToken": {"id": SPECIAL[0], "type_id": 0}}
        pair = [{"Sequence": {"id": part, "type_id": n}} for n, part in enumerate("AB")]
        template = {
            "type": "TemplateProcessing",
            "single": [token, pair[0]],
            "pair": [token, *pair],
            "special_tokens": {
                SPECIAL[0]: {"id": SPECIAL[0], "ids": [first], "tokens": [SPECIAL[0]]}
            },
        }
        document["post_processor"] = {
            "type": "Sequence",
            "processors": [{**BYTE_LEVEL, "use_regex": True}, template],
        }
    return document


def load_both(document, folder):
    """Return ours and theirs, from one file."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(document))
    return BPETokenizer.load(path), Tokenizer.from_file(str(path))


@pytest.fixture(scope="module", params=[*FORMS, *SENTENCEPIECE])
def both(request, tmp_path_factory):
    """Ours and theirs, of each form."""
    if request.param in FORMS:
        document = make_document(**FORMS[request.param])
    else:
        document = sentencepiece_document(CORPUS, **SENTENCEPIECE[request.param])
    return load_both(document, tmp_path_factory.mktemp("form"))


@pytest.fixture(scope="module", params=SENTENCEPIECE)
def pieces(request, tmp_path_factory):
    """Ours and theirs, of each form of SentencePiece's."""
    document = sentencepiece_document(CORPUS, **SENTENCEPIECE[request.param])
    return load_both(document, tmp_path_factory.mktemp("form"))


def check_alike(ours, theirs, text):
    start = ours.ids_of(ours.options.start_tokens)
    ids = ours.encode(text, allowed_special="all")
    assert [*start, *ids] == theirs.encode(text).ids
    check_decoded(ours, theirs, ids)


def check_decoded(ours, theirs, ids):
    # Theirs writes a normalized "<s>" as " <s>", and skips none of them.
    late = set(ours.ids_of(ours.options.normalized_tokens))
    ids = [i for i in ids if i not in late]
    for skip in (False, True):
        text = theirs.decode(ids, skip_special_tokens=skip)
        assert ours.decode(ids, skip) == text
        assert "".join(ours.decode_iterable(ids, skip)) == text


@given(text=texts)
@searching
def test_ids_are_theirs(both, text):
    check_alike(*both, text)


def test_ids_of_hard_texts_are_theirs(both):
    for text in [
        *CORPUS,
        *[
            "",
            " ",
            "  ",
            "▁",
            "▁low",
            "  low <s> <s>low</s> low<s>▁ low",
            "<s>",
            " <s>",
        ],
        "lowest",
        " naïve Å",
        "A\u030a e\u0301",
        "2024年12月!abc /\n",
    ]:
        check_alike(*both, text)


@given(ids=st.lists(st.integers(0, 330), max_size=9))
@searching
def test_ids_without_a_piece_stand_for_nothing(both, ids):
    ours, theirs = both
    check_decoded(ours, theirs, [i for i in ids if i < ours.vocab_size])


@given(text=texts)
@searching
def test_saving_keeps_all_of_it(both, text, tmp_path_factory):
    ours, theirs = both
    path = tmp_path_factory.mktemp("saved") / "tokenizer.json"
    ours.save(path)
    again = BPETokenizer.load(path)
    assert again.options == ours.options
    check_alike(again, Tokenizer.from_file(str(path)), text)
    assert again.encode(text) == ours.encode(text)
    assert Tokenizer.from_file(str(path)).encode(text).ids == theirs.encode(text).ids


def test_pieces_without_merges_are_found_whole():
    vocab = {b"a": 0, b"b": 1, b"ab": 2}
    whole = BPETokenizer(vocab, [], options=BPEOptions(ignore_merges=True))
    assert BPETokenizer(vocab, []).encode("ab") == [0, 1]
    assert whole.encode("ab") == [2]
    assert whole.encode("abb") == [0, 1, 1]


def test_a_vocabulary_may_be_padded():
    tokenizer = BPETokenizer({b"a": 0, b"b": 1}, [], options=BPEOptions(n_ids=8))
    assert tokenizer.vocab_size == 8
    assert tokenizer.decode([0, 7, 1]) == "ab"
    with pytest.raises(ValueError, match="n_ids must be at least 2, got 1"):
        tokenizer.with_options(n_ids=1)


def test_texts_begin_and_end_as_the_tokenizer_says():
    special = {"<|begin|>": 1, "<|end_of_turn|>": 2}
    tokenizer = BPETokenizer({b"a": 0}, [], special)
    with pytest.raises(ValueError, match=r"with the special token <\|endoftext\|>"):
        text_borders(tokenizer)
    told = tokenizer.with_options(
        start_tokens=("<|begin|>",), end_tokens=("<|end_of_turn|>",)
    )
    assert text_borders(told) == ([1], [2])
    marked = BPETokenizer({b"a": 0}, [], {"<|endoftext|>": 1, "<|im_end|>": 2})
    assert text_borders(marked) == ([1], [1])
    ended = marked.with_options(end_tokens=("<|im_end|>",))
    assert text_borders(ended) == ([1], [1, 2])
    with pytest.raises(ValueError, match="allowed_special must be .*'<|no|>'"):
        marked.with_options(end_tokens=("<|no|>",))


def test_a_file_that_does_not_say_its_type_is_read(tmp_path):
    """As the one that GPT-2 was published with."""
    tokenizer = BPETokenizer.train(["to be or not to be"], 259)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    document = json.loads(path.read_text())
    del document["model"]["type"]
    path.write_text(json.dumps(document))
    assert BPETokenizer.load(path).encode("to be") == tokenizer.encode("to be")


def test_what_is_typed_is_no_special_token(pieces):
    ours, theirs = pieces
    theirs.encode_special_tokens = True
    for text in ["<s>", "a <s> b</s>", "low ▁<unk>"]:
        ids = ours.encode(text)
        assert [1, *ids] == theirs.encode(text).ids
        assert set(ids).isdisjoint(ours.special_tokens.values())
    theirs.encode_special_tokens = False


@given(ids=st.lists(st.integers(0, 2) | st.integers(100, 329), max_size=20))
@searching
def test_bytes_in_a_row_are_text_together_or_not_at_all(pieces, ids):
    """Of these ids, most are bytes that are no text alone: 198 is C3."""
    check_decoded(*pieces, [i for i in ids if i < pieces[0].vocab_size])


def test_worked_example_of_sentencepiece(tmp_path):
    """An "é" in a vocabulary without it is C3 A9; no byte of C3 A9 FF is text."""
    ours, _ = load_both(sentencepiece_document(CORPUS), tmp_path)
    ids = ours.encode("low ▁low é")
    assert ours.tokens("low ▁low é") == [" low", " ", " low", " ", r"\xc3", r"\xa9"]
    assert ours.decode(ids) == "low  low é"
    assert list(ours.decode_iterable(ids)) == ["low", " ", " low", " ", "é"]
    assert next(ours.decode_iterable(ids, goes_on=True)) == " low"
    assert ours.decode([*ids, 3 + 0xFF, *ids[:1]]) == "low  low \ufffd\ufffd\ufffd low"
    assert ours.decode([ids[-2], 1, ids[-1]]) == "\ufffd<s>\ufffd"
    assert ours.decode([ids[-2], 1, ids[-1]], skip_special_tokens=True) == "é"
    assert ours.pretokens("low low") == ["▁low", "▁low"]
    with pytest.raises(ValueError, match="lone surrogate"):
        ours.encode("\ud83d")


def test_special_tokens_are_skipped_even_if_they_are_found_late(tmp_path):
    document = sentencepiece_document(CORPUS, late=("<s>",))
    ours, _ = load_both(document, tmp_path)
    ids = ours.encode("low <s>low", allowed_special="all")
    assert ours.decode(ids) == "low<s>low"
    assert ours.decode(ids, skip_special_tokens=True) == "lowlow"


@pytest.mark.parametrize("changes", [{}, {"ignore_merges": True}])
def test_merges_of_bytes_and_across_words_are_followed(changes, tmp_path):
    """Where a ▁ is three bytes, a merge may reach from a word into it."""
    document = sentencepiece_document(CORPUS)
    model, added = document["model"], [["w", "<0xE2>"], ["<0x81>", "l"]]
    vocab = [name for name in model["vocab"] if "▁" not in name]
    vocab += map("".join, added)
    model["vocab"] = {name: i for i, name in enumerate(vocab)}
    model["merges"] = [pair for pair in model["merges"] if "▁" not in "".join(pair)]
    model["merges"] += added
    model |= changes
    ours, theirs = load_both(document, tmp_path)
    assert model["vocab"]["w<0xE2>"] in ours.encode("low low")
    for text in ["low low", "▁l", "  lowest", "low"]:
        check_alike(ours, theirs, text)


def test_several_spaces_are_merged_with_each_other(tmp_path):
    document = sentencepiece_document(CORPUS)
    document["model"]["vocab"] |= {"▁▁": 330}
    document["model"]["merges"] += [["▁", "▁"]]
    ours, theirs = load_both(document, tmp_path)
    assert ours.encode("  x")[0] == 330
    for text in ["  x", "x   y ", " ▁ x", "    "]:
        check_alike(ours, theirs, text)


def test_pieces_without_merges_are_whole_stretches_of_text(tmp_path):
    document = sentencepiece_document(CORPUS)
    document["model"] |= {"ignore_merges": True}
    document["model"]["vocab"] |= {"▁xyz": 330, "▁a▁b": 331}
    ours, theirs = load_both(document, tmp_path)
    assert ours.encode("xyz") == [330]
    for text in ["xyz", "a b", "a xyz", "xyz<s>a b"]:
        check_alike(ours, theirs, text)


def put(document, place, value):
    """Return the document with something else in a place."""
    *path, last = place
    inner = document
    for key in path:
        inner = inner[key]
    inner[last] = value
    return document


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}
STRIP_MORE = {"type": "Strip", "content": " ", "start": 2, "stop": 0}
NO_STRIP = [{"type": "ByteFallback"}, {"type": "Fuse"}]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["model", "byte_fallback"], False, "byte_fallback, .* must be True, got"),
        (["model", "dropout"], 0.1, "dropout must be None, got 0.1"),
        (["model", "vocab", "<0x41>"], "x", "an id must be an integer, got 'x'"),
        (["model", "merges", 0], ["<", "s>"], "must hold '<' for a merge"),
        (["normalizer"], None, "normalizers must be \\[{'type': 'Prepend'"),
        (["normalizer"], {"type": "NFKC"}, "normalizers must be .* got .*NFKC"),
        (["normalizer", "normalizers", 0, "prepend"], "_", "normalizers must be"),
        (["pre_tokenizer"], METASPACE, r"normalizers must be \[\], got .*Prepend"),
        (["decoder"], {"type": "Metaspace"}, "decoder type must be 'ByteLevel', got"),
        (["decoder", "decoders", 3], STRIP_MORE, "decoders must be .*'start': 2"),
        (["decoder", "decoders"], NO_STRIP, "decoders must be .*'Replace'"),
        (["added_tokens", 1, "rstrip"], True, "rstrip of an added token must be False"),
    ],
)
def test_another_form_of_sentencepiece_is_refused(place, value, message, tmp_path):
    document = put(sentencepiece_document(CORPUS), place, value)
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message):
        BPETokenizer.load(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("type", "Whitespace", "pre_tokenizer must be .*'Metaspace'"),
        ("replacement", "_", "pre_tokenizer must be .* got .*'_'"),
        ("prepend_scheme", "last", "prepend_scheme must be 'always' or"),
        ("add_prefix_space", False, "without a prefix must be 'never', got 'first'"),
        ("split", "no", "split must be True or False, got 'no'"),
    ],
)
def test_another_metaspace_is_refused(key, value, message, tmp_path):
    document = sentencepiece_document(CORPUS, "first")
    document["pre_tokenizer"][key] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message):
        BPETokenizer.load(tmp_path / "tokenizer.json")


def test_a_metaspace_of_few_words_is_followed(tmp_path):
    document = sentencepiece_document(CORPUS, "first")
    document["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁"}
    ours, theirs = load_both(document, tmp_path)
    for text in ["low", "  low<s>low"]:
        check_alike(ours, theirs, text)


def test_a_sentencepiece_without_a_byte_or_with_another_pattern_is_refused(tmp_path):
    document = sentencepiece_document(CORPUS)
    ours, _ = load_both(document, tmp_path)
    with pytest.raises(ValueError, match="pattern must be .* got 'x'"):
        BPETokenizer(ours.vocab, ours.merges, pattern="x", options=ours.options)
    with pytest.raises(ValueError, match="first_patterns and nfc of SentencePiece"):
        ours.with_options(nfc=True)
    with pytest.raises(ValueError, match="must not be spelled like a piece"):
        BPETokenizer(ours.vocab, [], {"▁low": 400}, ours.pattern, ours.options)
    del document["model"]["vocab"]["<0x41>"]
    document["model"]["vocab"]["x"] = 3 + 0x41
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="<0x00> to <0xFF> must be 256, got 255"):
        BPETokenizer.load(tmp_path / "tokenizer.json")


def test_tokens_that_are_added_but_not_special_stay_in_a_text(tmp_path):
    """As `<think>` of Qwen3 and DeepSeek-R1."""
    path = tmp_path / "tokenizer.json"
    BPETokenizer.train(["low lower"], 262, ["<|endoftext|>", "<think>"]).save(path)
    document = json.loads(path.read_text())
    for token in document["added_tokens"]:
        token["special"] = token["content"] != "<think>"
    path.write_text(json.dumps(document))
    ours, theirs = BPETokenizer.load(path), Tokenizer.from_file(str(path))
    ids = theirs.encode("<think>low<|endoftext|>").ids
    for skips in (True, False):
        text = theirs.decode(ids, skip_special_tokens=skips)
        assert ours.decode(ids, skips) == text
        assert "".join(ours.decode_iterable(ids, skips)) == text
    ours.save(path)
    assert json.loads(path.read_text())["added_tokens"] == document["added_tokens"]
    ends = ours.with_options(end_tokens=("<think>",))  # the end is no text, ever
    assert ends.decode(ids, skip_special_tokens=True) == "low"
