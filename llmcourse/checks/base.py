"""What all checks share: any kind of wrong answer ends in a helpful message."""

import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper, wraps
from inspect import formatannotation
from numbers import Real
from traceback import format_exception_only
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

_Answer = TypeVar("_Answer")


def check_shape(got: Any, wanted: Sequence[int], why: str) -> None:
    """Raise AssertionError unless a tensor has the wanted shape.

    >>> check_shape(torch.zeros(3), (2, 5), "a row for each query")
    Traceback (most recent call last):
    AssertionError: a row for each query: wanted (2, 5), got (3,)
    """
    shape = tuple(got.shape)
    assert shape == (*wanted,), f"{why}: wanted {(*wanted,)}, got {shape}"


def near(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors have one shape and nearly the same numbers."""
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), atol=1e-4)


def random(*shape: int, seed: int) -> Tensor:
    """Return a tensor of normally distributed numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check(body: Callable[[_Answer], None]) -> Callable[[_Answer], None]:
    """Let a check raise nothing but AssertionError, whatever it is given.

    What the reader's function returns must be of the type in the check's annotation;
    numbers and lists may also be tensors or arrays, and reach the check as plain
    Python. The function must not change its arguments.

    Args:
        body: The check. It takes the answer, usually a function, and its annotation
            gives the type of the answer, or of what it returns.

    >>> @check
    ... def half(fn: Callable[[int], float]) -> None:
    ...     assert fn(3) == 1.5, "the half of 3 is 1.5"
    >>> half(lambda n: None)
    Traceback (most recent call last):
    AssertionError: your function returns nothing: is a `return` missing?
    >>> half(lambda n: [])
    Traceback (most recent call last):
    AssertionError: your function must return float, got []
    >>> half(lambda n: n / 0)
    Traceback (most recent call last):
    AssertionError: your function raises ZeroDivisionError: division by zero, given 3
    """
    hint = next(iter(get_type_hints(body).values()))
    takes_function = "Callable" in str(get_origin(hint))
    wanted = get_args(hint)[-1] if takes_function else hint
    must = "your function must return" if takes_function else "your answer must be"
    kind = re.sub(r"\w+\.", "", formatannotation(wanted))
    kind = re.sub("Sequence|Collection", "list", kind).replace("Mapping", "dict")

    @wraps(body)
    def checked(answer: Any) -> None:
        last = answer

        def called(*given: Any) -> Any:
            nonlocal last
            before = repr(given)
            try:
                last = answer(*given)
            except (Exception, SystemExit) as error:
                not_yet = isinstance(error, NotImplementedError)
                raise AssertionError(
                    f"{'not done yet: ' if not_yet else ''}your function raises "
                    f"{_reason(error)}, given {', '.join(map(_shown, given)):.120}"
                ) from error
            assert last is not None or wanted is None, (
                "your function returns nothing: is a `return` missing?"
            )
            assert repr(given) == before, (
                "your function changes what it is given, and the caller may need that "
                "as it was: make a new one"
            )
            last = wanted and _plain(last, wanted)
            return last

        assert callable(answer) or not takes_function, (
            f"give the check your function itself, not a result, got {_shown(answer)}"
        )
        try:
            given: Any = called if takes_function else _plain(answer, wanted)
            body(update_wrapper(given, answer) if takes_function else given)  # type: ignore[arg-type]
        except AssertionError as error:
            text, odd = f"{error!s:.300}", re.search(r"\b(nan|inf)\b", repr(last))
            if odd and odd[0] not in text:
                text += f"; your function returned {odd[0]}"
            error.args = (text,)
            raise
        except Exception as error:  # of another type, or nothing to compare with
            why = "" if isinstance(error, TypeError) else f": {_reason(error)}"
            raise AssertionError(f"{must} {kind}, got {_shown(last)}{why}") from error

    return checked


def _plain(value: Any, hint: Any) -> Any:
    """Return a value of a hinted type, with numbers and lists as plain Python.

    Raises:
        TypeError: If it is of another type.
    """
    kind: Any = get_origin(hint) or hint
    parts = get_args(hint)
    if kind in (bool, int, float):
        kind, value = Real, value.item() if hasattr(value, "item") else value
    if parts:
        kind = Sequence if kind is tuple else kind
        value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, kind) or (parts and isinstance(value, str | bytes)):
        raise TypeError(f"{type(value)} is not {hint}")
    if kind is Mapping:
        return {name: _plain(x, parts[1]) for name, x in value.items()}
    if not parts:
        return value
    hints = parts if get_origin(hint) is tuple else parts * len(value)
    return [_plain(x, part) for x, part in zip(value, hints, strict=True)]


def _shown(value: Any) -> str:
    """Return a short text for a value of any type."""
    if type(value).__name__ in ("Tensor", "ndarray"):
        return f"a {type(value).__name__} of {value.dtype}, shape {tuple(value.shape)}"
    return f"{' '.join(reprlib.repr(value).split()):.150}"


def _reason(error: BaseException) -> str:
    """Return an exception's name and the start of its message."""
    return f"{format_exception_only(error)[-1].strip():.120}"
