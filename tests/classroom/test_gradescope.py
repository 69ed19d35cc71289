import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from proving import HERE, NAMES, solved

from llmcourse.classroom.assignments import read_source, release
from llmcourse.classroom.gradescope import requirements, results, write_autograder
from llmcourse.classroom.grading import Graded, Result, score_card
from llmcourse.classroom.opening import TORCH

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


def messages(root: Path) -> set[str]:
    told = json.loads((root / "results" / "results.json").read_text())
    return {test["output"] for test in told["tests"]}


def test_the_zip_grades_by_itself(autograder: Path) -> None:
    source = read_source(SOURCE)
    assert sum(graded(autograder, solved(source)).values()) == 14
    wrong = solved(source, bits_per_byte="def bits_per_byte(*_):\n    return 1.0")
    scores = graded(autograder, wrong)
    assert scores["test-merge"] == 1
    assert scores["test-bits-per-byte"] == scores["hidden-bits-per-byte"] == 0


def test_a_test_worth_no_points_passes_and_fails_like_others() -> None:
    right, wrong = (Result(name=n, points=0, message=m)
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


def test_what_is_installed_there(autograder: Path) -> None:
    setup = (autograder / "source" / "setup.sh").read_text(encoding="utf-8")
    wanted = {re.split(r"\W", name)[0] for name in requirements()}
    assert wanted == {"filelock", "jupytext", "nbformat", "numpy", "torch"}
    [torch, others] = [line for line in setup.splitlines() if " -m pip " in line]
    assert "'torch>=" in torch
    assert torch.endswith(f"--index-url {TORCH}")
    assert "torch" not in others
    subprocess.run(["bash", "-n", "-c", setup], check=True)


def test_an_old_python_is_refused_by_the_name_of_the_image(
    autograder: Path, tmp_path: Path
) -> None:
    setup = (autograder / "source" / "setup.sh").read_text(encoding="utf-8")
    for name, code in (("apt-get", 0), ("python3", 1)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(
        ["bash", "-c", setup], env=path, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert "choose the base image Ubuntu 24.04" in ran.stderr


def closure(names: list[str]) -> set[str]:
    """Return the packages that pip installs for some, as they are installed here."""
    found: set[str] = set()
    todo = [Requirement(name) for name in names]
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        if name in found or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # of another system
        found.add(name)
        todo += map(Requirement, needs)
    return found


BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ImportError(f"{{name}} is not installed there")

sys.meta_path.insert(0, Blocked())
"""


def test_it_grades_with_what_is_installed_there_alone(autograder: Path) -> None:
    there = closure(requirements())
    others = {
        top
        for top, owners in metadata.packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & there
    } - {"llmcourse"}
    assert {"nbgrader", "jupyterlab", "fastapi"} <= others
    block = autograder / "source" / "package" / "sitecustomize.py"
    block.write_text(BLOCK.format(names=others))
    try:
        scores = graded(autograder, solved(read_source(SOURCE)))
    finally:
        block.unlink()
    assert sum(scores.values()) == 14


@pytest.mark.parametrize("name", NAMES)
def test_an_assignment_imports_only_what_is_installed_there(name: str) -> None:
    known = {*sys.stdlib_module_names, "torch", "llmcourse.classroom.tasks"}
    for cell in read_source(HERE / f"{name}.py").cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom):
                    assert {node.module, str(node.module).partition(".")[0]} & known
                elif isinstance(node, ast.Import):
                    tops = {alias.name.partition(".")[0] for alias in node.names}
                    assert tops <= known, (name, tops)


def test_a_file_that_cannot_be_opened_is_told_apart_from_an_empty_one(
    autograder: Path,
) -> None:
    assert sum(graded(autograder, release(read_source(SOURCE))).values()) == 0
    assert messages(autograder) == {"not done yet"}
    assert sum(graded(autograder, None).values()) == 0
    assert len(messages(autograder)) == 1
    assert "could not be opened as a notebook" in messages(autograder).pop()
