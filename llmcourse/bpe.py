"""Byte-pair encoding itself: learn merges from counted words, apply them to one.

Start from single bytes.  Find the pair of neighbours that occurs most often, give
it a number, write that number wherever the pair stood, and begin again:

    aaabdaaabac  →  XabdXabac (X = aa)  →  XYdXYac (Y = ab)  →  ZdZac (Z = XY)

The textbook recounts every pair after every merge.  ``learn_merges`` keeps the
counts up to date instead: it remembers in which words a pair stands, rewrites
only those, and changes only the counts of the neighbours.

Symbols are small integers: 0-255 are the bytes in the order of ``BYTE_ORDER``,
256 is the product of the first merge, 257 of the second, and so on.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Final

from llmcourse.bpe_vocabulary import BPEParts, Pair
from llmcourse.pretokenization import (
    BYTE_ORDER,
    checked_int,
    checked_texts,
    compile_pattern,
    to_utf8,
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

    >>> from llmcourse.pretokenization import GPT2_PATTERN
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
