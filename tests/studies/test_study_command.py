"""The command of a study."""

from pathlib import Path

import pytest
import torch
from study_command import run_study_command


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_study_gets_its_file_one_thread_and_somebody_to_tell(tmp_path, capsys):
    seen = []

    def study(path, *, progress):
        seen.append((path, torch.get_num_threads()))
        progress("first point")
        progress(("second", 2))

    torch.set_num_threads(2)
    out = tmp_path / "results.json"
    run_study_command(study, "Study.\n\nMore.", ["--out", str(out)])
    assert seen == [(Path(out), 1)]
    assert capsys.readouterr() == ("", "first point\n('second', 2)\n")


def test_a_study_may_have_options_of_its_own(tmp_path):
    seen = []
    said = ["--out", str(tmp_path / "x.json"), "--n", "3"]
    options = {"start": "base-llm", "n": 5}
    run_study_command(
        lambda path, **others: seen.append(others), "Study.", said, options=options
    )
    assert seen[0]["start"] == "base-llm"
    assert seen[0]["n"] == 3


def test_without_a_file_nothing_runs(capsys):
    def study(path, *, progress):
        raise AssertionError("must not run")

    with pytest.raises(SystemExit):
        run_study_command(study, "Study.", [])
    assert "--out" in capsys.readouterr().err


def test_help_shows_the_first_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        run_study_command(print, "Train all.\n\nAt length.", ["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "Train all." in text
    assert "At length" not in text


def test_without_a_folder_for_the_file_nothing_runs(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_study_command(print, "Study.", ["--out", str(tmp_path / "no" / "x.json")])
    assert "there is no folder" in capsys.readouterr().err
