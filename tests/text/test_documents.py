"""Documents, reports, sources."""

import bisect
import os
import sys
import sysconfig
from itertools import islice
from pydoc_data.topics import topics
from types import SimpleNamespace

import pytest

from llmcourse.text import documents
from llmcourse.text.documents import (
    Document,
    Removal,
    Report,
    excerpt,
    python_docs,
    read_texts,
    summarise,
    tales,
)
from llmcourse.text.tales import generate


def read(path, **options):
    skipped = {}
    found = [*read_texts(path, skipped, **options)]
    return SimpleNamespace(documents=found, skipped=skipped)


def texts(*names):
    return [Document(f"text {name}", name) for name in names]


def test_a_step_that_removes_one_of_four():
    """Four documents of 6 characters each; one goes: 25 % of both."""
    before = texts("a", "b", "c", "d")
    report = summarise("step", before, before[1:], [Removal(before[0], "bad")])
    assert (report.documents_in, report.documents_out) == (4, 3)
    assert (report.characters_in, report.characters_out) == (24, 18)
    assert report.documents_removed == 1
    assert report.removed_share == 0.25
    assert report.reasons == {"bad": 1}


def test_reasons_are_counted_and_each_has_its_first_example():
    before = texts("a", "b", "c", "d")
    reasons = ["rare", "common", "common", "common"]
    removals = [Removal(d, why) for d, why in zip(before, reasons, strict=True)]
    report = summarise("step", before, [], removals)
    assert list(report.reasons.items()) == [("common", 3), ("rare", 1)]
    assert [example.document.name for example in report.examples] == ["a", "b"]


def test_the_table_has_a_row_for_the_input_and_one_for_each_step():
    documents = texts(*"abcdefgh")
    first = summarise("first", documents, documents[:6], [])
    second = summarise("second", documents[:6], documents[:3], [])
    rows = str(Report((first, second))).split("\n")
    assert [row.split()[:2] for row in rows[1:]] == [
        ["input", "8"],
        ["first", "6"],
        ["second", "3"],
    ]
    assert "25.0 %" in rows[2]
    assert "50.0 %" in rows[3]
    assert len({len(row) for row in rows[2:]}) == 1


def test_a_step_report_tells_why_and_shows_what():
    document = Document("Some text", "notes.txt")
    report = summarise("step", [document], [], [Removal(document, "bad", "at line 3")])
    assert "1 × bad" in str(report)
    assert "notes.txt: bad: at line 3" in str(report)


def test_a_removal_without_detail_shows_the_text():
    assert str(Removal(Document("Some\ntext"), "bad")) == "(unnamed): bad: Some text"


@pytest.mark.parametrize("text", ["", "a", "word " * 40, "x" * 200, "\n\n a \n b"])
def test_an_excerpt_is_one_short_line(text):
    line = excerpt(text, width=20)
    assert len(line) <= 20
    assert "\n" not in line


def test_nothing_in_means_no_share_removed():
    assert summarise("step", [], [], []).removed_share == 0


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.txt", "a.txt", "deep/er/c.txt", "notes.md"):
        (tmp_path / name).write_text(
            f"text of {name}\n", encoding="utf-8", newline="\n"
        )
    return tmp_path


def test_a_docstring_of_each_kind_in_order_of_lines():
    """A module, a class, its method and a coroutine; comments are no docstrings."""
    source = (
        '"""Module."""\n# no\nclass C:\n    """Class."""\n    def m(self):\n'
        '        """Method."""\nasync def f():\n    "Coroutine."\ndef g(): pass\n'
    )
    wanted = ["Module.", "C\nClass.", "m\nMethod.", "f\nCoroutine."]
    assert list(documents._docstrings(source)) == wanted


def test_tales_are_those_of_the_grammar():
    documents = list(tales(3, seed=5))
    assert [d.text for d in documents] == [story.text for story in generate(3, 5)]
    assert [d.name for d in documents] == ["tales/5/0", "tales/5/1", "tales/5/2"]


def test_the_topics_of_help_come_first():
    documents = list(islice(python_docs(), len(topics) + 3))
    named = {d.name: d.text for d in documents[: len(topics)]}
    assert named == {f"topics/{topic}": text for topic, text in topics.items()}
    assert all(d.name.endswith(".py") for d in documents[len(topics) :])


def test_the_docstrings_of_the_library_are_those_of_its_modules():
    document = next(each for each in python_docs() if each.name == "bisect.py")
    assert document.text.startswith(bisect.__doc__.strip())
    assert "\n\ninsort_right\nInsert item x in list a" in document.text


def test_the_library_has_packages_and_no_foreign_ones():
    names = [d.name for d in python_docs() if not d.name.startswith("topics/")]
    folders = {folder for name in names for folder in name.split("/")[:-1]}
    assert len(names) > 200
    assert names == sorted(names)  # the order of a folder is not that of its names
    assert "json" in folders
    assert folders.isdisjoint({"test", "site-packages", "dist-packages"})


