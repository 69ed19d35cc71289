"""LayerNorm and RMSNorm, at ordinary and at extreme sizes."""

import math

import pytest
import torch

from llmcourse.model.transformer import LayerNorm, RMSNorm

BOTH = pytest.mark.parametrize(
    ("ours", "theirs"), [(LayerNorm, torch.nn.LayerNorm), (RMSNorm, torch.nn.RMSNorm)]
)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_pair(ours, theirs, width, eps=1e-5):
    """Return our norm and torch's with the same random weights."""
    pair = ours(width, eps=eps), theirs(width, eps=eps)
    for seed, weight in enumerate(pair[0].parameters()):
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(seed))
    pair[1].load_state_dict(pair[0].state_dict())
    return pair


# Worked example


def test_worked_example_of_two_coordinates():
    """(3, 5) has mean 4 and variance 1: (−1, 1), weighted (−2, 3), plus bias (−1, 3).
    Its mean square is 17.
    """
    norm, x = LayerNorm(2, eps=0), torch.tensor([3.0, 5.0])
    norm.load_state_dict(
        {"weight": torch.tensor([2.0, 3.0]), "bias": torch.tensor([1.0, 0.0])}
    )
    torch.testing.assert_close(norm(x), torch.tensor([-1.0, 3.0]))
    torch.testing.assert_close(RMSNorm(2, eps=0)(x), x / math.sqrt(17))


# Law


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e4])
def test_what_comes_out_has_mean_zero_and_size_one(size):
    """Down to 10⁻², where eps = 10⁻⁵ is a tenth of the variance."""
    x = random(2, 5, 96) * size + size
    out = LayerNorm(96, eps=1e-5)(x)
    variance = x.var(dim=-1, unbiased=False)
    torch.testing.assert_close(out.mean(-1), torch.zeros(2, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        out.var(dim=-1, unbiased=False), variance / (variance + 1e-5)
    )
    mean_square = x.square().mean(-1)
    torch.testing.assert_close(
        RMSNorm(96, eps=1e-5)(x).square().mean(-1), mean_square / (mean_square + 1e-5)
    )


@pytest.mark.parametrize("factor", [2.0**-9, 2.0**9])
def test_the_size_of_the_vectors_does_not_matter(factor):
    """Nor does, for LayerNorm, a number that is added to all coordinates."""
    x = random(2, 5, 6)
    for norm in (LayerNorm(6, eps=0), RMSNorm(6, eps=0)):
        torch.testing.assert_close(norm(factor * x), norm(x))
        torch.testing.assert_close(norm(-x), -norm(x))
    torch.testing.assert_close(LayerNorm(6)(x + 3), LayerNorm(6)(x), atol=1e-5, rtol=0)
    assert (RMSNorm(6)(x + 3) - RMSNorm(6)(x)).abs().max() > 0.1


@pytest.mark.parametrize("value", [0.0, 1e-30, 1.0, -3.0, 1e4])
def test_a_constant_vector_becomes_the_bias_alone(value):
    norm, _ = make_pair(LayerNorm, torch.nn.LayerNorm, width=8)
    out = norm(torch.full((3, 8), value))
    torch.testing.assert_close(out, norm.bias.expand(3, 8))


# Reference


@BOTH
@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_equals_torch_where_squares_are_at_the_end_of_the_range(ours, theirs, scale):
    ours, theirs = make_pair(ours, theirs, width=6)
    x = random(2, 5, 6, seed=3) * scale
    torch.testing.assert_close(ours(x), theirs(x))


@BOTH
@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1.0, 1e4, 1e12])
def test_equals_torch_with_its_gradients(ours, theirs, scale):
    """Gradients need the third power of 1 / size, which 10¹² just leaves in range."""
    ours, theirs = make_pair(ours, theirs, width=6)
    x = (random(2, 5, 6, seed=3) * scale).requires_grad_()
    torch.testing.assert_close(ours(x), theirs(x))
    weight = random(2, 5, 6, seed=4)
    for mine, wanted in zip(
        torch.autograd.grad((ours(x) * weight).sum(), [x, *ours.parameters()]),
        torch.autograd.grad((theirs(x) * weight).sum(), [x, *theirs.parameters()]),
        strict=True,
    ):
        size = wanted.abs().max()
        assert size > 0
        torch.testing.assert_close(mine / size, wanted / size, atol=1e-5, rtol=1e-5)


@BOTH
def test_equals_torch_where_all_coordinates_are_equal(ours, theirs):
    ours, theirs = make_pair(ours, theirs, width=6)
    x = torch.tensor([0.0, 2.0, -512.0])[:, None].expand(3, 6)
    torch.testing.assert_close(ours(x), theirs(x))


@BOTH
def test_equals_torch_for_a_vector_of_one_coordinate(ours, theirs):
    ours, theirs = make_pair(ours, theirs, width=1)
    torch.testing.assert_close(ours(random(7, 1)), theirs(random(7, 1)))
