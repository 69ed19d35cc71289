r"""A long text, cut into pieces that fit a model, each with its place in the source.

    source    Mia slept.\n\nTom had a red boat. It sank.
    chunks    └───────┘└──────────────────────────────┘    where the structure says,
              └──────────────┘└──────────────┘             or every eight tokens,
                          └──────────────┘                 perhaps with an overlap

A chunk is always a run of whole tokens of the encoded source and exactly
`source[start:end]`, white space included. Chunks come in order and leave nothing out,
so joining chunks without overlap gives the source. White space belongs to what
follows it, as in the tokens themselves.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypeAlias

from llmcourse.arguments import check_range
from llmcourse.text.tokenizer_files import SPACE
from llmcourse.text.tokenizers import BPETokenizer

_TOKEN, _WORD, _LINE, _SENTENCE, _PARAGRAPH = range(5)  # how good a place to cut
_SPACE = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\Z")
_Span: TypeAlias = tuple[int, int]  # two borders
_LONGEST_CHARACTER = 4  # bytes; a character has at most that many tokens


@dataclass(frozen=True)
class Chunk:
    """A piece of a text, and its position there."""

    text: str
    start: int  # in characters, counted from 0
    end: int
    n_tokens: int  # how many of the source's tokens


def fixed_chunks(
    text: str, tokenizer: BPETokenizer, size: int, overlap: int = 0
) -> list[Chunk]:
    """Return chunks of `size` tokens, even if that cuts a word in two.

    Args:
        text: Any text; an empty one has no chunks.
        tokenizer: Says what a token is.
        size: The most tokens in a chunk. All but the last have exactly as many, unless
            some character is made of several tokens.
        overlap: The most tokens that a chunk repeats from the one before it.

    Raises:
        ValueError: If size is less than 4, since one character may take four tokens,
            or less than a run of characters that share tokens takes; or if overlap is
            not from 0 to size - 1.

    >>> letters = BPETokenizer.train(["a"], vocab_size=256)
    >>> chunks = fixed_chunks("abcdefghij", letters, size=5, overlap=2)
    >>> [chunk.text for chunk in chunks]
    ['abcde', 'defgh', 'ghij']
    """
    return _chunks(text, tokenizer, size, overlap, [_TOKEN])


def sentence_chunks(
    text: str, tokenizer: BPETokenizer, size: int, overlap: int = 0
) -> list[Chunk]:
    """Return chunks of as many whole sentences as fit.

    A sentence ends at a full stop or similar mark before white space, unless a small
    letter follows, or at an empty line. One that is too long is cut between tokens.

    Args:
        text: Any text; an empty one has no chunks.
        tokenizer: Says what a token is.
        size: The most tokens in a chunk.
        overlap: The most tokens that a chunk repeats, in whole sentences: none if the
            last sentence is longer.

    Raises:
        ValueError: If size or overlap is out of range; see `fixed_chunks`.

    >>> letters = BPETokenizer.train(["a"], vocab_size=256)
    >>> chunks = sentence_chunks("I am. You are, e.g. me.", letters, 20)
    >>> [chunk.text for chunk in chunks]
    ['I am.', ' You are, e.g. me.']
    """
    return _chunks(text, tokenizer, size, overlap, [_SENTENCE, _TOKEN])


def recursive_chunks(
    text: str, tokenizer: BPETokenizer, size: int, overlap: int = 0
) -> list[Chunk]:
    r"""Return chunks that follow the structure of the text.

    The text is cut at empty lines, and as many paragraphs as fit are joined; a
    paragraph that is too long is cut into sentences in the same way, a sentence into
    lines, a line into words, a word into tokens.

    Args:
        text: Any text; an empty one has no chunks.
        tokenizer: Says what a token is.
        size: The most tokens in a chunk.
        overlap: The most tokens that a chunk repeats, in whole pieces: the last of
            those that were joined into the chunk before.

    Raises:
        ValueError: If size or overlap is out of range; see `fixed_chunks`.

    Source: The idea is from `RecursiveCharacterTextSplitter` in LangChain, which
    counts characters by default and drops the white space between chunks.

    >>> letters = BPETokenizer.train(["a"], vocab_size=256)
    >>> chunks = recursive_chunks("One.\n\nTwo three. Four.", letters, 12)
    >>> [chunk.text for chunk in chunks]
    ['One.', '\n\nTwo three.', ' Four.']
    """
    levels = [_PARAGRAPH, _SENTENCE, _LINE, _WORD, _TOKEN]
    return _chunks(text, tokenizer, size, overlap, levels)


def _chunks(
    text: str, tokenizer: BPETokenizer, size: int, overlap: int, levels: Sequence[int]
) -> list[Chunk]:
    check_range(_LONGEST_CHARACTER, size=size)
    check_range(0, size - 1, overlap=overlap)
    ends, tokens = _borders(text, tokenizer)
    longest = max((b - a for a, b in pairwise(tokens)), default=0)
    check_range(longest, size=size)
    places = _places(text, ends)

    def cut(first: int, last: int, levels: Sequence[int]) -> Iterator[_Span]:
        """Yield chunks of a span, cut at borders of the first level, else the next."""
        inner = range(first + 1, last)
        cuts = [border for border in inner if places[border] >= levels[0]]
        small: list[_Span] = []
        for piece in pairwise([first, *cuts, last]):
            if tokens[piece[1]] - tokens[piece[0]] <= size:
                small.append(piece)
            else:
                yield from packed(small)
                yield from cut(*piece, levels[1:])
                small = []
        yield from packed(small)

    def packed(pieces: Sequence[_Span]) -> Iterator[_Span]:
        """Yield neighbouring pieces joined, as many as fit."""
        first = 0  # of the pieces that are not in a chunk, or repeated from one
        for start, end in pieces:
            if tokens[end] - tokens[pieces[first][0]] > size:
                yield pieces[first][0], start
                room = min(overlap, size - (tokens[end] - tokens[start]))
                while tokens[start] - tokens[pieces[first][0]] > room:
                    first += 1
        if pieces:
            yield pieces[first][0], pieces[-1][1]

    spans = cut(0, len(ends) - 1, levels) if longest else ()
    return [
        Chunk(text[ends[a] : ends[b]], ends[a], ends[b], tokens[b] - tokens[a])
        for a, b in spans
    ]


def _places(text: str, ends: Sequence[int]) -> list[int]:
    """Return for each border how good a place to cut it is."""
    places = [_TOKEN] * len(ends)
    for space in _SPACE.finditer(text):
        start, lines = space.start(), space[0].count("\n")
        before = text[max(start - 4, 0) : start]
        after = text[space.end() : space.end() + 1]
        place = _LINE if lines else _WORD
        if _SENTENCE_END.search(before) and not after.islower():
            place = _SENTENCE
        if lines > 1:
            place = _PARAGRAPH
        # Where a token reaches into the white space, the cut is after that token.
        border = bisect_left(ends, start)
        if start and border < len(places):
            places[border] = max(places[border], place)
    return places


def _borders(text: str, tokenizer: BPETokenizer) -> tuple[list[int], list[int]]:
    """Return where a text can be cut: characters and tokens up to each border."""
    options = tokenizer.options
    if options.nfc and not unicodedata.is_normalized("NFC", text):
        # Encode the text as given, not composed.
        tokenizer = tokenizer.with_options(nfc=False)
    if not options.are_byte_level:
        text = text.replace(SPACE, " ")  # as the pieces have it

    def width(character: str) -> int:
        """Return how many bytes of a character the tokenizer has pieces for."""
        data = character.encode()
        if not options.drops_bytes:
            return len(data)
        return sum(bytes([byte]) in tokenizer.vocab for byte in data)

    widths = [0, *accumulate(map(width, text))]
    characters = {n_bytes: number for number, n_bytes in enumerate(widths) if number}
    sizes = [len(tokenizer.pieces[id_]) for id_ in tokenizer.encode(text)]
    if sizes:  # a space put before the text is not part of it
        sizes[0] -= sum(sizes) - widths[-1]
    ends, tokens = [0], [0]
    for number, n_bytes in enumerate(accumulate(sizes), start=1):
        if n_bytes in characters:  # else the token ends inside a character
            ends.append(characters[n_bytes])
            tokens.append(number)
    return ends, tokens
