"""Nested states as one file: tensors by name, everything else as JSON beside them.

    {"step": 3, "moments": {0: (tensor, 0.5)}}          a state
    {"step": 3, "moments": {"$dict": [[0, {"$tuple":    its JSON; `moments/0/0` names
        [{"$tensor": "moments/0/0"}, 0.5]}]]}}          the tensor

Both are in one safetensors file, the JSON in its metadata with a hash of all, so a
file is read back exactly as it was written or not at all. Neither can hold code.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from llmcourse.files import new_file


def write_state(path: str | Path, state: dict[str, Any]) -> None:
    """Write a state to a file that appears under its name when it is whole.

    Args:
        path: Name of the file, in a folder that exists.
        state: Tensors, numbers, texts, None, and dicts, lists and tuples of them.

    Raises:
        ValueError: If there is anything else in it.
        OSError: If the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_packed(state, "", tensors), allow_nan=False)
    metadata = {"format": "pt", "state": text, "sha256": _digest(text, tensors)}
    with new_file(path) as file:
        file.write(save(tensors, metadata))


def read_state(path: str | Path) -> dict[str, Any]:
    """Return the state in a file, its tensors on the processor.

    Raises:
        ValueError: If anything in the file is not as it was written.
        OSError: If it cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(
            f"{str(path)!r} must be a whole safetensors file: {error}"
        ) from error
    size = int.from_bytes(data[:8], "little")  # of the header, which is JSON
    metadata = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    text = metadata.get("state", "")
    if metadata.get("sha256") != _digest(text, tensors):
        raise ValueError(f"{str(path)!r} must hold what the hash in it says")
    state: dict[str, Any] = _unpacked(json.loads(text), tensors)
    return state


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return a state as JSON, and put its tensors, by name, into a dict of their own.

    >>> _packed({0: (torch.ones(2), 0.5)}, "state", {})
    {'$dict': [(0, {'$tuple': [{'$tensor': 'state/0/0'}, 0.5]})]}
    """
    if isinstance(value, Tensor):
        if name in tensors:
            raise ValueError(f"{name} must be the name of one tensor, got two")
        # A copy: tensors that share memory cannot be written.
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"$tensor": name}
    if isinstance(value, dict):
        if odd := [key for key in value if not isinstance(key, str | int)]:
            raise ValueError(f"{name} must have texts or integers as keys, got {odd}")
        parts = [
            (key, _packed(part, f"{name}/{key}" if name else str(key), tensors))
            for key, part in value.items()
        ]
        plain = all(isinstance(k, str) and not k.startswith("$") for k in value)
        return dict(parts) if plain else {"$dict": parts}
    if isinstance(value, list | tuple):
        items = [_packed(part, f"{name}/{i}", tensors) for i, part in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{name} must be a tensor, number or text, got {type(value)}")


def _unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the state that `_packed` made this JSON of."""
    if isinstance(value, list):
        return [_unpacked(part, tensors) for part in value]
    if not isinstance(value, dict):
        return value
    match list(value.items()):
        case [("$tensor", name)]:
            return tensors[name]
        case [("$dict", parts)]:
            return {key: _unpacked(part, tensors) for key, part in parts}
        case [("$tuple", parts)]:
            return tuple(_unpacked(part, tensors) for part in parts)
        case [("$float", text)]:
            return float(text)
    return {key: _unpacked(part, tensors) for key, part in value.items()}


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    state = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():
            state.update(tensor.flatten().view(torch.uint8).numpy().data)
    return state.hexdigest()
