"""The losses of alignment, and the advantages that go into them.

    reward model    bradley_terry_loss    -log σ( r(chosen) - r(rejected) )
    DPO, IPO, …     dpo_loss              the same, with r = β log( policy / reference )
    PPO             gae ── whiten ── ppo_policy_loss
    GRPO            group_advantages ── grpo_loss

A reward model learns a reward to train a policy on later; DPO reads the reward off the
policy itself, and so needs no reward model. Both minimise the surprise at the
preferences, under the model of Bradley and Terry (1952).

PPO and GRPO write answers token by token. The advantage of a token says how much better
than expected the answer continued: tokens with a positive advantage become more
probable, those with a negative one less. Clipping limits how far at a time::

    ratio = π(token) / π_old(token)        1 before the first update
    loss  = −min(ratio · A, clip(ratio, 1 − ε, 1 + ε) · A)

Settings are not checked here but where they are made: `DPOConfig`, `PPOConfig`, …

Tensors of PPO and GRPO have a row per answer and a column per position. Where a mask is
False (prompt and padding) the value has no influence, even if it is NaN.
"""

from collections.abc import Callable, Mapping
from math import inf
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, relu

from llmcourse.arguments import check_multiple, check_range

Averaging: TypeAlias = Literal["token", "sequence"]
PerToken: TypeAlias = Float[Tensor, "batch position"]
Mask: TypeAlias = Bool[Tensor, "batch position"]


def bradley_terry_loss(
    chosen: Float[Tensor, "pair"],
    rejected: Float[Tensor, "pair"],
    center_rewards_coefficient: float | int = 0.0,
) -> Float[Tensor, ""]:
    """Return the mean surprise at the preferences, in nats per pair.

    A pair's gradient is as large as the model's probability that the rejected answer is
    preferred: what the model is already sure of teaches nothing.

    Args:
        chosen: Rewards of the preferred answers.
        rejected: Rewards of the others, in the same order.
        center_rewards_coefficient: Weight of a second term, the square of the two
            rewards' sum. Preferences only determine differences of rewards; a little
            of this keeps their mean near zero.

    Source: Ouyang et al. (2022), the inner mean of equation 1; Eisenstein
    et al. (2024), "Helping or herding?" (the last term).

    >>> bradley_terry_loss(torch.tensor([0.0]), torch.tensor([0.0]))  # log 2
    tensor(0.6931)
    """
    loss = -logsigmoid(chosen - rejected).mean()
    if not center_rewards_coefficient:
        return loss
    return loss + center_rewards_coefficient * (chosen + rejected).square().mean()


def sequence_log_probs(
    logits: Float[Tensor, "batch position vocab"],
    targets: Int[Tensor, "batch position"],
    mask: Bool[Tensor, "batch position"],
) -> Float[Tensor, "batch"]:
    """Return the log-probability of each answer, in nats: the sum over its tokens.

    Args:
        logits: Unnormalised log-probabilities.
        targets: Index of the token at each position; anything where masked.
        mask: True on the tokens of the answer.

    >>> targets, mask = torch.tensor([[0, 3, 2]]), torch.tensor([[False, True, True]])
    >>> sequence_log_probs(torch.zeros(1, 3, 4), targets, mask)  # -2 log 4
    tensor([-2.7726])
    """
    losses = cross_entropy(logits[mask], targets[mask], reduction="none")  # (N,)
    return spread(-losses, mask).sum(dim=-1)


def spread(values: Float[Tensor, "token"], mask: Mask) -> PerToken:
    """Return values at the places where a mask is True, in order, and 0 elsewhere.

    >>> spread(torch.tensor([5.0, 7.0]), torch.tensor([[False, True], [True, False]]))
    tensor([[0., 5.],
            [7., 0.]])
    """
    grid = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    return grid.masked_scatter(mask, values)


PairLoss: TypeAlias = Callable[[Float[Tensor, "pair"], float | int], Tensor]
"""Loss of each pair, from the margin of the implicit rewards and from β."""


def sigmoid_loss(margins: Tensor, beta: float | int) -> Tensor:
    """Return the surprise at each preference, in nats: DPO (Rafailov et al., 2023)."""
    return -logsigmoid(margins)


def hinge_loss(margins: Tensor, beta: float | int) -> Tensor:
    """Return how far each margin is below 1: SLiC (Zhao et al., 2023)."""
    return relu(1 - margins)


def ipo_loss(margins: Tensor, beta: float | int) -> Tensor:
    """Return the squared distance of each log-ratio difference from 1 / 2β: IPO.

    It has a finite optimum even if an answer is always preferred, whereas DPO's margin
    grows without limit. Log-probabilities are means over an answer's tokens, as in
    TRL, so that β means the same for answers of any length.

    Source: Azar et al. (2024), "A general theoretical paradigm to understand learning
    from human preferences", equation 17.
    """
    return (margins / beta - 1 / (2 * beta)).square()


