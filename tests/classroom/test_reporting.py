import csv
import shutil
from pathlib import Path

import nbformat
import pytest
from proving import HERE, solved

from llmcourse.classroom import reporting
from llmcourse.classroom.course import Course
from llmcourse.files import write_json

NAME = "tokenization"


def collected(folder: Path, *names: str, **answers: str) -> Course:
    """Return a course with hand-ins of these names, by students of the same work."""
    if not (folder / "course").exists():
        Course.init(folder / "course", HERE, [NAME])
    course = Course(folder / "course")
    place = folder / f"in{len(list(folder.iterdir()))}"
    place.mkdir()
    for name in names:
        nbformat.write(solved(course.source(NAME), **answers), place / f"{name}.ipynb")
    course.collect(NAME, place)
    return course


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))


def test_what_moodle_needs_of_a_worksheet(tmp_path: Path) -> None:
    """`importgradeslib.php` refuses one without these three columns."""
    course = collected(tmp_path, "Jane Smith_789_assignsubmission_file_a")
    head, row = rows(reporting.export(course, NAME, tmp_path / "m.csv", "moodle"))
    told = dict(zip(head, row, strict=True))
    assert told["Identifier"] == "Participant 789"
    assert (told["Grade"], told["Last modified (grade)"]) == ("", "-")
    assert "Feedback comments" not in told  # an empty one would erase Moodle's


@pytest.mark.parametrize(("form", "marked"), [("csv", 1), ("moodle", 1), ("canvas", 0)])
def test_excel_knows_the_encoding(tmp_path: Path, form: str, marked: int) -> None:
    course = collected(tmp_path, "Jörg Ö_789_assignsubmission_file_a")
    path = reporting.export(course, NAME, tmp_path / "g.csv", form)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf") == marked


@pytest.mark.parametrize("form", ["canvas", "moodle"])
def test_students_without_numbers_are_no_rows_for_a_platform(
    tmp_path: Path, form: str
) -> None:
    course = collected(tmp_path, "bob", "tokenization_dora", "jane_1_2_a")
    told = (
        "2 of 3 students have no .* number \\(bob, tokenization_dora\\): use --format"
    )
    with pytest.raises(ValueError, match=told):
        reporting.export(course, NAME, tmp_path / "g.csv", form)
    assert not (tmp_path / "g.csv").exists()
    assert len(rows(reporting.export(course, NAME, tmp_path / "g.csv"))) == 4


