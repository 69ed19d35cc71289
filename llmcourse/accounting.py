"""What a transformer costs, in closed form: parameters, arithmetic, memory.

Nothing is run here: every number follows from the sizes alone, so that a model of
any size can be priced before it is built.
"""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Sizes(Protocol):
    """Whatever has a decoder-only transformer's sizes: a `TransformerConfig` does."""

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary."""

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""

    @property
    def n_layers(self) -> int:
        """Number of blocks."""

    @property
    def n_heads(self) -> int:
        """Query heads in a block."""

    @property
    def n_kv_heads(self) -> int:
        """Key-value heads in a block."""

    @property
    def d_head(self) -> int:
        """Width of one head."""

    @property
    def d_ff(self) -> int:
        """Width of the feed-forward network."""

    @property
    def context_length(self) -> int:
        """Longest sequence, in tokens."""

    @property
    def family(self) -> str:
        """Either "llama" or "gpt2"."""

    @property
    def tied_embeddings(self) -> bool:
        """Whether the embedding also scores the next token."""


def parameter_counts(sizes: Sizes) -> dict[str, int]:
    """Return the parameters of each part that the model has, as a count.

    Biases are counted with the matrix or the norm that they belong to. A tied
    embedding also scores the next token and is counted once.

    >>> from llmcourse.transformer import GPT2_SMALL, TINY
    >>> parameter_counts(TINY)
    {'embedding': 32768, 'attention': 32768, 'feed_forward': 66048, 'norms': 320}
    >>> parameter_counts(GPT2_SMALL)["positions"]
    786432
    """
    width, layers = sizes.d_model, sizes.n_layers
    matrices = _matrices(sizes)
    counts = {
        "embedding": sizes.vocab_size * width,
        "attention": matrices["attention"],
        "feed_forward": matrices["feed_forward"],
        "norms": (2 * layers + 1) * width,
    }
    if _is_gpt2(sizes):
        queries, keys = _attention_widths(sizes)
        counts["positions"] = sizes.context_length * width
        counts["attention"] += layers * (queries + 2 * keys + width)  # biases
        counts["feed_forward"] += layers * (sizes.d_ff + width)
        counts["norms"] *= 2
    if not sizes.tied_embeddings:
        counts["unembedding"] = matrices["unembedding"]
    return counts


def n_parameters(sizes: Sizes) -> int:
    """Return the parameters of a model, as a count.

    >>> from llmcourse.transformer import GPT2_SMALL, TINY
    >>> n_parameters(TINY), n_parameters(GPT2_SMALL)
    (131904, 124439808)
    """
    return sum(parameter_counts(sizes).values())


def forward_flops_per_token(sizes: Sizes, n_positions: int) -> int:
    """Return the matrix arithmetic of reading a sequence, in FLOPs per token.

    A multiplication and an addition for each weight of each matrix, and for each
    coordinate of each pair of positions once in the scores and once in the mixture
    of values. All pairs count, although the mask hides almost half of them: that
    is how `torch.utils.flop_counter` counts. Norms, softmax, biases and the like
    are left out: they are a small share of the arithmetic (not of the time).

    Args:
        sizes: The model's.
        n_positions: Length of the sequence, in tokens.

    Raises:
        ValueError: If `n_positions` is below 1.

    Source: Hoffmann et al. (2022), appendix F; Kaplan et al. (2020), section 2.1.

    >>> from llmcourse.transformer import TINY
    >>> forward_flops_per_token(TINY, n_positions=1) / n_parameters(TINY)  # about 2
    1.99...
    """
    _check_at_least_one(n_positions=n_positions)
    pairs = sizes.n_layers * sizes.n_heads * sizes.d_head * n_positions
    return 2 * sum(_matrices(sizes).values()) + 4 * pairs


def training_flops_per_token(sizes: Sizes, n_positions: int) -> int:
    """Return the matrix arithmetic of learning from a sequence, in FLOPs per token.

    Three times that of reading it: for each product the gradient needs two more of
    the same size, one for either factor.

    Args:
        sizes: The model's.
        n_positions: Length of the sequence, in tokens.

    Raises:
        ValueError: If `n_positions` is below 1.

    Source: Kaplan et al. (2020), section 2.1.

    >>> from llmcourse.transformer import TINY
    >>> training_flops_per_token(TINY, n_positions=1) / n_parameters(TINY)  # about 6
    5.99...
    """
    return 3 * forward_flops_per_token(sizes, n_positions)


def activation_bytes(sizes: Sizes, n_positions: int, batch_size: int = 1) -> int:
    """Return what is kept for the gradient while a batch is read, in bytes.

    Between the ids and the logits, in float32, with attention that is fused: its
    table of weights, which would grow with the square of the length, is not kept.
    The loss keeps one more number for each logit.

    Args:
        sizes: The model's.
        n_positions: Positions of each sequence, in tokens.
        batch_size: Sequences side by side.

    Raises:
        ValueError: If either number is below 1.

    Source: Korthikanti et al. (2022), section 4, counts GPT-2's shape in bfloat16,
    with dropout; here what the modules of this package keep is counted.

    >>> from llmcourse.transformer import TINY
    >>> activation_bytes(TINY, n_positions=128) / 2**20  # MiB
    1.46...
    """
    _check_at_least_one(n_positions=n_positions, batch_size=batch_size)
    queries, keys = _attention_widths(sizes)
    norm = 3 * sizes.d_model + 1  # what it reads, scaled, weighted; the scale itself
    # query, key, value, context; the sum of each head's exponentials
    attention = queries + 2 * keys + queries + sizes.n_heads
    if _is_gpt2(sizes):
        hidden = 2 * sizes.d_ff  # before and after the bend
    else:
        # Heads that were turned lie apart, and are copied to lie side by side.
        attention += queries * (n_positions > 1)
        hidden = 4 * sizes.d_ff  # the gate before and after its bend, up, product
    numbers = sizes.n_layers * (2 * norm + attention + hidden) + norm
    return (4 * numbers + 8) * n_positions * batch_size  # 8: an id


def kv_cache_bytes(
    sizes: Sizes, n_positions: int, batch_size: int = 1, bytes_per_number: int = 4
) -> int:
    """Return the memory of a key-value cache, in bytes.

    Args:
        sizes: The model's.
        n_positions: Positions of each sequence, in tokens.
        batch_size: Sequences side by side.
        bytes_per_number: 4 for float32, 2 for bfloat16.

    Raises:
        ValueError: If any of the three numbers is below 1.

    >>> from llmcourse.transformer import TINY
    >>> kv_cache_bytes(TINY, n_positions=128)  # 2 layers · (key, value) · 64 · 128 · 4
    131072
    """
    _check_at_least_one(
        n_positions=n_positions,
        batch_size=batch_size,
        bytes_per_number=bytes_per_number,
    )
    per_position = 2 * sizes.n_layers * sizes.n_kv_heads * sizes.d_head
    return per_position * n_positions * batch_size * bytes_per_number


def _is_gpt2(sizes: Sizes) -> bool:
    return sizes.family == "gpt2"


def _attention_widths(sizes: Sizes) -> tuple[int, int]:
    """Return the coordinates of all query heads and of all key-value heads."""
    return sizes.n_heads * sizes.d_head, sizes.n_kv_heads * sizes.d_head


def _matrices(sizes: Sizes) -> dict[str, int]:
    """Return the weights that each token is multiplied with, without biases."""
    width, layers = sizes.d_model, sizes.n_layers
    queries, keys = _attention_widths(sizes)
    per_network = 2 if _is_gpt2(sizes) else 3  # up and down; gate, up and down
    return {
        # query and output, key and value
        "attention": layers * width * (2 * queries + 2 * keys),
        "feed_forward": layers * per_network * width * sizes.d_ff,
        "unembedding": sizes.vocab_size * width,  # tied or not, it scores
    }


def _check_at_least_one(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
