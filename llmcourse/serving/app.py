"""A model as a service over HTTP, with the interface that OpenAI's clients speak.

    GET   /v1/models              what there is
    POST  /v1/completions         go on with a text
    POST  /v1/chat/completions    answer a conversation
    POST  /v1/embeddings          a text as a vector
    GET   /health, /metrics       for those who watch over it
    GET   /                       a page to talk with the model

With `stream`, the text comes piece by piece as server-sent events. `server` lets
it listen.

Source: OpenAI, "API reference".

The paths of the service, each a function from a request to an answer.

What all of them share, the model's name, its tokenizer and the engine, hangs on the
application as `service`.
"""

import asyncio
import base64
import struct
import time
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from llmcourse.finetuning.answering import has_chat_tokens
from llmcourse.model.inspection import text_vector
from llmcourse.model.transformer import Transformer
from llmcourse.serving.answers import (
    Answer,
    AnswerStream,
    Service,
    stream_answer,
    too_long,
)
from llmcourse.serving.batching import Batcher, Engine, QueueFullError
from llmcourse.serving.wire import (
    AnswerMessage,
    ApiError,
    BodyLimit,
    ChatChoice,
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionChoice,
    CompletionRequest,
    CountResponses,
    EmbeddingRequest,
    Embeddings,
    FaultHandler,
    Health,
    KeyCheck,
    ModelInfo,
    ModelList,
    ServiceMetrics,
    Usage,
    Vector,
    add_error_handlers,
    documented,
)
from llmcourse.text.tokenizers import BPETokenizer

_T = TypeVar("_T")
_STREAMED: dict[int | str, dict[str, object]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
_WRITING = documented(400, 401, 404, 408, 413, 429, 500, 503, 504)
_DEFAULT_NEW = 16  # tokens of a completion, as OpenAI's

routes = APIRouter()


@routes.get("/v1/models", responses=documented(401))
async def list_models(request: Request) -> ModelList:
    """List the models that there are: one."""
    return ModelList(data=[_info(_service(request))])


@routes.get("/v1/models/{name}", responses=documented(401, 404))
async def get_model(request: Request, name: str) -> ModelInfo:
    """Describe a model."""
    service = _service(request)
    service.check_model(name)
    return _info(service)


@routes.post(
    "/v1/completions",
    response_model=Completion,
    responses=_WRITING | _STREAMED,
)
async def complete(request: Request, body: CompletionRequest) -> Response:
    """Go on with a text, or with several."""
    service = _service(request)
    service.check_model(body.model)
    prompts = [service.encode_text(text, param="prompt") for text in body.prompts]
    max_tokens = body.max_tokens or _DEFAULT_NEW
    answer = Answer(service, prompts, body, max_tokens, "prompt")
    head = _head("cmpl", "text_completion", service)
    echoes = [_text(service, prompt) if body.echo else "" for prompt in body.prompts]
    begun = [echo for echo in echoes for _ in range(body.n or 1)]
    if body.stream:
        return _events(answer, head, body, begun)
    texts = await _or_gone(request, _collected(answer))
    choices = [
        CompletionChoice(
            index=choice.index, text=echo + text, finish_reason=choice.finish_reason
        )
        for choice, echo, text in zip(answer.choices, begun, texts, strict=True)
    ]
    return _json(Completion(**head, choices=choices, usage=answer.usage))


@routes.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    responses=_WRITING | _STREAMED,
)
async def chat(request: Request, body: ChatRequest) -> Response:
    """Answer a conversation."""
    service = _service(request)
    service.check_model(body.model)
    ids = service.encode_chat(body.messages)
    max_tokens = body.max_completion_tokens or body.max_tokens
    answer = Answer(service, [ids], body, max_tokens, "messages")
    if body.stream:
        head = _head("chatcmpl", "chat.completion.chunk", service)
        return _events(answer, head, body)
    texts = await _or_gone(request, _collected(answer))
    choices = []
    for choice, text in zip(answer.choices, texts, strict=True):
        assert choice.finish_reason is not None
        message = AnswerMessage(content=text)
        choices.append(
            ChatChoice(
                index=choice.index, message=message, finish_reason=choice.finish_reason
            )
        )
    head = _head("chatcmpl", "chat.completion", service)
    return _json(ChatCompletion(**head, choices=choices, usage=answer.usage))


