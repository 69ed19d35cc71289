"""Grade a hand-in: its code in one process, the tests in another.

The student's cells run in the student's process. A cell with tests runs here, from the
assignment's source, so what a student may have changed in it does not count. In it, the
student's functions are calls to that process (`Function`), so a test compares plain
values, with an untampered `torch` and `assert`.
"""

import ast
import contextlib
import io
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output

from llmcourse.classroom.assignments import (
    defined,
    grade_id,
    is_answer,
    is_given,
    is_test,
    points,
)
from llmcourse.classroom.child import without_magics
from llmcourse.classroom.student import Function, StoppedError, Student


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one test cell.

    Attributes:
        name: The cell's name.
        points: What it is worth.
        message: What is wrong, in the test's words; empty if nothing is.
    """

    name: str
    points: float
    message: str = ""

    @property
    def is_passed(self) -> bool:
        """Whether nothing is wrong, also where the test is worth no points."""
        return not self.message

    @property
    def earned(self) -> float:
        """All of its points, or 0."""
        return self.points if self.is_passed else 0.0


@dataclass(frozen=True, kw_only=True)
class Graded:
    """The results of a hand-in's code.

    Attributes:
        results: One for each test, in order.
        flags: What a teacher should look at.
        errors: What cells other than tests raised when they were run.
    """

    results: list[Result]
    flags: list[str]
    errors: list[str]

    @property
    def earned(self) -> float:
        """Points earned in all tests."""
        return sum(result.earned for result in self.results)

    @property
    def points(self) -> float:
        """Points that the tests can give."""
        return sum(result.points for result in self.results)


@contextlib.contextmanager
def _modules_kept() -> Iterator[None]:
    """Restore, at the end, the modules that an assignment's first cell blocks."""
    before = dict(sys.modules)
    try:
        yield
    finally:
        for name in [name for name, module in sys.modules.items() if module is None]:
            del sys.modules[name]
            if before.get(name) is not None:
                sys.modules[name] = before[name]


@_modules_kept()
def grade(source: NotebookNode, hand_in: NotebookNode, student: Student) -> Graded:
    """Run a hand-in and its tests; write each cell's outputs into the hand-in.

    Args:
        source: The assignment's source (`assignments.read_source`).
        hand_in: The hand-in, with the release's cells in it (`collecting.lay`).
        student: The process for its code.
    """
    own = {grade_id(cell): cell for cell in source.cells if grade_id(cell)}
    names: dict[str, Any] = {"__name__": "tests"}
    remote: dict[str, bool] = {}
    for cell in source.cells:
        if is_answer(cell) and cell.cell_type == "code":
            remote |= defined(cell.source)
    results, flags, errors = [], [], []
    not_run: dict[str, str] = {}  # why, for each name that a cell was to define
    stopped: dict[str, str] = {}  # why, for each test
    for number, cell in enumerate(hand_in.cells, start=1):
        if cell.cell_type != "code":
            continue
        cell.execution_count, cell.outputs = number, []
        name = grade_id(cell)
        ours = own.get(name)
        if ours is not None and is_test(ours):
            cell.source = ours.source
            code = without_magics(ours.source)
            try:
                empty = not ast.parse(code).body
            except SyntaxError:
                if source is not hand_in:
                    raise
                empty = False  # a student checks this notebook: the test tells
            if empty:
                continue  # a hidden test, and this is the release
            error, printed = _test(code, names, remote, student)
            message = _message(error, not_run, "BEGIN HIDDEN" in ours.source)
            if isinstance(error, StoppedError):
                stopped[name] = str(error)
            results.append(Result(name=name, points=points(ours), message=message))
            if error:
                cell.outputs = [_error(type(error).__name__, message, message)]
        else:
            if ours is not None and is_given(ours):
                cell.source = ours.source
                try:
                    code = without_magics(ours.source)
                    exec(compile(code, f"<{name}>", "exec"), names)
                except Exception as error:
                    if source is not hand_in:
                        raise
                    errors.append(f"cell {name}: {_message(error)}")
            title = name or f"number {number}"
            ran = student.run(cell.source, title)
            printed = ran.printed
            if ran.error:
                cell.outputs = [_error(ran.error, ran.message, ran.traceback)]
            if ran.error and ours is not None:
                why = ran.message if ran.error == "Stopped" else ran.error
                not_run |= dict.fromkeys(defined(ours.source), why)
            if ran.error == "Stopped":
                flags.append(f"cell {title}: {ran.message}")
            elif ran.error:
                errors.append(f"cell {title}: {ran.error}: {ran.message}")
        if printed:
            cell.outputs.insert(0, new_output("stream", name="stdout", text=printed))
    if stopped:
        why = next(iter(stopped.values()))
        flags.append(f"code was stopped in {', '.join(stopped)}: {why}")
    if student.run("assert False").error not in ("AssertionError", "Stopped"):
        flags.append("assertions are switched off in this notebook")
    return Graded(results=results, flags=flags, errors=errors)


def _test(
    code: str, names: dict[str, Any], remote: dict[str, bool], student: Student
) -> tuple[BaseException | None, str]:
    """Run a cell with tests; return its error, if any, and what it printed."""
    printed = io.StringIO()
    for name, is_function in remote.items():
        names[name] = Function(student, name)
        if not is_function:
            try:
                names[name] = student.ask("get", name)
            except Exception:
                names.pop(name)
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "<test>", "exec"), names)
    except Exception as error:
        return error, printed.getvalue()
    return None, printed.getvalue()


def _message(
    error: BaseException | None,
    not_run: dict[str, str] | None = None,
    is_hidden: bool = False,
) -> str:
    """Return what is wrong, for the student to read.

    Args:
        error: What the test raised, if anything.
        not_run: The names whose cells raised an error, and which.
        is_hidden: Whether the student can't see the test, nor count its lines.
    """
    if error is None:
        return ""
    if isinstance(error, NotImplementedError):
        return "not done yet"
    if isinstance(error, StoppedError):
        return f"your code was stopped: {error}"
    if isinstance(error, NameError):
        name = re.search(r"^name '(\w+)' is not defined$", str(error))
        if name and (why := (not_run or {}).get(name[1])):
            return (
                f"`{name[1]}` is not defined: its cell did not run ({why}). "
                "Mend that first."
            )
    if isinstance(error, AssertionError) and str(error):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    line = max((f.lineno or 0 for f in frames if f.filename == "<test>"), default=0)
    message = f"{type(error).__name__}: {str(error).strip() or 'no message'}"
    return message if is_hidden else f"{message} (line {line} of the test)"


def _error(name: str, message: str, text: str) -> NotebookNode:
    made: NotebookNode = new_output(
        "error", ename=name, evalue=message, traceback=text.splitlines()
    )
    return made


def score_card(graded: Graded) -> Iterator[str]:
    """Yield the lines of a score card."""
    yield from graded.errors
    width = max((len(result.name) for result in graded.results), default=0)
    for result in graded.results:
        mark = "ok" if result.is_passed else "--"
        earned = f"{result.earned:g}/{result.points:g}"
        yield f"{mark}  {result.name:{width}}  {earned:>5}  {result.message}".rstrip()
    yield (
        f"{graded.earned:g} of {graded.points:g} points from the tests that are shown; "
        "hidden tests and written answers give the others"
    )
    yield from (f"look at this: {flag}" for flag in graded.flags)
