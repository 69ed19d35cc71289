"""What a policy is corrected by: the losses of PPO and GRPO, by hand.

A policy writes an answer token by token. The advantage of a token says how much better
the answer went on than expected; tokens of positive advantage become likelier, those
of negative advantage less likely. How far in one go is limited by clipping::

    ratio = π(token) / π_old(token)        1 before the first update
    loss  = −min(ratio · A, clip(ratio, 1 − ε, 1 + ε) · A)

Every tensor has a row per answer and a column per position. Where the mask is False
there is no token of an answer: what stands there, even NaN, has no influence.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from llmcourse.advantages import Averaging, Mask, PerToken, masked_average


class PolicyLoss(NamedTuple):
    """A loss of the policy, and how often it was clipped."""

    loss: Tensor  # scalar, without unit
    clip_fraction: float  # share of the tokens whose gradient the clipping stops


def kl_k1(log_probs: PerToken, reference_log_probs: PerToken) -> PerToken:
    """Return the plainest estimate of KL(policy ‖ reference), in nats per token.

    With r = π_ref / π at a token that the policy drew: −log r. Right on average;
    single ones are often negative.

    Source: Schulman (2020), "Approximating KL divergence".
    """
    return log_probs - reference_log_probs


def kl_k2(log_probs: PerToken, reference_log_probs: PerToken) -> PerToken:
    """Return (log r)² / 2, in nats per token: never negative, a little wrong.

    Source: as `kl_k1`. Its gradient is that of the true divergence, on average.
    """
    return 0.5 * (log_probs - reference_log_probs).square()


def kl_k3(log_probs: PerToken, reference_log_probs: PerToken) -> PerToken:
    """Return (r − 1) − log r, in nats per token: never negative, right on average.

    Source: as `kl_k1`; Shao et al. (2024), equation 4.
    """
    log_ratio = reference_log_probs - log_probs
    return log_ratio.exp() - 1.0 - log_ratio


def entropy(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch"]:
    """Return how uncertain each next token is, in nats.

    >>> entropy(torch.zeros(1, 4))  # log 4
    tensor([1.3863])
    """
    log_probs = logits.log_softmax(dim=-1)
    return -(log_probs.exp() * log_probs).sum(dim=-1)


def ppo_policy_loss(
    log_probs: PerToken,
    old_log_probs: PerToken,
    advantages: PerToken,
    mask: Mask,
    clip: float | int = 0.2,
    averaging: Averaging = "token",
) -> PolicyLoss:
    """Return the clipped surrogate loss of PPO, without unit.

    Args:
        log_probs: Of the tokens, under the policy as it is.
        old_log_probs: Under the policy that drew them.
        advantages: Of the tokens.
        mask: True on the tokens.
        clip: ε, how far the ratio may move with a gain, from 1.
        averaging: See `masked_average`.

    Raises:
        ValueError: If clip is not positive, or as `masked_average`.

    Source: Schulman et al. (2017), equation 7, with the sign of a loss.
    """
    if not clip > 0:
        raise ValueError(f"clip must be positive, got {clip}")
    ratio = (log_probs - old_log_probs).where(mask, 0.0).exp()
    advantages = advantages.where(mask, 0.0)
    free = ratio * advantages
    clipped = ratio.clamp(1 - clip, 1 + clip) * advantages
    loss = -masked_average(torch.minimum(free, clipped), mask, averaging)
    stopped = masked_average((clipped < free).to(ratio.dtype), mask)
    return PolicyLoss(loss, stopped.item())


def clipped_value_loss(
    values: PerToken,
    old_values: PerToken,
    returns: PerToken,
    mask: Mask,
    clip: float | int = math.inf,
) -> Float[Tensor, ""]:
    """Return half the mean squared error of a critic, in squared units of its values.

    Each value counts as it is or moved back to within `clip` of the old one,
    whichever is worse; so there is nothing to gain by moving farther.

    Args:
        values: As the critic is.
        old_values: As it was when the answers were written.
        returns: What should have been said.
        mask: True on the tokens.
        clip: In the unit of the values; infinite leaves the plain error.

    Raises:
        ValueError: If clip is not positive.

    Source: Schulman et al. (2017), equation 9, has the plain error; the clipping is
    from the authors' code, see Huang et al. (2022).
    """
    if not clip > 0:
        raise ValueError(f"clip must be positive, got {clip}")
    moved = (values - old_values).where(mask, 0.0).clamp(-clip, clip)
    errors = (values - returns).where(mask, 0.0).square()
    clipped = (old_values + moved - returns).where(mask, 0.0).square()
    return 0.5 * masked_average(torch.maximum(errors, clipped), mask)


def grpo_loss(
    log_probs: PerToken,
    old_log_probs: PerToken,
    reference_log_probs: PerToken,
    advantages: Float[Tensor, "batch"],
    mask: Mask,
    *,
    clip: float | int = 0.2,
    kl_weight: float | int = 0.04,
    averaging: Averaging = "sequence",
) -> PolicyLoss:
    """Return the loss of GRPO: PPO's, plus the divergence from the reference (k3).

    Args:
        log_probs: As in `ppo_policy_loss`.
        old_log_probs: See there.
        reference_log_probs: Of the same tokens under the reference.
        advantages: One for each answer: all its tokens share it.
        mask: True on the tokens.
        clip: See `ppo_policy_loss`.
        kl_weight: β; 0 for none.
        averaging: See `masked_average`.

    Raises:
        ValueError: As `ppo_policy_loss`, or if `kl_weight` is negative.

    Source: Shao et al. (2024), equation 3.
    """
    if not kl_weight >= 0:
        raise ValueError(f"kl_weight must not be negative, got {kl_weight}")
    spread = advantages[:, None].expand_as(log_probs)
    policy = ppo_policy_loss(log_probs, old_log_probs, spread, mask, clip, averaging)
    log_probs = log_probs.where(mask, 0.0)
    kl = kl_k3(log_probs, reference_log_probs.where(mask, 0.0))
    penalty = kl_weight * masked_average(kl, mask, averaging)
    return PolicyLoss(policy.loss + penalty, policy.clip_fraction)
