"""How a policy learns from a reward, and what each iteration of it found."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from llmcourse.schedule import PretrainingConfig

_FROM_ZERO = {
    *("warmup_updates", "cooldown", "kl_weight", "unfinished_penalty"),
    *("discount", "trace", "entropy_weight"),
}


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """How long and how fast a policy learns from a reward."""

    iterations: int = 40
    prompts_per_iteration: int = 16
    answers_per_prompt: int = 4  # side by side; GRPO's group
    max_new_tokens: int = 200  # of an answer
    learning_rate: float | int = 3e-4
    warmup_updates: int = 10
    cooldown: float | int = 0.0  # last share of it, where learning_rate falls to 0
    clip_norm: float | int = 1.0
    epochs: int = 2  # times that each answer is learned from
    minibatch_size: int = 16  # answers of one update
    clip: float | int = 0.2  # how far a token's probability may move, as a ratio
    kl_weight: float | int = 0.05  # in points per nat
    unfinished_penalty: float | int = 0.0  # points taken from an answer without end

    def __post_init__(self) -> None:
        """Raise ValueError for a value that no training can have."""
        for name, value in vars(self).items():
            if isinstance(value, bool | str):
                continue
            least = 0 if name in _FROM_ZERO else math.ulp(0.0)
            if not value >= least:
                wanted = "at least 0" if name in _FROM_ZERO else "positive"
                raise ValueError(f"{name} must be {wanted}, got {value}")
        if self.cooldown > 1:
            raise ValueError(f"cooldown must be at most 1, got {self.cooldown}")

    @property
    def n_answers(self) -> int:
        """Answers of one iteration."""
        return self.prompts_per_iteration * self.answers_per_prompt

    @property
    def updates_per_iteration(self) -> int:
        """Updates of the policy in one iteration."""
        return self.epochs * math.ceil(self.n_answers / self.minibatch_size)

    def schedule(
        self, update: int = 0, learning_rate: float | int | None = None
    ) -> PretrainingConfig:
        """Return what `training.update_weights` needs for an update.

        The learning rate is constant after warm-up, until it falls in a straight line.

        Args:
            update: Updates made before.
            learning_rate: Another one than the policy's.

        >>> config = PolicyConfig(iterations=5, cooldown=0.8, epochs=1,
        ...     prompts_per_iteration=1, learning_rate=1.0)
        >>> [config.schedule(update).learning_rate for update in range(5)]
        [1.0, 1.0, 0.75, 0.5, 0.25]
        """
        steps = self.iterations * self.updates_per_iteration
        falling = max(1, self.cooldown * steps)
        pace = min(1.0, (steps - update) / falling)
        return PretrainingConfig(
            steps=steps,
            learning_rate=pace * (learning_rate or self.learning_rate),
            final_share=1.0,
            warmup_steps=self.warmup_updates,
            weight_decay=0.0,
            clip_norm=self.clip_norm,
        )


@dataclass(frozen=True, kw_only=True)
class PolicyIteration:
    """What an iteration found; rewards and KL are from before its updates."""

    iteration: int  # 1 is the first
    reward: float  # mean of the answers' scores, in points, without any penalty
    kl: float  # divergence from the reference, in nats per answer, estimated by k1
    entropy: float  # mean uncertainty of the tokens, in nats per token
    clip_fraction: float  # share of the tokens whose gradient clipping stopped
    value_loss: float | None  # of the critic, in squared points; None without one
    length: float  # mean, in tokens, end tokens included
    finished: float  # share of the answers that came to their end


PolicyProgress: TypeAlias = Callable[[PolicyIteration], None]
