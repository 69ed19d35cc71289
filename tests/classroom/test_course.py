from pathlib import Path

import nbformat
import pytest
from proving import HERE, solved
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.classroom import reporting
from llmcourse.classroom.assignments import release
from llmcourse.classroom.collecting import UNTOUCHED
from llmcourse.classroom.course import Course
from llmcourse.classroom.sandbox import MISSING
from llmcourse.files import write_json

NAME = "tokenization"


def handed_in(folder: Path, **answers: dict[str, str]) -> Course:
    """Return a course with a hand-in for each name."""
    course = Course.init(folder / "course", HERE, [NAME])
    (folder / "in").mkdir()
    for student, own in answers.items():
        notebook = solved(course.source(NAME), **own)
        nbformat.write(notebook, folder / "in" / f"{student}.ipynb")
    course.collect(NAME, folder / "in")
    return course


def test_a_hand_in_that_cannot_be_read_replaces_none_that_can(tmp_path: Path) -> None:
    """Files are named as Canvas does: who, perhaps that it is late, and two numbers."""
    course = handed_in(tmp_path, jane_11_22_my={})
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "jane_LATE_11_23_my.ipynb").write_text('{"cells": [')
    (again,) = course.collect(NAME, tmp_path / "again")
    assert course.submitted(NAME) == [again.student]
    assert again.readable
    assert not again.late
    assert again.notes[-1] == "the earlier hand-in counts"
    kept = {cell.source for cell in course.submission(NAME, again.student).cells}
    assert {cell.source for cell in solved(course.for_students(NAME)).cells} <= kept


def test_a_hand_in_without_answers_is_told_and_replaces_none_that_has_some(
    tmp_path: Path,
) -> None:
    course = handed_in(tmp_path, jane_11_22_my={})
    empty = release(course.for_students(NAME))
    (tmp_path / "again").mkdir()
    for name in ("jane_11_23_my", "bo_12_24_my"):
        nbformat.write(empty, tmp_path / "again" / f"{name}.ipynb")
    bo, jane = course.collect(NAME, tmp_path / "again")
    assert bo.notes == [UNTOUCHED]
    assert jane.notes == ["the earlier hand-in counts"]
    assert course.submission(NAME, "jane_11") != course.submission(NAME, "bo_12")
    course.grade(NAME, unsafe=True)
    assert reporting.looks(course, NAME) == [("bo_12", UNTOUCHED)]


def test_an_assignment_that_its_own_answers_fail_is_not_released(
    tmp_path: Path,
) -> None:
    course = Course.init(tmp_path / "course", HERE, [NAME])
    assert course.unsolved(NAME) == {}
    path = course.path(NAME)
    wrong = "assert bits_per_byte(1.0, 1, 1) == 7, 'seven'"
    text = path.read_text(encoding="utf-8")
    head, mark, rest = text.partition('hidden="bits-per-byte" points=1\n')
    comment, _, rest = rest.partition("\n")
    path.write_text(f"{head}{mark}{comment}\n{wrong}\n{rest}", encoding="utf-8")
    args = ["course", "release", NAME, "--course", str(course.folder)]
    result = CliRunner().invoke(cli.app, args)
    told = f"{NAME}: its own answers fail hidden-bits-per-byte: seven"
    assert str(result.exception) == told
    assert not (course.folder / "release").exists()


def test_a_hidden_test_needs_no_marks(tmp_path: Path) -> None:
    course = Course.init(tmp_path / "course", HERE, [NAME])
    path = course.path(NAME)
    text = path.read_text(encoding="utf-8")
    head, mark, rest = text.partition("# Hidden: ")
    comment, _, rest = rest.partition("\n")
    marked = f"{head}{mark}{comment}\n### BEGIN HIDDEN TESTS\n{rest}"
    path.write_text(marked, encoding="utf-8")
    with pytest.raises(ValueError, match="needs no marks of its own"):
        course.source(NAME)


def test_a_course_gets_more_assignments(tmp_path: Path) -> None:
    course = Course.init(tmp_path / "course", HERE, [NAME])
    with pytest.raises(ValueError, match="is not empty; llmcourse course add"):
        Course.init(course.folder, HERE, ["rlhf"])
    assert course.add(HERE, ["rlhf"]) == ["rlhf"]
    with pytest.raises(ValueError, match="already has rlhf"):
        course.add(HERE, ["rlhf"])
    with pytest.raises(ValueError, match="assignment must be .*, got 'proving'"):
        course.add(HERE, ["proving"])
    assert len(course.add(HERE)) == len(course.assignments) - 2
    assert course.assignments == Course.init(tmp_path / "all", HERE).assignments


