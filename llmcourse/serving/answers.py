r"""One request over HTTP, from its fields to its text: several choices written at once.

    prompts × n ── requests to the engine ──► ids ── text, up to a stop ──► pieces

Choice number i is sampled with seed + i. The same request with the same seed gets the
same answer, whatever other requests are being answered.

Text comes token by token, and what has been sent is never taken back:

    ids     72   105  33   …            the bytes of a character may come one by one
    text    "H"  "i"  "!"  …
    stop    "\n\n"                      "\n" is held back: another may follow

A stream sends each piece as a server-sent event, a line of JSON and an empty line:

    data: {"choices": [{"delta": {"content": "Once"}, …}], …}\n
    \n
    data: [DONE]\n
    \n

An error after the first piece cannot change the HTTP status, so it is sent as an event.

Source: WHATWG, "HTML", section 9.2; OpenAI, "API reference" (streaming).
"""

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from llmcourse.arguments import check_range
from llmcourse.finetuning.answering import end_tokens, knows_conversations
from llmcourse.finetuning.chat import Message, encode_prompt
from llmcourse.model.folders import check_same_ids
from llmcourse.model.generation import Sampling
from llmcourse.model.transformer import Transformer
from llmcourse.serving.batching import Batcher, Engine, QueueFullError, Request
from llmcourse.serving.logprobs import Placed, chat_logprobs, completion_logprobs
from llmcourse.serving.wire import (
    ApiError,
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    FinishReason,
    ServiceConfig,
)
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer, TextDecoder

_DEFAULT_NEW = 16  # tokens in a completion; OpenAI's default


