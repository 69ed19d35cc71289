"""Processes that work for this one, and end when it ends."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from threading import Thread
from typing import Any


def process_pool(
    processes: int, start: Callable[..., object] | None = None, *args: Any
) -> ProcessPoolExecutor:
    """Return a pool of new processes, which share nothing with this one.

    They end even if this process is killed. Without more ado they would wait for ever
    then: each has the pipe open that the others wait at.

    Args:
        processes: How many.
        start: Called by each process when it begins, if given.
        args: What it is called with.

    >>> with process_pool(1) as pool:
    ...     pool.submit(abs, -3).result()
    3
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, context, _begin, (start, args))


def _begin(start: Callable[..., object] | None, args: tuple[Any, ...]) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start(*args)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
