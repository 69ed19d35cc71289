"""The model and its pieces, down to equality with Llama in `transformers`."""

import math
from dataclasses import replace

import pytest
import torch

from llmcourse.feed_forward import SwiGLU
from llmcourse.norms import RMSNorm
from llmcourse.transformer import Transformer, TransformerConfig

SMALL = TransformerConfig(
    vocab_size=37,
    d_model=24,
    n_layers=3,
    n_heads=6,
    n_kv_heads=2,
    d_ff=20,
    context_length=11,
    rope_base=500.0,
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


def test_worked_example_of_a_norm_and_a_gate():
    """(3, 4) has mean square 12.5. With gate and up both 1 · x and down 1 · h the
    network makes silu(x) · x: 2²/(1 + e⁻²) from 2.
    """
    scaled = RMSNorm(2, eps=0.0)(torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(scaled, torch.tensor([3.0, 4.0]) / math.sqrt(12.5))
    network = SwiGLU(1, 1)
    for weight in network.parameters():
        torch.nn.init.ones_(weight)
    assert network(torch.tensor([2.0])).item() == pytest.approx(4 / (1 + math.exp(-2)))


# Law


@pytest.mark.parametrize("d_model", [24, 96])
def test_the_first_guess_is_close_to_all_tokens_alike(d_model):
    """Logits of deviation s cost s²/2 more than none: 0.125 nats for s = 1/2. Guesses
    that were one-sided, as those of larger embeddings are, would cost whole nats.
    """
    config = replace(SMALL, vocab_size=997, d_model=d_model)
    model = Transformer(config, torch.Generator().manual_seed(0))
    log_probs = model(random_ids(20, 11)).log_softmax(-1)  # averaged over all targets
    assert (-log_probs).mean().item() == pytest.approx(math.log(997) + 0.125, abs=0.1)


@pytest.mark.parametrize("changed", [0, 3, 6])
def test_no_position_sees_a_later_one(changed):
    model, ids = make_model(), random_ids(2, 7)
    other = ids.clone()
    other[:, changed] = (ids[:, changed] + 1) % SMALL.vocab_size
    before, after = model(ids), model(other)
    torch.testing.assert_close(after[:, :changed], before[:, :changed])
    differs = (after - before).abs().amax(dim=-1) > 1e-3  # (B, T)
    assert differs[:, changed:].all()


@pytest.mark.parametrize("pieces", [[7], [1] * 7, [3, 1, 2, 1]])
def test_cached_equals_uncached(pieces):
    model, ids = make_model(), random_ids(2, 7)
    cache = model.new_cache(batch_size=2, capacity=7)
    logits = [model(part, cache) for part in ids.split(pieces, dim=1)]
    assert cache.length == 7
    torch.testing.assert_close(torch.cat(logits, dim=1), model(ids))


def test_rows_of_a_batch_do_not_meet():
    model, ids = make_model(), random_ids(3, 5)
    torch.testing.assert_close(model(ids)[1:2], model(ids[1:2]))


def test_position_matters():
    model = make_model()
    logits = model(torch.tensor([[1, 2, 3], [2, 1, 3]]))[:, -1]
    assert (logits[0] - logits[1]).abs().max() > 1e-2


def test_the_same_generator_gives_the_same_model():
    first, second = (
        Transformer(SMALL, torch.Generator().manual_seed(3)).state_dict()
        for _ in range(2)
    )
    other = Transformer(SMALL, torch.Generator().manual_seed(4)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_blocks_write_to_the_stream_more_softly_the_more_there_are():
    """Of 24 · 24 · 3 numbers the standard deviation is known to 1.7 %; 10 % off
    would be a chance in 10⁸.
    """
    model = Transformer(SMALL, torch.Generator().manual_seed(0))
    for name, expected in (("query", 24**-0.5), ("output", 24**-0.5 / 6**0.5)):
        weights = [getattr(block.attention, name).weight for block in model.blocks]
        assert torch.stack(weights).std().item() == pytest.approx(expected, rel=0.1)


# Reference


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_norm_equals_torch_with_its_gradients(scale):
    ours, theirs = RMSNorm(6, eps=1e-5), torch.nn.RMSNorm(6, eps=1e-5)
    generator = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(ours.weight, generator=generator)
    theirs.load_state_dict(ours.state_dict())
    x = (torch.randn(2, 5, 6, generator=generator) * scale).requires_grad_()
    torch.testing.assert_close(ours(x), theirs(x))
    gradients = (
        torch.autograd.grad(norm(x).square().sum(), x) for norm in (ours, theirs)
    )
    torch.testing.assert_close(*gradients)


def copy_to_llama(model):
    """Return `transformers`' Llama with the same sizes and weights."""
    transformers = pytest.importorskip("transformers")
    config = model.config
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.d_model,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.n_kv_heads,
            intermediate_size=config.d_ff,
            max_position_embeddings=config.context_length,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_base},
            tie_word_embeddings=True,
        )
    )
    names = {
        "embedding.": "model.embed_tokens.",
        "blocks.": "model.layers.",
        "attention_norm.": "input_layernorm.",
        "feed_forward_norm.": "post_attention_layernorm.",
        "attention.query.": "self_attn.q_proj.",
        "attention.key.": "self_attn.k_proj.",
        "attention.value.": "self_attn.v_proj.",
        "attention.output.": "self_attn.o_proj.",
        "feed_forward.gate.": "mlp.gate_proj.",
        "feed_forward.up.": "mlp.up_proj.",
        "feed_forward.down.": "mlp.down_proj.",
    }
    weights = {}
    for name, weight in model.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        weights["model.norm.weight" if name == "norm.weight" else name] = weight
    result = llama.load_state_dict(weights, strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys in ([], ["lm_head.weight"])  # tied to the embedding
    llama.tie_weights()
    return llama.eval()


@pytest.mark.parametrize("n_kv_heads", [2, 6])
def test_equals_llama_in_transformers(n_kv_heads):
    model = make_model(replace(SMALL, n_kv_heads=n_kv_heads))
    ids = random_ids(2, 11)
    llama = copy_to_llama(model)
    with torch.no_grad():
        ours, theirs = model(ids), llama(ids).logits
    assert theirs.std() > 0.3  # or equality would mean little
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


# Refusal


@pytest.mark.parametrize("name", ["vocab_size", "d_model", "n_layers", "n_heads"])
def test_refuses_sizes_that_are_not_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        replace(SMALL, **{name: 0})


@pytest.mark.parametrize("d_model", [20, 18])
def test_refuses_a_width_without_pairs_in_every_head(d_model):
    with pytest.raises(
        ValueError, match=f"even multiple of n_heads.*got {d_model} and"
    ):
        replace(SMALL, d_model=d_model)


def test_refuses_key_value_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="multiple of n_kv_heads, got 6 and 4"):
        replace(SMALL, n_kv_heads=4)


@pytest.mark.parametrize("bad", [-1, 37])
def test_refuses_ids_outside_the_vocabulary(bad):
    with pytest.raises(ValueError, match=r"ids must be in 0 … 36, got"):
        make_model()(torch.tensor([[1, bad, 2]]))


def test_refuses_more_than_the_context_length():
    model = make_model()
    with pytest.raises(ValueError, match="11 tokens, got 0 cached and 12 new"):
        model(random_ids(1, 12))
    cache = model.new_cache()
    model(random_ids(1, 9), cache)
    with pytest.raises(ValueError, match="11 tokens, got 9 cached and 3 new"):
        model(random_ids(1, 3), cache)


def test_refuses_no_ids():
    with pytest.raises(ValueError, match="got 0 cached and 0 new"):
        make_model()(torch.zeros(1, 0, dtype=torch.long))
