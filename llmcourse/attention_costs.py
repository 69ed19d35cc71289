"""What each kind of attention costs, in closed form: arithmetic and memory.

    kind       scores computed for n positions        grows with
    naive      n²                                     n²
    chunked    those of the blocks below the diagonal n², half as much; memory n
    fused      n², as torch counts it                 n²; memory n
    window     2 · window for each position           n
    linear     block for each position, and a state   n

What is counted is what the functions of this package do: the products as
`torch.utils.flop_counter` counts them, and the most memory held at once, in float32,
beyond what was there before. Tests hold both against what is measured.
"""

from typing import NamedTuple

KINDS = ("naive", "chunked", "fused", "window", "linear")
_NUMBER = 4  # bytes, in float32


class Cost(NamedTuple):
    """What one attention over a whole text costs, without gradient."""

    flops: int  # of matrix products
    n_bytes: int  # at the worst moment, beyond queries, keys, values and mask


def attention_cost(
    kind: str, n_positions: int, n_heads: int, d_head: int, width: int = 64
) -> Cost:
    """Return the cost of causal attention over one text, from all heads together.

    Args:
        kind: One of `KINDS`: `attention.naive_attention` with a mask, the others by
            the functions of that name.
        n_positions: Length of the text.
        n_heads: Heads, as many for keys and values as for queries.
        d_head: Width of each.
        width: The block of chunked and linear attention, or the window, in positions;
            the others have none.

    Raises:
        ValueError: If there is no such kind, or if a number is below 1.

    >>> short, long = (attention_cost("naive", n, 4, 32) for n in (1024, 8192))
    >>> long.flops // short.flops, long.n_bytes // short.n_bytes
    (64, 64)
    >>> short, long = (attention_cost("linear", n, 4, 32) for n in (1024, 8192))
    >>> long.flops // short.flops, long.n_bytes // short.n_bytes
    (8, 8)
    """
    ways = {
        "naive": _naive,
        "chunked": _chunked,
        "fused": _fused,
        "window": _window,
        "linear": _linear,
    }
    if kind not in ways:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    sizes = (n_positions, d_head, min(width, n_positions))
    if min(*sizes, n_heads) < 1:
        raise ValueError(
            "n_positions, n_heads, d_head and width must be at least 1, got "
            f"{n_positions}, {n_heads}, {d_head} and {width}"
        )
    return ways[kind](*sizes, n_heads)


def _naive(n: int, d: int, width: int, heads: int) -> Cost:
    """The scores twice, before and after masking, and the mask turned around."""
    masking = 2 * heads * n * n * _NUMBER + n * n
    mixing = (2 * heads * n * n + heads * n * d) * _NUMBER
    return Cost(4 * heads * n * n * d, max(masking, mixing))


def _fused(n: int, d: int, width: int, heads: int) -> Cost:
    """The context, and one number for each row."""
    return Cost(4 * heads * n * n * d, heads * n * (d + 1) * _NUMBER)


def _chunked(n: int, d: int, block: int, heads: int) -> Cost:
    """Scaled queries and context; four tiles, a block of context, ten of numbers."""
    rows = -(-n // block)  # of tiles
    tiles = rows * (rows + 1) // 2
    held = n * (2 * d + 1) + 4 * block**2 + block * d + 10 * block
    return Cost(4 * heads * d * tiles * block**2, heads * held * _NUMBER)


def _window(n: int, d: int, window: int, heads: int) -> Cost:
    """Scores of two blocks, three times; queries once, keys and values twice."""
    n = -(-n // window) * window
    numbers = heads * n * (3 * 2 * window + 5 * d)
    return Cost(4 * heads * n * 2 * window * d, numbers * _NUMBER + 2 * window * n)


def _linear(n: int, d: int, block: int, heads: int) -> Cost:
    """Features as wide as a head; the weights in blocks, twice; or sum and state."""
    n = -(-n // block) * block
    handed = d + 1  # a value, and a one
    flops = 2 * block * d + 2 * block * handed + 4 * d * handed
    held = 3 * d + handed
    comparing, mixing = 2 * block, block + 2 * d * handed / block + 3 * handed
    numbers = round(n * (held + max(comparing, mixing)))
    return Cost(n * heads * flops, heads * numbers * _NUMBER)


def kv_bytes_per_token(
    n_layers: int, n_kv_heads: int, d_head: int, bytes_per_number: float | int = 2
) -> float | int:
    """Return how much a key-value cache grows with each token, in bytes.

    Args:
        n_layers: Of the model.
        n_kv_heads: Key-value heads in a layer.
        d_head: Width of each.
        bytes_per_number: 2 for bfloat16.

    Raises:
        ValueError: If a number is not positive.

    >>> kv_bytes_per_token(32, 8, 128) / 2**10  # Llama 3 8B, in KiB
    128.0
    """
    if min(n_layers, n_kv_heads, d_head) < 1 or not bytes_per_number > 0:
        raise ValueError(
            "layers, key-value heads, width and bytes must be positive, got "
            f"{n_layers}, {n_kv_heads}, {d_head} and {bytes_per_number}"
        )
    return 2 * n_layers * n_kv_heads * d_head * bytes_per_number
