"""A right answer passes each check; plausible wrong ones fail with the lesson."""

from math import ceil

import pytest
import torch

from llmcourse.checks import scaling as checks


def right_bytes(n_parameters, n, stage):
    sharded = sum((12, 2, 2)[:stage])
    return n_parameters * (16 - sharded + sharded / n)


def right_micro_batches(stages, most):
    return max(1, ceil((stages - 1) * (1 / most - 1) - 1e-9))


def right_split(gate, up, down, n):
    return list(zip(gate.chunk(n), up.chunk(n), down.chunk(n, dim=1), strict=True))


def right_zero(weights, gradients, rate, keeps=True, own=False):
    mean, square = torch.zeros_like(weights), torch.zeros_like(weights)
    for t, found in enumerate(gradients, start=1):
        gradient = found[0] if own else found.mean(dim=0)
        mean = 0.9 * mean * keeps + 0.1 * gradient
        square = 0.99 * square * keeps + 0.01 * gradient**2
        step = mean / (1 - 0.9**t) / ((square / (1 - 0.99**t)).sqrt() + 1e-8)
        weights = weights - rate * step
    return weights


def right_fewest(n_parameters, n_tokens, days, room, speed):
    for_time = ceil(6 * n_parameters * n_tokens / (speed * days * 86400))
    return max(ceil(16 * n_parameters / room), for_time)


def test_right_answers_pass():
    checks.micro_batches(lambda p, most: max(1, ceil((p - 1) * (1 - most) / most)))
    checks.training_bytes(right_bytes)
    assert [right_bytes(1, 4, stage) for stage in range(4)] == [16, 7, 5.5, 4]
    assert [right_bytes(1, 1, stage) for stage in range(4)] == [16] * 4
    checks.micro_batches(right_micro_batches)
    checks.split_network(right_split)
    checks.zero_one(right_zero)
    checks.fewest_processors(right_fewest)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p, n, stage: 16 * p / n,
        lambda p, n, stage: p * (4 * (stage < 3) + 12 / n),
        lambda p, n, stage: right_bytes(p, n, 3 - stage),
    ],
)
def test_wrong_bytes_fail(wrong):
    with pytest.raises(AssertionError, match="Stage 1 shards the 12 bytes"):
        checks.training_bytes(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda stages, most: ceil(stages / most), "fewer than"),
        (lambda stages, most: 1, "a stage works in m of m"),
        (lambda stages, most: 0, "at least one micro-batch"),
        (lambda p, most: max(1, (p - 1) * (1 / most - 1) + 0.3), "are whole"),
    ],
)
def test_wrong_micro_batches_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.micro_batches(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda g, u, d, n: [(g, u, d)], "wanted 2 parts, got 1"),
        (
            lambda g, u, d, n: [(a, b, d) for a, b, _ in right_split(g, u, d, n)],
            "its share of the hidden units",
        ),
        (
            lambda g, u, d, n: list(
                zip(g.chunk(n), u.chunk(n)[::-1], d.chunk(n, dim=1), strict=True)
            ),
            "do not add up to the whole",
        ),
    ],
)
def test_a_wrong_split_fails(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.split_network(wrong)


@pytest.mark.parametrize("options", [{"keeps": False}, {"own": True}])
def test_a_wrong_optimizer_fails(options):
    with pytest.raises(AssertionError, match="wanted AdamW's steps by the mean"):
        checks.zero_one(lambda *args: right_zero(*args, **options))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda n, d, days, room, speed: ceil(16 * n / room),
        lambda n, d, days, room, speed: ceil(6 * n * d / (speed * days * 86400)),
        lambda *args: right_fewest(*args) + 1,
    ],
)
def test_a_wrong_plan_fails(wrong):
    with pytest.raises(AssertionError, match="what decides is"):
        checks.fewest_processors(wrong)
