"""Our names and theirs, without a file."""

import json
from dataclasses import fields, replace
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from llmcourse.model.hugging_face import (
    config_from_json,
    config_to_json,
    weights_from_theirs,
    weights_to_theirs,
)
from llmcourse.model.positions import RopeScaling
from llmcourse.model.transformer import (
    GPT2_SMALL,
    SMOLLM2_135M,
    Transformer,
    TransformerConfig,
)

LLAMA = TransformerConfig(
    vocab_size=13,
    d_model=12,
    n_layers=2,
    n_heads=3,
    n_kv_heads=1,
    d_ff=10,
    context_length=7,
    rope_base=500,
    norm_eps=1e-3,
)
GPT2 = replace(LLAMA, family="gpt2", n_kv_heads=3, rope_base=10_000.0)
QWEN2 = replace(LLAMA, qkv_bias=True)
QWEN3 = replace(LLAMA, qk_norm=True, head_width=6)
SHAPES = pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        replace(LLAMA, tied_embeddings=False),
        GPT2,
        replace(GPT2, tied_embeddings=False),
        QWEN2,
        QWEN3,
    ],
    ids=["llama", "llama-untied", "gpt2", "gpt2-untied", "qwen2", "qwen3"],
)
LLAMA_JSON = {
    "model_type": "llama",
    "vocab_size": 13,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 10,
    "max_position_embeddings": 7,
}
OTHERS_JSON = {
    kind: LLAMA_JSON | {"model_type": kind, "num_key_value_heads": 1}
    for kind in ("mistral", "qwen2", "qwen3")
}
GPT2_JSON = {
    "model_type": "gpt2",
    "vocab_size": 13,
    "n_embd": 12,
    "n_layer": 2,
    "n_head": 3,
    "n_positions": 7,
}


def make_weights(config):
    """Return random weights under our names, and their shapes."""
    state = Transformer(config, torch.Generator().manual_seed(0)).state_dict()
    generator = torch.Generator().manual_seed(1)
    weights = {
        name: torch.randn(weight.shape, generator=generator)
        for name, weight in state.items()
    }
    return weights, {name: tuple(weight.shape) for name, weight in weights.items()}


# Worked example


def test_worked_example_of_three_matrices_in_one():
    """Of width 1: query 2, key 3, value 5 are the row (2, 3, 5), with input first."""
    parts = {"query": 2.0, "key": 3.0, "value": 5.0}
    weights = {
        f"blocks.4.attention.{part}.{kind}": torch.full(shape, value)
        for part, value in parts.items()
        for kind, shape in (("weight", (1, 1)), ("bias", (1,)))
    }
    theirs = weights_to_theirs(weights, "gpt2")
    name = "transformer.h.4.attn.c_attn"
    assert theirs.keys() == {f"{name}.weight", f"{name}.bias"}
    torch.testing.assert_close(theirs[f"{name}.weight"], torch.tensor([[2.0, 3, 5]]))
    torch.testing.assert_close(theirs[f"{name}.bias"], torch.tensor([2.0, 3, 5]))


# Law


@SHAPES
def test_weights_come_back_as_they_were(config):
    weights, shapes = make_weights(config)
    theirs = weights_to_theirs(weights, config.family)
    again = weights_from_theirs(theirs, shapes, config.family)
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)


@SHAPES
def test_no_two_weights_share_memory(config):
    """Or one could not be saved again, or learned, without the other."""
    weights, shapes = make_weights(config)
    theirs = weights_to_theirs(weights, config.family)
    again = weights_from_theirs(theirs, shapes, config.family)
    places = {weight.untyped_storage().data_ptr() for weight in again.values()}
    assert len(places) == len(again)
    assert all(weight.is_contiguous() for weight in again.values())


@pytest.mark.parametrize("prefix", ["model.", "transformer."])
@SHAPES
def test_the_prefix_of_the_whole_model_may_be_missing(config, prefix):
    weights, shapes = make_weights(config)
    theirs = weights_to_theirs(weights, config.family)
    short = {name.removeprefix(prefix): weight for name, weight in theirs.items()}
    again = weights_from_theirs(short, shapes, config.family)
    assert all(torch.equal(again[name], weights[name]) for name in weights)


