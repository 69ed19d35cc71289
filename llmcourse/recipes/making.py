"""One flow makes every shipped model: prepare data → train → measure → write its card.

    FOLDER/checkpoints/      a stopped run goes on from here
    FOLDER/model/            weights and tokenizer in float16
    FOLDER/model/card.json   the facts: how it was made, how good it is
    FOLDER/model/README.md   the same as a model card

`base`, `instruct` and `aligned` are the recipes; `align` says what the last one learns.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from llmcourse.files import new_file
from llmcourse.finetuning.answering import has_chat_tokens
from llmcourse.finetuning.chat import save_chat_files
from llmcourse.model.folders import save_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.recipes.cards import Card, Facts, render
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import (
    PretrainingConfig,
    StageProgress,
    TrainingProgress,
    fall_back_to_float32,
)

_Config = TypeVar("_Config", bound=PretrainingConfig)


def _no_progress(*_: object) -> None:
    """Stand in for a progress callback."""


@dataclass(frozen=True, kw_only=True)
class Making:
    """Where a model is made, what it is called, and who hears how far it is."""

    folder: Path
    name: str
    command: str = "llmcourse"  # that makes it again
    machine: str = ""  # what it was trained on and for how long, in words
    training: Callable[[str, Path, int], TrainingProgress] = lambda name, log, steps: (
        _no_progress
    )  # returns the progress of a training, by its name, its log file and its steps
    stages: StageProgress = _no_progress
    say: Callable[[str], None] = _no_progress  # what is about to be done

    def facts(self) -> dict[str, Any]:
        """Return what every card says about the run."""
        return {
            "command": self.command,
            "machine": self.machine,
            "torch": torch.__version__,
            "n_threads": torch.get_num_threads(),
        }


class Recipe(ABC):
    """What `make` asks for, step by step; a recipe keeps what it made in between."""

    @abstractmethod
    def prepare(self, run: Making) -> None:
        """Get models and data; refuse what cannot be before anything takes time."""

    @abstractmethod
    def train(self, run: Making) -> None:
        """Train from the folder's newest checkpoint on, and write the models."""

    @abstractmethod
    def measure(self, run: Making) -> dict[str, Any]:
        """Return how good the models in the files are, as JSON can hold it."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return the sizes of what was learned from."""

    @abstractmethod
    def cards(self, name: str, facts: Facts) -> Mapping[str, Card]:
        """Return the card of each model, by its folder."""


def make(recipe: Recipe, run: Making) -> dict[str, Any]:
    """Make the models of a recipe in a folder; return how good they are.

    A folder that holds checkpoints of the same recipe goes on from them. Cards are
    written last: a run that is refused leaves those of an earlier one as they were.

    Args:
        recipe: What is made.
        run: Where.

    Raises:
        ValueError: If the recipe cannot be followed, or the folder holds another.
        FloatingPointError: If a loss is not finite; the last good checkpoint stays.
        OSError: If something cannot be written.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    recipe.prepare(run)
    recipe.train(run)
    quality = recipe.measure(run)
    facts = run.facts() | recipe.facts() | {"quality": quality}
    for place, card in recipe.cards(run.name, facts).items():
        _write(run.folder / place / "card.json", json.dumps(facts, indent=1) + "\n")
        _write(run.folder / place / "README.md", render(card))
    return quality


def _write(path: Path, text: str) -> None:
    with new_file(path) as file:
        file.write(text.encode())


def save_model(model: Transformer, tokenizer: BPETokenizer, folder: Path) -> None:
    """Write a model in float16, with a chat template if it knows conversations.

    Raises:
        OSError: If a file cannot be written.
    """
    save_pretrained(model, tokenizer, folder, torch.float16)
    if has_chat_tokens(tokenizer):
        save_chat_files(tokenizer, folder, model.config.context_length)


def given(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def in_precision(config: _Config, precision: str | None) -> _Config:
    """Return a training's config in a precision, or else in what is fast here."""
    if precision is None:
        return fall_back_to_float32(config)
    wanted: Any = precision
    return replace(config, precision=wanted)