@routes.post("/v1/embeddings", response_model=Embeddings, responses=_WRITING)
async def embed(request: Request, body: EmbeddingRequest) -> Response:
    """Return the vectors of texts, each of length 1."""
    service = _service(request)
    service.check_model(body.model)
    width, limit = service.config.d_model, service.config.context_length
    if body.dimensions not in (None, width):
        raise ApiError(400, f"Vectors have {width} numbers.", param="dimensions")
    inputs = []
    for text in body.inputs:
        inputs.append(ids := service.encode_text(text, param="input"))
        if len(ids) > limit:
            raise too_long(len(ids), 0, limit, "input")
        if max(ids) >= service.config.vocab_size:
            raise ApiError(400, "There is no such id.", param="input")
    vectors = await _or_gone(request, _vectors(service, inputs))
    n_tokens = sum(map(len, inputs))
    service.metrics.tokens.labels("read").inc(n_tokens)
    data = [
        Vector(index=n, embedding=_packed(v) if body.encoding_format == "base64" else v)
        for n, v in enumerate(vectors)
    ]
    usage = Usage(prompt_tokens=n_tokens, total_tokens=n_tokens)
    return _json(Embeddings(data=data, model=service.name, usage=usage))


@routes.get("/health", responses={503: {"model": Health, "description": "Stopping."}})
async def health(request: Request) -> Response:
    """Say whether requests are taken."""
    alive = _service(request).engine.alive
    return _json(Health(status="ok" if alive else "stopping"), 200 if alive else 503)


@routes.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Return what was counted, for Prometheus."""
    text = _service(request).metrics.text()
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _service(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def _info(service: Service) -> ModelInfo:
    return ModelInfo(
        id=service.name,
        created=service.started,
        context_length=service.config.context_length,
        chat=has_chat_tokens(service.tokenizer),
    )


def _head(prefix: str, kind: str, service: Service) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": service.name,
    }


def _json(body: BaseModel, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status, media_type="application/json")


def _text(service: Service, prompt: str | list[int]) -> str:
    if isinstance(prompt, str):
        return prompt
    return service.tokenizer.decode(prompt, skip_special_tokens=True)


def _events(
    answer: Answer,
    head: dict[str, Any],
    body: CompletionRequest | ChatRequest,
    begun: list[str] | None = None,
) -> AnswerStream:
    """Return an answer that comes as it is written."""
    usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    events = stream_answer(answer, head, usage=usage, begun=begun)
    return AnswerStream(answer, events)


async def _collected(answer: Answer) -> list[str]:
    """Return the texts of all choices, when all are complete."""
    parts: list[list[str]] = [[] for _ in answer.choices]
    async for choice, text in answer.pieces():
        parts[choice.index].append(text)
    return ["".join(part) for part in parts]


async def _or_gone(request: Request, work: Awaitable[_T]) -> _T:
    """Return the result of some work, which ends early if the caller goes away."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ApiError(408, "The caller went away.")  # nobody hears it
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _vectors(service: Service, inputs: list[list[int]]) -> list[list[float]]:
    """Return a vector for each text, computed between the engine's steps."""
    engine = service.engine
    model = engine.batcher.model
    found = []
    try:
        async with asyncio.timeout(service.request_seconds):
            for ids in inputs:
                future = engine.run(partial(text_vector, model, ids))
                found.append((await asyncio.wrap_future(future)).tolist())
    except QueueFullError as error:
        raise ApiError(429 if engine.alive else 503, str(error)) from error
    except TimeoutError:
        raise ApiError(504, "The answer was not ready in time.") from None
    return found


