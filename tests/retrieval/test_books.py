"""Books of tales, and where in them the answers stand."""

from functools import partial

import pytest

from llmcourse.retrieval.books import (
    Book,
    BookQuestion,
    book_questions,
    draw_book,
    right_passages,
)
from llmcourse.retrieval.chunking import sentence_chunks
from llmcourse.retrieval.retrieval import Passage, passages
from llmcourse.text.documents import Document
from llmcourse.text.tokenizers import BPETokenizer

BOOK = draw_book(12, seed=1)
ASKED = book_questions(BOOK, seed=1)


# Worked example


def test_places_by_hand():
    """The second tale begins after the first and a gap of two characters.

    Only a passage that reaches the end of its hero's name has that name in its tale.
    """
    first, second = (len(tale.story.text) for tale in BOOK.tales[:2])
    assert BOOK.starts[:3] == (0, first + 2, first + second + 4)
    name = BOOK.tales[1].story.facts["hero"]
    asked = BookQuestion(text="Who?", accepted=(name,), tale=1, topic="x")
    after = first + 2 + BOOK.tales[1].story.text.index(name) + len(name)
    spans = ((0, first), (0, after - 1), (0, after), (first + second + 4, 10**6))
    found = [Passage("", "", 1, start, end) for start, end in spans]
    assert right_passages(BOOK, asked, found) == [2]


def test_right_is_what_the_instructions_allow_and_a_whole_sentence():
    question = BookQuestion(
        text="Who?", accepted=("The owl.", "an old owl"), tale=0, topic="x"
    )
    assert question.is_right("the OWL")
    assert question.is_right("It was the owl.")
    assert not question.is_right("The owl and the fox.")
    assert question.is_answered_in("There was an old owl, and it")
    assert not question.is_answered_in("There was an old howl.")


# Law


def test_heroes_have_names_of_their_own_and_questions_name_them():
    heroes = [tale.story.facts["hero"] for tale in BOOK.tales]
    assert len(set(heroes)) == 12
    assert all(heroes[question.tale] in question.text for question in ASKED)
    assert {question.tale for question in ASKED} == set(range(12))


def test_answers_stand_in_their_tales():
    for question in ASKED:
        text = BOOK.tales[question.tale].story.text
        assert question.is_answered_in(text)
        assert all(question.is_right(answer) for answer in question.accepted)
        assert BOOK.text.startswith(text, BOOK.starts[question.tale])


def test_right_passages_are_of_the_right_tale_and_have_the_answer():
    letters = BPETokenizer.train(["a"], vocab_size=256)
    cut = partial(sentence_chunks, tokenizer=letters, size=200)
    found = passages([Document(BOOK.text)], cut)
    n_right = 0
    for question in ASKED:
        for number in right_passages(BOOK, question, found):
            n_right += 1
            assert question.is_answered_in(found[number].text)
    assert n_right >= 0.9 * len(ASKED)  # few answers are cut in two


def test_the_same_seed_gives_the_same():
    assert draw_book(12, seed=1).text == BOOK.text != draw_book(12, seed=2).text
    assert book_questions(BOOK, seed=1) == ASKED


def test_an_empty_book_has_no_questions():
    assert book_questions(Book(()), seed=0) == []


# Refusal


def test_refusals():
    for n in (0, 81):
        with pytest.raises(ValueError, match=f"n must be in 1 … 80, got {n}"):
            draw_book(n, seed=0)
