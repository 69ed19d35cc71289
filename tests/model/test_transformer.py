"""The model in both shapes: laws, and equality with torch and `transformers`."""

import math
from copy import copy
from dataclasses import replace
from functools import partial

import jaxtyping
import pytest
import torch
from model_cases import LLAMA, seeded
from torch.nn import functional
from torch.nn.functional import cross_entropy

from llmcourse.model.attention import PackedSequences
from llmcourse.model.long_context import ATTENTION_KINDS, set_attention
from llmcourse.model.transformer import (
    GPT2_SMALL,
    SMOLLM2_135M,
    TINY,
    GELUNetwork,
    LayerNorm,
    RMSNorm,
    SwiGLU,
    Transformer,
    TransformerConfig,
    hidden_states,
    mimetic_initialisation,
)

SMALL = replace(LLAMA, vocab_size=37, n_layers=3, rope_base=500.0)
GPT2 = replace(SMALL, family="gpt2", n_kv_heads=6)
UNTIED = replace(SMALL, tied_embeddings=False)
GPT2_UNTIED = replace(GPT2, tied_embeddings=False)
SHAPES = pytest.mark.parametrize(
    "config",
    [SMALL, UNTIED, GPT2, GPT2_UNTIED],
    ids=["llama", "llama-untied", "gpt2", "gpt2-untied"],
)


def make_model(config=SMALL, std=0.3):
    """Return a model whose weights are large enough for everything to matter."""
    generator = torch.Generator().manual_seed(5)
    model = Transformer(config, generator)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, mean=0.1, std=std, generator=generator)
    return model


