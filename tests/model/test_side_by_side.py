"""Texts in one row: none sees another, and each begins at position 0."""

import jaxtyping
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from llmcourse.model.attention import (
    GroupedQueryAttention,
    attend_apart,
    causal_attention,
    causal_mask,
    places,
)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Worked example


def test_worked_example_of_two_texts():
    """All keys fit all queries alike, so each position hands on the mean of what it
    sees: of 1 and 3 these are 1 and 2; 8 stands alone.
    """
    values = torch.tensor([[[[1.0], [3.0], [8.0]]]])
    alike = torch.zeros_like(values)
    apart = attend_apart(causal_attention, alike, alike, values, [2, 1])
    assert apart.flatten().tolist() == [1.0, 2.0, 8.0]
    whole = attend_apart(causal_attention, alike, alike, values, [3])
    assert whole.flatten().tolist() == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("n_cached", [None, 0, 5])
def test_worked_example_of_places(n_cached):
    assert places(3, 8, n_cached) == slice(n_cached or 0, (n_cached or 0) + 3)
    found = places(8, most=5, lengths=(5, 1, 2))
    assert found.tolist() == [0, 1, 2, 3, 4, 0, 0, 1]


# Reference


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [(7,), (3, 4), (1, 1, 5), (2, 4, 1)])
def test_equals_torch_with_a_mask(dtype, lengths):
    """The mask has a triangle for each text, and nothing between them."""
    inputs = [random(2, heads, 7, 4, seed=heads).to(dtype) for heads in (6, 3, 3)]
    inputs = [each.requires_grad_() for each in inputs]
    ours = attend_apart(causal_attention, *inputs, lengths)
    triangles = [causal_mask(length, length) for length in lengths]
    mask = torch.block_diag(*triangles).bool()
    exact = scaled_dot_product_attention(
        *(each.float() for each in inputs), attn_mask=mask, enable_gqa=True
    )
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(ours.float(), exact, atol=tolerance, rtol=tolerance)
    weight = random(*exact.shape, seed=9)
    for one, two in zip(
        torch.autograd.grad((ours.float() * weight).sum(), inputs),
        torch.autograd.grad((exact * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, two, atol=tolerance, rtol=4 * tolerance)


# Refusal

NOT_THE_ROW = pytest.mark.parametrize("lengths", [(), (3, 3), (8,), (7, 0), (9, -2)])


@NOT_THE_ROW
def test_refuses_lengths_that_do_not_fill_the_row(lengths):
    x = random(1, 2, 7, 4)
    with pytest.raises(ValueError, match="add up to the 7 positions of a row, got"):
        attend_apart(causal_attention, x, x, x, lengths)
    with pytest.raises(ValueError, match="add up to the 7 positions of a row, got"):
        places(7, 9, lengths=lengths)


def test_refuses_keys_of_earlier_positions(monkeypatch):
    """As there are with a cache; outside of tests shapes are not checked before."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    x, longer = random(1, 2, 7, 4), random(1, 2, 9, 4)
    with pytest.raises(ValueError, match="add up to the 9 positions of a row"):
        attend_apart(causal_attention, x, longer, longer, (3, 4))
    with pytest.raises(ValueError, match="without a cache, got one"):
        places(7, 9, 0, (3, 4))


def test_a_layer_refuses_what_its_function_refuses():
    layer = GroupedQueryAttention(8, 2, 2)
    with pytest.raises(ValueError, match="add up to the 7 positions of a row"):
        layer(random(1, 7, 8), lengths=(3, 3))


def test_refuses_a_text_that_is_too_long():
    assert places(14, 11, lengths=(3, 11)).max() == 10
    with pytest.raises(ValueError, match="11 tokens, got a text of 12"):
        places(14, 11, lengths=(2, 12))
    with pytest.raises(ValueError, match="11 tokens, got 9 cached and 3 new"):
        places(3, 11, 9)
