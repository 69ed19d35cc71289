"""Everything that goes wrong over HTTP has one form, that of OpenAI's interface.

    {"error": {"message": …, "type": …, "param": …, "code": …}}

The official clients turn it into exceptions of their own. What a caller sent is not
repeated: it may be huge, or no text at all.
"""

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmcourse.api_types import ErrorBody, ErrorDetail

_LOG = logging.getLogger(__name__)
_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "timeout_error",
}
_MEANINGS = {
    400: "The request cannot be answered as it is.",
    401: "The key is missing or wrong.",
    404: "There is no such model or path.",
    408: "The request did not arrive in time.",
    413: "The request is too large.",
    429: "Too many requests are waiting: try again later.",
    500: "The service failed.",
    503: "The service is stopping.",
    504: "The answer was not ready in time.",
}


class ApiError(Exception):
    """A request that ends with a status and a reason.

    Args:
        status: Of HTTP, from 400.
        message: Why, for people.
        param: Which field of the request is to blame.
        code: Why, for programs.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.param, self.code = param, code


def error_body(error: ApiError) -> ErrorBody:
    """Return what a caller is told.

    >>> error_body(ApiError(404, "no model 'x'", code="model_not_found")).error.type
    'not_found_error'
    """
    kind = _TYPES.get(error.status, "invalid_request_error")
    return ErrorBody(
        error=ErrorDetail(
            message=error.message, type=kind, param=error.param, code=error.code
        )
    )


def error_response(
    error: ApiError, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return an error as an answer."""
    extra = dict(headers or {})
    if error.status == 401:
        extra["WWW-Authenticate"] = "Bearer"
    if error.status in (429, 503):
        extra["Retry-After"] = "1"
    return JSONResponse(error_body(error).model_dump(), error.status, extra)


def documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Return what the OpenAPI description says of errors."""
    return {
        status: {"model": ErrorBody, "description": _MEANINGS[status]}
        for status in statuses
    }


def add_error_handlers(app: FastAPI) -> None:
    """Give all errors of an application the one form."""

    @app.exception_handler(ApiError)
    async def known(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(_first_fault(error))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return error_response(
            ApiError(error.status_code, str(error.detail)), error.headers
        )


class FaultHandler:
    """Answers with 500 where the application fails before it has said anything.

    Starlette has a handler for that, too, but raises the fault once more, and then the
    server drops the connection, on which the caller may have asked again meanwhile.

    Args:
        app: What is behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            _LOG.error("%s failed", scope["path"], exc_info=error)
            told = ApiError(500, "The service failed; its log says why.")
            await error_response(told)(scope, receive, send)


def _first_fault(error: RequestValidationError) -> ApiError:
    """Return what is wrong with a request, in one line."""
    faults = [fault for fault in error.errors() if fault["loc"]]
    if not faults or faults[0]["type"].startswith("json"):
        return ApiError(400, "The body must be JSON.", code="invalid_json")
    # Of a field that may have several forms, the fault that lies deepest says most.
    first = max(faults, key=lambda fault: len(fault["loc"]))
    # Of the forms that a field may have, pydantic gives names with brackets.
    names = [str(part) for part in first["loc"][1:] if not set("[(") & set(str(part))]
    where = _plain(".".join(names)[:80])
    reason = _plain(str(first["msg"]).removeprefix("Value error, ")[:300])
    message = f"{where}: {reason}" if where else reason
    return ApiError(400, message, param=_plain(names[0][:80]) if names else None)


def _plain(text: str) -> str:
    r"""Return a text whose strange characters are written out.

    >>> _plain("a" + chr(0xD83D))
    'a\\ud83d'
    """
    return text.encode("ascii", "backslashreplace").decode()
