"""Checks of the chapter *scaling_laws*."""

import math
from collections.abc import Callable

from llmcourse.checks.base import check


@check
def best_size(fn: Callable[[float, float, float, float, float], float]) -> None:
    """Check a function that divides a budget between parameters and tokens.

    Args:
        fn: Maps A, α, B, β and the budget C = 6 N D in FLOPs to the number of
            parameters N for which A / N^α + B / D^β is least.
    """
    cases = ((400.0, 0.35, 400.0, 0.35), (20.0, 0.3, 900.0, 0.5), (5e3, 0.7, 80.0, 0.2))
    for a, alpha, b, beta in cases:
        for budget in (1e15, 1e18):
            size = fn(a, alpha, b, beta, budget)
            assert size > 0, f"parameters are counted from 1, got {size}"
            least = _excess(size, a, alpha, b, beta, budget)
            for factor, word in ((1.02, "more"), (1 / 1.02, "fewer")):
                other = _excess(size * factor, a, alpha, b, beta, budget)
                assert least <= other * (1 + 1e-9), (
                    f"with A {a:g}, alpha {alpha}, B {b:g}, beta {beta} and {budget:g} "
                    f"FLOPs, {size:.3g} parameters are not best: 2 % {word} have a "
                    "lower loss. Put D = C / 6N into the law and set its derivative by "
                    "N to 0"
                )


def _excess(
    size: float, a: float, alpha: float, b: float, beta: float, budget: float
) -> float:
    """Return a law's loss above the floor for a size that uses up a budget."""
    return a * math.pow(size, -alpha) + b * math.pow(budget / 6 / size, -beta)
