import errno
import json
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenization_cases import sentencepiece

from llmcourse.files import new_file
from llmcourse.text import packing
from llmcourse.text.documents import Document
from llmcourse.text.packing import (
    Shards,
    load_header,
    load_tokens,
    pack,
    tokenizer_fingerprint,
)
from llmcourse.text.tokenizers import BPETokenizer, WordTokenizer


class Letters:
    """Bytes, and one more id for the end of a text."""

    def __init__(self, vocab_size=257, shift=0):
        self.vocab_size = vocab_size
        self.special_tokens = {"<|endoftext|>": 256}
        self.shift = shift

    def encode(self, text):
        return [byte + self.shift for byte in text.encode()]

    def tokens(self, text):
        return list(text)

    def decode(self, ids):
        return bytes(i for i in ids if i < 256).decode(errors="replace")


def documents(*texts):
    return [Document(text, text[:3]) for text in texts]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train.bin"


class FullFile:
    """A file on a disk that has room for so many bytes, and a buffer of ten."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        self.room -= len(data)
        if self.room < -10:
            self.flush()
        self.file.write(data)

    def flush(self):
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def fill_disk(monkeypatch):
    """Return a function after which each new file has room for so many bytes."""

    def fill(room):
        @contextmanager
        def full_file(path):
            with new_file(path) as file:
                yield FullFile(file, room)

        monkeypatch.setattr(packing, "new_file", full_file)

    return fill


def test_two_documents_and_two_ends(path):
    """ "ab" is 97 98, "c" is 99, each followed by 256, the end of a text."""
    header = pack(documents("ab", "c"), Letters(), path)
    assert load_tokens(path).tolist() == [97, 98, 256, 99, 256]
    assert (header.n_tokens, header.n_documents) == (5, 2)
    assert (header.dtype, header.vocab_size, header.end_of_text) == ("uint16", 257, 256)
    assert path.stat().st_size == 10
    assert path.read_bytes()[4:6] == b"\x00\x01"  # 256, its low byte first
    assert load_header(path) == header


def test_what_is_packed_with_our_tokenizer_decodes_to_the_texts(path):
    texts = ["low lower lowest", "", "naïve\nfox <|endoftext|> 🦊"]
    tokenizer = BPETokenizer.train(texts, 270, ["<|endoftext|>"])
    header = pack(documents(*texts), tokenizer, path)
    ids = load_tokens(path, tokenizer)
    ends = np.flatnonzero(ids == header.end_of_text)
    parts = np.split(ids, ends + 1)[:-1]
    assert [tokenizer.decode(part[:-1].tolist()) for part in parts] == texts


@given(texts=st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=5))
def test_packed_ids_are_those_of_the_tokenizer(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "x.bin"
    pack(documents(*texts), Letters(), path)
    wanted = [i for text in texts for i in [*Letters().encode(text), 256]]
    assert load_tokens(path).tolist() == wanted


def test_memory_does_not_grow_with_the_corpus(path):
    """2,000 documents of 4,000 ids make a file of 16 MB; the peak stays below 1 MB.

    The list of one document's ids, 8 bytes each and the small integers shared,
    takes 32 kB, twice that with its copy and three arrays.
    """
    stream = (Document(chr(97 + i % 26) * 3999) for i in range(2000))
    pack(documents("warm up"), Letters(), path)
    tracemalloc.start()
    header = pack(stream, Letters(), path)
    ids = load_tokens(path)
    assert ids[4000 * 1234] == 97 + 1234 % 26
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert header.n_tokens == 8_000_000
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("vocab_size", "dtype"), [(65_536, "uint16"), (65_537, "uint32")]
)
def test_the_smallest_sufficient_type_is_used(path, vocab_size, dtype):
    assert pack(documents("ab"), Letters(vocab_size), path).dtype == dtype
    assert load_tokens(path).tolist() == [97, 98, 256]


def test_tokenizers_that_differ_have_other_fingerprints():
    texts = ["low lower lowest newer wider"]
    one = BPETokenizer.train(texts, 265, ["<|endoftext|>"])
    same = BPETokenizer.train(texts, 265, ["<|endoftext|>"])
    smaller = BPETokenizer.train(texts, 264, ["<|endoftext|>"])
    renamed = BPETokenizer.train(texts, 265, ["<|end|>"])
    composing = one.with_options(nfc=True)
    assert tokenizer_fingerprint(one) == tokenizer_fingerprint(same)
    others = (one, smaller, renamed, composing)
    assert len(set(map(tokenizer_fingerprint, others))) == 4


def test_a_space_that_no_text_shows_is_in_the_fingerprint():
    """SentencePiece's "a" and "▁a" are both "a" as a text of their own."""
    one = sentencepiece(["a an at", "an ant"])
    plain, spaced = one.vocab[b"a"], one.vocab["▁a".encode()]
    vocab = one.vocab | {b"a": spaced, "▁a".encode(): plain}
    parts = one.merges, one.special_tokens, one.pattern, one.options
    other = BPETokenizer(vocab, *parts)
    assert tokenizer_fingerprint(one) != tokenizer_fingerprint(other)
    assert tokenizer_fingerprint(one) == tokenizer_fingerprint(
        BPETokenizer(one.vocab, *parts)
    )


