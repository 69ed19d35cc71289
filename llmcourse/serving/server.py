"""The HTTP server, which runs an application on a socket.

On SIGTERM or Ctrl-C the server accepts no more connections, and requests that wait for
a slot get a 503. Answers being written have `grace_seconds` to finish, and then end
with an error. A connection is closed after 20 seconds without a further request. On the
open internet, put a proxy in front that also drops connections without any request.
"""

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI

_FOR_LAST_WORDS = 5  # seconds


@contextmanager
def listening(host: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    """Yield a socket that accepts connections; close it at the end.

    Args:
        host: Address; 127.0.0.1 can be reached only from this machine.
        port: Port; 0: any free one.

    Raises:
        OSError: If, for example, the address is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=2048) as listener:
        # Connections inherit this. Without it an answer's body, which is written after
        # its headers, would wait 40 ms for the other side's acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        yield listener


def address(host: str, listener: socket.socket) -> str:
    """Return the URL to open in a browser, for a host and a listening socket."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def serve_on(
    listener: socket.socket, app: FastAPI, grace_seconds: float | int = 10
) -> None:
    """Answer requests on a socket, until a signal says to stop.

    Args:
        listener: The listening socket.
        app: The application.
        grace_seconds: How long answers may go on after the signal.

    Raises:
        RuntimeError: If the application does not start.
    """
    _Server(app, grace_seconds).listen(listener)


@contextmanager
def running(app: FastAPI, grace_seconds: float | int = 10) -> Iterator[str]:
    """Run an application in a thread; yield its address.

    For notebooks and tests: it stops at the end of the block.

    Args:
        app: The application.
        grace_seconds: As in `serve_on`.

    Raises:
        OSError: If no socket can be opened.
        RuntimeError: If the application does not start.
    """
    server = _Server(app, grace_seconds)
    with listening() as listener, ThreadPoolExecutor(1) as thread:
        end = thread.submit(server.listen, listener)
        try:
            while not server.started and not end.done():
                time.sleep(0.005)
            if end.done():
                end.result()  # raises what kept it from starting
            yield address("127.0.0.1", listener)
        finally:
            server.should_exit = True
        end.result()


class _Server(uvicorn.Server):
    """A server that ends unfinished answers itself when it shuts down."""

    def __init__(self, app: FastAPI, grace_seconds: float | int) -> None:
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            access_log=False,
            log_level="warning",
            server_header=False,
            backlog=2048,
            limit_concurrency=1000,
            timeout_keep_alive=20,
            # After the grace period all answers end anyway; this is for slow readers.
            timeout_graceful_shutdown=int(grace_seconds) + _FOR_LAST_WORDS,
        )
        super().__init__(config)
        self.service = getattr(app.state, "service", None)  # others: nothing to end
        self.grace_seconds = grace_seconds

    def listen(self, listener: socket.socket) -> None:
        with suppress(SystemExit):  # raised if the application does not start
            self.run(sockets=[listener])
        if not self.started:
            raise RuntimeError("the application did not start; the log says why")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections; return when the open ones have ended."""
        ending = asyncio.create_task(self._end())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end(self) -> None:
        """End waiting requests now, and the rest after the grace period."""
        if self.service is not None:
            self.service.engine.stop(waiting_only=True)
            await asyncio.sleep(self.grace_seconds)
            self.service.engine.stop()
