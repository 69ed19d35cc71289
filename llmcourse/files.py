"""Files that are written whole or not at all, and folders locked by one process."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

from filelock import FileLock, Timeout

DATA = Path(__file__).parent / "data"  # texts, tables and studies of the package


@contextmanager
def new_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that takes the path's name when all went well.

    If anything fails, the temporary file is deleted and the old file, if any, stays as
    it was. If the path is a link, its target is written, and the link stays.

    Args:
        path: Name of the file to write, in a folder that exists.

    Raises:
        ValueError: If there is no such folder.
        OSError: If the file cannot be written; the message names it.
    """
    path = Path(path).resolve()  # a link's target, not the link
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {str(path.parent)!r} to write into")
    temporary: Path | None = None
    try:
        with NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp", delete=False
        ) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())  # on disk before the old file is replaced
        # Temporary files are private; results are as readable as the user's umask says.
        mask = os.umask(0o077)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None and error.filename not in (None, str(temporary)):
            raise  # of another file, read while this one was written
        message = f"cannot write {str(path)!r}: {error.strerror or error}"
        raise OSError(error.errno, message) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_file(path: str | Path, content: str | bytes) -> None:
    """Write a text or bytes, whole or not at all. Errors are as in `new_file`."""
    with new_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all. Errors are as in `new_file`."""
    write_file(path, json.dumps(value, indent=2) + "\n")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock an existing folder against other processes that lock it.

    The system releases the lock when this process ends, however it ends.

    Raises:
        ValueError: If another process holds the lock.
        OSError: If no file can be written there.
    """
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(
            f"another process trains in {str(folder)!r}: wait until it ends, or name "
            "another folder"
        ) from None
