"""All losses, and advantages, against plain loops, the papers' formulas and TRL's.

First what learns from pairs, then advantages, then the losses of PPO and GRPO.
"""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from model_cases import seeded

from llmcourse.alignment.losses import (
    PER_TOKEN_LOSSES,
    bradley_terry_loss,
    dpo_loss,
    entropy,
    gae,
    group_advantages,
    grpo_loss,
    kl_k1,
    kl_k3,
    masked_average,
    ppo_policy_loss,
    sequence_log_probs,
    whiten,
)

B, T, V = 3, 5, 7


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def sigma(x):
    return 1 / (1 + math.exp(-x))


def answers():
    """Return logits, targets and masks with answers of 1, 3 and 4 tokens."""
    logits, targets = randn(B, T, V), torch.randint(V, (B, T), generator=seeded(1))
    mask = torch.zeros(B, T, dtype=torch.bool)
    for row, (start, end) in enumerate(((4, 5), (1, 4), (0, 4))):
        mask[row, start:end] = True
    return logits, targets, mask


def four(n=5, scale=3.0):
    """Return log-probabilities: policy's chosen and rejected, then the reference's."""
    return [-10 + scale * randn(n, seed=seed) for seed in range(4)]


# Worked example


def test_worked_example_of_a_comparison():
    """Rewards log 3 and 0: the chosen one had the probability 3 / (3 + 1), so the
    surprise is log 4/3. With a coefficient of 1/2, (log 3)² / 2 is added.
    """
    chosen, rejected = torch.tensor([math.log(3)]), torch.zeros(1)
    loss = bradley_terry_loss(chosen, rejected)
    assert loss.item() == pytest.approx(math.log(4 / 3), rel=1e-6)
    centred = bradley_terry_loss(chosen, rejected, center_rewards_coefficient=0.5)
    assert centred.item() == pytest.approx(math.log(4 / 3) + math.log(3) ** 2 / 2)


def test_worked_example_of_dpo():
    """Both answers were as probable as e⁻⁴. The chosen one is now e³ times as
    probable, the rejected one e⁻¹ times: rewards 1.5 and -0.5 at β = 1/2, margin 2.
    """
    reference = torch.tensor([-4.0])
    found = dpo_loss(reference + 3, reference - 1, reference, reference, beta=0.5)
    assert found.loss.item() == pytest.approx(-math.log(sigma(2)), rel=1e-6)
    assert found.margins.item() == 2.0


def test_worked_example_of_a_sequence():
    """Of the tokens' probabilities 1/2, 1/4 and 1/8 the last two are the answer's."""
    probs = torch.tensor([[[1 / 2, 1 / 2], [1 / 4, 3 / 4], [7 / 8, 1 / 8]]])
    targets, mask = torch.tensor([[0, 0, 1]]), torch.tensor([[False, True, True]])
    total = sequence_log_probs(probs.log(), targets, mask)
    assert total.item() == pytest.approx(-math.log(32), rel=1e-6)


def test_worked_example_of_other_losses_of_pairs():
    """The chosen answer has become e³ times likelier, the rejected one e times less:
    a log-ratio difference of 4. With β 1/4 the margin is 1, so the hinge is at its end
    and the squared distance to 1 / 2β = 2 is 4. With β 1/8 the margin is 1/2, the
    hinge half a point away, and IPO at its optimum.
    """
    reference = torch.tensor([-7.0])
    parts = reference + 3, reference - 1, reference, reference
    for beta, hinge, ipo in ((0.25, 0.0, 4.0), (0.125, 0.5, 0.0)):
        found = (
            dpo_loss(*parts, beta=beta, loss_type=name).loss
            for name in ("hinge", "ipo")
        )
        assert [loss.item() for loss in found] == [hinge, ipo]


# Law


def test_the_loss_of_equals_is_log_2():
    same, other = randn(4), randn(4, seed=1)
    assert bradley_terry_loss(same, same).item() == pytest.approx(math.log(2))
    found = dpo_loss(same, other, same, other)
    assert found.loss.item() == pytest.approx(math.log(2))
    assert torch.equal(found.margins, torch.zeros(4))


