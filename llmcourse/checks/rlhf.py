"""Checks of the chapter *rlhf*."""

import math
from collections.abc import Callable, Sequence

import torch

from llmcourse.checks.base import check

Floats = Sequence[float]


@check
def reward_gap(fn: Callable[[int, int], float]) -> None:
    """Check a function that infers an answer's lead in reward from wins and losses.

    Args:
        fn: Maps how often an answer was preferred to another, and how often the other
            was, to the difference of their rewards that makes this most probable.
    """
    for wins, losses in ((3, 1), (2, 8), (5, 5), (99, 1)):
        got, share = fn(wins, losses), wins / (wins + losses)
        seen = f"{wins} wins and {losses} losses"
        assert not math.isclose(got, share, abs_tol=1e-9), (
            f"{seen}: {share:g} is the probability of being preferred, not the "
            "difference of rewards whose σ it is"
        )
        right = math.log(wins / losses)
        assert right == 0 or not math.isclose(got, -right, rel_tol=1e-6), (
            f"{seen}: the lead of an answer that is preferred more often is positive"
        )
        assert right == 0 or not math.isclose(got, right / math.log(2), rel_tol=1e-6), (
            f"{seen}: σ is made with e, so take the natural logarithm"
        )
        assert math.isclose(got, right, rel_tol=1e-6, abs_tol=1e-9), (
            f"{seen}: σ of the difference must be {share:g}, so it must be "
            f"{right:.3f}, got {got:.3f}"
        )


@check
def best_policy(fn: Callable[[Floats, Floats, float], Floats]) -> None:
    """Check a function that returns the policy that no other beats.

    Args:
        fn: Maps the reference's probabilities of all answers, their rewards and β to
            the probabilities with the highest mean reward minus β times the KL
            divergence from the reference.
    """
    cases = (
        ((0.5, 0.25, 0.25), (0.0, 1.0, -1.0), 1.0),
        ((0.7, 0.2, 0.1), (1.0, 3.0, 2.0), 0.5),
        ((0.1, 0.9), (2.0, 0.0), 4.0),
    )
    for reference, rewards, beta in cases:
        got = fn(reference, rewards, beta)
        given = f"reference {reference}, rewards {rewards}, β {beta:g}"
        assert len(got) == len(rewards), f"{given}: one probability for each answer"
        assert math.isclose(sum(got), 1, rel_tol=1e-6), (
            f"{given}: the probabilities must sum to 1, not to {sum(got):.3f}"
        )
        plain = _tilted([1.0] * len(rewards), rewards, beta)
        assert not _close(got, plain), (
            f"{given}: what is likely under the reference must stay more probable; "
            "multiply its probabilities in"
        )
        upside_down = _tilted(reference, rewards, 1 / beta)
        assert beta == 1 or not _close(got, upside_down), (
            f"{given}: a large β keeps the policy in place, so divide the reward by β"
        )
        right = _tilted(reference, rewards, beta)
        assert _close(got, right), f"{given}: wanted {_round(right)}, got {_round(got)}"
    far = fn((0.5, 0.5), (1000.0, 0.0), 1.0)
    assert _close(far, [1.0, 0.0]), (
        "e to the power of 1000 is too large a number: subtract the largest reward "
        f"first, which changes nothing; got {far}"
    )


def _tilted(reference: Floats, rewards: Floats, beta: float) -> list[float]:
    scores = torch.tensor(reference).log() + torch.tensor(rewards) / beta
    return [*scores.double().softmax(dim=0).tolist()]


def _close(a: Floats, b: Floats) -> bool:
    pairs = zip(a, b, strict=True)
    return all(math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9) for x, y in pairs)


def _round(values: Floats) -> list[float]:
    return [round(value, 3) for value in values]


@check
def token_advantages(fn: Callable[[Floats, Floats, float], Floats]) -> None:
    """Check a function that returns generalised advantage estimates for one answer.

    Args:
        fn: Maps the rewards of the tokens, what the critic expected before each, and λ
            to the advantage of each token, without discounting (γ = 1).
    """
    rewards, values = [0.0, -1.0, 8.0], [4.0, 5.0, 6.0]
    surprises = [1.0, 0.0, 2.0]
    got = fn(rewards, values, 0.0)
    assert len(got) == len(rewards), "one advantage for each token"
    assert not _close(got, [-4.0, -6.0, 2.0]), (
        "a token's surprise counts what the critic expects after it, too: reward + "
        "next value − value"
    )
    assert not _close(got[:-1], surprises[:-1]) or _close(got, surprises), (
        "after the last token nothing is expected: the next value is 0 there, so its "
        f"surprise is {surprises[-1]:g}, got {got[-1]:g}"
    )
    assert _close(got, surprises), (
        f"with λ = 0 the advantages are the surprises {surprises}, got {_round(got)}"
    )
    for gae_lambda, right in ((1.0, [3.0, 2.0, 2.0]), (0.5, [1.5, 1.0, 2.0])):
        got = fn(rewards, values, gae_lambda)
        assert not _close(got, surprises), (
            f"λ = {gae_lambda:g}: later surprises count for earlier tokens"
        )
        assert _close(got, right), (
            f"λ = {gae_lambda:g}: from the end: advantage = surprise + λ · the next "
            f"token's advantage, so {right}, got {_round(got)}"
        )
