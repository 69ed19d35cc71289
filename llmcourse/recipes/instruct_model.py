"""From a recipe to a folder: train, save, measure what was saved, and write its card.

checkpoints/    to go on from
adapter/        low-rank adapters by themselves, where nothing else was learned
model/          weights, tokenizer, chat template and card, for other programs too
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from llmcourse.files import new_file
from llmcourse.finetuning.chat import save_chat_files
from llmcourse.finetuning.instruction_evaluation import forgetting, instruction_scores
from llmcourse.finetuning.instruction_tuning import (
    InstructConfig,
    InstructData,
    InstructMaking,
    fitted,
    follow,
    prepare,
    start,
)
from llmcourse.finetuning.lora import (
    count_parameters,
    merge_lora,
    remove_lora,
    save_adapter,
)
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.recipes.instruct_card import InstructQuality, instruct_card
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import CountProgress, StageProgress, TrainingProgress
from llmcourse.training.pipeline import TrainingResult
from llmcourse.training.story_evaluation import TEST_SEED

BASE_SPLITS = ("held-out wordings",)
"""What the base model is asked too, to see what it could do before."""


@dataclass(frozen=True, kw_only=True)
class Exam:
    """How thoroughly a model is measured."""

    n_per_kind: int = 30  # instructions of each kind, in each split; 0: none
    n_stories: int = 200  # plain stories, for what was forgotten; 0: none
    seed: int = TEST_SEED

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that no measurement can have."""
        if self.n_per_kind < 0:
            raise ValueError(f"n_per_kind must be at least 0, got {self.n_per_kind}")
        if self.n_stories < 0 or self.n_stories == 1:
            raise ValueError(
                f"n_stories must be 0, or at least 2 for a standard error, got "
                f"{self.n_stories}"
            )


def make_instruct(
    config: InstructConfig,
    folder: str | Path,
    *,
    name: str = "instruct-llm",
    command: str = "llmcourse finetune",
    exam: Exam | None = None,
    run: Run = Run(),
    before: Sequence[TrainingProgress] = (),
    stages: StageProgress | None = None,
    machine: str = "",
) -> InstructQuality:
    """Make a model of a recipe in a folder; return how good it is.

    A folder that holds checkpoints of the same training goes on from them.

    Args:
        config: The recipe.
        folder: Gets what the top of this module says; created if missing.
        name: Of the model, for its card.
        command: What makes it again, for its card.
        exam: How thoroughly it is measured.
        run: How often the training is saved, and who follows it; its folder is in
            the model's.
        before: The run's `progress`, for each part that is learned before; or none.
        stages: Called with the name of what is done besides, how much of it, and of
            how much.
        machine: For its card, what it was trained on, in words.

    Raises:
        ValueError: As `instruction_tuning.follow`.
        FloatingPointError: If a loss is not finite; the last good checkpoint stays.
        OSError: If something cannot be written.
    """
    folder, exam = Path(folder), exam or Exam()
    model, tokenizer = start(config)
    config = fitted(config, model.config.context_length)
    data = prepare(config, tokenizer, stages)
    tuned = follow(
        config,
        replace(run, folder=folder / "checkpoints"),
        stages=stages,
        data=data,
        before=before,
    )
    making = InstructMaking.of(
        config,
        data,
        sizes=tuned.model.config,
        n_learned=count_parameters(tuned.model).learned,
        embeddings_learned=tuned.model.embedding.weight.requires_grad,
        command=command,
        n_threads=torch.get_num_threads(),
        machine=machine,
    )
    save(config, tuned, folder)
    quality = measure(config, folder / "model", tuned, data, exam, stages)
    with new_file(folder / "model" / "README.md") as file:
        file.write(instruct_card(name, making, quality).encode())
    return quality


def save(config: InstructConfig, tuned: TrainingResult, folder: Path) -> None:
    """Write the model, its adapters apart if they say all, and merge them for good.

    Args:
        config: The recipe.
        tuned: Its adapters, if any, are merged and gone afterwards.
        folder: Gets `model`, and maybe `adapter`.

    Raises:
        OSError: If a file cannot be written.
    """
    model = tuned.model
    if config.rank is not None:
        if not model.embedding.weight.requires_grad:
            save_adapter(model, folder / "adapter", config.base)
        merge_lora(model)
        remove_lora(model)
    save_pretrained(model, tuned.tokenizer, folder / "model", torch.float16)
    save_chat_files(tuned.tokenizer, folder / "model", model.config.context_length)


def measure(
    config: InstructConfig,
    folder: Path,
    tuned: TrainingResult,
    data: InstructData,
    exam: Exam,
    stages: StageProgress | None = None,
) -> InstructQuality:
    """Return how good the model in a folder is, and how good its base was.

    Instructions are asked, and stories read, only where those were what it learned.

    Args:
        config: The recipe.
        folder: Of the model as it was saved.
        tuned: Has the losses of its training.
        data: What it learned from.
        exam: How thoroughly to measure.
        stages: As in `make_instruct`.
    """
    losses = [found.loss for found in tuned.history.evaluations]
    found = InstructQuality(
        loss_before=losses[0],
        loss=losses[-1],
        n_held_out=min(len(data.valid), config.finetuning.eval_examples),
    )
    if config.sources:
        return found
    told = stages or (lambda *_: None)
    base, model = load_pretrained(config.base), load_pretrained(folder)
    scores = base_scores = None
    if exam.n_per_kind:
        n, seed = exam.n_per_kind, exam.seed
        scores = instruction_scores(
            *model, n, seed, progress=lambda *at: told("answers", *at)
        )
        base_scores = instruction_scores(
            *base,
            n,
            seed,
            splits=BASE_SPLITS,
            progress=lambda *at: told("answers of the base", *at),
        )
    forgotten = None
    if exam.n_stories:
        n, seed = exam.n_stories, exam.seed
        forgotten = forgetting(base, model, n, seed, _by_both("stories read", told))
    return replace(found, scores=scores, base_scores=base_scores, forgetting=forgotten)


def _by_both(stage: str, told: StageProgress) -> CountProgress:
    """Return a progress that takes two models' reading, one after the other, as one."""
    read = 0  # by the first

    def progress(done: int, n: int) -> None:
        nonlocal read
        told(stage, read + done, 2 * n)
        read = n if done == n else read

    return progress