def test_how_written_answers_are_marked(tmp_path: Path) -> None:
    course = Course.init(tmp_path / "course", HERE, [NAME])
    guide = course.guide(NAME)
    assert set(guide) == {"why-subwords", "numbers"}
    assert "One point: both cuts right." in guide["numbers"]
    assert course.guide(NAME, "numbers") == {"numbers": guide["numbers"]}
    with pytest.raises(ValueError, match="written question must be .*, got 'merge'"):
        course.guide(NAME, "merge")


def test_a_place_without_a_course(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no course in .* give --course"):
        Course(tmp_path)


def test_each_course_draws_its_seed(tmp_path: Path) -> None:
    """Two are equal with a chance of one in two thousand million."""
    one, other = (Course.init(tmp_path / n, HERE, [NAME]) for n in ("one", "other"))
    assert one.settings["seed"] != other.settings["seed"]
    assert Course(one.folder).settings["seed"] == one.settings["seed"]


def test_what_is_for_students_is_not_in_the_teachers_folder(tmp_path: Path) -> None:
    course = Course.init(tmp_path / "course", HERE, [NAME])
    released = course.release(NAME)
    assert "Do not write the code" in (released.parent / "AGENTS.md").read_text()
    assert not (course.folder / "AGENTS.md").exists()
    assert (course.folder / ".gitignore").read_text() == "*\n"


def test_what_is_graded_keeps_the_names_of_its_cells(tmp_path: Path) -> None:
    course = Course.init(tmp_path / "course", HERE, [NAME])
    path = course.path(NAME)
    course.release(NAME)
    path.write_text(path.read_text().replace('test="merge"', 'test="joins"'))
    course.release(NAME)  # nobody is graded yet
    with course.gradebook() as book:
        book.add_student("ada")
        book.add_submission(NAME, "ada")
    course.release(NAME)
    path.write_text(path.read_text().replace('test="joins"', 'test="merge"'))
    wanted = "keep their names, .* missing: test-joins; new: test-merge"
    for _ in range(2):
        with pytest.raises(ValueError, match=wanted):
            course.release(NAME)


def test_without_a_sandbox_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = handed_in(tmp_path, jane={})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="apt-get install bubblewrap"):
        course.grade(NAME)
    assert course.outcomes(NAME) == []


def test_how_to_get_a_sandbox_is_said_in_one_line() -> None:
    """Errors are printed as one line, in which commands of several are unusable."""
    assert "\n" not in MISSING
    assert "docker" not in MISSING
    page = (HERE.parents[1] / "book" / "instructors.md").read_text(encoding="utf-8")
    assert "docker run" in page


def test_what_is_graded_is_graded_again_when_asked(
    tmp_path: Path, sandbox: None
) -> None:
    course, seen = handed_in(tmp_path, jane={}), []
    for again in (False, False, True):
        seen.append([])
        course.grade(NAME, again=again, progress=lambda *at: seen[-1].append(at))
    assert seen == [[(0, 1), (1, 1)], [(1, 1)], [(0, 1), (1, 1)]]
    (outcome,) = course.outcomes(NAME)
    assert sum(outcome.earned.values()) == 14


def test_one_that_ends_the_grader_itself_stops_nobody_else(
    tmp_path: Path, sandbox: None
) -> None:
    course = handed_in(
        tmp_path, a={}, b={"merge": "def merge(*_):\n    return [666]"}, c={}
    )
    path = course.folder / "sources" / f"{NAME}.py"
    deadly = "if merge([1], (2, 3), 4) == [666]:\n    import os\n\n    os._exit(1)\n"
    head = '# %% test="merge" points=1\n'
    path.write_text(path.read_text().replace(head, head + deadly))
    found = {outcome.student: outcome for outcome in course.grade(NAME)}
    assert found["a"].earned == found["c"].earned
    assert sum(found["a"].earned.values()) == 14
    assert found["b"].earned is None
    assert "not graded: BrokenProcessPool" in found["b"].flags[0]


