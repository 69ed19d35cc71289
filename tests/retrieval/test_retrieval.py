"""Passages with their places, found and put before a question."""

from functools import partial

import pytest
from chat_cases import base, chatty
from hypothesis import given
from hypothesis import strategies as st

from llmcourse.finetuning.chat import Message, encode_prompt
from llmcourse.retrieval.bm25 import reciprocal_rank_fusion
from llmcourse.retrieval.books import book_questions, draw_book
from llmcourse.retrieval.chunking import fixed_chunks, recursive_chunks
from llmcourse.retrieval.dense import DualEncoder
from llmcourse.retrieval.retrieval import (
    Passage,
    Retriever,
    line_with,
    passages,
    prompt_with,
    sentence_with,
    sources_of,
)
from llmcourse.text.documents import Document
from llmcourse.text.tokenizer_files import BPEOptions
from llmcourse.text.tokenizers import BPETokenizer

LETTERS = BPETokenizer.train(["a"], vocab_size=256)
CUT = partial(recursive_chunks, tokenizer=LETTERS, size=24)
DOCUMENTS = [
    Document("Mia had a red hat.\n\nMia had a hen.\n", name="mia.txt"),
    Document("\n\nTom had a blue coat.\n", name="tom.txt"),
]
FOUND = passages(DOCUMENTS, CUT)


def encoder():
    return DualEncoder(*base(), [passage.text for passage in FOUND])


# Worked example


def test_places_by_hand():
    """Line 1 has the hat, line 2 is empty, line 3 has the hen; Tom begins in line 3."""
    assert [p.place for p in FOUND] == ["mia.txt:1", "mia.txt:3", "tom.txt:3"]
    assert [p.text for p in FOUND][1:] == ["Mia had a hen.", "Tom had a blue coat."]


def test_both_fuses_the_two_rankings():
    question = "What had Tom, a hen?"
    by_words = Retriever(FOUND).ranking(question, 3)
    by_vectors = Retriever(FOUND, "dense", encoder()).ranking(question, 3)
    fused = reciprocal_rank_fusion([by_words, by_vectors])
    assert Retriever(FOUND, "both", encoder()).ranking(question, 3) == fused
    assert Retriever(FOUND, "both", encoder()).ranking(question, 1) == fused[:1]


def test_the_best_passage_stands_first():
    _, tokenizer = chatty()
    found = Retriever(FOUND).search("What hat had Mia?", 2)
    assert [passage.place for passage in found] == ["mia.txt:1", "mia.txt:3"]
    prompt = prompt_with("What hat had Mia?", found, tokenizer, 200)
    assert prompt.text == "Mia had a red hat.\n\nMia had a hen.\n\nWhat hat had Mia?"
    assert prompt.used == tuple(found)


# Law


@given(st.text(st.sampled_from("a \n."), max_size=60), st.integers(4, 9))
def test_a_passage_stands_where_it_says(text, size):
    cut = partial(fixed_chunks, tokenizer=LETTERS, size=size)
    for passage in passages([Document(text)], cut):
        assert passage.text == text[passage.start : passage.end].strip()
        line = text.split("\n")[passage.line - 1]
        assert passage.text.split("\n")[0] in line


def test_a_prompt_holds_as_much_as_fits_and_no_more():
    _, tokenizer = chatty()
    found = [FOUND[2], Passage("hen " * 90, "long", 1, 0, 0), FOUND[0], FOUND[1]]

    def size(prompt):
        return len(encode_prompt([Message("user", prompt.text)], tokenizer))

    limits = range(24, 200, 4)
    prompts = [prompt_with("Who?", found, tokenizer, limit) for limit in limits]
    for prompt, limit in zip(prompts, limits, strict=True):
        assert size(prompt) <= limit
        assert prompt.used[0] == FOUND[2]
    counts = [len(prompt.used) for prompt in prompts]
    assert {counts[0], counts[-1]} == {1, 3}  # the long one is left out
    assert counts == sorted(counts)


