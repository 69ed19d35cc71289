"""Conversations as tokens: special tokens say who speaks, plain text what is said.

    <|endoftext|> <|user|>Hi<|end|> <|assistant|>Hello!<|end|> <|user|>Bye<|end|> …
                                                 └ the model writes this ┘

(without the spaces). A conversation has at most one system turn, then user and
assistant alternate. Content is kept as it is, to the last space. What a user types can
look like a special token, but never becomes one: only this module puts them in.

A conversation longer than the model's context loses its oldest exchanges of user and
assistant, see `fit_history`; the system turn and the last question stay.

Conversations of your own come from a file of JSON lines, one per line:

    {"messages": [{"role": "user", "content": "Hi"},
                  {"role": "assistant", "content": "Hello!"}]}

Other data-set formats are also read, see `read_conversations`.

A model trained without the special tokens gets new rows of its embedding for them, see
`add_special_tokens`. A model from elsewhere brings a Jinja template that says how its
conversations look: `render_template`.
"""

import copy
import json
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from jinja2 import TemplateError
from jinja2.ext import Extension
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from torch import Tensor, nn

from llmcourse.arguments import check_one_of
from llmcourse.files import DATA, write_json
from llmcourse.finetuning.examples import TokenizedExample
from llmcourse.model.folders import check_same_ids, read_json
from llmcourse.model.transformer import Transformer
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import BPETokenizer

ROLES = ("system", "user", "assistant")
END_OF_TURN = "<|end|>"
CHAT_TOKENS = (*(f"<|{role}|>" for role in ROLES), END_OF_TURN)

# The same format in Jinja, for other programs. `transformers` provides
# `raise_exception` and the `generation` block, which marks what the model writes.
_SOURCE = DATA / "chat_template.jinja"
CHAT_TEMPLATE = "".join(map(str.strip, _SOURCE.read_text("utf-8").splitlines()))


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Raises:
        ValueError: If the role is not system, user or assistant.
    """

    role: str
    content: str

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown role."""
        check_one_of("role", self.role, ROLES)


