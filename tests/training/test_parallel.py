"""Several processes make the training of one: the same losses, files, refusals."""

import json
import shutil
from dataclasses import replace
from time import time

import cli_cases
import parallel_cases
import pytest
import torch
from chat_cases import base
from parallel_cases import LONG, MUON, align, train, tune
from policy_cases import METHODS

from llmcourse.alignment.reward_model import load_reward_model
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.training.checkpoints import Run, load_checkpoint

TINY = ("--preset=tiny", "--threads=1", "--stories=2", "--samples=0", "--quiet")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two processes found, in a folder that one process has begun."""
    folder = tmp_path_factory.mktemp("both")
    # The schedule hangs on the number of steps, so the first half is a stopped whole.
    with pytest.raises(KeyboardInterrupt):
        train(run=Run(folder=folder / "one", interval=20, progress=_stop_after(30)))
    ended = parallel_cases.launch(2, "trainings", folder)
    assert ended.returncode == 0, ended.stderr
    return folder, json.loads((folder / "found.json").read_text(encoding="utf-8"))


def _stop_after(step):
    def progress(record):
        if record.step == step:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(("name", "config"), [("adamw", LONG), ("muon", MUON)])
def test_two_processes_have_the_losses_of_one(both, name, config):
    _, alone = train(config)
    assert both[1][name] == pytest.approx(alone, abs=1e-5)
    assert alone[49] < alone[0] - 0.1  # something was learned


def test_two_processes_share_out_the_matrices(both):
    n_matrices = 7 * parallel_cases.SIZES.n_layers
    assert both[1]["orthogonalised"] == 2 * n_matrices / 2


def test_two_processes_that_fine_tune_have_the_losses_of_one(both):
    alone = tune()
    assert both[1]["tuned"] == pytest.approx(alone, abs=1e-5)
    assert alone[49] < alone[0] - 0.01


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_that_align_have_the_answers_and_weights_of_one(both, method):
    alone = align(method)
    for ours, theirs in zip(alone, both[1][method], strict=True):
        assert theirs == pytest.approx(ours, abs=1e-5)


def test_two_processes_make_the_models_of_one(tmp_path):
    save_pretrained(*base(), tmp_path / "base")
    found = []
    for n in (1, 2):
        ended = parallel_cases.launch(n, "aligned", tmp_path)
        assert ended.returncode == 0, ended.stderr
        run = tmp_path / "run"
        models = load_reward_model(run / "reward/model"), load_pretrained(run / "model")
        weights = [w for model, _ in models for w in model.state_dict().values()]
        pairs = json.loads((run / "pairs.json").read_text(encoding="utf-8"))
        card = json.loads((run / "model/card.json").read_text(encoding="utf-8"))
        found.append((weights, pairs, card["quality"]["after"]["kl"]))
        shutil.rmtree(run)
    (alone, pairs, kl), (together, same, also) = found
    assert pairs == same
    assert kl == pytest.approx(also, abs=1e-4)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-3)


def test_answers_that_cannot_be_shared_out_are_refused(both):
    assert (
        "2 processes must divide the answers of an iteration" in both[1]["odd answers"]
    )


def test_two_processes_go_on_from_the_checkpoint_of_one(both):
    _, alone = train()
    assert both[1]["resumed"] == pytest.approx(alone, abs=1e-5)


def test_one_process_goes_on_from_the_checkpoint_of_two(both):
    config, saved = replace(LONG, steps=20), Run(folder=both[0] / "two", interval=20)
    model, losses = train(config, saved)  # nothing is left to do
    other, alone = train(config)
    assert losses == pytest.approx(alone, abs=1e-5)
    for (name, ours), theirs in zip(
        model.state_dict().items(), other.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4, msg=name)


def test_the_first_process_alone_reports(both):
    assert both[1]["followed by"] == 20 + 3  # updates, and evaluations at 0, 10, 20


def test_a_batch_that_cannot_be_shared_out_is_refused(both):
    assert "2 processes with accumulation 1 must divide batch_size 3" in both[1]["odd"]


def test_processes_that_are_not_alike_are_refused(both):
    assert "all processes must have the same recipe" in both[1]["other order"]


def test_a_killed_process_ends_the_run_and_resuming_loses_nothing(tmp_path):
    args = ("pretrain", *TINY, "--out", tmp_path / "run")
    ended = parallel_cases.launch(2, "killed", *args)
    assert ended.returncode != 0
    assert time() - float(ended.stdout.splitlines()[-1]) < 30  # seconds
    assert not (tmp_path / "run" / "model").exists()
    newest = load_checkpoint(tmp_path / "run" / "checkpoints")
    assert newest["step"] == 20
    assert cli_cases.run(*args, "--resume").exit_code == 0
    alone = ("pretrain", *TINY, "--out", tmp_path / "alone")
    assert cli_cases.run(*alone).exit_code == 0
    ours, theirs = (_log(tmp_path / name) for name in ("run", "alone"))
    assert [record[:2] for record in ours] == [record[:2] for record in theirs]
    losses = [[loss for *_, loss in records] for records in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def _log(folder):
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [(record["kind"], record["step"], record["loss"]) for record in records]


def test_a_device_that_is_not_there_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    args = ("pretrain", *TINY, "--device=cuda", "--out", tmp_path / "run")
    code, line = cli_cases.fails(monkeypatch, capsys, *args)
    assert code == 1
    assert "wanted a device out of" in line
