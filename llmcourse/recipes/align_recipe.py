"""How `aligned-llm` is made of `instruct-llm`: what is asked, compared and learned.

    orders ── policy ── four answers each ── annotator ── pairs ──┬── reward model
                                                                  └── DPO
    orders ── policy ── answers ── reward model ── PPO or GRPO

The policy answers orders to write a story; a policy that has never seen a conversation
is given the first words of stories instead. The annotator errs as often as the recipe
says. The gold reward behind the annotator is never shown to what learns.

Source: Ouyang et al. (2022), section 3.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, comb
from typing import Any, TypeAlias

import torch

from llmcourse.alignment.dpo import DPOConfig
from llmcourse.alignment.grpo import GRPOConfig
from llmcourse.alignment.ppo import PPOConfig
from llmcourse.alignment.preferences import (
    EXAM_SEED,
    PreferencePair,
    Prompt,
    end_of_answer,
    make_prompts,
    sample_pairs,
)
from llmcourse.alignment.reward_model import Pooling, RewardConfig
from llmcourse.alignment.rollouts import sample_rollouts
from llmcourse.finetuning.answering import has_chat_tokens
from llmcourse.model.transformer import Transformer
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import CountProgress, StageProgress

Training: TypeAlias = PPOConfig | GRPOConfig | DPOConfig

_AT_ONCE = 64  # answers that are written side by side


@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """What is compared, by whom, and how the policy learns from it."""

    policy: str = "instruct-llm"  # a model's folder, or the name of a shipped one
    n_prompts: int = 750  # whose answers are compared for training
    n_held_out: int = 125  # the same, to see what the reward model is worth
    answers_per_prompt: int = 4
    pairs_per_prompt: int = 6  # all that four answers make
    agreement: float | int = 0.85  # how often the annotator agrees with gold
    max_new_tokens: int = 260  # of an answer
    reward: RewardConfig = field(default_factory=RewardConfig)
    pooling: Pooling = "mean"  # of the reward model
    reader: str | None = None  # who tells it how surprising each token is, as `policy`
    training: Training = field(default_factory=GRPOConfig)
    n_training_prompts: int = 1000  # that PPO and GRPO draw from
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that no training can have."""
        least = {"n_held_out": 1, "answers_per_prompt": 2, "pairs_per_prompt": 1}
        least["n_prompts"] = self._fewest_prompts()
        if not isinstance(self.training, DPOConfig):
            least["n_training_prompts"] = self.training.prompts_per_iteration
        for name, smallest in least.items():
            if (got := getattr(self, name)) < smallest:
                raise ValueError(f"{name} must be at least {smallest}, got {got}")
        if not 0.5 <= self.agreement <= 1:
            raise ValueError(
                f"agreement must be between 0.5 and 1, got {self.agreement}"
            )
        if {self.seed, self.seed + 2} & {EXAM_SEED, EXAM_SEED + 1}:
            raise ValueError(f"seed must not be one of the exam's, got {self.seed}")

    def _fewest_prompts(self) -> int:
        """Return of how many prompts there are pairs enough for whole batches."""
        pairs = max(1, min(self.pairs_per_prompt, comb(self.answers_per_prompt, 2)))
        needed = [self.reward.batch_size / (1 if self.reward.by_prompt else pairs)]
        if isinstance(self.training, DPOConfig):
            needed.append(self.training.batch_size / pairs)
        return ceil(max(needed))

    @property
    def method(self) -> str:
        """Name of the method: ppo, grpo or dpo."""
        return self.training.method


_REWARD = RewardConfig(
    steps=285,
    batch_size=16,
    learning_rate=7e-4,
    warmup_steps=20,
    eval_interval=95,
    eval_examples=100,
    precision="bfloat16",
)
_POLICY: dict[str, Any] = {
    "iterations": 400,
    "prompts_per_iteration": 8,
    "answers_per_prompt": 8,
    "minibatch_size": 32,
    "epochs": 1,
    "learning_rate": 3e-4,
    "cooldown": 0.2,
    "kl_coef": 0.02,
    "max_new_tokens": 260,
}
_DPO = DPOConfig(
    steps=280,
    batch_size=16,
    learning_rate=1e-4,
    warmup_steps=20,
    eval_interval=140,
    eval_examples=64,
    precision="bfloat16",
)
_ALIGNED_LLM = AlignConfig(
    n_prompts=2000,
    reward=replace(_REWARD, steps=750, eval_interval=125),
    pooling="mean and max",
    reader="base-llm",
)
ALIGNED_LLM = {
    "ppo": replace(_ALIGNED_LLM, training=PPOConfig(**_POLICY)),
    "grpo": replace(_ALIGNED_LLM, training=GRPOConfig(**_POLICY)),
    "dpo": replace(_ALIGNED_LLM, training=_DPO),
}
"""The model that people like better, by method.

The reward model reads its pairs once. Groups are large and steps small, because the
reward is mostly noise: with four answers to a prompt, and an update for every eight,
the gold reward fell. It takes some 95 minutes on two cores without instructions for
bfloat16. DPO, which no surprises are told, gets less far.
"""

