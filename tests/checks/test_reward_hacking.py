"""A right answer passes each check; plausible wrong ones fail with the lesson."""

import math
from collections import Counter
from itertools import chain

import pytest
import torch

from llmcourse.checks import reward_hacking as checks


def right_kl(n):
    return math.log(n) - (n - 1) / n


def share(texts, n):
    runs = Counter()
    for text in texts:
        words = text.split()
        runs.update(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    return len(runs) / runs.total()


def right_within(groups, n):
    return sum(share(texts, n) for texts in groups) / len(groups)


def test_right_answers_pass():
    checks.best_of_n_kl(right_kl)
    checks.distinct_within(right_within)


def test_the_right_divergence_is_that_of_drawn_answers():
    # The mean of 100,000 logarithms, of deviation about 0.8: 0.02 is 8 errors of it.
    kept = torch.rand(100_000, 5, generator=torch.Generator().manual_seed(0)).amax(1)
    times_as_likely = 5 * kept.double() ** 4
    assert times_as_likely.log().mean().item() == pytest.approx(right_kl(5), abs=0.02)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (math.log, "if the best were always"),
        (lambda n: math.log(n) + 1, "best of one"),
        (lambda n: (n - 1) / n, "mean of ln"),
    ],
)
def test_wrong_divergences_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.best_of_n_kl(wrong)


def share_of_sets(texts, n):
    runs = [
        run
        for words in map(str.split, texts)
        for run in {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
    ]
    return len(set(runs)) / len(runs) if runs else 0


def share_with_tails(texts, n):
    runs = [tuple(t.split()[i : i + n]) for t in texts for i in range(len(t.split()))]
    return len(set(runs)) / len(runs)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda groups, n: share([*chain(*groups)], n), "put together"),
        (
            lambda groups, n: (
                sum(share([text], n) for texts in groups for text in texts) / 4
            ),
            "counts once",
        ),
        (lambda groups, n: right_within(groups, n - 1), "7/12"),
        (
            lambda groups, n: sum(share_of_sets(g, n) for g in groups) / len(groups),
            "2 of 4 runs of two words",
        ),
        (lambda groups, n: 7 / 12, "has no run of three"),
        (
            lambda groups, n: sum(share_with_tails(g, n) for g in groups) / len(groups),
            "7/12",
        ),
    ],
)
def test_wrong_diversities_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.distinct_within(wrong)
