"""The same transformer, set up for writing: few large products, not many small ones.

While a model writes, it reads one token at a time, so every matrix is multiplied by
just one vector. The arithmetic is quick; what takes time is fetching the matrices and
calling so many small operations. `FusedDecoder` keeps copies of the weights that make
both cheaper, and computes what `Transformer` computes, up to rounding:

    query, key, value   one matrix instead of three; the same for gate and up
    norms               their weights are multiplied into the matrix that follows; what
                        they and biases add becomes one vector, added after it
    positions           one table for whole heads instead of one for their halves
    order in memory     by input, not by output: about half the time for one vector
    logits              only those of the last position

Nothing here is needed to understand a transformer, and none of it is ever saved.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, rms_norm, silu

from llmcourse.model.attention import GroupedQueryAttention, KVCache, causal_attention
from llmcourse.model.positions import RotaryEmbedding, Rotation
from llmcourse.model.transformer import (
    Block,
    GELUNetwork,
    LayerNorm,
    RMSNorm,
    SwiGLU,
    Transformer,
)

_PARTS = {Transformer, Block, GroupedQueryAttention, SwiGLU, RMSNorm, RotaryEmbedding}
_PARTS |= {GELUNetwork, LayerNorm, nn.Linear, nn.Embedding, nn.ModuleList}
_MOST_WEIGHTS = 2**28  # copies of so many take a GB


def can_fuse(model: nn.Module) -> bool:
    """Return whether a `FusedDecoder` of this model computes what the model computes.

    The model must be in float32 or float64 on the CPU, with every part exactly as in
    this package: no adapters, no quantized matrices, no other kind of attention, and no
    hooks, which would not be called. Nor may it be so large that copying its matrices
    would take seconds, and more than a GB of memory on top of the model's own.
    """
    return (
        type(model) is Transformer
        and all(_is_plain(part) for part in model.modules())
        and sum(weight.numel() for weight in model.parameters()) <= _MOST_WEIGHTS
        and all(
            weight.dtype in (torch.float32, torch.float64)
            and weight.device.type == "cpu"
            for weight in model.parameters()
        )
    )


def _is_plain(part: nn.Module) -> bool:
    return (
        type(part) in _PARTS
        and "forward" not in vars(part)
        and getattr(part, "attend", causal_attention) is causal_attention
        and not part._forward_hooks
        and not part._forward_pre_hooks
    )


class FusedDecoder:
    """Read on from where a key-value cache ends, with the model's current weights.

    Most weights are copied, so the decoder is out of date once they change. Setting it
    up takes as long as a few tokens (ten for a model with 0.1 billion weights, whose
    tokens then take two thirds of the time).

    Raises:
        ValueError: If `can_fuse` is False.

    >>> from llmcourse.model.transformer import TINY
    >>> model = Transformer(TINY)
    >>> decoder, cache = FusedDecoder(model), model.new_cache()
    >>> decoder(torch.tensor([[5, 0, 3]]), cache).shape  # of the last position only
    torch.Size([1, 1, 512])
    """

    def __init__(self, model: Transformer) -> None:
        if not can_fuse(model):
            raise ValueError("FusedDecoder needs a model that `can_fuse` accepts")
        self.model = model
        self.blocks = [_FusedBlock(block) for block in model.blocks]
        self.score = _Fused(model.norm, model.unembedding or model.embedding)

    @torch.no_grad()
    def __call__(
        self, ids: Int[Tensor, "batch query"], cache: KVCache
    ) -> Float[Tensor, "batch 1 vocab"]:
        """Return the next token's logits after the last position (no unit).

        Args:
            ids: The tokens that the cache has not seen; each within the vocabulary.
            cache: Keys and values of all earlier positions; extended in place.

        Raises:
            ValueError: If there are no ids, or if cached and new ones together exceed
                `context_length`.
        """
        n_new = ids.shape[1]
        model, rotation = self.model, None
        positions = cache.positions(n_new, model.config.context_length)
        x = model.embedding(ids)  # (B, T, D)
        if model.positions is not None:
            x = x + model.positions.weight[positions]
        if model.rotary is not None:
            cos, sin = (table.to(x.dtype) for table in model.rotary(positions))
            rotation = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
        for layer, block in enumerate(self.blocks):
            x = block(x, rotation, cache, layer)
        cache.advance(n_new)
        return self.score(x[:, -1:])


class _FusedBlock:
    """A `Block` in which matrices with the same input are merged."""

    def __init__(self, block: Any) -> None:
        attention, network = block.attention, block.feed_forward
        self.d_head = attention.d_head
        self.n_kv_heads = attention.key.out_features // attention.d_head
        self.query_key_value = _Fused(
            block.attention_norm, attention.query, attention.key, attention.value
        )
        self.qk_norm: Tensor | None = None  # weights, by head
        if attention.query_norm is not None:
            n_heads = attention.query.out_features // self.d_head
            query_norm = attention.query_norm.weight.expand(n_heads, -1)
            key_norm = attention.key_norm.weight.expand(self.n_kv_heads, -1)
            self.qk_norm = torch.cat((query_norm, key_norm)).detach()[:, None]
            self.eps = attention.query_norm.eps
        self.output = _Fused(None, attention.output)
        self.is_gated = isinstance(network, SwiGLU)
        wide = (network.gate, network.up) if self.is_gated else (network.up,)
        self.up = _Fused(block.feed_forward_norm, *wide)
        self.down = _Fused(None, network.down, copied=False)

    def __call__(
        self, x: Tensor, rotation: Rotation | None, cache: KVCache, layer: int
    ) -> Tensor:
        fused = self.query_key_value(x)
        heads = fused.view(*x.shape[:2], -1, self.d_head).transpose(1, 2)
        turned, value = heads[:, : -self.n_kv_heads], heads[:, -self.n_kv_heads :]
        if self.qk_norm is not None:
            turned = rms_norm(turned, (self.d_head,), eps=self.eps) * self.qk_norm
        if rotation is not None:  # as in `apply_rope`, with tables for both halves
            cos, sin = rotation
            other_half = turned.roll(self.d_head // 2, -1)
            turned = torch.addcmul(turned * cos, other_half, sin)
        query, key = turned[:, : -self.n_kv_heads], turned[:, -self.n_kv_heads :]
        context = cache.attend(causal_attention, layer, query, key, value)
        x = x + self.output(context.transpose(1, 2).flatten(-2))
        wide = self.up(x)
        if not self.is_gated:
            return x + self.down(gelu(wide, approximate="tanh"))
        gate, up = wide.chunk(2, dim=-1)
        return x + self.down(silu(gate) * up)


class _Fused:
    """Matrices with the same input, merged with the norm before them, stored by input.

    With the norm's weight w and bias a, the matrices M and their biases b:

        M (w · n(x) + a) + b  =  (M w) n(x) + (M a + b)

    where n(x) is the norm without weights. For an `RMSNorm`, M w is also multiplied by
    √D, and n(x) is

        x / √(|x|² + D ε)

    Args:
        norm: Applied to the vectors first; None: nothing.
        layers: Have the matrices, (outputs, inputs), and perhaps biases.
        copied: Whether to copy the matrix, by input; if not, a single layer's is used.
    """

    def __init__(self, norm: Any, *layers: Any, copied: bool = True) -> None:
        self.norm = norm
        with torch.no_grad():
            weights = [layer.weight for layer in layers]
            matrix = torch.cat(weights) if copied else weights[0]
            added = torch.cat([_bias(layer) for layer in layers])
            if isinstance(norm, LayerNorm):
                added = added + matrix @ norm.bias
                matrix = matrix * norm.weight
            elif norm is not None:
                width = len(norm.weight)
                matrix = matrix * (norm.weight * math.sqrt(width))
                self.floor = (norm.weight.new_tensor(width) * norm.eps).sqrt()
            self.added = added if added.any() else None
            by_input = matrix.detach().t()  # (inputs, outputs)
            self.matrix = by_input.contiguous() if copied else by_input

    def __call__(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch n"]:
        """Return the products with all matrices, concatenated."""
        if isinstance(self.norm, LayerNorm):
            x = layer_norm(x, x.shape[-1:], eps=self.norm.eps)
        elif self.norm is not None:
            length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            x = x / torch.hypot(length, self.floor)
        product = x @ self.matrix
        return product if self.added is None else product.add_(self.added)


def _bias(layer: Any) -> Float[Tensor, "outputs"]:
    bias: Tensor | None = getattr(layer, "bias", None)
    zeros: Tensor = layer.weight.new_zeros(len(layer.weight))
    return zeros if bias is None else bias
