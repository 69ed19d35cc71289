"""The two feed-forward networks and the bends inside."""

import math

import pytest
import torch

from llmcourse.model.transformer import GELUNetwork, SwiGLU


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


def test_networks_equal_loops_over_the_hidden_units():
    x = random(3, 4, seed=9)
    gated, plain = randomised(SwiGLU(4, 7)), randomised(GELUNetwork(4, 7))
    expected = torch.zeros(2, 3, 4)
    expected[1] += plain.down.bias
    for i in range(7):
        gate, up = x @ gated.gate.weight[i], x @ gated.up.weight[i]
        hidden = gate / (1 + torch.exp(-gate)) * up
        expected[0] += hidden[:, None] * gated.down.weight[:, i]
        z = x @ plain.up.weight[i] + plain.up.bias[i]
        inner = math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)
        hidden = z / 2 * (1 + torch.tanh(inner))
        expected[1] += hidden[:, None] * plain.down.weight[:, i]
    torch.testing.assert_close(torch.stack((gated(x), plain(x))), expected)