def test_modules_are_read_and_not_imported(tmp_path, monkeypatch):
    (tmp_path / "bad.py").write_text('"""Fine."""\nraise SystemExit\n')
    (tmp_path / "latin.py").write_bytes(b'# coding: latin-1\n"""Caf\xe9."""\n')
    (tmp_path / "odd.py").write_text('"""A \\d."""\n')  # an invalid escape
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "no.py").write_text('"""No."""')
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    found = {d.name: d.text for d in python_docs()}
    assert found == {"bad.py": "Fine.", "latin.py": "Café.", "odd.py": "A \\d."}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.txt", ["a.txt"]),
        ("*.txt", ["a.txt", "b.txt"]),
        ("**/*.txt", ["a.txt", "b.txt", "deep/er/c.txt"]),
        ("[ab].*", ["a.txt", "b.txt"]),
        ("*", ["a.txt", "b.txt", "notes.md"]),
        ("deep", ["deep/er/c.txt"]),
    ],
)
def test_files_are_in_order_of_name(folder, pattern, names):
    found = read(str(folder / pattern)).documents
    assert [d.name for d in found] == [(folder / name).as_posix() for name in names]
    assert [d.text for d in found] == [f"text of {name}\n" for name in names]


def test_a_file_whose_name_looks_like_a_pattern_is_read(folder):
    (folder / "[1].txt").write_text("one")
    assert read(folder / "[1].txt").documents[0].text == "one"


def test_a_python_without_its_library_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match="installed without them"):
        next(python_docs())


@pytest.fixture
def mixed(tmp_path):
    (tmp_path / "b.txt").write_text("Second.\n")
    (tmp_path / "a.md").write_bytes("\ufeffÉté.\r\n".encode())
    (tmp_path / "more" / "deep").mkdir(parents=True)
    (tmp_path / "more" / "deep" / "c").write_text("Third.")
    (tmp_path / ".hidden").write_text("secret")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("secret")
    return tmp_path


# Worked example


def test_texts_in_order_of_name_with_their_paths(mixed):
    found = read(mixed)
    names = [document.name for document in found.documents]
    assert names == [(mixed / n).as_posix() for n in ("a.md", "b.txt", "more/deep/c")]
    assert [d.text for d in found.documents] == ["Été.\r\n", "Second.\n", "Third."]
    assert found.skipped == {}
    assert [d.text for d in read(mixed / "b.txt").documents] == ["Second.\n"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_encodings_that_windows_writes_are_read(tmp_path, encoding):
    (tmp_path / "a").write_text("Été 🦊.\n", encoding=encoding, newline="")
    assert [d.text for d in read(tmp_path).documents] == ["Été 🦊.\n"]
    bytes_ = (tmp_path / "a").read_bytes()
    (tmp_path / "odd").write_bytes(bytes_[:-1])
    (tmp_path / "nul").write_text("a\0b", encoding=encoding)
    skipped = {p.rpartition("/")[2]: why for p, why in read(tmp_path).skipped.items()}
    assert skipped["nul"] == "binary"
    if encoding == "utf-16":
        assert skipped["odd"] == f"not UTF-16, at byte {len(bytes_) - 2}"


# Law


def test_what_is_no_text_is_skipped_with_the_reason(mixed):
    (mixed / "photo").write_bytes(b"\x89PNG\0\0")
    (mixed / "latin").write_bytes(b"caf\xe9")
    (mixed / "blank").write_text(" \n")
    (mixed / "large").write_text("a" * (3 << 20))
    os.mkfifo(mixed / "pipe")
    (mixed / "gone").symlink_to(mixed / "nowhere")
    (mixed / "loop").symlink_to(mixed)
    found = read(mixed, max_bytes=2 << 20)
    assert len(found.documents) == 3
    assert {path.rpartition("/")[2]: why for path, why in found.skipped.items()} == {
        "photo": "binary",
        "latin": "not UTF-8, at byte 3",
        "blank": "empty",
        "large": "too large, 3 MiB",
        "pipe": "not a regular file",
        "gone": "not a regular file",
    }


def test_a_file_that_cannot_be_read_is_skipped(mixed, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    (mixed / "locked.txt").write_text("locked")
    real = documents.Path.open
    monkeypatch.setattr(
        documents.Path,
        "open",
        lambda path, mode: (refuse if path.name == "locked.txt" else real)(path, mode),
    )
    found = read(mixed)
    assert len(found.documents) == 3
    ((path, reason),) = found.skipped.items()
    assert path.endswith("locked.txt")
    assert reason == "cannot be read: Permission denied"


def test_a_folder_that_cannot_be_read_is_skipped(mixed, monkeypatch):
    real = documents.os.walk

    def walk(path, onerror):
        onerror(PermissionError(13, "Permission denied", f"{path}/locked"))
        return real(path)

    monkeypatch.setattr(documents.os, "walk", walk)
    found = read(mixed)
    assert len(found.documents) == 3
    assert found.skipped == {f"{mixed}/locked": "cannot be read: Permission denied"}


def test_an_excerpt_says_that_a_text_goes_on_after_much_space():
    assert excerpt(f"a{' ' * 300}b") == "a …"
    assert excerpt(f"a{' ' * 300}") == "a"


# Refusal


def test_more_text_than_anybody_reads_is_refused(mixed):
    assert len(read(mixed, max_bytes=30).documents) == 3
    with pytest.raises(ValueError, match="name a smaller folder"):
        read(mixed, max_bytes=12)


def test_refusals(mixed, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (tmp_path / "nowhere", tmp_path / "*.csv", empty):
        with pytest.raises(ValueError, match=r"wanted text .*nothing is there"):
            read(path)
    for name in "abcd":
        (empty / name).write_bytes(b"\0")
    with pytest.raises(ValueError, match=r"got none \(.*a: binary; .*c: binary\)$"):
        read(empty)
    with pytest.raises(ValueError, match=r"got none \(.*/a: binary\)"):
        read(empty / "a")
