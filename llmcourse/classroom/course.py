"""A class's private folder: sources, hand-ins, grades.

    sources/NAME.py          the assignments, which a teacher may change
    release/NAME/            what students get
    course.json              settings: see SETTINGS, and `opening`
    submitted/STUDENT/NAME/  hand-ins, laid onto the release
    collected/NAME/          notes on what `collect` repaired
    results/NAME/            outcomes: STUDENT.json, STUDENT.ipynb
    roster.json              who is in the class, if that is known
    autograded/, feedback/, gradebook.db, nbgrader_config.py   nbgrader's

nbgrader (https://nbgrader.readthedocs.io) keeps the grades, and its Formgrader shows
them in JupyterLab. It is not asked to run hand-ins: see `grading`.
"""

import copy
import hashlib
import logging
import os
import random
import shutil
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import chdir
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import nbformat
from nbformat import NotebookNode

from llmcourse.arguments import check_one_of
from llmcourse.classroom.assignments import (
    data_of,
    grade_id,
    is_answer,
    read_source,
    release,
    write,
)
from llmcourse.classroom.collecting import (
    DOUBTFUL,
    UNTOUCHED,
    HandIn,
    choose,
    counted,
    read,
    student_name,
)
from llmcourse.classroom.feedback import finished
from llmcourse.classroom.grading import Graded, grade
from llmcourse.classroom.opening import (
    ASSISTANTS,
    check_settings,
    homepage,
    with_opening,
)
from llmcourse.classroom.pages import render
from llmcourse.classroom.sandbox import MISSING, available
from llmcourse.classroom.student import Student
from llmcourse.files import write_file, write_json
from llmcourse.model.folders import read_json
from llmcourse.processes import process_pool

