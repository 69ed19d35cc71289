"""Which precision a processor is good at; the schedule is tested with the loop."""

import errno
import json
import math
from pathlib import Path
from types import SimpleNamespace

import context_study
import pytest
import rlhf_study
import torch
from context_study import ContextStudyConfig
from rlhf_study import EXPERIMENTS, RlhfStudyConfig

from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import (
    Evaluation,
    History,
    JSONLinesLog,
    PretrainingConfig,
    Update,
    fall_back_to_float32,
    has_bfloat16_instructions,
    report_progress,
)


def pretend(monkeypatch, torch_says, capabilities=None):
    """Pretend to be on a processor, with an older torch where there are no names."""
    mkldnn = SimpleNamespace(_is_mkldnn_bf16_supported=lambda: torch_says)
    monkeypatch.setattr(torch.ops, "mkldnn", mkldnn)
    if capabilities is None:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda: capabilities, raising=False
        )


# Law


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16"])
def test_instructions_are_made_use_of(monkeypatch, name):
    pretend(monkeypatch, True, {"avx2": True, "avx512_bf16": False, name: True})
    assert has_bfloat16_instructions()


def test_an_imitation_is_not(monkeypatch):
    """As on a processor with AVX-512 from before bfloat16."""
    pretend(monkeypatch, True, {"avx512_f": True, "avx512_bf16": False})
    assert not has_bfloat16_instructions()


def test_instructions_that_torch_may_not_use_are_not(monkeypatch):
    pretend(monkeypatch, False, {"avx512_bf16": True})
    assert not has_bfloat16_instructions()


@pytest.mark.parametrize("says", [False, True])
def test_an_older_torch_is_believed(monkeypatch, says):
    pretend(monkeypatch, says)
    assert has_bfloat16_instructions() == says


@pytest.mark.parametrize("has", [False, True])
def test_bfloat16_is_kept_where_the_processor_has_it(monkeypatch, has):
    pretend(monkeypatch, has)
    half = PretrainingConfig(steps=7, precision="bfloat16")
    whole = PretrainingConfig(steps=7)
    assert fall_back_to_float32(half) == (half if has else whole)
    assert fall_back_to_float32(whole) == whole


@pytest.mark.parametrize("has", [False, True])
def test_no_study_imitates(monkeypatch, has):
    pretend(monkeypatch, has)
    recipes = [rlhf_study.configs(one, RlhfStudyConfig()) for one in EXPERIMENTS]
    found = {recipe.reward.precision for recipe in recipes}
    found |= {r.training.precision for r in recipes if r.method == "dpo"}
    tokenizer = BPETokenizer.train(["a tale"], 257)
    context = context_study.recipe(0, ContextStudyConfig(), tokenizer)
    found |= {context.pretraining.precision}
    assert found == {"bfloat16" if has else "float32"}


def update(step, loss=0.1 + 0.2):
    return Update(step=step, loss=loss, learning_rate=1e-3, gradient_norm=math.pi)


def evaluation(step):
    return Evaluation(step=step, loss=2 / 3)


RECORDS = [
    evaluation(0),
    update(1),
    update(2),
    evaluation(2),
    update(3),
    update(4),
    evaluation(4),
]


def write(path, records):
    log = JSONLinesLog(path)
    for record in records:
        log(record)


# Worked example


def test_worked_example_of_two_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    write(path, [Evaluation(step=0, loss=6.25), update(1, loss=6.5)])
    assert path.read_text() == (
        '{"kind": "evaluation", "step": 0, "loss": 6.25}\n'
        '{"kind": "update", "step": 1, "loss": 6.5, "learning_rate": 0.001, '
        f'"gradient_norm": {math.pi}}}\n'
    )


# Law


def test_what_else_was_measured_is_kept(tmp_path):
    """In the history and in the file; without metrics there is no trace of them."""
    metrics = {"margin": 0.1 + 0.2, "accuracy": 2 / 3}
    measured = Evaluation(step=2, loss=0.5, metrics=metrics)
    history = History(updates=[update(1)], evaluations=[measured])
    text = json.dumps(history.state_dict())
    again = History()
    again.load_state_dict(json.loads(text))
    assert again == history
    assert text.count("metrics") == 1
    write(tmp_path / "log.jsonl", [update(1), measured])
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert "metrics" not in lines[0]
    assert json.loads(lines[1])["metrics"] == metrics


