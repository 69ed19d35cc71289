"""Checks of the chapter *deployment*."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llmcourse.checks.base import check, check_shape


@check
def batch_steps(fn: Callable[[list[int], int], int]) -> None:
    """Check a function that counts the steps of continuous batching.

    Args:
        fn: Maps the numbers of tokens to write, in the order of the requests, and the
            number of slots to the number of steps that write them all.
    """
    cases = [([3], 1, 3), ([2, 7, 3, 1, 4], 2, 10), ([5, 5, 5], 3, 5), ([1, 6], 8, 6)]
    for lengths, slots, wanted in cases:
        got = fn(lengths, slots)
        where = f"lengths {lengths}, {slots} slots"
        assert slots == 1 or len(lengths) == 1 or got != sum(lengths), (
            f"{where}: that is one request after the other; all slots write in a step"
        )
        whole = range(0, len(lengths), slots)
        static = sum(max(lengths[start : start + slots]) for start in whole)
        assert got == wanted or got != static, (
            f"{where}: a finished request leaves at once, and the next takes the "
            "slot; nobody waits for the longest of the batch"
        )
        assert got == wanted, f"{where}: wanted {wanted} steps, got {got}"
    assert fn([], 3) == 0, "no request takes no step"


@check
def percentile(fn: Callable[[list[float], float], float]) -> None:
    """Check a function that returns a percentile by nearest rank.

    Args:
        fn: Maps values in any order and p to the smallest of them that p % of the
            values do not exceed.
    """
    values = [7.0, 5.0, 9.0, 1.0, 2.0, 3.0, 10.0, 4.0, 8.0, 6.0]
    assert fn(values, 50) not in (2.0, 3.0), (
        "the values come in any order: sort them first"
    )
    for p, wanted in ((50, 5.0), (95, 10.0), (100, 10.0), (10, 1.0), (11, 2.0)):
        got = fn(values, p)
        assert not (p == 50 and got in (5.5, 6.0)), (
            f"p50 of ten values: five of them do not exceed 5, got {got}"
        )
        assert got == wanted, f"p{p} of 1 … 10: wanted {wanted:g}, got {got}"
    got = fn([float(n) for n in range(1, 201)], 55)
    assert got == 110.0, (
        f"p55 of 1 … 200: wanted 110, got {got:g} "
        "(55 / 100 * 200 is a little more than 110)"
    )


@check
def sequences_that_fit(fn: Callable[[int, int, int, int, int, int], int]) -> None:
    """Check a function that counts the sequences whose caches fit into memory.

    Args:
        fn: Maps free bytes, layers, key-value heads, head width, positions per
            sequence and bytes per number to the number of sequences.
    """
    for case in ((12_000_000, 3, 8, 32, 512, 4), (2**30, 16, 8, 64, 8192, 2)):
        room, layers, heads, width, positions, size = case
        one = 2 * layers * heads * width * positions * size
        got, wanted = fn(*case), room // one
        assert got != room // (one // 2), (
            f"{case}: there are keys and values, so everything comes twice"
        )
        assert got == wanted, (
            f"{case}: each sequence takes {one:,} bytes, so {wanted} fit, got {got}"
        )


@check
def quantize_rows(fn: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    """Check a function that quantizes a matrix to 8 bits, with a scale for each row.

    Args:
        fn: Maps weights (row, column) to numbers (row, column) in int8 and scales
            (row, 1).
    """
    weight = torch.tensor([[1.27, -0.634, 0.006], [0.02, 0.01, -0.0254]])
    numbers, scale = fn(weight)
    check_shape(scale, (2, 1), "a scale for each row, as a column")
    assert numbers.dtype == torch.int8, f"numbers must be int8, got {numbers.dtype}"
    assert numbers[1].abs().max() == 127, (
        "the largest weight of each row becomes 127 or -127: the second row has a "
        f"scale of its own, got {numbers[1].tolist()}"
    )
    wanted = torch.tensor([[127, -63, 1], [100, 50, -127]])
    assert numbers[0, 1] != -64, (
        "-63.4 steps are nearer to -63: round, and not downwards"
    )
    assert numbers[0, 2] != 0, (
        "0.6 of a step is nearer to 1: round before the numbers become int8, which "
        "drops the digits after the decimal point"
    )
    assert torch.equal(numbers.long(), wanted), (
        f"wanted {wanted.tolist()}, got {numbers.tolist()}"
    )
    assert torch.allclose(scale.float(), torch.tensor([[0.01], [0.0002]])), (
        "a number times its row's scale is the weight again: with 1.27 as 127, the "
        f"first scale is 0.01, and the second 0.0002, got {scale.flatten().tolist()}"
    )


@check
def tokens_per_check(fn: Callable[[float, int], float]) -> None:
    """Check a function that counts the tokens of one speculative decoding step.

    Args:
        fn: Maps the probability that a guessed token is accepted, each independently,
            and the number of guesses to the expected number of tokens.
    """
    for chance, n_guesses in ((0.5, 2), (0.5, 3), (0.8, 4), (0.0, 3), (1.0, 3)):
        wanted = sum(chance**n for n in range(n_guesses + 1))
        got = fn(chance, n_guesses)
        where = f"probability {chance}, {n_guesses} guesses"
        assert not math.isclose(got, chance * n_guesses) or got == wanted, (
            f"{where}: a guess counts only if all before it were right, and one token "
            "is written by the large model in any case"
        )
        assert not math.isclose(got, wanted - 1), (
            f"{where}: where a guess is wrong, the large model's own token is written "
            "instead, and one after the last, too: one more than the guesses"
        )
        assert math.isclose(got, wanted), f"{where}: wanted {wanted:.3f}, got {got:.3f}"
