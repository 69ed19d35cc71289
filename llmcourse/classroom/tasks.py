"""What the tests of an assignment use, both in a notebook and in the grader."""

import os
from collections.abc import Callable
from typing import Any

import torch


def generator(offset: int = 0) -> torch.Generator:
    """Return a generator of random numbers for tests.

    Its seed is 1,000 times the environment variable `LLMCOURSE_SEED`, 0 by default,
    plus `offset`. A teacher sets it, so that nobody knows the numbers that tests draw.
    """
    seed = int(os.environ.get("LLMCOURSE_SEED", "0"))
    return torch.Generator().manual_seed(1000 * seed + offset)


def gradient(function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
    """Return the gradients of a function's value with respect to its float tensors.

    Only arguments that are tensors themselves count, in order. A gradient that does not
    exist is `None`. The value must be a tensor of one element.

    >>> gradient(lambda x, n: (x**n).sum(), torch.tensor([1.0, 2.0]), 3)
    [tensor([ 3., 12.])]
    """
    remote = getattr(function, "gradient", None)
    if remote is not None:
        return list(remote(*args, **kwargs))

    def leaf(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value.detach().clone().requires_grad_(True)
        return value

    leaves = [leaf(value) for value in args]
    named = {key: leaf(value) for key, value in kwargs.items()}
    every = [*leaves, *named.values()]
    inputs = [v for v in every if isinstance(v, torch.Tensor) and v.requires_grad]
    value = function(*leaves, **named)
    if not isinstance(value, torch.Tensor) or not value.requires_grad:
        return [None] * len(inputs)
    return list(torch.autograd.grad(value, inputs, allow_unused=True))


def close(got: Any, wanted: Any, tolerance: float = 1e-5) -> bool:
    """Return whether a tensor has the wanted shape and nearly the wanted numbers.

    Args:
        got: What a function returned; anything but a tensor is not close.
        wanted: A tensor, a number or lists of numbers.
        tolerance: How far off a number may be, besides 1e-4 of its size.

    >>> close(torch.tensor(0.3), 0.1 + 0.2), close(torch.tensor([0.3]), 0.3)
    (True, False)
    """
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    if not isinstance(got, torch.Tensor) or got.shape != wanted.shape:
        return False
    return torch.allclose(got.double(), wanted, atol=tolerance, rtol=1e-4)


def is_pair(value: Any, kind: type = object) -> bool:
    """Return whether a function returned two things, both of a kind.

    >>> is_pair((1, 2.5)), is_pair(torch.zeros(2)), is_pair([1, 2], torch.Tensor)
    (True, True, False)
    """
    if not isinstance(value, list | tuple) and getattr(value, "ndim", 0) != 1:
        return False
    return len(value) == 2 and all(isinstance(part, kind) for part in value)


def describe(value: Any) -> str:
    """Return a short description of what a function returned, for a message.

    >>> describe(torch.tensor([1 / 3, 2.0])), describe(torch.zeros(3, 7))
    ('[0.3333, 2.0]', 'a tensor of shape (3, 7)')
    """
    if not isinstance(value, torch.Tensor):
        return f"{type(value).__name__} {value!r}"
    if value.numel() > 12:
        return f"a tensor of shape {tuple(value.shape)}"
    if value.is_floating_point():
        value = value.double().round(decimals=4)
    return str(value.tolist())
