"""From what a learning platform exports to one notebook per student.

    smithjane_LATE_123_456_tokenization-2.ipynb          Canvas: name, late, student,
                                                         submission, file, attempt
    Jane Smith_789_assignsubmission_file_/My work.ipynb  Moodle: a folder per student,
    Jane Smith_789_assignsubmission_file_My work.ipynb   or all in one folder
    jane/tokenization.ipynb, jane.zip, jane.ipynb        plain folders, zips and files

Archives are read, never unpacked: nothing is written to the paths in them, and what is
larger than a notebook may be is not read. What was handed in is then laid onto the
released notebook: text and tests come from the release, answers from the student, so
that copied, split, deleted or renamed cells cannot stop the grading.
"""

import copy
import json
import re
import stat
import unicodedata
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import nbformat
from nbformat import NotebookNode

from llmcourse.classroom.assignments import grade_id, is_answer, is_test
from llmcourse.classroom.opening import OPENING, without_links

LARGEST = 150 << 20  # bytes in one notebook, most of them outputs
TOO_LARGE = "{} is larger than 150 MB: not read"
LINK = "{} is a link, which is not followed"
UNTOUCHED = "as released: no answer is filled in"
# Notes on which notebook was graded, not on a repair of it.
DOUBTFUL = re.compile(rf"{UNTOUCHED}|\d+ notebooks, .+ was taken")
CANVAS = re.compile(r"^(?P<name>[^_/]+)_(?P<late>LATE_)?(?P<id>\d+)_\d+_(?P<file>.+)$")
MOODLE = re.compile(r"^(?P<name>[^/]+?)_(?P<id>\d+)_assignsubmission_[a-z]+(?:_.*)?$")

Found = tuple[PurePosixPath, bytes | str]  # where, and a notebook or why there is none


@dataclass(kw_only=True)
class HandIn:
    """What one student handed in.

    Attributes:
        student: A name for the student that can name a folder.
        files: The notebooks, by their paths.
        late: Whether the platform marks it as late.
        notes: What a teacher should know about it.
        readable: Whether there is a notebook to grade.
        is_other: Whether there is none because they are of other assignments.
    """

    student: str
    files: dict[str, bytes] = field(default_factory=dict)
    late: bool = False
    notes: list[str] = field(default_factory=list)
    readable: bool = True
    is_other: bool = False

    def add(self, path: PurePosixPath, found: bytes | str) -> None:
        """Add a notebook, or a note on why there is none, if one is needed."""
        if isinstance(found, bytes):
            self.files[str(path)] = found
        elif found:
            self.notes.append(found)


