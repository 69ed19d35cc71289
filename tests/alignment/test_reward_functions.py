"""A rule for one answer as a reward of many."""

import pytest

from llmcourse.alignment.gold_reward import gold_reward
from llmcourse.alignment.reward_model import batched
from llmcourse.text.tales import generate


def test_each_answer_gets_the_score_of_its_own_prompt():
    (story,) = generate(1, seed=3)
    words = story.text.split()
    prompts = [" ".join(words[:9]), "", "x"]
    texts = [" ".join(words[9:]), story.text, "nonsense"]
    scores = batched(gold_reward)(prompts, texts)
    expected = [gold_reward(p, t) for p, t in zip(prompts, texts, strict=True)]
    assert scores.tolist() == pytest.approx(expected)
    assert scores[0] > 1 > scores[2]


def test_as_many_prompts_as_answers():
    with pytest.raises(ValueError, match="zip"):
        batched(gold_reward)([""], ["", ""])
