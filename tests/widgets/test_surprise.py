"""The surprise explorer: exact surprises, its state, and its JavaScript in Node.

How it looks and answers the keyboard is tested in a browser, in tests/site.
"""

import json
import math
from itertools import pairwise

import pytest

from llmcourse.text import tales
from llmcourse.text.grammar import Grammar
from llmcourse.text.tales import word_surprises
from llmcourse.widgets.surprise import SurpriseExplorer

GRAMMAR = Grammar("""
rule story
    {Who=name} [ran|sang].[| {Who} slept.]
list name
    Mia, Mias, Tom, Tomas
""")
STORIES = [story.text for story in tales.generate(3, seed=5)]


def even(text: str) -> list[float]:
    """A model that finds every word equally surprising."""
    return [6.0] * len(text.split())


def test_surprises_by_hand():
    """Four names, two verbs, and an even choice to go on.

    "Mia" begins "Mias", too, and still costs log 4, not log 2. "ran." costs log 2
    for the verb and log 2 for going on, or ending, behind it.
    """
    nats = word_surprises("Mia ran. Mia slept.", GRAMMAR)
    assert nats == pytest.approx([math.log(4), math.log(4), 0.0, 0.0])
    nats = word_surprises("Tom sang.", GRAMMAR)
    assert nats == pytest.approx([math.log(4), math.log(4)])


@pytest.mark.parametrize("text", STORIES)
def test_surprises_sum_to_the_probability_of_the_story(text):
    nats = word_surprises(text)
    assert len(nats) == len(text.split())
    assert min(nats) >= 0
    assert sum(nats) == pytest.approx(-tales.log_prob(text), abs=1e-9)


def test_a_words_surprise_depends_on_what_came_before_alone():
    """Stories that begin alike are equally surprising as far as they do."""
    same = [story.text for story in GRAMMAR.enumerate()]
    for a, b in pairwise(sorted(same)):
        first, second = a.split(), b.split()
        for i, (mine, other) in enumerate(zip(first, second, strict=False)):
            last = i in (len(first) - 1, len(second) - 1)
            if mine != other or last:  # there one ends and the other goes on
                break
            assert word_surprises(a, GRAMMAR)[i] == pytest.approx(
                word_surprises(b, GRAMMAR)[i]
            )


def test_the_state_is_the_words_and_what_each_predictor_says():
    explorer = SurpriseExplorer(STORIES, {"even": even})
    assert explorer.stories == [text.split() for text in STORIES]
    assert [each["name"] for each in explorer.predictors] == ["the grammar", "even"]
    assert sum(explorer.predictors[0]["nats"][1]) == pytest.approx(
        -tales.log_prob(STORIES[1]), abs=1e-3
    )
    assert explorer.predictors[1]["nats"][2] == even(STORIES[2])
    assert repr(explorer) == "SurpriseExplorer(3 stories, the grammar, even)"
    state = {name: explorer.get_state()[name] for name in explorer.keys}
    assert len(json.dumps(state)) < 40_000
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
        assert name not in explorer._esm


@pytest.mark.parametrize(
    ("nats", "said"),
    [
        (0, "0 nats: no other word can stand here"),
        (1e-12, "0 nats: no other word can stand here"),
        (math.log(2), "0.69 nats: probability 0.500, one chance in 2.0"),
        (math.log(20), "3.00 nats: probability 0.050, one chance in 20"),
        (math.log(30_000), "10.31 nats: probability 3.3e-5, one chance in 30,000"),
        (114.65, "114.65 nats: probability 1.6e-50, one chance in 6.2e49"),
        (800, "800.00 nats: probability below 1e-300"),
    ],
)
def test_a_surprise_is_said_in_three_ways(javascript, nats, said):
    assert javascript(SurpriseExplorer, "m.say(x)", nats) == said


def test_warmth_and_total(javascript):
    warm = javascript(SurpriseExplorer, "m.warmth(x, 4)", [0, 1, 4, 5])
    assert warm == [0, 0.25, 1, 1]
    assert javascript(SurpriseExplorer, "m.warmth(x, 0)", [0, 0]) == [0, 0]
    assert javascript(SurpriseExplorer, "m.total(x)", [1, 2.5]) == 3.5


@pytest.mark.parametrize(
    ("stories", "models", "message"),
    [
        ([], {}, "at least one text"),
        (["No tale at all."], {}, "not a story"),
        (
            STORIES,
            {"short": lambda text: [1.0]},
            "surprises of 'short' must be [0-9]+, got 1",
        ),
        (
            STORIES,
            {"m": lambda text: [-x for x in even(text)]},
            "surprises of 'm' must be at least 0",
        ),
        (STORIES, {"m": lambda text: [math.inf] * len(text.split())}, "got inf"),
        (STORIES, {"m": lambda text: [math.nan] * len(text.split())}, "got nan"),
    ],
)
def test_what_cannot_be_shown_is_refused(stories, models, message):
    with pytest.raises(ValueError, match=message):
        SurpriseExplorer(stories, models)
