"""What goes over the wire, in the form of OpenAI's interface: requests and answers.

Types are strict: "1" is no number and 1 is no string. Fields that this service has no
use for are ignored if they change nothing (`user`), and refused where ignoring them
would give something else than was asked for (`logit_bias`).

Source: OpenAI, "API reference" (completions, chat, embeddings, models).

Everything that goes wrong over HTTP has one form, that of OpenAI's interface.

    {"error": {"message": …, "type": …, "param": …, "code": …}}

The official clients turn it into exceptions of their own. What a caller sent is not
repeated: it may be huge, or no text at all.

What a request must pass before anything of it is understood: key, size, patience.

This is done below the application, on what comes from the connection, so that a caller
without the key costs nothing, a body without end ends, and one that never comes is not
waited for.

What the service counts, in the form that Prometheus collects.

    llmcourse_responses_total{path="/v1/completions",status="200"}  41.0
    llmcourse_tokens_total{kind="written"}                        1874.0
    llmcourse_running_requests                                       3.0

Counts only grow; what is going on now are gauges; how long things take is counted in
classes, from which quantiles are computed later.

Source: Prometheus, "Metric types" and "Text-based exposition format".
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmcourse.serving.batching import Batcher


def _is_text(text: str) -> str:
    """Raise ValueError for halves of characters, which JSON allows and UTF-8 does not.

    >>> _is_text(chr(0xD83D))
    Traceback (most recent call last):
    ValueError: must be Unicode text, got half of a surrogate pair
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be Unicode text, got half of a surrogate pair") from None
    return text


Text = Annotated[str, AfterValidator(_is_text)]
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
Nothing = Annotated[float, Field(ge=0, le=0)]
MOST_CHOICES = 16
MOST_INPUTS = 256


class Strict(BaseModel):
    """A part of a request."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class StreamOptions(Strict):
    """What a stream tells beside the text."""

    include_usage: bool | None = None


class SamplingOptions(Strict):
    """What requests for text of both kinds have in common."""

    model: Text
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: (
        Annotated[Text, Field(min_length=1)]
        | Annotated[list[Annotated[Text, Field(min_length=1)]], Field(max_length=4)]
        | None
    ) = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Text | None = None
    presence_penalty: Nothing | None = None
    frequency_penalty: Nothing | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    @property
    def stops(self) -> list[str]:
        """The strings that end the text."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class CompletionRequest(SamplingOptions):
    """A text to go on with, or several, as text or as ids."""

    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=MOST_CHOICES)]
        | Ids
        | Annotated[list[Ids], Field(min_length=1, max_length=MOST_CHOICES)]
    )
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    logprobs: None = None  # 0 would ask for those of the tokens that were drawn
    suffix: Annotated[str, Field(max_length=0)] | None = None

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts, one or more."""
        prompt: Any = self.prompt
        is_one = isinstance(prompt, str) or isinstance(prompt[0], int)
        return [prompt] if is_one else prompt


class TextPart(Strict):
    """A part of a message's content; only text is understood."""

    type: Literal["text"]
    text: Text


class ChatMessage(Strict):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]
    name: Text | None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ResponseFormat(Strict):
    """Only free text can be asked for."""

    type: Literal["text"]


class ChatRequest(SamplingOptions):
    """A conversation to be answered."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: Annotated[list[Any], Field(max_length=0)] | None = None
    function_call: Literal["none", "auto"] | None = None
    logprobs: Literal[False] | None = None


class EmbeddingRequest(Strict):
    """Texts that vectors are wanted of."""

    model: Text
    input: (
        Annotated[Text, Field(min_length=1)]
        | Annotated[
            list[Annotated[Text, Field(min_length=1)]],
            Field(min_length=1, max_length=MOST_INPUTS),
        ]
        | Ids
        | Annotated[list[Ids], Field(min_length=1, max_length=MOST_INPUTS)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    user: Text | None = None

    @property
    def inputs(self) -> list[str] | list[list[int]]:
        """The texts, one or more."""
        found: Any = self.input
        is_one = isinstance(found, str) or isinstance(found[0], int)
        return [found] if is_one else found


FinishReason = Literal["stop", "length"]


class Usage(BaseModel):
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int


class CompletionChoice(BaseModel):
    """One continuation, or a piece of it."""

    index: int
    text: str
    logprobs: None = None
    finish_reason: FinishReason | None


class Completion(BaseModel):
    """Continuations of prompts."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int  # seconds since 1970
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class AnswerMessage(BaseModel):
    """What the assistant says."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: None = None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """Answers to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int  # seconds since 1970
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Vector(BaseModel):
    """A text's vector: numbers, or float32, lowest byte first, as base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Embeddings(BaseModel):
    """Vectors of texts, each of length 1."""

    object: Literal["list"] = "list"
    data: list[Vector]
    model: str
    usage: Usage


class ModelInfo(BaseModel):
    """What the service writes with."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "llmcourse"
    context_length: int  # in tokens; this and the next are not OpenAI's
    chat: bool  # whether it knows conversations


class ModelList(BaseModel):
    """All models of the service: one."""

    object: Literal["list"] = "list"
    data: list[ModelInfo]


class Health(BaseModel):
    """That the service is there."""

    status: Literal["ok", "stopping"]


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer with a status from 400."""

    error: ErrorDetail


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


_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class ServiceMetrics:
    """The numbers of one service.

    >>> import torch
    >>> from llmcourse.model.transformer import TINY, Transformer
    >>> metrics = ServiceMetrics(Batcher(Transformer(TINY)))
    >>> metrics.tokens.labels("written").inc(3)
    >>> b'llmcourse_tokens_total{kind="written"} 3.0' in metrics.text()
    True
    """

    def __init__(self, batcher: Batcher) -> None:
        self.registry = registry = CollectorRegistry()
        self.responses = Counter(
            "llmcourse_responses",
            "Answers by path and HTTP status.",
            ["path", "status"],
            registry=registry,
        )
        self.tokens = Counter(
            "llmcourse_tokens", "Tokens read and written.", ["kind"], registry=registry
        )
        self.seconds = Histogram(
            "llmcourse_response_seconds",
            "From a request to the end of its answer, in seconds.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_token = Histogram(
            "llmcourse_first_token_seconds",
            "From a request to the first token of its answer, in seconds.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "llmcourse_step_tokens",
            "Tokens that one step of the model wrote.",
            buckets=_SIZES,
            registry=registry,
        )
        running = Gauge(
            "llmcourse_running_requests", "Requests in a slot.", registry=registry
        )
        running.set_function(lambda: len(batcher.running))
        waiting = Gauge(
            "llmcourse_waiting_requests", "Requests in the queue.", registry=registry
        )
        waiting.set_function(lambda: len(batcher.waiting))

    def text(self) -> bytes:
        """Return all numbers as Prometheus reads them."""
        return generate_latest(self.registry)


class CountResponses:
    """Counts every answer that passes through it, and the seconds that it took.

    Args:
        app: What is behind.
        metrics: Where to count.
        paths: Those that are told apart; all others are one.
    """

    def __init__(
        self, app: ASGIApp, metrics: ServiceMetrics, paths: frozenset[str]
    ) -> None:
        self.app, self.metrics, self.paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"
        start = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.responses.labels(path, str(message["status"])).inc()
            await send(message)

        try:
            await self.app(scope, receive, counted)
        finally:
            seconds = time.perf_counter() - start
            self.metrics.seconds.labels(path).observe(seconds)
