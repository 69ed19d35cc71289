"""README's Python runs, and the commands it names exist."""

import re
import tomllib
from pathlib import Path

import pytest

from llmcourse.cli import load_command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
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


PAGES = {
    "README.md",
    *(f"book/{n}.md" for n in ("command_line", "instructors", "assignments")),
}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_commands_and_options_named_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
    blocks = blocks.replace("\\\n", "")
    lines = re.findall(r"(?:^|-m |&& )llmcourse ([a-z][^#\n]*)", blocks, re.MULTILINE)
    assert lines
    for line in lines:
        name, *rest = line.split()
        command = load_command(name)
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        options = {word.partition("=")[0] for word in rest if word[0] == "-"}
        assert options <= known | {"-"}, line  # - is standard input


def test_the_address_is_that_of_the_site():
    """In `_config.yml`, which the site reads, and in what PyPI shows."""
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    [address] = re.findall(r"^  url: (https://\S+)$", config, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for url in project["project"]["urls"].values():
        assert url.startswith(address)
    readme, raw = README, address.replace("github.com", "raw.githubusercontent.com")
    for change in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"][
        "substitutions"
    ]:
        readme = re.sub(change["pattern"], change["replacement"], readme)
    links = re.findall(r"\]\(([^)]*)\)", readme)
    assert links
    pages = [README, *(p.read_text("utf-8") for p in (ROOT / "book").glob("*.md"))]
    sources = re.findall(r"git\+(https://[^\s\"#`]+)", "\n".join(pages))
    assert sources
    assert set(sources) == {address}
    assert all(link.startswith((f"{address}/blob/", raw)) for link in links)
