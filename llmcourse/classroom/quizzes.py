"""Quizzes: a few questions a chapter, with a reason for each option.

A quiz is a TOML file in `llmcourse/data/quizzes`. It begins with the chapter's
objectives, and says where each is practised:

    [[objectives]]
    text = "train byte-pair encoding by hand"
    exercises = [1, 2]            # of the chapter
    tasks = ["merge", "learn"]    # of the assignment

    [[questions]]
    objective = 1                 # the first one above
    text = "What does one `merge` do?"
    code = "optional, shown as a block"
    right = ["An option.", "Why it is right."]
    wrong = [["Another.", "Why it is wrong."], ["A third.", "Why."]]

A notebook shows what `Quiz.read` returns; this works on the site as well, without a
kernel. `write_moodle` and `write_qti` write it for a learning platform.
"""

import html
import random
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from llmcourse.arguments import check_one_of
from llmcourse.classroom.pages import render
from llmcourse.files import DATA, new_file, write_file

FOLDER = DATA / "quizzes"
CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Option:
    """An answer that can be chosen.

    Attributes:
        text: What it says.
        reason: Why it is right, or wrong.
    """

    text: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a reader of the chapter will be able to do.

    Attributes:
        text: Its wording in the chapter's first cell.
        exercises: The numbers of the exercises that practise it.
        tasks: The names of the assignment's tests and questions on it.
    """

    text: str
    exercises: list[int]
    tasks: list[str]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with one right answer.

    Attributes:
        objective: The number of the objective it tests, from 1.
        text: The question, with code between backticks.
        code: Lines of code or text to be shown below it.
        right: The right answer.
        wrong: The others.
    """

    objective: int
    text: str
    right: Option
    wrong: Sequence[Option]
    code: str = ""

    @property
    def options(self) -> list[Option]:
        """All answers, in an order that depends on the question alone."""
        options = [self.right, *self.wrong]
        random.Random(self.text).shuffle(options)
        return options


@dataclass(frozen=True, kw_only=True, repr=False)
class Quiz:
    """A chapter's questions.

    Attributes:
        chapter: The chapter's name.
        objectives: What the chapter teaches.
        questions: In the order in which they are asked.
        assignment: The name of the assignment that belongs to it.
    """

    chapter: str
    objectives: list[Objective]
    questions: list[Question]
    assignment: str

    @classmethod
    def read(cls, chapter: str) -> "Quiz":
        """Return a chapter's quiz.

        Raises:
            ValueError: If there is none.

        >>> Quiz.read("tokenization").chapter
        'tokenization'
        """
        check_one_of("chapter", chapter, chapters())
        table = tomllib.loads((FOLDER / f"{chapter}.toml").read_text(encoding="utf-8"))
        questions = [
            Question(
                **{**one, "right": Option(*one["right"])}
                | {"wrong": [Option(*pair) for pair in one["wrong"]]}
            )
            for one in table["questions"]
        ]
        return cls(
            chapter=chapter,
            objectives=[Objective(**one) for one in table["objectives"]],
            questions=questions,
            assignment=table.get("assignment", chapter),
        )

    def __repr__(self) -> str:
        return f"Quiz of {self.chapter}: {len(self.questions)} questions"

    def _repr_html_(self) -> str:
        """Return the quiz as HTML: buttons, and a line that gives the reason."""
        questions = self.questions
        return render("quiz.html", questions=questions, html=_html, block=_block)


def chapters() -> list[str]:
    """Return the chapters that have a quiz."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def _html(text: str) -> str:
    """Return a line of text as HTML; its only markup is code between backticks."""
    return CODE.sub(r"<code>\1</code>", html.escape(text, quote=False))


def _block(code: str) -> str:
    return f"<pre>{html.escape(code)}</pre>" if code else ""


def write_moodle(quiz: Quiz, path: Path) -> Path:
    """Write a quiz as Moodle XML (https://docs.moodle.org/en/Moodle_XML_format)."""
    page = render("quiz.xml", quiz=quiz, html=_html, block=_block, escape=escape)
    write_file(path, page)
    return path


def write_qti(quiz: Quiz, path: Path) -> Path:
    """Write a quiz as a zip in QTI 1.2, which Canvas and others import."""
    from text2qti.config import Config
    from text2qti.qti import QTI
    from text2qti.quiz import Quiz as Text

    text = render("quiz.txt", quiz=quiz, markdown=_markdown)
    made = Text(text, config=Config(), source_name=quiz.chapter)
    with new_file(path) as file:
        QTI(made).write(file)
    return path


_BY_NAME = {"&": "&amp;", "<": "&lt;", "^": "&#94;", "~": "&#126;"}


def _markdown(text: str) -> str:
    """Return a line of text with the characters escaped that Markdown uses."""

    def plain(sign: re.Match[str]) -> str:
        return _BY_NAME.get(sign[0], rf"\{sign[0]}")

    parts = CODE.split(text)
    parts[::2] = [re.sub(r"[\\*_$<>\[\]^~&]", plain, part) for part in parts[::2]]
    parts[0] = re.sub(r"^(\d*)([.+-](?= |$)|#)", r"\1\\\2", parts[0])
    parts[1::2] = [f"`{part}`" for part in parts[1::2]]
    return "".join(parts)