def random_ids(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(SMALL.vocab_size, shape, generator=generator)


# Worked example


def test_worked_example_of_two_words():
    """Blocks that write nothing leave the embedding: (3, 4) and (0, 1) in the stream.

    RMSNorm divides (3, 4) by √12.5; scored against both words that is
    25 / √12.5 = 7.07 and 4 / √12.5 = 1.13. LayerNorm, after the position (0, 3)
    was added, makes (3, 7) into (−1, 1), with scores 1 and 1.
    """
    sizes = {"vocab_size": 2, "d_model": 2, "n_heads": 1, "n_kv_heads": 1}
    words = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    for family, expected in (("llama", [25.0, 4.0]), ("gpt2", [1.0, 1.0])):
        model = Transformer(TransformerConfig(family=family, **sizes, norm_eps=1e-9))
        with torch.no_grad():
            for block in model.blocks:
                block.attention.output.weight.zero_()
                block.feed_forward.down.weight.zero_()
            model.embedding.weight.copy_(words)
            model.norm.weight.fill_(1.0)
            if model.positions is not None:
                model.positions.weight[0] = torch.tensor([0.0, 3.0])
        logits = model(torch.tensor([[0]]))[0, 0]
        scale = math.sqrt(12.5) if family == "llama" else 1.0
        torch.testing.assert_close(logits * scale, torch.tensor(expected))


# Law


@SHAPES
@pytest.mark.parametrize("d_model", [24, 96])
def test_the_first_guess_is_close_to_all_tokens_alike(config, d_model):
    """Logits of deviation s cost s²/2 more than none: 0.125 nats for s = 1/2. Guesses
    that were one-sided, as those of larger embeddings are, would cost whole nats.
    """
    config = replace(config, vocab_size=997, d_model=d_model)
    model = Transformer(config, torch.Generator().manual_seed(0))
    log_probs = model(random_ids(20, 11)).log_softmax(-1)  # averaged over all targets
    assert (-log_probs).mean().item() == pytest.approx(math.log(997) + 0.125, abs=0.1)


@SHAPES
@pytest.mark.parametrize("changed", [0, 3, 6])
def test_no_position_sees_a_later_one(config, changed):
    model, ids = make_model(config), random_ids(2, 7)
    other = ids.clone()
    other[:, changed] = (ids[:, changed] + 1) % SMALL.vocab_size
    before, after = model(ids), model(other)
    torch.testing.assert_close(after[:, :changed], before[:, :changed])
    differs = (after - before).abs().amax(dim=-1) > 1e-3  # (B, T)
    assert differs[:, changed:].all()


@SHAPES
@pytest.mark.parametrize("pieces", [[7], [1] * 7, [3, 1, 2, 1]])
def test_cached_equals_uncached(config, pieces):
    model, ids = make_model(config), random_ids(2, 7)
    cache = model.new_cache(batch_size=2, capacity=7)
    logits = [model(part, cache) for part in ids.split(pieces, dim=1)]
    assert cache.length == 7
    torch.testing.assert_close(torch.cat(logits, dim=1), model(ids))


@SHAPES
def test_rows_of_a_batch_do_not_meet(config):
    model, ids = make_model(config), random_ids(3, 5)
    torch.testing.assert_close(model(ids)[1:2], model(ids[1:2]))


@SHAPES
@pytest.mark.parametrize("kind", ATTENTION_KINDS)
@pytest.mark.parametrize("lengths", [(9,), (4, 5), (11, 1, 11, 2)])
def test_texts_side_by_side_are_read_as_if_alone(config, kind, lengths):
    """Each from position 0: so a row may be longer than the context, a text not."""
    model = make_model(config)
    set_attention(model, kind, window=3)
    ids = random_ids(2, sum(lengths))
    together = model(ids, PackedSequences(lengths))
    alone = [model(text) for text in ids.split(lengths, dim=1)]
    torch.testing.assert_close(together, torch.cat(alone, dim=1))


@SHAPES
def test_no_text_sees_its_neighbours(config):
    """To the bit: whatever stands beside it."""
    model, ids = make_model(config), random_ids(1, 9)
    other = (ids + 1) % SMALL.vocab_size
    other[:, 3:7] = ids[:, 3:7]
    before, after = (model(each, PackedSequences([3, 4, 2])) for each in (ids, other))
    assert torch.equal(before[:, 3:7], after[:, 3:7])
    assert (before != after).any(dim=-1)[:, [0, 2, 7, 8]].all()


@SHAPES
def test_position_matters(config):
    model = make_model(config)
    logits = model(torch.tensor([[1, 2, 3], [2, 1, 3]]))[:, -1]
    assert (logits[0] - logits[1]).abs().max() > 1e-2


def test_only_learned_positions_tell_where_a_lone_run_of_one_token_stands():
    """Where all tokens are equal, so are their values: rotated scores cannot matter,
    and every position gathers the same. A position that was added can be told.
    """
    ids = torch.full((1, 5), 7)
    rotated, learned = (make_model(config)(ids)[0] for config in (SMALL, GPT2))
    torch.testing.assert_close(rotated, rotated[:1].expand(5, 37))
    assert (learned[1:] - learned[:-1]).abs().amax(dim=-1).min() > 1e-2


@SHAPES
def test_every_weight_learns(config):
    model = make_model(config)
    model(random_ids(2, 11)).square().mean().backward()
    for name, weight in model.named_parameters():
        if "attention.key.bias" in name:  # one number more for all keys: no change
            assert weight.grad.abs().max() < 1e-5
        else:
            assert weight.grad.abs().max() > 1e-5, name


@SHAPES
def test_the_same_generator_gives_the_same_model(config):
    first, second = (
        Transformer(config, torch.Generator().manual_seed(3)).state_dict()
        for _ in range(2)
    )
    other = Transformer(config, torch.Generator().manual_seed(4)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


@pytest.mark.parametrize("config", [SMALL, GPT2])
def test_untying_adds_one_matrix_and_changes_no_other(config):
    tied, untied = (
        Transformer(shape, torch.Generator().manual_seed(3)).state_dict()
        for shape in (config, replace(config, tied_embeddings=False))
    )
    assert untied.keys() - tied.keys() == {"unembedding.weight"}
    assert all(torch.equal(tied[name], untied[name]) for name in tied if name[0] != "n")


@pytest.mark.parametrize("config", [SMALL, GPT2])
def test_blocks_write_to_the_stream_more_softly_the_more_there_are(config):
    """Of 24 · 24 · 3 numbers the standard deviation is known to 1.7 %; 10 % off
    would be a chance in 10⁸.
    """
    model = Transformer(config, torch.Generator().manual_seed(0))
    for name, expected in (("query", 24**-0.5), ("output", 24**-0.5 / 6**0.5)):
        weights = [getattr(block.attention, name).weight for block in model.blocks]
        assert torch.stack(weights).std().item() == pytest.approx(expected, rel=0.1)


def test_biases_start_at_zero():
    biases = [w for name, w in Transformer(GPT2).named_parameters() if "bias" in name]
    assert len(biases) == 3 * 8 + 1  # of a block: two norms, four and two matrices
    assert not any(bias.any() for bias in biases)


# Reference


@pytest.mark.parametrize(
    ("config", "expected"), [(GPT2_SMALL, 124_439_808), (SMOLLM2_135M, 134_515_008)]
)
def test_presets_have_the_published_number_of_parameters(config, expected):
    with torch.device("meta"):  # shapes without numbers
        model = Transformer(config)
    assert sum(weight.numel() for weight in model.parameters()) == expected


def as_torch_layer(block, config):
    """Return torch's own pre-norm layer with the weights of a block of GPT-2."""
    layer = torch.nn.TransformerEncoderLayer(
        config.d_model,
        config.n_heads,
        config.d_ff,
        dropout=0.0,
        activation=partial(functional.gelu, approximate="tanh"),
        layer_norm_eps=config.norm_eps,
        batch_first=True,
        norm_first=True,
    )
    attention, network = block.attention, block.feed_forward
    pairs = {
        "self_attn.out_proj": attention.output,
        "linear1": network.up,
        "linear2": network.down,
        "norm1": block.attention_norm,
        "norm2": block.feed_forward_norm,
    }
    weights = {
        f"{theirs}.{kind}": getattr(ours, kind)
        for theirs, ours in pairs.items()
        for kind in ("weight", "bias")
    }
    projections = (attention.query, attention.key, attention.value)
    for kind in ("weight", "bias"):
        stacked = torch.cat([getattr(each, kind) for each in projections])
        weights[f"self_attn.in_proj_{kind}"] = stacked
    layer.load_state_dict(weights)
    return layer


@pytest.mark.parametrize("config", [GPT2, GPT2_UNTIED])
def test_gpt2_equals_a_stack_of_torchs_layers(config):
    model, ids = make_model(config), random_ids(2, 7)
    x = model.embedding(ids) + model.positions(torch.arange(7))
    mask = torch.nn.Transformer.generate_square_subsequent_mask(7)
    for block in model.blocks:
        x = as_torch_layer(block, config)(x, src_mask=mask, is_causal=True)
    norm = model.norm
    x = functional.layer_norm(x, (24,), norm.weight, norm.bias, config.norm_eps)
    scorer = model.embedding if config.tied_embeddings else model.unembedding
    logits = x @ scorer.weight.T
    assert logits.std() > 0.2  # or equality would mean little
    torch.testing.assert_close(model(ids), logits, atol=1e-5, rtol=1e-5)


def turned(x, base):
    """Return (B, H, T, d_head) turned by multiplication with complex numbers."""
    half = x.shape[-1] // 2
    rates = base ** (-torch.arange(half) / half)
    angles = torch.arange(x.shape[-2])[:, None] * rates
    z = torch.complex(*x.split(half, dim=-1))
    z = z * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((z.real, z.imag), dim=-1)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 6])
