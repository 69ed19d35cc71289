"""A decoder-only transformer: a small Llama, in full.

    ids ── embedding ──┬──────────────(+)──┬─────────────────(+)── … ── norm ── logits
                       │               │   │                  │
                       └ norm, attention   └ norm, feed-forward
                       └───────── one block, n_layers times ──┘

Each block adds to what runs along the top line, the residual stream: attention
brings in what other positions know, the feed-forward network works on every
position by itself. The embedding matrix is used twice, to read the ids and to
score the next ones.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from llmcourse.attention import GroupedQueryAttention, KVCache
from llmcourse.positions import rope_tables


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes of a decoder-only transformer."""

    vocab_size: int
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 4
    n_kv_heads: int = 4  # fewer than n_heads: grouped-query attention
    d_ff: int = 172  # 8/3 of d_model, rounded up to a multiple of 4
    context_length: int = 128  # in tokens
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        """Raise ValueError for a size that no model can have."""
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if self.d_model % (2 * self.n_heads):
            raise ValueError(
                "d_model must be an even multiple of n_heads (RoPE turns pairs), "
                f"got {self.d_model} and {self.n_heads}"
            )
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                "n_heads must be a multiple of n_kv_heads, "
                f"got {self.n_heads} and {self.n_kv_heads}"
            )

    @property
    def d_head(self) -> int:
        """Width of one head, in coordinates."""
        return self.d_model // self.n_heads


TINY = TransformerConfig(vocab_size=512)


class RMSNorm(nn.Module):
    """Scale each vector to root-mean-square 1, then each coordinate by a weight.

    Source: Zhang and Sennrich (2019), "Root mean square layer normalization".

    >>> RMSNorm(2)(torch.tensor([3.0, 4.0]))  # divided by √12.5
    tensor([0.8485, 1.1314], grad_fn=<MulBackward0>)
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(
        self, x: Float[Tensor, "*batch width"]
    ) -> Float[Tensor, "*batch width"]:
        """Return the scaled vectors, without unit."""
        scale = torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps)
        return x * scale * self.weight


class SwiGLU(nn.Module):
    """Feed-forward network whose hidden units are switched by a smooth gate.

        down(silu(gate(x)) · up(x)),   silu(z) = z · sigmoid(z)

    Source: Shazeer (2020), "GLU variants improve transformer", equation 6.
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=False)
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        """Return what the network adds to each vector."""
        update: Tensor = self.down(silu(self.gate(x)) * self.up(x))
        return update


class Block(nn.Module):
    """Attention, then feed-forward; each reads a normalised stream and adds to it.

    Source: Xiong et al. (2020), "On layer normalization in the transformer
    architecture" (pre-norm); Touvron et al. (2023), "LLaMA".
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = GroupedQueryAttention(
            config.d_model, config.n_heads, config.n_kv_heads
        )
        self.feed_forward_norm = RMSNorm(config.d_model, config.norm_eps)
        self.feed_forward = SwiGLU(config.d_model, config.d_ff)

    def forward(
        self,
        x: Float[Tensor, "batch query d_model"],
        cos: Float[Tensor, "query half"],
        sin: Float[Tensor, "query half"],
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "batch query d_model"]:
        """Return the residual stream after this block."""
        x = x + self.attention(self.attention_norm(x), cos, sin, cache, layer)
        thought: Tensor = self.feed_forward(self.feed_forward_norm(x))
        return x + thought


class Transformer(nn.Module):
    """Scores for the next token at every position of a sequence.

    Args:
        config: The sizes.
        generator: Source of the initial weights; None draws from torch's global one.

    >>> model = Transformer(TINY)
    >>> model(torch.tensor([[5, 0, 3]])).shape  # one score per token and position
    torch.Size([1, 3, 512])
    """

    def __init__(
        self, config: TransformerConfig, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        cos, sin = rope_tables(config.context_length, config.d_head, config.rope_base)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.cos: Tensor
        self.sin: Tensor
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator | None) -> None:
        """Draw the first weights, of a size that keeps the size of what they multiply.

        A matrix with n inputs gets deviation 1 / √n. The two that write to the
        residual stream get less, so that their sum over all blocks keeps its size
        however many there are. Embeddings get 0.1: much smaller ones are thrown
        about by the first updates. The last norm then starts low enough for logits
        of deviation 1/2, so the first guess is close to "all tokens alike".

        Source: LeCun et al. (1998), "Efficient BackProp", section 4.6; Radford et
        al. (2019), GPT-2, section 2.3 (the writers). Unlike GPT-2, whose 0.02 suits
        large widths, the deviation follows the width.
        """
        writers = ("output.weight", "down.weight")
        for name, weight in self.blocks.named_parameters():
            if weight.ndim < 2:
                continue  # norms start at one
            std = weight.shape[1] ** -0.5
            if name.endswith(writers):
                std *= (2 * self.config.n_layers) ** -0.5
            nn.init.normal_(weight, std=std, generator=generator)
        nn.init.normal_(self.embedding.weight, std=0.1, generator=generator)
        nn.init.constant_(self.norm.weight, 0.5 / (0.1 * self.config.d_model**0.5))

    def forward(
        self, ids: Int[Tensor, "batch query"], cache: KVCache | None = None
    ) -> Float[Tensor, "batch query vocab"]:
        """Return the next token's logits after each position, without unit.

        Args:
            ids: The tokens; with a cache, only those that it has not seen.
            cache: Holds keys and values of all earlier positions; is extended.

        Raises:
            ValueError: If an id is outside the vocabulary, or if there are no ids or
                more, with those in the cache, than `context_length`.
        """
        start = 0 if cache is None else cache.length
        end = start + ids.shape[1]
        if not start < end <= self.config.context_length:
            raise ValueError(
                f"context_length is {self.config.context_length} tokens, "
                f"got {start} cached and {ids.shape[1]} new ones"
            )
        try:
            x = self.embedding(ids)  # (B, T, D)
        except IndexError:
            raise ValueError(
                f"ids must be in 0 … {self.config.vocab_size - 1}, "
                f"got {int(ids.min())} … {int(ids.max())}"
            ) from None
        cos, sin = self.cos[start:end], self.sin[start:end]
        for layer, block in enumerate(self.blocks):
            x = block(x, cos, sin, cache, layer)
        if cache is not None:
            cache.advance(end - start)
        return linear(self.norm(x), self.embedding.weight)

    def new_cache(self, batch_size: int = 1, capacity: int | None = None) -> KVCache:
        """Return an empty key-value cache of this model's shape.

        Args:
            batch_size: Number of sequences that will be read side by side.
            capacity: Most positions it can hold; None takes `context_length`.
        """
        return KVCache(
            n_layers=self.config.n_layers,
            batch_size=batch_size,
            n_kv_heads=self.config.n_kv_heads,
            capacity=capacity or self.config.context_length,
            d_head=self.config.d_head,
            dtype=self.embedding.weight.dtype,
            device=self.embedding.weight.device,
        )
