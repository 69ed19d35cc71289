"""A reader gets around: next, previous, search, colours, a mistyped address."""

from collections.abc import Callable
from html.parser import HTMLParser
from urllib.parse import urljoin

import pytest
from server import HTML, ROOT, serve
from visitor import Visitor

Visit = Callable[..., Visitor]


def chapters() -> list[str]:
    """Return the pages in the order of the table of contents."""
    import yaml

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages = [toc["root"]]
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            pages.append(chapter["file"])
            for tree in chapter.get("subtrees", ()):
                pages += [section["file"] for section in tree["sections"]]
    return [f"{page}.html" for page in pages]


def links(path: str) -> list[tuple[str, str]]:
    """Return class and address of each link of a page, as its file has them."""
    found = []

    class Parser(HTMLParser):
        def handle_starttag(
            self, tag: str, attrs: list[tuple[str, str | None]]
        ) -> None:
            given = dict(attrs)
            if tag == "a" and given.get("href"):
                href = urljoin(path, given["href"] or "")
                found.append((given.get("class") or "", href))

    Parser().feed((HTML / path).read_text(encoding="utf-8"))
    return found


@pytest.mark.usefixtures("html")
@pytest.mark.parametrize(
    ("kind", "step"), [("right-next", 1), ("left-prev", -1)], ids=["next", "previous"]
)
def test_the_whole_book_is_a_chain(kind: str, step: int) -> None:
    wanted = chapters()[::step]
    for here, there in zip(wanted, [*wanted[1:], None], strict=True):
        found = [href for classes, href in links(here) if kind in classes.split()]
        assert found == [there] * bool(there)


def test_search_finds_a_page_and_leads_there(visit: Visit) -> None:
    visitor = visit()
    page = visitor.open("book/index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("glossary")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=glossary")
    page.locator("#search-results li a", has_text="Glossary").first.click()
    page.wait_for_url("**/book/glossary.html**")
    assert page.locator("article h1").inner_text().startswith("Glossary")
    assert visitor.faults == []


def test_the_button_changes_colours_and_the_next_page_remembers(visit: Visit) -> None:
    visitor = visit(scheme="light")
    page = visitor.open("book/index.html")
    theme = "document.documentElement.dataset.theme"
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    for _ in range(3):  # the button goes round: automatic, light, dark
        if page.evaluate(theme) != "dark":
            page.locator("button.theme-switch-button:visible").first.click()
    assert page.evaluate(theme) == "dark"
    assert page.evaluate(ground) != light
    visitor.open("book/notation.html")
    assert page.evaluate(theme) == "dark"


def test_a_mistyped_address_gets_the_404_page_in_full_dress(visit: Visit) -> None:
    """However deep the address, the page finds its styles, scripts and links."""
    visitor = visit()
    page = visitor.open("no/such/page.html")
    assert page.locator("article h1").inner_text() == "There is no such page"
    own = f"404: {visitor.site}no/such/page.html"
    assert [f for f in visitor.faults if not f.startswith("console:")] == [own]
    page.locator(".bd-sidebar-primary a", has_text="Glossary").click()
    page.wait_for_url("**/book/glossary.html")


def test_the_404_page_finds_the_site_wherever_it_stands(visit: Visit) -> None:
    visitor = visit()
    with serve("/some/where/") as site:
        visitor.site = site.removesuffix("some/where/")
        page = visitor.page
        page.goto(f"{site}no/such/page.html")
        page.wait_for_selector('link[href^="/some/where/_static/"]', state="attached")
        page.locator(".bd-sidebar-primary a", has_text="Glossary").click()
        page.wait_for_url(f"{site}book/glossary.html")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("attention", "book/attention.html"),
        ("feed-forward network", "book/transformer.html#the-feed-forward-network"),
    ],
)
def test_chapters_and_sections_come_first_in_the_search(
    visit: Visit, words: str, wanted: str
) -> None:
    page = visit().open(f"search.html?q={words}")
    page.wait_for_selector("#search-results li:nth-child(3) a")
    found = page.locator("#search-results li a").evaluate_all(
        "links => links.slice(0, 3).map((link) => link.getAttribute('href'))"
    )
    assert [link for link in found if "/api/" in link or "glossary" in link] == []
    assert wanted in found


@pytest.mark.usefixtures("html")
@pytest.mark.parametrize(
    "name", sorted(p.stem for p in (ROOT / "book").glob("*.ipynb"))
)
def test_launch_and_download_buttons_are_there(name: str) -> None:
    found = [href for _, href in links(f"book/{name}.html")]
    for wanted in ("mybinder.org", "colab.research.google.com", "/issues/new"):
        assert any(wanted in href for href in found), wanted
    assert any(href.endswith(f"{name}.ipynb") for href in found)
