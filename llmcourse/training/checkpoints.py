"""Checkpoints: all that a training needs to go on as if it had never stopped.

    step-00000100.safetensors
    step-00000200.safetensors    run         what it is a training of
                                 history     losses so far
                                 weights     of the model
                                 optimizer   moments of the gradient
                                 order       which windows come next

A file is written under another name, brought to the disk and then renamed, so that
at any moment the newest one of a folder is whole, even where the training is killed
while it writes. It also names a hash of its contents, so that damage is noticed.

Nested states as one file: tensors by name, everything else as JSON beside them.

    {"step": 3, "moments": {0: (tensor, 0.5)}}          a state
    {"step": 3, "moments": {"$dict": [[0, {"$tuple":    its JSON; `moments/0/0` names
        [{"$tensor": "moments/0/0"}, 0.5]}]]}}          the tensor

Both are in one safetensors file, the JSON in its metadata with a hash of all, so a
file is read back exactly as it was written or not at all. Neither can hold code.

What was made by one recipe is not gone on with by another: say where they differ.

Short texts that tell a model's weights, or a list of texts, from all others.

A checkpoint, a file of pairs or a reward model names by them what it belongs to, and
is refused with anything else.
"""

import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from llmcourse.files import new_file
from llmcourse.model.transformer import TransformerConfig
from llmcourse.training.config import History, PretrainingConfig

_TOLD = 3  # differences that are named; a recipe has dozens of settings


