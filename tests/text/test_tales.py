"""The tales: their size, their probabilities and what a reader relies on."""

import json
import math
import re
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from llmcourse.text import tales
from llmcourse.text.grammar import Story
from llmcourse.text.tokenizers import CharacterTokenizer

LARGE = """
import json, math, re
from collections import Counter
from llmcourse.text import tales
from llmcourse.text.tokenizers import WordTokenizer
n = 10_000
stories = list(tales.generate(n, seed=2))
exact = tales.world().measures
def deviation(value, sample):
    mean = math.fsum(sample) / n
    variance = math.fsum((x - mean) ** 2 for x in sample) / (n - 1)
    return abs(mean - value) / math.sqrt(variance / n)
texts = [s.text for s in stories[:1000]]
per_token = tales.entropy_per_token(WordTokenizer([]), texts)
lengths = [len(s.text.split()) for s in stories]
words = Counter()
for s in stories:
    words.update(set(re.findall(r"[a-z]+(?:[-'][a-z]+)*", s.text.lower())))
print(json.dumps({
    "parsed": sum(tales.parse(s.text) == s for s in stories[:4_000]),
    "distinct": len({s.text for s in stories}),
    "entropy": deviation(exact.entropy, [-s.log_prob for s in stories]),
    "words": deviation(exact.words, lengths),
    "size": deviation(exact.size, [len(s.text.encode()) for s in stories]),
    "shortest": min(lengths),
    "longest": max(lengths),
    "exact": [exact.entropy, exact.words, exact.size],
    "per_word": tales.entropy_per_word(),
    "bits_per_byte": tales.bits_per_byte(),
    "per_token": per_token,
    "vocabulary": sum(count >= n / 5000 for count in words.values()),
}))
"""


@cache
def stories() -> list[Story]:
    return list(tales.generate(1000, seed=3))


@pytest.fixture(scope="module")
def large() -> dict[str, Any]:
    """What 10,000 stories say, in an interpreter without the tests' type checks."""
    run = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)  # type: ignore[no-any-return]


def test_facts_of_a_story_stand_in_its_text() -> None:
    """What the grammar binds without writing it: notes, and only these."""
    notes = {"plot", "ending", "lesson", "promise", "occasion", "sprouts", "winner"}
    notes |= {"journey_gift", "season"}
    for story in stories():
        text = story.text.lower()
        for name, value in story.facts.items():
            # A job or an animal may appear only in another form: count its stem.
            assert name in notes or value.lower().rstrip("y") in text, (name, value)
        assert {"hero", "kind", "trait", "relative", "plot", "ending"} <= set(
            story.facts
        )


def test_items_are_listed_in_order() -> None:
    story = next(s for s in stories() if s.facts["plot"] == "box")
    first, second, third = (story.facts[f"item{n}"] for n in (1, 2, 3))
    assert story.text.index(first) < story.text.index(second) < story.text.index(third)


def test_parsing_undoes_generation(large: dict[str, Any]) -> None:
    """Text, facts, choices and log-probability of 4,000 stories are found again."""
    assert large["parsed"] == 4_000
    assert large["distinct"] == 10_000


def test_one_changed_word_is_noticed() -> None:
    """A wrong recall, such as another colour at the end, is no story any more."""
    story = next(s for s in stories() if s.facts["plot"] == "search")
    colour, before = story.facts["colour"], story.text
    at = before.rindex(f"the {colour} {story.facts['toy']}")
    wrong = before[:at] + before[at:].replace(colour, "pale", 1)
    word = len(before[:at].split()) + 2
    with pytest.raises(ValueError, match=f"at word {word},"):
        tales.parse(wrong)


def test_seed_decides_the_stories() -> None:
    first = [story.text for story in tales.generate(20, seed=7)]
    assert first == [story.text for story in tales.generate(20, seed=7)]
    assert not set(first) & {story.text for story in tales.generate(20, seed=8)}
    assert [story.text for story in tales.generate(5, seed=7)] == first[:5]


def test_exact_means_agree_with_sampling(large: dict[str, Any]) -> None:
    """Each within 4 standard errors; a false alarm has probability below 2e-4."""
    assert max(large["entropy"], large["words"], large["size"]) < 4


def test_units_of_the_floor_agree(large: dict[str, Any]) -> None:
    entropy, words, size = large["exact"]
    assert large["per_word"] == entropy / words
    assert large["bits_per_byte"] * math.log(2) * size == pytest.approx(entropy)
    per_token, error = large["per_token"]  # of words and the end
    assert abs(per_token - entropy / (words + 1)) < 4 * error


def test_world_is_large_enough(large: dict[str, Any]) -> None:
    assert large["vocabulary"] >= 1_500  # each in at least one of 5,000 stories
    assert large["exact"][0] > math.log(10**9)  # at least so many stories
    assert len({story.facts["plot"] for story in stories()}) >= 6
    endings = {story.facts["ending"] for story in stories()}
    assert endings == {"happy", "sad", "surprising"}


def test_stories_keep_within_bounds(large: dict[str, Any]) -> None:
    assert large["shortest"] >= 60
    assert large["longest"] <= 250


def test_text_is_tidy() -> None:
    for story in stories():
        text = story.text
        assert text == text.strip()
        assert not re.search(r"  |\s[.,;?!]|[.,;?!]{2}|\.\"\.|[{}<>\[\]|]", text)
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n (?!hour)[^aeiou]", text), text
        assert not re.search(
            r"[.!?]\"? [a-z]", text.replace('!" ', "").replace('?" ', "")
        )
        assert text.count('"') % 2 == 0
        assert text[0].isupper()
        assert text[-1] in '."!'


def test_early_facts_decide_late_words() -> None:
    """Each story says again, late, something that was said 20, 60, 100 words before."""
    reach = {20: 0, 60: 0, 100: 0}
    for story in stories():
        words = re.findall(r"[\w'-]+", story.text.lower())
        places: dict[str, list[int]] = {}
        for place, word in enumerate(words):
            places.setdefault(word, []).append(place)
        gaps = [
            b - a
            for value in story.facts.values()
            for a, b in zip(
                places.get(value.lower(), []),
                places.get(value.lower(), [])[1:],
                strict=False,
            )
        ]
        for distance in reach:
            reach[distance] += max(gaps, default=0) >= distance
    assert reach[20] == 1000
    assert reach[60] > 700
    assert reach[100] > 50


def test_refusals() -> None:
    with pytest.raises(ValueError, match="n_stories must be at least 0, got -1"):
        tales.generate(-1, seed=0)
    with pytest.raises(ValueError, match="word 1"):
        tales.parse("")
    with pytest.raises(ValueError, match="not a story"):
        tales.log_prob("Call me Ishmael.")
    for texts in ([], ["one"]):
        with pytest.raises(ValueError, match="n_texts must be at least 2, got"):
            tales.entropy_per_token(CharacterTokenizer(), texts)
    assert list(tales.generate(0, seed=0)) == []
