"""Masks, attention in its forms, and the key-value cache."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError
from torch.nn.functional import scaled_dot_product_attention

from llmcourse.model.attention import (
    GroupedQueryAttention,
    KVCache,
    PackedSequences,
    RaggedCache,
    causal_attention,
    causal_mask,
    fused_attention,
    naive_attention,
    next_positions,
    two_block_attention,
)
from llmcourse.model.positions import rope_tables


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_layer(d_model, n_heads, n_kv_heads, bias=False):
    layer = GroupedQueryAttention(d_model, n_heads, n_kv_heads, bias=bias)
    generator = torch.Generator().manual_seed(4)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=0.5, generator=generator)
    return layer


# Worked example


def test_worked_example_of_two_keys():
    """Query (2, 0) of width 4 with keys (log 3, …) and 0: scores are 2·log 3 / √4 =
    log 3 and 0, weights 3 : 1, so the context of the values 8 and 4 is 7.
    """
    query = torch.tensor([[2.0, 0, 0, 0]])
    key = torch.tensor([[math.log(3), 5, 0, 0], [0.0, 0, 7, 0]])
    context, weights = naive_attention(query, key, torch.tensor([[8.0], [4.0]]))
    torch.testing.assert_close(weights, torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(context, torch.tensor([[7.0]]))


# Law


def test_weights_sum_to_one_and_the_future_has_none():
    _, weights = naive_attention(
        random(2, 3, 5, 4), random(2, 3, 7, 4), random(2, 3, 7, 6), causal_mask(5, 7)
    )
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5))
    for query in range(5):
        assert (weights[..., query, query + 3 :] == 0).all()
        assert (weights[..., query, : query + 3] > 0).all()


def test_order_of_the_keys_does_not_matter_without_positions():
    query, key, value = random(3, 4), random(5, 4, seed=1), random(5, 2, seed=2)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(
        naive_attention(query, key, value)[0],
        naive_attention(query, key[order], value[order])[0],
    )


@pytest.mark.parametrize("rotated", [True, False])
def test_a_layer_gives_the_same_with_a_cache_however_it_is_fed(rotated):
    layer = make_layer(d_model=24, n_heads=6, n_kv_heads=3, bias=not rotated)
    x, (cos, sin) = random(2, 7, 24), rope_tables(7, d_head=4)
    expected = layer(x, (cos, sin)) if rotated else layer(x)
    for pieces in ([7], [1] * 7, [3, 1, 2, 1]):
        cache = KVCache(n_layers=2, batch_size=2, n_kv_heads=3, capacity=9, d_head=4)
        parts, start = [], 0
        for size in pieces:
            here = slice(start, start + size)
            tables = (cos[here], sin[here]) if rotated else None
            parts.append(layer(x[:, here], tables, cache, layer=1))
            cache.advance(size)
            start += size
        torch.testing.assert_close(torch.cat(parts, dim=1), expected)


@pytest.mark.parametrize("changed", [0, 2, 4])
def test_a_layer_sees_no_later_position(changed):
    layer = make_layer(d_model=24, n_heads=6, n_kv_heads=3)
    x, tables = random(2, 5, 24), rope_tables(5, d_head=4)
    other = x.clone()
    other[:, changed] += 1
    before, after = layer(x, tables), layer(other, tables)
    torch.testing.assert_close(after[:, :changed], before[:, :changed])
    assert ((after - before).abs().amax(-1) > 1e-3)[:, changed:].all()


def test_grouped_queries_are_full_attention_with_repeated_keys():
    """Each key-value head copied for the query heads it serves gives the same."""
    grouped = make_layer(d_model=24, n_heads=6, n_kv_heads=2)
    full = make_layer(d_model=24, n_heads=6, n_kv_heads=6)
    full.load_state_dict(
        grouped.state_dict()
        | {
            f"{name}.weight": getattr(grouped, name)
            .weight.unflatten(0, (2, 4))
            .repeat_interleave(3, dim=0)
            .flatten(0, 1)
            for name in ("key", "value")
        }
    )
    x, tables = random(2, 5, 24), rope_tables(5, d_head=4)
    torch.testing.assert_close(grouped(x, tables), full(x, tables))


def test_a_cache_holds_what_its_size_says():
    cache = KVCache(
        n_layers=3,
        batch_size=2,
        n_kv_heads=5,
        capacity=7,
        d_head=4,
        dtype=torch.bfloat16,
    )
    assert cache.n_bytes == 2 * 3 * 2 * 5 * 7 * 4 * 2


# Reference


MASKS = {
    "none": None,
    "causal": causal_mask(5, 7),
    "first key only": torch.zeros(5, 7, dtype=torch.bool).index_fill(
        1, torch.tensor(0), True
    ),
    "one key each": torch.eye(5, 7, dtype=torch.bool),
}


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e3, 1e18])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_naive_equals_torch(mask, scale):
    """Scores that are all equal, tiny, ordinary, and so large that one key wins."""
    query, key, value = (
        random(2, 3, 5, 4) * scale,
        random(2, 3, 7, 4, seed=1) * scale,
        random(2, 3, 7, 6, seed=2),
    )
    expected = scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(naive_attention(query, key, value, mask)[0], expected)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e18])
def test_fused_equals_naive_at_extremes(scale):
    query, key = random(2, 3, 7, 4) * scale, random(2, 3, 7, 4, seed=1) * scale
    value = random(2, 3, 7, 4, seed=2)
    expected, _ = naive_attention(query, key, value, causal_mask(7, 7))
    torch.testing.assert_close(fused_attention(query, key, value), expected)


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_without_rotation_equals_torchs_multi_head_attention(bias):
    layer = make_layer(d_model=24, n_heads=6, n_kv_heads=6, bias=bias)
    theirs = torch.nn.MultiheadAttention(24, num_heads=6, bias=bias, batch_first=True)
    projections = (layer.query, layer.key, layer.value)
    state = {
        "in_proj_weight": torch.cat([each.weight for each in projections]),
        "out_proj.weight": layer.output.weight,
    }
    if bias:
        state["in_proj_bias"] = torch.cat([each.bias for each in projections])
        state["out_proj.bias"] = layer.output.bias
    theirs.load_state_dict(state)
    x = random(2, 5, 24)
    expected, _ = theirs(x, x, x, attn_mask=~causal_mask(5, 5), need_weights=False)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(
    ("attend", "n_queries"),
    [(fused_attention, n) for n in (1, 2, 5, 7)] + [(two_block_attention, 7)],
)
@pytest.mark.parametrize("n_kv_heads", [1, 2, 6])
def test_fast_ways_equal_naive_with_their_gradients(attend, n_queries, n_kv_heads):
    shapes = ((2, 6, n_queries, 4), (2, n_kv_heads, 7, 4), (2, n_kv_heads, 7, 4))
    inputs = [random(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes)]
    query, key, value = inputs
    fused = attend(query, key, value)
    naive, _ = naive_attention(
        query,
        key.repeat_interleave(6 // n_kv_heads, dim=1),
        value.repeat_interleave(6 // n_kv_heads, dim=1),
        causal_mask(n_queries, 7),
    )
    torch.testing.assert_close(fused, naive)
    weight = random(*fused.shape, seed=9)
    for ours, theirs in zip(
        torch.autograd.grad((fused * weight).sum(), inputs),
        torch.autograd.grad((naive * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("n_queries", "n_keys"), [(5, 5), (2, 2), (1, 7), (3, 7)])
def test_the_faster_way_gives_the_same(dtype, n_queries, n_keys):
    """Bfloat16 keeps 8 bits: a few roundings of numbers around 1 make 0.03."""
    query = random(2, 6, n_queries, 4).to(dtype)
    key, value = (random(2, 3, n_keys, 4, seed=i).to(dtype) for i in (1, 2))
    exact = fused_attention(query.float(), key.float(), value.float())
    ours = causal_attention(query, key, value)
    assert ours.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(ours.float(), exact, atol=tolerance, rtol=tolerance)


# Refusal


@pytest.mark.parametrize(("n_queries", "n_keys"), [(0, 3), (4, 3)])
def test_refuses_a_mask_without_a_past(n_queries, n_keys):
    with pytest.raises(ValueError, match=f"must be in 1 … 3, got {n_queries}"):
        causal_mask(n_queries, n_keys)


def test_refuses_more_queries_than_keys():
    with pytest.raises(ValueError, match="n_queries must be in 1 … 3, got 5"):
        fused_attention(random(1, 2, 5, 4), random(1, 2, 3, 4), random(1, 2, 3, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_refuses_heads_that_cannot_be_shared(dtype):
    query, key = random(1, 6, 5, 4).to(dtype), random(1, 4, 5, 4).to(dtype)
    with pytest.raises(
        ValueError, match="n_heads must be a multiple of n_kv_heads, got 6 and 4"
    ):
        causal_attention(query, key, key)


def test_refuses_a_full_cache_and_stays_as_it_was():
    cache = KVCache(n_layers=1, batch_size=1, n_kv_heads=1, capacity=3, d_head=2)
    cache.update(0, torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    cache.advance(2)
    with pytest.raises(ValueError, match="at most 3 positions, got 4"):
        cache.update(0, torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    assert cache.length == 2


def test_shapes_are_checked_here_so_nothing_broadcasts_in_silence():
    """What makes every other test of this file trustworthy: the hook is on."""
    with pytest.raises(TypeCheckError, match="key"):
        naive_attention(random(1, 5, 4), random(2, 7, 4), random(2, 7, 4))


# Packed sequences


def test_worked_example_of_two_packed_texts():
    """All keys fit all queries alike, so each position hands on the mean of what it
    sees: of 1 and 3 these are 1 and 2; 8 stands alone.
    """
    values = torch.tensor([[[[1.0], [3.0], [8.0]]]])
    alike = torch.zeros_like(values)
    for lengths, wanted in (([2, 1], [1.0, 2.0, 8.0]), ([3], [1.0, 2.0, 4.0])):
        packed = PackedSequences(lengths)
        context = packed.attend(causal_attention, 0, alike, alike, values)
        assert context.flatten().tolist() == wanted


def test_worked_example_of_position_ids():
    assert next_positions(5, 3, 8) == slice(5, 8)
    found = PackedSequences((5, 1, 2)).positions(8, context_length=5)
    assert found.tolist() == [0, 1, 2, 3, 4, 0, 0, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [(7,), (3, 4), (1, 1, 5), (2, 4, 1)])
def test_packed_sequences_equal_torch_with_a_mask(dtype, lengths):
    """The mask has a triangle for each text, and nothing between them."""
    inputs = [random(2, heads, 7, 4, seed=heads).to(dtype) for heads in (6, 3, 3)]
    inputs = [each.requires_grad_() for each in inputs]
    ours = PackedSequences(lengths).attend(causal_attention, 0, *inputs)
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


@pytest.mark.parametrize("lengths", [(), (3, 3), (8,), (7, 0), (9, -2)])
def test_refuses_lengths_that_do_not_fill_the_row(lengths):
    with pytest.raises(ValueError, match="add up to the 7 positions of a row, got"):
        PackedSequences(lengths).positions(7, context_length=9)


def test_refuses_a_text_that_is_too_long():
    assert PackedSequences((3, 11)).positions(14, 11).max() == 10
    with pytest.raises(ValueError, match=r"context_length = 11, got 12 \+ 0"):
        PackedSequences((2, 12)).positions(14, 11)
    with pytest.raises(ValueError, match="11 tokens, got 9 cached and 3 new"):
        next_positions(9, 3, 11)


def test_refuses_another_batch_than_the_caches():
    cache = KVCache(n_layers=1, batch_size=4, n_kv_heads=1, capacity=4, d_head=2)
    one = torch.ones(1, 1, 1, 2)
    with pytest.raises(ValueError, match="holds 4 sequences, got a batch of 1"):
        cache.update(0, one, one)
    many = one.expand(3, -1, -1, -1)
    with pytest.raises(ValueError, match="is longer"):
        RaggedCache([None]).attend(causal_attention, 0, many, many, many)
