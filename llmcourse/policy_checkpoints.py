"""Checkpoints of a policy's training: all that it needs to go on to the same bits.

    step-00000010.safetensors    run          what it is a training of
                                 history      of its iterations
                                 weights      of the policy, and of a critic
                                 optimizers   their moments
                                 generator    the state of chance

As in `checkpoints`, of which the names and the guarantees are, the newest whole file
of a folder counts.
"""

from pathlib import Path
from typing import Any

from llmcourse.checkpoints import (
    another_training,
    check_finite,
    checkpoint_paths,
    read_newest,
    write_newest,
)
from llmcourse.same_recipe import check_same_recipe


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
        FloatingPointError: If a weight of the policy, or the critic, is not finite.
        OSError: If the file cannot be written; what was there stays.
    """
    for part in ("policy", "value_head"):
        check_finite(state.get(part, {}), iteration)
    whole = {"run": run, "iteration": iteration, "state": state}
    return write_newest(folder, iteration, whole)


def load_policy_state(folder: str | Path, run: dict[str, Any]) -> dict[str, Any] | None:
    """Return the newest whole state of a folder; None if it has no checkpoint.

    A damaged file is passed over with a warning.

    Args:
        folder: Maybe not there yet.
        run: What shall go on.

    Raises:
        ValueError: If the checkpoint is of another training, or none is whole.
    """
    if not checkpoint_paths(folder):
        return None
    saved, _ = read_newest(folder)
    check_same_recipe(another_training(folder), saved["run"], run)
    state: dict[str, Any] = saved["state"]
    return state
