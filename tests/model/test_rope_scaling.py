"""Slower hands: which of them, by how much, and as Hugging Face says it."""

import math

import pytest
import torch

from llmcourse.model.positions import (
    RopeScaling,
    ntk_base,
    rope_frequencies,
    rope_from_json,
    rope_tables,
    rope_to_json,
    scaled_frequencies,
    scaled_rope_tables,
)

LINEAR = RopeScaling(kind="linear", factor=4)
YARN = RopeScaling(kind="yarn", factor=4, original_length=300)

# Worked example


def test_worked_example_of_yarn():
    """Base e^6 and width 12: hand i turns by e^-i a position, so within a length of
    2π e^5 positions it makes e^(5 - i) turns: 32 at i = 5 - ln 32 = 1.53 and 1 at 5.
    Rounded outwards the ramp is 0 up to hand 1, and rises by 1/4 each to 1 at hand 5.
    """
    length = math.ceil(2 * math.pi * math.exp(5)) - 1  # a little less than one turn
    scaling = RopeScaling(kind="yarn", factor=8, original_length=length)
    ratio = rope_frequencies(12, math.exp(6)) / scaled_frequencies(
        12, math.exp(6), scaling
    )
    shares = torch.tensor([0, 0, 1, 2, 3, 4]) / 4
    torch.testing.assert_close(1 / ratio, shares / 8 + 1 - shares)


# Law


def test_interpolation_is_a_finer_step():
    """Position 4 t of the longer text has the angles that t had."""
    fine = scaled_rope_tables(20, 8, 10_000, LINEAR)
    for new, old in zip(fine, rope_tables(5, 8), strict=True):
        torch.testing.assert_close(new[::4], old)


@pytest.mark.parametrize("factor", [1, 2, 7.5])
def test_ntk_leaves_the_fastest_and_slows_the_slowest(factor):
    ratio = rope_frequencies(8) / rope_frequencies(8, ntk_base(10_000, 8, factor))
    torch.testing.assert_close(ratio[0], torch.tensor(1.0))
    torch.testing.assert_close(ratio[-1], torch.tensor(float(factor)))
    assert (ratio.diff() >= 0).all()


@pytest.mark.parametrize("d_head", [8, 32, 64])
@pytest.mark.parametrize("length", [10, 300, 4096])
def test_yarn_lies_between_doing_nothing_and_interpolation(d_head, length):
    scaling = RopeScaling(kind="yarn", factor=4, original_length=length)
    ratio = rope_frequencies(d_head) / scaled_frequencies(d_head, 10_000, scaling)
    assert ((ratio >= 1 - 1e-6) & (ratio <= 4 + 1e-6)).all()
    assert (ratio.diff() >= -1e-6).all()


def test_yarn_makes_the_arrows_longer():
    cos, sin = scaled_rope_tables(7, 8, 10_000, YARN)
    length = (cos.square() + sin.square()).sqrt()
    torch.testing.assert_close(length, torch.full_like(length, 0.1 * math.log(4) + 1))


def test_a_factor_of_one_changes_nothing():
    for kind, length in (("linear", None), ("yarn", 300)):
        scaling = RopeScaling(kind=kind, factor=1, original_length=length)
        for new, old in zip(
            scaled_rope_tables(9, 8, 500, scaling), rope_tables(9, 8, 500), strict=True
        ):
            torch.testing.assert_close(new, old)


@pytest.mark.parametrize("scaling", [None, LINEAR, YARN])
@pytest.mark.parametrize("place", ["rope_scaling", "rope_parameters"])
def test_json_gives_back_what_was_written(scaling, place):
    said = rope_to_json(None if scaling is None else vars(scaling))
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
    torch.testing.assert_close(scaled_frequencies(16, 500, linear), found)
    assert length == 1.0
    found, length = of_transformers(
        "yarn", factor=factor, original_max_position_embeddings=300
    )
    yarn = RopeScaling(kind="yarn", factor=factor, original_length=300)
    torch.testing.assert_close(scaled_frequencies(16, 500, yarn), found)
    cos, _ = scaled_rope_tables(1, 16, 500, yarn)
    assert cos[0, 0].item() == pytest.approx(length)


def test_transformers_computes_the_same_base():
    """Their dynamic kind, with factor 1, is ours with new length over old."""
    found, _ = of_transformers("dynamic", length=1200, factor=1.0)
    torch.testing.assert_close(rope_frequencies(16, ntk_base(500, 16, 4)), found)


# Refusal


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "linear", "factor": 0.5}, "factor must be at least 1, got 0.5"),
        ({"kind": "linear", "factor": math.inf}, "factor must be at least 1"),
        ({"kind": "yarn", "factor": 2}, "yarn needs original_length"),
        ({"kind": "linear", "factor": 2, "original_length": 9}, "linear has none"),
        ({"kind": "yarn", "factor": 2, "original_length": 0}, "at least 1, got 0"),
    ],
)
def test_refuses_a_scaling_that_there_is_not(fields, message):
    with pytest.raises(ValueError, match=message):
        RopeScaling(**fields)


def test_refusals():
    with pytest.raises(ValueError, match="even number above 2, got 2"):
        ntk_base(500, 2, 4)
    with pytest.raises(ValueError, match="factor must be at least 1, got 0.5"):
        ntk_base(500, 8, 0.5)
    with pytest.raises(ValueError, match="base must be above 1, got 1"):
        scaled_frequencies(8, 1, YARN)
    with pytest.raises(ValueError, match="n_positions"):
        scaled_rope_tables(0, 8, 500, YARN)
