"""Instructions: that right answers pass, wrong ones do not, and nothing leaks."""

import json
import random
import re
import subprocess
import sys
from collections import defaultdict
from importlib import resources
from typing import Any

import pytest

from llmcourse.finetuning import instructions
from llmcourse.finetuning.instructions import (
    HELD_OUT_PAIRS,
    KINDS,
    QUESTIONS,
    UNSAID,
    Example,
    Tale,
    Topic,
    check,
    draw_tale,
    examples,
    fill,
    follow_ups,
    forms,
    make,
    normalised,
    read_topics,
    topics,
    variables,
)
from llmcourse.text import tales
from llmcourse.text.grammar_text import Entry
from llmcourse.text.tokenizers import WordTokenizer

# For 2,000 examples, in an interpreter without the tests' type checks: how many right
# answers pass, and which plausible wrong ones do.
LARGE = """
import json, re
from collections import Counter
from llmcourse.finetuning.instructions import fill, forms, topics
from llmcourse.finetuning.instructions import KINDS, check, examples, normalised
from llmcourse.text.tales import parse, world

heroes = {}
for name in ("girl", "boy", "sheanimal", "heanimal"):
    names = [entry["word"] for entry in world().lists[name].choices["*"]]
    heroes |= dict(zip(names, names[1:] + names[:1]))

def renamed(text, hero):
    return re.sub(rf"\\b{hero}\\b", heroes[hero], text)

def tells(example, other):
    facts = other.story.facts
    return all(facts.get(name) == word for name, word in example.wanted.items())

def wrong_answers(example, others):
    facts, words = example.story.facts, forms(example.story.facts)
    yield "nothing", ""
    yield "no tale", "I do not know."
    other = others.get((example.kind, example.topic))
    if other is not None and not (example.kind == "tell" and tells(example, other)):
        yield "another story's", other.answer
    if example.kind in topics() and example.kind != "summarise":
        for topic in topics()[example.kind]:
            if topic.name != example.topic and topic.fits(facts):
                yield "to another question", topic.right_answers(words)[0]
    if example.kind == "list":
        things = example.answer.rstrip(".").replace(" and ", ", ").split(", ")
        yield "one too few", " and ".join(things[:-1])
        yield "one twice", f"{things[0]}, {', '.join(things[:-1])} and {things[-1]}"
    if example.kind == "summarise":
        yield "another hero", renamed(example.answer, facts["hero"])
        for topic in topics()["summarise"]:
            if topic.name != example.topic and topic.fields <= facts.keys():
                text = fill("{hero}, {trait.a} {kind}, " + topic.answers[0], words)
                yield "another ending or plot", text
    if example.kind in ("continue", "rewrite", "write", "tell"):
        yield "cut short", example.answer[:-1].rpartition(".")[0] + "."
        yield "goes on", example.answer + " The end."
        named = example.beginning or "hero" in example.wanted
        if named and facts["hero"] in example.answer:
            yield "another hero", renamed(example.answer, facts["hero"])
        middle = len(example.answer) // 2
        at = example.answer.index(" ", middle) if " " in example.answer[middle:] else 0
        yield "a word lost", example.answer[:at] + example.answer[at:].split(" ", 2)[-1]
    if example.kind == "rewrite":
        yield "the old ending", example.story.text[len(example.beginning) + 1 :]

right, wrong, passed, kinds, parsed = 0, Counter(), [], Counter(), 0
others = {}
for example in examples(2_000, seed=1):
    kinds[example.kind] += 1
    right += check(example, example.answer)
    for what, answer in wrong_answers(example, others):
        if normalised(answer) in map(normalised, example.accepted):
            continue  # by chance it is right: two eggs here, two eggs there
        wrong[what] += 1
        if check(example, answer):
            passed.append([example.kind, example.topic, what, answer])
    others[example.kind, example.topic] = example
print(json.dumps({"right": right, "wrong": wrong, "passed": passed, "kinds": kinds}))
"""


@pytest.fixture(scope="module")
def large() -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)  # type: ignore[no-any-return]


def test_normalised_by_hand() -> None:
    """Case, articles, commas and the final stop do not count; words and order do."""
    assert normalised("A cap, the map and an egg.") == ("cap", "map", "and", "egg")
    assert normalised("because it was  blue") == normalised("It was blue")
    assert normalised("two eggs") != normalised("eggs two")
    assert normalised("the bird's nest") == ("bird's", "nest")
    assert normalised("") == ()


