"""From a recipe to two folders: reward model and aligned model, measured, with cards.

pairs.jsonl           what the annotator preferred
reward/model/         the reward model
model/                the aligned model
reward/checkpoints/, checkpoints/    to go on from

The two trainings of `aligned-llm`: of the reward model, and of the policy by it.

    pairs ── reward model ── PPO, GRPO ──┐
      └───────────────────── DPO ────────┴── aligned policy

What was collected and learned stays in a folder, so that a stopped run goes on:

    pairs.jsonl              what the annotator preferred
    reward/checkpoints/      of the reward model
    checkpoints/             of the policy
"""

import json
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from llmcourse.alignment.dpo import DPOConfig, dpo
from llmcourse.alignment.evaluation import evaluate_policy, gain_of
from llmcourse.alignment.grpo import GRPOConfig, grpo
from llmcourse.alignment.policy import PolicyIteration
from llmcourse.alignment.ppo import ppo
from llmcourse.alignment.preferences import (
    PreferencePair,
    agreement_rate,
    end_of_answer,
    exam_prompts,
    make_prompts,
    tokenize_pairs,
)
from llmcourse.alignment.reward_model import (
    RewardFunction,
    RewardModel,
    centre,
    expected_calibration_error,
    load_reward_model,
    pair_accuracy,
    pair_rewards,
    reliability,
    save_reward_model,
    text_reward,
    train_reward_model,
)
from llmcourse.alignment.surprisal import SurprisalReader
from llmcourse.files import new_file
from llmcourse.finetuning.answering import has_chat_tokens
from llmcourse.finetuning.chat import save_chat_files
from llmcourse.finetuning.instruction_evaluation import (
    Score,
    forgetting,
    instruction_scores,
)
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.recipes.align_card import (
    AlignMaking,
    AlignQuality,
    RewardQuality,
    aligned_card,
)
from llmcourse.recipes.align_recipe import AlignConfig, Preferences, collect
from llmcourse.recipes.reward_card import reward_card
from llmcourse.text.packing import END_OF_TEXT, tokenizer_fingerprint
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.checkpoints import (
    Run,
    check_config_matches,
    weights_fingerprint,
)
from llmcourse.training.config import (
    Evaluation,
    History,
    Record,
    StageProgress,
    TrainingProgress,
)
from llmcourse.training.story_evaluation import TEST_SEED

_N_CENTRED = 200  # answers whose mean reward is zero


def collected(
    path: str | Path,
    config: AlignConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    progress: StageProgress | None = None,
) -> Preferences:
    """Return what the annotator prefers, from a file if it has it, and keep it there.

    Args:
        path: The file: JSON lines, the first of which says of what recipe it is.
        config: As in `align_recipe.collect`, like those that follow.
        policy: See there.
        tokenizer: See there.
        progress: See there.

    Raises:
        ValueError: If the file is of another recipe or damaged, if there is no folder
            for it, or as `collect`.
        OSError: If it cannot be read or written.
    """
    path, recipe = Path(path), _recipe(config, policy)
    if path.exists():
        return _read_pairs(path, recipe)
    if not path.parent.is_dir():  # known before anything takes time
        raise ValueError(f"there is no folder {str(path.parent)!r} to write into")
    found = collect(config, policy, tokenizer, progress)
    lines = [json.dumps(recipe)]
    for part, pairs in (("train", found.train), ("valid", found.valid)):
        lines += [json.dumps({"part": part} | asdict(pair)) for pair in pairs]
    with new_file(path) as file:
        file.write("\n".join([*lines, ""]).encode())
    return found


def _recipe(config: AlignConfig, policy: Transformer) -> dict[str, Any]:
    """Return what decides which pairs there are."""
    names = "n_prompts n_held_out answers_per_prompt pairs_per_prompt agreement"
    own = {n: getattr(config, n) for n in (*names.split(), "max_new_tokens", "seed")}
    return own | {"policy": weights_fingerprint(policy)}


def _read_pairs(path: Path, recipe: dict[str, Any]) -> Preferences:
    parts: dict[str, list[PreferencePair]] = {"train": [], "valid": []}
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        found = dict(json.loads(first))
        for line in lines:
            values = json.loads(line)
            parts[values.pop("part")].append(PreferencePair(**values))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} must hold pairs, got: {error}") from error
    refusal = f"{str(path)!r} holds pairs of another recipe or policy"
    check_config_matches(refusal, found, recipe)
    return Preferences(train=parts["train"], valid=parts["valid"])


