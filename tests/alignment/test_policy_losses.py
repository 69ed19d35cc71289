"""Losses of a policy against loops in double precision, and their gradients."""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from llmcourse.alignment.losses import (
    clipped_value_loss,
    entropy,
    grpo_loss,
    kl_k1,
    kl_k3,
    ppo_policy_loss,
)


def random_case(seed=0, batch=4, width=7, dtype=torch.float64):
    """Return old and new log-probabilities, those of a reference, and a mask."""
    generator = torch.Generator().manual_seed(seed)
    old, new, reference = (
        -torch.rand(batch, width, generator=generator, dtype=dtype) for _ in range(3)
    )
    mask = torch.rand(batch, width, generator=generator) < 0.6
    mask[0], mask[1] = False, True
    advantages = torch.randn(batch, width, generator=generator, dtype=dtype)
    return old, new, reference, mask, advantages


def average(values, mask, averaging):
    """Return the mean, by lists: `values` is a function of row and position."""
    rows = [
        [values(b, t) for t in range(mask.shape[1]) if mask[b, t]]
        for b in range(mask.shape[0])
    ]
    if averaging == "token":
        rows = [[v for row in rows for v in row]]
    means = [sum(row) / len(row) for row in rows if row]
    return sum(means) / len(means)


# Worked example


def test_worked_example_of_four_tokens():
    """Ratios 2, 2, 1/2, 1/2 with advantages 1, −1, 1, −1, and ε = 0.2.

    The objective's terms are min(2, 1.2), min(−2, −1.2), min(0.5, 0.8) and
    min(−0.5, −0.8): 1.2, −2, 0.5, −0.8, of mean −1.1/4. The first and the last are
    clipped: the probability has moved far enough in the direction of the gain.
    """
    new = torch.tensor([[2.0, 2.0, 0.5, 0.5]]).log().requires_grad_()
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    found = ppo_policy_loss(
        new, torch.zeros(1, 4), advantages, torch.ones(1, 4).bool(), clip_range=0.2
    )
    assert found.loss.item() == pytest.approx(1.1 / 4)
    assert found.clip_fraction == 0.5
    found.loss.backward()
    torch.testing.assert_close(new.grad, torch.tensor([[0, 0.5, -0.125, 0]]))


# Law


def test_at_ratio_1_the_gradient_is_the_policy_gradient():
    old, _, reference, mask, advantages = random_case()
    new = old.clone().requires_grad_()
    ppo_policy_loss(new, old, advantages, mask).loss.backward()
    expected = -advantages.where(mask, 0.0) / mask.sum()
    torch.testing.assert_close(new.grad, expected)
    new.grad = None
    one = advantages[:, 0]
    grpo_loss(
        new, old, reference, one, mask, kl_coef=0, averaging="token"
    ).loss.backward()
    expected = -one[:, None].expand_as(old).where(mask, 0.0) / mask.sum()
    torch.testing.assert_close(new.grad, expected)


