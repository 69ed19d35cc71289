"""The loss over the position: what more of the text before is worth.

    position   0      1      2      3   …
    reads      ∎      Once   a      girl          ∎ is the mark of a document's start
    foretells  Once   a      girl   named

A model that makes use of all that it has read foretells better and better; one whose
memory ends somewhere stops to improve there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from llmcourse.packing import end_of_text
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer

EDGES = (0, 16, 32, 48, 64, 96, 128, 160, 224)  # in tokens; tales end soon after


@dataclass(frozen=True, kw_only=True)
class PositionLosses:
    """What the tokens at each position cost, over many documents."""

    totals: Float64[Tensor, "position"]  # nats at each position, of all documents
    counts: Int64[Tensor, "position"]  # documents that reach it

    @property
    def loss(self) -> float:
        """The mean over all tokens, in nats per token."""
        return (self.totals.sum() / self.counts.sum()).item()

    def between(self, edges: Sequence[int] = EDGES) -> list[float]:
        """Return the mean between each two positions, in nats per token.

        Args:
            edges: Increasing; the first of two belongs to the mean, the second not.

        Raises:
            ValueError: If no document reaches between two of them.
        """
        means = []
        for start, end in pairwise(edges):
            n = int(self.counts[start:end].sum())
            if n == 0:
                raise ValueError(
                    f"no document reaches the positions {start} to {end}: the longest "
                    f"has {len(self.counts)}"
                )
            means.append(math.fsum(self.totals[start:end].tolist()) / n)
        return means


@torch.inference_mode()
def position_losses(
    model: Transformer, tokenizer: BPETokenizer, texts: Sequence[str]
) -> PositionLosses:
    """Return what the tokens of documents cost, by their position.

    Each document is read from its start, and its end is predicted too.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        texts: Documents that fit into the model's context.

    Raises:
        ValueError: If there is no text, if one is too long, or if there is no
            `<|endoftext|>`.
    """
    if not texts:
        raise ValueError("a loss by position needs at least one text, got none")
    end = end_of_text(tokenizer)
    rows = [[end, *tokenizer.encode(text), end] for text in texts]
    longest = max(map(len, rows)) - 1
    if longest > model.config.context_length:
        raise ValueError(
            f"texts must fit into {model.config.context_length} tokens, got {longest}"
        )
    totals = torch.zeros(longest, dtype=torch.float64)
    counts = torch.zeros(longest, dtype=torch.int64)
    for row in rows:
        ids = torch.tensor(row)
        logits: Tensor = model(ids[None, :-1])[0]  # (T, V)
        totals[: len(ids) - 1] += cross_entropy(logits, ids[1:], reduction="none")
        counts[: len(ids) - 1] += 1
    return PositionLosses(totals=totals, counts=counts)
