"""A model's folder gives the model back, here and in `transformers`."""

import json

import pytest
import torch

from llmcourse.pretrained import load_pretrained, save_pretrained
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer, TransformerConfig

CONFIG = TransformerConfig(
    vocab_size=262,
    d_model=24,
    n_layers=3,
    n_heads=6,
    n_kv_heads=2,
    d_ff=20,
    context_length=11,
    rope_base=500.0,
    norm_eps=1e-3,
)
IDS = torch.tensor([[5, 261, 0, 17, 3, 200, 41]])


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(["low lower lowest"], 262, ["<|endoftext|>"])


@pytest.fixture
def model():
    model = Transformer(CONFIG, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in model.parameters():  # norms too, so that none can be left out
            weight += 0.1 * torch.randn(weight.shape, generator=torch.manual_seed(1))
    return model.eval()


@pytest.fixture
def folder(model, tokenizer, tmp_path):
    save_pretrained(model, tokenizer, tmp_path / "model")
    return tmp_path / "model"


def test_load_gives_back_what_was_saved(folder, model, tokenizer):
    again, same_tokenizer = load_pretrained(folder)
    assert again.config == CONFIG
    assert not again.training
    torch.testing.assert_close(again(IDS), model(IDS), rtol=0, atol=0)
    assert same_tokenizer.merges == tokenizer.merges
    assert same_tokenizer.special_tokens == tokenizer.special_tokens


def test_half_precision_halves_the_file(folder, model, tokenizer, tmp_path):
    save_pretrained(model, tokenizer, tmp_path / "half", torch.float16)
    full = (folder / "model.safetensors").stat().st_size
    half = (tmp_path / "half" / "model.safetensors").stat().st_size
    assert half < 0.6 * full
    logits = load_pretrained(tmp_path / "half")[0](IDS)
    torch.testing.assert_close(logits, model(IDS), rtol=1e-2, atol=1e-2)


def test_transformers_loads_the_folder_with_equal_logits(folder, model):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        logits = theirs(IDS).logits
    torch.testing.assert_close(logits, model(IDS), rtol=1e-5, atol=1e-5)
    assert theirs.generation_config.eos_token_id == 0


def edit_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(config))


def test_a_missing_file_is_named(folder):
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        (folder / name).unlink()
        with pytest.raises(ValueError, match=f"needs the file .*{name}"):
            load_pretrained(folder)


def test_truncated_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="whole safetensors file"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "type 'llama', got 'bert'"),
        ({"tie_word_embeddings": False}, "only tied embeddings"),
        ({"num_hidden_layers": 2}, r"2 layers .*model\.layers\.2"),
        ({"intermediate_size": 24}, r"mlp\.gate_proj\.weight must have the shape \(24"),
        ({"hidden_size": -1}, "d_model must be positive"),
        ({"hidden_size": "wide"}, "config.json"),
    ],
)
def test_a_config_of_another_model_is_refused(folder, changes, message):
    edit_config(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_pretrained(folder)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_config_that_is_no_json_object_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match="must be (a )?JSON"):
        load_pretrained(folder)


def test_a_tokenizer_of_another_model_is_refused(folder, model):
    other = BPETokenizer.train(["low lower lowest"], 260, ["<|endoftext|>"])
    with pytest.raises(ValueError, match="262 ids, so must the tokenizer.*260"):
        save_pretrained(model, other, folder)
    other.save(folder / "tokenizer.json")
    with pytest.raises(ValueError, match="must have 262 ids, got 260"):
        load_pretrained(folder)