@pytest.mark.parametrize("room", [40, 121])
def test_a_full_disk_leaves_nothing_behind(path, fill_disk, room):
    """124 bytes do not fit: seen at once or, with the last in a buffer, at the end."""
    fill_disk(room)
    with pytest.raises(OSError, match=r"train\.bin.*No space left") as caught:
        pack(documents("x" * 30, "y" * 30), Letters(), path)
    assert caught.value.errno == errno.ENOSPC
    assert [*path.parent.iterdir()] == []


@pytest.mark.parametrize("room", [40, 121])
def test_a_full_disk_leaves_the_old_array_as_it_was(path, fill_disk, room):
    pack(documents("old"), Letters(), path)
    fill_disk(room)
    with pytest.raises(OSError, match="No space left"):
        pack(documents("x" * 30, "y" * 30), Letters(), path)
    assert load_tokens(path).tolist() == [*b"old", 256]


def test_the_header_of_an_old_array_does_not_vouch_for_a_new_one(path, monkeypatch):
    """Interrupted between the two files, arrays of equal size could be mistaken."""

    def interrupt(name, value):
        raise KeyboardInterrupt

    pack(documents("old"), Letters(), path)
    monkeypatch.setattr(packing, "write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pack(documents("new"), Letters(), path)
    with pytest.raises(ValueError, match="is missing"):
        load_tokens(path)


def test_an_interrupted_stream_leaves_nothing_behind(path):
    def stream():
        yield Document("abc")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(stream(), Letters(), path)
    assert [*path.parent.iterdir()] == []


def test_an_empty_corpus_is_refused(path):
    with pytest.raises(ValueError, match="at least one document, got none"):
        pack([], Letters(), path)
    assert [*path.parent.iterdir()] == []


def test_a_tokenizer_without_an_end_of_text_is_refused(path):
    with pytest.raises(ValueError, match=r"special token <\|endoftext\|>, got .*none"):
        pack(documents("a"), WordTokenizer(["a"]), path)


def test_a_name_that_the_header_needs_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must not end in \.json, got 'x\.json'"):
        pack(documents("a"), Letters(), tmp_path / "x.json")


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no folder .*nowhere"):
        pack(documents("a"), Letters(), tmp_path / "nowhere" / "x.bin")


def test_an_array_without_its_header_is_refused(path):
    pack(documents("a"), Letters(), path)
    path.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match=r"made by pack, but .*train\.json.* missing"):
        load_tokens(path)


@pytest.mark.parametrize("text", ["", "[1]", '{"dtype": "uint16"}', '{"n": 1'])
def test_a_foreign_header_is_refused(path, text):
    path.with_suffix(".json").write_text(text)
    with pytest.raises(ValueError, match=r"train\.json.* not written by pack"):
        load_header(path)


def test_a_header_with_another_type_is_refused(path):
    pack(documents("a"), Letters(), path)
    header = path.with_suffix(".json")
    header.write_text(header.read_text().replace("uint16", "float16"))
    with pytest.raises(ValueError, match="'uint16' or 'uint32', got 'float16'"):
        load_tokens(path)


@pytest.mark.parametrize("size", [0, 7, 12])
def test_an_array_of_another_size_is_refused(path, size):
    pack(documents("abcd"), Letters(), path)
    path.write_bytes(b"a" * size)
    with pytest.raises(
        ValueError, match=rf"bytes in .*train\.bin' must be 10, got {size}"
    ):
        load_tokens(path)


def test_shards_that_are_missing_or_do_not_add_up_are_refused(path):
    pack(documents("abc", "de"), Letters(), path)
    path.write_bytes(path.read_bytes()[:8])
    header = path.with_suffix(".json")
    told = json.loads(header.read_text())
    header.write_text(json.dumps(told | {"shards": [4, 3]}))
    with pytest.raises(ValueError, match=r"bytes in .*train\.1\.bin' must be 6, got 0"):
        load_tokens(path)
    header.write_text(json.dumps(told | {"shards": [4, 4]}))
    with pytest.raises(ValueError, match="tokens of all shards must be 7, got 8"):
        load_tokens(path)


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=5),
    st.slices(20),
)
def test_shards_are_cut_as_one_array(parts, place):
    place = slice(place.start, place.stop)
    shards = Shards([np.array(part, np.uint16) for part in parts])
    whole = [number for part in parts for number in part]
    assert len(shards) == len(whole)
    assert shards[place].tolist() == whole[place]
    assert shards[place].dtype == shards.dtype == np.uint16


def test_a_header_without_its_array_is_refused(path):
    pack(documents("abcd"), Letters(), path)
    path.unlink()
    with pytest.raises(ValueError, match="bytes in .* must be 10, got 0"):
        load_tokens(path)


def test_another_tokenizer_is_refused(path):
    pack(documents("abcd"), Letters(), path)
    load_tokens(path, Letters())
    with pytest.raises(ValueError, match="tokenizer of .* must be '"):
        load_tokens(path, Letters(vocab_size=300))


def test_the_header_is_plain_json(path):
    header = pack(documents("ab"), Letters(), path)
    stored = json.loads(Path(path).with_suffix(".json").read_text())
    assert stored["n_tokens"] == header.n_tokens
    assert stored["tokenizer"] == tokenizer_fingerprint(Letters())
