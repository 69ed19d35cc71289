"""How tokens attend to each other.

Every position asks with a query, is found by its key and hands over its value:

    scores  = query · key / √d_head         how well does each key fit?
    weights = softmax(scores)               shares that sum to one
    context = weights · value               the mixture that is handed over

`naive_attention` does exactly this. `fused_attention` gives the same result without
ever holding the table of scores, which grows with the square of the length.

A `Cache` says which positions a row's tokens have, and what they attend to besides
each other. `KVCache` keeps the keys and values of earlier positions, `RaggedCache` has
one `KVCache` per row, and `PackedSequences` separates texts that share a row.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from llmcourse.arguments import check_fits, check_multiple, check_range
from llmcourse.model.positions import Rotation, apply_rope

# Maps query, key and value to the context, (B, H, T, d_head).
Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


def causal_mask(n_queries: int, n_keys: int) -> Bool[Tensor, "query key"]:
    """Return True (no unit) where a query may look: at itself and earlier positions.

    The queries belong to the last of the keys' positions: with a key-value cache
    there are fewer queries than keys.

    Raises:
        ValueError: If there are no queries, or more queries than keys.

    >>> causal_mask(2, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    check_range(1, n_keys, n_queries=n_queries)
    allowed = torch.ones(n_queries, n_keys, dtype=torch.bool)
    return allowed.tril(diagonal=n_keys - n_queries)


def naive_attention(
    query: Float[Tensor, "*batch query d_head"],
    key: Float[Tensor, "*batch key d_head"],
    value: Float[Tensor, "*batch key d_value"],
    mask: Bool[Tensor, "query key"] | None = None,
) -> tuple[Float[Tensor, "*batch query d_value"], Float[Tensor, "*batch query key"]]:
    """Return the context vectors, and the attention weights as fractions.

    Args:
        query: What each position looks for.
        key: What each position is found by.
        value: What each position hands over.
        mask: True where a query may look at a key; None lets all look everywhere.

    Source: Vaswani et al. (2017), equation 1.

    >>> context, weights = naive_attention(
    ...     torch.zeros(1, 2), torch.ones(4, 2), torch.tensor([[1.0], [2], [3], [4]])
    ... )
    >>> context.item(), weights[0].tolist()  # no key fits better: the mean
    (2.5, [0.25, 0.25, 0.25, 0.25])
    """
    # The query is divided, not the product, which can be too large for float16.
    scores = query / math.sqrt(query.shape[-1]) @ key.transpose(-2, -1)  # (*B, T, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(dim=-1)
    return weights @ value, weights


def fused_attention(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_head"],
) -> Float[Tensor, "batch head query d_head"]:
    """Return causal attention's context vectors, with memory linear in the length.

    The queries belong to the last of the keys' positions. If there are fewer
    key-value heads than query heads, each serves several neighbouring query heads.

    Raises:
        ValueError: If there are more queries than keys, or if the key-value heads
            do not divide the query heads.

    Source: Dao et al. (2022), "FlashAttention"; Ainslie et al. (2023), "GQA".
    """
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    mask, is_causal = None, False  # a single query is the last: it sees all keys
    if n_queries > 1 and n_queries == n_keys:
        is_causal = True  # in a branch: under torch.compile, `==` gives no bool
    elif n_queries > 1:
        mask = causal_mask(n_queries, n_keys).to(query.device)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=is_causal,
        enable_gqa=group_size(query, key) > 1,
    )


def causal_attention(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_head"],
) -> Float[Tensor, "batch head query d_head"]:
    """Return what `fused_attention` returns, computed in the faster of two ways.

    On a CPU in bfloat16, writing out the scores of a short sequence takes half as
    long as the fused kernel; in all other cases the kernel is used.

    Raises:
        ValueError: As in `fused_attention`.
    """
    half = query.dtype == torch.bfloat16 and query.device.type == "cpu"
    if not (half and 1 < query.shape[-2] == key.shape[-2] <= 512):
        return fused_attention(query, key, value)
    group_size(query, key)
    return two_block_attention(query, key, value)


def group_size(query: Tensor, key: Tensor) -> int:
    """Return how many query heads share each key-value head (a count).

    Raises:
        ValueError: If they cannot be divided up evenly.
    """
    n_heads, n_kv_heads = query.shape[1], key.shape[1]
    check_multiple(n_heads=n_heads, n_kv_heads=n_kv_heads)
    return n_heads // n_kv_heads