@pytest.mark.parametrize("tied", [True, False])
def test_llama_equals_its_equations(tied, n_kv_heads):
    """Written down once more, with torch's functions and heads in full."""
    config = replace(SMALL, n_kv_heads=n_kv_heads, tied_embeddings=tied)
    model, ids = make_model(config), random_ids(2, 7)

    def normed(x, norm):
        return functional.rms_norm(x, (24,), norm.weight, config.norm_eps)

    def heads(x, projection):
        each = (x @ projection.weight.T).unflatten(-1, (-1, 4)).transpose(1, 2)
        return each.repeat_interleave(6 // each.shape[1], dim=1)

    x = model.embedding(ids)
    for block in model.blocks:
        attention, network = block.attention, block.feed_forward
        read = normed(x, block.attention_norm)
        context = functional.scaled_dot_product_attention(
            turned(heads(read, attention.query), base=500.0),
            turned(heads(read, attention.key), base=500.0),
            heads(read, attention.value),
            is_causal=True,
        )
        x = x + context.transpose(1, 2).flatten(2) @ attention.output.weight.T
        read = normed(x, block.feed_forward_norm)
        gate = functional.silu(read @ network.gate.weight.T)
        x = x + (gate * (read @ network.up.weight.T)) @ network.down.weight.T
    scorer = model.embedding if tied else model.unembedding
    logits = normed(x, model.norm) @ scorer.weight.T
    assert logits.std() > 0.2  # or equality would mean little
    torch.testing.assert_close(model(ids), logits, atol=1e-5, rtol=1e-5)


@SHAPES
def test_an_exported_model_reads_any_length(config, monkeypatch):
    """`torch.export` sees the length as a symbol, which checked types do not know."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model = make_model(config).eval()
    length = torch.export.Dim("length", min=2, max=config.context_length)
    exported = torch.export.export(
        model, (random_ids(2, 5),), dynamic_shapes=({1: length},)
    ).module()
    for n in (2, 7, 11):
        ids = random_ids(2, n)
        torch.testing.assert_close(exported(ids), model(ids), rtol=1e-5, atol=1e-5)


# Refusal


@pytest.mark.parametrize(
    "name", ["vocab_size", "d_model", "n_layers", "n_heads", "rope_base"]
)
def test_refuses_sizes_that_are_not_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        replace(SMALL, **{name: 0})


@pytest.mark.parametrize(
    ("d_model", "message"),
    [(20, "multiple of n_heads.*got 20 and"), (18, "RoPE needs an even d_head, got 3")],
)
def test_refuses_a_width_without_pairs_in_every_head(d_model, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, d_model=d_model)


def test_refuses_key_value_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="multiple of n_kv_heads, got 6 and 4"):
        replace(SMALL, n_kv_heads=4)


def test_refuses_positions_that_it_does_not_know():
    config = copy(SMALL)
    object.__setattr__(config, "positions", "alibbi")  # past the check of types
    with pytest.raises(ValueError, match=r"positions must be 'rope'.*got 'alibbi'"):
        config.__post_init__()


def test_refuses_another_family():
    config = copy(SMALL)
    object.__setattr__(config, "family", "bert")  # past the check of types
    with pytest.raises(ValueError, match=r"family must be .*'gpt2', got 'bert'"):
        config.__post_init__()


def test_refuses_grouped_queries_in_gpt2():
    with pytest.raises(ValueError, match="n_kv_heads of gpt2 must be 6, got 2"):
        replace(SMALL, family="gpt2")


def test_refuses_a_width_that_heads_of_gpt2_cannot_share():
    assert replace(GPT2, d_model=18).d_head == 3  # nothing turns: odd is fine
    with pytest.raises(ValueError, match="a multiple of n_heads, got 20 and 6"):
        replace(GPT2, d_model=20)


@SHAPES
@pytest.mark.parametrize("bad", [-1, 37])
def test_refuses_ids_outside_the_vocabulary(config, bad):
    with pytest.raises(ValueError, match=r"ids must be in 0 … 36, got"):
        make_model(config)(torch.tensor([[1, bad, 2]]))


@SHAPES
def test_refuses_more_than_the_context_length(config):
    model = make_model(config)
    with pytest.raises(ValueError, match="11 tokens, got 0 cached and 12 new"):
        model(random_ids(1, 12))
    cache = model.new_cache()
    model(random_ids(1, 9), cache)
    with pytest.raises(ValueError, match="11 tokens, got 9 cached and 3 new"):
        model(random_ids(1, 3), cache)


def test_refuses_texts_side_by_side_that_it_cannot_read():
    model = make_model()
    with pytest.raises(ValueError, match="add up to the 7 positions of a row"):
        model(random_ids(1, 7), PackedSequences([3, 3]))
    with pytest.raises(ValueError, match=r"context_length = 11, got 12 \+ 0"):
        model(random_ids(1, 14), PackedSequences([2, 12]))


def test_refuses_no_ids():
    with pytest.raises(ValueError, match="got 0 cached and 0 new"):
        make_model()(torch.zeros(1, 0, dtype=torch.long))


# LayerNorm and RMSNorm, at ordinary and at extreme sizes

BOTH = pytest.mark.parametrize(
    ("ours", "theirs"), [(LayerNorm, torch.nn.LayerNorm), (RMSNorm, torch.nn.RMSNorm)]
)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_pair(ours, theirs, width, eps=1e-5):
    """Return our norm and torch's with the same random weights."""
    pair = ours(width, eps=eps), theirs(width, eps=eps)
    for seed, weight in enumerate(pair[0].parameters()):
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(seed))
    pair[1].load_state_dict(pair[0].state_dict())
    return pair


