"""The model that writes in the page: by keyboard alone, and where it cannot run."""

import re
from collections.abc import Callable

import pytest
import torch
from playwright.sync_api import Browser, Page
from server import HTML, missing, pages
from visitor import Visitor

from llmcourse.model.folders import load_pretrained

Visit = Callable[..., Visitor]
PLACE = "llmcourse-writing"
WITH_MODEL = [
    path for path in pages() if f'class="{PLACE}' in (HTML / path).read_text("utf-8")
]
HOME = "book/index.html"
WEIGHTS = "**/base-llm.safetensors*"
BEGUN = "Once upon a time there was a"


def status(page: Page, wanted: str) -> str:
    """Wait until the explorer says something, and return all that it says."""
    line = page.locator(".writing [role=status]", has_text=re.compile(wanted)).first
    line.wait_for()
    return line.inner_text()


def words(page: Page) -> str:
    return page.locator(".writing textarea").first.input_value()


def begin(page: Page, text: str) -> None:
    """Type a text in place of the one that is there, and wait until it is read."""
    page.locator(".writing textarea").first.focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(text)
    page.locator(".writing .after").first.wait_for()
    page.wait_for_timeout(300)


def press(page: Page, name: str) -> None:
    """Press a button as the keyboard does."""
    button = page.locator(".writing").first.get_by_role("button", name=name, exact=True)
    button.focus()
    page.keyboard.press("Enter")


def test_the_built_site_has_places_for_the_model(html: object) -> None:
    if HOME not in WITH_MODEL:
        missing("no place for the model on the first page of the built site")


def test_the_keyboard_writes_stops_takes_and_undoes(visit: Visit) -> None:
    visitor = visit()
    page = visitor.open(HOME)
    begin(page, BEGUN)
    bar = page.locator(".writing .bars button").nth(2)
    token = bar.locator(".piece").inner_text().replace("␣", " ").replace("↵", "\n")
    bar.focus()
    page.keyboard.press("Space")
    status(page, "^Taken")
    assert words(page) == BEGUN + token
    assert bar.evaluate("e => e === document.activeElement")

    press(page, "Undo")
    status(page, "^Taken back")
    assert words(page) == BEGUN

    press(page, "Write")
    page.keyboard.press("Enter")  # the same button: Stop
    status(page, "You stopped it")
    stopped = words(page)
    assert stopped.startswith(BEGUN)
    assert len(stopped) > len(BEGUN)
    press(page, "Write")  # the same seed: as if it had not been stopped
    status(page, "The model ended its text|The window is full")
    whole = words(page)
    assert whole.startswith(stopped)
    press(page, "Undo")
    status(page, "^Taken back")
    assert words(page) == stopped
    press(page, "Undo")
    page.wait_for_function(
        "text => document.querySelector('.writing textarea').value === text", arg=BEGUN
    )
    press(page, "Write")
    status(page, "The model ended its text|The window is full")
    assert words(page) == whole
    assert visitor.faults == []


def test_what_is_typed_while_the_text_is_read_stays(visit: Visit) -> None:
    visitor = visit()
    page = visitor.open(HOME)
    begin(page, BEGUN)
    text = f"{BEGUN} {'little bird and a ' * 40}"  # takes longer to read than a turn
    page.evaluate(
        """async ([text, letter]) => {
            const area = document.querySelector(".writing textarea");
            area.value = text;
            document.querySelector(".writing button.first").click();
            await new Promise((go) => setTimeout(go));
            area.value += letter;
            area.dispatchEvent(new Event("input"));
        }""",
        [text, "ZQ"],
    )
    status(page, "The model ended its text|The window is full")
    assert words(page).startswith(f"{text}ZQ")
    assert visitor.faults == []


def test_bars_are_the_models_distribution(visit: Visit) -> None:
    """The twelve and the rest, at temperature 1, but for what eight bits change."""
    model, tokenizer = load_pretrained("base-llm")
    with torch.no_grad():
        ids = torch.tensor([[0, *tokenizer.encode(BEGUN)]])
        probs = model(ids)[0, -1].softmax(-1)
    page = visit().open(HOME)
    begin(page, BEGUN)
    temperature = page.locator(".writing input[type=range]").first
    temperature.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")  # from 0.80 to 1.00
    rows = page.locator(".writing .bars .choice").all()
    assert len(rows) == 13
    shown = [row.locator(".value").inner_text() for row in rows]
    numbers = [0.0 if text.startswith("<") else float(text[:-2]) for text in shown]
    best = probs.topk(12)
    wanted = [*best.values.tolist(), 1 - best.values.sum().item()]
    assert numbers == pytest.approx([100 * p for p in wanted], abs=1.5)
    assert sum(numbers) == pytest.approx(100, abs=1)
    first = rows[0].locator(".label").inner_text()
    (likeliest,) = tokenizer.encode(first.replace("␣", " "))
    assert probs[likeliest].item() == pytest.approx(best.values[0].item(), abs=0.005)
    assert f"all {model.config.vocab_size - 12:,} others" in rows[-1].inner_text()


