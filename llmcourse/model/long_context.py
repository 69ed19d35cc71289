"""Longer texts for a transformer: other kinds of attention, longer contexts.

    full      softmax over all earlier positions          time grows with length²
    window    softmax over the last few                   with length
    linear    features instead of the softmax, one state  with length

None of them has weights of its own, so models of all kinds have the same parameters:
only what a position can reach differs. `chunked_attention` is full attention that
holds one block of scores at a time. `extend_context` gives a model with RoPE a longer
context.

Window: each query sees itself and the `window` - 1 positions before it. What a position
has gathered is gathered again in the next layer, so L layers together reach back over
L · (window - 1) positions.

    window 3       keys
    queries    ■ · · · · ·
               ■ ■ · · · ·
               ■ ■ ■ · · ·
               · ■ ■ ■ · ·
               · · ■ ■ ■ ·
               · · · ■ ■ ■

Linear: with features φ the sum over keys can be taken before the query is known. The
brackets are the state; appending a one to every value turns the two sums into one.

    context  =  Σ (φ(q) · φ(k)) v  /  Σ φ(q) · φ(k)
             =  φ(q) · [Σ φ(k) vᵀ]  /  φ(q) · [Σ φ(k)]

Chunked: a softmax needs the sum over all keys before it can divide, but the division
can wait. If a later block has a larger score, the sums so far shrink by one factor:
this is the online softmax. Torch's fused kernel does the same in a compiled loop, and
its gradient needs no more memory either: it recomputes each block of scores.

    keys        block 1      block 2      block 3
    queries   ┌──────────┐
    block 1   │ ▙        │               three things are kept for each row: the largest
              ├──────────┼──────────┐    score so far, the sum of exponentials, and the
    block 2   │          │ ▙        │    sum of values weighted by them
              └──────────┴──────────┘

Source: Child et al. (2019), "Generating long sequences with sparse transformers", and
Jiang et al. (2023), "Mistral 7B", section 2 (window and rolling cache); Katharopoulos
et al. (2020), "Transformers are RNNs", section 3 (linear); Milakov and Gimelshein
(2018), "Online normalizer calculation for softmax", and Dao et al. (2022),
"FlashAttention", algorithm 1 (chunked).
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from llmcourse.arguments import check_one_of, check_range
from llmcourse.model.attention import (
    Attend,
    GroupedQueryAttention,
    KVCache,
    causal_attention,
    causal_mask,
    group_size,
)
from llmcourse.model.positions import RopeScaling, ntk_base
from llmcourse.model.transformer import Transformer, new_rotary


def elu_features(
    x: Float[Tensor, "*batch d_head"],
) -> Float[Tensor, "*batch d_head"]:
    """Return x + 1 where x is positive, and exp(x) elsewhere: never below 0.

    Source: Katharopoulos et al. (2020), equation 7.

    >>> elu_features(torch.tensor([2.0, 0.0, -1.0]))
    tensor([3.0000, 1.0000, 0.3679])
    """
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def linear_attention(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_value"],
    block: int = 64,
) -> Float[Tensor, "batch head query d_value"]:
    """Return the causal context vectors, in time and memory linear in the length.

    Inside a block all pairs are compared; everything before it comes from the state.
    A block as long as the text gives the fully parallel form. The queries belong to
    the last of the keys' positions.

    Args:
        query: What each position looks for.
        key: What each position is found by.
        value: What each position hands over.
        block: Positions that are compared with each other; the last block may have
            fewer.

    Raises:
        ValueError: If there are more queries than keys, if the key-value heads do not
            divide the query heads, or if `block` is below 1.
    """
    _check_block(query, key, block)
    n_queries, length = query.shape[2], key.shape[2]
    block = min(block, length)
    query = pad(query, (0, 0, length - n_queries, 0))  # earlier ones do not ask
    asked, found, handed = _prepare(query, key, value)
    empty = -length % block  # positions that fill up the last block
    asked, found, handed = (
        torch.unflatten(pad(x, (0, 0, 0, empty)), 2, (-1, block))
        for x in (asked, found, handed)
    )  # (B, H, N, C, F or d + 1)
    weights = (asked @ found.transpose(-2, -1)).tril()  # (B, H, N, C, C)
    added = found.transpose(-2, -1) @ handed  # to the state, by each block
    # Before each block, (B, H, N, F, d + 1): what a block itself adds is not included.
    state = pad(added, (0, 0, 0, 0, 1, 0))[:, :, :-1].cumsum(dim=2)
    mixture = (weights @ handed + asked @ state).flatten(2, 3)[
        :, :, length - n_queries : length
    ]
    return (mixture[..., :-1] / mixture[..., -1:]).to(value.dtype)


class LinearState:
    """What linear attention remembers of all positions read so far.

    Its size does not depend on how many there are.

    >>> state = LinearState()
    >>> one = torch.ones(1, 1, 4)
    >>> state.read(one, one, 3 * one)  # the first position sees only itself
    tensor([[[3., 3., 3., 3.]]])
    >>> state.read(one, one, 5 * one)
    tensor([[[4., 4., 4., 4.]]])
    >>> state.n_bytes  # 4 features · (4 coordinates and a sum) · 4 bytes
    80
    """

    def __init__(self) -> None:
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
            query[:, :, None], key[:, :, None], value[:, :, None]
        )
        added = found.transpose(-2, -1) @ handed
        self.table = added if self.table is None else self.table + added
        mixture = (asked @ self.table)[:, :, 0]
        return (mixture[..., :-1] / mixture[..., -1:]).to(value.dtype)


def _prepare(
    query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the features of query and key, and values followed by a one.

    Keys and values are repeated for the query heads that share them.
    """
    # In a type with few digits, a sum of thousands would stop growing, or overflow.
    wide = torch.promote_types(value.dtype, torch.float32)
    query, key, value = query.to(wide), key.to(wide), value.to(wide)
    found, handed = elu_features(key), pad(value, (0, 1), value=1.0)
    if (group := group_size(query, key)) > 1:
        found, handed = (x.repeat_interleave(group, dim=1) for x in (found, handed))
    return elu_features(query), found, handed


