"""Our names and theirs: how Hugging Face `transformers` names settings and weights.

    ours                               LlamaForCausalLM
    d_model                            hidden_size
    blocks.3.attention.query.weight    model.layers.3.self_attn.q_proj.weight

Llama's matrices are stored like ours. GPT-2's are transposed, and its query, key and
value are one matrix. A setting that our model cannot follow is refused by name: if it
were ignored, the model would silently compute something else.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llmcourse.arguments import check_one_of, check_range
from llmcourse.model.positions import rope_from_json, rope_to_json
from llmcourse.model.transformer import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class _ModelType:
    """A class of model in `transformers` that ours can reproduce."""

    architecture: str
    family: str = "llama"  # of ours
    has: Mapping[str, bool] = field(default_factory=dict)  # fields of our config
    # What its class assumes where a config.json says nothing.
    defaults: Mapping[str, object]
    # Settings of which our model supports only these values, the first by default.
    only: Mapping[str, Sequence[object]]


_MODEL_TYPES = {
    "llama": _ModelType(
        architecture="LlamaForCausalLM",
        defaults={"rms_norm_eps": 1e-6},
        only={"hidden_act": ["silu"], "attention_bias": [False], "mlp_bias": [False]},
    ),
    "mistral": _ModelType(
        architecture="MistralForCausalLM",
        defaults={
            "rms_norm_eps": 1e-6,
            "num_key_value_heads": 8,
            "sliding_window": 4096,
        },
        only={"hidden_act": ["silu"]},
    ),
    "qwen2": _ModelType(
        architecture="Qwen2ForCausalLM",
        has={"qkv_bias": True},
        defaults={"rms_norm_eps": 1e-6, "num_key_value_heads": 32},
        only={"hidden_act": ["silu"], "use_sliding_window": [False]},
    ),
    "qwen3": _ModelType(
        architecture="Qwen3ForCausalLM",
        has={"qk_norm": True},
        defaults={"rms_norm_eps": 1e-6, "num_key_value_heads": 32, "head_dim": 128},
        only={
            "hidden_act": ["silu"],
            "attention_bias": [False],
            "use_sliding_window": [False],
        },
    ),
    "gpt2": _ModelType(
        architecture="GPT2LMHeadModel",
        family="gpt2",
        defaults={"layer_norm_epsilon": 1e-5, "tie_word_embeddings": True},
        only={
            "activation_function": ["gelu_new", "gelu_pytorch_tanh"],
            "scale_attn_weights": [True],
            "scale_attn_by_inverse_layer_idx": [False],
            "add_cross_attention": [False],
        },
    ),
}
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
_NUMBERS = {"rope_base": (1, 1e12), "norm_eps": (1e-20, 1)}  # others are whole numbers
_MOST = 2**24  # of a size: larger ones are refused before a model is built
_MOST_POSITIONS = 2**21
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
        "attention.query_norm": "self_attn.q_norm",
        "attention.key_norm": "self_attn.k_norm",
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
# Constants that old files store with the weights: masks and angles.
_NO_WEIGHTS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
_SCORER = "lm_head.weight"


def config_to_json(config: TransformerConfig) -> dict[str, Any]:
    """Return what `config.json` says about a model.

    Raises:
        ValueError: If a field would be lost, because `config.json` cannot express it.

    >>> from llmcourse.model.transformer import TINY
    >>> config_to_json(TINY)["hidden_size"]
    64
    """
    ours, kind = vars(config), _type_of(config)
    wanted = _MODEL_TYPES[kind]
    said = {
        "architectures": [wanted.architecture],
        "model_type": kind,
        "tie_word_embeddings": config.tied_embeddings,
        **{name: allowed[0] for name, allowed in wanted.only.items()},
        **{theirs: ours[name] for name, theirs in _SIZES[config.family].items()},
        **rope_to_json(config.rope_scaling),
    }
    if config.family == "gpt2":  # there is no dropout here
        said |= dict.fromkeys(["attn_pdrop", "embd_pdrop", "resid_pdrop"], 0.0)
    elif config.head_width is not None or "head_dim" in wanted.defaults:
        said["head_dim"] = config.d_head
    again = vars(TransformerConfig(**config_from_json(said)))
    if lost := [name for name in ours if ours[name] != again[name]]:
        raise ValueError(
            f"config.json of a {kind} model cannot store {_first(lost)}, "
            f"got {ours[lost[0]]!r}"
        )
    return said


def _type_of(config: TransformerConfig) -> str:
    """Return the first type with exactly these features; if none has, "qwen3"."""
    has = {name: True for name in ("qkv_bias", "qk_norm") if vars(config)[name]}
    for name, kind in _MODEL_TYPES.items():
        if kind.family == config.family and kind.has == has:
            return name
    return "qwen3"


def config_from_json(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `TransformerConfig` that `config.json` describes.

    Raises:
        ValueError: If the model is of another type or has a feature that ours lacks,
            or if a size is missing, not a number, or beyond any model's.

    >>> config_from_json({"model_type": "gpt2", "activation_function": "relu"})
    Traceback (most recent call last):
    ValueError: activation_function must be 'gelu_new' or 'gelu_pytorch_tanh', got ...
    """
    kind = str(found.get("model_type"))
    check_one_of("model_type", kind, _MODEL_TYPES)
    wanted, scaling = _MODEL_TYPES[kind], None
    said = {
        name: value
        for name, value in {**wanted.defaults, **found}.items()
        if value is not None
    }
    for name, allowed in wanted.only.items():
        check_one_of(name, said.get(name, allowed[0]), allowed)
    if "quantization_config" in said:
        raise ValueError(
            "quantization_config: quantized weights cannot be loaded; use the model "
            "that they were made from"
        )
    tied = said.get("tie_word_embeddings", False)
    check_one_of("tie_word_embeddings", tied, [True, False])
    check_one_of("is_causal", said.get("is_causal", True), [True])
    sizes = dict(_SIZES[wanted.family])
    if wanted.family == "llama":
        said.setdefault("num_key_value_heads", said.get("num_attention_heads"))
        said["rope_theta"], scaling = rope_from_json(said)
        if "head_dim" in said:
            sizes["head_width"] = "head_dim"
    else:
        width = said.get("n_embd")
        said.setdefault("n_inner", 4 * width if isinstance(width, int) else width)
    if missing := [name for name in sizes.values() if said.get(name) is None]:
        raise ValueError(f"sizes are missing: {_first(missing)}")
    for ours, theirs in sizes.items():
        _check_number(theirs, said[theirs], _NUMBERS.get(ours))
    fields = {ours: said[theirs] for ours, theirs in sizes.items()}
    fields.setdefault("n_kv_heads", fields["n_heads"])
    _check_full_attention(kind, said, fields["context_length"])
    kinds = {
        "family": wanted.family,
        "tied_embeddings": bool(tied),
        "rope_scaling": scaling,
    }
    return fields | kinds | dict(wanted.has)


