"""From raw text to a corpus: the steps in order, and a report of each.

    documents → clean → remove boilerplate → filter → remove copies → documents
                  └────────────┴───────────────┴───────────┴──────→ report

Then the corpus is split into training, validation and test sets. A hash of a document's
text decides which set it goes to, whatever the other documents are: a corpus may grow
without any document changing sets, and two copies of a text are always in the same
set. A hash cannot see a passage that two documents share; `contamination` does.

The filters are for web pages, most of which are not worth reading. With `own_steps`,
text of your own is kept whatever it is: a poem, a list, Chinese.

>>> from llmcourse.text.documents import tales
>>> story = next(tales(1, seed=0))
>>> documents, report = build_corpus([story, story])
>>> {step.step: step.documents_removed for step in report.steps}["remove duplicates"]
1
"""

import multiprocessing
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from llmcourse.arguments import check_range
from llmcourse.text import cleaning, deduplication
from llmcourse.text.deduplication import fingerprint, ngram_hashes, words
from llmcourse.text.documents import (
    Document,
    Removal,
    Report,
    Step,
    StepReport,
    excerpt,
    summarise,
)
from llmcourse.text.packing import TokenFile, load_header, packer, stored_ids
from llmcourse.text.tokenizers import Tokenizer

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

STEPS: tuple[Step, ...] = (
    cleaning.clean,
    cleaning.remove_boilerplate,
    cleaning.filter_quality,
    cleaning.filter_language,
    deduplication.remove_duplicates,
    deduplication.remove_near_duplicates,
)
"""Cheap steps first; copies last, since cleaning makes copies equal."""

_BATCH = 256  # documents that a process takes at once
LONGEST = 2_000
"""The most characters in a document of your own: a page of a book.

From few, long documents a model would hardly see how one begins, nor could it begin.
"""


def own_steps(*, filtered: bool = False, language: str | None = None) -> list[Step]:
    """Return the steps for text of your own, of any kind, language and length.

    Args:
        filtered: Whether to apply the rules for good English prose.
        language: A key of `FUNCTION_WORDS`, to keep only text in it; None: keep all.
    """
    steps: list[Step] = [cleaning.clean, cut_long]
    if filtered:
        steps += [cleaning.remove_boilerplate, cleaning.filter_quality]
    if language is not None:
        steps.append(partial(cleaning.filter_language, language=language))
    return [*steps, *STEPS[-2:]]


def cut_long(
    documents: Sequence[Document], *, most: int = LONGEST
) -> tuple[list[Document], StepReport]:
    """Return the documents, with long ones cut into several, as a book into pages.

    Cuts fall between paragraphs, or else lines, sentences or words; where there are
    none of these, anywhere. The pieces, joined, are the document.

    Args:
        documents: Clean documents.
        most: The most characters in a piece.

    Raises:
        ValueError: If `most` is less than 1.

    >>> pieces, _ = cut_long([Document("One two. Three.", name="a")], most=10)
    >>> [(piece.name, piece.text) for piece in pieces]
    [('a#1', 'One two. '), ('a#2', 'Three.')]
    """
    check_range(1, most=most)
    pieces: list[Document] = []
    long: list[Removal] = []
    for document in documents:
        if len(document.text) <= most:
            pieces.append(document)
            continue
        cut = [
            replace(document, text=text, name=f"{document.name}#{number}")
            for number, text in enumerate(_pieces(document.text, most), start=1)
        ]
        long.append(Removal(document, "long document, cut", f"into {len(cut)}"))
        pieces += cut
    return pieces, summarise("cut long documents", documents, pieces, long)


