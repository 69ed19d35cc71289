"""`llmcourse evaluate --all`, and instructions for models that answer."""

import json
import sys

import pytest
from chat_cases import base, chatty
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.cli import evaluate as one
from llmcourse.cli import evaluate_all as command
from llmcourse.instruct_model import Exam
from llmcourse.instruction_evaluation import SPLITS, Count, Score
from llmcourse.pretrained import save_pretrained

SCORE = Score({"who": Count(3, 4), "why": Count(1, 4)})


@pytest.fixture
def answering(monkeypatch):
    """Let nobody be asked for real; return what would have been."""
    asked = []

    def scores(model, tokenizer, n, seed, *, splits=tuple(SPLITS), progress=None):
        asked.append((tokenizer.vocab_size, n, tuple(splits)))
        return dict.fromkeys(splits, SCORE)

    for module in (one, command):
        monkeypatch.setattr(module, "instruction_scores", scores)
    return asked


@pytest.fixture
def shipped(monkeypatch, answering):
    models = {"base-llm": base(), "instruct-llm": chatty()}
    monkeypatch.setattr(command, "load_pretrained", models.__getitem__)
    monkeypatch.setattr(command, "shipped_models", lambda: list(models))
    monkeypatch.setattr(command, "Exam", lambda: Exam(n_per_kind=5, n_stories=2))
    monkeypatch.setattr(command, "_N_STORIES", 2)
    monkeypatch.setattr(command, "_N_SAMPLES", 0)
    return models


def test_all_measures_what_ships_and_names_what_does_not(shipped, answering):
    result = CliRunner().invoke(cli.app, ["evaluate", "--all", "--quiet"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.endswith("-llm:")] == [
        "base-llm:",
        "instruct-llm:",
    ]
    for name in ("reward-model", "aligned-llm"):
        assert f"{name}: skipped, does not come with the package yet" in lines
    for words in (
        "gap: the loss is",
        "held-out combinations: 50.0 % of 8 (22 % … 78 %) exactly right",
        "who 3/4, why 1/4",
        "the base, held-out wordings: 50.0 % of 8",
        "forgotten: 2 plain stories cost",
    ):
        assert words in result.stdout, words
    sizes = [pair[1].vocab_size for pair in (chatty(), base())]
    assert answering == [
        (sizes[0], 5, tuple(SPLITS)),
        (sizes[1], 5, ("held-out wordings",)),
    ]


def test_with_nothing_shipped_all_are_skipped(monkeypatch):
    monkeypatch.setattr(command, "shipped_models", list)
    result = CliRunner().invoke(cli.app, ["evaluate", "--all"])
    assert result.exit_code == 0
    assert result.stdout.count("skipped") == len(command.MEASURES) == 4


def test_one_model_that_answers_is_asked(tmp_path, answering):
    save_pretrained(*chatty(), tmp_path)
    args = ["evaluate", "--model", str(tmp_path), "--stories=2", "--samples=0"]
    result = CliRunner().invoke(cli.app, [*args, "--questions=3"])
    assert "held-out wordings: 50.0 % of 8" in result.stdout
    assert answering[0][1] == 3
    found = json.loads(CliRunner().invoke(cli.app, [*args, "--json", "-q"]).stdout)
    assert found["instructions"]["held-out wordings"]["overall"]["right"] == 4
    answering.clear()
    result = CliRunner().invoke(cli.app, [*args, "--questions=0"])
    assert "exactly right" not in result.stdout
    assert not answering


def test_neither_model_nor_all_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["llmcourse", "evaluate"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert "wanted --model or --all, got neither" in capsys.readouterr().err