def counted(n: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "hand-in"), counted(0, "page")
    ('1 hand-in', '0 pages')
    """
    return f"{n} {noun}{'s' * (n != 1)}"


def student_name(text: str) -> str:
    """Return a student's name in a form that can name a folder.

    >>> student_name("Jánë  O'Neill"), student_name("मीना")  # marks are no letters
    ('Jánë-O-Neill', 'मीना')
    """
    text = unicodedata.normalize("NFC", text)
    kept = "".join(
        c if re.match(r"[\w.@-]", c) or unicodedata.category(c)[0] == "M" else " "
        for c in text
    )
    return re.sub(" +", "-", kept).strip("-.") or "unnamed"


def _by_platform(name: str) -> tuple[str, bool] | None:
    """Return an owner and whether it is late, if Canvas or Moodle gave this name."""
    for pattern in (MOODLE, CANVAS):
        if found := pattern.match(name):
            owner = student_name(f"{found['name']}_{found['id']}")
            return owner, bool(found.groupdict().get("late"))
    return None


def read(place: Path) -> list[HandIn]:
    """Return the hand-ins in a folder, an archive, or a folder of archives.

    Raises:
        ValueError: If the place is neither a folder nor a zip archive, or is damaged.
    """
    if not place.exists():
        raise ValueError(f"there is no {place}")
    if not place.is_dir() and not zipfile.is_zipfile(place):
        raise ValueError(f"wanted a folder or a zip archive, got {place}")
    try:
        found = list(notebooks_in(place) if place.is_dir() else _members(place, 1))
    except _BROKEN as error:
        raise ValueError(f"{place.name} cannot be read: {error}") from error
    if not any(data != "" for _, data in found):
        return []
    hand_ins: dict[str, HandIn] = {}
    for owner, late, path, data in _owned(found):
        hand_in = hand_ins.setdefault(owner, HandIn(student=owner))
        hand_in.late |= late
        hand_in.add(path, data)
    return sorted(hand_ins.values(), key=lambda hand_in: hand_in.student)


def _owned(
    found: list[Found], level: int = 0
) -> Iterator[tuple[str, bool, PurePosixPath, bytes | str]]:
    """Yield what was found, each with its owner and whether it is late.

    Each folder or file at this level is one student's, unless it is `_of_several`.
    """
    tops: dict[str, list[Found]] = defaultdict(list)
    for path, data in found:
        if data != "" or len(path.parts) > level + 1:  # not beside the hand-ins
            tops[path.parts[level]].append((path, data))
    for top, own in tops.items():
        inside = [p.parts[level + 1 :] for p, data in own if isinstance(data, bytes)]
        owner = _by_platform(top)
        if not owner and _of_several(inside, is_alone=len(tops) == 1):
            yield from _owned(own, level + 1)
        else:
            name = re.sub(r"\.(zip|ipynb)$", "", top, flags=re.IGNORECASE)
            student, late = owner or (student_name(name), False)
            yield from ((student, late, *one) for one in own)


def _of_several(paths: list[tuple[str, ...]], *, is_alone: bool) -> bool:
    """Return whether a folder's notebooks, by their paths in it, are of several people.

    Platforms' names say so. A folder that is alone may also have a folder for each, or
    a file for each; t.ipynb and t-Copy1.ipynb are of one.
    """
    parts = {part for path in paths for part in path}
    owners = {_by_platform(part) for part in parts} - {None}
    if owners or not is_alone:  # a single name may be chance: my_2026_12_01.ipynb
        return is_alone or len(owners) > 1 or any(map(MOODLE.match, parts))
    depths = {min(len(path), 2) for path in paths}
    names = sorted({PurePosixPath(*path[:1]).stem for path in paths})
    are_copies = all(name.startswith(names[0]) for name in names)
    return len(names) > 1 and (depths == {2} or (depths == {1} and not are_copies))


def _without_outputs(data: bytes) -> bytes:
    """Return a notebook without outputs, or the start of an unreadable file."""
    try:
        notebook = json.loads(data)  # in UTF-8 or UTF-16
        of_old = "worksheets" in notebook  # before nbformat 4
        for sheet in notebook["worksheets"] if of_old else [notebook]:
            for cell in sheet["cells"]:
                if "outputs" in cell:
                    cell["outputs"] = []
        return json.dumps(notebook).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return data[:1000]


def _hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


_OUT = ("", ".", "..")  # what leads out of an archive, or nowhere
_BROKEN = (  # what reading a damaged archive raises
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,  # encrypted
    NotImplementedError,
)


def notebooks_in(folder: Path) -> Iterator[Found]:
    """Yield the notebooks in a folder, without outputs, and in archives in it."""
    for file in sorted(folder.rglob("*")):
        path = PurePosixPath(file.relative_to(folder).as_posix())
        if _hidden(path):
            continue
        if file.is_symlink():
            yield path, LINK.format(path)
        elif file.is_file():
            yield from _in_file(path, partial[IO[bytes]](file.open, "rb"), levels=2)


def _members(archive: Path | IO[bytes], levels: int) -> Iterator[Found]:
    """Yield the notebooks of an archive, and of archives in it on further levels."""
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            parts = [p for p in re.split(r"[/\\]", member.filename) if p not in _OUT]
            path = PurePosixPath(*parts or ["unnamed"])
            is_zip = path.suffix.lower() == ".zip"
            if _hidden(path) or member.is_dir():
                continue
            if stat.S_ISLNK(member.external_attr >> 16):
                yield path, LINK.format(path)
            elif is_zip and member.file_size > LARGEST:
                yield path, TOO_LARGE.format(path)
            else:
                yield from _in_file(path, partial(opened.open, member), levels)


def _in_file(
    path: PurePosixPath, open_file: Callable[[], IO[bytes]], levels: int
) -> Iterator[Found]:
    """Yield the notebook in a file, or those in an archive; a damaged one is noted.

    Another file has a note if a platform named it, otherwise an empty one.
    """
    kind = path.suffix.lower()
    try:
        if kind == ".zip" and levels:
            with open_file() as file:
                for inner, found in _members(file, levels - 1):
                    yield path / inner, found
        elif kind == ".ipynb":
            with open_file() as file:
                data = file.read(LARGEST + 1)  # an archive may give a wrong size
            large = len(data) > LARGEST
            yield path, TOO_LARGE.format(path) if large else _without_outputs(data)
        else:
            named = any(map(_by_platform, path.parts))
            yield path, f"{path} is not a notebook" if named else ""
    except _BROKEN as error:
        yield path, f"{path} cannot be read: {error}"


def choose(hand_in: HandIn, released: NotebookNode) -> NotebookNode:
    """Return the notebook to grade: the released one with the student's answers.

    Of several notebooks, the one with the most answers counts; among equals, the last.
    A notebook of another assignment never counts. Notes are added to the hand-in.
    """
    found: list[tuple[int, str, NotebookNode, list[str]]] = []
    stubs = {grade_id(c): c.source for c in released.cells if is_answer(c)}
    for path, data in sorted(hand_in.files.items(), key=lambda item: _try(item[0])):
        try:
            notebook = nbformat.reads(data.decode("utf-8-sig"), as_version=4)
            laid, notes = lay(notebook, released)
        except Exception:  # nbformat's many errors all mean the same
            what = "is not a notebook, or a part of one" if data.strip() else "is empty"
            hand_in.notes.append(f"{path} {what}")
            continue
        if other := _other(notebook, notes, released):
            hand_in.notes.append(f"{path} {other}")
            hand_in.is_other = True
            continue
        own = [cell for cell in laid.cells if grade_id(cell) in stubs]
        n_answers = sum(cell.source != stubs[grade_id(cell)] for cell in own)
        found.append((n_answers, path, laid, notes))
    if not (hand_in.files or hand_in.notes):
        hand_in.notes.append("no notebook (.ipynb) was handed in")
    if not found:
        hand_in.readable = False
        return released
    hand_in.is_other = False
    n_answers, taken, best, notes = max(reversed(found), key=lambda one: one[0])
    if not n_answers:
        hand_in.notes.append(UNTOUCHED)
    if len(hand_in.files) > 1:
        hand_in.notes.append(f"{len(hand_in.files)} notebooks, {taken} was taken")
    hand_in.notes += notes
    return best


def _other(notebook: NotebookNode, notes: list[str], released: NotebookNode) -> str:
    """Return why a notebook is not of this assignment, empty if it is."""
    wanted = released.metadata["llmcourse"]["assignment"]
    own = notebook.metadata.get("llmcourse")
    named = own.get("assignment", wanted) if isinstance(own, dict) else wanted
    if named != wanted:
        return f"is the notebook of {named}, not of {wanted}"
    names = [grade_id(c) for c in released.cells if is_answer(c) or is_test(c)]
    if all(f"{name}: missing" in notes for name in names):
        return f"has no cell of {wanted}"
    return ""


def _try(path: str) -> tuple[int, str]:
    """Return a key that sorts attempts in order: Canvas counts them, `…-2.ipynb`."""
    found = re.search(r"(?:-| \()(\d+)\)?\.ipynb$", path)
    return (int(found[1]) if found else 0, path)


def _first_name(code: str) -> str:
    found = re.search(r"^(?:def|class)\s+(\w+)", code, re.MULTILINE)
    return found[1] if found else ""


_NEW = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}


def lay(
    hand_in: NotebookNode, released: NotebookNode
) -> tuple[NotebookNode, list[str]]:
    """Return the released notebook with a student's answers and cells, and notes.

    An answer is found by the cell's grade id, else by its cell id, else by the function
    that it defines. If an answer is there twice, the last one that is not the stub
    counts. Cells that the student added stay where they were, without any metadata.
    """
    known = {grade_id(c): c for c in released.cells if grade_id(c)}
    by_name = {_first_name(c.source): n for n, c in known.items() if is_answer(c)}
    by_name.pop("", None)
    texts = {without_links(c.source) for c in released.cells if not grade_id(c)}
    answers: dict[str, list[NotebookNode]] = defaultdict(list)
    added: dict[str, list[NotebookNode]] = defaultdict(list)
    seen, notes, last = set(), [], ""
    for number, cell in enumerate(hand_in.cells):
        own = cell.get("metadata", {}).get("nbgrader", {})
        name = own.get("grade_id", "") if isinstance(own, dict) else ""
        how = ""
        if name not in known:
            name, how = cell.get("id", ""), "its id"
        if name not in known:
            name, how = by_name.get(_first_name(cell.source), ""), "its function"
        if name and is_answer(known[name]):
            if how:
                notes.append(f"{name}: known by {how} alone")
            answers[name].append(cell)
        elif name:
            if cell.source != known[name].source:
                notes.append(f"{name}: what is given was changed, and put back")
        elif cell.get("id", "") == OPENING:
            pass  # the class's own, as it was when the student got it
        elif cell.source.strip() and without_links(cell.source) not in texts:
            new = _NEW.get(cell.get("cell_type"), nbformat.v4.new_raw_cell)
            made = new(cell.source, id=f"added-{number:03}")
            if made.cell_type == "markdown" and cell.get("attachments"):
                made.attachments = cell.attachments  # pictures
            added[last].append(made)
        seen.add(name)
        last = name or last
    laid = copy.deepcopy(released)
    cells = added.pop("", [])
    for cell in laid.cells:
        name = grade_id(cell)
        if name and name not in seen:
            notes.append(f"{name}: missing")
        own = [c for c in answers[name] if c.source.strip() != cell.source.strip()]
        if len(own) > 1:
            notes.append(f"{name}: answered {len(own)} times, the last one counts")
        if own:
            cell.source = own[-1].source
            if cell.cell_type == "markdown" and own[-1].get("attachments"):
                cell.attachments = own[-1].attachments  # pictures
        cells += [cell, *added[name]]
    laid.cells = cells
    return laid, notes
