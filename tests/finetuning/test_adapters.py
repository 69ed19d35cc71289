"""Adapters as files: what `peft` reads is what we wrote, and the other way round."""

import errno
import json
from collections import Counter

import pytest
import torch
from model_cases import CONFIGS, IDS, make_model, make_tokenizer, seeded
from safetensors.torch import load_file, save_file

from llmcourse import files
from llmcourse.finetuning.lora import (
    add_lora,
    add_lora_to,
    load_adapter,
    lora_layers,
    merge_lora,
    save_adapter,
)
from llmcourse.model.folders import save_pretrained

ALL = ["query", "key", "value", "output", "up", "down"]
# Of GPT-2, where three matrices are one, all ways in which the three may be adapted.
CASES = [
    ("llama", ["query", "value"]),
    ("llama", [*ALL, "gate"]),
    ("gpt2", ["query", "key", "value"]),
    ("gpt2", ["key"]),
    ("gpt2", ["query", "value", "down"]),
    ("gpt2", ALL),
]
PREFIX = "base_model.model.model.layers.1.self_attn.q_proj"


def learn(model):
    """Let adapters have learned something, if only noise."""
    generator = seeded(2)
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.lora_b.normal_(std=0.3, generator=generator)
    return model


def adapted_model(family="llama", targets=("query", "value")):
    model = make_model(family)
    add_lora(model, rank=4, alpha=6, targets=targets, generator=seeded(1))
    return learn(model)


def edit_config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder, edit):
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path)


@pytest.fixture
def folder(tmp_path):
    save_adapter(adapted_model(), tmp_path / "adapter", base_model="base-llm")
    return tmp_path / "adapter"


@pytest.fixture(scope="module", params=CONFIGS)
def base(request, tmp_path_factory):
    """Return a family and the folder of its model, for `transformers` to load."""
    folder = tmp_path_factory.mktemp(request.param)
    save_pretrained(make_model(request.param), make_tokenizer(), folder)
    return request.param, folder


def their_model(folder):
    transformers = pytest.importorskip("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(folder)


# Worked example


def test_worked_example_of_a_folder(folder):
    """Two layers, query (24 → 24) and value (24 → 8), rank 4: eight matrices."""
    weights = load_file(folder / "adapter_model.safetensors")
    attention = "base_model.model.model.layers.{}.self_attn"
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == {
        f"{attention.format(layer)}.{module}.lora_{part}.weight": shape
        for layer in (0, 1)
        for module, out in (("q_proj", 24), ("v_proj", 8))
        for part, shape in (("A", (4, 24)), ("B", (out, 4)))
    }
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 6)
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert config["base_model_name_or_path"] == "base-llm"
    layer = dict(lora_layers(adapted_model()))["blocks.1.attention.query"]
    assert torch.equal(weights[f"{PREFIX}.lora_A.weight"], layer.lora_a)
    assert torch.equal(weights[f"{PREFIX}.lora_B.weight"], layer.lora_b)


def test_worked_example_of_gpt2s_one_matrix(tmp_path):
    """Adapters of query and value at rank 4 are one of rank 8 for 72 outputs: the
    query's rows use the first four, the key's none, the value's the last four; alpha
    is doubled like the rank.
    """
    model = adapted_model("gpt2")
    save_adapter(model, tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    name = "base_model.model.transformer.h.0.attn.c_attn"
    a, b = (weights[f"{name}.lora_{part}.weight"] for part in "AB")
    layers = dict(lora_layers(model))
    query, value = (layers[f"blocks.0.attention.{n}"] for n in ("query", "value"))
    assert torch.equal(a, torch.cat([query.lora_a, value.lora_a]))
    expected = torch.zeros(72, 8)
    expected[:24, :4], expected[48:, 4:] = query.lora_b, value.lora_b
    assert torch.equal(b, expected)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 12)
    assert config["target_modules"] == ["c_attn"]


# Law


@torch.no_grad()
@pytest.mark.parametrize(("family", "targets"), CASES)
def test_what_is_saved_is_loaded(family, targets, tmp_path):
    model = adapted_model(family, targets)
    save_adapter(model, tmp_path)
    loaded = make_model(family)
    load_adapter(loaded, tmp_path)
    torch.testing.assert_close(loaded(IDS), model(IDS))
    learned = {n for n, w in loaded.named_parameters() if w.requires_grad}
    assert learned
    assert all("lora" in name for name in learned)
    save_adapter(loaded, tmp_path / "again")
    again = make_model(family)
    load_adapter(again, tmp_path / "again")
    torch.testing.assert_close(again(IDS), model(IDS))


