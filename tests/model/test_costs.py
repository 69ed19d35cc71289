"""Closed forms, each held against what torch counts on a real model."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llmcourse.model.costs import (
    forward_flops_per_token,
    kv_bytes_per_token,
    kv_cache_bytes,
    n_parameters,
    parameter_counts,
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


def test_a_cache_is_as_large_as_accounting_says():
    per_token = kv_bytes_per_token(TINY.n_layers, TINY.n_kv_heads, TINY.d_head, 4)
    assert kv_bytes_per_token(3, 2, 5, 2) == 2 * 3 * 2 * 5 * 2
    assert kv_cache_bytes(TINY, 100) == 100 * per_token
