"""Conversations of your own, from a file of JSON lines, as examples to learn from.

    {"messages": [{"role": "user", "content": "Hi"},
                  {"role": "assistant", "content": "Hello!"}]}

One conversation is one line of the file. A conversation ends with the assistant's turn,
and all of the assistant's turns are learned.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmcourse.chat import Message, check_turns, encode_chat
from llmcourse.examples import TokenizedExample
from llmcourse.tokenization import BPETokenizer


def read_conversations(path: str | Path) -> list[list[Message]]:
    """Return the conversations of a file, in its order; empty lines are passed over.

    Other keys than `messages` are not looked at.

    Args:
        path: A file of JSON lines, in UTF-8.

    Raises:
        ValueError: If there is no such file or no conversation in it, or if a line is
            not a conversation that ends with the assistant; the line is named.
        OSError: If the file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"wanted a file of conversations, got no file {str(path)!r}")
    found = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                found.append(_conversation(line))
            except ValueError as error:
                place = f"line {number} of {str(path)!r}"
                raise ValueError(f"{place}: {error}") from error
    if not found:
        raise ValueError(f"{str(path)!r} must hold a conversation, got none")
    return found


def _conversation(line: str) -> list[Message]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"must be JSON: {error}") from error
    turns = value.get("messages") if isinstance(value, dict) else None
    if not isinstance(turns, list):
        raise ValueError(f'wanted {{"messages": [...]}}, got {line.strip()[:40]!r}')
    messages = [_message(turn) for turn in turns]
    check_turns(messages)
    if messages[-1].role != "assistant":
        raise ValueError(
            "a conversation to learn from must end with the assistant, got one that "
            f"ends with the {messages[-1].role}"
        )
    return messages


def _message(turn: Any) -> Message:
    role, content = (
        (turn.get("role"), turn.get("content"))
        if isinstance(turn, dict)
        else (None, None)
    )
    if not isinstance(role, str) or not isinstance(content, str):
        raise ValueError(
            f"a turn must have texts as role and content, got {str(turn)[:60]}"
        )
    return Message(role, content)


def tokenized(
    conversations: Sequence[Sequence[Message]],
    tokenizer: BPETokenizer,
    max_tokens: int,
    *,
    truncate: bool = False,
) -> list[TokenizedExample]:
    """Return conversations as examples of what the assistant is to say.

    Args:
        conversations: Each ends with the assistant's turn.
        tokenizer: Has the special tokens, see `special_tokens`.
        max_tokens: The most that may be read of one, in tokens.
        truncate: Whether a longer one may lose its first exchanges.

    Raises:
        ValueError: If one is too long, by its number in the order given; or as
            `chat.encode_chat`.
    """
    found = []
    for number, messages in enumerate(conversations, start=1):
        try:
            ids, mask = encode_chat(
                messages, tokenizer, max_tokens + 1, truncate=truncate
            )
        except ValueError as error:
            raise ValueError(f"conversation {number}: {error}") from error
        found.append(TokenizedExample.of_tokens(ids, mask))
    return found
