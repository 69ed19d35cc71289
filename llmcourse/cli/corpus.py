"""The command `corpus`: from documents to clean, split, tokenized text."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import bars, documents_of, make_folder, out, steps_of


def corpus(
    sources: opt.Sources = None,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Write train, validation and test arrays here."),
    ] = None,
    filter: opt.Filter = False,
    language: opt.Language = None,
    n_stories: Annotated[int, typer.Option(help="Number of tales.")] = 2_000,
    vocab_size: Annotated[int, typer.Option(help="Of the tokenizer.")] = 1024,
    seed: opt.Seed = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Build a corpus: clean, filter, remove copies, split; report every step.

    Files of your own may be of any kind, language and length: long ones are cut into
    documents, and none is filtered unless you ask for it.

    `llmcourse corpus tales --n-stories 5000 --out corpus/`

    `llmcourse corpus python_docs`

    `llmcourse corpus notes/ book.txt --language de --out corpus/`
    """
    from llmcourse.text.corpus import build_corpus
    from llmcourse.text.packing import END_OF_TEXT, pack
    from llmcourse.text.tokenizers import BPETokenizer
    from llmcourse.training.config import report_progress
    from llmcourse.training.pipeline import split_or_cut

    named = sources or ["tales"]
    if out_folder is not None:
        make_folder(out_folder, overwrite)
    with bars(quiet) as show:
        documents = list(documents_of(named, n_stories, seed))
        steps = [*steps_of(named, filter, language)]
        told = report_progress(steps, len(steps), "steps", show)
        kept, report = build_corpus(documents, told)
    splits = split_or_cut(kept)
    sizes = {name: len(part) for name, part in splits.items()}
    if as_json:
        steps_done = [asdict(replace(step, examples=())) for step in report.steps]
        out.print_json(json.dumps({"steps": steps_done, "documents": sizes}))
    else:
        out.print(str(report))
        out.print(" · ".join(f"{name} {size:,}" for name, size in sizes.items()))
    if out_folder is None:
        return
    tokenizer = BPETokenizer.train(
        (document.text for document in splits["train"]),
        vocab_size,
        [END_OF_TEXT],
        allow_fewer=True,
    )
    tokenizer.save(out_folder / "tokenizer.json")
    for name, part in splits.items():
        if part:  # of few documents none is left to test on
            path = out_folder / f"{name}.bin"
            n_tokens = pack(part, tokenizer, path).n_tokens
            if not as_json:
                out.print(f"{path}: {n_tokens:,} tokens")
