"""Where a token is: attention alone cannot tell, so positions are encoded.

Rotary positions (RoPE) turn each query and key by an angle that grows with its
position. A dot product depends only on the angle *between* two vectors, so the
score of two tokens depends on how far apart they are, not on where they are.
Learned positions, as in GPT-2, are added to the embeddings and trained like any
weight: an `nn.Embedding` with a row for each position, so there is nothing to compute
here, and nothing beyond the last row.

Beyond its training length a model meets angles that it has never seen. `RopeScaling`
makes the pairs of coordinates turn more slowly, so that a longer text stays within the
old angles:

    pairs             fast: neighbours      …      slow: far apart
    interpolation     all of them, `factor` times as slow
    NTK-aware         unchanged             …      `factor` times as slow
    YaRN, Llama 3     unchanged     …  a ramp  …   `factor` times as slow

Interpolation blurs which tokens are neighbours. NTK-aware scaling is just a larger
base. YaRN leaves alone the pairs that turn many times within the old length, slows
down those that do not even turn once, and makes attention a little sharper.
Llama 3 has another ramp, and leaves attention as it is.

Source: Chen et al. (2023), "Extending context window of large language models via
positional interpolation"; Peng et al. (2024), "YaRN", sections 3.1 to 3.4; Llama Team
(2024), "The Llama 3 herd of models" (its models' code has the ramp).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmcourse.arguments import check_one_of, check_range

# Cosine and sine of the angles that queries and keys turn by, (…, T, d_head / 2).
Rotation: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How RoPE is slowed down, with the kinds named as in Hugging Face."""

    kind: Literal["linear", "yarn", "llama3"]  # linear: interpolation
    factor: float | int  # new length over old
    original_length: int | None = None  # in training, in tokens; None for linear
    # The ends of the ramp, in turns within the old length; linear has none.
    slow: float | int = 1  # with fewer turns, a pair is slowed down fully
    fast: float | int = 32  # with more, not at all; 4 in Llama 3

    def __post_init__(self) -> None:
        """Raise ValueError for a scaling that does not exist."""
        check_one_of("kind", self.kind, ("linear", "yarn", "llama3"))
        check_range(1, 10**6, factor=self.factor)  # beyond, all angles are almost 0
        check_range(1, 2**31, original_length=self.original_length)
        if (self.kind == "linear") != (self.original_length is None):
            raise ValueError(
                "yarn and llama3 need original_length, and linear has none, got "
                f"{self.original_length} for {self.kind}"
            )
        if not 0 < self.slow < self.fast < math.inf:
            raise ValueError(
                "the ramp needs 0 < slow < fast (turns), got "
                f"{self.slow} and {self.fast}"
            )
        if self.kind == "linear" and (self.slow, self.fast) != (1, 32):
            raise ValueError("linear has no ramp, got slow and fast")


def rope_frequencies(
    d_head: int, base: float | int = 10_000.0, scaling: RopeScaling | None = None
) -> Float[Tensor, "half"]:
    """Return how fast each pair of coordinates turns, in radians per position.

    The first pair turns by one radian per token, the last by about 1 / base radians:
    fast pairs tell near positions apart, slow pairs far ones.

    Args:
        d_head: Coordinates of a head.
        base: The slowest pair turns by about 1 / base radians per token.
        scaling: How the pairs are slowed down; None for not at all.

    Raises:
        ValueError: If the scaling is yarn and the base is not above 1.

    Source: Su et al. (2021), "RoFormer", section 3.2.2.

    >>> rope_frequencies(4, base=100.0)
    tensor([1.0000, 0.1000])
    >>> rope_frequencies(4, 100.0, RopeScaling(kind="linear", factor=4))
    tensor([0.2500, 0.0250])
    """
    frequencies = base ** (-torch.arange(0, d_head, 2, dtype=torch.float32) / d_head)
    if scaling is None:
        return frequencies
    slowed = frequencies / scaling.factor
    if scaling.original_length is None:
        return slowed
    if scaling.kind == "llama3":
        turns = frequencies * scaling.original_length / (2 * math.pi)
        share = (scaling.fast - turns) / (scaling.fast - scaling.slow)
        share = share.clamp(0, 1)
    else:
        share = _yarn_share(d_head, base, scaling, scaling.original_length)
    return slowed * share + frequencies * (1 - share)