def test_only_differences_count():
    """A constant for each pair, added to both rewards, or to both log-probabilities of
    policy or reference, changes nothing.
    """
    chosen, rejected, ref_chosen, ref_rejected = (part.double() for part in four())
    constant = randn(5, seed=9).double()
    torch.testing.assert_close(
        bradley_terry_loss(chosen + constant, rejected + constant),
        bradley_terry_loss(chosen, rejected),
    )
    one = dpo_loss(chosen, rejected, ref_chosen, ref_rejected)
    for shift in ((constant, 0), (0, constant), (constant, -2 * constant)):
        two = dpo_loss(
            chosen + shift[0],
            rejected + shift[0],
            ref_chosen + shift[1],
            ref_rejected + shift[1],
        )
        torch.testing.assert_close(two.loss, one.loss)
        torch.testing.assert_close(two.margins, one.margins)


@pytest.mark.parametrize("margin", [-30.0, -2.0, 0.0, 2.0, 30.0])
def test_the_gradient_vanishes_as_the_margin_grows(margin):
    """It is σ(-margin), times β under DPO; at equal preferences half of that."""
    chosen = torch.tensor([margin], requires_grad=True)
    bradley_terry_loss(chosen, torch.zeros(1)).backward()
    assert chosen.grad.item() == pytest.approx(-sigma(-margin), rel=1e-5)
    policy = torch.tensor([-7.0 + margin / 0.25], requires_grad=True)
    reference = torch.tensor([-7.0])
    dpo_loss(policy, reference, reference, reference, beta=0.25).loss.backward()
    assert policy.grad.item() == pytest.approx(-0.25 * sigma(-margin), rel=1e-5)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_losses_are_finite_at_extremes(size):
    """Where σ is 0 or 1 in floats, the loss still is the size of the error, or 0."""
    high = torch.tensor([size], requires_grad=True)
    low = torch.zeros(1)
    wrong, right = bradley_terry_loss(low, high), bradley_terry_loss(high, low)
    assert wrong.item() == pytest.approx(size)
    assert right.item() == 0
    (wrong + right).backward()
    assert high.grad.item() == pytest.approx(1)
    found = dpo_loss(low, high.detach(), low, low, beta=1)
    assert found.loss.item() == pytest.approx(size)


def test_what_is_masked_has_no_influence():
    """Neither another logit, nor NaN, nor a target that does not exist."""
    logits, targets, mask = answers()
    whole = sequence_log_probs(logits, targets, mask)
    for odd in (100.0, math.inf, math.nan):
        others = logits.where(mask[..., None], torch.tensor(odd))
        strange = targets.where(mask, torch.tensor(99))
        assert torch.equal(sequence_log_probs(others, strange, mask), whole)


def test_what_is_masked_gets_no_gradient():
    """And every token of an answer gets some."""
    logits, targets, mask = answers()
    logits.requires_grad_()
    sequence_log_probs(logits, targets, mask).square().sum().backward()
    assert torch.equal(logits.grad.abs().sum(dim=-1) > 0, mask)


# Reference


def test_log_probs_equal_a_slow_loop_in_double_precision():
    logits, targets, mask = answers()
    expected = []
    for row in range(B):
        total = 0.0
        for place in range(T):
            if mask[row, place]:
                scores = [math.exp(x) for x in logits[row, place].tolist()]
                total += math.log(scores[targets[row, place]] / sum(scores))
        expected.append(total)
    found = sequence_log_probs(logits, targets, mask)
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("coefficient", [0.0, 0.3])
def test_bradley_terry_equals_equation_1(coefficient):
    """-log( e^a / (e^a + e^b) ): the probability that a is preferred to b."""
    chosen, rejected = 3 * randn(6), 3 * randn(6, seed=1)
    expected = [
        -math.log(math.exp(a) / (math.exp(a) + math.exp(b)))
        + coefficient * (a + b) ** 2
        for a, b in zip(chosen.tolist(), rejected.tolist(), strict=True)
    ]
    loss = bradley_terry_loss(chosen, rejected, coefficient)
    assert loss.item() == pytest.approx(sum(expected) / 6, rel=1e-6)


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_dpo_equals_equation_7(beta):
    """Written with the ratios of probabilities themselves."""
    parts, expected = four(), []
    for policy_c, policy_r, ref_c, ref_r in zip(
        *(part.tolist() for part in parts), strict=True
    ):
        better = (math.exp(policy_c) / math.exp(ref_c)) ** beta
        worse = (math.exp(policy_r) / math.exp(ref_r)) ** beta
        expected.append(-math.log(better / (better + worse)))
    found = dpo_loss(*parts, beta=beta)
    assert found.loss.item() == pytest.approx(sum(expected) / 5, rel=1e-6)


