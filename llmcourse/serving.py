"""A model as a service over HTTP, with the interface that OpenAI's clients speak.

    GET   /v1/models              what there is
    POST  /v1/completions         go on with a text
    POST  /v1/chat/completions    answer a conversation
    POST  /v1/embeddings          a text as a vector
    GET   /health, /metrics       for those who watch over it
    GET   /                       a page to talk with the model

With `stream`, the text comes piece by piece as server-sent events. `http_server` lets
it listen.

Source: OpenAI, "API reference".
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.responses import Response
from fastapi.security import HTTPBearer

from llmcourse.answers import Service
from llmcourse.api_errors import FaultHandler, add_error_handlers
from llmcourse.api_limits import BodyLimit, KeyCheck
from llmcourse.batching import Batcher
from llmcourse.engine import Engine
from llmcourse.service_metrics import CountResponses, ServiceMetrics
from llmcourse.service_routes import routes
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer

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
