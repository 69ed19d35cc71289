"""PPO's own parts: what a token brings, the critic, its settings."""

import pytest
import torch
from policy_cases import learn, make_policy, share_of_f

from llmcourse.alignment.ppo import PPOConfig, token_rewards

# Worked example


def test_worked_example_of_what_tokens_bring():
    """A penalty of half the log-ratio each; the score 7 comes with the last token."""
    log_probs = torch.tensor([[9.0, -1.0, -2.0, 9.0], [9.0, 9.0, -4.0, -1.0]])
    reference = torch.tensor([[0.0, -3.0, -1.0, 0.0], [0.0, 0.0, -4.0, -3.0]])
    mask = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 1]]).bool()
    found = token_rewards(torch.tensor([7.0, -1.0]), log_probs, reference, mask, 0.5)
    assert found.tolist() == [[0, -1, 7.5, 0], [0, 0, 0, -2]]


# Law


def test_the_tokens_bring_the_score_minus_the_divergence():
    generator = torch.Generator().manual_seed(0)
    log_probs, reference = -torch.rand(2, 5, 8, generator=generator)
    mask = torch.rand(5, 8, generator=generator) < 0.5
    mask[0] = False
    scores = torch.arange(5.0)
    found = token_rewards(scores, log_probs, reference, mask, 0.3)
    kl = (log_probs - reference).where(mask, 0.0).sum(dim=1)
    torch.testing.assert_close(found.sum(dim=1), scores - 0.3 * kl)
    spoilt = token_rewards(
        scores, log_probs.where(mask, torch.nan), reference, mask, 0.3
    )
    assert torch.equal(found, spoilt)


def test_the_critic_learns_what_to_expect():
    """It starts at the first scores, all 0, and then finds that they are 3."""
    calls = []

    def reward(prompts, texts):
        calls.append(None)
        return torch.full((len(texts),), 3.0 if len(calls) > 1 else 0.0)

    history = learn(
        "ppo",
        make_policy(),
        reward=reward,
        iterations=10,
        value_learning_rate=3e-2,
        epochs=6,
        kl_coef=0.0,
    )
    losses = [found.value_loss for found in history]
    assert losses[0] == 0.0
    assert losses[1] > 1
    assert losses[-1] < 0.3 * losses[1]


def test_a_constant_added_to_all_scores_changes_almost_nothing():
    """The critic starts at the mean score, and advantages are whitened."""
    plain, shifted = make_policy(), make_policy()
    learn("ppo", plain, iterations=1)
    learn("ppo", shifted, iterations=1, reward=lambda p, t: share_of_f(p, t) + 8)
    for one, other in zip(plain.parameters(), shifted.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3)


# Refusals


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma", 1.1),
        ("gae_lambda", -0.1),
        ("gae_lambda", 2),
        ("value_learning_rate", 0),
    ],
)
def test_settings_of_ppo_alone(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
        PPOConfig(**{name: value})
    assert PPOConfig(gamma=0, gae_lambda=0)
