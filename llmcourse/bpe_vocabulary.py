"""What defines a byte-level BPE tokenizer: pieces with ids, merges, special tokens."""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Literal, NamedTuple, TypeAlias

import regex

from llmcourse.pretokenization import (
    CHAR_TO_BYTE,
    show,
    to_utf8,
    unspell,
)

Pair: TypeAlias = tuple[int, int]
AllowedSpecial: TypeAlias = Collection[str] | Literal["all"]


class BPEParts(NamedTuple):
    """Everything that defines a byte-level BPE tokenizer."""

    vocab: Mapping[bytes, int]  # id of each piece
    merges: Sequence[tuple[bytes, bytes]]  # in the order learned
    special_tokens: Mapping[str, int]  # id of each special token
    pattern: str  # how text is cut into pre-tokens


def check_special_tokens(
    special_tokens: Mapping[str, int], vocab: Mapping[bytes, int]
) -> None:
    """Raise ValueError if text could be mistaken for a special token."""
    for token in special_tokens:
        if not token:
            raise ValueError("a special token must have at least one character")
        to_utf8(token)
        if set(token) <= CHAR_TO_BYTE.keys() and unspell(token) in vocab:
            raise ValueError(
                f"a special token must not be spelled like a piece of text, "
                f"got {token!r}; <|{token}|> would do"
            )


def pieces_by_id(
    vocab: Mapping[bytes, int], special_tokens: Mapping[str, int]
) -> list[bytes]:
    """Return the bytes of each id."""
    special = {to_utf8(token): i for token, i in special_tokens.items()}
    by_id = {i: piece for piece, i in chain(vocab.items(), special.items())}
    n = len(vocab) + len(special)
    if sorted(by_id) != list(range(n)):
        raise ValueError(f"ids must be 0 to {n - 1}, each once, got others")
    return [by_id[i] for i in range(n)]


def merge_table(
    vocab: Mapping[bytes, int], merges: Sequence[tuple[bytes, bytes]]
) -> tuple[dict[Pair, int], list[int]]:
    """Return the rank of each pair of ids, and the id that each merge makes.

    Raises:
        ValueError: If a merge occurs twice or needs a piece the vocabulary lacks.
    """
    pairs, products = [], []
    try:
        for left, right in merges:
            pairs.append((vocab[left], vocab[right]))
            products.append(vocab[left + right])
    except KeyError as error:
        missing = show(error.args[0])
        raise ValueError(
            f"the vocabulary must hold {missing!r} for a merge, but lacks it"
        ) from None
    ranks = {pair: rank for rank, pair in enumerate(pairs)}
    if len(ranks) < len(pairs):
        raise ValueError("merges must be distinct, got one of them twice")
    return ranks, products


def byte_ids(vocab: Mapping[bytes, int], text: str) -> list[int]:
    """Return the id of each byte of the text.

    Raises:
        ValueError: If the text holds a lone surrogate, or the vocabulary lacks a byte.
    """
    try:
        return [vocab[bytes([byte])] for byte in to_utf8(text)]
    except KeyError as error:
        missing = show(error.args[0])
        raise ValueError(
            f"the vocabulary must hold the byte {missing!r}, but lacks it"
        ) from None


def special_pattern(
    special_tokens: Collection[str], allowed: AllowedSpecial
) -> "regex.Pattern[str] | None":
    """Return what finds the allowed special tokens, longest first; None if none.

    Raises:
        ValueError: If something is allowed that is no special token.
    """
    if allowed == "all":
        allowed = special_tokens
    if isinstance(allowed, str) or not set(allowed) <= set(special_tokens):
        raise ValueError(
            f"allowed_special must be 'all' or a list of some of {[*special_tokens]}, "
            f"got {allowed!r}"
        )
    longest_first = sorted(allowed, key=len, reverse=True)
    return (
        regex.compile("|".join(map(regex.escape, longest_first))) if allowed else None
    )
