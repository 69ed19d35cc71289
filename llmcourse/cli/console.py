"""What all commands share: output, progress bars and the documents they read."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from tqdm import tqdm

out = Console(highlight=False, markup=False, soft_wrap=True)


def print_json(data: Any) -> None:
    """Print JSON on one line."""
    typer.echo(json.dumps(data))


def say(text: object) -> None:
    """Print something that is not a result as one line, on standard error."""
    # Above the progress bars, if any are drawn.
    tqdm.write(f"llmcourse: {' '.join(str(text).split())}", file=sys.stderr)


# Characters that move the cursor, ring the bell or change the writing direction.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def echoed(pieces: Iterable[str]) -> Iterator[str]:
    """Print each piece as it comes and pass it on; keep controls off a terminal."""
    for piece in pieces:
        shown = _CONTROL.sub("", piece) if sys.stdout.isatty() else piece
        print(shown, end="", flush=True)
        yield piece


@contextmanager
def bars(quiet: bool) -> Iterator[Callable[..., None]]:
    """Yield a progress callback that draws one bar for each stage.

    It is called with the stage, how much is done, and the total; keyword arguments are
    shown beside the bar. On a terminal the bars move smoothly. In a file, where many
    updates would bury all else, there is one per minute.
    """
    drawn: dict[str, Any] = {}
    seconds = 0.1 if sys.stderr.isatty() else 60.0

    def show(stage: str, done: int, total: int, **beside: str) -> None:
        if stage not in drawn:  # a resumed run begins where it was
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
            drawn.pop(stage).close()  # it may come again, as with `align --seeds`

    try:
        yield show
    finally:
        for bar in drawn.values():
            bar.close()


def read_own(
    path: str | Path, max_bytes: int | None, column: str | None = None
) -> Iterator[Any]:
    """Yield the documents of a path, or of standard input if it is "-".

    At the end it says which files were skipped, and why.

    Raises:
        ValueError: If there is no text, or as in `read_texts`.
    """
    from llmcourse.text.cleaning import clean_text
    from llmcourse.text.documents import Document, read_texts
    from llmcourse.training.pipeline import is_packed

    if is_packed(path):
        raise ValueError(
            f"{str(path)!r} holds the ids of a corpus, which only `pretrain` reads: "
            "name the texts that it was made from"
        )
    if str(path) == "-":
        if not (text := sys.stdin.read()).strip():
            raise ValueError("wanted a text on standard input, got none")
        yield Document(text, name="standard input")
        return
    skipped: dict[str, str] = {}
    yield from read_texts(path, skipped, max_bytes, column)
    if skipped:
        named = [f"{path} ({why})" for path, why in skipped.items()][:3]
        rest = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        say(f"skipped: {clean_text(', '.join(named))}{rest}")


def documents_of(
    sources: Iterable[str],
    n_stories: int,
    seed: int,
    *,
    stream: bool = False,
    column: str | None = None,
) -> Iterable[Any]:
    """Return the documents of all sources, one source after the other.

    Args:
        sources: Names and paths.
        n_stories: Number of tales.
        seed: Seed of the tales.
        stream: Hold one file at a time, however many there are.
        column: The column of a dataset's texts; None: "text".
    """
    from llmcourse.text import documents

    most = None if stream else documents.MAX_BYTES
    known: dict[str, Callable[[], Iterable[Any]]] = {
        "tales": lambda: documents.tales(n_stories, seed),
        "python_docs": documents.python_docs,
    }
    return chain.from_iterable(
        known[name]() if name in known else read_own(name, most, column)
        for name in sources
    )


def steps_of(
    sources: Iterable[str], filter: bool, language: str | None
) -> Iterable[Any]:
    """Return the cleaning steps; a user's documents are filtered only if asked."""
    from llmcourse.text.corpus import STEPS, own_steps

    if {*sources} <= {"tales", "python_docs"} and language is None:
        return STEPS
    return own_steps(filtered=filter, language=language)


def make_folder(path: Path, overwrite: bool = True) -> None:
    """Make a folder, before anything takes time.

    Raises:
        ValueError: If it holds something that must not be overwritten.
        OSError: If it cannot be made.
    """
    check_folder(path, overwrite)
    path.mkdir(parents=True, exist_ok=True)


def check_folder(path: Path, overwrite: bool) -> None:
    """Raise ValueError for a folder with files that must not be overwritten."""
    if not overwrite and path.is_dir() and any(path.iterdir()):
        raise ValueError(
            f"{str(path)!r} is not empty: add --overwrite, or name another folder"
        )
