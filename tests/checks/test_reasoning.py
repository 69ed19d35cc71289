"""A right answer passes each check; plausible wrong ones fail with the lesson."""

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import kl_div

from llmcourse.alignment.verifiable import read_question, read_steps
from llmcourse.checks import reasoning as checks


def right_first(question, answer):
    totals = read_question(question).totals
    wanted = [(a, b - a, b) for a, b in pairwise(totals)]
    steps = read_steps(answer)
    for place in range(max(len(wanted), len(steps))):
        if wanted[place : place + 1] != steps[place : place + 1]:
            return place
    return -1


def right_soft(student, teacher):
    said, wanted = student.log_softmax(-1), teacher.log_softmax(-1)
    return (wanted.exp() * (wanted - said)).sum(-1).mean()


def test_right_answers_pass():
    checks.longest_path(lambda n_layers, n_written: n_layers * n_written)
    checks.first_wrong_step(right_first)
    checks.vote_of_three(lambda p: p**2 * (3 - 2 * p))
    checks.groups_that_teach(lambda p, size: 1 - p**size - (1 - p) ** size)
    checks.soft_target_loss(right_soft)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda layers, written: layers + written - 1, "adds all layers"),
        (lambda layers, written: layers, "all layers and is read by the next"),
        (lambda layers, written: layers * (written + 1), "one pass"),
    ],
)
def test_wrong_paths_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.longest_path(wrong)


def sums_alone(question, answer):
    for place, (before, change, after) in enumerate(read_steps(answer)):
        if before + change != after:
            return place
    return -1


def afters_alone(question, answer):
    steps = read_steps(answer)
    for place, after in enumerate(read_question(question).totals[1:]):
        if place >= len(steps) or steps[place].after != after:
            return place
    return -1


def only_what_is_said(question, answer):
    totals = read_question(question).totals
    for place, step in enumerate(read_steps(answer)[: len(totals) - 1]):
        a, b = totals[place : place + 2]
        if step != (a, b - a, b):
            return place
    return -1


def giving_is_losing(question, answer):
    return right_first(question.replace("Howard gave her", "She gave Howard"), answer)


def giving_is_gaining(question, answer):
    return right_first(question.replace("She gave Howard", "Howard gave her"), answer)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (sums_alone, "not those asked for"),
        (afters_alone, "not those asked for|is a third"),
        (only_what_is_said, "is missing"),
        (giving_is_losing, "nothing is wrong"),
        (giving_is_gaining, "leaves less"),
        (lambda question, answer: 0, "nothing is wrong"),
    ],
)
def test_wrong_judges_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.first_wrong_step(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda p: 1 - (1 - p) ** 3, "a verifier needs"),
        (lambda p: 3 * p**2 * (1 - p), "exactly two"),
        (lambda p: p, "in three ways"),
        (lambda p: p**3, "in three ways"),
    ],
)
def test_wrong_votes_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.vote_of_three(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda p, size: 1 - (1 - p) ** size, "nothing is left to learn"),
        (lambda p, size: size * p * (1 - p), "all are wrong"),
        (lambda p, size: 1 - p**size - (1 - p**size), "the other groups are"),
        (lambda p, size: p**size + (1 - p) ** size, "are equal"),
    ],
)
def test_wrong_groups_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.groups_that_teach(wrong)


def soft(student, teacher, reduction="batchmean"):
    said, wanted = student.log_softmax(-1), teacher.log_softmax(-1)
    return kl_div(said, wanted, log_target=True, reduction=reduction)


def unsafe(student, teacher):
    p, q = teacher.softmax(-1), student.softmax(-1)
    return (p * (p.log() - q.log())).nansum(-1).mean()


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda student, teacher: soft(teacher, student), "weigh the differences"),
        (lambda student, teacher: soft(student, teacher, "sum"), "return their mean"),
        (lambda student, teacher: right_soft(student, teacher) / 7, "tokens alone"),
        (lambda student, teacher: torch.tensor(0.0), "the teacher's probability"),
        (lambda student, teacher: soft(student, teacher) + 1, "has the loss 0"),
        (unsafe, "stay finite"),
    ],
)
def test_wrong_soft_targets_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.soft_target_loss(wrong)


def test_him_is_as_good_as_her():
    def only_her(question, answer):
        found = right_first(question, answer)
        return -1 - found if "gave him" in question else found

    with pytest.raises(AssertionError, match="a boy who is given something"):
        checks.first_wrong_step(only_her)
