"""Trainings that are stopped, in all the ways there are, and go on to the same end."""

import errno
import math
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llmcourse import files
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.training import pretraining
from llmcourse.training.checkpoints import (
    Checkpoint,
    Run,
    checkpoint_paths,
    load_checkpoint,
    read_state,
    resume,
    save_checkpoint,
    write_state,
)
from llmcourse.training.config import History, JSONLinesLog, PretrainingConfig, Update
from llmcourse.training.loop import make_optimizer
from llmcourse.training.pretraining import pretrain, train_step
from llmcourse.training.windows import Windows

SIZES = TransformerConfig(
    vocab_size=13,
    d_model=16,
    n_layers=2,
    n_heads=2,
    n_kv_heads=1,
    d_ff=20,
    context_length=9,
)
SHORT = PretrainingConfig(
    steps=11,
    batch_size=4,
    context_length=7,
    learning_rate=0.01,
    warmup_steps=2,
    eval_interval=3,
    eval_windows=5,
    accumulation=2,
)


class Stop(Exception):  # noqa: N818
    """What a callback raises to end a training early."""


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_tokens(n=100, seed=0):
    return np.random.default_rng(seed).integers(0, 13, n).astype(np.uint16)


def run(folder=None, config=SHORT, seed=0, interval=2, sizes=SIZES, **options):
    """Train a model, from whichever first weights; return all that it ends with."""
    first = seed if folder is None or not checkpoint_paths(folder) else 99
    model, generator = Transformer(sizes, seeded(first)), seeded(seed)
    texts = {"train_tokens": random_tokens(), "valid_tokens": random_tokens(50, 1)}
    options = texts | options
    history = pretrain(
        model,
        **options,
        config=config,
        generator=generator,
        checkpoint_folder=folder,
        checkpoint_interval=interval,
    )
    return SimpleNamespace(model=model, history=history, generator=generator)


def stopped_run(folder, step, log=None, **options):
    def progress(record):
        if log:
            log(record)
        if isinstance(record, Update) and record.step == step:
            raise Stop

    with pytest.raises(Stop):
        run(folder, progress=progress, **options)


def assert_same_weights(ours, theirs):
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def assert_same_end(ours, theirs):
    assert_same_weights(ours.model, theirs.model)
    assert ours.history == theirs.history
    assert torch.equal(ours.generator.get_state(), theirs.generator.get_state())


