"""Records of a training, in memory and as lines of JSON."""

import errno
import json
import math
from pathlib import Path

import pytest

from llmcourse.training.config import Evaluation, History, JSONLinesLog, Update


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
    with pytest.raises(ValueError, match=r"line 1 of .*diary.txt.* must be a record"):
        JSONLinesLog(path)(update(1))
    assert path.read_bytes() == content


def test_refuses_a_damaged_line_among_others(tmp_path):
    path = tmp_path / "log.jsonl"
    write(path, RECORDS[:3])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:9] + b"\n" + lines[2])
    with pytest.raises(ValueError, match="line 2 of"):
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
