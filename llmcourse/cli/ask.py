"""The command `ask`: an answer from your own text files, with file and line."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import print_json, read_own, say

# With the shipped model, more passages, or ones that cut a tale in two, lead to fewer
# right answers: tests/benchmarks/bench_asking.py.
_READ, _LISTED = 1, 3  # passages: to answer from, and to list without an answer
_SIZE = 256  # tokens in a passage, or half the window if that is less
_MOST_BYTES = 64 << 20  # of all texts, which are cut again for each question
_SHOWN = 60  # characters shown of a cited passage


def ask(
    question: opt.Text,
    docs: Annotated[
        Path, typer.Option(help="A folder with text files, a file, a pattern, or -.")
    ],
    model: opt.Model = "instruct-llm",
    n_passages: Annotated[
        int | None,
        typer.Option(
            "--passages",
            help="Most passages to read, by default 1, or to show, by default 3.",
            min=1,
        ),
    ] = None,
    passages_only: Annotated[
        bool,
        typer.Option("--passages-only", help="Show the passages, without an answer."),
    ] = False,
    temperature: opt.Temperature = 0.0,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
    dtype: opt.Dtype = "auto",
    as_json: opt.AsJson = False,
) -> None:
    """Answer a question from your own text files, citing file and line.

    The passage that fits the question best is found; the model reads it and answers.
    With `--passages` it reads more of them, as many as fit its window. If the words of
    its answer are not in what it read, the sentence nearest to the question is quoted.

    `llmcourse ask --docs notes/ "Who wrote the report?"`

    `llmcourse ask --docs notes/ --passages-only "the report of May"`
    """
    import torch

    from llmcourse.cli.running import open_model
    from llmcourse.finetuning import answering
    from llmcourse.finetuning.chat import Message
    from llmcourse.model.folders import shipped_models
    from llmcourse.model.generation import Sampling
    from llmcourse.retrieval import retrieval
    from llmcourse.retrieval.chunking import recursive_chunks
    from llmcourse.text.cleaning import clean_text
    from llmcourse.text.documents import excerpt

    documents = [*read_own(docs, _MOST_BYTES)]
    loaded, tokenizer = open_model(model, device, dtype)
    if not passages_only and not answering.knows_conversations(tokenizer):
        raise ValueError(
            f"wanted a model that knows conversations, got {model!r}; --passages-only "
            "shows what was found, without an answer"
        )
    size = min(_SIZE, loaded.config.context_length // 2)
    cut = partial(recursive_chunks, tokenizer=tokenizer, size=size)
    among = retrieval.passages(documents, cut)
    n = n_passages or (_LISTED if passages_only else _READ)
    found = retrieval.Retriever(among).search(question, n)
    if not found:
        raise ValueError(
            f"none of {len(among)} passages has a word of the question: ask in the "
            "words of your texts"
        )
    if passages_only:
        if as_json:
            print_json([asdict(passage) for passage in found])
            return
        for passage in found:
            typer.echo(f"{clean_text(passage.place)}\n{clean_text(passage.text)}\n")
        return
    room = loaded.config.context_length // 8  # tokens that stay free for the answer
    limit = loaded.config.context_length - room
    prompt = retrieval.prompt_with(question, found, tokenizer, limit)
    ids: list[int] = []
    pieces = answering.stream_answer(
        loaded,
        tokenizer,
        [Message("user", prompt.text)],
        sampling=Sampling(temperature=temperature),
        generator=torch.Generator().manual_seed(seed),
        watch=ids.append,
    )
    said = "".join(pieces)
    believed = retrieval.is_grounded(said, prompt.used)
    quote = retrieval.sentence_with(question, prompt.used)
    if as_json:
        read = [asdict(passage) for passage in prompt.used]
        told = {"answer": said, "borne_out": believed, "quote": asdict(quote)}
        print_json(told | {"passages": read})
        return
    shown = said if believed else f"“{quote.text}”"
    typer.echo(f"{clean_text(shown)}\n")
    backing = retrieval.sources_of(said, prompt.used) if believed else []
    for passage in prompt.used:
        mark = "*" if passage in backing else " "
        line = retrieval.line_with(said if believed else quote.text, passage)
        text = clean_text(excerpt(line.text, _SHOWN))
        typer.echo(f"{mark} {clean_text(line.place)}  {text}")
    if believed:
        say("* has most of the words of the answer")
    else:
        say(
            f"the model said {clean_text(excerpt(said, _SHOWN))!r}, which the "
            "passages do not support: quoted is the sentence nearest to the question"
        )
    if answering.end_tokens(tokenizer).isdisjoint(ids):
        say(f"the answer was cut off after {len(ids)} tokens: the context is full")
    if believed and model in shipped_models():
        say(
            f"note: {model} has learned from tales alone; on other texts believe the "
            "passages, not the answer"
        )
