"""A complete decoder-only transformer, in Llama's shape or GPT-2's.

    ids ── embedding ──┬──────────────(+)──┬─────────────────(+)── … ── norm ── logits
                       │               │   │                  │
                       └ norm, attention   └ norm, feed-forward
                       └───────── one block, n_layers times ──┘

Each block adds to what runs along the top line, the residual stream: attention
brings in what other positions know, the feed-forward network works on each position
separately. A norm scales every vector to the same size before a sublayer reads it,
because the stream grows from block to block.

    family    norm         positions                  feed-forward    biases
    llama     RMSNorm      queries and keys turn      SwiGLU          no
    gpt2      LayerNorm    a vector each, learned     GELU            yes

Mistral, Qwen2 and Qwen3 belong to Llama's family; they add `head_width`, `qkv_bias` and
`qk_norm`. Tied embeddings use one matrix twice: to read the ids and to score the next.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, silu

from llmcourse.arguments import (
    check_ids,
    check_multiple,
    check_one_of,
    check_positive,
    check_range,
)
from llmcourse.model.attention import (
    Cache,
    GroupedQueryAttention,
    KVCache,
    next_positions,
)
from llmcourse.model.positions import (
    RopeScaling,
    RotaryEmbedding,
    Rotation,
    rope_tables,
)

_POSITIONS = {"llama": "rope", "gpt2": "learned"}  # the default of each family


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Shape and sizes of a decoder-only transformer."""

    vocab_size: int  # in tokens
    d_model: int = 64  # width of the vector at each position
    n_layers: int = 2  # blocks
    n_heads: int = 4  # query heads of a layer
    n_kv_heads: int = 4  # fewer than n_heads: grouped-query attention, llama only
    head_width: int | None = None  # coordinates; None: d_model / n_heads
    d_ff: int = 172  # 8/3 of d_model, rounded up to a multiple of 4
    context_length: int = 128  # in tokens
    rope_base: float | int = 10_000.0  # the larger, the slower the slowest rotation
    rope_scaling: RopeScaling | None = None  # for longer texts
    norm_eps: float | int = 1e-5  # added to a mean square before dividing by its root
    # llama: RMSNorm, SwiGLU, RoPE; gpt2: LayerNorm, GELU, biases, learned positions
    family: Literal["llama", "gpt2"] = "llama"
    positions: Literal["rope", "learned", "none"] | None = None  # None: the family's
    tied_embeddings: bool = True  # the embedding also scores the next token
    qkv_bias: bool = False  # query, key and value add a bias: Qwen2
    qk_norm: bool = False  # queries and keys are normalised: Qwen3

    def __post_init__(self) -> None:
        """Raise ValueError for a shape that no model can have."""
        check_one_of("family", self.family, _POSITIONS)
        check_one_of("positions", self.positions, ("rope", "learned", "none", None))
        if self.positions == _POSITIONS[self.family]:
            object.__setattr__(self, "positions", None)  # one config, one spelling
        no_sizes = ("family", "positions", "rope_scaling")
        for name, value in vars(self).items():
            if name not in no_sizes and not isinstance(value, bool):
                check_positive(**{name: value})
        check_multiple(d_model=self.d_model, n_heads=self.n_heads)
        if self.head_width == self.d_model // self.n_heads:
            object.__setattr__(self, "head_width", None)
        if self.position_encoding == "rope" and self.d_head % 2:
            raise ValueError(f"RoPE needs an even d_head, got {self.d_head}")
        if self.family == "gpt2":
            check_one_of("n_kv_heads of gpt2", self.n_kv_heads, [self.n_heads])
            check_one_of("qkv_bias of gpt2", self.qkv_bias, [False])
            check_one_of("qk_norm of gpt2", self.qk_norm, [False])
        if self.position_encoding != "rope":
            check_one_of("rope_scaling without rope", self.rope_scaling, [None])
        check_multiple(n_heads=self.n_heads, n_kv_heads=self.n_kv_heads)

    @property
    def position_encoding(self) -> str:
        """How positions are told apart: "rope", "learned" or "none"."""
        return self.positions or _POSITIONS[self.family]

    @property
    def d_head(self) -> int:
        """Width of one head, in coordinates."""
        return self.head_width or self.d_model // self.n_heads


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


