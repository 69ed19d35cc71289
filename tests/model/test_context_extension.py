"""The same weights, more positions: what changes, what does not, and what is saved."""

from dataclasses import replace

import pytest
import torch

from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.long_context import WAYS, extend_context
from llmcourse.model.positions import RopeScaling, ntk_base
from llmcourse.model.transformer import TINY, Transformer, TransformerConfig
from llmcourse.text.tokenizers import BPETokenizer

CONFIG = TransformerConfig(
    vocab_size=257, d_model=24, n_layers=2, n_heads=3, n_kv_heads=1, context_length=12
)


def make_model(config=CONFIG):
    return Transformer(config, torch.Generator().manual_seed(0)).eval()


def ids(length):
    return torch.randint(257, (2, length), generator=torch.Generator().manual_seed(1))


# Worked example


def test_worked_example_of_four_times_the_length():
    model = make_model()
    linear, yarn = (extend_context(model, 48, way) for way in ("linear", "yarn"))
    assert linear.config.rope_scaling == RopeScaling(kind="linear", factor=4)
    wanted = RopeScaling(kind="yarn", factor=4, original_length=12)
    assert yarn.config.rope_scaling == wanted
    ntk = extend_context(model, 48, "ntk", trained_length=6)
    assert ntk.config.rope_base == ntk_base(10_000, 8, 8)
    assert model.config == CONFIG


# Law


def test_without_scaling_what_fitted_before_is_as_it_was():
    model = make_model()
    longer = extend_context(model, 40)
    assert torch.equal(longer(ids(12)), model(ids(12)))
    assert longer(ids(40)).shape == (2, 40, 257)


@pytest.mark.parametrize("way", WAYS)
def test_a_cache_and_a_model_of_that_config_give_the_same(way):
    longer = extend_context(make_model(), 40, way)
    cache, read = longer.new_cache(2), ids(30)
    parts = [longer(part, cache) for part in torch.split(read, [25, 1, 4], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), longer(read))
    fresh = Transformer(longer.config)
    fresh.load_state_dict(longer.state_dict())
    assert torch.equal(fresh(read), longer(read))


@pytest.mark.parametrize("way", WAYS)
def test_a_folder_keeps_the_scaling(way, tmp_path):
    tokenizer = BPETokenizer.train(
        ["a"], vocab_size=257, special_tokens=["<|endoftext|>"]
    )
    longer = extend_context(make_model(), 40, way)
    save_pretrained(longer, tokenizer, tmp_path)
    again, _ = load_pretrained(tmp_path)
    assert again.config == longer.config
    assert torch.equal(again(ids(40)), longer(ids(40)))


# Reference


@pytest.mark.parametrize("way", ["linear", "ntk", "yarn"])
def test_transformers_reads_the_folder_with_equal_logits(way, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = BPETokenizer.train(
        ["a"], vocab_size=257, special_tokens=["<|endoftext|>"]
    )
    longer = extend_context(make_model(), 40, way)
    save_pretrained(longer, tokenizer, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        found = theirs(ids(40)).logits
    torch.testing.assert_close(found, longer(ids(40)), atol=1e-4, rtol=1e-4)


# Refusal


def test_refusals():
    with pytest.raises(ValueError, match="way must be one of none, linear, ntk, yarn"):
        extend_context(make_model(), 40, "cubic")
    with pytest.raises(ValueError, match="above the 12 of training, got 12"):
        extend_context(make_model(), 12)
    with pytest.raises(ValueError, match="got learned with None"):
        extend_context(make_model(replace(TINY, family="gpt2")), 999)
    with pytest.raises(ValueError, match="not slowed down yet"):
        extend_context(extend_context(make_model(), 40, "yarn"), 80)
    scaling = RopeScaling(kind="linear", factor=2)
    with pytest.raises(ValueError, match="rope_scaling needs rope, got learned"):
        replace(TINY, family="gpt2", rope_scaling=scaling)
