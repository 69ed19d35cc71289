"""Rotary positions."""

import math
from dataclasses import replace

import pytest
import torch

from llmcourse.model.positions import (
    RopeScaling,
    apply_rope,
    ntk_base,
    rope_frequencies,
    rope_from_json,
    rope_tables,
    rope_to_json,
)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Worked example


def test_worked_example_of_a_quarter_turn():
    """Base 1 turns every pair by one radian per token: position 1 turns (1, 0) to
    (cos 1, sin 1). Coordinates 0 and 2 are a pair, and 1 and 3.
    """
    cos, sin = rope_tables(2, d_head=4, base=1)
    turned = apply_rope(torch.tensor([[9.0, 9, 9, 9], [1.0, 0, 0, 2]]), cos, sin)
    expected = [math.cos(1), -2 * math.sin(1), math.sin(1), 2 * math.cos(1)]
    torch.testing.assert_close(turned[1], torch.tensor(expected))
    torch.testing.assert_close(turned[0], torch.full((4,), 9.0))  # position 0 stays


# Law


def test_rope_keeps_the_norm():
    x = random(2, 3, 7, 6)
    turned = apply_rope(x, *rope_tables(7, d_head=6))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(turned[..., 1:, :], x[..., 1:, :], atol=0.1)


def test_rope_scores_depend_only_on_the_distance():
    """Score of query at i and key at j, for all i and j: constant on diagonals."""
    query, key = random(6, seed=1), random(6, seed=2)
    tables = rope_tables(9, d_head=6, base=50.0)
    scores = apply_rope(query.expand(9, 6), *tables) @ apply_rope(
        key.expand(9, 6), *tables
    ).transpose(0, 1)
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1])
    assert scores[0].std() > 0.1  # and the distance does matter


def test_low_precision_goes_in_and_comes_out():
    x = random(5, 4).bfloat16()
    assert apply_rope(x, *rope_tables(5, d_head=4)).dtype == torch.bfloat16


# Reference


def test_rope_equals_multiplication_by_complex_numbers():
    """The pair (a, b) is the number a + bi; to turn it, multiply by e^(i angle)."""
    x, base = random(2, 7, 6, seed=3), 300.0
    pairs = torch.complex(x[..., :3], x[..., 3:])
    angles = torch.arange(7.0)[:, None] * base ** (-torch.arange(3.0) / 3)
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(
        apply_rope(x, *rope_tables(7, d_head=6, base=base)),
        torch.cat((turned.real, turned.imag), dim=-1),
    )


@pytest.mark.parametrize("base", [10_000, 100_000.0, 1e-3])
def test_angles_keep_their_digits_far_out(base):
    """Position 8191, the last of SmolLM2, against double precision. An angle of 8191
    is known to 5 · 10⁻⁴ in float32, and so are its sine and cosine.
    """
    cos, sin = rope_tables(8192, d_head=64, base=base)
    rates = base ** -(torch.arange(32, dtype=torch.double) / 32)
    angles = 8191 * rates
    close = angles < 1e5  # a base below 1 turns faster and faster
    assert close.sum() >= 10
    for ours, exact in ((cos[-1], angles.cos()), (sin[-1], angles.sin())):
        difference = (ours.double() - exact)[close].abs()
        assert (difference < 1e-6 + 3e-7 * angles[close]).all()


# Slower hands: which of them, by how much, and as Hugging Face says it

LINEAR = RopeScaling(kind="linear", factor=4)
YARN = RopeScaling(kind="yarn", factor=4, original_length=300)
LLAMA3 = RopeScaling(kind="llama3", factor=4, original_length=300, fast=4)

# Worked example


def test_worked_example_of_yarn():
    """Base e^6 and width 12: hand i turns by e^-i a position, so within a length of
    2π e^5 positions it makes e^(5 - i) turns: 32 at i = 5 - ln 32 = 1.53 and 1 at 5.
    Rounded outwards the ramp is 0 up to hand 1, and rises by 1/4 each to 1 at hand 5.
    """
    length = math.ceil(2 * math.pi * math.exp(5)) - 1  # a little less than one turn
    scaling = RopeScaling(kind="yarn", factor=8, original_length=length)
    ratio = rope_frequencies(12, math.exp(6)) / rope_frequencies(
        12, math.exp(6), scaling
    )
    shares = torch.tensor([0, 0, 1, 2, 3, 4]) / 4
    torch.testing.assert_close(1 / ratio, shares / 8 + 1 - shares)


def test_worked_example_of_llama_3():
    """Each of five pairs is half as fast as the one before, the first turns by 1 radian
    a position: within 16 π positions (50) they make 8, 4, 2, 1 and 1/2 turns. The ramp
    from 4 turns to 1 slows them down by 0, 0, 2/3, 1 and 1.
    """
    scaling = RopeScaling(kind="llama3", factor=8, original_length=50, fast=4)
    ratio = rope_frequencies(10, 2**5, scaling) / rope_frequencies(10, 2**5)
    shares = torch.tensor([0, 0, 2 / 3, 1, 1])
    torch.testing.assert_close(ratio, shares / 8 + 1 - shares, rtol=0.02, atol=0)


# Law


def test_interpolation_is_a_finer_step():
    """Position 4 t of the longer text has the angles that t had."""
    fine = rope_tables(20, 8, 10_000, LINEAR)
    for new, old in zip(fine, rope_tables(5, 8), strict=True):
        torch.testing.assert_close(new[::4], old)


