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
            not UTF-8 or not a conversation that ends with the assistant; the line is
            named.
        OSError: If the file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"wanted a file of conversations, got no file {str(path)!r}")
    found = []
    # A byte that is not UTF-8 comes as a lone surrogate, to be found in its line.
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
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
        line.encode()
    except UnicodeEncodeError as error:
        place, byte = error.start + 1, ord(line[error.start]) & 0xFF
        message = f"must be UTF-8, got the byte 0x{byte:02x} as character {place}"
        raise ValueError(message) from error
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
    for turn in messages:
        if turn.role != "system" and not turn.content.strip():
            raise ValueError(f"the {turn.role} must say something, got an empty turn")
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
        ValueError: If one is too long, by its number in the order given, and whether
            `truncate` would do; or as `chat.encode_chat`.
    """
    limit, found = max_tokens + 1, []
    for number, messages in enumerate(conversations, start=1):
        try:
            ids, mask = encode_chat(messages, tokenizer, limit, truncate=truncate)
        except ValueError as error:
            way_out = _way_out(messages, tokenizer, limit)
            message = f"conversation {number}: {error}{way_out}"
            raise ValueError(message) from error
        found.append(TokenizedExample.of_tokens(ids, mask))
    return found


def _way_out(
    messages: Sequence[Message], tokenizer: BPETokenizer, max_tokens: int
) -> str:
    """Say how a conversation would do that does not, if there is a way."""
    try:
        encode_chat(messages, tokenizer, max_tokens, truncate=True)
    except ValueError:
        return ""
    return (
        "; without its first exchanges it fits: truncate=True, or --truncate on the "
        "command line"
    )
