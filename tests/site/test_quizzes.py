"""The quiz of each chapter, with a mouse and with the keyboard alone."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page
from visitor import Visitor

from llmcourse.classroom.quizzes import chapters

CHAPTERS = chapters()
Visit = Callable[..., Visitor]


def said(page: Page, number: int) -> str:
    """Return the line below a question."""
    return (
        page.locator(".llmcourse-quiz fieldset [role=status]").nth(number).inner_text()
    )


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_option_answers(visit: Visit, chapter: str) -> None:
    visitor = visit()
    page = visitor.open(f"book/{chapter}.html")
    boxes = page.locator(".llmcourse-quiz fieldset")
    assert boxes.count() >= 6
    for number in range(boxes.count()):
        buttons = boxes.nth(number).locator("button")
        answers = []
        for place in range(buttons.count()):
            buttons.nth(place).click()
            answers.append(said(page, number))
            assert buttons.nth(place).get_attribute("aria-pressed") == "true"
            pressed = boxes.nth(number).locator("button[aria-pressed=true]")
            assert pressed.count() == 1
        assert len(set(answers)) == len(answers)
        assert sum(text.startswith("✓ Right.") for text in answers) == 1
        assert sum(text.startswith("✗ No.") for text in answers) == len(answers) - 1
    score = page.locator(".llmcourse-quiz > [role=status]").inner_text()
    assert score.endswith(f"of {boxes.count()} right at the first try, 0 to go")
    assert visitor.faults == []


def test_keyboard_alone(visit: Visit) -> None:
    """Tab goes from option to option, and nothing is chosen before Enter or Space."""
    page = visit().open("book/tokenization.html")
    page.locator(".llmcourse-quiz button").first.focus()
    page.keyboard.press("Tab")
    second = page.locator(".llmcourse-quiz button").nth(1)
    assert second.evaluate("button => button === document.activeElement")
    assert said(page, 0) == ""
    page.keyboard.press("Space")
    assert second.get_attribute("aria-pressed") == "true"
    assert said(page, 0) != ""
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    first = page.locator(".llmcourse-quiz button").first
    assert first.get_attribute("aria-pressed") == "true"
    score = page.locator(".llmcourse-quiz > [role=status]").inner_text()
    assert score.startswith(("0 of 1", "1 of 1"))  # the second try does not count
