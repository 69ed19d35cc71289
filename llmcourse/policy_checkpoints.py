"""Checkpoints of a policy's training: all that it needs to go on to the same bits.

    step-00000010.safetensors    run          what it is a training of
                                 history      of its iterations
                                 weights      of the policy, and of a critic
                                 optimizers   their moments
                                 generator    the state of chance

As in `checkpoints`, of which the names and the guarantees are, the newest whole file
of a folder counts.
"""

import hashlib
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmcourse.checkpoints import checkpoint_paths
from llmcourse.state_files import read_state, write_state

_KEPT = 2  # files of a folder


def save_policy_state(
    folder: str | Path, run: dict[str, Any], iteration: int, state: dict[str, Any]
) -> Path:
    """Write the state of a training; return the file's name.

    Args:
        folder: Of this training alone; created if missing. Only the two newest files
            stay in it.
        run: What must be the same to go on: names and plain values.
        iteration: Iterations made so far.
        state: Everything else, see `state_files.write_state`.

    Raises:
        ValueError: As `state_files.write_state`.
        OSError: If the file cannot be written; what was there stays.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{iteration:08d}.safetensors"
    write_state(path, {"run": run, "iteration": iteration, "state": state})
    there = checkpoint_paths(folder)
    place = there.index(path) + 1
    for other in there[: max(0, place - _KEPT)] + there[place:]:
        other.unlink(missing_ok=True)
    return path


def load_policy_state(folder: str | Path, run: dict[str, Any]) -> dict[str, Any] | None:
    """Return the newest whole state of a folder; None if it has no checkpoint.

    A damaged file is passed over with a warning.

    Args:
        folder: Maybe not there yet.
        run: What shall go on.

    Raises:
        ValueError: If the checkpoint is of another training, or none is whole.
    """
    paths = checkpoint_paths(folder)
    for path in reversed(paths):
        try:
            saved = read_state(path)
        except (OSError, ValueError) as error:
            warnings.warn(
                f"the checkpoint {str(path)!r} is damaged ({error}), "
                "trying the one before it",
                stacklevel=2,
            )
            continue
        before = saved["run"]
        names = before.keys() | run.keys()
        if odd := sorted(n for n in names if before.get(n) != run.get(n)):
            wanted = (f"{n} must be {before.get(n)!r}, got {run.get(n)!r}" for n in odd)
            raise ValueError(
                f"{str(folder)!r} holds checkpoints of another training: "
                f"{'; '.join(wanted)}"
            )
        state: dict[str, Any] = saved["state"]
        return state
    if paths:
        raise ValueError(
            f"{str(folder)!r} must hold a whole checkpoint, got {len(paths)} damaged"
        )
    return None


def weights_fingerprint(model: nn.Module) -> str:
    """Return a text that tells a model's weights from others, 64 hexadecimal digits."""
    return _digest(model.state_dict().items())


def texts_fingerprint(texts: Iterable[str]) -> str:
    """Return a text that tells a list of texts from others, 64 hexadecimal digits.

    >>> texts_fingerprint(["a", "b"]) == texts_fingerprint(["ab"])
    False
    """
    return _digest((text, None) for text in texts)


def _digest(parts: Iterable[tuple[str, Tensor | None]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in parts:
        digest.update(f"{len(name)} {name}".encode())
        if tensor is not None:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(data.numpy().data)
    return digest.hexdigest()
