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
from parallel_cases import LONG, MUON, Stopping, align, train, tune
from policy_cases import METHODS
from safetensors.torch import load_file

from llmcourse.alignment.reward_model import load_reward_model
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.training.checkpoints import Run, checkpoint_paths, load_checkpoint

TINY = ("--preset=tiny", "--threads=1", "--stories=2", "--quiet")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two processes found, in a folder that one process has begun."""
    folder = tmp_path_factory.mktemp("both")
    # The schedule hangs on the number of steps, so the first half is a stopped whole.
    with pytest.raises(KeyboardInterrupt):
        train(run=Stopping(folder=folder / "one", interval=20))
    shutil.copytree(folder / "one", folder / "from one")
    ended = parallel_cases.launch(2, "trainings", folder)
    assert ended.returncode == 0, ended.stderr
    return folder, json.loads((folder / "found.json").read_text(encoding="utf-8"))


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
    whole = tune(change=lambda model: None)
    assert both[1]["tuned in parts"] == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_that_align_have_the_answers_and_weights_of_one(both, method):
    alone = align(method, **(parallel_cases.PTX if method == "grpo" else {}))
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
    assert "must be a multiple of processes" in both[1]["odd answers"]


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


@pytest.fixture(scope="module")
def alone():
    """What one process finds: its model, losses and gradient norms."""
    records = []
    model, losses = train(run=Run(progress=records.append))
    norms = [r.gradient_norm for r in records if hasattr(r, "gradient_norm")]
    return model, losses, norms


def test_sharded_weights_make_the_training_of_whole_ones(both, alone):
    found, (_, losses, norms) = both[1]["sharded"], alone
    assert found["losses"] == pytest.approx(losses, abs=1e-5)
    assert found["norms"] == pytest.approx(norms, abs=1e-4)
    assert max(norms) > LONG.clip_norm, "clipping takes part"


def test_a_process_holds_half_of_the_weights(both):
    held, n = both[1]["sharded"]["held"]
    assert held == pytest.approx(n / 2, rel=0.02)  # 31 rows are 16 and 15


def test_muon_with_sharded_matrices_and_gradient_checkpointing(both):
    assert both[1]["sharded"]["muon"] == pytest.approx(train(MUON)[1], abs=1e-5)


def test_the_first_process_gets_whole_weights_at_the_end(both, alone):
    found, wanted = load_file(both[0] / "unsharded.safetensors"), alone[0].state_dict()
    torch.testing.assert_close(found, dict(wanted), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["from one", "resumed"])
def test_sharded_processes_go_on_from_whole_or_sharded_checkpoints(both, alone, name):
    assert both[1]["sharded"][name] == pytest.approx(alone[1], abs=1e-5)


def test_one_process_reads_what_two_have_sharded(both, alone):
    *_, newest = checkpoint_paths(both[0] / "sharded")
    assert newest.is_dir()
    state = load_checkpoint(both[0] / "sharded")
    assert state["step"] == 50
    found, wanted = state["parts"]["model"], dict(alone[0].state_dict())
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["shard-00002-*", "state.json", "sha256"])
@pytest.mark.parametrize("damage", ["a bit", "cut", "gone"])
def test_a_damaged_part_is_passed_over(both, tmp_path, name, damage):
    shutil.copytree(both[0] / "sharded", tmp_path / "copy")
    *_, newest = checkpoint_paths(tmp_path / "copy")
    [path] = newest.glob(name)
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data if damage == "a bit" else data[:-20])
    if damage == "gone":
        path.unlink()
    with pytest.warns(UserWarning, match=r"step-00000050.* is damaged"):
        assert load_checkpoint(tmp_path / "copy")["step"] == 40


def test_the_first_process_alone_reports(both):
    assert both[1]["followed by"] == 20 + 3  # updates, and evaluations at 0, 10, 20


def test_a_batch_that_cannot_be_shared_out_is_refused(both):
    said = "batch_size must be a multiple of processes times accumulation, got 3 and 2"
    assert said in both[1]["odd"]


def test_processes_that_are_not_alike_are_refused(both):
    assert "all processes must have the same recipe" in both[1]["other order"]


@pytest.fixture(scope="module", params=["pretrain", "finetune"])
def begun(request, tmp_path_factory):
    """A command, the step of its last checkpoint when killed, and its log without."""
    folder = tmp_path_factory.mktemp("alone")
    command, kept = ("pretrain", *TINY, "--samples=0"), 20
    if request.param == "finetune":
        save_pretrained(*base(), folder / "base")
        more = ("--steps=12", "--questions=0", "--model", folder / "base")
        command, kept = ("finetune", *TINY, *more), 6
    assert cli_cases.run(*command, "--out", folder / "run").exit_code == 0
    return command, kept, _log(folder / "run")


@pytest.mark.parametrize("option", [[], ["--fsdp"]])
def test_a_killed_process_ends_the_run_and_resuming_loses_nothing(
    tmp_path, begun, option
):
    folder = tmp_path / "run"
    command, kept, log_alone = begun
    args = (*command, *option, "--out", folder)
    ended = parallel_cases.launch(2, "killed", *args)
    assert ended.returncode != 0
    assert time() - float(ended.stdout.splitlines()[-1]) < 30  # seconds
    assert not (folder / "model").exists()
    half_written = [path.name for path in (folder / "checkpoints").glob(".step*")]
    assert half_written == [f".step-{kept * 3 // 2:08}.tmp"] * len(option)
    assert load_checkpoint(folder / "checkpoints")["step"] == kept
    assert cli_cases.run(*args, "--resume").exit_code == 0
    assert not [*(folder / "checkpoints").glob(".step*")]
    ours = _log(folder)
    assert [record[:2] for record in ours] == [record[:2] for record in log_alone]
    losses = [[loss for *_, loss in records] for records in (ours, log_alone)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def _log(folder):
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [(record["kind"], record["step"], record["loss"]) for record in records]


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_device_that_is_not_there_is_refused(monkeypatch, capsys, tmp_path, command):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    args = (command, *TINY, "--device=cuda", "--out", tmp_path / "run")
    code, line = cli_cases.fails(monkeypatch, capsys, *args)
    assert code == 1
    assert "device must be" in line
