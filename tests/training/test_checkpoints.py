"""Trainings that are stopped in all ways there are, and the files they go on from."""

import errno
import json
import math
import os
import random
import signal
import stat
import struct
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
from model_cases import SMALL, seeded
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from llmcourse import files
from llmcourse.finetuning.lora import add_lora
from llmcourse.model.transformer import TINY, Transformer
from llmcourse.training import loop
from llmcourse.training.checkpoints import (
    Run,
    check_config_matches,
    checkpoint_paths,
    load_checkpoint,
    read_state,
    save_checkpoint,
    texts_fingerprint,
    weights_fingerprint,
    write_state,
)
from llmcourse.training.config import JSONLinesLog, PretrainingConfig, Update
from llmcourse.training.loop import update_weights, weighted_losses
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.pretraining import pretrain, train_step
from llmcourse.training.windows import Windows

SHORT = PretrainingConfig(
    steps=11,
    batch_size=4,
    context_length=7,
    learning_rate=0.01,
    warmup_steps=2,
    eval_interval=3,
    eval_examples=5,
    accumulation=2,
)


STATE = {
    "tensors": {
        "matrix": torch.arange(6.0).view(2, 3),
        "scalar": torch.tensor(0.1, dtype=torch.float64),
        "none": torch.empty(0, dtype=torch.int64),
        "flat": torch.empty(0, 4),
        "bytes": torch.tensor([0, 255, 7], dtype=torch.uint8),
        "yes": torch.tensor([True, False]),
        "half": torch.tensor([1.5, math.inf, math.nan], dtype=torch.bfloat16),
    },
    "numbers": [0, -3, 2**63, 0.1 + 0.2, 1e-320, -0.0, math.inf, -math.inf, True, None],
    "text": 'a "quoted" line\nand 狐',
    "lists": [0.9, [0.5, [1]], []],
    "by number": {0: torch.ones(2), 1: {"mean": [torch.zeros(1)]}},
    "dollars": {"$tensor": "x", "other": 1},
    "empty": {"a": {}, "b": []},
}


class Stop(Exception):  # noqa: N818
    """What a callback raises to end a training early."""


def random_tokens(n=100, seed=0):
    return np.random.default_rng(seed).integers(0, 13, n).astype(np.uint16)


def run(folder=None, config=SHORT, seed=0, interval=2, sizes=SMALL, **options):
    """Train a model, from whichever first weights; return all that it ends with."""
    first = seed if folder is None or not checkpoint_paths(folder) else 99
    model, generator = Transformer(sizes, seeded(first)), seeded(seed)
    texts = {"train_tokens": random_tokens(), "valid_tokens": random_tokens(50, 1)}
    names = {"progress", "tokenizer"} & options.keys()
    kept = Run(folder=folder, interval=interval, **{n: options.pop(n) for n in names})
    options = texts | options
    history = pretrain(model, **options, config=config, generator=generator, run=kept)
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
        kinds = one.dtype == other.dtype and one.shape == other.shape
        return kinds and torch.equal(one.nan_to_num(9), other.nan_to_num(9))
    if isinstance(one, dict):
        keys = [*one] == [*other]
        return keys and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=True)
        return type(one) is type(other) and all(same(a, b) for a, b in pairs)
    return type(one) is type(other) and repr(one) == repr(other)


def write_checkpoint(folder, step):
    """Write a checkpoint with one weight that says of which step it is."""
    parts = {"model": {"weight": torch.full((2, 3), float(step))}}
    return save_checkpoint(folder, step, {"recipe": {"seed": 0}, "parts": parts})


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
    """Return an `update_weights` that spoils a weight in a certain step."""

    def step(model, *args):
        update = update_weights(model, *args)
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
    found = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # this file, too
    with subprocess.Popen(
        command, env=found, stdout=subprocess.PIPE, text=True
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


def test_worked_example_of_names_in_the_file(tmp_path):
    """What the module's docstring shows, as any reader of safetensors sees it."""
    path = tmp_path / "state.safetensors"
    write_state(path, {"moments": {0: [torch.ones(2), 0.5]}})
    assert same(load_file(path), {"moments/0/0": torch.ones(2)})
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["state"]) == {
            "$dict": [["moments", {"$dict": [[0, [{"$tensor": "moments/0/0"}, 0.5]]]}]]
        }


# Law


def test_a_state_is_read_as_it_was_written(tmp_path):
    write_state(tmp_path / "a", STATE)
    assert same(read_state(tmp_path / "a"), STATE)


def test_tensors_of_one_name_are_refused(tmp_path):
    state = {"x": {1: torch.ones(1), "1": torch.zeros(1)}}
    with pytest.raises(ValueError, match="two tensors .* are both named 'x/1'"):
        write_state(tmp_path / "state.safetensors", state)


