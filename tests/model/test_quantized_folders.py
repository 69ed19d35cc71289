"""Quantized models on disk: small, whole, and the same when read back."""

import json
from dataclasses import replace

import pytest
import torch

from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.long_context import set_attention
from llmcourse.model.quantization import (
    is_quantized,
    load_quantized,
    quantize_model,
    save_quantized,
)
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.tokenizers import BPETokenizer

CONFIG = TransformerConfig(
    vocab_size=258,
    d_model=32,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    d_ff=36,
    context_length=11,
)
CONFIGS = {"llama": CONFIG, "gpt2": replace(CONFIG, family="gpt2", n_kv_heads=4)}
IDS = torch.tensor([[5, 257, 0, 17, 3]])


def make(name="llama", bits=8, group_size=None):
    tokenizer = BPETokenizer.train(["a"], 258, ["<|endoftext|>", "<|end|>"])
    model = Transformer(CONFIGS[name], torch.Generator().manual_seed(0))
    return quantize_model(model, bits, group_size), tokenizer


# Worked example


def test_worked_example_of_what_is_written(tmp_path):
    """Of an 8-bit matrix with 258 rows of 32: 8,256 bytes and a scale of 2 bytes for
    each row.
    """
    save_quantized(*make(), tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert said == {"quant_method": "llmcourse", "bits": 8, "group_size": None}
    model, _ = load_quantized(tmp_path)
    assert model.embedding.numbers.nbytes == 8_256
    assert model.embedding.scale.nbytes == 516


# Laws


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, 4)])
def test_what_is_read_is_what_was_written(tmp_path, name, bits, group_size):
    model, tokenizer = make(name, bits, group_size)
    save_quantized(model, tokenizer, tmp_path / "new")
    found, words = load_quantized(tmp_path / "new")
    with torch.no_grad():
        assert torch.equal(found(IDS), model(IDS))
    assert words.encode("ab") == tokenizer.encode("ab")
    assert is_quantized(tmp_path / "new")
    assert not found.training


def test_the_file_is_a_fraction_of_the_float_one(tmp_path):
    """base-llm has 2.8 million weights, of 4 bytes, and next to nothing else."""
    model, tokenizer = load_pretrained("base-llm")
    save_pretrained(model, tokenizer, tmp_path / "32")
    for bits, group_size, least in ((8, None, 3.9), (4, 32, 7.0)):
        small = quantize_model(model, bits, group_size)
        save_quantized(small, tokenizer, tmp_path / str(bits))
        sizes = [
            (tmp_path / name / "model.safetensors").stat().st_size
            for name in ("32", str(bits))
        ]
        assert sizes[0] / sizes[1] > least


# Refusals


def test_a_model_of_floats_is_refused(tmp_path):
    _, tokenizer = make()
    floats = Transformer(CONFIG, torch.Generator())
    with pytest.raises(ValueError, match="needs a quantized model"):
        save_quantized(floats, tokenizer, tmp_path)
    save_pretrained(floats, tokenizer, tmp_path)
    assert not is_quantized(tmp_path)
    with pytest.raises(ValueError, match="must hold a model that save_quantized wrote"):
        load_quantized(tmp_path)


def test_a_tokenizer_of_another_size_is_refused(tmp_path):
    model, _ = make()
    with pytest.raises(ValueError, match="the model has 258 ids"):
        save_quantized(model, BPETokenizer.train(["a"], 256), tmp_path)


@pytest.mark.parametrize("damage", ["cut", "floats", "gone"])
def test_damaged_weights_are_refused(tmp_path, damage):
    model, tokenizer = make()
    save_quantized(model, tokenizer, tmp_path)
    path = tmp_path / "model.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    elif damage == "floats":
        floats = Transformer(CONFIG, torch.Generator())
        save_pretrained(floats, tokenizer, tmp_path / "floats")
        path.write_bytes((tmp_path / "floats" / "model.safetensors").read_bytes())
    else:
        path.unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_quantized(tmp_path)


def test_a_strange_method_is_refused(tmp_path):
    save_quantized(*make(), tmp_path)
    path = tmp_path / "config.json"
    found = json.loads(path.read_text())
    for changed in ({"bits": 3}, {"group_size": "all"}, {"quant_method": "gptq"}):
        said = found["quantization_config"] | changed
        path.write_text(json.dumps(found | {"quantization_config": said}))
        with pytest.raises(ValueError, match="must hold a model|bits"):
            load_quantized(tmp_path)
    with pytest.raises(ValueError, match="needs the file"):
        is_quantized(tmp_path / "none")


@pytest.mark.parametrize("kind", ["window", "linear"])
def test_refuses_attention_that_no_file_describes(tmp_path, kind):
    model, tokenizer = make()
    set_attention(model, kind)
    with pytest.raises(ValueError, match="saved with full attention"):
        save_quantized(model, tokenizer, tmp_path / "new")
    assert not (tmp_path / "new").exists()
