import os
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from nbgrader import api

from llmcourse.classroom.sandbox import available
from llmcourse.classroom.student import Student


@pytest.fixture(scope="session")
def sandbox() -> None:
    """Skip where there is no sandbox, unless the environment demands it."""
    if not available():
        if os.environ.get("LLMCOURSE_SANDBOX") == "required":
            pytest.fail("no sandbox: apt-get install bubblewrap")
        pytest.skip("no bubblewrap here, or it may not make namespaces")


@pytest.fixture(scope="session", autouse=True)
def one_version_of_the_gradebook() -> None:
    """Ask only once for the version that nbgrader writes into each new gradebook.

    It asks a process of its own, which takes seconds.
    """
    api.get_alembic_version = cache(api.get_alembic_version)


@pytest.fixture
def student(sandbox: None) -> Iterator[Callable[..., Student]]:
    """Give processes for a student's code, in a sandbox."""
    made: list[Student] = []

    def make(seconds: float = 60.0) -> Student:
        made.append(Student(seconds))
        return made[-1]

    yield make
    for one in made:
        one.__exit__()