def test_what_a_template_could_not_write_is_left_out():
    """Its special tokens in a text would become what they spell."""
    options = BPEOptions(chat_template="{{ messages[0]['content'] }}")
    vocab = {bytes([byte]): byte for byte in range(256)}
    tokenizer = BPETokenizer(vocab, [], {"<s>": 256}, options=options)
    struck, plain = (Passage(f"It was {t} five.", "", 1, 0, 0) for t in ("<s>", ""))
    assert prompt_with("Why?", [struck, plain], tokenizer, 99).used == (plain,)
    with pytest.raises(ValueError, match="holds a special token"):
        prompt_with("Why?", [struck], tokenizer, 99)


def test_nothing_is_found_by_words_that_are_nowhere():
    assert Retriever(FOUND).search("Zebra?", 3) == []
    assert len(Retriever(FOUND, "dense", encoder()).search("Zebra?", 3)) == 3
    _, tokenizer = chatty()
    assert prompt_with("Zebra?", [], tokenizer, 99).text == "Zebra?"


def test_sources_have_the_words_of_the_answer():
    assert sources_of("A blue coat!", FOUND) == [FOUND[2]]
    assert sources_of("Mia.", FOUND) == FOUND[:2]
    assert sources_of("A zebra.", FOUND) == []
    assert sources_of("It was the.", FOUND) == sources_of("", FOUND) == []


def test_the_line_of_an_answer_is_counted_from_the_passage():
    passage = Passage("One hat.\r\n\r\n Two coats. ", "a.txt", 5, 0, 0)
    assert line_with("coats", passage) == Passage("Two coats.", "a.txt", 7, 0, 0)
    assert line_with("zebra", passage).line == 5


def test_a_rare_word_says_more_of_the_line_than_names_that_are_everywhere():
    """Ida lives counts 1/3 + 1/2 in the first line, singing 1 in the third."""
    lines = "Ida lives here.\nHere lives a fox.\nIda likes singing.\nIda sings."
    passage = Passage(lines, "a.txt", 1, 0, 0)
    assert line_with("Ida lives for singing.", passage).place == "a.txt:3"


def test_most_right_answers_are_cited_by_the_line_that_they_stand_in():
    """A line for each sentence: nine of ten, where the first line has two of ten."""
    book = draw_book(12, seed=5)
    tales = [tale.story.text.replace(". ", ".\n") for tale in book.tales]
    in_line = in_first = n = 0
    for question in book_questions(book, seed=5):
        passage = Passage(tales[question.tale], "a.txt", 1, 0, 0)
        lines = passage.text.split("\n")
        if any(map(question.is_answered_in, lines)):
            n += 1
            cited = line_with(question.accepted[0], passage)
            in_line += question.is_answered_in(lines[cited.line - 1])
            in_first += question.is_answered_in(lines[0])
    assert n > 50
    assert in_line > 0.85 * n > 2 * in_first


# Refusal


def test_refusals():
    with pytest.raises(ValueError, match="passages must be at least 1, got 0"):
        Retriever([])
    with pytest.raises(ValueError, match="method must be 'bm25' or .*, got 'best'"):
        Retriever(FOUND, "best")
    with pytest.raises(ValueError, match="'both' needs an encoder, got none"):
        Retriever(FOUND, "both")
    for used in ([], [Passage(" \n", "a.txt", 1, 0, 2)]):
        with pytest.raises(
            ValueError, match="sentences in [01] passages must be at least 1"
        ):
            sentence_with("hat", used)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        Retriever(FOUND).ranking("hat", 0)
    for question in ("", " ?! "):
        with pytest.raises(ValueError, match="a question must have a word"):
            Retriever(FOUND).search(question, 1)
    with pytest.raises(ValueError, match="must fit into 9 tokens, but none of 3"):
        prompt_with("Who?", FOUND, chatty()[1], 9)
