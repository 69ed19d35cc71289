"""What the explorers carry into the page, computed in Python."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, Protocol, runtime_checkable

from llmcourse.text.bpe import (
    BYTE_ORDER,
    DIGITS_PATTERN,
    GPT2_PATTERN,
    GPT4_PATTERN,
    merge_steps,
    spell,
    to_utf8,
)
from llmcourse.text.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    WordTokenizer,
)

MAX_MERGES: Final = 1_000  # of a tokenizer that goes into the page to run there
MAX_WORDS: Final = 5_000
_BORDER: Final = -1  # no symbol: stands between pre-tokens so that no merge crosses


@runtime_checkable
class Encoder(Protocol):
    """What a tokenizer must be able to do to be shown."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text."""

    def tokens(self, text: str) -> list[str]:
        """Return the pieces of the text, readable."""


def checked_texts(texts: Sequence[str]) -> list[str]:
    """Return the texts as a list, each proven to be a text with something in it."""
    if isinstance(texts, str) or not texts:
        raise ValueError(f"a list of at least one text is wanted, got {texts!r}")
    for text in texts:
        if not isinstance(text, str) or not text:
            raise ValueError(f"each text must be a string, not empty, got {text!r}")
        to_utf8(text)
    return list(texts)


def tokenizer_state(name: str, tokenizer: Encoder, texts: list[str]) -> dict[str, Any]:
    """Return what the page needs to run a tokenizer, or its results if it is large."""
    spec = specification(tokenizer)
    if spec is not None:
        return {"name": name, "spec": spec}
    given = []
    for text in texts:
        ids, pieces = tokenizer.encode(text), tokenizer.tokens(text)
        if len(ids) != len(pieces):
            raise ValueError(
                f"tokenizer {name!r} must have one id for each piece, got {len(ids)} "
                f"ids and {len(pieces)} pieces of {text[:40]!r}"
            )
        given.append({"ids": ids, "pieces": pieces})
    return {"name": name, "given": given}


def specification(tokenizer: Encoder) -> dict[str, Any] | None:
    """Return what ``encoder`` in bpe.js takes; None if it cannot run there."""
    if isinstance(tokenizer, CharacterTokenizer):
        return {"kind": "characters"}
    if isinstance(tokenizer, ByteTokenizer):
        return {"kind": "bytes"}
    if isinstance(tokenizer, WordTokenizer):
        small = tokenizer.vocab_size <= MAX_WORDS
        return {"kind": "words", "words": tokenizer.words} if small else None
    if not isinstance(tokenizer, BPETokenizer) or len(tokenizer.merges) > MAX_MERGES:
        return None
    # The page counts ids up from that of "!": bytes first, then what the merges make.
    pieces = [bytes([byte]) for byte in BYTE_ORDER]
    pieces += [left + right for left, right in tokenizer.merges]
    first = tokenizer.vocab[pieces[0]]
    regular = [tokenizer.vocab[piece] - first for piece in pieces] == [
        *range(len(pieces))
    ]
    if not regular or tokenizer.pattern not in _IN_JAVASCRIPT:
        return None
    merges = [f"{spell(left)} {spell(right)}" for left, right in tokenizer.merges]
    pattern = _IN_JAVASCRIPT[tokenizer.pattern]
    return {"kind": "bpe", "pattern": pattern, "merges": merges, "first": first}


def in_javascript(pattern: str) -> str:
    """Return one of the package's patterns as JavaScript with the flag ``u`` reads it.

    What JavaScript calls white space is another set; possessive quantifiers, which it
    lacks, change nothing in these patterns; neither does it know ``(?i:...)``.
    """
    changes = {
        r"(?i:[sdmt]|ll|ve|re)": "(?:[sdmtSDMT\u017f]|[lL]{2}|[vV][eE]|[rR][eE])",
        r"\s": r"\p{White_Space}",
        r"\S": r"\P{White_Space}",
        "?+": "?",
        "++": "+",
    }
    for python, javascript in changes.items():
        pattern = pattern.replace(python, javascript)
    return pattern


_IN_JAVASCRIPT: Final = {
    pattern: in_javascript(pattern)
    for pattern in (GPT2_PATTERN, GPT4_PATTERN, DIGITS_PATTERN)
}


def applied_merges(
    pretokens: list[bytes], tokenizer: BPETokenizer
) -> tuple[list[list[str]], dict[str, int]]:
    """Return the pairs merged, in order, and the rank of each known pair on the way."""
    vocab, pieces = tokenizer.vocab, tokenizer.pieces
    ranks = {(vocab[a], vocab[b]): i for i, (a, b) in enumerate(tokenizer.merges)}
    products = [vocab[a + b] for a, b in tokenizer.merges]
    symbols: list[int] = []
    for pretoken in pretokens:
        symbols += [*(vocab[bytes([byte])] for byte in pretoken), _BORDER]
    states = list(merge_steps(symbols, ranks, products))
    met = {pair for state in states for pair in pairwise(state) if pair in ranks}
    known = sorted(met, key=ranks.__getitem__)

    def spelled(pair: tuple[int, int]) -> list[str]:
        return [spell(pieces[symbol]) for symbol in pair]

    steps = []
    for before, after in pairwise(states):
        i = next(i for i, symbol in enumerate(after) if before[i] != symbol)
        steps.append(spelled((before[i], before[i + 1])))
    return steps, {" ".join(spelled(pair)): ranks[pair] for pair in known}