def render(messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    """Return a conversation as text, for display.

    Do not encode it: content that looks like a special token can no longer be told
    from a real one. Use `encode_chat` or `encode_prompt`.

    Args:
        messages: The conversation.
        add_generation_prompt: Whether the assistant is asked to speak next.

    Raises:
        ValueError: If `check_turns` refuses the turns.

    >>> render([Message("user", "Hi")], add_generation_prompt=True)
    '<|endoftext|><|user|>Hi<|end|><|assistant|>'
    """
    check_turns(messages, "user" if add_generation_prompt else None)
    turns = (f"<|{turn.role}|>{turn.content}{END_OF_TURN}" for turn in messages)
    end = "<|assistant|>" if add_generation_prompt else ""
    return END_OF_TEXT + "".join(turns) + end


def has_chat_tokens(tokenizer: BPETokenizer) -> bool:
    """Return whether a tokenizer has the special tokens of conversations."""
    return {END_OF_TEXT, *CHAT_TOKENS} <= tokenizer.special_tokens.keys()


def uses_template(tokenizer: BPETokenizer) -> bool:
    """Return whether conversations are written with the tokenizer's own template."""
    has_template = tokenizer.options.chat_template is not None
    return has_template and not has_chat_tokens(tokenizer)


def render_template(
    messages: Sequence[Message],
    tokenizer: BPETokenizer,
    add_generation_prompt: bool = False,
) -> str:
    """Return a conversation as text, rendered with the tokenizer's own template.

    The template is code from elsewhere, so it runs in Jinja's sandbox, as in
    `transformers`.

    Args:
        messages: The conversation.
        tokenizer: Has a template.
        add_generation_prompt: Whether the assistant is asked to speak next.

    Raises:
        ValueError: If there is no template, if it refuses the conversation or fails, or
            if a turn contains a special token; answers may contain those that the
            model itself writes, such as ``<think>``.
    """
    template = tokenizer.options.chat_template
    if template is None:
        raise ValueError("wanted a tokenizer with a chat template")
    written = {*tokenizer.options.kept_tokens}  # by the model itself, such as <think>
    for turn in messages:
        allowed = written if turn.role == "assistant" else set()
        names = [n for n in tokenizer.special_tokens if n not in allowed]
        if found := [name for name in names if name in turn.content]:
            raise ValueError(f"a turn must not hold the special token {found[0]!r}")
    first = next(iter(tokenizer.options.start_tokens), "")
    last = next(iter(tokenizer.options.end_tokens), "")
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", _Generation],
    )
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    try:
        return environment.from_string(template).render(
            messages=[asdict(turn) for turn in messages],
            add_generation_prompt=add_generation_prompt,
            bos_token=first,
            eos_token=last,
            raise_exception=_refuse,
            strftime_now=datetime.now().strftime,
            tools=None,
            documents=None,
        )
    except (TemplateError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the chat template failed: {error}") from error


class _Generation(Extension):
    """A {% generation %} tag around what the assistant says; it changes no text."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own form)

    def parse(self, parser: Parser) -> list[Node]:
        """Return what is between the two tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> None:
    """Raise ValueError with a template's complaint about a conversation."""
    raise ValueError(message)


def ollama_modelfile(tokenizer: BPETokenizer, weights: str, context_length: int) -> str:
    """Return the Modelfile with which Ollama runs a GGUF file, conversations included.

    Ollama writes conversations with a template in Go's language, not with the Jinja
    one in the file. The Go template is derived from two example conversations.

    Args:
        tokenizer: Of the model.
        weights: Name of the GGUF file, next to the Modelfile.
        context_length: Of the model, in tokens.

    Raises:
        ValueError: If the text between two turns depends on more than who speaks, or
            contains what the Modelfile would take for its own syntax.

    Source: Ollama's documentation of the Modelfile.
    """
    template = "{{ .Prompt }}"
    if has_chat_tokens(tokenizer) or uses_template(tokenizer):
        template = _go_template(tokenizer)
    ends = {END_OF_TEXT, END_OF_TURN, *tokenizer.options.end_tokens}
    stops = [name for name in tokenizer.special_tokens if name in ends]
    lines = [f"FROM ./{weights}", f'TEMPLATE """{template}"""']
    lines += [f"PARAMETER stop {name}" for name in stops]
    return "\n".join([*lines, f"PARAMETER num_ctx {context_length}", ""])


def _go_template(tokenizer: BPETokenizer) -> str:
    """Return a tokenizer's chat template in Go's template language."""

    def around(*turns: Message) -> list[str]:
        """Return the text before, between and after the turns' contents."""
        if uses_template(tokenizer):
            text = render_template(turns, tokenizer, add_generation_prompt=True)
        else:
            text = render(turns, add_generation_prompt=True)
        return re.split("|".join(turn.content for turn in turns), text)

    system, user, answer = (Message(role, f"what {role} says") for role in ROLES)
    begin, *asked = around(user, answer, user)
    with_system, after_system, *again = around(system, user, answer, user)
    after_user, after_answer, _ = asked
    fixed = "".join([begin, with_system, after_system, *asked])
    is_odd = "{{" in fixed or '"""' in fixed
    if is_odd or asked != [after_user, after_answer, after_user] or asked != again:
        raise ValueError(
            "the chat template cannot be written in Go's template language"
        )
    return "".join(
        [
            *("{{ if .System }}", with_system, "{{ .System }}", after_system),
            *("{{ else }}", begin, "{{ end }}{{ range .Messages }}"),
            *('{{ if eq .Role "user" }}{{ .Content }}', after_user),
            *('{{ else if eq .Role "assistant" }}{{ .Content }}', after_answer),
            "{{ end }}{{ end }}",
        ]
    )


def check_turns(messages: Sequence[Message], last: str | None = None) -> None:
    """Raise ValueError unless user and assistant take turns, the user first.

    Args:
        messages: The conversation; a system turn may come before.
        last: Who must speak last: "user" to be answered, "assistant" to be learned
            from; None: either.
    """
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns:
        raise ValueError(f"a conversation must have a user turn, got {roles}")
    if turns != [("user", "assistant")[place % 2] for place in range(len(turns))]:
        raise ValueError(
            "user and assistant must take turns, the user first and at most one system "
            f"turn before, got {roles}"
        )
    if last is not None and turns[-1] != last:
        raise ValueError(f"the last turn must be the {last}'s, got {roles}")


def encode_chat(
    messages: Sequence[Message], tokenizer: BPETokenizer
) -> tuple[list[int], list[bool]]:
    """Return the ids of a conversation and which of them the assistant wrote.

    The mask is true on the assistant's content and the end of its turn, which it must
    also write, and false on everything that it only reads.

    Args:
        messages: A conversation that ends with the assistant's turn.
        tokenizer: Has the special tokens, see `chat`.

    Raises:
        ValueError: If `check_turns` refuses the turns, if the last is not the
            assistant's, or if the tokenizer lacks the special tokens.
    """
    check_turns(messages, "assistant")
    return _with_mask(messages, tokenizer)


def _with_mask(
    messages: Sequence[Message], tokenizer: BPETokenizer
) -> tuple[list[int], list[bool]]:
    special = _special_ids(tokenizer)
    ids, mask = [special[END_OF_TEXT]], [False]
    for message in messages:
        content = tokenizer.encode(message.content)  # no special tokens: plain text
        ids += [special[f"<|{message.role}|>"], *content, special[END_OF_TURN]]
        mask += [False, *[message.role == "assistant"] * (len(content) + 1)]
    return ids, mask


def encode_prompt(
    messages: Sequence[Message], tokenizer: BPETokenizer, max_tokens: int | None = None
) -> list[int]:
    """Return the ids of a conversation up to where the assistant speaks next.

    Args:
        messages: A conversation that ends with the user's turn.
        tokenizer: Has the special tokens, or a template.
        max_tokens: Most ids; leave room in the context for the answer. None allows
            any number.

    Raises:
        ValueError: If `check_turns` refuses the turns, if the last is not the user's,
            if there are too many ids, or if the tokenizer lacks the special tokens.
    """
    check_turns(messages, "user")
    ids = _encode(messages, tokenizer)
    if max_tokens is not None and len(ids) > max_tokens:
        raise ValueError(
            f"the conversation must have at most {max_tokens} tokens, got {len(ids)}"
        )
    return ids


def _encode(messages: Sequence[Message], tokenizer: BPETokenizer) -> list[int]:
    """Return the ids of a conversation, with the mark of who is to speak next."""
    asked = messages[-1].role == "user"
    if uses_template(tokenizer):
        text = render_template(messages, tokenizer, add_generation_prompt=asked)
        return tokenizer.encode(text, allowed_special="all")
    ids, _ = _with_mask(messages, tokenizer)
    return [*ids, tokenizer.special_tokens["<|assistant|>"]] if asked else ids


def _special_ids(tokenizer: BPETokenizer) -> dict[str, int]:
    wanted = (END_OF_TEXT, *CHAT_TOKENS)
    if missing := [name for name in wanted if name not in tokenizer.special_tokens]:
        raise ValueError(
            f"a tokenizer for conversations must have {missing}, got one with "
            f"{[*tokenizer.special_tokens]}: see chat.add_special_tokens"
        )
    return {name: tokenizer.special_tokens[name] for name in wanted}


def save_chat_files(tokenizer: BPETokenizer, folder: str | Path) -> None:
    """Turn a folder written by `save_pretrained` into a chat model for other programs.

    `tokenizer_config.json` gets the template, and `generation_config.json` says that
    an answer ends with the end of the turn.

    Programs that first render and then encode, as `transformers` does, take special
    tokens in a user's text for real ones: strip them there, or encode here.

    Args:
        tokenizer: Has the special tokens, see `chat`.
        folder: Holds a model.

    Raises:
        ValueError: If the tokenizer lacks the special tokens, or the folder a model.
        OSError: If a file cannot be written.
    """
    special = _special_ids(tokenizer)
    ends = [special[END_OF_TURN], special[END_OF_TEXT]]
    changes: dict[str, dict[str, Any]] = {
        "tokenizer_config.json": {
            "eos_token": END_OF_TURN,
            "pad_token": END_OF_TEXT,
            "chat_template": CHAT_TEMPLATE,
        },
        "generation_config.json": {"eos_token_id": ends, "pad_token_id": ends[1]},
    }
    for name, changed in changes.items():
        path = Path(folder) / name
        write_json(path, read_json(path) | changed)


class Fitted(NamedTuple):
    """A conversation in two parts."""

    kept: list[Message]  # what the model reads
    dropped: list[Message]  # what it does not, the oldest turn first


def fit_history(
    messages: Sequence[Message], tokenizer: BPETokenizer, max_tokens: int
) -> Fitted:
    """Return the part of a conversation that fits, and the turns dropped for it.

    Whole exchanges of user and assistant are dropped, the oldest first, as few as
    possible; the system turn and the last exchange stay.

    Args:
        messages: A conversation, to be answered or to learn from.
        tokenizer: Has the special tokens of `chat`, or a template.
        max_tokens: Most ids of what is kept, as `encode_prompt` or `encode_chat`
            gives them.

    Raises:
        ValueError: If the part that always stays is too long, if `check_turns` refuses
            the turns, or if the tokenizer lacks the special tokens.
    """
    check_turns(messages)
    asked = messages[-1].role == "user"
    start = 1 if messages[0].role == "system" else 0
    kept, dropped = list(messages), list[Message]()
    while (n := len(_encode(kept, tokenizer))) > max_tokens and len(kept) - start > 2:
        dropped += kept[start : start + 2]
        del kept[start : start + 2]
    if n > max_tokens:
        what = "a question" if asked else "an exchange"
        counted = "the system turn and the marks" if start else "the marks"
        raise ValueError(
            f"{what} must have at most {max_tokens} tokens, including {counted} of who "
            f"speaks, got {n}"
        )
    return Fitted(kept, dropped)


def read_conversations(path: str | Path) -> list[list[Message]]:
    """Return the conversations of a file, in order; empty lines are skipped.

    A conversation is an object with `messages`, or in the form of another data set:
    `conversations` (ShareGPT); `instruction`, perhaps `input`, and `output` (Alpaca);
    or `prompt` and `completion`. Other keys are ignored.

    Args:
        path: A file of JSON lines, or of one JSON array, in UTF-8; "-" is standard
            input.

    Raises:
        ValueError: If there is no conversation, or if a line is not UTF-8 or not a
            conversation that ends with the assistant; the message names the line.
        OSError: If there is no such file, or if it cannot be read.
    """
    found, what = [], "line"
    data = _standard_input() if str(path) == "-" else Path(path).read_bytes()
    lines = data.split(b"\n")
    if data.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"["):
        with suppress(ValueError, RecursionError):
            what, lines = "entry", [json.dumps(v).encode() for v in json.loads(data)]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(_conversation(line.decode("utf-8-sig")))
        except ValueError as error:
            place = f"{what} {number} of {str(path)!r}"
            raise ValueError(f"{place}: {error}") from error
    if not found:
        raise ValueError(f"{str(path)!r} must hold a conversation, got none")
    return found