def _check_block(query: Tensor, key: Tensor, block: int) -> None:
    check_range(1, key.shape[2], n_queries=query.shape[2])
    check_range(1, block=block)


def sliding_window_mask(
    n_queries: int, n_keys: int, window: int
) -> Bool[Tensor, "query key"]:
    """Return True where a query may look: at the last `window` keys, itself included.

    The queries belong to the last of the keys' positions.

    Raises:
        ValueError: If there are no queries, or more queries than keys, or if the
            window is below 1.

    >>> sliding_window_mask(3, 4, window=2).int()
    tensor([[1, 1, 0, 0],
            [0, 1, 1, 0],
            [0, 0, 1, 1]], dtype=torch.int32)
    """
    check_range(1, window=window)
    return causal_mask(n_queries, n_keys).triu(n_keys - n_queries - window + 1)


def sliding_window_attention(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_value"],
    window: int,
) -> Float[Tensor, "batch head query d_value"]:
    """Return the context vectors, each from the last `window` positions.

    A whole text is cut into blocks of the window's width: a query sees keys of its own
    block and of the one before, so 2 · window scores are computed for each, and half
    of them are masked. The queries belong to the last of the keys' positions.

    Args:
        query: What each position looks for.
        key: What each position is found by.
        value: What each position hands over.
        window: Positions that a query sees, itself included.

    Raises:
        ValueError: If there are more queries than keys, if the key-value heads do not
            divide the query heads, or if the window is below 1.
    """
    check_range(1, window=window)
    group = group_size(query, key)
    n_queries, n_keys = query.shape[2], key.shape[2]
    if n_queries != n_keys or window >= n_keys:
        mask = sliding_window_mask(n_queries, n_keys, window).to(query.device)
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, enable_gqa=group > 1
        )
    if group > 1:
        key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    return _banded(query, key, value, window)


