"""The losses of learning from comparisons, against the papers' formulas and TRL's."""

import math
from types import SimpleNamespace

import pytest
import torch

from llmcourse.alignment.losses import (
    PER_TOKEN_LOSSES,
    bradley_terry_loss,
    dpo_loss,
    sequence_log_probs,
    token_log_probs,
)

B, T, V = 3, 5, 7


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


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
    assert found.chosen_rewards.item() == 1.5
    assert found.rejected_rewards.item() == -0.5
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
    for smoothing in (0.0, 0.2):
        found = dpo_loss(same, other, same, other, label_smoothing=smoothing)
        assert found.loss.item() == pytest.approx(math.log(2))
        assert torch.equal(found.margins, torch.zeros(4))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_only_differences_count(smoothing):
    """A constant for each pair, added to both rewards, or to both log-probabilities of
    policy or reference, changes nothing.
    """
    chosen, rejected, ref_chosen, ref_rejected = (part.double() for part in four())
    constant = randn(5, seed=9).double()
    torch.testing.assert_close(
        bradley_terry_loss(chosen + constant, rejected + constant),
        bradley_terry_loss(chosen, rejected),
    )
    one = dpo_loss(
        chosen, rejected, ref_chosen, ref_rejected, label_smoothing=smoothing
    )
    for shift in ((constant, 0), (0, constant), (constant, -2 * constant)):
        two = dpo_loss(
            chosen + shift[0],
            rejected + shift[0],
            ref_chosen + shift[1],
            ref_rejected + shift[1],
            label_smoothing=smoothing,
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


def test_smoothed_labels_are_content_with_a_margin():
    """With a share ε of wrong labels the best margin is log((1 - ε) / ε): there the
    gradient is zero, and beyond it points back.
    """
    best, slopes = math.log(0.9 / 0.1), []
    for margin in (best - 1, best, best + 1):
        policy = torch.tensor([margin], dtype=torch.float64, requires_grad=True)
        zero = torch.zeros(1, dtype=torch.float64)
        dpo_loss(policy, zero, zero, zero, beta=1, label_smoothing=0.1).loss.backward()
        slopes.append(policy.grad.item())
    assert slopes[0] < -0.01
    assert slopes[1] == pytest.approx(0, abs=1e-12)
    assert slopes[2] > 0.01


def test_the_rewards_are_numbers_to_look_at():
    """Nothing can be learned through them by mistake."""
    found = dpo_loss(*(part.requires_grad_() for part in four()))
    assert found.loss.requires_grad
    assert not found.chosen_rewards.requires_grad
    assert not found.rejected_rewards.requires_grad


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


def test_the_sum_is_of_the_tokens():
    logits, targets, mask = answers()
    tokens = token_log_probs(logits, targets, mask)
    assert torch.equal(tokens != 0, mask)
    total = sequence_log_probs(logits, targets, mask)
    torch.testing.assert_close(tokens.sum(dim=-1), total)


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


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_dpo_equals_equation_7(beta, smoothing):
    """Written with the ratios of probabilities themselves."""
    parts, expected = four(), []
    for policy_c, policy_r, ref_c, ref_r in zip(
        *(part.tolist() for part in parts), strict=True
    ):
        better = (math.exp(policy_c) / math.exp(ref_c)) ** beta
        worse = (math.exp(policy_r) / math.exp(ref_r)) ** beta
        p = better / (better + worse)
        expected.append(-(1 - smoothing) * math.log(p) - smoothing * math.log(1 - p))
    found = dpo_loss(*parts, beta=beta, label_smoothing=smoothing)
    assert found.loss.item() == pytest.approx(sum(expected) / 5, rel=1e-6)


def stub(**settings):
    """Return what TRL's losses need of a trainer: settings, and a single process."""
    accelerator = SimpleNamespace(
        device="cpu",
        gather=lambda tensor: tensor,
        gather_for_metrics=lambda tensor: tensor,
    )
    metrics = {"train": _Lists(), "eval": _Lists()}
    return SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=accelerator,
        _metrics=metrics,
        _total_train_tokens=0,
        _tp_size=1,
        **settings,
    )


class _Lists(dict):
    def __missing__(self, name):
        self[name] = []
        return self[name]


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


@pytest.mark.parametrize(
    ("loss_type", "smoothing"),
    [("sigmoid", 0.0), ("sigmoid", 0.1), ("hinge", 0.0), ("ipo", 0.0)],
)
def test_dpo_equals_trls(loss_type, smoothing):
    """From the logits on: log-probabilities, their sums over the answers, the loss and
    the rewards. TRL's plain loss knows no smoothing; another one of theirs, which sorts
    a batch first, is the smoothed loss for a single pair.
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
    ours = dpo_loss(*means, beta=0.3, label_smoothing=smoothing, loss_type=loss_type)
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
            label_smoothing=smoothing,
            loss_types=["aot" if smoothing else loss_type],
        )
        losses.append(loss.item())
        chosen += metrics["rewards/chosen"]
        rejected += metrics["rewards/rejected"]
    assert ours.loss.item() == pytest.approx(sum(losses) / B, abs=1e-6)
    for mine, theirs, n in zip(ours[1:], (chosen, rejected), sizes, strict=True):
        assert (mine * n).tolist() == pytest.approx(theirs, abs=1e-6)


# Refusal


def test_refuses_a_loss_over_nothing():
    none = torch.empty(0)
    with pytest.raises(ValueError, match="at least one pair, got none"):
        bradley_terry_loss(none, none)
    with pytest.raises(ValueError, match="at least one pair, got none"):
        dpo_loss(none, none, none, none)


def test_refuses_a_row_without_an_answer():
    logits, targets, mask = answers()
    mask[1] = False
    with pytest.raises(ValueError, match=r"at least one token .* none in rows \[1\]"):
        sequence_log_probs(logits, targets, mask)


def test_refuses_settings_that_cannot_be():
    one = torch.zeros(1)
    with pytest.raises(ValueError, match="must not be negative, got -0.1"):
        bradley_terry_loss(one, one, -0.1)
    for beta, smoothing in ((0, 0.0), (-1, 0.0), (0.1, 0.5), (0.1, -0.1)):
        with pytest.raises(ValueError, match=f"got {beta} and {smoothing}"):
            dpo_loss(one, one, one, one, beta=beta, label_smoothing=smoothing)
    with pytest.raises(ValueError, match="one of sigmoid, hinge, ipo, got 'best'"):
        dpo_loss(one, one, one, one, loss_type="best")
