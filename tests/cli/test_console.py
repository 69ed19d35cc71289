"""Progress bars: alive on a terminal, short in a file."""

import sys
import time

import pytest

from llmcourse.cli.console import TrainingBar, bars
from llmcourse.training.config import Update


def draw_stage():
    with bars(quiet=False) as show:
        for done in range(1, 31):
            time.sleep(0.02)
            show("stories", done, 30)


def draw_training():
    bar = TrainingBar(steps=30, quiet=False, name="stories")
    for step in range(1, 31):
        time.sleep(0.02)
        bar(Update(step=step, loss=1.0, learning_rate=0.1, gradient_norm=1.0))
    bar.close()


@pytest.mark.parametrize("draw", [draw_stage, draw_training])
def test_a_bar_is_drawn_often_on_a_terminal_and_seldom_in_a_file(
    draw, monkeypatch, capsys
):
    """Of 0.6 seconds: in a file the beginning and the end."""
    draw()
    states = capsys.readouterr().err.split("\r")[1:]
    assert len(states) == 2
    assert "stories: 100%" in states[-1]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    draw()
    states = capsys.readouterr().err.split("\r")[1:]
    assert len(states) >= 4
    assert "stories: 100%" in states[-1]
