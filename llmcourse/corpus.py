"""From raw text to a corpus: the steps in order, and the report of each.

    documents → clean → remove boilerplate → filter → remove copies → documents
                  └────────────┴───────────────┴───────────┴──────→ report

The steps live in modules of their own and are all found here by name.

>>> story = next(tales(1, seed=0))
>>> documents, report = build_corpus([story, story])
>>> {step.step: step.documents_removed for step in report.steps}["remove duplicates"]
1
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from llmcourse.cleaning import clean, clean_text, remove_boilerplate
from llmcourse.deduplication import (
    near_duplicates,
    plant_near_duplicates,
    precision_recall,
    remove_duplicates,
    remove_near_duplicates,
)
from llmcourse.documents import Document, Report, Step, StepReport
from llmcourse.downloads import download
from llmcourse.packing import (
    PackingTokenizer,
    TokenFile,
    load_header,
    load_tokens,
    pack,
)
from llmcourse.quality import filter_language, filter_quality, guess_language
from llmcourse.sources import python_docs, python_sources, tales, text_files
from llmcourse.splits import FRACTIONS, contamination, remove_contaminated, split

__all__ = [
    "FRACTIONS",
    "STEPS",
    "Document",
    "Report",
    "StepReport",
    "TokenFile",
    "build_corpus",
    "check_parts",
    "clean",
    "clean_text",
    "contamination",
    "download",
    "filter_language",
    "filter_quality",
    "guess_language",
    "load_header",
    "load_tokens",
    "near_duplicates",
    "pack",
    "pack_splits",
    "plant_near_duplicates",
    "precision_recall",
    "python_docs",
    "python_sources",
    "remove_boilerplate",
    "remove_contaminated",
    "remove_duplicates",
    "remove_near_duplicates",
    "split",
    "tales",
    "text_files",
]

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
