"""What goes on inside a transformer while it reads.

    ids ── embedding ──●── block 1 ──●── block 2 ──●── norm ── logits
                       └───── hidden_states: the residual stream

Nothing in the model is changed: it runs once as it always does, and hooks note what
the blocks and their attention layers read. The attention weights, which the fast
paths never hold, are then computed again by `naive_attention`.

A text as one vector: what a language model makes of it, averaged.

    ids ── model ── a vector for each position ── mean ── length 1

The vectors are those from which the next token would be predicted, so texts whose
continuations are alike lie close to each other.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from llmcourse.model.attention import (
    GroupedQueryAttention,
    causal_attention,
    causal_mask,
    naive_attention,
)
from llmcourse.model.positions import apply_rope
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
    with _inputs_of([*model.blocks, model.norm]) as inputs:
        model(ids.reshape(-1, ids.shape[-1]))
    stream = torch.stack([arguments[0] for arguments in inputs])  # (L + 1, B, T, D)
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
            is of another kind than full, see `long_context`, or of another class.

    >>> from llmcourse.model.transformer import TINY
    >>> model = Transformer(TINY)
    >>> attention_weights(model, torch.tensor([5, 0, 3])).shape  # 2 layers, 4 heads
    torch.Size([2, 4, 3, 3])
    """
    layers = [m for m in model.modules() if isinstance(m, GroupedQueryAttention)]
    full = [
        type(layer) is GroupedQueryAttention and layer.attend is causal_attention
        for layer in layers
    ]
    if not all(full) or len(full) != model.config.n_layers:
        raise ValueError("weights are known of full attention only, got another kind")
    with _inputs_of(layers) as inputs:
        model(ids.reshape(-1, ids.shape[-1]))
    each = zip(layers, inputs, strict=True)
    weights = torch.stack([_weights(layer, *read[:3]) for layer, read in each])
    # (L, B, H, T, T)
    return weights.reshape(len(weights), *ids.shape[:-1], *weights.shape[2:])


def _weights(
    layer: GroupedQueryAttention,
    x: Float[Tensor, "batch query d_model"],
    cos: Tensor | None,
    sin: Tensor | None,
) -> Float[Tensor, "batch head query key"]:
    """Return the weights of one layer, from what it read."""
    query, key, value = (
        projection(x).unflatten(-1, (-1, layer.d_head)).transpose(1, 2)
        for projection in (layer.query, layer.key, layer.value)
    )  # (B, H, T, d_head), (B, K, T, d_head) twice
    if cos is not None and sin is not None:
        query, key = apply_rope(query, cos, sin), apply_rope(key, cos, sin)
    groups = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(groups, dim=1) for each in (key, value))
    mask = causal_mask(x.shape[1], x.shape[1]).to(x.device)
    return naive_attention(query, key, value, mask)[1]


@contextmanager
def _inputs_of(modules: Sequence[nn.Module]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield a list that each module, when it runs, appends its arguments to."""
    inputs: list[tuple[Any, ...]] = []

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        inputs.append(arguments)

    hooks = [module.register_forward_pre_hook(note) for module in modules]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def text_vector(model: Transformer, ids: list[int]) -> Float[Tensor, "d_model"]:
    """Return the vector of a text, of length 1 (no unit).

    Args:
        model: Reads the text.
        ids: Of the text.

    Raises:
        ValueError: If there are no ids, or as the model.

    >>> from llmcourse.model.transformer import TINY
    >>> round(text_vector(Transformer(TINY), [4, 8, 15]).norm().item(), 5)
    1.0
    """
    if not ids:
        raise ValueError("a text needs at least one token to be a vector, got none")
    stream = hidden_states(model, torch.tensor(ids))[-1]  # (T, D)
    last: Tensor = model.norm(stream)
    return normalize(last.mean(dim=0), dim=0)
