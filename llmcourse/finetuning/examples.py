"""Examples of what to answer, shuffled into batches of similar length.

    ids       <|user|>  Hi    <|end|>  <|assistant|>  Hello  <|end|>
    targets   Hi        …     …        Hello          <|end|>
    mask      0         0     0        1              1

The model reads the ids and is corrected only where the mask is 1.

    padded    Hi there you    one row each, padded on the right: with causal
              Hello 0 0       attention no position looks at those after it
    packed    Hi there you Hello      one row for all, and their lengths: 3, 1

Neither lets one example see another, so both give the same losses and gradients, up to
rounding. Packing saves the padding but costs every layer one call of attention for each
example. Training here uses padding: there is little to save, as examples of similar
length share a batch, and 5 % of the positions are padding; otherwise it would be 45 %
(batches of 8, lengths from 1 to 64 tokens, see `tests/finetuning/test_examples.py`).
"""

from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llmcourse.arguments import check_range
from llmcourse.training.checkpoints import hashed
from llmcourse.training.windows import of_like_length

_Example = TypeVar("_Example", bound=Sized)
_GROUP = 16  # batches whose examples are sorted by length together


@dataclass(frozen=True, eq=False)
class TokenizedExample:
    """What the model reads and, at some positions, what it should predict.

    Raises:
        ValueError: If there is nothing to read or nothing to predict, or if the three
            differ in length.
    """

    ids: Int[Tensor, "position"]
    targets: Int[Tensor, "position"]
    mask: Bool[Tensor, "position"]  # True where the target counts

    def __post_init__(self) -> None:
        """Raise ValueError for an example that teaches nothing."""
        n_targets, n_marks = len(self.targets), len(self.mask)
        if not len(self.ids) == n_targets == n_marks:
            raise ValueError(
                f"an example needs as many targets and marks as ids ({len(self.ids)}), "
                f"got {n_targets} and {n_marks}"
            )
        check_range(1, **{"positions of an example that count": self.n_targets})

    @classmethod
    def of_tokens(cls, ids: Sequence[int], mask: Sequence[bool]) -> "TokenizedExample":
        """Return the task of predicting the tokens where the mask is true.

        The first token is only read, whatever its mask: nothing comes before it.

        Args:
            ids: A complete text or conversation.
            mask: For each of the ids, whether it is to be learned.

        Raises:
            ValueError: If ids and mask differ in length, or nothing is to be learned.

        >>> example = TokenizedExample.of_tokens([7, 8, 9], [False, False, True])
        >>> example.ids, example.targets, example.mask
        (tensor([7, 8]), tensor([8, 9]), tensor([False,  True]))
        """
        tokens = torch.tensor(ids, dtype=torch.int64)
        counts = torch.tensor(mask, dtype=torch.bool)
        return cls(tokens[:-1], tokens[1:], counts[1:])

    @classmethod
    def of_label(cls, ids: Sequence[int], label: int) -> "TokenizedExample":
        """Return the task of naming the class of a text once it has been read.

        Args:
            ids: The text.
            label: Number of its class.

        Raises:
            ValueError: If the text has no tokens.

        >>> TokenizedExample.of_label([7, 8, 9], label=2).targets
        tensor([0, 0, 2])
        """
        tokens = torch.tensor(ids, dtype=torch.int64)
        targets, mask = torch.zeros_like(tokens), torch.zeros_like(tokens).bool()
        targets[-1:], mask[-1:] = label, True
        return cls(tokens, targets, mask)

    @property
    def n_targets(self) -> int:
        """Number of positions that count."""
        return int(self.mask.sum())

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Batch:
    """Examples in rows: one per row, padded on the right, or all packed into one."""

    ids: Int[Tensor, "batch position"]
    targets: Int[Tensor, "batch position"]
    mask: Bool[Tensor, "batch position"]  # False on the padding
    lengths: tuple[int, ...] | None = None  # of the packed examples, in tokens


def collate(examples: Sequence[TokenizedExample]) -> Batch:
    """Return the examples as rows.

    The padding is zeros, an id like any other: no position that counts sees it.

    Raises:
        ValueError: If there are no examples.

    >>> long, short = [5, 6, 7], [8, 9]
    >>> collate([TokenizedExample.of_label(ids, label=1) for ids in (long, short)]).ids
    tensor([[5, 6, 7],
            [8, 9, 0]])
    """
    return _batch(examples, partial(pad_sequence, batch_first=True))


