"""The same transformer, set up for writing: few large products, not many small ones.

While a model writes it reads one token at a time, so every matrix meets one vector.
The arithmetic is then over at once, and what takes the time is fetching the matrices
and calling so many small operations. `FusedDecoder` has copies of the weights for which
both cost less, and gives what `Transformer` gives, up to rounding:

    query, key, value   one matrix instead of three, like gate and up
    norms               their weights are multiplied into the matrix that follows; what
                        they and biases add becomes one vector, added after it
    positions           one table for whole heads in place of one for their halves
    order in memory     by input, not by output: about half the time for one vector
    logits              of the last position only

Nothing here is needed to understand a transformer, and nothing of it is ever saved.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, layer_norm, silu

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
_MOST_WEIGHTS = 2**28  # whose copies take a GB


def can_fuse(model: nn.Module) -> bool:
    """Return whether a `FusedDecoder` of this model gives what the model gives.

    It must be in full precision and on a processor, with every part exactly as in this
    package: no adapters, no quantized matrices, no other kind of attention, no norms of
    queries and keys, and no hooks, which would not be called. And it must not be so
    large that the copies of its matrices would take seconds, and more than a GB of
    memory besides the model's own.
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
        and getattr(part, "query_norm", None) is None
        and getattr(part, "attend", causal_attention) is causal_attention
        and not part._forward_hooks
        and not part._forward_pre_hooks
    )


class FusedDecoder:
    """Reads on where a key-value cache ends, with the weights that the model has now.

    Most of them are copied, so it must not be used any more once they have changed.
    Setting it up takes as long as a few tokens (ten, for a model of 0.1 billion
    weights, whose tokens then take two thirds of the time).

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
        self.config = model.config
        self.rotary, self.positions = model.rotary, model.positions
        self.embedding = model.embedding.weight.detach()
        self.blocks = [_FusedBlock(block) for block in model.blocks]
        self.score = _Fused(model.norm, model.unembedding or model.embedding)

    @torch.no_grad()
    def __call__(
        self, ids: Int[Tensor, "batch query"], cache: KVCache
    ) -> Float[Tensor, "batch 1 vocab"]:
        """Return the next token's logits after the last position, without unit.

        Args:
            ids: The tokens that the cache has not seen; each within the vocabulary.
            cache: Holds keys and values of all earlier positions; is extended.

        Raises:
            ValueError: If there are no ids or more, with those in the cache, than
                `context_length`.
        """
        n_new = ids.shape[1]
        positions = cache.positions(n_new, self.config.context_length)
        x, rotation = embedding(ids, self.embedding), None  # (B, T, D)
        if self.positions is not None:
            x = x + self.positions.weight[positions]
        if self.rotary is not None:
            cos, sin = (table.to(x.dtype) for table in self.rotary(positions))
            rotation = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
        for layer, block in enumerate(self.blocks):
            x = block(x, rotation, cache, layer)
        cache.advance(n_new)
        return self.score(x[:, -1:])


class _FusedBlock:
    """A `Block` in which matrices with the same input are one."""

    def __init__(self, block: nn.Module) -> None:
        assert isinstance(block, Block)
        attention, network = block.attention, block.feed_forward
        self.d_head = attention.d_head
        self.n_kv_heads = attention.key.out_features // attention.d_head
        self.query_key_value = _Fused(
            block.attention_norm, attention.query, attention.key, attention.value
        )
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
        if rotation is not None:
            turned = _turned(turned, *rotation)
        query, key = turned[:, : -self.n_kv_heads], turned[:, -self.n_kv_heads :]
        context = cache.attend(causal_attention, layer, query, key, value)
        x = x + self.output(context.transpose(1, 2).flatten(-2))
        wide = self.up(x)
        if not self.is_gated:
            return x + self.down(gelu(wide, approximate="tanh"))
        gate, up = wide.chunk(2, dim=-1)
        return x + self.down(silu(gate) * up)


class _Fused:
    """Matrices that read the same vectors as one, by input, with the norm before them.

    With the norm's weight w and what it adds, a, and with biases b, of matrices M

        M (w · n(x) + a) + b  =  (M w) n(x) + (M a + b)

    where n(x) has no weights. Of an `RMSNorm`, M w also gets √D, and n(x) is

        x / √(|x|² + D ε)

    Args:
        norm: What the vectors go through first; None: nothing.
        layers: They have the matrices, (outputs, inputs), and may have biases.
        copied: Whether the product is laid out anew; else it is the one layer's own.
    """

    def __init__(self, norm: Any, *layers: Any, copied: bool = True) -> None:
        with torch.no_grad():
            weights = [layer.weight for layer in layers]
            matrix = torch.cat(weights) if copied else weights[0]
            added = torch.cat([_bias(layer) for layer in layers])
            if isinstance(norm, LayerNorm):
                added = added + matrix @ norm.bias
                matrix = matrix * norm.weight
            elif norm is not None:
                matrix = matrix * (norm.weight * math.sqrt(len(norm.weight)))
            self.added = added if added.any() else None
            by_input = matrix.detach().t()  # (inputs, outputs)
            self.matrix = by_input.contiguous() if copied else by_input
        self.normed = _without_weights(norm)

    def __call__(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch n"]:
        """Return the products with all matrices, one after the other."""
        product = self.normed(x) @ self.matrix
        return product if self.added is None else product.add_(self.added)


def _bias(layer: Any) -> Float[Tensor, "outputs"]:
    bias: Tensor | None = getattr(layer, "bias", None)
    zeros: Tensor = layer.weight.new_zeros(len(layer.weight))
    return zeros if bias is None else bias


def _without_weights(norm: nn.Module | None) -> Callable[[Tensor], Tensor]:
    """Return what a norm does before its weights; see `_Fused` for the factor √D."""
    if isinstance(norm, LayerNorm):
        shape = norm.weight.shape
        return lambda x: layer_norm(x, shape, eps=norm.eps)
    if isinstance(norm, RMSNorm):
        floor = (norm.weight.new_tensor(len(norm.weight)) * norm.eps).sqrt()
        return lambda x: (
            x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), floor)
        )
    return lambda x: x


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return what `apply_rope` does, by tables for both halves of a head at once."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
