"""The command `corpus`: from documents to clean, split, tokenized text."""

from pathlib import Path
from typing import Annotated

import typer

from llmcourse.cli.console import (
    Quiet,
    Seed,
    Sources,
    bars,
    documents_of,
    make_folder,
    out,
)
from llmcourse.text import corpus as corpora
from llmcourse.text.packing import END_OF_TEXT, pack
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import report_progress


def corpus(
    sources: Sources = None,
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
        steps = report_progress(corpora.STEPS, len(corpora.STEPS), "steps", show)
        kept, report = corpora.build_corpus(documents, steps)
    out.print(str(report))
    splits = corpora.split(kept)
    out.print(" · ".join(f"{name} {len(part):,}" for name, part in splits.items()))
    if out_folder is None:
        return
    if empty := [name for name, part in splits.items() if not part]:
        raise ValueError(f"each part needs at least one document, got none in {empty}")
    make_folder(out_folder)
    tokenizer = BPETokenizer.train(
        (document.text for document in splits["train"]), vocab_size, [END_OF_TEXT]
    )
    tokenizer.save(out_folder / "tokenizer.json")
    for name, part in splits.items():
        path = out_folder / f"{name}.bin"
        out.print(f"{path}: {pack(part, tokenizer, path).n_tokens:,} tokens")
