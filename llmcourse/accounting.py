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


def parameter_counts(sizes: Sizes) -> dict[str, int]:
    """Return the parameters of each part of a Llama-shaped model, as a count.

    The embedding also scores the next token, so it is counted once.

    >>> from llmcourse.transformer import TINY
    >>> parameter_counts(TINY)
    {'embedding': 32768, 'attention': 32768, 'feed_forward': 66048, 'norms': 320}
    """
    width = sizes.d_model
    queries = sizes.n_heads * sizes.d_head
    keys = sizes.n_kv_heads * sizes.d_head
    return {
        "embedding": sizes.vocab_size * width,
        # query and output, key and value
        "attention": sizes.n_layers * width * (2 * queries + 2 * keys),
        # gate, up and down
        "feed_forward": sizes.n_layers * 3 * width * sizes.d_ff,
        "norms": (2 * sizes.n_layers + 1) * width,
    }


def n_parameters(sizes: Sizes) -> int:
    """Return the parameters of a Llama-shaped model, as a count.

    >>> from llmcourse.transformer import TINY
    >>> n_parameters(TINY)
    131904
    """
    return sum(parameter_counts(sizes).values())


def forward_flops_per_token(sizes: Sizes, n_positions: int) -> int:
    """Return the matrix arithmetic of reading a sequence, in FLOPs per token.

    A multiplication and an addition for each weight of each matrix, and for each
    coordinate of each pair of positions once in the scores and once in the mixture
    of values. All pairs count, although the mask hides almost half of them: that
    is how `torch.utils.flop_counter` counts. Norms, softmax and the like are left
    out: they are a small share of the arithmetic (not of the time).

    Training costs three times as much: the gradient needs two more products of the
    same size for each of these.

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
    counts = parameter_counts(sizes)
    matrices = counts["embedding"] + counts["attention"] + counts["feed_forward"]
    pairs = sizes.n_layers * sizes.n_heads * sizes.d_head * n_positions
    return 2 * matrices + 4 * pairs


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


def _check_at_least_one(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
