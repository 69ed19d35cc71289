"""`llmcourse evaluate --all`, and instructions for models that answer."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from align_cases import want_length
from chat_cases import base, chatty
from cli_cases import fails
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.alignment.reward_model import RewardModel, save_reward_model
from llmcourse.alignment.reward_model import load_reward_model as load
from llmcourse.cli import measuring as command
from llmcourse.finetuning import instruction_evaluation
from llmcourse.finetuning.instruction_evaluation import SPLITS, Score
from llmcourse.intervals import Count
from llmcourse.model.folders import save_pretrained, shipped_models
from llmcourse.recipes import instruct
from llmcourse.recipes.align import TINY, collect, reward_quality
from llmcourse.recipes.instruct import Exam

MODELS = command.MODELS
SCORE = Score({"who": Count(3, 4), "why": Count(1, 4)})


@pytest.fixture
def answering(monkeypatch):
    """Let nobody be asked for real; return what would have been."""
    asked = []

    def scores(model, tokenizer, n, seed, *, splits=tuple(SPLITS), **_):
        asked.append((tokenizer.vocab_size, n, tuple(splits)))
        return dict.fromkeys(splits, SCORE)

    monkeypatch.setattr(instruction_evaluation, "instruction_scores", scores)
    return asked


@pytest.fixture
def shipped(monkeypatch, answering):
    models = {"base-llm": base(), "base-llm-small": base(), "instruct-llm": chatty()}
    monkeypatch.setattr(command, "load_pretrained", models.__getitem__)
    monkeypatch.setattr(command, "MODELS", tuple(models))
    monkeypatch.setattr(instruct, "CARD_EXAM", Exam(n_per_kind=5, n_stories=2))
    monkeypatch.setattr("llmcourse.recipes.base.N_STORIES", 2)
    monkeypatch.setattr("llmcourse.recipes.base.N_SAMPLES", 0)
    return models


def test_all_measures_what_ships(shipped, answering):
    result = CliRunner().invoke(cli.app, ["evaluate", "--all", "--quiet"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    names = [line[:-1] for line in lines if line[:-1] in MODELS]
    assert names == ["base-llm", "base-llm-small", "instruct-llm"]
    for words in (
        "gap to the floor: ",
        "all kinds: 50.0 % of 8 (22 % … 78 %) · ",
        "who: 3 of 4 · 3 of 4 · 3 of 4",
        "instructions, held-out wordings: 50.0 % of 8 (22 % … 78 %) · 50.0 % of 8",
        "loss on 2 plain stories, above the floor: ",
    ):
        assert words in result.stdout, words
    sizes = [pair[1].vocab_size for pair in (chatty(), base())]
    assert answering == [
        (sizes[0], 5, tuple(SPLITS)),
        (sizes[1], 5, ("held-out wordings",)),
    ]


def test_all_comes_as_json_a_line_for_each_model(shipped):
    result = CliRunner().invoke(cli.app, ["evaluate", "--all", "--quiet", "--json"])
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["model"] for one in found] == [*shipped]
    assert found[0]["tables"][0]["head"] == ["measure", "value"]


def test_all_is_every_model_that_ships():
    assert set(MODELS) == set(shipped_models())


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


def test_neither_model_nor_all_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["llmcourse", "evaluate"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert "wanted --model or --all, got neither" in capsys.readouterr().err


def test_a_packed_corpus_is_not_measured_as_text(tmp_path, monkeypatch, capsys):
    """Its folder holds JSON files, which are text, but not that of the corpus."""
    save_pretrained(*base(), tmp_path / "model")
    packed = tmp_path / "corpus"
    made = CliRunner().invoke(
        cli.app, ["corpus", "--n-stories=40", "--out", str(packed), "--quiet"]
    )
    assert made.exit_code == 0
    words = ["evaluate", "--model", tmp_path / "model", "--data", packed]
    code, said = fails(monkeypatch, capsys, *words)
    assert code == 1
    assert "corpus' holds the ids of a corpus, which only `pretrain` reads" in said


def test_reward_model_and_aligned_model_are_measured(shipped, monkeypatch, tmp_path):
    want_length(monkeypatch)
    folder = tmp_path / "reward-model"
    model = RewardModel(chatty()[0], torch.Generator().manual_seed(0))
    save_reward_model(model, chatty()[1], folder)
    shipped["aligned-llm"] = chatty()
    small = replace(TINY["grpo"], policy="instruct-llm", n_held_out=2)
    monkeypatch.setattr(command, "_ALIGN", small)
    monkeypatch.setattr(command, "load_reward_model", lambda _: load(folder))
    few = Exam(n_prompts=2, n_stories=2, n_seeds=2)
    monkeypatch.setattr(instruct, "CARD_EXAM", few)
    monkeypatch.setattr(command, "MODELS", MODELS)
    result = CliRunner().invoke(cli.app, ["evaluate", "--all", "--quiet"])
    assert result.exit_code == 0, result.output
    last = result.stdout.partition("reward-model:")[2]
    pairs = collect(small, *chatty(), held_out=True)
    quality = reward_quality(load(folder)[0], chatty()[1], pairs)
    rate = 100 * quality["accuracy"]["rate"]
    assert f"{rate:.1f} % of {len(pairs)} held-out pairs" in last
    last = last.partition("aligned-llm:")[2]
    for words in (
        "gold reward: ",
        "+0.00 standard deviations",
        "with the first sampling seed: +0.00 (+0.00 … +0.00)",
        "with the others: +0.00",
        "control: the start, sampled again: +0.00",
        "instructions, held-out wordings: 50.0 % of 8 (22 % … 78 %) · 50.0 % of 8",
        "loss on 2 plain stories, above the floor: ",
    ):
        assert words in last, words