class TextPieces:
    """Turns the ids of one answer into text.

    Args:
        tokenizer: The model's tokenizer.
        stop: Strings that end the text and are not part of it; none is empty.
        goes_on: Whether other text comes before it; see `TextDecoder`.

    >>> tokenizer = BPETokenizer.train(["a"], vocab_size=256)
    >>> pieces = TextPieces(tokenizer, stop=["bc"])
    >>> [pieces.push(id_) for id_ in tokenizer.encode("abbcd")]
    ['a', '', 'b', '', '']
    >>> pieces.stopped
    True
    """

    def __init__(
        self,
        tokenizer: BPETokenizer,
        stop: Sequence[str] = (),
        *,
        goes_on: bool = False,
    ) -> None:
        self._decoder = TextDecoder(tokenizer, True, goes_on=goes_on)
        self._stop = list(stop)
        self._held = ""  # may be the beginning of a stop string
        self.n_characters = 0  # in the text of all ids, held back or not
        self.stopped = False

    def offset(self, id_: int | None) -> int:
        """Return the character offset at which the text of one more id begins."""
        return self.n_characters + self._decoder.n_held_before(id_)

    def push(self, id_: int) -> str:
        """Return the text that one more id makes certain; special tokens add none."""
        return self._release(self._decoder.push(id_), last=False)

    def finish(self) -> str:
        """Return the text held back: there are no more ids."""
        return self._release(self._decoder.finish(), last=True)

    def _release(self, new: str, *, last: bool) -> str:
        self.n_characters += len(new)
        if self.stopped:
            return ""
        text = self._held + new
        spans = [(text.find(s) + len(s), text.find(s)) for s in self._stop if s in text]
        if spans:  # the first to be complete ends the text, whatever the tokens are
            self.stopped = True
            return text[: min(spans)[1]]
        n_held = 0 if last else max((_overlap(text, s) for s in self._stop), default=0)
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held]


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text may begin a stop string.

    >>> _overlap("one, two,", ", three")
    1
    """
    longest = min(len(text), len(stop) - 1)
    ends = (n for n in range(longest, 0, -1) if text.endswith(stop[:n]))
    return next(ends, 0)


class Metrics:
    """The metrics of a service, in Prometheus format.

    Args:
        batcher: Its requests are counted.
    """

    def __init__(self, batcher: Batcher) -> None:
        self.registry = CollectorRegistry()
        ours: dict[str, Any] = {"namespace": "llmcourse", "registry": self.registry}
        self.tokens = Counter("tokens", "Tokens read and written.", ["kind"], **ours)
        waited = "Seconds from a request to the first token of its answer."
        self.first_token = Histogram("first_token_seconds", waited, **ours)
        running = Gauge("running_requests", "Requests in a slot.", **ours)
        running.set_function(lambda: len(batcher.running))
        waiting = Gauge("waiting_requests", "Requests in the queue.", **ours)
        waiting.set_function(lambda: len(batcher.waiting))


class Service:
    """What all requests share.

    Args:
        model: The model that writes.
        tokenizer: Its tokenizer.
        name: The name that callers send as `model`.
        config: The service's limits.

    Raises:
        ValueError: If tokenizer and model differ in the number of ids, or if the
            service is to read more than the model can.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: BPETokenizer,
        name: str,
        config: ServiceConfig,
    ) -> None:
        check_same_ids(model.config, tokenizer)
        check_range(1, model.config.context_length, context=config.context)
        self.tokenizer, self.name, self.config = tokenizer, name, config
        self.context_length = config.context or model.config.context_length  # tokens
        self.started = int(time.time())  # seconds since 1970
        batcher = Batcher(model.eval(), config.max_batch, config.max_queue)
        self.engine, self.metrics = Engine(batcher), Metrics(batcher)

    def check_model(self, name: str) -> None:
        """Raise ApiError 404 unless the service has this model."""
        if name != self.name:
            raise ApiError(
                404,
                f"There is no such model; this service has {self.name!r}.",
                param="model",
                code="model_not_found",
            )

    def encode(self, text: str, *, param: str) -> list[int]:
        """Return a text's ids, or raise ApiError 400 if it is far too long."""
        # A text of a megabyte would take a second to encode, only to be refused.
        limit, longest = self.context_length, max(map(len, self.tokenizer.pieces))
        if len(text.encode()) > limit * longest:
            raise too_long(f"more than {limit}", 1, limit, param)
        return self.tokenizer.encode(text)

    @property
    def start(self) -> list[int]:
        """Ids that mark the beginning of a text, if there are any."""
        start = self.tokenizer.special_tokens.get(END_OF_TEXT)
        own = self.tokenizer.ids_of(self.tokenizer.options.start_tokens)
        return own or ([] if start is None else [start])

    def encode_chat(self, messages: list[ChatMessage]) -> list[int]:
        """Return the ids of a conversation, or raise ApiError 400."""
        if not knows_conversations(self.tokenizer):
            raise ApiError(
                400,
                f"{self.name} continues texts and knows no conversations: "
                "use /v1/completions.",
                param="model",
                code="no_chat_model",
            )
        self.encode("".join(turn.text for turn in messages), param="messages")
        roles = {"developer": "system"}
        turns = [Message(roles.get(m.role, m.role), m.text) for m in messages]
        try:
            return encode_prompt(turns, self.tokenizer)
        except ValueError as error:
            raise ApiError(400, str(error), param="messages") from error


def too_long(n_prompt: int | str, n_new: int, limit: int, param: str) -> ApiError:
    """Return the error for a prompt and answer that exceed the context window."""
    return ApiError(
        400,
        f"The model's context window is {limit} tokens; the prompt has {n_prompt} "
        f"and the answer up to {n_new}.",
        param=param,
        code="context_length_exceeded",
    )


@dataclass(eq=False)
class Choice:
    """One of the texts being written."""

    index: int
    request: Request
    pieces: TextPieces
    text: str = ""  # so far
    finish_reason: FinishReason | None = None
    n_tokens: int = 0  # written so far
    begun: bool = False  # whether a token, or the end, has arrived
    unsent: list[Placed] = field(default_factory=list)  # logprobs not sent yet