def two_block_attention(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head query d_head"],
    value: Float[Tensor, "batch kv_head query d_head"],
) -> Float[Tensor, "batch head query d_head"]:
    """Return causal attention's context vectors for a short text, from two blocks.

                     keys
                  ┌───────┬───────┐
         queries  │ first │ never │     the first half of the queries sees only the
                  ├───────┴───────┤     first half of the keys: a quarter of the scores
                  │    second     │     is never computed
                  └───────────────┘

    All query heads that share a key-value head are rows of one product, so the keys
    need not be copied for each.
    """
    length, d_head = query.shape[2:]
    query = torch.unflatten(query / math.sqrt(d_head), 1, (key.shape[1], -1))
    hidden = torch.full((length, length), -math.inf, dtype=query.dtype).triu_(1)
    context = []
    for start, end in ((0, length // 2), (length // 2, length)):
        rows = query[:, :, :, start:end].flatten(2, 3)  # (B, K, H / K · R, d_head)
        scores = rows @ key[:, :, :end].transpose(-2, -1)
        of_heads = (
            torch.unflatten(scores, 2, (-1, end - start)) + hidden[start:end, :end]
        )
        weights = of_heads.softmax(dim=-1).flatten(2, 3)
        of_rows = weights @ value[:, :, :end]
        context.append(torch.unflatten(of_rows, 2, (-1, end - start)))
    return torch.cat(context, dim=3).flatten(1, 2)


def next_positions(start: int, n_new: int, context_length: int) -> slice:
    """Return the positions of new tokens that come after `start` others.

    Raises:
        ValueError: If there are no new tokens, or the total exceeds `context_length`.

    >>> next_positions(4, 3, context_length=8)
    slice(4, 7, None)
    """
    if not start < start + n_new <= context_length:
        raise ValueError(
            f"context_length is {context_length} tokens, "
            f"got {start} cached and {n_new} new ones"
        )
    return slice(start, start + n_new)


class KVCache:
    """Keys and values of all positions read so far, so none is computed twice.

    Room for `capacity` positions is allocated up front; `length` says how many are
    filled. Each layer writes its new keys and values with `update`; once all have,
    `advance` increases `length`.

    >>> cache = KVCache(
    ...     n_layers=1, batch_size=2, n_kv_heads=3, capacity=7, d_head=4
    ... )
    >>> keys, values = cache.update(0, torch.ones(2, 3, 5, 4), torch.ones(2, 3, 5, 4))
    >>> cache.advance(5)
    >>> keys.shape, cache.length, cache.n_bytes
    (torch.Size([2, 3, 5, 4]), 5, 1344)
    """

    def __init__(
        self,
        *,
        n_layers: int,
        batch_size: int,
        n_kv_heads: int,
        capacity: int,
        d_head: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (n_layers, batch_size, n_kv_heads, capacity, d_head)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.capacity = capacity
        self.length = 0  # in positions

    @property
    def n_bytes(self) -> int:
        """Memory taken by keys and values together, in bytes."""
        return self.keys.nbytes + self.values.nbytes

    def positions(self, n_new: int, context_length: int) -> slice:
        """Return the positions that follow those read so far."""
        return next_positions(self.length, n_new, context_length)

    def attend(
        self, attend: Attend, layer: int, query: Tensor, key: Tensor, value: Tensor
    ) -> Float[Tensor, "batch head query d_head"]:
        """Return the context from all positions read so far and the new ones."""
        return attend(query, *self.update(layer, key, value))

    def update(
        self,
        layer: int,
        key: Float[Tensor, "batch kv_head new d_head"],
        value: Float[Tensor, "batch kv_head new d_head"],
    ) -> tuple[
        Float[Tensor, "batch kv_head key d_head"],
        Float[Tensor, "batch kv_head key d_head"],
    ]:
        """Write one layer's new keys and values; return all it has so far.

        Raises:
            ValueError: If they no longer fit, or the batch size differs.
        """
        if len(key) != self.keys.shape[1]:
            raise ValueError(
                f"cache holds {self.keys.shape[1]} sequences, got a batch of {len(key)}"
            )
        end = self.length + key.shape[-2]
        if end > self.capacity:
            raise ValueError(
                f"cache holds at most {self.capacity} positions, got {end}"
            )
        keys, values = self.keys[layer], self.values[layer]  # (B, K, capacity, d_head)
        keys[:, :, self.length : end] = key
        values[:, :, self.length : end] = value
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, n_new: int) -> None:
        """Count positions as read, once every layer has written them."""
        self.length += n_new


def check_full_attention(model: nn.Module) -> None:
    """Raise ValueError if a model's attention is of another kind, see `long_context`.

    Other programs know none, so a file could not say which is used.
    """
    for part in model.modules():
        if getattr(part, "attend", causal_attention) is not causal_attention:
            raise ValueError("full attention is needed here, got another kind")


class RaggedCache:
    """Caches of sequences with different lengths, which a model extends as one batch.

        row 0   t t t t t t t ●          ●  the token being read now
        row 1   t t ●                    t  keys and values already in the cache
        row 2   (None: no sequence)
        row 3   t t t t t ●

    The rows share every matrix product. Attention is called once for each row and
    sees that row's keys and nothing else: no padding, no mask, and a result that does
    not depend on the other rows.

    Args:
        rows: A cache of one sequence for each row of the batch. A row with None is
            computed like the others, but its result is meaningless.

    >>> cache = KVCache(n_layers=1, batch_size=1, n_kv_heads=1, capacity=9, d_head=1)
    >>> cache.advance(5)
    >>> RaggedCache([None, cache]).positions(1, context_length=9)
    tensor([[0],
            [5]])
    """

    def __init__(self, rows: Sequence[KVCache | None]) -> None:
        self.rows = list(rows)

    def positions(self, n_new: int, context_length: int) -> Int[Tensor, "batch new"]:
        """Return the positions of each row's new tokens.

        Raises:
            ValueError: If they do not fit into `context_length`.
        """
        starts = [row.length if row else 0 for row in self.rows]
        next_positions(max(starts, default=0), n_new, context_length)
        return torch.tensor(starts)[:, None] + torch.arange(n_new)

    def attend(
        self, attend: Attend, layer: int, query: Tensor, key: Tensor, value: Tensor
    ) -> Float[Tensor, "batch head new d_head"]:
        """Return the context of each row from its own positions.

        Raises:
            ValueError: If there is not exactly one cache, or None, for each row.
        """
        of_rows = (torch.split(x, 1) for x in (query, key, value))
        context = []
        for row, *new in zip(self.rows, *of_rows, strict=True):
            known = row and row.attend(attend, layer, *new)
            context.append(torch.zeros_like(new[0]) if known is None else known)
        return torch.cat(context)

    def advance(self, n_new: int) -> None:
        """Count positions as read, once every layer has written them."""
        for row in self.rows:
            if row is not None:
                row.advance(n_new)


class PackedSequences:
    """Several texts in one row of a batch, each read as if it were alone.

        row          the owl hid <|end|> it flew <|end|>     lengths 4, 3
        positions    0   1   2   3       0  1    2           from 0 in each text
        attention    └─────────────────┘ └───────────────┘   none between them

    Everything else a model does, it does to each token separately. The scores between
    texts are not masked: they are never computed.

    Args:
        lengths: Lengths of the texts, in tokens.

    Source: Krell et al. (2021), "Efficient sequence packing without
    cross-contamination".

    >>> packed = PackedSequences([3, 2])
    >>> packed.positions(5, context_length=8)
    tensor([0, 1, 2, 0, 1])
    >>> values = torch.tensor([[[[1.0], [3], [8], [2], [4]]]])
    >>> means = lambda q, k, v: v.mean(dim=-2, keepdim=True).expand_as(v)
    >>> packed.attend(means, 0, values, values, values).flatten()
    tensor([4., 4., 4., 3., 3.])
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)

    def positions(self, n_new: int, context_length: int) -> Int[Tensor, "position"]:
        """Return the position of each token in its text.

        Raises:
            ValueError: If a text is empty or longer than `context_length`, or if the
                texts do not fill the row.
        """
        if min(self.lengths, default=0) < 1 or sum(self.lengths) != n_new:
            raise ValueError(
                f"lengths must be positive and add up to the {n_new} positions of a "
                f"row, got {self.lengths}"
            )
        check_fits(max(self.lengths), 0, context_length)
        return torch.cat([torch.arange(length) for length in self.lengths])

    def attend(
        self, attend: Attend, layer: int, query: Tensor, key: Tensor, value: Tensor
    ) -> Float[Tensor, "batch head query d_head"]:
        """Return the context, computed separately for each text."""
        apart = [torch.split(x, self.lengths, dim=-2) for x in (query, key, value)]
        return torch.cat([attend(*text) for text in zip(*apart, strict=True)], dim=-2)

    def advance(self, n_new: int) -> None:
        """Do nothing: a packed row is read in one pass."""


# Says which positions a row's tokens have, and what they look at.
Cache: TypeAlias = KVCache | RaggedCache | PackedSequences


class GroupedQueryAttention(nn.Module):
    r"""Causal self-attention in which several query heads share one key-value head.

        query heads      0   1   2   3
                          \ /     \ /
        key-value heads    0       1         n_heads 4, n_kv_heads 2

    With as many key-value heads as query heads this is multi-head attention. Fewer
    make the key-value cache smaller by the same factor; a single one gives multi-query
    attention. `attend` can be replaced, see `long_context`.

    Args:
        d_model: Width of the vectors, a multiple of `n_heads`.
        n_heads: Query heads, a multiple of `n_kv_heads`.
        n_kv_heads: Key-value heads.
        bias: Whether the four projections add a bias, as in GPT-2 but not in Llama.
        qkv_bias: Whether the query, key and value projections do, as in Qwen2.
        d_head: Width of a head; None divides `d_model` among the heads.
        head_norm: Given the width of a head, returns the norm that is applied to each
            head's query and key before RoPE, as in Qwen3; None: no norm.

    Source: Ainslie et al. (2023), "GQA"; Vaswani et al. (2017), section 3.2.2; Henry et
    al. (2020), "Query-key normalization for transformers".
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int,
        *,
        bias: bool = False,
        qkv_bias: bool = False,
        d_head: int | None = None,
        head_norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.d_head = d_model // n_heads if d_head is None else d_head
        self.attend: Attend = causal_attention
        biased = bias or qkv_bias
        self.query = nn.Linear(d_model, n_heads * self.d_head, bias=biased)
        self.key = nn.Linear(d_model, n_kv_heads * self.d_head, bias=biased)
        self.value = nn.Linear(d_model, n_kv_heads * self.d_head, bias=biased)
        self.output = nn.Linear(n_heads * self.d_head, d_model, bias=bias)
        self.query_norm = head_norm and head_norm(self.d_head)
        self.key_norm = head_norm and head_norm(self.d_head)

    def forward(
        self,
        x: Float[Tensor, "batch query d_model"],
        rotation: Rotation | None = None,
        cache: Cache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "batch query d_model"]:
        """Return what each position gathers from itself and the positions before it.

        Args:
            x: One vector per position.
            rotation: Cosine and sine of the positions' angles, see `rope_tables`; None
                without RoPE.
            cache: What else the positions look at; None: only at each other.
            layer: Index of this layer in the cache.
        """
        heads = (*x.shape[:2], -1, self.d_head)
        query, key, value = (
            projection(x).view(heads).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )  # (B, H, T, d_head), (B, K, T, d_head) twice
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        if rotation is not None:
            # Queries and keys turn alike: turning them together halves the calls.
            turned = apply_rope(torch.cat((query, key), dim=1), *rotation)
            query, key = torch.split(turned, [query.shape[1], key.shape[1]], dim=1)
        if cache is None:
            context = self.attend(query, key, value)  # (B, H, T, d_head)
        else:
            context = cache.attend(self.attend, layer, query, key, value)
        update: Tensor = self.output(context.transpose(1, 2).flatten(-2))
        return update


@torch.no_grad()
def attention_weights(
    model: nn.Module, ids: Int[Tensor, "*batch query"]
) -> Float[Tensor, "layer *batch head query key"]:
    """Return how much each head of each layer looks at each position, as fractions.

    Each row sums to one; a position gives no weight to later ones.

    The model runs once as usual. The weights, which the fast paths never hold, are
    computed alongside by `naive_attention`.

    Args:
        model: A `Transformer`; not changed.
        ids: One sequence of tokens, or a batch of them.

    Raises:
        ValueError: If there are no ids, if the model cannot read them, or if its
            attention is not full, see `long_context`.

    >>> from llmcourse.model.transformer import TINY, Transformer
    >>> model = Transformer(TINY)
    >>> attention_weights(model, torch.tensor([5, 0, 3])).shape  # 2 layers, 4 heads
    torch.Size([2, 4, 3, 3])
    """
    check_range(1, n_ids=ids.numel())
    check_full_attention(model)
    layers = [m for m in model.modules() if isinstance(m, GroupedQueryAttention)]
    each: list[Tensor] = []  # (B, H, T, T) for each layer

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend as the model does, and record the weights."""
        keys = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        mask = causal_mask(query.shape[2], key.shape[2]).to(query.device)
        each.append(naive_attention(query, keys, keys, mask)[1])
        return causal_attention(query, key, value)

    for layer in layers:
        layer.attend = attend
    try:
        model(ids.reshape(-1, ids.shape[-1]))
    finally:
        for layer in layers:
            layer.attend = causal_attention
    weights = torch.stack(each)  # (L, B, H, T, T)
    return weights.reshape(len(weights), *ids.shape[:-1], *weights.shape[2:])
