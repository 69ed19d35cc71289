"""The command `course`: a class, from the release of an assignment to its grades."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from llmcourse.cli import COMMANDS, group
from llmcourse.cli.console import bars, out, say
from llmcourse.cli.options import Quiet
from llmcourse.extras import needed_for
from llmcourse.files import write_json

if TYPE_CHECKING:
    from llmcourse.classroom.course import Course

course = group(help=COMMANDS["course"], no_args_is_help=True, add_completion=False)
written = group(help="Grade written answers in bulk.", no_args_is_help=True)
course.add_typer(written, name="written")

Name = Annotated[str, typer.Argument(help="An assignment.")]
Folder = Annotated[Path, typer.Option("--course", help="The course's folder.")]
Sources = Annotated[Path, typer.Option(help="The folder tests/assignments of a clone.")]
HERE, SOURCES = Path(), Path("tests/assignments")


def _course() -> type["Course"]:
    with needed_for("course", "classroom"):
        from llmcourse.classroom.course import Course
    return Course


def _opened(folder: Path) -> "Course":
    return _course()(folder)


def _warn_of_stale(own: "Course", name: str) -> None:
    from llmcourse.classroom.collecting import counted

    if n := len(own.stale(name)):
        before = f"{counted(n, 'hand-in')} with points from before a change"
        say(f"{before}: run `llmcourse course grade {name}` again")


@course.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder; keep it private.")],
    names: Annotated[
        list[str] | None, typer.Argument(help="Assignments. Default: all.")
    ] = None,
    sources: Sources = SOURCES,
) -> None:
    """Make a course's folder, with the assignments' sources and nbgrader's settings."""
    made = _course().init(folder, sources, names or ())
    out.print(f"{folder}: {', '.join(made.assignments)}")


@course.command()
def add(
    names: Annotated[
        list[str] | None, typer.Argument(help="Assignments. Default: all others.")
    ] = None,
    sources: Sources = SOURCES,
    folder: Folder = HERE,
) -> None:
    """Add assignments to a course's folder."""
    added = _opened(folder).add(sources, names or ())
    out.print(f"added: {', '.join(added) or 'none, all are there'}")


@course.command()
def release(
    names: Annotated[list[str], typer.Argument(help="Assignments.")],
    folder: Folder = HERE,
) -> None:
    """Write the notebooks that students get, with what course.json tells them.

    An assignment whose own answers fail its tests is refused.
    """
    own = _opened(folder)
    from llmcourse.classroom.opening import left_out

    for name in names:
        for test, why in own.unsolved(name).items():
            raise ValueError(f"{name}: its own answers fail {test}: {why}".rstrip(": "))
        out.print(str(own.release(name)))
        if empty := left_out(own.settings, name):
            say(f"{name} does not tell students: {', '.join(empty)} (see course.json)")


@course.command()
def roster(
    path: Annotated[
        Path, typer.Argument(help="Canvas's gradebook or Moodle's worksheet, as CSV.")
    ],
    folder: Folder = HERE,
) -> None:
    """Read who is in the class, so that `report` can say who has not handed in."""
    own = _opened(folder)
    from llmcourse.classroom import collecting, reporting

    students = reporting.read_roster(path)
    write_json(own.folder / "roster.json", {"students": students})
    out.print(collecting.counted(len(students), "student"))


@course.command()
def collect(
    name: Name,
    place: Annotated[Path, typer.Argument(help="A folder or zip of hand-ins.")],
    folder: Folder = HERE,
    keep: Annotated[
        Literal["first", "latest"],
        typer.Option(help="What counts for a student who has already handed in."),
    ] = "latest",
) -> None:
    """Read hand-ins from Canvas, Moodle or a folder; say what was repaired.

    If a written answer has changed, the points that you gave it are taken back.
    """
    own = _opened(folder)
    from llmcourse.classroom import collecting, reporting

    hand_ins = own.collect(name, place, keep=keep)
    for one in hand_ins:
        notes = ["late"] * one.late + one.notes + ["NOT GRADED"] * (not one.readable)
        out.print(f"{one.student}: {'; '.join(notes) or 'fine'}")
    for student in reporting.absent(own, name):
        out.print(f"{student}: not handed in")
    for student in reporting.strangers(own, name):
        out.print(f"{student}: not in the class")
    out.print(collecting.counted(len(hand_ins), "hand-in"))


