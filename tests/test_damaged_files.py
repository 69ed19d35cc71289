"""Files that were damaged, or forged: read as they are, or refused in a line.

Whatever a folder holds, opening it ends soon, takes little memory, and raises nothing
but ValueError and OSError, which the command line prints as one line.
"""

import json
import random
import sys
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmcourse.finetuning.lora import add_lora, load_adapter, save_adapter
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.quantization import load_quantized, quantize_model, save_quantized
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.checkpoints import (
    Run,
    _digest,
    _packed,
    checkpoint_paths,
    load_checkpoint,
)

resource = pytest.importorskip("resource", reason="tells memory on POSIX alone")
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of what it tells
ODD = [
    *(None, True, -1, 0, 3, 2.5, "x", [], {}, [1], {"a": 1}),
    *(1e308, 1e-300, float("nan"), float("inf"), 10**12, 2**63, 10**400),
    *(["a" * 9] * 9, "\ud800", {"Regex": ["a"]}),
]
MOST_MEMORY = 600 << 20  # bytes more than before: no size that a file names is believed


def small_model():
    config = TransformerConfig(vocab_size=262, d_model=16, d_ff=24, n_kv_heads=2)
    return Transformer(config, torch.Generator().manual_seed(0))


def small_tokenizer():
    return BPETokenizer.train(["low lower lowest"], 262, ["<|endoftext|>"])


def plain(folder):
    save_pretrained(small_model(), small_tokenizer(), folder)


def quantized(folder):
    save_quantized(quantize_model(small_model()), small_tokenizer(), folder)


def adapter(folder):
    model = small_model()
    add_lora(model, rank=2, alpha=2)
    save_adapter(model, folder)


def checkpoint(folder):
    model = small_model()
    parts = {"model": model, "optimizer": torch.optim.AdamW(model.parameters())}
    Run(folder=folder).save_if_due(3, {"steps": 3}, parts, last=True)


def go_on(folder):
    model = small_model()
    parts = {"model": model, "optimizer": torch.optim.AdamW(model.parameters())}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Run(folder=folder).resume({"steps": 3}, parts)


KINDS = {
    "plain": (plain, load_pretrained),
    "quantized": (quantized, load_quantized),
    "adapter": (adapter, lambda folder: load_adapter(small_model(), folder)),
    "checkpoint": (checkpoint, go_on),
}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    """Give a folder that was just written, and what opens it."""
    write, read = KINDS[request.param]
    write(tmp_path / "sound")
    read(tmp_path / "sound")
    return tmp_path / "sound", read


