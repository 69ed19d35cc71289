"""From raw text to a corpus: the steps in order, and the report of each.

    documents → clean → remove boilerplate → filter → remove copies → documents
                  └────────────┴───────────────┴───────────┴──────→ report

The steps live in modules of their own and are all found here by name.

>>> from llmcourse.text.documents import tales
>>> story = next(tales(1, seed=0))
>>> documents, report = build_corpus([story, story])
>>> {step.step: step.documents_removed for step in report.steps}["remove duplicates"]
1

Part documents into training, validation and test sets that do not overlap.

The side of a document is decided by a hash of its text: it does not depend on
the other documents, so a corpus may grow and nothing moves from one side to the
other, and two copies of a text are always on the same side. What a hash cannot
see, a passage that two documents share, the contamination check finds.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Int64, UInt64

from llmcourse.text.cleaning import (
    clean,
    filter_language,
    filter_quality,
    remove_boilerplate,
)
from llmcourse.text.deduplication import (
    fingerprint,
    ngram_hashes,
    remove_duplicates,
    remove_near_duplicates,
    words,
)
from llmcourse.text.documents import (
    Document,
    Removal,
    Report,
    Step,
    StepReport,
    excerpt,
    summarise,
)
from llmcourse.text.packing import (
    PackingTokenizer,
    TokenFile,
    pack,
)

FRACTIONS: Mapping[str, float] = MappingProxyType(
    {"train": 0.9, "validation": 0.05, "test": 0.05}
)


def split(
    documents: Sequence[Document],
    fractions: Mapping[str, float] = FRACTIONS,
    *,
    seed: int = 0,
) -> dict[str, list[Document]]:
    """Return the documents of each part, in their order.

    Args:
        documents: The documents.
        fractions: Share of each part; they sum to 1. With few documents, the
            shares are met roughly, and a small part may be empty.
        seed: Another seed gives another, independent division.

    Raises:
        ValueError: If a fraction is negative or if they do not sum to 1.

    >>> parts = split([Document(f"Story {i}.") for i in range(1000)])
    >>> {name: len(part) for name, part in parts.items()}
    {'train': 898, 'validation': 42, 'test': 60}
    """
    total = math.fsum(fractions.values())
    if min(fractions.values(), default=0.0) < 0 or not math.isclose(total, 1.0):
        raise ValueError(
            f"fractions must not be negative and sum to 1, got {dict(fractions)}, "
            f"which sum to {total:g}"
        )
    limits = np.cumsum(list(fractions.values()))
    names = list(fractions)
    parts: dict[str, list[Document]] = {name: [] for name in names}
    for document in documents:
        place = fingerprint(document.text, salt=f"split {seed}") / 2**64
        index = int(np.searchsorted(limits, place, side="right"))
        parts[names[min(index, len(names) - 1)]].append(document)
    return parts


@dataclass(frozen=True)
class Overlap:
    """A held-out document that shares a passage with a training document."""

    document: Document
    training: Document
    passage: str  # the first shared run of n words
    share: float  # of the runs of n words of the document: how many are shared

    def __str__(self) -> str:
        name = self.document.name or excerpt(self.document.text)
        other = self.training.name or excerpt(self.training.text)
        return f'{name}: {self.share:.0%} is in {other}, first "{self.passage}"'


def contamination(
    train: Sequence[Document],
    held_out: Sequence[Document],
    *,
    n: int = 13,
    max_documents: int = 10,
) -> list[Overlap]:
    """Return the held-out documents that share a run of n words with the training.

    Case and punctuation are ignored. A run that stands in more than
    `max_documents` training documents is a common phrase and does not count.

    Args:
        train: Training documents.
        held_out: Validation or test documents.
        n: Length of a run, in words: 8 for short documents, 13 for long ones.
        max_documents: In how many training documents a run may stand.

    Raises:
        ValueError: If there is no training or no held-out document with n words.

    Source: Brown et al. (2020), appendix C. Unlike there, the share of the
    document that is shared is reported, too.
    """
    _check_lengths(train, n, "training")
    _check_lengths(held_out, n, "held-out")
    runs, owners = _index(train, n, max_documents)
    overlaps = []
    for document in held_out:
        hashes = ngram_hashes(document.text, n)
        places = np.minimum(np.searchsorted(runs, hashes), max(len(runs) - 1, 0))
        shared = runs[places] == hashes if len(runs) else np.zeros(len(hashes), bool)
        if not shared.any():
            continue
        first = int(np.argmax(shared))
        passage = " ".join(words(document.text)[first : first + n])
        training = train[int(owners[places[first]])]
        overlaps.append(Overlap(document, training, passage, float(shared.mean())))
    return overlaps


def remove_contaminated(
    held_out: Sequence[Document],
    train: Sequence[Document],
    *,
    n: int = 13,
    max_documents: int = 10,
) -> tuple[list[Document], StepReport]:
    """Return the held-out documents that share no passage with the training.

    Args:
        held_out: Validation or test documents.
        train: Training documents.
        n: Length of a passage, in words.
        max_documents: In how many training documents a passage may stand.

    Raises:
        ValueError: If there is no training or no held-out document with n words.
    """
    overlaps = contamination(train, held_out, n=n, max_documents=max_documents)
    bad = {id(overlap.document) for overlap in overlaps}
    kept = [document for document in held_out if id(document) not in bad]
    removals = [
        Removal(overlap.document, "shared passage", str(overlap))
        for overlap in overlaps
    ]
    return kept, summarise("remove contaminated", held_out, kept, removals)


def _index(
    train: Sequence[Document], n: int, max_documents: int
) -> tuple[UInt64[np.ndarray, "run"], Int64[np.ndarray, "run"]]:
    """Return the runs of the training, sorted, and the first owner of each."""
    sets = [np.unique(ngram_hashes(document.text, n)) for document in train]
    owners = np.repeat(np.arange(len(sets)), [len(each) for each in sets])
    runs, firsts, counts = np.unique(
        np.concatenate(sets), return_index=True, return_counts=True
    )
    rare = counts <= max_documents
    return runs[rare], owners[firsts[rare]].astype(np.int64)


def _check_lengths(documents: Sequence[Document], n: int, kind: str) -> None:
    longest = max((len(words(document.text)) for document in documents), default=0)
    if longest < n:
        raise ValueError(
            f"runs of {n} words need a {kind} document of at least {n} words, "
            f"the longest of {len(documents)} has {longest}"
        )


STEPS: tuple[Step, ...] = (
    clean,
    remove_boilerplate,
    filter_quality,
    filter_language,
    remove_duplicates,
    remove_near_duplicates,
)
"""Cheap steps first; copies last, since cleaning makes copies equal."""


def build_corpus(
    documents: Iterable[Document], steps: Sequence[Step] = STEPS
) -> tuple[list[Document], Report]:
    """Return the documents after all steps, and the report of each step.

    Args:
        documents: Documents from any sources; `itertools.chain` joins several.
        steps: Functions from documents to documents and a report. A step with
            other settings is a `functools.partial` of it.

    Raises:
        ValueError: If there is no document, or a step leaves none.
    """
    current = list(documents)
    if not current:
        raise ValueError("a corpus needs at least one document, got none")
    reports: list[StepReport] = []
    for step in steps:
        current, report = step(current)
        reports.append(report)
        if not current:
            raise ValueError(f"no document is left after this step:\n{report}")
    return current, Report(tuple(reports))


def check_parts(splits: Mapping[str, Sequence[Document]]) -> None:
    """Refuse a corpus of so few documents that a part of it has none.

    Raises:
        ValueError: If a part is empty.
    """
    if empty := [name for name, documents in splits.items() if not documents]:
        raise ValueError(f"each part needs at least one document, got none in {empty}")


def pack_splits(
    splits: Mapping[str, Sequence[Document]],
    tokenizer: PackingTokenizer,
    folder: str | Path,
) -> dict[str, TokenFile]:
    """Write one array for each part, such as `train.bin`, and return what they hold.

    Args:
        splits: Documents of each part, as `split` returns them.
        tokenizer: A tokenizer that has `<|endoftext|>`.
        folder: Where to write; created if missing.

    Raises:
        ValueError: If a part is empty.
        OSError: If the disk is full.
    """
    check_parts(splits)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return {
        name: pack(documents, tokenizer, folder / f"{name}.bin")
        for name, documents in splits.items()
    }
