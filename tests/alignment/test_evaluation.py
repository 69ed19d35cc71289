"""Policies judged: gold, proxy and distance, and the gain from before to after."""

import math
from dataclasses import replace

import pytest
import torch
from chat_cases import SIZES, base

from llmcourse.alignment.evaluation import PolicyEvaluation, evaluate_policy, gain_of
from llmcourse.alignment.gold_reward import gold_reward
from llmcourse.alignment.preferences import make_prompts
from llmcourse.alignment.reward_model import batched
from llmcourse.model.transformer import Transformer

LENGTH = batched(lambda prompt, text: len(text))


def judged(gold):
    nothing = torch.zeros(len(gold))
    return PolicyEvaluation(
        texts=("",) * len(gold),
        gold=torch.tensor(gold),
        proxy=nothing,
        kl=nothing,
        length=nothing,
        finished=nothing,
    )


def test_a_gain_by_hand():
    """Gains 1, 1, 1; the start has the values 1, 2, 3, with a deviation of 1."""
    found = gain_of(judged([1.0, 2.0, 3.0]), judged([2.0, 3.0, 4.0]))
    whole = {"low": 1.0, "high": 1.0}
    better = {"wins": 3, "ties": 0, "losses": 0, "interval": whole, "rate": 1.0}
    assert found.pop("interval") == whole
    assert found.pop("better") == better
    assert found == {"before": 2, "after": 3, "gain": 1, "sd": 1, "in_sd": 1}


def test_the_interval_holds_the_gain_and_narrows_with_more_answers():
    generator = torch.Generator().manual_seed(0)
    widths = []
    for n in (20, 500):
        before = torch.randn(n, generator=generator)
        after = before + 0.5 + torch.randn(n, generator=generator)
        found = gain_of(judged(before.tolist()), judged(after.tolist()))
        low, high = found["interval"].values()
        assert low < found["gain"] < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_a_start_without_spread_has_a_gain_in_points_only():
    assert gain_of(judged([2.0, 2.0]), judged([3.0, 3.0]))["in_sd"] == 0


@pytest.mark.parametrize("n", [(1, 1), (3, 2)])
def test_answers_must_match(n):
    before, after = (judged([1.0] * each) for each in n)
    with pytest.raises(ValueError, match="as many answers before and after"):
        gain_of(before, after)


def test_the_start_is_at_no_distance_from_itself():
    policy, tokenizer = base()
    prompts = make_prompts(5, 1, tokenizer)
    found = evaluate_policy(policy, policy, tokenizer, prompts, LENGTH, 7)
    assert found.kl.abs().max() < 1e-4
    assert found.gold.tolist() == pytest.approx(
        [gold_reward(p.text, t) for p, t in zip(prompts, found.texts, strict=True)]
    )
    assert found.proxy.tolist() == [len(text) for text in found.texts]
    assert found.summary()["length"] == found.length.mean().item()
    assert set(found.finished.tolist()) <= {0, 1}


def test_distance_is_that_of_the_log_probabilities():
    """KL of one answer: the sum of log π − log π_ref, read off both models' logits."""
    reference, tokenizer = base()
    policy = Transformer(SIZES, torch.Generator().manual_seed(8))
    (prompt,) = make_prompts(1, 1, tokenizer)
    told = []
    found = evaluate_policy(
        policy,
        reference,
        tokenizer,
        [prompt],
        LENGTH,
        4,
        progress=lambda *at: told.append(at),
    )
    assert told == [(1, 1)]
    from llmcourse.alignment.rollouts import sample_rollouts

    written = sample_rollouts(
        policy,
        [prompt],
        4,
        tokenizer=tokenizer,
        stop=[tokenizer.special_tokens["<|endoftext|>"]],
        generator=torch.Generator().manual_seed(0),
    )
    assert written.texts == found.texts
    sums = []
    for model in (policy, reference):
        logs = model(written.ids[:, :-1]).log_softmax(dim=-1)
        taken = logs.gather(-1, written.ids[:, 1:, None])[0, :, 0]
        sums.append(taken[written.answer_mask[0, 1:]].sum().item())
    assert math.isclose(found.kl.item(), sums[0] - sums[1], abs_tol=1e-3)


def test_openings_are_counted_by_their_first_three_words():
    policy, tokenizer = base()
    prompts = make_prompts(4, 1, tokenizer)
    found = evaluate_policy(policy, policy, tokenizer, prompts, LENGTH, 4)
    texts = ("Once there was a fox", "Once there was an owl", "Once there lived", "One")
    assert replace(found, texts=texts).summary()["openings"] == 3 / 4


def test_nothing_asked_is_refused():
    policy, tokenizer = base()
    with pytest.raises(ValueError, match="n_prompts must be at least 1, got 0"):
        evaluate_policy(policy, policy, tokenizer, [], LENGTH, 4)
