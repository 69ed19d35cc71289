"""Several texts in one row of a batch, each read as if it were alone.

    row         the owl hid <|end|> it flew <|end|>      lengths 4, 3
    places      0   1   2   3       0  1    2            from 0 in each text
    attention   └─────────────────┘ └───────────────┘    none from one to the other

All else that a model does, it does to every token by itself, whatever stands beside it.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

# From query, key and value to the context, (B, H, T, d_head).
Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


def check_lengths(lengths: Sequence[int], n_positions: int) -> None:
    """Raise ValueError unless these are lengths of texts that fill a row.

    Args:
        lengths: Of the texts, in positions.
        n_positions: Of the row.
    """
    if not lengths or min(lengths) < 1 or sum(lengths) != n_positions:
        raise ValueError(
            f"lengths must be positive and add up to the {n_positions} positions of a "
            f"row, got {list(lengths)}"
        )


def places(
    n_new: int,
    most: int,
    n_cached: int | None = None,
    lengths: Sequence[int] | None = None,
) -> slice | Int[Tensor, "position"]:
    """Return the place of each token of a row in its text, from 0: it picks table rows.

    Args:
        n_new: Tokens in the row.
        most: The longest text that a model reads, its `context_length`.
        n_cached: Tokens of the text that were read before; None if there is no cache.
        lengths: Of the texts in the row, in tokens; None if it is one.

    Raises:
        ValueError: If a text is empty or longer than that, if the lengths do not fill
            the row, or if there is a cache beside them.

    >>> places(3, most=8, n_cached=4)
    slice(4, 7, None)
    >>> places(5, most=8, lengths=[3, 2])
    tensor([0, 1, 2, 0, 1])
    """
    if lengths is None:
        start = n_cached or 0
        if not start < start + n_new <= most:
            raise ValueError(
                f"context_length is {most} tokens, "
                f"got {start} cached and {n_new} new ones"
            )
        return slice(start, start + n_new)
    if n_cached is not None:
        raise ValueError("texts side by side are read without a cache, got one")
    check_lengths(lengths, n_new)
    if max(lengths) > most:
        raise ValueError(
            f"context_length is {most} tokens, got a text of {max(lengths)}"
        )
    return torch.cat([torch.arange(length) for length in lengths])


def attend_apart(
    attend: Attend,
    query: Float[Tensor, "batch head position d_head"],
    key: Float[Tensor, "batch kv_head position d_head"],
    value: Float[Tensor, "batch kv_head position d_head"],
    lengths: Sequence[int],
) -> Float[Tensor, "batch head position d_head"]:
    """Return the context vectors of texts that stand side by side.

    Args:
        attend: How the positions of one text look at each other.
        query: What each position looks for.
        key: What each position is found by.
        value: What each position hands over.
        lengths: Of the texts, in positions; together all of the row.

    Raises:
        ValueError: If the lengths do not fill the row, or as `attend`.

    Source: Krell et al. (2021), "Efficient sequence packing without
    cross-contamination". Unlike there no mask hides the scores between the texts: they
    are not computed, as each text has a call of `attend` to itself.

    >>> values = torch.tensor([[[[1.0], [3], [8]]]])
    >>> means = lambda q, k, v: v.mean(dim=-2, keepdim=True).expand_as(v)
    >>> attend_apart(means, values, values, values, lengths=[2, 1]).flatten()
    tensor([2., 2., 8.])
    """
    for x in (query, key):  # unlike where there is a cache
        check_lengths(lengths, x.shape[-2])
    apart = [torch.split(x, list(lengths), dim=-2) for x in (query, key, value)]
    return torch.cat([attend(*text) for text in zip(*apart, strict=True)], dim=-2)
