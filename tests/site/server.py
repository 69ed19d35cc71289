"""The built site on a loopback port, under the path it will have when published."""

import functools
import importlib.util
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build" / "html"
VENDOR = ROOT / "book" / "static" / "vendor"


def missing(reason: str) -> None:
    """Skip, or fail where the site's tests are required."""
    if os.environ.get("LLMCOURSE_SITE") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def prefix() -> str:
    """Return the path of the published site, ``/llmcourse/`` or the like."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    spec = importlib.util.spec_from_file_location("address", ROOT / "book/address.py")
    assert spec is not None
    assert spec.loader is not None
    address = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(address)
    url = config["html"].get("baseurl") or address.site_address(
        config["repository"]["url"]
    )
    return urlsplit(url).path or "/"


def pages() -> list[str]:
    """Return the book's pages, ``book/x.html``, and search and 404; none if unbuilt."""
    if not HTML.is_dir():
        return []
    chapters = [
        str(p.relative_to(HTML)) for p in sorted((HTML / "book").rglob("*.html"))
    ]
    return [*chapters, "search.html", "genindex.html", "404.html"]


class _Handler(SimpleHTTPRequestHandler):
    """Serve files below the prefix; else 404.html, as GitHub Pages does."""

    def __init__(self, *args: object, prefix: str, **kwargs: object) -> None:
        self.prefix = prefix
        super().__init__(*args, directory=str(HTML), **kwargs)  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        if not path.startswith(self.prefix):
            return str(HTML / "outside-the-prefix")
        return super().translate_path("/" + path.removeprefix(self.prefix))

    def send_error(self, code: int, *args: object, **kwargs: object) -> None:
        body = (HTML / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serve(root: str | None = None) -> Iterator[str]:
    """Serve the site until the block ends; the value is its address.

    `root` is the path where it stands, if not where it will be published.
    """
    root = root or prefix()
    handler = functools.partial(_Handler, prefix=root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{root}"
    finally:
        server.shutdown()
        server.server_close()