def test_another_alpha_or_frozen_weight_is_another_run(tmp_path):
    def model(alpha=4):
        found = Transformer(TINY, torch.Generator().manual_seed(0))
        add_lora(found, rank=2, alpha=alpha, generator=torch.Generator().manual_seed(0))
        return found

    Run(folder=tmp_path).save_if_due(0, {}, {"model": model()}, last=True)
    assert Run(folder=tmp_path).resume({}, {"model": model()})
    with pytest.raises(ValueError, match="another run: .*alphas"):
        Run(folder=tmp_path).resume({}, {"model": model(alpha=8)})
    free = model()
    free.norm.weight.requires_grad_(True)
    with pytest.raises(ValueError, match="another run: .*frozen"):
        Run(folder=tmp_path).resume({}, {"model": free})


def test_what_is_read_is_not_tied_to_the_file(tmp_path):
    write_state(tmp_path / "a", STATE)
    state = read_state(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"")
    state["tensors"]["matrix"] += 1
    assert torch.equal(state["tensors"]["matrix"], STATE["tensors"]["matrix"] + 1)


def test_tensors_that_share_memory_or_lie_crosswise_are_written(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    state = {
        "all": base,
        "row": base[1],
        "turned": base.T,
        "wide": base[:1].expand(2, 4),
    }
    write_state(tmp_path / "a", state)
    assert same(read_state(tmp_path / "a"), state)


def test_tensors_in_training_are_written(tmp_path):
    write_state(tmp_path / "a", {"weight": torch.nn.Parameter(torch.ones(3))})
    assert same(read_state(tmp_path / "a"), {"weight": torch.ones(3)})


def test_any_damage_is_found(tmp_path):
    """One bit of each of 300 bytes, among them all of the header's first 60."""
    path = tmp_path / "a"
    write_state(path, STATE)
    good = path.read_bytes()
    places = [*range(60), *random.Random(0).sample(range(60, len(good)), 240)]
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        try:
            state = read_state(path)
        except ValueError:
            continue
        assert same(state, STATE), place


def test_fingerprints_tell_apart():
    one, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    assert weights_fingerprint(one) == weights_fingerprint(one)
    assert weights_fingerprint(one) != weights_fingerprint(other)
    other.load_state_dict(one.state_dict())
    assert weights_fingerprint(one) == weights_fingerprint(other)
    lists = (["ab", "c"], ["a", "bc"], ["c", "ab"], ["ab"], [])
    assert len({texts_fingerprint(texts) for texts in lists}) == 5


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
    def spy(windows, *args):
        seen.append(windows)
        return weighted_losses(windows, *args)

    monkeypatch.setattr(loop, "weighted_losses", spy)
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
        loop, "make_optimizer", lambda model, _: Remembering(model.parameters())
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
    write_checkpoint(tmp_path / "new" / "folder", 2)
    loaded = load_checkpoint(tmp_path / "new" / "folder")
    assert loaded["step"] == 2
    assert loaded["recipe"] == {"seed": 0}
    assert same(loaded["parts"], {"model": {"weight": torch.full((2, 3), 2.0)}})


def test_the_two_newest_are_kept(tmp_path):
    (tmp_path / "notes.txt").touch()
    for step in (0, 2, 3, 7, 8):
        write_checkpoint(tmp_path, step)
    assert [int(path.stem[5:]) for path in checkpoint_paths(tmp_path)] == [7, 8]
    assert (tmp_path / "notes.txt").exists()


def test_what_killed_trainings_left_is_cleared_away(tmp_path):
    (tmp_path / ".step-00000003.safetensors.abc.tmp").write_bytes(b"half")
    path = write_checkpoint(tmp_path, 4)
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
    write_checkpoint(tmp_path, 3)
    path = write_checkpoint(tmp_path, 4)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.warns(UserWarning, match="step-00000004"):
        assert load_checkpoint(tmp_path)["step"] == 3


@pytest.mark.parametrize("interval", [1, 2])
def test_a_loss_that_is_no_number_leaves_the_last_good_checkpoint(
    tmp_path, monkeypatch, interval
):
    """A fault of the memory spoils a weight in step 5. What comes next is step 6 or
    a checkpoint; either finds it out.
    """
    monkeypatch.setattr(loop, "update_weights", spoiling_step(5))
    with pytest.raises(FloatingPointError, match=r"step [56] needs .*finite"):
        run(tmp_path, interval=interval)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path)["step"] == 4
    assert_same_end(run(tmp_path, interval=interval), run())


def test_an_evaluation_that_is_no_number_stops_the_training(monkeypatch):
    """After the last step there is no other that could find it out."""
    monkeypatch.setattr(loop, "update_weights", spoiling_step(11))
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
            assert load_checkpoint(tmp_path)["step"] == newest
    assert_same_end(run(tmp_path, interval=1), run())
    assert len([*tmp_path.iterdir()]) == 2


# Reference


def test_equals_training_on_with_the_objects_at_hand(tmp_path):
    """Going on from a file against going on with the model, the optimizer and the
    iterator themselves.
    """
    stopped_run(tmp_path, 7)
    model, generator = Transformer(SMALL, seeded()), seeded()
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
        ({"sizes": replace(SMALL, d_ff=24)}, "model.d_ff must be 20, got 24"),
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
    assert load_checkpoint(tmp_path)["step"] == 2


