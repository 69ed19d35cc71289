r"""An answer piece by piece: server-sent events, as OpenAI's clients read them.

    data: {"choices": [{"delta": {"content": "Once"}, …}], …}\n
    \n
    data: {"choices": [{"delta": {"content": " upon"}, …}], …}\n
    \n
    data: [DONE]\n
    \n

Each event is a line of JSON and an empty line. An error after the first piece cannot
change the HTTP status any more, so it comes as an event too.

Source: WHATWG, "HTML", section 9.2; OpenAI, "API reference" (streaming).
"""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from llmcourse.answers import Answer, Choice
from llmcourse.api_errors import ApiError, error_body

DONE = "data: [DONE]\n\n"


def event(value: Any) -> str:
    r"""Return a value as one event.

    >>> event({"text": "a\nb"})
    'data: {"text": "a\\nb"}\n\n'
    """
    return f"data: {json.dumps(value)}\n\n"


async def stream_answer(
    answer: Answer,
    head: dict[str, Any],
    *,
    usage: bool,
    begun: list[str] | None = None,
) -> AsyncIterator[str]:
    """Yield an answer as events, its choices mixed as their pieces come.

    Args:
        answer: What is being written.
        head: What all events have in common.
        usage: Whether an event with the number of tokens ends it.
        begun: What each continuation begins with, perhaps nothing; None: these are
            answers in a conversation.
    """
    tail = {"usage": None} if usage else {}
    chat = begun is None
    for choice in answer.choices:
        if begun is None:
            yield event(head | {"choices": [_chat_start(choice)]} | tail)
        elif begun[choice.index]:
            start = _continued(choice, begun[choice.index])
            yield event(head | {"choices": [start]} | tail)
    try:
        async with aclosing(answer.pieces()) as pieces:
            async for choice, text in pieces:
                new = _said(choice, text) if chat else [_continued(choice, text)]
                for one in new:
                    yield event(head | {"choices": [one]} | tail)
        if usage:
            counted = {"choices": [], "usage": answer.usage.model_dump()}
            yield event(head | counted)
    except ApiError as error:
        yield event(error_body(error).model_dump())
    yield DONE


class AnswerStream(StreamingResponse):
    """The events of an answer as a response, after which nothing is written any more.

    A caller may be gone before the first event is asked for, and a generator that has
    not begun cannot tidy up at its end.

    Args:
        answer: What is being written.
        events: Of that answer.
    """

    def __init__(self, answer: Answer, events: AsyncIterator[str]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, as long as somebody is there."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.answer.cancel()


def _chat_start(choice: Choice) -> dict[str, Any]:
    return _delta(choice.index, {"role": "assistant", "content": ""}, None)


def _said(choice: Choice, text: str) -> list[dict[str, Any]]:
    """Return a piece of what the assistant says, and the end, each by itself."""
    new = [_delta(choice.index, {"content": text}, None)] if text else []
    if choice.finish_reason is not None:
        new.append(_delta(choice.index, {}, choice.finish_reason))
    return new


def _delta(
    index: int, delta: dict[str, str], finish_reason: str | None
) -> dict[str, Any]:
    return {
        "index": index,
        "delta": delta,
        "logprobs": None,
        "finish_reason": finish_reason,
    }


def _continued(choice: Choice, text: str) -> dict[str, Any]:
    return {
        "index": choice.index,
        "text": text,
        "logprobs": None,
        "finish_reason": choice.finish_reason,
    }
