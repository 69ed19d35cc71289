"""Sums in words: every one has its answer, and the verifiers can tell."""

from collections import Counter
from itertools import combinations, product

import pytest

from llmcourse.alignment.verifiable import (
    LARGEST,
    MOST_CHANGE,
    WORDS,
    Question,
    direct_answer,
    last_number,
    outcome_is_right,
    pass_at_k,
    process_is_right,
    questions,
    read_question,
    read_steps,
    vote,
    worked_answer,
)
from llmcourse.model.folders import load_pretrained

KATE = (
    "Kate had nine pears. A fox took two. Howard gave her three. "
    "How many pears does Kate have now?"
)

# Worked example


def test_kate_has_ten_pears() -> None:
    """Nine less two is seven, and three is ten."""
    kate = read_question(KATE)
    assert kate == Question(KATE, totals=(9, 7, 10))
    assert kate.steps == [(9, -2, 7), (7, 3, 10)]
    assert worked_answer(kate) == (
        "First nine less two is seven. Then seven and three is ten. So ten."
    )
    assert direct_answer(kate) == "So ten."
    long = Question("", totals=(1, 2, 3, 4, 5, 6))  # more steps than any drawn
    assert read_steps(worked_answer(long)) == long.steps


@pytest.mark.parametrize(
    ("answer", "outcome", "process"),
    [
        ("First nine less two is seven. Then seven and three is ten. So ten.", 1, 1),
        ("So ten.", 1, 0),
        ("First nine less two is six. Then six and four is ten. So ten.", 1, 0),
        ("First nine less two is seven. So ten.", 1, 0),
        ("First nine and three is twelve. Then twelve less two is ten. So ten.", 1, 0),
        ("First nine less two is seven. Then seven and three is ten. So nine.", 0, 0),
        ("First nine less two is seven. Then seven and three is nine. So ten.", 1, 0),
        ("Ten of them are often eaten by a fox.", 0, 0),  # no word of ours
        ("So twenty-ten.", 0, 0),
        (
            "First nine less two is seven. Then seven and three is ten-one. So ten.",
            1,
            0,
        ),
        ("", 0, 0),
    ],
)
def test_verifiers_by_hand(answer: str, outcome: int, process: int) -> None:
    assert outcome_is_right(KATE, answer) == outcome
    assert process_is_right(KATE, answer) == process


# Law


def test_questions_keep_their_ranges_and_are_read_back() -> None:
    drawn = list(questions(400, seed=1))
    assert Counter(len(q.steps) for q in drawn) == dict.fromkeys((1, 2, 3, 4), 100)
    for question in drawn:
        assert all(1 <= total <= LARGEST for total in question.totals)
        assert all(0 < abs(step.change) <= MOST_CHANGE for step in question.steps)
        assert read_question(question.text) == question
        worked = worked_answer(question)
        assert process_is_right(question.text, worked)
        assert outcome_is_right(question.text, direct_answer(question))
        assert read_steps(worked) == question.steps
    assert {q.totals[-1] for q in drawn} == {*range(1, LARGEST + 1)}
    assert [*questions(5, seed=2)] == [*questions(5, seed=2)] != [*questions(5, seed=3)]


def test_steps_take_turns() -> None:
    lengths = [len(q.steps) for q in questions(5, seed=0, n_steps=(3, 1))]
    assert lengths == [3, 1, 3, 1, 3]
    assert {len(q.steps) for q in questions(5, seed=0, n_steps=2)} == {2}


def test_a_chain_of_another_order_is_another_chain() -> None:
    swapped = "First nine and three is twelve. Then twelve less two is ten. So ten."
    assert [step.after for step in read_steps(swapped)] == [12, 10]
    assert not process_is_right(KATE, swapped)


def test_numbers_are_single_tokens_of_the_course() -> None:
    _, tokenizer = load_pretrained("instruct-llm")
    assert all(len(tokenizer.encode(f" {word}")) == 1 for word in WORDS[1:])


# Reference


def test_pass_at_k_is_the_share_of_choices() -> None:
    for n, k in product(range(1, 7), range(1, 7)):
        for right in range(n + 1) if k <= n else ():
            ways = list(combinations(range(n), k))
            share = sum(min(way) < right for way in ways) / len(ways)
            assert pass_at_k(n, right, k) == pytest.approx(share)


def test_vote_counts_what_was_said_last() -> None:
    assert vote(["So one. So two.", "So two.", "So one.", "No."]) == 2
    assert vote(["So four.", "So three."]) == 4
    assert vote(["A fox.", ""]) is vote([]) is last_number("A fox.") is None


# Refusal


@pytest.mark.parametrize(
    "text",
    [KATE.replace("nine", "zero"), KATE.replace("two", "four"), "How many?", ""],
)
def test_what_the_grammar_cannot_write_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a story of this grammar"):
        outcome_is_right(text, "So ten.")


@pytest.mark.parametrize("arguments", [(-1, 0), (1, 0, 0), (1, 0, 5), (1, 0, (2, 5))])
def test_ranges_of_questions(arguments: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        next(questions(*arguments))


@pytest.mark.parametrize("arguments", [(3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)])
def test_ranges_of_pass_at_k(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        pass_at_k(*arguments)


def test_no_number_of_steps_is_refused():
    with pytest.raises(ValueError, match="numbers_of_steps must be at least 1"):
        list(questions(2, 0, []))
