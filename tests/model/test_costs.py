"""Closed forms, each held against what torch counts on a real model."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llmcourse.model.attention import causal_mask, fused_attention, naive_attention
from llmcourse.model.costs import (
    ATTENTION_COSTS,
    PeakMemory,
    attention_cost,
    forward_flops_per_token,
    kv_bytes_per_token,
    kv_cache_bytes,
    n_parameters,
    parameter_counts,
)
from llmcourse.model.long_context import (
    chunked_attention,
    linear_attention,
    sliding_window_attention,
)
from llmcourse.model.transformer import (
    GPT2_SMALL,
    SMOLLM2_135M,
    TINY,
    Transformer,
    TransformerConfig,
)

ODD = TransformerConfig(
    vocab_size=37,
    d_model=48,
    n_layers=3,
    n_heads=6,
    n_kv_heads=2,
    d_ff=52,
    context_length=11,
)

GPT2 = replace(ODD, family="gpt2", n_kv_heads=6)
SHAPES = pytest.mark.parametrize(
    "config",
    [
        TINY,
        ODD,
        replace(ODD, tied_embeddings=False, n_kv_heads=1),
        GPT2,
        replace(GPT2, tied_embeddings=False),
        replace(ODD, positions="learned"),
        replace(ODD, qkv_bias=True),
        replace(ODD, qk_norm=True, head_width=6),
        replace(GPT2, positions="none"),
    ],
    ids=[
        *("tiny", "llama", "llama-untied", "gpt2", "gpt2-untied", "learned"),
        *("qwen2", "qwen3", "none"),
    ],
)

# Worked example


def test_worked_example_of_the_smallest_model():
    """One layer, width 2, one head, feed-forward 3, five tokens:
    embedding 5·2, four 2 × 2 matrices, three 2 × 3 ones, three norms of 2.
    """
    sizes = TransformerConfig(
        vocab_size=5, d_model=2, n_layers=1, n_heads=1, n_kv_heads=1, d_ff=3
    )
    counts = {"embedding": 10, "attention": 16, "feed_forward": 18, "norms": 6}
    assert parameter_counts(sizes) == counts
    assert n_parameters(sizes) == 50
    # 2 · (10 + 16 + 18) for the matrices; 4 · 2 coordinates · 3 positions
    assert forward_flops_per_token(sizes, n_positions=3) == 88 + 24
    # key and value of 2 numbers of 4 bytes at each of 3 positions
    assert kv_cache_bytes(sizes, n_positions=3) == 48


def test_worked_example_of_the_smallest_gpt2():
    """The same sizes; positions 4·2, untied; attention has 4 biases of 2, the network
    two 2 × 3 matrices and biases of 3 and 2, each of the three norms 2 more.
    """
    sizes = TransformerConfig(
        family="gpt2",
        tied_embeddings=False,
        vocab_size=5,
        d_model=2,
        n_layers=1,
        n_heads=1,
        n_kv_heads=1,
        d_ff=3,
        context_length=4,
    )
    assert parameter_counts(sizes) == {
        "embedding": 10,
        "positions": 8,
        "attention": 24,
        "feed_forward": 17,
        "norms": 12,
        "unembedding": 10,
    }
    # 2 · (10 + 16 + 12) for the matrices, and as before
    assert forward_flops_per_token(sizes, n_positions=3) == 76 + 24


# Law


def test_grouped_queries_shrink_the_cache_by_the_size_of_a_group():
    full = replace(ODD, n_kv_heads=6)
    assert kv_cache_bytes(full, 7) == 3 * kv_cache_bytes(ODD, 7)


def test_the_share_of_attention_grows_with_the_length():
    flops = [forward_flops_per_token(ODD, n) for n in (1, 2, 3)]
    assert flops[2] - flops[1] == flops[1] - flops[0] == 4 * 3 * 48


# Reference


@SHAPES
def test_parameters_equal_the_models(config):
    names = ["norms", "unembedding", "embedding", "positions", "feed_forward"]
    parts = dict.fromkeys([*names, "attention"], 0)
    for name, weight in Transformer(config).named_parameters():
        part = next(part for part in parts if part.removesuffix("s") in name)
        parts[part] += weight.numel()
    assert parameter_counts(config) == {part: n for part, n in parts.items() if n}


@pytest.mark.parametrize(
    ("config", "expected"), [(GPT2_SMALL, 124_439_808), (SMOLLM2_135M, 134_515_008)]
)
def test_parameters_equal_the_published_ones(config, expected):
    assert n_parameters(config) == expected


def count_flops(config, n_positions, *, learn):
    """Return what torch counts for a batch of 3, per token.

    Torch's counter does not know the fused kernel for processors, so attention is
    made to run as the two matrix products that it stands for.
    """
    model = Transformer(config)
    counter = FlopCounterMode(display=False)
    with torch.set_grad_enabled(learn), sdpa_kernel(SDPBackend.MATH), counter:
        logits = model(torch.zeros(3, n_positions, dtype=torch.long))
        if learn:
            logits.sum().backward()
    return counter.get_total_flops() / (3 * n_positions)


@pytest.mark.parametrize("n_positions", [1, 2, 11])
@SHAPES
def test_flops_equal_what_torch_measures(config, n_positions):
    measured = count_flops(config, n_positions, learn=False)
    assert measured == forward_flops_per_token(config, n_positions)
    # Of each product the gradient needs two more, one for either factor.
    learning = count_flops(config, n_positions, learn=True)
    assert learning == 3 * measured


def test_cache_bytes_equal_the_caches():
    cache = Transformer(ODD).new_cache(batch_size=5, capacity=7)
    assert cache.n_bytes == 5 * kv_cache_bytes(ODD, 7)


# Closed forms of attention's cost, each held against what is measured


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


@torch.no_grad()
@pytest.mark.parametrize("width", [64, 100])
def test_a_window_as_long_as_the_text(width):
    qkv = torch.randn(3, 1, 3, 64, 16).unbind()
    cost = attention_cost("window", 64, 3, 16, width)
    with PeakMemory() as memory:
        sliding_window_attention(*qkv, width)
    assert memory.peak == pytest.approx(cost.n_bytes, rel=0.05)
    assert cost.flops == attention_cost("naive", 64, 3, 16).flops


@pytest.mark.parametrize("sizes", [(0, 2, 4), (8, 0, 4), (8, 2, 0), (8, 2, 4, 0)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        attention_cost("chunked", *sizes)


def test_a_cache_is_as_large_as_accounting_says():
    per_token = kv_bytes_per_token(TINY.n_layers, TINY.n_kv_heads, TINY.d_head, 4)
    assert kv_cache_bytes(TINY, 100) == 100 * per_token


# Refusal


def test_refusals():
    with pytest.raises(ValueError, match="kind must be 'naive' or 'chunked'"):
        attention_cost("sparse", 8, 1, 2)
