"""Attention without a softmax, so that the past fits into a table of fixed size.

    softmax     weight of a key  =  exp(query · key / √d)       all keys must be kept
    linear      weight of a key  =  φ(query) · φ(key)           only a sum must be kept

With features φ the sum over keys can be taken before the query is known:

    context  =  Σ (φ(q) · φ(k)) v  /  Σ φ(q) · φ(k)
             =  φ(q) · [Σ φ(k) vᵀ]  /  φ(q) · [Σ φ(k)]

The brackets are the state: they grow by one product with each position, and not in
size. A one that is appended to every value makes one sum of the two.

Source: Katharopoulos et al. (2020), "Transformers are RNNs", section 3.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import elu, pad

FeatureMap: TypeAlias = Callable[[Tensor], Tensor]


def elu_features(
    x: Float[Tensor, "*batch d_head"],
) -> Float[Tensor, "*batch d_head"]:
    """Return x + 1 where x is positive, and exp(x) elsewhere: never below 0.

    Source: Katharopoulos et al. (2020), equation 7.

    >>> elu_features(torch.tensor([2.0, 0.0, -1.0]))
    tensor([3.0000, 1.0000, 0.3679])
    """
    return elu(x) + 1


def taylor_features(
    x: Float[Tensor, "*batch d_head"],
) -> Float[Tensor, "*batch feature"]:
    """Return features whose product is 1 + s + s² / 2, near exp(s) for small scores s.

    The score is that of softmax attention, s = query · key / √d. There are
    1 + d + d² features.

    Source: Arora et al. (2024), "Simple linear attention language models balance the
    recall-throughput tradeoff", section 3.

    >>> x = torch.tensor([0.3, -0.2])
    >>> score = (x @ x).item() / math.sqrt(2)
    >>> (taylor_features(x) @ taylor_features(x)).item() - math.exp(score)
    -0.0001...
    """
    x = x / x.shape[-1] ** 0.25  # of query and key each, so √d together
    squares = (x[..., :, None] * x[..., None, :]).flatten(-2) / math.sqrt(2)
    return torch.cat((torch.ones_like(x[..., :1]), x, squares), dim=-1)


def linear_attention(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_value"],
    features: FeatureMap = elu_features,
    block: int = 64,
) -> Float[Tensor, "batch head query d_value"]:
    """Return the causal context vectors, in time and memory linear in the length.

    Inside a block all pairs are compared; what lies before it comes from the state.
    A block as long as the text is the fully parallel form. The queries are the last of
    the keys' positions.

    Args:
        query: What each position looks for.
        key: What each position is found by.
        value: What each position hands over.
        features: The map φ, of positive products.
        block: Positions that are compared with each other, the last block's perhaps
            fewer.

    Raises:
        ValueError: If there are more queries than keys, if the key-value heads do not
            divide the query heads, or if `block` is below 1.
    """
    n_queries, length = query.shape[2], key.shape[2]
    if not 1 <= n_queries <= length:
        raise ValueError(f"queries must be 1 … {length}, the keys, got {n_queries}")
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    block = min(block, length)
    query = pad(query, (0, 0, length - n_queries, 0))  # none has asked before
    asked, found, handed = _prepare(query, key, value, features)
    empty = -length % block  # positions that fill up the last block
    asked, found, handed = (
        torch.unflatten(pad(x, (0, 0, 0, empty)), 2, (-1, block))
        for x in (asked, found, handed)
    )  # (B, H, N, C, F or d + 1)
    weights = (asked @ found.transpose(-2, -1)).tril()  # (B, H, N, C, C)
    added = found.transpose(-2, -1) @ handed  # to the state, by each block
    state = added.cumsum(dim=2) - added  # before each block, (B, H, N, F, d + 1)
    mixture = (weights @ handed + asked @ state).flatten(2, 3)[
        :, :, length - n_queries : length
    ]
    return mixture[..., :-1] / mixture[..., -1:]


class LinearState:
    """What linear attention remembers of all positions read so far.

    Its size does not depend on how many they are.

    >>> state = LinearState()
    >>> one = torch.ones(1, 1, 4)
    >>> state.read(one, one, 3 * one)  # the first position sees only itself
    tensor([[[3., 3., 3., 3.]]])
    >>> state.read(one, one, 5 * one)
    tensor([[[4., 4., 4., 4.]]])
    >>> state.n_bytes  # 4 features · (4 coordinates and a sum) · 4 bytes
    80
    """

    def __init__(self, features: FeatureMap = elu_features) -> None:
        self.features = features
        self.table: Tensor | None = None  # (B, H, F, d_value + 1)

    @property
    def n_bytes(self) -> int:
        """Memory that the state takes, in bytes."""
        return 0 if self.table is None else self.table.nbytes

    def read(
        self,
        query: Float[Tensor, "batch head d_head"],
        key: Float[Tensor, "batch kv_head d_head"],
        value: Float[Tensor, "batch kv_head d_value"],
    ) -> Float[Tensor, "batch head d_value"]:
        """Take in one position; return its context vectors: the recurrent form.

        Raises:
            ValueError: If the key-value heads do not divide the query heads.
        """
        asked, found, handed = _prepare(
            query[:, :, None], key[:, :, None], value[:, :, None], self.features
        )
        added = found.transpose(-2, -1) @ handed
        self.table = added if self.table is None else self.table + added
        mixture = (asked @ self.table)[:, :, 0]
        return mixture[..., :-1] / mixture[..., -1:]


def _prepare(
    query: Tensor, key: Tensor, value: Tensor, features: FeatureMap
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the features of query and key, and values with a one behind them.

    Keys and values are repeated for the query heads that share them.
    """
    n_heads, n_kv_heads = query.shape[1], key.shape[1]
    if n_heads % n_kv_heads:
        raise ValueError(
            f"key-value heads must divide the {n_heads} query heads, got {n_kv_heads}"
        )
    handed = pad(value, (0, 1), value=1.0)
    found = features(key)
    if n_heads != n_kv_heads:
        group = n_heads // n_kv_heads
        found, handed = (x.repeat_interleave(group, dim=1) for x in (found, handed))
    return features(query), found, handed
