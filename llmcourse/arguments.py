"""Checks of arguments, with one wording for their errors."""

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any


def check_one_of(name: str, value: object, allowed: Collection[object]) -> None:
    """Raise ValueError unless a value is one of those allowed.

    >>> check_one_of("kind", "cubic", ["linear", "yarn"])
    Traceback (most recent call last):
    ValueError: kind must be 'linear' or 'yarn', got 'cubic'
    """
    if value not in allowed:
        wanted = " or ".join(map(repr, allowed))
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def check_range(low: float | int, high: float | int = math.inf, **values: Any) -> None:
    """Raise ValueError unless numbers are finite and from low to high; None passes.

    >>> check_range(1, k=0)
    Traceback (most recent call last):
    ValueError: k must be at least 1, got 0
    >>> check_range(0, 1, depth=2)
    Traceback (most recent call last):
    ValueError: depth must be in 0 … 1, got 2
    """
    for name, value in values.items():
        if value is not None and not (low <= value <= high and value != math.inf):
            wanted = f"at least {low}" if high == math.inf else f"in {low} … {high}"
            raise ValueError(f"{name} must be {wanted}, got {value}")


def check_positive(**values: Any) -> None:
    """Raise ValueError unless numbers are above 0; None passes.

    >>> check_positive(beta=0.0)
    Traceback (most recent call last):
    ValueError: beta must be positive, got 0.0
    """
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def check_multiple(**values: int) -> None:
    """Raise ValueError unless the first of two numbers is a multiple of the second.

    >>> check_multiple(d_model=64, n_heads=5)
    Traceback (most recent call last):
    ValueError: d_model must be a multiple of n_heads, got 64 and 5
    """
    (name, value), (of, divisor) = values.items()
    if value % divisor:
        raise ValueError(
            f"{name} must be a multiple of {of}, got {value} and {divisor}"
        )


def check_ids(name: str, ids: Any, n: int) -> None:
    """Raise ValueError unless all ids are in 0 … n - 1.

    Args:
        name: What the ids are called.
        ids: A tensor or an array, not empty.
        n: How many ids there are.

    >>> check_ids("targets", torch.tensor([3, 0, 7]), 5)
    Traceback (most recent call last):
    ValueError: targets must be in 0 … 4, got 0 … 7
    """
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= n:
        raise ValueError(f"{name} must be in 0 … {n - 1}, got {low} … {high}")


def check_fits(n_prompt: int, n_new: int, context_length: int) -> None:
    """Raise ValueError unless a prompt and its continuation fit into the context.

    >>> check_fits(60, 5, context_length=64)
    Traceback (most recent call last):
    ValueError: prompt and new tokens must fit into context_length = 64, got 60 + 5
    """
    check_range(1, n_prompt=n_prompt)
    if n_prompt + n_new > context_length:
        raise ValueError(
            f"prompt and new tokens must fit into context_length = {context_length}, "
            f"got {n_prompt} + {n_new}"
        )


@contextmanager
def as_value_error(what: str, *kinds: type[Exception]) -> Iterator[None]:
    """Raise ValueError, beginning with these words, in place of these kinds of errors.

    >>> with as_value_error("the depth must be a number", ValueError):
    ...     int("deep")
    Traceback (most recent call last):
    ValueError: the depth must be a number: invalid literal for int() with base 10: ...
    """
    try:
        yield
    except kinds as error:
        raise ValueError(f"{what}: {error}") from error
