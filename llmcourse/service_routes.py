"""The paths of the service, each a function from a request to an answer.

What all of them share, the model's name, its tokenizer and the engine, hangs on the
application as `service`.
"""

import asyncio
import base64
import struct
import time
import uuid
from collections.abc import Awaitable
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from llmcourse.answering import has_chat_tokens
from llmcourse.answers import Answer, Service, too_long
from llmcourse.api_errors import ApiError, documented
from llmcourse.api_types import (
    AnswerMessage,
    ChatChoice,
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionChoice,
    CompletionRequest,
    EmbeddingRequest,
    Embeddings,
    Health,
    ModelInfo,
    ModelList,
    Usage,
    Vector,
)
from llmcourse.batching import QueueFullError
from llmcourse.streaming import AnswerStream, stream_answer
from llmcourse.text_vectors import text_vector

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
