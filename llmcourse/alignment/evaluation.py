"""How a policy has changed: what people and the reward model say, how far it moved.

    gold    what people really think of its answers    points
    proxy   what the reward model gives them           unitless
    KL      how far it has moved from its start        nats per answer

The policies before and after answer the same prompts with the same random numbers, so
that their difference has as little noise as possible.

Training on a reward draws a curve: what was gained, against how far the policy moved.

    points of a study ── curves_of ── band_of ── plotting.plot_against_kl

The KL divergence says how much of the original policy a gain has cost, so it is the
axis on which methods of different speeds can be compared: what counts is not how soon a
method arrives, but how much higher it is at the same distance.

Source: figures of this form are in Gao, Schulman and Hilton (2023), "Scaling laws for
reward model overoptimization".
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
from llmcourse.alignment.preferences import Prompt
from llmcourse.alignment.reward_model import RewardFunction, batched
from llmcourse.alignment.rollouts import Scorer, sample_in_batches
from llmcourse.arguments import check_range
from llmcourse.intervals import bootstrap_interval, win_rate
from llmcourse.model.transformer import Transformer
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import CountProgress


@dataclass(frozen=True, eq=False)
class PolicyEvaluation:
    """Answers of a policy, each to a prompt of its own, and what they are worth."""

    texts: tuple[str, ...]
    gold: Float[Tensor, "answer"]  # in points
    proxy: Float[Tensor, "answer"]
    kl: Float[Tensor, "answer"]  # from the reference, in nats per answer; an estimate
    length: Float[Tensor, "answer"]  # in tokens
    finished: Float[Tensor, "answer"]  # 1 for answers that reached their end, else 0

    def summary(self) -> dict[str, float]:
        """Return the means, by name, and "openings": different ones per answer.

        These are of three words. Their share falls as answers are added, so compare
        it only for equal numbers.
        """
        names = ("gold", "proxy", "kl", "length", "finished")
        means = {name: getattr(self, name).mean().item() for name in names}
        openings = {tuple(text.split()[:3]) for text in self.texts}
        return means | {"openings": len(openings) / len(self.texts)}


@torch.no_grad()
def evaluate_policy(
    policy: Transformer,
    reference: Transformer,
    tokenizer: BPETokenizer,
    prompts: Sequence[Prompt],
    proxy: RewardFunction,
    max_new_tokens: int,
    seed: int = 0,
    progress: CountProgress | None = None,
) -> PolicyEvaluation:
    """Return a policy's answer to each prompt, with what it is worth.

    Args:
        policy: Answers at temperature 1.
        reference: The policy as it was at the start.
        tokenizer: Of both.
        prompts: What is asked.
        proxy: What the policy was trained on, or might have been.
        max_new_tokens: Most tokens of an answer.
        seed: Of the sampling.
        progress: Called with the number of answers so far, and the total.

    Raises:
        ValueError: If there are no prompts, or as in `sample_rollouts`.
    """
    check_range(1, n_prompts=len(prompts))
    generator = torch.Generator().manual_seed(seed)
    scorer = Scorer(reference)
    texts: list[str] = []
    found = []
    for written in sample_in_batches(
        policy, prompts, max_new_tokens, tokenizer, generator, progress
    ):
        asked = [prompt.text for prompt in written.prompts]
        theirs = scorer.log_probs(written.ids, written.answer_mask, 16)
        measured = (
            batched(gold_reward)(asked, written.texts),
            proxy(asked, written.texts),
            kl_k1(written.log_probs, theirs).sum(dim=1),
            written.lengths,
            written.finished,
        )
        found.append(torch.stack([row.float().cpu() for row in measured]))
        texts += written.texts
    return PolicyEvaluation(tuple(texts), *torch.cat(found, dim=1))


def gain_of(
    before: PolicyEvaluation, after: PolicyEvaluation, seed: int = 0
) -> dict[str, Any]:
    """Return what a policy has gained in gold reward, prompt by prompt, as for JSON.

    Means are in points. "interval" is the gain's, by bootstrap over the prompts; "sd"
    the deviation of one answer's gold at the start; "better" how often the later answer
    was better; "in_sd" the gain in deviations of the start, 0 if these are 0.

    Args:
        before: The start's answers.
        after: The policy's, to the same prompts in the same order.
        seed: Of the bootstrap.

    Raises:
        ValueError: If the numbers of answers differ, or are below two.
    """
    n = len(before.gold), len(after.gold)
    if n[0] != n[1] or n[0] < 2:
        raise ValueError(f"wanted as many answers before and after, 2 or more, got {n}")
    gains = (after.gold - before.gold).double()
    gain, sd = gains.mean().item(), before.gold.double().std().item()
    generator = torch.Generator().manual_seed(seed)
    return {
        "before": before.gold.double().mean().item(),
        "after": after.gold.double().mean().item(),
        "gain": gain,
        "interval": bootstrap_interval(gains, generator)._asdict(),
        "sd": sd,
        "better": win_rate(after.gold, before.gold, generator).to_json(),
        "in_sd": gain / sd if sd else 0.0,
    }


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The settings of one policy of the study."""

    method: str  # ppo, grpo or dpo
    n_pairs: int  # that the reward model, or DPO, learns from
    cost: float | int  # of leaving the start: KL weight, or DPO's beta
    seed: int = 0  # of the policy's training
    reward_seed: int = 0  # of the reward model's training and choice of pairs


@dataclass(frozen=True, kw_only=True)
class StudyPoint(Experiment):
    """A policy as measured at one moment of its training."""

    step: int  # updates of DPO, iterations of the others
    kl: float  # from the start, in nats per answer
    gold: float  # mean, in points
    proxy: float  # mean, unitless
    accuracy: float  # of the reward model on held-out pairs, as a fraction

    @property
    def experiment(self) -> Experiment:
        """The settings of the policy."""
        names = [field.name for field in fields(Experiment)]
        return Experiment(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One policy as measured from the start of its training to the end."""

    kl: tuple[float, ...]  # from the start, in nats per answer
    gold: tuple[float, ...]  # mean, in points
    proxy: tuple[float, ...]  # mean, unitless


EDGES = (1, 4, 9, 25, 64, 144, 400)  # in nats; borders between the classes of a band


class Band(NamedTuple):
    """Some curves within one class of the KL divergence."""

    kl: float  # mean over the curves, in nats per answer
    mean: float  # of the reward
    low: float  # of the lowest curve
    high: float


def band_of(
    curves: Sequence[Curve], quantity: Literal["gold", "proxy"] = "gold"
) -> list[Band]:
    """Return the mean and range of some curves in each class of the KL divergence.

    Each moment of a training is judged by a few dozen answers, so single moments are
    noisy, and the highest of many is a lucky one. So each curve's moments within a
    class are averaged first, and each curve counts once. A class that any curve never
    reaches is left out.

    Args:
        curves: For example, of several seeds.
        quantity: Which reward.

    Raises:
        ValueError: If there is no curve.

    >>> gold, kl = (4.0, 6.0, 7.0), (0.0, 2.0, 3.0)
    >>> band_of([Curve(kl=kl, gold=gold, proxy=kl)])[1]
    Band(kl=2.5, mean=6.5, low=6.5, high=6.5)
    """
    check_range(1, n_curves=len(curves))
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
    curves = {}
    for experiment, own in found.items():
        own.sort(key=lambda point: point.step)
        kl, gold, proxy = zip(*((p.kl, p.gold, p.proxy) for p in own), strict=True)
        curves[experiment] = Curve(kl=kl, gold=gold, proxy=proxy)
    return curves
