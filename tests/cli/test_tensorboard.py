"""What TensorBoard reads of a training."""

import sys

import pytest

from llmcourse.cli.tensorboard import TensorBoardLog
from llmcourse.training.config import Evaluation, Update


def update(step, loss):
    metrics = {"accuracy": 0.5}
    rates = {"learning_rate": 0.25, "gradient_norm": 2.0}
    return Update(step=step, loss=loss, metrics=metrics, **rates)


def curves(folder):
    """Return the steps and values of each curve, as TensorBoard reads them."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def write(folder, records):
    pytest.importorskip("tensorboard")
    log = TensorBoardLog(folder)
    for record in records:
        log(record)


def test_worked_example_of_two_updates(tmp_path):
    first, last = Evaluation(step=0, loss=7.5), Evaluation(step=2, loss=5.0)
    write(tmp_path / "curves", [first, update(1, 7.0), update(2, 6.5), last])
    assert curves(tmp_path / "curves") == {
        "evaluation/loss": [(0, 7.5), (2, 5.0)],
        "update/loss": [(1, 7.0), (2, 6.5)],
        "update/learning_rate": [(1, 0.25), (2, 0.25)],
        "update/gradient_norm": [(1, 2.0), (2, 2.0)],
        "update/accuracy": [(1, 0.5), (2, 0.5)],
    }


def test_steps_that_are_repeated_replace_their_points(tmp_path):
    last = Evaluation(step=3, loss=1.0)
    write(tmp_path, [update(1, 8.0), update(2, 4.0), update(3, 2.0), last])
    write(tmp_path, [update(2, 5.0), update(3, 3.0), last])
    found = curves(tmp_path)
    assert found["update/loss"] == [(1, 8.0), (2, 5.0), (3, 3.0)]
    assert found["evaluation/loss"] == [(3, 1.0)]


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r'pip install "llmcourse\[tensorboard\]"'):
        TensorBoardLog(tmp_path / "curves")
    assert not (tmp_path / "curves").exists()
