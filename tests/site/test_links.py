"""Links and anchors inside the built site lead somewhere; no browser is needed."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from server import HTML, prefix


class _Links(HTMLParser):
    """Collect the addresses that a page names, and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value is not None:
                self.links.append(value)


def _read(page: Path) -> _Links:
    parser = _Links()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


@pytest.fixture(scope="module")
def parsed(html: Path) -> dict[Path, _Links]:
    found = [p for p in html.rglob("*.html") if "_static" not in p.parts]
    return {page.resolve(): _read(page) for page in found}


def test_internal_links_and_anchors_resolve(parsed: dict[Path, _Links]) -> None:
    broken = []
    for page, found in parsed.items():
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path = unquote(parts.path)
            if path.startswith("/"):  # only the 404 page, which stands anywhere
                inside = path.startswith(prefix())
                target = HTML / path.removeprefix(prefix()) if inside else Path(path)
            else:
                target = page.parent / path if path else page
            target = target.resolve()
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            if not target.is_file():
                broken.append(f"{page.relative_to(HTML)}: {link}: no such file")
            elif anchor and target in parsed and anchor not in parsed[target].anchors:
                broken.append(f"{page.relative_to(HTML)}: {link}: no such anchor")
    assert "\n".join(broken) == ""


def test_the_site_is_ready_for_github_pages(html: Path) -> None:
    """Without .nojekyll, Pages would drop every folder that starts with "_"."""
    assert (html / ".nojekyll").is_file()
    assert (html / "404.html").is_file()
    assert "/book/" in (html / "sitemap.xml").read_text(encoding="utf-8")


def test_test_tools_stay_off_the_site(html: Path) -> None:
    assert list(html.rglob("axe.min.js")) == []
