"""The command `chat`: a conversation in the terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import torch
import typer

from llmcourse.cli.console import (
    MaxNewTokens,
    Model,
    Seed,
    Temperature,
    TopK,
    TopP,
    echoed,
    say,
)
from llmcourse.finetuning.answering import end_tokens, has_chat_tokens, stream_answer
from llmcourse.finetuning.chat import Message, fit_history
from llmcourse.model.folders import load_pretrained
from llmcourse.model.generation import Sampling
from llmcourse.model.transformer import Transformer
from llmcourse.text.documents import excerpt
from llmcourse.text.tokenizers import BPETokenizer

_HELP = "/reset forgets the conversation, /quit ends it; a line that ends in \\ goes on"
_SHOWN = 40  # characters of a turn that is dropped


def chat(
    model: Model = "instruct-llm",
    temperature: Temperature = 0.5,
    top_k: TopK = None,
    top_p: TopP = None,
    max_new_tokens: MaxNewTokens = None,
    seed: Seed = 0,
) -> None:
    """Talk with a model, as far as its context goes.

    `/reset` begins anew, `/quit` ends, and so does the end of the input. Where a line
    ends in a backslash the next one belongs to it.

    `llmcourse chat --model instruct-llm`

    `llmcourse chat --temperature 0 < questions.txt`
    """
    loaded, tokenizer = load_pretrained(model)
    if not has_chat_tokens(tokenizer):
        raise ValueError(
            f"wanted a model that knows conversations, got {model!r}: let it write "
            "with `llmcourse generate`, or teach it with `llmcourse finetune`"
        )
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    talk = _Talk(loaded, tokenizer, sampling, max_new_tokens, seed)
    talk.check()
    if sys.stdin.isatty():
        say(_HELP)
    try:
        _talk(talk)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        say("goodbye")


def _talk(talk: "_Talk") -> None:
    """Answer what the user says until that is enough."""
    while (line := _read()) is not None:
        command = line.strip()
        if command == "/quit":
            break
        if command == "/reset":
            talk.history.clear()
            say("forgotten: the conversation begins anew")
        elif command.startswith("/"):
            say(f"unknown command {command.split()[0]}: {_HELP}")
        elif command:
            talk.reply(line)


def _read() -> str | None:
    """Return what the user says next, of one or several lines; None at the end."""
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


@dataclass
class _Talk:
    """A conversation with a model, as far as it has gone."""

    model: Transformer
    tokenizer: BPETokenizer
    sampling: Sampling
    max_new_tokens: int | None
    seed: int
    history: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)

    @property
    def room(self) -> int:
        """Tokens that stay free for an answer."""
        return self.max_new_tokens or self.model.config.context_length // 4

    def check(self) -> None:
        """Raise ValueError for options that no answer can be drawn with."""
        limit = self.model.config.context_length
        if self.room > limit // 2:
            raise ValueError(
                f"max_new_tokens must be at most {limit // 2}, half of the model's "
                f"context, got {self.max_new_tokens}"
            )
        self._pieces([Message("user", "")])

    def reply(self, text: str) -> None:
        """Print the answer to what the user says, or why there is none."""
        asked = [*self.history, Message("user", text)]
        limit = self.model.config.context_length - self.room
        try:
            fitted = fit_history(asked, self.tokenizer, limit)
        except ValueError as error:
            say(str(error))
            return
        if fitted.dropped:
            say(f"the context is full; no longer known: {_named(fitted.dropped)}")
        said: list[str] = []
        ids: list[int] = []
        note = ""
        try:
            for piece in echoed(self._pieces(fitted.kept, watch=ids.append)):
                said.append(piece)
            if end_tokens(self.tokenizer).isdisjoint(ids):
                note = f"cut off after {len(ids)} tokens"
        except KeyboardInterrupt:
            note = "interrupted"
        typer.echo()
        if note:
            say(note)
        self.history = [*fitted.kept, Message("assistant", "".join(said))]

    def _pieces(
        self, messages: list[Message], watch: Callable[[int], None] | None = None
    ) -> Iterator[str]:
        return stream_answer(
            self.model,
            self.tokenizer,
            messages,
            max_new_tokens=self.max_new_tokens,
            generator=self.generator,
            watch=watch,
            sampling=self.sampling,
        )


def _named(messages: list[Message]) -> str:
    """Return the beginnings of turns, in words of one line."""
    return ", ".join(f"{m.role} “{excerpt(m.content, _SHOWN)}”" for m in messages)
