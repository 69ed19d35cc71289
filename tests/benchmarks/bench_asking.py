"""Count right answers by the size and the number of the passages that are read.

    python tests/benchmarks/bench_asking.py

What `llmcourse ask` does, for 240 questions about two books of 40 tales each, in
wordings from the training: the book is cut into pieces, BM25 finds the best, the
model reads as many of them as fit and answers. An answer is right if it is one of those
that the facts of the tale allow, to the word. *found* counts the questions whose answer
stands in what was read.

    pieces of        1 passage          2 passages         3 passages
    tokens         right  found       right  found       right  found
    160              184    202          210    220          201    224
    208              228    231          209    239          206    239
    256              226    229          205    238          203    239
    320              207    226          193    234          192    235

A tale has 180 tokens. More is read with more passages, and more is found, but the
model has learned from single tales: beside a whole one, another costs more answers than
are won. So `ask` reads one passage of at most 256 tokens.
"""

import random
from collections.abc import Sequence
from functools import partial

import torch

from llmcourse.finetuning.answering import answer_batch
from llmcourse.model.folders import load_pretrained
from llmcourse.retrieval.books import (
    Book,
    BookQuestion,
    book_questions,
    draw_book,
    right_passages,
)
from llmcourse.retrieval.chunking import recursive_chunks
from llmcourse.retrieval.retrieval import Retriever, passages, prompt_with
from llmcourse.text.documents import Document

BOOKS = (5, 11)  # seeds
N_QUESTIONS = 120  # about each
SIZES = (160, 208, 256, 320)  # most tokens of a piece
COUNTS = (1, 2, 3)  # passages that are read
MODEL, TOKENIZER = load_pretrained("instruct-llm")


def count(
    book: Book, asked: Sequence[BookQuestion], size: int, n: int
) -> tuple[int, int]:
    """Return how many answers are right, and how many stand in what was read."""
    cut = partial(recursive_chunks, tokenizer=TOKENIZER, size=size, overlap=0)
    retriever = Retriever(passages([Document(book.text)], cut))
    window = MODEL.config.context_length
    prompts = [
        prompt_with(q.text, retriever.search(q.text, n), TOKENIZER, window * 7 // 8)
        for q in asked
    ]
    said = answer_batch(
        MODEL,
        TOKENIZER,
        [prompt.text for prompt in prompts],
        max_new_tokens=[32] * len(asked),
    )
    right = sum(q.is_right(answer) for q, answer in zip(asked, said, strict=True))
    found = sum(
        bool(right_passages(book, q, prompt.used))
        for q, prompt in zip(asked, prompts, strict=True)
    )
    return right, found


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    books = []
    for seed in BOOKS:
        book = draw_book(40, seed)
        asked = book_questions(book, seed=5)
        books.append((book, random.Random(5).sample(asked, N_QUESTIONS)))
    for size in SIZES:
        print(f"{size:4}", end="", flush=True)
        for n in COUNTS:
            counts = [count(book, asked, size, n) for book, asked in books]
            right, found = (sum(column) for column in zip(*counts, strict=True))
            print(f"   {right:10}{found:7}", end="", flush=True)
        print()


if __name__ == "__main__":
    main()
