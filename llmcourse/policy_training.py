"""The loop that PPO and GRPO share: answer, be judged, learn from it, again.

    prompts ── policy ── answers ──┬── reward      one score per answer
       ▲                           └── reference   log-probabilities of its tokens
       │                                 │
       └── some updates ── advantages ───┘          an iteration

The reference is the policy as it was at the start. It never changes, and the distance
to it, the KL divergence, says how much of what was learned before is still there.

Source: Ziegler et al. (2019), "Fine-tuning language models from human preferences";
Ouyang et al. (2022), section 3.5.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from llmcourse.experience import Experience, UpdateRecord
from llmcourse.fingerprints import texts_fingerprint, weights_fingerprint
from llmcourse.policy_checkpoints import load_policy_state, save_policy_state
from llmcourse.policy_config import PolicyConfig, PolicyIteration, PolicyProgress
from llmcourse.policy_losses import kl_k1
from llmcourse.policy_scores import Scorer
from llmcourse.prompts import Prompt
from llmcourse.reward_functions import RewardFunction
from llmcourse.rollouts import Decoder, Rollouts, sample_rollouts
from llmcourse.training import make_optimizer
from llmcourse.transformer import Transformer


class PolicyTrainer(ABC):
    """A policy that learns from a reward, iteration by iteration.

    Args:
        policy: Changed in place, where its weights are not frozen.
        prompts: Drawn from in each iteration, without repetition.
        reward: Scores the answers.
        config: How long and how fast.
        generator: Source of all randomness.
        tokenizer: Turns answers into text.
        stop: Ids that end an answer.
        reference: What the policy is to stay near; None takes a copy of it as it is.

    Raises:
        ValueError: If there are too few prompts, if one does not leave room for an
            answer, or if the whole policy is frozen.
    """

    def __init__(
        self,
        policy: Transformer,
        prompts: Sequence[Prompt],
        reward: RewardFunction,
        config: PolicyConfig,
        generator: torch.Generator,
        *,
        tokenizer: Decoder,
        stop: Collection[int] = (),
        reference: Transformer | None = None,
    ) -> None:
        _check(policy, prompts, config)
        self.policy, self.prompts, self.reward = policy, tuple(prompts), reward
        self.config, self.generator = config, generator
        self.tokenizer, self.stop = tokenizer, stop
        self.reference = deepcopy(policy) if reference is None else reference
        self.scorer, self.reference_scorer = Scorer(policy), Scorer(self.reference)
        self.optimizer = make_optimizer(policy, config.schedule())
        self.history: list[PolicyIteration] = []
        self.n_updates = 0

    @abstractmethod
    def judge(
        self, rollouts: Rollouts, scores: Tensor, reference_log_probs: Tensor
    ) -> Experience:
        """Return what there is to learn from answers with these scores (B,)."""

    @abstractmethod
    def update(self, part: Experience) -> UpdateRecord:
        """Make one update from some of the answers."""

    def iterate(self) -> PolicyIteration:
        """Answer, be judged and learn; return what was found.

        Raises:
            ValueError: If the reward gives no score, or more than one, to an answer.
            FloatingPointError: If a score, a probability, a loss or a gradient is not
                finite. The policy then has the weights from before that update.
        """
        rollouts = self._answer()
        scores = self._scores(rollouts)
        reference = self._of_reference(rollouts)
        penalty = self.config.unfinished_penalty * ~rollouts.finished
        experience = self.judge(rollouts, scores - penalty, reference)
        records = [self.update(experience.rows(rows)) for rows in self._minibatches()]
        values = [r.value_loss for r in records if r.value_loss is not None]
        kl = kl_k1(rollouts.log_probs, reference).sum(dim=1)
        self.history.append(
            PolicyIteration(
                iteration=len(self.history) + 1,
                reward=scores.mean().item(),
                kl=kl.mean().item(),
                entropy=fmean(record.entropy for record in records),
                clip_fraction=fmean(record.clip_fraction for record in records),
                value_loss=fmean(values) if values else None,
                length=rollouts.lengths.double().mean().item(),
                finished=rollouts.finished.double().mean().item(),
            )
        )
        return self.history[-1]

    def _answer(self) -> Rollouts:
        order = torch.randperm(len(self.prompts), generator=self.generator)
        chosen = order[: self.config.prompts_per_iteration].tolist()
        repeated = [n for n in chosen for _ in range(self.config.answers_per_prompt)]
        return sample_rollouts(
            self.policy,
            [self.prompts[number] for number in repeated],
            self.config.max_new_tokens,
            tokenizer=self.tokenizer,
            stop=self.stop,
            generator=self.generator,
        )

    @torch.no_grad()
    def _of_reference(self, rollouts: Rollouts) -> Tensor:
        size = self.config.minibatch_size
        ids, mask = rollouts.ids, rollouts.answer_mask
        parts = self.reference_scorer.in_parts(ids, mask, size)
        return torch.cat([scores.log_probs for scores in parts])

    def _scores(self, rollouts: Rollouts) -> Tensor:
        texts = [prompt.text for prompt in rollouts.prompts]
        scores = self.reward(texts, rollouts.texts).detach().float()
        if scores.shape != (len(rollouts),):
            raise ValueError(
                f"a reward must give {len(rollouts)} scores, one for each answer, "
                f"got the shape {tuple(scores.shape)}"
            )
        if not bool(scores.isfinite().all()):
            raise FloatingPointError(
                f"iteration {len(self.history) + 1} needs finite scores, "
                f"got {scores[~scores.isfinite()][0].item()}"
            )
        return scores.to(rollouts.ids.device)

    def _minibatches(self) -> list[Tensor]:
        """Return the rows of each update: every epoch in another order."""
        n, size = self.config.n_answers, self.config.minibatch_size
        order = [
            torch.randperm(n, generator=self.generator)
            for _ in range(self.config.epochs)
        ]
        return [rows[at : at + size] for rows in order for at in range(0, n, size)]

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on."""
        return {
            "history": [asdict(iteration) for iteration in self.history],
            "n_updates": self.n_updates,
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another trainer of the same run stood."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.history = [PolicyIteration(**found) for found in state["history"]]
        self.n_updates = state["n_updates"]

    def run(self) -> dict[str, Any]:
        """Return what must be the same to go on: names and plain values."""
        config = {f"config.{k}": v for k, v in asdict(self.config).items()}
        model = {f"model.{k}": v for k, v in asdict(self.policy.config).items()}
        own = {
            "method": type(self).__name__,
            "reference": weights_fingerprint(self.reference),
            "prompts": texts_fingerprint(str(prompt) for prompt in self.prompts),
            "stop": sorted(self.stop),
            "seed": self.generator.initial_seed(),
        }
        return own | config | model


def optimise(
    trainer: PolicyTrainer,
    *,
    progress: PolicyProgress | None = None,
    checkpoint_folder: str | Path | None = None,
    checkpoint_interval: int = 10,
) -> list[PolicyIteration]:
    """Make all iterations of a training, or those that are left; return the history.

    Args:
        trainer: Changed in place, and so is its policy.
        progress: Called with every iteration that is made.
        checkpoint_folder: Where the state is saved; if it holds checkpoints of this
            training already, it goes on from there, to the same bits. The reward is
            not compared: it must be the same too.
        checkpoint_interval: Iterations between two checkpoints.

    Raises:
        ValueError: If `checkpoint_interval` is not positive, if the folder's
            checkpoints are of another training, or as `PolicyTrainer.iterate`.
        FloatingPointError: As `PolicyTrainer.iterate`, or if a weight that is to be
            saved is not finite; the last checkpoint stays.
        OSError: If a checkpoint cannot be written.
    """
    if checkpoint_interval < 1:
        raise ValueError(
            f"checkpoint_interval must be positive, got {checkpoint_interval}"
        )
    run = trainer.run()
    if checkpoint_folder is not None:
        state = load_policy_state(checkpoint_folder, run)
        if state is not None:
            trainer.load_state_dict(state)
    iterations = trainer.config.iterations
    while (done := len(trainer.history)) < iterations:
        found = trainer.iterate()
        if progress:  # told first: what was saved is not told again
            progress(found)
        due = (done + 1) % checkpoint_interval == 0 or done + 1 == iterations
        if due and checkpoint_folder is not None:
            save_policy_state(checkpoint_folder, run, done + 1, trainer.state_dict())
    return trainer.history


def _check(
    policy: Transformer, prompts: Sequence[Prompt], config: PolicyConfig
) -> None:
    if len(prompts) < config.prompts_per_iteration:
        raise ValueError(
            f"an iteration needs {config.prompts_per_iteration} prompts, "
            f"got {len(prompts)}"
        )
    longest = max(len(prompt.ids) for prompt in prompts)
    if longest + config.max_new_tokens > policy.config.context_length:
        raise ValueError(
            "prompts and answers must fit into context_length = "
            f"{policy.config.context_length}, got {longest} + {config.max_new_tokens}"
        )
