"""Connections: those that say nothing, those that end, and the end of the service."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from fastapi import FastAPI
from service_cases import (
    LONG,
    NAME,
    small_model,
    small_service,
    small_tokenizer,
    wait_until,
)

from llmcourse.model.folders import save_pretrained
from llmcourse.serving.server import address, listening, running, serve_on


def answer_to(url, sent, seconds=300.0):
    """Return all that comes back on a connection until it is closed."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(sent)
        found = b""
        while piece := connection.recv(65536):
            found += piece
    return found


# Worked example


def test_worked_example_of_an_application():
    app = FastAPI()

    @app.get("/")
    def hello() -> str:
        return "hello"

    with running(app) as url:
        assert httpx.get(url, timeout=300).json() == "hello"
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, timeout=300)


@pytest.mark.parametrize(
    ("host", "wanted"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")]
)
def test_an_address_is_one_that_browsers_know(host, wanted):
    with listening() as listener:
        port = listener.getsockname()[1]
        assert address(host, listener) == f"http://{wanted}:{port}"


# Laws


def test_the_second_part_of_an_answer_does_not_wait_for_the_first():
    """Head and body are sent at once; the system would hold the body back for 40 ms."""
    with (
        listening() as listener,
        socket.create_connection(listener.getsockname()),
    ):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_a_body_that_does_not_arrive_ends_the_request():
    with small_service(body_seconds=0.2) as (url, _):
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"
        found = answer_to(url, head + b'{"model":')
        assert found.startswith(b"HTTP/1.1 408")
        assert b'"type":"timeout_error"' in found
        with httpx.Client(base_url=url, timeout=300) as http:
            for _ in range(2):
                assert http.get("/health").status_code == 200


def test_connections_that_vanish_harm_nobody():
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
    with small_service() as (url, _):
        host, _, port = url.removeprefix("http://").partition(":")
        for sent in (b"", b"\x16\x03\x01\x02", b"GET", head):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(sent)
        assert b"400" in answer_to(url, b"nonsense\r\n\r\n")
        assert httpx.get(f"{url}/health", timeout=300).status_code == 200


@pytest.mark.parametrize("grace", ["300", "0"])
def test_a_signal_under_load_ends_it_gracefully(tmp_path, grace):
    """Streams are finished, or end with an error; who waits for a slot is sent away."""
    save_pretrained(small_model(), small_tokenizer(), tmp_path / NAME)
    command = [sys.executable, "-m", "llmcourse", "serve", "--port", "0"]
    command += ["--model", str(tmp_path / NAME), "--grace", grace, "--slots", "2"]
    command += ["--served-model-name", "served"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "80"}
    )
    assert process.stderr is not None
    url = process.stderr.readline().split()[-1]
    body = LONG | {"model": "served"}
    begun, found, sent_away = [], [], []

    def ask():
        with httpx.stream(
            "POST", f"{url}/v1/completions", json=body | {"stream": True}, timeout=300
        ) as answer:
            lines = answer.iter_lines()
            begun.append(next(lines))
            found.append([*begun[-1:], *(line for line in lines if line)])

    def wait():
        sent_away.append(
            httpx.post(f"{url}/v1/completions", json=body | {"n": 16}, timeout=300)
        )

    try:
        wait_for(url)
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(begun) == len(threads))
        threads.append(threading.Thread(target=wait))
        threads[-1].start()
        wait_until(lambda: httpx.get(f"{url}/health").json()["waiting"] > 0)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(300)
        assert process.wait(300) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    finally:
        process.kill()
    assert len(found) == 2
    for lines in found:
        assert lines[-1] == "data: [DONE]"
        last = json.loads(lines[-2].removeprefix("data: "))
        if "error" in last:
            assert grace == "0"
        else:
            assert last["choices"][0]["finish_reason"] in ("stop", "length")
    assert [answer.status_code for answer in sent_away] == [503]
    assert sent_away[0].headers["retry-after"] == "1"


def wait_for(url):
    for _ in range(6000):
        try:
            if httpx.get(f"{url}/health", timeout=300).status_code == 200:
                return
        except httpx.ConnectError:
            time.sleep(0.05)
    raise AssertionError("the service did not start")


# Refusals


def test_a_port_that_is_taken_is_refused():
    with (
        listening() as listener,
        pytest.raises(OSError, match=r"[Aa]ddress already in use"),
        listening(port=listener.getsockname()[1]),
    ):
        pass


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_application_that_does_not_start(capsys):
    """The caller hears of it, in a thread or not; the reason is in the log."""

    @contextlib.asynccontextmanager
    async def broken(_):
        raise ZeroDivisionError("no engine")
        yield

    app = FastAPI(lifespan=broken)
    with pytest.raises(RuntimeError, match="did not start"), running(app):
        pass
    with listening() as listener, pytest.raises(RuntimeError, match="did not start"):
        serve_on(listener, app)
    assert "no engine" in capsys.readouterr().err


def test_a_start_that_fails_without_a_word():
    class Mute(FastAPI):
        async def __call__(self, scope, receive, send):
            raise ZeroDivisionError

    with pytest.raises(RuntimeError, match="did not start"), running(Mute()):
        pass
