"""Conversations in the page: with one model, and with three that are judged."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page
from server import HTML, missing, pages
from visitor import Visitor

from llmcourse.alignment.reward_model import load_reward_model, text_reward
from llmcourse.finetuning.chat import END_OF_TURN, Message, encode_chat
from llmcourse.model.folders import find_model

Visit = Callable[..., Visitor]
PLACES = [
    (path, kind)
    for path in pages()
    for kind in ("chat", "comparison")
    if f'class="llmcourse-{kind}' in (HTML / path).read_text("utf-8")
]
CHAT, COMPARISON = "book/instruction_tuning.html", "book/rlhf.html"
ORDER = (
    "Tell me a tale of Sara, a girl who has to carry four cookies to a sailor. It "
    "happens by the river. She likes knitting."
)


def status(page: Page, kind: str, wanted: str) -> str:
    line = page.locator(f".{kind} .status", has_text=re.compile(wanted)).first
    line.wait_for()
    return line.inner_text()


def send(page: Page, kind: str, text: str) -> Locator:
    """Type a text and press Enter; return the field."""
    area = page.locator(f".{kind} textarea").first
    area.focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(text)
    page.keyboard.press("Enter")
    return area


def test_the_built_site_has_places_for_conversations(html: object) -> None:
    if not {(CHAT, "chat"), (COMPARISON, "comparison")} <= {*PLACES}:
        missing("no place for conversations in the built site")


def test_turns_follow_each_other_and_can_be_stopped(visit: Visit) -> None:
    """The marks that are shown are those of Python's template, ids and mask."""
    _, tokenizer = load_reward_model(find_model("reward-model"))
    visitor = visit()
    page = visitor.open(CHAT)
    send(page, "chat", ORDER)
    status(page, "chat", "answers …")
    page.keyboard.press("Escape")
    status(page, "chat", "You stopped it")
    send(page, "chat", "Who is the tale about?")
    status(page, "chat", "ended its turn")
    turns = page.locator(".turns > li")
    contents = [turn.locator("p").inner_text() for turn in turns.all()]
    assert contents[::2] == [ORDER, "Who is the tale about?"]
    messages = [
        Message(("user", "assistant")[i % 2], text) for i, text in enumerate(contents)
    ]
    _, mask = encode_chat(messages, tokenizer)
    # What the model wrote it may have cut in other pieces than its tokenizer would. It
    # may write a mark, too, after a turn that broke off: no content has it.
    written = "".join(page.locator(".chat .piece.written").all_inner_texts())
    wanted = "".join(text + END_OF_TURN for text in contents[1::2])
    marks = "|".join(map(re.escape, {*tokenizer.special_tokens} - {END_OF_TURN}))
    assert re.sub(rf"[\s␣]|{marks}", "", written) == re.sub(r"\s", "", wanted)
    assert page.locator(".chat .piece:not(.written)").count() == mask.count(False)
    button = page.locator(".chat").get_by_role("button", name="New conversation")
    button.focus()
    page.keyboard.press("Enter")
    status(page, "chat", "A new conversation")
    assert turns.count() == 0
    assert visitor.faults == []


def test_hasty_readers_lose_nothing(visit: Visit) -> None:
    """They type while the model answers, click twice, and ask the same once more."""
    visitor = visit()
    page = visitor.open(CHAT)
    examples = page.locator(".chat select")
    button = page.locator(".chat button.first")
    examples.select_option(index=1)
    examples.focus()
    button.dblclick()  # sends, and does not stop at once
    page.locator(".turns > li").first.wait_for()
    area = page.locator(".chat textarea")
    area.press_sequentially("Who is", delay=60)
    status(page, "chat", "ended its turn|window is full")
    assert area.input_value() == "Who is"
    area.dispatch_event("keydown", {"key": "Enter", "keyCode": 229})  # Safari's
    assert area.input_value() == "Who is"
    assert page.locator(".turns > li").count() == 2
    assert examples.input_value() == ""  # the same can be chosen again

    page.locator(".chat").get_by_role("button", name="New conversation").click()
    send(page, "chat", ORDER)
    page.locator(".turns > li").first.wait_for()
    button.dblclick()
    status(page, "chat", "You stopped it")
    page.wait_for_timeout(300)
    status(page, "chat", "You stopped it")
    assert visitor.faults == []


def test_rewards_are_those_of_python(visit: Visit) -> None:
    """But for what eight bits change, in the judge and in its reader."""
    judge, tokenizer = load_reward_model(find_model("reward-model"))
    visitor = visit()
    page = visitor.open(COMPARISON)
    send(page, "comparison", ORDER)
    status(page, "comparison", "prefers the answer")
    panels = page.locator(".answers .panel").all()
    texts = [panel.locator(".answer").inner_text() for panel in panels]
    said = [panel.locator(".numbers").inner_text() for panel in panels]
    rewards = [float(text.split()[1].replace("−", "-")) for text in said]
    wanted = text_reward(judge, tokenizer)([ORDER] * 3, texts).tolist()
    assert rewards == pytest.approx(wanted, abs=0.1)
    best = page.locator(".answers .panel.best strong").inner_text()
    assert (
        best == ("base-llm", "instruct-llm", "aligned-llm")[rewards.index(max(rewards))]
    )
    assert visitor.faults == []


@pytest.mark.parametrize(("path", "kind"), PLACES)
def test_every_place_can_be_read_by_anybody(
    visit: Visit, axe: str, path: str, kind: str
) -> None:
    """By keyboard alone; a model is asked only in its chapter, for that takes long."""
    visitor = visit(scheme="light")
    page = visitor.open(path)
    if path == CHAT:
        send(page, "chat", "Who?")
        status(page, "chat", "ended its turn|window is full")
    controls = page.locator(f".{kind}").locator("select, input, textarea, button").all()
    controls[0].focus()
    for control in controls[:-1]:
        assert control.evaluate("e => e === document.activeElement")
        page.keyboard.press("Tab")
    assert visitor.barriers(axe, f".{kind}") == []
    assert visitor.faults == []


def test_what_cannot_be_answered_is_told(visit: Visit) -> None:
    """Nothing, too much, half of a character; a model that is not there."""
    page = visit().open(CHAT)
    for text, message in (
        (" ", "nothing to answer"),
        ("Once " * 20_000, "more than 511 tokens"),
        ("one two three " * 200, "tokens; the model sees 511"),
    ):
        send(page, "chat", text)
        status(page, "chat", message)
    area = page.locator(".chat textarea")
    area.evaluate("area => { area.value = 'a' + String.fromCharCode(0xd800); }")
    area.press("Enter")
    status(page, "chat", "half of a character")

    page = visit().open(COMPARISON)
    page.route("**/instruct-llm.safetensors*", lambda r: r.fulfill(status=404, body=""))
    send(page, "comparison", ORDER)
    status(
        page, "comparison", "not there .status 404.*Press Ask all three to try again"
    )
    page.unroute("**/instruct-llm.safetensors*")
    page.locator(".comparison").get_by_role("button", name="Ask all three").press(
        "Enter"
    )
    # It goes on to the others within a second: any later word will do.
    status(page, "comparison", "(instruct|aligned)-llm answers|reward-model")
