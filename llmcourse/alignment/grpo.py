"""Group-relative policy optimisation: no critic; answers are compared instead.

    prompt ──┬── answer    score 7    advantage  +
             ├── answer    score 4    advantage  −
             └── answer    score 4    advantage  −

Every prompt is answered several times. An answer that is better than the mean of
its group becomes more probable, all its tokens alike. The distance to the reference is
part of the loss.

Source: Shao et al. (2024), "DeepSeekMath", section 4.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from llmcourse.alignment import losses
from llmcourse.alignment.policy import (
    PolicyConfig,
    PolicyIteration,
    PolicyTrainer,
    RolloutBatch,
)
from llmcourse.alignment.preferences import Prompt
from llmcourse.alignment.reward_model import RewardFunction
from llmcourse.alignment.rollouts import Rollouts, Scores
from llmcourse.arguments import check_one_of, check_range
from llmcourse.model.transformer import Transformer
from llmcourse.training.checkpoints import Run


@dataclass(frozen=True, kw_only=True)
class GRPOConfig(PolicyConfig):
    """How long and how fast a policy learns by GRPO; `kl_coef` 0 means no KL."""

    method: ClassVar[str] = "grpo"

    scale: bool = True  # divide by the group's deviation; Dr. GRPO: False
    averaging: losses.Averaging = "sequence"  # each answer alike; or each "token"

    def __post_init__(self) -> None:
        """Raise ValueError for an impossible setting."""
        super().__post_init__()
        check_range(2, answers_per_prompt=self.answers_per_prompt)  # to compare
        check_one_of("averaging", self.averaging, ("token", "sequence"))


class GRPO(PolicyTrainer):
    """A policy that learns by GRPO. Arguments as in `PolicyTrainer`."""

    config: GRPOConfig

    def compute_advantages(
        self, rollouts: Rollouts, scores: Tensor, reference_log_probs: Tensor
    ) -> dict[str, Tensor]:
        """Return the advantage of each answer.

        Args:
            rollouts: The answers, those to one prompt in succession.
            scores: Of the answers, in points.
            reference_log_probs: Of their tokens, in nats.
        """
        size, scale = self.config.answers_per_prompt, self.config.scale
        return {"advantages": losses.group_advantages(scores, size, scale=scale)}

    @property
    def averaging(self) -> losses.Averaging:
        """How the policy's loss weighs the tokens of long and short answers."""
        return self.config.averaging

    def policy_loss(self, now: Scores, part: RolloutBatch) -> losses.PolicyLoss:
        """Return the loss of some answers, the distance to the reference included."""
        return losses.grpo_loss(
            now.log_probs,
            part.log_probs,
            part.reference_log_probs,
            part.advantages,
            part.mask,
            clip_range=self.config.clip_range,
            kl_coef=self.config.kl_coef,
            averaging=self.averaging,
        )


def grpo(
    policy: Transformer,
    prompts: Sequence[Prompt],
    reward: RewardFunction,
    config: GRPOConfig,
    generator: torch.Generator,
    *,
    run: Run = Run(),
    **others: Any,
) -> list[PolicyIteration]:
    """Train a policy in place by GRPO; return the measurements of each iteration.

    Args:
        policy: Changed in place, except for frozen weights.
        prompts: Sampled in each iteration, without replacement.
        reward: Scores the answers.
        config: How long and how fast.
        generator: Source of all randomness.
        run: Where to save checkpoints and report progress; its interval counts
            iterations.
        others: For `PolicyTrainer`: tokenizer, stop, texts.

    Raises:
        ValueError: As in `PolicyTrainer` and `PolicyTrainer.train`.
        FloatingPointError: If a score, a loss or a gradient is not finite.
        OSError: If a checkpoint cannot be written.
    """
    return GRPO(policy, prompts, reward, config, generator, **others).train(run)
