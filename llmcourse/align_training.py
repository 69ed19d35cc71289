"""The two trainings of `aligned-llm`: of the reward model, and of the policy by it.

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

from llmcourse.align_prompts import make_prompts
from llmcourse.align_recipe import AlignConfig, Preferences, collect
from llmcourse.answering import has_chat_tokens
from llmcourse.dpo import DPOConfig, dpo
from llmcourse.files import new_file
from llmcourse.fingerprints import weights_fingerprint
from llmcourse.grpo import GRPOConfig, grpo
from llmcourse.packing import tokenizer_fingerprint
from llmcourse.policy_config import PolicyIteration
from llmcourse.ppo import ppo
from llmcourse.preference_examples import end_of_answer, tokenize_pairs
from llmcourse.preferences import Pair
from llmcourse.pretrained import load_pretrained
from llmcourse.progress import StageProgress, TrainingProgress
from llmcourse.reward_functions import RewardFunction
from llmcourse.reward_model import RewardModel, train_reward_model
from llmcourse.reward_scores import centre, text_reward
from llmcourse.same_recipe import check_same_recipe
from llmcourse.surprise_embedding import Reader
from llmcourse.tokenization import BPETokenizer
from llmcourse.training_log import Evaluation, History, Record
from llmcourse.transformer import Transformer

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
    parts: dict[str, list[Pair]] = {"train": [], "valid": []}
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        found = dict(json.loads(first))
        for line in lines:
            values = json.loads(line)
            parts[values.pop("part")].append(Pair(**values))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} must hold pairs, got: {error}") from error
    refusal = f"{str(path)!r} holds pairs of another recipe or policy"
    check_same_recipe(refusal, found, recipe)
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
    checkpoint_folder: str | Path | None = None,
    progress: TrainingProgress | None = None,
) -> Taught:
    """Return a reward model that starts as the policy and learns from the pairs.

    Its zero is the mean reward of held-out answers.

    Args:
        config: Says how long and how fast.
        policy: Stays as it is.
        tokenizer: The policy's.
        found: The pairs.
        checkpoint_folder: As in `train_reward_model`, like `progress`.
        progress: See there.

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
        progress=progress,
        checkpoint_folder=checkpoint_folder,
        checkpoint_interval=config.reward.eval_interval,
        tokenizer=tokenizer_fingerprint(tokenizer),
    )
    texts = [text for pair in valid for text in pair.texts()]
    centre(model.eval(), texts[:_N_CENTRED])
    return Taught(model=model, history=history)


def reader_of(config: AlignConfig, tokenizer: BPETokenizer) -> Reader | None:
    """Return who tells the reward model how surprising each token is, if anyone does.

    Args:
        config: Names the reader.
        tokenizer: The policy's.

    Raises:
        ValueError: If there is no such model, or if it has other tokens.
    """
    if config.reader is None:
        return None
    return Reader.of(*load_pretrained(config.reader), tokenizer)


def align(
    config: AlignConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    found: Preferences,
    reward_model: RewardModel,
    checkpoint_folder: str | Path | None = None,
    progress: TrainingProgress | None = None,
    checkpoint_interval: int = 5,
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
        checkpoint_folder: To go on from there.
        progress: Called with what happens.
        checkpoint_interval: Iterations between two checkpoints, of PPO and GRPO.
        proxy: In place of the reward model's own rewards; to watch what is asked, say.

    Raises:
        ValueError: As `dpo`, `ppo` and `grpo`.
        FloatingPointError: See there.
        OSError: See there.
    """
    chat, training = has_chat_tokens(tokenizer), config.training
    generator = torch.Generator().manual_seed(config.seed)
    if isinstance(training, DPOConfig):
        places = checkpoint_folder, progress
        return _dpo(training, policy, tokenizer, found, generator, *places)

    def tell(iteration: PolicyIteration) -> None:
        if progress is not None:
            progress(as_record(iteration))

    options: dict[str, Any] = {
        "tokenizer": tokenizer,
        "stop": [end_of_answer(tokenizer, chat=chat)],
        "progress": tell,
        "checkpoint_folder": checkpoint_folder,
        "checkpoint_interval": checkpoint_interval,
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
    checkpoint_folder: str | Path | None,
    progress: TrainingProgress | None,
) -> list[Record]:
    train, valid = (
        tokenize_pairs(part, tokenizer, chat=has_chat_tokens(tokenizer))
        for part in (found.train, found.valid)
    )
    history = dpo(
        policy,
        train,
        valid[: training.eval_windows],
        training,
        generator,
        progress=progress,
        checkpoint_folder=checkpoint_folder,
        checkpoint_interval=training.eval_interval,
        reference=deepcopy(policy).eval(),
        tokenizer=tokenizer_fingerprint(tokenizer),
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
