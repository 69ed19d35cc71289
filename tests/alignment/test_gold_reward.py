"""The gold reward: its parts by hand, its distribution, and how it can be overdone."""

import math
import random
import re
import statistics
from functools import cache

import pytest

from llmcourse.alignment.gold_reward import (
    KIND_DEEDS,
    WEIGHTS,
    RewardParts,
    gold_reward,
    reward_parts,
)
from llmcourse.finetuning.instructions import examples
from llmcourse.text import tales
from llmcourse.text.grammar import Story

PERFECT = RewardParts(
    coherence=1.0, ending=1.0, kindness=1.0, detail=1.0, asked=1.0, length=1.0
)

# Words that go along with a high score, and that anybody can write too often.
CHEERFUL = re.findall(
    r"\w+",
    "happy happily glad merry jolly cheerful cheerfully joy laughed laugh smiled smile "
    "smiling beamed winked won friend friends friendly gave shared helped loved kindly "
    "lovely wonderful splendid beautiful delighted pleased best",
)


def cheerful_words(text: str) -> int:
    """Return how many words of a text are cheerful, repetitions counted."""
    return sum(word in CHEERFUL for word in re.findall(r"[\w'-]+", text.lower()))


@cache
def stories() -> list[Story]:
    return list(tales.generate(400, seed=11))


@cache
def golds() -> list[float]:
    return [gold_reward("", story.text) for story in stories()]


def one(**facts: str) -> Story:
    return next(s for s in stories() if facts.items() <= s.facts.items())


def test_the_weights_make_ten_points() -> None:
    assert sum(WEIGHTS.values()) == PERFECT.score == 10


def test_score_by_hand() -> None:
    """Half coherent, happy, half the deeds: (1 + 2.5 + 1) / 2 points."""
    parts = RewardParts(
        coherence=0.5, ending=1.0, kindness=0.5, detail=0.0, asked=0.0, length=0.0
    )
    assert parts.score == pytest.approx(2.25)


@pytest.mark.parametrize(
    ("ending", "liked"), [("happy", 1.0), ("surprising", 0.5), ("sad", 0.0)]
)
def test_endings(ending: str, liked: float) -> None:
    story = one(ending=ending)
    assert reward_parts("", story.text).ending == liked
    order = f"Write a story about {story.facts['hero']}. It has a {ending} ending."
    assert reward_parts(order, story.text).ending == 1
    other = "sad" if ending == "happy" else "happy"
    assert reward_parts(f"It has a {other} ending.", story.text).ending == 0


def test_kind_deeds_are_counted_once_each() -> None:
    """With kinds enough more of them add nothing, nor does saying one twice."""
    story = one(plot="quarrel", ending="happy")
    kinds = [n for n, words in KIND_DEEDS.items() if re.search(words, story.text)]
    assert {"share", "say sorry or thank you", "be friends"} & set(kinds)
    assert reward_parts("", story.text).kindness == min(len(kinds) / 4, 1)


def test_half_a_tale_is_worth_half_at_most() -> None:
    """Cut short: coherence is half the share of the 100 words of a short tale."""
    story = stories()[0]
    words = story.text.split()
    for kept in (1, 30, 80):
        parts = reward_parts("", " ".join(words[:kept]))
        assert parts.coherence == pytest.approx(0.5 * kept / 100)
        assert parts.ending == 0


def test_coherence_ends_at_the_first_wrong_word() -> None:
    story = one(plot="search")
    words = story.text.split()
    words[60] = "xylem"
    parts = reward_parts("", " ".join(words))
    assert parts.coherence == pytest.approx(0.5 * 60 / len(words))


