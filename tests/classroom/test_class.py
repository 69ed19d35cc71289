"""A class of students, right, wrong, late, broken and hostile, from zip to grades."""

import csv
import multiprocessing
import os
import signal
import time
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from proving import HERE, solved, wrong_answers

from llmcourse.classroom import reporting
from llmcourse.classroom.assignments import grade_id, points, release
from llmcourse.classroom.collecting import UNTOUCHED
from llmcourse.classroom.course import Course

pytestmark = pytest.mark.classroom
NAME = "tokenization"
FULL = 14.0

HOSTILE = {
    # what a student writes in the cell of `merge`
    "endless": ("while True:\n    pass"),
    "deaf": (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "while True:\n    try:\n        while True: pass\n"
        "    except BaseException: pass"
    ),
    "exit": ("import os\nos._exit(0)"),
    "forks": ("import os\nwhile True:\n    os.fork()"),
    "memory": ("x = []\nwhile True:\n    x.append(bytearray(1 << 30))"),
    "file": ("open('big', 'wb').write(b'0' * (1 << 30))"),
    "network": ("import socket\nsocket.create_connection(('1.1.1.1', 53), 2)"),
    "reads": (
        "import pathlib\n"
        "found = [p for p in pathlib.Path('/').rglob('*.ipynb')]\n"
        "found += [p for p in pathlib.Path('/').rglob('gradebook.db')]\n"
        "assert not [p for p in found if 'tokenization' in str(p)]\n1 / 0"
    ),
    "equal": (
        "class Same:\n    def __eq__(self, other): return True\n"
        "    def __hash__(self): return 0\n"
        "def merge(ids, pair, new_id): return Same()"
    ),
    "patches": (
        "import builtins, torch, sys\n"
        "torch.equal = torch.allclose = lambda *a, **k: True\n"
        "builtins.all = builtins.any = lambda *a: True\n"
        "def merge(ids, pair, new_id): return ids"
    ),
    "asserts": (
        "import ast\n_parse = ast.parse\n"
        "class Drop(ast.NodeTransformer):\n"
        "    def visit_Assert(self, node): return ast.Pass()\n"
        "ast.parse = lambda *a, **k: Drop().visit(_parse(*a, **k))\n"
        "def merge(ids, pair, new_id): return ids"
    ),
    "printed": ("print('x' * (100 << 20))\nraise ValueError"),
}


def archive(source: NotebookNode, path: Path) -> dict[str, float | None]:
    """Write a class's hand-ins as Canvas does; return the expected points."""
    expected: dict[str, float | None] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:

        def add(name: str, text: str, earned: float | None, late: str = "") -> None:
            number = 100 + len(expected)
            expected[f"{name}_{number}"] = earned
            out.writestr(f"{name}_{late}{number}_9{number}_{NAME}-1.ipynb", text)

        worth = {grade_id(cell): points(cell) for cell in source.cells}
        for i in range(5):
            add(f"right{i}", nbformat.writes(solved(source)), FULL)
        add("late", nbformat.writes(solved(source)), FULL, late="LATE_")
        add("stub", nbformat.writes(release(source)), 0.0)
        add("broken", "{", None)
        add(
            "empty",
            '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
            None,
        )
        bare = solved(source)
        for cell in bare.cells:
            cell.metadata, cell.id = NotebookNode(), f"n{bare.cells.index(cell)}"
        add("bare", nbformat.writes(bare), FULL)
        edited = solved(source)
        for cell in edited.cells:
            if grade_id(cell).startswith("test"):
                cell.source, cell.metadata["nbgrader"]["points"] = "pass", 100
        add("edited", nbformat.writes(edited), FULL)
        copied = solved(source)
        index = next(i for i, c in enumerate(copied.cells) if grade_id(c) == "merge")
        copied.cells.insert(index, NotebookNode(copied.cells[index]))
        add("copied", nbformat.writes(copied), FULL)
        split = solved(source)
        head = nbformat.v4.new_code_cell("import math")
        split.cells.insert(index, head)
        del split.cells[index + 2]  # the visible test
        add("split", nbformat.writes(split), FULL)
        huge = solved(source)
        text = "x" * (100 << 20)
        huge.cells[index].outputs = [nbformat.v4.new_output("stream", text=text)]
        add("huge", nbformat.writes(huge), FULL)
        add("bomb", " " * (200 << 20), None)
        out.writestr(f"../../dots_500_9_{NAME}.ipynb", nbformat.writes(solved(source)))
        expected["dots_500"] = FULL
        link = zipfile.ZipInfo(f"link_501_9_{NAME}.ipynb")
        link.external_attr = 0o120777 << 16
        out.writestr(link, "/etc/passwd")
        expected["link_501"] = None
        for name, cell, fails, code in wrong_answers(NAME):
            text = nbformat.writes(solved(source, **{cell: code}))
            add(name, text, FULL - sum(worth[test] for test in fails))
        # what needs `merge` is lost with it, and nothing else
        for name, code in HOSTILE.items():
            text = nbformat.writes(solved(source, merge=code))
            add(name, text, 6)  # pair-counts, decode and bits-per-byte
    return expected


