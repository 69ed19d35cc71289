"""A chapter as slides: the keys, what a slide shows, and the way back to the page."""

from collections.abc import Callable

import pytest
from visitor import Visitor

Visit = Callable[..., Visitor]
PLACE = ".slides-bar [role=status]"
SEEN = """() => [...document.querySelectorAll("article .on-slide")]
    .filter((e) => e.getBoundingClientRect().height > 0).map((e) => e.localName)"""
HIDDEN = "!document.documentElement.classList.contains('slides')"


@pytest.mark.parametrize("path", ["attention", "reward_hacking"])
def test_every_slide_shows_something_and_none_is_wider_than_the_window(
    visit: Visit, path: str
) -> None:
    visitor = visit(width=1280)
    page = visitor.open(f"book/{path}.html#slides-1")
    number, total = map(int, page.inner_text(PLACE).split(" / "))
    assert number == 1
    assert 20 < total < 120
    for number in range(1, total + 1):
        assert page.inner_text(PLACE) == f"{number} / {total}"
        seen = page.evaluate(SEEN)
        assert seen[0] in ("h1", "h2", "h3", "h4")
        assert len(seen) > 1, f"slide {number} has a heading alone"
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        page.keyboard.press("ArrowRight")
        if page.locator("details.on-slide[open]").count() and number < total:
            page.keyboard.press("ArrowRight")  # the first opened an answer
    assert visitor.faults == []


def test_a_formula_comes_with_the_sentence_that_it_belongs_to(visit: Visit) -> None:
    page = visit(width=1280).open("book/corpus.html#slides-1")
    formulas = 0
    number, total = page.inner_text(PLACE).split(" / ")
    while number != total:
        if page.locator("div.formula.on-slide").count():
            formulas += 1
            assert page.locator("p.on-slide").count(), f"slide {number}"
        page.keyboard.press("ArrowRight")
        number, _ = page.inner_text(PLACE).split(" / ")
    assert formulas > 2


def test_keys_and_the_way_back(visit: Visit, axe: str) -> None:
    visitor = visit(width=1280)
    page = visitor.open("book/reward_hacking.html")
    before = page.inner_text("article")
    page.get_by_role("link", name="slides", exact=True).click()
    page.wait_for_selector(PLACE)
    page.keyboard.press("PageDown")
    assert page.inner_text(PLACE).startswith("2 / ")
    assert page.url.endswith("#slides-2")
    page.keyboard.press("n")
    assert page.locator(".slides-notes").is_visible()
    assert visitor.barriers(axe) == []
    page.keyboard.press("ArrowLeft")
    assert page.inner_text(PLACE).startswith("1 / ")
    page.keyboard.press("End")
    first, last = page.inner_text(PLACE).split(" / ")
    assert first == last
    page.keyboard.press("Escape")
    page.wait_for_function(HIDDEN)
    assert page.url.endswith("#quiz")
    page.set_viewport_size({"width": 1280, "height": 900})  # from a phone's
    # The page is laid out anew, on a busy machine a little later.
    same = "(text) => document.querySelector('article').innerText === text"
    page.wait_for_function(same, arg=before)


def test_a_question_is_opened_before_the_next_slide(visit: Visit) -> None:
    page = visit(width=1280).open("book/reward_hacking.html#slides-1")
    while not page.locator("details.on-slide").count():
        page.keyboard.press("ArrowRight")
    here = page.inner_text(PLACE)
    page.keyboard.press("ArrowRight")
    assert page.inner_text(PLACE) == here
    assert page.locator("details.on-slide[open]").count() == 1
    page.locator("details.on-slide summary").click()  # closes it, and has the focus
    page.keyboard.press("ArrowRight")
    assert page.locator("details.on-slide[open]").count() == 1
    page.keyboard.press("ArrowRight")
    assert page.inner_text(PLACE) != here


def test_a_link_to_another_place_of_the_page_leads_there(visit: Visit) -> None:
    visitor = visit(width=1280)
    page = visitor.open("book/reward_hacking.html#slides-3")
    page.wait_for_selector(PLACE)
    page.evaluate("location.hash = 'takeaways'")
    page.wait_for_function(HIDDEN)
    assert page.url.endswith("#takeaways")
    top = page.evaluate(
        "document.getElementById('takeaways').getBoundingClientRect().top"
    )
    assert abs(top) < 200
    page.evaluate("location.hash = 'slides-3'")
    page.wait_for_function(f"!({HIDDEN})")
    page.evaluate("location.hash = '100%'")
    page.wait_for_function(HIDDEN)
    assert visitor.faults == []


def test_arrows_in_an_explorer_belong_to_it(visit: Visit) -> None:
    page = visit(width=1280).open("book/reward_hacking.html#slides-1")
    while not page.locator(".on-slide .llmcourse-explorer").count():
        page.keyboard.press("ArrowRight")
        if page.locator("details.on-slide[open]").count():
            page.keyboard.press("ArrowRight")
    here = page.inner_text(PLACE)
    page.locator(".on-slide .llmcourse-explorer input[type=range]").first.press(
        "ArrowRight"
    )
    assert page.inner_text(PLACE) == here
