"""What goes on inside a transformer while it reads.

    ids ── embedding ──●── block 1 ──●── block 2 ──●── norm ── logits
                       └───── hidden_states: the residual stream

The model runs once as it always does, and is as before: hooks note what the blocks
read. The attention weights, which the fast paths never hold, are computed beside them
by `naive_attention`.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmcourse.model.attention import (
    GroupedQueryAttention,
    causal_attention,
    causal_mask,
    naive_attention,
)
from llmcourse.model.transformer import Transformer


@torch.no_grad()
def hidden_states(
    model: Transformer, ids: Int[Tensor, "*batch query"]
) -> Float[Tensor, "layer_plus_one *batch query d_model"]:
    """Return the residual stream before each block and after the last, without unit.

    The first is what the embedding gives, learned positions included; the last,
    normalised and multiplied with the unembedding, gives the logits.

    Args:
        model: Is not changed.
        ids: One sequence of tokens, or a batch of them.

    Raises:
        ValueError: As the model does, for ids that it cannot read.

    >>> from llmcourse.model.transformer import TINY
    >>> model = Transformer(TINY)
    >>> hidden_states(model, torch.tensor([5, 0, 3])).shape  # of 2 blocks
    torch.Size([3, 3, 64])
    """
    read: list[Tensor] = []

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        read.append(arguments[0])

    parts = [*model.blocks, model.norm]
    hooks = [part.register_forward_pre_hook(note) for part in parts]
    try:
        model(ids.reshape(-1, ids.shape[-1]))
    finally:
        for hook in hooks:
            hook.remove()
    stream = torch.stack(read)  # (L + 1, B, T, D)
    return stream.reshape(len(stream), *ids.shape, -1)


@torch.no_grad()
def attention_weights(
    model: Transformer, ids: Int[Tensor, "*batch query"]
) -> Float[Tensor, "layer *batch head query key"]:
    """Return how much each head of each layer looks at each position, as fractions.

    Rows sum to one; a position gives nothing to those after it.

    Args:
        model: Is not changed.
        ids: One sequence of tokens, or a batch of them.

    Raises:
        ValueError: As the model does, for ids that it cannot read; or if its attention
            is of another kind than full, see `long_context`.

    >>> from llmcourse.model.transformer import TINY
    >>> model = Transformer(TINY)
    >>> attention_weights(model, torch.tensor([5, 0, 3])).shape  # 2 layers, 4 heads
    torch.Size([2, 4, 3, 3])
    """
    layers = [m for m in model.modules() if isinstance(m, GroupedQueryAttention)]
    if not all(layer.attend is causal_attention for layer in layers):
        raise ValueError("weights are known of full attention only, got another kind")
    each: list[Tensor] = []  # (B, H, T, T) for each layer

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend as the model does, and note the weights."""
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