# Worked example


def test_worked_example_of_two_coordinates():
    """(3, 5) has mean 4 and variance 1: (−1, 1), weighted (−2, 3), plus bias (−1, 3).
    Its mean square is 17.
    """
    norm, x = LayerNorm(2, eps=0), torch.tensor([3.0, 5.0])
    norm.load_state_dict(
        {"weight": torch.tensor([2.0, 3.0]), "bias": torch.tensor([1.0, 0.0])}
    )
    torch.testing.assert_close(norm(x), torch.tensor([-1.0, 3.0]))
    torch.testing.assert_close(RMSNorm(2, eps=0)(x), x / math.sqrt(17))


# Law


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e4])
def test_what_comes_out_has_mean_zero_and_size_one(size):
    """Down to 10⁻², where eps = 10⁻⁵ is a tenth of the variance."""
    x = random(2, 5, 96) * size + size
    out = LayerNorm(96, eps=1e-5)(x)
    variance = x.var(dim=-1, unbiased=False)
    torch.testing.assert_close(out.mean(-1), torch.zeros(2, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        out.var(dim=-1, unbiased=False), variance / (variance + 1e-5)
    )
    mean_square = x.square().mean(-1)
    torch.testing.assert_close(
        RMSNorm(96, eps=1e-5)(x).square().mean(-1), mean_square / (mean_square + 1e-5)
    )


@pytest.mark.parametrize("factor", [2.0**-9, 2.0**9])
def test_the_size_of_the_vectors_does_not_matter(factor):
    """Nor does, for LayerNorm, a number that is added to all coordinates."""
    x = random(2, 5, 6)
    for norm in (LayerNorm(6, eps=0), RMSNorm(6, eps=0)):
        torch.testing.assert_close(norm(factor * x), norm(x))
        torch.testing.assert_close(norm(-x), -norm(x))
    torch.testing.assert_close(LayerNorm(6)(x + 3), LayerNorm(6)(x), atol=1e-5, rtol=0)
    assert (RMSNorm(6)(x + 3) - RMSNorm(6)(x)).abs().max() > 0.1


@pytest.mark.parametrize("value", [0.0, 1e-30, 1.0, -3.0, 1e4])
def test_a_constant_vector_becomes_the_bias_alone(value):
    norm, _ = make_pair(LayerNorm, torch.nn.LayerNorm, width=8)
    out = norm(torch.full((3, 8), value))
    torch.testing.assert_close(out, norm.bias.expand(3, 8))


# Reference


@BOTH
@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_equals_torch_where_squares_are_at_the_end_of_the_range(ours, theirs, scale):
    ours, theirs = make_pair(ours, theirs, width=6)
    x = random(2, 5, 6, seed=3) * scale
    torch.testing.assert_close(ours(x), theirs(x))


@BOTH
@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1.0, 1e4, 1e12])
def test_equals_torch_with_its_gradients(ours, theirs, scale):
    """Gradients need the third power of 1 / size, which 10¹² just leaves in range."""
    ours, theirs = make_pair(ours, theirs, width=6)
    x = (random(2, 5, 6, seed=3) * scale).requires_grad_()
    torch.testing.assert_close(ours(x), theirs(x))
    weight = random(2, 5, 6, seed=4)
    for mine, wanted in zip(
        torch.autograd.grad((ours(x) * weight).sum(), [x, *ours.parameters()]),
        torch.autograd.grad((theirs(x) * weight).sum(), [x, *theirs.parameters()]),
        strict=True,
    ):
        size = wanted.abs().max()
        assert size > 0
        torch.testing.assert_close(mine / size, wanted / size, atol=1e-5, rtol=1e-5)


