"""The file of what can be asked about a tale, and how its templates are filled."""

import random
import re
from importlib import resources

import pytest

from llmcourse.finetuning.instructions import (
    Topic,
    fill,
    forms,
    read_topics,
    topics,
    variables,
)
from llmcourse.text import tales

FILE = """
# a comment
who owner @ plot=stray, ending=sad
    ? Who owned the {stray}?
    ? Whose {stray} was it?
    = The {owner}.
    = the owner

list things
    ? List them. // Please.
    ? What did they hide?
    + {item1.a}
    + {item2.a}
"""


def test_a_file_read_by_hand() -> None:
    owner, things = read_topics(FILE)
    assert owner == Topic(
        kind="who",
        name="owner",
        when={"plot": "stray", "ending": "sad"},
        phrasings=("Who owned the {stray}?", "Whose {stray} was it?"),
        answers=("The {owner}.", "the owner"),
    )
    assert things.phrasings == ("List them.\n\nPlease.", "What did they hide?")
    assert things.parts == ("{item1.a}", "{item2.a}")
    assert owner.fields == {"stray", "owner"}


def test_a_topic_fits_if_its_facts_hold_and_its_fields_are_there() -> None:
    owner = next(read_topics(FILE))
    facts = {"plot": "stray", "ending": "sad", "stray": "lamb", "owner": "cook"}
    assert owner.fits(facts)
    assert not owner.fits({**facts, "ending": "happy"})
    assert not owner.fits({name: facts[name] for name in ("plot", "ending", "stray")})


def test_forms_by_hand() -> None:
    """Pronouns from the world's lists, the rest by rule; a capital capitalises."""
    words = forms(
        {"hero": "Pip", "relative": "aunt", "toy": "umbrella", "judge": "cook"}
        | {"count": "five", "place": "lake", "food": "cherry tart"}
    )
    assert fill("{Hero.he} and {hero.his} {relative}", words) == "He and his aunt"
    assert fill("{relative.him} {Toy.a} {judge.he}", words) == "her An umbrella he"
    assert fill("{count.less} {count.last} {count.few}", words) == "four three two"
    assert fill("{Place.at}, {food.s}", words) == "By the lake, cherry tarts"
    with pytest.raises(KeyError):
        fill("{garment}", words)


def test_lists_are_right_in_any_order() -> None:
    *_, things = read_topics(FILE.replace("+ {item2.a}", "+ {item2.a}\n    + Tom"))
    words = forms({"item1": "egg", "item2": "map"})
    answers = things.right_answers(words)
    assert answers[0] == "An egg, a map and Tom."
    assert len(set(answers)) == 6
    assert "Tom, a map and an egg." in answers


def test_pronouns_are_those_of_the_story() -> None:
    """Each garment is the hero's alone: it is hers for a she, and his for a he."""
    told = 0
    for story in tales.generate(300, seed=5):
        his = forms(story.facts)["hero"]["his"]
        other = {"his": "her", "her": "his"}[his]
        clothes = f"{story.facts['shade']} {story.facts['garment']}"
        assert f"{other} {clothes}" not in story.text
        told += f"{his} {clothes}" in story.text
    assert told > 100


def test_every_topic_is_well_formed() -> None:
    """Seven wordings to learn and one held out; answers, and of a list its parts."""
    for kind, found in topics().items():
        for topic in found:
            if kind in ("summarise", "theme", "extra"):
                assert topic.phrasings == ()
                assert len(topic.answers) == 1
            else:
                assert len(set(topic.phrasings)) == len(topic.phrasings) == 8
                assert bool(topic.answers) == (kind != "task")
                assert bool(topic.parts) == (kind == "list")


def test_held_out_wordings_stand_nowhere_else() -> None:
    found = [topic for each in topics().values() for topic in each if topic.phrasings]
    held_out = {topic.phrasings[-1] for topic in found}
    trained = {text for topic in found for text in topic.phrasings[:-1]}
    assert not held_out & trained


def words_of(text: str) -> set[str]:
    """Return the words of a text but for what stands in braces."""
    return set(re.findall(r"[a-z]+", re.sub(r"\{[^}]*\}", " ", text.lower())))


def test_held_out_wordings_have_no_word_of_their_own() -> None:
    """Each word is in a wording that training has, or in the tales."""
    source = resources.files("llmcourse").joinpath("data/tales.txt")
    lines = source.read_text(encoding="utf-8").splitlines()
    known = words_of(" ".join(line for line in lines if line.startswith(" ")))
    found = [topic for each in topics().values() for topic in each if topic.phrasings]
    for topic in found:
        known |= words_of(" ".join(topic.phrasings[:-1]))
    assert "wording" not in known
    for topic in found:
        assert words_of(topic.phrasings[-1]) <= known, topic.phrasings[-1]