@pytest.mark.parametrize(
    "text", ["'The owl.'", '"The owl."', "- the owl", "the owl --", "-owl-"]
)
def test_marks_around_words_do_not_count(text: str) -> None:
    assert normalised(text) == ("owl",)


def test_marks_in_words_count() -> None:
    assert normalised("The bird's twenty-one") == ("bird's", "twenty-one")
    assert normalised("well- known") != normalised("well-known")
    assert normalised("- ' --") == ()


@pytest.mark.parametrize("kind", QUESTIONS)
def test_an_answer_may_be_quoted_or_stand_behind_a_dash(kind: str) -> None:
    example = next(examples(1, seed=4, kinds=[kind]))
    for form in ("'{}'", '"{}"', "- {}"):
        assert check(example, form.format(example.answer))


def test_right_answers_pass(large: dict[str, Any]) -> None:
    assert large["right"] == 2_000
    assert set(large["kinds"]) == set(KINDS)
    # Of 2,000, each of 14 kinds has 143 on average; 5 deviations make 58.
    assert all(85 < count < 201 for count in large["kinds"].values())


def test_wrong_answers_do_not_pass(large: dict[str, Any]) -> None:
    assert large["passed"] == []
    assert sum(large["wrong"].values()) > 8_000
    assert min(large["wrong"].values()) > 100, large["wrong"]


@pytest.mark.parametrize("held_out", [False, "phrasing"])
def test_few_words_are_wanted_by_a_system_prompt(held_out: Any) -> None:
    for example in examples(30, seed=2, kinds=["brief"], held_out=held_out):
        system, user = example.turns
        assert (system.role, user.content) == ("system", example.prompt)
        assert check(example, example.answer)
        facts = example.story.facts
        answers = [
            topic.right_answers(forms(facts))
            for kind in QUESTIONS
            for topic in topics()[kind]
            if topic.name == example.topic and topic.fits(facts)
        ]
        sentences = [found[0] for found in answers if example.answer in found]
        assert sentences
        assert not any(check(example, sentence) for sentence in sentences)


def test_system_prompts_that_are_asked_are_not_learned() -> None:
    learned = {e.system for e in examples(100, seed=0, kinds=["brief"])}
    new = {e.system for e in examples(9, 0, kinds=["brief"], held_out="phrasing")}
    assert (len(learned) > 5, len(new)) == (True, 1)
    assert not learned & new


@pytest.mark.parametrize("held_out", [False, "phrasing"])
def test_what_a_story_does_not_say_is_in_no_sentence_of_it(held_out: Any) -> None:
    for example in examples(30, seed=2, kinds=["unsaid"], held_out=held_out):
        text = example.story.text
        assert text in example.prompt
        question = example.prompt.replace(text, "").strip()
        assert set(re.findall(r"\w+", question)) - set(re.findall(r"\w+", text))
        assert example.answer == "The story does not say."
        assert check(example, "the story does not say")
        assert not check(example, example.story.facts["hero"])


def test_what_is_no_tale_is_refused() -> None:
    learned = list(examples(60, seed=0, kinds=["outside"]))
    new = list(examples(60, seed=0, kinds=["outside"], held_out="phrasing"))
    assert {e.answer for e in learned + new} == {"I only know my tales."}
    assert len({e.prompt for e in learned}) > 40
    assert not {e.prompt for e in learned} & {e.prompt for e in new}
    assert all(e.prompt[-1] in ".?" for e in learned + new)


def test_short_answers_may_be_worded_more_freely() -> None:
    example = next(
        e for e in examples(200, seed=3, kinds=["what"]) if e.topic == "worn"
    )
    shade, garment = (example.story.facts[name] for name in ("shade", "garment"))
    assert check(example, f"the {shade} {garment}")
    assert check(example, garment.upper())
    assert not check(example, shade)
    assert not check(example, f"a {shade} hat")
    assert not check(example, f"a {shade} {garment} and a hat")


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\0", "é" * 3, '"', "word " * 999])
def test_no_text_makes_the_check_fail(text: str) -> None:
    for kind in KINDS:
        assert not check(next(examples(1, seed=0, kinds=[kind])), text)


