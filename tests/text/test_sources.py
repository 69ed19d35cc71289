import bisect
import codecs
import sysconfig
from itertools import islice
from pydoc_data.topics import topics

import pytest

from llmcourse.text import documents
from llmcourse.text.documents import python_docs, python_sources, tales, text_files
from llmcourse.text.tales import generate


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
    assert {d.source for d in documents} == {"tales"}


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
    names = [name for name, _ in documents._library_files()]
    folders = {folder for name in names for folder in name.split("/")[:-1]}
    assert len(names) > 300
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
    monkeypatch.setattr(documents, "_help_topics", dict)
    found = {d.name: d.text for d in python_docs()}
    assert found == {"bad.py": "Fine.", "latin.py": "Café.", "odd.py": "A \\d."}


def test_sources_are_the_files_themselves():
    document = next(python_sources())
    assert document.source == "python_sources"
    compile(document.text, document.name, "exec")


def test_one_file_is_one_document(folder):
    (document,) = text_files(folder / "a.txt")
    assert document.text == "text of a.txt\n"
    assert document.name == (folder / "a.txt").as_posix()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.txt", ["a.txt", "b.txt"]),
        ("**/*.txt", ["a.txt", "b.txt", "deep/er/c.txt"]),
        ("[ab].*", ["a.txt", "b.txt"]),
        ("*", ["a.txt", "b.txt", "notes.md"]),
    ],
)
def test_a_pattern_is_files_in_order_of_name(folder, pattern, names):
    found = [document.name for document in text_files(str(folder / pattern))]
    assert found == [(folder / name).as_posix() for name in names]


def test_a_file_whose_name_looks_like_a_pattern_is_read(folder):
    (folder / "[1].txt").write_text("one")
    assert next(text_files(folder / "[1].txt")).text == "one"


def test_line_ends_stay_and_a_byte_order_mark_goes(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(codecs.BOM_UTF8 + "é\r\n".encode())
    assert next(text_files(path)).text == "é\r\n"


def test_files_are_opened_one_at_a_time(folder):
    (folder / "b.txt").write_bytes(b"\xff")
    documents = text_files(folder / "*.txt")
    assert next(documents).text == "text of a.txt\n"
    with pytest.raises(ValueError, match=r"b\.txt' is not UTF-8"):
        next(documents)


@pytest.mark.parametrize(
    ("data", "offset", "byte"),
    [
        (b"abc\xe9def", 3, "e9"),
        (b"x" * 5000 + b"\xff", "5,000", "ff"),
        ("naïve".encode("utf-16"), 0, "ff"),
        ("fox 🦊".encode()[:-1], 4, "f0"),
    ],
    ids=["latin", "late", "utf-16", "cut off"],
)
def test_bytes_that_are_not_utf8_are_refused(tmp_path, data, offset, byte):
    path = tmp_path / "x.txt"
    path.write_bytes(data)
    match = rf"x\.txt' is not UTF-8: byte 0x{byte} at offset {offset} "
    with pytest.raises(ValueError, match=match):
        next(text_files(path))


def test_a_folder_is_refused_with_the_pattern_to_write(folder):
    with pytest.raises(ValueError, match="got the folder") as caught:
        text_files(folder)
    assert repr(str(folder / "**" / "*.txt")) in str(caught.value)


def test_a_missing_file_is_refused_at_once(folder):
    with pytest.raises(ValueError, match=r"there is no file .*nowhere\.txt"):
        text_files(folder / "nowhere.txt")


@pytest.mark.parametrize("pattern", ["*.csv", "dee?"])
def test_a_pattern_without_files_is_refused_at_once(folder, pattern):
    with pytest.raises(ValueError, match="no file matches the pattern"):
        text_files(folder / pattern)


def test_a_negative_number_of_tales_is_refused_at_once():
    with pytest.raises(ValueError, match="negative, got -1"):
        tales(-1, seed=0)


def test_a_python_without_its_library_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    for source in (python_docs, python_sources):
        with pytest.raises(FileNotFoundError, match="installed without them"):
            source()
