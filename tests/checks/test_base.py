"""Whatever a check is given, it fails with a text that helps."""

from collections.abc import Callable
from importlib import import_module
from inspect import getmembers, isfunction
from pkgutil import iter_modules

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
ANSWERS = {"predict_pieces", "name_neighbours"}  # take no function


def fails(check, answer):
    with pytest.raises(AssertionError) as caught:
        check(answer)
    return str(caught.value)


def test_there_are_checks_of_all_chapters():
    assert len(CHAPTERS) == 12
    assert len(CHECKS) > 4 * 12


@pytest.mark.parametrize("check", CHECKS)
def test_a_stub_fails_with_a_hint(check):
    if check.__name__ not in ANSWERS:
        hint = "is a `return` missing" if check.__name__ != "accumulate" else "backward"
        assert hint in fails(check, lambda *given: None)


@pytest.mark.parametrize("check", CHECKS)
def test_an_error_in_the_function_is_named(check):
    def not_yet(*given):
        raise NotImplementedError("write this")

    if check.__name__ not in ANSWERS:
        text = "your function raises NotImplementedError: write this"
        assert fails(check, not_yet) == text


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("answer", [None, 0, [], "", 1.5, {}, (1, 2, 3)], ids=repr)
def test_nonsense_fails_with_a_text(check, answer):
    if answer is not None:
        assert fails(check, lambda *given: answer)
    assert fails(check, answer)


@pytest.mark.parametrize("check", CHECKS)
def test_a_function_that_was_called_already_is_asked_for_itself(check):
    if check.__name__ not in ANSWERS:
        assert "your function itself" in fails(check, 7)


def test_a_tensor_that_was_given_stays_as_it_is():
    @check
    def half(fn: Callable[[Tensor], Tensor]) -> None:
        assert fn(torch.ones(2))[0] == 0.5, "the half of 1"

    half(lambda x: x / 2)
    assert "changes a tensor that it is given" in fails(half, lambda x: x.div_(2))
