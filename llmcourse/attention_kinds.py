"""One transformer, three ways to look back: give a model another kind of attention.

    full      softmax over all positions before              what a model is made with
    window    softmax over the last few                      see `sliding_window`
    linear    features instead of the softmax, a fixed state see `linear_attention`

None of them has weights of its own, so models of all kinds have the same parameters,
and their number: what differs is what a position can reach.
"""

from collections.abc import Sequence
from functools import partial

from llmcourse.attention import (
    GroupedQueryAttention,
    KVCache,
    causal_attention,
)
from llmcourse.linear_attention import linear_attention
from llmcourse.side_by_side import Attend
from llmcourse.sliding_window import WindowCache, sliding_window_attention
from llmcourse.transformer import Transformer

KINDS: Sequence[str] = ("full", "window", "linear")


def set_attention(model: Transformer, kind: str, window: int = 32) -> None:
    """Let all layers of a model look back in this way; change it in place.

    A model of another kind than "full" is not saved by `save_pretrained`: the form of
    Hugging Face has no word for it, and would read it back as a full one. With a
    key-value cache all kinds give what they give without; but linear attention has no
    use for one, whose memory could be a `LinearState`.

    Args:
        model: Keeps its weights.
        kind: One of `KINDS`.
        window: Positions that a query sees, itself included, if the kind is "window".

    Raises:
        ValueError: If there is no such kind, or if the window is below 1.

    >>> from llmcourse.transformer import TINY
    >>> model = Transformer(TINY)
    >>> set_attention(model, "window", window=1)  # each position sees only itself
    >>> import torch
    >>> first, second = (model(torch.tensor([[t, 5]]))[0, 1] for t in (3, 4))
    >>> torch.equal(first, second)
    True
    """
    if window < 1:
        raise ValueError(f"window must be at least 1 position, got {window}")
    ways: dict[str, Attend] = {
        "full": causal_attention,
        "window": partial(sliding_window_attention, window=window),
        "linear": linear_attention,
    }
    if kind not in ways:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    for layer in model.modules():
        if isinstance(layer, GroupedQueryAttention):
            layer.attend = ways[kind]


def new_window_cache(model: Transformer, window: int, batch_size: int = 1) -> KVCache:
    """Return an empty cache that keeps the last positions only.

    Args:
        model: Whose keys and values it keeps.
        window: Positions that are kept.
        batch_size: Number of sequences that will be read side by side.

    Raises:
        ValueError: If a number is below 1.
    """
    config, weight = model.config, model.embedding.weight
    return WindowCache(
        n_layers=config.n_layers,
        batch_size=batch_size,
        n_kv_heads=config.n_kv_heads,
        capacity=window,
        d_head=config.d_head,
        dtype=weight.dtype,
        device=weight.device,
    )
