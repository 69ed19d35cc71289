"""Every page, in a browser: loads cleanly, can be read by anybody, fits a phone."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from server import pages
from visitor import Visitor, violations

PAGES = pages() or ["index.html"]
MAX_BYTES, MAX_BYTES_WITH_EXPLORERS = 1_000_000, 2_500_000
MAX_SHIFT = 0.05
STRETCHED = """() => [...document.querySelectorAll("article img[width][height]")]
    .filter((e) => getComputedStyle(e).objectFit === "fill" && Math.abs(Math.log(
        (e.clientWidth / e.clientHeight) / (e.getAttribute("width") /
        e.getAttribute("height")))) > 0.06)
    .map((e) => [e.currentSrc, e.clientWidth, e.clientHeight].join(" "))"""
Visit = Callable[..., Visitor]


@pytest.mark.parametrize("path", PAGES)
def test_page(visit: Visit, axe: str, path: str) -> None:
    """One visit for all, since loading is what takes long."""
    for _ in range(3):  # on a busy machine a font may come too late, but not always
        visitor = visit(scheme="light")  # with an empty cache
        page = visitor.open(path)
        if (shift := page.evaluate("window.layoutShift")) < MAX_SHIFT:
            break
    assert shift < MAX_SHIFT
    explorers = page.locator(".llmcourse-explorer").count()
    limit = MAX_BYTES_WITH_EXPLORERS if explorers else MAX_BYTES
    assert visitor.loaded() <= limit
    page.mouse.wheel(0, 100_000)  # what loads when it is scrolled to
    page.wait_for_timeout(100)
    assert visitor.faults == []  # all that is asked for, the site itself has

    # A table with a bar too many in a cell is left as a paragraph full of bars.
    paragraphs = page.locator("article p:not(table p)").all_inner_texts()
    assert [text for text in paragraphs if text.startswith("|")] == []

    assert page.locator('html[data-theme="light"]').count() == 1
    assert visitor.barriers(axe) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(STRETCHED) == []


def test_options_of_commands_keep_both_hyphens(html: Path) -> None:
    text = (html / "book/command_line.html").read_text(encoding="utf-8")
    assert re.findall(r"(?<!\w)[–—][a-z]+", text) == []


def test_a_link_to_a_term_or_a_reference_tells_what_it_leads_to(
    visit: Visit, axe: str
) -> None:
    """To the mouse and to the keyboard, beside the link; Escape closes the box."""
    page = visit().open("book/corpus.html")
    page.evaluate(axe)
    box = page.locator("[role=tooltip]")
    for target, text in (("glossary", "Jaccard"), ("references", "")):
        link = page.locator(f'article a[href*="{target}.html#"]', has_text=text).first
        assert not box.is_visible()
        link.hover()
        box.wait_for()
        assert len(box.inner_text()) > 30
        place, beside = link.bounding_box(), box.bounding_box()
        assert place is not None
        assert beside is not None
        below = beside["y"] - place["y"] - place["height"]
        above = place["y"] - beside["y"] - beside["height"]
        assert 0 < max(below, above) < 20
        assert violations(page, '{runOnly: ["region"]}') == []
        page.mouse.move(0, 0)
        box.wait_for(state="hidden")
        link.focus()
        box.wait_for()
        page.keyboard.press("Escape")
        box.wait_for(state="hidden")


def test_a_picture_is_enlarged_by_the_keyboard(visit: Visit) -> None:
    page = visit().open("book/corpus.html")
    button = page.locator("button.enlarge").first
    small = button.locator("img").bounding_box()
    button.press("Enter")
    large = page.locator("dialog[open] img").bounding_box()
    assert small is not None
    assert large is not None
    assert large["width"] > small["width"]
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="hidden")


def test_shades_keep_their_order_in_the_dark_when_enlarged(visit: Visit) -> None:
    page = visit(scheme="dark").open("book/context_window.html")
    page.locator("button.enlarge:has(img.own-ground)").press("Enter")
    shown = "getComputedStyle(document.querySelector('dialog[open] img')).filter"
    assert page.evaluate(shown) == "none"


def test_what_is_printed_in_the_dark_has_light_colours(visit: Visit) -> None:
    page = visit(scheme="dark").open("book/notation.html")
    theme = "document.documentElement.dataset.theme"
    page.evaluate(f"addEventListener('beforeprint', () => (window.printed = {theme}))")
    page.pdf()
    assert page.evaluate("window.printed") == "light"
    assert page.evaluate(theme) == "dark"


def test_solutions_are_called_so(html: Path) -> None:
    text = (html / "book/corpus.html").read_text(encoding="utf-8")
    assert text.count("Show solution") == text.count("tag_solution") > 0


def test_on_paper_nothing_is_cut(visit: Visit) -> None:
    page = visit(width=700).open("book/pipeline.html")
    page.emulate_media(media="print")
    cut = page.evaluate(
        "[...document.querySelectorAll('article pre')].filter("
        "(e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.innerText.slice(0, 80))"
    )
    assert cut == []
    colours = "getComputedStyle(document.querySelector('.track > .bar'))"
    assert page.evaluate(f"{colours}.printColorAdjust") == "exact"