def test_one_that_the_gradebook_refuses_stops_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = handed_in(tmp_path, a={}, b={})
    known = Course._nbgrader

    def refusing(self: Course, action: str, *arguments: str) -> None:
        if arguments[1:] == ("a",):
            raise ValueError("nbgrader autograde failed: who knows")
        known(self, action, *arguments)

    monkeypatch.setattr(Course, "_nbgrader", refusing)
    a, b = course.grade(NAME, unsafe=True)
    assert "not entered into the gradebook" in a.flags[-1]
    assert (a.entered, b.entered) == (False, True)
    monkeypatch.setattr(Course, "_nbgrader", known)
    a, b = course.grade(NAME, unsafe=True)
    assert a.entered
    assert a.flags == b.flags


def test_a_late_hand_in_replaces_one_in_time_only_if_wanted(tmp_path: Path) -> None:
    course = handed_in(tmp_path, jane_11_22_my={})
    before = course.submission(NAME, "jane_11")
    (tmp_path / "late").mkdir()
    late = solved(course.source(NAME), numbers="I give up.")
    nbformat.write(late, tmp_path / "late" / "jane_LATE_11_23_my.ipynb")
    (kept,) = course.collect(NAME, tmp_path / "late", keep="first")
    assert (kept.late, kept.notes) == (False, ["the earlier hand-in counts"])
    assert course.submission(NAME, "jane_11") == before
    (replaced,) = course.collect(NAME, tmp_path / "late")
    assert "it replaces one that was in time" in replaced.notes
    assert course.submission(NAME, "jane_11") != before
    assert reporting.looks(course, NAME) == [("jane_11", "late")]


def test_grades_of_an_earlier_hand_in_are_told(tmp_path: Path, sandbox: None) -> None:
    course = handed_in(tmp_path, jane={})
    assert course.stale(NAME) == []  # not graded yet
    course.grade(NAME)
    assert course.stale(NAME) == []
    (tmp_path / "again").mkdir()
    later = solved(course.source(NAME), numbers="I give up.")
    nbformat.write(later, tmp_path / "again" / "jane.ipynb")
    course.collect(NAME, tmp_path / "again")
    assert course.stale(NAME) == ["jane"]
    own = ["--course", str(course.folder)]
    command = ["course", "export", NAME, str(tmp_path / "g.csv"), *own]
    told = "1 hand-in with points from before a change: run `llmcourse course grade"
    assert told in CliRunner().invoke(cli.app, command).output
    course.grade(NAME)
    assert course.stale(NAME) == []
    assert told not in CliRunner().invoke(cli.app, command).output


@pytest.mark.parametrize(("n", "among"), [(1, "1 hand-in "), (2, "2 hand-ins ")])
def test_a_class_of_another_assignment_is_not_stored(
    tmp_path: Path, n: int, among: str
) -> None:
    course = Course.init(tmp_path / "course", HERE, [NAME, "retrieval"])
    (tmp_path / "in").mkdir()
    for student in "ab"[:n]:
        notebook = solved(course.source("retrieval"))
        nbformat.write(notebook, tmp_path / "in" / f"{student}.ipynb")
    wanted = f"no notebook of {NAME} in {among}.*is the notebook of retrieval"
    with pytest.raises(ValueError, match=wanted):
        course.collect(NAME, tmp_path / "in")
    with pytest.raises(ValueError, match=f"nothing collected for {NAME}"):
        course.submitted(NAME)


def test_a_place_without_hand_ins_is_refused(tmp_path: Path) -> None:
    course = Course.init(tmp_path / "course", HERE, [NAME])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.txt").write_text("hello")
    with pytest.raises(ValueError, match="holds no hand-in"):
        course.collect(NAME, tmp_path / "in")


def test_a_hand_in_that_cannot_be_graded_gets_a_page(tmp_path: Path) -> None:
    course = handed_in(tmp_path, jane={})
    (tmp_path / "in" / "bob.ipynb").write_text("{<b>")
    course.collect(NAME, tmp_path / "in")
    (page,) = course.feedback(NAME)
    assert "bob.ipynb is not a notebook" in page.read_text(encoding="utf-8")
    assert "<b>" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", "spring"), ("seed", 10**19), ("seconds", 0), ("memory_gib", 1.5)],
)
def test_settings_by_which_all_would_fail_are_refused(
    tmp_path: Path, name: str, value: object
) -> None:
    course = Course.init(tmp_path / "course", HERE, [NAME])
    write_json(course.folder / "course.json", course.settings | {name: value})
    with pytest.raises(ValueError, match=f"course.json: '{name}' must be a whole"):
        Course(course.folder)
