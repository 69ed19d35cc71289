"""The quiz of each chapter, with a mouse and with the keyboard alone."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page
from visitor import Visitor

from llmcourse.classroom.quizzes import chapters

CHAPTERS = chapters()
Visit = Callable[..., Visitor]

# For each question and option: what is said when it is chosen, and which are pressed.
CHOOSE_ALL = """() => [...document.querySelectorAll(".llmcourse-quiz fieldset")].map(
  (question) => {
    const buttons = [...question.querySelectorAll("button")];
    return buttons.map((button) => {
      button.click();
      return [
        question.querySelector("[role=status]").innerText,
        [...buttons.keys()].filter((n) => buttons[n].ariaPressed === "true"),
      ];
    });
  })"""


def said(page: Page, number: int) -> str:
    """Return the line below a question."""
    return (
        page.locator(".llmcourse-quiz fieldset [role=status]").nth(number).inner_text()
    )


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_option_answers(visit: Visit, chapter: str) -> None:
    visitor = visit()
    page = visitor.open(f"book/{chapter}.html")
    first = page.locator(".llmcourse-quiz button").first
    first.click()  # by the mouse, which nothing may cover
    assert first.get_attribute("aria-pressed") == "true"
    found = page.evaluate(CHOOSE_ALL)
    assert len(found) >= 6
    for chosen in found:
        answers = [answer for answer, _ in chosen]
        assert [pressed for _, pressed in chosen] == [[n] for n in range(len(chosen))]
        assert len(set(answers)) == len(answers)
        assert sum(text.startswith("✓ Right.") for text in answers) == 1
        assert sum(text.startswith("✗ No.") for text in answers) == len(answers) - 1
    score = page.locator(".llmcourse-quiz > [role=status]").inner_text()
    assert score.endswith(f"of {len(found)} right at the first try, 0 to go")
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
