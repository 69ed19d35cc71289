"""Checks of the chapter on deployment: right answers pass, plausible ones do not."""

import heapq
import math

import pytest
import torch

from llmcourse.checks import deployment as checks


def batch_steps(lengths, slots):
    ends = [0] * slots
    for length in lengths:
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)


def percentile(values, p):
    return sorted(values)[math.ceil(p * len(values) / 100) - 1]


def sequences_that_fit(room, layers, heads, width, positions, size):
    return room // (2 * layers * heads * width * positions * size)


def quantize_rows(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round().to(torch.int8), scale


def tokens_per_check(chance, n):
    return sum(chance**i for i in range(n + 1))


def test_right_answers_pass():
    checks.batch_steps(batch_steps)
    checks.percentile(percentile)
    checks.sequences_that_fit(sequences_that_fit)
    checks.quantize_rows(quantize_rows)
    checks.tokens_per_check(tokens_per_check)


def static_steps(lengths, slots):
    starts = range(0, len(lengths), slots)
    return sum(max(lengths[start : start + slots]) for start in starts)


def one_scale(weight):
    scale = (weight.abs().amax() / 127).expand(len(weight), 1)
    return (weight / scale).round().to(torch.int8), scale


def rounded_down(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).floor().clamp(-127, 127).to(torch.int8), scale


def cut_off(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).to(torch.int8), scale


def in_place(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return weight.div_(scale).round().to(torch.int8), scale


def scales_turned_round(weight):
    numbers, scale = quantize_rows(weight)
    return numbers, 1 / scale


def rows_in_wrong_order(weight):
    numbers, scale = quantize_rows(weight)
    return numbers, scale.flip(0)


def keys_alone(room, layers, heads, width, positions, size):
    return room // (layers * heads * width * positions * size)


@pytest.mark.parametrize(
    ("check", "wrong", "lesson"),
    [
        (checks.batch_steps, static_steps, "nobody waits for the longest"),
        (checks.batch_steps, lambda lengths, _: sum(lengths), "one request after the"),
        (checks.percentile, lambda v, p: v[int(p / 100 * len(v))], "sort them|p50"),
        (checks.percentile, lambda v, p: sorted(v)[len(v) * p // 101 + 1], "p50"),
        (
            checks.percentile,
            lambda v, p: sorted(v)[math.ceil(p / 100 * len(v)) - 1],
            "p55 of 1 … 200",
        ),
        (
            checks.percentile,
            lambda v, p: v[math.ceil(p * len(v) / 100) - 1],
            "sort them first",
        ),
        (checks.sequences_that_fit, keys_alone, "keys and values"),
        (
            checks.sequences_that_fit,
            lambda room, *sizes: round(room / 2 / math.prod(sizes)),
            "so 3 fit, got 4",
        ),
        (checks.quantize_rows, one_scale, "a scale of its own"),
        (checks.quantize_rows, rounded_down, "round, and not downwards"),
        (checks.quantize_rows, cut_off, "0.6 of a step is nearer to 1"),
        (checks.quantize_rows, in_place, "changes what"),
        (checks.quantize_rows, scales_turned_round, "first scale is 0.01"),
        (checks.quantize_rows, rows_in_wrong_order, "first scale is 0.01"),
        (checks.tokens_per_check, lambda a, n: a * n, "only if all before it"),
        (checks.tokens_per_check, lambda a, n: tokens_per_check(a, n) - 1, "one more"),
    ],
)
def test_wrong_answers_teach(check, wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        check(wrong)