def test_masked_positions_have_no_influence():
    old, new, reference, mask, advantages = random_case()
    results = []
    for filler in (0.0, math.nan, math.inf, -math.inf):
        o, r, a = (x.where(mask, filler) for x in (old, reference, advantages))
        n = new.where(mask, filler).requires_grad_()
        value = clipped_value_loss(n, o, a, mask, 0.3)
        policy = ppo_policy_loss(n, o, a, mask)
        grouped = grpo_loss(n, o, r, advantages[:, 1], mask, kl_coef=0.5)
        (value + policy.loss + grouped.loss).backward()
        results.append((value, *policy, *grouped, n.grad))
    for result in results[1:]:
        for found, expected in zip(result, results[0], strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not results[0][-1][~mask].any()


@pytest.mark.parametrize("averaging", ["token", "sequence"])
def test_no_token_at_all_is_no_loss_and_no_nan(averaging):
    old, new, reference, mask, advantages = random_case()
    mask, new = torch.zeros_like(mask), new.requires_grad_()
    losses = (
        ppo_policy_loss(new, old, advantages, mask, averaging=averaging).loss,
        grpo_loss(
            new, old, reference, advantages[:, 0], mask, averaging=averaging
        ).loss,
        clipped_value_loss(new, old, reference, mask),
    )
    sum(losses).backward()
    assert [loss.item() for loss in losses] == [0, 0, 0]
    assert not new.grad.any()


def test_the_estimators_mean_the_divergence():
    """Averaged over the policy's own draws, k1 and k3 are exact."""
    generator = torch.Generator().manual_seed(3)
    logits, other = torch.randn(2, 1, 6, generator=generator, dtype=torch.float64)
    log_p, log_q = logits.log_softmax(-1), other.log_softmax(-1)
    p = log_p.exp()
    divergence = (p * (log_p - log_q)).sum()
    for estimator in (kl_k1, kl_k3):
        torch.testing.assert_close((p * estimator(log_p, log_q)).sum(), divergence)


def test_the_estimators_at_equal_and_unequal_policies():
    old, new, *_ = random_case()
    for estimator in (kl_k1, kl_k3):
        assert not estimator(old, old).any()
    assert (kl_k1(new, old) < 0).any()
    assert (kl_k3(new, old) > 0).all()


def test_values_may_move_freely_without_a_clip():
    old, values, returns, mask, _ = random_case()
    plain = 0.5 * (values - returns)[mask].square().mean()
    torch.testing.assert_close(clipped_value_loss(values, old, returns, mask), plain)


def test_the_averagings_differ_by_length_only():
    old, new, reference, mask, advantages = random_case()
    both = [
        grpo_loss(new, old, reference, advantages[:, 0], m, averaging=a).loss.item()
        for m in (torch.ones_like(mask), mask)
        for a in ("token", "sequence")
    ]
    assert both[0] == pytest.approx(both[1])
    assert both[2] != pytest.approx(both[3])


# Reference


@pytest.mark.parametrize("averaging", ["token", "sequence"])
@pytest.mark.parametrize("seed", range(3))
def test_policy_losses_against_a_loop(seed, averaging):
    old, new, reference, mask, advantages = random_case(seed)

    def term(advantage, b, t):
        ratio = math.exp(new[b, t] - old[b, t])
        bounded = min(max(ratio, 0.9), 1.1)
        return -min(ratio * advantage, bounded * advantage)

    def with_kl(b, t):
        r = math.exp(reference[b, t] - new[b, t])
        return term(advantages[b, 2].item(), b, t) + 0.3 * (r - 1 - math.log(r))

    def clipped(b, t):
        ratio, advantage = math.exp(new[b, t] - old[b, t]), advantages[b, t].item()
        return float((ratio > 1.1) if advantage > 0 else (ratio < 0.9))

    found = ppo_policy_loss(new, old, advantages, mask, 0.1, averaging)
    expected = average(
        lambda b, t: term(advantages[b, t].item(), b, t), mask, averaging
    )
    assert found.loss.item() == pytest.approx(expected, abs=1e-6)
    assert found.clip_fraction == pytest.approx(average(clipped, mask, "token"))
    found = grpo_loss(
        new,
        old,
        reference,
        advantages[:, 2],
        mask,
        clip_range=0.1,
        kl_coef=0.3,
        averaging=averaging,
    )
    assert found.loss.item() == pytest.approx(
        average(with_kl, mask, averaging), abs=1e-6
    )


@pytest.mark.parametrize("clip_range", [0.05, 0.2, math.inf])
def test_value_loss_against_a_loop(clip_range):
    old, values, returns, mask, _ = random_case(4)

    def term(b, t):
        value, before, goal = (x[b, t].item() for x in (values, old, returns))
        near = min(max(value, before - clip_range), before + clip_range)
        return 0.5 * max((value - goal) ** 2, (near - goal) ** 2)

    found = clipped_value_loss(values, old, returns, mask, clip_range)
    assert found.item() == pytest.approx(average(term, mask, "token"), abs=1e-6)


def trls_loss(trl, loss_type, new, old, reference, mask, advantages, beta):
    """Return the loss of TRL's GRPO trainer, which is given log-probabilities.

    Answers without a token, which ours leaves out, count in its mean: there are none.
    """
    accelerator = SimpleNamespace(
        gather=lambda tensor: tensor, reduce=lambda tensor, reduction: tensor
    )
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=accelerator,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None),
        loss_type=loss_type,
        beta=beta,
        epsilon_low=0.1,
        epsilon_high=0.1,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (new, 0 * new, None),
    )
    ids = mask.long()
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": ids[:, :1],
        "completion_ids": ids,
        "completion_mask": mask.to(new.dtype),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
    }
    return trl.GRPOTrainer._compute_loss(trainer, None, inputs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("averaging", "loss_type"), [("sequence", "grpo"), ("token", "bnpo")]
)
def test_policy_losses_equal_trls(averaging, loss_type, seed):
    """Loss and gradient; TRL has no trainer for PPO, but its loss is GRPO's without a
    divergence and with an advantage for each token.
    """
    trl = pytest.importorskip("trl")
    old, new, reference, mask, advantages = (part[1:] for part in random_case(seed))
    new.requires_grad_()
    options = {"clip_range": 0.1, "averaging": averaging}
    for kl_coef in (0.0, 0.3):
        each = advantages[:, 2]
        ours = grpo_loss(new, old, reference, each, mask, kl_coef=kl_coef, **options)
        theirs = trls_loss(trl, loss_type, new, old, reference, mask, each, kl_coef)
        assert_alike(new, ours.loss, theirs)
    ours = ppo_policy_loss(new, old, advantages, mask, **options)
    theirs = trls_loss(trl, loss_type, new, old, reference, mask, advantages, 0.0)
    assert_alike(new, ours.loss, theirs)


def assert_alike(inputs, *losses):
    """Assert that two losses and their gradients are equal, to 1e-6."""
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-6)
    gradients = [torch.autograd.grad(loss, inputs)[0] for loss in losses]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-6)


def test_entropy_against_torch():
    logits = 5 * torch.randn(2, 3, 11, generator=torch.Generator().manual_seed(0))
    logits[0, 0, 0] = 200.0  # as sure as can be
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(entropy(logits), expected)


# Refusals


def test_impossible_settings():
    old, new, reference, mask, advantages = random_case()
    for clip_range in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match="clip_range must be positive"):
            ppo_policy_loss(new, old, advantages, mask, clip_range)
        with pytest.raises(ValueError, match="clip_range must be positive"):
            clipped_value_loss(new, old, reference, mask, clip_range)
    with pytest.raises(ValueError, match="kl_coef must not be negative, got -1"):
        grpo_loss(new, old, reference, advantages[:, 0], mask, kl_coef=-1)
