"""Advantages against loops in double precision, and what must hold for any input."""

import pytest
import torch

from llmcourse.alignment.losses import gae, group_advantages, masked_average, whiten


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_case(seed=0, batch=5, width=9):
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


def test_worked_example_of_what_is_added_to_the_deviation():
    """Scores 1 and 3: deviations −1 and 1, of standard deviation √2."""
    found = group_advantages(torch.tensor([1.0, 3.0]), 2, eps=0.5)
    torch.testing.assert_close(found, torch.tensor([-1.0, 1.0]) / (2**0.5 + 0.5))


# Law


def test_trace_1_is_return_minus_value():
    rewards, values, mask = random_case()
    mask[:, :] = True
    returns = rewards.flip(1).cumsum(1).flip(1)
    found = gae(rewards, values, mask, gae_lambda=1)
    torch.testing.assert_close(found, returns - values)


def test_trace_0_is_the_next_surprise():
    rewards, values, mask = random_case()
    mask[:, :] = True
    following = torch.cat((values[:, 1:], torch.zeros(5, 1, dtype=values.dtype)), dim=1)
    found = gae(rewards, values, mask, gamma=0.7, gae_lambda=0)
    torch.testing.assert_close(found, rewards + 0.7 * following - values)


def test_a_perfect_critic_is_never_surprised():
    rewards, _, mask = random_case()
    rewards = rewards.where(mask, 0.0)
    returns = rewards.flip(1).cumsum(1).flip(1)
    found = gae(rewards, returns, mask, gae_lambda=0.3)
    torch.testing.assert_close(found, torch.zeros_like(rewards))


@pytest.mark.parametrize("averaging", ["token", "sequence"])
def test_masked_positions_have_no_influence(averaging):
    rewards, values, mask = random_case()
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
    rewards, values, mask = random_case()
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
    rewards, values, mask = random_case(seed)
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
    _, values, mask = random_case(1)
    kept = values[mask]
    expected = (kept - kept.mean()) / kept.std()
    torch.testing.assert_close(whiten(values, mask)[mask], expected, rtol=0, atol=1e-6)


def test_averages_against_lists():
    _, values, mask = random_case(2)
    rows = [v[m].tolist() for v, m in zip(values, mask, strict=True)]
    every = [v for row in rows for v in row]
    means = [sum(row) / len(row) for row in rows if row]
    assert masked_average(values, mask).item() == pytest.approx(sum(every) / len(every))
    assert masked_average(values, mask, "sequence").item() == pytest.approx(
        sum(means) / len(means)
    )


# Refusals


@pytest.mark.parametrize(("size", "n"), [(1, 4), (0, 4), (3, 4)])
def test_groups_that_are_none(size, n):
    with pytest.raises(ValueError, match=f"groups of {size} and {n} answers"):
        group_advantages(torch.zeros(n), size)


@pytest.mark.parametrize("name", ["gamma", "gae_lambda"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_weights_outside_their_range(name, value):
    rewards, values, mask = random_case()
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\]"):
        gae(rewards, values, mask, **{name: value})
