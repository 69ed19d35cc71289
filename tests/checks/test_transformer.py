"""A right answer passes each check; plausible wrong ones fail with the lesson."""

from dataclasses import replace

import pytest
import torch

from llmcourse.checks import transformer as checks
from llmcourse.model.costs import n_parameters


def norm(x, *, centre=True, correction=0, eps=1e-5, outside=False):
    if centre:
        x = x - x.mean(dim=-1, keepdim=True)
    squares = x.square().sum(dim=-1, keepdim=True) / (x.shape[-1] - correction)
    return x / (squares.sqrt() + eps if outside else (squares + eps).sqrt())


@torch.no_grad()
def write(model, ids, n, *, cached=True, with_prompt=False, again=False):
    cache = model.new_cache() if cached else None
    new, written = ids, []
    for _ in range(n):
        logits = model(new[None], cache)
        written.append(int(logits[0, -1].argmax()))
        new = torch.tensor([written[-1]])
        if not cached:
            new = torch.cat((ids, torch.tensor(written)))
        if again:  # the newest token twice
            new = new.repeat(2)
    return [*ids.tolist(), *written] if with_prompt else written


def test_right_answers_pass():
    checks.layer_norm(norm)
    checks.parameter_count(n_parameters)
    checks.write_with_cache(write)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda x: norm(x)[0], "the shape stays"),
        (lambda x: norm(x, centre=False), "must have mean 0"),
        (lambda x: norm(x, correction=1), "one less than there are"),
        (lambda x: norm(x) * 2, "mean square must be 1"),
        (lambda x: norm(x, eps=0), "must become 0"),
        (lambda x: norm(x, outside=True), "not to the deviation"),
        (lambda x: norm(x.sub_(x.mean(dim=-1, keepdim=True))), "changes what"),
    ],
)
def test_wrong_norms_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.layer_norm(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda c: n_parameters(c) - c.d_model, "-64. embedding"),
        (lambda c: n_parameters(replace(c, n_kv_heads=c.n_heads)), "n_kv_heads heads"),
        (lambda c: n_parameters(replace(c, tied_embeddings=True)), "untied"),
        (
            lambda c: n_parameters(c) + (c.d_ff == 20) * c.n_layers,
            "which of them did you take",
        ),
        (  # heads that share the width out
            lambda c: n_parameters(replace(c, head_width=None)),
            "which of them did you take",
        ),
    ],
)
def test_wrong_counts_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.parameter_count(wrong)


@pytest.mark.parametrize(
    ("wrong", "lesson"),
    [
        (lambda *a: write(*a, with_prompt=True), "without the prompt"),
        (lambda *a: write(*a)[:-1], "6 new tokens"),
        (lambda *a: write(*a, cached=False), "the whole text again"),
        (lambda *a: [0] * len(write(*a)), "right after it was written"),
        (lambda m, i, n: (write(m, i, n), write(m, i[:2], 2))[0], "9 positions"),
        (lambda *a: write(*a, again=True), "right after it was written|9 positions"),
    ],
)
def test_wrong_writers_fail(wrong, lesson):
    with pytest.raises(AssertionError, match=lesson):
        checks.write_with_cache(wrong)
