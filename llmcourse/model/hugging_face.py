"""Our names and theirs: how Hugging Face `transformers` spells configs and weights.

    ours                               LlamaForCausalLM
    d_model                            hidden_size
    blocks.3.attention.query.weight    model.layers.3.self_attn.q_proj.weight

Llama's matrices are stored as ours are. GPT-2's lie on their sides, and those of
query, key and value are one. What a config asks for and our model cannot do is
refused by name: ignored, it would give wrong numbers in silence.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from llmcourse.arguments import check_one_of
from llmcourse.model.positions import rope_from_json, rope_to_json
from llmcourse.model.transformer import TransformerConfig

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "gpt2": "GPT2LMHeadModel"}
_SIZES = {
    "llama": {
        "vocab_size": "vocab_size",
        "d_model": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "n_kv_heads": "num_key_value_heads",
        "d_ff": "intermediate_size",
        "context_length": "max_position_embeddings",
        "rope_base": "rope_theta",
        "norm_eps": "rms_norm_eps",
    },
    "gpt2": {
        "vocab_size": "vocab_size",
        "d_model": "n_embd",
        "n_layers": "n_layer",
        "n_heads": "n_head",
        "d_ff": "n_inner",
        "context_length": "n_positions",
        "norm_eps": "layer_norm_epsilon",
    },
}
_NUMBERS = ("rope_base", "norm_eps")  # the other sizes are whole
# What our model does, and all it can do; what is not said is so by default.
_SWITCHES: dict[str, dict[str, Sequence[object]]] = {
    "llama": {"hidden_act": ["silu"], "attention_bias": [False], "mlp_bias": [False]},
    "gpt2": {
        "activation_function": ["gelu_new", "gelu_pytorch_tanh"],
        "scale_attn_weights": [True],
        "scale_attn_by_inverse_layer_idx": [False],
        "add_cross_attention": [False],
    },
}
_NAMES = {
    "llama": {
        "embedding": "model.embed_tokens",
        "norm": "model.norm",
        "unembedding": "lm_head",
        "blocks": "model.layers",
        "attention_norm": "input_layernorm",
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "feed_forward_norm": "post_attention_layernorm",
        "feed_forward.gate": "mlp.gate_proj",
        "feed_forward.up": "mlp.up_proj",
        "feed_forward.down": "mlp.down_proj",
    },
    "gpt2": {
        "embedding": "transformer.wte",
        "positions": "transformer.wpe",
        "norm": "transformer.ln_f",
        "unembedding": "lm_head",
        "blocks": "transformer.h",
        "attention_norm": "ln_1",
        "attention.query": "attn.c_attn",  # the three are one matrix, in this order
        "attention.key": "attn.c_attn",
        "attention.value": "attn.c_attn",
        "attention.output": "attn.c_proj",
        "feed_forward_norm": "ln_2",
        "feed_forward.up": "mlp.c_fc",
        "feed_forward.down": "mlp.c_proj",
    },
}
# Constants that old files hold beside the weights: masks and angles.
_NO_WEIGHTS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
_SCORER = "lm_head.weight"


def config_to_json(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `config.json` says of a model.

    Args:
        config: The fields of a `TransformerConfig`.

    Raises:
        ValueError: If a field would not come back as it is: there is no word for it.

    >>> from dataclasses import asdict
    >>> from llmcourse.model.transformer import TINY
    >>> config_to_json(asdict(TINY))["hidden_size"]
    64
    """
    family = config["family"]
    extra = dict.fromkeys(["attn_pdrop", "embd_pdrop", "resid_pdrop"], 0.0)
    said = {
        "architectures": [_ARCHITECTURES[family]],
        "model_type": family,
        "tie_word_embeddings": config["tied_embeddings"],
        **{name: allowed[0] for name, allowed in _SWITCHES[family].items()},
        **{theirs: config[ours] for ours, theirs in _SIZES[family].items()},
        **rope_to_json(config["rope_scaling"]),
        **(extra if family == "gpt2" else {}),  # nothing is dropped out here
    }
    again = asdict(TransformerConfig(**config_from_json(said)))
    if lost := [name for name in config if config[name] != again.get(name)]:
        raise ValueError(
            f"config.json of a {family} model cannot keep {_first(lost)}, "
            f"got {config[lost[0]]!r}"
        )
    return said


