"""How commands are run in tests, stopped, and seen to fail."""

import sys

import pytest
from typer.testing import CliRunner

from llmcourse import cli
from llmcourse.cli import running


def run(*args, text=None):
    """Run a command; return its result."""
    return CliRunner().invoke(cli.app, [*map(str, args)], input=text)


def fails(monkeypatch, capsys, *args):
    """Run the whole command line; return its exit code and its last line of error."""
    monkeypatch.setattr(sys, "argv", ["llmcourse", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr().err.splitlines()[-1]


def stop_at(monkeypatch, wanted, error=KeyboardInterrupt):
    """Stop a training like Ctrl-C, as soon as it has logged a record that is wanted."""

    class Stopping(running.JSONLinesLog):
        def __call__(self, record):
            super().__call__(record)
            if wanted(record):
                raise error

    monkeypatch.setattr(running, "JSONLinesLog", Stopping)
