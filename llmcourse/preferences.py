"""Pairs of texts of which one is preferred, by an annotator who errs as people do.

An annotator sees two answers to a prompt and prefers a with the probability::

    P(a ≻ b) = σ(β (gold(a) − gold(b)))        σ(x) = 1 / (1 + e⁻ˣ)

the model of Bradley and Terry: clear cases are decided well, close ones by chance.
β says how sharp the annotator's eye is. What one knows of people is rather how often
they agree, so β is found for a rate of agreement with gold, on the pairs at hand.

>>> beta = annotator_beta([1.0, -1.0], agreement=0.75)  # σ(β) = 3/4
>>> math.isclose(beta, math.log(3), rel_tol=1e-9)
True
>>> round(preference_probability(7.0, 6.0, beta), 3)
0.75

Source: Bradley and Terry (1952), "Rank analysis of incomplete block designs: I. The
method of paired comparisons"; pairs labelled by people in Ouyang et al. (2022), who
report that their annotators agree with each other in about 73 % of the cases; labels
drawn from a gold reward in Gao, Schulman and Hilton (2023).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch

from llmcourse.gold_reward import gold_reward

Reward = Callable[[str, str], float]  # of a prompt and a text


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two answers to a prompt, and what each is really worth.

    Raises:
        ValueError: If the two are the same text: nobody could prefer one of them.
    """

    prompt: str
    chosen: str
    rejected: str
    gold_chosen: float  # in points
    gold_rejected: float

    def __post_init__(self) -> None:
        """Raise ValueError for a pair of equal texts."""
        if self.chosen == self.rejected:
            raise ValueError(f"a pair needs two different texts, got {self.chosen!r}")


def preference_probability(
    gold_a: float | int, gold_b: float | int, beta: float | int
) -> float:
    """Return the probability that an annotator prefers a to b.

    Args:
        gold_a: What a is worth.
        gold_b: What b is worth, in the same unit.
        beta: Sharpness of the annotator, in one over that unit; `math.inf` for one
            that never errs.

    Raises:
        ValueError: If beta is negative.
    """
    if not beta >= 0:
        raise ValueError(f"beta must not be negative, got {beta}")
    difference = gold_a - gold_b
    x = beta * difference if difference else 0.0  # not infinity times zero
    if x < 0:
        return math.exp(x) / (1 + math.exp(x))
    return 1 / (1 + math.exp(-x))


def annotator_beta(differences: Sequence[float | int], agreement: float | int) -> float:
    """Return the beta at which an annotator agrees with gold as often as wanted.

    The expected share of pairs in which the better text is preferred, the mean of σ
    at beta times the size of the difference, grows with beta from 1/2 to 1, so
    halving an interval finds it.
    Pairs without a difference are left out: there, no answer is better.

    Args:
        differences: Between the two golds of each pair, of either sign.
        agreement: Expected share of agreement, from 1/2 (an annotator who tosses a
            coin: 0) to 1 (one who never errs: `math.inf`).

    Raises:
        ValueError: If the share is outside these limits, a difference is not finite,
            or none differs from zero.
    """
    if not 0.5 <= agreement <= 1:
        raise ValueError(f"agreement must be between 0.5 and 1, got {agreement}")
    gaps = torch.tensor(list(differences), dtype=torch.float64).abs()
    gaps = gaps[gaps != 0]
    if not len(gaps) or not gaps.isfinite().all():
        raise ValueError(
            f"wanted finite differences, some of them not zero, got {differences[:5]}"
        )
    if agreement in (0.5, 1):
        return 0.0 if agreement == 0.5 else math.inf
    low, high = 0.0, 1.0 / float(gaps.max())
    while _expected_agreement(gaps, high) < agreement:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:  # until floats are exhausted
        if _expected_agreement(gaps, middle) < agreement:
            low = middle
        else:
            high = middle
    return high


def _expected_agreement(gaps: torch.Tensor, beta: float) -> float:
    return float(torch.sigmoid(beta * gaps).mean())


def sample_pairs(
    candidates: Iterable[tuple[str, Sequence[str]]],
    generator: torch.Generator,
    *,
    agreement: float | int = 0.75,
    pairs_per_prompt: int = 1,
    reward: Reward = gold_reward,
) -> list[Pair]:
    """Return pairs of different answers, labelled by an annotator who errs.

    Args:
        candidates: Prompts, each with some answers to it. Of equal answers, one is
            kept.
        generator: Source of which answers are compared and of the annotator's errors.
        agreement: Expected share of the pairs in which the better one is chosen,
            among those that differ in gold; see `annotator_beta`.
        pairs_per_prompt: Different pairs drawn for each prompt; where its answers
            make fewer, all of them.
        reward: What people really want: a function of prompt and text.

    Raises:
        ValueError: If there is no prompt, or one has fewer than two different
            answers; if `pairs_per_prompt` is not positive; as `annotator_beta`.
    """
    if pairs_per_prompt < 1:
        raise ValueError(f"pairs_per_prompt must be positive, got {pairs_per_prompt}")
    drawn = [
        (prompt, *pair)
        for prompt, texts in candidates
        for pair in _draw(prompt, texts, pairs_per_prompt, reward, generator)
    ]
    if not drawn:
        raise ValueError("wanted at least one prompt with answers, got none")
    differences = [a[1] - b[1] for _, a, b in drawn]
    beta = annotator_beta(differences, agreement)
    luck = torch.rand(len(drawn), generator=generator, dtype=torch.float64).tolist()
    pairs = []
    for (prompt, a, b), u in zip(drawn, luck, strict=True):
        prefers_a = u < preference_probability(a[1], b[1], beta)
        (chosen, best), (rejected, other) = (a, b) if prefers_a else (b, a)
        pairs.append(
            Pair(
                prompt=prompt,
                chosen=chosen,
                rejected=rejected,
                gold_chosen=best,
                gold_rejected=other,
            )
        )
    return pairs


_Valued = tuple[str, float]  # a text and its gold


def _draw(
    prompt: str,
    texts: Sequence[str],
    n: int,
    reward: Reward,
    generator: torch.Generator,
) -> list[tuple[_Valued, _Valued]]:
    """Return n different pairs of the different texts, in random order."""
    different = list(dict.fromkeys(texts))
    if len(different) < 2:
        raise ValueError(
            f"a prompt needs two different answers, got {len(different)} for {prompt!r}"
        )
    couples = list(combinations(range(len(different)), 2))
    order = torch.randperm(len(couples), generator=generator).tolist()
    drawn = [couples[number] for number in order[:n]]
    gold = {i: reward(prompt, different[i]) for i in {i for c in drawn for i in c}}
    valued = {i: (different[i], gold[i]) for i in gold}
    return [(valued[i], valued[j]) for i, j in drawn]


def agreement_rate(pairs: Sequence[Pair]) -> float:
    """Return in what share of the pairs the better text was chosen, as a fraction.

    Pairs of equal gold are left out.

    Raises:
        ValueError: If no pair differs in gold.
    """
    gaps = [pair.gold_chosen - pair.gold_rejected for pair in pairs]
    unequal = [gap for gap in gaps if gap != 0]
    if not unequal:
        raise ValueError(f"none of {len(pairs)} pairs differs in gold")
    return sum(gap > 0 for gap in unequal) / len(unequal)
