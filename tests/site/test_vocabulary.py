"""GPT-2's merges in the token explorer: fetched for a text of the reader's own."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, Route
from server import HTML, missing
from visitor import Visitor

from llmcourse.text.tokenizers import BPETokenizer

Visit = Callable[..., Visitor]
PAGE = "book/tokenization.html"
MERGES = "**/_static/model/merges-*.js"


@pytest.fixture(scope="module")
def merges() -> None:
    if not list(HTML.glob("_static/model/merges-*.js")):
        missing("the site was built without GPT-2's merges")


def explorer(page: Page) -> Locator:
    return page.get_by_role("group", name="Token explorer")


def gpt2(page: Page) -> Locator:
    """Return the row of the explorer that is GPT-2's."""
    return explorer(page).locator(".tokens", has_text="GPT-2")


def own(page: Page, text: str) -> None:
    """Type a text of the reader's own, as the keyboard does."""
    explorer(page).locator("textarea").focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(text)


def pieces(page: Page) -> list[str]:
    row = gpt2(page)
    row.locator(".piece").first.wait_for()
    return row.locator(".piece").evaluate_all(
        "(all) => all.map((piece) => piece.firstChild.textContent)"
    )


def ids(page: Page) -> list[int]:
    return [int(n) for n in gpt2(page).locator(".piece small").all_text_contents()]


def asked_for(visitor: Visitor) -> int:
    """Return how many times merges were fetched."""
    return sum("/merges-" in request.url for request in visitor.requests)


@pytest.mark.parametrize(
    "text",
    ["Unbelievable foxes!", "👍🏽 🤷 naïve 東京", "שלום עולם مرحبا", "a" * 2_000],
)
def test_the_readers_own_text_is_cut_as_python_cuts_it(
    visit: Visit, merges: None, text: str
) -> None:
    visitor = visit()
    page = visitor.open(PAGE)
    given = explorer(page).locator("select")
    given.focus()
    page.keyboard.press("ArrowDown")
    assert pieces(page)
    assert asked_for(visitor) == 0
    own(page, text)
    expected = BPETokenizer.from_gpt2()
    shown = [piece.replace(" ", "␣") for piece in expected.tokens(text)]
    assert pieces(page) == shown
    assert ids(page) == expected.encode(text)
    own(page, text[:-1])
    assert ids(page) == expected.encode(text[:-1])
    assert asked_for(visitor) == 1
    assert visitor.faults == []


def test_what_cannot_be_cut_is_told_and_nothing_dies(
    visit: Visit, merges: None
) -> None:
    visitor = visit()
    page = visitor.open(PAGE)
    area = explorer(page).locator("textarea")
    fault = explorer(page).locator(".fault")
    for text, message in (
        ("'word '.repeat(20000)", "At most 2,000 characters"),  # as JavaScript
        ("' '.repeat(100000)", "There is no text"),
        ("'so \\ud83d'", "half of a character"),
    ):
        area.evaluate(f"(area) => (area.value = {text})")
        area.dispatch_event("input")
        assert message in fault.inner_text()
    assert asked_for(visitor) == 0
    own(page, "so 👍")
    assert pieces(page) == ["so", "␣\\xf0\\x9f\\x91", "\\x8d"]
    assert fault.inner_text() == ""
    own(page, "")
    assert gpt2(page).locator(".numbers").inner_text().startswith("0 tokens")
    assert visitor.faults == []


def test_without_their_file_it_says_so_and_tries_again(
    visit: Visit, merges: None
) -> None:
    """Not there, then damaged, then there; the given texts stay as they are."""
    visitor = visit()
    page = visitor.open(PAGE)
    page.route(MERGES, lambda route: route.fulfill(status=404))
    own(page, "my own text")
    told = gpt2(page).get_by_role("status")
    button = gpt2(page).get_by_role("button", name="Try again")
    button.wait_for()
    assert "could not be fetched" in told.inner_text()

    page.unroute(MERGES)
    page.route(MERGES, damaged)
    button.focus()
    page.keyboard.press("Enter")
    told.get_by_text("damaged").wait_for()

    explorer(page).locator("select").select_option(index=1)
    assert pieces(page)
    assert not told.is_visible()
    own(page, "my own text")
    page.unroute(MERGES)
    button.focus()
    page.keyboard.press("Enter")
    assert pieces(page) == ["my", "␣own", "␣text"]
    assert not told.is_visible()


def damaged(route: Route) -> None:
    route.fulfill(content_type="text/javascript", body="(window.llmcourseMerges = {")


def test_a_page_opened_from_a_folder_has_them_too(visit: Visit, merges: None) -> None:
    page = visit().page
    page.context.unroute_all()
    page.goto((HTML / PAGE).as_uri())
    own(page, "from a folder")
    assert pieces(page) == ["from", "␣a", "␣folder"]


def test_it_can_be_read_by_anybody(visit: Visit, axe: str, merges: None) -> None:
    """With GPT-2's pieces, and with what it says when they cannot be had."""
    visitor = visit(scheme="light")
    page = visitor.open(PAGE)
    page.route(MERGES, lambda route: route.abort())
    own(page, "a b")
    gpt2(page).get_by_role("button", name="Try again").wait_for()
    assert visitor.barriers(axe, "[aria-label='Token explorer']") == []
    page.unroute(MERGES)
    gpt2(page).get_by_role("button", name="Try again").press("Enter")
    pieces(page)
    assert visitor.barriers(axe, "[aria-label='Token explorer']") == []
