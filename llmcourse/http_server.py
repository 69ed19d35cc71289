"""An application that listens: from the command line until a signal, or in a notebook.

On SIGTERM or Ctrl-C it takes no more connections, lets the answers that are being
written be finished, up to some seconds, and ends. A connection on which no request
arrives is closed after some seconds too, so that none is held open for nothing.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI
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
