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
"""

import os
import re
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from llmcourse.same_recipe import check_same_recipe
from llmcourse.schedule import PretrainingConfig
from llmcourse.state_files import read_state, write_state
from llmcourse.training_log import History
from llmcourse.transformer import TransformerConfig


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
        state: See `state_files.write_state`.
        keep: As there.

    Raises:
        ValueError: As `state_files.write_state`.
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
