import errno
import hashlib
import logging
import random
import socket
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pooch
import pytest

from llmcourse.downloads import download

BODY = random.Random(0).randbytes(200_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves the server's body; breaks off, ignores ranges or refuses on demand."""

    def do_GET(self):
        server = self.server
        asked = self.headers["Range"]
        server.ranges.append(asked)
        server.encodings.append(self.headers["Accept-Encoding"])
        start = 0
        if asked and server.knows_ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if server.status or start >= len(server.body):
            self.send_error(server.status or 416)
            return
        rest = server.body[start:]
        self.send_response(206 if start else 200)
        if start:
            end = len(server.body) - 1
            first = start + server.range_error
            self.send_header("Content-Range", f"bytes {first}-{end}/{end + 1}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        breaks = server.breaks.pop(0) if server.breaks else None
        server.sent.append(len(rest[:breaks]))
        self.wfile.write(rest[:breaks])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body, server.knows_ranges, server.status = BODY, True, None
    server.range_error = 0
    server.breaks = []  # after how many bytes each answer breaks off
    server.ranges, server.encodings, server.sent = [], [], []  # what was asked, sent
    server.url = f"http://127.0.0.1:{server.server_port}/books/sea%20tales.txt"
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_once(server, tmp_path):
    path = download(server.url, SHA256, tmp_path / "new")
    assert path == tmp_path / "new" / "sea tales.txt"
    assert path.read_bytes() == BODY
    assert download(server.url, SHA256.upper(), tmp_path / "new") == path
    assert len(server.ranges) == 1
    assert names(path.parent) == ["sea tales.txt"]


def test_the_rest_alone_is_asked_for_after_a_break(server, tmp_path):
    server.breaks = [100_000]
    with pytest.raises(
        ConnectionError, match=r"broke off after .*sea tales\.txt\.part"
    ):
        download(server.url, SHA256, tmp_path, retries=0)
    assert names(tmp_path) == ["sea tales.txt.part"]
    kept = (tmp_path / "sea tales.txt.part").stat().st_size
    assert 0 < kept <= 100_000
    assert download(server.url, SHA256, tmp_path).read_bytes() == BODY
    assert server.ranges == [None, f"bytes={kept}-"]
    assert server.sent == [100_000, len(BODY) - kept]
    assert names(tmp_path) == ["sea tales.txt"]


def test_one_call_takes_up_a_broken_connection(server, tmp_path):
    server.breaks = [80_000, 80_000]
    assert download(server.url, SHA256, tmp_path).read_bytes() == BODY
    assert len(server.ranges) == 3


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.breaks, server.knows_ranges = [100_000], False
    assert download(server.url, SHA256, tmp_path).read_bytes() == BODY
    assert server.sent == [100_000, len(BODY)]


def test_a_part_that_is_whole_already_is_taken(server, tmp_path):
    (tmp_path / "sea tales.txt.part").write_bytes(BODY)
    assert download(server.url, SHA256, tmp_path).read_bytes() == BODY
    assert server.sent == []


@pytest.mark.parametrize("size", [1000, len(BODY), len(BODY) + 1])
def test_a_part_of_another_file_is_replaced(server, tmp_path, size):
    (tmp_path / "sea tales.txt.part").write_bytes(b"?" * size)
    assert download(server.url, SHA256, tmp_path).read_bytes() == BODY
    assert server.sent[-1] == len(BODY)


def test_a_damaged_file_is_replaced(server, tmp_path):
    (tmp_path / "sea tales.txt").write_bytes(BODY[:-1])
    assert download(server.url, SHA256, tmp_path).read_bytes() == BODY


def test_progress_is_told_in_bytes(server, tmp_path):
    server.breaks = [100_000]
    seen = []
    download(
        server.url,
        SHA256,
        tmp_path,
        progress=lambda done, all: seen.append((done, all)),
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {len(BODY)}
    assert seen[-1] == (len(BODY), len(BODY))


def test_pooch_is_silent_during_the_download_and_no_longer(server, tmp_path):
    logger, records = pooch.get_logger(), []
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    download(server.url, SHA256, tmp_path)
    logger.removeHandler(handler)
    assert records == []
    assert logger.level == logging.INFO


def test_the_bytes_are_asked_for_as_they_are(server, tmp_path):
    """Packed for the way, they could not be counted, and a range would be wrong."""
    download(server.url, SHA256, tmp_path)
    assert server.encodings == ["identity"]


def test_another_hash_is_refused_and_nothing_kept(server, tmp_path):
    wanted = "0" * 64
    with pytest.raises(ValueError, match=f"wanted sha256 {wanted}, got {SHA256}: http"):
        download(server.url, wanted, tmp_path)
    assert names(tmp_path) == []
    assert len(server.ranges) == 1


def test_a_server_that_breaks_off_every_time_is_given_up(server, tmp_path):
    server.breaks = [30_000] * 9
    with pytest.raises(ConnectionError, match="broke off after .* goes on from there"):
        download(server.url, SHA256, tmp_path, retries=3)
    assert len(server.ranges) == 4


def test_a_wrong_range_is_refused(server, tmp_path):
    server.breaks, server.range_error = [100_000], 7
    with pytest.raises(ConnectionError, match="another part than asked"):
        download(server.url, SHA256, tmp_path)


@pytest.mark.parametrize("status", [404, 503])
def test_an_answer_that_is_no_file_is_refused(server, tmp_path, status):
    server.status = status
    with pytest.raises(ConnectionError, match=f"the server answered {status}"):
        download(server.url, SHA256, tmp_path)
    assert names(tmp_path) == []


def test_offline_is_told_in_one_line(tmp_path):
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError) as caught:
        download(f"http://127.0.0.1:{port}/x.txt", SHA256, tmp_path)
    assert f"cannot reach 127.0.0.1:{port}: is this machine offline?" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_told_as_such(server, tmp_path, monkeypatch):
    real = Path.open

    def full(path, *arguments, **options):
        if path.suffix == ".part":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match=r"No space left .*\.part") as caught:
        download(server.url, SHA256, tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("url", "sha256", "match"),
    [
        ("ftp://127.0.0.1/x", SHA256, "with http or https, got 'ftp"),
        ("x.txt", SHA256, "with http or https, got 'x.txt'"),
        ("http://127.0.0.1/x", "abc", "64 hexadecimal digits, got 'abc'"),
        ("http://127.0.0.1/", SHA256, "wanted a file name for .*, got ''"),
    ],
)
def test_a_wrong_address_or_checksum_is_refused(tmp_path, url, sha256, match):
    with pytest.raises(ValueError, match=match):
        download(url, sha256, tmp_path)


def test_a_file_instead_of_a_folder_is_refused(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(
        ValueError, match="wanted a folder to download into, got .*file"
    ):
        download("http://127.0.0.1/x", SHA256, path)


@pytest.mark.parametrize("name", ["../x", "a/b"])
def test_a_name_outside_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="wanted a file name"):
        download("http://127.0.0.1/x", SHA256, tmp_path, name=name)
