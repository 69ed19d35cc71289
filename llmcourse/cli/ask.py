"""The command `ask`: an answer from your own text files, with file and line."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from llmcourse.cli.console import Model, Seed, Temperature, echoed, say, tell_skipped
from llmcourse.finetuning.answering import end_tokens, has_chat_tokens, stream_answer
from llmcourse.finetuning.chat import Message
from llmcourse.model.folders import load_pretrained, shipped_models
from llmcourse.model.generation import Sampling
from llmcourse.retrieval.chunking import recursive_chunks
from llmcourse.retrieval.dense import DualEncoder
from llmcourse.retrieval.retrieval import (
    Prompt,
    Retriever,
    line_with,
    passages,
    prompt_with,
    sources_of,
)
from llmcourse.text.cleaning import clean_text
from llmcourse.text.documents import excerpt, read_texts

# With the shipped model, more passages, or smaller ones, make fewer answers right:
# tests/benchmarks/bench_asking.py.
_READ, _LISTED = 1, 3  # passages: to answer from, and to be shown alone
_SIZE = 256  # tokens of a passage
_SHOWN = 60  # characters of a passage that is cited


def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    docs: Annotated[
        Path, typer.Option(help="A folder with text files, a file, or a pattern.")
    ],
    model: Model = "instruct-llm",
    retriever: Annotated[
        Literal["bm25", "dense", "both"],
        typer.Option(help="bm25, by words; dense, by vectors; or both."),
    ] = "bm25",
    n_passages: Annotated[
        int | None,
        typer.Option(
            "--passages",
            help="The most that are read, 1 if not given; or shown, then 3.",
            min=1,
        ),
    ] = None,
    passages_only: Annotated[
        bool, typer.Option("--passages-only", help="Show them, and no answer.")
    ] = False,
    chunk_size: Annotated[
        int | None,
        typer.Option(
            help="Most tokens of a passage; if not given, 256 or half the window.",
            min=4,
        ),
    ] = None,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
) -> None:
    """Answer a question from your own text files, and cite file and line.

    The passage that fits the question best is found, the model reads it and answers;
    with `--passages` it reads more, as many as fit its window. The shipped models have
    learned from tales alone: on other texts believe the passages, not the answer.

    `llmcourse ask --docs notes/ "Who wrote the report?"`

    `llmcourse ask --docs notes/ --passages-only "the report of May"`
    """
    texts = read_texts(docs)
    tell_skipped(texts.skipped)
    loaded, tokenizer = load_pretrained(model)
    if not passages_only and not has_chat_tokens(tokenizer):
        raise ValueError(
            f"wanted a model that knows conversations, got {model!r}; --passages-only "
            "shows what was found, without an answer"
        )
    size = chunk_size or min(_SIZE, loaded.config.context_length // 2)
    cut = partial(recursive_chunks, tokenizer=tokenizer, size=size)
    among = passages(texts.documents, cut)
    encoder = None
    if retriever != "bm25":
        encoder = DualEncoder(loaded, tokenizer, [passage.text for passage in among])
    n = n_passages or (_LISTED if passages_only else _READ)
    found = Retriever(among, retriever, encoder).search(question, n)
    if not found:
        raise ValueError(
            f"none of {len(among)} passages has a word of the question: ask in the "
            "words of your texts, or try --retriever dense"
        )
    if passages_only:
        for passage in found:
            typer.echo(f"{clean_text(passage.place)}\n{clean_text(passage.text)}\n")
        return
    room = loaded.config.context_length // 8  # tokens that stay free for the answer
    limit = loaded.config.context_length - room
    prompt = prompt_with(question, found, tokenizer, limit)
    asked = [Message("user", prompt.text)]
    ids: list[int] = []
    pieces = stream_answer(
        loaded,
        tokenizer,
        asked,
        sampling=Sampling(temperature=temperature),
        generator=torch.Generator().manual_seed(seed),
        watch=ids.append,
    )
    said = "".join(echoed(pieces))
    typer.echo("\n")
    _cite(said, prompt)
    if end_tokens(tokenizer).isdisjoint(ids):
        say(f"the answer was cut off after {len(ids)} tokens: the context is full")
    if model in shipped_models():
        say(
            f"note: {model} has learned from tales alone; on other texts believe the "
            "passages, not the answer"
        )


def _cite(answer: str, prompt: Prompt) -> None:
    """Print what was read, and say what of it has the words of the answer."""
    backing = sources_of(answer, prompt.used)
    for passage in prompt.used:
        mark = "*" if passage in backing else " "
        line = line_with(answer, passage)
        shown = clean_text(excerpt(line.text, _SHOWN))
        typer.echo(f"{mark} {clean_text(line.place)}  {shown}")
    if backing:
        say("* has most of the words of the answer")
    else:
        say("no passage has the words of the answer: it comes from nowhere")