def config_from_json(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `TransformerConfig` for what `config.json` says.

    Raises:
        ValueError: If the model is of another type, has a feature that ours lacks,
            or sizes that are missing or no numbers.

    >>> config_from_json({"model_type": "gpt2", "activation_function": "relu"})
    Traceback (most recent call last):
    ValueError: activation_function must be 'gelu_new' or 'gelu_pytorch_tanh', got ...
    """
    family, scaling = str(found.get("model_type")), None
    if family not in _ARCHITECTURES:
        raise ValueError(f"model_type must be 'llama' or 'gpt2', got {family!r}")
    said = {name: value for name, value in found.items() if value is not None}
    for name, allowed in _SWITCHES[family].items():
        check_one_of(name, said.get(name, allowed[0]), allowed)
    if "quantization_config" in said:
        raise ValueError("quantization_config: quantized weights cannot be loaded")
    tied = said.get("tie_word_embeddings", family == "gpt2")
    check_one_of("tie_word_embeddings", tied, [True, False])
    if family == "llama":
        said.setdefault("num_key_value_heads", said.get("num_attention_heads"))
        said.setdefault("rms_norm_eps", 1e-6)
        said["rope_theta"], scaling = rope_from_json(said)
    else:
        width = said.get("n_embd")
        said.setdefault("n_inner", 4 * width if isinstance(width, int) else width)
        said.setdefault("layer_norm_epsilon", 1e-5)
    if missing := [name for name in _SIZES[family].values() if name not in said]:
        raise ValueError(f"sizes are missing: {_first(missing)}")
    for ours, theirs in _SIZES[family].items():
        _check_number(theirs, said[theirs], whole=ours not in _NUMBERS)
    fields = {ours: said[theirs] for ours, theirs in _SIZES[family].items()}
    fields.setdefault("n_kv_heads", fields["n_heads"])
    d_head = fields["d_model"] // fields["n_heads"]
    check_one_of("head_dim", said.get("head_dim", d_head), [d_head])
    kinds = {"family": family, "tied_embeddings": bool(tied), "rope_scaling": scaling}
    return fields | kinds


def weights_to_theirs(weights: Mapping[str, Tensor], family: str) -> dict[str, Tensor]:
    """Return the weights under the names and in the layout of `transformers`.

    Args:
        weights: The state of a `Transformer`.
        family: Its config's.

    Raises:
        ValueError: If there is a weight that no `Transformer` of this family has,
            such as an adapter's.

    >>> from llmcourse.model.transformer import TINY, Transformer
    >>> list(weights_to_theirs(Transformer(TINY).state_dict(), "llama"))[:2]
    ['model.embed_tokens.weight', 'model.layers.0.input_layernorm.weight']
    """
    result = {}
    for theirs, ours in _groups(weights, family).items():
        parts = [weights[name].detach() for name in ours]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        result[theirs] = whole.T if _lies_on_its_side(theirs, whole.ndim) else whole
    return result


def weights_from_theirs(
    found: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]], family: str
) -> dict[str, Tensor]:
    """Return a `Transformer`'s weights, taken from those of `transformers`.

    Args:
        found: The weights of a folder, named with or without the whole model's prefix.
        shapes: Of the weights that the `Transformer` has.
        family: Its config's.

    Raises:
        ValueError: If a weight is missing, too many, or has another shape.
    """
    groups = _groups(shapes, family)
    found = _only_weights(found, family)
    if missing := sorted(groups.keys() - found.keys()):
        raise ValueError(f"weights are missing ({len(missing)}): {_first(missing)}")
    if _SCORER in found and _SCORER not in groups:  # tied, and written all the same
        scorer = found.pop(_SCORER)
        if not torch.equal(scorer, found[their_name("embedding.weight", family)]):
            raise ValueError(f"embeddings are tied, but {_SCORER} is another matrix")
    if odd := sorted(found.keys() - groups.keys()):
        raise ValueError(f"weights have no place ({len(odd)}): {_first(odd)}")
    result: dict[str, Tensor] = {}
    for theirs, ours in groups.items():
        parts = _parts(theirs, found[theirs], [shapes[name] for name in ours])
        result.update(zip(ours, parts, strict=True))
    return result


def _only_weights(found: Mapping[str, Tensor], family: str) -> dict[str, Tensor]:
    """Return the weights under their full names, without constants."""
    prefix = _NAMES[family]["blocks"].partition(".")[0] + "."
    return {
        name if name.startswith((prefix, _SCORER)) else prefix + name: weight
        for name, weight in found.items()
        if not name.endswith(_NO_WEIGHTS)
    }


def _parts(theirs: str, found: Tensor, shapes: list[Sequence[int]]) -> list[Tensor]:
    """Return the matrices, or the biases, that one of theirs consists of."""
    rows = [shape[0] for shape in shapes]
    wanted = (sum(rows), *shapes[0][1:])
    turn = _lies_on_its_side(theirs, len(wanted))
    if (got := tuple(found.shape)) != (wanted := wanted[::-1] if turn else wanted):
        raise ValueError(f"{theirs} must have the shape {wanted}, got {got}")
    if not turn and len(rows) == 1:
        return [found]
    whole = found.T if turn else found
    # Each in memory of its own: what shares it cannot be saved again.
    return [part.contiguous().clone() for part in torch.split(whole, rows)]


def _groups(names: Iterable[str], family: str) -> dict[str, list[str]]:
    """Return, for each of their weights, ours that it consists of, in order.

    >>> names = [f"blocks.0.attention.{part}.bias" for part in ("query", "key")]
    >>> _groups(names, "gpt2")
    {'transformer.h.0.attn.c_attn.bias': ['blocks.0.attention.query.bias', ...]}
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(their_name(name, family), []).append(name)
    return groups


def their_name(name: str, family: str) -> str:
    """Return the Hugging Face name of one of our weights.

    >>> their_name("blocks.3.attention.query.weight", "llama")
    'model.layers.3.self_attn.q_proj.weight'
    """
    names = _NAMES[family]
    module, _, kind = name.rpartition(".")
    match module.split(".", 2) if kind in ("weight", "bias") else ():
        case [outside] if outside in names:
            return f"{names[outside]}.{kind}"
        case ["blocks", layer, inside] if inside in names:
            return f"{names['blocks']}.{layer}.{names[inside]}.{kind}"
    raise ValueError(f"{name!r} is no weight of a {family} model by itself")


def _lies_on_its_side(theirs: str, ndim: int) -> bool:
    """Return whether a weight is stored input by output, as GPT-2's matrices are."""
    return ndim == 2 and theirs.startswith(_NAMES["gpt2"]["blocks"])


def _check_number(name: str, value: Any, *, whole: bool) -> None:
    number = isinstance(value, int if whole else int | float)
    if not number or isinstance(value, bool) or not 0 < value < math.inf:
        kind = "whole number" if whole else "number"
        raise ValueError(f"{name} must be a positive {kind}, got {value!r}")


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
