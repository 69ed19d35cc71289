"""Windows of attention, and a cache that forgets what lies behind them."""

import pytest
import torch

from llmcourse.model.attention import KVCache, naive_attention
from llmcourse.model.long_context import (
    WindowCache,
    sliding_window_attention,
    sliding_window_mask,
)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def qkv(n_queries, n_keys, n_heads=6, n_kv_heads=3):
    return (
        random(2, n_heads, n_queries, 4),
        random(2, n_kv_heads, n_keys, 4, seed=1),
        random(2, n_kv_heads, n_keys, 5, seed=2),
    )


def naive(query, key, value, window):
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    mask = sliding_window_mask(query.shape[2], key.shape[2], window)
    return naive_attention(query, key, value, mask)[0]


def new_cache(kind, capacity):
    sizes = {"n_layers": 2, "batch_size": 2, "n_kv_heads": 3, "d_head": 4}
    return kind(**sizes, capacity=capacity)


# Worked example


def test_worked_example_of_a_window_of_two():
    """Keys that all fit alike: each query gets the mean of its value and the last."""
    value = torch.tensor([2.0, 4, 8, 16]).view(1, 1, 4, 1)
    zeros = torch.zeros(1, 1, 4, 1)
    found = sliding_window_attention(zeros, zeros, value, window=2)
    torch.testing.assert_close(found.flatten(), torch.tensor([2.0, 3, 6, 12]))


# Law


@pytest.mark.parametrize("window", [1, 2, 3, 8, 9, 20])
@pytest.mark.parametrize(("n_queries", "n_keys"), [(9, 9), (4, 9), (1, 9)])
def test_bands_are_the_masked_table(window, n_queries, n_keys):
    results = []
    for attend in (naive, sliding_window_attention):
        inputs = [x.requires_grad_() for x in qkv(n_queries, n_keys)]
        context = attend(*inputs, window)
        slopes = torch.autograd.grad(context.square().sum(), inputs)
        results.append([context.detach(), *slopes])
    for wanted, found in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pieces", [[9], [1] * 9, [4, 1, 3, 1], [2, 7]])
def test_a_cache_that_drops_is_a_window(pieces):
    """Fed in pieces of any size, the dropped keys are those that nobody may see."""
    query, key, value = qkv(9, 9)
    value = value[..., :4]
    wanted = naive(query, key, value, window=3)
    cache, parts, start = new_cache(WindowCache, capacity=3), [], 0
    n_bytes = cache.n_bytes
    for size in pieces:
        here = slice(start, start + size)
        seen = cache.update(1, key[:, :, here], value[:, :, here])
        parts.append(sliding_window_attention(query[:, :, here], *seen, window=3))
        cache.advance(size)
        start += size
    torch.testing.assert_close(torch.cat(parts, dim=2), wanted)
    assert (cache.length, cache.n_bytes) == (9, n_bytes)
    assert cache.n_bytes == new_cache(KVCache, capacity=3).n_bytes


def test_until_it_is_full_it_is_the_usual_cache():
    plain, window = new_cache(KVCache, 5), new_cache(WindowCache, 5)
    for seed in range(3):
        new = random(2, 3, 1, 4, seed=seed), random(2, 3, 1, 4, seed=9 - seed)
        for wanted, found in zip(
            plain.update(0, *new), window.update(0, *new), strict=True
        ):
            assert torch.equal(wanted, found)
        plain.advance(1)
        window.advance(1)


# Refusal


def test_refusals():
    query, key, value = qkv(5, 5)
    with pytest.raises(ValueError, match="window must be at least 1"):
        sliding_window_attention(query, key, value, window=0)
    with pytest.raises(ValueError, match="window must be at least 1"):
        sliding_window_mask(5, 5, window=0)
    odd = [x[:, [0, 1, 2, 0]] for x in (key, value)]
    with pytest.raises(ValueError, match="must divide the 6 query heads, got 4"):
        sliding_window_attention(query, *odd, window=2)
    with pytest.raises(ValueError, match="n_queries must be in 1 … n_keys = 3"):
        sliding_window_attention(query, key[:, :, :3], value[:, :, :3], window=2)
