"""Language models without a network: counts of runs of words, and compressors.

How probable is a word after the last n - 1 words? Count what followed them in the
training text. Longer runs say more but are seen less often, so each length is mixed
with the shorter ones, in the proportion of what was seen to what was new:

    after "the fox":  ran 2 ×, slept 1 ×      3 seen, 2 different words

    P(ran | the fox) = (2 + 2 · P(ran | fox)) / (3 + 2)

It needs no gradient and no tokenizer, and is the baseline that every model has to beat.

A compressor is a language model as well: a token of probability p takes -log2 p bits,
so what predicts a text well can compress it well. The output's size gives a loss in
bits per byte, like a model's (`losses.bits_per_byte`):

    text ── gzip, bz2, xz ── file        bits of the file / bytes of the text

Source: Shannon (1948), section 9; Delétang et al. (2024), "Language modeling is
compression".
"""

import bz2
import gzip
import lzma
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from llmcourse.arguments import check_range

Symbol: TypeAlias = str | int  # a word, or the id of a token
Context: TypeAlias = tuple[Symbol, ...]
Text: TypeAlias = str | Sequence[int]


class NGramModel:
    """Counts of the words that follow the last 0, 1, …, n - 1 words of a text.

    Words are separated by white space, or are ids where a text is a row of token ids;
    the end of a text is not predicted.

    Args:
        texts: The training text, one story or document each, or rows of ids.
        n: Length of the longest run that is counted, in words.
        vocab_size: Number of possible words, unseen ones included: before any counts,
            each has probability 1 / `vocab_size`.

    Raises:
        ValueError: If n is not positive, or if there are no words or more different
            ones than `vocab_size`.

    Source: Witten and Bell (1991), method C, recursively for all lengths.

    >>> model = NGramModel(["the fox ran", "the fox slept", "the hen ran"], n=2)
    >>> round(model.prob("fox", ("the",)), 3)  # 2 of 3 times; 2 different words
    0.457
    """

    def __init__(self, texts: Iterable[Text], n: int, vocab_size: int = 10_000) -> None:
        check_range(1, n=n, vocab_size=vocab_size)
        self.n, self.vocab_size = n, vocab_size
        self._followers: defaultdict[Context, Counter[Symbol]] = defaultdict(Counter)
        for text in texts:
            for word, context in self._words_in_context(text):
                for start in range(n):
                    self._followers[context[start:]][word] += 1
        if not self._followers:
            raise ValueError("an n-gram model needs at least one word, got none")
        n_seen = len(self._followers[()])
        check_range(n_seen, vocab_size=vocab_size)
        self._seen = {run: counts.total() for run, counts in self._followers.items()}

    def prob(self, word: Symbol, context: Context = ()) -> float:
        """Return the probability that a word comes next.

        Args:
            word: Any word.
            context: The words before it; all but the last n - 1 are ignored. At the
                beginning of a text, `""` takes the place of each missing word.
        """
        prob = 1 / self.vocab_size
        for length in range(min(self.n - 1, len(context)) + 1):
            run = context[len(context) - length :]
            if run not in self._seen:
                break  # nor has any longer run been seen
            followers = self._followers[run]
            new = len(followers)
            prob = (followers[word] + new * prob) / (self._seen[run] + new)
        return prob

    def surprises(self, text: Text) -> list[float]:
        """Return the surprise of each word, -log of its probability, in nats."""
        return [-math.log(self.prob(*pair)) for pair in self._words_in_context(text)]

    def loss(self, texts: Iterable[Text]) -> float:
        """Return the mean surprise over all words of the texts, in nats per word.

        Raises:
            ValueError: If there is no word.
        """
        losses = [loss for text in texts for loss in self.surprises(text)]
        check_range(1, words=len(losses))
        return math.fsum(losses) / len(losses)

    def _words_in_context(self, text: Text) -> Iterator[tuple[Symbol, Context]]:
        """Yield each word with the n - 1 words before it."""
        symbols = text.split() if isinstance(text, str) else text
        words: list[Symbol] = [*[""] * (self.n - 1), *symbols]
        for i in range(self.n - 1, len(words)):
            yield words[i], tuple(words[i - self.n + 1 : i])


COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    # Without a time stamp, so that the same text gives the same bytes.
    "gzip": lambda data: gzip.compress(data, compresslevel=9, mtime=0),
    "bz2": lambda data: bz2.compress(data, compresslevel=9),
    "xz": lambda data: lzma.compress(data, preset=9),
}
"""Compressors by name.

gzip looks back 32 KiB, bz2 sorts blocks of 900 kB, xz looks back 64 MiB.
"""


def compressed_bits_per_byte(
    text: str, before: str = "", names: Iterable[str] = tuple(COMPRESSORS)
) -> dict[str, float]:
    """Return each compressor's loss on a text, in bits per byte of UTF-8.

    Args:
        text: The text.
        before: What a compressor may learn from. It is compressed alone and with the
            text after it, and only the bits that the text adds are counted.
        names: Which of `COMPRESSORS` to use.

    Raises:
        ValueError: If the text is empty.

    >>> alone = compressed_bits_per_byte("the hen ran; " * 99)
    >>> alone["xz"] < 1  # of 8, since it repeats itself
    True
    """
    data, known = text.encode(), before.encode()
    check_range(1, n_bytes=len(data))
    bits = {}
    for name in names:
        compress = COMPRESSORS[name]
        own = len(compress(known)) if known else 0
        bits[name] = 8 * (len(compress(known + data)) - own) / len(data)
    return bits
