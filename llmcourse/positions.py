"""Where a token stands: attention alone cannot tell, so positions are put in.

Rotary positions (RoPE) turn each query and key by an angle that grows with its
position. A dot product depends on the angle *between* two vectors only, so the
score of two tokens depends on how far apart they are, not on where they are.
Sinusoidal positions are added to the embeddings instead, and ALiBi adds a
penalty for distance to the scores. Learned positions, as in GPT-2, are added like
sinusoidal ones and trained like any weight: an `nn.Embedding` with a row for each
position, so there is nothing to compute here, and nothing beyond the last row.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def rope_frequencies(
    d_head: int, base: float | int = 10_000.0
) -> Float[Tensor, "half"]:
    """Return how fast each pair of coordinates turns, in radians per position.

    The first pair turns by one radian per token, the last by almost 1 / base:
    fast hands of the clock tell near positions apart, slow ones far positions.

    Raises:
        ValueError: If `d_head` is not a positive even number, or `base` not positive.

    Source: Su et al. (2021), "RoFormer", section 3.2.2.

    >>> rope_frequencies(4, base=100.0)
    tensor([1.0000, 0.1000])
    """
    if d_head < 2 or d_head % 2:
        raise ValueError(f"d_head must be a positive even number, got {d_head}")
    if not base > 0:
        raise ValueError(f"base must be positive, got {base}")
    return base ** (-torch.arange(0, d_head, 2, dtype=torch.float32) / d_head)


def rope_tables(
    n_positions: int, d_head: int, base: float | int = 10_000.0
) -> tuple[Float[Tensor, "position half"], Float[Tensor, "position half"]]:
    """Return cosine and sine (no unit) of every angle for positions 0 … n − 1.

    Raises:
        ValueError: As `rope_frequencies`, or if `n_positions` is below 1.

    >>> cos, sin = rope_tables(3, d_head=2)
    >>> sin[:, 0]  # sin 0, sin 1, sin 2
    tensor([0.0000, 0.8415, 0.9093])
    """
    _check_positions(n_positions)
    positions = torch.arange(n_positions, dtype=torch.float32)
    angles = torch.outer(positions, rope_frequencies(d_head, base))  # (T, d_head / 2)
    return angles.cos(), angles.sin()


def apply_rope(
    x: Float[Tensor, "*batch position d_head"],
    cos: Float[Tensor, "position half"],
    sin: Float[Tensor, "position half"],
) -> Float[Tensor, "*batch position d_head"]:
    """Return the vectors, each turned by the angles of its position.

    Coordinate i is paired with coordinate i + d_head / 2, as in Llama's published
    weights. The paper pairs neighbours, 2i with 2i + 1: the same rotation after
    a fixed reordering of the coordinates.

    Source: Su et al. (2021), equation 34, with the pairing above.

    >>> cos, sin = rope_tables(2, d_head=2)
    >>> apply_rope(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), cos, sin)
    tensor([[1.0000, 0.0000],
            [0.5403, 0.8415]])
    """
    first, second = x.chunk(2, dim=-1)
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat(turned, dim=-1).to(x.dtype)  # low precision in, low out


def sinusoidal_positions(
    n_positions: int, d_model: int, base: float | int = 10_000.0
) -> Float[Tensor, "position d_model"]:
    """Return the fixed vectors (no unit) that are added to the embeddings.

    Even coordinates hold the sine and odd ones the cosine of the angles that RoPE
    turns by.

    Raises:
        ValueError: As `rope_tables`.

    Source: Vaswani et al. (2017), "Attention is all you need", section 3.5.

    >>> sinusoidal_positions(2, d_model=2)
    tensor([[0.0000, 1.0000],
            [0.8415, 0.5403]])
    """
    cos, sin = rope_tables(n_positions, d_model, base)
    return torch.stack((sin, cos), dim=-1).flatten(-2)


def alibi_bias(n_heads: int, n_positions: int) -> Float[Tensor, "head query key"]:
    """Return what is added to the scores: −slope · distance, in units of a score.

    Head h of H has slope 2^(−8h / H), so the last head sees farthest. Keys after
    the query get 0 here: hiding them is the causal mask's business.

    Raises:
        ValueError: If `n_heads` or `n_positions` is below 1.

    Source: Press et al. (2022), "Train short, test long", section 3. Unlike their
    code, the formula is used for every number of heads, not for powers of two only.

    >>> alibi_bias(8, n_positions=3)[0]  # the first head's slope is 1/2
    tensor([[ 0.0000,  0.0000,  0.0000],
            [-0.5000,  0.0000,  0.0000],
            [-1.0000, -0.5000,  0.0000]])
    """
    _check_positions(n_positions)
    if n_heads < 1:
        raise ValueError(f"n_heads must be at least 1, got {n_heads}")
    slopes = 2.0 ** (-8.0 * torch.arange(1, n_heads + 1) / n_heads)  # (H,)
    positions = torch.arange(n_positions)
    distance = (positions[:, None] - positions).clamp(min=0)  # (T, S)
    return -slopes[:, None, None] * distance + 0.0  # −0.0 becomes 0.0


def _check_positions(n_positions: int) -> None:
    if n_positions < 1:
        raise ValueError(f"n_positions must be at least 1, got {n_positions}")
