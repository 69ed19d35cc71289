"""Documents: what they are, where they come from, and reports of what was removed.

Every step of the corpus takes documents and returns documents plus a
`StepReport`, so nothing is removed silently:

    documents, report = clean(documents)
    print(report)

The sources are tales, the Python documentation and your own files. `read_texts` reads
a whole folder, whatever else is in it:

    notes/           →  notes/a.txt, notes/more/b.md
      a.txt             skipped: notes/photo.jpg, which is binary
      more/b.md
      photo.jpg
"""

import ast
import codecs
import glob
import os
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from llmcourse.extras import needed_for
from llmcourse.text.tales import generate


@dataclass(frozen=True)
class Document:
    """A text and where it came from.

    >>> Document("Once there was a fox.", name="tales/0").name
    'tales/0'
    """

    text: str
    name: str = ""  # a path, a topic, a number


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
    reasons: Mapping[str, int]  # documents affected, by reason
    examples: tuple[Removal, ...] = ()  # each reason's first, up to five

    @property
    def documents_removed(self) -> int:
        """Number of documents that went in and did not come out."""
        return max(0, self.documents_in - self.documents_out)  # < 0 if some are cut

    @property
    def removed_share(self) -> float:
        """Share of the documents that were removed, between 0 and 1.

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
    """Return the report as a line of a table: what is left, what was removed."""
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
    is_whole = len(line) <= width and not text[4 * width :].strip()
    return line if is_whole else line[: width - 2].rstrip() + " …"


# Folders that hold tests, foreign packages or generated files.
_NOT_THE_LIBRARY = {
    *("idlelib", "lib2to3", "pydoc_data", "test", "tests"),
    *("__pycache__", "dist-packages", "site-packages"),
}


def tales(n: int, seed: int) -> Iterator[Document]:
    """Return n generated stories, one document each.

    Args:
        n: Number of stories.
        seed: The same seed gives the same stories.

    Raises:
        ValueError: If n is negative.

    >>> next(tales(1, seed=0)).name
    'tales/0/0'
    """
    return (
        Document(story.text, name=f"tales/{seed}/{number}")
        for number, story in enumerate(generate(n, seed))
    )


def python_docs() -> Iterator[Document]:
    """Yield the documentation that comes with this Python.

    First the topics of `help()`, which are chapters of the language reference;
    then, module by module, the docstrings of the standard library. The modules
    are parsed, not imported. The text differs between versions of Python.

    Raises:
        FileNotFoundError: If this Python comes without its library's sources.
    """
    files = _library_files(Path(sysconfig.get_paths()["stdlib"]))
    topics: dict[str, str] = {}
    with suppress(ImportError):  # some builds of Python leave them out
        topics = import_module("pydoc_data.topics").topics
    for topic, text in sorted(topics.items()):
        yield Document(text, name=f"topics/{topic}")
    for name, path in files:
        with tokenize.open(path) as file:  # obeys "# coding:" lines
            text = "\n\n".join(_docstrings(file.read()))
        if text:
            yield Document(text, name=name)


def _library_files(library: Path) -> list[tuple[str, Path]]:
    """Return the names and paths of the standard library's modules, sorted."""
    files = []
    for folder, subfolders, names in os.walk(library):
        subfolders[:] = set(subfolders) - _NOT_THE_LIBRARY  # walk skips the rest
        paths = [Path(folder) / name for name in names if name.endswith(".py")]
        files += [(path.relative_to(library).as_posix(), path) for path in paths]
    if not files:
        raise FileNotFoundError(
            f"wanted the sources of Python's standard library in {str(library)!r}, "
            "got none: this Python was installed without them"
        )
    return sorted(files)


def _docstrings(source: str) -> Iterator[str]:
    """Yield the docstrings in a module's source, in line order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about "\d" and the like in old code
        tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
    for node in sorted(nodes, key=lambda node: getattr(node, "lineno", 0)):
        if text := ast.get_docstring(node):
            name = getattr(node, "name", "")
            yield f"{name}\n{text}" if name else text


MAX_BYTES = 1 << 30
"""The most bytes of text: more, with its tokens, does not fit in a laptop's memory."""


