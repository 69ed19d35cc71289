"""The weeks of a course: every reading and assignment once, in an order that works."""

import importlib
import re
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from proving import NAMES

from llmcourse.classroom.quizzes import chapters

BOOK = Path(__file__).parents[2] / "book"


@pytest.fixture
def schedule(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BOOK)
    return importlib.import_module("schedule")


def test_worked_example(schedule: ModuleType) -> None:
    """The tasks of tokenization take 10 + 10 + 20 + 25 + 10 + 10 + 15 + 15 minutes."""
    assert schedule.work("tokenization") == 115
    assert schedule.reading("tokenization") == 45
    *_, week, total = schedule.table({"1": ("tokenization", "tokenization")}).split(
        "\n"
    )
    assert week.endswith("| 0:45 | 1:55 | 2:40 |")
    assert total.endswith("| 0:45 | 1:55 | 2:40 |")


def test_the_tables_are_up_to_date(schedule: ModuleType) -> None:
    page = (BOOK / "course_plan.md").read_text(encoding="utf-8")
    told = "run: python book/notebooks.py assignments"
    assert schedule.with_weeks(page) == page, told


def test_the_long_course_has_everything_once(schedule: ModuleType) -> None:
    weeks = schedule.PLANS["14"].values()
    read = [name for week in weeks for name in week[0].split()]
    handed_in = [name for week in weeks for name in week[1].split()]
    assert sorted(read) == sorted(chapters())
    assert sorted(handed_in) == sorted(set(NAMES) - {"contest"})


@pytest.mark.parametrize("name", ["4", "8", "14"])
def test_nothing_is_handed_in_before_its_chapters_are_read(
    schedule: ModuleType, name: str
) -> None:
    read: set[str] = set()
    for chapters_of, assignments_of in schedule.PLANS[name].values():
        read |= set(chapters_of.split())
        for assignment in assignments_of.split():
            path = BOOK / "assignments" / f"{assignment}.ipynb"
            first = nbformat.read(path, as_version=4).cells[0].source
            needed = set(re.findall(r"\]\(\.\./(\w+)\.ipynb\)", first))
            assert needed <= read, assignment


def test_each_assignment_has_questions_for_a_conversation() -> None:
    page = (BOOK / "oral_questions.md").read_text(encoding="utf-8")
    parts = re.split(r"^## .*$", page, flags=re.MULTILINE)[1:]
    assert len(parts) == len(NAMES)
    for part in parts:
        assert re.findall(r"^\d", part, re.MULTILINE) == ["1", "2", "3"]
        assert len(re.findall(r"^   \*.*\*$", part, re.MULTILINE)) == 3


def test_what_is_no_time(schedule: ModuleType) -> None:
    with pytest.raises(ValueError, match="minutes were wanted"):
        schedule.minutes("your time")
    assert schedule.minutes("half an hour") == 30
