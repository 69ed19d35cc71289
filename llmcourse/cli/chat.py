"""The command `chat`: a conversation in the terminal."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import echoed, say

if TYPE_CHECKING:
    from llmcourse.finetuning.chat import Message
    from llmcourse.text.tokenizers import BPETokenizer

_HELP = (
    "/reset forgets the conversation, /quit ends it, /save FILE and /load FILE store "
    "and restore it; a line that ends in \\ continues on the next"
)
_SHOWN = 40  # characters shown of a dropped turn


def chat(
    model: opt.Model = "instruct-llm",
    system: Annotated[
        str,
        typer.Option(help="A system message, for models that learned to follow one."),
    ] = "",
    temperature: opt.Temperature = 0.5,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    max_new_tokens: opt.MaxNewTokens = None,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
    dtype: opt.Dtype = "auto",
) -> None:
    """Talk with a model, which remembers what fits its context.

    `/reset` forgets the conversation, `/save FILE` and `/load FILE` store and restore
    it, and `/quit` or the end of the input ends it. Ctrl-C stops an answer; twice in a
    row, it ends the conversation. A backslash at the end of a line continues it.

    `llmcourse chat --model instruct-llm`

    `llmcourse chat --temperature 0 < questions.txt`
    """
    import torch

    from llmcourse.arguments import check_range
    from llmcourse.cli.running import open_model
    from llmcourse.finetuning.answering import knows_conversations, stream_answer
    from llmcourse.finetuning.chat import Message
    from llmcourse.model.generation import Sampling

    loaded, tokenizer = open_model(model, device, dtype)
    if not knows_conversations(tokenizer):
        raise ValueError(
            f"wanted a model that knows conversations, got {model!r}: let it write "
            "with `llmcourse generate`, or teach it with `llmcourse finetune`"
        )
    limit = loaded.config.context_length
    room = max_new_tokens or limit // 4  # tokens that stay free for an answer
    check_range(1, limit // 2, max_new_tokens=room)
    answer = partial(
        stream_answer,
        loaded,
        tokenizer,
        max_new_tokens=max_new_tokens,
        generator=torch.Generator().manual_seed(seed),
        sampling=Sampling(temperature=temperature, top_k=top_k, top_p=top_p),
    )
    answer([Message("user", "")])  # refuses invalid options at once
    if sys.stdin.isatty():
        say(_HELP)
    try:
        first = [Message("system", system)] if system else []
        _talk(partial(_reply, answer, tokenizer, limit - room), first)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        say("goodbye")


def _talk(
    reply: Callable[[list["Message"], str], list["Message"]], first: list["Message"]
) -> None:
    """Answer what the user says until the conversation ends."""
    history, stopped = first, False
    while True:
        try:
            line = _read()
        except KeyboardInterrupt:
            if stopped or not sys.stdin.isatty():
                raise
            stopped = True
            typer.echo()
            say("Ctrl-C once more ends the conversation")
            continue
        stopped = False
        if line is None or (command := line.strip()) == "/quit":
            break
        if command == "/reset":
            history = first
            say("forgotten: the conversation begins anew")
        elif command.startswith(("/save ", "/load ")):
            history = _kept(history, *command.split(maxsplit=1))
        elif command.startswith("/"):
            say(f"unknown command {command.split()[0]}: {_HELP}")
        elif command:
            history = reply(history, line)


def _kept(history: list["Message"], what: str, name: str) -> list["Message"]:
    """Save a conversation, or load another; return the one to go on with."""
    from llmcourse.files import write_file
    from llmcourse.finetuning.chat import check_turns, read_conversations

    try:
        path = Path(name).expanduser().absolute()
        if what == "/save":
            check_turns(history, "assistant")
        if what == "/load" or path.exists():  # overwrite conversations only
            talk, *more = read_conversations(path)
            if more:
                raise ValueError(f"wanted one conversation, got more in {str(path)!r}")
        if what == "/save":
            talk = history
            saved = {"messages": [vars(message) for message in talk]}
            write_file(path, json.dumps(saved) + "\n")
        history = talk
        say(f"{what[1:]}: {len(history)} turns, the last: {_named(history[-1:])}")
    except (ValueError, OSError, RuntimeError) as error:  # as of an unknown ~user
        say(str(error))
    return history


def _read() -> str | None:
    """Return what the user says next, in one or several lines; None at the end."""
    lines: list[str] = []
    while True:
        line = _line("you> " if not lines else "...> ")
        if line is None:
            return "\n".join(lines) if lines else None
        if not line.endswith("\\"):
            return "\n".join([*lines, line])
        lines.append(line[:-1])


def _line(prompt: str) -> str | None:
    """Return the next line of the input, None at its end."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line.rstrip("\r\n") if line else None
    with suppress(ImportError):
        import readline  # noqa: F401  gives `input` arrow keys and a history
    try:
        return input(prompt)
    except EOFError:
        typer.echo()
        return None


def _reply(
    answer: Callable[..., Iterator[str]],
    tokenizer: "BPETokenizer",
    limit: int,
    history: list["Message"],
    text: str,
) -> list["Message"]:
    """Print the answer to what the user says, or why there is none.

    Args:
        answer: Answers a conversation, piece by piece.
        tokenizer: The model's tokenizer.
        limit: Most tokens in a conversation that is answered.
        history: The conversation so far.
        text: What the user says.

    Returns:
        The conversation so far, as much of it as fits.
    """
    from llmcourse.finetuning.answering import end_tokens
    from llmcourse.finetuning.chat import Message, fit_history

    try:
        fitted = fit_history([*history, Message("user", text)], tokenizer, limit)
    except ValueError as error:
        say(str(error))
        return history
    if fitted.dropped:
        say(f"the context is full; no longer known: {_named(fitted.dropped)}")
    said: list[str] = []
    ids: list[int] = []
    note = ""
    try:
        for piece in echoed(answer(fitted.kept, watch=ids.append)):
            said.append(piece)
        if end_tokens(tokenizer).isdisjoint(ids):
            note = f"cut off after {len(ids)} tokens"
    except KeyboardInterrupt:
        note = "interrupted"
    typer.echo()
    if note:
        say(note)
    return [*fitted.kept, Message("assistant", "".join(said))]


def _named(messages: list["Message"]) -> str:
    """Return the beginnings of turns, on one line."""
    from llmcourse.text.documents import excerpt

    return ", ".join(f"{m.role} “{excerpt(m.content, _SHOWN)}”" for m in messages)
