"""Intervals for shares and means."""

import itertools
import math

import pytest
import torch

from llmcourse.intervals import bootstrap_interval, wilson_interval, win_rate

# Worked example


def test_wilson_of_one_success_in_two_by_hand():
    """At half the trials the centre is 1/2, and z √(1/4 / 2 + z² / 16) / (1 + z² / 2).

    With z = 1.96 the half width is 1.96 · √(1/8 + 3.84/16) / (1 + 1.92) = 0.4055.
    """
    assert wilson_interval(1, 2) == pytest.approx((0.0945, 0.9055), abs=1e-4)


def test_bootstrap_of_two_values_by_hand():
    """Of two draws from 0 and 1 the mean is 0, 1/2, 1/2 or 1, equally likely.

    What 95 % leave out at each end is less than the quarter that is 0, or 1.
    """
    generator = torch.Generator().manual_seed(0)
    assert bootstrap_interval(torch.tensor([0.0, 1.0]), generator) == (0, 1)


def test_win_rate_of_five_items_by_hand():
    """Won, tied, lost, won, won: (3 + 1/2) / 5."""
    ours, theirs = torch.tensor([[2.0, 2, 2, 2, 9], [1.0, 2, 3, 0, -math.inf]])
    found = win_rate(ours, theirs, torch.Generator().manual_seed(0))
    assert (found.wins, found.ties, found.losses, found.n) == (3, 1, 1, 5)
    assert found.rate == 0.7
    values = torch.tensor([1.0, 0.5, 0.0, 1.0, 1.0])
    generator = torch.Generator().manual_seed(0)
    assert found.interval == bootstrap_interval(values, generator)
    assert found.to_json()["interval"]["low"] == found.interval.low


# Law


def test_a_score_that_is_no_number_is_refused():
    scores = torch.tensor([1.0, 2, 3])
    for two in ((scores, scores * math.nan), (scores * math.nan, scores)):
        with pytest.raises(ValueError, match="scores that can be compared, got NaN"):
            win_rate(*two, torch.Generator())


def test_win_rate_turns_around_with_the_two():
    generator = torch.Generator().manual_seed(3)
    ours, theirs = torch.randint(3, (2, 200), generator=generator).float()
    there = win_rate(ours, theirs, generator)
    back = win_rate(theirs, ours, generator)
    assert (there.wins, there.ties, there.losses) == (back.losses, back.ties, back.wins)
    assert there.ties > 20
    assert there.rate + back.rate == pytest.approx(1)
    assert there.interval.low < there.rate < there.interval.high
    assert win_rate(ours, ours, generator).interval == (0.5, 0.5)


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (3, 11), (10, 13), (5, 5)])
def test_wilson_holds_the_rate_and_mirrors(successes, n):
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    mirrored = wilson_interval(n - successes, n)
    assert mirrored == pytest.approx((1 - high, 1 - low))


def test_wilson_covers_the_true_rate_about_as_often_as_promised():
    """The exact coverage, by all outcomes of 40 trials, averaged over many rates."""
    n = 40
    intervals = [wilson_interval(k, n) for k in range(n + 1)]

    def coverage(p: float) -> float:
        return sum(
            math.comb(n, k) * p**k * (1 - p) ** (n - k)
            for k in range(n + 1)
            if intervals[k].low <= p <= intervals[k].high
        )

    rates = [i / 200 for i in range(1, 200)]
    covered = [coverage(p) for p in rates]
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.01)
    assert min(covered) > 0.8


def test_bootstrap_moves_and_stretches_with_the_values():
    values = torch.randn(9, generator=torch.Generator().manual_seed(1))
    low, high = bootstrap_interval(values, torch.Generator().manual_seed(2))
    moved = bootstrap_interval(3 * values + 5, torch.Generator().manual_seed(2))
    assert moved == pytest.approx((3 * low + 5, 3 * high + 5), abs=1e-5)
    assert low < values.mean() < high


def test_bootstrap_of_equal_values_is_that_value():
    generator = torch.Generator().manual_seed(0)
    assert bootstrap_interval(torch.full((4,), 0.25), generator) == (0.25, 0.25)


def test_bootstrap_is_drawn_from_its_generator_alone():
    values = torch.randn(23, generator=torch.Generator().manual_seed(5))
    one, other = (
        bootstrap_interval(values, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert one == other
    assert one != bootstrap_interval(values, torch.Generator().manual_seed(4))


# Reference


@pytest.mark.parametrize(("successes", "n"), [(1, 4), (9, 10), (37, 81)])
def test_the_ends_of_wilsons_interval_are_z_deviations_away(successes, n):
    """The definition: at each end, |rate − p| = z √(p (1 − p) / n)."""
    for p in wilson_interval(successes, n):
        deviation = math.sqrt(p * (1 - p) / n)
        assert abs(successes / n - p) == pytest.approx(1.959964 * deviation, rel=1e-6)


def test_bootstrap_equals_the_quantiles_of_all_resamples():
    """Four values have 4⁴ equally likely resamples; their means are counted exactly.

    The quantiles of 2,000 draws lie between exact ones a little farther out and
    a little farther in: by 0.02 in probability, over 5 standard deviations.
    """
    values = torch.tensor([0.0, 1.0, 5.0, 7.0])
    exact = torch.tensor(
        [sum(c) / 4 for c in itertools.product(values.tolist(), repeat=4)],
    )
    found = bootstrap_interval(values, torch.Generator().manual_seed(0))
    for end, tail in zip(found, (0.025, 0.975), strict=True):
        below, above = exact.quantile(torch.tensor([tail - 0.02, tail + 0.02])).tolist()
        assert below <= end <= above


# Refusal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0), "n must be at least 1, got 0"),
        ((4, 3), "successes must be in 0 … 3, got 4"),
        ((-1, 3), "in 0 … 3, got -1"),
    ],
)
def test_wilson_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        wilson_interval(*arguments)


def test_bootstrap_refuses_a_single_value():
    with pytest.raises(ValueError, match="n_values must be at least 2, got 1"):
        bootstrap_interval(torch.tensor([1.0]), torch.Generator())


def test_win_rate_refuses_what_cannot_be_compared():
    one, generator = torch.tensor([1.0]), torch.Generator()
    with pytest.raises(ValueError, match="n_values must be at least 2"):
        win_rate(one, one, generator)