@course.command()
def grade(
    name: Name,
    folder: Folder = HERE,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Run hand-ins without a sandbox.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Grade all hand-ins again.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Hand-ins graded at once.", min=1)] = 2,
    quiet: Quiet = False,
) -> None:
    """Grade what is new or changed, or all if the assignment's source has changed.

    Points that you gave by hand are kept.
    """
    with bars(quiet) as show:
        progress = partial(show, "hand-ins")
        _opened(folder).grade(
            name, unsafe=unsafe, again=again, workers=workers, progress=progress
        )
    report(name, folder)


@course.command()
def report(name: Name, folder: Folder = HERE) -> None:
    """Show who needs a look, what is waiting for a grade, and how each test did."""
    own = _opened(folder)
    from llmcourse.classroom import collecting, reporting

    for student, what in reporting.looks(own, name):
        out.print(f"look at {student}: {what}")
    for student in reporting.absent(own, name):
        out.print(f"not handed in: {student}")
    for student in reporting.strangers(own, name):
        out.print(f"not in the class: {student}")
    for cell, students in reporting.pending(own, name).items():
        if students:
            answers = collecting.counted(len(students), "answer")
            out.print(f"to be graded: {cell}, {answers}")
    table = Table("cell", "points", "mean score", "discrimination", "graded")
    points = reporting.worth(own, name)
    for item in reporting.items(own.scores(name), points):
        index = "-" if item.discrimination is None else f"{item.discrimination:.2f}"
        share = f"{item.mean_score:.0%}" if item.n else "-"
        table.add_row(item.name, f"{points[item.name]:g}", share, index, str(item.n))
    out.print(table)
    done = [o.earned for o in own.outcomes(name) if o.earned is not None]
    mean = sum(sum(earned.values()) for earned in done) / max(1, len(done))
    most = sum(reporting.worth(own, name, "tests").values())
    found = f"; {mean:.1f} of {most:g} points from tests on average" if done else ""
    among = collecting.counted(len(own.submitted(name)), "hand-in")
    out.print(f"{len(done)} of {among} graded{found}")
    _warn_of_stale(own, name)


@course.command()
def feedback(
    name: Name,
    folder: Folder = HERE,
    archive: Annotated[
        Path | None,
        typer.Option("--zip", help="Also write a zip, named as Moodle wants it."),
    ] = None,
) -> None:
    """Write each student a page with points, messages and comments."""
    own = _opened(folder)
    from llmcourse.classroom import collecting, reporting

    _warn_of_stale(own, name)
    pages = own.feedback(name)
    out.print(f"{collecting.counted(len(pages), 'page')} in {folder / 'feedback'}")
    if n := sum(map(len, reporting.pending(own, name).values())):
        answers = collecting.counted(n, "written answer")
        out.print(f"{answers} without points; the pages say so")
    if archive is not None:
        out.print(str(reporting.pack(pages, archive)))


@course.command()
def export(
    name: Name,
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    form: Annotated[
        Literal["csv", "canvas", "moodle"],
        typer.Option("--format", help="The file's format."),
    ] = "csv",
    folder: Folder = HERE,
) -> None:
    """Write the grades; a student not fully graded has an empty one, never 0.

    The other formats than `csv` need the platform's numbers in the names of hand-ins.
    """
    own = _opened(folder)
    from llmcourse.classroom import reporting

    out.print(str(reporting.export(own, name, path, form)))
    _warn_of_stale(own, name)


@course.command()
def similarity(
    name: Name,
    least: Annotated[
        float, typer.Option(help="Least share in common, 0 … 1.", min=0, max=1)
    ] = 0.8,
    folder: Folder = HERE,
) -> None:
    """List pairs of hand-ins that are suspiciously alike: a hint, not a verdict."""
    own = _opened(folder)
    from llmcourse.classroom import collecting, reporting

    pairs = reporting.alike(own, name, least)
    for share, one, other in pairs:
        out.print(f"{share:.0%}  {one}  {other}")
    found = collecting.counted(len(pairs), "pair")
    out.print(f"{found} with at least {least:.0%} of the code in common")


@course.command()
def gradescope(
    name: Name,
    path: Annotated[Path, typer.Argument(help="The zip to write.")],
    folder: Folder = HERE,
) -> None:
    """Write an autograder for Gradescope, with the same engine inside."""
    own = _opened(folder)
    from llmcourse.classroom.gradescope import write_autograder

    out.print(str(write_autograder(own.path(name), path, own.settings["seed"])))


Tales = Annotated[
    int | None,
    typer.Option("--seed", help="Seed for the fresh tales. Default: the contest's."),
]


