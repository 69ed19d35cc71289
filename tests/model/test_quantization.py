"""Whole numbers for weights: what is lost is bounded, known and small."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import LLAMA, generate_uncached, seeded
from torch import nn

from llmcourse.finetuning.lora import add_lora
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.generation import GREEDY, generate
from llmcourse.model.long_context import set_attention
from llmcourse.model.quantization import (
    QuantizedEmbedding,
    QuantizedLinear,
    dequantize,
    is_quantized,
    load_quantized,
    pack_int4,
    quantization_error,
    quantize,
    quantize_model,
    save_quantized,
    unpack_int4,
    weight_bytes,
)
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text import tales
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.evaluation import text_loss

CONFIGS = {
    "llama": LLAMA,
    "gpt2": replace(LLAMA, family="gpt2", n_kv_heads=6),
    "untied": replace(LLAMA, tied_embeddings=False),
}
WAYS = [(8, None), (8, 4), (4, None), (4, 4)]
IDS = torch.tensor([[5, 261, 0, 17, 3, 200, 41], [9, 9, 1, 30, 77, 2, 8]])


# Worked example


def test_worked_example_of_a_row():
    """The largest weight, 1.27, gets 127, so a step is 0.01: -0.634 is -63.4 steps and
    becomes -63, 0.004 is less than half a step and becomes 0. The other row has a
    scale of its own: without one, it would be 0, 0, 0, 0.

    The scale is stored in 16 bits, 0.4 % off at most, so the numbers may be too.
    """
    weight = torch.tensor([[1.27, -0.634, 0.004, 0.0], [4e-5, -4e-5, 0.0, 2e-5]])
    numbers, scale = quantize(weight)
    torch.testing.assert_close(
        scale.float(), torch.tensor([[0.01], [4e-5 / 127]]), rtol=0.004, atol=0
    )
    assert numbers[0].tolist() == [127, -63, 0, 0]
    assert numbers[1].tolist() == [127, -127, 0, 64]


def test_worked_example_of_two_numbers_in_a_byte():
    """-8 … 7 become 0 … 15: (-1, 7) is (7, 15), and 7 + 16 · 15 = 247."""
    assert pack_int4(torch.tensor([[-1, 7]], dtype=torch.int8)).tolist() == [[247]]


# Laws


@pytest.mark.parametrize(("bits", "group_size"), WAYS)
@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_no_weight_moves_by_more_than_half_a_step(bits, group_size, size):
    weight = size * torch.randn(7, 12, generator=seeded())
    weight[3] = 0.0
    numbers, scale = quantize(weight, bits, group_size)
    error = (dequantize(numbers, scale) - weight).abs()
    steps = scale.float().repeat_interleave(12 // scale.shape[1], dim=1)
    assert (error <= 0.5 * steps * (1 + 1e-5)).all()
    assert torch.equal(dequantize(numbers, scale)[3], torch.zeros(12))


@pytest.mark.parametrize(("bits", "group_size"), WAYS)
def test_what_was_quantized_once_stays(bits, group_size):
    once = dequantize(
        *quantize(torch.randn(5, 8, generator=seeded()), bits, group_size)
    )
    twice = dequantize(*quantize(once, bits, group_size))
    torch.testing.assert_close(twice, once, rtol=0.005, atol=0)


@settings(max_examples=30)
@given(st.lists(st.integers(-8, 7), min_size=6, max_size=6))
def test_packing_loses_nothing(numbers):
    row = torch.tensor([numbers], dtype=torch.int8)
    assert torch.equal(unpack_int4(pack_int4(row)), row)


def test_a_large_weight_spoils_only_its_own_group():
    weight = 0.1 * torch.randn(3, 8, generator=seeded())
    weight[1, 2] = 100.0
    rows = (dequantize(*quantize(weight)) - weight).abs()
    groups = (dequantize(*quantize(weight, group_size=4)) - weight).abs()
    assert rows[1].max() > 0.04 > rows[[0, 2]].max() * 10
    assert groups[1, 4:].max() < 0.002


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("bits", "group_size"), WAYS)
def test_a_model_computes_with_the_weights_that_are_left(name, bits, group_size):
    model = Transformer(CONFIGS[name], seeded())
    small = quantize_model(model, bits, group_size)
    for path, layer in small.named_modules():
        if isinstance(layer, QuantizedLinear | QuantizedEmbedding):
            model.get_submodule(path).weight.data = layer.weight
    with torch.no_grad():
        torch.testing.assert_close(small(IDS), model(IDS))
    cached = generate(small, IDS[0, :4], 6, sampling=GREEDY)
    uncached = generate_uncached(small, IDS[0, :4], 6)
    assert torch.equal(cached, uncached)


def test_the_model_that_is_quantized_stays_as_it_is():
    model = Transformer(LLAMA, seeded())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quantize_model(model)
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize(
    ("bits", "group_size", "least", "most_error", "most_loss"),
    [(8, None, 3.9, 0.01, 0.005), (4, 32, 7.0, 0.12, 0.05)],
)
def test_a_trained_model_loses_little(bits, group_size, least, most_error, most_loss):
    """8 bits cost a thousandth of the perplexity, 4 bits half a hundredth: the bounds
    leave room of ten times that.
    """
    model, tokenizer = load_pretrained("base-llm")
    small = quantize_model(model, bits, group_size)
    assert weight_bytes(model) / weight_bytes(small) > least
    assert quantization_error(model, small) < most_error
    stories = [story.text for story in tales.generate(8, seed=7)]
    before, after = (text_loss(m, tokenizer, stories).loss for m in (model, small))
    assert abs(after - before) < most_loss


# Reference


def test_equals_torch_fake_quantization():
    """Torch's own, by channel, with the same scale: to the bit."""
    weight = torch.randn(5, 12, generator=seeded())
    numbers, scale = quantize(weight)
    theirs = torch.fake_quantize_per_channel_affine(
        weight, scale[:, 0].float(), torch.zeros(5, dtype=torch.int32), 0, -127, 127
    )
    assert torch.equal(dequantize(numbers, scale), theirs)


