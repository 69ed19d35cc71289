"""Instructions: that right answers pass, wrong ones do not, and nothing leaks."""

import json
import subprocess
import sys
from typing import Any

import pytest

from llmcourse.finetuning import instructions
from llmcourse.finetuning.instructions import (
    HELD_OUT_PAIRS,
    KINDS,
    QUESTIONS,
    check,
    examples,
    normalised,
)

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

def wrong_answers(example, others):
    facts, words = example.story.facts, forms(example.story.facts)
    yield "nothing", ""
    yield "no tale", "I do not know."
    other = others.get((example.kind, example.topic))
    if other is not None:
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
    if example.kind in ("continue", "rewrite", "write"):
        yield "cut short", example.answer[:-1].rpartition(".")[0] + "."
        yield "goes on", example.answer + " The end."
        if facts["hero"] in example.answer:
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


class Words:
    def encode(self, text: str) -> list[str]:
        return text.split()


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
    # Of 2,000, each kind has 200 on average; 5 deviations make 67.
    assert all(133 < count < 267 for count in large["kinds"].values())


def test_wrong_answers_do_not_pass(large: dict[str, Any]) -> None:
    assert large["passed"] == []
    assert sum(large["wrong"].values()) > 8_000
    assert min(large["wrong"].values()) > 100, large["wrong"]


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
    assert not any(example.held_out for example in training)
    held_out = {
        which: list(examples(100, seed=1, held_out=which))
        for which in ("phrasing", "pair", True)
    }
    for which, found in held_out.items():
        assert all(e.new_phrasing == (which != "pair") for e in found)
        assert all(e.new_pair == (which != "phrasing") for e in found)

    def pairs(found: list[Any]) -> set[tuple[str, str]]:
        return {(e.story.facts["kind"], e.story.facts["plot"]) for e in found}

    def wordings(found: list[Any]) -> set[tuple[str, str, int]]:
        return {(e.kind, e.topic, e.phrasing) for e in found}

    assert not pairs(training) & HELD_OUT_PAIRS
    assert pairs(held_out["pair"]) | pairs(held_out[True]) <= HELD_OUT_PAIRS
    assert not wordings(training) & wordings(held_out["phrasing"])
    assert not wordings(training) & wordings(held_out[True])
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
        for e in examples(40, seed=3, tokenizer=Words(), max_tokens=160)
    ]
    assert max(lengths) <= 160
    assert max(len(e.prompt.split()) for e in examples(40, seed=3)) > 160


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "_TRIES", 50)  # in place of 5,000
    with pytest.raises(ValueError, match="cannot be negative, got -1"):
        examples(-1, seed=0)
    with pytest.raises(ValueError, match=r"from who, .*, got \['who', 'when'\]"):
        examples(1, seed=0, kinds=["who", "when"])
    with pytest.raises(ValueError, match=r"wanted kinds from .*, got \[\]"):
        examples(1, seed=0, kinds=[])
    with pytest.raises(ValueError, match="'write' in 50 stories with at most 9"):
        next(examples(1, seed=0, kinds=["write"], tokenizer=Words(), max_tokens=9))
    assert list(examples(0, seed=0)) == []