@course.command()
def score(
    model: Annotated[Path, typer.Argument(help="A model's folder, at most 6 MB.")],
    file: Annotated[
        Path | None, typer.Option("--out", help="Write the score here, as JSON.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="A score's file, to verify.")
    ] = None,
    seed: Tales = None,
    quiet: Quiet = False,
) -> None:
    """Measure a model for the contest, or verify the score that came with it."""
    from llmcourse.classroom import contest

    reasons: list[str] = []
    seed = contest.SEED if seed is None else seed
    with bars(quiet) as show:
        progress = partial(show, "windows")
        if against is None:
            own = contest.score(model, seed=seed, progress=progress)
        else:
            own, reasons = contest.verify(model, against, seed=seed, progress=progress)
    out.print(
        f"{own.excess:.3f} ± {own.standard_error:.3f} nats per story above the floor, "
        f"{own.n_bytes:,} bytes, {own.sha256[:12]}"
    )
    if against is not None:
        out.print("\n".join(reasons) or "agrees")
    if file is not None:
        contest.write_score(own, file)
    if reasons:
        raise ValueError(f"the score in {str(against)!r} is not that of the model")


@course.command()
def leaderboard(
    folders: Annotated[
        list[Path],
        typer.Argument(help="A folder per entry: a model, or one for each seed."),
    ],
    stories: Annotated[
        int | None,
        typer.Option(help="Fresh tales to measure. Default: the contest's.", min=2),
    ] = None,
    seed: Tales = None,
    quiet: Quiet = False,
) -> None:
    """Measure the contest's entries and write their table in Markdown."""
    from llmcourse.classroom import contest

    stories = contest.STORIES if stories is None else stories
    seed = contest.SEED if seed is None else seed
    entries = {}
    with bars(quiet) as show:
        for folder in folders:
            if folder.name in entries:
                raise ValueError(f"two entries have the name {folder.name!r}")
            entries[folder.name] = [
                contest.score(
                    path,
                    n_stories=stories,
                    seed=seed,
                    progress=partial(show, str(path)),
                )
                for path in contest.read_entry(folder)
            ]
    for line in contest.leaderboard(entries):
        out.print(line)


@course.command()
def quiz(
    folder: Annotated[
        Path, typer.Argument(help="Where to write one file for each chapter.")
    ],
    names: Annotated[
        list[str] | None, typer.Argument(help="Chapters. Default: all.")
    ] = None,
    form: Annotated[
        Literal["moodle", "qti"],
        typer.Option("--format", help="Moodle XML, or QTI 1.2 as Canvas reads it."),
    ] = "moodle",
) -> None:
    """Write the chapters' quizzes as question banks for a learning platform."""
    from llmcourse.classroom import quizzes

    folder.mkdir(parents=True, exist_ok=True)
    suffix, write = {
        "moodle": ("xml", quizzes.write_moodle),
        "qti": ("zip", quizzes.write_qti),
    }[form]
    for name in names or quizzes.chapters():
        own = quizzes.Quiz.read(name)
        with needed_for("course", "classroom"):
            path = write(own, folder / f"{name}.{suffix}")
        out.print(f"{path}: {len(own.questions)} questions")


@written.command("export")
def written_export(
    name: Name,
    cell: Annotated[str, typer.Argument(help="A written question.")],
    path: Annotated[Path, typer.Argument(help="A CSV file.")],
    folder: Folder = HERE,
) -> None:
    """Write everyone's answers to one question."""
    own = _opened(folder)
    from llmcourse.classroom import collecting, reporting

    n = reporting.export_written(own, name, cell, path)
    out.print(f"{collecting.counted(n, 'answer')} in {path}")
    if not n:
        say(f"no hand-in is graded: run `llmcourse course grade {name}` first")


@written.command("guide")
def written_guide(
    name: Name,
    cell: Annotated[
        str | None, typer.Argument(help="A written question. Default: all.")
    ] = None,
    folder: Folder = HERE,
) -> None:
    """Show the model answers to written questions, and how to mark them."""
    for title, text in _opened(folder).guide(name, cell).items():
        out.print(f"## {title}\n\n{text}\n")


@written.command("import")
def written_import(
    name: Name,
    cell: Annotated[str, typer.Argument(help="A written question.")],
    path: Annotated[Path, typer.Argument(help="The CSV file, with points filled in.")],
    folder: Folder = HERE,
) -> None:
    """Read points and comments back in.

    A row without points changes nothing; `-` takes points back.
    If an answer has changed since the export, its points are left out.
    """
    own = _opened(folder)
    from llmcourse.classroom import collecting, reporting

    rows, n, left_out = reporting.import_written(own, name, cell, path)
    out.print(f"{collecting.counted(rows, 'row')}, {n} with points")
    for student in left_out:
        say(
            f"left out: {student}, whose answer to {cell} is not that in {path.name}; "
            "export again, or empty that cell of the file to mark what is there now"
        )
