"""Proximal policy optimisation: a critic says which tokens of an answer were good.

    reward of a token   = −kl_coef · (log π − log π_ref)      and, at the last one,
                          the answer's score
    critic              the reward still to come, estimated before each token
    advantage           gae, whitened

The penalty is paid token by token, so the policy learns at which word it left the
reference; the score comes once, and the critic's job is to say which words earned it.

Source: Schulman et al. (2017), "Proximal policy optimization algorithms"; Ziegler et
al. (2019), equation 2 (the penalty). Unlike theirs, the critic is a small network on
the policy's features, with an optimizer of its own, so it costs next to nothing.
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
from llmcourse.alignment.rollouts import Rollouts, Scores, ValueHead
from llmcourse.model.transformer import Transformer
from llmcourse.training.checkpoints import Run, Stateful
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.loop import update_weights
from llmcourse.training.optimizers import make_optimizer


@dataclass(frozen=True, kw_only=True)
class PPOConfig(PolicyConfig):
    """How long and how fast a policy learns by PPO."""

    method: ClassVar[str] = "ppo"

    gamma: float | int = 1.0  # γ, discount per token; 1: later rewards count in full
    gae_lambda: float | int = 0.95  # λ of the advantage estimates
    value_learning_rate: float | int = 1e-3  # of the critic


class PPO(PolicyTrainer):
    """A policy that learns by PPO, and its critic. Arguments as in `PolicyTrainer`."""

    config: PPOConfig

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        policy = self.policy
        self.value_head = ValueHead(policy.config.d_model, self.generator)
        self.value_head.to(policy.embedding.weight.device)
        self.value_optimizer = make_optimizer(self.value_head, self._value_schedule())

    def _value_schedule(self) -> PretrainingConfig:
        return self.config.schedule(self.n_updates, self.config.value_learning_rate)

    def compute_advantages(
        self, rollouts: Rollouts, scores: Tensor, reference_log_probs: Tensor
    ) -> dict[str, Tensor]:
        """Return an advantage for each token, and the critic's targets.

        Args:
            rollouts: The answers.
            scores: Of the answers, in points.
            reference_log_probs: Of their tokens, in nats.
        """
        mask = rollouts.answer_mask
        if not self.history:  # the critic starts from the mean score, not zero
            torch.nn.init.constant_(self.value_head.output.bias, scores.mean().item())
        values = self._values(rollouts)
        old, config = rollouts.log_probs, self.config
        rewards = token_rewards(scores, old, reference_log_probs, mask, config.kl_coef)
        advantages = losses.gae(rewards, values, mask, config.gamma, config.gae_lambda)
        return {
            "advantages": losses.whiten(advantages, mask),
            "returns": advantages + values,
        }

    @torch.no_grad()
    def _values(self, rollouts: Rollouts) -> Tensor:
        mask, size = rollouts.answer_mask, self.config.minibatch_size
        parts = self.scorer.in_parts(rollouts.ids, mask, size)
        values = [self.value_head(scores.features) for scores in parts]
        return losses.spread(torch.cat(values), mask)

    def policy_loss(self, now: Scores, part: RolloutBatch) -> losses.PolicyLoss:
        """Return the clipped loss of some answers."""
        old, epsilon = part.log_probs, self.config.clip_range
        return losses.ppo_policy_loss(
            now.log_probs, old, part.advantages, part.mask, epsilon
        )

    def update_critic(
        self, now: Scores, part: RolloutBatch, share: float
    ) -> list[float]:
        """Make one update of the critic; return its loss as a list."""
        assert part.returns is not None
        errors = losses.spread(self.value_head(now.features), part.mask) - part.returns
        loss = 0.5 * losses.masked_average(errors.square(), part.mask)
        critic, optimizer, step = self.value_head, self.value_optimizer, self.n_updates
        schedule = self._value_schedule()
        update_weights(critic, optimizer, [share * loss], step, schedule)
        return [loss.item()]

    def parts(self) -> dict[str, Stateful]:
        """Return what a checkpoint holds, including the critic."""
        return super().parts() | {
            "value_head": self.value_head,
            "value_optimizer": self.value_optimizer,
        }


def token_rewards(
    scores: Tensor,
    log_probs: Tensor,
    reference_log_probs: Tensor,
    mask: Tensor,
    kl_coef: float | int,
) -> Tensor:
    """Return each token's reward: minus the KL penalty, plus the score at the last one.

    Args:
        scores: Of the answers (B,), in points.
        log_probs: Of the tokens (B, T) under the policy that sampled them.
        reference_log_probs: Under the reference.
        mask: True on the tokens.
        kl_coef: Points per nat.

    Source: Ziegler et al. (2019), equation 2; Ouyang et al. (2022), equation 2.

    >>> log_probs, mask = torch.tensor([[0.0, -1.0, -1.0]]), torch.ones(1, 3).bool()
    >>> token_rewards(torch.tensor([5.0]), log_probs, log_probs - 1, mask, 0.1)
    tensor([[-0.1000, -0.1000,  4.9000]])
    """
    penalty = kl_coef * losses.kl_k1(log_probs, reference_log_probs)
    after = mask.flip(1).cumsum(dim=1).flip(1)  # tokens from here on
    last = mask & (after == 1)
    return torch.where(last, scores[:, None], 0.0) - penalty.where(mask, 0.0)


def ppo(
    policy: Transformer,
    prompts: Sequence[Prompt],
    reward: RewardFunction,
    config: PPOConfig,
    generator: torch.Generator,
    *,
    run: Run = Run(),
    **others: Any,
) -> list[PolicyIteration]:
    """Train a policy in place by PPO; return the measurements of each iteration.

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
    return PPO(policy, prompts, reward, config, generator, **others).train(run)
