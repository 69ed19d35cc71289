"""A decoder-only transformer, in full: Llama's shape or GPT-2's.

    ids ── embedding ──┬──────────────(+)──┬─────────────────(+)── … ── norm ── logits
                       │               │   │                  │
                       └ norm, attention   └ norm, feed-forward
                       └───────── one block, n_layers times ──┘

Each block adds to what runs along the top line, the residual stream: attention
brings in what other positions know, the feed-forward network works on every
position by itself.

    family    norm         positions                  feed-forward    biases
    llama     RMSNorm      queries and keys turn      SwiGLU          no
    gpt2      LayerNorm    a vector each, learned     GELU            yes

Tied embeddings use one matrix twice, to read the ids and to score the next ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from llmcourse.attention import GroupedQueryAttention, KVCache
from llmcourse.feed_forward import GELUNetwork, SwiGLU
from llmcourse.norms import LayerNorm, RMSNorm
from llmcourse.rope_scaling import RopeScaling, scaled_rope_tables
from llmcourse.side_by_side import places

_FAMILIES = ("llama", "gpt2")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Shape and sizes of a decoder-only transformer."""

    vocab_size: int
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 4
    n_kv_heads: int = 4  # fewer than n_heads: grouped-query attention, llama only
    d_ff: int = 172  # 8/3 of d_model, rounded up to a multiple of 4
    context_length: int = 128  # in tokens
    rope_base: float | int = 10_000.0  # llama only
    rope_scaling: RopeScaling | None = None  # for longer texts, llama only
    norm_eps: float | int = 1e-5
    family: Literal["llama", "gpt2"] = "llama"
    tied_embeddings: bool = True  # the embedding also scores the next token

    def __post_init__(self) -> None:
        """Raise ValueError for a shape that no model can have."""
        if self.family not in _FAMILIES:
            raise ValueError(f"family must be one of {_FAMILIES}, got {self.family!r}")
        if isinstance(self.rope_scaling, dict):  # as it comes from JSON
            object.__setattr__(self, "rope_scaling", RopeScaling(**self.rope_scaling))
        no_sizes = ("family", "tied_embeddings", "rope_scaling")
        for name, value in vars(self).items():
            if name not in no_sizes and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if self.family == "gpt2":
            self._check_heads_of_gpt2()
        elif self.d_model % (2 * self.n_heads):
            raise ValueError(
                "d_model must be an even multiple of n_heads (RoPE turns pairs), "
                f"got {self.d_model} and {self.n_heads}"
            )
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                "n_heads must be a multiple of n_kv_heads, "
                f"got {self.n_heads} and {self.n_kv_heads}"
            )

    def _check_heads_of_gpt2(self) -> None:
        if self.d_model % self.n_heads:
            raise ValueError(
                "d_model must be a multiple of n_heads, "
                f"got {self.d_model} and {self.n_heads}"
            )
        if self.n_kv_heads != self.n_heads:
            raise ValueError(
                "n_kv_heads must equal n_heads in the family gpt2, "
                f"got {self.n_kv_heads} and {self.n_heads}"
            )
        if self.rope_scaling is not None:
            raise ValueError("rope_scaling is for the family llama, got it for gpt2")

    @property
    def d_head(self) -> int:
        """Width of one head, in coordinates."""
        return self.d_model // self.n_heads


TINY = TransformerConfig(vocab_size=512)

# Radford et al. (2019): the smallest of the four, 124,439,808 parameters.
GPT2_SMALL = TransformerConfig(
    family="gpt2",
    vocab_size=50_257,
    d_model=768,
    n_layers=12,
    n_heads=12,
    n_kv_heads=12,
    d_ff=3072,
    context_length=1024,
)

# Ben Allal et al. (2025), "SmolLM2": the smallest of the three, 134,515,008 parameters.
SMOLLM2_135M = TransformerConfig(
    vocab_size=49_152,
    d_model=576,
    n_layers=30,
    n_heads=9,
    n_kv_heads=3,
    d_ff=1536,
    context_length=8192,
    rope_base=100_000.0,
)


def _new_norm(config: TransformerConfig) -> LayerNorm | RMSNorm:
    norm = LayerNorm if config.family == "gpt2" else RMSNorm
    return norm(config.d_model, config.norm_eps)


