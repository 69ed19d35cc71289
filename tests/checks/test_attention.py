"""A right answer passes each check; plausible wrong ones fail with the lesson."""

import math

import pytest
import torch

from llmcourse.checks import attention as checks
from llmcourse.model.attention import causal_mask
from llmcourse.model.positions import apply_rope, rope_tables


def head(x, wq, wk, wv, *, width=None, mask=True, dim=-1, late=False, fill=-math.inf):
    scores = (x @ wq) @ (x @ wk).T / math.sqrt(width or wq.shape[1])
    future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
    if mask and not late:
        scores = scores.masked_fill(future, fill)
    weights = scores.softmax(dim=dim)
    if late:
        weights = weights.masked_fill(future, 0.0)
    return weights @ (x @ wv)


def unstable_head(x, wq, wk, wv):
    weights = ((x @ wq) @ (x @ wk).T / math.sqrt(wq.shape[1])).exp().tril()
    return weights / weights.sum(dim=-1, keepdim=True) @ (x @ wv)


def score(query, key, distance, *, turn_key=False, base=10_000.0):
    cos, sin = rope_tables(distance + 1, len(query), base)
    turned = key if turn_key else query
    turned = apply_rope(turned[None], cos[distance:], sin[distance:])[0]
    return turned @ (query if turn_key else key)


def test_right_answers_pass():
    checks.cached_mask(causal_mask)
    checks.attention_head(head)
    checks.rope_score(score)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda t, s: causal_mask(t, s).T, "one row for each query"),
        (lambda t, s: causal_mask(t, s).float(), "True and False"),
        (lambda t, s: ~causal_mask(t, s), "True means: may look"),
        (lambda t, s: torch.ones(t, s, dtype=torch.bool), "fifth key is its future"),
        (lambda t, s: torch.ones(t, s).tril().bool(), "own position"),
        (lambda t, s: torch.ones(t, s).tril(s - t - 1).bool(), "own position"),
        (
            lambda t, s: causal_mask(t, s) & ~torch.ones(t, s).tril(-1).bool(),
            "the fourth and the fifth",
        ),
        (
            lambda t, s: causal_mask(t, s) if t < s else ~causal_mask(t, s),
            "lower triangle",
        ),
        (
            lambda t, s: causal_mask(t, s) if t > 1 else torch.zeros(t, s).bool(),
            "it sees all",
        ),
    ],
)
def test_wrong_masks_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.cached_mask(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda x, q, k, v: x, "head's width for each position"),
        (lambda *a: head(*a, mask=False), "looks at its future"),
        (lambda *a: head(*a, width=1), "divide the scores by the root"),
        (lambda *a: head(*a, width=6), "not of the model's"),
        (lambda *a: head(*a, late=True), "sum to one"),
        (lambda *a: head(*a, dim=0), "sum to one"),
        (lambda x, q, k, v: head(x, k, q, v), "softmax"),
        (lambda *a: head(*a, width=len(a[0])), "softmax"),
        (lambda *a: head(*a, width=(a[1].shape[1] / 2) ** 2), "softmax"),
        (lambda *a: head(*a, fill=0.0), "sum to one"),
        (lambda *a: head(*a, fill=-100.0), "mask with -inf"),
        (unstable_head, "subtract each row's largest"),
        (lambda x, *a: head(x.mul_(2), *a), "changes what"),
    ],
)
def test_wrong_heads_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.attention_head(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda q, k, d: q, "must return float"),
        (lambda q, k, d: score(q, k, d) / math.sqrt(8), "at distance 0"),
        (lambda q, k, d: score(q, k, d, turn_key=True), "after the query"),
        (lambda q, k, d: score(q, k, d, base=100.0), "i . d_head / 2"),
        (lambda q, k, d: q @ k, "i . d_head / 2"),
        (lambda q, k, d: score(q, k, d, base=10_001.0), "query at 400, key at 10"),
    ],
)
def test_wrong_rope_scores_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.rope_score(wrong)
