"""Download a file once, check it, and go on where a broken download stopped.

pooch keeps the file, checks its sha256 and renames it when it is right; the
downloader here adds what pooch lacks: the bytes that came before a connection
broke stay in a file `.part`, and the next attempt asks for the rest only
(`Range: bytes=4096-`).
"""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pooch
import requests

ByteProgress = Callable[[int, int | None], None]  # bytes so far, bytes in all if known

_CHUNK = 16 * 1024  # bytes
_TIMEOUT = 30  # seconds without any answer


def download(
    url: str,
    sha256: str,
    folder: str | Path,
    *,
    name: str | None = None,
    retries: int = 2,
    progress: ByteProgress | None = None,
) -> Path:
    """Return the path of the file at a URL, downloaded unless it is there already.

    Args:
        url: Address, http or https.
        sha256: Checksum that the file has to have, 64 hexadecimal digits.
        folder: Where to keep the file; created if missing.
        name: Name of the file; by default the last part of the address.
        retries: How often a connection that breaks off is taken up again.
        progress: Called with the bytes so far and in all (None if unknown).

    Raises:
        ValueError: If the address or the checksum is none, the folder is a file,
            or the file that came has another checksum.
        ConnectionError: If the server cannot be reached, refuses, or the
            connection breaks off too often. What came stays for the next call.
        OSError: If the disk is full.
    """
    folder = Path(folder)
    name = name or unquote(Path(urlsplit(url).path).name)
    _check(url, sha256, folder, name)
    fetch = _Resumable(folder / f"{name}.part", retries, progress)
    try:
        return _retrieve(url, sha256, folder, name, fetch)
    except _WrongHashError:
        if not fetch.resumed:
            raise
    # The file may have changed between the parts: once more, from its beginning.
    return _retrieve(url, sha256, folder, name, fetch)


class _WrongHashError(ValueError):
    """The file that came is not the one that was asked for."""


class _Resumable:
    """A downloader for pooch: a callable that writes a URL's bytes to a file."""

    def __init__(self, part: Path, retries: int, progress: ByteProgress | None) -> None:
        self.part = part
        self.retries = retries
        self.progress = progress
        self.resumed = False  # did earlier bytes go into the file?

    def __call__(self, url: str, output_file: str, _: object) -> None:
        self.resumed = self.part.exists()
        for attempt in range(self.retries + 1):
            try:
                self._fetch_rest(url)
                break
            except requests.RequestException as error:
                if attempt == self.retries:
                    raise ConnectionError(self._explain(url)) from error
        self.part.replace(output_file)

    def _fetch_rest(self, url: str) -> None:
        have = self.part.stat().st_size if self.part.exists() else 0
        # Unpacked on the way, the bytes could not be counted.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with requests.get(
            url, headers=headers, stream=True, timeout=_TIMEOUT
        ) as response:
            if response.status_code == 416 and have:
                return  # nothing is left to send; the checksum tells if that is right
            if not response.ok:
                answer = f"{response.status_code} {response.reason}"
                raise ConnectionError(f"the server answered {answer}: {url}")
            goes_on = response.headers.get("Content-Range", "").startswith(
                f"bytes {have}-"
            )
            if response.status_code == 206 and not goes_on:
                raise ConnectionError(f"the server sent another part than asked: {url}")
            self._save(response, have if response.status_code == 206 else 0)

    def _save(self, response: requests.Response, have: int) -> None:
        """Append the answer's bytes to the first `have` ones of the part."""
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        with self.part.open("ab") as file:
            file.truncate(have)
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if self.progress is not None:
                    self.progress(have, total)

    def _explain(self, url: str) -> str:
        if self.part.exists() and (have := self.part.stat().st_size):
            return (
                f"the connection broke off after {have:,} bytes of {url}; they are "
                f"kept in {str(self.part)!r}: try again, and it goes on from there"
            )
        return f"cannot reach {urlsplit(url).netloc}: is this machine offline? ({url})"


def _retrieve(
    url: str, sha256: str, folder: Path, name: str, fetch: _Resumable
) -> Path:
    with _silent(pooch.get_logger()):
        try:
            path = pooch.retrieve(
                url, f"sha256:{sha256}", fname=name, path=folder, downloader=fetch
            )
        except ValueError as error:
            got = re.findall("[0-9a-f]{64}", str(error))[-1]
            raise _WrongHashError(
                f"wanted sha256 {sha256.lower()}, got {got}: {url} has changed or was "
                "damaged on the way; nothing was kept"
            ) from error
    return Path(path)


def _check(url: str, sha256: str, folder: Path, name: str) -> None:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"wanted an address with http or https, got {url!r}")
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"wanted a sha256 of 64 hexadecimal digits, got {sha256!r}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"wanted a folder to download into, got {str(folder)!r}")
    if not name or Path(name).name != name:
        raise ValueError(f"wanted a file name for {url!r}, got {name!r}")


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch from announcing the download on the standard error."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
