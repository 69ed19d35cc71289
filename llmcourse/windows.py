"""A long run of tokens, cut into the windows that a model is trained on.

    tokens    4 7 1 | 3 3 9 | 0 5 2 | 6 …          context_length 3
    windows   4 7 1 3
                    3 3 9 0                 a window has one token more:
                            0 5 2 6         the target of its last position

Where documents matter, windows can be made to begin with one: see `start_token`.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

# One-dimensional, of integers. A memory map counts, and is only read where needed.
Tokens: TypeAlias = NDArray[Any] | Tensor


class Windows:
    """A long run of tokens, cut into windows of T + 1.

    Args:
        tokens: One-dimensional integers; a memory map is only read where needed.
        context_length: T; a window has one token more, the last one's target.
        start_token: Where given, windows begin at this token and nowhere else.

    >>> Windows(torch.arange(100), context_length=3).spread(2)
    tensor([[ 0,  1,  2,  3],
            [96, 97, 98, 99]])
    """

    def __init__(
        self, tokens: Tokens, context_length: int, start_token: int | None = None
    ) -> None:
        self.tokens = np.asarray(tokens)
        self.context_length = context_length
        if self.tokens.ndim != 1 or self.tokens.dtype.kind not in "iu":
            raise ValueError(
                "tokens must be a one-dimensional array of integers, got "
                f"{self.tokens.ndim} dimensions of {self.tokens.dtype}"
            )
        if context_length < 1:
            raise ValueError(f"context_length must be at least 1, got {context_length}")
        if len(self.tokens) <= context_length:
            raise ValueError(
                f"a window needs {context_length + 1} tokens, got {len(self.tokens)}"
            )
        self.last = len(self.tokens) - context_length - 1  # where a window can begin
        self.starts = None
        if start_token is not None:
            candidates = self.tokens[: self.last + 1]
            self.starts = np.flatnonzero(candidates == start_token)
            if len(self.starts) == 0:
                raise ValueError(
                    f"windows must begin at token {start_token}, but it does not "
                    f"occur before the last {context_length} tokens"
                )

    def shuffled(
        self, batch_size: int, generator: torch.Generator
    ) -> Iterator[Int[Tensor, "batch window"]]:
        """Return an endless iterator over batches: all windows in random order, again.

        Without a start token the windows of one pass do not overlap, and each pass
        cuts at other places.

        Raises:
            ValueError: At once, if there are fewer windows than `batch_size`.
        """
        n_windows = self.last // self.context_length + 1
        if self.starts is not None:
            n_windows = len(self.starts)
        if n_windows < batch_size:
            raise ValueError(
                f"a batch needs {batch_size} windows, but the data has {n_windows}"
            )
        return self._batches(batch_size, generator)

    def _batches(
        self, batch_size: int, generator: torch.Generator
    ) -> Iterator[Int[Tensor, "batch window"]]:
        queue = np.empty(0, dtype=np.int64)
        while True:
            while len(queue) < batch_size:
                queue = np.concatenate((queue, self._one_pass(generator)))
            yield self.take(queue[:batch_size])
            queue = queue[batch_size:]

    def _one_pass(self, generator: torch.Generator) -> NDArray[Any]:
        """Return where the windows of one pass over the data begin, shuffled."""
        starts = self.starts
        if starts is None:
            room = min(self.context_length, self.last + 1)
            first = int(torch.randint(room, (), generator=generator))
            starts = np.arange(first, self.last + 1, self.context_length)
        order = torch.randperm(len(starts), generator=generator).numpy()
        shuffled: NDArray[Any] = starts[order]
        return shuffled

    def spread(self, n_windows: int) -> Int[Tensor, "batch window"]:
        """Return windows spread evenly over the data: always the same ones.

        There are `n_windows`, or fewer where the data has fewer beginnings.
        """
        n_starts = self.last + 1 if self.starts is None else len(self.starts)
        chosen = np.linspace(0, n_starts - 1, min(n_windows, n_starts)).round()
        places = chosen.astype(np.int64)
        return self.take(places if self.starts is None else self.starts[places])

    def take(self, starts: NDArray[Any]) -> Int[Tensor, "batch window"]:
        """Return the windows that begin at the given places."""
        size = self.context_length + 1
        rows = np.stack([self.tokens[start : start + size] for start in starts])
        return torch.from_numpy(rows.astype(np.int64))
