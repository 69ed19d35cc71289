"""Rotary, sinusoidal and ALiBi positions."""

import math

import pytest
import torch

from llmcourse.model.positions import (
    alibi_bias,
    apply_rope,
    rope_frequencies,
    rope_tables,
    sinusoidal_positions,
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


def test_the_sinusoidal_vectors_of_a_shift_are_a_rotation_away():
    """Their dot product, too, depends on the distance alone."""
    vectors = sinusoidal_positions(8, d_model=6)
    scores = vectors @ vectors.T
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1])
    torch.testing.assert_close(scores.diagonal(), torch.full((8,), 3.0))


@pytest.mark.parametrize("shift", [1, 3])
def test_one_linear_map_shifts_all_sinusoidal_vectors(shift):
    """Section 3.5 of the paper: a rotation of each pair, whatever the position."""
    vectors = sinusoidal_positions(11, d_model=6)
    angles = shift * rope_frequencies(6)
    turns = [[[a.cos(), a.sin()], [-a.sin(), a.cos()]] for a in angles]
    shifted_by = torch.block_diag(*map(torch.tensor, turns))
    torch.testing.assert_close(vectors[:-shift] @ shifted_by.T, vectors[shift:])
    assert not torch.allclose(vectors[:-shift], vectors[shift:], atol=0.1)


def test_alibi_depends_on_the_distance_alone():
    bias = alibi_bias(3, n_positions=7)
    torch.testing.assert_close(bias[:, 1:, 1:], bias[:, :-1, :-1])
    assert not bias.triu(diagonal=0).any()  # nothing at distance 0 and after


def test_alibi_falls_in_a_straight_line_and_more_slowly_in_later_heads():
    bias = alibi_bias(4, n_positions=5)
    last_query = bias[:, -1]  # distances 4, 3, 2, 1, 0
    steps = last_query.diff(dim=-1)
    torch.testing.assert_close(steps, steps[:, :1].expand(4, 4))
    torch.testing.assert_close(
        steps[:, 0], torch.tensor([1 / 4, 1 / 16, 1 / 64, 1 / 256])
    )


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


def test_sinusoids_equal_the_papers_formula():
    vectors = sinusoidal_positions(5, d_model=6)
    for position in range(5):
        for i in range(3):
            angle = position / 10_000 ** (2 * i / 6)
            assert vectors[position, 2 * i].item() == pytest.approx(
                math.sin(angle), abs=1e-6
            )
            assert vectors[position, 2 * i + 1].item() == pytest.approx(
                math.cos(angle), abs=1e-6
            )


@pytest.mark.parametrize("n_heads", [1, 2, 6, 8])
def test_alibi_equals_the_papers_formula(n_heads):
    bias = alibi_bias(n_heads, n_positions=5)
    for head in range(n_heads):
        slope = 2 ** (-8 * (head + 1) / n_heads)
        for query in range(5):
            for key in range(query + 1):
                expected = -slope * (query - key)
                assert bias[head, query, key].item() == pytest.approx(expected)


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


# Refusal


@pytest.mark.parametrize("d_head", [0, -2, 5])
def test_refuses_heads_that_have_no_pairs(d_head):
    with pytest.raises(ValueError, match=f"even number, got {d_head}"):
        rope_frequencies(d_head)


@pytest.mark.parametrize("base", [0, -1.0, math.nan])
def test_refuses_a_base_that_turns_nothing(base):
    with pytest.raises(ValueError, match="base must be positive"):
        rope_tables(3, d_head=4, base=base)


def test_refuses_no_positions():
    with pytest.raises(ValueError, match="n_positions must be at least 1, got 0"):
        rope_tables(0, d_head=4)
    with pytest.raises(ValueError, match="n_positions must be at least 1, got 0"):
        sinusoidal_positions(0, d_model=4)
    with pytest.raises(ValueError, match="n_positions must be at least 1, got -3"):
        alibi_bias(2, n_positions=-3)


def test_refuses_no_heads():
    with pytest.raises(ValueError, match="n_heads must be at least 1, got 0"):
        alibi_bias(0, n_positions=3)
