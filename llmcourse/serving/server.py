"""An application that listens: from the command line until a signal, or in a notebook.

On SIGTERM or Ctrl-C it takes no more connections, lets the answers that are being
written be finished, up to some seconds, and ends. A connection on which no request
arrives is closed after some seconds too, so that none is held open for nothing.

Many callers at once: how long each waits, and how much is done for all of them.

    caller 1   ├── ask ──┤├─ ask ─┤├── ask ──┤        closed loop: each asks again
    caller 2   ├─── ask ───┤├── ask ──┤├─ ask ─┤      as soon as it is answered

A mean hides those who wait longest, so waiting is told in percentiles: p95 is what 95
of 100 requests stay below.

How much memory a computation holds at its worst moment.

    with PeakMemory() as memory:
        context = attention(query, key, value)
    memory.peak                                   in bytes

Every tensor that an operation of torch makes is counted until nobody holds it any
more; what was there before is not. Unlike the memory of the process, which the system
hands out in large pieces and takes back late, this is the same in every run. What an
operation uses inside, and gives back before it ends, is not seen.
"""

import asyncio
import math
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from uvicorn.protocols.http.h11_impl import H11Protocol


class ImpatientProtocol(H11Protocol):
    """Uvicorn's HTTP protocol, with a limit for how long a request's head may take."""

    head_seconds = 10.0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        # A head and its body are written one after the other; without this option the
        # second would wait for the other side's acknowledgement, 40 ms.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read on; the time goes on too until a head is complete."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()  # a request is being answered
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _forget(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


@contextmanager
def listening(host: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    """Give a socket that connections can be made to, closed at the end.

    Args:
        host: Address; 127.0.0.1 is heard by this machine alone.
        port: 0 takes any that is free.

    Raises:
        OSError: If nobody can listen there, because somebody does already, say.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=2048) as listener:
        yield listener


def address(host: str, listener: socket.socket) -> str:
    """Return what to type into a browser, for a host and a socket that listens."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def serve_on(
    listener: socket.socket, app: FastAPI, grace_seconds: float | int = 10
) -> None:
    """Answer what comes on a socket, until a signal says to stop.

    Args:
        listener: Where to listen.
        app: What answers.
        grace_seconds: For which answers may go on after the signal.

    Raises:
        RuntimeError: If the application does not start.
    """
    _server(app, grace_seconds).run(sockets=[listener])


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
        host: As in `listening`, like the port.
        port: See there.
        grace_seconds: As in `serve_on`.

    Raises:
        OSError: If it cannot listen there.
        RuntimeError: If the application does not start.
    """
    server = _server(app, grace_seconds)
    end: Future[None] = Future()
    with listening(host, port) as listener:

        def work() -> None:
            try:
                server.run(sockets=[listener])
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


class _Server(uvicorn.Server):
    """Uvicorn's server, but a start that fails is an error and ends no process."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen."""
        try:
            await super().startup(sockets)
        except SystemExit:
            raise RuntimeError(
                "the application did not start; the log says why"
            ) from None


def _server(app: FastAPI, grace_seconds: float | int) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        backlog=2048,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=int(grace_seconds),
    )
    return _Server(config)


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


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of new tensors while it is entered.

    >>> with PeakMemory() as memory:
    ...     x = torch.ones(1000)  # 4,000 bytes
    ...     y = x + x  # twice that, and then the first is dropped
    ...     del x
    ...     z = y * 2
    >>> memory.peak, memory.live
    (8000, 8000)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0  # bytes of the tensors that are held now
        self.peak = 0  # bytes, the most that were held at once
        self._places: set[int] = set()  # where they lie

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and count what it made."""
        read = {_place(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and _place(tensor) not in read:
                self._count(tensor)
        return made

    def _count(self, tensor: Tensor) -> None:
        place, storage = _place(tensor), tensor.untyped_storage()
        if place in self._places or storage.nbytes() == 0:
            return
        self._places.add(place)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, place, storage.nbytes())

    def _drop(self, place: int, n_bytes: int) -> None:
        self._places.discard(place)
        self.live -= n_bytes


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
