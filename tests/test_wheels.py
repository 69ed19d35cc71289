"""Two wheels: the package with base-llm, and the other models.

They are built from the files here and tried in an environment that has nothing else:
what the package needs is taken from where these tests run, so nothing is fetched.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import llmcourse
from llmcourse.model import folders
from llmcourse.model.folders import shipped_models

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "llmcourse" / "models"
PROJECTS = [
    tomllib.loads((place / "pyproject.toml").read_text(encoding="utf-8"))
    for place in (ROOT, MODELS)
]
ASKED_FOR = (
    "llmcourse: error: 'aligned-llm' is not installed: "
    'python -m pip install "llmcourse[models]"'
)


def build(folder, out):
    """Return a wheel of the source archive of a folder, as a release has it.

    Neither is built in an environment of its own.
    """
    pytest.importorskip("hatchling", reason='needs pip install "llmcourse[test]"')

    def hatchling(target, place):
        command = [sys.executable, "-m", "hatchling", "build", "-t", target]
        done = subprocess.run([*command, "-d", str(out)], cwd=place, check=False)
        assert done.returncode == 0, f"no {target} of {place}"

    hatchling("sdist", folder)
    [archive] = out.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(out, filter="data")
    hatchling("wheel", out / archive.name.removesuffix(".tar.gz"))
    [wheel] = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    return [build(folder, tmp_path_factory.mktemp("dist")) for folder in (ROOT, MODELS)]


class Environment:
    """A virtual environment, in which only what a test installs is found first."""

    def __init__(self, place):
        venv.create(place, with_pip=True)
        self.place = place
        self.python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
        bases = {"base": str(place), "platbase": str(place)}
        self.packages = Path(sysconfig.get_path("purelib", "venv", bases))

    def pip(self, *args):
        options = ["--disable-pip-version-check", "--quiet"]
        self._run("-m", "pip", *args, *options).check_returncode()

    def install(self, wheel):
        self.pip("install", "--no-index", "--no-deps", "--no-compile", str(wheel))

    def files(self):
        """Return the names of the files of our package."""
        return {
            path.relative_to(self.packages).as_posix()
            for path in self.packages.glob("llmcourse/**/*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    def llmcourse(self, *args):
        return self._run("-m", "llmcourse", *args, paths=self._paths())

    def models(self):
        """Return where aligned-llm is found."""
        code = "from llmcourse.model.folders import *; print(find_model('aligned-llm'))"
        return self._run("-c", code, paths=self._paths()).stdout.strip()

    def _paths(self):
        """Return its own packages, and after them those that ours needs."""
        needed = [path for path in sys.path if path.endswith("-packages")]
        return [str(self.packages), *needed]

    def _run(self, *args, paths=()):
        return subprocess.run(
            [str(self.python), *args],
            cwd=self.place,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("environment"))


def files(wheel):
    """Return the names of the files that a wheel puts into the package."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def writes(environment, model):
    """Return what a model writes, or what is said in its place, and the exit code."""
    options = ["--model", model, "--max-new-tokens", "5", "--seed", "0"]
    done = environment.llmcourse("generate", *options, "Once upon a time")
    return (done.stderr or done.stdout).strip(), done.returncode


# Worked example


def test_the_package_writes_alone_and_with_more_models(environment, wheels):
    """Either is installed and removed before the other, and takes nothing with it."""
    main, models = (files(wheel) for wheel in wheels)
    environment.install(wheels[0])
    text, code = writes(environment, "base-llm")
    assert text.startswith("Once upon a time")
    assert code == 0
    assert writes(environment, "aligned-llm") == (ASKED_FOR, 1)
    environment.install(wheels[1])
    text, code = writes(environment, "aligned-llm")
    assert text.startswith("Once upon a time")
    assert code == 0
    environment.pip("uninstall", "-y", "llmcourse")
    assert environment.files() == models
    environment.install(wheels[0])
    assert environment.files() == main | models
    environment.pip("uninstall", "-y", "llmcourse-models")
    assert environment.files() == main
    environment.pip("uninstall", "-y", "llmcourse")
    assert not environment.files()


# Laws


def test_a_clone_keeps_its_own_models(environment, wheels):
    """An editable install finds its files, with or without the other package."""
    link = environment.packages / "llmcourse.pth"  # as `pip install -e .` writes it
    link.write_text(str(ROOT), encoding="utf-8")
    environment.install(wheels[1])
    assert environment.models() == str(MODELS / "aligned-llm")
    environment.pip("uninstall", "-y", "llmcourse-models")
    assert environment.models() == str(MODELS / "aligned-llm")
    link.unlink()


def test_each_file_is_in_one_wheel(wheels):
    main, models = (files(wheel) for wheel in wheels)
    described = {f"llmcourse/models/{name}" for name in ("LICENSE", "pyproject.toml")}
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "llmcourse").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert not main & models
    assert main | models == here - described
    assert {name.split("/")[2] for name in models} == set(folders._IN_EXTRA)
    found = {name.split("/")[2] for name in main if name.startswith("llmcourse/models")}
    assert found == {"base-llm"}


def test_the_package_is_at_most_half_of_both(wheels):
    main, models = (wheel.stat().st_size for wheel in wheels)
    assert main <= models


def test_each_shipped_model_is_in_a_wheel():
    assert {*shipped_models()} == {"base-llm", *folders._IN_EXTRA}
    assert {*PROJECTS[1]["tool"]["hatch"]["build"]["only-include"]} == {
        *folders._IN_EXTRA
    }


def test_the_version_is_one_number():
    main, models = (project["project"] for project in PROJECTS)
    version = main["version"]
    assert models["version"] == llmcourse.__version__ == version
    assert main["optional-dependencies"]["models"] == [f"llmcourse-models=={version}"]
    assert models["dependencies"] == [f"llmcourse=={version}"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [version]


def test_no_other_extra_asks_an_index_for_the_models():
    """In a clone they are there, and no index need have the other package."""
    extras = PROJECTS[0]["project"]["optional-dependencies"]
    for name in extras.keys() - {"models"}:
        for requirement in extras[name]:
            assert "llmcourse-models" not in requirement
            inner = re.match(r"llmcourse\[(.*)\]", requirement)
            assert inner is None or "models" not in inner[1].split(",")


def test_both_say_the_same_of_themselves():
    main, models = (project["project"] for project in PROJECTS)
    for field in ("authors", "license", "requires-python", "urls"):
        assert main[field] == models[field]
    texts = [(place / "LICENSE").read_bytes() for place in (ROOT, MODELS)]
    assert texts[0] == texts[1]


def test_an_index_of_packages_would_take_both(wheels):
    pytest.importorskip("twine", reason='needs pip install "llmcourse[dev]"')
    for wheel in wheels:
        archive, *others = wheel.parent.glob("*.tar.gz")
        assert not others
        command = [sys.executable, "-m", "twine", "check", "--strict"]
        done = subprocess.run(
            [*command, str(wheel), str(archive)],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.stdout.count("PASSED") == 2, done.stdout + done.stderr
        assert done.returncode == 0
