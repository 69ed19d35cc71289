"""Plain values that pass between two processes, as one line of JSON each.

A student's function runs in a process of its own, and what it returns must be judged
in another one. If objects crossed (pickle), the student's code would too: an object
that says it equals everything, a class that runs code when it is loaded. So only
values cross: numbers, strings, containers and the numbers in a tensor.

>>> import json
>>> line = json.dumps(encode({"ids": (1, 2), "weights": torch.tensor([0.5])}))
>>> decode(json.loads(line))
{'ids': (1, 2), 'weights': tensor([0.5000])}
"""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Wrap = Callable[[Callable[..., Any]], int]
Unwrap = Callable[[int], Callable[..., Any] | None]

_DTYPES = {"bool", "uint8", "int8", "int16", "int32", "int64"}
_DTYPES |= {"bfloat16", "float16", "float32", "float64"}


def _bytes(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _tensor(value: torch.Tensor) -> list[Any]:
    value = value.detach().cpu().contiguous()
    name = str(value.dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise TypeError(f"a tensor of {value.dtype} cannot be graded")
    raw = value.reshape(-1).view(torch.uint8).numpy().tobytes()
    return [name, list(value.shape), _bytes(raw)]


def _untensor(name: str, shape: list[int], data: str) -> torch.Tensor:
    if name not in _DTYPES:
        raise ValueError(f"no type of numbers: {name!r}")
    raw, dtype = bytearray(base64.b64decode(data)), getattr(torch, name)
    found = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
    return found.reshape(shape)


def encode(value: Any, wrap: Wrap | None = None) -> Any:
    """Return a plain value in a form that JSON can hold.

    Args:
        value: `None`, a bool, int, float, string, bytes, list, tuple, dict, set,
            tensor, NumPy array or `torch.Generator`, or any nesting of these.
        wrap: Returns a number by which the other process may call a function.

    Raises:
        TypeError: If a value is of another type, such as a subclass of `int`.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [encode(item, wrap) for item in value]
    if kind in (tuple, set, frozenset):
        items = sorted(value, key=repr) if kind is not tuple else value
        return {kind.__name__: [encode(item, wrap) for item in items]}
    if isinstance(value, dict):  # also OrderedDict, Counter, defaultdict
        pairs = [[encode(k, wrap), encode(v, wrap)] for k, v in value.items()]
        return {"dict": pairs}
    if kind is bytes:
        return {"bytes": _bytes(value)}
    if isinstance(value, torch.Tensor):
        return {"tensor": _tensor(value)}
    if isinstance(value, np.ndarray):
        return {"array": _tensor(torch.from_numpy(np.array(value, order="C")))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.Generator):
        return {"generator": _tensor(value.get_state())}
    if wrap is not None and callable(value):
        return {"function": wrap(value)}
    raise TypeError(
        "wanted plain numbers, strings, lists, tuples, dicts or tensors, "
        f"got {kind.__name__}"
    )


def decode(value: Any, unwrap: Unwrap | None = None) -> Any:
    """Return the plain value that `encode` wrote.

    Raises:
        ValueError: If it is not what `encode` writes.
    """
    if isinstance(value, list):
        return [decode(item, unwrap) for item in value]
    if not isinstance(value, dict):
        return value
    try:
        [(kind, content)] = value.items()
        if kind in ("tuple", "set", "frozenset"):
            items = [decode(item, unwrap) for item in content]
            return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](items)
        if kind == "dict":
            return {decode(k, unwrap): decode(v, unwrap) for k, v in content}
        if kind == "bytes":
            return base64.b64decode(content)
        if kind == "tensor":
            return _untensor(*content)
        if kind == "array":
            return _untensor(*content).numpy()
        if kind == "generator":
            generator = torch.Generator()
            generator.set_state(_untensor(*content))
            return generator
        if kind == "function" and unwrap is not None:
            return unwrap(content)
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"not a value: {error}") from error
    raise ValueError(f"not a value: {str(value)[:60]}")


def copy_into(old: Any, new: Any) -> Any:
    """Return `old`, changed in place to `new` if it can be, or else `new`.

    So what a function in the other process writes into its arguments is seen here:
    lists, dicts, sets, tensors, arrays and generators, at any depth.

    >>> ids = [1, 2, 3]
    >>> copy_into(ids, [4, 3]) is ids, ids
    (True, [4, 3])
    """
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        with torch.no_grad():
            if old.shape != new.shape or old.dtype != new.dtype:
                old.data = new
            elif not torch.equal(old, new):
                old.copy_(new)
    elif isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        same = old.tobytes() == new.astype(old.dtype).tobytes()  # NaN included
        if old.shape == new.shape and not same:
            old[...] = new
    elif isinstance(old, torch.Generator) and isinstance(new, torch.Generator):
        old.set_state(new.get_state())
    elif isinstance(old, list | tuple) and type(new) is type(old):
        before = [*old, *[None] * len(new)]
        items = [copy_into(a, b) for a, b in zip(before, new, strict=False)]
        if isinstance(old, tuple):
            return tuple(items)
        old[:] = items
    elif isinstance(old, dict) and isinstance(new, dict):
        changed = {key: copy_into(old.get(key), value) for key, value in new.items()}
        old.clear()
        old.update(changed)
    elif isinstance(old, set) and isinstance(new, set):
        old.clear()
        old.update(new)
    else:
        return new
    return old
