"""Commands for text: `tokenize` and `corpus`."""

import sys
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from llmcourse.cli.console import Quiet, Seed, app, bars, documents_of, out
from llmcourse.cli.running import make_folder
from llmcourse.text import corpus as corpora
from llmcourse.text.documents import Document, Step, StepReport, tales
from llmcourse.text.packing import END_OF_TEXT
from llmcourse.text.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    WordTokenizer,
)
from llmcourse.training.config import StageProgress

# Black text on these reads well on light and on dark terminals.
COLOURS = ("#e69f00", "#56b4e9", "#7ecfa8", "#f0e442", "#d9a6c2")


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
    with bars(quiet) as show:
        documents = list(documents_of(sources or ["tales"], n_stories, seed))
        steps = [_counted(step, show) for step in corpora.STEPS]
        kept, report = corpora.build_corpus(documents, steps)
    out.print(str(report))
    splits = corpora.split(kept)
    out.print(" · ".join(f"{name} {len(part):,}" for name, part in splits.items()))
    if out_folder is None:
        return
    corpora.check_parts(splits)
    make_folder(out_folder)
    tokenizer = BPETokenizer.train(
        (document.text for document in splits["train"]), vocab_size, [END_OF_TEXT]
    )
    tokenizer.save(out_folder / "tokenizer.json")
    for name, file in corpora.pack_splits(splits, tokenizer, out_folder).items():
        out.print(f"{out_folder / name}.bin: {file.n_tokens:,} tokens")


def _counted(step: Step, show: StageProgress) -> Step:
    """Return the step, reporting when it begins and ends."""

    def counted(documents: Sequence[Document]) -> tuple[list[Document], StepReport]:
        name = getattr(step, "__name__", "step").replace("_", " ")
        show(name, 0, len(documents))
        result = step(documents)
        show(name, len(documents), len(documents))
        return result

    return counted