def test_refuses_weights_of_another_type_and_changes_nothing(tmp_path):
    stopped_run(tmp_path, 3)
    model, generator = Transformer(SMALL, seeded(9)).double(), seeded()
    before, state = model.norm.weight.clone(), generator.get_state()
    texts = random_tokens(), random_tokens(50, 1)
    with pytest.raises(ValueError, match=r"weights.* 'torch.float32 .*got 'torch.flo"):
        pretrain(model, *texts, SHORT, generator, run=Run(folder=tmp_path))
    assert torch.equal(model.norm.weight, before)
    assert torch.equal(generator.get_state(), state)


def test_refuses_a_folder_without_a_whole_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="undamaged checkpoint, got 0 damaged"):
        load_checkpoint(tmp_path)
    stopped_run(tmp_path, 3)
    for path in checkpoint_paths(tmp_path):
        damage(path)
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match="undamaged checkpoint, got 2 damaged"),
    ):
        run(tmp_path)


def test_refuses_a_checkpoint_of_another_version(tmp_path):
    """Which has or lacks a setting, or is no checkpoint at all."""
    stopped_run(tmp_path, 3)
    path = checkpoint_paths(tmp_path)[-1]
    state = read_state(path)
    state["recipe"]["config"]["dropout"] = 0.1
    write_state(path, state)
    with pytest.raises(ValueError, match=r"config.dropout must be 0\.1, got None"):
        run(tmp_path)


@pytest.mark.parametrize("part", ["policy", "critic"])
def test_refuses_to_save_weights_that_are_no_numbers(tmp_path, part):
    parts = {"policy": torch.nn.Linear(2, 3), "critic": torch.nn.Linear(3, 1)}
    parts[part].weight.data[0, 1] = math.inf
    with pytest.raises(FloatingPointError, match="step 2 needs .* but weight is not"):
        Run(folder=tmp_path).save_if_due(2, {}, parts, last=True)
    assert not [*tmp_path.iterdir()]


def test_refuses_an_interval_that_cannot_be():
    with pytest.raises(ValueError, match="interval must be positive, got 0"):
        Run(interval=0)


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
    assert load_checkpoint(tmp_path)["step"] == 4
    assert_same_end(run(tmp_path), run())


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", 1j, torch.Generator()])
def test_refuses_what_is_no_data_and_writes_nothing(tmp_path, value):
    with pytest.raises(ValueError, match="one/0/two must be a tensor, number or text"):
        write_state(tmp_path / "a", {"one": [{"two": value}]})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_refuses_a_file_cut_short(tmp_path, share):
    path = tmp_path / "a"
    write_state(path, STATE)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="must be a whole safetensors file"):
        read_state(path)


def test_refuses_other_tensors_under_the_same_names(tmp_path):
    """All is in order but the hash: someone has changed a number."""
    path = tmp_path / "a"
    write_state(path, {"weight": torch.ones(3)})
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file({"weight": torch.tensor([1.0, 1, 2])}, path, metadata)
    with pytest.raises(ValueError, match="must match the hash stored in it"):
        read_state(path)


def test_refuses_a_file_of_something_else(tmp_path):
    save_file({"weight": torch.ones(3)}, tmp_path / "a")
    with pytest.raises(ValueError, match="hash"):
        read_state(tmp_path / "a")
    (tmp_path / "a").write_bytes(struct.pack("<Q", 2) + b"[]")
    with pytest.raises(ValueError, match="whole safetensors"):
        read_state(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path / "b")


def test_equal_recipes_pass():
    before = {"config": {"a": 1, "b": [2, 3]}, "d": 4}
    check_config_matches("'here' is another's", before, {"d": 4, **before})
    check_config_matches("'here' is another's", {}, {})
    lists, tuples = {"a": {"b": [1, [2, 3]]}}, {"a": {"b": (1, (2, 3))}}
    check_config_matches("'here' is another's", lists, tuples)


def test_of_many_differences_three_are_told():
    before = {"config": {"a": 1, "b": 2, "c": 3}, "d": 4, "e": 5, "same": 6}
    with pytest.raises(ValueError, match="'here' is another's: config.b must") as odd:
        check_config_matches(
            "'here' is another's", before, {"config": {"a": 1}, "f": 7, "same": 6}
        )
    assert str(odd.value).endswith(
        "another's: config.b must be 2, got None; config.c must be 3, got None; "
        "d must be 4, got None; 2 more differ"
    )


@pytest.mark.parametrize("more", [{"before": None}, {"now": None}])
def test_what_is_missing_is_not_what_is_none(more):
    recipes = {"before": {"n": 8}, "now": {"n": 8}}
    for name in more:
        recipes[name] |= {"seed": None}
    with pytest.raises(ValueError, match="seed must be None, got None"):
        check_config_matches("pairs of another", recipes["before"], recipes["now"])


def test_of_one_it_says_which():
    with pytest.raises(ValueError, match="^pairs of another: seed must be 0, got 1$"):
        check_config_matches(
            "pairs of another", {"n": 8, "seed": 0}, {"n": 8, "seed": 1}
        )
