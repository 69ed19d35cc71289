"""The loop of PPO and GRPO: sample, reward, advantages, loss, step, and again.

    prompts ── policy ── answers ──┬── reward      one score per answer
       ▲                           └── reference   log-probabilities of its tokens
       │                                 │
       └── some updates ── advantages ───┘          an iteration

`PolicyTrainer.iterate` is that picture in code; `compute_advantages` and `policy_loss`
are where the methods differ, see `ppo` and `grpo`. The reference is the policy as it
was at the start. It never changes, and the distance to it, the KL divergence, says how
much of what was learned before is still there.

With `ptx_coef` each update also learns from texts like those that the policy learned
from earlier, so that less is forgotten: PPO-ptx.

Source: Ziegler et al. (2019), "Fine-tuning language models from human preferences";
Ouyang et al. (2022), section 3.5 (equation 2 has PPO-ptx).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import chain
from statistics import fmean
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmcourse.alignment import losses
from llmcourse.alignment.preferences import Prompt
from llmcourse.alignment.reward_model import RewardFunction
from llmcourse.alignment.rollouts import (
    Rollouts,
    Scorer,
    Scores,
    check_room,
    sample_rollouts,
)
from llmcourse.arguments import (
    check_ids,
    check_multiple,
    check_one_of,
    check_positive,
    check_range,
)
from llmcourse.finetuning.examples import TokenizedExample, examples_fingerprint
from llmcourse.finetuning.finetuning import FinetuningConfig, answer_loss
from llmcourse.model.transformer import Transformer
from llmcourse.text.tokenizers import Tokenizer
from llmcourse.training import checkpoints, parallel
from llmcourse.training.checkpoints import Run, Stateful
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.loop import update_weights
from llmcourse.training.optimizers import make_optimizer


@dataclass(frozen=True, eq=False)
class RolloutBatch:
    """Answers side by side, with all that the loss needs.

    >>> ids, numbers = torch.tensor([[7, 8, 0], [7, 8, 9]]), torch.zeros(2, 3)
    >>> mask = torch.tensor([[False, True, False], [False, True, True]])
    >>> whole = RolloutBatch(ids, mask, numbers, numbers, advantages=torch.ones(2))
    >>> whole.rows(torch.tensor([0])).ids
    tensor([[7, 8]])
    """

    ids: Int[Tensor, "batch position"]
    mask: losses.Mask
    log_probs: losses.PerToken  # under the policy that sampled the answers, in nats
    reference_log_probs: losses.PerToken
    advantages: losses.PerToken | Float[Tensor, "batch"]  # of tokens, or answers
    returns: losses.PerToken | None = None  # the critic's targets

    def rows(self, chosen: Int[Tensor, "row"]) -> "RolloutBatch":
        """Return some of the answers, cut to the longest of them."""
        width = int(self.mask[chosen].any(dim=0).nonzero().max()) + 1
        parts = {
            name: part[chosen] if part.ndim == 1 else part[chosen, :width]
            for name, part in vars(self).items()
            if part is not None
        }
        return RolloutBatch(**parts)

    def weight(self, averaging: losses.Averaging) -> int:
        """Return what the answers weigh in a mean: the number of tokens or answers."""
        counted = self.mask if averaging == "token" else self.mask.any(dim=1)
        return int(counted.sum())


# Settings that may be 0, including those of PPO; shares are at most 1.
_COEFFICIENTS = ("warmup_updates", "kl_coef", "ptx_coef")
_SHARES = ("cooldown", "gamma", "gae_lambda")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """How long and how fast a policy learns from a reward."""

    iterations: int = 40  # of writing answers and learning from them
    prompts_per_iteration: int = 16
    answers_per_prompt: int = 4  # side by side; GRPO's group
    max_new_tokens: int = 200  # of an answer
    learning_rate: float | int = 3e-4  # at its peak
    warmup_updates: int = 10  # in which the learning rate rises to its peak
    cooldown: float | int = 0.0  # share of updates at the end: learning_rate falls to 0
    clip_norm: float | int = 1.0  # longest gradient; longer ones are shortened to it
    epochs: int = 2  # times each answer is learned from
    minibatch_size: int = 16  # answers per update
    clip_range: float | int = 0.2  # how far a token's probability may move, as a ratio
    # Both in points per nat; where GRPO divides by a deviation, in deviations per nat.
    kl_coef: float | int = 0.05
    ptx_coef: float | int = 0.0  # weight of the loss on earlier texts
    ptx_batch_size: int = 8  # of those texts, per update
    precision: Literal["float32", "bfloat16"] = "float32"  # of updates, not of samples

    def __post_init__(self) -> None:
        """Raise ValueError for an impossible setting."""
        check_one_of("precision", self.precision, ("float32", "bfloat16"))
        for name, value in vars(self).items():
            if name in _COEFFICIENTS + _SHARES:
                check_range(0, 1.0 if name in _SHARES else math.inf, **{name: value})
            elif not isinstance(value, bool | str):
                check_positive(**{name: value})

    @property
    def n_answers(self) -> int:
        """Answers of one iteration."""
        return self.prompts_per_iteration * self.answers_per_prompt

    def schedule(
        self, update: int = 0, learning_rate: float | int | None = None
    ) -> PretrainingConfig:
        """Return what `loop.update_weights` needs for an update.

        The learning rate is constant after warm-up, until it falls linearly.

        Args:
            update: Number of updates made before.
            learning_rate: Replaces the policy's.

        >>> config = PolicyConfig(iterations=5, cooldown=0.8, epochs=1,
        ...     prompts_per_iteration=1, learning_rate=1.0)
        >>> [config.schedule(update).learning_rate for update in range(5)]
        [1.0, 1.0, 0.75, 0.5, 0.25]
        """
        updates = self.epochs * math.ceil(self.n_answers / self.minibatch_size)
        steps = self.iterations * updates
        falling = max(1, self.cooldown * steps)
        pace = min(1.0, max(1, steps - update) / falling)  # above 0 even after the last
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
    """Measurements of one iteration; rewards and KL are from before its updates."""

    iteration: int  # 1 is the first
    reward: float  # mean of the answers' scores, in points
    kl: float  # divergence from the reference, in nats per answer, estimated by k1
    entropy: float  # mean uncertainty of the tokens, in nats per token
    clip_fraction: float  # share of the tokens whose gradient clipping stopped
    value_loss: float | None  # of the critic, in squared points; None without one
    length: float  # mean, in tokens, end tokens included
    finished: float  # share of the answers that reached their end


class PolicyTrainer(ABC):
    """A policy that learns from a reward, iteration by iteration.

    Args:
        policy: Changed in place, except for frozen weights.
        prompts: Sampled in each iteration, without replacement.
        reward: Scores the answers.
        config: How long and how fast.
        generator: Source of all randomness.
        tokenizer: Turns answers into text.
        stop: Ids that end an answer.
        texts: Like those it learned from before, for `ptx_coef`.

    Raises:
        ValueError: If there are too few prompts, if one leaves no room for an answer or
            has unknown ids, if the whole policy is frozen, if `ptx_coef` has no texts,
            or if the processes of `parallel` cannot share the answers.
    """

    def __init__(
        self,
        policy: Transformer,
        prompts: Sequence[Prompt],
        reward: RewardFunction,
        config: PolicyConfig,
        generator: torch.Generator,
        tokenizer: Tokenizer,
        stop: Collection[int] = (),
        texts: Sequence[TokenizedExample] = (),
    ) -> None:
        check_room(policy, prompts, config.max_new_tokens)
        for what, given in (("prompts", prompts), ("texts", texts)):
            for one in given:
                check_range(1, policy.config.context_length, **{what: len(one.ids)})
                check_ids(what, torch.as_tensor(one.ids), policy.config.vocab_size)
        check_range(config.prompts_per_iteration, n_prompts=len(prompts))
        if config.ptx_coef and not texts:
            raise ValueError(f"ptx_coef {config.ptx_coef} needs texts, got none")
        n = parallel.n_processes()
        check_multiple(n_answers=config.n_answers, processes=n)
        check_multiple(minibatch_size=config.minibatch_size, processes=n)
        if config.ptx_coef:
            check_multiple(ptx_batch_size=config.ptx_batch_size, processes=n)
        self.texts = tuple(texts)
        self.policy, self.prompts, self.reward = policy, tuple(prompts), reward
        self.config, self.generator = config, generator
        self.tokenizer, self.stop = tokenizer, stop
        self.reference = deepcopy(policy)  # what it should stay near
        self.scorer = Scorer(policy, config.precision)
        self.reference_scorer = Scorer(self.reference, config.precision)
        self.optimizer = make_optimizer(policy, config.schedule())
        self.history: list[PolicyIteration] = []
        self.n_updates = 0

    @property
    def averaging(self) -> losses.Averaging:
        """How the policy's loss weighs the tokens of long and short answers."""
        return "token"

    @abstractmethod
    def compute_advantages(
        self, rollouts: Rollouts, scores: Tensor, reference_log_probs: Tensor
    ) -> dict[str, Tensor]:
        """Return the answers' advantages, given scores (B,), and what goes with them.

        The keys are fields of `RolloutBatch`.
        """

    @abstractmethod
    def policy_loss(self, now: Scores, part: RolloutBatch) -> losses.PolicyLoss:
        """Return the loss of some answers, from what the policy says of them now."""

    def update_critic(
        self, now: Scores, part: RolloutBatch, share: float
    ) -> list[float]:
        """Make one update of the critic, if there is one; return its loss as a list.

        Args:
            now: What the policy says of the answers before its own update.
            part: The answers of this process.
            share: Of the update's tokens, those in `part`.
        """
        return []

    def update(self, whole: RolloutBatch) -> list[float]:
        """Make one update from some of the answers, the same in all processes.

        Returns entropy, clip fraction and, with a critic, its loss: means over tokens.
        """
        part = whole.rows(parallel.own_rows(torch.arange(len(whole.ids))))
        share = part.weight("token") / whole.weight("token")
        now = self.scorer(part.ids, part.mask)
        policy = self.policy_loss(now, part)
        entropy = losses.masked_average(now.entropy, part.mask).item()
        value_loss = self.update_critic(now, part, share)
        weight = part.weight(self.averaging) / whole.weight(self.averaging)
        step, schedule = self.n_updates, self.config.schedule(self.n_updates)
        shares = chain([weight * policy.loss], self._losses_of_texts())
        update_weights(self.policy, self.optimizer, shares, step, schedule)
        self.n_updates += 1
        means = [entropy, policy.clip_fraction, *value_loss]
        found = parallel.add(share * torch.tensor(means, dtype=torch.double))
        return [*found.tolist()]

    def _losses_of_texts(self) -> Iterator[Tensor]:
        """Yield this process's share of the PPO-ptx term, if its weight is not 0."""
        if not self.config.ptx_coef:
            return
        size = (self.config.ptx_batch_size,)
        drawn = torch.randint(len(self.texts), size, generator=self.generator)
        texts = [self.texts[number] for number in drawn.tolist()]
        own = parallel.own_rows(texts)
        share = sum(t.n_targets for t in own) / sum(t.n_targets for t in texts)
        loss = answer_loss(
            self.policy, own, FinetuningConfig(precision=self.config.precision)
        )
        yield self.config.ptx_coef * share * loss

    def iterate(self) -> PolicyIteration:
        """Sample, reward, compute advantages, update; return the measurements.

        Raises:
            ValueError: If the reward does not give one score per answer.
            FloatingPointError: If a score, a probability, a loss or a gradient is not
                finite. The policy then has the weights from before that update.
        """
        rollouts = self._sample()
        scores = self._reward_of(rollouts)
        ids, mask = rollouts.ids, rollouts.answer_mask
        size = self.config.minibatch_size
        own_ids, own_mask = parallel.own_rows(ids), parallel.own_rows(mask)
        own = self.reference_scorer.log_probs(own_ids, own_mask, size)
        reference = parallel.all_rows(own, len(ids))
        batch = RolloutBatch(
            ids=ids,
            mask=mask,
            log_probs=rollouts.log_probs,
            reference_log_probs=reference,
            **self.compute_advantages(rollouts, scores, reference),
        )
        n, draws = len(rollouts), range(self.config.epochs)
        orders = [torch.randperm(n, generator=self.generator) for _ in draws]
        minibatches = [rows for order in orders for rows in torch.split(order, size)]
        records = [self.update(batch.rows(rows)) for rows in minibatches]
        entropy, clip_fraction, *value_loss = map(fmean, zip(*records, strict=True))
        kl = losses.kl_k1(rollouts.log_probs, reference).sum(dim=1)
        self.history.append(
            PolicyIteration(
                iteration=len(self.history) + 1,
                reward=scores.mean().item(),
                kl=kl.mean().item(),
                entropy=entropy,
                clip_fraction=clip_fraction,
                value_loss=value_loss[0] if value_loss else None,
                length=rollouts.lengths.double().mean().item(),
                finished=rollouts.finished.double().mean().item(),
            )
        )
        return self.history[-1]

    def _sample(self) -> Rollouts:
        order = torch.randperm(len(self.prompts), generator=self.generator)
        chosen = order[: self.config.prompts_per_iteration]
        repeated = chosen.repeat_interleave(self.config.answers_per_prompt).tolist()
        return sample_rollouts(
            self.policy,
            [self.prompts[number] for number in repeated],
            self.config.max_new_tokens,
            tokenizer=self.tokenizer,
            stop=self.stop,
            generator=self.generator,
            shared=True,
        )

    def _reward_of(self, rollouts: Rollouts) -> Tensor:
        prompts = parallel.own_rows([prompt.text for prompt in rollouts.prompts])
        own = self.reward(prompts, parallel.own_rows(rollouts.texts)).detach().float()
        if own.shape != (len(prompts),):
            raise ValueError(
                f"a reward must give {len(prompts)} scores, one for each answer, "
                f"got the shape {tuple(own.shape)}"
            )
        scores = parallel.all_rows(own, len(rollouts))
        if not bool(scores.isfinite().all()):
            raise FloatingPointError(
                f"iteration {len(self.history) + 1} needs finite scores, "
                f"got {scores[~scores.isfinite()][0].item()}"
            )
        return scores.to(rollouts.ids.device)

    def parts(self) -> dict[str, Stateful]:
        """Return what a checkpoint holds."""
        return {"policy": self.policy, "optimizer": self.optimizer, "trainer": self}

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the other parts lack."""
        return {
            "history": [asdict(iteration) for iteration in self.history],
            "n_updates": self.n_updates,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where another trainer of the same recipe was."""
        self.generator.set_state(state["generator"])
        self.history = [PolicyIteration(**found) for found in state["history"]]
        self.n_updates = state["n_updates"]

    def train(self, run: Run) -> list[PolicyIteration]:
        """Make all iterations, or those left to do; return the history.

        Args:
            run: Where to save checkpoints and report progress; its interval counts
                iterations. To resume, pass the same reward: this is not checked.

        Raises:
            ValueError: If the folder's checkpoints belong to another run, or as in
                `iterate`.
            FloatingPointError: As in `iterate`, or if a weight to be saved is not
                finite; the last checkpoint stays.
            OSError: If a checkpoint cannot be written.
        """
        recipe = {  # what must be the same to resume
            "method": type(self).__name__,
            "reference": checkpoints.weights_fingerprint(self.reference),
            "prompts": checkpoints.texts_fingerprint(
                str(prompt) for prompt in self.prompts
            ),
            "stop": sorted(self.stop),
            "texts": examples_fingerprint(self.texts) if self.texts else "none",
            "seed": self.generator.initial_seed(),
            "config": asdict(self.config),
            "model": asdict(self.policy.config),
        }
        parts = self.parts()
        run.resume(recipe, parts)
        parallel.check_alike("recipe", str(recipe))
        parallel.check_alike("number of iterations made", len(self.history))
        iterations = self.config.iterations
        for number in range(len(self.history) + 1, iterations + 1):
            run.log(self.iterate())
            last = number == iterations
            run.save_if_due(number, recipe, parts, last=last, usual=10)
        return self.history
