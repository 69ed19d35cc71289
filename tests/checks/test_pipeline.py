"""A right answer passes each check; plausible wrong ones fail with the lesson."""

import pytest
import torch

from llmcourse.checks import pipeline as checks


def right_shift(windows):
    return windows[:, :-1], windows[:, 1:]


def right_bigram(ids, vocab_size):
    counts = torch.ones(vocab_size, vocab_size)
    for a, b in zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True):
        counts[a, b] += 1
    return counts / counts.sum(dim=1, keepdim=True)


def test_right_answers_pass():
    checks.shift(right_shift)
    checks.bigram_probs(right_bigram)
    checks.bigram_probs(lambda ids, v: right_bigram(ids, v).double())


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda w: w[:, :-1], "must return tuple"),
        (lambda w: (w, w), "three examples"),
        (lambda w: (w[:, :-1], w[:, :-1]), "only have to copy"),
        (lambda w: (w[:, 1:], w[:, :-1]), "all tokens but the last"),
        (lambda w: (w[:, :-1], w[:, :-1].flip(1)), "one place further on"),
        (lambda w: (w.zero_()[:, :-1], w[:, 1:]), "changes what"),
    ],
)
def test_wrong_shift_fails(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.shift(wrong)


def no_smoothing(ids, vocab_size):
    counts = right_bigram(ids, vocab_size) * 0 + torch.eye(vocab_size)
    counts[0] = torch.tensor([0.0, 2, 1, 0, 0])
    return counts / counts.sum(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda ids, v: right_bigram(ids, v).T, "sum to 1"),
        (lambda ids, v: right_bigram(ids, 3), "every token needs a row"),
        (no_smoothing, "add one to every count"),
        (lambda ids, v: right_bigram(ids.flip(0)[1:], v), "after 0 came 1 twice"),
        (lambda ids, v: right_bigram(torch.cat((ids, ids[:1])), v), "came nothing"),
        (
            lambda ids, v: right_bigram(ids, v).where(
                torch.arange(v)[:, None] == 0, 1 / v
            ),
            "after 1 came 0 once",
        ),
    ],
)
def test_wrong_bigram_fails(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.bigram_probs(wrong)
