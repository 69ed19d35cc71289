from pathlib import Path

import nbformat
import pytest
from proving import HERE, solved
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.classroom.assignments import grade_id, read_source

SOURCE = read_source(HERE / "tokenization.py")


def check(path: Path, notebook: nbformat.NotebookNode) -> tuple[int, str]:
    nbformat.write(notebook, path)
    result = CliRunner().invoke(cli.app, ["check", str(path)])
    return result.exit_code, result.output


def released(**answers: str) -> nbformat.NotebookNode:
    """Return a learner's notebook: hidden tests are empty in it."""
    notebook = solved(SOURCE, **answers)
    assert "HIDDEN" not in nbformat.writes(notebook)
    return notebook


def test_a_right_notebook_passes(tmp_path: Path) -> None:
    code, output = check(tmp_path / "t.ipynb", released())
    assert code == 0, output
    assert "6 of 6 points from the tests that are shown" in output
    assert "hidden-merge" not in output
    import llmcourse.text.tokenizers  # what the notebook locks away is open again

    assert llmcourse.text.tokenizers is not None


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "t.ipynb"
    path.write_text(nbformat.writes(released()), encoding="utf-8-sig")
    assert CliRunner().invoke(cli.app, ["check", str(path)]).exit_code == 0


def test_a_mistake_is_explained(tmp_path: Path) -> None:
    wrong = """
def merge(ids, pair, new_id):
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            return [*ids[:i], new_id, *ids[i + 2 :]]
    return ids[:]
"""
    code, output = check(tmp_path / "t.ipynb", released(merge=wrong))
    assert code == 1
    assert "both pairs (1, 2) become 9" in output


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("def merge(ids, pair new_id):\n    return ids", "cell merge: SyntaxError"),
        ("import llmcourse.text.bpe", "cell merge: ModuleNotFoundError"),
        ("def merge(ids, pair, new_id):\n    return nothing", "(line 2 of cell merge)"),
    ],
)
def test_what_python_says_is_told(tmp_path: Path, answer: str, told: str) -> None:
    code, output = check(tmp_path / "t.ipynb", released(merge=answer))
    assert code == 1
    assert told in output
    assert "points from the tests" in output


def test_what_is_no_assignment(tmp_path: Path) -> None:
    path = tmp_path / "t.ipynb"
    path.write_text("{")
    result = CliRunner().invoke(cli.app, ["check", str(path)])
    assert isinstance(result.exception, ValueError)
    notebook = released()
    del notebook.metadata["llmcourse"]
    nbformat.write(notebook, path)
    result = CliRunner().invoke(cli.app, ["check", str(path)])
    assert "not the notebook of an assignment" in str(result.exception)
    assert grade_id(notebook.cells[0]) == ""


@pytest.mark.parametrize("text", ["{}", "[]", "5", '{"cells": null}'])
def test_what_is_no_notebook(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.ipynb"
    path.write_text(text)
    result = CliRunner().invoke(cli.app, ["check", str(path)])
    assert isinstance(result.exception, ValueError)


def test_a_file_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["llmcourse", "check", "nofile.ipynb"])
    with pytest.raises(SystemExit):
        cli.main()
    told = capsys.readouterr().err
    assert told == "llmcourse: error: nofile.ipynb: No such file or directory\n"


def test_magics_in_any_cell_do_nothing(tmp_path: Path) -> None:
    notebook = released()
    for cell in notebook.cells:
        if cell.cell_type == "code" and grade_id(cell):
            cell.source = f"%matplotlib inline\n{cell.source}"
    code, output = check(tmp_path / "t.ipynb", notebook)
    assert code == 0, output
