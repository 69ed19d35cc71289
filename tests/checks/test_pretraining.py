"""A right answer passes each check; plausible wrong ones fail with the lesson."""

import pytest
import torch
from torch.nn import functional

from llmcourse.checks import pretraining as checks


def right_count(n_tokens, length):
    windows = max(0, (n_tokens - 1) // length)
    return windows, windows * length


def right_loss(logits, targets):
    log_probs = logits - logits.logsumexp(dim=-1, keepdim=True)
    return -log_probs.gather(-1, targets[..., None]).mean()


def right_trapezoid(step, steps, rise, fall, peak):
    return peak * min(1, (step + 1) / rise, (steps - step) / fall)


def accumulated(weight):
    """Return an answer that weighs the loss of each part in its own way."""

    def fn(model, ids, targets, rows):
        parts = list(zip(ids.split(rows), targets.split(rows), strict=True))
        for part, wanted in parts:
            loss = functional.cross_entropy(model(part).flatten(0, 1), wanted.flatten())
            (loss * weight(len(part), len(ids), len(parts))).backward()

    return fn


right_accumulate = accumulated(lambda rows, n_rows, n_parts: rows / n_rows)


def test_right_answers_pass():
    checks.count_examples(right_count)
    checks.cross_entropy(right_loss)
    checks.cross_entropy(lambda z, t: right_loss(z.double(), t))
    checks.trapezoid(right_trapezoid)
    checks.accumulate(right_accumulate)
    checks.accumulate(lambda m, i, t, rows: right_accumulate(m, i, t, 1))


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda n, t: n // t * t, "must return tuple\\[int, int\\], got 3"),
        (
            lambda n, t: (n // (t + 1), n // (t + 1) * t),
            "read as the first of the next",
        ),
        (lambda n, t: (n // t, n // t * t), "make 0 windows, got 1"),
        (lambda n, t: ((n - 1) // t, (n - 1) // t * (t + 1)), "is not guessed"),
        (lambda n, t: ((n - 1) // t, n - 1), "has 3 guesses"),
        (lambda n, t: ((n - 1) // t, (n - 1) * (n > t)), "6, got 8"),
        (lambda n, t: (w := -((1 - n) // t) * (n > t), w * t), "2 windows, got 3"),
    ],
)
def test_wrong_count_fails(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.count_examples(wrong)


def less_the_largest_of_all(logits, targets):
    logits = logits - logits.max()
    log_probs = logits - logits.exp().sum(dim=-1, keepdim=True).log()
    return -log_probs.gather(-1, targets[..., None]).mean()


def log_of_softmax(logits, targets):
    return -logits.softmax(-1).log().gather(-1, targets[..., None]).mean()


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda z, t: -right_loss(z, t), "a loss is its opposite"),
        (lambda z, t: right_loss(z, t) * t.numel(), "the sum over the 6 places"),
        (
            lambda z, t: right_loss(z, t).expand(6),
            "must return float, got .* shape \\(6,\\)",
        ),
        (lambda z, t: right_loss(z, t) / torch.tensor(2.0).log(), "log 5"),
        (lambda z, t: -z.softmax(-1).gather(-1, t[..., None]).mean().log(), "-log of"),
        (
            lambda z, t: (
                -z.exp()
                .div(z.exp().sum(-1, keepdim=True))
                .gather(-1, t[..., None])
                .log()
                .mean()
            ),
            "subtract the largest",
        ),
        (log_of_softmax, "log 0 is infinite"),
        (less_the_largest_of_all, "of each place first"),
        (lambda z, t: right_loss(z, (t + 1) % 5), "-log of the softmax"),
        (lambda z, t: right_loss(z.exp_().log(), t), "changes what"),
    ],
)
def test_wrong_loss_fails(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.cross_entropy(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda s, n, r, f, p: p * min(1, s / r, (n - s) / f), "teaches nothing"),
        (lambda s, n, r, f, p: p * min(1, (s + 1) / r), "step 16 has 0.64"),
        (lambda s, n, r, f, p: p * min(1, (s + 1) / r, (n - 1 - s) / f), "last step"),
        (
            lambda s, n, r, f, p: p * min(1, (s + 1) / r, (n - s) / (n - r)),
            "stays at its peak",
        ),
    ],
)
def test_wrong_schedule_fails(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.trapezoid(wrong)


def backward_at_the_end(model, ids, targets, rows):
    loss = 0.0
    for part, wanted in zip(ids.split(rows), targets.split(rows), strict=True):
        mean = functional.cross_entropy(model(part).flatten(0, 1), wanted.flatten())
        loss = loss + mean * len(part) / len(ids)
    loss.backward()


def only_the_last(model, ids, targets, rows):
    for part, wanted in zip(ids.split(rows), targets.split(rows), strict=True):
        model.zero_grad()
        functional.cross_entropy(model(part).flatten(0, 1), wanted.flatten()).backward()


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda *given: None, "call backward"),
        (accumulated(lambda rows, n_rows, n_parts: 1.0), "were added"),
        (accumulated(lambda rows, n_rows, n_parts: 1 / n_parts), "parts of 2, 2 and 1"),
        (accumulated(lambda rows, n_rows, n_parts: rows), "single part"),
        (lambda m, i, t, rows: right_accumulate(m, i[:3], t[:3], rows), "single part"),
        (only_the_last, "add up"),
        (
            lambda m, i, t, rows: right_accumulate(m, i, t, len(i)),
            "5 rows were held at once, in parts of 1",
        ),
        (backward_at_the_end, "5 rows were held at once, in parts of 1.*before the"),
        (
            lambda m, i, t, rows: right_accumulate(
                m, i[: len(i) // rows * rows], t[: len(i) // rows * rows], rows
            ),
            "parts of 2, 2 and 1",
        ),
    ],
)
def test_wrong_accumulation_fails(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.accumulate(wrong)
