"""A right answer passes each check; plausible wrong ones fail with the lesson."""

import pytest

from llmcourse.checks import scaling_laws as checks


def right_size(a, alpha, b, beta, budget):
    ratio = alpha * a / (beta * b) * (budget / 6) ** beta
    return ratio ** (1 / (alpha + beta))


def test_right_answers_pass():
    checks.best_size(right_size)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a, alpha, b, beta, budget: (budget / 6) ** 0.5,
        lambda a, alpha, b, beta, budget: (
            (a / b * (budget / 6) ** beta) ** (1 / (alpha + beta))
        ),
        lambda a, alpha, b, beta, budget: (budget / 6) ** (beta / (alpha + beta)),
    ],
)
def test_wrong_size_fails(wrong):
    with pytest.raises(AssertionError, match="are not best: 2 %"):
        checks.best_size(wrong)
