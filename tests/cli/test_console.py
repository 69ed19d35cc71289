"""Progress bars: alive on a terminal, short in a file."""

import sys
import time

from llmcourse.cli.console import bars


def draw():
    with bars(quiet=False) as show:
        for done in range(1, 31):
            time.sleep(0.02)
            show("stories", done, 30, loss=f"{1 / done:.2f}")


def test_a_bar_is_drawn_often_on_a_terminal_and_seldom_in_a_file(monkeypatch, capsys):
    """Of 0.6 seconds: in a file the beginning and the end."""
    draw()
    states = capsys.readouterr().err.split("\r")[1:]
    assert len(states) == 2
    assert "stories: 100%" in states[-1]
    assert "loss=0.03" in states[-1]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    draw()
    states = capsys.readouterr().err.split("\r")[1:]
    assert len(states) >= 4
    assert "stories: 100%" in states[-1]


def test_a_stage_that_comes_again_gets_another_bar(capsys):
    with bars(quiet=False) as show:
        for done in (1, 2, 1, 2):
            show("stories", done, 2)
    assert capsys.readouterr().err.count("stories: 100%") == 2
