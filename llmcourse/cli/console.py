"""What all commands share: the application, its output, bars and options."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Annotated, Any

import typer
from rich.console import Console
from tqdm import tqdm

from llmcourse import corpus as corpora
from llmcourse.documents import Document
from llmcourse.pipeline import Progress
from llmcourse.sources import tales

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


@contextmanager
def bars(quiet: bool) -> Iterator[Progress]:
    """Give a progress callback that draws one bar for each stage."""
    drawn: dict[str, Any] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in drawn:
            drawn[stage] = tqdm(total=total, desc=stage, leave=True, disable=quiet)
        drawn[stage].update(done - drawn[stage].n)
        if done == total:
            drawn[stage].close()

    try:
        yield show
    finally:
        for bar in drawn.values():
            bar.close()


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


def say_error(error: Exception | str) -> None:
    """Print an error as one line, on standard error."""
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"llmcourse: error: {text}", file=sys.stderr)