def _check_full_attention(
    kind: str, said: Mapping[str, Any], context_length: int
) -> None:
    """Raise ValueError for too long a context, or one with a sliding window."""
    check_range(1, _MOST_POSITIONS, context_length=context_length)
    # Qwen has a switch for windows; for others the cache of transformers obeys both.
    windows = () if "qwen" in kind else ("sliding_window", "attention_chunk_size")
    for name in windows:
        window = said.get(name, context_length)
        if not (isinstance(window, int) and window >= context_length):
            raise ValueError(
                f"{name} must be null or as long as the context of {context_length}, "
                f"got {window!r}: write the window as the context's length, "
                f"{_SIZES[_MODEL_TYPES[kind].family]['context_length']!r}, to read no "
                "further than it"
            )
    if "per_layer_config" in said:
        raise ValueError("per_layer_config is not supported: layers must be alike")
    types = said.get("layer_types", [])
    if not isinstance(types, list) or not {*map(str, types)} <= {"full_attention"}:
        raise ValueError(f"layer_types must all be 'full_attention', got {types!r:.80}")


def weights_to_theirs(weights: Mapping[str, Tensor], family: str) -> dict[str, Tensor]:
    """Return the weights under the names and in the layout of `transformers`.

    Args:
        weights: The state dict of a `Transformer`.
        family: Its config's family.

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
        result[theirs] = whole.T if _is_transposed(theirs, whole.ndim) else whole
    return result


def weights_from_theirs(
    found: Mapping[str, Tensor],
    shapes: Mapping[str, Sequence[int]],
    family: str,
    dtype: torch.dtype = torch.float32,
    others: Collection[str] = (),
) -> dict[str, Tensor]:
    """Return a `Transformer`'s weights, converted from those of `transformers`.

    Args:
        found: The weights of a folder, named with or without the whole model's prefix.
            Each is requested in its turn, so they need not all be in memory.
        shapes: Shapes of the weights that the `Transformer` has.
        family: Its config's family.
        dtype: Type of the weights returned, each in its own memory.
        others: Names of weights to leave out.

    Raises:
        ValueError: If a weight is missing, has no place, or has the wrong shape, or if
            tied embeddings are stored as two different matrices.
    """
    groups = _groups(shapes, family)
    names = _full_names([name for name in found if name not in others], family)
    if missing := sorted(groups.keys() - names.keys()):
        raise ValueError(f"weights are missing ({len(missing)}): {_first(missing)}")
    twin = None
    if _SCORER in names and _SCORER not in groups:  # tied, but stored anyway
        twin = names.pop(_SCORER)
    if odd := sorted(names.keys() - groups.keys()):
        raise ValueError(f"weights are unexpected ({len(odd)}): {_first(odd)}")
    result: dict[str, Tensor] = {}
    for theirs, ours in groups.items():
        parts = _parts(theirs, found[names[theirs]], [shapes[name] for name in ours])
        for name, part in zip(ours, parts, strict=True):
            result[name] = torch.empty(part.shape, dtype=dtype).copy_(part)
    if twin is not None:
        words = found[names[their_name("embedding.weight", family)]]
        if not torch.equal(found[twin], words):
            raise ValueError(
                f"embeddings are tied, but {_SCORER} is a different matrix"
            )
    return result


def _full_names(found: Iterable[str], family: str) -> dict[str, str]:
    """Return each weight's name by its full name, leaving out constants."""
    prefix = _NAMES[family]["blocks"].partition(".")[0] + "."
    names: dict[str, str] = {}
    for name in found:
        full = name if name.startswith((prefix, _SCORER)) else prefix + name
        if not name.endswith(_NO_WEIGHTS) and names.setdefault(full, name) != name:
            raise ValueError(f"{full} is stored twice, with and without its prefix")
    return names