@BOTH
def test_equals_torch_where_all_coordinates_are_equal(ours, theirs):
    ours, theirs = make_pair(ours, theirs, width=6)
    x = torch.tensor([0.0, 2.0, -512.0])[:, None].expand(3, 6)
    torch.testing.assert_close(ours(x), theirs(x))


@BOTH
def test_equals_torch_for_a_vector_of_one_coordinate(ours, theirs):
    ours, theirs = make_pair(ours, theirs, width=1)
    torch.testing.assert_close(ours(random(7, 1)), theirs(random(7, 1)))


# The two feed-forward networks and the bends inside


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


# A start from which a model learns to copy: what it is, and that it does

SIZES = TransformerConfig(
    vocab_size=31,
    d_model=24,
    n_layers=2,
    n_heads=4,
    n_kv_heads=4,
    d_ff=20,
    context_length=40,
)
COPIER_SHAPES = [
    replace(SIZES, family=family, tied_embeddings=tied, n_kv_heads=n_kv_heads)
    for family, tied, n_kv_heads in [
        ("llama", True, 4),
        ("llama", True, 2),
        ("llama", False, 1),
        ("gpt2", True, 4),
        ("gpt2", False, 4),
    ]
]


def started(config, seed=0):
    model = Transformer(config, seeded(seed))
    mimetic_initialisation(model, seeded(seed))
    return model


