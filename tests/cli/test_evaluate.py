"""`llmcourse evaluate`: instructions for models that answer."""

import json

import pytest
from chat_cases import chatty
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.cli import evaluate as command
from llmcourse.finetuning.instruction_evaluation import SPLITS, Score
from llmcourse.model.folders import save_pretrained
from llmcourse.training.intervals import Count

SCORE = Score({"who": Count(3, 4), "why": Count(1, 4)})


@pytest.fixture
def answering(monkeypatch):
    """Let nobody be asked for real; return what would have been."""
    asked = []

    def scores(model, tokenizer, n, seed, *, splits=tuple(SPLITS), progress=None):
        asked.append((tokenizer.vocab_size, n, tuple(splits)))
        return dict.fromkeys(splits, SCORE)

    monkeypatch.setattr(command, "instruction_scores", scores)
    return asked


def test_one_model_that_answers_is_asked(tmp_path, answering):
    save_pretrained(*chatty(), tmp_path)
    args = ["evaluate", "--model", str(tmp_path), "--stories=2", "--samples=0"]
    result = CliRunner().invoke(cli.app, [*args, "--questions=3"])
    assert "all kinds: 50.0 % of 8" in result.stdout
    assert answering[0][1] == 3
    found = json.loads(CliRunner().invoke(cli.app, [*args, "--json", "-q"]).stdout)
    assert found["instructions"]["held-out wordings"]["overall"]["right"] == 4
    answering.clear()
    result = CliRunner().invoke(cli.app, [*args, "--questions=0"])
    assert "all kinds" not in result.stdout
    assert not answering


def test_without_a_model_nothing_is_understood():
    result = CliRunner().invoke(cli.app, ["evaluate"])
    assert result.exit_code == 2
    assert "--model" in result.stderr
