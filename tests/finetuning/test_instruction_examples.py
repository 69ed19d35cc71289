"""How an instruction of each kind is made from a tale."""

import random

import pytest

from llmcourse.finetuning.instructions import (
    HELD_OUT_PAIRS,
    KINDS,
    QUESTIONS,
    Example,
    Tale,
    draw_tale,
    forms,
    make,
)
from llmcourse.text import tales


def tale(plot: str, **wanted: str) -> Tale:
    """Return the first tale with some facts."""
    rng = random.Random(1)
    wanted = {"plot": plot, **wanted}
    while True:
        drawn = draw_tale(rng)
        if wanted.items() <= drawn.story.facts.items():
            return drawn


def made(kind: str, drawn: Tale, seed: int = 0, new: bool = False) -> Example:
    example = make(kind, drawn, random.Random(seed), new_phrasing=new)
    assert example is not None
    return example


def test_a_question_by_hand() -> None:
    """A tale of ten plums of which two are given away: eight arrive."""
    drawn = tale("basket", count="ten")
    by_topic = {made("how many", drawn, seed).topic: seed for seed in range(20)}
    example = made("how many", drawn, by_topic["delivered"])
    facts = forms(drawn.story.facts)
    food = facts["food"]["s"]
    assert example.answer == f"The {facts['job']['word']} got eight {food}."
    assert "Eight." in example.accepted
    assert f"eight {food}" in example.accepted
    assert food in example.prompt.replace(drawn.story.text, "")


def test_marks_change_no_tale() -> None:
    """The tales are those of `tales.generate`, and both parts make the whole."""
    rng, plain = random.Random(4), tales.generate(100, seed=4)
    for story in plain:
        drawn = draw_tale(rng)
        assert drawn.story == story
        assert f"{drawn.beginning} {drawn.end}" == story.text
        assert drawn.end
        assert len(drawn.end) < len(drawn.beginning)


def test_the_same_beginning_has_more_than_one_ending() -> None:
    """So the mark stands before what decides between happy and sad."""
    rng = random.Random(2)
    for _ in range(20):
        drawn = draw_tale(rng)
        drawn_endings = {
            tales.world().complete(drawn.beginning, rng).facts["ending"]
            for _ in range(25)  # a miss has p < 0.8 ** 25 = 0.004 and is seeded
        }
        assert len(drawn_endings) > 1


@pytest.mark.parametrize("kind", QUESTIONS)
def test_questions_show_the_story(kind: str) -> None:
    rng = random.Random(3)
    orders = set()
    for _ in range(60):
        drawn = draw_tale(rng)
        example = make(kind, drawn, rng)
        if example is None:
            continue
        first, second = example.prompt.split("\n\n")
        assert drawn.story.text in (first, second)
        assert example.answer == example.accepted[0]
        assert example.answer[0].isupper()
        assert example.answer[-1] == "."
        assert example.phrasing < 7
        story_first = drawn.story.text == first
        assert story_first == (example.phrasing not in (2, 5))
        orders.add(story_first)
    assert orders == {True, False}


def test_some_kinds_do_not_suit_every_plot() -> None:
    assert make("list", tale("seeds"), random.Random(0)) is None
    assert make("how many", tale("gift"), random.Random(0)) is None
    assert make("why", tale("box"), random.Random(0)) is None


def test_what_is_to_be_continued_ends_with_a_sentence() -> None:
    rng = random.Random(5)
    for _ in range(50):
        example = made("continue", draw_tale(rng), rng.randrange(9))
        assert example.prompt.endswith(example.beginning)
        assert example.beginning[-1] == "."
        assert example.beginning.count('"') % 2 == 0
        assert f"{example.beginning} {example.answer}" == example.story.text


def test_rewriting_changes_the_tone_and_nothing_before() -> None:
    rng = random.Random(6)
    for _ in range(10):
        drawn = draw_tale(rng)
        example = make("rewrite", drawn, rng)
        assert example is not None
        assert drawn.beginning in example.prompt
        assert drawn.end in example.prompt
        tone = example.wanted["ending"]
        assert tone != drawn.story.facts["ending"]
        assert f"{tone} ending" in example.prompt
        told = tales.parse(f"{drawn.beginning} {example.answer}")
        assert told.facts["ending"] == tone


def test_orders_name_what_they_want() -> None:
    """All of it stands in the order, but for the plot, which is told in other words."""
    rng = random.Random(7)
    for _ in range(80):
        example = made("write", draw_tale(rng), rng.randrange(99))
        assert {"hero", "kind", "plot"} <= example.wanted.keys()
        assert {"place", "home"} & example.wanted.keys()
        for name, word in example.wanted.items():
            assert name == "plot" or word.rstrip("y") in example.prompt, (name, word)
        sentences = example.prompt.split(". ")
        assert len(set(sentences)) == len(sentences)


def test_a_summary_names_hero_and_object() -> None:
    drawn = tale("search", ending="sad")
    facts = drawn.story.facts
    summary = made("summarise", drawn).answer
    assert summary.startswith(f"{facts['hero']}, a")
    assert facts["toy"] in summary
    assert summary.count(".") == 1
    assert summary != made("summarise", tale("search", ending="happy")).answer


@pytest.mark.parametrize("kind", KINDS)
def test_new_phrasings_are_the_last_ones(kind: str) -> None:
    drawn = tale("stray") if kind != "how many" else tale("box")
    numbers = {made(kind, drawn, seed).phrasing for seed in range(30)}
    new = made(kind, drawn, new=True)
    assert numbers == set(range(new.phrasing))
    assert new.new_phrasing
    assert new.held_out


def test_pairs_are_known_by_the_story() -> None:
    held_out = tale("journey", kind="girl")
    assert ("girl", "journey") in HELD_OUT_PAIRS
    assert held_out.new_pair
    assert made("who", held_out).new_pair
    assert made("who", held_out).held_out
    assert not made("who", tale("journey", kind="boy")).held_out


def test_refusal() -> None:
    with pytest.raises(ValueError, match="wanted a kind from who, .*, got 'when'"):
        make("when", tale("box"), random.Random(0))
