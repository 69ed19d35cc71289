"""How long and how fast a model learns, and what happened while it did.

    learning rate
      peak ┤   ╭──╮
           │  ╱    ╲             rises in a straight line: early gradients are wild
           │ ╱      ╲            falls along half a cosine: small steps at the end
         0 ┼╱        ╰──
           └──┬─────────┬─ step
           warm-up     end

A run records each update and each evaluation, in memory as a `History` and, if
wanted, in a file of JSON lines:

    {"kind": "evaluation", "step": 0, "loss": 6.24}
    {"kind": "update", "step": 1, "loss": 6.25, "learning_rate": …, …}
    {"kind": "update", "step": 2, "loss": 6.19, "learning_rate": …, …}

Losses are in nats per token, unless the training function says otherwise. Other
measurements are under "metrics".
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import torch

from llmcourse.arguments import (
    check_multiple,
    check_one_of,
    check_positive,
    check_range,
)

_Config = TypeVar("_Config")  # a dataclass with a field `precision`


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """How long and how fast a model learns."""

    steps: int = 1000  # updates of the weights, each from one batch
    batch_size: int = 8  # in windows
    context_length: int = 128  # of a window, in tokens
    learning_rate: float | int = 4e-3  # at its peak
    optimizer: Literal["adamw", "muon"] = "adamw"  # of the blocks' matrices
    embedding_speed: float | int = 1  # of token embeddings, as a multiple of the rate
    final_share: float | int = 0.0  # of the peak, at which the learning rate ends
    warmup_steps: int = 50  # in which the learning rate rises to its peak
    weight_decay: float | int = 0.1  # share of a weight lost per step, times the rate
    betas: tuple[float, float] = (0.9, 0.99)  # AdamW: what its two means keep per step
    clip_norm: float | int = 1.0  # longest gradient; longer ones are shortened to it
    eval_interval: int = 100  # in steps
    eval_examples: int = 64  # held-out windows, or whatever batches consist of
    precision: Literal["float32", "bfloat16"] = "float32"  # of matrix products
    accumulation: int = 1  # equal parts that a batch is processed in, to save memory

    def __post_init__(self) -> None:
        """Raise ValueError for a value that no run can have."""
        check_one_of("optimizer", self.optimizer, ("adamw", "muon"))
        check_one_of("precision", self.precision, ("float32", "bfloat16"))
        check_range(0, warmup_steps=self.warmup_steps, weight_decay=self.weight_decay)
        check_range(0, 1, final_share=self.final_share)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), got {self.betas}")
        apart = "optimizer precision warmup_steps weight_decay final_share betas"
        for entry in fields(PretrainingConfig):
            if entry.name not in apart.split():
                check_positive(**{entry.name: getattr(self, entry.name)})
        check_multiple(batch_size=self.batch_size, accumulation=self.accumulation)


def learning_rate(step: int, config: PretrainingConfig) -> float:
    """Return the learning rate of a step, in weight change per normalised gradient.

    It rises in a straight line over the first `warmup_steps` steps and then falls
    along half a cosine to `final_share` of its peak, where it stays after the end.

    Source: Loshchilov and Hutter (2017), "SGDR", equation 5, without restarts.

    >>> config = PretrainingConfig(steps=100, warmup_steps=4, learning_rate=0.8)
    >>> [round(learning_rate(step, config), 3) for step in (0, 1, 3, 52, 99)]
    [0.2, 0.4, 0.8, 0.4, 0.0]
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    fall = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))  # 1 → 0
    return config.learning_rate * (config.final_share + (1 - config.final_share) * fall)


def autocast(precision: str, device: torch.device | str) -> torch.autocast:
    """Return a context in which a model computes in a config's precision.

    Its weights stay as they are; so do sums that need more digits.

    >>> layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    >>> with autocast("bfloat16", "cpu"):
    ...     layer(x).dtype
    torch.bfloat16
    """
    device_type = torch.device(device).type
    return torch.autocast(device_type, torch.bfloat16, enabled=precision == "bfloat16")


