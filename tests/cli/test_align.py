"""`llmcourse align`: to the end by each method, stopped, resumed, refused."""

import json

import cli_cases
import pytest
from align_cases import METHODS, config_of, want_length
from chat_cases import base
from cli_cases import run, stop_at

from llmcourse.model.folders import save_pretrained
from llmcourse.recipes import align as recipes
from llmcourse.training.checkpoints import checkpoint_paths

FAST = ("--preset=tiny", "--threads=1", "--stories=2", "--questions=0")


@pytest.fixture(autouse=True)
def smallest(monkeypatch, tmp_path):
    want_length(monkeypatch)
    save_pretrained(*base(), tmp_path / "base")
    tiny = {method: config_of(method, str(tmp_path / "base")) for method in METHODS}
    monkeypatch.setitem(recipes.PRESETS, "tiny", tiny)


def fails(monkeypatch, capsys, *args):
    return cli_cases.fails(monkeypatch, capsys, "align", *args)


def align(folder, *more):
    return run("align", *FAST, "--out", folder, *more)


def test_numbers_come_as_json_too(tmp_path):
    found = json.loads(align(tmp_path, "--method=dpo", "--json").stdout)
    assert {"folder", "reward_model"} <= found.keys()


@pytest.mark.parametrize("method", ["ppo", "dpo"])
def test_it_trains_measures_and_says_how_good_it_is(tmp_path, method):
    folder = tmp_path / "run"
    result = align(folder, f"--method={method}")
    assert result.exit_code == 0, result.output
    for words in (
        "answers 7 prompts 4 times",
        "agreement with the annotator: ",
        "gold reward: ",
        "standard deviations",
        "nats per answer",
        f"model: {folder / 'reward/model'} (",
    ):
        assert words in result.stdout, words
    for bar in ("answers to compare: 100%", "reward model: 100%", "policy: 100%"):
        assert bar in result.stderr, bar
    for place in (folder, folder / "reward"):
        lines = (place / "log.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(lines[-1])["step"] == 2
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert f"llmcourse align --method {method} --preset tiny --out {folder}" in card


def test_stopped_and_resumed(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, lambda record: record.step == 1 and "kl" in record.metrics)
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
    code, line = fails(monkeypatch, capsys, *args, "--resume", "--seed=1")
    assert code == 1
    assert "holds pairs of another recipe or policy: " in line
    resumed = align(folder, "--quiet", "--resume", "--kl-coef=0.5")
    assert resumed.exit_code == 0, resumed.output
    assert not resumed.stderr
    assert checkpoint_paths(folder / "checkpoints")


def test_a_tiny_run_is_measured_on_little(tmp_path, monkeypatch):
    exams = []
    monkeypatch.setattr(
        recipes, "make_aligned", lambda config, run, exam: exams.append(exam) or {}
    )
    for number, preset in enumerate(("tiny", "study")):
        folder = tmp_path / str(number)
        made = run("align", "--preset", preset, "--threads=1", "--out", folder)
        assert made.exit_code == 0, made.output
    assert [exam.n_prompts for exam in exams] == [20, 400]
    assert [exam.n_per_kind for exam in exams] == [2, 30]


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
    assert "of another run" in line
    assert len(line) < 400
    assert [card.read_text(encoding="utf-8") for card in cards] == before


def test_refusals_are_one_line(monkeypatch, capsys, tmp_path):
    for number, (args, message) in enumerate(
        [
            ([*FAST, "--model=gpt-5"], "got 'gpt-5'"),
            ([*FAST, "--learning-rate=-1"], "learning_rate must be positive, got -1"),
            ([*FAST, "--method=dpo", "--kl-coef=0"], "beta must be positive, got 0"),
            ([*FAST, "--loss=ipo"], "--loss is an option of --method dpo, not of grpo"),
        ]
    ):
        out = tmp_path / str(number)
        code, line = fails(monkeypatch, capsys, *args, "--out", out, "--quiet")
        assert code == 1
        assert message in line
        assert line.startswith("llmcourse: error: ")


@pytest.mark.parametrize(
    "option",
    [
        "--steps=0",
        "--questions=-1",
        "--preset=huge",
        "--method=best",
        "--loss=best",
    ],
)
def test_what_cannot_be_is_a_usage_error(tmp_path, option):
    assert align(tmp_path / "run", option).exit_code == 2
    assert not (tmp_path / "run").exists()