PAIR_LOSSES: Mapping[str, PairLoss] = {
    "sigmoid": sigmoid_loss,
    "hinge": hinge_loss,
    "ipo": ipo_loss,
}
"""By `loss_type`, named as in TRL. A new loss of pairs needs an entry here, and a
choice in `cli.align`."""

PER_TOKEN_LOSSES = frozenset({"ipo"})
"""Losses whose log-probabilities are means over an answer's tokens, not sums."""


class Comparison(NamedTuple):
    """How a model compares the answers of some pairs."""

    loss: Float[Tensor, ""]  # mean over the pairs
    margins: Float[Tensor, "pair"]  # reward of the chosen answer minus the other's


def dpo_loss(
    policy_chosen: Float[Tensor, "pair"],
    policy_rejected: Float[Tensor, "pair"],
    reference_chosen: Float[Tensor, "pair"],
    reference_rejected: Float[Tensor, "pair"],
    *,
    beta: float | int = 0.1,
    loss_type: str = "sigmoid",
) -> Comparison:
    """Return the loss of direct preference optimisation, and the implicit margins.

    The reward of an answer is β times the log of how much more probable it is under the
    policy than under the reference. It lacks a term that depends on the prompt alone,
    which cancels in the difference of two answers.

    Args:
        policy_chosen: Log-probabilities of the preferred answers, in nats.
        policy_rejected: Of the others, in the same order.
        reference_chosen: The same under the reference, which is not trained.
        reference_rejected: The same under the reference.
        beta: Strength of the penalty for leaving the reference.
        loss_type: One of `PAIR_LOSSES`. For those in `PER_TOKEN_LOSSES`, all four
            log-probabilities are means over the answers' tokens.

    Source: Rafailov et al. (2023), equation 7.

    >>> same = torch.tensor([-3.0, -5.0])
    >>> dpo_loss(same, same, same, same).loss  # log 2: policy and reference are equal
    tensor(0.6931)
    """
    chosen = beta * (policy_chosen - reference_chosen)
    rejected = beta * (policy_rejected - reference_rejected)
    margins = chosen - rejected
    return Comparison(PAIR_LOSSES[loss_type](margins, beta).mean(), margins)


def masked_average(
    values: PerToken, mask: Mask, averaging: Averaging = "token"
) -> Float[Tensor, ""]:
    """Return the mean of the values that count, in their unit; 0 if none does.

    Args:
        values: One for each position.
        mask: True where a value counts.
        averaging: "token" gives all tokens equal weight, so a long answer weighs more;
            "sequence" takes the mean of each answer first, so every answer weighs
            the same, and a token of a long one less. Answers without a token are
            left out.

    Source: Shao et al. (2024), equation 3 ("sequence"); Yu et al. (2025), "DAPO",
    which argues for "token".

    >>> values = torch.tensor([[1.0, 3.0], [8.0, 0.0]])
    >>> mask = torch.tensor([[True, True], [True, False]])
    >>> masked_average(values, mask), masked_average(values, mask, "sequence")
    (tensor(4.), tensor(5.))
    """
    values = values.where(mask, 0.0)
    if averaging == "token":
        return values.sum() / mask.sum().clamp(min=1)
    counts = mask.sum(dim=1)  # (B,)
    means = values.sum(dim=1) / counts.clamp(min=1)
    return means.sum() / (counts > 0).sum().clamp(min=1)


def whiten(values: PerToken, mask: Mask) -> PerToken:
    """Return the values scaled to mean 0 and deviation 1 where they count, else 0.

    The deviation is the sample's (n − 1). If all values are equal, they become 0.

    Args:
        values: One for each position.
        mask: True where a value counts.

    >>> whiten(torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[True, True, False]]))
    tensor([[-0.7071,  0.7071,  0.0000]])
    """
    low, high = values.where(mask, inf).amin(), values.where(mask, -inf).amax()
    centred = (values - masked_average(values, mask)).where(mask & (low != high), 0.0)
    variance = centred.square().sum() / (mask.sum() - 1).clamp(min=1)
    return centred * torch.rsqrt(variance + 1e-8)


def gae(
    rewards: PerToken,
    values: PerToken,
    mask: Mask,
    gamma: float | int = 1.0,
    gae_lambda: float | int = 0.95,
) -> PerToken:
    """Return generalised advantage estimates, in the unit of the rewards.

    A token's temporal-difference error is δ = reward + γ · next value − value, with
    next value 0 after the last token. Its advantage is the sum of the errors from there
    on, the one l tokens later weighted by (γλ)^l.

    Args:
        rewards: Immediate reward of each token.
        values: What the critic expected before each token.
        mask: True on the tokens; positions between them are skipped.
        gamma: γ, what a reward is worth one token later.
        gae_lambda: λ. 1 trusts the rewards (no bias), 0 the critic (little variance).

    Source: Schulman et al. (2016), equation 16.

    >>> rewards, values = torch.tensor([[0.0, 0.0, 8.0]]), torch.tensor([[4.0, 5.0, 6]])
    >>> gae(rewards, values, torch.ones(1, 3).bool(), gae_lambda=0.5)
    tensor([[2., 2., 2.]])
    """
    rewards, values = rewards.where(mask, 0.0), values.where(mask, 0.0)
    advantages = torch.zeros_like(values)
    next_value = next_advantage = torch.zeros_like(values[:, 0])  # (B,)
    for t in reversed(range(values.shape[1])):
        there = mask[:, t]
        error = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = error + gamma * gae_lambda * next_advantage
        advantages[:, t] = advantage.where(there, 0.0)
        next_value = values[:, t].where(there, next_value)
        next_advantage = advantage.where(there, next_advantage)
    return advantages