def _yarn_share(
    d_head: int, base: float | int, scaling: RopeScaling, length: int
) -> Float[Tensor, "half"]:
    """Return how much each pair is slowed down: from 0, not at all, to 1, fully.

    As in the authors' code, this rises with the pair's index, between the pairs that
    make `fast` and `slow` turns within the length, rounded outwards.
    """
    if base <= 1:
        raise ValueError(f"yarn needs a base above 1, got {base}")

    def pair_of(turns: float | int) -> float:
        """Return the index, from 0, of the pair that makes this many turns."""
        return d_head * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(pair_of(scaling.fast)), 0)
    high = min(math.ceil(pair_of(scaling.slow)), d_head - 1)
    width = high - low if high != low else 0.001  # then the ramp is a step
    pairs = torch.arange(d_head // 2, dtype=torch.float32)
    return ((pairs - low) / width).clamp(0, 1)


def ntk_base(base: float | int, d_head: int, factor: float | int) -> float:
    """Return the base (no unit) that makes the slowest pair `factor` times as slow.

    The fastest pair does not change. This is NTK-aware scaling for a context that is
    `factor` times as long.

    Raises:
        ValueError: If `d_head` is below 4.

    Source: Peng et al. (2024), equation 16.

    >>> new = ntk_base(10_000, d_head=4, factor=8)
    >>> rope_frequencies(4) / rope_frequencies(4, new)
    tensor([1., 8.])
    """
    check_range(4, d_head=d_head)  # a single pair is the fastest and the slowest
    return float(base * factor ** (d_head / (d_head - 2)))


def rope_tables(
    n_positions: int,
    d_head: int,
    base: float | int = 10_000.0,
    scaling: RopeScaling | None = None,
) -> tuple[Float[Tensor, "position half"], Float[Tensor, "position half"]]:
    """Return cosine and sine (no unit) of every angle for positions 0 … n − 1.

    With yarn, both are multiplied by a factor, so that all scores grow by its square.

    Args:
        n_positions: Number of positions.
        d_head: Coordinates of a head.
        base: The slowest pair turns by about 1 / base radians per token.
        scaling: How the pairs are slowed down; None for not at all.

    >>> cos, sin = rope_tables(3, d_head=2)
    >>> sin[:, 0]  # sin 0, sin 1, sin 2
    tensor([0.0000, 0.8415, 0.9093])
    """
    positions = torch.arange(n_positions, dtype=torch.float32)
    frequencies = rope_frequencies(d_head, base, scaling)
    angles = torch.outer(positions, frequencies)  # (T, d_head / 2)
    length = 1.0
    if scaling is not None and scaling.kind == "yarn":
        length = 0.1 * math.log(scaling.factor) + 1
    return length * angles.cos(), length * angles.sin()


def apply_rope(
    x: Float[Tensor, "*batch position d_head"],
    cos: Float[Tensor, "*#batch position half"],
    sin: Float[Tensor, "*#batch position half"],
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


class RotaryEmbedding(nn.Module):
    """A model's RoPE tables, as `rope_tables` returns them. It has no weights."""

    cos: Tensor
    sin: Tensor

    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        super().__init__()
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, positions: slice | Int[Tensor, "..."]) -> Rotation:
        """Return cosine and sine for position ids (T) or (B, T), for all heads."""
        return self.cos[positions].unsqueeze(-3), self.sin[positions].unsqueeze(-3)


# What a config.json says about each kind of scaling, by our names.
_SCALED = {"factor": "factor", "original_length": "original_max_position_embeddings"}
_TERMS = {
    "default": {},
    "linear": {"factor": "factor"},
    "yarn": _SCALED | {"slow": "beta_slow", "fast": "beta_fast"},
    "llama3": _SCALED | {"slow": "low_freq_factor", "fast": "high_freq_factor"},
}
_RAMP = {"beta_slow": 1, "beta_fast": 32}  # YaRN's, if nothing else is said


def rope_to_json(scaling: RopeScaling | None) -> dict[str, Any]:
    """Return what `config.json` says about a scaling: nothing if there is none."""
    if scaling is None:
        return {}
    kind, ours = scaling.kind, vars(scaling)
    terms = {theirs: ours[name] for name, theirs in _TERMS[kind].items()}
    terms["factor"] = float(scaling.factor)
    return {"rope_scaling": {"rope_type": kind, **terms}}


def rope_from_json(said: Mapping[str, Any]) -> tuple[object, RopeScaling | None]:
    """Return base and scaling; newer files have both inside `rope_parameters`.

    Args:
        said: What `config.json` says.

    Raises:
        ValueError: If it asks for another kind of scaling, or has terms for it that
            cannot be followed.
    """
    base, scaling = said.get("rope_theta", 10_000.0), None
    for name in ("rope_scaling", "rope_parameters"):
        rope = said.get(name, {})
        if not isinstance(rope, dict):
            raise ValueError(f"{name} must be a JSON object, got {rope!r}")
        rope = {term: value for term, value in rope.items() if value is not None}
        base = rope.get("rope_theta", base)
        kind: Any = rope.get("rope_type", rope.get("type", "default"))
        check_one_of(f"type of {name}", kind, [*_TERMS])
        known = {"rope_type", "type", "rope_theta", *_TERMS[kind].values()}
        if more := sorted(rope.keys() - known):
            raise ValueError(
                f"{name} has terms that are not supported: {', '.join(more)}"
            )
        if kind == "yarn":
            rope = _RAMP | rope
        terms: dict[str, Any] = {
            ours: rope.get(theirs) for ours, theirs in _TERMS[kind].items()
        }
        if not all(type(number) in (int, float) for number in terms.values()):
            raise ValueError(f"{name} of type {kind} needs numbers, got {rope}")
        if terms:
            scaling = RopeScaling(kind=kind, **terms)
    check_one_of("partial_rotary_factor", said.get("partial_rotary_factor", 1), [1])
    old = scaling.original_length if scaling else None
    if old is not None:
        name = "original_max_position_embeddings"
        check_one_of(name, said.get(name, old), [old])
    return base, scaling
