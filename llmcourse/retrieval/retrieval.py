"""Answers from documents: find the passages that matter, read them, say where they are.

    documents ── chunks ── index
                             │  question
                             ▼
                     the best passages ── as many as fit, then the question ── model
                             │                                                   │
                          file:line ◄──────────── which have the answer ──── the answer

The passages that the model reads are returned as well, so an answer can be checked.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import fsum

from llmcourse.arguments import check_one_of, check_range
from llmcourse.finetuning.chat import Message, encode_prompt, uses_template
from llmcourse.retrieval.bm25 import BM25, reciprocal_rank_fusion
from llmcourse.retrieval.chunking import Chunk
from llmcourse.retrieval.dense import DualEncoder
from llmcourse.text.deduplication import words
from llmcourse.text.documents import Document
from llmcourse.text.embeddings import similarities
from llmcourse.text.tokenizers import BPETokenizer

METHODS = ("bm25", "dense", "both")

_DEPTH = 100  # how many places of each ranking are fused


@dataclass(frozen=True)
class Passage:
    """A piece of a document, and where it is."""

    text: str  # without white space around it
    name: str  # of the document
    line: int  # of its first letter, counted from 1
    start: int  # of the chunk, in characters
    end: int

    @property
    def place(self) -> str:
        """File and line, as editors and compilers write them."""
        return f"{self.name}:{self.line}"


def passages(
    documents: Iterable[Document], cut: Callable[[str], Sequence[Chunk]]
) -> list[Passage]:
    r"""Return the chunks of all documents with their places, leaving out blank ones.

    Args:
        documents: With names, so that they can be cited.
        cut: A function of `chunking`, with its tokenizer and size filled in; it returns
            chunks in order.

    >>> from functools import partial
    >>> from llmcourse.retrieval.chunking import recursive_chunks
    >>> letters = BPETokenizer.train(["a"], vocab_size=256)
    >>> cut = partial(recursive_chunks, tokenizer=letters, size=9)
    >>> [p.place for p in passages([Document("One.\n\nTwo.", name="a.txt")], cut)]
    ['a.txt:1', 'a.txt:3']
    """
    found = []
    for document in documents:
        line, seen = 1, 0
        for chunk in cut(document.text):
            if text := chunk.text.strip():
                first = chunk.start + chunk.text.index(text)
                line += document.text.count("\n", seen, first)
                seen = first
                found.append(Passage(text, document.name, line, chunk.start, chunk.end))
    return found


class Retriever:
    """Passages, and ways to find those relevant to a question.

    Args:
        found: The passages to search.
        method: "bm25" by words, "dense" by vectors, or "both", their ranks fused.
        encoder: Makes the vectors where they are used.

    Raises:
        ValueError: If there are no passages, the method is unknown, or an encoder is
            missing.
    """

    def __init__(
        self,
        found: Sequence[Passage],
        method: str = "bm25",
        encoder: DualEncoder | None = None,
    ) -> None:
        check_one_of("method", method, METHODS)
        check_range(1, passages=len(found))
        self.passages, self.method = list(found), method
        if method != "dense":
            self._bm25 = BM25([words(passage.text) for passage in found])
        if method != "bm25":
            if encoder is None:
                raise ValueError(f"method {method!r} needs an encoder, got none")
            self._encoder = encoder
            texts = [passage.text for passage in found]
            self._vectors = encoder.passage_vectors(texts).detach()

    def ranking(self, question: str, k: int) -> list[int]:
        """Return the indices of the k best passages, best first.

        BM25 returns fewer, or none, if fewer contain a word of the question.

        Raises:
            ValueError: If k is less than 1 or the question has no letter or digit.
        """
        check_range(1, k=k)
        if not words(question):
            raise ValueError(f"a question must have a word, got {question!r}")
        depth = max(k, _DEPTH) if self.method == "both" else k
        rankings: list[list[int]] = []
        if self.method != "dense":
            found = self._bm25.search(words(question), depth)
            rankings.append([number for number, _ in found])
        if self.method != "bm25":
            vectors = self._encoder.question_vectors([question]).detach()
            scores = similarities(vectors, self._vectors)[0]
            rankings.append(scores.topk(min(depth, len(scores))).indices.tolist())
        return reciprocal_rank_fusion(rankings)[:k]

    def search(self, question: str, k: int) -> list[Passage]:
        """Return the k best passages, best first.

        BM25 returns fewer, or none, if fewer contain a word of the question.

        Raises:
            ValueError: If k is less than 1 or the question has no letter or digit.
        """
        return [self.passages[number] for number in self.ranking(question, k)]


@dataclass(frozen=True)
class Prompt:
    """What a model is to read, and the passages that it was made from."""

    text: str
    used: tuple[Passage, ...]  # best first


def prompt_with(
    question: str, found: Sequence[Passage], tokenizer: BPETokenizer, max_tokens: int
) -> Prompt:
    """Return the best passages, as many as fit, and then the question.

    A passage that does not fit is left out; shorter ones after it may still fit. One
    with special tokens is left out if the tokenizer cannot write these as plain text.

    Args:
        question: What is asked.
        found: Passages, best first.
        tokenizer: One with the special tokens of conversations; these count as well.
        max_tokens: Of the whole conversation; leave room for an answer.

    Raises:
        ValueError: If there are passages, but none can be used.
    """

    def put_together(chosen: Sequence[Passage]) -> str:
        # Each on one line, like the tales that the models learned from.
        texts = [" ".join(passage.text.split()) for passage in chosen]
        return "\n\n".join([*texts, question])

    if uses_template(tokenizer):
        names = tokenizer.special_tokens
        plain = [p for p in found if not any(name in p.text for name in names)]
        if found and not plain:
            raise ValueError("every passage found holds a special token of the model")
        found = plain
    used: list[Passage] = []
    for passage in found:
        message = Message("user", put_together([*used, passage]))
        if len(encode_prompt([message], tokenizer)) <= max_tokens:
            used.append(passage)
    if found and not used:
        raise ValueError(
            f"question and passage must fit into {max_tokens} tokens, but none of "
            f"{len(found)} does: ask in fewer words, or cut the documents into smaller "
            "passages"
        )
    return Prompt(put_together(used), tuple(used))


def sources_of(answer: str, used: Sequence[Passage]) -> list[Passage]:
    """Return the passages with the most words from an answer, in the order given.

    Check the answer against these. If no passage has any of its words, the list is
    empty: the answer is from none of them.

    >>> red, blue = (Passage(f"A {c} hat.", c, 1, 0, 0) for c in ("red", "blue"))
    >>> [passage.name for passage in sources_of("The blue hat.", [red, blue])]
    ['blue']
    """
    said = _content_words(answer)
    shared = [len(said & _content_words(passage.text)) for passage in used]
    best = max(shared, default=0)
    return [p for p, n in zip(used, shared, strict=True) if n == best > 0]


def line_with(answer: str, passage: Passage) -> Passage:
    r"""Return a passage's line with the most words from an answer, and its place.

    The more lines contain a word, the less it counts, such as the hero's name in a
    tale. Ties go to the first line, even if no line has any of the words.

    >>> passage = Passage("A red hat.\nA blue hat.", "a.txt", 7, 0, 22)
    >>> line_with("Blue.", passage).place
    'a.txt:8'
    """
    lines = enumerate(passage.text.split("\n"), start=passage.line)
    parts = [replace(passage, text=text.strip(), line=line) for line, text in lines]
    return _nearest(answer, parts)


def sentence_with(question: str, used: Sequence[Passage]) -> Passage:
    r"""Return the sentence of the passages with the most words from a question.

    A heading or a list item is a sentence as well. Words count as in `line_with`.

    Raises:
        ValueError: If the passages have no sentence.

    >>> passage = Passage("# Hats\n\nMia has\na red one. It is new.", "a.txt", 7, 0, 34)
    >>> found = sentence_with("What does Mia have?", [passage])
    >>> found.text, found.place
    ('Mia has a red one.', 'a.txt:9')
    >>> noted = Passage("# Report of May\n\nAmara wrote the report.", "a.md", 1, 0, 40)
    >>> sentence_with("Who made the report?", [noted]).text
    'Amara wrote the report.'
    """
    sentences = []
    for passage in used:
        for match in _SENTENCE.finditer(passage.text):
            line = passage.line + passage.text.count("\n", 0, match.start())
            text = " ".join(match[0].split())
            sentences.append(replace(passage, text=text, line=line))
    check_range(1, **{f"sentences in {len(used)} passages": len(sentences)})
    sentences.sort(key=lambda one: one.text.startswith("#"))  # headings win no tie
    return _nearest(question, sentences)


# Up to a full stop, a blank line, or the line before a list item.
_SENTENCE = re.compile(
    r"\S.*?(?:[.!?…][\"'”»)]*(?=\s)|[。！？]|(?=\n\s*(?:\n|[-*#•]|\d+[.)]\s))|\Z)",
    re.DOTALL,
)


def _nearest(text: str, parts: Sequence[Passage]) -> Passage:
    """Return the part with the most words from a text, rare words counting more."""
    wanted = _content_words(text)
    found = [wanted & _content_words(part.text) for part in parts]
    n_parts = Counter(word for part in found for word in part)
    shares = [fsum(1 / n_parts[word] for word in part) for part in found]
    return parts[shares.index(max(shares))]


def is_grounded(answer: str, used: Sequence[Passage]) -> bool:
    """Return whether at least half of an answer's words occur in the passages.

    Function words such as "the" do not count.

    >>> passage = Passage("Mia has a red hat.", "a.txt", 1, 0, 18)
    >>> is_grounded("Mia wore a red hat.", [passage]), is_grounded("Tom!", [passage])
    (True, False)
    """
    known = {word for passage in used for word in words(passage.text)}
    said = [word for word in words(answer) if word not in _EMPTY_WORDS]
    return bool(said) and 2 * sum(word in known for word in said) >= len(said)


_EMPTY_WORDS = frozenset(
    words(
        "a an and are at because by did for had has have he her his i in is it its of "
        "on or she that the their them they to was were with you"
    )
)


def _content_words(text: str) -> set[str]:
    return set(words(text)) - _EMPTY_WORDS