def entered(course: Course) -> dict[Path, int]:
    """Return the results that are in the gradebook, and when each was written."""
    folder = course.folder / "results" / NAME
    done = [o for o in course.outcomes(NAME) if o.earned is not None and o.entered]
    paths = [folder / f"{outcome.student}.json" for outcome in done]
    return {path: path.stat().st_mtime_ns for path in paths}


def run(folder: Path) -> None:
    Course(folder).grade(NAME)


@pytest.fixture(scope="module")
def graded(
    tmp_path_factory: pytest.TempPathFactory, sandbox: None
) -> tuple[Course, dict[str, float | None]]:
    """A class that was graded, killed in the middle, and graded on."""
    folder = tmp_path_factory.mktemp("class") / "course"
    course = Course.init(folder, HERE, [NAME])
    settings = (
        (folder / "course.json").read_text().replace('"seconds": 30', '"seconds": 8')
    )
    (folder / "course.json").write_text(settings)
    course = Course(folder)
    expected = archive(course.source(NAME), folder.parent / "all.zip")
    course.collect(NAME, folder.parent / "all.zip")
    grading = multiprocessing.get_context("spawn").Process(target=run, args=(folder,))
    grading.start()
    while grading.is_alive() and len(entered(course)) < 3:
        time.sleep(0.2)
    assert grading.pid is not None
    os.kill(grading.pid, signal.SIGKILL)
    grading.join()
    before = entered(course)
    assert len(before) >= 3
    course.grade(NAME)
    after = entered(course)
    assert {path: after[path] for path in before} == before  # graded once, not again
    return course, expected


def test_everyone_has_the_points_that_they_deserve(
    graded: tuple[Course, dict[str, float | None]],
) -> None:
    course, expected = graded
    given = {
        o.student: None if o.earned is None else sum(o.earned.values())
        for o in course.outcomes(NAME)
    }
    assert given == expected


def test_the_gradebook_says_the_same(
    graded: tuple[Course, dict[str, float | None]],
) -> None:
    course, expected = graded
    written = reporting.worth(course, NAME, "written")
    for student, own in course.scores(NAME).items():
        tests = [score for cell, score in own.items() if cell not in written]
        assert sum(score or 0.0 for score in tests) == expected[student], student


def test_who_cannot_be_graded_has_no_grade(
    graded: tuple[Course, dict[str, float | None]], tmp_path: Path
) -> None:
    course, expected = graded
    path = reporting.export(course, NAME, tmp_path / "grades.csv")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(expected)
    for student in [name for name, earned in expected.items() if earned is None]:
        assert set(rows[student].values()) == {student, ""}
    # a written answer waits for a teacher
    assert all(
        row[f"{NAME} (of 20)"] == "" for row in rows.values() if row["numbers"] == ""
    )


