"""The same transformer, set up for writing: few large products, not many small ones.

While a model writes it reads one token at a time, so every matrix meets one vector.
The arithmetic is then over at once, and what takes the time is fetching the matrices
and calling so many small operations. `FusedDecoder` has copies of the weights for which
both cost less, and gives what `Transformer` gives, up to rounding:

    query, key, value   one matrix instead of three, like gate and up
    norms               their weights are multiplied into the matrix that follows
    positions           one table for whole heads in place of one for their halves
    order in memory     by input, not by output: about half the time for one vector
    logits              of the last position only

Nothing here is needed to understand a transformer, and nothing of it is ever saved.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding, silu

from llmcourse.model.attention import GroupedQueryAttention, KVCache, causal_attention
from llmcourse.model.positions import RotaryEmbedding, Rotation
from llmcourse.model.transformer import Block, RMSNorm, SwiGLU, Transformer

_PARTS = {Transformer, Block, GroupedQueryAttention, SwiGLU, RMSNorm, RotaryEmbedding}
_PARTS |= {nn.Linear, nn.Embedding, nn.ModuleList}
_MOST_WEIGHTS = 2**28  # whose copies take a GB


def can_fuse(model: nn.Module) -> bool:
    """Return whether a `FusedDecoder` of this model gives what the model gives.

    It must be of Llama's family, in full precision and on a processor, with every part
    exactly as in this package: positions by RoPE, no adapters, no quantized matrices,
    no other kind of attention, no biases, no norms of queries and keys, and no hooks,
    which would not be called. And it must not be so large that the copies of its
    matrices would take seconds, and more than a GB of memory besides the model's own.
    """
    return (
        type(model) is Transformer
        and model.rotary is not None
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
        and getattr(part, "bias", None) is None
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
        self.rotary = model.rotary
        self.embedding = model.embedding.weight.detach()
        self.blocks = [_FusedBlock(block) for block in model.blocks]
        scorer = model.unembedding or model.embedding
        self.score = _fused(model.norm.weight, scorer.weight)  # (D, V)
        self.floor = _floor(model.norm)

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
        assert self.rotary is not None  # `can_fuse` has seen it
        n_new = ids.shape[1]
        cos, sin = self.rotary(cache.positions(n_new, self.config.context_length))
        cos, sin = (table.to(self.embedding.dtype) for table in (cos, sin))
        rotation = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
        x = embedding(ids, self.embedding)  # (B, T, D)
        for layer, block in enumerate(self.blocks):
            x = block(x, rotation, cache, layer)
        cache.advance(n_new)
        return _normed(x[:, -1:], self.floor) @ self.score


class _FusedBlock:
    """A `Block` in which matrices with the same input are one."""

    def __init__(self, block: nn.Module) -> None:
        assert isinstance(block, Block)
        assert isinstance(block.feed_forward, SwiGLU)
        attention, network = block.attention, block.feed_forward
        self.d_head, self.floor = attention.d_head, _floor(block.attention_norm)
        self.n_kv_heads = attention.key.out_features // attention.d_head
        self.query_key_value = _fused(
            block.attention_norm.weight,
            attention.query.weight,
            attention.key.weight,
            attention.value.weight,
        )  # (D, (H + 2 K) · d_head)
        self.output = attention.output.weight.detach().t().contiguous()
        self.gate_up = _fused(
            block.feed_forward_norm.weight, network.gate.weight, network.up.weight
        )  # (D, 2 F)
        self.down = network.down.weight.detach().t()

    def __call__(
        self, x: Tensor, rotation: Rotation, cache: KVCache, layer: int
    ) -> Tensor:
        fused = _normed(x, self.floor) @ self.query_key_value
        heads = fused.view(*x.shape[:2], -1, self.d_head).transpose(1, 2)
        turned = _turned(heads[:, : -self.n_kv_heads], *rotation)  # all but values
        query, key = turned[:, : -self.n_kv_heads], turned[:, -self.n_kv_heads :]
        value = heads[:, -self.n_kv_heads :]
        context = cache.attend(causal_attention, layer, query, key, value)
        x = x + context.transpose(1, 2).flatten(-2) @ self.output
        gate, up = (_normed(x, self.floor) @ self.gate_up).chunk(2, dim=-1)
        return x + (silu(gate) * up) @ self.down


def _fused(norm: Tensor, *matrices: Tensor) -> Float[Tensor, "d_model outputs"]:
    """Return one matrix for all that read the same normed vector, norm included.

    It has the factor √D that `_normed` leaves out.
    """
    with torch.no_grad():
        scale = norm * math.sqrt(len(norm))
        return (torch.cat(matrices) * scale).t().contiguous()


def _floor(norm: nn.Module) -> Float[Tensor, ""]:
    """Return √(D ε) of an `RMSNorm`."""
    assert isinstance(norm, RMSNorm)
    return (norm.weight.new_tensor(len(norm.weight)) * norm.eps).sqrt()


def _normed(x: Tensor, floor: Tensor) -> Tensor:
    """Return x / √(|x|² + D ε); √D times this is what an `RMSNorm` makes of x."""
    return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), floor)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return what `apply_rope` does, by tables for both halves of a head at once."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
