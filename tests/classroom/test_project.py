"""The final project's scripts, run as its page prints them, on a small text."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from proving import HERE

from llmcourse.classroom.assignments import is_test, read_source
from llmcourse.text.documents import tales

SOURCE = read_source(HERE / "project.py")


def test_the_scripts_clean_split_train_and_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = "\n".join(cell.source for cell in SOURCE.cells)
    clean, apply_split, train = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("texts").mkdir()
    for i, tale in enumerate(tales(60, seed=8)):
        Path(f"texts/{i}.txt").write_text(tale.text + "  \n")
    Path("texts/copy.txt").write_text(Path("texts/7.txt").read_text())
    Path("clean.py").write_text(clean)
    small = train.replace('"small"', '"tiny"').replace("1_000", "3")
    Path("train.py").write_text(small.replace("eval_interval=100", "eval_interval=2"))

    printed = run("clean.py")
    assert "near copy: like texts/7.txt" in printed

    cells = [cell for cell in SOURCE.cells if cell.cell_type == "code"]
    tools = [cell.source for cell in cells if not is_test(cell)]
    Path("tools.py").write_text("\n".join(tools))
    Path("apply.py").write_text("from tools import *\n" + apply_split)
    run("apply.py")
    held_out = [p.read_text() for p in Path("held_out").iterdir()]
    assert len(held_out) + len([*Path("training").iterdir()]) == 60

    run("train.py", "run", "0")
    run("train.py", "run", "0")  # all is done: only the new process is noted
    log = Path("run/log.jsonl").read_text()
    tell = "from tools import *; import sys; print(json.dumps(curve(sys.stdin.read())))"
    points = json.loads(run("-c", tell, given=log))
    assert [step for step, _ in points] == [0, 2, 3]
    assert points[-1][1] < points[0][1]
    lines = [json.loads(line) for line in log.splitlines()]
    assert [set(line) for line in (lines[0], lines[-1])] == [{"seconds"}] * 2
    measured = [line["bytes"] for line in lines if "bytes" in line]
    assert set(measured) == {sum(len(text.encode()) for text in held_out)}
    assert Path("run/model/model.safetensors").is_file()


def run(*command: str, given: str = "") -> str:
    """Return what a script prints; fail with what it says if it does."""
    python = [sys.executable, *command]
    done = subprocess.run(python, input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
