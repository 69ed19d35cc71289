"""Every page, in a browser: loads cleanly, can be read by anybody, fits a phone."""

from collections.abc import Callable

import pytest
from server import pages
from visitor import Visitor

PAGES = pages() or ["index.html"]
Visit = Callable[..., Visitor]


@pytest.mark.parametrize("path", PAGES)
def test_page_loads_without_error_or_outside_request(visit: Visit, path: str) -> None:
    """Whatever a script, style, font or picture asks for, the site itself has."""
    visitor = visit()
    page = visitor.open(path)
    page.mouse.wheel(0, 100_000)  # what loads when it is scrolled to
    page.wait_for_timeout(100)
    assert visitor.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing(visit: Visit, axe: str, path: str, scheme: str) -> None:
    page = visit(scheme=scheme).open(path)
    assert page.locator(f'html[data-theme="{scheme}"]').count() == 1
    page.evaluate(axe)
    found = page.evaluate("async () => (await axe.run()).violations")
    lines = [
        f"{violation['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for violation in found
        for node in violation["nodes"]
    ]
    assert "\n".join(lines) == ""


@pytest.mark.parametrize("path", PAGES)
def test_tables_are_tables(visit: Visit, path: str) -> None:
    """A table with a bar too many in a cell is left as a paragraph full of bars."""
    page = visit().open(path)
    paragraphs = page.locator("article p:not(table p)").all_inner_texts()
    assert [text for text in paragraphs if text.startswith("|")] == []


@pytest.mark.parametrize("path", PAGES)
def test_page_is_no_wider_than_a_phone(visit: Visit, path: str) -> None:
    """Wide code and tables scroll inside their own boxes, not the page."""
    page = visit(width=390).open(path)
    too_wide = page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] :
          [...document.querySelectorAll("article *")]
            .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
            .filter((e) => !e.closest("pre, [style*=overflow], .highlight"))
            .map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert too_wide == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