@dataclass(frozen=True, kw_only=True)
class Taught:
    """A reward model that has learned, and how it went."""

    model: RewardModel
    history: History


def teach(
    config: AlignConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    found: Preferences,
    run: Run = Run(),
) -> Taught:
    """Return a reward model that starts as the policy and learns from the pairs.

    Its zero is the mean reward of held-out answers.

    Args:
        config: Says how long and how fast.
        policy: Stays as it is.
        tokenizer: The policy's.
        found: The pairs.
        run: As in `train_reward_model`.

    Raises:
        ValueError: As `reader_of` and `train_reward_model`.
        FloatingPointError: See there.
        OSError: See there.
    """
    chat = has_chat_tokens(tokenizer)
    train, valid = (
        tokenize_pairs(part, tokenizer, chat=chat)
        for part in (found.train, found.valid)
    )
    generator = torch.Generator().manual_seed(config.seed)
    reader = reader_of(config, tokenizer)
    model = RewardModel.from_model(policy, generator, config.pooling, reader).train()
    history = train_reward_model(
        model,
        train,
        valid,
        config.reward,
        torch.Generator().manual_seed(config.seed),
        run=replace(run, tokenizer=tokenizer_fingerprint(tokenizer)),
    )
    texts = [text for pair in valid for text in pair.texts()]
    centre(model.eval(), texts[:_N_CENTRED])
    return Taught(model=model, history=history)


def reader_of(config: AlignConfig, tokenizer: BPETokenizer) -> SurprisalReader | None:
    """Return who tells the reward model how surprising each token is, if anyone does.

    Args:
        config: Names the reader.
        tokenizer: The policy's.

    Raises:
        ValueError: If there is no such model, or if it has other tokens.
    """
    if config.reader is None:
        return None
    return SurprisalReader.of(*load_pretrained(config.reader), tokenizer)


def align(
    config: AlignConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    found: Preferences,
    reward_model: RewardModel,
    run: Run = Run(),
    *,
    proxy: RewardFunction | None = None,
) -> list[Record]:
    """Train a policy in place by the method of the recipe; return what happened.

    That is all of it, also of a training that goes on.

    Of PPO and GRPO each iteration becomes an evaluation: its step is the iteration's
    number, its loss minus the mean proxy reward, and the rest stands in its metrics.

    Args:
        config: Says how long and how fast.
        policy: Changed in place; as it is now, it is the reference.
        tokenizer: The policy's.
        found: The pairs, from which DPO learns.
        reward_model: By which PPO and GRPO learn.
        run: Where the training is saved, and who follows it; its interval counts
            iterations of PPO and GRPO.
        proxy: In place of the reward model's own rewards; to watch what is asked, say.

    Raises:
        ValueError: As `dpo`, `ppo` and `grpo`.
        FloatingPointError: See there.
        OSError: See there.
    """
    chat, training = has_chat_tokens(tokenizer), config.training
    generator = torch.Generator().manual_seed(config.seed)
    if isinstance(training, DPOConfig):
        return _dpo(training, policy, tokenizer, found, generator, run)
    options: dict[str, Any] = {
        "tokenizer": tokenizer,
        "stop": [end_of_answer(tokenizer, chat=chat)],
        "run": replace(run, progress=lambda found: run.log(as_record(found))),
    }
    prompts = make_prompts(config.n_training_prompts, config.seed + 2, tokenizer)
    reward = proxy or text_reward(reward_model, tokenizer, chat=chat)
    if isinstance(training, GRPOConfig):
        made = grpo(policy, prompts, reward, training, generator, **options)
    else:
        made = ppo(policy, prompts, reward, training, generator, **options)
    return [as_record(iteration) for iteration in made]


def _dpo(
    training: DPOConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    found: Preferences,
    generator: torch.Generator,
    run: Run,
) -> list[Record]:
    train, valid = (
        tokenize_pairs(part, tokenizer, chat=has_chat_tokens(tokenizer))
        for part in (found.train, found.valid)
    )
    history = dpo(
        policy,
        train,
        valid[: training.eval_examples],
        training,
        generator,
        reference=deepcopy(policy).eval(),
        run=replace(run, tokenizer=tokenizer_fingerprint(tokenizer)),
    )
    return [*history.updates, *history.evaluations]