def check_same_recipe(
    refusal: str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Raise ValueError if two recipes differ, and say in what: three things at most.

    Args:
        refusal: The beginning of the message: which file or folder is of which recipe.
        before: Names and plain values, maybe nested: what is there was made so.
        now: The same, of what shall go on.

    >>> check_same_recipe("'run' is another's", {"a": {"b": 1}}, {"a": {"b": 2}})
    Traceback (most recent call last):
    ValueError: 'run' is another's: a.b must be 1, got 2
    """
    before, now = _flat(before), _flat(now)
    odd = [
        name
        for name in before | now
        if (name in before, before.get(name)) != (name in now, now.get(name))
    ]
    if odd:
        told = [
            f"{name} must be {before.get(name)!r}, got {now.get(name)!r}"
            for name in odd[:_TOLD]
        ]
        told += [f"{len(odd) - _TOLD} more differ"] if odd[_TOLD:] else []
        raise ValueError(f"{refusal}: {'; '.join(told)}")


def _flat(value: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Return nested settings in one level.

    >>> _flat({"model": {"d_model": 8}, "seed": 0})
    {'model.d_model': 8, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, part in value.items():
        inner = _flat(part, f"{name}{key}.") if isinstance(part, dict) else None
        flat |= {f"{name}{key}": part} if inner is None else inner
    return flat


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


@runtime_checkable
class Order(Protocol):
    """An endless iterator over batches that knows which come next."""

    def __next__(self) -> Any:
        """Return the next batch."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what `load_state_dict` needs to go on with the next batch."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where another one over the same data stood."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What must be the same for a training to go on exactly."""

    config: PretrainingConfig
    model: TransformerConfig
    train_tokens: str  # fingerprints, see `windows.fingerprint`
    valid_tokens: str
    start_token: int | None = None
    tokenizer: str | None = None  # fingerprint, see `packing.tokenizer_fingerprint`
    seed: int = 0  # of the generator that decides the order of the windows
    objective: str | None = None  # what is learned, if not the next token; and how


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a training between two steps."""

    run: Run
    history: History
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]  # its `state_dict()`
    order: dict[str, Tensor]  # the batches' `state_dict()`

    @property
    def step(self) -> int:
        """Updates made so far, without unit."""
        return len(self.history.updates)

    @classmethod
    def of(
        cls,
        run: Run,
        history: History,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Order,
    ) -> "Checkpoint":
        """Return the state of a training, to be saved before it goes on.

        The tensors are the training's own: the next step changes them.
        """
        return cls(
            run=run,
            history=history,
            weights=model.state_dict(),
            optimizer=optimizer.state_dict(),
            order=batches.state_dict(),
        )


def resume(
    folder: str | Path,
    run: Run,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Order,
) -> History:
    """Bring model, optimizer and batches to where a folder's newest checkpoint was.

    Args:
        folder: Holds at least one checkpoint.
        run: What shall go on; must be what the checkpoint is of.
        model: Changed in place.
        optimizer: Changed in place.
        batches: Changed in place, and so is their generator.

    Returns:
        What has happened in the training so far.

    Raises:
        ValueError: If the checkpoint is of another run; the message names what
            differs. Also if no checkpoint is whole.
    """
    checkpoint = load_checkpoint(folder)
    check_same_recipe(another_training(folder), asdict(checkpoint.run), asdict(run))
    saved, wanted = _shapes(checkpoint.weights), _shapes(model.state_dict())
    if saved != wanted:
        odd = sorted({name for name, _ in saved.items() ^ wanted.items()})
        raise ValueError(
            "the model must have the names, shapes and types of the weights in "
            f"{str(folder)!r}, but {odd[:3]} differ"
        )
    batches.load_state_dict(checkpoint.order)
    model.load_state_dict(checkpoint.weights)
    optimizer.load_state_dict(checkpoint.optimizer)
    return checkpoint.history


def another_training(folder: str | Path) -> str:
    """Return the beginning of a refusal to go on from the checkpoints of a folder."""
    return f"{str(folder)!r} holds checkpoints of another training"


def checkpoint_paths(folder: str | Path) -> list[Path]:
    """Return the files of a folder's checkpoints, the newest last; maybe none."""
    paths = Path(folder).glob("step-*.safetensors")
    named = [path for path in paths if re.fullmatch(r"step-\d+", path.stem)]
    return sorted(named, key=lambda path: int(path.stem.removeprefix("step-")))


def save_checkpoint(
    folder: str | Path, checkpoint: Checkpoint, *, keep: int = 2
) -> Path:
    """Write a checkpoint, then delete all but the newest; return the file's name.

    Args:
        folder: Of this training alone; created if missing. Checkpoints of later
            steps, left of a future that did not come, are deleted too.
        checkpoint: The state.
        keep: How many files stay, this one included.

    Raises:
        ValueError: If `keep` is not positive or if the optimizer's state holds
            something else than tensors, numbers, texts, lists, tuples and dicts.
        FloatingPointError: If a weight is not finite: nothing good comes of it.
        OSError: If the file cannot be written; what was there stays.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    check_finite(checkpoint.weights, checkpoint.step)
    state = vars(checkpoint) | {
        "run": asdict(checkpoint.run),
        "history": checkpoint.history.to_json(),
    }
    return write_newest(folder, checkpoint.step, state, keep=keep)


def check_finite(weights: Mapping[str, Tensor], step: int) -> None:
    """Refuse weights from which nothing good comes.

    Raises:
        FloatingPointError: If one of them is not finite.
    """
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise FloatingPointError(
                f"step {step} needs finite weights to be saved, but {name} has others"
            )


def write_newest(
    folder: str | Path, step: int, state: dict[str, Any], *, keep: int = 2
) -> Path:
    """Write a state as `save_checkpoint` does, of any training; return the file's name.

    Args:
        folder: As there.
        step: Updates, or whatever the training counts, made so far.
        state: See `checkpoints.write_state`.
        keep: As there.

    Raises:
        ValueError: As `checkpoints.write_state`.
        OSError: If the file cannot be written; what was there stays.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _delete(folder.glob(".step-*.tmp"))  # of trainings that were killed
    path = folder / f"step-{step:08d}.safetensors"
    write_state(path, state)
    _bring_to_disk(folder)
    there = checkpoint_paths(folder)
    place = there.index(path) + 1
    _delete(there[: max(0, place - keep)] + there[place:])
    return path


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Return the newest checkpoint of a folder that is whole.

    A damaged file is passed over with a warning that says what is wrong with it.

    Raises:
        ValueError: If no checkpoint is whole, or if it is of a version of this
            package that knows other settings.
    """
    return _made_of(*read_newest(folder))


def read_newest(folder: str | Path) -> tuple[dict[str, Any], Path]:
    """Return the newest whole state of a folder, of any training, and its file.

    A damaged file is passed over with a warning that says what is wrong with it.

    Raises:
        ValueError: If no checkpoint is whole.
    """
    paths = checkpoint_paths(folder)
    for path in reversed(paths):
        try:
            return read_state(path), path
        except (OSError, ValueError) as error:
            warnings.warn(
                f"the checkpoint {str(path)!r} is damaged ({error}), "
                "trying the one before it",
                stacklevel=2,
            )
    raise ValueError(
        f"{str(folder)!r} must hold a whole checkpoint, got {len(paths)} damaged ones"
    )


def _made_of(state: dict[str, Any], path: Path) -> Checkpoint:
    run = state["run"]
    if "config" not in run:  # of a policy's training, which says it name by name
        raise ValueError(another_training(path.parent))
    try:
        run["config"] = PretrainingConfig(**run["config"])
        run["model"] = TransformerConfig(**run["model"])
        history = History.from_json(state["history"])
        return Checkpoint(**state | {"run": Run(**run), "history": history})
    except TypeError as error:
        raise ValueError(
            f"{str(path)!r} must be of this version of the package, but has or lacks "
            f"a setting: {error}"
        ) from error


def _shapes(weights: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (weight.shape, weight.dtype) for name, weight in weights.items()}


def _bring_to_disk(folder: Path) -> None:
    """Make the names in a folder survive a loss of power, where a system can."""
    with suppress(OSError):  # not every file system lets a folder be opened or synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def weights_fingerprint(model: nn.Module) -> str:
    """Return a text that tells a model's weights from others, 64 hexadecimal digits."""
    return _digest_of_fingerprints(model.state_dict().items())


def texts_fingerprint(texts: Iterable[str]) -> str:
    """Return a text that tells a list of texts from others, 64 hexadecimal digits.

    >>> texts_fingerprint(["a", "b"]) == texts_fingerprint(["ab"])
    False
    """
    return _digest_of_fingerprints((text, None) for text in texts)


def _digest_of_fingerprints(parts: Iterable[tuple[str, Tensor | None]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in parts:
        digest.update(f"{len(name)} {name}".encode())
        if tensor is not None:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(data.numpy().data)
    return digest.hexdigest()
