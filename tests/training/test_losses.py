"""Cross-entropy and its units."""

import math

import pytest
import torch

from llmcourse.training.losses import (
    bits_per_byte,
    blockwise_cross_entropy,
    cross_entropy,
    gap_to_floor,
    perplexity,
)

# Worked example


def test_worked_example_of_two_guesses():
    """Probabilities (1/2, 1/4, 1/4); the truth is token 0, then token 2.

    −log 1/2 = log 2 and −log 1/4 = 2 log 2: in the mean 1.5 log 2 nats, a
    perplexity of 2^1.5, and 1.5 bits a token.
    """
    logits = torch.tensor([0.5, 0.25, 0.25]).log().expand(2, 3)
    loss = cross_entropy(logits, torch.tensor([0, 2])).item()
    assert loss == pytest.approx(1.5 * math.log(2), rel=1e-6)
    assert perplexity(loss) == pytest.approx(2**1.5, rel=1e-6)
    assert bits_per_byte(loss, n_tokens=8, n_bytes=24) == pytest.approx(0.5, rel=1e-6)
    assert gap_to_floor(loss, floor=math.log(2)) == pytest.approx(0.5, rel=1e-6)


def test_a_perplexity_beyond_floats_is_infinite():
    """The largest float is a little below e^710."""
    assert math.isfinite(perplexity(709.7))
    assert perplexity(710.0) == math.inf


# Law


def test_adding_a_constant_to_all_logits_changes_nothing():
    logits = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([6, 0, 3])
    torch.testing.assert_close(
        cross_entropy(logits, targets), cross_entropy(logits + 50, targets)
    )


def test_no_guess_beats_the_true_distribution():
    """The mean loss over a source is at least its entropy: equal only for itself."""
    truth = torch.tensor([0.7, 0.2, 0.1])
    counts = torch.tensor([0] * 7 + [1] * 2 + [2])  # ten draws in exact proportion
    entropy = -(truth * truth.log()).sum().item()
    best = cross_entropy(truth.log().expand(10, 3), counts).item()
    assert best == pytest.approx(entropy, rel=1e-6)
    for other in ([0.6, 0.3, 0.1], [0.7, 0.1, 0.2], [0.8, 0.1, 0.1]):
        worse = cross_entropy(torch.tensor(other).log().expand(10, 3), counts).item()
        assert gap_to_floor(worse, floor=entropy) > 1e-3


def test_bits_per_byte_does_not_depend_on_how_the_text_is_cut():
    """The same 30 nats over the same 20 bytes, cut into 10 or into 5 tokens."""
    assert bits_per_byte(3.0, n_tokens=10, n_bytes=20) == pytest.approx(
        bits_per_byte(6.0, n_tokens=5, n_bytes=20)
    )


# Reference


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e4, 3e38])
def test_equals_torch_at_any_magnitude(scale):
    generator = torch.Generator().manual_seed(1)
    logits = (2 * torch.rand(2, 5, 11, generator=generator) - 1) * scale
    targets = torch.randint(11, (2, 5), generator=generator)
    logits.requires_grad_()
    ours = cross_entropy(logits, targets)
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(ours, theirs)
    (ours_gradient,) = torch.autograd.grad(ours, logits)
    (their_gradient,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(ours_gradient, their_gradient)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e4, 3e38])
@pytest.mark.parametrize("n_targets", [1, 64, 130])
def test_blocks_equal_torch_with_their_gradient(scale, n_targets):
    """Of one row, of exactly one block, and of two and a bit; a third is ignored."""
    generator = torch.Generator().manual_seed(1)
    logits = (2 * torch.rand(n_targets, 11, generator=generator) - 1) * scale
    targets = torch.randint(11, (n_targets,), generator=generator)
    targets[1::3] = -7
    logits.requires_grad_()
    ours = blockwise_cross_entropy(logits, targets, ignored=-7)
    theirs = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-7)
    torch.testing.assert_close(ours, theirs)
    for factor in (1.0, 0.3):  # the loss may be a share of a larger one
        mine, wanted = (
            torch.autograd.grad(factor * loss, logits, retain_graph=True)
            for loss in (ours, theirs)
        )
        torch.testing.assert_close(mine, wanted)


def test_the_gradient_of_the_blocks_is_the_slope():
    logits = torch.randn(70, 5, generator=torch.Generator().manual_seed(2)).double()
    targets = torch.arange(70) % 5
    targets[3] = -100
    assert torch.autograd.gradcheck(
        blockwise_cross_entropy, (logits.requires_grad_(), targets)
    )


def test_blocks_sum_in_high_precision_and_give_a_gradient_in_low():
    logits = torch.randn(70, 50, generator=torch.Generator().manual_seed(3)).bfloat16()
    targets, wide = torch.arange(70) % 50, logits.float().requires_grad_()
    logits.requires_grad_()
    ours, exact = (blockwise_cross_entropy(each, targets) for each in (logits, wide))
    torch.testing.assert_close(ours, exact)
    ours.backward()
    exact.backward()
    assert logits.grad.dtype == torch.bfloat16
    torch.testing.assert_close(logits.grad, wide.grad.bfloat16())


def test_where_no_target_counts_there_is_no_loss_and_nothing_to_learn():
    logits = torch.ones(3, 4, requires_grad=True)
    loss = blockwise_cross_entropy(logits, torch.full((3,), -100))
    loss.backward()
    assert loss.isnan()
    assert not logits.grad.any()


@pytest.mark.parametrize("vocab", [1, 2, 997])
def test_equal_logits_cost_the_logarithm_of_the_vocabulary(vocab):
    for value in (-1e30, 0.0, 3e38):
        logits = torch.full((3, vocab), value)
        loss = cross_entropy(logits, torch.zeros(3, dtype=torch.int32)).item()
        # Beside a logit of 3 · 10³⁸ there is no room for log 997.
        assert loss == pytest.approx(math.log(vocab) if value == 0 else 0.0)


@pytest.mark.parametrize(("target", "expected"), [(0, math.log(2)), (2, math.inf)])
def test_equals_torch_where_a_token_is_impossible(target, expected):
    logits = torch.tensor([[1.0, 1.0, -math.inf]])
    targets = torch.tensor([target])
    ours = cross_entropy(logits, targets)
    assert ours.item() == pytest.approx(expected)
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits, targets))


# Refusal


def test_refuses_no_targets():
    with pytest.raises(ValueError, match="number of targets must be at least 1, got 0"):
        cross_entropy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))


def test_refuses_a_text_without_bytes_and_a_floor_of_nothing():
    with pytest.raises(ValueError, match="n_bytes must be at least 1, got 0"):
        bits_per_byte(1.0, n_tokens=0, n_bytes=0)
    with pytest.raises(ValueError, match="floor must be positive, got 0"):
        gap_to_floor(1.0, floor=0.0)


@pytest.mark.parametrize("target", [-1, 3])
def test_refuses_targets_outside_the_vocabulary(target):
    with pytest.raises(ValueError, match=r"in 0 … 2, got"):
        cross_entropy(torch.zeros(2, 3), torch.tensor([1, target]))


def test_refuses_targets_that_the_blocks_cannot_find():
    with pytest.raises(ValueError, match="number of targets must be at least 1"):
        blockwise_cross_entropy(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match=f"0 … 3, got .*{wrong}"):
            blockwise_cross_entropy(torch.zeros(2, 4), torch.tensor([-100, wrong]))


def test_refuses_a_second_derivative():
    logits = torch.zeros(3, 4, requires_grad=True)
    loss = blockwise_cross_entropy(logits, torch.tensor([0, 3, 1]))
    (gradient,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()