def stub(**settings):
    """Return what TRL's losses need of a trainer: settings, and a single process."""
    accelerator = SimpleNamespace(
        device="cpu",
        gather=lambda tensor: tensor,
        gather_for_metrics=lambda tensor: tensor,
    )
    metrics = {name: defaultdict(list) for name in ("train", "eval")}
    return SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=accelerator,
        _metrics=metrics,
        _total_train_tokens=0,
        _tp_size=1,
        **settings,
    )


@pytest.mark.parametrize("coefficient", [None, 0.01])
def test_bradley_terry_equals_trls(coefficient):
    trl = pytest.importorskip("trl")
    rewards = 3 * randn(2, 6)
    trainer = stub(args=SimpleNamespace(center_rewards_coefficient=coefficient))
    theirs = trl.RewardTrainer.compute_loss(
        trainer,
        lambda **_: SimpleNamespace(logits=rewards.reshape(12, 1)),
        {"attention_mask": torch.ones(12, 5)},
    )
    ours = bradley_terry_loss(rewards[0], rewards[1], coefficient or 0.0)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def trls_dpo(trl, ids, marked, logits, reference, **settings):
    """Return TRL's loss and metrics: rows are ids, the answers marked, of pairs whose
    chosen answers come first.
    """

    def model(*, input_ids, labels, **_):
        each = logits.log_softmax(-1).gather(-1, input_ids[:, 1:, None]).squeeze(-1)
        return SimpleNamespace(
            log_probs=each * (labels[:, 1:] != -100),
            entropy=torch.zeros(each.shape),
            mean_logits=torch.zeros(each.shape),
            is_top1=torch.zeros(each.shape, dtype=torch.bool),
        )

    trainer = stub(
        ld_alpha=None,
        precompute_ref_logps=True,
        aux_loss_enabled=False,
        f_divergence_type="reverse_kl",
        loss_weights=[1.0],
        use_weighting=False,
        **settings,
    )
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "completion_mask": marked.long(),
        "ref_chosen_logps": reference[0],
        "ref_rejected_logps": reference[1],
    }
    loss = trl.DPOTrainer._compute_loss(trainer, model, inputs, False)
    return loss, trainer._metrics["train"]