@SHAPES
def test_constants_beside_the_weights_are_left_out(config):
    weights, shapes = make_weights(config)
    theirs = weights_to_theirs(weights, config.family) | {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 7, 7),
        "h.1.attn.masked_bias": torch.tensor(-1e4),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2),
    }
    assert weights_from_theirs(theirs, shapes, config.family).keys() == weights.keys()


@pytest.mark.parametrize("config", [LLAMA, GPT2])
def test_tied_embeddings_may_be_written_twice(config):
    weights, shapes = make_weights(config)
    theirs = weights_to_theirs(weights, config.family)
    theirs["lm_head.weight"] = weights["embedding.weight"].clone()
    again = weights_from_theirs(theirs, shapes, config.family)
    assert again.keys() == weights.keys()


@pytest.mark.parametrize(
    "config",
    [
        *(LLAMA, replace(LLAMA, tied_embeddings=False), GPT2_SMALL, SMOLLM2_135M),
        *(QWEN2, QWEN3, replace(QWEN3, head_width=None), replace(LLAMA, head_width=8)),
    ],
)
def test_a_config_comes_back_as_it_was(config):
    found = config_to_json(config)
    assert TransformerConfig(**config_from_json(found)) == config


def other_values(kind, value):
    """Return values of a type, all unlike the given one."""
    if get_origin(kind) is Literal:
        found = get_args(kind)
    elif kind is bool:
        found = (True, False)
    elif kind in (int, float):
        found = (kind(value or 1) * 2, kind(value or 1) * 3)
    elif kind is str:
        found = (f"not {value}",)
    elif kind is type(None):
        found = (None,)
    elif kind is RopeScaling:
        linear = RopeScaling(kind="linear", factor=4)
        found = (
            *(linear, RopeScaling(kind="yarn", factor=2.5, original_length=5)),
            RopeScaling(kind="yarn", factor=2, original_length=5, slow=2, fast=9),
            RopeScaling(kind="llama3", factor=8, original_length=5, fast=4),
            RopeScaling(kind="llama3", factor=8, original_length=5, slow=2, fast=3),
        )
    else:
        assert get_args(kind), f"which values has {kind}?"
        found = [other for one in get_args(kind) for other in other_values(one, value)]
    return [other for other in found if other != value]


@pytest.mark.parametrize("name", [field.name for field in fields(TransformerConfig)])
def test_each_field_comes_back_or_is_refused(name):
    """Whatever is changed in a config, no folder gives another one in silence."""
    kind, tried = get_type_hints(TransformerConfig)[name], 0
    for config in (LLAMA, GPT2, QWEN2, QWEN3):
        for value in other_values(kind, getattr(config, name)):
            try:
                changed = replace(config, **{name: value})
            except ValueError:
                continue  # no model has this shape
            tried += 1
            try:
                text = json.dumps(config_to_json(changed))
            except ValueError as error:
                lost = "qkv_bias" if name == "qk_norm" else name  # no type has both
                assert f"cannot store {lost}, got" in str(error)  # noqa: PT017
            else:
                again = TransformerConfig(**config_from_json(json.loads(text)))
                assert again == changed
    assert tried


@pytest.mark.parametrize(
    "said",
    [
        {"rope_theta": 300},
        {"rope_theta": 300.0, "rope_scaling": None},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}},
        {"rope_parameters": {"rope_theta": 300.0}, "rope_theta": 7.0},
        {"rope_theta": 300.0, "rope_scaling": {"type": "default"}},
    ],
)
def test_the_base_of_the_angles_may_stand_in_either_place(said):
    assert config_from_json(LLAMA_JSON | said)["rope_base"] == 300


def test_what_is_not_said_has_the_values_of_transformers():
    """By the documentation of `LlamaConfig` and `GPT2Config`."""
    llama = TransformerConfig(**config_from_json(LLAMA_JSON))
    assert (llama.n_kv_heads, llama.rope_base, llama.norm_eps) == (3, 10_000, 1e-6)
    assert not llama.tied_embeddings
    gpt2 = TransformerConfig(**config_from_json(GPT2_JSON | {"n_inner": None}))
    assert (gpt2.d_ff, gpt2.norm_eps, gpt2.tied_embeddings) == (48, 1e-5, True)
    qwen3 = TransformerConfig(**config_from_json(OTHERS_JSON["qwen3"]))
    assert (qwen3.d_head, qwen3.qk_norm, qwen3.qkv_bias) == (128, True, False)
    many = {"num_attention_heads": 32, "hidden_size": 64}  # the class has 8 and 32
    for kind, n in (("mistral", 8), ("qwen2", 32), ("qwen3", 32)):
        said = OTHERS_JSON[kind] | many
        del said["num_key_value_heads"]
        assert config_from_json(said)["n_kv_heads"] == n
        assert (
            config_from_json(said | {"num_key_value_heads": None})["n_kv_heads"] == 32
        )


