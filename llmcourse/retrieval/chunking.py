r"""A long text, cut into pieces that fit a model, each with its place in the source.

    source    Mia slept.\n\nTom had a red boat. It sank.
    chunks    └───────┘└──────────────────────────────┘    where the structure says,
              └──────────────┘└──────────────┘             or every eight tokens,
                          └──────────────┘                 perhaps with an overlap

A chunk is always a run of whole tokens of the encoded source and `source[start:end]`
to the letter, white space included. Chunks come in order and leave nothing out, so
those without overlap, joined, are the source. White space belongs to what is behind
it, as in the tokens themselves.
"""

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from llmcourse.text.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    WordTokenizer,
)

_TOKEN, _WORD, _LINE, _SENTENCE, _PARAGRAPH = range(5)  # how good a place to cut
_SPACE = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\Z")
_LONGEST_CHARACTER = 4  # bytes, so a character has at most as many tokens


@dataclass(frozen=True)
class Chunk:
    """A piece of a text, and where it stands there."""

    text: str
    start: int  # in characters, counted from 0
    end: int
    n_tokens: int  # of the source's, that make it up


class _Atom(NamedTuple):
    """The smallest piece that can be cut off: a token, or those of one character."""

    end: int  # in characters
    n_tokens: int


class _Span(NamedTuple):
    """A run of atoms, the last one not included."""

    first: int
    last: int


def fixed_chunks(
    text: str, tokenizer: Tokenizer, size: int, overlap: int = 0
) -> list[Chunk]:
    """Return chunks of `size` tokens, whatever is cut in two.

    Args:
        text: Any text; an empty one has no chunks.
        tokenizer: Says what a token is.
        size: The most tokens of a chunk. All but the last have as many, where no
            character is made of several tokens.
        overlap: Tokens that a chunk repeats of the one before it, at most.

    Raises:
        ValueError: If size is less than 4, for one character may have four tokens, or
            less than what characters have that share tokens; or if the overlap is not
            from 0 to less than the size.

    >>> from llmcourse.text.tokenizers import CharacterTokenizer
    >>> chunks = fixed_chunks("abcdefghij", CharacterTokenizer(), size=5, overlap=2)
    >>> [chunk.text for chunk in chunks]
    ['abcde', 'defgh', 'ghij']
    """
    return _chunks(text, tokenizer, size, overlap, [_TOKEN])


def sentence_chunks(
    text: str, tokenizer: Tokenizer, size: int, overlap: int = 0
) -> list[Chunk]:
    """Return chunks of as many whole sentences as fit.

    A sentence ends at a full stop or the like before white space, unless a small
    letter follows, and at an empty line. One that is too long is cut by tokens.

    Args:
        text: Any text; an empty one has no chunks.
        tokenizer: Says what a token is.
        size: The most tokens of a chunk.
        overlap: The most tokens that a chunk repeats, in whole sentences: none where
            the last sentence is longer.

    Raises:
        ValueError: If the size or the overlap is out of range, see `fixed_chunks`.

    >>> from llmcourse.text.tokenizers import CharacterTokenizer
    >>> chunks = sentence_chunks("I am. You are, e.g. me.", CharacterTokenizer(), 20)
    >>> [chunk.text for chunk in chunks]
    ['I am.', ' You are, e.g. me.']
    """
    return _chunks(text, tokenizer, size, overlap, [_SENTENCE, _TOKEN])


def recursive_chunks(
    text: str, tokenizer: Tokenizer, size: int, overlap: int = 0
) -> list[Chunk]:
    r"""Return chunks that end where the structure of the text does.

    The text is cut at empty lines, and as many paragraphs as fit are put together; a
    paragraph that is too long is cut into sentences in the same way, a sentence into
    lines, a line into words, a word into tokens.

    Args:
        text: Any text; an empty one has no chunks.
        tokenizer: Says what a token is.
        size: The most tokens of a chunk.
        overlap: The most tokens that a chunk repeats, in whole pieces: the last ones
            of what the chunk before was put together from.

    Raises:
        ValueError: If the size or the overlap is out of range, see `fixed_chunks`.

    Source: The idea is that of `RecursiveCharacterTextSplitter` in LangChain, which
    counts characters by default, and drops the white space between chunks.

    >>> from llmcourse.text.tokenizers import CharacterTokenizer
    >>> chunks = recursive_chunks("One.\n\nTwo three. Four.", CharacterTokenizer(), 12)
    >>> [chunk.text for chunk in chunks]
    ['One.', '\n\nTwo three.', ' Four.']
    """
    levels = [_PARAGRAPH, _SENTENCE, _LINE, _WORD, _TOKEN]
    return _chunks(text, tokenizer, size, overlap, levels)