def test_what_a_teacher_should_look_at(
    graded: tuple[Course, dict[str, float | None]],
) -> None:
    course, _ = graded
    flags = {o.student.split("_")[0]: o.flags for o in course.outcomes(NAME) if o.flags}
    assert {"endless", "deaf", "exit", "broken"} <= set(flags)
    assert not [name for name in flags if name.startswith(("right", "late"))]
    assert flags["stub"] == [UNTOUCHED]
    assert any("switched off" in flag for flag in flags["asserts"])


def test_written_answers_go_out_and_come_back(
    graded: tuple[Course, dict[str, float | None]], tmp_path: Path
) -> None:
    course, _ = graded
    path = tmp_path / "numbers.csv"
    assert reporting.export_written(course, NAME, "numbers", path) > 20
    with path.open(newline="", encoding="utf-8-sig") as file:
        head, *rows = list(csv.reader(file))
    for wrong in ("4", "-1", "many"):
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([head, [*rows[0][:2], wrong, ""]])
        with pytest.raises(ValueError, match="points from 0 to 3"):
            reporting.import_written(course, NAME, "numbers", path)
    student = next(row[0] for row in rows if row[0].startswith("right0"))
    for cell in ("numbers", "why-subwords"):
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([head, [student, "", "2,5", "Good: both cuts."]])
        assert reporting.import_written(course, NAME, cell, path) == (1, 1, [])
    assert course.scores(NAME)[student]["numbers"] == 2.5
    made = reporting.export(course, NAME, tmp_path / "grades.csv", "canvas")
    with made.open(newline="") as file:
        rows_of = {row["Student"]: row[NAME] for row in csv.DictReader(file)}
    assert rows_of["right0"] == "19"


def test_feedback_shows_messages_and_no_hidden_test(
    graded: tuple[Course, dict[str, float | None]], tmp_path: Path
) -> None:
    course, _ = graded
    source = course.source(NAME)
    pages = course.feedback(NAME)
    [page] = [p for p in pages if "merge-in-place" in str(p)]
    text = page.read_text(encoding="utf-8")
    assert "merge must not change the list that it is given" in text
    hidden = next(c.source for c in source.cells if grade_id(c) == "hidden-merge")
    assert not [
        line for line in hidden.splitlines() if line[:6] == "assert" and line in text
    ]
    with zipfile.ZipFile(reporting.pack(pages, tmp_path / "pages.zip")) as archive:
        assert len(archive.namelist()) == len(pages)
        name = f"right0_100_assignsubmission_file_{NAME}.html"
        assert (
            archive.read(name)
            == pages[0]
            .parents[2]
            .joinpath("right0_100", NAME, f"{NAME}.html")
            .read_bytes()
        )


def test_a_hard_test_is_told_from_an_easy_one(
    graded: tuple[Course, dict[str, float | None]],
) -> None:
    course, _ = graded
    found = reporting.items(course.scores(NAME), reporting.worth(course, NAME))
    hard = {item.name: item for item in found}
    assert hard["hidden-merge"].mean_score < hard["hidden-bits-per-byte"].mean_score


def test_what_has_changed_is_graded_again(
    graded: tuple[Course, dict[str, float | None]],
) -> None:
    course, _ = graded
    path = course.folder / "sources" / f"{NAME}.py"
    text = path.read_text()
    try:
        path.write_text(text.replace('test="merge" points=1', 'test="merge" points=2'))
        again = {o.student: o for o in course.grade(NAME)}
        assert again["right0_100"].earned["test-merge"] == 2
        assert sum(again["right1_101"].earned.values()) == FULL + 1
        assert course.scores(NAME)["right0_100"]["numbers"] == 2.5  # given by hand
    finally:
        path.write_text(text)


def test_alike_are_those_that_are(
    graded: tuple[Course, dict[str, float | None]],
) -> None:
    course, _ = graded
    pairs = reporting.alike(course, NAME, least=0.99)
    assert any({a[:6], b[:6]} == {"right0", "right1"} for _, a, b in pairs)
    assert not [pair for pair in pairs if "stub" in pair[1] + pair[2]]
