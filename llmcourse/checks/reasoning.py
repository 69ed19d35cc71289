"""Checks of the chapter *reasoning*."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from llmcourse.checks.base import check, random


@check
def longest_path(fn: Callable[[int, int], int]) -> None:
    """Check a function that counts the layers on the longest path to an answer's end.

    Args:
        fn: Maps the numbers of layers and of written tokens to the path's layers.
    """
    assert fn(3, 1) == 3, (
        "one token is written after one pass: the question's tokens are read side by "
        f"side, and the path has the 3 layers, got {fn(3, 1)}"
    )
    got = fn(3, 4)
    assert got != 6, (
        "a token that was written enters at the first layer again, so each further "
        "token adds all layers, not one"
    )
    for layers, written in ((3, 4), (2, 7), (12, 1), (5, 5)):
        got, right = fn(layers, written), layers * written
        assert got == right, (
            f"{layers} layers, {written} tokens: each token that is written has passed "
            f"all layers and is read by the next: {right}, got {got}"
        )


_END = " How many pears does Kate have now?"
_JUDGED = f"""
Kate had nine pears. A fox took two. Howard gave her three.{_END}
-1 nothing is wrong
  First nine less two is seven. Then seven and three is ten. So ten.
0 nine less two is not six; the end is right by luck
  First nine less two is six. Then six and four is ten. So ten.
1 seven and three is not nine
  First nine less two is seven. Then seven and three is nine. So nine.
0 the sums are right, but not those asked for
  First nine and three is twelve. Then twelve less two is ten. So ten.
1 the second is missing
  First nine less two is seven. So seven.
2 the question has two steps, this is a third
  First nine less two is seven. Then seven and three is ten. Then ten and one is eleven. So eleven.
0 no step is said, so the first is missing
  So ten.
0 the first step must begin with nine
  First eight less one is seven. Then seven and three is ten. So ten.
1 the second step must begin with seven
  First nine less two is seven. Then six and four is ten. So ten.
-1 the last sentence is not judged
  First nine less two is seven. Then seven and three is ten. So nine.

Kate had nine pears. She gave Howard two.{_END}
-1 giving something away leaves less
  First nine less two is seven. So seven.

Kate had nine pears. Howard gave her two.{_END}
-1 who is given something has more
  First nine and two is eleven. So eleven.

Jack had six pears. Lotte gave him two. He gave Howard one. How many pears does Jack have now?
-1 a boy who is given something has more, too
  First six and two is eight. Then eight less one is seven. So seven.

Jack had six pears. Lotte gave him two. How many pears does Jack have now?
0 a boy who is given something has more, too
  First six less two is four. So four.

Kate had two pears. She found three. She ate two. A bear took one.{_END}
-1 what is found adds, what is eaten or taken is gone
  First two and three is five. Then five less two is three. Then three less one is two. So two.
"""  # noqa: E501
"""Questions with answers; before each, the place of its first wrong step, and why."""


@check
def first_wrong_step(fn: Callable[[str, str], int]) -> None:
    """Check a function that finds the first wrong step of an answer.

    Args:
        fn: Maps the texts of a question and an answer to the place, counted from 0, of
            the first step that is wrong, missing or one too many; −1 if there is none.
    """
    for part in _JUDGED.strip().split("\n\n"):
        question, *judged = part.splitlines()
        for said, answer in zip(judged[::2], map(str.strip, judged[1::2]), strict=True):
            place, _, why = said.partition(" ")
            got = fn(question, answer)
            assert got == int(place), (
                f"{question!r}, {answer!r}: {why}; wanted {place}, got {got}"
            )


@check
def vote_of_three(fn: Callable[[float], float]) -> None:
    """Check a function that says how often a vote of three is right.

    Args:
        fn: Maps the probability that one answer is right to the probability that at
            least two of three are, where all wrong answers agree.
    """
    got = fn(0.5)
    assert not math.isclose(got, 7 / 8), (
        "7/8 is how often one of three is right at all, which a verifier needs; a vote "
        "needs two"
    )
    assert not math.isclose(got, 3 / 8), (
        "3/8 is how often exactly two are right; three right ones win, too"
    )
    for p in (0.0, 0.5, 0.8, 0.3, 1.0):
        right = p**3 + 3 * p**2 * (1 - p)
        got = fn(p)
        assert math.isclose(got, right, abs_tol=1e-9), (
            f"p = {p}: all three are right with p³, exactly two in three ways, each "
            f"with p² (1 − p): {right:.3f}, got {got:.3f}"
        )


@check
def groups_that_teach(fn: Callable[[float, int], float]) -> None:
    """Check a function that returns the share of groups with a gradient.

    Args:
        fn: Maps the probability that an answer is right and the size of a group to the
            probability that not all rewards of a group are equal.
    """
    got = fn(0.5, 4)
    assert not math.isclose(got, 1 / 8), (
        "this is how often all rewards of a group are equal; GRPO learns from the "
        "other groups"
    )
    got = fn(1.0, 8)
    assert math.isclose(got, 0, abs_tol=1e-9), (
        "if all answers are right, all advantages are 0: nothing is left to learn, "
        f"got {got:.3f}"
    )
    for p, size in ((0.0, 8), (0.5, 2), (0.1, 8), (0.7, 4), (0.9, 16)):
        got, right = fn(p, size), 1 - p**size - (1 - p) ** size
        assert math.isclose(got, right, abs_tol=1e-9), (
            f"p = {p}, {size} answers: all are right with probability p^{size}, all "
            f"are wrong with (1 − p)^{size}; the other groups are {right:.3f} of all, "
            f"got {got:.3f}"
        )


@check
def soft_target_loss(fn: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check a function that compares a student's probabilities with its teacher's.

    Args:
        fn: Maps the logits of student and teacher, both (token, vocab), to the
            divergence KL(teacher ‖ student) in nats, averaged over the tokens.
    """
    student, teacher = 2 * random(2, 5, 7, seed=0)
    got = float(fn(teacher, teacher))
    assert math.isclose(got, 0, abs_tol=1e-5), (
        f"a student that says what its teacher says has the loss 0, got {got:.3f}"
    )
    said, wanted = student.log_softmax(dim=-1), teacher.log_softmax(dim=-1)
    right = kl_div(said, wanted, log_target=True, reduction="sum").item() / 5
    turned = kl_div(wanted, said, log_target=True, reduction="sum").item() / 5
    got = float(fn(student, teacher))
    assert not math.isclose(got, turned, rel_tol=1e-4), (
        "this is KL(student ‖ teacher): weigh the differences of log-probabilities by "
        "the teacher's probabilities, for the student is to cover what the teacher says"
    )
    assert not math.isclose(got, 5 * right, rel_tol=1e-4), (
        "this is the sum over the tokens; return their mean"
    )
    assert not math.isclose(got, right / 7, rel_tol=1e-4), (
        "sum over the vocabulary, and take the mean over the tokens alone"
    )
    assert math.isclose(got, right, rel_tol=1e-4), (
        "the sum over the vocabulary of p (ln p − ln q), p the teacher's probability "
        f"and q the student's, is {right:.3f} nats per token, got {got:.3f}"
    )
    far = torch.tensor([[200.0, 0.0]])
    got = float(fn(far, -far))
    assert math.isclose(got, 200, rel_tol=1e-4), (
        f"logits that are far apart must stay finite: 200 nats, got {got}; take "
        "log_softmax, not the log of a softmax"
    )
