"""What a request must pass before anything of it is understood: key, size, patience.

This is done below the application, on what comes from the connection, so that a caller
without the key costs nothing, a body without end ends, and one that never comes is not
waited for.
"""

import asyncio
import hmac
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmcourse.api_errors import ApiError, error_response

_DRAINED = 64 << 20  # bytes of a body that is too large which are read and dropped


class KeyCheck:
    """Lets only those pass who know the key; all, if there is none.

    Args:
        app: What is behind.
        api_key: The key, or None.
        paths: Beginnings of the paths that need it.
    """

    def __init__(
        self, app: ASGIApp, api_key: str | None, paths: tuple[str, ...] = ("/v1/",)
    ) -> None:
        self.app, self.paths = app, paths
        self.api_key = None if api_key is None else api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer with 401."""
        is_open = scope["type"] != "http" or not scope["path"].startswith(self.paths)
        if is_open or self.api_key is None or self._knows(scope["headers"]):
            await self.app(scope, receive, send)
            return
        error = ApiError(401, "The key is missing or wrong.", code="invalid_api_key")
        await error_response(error)(scope, receive, send)

    def _knows(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Return whether the key was sent; how long that takes tells nothing of it."""
        assert self.api_key is not None
        sent = next((value for name, value in headers if name == b"authorization"), b"")
        scheme, _, key = sent.partition(b" ")
        is_right = hmac.compare_digest(key.strip(), self.api_key)
        return is_right and scheme.lower() == b"bearer"


class BodyLimit:
    """Reads a request's body before the application does: all of it, or refuses it.

    Args:
        app: What is behind.
        max_bytes: Of a body.
        seconds: In which it has to arrive.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int = 1 << 20, seconds: float | int = 10
    ) -> None:
        self.app, self.max_bytes, self.seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer with 408 or 413."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self.seconds):
                body = await self._read(receive)
        except TimeoutError:
            error = ApiError(408, "The request did not arrive in time.")
            await error_response(error, {"Connection": "close"})(scope, receive, send)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
        else:
            if body is not None:
                await self.app(scope, _Replay(body, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        """Return the body, None if the caller went away meanwhile."""
        chunks: list[bytes] = []
        n_bytes, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk, more = message.get("body", b""), message.get("more_body", False)
            n_bytes += len(chunk)
            if n_bytes <= self.max_bytes:
                chunks.append(chunk)
            elif n_bytes > _DRAINED:  # a caller who is still sending hears nothing
                break
        if n_bytes > self.max_bytes:
            raise ApiError(
                413, f"A request may have at most {self.max_bytes} bytes.", code="size"
            )
        return b"".join(chunks)


class _Replay:
    """A body that was read already, and then what the connection says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.message: dict[str, Any] | None = {
            "type": "http.request",
            "body": body,
            "more_body": False,
        }
        self.receive = receive

    async def __call__(self) -> Message:
        if self.message is not None:
            message, self.message = self.message, None
            return message
        return await self.receive()
