"""A document, and the report of what a step did to many of them.

Every step of the corpus takes documents and returns documents plus a
`StepReport`, so nothing is ever thrown away in silence:

    documents, report = clean(documents)
    print(report)
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """A text and where it came from.

    >>> Document("Once there was a fox.", source="tales", name="tales/0").name
    'tales/0'
    """

    text: str
    source: str = ""  # which collection: "tales", "python_docs", "text_files"
    name: str = ""  # which document of it: a path, a topic, a number


@dataclass(frozen=True)
class Removal:
    """One thing that a step took away, and why."""

    document: Document
    reason: str  # the same few words for all removals of a kind
    detail: str = ""  # what exactly: the line, the number, the other document

    def __str__(self) -> str:
        detail = self.detail or excerpt(self.document.text)
        return f"{self.document.name or '(unnamed)'}: {self.reason}: {detail}"


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one step of the corpus kept and removed."""

    step: str
    documents_in: int
    documents_out: int
    characters_in: int
    characters_out: int
    reasons: Mapping[str, int]  # documents touched, by reason
    examples: tuple[Removal, ...] = ()  # a few, each reason's first

    @property
    def documents_removed(self) -> int:
        """Number of documents that went in and did not come out."""
        return self.documents_in - self.documents_out

    @property
    def removed_share(self) -> float:
        """Share of the documents that was removed, between 0 and 1.

        On text known to be good this is a filter's false-positive rate.
        """
        return self.documents_removed / max(self.documents_in, 1)

    def __str__(self) -> str:
        reasons = [f"  {count:>7,} × {name}" for name, count in self.reasons.items()]
        examples = [f"  e.g. {example}" for example in self.examples]
        return "\n".join([_HEADER, _row(self), *reasons, *examples])


@dataclass(frozen=True)
class Report:
    """The reports of all steps, in the order in which they ran.

    >>> documents = [Document("one"), Document("two"), Document("one")]
    >>> removal = Removal(documents[2], "exact duplicate")
    >>> step = summarise("duplicates", documents, documents[:2], [removal])
    >>> print(Report((step,)))
    step                       documents    removed      characters    removed
    input                              3                          9
    duplicates                         2     33.3 %               6     33.3 %
    """

    steps: tuple[StepReport, ...]

    def __str__(self) -> str:
        rows = [_HEADER]
        if self.steps:
            first = self.steps[0]
            start = f"{first.documents_in:>12,}{'':>11}{first.characters_in:>16,}"
            rows.append(f"{'input':<24}{start}")
        return "\n".join([*rows, *map(_row, self.steps)])


Step = Callable[[Sequence[Document]], tuple[list[Document], StepReport]]

_HEADER = (
    f"{'step':<24}{'documents':>12}{'removed':>11}{'characters':>16}{'removed':>11}"
)


def _row(report: StepReport) -> str:
    """Return the report as one line of a table: what is left, what went."""
    characters_lost = report.characters_in - report.characters_out
    characters_share = characters_lost / max(report.characters_in, 1)
    return (
        f"{report.step:<24}"
        f"{report.documents_out:>12,}{100 * report.removed_share:>9.1f} %"
        f"{report.characters_out:>16,}{100 * characters_share:>9.1f} %"
    )


def summarise(
    step: str,
    before: Sequence[Document],
    after: Sequence[Document],
    removals: Iterable[Removal],
) -> StepReport:
    """Return the report of a step from what went in, came out and was removed.

    Args:
        step: The name of the step.
        before: The documents that went in.
        after: The documents that came out.
        removals: One entry per document and reason.
    """
    counts: Counter[str] = Counter()
    examples: list[Removal] = []
    for removal in removals:
        if removal.reason not in counts and len(examples) < 5:
            examples.append(removal)
        counts[removal.reason] += 1
    return StepReport(
        step=step,
        documents_in=len(before),
        documents_out=len(after),
        characters_in=sum(len(document.text) for document in before),
        characters_out=sum(len(document.text) for document in after),
        reasons=dict(counts.most_common()),
        examples=tuple(examples),
    )


def excerpt(text: str, width: int = 50) -> str:
    """Return the beginning of a text on one line, at most `width` characters.

    >>> excerpt("Once upon  a time there was a fox.", width=18)
    'Once upon a time …'
    """
    line = " ".join(text[: 4 * width].split())
    return line if len(line) <= width else line[: width - 2].rstrip() + " …"