@pytest.mark.parametrize("factor", [1, 2, 7.5])
def test_ntk_leaves_the_fastest_and_slows_the_slowest(factor):
    ratio = rope_frequencies(8) / rope_frequencies(8, ntk_base(10_000, 8, factor))
    torch.testing.assert_close(ratio[0], torch.tensor(1.0))
    torch.testing.assert_close(ratio[-1], torch.tensor(float(factor)))
    assert (ratio.diff() >= 0).all()


def test_ntk_needs_two_pairs():
    with pytest.raises(ValueError, match="d_head must be at least 4, got 2"):
        ntk_base(10_000, 2, factor=4)


@pytest.mark.parametrize("d_head", [8, 32, 64])
@pytest.mark.parametrize("length", [10, 300, 4096])
def test_yarn_lies_between_doing_nothing_and_interpolation(d_head, length):
    scaling = RopeScaling(kind="yarn", factor=4, original_length=length)
    ratio = rope_frequencies(d_head) / rope_frequencies(d_head, 10_000, scaling)
    assert ((ratio >= 1 - 1e-6) & (ratio <= 4 + 1e-6)).all()
    assert (ratio.diff() >= -1e-6).all()


def test_yarn_makes_the_arrows_longer():
    cos, sin = rope_tables(7, 8, 10_000, YARN)
    length = (cos.square() + sin.square()).sqrt()
    torch.testing.assert_close(length, torch.full_like(length, 0.1 * math.log(4) + 1))


def test_a_factor_of_one_changes_nothing():
    for kind, length in (("linear", None), ("yarn", 300)):
        scaling = RopeScaling(kind=kind, factor=1, original_length=length)
        for new, old in zip(
            rope_tables(9, 8, 500, scaling), rope_tables(9, 8, 500), strict=True
        ):
            torch.testing.assert_close(new, old)


@pytest.mark.parametrize(
    "scaling", [None, LINEAR, YARN, replace(YARN, slow=2, fast=9), LLAMA3]
)
@pytest.mark.parametrize("place", ["rope_scaling", "rope_parameters"])
def test_json_gives_back_what_was_written(scaling, place):
    said = rope_to_json(scaling)
    if place == "rope_parameters":  # newer files
        said = {place: said.get("rope_scaling", {}) | {"rope_theta": 300.0}}
    else:
        said["rope_theta"] = 300.0
    assert rope_from_json(said) == (300.0, scaling)


# Reference


def of_transformers(kind, length=None, **more):
    """Frequencies and length as `transformers` computes them, base 500, width 16."""
    utilities = pytest.importorskip("transformers.modeling_rope_utils")
    from transformers import LlamaConfig

    said = {"rope_type": kind, "rope_theta": 500.0, **more}
    config = LlamaConfig(
        hidden_size=48,
        num_attention_heads=3,
        max_position_embeddings=300,
        rope_parameters=said,
    )
    compute = utilities.ROPE_INIT_FUNCTIONS[kind]
    return compute(config, torch.device("cpu"), seq_len=length)


@pytest.mark.parametrize("factor", [2.0, 4.0, 16.0])
def test_transformers_computes_the_same(factor):
    found, length = of_transformers("linear", factor=factor)
    linear = RopeScaling(kind="linear", factor=factor)
    torch.testing.assert_close(rope_frequencies(16, 500, linear), found)
    assert length == 1.0
    found, length = of_transformers(
        "yarn", factor=factor, original_max_position_embeddings=300
    )
    yarn = RopeScaling(kind="yarn", factor=factor, original_length=300)
    torch.testing.assert_close(rope_frequencies(16, 500, yarn), found)
    cos, _ = rope_tables(1, 16, 500, yarn)
    assert cos[0, 0].item() == pytest.approx(length)
    found, length = of_transformers(
        "llama3",
        factor=factor,
        original_max_position_embeddings=299,
        low_freq_factor=1.5,
        high_freq_factor=4.0,
    )
    llama3 = replace(LLAMA3, factor=factor, original_length=299, slow=1.5)
    torch.testing.assert_close(rope_frequencies(16, 500, llama3), found)
    assert length == 1.0


def test_transformers_computes_the_same_base():
    """Their dynamic kind, with factor 1, is ours with new length over old."""
    found, _ = of_transformers("dynamic", length=1200, factor=1.0)
    torch.testing.assert_close(rope_frequencies(16, ntk_base(500, 16, 4)), found)


# Refusal


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "linear", "factor": 0.5}, "factor must be in 1 … 1000000, got 0.5"),
        ({"kind": "linear", "factor": math.inf}, "factor must be in 1 …"),
        ({"kind": "yarn", "factor": 2}, "need original_length.*None for yarn"),
        ({"kind": "linear", "factor": 2, "original_length": 9}, "linear has none"),
        (
            {"kind": "yarn", "factor": 2, "original_length": 0},
            "original_length must be in 1 …",
        ),
        ({"kind": "llama3", "factor": 2}, "need original_length.*None for llama3"),
        (vars(LLAMA3) | {"slow": 4}, "0 < slow < fast"),
        (vars(LLAMA3) | {"slow": 0}, "0 < slow < fast"),
        (vars(LLAMA3) | {"fast": math.inf}, "0 < slow < fast"),
        ({"kind": "linear", "factor": 2, "fast": 4}, "linear has no ramp"),
    ],
)
def test_refuses_a_scaling_that_there_is_not(fields, message):
    with pytest.raises(ValueError, match=message):
        RopeScaling(**fields)


def test_refuses_yarn_without_fast_and_slow_pairs():
    scaling = RopeScaling(kind="yarn", factor=2, original_length=8)
    with pytest.raises(ValueError, match="needs a base above 1, got 1"):
        rope_frequencies(8, 1, scaling)