def test_each_token_shows_its_surprise(visit: Visit) -> None:
    """As PyTorch gives it, from the mark before the text on, and after an edit too."""
    model, tokenizer = load_pretrained("base-llm")
    visitor = visit()
    page = visitor.open(HOME)
    begin(page, "Once upon a time there was a zebra")
    begin(page, "Once upon a time there was a brave fox")
    ids = torch.tensor([0, *tokenizer.encode("Once upon a time there was a brave fox")])
    with torch.no_grad():
        log_probs = model(ids[None])[0].log_softmax(-1)
    wanted = -log_probs[:-1].gather(1, ids[1:, None])[:, 0]
    titles = [
        piece.get_attribute("title") or ""
        for piece in page.locator(".writing .pieces .piece").all()
    ]
    shown = [float(title.split()[0]) for title in titles]
    assert shown == pytest.approx(wanted.tolist(), abs=0.1)
    said = page.locator(".writing .numbers").inner_text()
    assert said.startswith(f"{len(shown)} tokens of 511 · ")
    assert float(said.split()[5]) == pytest.approx(wanted.mean().item(), abs=0.02)
    page.locator(".writing input[type=checkbox]").focus()
    page.keyboard.press("Space")
    heated = page.locator(".writing .heated-piece")
    assert heated.count() == len(shown)
    hottest = heated.nth(shown.index(max(shown)))
    share = float(hottest.evaluate("e => e.style.getPropertyValue('--share')"))
    assert share == pytest.approx(min(1, max(shown) / 8), abs=0.01)
    assert visitor.faults == []


@pytest.mark.parametrize("path", WITH_MODEL)
def test_every_place_writes_and_can_be_read_by_anybody(
    visit: Visit, axe: str, path: str
) -> None:
    visitor = visit(scheme="light")
    page = visitor.open(path)
    assert page.locator(f".{PLACE} > .writing").count() == 1
    press(page, "One token")
    status(page, "^Taken")
    assert visitor.barriers(axe, ".writing") == []
    assert visitor.faults == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"status": 404, "body": "no such file"}, "not there .status 404"),
        ({"body": b"x" * 1000}, "ends after 1,000 of"),
    ],
)
def test_missing_weights_are_told_and_asked_for_again(
    visit: Visit, answer: dict[str, object], message: str
) -> None:
    page = visit().open(HOME)
    page.route(WEIGHTS, lambda route: route.fulfill(**answer))  # type: ignore[arg-type]
    press(page, "Write")
    assert "Press Write to try again" in status(page, message)
    page.unroute(WEIGHTS)
    press(page, "One token")
    status(page, "^Taken")


def test_damaged_weights_are_told(visit: Visit) -> None:
    """As long as they should be, but something else."""
    page = visit().open(HOME)
    size = (HTML / "_static" / "model" / "base-llm.safetensors").stat().st_size
    page.route(WEIGHTS, lambda route: route.fulfill(body=b"\xff" * size))
    press(page, "Write")
    status(page, "The model cannot be used")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Once " * 20_000, "more than 511 tokens"),
        ("one two three " * 200, "tokens; the model sees 511"),
        ("a\ud800b", "half of a character"),
    ],
    ids=["100,000 characters", "600 tokens", "a lone surrogate"],
)
def test_texts_that_cannot_be_read_are_told_and_taken_back(
    visit: Visit, text: str, message: str
) -> None:
    visitor = visit()
    page = visitor.open(HOME)
    begin(page, BEGUN)
    press(page, "One token")
    status(page, "^Taken")
    before = words(page)
    page.locator(".writing textarea").evaluate(
        "(area, codes) => { area.value = String.fromCharCode(...codes);"
        " area.dispatchEvent(new Event('input')); }"
        if len(text) < 9
        else "(area, text) => { area.value = text;"
        " area.dispatchEvent(new Event('input')); }",
        [ord(c) for c in text] if len(text) < 9 else text,
    )
    status(page, message)
    press(page, "Write")
    status(page, message)
    press(page, "Undo")
    page.wait_for_function(
        "text => document.querySelector('.writing textarea').value === text", arg=before
    )
    press(page, "One token")
    status(page, "^Taken")
    assert visitor.faults == []


def test_a_fault_goes_away_when_the_text_is_mended(visit: Visit) -> None:
    page = visit().open(HOME)
    begin(page, BEGUN)
    area = page.locator(".writing textarea").first
    area.fill("one two three " * 200)
    status(page, "tokens; the model sees 511")
    begin(page, BEGUN)
    assert page.locator(".writing .fault").count() == 0
    assert "511" not in page.locator(".writing [role=status]").first.inner_text()


def test_without_a_worker_the_page_runs_the_model_itself(visit: Visit) -> None:
    visitor = visit()
    visitor.page.add_init_script("delete window.Worker")
    page = visitor.open(HOME)
    begin(page, BEGUN)
    status(page, "cannot start a worker")
    press(page, "Write")
    page.keyboard.press("Escape")
    status(page, "You stopped it")
    assert visitor.faults == []


def test_the_model_writes_in_a_page_opened_from_a_folder(
    visit: Visit, browser: Browser, html: object
) -> None:
    visitor = Visitor(browser, HTML.as_uri() + "/", 1200, "light")
    page = visitor.page
    page.goto(visitor.site + HOME)
    press(page, "One token")
    status(page, "^Taken")
    visitor.context.close()
