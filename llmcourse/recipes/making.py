"""What all recipes share: where a model is made, how it is reported, what is written.

    FOLDER/log.jsonl         how the training went
    FOLDER/checkpoints/      a stopped run resumes from here
    FOLDER/prepared/         what pretraining reads, as ids
    FOLDER/model/            weights and tokenizer in float16
    FOLDER/model/card.json   the facts: how it was made, how good it is
    FOLDER/model/README.md   the same as a model card

`make_base`, `make_instruct` and `make_aligned` are the recipes. Each is one function
from a config and a `Making` to the quality of what was made: prepare data, train,
measure, write the card. A run whose folder holds checkpoints of the same recipe resumes
from them. Cards are written last: a run that is refused keeps those of an earlier one.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from llmcourse.files import write_file
from llmcourse.finetuning.chat import has_chat_tokens, save_chat_files
from llmcourse.model.folders import save_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.recipes.cards import Facts, fill_card
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import (
    StageProgress,
    TrainingProgress,
    fall_back_to_float32,
)

_Config = TypeVar("_Config")


def _do_nothing(*_: object) -> None:
    """Stand in for a callback."""


@dataclass(frozen=True, kw_only=True)
class Making:
    """Where a model is made, what it is called, and how its progress is reported."""

    folder: Path
    name: str
    command: str = "llmcourse"  # that makes it again
    machine: str = ""  # what it was trained on and for how long, in words
    device: str = "cpu"  # that torch trains on
    change: Callable[[nn.Module], None] = _do_nothing  # of a model before training
    training: Callable[[str, Path, int], TrainingProgress] = lambda name, log, steps: (
        _do_nothing
    )  # returns a training's callback, from its name, its log file and its steps
    stages: StageProgress = _do_nothing
    say: Callable[[str], None] = _do_nothing  # what is about to be done

    def saved(self, what: str, steps: int, interval: int, place: str = "") -> Run:
        """Return how a training is saved, every `interval` steps, and reported."""
        folder = self.folder / place
        folder.mkdir(parents=True, exist_ok=True)
        return Run(
            folder=folder / "checkpoints",
            interval=interval,
            progress=self.training(what, folder / "log.jsonl", steps),
        )

    def facts(self) -> dict[str, Any]:
        """Return what every card says about the run."""
        return {
            "command": self.command,
            "machine": self.machine,
            "torch": torch.__version__,
            "n_threads": torch.get_num_threads(),
        }


def write_card(folder: Path, kind: str, facts: Facts, **values: Any) -> None:
    """Write the facts of a model, and its card, beside its weights.

    Args:
        folder: The model's.
        kind: Of the card, see `fill_card`.
        facts: How it was made and how good it is.
        values: What else the card's template reads.

    Raises:
        OSError: If a file cannot be written.
    """
    write_file(folder / "card.json", json.dumps(facts, indent=1) + "\n")
    write_file(folder / "README.md", fill_card(kind, facts, **values))


def save_model(model: Transformer, tokenizer: BPETokenizer, folder: Path) -> None:
    """Write a model in float16, with a chat template if it knows conversations.

    Raises:
        OSError: If a file cannot be written.
    """
    save_pretrained(model, tokenizer, folder, torch.float16)
    if has_chat_tokens(tokenizer):
        save_chat_files(tokenizer, folder)


def given(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def in_precision(config: _Config, precision: str | None) -> _Config:
    """Return a config in the given precision, or else in one that is fast here."""
    if precision in (None, "auto"):
        return fall_back_to_float32(config)
    given: Any = config
    wanted: _Config = replace(given, precision=precision)
    return wanted
