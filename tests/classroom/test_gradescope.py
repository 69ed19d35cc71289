import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from proving import HERE

from llmcourse.classroom.assignments import read_source, release, solved
from llmcourse.classroom.gradescope import requirements, results, write_autograder
from llmcourse.classroom.grading import Graded, Result, score_card

SOURCE = HERE / "tokenization.py"


@pytest.fixture(scope="module")
def autograder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as Gradescope lays it out."""
    root = tmp_path_factory.mktemp("autograder")
    archive = write_autograder(SOURCE, root / "autograder.zip", 7)
    with zipfile.ZipFile(archive) as files:
        files.extractall(root / "source")
    return root


def graded(root: Path, notebook: nbformat.NotebookNode | None) -> dict[str, float]:
    shutil.rmtree(root / "submission", ignore_errors=True)
    for place in ("own", "zempty", ".ipynb_checkpoints"):  # the last is of the editor
        (root / "submission" / place).mkdir(parents=True)
    if notebook is not None:
        name = "my notebook (1).ipynb"
        nbformat.write(notebook, root / "submission" / "own" / name)
        nbformat.write(release(read_source(SOURCE)), root / "submission/zempty" / name)
        full = solved(read_source(SOURCE))
        nbformat.write(full, root / "submission" / ".ipynb_checkpoints" / name)
    command = [sys.executable, "-m", "llmcourse.classroom.gradescope", str(root)]
    environment = {**os.environ, "PYTHONPATH": str(root / "source" / "package")}
    subprocess.run(command, env=environment, check=True, cwd=root, timeout=600)
    told = json.loads((root / "results" / "results.json").read_text())
    assert {test["visibility"] for test in told["tests"]} == {
        "visible",
        "after_published",
    }
    return {test["name"]: test["score"] for test in told["tests"]}


def test_the_zip_grades_by_itself(autograder: Path) -> None:
    source = read_source(SOURCE)
    assert sum(graded(autograder, solved(source)).values()) == 14
    wrong = solved(source, bits_per_byte="def bits_per_byte(*_):\n    return 1.0")
    scores = graded(autograder, wrong)
    assert scores["test-merge"] == 1
    assert scores["test-bits-per-byte"] == scores["hidden-bits-per-byte"] == 0
    assert sum(graded(autograder, release(source)).values()) == 0
    assert sum(graded(autograder, None).values()) == 0


def test_a_test_worth_no_points_passes_and_fails_like_others() -> None:
    right, wrong = (Result(name=n, points=0, earned=0, message=m)
                    for n, m in (("right", ""), ("wrong", "too low")))  # fmt: skip
    both = Graded(results=[right, wrong], flags=[], errors=[])
    told: Any = results(both, [], set())["tests"]
    assert [test["status"] for test in told] == ["passed", "failed"]
    assert [line[:2] for line in score_card(both)][:2] == ["ok", "--"]


def test_hidden_tests_draw_their_inputs_by_the_seed_of_the_course(
    autograder: Path,
) -> None:
    run = (autograder / "source" / "run_autograder").read_text(encoding="utf-8")
    assert "export LLMCOURSE_SEED=7\n" in run


def test_it_holds_the_package_without_models(autograder: Path) -> None:
    files = [p.relative_to(autograder / "source") for p in autograder.rglob("*")
             if p.is_relative_to(autograder / "source")]  # fmt: skip
    names = {path.as_posix() for path in files}
    assert {"setup.sh", "run_autograder", "secret/tokenization.py"} <= names
    assert "package/llmcourse/classroom/grading.py" in names
    assert not [name for name in names if name.endswith(".safetensors")]


def test_what_is_installed_there() -> None:
    names = " ".join(requirements())
    assert "torch" in names
    assert "nbgrader" in names
    assert "pytest" not in names
