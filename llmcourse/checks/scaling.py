"""Checks of the chapter *scaling*."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from llmcourse.checks.base import check, check_shape, random

Parts = Sequence[Sequence[Tensor]]


@check
def training_bytes(fn: Callable[[float, int, int], float]) -> None:
    """Check a function that counts the bytes one process holds in training.

    Args:
        fn: Maps the number of parameters, the number of processes and the stage of
            ZeRO, 0 to 3, to the bytes of weights, gradients and optimizer.
    """
    for n_parameters in (10, 7e9):
        for n in (1, 4, 12):
            for stage in range(4):
                sharded = sum((12, 2, 2)[:stage])
                wanted = n_parameters * (16 - sharded + sharded / n)
                got = fn(n_parameters, n, stage)
                assert math.isclose(got, wanted, rel_tol=1e-9), (
                    f"{n_parameters:g} parameters, {n} processes, stage {stage}: "
                    f"wanted {wanted:g} bytes, got {got:g}. Stage 1 shards the 12 "
                    "bytes of the optimizer, 2 also the gradients, 3 the weights"
                )


@check
def micro_batches(fn: Callable[[int, float], int]) -> None:
    """Check a function that finds how many micro-batches a pipeline needs.

    Args:
        fn: Maps the number of stages and the largest share of time that may be idle to
            the least number of micro-batches.
    """
    for stages in (1, 2, 4, 16):
        for most in (0.5, 0.25, 1 / 8, 1 / 32):  # exact, so no rounding errors
            m = fn(stages, most)
            assert m == int(m), f"micro-batches are whole, got {m}"
            assert m >= 1, f"a batch is at least one micro-batch, got {m}"
            waits = _bubble(stages, m)
            assert waits <= most + 1e-9, (
                f"{stages} stages with {m} micro-batches wait {waits:.1%}, more than "
                f"{most:.0%}: a stage works in m of m + p - 1 steps"
            )
            assert m == 1 or _bubble(stages, m - 1) > most + 1e-9, (
                f"{stages} stages wait at most {most:.0%} with fewer than {m} "
                "micro-batches, too: the least number is asked for"
            )


def _bubble(stages: int, m: int) -> float:
    return (stages - 1) / (m + stages - 1)


@check
def split_network(fn: Callable[[Tensor, Tensor, Tensor, int], Parts]) -> None:
    """Check a function that cuts a feed-forward network for tensor parallelism.

    Args:
        fn: Maps the matrices gate, up and down and the number of parts to a list with
            (gate, up, down) for each part.
    """
    x, down = random(5, 4, seed=0), random(4, 6, seed=1)
    gate, up = random(6, 4, seed=2), random(6, 4, seed=3)
    whole = linear(silu(linear(x, gate)) * linear(x, up), down)
    for n in (1, 2, 3, 6):
        parts = fn(gate, up, down, n)
        assert len(parts) == n, f"wanted {n} parts, got {len(parts)}"
        found = torch.zeros_like(whole)
        for part in parts:
            assert len(part) == 3, "a part is a tuple of gate, up and down"
            shapes = {"gate": (6 // n, 4), "up": (6 // n, 4), "down": (4, 6 // n)}
            for matrix, (name, shape) in zip(part, shapes.items(), strict=True):
                why = f"{name} of one of {n} parts has its share of the hidden units"
                check_shape(matrix, shape, why)
            mine, other, back = part
            found = found + linear(silu(linear(x, mine)) * linear(x, other), back)
        assert torch.allclose(found, whole, atol=1e-5), (
            f"the outputs of {n} parts do not add up to the whole: the same hidden "
            "units must go into each part, as rows of gate and up and as columns of "
            "down"
        )


@check
def zero_one(fn: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Check an AdamW whose means are sharded across processes.

    Args:
        fn: Maps the weights, as a vector, the gradients (steps, processes, weights) and
            the learning rate to the weights after all steps.
    """
    generator = torch.Generator().manual_seed(0)
    # With tiny gradients epsilon matters, and so does their size.
    for steps, n, size, scale in ((1, 1, 4, 1), (5, 3, 12, 1), (5, 2, 6, 1e-8)):
        start = torch.randn(size, generator=generator)
        gradients = scale * torch.randn(steps, n, size, generator=generator)
        weights = start.clone().requires_grad_()
        optimizer = torch.optim.AdamW(
            [weights], lr=0.1, betas=(0.9, 0.99), weight_decay=0
        )
        for found in gradients:
            weights.grad = found.mean(dim=0)
            optimizer.step()
        got = fn(start, gradients, 0.1)
        check_shape(got, (size,), "all weights, gathered from the processes")
        assert torch.allclose(got, weights, atol=1e-5), (
            f"after {steps} steps of {n} processes the weights are off by up to "
            f"{(got - weights).abs().max():.2g}: wanted AdamW's steps by the mean of "
            "all processes' gradients, each part with means of its own that last from "
            "step to step"
        )


@check
def fewest_processors(fn: Callable[[float, float, float, float, float], int]) -> None:
    """Check a function that finds how many processors training needs.

    Args:
        fn: Maps parameters, tokens, days, and each processor's bytes of memory and
            FLOPs per second to the least number of processors.
    """
    cases = (  # one run, with one number changed at a time, and two others
        ((1e9, 2e10, 1, 40e9, 4e14), 4, "time: 120e18 FLOPs, of 34.56e18 a day"),
        ((1e9, 2e10, 2, 40e9, 4e14), 2, "time: 120e18 FLOPs, of 69.12e18 in two days"),
        ((1e9, 2e10, 30, 40e9, 4e14), 1, "one is enough"),
        ((1e9, 2e10, 1, 3e9, 4e14), 6, "memory: 16e9 bytes, 3e9 in each"),
        ((1e9, 2e10, 1, 40e9, 1e13), 139, "time: 120e18 FLOPs, of 0.864e18 a day"),
        ((3e9, 2e9, 10, 1e9, 1e14), 48, "memory: 48e9 bytes, 1e9 in each"),
        ((1.44e9, 1e9, 1, 4e10, 1e10), 10_000, "time: exactly 10,000 days of one"),
    )
    for given, wanted, why in cases:
        got = fn(*given)
        assert got == wanted, (
            f"parameters, tokens, days, room and speed of {given}: wanted {wanted}, "
            f"got {got}; what decides is {why}"
        )
