"""A file is written whole, or the old one stays."""

import errno

import pytest

from llmcourse.files import new_file


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
