"""An application that listens, and a load test.

On SIGTERM or Ctrl-C the server takes no more connections, lets the answers that are
being written be finished, up to some seconds, and ends. A connection on which no
further request arrives is closed after some seconds too. On the open internet put a
proxy before it, which also drops connections that never send a first one.

A load test has many callers at once: how long each waits, and how much is done for all.

    caller 1   ├── ask ──┤├─ ask ─┤├── ask ──┤        closed loop: each asks again
    caller 2   ├─── ask ───┤├── ask ──┤├─ ask ─┤      as soon as it is answered

A mean hides those who wait longest, so waiting is given in percentiles: p95 is what 95
of 100 requests stay below.
"""

import asyncio
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI


@contextmanager
def listening(host: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    """Give a socket that connections can be made to; close it at the end.

    Args:
        host: Address; 127.0.0.1 can be reached from this machine alone.
        port: 0 takes any that is free.

    Raises:
        OSError: If the address is in use already, say.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=2048) as listener:
        # Connections inherit this. Without it an answer's body, which is written after
        # its head, would wait for the other side's acknowledgement: 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        yield listener


def address(host: str, listener: socket.socket) -> str:
    """Return what to type into a browser, for a host and a socket that listens."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def serve_on(
    listener: socket.socket, app: FastAPI, grace_seconds: float | int = 10
) -> None:
    """Answer requests on a socket, until a signal says to stop.

    Args:
        listener: Where to listen.
        app: What answers.
        grace_seconds: For which answers may go on after the signal.

    Raises:
        RuntimeError: If the application does not start.
    """
    _run(_server(app, grace_seconds), listener)


@contextmanager
def running(
    app: FastAPI,
    host: str = "127.0.0.1",
    port: int = 0,
    grace_seconds: float | int = 10,
) -> Iterator[str]:
    """Let an application listen in a thread; give its address.

    For notebooks and tests: at the end of the block it stops.

    Args:
        app: What answers.
        host: As in `listening`.
        port: As in `listening`.
        grace_seconds: As in `serve_on`.

    Raises:
        OSError: If it cannot listen there.
        RuntimeError: If the application does not start.
    """
    server, end = _server(app, grace_seconds), Future[None]()
    with listening(host, port) as listener:

        def work() -> None:
            try:
                _run(server, listener)
            except BaseException as error:  # raised below, in the caller's thread
                end.set_exception(error)
            else:
                end.set_result(None)

        thread = threading.Thread(target=work, name="server", daemon=True)
        thread.start()
        try:
            while not server.started and not end.done():
                time.sleep(0.005)
            if end.done():
                end.result()
            yield address(host, listener)
        finally:
            server.should_exit = True
            thread.join()
        end.result()


def _server(app: FastAPI, grace_seconds: float | int) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        backlog=2048,
        limit_concurrency=1000,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=int(grace_seconds),
    )
    return uvicorn.Server(config)


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    with suppress(SystemExit):  # of an application that does not start
        server.run(sockets=[listener])
    if not server.started:
        raise RuntimeError("the application did not start; the log says why")


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a load test found."""

    n_callers: int
    seconds: tuple[float, ...]  # of each request, from asking to the whole answer
    n_tokens: int  # written for all
    wall_seconds: float  # from the first request to the last answer

    @property
    def tokens_per_second(self) -> float:
        """Throughput: tokens written for all callers, per second."""
        return self.n_tokens / self.wall_seconds

    def percentile(self, p: float | int) -> float:
        """Return the seconds that p % of the requests did not exceed."""
        return percentile(self.seconds, p)


def percentile(values: Sequence[float], p: float | int) -> float:
    """Return the smallest of the values that p % of them do not exceed, in their unit.

    Raises:
        ValueError: If there is no value, or `p` is not in (0, 100].

    Source: The nearest-rank method; others interpolate between two values.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 50), percentile([4.0, 1.0, 3.0, 2.0], 99)
    (2.0, 4.0)
    """
    if not values or not 0 < p <= 100:
        raise ValueError(
            f"a percentile needs values and a share in (0, 100], got {len(values)} "
            f"and {p}"
        )
    return sorted(values)[math.ceil(p * len(values) / 100) - 1]


async def load_test(
    url: str,
    body: Callable[[int], dict[str, Any]],
    n_callers: int,
    n_requests: int,
    *,
    path: str = "/v1/completions",
    headers: dict[str, str] | None = None,
    timeout: float | int = 120,
) -> Load:
    """Return how a service does with some callers at once, each of whom asks on and on.

    Args:
        url: The service's address.
        body: From a request's number to what is asked.
        n_callers: How many at once.
        n_requests: Of all callers together.
        path: Where to ask.
        headers: To be sent too, a key perhaps.
        timeout: Seconds to wait for an answer.

    Raises:
        ValueError: If there is no caller or fewer requests than callers.
        httpx.HTTPError: If an answer is an error or does not come.
    """
    if not 1 <= n_callers <= n_requests:
        raise ValueError(
            "a load test needs at least 1 caller, and 1 request for each, "
            f"got {n_callers} and {n_requests}"
        )
    seconds: list[float] = []
    numbers = iter(range(n_requests))
    limits = httpx.Limits(max_connections=n_callers)
    n_tokens = 0
    async with httpx.AsyncClient(
        base_url=url, limits=limits, timeout=timeout, headers=headers
    ) as http:

        async def caller() -> None:
            nonlocal n_tokens
            for number in numbers:
                start = time.perf_counter()
                answer = await http.post(path, json=body(number))
                answer.raise_for_status()
                seconds.append(time.perf_counter() - start)
                n_tokens += answer.json()["usage"]["completion_tokens"]

        start = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(n_callers)))
        wall = time.perf_counter() - start
    return Load(
        n_callers=n_callers,
        seconds=tuple(seconds),
        n_tokens=n_tokens,
        wall_seconds=wall,
    )