def group_advantages(
    scores: Float[Tensor, "batch"],
    group_size: int,
    *,
    scale: bool = True,
) -> Float[Tensor, "batch"]:
    """Return how much better each answer is than the mean of those to the same prompt.

    Args:
        scores: Of all answers, those of a group in succession.
        group_size: Answers to one prompt, at least two.
        scale: Whether to divide by the group's standard deviation, as in GRPO: then
            unitless, and groups that almost agree count as much as others. If not,
            as in Dr. GRPO: in the unit of the scores.

    Raises:
        ValueError: If a group has fewer than two answers, or one is not whole.

    Source: Shao et al. (2024), section 4.1.2; Liu et al. (2025), "Understanding
    R1-Zero-like training" (Dr. GRPO).

    >>> group_advantages(torch.tensor([1.0, 3.0, 5.0, 5.0]), 2, scale=False)
    tensor([-1.,  1.,  0.,  0.])
    """
    check_range(2, group_size=group_size)
    check_multiple(scores=len(scores), group_size=group_size)
    groups = scores.view(-1, group_size)
    differ = groups.amax(dim=1, keepdim=True) != groups.amin(dim=1, keepdim=True)
    centred = (groups - groups.mean(dim=1, keepdim=True)).where(differ, 0.0)
    if scale:
        deviation = groups.std(dim=1, keepdim=True)
        centred = centred / (deviation + 1e-4)  # not zero for equal scores
    return centred.flatten()


class PolicyLoss(NamedTuple):
    """A loss of the policy, and how often it was clipped."""

    loss: Tensor  # scalar, unitless
    clip_fraction: float  # share of the tokens whose gradient the clipping stops


def kl_k1(log_probs: PerToken, reference_log_probs: PerToken) -> PerToken:
    """Return the simplest estimate of KL(policy ‖ reference), in nats per token.

    With r = π_ref / π at a token that the policy sampled, it is −log r: unbiased, but
    often negative for single tokens.

    Source: Schulman (2020), "Approximating KL divergence".
    """
    return log_probs - reference_log_probs


def kl_k3(log_probs: PerToken, reference_log_probs: PerToken) -> PerToken:
    """Return (r − 1) − log r, in nats per token: never negative, and unbiased.

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
    clip_range: float | int = 0.2,
    averaging: Averaging = "token",
) -> PolicyLoss:
    """Return the (unitless) clipped surrogate loss of PPO.

    Args:
        log_probs: Of the tokens, under the current policy.
        old_log_probs: Under the policy that sampled them.
        advantages: Of the tokens.
        mask: True on the tokens.
        clip_range: ε, how far from 1 the ratio may move and still gain.
        averaging: See `masked_average`.

    Source: Schulman et al. (2017), equation 7, with the sign of a loss.
    """
    ratio = (log_probs - old_log_probs).where(mask, 0.0).exp()
    advantages = advantages.where(mask, 0.0)
    free = ratio * advantages
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range) * advantages
    loss = -masked_average(torch.minimum(free, clipped), mask, averaging)
    stopped = masked_average((clipped < free).to(ratio.dtype), mask)
    return PolicyLoss(loss, stopped.item())


def grpo_loss(
    log_probs: PerToken,
    old_log_probs: PerToken,
    reference_log_probs: PerToken,
    advantages: Float[Tensor, "batch"],
    mask: Mask,
    *,
    clip_range: float | int = 0.2,
    kl_coef: float | int = 0.04,
    averaging: Averaging = "sequence",
) -> PolicyLoss:
    """Return the loss of GRPO: PPO's, plus the divergence from the reference (k3).

    Args:
        log_probs: Of the tokens, under the current policy.
        old_log_probs: Under the policy that sampled them.
        reference_log_probs: Of the same tokens under the reference.
        advantages: One for each answer: all its tokens share it.
        mask: True on the tokens.
        clip_range: ε, how far from 1 the ratio may move and still gain.
        kl_coef: β; 0 for none.
        averaging: See `masked_average`.

    Source: Shao et al. (2024), equation 3.
    """
    of_tokens = advantages[:, None].expand_as(log_probs)
    policy = ppo_policy_loss(
        log_probs, old_log_probs, of_tokens, mask, clip_range, averaging
    )
    log_probs = log_probs.where(mask, 0.0)
    kl = kl_k3(log_probs, reference_log_probs.where(mask, 0.0))
    penalty = kl_coef * masked_average(kl, mask, averaging)
    return PolicyLoss(policy.loss + penalty, policy.clip_fraction)
