"""Conversations as tokens: who speaks is said by special tokens, what by plain text.

    <|endoftext|> <|user|>Hi<|end|> <|assistant|>Hello!<|end|> <|user|>Bye<|end|> …
                                                 └ the model writes this ┘

(without the spaces). A conversation is at most one system turn, then user and assistant
in turn; two turns of one speaker in a row are refused, for the model never learned from
such: join them first. Content is kept as it is, to the last space.

What a user types can look like a special token, but never becomes one: only this
module puts them in.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmcourse.files import new_file
from llmcourse.packing import END_OF_TEXT
from llmcourse.tokenization import BPETokenizer

ROLES = ("system", "user", "assistant")
END_OF_TURN = "<|end|>"
CHAT_TOKENS = (*(f"<|{role}|>" for role in ROLES), END_OF_TURN)

# The same in Jinja, which other programs read. `raise_exception` and the `generation`
# block, which marks what the model writes, are provided by `transformers`.
CHAT_TEMPLATE = (
    "{%- set system = messages and messages[0]['role'] == 'system' -%}"
    "{%- set turns = messages[1:] if system else messages -%}"
    "{%- if not turns -%}"
    "{{- raise_exception('a conversation must have a turn of the user') -}}"
    "{%- endif -%}"
    "{%- for turn in turns -%}"
    "{%- if turn['role'] != ['user', 'assistant'][loop.index0 % 2] -%}"
    "{{- raise_exception('user and assistant must take turns') -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt and turns[-1]['role'] != 'user' -%}"
    "{{- raise_exception('an answer must come after a turn of the user') -}}"
    "{%- endif -%}"
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + '<|end|>' -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- message['content'] + '<|end|>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Raises:
        ValueError: If the role is not system, user or assistant.
    """

    role: str
    content: str

    def __post_init__(self) -> None:
        """Raise ValueError for a role that there is not."""
        if self.role not in ROLES:
            raise ValueError(f"role must be one of {ROLES}, got {self.role!r}")


