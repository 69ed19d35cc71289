"""A right answer passes each check; plausible wrong ones fail with the lesson."""

import math

import pytest
import torch

from llmcourse.checks import context_window as checks


def right_bytes(layers, heads, width, tokens, sequences, number):
    return 2 * layers * heads * width * tokens * sequences * number


def right_mask(n, window):
    return torch.ones(n, n).bool().tril().triu(1 - window)


def right_join(first, second):
    total = torch.logaddexp(first[0] + first[1].log(), second[0] + second[1].log())
    return sum(c * (m - total).exp() for m, _, c in (first, second))


def right_layers(distance, window):
    return math.ceil(distance / (window - 1))


def test_right_answers_pass():
    checks.cache_bytes(right_bytes)
    checks.window_mask(right_mask)
    checks.join_halves(right_join)
    checks.layers_needed(right_layers)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda *sizes: right_bytes(*sizes) // 2, "its key and its value"),
        (lambda layers, *rest: right_bytes(1, *rest), "every layer"),
        (lambda a, b, c, d, e, f: right_bytes(a, b, c, d, 1, f), "of its own"),
        (lambda a, b, c, d, e, f: right_bytes(a, b, c, d, e, 1), "wanted 1680"),
    ],
)
def test_cache_bytes_refuses(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.cache_bytes(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda n, window: right_mask(n, window + 1), "itself included"),
        (lambda n, window: right_mask(n, window).T, "look ahead"),
        (lambda n, window: right_mask(n, window).float(), "true or false"),
        (lambda n, window: right_mask(n, window)[0], "wanted"),
        (lambda n, window: torch.ones(n, n).bool().tril(-1), "its own position"),
    ],
)
def test_window_mask_refuses(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.window_mask(wrong)


def join_without_shrinking(first, second):
    return (first[2] + second[2]) / (first[1] + second[1])


def join_that_overflows(first, second):
    shares = [m.exp() for m, _, _ in (first, second)]
    total = sum(s * p[1] for s, p in zip(shares, (first, second), strict=True))
    mixed = sum(s * p[2] for s, p in zip(shares, (first, second), strict=True))
    return mixed / total


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (join_without_shrinking, "bring both to the same one"),
        (join_that_overflows, "is not finite"),
        (lambda a, b: a[2] / a[1] + b[2] / b[1], "softmax over all five"),
        (lambda a, b: a[0], "wanted"),
        (
            lambda a, b: (a[2] * (s := (a[0] - b[0]).exp()) + b[2]) / (a[1] * s + b[1]),
            "relative to the larger m",
        ),
    ],
)
def test_join_halves_refuses(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.join_halves(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda distance, window: math.ceil(distance / window), "itself is one of"),
        (lambda distance, window: distance / (window - 1), "layers are whole"),
        (lambda distance, window: 1 + distance // (window - 1), "it takes 1, got 2"),
    ],
)
def test_layers_needed_refuses(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.layers_needed(wrong)
