"""Linear attention: parallel, in blocks, and one position at a time."""

import pytest
import torch

from llmcourse.model.long_context import (
    LinearState,
    elu_features,
    linear_attention,
)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def qkv(length, n_heads=6, n_kv_heads=3):
    return (
        random(2, n_heads, length, 4),
        random(2, n_kv_heads, length, 4, seed=1),
        random(2, n_kv_heads, length, 5, seed=2),
    )


def slow(query, key, value):
    """The definition, pair by pair."""
    result = torch.zeros(*query.shape[:3], value.shape[-1])
    group = query.shape[1] // key.shape[1]
    for b, head, t in torch.cartesian_prod(*map(torch.arange, query.shape[:3])):
        of_head = b, head // group
        phi = elu_features(query[b, head, t])
        weights = [phi @ elu_features(key[*of_head, s]) for s in range(t + 1)]
        mixture = sum(w * value[*of_head, s] for s, w in enumerate(weights))
        result[b, head, t] = mixture / sum(weights)
    return result


# Worked example


def test_worked_example_of_two_keys():
    """elu + 1 makes 3 of 2, 1 of 0 and 2 of 1. The second query, 2, weighs the keys 0
    and 1 with 3 · 1 and 3 · 2, so of the values 6 and 3 it gathers (18 + 18) / 9 = 4.
    """
    query, key, value = torch.tensor([[0.0, 2], [0, 1], [6, 3]]).view(3, 1, 1, 2, 1)
    found = linear_attention(query, key, value)
    torch.testing.assert_close(found.flatten(), torch.tensor([6.0, 4.0]))


# Law


@pytest.mark.parametrize("length", [1, 7, 8])
def test_parallel_in_blocks_and_recurrent_are_one(length):
    query, key, value = qkv(length)
    state = LinearState()
    at = [[x[:, :, t] for x in (query, key, value)] for t in range(length)]
    steps = [state.read(*rows) for rows in at]
    wanted = torch.stack(steps, dim=2)
    for block in (1, 2, 3, length, 99):
        found = linear_attention(query, key, value, block)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_last_queries_alone_get_what_they_get_among_all():
    query, key, value = qkv(7)
    wanted = linear_attention(query, key, value, block=3)[:, :, 5:]
    found = linear_attention(query[:, :, 5:], key, value, block=3)
    torch.testing.assert_close(found, wanted)


def test_blocks_do_not_change_the_gradient():
    slopes = []
    for block in (3, 7):
        inputs = [x.requires_grad_() for x in qkv(7)]
        context = linear_attention(*inputs, block)
        slopes.append(torch.autograd.grad(context.square().sum(), inputs))
    for wanted, found in zip(*slopes, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_mixture_of_equal_values_is_that_value():
    query, key, value = qkv(7)
    found = linear_attention(query, key, torch.full_like(value, 3.0), 2)
    torch.testing.assert_close(found, torch.full_like(found, 3.0))


def test_the_state_does_not_grow():
    state, sizes = LinearState(), set()
    query, key, value = qkv(7)
    for t in range(7):
        state.read(*(x[:, :, t] for x in (query, key, value)))
        sizes.add(state.n_bytes)
    assert sizes == {2 * 6 * 4 * (5 + 1) * 4}  # of each head, features by values


# Reference


def test_the_sum_over_all_pairs():
    query, key, value = qkv(5)
    found = linear_attention(query, key, value, block=2)
    torch.testing.assert_close(found, slow(query, key, value))


def test_refusals():
    query, key, value = qkv(5)
    four = [x[:, [0, 1, 2, 0]] for x in (key, value)]
    with pytest.raises(ValueError, match="must divide the 6 query heads, got 4"):
        linear_attention(query, *four)
    with pytest.raises(ValueError, match="must divide the 6 query heads, got 4"):
        LinearState().read(*(x[:, :, 0] for x in (query, *four)))
    with pytest.raises(ValueError, match="queries must be 1 … 3, the keys, got 5"):
        linear_attention(query, key[:, :, :3], value[:, :, :3])
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        linear_attention(query, key, value, block=0)
