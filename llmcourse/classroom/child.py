"""The process that runs a student's code: one line of JSON in, one line out.

It is started by `student.Student`, in a sandbox. It knows nothing of tests or points:
it runs cells, calls the functions that they define with plain values, and sends back
plain values. The tests are elsewhere, so the code can change whatever it likes here.
"""

import ast
import builtins
import contextlib
import io
import json
import linecache
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any, TextIO

import torch

from llmcourse.classroom.tasks import gradient
from llmcourse.classroom.values import decode, encode

PRINTED = 20_000  # characters kept of what a cell prints
# Jupyter's own lines: %time, !ls, ?help, help?
SHELL = re.compile(r"^([ \t]*)(?:[%!?].*|[\w.]+\?\??[ \t]*)$", re.MULTILINE)


def without_magics(code: str) -> str:
    """Return a cell without shell commands, magics and requests for help."""
    try:
        ast.parse(code)
    except SyntaxError:
        return SHELL.sub(r"\1pass", code)
    return code


class _Printed(io.StringIO):
    """What a cell prints, up to `PRINTED` characters."""

    def write(self, text: str) -> int:
        room = PRINTED - self.tell()
        if room > 0:
            super().write(text[:room])
        return len(text)


class Child:
    """The student's namespace, and the requests that it answers."""

    def __init__(self, requests: TextIO, replies: TextIO) -> None:
        self.requests, self.replies = requests, replies
        self.pid, self.number = os.getpid(), 0  # of the process, of the request
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def cell(self, code: str, title: str) -> None:
        """Run a cell; print the value of its last expression, as Jupyter does."""
        name = f"<cell {title}>"
        code = without_magics(code)
        linecache.cache[name] = (len(code), None, code.splitlines(True), name)
        tree = ast.parse(code, name)
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            del tree.body[-1]
        exec(compile(tree, name, "exec"), self.names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), self.names)
            if value is not None:
                print(repr(value))

    def call(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Return a function's value, and its arguments as it left them."""
        value = encode(self.names[name](*args, **kwargs))
        return [value, encode(args, lambda _: 0), encode(kwargs, lambda _: 0)]

    def gradient(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Return the gradients of a function's value with respect to its tensors."""
        return encode(gradient(self.names[name], *args, **kwargs))

    def get(self, name: str) -> Any:
        """Return the value of a name."""
        return encode(self.names[name])

    def _callback(self, number: int) -> Callable[..., Any]:
        """Return a function that calls one in the other process."""

        def function(*args: Any, **kwargs: Any) -> Any:
            self._send({"callback": number, "args": encode([list(args), kwargs])})
            reply = json.loads(self.requests.readline())
            if "error" in reply:
                raise ValueError(reply["error"])
            return decode(reply["value"])

        return function

    def _send(self, message: dict[str, Any]) -> None:
        if os.getpid() != self.pid:  # a fork that the student's code made
            os._exit(0)
        message = {"number": self.number} | message
        self.replies.write(json.dumps(message) + "\n")
        self.replies.flush()

    def answer(self, line: str) -> None:
        """Answer one request."""
        printed, error, value = _Printed(), None, None
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                self.number, *request = decode(json.loads(line), self._callback)
                operation, *arguments = request
                value = getattr(self, operation)(*arguments)
            except BaseException as problem:
                if isinstance(problem, KeyError) and problem.args == (arguments[0],):
                    problem = NameError(f"name {arguments[0]!r} is not defined")
                error = _describe(problem)
        self._send({"value": value, "error": error, "printed": printed.getvalue()})


def _describe(problem: BaseException) -> list[str]:
    """Return an error's name, message, traceback in cells, and built-in class."""
    frames = traceback.extract_tb(problem.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith("<cell")]
    lines = traceback.format_list(own[-8:])
    lines += traceback.format_exception_only(type(problem), problem)
    names = [kind.__name__ for kind in type(problem).__mro__]
    builtin = next(name for name in names if hasattr(builtins, name))
    name = type(problem).__name__
    message = str(problem)[:2000]
    if own and not isinstance(problem, NotImplementedError):
        where = f"line {own[-1].lineno} of {own[-1].filename.strip('<>')}"
        message = f"{message} ({where})".strip()
    return [name, message, "".join(lines)[-8000:], builtin]


def _drop_rights(limits: dict[str, int]) -> None:
    """Apply the limits from here on; give up the rights of root."""
    if os.name != "posix":
        return
    import resource

    if user := limits["user"]:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    for name in ("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NPROC"):
        if limits.get(name):
            resource.setrlimit(getattr(resource, name), (limits[name],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Answer requests until the other process closes the pipe."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    _drop_rights(json.loads(sys.argv[1]))
    torch.set_num_threads(1)
    child = Child(requests, replies)
    child._send({"value": "ready", "error": None, "printed": ""})
    for line in requests:
        child.answer(line)


if __name__ == "__main__":
    main()
