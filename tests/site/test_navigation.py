"""A reader gets around: next, previous, search, colours, a mistyped address."""

from collections.abc import Callable

from server import ROOT
from visitor import Visitor

Visit = Callable[..., Visitor]
NEXT, PREVIOUS = ".prev-next-area a.right-next", ".prev-next-area a.left-prev"


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


def test_next_leads_through_the_whole_book_and_previous_back(visit: Visit) -> None:
    visitor = visit()
    page = visitor.open("index.html")
    page.wait_for_url("**/book/index.html")
    seen = []
    for selector in (NEXT, PREVIOUS):
        seen.append(page.url.removeprefix(visitor.site))
        while page.locator(selector).count():
            with page.expect_navigation():
                page.locator(selector).click()
            seen.append(page.url.removeprefix(visitor.site))
    forth = chapters()
    assert seen == forth + forth[::-1]
    assert visitor.faults == []


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


def test_launch_and_download_buttons_are_there(visit: Visit) -> None:
    visitor = visit()
    notebooks = sorted((ROOT / "book").glob("*.ipynb"))
    for notebook in notebooks:
        page = visitor.open(f"book/{notebook.stem}.html")
        links = page.locator("a").evaluate_all("all => all.map((a) => a.href)")
        for wanted in ("mybinder.org", "colab.research.google.com", "/issues/new"):
            assert any(wanted in link for link in links), wanted
        assert any(link.endswith(f"{notebook.stem}.ipynb") for link in links)
