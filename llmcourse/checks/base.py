"""What all checks share: a wrong answer of any kind ends in a text that helps."""

import re
from collections.abc import Callable, Sequence
from functools import update_wrapper, wraps
from inspect import formatannotation
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

_Answer = TypeVar("_Answer")


def check_shape(got: Any, wanted: Sequence[int], why: str) -> None:
    """Raise AssertionError unless a tensor has the wanted shape.

    >>> check_shape(torch.zeros(3), (2, 5), "a row for each query")
    Traceback (most recent call last):
    AssertionError: a row for each query: wanted (2, 5), got (3,)
    """
    shape = tuple(got.shape)
    assert shape == (*wanted,), f"{why}: wanted {(*wanted,)}, got {shape}"


def check(body: Callable[[_Answer], None]) -> Callable[[_Answer], None]:
    """Let a check raise nothing but AssertionError, whatever it is given.

    Args:
        body: The check. It takes the answer, most often a function, and its annotation
            says what the answer is, or returns.

    >>> @check
    ... def half(fn: Callable[[int], float]) -> None:
    ...     assert fn(3) + 0 == 1.5, "the half of 3 is 1.5"
    >>> half(lambda n: None)
    Traceback (most recent call last):
    AssertionError: your function returns nothing: is a `return` missing?
    >>> half(lambda n: [])
    Traceback (most recent call last):
    AssertionError: your function must return float, got []
    >>> half(lambda n: n / 0)
    Traceback (most recent call last):
    AssertionError: your function raises ZeroDivisionError: division by zero
    """
    hint = next(iter(get_type_hints(body).values()))
    takes_function = "Callable" in str(get_origin(hint))
    wanted = get_args(hint)[-1] if takes_function else hint
    must = "your function must return" if takes_function else "your answer must be"

    @wraps(body)
    def checked(answer: Any) -> None:
        last = answer

        def called(*given: Any) -> object:
            nonlocal last
            kept = [(x, x.clone()) for x in given if hasattr(x, "clone")]  # tensors
            try:
                last = answer(*given)
            except Exception as error:
                raise AssertionError(
                    f"your function raises {type(error).__name__}: {error}"
                ) from error
            assert last is not None or wanted is None, (
                "your function returns nothing: is a `return` missing?"
            )
            assert all(bool((x == before).all()) for x, before in kept), (
                "your function changes a tensor that it is given, and the caller may "
                "need that as it was: make a new one"
            )
            return last

        assert callable(answer) or not takes_function, (
            f"give the check your function itself, not a result, got {answer!r:.60}"
        )
        try:
            body(update_wrapper(called, answer) if takes_function else answer)  # type: ignore[arg-type]
        except AssertionError:
            raise
        except Exception as error:  # the check could do nothing with the answer
            kind = re.sub(r"\w+\.", "", formatannotation(wanted))
            raise AssertionError(f"{must} {kind}, got {last!r:.60}") from error

    return checked
