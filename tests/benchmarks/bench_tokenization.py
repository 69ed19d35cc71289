"""Time BPE training and encoding side by side with two other implementations.

    python tests/benchmarks/bench_tokenization.py

Text: Python's own documentation of its language, ``pydoc_data.topics``, cut to
465,000 characters.  Vocabulary 1,024, GPT-2's pattern, one process.

- *ours*: ``llmcourse.text.tokenizers``
- *tokenizers*: Hugging Face's Rust library, given one text at a time
- *recounting*: the textbook's way, as karpathy/minbpe's ``RegexTokenizer`` goes: keep
  every pre-token as a list, recount all pairs for each merge; encode without a cache.
  minbpe is not on PyPI, so this is a stand-in, written here after its description.

Times are the best of three, but of one for training by recounting, which is slow.  The
script ends with an error if our merges or ids are not those of ``tokenizers``.

On a machine with two x86-64 cores, also busy with other work (load 2 to 3), Python
3.11, tokenizers 0.23:

    what                  ours / tokenizers    recounting / ours
    train                 0.72                 342
    encode, first time    0.35                 7
    encode, again         0.21                 11

Below 1 in the first column, ours is the faster one.  ``tokenizers`` also works out
where each token stands in the text, which ours does not.
"""

import json
import pydoc_data.topics
import time
from collections.abc import Callable, Iterable
from itertools import pairwise

import regex
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from llmcourse.text.bpe import GPT2_PATTERN, spell
from llmcourse.text.tokenizers import BPETokenizer

TOPICS = pydoc_data.topics.topics
TEXT = "\n\n".join(TOPICS[name] for name in sorted(TOPICS))[:465_000]
VOCAB_SIZE = 1024


def best_time(function: Callable[[], object], repeats: int = 3) -> float:
    """Return the shortest time that the function took, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def train_theirs() -> Tokenizer:
    """Return Hugging Face's byte-level BPE, trained on the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


class Recounting:
    """BPE as it stands in textbooks: count every pair again for every merge."""

    def __init__(self) -> None:
        self.merges: dict[tuple[int, int], int] = {}

    def train(self) -> None:
        """Learn the merges of the text."""
        chunks = [list(chunk.encode()) for chunk in regex.findall(GPT2_PATTERN, TEXT)]
        for symbol in range(256, VOCAB_SIZE):
            counts: dict[tuple[int, int], int] = {}
            for chunk in chunks:
                for pair in pairwise(chunk):
                    counts[pair] = counts.get(pair, 0) + 1
            best = max(counts, key=counts.__getitem__)
            chunks = [self.merged(chunk, best, symbol) for chunk in chunks]
            self.merges[best] = symbol

    def merged(self, ids: list[int], pair: tuple[int, int], symbol: int) -> list[int]:
        """Return the ids with the pair replaced."""
        out = []
        i = 0
        while i < len(ids):
            if ids[i] == pair[0] and i < len(ids) - 1 and ids[i + 1] == pair[1]:
                out.append(symbol)
                i += 2
            else:
                out.append(ids[i])
                i += 1
        return out

    def encode(self) -> list[int]:
        """Return the ids of the text, every pre-token merged afresh."""
        ids: list[int] = []
        for pretoken in regex.findall(GPT2_PATTERN, TEXT):
            chunk = list(pretoken.encode())
            while len(chunk) > 1:
                rank = {pair: self.merges.get(pair, 2**31) for pair in pairwise(chunk)}
                first = min(rank, key=rank.__getitem__)
                if first not in self.merges:
                    break
                chunk = self.merged(chunk, first, self.merges[first])
            ids += chunk
        return ids


def check_equal(ours: BPETokenizer, theirs: Tokenizer) -> None:
    """Raise AssertionError unless merges and ids are identical."""
    merges = [tuple(pair) for pair in json.loads(theirs.to_str())["model"]["merges"]]
    assert [(spell(left), spell(right)) for left, right in ours.merges] == merges
    assert ours.encode(TEXT) == theirs.encode(TEXT).ids


def encode_cold(tokenizer: BPETokenizer) -> None:
    """Encode the text with nothing remembered from before."""
    tokenizer._cache.clear()
    tokenizer.encode(TEXT)


def rows() -> Iterable[tuple[str, float, float, float]]:
    """Yield what was timed, and the seconds of ours, tokenizers and recounting."""
    recounting = Recounting()
    ours = BPETokenizer.train([TEXT], VOCAB_SIZE)
    theirs = train_theirs()
    check_equal(ours, theirs)
    slow = best_time(recounting.train, repeats=1)
    yield (
        "train",
        best_time(lambda: BPETokenizer.train([TEXT], VOCAB_SIZE)),
        best_time(train_theirs),
        slow,
    )
    their_time = best_time(lambda: theirs.encode(TEXT))
    slow = best_time(recounting.encode)
    yield "encode, first time", best_time(lambda: encode_cold(ours)), their_time, slow
    yield "encode, again", best_time(lambda: ours.encode(TEXT)), their_time, slow


def main() -> None:
    """Print the table of times and ratios."""
    print(f"{'':20}{'ours':>10}{'tokenizers':>12}{'recounting':>12}   ratios")
    for name, ours, theirs, slow in rows():
        print(
            f"{name:20}{ours:>8.3f} s{theirs:>10.3f} s{slow:>10.2f} s   "
            f"ours/tokenizers {ours / theirs:.2f}, recounting/ours {slow / ours:.0f}"
        )


if __name__ == "__main__":
    main()