_STUDY_POLICY = _POLICY | {
    "iterations": 30,
    "cooldown": 0,
    "answers_per_prompt": 4,
    "minibatch_size": 8,
    "learning_rate": 5e-4,
}
STUDY = {
    "ppo": AlignConfig(reward=_REWARD, training=PPOConfig(**_STUDY_POLICY)),
    "grpo": AlignConfig(reward=_REWARD, training=GRPOConfig(**_STUDY_POLICY)),
    "dpo": AlignConfig(
        reward=_REWARD, training=replace(_DPO, steps=120, learning_rate=6e-4)
    ),
}
"""What the trainings of `rlhf_study` have in common: quick, from reward to reward."""

_QUICK: dict[str, Any] = {"steps": 2, "batch_size": 4, "warmup_steps": 1}
_QUICK |= {"eval_interval": 1, "eval_examples": 4}
_TINY: dict[str, Any] = {
    "n_prompts": 6,
    "n_held_out": 3,
    "max_new_tokens": 12,
    "n_training_prompts": 6,
    "reward": RewardConfig(**_QUICK),
}
_TINY_POLICY: dict[str, Any] = {
    "iterations": 2,
    "prompts_per_iteration": 2,
    "answers_per_prompt": 2,
    "max_new_tokens": 12,
    "minibatch_size": 2,
    "epochs": 1,
}
TINY = {
    "ppo": AlignConfig(**_TINY, training=PPOConfig(**_TINY_POLICY)),
    "grpo": AlignConfig(**_TINY, training=GRPOConfig(**_TINY_POLICY)),
    "dpo": AlignConfig(**_TINY, training=DPOConfig(**_QUICK)),
}
"""A few seconds: to see that everything works, not that anything is learned."""

PRESETS = {"aligned-llm": ALIGNED_LLM, "study": STUDY, "tiny": TINY}


def preset(name: str, method: str) -> AlignConfig:
    """Return the recipe of that name, by that method.

    Raises:
        ValueError: If there is none.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    if method not in PRESETS[name]:
        known = ", ".join(PRESETS[name])
        raise ValueError(f"method must be one of {known}, got {method!r}")
    return PRESETS[name][method]


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """Pairs to learn from and pairs held out: of other prompts."""

    train: list[PreferencePair]
    valid: list[PreferencePair]


def collect(
    config: AlignConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    progress: StageProgress | None = None,
) -> Preferences:
    """Let the policy answer, and return what the annotator prefers.

    An answer that was cut off is read as one that ended there.

    Args:
        config: Says how many, and how good the annotator is.
        policy: Writes the answers, at temperature 1.
        tokenizer: The policy's.
        progress: Called with "answers to compare" or "answers held out", how many are
            there, and of how many.

    Raises:
        ValueError: If no prompt has two different answers, if all of them are worth
            the same, or as `sample_rollouts`.
    """
    train = _pairs(config, policy, tokenizer, config.n_prompts, config.seed, progress)
    valid = held_out_pairs(config, policy, tokenizer, progress)
    return Preferences(train=train, valid=valid)


def held_out_pairs(
    config: AlignConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    progress: StageProgress | None = None,
) -> list[PreferencePair]:
    """Return pairs of prompts of the exam's own seed. Arguments as in `collect`."""
    n, seed = config.n_held_out, EXAM_SEED + 1
    return _pairs(config, policy, tokenizer, n, seed, progress, "answers held out")


def _pairs(
    config: AlignConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    n: int,
    seed: int,
    progress: StageProgress | None,
    name: str = "answers to compare",
) -> list[PreferencePair]:
    prompts = make_prompts(n, seed, tokenizer)
    generator = torch.Generator().manual_seed(seed)
    told = None if progress is None else partial(progress, name)
    answered = list(_answers(config, policy, tokenizer, prompts, generator, told))
    return _compare(config, answered, generator)


def _answers(
    config: AlignConfig,
    policy: Transformer,
    tokenizer: BPETokenizer,
    prompts: Sequence[Prompt],
    generator: torch.Generator,
    told: CountProgress | None,
) -> Iterator[tuple[str, list[str]]]:
    """Yield each prompt with its answers."""
    n = config.answers_per_prompt
    stop = [end_of_answer(tokenizer, chat=has_chat_tokens(tokenizer))]
    size = max(1, _AT_ONCE // n)
    for start in range(0, len(prompts), size):
        part = prompts[start : start + size]
        written = sample_rollouts(
            policy,
            [prompt for prompt in part for _ in range(n)],
            config.max_new_tokens,
            tokenizer=tokenizer,
            stop=stop,
            generator=generator,
        )
        for number, prompt in enumerate(part):
            yield prompt.text, [*written.texts[number * n : (number + 1) * n]]
        if told is not None:
            told(n * (start + len(part)), n * len(prompts))


def _compare(
    config: AlignConfig,
    answered: Sequence[tuple[str, list[str]]],
    generator: torch.Generator,
) -> list[PreferencePair]:
    comparable = [(prompt, texts) for prompt, texts in answered if len({*texts}) > 1]
    if not comparable:
        raise ValueError(
            f"wanted prompts with two different answers, got none among {len(answered)}"
        )
    return sample_pairs(
        comparable,
        generator,
        agreement=config.agreement,
        pairs_per_prompt=config.pairs_per_prompt,
    )
