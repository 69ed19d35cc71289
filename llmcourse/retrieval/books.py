"""Books of tales: documents longer than any window, and questions about them.

Every tale of a book has a hero of its own name, so that a question which names the
hero is about one tale. The right answers are known, and where they stand.

>>> book = draw_book(3, seed=0)
>>> question = book_questions(book, seed=0)[0]
>>> question.text, question.accepted[0], question.tale
('In the story, who lives with David?', 'David lived with his big sister.', 0)
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
_NAMES_A_HERO = "{hero}"
_MOST_TALES = 80  # there are some ninety names


@dataclass(frozen=True)
class Book:
    """Tales in one text, with an empty line between two of them."""

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

    def part(self, tale: int, start: int, end: int) -> str:
        """Return what a stretch of the text has of a tale; nothing if it has nothing.

        Args:
            tale: Number of the tale.
            start: Of the stretch, in characters.
            end: Of the stretch.
        """
        first = self.starts[tale]
        last = first + len(self.tales[tale].story.text)
        return self.text[max(start, first) : max(min(end, last), first)]


@dataclass(frozen=True, kw_only=True)
class BookQuestion:
    """A question about one tale of a book."""

    text: str  # names the hero
    accepted: tuple[str, ...]  # right answers
    tale: int
    topic: str

    def is_right(self, answer: str) -> bool:
        """Return whether an answer is a right one, case and articles aside.

        A whole sentence, "It was the owl.", is right, too.
        """
        short = answer.strip().removeprefix("It was ")
        return normalised(short) in {normalised(text) for text in self.accepted}

    def is_answered_in(self, text: str) -> bool:
        """Return whether a text has the words of a right answer, but for articles."""
        spaced = f" {' '.join(normalised(text))} "
        answers = (" ".join(normalised(answer)) for answer in self.accepted)
        return any(f" {answer} " in spaced for answer in answers)


def draw_book(n: int, seed: int) -> Book:
    """Return a book of n tales whose heroes all have names of their own.

    Args:
        n: How many tales.
        seed: The same seed gives the same book.

    Raises:
        ValueError: If n is not from 1 to 80.
    """
    check_range(1, _MOST_TALES, n=n)
    rng = random.Random(f"book {seed}")
    tales: dict[str, Tale] = {}
    while len(tales) < n:
        tale = draw_tale(rng)
        tales.setdefault(tale.story.facts["hero"], tale)
    return Book(tuple(tales.values()))


def book_questions(
    book: Book, seed: int, *, new_phrasing: bool = False
) -> list[BookQuestion]:
    """Return the questions about each tale that name its hero, tale after tale.

    Only those are asked whose answer stands in the tale, word by word: no sums.

    Args:
        book: The tales.
        seed: Of the wordings.
        new_phrasing: Whether to use the wordings that no training has.
    """
    rng = random.Random(f"book questions {seed}")
    fitting = (
        (number, tale, topic)
        for number, tale in enumerate(book.tales)
        for kind in QUESTIONS
        for topic in topics()[kind]
        if topic.fits(tale.story.facts)
    )
    questions = []
    for number, tale, topic in fitting:
        phrasings = topic.phrasings[-1:] if new_phrasing else topic.phrasings[:-1]
        wordings = [wording for wording in phrasings if _NAMES_A_HERO in wording]
        if not wordings:
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
    """Return the numbers of the passages that have a question's answer.

    It must occur in what they have of the right tale; the same words in another tale
    are no answer.

    Args:
        book: Whose text the passages are from, as one document.
        question: About the book.
        found: Passages of its text.
    """
    parts = (book.part(question.tale, each.start, each.end) for each in found)
    return [n for n, part in enumerate(parts) if part and question.is_answered_in(part)]
