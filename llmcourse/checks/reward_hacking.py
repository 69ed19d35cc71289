"""Checks of the chapter *reward_hacking*."""

import math
from collections.abc import Callable, Sequence

from llmcourse.checks.base import check


@check
def best_of_n_kl(fn: Callable[[int], float]) -> None:
    """Check a function that says how far the best of n answers is from the model.

    Args:
        fn: Maps n to the KL divergence in nats of a policy that samples n answers and
            keeps the best, where no two are equally good.
    """
    assert math.isclose(fn(1), 0, abs_tol=1e-9), (
        f"the best of one answer is that answer: the divergence is 0, got {fn(1):.3f}"
    )
    for n in (2, 4, 100):
        got, right = fn(n), math.log(n) - (n - 1) / n
        assert not math.isclose(got, math.log(n), rel_tol=1e-6), (
            f"n = {n}: ln n is what it would be if the best were always n times as "
            "likely as before; an answer at rank u (from 0 to 1) is so n u^(n − 1) "
            "times. Take the mean of the logarithm over the ranks that are kept"
        )
        assert math.isclose(got, right, rel_tol=1e-6), (
            f"n = {n}: the mean of ln(n u^(n − 1)), with u the highest of n numbers "
            f"between 0 and 1, is {right:.3f}, got {got:.3f}"
        )


@check
def distinct_within(fn: Callable[[Sequence[Sequence[str]], int], float]) -> None:
    """Check a function that says how varied the answers to one prompt are.

    Args:
        fn: Maps groups of texts, one for each prompt, and n to the share of distinct
            runs of n words within a group, averaged over the groups.
    """
    groups = [["a b c", "a b c"], ["d e f g", "d e f h"]]
    got = fn(groups, 2)
    assert not math.isclose(got, 0.6), (
        "6 of 10 runs are different if all texts are put together, and long groups "
        "weigh more then: take the share of each group, and then the mean"
    )
    assert not math.isclose(got, 1), "a run that two texts of a group share counts once"
    assert math.isclose(got, 7 / 12), (
        f"groups {groups}, n = 2: 2 of 4 runs and 4 of 6 runs are different, so the "
        f"mean is 7/12 = 0.583, got {got:.3f}"
    )
    assert math.isclose(fn([["a b", "c d e"]], 3), 1), (
        "n = 3: a text of two words has no run of three, and the other has one"
    )
    repeated = fn([["ha ha ha ha", "b c"]], 2)
    assert math.isclose(repeated, 1 / 2), (
        'in "ha ha ha ha" and "b c" 2 of 4 runs of two words are different: a run that '
        f"a text repeats counts as often below the line, got {repeated:.3f}"
    )
