"""What all commands share: the application, its output, bars and options."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Any

import typer
from rich.console import Console
from tqdm import tqdm

from llmcourse.text import documents as corpora
from llmcourse.text.documents import Document, tales
from llmcourse.training.config import Record, StageProgress, Update

app = typer.Typer(
    name="llmcourse",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="The command line of *Large Language Models Explained*.",
)
out = Console(highlight=False, soft_wrap=True)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Seed = Annotated[int, typer.Option(help="Another seed, other stories.")]
Model = Annotated[
    str, typer.Option("--model", help="A model's folder, or the name of a shipped one.")
]
Stories = Annotated[
    int, typer.Option(help="Fresh tales to measure the loss on.", min=2)
]
Samples = Annotated[
    int, typer.Option(help="Tales that the model writes, to be checked.", min=0)
]


def _bar(name: str, total: int, quiet: bool, done: int = 0) -> Any:
    """Return a bar on standard error: smooth on a terminal, in a file a line a minute.

    There each state of the bar stays, and many would bury all else.
    """
    seconds = 0.1 if sys.stderr.isatty() else 60.0
    return tqdm(
        total=total,
        initial=done,
        desc=name,
        disable=quiet,
        mininterval=seconds,
        maxinterval=max(10.0, seconds),
    )


@contextmanager
def bars(quiet: bool) -> Iterator[StageProgress]:
    """Give a progress callback that draws one bar for each stage."""
    drawn: dict[str, Any] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in drawn:
            drawn[stage] = _bar(stage, total, quiet)
        drawn[stage].update(done - drawn[stage].n)
        if done == total:
            drawn[stage].close()

    try:
        yield show
    finally:
        for bar in drawn.values():
            bar.close()


@dataclass
class TrainingBar:
    """A bar with loss and learning rate, which begins where a training goes on."""

    steps: int
    quiet: bool
    name: str = "pretraining"
    loss: float | None = None  # a running mean over some fifty steps
    bar: Any = None
    shown: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> "TrainingBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bar as it is; once is enough."""
        if self.bar is not None:
            self.bar.close()

    def show(self, record: Record) -> None:
        """Take note of an update or an evaluation."""
        is_update = isinstance(record, Update)
        if self.bar is None:
            done = record.step - is_update
            self.bar = _bar(self.name, self.steps, self.quiet, done)
        if isinstance(record, Update):
            before = record.loss if self.loss is None else self.loss
            self.loss = before + 0.02 * (record.loss - before)
            self.shown["loss"] = f"{self.loss:.3f}"
            self.shown["rate"] = f"{record.learning_rate:.1e}"
        else:
            self.shown["held out"] = f"{record.loss:.3f}"
        self.bar.set_postfix(self.shown, refresh=False)
        self.bar.update(is_update)


def documents_of(
    sources: Iterable[str], n_stories: int, seed: int
) -> Iterable[Document]:
    """Return the documents of all sources, one source after the other."""
    known: dict[str, Callable[[], Iterable[Document]]] = {
        "tales": lambda: tales(n_stories, seed),
        "python_docs": corpora.python_docs,
        "python_sources": corpora.python_sources,
    }
    return chain.from_iterable(
        known[name]() if name in known else corpora.text_files(name) for name in sources
    )


def say(text: object) -> None:
    """Print something that is no result as one line, on standard error."""
    print(f"llmcourse: {' '.join(str(text).split())}", file=sys.stderr)