class Block(nn.Module):
    """Attention, then feed-forward; each reads a normalised stream and adds to it.

    Source: Xiong et al. (2020), "On layer normalization in the transformer
    architecture" (pre-norm); Radford et al. (2019), GPT-2; Touvron et al. (2023),
    "LLaMA".
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        gpt2 = config.family == "gpt2"
        self.attention_norm = _new_norm(config)
        self.attention = GroupedQueryAttention(
            config.d_model, config.n_heads, config.n_kv_heads, bias=gpt2
        )
        self.feed_forward_norm = _new_norm(config)
        network = GELUNetwork if gpt2 else SwiGLU
        self.feed_forward = network(config.d_model, config.d_ff)

    def forward(
        self,
        x: Float[Tensor, "batch query d_model"],
        cos: Float[Tensor, "query half"] | None = None,
        sin: Float[Tensor, "query half"] | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
        lengths: Sequence[int] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        """Return the residual stream after this block."""
        x = x + self.attention(self.attention_norm(x), cos, sin, cache, layer, lengths)
        thought: Tensor = self.feed_forward(self.feed_forward_norm(x))
        return x + thought


class Transformer(nn.Module):
    """Scores for the next token at every position of a sequence.

    Args:
        config: Shape and sizes.
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
        width = config.d_model
        self.embedding = nn.Embedding(config.vocab_size, width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = _new_norm(config)
        self.positions: nn.Embedding | None = None
        self.unembedding: nn.Linear | None = None
        self.cos: Tensor | None
        self.sin: Tensor | None
        tables: tuple[Tensor | None, Tensor | None] = (None, None)
        if config.family == "gpt2":
            self.positions = nn.Embedding(config.context_length, width)
        else:
            tables = scaled_rope_tables(
                config.context_length,
                config.d_head,
                config.rope_base,
                config.rope_scaling,
            )
        self.register_buffer("cos", tables[0], persistent=False)
        self.register_buffer("sin", tables[1], persistent=False)
        if not config.tied_embeddings:
            self.unembedding = nn.Linear(width, config.vocab_size, bias=False)
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator | None) -> None:
        """Draw the first weights, of a size that keeps the size of what they multiply.

        A matrix with n inputs gets deviation 1 / √n. The two that write to the
        residual stream get less, so that their sum over all blocks keeps its size
        however many there are. Embeddings, of tokens and of positions, get 0.1: much
        smaller ones are thrown about by the first updates. The last norm then starts
        low enough for logits of deviation 1/2, whichever matrix scores, so the first
        guess is close to "all tokens alike". Norms start at one, biases at zero.

        Source: LeCun et al. (1998), "Efficient BackProp", section 4.6; Radford et
        al. (2019), GPT-2, section 2.3 (the writers). Unlike GPT-2, whose 0.02 suits
        large widths, the deviation follows the width.
        """
        writers = ("output.weight", "down.weight")
        for name, weight in self.blocks.named_parameters():
            if name.endswith(".bias"):
                nn.init.zeros_(weight)
            if weight.ndim < 2:
                continue  # norms start at one
            std = weight.shape[1] ** -0.5
            if name.endswith(writers):
                std *= (2 * self.config.n_layers) ** -0.5
            nn.init.normal_(weight, std=std, generator=generator)
        nn.init.normal_(self.embedding.weight, std=0.1, generator=generator)
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=0.1, generator=generator)
        std_of_scorer = 0.1
        if self.unembedding is not None:
            std_of_scorer = self.config.d_model**-0.5
            nn.init.normal_(
                self.unembedding.weight, std=std_of_scorer, generator=generator
            )
        start = 0.5 / (std_of_scorer * self.config.d_model**0.5)
        nn.init.constant_(self.norm.weight, start)

    def forward(
        self,
        ids: Int[Tensor, "batch query"],
        cache: KVCache | None = None,
        lengths: Sequence[int] | None = None,
    ) -> Float[Tensor, "batch query vocab"]:
        """Return the next token's logits after each position, without unit.

        Args:
            ids: The tokens; with a cache, only those that it has not seen.
            cache: Holds keys and values of all earlier positions; is extended.
            lengths: Of texts side by side, see `side_by_side`; None if it is one.

        Raises:
            ValueError: If an id is outside the vocabulary, or as `side_by_side.places`.
        """
        n_cached = None if cache is None else cache.length
        where = places(ids.shape[1], self.config.context_length, n_cached, lengths)
        x = self._embed(ids, where, lengths)  # (B, T, D)
        cos = None if self.cos is None else self.cos[where]
        sin = None if self.sin is None else self.sin[where]
        for layer, block in enumerate(self.blocks):
            x = block(x, cos, sin, cache, layer, lengths)
        if cache is not None:
            cache.advance(ids.shape[1])
        if self.unembedding is None:
            return linear(self.norm(x), self.embedding.weight)
        logits: Tensor = self.unembedding(self.norm(x))
        return logits

    def _embed(
        self, ids: Tensor, where: slice | Tensor, lengths: Sequence[int] | None
    ) -> Float[Tensor, "batch query d_model"]:
        texts = torch.split(ids, list(lengths or [ids.shape[1]]), dim=1)
        try:  # apart, for an embedding may look around, see `surprise_embedding`
            x = torch.cat([self.embedding(text) for text in texts], dim=1)
        except IndexError:
            raise ValueError(
                f"ids must be in 0 … {self.config.vocab_size - 1}, "
                f"got {int(ids.min())} … {int(ids.max())}"
            ) from None
        if self.positions is None:
            return x
        return x + self.positions.weight[where]

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
            capacity=self.config.context_length if capacity is None else capacity,
            d_head=self.config.d_head,
            dtype=self.embedding.weight.dtype,
            device=self.embedding.weight.device,
        )
