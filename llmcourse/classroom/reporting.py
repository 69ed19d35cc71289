"""Reports on a graded class: which hand-ins need a look, and which tests are good."""

import csv
import re
import zipfile
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import correlation, mean, pstdev

from nbformat import NotebookNode

from llmcourse.classroom.assignments import grade_id, is_answer, points, release
from llmcourse.classroom.collecting import counted, student_name
from llmcourse.classroom.course import CHANGED, Course
from llmcourse.classroom.similarity import fingerprints, likeness
from llmcourse.files import new_file


@dataclass(frozen=True, kw_only=True)
class Item:
    """How a class did on one graded cell.

    Attributes:
        name: The cell's name.
        mean_score: Mean share of its points that was earned, 0 to 1 (all by everyone).
        discrimination: Correlation of its points with those of all other cells, -1 to
            1: whether those who do well on the rest do well on this. `None` if either
            is the same for all.
        n: How many were graded.
    """

    name: str
    mean_score: float
    discrimination: float | None
    n: int


def items(
    scores: dict[str, dict[str, float | None]], worth: dict[str, float]
) -> list[Item]:
    """Return how a class did on each cell.

    Source: Crocker and Algina (1986), Introduction to Classical and Modern Test Theory,
    chapter 14: item difficulty (here: mean score), corrected item-total correlation.

    >>> marks = {"a": {"x": 1.0, "y": 2.0}, "b": {"x": 0.0, "y": 0.0}}
    >>> [(i.name, i.mean_score) for i in items(marks, {"x": 1.0, "y": 2.0})]
    [('x', 0.5), ('y', 0.5)]
    """
    found = []
    for name, most in worth.items():
        graded = [own for own in scores.values() if own.get(name) is not None]
        mine = [own[name] or 0.0 for own in graded]
        rest = [
            sum(value or 0.0 for cell, value in own.items() if cell != name)
            for own in graded
        ]
        varies = len(mine) > 1 and pstdev(mine) > 0 and pstdev(rest) > 0
        found.append(
            Item(
                name=name,
                mean_score=mean(mine) / most if mine else 0.0,
                discrimination=correlation(mine, rest) if varies else None,
                n=len(mine),
            )
        )
    return found


def worth(course: Course, name: str, kinds: str = "all") -> dict[str, float]:
    """Return the points of each graded cell: tests, written answers or both.

    Args:
        course: The course.
        name: The assignment.
        kinds: `tests`, `written` or `all`.
    """
    return {
        grade_id(cell): points(cell)
        for cell in course.source(name).cells
        if points(cell) and (kinds == "all" or (kinds == "written") == is_answer(cell))
    }


def pending(course: Course, name: str) -> dict[str, list[str]]:
    """Return the students whose written answers are not graded yet, by cell."""
    scores = course.scores(name)
    return {
        cell: sorted(s for s, own in scores.items() if own.get(cell) is None)
        for cell in worth(course, name, "written")
    }


def looks(course: Course, name: str) -> list[tuple[str, str]]:
    """Return students and what a teacher should look at in their hand-ins."""
    flags = {outcome.student: outcome.flags for outcome in course.outcomes(name)}
    waiting = pending(course, name)
    found = []
    for student in course.submitted(name):
        state = course.collected(name, student)
        unread = f"not graded: {'; '.join(state['notes'])}"
        own = ["late"] * state["late"]
        own += flags.get(student, [unread] * (not state["readable"]))
        for cell, before in state["changed"].items():
            if student in waiting.get(cell, []):
                own.append(CHANGED.format(cell, before))
        found += [(student, what) for what in own]
    return found


def read_roster(path: Path) -> list[str]:
    """Return the students of a class, from a CSV file that a platform exports.

    Columns that are read: `Student` and `ID` (Canvas's gradebook), `Full name`
    (Moodle's grading worksheet), `First name` and `Last name` (Moodle's participants),
    or "student". With an ID, the name is as of Canvas's hand-ins: `Smith-Jane_123`.

    Raises:
        ValueError: If the file is not CSV, or has none of these columns.
    """
    head, rows = _read_csv(path)
    known = ("Student", "ID"), ("Full name",), ("First name", "Last name"), ("student",)
    columns = next((names for names in known if {*names} <= {*head}), ())
    if not columns:
        raise ValueError(
            f"{path.name} has none of the columns that name students (Student and ID; "
            f"Full name; First name and Last name; student); it has: {_listed(head)}"
        )
    join = "_" if "ID" in columns else " "
    found = [[row[column].strip() for column in columns] for row in rows]
    # Canvas has a row for the points possible, which has no ID.
    students = [student_name(join.join(own)) for own in found if all(own)]
    if not students:
        raise ValueError(f"{path.name} has no student")
    return students


