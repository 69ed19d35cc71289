from pathlib import Path

import nbformat
import pytest
from proving import HERE
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.classroom.assignments import release
from llmcourse.classroom.course import Course

NAME = "tokenization"


@pytest.mark.parametrize("command", ["report", "feedback", "similarity"])
def test_where_nothing_is_collected(tmp_path: Path, command: str) -> None:
    Course.init(tmp_path / "course", HERE, [NAME])
    args = ["course", command, NAME, "--course", str(tmp_path / "course")]
    result = CliRunner().invoke(cli.app, args)
    assert str(result.exception) == (
        f"nothing collected for {NAME}: run `llmcourse course collect` first"
    )


def test_who_is_missing_is_listed(tmp_path: Path) -> None:
    course = Course.init(tmp_path / "course", HERE, [NAME])
    (tmp_path / "in").mkdir()
    nbformat.write(release(course.source(NAME)), tmp_path / "in" / "ada.ipynb")
    (tmp_path / "class.csv").write_text("student\nada\nzoe\n")
    own, sheet = ["--course", str(tmp_path / "course")], str(tmp_path / "n.csv")
    for args, told in (
        (["roster", str(tmp_path / "class.csv")], "2 students\n"),
        (["collect", NAME, str(tmp_path / "in")], "zoe: not handed in\n1 hand-in\n"),
        (["report", NAME], "not handed in: zoe\n"),
        (["report", NAME], "0 of 1 hand-in graded\n"),
        (["written", "export", NAME, "numbers", sheet], "no hand-in is graded"),
    ):
        result = CliRunner().invoke(cli.app, ["course", *args, *own])
        assert result.exit_code == 0, result.exception
        assert told in result.output