def same(one, other):
    """Compare nested states, tensors by their bits and types."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        keys = one.keys() == other.keys()
        return keys and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=True)
        return type(one) is type(other) and all(same(a, b) for a, b in pairs)
    return type(one) is type(other) and one == other


def make_checkpoint(step=0):
    """Return a checkpoint as there is one after some steps, its history invented."""
    model = Transformer(SIZES, seeded(step))
    record = Update(step=1, loss=0.1 + 0.2, learning_rate=1e-3, gradient_norm=math.pi)
    optimizer = make_optimizer(model, SHORT)
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    batches = Windows(random_tokens(), 7).shuffled(4, seeded())
    next(batches)
    return Checkpoint.of(
        Run(config=SHORT, model=SIZES, train_tokens="7 t", valid_tokens="5 v"),
        History(updates=[replace(record, step=i + 1) for i in range(step)]),
        model,
        optimizer,
        batches,
    )


def damage(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


class Remembering(torch.optim.Optimizer):
    """Descent by means of what it remembers, as things of many kinds."""

    def __init__(self, weights):
        super().__init__(weights, {"lr": 0.1, "shares": (0.9, [0.5, None])})

    def step(self):
        for group in self.param_groups:
            (share, (much, _)) = group["shares"]
            for weight in group["params"]:
                memory = self.state[weight] or {"mean": [weight.detach() * 0.0], "n": 0}
                mean = share * memory["mean"][0] + (1 - share) * weight.grad
                self.state[weight] = {"mean": [mean], "n": memory["n"] + 1}
                rate = group["lr"] * much / self.state[weight]["n"]
                weight.data -= rate * mean


def spoiling_step(number):
    """Return a `train_step` that spoils a weight in a certain step."""

    def step(model, optimizer, windows, step, config):
        update = train_step(model, optimizer, windows, step, config)
        if update.step == number:
            model.norm.weight.data[0] = math.nan
        return update

    return step


def train_and_wait(folder, moment, number):
    """Train; at the nth such moment of writing checkpoints, wait to be killed."""
    torch.set_num_threads(1)
    calls = count(1)

    def wait():
        print("now", flush=True)
        time.sleep(100)

    def fsync(descriptor, original=os.fsync):
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and next(calls) == number:
            os.truncate(descriptor, found.st_size // 2)
            wait()
        original(descriptor)

    def rename(self, target, original=Path.replace):
        original(self, target)
        if next(calls) == number:
            wait()

    def delete(self, missing_ok=False, original=Path.unlink):
        if self.suffix == ".safetensors" and next(calls) == number:
            wait()
        original(self, missing_ok)

    if moment == "half":
        os.fsync = fsync
    elif moment == "renamed":
        Path.replace = rename
    else:
        Path.unlink = delete
    run(Path(folder), interval=1)


def kill_a_training(folder, moment, number):
    """Let a process train until it waits, and kill it there."""
    call = f"train_and_wait({str(folder)!r}, {moment!r}, {number})"
    command = [sys.executable, "-c", f"import {__name__} as tests; tests.{call}"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert line == "now\n"
    assert process.returncode == -signal.SIGKILL


# Worked example


def test_worked_example_of_a_training_stopped_twice(tmp_path):
    """Eleven steps, checkpoints every two: stopped in steps 6 and 9, it goes on from
    4 and from 8, where the callback sees step 5 and step 9 next.
    """
    whole, seen = run(), []
    stopped_run(tmp_path, 6)
    assert [path.stem for path in checkpoint_paths(tmp_path)] == [
        "step-00000002",
        "step-00000004",
    ]
    stopped_run(tmp_path, 9)
    resumed = run(tmp_path, progress=seen.append)
    assert [r.step for r in seen if isinstance(r, Update)] == [9, 10, 11]
    assert_same_end(resumed, whole)
    assert [path.stem for path in checkpoint_paths(tmp_path)] == [
        "step-00000010",
        "step-00000011",
    ]


# Law


@pytest.mark.parametrize("step", range(1, 12))
@pytest.mark.parametrize("start_token", [None, 5])
def test_stopped_anywhere_it_ends_the_same(tmp_path, step, start_token):
    """Three steps lie between checkpoints, and a pass over the data takes three or
    two, so all of these come before, at and after each other.
    """
    text = random_tokens()
    text[::10] = 5
    options = {"train_tokens": text, "start_token": start_token, "interval": 3}
    whole = run(**options)
    stopped_run(tmp_path, step, **options)
    assert_same_end(run(tmp_path, **options), whole)


def test_checkpoints_change_nothing(tmp_path):
    assert_same_end(run(tmp_path, interval=1), run())


def test_the_next_windows_are_the_same_whether_stopped_or_not(tmp_path, monkeypatch):
    def spy(model, optimizer, windows, step, config):
        seen.append(windows)
        return train_step(model, optimizer, windows, step, config)

    monkeypatch.setattr(pretraining, "train_step", spy)
    seen = []
    run()
    whole, seen = seen, []
    stopped_run(tmp_path, 5)
    stopped, seen = seen, []
    run(tmp_path)  # goes on from step 4
    assert len(whole) == 11
    assert same(stopped[:4] + seen, whole)


@pytest.mark.parametrize("step", [3, 4])
def test_any_optimizer_goes_on(tmp_path, monkeypatch, step):
    monkeypatch.setattr(
        pretraining, "make_optimizer", lambda model, _: Remembering(model.parameters())
    )
    whole = run()
    stopped_run(tmp_path, step)
    assert_same_end(run(tmp_path), whole)


def test_a_finished_training_is_read_and_not_repeated(tmp_path):
    whole, seen = run(tmp_path), []
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert_same_end(run(tmp_path, progress=seen.append), whole)
    assert not seen
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    saved = make_checkpoint(step=2)
    save_checkpoint(tmp_path / "new" / "folder", saved)
    loaded = load_checkpoint(tmp_path / "new" / "folder")
    assert loaded.run == saved.run
    assert loaded.history == saved.history
    assert loaded.step == 2
    for name in ("weights", "optimizer", "order"):
        assert same(getattr(loaded, name), getattr(saved, name)), name
    assert loaded.optimizer["state"][0]["exp_avg"].abs().sum() > 0


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(tmp_path, keep):
    (tmp_path / "notes.txt").touch()
    for step in (0, 2, 3, 7, 8):
        save_checkpoint(tmp_path, make_checkpoint(step), keep=keep)
    steps = [int(path.stem[5:]) for path in checkpoint_paths(tmp_path)]
    assert steps == [0, 2, 3, 7, 8][-keep:]
    assert (tmp_path / "notes.txt").exists()


def test_what_killed_trainings_left_is_cleared_away(tmp_path):
    (tmp_path / ".step-00000003.safetensors.abc.tmp").write_bytes(b"half")
    path = save_checkpoint(tmp_path, make_checkpoint(4))
    assert [*tmp_path.iterdir()] == [path]


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    """The newest of step 8 is damaged, so steps 7 and 8 are made again."""
    stopped_run(tmp_path, 9)
    damage(checkpoint_paths(tmp_path)[-1])
    seen = []
    with pytest.warns(UserWarning, match=r"step-00000008.* is damaged .*hash"):
        resumed = run(tmp_path, progress=seen.append, interval=3)
    assert [r.step for r in seen if isinstance(r, Update)] == [7, 8, 9, 10, 11]
    assert_same_end(resumed, run())
    steps = [int(path.stem[5:]) for path in checkpoint_paths(tmp_path)]
    assert steps == [9, 11], "what was damaged is gone"


def test_the_damaged_one_does_not_outlive_its_place(tmp_path):
    """Were the damaged checkpoint of step 8 kept as the newest, it would push out
    the good ones that are written after it.
    """
    stopped_run(tmp_path, 9)
    damage(checkpoint_paths(tmp_path)[-1])
    with pytest.warns(UserWarning, match="damaged"):
        stopped_run(tmp_path, 8, interval=1)
    steps = [int(path.stem[5:]) for path in checkpoint_paths(tmp_path)]
    assert steps == [6, 7]


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_a_file_cut_short_is_damaged(tmp_path, cut):
    save_checkpoint(tmp_path, make_checkpoint(3))
    path = save_checkpoint(tmp_path, make_checkpoint(4))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.warns(UserWarning, match="step-00000004"):
        assert load_checkpoint(tmp_path).step == 3


@pytest.mark.parametrize("interval", [1, 2])
def test_a_loss_that_is_no_number_leaves_the_last_good_checkpoint(
    tmp_path, monkeypatch, interval
):
    """A fault of the memory spoils a weight in step 5. What comes next is step 6 or
    a checkpoint; either finds it out.
    """
    monkeypatch.setattr(pretraining, "train_step", spoiling_step(5))
    with pytest.raises(FloatingPointError, match=r"step [56] needs .*finite"):
        run(tmp_path, interval=interval)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path).step == 4
    assert_same_end(run(tmp_path, interval=interval), run())


def test_an_evaluation_that_is_no_number_stops_the_training(monkeypatch):
    """After the last step there is no other that could find it out."""
    monkeypatch.setattr(pretraining, "train_step", spoiling_step(11))
    with pytest.raises(FloatingPointError, match="step 11 needs .* held-out"):
        run()


def test_the_log_has_each_step_once(tmp_path):
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    run(progress=JSONLinesLog(whole))
    for step in (3, 8):
        stopped_run(tmp_path, step, log=JSONLinesLog(stopped))
    run(tmp_path, progress=JSONLinesLog(stopped))
    assert stopped.read_text() == whole.read_text()


def test_killed_while_it_writes_it_ends_the_same(tmp_path):
    """Killed for good (SIGKILL) at four moments; each life goes on from the last."""
    for moment, number, newest in (
        ("half", 1, None),  # of step 0, so nothing is there
        ("half", 4, 2),  # from the start again, in step 3
        ("renamed", 3, 5),  # from step 2, in step 5, before an old one is deleted
        ("deleting", 2, 6),  # from step 5, in step 6, which deletes two
    ):
        kill_a_training(tmp_path, moment, number)
        assert len([*tmp_path.glob(".*.tmp")]) == (moment == "half")
        if newest is None:
            assert not checkpoint_paths(tmp_path)
        else:
            assert load_checkpoint(tmp_path).step == newest
    assert_same_end(run(tmp_path, interval=1), run())
    assert len([*tmp_path.iterdir()]) == 2


# Reference


def test_equals_training_on_with_the_objects_at_hand(tmp_path):
    """Going on from a file against going on with the model, the optimizer and the
    iterator themselves.
    """
    stopped_run(tmp_path, 7)
    model, generator = Transformer(SIZES, seeded()), seeded()
    optimizer = make_optimizer(model, SHORT)
    batches = Windows(random_tokens(), 7).shuffled(4, generator)
    updates = [
        train_step(model, optimizer, next(batches), step, SHORT) for step in range(11)
    ]
    resumed = run(tmp_path)
    assert_same_weights(resumed.model, model)
    assert resumed.history.updates == updates


# Refusal


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"config": replace(SHORT, steps=12)}, "config.steps must be 11, got 12"),
        (
            {"config": replace(SHORT, learning_rate=0.02, accumulation=4)},
            "config.learning_rate must be 0.01, got 0.02; "
            "config.accumulation must be 2, got 4",
        ),
        ({"sizes": replace(SIZES, d_ff=24)}, "model.d_ff must be 20, got 24"),
        (
            {"train_tokens": random_tokens(99)},
            "train_tokens must be '100 tokens .*', got '99 tokens",
        ),
        (
            {"train_tokens": random_tokens(100, seed=2)},
            "train_tokens must be '100 tokens .*', got '100 tokens",
        ),
        (
            {"valid_tokens": random_tokens(50, seed=2)},
            "valid_tokens must be '50 tokens .*', got '50 tokens",
        ),
        ({"start_token": 5}, "start_token must be None, got 5"),
        ({"tokenizer": "other"}, "tokenizer must be 'some', got 'other'"),
        ({"seed": 1}, "seed must be 0, got 1"),
    ],
)
def test_refuses_to_go_on_with_another_training(tmp_path, other, message):
    stopped_run(tmp_path, 3, tokenizer="some")
    with pytest.raises(ValueError, match=f"checkpoints of another .*: {message}"):
        run(tmp_path, **{"tokenizer": "some"} | other)
    assert load_checkpoint(tmp_path).step == 2


def test_refuses_weights_of_another_type_and_changes_nothing(tmp_path):
    stopped_run(tmp_path, 3)
    model, generator = Transformer(SIZES, seeded(9)).double(), seeded()
    before, state = model.norm.weight.clone(), generator.get_state()
    checkpoint = load_checkpoint(tmp_path)
    batches = Windows(random_tokens(), 7).shuffled(4, generator)
    with pytest.raises(ValueError, match="must have the names, shapes and types"):
        resume(tmp_path, checkpoint.run, model, make_optimizer(model, SHORT), batches)
    assert torch.equal(model.norm.weight, before)
    assert torch.equal(generator.get_state(), state)


def test_refuses_a_folder_without_a_whole_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="whole checkpoint, got 0 damaged"):
        load_checkpoint(tmp_path)
    stopped_run(tmp_path, 3)
    for path in checkpoint_paths(tmp_path):
        damage(path)
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match="whole checkpoint, got 2 damaged"),
    ):
        run(tmp_path)


def test_refuses_a_checkpoint_of_another_version(tmp_path):
    path = save_checkpoint(tmp_path, make_checkpoint(1))
    state = read_state(path)
    del state["run"]["config"]["accumulation"]
    write_state(path, state)
    assert load_checkpoint(tmp_path).run.config == replace(SHORT, accumulation=1)
    state["run"]["config"]["dropout"] = 0.1
    write_state(path, state)
    with pytest.raises(ValueError, match="of this version .*dropout"):
        load_checkpoint(tmp_path)


def test_refuses_to_save_weights_that_are_no_numbers(tmp_path):
    checkpoint = make_checkpoint(2)
    checkpoint.weights["norm.weight"][3] = math.inf
    with pytest.raises(FloatingPointError, match="step 2 .*norm.weight"):
        save_checkpoint(tmp_path, checkpoint)
    assert not [*tmp_path.iterdir()]


def test_refuses_to_keep_nothing(tmp_path):
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        save_checkpoint(tmp_path, make_checkpoint(), keep=0)
    with pytest.raises(ValueError, match="checkpoint_interval must be positive, got 0"):
        run(tmp_path, interval=0)


def test_a_folder_that_cannot_be_written_is_found_out_before_the_first_step(
    tmp_path, monkeypatch
):
    def refuse(**options):
        raise PermissionError(errno.EACCES, "Permission denied", str(options["dir"]))

    monkeypatch.setattr(files, "NamedTemporaryFile", refuse)
    seen = []
    with pytest.raises(PermissionError, match="Permission denied"):
        run(tmp_path, progress=seen.append)
    assert not [record for record in seen if isinstance(record, Update)]
    monkeypatch.undo()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file"):
        run(tmp_path / "file")


def test_a_full_disk_stops_the_training_and_keeps_what_is_there(tmp_path, monkeypatch):
    fsync, calls = os.fsync, []

    def full(descriptor):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            calls.append(descriptor)
            if len(calls) == 4:  # of step 6, after 0, 2 and 4
                raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*step-00000006.*No space left"):
        run(tmp_path)
    monkeypatch.undo()
    assert sorted(tmp_path.iterdir()) == checkpoint_paths(tmp_path)
    assert load_checkpoint(tmp_path).step == 4
    assert_same_end(run(tmp_path), run())