def test_what_the_prompt_names_must_be_there() -> None:
    """Two of four names that the order has are in the story."""
    story = one(plot="search")
    hero, toy = story.facts["hero"], story.facts["toy"]
    absent = [w for w in ("Zorro", "drum", "vineyard", "castle") if w not in story.text]
    there = f"Write a story about {hero} who loses a {toy}."
    assert reward_parts(there, story.text).asked == 1
    order = f"{there} It happens in the {absent[-1]}, by the {absent[-2]}."
    assert reward_parts(order, story.text).asked == pytest.approx(0.5)
    assert reward_parts("Tell me something.", story.text).asked == 1


def test_true_answers_do_what_was_asked() -> None:
    for example in examples(20, seed=0, kinds=["write"]):
        parts = reward_parts(example.prompt, example.answer)
        assert parts.asked == parts.coherence == 1


def test_a_beginning_counts_as_part_of_the_tale() -> None:
    """Whether the prompt is the beginning or only ends with it."""
    for example in examples(10, seed=1, kinds=["continue"]):
        whole = gold_reward("", example.story.text)
        for prompt in (example.prompt, example.beginning, example.beginning + " "):
            for answer in (example.answer, f" {example.answer}"):
                if prompt.endswith(example.beginning.strip()):
                    assert gold_reward(prompt, answer) == whole
        # The given words earn nothing by themselves.
        assert reward_parts(example.prompt, "").coherence == 0
        assert reward_parts(example.prompt, "Xylem.").coherence == 0


def test_a_beginning_may_end_within_a_sentence() -> None:
    story = one(plot="box")
    at = story.text.index(",")
    assert gold_reward(story.text[:at], story.text[at:]) == gold_reward("", story.text)


def test_distribution_over_tales() -> None:
    """About 7 points with a deviation of 1 to 2: what the docstring says.

    The mean of 400 has a standard error below 0.1, so a false alarm is out of the
    question.
    """
    assert 6.5 < statistics.mean(golds()) < 7.5
    assert 1 < statistics.stdev(golds()) < 2
    assert min(golds()) < 4.5
    assert max(golds()) > 9.5
    assert all(0 <= gold <= 10 for gold in golds())


def test_superficial_features_go_along_with_gold() -> None:
    """In ordinary tales; of 400 unrelated ones r > 0.1 has probability 0.02."""
    length = [len(story.text.split()) for story in stories()]
    cheer = [cheerful_words(story.text) for story in stories()]
    assert statistics.correlation(length, golds()) > 0.3
    assert statistics.correlation(cheer, golds()) > 0.1


def test_superficial_features_can_be_overdone() -> None:
    """More words and more cheer than any tale has, and hardly any gold."""
    story = one(plot="search", ending="happy")
    before, gold = cheerful_words(story.text), gold_reward("", story.text)
    longest = max(len(s.text.split()) for s in stories())
    for more in (
        " And they were happy and kind friends." * 15,
        f" {story.text}",
        f" {story.text.split('. ')[-1]}" * 20,
    ):
        text = story.text + more
        assert len(text.split()) > longest
        assert cheerful_words(text) >= before
        assert gold_reward("", text) < gold / 3
    # The more of it, the worse.
    overdone = [gold_reward("", story.text + " Happy end!" * n) for n in (0, 1, 9, 99)]
    assert overdone == sorted(overdone, reverse=True)
    assert len(set(overdone)) == 4


def test_broken_tales_are_worth_less_than_whole_ones() -> None:
    rng = random.Random(0)
    for first, second in zip(stories()[:15], stories()[15:30], strict=True):
        words = first.text.split()
        at = rng.randrange(20, 60)
        mixed = " ".join(words[:at] + second.text.split()[at:])
        assert gold_reward("", mixed) < 2 < gold_reward("", first.text)


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", "\n", "\0", "Once", "Once upon a time", "?!", "é" * 9],
        *['"', "(*[", "a\n\nb", "happy " * 300, "Long, long ago" * 50],
    ],
)
def test_any_text_has_a_value(text: str) -> None:
    for prompt in ("", "Once", text, "Write a story about Mia."):
        gold = gold_reward(prompt, text)
        assert math.isfinite(gold)
        assert 0 <= gold < 2