class LayerNorm(nn.Module):
    """Shift and scale each vector to mean 0 and variance 1, then apply weight and bias.

    `eps` is added to the variance, so a vector whose coordinates are all equal
    becomes 0 instead of a division by 0.

    Source: Ba, Kiros and Hinton (2016), "Layer normalization", equation 4.

    >>> LayerNorm(2)(torch.tensor([3.0, 5.0]))  # mean 4, deviation 1
    tensor([-1.0000,  1.0000], grad_fn=<AddcmulBackward0>)
    """

    def __init__(self, width: int, eps: float | int = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(
        self, x: Float[Tensor, "*batch width"]
    ) -> Float[Tensor, "*batch width"]:
        """Return the shifted and scaled vectors (no unit)."""
        wide = _squarable(x)
        centred = wide - wide.mean(dim=-1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + self.eps)
        return torch.addcmul(self.bias, (centred * scale).to(x.dtype), self.weight)


class RMSNorm(nn.Module):
    """Scale each vector to root-mean-square 1, then each coordinate by a weight.

    Source: Zhang and Sennrich (2019), "Root mean square layer normalization".

    >>> RMSNorm(2)(torch.tensor([3.0, 4.0]))  # divided by √12.5
    tensor([0.8485, 1.1314], grad_fn=<MulBackward0>)
    """

    def __init__(self, width: int, eps: float | int = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(
        self, x: Float[Tensor, "*batch width"]
    ) -> Float[Tensor, "*batch width"]:
        """Return the scaled vectors (no unit)."""
        wide = _squarable(x)
        scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return (wide * scale).to(x.dtype) * self.weight


def _squarable(x: Tensor) -> Tensor:
    """Return numbers whose squares do not overflow, as those of float16 do at 256."""
    return x.float() if x.dtype == torch.float16 else x


class GELUNetwork(nn.Module):
    """Feed-forward network of two matrices with biases: down(gelu(up(x))).

        gelu(z) = z / 2 · (1 + tanh(√(2/π) · (z + 0.044715 z³)))

    A smooth switch: large positive numbers pass, large negative ones become 0. Without
    it, the two matrices would collapse into one.

    Source: Hendrycks and Gimpel (2016), "Gaussian error linear units", section 2;
    Radford et al. (2019), GPT-2.
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)

    def forward(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        """Return what the network adds to each vector."""
        update: Tensor = self.down(gelu(self.up(x), approximate="tanh"))
        return update


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


def _new_norm(config: TransformerConfig) -> LayerNorm | RMSNorm:
    norm = LayerNorm if config.family == "gpt2" else RMSNorm
    return norm(config.d_model, config.norm_eps)


def new_rotary(config: TransformerConfig) -> RotaryEmbedding | None:
    """Return a model's RoPE tables, or None if it does not use RoPE."""
    if config.position_encoding != "rope":
        return None
    sizes = config.context_length, config.d_head
    return RotaryEmbedding(*rope_tables(*sizes, config.rope_base, config.rope_scaling))


class Block(nn.Module):
    """Attention, then feed-forward; each reads the normalised stream and adds to it.

    Source: Xiong et al. (2020), "On layer normalization in the transformer
    architecture" (pre-norm); Radford et al. (2019), GPT-2; Touvron et al. (2023),
    "LLaMA".
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_norm = _new_norm(config)
        head_norm = partial(RMSNorm, eps=config.norm_eps)
        self.attention = GroupedQueryAttention(
            config.d_model,
            config.n_heads,
            config.n_kv_heads,
            bias=config.family == "gpt2",
            qkv_bias=config.qkv_bias,
            d_head=config.head_width,
            head_norm=head_norm if config.qk_norm else None,
        )
        self.feed_forward_norm = _new_norm(config)
        network = GELUNetwork if config.family == "gpt2" else SwiGLU
        self.feed_forward = network(config.d_model, config.d_ff)

    def forward(
        self,
        x: Float[Tensor, "batch query d_model"],
        rotation: Rotation | None = None,
        cache: Cache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "batch query d_model"]:
        """Return the residual stream after this block."""
        x = x + self.attention(self.attention_norm(x), rotation, cache, layer)
        update: Tensor = self.feed_forward(self.feed_forward_norm(x))
        return x + update


class Transformer(nn.Module):
    """Scores for the next token at every position of a sequence.

    Args:
        config: Shape and sizes.
        generator: Source of the initial weights; None uses torch's global one.

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
        if config.position_encoding == "learned":
            self.positions = nn.Embedding(config.context_length, width)
        if not config.tied_embeddings:
            self.unembedding = nn.Linear(width, config.vocab_size, bias=False)
        self.rotary = new_rotary(config)
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator | None) -> None:
        """Draw the initial weights, scaled to preserve the size of what they multiply.

        A matrix with n inputs gets standard deviation 1 / √n. The two that write to
        the residual stream get less, so that their sum over all blocks has the same
        size however many there are. Token and position embeddings get 0.1: much
        smaller ones are thrown about by the first updates. The last norm starts low
        enough for logits of deviation 1/2, whichever matrix scores, so the first
        guess is close to uniform. Other norms start at one, biases at zero.

        Source: LeCun et al. (1998), "Efficient BackProp", section 4.6; Radford et
        al. (2019), GPT-2, section 2.3 (the two that write). Unlike in GPT-2, whose
        0.02 suits large widths, the deviation depends on the width.
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
        self, ids: Int[Tensor, "batch query"], cache: Cache | None = None
    ) -> Float[Tensor, "batch query vocab"]:
        """Return the next token's logits after each position (no unit).

        Args:
            ids: The tokens; with a `KVCache`, only those that it has not seen.
            cache: What else the tokens look at: a `KVCache` of all earlier positions,
                which is extended; or `PackedSequences`, to keep texts apart.

        Raises:
            ValueError: If an id is outside the vocabulary, or if the texts do not fit
                into `context_length`.
        """
        n_new, limit = ids.shape[1], self.config.context_length
        if cache is None:
            positions: slice | Tensor = next_positions(0, n_new, limit)
        else:
            positions = cache.positions(n_new, limit)
        try:
            x = self.embedding(ids)  # (B, T, D)
        except IndexError:
            check_ids("ids", ids, self.config.vocab_size)
            raise
        if self.positions is not None:
            x = x + self.positions.weight[positions]
        rotation = None if self.rotary is None else self.rotary(positions)
        for layer, block in enumerate(self.blocks):
            x = block(x, rotation, cache, layer)
        if cache is not None:
            cache.advance(n_new)
        if self.unembedding is None:
            return linear(self.norm(x), self.embedding.weight)
        logits: Tensor = self.unembedding(self.norm(x))
        return logits

    def new_cache(
        self,
        batch_size: int = 1,
        capacity: int | None = None,
        kind: type[KVCache] = KVCache,
    ) -> KVCache:
        """Return an empty key-value cache of this model's shape.

        Args:
            batch_size: Number of sequences that will be read side by side.
            capacity: Maximum number of positions; None takes `context_length`.
            kind: Class of the cache, such as `long_context.WindowCache`.
        """
        weight = self.embedding.weight  # computed each time, if it is quantized
        return kind(
            n_layers=self.config.n_layers,
            batch_size=batch_size,
            n_kv_heads=self.config.n_kv_heads,
            capacity=self.config.context_length if capacity is None else capacity,
            d_head=self.config.d_head,
            dtype=weight.dtype,
            device=weight.device,
        )


_QUERY_KEY_STD = 0.01  # usually 1 / √d_model
_VALUE_OUTPUT_NORM = 3.0  # of each vector: above the noise
_EMBEDDING_STD = 1.0  # as large as what the blocks will add


@torch.no_grad()
def mimetic_initialisation(
    model: Transformer, generator: torch.Generator | None = None
) -> None:
    """Make the last block's heads start as copiers; change the model in place.

        … her crimson cardigan … in her ?       the colour is 30 tokens back

    To say "crimson" again, a head must find the colour and copy it. Each half is of
    little use without the other, so with random weights both get small gradients: the
    loss stays on a plateau, where the model only guesses facts of the right kind.
    The heads of the last block start here with the second half in place:

        query, key      almost 0      all tokens are attended to equally
        value, output   V, Vᵀ         whatever is attended to is copied as it is

    A copy of the mean over all tokens is of little use, but not useless: attending to
    the right one gets a gradient from the first step.

    The embeddings become ten times as large, since a token cannot be copied unless it
    can be made out in the residual stream; the last norm compensates, so with tied
    embeddings the first guesses stay close to uniform. Train them with an
    `embedding_speed` of about 4: AdamW's steps do not grow with what they change.

    Args:
        model: A new model; whatever its last block has learned is lost.
        generator: Source of randomness; None uses torch's global one.

    Source: Trockman and Kolter (2023), "Mimetic initialization of self-attention
    layers", found such products in trained models; here only in the last block.

    >>> from llmcourse.model.transformer import TINY
    >>> model = Transformer(TINY)
    >>> mimetic_initialisation(model)
    >>> heads = model.blocks[-1].attention
    >>> copied = heads.output.weight @ heads.value.weight  # (d_model, d_model)
    >>> torch.allclose(copied, copied.T, atol=1e-5)
    True
    """
    scale = _EMBEDDING_STD / model.embedding.weight.std()
    model.embedding.weight.mul_(scale)
    if model.unembedding is None:
        model.norm.weight.div_(scale)
    block = model.blocks[-1]
    assert isinstance(block, Block)
    attention = block.attention
    n_kv_heads = model.config.n_kv_heads
    n_groups = model.config.n_heads // n_kv_heads
    wide = torch.empty(attention.value.weight.shape)
    nn.init.orthogonal_(wide, generator=generator)  # rows, (n_kv_heads · d_head, D)
    attention.value.weight.copy_(_VALUE_OUTPUT_NORM * wide)
    per_head = wide.view(n_kv_heads, -1, wide.shape[1])
    per_query_head = per_head.repeat_interleave(n_groups, dim=0).flatten(0, 1)
    attention.output.weight.copy_(_VALUE_OUTPUT_NORM / n_groups * per_query_head.T)
    for part in (attention.query, attention.key):
        nn.init.normal_(part.weight, std=_QUERY_KEY_STD, generator=generator)


@torch.no_grad()
def hidden_states(
    model: Transformer, ids: Int[Tensor, "*batch query"]
) -> Float[Tensor, "layer_plus_one *batch query d_model"]:
    """Return the residual stream before each block and after the last (no unit).

    The first is what the embedding gives, including learned positions; the last,
    normalised and multiplied by the unembedding, gives the logits.

    The model runs once as usual, while hooks record what the blocks read.

    Args:
        model: A `Transformer`; not changed.
        ids: One sequence of tokens, or a batch of them.

    Raises:
        ValueError: If there are no ids, or the model cannot read them.

    >>> model = Transformer(TINY)
    >>> hidden_states(model, torch.tensor([5, 0, 3])).shape  # of 2 blocks
    torch.Size([3, 3, 64])
    """
    check_range(1, n_ids=ids.numel())
    read: list[Tensor] = []

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        read.append(arguments[0])

    parts = [*model.blocks, model.norm]
    hooks = [part.register_forward_pre_hook(note) for part in parts]
    try:
        model.forward(ids.reshape(-1, ids.shape[-1]))  # a compiled call runs no hooks
    finally:
        for hook in hooks:
            hook.remove()
    stream = torch.stack(read)  # (L + 1, B, T, D)
    return stream.reshape(len(stream), *ids.shape, -1)
