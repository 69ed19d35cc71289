"""The thread in which the model works, while others talk to those who wait.

    connections ── submit ──► queue ──► Batcher.step, again and again
                ◄─ deliver ───────────── each new token

A step takes milliseconds and must not be interrupted; a connection must be answered
at any time. So the model has a thread of its own, which sleeps when there is nothing
to do.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from llmcourse.batching import Batcher, QueueFullError, Request

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class Engine:
    """Works on requests until it is stopped.

    Args:
        batcher: What is to be done, and with which model.
        after_step: Called with the tokens that a step wrote, in the thread.

    >>> import torch
    >>> from llmcourse.transformer import TINY, Transformer
    >>> done = threading.Event()
    >>> request = Request(
    ...     ids=[4, 8],
    ...     max_new_tokens=3,
    ...     deliver=lambda new: done.set() if new is None else None,
    ... )
    >>> with Engine(Batcher(Transformer(TINY))) as engine:
    ...     engine.submit(request)
    ...     done.wait(60)
    True
    """

    def __init__(
        self, batcher: Batcher, after_step: Callable[[int], None] = lambda _: None
    ) -> None:
        self.batcher, self.after_step = batcher, after_step
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Engine":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to work, for the first time or again.

        Raises:
            RuntimeError: If it works already.
        """
        if self._thread is not None:
            raise RuntimeError("the engine works already")
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the step that is being made; what is not finished fails."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @property
    def alive(self) -> bool:
        """Whether requests are taken."""
        thread = self._thread
        return thread is not None and thread.is_alive() and not self._stopping

    def submit(self, *requests: Request) -> None:
        """Let requests be answered: all of them, or none.

        Raises:
            ValueError: As `Batcher.submit`.
            QueueFullError: As there, or if the engine has stopped.
        """
        with self._wake:
            self._check()
            self.batcher.submit(*requests)
            self._wake.notify()

    def cancel(self, *requests: Request) -> None:
        """Let requests end, those that have not."""
        for request in requests:
            self.batcher.cancel(request)

    def run(self, job: Callable[[], _T]) -> "Future[_T]":
        """Let something else be done with the model, between two steps.

        Raises:
            QueueFullError: If too much waits already, or the engine has stopped.
        """
        future: Future[_T] = Future()
        with self._wake:
            self._check()
            if len(self._jobs) >= 4 * self.batcher.max_queue + 4:
                raise QueueFullError("too many jobs wait: try again later")
            self._jobs.append((future, job))
            self._wake.notify()
        return future

    def _check(self) -> None:
        if not self.alive:
            raise QueueFullError("the engine is not running")

    def _work(self) -> None:
        while True:
            with self._wake:
                while self._rests():
                    self._wake.wait()
                if self._stopping:
                    break
                job = self._jobs.popleft() if self._jobs else None
            if job is not None:
                _do(*job)
            if not self.batcher.idle:
                self._step()
        self.batcher.fail()
        while self._jobs:
            future, _ = self._jobs.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(QueueFullError("the engine has stopped"))

    def _rests(self) -> bool:
        return self.batcher.idle and not self._jobs and not self._stopping

    def _step(self) -> None:
        try:
            self.after_step(self.batcher.step())
        except Exception:  # a fault of ours: those who wait must hear of it
            _LOG.exception("a step of the model failed")
            self.batcher.fail()


def _do(future: "Future[Any]", job: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except Exception as error:
        future.set_exception(error)