def render(messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    """Return a conversation as text, to be looked at.

    Not to be encoded: content that looks like a special token cannot be told from
    one any more. Use `encode_chat` and `encode_prompt`.

    Args:
        messages: The conversation.
        add_generation_prompt: Whether the assistant is asked to speak next.

    Raises:
        ValueError: If the turns are not as they must be.

    >>> render([Message("user", "Hi")], add_generation_prompt=True)
    '<|endoftext|><|user|>Hi<|end|><|assistant|>'
    """
    check_turns(messages, to_answer=add_generation_prompt)
    turns = (f"<|{turn.role}|>{turn.content}{END_OF_TURN}" for turn in messages)
    end = "<|assistant|>" if add_generation_prompt else ""
    return END_OF_TEXT + "".join(turns) + end


def check_turns(messages: Sequence[Message], *, to_answer: bool = False) -> None:
    """Raise ValueError unless user and assistant take turns, the user first.

    Args:
        messages: The conversation; a system turn may come before.
        to_answer: Whether the last turn must be the user's.
    """
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns:
        raise ValueError(f"a conversation must have a turn of the user, got {roles}")
    if turns != [("user", "assistant")[place % 2] for place in range(len(turns))]:
        raise ValueError(
            "user and assistant must take turns, the user first and at most one system "
            f"turn before, got {roles}"
        )
    if to_answer and turns[-1] != "user":
        raise ValueError(
            f"the last turn must be the user's, to be answered, got {roles}"
        )


def encode_chat(
    messages: Sequence[Message],
    tokenizer: BPETokenizer,
    max_tokens: int | None = None,
    *,
    truncate: bool = False,
) -> tuple[list[int], list[bool]]:
    """Return the ids of a conversation and which of them the assistant wrote.

    The mask is true on the assistant's content and the end of its turn, which it has
    to write too, and false on everything that it only reads.

    Args:
        messages: A conversation that ends with the assistant's turn.
        tokenizer: Has the special tokens, see `special_tokens`.
        max_tokens: The most ids; for training the context's length and one more, as
            the last is never read. None allows any number.
        truncate: Whether a longer conversation may lose its first exchanges of user
            and assistant; the system turn stays. Otherwise it is refused.

    Raises:
        ValueError: If the turns are not as they must be, if there is nothing to
            learn at the end, if it is too long (with `truncate`, if the last
            exchange alone is), or if the tokenizer lacks the special tokens.
    """
    check_turns(messages)
    if messages[-1].role != "assistant":
        roles = [message.role for message in messages]
        raise ValueError(
            f"a conversation to learn from must end with the assistant, got {roles}"
        )
    return _encode(messages, tokenizer, max_tokens, truncate)


def encode_prompt(
    messages: Sequence[Message],
    tokenizer: BPETokenizer,
    max_tokens: int | None = None,
    *,
    truncate: bool = False,
) -> list[int]:
    """Return the ids of a conversation up to where the assistant is to speak.

    Args:
        messages: A conversation that ends with the user's turn.
        tokenizer: As in `encode_chat`.
        max_tokens: The most ids; leave room in the context for the answer.
        truncate: As in `encode_chat`.

    Raises:
        ValueError: As `encode_chat`, but the last turn must be the user's.
    """
    check_turns(messages, to_answer=True)
    return _encode(messages, tokenizer, max_tokens, truncate)[0]


def _encode(
    messages: Sequence[Message],
    tokenizer: BPETokenizer,
    max_tokens: int | None,
    truncate: bool,
) -> tuple[list[int], list[bool]]:
    special = _special_ids(tokenizer)
    start = [special[END_OF_TEXT]]
    turns = [_encode_turn(turn, tokenizer, special) for turn in messages]
    if messages[-1].role == "user":
        turns.append(([special["<|assistant|>"]], [False]))
    kept = 1 if messages[0].role == "system" else 0  # turns that are never dropped
    n_tokens = len(start) + sum(len(ids) for ids, _ in turns)
    if max_tokens is not None and n_tokens > max_tokens:
        if not truncate:
            raise ValueError(
                f"the conversation must have at most {max_tokens} tokens, "
                f"got {n_tokens}"
            )
        while n_tokens > max_tokens and len(turns) > kept + 2:
            n_tokens -= sum(len(ids) for ids, _ in turns[kept : kept + 2])
            del turns[kept : kept + 2]
        if n_tokens > max_tokens:
            raise ValueError(
                f"what is never cut off, the system turn and the last exchange, must "
                f"have at most {max_tokens} tokens, got {n_tokens}"
            )
    ids = [*start, *(id_ for turn, _ in turns for id_ in turn)]
    return ids, [False, *(counts for _, mask in turns for counts in mask)]


def _encode_turn(
    message: Message, tokenizer: BPETokenizer, special: dict[str, int]
) -> tuple[list[int], list[bool]]:
    content = tokenizer.encode(message.content)  # no special tokens: plain text
    ids = [special[f"<|{message.role}|>"], *content, special[END_OF_TURN]]
    written = message.role == "assistant"
    return ids, [False, *[written] * (len(ids) - 1)]


def _special_ids(tokenizer: BPETokenizer) -> dict[str, int]:
    wanted = (END_OF_TEXT, *CHAT_TOKENS)
    if missing := [name for name in wanted if name not in tokenizer.special_tokens]:
        raise ValueError(
            f"a tokenizer for conversations must have {missing}, got one with "
            f"{[*tokenizer.special_tokens]}: see special_tokens.add_special_tokens"
        )
    return {name: tokenizer.special_tokens[name] for name in wanted}


def save_chat_files(
    tokenizer: BPETokenizer, folder: str | Path, context_length: int
) -> None:
    """Make a folder written by `save_pretrained` a chat model for other programs too.

    `tokenizer_config.json` gets the template, and `generation_config.json` says that
    an answer ends with the end of the turn.

    Programs that render first and encode then, as `transformers` does, take special
    tokens in a user's text for real ones: strip them there, or encode here.

    Args:
        tokenizer: Has the special tokens, see `special_tokens`.
        folder: Exists.
        context_length: The model's, in tokens.

    Raises:
        ValueError: If the tokenizer lacks the special tokens, or there is no folder.
        OSError: If a file cannot be written.
    """
    special = _special_ids(tokenizer)
    ends = [special[END_OF_TURN], special[END_OF_TEXT]]
    texts = {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TURN,
            "pad_token": END_OF_TEXT,
            "clean_up_tokenization_spaces": False,
            "model_max_length": context_length,
            "chat_template": CHAT_TEMPLATE,
        },
        "generation_config.json": {
            "bos_token_id": special[END_OF_TEXT],
            "eos_token_id": ends,
            "pad_token_id": special[END_OF_TEXT],
        },
    }
    for name, value in texts.items():
        with new_file(Path(folder) / name) as file:
            file.write((json.dumps(value, indent=2) + "\n").encode())
