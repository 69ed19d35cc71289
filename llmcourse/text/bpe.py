"""Byte-pair encoding itself: learn merges from counted words, apply them to one.

Start from single bytes.  Find the pair of neighbours that occurs most often, give
it a number, write that number wherever the pair stood, and begin again:

    aaabdaaabac  →  XabdXabac (X = aa)  →  XYdXYac (Y = ab)  →  ZdZac (Z = XY)

The textbook recounts every pair after every merge.  ``learn_merges`` keeps the
counts up to date instead: it remembers in which words a pair stands, rewrites
only those, and changes only the counts of the neighbours.

Symbols are small integers: 0-255 are the bytes in the order of ``BYTE_ORDER``,
256 is the product of the first merge, 257 of the second, and so on.

Cut text into pre-tokens, the units inside which byte-pair encoding merges.

A pre-token is about a word with the space before it, a number, or a run of
punctuation.  Merges never cross the border between two pre-tokens, which keeps
``dog.``, ``dog!`` and ``dog?`` from becoming three unrelated tokens, and lets
training count each distinct pre-token once.

    "It's 2 dogs!"  →  "It", "'s", " 2", " dogs", "!"

Letters and digits are what the installed ``regex`` takes for them: a character
added to Unicode lately may be a letter here and not yet in another library.

What defines a byte-level BPE tokenizer: pieces with ids, merges, special tokens.
"""

import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise
from typing import Final, Literal, NamedTuple, TypeAlias

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
        yield operator.index(i)


def checked_int(number: int, name: str) -> int:
    """Return the number as a plain integer; NumPy's and torch's integers will do.

    Raises:
        ValueError: If it is no integer.
    """
    try:
        return operator.index(number)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {number!r}") from None


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


_CACHE_SIZE: Final = 65_536  # pre-tokens
_CACHED_LENGTH: Final = 128  # characters; longer pre-tokens are rarely seen twice
_TO_SYMBOLS = bytes(BYTE_ORDER.index(byte) for byte in range(256))


def learn_vocabulary(
    texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str], pattern: str
) -> BPEParts:
    """Return a vocabulary of this size: special tokens, the 256 bytes, merges.

    Raises:
        ValueError: If there is no text, if the vocabulary cannot hold bytes and
            special tokens, if the text yields too few merges to fill it, or if a
            special token occurs twice.
    """
    if isinstance(special_tokens, str):
        raise ValueError(f"special_tokens must be a list, got {special_tokens!r}")
    special = {token: i for i, token in enumerate(special_tokens)}
    if len(special) < len(special_tokens):
        raise ValueError(f"special tokens must differ, got {[*special_tokens]}")
    smallest = 256 + len(special)
    if checked_int(vocab_size, "vocab_size") < smallest:
        raise ValueError(
            f"vocab_size must be at least {smallest}, 256 bytes and {len(special)} "
            f"special tokens, got {vocab_size}"
        )
    counts = count_pretokens(texts, pattern)
    if not counts:
        raise ValueError("texts must hold at least one character, got none")
    pairs = learn_merges(counts, vocab_size - smallest)
    if smallest + len(pairs) < vocab_size:
        raise ValueError(
            f"vocab_size must be at most {smallest + len(pairs)} for this text, "
            f"which yields {len(pairs)} merges, got {vocab_size}: more text is needed, "
            "or a smaller vocabulary"
        )
    pieces = [bytes([byte]) for byte in BYTE_ORDER]
    for left, right in pairs:
        pieces.append(pieces[left] + pieces[right])
    vocab = {piece: len(special) + i for i, piece in enumerate(pieces)}
    merges = [(pieces[left], pieces[right]) for left, right in pairs]
    return BPEParts(vocab, merges, special, pattern)


def count_pretokens(texts: Iterable[str], pattern: str) -> Counter[bytes]:
    """Return how often each distinct pre-token occurs in the texts.

    Raises:
        ValueError: If a text holds a lone surrogate, or the texts are one string.

    >>> from llmcourse.text.bpe import GPT2_PATTERN
    >>> count_pretokens(["to be or not to be"], GPT2_PATTERN)[b" be"]
    2
    """
    split = compile_pattern(pattern).findall
    counts: Counter[str] = Counter()
    for text in checked_texts(texts):
        counts.update(split(text))
    return Counter({to_utf8(pretoken): n for pretoken, n in counts.items()})


def learn_merges(word_counts: Mapping[bytes, int], n_merges: int) -> list[Pair]:
    """Return up to ``n_merges`` merges, most frequent pair first.

    Of pairs that are equally frequent, the one with the smaller symbols wins: the
    smaller left symbol, then the smaller right one.  The list is shorter than asked
    when every word has become one symbol.

    Args:
        word_counts: How often each word occurs.
        n_merges: The number of merges wanted.

    Source: Sennrich et al. (2016), algorithm 1; tie-break as in Hugging Face
    ``tokenizers``.

    >>> learn_merges({b"aaabdaaabac": 1}, n_merges=3)  # a is 64, b is 65
    [(64, 64), (64, 65), (256, 257)]
    """
    words = [list(word.translate(_TO_SYMBOLS)) for word in word_counts]
    counts = list(word_counts.values())
    pair_counts, where = _count_pairs(words, counts)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapify(heap)
    merges: list[Pair] = []
    while len(merges) < n_merges:
        best = _pop_most_frequent(heap, pair_counts)
        if best is None:
            break
        symbol = 256 + len(merges)
        merges.append(best)
        born: set[Pair] = set()
        for index in where.pop(best):
            for pair, change in _merge_in_place(words[index], best, symbol):
                pair_counts[pair] += change * counts[index]
                if change > 0:
                    where[pair].add(index)
                    born.add(pair)
        for pair in born:
            if pair_counts[pair] > 0:  # else it was merged again at once, as in "aaaa"
                heappush(heap, (-pair_counts[pair], pair))
    return merges