class Answer:
    """The choices that one request asks for; creating it starts the writing.

    Args:
        service: The service that writes them.
        body: What is asked for.
        prompts: The prompts, as ids.
        echo: Begin the text with the prompt, from this token on; None: do not.

    Raises:
        ApiError: 400 if prompt and text do not fit into the window, 429 if too many
            requests are waiting, 503 if the service is stopping.
    """

    def __init__(
        self,
        service: Service,
        body: CompletionRequest | ChatRequest,
        prompts: list[list[int]],
        echo: int | None = None,
    ) -> None:
        self.service, self.prompts, self._echo = service, prompts, echo
        self.chat = isinstance(body, ChatRequest)
        if isinstance(body, ChatRequest):
            # None: as many as fit.
            max_tokens = body.max_completion_tokens or body.max_tokens
            n_top = (body.top_logprobs or 0) if body.logprobs else None
        else:
            max_tokens = _DEFAULT_NEW if body.max_tokens is None else body.max_tokens
            n_top = body.logprobs
        self._tokens: asyncio.Queue[tuple[int, int | None]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        limit, param = service.context_length, "messages" if self.chat else "prompt"
        sampling = Sampling(
            temperature=1.0 if body.temperature is None else body.temperature,
            top_k=body.top_k,
            top_p=body.top_p,
        )
        seed = secrets.randbits(62) if body.seed is None else body.seed
        self.choices: list[Choice] = []
        special = service.tokenizer.skipped_ids()
        wanted = [ids for ids in prompts for _ in range(body.n or 1)]
        for index, ids in enumerate(wanted):
            n_new = max(1, limit - len(ids)) if max_tokens is None else max_tokens
            if len(ids) + n_new > limit:
                raise too_long(len(ids), n_new, limit, param)
            request = Request(
                ids=ids,
                max_new_tokens=n_new,
                sampling=sampling,
                seed=seed + index,
                stop=end_tokens(service.tokenizer),
                n_top=n_top,
                score_prompt=echo is not None,
                deliver=partial(self._deliver, index),
            )
            goes_on = not (self.chat or special.issuperset(ids))
            pieces = TextPieces(service.tokenizer, body.stops, goes_on=goes_on)
            self.choices.append(Choice(index, request, pieces))
        try:
            service.engine.submit(*(choice.request for choice in self.choices))
        except ValueError as error:
            raise ApiError(400, str(error), param=param) from error
        except QueueFullError as error:
            status = 429 if service.engine.alive else 503
            raise ApiError(status, str(error), code="queue_full") from error
        service.metrics.tokens.labels("read").inc(sum(map(len, prompts)))

    def _deliver(self, index: int, new: int | None) -> None:
        """Pass a token from the engine's thread to the thread of the connections."""
        with suppress(RuntimeError):  # the loop has ended, so nobody listens
            self._loop.call_soon_threadsafe(self._tokens.put_nowait, (index, new))

    def cancel(self) -> None:
        """Stop writing the choices that are not finished."""
        self.service.engine.batcher.cancel(*(choice.request for choice in self.choices))

    async def pieces(self) -> AsyncGenerator[tuple[Choice, str], None]:
        """Yield each piece of text as soon as it is certain, with its choice.

        The last piece of each choice, perhaps empty, comes once its `finish_reason` is
        known. Closing the generator stops the writing.

        Raises:
            ApiError: 504 if it takes too long, 500 if the model fails, 503 if the
                service stops.
        """
        begin, metrics = self._loop.time(), self.service.metrics
        deadline = begin + self.service.config.request_seconds
        n_open, first = len(self.choices), True
        try:
            while n_open:
                async with asyncio.timeout_at(deadline):
                    index, new = await self._tokens.get()
                choice = self.choices[index]
                if choice.finish_reason is not None:
                    continue  # a stop string ended it; the engine wrote a little more
                if first:
                    metrics.first_token.observe(self._loop.time() - begin)
                    first = False
                text = self._take(choice, new)
                n_open -= choice.finish_reason is not None
                if text or choice.finish_reason is not None:
                    yield choice, text
        except TimeoutError:
            raise ApiError(504) from None
        finally:
            self.cancel()
            n_written = sum(choice.n_tokens for choice in self.choices)
            metrics.tokens.labels("written").inc(n_written)

    def _take(self, choice: Choice, new: int | None) -> str:
        """Return the text that one more token, or the end, makes certain."""
        request, pieces = choice.request, choice.pieces
        if new is None and request.finish not in ("stop", "length"):
            if not self.service.engine.alive:
                raise ApiError(503)
            if request.finish == "cancelled":  # nobody receives this
                raise ApiError(408, "The caller went away.")
            raise ApiError(500)
        text = "" if choice.begun else self._begin(choice)
        if new is None and self.chat:
            request.logprobs.clear()  # the token that ends a message is not part of it
        choice.unsent += [(token, pieces.offset(new)) for token in request.logprobs[:1]]
        del request.logprobs[:1]
        if new is not None:
            choice.n_tokens += 1
            text += pieces.push(new)
        else:
            text += pieces.finish()
            choice.finish_reason = "stop" if request.finish == "stop" else "length"
        choice.text += text
        if pieces.stopped:
            choice.finish_reason = "stop"
            choice.unsent = [t for t in choice.unsent if t[1] < len(choice.text)]
            self.service.engine.batcher.cancel(request)
        return text

    def _begin(self, choice: Choice) -> str:
        """Return the beginning of a text: the prompt, if it is to be echoed."""
        choice.begun = True
        if self._echo is None:
            return ""
        request, text = choice.request, ""
        pieces = TextPieces(self.service.tokenizer)
        for place, id_ in enumerate(request.ids[self._echo :], self._echo):
            scored = request.logprobs[place : place + 1]
            choice.unsent += [(token, pieces.offset(id_)) for token in scored]
            text += pieces.push(id_)
        text += pieces.finish()
        choice.pieces.n_characters = len(text)
        del request.logprobs[: len(request.ids)]
        return text

    def _part(self, choice: Choice, **content: Any) -> dict[str, Any]:
        """Return a choice, or a part of one, as it is sent."""
        logprobs = None
        if choice.request.n_top is not None and choice.begun:
            # Text that is held back may never be sent, so its logprobs wait with it.
            ended, n_sent = choice.finish_reason is not None, len(choice.text)
            n = sum(ended or offset < n_sent for _, offset in choice.unsent)
            form = chat_logprobs if self.chat else completion_logprobs
            logprobs = form(choice.unsent[:n], self.service.tokenizer)
            choice.unsent = choice.unsent[n:]
        ends = {"logprobs": logprobs, "finish_reason": choice.finish_reason}
        return {"index": choice.index} | content | ends

    async def whole(self) -> dict[str, Any]:
        """Return the response's body, once the text of every choice is complete.

        Raises:
            ApiError: As in `pieces`.
        """
        async for _ in self.pieces():
            pass
        choices = []
        for choice in self.choices:
            content: dict[str, Any] = {"text": choice.text}
            if self.chat:
                message = {"role": "assistant", "content": choice.text, "refusal": None}
                content = {"message": message}
            choices.append(self._part(choice, **content))
        head = self._head("chat.completion" if self.chat else "text_completion")
        return head | {"choices": choices, "usage": self.usage}

    async def events(self, usage: bool) -> AsyncIterator[str]:
        """Yield the answer as events; with `usage`, one more has the token counts."""
        head = self._head("chat.completion.chunk" if self.chat else "text_completion")
        tail = {"usage": None} if usage else {}

        def part(choice: Choice, **content: Any) -> str:
            return event(head | {"choices": [self._part(choice, **content)]} | tail)

        try:
            for choice in self.choices if self.chat else ():
                yield part(choice, delta={"role": "assistant", "content": ""})
            async with aclosing(self.pieces()) as pieces:
                async for choice, text in pieces:
                    if self.chat:
                        yield part(choice, delta={"content": text} if text else {})
                    else:
                        yield part(choice, text=text)
            if usage:
                yield event(head | {"choices": [], "usage": self.usage})
        except ApiError as error:
            yield event(error.body)
        yield "data: [DONE]\n\n"

    def _head(self, kind: str) -> dict[str, Any]:
        """Return the fields that begin every answer and each of its events."""
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": self.service.name,
        }

    @property
    def usage(self) -> dict[str, int]:
        """Tokens read and written."""
        n_read = sum(map(len, self.prompts))
        n_written = sum(choice.n_tokens for choice in self.choices)
        return {
            "prompt_tokens": n_read,
            "completion_tokens": n_written,
            "total_tokens": n_read + n_written,
        }


def event(value: Any) -> str:
    r"""Return a value as one server-sent event.

    >>> event({"text": "a\nb"})
    'data: {"text": "a\\nb"}\n\n'
    """
    return f"data: {json.dumps(value)}\n\n"