def test_nothing_held_out_is_in_training() -> None:
    training = list(examples(400, seed=0))
    held_out = {
        which: list(examples(100, seed=1, held_out=which))
        for which in ("phrasing", "pair", True)
    }

    def pairs(found: list[Any]) -> set[tuple[str, str]]:
        return {(e.story.facts["kind"], e.story.facts["plot"]) for e in found}

    def wordings(found: list[Any]) -> set[tuple[str, str, int]]:
        return {(e.kind, e.topic, e.phrasing) for e in found}

    assert not (pairs(training) | pairs(held_out["phrasing"])) & HELD_OUT_PAIRS
    assert pairs(held_out["pair"]) | pairs(held_out[True]) <= HELD_OUT_PAIRS
    new = wordings(held_out["phrasing"]) | wordings(held_out[True])
    assert not (wordings(training) | wordings(held_out["pair"])) & new
    # What is held out is new in its combination alone: each half is in training.
    assert {plot for _, plot in HELD_OUT_PAIRS} <= {p for _, p in pairs(training)}
    assert {"girl", "boy"} <= {kind for kind, _ in pairs(training)}


def test_every_kind_has_held_out_pairs() -> None:
    for kind in KINDS:
        assert next(examples(1, seed=2, kinds=[kind], held_out=True)).kind == kind


def test_seed_decides_the_examples() -> None:
    first = list(examples(15, seed=7))
    assert first == list(examples(15, seed=7))
    assert first[:4] == list(examples(4, seed=7))
    assert not {e.prompt for e in first} & {e.prompt for e in examples(15, seed=8)}


def test_long_examples_are_skipped() -> None:
    lengths = [
        len(f"{e.prompt} {e.answer}".split())
        for e in examples(40, seed=3, tokenizer=WordTokenizer([]), max_tokens=160)
    ]
    assert max(lengths) <= 160
    assert max(len(e.prompt.split()) for e in examples(40, seed=3)) > 160


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "_TRIES", 50)  # in place of 5,000
    with pytest.raises(ValueError, match="n must be at least 0, got -1"):
        examples(-1, seed=0)
    with pytest.raises(ValueError, match=r"from who, .*, got \['who', 'when'\]"):
        examples(1, seed=0, kinds=["who", "when"])
    with pytest.raises(ValueError, match=r"wanted kinds from .*, got \[\]"):
        examples(1, seed=0, kinds=[])
    with pytest.raises(ValueError, match="'write' that fits in 50 stories"):
        next(
            examples(
                1, seed=0, kinds=["write"], tokenizer=WordTokenizer([]), max_tokens=9
            )
        )
    assert list(examples(0, seed=0)) == []


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
        story_first = drawn.story.text == first
        assert story_first == (example.phrasing % 3 != 2)
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


def test_orders_in_few_words_say_what_they_want() -> None:
    """And nothing else: a tale with other facts is as good."""
    rng, seen = random.Random(8), set()
    for _ in range(600):
        example = made("tell", draw_tale(rng), rng.randrange(99))
        seen.add(example.topic)
        assert len(example.prompt.split()) < 20
        for name, word in example.wanted.items():
            assert name == "plot" or word.rstrip("y") in example.prompt, (name, word)
        assert example.prompt.count("ending") < 2  # no sad story with a sad ending
    assert seen == {topic.name for topic in topics()["about"]}


def test_any_tale_is_a_story_but_not_about_anybody() -> None:
    asked = [*examples(100, seed=2, kinds=["tell"])]
    (bare, *_) = (e for e in asked if not e.wanted)
    (girl, *_) = (e for e in asked if e.wanted == {"kind": "girl"})
    (other, *_) = (e for e in asked if e.story.facts["kind"] != "girl")
    assert [check(e, other.story.text) for e in (bare, girl)] == [True, False]
    assert "about a girl" in girl.prompt


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
    topics_drawn, last = defaultdict(set), defaultdict(int)
    for seed in range(1000):
        learned, new = (
            make(kind, drawn, random.Random(seed), new_phrasing=held)
            for held in (False, True)
        )
        if learned is None or new is None:
            continue
        assert learned.topic == new.topic
        assert learned.phrasing < new.phrasing
        topics_drawn[new.topic].add(learned.phrasing)
        last[new.topic] = max(last[new.topic], new.phrasing)
    # Of a rare topic hardly any is drawn.
    assert any(
        found == set(range(last[topic])) for topic, found in topics_drawn.items()
    )


