"""Counting models against counting by hand."""

import math
from collections import Counter

import numpy as np
import pytest

from llmcourse.ngrams import ngram_loss

RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 7, size=300)
HELD_OUT = RNG.integers(0, 7, size=41)


def test_worked_example():
    """Text "abab": p(a) = (2 + ½)/(4 + 1), p(b | a) = (2 + p(b))/(2 + 1)."""
    tokens = np.array([0, 1, 0, 1])
    p_b = (2 + 1 / 2) / (4 + 1)
    assert ngram_loss(tokens, np.array([1]), 2, n=1) == pytest.approx(-math.log(p_b))
    p_b_after_a = (2 + p_b) / (2 + 1)
    loss = ngram_loss(tokens, np.array([0, 1]), 2, n=2)
    assert loss == pytest.approx(-math.log(p_b_after_a))


def slow_probability(context, token, train, n_ids, strength):
    """The definition, for one token, by recursion."""
    runs = Counter(
        tuple(train[i : i + len(context) + 1]) for i in range(len(train) - len(context))
    )
    below = (
        slow_probability(context[1:], token, train, n_ids, strength)
        if context
        else 1 / n_ids
    )
    alone = sum(count for run, count in runs.items() if run[:-1] == context)
    return (runs[(*context, token)] + strength * below) / (alone + strength)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("strength", [0.5, 4])
def test_equals_the_definition(n, strength):
    train, held_out = TRAIN.tolist(), HELD_OUT.tolist()
    prices = [
        -math.log(
            slow_probability(
                tuple(held_out[i - n + 1 : i]), held_out[i], train, 7, strength
            )
        )
        for i in range(n - 1, len(held_out))
    ]
    loss = ngram_loss(TRAIN, HELD_OUT, 7, n, strength)
    assert loss == pytest.approx(sum(prices) / len(prices))


@pytest.mark.parametrize("n", [1, 2])
def test_probabilities_sum_to_one(n):
    context = [3] * (n - 1)
    losses = [ngram_loss(TRAIN, np.array([*context, x]), 7, n) for x in range(7)]
    assert sum(math.exp(-loss) for loss in losses) == pytest.approx(1)


def test_refusals():
    with pytest.raises(ValueError, match="n must be from 1 to 22, got 0"):
        ngram_loss(TRAIN, HELD_OUT, 7, n=0)
    with pytest.raises(ValueError, match="n must be from 1 to 22, got 40"):
        ngram_loss(TRAIN, HELD_OUT, 7, n=40)
    with pytest.raises(ValueError, match="held_out must have at least 3 tokens, got 2"):
        ngram_loss(TRAIN, HELD_OUT[:2], 7, n=3)
    with pytest.raises(ValueError, match=r"ids must be in 0 … 4, got 0 … 6 in train"):
        ngram_loss(TRAIN, HELD_OUT, 5, n=1)
    with pytest.raises(ValueError, match="strength must be positive, got 0"):
        ngram_loss(TRAIN, HELD_OUT, 7, n=1, strength=0)
