"""Attention block by block: the same as with the whole table, gradients too."""

import math

import pytest
import torch

from llmcourse.model.attention import causal_mask, naive_attention
from llmcourse.model.long_context import chunked_attention


def random(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def qkv(n_queries, n_keys, n_heads=6, n_kv_heads=3, dtype=torch.float32):
    return (
        random(2, n_heads, n_queries, 4, dtype=dtype),
        random(2, n_kv_heads, n_keys, 4, seed=1, dtype=dtype),
        random(2, n_kv_heads, n_keys, 5, seed=2, dtype=dtype),
    )


def naive(query, key, value):
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    mask = causal_mask(query.shape[2], key.shape[2])
    return naive_attention(query, key, value, mask)[0]


# Worked example


def test_worked_example_of_two_blocks_of_one_key():
    """Scores log 1 and log 3. After the first block the largest is 0, the sum 1, the
    mixture 8. The second is larger by log 3, so both shrink to a third, and 1 and 4
    are added: (8 / 3 + 4) / (1 / 3 + 1) = 5.
    """
    query = torch.tensor([1.0]).view(1, 1, 1, 1)
    key = torch.tensor([0.0, math.log(3)]).view(1, 1, 2, 1)
    value = torch.tensor([8.0, 4.0]).view(1, 1, 2, 1)
    found = chunked_attention(query, key, value, block=1)
    torch.testing.assert_close(found.flatten(), torch.tensor([5.0]))


# Law


@pytest.mark.parametrize("block", [1, 3, 4, 100])
@pytest.mark.parametrize(("n_queries", "n_keys"), [(9, 9), (5, 9), (1, 9)])
def test_blocks_change_neither_value_nor_gradient(block, n_queries, n_keys):
    results = []
    for attend in (naive, lambda *x: chunked_attention(*x, block=block)):
        inputs = [x.requires_grad_() for x in qkv(n_queries, n_keys)]
        context = attend(*inputs)
        (context * random(*context.shape, seed=3)).sum().backward()
        results.append([context.detach(), *(x.grad for x in inputs)])
    for wanted, found in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_later_key_does_not_matter():
    query, key, value = qkv(7, 7)
    before = chunked_attention(query, key, value, block=2)
    key[:, :, 5:], value[:, :, 5:] = 9, 9
    after = chunked_attention(query, key, value, block=2)
    assert torch.equal(after[:, :, :5], before[:, :, :5])
    assert not torch.allclose(after[:, :, 5:], before[:, :, 5:])


def test_scores_that_would_overflow_are_no_trouble():
    query, key, value = qkv(7, 7)
    found = chunked_attention(300 * query, 300 * key, value, block=2)
    torch.testing.assert_close(found, naive(300 * query, 300 * key, value))


# Reference


def test_gradients_are_those_of_finite_differences():
    inputs = [x.requires_grad_() for x in qkv(3, 4, 2, 1, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *x: chunked_attention(*x, block=2), inputs)


# Refusal


def test_refusals():
    query, key, value = qkv(5, 5)
    with pytest.raises(ValueError, match="queries must be 1 … 3"):
        chunked_attention(query, key[:, :, :3], value[:, :, :3])
    with pytest.raises(ValueError, match="must divide the 6 query heads, got 4"):
        chunked_attention(query, *(x[:, [0, 1, 2, 0]] for x in (key, value)))
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        chunked_attention(query, key, value, block=0)


def test_a_second_derivative_is_refused():
    query, key, value = (x.requires_grad_() for x in qkv(5, 5))
    context = chunked_attention(query, key, value)
    with pytest.raises(RuntimeError, match="create_graph must be off"):
        torch.autograd.grad(context.sum(), query, create_graph=True)