@cache
def _standard_input() -> bytes:
    """Return the contents of standard input, which can only be read once."""
    return sys.stdin.buffer.read()


def _conversation(line: str) -> list[Message]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'must be JSON, like {{"messages": [...]}}: {error}'
        ) from error
    if (turns := _turns(value)) is None:
        raise ValueError(f'wanted {{"messages": [...]}}, got {line.strip()[:40]!r}')
    messages = [_message(turn) for turn in turns]
    check_turns(messages, "assistant")
    for turn in messages:
        if turn.role != "system" and not turn.content.strip():
            raise ValueError(f"the {turn.role} must say something, got an empty turn")
    return messages


def _turns(value: Any) -> list[Any] | None:
    """Return the turns of a conversation, in whichever form it comes."""
    match value:
        case {"messages": list(turns)} | {"conversations": list(turns)}:
            return turns  # perhaps beside a prompt
        case {"instruction": asked}:
            parts, said = [asked, value.get("input") or ""], value.get("output")
            is_text = all(isinstance(part, str) for part in parts)
            asked = "\n\n".join(filter(None, parts)) if is_text else None
        case {"prompt": asked}:
            said = value.get("completion")
        case _:
            return None
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]


_SPEAKERS = {"human": "user", "gpt": "assistant"}  # in ShareGPT


