"""Packages that may not be installed: an error says how to get them."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed_for(what: str, extra: str) -> Iterator[None]:
    """If an import fails, say what needs it, and which extra installs it.

    Raises:
        ImportError: If a package is missing.

    >>> with needed_for("a pie", "kitchen"):
    ...     import flour
    Traceback (most recent call last):
    ImportError: a pie needs the package flour: pip install "llmcourse[kitchen]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "llmcourse":
            raise  # our own fault, which no extra fixes
        raise ImportError(
            f'{what} needs the package {error.name}: pip install "llmcourse[{extra}]"'
        ) from error
