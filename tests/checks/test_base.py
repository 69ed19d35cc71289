"""Whatever a check is given, it fails with a text that helps."""

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import getmembers, isfunction
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pytest
import torch
from torch import Tensor

from llmcourse import checks
from llmcourse.checks.base import check

CHAPTERS = [m.name for m in iter_modules(checks.__path__) if m.name != "base"]
CHECKS = [
    pytest.param(check, id=f"{chapter}.{name}")
    for chapter in CHAPTERS
    for module in [import_module(f"llmcourse.checks.{chapter}")]
    for name, check in getmembers(module, isfunction)
    if check.__module__ == module.__name__ and not name.startswith("_")
]
VALUES = {"predict_pieces", "name_neighbours"}  # take no function
NAN = float("nan")


class EqualToAll:
    """Passes for whatever it is compared with."""

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    __hash__ = None


class Refusing:
    """Answers no question, not even how it is written."""

    def refuse(self, *given):
        raise RuntimeError("no")

    __eq__ = __lt__ = __gt__ = __bool__ = __float__ = __len__ = refuse
    __iter__ = __getattr__ = __repr__ = refuse
    __hash__ = None


class SilentError(Exception):
    """Cannot be written as a text."""

    def __str__(self):
        raise RuntimeError("no")


ANSWERS = {
    "0": 0,
    "huge": 10**400,
    "nan": NAN,
    "inf": float("inf"),
    "True": True,
    "empty list": [],
    "list": [1, 2, 3],
    "long list": list(range(10_000)),
    "nested": [[["text " * 30] * 9] * 9] * 9,
    "nans": [NAN, NAN],
    "tuple": (1.5, 2),
    "dict": {},
    "empty text": "",
    "text": "text",
    "long text": "x" * 1_000_000,
    "scalar": torch.zeros(()),
    "empty tensor": torch.zeros(0),
    "four axes": torch.zeros(2, 3, 4, 5),
    "whole numbers": torch.ones(5, 5, dtype=torch.int64),
    "truths": torch.ones(6, 6, dtype=torch.bool),
    "nan tensor": torch.full((5, 5), NAN),
    "two tensors": (torch.zeros(2, 3), torch.zeros(2, 3)),
    "array": np.zeros((2, 3)),
}
NEVER_RIGHT = {  # of a kind that no exercise asks for
    "None": None,
    "complex": 3j,
    "bytes": b"x",
    "array of objects": np.array([None, "a"]),
    "generator": (n for n in (1, 2)),
    "function": len,
    "class": int,
    "equal to all": EqualToAll(),
    "several equal to all": [EqualToAll(), EqualToAll()],
    "refusing": Refusing(),
}


def raising(error):
    def fn(*given):
        raise error

    return fn


DONE = {  # what a function does, and what is said of it
    "nothing": (lambda *given: None, "returns nothing: is a `return` missing"),
    "not yet": (raising(NotImplementedError("write this")), "^not done yet: .* given "),
    "fails": (raising(KeyError("x")), "your function raises KeyError: 'x', given "),
    "long": (raising(ValueError("x" * 999)), "raises ValueError: xxx.*, given "),
    "silent": (raising(SilentError()), "raises .*SilentError.*, given "),
    "leaves": (raising(SystemExit(1)), "raises SystemExit: 1, given "),
    "asserts": (raising(AssertionError()), "raises AssertionError, given "),
    "takes nothing": (lambda: 0, "takes 0 positional arguments but . w.* given"),
    "takes more": (lambda a, b, c, d, e, f, g: 0, "missing . required positional"),
}


def fails(check, answer):
    with pytest.raises(AssertionError) as caught:
        check(answer)
    text = str(caught.value)
    assert 10 < len(text) < 330
    return text


def test_there_are_checks_of_all_chapters():
    """Of each page that imports some, and each module has at least one."""
    pages = (Path(__file__).parents[2] / "book" / "src").glob("*.py")
    asking = {
        page.stem
        for page in pages
        if f"from llmcourse.checks import {page.stem} as checks"
        in page.read_text("utf8")
    }
    assert {*CHAPTERS} == asking
    assert {check.id.partition(".")[0] for check in CHECKS} == asking


@pytest.mark.parametrize("answer", ANSWERS | NEVER_RIGHT)
@pytest.mark.parametrize("check", CHECKS)
def test_whatever_comes_fails_with_a_text(check, answer):
    value = (ANSWERS | NEVER_RIGHT)[answer]
    returned, given = fails(check, lambda *given: value), fails(check, value)
    if check.__name__ in VALUES:
        assert "your answer must be dict" in returned
        assert "your answer must be dict" in given or value == {}
    else:
        assert ("itself, not a result, got" in given) != callable(value)
        if check.__name__ == "accumulate":  # only what it does counts
            assert "call backward()" in returned
        elif value is not None and answer in NEVER_RIGHT:
            assert "your function must return" in returned
        elif isinstance(value, float) and "must return" not in returned:
            assert answer in returned


@pytest.mark.parametrize("done", DONE)
@pytest.mark.parametrize("check", CHECKS)
def test_whatever_a_function_does_is_said(check, done):
    fn, said = DONE[done]
    if check.__name__ in VALUES:
        said = "your answer must be dict"
    elif check.__name__ == "accumulate" and done == "nothing":
        said = "call backward"
    assert re.search(said, fails(check, fn))


def test_what_is_given_stays_as_it_is():
    @check
    def half(fn: Callable[[Tensor], Tensor]) -> None:
        assert fn(torch.ones(2))[0] == 0.5, "the half of 1"

    half(lambda x: x / 2)
    assert "changes what it is given" in fails(half, lambda x: x.div_(2))

    @check
    def last(fn: Callable[[list[int]], int]) -> None:
        assert fn([1, 2]) == 2, "the last"

    last(lambda values: values[-1])
    assert "changes what it is given" in fails(last, lambda values: values.pop())


def test_numbers_and_lists_may_come_as_tensors_and_arrays():
    @check
    def halves(fn: Callable[[list[int]], Sequence[float]]) -> None:
        assert fn([1, 2]) == [0.5, 1.0], "the half of each"

    halves(lambda values: [value / 2 for value in values])
    halves(lambda values: torch.tensor(values) / 2)
    halves(lambda values: list(torch.tensor(values) / 2))
    halves(lambda values: np.array(values) / 2)
    assert fails(halves, lambda values: "ab") == (
        "your function must return list[float], got 'ab'"
    )


def test_a_text_of_any_length_is_cut():
    @check
    def short(fn: Callable[[], str]) -> None:
        assert not (got := fn()), f"nothing is wanted, got {got}"

    assert fails(short, lambda: 1000 * "x").startswith("nothing is wanted, got xxx")