def test_a_history_is_the_same_after_json():
    history = History(
        updates=[r for r in RECORDS if isinstance(r, Update)],
        evaluations=[r for r in RECORDS if isinstance(r, Evaluation)],
    )
    text = json.dumps(history.state_dict())
    again = History()
    again.load_state_dict(json.loads(text))
    assert again == history


def test_each_line_is_there_before_the_training_goes_on(tmp_path):
    log = JSONLinesLog(tmp_path / "log.jsonl")
    for n, record in enumerate(RECORDS, start=1):
        log(record)
        assert len(log.path.read_text().splitlines()) == n


@pytest.mark.parametrize("stopped", range(len(RECORDS) + 1))
@pytest.mark.parametrize("torn", [0, 1, 15, 30])
def test_steps_that_are_repeated_replace_their_lines(tmp_path, stopped, torn):
    """From every place before every stop, with the last line torn apart or whole."""
    for start in range(stopped + 1):
        path = tmp_path / f"{start}.jsonl"
        write(path, RECORDS[:stopped])
        if stopped < len(RECORDS):
            whole = tmp_path / "whole.jsonl"
            write(whole, RECORDS)
            line = whole.read_bytes().splitlines(keepends=True)[stopped]
            path.touch()
            path.write_bytes(path.read_bytes() + line[:torn])
            write(path, RECORDS[start:])
            assert path.read_bytes() == whole.read_bytes()


def test_a_finished_log_stays_until_there_is_a_record(tmp_path):
    path = tmp_path / "log.jsonl"
    write(path, RECORDS)
    before = path.read_bytes()
    write(path, [])
    assert path.read_bytes() == before
    write(path, [evaluation(0)])
    assert path.read_bytes() == before.splitlines(keepends=True)[0]


# Refusal


@pytest.mark.parametrize(
    "content",
    [b"Dear diary", b"Dear diary\n", b'{"step": 3}\n', b"[1]\n", b"\xff\n", b"\n"],
)
def test_refuses_a_file_that_is_something_else(tmp_path, content):
    path = tmp_path / "diary.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"diary.txt.* must be a log, got"):
        JSONLinesLog(path)(update(1))
    assert path.read_bytes() == content


def test_refuses_a_damaged_line_among_others(tmp_path):
    path = tmp_path / "log.jsonl"
    write(path, RECORDS[:3])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:9] + b"\n" + lines[2])
    with pytest.raises(ValueError, match="must be a log, got"):
        JSONLinesLog(path)(update(3))


def test_a_full_disk_is_reported_with_the_name(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match=r"cannot write .*log\.jsonl.*No space") as caught:
        JSONLinesLog(tmp_path / "log.jsonl")(update(1))
    assert caught.value.errno == errno.ENOSPC


def test_a_missing_folder_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        JSONLinesLog(tmp_path / "nowhere" / "log.jsonl")(update(1))


@pytest.mark.parametrize("n", [0, 1, 99, 100, 101, 250, 777])
def test_about_a_hundred_times_and_at_the_end(n):
    """All items come; the last is told of, and no more than 200 times is spoken."""
    told = []
    items = [*report_progress(range(n), n, "work", lambda *found: told.append(found))]
    assert items == [*range(n)]
    assert len(told) <= 200
    assert {(stage, total) for stage, _, total in told} <= {("work", n)}
    done = [number for _, number, _ in told]
    assert done == sorted({*done})
    assert done[-1:] == ([n] if n else [])


def test_items_come_one_by_one():
    """Of an item is told when the next is asked for: then it has been used."""
    told = []
    items = report_progress(
        iter("abc"), 3, "letters", lambda *found: told.append(found)
    )
    assert next(items) == "a"
    assert told == []
    assert next(items) == "b"
    assert told == [("letters", 1, 3)]


def test_nobody_need_listen():
    assert [*report_progress("abc", 3, "letters", None)] == ["a", "b", "c"]
