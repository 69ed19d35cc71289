"""Reports on a graded class: which hand-ins need a look, and which tests are good."""

import csv
import zipfile
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import correlation, mean, pstdev

from llmcourse.classroom.assignments import grade_id, is_answer, points, release
from llmcourse.classroom.course import Course
from llmcourse.classroom.similarity import fingerprints, likeness
from llmcourse.files import new_file


@dataclass(frozen=True, kw_only=True)
class Item:
    """How a class did on one graded cell.

    Attributes:
        name: The cell's name.
        difficulty: Mean share of its points that was earned, 0 (nobody) to 1.
        discrimination: Correlation of its points with those of all other cells, -1 to
            1: whether those who do well on the rest do well on this. `None` if either
            is the same for all.
        n: How many were graded.
    """

    name: str
    difficulty: float
    discrimination: float | None
    n: int


def items(
    scores: dict[str, dict[str, float | None]], worth: dict[str, float]
) -> list[Item]:
    """Return how a class did on each cell.

    Source: Crocker and Algina (1986), Introduction to Classical and Modern Test Theory,
    chapter 14: item difficulty and the corrected item-total correlation.

    >>> marks = {"a": {"x": 1.0, "y": 2.0}, "b": {"x": 0.0, "y": 0.0}}
    >>> [(i.name, i.difficulty) for i in items(marks, {"x": 1.0, "y": 2.0})]
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
                difficulty=mean(mine) / most if mine else 0.0,
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


def export(course: Course, name: str, path: Path, form: str = "csv") -> Path:
    """Write the grades for a spreadsheet or a platform.

    A student not fully graded has an empty grade, never 0. The columns:

        csv      student, total, each graded cell
        canvas   Student, ID, SIS User ID, SIS Login ID, Section, the assignment
        moodle   Identifier (Participant number), Full name, Grade, Feedback comments
    """
    cells = worth(course, name)
    scores = course.scores(name)
    title = f"{name} (of {sum(cells.values()):g})"
    heads = {
        "csv": ["student", title, *cells],
        "canvas": ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", name],
        "moodle": ["Identifier", "Full name", "Grade", "Feedback comments"],
    }
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(heads[form])
        for student in sorted({*scores, *course.submitted(name)}):
            own = [scores.get(student, {}).get(cell) for cell in cells]
            known = [value for value in own if value is not None]
            whole = f"{sum(known):g}" if len(known) == len(own) else ""
            full, _, number = student.rpartition("_")
            row = {
                "csv": [student, whole, *("" if v is None else f"{v:g}" for v in own)],
                "canvas": [full or student, number, "", "", "", whole],
                "moodle": [f"Participant {number}", full or student, whole, ""],
            }
            rows.writerow(row[form])
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
    most = _written(course, name, cell)
    with course.gradebook() as book:
        known = {
            s.student.id: (
                book.find_grade(cell, name, name, s.student.id).manual_score,
                book.find_comment(cell, name, name, s.student.id).manual_comment,
            )
            for s in book.assignment_submissions(name)
        }
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["student", "answer", f"points of {most:g}", "comment"])
        for student, (score, comment) in sorted(known.items()):
            notebook = course.submission(name, student)
            answers = [c.source for c in notebook.cells if grade_id(c) == cell]
            shown = "" if score is None else f"{score:g}"
            rows.writerow([_cell(student), *map(_cell, answers), shown, comment or ""])
    return len(known)


def _cell(text: str) -> str:
    """Return a text, quoted if a spreadsheet would run it as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def import_written(course: Course, name: str, cell: str, path: Path) -> int:
    """Read points and comments that a teacher has entered; return how many.

    Nothing is changed unless all of the file can be read.

    Raises:
        ValueError: If points are not a number from 0 to what the question is worth, a
            student is unknown, or the file is not CSV.
    """
    most = _written(course, name, cell)
    csv.field_size_limit(1 << 28)  # answers may hold pictures
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))[1:]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not a CSV file in UTF-8: {error}") from error
    marks = []
    with course.gradebook() as book:
        known = {s.student.id for s in book.assignment_submissions(name)}
    for number, row in enumerate(rows, start=2):
        student = row[0].removeprefix("'") if row else ""
        if len(row) < 3 or student not in known:
            raise ValueError(f"{path.name}, row {number}: no hand-in of {row[:1]}")
        if not row[2].strip():
            continue
        try:
            score = float(row[2].replace(",", "."))
        except ValueError:
            score = -1.0
        if not 0 <= score <= most:
            wanted = f"points from 0 to {most:g} were wanted"
            raise ValueError(f"{path.name}, row {number}: {wanted}, got {row[2]!r}")
        marks.append((student, score, row[3] if len(row) > 3 else ""))
    with course.gradebook() as book:
        for student, score, comment in marks:
            one = book.find_grade(cell, name, name, student)
            one.manual_score, one.needs_manual_grade = score, False
            book.find_comment(cell, name, name, student).manual_comment = comment
        book.db.commit()
    return len(marks)


def _written(course: Course, name: str, cell: str) -> float:
    written = worth(course, name, "written")
    if cell not in written:
        known = ", ".join(written) or "none"
        raise ValueError(f"no written question {cell!r} in {name}; known: {known}")
    return written[cell]


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
