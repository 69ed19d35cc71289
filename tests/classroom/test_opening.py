"""What a class's notebook says first, from `course.json`, and what it leaves alone."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from proving import HERE, solved
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.classroom.assignments import (
    grade_id,
    is_answer,
    points,
    read_source,
)
from llmcourse.classroom.course import Course
from llmcourse.classroom.opening import ASSISTANTS, OPENING, TORCH, opening

NAME = "tokenization"
README = (HERE.parents[1] / "README.md").read_text(encoding="utf-8")
TOLD = {
    "repository": "https://github.com/ada/engine",
    "site": "https://ada.example/course",
    "hand_in": "https://school.example/42",
    "due": {NAME: "Friday, 18:00"},
    "late": "Half the points until Sunday.",
    "assistants": "Ask, but do not paste.",
}


def course_with(folder: Path, **settings: Any) -> Course:
    Course.init(folder, HERE, [NAME])
    path = folder / "course.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return Course(folder)


def with_answers(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a released notebook with the reference answers in it."""
    full = solved(read_source(HERE / f"{NAME}.py"))
    texts = {grade_id(cell): cell.source for cell in full.cells}
    for cell in notebook.cells:
        if is_answer(cell):
            cell.source = texts[grade_id(cell)]
    return notebook


def test_worked_example(tmp_path: Path) -> None:
    released = nbformat.read(course_with(tmp_path, **TOLD).release(NAME), as_version=4)
    first, title = released.cells[:2]
    assert (first.id, first.cell_type, points(first)) == (OPENING, "markdown", 0)
    assert '"llmcourse[classroom] @ git+https://github.com/ada/engine"' in first.source
    assert first.source.startswith("**Due:** Friday, 18:00\n\n")
    assert "**Hand in:** https://school.example/42\n" in first.source
    assert "**Late work:** Half the points until Sunday." in first.source
    assert "**Assistants:** Ask, but do not paste." in first.source
    assert f"llmcourse check {NAME}.ipynb" in first.source
    link = "[Tokenization](https://ada.example/course/book/tokenization.html)"
    assert link in title.source
    nbformat.validate(released)


def test_what_is_not_set_is_not_said(tmp_path: Path) -> None:
    nothing = {name: type(value)() for name, value in TOLD.items()}
    course = course_with(tmp_path, **nothing)
    first, title = nbformat.read(course.release(NAME), as_version=4).cells[:2]
    paragraphs = first.source.split("\n\n")
    assert [text.splitlines()[0] for text in paragraphs] == ["**When you finish.**"]
    assert "Then hand in this file; keep its name." in first.source
    assert "Read the chapter *Tokenization* first." in title.source


def test_what_is_installed_has_no_clone_and_the_small_torch() -> None:
    text = opening({**TOLD, "site": ""}, NAME)
    assert "install -e" not in text
    assert f"pip install torch --index-url {TORCH}\n" in text
    assert f"torch --index-url {TORCH}\n" in README


def test_only_the_first_cell_and_links_differ_from_the_public_notebook(
    tmp_path: Path,
) -> None:
    made = nbformat.read(course_with(tmp_path, **TOLD).release(NAME), as_version=4)
    path = HERE.parents[1] / "book" / "assignments" / f"{NAME}.ipynb"
    public = nbformat.read(path, as_version=4)
    own, theirs = made.cells[2:], public.cells[1:]
    assert own == theirs
    assert made.metadata == public.metadata


def test_a_hand_in_is_read_and_checked_as_without_it(tmp_path: Path) -> None:
    """The due date and the site have changed since the students got it."""
    course = course_with(tmp_path / "course", **TOLD)
    (tmp_path / "in").mkdir()
    jane = with_answers(nbformat.read(course.release(NAME), as_version=4))
    nbformat.write(jane, tmp_path / "in" / "jane.ipynb")
    public = HERE.parents[1] / "book" / "assignments" / f"{NAME}.ipynb"
    bob = with_answers(nbformat.read(public, as_version=4))
    nbformat.write(bob, tmp_path / "in" / "bob.ipynb")
    ada = nbformat.read(course.folder / "release" / NAME / f"{NAME}.ipynb", 4)
    ada.cells.insert(5, nbformat.v4.new_markdown_cell("My own note."))
    nbformat.write(with_answers(ada), tmp_path / "in" / "ada.ipynb")
    later = {"due": {NAME: "Monday"}, "site": "https://elsewhere.example"}
    course.settings |= later
    wanted = [cell.source for cell in with_answers(course.for_students(NAME)).cells]
    found = {h.student: h for h in course.collect(NAME, tmp_path / "in")}
    assert [found[name].notes for name in ("ada", "bob", "jane")] == [[], [], []]
    n_cells = len(wanted)
    for name, added in (("ada", 1), ("bob", 0), ("jane", 0)):
        kept = course.submission(NAME, name).cells
        assert len(kept) == n_cells + added, name
        assert sum(cell.id == OPENING for cell in kept) == 1
    result = CliRunner().invoke(cli.app, ["check", str(tmp_path / "in" / "jane.ipynb")])
    assert result.exit_code == 0, result.output


def test_it_does_not_change_what_is_graded(tmp_path: Path) -> None:
    course = course_with(tmp_path / "course", **TOLD)
    (tmp_path / "in").mkdir()
    jane = with_answers(nbformat.read(course.release(NAME), as_version=4))
    nbformat.write(jane, tmp_path / "in" / "jane.ipynb")
    course.collect(NAME, tmp_path / "in")
    (first,) = course.grade(NAME, unsafe=True)
    assert sum(first.earned.values()) == 14
    course.settings["due"] = {NAME: "Monday"}
    asked: list[tuple[int, int]] = []
    course.grade(NAME, unsafe=True, progress=lambda *at: asked.append(at))
    assert asked == [(1, 1)]  # nothing to do


def test_the_rule_on_assistants_is_the_one_on_the_page() -> None:
    page = HERE.parents[1] / "book" / "instructors.md"
    assert f"*{ASSISTANTS}*" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"due": "Friday"}, '"due" must be a text for each assignment'),
        ({"due": {NAME: 5}}, '"due" must be a text for each assignment'),
        ({"late": 5}, "'late' must be a text, got 5"),
    ],
)
def test_a_setting_of_another_form_is_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        course_with(tmp_path, **settings).release(NAME)


def test_the_command_names_what_students_are_not_told(tmp_path: Path) -> None:
    course = course_with(tmp_path, **{**TOLD, "late": ""})
    command = ["course", "release", NAME, "--course", str(course.folder)]
    result = CliRunner().invoke(cli.app, command)
    assert f"{NAME} does not tell students: late (see course.json)" in result.output
