"""A sentence of the reader's own, read in the page: by keyboard, and what is shown."""

import re
from collections.abc import Callable

import pytest
import torch
from playwright.sync_api import Locator, Page
from server import HTML, missing, pages
from visitor import Visitor

from llmcourse.model.attention import attention_weights
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import hidden_states

Visit = Callable[..., Visitor]
PLACE = "llmcourse-sentence"
WITH_SENTENCE = [
    path for path in pages() if f'class="{PLACE}' in (HTML / path).read_text("utf-8")
]
PAGE = "book/attention.html"
TEXT = "Once there was a girl named Ella. One day Ella"


def explorer(page: Page) -> Locator:
    return page.locator(".own-sentence").first


def status(page: Page, wanted: str) -> str:
    line = explorer(page).locator(".status", has_text=re.compile(wanted))
    line.wait_for()
    return line.inner_text()


def read(page: Page, text: str) -> None:
    """Type a sentence and have it read, as the keyboard does."""
    explorer(page).locator("textarea").focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(text)
    page.keyboard.press("Enter")


def show(page: Page, sight: int) -> None:
    """Choose what is shown: 0 attention, 1 surprise, 2 each block's guesses."""
    choice = explorer(page).locator("select").first
    choice.focus()
    page.keyboard.press("Home")
    for _ in range(sight):
        page.keyboard.press("ArrowDown")


def test_the_built_site_has_places_for_a_sentence(html: object) -> None:
    if PAGE not in WITH_SENTENCE:
        missing("no place for a sentence in the chapter on attention")


def test_a_very_long_word_stays_in_the_page(visit: Visit) -> None:
    page = visit().open(PAGE)
    read(page, "z" * 60)
    status(page, "tokens read")
    for sight in range(3):
        show(page, sight)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= page.viewport_size["width"], sight


def test_what_is_shown_is_what_python_computes(visit: Visit) -> None:
    """The weights of a head, the surprise of a word, the guesses after each block."""
    model, tokenizer = load_pretrained("base-llm")
    ids = torch.tensor([0, *tokenizer.encode(TEXT)])
    weights = attention_weights(model, ids)
    with torch.no_grad():
        log_probs = model(ids[None])[0].log_softmax(-1)
        lens = model.norm(hidden_states(model, ids)) @ model.embedding.weight.T
    visitor = visit()
    page = visitor.open(PAGE)
    read(page, TEXT)
    status(page, f"^{len(ids) - 1} tokens read")

    box = explorer(page)
    sliders = box.locator("input[type=range]")
    layer, head, query = (int(one.input_value()) - 1 for one in sliders.all())
    sliders.nth(1).focus()
    page.keyboard.press("ArrowLeft" if head else "ArrowRight")
    head += -1 if head else 1
    best = weights[layer, head, query].topk(1)
    said = box.locator(".readout").inner_text()
    shown = int(re.search(r"(\d+) %", said)[1])  # type: ignore[index]
    assert shown == pytest.approx(100 * best.values.item(), abs=1)

    show(page, 1)
    word = box.locator("input[type=range]")
    word.focus()
    page.keyboard.press("End")
    surprise = -log_probs[-2, ids[-1]].item()
    assert float(box.locator(".readout").inner_text().split()[1]) == pytest.approx(
        surprise, rel=0.03
    )

    show(page, 2)
    box.locator("input[type=range]").focus()
    page.keyboard.press("End")
    guesses = box.locator(".states > li").all()
    assert len(guesses) == len(lens)
    for row, logits in zip(guesses, lens[:, -1], strict=True):
        first = row.locator(".guess .piece").first.inner_text().replace("␣", " ")
        p = logits.softmax(-1)[tokenizer.encode(first)[0]].item()
        assert p == pytest.approx(logits.softmax(-1).max().item(), abs=0.02)
    assert visitor.faults == []


@pytest.mark.parametrize("path", WITH_SENTENCE)
def test_every_place_can_be_read_by_anybody(visit: Visit, axe: str, path: str) -> None:
    """Each of the three sights, by keyboard alone, light and dark."""
    visitor = visit(scheme="light")
    page = visitor.open(path)
    button = explorer(page).get_by_role("button", name="Read", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    status(page, "tokens read")
    for sight in range(3):
        show(page, sight)
        controls = explorer(page).locator("select, input, textarea, button").all()
        controls[0].focus()
        for control in controls:
            assert control.evaluate("e => e === document.activeElement")
            page.keyboard.press("Tab")
    page.keyboard.press("Escape")  # a preview of the link that follows
    button.focus()
    assert visitor.barriers(axe, ".own-sentence") == []
    assert visitor.faults == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to read"),
        ("Once " * 20_000, "more than 64 tokens"),
        ("one two " * 60, "explorer shows 64"),
        ("a\ud800b", "half of a character"),
    ],
    ids=["empty", "100,000 characters", "too many tokens", "a lone surrogate"],
)
def test_what_cannot_be_read_is_told(visit: Visit, text: str, message: str) -> None:
    page = visit().open(PAGE)
    area = explorer(page).locator("textarea")
    area.evaluate(
        "(area, codes) => { area.value = String.fromCharCode(...codes); }"
        if len(text) < 9
        else "(area, text) => { area.value = text; }",
        [ord(c) for c in text] if len(text) < 9 else text,
    )
    area.press("Enter")
    status(page, message)
    read(page, "Once שלום 🙂")
    status(page, "tokens read")
    for sight in range(3):
        show(page, sight)
        assert explorer(page).locator(".seen .llmcourse-explorer").count() == 1
