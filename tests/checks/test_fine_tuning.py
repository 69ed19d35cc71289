"""A right answer passes each check; plausible wrong ones fail with the lesson."""

import pytest
import torch

from llmcourse.checks import fine_tuning as checks


def right_count(shapes, rank):
    return sum(rank * (n_out + n_in) for n_out, n_in in shapes)


def right_last(logits, lengths):
    return torch.stack([row[n - 1] for row, n in zip(logits, lengths, strict=True)])


def right_merge(weight, a, b, alpha):
    return weight + alpha / a.shape[0] * b @ a


def merge_in_place(weight, a, b, alpha):
    weight += alpha / a.shape[0] * b @ a
    return weight


def right_most(room, n_frozen, frozen_bytes):
    return max(0, int((room - frozen_bytes * n_frozen) // 16))


def test_right_answers_pass():
    checks.adapter_parameters(right_count)
    checks.last_logits(right_last)
    checks.merge_adapter(right_merge)
    checks.most_learned(right_most)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda shapes, rank: sum(o * i for o, i in shapes), "are frozen"),
        (lambda shapes, rank: sum(rank * i for _, i in shapes), "A alone"),
        (lambda shapes, rank: sum(o + i for o, i in shapes), "in all, got"),
    ],
)
def test_adapter_parameters_refuses(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.adapter_parameters(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda logits, lengths: logits[:, -1], "is padding"),
        (lambda logits, lengths: logits[0], "one row of 3 scores"),
        (
            lambda logits, lengths: right_last(logits, [n - 1 for n in lengths]),
            "at place 4",
        ),
        (
            lambda logits, lengths: logits[0, [n - 1 for n in lengths]],
            "in its own row",
        ),
        (
            lambda logits, lengths: torch.stack(
                [row[:n].mean(dim=0) for row, n in zip(logits, lengths, strict=True)]
            ),
            "at place 4",
        ),
    ],
)
def test_last_logits_refuses(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.last_logits(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (merge_in_place, "changes what"),
        (lambda weight, a, b, alpha: b @ a @ weight.T, "the merged matrix has"),
        (lambda weight, a, b, alpha: weight + b @ a, "multiplied by alpha / rank"),
        (lambda weight, a, b, alpha: weight + alpha * b @ a, "divided by the rank"),
        (
            lambda weight, a, b, alpha: weight + alpha / len(b) * b @ a,
            "for every x",
        ),
    ],
)
def test_merge_adapter_refuses(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.merge_adapter(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda room, n, size: max(0, int((room - size * n) // 12)), "4 of its own"),
        (lambda room, n, size: (room - size * n) / 16, "weights are whole"),
        (lambda room, n, size: max(0, int(room // 16)), "the frozen ones take"),
        (lambda room, n, size: int((room - size * n) // 16), "not even the frozen"),
    ],
)
def test_most_learned_refuses(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.most_learned(wrong)
