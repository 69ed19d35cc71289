"""Checkpoints: all that a run needs to resume as if it had never stopped.

    step-00000100.safetensors
    step-00000200.safetensors    step        updates made so far
                                 recipe      what is trained, on what, and how
                                 parts       model, optimizer, batches, history, …

A trainer gives its parts, objects with `state_dict` and `load_state_dict`, to a `Run`,
which saves them at intervals and restores them. `Run()` saves nothing.

A file is written under another name, flushed to disk and then renamed, so that the
newest one in a folder is always complete, even if the run is killed while writing.
Tensors are stored as in any safetensors file, and everything else as JSON in its
metadata, with a hash of it all: a checkpoint is read back as it was written or not at
all, and cannot hold code.

If weights are sharded (`parallel.shard`), a checkpoint is a folder, renamed once it is
complete. `torch.distributed.checkpoint` writes one file from each process:

    step-00000300/shard-00001-….safetensors, shard-00002-….safetensors, …
                  state.json, sha256

Any number of processes, even one, can resume from a file or a folder.

    {"moments": {0: [tensor, 0.5]}}                  a state, and its JSON:
    {"$dict": [["moments", {"$dict":
        [[0, [{"$tensor": "moments/0/0"}, 0.5]]]}]]}
"""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from llmcourse.arguments import check_positive
from llmcourse.files import write_file
from llmcourse.training import parallel

_KEPT = 2  # checkpoints kept in a folder
_SHOWN = 3  # differences between two recipes that a message names


@runtime_checkable
class Stateful(Protocol):
    """Anything that can be saved and restored: a model, an optimizer, an iterator."""

    def state_dict(self) -> dict[str, Any]:
        """Return tensors, numbers and texts, and dicts and lists of them."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Continue where another one stopped."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where and how often a run is saved, and who follows it: by default, nobody.

    With a folder, training can be stopped at any moment. Called again in the same way,
    it resumes from the folder's newest checkpoint and ends with the same bits as a run
    that was never stopped, given the same processor, number of threads and version of
    torch.

    Raises:
        ValueError: If the interval is not positive.
    """

    folder: str | Path | None = None  # for this run alone; created if missing
    # Updates between checkpoints, or iterations of PPO and GRPO; None: 100, or 10.
    interval: int | None = None
    progress: Callable[[Any], None] | None = None  # called with each record
    tokenizer: str | None = None  # fingerprint, see `packing.tokenizer_fingerprint`

    def __post_init__(self) -> None:
        """Raise ValueError unless the interval is positive."""
        check_positive(interval=self.interval)

    def log(self, record: Any) -> None:
        """Report an update, an evaluation or an iteration."""
        if self.progress is not None and parallel.rank() == 0:
            self.progress(record)

    def resume(self, recipe: Mapping[str, Any], parts: Mapping[str, Stateful]) -> bool:
        """Restore the parts from the newest checkpoint; return whether there is one.

        Raises:
            ValueError: If the checkpoint belongs to another run (the message names
                what differs), or if all checkpoints are damaged.
        """
        if self.folder is None or not checkpoint_paths(self.folder):
            return False
        saved = load_checkpoint(self.folder, _sharded_weights(parts))
        refusal = f"{str(self.folder)!r} holds checkpoints of another run"
        check_config_matches(refusal, saved["recipe"], self.whole_recipe(recipe, parts))
        for name, part in parts.items():
            try:
                part.load_state_dict(saved["parts"][name])
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                place = f"the checkpoint in {str(self.folder)!r} is damaged: its {name}"
                raise ValueError(f"{place} gives {error!r:.200}") from error
        return True

    def save_if_due(
        self,
        step: int,
        recipe: Mapping[str, Any],
        parts: Mapping[str, Stateful],
        *,
        last: bool,
        usual: int = 100,
    ) -> None:
        """Write a checkpoint at the start, every `interval` updates, and at the end.

        Args:
            step: Updates, or iterations, made so far.
            recipe: What must match to resume: names and plain values.
            parts: What is saved.
            last: Whether this is the end of the run.
            usual: The interval if the run does not set one.

        Raises:
            FloatingPointError: If a weight is not finite, and so of no further use.
            ValueError: As in `write_state`.
            OSError: If the file cannot be written; earlier ones are kept.
        """
        is_due = last or step % (self.interval or usual) == 0
        if self.folder is None or not is_due:
            return
        weights = _weights(parts)
        if parallel.rank() > 0 and not parallel.is_sharded(w for _, w in weights):
            return
        for name, weight in weights:
            if not parallel.whole(weight.isfinite().all()):
                raise FloatingPointError(
                    f"step {step} needs finite weights to be saved, but {name} is not"
                )
        states = {name: part.state_dict() for name, part in parts.items()}
        state = {"recipe": self.whole_recipe(recipe, parts), "parts": states}
        save_checkpoint(self.folder, step, state)

    def whole_recipe(
        self, recipe: Mapping[str, Any], parts: Mapping[str, Stateful]
    ) -> dict[str, Any]:
        """Return all that must match to resume, including the weights' shapes."""
        shapes = {name: f"{w.dtype} {tuple(w.shape)}" for name, w in _weights(parts)}
        alphas: dict[str, Any] = {}
        frozen: dict[str, bool] = {}
        for module in _modules(parts):
            inside, learned = module.named_modules(), module.named_parameters()
            alphas |= {name: m.alpha for name, m in inside if hasattr(m, "alpha")}
            frozen |= {name: True for name, w in learned if not w.requires_grad}
        own = {"tokenizer": self.tokenizer, "weights": shapes}
        return {**recipe, **own, "alphas": alphas, "frozen": frozen}


