"""Questions about a story that was asked about already: right, new, and as learned."""

import random

import pytest

from llmcourse.finetuning.instructions import (
    HELD_OUT_PAIRS,
    QUESTIONS,
    examples,
    fill,
    follow_ups,
    forms,
    topics,
)


@pytest.fixture(scope="module")
def asked():
    """Instructions, each with its follow-ups: drawn once, for it takes a while."""
    firsts = list(examples(30, seed=3, kinds=QUESTIONS))
    return [(first, list(follow_ups(first, random.Random(0)))) for first in firsts]


def test_no_question_comes_twice(asked):
    for first, more in asked:
        questions = [question for question, _ in more]
        assert len(set(questions)) == len(questions) > 3
        assert first.prompt.replace(first.story.text, "").strip() not in questions


def test_wordings_are_those_that_training_may_see(asked):
    for first, more in asked:
        words = forms(first.story.facts)
        for kind in QUESTIONS:
            for topic in topics()[kind]:
                if topic.fits(first.story.facts):
                    held_out = fill(topic.phrasings[-1], words)
                    assert held_out not in [question for question, _ in more]


def test_answers_are_those_that_the_topic_gives(asked):
    """Each pair of question and answer is one that some fitting topic words so."""
    for first, more in asked:
        words = forms(first.story.facts)
        right = {
            (fill(wording, words), answer)
            for kind in QUESTIONS
            for topic in topics()[kind]
            if topic.fits(first.story.facts)
            for answer in topic.right_answers(words)[:1]
            for wording in topic.phrasings
        }
        assert set(more) <= right
        pair = (first.story.facts["kind"], first.story.facts["plot"])
        assert pair not in HELD_OUT_PAIRS


def test_the_same_source_gives_the_same_questions(asked):
    again, other = (
        [list(follow_ups(first, random.Random(seed))) for first, _ in asked[:6]]
        for seed in (0, 1)
    )
    assert again == [more for _, more in asked[:6]] != other


@pytest.mark.parametrize("kind", ["summarise", "continue", "rewrite", "write"])
def test_a_task_that_is_no_question_has_none(kind):
    (example,) = examples(1, seed=0, kinds=[kind])
    assert list(follow_ups(example, random.Random(0))) == []
