"""Books of tales, where in them the answers stand, and needles hidden in tales."""

import random
from functools import partial

import pytest
import torch

from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.retrieval.books import (
    Book,
    BookQuestion,
    Haystack,
    Needle,
    book_questions,
    draw_book,
    found_share,
    needle_share,
    right_passages,
)
from llmcourse.retrieval.chunking import sentence_chunks
from llmcourse.retrieval.retrieval import passages
from llmcourse.text.documents import Document
from llmcourse.text.tokenizers import CharacterTokenizer

BOOK = draw_book(12, seed=1)
ASKED = book_questions(BOOK, seed=1)


@pytest.fixture(scope="module")
def shipped():
    return load_pretrained("base-llm")


@pytest.fixture(scope="module")
def haystack(shipped):
    return Haystack(shipped[1], n_stories=100)


# Worked example


def test_places_by_hand():
    """The second tale begins after the first and a gap of two characters."""
    first, second = (len(tale.story.text) for tale in BOOK.tales[:2])
    assert BOOK.starts[:3] == (0, first + 2, first + second + 4)
    assert BOOK.part(1, 0, first + 9) == BOOK.tales[1].story.text[:7]
    assert BOOK.part(1, 0, first) == BOOK.part(0, first + 1, first + 9) == ""
    assert BOOK.part(1, 0, 10**6) == BOOK.tales[1].story.text


def test_right_is_what_the_instructions_allow_and_a_whole_sentence():
    question = BookQuestion(
        text="Who?", accepted=("The owl.", "an old owl"), tale=0, kind="who", topic="x"
    )
    assert question.is_right("the OWL")
    assert question.is_right("It was the owl.")
    assert not question.is_right("The owl and the fox.")
    assert question.stands_in("There was an old owl, and it")
    assert not question.stands_in("There was an old howl.")


def test_a_needle_without_hay(haystack):
    needle = haystack.hide(40, 0.5, random.Random(0))
    first, fact, question = needle.text.split(". ")[0], needle.text, needle.text[-30:]
    assert "was a kind" in first
    assert f"often wore a fine {needle.answer} " in fact
    assert "wrapped it up in h" in question


# Law


def test_heroes_have_names_of_their_own_and_questions_name_them():
    heroes = [tale.story.facts["hero"] for tale in BOOK.tales]
    assert len(set(heroes)) == 12
    assert all(heroes[question.tale] in question.text for question in ASKED)
    assert {question.tale for question in ASKED} == set(range(12))


def test_answers_stand_in_their_tales():
    for question in ASKED:
        text = BOOK.tales[question.tale].story.text
        assert question.stands_in(text)
        assert all(question.is_right(answer) for answer in question.accepted)
        assert BOOK.text.startswith(text, BOOK.starts[question.tale])


def test_right_passages_are_of_the_right_tale_and_have_the_answer():
    cut = partial(sentence_chunks, tokenizer=CharacterTokenizer(), size=200)
    found = passages([Document(BOOK.text)], cut)
    n_right = 0
    for question in ASKED:
        for number in right_passages(BOOK, question, found):
            n_right += 1
            assert question.stands_in(found[number].text)
            part = BOOK.part(question.tale, found[number].start, found[number].end)
            assert part.strip() in found[number].text
    assert n_right >= 0.9 * len(ASKED)  # few answers are cut in two


def test_the_same_seed_gives_the_same_and_wordings_can_be_new():
    assert draw_book(12, seed=1).text == BOOK.text != draw_book(12, seed=2).text
    assert book_questions(BOOK, seed=1) == ASKED
    new = book_questions(BOOK, seed=1, new_phrasing=True)
    assert not {q.text for q in new} & {q.text for q in ASKED}
    only = book_questions(BOOK, seed=1, kinds=["where"])
    assert {question.kind for question in only} == {"where"}


def test_an_empty_book_has_no_questions():
    assert book_questions(Book(()), seed=0) == []


@pytest.mark.parametrize("n_tokens", [60, 150, 400])
@pytest.mark.parametrize("depth", [0, 0.5, 1])
def test_length_and_depth_are_as_asked(haystack, n_tokens, depth):
    needle = haystack.hide(n_tokens, depth, random.Random(1))
    size = len(haystack.tokenizer.encode(needle.text)) + 1
    assert n_tokens - 12 < size <= n_tokens
    before, after = needle.text.split("often wore")
    if n_tokens == 400:
        share = len(before) / len(before + after)
        assert share == pytest.approx(depth, abs=0.15)


def test_no_other_colour_is_mentioned(haystack):
    text = haystack.hide(400, 0.5, random.Random(2)).text
    words = text.replace(".", "").split()
    assert sum(word in haystack.colours for word in words) == 1


def test_the_shipped_model_finds_it_nearby_and_one_without_training_guesses(
    shipped, haystack
):
    near = needle_share(shipped[0], haystack, 60, 0.5, n=10)
    assert near.n == 10
    assert near.right >= 8
    new = Transformer(shipped[0].config, torch.Generator().manual_seed(0))
    assert needle_share(new, haystack, 60, 0.5, n=10).right <= 5


# Reference


def test_found_share_counts_the_most_probable_colour(shipped, haystack):
    model, tokenizer = shipped
    needle = haystack.hide(60, 0.5, random.Random(3))
    ids = torch.tensor([[0, *tokenizer.encode(needle.text)]])
    with torch.inference_mode():
        scores = model(ids)[0, -1]
    best = max(haystack.colours, key=lambda x: scores[tokenizer.encode(f" {x}")[0]])
    for answer in [*haystack.colours[:3], best]:
        case = Needle(needle.text, answer)
        share = found_share(model, tokenizer, [case], haystack.colours)
        assert share == (answer == best, 1)


# Refusal


def test_refusals():
    for n in (0, 81):
        with pytest.raises(ValueError, match=f"from 1 to 80 tales, got {n}"):
            draw_book(n, seed=0)
    with pytest.raises(ValueError, match="wanted kinds from who, .* got \\['which'\\]"):
        book_questions(BOOK, seed=0, kinds=["which"])


def test_refusals_of_needles(haystack):
    with pytest.raises(ValueError, match="depth must be in 0 … 1, got 2"):
        haystack.hide(100, 2, random.Random(0))
    with pytest.raises(ValueError, match="a needle needs more than 10 tokens"):
        haystack.hide(10, 0, random.Random(0))
