"""What every test starts from: one thread, and torch and numpy at hand in doctests."""

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def libraries_in_doctests(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace["torch"] = torch
    doctest_namespace["np"] = np


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)  # two workers share two cores
