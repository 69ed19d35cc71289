"""A right answer passes each check; plausible wrong ones fail with the lesson."""

import math
import re

import pytest
import torch

from llmcourse.alignment import losses
from llmcourse.checks import rlhf as checks


def right_gap(wins, losses):
    return math.log(wins / losses)


def right_policy(reference, rewards, beta):
    scores = torch.tensor(reference).log() + torch.tensor(rewards) / beta
    return scores.double().softmax(dim=0).tolist()


def right_advantages(rewards, values, gae_lambda):
    found, after = [], 0.0
    expected = [*values[1:], 0.0]
    for reward, value, later in reversed(
        list(zip(rewards, values, expected, strict=True))
    ):
        after = reward + later - value + gae_lambda * after
        found.insert(0, after)
    return found


def test_right_answers_pass():
    checks.reward_gap(right_gap)
    checks.best_policy(right_policy)
    checks.token_advantages(right_advantages)


def test_the_right_advantages_are_those_of_the_package():
    rewards, values = [0.5, -1.0, 8.0, 0.0], [4.0, 5.0, 6.0, 1.0]
    mask = torch.ones(1, 4).bool()
    theirs = losses.gae(
        torch.tensor([rewards]), torch.tensor([values]), mask, gae_lambda=0.7
    )
    assert right_advantages(rewards, values, 0.7) == pytest.approx(theirs[0].tolist())


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda wins, losses: wins / (wins + losses), "probability of being preferred"),
        (lambda wins, losses: -right_gap(wins, losses), "is positive"),
        (lambda wins, losses: math.log2(wins / losses), "natural logarithm"),
        (lambda wins, losses: float(wins - losses), "must be"),
    ],
)
def test_wrong_gaps_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.reward_gap(wrong)


def tilted_overflowing(reference, rewards, beta):
    weights = [
        p * math.exp(min(r / beta, 709)) if r < 1000 else math.nan
        for p, r in zip(reference, rewards, strict=True)
    ]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (
            lambda ref, rewards, beta: right_policy([1.0] * len(ref), rewards, beta),
            "multiply its probabilities in",
        ),
        (
            lambda ref, rewards, beta: right_policy(ref, rewards, 1 / beta),
            "divide the reward",
        ),
        (lambda ref, rewards, beta: right_policy(ref, rewards, beta)[:-1], "one prob"),
        (
            lambda ref, rewards, beta: [
                2 * p for p in right_policy(ref, rewards, beta)
            ],
            "sum to 1",
        ),
        (lambda ref, _rewards, _beta: list(ref), "wanted"),
        (tilted_overflowing, "subtract the largest"),
    ],
)
def test_wrong_policies_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.best_policy(wrong)


def without_next_value(rewards, values, gae_lambda):
    after, found = 0.0, []
    for reward, value in reversed(list(zip(rewards, values, strict=True))):
        after = reward - value + gae_lambda * after
        found.insert(0, after)
    return found


def with_value_behind_the_end(rewards, values, gae_lambda):
    return right_advantages(
        [*rewards[:-1], rewards[-1] + values[-1]], values, gae_lambda
    )


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (without_next_value, "after it, too"),
        (with_value_behind_the_end, "nothing is expected"),
        (lambda r, v, _: right_advantages(r, v, 0.0), "count for earlier"),
        (lambda r, v, t: right_advantages(r, v, t)[1:], "one advantage"),
        (lambda r, v, t: right_advantages(r, v, t * t), "next token's advantage"),
        (lambda r, _v, t: right_advantages(r, [0.0] * len(r), t), "with λ = 0"),
    ],
)
def test_wrong_advantages_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=re.escape(lesson)):
        checks.token_advantages(wrong)
