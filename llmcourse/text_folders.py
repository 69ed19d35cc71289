"""All text files of a folder, whatever else there is in it.

    notes/           →  notes/a.txt, notes/more/b.md
      a.txt             passed over: notes/photo.jpg, which is binary
      more/b.md
      photo.jpg

A file counts as text if it is UTF-8 without a NUL. What does not is named with the
reason; a folder of holiday photos with one letter in it should not be an error.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from llmcourse.documents import Document

MOST_BYTES = 16 << 20
"""Of one file: 16 MiB of text are ten novels."""


class PassedOver(NamedTuple):
    """A file that was not read, and why."""

    path: str
    reason: str


class FolderTexts(NamedTuple):
    """What there is in a folder."""

    documents: list[Document]  # named by their paths
    passed_over: list[PassedOver]


def read_texts(path: str | Path) -> FolderTexts:
    """Return the text files of a folder and of the folders in it, in order of name.

    Files and folders whose names begin with a dot are left out without a word, and
    links to folders are not followed.

    Args:
        path: A folder, or a single file.

    Raises:
        ValueError: If there is no such folder or no text file in it, or if the path is
            a file that is no text.
    """
    place = Path(path)
    if not place.exists():
        raise ValueError(f"there is no folder {str(path)!r}")
    documents: list[Document] = []
    passed_over: list[PassedOver] = []
    for file in _files(place) if place.is_dir() else [place]:
        found = _read(file)
        if isinstance(found, Document):
            documents.append(found)
        else:
            passed_over.append(found)
    if not documents:
        reasons = "; ".join(f"{file}: {reason}" for file, reason in passed_over[:3])
        more = f" and {len(passed_over) - 3} more" if len(passed_over) > 3 else ""
        raise ValueError(
            f"wanted text files in {str(path)!r}, found none"
            + (f" ({reasons}{more})" if passed_over else "")
        )
    return FolderTexts(documents, passed_over)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, those of a folder before those of its own."""
    for place, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if name[0] != ".")
        yield from (Path(place) / name for name in sorted(names) if name[0] != ".")


def _read(file: Path) -> Document | PassedOver:
    """Return the text of a file, or why there is none."""
    name = file.as_posix()
    try:
        if not file.is_file():
            return PassedOver(name, "no regular file")
        if (size := file.stat().st_size) > MOST_BYTES:
            return PassedOver(name, f"too large, {size >> 20} MiB")
        data = file.read_bytes()
    except OSError as error:
        return PassedOver(name, f"cannot be read: {error.strerror or error}")
    if b"\0" in data:
        return PassedOver(name, "binary")
    try:
        # A byte order mark is white space to nobody, and no part of the first line.
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        return PassedOver(name, f"not UTF-8, at byte {error.start}")
    if not text.strip():
        return PassedOver(name, "empty")
    return Document(text, source="text_files", name=name)