def _count_pairs(
    words: list[list[int]], counts: list[int]
) -> tuple[defaultdict[Pair, int], defaultdict[Pair, set[int]]]:
    """Return how often each pair occurs, and the indices of the words that hold it."""
    pair_counts: defaultdict[Pair, int] = defaultdict(int)
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, (word, count) in enumerate(zip(words, counts, strict=True)):
        for pair in pairwise(word):
            pair_counts[pair] += count
            where[pair].add(index)
    return pair_counts, where


def _pop_most_frequent(
    heap: list[tuple[int, Pair]], pair_counts: Mapping[Pair, int]
) -> Pair | None:
    """Return the most frequent pair, or None if no pair is left.

    The heap is not told when a count falls.  An entry that comes up with a count
    no longer true is put back with the true one: counts of old pairs only fall, so
    nothing more frequent can be hidden below.
    """
    while heap:
        negative, pair = heappop(heap)
        count = pair_counts[pair]
        if count == -negative:
            return pair
        if count > 0:
            heappush(heap, (-count, pair))
    return None


def _merge_in_place(word: list[int], pair: Pair, symbol: int) -> list[tuple[Pair, int]]:
    """Replace the pair in the word, left to right; return the changes of pair counts.

    >>> word = [1, 5, 6, 2]
    >>> _merge_in_place(word, (5, 6), 9)
    [((1, 5), -1), ((1, 9), 1), ((6, 2), -1), ((9, 2), 1)]
    >>> word
    [1, 9, 2]
    """
    left, right = pair
    changes: list[tuple[Pair, int]] = []
    i = 0
    while i < len(word) - 1:
        if word[i] == left and word[i + 1] == right:
            word[i : i + 2] = [symbol]
            if i > 0:
                changes.append(((word[i - 1], left), -1))
                changes.append(((word[i - 1], symbol), 1))
            if i + 1 < len(word):
                changes.append(((right, word[i + 1]), -1))
                changes.append(((symbol, word[i + 1]), 1))
        i += 1
    return changes


def apply_merges(
    symbols: list[int], ranks: Mapping[Pair, int], products: list[int]
) -> list[int]:
    """Return the symbols after all merges that apply, the earliest-learned first.

    Among occurrences of the same pair the leftmost goes first.  A heap of waiting
    pairs makes this O(n log n) for n symbols, so that a megabyte without a single
    space is no danger.

    Args:
        symbols: One symbol per byte.
        ranks: The place of each pair in the list of merges.
        products: The symbol that each merge makes, by rank.

    >>> apply_merges([64, 64, 64, 65], {(64, 64): 0, (64, 65): 1}, [256, 257])
    [256, 257]
    """
    symbols = symbols.copy()
    n = len(symbols)
    before, after = list(range(-1, n - 1)), list(range(1, n + 1))  # neighbours
    heap = [
        (ranks[pair], i, pair)
        for i, pair in enumerate(pairwise(symbols))
        if pair in ranks
    ]
    heapify(heap)
    while heap:
        rank, i, pair = heappop(heap)
        j = after[i]
        if j == n or (symbols[i], symbols[j]) != pair:
            continue  # a neighbour has been merged since
        symbols[i], symbols[j] = products[rank], -1
        after[i] = after[j]
        if after[i] < n:
            before[after[i]] = i
        for k in (before[i], i):
            if k >= 0 and after[k] < n:
                pair = (symbols[k], symbols[after[k]])
                if pair in ranks:
                    heappush(heap, (ranks[pair], k, pair))
    return [symbol for symbol in symbols if symbol >= 0]


def merge_steps(
    symbols: list[int], ranks: Mapping[Pair, int], products: list[int]
) -> Iterator[list[int]]:
    """Yield the symbols before the first merge and after each one.

    This is the definition that ``apply_merges`` makes fast: find the pair that was
    learned earliest, merge it, look again.

    >>> list(merge_steps([64, 64, 65], {(64, 64): 0, (256, 65): 1}, [256, 257]))
    [[64, 64, 65], [256, 65], [257]]
    """
    symbols = symbols.copy()
    yield symbols.copy()
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        first = min(known, key=ranks.__getitem__)
        _merge_in_place(symbols, first, products[ranks[first]])
        yield symbols.copy()


class PretokenCache(dict[str, list[int]]):
    """Ids of the pre-tokens met before; looks up, encodes what is new, stays bounded.

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
