"""Closed forms of attention's cost, each held against what is measured."""

from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llmcourse.model.attention import causal_mask, fused_attention, naive_attention
from llmcourse.model.costs import (
    ATTENTION_COSTS,
    attention_cost,
    kv_bytes_per_token,
    kv_cache_bytes,
)
from llmcourse.model.long_context import (
    chunked_attention,
    linear_attention,
    sliding_window_attention,
)
from llmcourse.model.transformer import TINY
from llmcourse.serving.server import PeakMemory


def attend(kind, n, width):
    mask = causal_mask(n, n)
    return {
        "naive": lambda *qkv: naive_attention(*qkv, mask)[0],
        "fused": fused_attention,
        "chunked": partial(chunked_attention, block=width),
        "window": partial(sliding_window_attention, window=width),
        "linear": partial(linear_attention, block=width),
    }[kind]


# Worked example


def test_worked_example_of_a_few_positions():
    """Four positions, one head of width 2: 16 scores of 2 products and sums each, and
    as many again to mix the values. In blocks of two, three of four tiles are needed.
    """
    assert attention_cost("naive", 4, 1, 2).flops == 2 * 16 * 2 * 2
    assert attention_cost("chunked", 4, 1, 2, width=2).flops == 2 * 3 * 4 * 2 * 2
    assert attention_cost("window", 4, 1, 2, width=2).flops == 2 * (4 * 4) * 2 * 2
    assert kv_bytes_per_token(3, 2, 5, 2) == 2 * 3 * 2 * 5 * 2


# Law


@pytest.mark.parametrize(
    ("kind", "power"), [("naive", 2), ("window", 1), ("linear", 1)]
)
def test_how_it_grows(kind, power):
    short, long = (attention_cost(kind, n, 3, 16, width=32) for n in (512, 4096))
    assert long.flops == 8**power * short.flops
    assert long.n_bytes == 8**power * short.n_bytes


@pytest.mark.parametrize("kind", ["chunked", "fused"])
def test_the_same_arithmetic_in_much_less_memory(kind):
    cost, naive = (attention_cost(k, 8192, 4, 32) for k in (kind, "naive"))
    assert cost.flops > 0.5 * naive.flops
    assert cost.n_bytes < naive.n_bytes / 100


# Reference


@torch.no_grad()
@pytest.mark.parametrize("kind", ATTENTION_COSTS)
@pytest.mark.parametrize(("n", "width"), [(256, 32), (384, 64), (512, 128)])
def test_what_is_measured(kind, n, width):
    qkv = torch.randn(3, 1, 3, n, 16).unbind()
    way, cost = attend(kind, n, width), attention_cost(kind, n, 3, 16, width)
    with PeakMemory() as memory:
        way(*qkv)
    assert memory.peak == pytest.approx(cost.n_bytes, rel=0.05)
    counter = FlopCounterMode(display=False)
    # The kernel for processors is not known to the counter; this one is.
    with counter, sdpa_kernel(SDPBackend.MATH):
        way(*qkv)
    assert counter.get_total_flops() == pytest.approx(cost.flops, rel=0.05)


def test_a_cache_is_as_large_as_accounting_says():
    per_token = kv_bytes_per_token(TINY.n_layers, TINY.n_kv_heads, TINY.d_head, 4)
    assert kv_cache_bytes(TINY, 100) == 100 * per_token


# Refusal


def test_refusals():
    with pytest.raises(ValueError, match="kind must be one of naive, chunked"):
        attention_cost("sparse", 8, 1, 2)
    with pytest.raises(ValueError, match="must be at least 1, got 8, 0, 2 and 64"):
        attention_cost("naive", 8, 0, 2)
    with pytest.raises(ValueError, match="must be at least 1"):
        attention_cost("window", 8, 1, 2, width=0)
    with pytest.raises(ValueError, match="must be positive"):
        kv_bytes_per_token(1, 1, 0)
