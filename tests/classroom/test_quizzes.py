"""Quizzes: read, shown, written for learning platforms; objectives that hold."""

import html
import importlib.util
import re
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from llmcourse.classroom import quizzes
from llmcourse.classroom.assignments import grade_id, points, read_source
from llmcourse.classroom.quizzes import Objective, Option, Question, Quiz

ROOT = Path(__file__).parents[2]
CHAPTERS = [
    path.stem
    for path in sorted((ROOT / "book" / "src").glob("*.py"))
    if "You will be able to" in path.read_text(encoding="utf-8")
]
QUIZ = Quiz(
    chapter="small",
    objectives=[Objective(text="count", exercises=[1], tasks=["test-count"])],
    questions=[
        Question(
            objective=1,
            text="What is printed for `a < b`, at $5 *each*?",
            code="for x in range(2):\n    print(x)",
            right=Option("`0` & `1`", "A range ends before its end."),
            wrong=[Option("1_2", "It begins at 0."), Option("[0]", "It goes to 1.")],
        ),
        Question(
            objective=1,
            text="And now?",
            right=Option("Yes.", "So it is."),
            wrong=[Option("No.", "It is."), Option("Perhaps.", "It is for sure.")],
        ),
    ],
    assignment="small",
)


class Page(HTMLParser):
    """The texts of a page, by the tag that they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.right: list[str] = []
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("code", "b"):
            self.stack.append(tag)
            self.texts.setdefault(tag, []).append("")
        self.right += [value or "" for name, value in attrs if name == "data-right"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("code", "b"):
            assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack:
            self.texts[self.stack[-1]][-1] += data


def test_page_has_every_question_with_one_right_option() -> None:
    page = Page(QUIZ._repr_html_())
    asked = ["What is printed for a < b, at $5 *each*?", "And now?"]
    assert page.texts["legend"] == [f"{n}. {text}" for n, text in enumerate(asked, 1)]
    assert page.texts["pre"] == [QUIZ.questions[0].code]
    options = [option for one in QUIZ.questions for option in one.options]
    texts = [option.text.replace("`", "") for option in options]
    assert page.texts["button"] == texts
    # Folded where JupyterLab drops `hidden`: in a notebook that has not run here.
    assert page.texts["details"] == [option.reason for option in options]
    rights = [question.right for question in QUIZ.questions]
    assert page.right == [str(int(option in rights)) for option in options]


def test_options_are_shuffled_the_same_way_each_time() -> None:
    assert QUIZ.questions[0].options == QUIZ.questions[0].options
    all_read = [q for name in quizzes.chapters() for q in Quiz.read(name).questions]
    places = [question.options.index(question.right) for question in all_read]
    assert {0, 1, 2} <= set(places)
    assert max(places.count(place) for place in set(places)) < 0.5 * len(places)


def test_moodle_has_points_and_a_reason_for_each_option(tmp_path: Path) -> None:
    root = ElementTree.parse(quizzes.write_moodle(QUIZ, tmp_path / "a.xml")).getroot()
    category, first, second = root
    assert category.findtext("category/text") == "$course$/top/llmcourse/small"
    text = first.findtext("questiontext/text")
    assert text is not None
    assert "<code>a &lt; b</code>" in text
    assert "<pre>for x in range(2):\n    print(x)</pre>" in text
    assert len(second.findall("answer")) == 3
    answers = {
        answer.findtext("text"): (
            answer.get("fraction"),
            answer.findtext("feedback/text"),
        )
        for answer in first.findall("answer")
    }
    assert answers == {
        "<code>0</code> &amp; <code>1</code>": ("100", "A range ends before its end."),
        "1_2": ("0", "It begins at 0."),
        "[0]": ("0", "It goes to 1."),
    }


@pytest.mark.parametrize(
    "text",
    [
        "e^(r/β)",
        "x~y, a_b, 2*3*4",
        "a<b>c &amp; d",
        "1. First",
        "# no head",
        "#1 is best",
        "- x",
        "$5$",
    ],
)
def test_qti_has_a_text_as_it_is(tmp_path: Path, text: str) -> None:
    pytest.importorskip("text2qti")
    right = Option(text, "So it is.")
    quiz = replace(QUIZ, questions=[replace(QUIZ.questions[1], right=right)])
    with zipfile.ZipFile(quizzes.write_qti(quiz, tmp_path / "a.zip")) as archive:
        (name,) = (
            n for n in archive.namelist() if re.search(r"ment_[0-9a-f]+\.xml", n)
        )
        root = ElementTree.fromstring(archive.read(name))
    found = [each.text or "" for each in root.iter() if each.tag.endswith("mattext")]
    assert text in [html.unescape(one[3:-4]) for one in found if one[:3] == "<p>"]


def test_qti_says_which_option_is_right(tmp_path: Path) -> None:
    pytest.importorskip("text2qti")
    with zipfile.ZipFile(quizzes.write_qti(QUIZ, tmp_path / "a.zip")) as archive:
        names = archive.namelist()
        assert "imsmanifest.xml" in names
        (name,) = (n for n in names if re.search(r"assessment_[0-9a-f]+\.xml", n))
        root = ElementTree.fromstring(archive.read(name))
    space = {"q": root.tag.partition("}")[0].strip("{")}
    first, second = root.findall(".//q:item", space)
    texts = {}
    for label in first.findall(".//q:response_label", space):
        texts[label.get("ident")] = label.findtext(".//q:mattext", "", space)
    assert sorted(texts.values()) == [
        "<p>1_2</p>",
        "<p><code>0</code> &amp; <code>1</code></p>",
        "<p>[0]</p>",
    ]
    (scored,) = (
        condition
        for condition in first.findall(".//q:respcondition", space)
        if condition.find("q:setvar", space) is not None
    )
    right = scored.findtext(".//q:varequal", "", space)
    assert texts[right] == "<p><code>0</code> &amp; <code>1</code></p>"
    asked = first.findtext("q:presentation/q:material/q:mattext", "", space)
    assert "<code>a &lt; b</code>, at $5 *each*?" in asked
    assert "for x in range(2):\n    print(x)\n" in asked
    assert "So it is." in "".join(second.itertext())


def test_a_quiz_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="chapter must be 'attention' or .*'poetry'"):
        Quiz.read("poetry")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_questions_are_of_one_form(chapter: str) -> None:
    quiz = Quiz.read(chapter)
    assert 6 <= len(quiz.questions) <= 8
    for question in quiz.questions:
        assert 2 <= len(question.wrong) <= 3, question.text
        assert len(set(question.options)) == len(question.options), question.text
        texts = [
            question.text,
            *(text for one in question.options for text in (one.text, one.reason)),
        ]
        assert all(text.strip() for text in texts), question.text
        assert not any("$" in text for text in texts), "TeX is not set in a quiz"
    longest = [
        question
        for question in quiz.questions
        if all(len(question.right.text) > len(one.text) for one in question.wrong)
    ]
    assert len(longest) <= len(quiz.questions) / 2  # else length tells the answer


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_objective_has_an_exercise_a_question_and_a_task(chapter: str) -> None:
    quiz = Quiz.read(chapter)
    source = (ROOT / "book" / "src" / f"{chapter}.py").read_text(encoding="utf-8")
    listed = source.split("You will be able to")[1].split("**You need**")[0]
    said = [text.rstrip(",;.") for text in re.findall(r"^# - (.*)$", listed, re.M)]
    assert [objective.text for objective in quiz.objectives] == said
    exercises = {int(n) for n in re.findall(r"^# ### Exercise (\d+)", source, re.M)}
    assignment = read_source(ROOT / "tests" / "assignments" / f"{quiz.assignment}.py")
    tasks = {grade_id(cell) for cell in assignment.cells if points(cell)}
    for objective in quiz.objectives:
        assert objective.exercises, objective.text
        assert objective.tasks, objective.text
        assert set(objective.tasks) <= tasks, objective.text
    practised = {n for objective in quiz.objectives for n in objective.exercises}
    assert practised == exercises
    asked = {question.objective for question in quiz.questions}
    assert asked == set(range(1, len(quiz.objectives) + 1))
    assert source.count(f'Quiz.read("{chapter}")') == 1


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "book" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_objectives_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "book")
    page = (ROOT / "book" / "objectives.md").read_text(encoding="utf-8")
    assert load("notebooks").with_objectives(page) == page
