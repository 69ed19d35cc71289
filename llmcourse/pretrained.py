"""Models as folders, in the form that Hugging Face `transformers` loads too.

    config.json             sizes, as `LlamaForCausalLM` names them
    model.safetensors       weights: names, shapes and numbers, no code
    tokenizer.json          merges and special tokens
    generation_config.json  the id that ends a text

A folder written here opens with `AutoModelForCausalLM.from_pretrained`, with the same
logits; a folder of a Llama without surprises opens here.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from llmcourse.files import new_file
from llmcourse.packing import END_OF_TEXT
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer, TransformerConfig

# Ours to theirs: of the sizes, of the weights outside and inside the blocks.
_SIZES = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "d_ff": "intermediate_size",
    "context_length": "max_position_embeddings",
    "rope_base": "rope_theta",
    "norm_eps": "rms_norm_eps",
}
_OUTSIDE = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
}
_INSIDE = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
}


def save_pretrained(
    model: Transformer,
    tokenizer: BPETokenizer,
    folder: str | Path,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write model and tokenizer into a folder; each file whole or not at all.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with the same number of ids.
        folder: Created if missing.
        dtype: Of the stored weights; float16 halves the file.

    Raises:
        ValueError: If tokenizer and model differ in the number of ids.
        OSError: If a file cannot be written.
    """
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"the model has {model.config.vocab_size} ids, so must the tokenizer, "
            f"got one with {tokenizer.vocab_size}"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        _their_name(name): weight.detach().to(dtype).contiguous()
        for name, weight in model.state_dict().items()
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "torch_dtype": str(dtype).removeprefix("torch."),
        **{theirs: getattr(model.config, ours) for ours, theirs in _SIZES.items()},
    }
    end = tokenizer.special_tokens.get(END_OF_TEXT)
    ends = {"bos_token_id": end, "eos_token_id": end}
    tokenizer.save(folder / "tokenizer.json")
    with new_file(folder / "model.safetensors") as file:
        file.write(save(weights, metadata={"format": "pt"}))
    _write_json(folder / "generation_config.json", ends)
    _write_json(folder / "config.json", config | ends)


def load_pretrained(folder: str | Path) -> tuple[Transformer, BPETokenizer]:
    """Return the model and the tokenizer of a folder, ready to write.

    Args:
        folder: As `save_pretrained` writes it.

    Raises:
        ValueError: If a file is missing or damaged, if the architecture is another
            one, or if the files do not belong together.
    """
    folder = Path(folder)
    config = _read_config(folder / "config.json")
    model = Transformer(config)
    weights = _read_weights(folder / "model.safetensors")
    wanted = {_their_name(name): name for name in model.state_dict()}
    if weights.keys() != wanted.keys():
        odd = sorted(weights.keys() ^ wanted.keys())
        raise ValueError(
            f"{str(folder)!r} must hold the weights of a Llama of {config.n_layers} "
            f"layers with tied embeddings, but {odd[:3]} are missing or too many"
        )
    for theirs, ours in wanted.items():
        if weights[theirs].shape != model.state_dict()[ours].shape:
            raise ValueError(
                f"{theirs} must have the shape {tuple(model.state_dict()[ours].shape)},"
                f" got {tuple(weights[theirs].shape)} in {str(folder)!r}"
            )
    model.load_state_dict({ours: weights[theirs] for theirs, ours in wanted.items()})
    tokenizer = _read_tokenizer(folder / "tokenizer.json")
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"the tokenizer in {str(folder)!r} must have {config.vocab_size} ids, "
            f"got {tokenizer.vocab_size}"
        )
    return model.eval(), tokenizer


def _their_name(name: str) -> str:
    """Return the Hugging Face name of one of our weights.

    >>> _their_name("blocks.3.attention.query.weight")
    'model.layers.3.self_attn.q_proj.weight'
    """
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    _, layer, inside = name.split(".", 2)
    return f"model.layers.{layer}.{_INSIDE[inside.removesuffix('.weight')]}.weight"


def _read_config(path: Path) -> TransformerConfig:
    found = _read_json(path)
    if found.get("model_type") != "llama":
        raise ValueError(
            f"{str(path)!r} must describe a model of type 'llama', "
            f"got {found.get('model_type')!r}"
        )
    if not found.get("tie_word_embeddings", False):
        raise ValueError(f"{str(path)!r}: only tied embeddings can be loaded")
    if missing := [theirs for theirs in _SIZES.values() if theirs not in found]:
        raise ValueError(f"{str(path)!r} must say {missing}")
    sizes = {ours: found[theirs] for ours, theirs in _SIZES.items()}
    try:
        return TransformerConfig(**sizes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r}: {error}") from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    _check_is_file(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{str(path)!r} must be a whole safetensors file: {error}"
        ) from error


def _read_tokenizer(path: Path) -> BPETokenizer:
    _check_is_file(path)
    return BPETokenizer.load(path)


def _read_json(path: Path) -> dict[str, Any]:
    _check_is_file(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} must be JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{str(path)!r} must be a JSON object, got {found!r:.40}")
    return found


def _check_is_file(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"a model's folder needs the file {str(path)!r}")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with new_file(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")
