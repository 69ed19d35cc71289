"""A model served over HTTP, with the API that OpenAI's clients use.

    GET   /v1/models              the model
    POST  /v1/completions         continue a text
    POST  /v1/chat/completions    answer a conversation
    GET   /health, /metrics       for monitoring
    GET   /                       a page for chatting with the model

With `stream`, the text comes piece by piece as server-sent events. What all routes
share, such as the model's name, its tokenizer and the engine, is in
`app.state.service`. The module `server` runs the application on a socket.

Source: OpenAI, "API reference".
"""

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from llmcourse.files import DATA
from llmcourse.finetuning.answering import knows_conversations
from llmcourse.model.transformer import Transformer
from llmcourse.serving import wire
from llmcourse.serving.answers import Answer, Service
from llmcourse.text.tokenizers import BPETokenizer

_LOG = logging.getLogger(__name__)
_ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {
        "model": wire.ErrorBody,
        "description": "What is wrong, from status 400.",
    }
}
_STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


class LimitedRequest(Request):
    """A request whose body is limited in size, and in the time it takes to arrive."""

    async def body(self) -> bytes:
        """Return the body, or raise ApiError 408 or 413."""
        if not hasattr(self, "_body"):
            limits, found = self.app.state.service.config, bytearray()
            try:
                async with asyncio.timeout(limits.body_seconds):
                    async for chunk in self.stream():
                        found += chunk
                        del found[limits.max_body_bytes + 1 :]  # read and dropped
            except TimeoutError:
                raise wire.ApiError(408) from None
            if len(found) > limits.max_body_bytes:
                message = f"A request may have at most {limits.max_body_bytes} bytes."
                raise wire.ApiError(413, message, code="size")
            self._body = bytes(found)
        return self._body


class LimitedRoute(APIRoute):
    """A route that limits requests, and answers internal errors with status 500."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(LimitedRequest(request.scope, request.receive))
            except (HTTPException, RequestValidationError):
                raise
            except Exception as error:
                _LOG.exception("%s failed", request.url.path)
                raise wire.ApiError(500) from error

        return answer


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceOf = Annotated[Service, Depends(_service)]
api = APIRouter(prefix="/v1", route_class=LimitedRoute, responses=_ERRORS)


@api.get("/models")
async def list_models(service: ServiceOf) -> wire.ModelList:
    """List the available models: there is one."""
    return wire.ModelList(data=[_info(service)])


@api.get("/models/{name:path}")
async def get_model(service: ServiceOf, name: str) -> wire.ModelInfo:
    """Describe a model."""
    service.check_model(name)
    return _info(service)


@api.post("/completions", response_model=wire.Completion, responses=_STREAMED)
async def complete(
    request: Request, service: ServiceOf, body: wire.CompletionRequest
) -> Any:
    """Continue a text, or several."""
    service.check_model(body.model)
    prompts = [
        [*service.start, *service.encode(prompt, param="prompt")]
        if isinstance(prompt, str)
        else prompt
        for prompt in body.prompts
    ]
    # The ids that mark the beginning of a text are not echoed.
    n_marks = len(service.start) if isinstance(body.prompts[0], str) else 0
    answer = Answer(service, body, prompts, echo=n_marks if body.echo else None)
    return await _sent(request, body, answer)


@api.post("/chat/completions", response_model=wire.Completion, responses=_STREAMED)
async def chat(request: Request, service: ServiceOf, body: wire.ChatRequest) -> Any:
    """Answer a conversation."""
    service.check_model(body.model)
    prompt = service.encode_chat(body.messages)
    if body.top_logprobs and not body.logprobs:
        message = "top_logprobs: Needs logprobs to be true"
        raise wire.ApiError(400, message, param="top_logprobs")
    return await _sent(request, body, Answer(service, body, [prompt]))


async def health(service: ServiceOf, response: Response) -> wire.Health:
    """Say whether requests are accepted, and how many there are."""
    if not service.engine.alive:
        response.status_code = 503
    batcher = service.engine.batcher
    return wire.Health(
        status="ok" if service.engine.alive else "stopping",
        running=len(batcher.running),
        waiting=len(batcher.waiting),
    )


async def metrics(service: ServiceOf) -> Response:
    """Return the service's metrics in Prometheus' format."""
    text = generate_latest(service.metrics.registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _info(service: Service) -> wire.ModelInfo:
    return wire.ModelInfo(
        id=service.name,
        created=service.started,
        context_length=service.context_length,
        chat=knows_conversations(service.tokenizer),
    )


async def _sent(request: Request, body: wire.SamplingOptions, answer: Answer) -> Any:
    """Return an answer in the form asked for; it ends when the caller leaves."""
    if body.stream:
        return StreamingResponse(
            answer.events(body.wants_usage),
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
            media_type="text/event-stream",
            # A caller may leave before the first event, so `events` may never start.
            background=BackgroundTask(answer.cancel),
        )

    async def cancel_when_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        answer.cancel()

    watch = asyncio.create_task(cancel_when_gone())
    try:
        return await answer.whole()
    finally:
        watch.cancel()


_PAGE = {"/": "index.html", "/chat.css": "chat.css", "/chat.js": "chat.js"}
_PAGE_HEADERS = {
    # The page may load what this service sends, and nothing else.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}


def create_app(
    model: Transformer,
    tokenizer: BPETokenizer,
    name: str,
    config: wire.ServiceConfig | None = None,
) -> FastAPI:
    """Return the service as an application that any ASGI server can run.

    Arguments and errors are those of `Service`.
    """
    config = config or wire.ServiceConfig()
    service = Service(model, tokenizer, name, config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with service.engine:
            yield

    app = FastAPI(
        title=f"llmcourse: {name}",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # these pages would load files from other hosts
        redoc_url=None,
        exception_handlers={
            HTTPException: wire.http_error,
            RequestValidationError: wire.invalid_request,
        },
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=config.allowed_hosts)
    app.state.service = service
    needs_key = [Depends(_key_check(config.api_key))] if config.api_key else []
    app.include_router(api, dependencies=needs_key)
    app.add_api_route("/health", health, responses={503: {"model": wire.Health}})
    app.add_api_route(
        "/metrics", metrics, responses={200: {"content": {"text/plain": {}}}}
    )
    for path, file in _PAGE.items():
        shown = partial(_page, DATA / "chat_page" / file)
        app.add_route(path, shown, include_in_schema=False)
    return app


def _key_check(api_key: str) -> Callable[..., Awaitable[None]]:
    """Return a dependency that refuses requests without the key."""
    bearer = HTTPBearer(auto_error=False)
    # Headers are read as Latin-1, and white space around the key is dropped.
    wanted = api_key.encode().decode("latin-1").strip().encode("latin-1")

    async def check(
        sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> None:
        key = "" if sent is None else sent.credentials
        # The time that this takes reveals nothing about the key.
        if not hmac.compare_digest(key.strip().encode("latin-1"), wanted):
            raise wire.ApiError(401, code="invalid_api_key")

    return check


async def _page(file: Path, _: Request) -> Response:
    return FileResponse(file, headers=_PAGE_HEADERS)
