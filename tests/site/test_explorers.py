"""Every widget on every page answers the keyboard, with no kernel behind it."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page
from server import HTML, missing, pages
from visitor import Visitor

from llmcourse.studies import stored_study

Visit = Callable[..., Visitor]
EXPLORER = (
    ".llmcourse-explorer:not(.in-page, .in-page *)"  # those: test_writing.py, ...
)
SHOWN = """(element) => element.innerText + [...element.querySelectorAll("[style]")]
    .map((e) => e.getAttribute("style")) + element.className"""
VIEW = "application/vnd.jupyter.widget-view+json"
GALLERY = "book/explorers.html"
VIEWS = {path: (HTML / path).read_text("utf-8").count(VIEW) for path in pages()}
WITH_WIDGETS = [path for path, views in VIEWS.items() if views and path != GALLERY]


def press(control: Locator) -> None:
    """Move a control by the keyboard, as far as it takes to have an effect."""
    control.focus()
    kind = control.get_attribute("type") or control.evaluate("e => e.localName")
    if kind in ("range", "select"):
        at_end = control.evaluate(
            "e => e.localName === 'select' ? e.selectedIndex === e.length - 1"
            " : e.value === e.max"
        )
        control.press("ArrowLeft" if at_end else "ArrowRight")
    elif kind == "number":
        control.press("ArrowUp")
    elif kind == "textarea":
        control.press_sequentially("be")
    else:
        control.press("Space" if kind == "checkbox" else "Enter")


def test_the_built_site_has_widgets_to_test(html: object) -> None:
    if not WITH_WIDGETS:
        missing("no page of the built site has a widget")


def test_the_gallery_shows_all_of_them(visit: Visit) -> None:
    visitor = visit()
    page = visitor.open(GALLERY)
    assert VIEWS[GALLERY] == sum(VIEWS[path] for path in WITH_WIDGETS)
    page.wait_for_function(
        f"document.querySelectorAll('{EXPLORER}').length == {VIEWS[GALLERY]}"
    )
    assert visitor.faults == []


@pytest.mark.parametrize("path", WITH_WIDGETS)
def test_each_control_of_each_explorer_changes_what_is_shown(
    visit: Visit, path: str
) -> None:
    visitor = visit()
    page = visitor.open(path)
    for number, explorer in enumerate(page.locator(EXPLORER).all()):
        controls = explorer.locator("select, input, textarea, button")
        for control in controls.all():
            if control.is_disabled():
                continue
            before = explorer.evaluate(SHOWN)
            press(control)
            what = f"explorer {number}: {control.evaluate('e => e.outerHTML')[:90]}"
            assert explorer.evaluate(SHOWN) != before, f"no effect: {what}"
    assert visitor.faults == []


@pytest.mark.parametrize("path", WITH_WIDGETS)
def test_tab_reaches_every_control_and_each_has_a_name(visit: Visit, path: str) -> None:
    page = visit().open(path)
    for explorer in page.locator(EXPLORER).all():
        controls = explorer.locator("select, input, textarea, button")
        wanted = [c for c in controls.all() if not c.is_disabled()]
        wanted[0].focus()
        for control in wanted:
            assert control.evaluate("e => e === document.activeElement")
            assert name_of(page), control.evaluate("e => e.outerHTML")
            page.keyboard.press("Tab")


def name_of(page: Page) -> str:
    """Return what the focused control is called by its label or its text."""
    return page.evaluate(
        "() => { const e = document.activeElement;"
        " return (e.labels?.[0] ?? e).textContent.trim(); }"
    )


def test_ranks_and_rates_show_what_the_study_found(visit: Visit) -> None:
    """Both lines, for every rank and every rate, chosen by the keyboard."""
    points = stored_study("finetuning", dict).points
    points = tuple(p for p in points if p["task"] == "pronoun")
    ranks = sorted({p["rank"] for p in points if p["rank"]})
    rates = sorted({p["rate"] for p in points})

    def means(rank: int | None, rate: float) -> tuple[str, str]:
        found = [p for p in points if (p["rank"], p["rate"]) == (rank, rate)]
        right, more = (
            sum(p[k] for p in found) / len(found) for k in ("right", "tales")
        )
        share = f"{right:.1%}".replace(".0%", "%").replace("%", " % right")
        nats = f"{more:+.2f}" if abs(more) >= 0.005 else "0.00"
        return share, nats.replace("-", "−") + " nats/token"

    visitor = visit()
    page = visitor.open("book/fine_tuning.html")
    explorer = page.locator(EXPLORER)
    controls = explorer.locator("input").all()
    for control in controls:
        control.press("Home")
    for k, rank in enumerate(ranks):
        if k:
            controls[0].press("ArrowRight")
        for n, rate in enumerate(rates):
            for control in controls[1:]:
                control.press("ArrowRight" if n else "Home")
            wanted = (*means(rank, rate), *means(None, rate))
            shown = explorer.locator(".sentence strong").all_inner_texts()
            assert tuple(shown) == wanted, (rank, rate)
            label = explorer.locator("svg").first.get_attribute("aria-label")
            assert label is not None
            assert f"{wanted[0].removesuffix(' right')} at " in label
    assert visitor.faults == []


@pytest.mark.parametrize(
    "path", ["context_window", "retrieval", "deployment", "tokenization"]
)
def test_what_cannot_be_read_is_told_and_nothing_dies(visit: Visit, path: str) -> None:
    """Nothing, far too much, half of a character; then what can be read again."""
    visitor = visit()
    page = visitor.open(f"book/{path}.html")
    explorer = page.locator(EXPLORER, has=page.locator(".fault")).first
    area = explorer.locator("textarea").first
    fault = explorer.locator(".fault").first
    good = area.input_value()
    for text in ("''", "'one two '.repeat(12500)", "'\\ud800'"):  # as JavaScript
        area.evaluate(f"(area) => (area.value = {text})")
        area.dispatch_event("input")
        assert len(fault.inner_text()) > 20, text
    for text in ("0 20 7" if path == "deployment" else "🙂 שלום עולם", good):
        area.fill(text)
        assert fault.inner_text() == ""
    assert visitor.faults == []


@pytest.mark.parametrize("path", ["retrieval", "deployment"])
def test_an_example_can_be_chosen_again_after_an_edit(visit: Visit, path: str) -> None:
    page = visit().open(f"book/{path}.html")
    explorer = page.locator(EXPLORER).first
    name = "Questions" if path == "retrieval" else "Examples"
    area = explorer.locator("textarea").last
    good = area.input_value()
    area.fill("0 20 7")
    explorer.get_by_label(name).press("ArrowDown")  # from none to the first
    assert area.input_value() == good


def test_places_of_passages_are_counted_in_characters(visit: Visit) -> None:
    explorer = visit().open("book/retrieval.html").locator(EXPLORER).first
    text = "🙂🙂 An owl."
    explorer.locator("textarea").first.fill(text)
    explorer.get_by_label("Search for").fill("owl")
    label = explorer.locator(".passages .bars .label").inner_text()
    assert label == f"0–{len(text)}"