@pytest.mark.parametrize("loss_type", ["sigmoid", "hinge", "ipo"])
def test_dpo_equals_trls(loss_type):
    """From the logits on: log-probabilities, their sums over the answers, the loss and
    the margins.
    """
    trl = pytest.importorskip("trl")
    ids = torch.randint(V, (2 * B, T + 1), generator=seeded(1))
    marked = torch.zeros(2 * B, T + 1, dtype=torch.bool)
    for row, (start, end) in enumerate(
        ((5, 6), (2, 5), (1, 5), (3, 4), (4, 6), (1, 2))
    ):
        marked[row, start:end] = True
    logits, others = randn(2 * B, T, V, seed=2), randn(2 * B, T, V, seed=3)
    targets, mask = ids[:, 1:], marked[:, 1:]
    policy, reference = (
        sequence_log_probs(each, targets, mask).chunk(2) for each in (logits, others)
    )
    sizes = mask.sum(dim=1).chunk(2) if loss_type in PER_TOKEN_LOSSES else (1, 1)
    means = [
        total / n
        for each in (policy, reference)
        for total, n in zip(each, sizes, strict=True)
    ]
    ours = dpo_loss(*means, beta=0.3, loss_type=loss_type)
    chosen, rejected, losses = [], [], []
    for pair in range(B):
        rows = [pair, B + pair]
        loss, metrics = trls_dpo(
            trl,
            ids[rows],
            marked[rows],
            logits[rows],
            [each[pair : pair + 1] for each in reference],
            beta=0.3,
            label_smoothing=0.0,
            loss_types=[loss_type],
        )
        losses.append(loss.item())
        chosen += metrics["rewards/chosen"]
        rejected += metrics["rewards/rejected"]
    assert ours.loss.item() == pytest.approx(sum(losses) / B, abs=1e-6)
    rewards = [
        torch.tensor(sums) / n
        for sums, n in zip((chosen, rejected), sizes, strict=True)
    ]
    torch.testing.assert_close(ours.margins, rewards[0] - rewards[1])