def test_a_window_as_long_as_the_context_is_none():
    for window in (7, 4096, None):
        said = OTHERS_JSON["mistral"] | {"sliding_window": window}
        assert config_from_json(said)["context_length"] == 7
    said = {"sliding_window": 4, "layer_types": ["full_attention"] * 2}
    assert config_from_json(OTHERS_JSON["qwen2"] | said)["qkv_bias"]
    for said in ({"sliding_window": 7}, {"attention_chunk_size": 9}):
        assert config_from_json(LLAMA_JSON | said)["context_length"] == 7


# Reference


def test_the_presets_equal_the_published_files():
    """The sizes that the two models' own config.json say."""
    gpt2 = config_to_json(GPT2_SMALL)
    assert gpt2 | {"n_embd": 768, "n_layer": 12, "n_head": 12} == gpt2
    assert gpt2 | {"n_positions": 1024, "activation_function": "gelu_new"} == gpt2
    smol = config_to_json(SMOLLM2_135M)
    assert smol | {"hidden_size": 576, "num_key_value_heads": 3} == smol
    assert smol | {"intermediate_size": 1536, "rope_theta": 100_000} == smol


# Refusal


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type must be 'llama' or .*, got 'bert'"),
        ({"model_type": None}, "got 'None'"),
        ({"model_type": ["llama"]}, "model_type must be"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'silu', got 'gelu'"),
        ({"is_causal": False}, "is_causal must be True, got False"),
        ({"attention_bias": True}, "attention_bias must be False, got True"),
        ({"mlp_bias": True}, "mlp_bias must be False, got True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, "'llama3', got 'dynamic'"),
        ({"rope_scaling": {"factor": 2.0}}, "rope_scaling has terms .*: factor"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "type llama3 needs numbers"),
        (
            {
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 5,
                }
            },
            "type llama3 needs numbers",
        ),
        (
            {
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 8.0,
                    "original_max_position_embeddings": 5,
                },
                "original_max_position_embeddings": 6,
            },
            "original_max_position_embeddings must be 5, got 6",
        ),
        (
            {"rope_parameters": {"rope_type": "yarn"}},
            "rope_parameters of type yarn needs",
        ),
        ({"rope_scaling": {"type": "linear"}}, "of type linear needs numbers"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2, "mscale": 1}},
            "rope_scaling has terms that are not supported: mscale",
        ),
        ({"rope_parameters": "default"}, "rope_parameters must be a JSON object"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor must be 1, got 0.5"),
        ({"head_dim": 8.0}, "head_dim must be a positive whole number, got 8.0"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types must"),
        ({"sliding_window": 4}, "sliding_window must be null or as .* of 7, got 4"),
        ({"attention_chunk_size": 4}, "attention_chunk_size must be null or .* got 4"),
        ({"per_layer_config": {"0": {}}}, "per_layer_config is not supported"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be in 1 … 16777216"),
        ({"max_position_embeddings": 2**22}, "context_length must be in 1 … 2097152"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings must be True or False"),
        ({"hidden_size": None}, "sizes are missing: hidden_size"),
        ({"hidden_size": "wide"}, "hidden_size must be a positive whole.*got 'wide'"),
        ({"hidden_size": 12.0}, "hidden_size must be a positive whole.*got 12.0"),
        ({"vocab_size": -1}, "vocab_size must be in 1 … 16777216, got -1"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be .*got True"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be in 1e-20 … 1"),
        ({"rope_theta": "10000"}, "rope_theta must be a positive number, got '10000'"),
    ],
)
def test_refuses_a_llama_that_ours_is_not(changes, message):
    with pytest.raises(ValueError, match=message):
        config_from_json(LLAMA_JSON | changes)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("mistral", {}, "sliding_window .* got 4096"),
        ("mistral", {"sliding_window": 6}, "sliding_window must be null or .*got 6"),
        (
            "mistral",
            {"sliding_window": None, "attention_chunk_size": 4},
            "attention_chunk_size must be null or .*got 4",
        ),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window must be False"),
        ("qwen3", {"attention_bias": True}, "attention_bias must be False, got True"),
        ("qwen3", {"use_sliding_window": True}, "use_sliding_window must be False"),
        ("qwen3", {"layer_types": ["sliding_attention"]}, "layer_types must all be"),
    ],
)
def test_refuses_one_of_its_relatives_that_ours_is_not(kind, changes, message):
    long = {"max_position_embeddings": 5000}
    if "sliding_window" in changes:
        long = {}
    with pytest.raises(ValueError, match=message):
        config_from_json(OTHERS_JSON[kind] | long | changes)