CHANGED = "{} changed after you marked it ({:g} points)"
SETTINGS: dict[str, Any] = {
    "seed": 1,  # of the inputs that hidden tests draw; `init` draws another
    "seconds": 30,  # for one cell, or one call of a student's function
    "memory_gib": 6,  # for one hand-in
    "repository": homepage(),
    "site": "",
    "hand_in": "",
    "due": {},
    "late": "",
    "assistants": ASSISTANTS,
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is known about one hand-in.

    Attributes:
        student: The student's name.
        earned: Points by test; `None` if its code could not be graded.
        messages: Messages of the failed tests.
        flags: What a teacher should look at.
        notes: What `collect` repaired.
        key: Digest of what was graded: source, hand-in and seed.
        entered: Whether the gradebook has it.
    """

    student: str
    earned: dict[str, float] | None
    messages: dict[str, str]
    flags: list[str]
    notes: list[str]
    key: str
    entered: bool = False


class Course:
    """A course's folder.

    Raises:
        ValueError: If the folder is not a course's, or as in `opening.check_settings`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        if not (self.folder / "course.json").is_file():
            raise ValueError(
                f"no course in {self.folder} (no course.json); change to your course "
                "folder, give --course, or make one with llmcourse course init"
            )
        self.settings = SETTINGS | read_json(self.folder / "course.json")
        check_settings(self.settings)

    @classmethod
    def init(cls, folder: Path, sources: Path, names: Sequence[str] = ()) -> "Course":
        """Make a course's folder from sources of assignments, all or some.

        Raises:
            ValueError: If the folder is not empty, or an assignment or all sources do
                not exist.
        """
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(
                f"{folder} is not empty; llmcourse course add gives a course more "
                "assignments"
            )
        cls._find(sources, names)  # before anything is written
        (folder / "sources").mkdir(parents=True)
        write_file(folder / "nbgrader_config.py", render("nbgrader_config.py.txt"))
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        seed = random.SystemRandom().randrange(1, 1 << 31)
        write_json(folder / "course.json", SETTINGS | {"seed": seed})
        course = cls(folder)
        course.add(sources, names)
        return course

    @staticmethod
    def _find(sources: Path, names: Sequence[str]) -> list[Path]:
        """Return the sources of assignments, all or some."""
        if not sources.is_dir():
            raise ValueError(
                f"there are no sources in {sources}: they hold the solutions, so they "
                "are not in the package; run this in a clone of the repository, or "
                "give --sources CLONE/tests/assignments"
            )
        found = {path.stem: path for path in sorted(sources.glob("*.py"))}
        found.pop("proving", None)  # proves the others
        for name in names:
            check_one_of("assignment", name, found)
        return [found[name] for name in names or found]

    def add(self, sources: Path, names: Sequence[str] = ()) -> list[str]:
        """Add assignments, all that are missing or some; return their names.

        Raises:
            ValueError: If an assignment or all sources do not exist, or the course has
                it already.
        """
        own = self.assignments
        if twice := [name for name in names if name in own]:
            raise ValueError(f"{self.folder} already has {', '.join(twice)}")
        chosen = [p for p in self._find(sources, names) if p.stem not in own]
        for path in chosen:
            shutil.copy(path, self.folder / "sources" / path.name)
            if data := data_of(path):
                shutil.copytree(data, self.folder / "sources" / path.stem)
        return [path.stem for path in chosen]

    @property
    def assignments(self) -> list[str]:
        """The names of the assignments."""
        return sorted(path.stem for path in (self.folder / "sources").glob("*.py"))

    def roster(self) -> list[str]:
        """Return who is in the class; nobody if that is not known."""
        path = self.folder / "roster.json"
        return list(read_json(path)["students"]) if path.exists() else []

    def path(self, name: str) -> Path:
        """Return the file of an assignment's source.

        Raises:
            ValueError: If there is none of that name.
        """
        check_one_of("assignment", name, self.assignments)
        return self.folder / "sources" / f"{name}.py"

    def source(self, name: str) -> NotebookNode:
        """Return an assignment's source, or raise as `path`."""
        return read_source(self.path(name))

    def written(self, name: str, cell: str | None = None) -> list[NotebookNode]:
        """Return the cells of all written questions in the source, or of one.

        Raises:
            ValueError: As `path`, or if there is no such question.
        """
        cells = self.source(name).cells
        found = [c for c in cells if is_answer(c) and c.cell_type == "markdown"]
        if cell is not None:
            check_one_of("written question", cell, [grade_id(c) for c in found])
        return [c for c in found if cell in (None, grade_id(c))]

    def guide(self, name: str, cell: str | None = None) -> dict[str, str]:
        """Return the model answer and marks of each of the `written` questions."""
        return {grade_id(c): c.source for c in self.written(name, cell)}

    def for_students(self, name: str) -> NotebookNode:
        """Return an assignment's source with the cell that this class's opens with.

        Raises:
            ValueError: As `path`, or if a setting has another form.
        """
        return with_opening(self.source(name), self.settings)

    def release(self, name: str) -> Path:
        """Enter an assignment into the gradebook; return the path of the release.

        Raises:
            ValueError: As `for_students`, or if the gradebook has grades for other
                cells than the source has.
        """
        source, for_students = self.source(name), self.for_students(name)
        self._check_cells(name, source)  # before anything is written
        folder = self.folder / "source" / name
        folder.mkdir(parents=True, exist_ok=True)
        if data := data_of(self.path(name)):
            shutil.copytree(data, folder, dirs_exist_ok=True)
        write(source, folder / f"{name}.ipynb")
        self._nbgrader("generate_assignment", name)
        released = self.folder / "release" / name / f"{name}.ipynb"
        write(release(for_students), released)
        write_file(released.parent / "AGENTS.md", render("AGENTS.md"))
        return released

    def unsolved(self, name: str) -> dict[str, str]:
        """Return the tests that the source's own answers fail, with their messages.

        They run without a sandbox.

        Raises:
            ValueError: As `path`, or if the source is not an assignment's.
        """
        source = self.source(name)
        with process_pool(1) as pool:
            graded, _ = pool.submit(_run, self, name, source, source, True).result()
        failed = {r.name: r.message for r in graded.results if r.message}
        return failed | dict.fromkeys(graded.errors, "")

    def _check_cells(self, name: str, source: NotebookNode) -> None:
        with self.gradebook() as book:
            entered = [a.notebooks for a in book.assignments if a.name == name]
            graded = [n for found in entered for n in found if n.submissions]
            old = {cell.name for n in graded for cell in n.source_cells}
        new = {grade_id(cell) for cell in source.cells if grade_id(cell)}
        if old and old != new:
            raise ValueError(
                f"{name} is graded, so its cells must keep their names, none added and "
                f"none removed; missing: {', '.join(sorted(old - new)) or 'none'}; "
                f"new: {', '.join(sorted(new - old)) or 'none'}"
            )

    def collect(
        self, name: str, place: Path, *, keep: Literal["first", "latest"] = "latest"
    ) -> list[HandIn]:
        """Store what was handed in; return it with notes on what was repaired.

        Points that were given by hand for an answer are taken back if it has changed. A
        notebook that cannot be read, or has no answer, never replaces an earlier one.

        Args:
            name: The assignment.
            place: A folder or an archive.
            keep: Which hand-in counts for a student who has already handed in.

        Raises:
            ValueError: If there is no hand-in, or all are of other assignments.
        """
        released = release(self.for_students(name))
        if not (hand_ins := read(place)):
            raise ValueError(f"{place} holds no hand-in")
        notebooks = [choose(hand_in, released) for hand_in in hand_ins]
        others = [hand_in for hand_in in hand_ins if hand_in.is_other]
        if others and not any(hand_in.readable for hand_in in hand_ins):
            among = counted(len(hand_ins), "hand-in")
            first = f"{others[0].student}: {others[0].notes[-1]}"
            raise ValueError(
                f"{place}: no notebook of {name} in {among} ({first}); "
                "is it the right place?"
            )
        for hand_in, notebook in zip(hand_ins, notebooks, strict=True):
            student = hand_in.student
            path, state = self._hand_in(name, student), self._state(name, student)
            for file in (path, state):
                file.parent.mkdir(parents=True, exist_ok=True)
            before = self.collected(name, student)
            changed: dict[str, float] = {}
            earlier = path.exists() and before["readable"]
            empty = not hand_in.readable or UNTOUCHED in hand_in.notes
            if earlier and (keep == "first" or empty):
                hand_in.readable, hand_in.late = True, before["late"]
                hand_in.notes = [n for n in hand_in.notes if n != UNTOUCHED]
                hand_in.notes += [UNTOUCHED] * (UNTOUCHED in before["notes"])
                hand_in.notes.append("the earlier hand-in counts")
            else:
                if earlier:
                    changed = self._unmark(name, student, notebook)
                    hand_in.notes += [CHANGED.format(*one) for one in changed.items()]
                    if hand_in.late and not before["late"]:
                        hand_in.notes.append("it replaces one that was in time")
                write(notebook, path)
            found = {
                "late": hand_in.late,
                "notes": hand_in.notes,
                "readable": hand_in.readable,
                "changed": before["changed"] | changed,
            }
            write_json(state, found)
        return hand_ins

    def _unmark(
        self, name: str, student: str, notebook: NotebookNode
    ) -> dict[str, float]:
        """Take back the points of answers that have changed; return these points."""
        old = {grade_id(c): c.source for c in self.submission(name, student).cells}
        new = {grade_id(c): c.source for c in notebook.cells if is_answer(c)}
        other = [cell for cell, text in new.items() if text != old.get(cell)]
        taken = {}
        with self.gradebook() as book:
            for one in self._grades(book, name).get(student, []):
                if one.name in other and one.manual_score is not None:
                    taken[one.name] = one.manual_score
                    one.manual_score, one.needs_manual_grade = None, True
            book.db.commit()
        return taken

    def submitted(self, name: str) -> list[str]:
        """Return the students who have handed in.

        Raises:
            ValueError: If there is no such assignment, or nobody has.
        """
        self.path(name)
        found = (self.folder / "submitted").glob(f"*/{name}/{name}.ipynb")
        students = sorted(path.parents[1].name for path in found)
        if not students:
            raise ValueError(
                f"nothing collected for {name}: run `llmcourse course collect` first"
            )
        return students

    def _hand_in(self, name: str, student: str) -> Path:
        return self.folder / "submitted" / student / name / f"{name}.ipynb"

    def _state(self, name: str, student: str) -> Path:
        return self.folder / "collected" / name / f"{student}.json"

    def collected(self, name: str, student: str) -> dict[str, Any]:
        """Return what `collect` found out about a hand-in."""
        path = self._state(name, student)
        found = {"late": False, "notes": [], "readable": True, "changed": {}}
        return found | (read_json(path) if path.exists() else {})

    def submission(self, name: str, student: str) -> NotebookNode:
        """Return what a student handed in, as it is graded."""
        notebook: NotebookNode = nbformat.read(self._hand_in(name, student), 4)
        return notebook

    def outcomes(self, name: str) -> list[Outcome]:
        """Return the outcomes of all graded hand-ins that are still there."""
        found = sorted((self.folder / "results" / name).glob("*.json"))
        found = [path for path in found if self._hand_in(name, path.stem).exists()]
        return [Outcome(**read_json(path)) for path in found]

    def grade(
        self,
        name: str,
        *,
        unsafe: bool = False,
        again: bool = False,
        workers: int = 2,
        progress: Callable[[int, int], object] = lambda done, of: None,
    ) -> list[Outcome]:
        """Grade what has not been graded yet, or has changed since.

        It may be stopped at any time; the next call goes on from there. A hand-in that
        kills its grading process gets a flag, and the others are graded.

        Args:
            name: The assignment.
            unsafe: Run without a sandbox.
            again: Grade all; points that a teacher has given stay in the gradebook.
            workers: Processes at once.
            progress: Called after each hand-in, with the numbers done and in all.

        Raises:
            OSError: If no sandbox can be made here, and `unsafe` is false.
        """
        if not unsafe and not available():
            raise OSError(MISSING)
        source = self.source(name)
        made = self.folder / "source" / name / f"{name}.ipynb"
        text = nbformat.writes(source) + "\n"
        if not made.exists() or made.read_text(encoding="utf-8") != text:
            self.release(name)  # also if the source has changed since
        (self.folder / "results" / name).mkdir(parents=True, exist_ok=True)
        known = {o.student: o for o in self.outcomes(name) if not again}
        students = self.submitted(name)
        todo = []
        for student in students:
            outcome = known.get(student)
            key = self._key(name, student, source)
            if not self.collected(name, student)["readable"]:
                self._keep(name, self._outcome(name, student, source, None))
            elif outcome is None or outcome.earned is None or outcome.key != key:
                todo.append(student)
            elif not outcome.entered:
                self._keep(name, outcome)
        done = len(students) - len(todo)
        progress(done, len(students))
        work = partial(_grade_one, self, name, source, unsafe)
        apart = False  # one at a time, once a grading process has died
        while todo:
            batch = todo[:1] if apart else list(todo)
            with process_pool(workers) as pool:
                jobs = {pool.submit(work, s): s for s in batch}
                for job in as_completed(jobs):
                    student, error = jobs[job], job.exception()
                    if isinstance(error, BrokenProcessPool) and not apart:
                        continue  # running each alone will show which one killed it
                    outcome = self._outcome(name, student, source, error)
                    if error is None:
                        graded = job.result()
                        flags = outcome.flags + graded.pop("flags")
                        outcome = replace(outcome, flags=flags, **graded)
                    self._keep(name, outcome)
                    todo.remove(student)
                    done += 1
                    progress(done, len(students))
            apart = True
        return self.outcomes(name)

    def stale(self, name: str) -> list[str]:
        """Return whose points are of an earlier hand-in, source or seed."""
        source = self.source(name)
        graded = [o for o in self.outcomes(name) if o.earned is not None]
        return [
            o.student for o in graded if o.key != self._key(name, o.student, source)
        ]

    def _key(self, name: str, student: str, source: NotebookNode) -> str:
        """Return a digest of what a grade depends on."""
        digest = hashlib.sha256(self._hand_in(name, student).read_bytes())
        digest.update(nbformat.writes(source).encode())
        digest.update(str(self.settings["seed"]).encode())
        return digest.hexdigest()

    def _outcome(
        self, name: str, student: str, source: NotebookNode, error: BaseException | None
    ) -> Outcome:
        """Return a hand-in's outcome before its tests are run."""
        state = self.collected(name, student)
        notes = state["notes"] + ["late"] * state["late"]
        flags = [f"not graded: {type(error).__name__}: {error}"] if error else []
        flags += filter(DOUBTFUL.fullmatch, state["notes"] if state["readable"] else [])
        if not state["readable"]:
            flags.append(f"not graded: {'; '.join(state['notes'])}")
        key = self._key(name, student, source)
        return Outcome(
            student=student, earned=None, messages={}, flags=flags, notes=notes, key=key
        )

    def _keep(self, name: str, outcome: Outcome) -> None:
        """Store an outcome; enter it into the gradebook, or flag that this failed."""
        path = self.folder / "results" / name / f"{outcome.student}.json"
        write_json(path, asdict(outcome))
        if outcome.earned is None:
            return
        refused = "not entered into the gradebook"
        flags = [flag for flag in outcome.flags if not flag.startswith(refused)]
        try:
            self._nbgrader("autograde", name, outcome.student)
        except ValueError as error:
            outcome = replace(
                outcome, flags=[*flags, f"{refused}: {str(error)[-300:]}"]
            )
        else:
            outcome = replace(outcome, flags=flags, entered=True)
        write_json(path, asdict(outcome))

    def _nbgrader(self, action: str, *arguments: str) -> None:
        """Run an action of nbgrader.

        Raises:
            ValueError: If it fails.
        """
        result = getattr(self._api(), action)(*arguments)
        if not result["success"]:
            raise ValueError(f"nbgrader {action} failed: {result['error']}"[-1500:])

    def _api(self) -> Any:
        from nbgrader.apps import NbGraderAPI
        from nbgrader.coursedir import CourseDirectory
        from traitlets.config.loader import PyFileConfigLoader

        warnings.filterwarnings("ignore", module="nbgrader|nbconvert|sqlalchemy")
        with chdir(self.folder):
            config = PyFileConfigLoader("nbgrader_config.py").load_config()
        config.CourseDirectory.root = str(self.folder)
        config.Exchange.root = str(self.folder / "exchange")
        api = NbGraderAPI(CourseDirectory(config=config), config=config)
        api.log_level = logging.ERROR
        return api

    def feedback(self, name: str) -> list[Path]:
        """Write each student's page of points, messages, comments; return the paths.

        A student who handed in nothing readable gets a page that says so.
        """
        paths, scores = [], self.scores(name)
        outcomes = {o.student: o for o in self.outcomes(name)}
        for student in self.submitted(name):
            path = self.folder / "feedback" / student / name / f"{name}.html"
            outcome, state = outcomes.get(student), self.collected(name, student)
            if not state["readable"]:
                page = render("unreadable.html", name=name, reasons=state["notes"])
                path.parent.mkdir(parents=True, exist_ok=True)
            elif outcome is not None and outcome.earned is not None and outcome.entered:
                self._nbgrader("generate_feedback", name, student)
                own = scores[student].items()
                waiting = [cell for cell, score in own if score is None]
                page = finished(path.read_text(encoding="utf-8"), waiting)
            else:
                continue
            write_file(path, page)
            paths.append(path)
        return paths

    def gradebook(self) -> Any:
        """Return nbgrader's gradebook, for use in a `with` block."""
        from nbgrader.api import Gradebook

        return Gradebook(f"sqlite:///{self.folder}/gradebook.db", "llmcourse")

    def scores(self, name: str) -> dict[str, dict[str, float | None]]:
        """Return each student's points by cell; `None` where nobody has graded yet.

        Points from before a hand-in that could not be graded are left out.
        """
        entered = {o.student for o in self.outcomes(name) if o.entered}
        with self.gradebook() as book:
            return {
                student: {
                    # Where nobody has graded, nbgrader's score is 0.
                    one.name: None
                    if one.manual_score is None and one.auto_score is None
                    else one.score
                    for one in grades
                }
                for student, grades in self._grades(book, name).items()
                if student in entered
            }

    def _grades(self, book: Any, name: str) -> dict[str, list[Any]]:
        """Return the gradebook's entries for each student."""
        return {
            submission.student.id: [g for n in submission.notebooks for g in n.grades]
            for submission in book.assignment_submissions(name)
        }


def _grade_one(
    course: Course, name: str, source: NotebookNode, unsafe: bool, student: str
) -> dict[str, Any]:
    """Run a hand-in and its tests; write the notebook that was run."""
    assert student == student_name(student)
    hand_in = course.submission(name, student)
    graded, ran = _run(course, name, source, hand_in, unsafe)
    write(ran, course.folder / "results" / name / f"{student}.ipynb")
    return {
        "earned": {result.name: result.earned for result in graded.results},
        "messages": {r.name: r.message for r in graded.results if r.message},
        "flags": graded.flags,
    }


def _run(
    course: Course,
    name: str,
    source: NotebookNode,
    notebook: NotebookNode,
    unsafe: bool,
) -> tuple[Graded, NotebookNode]:
    """Run a notebook and its tests; return the results, and a copy with outputs."""
    os.environ["LLMCOURSE_SEED"] = str(course.settings["seed"])
    ran = copy.deepcopy(notebook)
    with Student(
        course.settings["seconds"],
        memory=course.settings["memory_gib"] << 30,
        data=data_of(course.path(name)),
        blocked=source.metadata["llmcourse"]["blocked"],
        unsafe=unsafe,
    ) as process:
        return grade(source, ran, process), ran
