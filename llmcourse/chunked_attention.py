"""Exact attention that never holds the table of scores, in plain torch.

    keys        block 1      block 2      block 3
    queries   ┌──────────┐
    block 1   │ ▙        │               of each row three things are kept: the largest
              ├──────────┼──────────┐    score so far, the sum of exponentials, and the
    block 2   │          │ ▙        │    sum of values that they weigh
              └──────────┴──────────┘

A softmax needs the sum over all keys before it can divide, but the division can wait.
Where a later block has a larger score, what was summed before shrinks by one factor:
this is the online softmax. The gradient computes each block of scores once more, from
the logarithm of the row's sum, so that nothing of the table is kept for it either.

Torch's fused kernel does the same in a compiled loop, see `attention.fused_attention`.

Source: Milakov and Gimelshein (2018), "Online normalizer calculation for softmax";
Dao et al. (2022), "FlashAttention", algorithms 1 and 4.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


def chunked_attention(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_value"],
    block: int = 128,
) -> Float[Tensor, "batch head query d_value"]:
    """Return causal attention's context vectors, a block of scores at a time.

    The queries are the last of the keys' positions. Where there are fewer key-value
    heads than query heads, each serves several neighbouring ones.

    Args:
        query: What each position looks for.
        key: What each position is found by.
        value: What each position hands over.
        block: Rows and columns of scores that are held at once, in positions.

    Raises:
        ValueError: If there are more queries than keys, if the key-value heads do not
            divide the query heads, or if `block` is below 1.
    """
    n_queries, n_keys = query.shape[2], key.shape[2]
    if not 1 <= n_queries <= n_keys:
        raise ValueError(f"queries must be 1 … {n_keys}, the keys, got {n_queries}")
    if query.shape[1] % key.shape[1]:
        raise ValueError(
            f"key-value heads must divide the {query.shape[1]} query heads, "
            f"got {key.shape[1]}"
        )
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    context: Tensor = _Chunked.apply(query, key, value, block)  # type: ignore[no-untyped-call]
    return context


class _Tile(NamedTuple):
    """A block of the table of scores."""

    rows: slice  # queries, counted from the first query
    columns: slice  # keys
    hidden: Tensor | None  # True where a key lies ahead of its query


def _tiles(n_queries: int, n_keys: int, block: int) -> Iterator[list[_Tile]]:
    """Yield, for each block of queries, the tiles that it can see any of."""
    ahead = n_keys - n_queries  # position of the first query
    for top in range(0, n_queries, block):
        rows = slice(top, min(top + block, n_queries))
        places = torch.arange(rows.start, rows.stop) + ahead
        tiles = []
        for left in range(0, ahead + rows.stop, block):
            columns = slice(left, min(left + block, n_keys))
            hidden = torch.arange(columns.start, columns.stop) > places[:, None]
            tiles.append(_Tile(rows, columns, hidden if hidden.any() else None))
        yield tiles


def _scores(rows: Tensor, key: Tensor, tile: _Tile) -> Tensor:
    """Return the scores (B, K, G, R, C) of a tile, for G query heads to a key head."""
    keys = key[:, :, tile.columns].transpose(-2, -1)
    flat = rows.flatten(2, 3) @ keys  # one product for all heads of a group
    scores = torch.unflatten(flat, 2, tuple(rows.shape[2:4]))
    if tile.hidden is not None:
        scores.masked_fill_(tile.hidden.to(scores.device), -math.inf)
    return scores


def _mixed(weights: Tensor, value: Tensor) -> Tensor:
    """Return weights (B, K, G, R, C) times values (B, K, C, d)."""
    return torch.unflatten(weights.flatten(2, 3) @ value, 2, tuple(weights.shape[2:4]))


class _Chunked(torch.autograd.Function):
    """The loop forwards, and the one backwards."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, block: int
    ) -> Tensor:
        """Return the context; keep it, and one number for each row of scores."""
        n_queries, n_keys = query.shape[2], key.shape[2]
        scaled = query / math.sqrt(query.shape[-1])
        scaled = torch.unflatten(scaled, 1, (key.shape[1], -1))
        context = query.new_empty((*scaled.shape[:-1], value.shape[-1]))
        log_sums = query.new_empty((*scaled.shape[:-1], 1))
        for tiles in _tiles(n_queries, n_keys, block):
            rows = scaled[..., tiles[0].rows, :]  # (B, K, G, R, d)
            largest = torch.full_like(rows[..., :1], -math.inf)
            total = torch.zeros_like(largest)
            mixture = torch.zeros_like(context[..., tiles[0].rows, :])
            for tile in tiles:
                scores = _scores(rows, key, tile)
                before = largest
                largest = largest.maximum(scores.amax(-1, keepdim=True))
                weights = (scores - largest).exp()  # not yet divided by their sum
                shrink = (before - largest).exp()
                total = total * shrink + weights.sum(-1, keepdim=True)
                mixture = mixture * shrink + _mixed(weights, value[:, :, tile.columns])
            context[..., tiles[0].rows, :] = mixture / total
            log_sums[..., tiles[0].rows, :] = largest + total.log()
        ctx.save_for_backward(scaled, key, value, context, log_sums)
        ctx.block = block
        return context.flatten(1, 2)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of query, key and value, and none for the block."""
        if torch.is_grad_enabled():
            raise RuntimeError(
                "create_graph must be off: attention in blocks has no second "
                "derivative, take fused_attention"
            )
        scaled, key, value, context, log_sums = ctx.saved_tensors
        g = torch.unflatten(g, 1, tuple(scaled.shape[1:3]))
        for_query = torch.zeros_like(scaled)
        for_key, for_value = torch.zeros_like(key), torch.zeros_like(value)
        # Of each row, what all its weights' gradients have in common.
        common = (g * context).sum(-1, keepdim=True)
        for tiles in _tiles(scaled.shape[3], key.shape[2], ctx.block):
            for rows, columns, hidden in tiles:
                asked, upstream = scaled[..., rows, :], g[..., rows, :]
                scores = _scores(asked, key, _Tile(rows, columns, hidden))
                weights = (scores - log_sums[..., rows, :]).exp()
                flat = weights.flatten(2, 3).transpose(-2, -1)
                for_value[:, :, columns] += flat @ upstream.flatten(2, 3)
                mixed = _mixed(upstream, value[:, :, columns].transpose(-2, -1))
                for_scores = weights * (mixed - common[..., rows, :])
                for_query[..., rows, :] += _mixed(for_scores, key[:, :, columns])
                flat = for_scores.flatten(2, 3).transpose(-2, -1)
                for_key[:, :, columns] += flat @ asked.flatten(2, 3)
        for_query /= math.sqrt(scaled.shape[-1])
        return for_query.flatten(1, 2), for_key, for_value, None
