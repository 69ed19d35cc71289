"""`llmcourse align`: to the end by each method, stopped, resumed, refused."""

import json
import sys

import pytest
from align_cases import METHODS, config_of, want_length
from chat_cases import base
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.cli import align as command
from llmcourse.model.folders import save_pretrained
from llmcourse.recipes import align_recipe
from llmcourse.training.checkpoints import checkpoint_paths

FAST = ("--preset=tiny", "--threads=1", "--stories=2", "--questions=0")


@pytest.fixture(autouse=True)
def smallest(monkeypatch, tmp_path):
    want_length(monkeypatch)
    save_pretrained(*base(), tmp_path / "base")
    tiny = {method: config_of(method, str(tmp_path / "base")) for method in METHODS}
    monkeypatch.setitem(align_recipe.PRESETS, "tiny", tiny)


def align(folder, *more):
    args = ["align", *FAST, "--out", str(folder), *map(str, more)]
    return CliRunner().invoke(cli.app, args)


def fails(monkeypatch, capsys, *args):
    """Run the whole command line; return its exit code and its last line of error."""
    monkeypatch.setattr(sys, "argv", ["llmcourse", "align", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("method", ["ppo", "dpo"])
def test_it_trains_measures_and_says_how_good_it_is(tmp_path, method):
    folder = tmp_path / "run"
    result = align(folder, f"--method={method}")
    assert result.exit_code == 0, result.output
    for words in (
        "answers 7 prompts 4 times",
        "held-out pairs as the annotator",
        "gold reward: ",
        "standard deviations",
        "nats per answer",
        f"{folder / 'reward/model'}: ",
    ):
        assert words in result.stdout, words
    last = "policy: 100%" if method == "dpo" else "iterations: 100%"
    for bar in ("answers to compare: 100%", "reward model: 100%", last):
        assert bar in result.stderr, bar
    for place in (folder, folder / "reward"):
        lines = (place / "log.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(lines[-1])["step"] == 2
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert f"llmcourse align --method {method} --preset tiny --out {folder}" in card


def test_stopped_and_resumed(tmp_path, monkeypatch, capsys):
    class Stopping(command.JSONLinesLog):
        def __call__(self, record):
            super().__call__(record)
            if record.step == 1 and "kl" in record.metrics:
                raise KeyboardInterrupt

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(command, "JSONLinesLog", Stopping)
        stopped = align(folder, "--quiet", "--kl-coef=0.5")
    assert stopped.exit_code == 130
    (line,) = stopped.stderr.splitlines()
    assert line.startswith(
        "llmcourse: stopped; to go on: llmcourse align --method grpo"
    )
    more = "--kl-coef 0.5 --threads 1 --stories 2 --questions 0"
    assert line.endswith(f"{more} --resume")
    args = [*FAST, "--quiet", "--out", folder]
    code, line = fails(monkeypatch, capsys, *args)
    assert code == 1
    assert "holds checkpoints already: add --resume" in line
    code, line = fails(monkeypatch, capsys, *args, "--resume", "--agreement=0.9")
    assert code == 1
    assert "holds pairs of another recipe or policy: " in line
    resumed = align(folder, "--quiet", "--resume", "--kl-coef=0.5")
    assert resumed.exit_code == 0, resumed.output
    assert not resumed.stderr
    assert checkpoint_paths(folder / "checkpoints")


def test_a_loss_of_pairs_can_be_chosen(tmp_path):
    made = align(tmp_path / "run", "--method=dpo", "--loss=ipo", "--quiet")
    assert made.exit_code == 0, made.output
    card = (tmp_path / "run/model/README.md").read_text(encoding="utf-8")
    assert "| loss type | ipo |" in card
    assert "--loss ipo" in card


@pytest.mark.parametrize(("first", "then"), [("dpo", "ppo"), ("grpo", "dpo")])
def test_what_is_refused_changes_no_card(tmp_path, monkeypatch, capsys, first, then):
    folder = tmp_path / "run"
    assert align(folder, f"--method={first}").exit_code == 0
    cards = [folder / "reward/model/README.md", folder / "model/README.md"]
    before = [card.read_text(encoding="utf-8") for card in cards]
    args = [*FAST, "--quiet", "--out", folder, "--resume", f"--method={then}"]
    code, line = fails(monkeypatch, capsys, *args)
    assert code == 1
    assert "of another training" in line
    assert len(line) < 400
    assert [card.read_text(encoding="utf-8") for card in cards] == before


def test_refusals_are_one_line(monkeypatch, capsys, tmp_path):
    for number, (args, message) in enumerate(
        [
            (
                ["--preset=huge"],
                "preset must be one of aligned-llm, study, tiny, got 'huge'",
            ),
            ([*FAST, "--method=best"], "method must be one of ppo, grpo, dpo, got 'be"),
            ([*FAST, "--model=gpt-5"], "got 'gpt-5'"),
            (
                [*FAST, "--agreement=0.2"],
                "agreement must be between 0.5 and 1, got 0.2",
            ),
            ([*FAST, "--learning-rate=-1"], "learning_rate must be positive, got -1"),
            ([*FAST, "--method=dpo", "--kl-coef=0"], "beta must be positive, got 0"),
            ([*FAST, "--method=dpo", "--loss=best"], "loss_type must be one of"),
            ([*FAST, "--loss=ipo"], "--loss is an option of --method dpo, not of grpo"),
        ]
    ):
        out = tmp_path / str(number)
        code, line = fails(monkeypatch, capsys, *args, "--out", out, "--quiet")
        assert code == 1
        assert message in line
        assert line.startswith("llmcourse: error: ")


@pytest.mark.parametrize("option", ["--steps=0", "--prompts=0", "--questions=-1"])
def test_numbers_out_of_range_are_usage_errors(tmp_path, option):
    assert align(tmp_path / "run", option).exit_code == 2
    assert not (tmp_path / "run").exists()
