"""The two feed-forward networks and the bends inside."""

import math

import pytest
import torch

from llmcourse.model.transformer import GELUNetwork, SwiGLU, gelu


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomised(network):
    for seed, weight in enumerate(network.parameters()):
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(seed))
    return network


# Worked example


def test_worked_example_of_a_gate():
    """With gate and up both 1 · x and down 1 · h the network makes silu(x) · x:
    2² / (1 + e⁻²) from 2.
    """
    network = SwiGLU(1, 1)
    for weight in network.parameters():
        torch.nn.init.ones_(weight)
    assert network(torch.tensor([2.0])).item() == pytest.approx(4 / (1 + math.exp(-2)))


def test_worked_example_of_two_matrices():
    """up 2 · x − 1 makes 1 from 1, gelu(1) is 0.8412, down 10 · h + 5 makes 13.412."""
    network = GELUNetwork(1, 1)
    for weight, value in zip(network.parameters(), [2, -1, 10, 5], strict=True):
        torch.nn.init.constant_(weight, value)
    assert network(torch.tensor([1.0])).item() == pytest.approx(13.412, abs=1e-3)


# Law


def test_gelu_of_a_number_and_its_negative_differ_by_the_number():
    """For any bend x · P(z < x) of a symmetric z: x · P(z < x) + x · P(z > x) = x."""
    x = 3 * random(50)
    torch.testing.assert_close(gelu(x) - gelu(-x), x)


def test_gelu_passes_large_numbers_and_cuts_large_negative_ones():
    x = torch.tensor([10.0, 1e4, 1e20])
    torch.testing.assert_close(gelu(x), x)
    torch.testing.assert_close(gelu(-x), torch.zeros(3))


@pytest.mark.parametrize("network", [SwiGLU(6, 10), GELUNetwork(6, 10)])
def test_each_position_is_worked_on_by_itself(network):
    x = random(2, 5, 6)
    x_changed = x.clone()
    x_changed[0, 3] += 1
    before, after = randomised(network)(x), network(x_changed)
    differs = (before - after).abs().amax(-1) > 1e-3
    assert differs.nonzero().tolist() == [[0, 3]]


def test_the_gates_network_has_no_bias():
    assert not SwiGLU(6, 10)(torch.zeros(6)).any()
    assert GELUNetwork(6, 10)(torch.zeros(6)).any()


# Reference


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-3, 1.0, 10.0, 1e4, 1e12])
def test_gelu_equals_torch_with_its_gradient(scale):
    x = (2 * random(2, 50) * scale).requires_grad_()
    theirs = torch.nn.functional.gelu(x, approximate="tanh")
    torch.testing.assert_close(gelu(x), theirs)
    (mine,) = torch.autograd.grad(gelu(x).sum(), x)
    (wanted,) = torch.autograd.grad(theirs.sum(), x)
    torch.testing.assert_close(mine, wanted)


def test_the_tanh_form_is_close_to_the_normal_distribution():
    """P(z < x) by the error function; the docstring promises 0.001."""
    x = torch.linspace(-6, 6, steps=2401, dtype=torch.double)
    exact = x * (1 + torch.erf(x / math.sqrt(2))) / 2
    assert 1e-4 < (gelu(x) - exact).abs().max() < 1e-3


def test_networks_equal_loops_over_the_hidden_units():
    x = random(3, 4, seed=9)
    gated, plain = randomised(SwiGLU(4, 7)), randomised(GELUNetwork(4, 7))
    expected = torch.zeros(2, 3, 4)
    expected[1] += plain.down.bias
    for i in range(7):
        gate, up = x @ gated.gate.weight[i], x @ gated.up.weight[i]
        hidden = gate / (1 + torch.exp(-gate)) * up
        expected[0] += hidden[:, None] * gated.down.weight[:, i]
        hidden = gelu(x @ plain.up.weight[i] + plain.up.bias[i])
        expected[1] += hidden[:, None] * plain.down.weight[:, i]
    torch.testing.assert_close(torch.stack((gated(x), plain(x))), expected)
