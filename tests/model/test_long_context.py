"""Models that look back in other ways: what each position can reach."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from model_cases import generate_uncached
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llmcourse.model.attention import (
    KVCache,
    attention_weights,
    causal_mask,
    fused_attention,
    naive_attention,
)
from llmcourse.model.costs import PeakMemory
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.generation import GREEDY, generate
from llmcourse.model.long_context import (
    ATTENTION_KINDS,
    METHODS,
    LinearState,
    WindowCache,
    chunked_attention,
    elu_features,
    extend_context,
    linear_attention,
    set_attention,
    sliding_window_attention,
    sliding_window_mask,
)
from llmcourse.model.positions import RopeScaling, ntk_base
from llmcourse.model.transformer import TINY, Transformer, TransformerConfig
from llmcourse.text.tokenizers import BPETokenizer

CONFIG = TransformerConfig(
    vocab_size=37,
    d_model=24,
    n_layers=2,
    n_heads=3,
    n_kv_heads=1,
    d_ff=20,
    context_length=23,
)


def make_model(kind="full", window=4):
    model = Transformer(CONFIG, torch.Generator().manual_seed(0))
    set_attention(model, kind, window)
    return model.eval()


def ids(length):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(37, (2, length), generator=generator)


def reach(model, length=17):
    """Positions back from the last one whose token matters to it."""
    read = ids(length)
    before = model(read)[:, -1]
    found = []
    for place in range(length):
        other = read.clone()
        other[:, place] = (other[:, place] + 1) % 37
        if not torch.equal(model(other)[:, -1], before):
            found.append(length - 1 - place)
    return found


# Worked example


def test_two_layers_of_window_four_reach_back_over_six_positions():
    """Each layer adds three: the position itself is the fourth of its window."""
    assert reach(make_model("window", window=4)) == list(range(6, -1, -1))


# Law


@pytest.mark.parametrize("kind", ["full", "linear"])
def test_the_others_reach_back_to_the_start(kind):
    assert reach(make_model(kind)) == list(range(16, -1, -1))


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_no_kind_sees_the_future_or_has_weights_of_its_own(kind):
    model, read = make_model(kind), ids(11)
    torch.testing.assert_close(model(read[:, :5]), model(read)[:, :5])
    assert model.state_dict().keys() == make_model().state_dict().keys()


@torch.inference_mode()
@pytest.mark.parametrize("pieces", [[1] * 19, [7, 1, 9, 2]])
def test_a_window_cache_changes_nothing_for_a_model_with_that_window(pieces):
    model, read = make_model("window", window=4), ids(19)
    cache = model.new_cache(2, 4, WindowCache)
    n_bytes, parts = cache.n_bytes, []
    for part in torch.split(read, pieces, dim=1):
        parts.append(model(part, cache))
    torch.testing.assert_close(torch.cat(parts, dim=1), model(read))
    assert cache.n_bytes == n_bytes == 2 * 2 * 2 * 1 * 4 * 8 * 4


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_all_kinds_write_the_same_with_a_cache_and_without(kind):
    model, prompt = make_model(kind), ids(4)
    wanted = generate_uncached(model, prompt, 17)
    assert torch.equal(generate(model, prompt, 17, sampling=GREEDY), wanted)


def test_back_to_full_attention():
    model = make_model("linear")
    set_attention(model, "full")
    assert torch.equal(model(ids(9)), make_model()(ids(9)))


# Refusal


def test_refusals(tmp_path):
    known = " or ".join(map(repr, ATTENTION_KINDS))
    with pytest.raises(ValueError, match=f"kind must be {known}"):
        make_model("sparse")
    with pytest.raises(ValueError, match="window must be at least 1"):
        make_model("window", window=0)
    with pytest.raises(ValueError, match="full attention is needed"):
        attention_weights(make_model("linear"), ids(5))
    model, tokenizer = load_pretrained("base-llm")
    set_attention(model, "window")
    with pytest.raises(ValueError, match="full attention is needed"):
        save_pretrained(model, tokenizer, tmp_path / "model")
    assert not (tmp_path / "model").exists()


# Windows of attention, and a cache that forgets what lies behind them


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


# Reference


@pytest.mark.parametrize("attend", [naive, sliding_window_attention])
def test_scores_that_fit_float16_though_their_products_do_not(attend):
    """Up to 40 · 40 · 64 is 102,400, and float16 ends at 65,504; over √64, it fits."""
    key = torch.tensor([40.0, 38, 36, 39, 37]).view(1, 1, 5, 1).expand(-1, -1, -1, 64)
    value = random(1, 1, 5, 8)
    halves = [x.half() for x in (key, key, value)]
    found = attend(*halves, 2).float()
    wanted = attend(key, key, value, 2)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


# Refusal


def test_sliding_window_refusals():
    query, key, value = qkv(5, 5)
    with pytest.raises(ValueError, match="window must be at least 1"):
        sliding_window_attention(query, key, value, window=0)
    with pytest.raises(ValueError, match="window must be at least 1"):
        sliding_window_mask(5, 5, window=0)
    odd = [x[:, [0, 1, 2, 0]] for x in (key, value)]
    with pytest.raises(
        ValueError, match="n_heads must be a multiple of n_kv_heads, got 6 and 4"
    ):
        sliding_window_attention(query, *odd, window=2)
    with pytest.raises(ValueError, match="n_queries must be in 1 … 3"):
        sliding_window_attention(query, key[:, :, :3], value[:, :, :3], window=2)


# Linear attention: parallel, in blocks, and one position at a time


def grouped_qkv(length, n_heads=6, n_kv_heads=3):
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
    query, key, value = grouped_qkv(length)
    state = LinearState()
    at = [[x[:, :, t] for x in (query, key, value)] for t in range(length)]
    steps = [state.read(*rows) for rows in at]
    wanted = torch.stack(steps, dim=2)
    for block in (1, 2, 3, length, 99):
        found = linear_attention(query, key, value, block)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_last_queries_alone_get_what_they_get_among_all():
    query, key, value = grouped_qkv(7)
    wanted = linear_attention(query, key, value, block=3)[:, :, 5:]
    found = linear_attention(query[:, :, 5:], key, value, block=3)
    torch.testing.assert_close(found, wanted)


def test_blocks_do_not_change_the_gradient():
    slopes = []
    for block in (3, 7):
        inputs = [x.requires_grad_() for x in grouped_qkv(7)]
        context = linear_attention(*inputs, block)
        slopes.append(torch.autograd.grad(context.square().sum(), inputs))
    for wanted, found in zip(*slopes, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_mixture_of_equal_values_is_that_value():
    query, key, value = grouped_qkv(7)
    found = linear_attention(query, key, torch.full_like(value, 3.0), 2)
    torch.testing.assert_close(found, torch.full_like(found, 3.0))


def test_the_state_does_not_grow():
    state, sizes = LinearState(), set()
    query, key, value = grouped_qkv(7)
    for t in range(7):
        state.read(*(x[:, :, t] for x in (query, key, value)))
        sizes.add(state.n_bytes)
    assert sizes == {2 * 6 * 4 * (5 + 1) * 4}  # of each head, features by values


# Reference


def test_the_sum_over_all_pairs():
    query, key, value = grouped_qkv(5)
    found = linear_attention(query, key, value, block=2)
    torch.testing.assert_close(found, slow(query, key, value))


def test_linear_attention_refusals():
    query, key, value = grouped_qkv(5)
    four = [x[:, [0, 1, 2, 0]] for x in (key, value)]
    with pytest.raises(
        ValueError, match="n_heads must be a multiple of n_kv_heads, got 6 and 4"
    ):
        linear_attention(query, *four)
    with pytest.raises(
        ValueError, match="n_heads must be a multiple of n_kv_heads, got 6 and 4"
    ):
        LinearState().read(*(x[:, :, 0] for x in (query, *four)))
    with pytest.raises(ValueError, match="n_queries must be in 1 … 3, got 5"):
        linear_attention(query, key[:, :, :3], value[:, :, :3])
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        linear_attention(query, key, value, block=0)


# Attention block by block: the same as with the whole table, gradients too


def random_of(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def qkv_of(n_queries, n_keys, n_heads=6, n_kv_heads=3, dtype=torch.float32):
    return (
        random_of(2, n_heads, n_queries, 4, dtype=dtype),
        random_of(2, n_kv_heads, n_keys, 4, seed=1, dtype=dtype),
        random_of(2, n_kv_heads, n_keys, 5, seed=2, dtype=dtype),
    )


def naive_in_groups(query, key, value):
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
    for attend in (naive_in_groups, lambda *x: chunked_attention(*x, block=block)):
        inputs = [x.requires_grad_() for x in qkv_of(n_queries, n_keys)]
        context = attend(*inputs)
        (context * random_of(*context.shape, seed=3)).sum().backward()
        results.append([context.detach(), *(x.grad for x in inputs)])
    for wanted, found in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_later_key_does_not_matter():
    query, key, value = qkv_of(7, 7)
    before = chunked_attention(query, key, value, block=2)
    key[:, :, 5:], value[:, :, 5:] = 9, 9
    after = chunked_attention(query, key, value, block=2)
    assert torch.equal(after[:, :, :5], before[:, :, :5])
    assert not torch.allclose(after[:, :, 5:], before[:, :, 5:])


def test_sums_of_thousands_in_bfloat16_do_not_stop_growing():
    query, key, value = (random_of(1, 1, 2048, 4, seed=seed) for seed in range(3))
    wanted = naive_in_groups(query[:, :, -1:], key, value + 1)
    halves = (x.bfloat16() for x in (query[:, :, -1:], key, value + 1))
    found = chunked_attention(*halves, block=1)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=0.03, rtol=0)


def test_scores_that_would_overflow_are_no_trouble():
    query, key, value = qkv_of(7, 7)
    found = chunked_attention(300 * query, 300 * key, value, block=2)
    torch.testing.assert_close(found, naive_in_groups(300 * query, 300 * key, value))


# Reference


def test_gradients_are_those_of_finite_differences():
    inputs = [x.requires_grad_() for x in qkv_of(3, 4, 2, 1, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *x: chunked_attention(*x, block=2), inputs)


# Refusal


def test_chunked_attention_refusals():
    query, key, value = qkv_of(5, 5)
    with pytest.raises(ValueError, match="n_queries must be in 1 … 3"):
        chunked_attention(query, key[:, :, :3], value[:, :, :3])
    with pytest.raises(
        ValueError, match="n_heads must be a multiple of n_kv_heads, got 6 and 4"
    ):
        chunked_attention(query, *(x[:, [0, 1, 2, 0]] for x in (key, value)))
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        chunked_attention(query, key, value, block=0)


# What each kind costs, as torch counts it

WAYS = {
    "naive": lambda *qkv: naive_attention(*qkv, causal_mask(*[qkv[0].shape[2]] * 2)),
    "fused": fused_attention,
    "chunked": partial(chunked_attention, block=32),
    "window": partial(sliding_window_attention, window=32),
    "linear": partial(linear_attention, block=32),
}


def cost(kind, length):
    """Products and sums, and the most bytes held, of attention over one text."""
    qkv = torch.randn(3, 1, 2, length, 16)
    # The kernel for processors is not known to the counter; this one is.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        WAYS[kind](*qkv)
    with PeakMemory() as memory:
        WAYS[kind](*qkv)
    return counter.get_total_flops(), memory.peak


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "arithmetic", "most_memory"),
    [
        ("naive", 64, 64),
        ("fused", 64, 8),
        ("chunked", 528 / 10, 8),  # tiles up to the diagonal, of 32 rows and of 4
        ("window", 8, 8),
        ("linear", 8, 8),
    ],
)
def test_what_eight_times_the_length_costs(kind, arithmetic, most_memory):
    (flops, n_bytes), (more_flops, more_bytes) = cost(kind, 128), cost(kind, 1024)
    assert more_flops == arithmetic * flops
    assert 2 * n_bytes < more_bytes <= most_memory * n_bytes


@torch.no_grad()
def test_blocks_and_windows_cost_what_their_tables_need():
    """Two heads, 16 wide: once for each number of the table, and once to mix values."""
    for kind, cells in {
        "naive": 1024**2,
        "chunked": 528 * 32**2,
        "window": 1024 * 2 * 32,
    }.items():
        assert cost(kind, 1024)[0] == 2 * 2 * 2 * 16 * cells
    assert cost("chunked", 1024)[1] < cost("naive", 1024)[1] / 20


# The same weights, more positions: what changes, what does not, and what is saved

SHORT_CONFIG = TransformerConfig(
    vocab_size=257, d_model=24, n_layers=2, n_heads=3, n_kv_heads=1, context_length=12
)


def short_model(config=SHORT_CONFIG):
    return Transformer(config, torch.Generator().manual_seed(0)).eval()


def some_ids(length):
    return torch.randint(257, (2, length), generator=torch.Generator().manual_seed(1))


# Worked example


def test_worked_example_of_four_times_the_length():
    model = short_model()
    linear, yarn = (extend_context(model, 48, way) for way in ("linear", "yarn"))
    assert linear.config.rope_scaling == RopeScaling(kind="linear", factor=4)
    wanted = RopeScaling(kind="yarn", factor=4, original_length=12)
    assert yarn.config.rope_scaling == wanted
    ntk = extend_context(model, 48, "ntk", trained_length=6)
    assert ntk.config.rope_base == ntk_base(10_000, 8, 8)
    assert model.config == SHORT_CONFIG


# Law


def test_without_scaling_what_fitted_before_is_as_it_was():
    model = short_model()
    longer = extend_context(model, 40)
    assert torch.equal(longer(some_ids(12)), model(some_ids(12)))
    assert longer(some_ids(40)).shape == (2, 40, 257)


@pytest.mark.parametrize("way", METHODS)
def test_a_cache_and_a_model_of_that_config_give_the_same(way):
    longer = extend_context(short_model(), 40, way)
    cache, read = longer.new_cache(2), some_ids(30)
    parts = [longer(part, cache) for part in torch.split(read, [25, 1, 4], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), longer(read))
    fresh = Transformer(longer.config)
    fresh.load_state_dict(longer.state_dict())
    assert torch.equal(fresh(read), longer(read))


@pytest.mark.parametrize("way", METHODS)
def test_a_folder_keeps_the_scaling(way, tmp_path):
    tokenizer = BPETokenizer.train(
        ["a"], vocab_size=257, special_tokens=["<|endoftext|>"]
    )
    longer = extend_context(short_model(), 40, way)
    save_pretrained(longer, tokenizer, tmp_path)
    again, _ = load_pretrained(tmp_path)
    assert again.config == longer.config
    assert torch.equal(again(some_ids(40)), longer(some_ids(40)))


# Reference


@pytest.mark.parametrize("way", ["linear", "ntk", "yarn"])
def test_transformers_reads_the_folder_with_equal_logits(way, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = BPETokenizer.train(
        ["a"], vocab_size=257, special_tokens=["<|endoftext|>"]
    )
    longer = extend_context(short_model(), 40, way)
    save_pretrained(longer, tokenizer, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        found = theirs(some_ids(40)).logits
    torch.testing.assert_close(found, longer(some_ids(40)), atol=1e-4, rtol=1e-4)


# Refusal


def test_longer_context_refusals():
    with pytest.raises(ValueError, match="method must be 'none' or .* or 'yarn'"):
        extend_context(short_model(), 40, "cubic")
    with pytest.raises(ValueError, match="context_length must be at least 13, got 12"):
        extend_context(short_model(), 12)
    with pytest.raises(ValueError, match="got learned with None"):
        extend_context(short_model(replace(TINY, family="gpt2")), 999)
    with pytest.raises(ValueError, match="not scaled yet"):
        extend_context(extend_context(short_model(), 40, "yarn"), 80)
    scaling = RopeScaling(kind="linear", factor=2)
    with pytest.raises(ValueError, match="rope_scaling without rope must be None"):
        replace(TINY, family="gpt2", rope_scaling=scaling)


def test_linear_attention_of_large_negative_queries():
    query, key = torch.full((1, 1, 3, 4), -20.0), torch.randn(1, 1, 3, 4)
    assert linear_attention(query, key, key).isfinite().all()


def test_a_later_key_changes_nothing_before_it():
    query, key, value = torch.randn(3, 1, 1, 128, 4).unbind()
    found = linear_attention(query, key, value)
    key[:, :, 100] = 1e8
    after = linear_attention(query, key, value)
    torch.testing.assert_close(found[:, :, :64], after[:, :, :64], rtol=0, atol=0)
    torch.testing.assert_close(found[:, :, :100], after[:, :, :100])


def test_a_long_sum_in_float16_does_not_overflow():
    """2,000 positions · 64 features · 2 · 2 is 512,000; float16 ends at 65,504."""
    ones = torch.ones(1, 1, 2000, 64, dtype=torch.float16)
    assert torch.equal(linear_attention(ones, ones, ones), ones)


def test_a_long_sum_in_bfloat16_goes_on_growing():
    """The mean of 0, 1/600 … is 1/2; in 8 bits the sum would stand still at 256."""
    state, one = LinearState(), torch.ones(1, 1, 1, dtype=torch.bfloat16)
    for i in range(601):
        found = state.read(one, one, one * (i / 600))
    assert found.dtype == torch.bfloat16
    assert float(found) == pytest.approx(0.5, abs=0.01)
