r"""Advantages: how much better it went than expected, from a token on or in all.

    PPO     rewards of the tokens, a critic's values ── gae ── whiten
    GRPO    scores of a group of answers ── group_advantages

Every tensor has a row per answer and a column per position. Where the mask is False
there is no token of an answer: what stands there, even NaN, has no influence.
"""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Averaging: TypeAlias = Literal["token", "sequence"]
PerToken: TypeAlias = Float[Tensor, "batch position"]
Mask: TypeAlias = Bool[Tensor, "batch position"]


def masked_average(
    values: PerToken, mask: Mask, averaging: Averaging = "token"
) -> Float[Tensor, ""]:
    """Return the mean of the values that count, in their unit; 0 if none does.

    Args:
        values: One for each position.
        mask: True where a value counts.
        averaging: "token" weighs all tokens alike, so a long answer weighs more;
            "sequence" takes the mean of each answer first, so that every answer
            weighs the same, and a token of a long one less. Answers without a token
            are left out.

    Raises:
        ValueError: If another averaging is asked for.

    Source: Shao et al. (2024), equation 3 ("sequence"); Yu et al. (2025), "DAPO",
    for what speaks for "token".

    >>> values = torch.tensor([[1.0, 3.0], [8.0, 0.0]])
    >>> mask = torch.tensor([[True, True], [True, False]])
    >>> masked_average(values, mask), masked_average(values, mask, "sequence")
    (tensor(4.), tensor(5.))
    """
    if averaging not in ("token", "sequence"):
        raise ValueError(f"averaging must be 'token' or 'sequence', got {averaging!r}")
    values = values.where(mask, 0.0)
    if averaging == "token":
        return values.sum() / mask.sum().clamp(min=1)
    counts = mask.sum(dim=1)  # (B,)
    means = values.sum(dim=1) / counts.clamp(min=1)
    return means.sum() / (counts > 0).sum().clamp(min=1)


def whiten(values: PerToken, mask: Mask) -> PerToken:
    """Return the values with mean 0 and deviation 1 over those that count, else 0.

    The deviation is that of a sample (n − 1). Values that are all alike become 0.

    Args:
        values: One for each position.
        mask: True where a value counts.

    >>> whiten(torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[True, True, False]]))
    tensor([[-0.7071,  0.7071,  0.0000]])
    """
    centred = (values - masked_average(values, mask)).where(mask, 0.0)
    variance = centred.square().sum() / (mask.sum() - 1).clamp(min=1)
    return centred * torch.rsqrt(variance + 1e-8)


def gae(
    rewards: PerToken,
    values: PerToken,
    mask: Mask,
    discount: float | int = 1.0,
    trace: float | int = 0.95,
) -> PerToken:
    """Return generalised advantage estimates, in the unit of the rewards.

    A token's surprise is δ = reward + γ · next value − value, with next value 0 after
    the last token. Its advantage is the sum of the surprises from there on, the one
    l tokens later weighed with (γλ)^l.

    Args:
        rewards: What each token brought at once.
        values: What the critic expected before each token.
        mask: True on the tokens; positions between them are skipped over.
        discount: γ, what a reward is worth one token later.
        trace: λ. 1 trusts the rewards (no bias), 0 the critic (little variance).

    Raises:
        ValueError: If γ or λ is outside [0, 1].

    Source: Schulman et al. (2016), equation 16.

    >>> rewards, values = torch.tensor([[0.0, 0.0, 8.0]]), torch.tensor([[4.0, 5.0, 6]])
    >>> gae(rewards, values, torch.ones(1, 3).bool(), trace=0.5)
    tensor([[2., 2., 2.]])
    """
    for name, number in (("discount", discount), ("trace", trace)):
        if not 0 <= number <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {number}")
    rewards, values = rewards.where(mask, 0.0), values.where(mask, 0.0)
    advantages = torch.zeros_like(values)
    next_value = next_advantage = torch.zeros_like(values[:, 0])  # (B,)
    for t in reversed(range(values.shape[1])):
        there = mask[:, t]
        surprise = rewards[:, t] + discount * next_value - values[:, t]
        advantage = surprise + discount * trace * next_advantage
        advantages[:, t] = advantage.where(there, 0.0)
        next_value = values[:, t].where(there, next_value)
        next_advantage = advantage.where(there, next_advantage)
    return advantages


def group_advantages(
    scores: Float[Tensor, "batch"],
    group_size: int,
    *,
    scale: bool = True,
    eps: float = 1e-4,
) -> Float[Tensor, "batch"]:
    """Return how much better each answer is than those to the same prompt, on average.

    Args:
        scores: Of all answers, those of a group side by side.
        group_size: Answers to one prompt.
        scale: Whether to divide by the group's standard deviation, as in GRPO: then
            without unit, and groups that agree almost count as much as others.
            Without, as in Dr. GRPO: in the unit of the scores.
        eps: Added to the standard deviation, in points, so that a group of equal
            scores does not divide by zero.

    Raises:
        ValueError: If a group has a single answer, which nothing can be compared
            with, or if the answers do not make whole groups.

    Source: Shao et al. (2024), section 4.1.2; Liu et al. (2025), "Understanding
    R1-Zero-like training" (Dr. GRPO).

    >>> group_advantages(torch.tensor([1.0, 3.0, 5.0, 5.0]), 2, scale=False)
    tensor([-1.,  1.,  0.,  0.])
    """
    if group_size < 2 or len(scores) % group_size:
        raise ValueError(
            "a group needs at least two answers, and the answers whole groups, got "
            f"groups of {group_size} and {len(scores)} answers"
        )
    groups = scores.view(-1, group_size)
    centred = groups - groups.mean(dim=1, keepdim=True)
    if scale:
        centred = centred / (groups.std(dim=1, keepdim=True) + eps)
    return centred.flatten()