def _message(turn: Any) -> Message:
    match turn:
        case {"role": str(role), "content": str(content)}:
            return Message(role, content)
        case {"from": str(role), "value": str(content)}:
            return Message(_SPEAKERS.get(role, role), content)
    raise ValueError(f"a turn must have texts as role and content, got {turn!s:.60}")


def tokenized(
    conversations: Sequence[Sequence[Message]],
    tokenizer: BPETokenizer,
    max_tokens: int,
    *,
    truncate: bool = False,
) -> list[TokenizedExample]:
    """Return conversations as examples of what the assistant should say.

    Args:
        conversations: Each ends with the assistant's turn.
        tokenizer: Has the special tokens, see `chat`.
        max_tokens: Most tokens that the model may read of one.
        truncate: Whether a longer one may lose its first exchanges.

    Raises:
        ValueError: If one is too long; the message gives its number in the given order
            and says whether `truncate` would help. Or as in `encode_chat`.
    """
    found = []
    for number, messages in enumerate(conversations, start=1):
        try:
            limit = max_tokens + 1  # the last token is never read
            kept, dropped = fit_history(messages, tokenizer, limit)
            if dropped and not truncate:
                n_tokens = len(encode_chat(messages, tokenizer)[0])
                raise ValueError(
                    f"the conversation must have at most {limit} tokens, got "
                    f"{n_tokens}; without its first exchanges it fits: truncate=True, "
                    "or --truncate on the command line"
                )
            ids, mask = encode_chat(kept, tokenizer)
        except ValueError as error:
            raise ValueError(f"conversation {number}: {error}") from error
        found.append(TokenizedExample.of_tokens(ids, mask))
    return found


