"""The HTTP server: it lets an application answer on a socket.

On SIGTERM or Ctrl-C the server takes no more connections, and requests that wait for a
slot get a 503. Answers that are being written have `grace_seconds` to finish, then they
end with an error. A connection without a further request is closed after 20 seconds. On
the open internet, put a proxy in front that also drops connections without a request.
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
    _Server(app, grace_seconds).listen(listener)


@contextmanager
def running(app: FastAPI, grace_seconds: float | int = 10) -> Iterator[str]:
    """Let an application listen in a thread; give its address.

    For notebooks and tests: at the end of the block it stops.

    Args:
        app: What answers.
        grace_seconds: As in `serve_on`.

    Raises:
        OSError: If it cannot listen there.
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
    """A server that ends by itself what the application is still working on."""

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
            # After the grace all answers end by themselves; this is for slow readers.
            timeout_graceful_shutdown=int(grace_seconds) + _FOR_LAST_WORDS,
        )
        super().__init__(config)
        self.service = getattr(app.state, "service", None)  # others have nothing to end
        self.grace_seconds = grace_seconds

    def listen(self, listener: socket.socket) -> None:
        with suppress(SystemExit):  # of an application that does not start
            self.run(sockets=[listener])
        if not self.started:
            raise RuntimeError("the application did not start; the log says why")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections; return when those that are open have ended."""
        ending = asyncio.create_task(self._end())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end(self) -> None:
        """End what waits now, and the rest after the grace."""
        if self.service is not None:
            self.service.engine.stop(waiting_only=True)
            await asyncio.sleep(self.grace_seconds)
            self.service.engine.stop()
