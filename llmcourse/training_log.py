"""What happened in a training, step by step, in memory and as a file of JSON lines.

    {"kind": "evaluation", "step": 0, "loss": 6.24}
    {"kind": "update", "step": 1, "loss": 6.25, "learning_rate": …, …}
    {"kind": "update", "step": 2, "loss": 6.19, "learning_rate": …, …}

Losses are in nats per token; where something else is learned than the next token, the
function that trains says in what. What else it measures stands under "metrics".
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias


@dataclass(frozen=True, kw_only=True)
class Update:
    """One step of training; the loss is in nats per token."""

    step: int  # 1 is the first
    loss: float  # on this step's batch, before its update
    learning_rate: float
    gradient_norm: float  # before clipping
    metrics: dict[str, float] = field(default_factory=dict)  # of its batch, if any


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The loss on the held-out windows, in nats per token."""

    step: int  # updates made so far; 0 is the untrained model
    loss: float
    metrics: dict[str, float] = field(default_factory=dict)  # what else was measured


Record: TypeAlias = Update | Evaluation


@dataclass(frozen=True, kw_only=True)
class History:
    """What happened in a training, in order."""

    updates: list[Update] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return lists of numbers that JSON can hold, without loss of digits."""
        return {
            "updates": [_plain(update) for update in self.updates],
            "evaluations": [_plain(evaluation) for evaluation in self.evaluations],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "History":
        """Return the history that `to_json` made this value of."""
        return cls(
            updates=[Update(**update) for update in value["updates"]],
            evaluations=[Evaluation(**found) for found in value["evaluations"]],
        )


class JSONLinesLog:
    """A progress callback that appends each record to a file, as one line of JSON.

    A training that is resumed repeats some steps. With the first record, all lines
    from that record on are dropped, so that the file has each step once; a training
    from the start therefore begins an empty file. Each line is in the file, though
    perhaps not yet on the disk, before the training goes on.

    Args:
        path: Name of the file, in a folder that exists.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._begun = False

    def __call__(self, record: Record) -> None:
        """Append a record.

        Raises:
            ValueError: If the file holds something else than such a log.
            OSError: If the file cannot be written.
        """
        if not self._begun and self.path.exists():
            self._drop_from(record)
        self._begun = True
        kind = type(record).__name__.lower()
        line = json.dumps({"kind": kind} | _plain(record)).encode() + b"\n"
        try:
            with self.path.open("ab") as file:
                file.write(line)
        except OSError as error:
            message = f"cannot write {str(self.path)!r}: {error.strerror or error}"
            raise OSError(error.errno, message) from error

    def _drop_from(self, record: Record) -> None:
        """Cut the file before the first line that does not come before a record."""
        kept = 0
        lines = self.path.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n") and _is_beginning(line):
                break  # a line that was being written when the training was killed
            if _place(_parsed(line, f"line {number} of {str(self.path)!r}")) >= (
                record.step,
                isinstance(record, Evaluation),
            ):
                break
            kept += len(line)
        with self.path.open("r+b") as file:
            file.truncate(kept)


def _plain(record: Record) -> dict[str, Any]:
    """Return a record as a dict, without metrics if there are none."""
    return {n: v for n, v in vars(record).items() if n != "metrics" or v}


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not {"kind", "step"} <= value.keys():
        raise ValueError(f"{where} must be a record of a training, got {line[:40]!r}")
    return value


def _place(line: dict[str, Any]) -> tuple[int, bool]:
    """Return what sorts records: a step's update comes before its evaluation."""
    return line["step"], line["kind"] == "evaluation"


def _is_beginning(line: bytes) -> bool:
    """Return whether a line may be the first part of a record.

    >>> _is_beginning(b'{"kin'), _is_beginning(b'{"kind": "upd'), _is_beginning(b"Dear")
    (True, True, False)
    """
    start = b'{"kind": "'
    return line.startswith(start) or start.startswith(line)