def add_special_tokens(
    model: Transformer,
    tokenizer: BPETokenizer,
    names: Sequence[str],
    generator: torch.Generator | None = None,
) -> tuple[Transformer, BPETokenizer]:
    """Return a new model and tokenizer with more special tokens; the old ones stay.

    The new tokens get the next ids, and rows of the embedding (and of the unembedding)
    close to the mean of the others, so that a trained model finds them neither likely
    nor strange. All other logits stay the same. The rows have yet to be learned: when
    only low-rank adapters are trained, unfreeze `model.embedding` for that.

    Args:
        model: Of any shape.
        tokenizer: Its tokenizer.
        names: The new special tokens.
        generator: Source of the noise that tells the new rows apart, a tenth of the
            others' deviation; None draws from torch's global one.

    Raises:
        ValueError: If model and tokenizer do not belong together, if a name is already
            taken or given twice, if there are no names, or as in `BPETokenizer`.

    Source: Hewitt (2021), "Initializing new word embeddings for pretrained language
    models".
    """
    n_old = model.config.vocab_size
    check_same_ids(model.config, tokenizer)
    there = [name for name in names if name in tokenizer.special_tokens]
    if there or len(set(names)) < len(names) or not names:
        raise ValueError(
            f"names must be of new tokens, each given once, got {list(names)}"
        )
    added = {name: n_old + place for place, name in enumerate(names)}
    larger = BPETokenizer(
        tokenizer.vocab,
        tokenizer.merges,
        tokenizer.special_tokens | added,
        tokenizer.pattern,
        replace(tokenizer.options, n_ids=None),
    )
    grown = copy.deepcopy(model)
    grown.config = replace(model.config, vocab_size=larger.vocab_size)
    for layer in (grown.embedding, grown.unembedding):
        if layer is not None:
            _grow(layer, len(names), generator)
    return grown, larger


def _grow(
    layer: nn.Embedding | nn.Linear, n_rows: int, generator: torch.Generator | None
) -> None:
    """Add rows to a matrix that has a row for each token."""
    old: Float[Tensor, "vocab d_model"] = layer.weight.detach()
    noise = torch.randn(n_rows, old.shape[1], generator=generator).to(old)
    new = old.mean(dim=0) + 0.1 * old.std(dim=0) * noise
    layer.weight = nn.Parameter(torch.cat((old, new)), layer.weight.requires_grad)
    if isinstance(layer, nn.Embedding):
        layer.num_embeddings = len(layer.weight)
    else:
        layer.out_features = len(layer.weight)
