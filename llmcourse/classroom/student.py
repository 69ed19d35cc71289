"""A student's code seen from outside: run its cells, call its functions.

The code runs in a process of its own (`child`, in a `sandbox`). Each of its functions
is a `Function` here: called with plain values, it returns plain values, or raises what
the student's function raised. A process that ends or hangs is replaced by a new one
that runs the same cells again, except the one that killed it.
"""

import builtins
import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from llmcourse.classroom.sandbox import start
from llmcourse.classroom.values import copy_into, decode, encode

MESSAGE = 64 << 20  # bytes of one reply
RESTARTS = 4


class StoppedError(Exception):
    """The process with the student's code is gone."""


@dataclass(frozen=True)
class Ran:
    """The result of running a cell."""

    printed: str = ""
    error: str = ""  # the name of the exception, empty if there was none
    message: str = ""
    traceback: str = ""


class Function:
    """A student's function, called in the student's process."""

    def __init__(self, student: "Student", name: str) -> None:
        self._student, self.__name__ = student, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it; arguments that it changes in place change here as well."""
        value, args_after, kwargs_after = self._student.ask(
            "call", self.__name__, list(args), kwargs
        )
        for old, new in zip(args, args_after, strict=True):
            copy_into(old, new)
        copy_into(kwargs, kwargs_after)
        return value

    def gradient(self, *args: Any, **kwargs: Any) -> Any:
        """Return the gradients with respect to the float tensors (`tasks.gradient`)."""
        return self._student.ask("gradient", self.__name__, list(args), kwargs)


class Student:
    """The process with the student's code.

    Args:
        seconds: How long to wait for one cell or one call.
        sandbox: What the process may see and use: arguments of `sandbox.start`.
    """

    def __init__(self, seconds: float, **sandbox: Any) -> None:
        self._start, self.seconds = partial(start, seconds, **sandbox), seconds
        self._cells: list[tuple[str, str]] = []
        self._restarts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread()
        self._number = 0  # of the last request to the process

    def __enter__(self) -> "Student":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(self, code: str, title: str = "") -> Ran:
        """Run a cell; return its error, if any, rather than raise it.

        Args:
            code: The cell's text.
            title: Its name in errors.
        """
        try:
            self._ready()
            reply = self._request(["cell", code, title])
        except StoppedError as error:
            return Ran(error="Stopped", message=str(error), traceback=str(error))
        self._cells.append((code, title))
        if reply["error"] is None:
            return Ran(printed=str(reply["printed"]))
        name, message, lines, _ = reply["error"]
        return Ran(str(reply["printed"]), str(name), str(message), str(lines))

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Return the value of an operation of `child.Child`.

        Raises:
            StoppedError: If the process ends or hangs.
            Exception: What the student's function raised, if it is built into Python;
                otherwise the built-in class that it derives from.
        """
        self._ready()
        reply = self._request([operation, *arguments])
        if reply["error"] is not None:
            name, message, _, builtin = (str(part) for part in reply["error"])
            kind = getattr(builtins, builtin, Exception)
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                kind = RuntimeError
            text = message if name == builtin else f"{name}: {message}"
            if issubclass(kind, UnicodeError):
                kind = ValueError  # a UnicodeError takes more than a message
            if kind is AssertionError:
                text = f"your code raised AssertionError: {text}"
            raise kind(text)
        return decode(reply["value"], lambda _: None)

    def _ready(self) -> None:
        """Start the process, if it is not running, and run the cells so far."""
        if self._process is not None:
            return
        if self._restarts > RESTARTS:
            raise StoppedError("the code was stopped too often to continue")
        self._restarts += 1
        self._process, self._number = self._start(), 0
        try:
            self._receive(time.monotonic() + max(60.0, self.seconds))
        except StoppedError as error:
            raise OSError(f"the sandbox does not start: {error}") from error
        for code, title in self._cells:
            self._request(["cell", code, title])

    def _request(self, request: list[Any]) -> dict[str, Any]:
        """Send a request; return the reply. Functions in the request may be called."""
        functions: dict[int, Callable[..., Any]] = {}

        def wrap(function: Callable[..., Any]) -> int:
            functions[len(functions)] = function
            return len(functions) - 1

        deadline = time.monotonic() + self.seconds
        self._number += 1
        self._send(encode([self._number, *request], wrap), deadline)
        while True:
            reply = self._receive(deadline)
            if "callback" not in reply:
                return reply
            try:
                args, kwargs = decode(reply["args"])
                answer = {
                    "value": encode(functions[reply["callback"]](*args, **kwargs))
                }
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            self._send(answer, deadline)

    def _send(self, message: Any, deadline: float) -> None:
        assert self._process is not None
        pipe = self._process.stdin
        assert pipe is not None
        data = json.dumps(message).encode() + b"\n"

        def send() -> bytes:
            pipe.write(data)
            pipe.flush()
            return data

        self._wait(
            send, deadline, f"it did not read its input for {self.seconds:g} seconds"
        )

    def _receive(self, deadline: float) -> dict[str, Any]:
        """Return the process's next line."""
        assert self._process is not None
        pipe = self._process.stdout
        assert pipe is not None
        late = f"no answer within {self.seconds:g} seconds"
        data = self._wait(lambda: pipe.readline(MESSAGE + 1), deadline, late)
        if len(data) > MESSAGE:
            self._stop("an answer of more than 64 MB")
        if not data.endswith(b"\n"):
            self._stop("the process has ended")
        try:
            reply: dict[str, Any] = json.loads(data)
            if not isinstance(reply, dict) or reply.get("number") != self._number:
                raise ValueError("no reply, or a reply to an earlier request")
        except (ValueError, RecursionError):
            self._stop("a reply that is not valid")
        return reply

    def _wait(self, work: Callable[[], bytes], deadline: float, late: str) -> bytes:
        """Return the result of reading or writing a pipe; stop what takes too long.

        A thread does it, since not every system can wait for a pipe. If it does not end
        in time, the process is killed, which ends the thread.
        """
        done: list[bytes] = []

        def run() -> None:
            with contextlib.suppress(OSError, ValueError):  # a pipe that is closed
                done.append(work())

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._stop(late)
        if not done:
            self._stop("the process has ended")
        return done[0]

    def _stop(self, why: str) -> NoReturn:
        self._end()
        raise StoppedError(why)

    def _end(self) -> None:
        """Kill the process and everything it started."""
        process, self._process = self._process, None
        if process is None:
            return
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            # A thread may still wait for a pipe that an escaped process holds open.
            if pipe is not None and not self._thread.is_alive():
                with contextlib.suppress(OSError):
                    pipe.close()
