"""Folders of trainings: made, refused, or gone on in."""

import json
import re
import shutil
import sys

import pytest
import torch
from cli_cases import fails, run

from llmcourse import cli
from llmcourse.cli.running import open_model, prepare_folder
from llmcourse.files import locked
from llmcourse.model import folders


def test_checkpoints_of_an_earlier_part_are_found_too(tmp_path, capsys):
    place = tmp_path / "part-1" / "checkpoints"
    place.mkdir(parents=True)
    (place / "step-00000000.safetensors").touch()
    prepare_folder(tmp_path, resume=True)
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match="holds checkpoints already: add --resume"):
        prepare_folder(tmp_path, resume=False)


def test_a_folder_is_made_begun_anew_or_refused(tmp_path, capsys):
    folder = tmp_path / "one"
    prepare_folder(folder, resume=False)
    assert not capsys.readouterr().err
    prepare_folder(folder, resume=True)
    assert "no checkpoint in" in capsys.readouterr().err
    place = folder / "reward" / "checkpoints"
    place.mkdir(parents=True)
    (place / "step-00000001.safetensors").touch()
    prepare_folder(folder, resume=True)
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match=r"one' holds checkpoints already: add"):
        prepare_folder(folder, resume=False)


def test_a_folder_in_which_another_process_trains_is_refused(
    tmp_path, monkeypatch, capsys
):
    with locked(tmp_path):
        code, said = fails(
            monkeypatch, capsys, "pretrain", "--preset", "tiny", "--out", tmp_path
        )
    assert code == 1
    assert "another process trains in" in said
    assert [path.name for path in tmp_path.iterdir()] in ([".lock"], [])


@pytest.mark.parametrize(
    "options",
    [
        ["pretrain", "--threads", "100000"],
        ["pretrain", "--seed", "99999999999999999999"],
        ["finetune", "--seed", "99999999999999999999"],
        ["evaluate", "--model", "base-llm", "--seed", "99999999999999999999"],
        ["generate", "--model", "base-llm", "Once", "--seed", "-1"],
    ],
)
def test_numbers_that_no_machine_takes_are_no_usage(options):
    found = run(*options)
    assert found.exit_code == 2
    # Older versions of typer say it the other way.
    assert re.search("than or equal to|in the range", found.output)


def test_sizes_that_no_memory_holds_are_refused_in_one_line(monkeypatch, capsys):
    huge = ("--preset", "tiny", "--width", 10**12, "--heads", 1, "--dry-run")
    code, said = fails(monkeypatch, capsys, "pretrain", *huge)
    assert code == 1
    assert "allocate" in said


def test_a_rank_above_the_width_is_refused(tmp_path, monkeypatch, capsys):
    talk = tmp_path / "talk.jsonl"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    talk.write_text(f"{json.dumps({'messages': turns})}\n" * 4)
    code, said = fails(
        *(monkeypatch, capsys, "finetune", "--data", talk, "--lora", 100_000),
        *("--out", tmp_path / "run"),
    )
    assert code == 1
    assert "rank must be in 1 … 256" in said


def test_more_text_than_can_be_shown_is_refused(tmp_path):
    found = run("tokenize", "-", text="a" * 1_000_001)
    assert "at most 1,000,000 characters" in str(found.exception)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("aligned-llm", "generate --model aligned-llm Once"),
        ("aligned-llm", "info aligned-llm"),
        ("aligned-llm", "evaluate --model aligned-llm"),
        ("aligned-llm", "export --model aligned-llm --format hf --out OUT"),
        ("aligned-llm", "quantize --model aligned-llm --bits 4 --out OUT"),
        ("base-llm-small", "evaluate --all"),
        ("base-llm-small", "finetune --model base-llm-small --out OUT"),
        ("instruct-llm", "chat"),
        ("instruct-llm", "serve"),
        ("instruct-llm", "ask --docs DOCS who?"),
        ("instruct-llm", "align --method grpo --out OUT"),
        ("reward-model", "score order answer"),
    ],
)
def test_a_model_that_is_not_installed_is_asked_for_in_one_line(
    name, command, monkeypatch, capsys, tmp_path
):
    """As after `pip install llmcourse`, which brings base-llm alone."""
    shutil.copytree(folders.find_model("base-llm"), tmp_path / "models" / "base-llm")
    monkeypatch.setattr(folders, "_MODELS", tmp_path / "models")
    docs = tmp_path / "docs.txt"
    docs.write_text("The owl wrote it.")
    places = {"OUT": str(tmp_path / "out"), "DOCS": str(docs)}
    words = [places.get(word, word) for word in command.split()]
    monkeypatch.setattr(sys, "argv", ["llmcourse", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    said = capsys.readouterr()
    assert not said.out
    [line] = said.err.splitlines()
    assert f"{name!r} is not installed: " in line
    assert 'pip install "llmcourse[models]"' in line


def test_a_small_model_runs_on_one_core():
    torch.set_num_threads(2)
    open_model("base-llm-small")
    assert torch.get_num_threads() == 1
