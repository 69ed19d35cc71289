"""Checks of the chapter *context_window*."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llmcourse.checks.base import check, check_shape, random

Part = tuple[Tensor, Tensor, Tensor]  # largest score, sum, mixture


@check
def cache_bytes(fn: Callable[[int, int, int, int, int, int], int]) -> None:
    """Check a function that computes the size of a key-value cache.

    Args:
        fn: Maps layers, key-value heads, head width, tokens, sequences and bytes per
            number to the bytes of the cache.
    """
    for sizes in ((1, 1, 1, 1, 1, 1), (3, 2, 5, 7, 1, 4), (3, 2, 5, 7, 11, 2)):
        got, wanted = fn(*sizes), 2 * math.prod(sizes)
        layers, heads, width, tokens, sequences, number = sizes
        where = (
            f"{layers} layers, {heads} heads of {width}, {sequences} texts of "
            f"{tokens}, {number} bytes a number"
        )
        assert got != wanted // 2, (
            f"{where}: a position keeps two vectors a head, its key and its value"
        )
        assert got * layers != wanted or layers == 1, (
            f"{where}: every layer has keys and values of its own"
        )
        assert got * sequences != wanted or sequences == 1, (
            f"{where}: every text needs a cache of its own"
        )
        assert got == wanted, f"{where}: wanted {wanted} bytes, got {got}"


@check
def window_mask(fn: Callable[[int, int], Tensor]) -> None:
    """Check a function that makes the mask of a causal sliding window.

    Args:
        fn: Maps n and the window to a mask (n, n), true where a row may look.
    """
    for n, window in ((6, 3), (5, 2), (5, 1), (4, 9)):
        got, where = fn(n, window), f"n = {n}, window {window}"
        check_shape(got, (n, n), where)
        assert got.dtype == torch.bool, f"{where}: true or false, got {got.dtype}"
        assert not got.triu(1).any(), f"{where}: no row may look ahead"
        assert got.diagonal().all(), f"{where}: each row sees its own position"
        for row, seen in enumerate(got.int().tolist()):
            wanted = [int(row - window < column <= row) for column in range(n)]
            assert seen == wanted, (
                f"{where}: row {row} sees the last {window}, itself included, as far "
                f"as there are so many: wanted {wanted}, got {seen}"
            )


@check
def join_halves(fn: Callable[[Part, Part], Tensor]) -> None:
    """Check a function that joins attention over two halves of the keys.

    Args:
        fn: Maps two triples to the result over all keys. Each has the largest score,
            the sum of exponentials relative to it, and the values mixed by these.
    """
    values = random(5, 3, seed=0)
    for shift in (0.0, 4.0, 200.0):
        scores = random(5, seed=1)
        scores[3:] += shift
        wanted = scores.softmax(0) @ values
        parts = []
        for half in (slice(0, 2), slice(2, 5)):
            weights = (scores[half] - scores[half].max()).exp()
            parts.append((scores[half].max(), weights.sum(), weights @ values[half]))
        for first, second in (parts, parts[::-1]):
            got = fn(first, second)
            naive = (parts[0][2] + parts[1][2]) / (parts[0][1] + parts[1][1])
            check_shape(got, wanted.shape, "one mixture of the values")
            assert got.isfinite().all(), (
                f"one half's scores lie {shift:g} higher, and e to the power of "
                "that is not finite: take exponentials relative to the larger m"
            )
            assert not torch.allclose(got, naive, atol=1e-4), (
                "the halves were taken relative to different largest scores: bring "
                "both to the same one before they are added"
            )
            assert torch.allclose(got, wanted, atol=1e-4), (
                "wanted what softmax over all five keys gives: shrink both halves by "
                "e^(m - larger m), add sums and mixtures, divide"
            )


@check
def layers_needed(fn: Callable[[int, int], int]) -> None:
    """Check a function that says how many windowed layers reach a distance.

    Args:
        fn: Maps the distance and the window, in tokens, to the number of layers.
    """
    for distance, window in ((3, 4), (4, 4), (6, 4), (7, 4), (1, 2), (150, 32)):
        reach = window - 1
        got, wanted = fn(distance, window), -(-distance // reach)
        where = f"{distance} back, windows of {window}"
        assert got == int(got), f"{where}: layers are whole, got {got}"
        assert got != -(-distance // window) or got == wanted, (
            f"{where}: the position itself is one of the {window}, so a layer reaches "
            f"{reach} back and not {window}"
        )
        assert got == wanted, (
            f"{where}: a layer reaches {reach} back, two reach {2 * reach}, … so it "
            f"takes {wanted}, got {got}"
        )
