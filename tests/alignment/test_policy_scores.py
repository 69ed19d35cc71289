"""What a model says of written answers, against its plain logits."""

import pytest
import torch
from policy_cases import PROMPTS, STOP, Letters, make_policy, seeded

from llmcourse.alignment.rollouts import Scorer, ValueHead, sample_rollouts, spread


def make_rollouts(policy):
    return sample_rollouts(
        policy, PROMPTS, 9, tokenizer=Letters(), stop=STOP, generator=seeded()
    )


# Worked example


def test_worked_example_of_spreading():
    mask = torch.tensor([[False, True, True], [True, False, False]])
    found = spread(torch.tensor([1.0, 2.0, 3.0]), mask)
    assert found.tolist() == [[0, 1, 2], [3, 0, 0]]


# Law


def test_the_one_who_drew_says_the_same_again():
    policy = make_policy()
    rollouts = make_rollouts(policy)
    found = Scorer(policy)(rollouts.ids, rollouts.answer_mask)
    torch.testing.assert_close(found.log_probs, rollouts.log_probs, rtol=0, atol=2e-5)


def test_in_parts_is_all_at_once():
    policy = make_policy()
    rollouts = make_rollouts(policy)
    ids, mask = rollouts.ids, rollouts.answer_mask
    whole, parts = Scorer(policy)(ids, mask), [*Scorer(policy).in_parts(ids, mask, 3)]
    assert len(parts) == 2
    for name in ("log_probs", "entropy", "features"):
        joined = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(joined, getattr(whole, name))


def test_the_policy_learns_but_a_value_head_keeps_its_gradient_to_itself():
    policy, head = make_policy(), ValueHead(16, seeded())
    torch.nn.init.normal_(head.output.weight, generator=seeded())
    rollouts = make_rollouts(policy)
    found = Scorer(policy)(rollouts.ids, rollouts.answer_mask)
    head(found.features).sum().backward(retain_graph=True)
    assert all(weight.grad is None for weight in policy.parameters())
    assert all(weight.grad.any() for weight in head.parameters())
    found.log_probs.sum().backward()
    assert all(weight.grad.any() for weight in policy.parameters())


def test_a_new_value_head_has_no_opinion():
    assert not ValueHead(6)(torch.randn(5, 6, generator=seeded())).any()


# Reference


@pytest.mark.parametrize(
    "changes", [{}, {"tied_embeddings": False}, {"family": "gpt2"}], ids=str
)
def test_scores_against_the_logits_of_every_position(changes):
    policy = make_policy(**changes)
    rollouts = make_rollouts(policy)
    found = Scorer(policy)(rollouts.ids, rollouts.answer_mask)
    for row in range(len(rollouts)):
        distribution = torch.distributions.Categorical(
            logits=policy(rollouts.ids[row, None])[0]
        )
        for place in range(rollouts.ids.shape[1]):
            log_prob, entropy = 0.0, 0.0
            if rollouts.answer_mask[row, place]:
                token = rollouts.ids[row, place]
                log_prob = distribution.log_prob(token)[place - 1].item()
                entropy = distribution.entropy()[place - 1].item()
            assert found.log_probs[row, place].item() == pytest.approx(
                log_prob, abs=1e-5
            )
            assert found.entropy[row, place].item() == pytest.approx(entropy, abs=1e-5)


# Refusals


def test_an_answer_to_nothing():
    ids, mask = torch.tensor([[3, 4]]), torch.tensor([[True, True]])
    with pytest.raises(ValueError, match="needs a prompt before it"):
        Scorer(make_policy())(ids, mask)