@pytest.mark.parametrize(
    ("text", "students"),
    [
        (
            'Student,ID,Section\n"    Points Possible",,\n"Smith, Jane",11,A\n',
            ["Smith-Jane_11"],
        ),
        ("Identifier,Full name\nParticipant 5,Jane Smith\n", ["Jane-Smith"]),
        ("First name,Last name\nJane,Smith\nBo,Li\n", ["Jane-Smith", "Bo-Li"]),
        ("student\njane\n", ["jane"]),
    ],
)
def test_rosters(tmp_path: Path, text: str, students: list[str]) -> None:
    (tmp_path / "r.csv").write_text(text)
    assert reporting.read_roster(tmp_path / "r.csv") == students


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it has: nothing"),
        ("Name,Mail\nx,y\n", "Full name; .* it has: Name, Mail"),
        ("student\n", "has no student"),
    ],
)
def test_what_is_no_roster(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(ValueError, match=told):
        reporting.read_roster(tmp_path / "r.csv")


def test_a_roster_of_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes("student\nJörg\n".encode("cp1252"))
    with pytest.raises(ValueError, match="not in UTF-8: save it as CSV again"):
        reporting.read_roster(tmp_path / "r.csv")


def test_who_has_not_handed_in(tmp_path: Path) -> None:
    course = collected(
        tmp_path, "smithjane_11_22_a", "Sean ONeill_5_assignsubmission_file_a", "bo"
    )
    assert reporting.absent(course, NAME) == []  # without a roster
    here = ["Smith-Jane_11", "Sean-O-Neill", "bo"]
    roster = {"students": [*here, "Smith-Jane_12", "Sean-O-Neill", "zoe"]}
    write_json(course.folder / "roster.json", roster)
    away = ["Smith-Jane_12", "Sean-O-Neill", "zoe"]
    assert reporting.absent(course, NAME) == away
    made = rows(reporting.export(course, NAME, tmp_path / "g.csv"))
    assert [row[0] for row in made[-3:]] == away
    assert {cell for row in made[-3:] for cell in row[1:]} == {""}


def test_who_is_not_in_the_class(tmp_path: Path) -> None:
    course = collected(
        tmp_path, "smithjane_11_22_a", "bo_12_23_a", "dan_LATE_1_x", "zoe"
    )
    assert reporting.strangers(course, NAME) == []  # without a roster
    roster = {"students": ["Smith-Jane_11", "zoe", "Bo_13"]}
    write_json(course.folder / "roster.json", roster)
    assert reporting.strangers(course, NAME) == ["bo_12", "dan_LATE_1_x"]
    shutil.rmtree(
        course.folder / "submitted" / "bo_12"
    )  # as the instructors' page says
    assert reporting.strangers(course, NAME) == ["dan_LATE_1_x"]


def test_points_of_written_answers(tmp_path: Path) -> None:
    """They come in by column, stay where nothing is said, and go with the answer."""
    course = collected(tmp_path, "ada", "bob")
    course.grade(NAME, unsafe=True)

    def mark(points: str, head: str = "student,points of 3,comment") -> tuple[int, int]:
        (tmp_path / "n.csv").write_text(f"{head}\nada,{points},fine\nbob,,\n")
        *counts, left_out = reporting.import_written(
            course, NAME, "numbers", tmp_path / "n.csv"
        )
        assert not left_out
        return (counts[0], counts[1])

    def known() -> float | None:
        return course.scores(NAME)["ada"]["numbers"]

    for wrong in ("", "student,comment", "student,points of 4,comment"):
        told = "has no column .*; it has: "
        with pytest.raises(ValueError, match=told):
            mark("1", wrong)
    assert mark("2.5") == (2, 1)
    assert mark("") == (2, 0)
    assert known() == 2.5
    assert mark("-") == (2, 1)
    assert known() is None
    mark("2.5")
    collected(tmp_path, "ada")
    assert known() == 2.5  # the same answer
    collected(tmp_path, "ada", numbers="I give up.")
    assert known() is None
    told = "numbers changed after you marked it (2.5 points)"
    assert reporting.looks(course, NAME) == [("ada", told)]
    course.grade(NAME, unsafe=True)
    assert known() is None
    mark("1")
    assert reporting.looks(course, NAME) == []


def test_points_for_another_answer_are_left_out(tmp_path: Path) -> None:
    """That of an earlier hand-in, or to another question; spaces may differ."""
    course = collected(tmp_path, "ada", numbers="- 97 bytes\n- 23 tokens")
    collected(tmp_path, "bob", numbers="I forgot.")
    course.grade(NAME, unsafe=True)
    sheet, answers = tmp_path / "n.csv", {"ada": "'- 97 bytes \r\n- 23 tokens"}

    def mark(cell: str = "numbers") -> tuple[int, int, list[str]]:
        with sheet.open("w", newline="") as file:
            written = csv.writer(file)
            written.writerow(["student", "answer", "points of 3", "comment"])
            told = [
                [who, answers.get(who, "I forgot."), "2", ""] for who in ["ada", "bob"]
            ]
            written.writerows(told)
        return reporting.import_written(course, NAME, cell, sheet)

    assert mark() == (2, 2, [])
    assert mark("why-subwords") == (2, 0, ["ada", "bob"])
    collected(tmp_path, "ada", numbers="No idea.")
    assert mark() == (2, 1, ["ada"])
    assert course.scores(NAME)["ada"]["numbers"] is None
    answers["ada"] = ""  # whatever is there now
    assert mark() == (2, 2, [])


def test_a_sheet_with_semicolons_is_read(tmp_path: Path) -> None:
    """Spreadsheets write them where the comma is the decimal mark."""
    course = collected(tmp_path, "ada")
    course.grade(NAME, unsafe=True)
    sheet = tmp_path / "n.csv"
    sheet.write_text('student;points of 3;comment;x\nada;2,5;Good, both;"a;b"\n')
    assert reporting.import_written(course, NAME, "numbers", sheet) == (1, 1, [])
    assert course.scores(NAME)["ada"]["numbers"] == 2.5
    assert reporting.export_written(course, NAME, "numbers", sheet) == 1
    assert rows(sheet)[1][-1] == "Good, both"


def test_points_of_what_is_gone_or_cannot_be_graded_are_not_told(
    tmp_path: Path,
) -> None:
    course = collected(tmp_path, "ada", "bob")
    course.grade(NAME, unsafe=True)
    assert set(course.scores(NAME)) == {"ada", "bob"}
    shutil.rmtree(course.folder / "submitted" / "bob")
    assert course.stale(NAME) == []
    assert reporting.export_written(course, NAME, "numbers", tmp_path / "n.csv") == 1
    path, head = course.path(NAME), '# %% test="merge" points=1\n'
    path.write_text(path.read_text().replace(head, f"{head}assert merge(\n"))
    [outcome] = course.grade(NAME, unsafe=True)
    assert outcome.earned is None
    made = rows(reporting.export(course, NAME, tmp_path / "g.csv"))
    assert made[1:] == [["ada", *[""] * (len(made[0]) - 1)]]