def pack_examples(examples: Sequence[TokenizedExample]) -> Batch:
    """Return the examples one after the other, in a single row without padding.

    A model that is given their lengths reads each as if it were alone, see
    `attention`. (`packing.pack` is something else: it writes whole documents into a
    file, to be cut into windows.)

    Source: Krell et al. (2021), "Efficient sequence packing without
    cross-contamination". Unlike theirs, this does not choose examples to fill rows of
    a given length: a batch is one row, as long as it needs to be.

    Raises:
        ValueError: If there are no examples.

    >>> long, short = [5, 6, 7], [8, 9]
    >>> row = pack_examples([TokenizedExample.of_label(t, 1) for t in (long, short)])
    >>> row.ids, row.lengths
    (tensor([[5, 6, 7, 8, 9]]), (3, 2))
    """
    row = _batch(examples, lambda parts: torch.cat(parts)[None])
    return replace(row, lengths=tuple(map(len, examples)))


def _batch(
    examples: Sequence[TokenizedExample], join: Callable[[list[Tensor]], Tensor]
) -> Batch:
    check_range(1, **{"examples of a batch": len(examples)})
    ids, targets, mask = (
        join([getattr(each, name) for each in examples])
        for name in ("ids", "targets", "mask")
    )
    return Batch(ids, targets, mask)


def examples_fingerprint(examples: Sequence[TokenizedExample]) -> str:
    """Return a short text that is equal for equal examples in the same order."""
    parts = (("", part) for e in examples for part in (e.ids, e.targets, e.mask))
    return f"{len(examples)} examples with the hash {hashed(parts)[:16]}"


@dataclass(eq=False)
class ShuffledExamples(Iterator[list[_Example]]):
    """An endless iterator over batches of similar-length examples, in random order.

    Each pass over the data is shuffled, then sorted by length within stretches of 16
    batches; then the batches are shuffled. What is left over at the end of a pass
    begins the next one, in a batch filled up from it: each example is seen equally
    often, and none twice in a batch.

    Raises:
        ValueError: If there are fewer examples than `batch_size`.
    """

    examples: Sequence[_Example]  # anything that has a length
    batch_size: int
    generator: torch.Generator  # decides the order

    def __post_init__(self) -> None:
        """Raise ValueError if there are too few examples."""
        check_range(1, batch_size=self.batch_size)
        check_range(self.batch_size, examples=len(self.examples))
        self._lengths = torch.tensor([len(example) for example in self.examples])
        self._batches = torch.empty(0, self.batch_size, dtype=torch.int64)  # to come
        self._over = torch.empty(0, dtype=torch.int64)  # left over for the next pass

    def __next__(self) -> list[_Example]:
        if not len(self._batches):
            self._shuffle()
        chosen, self._batches = self._batches[0], self._batches[1:]
        return [self.examples[number] for number in chosen.tolist()]

    def _shuffle(self) -> None:
        """Decide the order of one pass, beginning with what the last one left over."""
        fresh = torch.randperm(len(self.examples), generator=self.generator)
        first = self._batches  # none, or the one begun in the last pass
        if n_over := len(self._over):
            others = fresh[~torch.isin(fresh, self._over)]
            others = others[: self.batch_size - n_over]
            first = torch.cat((self._over, others))[None]
            fresh = fresh[~torch.isin(fresh, others)]
        n_batches = len(fresh) // self.batch_size
        n_used = n_batches * self.batch_size
        fresh, self._over = fresh[:n_used], fresh[n_used:]
        sorted_batches = of_like_length(fresh, self._lengths, self.batch_size, _GROUP)
        batches = torch.cat(sorted_batches).view(n_batches, self.batch_size)
        order = torch.randperm(n_batches, generator=self.generator)
        self._batches = torch.cat((first, batches[order]))

    def state_dict(self) -> dict[str, Tensor]:
        """Return what `load_state_dict` needs to continue with the next batch."""
        return {
            "batches": self._batches,
            "over": self._over,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where another iterator over the same data stopped."""
        self._batches, self._over = state["batches"], state["over"]
        self.generator.set_state(state["generator"])
