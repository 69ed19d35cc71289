"""Every page, in a browser: loads cleanly, can be read by anybody, fits a phone."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page
from server import pages
from visitor import Visitor

PAGES = pages() or ["index.html"]
Visit = Callable[..., Visitor]
TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
  [...document.querySelectorAll("article *")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
    .filter((e) => !e.closest("pre, [style*=overflow], .highlight"))
    .map((e) => e.outerHTML.slice(0, 120))"""


def violations(page: Page, options: str = "{}") -> list[str]:
    """Return what axe finds fault with."""
    found = page.evaluate(f"async () => (await axe.run({options})).violations")
    return [
        f"{violation['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for violation in found
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("path", PAGES)
def test_page(visit: Visit, axe: str, path: str) -> None:
    """One visit for all, since loading is what takes long."""
    visitor = visit(scheme="light")
    page = visitor.open(path)
    page.mouse.wheel(0, 100_000)  # what loads when it is scrolled to
    page.wait_for_timeout(100)
    assert visitor.faults == []  # all that is asked for, the site itself has

    # A table with a bar too many in a cell is left as a paragraph full of bars.
    paragraphs = page.locator("article p:not(table p)").all_inner_texts()
    assert [text for text in paragraphs if text.startswith("|")] == []

    page.evaluate(axe)
    assert page.locator('html[data-theme="light"]').count() == 1
    assert violations(page) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector('html[data-theme="dark"]')
    assert violations(page, '{runOnly: ["color-contrast"]}') == []

    # On a phone, wide code and tables scroll inside their own boxes, not the page.
    page.set_viewport_size({"width": 390, "height": 900})
    page.wait_for_timeout(100)
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
