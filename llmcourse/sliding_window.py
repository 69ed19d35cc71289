"""Attention that looks back over a window of fixed width, and the cache for it.

    window 3       keys
    queries    ■ · · · · ·
               ■ ■ · · · ·
               ■ ■ ■ · · ·      each query sees itself and two before; time and memory
               · ■ ■ ■ · ·      grow with the length, and no longer with its square
               · · ■ ■ ■ ·
               · · · ■ ■ ■

What a position has gathered is itself gathered in the next layer, so L layers together
reach back over L · (window - 1) positions. What is farther away is out of reach.

Source: Child et al. (2019), "Generating long sequences with sparse transformers";
Jiang et al. (2023), "Mistral 7B", section 2 (window and rolling cache).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from llmcourse.attention import KVCache, causal_mask


def sliding_window_mask(
    n_queries: int, n_keys: int, window: int
) -> Bool[Tensor, "query key"]:
    """Return True where a query may look: at the last `window` keys, itself included.

    The queries are the last of the keys' positions.

    Raises:
        ValueError: If there are no queries, or more of them than keys, or if the
            window is below 1.

    >>> sliding_window_mask(3, 4, window=2).int()
    tensor([[1, 1, 0, 0],
            [0, 1, 1, 0],
            [0, 0, 1, 1]], dtype=torch.int32)
    """
    _check_window(window)
    return causal_mask(n_queries, n_keys).triu(n_keys - n_queries - window + 1)


def sliding_window_attention(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_value"],
    window: int,
) -> Float[Tensor, "batch head query d_value"]:
    """Return the context vectors, each of the last `window` positions.

    A whole text is cut into blocks of the window's width: a query sees keys of its own
    block and of the one before, so 2 · window scores for each are computed, and half
    of them hidden. The queries are the last of the keys' positions.

    Args:
        query: What each position looks for.
        key: What each position is found by.
        value: What each position hands over.
        window: Positions that a query sees, itself included.

    Raises:
        ValueError: If there are more queries than keys, if the key-value heads do not
            divide the query heads, or if the window is below 1.
    """
    _check_window(window)
    n_heads, n_kv_heads = query.shape[1], key.shape[1]
    if n_heads % n_kv_heads:
        raise ValueError(
            f"key-value heads must divide the {n_heads} query heads, got {n_kv_heads}"
        )
    n_queries, n_keys = query.shape[2], key.shape[2]
    if n_queries != n_keys or window >= n_keys:
        mask = sliding_window_mask(n_queries, n_keys, window).to(query.device)
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, enable_gqa=n_heads != n_kv_heads
        )
    if n_heads != n_kv_heads:
        group = n_heads // n_kv_heads
        key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    return _banded(query, key, value, window)


def _banded(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """Return what a whole text gathers, all blocks side by side."""
    length, d_head = query.shape[2:]
    empty = -length % window
    asked = torch.unflatten(pad(query, (0, 0, 0, empty)), 2, (-1, window))
    found, handed = (_with_block_before(x, window, empty) for x in (key, value))
    scores = asked @ found.transpose(-2, -1) / d_head**0.5  # (B, H, N, W, 2 W)
    seen = sliding_window_mask(window, 2 * window, window)
    seen = seen.repeat(scores.shape[2], 1, 1)
    seen[0, :, :window] = False  # before the first block there is nothing
    weights = scores.masked_fill(~seen.to(scores.device), float("-inf")).softmax(dim=-1)
    context: Tensor = (weights @ handed).flatten(2, 3)[:, :, :length]
    return context


def _with_block_before(x: Tensor, window: int, empty: int) -> Tensor:
    """Return each block of positions behind the block before it, (B, H, N, 2 W, d)."""
    blocks = torch.unflatten(pad(x, (0, 0, window, empty)), 2, (-1, window))
    return torch.cat((blocks[:, :, :-1], blocks[:, :, 1:]), dim=3)


class WindowCache(KVCache):
    """Keys and values of the last `capacity` positions; older ones are dropped.

    The memory is taken once and does not grow, however much is read. To a model whose
    attention is a sliding window of this width it makes no difference.

    >>> cache = WindowCache(
    ...     n_layers=1, batch_size=1, n_kv_heads=1, capacity=3, d_head=1
    ... )
    >>> for position in range(5):
    ...     new = torch.full((1, 1, 1, 1), float(position))
    ...     keys, _ = cache.update(0, new, new)
    ...     cache.advance(1)
    >>> keys.flatten(), cache.length, cache.n_bytes
    (tensor([2., 3., 4.]), 5, 24)
    """

    def update(
        self,
        layer: int,
        key: Float[Tensor, "batch kv_head new d_head"],
        value: Float[Tensor, "batch kv_head new d_head"],
    ) -> tuple[
        Float[Tensor, "batch kv_head key d_head"],
        Float[Tensor, "batch kv_head key d_head"],
    ]:
        """Keep the newest positions; return all that the new ones may look at.

        That is what was kept and all of the new, which can be more than will be kept.
        """
        kept = min(self.length, self.capacity)
        found = []
        for store, new in ((self.keys[layer], key), (self.values[layer], value)):
            rows = torch.cat((store[:, :, :kept], new.to(store.dtype)), dim=2)
            newest = rows[:, :, -self.capacity :]
            store[:, :, : newest.shape[2]] = newest
            found.append(rows)
        oldest = max(0, kept + 1 - self.capacity)  # that the first new one looks at
        return found[0][:, :, oldest:], found[1][:, :, oldest:]


def _check_window(window: int) -> None:
    if window < 1:
        raise ValueError(f"window must be at least 1 position, got {window}")
