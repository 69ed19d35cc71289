"""What all commands share: output, bars, and options that mean the same everywhere."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from tqdm import tqdm

out = Console(highlight=False, markup=False, soft_wrap=True)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Seed = Annotated[int, typer.Option(help="Of everything that is random.")]
Model = Annotated[
    str, typer.Option("--model", help="A model's folder, or the name of a shipped one.")
]
Data = Annotated[
    list[str] | None,
    typer.Option(help="notes/, *.txt or python_docs: your text, not the tales."),
]
Sources = Annotated[
    list[str] | None,
    typer.Argument(help="tales, python_docs, or files: notes/ or notes/**/*.txt"),
]
Filter = Annotated[
    bool, typer.Option("--filter", help="Drop what is no good English prose.")
]
Language = Annotated[
    Literal["de", "en", "es", "fr", "it", "nl", "pt", "sv"] | None,
    typer.Option(help="Drop what is in another language."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]

# Sampling
Temperature = Annotated[
    float, typer.Option(help="Below 1 safer, above 1 wilder; 0: the likeliest.")
]
TopK = Annotated[int | None, typer.Option(help="Sample from the k likeliest tokens.")]
TopP = Annotated[
    float | None,
    typer.Option(help="Sample from the likeliest tokens of probability p together."),
]
MaxNewTokens = Annotated[
    int | None, typer.Option(help="Most tokens of each text; what fits.", min=1)
]

# Training
OutFolder = Annotated[
    Path | None,
    typer.Option("--out", help="For checkpoints, logs and models; run-PRESET."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the folder's checkpoints.")
]
Steps = Annotated[int | None, typer.Option(help="The preset's.", min=1)]
BatchSize = Annotated[int | None, typer.Option(help="The preset's.", min=1)]
LearningRate = Annotated[float | None, typer.Option(help="At its peak; the preset's.")]
Precision = Annotated[
    Literal["float32", "bfloat16"] | None,
    typer.Option(help="Of the training; what is fast here."),
]
Threads = Annotated[int | None, typer.Option(help="Processor cores; all.", min=1)]
Machine = Annotated[
    str, typer.Option(help="Words for the model's card on what trained it.")
]

# Measuring
Stories = Annotated[
    int, typer.Option(help="Fresh tales to measure the loss on.", min=2)
]
Samples = Annotated[
    int, typer.Option(help="Tales that the model writes, to be checked.", min=0)
]
Questions = Annotated[
    int, typer.Option(help="Instructions of each kind, to measure; 0: none.", min=0)
]


def say(text: object) -> None:
    """Print something that is no result as one line, on standard error."""
    print(f"llmcourse: {' '.join(str(text).split())}", file=sys.stderr)


def echoed(pieces: Iterable[str]) -> Iterator[str]:
    """Print each piece as soon as it is there, and pass it on."""
    for piece in pieces:
        typer.echo(piece, nl=False)
        yield piece


@contextmanager
def bars(quiet: bool) -> Iterator[Callable[..., None]]:
    """Give a progress callback that draws one bar for each stage.

    It is called with the stage, how much is done, and of how much; what is named
    besides is shown beside the bar. On a terminal the bars are smooth. In a file,
    where each state stays and many would bury all else, there is one a minute.
    """
    drawn: dict[str, Any] = {}
    seconds = 0.1 if sys.stderr.isatty() else 60.0

    def show(stage: str, done: int, total: int, **beside: str) -> None:
        if stage not in drawn:  # a training that goes on begins where it was
            drawn[stage] = tqdm(
                total=total,
                initial=done,
                desc=stage,
                disable=quiet,
                mininterval=seconds,
                maxinterval=max(10.0, seconds),
            )
        drawn[stage].set_postfix(beside, refresh=False)
        drawn[stage].update(done - drawn[stage].n)
        if done == total:
            drawn[stage].close()

    try:
        yield show
    finally:
        for bar in drawn.values():
            bar.close()


def documents_of(sources: Iterable[str], n_stories: int, seed: int) -> Iterable[Any]:
    """Return the documents of all sources, one source after the other."""
    from llmcourse.text import documents

    def own(path: str) -> list[Any]:
        found = documents.read_texts(path)
        tell_skipped(found.skipped)
        return found.documents

    known: dict[str, Callable[[], Iterable[Any]]] = {
        "tales": lambda: documents.tales(n_stories, seed),
        "python_docs": documents.python_docs,
    }
    return chain.from_iterable(
        known[name]() if name in known else own(name) for name in sources
    )


def steps_of(
    sources: Iterable[str], filter: bool, language: str | None
) -> Iterable[Any]:
    """Return what is done to the documents: own ones are filtered only if asked."""
    from llmcourse.text.corpus import STEPS, own_steps

    if {*sources} <= {"tales", "python_docs"} and language is None:
        return STEPS
    return own_steps(filtered=filter, language=language)


def tell_skipped(skipped: Mapping[str, str]) -> None:
    """Say which files were skipped, and why."""
    from llmcourse.text.cleaning import clean_text

    if skipped:
        named = [f"{path} ({why})" for path, why in skipped.items()][:3]
        rest = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        say(f"skipped: {clean_text(', '.join(named))}{rest}")


def make_folder(path: Path, overwrite: bool = True) -> None:
    """Make a folder, before anything takes time.

    Raises:
        ValueError: If something is in it that must not be overwritten.
        OSError: If it cannot be made.
    """
    if not overwrite and path.is_dir() and any(path.iterdir()):
        raise ValueError(
            f"{str(path)!r} is not empty: add --overwrite, or name another folder"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot write into {str(path)!r}: {error.strerror or error}"
        raise OSError(error.errno, message) from error
