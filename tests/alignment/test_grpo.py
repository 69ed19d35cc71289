"""GRPO's own parts: groups, their settings, and what cannot change the result."""

import pytest
import torch
from policy_cases import learn, make_policy, share_of_f

from llmcourse.alignment.grpo import GRPOConfig


def train(reward=share_of_f, **options):
    policy = make_policy()
    history = learn("grpo", policy, reward=reward, **options)
    return [weight.detach() for weight in policy.parameters()], history


# Law


@pytest.mark.parametrize("scale", [True, False])
def test_a_constant_for_each_prompt_changes_nothing(scale):
    """A prompt's own share of the score says nothing about the answers."""

    def generous(prompts, texts):
        bonus = torch.tensor(
            [4.0 * len(prompt) + int(prompt[1:]) for prompt in prompts]
        )
        return share_of_f(prompts, texts) + bonus

    plain, shifted = (
        train(reward, scale=scale)[0] for reward in (share_of_f, generous)
    )
    for one, other in zip(plain, shifted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3)


def test_equal_scores_teach_nothing_but_to_stay():
    start = [weight.detach() for weight in make_policy().parameters()]
    indifferent, _ = train(lambda p, t: torch.full((len(t),), 3.0), kl_coef=0.0)
    for one, other in zip(start, indifferent, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("option", [{"averaging": "token"}, {"scale": False}])
def test_options_make_a_difference(option):
    plain, other = train()[0], train(**option)[0]
    assert any(not torch.equal(a, b) for a, b in zip(plain, other, strict=True))


# Refusals


def test_settings_of_grpo_alone():
    with pytest.raises(
        ValueError, match="answers_per_prompt must be at least 2.* got 1"
    ):
        GRPOConfig(answers_per_prompt=1)