def _chunks(
    text: str, tokenizer: Tokenizer, size: int, overlap: int, levels: Sequence[int]
) -> list[Chunk]:
    if size < _LONGEST_CHARACTER:
        raise ValueError(
            f"size must be at least {_LONGEST_CHARACTER} tokens, for one character may "
            f"have as many, got {size}"
        )
    if not 0 <= overlap < size:
        raise ValueError(
            f"overlap must be from 0 to less than the size of {size}, got {overlap}"
        )
    atoms = _atoms(text, tokenizer)
    if (longest := max((atom.n_tokens for atom in atoms), default=0)) > size:
        raise ValueError(
            f"size must be at least {longest} tokens, for some characters of this text "
            f"cannot be parted in fewer, got {size}"
        )
    cutter = _Cutter(atoms, _places(text, atoms), size, overlap)
    spans = cutter.cut(_Span(0, len(atoms)), levels) if atoms else []
    ends = [0, *(atom.end for atom in atoms)]
    places = [
        (ends[span.first], ends[span.last], cutter.size_of(span)) for span in spans
    ]
    return [Chunk(text[start:end], start, end, n) for start, end, n in places]


class _Cutter:
    """Cuts spans of atoms at the best places there are.

    Args:
        atoms: Of the text.
        places: How good a place to cut is behind each atom.
        size: Of a chunk, in tokens.
        overlap: In tokens.
    """

    def __init__(
        self, atoms: Sequence[_Atom], places: Sequence[int], size: int, overlap: int
    ) -> None:
        self.places, self.size, self.overlap = places, size, overlap
        self.tokens = [0, *accumulate(atom.n_tokens for atom in atoms)]

    def size_of(self, span: _Span) -> int:
        """Return the tokens of a span."""
        return self.tokens[span.last] - self.tokens[span.first]

    def cut(self, span: _Span, levels: Sequence[int]) -> list[_Span]:
        """Return chunks of a span, cut at places of the first level, or of the next."""
        inner = range(span.first + 1, span.last)
        cuts = [i for i in inner if self.places[i - 1] >= levels[0]]
        pieces = [_Span(*pair) for pair in pairwise([span.first, *cuts, span.last])]
        chunks: list[_Span] = []
        small: list[_Span] = []
        for piece in pieces:
            if self.size_of(piece) <= self.size:
                small.append(piece)
            else:
                chunks += [*self.packed(small), *self.cut(piece, levels[1:])]
                small = []
        return [*chunks, *self.packed(small)]

    def packed(self, pieces: Iterable[_Span]) -> Iterator[_Span]:
        """Yield neighbouring pieces put together, as many as fit."""
        tokens, held = self.tokens, deque[_Span]()
        for piece in pieces:
            end = tokens[piece.last]
            if held and end - tokens[held[0].first] > self.size:
                yield _Span(held[0].first, held[-1].last)
                full = tokens[held[-1].last]
                while held and (
                    full - tokens[held[0].first] > self.overlap
                    or end - tokens[held[0].first] > self.size
                ):
                    held.popleft()
            held.append(piece)
        if held:
            yield _Span(held[0].first, held[-1].last)


def _places(text: str, atoms: Sequence[_Atom]) -> list[int]:
    """Return for each atom how good a place to cut is behind it."""
    ends = [atom.end for atom in atoms]
    places = [_TOKEN] * len(atoms)
    for space in _SPACE.finditer(text):
        # Where a token reaches into the white space, the cut is behind that token.
        atom = bisect_left(ends, space.start())
        if space.start() and atom < len(places):
            places[atom] = max(places[atom], _place(text, space))
    return places


def _place(text: str, space: re.Match[str]) -> int:
    """Return how good a place to cut the beginning of some white space is."""
    start, lines = space.start(), space[0].count("\n")
    if lines > 1:
        return _PARAGRAPH
    before, behind = (
        text[max(start - 4, 0) : start],
        text[space.end() : space.end() + 1],
    )
    if _SENTENCE_END.search(before) and not behind.islower():
        return _SENTENCE
    return _LINE if lines else _WORD


def _atoms(text: str, tokenizer: Tokenizer) -> list[_Atom]:
    """Return the pieces that can be cut off, which together are the text."""
    ends = list(_token_ends(text, tokenizer))
    atoms: list[_Atom] = []
    waiting = 0  # tokens of a character that is not complete
    for end in ends:
        waiting += 1
        if end is not None:
            atoms.append(_Atom(end, waiting))
            waiting = 0
    if not atoms or atoms[-1].end == len(text):
        return atoms
    return [*atoms[:-1], atoms[-1]._replace(end=len(text))]  # white space at the end


def _token_ends(text: str, tokenizer: Tokenizer) -> Iterator[int | None]:
    """Yield where each token ends, in characters; None inside a character."""
    if isinstance(tokenizer, WordTokenizer):
        yield from (match.end() for match in re.finditer(r"\S+", text))
        return
    if isinstance(tokenizer, CharacterTokenizer):
        yield from range(1, len(text) + 1)
        return
    ids = tokenizer.encode(text)
    if isinstance(tokenizer, BPETokenizer):
        sizes = [len(tokenizer.pieces[i]) for i in ids]
    elif isinstance(tokenizer, ByteTokenizer):
        sizes = [1] * len(ids)
    else:
        name = type(tokenizer).__name__
        raise ValueError(f"wanted a tokenizer of this package, got a {name}")
    # From places in bytes to places in characters.
    widths = accumulate(len(character.encode()) for character in text)
    ends = {place: number for number, place in enumerate(widths, start=1)}
    yield from (ends.get(place) for place in accumulate(sizes))
