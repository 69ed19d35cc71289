"""`llmcourse info`, `score` and `quantize`."""

import json

import pytest
from model_cases import make_model, make_tokenizer
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.alignment.reward_model import (
    RewardModel,
    load_reward_model,
    save_reward_model,
    text_reward,
)
from llmcourse.cli.running import open_model
from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import save_pretrained
from llmcourse.model.positions import RopeScaling
from llmcourse.model.quantization import load_quantized, weight_bytes


def run(*args):
    return CliRunner().invoke(cli.app, [*map(str, args)])


@pytest.fixture
def folder(tmp_path):
    save_pretrained(make_model(), make_tokenizer(), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def judge(tmp_path):
    model = RewardModel(make_model())
    save_reward_model(model, make_tokenizer(), tmp_path / "judge")
    return tmp_path / "judge"


def test_info_counts_parameters_and_bytes(folder):
    found = json.loads(run("info", folder, "--json").stdout)
    model = make_model()
    assert found["parameters"] == n_parameters(model.config)
    assert found["bytes of weights, loaded"] == weight_bytes(model)
    assert found["n_layers"] == model.config.n_layers
    assert "tensors" not in found


def test_info_lists_each_tensor_once_for_all_layers(folder):
    result = run("info", folder, "--tensors")
    rows = [line for line in result.stdout.splitlines() if " × " in line]
    counts = [int(row.split(" × ")[0]) for row in rows]
    assert sum(counts) == len(make_model().state_dict())
    assert any("blocks.*.attention.query.weight float32 (" in row for row in rows)


def test_info_opens_whatever_a_command_opens(folder, judge, tmp_path):
    assert run("info", judge).exit_code == 0
    out = tmp_path / "small"
    assert run("quantize", "--model", folder, "--out", out).exit_code == 0
    assert "int8 (" in run("info", out, "--tensors").stdout


def test_scores_are_those_of_the_reward_model_the_best_first(judge):
    answers = ["low", "lower", "new low"]
    found = json.loads(run("score", "low", *answers, "--model", judge, "--json").stdout)
    reward = text_reward(*load_reward_model(judge))
    expected = dict(zip(answers, reward(["low"] * 3, answers).tolist(), strict=True))
    assert {one["answer"]: one["reward"] for one in found} == pytest.approx(expected)
    assert [one["reward"] for one in found] == sorted(expected.values(), reverse=True)
    shown = run("score", "low", *answers, "--model", judge).stdout.splitlines()
    assert [line.split("  ")[1] for line in shown] == [one["answer"] for one in found]


@pytest.mark.parametrize("bits", ["8", "4"])
def test_a_quantized_folder_is_smaller_and_opens(folder, tmp_path, bits):
    out = tmp_path / "small"
    words = ("--model", folder, "--bits", bits, "--group", 4, "--out", out)
    found = json.loads(run("quantize", *words, "--json").stdout)
    assert found["bytes_after"] < found["bytes_before"]
    result = run("quantize", *words, "--overwrite")
    assert result.exit_code == 0
    small, _ = load_quantized(out)
    assert weight_bytes(small) < weight_bytes(make_model())
    opened = open_model(out, "cpu", "float32")[0].state_dict()
    assert {name: weight.dtype for name, weight in opened.items()} == {
        name: weight.dtype for name, weight in small.state_dict().items()
    }
    assert "error of the weights: " in result.stdout
    assert run("generate", "--model", out, "low", "--max-new-tokens", 3).exit_code == 0


def test_nothing_is_overwritten_unasked(folder, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    for command in ("quantize", "export"):
        result = run(command, "--model", folder, "--out", tmp_path)
        assert isinstance(result.exception, ValueError)
        assert "is not empty: add --overwrite" in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "note.txt"]


def test_what_is_refused_leaves_no_folder(folder, tmp_path):
    out = tmp_path / "small"
    result = run("quantize", "--model", folder, "--group", 5, "--out", out)
    assert "groups must fill a row" in str(result.exception)
    result = run("export", "--model", tmp_path, "--out", out)
    assert isinstance(result.exception, ValueError)
    assert not out.exists()


def test_info_of_scaled_positions_is_json(tmp_path):
    scaling = RopeScaling(kind="linear", factor=2)
    save_pretrained(make_model(rope_scaling=scaling), make_tokenizer(), tmp_path)
    facts = json.loads(run("info", tmp_path, "--json").stdout)
    assert facts["rope_scaling"]["factor"] == 2
