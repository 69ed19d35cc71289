"""Books of tales: documents longer than any window, and questions about them.

The hero of every tale in a book has a different name, so a question that names the
hero is about one tale only. The right answers are known, and where to find them.

>>> book = draw_book(3, seed=0)
>>> question = book_questions(book, seed=0)[0]
>>> question.text
'Name the member of the family that David lives with.'
>>> question.accepted[0], question.tale
('David lived with his big sister.', 0)
>>> answers = "and his big sister, who", "a sister"
>>> [*map(question.is_answered_in, answers)]
[True, False]
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from llmcourse.arguments import check_range
from llmcourse.finetuning.instructions import (
    QUESTIONS,
    Tale,
    draw_tale,
    fill,
    normalised,
    topics,
)
from llmcourse.retrieval.retrieval import Passage

_GAP = "\n\n"  # between two tales


@dataclass(frozen=True)
class Book:
    """Tales joined into one text, with an empty line between them."""

    tales: Sequence[Tale]

    @cached_property
    def text(self) -> str:
        """All tales."""
        return _GAP.join(tale.story.text for tale in self.tales)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where the tales begin, in characters."""
        lengths = (len(tale.story.text) + len(_GAP) for tale in self.tales)
        return tuple(accumulate(lengths, initial=0))[:-1]


@dataclass(frozen=True, kw_only=True)
class BookQuestion:
    """A question about one tale of a book."""

    text: str  # names the hero
    accepted: tuple[str, ...]  # right answers
    tale: int
    topic: str

    def is_right(self, answer: str) -> bool:
        """Return whether an answer is right, ignoring case and articles.

        A whole sentence such as "It was the owl." is right as well.
        """
        short = answer.strip().removeprefix("It was ")
        return normalised(short) in {normalised(text) for text in self.accepted}

    def is_answered_in(self, text: str) -> bool:
        """Return whether a text contains a right answer's words, articles aside."""
        spaced = f" {' '.join(normalised(text))} "
        answers = (" ".join(normalised(answer)) for answer in self.accepted)
        return any(f" {answer} " in spaced for answer in answers)


def draw_book(n: int, seed: int) -> Book:
    """Return a book of n tales whose heroes all have different names.

    Args:
        n: How many tales.
        seed: The same seed gives the same book.

    Raises:
        ValueError: If n is not from 1 to 80.
    """
    check_range(1, 80, n=n)  # there are about ninety names
    rng = random.Random(f"book {seed}")
    tales: dict[str, Tale] = {}
    while len(tales) < n:
        tale = draw_tale(rng)
        tales.setdefault(tale.story.facts["hero"], tale)
    return Book(tuple(tales.values()))


def book_questions(book: Book, seed: int) -> list[BookQuestion]:
    """Return the questions about each tale that name its hero, tale after tale.

    Questions whose answer is not in the tale word for word (sums) are left out.

    Args:
        book: The tales.
        seed: Chooses the wordings, from those used in training.
    """
    rng = random.Random(f"book questions {seed}")
    asked = [topic for kind in QUESTIONS for topic in topics()[kind]]
    questions = []
    for number, tale in enumerate(book.tales):
        for topic in asked:
            wordings = [each for each in topic.phrasings[:-1] if "{hero}" in each]
            if not wordings or not topic.fits(tale.story.facts):
                continue
            question = BookQuestion(
                text=fill(rng.choice(wordings), tale.words),
                accepted=topic.right_answers(tale.words),
                tale=number,
                topic=topic.name,
            )
            if question.is_answered_in(tale.story.text):
                questions.append(question)
    return questions


def right_passages(
    book: Book, question: BookQuestion, found: Sequence[Passage]
) -> list[int]:
    """Return the indices of the passages that contain a question's answer.

    It must occur in their part of the right tale; the same words in another tale do
    not count.

    Args:
        book: Its text is the one document that the passages are from.
        question: About the book.
        found: Passages of its text.
    """
    first = book.starts[question.tale]
    last = first + len(book.tales[question.tale].story.text)
    parts = (book.text[max(p.start, first) : min(p.end, last)] for p in found)
    return [n for n, part in enumerate(parts) if question.is_answered_in(part)]