def test_pairs_are_known_by_the_story() -> None:
    held_out = tale("journey", kind="girl")
    assert ("girl", "journey") in HELD_OUT_PAIRS
    assert held_out.new_pair
    assert not tale("journey", kind="boy").new_pair


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


@pytest.mark.parametrize("kind", ["summarise", "rewrite", "outside"])
def test_nothing_is_asked_where_no_story_was_told_as_it_is(kind):
    (example,) = examples(1, seed=0, kinds=[kind])
    assert list(follow_ups(example, random.Random(0))) == []


@pytest.mark.parametrize("kind", ["continue", "write", "tell"])
def test_a_story_that_was_told_can_be_asked_about(kind):
    (example,) = examples(1, seed=0, kinds=[kind])
    assert f"{example.beginning} {example.answer}".strip() == example.story.text
    more = dict(follow_ups(example, random.Random(0)))
    words = forms(example.story.facts)
    assert fill("The story is about {hero}.", words) in more.values()


def test_after_a_short_answer_come_short_ones():
    for example in examples(5, seed=0, kinds=["brief"]):
        more = list(follow_ups(example, random.Random(0)))
        assert more
        words = forms(example.story.facts)
        right = [
            topic.right_answers(words)
            for kind in QUESTIONS
            for topic in topics()[kind]
            if topic.fits(example.story.facts)
        ]
        for question, answer in more:
            (first, *_) = (found for found in right if answer in found[1:])
            assert len(normalised(answer)) < len(normalised(first[0]))
            assert question not in example.prompt


def test_what_a_story_does_not_say_is_followed_by_what_it_does():
    for example in examples(5, seed=0, kinds=["unsaid"]):
        more = list(follow_ups(example, random.Random(0)))
        assert len(more) > 3
        assert UNSAID not in [answer for _, answer in more]


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
    """Seven wordings to learn or more, one held out; answers, and a list's parts."""
    for kind, found in topics().items():
        for topic in found:
            if kind in ("summarise", "theme", "extra", "form", "about"):
                assert topic.phrasings == ()
                assert len(topic.answers) == 1
            else:
                assert len(set(topic.phrasings)) == len(topic.phrasings) >= 8
                assert kind in (*QUESTIONS, "task")
                assert bool(topic.answers) == (kind != "task")
                assert (len(topic.parts) > 1) == (kind == "list")


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


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# first\nwho\n    ? Who?", "2"),
        ("    ? Who?", "1"),
        ("who hero\n    ! Who?", "2"),
        ("who owner @ plot=stray, ending", "1"),
        ("who owner @ plot=stray, ending=sad=happy", "1"),
        ("who owner @ plot=stray,", "1"),
    ],
)
def test_lines_of_another_form_are_named(text: str, line: str) -> None:
    with pytest.raises(ValueError, match=f"line {line}: wanted 'KIND NAME'"):
        list(read_topics(text))


def test_every_topic_names_what_tales_have() -> None:
    """Its facts are words that their variables can hold, and its fields are filled in.

    Each variable has a word in all forms that any of its words has.
    """
    assert variables("no fields") == ()
    vocabulary: defaultdict[str, set[str]] = defaultdict(set)
    for story in tales.generate(2_000, seed=0):
        for name, word in story.facts.items():
            vocabulary[name].add(word)
    words = {name: Entry() for name in vocabulary}
    for name, known in vocabulary.items():
        for word in known:
            words[name].update(forms({name: word})[name])
    shown = ("story", "beginning", "end", "tone", "theme", "extras", "order")
    tasks = words | {name: Entry(word=name) for name in shown}
    listed = words | {"list": Entry(word="list")}
    for kind, found in topics().items():
        for topic in found:
            for name, word in topic.when.items():
                assert word in vocabulary[name], topic
            for text in (*topic.phrasings, *topic.parts):
                filled = fill(text, tasks if kind == "task" else words)
                assert not {*"{}"} & {*filled}, text
            for text in topic.answers:
                assert not {*"{}"} & {*fill(text, listed if topic.parts else words)}