def _modules(parts: Mapping[str, Stateful]) -> list[nn.Module]:
    return [part for part in parts.values() if isinstance(part, nn.Module)]


def _weights(parts: Mapping[str, Stateful]) -> list[tuple[str, Tensor]]:
    return [pair for module in _modules(parts) for pair in module.state_dict().items()]


def _sharded_weights(parts: Mapping[str, Stateful]) -> dict[str, Tensor]:
    """Return the weights that are sharded, as `read_state` expects them."""
    found: dict[str, Tensor] = {}
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            found |= {f"parts/{name}/{n}": w for n, w in part.state_dict().items()}
        if isinstance(part, torch.optim.Optimizer):
            learning = (w for group in part.param_groups for w in group["params"])
            found |= {f"parts/{name}/state/{i}": w for i, w in enumerate(learning)}
    return {name: w for name, w in found.items() if parallel.is_sharded([w])}


def check_config_matches(
    refusal: str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Raise ValueError if two configs or recipes differ, and name up to three points.

    Args:
        refusal: Beginning of the message: which file or folder belongs to another one.
        before: Names and plain values, perhaps nested, of what already exists.
        now: The same, of what is to continue it. Tuples equal lists, as in JSON.

    >>> check_config_matches("'run' is another's", {"a": {"b": 1}}, {"a": {"b": 2}})
    Traceback (most recent call last):
    ValueError: 'run' is another's: a.b must be 1, got 2
    """
    before, now = (_flat(json.loads(json.dumps(each))) for each in (before, now))
    # An ellipsis stands for a missing value, which differs from None.
    odd = [n for n in before | now if before.get(n, ...) != now.get(n, ...)]
    if odd:
        shown = [
            f"{name} must be {before.get(name)!r}, got {now.get(name)!r}"
            for name in odd[:_SHOWN]
        ]
        shown += [f"{len(odd) - _SHOWN} more differ"] if odd[_SHOWN:] else []
        raise ValueError(f"{refusal}: {'; '.join(shown)}")


def _flat(value: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Return nested settings as a flat dict.

    >>> _flat({"model": {"d_model": 8}, "betas": [0.9, 0.99]})
    {'model.d_model': 8, 'betas': [0.9, 0.99]}
    """
    flat: dict[str, Any] = {}
    for key, part in value.items():
        if isinstance(part, dict):
            flat |= _flat(part, f"{name}{key}.")
        else:
            flat[f"{name}{key}"] = part
    return flat


def checkpoint_paths(folder: str | Path) -> list[Path]:
    """Return a folder's checkpoints, files or folders, the newest last; or none."""
    paths = Path(folder).glob("step-*")
    named = [p for p in paths if re.fullmatch(r"step-\d+(\.safetensors)?", p.name)]
    return sorted(named, key=lambda path: int(path.stem.removeprefix("step-")))


def save_checkpoint(folder: str | Path, step: int, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint, then delete all but the two newest; return its path.

    Args:
        folder: For this run alone; created if missing. Checkpoints of later steps,
            which were damaged when the run resumed, are also deleted.
        step: Updates, or whatever the run counts, made so far.
        state: See `write_state`. If a tensor in it is sharded, all processes save.

    Raises:
        ValueError: As in `write_state`.
        OSError: If the file cannot be written; earlier ones are kept.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    first = parallel.rank() == 0
    if first:
        _delete(folder.glob(".step-*.tmp"))  # left by runs that were killed
    path = folder / f"step-{step:08d}.safetensors"
    path = write_state(path, {"step": step, **state})
    if first:
        there = checkpoint_paths(folder)
        place = there.index(path) + 1
        _delete(there[: max(0, place - _KEPT)] + there[place:])
    return path


def load_checkpoint(
    folder: str | Path, weights: Mapping[str, Tensor] | None = None
) -> dict[str, Any]:
    """Return a folder's newest undamaged checkpoint: step, recipe, parts.

    A damaged one is skipped with a warning that says what is wrong with it.

    Args:
        folder: Where the checkpoints are.
        weights: See `read_state`.

    Raises:
        ValueError: If there is no undamaged checkpoint.
    """
    paths = checkpoint_paths(folder)
    for path in reversed(paths):
        try:
            match read_state(path, weights):
                case {"recipe": dict(), "parts": dict()} as state:
                    return state
            raise ValueError("it must hold a recipe and parts")
        except (OSError, ValueError) as error:
            what = f"the checkpoint {str(path)!r} is damaged ({error})"
            warnings.warn(f"{what}, trying the one before it", stacklevel=2)
    raise ValueError(
        f"{str(folder)!r} must hold an undamaged checkpoint, got {len(paths)} damaged"
    )


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_state(path: str | Path, state: dict[str, Any]) -> Path:
    """Write a state to a file that gets its name only once it is complete.

    If tensors are sharded, all processes write, into a folder of that name without
    the suffix.

    Args:
        path: Name of the file, in a folder that exists.
        state: Tensors, numbers, texts, None, and dicts and lists of them. Tuples come
            back as lists.

    Raises:
        ValueError: If it holds anything else.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_packed(state, "", tensors))
    if parallel.is_sharded(tensors.values()):
        return _write_shards(path.with_suffix(""), text, tensors)
    write_file(path, save(tensors, {"state": text, "sha256": _digest(text, tensors)}))
    return path


def _write_shards(path: Path, text: str, tensors: dict[str, Tensor]) -> Path:
    from torch.distributed.checkpoint import state_dict_saver
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    temporary = path.with_name(f".{path.name}.tmp")
    writer = HuggingFaceStorageWriter(str(temporary), save_distributed=True)
    try:
        state_dict_saver.save(tensors, storage_writer=writer)
    except CheckpointException as error:
        raise OSError(f"cannot write {str(path)!r}: {error}") from error
    if parallel.rank() == 0:
        digest = _shards_digest(temporary, text)
        write_file(temporary / "state.json", text)
        write_file(temporary / "sha256", digest)
        _delete([path])  # if a damaged one is there
        temporary.rename(path)
    return path


def read_state(
    path: str | Path, weights: Mapping[str, Tensor] | None = None
) -> dict[str, Any]:
    """Return the state in a file or a folder, with its tensors on the CPU.

    Args:
        path: Path of the file or folder.
        weights: Sharded weights, by the names of their tensors in the state, or by the
            beginnings of these names. This process gets its part of such a tensor.

    Raises:
        ValueError: If anything in it is not as it was written.
        OSError: If it cannot be read.
    """
    path = Path(path)
    read = _read_shards if path.is_dir() else _read
    text, tensors = read(path, weights or {})
    try:
        state = json.loads(text, object_hook=lambda value: _unpacked(value, tensors))
        return dict(state)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} must hold a state, got {error!r}") from error


def _read(path: Path, weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            names, metadata = file.keys(), file.metadata() or {}
            # Copies: an old file could not be deleted while it is mapped.
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path} must be a whole safetensors file: {error}") from error
    text = metadata.get("state", "")
    _check_digest(path, metadata.get("sha256"), _digest(text, tensors))
    for name, tensor in tensors.items():
        if (weight := _weight_of(name, tensor.shape, weights)) is not None:
            tensors[name] = parallel.part_like(tensor, weight)
    return text, tensors


def _read_shards(
    path: Path, weights: Mapping[str, Tensor]
) -> tuple[str, dict[str, Tensor]]:
    from torch.distributed.checkpoint import state_dict_loader
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    text = (path / "state.json").read_text(encoding="utf-8")
    digest = (path / "sha256").read_text(encoding="utf-8")
    _check_digest(path, digest, _shards_digest(path, text))
    reader = HuggingFaceStorageReader(str(path))
    described: dict[str, Any] = reader.read_metadata().state_dict_metadata
    tensors = {}
    for name, found in described.items():
        if (weight := _weight_of(name, found.size, weights)) is not None:
            tensors[name] = torch.empty_like(weight)
        else:
            tensors[name] = torch.empty(found.size, dtype=found.properties.dtype)
    with warnings.catch_warnings(action="ignore"):  # about each process reading alone
        state_dict_loader.load(tensors, storage_reader=reader, no_dist=True)
    return text, tensors


def _check_digest(path: Path, wanted: str | None, found: str) -> None:
    if wanted != found:
        raise ValueError(f"{str(path)!r} must match the hash stored in it")


def _weight_of(
    name: str, shape: torch.Size, weights: Mapping[str, Tensor]
) -> Tensor | None:
    """Return the weight that a state's tensor belongs to, if one has its shape."""
    weight = weights.get(name, weights.get(name.rpartition("/")[0]))
    return weight if weight is not None and weight.shape == shape else None


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return a state as JSON, and put its tensors, by name, into `tensors`.

    >>> _packed({0: [torch.ones(2), 0.5]}, "state", {})
    {'$dict': [(0, [{'$tensor': 'state/0/0'}, 0.5])]}
    """
    match value:
        case Tensor():
            value = value.detach()
            if not parallel.is_sharded([value]):
                # A copy: tensors that share memory cannot be written.
                value = value.to("cpu", copy=True).contiguous()
            if name in tensors:
                raise ValueError(f"two tensors of a state are both named {name!r}")
            tensors[name] = value
            return {"$tensor": name}
        case dict():
            start = f"{name}/" if name else ""
            pairs = [(k, _packed(v, f"{start}{k}", tensors)) for k, v in value.items()]
            return {"$dict": pairs}
        case list() | tuple():
            return [_packed(v, f"{name}/{i}", tensors) for i, v in enumerate(value)]
        case None | bool() | int() | float() | str():
            return value
    raise ValueError(f"{name} must be a tensor, number or text, got {type(value)}")


def _unpacked(value: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """Return what `_packed` turned into this JSON object."""
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    return dict(value["$dict"])


def weights_fingerprint(model: nn.Module) -> str:
    """Return a text that identifies a model's weights, 64 hexadecimal digits."""
    weights = model.state_dict().items()
    return hashed((name, parallel.whole(weight)) for name, weight in weights)


def texts_fingerprint(texts: Iterable[str]) -> str:
    """Return a text that identifies a list of texts, 64 hexadecimal digits.

    >>> texts_fingerprint(["a", "b"]) == texts_fingerprint(["ab"])
    False
    """
    return hashed((text, None) for text in texts)


def _shards_digest(folder: Path, text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    return hashed([(text, None), *sorted(tensors.items())])


def hashed(parts: Iterable[tuple[str, Tensor | None]]) -> str:
    """Return the SHA-256 of names, and of the types, shapes and bits of tensors."""
    digest = hashlib.sha256()
    for name, tensor in parts:
        digest.update(f"{len(name)} {name}".encode())
        if tensor is not None:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            if tensor.numel():  # an empty one has no bytes to view
                data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
                digest.update(data.numpy().data)
    return digest.hexdigest()