def _pieces(text: str, most: int) -> Iterator[str]:
    """Yield pieces of `most` characters or, but for the last, at least half as many."""
    start = 0
    while len(text) - start > most:
        end = start + most
        for mark in ("\n\n", "\n", ". ", "。", " "):
            place = text.rfind(mark, start + most // 2, end)
            if place >= 0:
                end = place + len(mark)
                break
        yield text[start:end]
        start = end
    yield text[start:]


def build_corpus(
    documents: Iterable[Document], steps: Iterable[Step] = STEPS
) -> tuple[list[Document], Report]:
    """Return the documents after all steps, and the report of each step.

    Args:
        documents: Documents from any sources; `itertools.chain` joins several.
        steps: Functions from documents to documents and a report. Use
            `functools.partial` to give a step other settings.

    Raises:
        ValueError: If there are no documents, or a step leaves none.
    """
    current = list(documents)
    if not current:
        raise ValueError("a corpus needs at least one document, got none")
    reports: list[StepReport] = []
    for step in steps:
        current, report = step(current)
        reports.append(report)
        if not current:
            reasons = [f"{count} × {name}" for name, count in report.reasons.items()]
            raise ValueError(
                f"no document is left after the step {report.step!r}, which removed "
                f"{report.documents_in}: {', '.join(reasons)}"
            )
    return current, Report(tuple(reports))


def stream_corpus(
    documents: Iterable[Document], steps: Iterable[Step] = STEPS
) -> Iterator[Document]:
    """Yield the documents after all steps except those that compare documents.

    The latter, for copies and boilerplate, need all documents at once; the others need
    one at a time, so a corpus of any size can be read.

    Args:
        documents: As in `build_corpus`.
        steps: As in `build_corpus`.
    """
    compare = (cleaning.remove_boilerplate, *STEPS[-2:])
    alone = [step for step in steps if getattr(step, "func", step) not in compare]
    for document in documents:
        current = [document]
        for step in alone:
            if current:
                current, _ = step(current)
        yield from current


def pack_corpus(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    folder: str | Path,
    steps: Iterable[Step] = STEPS,
    processes: int = 1,
) -> dict[str, TokenFile]:
    """Write the parts of a corpus of any size, "train.bin" and so on.

    A few hundred documents per process are in memory at a time. The files are the same
    however many processes do the steps, split and tokenize.

    Args:
        documents: Read as they are needed.
        tokenizer: A tokenizer that has `<|endoftext|>`.
        folder: Where to write the arrays.
        steps: As in `stream_corpus`.
        processes: How many processes.

    Returns:
        What the array of each part holds.

    Raises:
        ValueError: If no document is left, or the tokenizer has no `<|endoftext|>`.
        OSError: If a file cannot be written, as when the disk is full.
    """
    folder, left = Path(folder), iter(documents)
    batches = iter(lambda: list(islice(left, _BATCH)), [])
    work = partial(_parted, tokenizer=tokenizer, steps=tuple(steps))
    adders: dict[str, Callable[[bytes], None]] = {}
    with ExitStack() as files:
        for rows in in_processes(work, batches, processes):
            for name, row in rows:
                if name not in adders:
                    path = folder / f"{name}.bin"
                    adders[name] = files.enter_context(packer(path, tokenizer))
                adders[name](row)
    if not adders:
        raise ValueError("a corpus needs at least one document, got none")
    remove_other_parts(folder, adders)
    return {name: load_header(folder / f"{name}.bin") for name in adders}


def remove_other_parts(folder: Path, kept: Collection[str]) -> None:
    """Delete the files of other parts that an earlier corpus left in the folder."""
    for name in split(()).keys() - {*kept}:
        (folder / f"{name}.bin").unlink(missing_ok=True)
        (folder / f"{name}.json").unlink(missing_ok=True)


def _parted(
    documents: list[Document], tokenizer: Tokenizer, steps: tuple[Step, ...]
) -> list[tuple[str, bytes]]:
    """Return the documents that the steps keep: the part of each, and its ids."""
    return [
        (part_of(document), stored_ids(document.text, tokenizer))
        for document in stream_corpus(documents, steps)
    ]


def in_processes(
    function: Callable[[_Item], _Result], items: Iterable[_Item], processes: int
) -> Iterator[_Result]:
    """Yield the function's results in order; only a few items are read ahead.

    Args:
        function: Sent to each process once, together with what it holds.
        items: What it is called with, one by one.
        processes: How many; 1 means this one alone.
    """
    if processes == 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _keep, (function,)) as workers:
        waiting: deque[Future[Any]] = deque()
        for item in items:
            waiting.append(workers.submit(_call_kept, item))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        yield from (future.result() for future in waiting)


_kept: list[Callable[[Any], Any]] = []  # in a worker


def _keep(function: Callable[[Any], Any]) -> None:
    _kept.append(function)


def _call_kept(item: Any) -> Any:
    return _kept[0](item)


def split(documents: Sequence[Document]) -> dict[str, list[Document]]:
    """Return nine in ten documents to train on, and one in twenty for each other part.

    A hash of its text decides where a document goes. With few documents the shares
    are approximate, and a small part may be empty.

    Args:
        documents: The documents.

    Returns:
        The documents of "train", "validation" and "test", in their order.

    >>> parts = split([Document(f"Story {i}.") for i in range(1000)])
    >>> {name: len(part) for name, part in parts.items()}
    {'train': 898, 'validation': 42, 'test': 60}
    """
    parts: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    for document in documents:
        parts[part_of(document)].append(document)
    return parts


def part_of(document: Document) -> str:
    """Return the part of a split that a document belongs to; see `split`."""
    place = fingerprint(document.text, salt="split 0") / 2**64  # 0 … 1
    return "train" if place < 0.9 else "validation" if place < 0.95 else "test"


@dataclass(frozen=True)
class Overlap:
    """A held-out document that shares a passage with a training document."""

    document: Document
    training: Document
    passage: str  # the first shared run of n words
    share: float  # of the document's runs of n words: how many are shared

    def __str__(self) -> str:
        name = self.document.name or excerpt(self.document.text)
        other = self.training.name or excerpt(self.training.text)
        share = f"{self.share:.0%} is in training"
        return f'{name}: {share}, first "{self.passage}" in {other}'


def contamination(
    train: Sequence[Document],
    held_out: Sequence[Document],
    *,
    n: int = 13,
    max_documents: int = 10,
) -> list[Overlap]:
    """Return the held-out documents that share a run of n words with training ones.

    Case and punctuation are ignored. A run that is in more than
    `max_documents` training documents is a common phrase and does not count.

    Args:
        train: Training documents.
        held_out: Validation or test documents.
        n: Length of a run, in words: 8 for short documents, 13 for long ones.
        max_documents: The most training documents that a run may be in.

    Raises:
        ValueError: If there is no training or no held-out document with n words.

    Source: Brown et al. (2020), appendix C. Unlike there, the share of the
    document that overlaps is reported as well.
    """
    for kind, documents in (("training", train), ("held-out", held_out)):
        longest = max((len(words(document.text)) for document in documents), default=0)
        check_range(n, **{f"words in the longest {kind} document": longest})
    counts: Counter[int] = Counter()  # training documents with a run
    first: dict[int, Document] = {}
    for training in reversed(train):  # so the first one with a run stays
        runs = set(ngram_hashes(training.text, n).tolist())
        counts.update(runs)
        first |= dict.fromkeys(runs, training)
    overlaps = []
    for document in held_out:
        hashes = ngram_hashes(document.text, n).tolist()
        shared = [i for i, run in enumerate(hashes) if 0 < counts[run] <= max_documents]
        if shared:
            passage = " ".join(words(document.text)[shared[0] : shared[0] + n])
            training = first[hashes[shared[0]]]
            share = len(shared) / len(hashes)
            overlaps.append(Overlap(document, training, passage, share))
    return overlaps
