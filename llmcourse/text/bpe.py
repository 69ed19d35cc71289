"""Byte-pair encoding: cut text into pre-tokens, learn merges, apply them.

Training starts from single bytes. It finds the pair of neighbours that occurs most
often, gives it a number, writes that number in place of the pair, and repeats:

    aaabdaaabac  →  XabdXabac (X = aa)  →  XYdXYac (Y = ab)  →  ZdZac (Z = XY)

Merges never cross the border between two pre-tokens. A pre-token is about a word with
the space before it, a number, or a run of punctuation. So ``dog.``, ``dog!`` and
``dog?`` do not become three unrelated tokens, and training counts each distinct
pre-token once:

    "It's 2 dogs!"  →  "It", "'s", " 2", " dogs", "!"

The textbook recounts every pair after every merge. `learn_merges` updates the counts:
it remembers which words contain a pair, rewrites only those words, and changes only
the counts of the neighbours.

Symbols are small integers: 0-255 are the bytes in the order of `BYTE_ORDER`, 256 is
the result of the first merge, 257 of the second, and so on.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Final, TypeAlias

import regex

Pair: TypeAlias = tuple[int, int]

# GPT-2's published pattern: a contraction, or letters, digits or other signs with an
# optional space before them; white space leaves its last space to the next word.
GPT2_PATTERN: Final = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
# GPT-4's (cl100k): contractions in either case, up to three digits; a word may take
# any one sign before it; a line break ends white space.
GPT4_PATTERN: Final = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
# GPT-2's after every digit has been split off, as in SmolLM2's tokenizer.
DIGITS_PATTERN: Final = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+"
    r"|\s+(?=\p{N})|\s+(?!\S)|\s+"
)
OWN_PATTERNS: Final = (GPT2_PATTERN, GPT4_PATTERN, DIGITS_PATTERN)
_PATIENCE: Final = 2.0  # seconds that a pattern may take on any text
_SLOWEST: Final = 50_000  # characters a second; most patterns are 100 times as fast


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
_TO_SYMBOLS: Final = bytes(BYTE_ORDER.index(byte) for byte in range(256))


def spell(piece: bytes) -> str:
    r"""Return a piece as printable text, one character per byte.

    >>> spell(b" caf\xc3\xa9")
    'ĠcafÃ©'
    """
    return "".join(map(BYTE_TO_CHAR.__getitem__, piece))


def unspell(name: str) -> bytes:
    """Return the bytes that `spell` wrote as this text.

    Raises:
        ValueError: If a character is not in the byte alphabet.

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


def show(piece: bytes) -> str:
    r"""Return a piece as text, with bytes that are not UTF-8 as ``\xe2``.

    >>> print(show("é".encode()), show(b"\xe2\x82"))
    é \xe2\x82
    """
    return piece.decode("utf-8", errors="backslashreplace")


def to_utf8(text: str) -> bytes:
    """Return the text's bytes in UTF-8.

    Raises:
        ValueError: If the text holds half of a surrogate pair, not a whole character.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text must consist of whole Unicode characters, got the lone surrogate "
            f"U+{ord(text[error.start]):04X} in "
            f"{text[max(0, error.start - 8) : error.start + 8]!r}"
        ) from None


@cache
def compile_pattern(pattern: str) -> "regex.Pattern[str]":
    """Return the compiled pattern, with a last branch that keeps what it skips.

    With the three patterns of this module that branch never matches. With any other
    pattern, the text between two matches becomes a pre-token, so no text is lost.
    What counts as a letter or digit depends on the installed ``regex``.

    Raises:
        ValueError: If the pattern is not valid, has capturing groups, or matches the
            empty string.
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


def splitter(pattern: str) -> Callable[[str], list[str]]:
    """Return a function that cuts a text into pre-tokens by a pattern.

    A pattern from elsewhere may take practically for ever, as `(?:a|aa)+!` does on a
    run of a's: it is given up after seconds, or later for a long text.

    Raises:
        ValueError: As in `compile_pattern`. The function returned raises it if a text
            takes too long or the pattern matches between two characters.
    """
    compiled = compile_pattern(pattern)
    if pattern in OWN_PATTERNS:
        return compiled.findall
    return partial(_split_in_time, compiled)


def _split_in_time(compiled: "regex.Pattern[str]", text: str) -> list[str]:
    try:
        pretokens = compiled.findall(text, timeout=_PATIENCE + len(text) / _SLOWEST)
    except TimeoutError:
        raise ValueError(
            f"the pattern {compiled.pattern[:40]!r} … must cut a text of {len(text):,} "
            "characters in seconds, but does not"
        ) from None
    if sum(map(len, pretokens)) != len(text):
        raise ValueError(
            f"pattern must not match the empty string, but {compiled.pattern[:40]!r} … "
            "does between characters"
        )
    return pretokens