def rewards_values_mask(seed=0, batch=5, width=9):
    """Return rewards, values and a mask with holes, an empty row and a full one."""
    generator = seeded(seed)
    rewards, values = (
        torch.randn(batch, width, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )
    mask = torch.rand(batch, width, generator=generator) < 0.6
    mask[0], mask[1] = False, True
    return rewards, values, mask


# Worked example


def test_worked_example_of_three_tokens():
    """Rewards 0, 0, 8; the critic says 4, 5, 6; γ = 1, λ = 1/2.

    Surprises: 0 + 5 − 4 = 1, 0 + 6 − 5 = 1, 8 + 0 − 6 = 2. From the end: 2, then
    1 + 2/2 = 2, then 1 + 2/2 = 2.
    """
    rewards, values = torch.tensor([[0.0, 0, 8]]), torch.tensor([[4.0, 5, 6]])
    found = gae(rewards, values, torch.ones(1, 3).bool(), gamma=1, gae_lambda=0.5)
    torch.testing.assert_close(found, torch.tensor([[2.0, 2.0, 2.0]]))


def test_worked_example_of_a_group():
    """Scores 1, 2, 6: mean 3, deviations −2, −1, 3, of sample variance 14/2 = 7."""
    found = group_advantages(torch.tensor([1.0, 2.0, 6.0]), 3)
    torch.testing.assert_close(found, torch.tensor([-2.0, -1.0, 3.0]) / (7**0.5 + 1e-4))


# Law


def test_trace_1_is_return_minus_value():
    rewards, values, mask = rewards_values_mask()
    mask[:, :] = True
    returns = rewards.flip(1).cumsum(1).flip(1)
    found = gae(rewards, values, mask, gae_lambda=1)
    torch.testing.assert_close(found, returns - values)


def test_trace_0_is_the_next_surprise():
    rewards, values, mask = rewards_values_mask()
    mask[:, :] = True
    following = torch.cat((values[:, 1:], torch.zeros(5, 1, dtype=values.dtype)), dim=1)
    found = gae(rewards, values, mask, gamma=0.7, gae_lambda=0)
    torch.testing.assert_close(found, rewards + 0.7 * following - values)


def test_a_perfect_critic_is_never_surprised():
    rewards, _, mask = rewards_values_mask()
    rewards = rewards.where(mask, 0.0)
    returns = rewards.flip(1).cumsum(1).flip(1)
    found = gae(rewards, returns, mask, gae_lambda=0.3)
    torch.testing.assert_close(found, torch.zeros_like(rewards))


@pytest.mark.parametrize("averaging", ["token", "sequence"])
def test_masked_positions_have_no_influence(averaging):
    rewards, values, mask = rewards_values_mask()
    bad_rewards, bad_values = (x.where(mask, torch.nan) for x in (rewards, values))
    for clean, spoilt in (
        (gae(rewards, values, mask), gae(bad_rewards, bad_values, mask)),
        (whiten(values, mask), whiten(bad_values, mask)),
        (
            masked_average(values, mask, averaging),
            masked_average(bad_values, mask, averaging),
        ),
    ):
        assert torch.equal(clean, spoilt)
        assert clean.isfinite().all()


def test_holes_are_skipped_over():
    """A row with holes has the advantages of the row without them."""
    rewards, values, mask = rewards_values_mask()
    holey = gae(rewards, values, mask, gamma=0.9, gae_lambda=0.8)
    for row in range(1, 5):
        there = mask[row]
        dense = gae(
            rewards[row, there][None],
            values[row, there][None],
            torch.ones(1, int(there.sum())).bool(),
            gamma=0.9,
            gae_lambda=0.8,
        )
        torch.testing.assert_close(holey[row, there], dense[0])


def test_nothing_at_all_is_zero_and_not_nan():
    values, mask = torch.ones(2, 3), torch.zeros(2, 3).bool()
    for found in (
        whiten(values, mask),
        gae(values, values, mask),
        masked_average(values, mask, "token"),
        masked_average(values, mask, "sequence"),
    ):
        assert not found.any()


@pytest.mark.parametrize("values", [[[4.0, 4.0, 4.0]], [[4.0, 4.0, 0.0]]])
def test_equal_values_whiten_to_zero(values):
    mask = torch.tensor([[True, True, False]])
    assert not whiten(torch.tensor(values), mask).any()


@pytest.mark.parametrize("averaging", ["token", "sequence"])
def test_the_mean_of_one_token_is_its_value(averaging):
    values, mask = torch.tensor([[3.0, 9.0]]), torch.tensor([[True, False]])
    assert masked_average(values, mask, averaging).item() == 3.0


def test_one_value_whitens_to_zero():
    assert not whiten(torch.tensor([[7.0]]), torch.ones(1, 1).bool()).any()


@pytest.mark.parametrize("scale", [True, False])
def test_a_constant_added_to_a_group_changes_nothing(scale):
    scores = torch.randn(12, generator=seeded(), dtype=torch.float64)
    shifts = torch.tensor([5.0, -3.0, 0.5], dtype=torch.float64).repeat_interleave(4)
    plain, shifted = (
        group_advantages(x, 4, scale=scale) for x in (scores, scores + shifts)
    )
    torch.testing.assert_close(plain, shifted)
    torch.testing.assert_close(
        plain.view(3, 4).sum(dim=1), torch.zeros(3, dtype=torch.float64)
    )


def test_a_group_that_agrees_teaches_nothing():
    for scale in (True, False):
        assert not group_advantages(torch.full((6,), 4.0), 3, scale=scale).any()


def test_only_scaling_hides_how_far_apart_scores_are():
    scores = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    wide = group_advantages(100 * scores, 3)
    torch.testing.assert_close(wide, group_advantages(scores, 3), rtol=1e-3, atol=0)
    plain = group_advantages(scores, 3, scale=False)
    torch.testing.assert_close(
        group_advantages(100 * scores, 3, scale=False), 100 * plain
    )


# Reference


@pytest.mark.parametrize("seed", range(3))
def test_gae_is_the_sum_of_equation_16(seed):
    rewards, values, mask = rewards_values_mask(seed)
    found = gae(rewards, values, mask, gamma=0.93, gae_lambda=0.8)
    for row in range(5):
        places = mask[row].nonzero()[:, 0].tolist()
        expected = torch.zeros(9, dtype=torch.float64)
        for k, place in enumerate(places):
            for distance, later in enumerate(places[k:]):
                n = k + distance
                after = values[row, places[n + 1]] if n + 1 < len(places) else 0.0
                surprise = rewards[row, later] + 0.93 * after - values[row, later]
                expected[place] += (0.93 * 0.8) ** distance * surprise
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-6)


def test_whitening_is_that_of_the_values_alone():
    _, values, mask = rewards_values_mask(1)
    kept = values[mask]
    expected = (kept - kept.mean()) / kept.std()
    torch.testing.assert_close(whiten(values, mask)[mask], expected, rtol=0, atol=1e-6)