def _parts(theirs: str, found: Tensor, shapes: list[Sequence[int]]) -> list[Tensor]:
    """Return the matrices, or the biases, that make up one of theirs, as views."""
    rows = [shape[0] for shape in shapes]
    wanted = (sum(rows), *shapes[0][1:])
    turn = _is_transposed(theirs, len(wanted))
    if (got := tuple(found.shape)) != (wanted := wanted[::-1] if turn else wanted):
        raise ValueError(f"{theirs} must have the shape {wanted}, got {got}")
    return list(torch.split(found.T if turn else found, rows))


def _groups(names: Iterable[str], family: str) -> dict[str, list[str]]:
    """Return, for each of their weights, those of ours that make it up, in order.

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
    raise ValueError(f"{name!r} is not a weight of a plain {family} model")


def llama_modules(n_layers: int) -> list[str]:
    """Return the Hugging Face names of the modules that a Llama of ours may have."""
    names = dict(_NAMES["llama"])
    blocks = names.pop("blocks")
    outside = [names.pop(name) for name in ("embedding", "norm", "unembedding")]
    layers = [f"{blocks}.{layer}" for layer in range(n_layers)]
    return outside + [f"{block}.{part}" for block in layers for part in names.values()]


def _is_transposed(theirs: str, ndim: int) -> bool:
    """Return whether a weight is stored as (input, output), as GPT-2's matrices are."""
    return ndim == 2 and theirs.startswith(_NAMES["gpt2"]["blocks"])


def _check_number(name: str, value: Any, span: tuple[float, float] | None) -> None:
    """Raise ValueError unless a number is in its span; without one it must be whole."""
    number = isinstance(value, int if span is None else int | float)
    if not number or isinstance(value, bool):
        kind = "whole number" if span is None else "number"
        raise ValueError(f"{name} must be a positive {kind}, got {value!r:.80}")
    check_range(*(span or (1, _MOST)), **{name: value})


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
