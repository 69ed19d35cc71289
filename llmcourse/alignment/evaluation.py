"""What became of a policy: what people want of it, what the reward model says, how far.

    gold    what people really want of its answers     points
    proxy   what the reward model gives them           without unit
    KL      how far it went from where it started      nats per answer

Before and after answer the same prompts with the same random numbers, so that the
difference is as little noise as can be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmcourse.alignment.gold_reward import gold_reward
from llmcourse.alignment.losses import kl_k1
from llmcourse.alignment.preferences import Prompt, end_of_answer
from llmcourse.alignment.reward_model import RewardFunction, batched
from llmcourse.alignment.rollouts import Rollouts, Scorer, sample_rollouts
from llmcourse.model.transformer import Transformer
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import StageProgress
from llmcourse.training.intervals import Interval, WinRate, bootstrap_interval, win_rate

_AT_ONCE = 64  # answers that are written side by side


@dataclass(frozen=True, eq=False)
class PolicyEvaluation:
    """Answers of a policy, each to a prompt of its own, and what they are worth."""

    texts: tuple[str, ...]
    gold: Float[Tensor, "answer"]  # in points
    proxy: Float[Tensor, "answer"]
    kl: Float[Tensor, "answer"]  # from the reference, in nats per answer; a sample
    length: Float[Tensor, "answer"]  # in tokens
    finished: Float[Tensor, "answer"]  # 1 for those that came to their end, else 0

    @property
    def openings(self) -> float:
        """How many different first three words there are, for each answer.

        It falls as there are more answers, so compare it for equally many.
        """
        return len({tuple(text.split()[:3]) for text in self.texts}) / len(self.texts)

    def summary(self) -> dict[str, float]:
        """Return the means, by name."""
        names = ("gold", "proxy", "kl", "length", "finished")
        return {name: getattr(self, name).mean().item() for name in names}


@torch.no_grad()
def evaluate_policy(
    policy: Transformer,
    reference: Transformer,
    tokenizer: BPETokenizer,
    prompts: Sequence[Prompt],
    proxy: RewardFunction,
    max_new_tokens: int,
    seed: int = 0,
    *,
    name: str = "answers evaluated",
    progress: StageProgress | None = None,
) -> PolicyEvaluation:
    """Return one answer of a policy to each prompt, with what it is worth.

    Args:
        policy: Answers at temperature 1.
        reference: What it was at the start.
        tokenizer: Of both.
        prompts: What is asked.
        proxy: What the policy was trained by, or might have been.
        max_new_tokens: Of an answer.
        seed: Of the sampling.
        name: Of what is done, for `progress`.
        progress: Called with that, the answers so far, and of how many.

    Raises:
        ValueError: If there are no prompts, or as `sample_rollouts`.
    """
    if not prompts:
        raise ValueError("a policy is evaluated by its answers to prompts, got none")
    generator = torch.Generator().manual_seed(seed)
    scorer = Scorer(reference)
    stop = [end_of_answer(tokenizer)]
    texts: list[str] = []
    found = []
    for start in range(0, len(prompts), _AT_ONCE):
        written = sample_rollouts(
            policy,
            prompts[start : start + _AT_ONCE],
            max_new_tokens,
            tokenizer=tokenizer,
            stop=stop,
            generator=generator,
        )
        found.append(_marks(written, proxy, scorer))
        texts += written.texts
        if progress is not None:
            progress(name, len(texts), len(prompts))
    return PolicyEvaluation(tuple(texts), *torch.cat(found, dim=1))


def _marks(written: Rollouts, proxy: RewardFunction, scorer: Scorer) -> Tensor:
    """Return a row of each: gold, proxy, KL divergence, length, whether it ended."""
    asked = [prompt.text for prompt in written.prompts]
    theirs = scorer.log_probs(written.ids, written.answer_mask, 16)
    rows = (
        batched(gold_reward)(asked, written.texts),
        proxy(asked, written.texts),
        kl_k1(written.log_probs, theirs).sum(dim=1),
        written.lengths,
        written.finished,
    )
    return torch.stack([row.float().cpu() for row in rows])


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What a policy has gained in gold reward, prompt by prompt."""

    before: float  # mean, in points
    after: float
    gain: float  # mean, in points
    interval: Interval  # of the gain, at 95 %
    sd: float  # of one answer's gold at the start, in points
    better: WinRate  # how often the answer after was the better one, by gold

    @property
    def in_sd(self) -> float:
        """The gain in standard deviations of the start."""
        return self.gain / self.sd if self.sd else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return all numbers."""
        return vars(self) | {
            "interval": self.interval._asdict(),
            "in_sd": self.in_sd,
            "better": self.better.to_json(),
        }


def gain_of(before: PolicyEvaluation, after: PolicyEvaluation, seed: int = 0) -> Gain:
    """Return the gain in gold reward, with bootstrap intervals over the prompts.

    Args:
        before: The start's answers.
        after: The policy's, to the same prompts in the same order.
        seed: Of the bootstrap.

    Raises:
        ValueError: If there are not as many answers, or fewer than two.
    """
    n = len(before.gold), len(after.gold)
    if n[0] != n[1] or n[0] < 2:
        raise ValueError(f"wanted as many answers before and after, 2 or more, got {n}")
    gains = (after.gold - before.gold).double()
    generator = torch.Generator().manual_seed(seed)
    return Gain(
        before=before.gold.double().mean().item(),
        after=after.gold.double().mean().item(),
        gain=gains.mean().item(),
        interval=bootstrap_interval(gains, generator),
        sd=before.gold.double().std().item(),
        better=win_rate(after.gold, before.gold, generator),
    )
