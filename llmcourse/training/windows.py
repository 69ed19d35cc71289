"""A long sequence of tokens, cut into the windows that a model is trained on.

    tokens    4 7 1 | 3 3 9 | 0 5 2 | 6 …          context_length 3
    windows   4 7 1 3
                    3 3 9 0                 a window has one token more:
                            0 5 2 6         the target of its last position

Where documents matter, windows can be made to begin with one: see `start_token`.
They then also end with it, and batches consist of documents of about equal length:

    tokens    0 4 7 | 0 3 3 9 1 | 0 …       documents begin with 0
    windows   0 4 7 0 ∅                     ∅ stands for NO_TOKEN
              0 3 3 9 1
"""

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from llmcourse.arguments import check_range
from llmcourse.text.packing import Shards

# One-dimensional integers. A memory map will do, and is only read where needed.
Tokens: TypeAlias = NDArray[Any] | Shards | Tensor

NO_TOKEN = -1  # fills up the rows of shorter documents
_POOL = 64  # batches whose documents are sorted by length together

_CHUNK = 1 << 20  # tokens that are read at a time


def pieces(tokens: NDArray[Any] | Shards) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield an array in pieces, each with the index where it begins.

    If the array is a memory map, or several, each piece's memory is then released.
    """
    for start in range(0, len(tokens), _CHUNK):
        yield start, tokens[start : start + _CHUNK]
        _give_back(tokens)


def _as_array(tokens: Tokens) -> NDArray[Any] | Shards:
    return tokens if isinstance(tokens, Shards) else np.asarray(tokens)


def _give_back(tokens: NDArray[Any] | Shards) -> None:
    """Give the system back the memory of what was read from mapped files."""
    for array in tokens.arrays if isinstance(tokens, Shards) else [tokens]:
        mapped = getattr(array.base, "obj", None)
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def tokens_fingerprint(tokens: Tokens) -> str:
    """Return the number of tokens and 16 hexadecimal digits of their hash, as text.

    Equal tokens have equal fingerprints, whatever their type and wherever they are.

    >>> tokens_fingerprint(torch.tensor([3, 1, 4]))
    '3 tokens with hash 0057aef4fe5ef616'
    """
    array, state = _as_array(tokens), hashlib.sha256()
    for _, piece in pieces(array):
        state.update(piece.astype("<i8").tobytes())
    return f"{len(array)} tokens with hash {state.hexdigest()[:16]}"


def of_like_length(
    order: Tensor, lengths: Tensor, batch_size: int, n_batches: int
) -> list[Tensor]:
    """Return an order cut into batches, each of texts of about equal length.

    Args:
        order: Numbers of the texts.
        lengths: Lengths of all texts, by number.
        batch_size: Texts in each batch; the last one gets what is left.
        n_batches: How many batches' texts are sorted by length together.

    >>> order, lengths = torch.tensor([0, 3, 1, 2]), torch.tensor([9, 5, 8, 4])
    >>> [batch.tolist() for batch in of_like_length(order, lengths, 2, 2)]
    [[3, 1], [2, 0]]
    """
    return [
        batch
        for part in torch.split(order, n_batches * batch_size)
        for batch in torch.split(part[lengths[part].argsort(stable=True)], batch_size)
    ]


class Windows:
    """A long sequence of tokens, cut into windows of T + 1.

    Args:
        tokens: One-dimensional integers; a memory map is only read where needed.
        context_length: T; a window has one token more, the last one's target.
        start_token: If given, windows begin at this token and nowhere else, and end
            with the next one. The rest of the row is `NO_TOKEN`.

    >>> Windows(torch.arange(100), context_length=3).spread(2)
    tensor([[ 0,  1,  2,  3],
            [96, 97, 98, 99]])
    """

    def __init__(
        self, tokens: Tokens, context_length: int, start_token: int | None = None
    ) -> None:
        self.tokens = _as_array(tokens)
        self.context_length = context_length
        if self.tokens.ndim != 1 or self.tokens.dtype.kind not in "iu":
            raise ValueError(
                "tokens must be a one-dimensional array of integers, got "
                f"{self.tokens.ndim} dimensions of {self.tokens.dtype}"
            )
        check_range(context_length + 1, **{"tokens of a text": len(self.tokens)})
        self.last = len(self.tokens) - context_length - 1  # the last possible start
        self.starts = None
        if start_token is not None:
            found = [
                place + np.flatnonzero(piece == start_token)
                for place, piece in pieces(self.tokens)
            ]
            starts = np.concatenate(found)
            self.starts = starts[starts < len(self.tokens) - 1]
            n_starts = {f"windows that begin at token {start_token}": len(self.starts)}
            check_range(1, **n_starts)
            # Up to and including the next document's first token, which marks the end.
            ends = np.append(self.starts[1:], len(self.tokens) - 1)
            self.lengths = np.minimum(ends - self.starts, context_length) + 1

    def shuffled(
        self, batch_size: int, generator: torch.Generator, *, in_order: bool = False
    ) -> "ShuffledBatches":
        """Return an endless iterator over batches: all windows shuffled, over and over.

        Without a start token the windows of one pass do not overlap, and each pass
        cuts at different places.

        Args:
            batch_size: Windows in each batch.
            generator: Decides the order.
            in_order: Whether the first pass takes the windows in order; batches of
                documents are then still shuffled, among 64 at a time.

        Raises:
            ValueError: Right away, if there are fewer windows than `batch_size`.
        """
        n_windows = self.last // self.context_length + 1
        if self.starts is not None:
            n_windows = len(self.starts)
        check_range(batch_size, **{"windows of a text": n_windows})
        return ShuffledBatches(self, batch_size, generator, in_order)

    def one_pass(
        self, generator: torch.Generator, batch_size: int, in_order: bool
    ) -> NDArray[Any]:
        """Return where the windows of one pass over the data begin, shuffled.

        Documents come in batches of about equal length, so that little of a batch is
        `NO_TOKEN`: the documents of 64 batches at a time are sorted by length, and the
        batches are then shuffled; with `in_order`, only among these 64.

        Args:
            generator: Decides the order.
            batch_size: Documents in each batch.
            in_order: Whether the windows stay in order.
        """
        starts = self.starts
        if starts is None:
            room = min(self.context_length, self.last + 1)
            first = int(torch.randint(room, (), generator=generator))
            starts = np.arange(first, self.last + 1, self.context_length)
        n = len(starts)
        order = torch.arange(n) if in_order else torch.randperm(n, generator=generator)
        if self.starts is not None:
            lengths = torch.from_numpy(self.lengths)
            batches = of_like_length(order, lengths, batch_size, _POOL)
            # The last batch may be short: it stays last, so that the others stay whole.
            ranks = torch.randperm(len(batches) - 1, generator=generator).tolist()
            if in_order:
                ranks.sort(key=lambda rank: rank // _POOL)
            order = torch.cat([batches[rank] for rank in [*ranks, -1]])
        chosen: NDArray[Any] = starts[order.numpy()]
        return chosen

    def spread(self, n_windows: int) -> Int[Tensor, "batch window"]:
        """Return windows spread evenly over the data: always the same ones.

        Nothing is random, so losses on them can be compared between steps, runs and
        models with the same text. There are `n_windows`, or fewer if the data has fewer
        beginnings.
        """
        n_starts = self.last + 1 if self.starts is None else len(self.starts)
        chosen = np.linspace(0, n_starts - 1, min(n_windows, n_starts)).round()
        places = chosen.astype(np.int64)
        return self.take(places if self.starts is None else self.starts[places])

    def take(self, starts: NDArray[Any]) -> Int[Tensor, "batch window"]:
        """Return the windows that begin at the given places."""
        lengths = np.full(len(starts), self.context_length + 1)
        if self.starts is not None:
            lengths = self.lengths[np.searchsorted(self.starts, starts)]
        batch = torch.full((len(starts), int(lengths.max())), NO_TOKEN)
        for row, start, length in zip(batch, starts, lengths, strict=True):
            piece = self.tokens[start : start + length].astype(np.int64)
            row[:length] = torch.from_numpy(piece)
        _give_back(self.tokens)
        return batch


@dataclass(eq=False)
class ShuffledBatches(Iterator[Tensor]):
    """An endless iterator over batches of windows that knows where it is.

    Two things decide which windows are still to come: those left of the current
    pass, in order, and the state of the generator that will shuffle the next ones.
    """

    windows: Windows
    batch_size: int  # at most as many windows as there are
    generator: torch.Generator
    in_order: bool = False  # the next pass
    left: NDArray[Any] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __next__(self) -> Int[Tensor, "batch window"]:
        while len(self.left) < self.batch_size:
            one_pass = self.windows.one_pass(
                self.generator, self.batch_size, self.in_order
            )
            self.in_order = False
            self.left = np.concatenate((self.left, one_pass))
        chosen, self.left = np.split(self.left, [self.batch_size])
        return self.windows.take(chosen)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what `load_state_dict` needs to continue with the next batch."""
        return {
            "left": torch.tensor(self.left),
            "in_order": torch.tensor(self.in_order),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where another iterator over the same data stopped."""
        self.left = state["left"].numpy().astype(np.int64)
        self.in_order = bool(state["in_order"])
        self.generator.set_state(state["generator"])
