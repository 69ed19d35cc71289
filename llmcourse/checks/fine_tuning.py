"""Checks of the chapter *fine_tuning*."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llmcourse.checks.base import check, check_shape, random


@check
def adapter_parameters(fn: Callable[[Sequence[tuple[int, int]], int], int]) -> None:
    """Check a function that counts the weights that low-rank adapters learn.

    Args:
        fn: Maps the shapes (out, in) of the adapted matrices and the rank to the
            number of weights in all A and B.
    """
    for shapes, rank in (([(3, 5)], 1), ([(3, 5)], 2), ([(7, 4), (2, 4)], 3)):
        got, wanted = fn(shapes, rank), sum(rank * (o + i) for o, i in shapes)
        whole = sum(o * i for o, i in shapes)
        where = f"matrices {shapes} at rank {rank}"
        assert got != whole, (
            f"{where}: {whole} is the size of the matrices, which are frozen; what "
            "learns is A and B beside them"
        )
        assert got != sum(rank * i for _, i in shapes), (
            f"{where}: that is A alone, (rank, in); B, (out, rank), learns too"
        )
        assert got == wanted, (
            f"{where}: A has rank · in numbers and B out · rank, {wanted} in all, "
            f"got {got}"
        )


@check
def last_logits(fn: Callable[[Tensor, list[int]], Tensor]) -> None:
    """Check a function that picks each text's last logits from a padded batch.

    Args:
        fn: Maps logits (B, T, C) and the B texts' lengths to the logits (B, C) at
            each text's last token.
    """
    logits = torch.arange(2 * 5 * 3.0).view(2, 5, 3)
    lengths = [5, 2]
    wanted = torch.stack([logits[0, 4], logits[1, 1]])
    got = fn(logits, lengths)
    check_shape(got, wanted.shape, "one row of 3 scores for each of 2 texts")
    assert not torch.equal(got, logits[:, -1]), (
        "the second text has 2 tokens, and what comes after them is padding: the "
        "last position of the batch is not its last token"
    )
    assert torch.equal(got[0], wanted[0]), (
        "the first text fills its row of 5, so its last token is at place 4, counted "
        "from 0"
    )
    assert torch.equal(got, wanted), (
        "a text of length n has its last token at place n - 1, in its own row"
    )


@check
def merge_adapter(fn: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> None:
    """Check a function that adds an adapter's correction to its matrix.

    Args:
        fn: Maps W (out, in), A (rank, in), B (out, rank) and alpha to the merged
            matrix.
    """
    weight, x = random(4, 5, seed=0), random(3, 5, seed=1)
    a, b = random(2, 5, seed=2), random(4, 2, seed=3)
    got = fn(weight, a, b, 6.0)
    check_shape(got, weight.shape, "the merged matrix has W's shape")
    assert not torch.allclose(got, weight + b @ a, atol=1e-5), (
        "the correction is multiplied by alpha / rank, here 6 / 2"
    )
    assert not torch.allclose(got, weight + 6 * b @ a, atol=1e-5), (
        "alpha is divided by the rank, so that the correction's size does not depend "
        "on it"
    )
    wanted = x @ weight.T + 6 / 2 * (x @ a.T) @ b.T
    assert torch.allclose(x @ got.T, wanted, atol=1e-4), (
        "for every x the merged matrix must give what W and the adapter give together: "
        "W + alpha / rank · B A"
    )


@check
def most_learned(fn: Callable[[float, int, float], int]) -> None:
    """Check a function that says how many weights can learn in a given memory.

    Args:
        fn: Maps the memory in bytes, the number of frozen weights and the bytes of each
            to the largest number of weights that learn, at 16 bytes each.
    """
    for room, n_frozen, size in ((1000, 100, 4), (1015, 100, 4), (1000, 100, 0.5)):
        got = fn(room, n_frozen, size)
        wanted = int((room - size * n_frozen) // 16)
        where = f"{room} bytes, {n_frozen} frozen weights of {size} bytes"
        assert got != int((room - size * n_frozen) // 12), (
            f"{where}: besides 12 bytes for its gradient and means, a weight that "
            "learns takes 4 of its own"
        )
        assert math.isclose(got, int(got)), f"{where}: weights are whole, got {got}"
        assert got == wanted, (
            f"{where}: the frozen ones take {size * n_frozen:g}, and 16 go into what "
            f"is left {wanted} times, got {got}"
        )
    got = fn(100, 100, 4)
    assert got == 0, (
        "if not even the frozen weights fit, nothing can learn: 0 and not a negative "
        f"number, got {got}"
    )