def count_pretokens(texts: Iterable[str], pattern: str) -> Counter[bytes]:
    """Return how often each distinct pre-token occurs in the texts.

    Raises:
        ValueError: If a text holds a lone surrogate, if `texts` is one string, or as in
            `splitter`.

    >>> count_pretokens(["to be or not to be"], GPT2_PATTERN)[b" be"]
    2
    """
    if isinstance(texts, str):
        raise ValueError(
            "texts must be a list of strings, got one string: did you mean [text]?"
        )
    split = splitter(pattern)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split(text))
    return Counter({to_utf8(pretoken): n for pretoken, n in counts.items()})


def learn_merges(word_counts: Mapping[bytes, int], n_merges: int) -> list[Pair]:
    """Return up to ``n_merges`` merges, most frequent pair first.

    Of pairs that are equally frequent, the one with the smaller symbols wins: the
    smaller left symbol, then the smaller right one. The list is shorter if every
    word becomes one symbol first.

    Args:
        word_counts: How often each word occurs.
        n_merges: The number of merges wanted.

    Source: Sennrich et al. (2016), algorithm 1; ties are broken as in Hugging Face's
    ``tokenizers``.

    >>> learn_merges({b"aaabdaaabac": 1}, n_merges=3)  # a is 64, b is 65
    [(64, 64), (64, 65), (256, 257)]
    """
    words = [list(word.translate(_TO_SYMBOLS)) for word in word_counts]
    counts = list(word_counts.values())
    pair_counts: defaultdict[Pair, int] = defaultdict(int)
    where: defaultdict[Pair, set[int]] = defaultdict(set)  # the words with a pair
    for index, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += counts[index]
            where[pair].add(index)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < n_merges:
        negative_count, best = heappop(heap)
        # The heap does not track falling counts. An outdated entry goes back in with
        # its true count: counts of old pairs only fall, so no more frequent pair can
        # be hidden below it.
        if pair_counts[best] != -negative_count:
            if pair_counts[best] > 0:
                heappush(heap, (-pair_counts[best], best))
            continue
        symbol = 256 + len(merges)
        merges.append(best)
        new_pairs: set[Pair] = set()
        for index in where.pop(best):
            for pair, change in _merge_in_place(words[index], best, symbol):
                pair_counts[pair] += change * counts[index]
                if change > 0:
                    where[pair].add(index)
                    new_pairs.add(pair)
        for pair in new_pairs:
            if pair_counts[pair] > 0:  # 0 if it was merged again at once: "aaaa"
                heappush(heap, (-pair_counts[pair], pair))
    return merges


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
    merged: list[int] = []
    i, n = 0, len(word)
    while i < n:
        if word[i] != left or i + 1 == n or word[i + 1] != right:
            merged.append(word[i])
            i += 1
            continue
        if merged:
            changes.append(((merged[-1], left), -1))
            changes.append(((merged[-1], symbol), 1))
        if i + 2 < n:
            changes.append(((right, word[i + 2]), -1))
            changes.append(((symbol, word[i + 2]), 1))
        merged.append(symbol)
        i += 2
    word[:] = merged
    return changes


def merge_steps(
    symbols: list[int], ranks: Mapping[Pair, int], products: list[int]
) -> Iterator[list[int]]:
    """Yield the symbols before the first merge and after each one.

    This is how applying merges is defined: find the pair that was learned earliest,
    merge it, look again. `apply_merges` is the fast way.

    Args:
        symbols: One symbol per byte.
        ranks: The place of each pair in the list of merges.
        products: The symbol that each merge makes, by rank.

    >>> list(merge_steps([64, 64, 65], {(64, 64): 0, (256, 65): 1}, [256, 257]))
    [[64, 64, 65], [256, 65], [257]]
    """
    symbols = symbols.copy()
    yield symbols.copy()
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        first = min(known, key=ranks.__getitem__)
        _merge_in_place(symbols, first, products[ranks[first]])
        yield symbols.copy()


def apply_merges(
    symbols: list[int], ranks: Mapping[Pair, int], products: list[int]
) -> list[int]:
    """Return the symbols after all merges, the last of `merge_steps`.

    Among occurrences of the same pair the leftmost goes first. A heap of waiting
    pairs makes this O(n log n) for n symbols, so a megabyte without a single space
    is no problem.

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
