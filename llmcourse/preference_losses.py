"""What is minimised to learn from comparisons, with a reward model or without one.

    reward model    -log σ( r(chosen) - r(rejected) )
    DPO             the same, with r = β log( policy / reference ) as the reward

Both say how surprising it is that the chosen answer was preferred, if answers are
preferred as Bradley and Terry (1952) have it. The first learns a reward to train a
policy on later; the second reads the reward off the policy itself, and so needs
nothing else.

A sequence's log-probability is the sum over the tokens of the answer, its end
included. What is masked, the prompt and the padding, has no influence, not even if it
is no number.
"""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry_loss(
    chosen: Float[Tensor, "pair"],
    rejected: Float[Tensor, "pair"],
    centring: float | int = 0.0,
) -> Float[Tensor, ""]:
    """Return the mean surprise at the preferences, in nats per pair.

    A pair's gradient is as large as the probability that its rejected answer had of
    being preferred: what the model is sure of teaches nothing.

    Args:
        chosen: Rewards of the preferred answers.
        rejected: Rewards of the others, in the same order.
        centring: How much the square of the two rewards' sum is to count besides.
            Preferences only tell differences of rewards; a little of this keeps their
            mean near zero.

    Raises:
        ValueError: If there are no pairs, or `centring` is negative.

    Source: Ouyang et al. (2022), the inner mean of equation 1; Eisenstein
    et al. (2023), "Helping or herding?" (the centring term).

    >>> bradley_terry_loss(torch.tensor([0.0]), torch.tensor([0.0]))  # log 2
    tensor(0.6931)
    """
    if not centring >= 0:
        raise ValueError(f"centring must not be negative, got {centring}")
    _check_not_empty(chosen)
    loss = -logsigmoid(chosen - rejected).mean()
    if not centring:
        return loss
    return loss + centring * (chosen + rejected).square().mean()


def token_log_probs(
    logits: Float[Tensor, "batch position vocab"],
    targets: Int[Tensor, "batch position"],
    mask: Bool[Tensor, "batch position"],
) -> Float[Tensor, "batch position"]:
    """Return the log-probability of each target that counts, in nats; 0 elsewhere.

    Args:
        logits: Unnormalised log-probabilities.
        targets: Index of the token at each position; any where it is masked.
        mask: True on the tokens of the answer.
    """
    asked = logits[mask]  # (N, V)
    log_probs = asked.log_softmax(dim=-1).gather(-1, targets[mask].unsqueeze(-1))
    return logits.new_zeros(mask.shape).masked_scatter(mask, log_probs.squeeze(-1))


def sequence_log_probs(
    logits: Float[Tensor, "batch position vocab"],
    targets: Int[Tensor, "batch position"],
    mask: Bool[Tensor, "batch position"],
) -> Float[Tensor, "batch"]:
    """Return the log-probability of each answer, in nats: the sum over its tokens.

    Args:
        logits: Unnormalised log-probabilities.
        targets: Index of the token at each position; any where it is masked.
        mask: True on the tokens of the answer.

    Raises:
        ValueError: If a row has no answer.

    >>> targets, mask = torch.tensor([[0, 3, 2]]), torch.tensor([[False, True, True]])
    >>> sequence_log_probs(torch.zeros(1, 3, 4), targets, mask)  # -2 log 4
    tensor([-2.7726])
    """
    _check_answers(mask)
    return token_log_probs(logits, targets, mask).sum(dim=-1)


class DPOLoss(NamedTuple):
    """The loss, and what the policy is implied to find the answers worth."""

    loss: Float[Tensor, ""]  # mean, in nats per pair
    chosen_rewards: Float[Tensor, "pair"]  # no gradient
    rejected_rewards: Float[Tensor, "pair"]

    @property
    def margins(self) -> Float[Tensor, "pair"]:
        """By how much the chosen answer's reward is higher, without unit."""
        return self.chosen_rewards - self.rejected_rewards


def dpo_loss(
    policy_chosen: Float[Tensor, "pair"],
    policy_rejected: Float[Tensor, "pair"],
    reference_chosen: Float[Tensor, "pair"],
    reference_rejected: Float[Tensor, "pair"],
    *,
    beta: float | int = 0.1,
    label_smoothing: float | int = 0.0,
) -> DPOLoss:
    """Return the loss of direct preference optimisation, and the implicit rewards.

    The reward of an answer is β times the log of how much more probable it has become
    under the policy than under the reference. A constant that depends on the prompt
    alone is missing from it; in the difference of two answers it does not matter.

    Args:
        policy_chosen: Log-probabilities of the preferred answers, in nats.
        policy_rejected: Of the others, in the same order.
        reference_chosen: The same under the reference, which is not trained.
        reference_rejected: See there.
        beta: How much it costs to leave the reference; small: little.
        label_smoothing: Supposed share of preferences that are the wrong way round.
            Above 0, no pair can be had too surely ("conservative" DPO).

    Raises:
        ValueError: If there are no pairs, `beta` is not positive, or
            `label_smoothing` not in [0, 0.5).

    Source: Rafailov et al. (2023), equation 7; Mitchell (2023), "A note on DPO with
    noisy preferences" (label smoothing).

    >>> same = torch.tensor([-3.0, -5.0])
    >>> dpo_loss(same, same, same, same).loss  # log 2: policy and reference are equal
    tensor(0.6931)
    """
    if not beta > 0 or not 0 <= label_smoothing < 0.5:
        raise ValueError(
            "beta must be positive and label_smoothing in [0, 0.5), "
            f"got {beta} and {label_smoothing}"
        )
    _check_not_empty(policy_chosen)
    chosen = beta * (policy_chosen - reference_chosen)
    rejected = beta * (policy_rejected - reference_rejected)
    margins = chosen - rejected
    right = -logsigmoid(margins)  # surprise if the label is right, and if it is wrong
    wrong = -logsigmoid(-margins)
    loss = ((1 - label_smoothing) * right + label_smoothing * wrong).mean()
    return DPOLoss(loss, chosen.detach(), rejected.detach())


def _check_not_empty(values: Tensor) -> None:
    if not values.numel():
        raise ValueError("a loss needs at least one pair, got none")


def _check_answers(mask: Tensor) -> None:
    if not mask.any(dim=-1).all():
        rows = (~mask.any(dim=-1)).nonzero().flatten().tolist()
        raise ValueError(
            f"each row needs at least one token that counts, got none in rows {rows}"
        )
