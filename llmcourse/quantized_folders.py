"""Quantized models as folders: the files of `pretrained`, with smaller weights.

    config.json         as ever, and `quantization_config`: bits and group size
    model.safetensors   of each matrix the `numbers` and their `scale`; norms as ever

Names and packing are ours: other programs have others, and read the folder that was
quantized instead, with tools of their own.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from llmcourse.files import new_file
from llmcourse.hugging_face import config_from_json
from llmcourse.model_folders import (
    check_full_attention,
    descriptions,
    read_json,
    written_at_once,
)
from llmcourse.quantization import QuantizedMatrix, quantize_model
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer, TransformerConfig

_METHOD = "llmcourse"


def save_quantized(
    model: Transformer, tokenizer: BPETokenizer, folder: str | Path
) -> None:
    """Write a quantized model and its tokenizer into a folder: all files, or none.

    Args:
        model: As `quantize_model` returns it.
        tokenizer: Its tokenizer, with the same number of ids.
        folder: Created if missing.

    Raises:
        ValueError: If the model is not quantized, if its attention is not the full
            one, or if tokenizer and model differ in the number of ids.
        OSError: If a file cannot be written.
    """
    matrices = [part for part in model.modules() if isinstance(part, QuantizedMatrix)]
    if not matrices:
        raise ValueError("save_quantized needs a quantized model: see quantize_model")
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"the model has {model.config.vocab_size} ids, so must the tokenizer, "
            f"got one with {tokenizer.vocab_size}"
        )
    check_full_attention(model)
    files = descriptions(model, tokenizer, torch.float32)
    files["config.json"]["quantization_config"] = {
        "quant_method": _METHOD,
        "bits": matrices[0].bits,
        "group_size": matrices[0].group_size,
    }
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    with written_at_once(Path(folder)) as staging:
        for name, value in files.items():
            with new_file(staging / name) as file:
                file.write((json.dumps(value, indent=2) + "\n").encode())
        tokenizer.save(staging / "tokenizer.json")
        with new_file(staging / "model.safetensors") as file:
            file.write(save(weights, metadata={"format": "pt"}))


def load_quantized(folder: str | Path) -> tuple[Transformer, BPETokenizer]:
    """Return the quantized model and the tokenizer of a folder, ready to write.

    Raises:
        ValueError: If a file is missing or damaged, if the folder holds a model that
            is not quantized or by another program, or if its files do not belong
            together.
        OSError: If a file cannot be read.
    """
    folder = Path(folder)
    found = read_json(folder / "config.json")
    bits, group_size = _method(found, folder)
    del found["quantization_config"]  # the rest is that of any model
    config = TransformerConfig(**config_from_json(found))
    # The floats of this one are thrown away: only its form is wanted.
    model = quantize_model(Transformer(config, torch.Generator()), bits, group_size)
    _read_weights(model, folder / "model.safetensors")
    if not (folder / "tokenizer.json").is_file():
        raise ValueError(
            f"a model's folder needs a tokenizer.json, got {str(folder)!r}"
        )
    tokenizer = BPETokenizer.load(folder / "tokenizer.json")
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"the tokenizer in {str(folder)!r} must have {config.vocab_size} ids, "
            f"got {tokenizer.vocab_size}"
        )
    return model, tokenizer


def _read_weights(model: Transformer, path: Path) -> None:
    """Give a model the weights of a file."""
    if not path.is_file():
        raise ValueError(f"a model's folder needs the file {str(path)!r}")
    wanted = {name: value.dtype for name, value in model.state_dict().items()}
    try:
        weights = load(path.read_bytes())
        if {name: value.dtype for name, value in weights.items()} != wanted:
            raise RuntimeError("names or types differ")
        model.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{str(path)!r} must hold the weights of such a model: {error}"
        ) from error


def is_quantized(folder: str | Path) -> bool:
    """Return whether a model's folder says that its weights are quantized.

    Raises:
        ValueError: If it has no `config.json`.
    """
    return "quantization_config" in read_json(Path(folder) / "config.json")


def _method(found: dict[str, Any], folder: Path) -> tuple[int, int | None]:
    """Return bits and group size."""
    said = found.get("quantization_config")
    if not isinstance(said, dict) or said.get("quant_method") != _METHOD:
        raise ValueError(
            f"{str(folder)!r} must hold a model that save_quantized wrote, "
            f"got quantization_config {said!r:.60}"
        )
    bits, group_size = said.get("bits"), said.get("group_size")
    if bits not in (4, 8) or not (group_size is None or type(group_size) is int):
        raise ValueError(f"{str(folder)!r}: bits {bits!r}, group_size {group_size!r}")
    return bits, group_size
