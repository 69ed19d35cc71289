"""Tokenizers in the forms of other models', beside Hugging Face's `tokenizers`.

The files of the models are not here. What is made is of their form: the same steps
around a byte-level BPE that was trained on a few words.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenization_cases import GPT4_IN_OTHER_WORDS, SPECIAL, searching, texts
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from llmcourse.text.packing import text_borders
from llmcourse.text.tokenizers import BPEOptions, BPETokenizer

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


@pytest.fixture(scope="module", params=FORMS)
def both(request, tmp_path_factory):
    """Ours and theirs, from one file."""
    path = tmp_path_factory.mktemp("form") / "tokenizer.json"
    path.write_text(json.dumps(make_document(**FORMS[request.param])))
    return BPETokenizer.load(path), Tokenizer.from_file(str(path))


def check_alike(ours, theirs, text):
    start = ours.ids_of(ours.options.start_tokens)
    ids = ours.encode(text, allowed_special="all")
    assert [*start, *ids] == theirs.encode(text).ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


@given(text=texts)
@searching
def test_ids_are_theirs(both, text):
    check_alike(*both, text)


def test_ids_of_hard_texts_are_theirs(both):
    for text in [
        *CORPUS,
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
    ids = [i for i in ids if i < ours.vocab_size]
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


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
    with pytest.raises(ValueError, match="ids must be below 1, got 1"):
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
