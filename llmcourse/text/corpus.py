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

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from llmcourse.arguments import as_value_error, check_range
from llmcourse.files import new_file, write_json
from llmcourse.processes import process_pool
from llmcourse.text import cleaning, deduplication, packing
from llmcourse.text.deduplication import fingerprint, ngram_hashes, words
from llmcourse.text.documents import (
    Document,
    Removal,
    Report,
    Step,
    StepReport,
    summarise,
)
from llmcourse.text.packing import TokenFile
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
"""What `build_corpus` does by default, cheap steps first.

Copies come last, since cleaning makes copies equal.
"""

_BATCH = 256  # documents that a process takes at once
_SHARD_BYTES = 1 << 26  # of ids, of all parts together
PROGRESS = "packing.json"  # how far `pack_corpus` got
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
    none of these, anywhere. The pieces, joined, are the document; those of white space
    alone are left out.

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
        cut = [text for text in _pieces(document.text, most) if text.strip()]
        long.append(Removal(document, "long document, cut", f"into {len(cut)}"))
        pieces += [
            replace(document, text=text, name=f"{document.name}#{number}")
            for number, text in enumerate(cut, start=1)
        ]
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
    alone = [step for step in steps if _function(step) not in compare]
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
    *,
    resume: bool = False,
) -> dict[str, TokenFile]:
    """Write the parts of a corpus of any size, "train.bin" and so on, in shards.

    A few hundred documents per process are in memory at a time, and ids of 64 MiB.
    Whenever there are as many, each part's become one more file, and `packing.json`
    tells how far the documents have been read, until all are. The files are the same
    however many processes do the steps, split and tokenize, and wherever they were
    interrupted.

    Args:
        documents: Read as they are needed.
        tokenizer: A tokenizer that has `<|endoftext|>`.
        folder: Where to write the arrays. Those of an earlier corpus are deleted.
        steps: As in `stream_corpus`.
        processes: How many processes.
        resume: Go on where packing the same documents was interrupted, if it was.

    Returns:
        What the array of each part holds.

    Raises:
        ValueError: If no document is left, if the tokenizer has no `<|endoftext|>`,
            or, with `resume`, if documents, steps or tokenizer have changed.
        OSError: If a file cannot be written, as when the disk is full.
    """
    folder, left, steps = Path(folder), iter(documents), tuple(steps)
    batches = iter(lambda: list(islice(left, _BATCH)), [])
    work = partial(_parted, tokenizer=tokenizer, steps=steps)
    told = [(_function(step).__name__, getattr(step, "keywords", {})) for step in steps]
    digest = _digest(packing.tokenizer_fingerprint(tokenizer), repr(told))
    done = _Packed(n_batches=0, digest=digest)
    progress = folder / PROGRESS
    if resume and progress.is_file():
        what = f"{str(progress)!r} must be what `pack_corpus` has written"
        with as_value_error(what, ValueError, TypeError):
            done = _Packed(**json.loads(progress.read_text(encoding="utf-8")))
        for batch in islice(batches, done.n_batches):
            digest = _digest(digest, _digest(*(document.text for document in batch)))
        if digest != done.digest:
            raise ValueError(
                f"{str(progress)!r} tells of other documents, steps or tokenizer: "
                "packing cannot go on from there"
            )
    waiting: dict[str, list[bytes]] = {}
    n_waiting = 0
    for read, rows in in_processes(work, batches, processes):
        done.n_batches, done.digest = done.n_batches + 1, _digest(done.digest, read)
        for name, row in rows:
            waiting.setdefault(name, []).append(row)
            n_waiting += len(row)
        if n_waiting >= _SHARD_BYTES:
            _write_shards(done, waiting, folder)
            n_waiting = 0
    if waiting:
        _write_shards(done, waiting, folder)
    if not done.n_bytes:
        raise ValueError("a corpus needs at least one document, got none")
    headers = {
        name: packing.write_header(
            folder / f"{name}.bin", tokenizer, done.n_documents[name], sizes
        )
        for name, sizes in done.n_bytes.items()
    }
    progress.unlink()
    return headers


def _function(step: Step) -> Any:
    """Return the function that a step with settings of its own is made from."""
    return getattr(step, "func", step)


@dataclass
class _Packed:
    """How far a corpus is packed."""

    n_batches: int  # read
    digest: str  # of these, of the steps and of the tokenizer
    n_documents: dict[str, int] = field(default_factory=dict)  # of each part
    n_bytes: dict[str, list[int]] = field(default_factory=dict)  # of each shard


def _write_shards(done: _Packed, waiting: dict[str, list[bytes]], folder: Path) -> None:
    """Write what waits as one more file of each part, then how far this is."""
    if not done.n_bytes:
        remove_arrays(folder)
    for name, rows in waiting.items():
        sizes = done.n_bytes.setdefault(name, [])
        path = packing.shard_path(folder / f"{name}.bin", len(sizes))
        with new_file(path) as file:
            file.writelines(rows)
        sizes.append(sum(map(len, rows)))
        done.n_documents[name] = done.n_documents.get(name, 0) + len(rows)
    waiting.clear()
    write_json(folder / PROGRESS, asdict(done))


def _digest(*texts: str) -> str:
    """Return a hash of texts, in their order."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def remove_arrays(folder: Path) -> None:
    """Delete the arrays that an earlier corpus left in the folder."""
    (folder / PROGRESS).unlink(missing_ok=True)
    for name in split(()):
        for pattern in (f"{name}.json", f"{name}.bin", f"{name}.*.bin"):
            for path in folder.glob(pattern):
                path.unlink()


def _parted(
    documents: list[Document], tokenizer: Tokenizer, steps: tuple[Step, ...]
) -> tuple[str, list[tuple[str, bytes]]]:
    """Return a hash of the documents; the part and the ids of each that is kept."""
    return _digest(*(document.text for document in documents)), [
        (part_of(document), packing.stored_ids(document.text, tokenizer))
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
    with process_pool(processes, _keep, function) as workers:
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