@torch.no_grad()
@pytest.mark.parametrize("family", CONFIGS)
def test_layers_may_have_adapters_of_their_own_sizes(family, tmp_path):
    model = make_model(family)
    sizes = {
        "blocks.0.attention.query": (2, 3),
        "blocks.0.attention.key": (1, 7),
        "blocks.1.attention.output": (5, 5.5),
        "blocks.1.feed_forward.down": (2, 3),
    }
    add_lora_to(model, sizes, seeded())
    learn(model)
    save_adapter(model, tmp_path)
    loaded = make_model(family)
    load_adapter(loaded, tmp_path)
    torch.testing.assert_close(loaded(IDS), model(IDS))
    if family == "llama":
        found = {n: (x.rank, x.alpha) for n, x in lora_layers(loaded)}
        assert found == sizes


def test_loading_draws_no_random_numbers(folder):
    model, before = make_model(), torch.get_rng_state()
    load_adapter(model, folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_full_disk_leaves_the_old_adapter(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    calls = Counter()

    def refuse(*arguments, original=files.NamedTemporaryFile, **options):
        calls["files"] += 1
        if calls["files"] == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments, **options)

    monkeypatch.setattr(files, "NamedTemporaryFile", refuse)
    with pytest.raises(OSError, match="cannot write .* No space left"):
        save_adapter(adapted_model(targets=["down"]), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("n", [1, 2])
def test_a_disk_that_fails_at_the_end_leaves_the_old_adapter(folder, monkeypatch, n):
    """Whether it is at the end of the first file or of the second."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    synced = []

    def fail(descriptor):
        synced.append(descriptor)
        if len(synced) == n:
            raise OSError(errno.EIO, "the disk fails")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="the disk fails"):
        save_adapter(adapted_model(targets=["down"]), folder)
    assert len(synced) == n
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# Reference


@torch.no_grad()
@pytest.mark.parametrize("way", ["some", "all", "odd"])
def test_peft_loads_what_we_wrote_with_equal_logits(base, way, tmp_path):
    peft = pytest.importorskip("peft")
    family, base_folder = base
    if way == "odd":
        model = make_model(family)
        sizes = {"blocks.0.attention.query": (2, 3), "blocks.1.feed_forward.up": (5, 4)}
        add_lora_to(model, sizes | {"blocks.1.attention.output": (2, 3)}, seeded())
        learn(model)
    else:
        targets = ["query", "value"] if way == "some" else ALL
        model = adapted_model(family, targets)
    save_adapter(model, tmp_path)
    theirs = peft.PeftModel.from_pretrained(their_model(base_folder), tmp_path)
    logits = theirs(IDS).logits
    assert (logits - make_model(family)(IDS)).abs().max() > 0.1
    torch.testing.assert_close(model(IDS), logits, atol=1e-5, rtol=0)
    merge_lora(model)
    torch.testing.assert_close(model(IDS), logits, atol=1e-5, rtol=0)
    merged = theirs.merge_and_unload()(IDS).logits
    torch.testing.assert_close(model(IDS), merged, atol=1e-5, rtol=0)


THEIR_TARGETS = {
    "llama": [["q_proj", "v_proj"], "all-linear", ["layers.1.mlp.down_proj"]],
    "gpt2": [["c_attn"], "all-linear", ["mlp.c_proj"]],
}
THEIR_PATTERNS = {
    "llama": ["q_proj", "mlp.down_proj", "^model.layers.1.mlp.down_proj"],
    "gpt2": ["^transformer.h.1.attn.c_attn", "c_fc", "mlp.c_proj"],
}


@torch.no_grad()
@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize(
    ("patterns", "root"), [(False, False), (True, False), (True, True)]
)
def test_we_load_what_peft_wrote_with_equal_logits(
    base, which, patterns, root, tmp_path
):
    peft = pytest.importorskip("peft")
    family, base_folder = base
    options = {}
    if patterns:
        name = THEIR_PATTERNS[family][which]
        options = {"rank_pattern": {name: 5}, "alpha_pattern": {name: 2}}
    config = peft.LoraConfig(
        r=3,
        lora_alpha=4,
        target_modules=THEIR_TARGETS[family][which],
        fan_in_fan_out=family == "gpt2",
        task_type="CAUSAL_LM",
        use_rslora=root,
        **options,
    )
    theirs = peft.get_peft_model(their_model(base_folder), config).eval()
    generator = seeded(4)
    for name, weight in theirs.named_parameters():
        if "lora_" in name:
            weight.normal_(std=0.3, generator=generator)
    theirs.save_pretrained(tmp_path)
    model = make_model(family)
    load_adapter(model, tmp_path)
    logits = theirs(IDS).logits
    assert (logits - make_model(family)(IDS)).abs().max() > 0.1
    torch.testing.assert_close(model(IDS), logits, atol=1e-5, rtol=0)


# Refusal


def check_refused(folder, message, model=None):
    """Check that nothing is loaded, and that the model stays what it was."""
    model = model or make_model()
    names = [name for name, _ in model.named_parameters()]
    with pytest.raises(ValueError, match=message):
        load_adapter(model, folder)
    assert [name for name, _ in model.named_parameters()] == names
    assert all(weight.requires_grad for weight in model.parameters())


def test_refuses_adapters_of_another_shape(folder):
    wide = make_model(d_model=36)
    message = r"0.self_attn.q_proj must have .*\(4, 36\).*\(36, 4\).*got .*\(4, 24\)"
    check_refused(folder, message, wide)


def test_refuses_adapters_of_more_layers_or_another_family(folder):
    shallow = make_model(n_layers=1)
    message = r"layers.1.self_attn.\w_proj' has an adapter, but is not a layer"
    check_refused(folder, message, shallow)
    check_refused(
        folder, "q_proj' has an adapter, but is not a layer", make_model("gpt2")
    )


def test_refuses_a_rank_that_is_not_the_weights(folder):
    edit_config(folder, r=3)
    check_refused(folder, r"q_proj must have .*\(3, 24\).* got .*\(4, 24\)")


def test_refuses_half_an_adapter(folder):
    edit_weights(folder, lambda weights: weights.pop(f"{PREFIX}.lora_B.weight"))
    check_refused(folder, r"1.self_attn.q_proj must have .* got {'A': \(4, 24\)}")


def test_refuses_an_adapter_of_whole_numbers(folder):
    def edit(weights):
        name = f"{PREFIX}.lora_B.weight"
        weights[name] = weights[name].long()

    edit_weights(folder, edit)
    check_refused(folder, "lora_B.weight in .* is stored in torch.int64")


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        f"{PREFIX}.lora_magnitude_vector",
        f"{PREFIX}.lora_B.bias",
        "base_model.model.model.embed_tokens.lora_embedding_A",
    ],
)
def test_refuses_weights_that_are_no_part_of_such_an_adapter(folder, name):
    edit_weights(folder, lambda weights: weights.update({name: torch.zeros(2)}))
    check_refused(folder, "is not part of an adapter")


@pytest.mark.parametrize("end", ["A", "B"])
def test_refuses_numbers_that_are_not_finite(folder, end):
    """Of NaN in a query's adapter nothing would show in the logits."""
    name = f"{PREFIX}.lora_{end}.weight"
    edit_weights(folder, lambda weights: weights[name][1].fill_(torch.nan))
    check_refused(folder, "q_proj must be finite, but is not")


def test_refuses_an_empty_adapter(folder):
    edit_weights(folder, dict.clear)
    check_refused(folder, "must hold an adapter, got none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, r"must describe a low-rank adapter \(LORA\)"),
        ({"use_dora": True}, r"not supported: \['use_dora'\]"),
        (
            {"modules_to_save": ["lm_head"]},
            r"not supported: \['modules_to_save'",
        ),
        ({"something_new": 1}, r"not supported: \['something_new'\]"),
        ({"bias": "all"}, "bias must be 'none', got 'all'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights must be True, got 'pissa'"),
        ({"r": 0}, r"q_proj must have .*\(0, 24\)"),
        ({"r": None}, r"q_proj must have .*\(None, 24\)"),
        ({"rank_pattern": {"q_proj": 2.5}}, r"q_proj must have .*\(2.5, 24\)"),
        ({"lora_alpha": -1}, "alpha must be at least 0, got -1"),
        ({"lora_alpha": "8"}, r"lora_alpha must be a number, got \['8'\]"),
        ({"alpha_pattern": {"(a+)+": 8}}, "an object of layers' names, got {'.a"),
        (
            {"rank_pattern": ["q_proj"]},
            "rank_pattern must be an object of layers' names",
        ),
        ({"rank_pattern": 3}, "rank_pattern must be an object of layers' names, got 3"),
        ({"alpha_pattern": "q_proj"}, "alpha_pattern must be an object of layers'"),
    ],
)
def test_refuses_what_it_cannot_follow(folder, changes, message):
    edit_config(folder, **changes)
    check_refused(folder, message)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_refuses_folders_with_missing_or_damaged_files(folder, name):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    check_refused(folder, f"{name}' must be")
    (folder / name).unlink()
    check_refused(folder, f"needs the file .*{name}")


def test_refuses_a_config_that_is_no_object(folder):
    (folder / "adapter_config.json").write_text("[]")
    check_refused(folder, "must be a JSON object, got")


def test_refuses_a_model_with_adapters(folder):
    with pytest.raises(ValueError, match="has 4 adapters already"):
        load_adapter(adapted_model(), folder)


def test_refuses_to_save_what_is_no_adapter(tmp_path):
    with pytest.raises(ValueError, match="must have adapters to be saved, got none"):
        save_adapter(make_model(), tmp_path / "new")
    model = adapted_model()
    merge_lora(model)
    with pytest.raises(ValueError, match="to be saved, got merged ones"):
        save_adapter(model, tmp_path / "new")
    spoilt = adapted_model()
    with torch.no_grad():
        next(layer for _, layer in lora_layers(spoilt)).lora_b[0, 0] = torch.inf
    with pytest.raises(ValueError, match="q_proj.lora_B.weight must be finite"):
        save_adapter(spoilt, tmp_path / "new")
    assert not (tmp_path / "new").exists()