def fall_back_to_float32(config: _Config) -> _Config:
    """Return a config in float32, if it asks for bfloat16 and the processor lacks it.

    With bfloat16 instructions, a step of the course's models takes a third to three
    quarters of float32's time. Without them, bfloat16 is emulated and takes twice as
    long with AVX-512, ten times as long with AVX2 (the same processor not using them).

    Args:
        config: The config of any run on the CPU.

    >>> fall_back_to_float32(PretrainingConfig(steps=7)).precision
    'float32'
    """
    if has_bfloat16_instructions():
        return config
    given: Any = config
    slow: _Config = replace(given, precision="float32")
    return slow


def has_bfloat16_instructions() -> bool:
    """Return whether this processor multiplies bfloat16, and torch can make use of it.

    Torch's own check also says yes if AVX-512 emulates it, so newer versions are also
    asked for the instructions by name.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    found = torch.cpu.get_capabilities()
    names = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "sve_bf16")
    return any(found.get(name, False) for name in names)


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
    """What happened in a run, in order."""

    updates: list[Update] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)

    def curves(self, tokens_per_step: int) -> dict[str, tuple[list[int], list[float]]]:
        """Return (tokens seen, loss in nats per token) on batches and on held-out text.

        Args:
            tokens_per_step: Batch size times context length.
        """

        def curve(records: Sequence[Record]) -> tuple[list[int], list[float]]:
            seen = [record.step * tokens_per_step for record in records]
            return seen, [record.loss for record in records]

        return {
            "training batches": curve(self.updates),
            "held-out text": curve(self.evaluations),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return lists of numbers that JSON can hold, without loss of digits."""
        return {
            "updates": [_plain(update) for update in self.updates],
            "evaluations": [_plain(evaluation) for evaluation in self.evaluations],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over another run's history, from its `state_dict`."""
        self.updates[:] = [Update(**update) for update in state["updates"]]
        self.evaluations[:] = [Evaluation(**each) for each in state["evaluations"]]


class JSONLinesLog:
    """A progress callback that appends each record to a file, as one line of JSON.

    A resumed run repeats some steps. At the first record, all lines from that record
    on are dropped, so that the file has each step once; a run from the start therefore
    begins with an empty file. Each line is in the file, though perhaps not yet on
    disk, before training continues.

    Args:
        path: Name of the file, in a folder that exists.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._begun = False

    def __call__(self, record: Record) -> None:
        """Append a record.

        Raises:
            ValueError: If the file holds something other than such a log.
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
        """Cut the file at the first line that does not come before a record.

        Within a step, the update comes before the evaluation.
        """
        place = (record.step, isinstance(record, Evaluation))
        kept = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            if line.startswith(b"{") and not line.endswith(b"\n"):
                break  # a line that was being written when the run was killed
            try:
                found = json.loads(line)
                is_before = (found["step"], found["kind"] == "evaluation") < place
            except (KeyError, TypeError, ValueError) as error:
                message = f"{str(self.path)!r} must be a log, got {line[:40]!r} in it"
                raise ValueError(message) from error
            if not is_before:
                break
            kept += len(line)
        with self.path.open("r+b") as file:
            file.truncate(kept)


def _plain(record: Record) -> dict[str, Any]:
    """Return a record as a dict, without metrics if there are none."""
    return {n: v for n, v in vars(record).items() if n != "metrics" or v}


CountProgress: TypeAlias = Callable[[int, int], None]  # done, of how many
StageProgress: TypeAlias = Callable[[str, int, int], None]  # stage, done, of how many
TrainingProgress: TypeAlias = Callable[[Record], None]
_Item = TypeVar("_Item")


def report_progress(
    items: Iterable[_Item], n: int, stage: str, progress: StageProgress | None
) -> Iterator[_Item]:
    """Yield the items, and report regularly how many there have been.

    Args:
        items: What is worked on, one by one.
        n: How many there are.
        stage: Name of the work.
        progress: Called after each hundredth of the items, and after the last.

    >>> [*report_progress("ab", 2, "letters", print)]
    letters 1 2
    letters 2 2
    ['a', 'b']
    """
    every = max(1, n // 100)
    for number, item in enumerate(items, start=1):
        yield item
        if progress is not None and (number % every == 0 or number == n):
            progress(stage, number, n)
