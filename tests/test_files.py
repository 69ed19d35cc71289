"""A file is written whole, or the old one stays."""

import errno
import os
import subprocess
import sys

import pytest

from llmcourse import files
from llmcourse.files import locked, new_file, write_file, write_json


def test_the_name_appears_when_all_is_written(tmp_path):
    path = tmp_path / "a.bin"
    with new_file(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail():
        with new_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_full_disk_is_reported_with_the_name(tmp_path):
    def fail():
        with new_file(tmp_path / "a.bin"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        OSError, match=r"cannot write .*a\.bin.*No space left"
    ) as caught:
        fail()
    assert caught.value.errno == errno.ENOSPC
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(os.name != "posix", reason="has other limits")
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    write_file(tmp_path / ("a" * 255), "x")
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]
    with pytest.raises(OSError, match=f"cannot write '.*/{'a' * 256}'"):
        write_file(tmp_path / ("a" * 256), "x")


def test_a_folder_that_takes_no_file_is_reported_with_the_name(tmp_path, monkeypatch):
    def fail(dir, prefix, suffix, delete):
        raise PermissionError(
            errno.EACCES, "Permission denied", f"{dir}/{prefix}xy.tmp"
        )

    monkeypatch.setattr(files, "NamedTemporaryFile", fail)
    with pytest.raises(PermissionError, match=r"cannot write .*/a\.bin': Permission"):
        write_file(tmp_path / "a.bin", "x")


def test_the_error_of_another_file_keeps_its_name(tmp_path):
    def fail():
        with new_file(tmp_path / "a.bin"):
            (tmp_path / "input.txt").read_bytes()

    with pytest.raises(FileNotFoundError, match="input.txt"):
        fail()


def test_a_missing_folder_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="no folder .*nowhere"),
        new_file(tmp_path / "nowhere" / "a.bin"),
    ):
        pass


@pytest.mark.skipif(os.name != "posix", reason="has no such modes")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_who_may_read_a_file_is_for_the_umask_to_say(tmp_path, mask):
    before = os.umask(mask)
    try:
        with new_file(tmp_path / "a.bin") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o666 & ~mask


HOLD = """
import sys, pathlib
from llmcourse.files import locked
with locked(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_for_one_process_until_it_ends_or_is_killed(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        with (
            pytest.raises(ValueError, match="another process trains in"),
            locked(tmp_path),
        ):
            pass
        other.kill()
        other.wait()
        with locked(tmp_path):
            pass


def test_a_text_bytes_and_json_are_written_as_they_are(tmp_path):
    write_file(tmp_path / "text", "naïve\n")
    write_file(tmp_path / "bytes", b"\xff\x00")
    write_json(tmp_path / "value.json", {"a": [1]})
    assert (tmp_path / "text").read_bytes() == b"na\xc3\xafve\n"
    assert (tmp_path / "bytes").read_bytes() == b"\xff\x00"
    assert (tmp_path / "value.json").read_text() == '{\n  "a": [\n    1\n  ]\n}\n'
