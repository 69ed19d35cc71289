"""Text files of a folder, and what is passed over."""

import os

import pytest

from llmcourse.text import documents
from llmcourse.text.documents import read_texts


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b.txt").write_text("Second.\n")
    (tmp_path / "a.md").write_bytes("\ufeffÉté.\r\n".encode())
    (tmp_path / "more" / "deep").mkdir(parents=True)
    (tmp_path / "more" / "deep" / "c").write_text("Third.")
    (tmp_path / ".hidden").write_text("secret")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("secret")
    return tmp_path


# Worked example


def test_texts_in_order_of_name_with_their_paths(folder):
    found = read_texts(folder)
    names = [document.name for document in found.documents]
    assert names == [(folder / n).as_posix() for n in ("a.md", "b.txt", "more/deep/c")]
    assert [d.text for d in found.documents] == ["Été.\r\n", "Second.\n", "Third."]
    assert found.passed_over == []
    assert [d.text for d in read_texts(folder / "b.txt").documents] == ["Second.\n"]


# Law


def test_what_is_no_text_is_passed_over_with_the_reason(folder, monkeypatch):
    monkeypatch.setattr(documents, "MOST_BYTES", 2 << 20)
    (folder / "photo").write_bytes(b"\x89PNG\0\0")
    (folder / "latin").write_bytes(b"caf\xe9")
    (folder / "blank").write_text(" \n")
    (folder / "large").write_text("a" * (3 << 20))
    os.mkfifo(folder / "pipe")
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder)
    found = read_texts(folder)
    assert len(found.documents) == 3
    assert {path.rpartition("/")[2]: why for path, why in found.passed_over} == {
        "photo": "binary",
        "latin": "not UTF-8, at byte 3",
        "blank": "empty",
        "large": "too large, 3 MiB",
        "pipe": "no regular file",
        "gone": "no regular file",
    }


def test_a_file_that_cannot_be_read_is_passed_over(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    (folder / "locked.txt").write_text("locked")
    read = documents.Path.read_bytes
    monkeypatch.setattr(
        documents.Path,
        "read_bytes",
        lambda path: (refuse if path.name == "locked.txt" else read)(path),
    )
    found = read_texts(folder)
    assert len(found.documents) == 3
    ((path, reason),) = found.passed_over
    assert path.endswith("locked.txt")
    assert reason == "cannot be read: Permission denied"


# Refusal


def test_refusals(folder, tmp_path):
    with pytest.raises(ValueError, match="there is no folder '.*nowhere'"):
        read_texts(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="wanted text files in '.*empty', found none$"):
        read_texts(empty)
    for name in "abcd":
        (empty / name).write_bytes(b"\0")
    with pytest.raises(ValueError, match=r"found none \(.*a: binary; .* and 1 more\)"):
        read_texts(empty)
    with pytest.raises(ValueError, match=r"found none \(.*/a: binary\)"):
        read_texts(empty / "a")