def test_no_folder_has_biases_and_norms_of_queries():
    both = replace(LLAMA, qkv_bias=True, qk_norm=True)
    with pytest.raises(ValueError, match="qwen3 model cannot store qkv_bias, got True"):
        config_to_json(both)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_function": "gelu"}, "activation_function must be .*got 'gelu'"),
        ({"scale_attn_weights": False}, "scale_attn_weights must be True, got False"),
        ({"scale_attn_by_inverse_layer_idx": True}, "inverse_layer_idx must be False"),
        ({"add_cross_attention": True}, "add_cross_attention must be False"),
        ({"sliding_window": 4}, "sliding_window must be null or as .* of 7, got 4"),
        ({"attention_chunk_size": 4}, "attention_chunk_size must be null or .* got 4"),
        ({"n_embd": None}, "sizes are missing: n_embd"),
        ({"n_embd": "wide"}, "n_embd must be a positive whole number, got 'wide'"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon must be in 1e-20 … 1"),
    ],
)
def test_refuses_a_gpt2_that_ours_is_not(changes, message):
    with pytest.raises(ValueError, match=message):
        config_from_json(GPT2_JSON | changes)


@SHAPES
def test_refuses_weights_that_are_missing_or_too_many(config):
    weights, shapes = make_weights(config)
    theirs = weights_to_theirs(weights, config.family)
    for name in theirs:
        less = {other: weight for other, weight in theirs.items() if other != name}
        with pytest.raises(ValueError, match=rf"weights are missing \(1\): {name}$"):
            weights_from_theirs(less, shapes, config.family)
    more = theirs | {"score.weight": torch.ones(1, 12)}
    with pytest.raises(ValueError, match=r"are unexpected \(1\): .*score\.weight$"):
        weights_from_theirs(more, shapes, config.family)


@pytest.mark.parametrize(
    ("config", "name"), [(LLAMA, "model.norm.weight"), (GPT2, "transformer.ln_f.bias")]
)
def test_refuses_a_weight_under_two_names(config, name):
    weights, shapes = make_weights(config)
    theirs = weights_to_theirs(weights, config.family)
    theirs[name.partition(".")[2]] = theirs[name] + 1
    with pytest.raises(ValueError, match=f"{name} is stored twice"):
        weights_from_theirs(theirs, shapes, config.family)


@SHAPES
def test_refuses_weights_of_another_shape(config):
    weights, shapes = make_weights(config)
    theirs = weights_to_theirs(weights, config.family)
    for name, weight in theirs.items():
        wrong = theirs | {name: torch.cat((weight, weight))}
        shape = rf"\({len(weight)}, .*got \({2 * len(weight)}, "
        shape = shape if weight.ndim > 1 else shape.replace(", ", ",")
        with pytest.raises(ValueError, match=f"{name} must have the shape {shape}"):
            weights_from_theirs(wrong, shapes, config.family)


@pytest.mark.parametrize("config", [LLAMA, GPT2])
def test_refuses_tied_embeddings_with_two_matrices(config):
    weights, shapes = make_weights(config)
    theirs = weights_to_theirs(weights, config.family)
    theirs["lm_head.weight"] = weights["embedding.weight"] + 1
    with pytest.raises(
        ValueError, match="tied, but lm_head.weight is a different matrix"
    ):
        weights_from_theirs(theirs, shapes, config.family)


@pytest.mark.parametrize(
    "name", ["blocks.0.attention.query.down.weight", "positions.weight", "x"]
)
def test_refuses_weights_without_a_name_there(name):
    with pytest.raises(ValueError, match="not a weight of a plain llama model"):
        weights_to_theirs({name: torch.ones(2)}, "llama")
