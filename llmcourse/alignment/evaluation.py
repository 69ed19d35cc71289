"""What became of a policy: what people want of it, what the reward model says, how far.

    gold    what people really want of its answers     points
    proxy   what the reward model gives them           without unit
    KL      how far it went from where it started      nats per answer

Before and after answer the same prompts with the same random numbers, so that the
difference is as little noise as can be.

A training on a reward is a line: what was gained, against how far the policy went.

    points of a study ── curves_of ── band_of ── plotting.plot_against_kl

The KL divergence says how much a gain has cost of what the policy was before, so it is
the axis on which methods of different speeds can be compared: what counts is not how
soon one arrives, but how much higher one stands at the same distance.

Source: the form of these figures is that of Gao, Schulman and Hilton (2023), "Scaling
laws for reward model overoptimization".
"""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from llmcourse.alignment.gold_reward import gold_reward
from llmcourse.alignment.losses import kl_k1
from llmcourse.alignment.preferences import Prompt, end_of_answer
from llmcourse.alignment.reward_model import RewardFunction, batched
from llmcourse.alignment.rollouts import Rollouts, Scorer, sample_rollouts
from llmcourse.intervals import Interval, WinRate, bootstrap_interval, win_rate
from llmcourse.model.transformer import Transformer
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import StageProgress

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
        """Return the means, by name, and the share of different openings."""
        names = ("gold", "proxy", "kl", "length", "finished")
        means = {name: getattr(self, name).mean().item() for name in names}
        return means | {"openings": self.openings}


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


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What made one policy of the study."""

    method: str  # ppo, grpo or dpo
    n_pairs: int  # that the reward model, or DPO, learns from
    cost: float | int  # of leaving the start: KL weight, or DPO's beta
    seed: int = 0  # of the policy's training
    reward_seed: int = 0  # of the reward model's, and of which pairs it learns from


@dataclass(frozen=True, kw_only=True)
class StudyPoint(Experiment):
    """What a policy was at one moment of its training."""

    step: int  # updates of DPO, iterations of the others
    kl: float  # from the start, in nats per answer
    gold: float  # mean, in points
    proxy: float  # mean, without unit
    accuracy: float  # of the reward model on held-out pairs, as a fraction

    @property
    def experiment(self) -> Experiment:
        """Which policy it was."""
        names = [field.name for field in fields(Experiment)]
        return Experiment(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What became of one policy, from the start of its training to the end."""

    kl: tuple[float, ...]  # from the start, in nats per answer
    gold: tuple[float, ...]  # mean, in points
    proxy: tuple[float, ...]  # mean, without unit


EDGES = (1, 4, 9, 25, 64, 144, 400)  # nats; between the classes of a band


class Band(NamedTuple):
    """Some curves within one class of the KL divergence."""

    kl: float  # mean over the curves, in nats per answer
    mean: float  # of the reward
    low: float  # of the lowest curve
    high: float


def band_of(
    curves: Sequence[Curve], quantity: Literal["gold", "proxy"] = "gold"
) -> list[Band]:
    """Return what some curves have in each class of the KL divergence.

    Every moment of a training is judged by some tens of answers, so single ones are
    noise, and the highest of many is a lucky one. So each curve's moments within a
    class are averaged first, and each curve counts once. A class that a curve never
    was in is left out.

    Args:
        curves: Of several seeds, say.
        quantity: Which reward.

    >>> gold, kl = (4.0, 6.0, 7.0), (0.0, 2.0, 3.0)
    >>> band_of([Curve(kl=kl, gold=gold, proxy=kl)])[1]
    Band(kl=2.5, mean=6.5, low=6.5, high=6.5)
    """
    bands = []
    for number in range(len(EDGES) + 1):
        within = [
            [i for i, kl in enumerate(curve.kl) if bisect(EDGES, kl) == number]
            for curve in curves
        ]
        if not all(within):
            continue
        pairs = list(zip(curves, within, strict=True))
        means = [fmean(getattr(c, quantity)[i] for i in own) for c, own in pairs]
        kl = fmean(fmean(c.kl[i] for i in own) for c, own in pairs)
        bands.append(Band(kl, fmean(means), min(means), max(means)))
    return bands


def curves_of(points: Sequence[StudyPoint]) -> dict[Experiment, Curve]:
    """Return the curve of each policy, in order of their first points."""
    found: dict[Experiment, list[StudyPoint]] = {}
    for point in points:
        found.setdefault(point.experiment, []).append(point)
    for own in found.values():
        own.sort(key=lambda point: point.step)
    return {
        experiment: Curve(
            kl=tuple(point.kl for point in own),
            gold=tuple(point.gold for point in own),
            proxy=tuple(point.proxy for point in own),
        )
        for experiment, own in found.items()
    }
