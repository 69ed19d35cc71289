"""Checks of the chapter *pretraining*."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from llmcourse.checks.base import check, random


@check
def count_examples(fn: Callable[[int, int], tuple[int, int]]) -> None:
    """Check a function that counts windows and the guesses in them.

    Args:
        fn: Maps a text's number of tokens and T to the number of windows of T + 1
            tokens that overlap by one token, and the number of guesses in them.
    """
    cases = ((4, 3, 1), (7, 3, 2), (3, 3, 0), (1000, 9, 111), (9, 3, 2))
    for n_tokens, length, windows in cases:
        got, guesses = fn(n_tokens, length)
        where = f"{n_tokens} tokens in windows of {length} + 1"
        assert got != n_tokens // (length + 1) or got == windows, (
            f"{where} make {windows} windows, got {got}: the last token of one, "
            "which is only a target there, is read as the first of the next"
        )
        assert got == windows, f"{where} make {windows} windows, got {got}"
        assert guesses == windows * length, (
            f"each window of {length} + 1 tokens has {length} guesses, for its first "
            f"token is not guessed: wanted {windows * length}, got {guesses}"
        )


@check
def cross_entropy(fn: Callable[[Tensor, Tensor], float]) -> None:
    """Check a function that computes the loss of next-token prediction.

    Args:
        fn: Maps logits (B, T, V) and targets (B, T) to the mean loss in nats.
    """
    logits = random(2, 3, 5, seed=0)
    targets = torch.tensor([[0, 4, 1], [2, 2, 3]])
    wanted = functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
    got = fn(logits, targets)
    assert got >= 0, (
        f"got {got:.3f}: the logarithm of a probability is negative, a loss is "
        "its opposite"
    )
    assert not math.isclose(got, 6 * wanted, rel_tol=1e-4), (
        "that is the sum over the 6 places; take the mean, so that the loss does not "
        "depend on the size of the batch"
    )
    even = fn(torch.zeros(2, 3, 5), targets)
    assert math.isclose(even, math.log(5), abs_tol=1e-5), (
        "where all scores are equal, each of 5 tokens has probability 1/5 and the loss "
        f"is log 5 = {math.log(5):.3f}, got {even:.3f}"
    )
    assert math.isclose(got, wanted, abs_tol=1e-5), (
        "take -log of the softmax over the last axis, at each place the target's: "
        f"wanted {wanted:.3f}, got {got:.3f}"
    )
    offsets = torch.tensor([1000.0, 0.0, -1000.0])[:, None]  # one for each place
    large = fn(logits + offsets, targets)
    assert math.isclose(large, wanted, abs_tol=1e-3), (
        "scores may be large: e to the 1000 is infinite, e to the -1000 is 0. The same "
        "number added to all scores of a place changes no probability, so subtract the "
        f"largest of each place first; got {large}"
    )
    far = fn(torch.tensor([[[0.0, 2000.0]]]), torch.tensor([[0]]))
    assert math.isclose(far, 2000, rel_tol=1e-4), (
        "the softmax of 0 and 2000 rounds to 0 and 1, and log 0 is infinite: compute "
        "score - log sum exp(scores) and not the logarithm of a softmax; "
        f"wanted 2000, got {far:g}"
    )


@check
def trapezoid(fn: Callable[[int, int, int, int, float], float]) -> None:
    """Check a schedule that rises, stays level, and falls, in straight lines.

    Args:
        fn: Maps the step, counted from 0, the numbers of steps in all, of the rise and
            of the fall, and the peak to the learning rate.
    """
    rates = [fn(step, 20, 4, 5, 0.8) for step in range(20)]
    assert rates[0] > 0, (
        "a first step at rate 0 teaches nothing: after 4 steps of rise the peak is "
        "reached, so the first has a quarter of it"
    )
    for step, wanted in ((0, 0.2), (1, 0.4), (3, 0.8)):
        assert math.isclose(rates[step], wanted, rel_tol=1e-6), (
            f"rising over 4 steps to 0.8, step {step} has {wanted}, got {rates[step]}"
        )
    for step in range(4, 15):
        assert math.isclose(rates[step], 0.8, rel_tol=1e-6), (
            "between rise and fall the rate stays at its peak; "
            f"step {step} of 20, with the last 5 falling, has 0.8, got {rates[step]}"
        )
    assert rates[19] > 0, "the last step counts too: its rate is not yet 0"
    for step, wanted in ((15, 0.8), (16, 0.64), (19, 0.16)):
        assert math.isclose(rates[step], wanted, rel_tol=1e-6), (
            "falling over 5 steps towards 0, which step 20 would have, "
            f"step {step} has {wanted}, got {rates[step]}"
        )


@check
def accumulate(fn: Callable[[nn.Module, Tensor, Tensor, int], None]) -> None:
    """Check a function that adds up the gradient of a batch part by part.

    Args:
        fn: Takes a model, ids (B, T), targets (B, T) and the number of rows in a part,
            perhaps fewer in the last; leaves in each weight's `grad` the gradient of
            the mean loss over the whole batch.
    """
    model = _Pairs(7, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(7, (5, 3), generator=generator)
    targets = torch.randint(7, (5, 3), generator=generator)
    loss = functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
    (wanted,) = torch.autograd.grad(loss, [model.scores.weight])
    size = float(wanted.norm())

    def error(rows: int) -> tuple[float, float]:
        """Return the gradient's error and its size, both relative."""
        model.zero_grad()
        model.rows_read = model.rows_held = model.most_at_once = 0
        fn(model, ids, targets, rows)
        assert model.most_at_once <= rows, (
            f"{model.most_at_once} rows were held at once, in parts of {rows}: a batch "
            "is cut because its activations do not fit into memory together, and they "
            "stay there until backward(): call it for each part, before the next"
        )
        assert model.scores.weight.grad is not None, "call backward() for each part"
        got = model.scores.weight.grad
        return float((got - wanted).norm()) / size, float(got.norm()) / size

    off, _ = error(5)
    assert off < 1e-4, (
        "with a single part nothing is accumulated, and the gradient must be that of "
        f"the mean loss; it is off by {off:.0%}"
    )
    off, share = error(1)
    assert model.rows_read == 5, (
        f"each of the 5 rows is read once, in parts of 1; got {model.rows_read} rows"
    )
    assert not math.isclose(share, 5, rel_tol=0.05), (
        "gradients of the 5 parts were added: the sum of means is 5 times the mean"
    )
    assert off < 1e-4, (
        "with parts of one row the gradients must add up to that of the mean over all; "
        f"it is off by {off:.0%}"
    )
    off, _ = error(2)
    assert off < 1e-4, (
        "5 rows in parts of 2 make parts of 2, 2 and 1: the mean of their means is not "
        "the mean over all rows. Weight each part by its share of the rows; "
        f"the gradient is off by {off:.0%}"
    )


class _Pairs(nn.Module):
    """A bigram model that counts the rows it reads, and holds for the gradient."""

    def __init__(self, vocab_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.scores = nn.Embedding(vocab_size, vocab_size)
        nn.init.normal_(self.scores.weight, generator=generator)
        self.rows_read = self.rows_held = self.most_at_once = 0

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits of the token after each id."""
        self.rows_read += len(ids)
        self.rows_held += len(ids)
        self.most_at_once = max(self.most_at_once, self.rows_held)
        logits: Tensor = self.scores(ids)

        def let_go(_: Tensor) -> None:
            self.rows_held -= len(ids)

        if logits.requires_grad:
            logits.register_hook(let_go)  # type: ignore[no-untyped-call]
        return logits