# Worked example


def test_worked_example_of_all_heads_together():
    """With a key-value head per query head, what is handed on is 9 times the token."""
    attention = started(SIZES).blocks[-1].attention
    handed_on = attention.output.weight @ attention.value.weight
    torch.testing.assert_close(handed_on, 9 * torch.eye(24), atol=1e-4, rtol=0)


# Law


@pytest.mark.parametrize("config", COPIER_SHAPES, ids=str)
def test_the_last_block_hands_on_a_projection_of_the_mean(config):
    """Every token found alike: the mean of all, times 9, as far as values have room."""
    block = started(config).blocks[-1]
    x = torch.randn(1, 6, 24, generator=seeded(1))
    rotary = Transformer(config, seeded()).rotary
    given = block.attention(x, rotary and rotary(slice(0, 6)))[0, -1]
    rows = block.attention.value.weight / 3  # orthonormal
    expected = 9 * rows.T @ (rows @ x[0].mean(0))
    torch.testing.assert_close(given, expected, atol=0.15, rtol=0.05)


@pytest.mark.parametrize("config", COPIER_SHAPES, ids=str)
def test_the_first_guess_stays_all_tokens_alike(config):
    ids = torch.randint(31, (3, 20), generator=seeded(1))
    probs = started(config)(ids).softmax(-1)
    assert probs.max() < 0.5
    assert probs.mean(dim=(0, 1)).max() < 0.15


def test_only_the_last_block_and_the_scales_change():
    plain, model = Transformer(SIZES, seeded()), started(SIZES)
    changed = {
        name
        for (name, old), new in zip(
            plain.named_parameters(), model.parameters(), strict=True
        )
        if not torch.equal(old, new)
    }
    last = "blocks.1.attention"
    matrices = {f"{last}.{name}.weight" for name in ("query", "key", "value", "output")}
    assert changed == {"embedding.weight", "norm.weight"} | matrices


def test_the_same_generator_gives_the_same_start():
    first, again, other = (
        torch.cat([w.flatten() for w in started(SIZES, seed).parameters()])
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def recalls(n, generator):
    """Return rows with a fact among noise, asked for at the end: … fact … 2 fact."""
    rows = torch.randint(15, 31, (n, 24), generator=generator)  # noise
    facts = torch.randint(3, 15, (n,), generator=generator)  # 12 of one kind
    places = torch.randint(1, 18, (n,), generator=generator)
    rows[torch.arange(n), places] = facts
    rows[:, -2], rows[:, -1] = 2, facts
    return rows


def loss_of_the_fact(model, rows):
    return cross_entropy(model(rows[:, :-1])[:, -1], rows[:, -1])


def test_it_learns_to_recall_sooner_than_from_the_usual_start():
    """Guessing among 12 costs log 12 = 2.5 nats."""
    usual, model = Transformer(SIZES, seeded()), started(SIZES)
    after = []
    for pupil in (usual, model):
        generator = seeded(4)
        optimizer = torch.optim.AdamW(pupil.parameters(), lr=3e-3)
        for _ in range(150):
            rows = recalls(32, generator)
            logits = pupil(rows[:, :-1]).flatten(0, 1)
            cross_entropy(logits, rows[:, 1:].flatten()).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            after.append(loss_of_the_fact(pupil, recalls(400, generator)).item())
    assert after[1] < 0.5
    assert after[1] < after[0] / 2


@pytest.mark.parametrize("norm", [RMSNorm, LayerNorm])
def test_norms_of_float16_do_not_overflow(norm):
    x = torch.tensor([300.0, -300.0, 100.0, 40_000.0])
    found = norm(4).half()(x.half())
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), norm(4)(x), rtol=1e-3, atol=1e-3)


def test_a_compiled_model_shows_its_stream_too():
    model = Transformer(TINY, torch.Generator().manual_seed(0)).eval()
    ids = torch.tensor([[5, 0, 3]])
    with torch.no_grad():
        expected = hidden_states(model, ids)
        model.compile(backend="eager")
        model(ids)
        assert torch.equal(hidden_states(model, ids), expected)