def absent(course: Course, name: str) -> list[str]:
    """Return the students of the roster who have not handed in; none without a roster.

    A student with a number (`Smith-Jane_123`) is known by it, others by the letters of
    the name: Canvas writes names differently in its two exports, and Moodle's
    numbers differ between assignments.
    """
    left = Counter(key for student in course.submitted(name) for key in _keys(student))
    found = []
    for student in course.roster():
        number, letters = _keys(student)
        if left[number or letters] > 0:
            left[number or letters] -= 1  # two may have the same name
        else:
            found.append(student)
    return found


def strangers(course: Course, name: str) -> list[str]:
    """Return who handed in and is not on the roster; nobody without a roster.

    Names are compared as in `absent`.
    """
    roster = course.roster()
    known = {number or letters for number, letters in map(_keys, roster)}
    found = course.submitted(name) if roster else []
    return [student for student in found if known.isdisjoint(_keys(student))]


def _keys(student: str) -> tuple[str, str]:
    """Return a student's number, which may be empty, and the letters of the name."""
    own, number = _parts(student)
    return number, re.sub(r"[\W_]", "", own).casefold()


def _parts(student: str) -> tuple[str, str]:
    """Return a student's name and number, which is empty if there is none.

    >>> _parts("smithjane_123"), _parts("my_jane")
    (('smithjane', '123'), ('my_jane', ''))
    """
    name, _, number = student.rpartition("_")
    return (name, number) if number.isdecimal() else (student, "")


def export(course: Course, name: str, path: Path, form: str = "csv") -> Path:
    """Write the grades for a spreadsheet or a platform.

    A student not fully graded has an empty grade, never 0. The columns:

        csv      student, total, late, each graded cell; also who has not handed in
        canvas   Student, ID, SIS User ID, SIS Login ID, Section, the assignment
        moodle   Identifier (Participant number), Full name, Grade,
                 Last modified (grade)

    Moodle refuses a worksheet without its three columns other than the name
    (`importgradeslib.php`), and takes `-` for a grade that it has not seen. A column of
    comments is left out: an empty comment would replace one that is there.

    Raises:
        ValueError: If the platform knows students by number, and some have none.
    """
    cells = worth(course, name)
    scores = course.scores(name)
    students = sorted({*scores, *course.submitted(name)})
    bare = [student for student in students if not _parts(student)[1]]
    if bare and form != "csv":
        platform, few = form.capitalize(), ", ".join(bare[:5])
        raise ValueError(
            f"{len(bare)} of {counted(len(students), 'student')} have no {platform} "
            f"number ({few}{', …' * (len(bare) > 5)}): use --format csv, or name their "
            "files NAME_NUMBER.ipynb and collect them again"
        )
    if form == "csv":
        students += absent(course, name)
    title = f"{name} (of {sum(cells.values()):g})"
    unused = dict.fromkeys(("SIS User ID", "SIS Login ID", "Section"), "")
    rows = []
    for student in students:
        own = {cell: scores.get(student, {}).get(cell) for cell in cells}
        known = [value for value in own.values() if value is not None]
        whole = f"{sum(known):g}" if len(known) == len(own) else ""
        shown = {cell: _shown(value) for cell, value in own.items()}
        late = "late" * course.collected(name, student)["late"]
        full, number = _parts(student)
        row = {
            "csv": {"student": student, title: whole, "late": late} | shown,
            "canvas": {"Student": full, "ID": number} | unused | {name: whole},
            "moodle": {"Identifier": f"Participant {number}", "Full name": full}
            | {"Grade": whole, "Last modified (grade)": "-"},
        }
        rows.append(row[form])
    # Canvas's `gradebook_importer.rb` does not skip a mark at the start.
    encoding = "utf-8" if form == "canvas" else "utf-8-sig"
    return _write_csv(path, list(rows[0]), rows, encoding)


def _shown(points: float | None) -> str:
    return "" if points is None else f"{points:g}"


def _write_csv(
    path: Path,
    head: list[str],
    rows: list[dict[str, str]],
    encoding: str = "utf-8-sig",  # Excel knows UTF-8 by the mark at the start
) -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, head)
        writer.writeheader()
        writer.writerows(rows)
    return path


def pack(pages: list[Path], path: Path) -> Path:
    """Write students' pages (`Course.feedback`) as one zip.

    By these file names Moodle returns files to students, with the participant's number
    between two underscores (`assignfeedback_file` in its source).
    """
    with new_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        for page in pages:
            student = page.parents[1].name
            archive.write(page, f"{student}_assignsubmission_file_{page.name}")
    return path


