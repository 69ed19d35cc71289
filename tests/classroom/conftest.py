import os
from collections.abc import Callable, Iterator

import pytest

from llmcourse.classroom.sandbox import available
from llmcourse.classroom.student import Student


@pytest.fixture(scope="session")
def sandbox() -> None:
    """Skip where there is no sandbox, unless the environment demands it."""
    if not available():
        if os.environ.get("LLMCOURSE_SANDBOX") == "required":
            pytest.fail("no sandbox: apt-get install bubblewrap")
        pytest.skip("no bubblewrap here, or it may not make namespaces")


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