def _banded(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """Return the context of a whole text, all blocks in parallel."""
    length, d_head = query.shape[2:]
    empty = -length % window
    # The query is divided, not the product, which can be too large for float16.
    asked = pad(query / math.sqrt(d_head), (0, 0, 0, empty))
    asked = torch.unflatten(asked, 2, (-1, window))
    found, handed = (_with_block_before(x, window, empty) for x in (key, value))
    scores = asked @ found.transpose(-2, -1)  # (B, H, N, W, 2 W)
    seen = sliding_window_mask(window, 2 * window, window)
    seen = seen.repeat(scores.shape[2], 1, 1)
    seen[0, :, :window] = False  # before the first block there is nothing
    weights = scores.masked_fill(~seen.to(scores.device), float("-inf")).softmax(dim=-1)
    context: Tensor = (weights @ handed).flatten(2, 3)[:, :, :length]
    return context


def _with_block_before(x: Tensor, window: int, empty: int) -> Tensor:
    """Return each block of positions with the one before it, (B, H, N, 2 W, d)."""
    blocks = torch.unflatten(pad(x, (0, 0, window, empty)), 2, (-1, window))
    return torch.cat((blocks[:, :, :-1], blocks[:, :, 1:]), dim=3)


class WindowCache(KVCache):
    """Keys and values of the last `capacity` positions; older ones are dropped.

    Memory is allocated once and does not grow, however much is read. For a model whose
    attention is a sliding window of this width, the results stay the same.

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

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the newest positions; return all that the new ones may look at.

        These are the kept and the new ones, which can be more than will be kept.
        """
        kept = min(self.length, self.capacity)
        found = []
        for store, new in ((self.keys[layer], key), (self.values[layer], value)):
            rows = torch.cat((store[:, :, :kept], new.to(store.dtype)), dim=2)
            newest = rows[:, :, -self.capacity :]
            store[:, :, : newest.shape[2]] = newest
            found.append(rows)
        oldest = max(0, kept + 1 - self.capacity)  # seen by the first new one
        return found[0][:, :, oldest:], found[1][:, :, oldest:]


# For each kind, a function that returns its attention for a window of this width.
ATTENTION_KINDS: Mapping[str, Callable[[int], Attend]] = {
    "full": lambda window: causal_attention,
    "window": lambda window: partial(sliding_window_attention, window=window),
    "linear": lambda window: linear_attention,
}


def set_attention(model: Transformer, kind: str, window: int = 32) -> None:
    """Give all layers of a model this kind of attention; change it in place.

    `save_pretrained` refuses all kinds but "full": Hugging Face's format has no word
    for them, and the model would be read back as full. With a key-value cache, all
    kinds give the same results as without one; but linear attention does not need it,
    since a `LinearState` could replace it.

    Args:
        model: Keeps its weights.
        kind: One of `ATTENTION_KINDS`.
        window: Positions that a query sees, itself included, if the kind is "window".

    Raises:
        ValueError: If there is no such kind, or if the window is below 1.

    >>> from llmcourse.model.transformer import TINY
    >>> model = Transformer(TINY)
    >>> set_attention(model, "window", window=1)  # each position sees only itself
    >>> import torch
    >>> first, second = (model(torch.tensor([[t, 5]]))[0, 1] for t in (3, 4))
    >>> torch.equal(first, second)
    True
    """
    check_range(1, window=window)
    check_one_of("kind", kind, ATTENTION_KINDS)
    for layer in model.modules():
        if isinstance(layer, GroupedQueryAttention):
            layer.attend = ATTENTION_KINDS[kind](window)


def chunked_attention(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_value"],
    block: int = 128,
) -> Float[Tensor, "batch head query d_value"]:
    """Return causal attention's context vectors, from one block of scores at a time.

    The queries belong to the last of the keys' positions. If there are fewer key-value
    heads than query heads, each serves several neighbouring query heads.

    Args:
        query: What each position looks for.
        key: What each position is found by.
        value: What each position hands over.
        block: Rows and columns of scores that are held at once, in positions.

    Raises:
        ValueError: If there are more queries than keys, if the key-value heads do not
            divide the query heads, or if `block` is below 1.
    """
    _check_block(query, key, block)
    group_size(query, key)
    n_queries, n_keys = query.shape[2], key.shape[2]
    ahead = n_keys - n_queries  # position of the first query
    wide = torch.promote_types(query.dtype, torch.float32)  # for sums of thousands
    scaled = query / math.sqrt(query.shape[-1])
    scaled = torch.unflatten(scaled, 1, (key.shape[1], -1))  # (B, K, G, T, d)
    context = query.new_empty((*scaled.shape[:-1], value.shape[-1]))
    for top in range(0, n_queries, block):
        rows = slice(top, min(top + block, n_queries))
        places = torch.arange(rows.start, rows.stop) + ahead
        asked = scaled[..., rows, :]  # (B, K, G, R, d)
        largest = torch.full_like(asked[..., :1], -math.inf, dtype=wide)
        total = torch.zeros_like(largest)
        mixture = torch.zeros_like(context[..., rows, :], dtype=wide)
        for left in range(0, ahead + rows.stop, block):
            columns = slice(left, min(left + block, n_keys))
            scores = _mixed(asked, key[:, :, columns].transpose(-2, -1)).to(wide)
            hidden = torch.arange(columns.start, columns.stop) > places[:, None]
            if hidden.any():
                scores.masked_fill_(hidden.to(scores.device), -math.inf)
            before = largest
            largest = largest.maximum(scores.amax(-1, keepdim=True))
            weights = (scores - largest).exp()  # not yet divided by their sum
            shrink = (before - largest).exp()
            total = total * shrink + weights.sum(-1, keepdim=True)
            mixed = _mixed(weights.to(value.dtype), value[:, :, columns])
            mixture = mixture * shrink + mixed
        context[..., rows, :] = mixture / total
    return context.flatten(1, 2)


def _mixed(weights: Tensor, value: Tensor) -> Tensor:
    """Return weights (B, K, G, R, C) times values (B, K, C, d), one product per K."""
    return torch.unflatten(weights.flatten(2, 3) @ value, 2, tuple(weights.shape[2:4]))


METHODS = ("none", "linear", "ntk", "yarn")


def extend_context(
    model: Transformer,
    context_length: int,
    method: str = "none",
    *,
    trained_length: int | None = None,
) -> Transformer:
    """Return a copy of a model that reads longer texts.

    Args:
        model: A model with RoPE; not changed.
        context_length: The copy's context length, in tokens.
        method: "none" leaves the angles as they are; "linear", "ntk" and "yarn" slow
            them down by `context_length` over `trained_length`.
        trained_length: Tokens that the model saw at once in training; None takes its
            present `context_length`.

    Raises:
        ValueError: If there is no such method, if the model has no RoPE, if its RoPE is
            already scaled, or if the context would not be longer than in training.

    >>> from llmcourse.model.transformer import TINY
    >>> longer = extend_context(Transformer(TINY), 256, "linear")
    >>> longer(torch.zeros(1, 200, dtype=torch.long)).shape
    torch.Size([1, 200, 512])
    """
    config = model.config
    trained = config.context_length if trained_length is None else trained_length
    check_one_of("method", method, METHODS)
    if config.position_encoding != "rope" or config.rope_scaling is not None:
        raise ValueError(
            "only a model with RoPE that is not scaled yet can be extended, got "
            f"{config.position_encoding} with {config.rope_scaling}"
        )
    check_range(1, trained_length=trained)
    check_range(trained + 1, context_length=context_length)
    factor = context_length / trained
    base, scaling = config.rope_base, None
    if method == "ntk":
        base = ntk_base(base, config.d_head, factor)
    elif method == "linear":
        scaling = RopeScaling(kind="linear", factor=factor)
    elif method == "yarn":
        scaling = RopeScaling(kind="yarn", factor=factor, original_length=trained)
    longer = copy.deepcopy(model)
    longer.config = replace(
        config, context_length=context_length, rope_base=base, rope_scaling=scaling
    )
    longer.rotary = new_rotary(longer.config)
    return longer.to(model.embedding.weight.device)
