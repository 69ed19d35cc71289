"""Answers drawn side by side are those that each prompt would get alone."""

import pytest
import torch
from model_cases import seeded
from policy_cases import PROMPTS, STOP, Letters, make_policy
from tokenization_cases import sentencepiece

from llmcourse.alignment.losses import spread
from llmcourse.alignment.preferences import Prompt
from llmcourse.alignment.rollouts import Scorer, ValueHead, sample_rollouts
from llmcourse.model.generation import generate


def sample(policy, prompts=PROMPTS, max_new_tokens=9, seed=0, stop=STOP):
    return sample_rollouts(
        policy,
        prompts,
        max_new_tokens,
        tokenizer=Letters(),
        stop=stop,
        generator=seeded(seed),
    )


def with_probs(probs):
    """Return a policy that gives the tokens these probabilities, wherever it is."""
    policy = make_policy(tied_embeddings=False, vocab_size=len(probs))
    for block in policy.blocks:
        torch.nn.init.zeros_(block.attention.output.weight)
        torch.nn.init.zeros_(block.feed_forward.down.weight)
    torch.nn.init.zeros_(policy.embedding.weight)
    policy.embedding.weight.data[:, 0] = 1.0  # every token looks alike
    torch.nn.init.ones_(policy.norm.weight)
    scale = policy.config.d_model**-0.5
    torch.nn.init.zeros_(policy.unembedding.weight)
    policy.unembedding.weight.data[:, 0] = scale * torch.tensor(probs).log()
    return policy


# Worked example


def test_worked_example_of_a_policy_that_ends_at_once():
    """Only the end token can be drawn: each answer is it alone, and no text."""
    policy = with_probs([1.0, 1e-30, 1e-30])
    prompts = [Prompt("x", (1, 2)), Prompt("y", (2, 1, 1))]
    found = sample(policy, prompts)
    assert found.ids.tolist() == [[1, 2, 0, 0], [2, 1, 1, 0]]
    assert found.answer_mask.int().tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]
    assert found.texts == ("", "")
    assert found.finished.all()
    assert found.lengths.tolist() == [1, 1]


# Law


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("seed", range(3))
def test_each_answer_is_what_its_prompt_would_get_alone(seed, family):
    """Row i has the numbers from i · max_new_tokens on; `generate` draws one a token.

    Nineteen rows of ten prompts, some of which end early, so that rows are dropped.
    """
    policy = make_policy(family=family)
    prompts = [PROMPTS[n % 4] for n in range(13)]
    prompts += [Prompt("", tuple(range(1, n))) for n in range(2, 8)]
    found = sample(policy, prompts, 9, seed)
    alone = seeded(seed)
    for row, prompt in enumerate(prompts):
        torch.rand(9 * row, generator=alone.manual_seed(seed))
        ids = torch.tensor(prompt.ids)
        whole = generate(policy, ids, 9, stop=STOP, generator=alone).tolist()
        n = len(whole)
        assert found.ids[row, :n].tolist() == whole
        assert not found.ids[row, n:].any()
        places = torch.arange(found.ids.shape[1])
        wanted = (places >= len(ids)) & (places < n)
        assert torch.equal(found.answer_mask[row], wanted)
    assert len(found.lengths.unique()) > 2, "answers must end at different places"
    assert found.finished.any()


def test_log_probs_are_those_of_the_whole_text_read_at_once():
    policy = make_policy()
    found = sample(policy, PROMPTS * 5)
    logits = policy(found.ids[:, :-1])
    expected = logits.log_softmax(-1).gather(2, found.ids[:, 1:, None])[..., 0]
    expected = expected.where(found.answer_mask[:, 1:], 0.0)
    torch.testing.assert_close(found.log_probs[:, 1:], expected, rtol=0, atol=2e-5)
    assert not found.log_probs[:, 0].any()


def test_texts_leave_the_end_out():
    found = sample(make_policy(), PROMPTS * 4)
    assert found.finished.any()
    assert not found.finished.all()
    for row, text in enumerate(found.texts):
        ids = found.ids[row, found.answer_mask[row]].tolist()
        assert (ids[-1] == 0) == bool(found.finished[row])
        assert text == Letters().decode(ids[:-1] if found.finished[row] else ids)
        assert 0 not in ids[:-1]


def test_a_text_that_goes_on_keeps_the_space_that_a_new_one_begins_without():
    """Of a SentencePiece tokenizer, whose texts begin with a space of their own."""
    tokenizer = sentencepiece(["the bees see the trees"], vocab_size=320)
    space = tokenizer.encode("the")
    assert tokenizer.pieces[space[0]].startswith(b" ")
    probs = [1e-30] * 320
    probs[space[0]] = 1.0
    written = sample_rollouts(
        with_probs(probs),
        [Prompt("the", (1, *space)), Prompt("", (1,))],
        2,
        tokenizer=tokenizer,
        generator=seeded(),
    )
    piece = tokenizer.pieces[space[0]].decode()
    assert written.texts == (2 * piece, (2 * piece)[1:])


def test_without_a_stop_token_every_answer_has_full_length():
    found = sample(make_policy(), stop=[])
    assert found.lengths.tolist() == [9] * 4
    assert not found.finished.any()
    assert len(found) == 4


def test_the_same_generator_draws_the_same_and_takes_a_known_number():
    policy = make_policy()
    first, again, other = (sample(policy, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.ids, again.ids)
    assert torch.equal(first.log_probs, again.log_probs)
    assert first.texts != other.texts
    used, expected = seeded(1), seeded(1)
    sample_rollouts(policy, PROMPTS, 9, tokenizer=Letters(), stop=STOP, generator=used)
    torch.rand(4 * 9, generator=expected)
    assert torch.equal(used.get_state(), expected.get_state())


def test_nothing_is_recorded_for_a_gradient():
    found = sample(make_policy())
    assert not found.log_probs.requires_grad
    assert not found.log_probs.is_inference()


# Reference


def test_tokens_come_as_often_as_their_probability_says():
    """Of 4,000 draws with p = 0.3, one in a million lies outside 5 deviations."""
    policy = with_probs([0.2, 0.3, 0.5])
    found = sample(policy, [Prompt("", (1,))] * 500, 8, stop=[])
    drawn = found.ids[found.answer_mask]
    for token, p in enumerate((0.2, 0.3, 0.5)):
        deviation = (p * (1 - p) / len(drawn)) ** 0.5
        assert abs((drawn == token).float().mean().item() - p) < 5 * deviation
    torch.testing.assert_close(
        found.log_probs[found.answer_mask],
        torch.tensor([0.2, 0.3, 0.5]).log()[drawn],
        rtol=0,
        atol=1e-3,
    )


# Refusals


def test_what_cannot_be_answered():
    policy = make_policy()
    with pytest.raises(ValueError, match="n_prompts must be at least 1, got 0"):
        sample(policy, [])
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1, got 0"):
        sample(policy, max_new_tokens=0)
    with pytest.raises(ValueError, match="context_length = 17, got 7 \\+ 11"):
        sample(policy, max_new_tokens=11)
    assert sample(policy, max_new_tokens=10, stop=[]).ids.shape == (4, 17)


def test_a_broken_policy():
    policy = make_policy()
    torch.nn.init.constant_(policy.norm.weight, float("nan"))
    with pytest.raises(FloatingPointError, match="finite probabilities"):
        sample(policy)


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
