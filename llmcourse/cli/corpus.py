"""The command `corpus`: from documents to clean, split, tokenized text."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import (
    bars,
    documents_of,
    make_folder,
    out,
    print_json,
    steps_of,
)


def corpus(
    sources: opt.Sources = None,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Write train, validation and test arrays here."),
    ] = None,
    column: opt.Column = None,
    filter: opt.Filter = False,
    language: opt.Language = None,
    n_stories: Annotated[int, typer.Option(help="Number of tales.")] = 2_000,
    vocab_size: Annotated[
        int, typer.Option(help="Vocabulary size of the tokenizer.")
    ] = 1024,
    seed: opt.Seed = 0,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Hold one document at a time and leave copies in, for a text that is "
            "larger than memory.",
        ),
    ] = False,
    processes: Annotated[
        int, typer.Option(help="Number of processes, with --stream.", min=1)
    ] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted --stream.")
    ] = False,
    overwrite: opt.Overwrite = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Build a corpus: clean, filter, remove copies, split; report every step.

    Your own files may be of any kind, language and length: long ones are cut into
    documents, and none is filtered unless you ask for it. Folders that Hugging Face's
    `datasets` has saved, .parquet files and, with `--column`, .jsonl files are read row
    by row.

    `llmcourse corpus tales --n-stories 5000 --out corpus/`

    `llmcourse corpus python_docs`

    `llmcourse corpus notes/ book.txt --language de --out corpus/`

    `llmcourse corpus saved/train rows.parquet --column story --out corpus/`

    `llmcourse corpus tales --n-stories 1000000 --stream --processes 2 --out corpus/`

    With `--stream`, Ctrl-C loses little: the same command with `--resume` goes on.

    `llmcourse pretrain --data corpus/ --out run/`
    """
    from tqdm import tqdm

    from llmcourse.text.corpus import (
        PROGRESS,
        build_corpus,
        pack_corpus,
        remove_arrays,
        stream_corpus,
    )
    from llmcourse.text.packing import pack
    from llmcourse.training.config import report_progress
    from llmcourse.training.pipeline import TOKENIZER_STORIES, split_or_cut

    named = sources or ["tales"]
    for name, given in {"--processes": processes > 1, "--resume": resume}.items():
        if given and not stream:
            raise ValueError(f"{name} needs --stream")
    if out_folder is not None:
        begun = (out_folder / PROGRESS).is_file()
        if begun and not (resume or overwrite):
            raise ValueError(
                f"{str(out_folder)!r} holds a corpus that was not finished: add "
                "--resume to go on, or --overwrite to begin anew"
            )
        make_folder(out_folder, overwrite or begun)
    if stream:
        if out_folder is None:
            raise ValueError("--stream needs --out: the folder to write into")
        read = iter(documents_of(named, n_stories, seed, stream=True, column=column))
        first = list(islice(read, TOKENIZER_STORIES))
        steps = steps_of(named, filter, language)
        tokenizer = _train_tokenizer(stream_corpus(first, steps), vocab_size)
        told = tqdm(chain(first, read), "documents", disable=quiet)
        files = pack_corpus(
            *(told, tokenizer, out_folder, steps, processes), resume=resume
        )
        tokenizer.save(out_folder / "tokenizer.json")
        if as_json:
            print_json({k: asdict(file) for k, file in files.items()})
            return
        for name, file in files.items():
            what = f"{file.n_tokens:,} tokens of {file.n_documents:,} documents"
            shards = f" in {len(file.shards)} files" if file.shards else ""
            out.print(f"{out_folder / name}.bin: {what}{shards}")
        return
    with bars(quiet) as show:
        documents = list(documents_of(named, n_stories, seed, column=column))
        steps = [*steps_of(named, filter, language)]
        told = report_progress(steps, len(steps), "steps", show)
        kept, report = build_corpus(documents, told)
    splits = split_or_cut(kept)
    sizes = {name: len(part) for name, part in splits.items()}
    if as_json:
        steps_done = [asdict(replace(step, examples=())) for step in report.steps]
        print_json({"steps": steps_done, "documents": sizes})
    else:
        out.print(str(report))
        out.print(" · ".join(f"{name} {size:,}" for name, size in sizes.items()))
    if out_folder is None:
        return
    tokenizer = _train_tokenizer(splits["train"], vocab_size)
    tokenizer.save(out_folder / "tokenizer.json")
    remove_arrays(out_folder)
    for name, part in splits.items():
        if part:  # with few documents, none is left to test on
            path = out_folder / f"{name}.bin"
            n_tokens = pack(part, tokenizer, path).n_tokens
            if not as_json:
                out.print(f"{path}: {n_tokens:,} tokens")


def _train_tokenizer(documents: Iterable[Any], vocab_size: int) -> Any:
    from llmcourse.text.packing import END_OF_TEXT
    from llmcourse.text.tokenizers import BPETokenizer

    texts = (document.text for document in documents)
    return BPETokenizer.train(texts, vocab_size, [END_OF_TEXT], allow_fewer=True)