def test_the_error_is_that_of_a_slow_loop():
    model = Transformer(LLAMA, seeded())
    small = quantize_model(model, 4)
    pairs = [
        (float(before), float(after))
        for name, layer in small.named_modules()
        if hasattr(layer, "numbers")
        for before, after in zip(
            model.get_submodule(name).weight.detach().flatten(),
            layer.weight.flatten(),
            strict=True,
        )
    ]
    squares = sum((a - b) ** 2 for b, a in pairs) / sum(b**2 for b, _ in pairs)
    assert quantization_error(model, small) == pytest.approx(squares**0.5)


# Refusals


@pytest.mark.parametrize(
    ("shape", "bits", "group_size", "match"),
    [
        ((2, 6), 5, None, "bits must be 8 or 4, got 5"),
        ((2, 6), 8, 4, "rows of 6, groups of 4"),
        ((2, 6), 8, 0, "groups of 0"),
        ((2, 5), 4, None, "rows of 5, groups of 5 and 4 bits"),
    ],
)
def test_wrong_forms_are_refused(shape, bits, group_size, match):
    with pytest.raises(ValueError, match=match):
        quantize(torch.zeros(shape), bits, group_size)


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="must be finite"):
        quantize(torch.tensor([[1.0, float("nan")]]))


def test_other_layers_are_refused():
    model = Transformer(LLAMA, seeded())
    with pytest.raises(ValueError, match="needs|must be quantized"):
        quantization_error(model, model)
    with pytest.raises(ValueError, match="of type QuantizedEmbedding"):
        quantize_model(quantize_model(model))
    add_lora(model, rank=2, alpha=2)
    with pytest.raises(ValueError, match="of type LoRALinear"):
        quantize_model(model)
    assert isinstance(model.embedding, nn.Embedding)


# Quantized models on disk: small, whole, and the same when read back

CONFIG = TransformerConfig(
    vocab_size=258,
    d_model=32,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    d_ff=36,
    context_length=11,
)
FOLDER_CONFIGS = {"llama": CONFIG, "gpt2": replace(CONFIG, family="gpt2", n_kv_heads=4)}
FOLDER_IDS = torch.tensor([[5, 257, 0, 17, 3]])


def make(name="llama", bits=8, group_size=None):
    tokenizer = BPETokenizer.train(["a"], 258, ["<|endoftext|>", "<|end|>"])
    model = Transformer(FOLDER_CONFIGS[name], torch.Generator().manual_seed(0))
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


@pytest.mark.parametrize("name", FOLDER_CONFIGS)
@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, 4)])
def test_what_is_read_is_what_was_written(tmp_path, name, bits, group_size):
    model, tokenizer = make(name, bits, group_size)
    save_quantized(model, tokenizer, tmp_path / "new")
    found, words = load_quantized(tmp_path / "new")
    with torch.no_grad():
        assert torch.equal(found(FOLDER_IDS), model(FOLDER_IDS))
    assert words.encode("ab") == tokenizer.encode("ab")
    assert is_quantized(tmp_path / "new")
    assert not found.training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", FOLDER_CONFIGS)
def test_a_model_that_was_cast_is_read_back(tmp_path, name, dtype):
    model, tokenizer = make(name)
    save_quantized(model.to(dtype), tokenizer, tmp_path)
    found, _ = load_quantized(tmp_path)
    for key, value in found.state_dict().items():
        assert torch.equal(value.double(), model.state_dict()[key].double())


@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, 4)])
def test_loading_does_not_import_the_compiler(tmp_path, bits, group_size):
    save_quantized(*make(bits=bits, group_size=group_size), tmp_path)
    code = """if True:
        import sys
        from llmcourse.model.quantization import load_quantized

        load_quantized(sys.argv[1])
        assert "torch._dynamo" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_the_file_is_a_fraction_of_the_float_one(tmp_path):
    """base-llm has 4.9 million weights, of 4 bytes, and next to nothing else."""
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
    said = json.loads((tmp_path / "config.json").read_text())
    said["quantization_config"] = None
    (tmp_path / "config.json").write_text(json.dumps(said))
    assert not is_quantized(tmp_path)
    with pytest.raises(ValueError, match="must hold a model that save_quantized wrote"):
        load_quantized(tmp_path)


def test_a_tokenizer_of_another_size_is_refused(tmp_path):
    model, _ = make()
    with pytest.raises(ValueError, match="the model's 258 ids"):
        save_quantized(model, BPETokenizer.train(["a"], 256), tmp_path)


def test_weights_that_are_not_finite_are_not_stored(tmp_path):
    model, tokenizer = make()
    model.norm.weight[3] = torch.nan
    with pytest.raises(ValueError, match=r"norm\.weight must be finite"):
        save_quantized(model, tokenizer, tmp_path / "new")
    assert not (tmp_path / "new").exists()


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
    with pytest.raises(ValueError, match="full attention is needed"):
        save_quantized(model, tokenizer, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_in_another_type_is_quantized_too(family, tmp_path):
    config = replace(LLAMA, family=family, n_kv_heads=LLAMA.n_heads)
    model, ids = Transformer(config).bfloat16(), torch.tensor([[1, 2, 3]])
    small = quantize_model(model)
    assert small(ids).dtype == torch.float32
    assert small.to(torch.bfloat16)(ids).isfinite().all()
    assert next(model.parameters()).dtype == torch.bfloat16