def as_record(iteration: PolicyIteration) -> Evaluation:
    """Return an iteration in the form of what other trainings tell of theirs.

    >>> found = PolicyIteration(iteration=2, reward=1.5, kl=3.0, entropy=0.5,
    ...     clip_fraction=0.0, value_loss=None, length=90.0, finished=1.0)
    >>> record = as_record(found)
    >>> record.step, record.loss, record.metrics["kl"], "value_loss" in record.metrics
    (2, -1.5, 3.0, False)
    """
    metrics = {k: v for k, v in asdict(iteration).items() if v is not None}
    return Evaluation(
        step=int(metrics.pop("iteration")), loss=-iteration.reward, metrics=metrics
    )


def with_steps(config: AlignConfig, steps: int) -> AlignConfig:
    """Return a recipe with another number of steps, or of iterations."""
    training = config.training
    if isinstance(training, DPOConfig):
        return replace(config, training=replace(training, steps=steps))
    return replace(config, training=replace(training, iterations=steps))


ASKED_SPLITS = ("held-out wordings",)
"""Which instructions are asked before and after."""

Model = tuple[Transformer, BPETokenizer]


@dataclass(frozen=True, kw_only=True)
class AlignExam:
    """How thoroughly a policy is measured, before and after."""

    n_prompts: int = 400  # one answer each
    n_per_kind: int = 30  # instructions of each kind; 0: none
    n_stories: int = 200  # plain ones, for what is forgotten
    seed: int = TEST_SEED


def make_aligned(
    config: AlignConfig,
    folder: str | Path,
    *,
    names: tuple[str, str] = ("reward-model", "aligned-llm"),
    command: str = "llmcourse align",
    exam: AlignExam | None = None,
    teaching: TrainingProgress | None = None,
    progress: TrainingProgress | None = None,
    stages: StageProgress | None = None,
    machine: str = "",
) -> AlignQuality:
    """Make a reward model and an aligned model in a folder; return how good they are.

    A folder that holds checkpoints of the same recipe goes on from them.

    Args:
        config: The recipe.
        folder: Gets what the top of this module says; created if missing.
        names: Of the two models, for their cards.
        command: What makes them again, for their cards.
        exam: How thoroughly they are measured.
        teaching: Called with what happens in the reward model's training.
        progress: Called with what happens in the policy's, see `align_model.align`.
        stages: Called with the name of what is done besides, how much of it, and of
            how much.
        machine: For the cards, what they were trained on, in words.

    Raises:
        ValueError: If there is no such policy, or as the functions of
            `align_model`.
        FloatingPointError: If a loss is not finite; the last good checkpoint stays.
        OSError: If something cannot be written.
    """
    folder, exam = Path(folder), exam or AlignExam()
    folder.mkdir(parents=True, exist_ok=True)
    policy, tokenizer = load_pretrained(config.policy)
    reader_of(config, tokenizer)  # refused before anything takes time
    chat = has_chat_tokens(tokenizer)
    pairs = collected(folder / "pairs.jsonl", config, policy, tokenizer, stages)
    place = folder / "reward" / "model"
    run = Run(
        folder=place.parent / "checkpoints",
        interval=config.reward.eval_interval,
        progress=teaching,
    )
    taught = teach(config, policy, tokenizer, pairs, run)
    pad = END_OF_TEXT if chat else None
    save_reward_model(
        taught.model,
        tokenizer,
        place,
        torch.float16,
        pad_token=pad,
        reader=config.reader,
    )
    reward_model, _ = load_reward_model(place)
    making = AlignMaking(
        config=config,
        sizes=policy.config,
        n_pairs=len(pairs.train),
        n_prompts=len({pair.prompt for pair in pairs.train}),
        example=pairs.valid[0],
        chat=chat,
        command=command,
        n_threads=torch.get_num_threads(),
        machine=machine,
    )
    worth = measure_reward(reward_model, tokenizer, pairs.valid)
    training = config.training
    run = Run(
        folder=folder / "checkpoints",
        interval=training.eval_interval if isinstance(training, DPOConfig) else 5,
        progress=progress,
    )
    align(config, policy, tokenizer, pairs, reward_model, run)
    # Not earlier: what is refused as another training must leave the card as it was.
    _write(place, reward_card(names[0], making, worth))
    save(policy.eval(), tokenizer, folder / "model")
    start, made = load_pretrained(config.policy), load_pretrained(folder / "model")
    quality = measure(config, start, made, reward_model, worth, exam, stages)
    _write(folder / "model", aligned_card(names[1], making, quality))
    return quality


