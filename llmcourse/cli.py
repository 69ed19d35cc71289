"""The command line: `llmcourse COMMAND --help` says what each command does.

Results go to standard output, bars and errors to standard error. The exit code is 0
when all went well, 1 when something could not be done, 2 when the command was not
understood.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, cycle
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.text import Text
from tqdm import tqdm

from llmcourse import corpus as corpora
from llmcourse import pipeline as stages
from llmcourse.documents import Document, Step, StepReport
from llmcourse.losses import gap_to_floor
from llmcourse.packing import END_OF_TEXT
from llmcourse.sources import tales
from llmcourse.tokenization import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    WordTokenizer,
)

app = typer.Typer(
    name="llmcourse",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="The command line of *Large Language Models Explained*.",
)
out = Console(highlight=False, soft_wrap=True)

# Black text on these reads well on light and on dark terminals.
COLOURS = ("#e69f00", "#56b4e9", "#7ecfa8", "#f0e442", "#d9a6c2")

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Seed = Annotated[int, typer.Option(help="Another seed, other stories.")]


def main() -> None:
    """Run the command line; a mistake becomes one line and exit code 1."""
    try:
        app()
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"llmcourse: error: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _bar(quiet: bool) -> Iterator[stages.Progress]:
    """Give a progress callback that draws one bar for each stage."""
    bars: dict[str, tqdm] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            bars[stage] = tqdm(total=total, desc=stage, leave=True, disable=quiet)
        bars[stage].update(done - bars[stage].n)
        if done == total:
            bars[stage].close()

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()


@app.command()
def tokenize(
    text: Annotated[str, typer.Argument(help="The text; - reads standard input.")],
    tokenizer: Annotated[
        str,
        typer.Option(
            help="gpt2, tales, word, character, byte, or a tokenizer.json file."
        ),
    ] = "tales",
    vocab_size: Annotated[
        int, typer.Option(help="Of the tokenizers that are trained here.")
    ] = 1024,
) -> None:
    """Show the tokens of a text, in colour, and their ids.

    `llmcourse tokenize "unbelievable" --tokenizer gpt2`

    `llmcourse tokenize - --tokenizer tales < story.txt`
    """
    if text == "-":
        text = sys.stdin.read()
    chosen = load_tokenizer(tokenizer, vocab_size)
    ids, tokens = chosen.encode(text), chosen.tokens(text)
    if not ids:
        raise ValueError("wanted a text with at least one token, got none")
    line = Text()
    for token, colour in zip(tokens, cycle(COLOURS)):
        line.append(token.replace("\n", "⏎"), style=f"black on {colour}")
        if not out.color_system:
            line.append("|")
    out.print(line)
    out.print(" ".join(map(str, ids)))
    out.print(
        f"{len(ids)} tokens for {len(text)} characters: "
        f"{len(text) / len(ids):.2f} characters per token"
    )


def load_tokenizer(name: str, vocab_size: int) -> Tokenizer:
    """Return the tokenizer of that name, or the one in that file.

    Raises:
        ValueError: If there is none.
    """
    if name == "gpt2":
        return BPETokenizer.from_gpt2()
    if name in ("tales", "word"):
        texts = [document.text for document in tales(2_000, seed=0)]
        if name == "word":
            return WordTokenizer.train(texts, vocab_size)
        return BPETokenizer.train(texts, vocab_size, [END_OF_TEXT])
    if name in ("character", "byte"):
        return CharacterTokenizer() if name == "character" else ByteTokenizer()
    if Path(name).suffix == ".json":
        return BPETokenizer.load(name)
    raise ValueError(
        "wanted the tokenizer gpt2, tales, word, character or byte, "
        f"or a tokenizer.json file, got {name!r}"
    )


@app.command()
def corpus(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="tales, python_docs, or files: notes/**/*.txt"),
    ] = None,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Write train, validation and test arrays here."),
    ] = None,
    n_stories: Annotated[int, typer.Option(help="Number of tales.")] = 2_000,
    vocab_size: Annotated[int, typer.Option(help="Of the tokenizer.")] = 1024,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Build a corpus: clean, filter, remove copies, split; report every step.

    `llmcourse corpus tales --n-stories 5000 --out corpus/`

    `llmcourse corpus python_docs`

    `llmcourse corpus "notes/**/*.txt" --out corpus/`
    """
    with _bar(quiet) as show:
        documents = list(_documents(sources or ["tales"], n_stories, seed))
        steps = [_counted(step, show) for step in corpora.STEPS]
        kept, report = corpora.build_corpus(documents, steps)
    out.print(str(report))
    splits = corpora.split(kept)
    out.print(" · ".join(f"{name} {len(part):,}" for name, part in splits.items()))
    if out_folder is None:
        return
    out_folder.mkdir(parents=True, exist_ok=True)
    tokenizer = BPETokenizer.train(
        (document.text for document in splits["train"]), vocab_size, [END_OF_TEXT]
    )
    tokenizer.save(out_folder / "tokenizer.json")
    for name, file in corpora.pack_splits(splits, tokenizer, out_folder).items():
        out.print(f"{out_folder / name}.bin: {file.n_tokens:,} tokens")


