"""How `instruct-llm` is made, measured and described.

What it learns from, and how long, is in `finetuning.instruction_tuning`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any, TypeAlias

from llmcourse.finetuning import instruction_evaluation, instruction_tuning, lora
from llmcourse.finetuning.chat import read_conversations
from llmcourse.finetuning.instruction_tuning import InstructConfig
from llmcourse.finetuning.instructions import KINDS
from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.recipes.cards import Facts, Table, tables
from llmcourse.recipes.making import Making, given, in_precision, save_model, write_card
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import parallel
from llmcourse.training.config import StageProgress
from llmcourse.training.evaluation import TEST_SEED

BASE_SPLITS = ("held-out wordings",)
"""What the base model is also asked, to see what it could do before."""

Model: TypeAlias = tuple[Transformer, BPETokenizer]


@dataclass(frozen=True, kw_only=True)
class Exam:
    """How thoroughly a model is measured."""

    n_per_kind: int = 30  # instructions of each kind, in each split; 0: none
    n_stories: int = 200  # plain stories, for what was forgotten; 0: none
    n_prompts: int = 400  # that an aligned model and its start answer
    n_seeds: int = 1  # how often they do, with new random numbers
    kinds: tuple[str, ...] = KINDS  # of instruction
    seed: int = TEST_SEED

    def __post_init__(self) -> None:
        """Raise ValueError for a single story, which has no standard error."""
        if self.n_stories == 1:
            message = "n_stories must be 0, or at least 2 for a standard error, got 1"
            raise ValueError(message)


CARD_EXAM = Exam(n_per_kind=80, n_stories=500, n_prompts=1000, n_seeds=4)
"""How thoroughly shipped models were measured for their cards: an hour on one core."""


def configured(
    preset: str,
    *,
    seed: int | None = None,
    sources: tuple[str, ...] = (),
    sizes: Mapping[str, Any] | None = None,
    precision: str | None = None,
    **training: Any,
) -> InstructConfig:
    """Return a preset with the given settings, in the precision that is fast here.

    Args:
        preset: Its name.
        seed: Of instructions and order; None: the preset's.
        sources: Files of your own conversations.
        sizes: Fields of `InstructConfig`; None: the preset's.
        precision: Of the training.
        training: Fields of `FinetuningConfig`; None: the preset's, but over your own
            conversations three passes, at least 100 steps and at most the preset's.

    Raises:
        KeyError: If there is no such preset.
        ValueError: If a value is impossible.
    """
    config = instruction_tuning.PRESETS[preset]
    wanted = given(**training)
    if sources and "steps" not in wanted:
        n = sum(len(read_conversations(path)) for path in sources)
        learned = n - instruction_tuning.n_held_out(n)
        batch_size = wanted.get("batch_size", config.finetuning.batch_size)
        three_passes = max(100, ceil(3 * learned / batch_size))
        wanted["steps"] = min(config.finetuning.steps, three_passes)
    steps = wanted.get("steps", config.finetuning.steps)
    if steps < config.finetuning.eval_interval and "eval_interval" not in wanted:
        wanted["eval_interval"] = max(1, steps // 5)
    return replace(
        config,
        **given(seed=seed, **(sizes or {})),
        sources=sources,
        finetuning=replace(in_precision(config.finetuning, precision), **wanted),
    )


def make_instruct(config: InstructConfig, run: Making, exam: Exam) -> dict[str, Any]:
    """Fine-tune a model that answers, on instructions or on your own conversations.

    Adapters are merged, and also saved by themselves if nothing else was trained.

    Args:
        config: The recipe; conversations are fitted to the context of the base.
        run: Where to write and how to report.
        exam: What it is asked; with `sources`, only the loss is measured.

    Raises:
        ValueError: If the recipe cannot be followed, or the folder holds another.
        FloatingPointError: If a loss is not finite; the last good checkpoint stays.
        OSError: If something cannot be written.
    """
    model, tokenizer = begun = instruction_tuning.start(config)
    run.change(model.to(run.device))
    config = instruction_tuning.fit_recipe(config, model.config.context_length)
    training, folder = config.finetuning, run.folder / "model"
    what = ", ".join(config.sources) or f"{config.n_examples:,} instructions"
    run.say(
        f"{run.name}: {config.base} learns {what} and {config.n_stories:,} plain "
        f"stories in {training.steps:,} steps of {training.batch_size} examples"
    )
    data = instruction_tuning.prepare(config, tokenizer, run.stages)
    saved = run.saved("fine-tuning", training.steps, training.eval_interval)
    tuned = instruction_tuning.run_recipe(config, saved, begun=begun, data=data)
    if parallel.rank() > 0:
        return {}
    sizes = model.config
    embeddings_learned = model.embedding.weight.requires_grad
    facts = run.facts() | {
        "n_parameters": n_parameters(sizes),
        "vocab_size": sizes.vocab_size,
        "context_length": sizes.context_length,
        "n_examples": len(data.train),
        "n_tokens": sum(map(len, data.train)),
        "n_targets": sum(example.n_targets for example in data.train),
        "n_learned": lora.count_parameters(model).learned,
        "embeddings_learned": embeddings_learned,
    }
    if config.rank is not None:
        if not embeddings_learned:
            lora.save_adapter(model, run.folder / "adapter", config.base)
        lora.merge_lora(model)
        lora.remove_lora(model)
    save_model(tuned.model, tokenizer, folder)
    losses = [found.loss for found in tuned.history.evaluations]
    n = min(len(data.valid), training.eval_examples)
    held_out = {"before": losses[0], "after": losses[-1], "n": n}
    quality: dict[str, Any] = {"held_out_loss": held_out}
    if not config.sources:
        models = load_pretrained(config.base), load_pretrained(folder)
        quality |= instruct_quality(*models, exam, run.stages)
    facts["quality"] = quality
    write_card(folder, "instruct", facts, name=run.name, config=config)
    return quality


def instruct_quality(
    before: Model,
    after: Model,
    exam: Exam,
    stages: StageProgress,
    splits: Sequence[str] = tuple(instruction_evaluation.SPLITS),
) -> dict[str, Any]:
    """Return how a model follows instructions and what it forgot since its start.

    Args:
        before: The model that it was, and its tokenizer.
        after: The model, and its tokenizer.
        exam: How thoroughly to measure.
        stages: Called with the name of the work, how much is done, and the total.
        splits: What it is asked, from `instruction_evaluation.SPLITS`; the model
            before is asked `BASE_SPLITS`.
    """
    temperature = instruction_evaluation.TALE_TEMPERATURE
    found: dict[str, Any] = {"tale_temperature": temperature}
    n, seed = exam.n_per_kind, exam.seed
    asked = (("after", after, splits), ("before", before, BASE_SPLITS))
    for name, model, parts in asked if n else ():
        report = partial(stages, f"answers {name}")
        scores = instruction_evaluation.instruction_scores(
            *model,
            n,
            seed,
            splits=parts,
            kinds=exam.kinds,
            progress=report,
        )
        found[f"instructions_{name}"] = scores_to_json(scores)
    if exam.n_stories:
        cost = instruction_evaluation.forgetting(
            before, after, exam.n_stories, seed, stages
        )
        found["forgetting"] = cost.to_json()
    return found


def scores_to_json(
    scores: Mapping[str, instruction_evaluation.Score],
) -> dict[str, Any]:
    """Return the scores of all splits in a form for JSON."""
    return {split: score.to_json() for split, score in scores.items()}


def instruct_tables(quality: Facts) -> list[Table]:
    """Return scores by kind, and what was measured before and after."""
    found = tables("instruct_tables", quality=quality)
    if scores := quality.get("instructions_after"):
        return [*tables("scores", scores=scores), *found]
    return found
