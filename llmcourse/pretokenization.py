r"""Cut text into pre-tokens, the units inside which byte-pair encoding merges.

A pre-token is about a word with the space before it, a number, or a run of
punctuation.  Merges never cross the border between two pre-tokens, which keeps
``dog.``, ``dog!`` and ``dog?`` from becoming three unrelated tokens, and lets
training count each distinct pre-token once.

    "It's 2 dogs!"  →  "It", "'s", " 2", " dogs", "!"

Letters and digits are what the installed ``regex`` takes for them: a character
added to Unicode lately may be a letter here and not yet in another library.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from operator import index
from typing import Final

import regex

# GPT-2's published pattern: a contraction, or letters, digits, or other signs,
# each with one space before it; white space keeps its last blank for the next word.
GPT2_PATTERN: Final = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
# GPT-4's (cl100k): contractions in either case, digits in threes, a word may take
# any sign before it, a line break ends white space.
GPT4_PATTERN: Final = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
# GPT-2's after every digit has been cut off alone, as SmolLM2's tokenizer does.
DIGITS_PATTERN: Final = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+"
    r"|\s+(?=\p{N})|\s+(?!\S)|\s+"
)
_STREAMABLE: Final = frozenset({GPT2_PATTERN, GPT4_PATTERN, DIGITS_PATTERN})


def _byte_alphabet() -> dict[int, str]:
    """Return one printable character per byte value, in the order of their ids.

    Printable Latin-1 bytes stand for themselves; the other 68 (white space,
    control codes, ...) take the characters from U+0100 on, so that a space
    becomes ``Ġ`` (U+0120).

    Source: Radford et al. (2019), GPT-2's ``bytes_to_unicode``.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    pairs = {byte: chr(byte) for byte in printable}
    return pairs | {byte: chr(256 + n) for n, byte in enumerate(others)}


BYTE_TO_CHAR: Final = _byte_alphabet()
CHAR_TO_BYTE: Final = {char: byte for byte, char in BYTE_TO_CHAR.items()}
BYTE_ORDER: Final = bytes(BYTE_TO_CHAR)  # byte of id 0, of id 1, ...: "!" is first


def spell(piece: bytes) -> str:
    r"""Return a piece as printable text, one character per byte.

    >>> spell(b" caf\xc3\xa9")
    'ĠcafÃ©'
    """
    return "".join(map(BYTE_TO_CHAR.__getitem__, piece))


def unspell(name: str) -> bytes:
    """Return the bytes that ``spell`` wrote as this text.

    Raises:
        ValueError: If a character stands for no byte.

    >>> unspell("ĠcafÃ©").decode()
    ' café'
    """
    try:
        return bytes(map(CHAR_TO_BYTE.__getitem__, name))
    except KeyError as error:
        raise ValueError(
            f"a piece must be spelled in the 256 characters of the byte alphabet, "
            f"got {error.args[0]!r} in {name!r}"
        ) from None


def to_utf8(text: str) -> bytes:
    """Return the text's bytes in UTF-8.

    Raises:
        ValueError: If the text holds half of a surrogate pair, which is no character.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        found = f"U+{ord(text[error.start]):04X}"
        raise ValueError(
            f"text must consist of whole Unicode characters, got the lone surrogate "
            f"{found} in {text[max(0, error.start - 8) : error.start + 8]!r}"
        ) from None


@cache
def compile_pattern(pattern: str) -> "regex.Pattern[str]":
    """Return the compiled pattern, with a last branch that keeps what it skips.

    With the three patterns of this module that branch never matches; with one's own,
    whatever lies between two matches becomes a pre-token, so no text is lost.

    Raises:
        ValueError: If the pattern is not valid, has groups that capture, or matches
            the empty string.
    """
    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"pattern must be a regular expression: {error}") from None
    if compiled.groups:
        raise ValueError(f"pattern must write groups as (?:...), got {pattern!r}")
    if compiled.fullmatch(""):
        raise ValueError(f"pattern must not match the empty string, got {pattern!r}")
    return regex.compile(rf"{pattern}|(?:(?!{pattern})[\s\S])+")


def decided_pretokens(pattern: str, text: str) -> tuple[list[str], int]:
    """Return the pre-tokens that no continuation can change, and where they end.

    How far a pre-token reaches is settled by the white space after it and the first
    character beyond; a contraction is three characters long.  So a pre-token is
    decided when two more characters are known, white space at the end not counted.

    Raises:
        ValueError: If it is not known how far this pattern looks ahead.

    >>> decided_pretokens(GPT2_PATTERN, "one two three fo")
    (['one', ' two', ' three'], 13)
    """
    if pattern not in _STREAMABLE:
        raise ValueError(
            "streaming needs GPT2_PATTERN, GPT4_PATTERN or DIGITS_PATTERN, "
            f"got {pattern!r}"
        )
    pretokens = compile_pattern(pattern).findall(text)
    last = len(text.rstrip()) - 2
    end = len(text)
    while pretokens and end > last:
        end -= len(pretokens.pop())
    return pretokens, end


def show(piece: bytes) -> str:
    r"""Return a piece as text; a byte that is no text alone as ``\xe2``.

    >>> print(show("é".encode()), show(b"\xe2\x82"))
    é \xe2\x82
    """
    return piece.decode("utf-8", errors="backslashreplace")


def checked_text(text: str) -> str:
    """Return the text, proven to be a string.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(text, str):
        raise ValueError(f"text must be a string, got {type(text).__name__}")
    return text


def checked_texts(texts: Iterable[str]) -> Iterator[str]:
    """Return the texts, each proven to be a string when it is its turn.

    Raises:
        ValueError: If the texts are one single string, or one of them is none.
    """
    if isinstance(texts, str):
        raise ValueError("texts must be a list of strings, got one string; [text]?")
    return map(checked_text, texts)


def checked_ids(ids: Iterable[int], vocab_size: int) -> Iterator[int]:
    """Yield the ids as plain integers, each proven to be in the vocabulary.

    Raises:
        ValueError: If an id is not an integer or is outside the vocabulary.
    """
    for i in ids:
        if not 0 <= checked_int(i, "an id") < vocab_size:
            raise ValueError(f"ids must be from 0 to {vocab_size - 1}, got {i}")
        yield index(i)


def checked_int(number: int, name: str) -> int:
    """Return the number as a plain integer; NumPy's and torch's integers will do.

    Raises:
        ValueError: If it is no integer.
    """
    try:
        return index(number)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {number!r}") from None