def _counted(step: Step, show: stages.Progress) -> Step:
    """Return the step, reporting when it begins and ends."""

    def counted(documents: Sequence[Document]) -> tuple[list[Document], StepReport]:
        name = getattr(step, "__name__", "step").replace("_", " ")
        show(name, 0, len(documents))
        result = step(documents)
        show(name, len(documents), len(documents))
        return result

    return counted


def _documents(sources: list[str], n_stories: int, seed: int) -> Iterable[Document]:
    """Return the documents of all sources, one source after the other."""
    known: dict[str, Callable[[], Iterable[Document]]] = {
        "tales": lambda: tales(n_stories, seed),
        "python_docs": corpora.python_docs,
        "python_sources": corpora.python_sources,
    }
    return chain.from_iterable(
        known[name]() if name in known else corpora.text_files(name) for name in sources
    )


@app.command()
def pipeline(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="As in `corpus`; tales if nothing is named."),
    ] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Keep tokenizer and model here.")
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Training steps.", min=1)
    ] = stages.SMALL.pretraining.steps,
    n_stories: Annotated[
        int, typer.Option(help="Number of tales.")
    ] = stages.SMALL.n_stories,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Take raw text to a model that writes, in about a minute.

    `llmcourse pipeline`

    `llmcourse pipeline --steps 2000 --out my-model/`

    `llmcourse pipeline "notes/**/*.txt"`
    """
    torch.set_num_threads(1)  # for matrices this small a second thread only waits
    training = replace(stages.SMALL.pretraining, steps=steps)
    config = replace(stages.SMALL, n_stories=n_stories, pretraining=training, seed=seed)
    documents = _documents(sources, n_stories, seed) if sources else None
    with _bar(quiet) as show:
        result = stages.run(config, documents, show)
    out.print(f"\n{result.report}\n")
    out.print(f"tokenizer: {result.tokenizer.vocab_size:,} tokens")
    first = result.history.evaluations[0]
    out.print(f"loss: {first.loss:.2f} → {result.loss:.2f} nats/token on held-out text")
    if result.floor is not None:
        floor = result.floor.value
        gap = gap_to_floor(result.loss, floor)
        out.print(f"floor: {floor:.2f} nats/token; the loss is {gap:.0%} above it")
    for name, text in (("before", result.before), ("after", result.after)):
        out.print(Text(f"\n{name} training: {text[:600]}"))
    out.print(f"\nstill to come: {', '.join(stages.STAGES_TO_COME)}")
    if out_folder is not None:
        stages.save(result, out_folder)
        out.print(f"kept in {out_folder}")


if __name__ == "__main__":
    main()