def read_texts(
    path: str | Path,
    skipped: dict[str, str],
    max_bytes: int | None = MAX_BYTES,
    column: str | None = None,
) -> Iterator[Document]:
    """Yield the text files in a folder or matching a pattern, in order of name.

    A file counts as text if it is UTF-8, or UTF-16 with its mark at the beginning, and
    holds no NUL; others are skipped with the reason. Files and folders whose names
    begin with a dot are left out, and links to folders inside a folder are not
    followed.

    A folder saved by Hugging Face's `datasets`, or a Parquet file, is read by that
    package instead: one document from each row that has text.

    Args:
        path: A file, a folder (all files in it and its subfolders), or a pattern such
            as ``notes/**/*.txt`` (``**``: any folders).
        skipped: Filled with the files that are not text and the folders that cannot
            be read, each with the reason.
        max_bytes: The most bytes of all texts together; None: any number of texts, of
            up to `MAX_BYTES` each. Larger files are skipped.
        column: The column of a dataset's texts; None: "text". If given, a file of JSON
            lines is read as a dataset as well.

    Raises:
        ValueError: If there is no such file, or none is text; if there is more text
            than allowed; if a dataset is damaged or lacks the column.
        FileNotFoundError: If a dataset's files do not exist.
        ImportError: If a dataset is to be read and `datasets` is not installed.
    """
    if _is_dataset(Path(path), column):
        documents = _rows(path, column or "text")
        nothing = f"no text in the column {column or 'text'!r}"
    else:
        documents = _texts(Path(path), skipped, max_bytes or MAX_BYTES)
        nothing = "nothing is there"
    n_bytes = 0
    for document in documents:
        n_bytes += len(document.text.encode())
        if max_bytes is not None and n_bytes > max_bytes:
            raise ValueError(
                f"{str(path)!r} must have at most {max_bytes >> 20:,} MiB of text: "
                "name a smaller folder or a pattern"
            )
        yield document
    if n_bytes == 0:
        reasons = [f"{file}: {reason}" for file, reason in skipped.items()]
        shown = "; ".join(reasons[:3]) or nothing
        raise ValueError(f"wanted text files in {str(path)!r}, got none ({shown})")


def _texts(path: Path, skipped: dict[str, str], most: int) -> Iterator[Document]:
    """Yield the texts among the files of a path, one at a time in memory."""
    for file in _files(path, skipped):
        name = file.as_posix()
        try:
            document = Document(_text_of(file, most), name=name)
        except OSError as error:
            skipped[name] = f"cannot be read: {error.strerror or error}"
        except ValueError as error:
            skipped[name] = str(error)
        else:
            yield document


_SAVED = ("dataset_dict.json", "dataset_info.json")  # a saved dataset has one
_FORMATS = {".parquet": "parquet", ".jsonl": "json"}  # as `datasets` calls them


def _is_dataset(path: Path, column: str | None) -> bool:
    """Return whether a path is a dataset: a folder, a Parquet file, or JSON lines."""
    if path.suffix == ".jsonl":
        return column is not None
    saved = (os.path.isfile(path / name) for name in _SAVED)  # noqa: PTH113 (no error)
    return path.suffix in _FORMATS or any(saved)


def _rows(path: str | Path, column: str) -> Iterator[Document]:
    """Yield the texts of a dataset's rows, one row at a time in memory."""
    with needed_for(f"the dataset {str(path)!r}", "datasets"):
        from datasets import DatasetDict, load_dataset, load_from_disk
    file = {"data_files": str(path), "split": "train", "streaming": True}
    try:
        if format_ := _FORMATS.get(Path(path).suffix):
            dataset = load_dataset(format_, **file)
        else:
            dataset = load_from_disk(str(path))
    except (IndexError, StopIteration):  # it has no rows
        return
    if isinstance(dataset, DatasetDict):
        parts = ", ".join(f"'{path}/{name}'" for name in dataset)
        raise ValueError(f"{str(path)!r} has parts: name one of them, {parts}")
    for number, row in enumerate(dataset.select_columns([column])):
        text = row[column]
        if not isinstance(text, str | None):
            raise ValueError(
                f"{str(path)!r}, row {number}: the column {column!r} must hold texts, "
                f"got {text!r:.50}"
            )
        if text and text.strip():
            yield Document(text, name=f"{path}/{number}")


def _files(path: Path, skipped: dict[str, str]) -> Iterator[Path]:
    """Yield the files of a path; a folder's own before those of its subfolders."""

    def skip(error: OSError) -> None:
        skipped[str(error.filename)] = f"cannot be read: {error.strerror or error}"

    if path.is_file():
        yield path
    elif path.is_dir():
        for place, subfolders, names in os.walk(path, onerror=skip):
            subfolders[:] = sorted(name for name in subfolders if name[0] != ".")
            yield from (Path(place) / name for name in sorted(names) if name[0] != ".")
    else:
        found = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207
        yield from (file for file in found if not file.is_dir())


_UTF_16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE  # as Windows writes them


def _text_of(file: Path, most: int) -> str:
    """Return a file's text, of up to `most` bytes; raise ValueError if it has none."""
    if not file.is_file():
        raise ValueError("not a regular file")
    size = file.stat().st_size
    if size > most:
        raise ValueError(f"too large, {size >> 20} MiB")
    if size == 0:  # or made by the system as it is read, perhaps without end
        raise ValueError("empty")
    with file.open("rb") as opened:
        data = opened.read(8192)
        encoding = "UTF-16" if data.startswith(_UTF_16) else "UTF-8"
        if encoding == "UTF-16" or b"\0" not in data:
            data += opened.read()
    if encoding == "UTF-8" and b"\0" in data:
        raise ValueError("binary")
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"not {encoding}, at byte {error.start}") from error
    if "\0" in text:
        raise ValueError("binary")
    if not text.strip():
        raise ValueError("empty")
    return text
