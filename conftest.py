"""What every test starts from: one thread, and torch at hand in doctests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def torch_in_doctests(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace["torch"] = torch


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)  # two workers share two cores