def test_averages_against_lists():
    _, values, mask = rewards_values_mask(2)
    rows = [v[m].tolist() for v, m in zip(values, mask, strict=True)]
    every = [v for row in rows for v in row]
    means = [sum(row) / len(row) for row in rows if row]
    assert masked_average(values, mask).item() == pytest.approx(sum(every) / len(every))
    assert masked_average(values, mask, "sequence").item() == pytest.approx(
        sum(means) / len(means)
    )


def random_case(seed=0, batch=4, width=7, dtype=torch.float64):
    """Return old and new log-probabilities, those of a reference, and a mask."""
    generator = seeded(seed)
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


def test_masked_positions_have_no_influence_on_policy_losses():
    old, new, reference, mask, advantages = random_case()
    results = []
    for filler in (0.0, math.nan, math.inf, -math.inf):
        o, r, a = (x.where(mask, filler) for x in (old, reference, advantages))
        n = new.where(mask, filler).requires_grad_()
        policy = ppo_policy_loss(n, o, a, mask)
        grouped = grpo_loss(n, o, r, advantages[:, 1], mask, kl_coef=0.5)
        (policy.loss + grouped.loss).backward()
        results.append((*policy, *grouped, n.grad))
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
    )
    sum(losses).backward()
    assert [loss.item() for loss in losses] == [0, 0]
    assert not new.grad.any()


def test_the_estimators_mean_the_divergence():
    """Averaged over the policy's own draws, k1 and k3 are exact."""
    generator = seeded(3)
    logits, other = torch.randn(2, 1, 6, generator=generator, dtype=torch.float64)
    log_p, log_q = logits.log_softmax(-1), other.log_softmax(-1)
    p = log_p.exp()
    divergence = (p * (log_p - log_q)).sum()
    for estimator in (kl_k1, kl_k3):
        torch.testing.assert_close((p * estimator(log_p, log_q)).sum(), divergence)


def test_k3_pulls_by_the_gradient_of_the_divergence_the_other_way_round():
    """On average over actions just drawn, as in GRPO's first step on a batch."""
    generator = seeded(3)
    logits, other = torch.randn(2, 1, 6, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    log_p, log_q = logits.log_softmax(-1), other.log_softmax(-1)
    mean = (log_p.exp().detach() * kl_k3(log_p, log_q)).sum()
    there = (log_p.exp() * (log_p - log_q)).sum()
    back = (log_q.exp() * (log_q - log_p)).sum()
    pull, forward, reverse = (
        torch.autograd.grad(value, logits, retain_graph=True)[0]
        for value in (mean, there, back)
    )
    torch.testing.assert_close(pull, reverse)
    assert (pull - forward).abs().max() > 0.05


def test_the_estimators_at_equal_and_unequal_policies():
    old, new, *_ = random_case()
    for estimator in (kl_k1, kl_k3):
        assert not estimator(old, old).any()
    assert (kl_k1(new, old) < 0).any()
    assert (kl_k3(new, old) > 0).all()


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
    logits = 5 * torch.randn(2, 3, 11, generator=seeded())
    logits[0, 0, 0] = 200.0  # as sure as can be
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(entropy(logits), expected)


@pytest.mark.parametrize(("score", "n"), [(7.3, 8), (100.1, 8), (1000.1, 7)])
def test_equal_scores_are_no_better_than_each_other(score, n):
    assert group_advantages(torch.tensor([score] * n), n).tolist() == [0.0] * n
    row = torch.full((1, n), score)
    assert whiten(row, torch.ones(1, n, dtype=torch.bool)).tolist() == [[0.0] * n]


@pytest.mark.parametrize(
    ("group_size", "message"),
    [
        (0, "group_size must be at least 2, got 0"),
        (1, "group_size must be at least 2, got 1"),
        (3, "scores must be a multiple of group_size, got 4 and 3"),
    ],
)
def test_refuses_groups_that_cannot_be_compared(group_size, message):
    with pytest.raises(ValueError, match=message):
        group_advantages(torch.ones(4), group_size)