def test_every_topic_fits_some_story_and_every_story_some_topic() -> None:
    """Of 3,000 stories; one in 300 has the rarest, so a miss has p < 1e-4."""
    stories = list(tales.generate(3000, seed=6))
    for kind in ("who", "where", "what", "summarise", "theme"):
        for story in random.Random(0).sample(stories, 100):
            assert any(topic.fits(story.facts) for topic in topics()[kind])
    for kind, found in topics().items():
        for topic in found:
            assert kind == "task" or any(topic.fits(s.facts) for s in stories), topic


def test_summaries_and_themes_are_unambiguous() -> None:
    for story in tales.generate(300, seed=7):
        for kind in ("summarise", "theme"):
            assert sum(topic.fits(story.facts) for topic in topics()[kind]) == 1


def test_refusals() -> None:
    with pytest.raises(ValueError, match="line 2: wanted 'KIND NAME' .* got 'who'"):
        list(read_topics("# first\nwho\n    ? Who?"))
    with pytest.raises(ValueError, match="line 1: wanted .* under a topic"):
        list(read_topics("    ? Who?"))
    with pytest.raises(ValueError, match="line 2: wanted .*got '! Who"):
        list(read_topics("who hero\n    ! Who?"))
    assert variables("no fields") == ()


TOPIC = """
who owner @ plot=stray, ending=sad
    ? Who owned the {stray}?
    ? Whose {stray} was it?
    = {Stray.a} of {hero.his} {owner}, {list}.
    + {job1}
    + {job2}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    ? Whose {stray} was it?\n", "", r"line 2: .* 2 wordings, .* got 1"),
        ("    + {job1}\n", "", "line 2: .* no things of a list or at least 2, got 1"),
        ("Who owned the {stray}", "Who owned {strya}", "line 3: .* got 'strya' in"),
        ("{hero.his}", "{hero.hsi}", "line 5: .* forms that they have, got 'hsi' in"),
        ("who owner", "whoo owner", "line 2: wanted a kind from who, .*, got 'whoo'"),
        ("{job2}", "{jobb}", "line 7: .* got 'jobb' in"),
        ("{Stray.a}", "{Stray.a", r"line 5: wanted fields as \{name\} .* got"),
        ("{stray} was", "stray} was", r"line 4: wanted fields as"),
        ("Whose {stray} was", "Whose {list} was", "line 4: .* got 'list' in"),
        ("Who owned", "Who, in {story}, owned", "line 3: .* got 'story' in"),
        ("plot=", "plto=", "line 2: .*a tale can have, got 'plto=stray'"),
        ("=sad", "=bad", "line 2: .*a tale can have, got 'ending=bad'"),
        ("ending=sad", "ending", "line 2: wanted .*FACT=WORD, .*got 'who owner @ plot"),
        ("=sad", "=sad=happy", "line 2: wanted .*FACT=WORD"),
        (", ending=sad", ",", "line 2: wanted .*FACT=WORD"),
    ],
)
def test_what_no_tale_can_fit_is_refused_with_its_line(
    old: str, new: str, message: str
) -> None:
    assert len(list(read_topics(TOPIC))) == 1
    assert TOPIC.count(old) == 1
    with pytest.raises(ValueError, match=message):
        list(read_topics(TOPIC.replace(old, new)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("who hero\n ? Who?\n ? Whose?", "line 1: .*'who hero' an answer, got none"),
        ("theme hero", "line 1: .*'theme hero' an answer, got none"),
        ("theme hero\n + a\n + b", "line 1: .*'theme hero' an answer, got none"),
        ("task write\n ? Write.", "line 1: .*'task write' at least 2 .* got 1"),
        ("who hero", "line 1: .*'who hero' at least 2 wordings.* got 0"),
        ("task write\n ? {theme}\n ? {themes}", "line 3: .* got 'themes'"),
        # The fault is in the first of two topics, whose line is said.
        ("who hero\n\ntheme hero\n = {hero}", "line 1: .* got 0"),
    ],
)
def test_what_a_kind_needs_is_asked_for(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(read_topics(text))


def test_what_a_kind_does_not_need_is_not_asked_for() -> None:
    task, theme, things = read_topics(
        "task write\n ? {story}\n ? {theme}, {tone.a}\n"
        "theme hero\n = {hero}\n"
        "list things\n ? Which?\n ? What?\n + {item1}\n + {item2}"
    )
    assert (task.answers, theme.phrasings, things.answers) == ((), (), ())
