"""The checks catch mutants of the chapters' solutions; `proving.py` tries them all."""

import re
from importlib import import_module
from importlib.util import find_spec
from inspect import getmembers, isfunction

import pytest
from proving import CHECKS, explained, failed, source_of, survivors

from llmcourse.classroom.assignments import grade_id, is_answer

NO_GGUF = pytest.mark.skipif(
    find_spec("gguf") is None, reason='needs pip install "llmcourse[interop]"'
)
RUN = [  # the set-up of a chapter imports what the chapter needs
    pytest.param(name, marks=NO_GGUF if name == "checks/real_models" else ())
    for name in CHECKS
]


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_is_reached(name):
    module = import_module(f"llmcourse.{name.replace('/', '.')}")
    public = {
        function.__name__
        for _, function in getmembers(module, isfunction)
        if function.__module__ == module.__name__ and function.__name__[0] != "_"
    }
    cells = source_of(name).cells
    assert {grade_id(cell) for cell in cells if is_answer(cell)} == public
    assert all(f"check-{check}" in map(grade_id, cells) for check in public)


@pytest.mark.parametrize("name", RUN)
def test_the_solutions_pass_without_the_rest_of_their_chapter(name):
    assert failed(source_of(name), {}) == []


@pytest.mark.parametrize(
    "change", ["[right]", "(x for x in [right])", "{right: right}"]
)
@pytest.mark.parametrize("name", RUN)
def test_right_results_in_another_form_fail(name, change):
    source, answers, every = source_of(name), {}, []
    cells = {grade_id(cell): cell.source for cell in source.cells}
    for check in cells.keys() - {"given"}:
        if f"check-{check}" in cells and check != "accumulate":  # whose result is None
            every.append(f"check-{check}")
            variable = re.search(r"\((\w+)\)", cells[f"check-{check}"])[1]
            answers[check] = "\n".join(
                (
                    cells[check],
                    f"solved = {variable}",
                    f"def {variable}(*given, solved=solved):",
                    "    right = solved(*given) if callable(solved) else solved",
                    f"    return {change}",
                )
            )
    assert sorted(failed(source, answers)) == sorted(every)


def test_a_wrong_solution_fails_its_check_alone():
    wrong = "def longest_match(pretoken, vocab):\n    return []"
    found = failed(source_of("checks/tokenization"), {"longest_match": wrong})
    assert found == ["check-longest_match"]


@pytest.mark.parametrize("name", ["checks/pipeline", "checks/tokenization"])
def test_the_survivors_are_those_that_are_explained(name):
    total, alive = survivors(name)
    assert total > 20
    known = {check: list(reasons) for check, reasons in explained(name).items()}
    assert alive == known
