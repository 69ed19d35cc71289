"""The three simple ways to turn text into numbers: by words, characters, bytes.

    words        "deep learning"  →  deep · learning          unknown words are lost
    characters   "deep learning"  →  d · e · e · p · ...      a long sequence
    bytes        "deep learning"  →  100 · 101 · 101 · ...    256 ids for all languages

Each has ``encode``, ``decode``, ``tokens`` and ``vocab_size``.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final, Protocol, runtime_checkable

from llmcourse.pretokenization import (
    checked_ids,
    checked_int,
    checked_text,
    checked_texts,
    show,
    to_utf8,
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