def outcome(read, folder):
    """Return why a folder is refused, in a line; None if it is not."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read(folder)
    except (ValueError, OSError) as error:
        said = str(error)
    else:
        said = None
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * UNIT < MOST_MEMORY
    assert said is None or 0 < len(said) < 1000
    return said


def places(value, path=()):
    """Yield the path of everything inside a JSON value, few of long lists."""
    if isinstance(value, dict):
        inside = [*value.items()][:30]
    else:
        inside = [*enumerate(value)][:2] if isinstance(value, list) else []
    for key, part in inside:
        yield (*path, key)
        yield from places(part, (*path, key))


def changed(value, path, new):
    """Return a JSON value in which a place holds something else."""
    copy = json.loads(json.dumps(value))
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return copy


# Laws


def test_odd_values_in_json(kind, tmp_path):
    folder, read = kind
    chance = random.Random(0)
    for file in sorted(folder.glob("*.json")):
        sound = file.read_text()
        document = json.loads(sound)
        cases = [(path, new) for path in places(document) for new in ODD]
        for path, new in chance.sample(cases, min(150, len(cases))):
            file.write_text(json.dumps(changed(document, path, new)))
            outcome(read, folder)
        for text in ("", "{", "[]", "7", "{}", sound[: len(sound) // 2], "\x00"):
            file.write_text(text)
            outcome(read, folder)
        for deep in ("[" * 200_000, '{"a":' * 200_000, "[" * 900 + "]" * 900):
            file.write_text(deep)
            assert outcome(read, folder)
        file.write_text(sound)
    assert outcome(read, folder) is None


def test_sizes_that_the_weights_do_not_have(kind):
    folder, read = kind
    config = folder / "config.json"
    if not config.exists():
        pytest.skip("it has no config")
    sound = json.loads(config.read_text())
    for name in ("num_hidden_layers", "hidden_size", "vocab_size", "intermediate_size"):
        for size in (1, 2**14, 2**24, 10**9, 10**12, 2**63, 10**400):
            config.write_text(json.dumps(sound | {name: size}))
            assert outcome(read, folder), (name, size)
    for name, value in (
        *(("rope_theta", 1e308), ("rope_theta", 1e-300), ("rms_norm_eps", 1e300)),
        *(("rms_norm_eps", 10**400), ("max_position_embeddings", 10**8)),
        ("rope_scaling", {"rope_type": "linear", "factor": 1e300}),
    ):
        config.write_text(json.dumps(sound | {name: value}))
        assert outcome(read, folder), (name, value)


def test_damaged_bytes(kind):
    folder, read = kind
    chance = random.Random(1)
    for file in sorted(folder.glob("*.safetensors")):
        sound = file.read_bytes()
        for _ in range(40):
            data = bytearray(sound)
            for _ in range(chance.choice([1, 1, 9])):
                data[chance.randrange(min(len(data), 3000))] = chance.randrange(256)
            file.write_bytes(data)
            outcome(read, folder)
        for size in (0, 7, 8, 9, len(sound) // 2, len(sound) - 1):
            file.write_bytes(sound[:size])
            assert outcome(read, folder)
        file.write_bytes(b"\xff" * 8 + sound[8:])
        assert outcome(read, folder)
        file.write_bytes(sound)
    assert outcome(read, folder) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(kind, value):
    folder, read = kind
    for file in folder.glob("*.safetensors"):
        weights = load_file(file)
        name = next(n for n, w in weights.items() if w.is_floating_point())
        weights[name].view(-1)[0] = value
        save_file(weights, file)
    assert outcome(read, folder)


def forge(folder, state):
    """Write a checkpoint of anything, with the hash that is right for it."""
    [path] = checkpoint_paths(folder)
    tensors = {}
    text = state if isinstance(state, str) else json.dumps(_packed(state, "", tensors))
    digest = _digest(text, tensors)
    save_file(tensors, path, {"state": text, "sha256": digest})


def test_forged_checkpoints_are_damaged(tmp_path):
    checkpoint(tmp_path)
    optimizer = torch.optim.AdamW(small_model().parameters()).state_dict()
    right = {"model": small_model().state_dict(), "optimizer": optimizer}
    recipe = load_checkpoint(tmp_path)["recipe"]
    for state in (
        *("", "7", "[]", "{}", '{"$dict": 7}', '{"$tensor": "x"}', '{"$dict": [[1]]}'),
        *("[" * 200_000, '{"$dict": [[[], 1]]}'),
        *({}, {"recipe": 7, "parts": {}}, {"recipe": recipe}, right),
        *({"recipe": recipe, "parts": parts} for parts in ({}, 7, [], right["model"])),
        {"recipe": recipe, "parts": right | {"model": {}}},
        {"recipe": recipe, "parts": right | {"model": 7}},
        {"recipe": recipe, "parts": right | {"optimizer": {}}},
        {"recipe": recipe, "parts": right | {"optimizer": []}},
        {"recipe": recipe, "parts": right | {"optimizer": {"param_groups": 7}}},
    ):
        forge(tmp_path, state)
        said = outcome(go_on, tmp_path)
        assert said, state
        assert "damaged" in said
    forge(tmp_path, {"step": 3, "recipe": recipe, "parts": right})
    assert outcome(go_on, tmp_path) is None
