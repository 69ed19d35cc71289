"""README's Python runs, and the commands it names exist."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", PYTHON)
def test_python_block_runs(block, capsys):
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_there_is_python_to_run():
    assert PYTHON


@pytest.mark.parametrize("tail", ["jupyter-book build .", "pytest"])
def test_the_two_commands_stand_alone_on_their_lines(tail):
    """The gate runs them word for word; a second copy would be ambiguous."""
    lines = [line for line in README.splitlines() if line.endswith(f"&& {tail}")]
    assert len(lines) == 1
    assert lines[0].startswith("python -m pip install -e ")


def test_every_subcommand_named_exists():
    from typer.main import get_command

    from llmcourse.cli import app

    named = set(re.findall(r"^llmcourse ([a-z]+)", README, re.MULTILINE))
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert named
    assert named <= set(commands)