def export_written(course: Course, name: str, cell: str, path: Path) -> int:
    """Write all answers to one question for a spreadsheet; return how many.

    The columns are student, answer, points (of how many), comment.
    """
    [question] = course.written(name, cell)
    here = {outcome.student for outcome in course.outcomes(name)}
    with course.gradebook() as book:
        known = {
            s.student.id: (
                book.find_grade(cell, name, name, s.student.id).manual_score,
                book.find_comment(cell, name, name, s.student.id).manual_comment,
            )
            for s in book.assignment_submissions(name)
            if s.student.id in here
        }
    given, rows = f"points of {points(question):g}", []
    for student, (score, comment) in sorted(known.items()):
        cells = course.submission(name, student).cells
        row = {"student": _cell(student), "answer": _cell(_answer(cells, cell))}
        rows.append(row | {given: _shown(score), "comment": comment or ""})
    _write_csv(path, ["student", "answer", given, "comment"], rows)
    return len(rows)


def _answer(cells: list[NotebookNode], cell: str) -> str:
    return "".join(c.source for c in cells if grade_id(c) == cell)


def _cell(text: str) -> str:
    """Return a text, quoted if a spreadsheet would run it as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return a CSV file's columns, and its rows by column.

    Where the comma is the decimal mark, spreadsheets write semicolons between them.

    Raises:
        ValueError: If the file is not CSV in UTF-8.
    """
    csv.field_size_limit(1 << 28)  # answers may hold pictures
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            mark = max(",;", key=head.count)
            rows = csv.DictReader(file, restval="", restkey="", delimiter=mark)
            return list(rows.fieldnames or ()), list(rows)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} is not in UTF-8: save it as CSV again, in Excel as "
            f"'CSV UTF-8' ({error})"
        ) from error
    except csv.Error as error:
        raise ValueError(f"{path.name} is not a CSV file: {error}") from error


def _listed(columns: list[str]) -> str:
    return ", ".join(columns) or "nothing"


def _same(text: str, answer: str) -> bool:
    """Return whether a spreadsheet's cell holds an answer: spaces may differ.

    Excel keeps no more than 32,767 characters. An empty cell says nothing.
    """
    ours, theirs = ("".join(t.removeprefix("'").split()) for t in (answer, text))
    return not theirs or (ours[:20_000] == theirs[:20_000])


def import_written(
    course: Course, name: str, cell: str, path: Path
) -> tuple[int, int, list[str]]:
    """Read points and comments that a teacher has entered, and store them.

    Columns are found by their names, as `export_written` writes them. A row without
    points changes nothing, so that several people can mark parts of a class; `-` takes
    points back. Points for another answer than the student's present one are left out:
    the student has handed in again, or the file is of another question. Nothing is
    changed unless all of the file can be read.

    Returns:
        How many rows there are, in how many points are entered or taken back, and the
        students whose points are left out.

    Raises:
        ValueError: If a column is missing, points are neither `-` nor a number from 0
            to what the question is worth, a student is unknown, or the file is not CSV.
    """
    [question] = course.written(name, cell)
    most = points(question)
    head, rows = _read_csv(path)
    given = f"points of {most:g}"
    for column in ("student", given, "comment"):
        if column not in head:
            raise ValueError(
                f"{path.name} has no column {column!r}; it has: {_listed(head)}"
            )
    n, left_out = 0, []
    with course.gradebook() as book:
        known = {s.student.id for s in book.assignment_submissions(name)}
        known &= {*course.submitted(name)}
        for number, row in enumerate(rows, start=2):
            where = f"{path.name}, row {number}"
            student, text = row["student"].removeprefix("'"), row[given].strip()
            if student not in known:
                raise ValueError(f"{where}: no hand-in of {student!r}")
            if not text:
                continue
            try:
                score = None if text == "-" else float(text.replace(",", "."))
            except ValueError:
                score = -1.0
            if score is not None and not 0 <= score <= most:
                wanted = (
                    f"points from 0 to {most:g} were wanted, or - to take them back"
                )
                raise ValueError(f"{where}: {wanted}; got {text!r}")
            answer = _answer(course.submission(name, student).cells, cell)
            if not _same(row.get("answer", ""), answer):
                left_out.append(student)
                continue
            one = book.find_grade(cell, name, name, student)
            one.manual_score, one.needs_manual_grade = score, score is None
            book.find_comment(cell, name, name, student).manual_comment = row["comment"]
            n += 1
        book.db.commit()  # only if all of the file could be read
    return len(rows), n, left_out


def alike(
    course: Course, name: str, least: float = 0.8
) -> list[tuple[float, str, str]]:
    """Return pairs of hand-ins whose code is suspiciously alike, most alike first.

    See `similarity.likeness`. This is a hint, not a verdict: correct short functions
    are often the same.
    """
    source = course.source(name)
    stubs = fingerprints(release(source), source)
    prints = {
        student: fingerprints(course.submission(name, student), source) - stubs
        for student in course.submitted(name)
    }
    pairs = [
        (likeness(prints[a], prints[b]), a, b)
        for a, b in combinations(sorted(prints), 2)
    ]
    return sorted((pair for pair in pairs if pair[0] >= least), reverse=True)