def _asked(
    model: Model, exam: AlignExam, stage: str, stages: StageProgress | None
) -> dict[str, Score]:
    told = stages or (lambda *_: None)
    return instruction_scores(
        *model,
        exam.n_per_kind,
        exam.seed,
        splits=ASKED_SPLITS,
        progress=lambda *at: told(stage, *at),
    )


def _write(folder: Path, card: str) -> None:
    with new_file(folder / "README.md") as file:
        file.write(card.encode())


def save(policy: Transformer, tokenizer: BPETokenizer, folder: Path) -> None:
    """Write a policy, with a chat template if it answers in conversations.

    Raises:
        OSError: If a file cannot be written.
    """
    save_pretrained(policy, tokenizer, folder, torch.float16)
    if has_chat_tokens(tokenizer):
        save_chat_files(tokenizer, folder, policy.config.context_length)


def measure_reward(
    model: RewardModel, tokenizer: BPETokenizer, pairs: list[PreferencePair]
) -> RewardQuality:
    """Return what a reward model is worth.

    Args:
        model: Has learned.
        tokenizer: The model's.
        pairs: Held out.

    Raises:
        ValueError: If there are no pairs, or none differs in gold.
    """
    tokens = tokenize_pairs(pairs, tokenizer, chat=has_chat_tokens(tokenizer))
    chosen, rejected = pair_rewards(model, tokens)
    bins = reliability(chosen, rejected)
    gaps = torch.tensor([pair.gold_chosen - pair.gold_rejected for pair in pairs])
    unequal, right = gaps != 0, (chosen > rejected) == (gaps > 0)
    gold = torch.tensor([[p.gold_chosen, p.gold_rejected] for p in pairs])
    both = torch.stack((gold.flatten(), torch.stack((chosen, rejected), 1).flatten()))
    return RewardQuality(
        accuracy=pair_accuracy(model, tokens),
        ceiling=agreement_rate(pairs),
        with_gold=right[unequal].double().mean().item(),
        bins=tuple(bins),
        calibration_error=expected_calibration_error(bins),
        correlation=both.double().corrcoef()[0, 1].nan_to_num().item(),
    )


def measure(
    config: AlignConfig,
    start: Model,
    made: Model,
    reward_model: RewardModel,
    reward: RewardQuality,
    exam: AlignExam,
    stages: StageProgress | None = None,
) -> AlignQuality:
    """Return what a policy was before and after.

    Instructions are asked only of a policy that answers in conversations.

    Args:
        config: The recipe.
        start: The policy before, and its tokenizer.
        made: The same after.
        reward_model: Gives the proxy reward.
        reward: What it is worth.
        exam: How thoroughly to measure.
        stages: As in `make_aligned`.
    """
    tokenizer = start[1]
    chat = has_chat_tokens(tokenizer)
    prompts = exam_prompts(exam.n_prompts, tokenizer)
    proxy = text_reward(reward_model, tokenizer, chat=chat)
    before, after = (
        evaluate_policy(
            model[0],
            start[0],
            tokenizer,
            prompts,
            proxy,
            config.max_new_tokens,
            exam.seed,
            name=f"stories {name}",
            progress=stages,
        )
        for name, model in (("before", start), ("after", made))
    )
    scores = [
        _asked(model, exam, f"answers {name}", stages)
        for name, model in (("before", start), ("after", made))
        if chat and exam.n_per_kind
    ]
    return AlignQuality(
        before=before.summary(),
        after=after.summary(),
        gold=gain_of(before, after),
        n_prompts=exam.n_prompts,
        reward=reward,
        scores_before=scores[0] if scores else None,
        scores=scores[1] if scores else None,
        forgetting=forgetting(start, made, exam.n_stories, exam.seed),
    )
