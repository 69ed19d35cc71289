"""Turn text into numbers and back, by pieces of words that were learned from text.

    "unbelievable"  →  un · believ · able      if those pieces were worth learning

Nothing is ever unknown: a rare word falls into smaller pieces, at worst into bytes.
The simpler tokenizers, by words, characters and bytes, can be imported from here too.
"""

import codecs
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

import regex

from llmcourse.bpe import (
    PretokenCache,
    apply_merges,
    learn_vocabulary,
    merge_steps,
)
from llmcourse.bpe_vocabulary import (
    AllowedSpecial,
    BPEParts,
    byte_ids,
    check_special_tokens,
    merge_table,
    pieces_by_id,
    special_pattern,
)
from llmcourse.pretokenization import (
    DIGITS_PATTERN,
    GPT2_PATTERN,
    GPT4_PATTERN,
    checked_ids,
    checked_text,
    compile_pattern,
    decided_pretokens,
    show,
)
from llmcourse.simple_tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    WordTokenizer,
)
from llmcourse.tokenizer_json import (
    read_gpt2_files,
    read_tokenizer_json,
    write_tokenizer_json,
)

__all__ = [
    "DIGITS_PATTERN",
    "GPT2_PATTERN",
    "GPT4_PATTERN",
    "BPETokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "Tokenizer",
    "WordTokenizer",
]

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
