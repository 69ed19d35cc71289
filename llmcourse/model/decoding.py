"""The same transformer, set up for writing: few large products, not many small ones.

While a model writes it reads one token at a time, so every matrix meets one vector.
The arithmetic is then over at once, and what takes the time is fetching the matrices
and calling so many small operations. `JoinedTransformer` has copies of the weights for
which both cost less, and gives what `Transformer` gives, up to rounding:

    query, key, value   one matrix instead of three, like gate and up
    norms               their weights are multiplied into the matrix that follows
    order in memory     by input, not by output: about half the time for one vector
    logits              of the last position only

Nothing here is needed to understand a transformer, and nothing of it is ever saved.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding, silu

from llmcourse.model.attention import GroupedQueryAttention, KVCache, causal_attention
from llmcourse.model.positions import apply_rope
from llmcourse.model.transformer import Block, RMSNorm, SwiGLU, Transformer

_PARTS = {Transformer, Block, GroupedQueryAttention, SwiGLU, RMSNorm}
_PARTS |= {nn.Linear, nn.Embedding, nn.ModuleList}
_MOST_WEIGHTS = 2**25


def can_join(model: nn.Module) -> bool:
    """Return whether a `JoinedTransformer` of this model gives what the model gives.

    It must be of Llama's family, in full precision and on a processor, with every part
    exactly as in this package: positions by RoPE, no adapters, no quantized matrices,
    no other kind of attention, no biases, and no hooks, which would not be called. And
    it must not be so large that the copies of its matrices would take seconds, and as
    much memory again.
    """
    if type(model) is not Transformer or model.config.family != "llama":
        return False
    if model.cos is None or model.sin is None or model.positions is not None:
        return False
    plain = all(
        type(part) in _PARTS
        and getattr(part, "bias", None) is None
        and not part._forward_hooks
        and not part._forward_pre_hooks
        for part in model.modules()
    ) and all(
        part.attend is causal_attention
        for part in model.modules()
        if isinstance(part, GroupedQueryAttention)
    )
    weights = list(model.parameters())
    small = sum(weight.numel() for weight in weights) <= _MOST_WEIGHTS
    return (
        plain
        and small
        and all(
            weight.dtype in (torch.float32, torch.float64)
            and weight.device.type == "cpu"
            for weight in weights
        )
    )


class JoinedTransformer:
    """Reads on where a key-value cache ends, with the weights that the model has now.

    Most of them are copied, so it must not be used any more once they have changed.
    Setting it up takes the time of a few tokens.

    Raises:
        ValueError: If `can_join` is False.

    >>> from llmcourse.model.transformer import TINY
    >>> model = Transformer(TINY)
    >>> joined, cache = JoinedTransformer(model), model.new_cache()
    >>> joined(torch.tensor([[5, 0, 3]]), cache).shape  # of the last position only
    torch.Size([1, 1, 512])
    """

    def __init__(self, model: Transformer) -> None:
        if not can_join(model):
            raise ValueError(
                "joining needs a model of the family llama in full precision on the "
                "processor, not too large, with RoPE, without adapters, quantized "
                "matrices, biases, another kind of attention or hooks"
            )
        self.config = model.config
        self.cos, self.sin = model.cos, model.sin
        self.embedding = model.embedding.weight.detach()
        self.blocks = [_JoinedBlock(block) for block in model.blocks]
        scorer = model.unembedding or model.embedding
        self.score = _joined(model.norm.weight, scorer.weight)  # (D, V)

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
        start, end = cache.length, cache.length + ids.shape[1]
        if not start < end <= self.config.context_length:
            raise ValueError(
                f"context_length is {self.config.context_length} tokens, "
                f"got {start} cached and {ids.shape[1]} new ones"
            )
        assert self.cos is not None  # `can_join` has seen them
        assert self.sin is not None
        cos, sin = self.cos[start:end], self.sin[start:end]
        x = embedding(ids, self.embedding)  # (B, T, D)
        for layer, block in enumerate(self.blocks):
            x = block(x, cos, sin, cache, layer)
        cache.advance(end - start)
        return _normed(x[:, -1:], self.config.norm_eps) @ self.score


class _JoinedBlock:
    """A `Block` in which matrices with the same input are one."""

    def __init__(self, block: nn.Module) -> None:
        assert isinstance(block, Block)
        assert isinstance(block.feed_forward, SwiGLU)
        attention, network = block.attention, block.feed_forward
        self.d_head, self.eps = attention.d_head, block.attention_norm.eps
        self.n_kv_heads = attention.key.out_features // attention.d_head
        self.ask = _joined(
            block.attention_norm.weight,
            attention.query.weight,
            attention.key.weight,
            attention.value.weight,
        )  # (D, (H + 2 K) · d_head)
        self.output = attention.output.weight.detach().t().contiguous()
        self.widen = _joined(
            block.feed_forward_norm.weight, network.gate.weight, network.up.weight
        )  # (D, 2 F)
        self.down = network.down.weight.detach().t()

    def __call__(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache, layer: int
    ) -> Tensor:
        joined = _normed(x, self.eps) @ self.ask
        heads = joined.view(*x.shape[:2], -1, self.d_head).transpose(1, 2)
        turned = apply_rope(heads[:, : -self.n_kv_heads], cos, sin)  # all but values
        query, key = turned[:, : -self.n_kv_heads], turned[:, -self.n_kv_heads :]
        key, value = cache.update(layer, key, heads[:, -self.n_kv_heads :])
        context = causal_attention(query, key, value)  # (B, H, T, d_head)
        x = x + context.transpose(1, 2).flatten(-2) @ self.output
        gate, up = (_normed(x, self.eps) @ self.widen).chunk(2, dim=-1)
        return x + (silu(gate) * up) @ self.down


def _joined(norm: Tensor, *matrices: Tensor) -> Float[Tensor, "d_model outputs"]:
    """Return one matrix for all that read the same normed vector, norm included."""
    with torch.no_grad():
        return (torch.cat(matrices) * norm).t().contiguous()


def _normed(x: Tensor, eps: float) -> Tensor:
    """Return the vectors at root-mean-square 1: an `RMSNorm` without weights."""
    mean_square = torch.linalg.vecdot(x, x).unsqueeze(-1) / x.shape[-1]
    return x * torch.rsqrt(mean_square + eps)