def _packed(vector: list[float]) -> str:
    """Return numbers as float32, lowest byte first, in base64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/chat.css": ("chat.css", "text/css; charset=utf-8"),
    "/chat.js": ("chat.js", "text/javascript; charset=utf-8"),
}
_API = (
    "/v1/models",
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/health",
    "/metrics",
)
# The page may use what this service sends, and nothing else.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """How much a service takes on."""

    max_batch: int = 16  # requests that are answered at a time
    max_queue: int = 64  # requests that wait for that
    api_key: str | None = None  # None: nobody is asked for one
    request_seconds: float | int = 120  # in which an answer has to be complete
    body_seconds: float | int = 10  # in which a request has to arrive
    max_body_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        """Raise ValueError for what no service can do."""
        for name in ("max_batch", "request_seconds", "body_seconds", "max_body_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.max_queue < 0:
            raise ValueError(f"max_queue must be at least 0, got {self.max_queue}")
        if self.api_key is not None and not self.api_key.strip():
            raise ValueError("api_key must not be empty")
        if self.api_key is not None and self.api_key != self.api_key.strip():
            raise ValueError("api_key must not begin or end with white space")


def create_app(
    model: Transformer,
    tokenizer: BPETokenizer,
    name: str,
    config: ServiceConfig | None = None,
) -> FastAPI:
    """Return the service as an application, which any ASGI server can run.

    Args:
        model: What writes.
        tokenizer: Its tokenizer.
        name: What callers ask for, as `model`.
        config: How much the service takes on.

    Raises:
        ValueError: If tokenizer and model differ in the number of ids.
    """
    config = config or ServiceConfig()
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"the model has {model.config.vocab_size} ids, so must the tokenizer, "
            f"got one with {tokenizer.vocab_size}"
        )
    service = _new_service(model, tokenizer, name, config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with service.engine:
            yield

    app = FastAPI(
        title=f"llmcourse: {name}",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # these pages would ask other hosts
        redoc_url=None,
    )
    app.state.service = service
    needed = [Depends(HTTPBearer(auto_error=False))] if config.api_key else []
    app.include_router(routes, dependencies=needed)
    _add_page(app)
    add_error_handlers(app)
    _describe_errors(app)
    paths = frozenset(_API) | frozenset(_PAGE)
    # The last to be added is the first to see a request.
    app.add_middleware(
        BodyLimit, max_bytes=config.max_body_bytes, seconds=config.body_seconds
    )
    app.add_middleware(KeyCheck, api_key=config.api_key)
    app.add_middleware(FaultHandler)
    app.add_middleware(CountResponses, metrics=service.metrics, paths=paths)
    return app


def _new_service(
    model: Transformer, tokenizer: BPETokenizer, name: str, config: ServiceConfig
) -> Service:
    batcher = Batcher(model.eval(), config.max_batch, config.max_queue)
    metrics = ServiceMetrics(batcher)
    return Service(
        name=name,
        config=model.config,
        tokenizer=tokenizer,
        engine=Engine(batcher, metrics.batch_size.observe),
        metrics=metrics,
        request_seconds=config.request_seconds,
        started=int(time.time()),
    )


def _add_page(app: FastAPI) -> None:
    """Add the page to talk with the model."""
    folder = resources.files("llmcourse") / "data" / "chat_page"

    def add(path: str, name: str, media_type: str) -> None:
        content = (folder / name).read_bytes()
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}

        @app.get(path, include_in_schema=False)
        async def page() -> Response:
            return Response(content, headers=headers, media_type=media_type)

    for path, (name, media_type) in _PAGE.items():
        add(path, name, media_type)


def _describe_errors(app: FastAPI) -> None:
    """Take FastAPI's own form of errors out of the description: ours is another."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            for operations in described()["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
