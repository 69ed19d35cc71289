"""Short stories from a small world, with the exact probability of every one.

The world is the text file `data/tales.txt`: people, animals, trades, places and what
is found there, and ten plots. `grammar` reads it, writes stories with it and parses
them back. A story says early on who it is about and where, and what is worn, lost,
counted or promised, and returns to it late, so a reader with a short memory fails.

Each story carries its facts, one for each variable of the grammar: always `hero`,
`kind`, `trait`, `relative`, `home`, `shade` and `garment` (what the hero wears),
`hobby`, `plot` and `ending` (happy, sad or surprising); by plot also `place`, `season`,
`friend`, `helper`, `job`, `wish` and `reason`, `obstacle`, `count`, `toy` and `colour`,
`hiding_place`, `item1` to `item3`, `promise`, `lesson` and so on.

Because the true distribution is known, so is the lowest loss that any model can reach
on these stories: their entropy. Any loss above that can be removed by learning.

>>> story = next(generate(1, seed=7))
>>> parse(story.text) == story  # one derivation, found again
True
>>> story.facts["hero"] in story.text
True
"""

import math
import random
import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from statistics import fmean, stdev
from typing import NamedTuple

from llmcourse.arguments import check_range
from llmcourse.files import DATA
from llmcourse.text.grammar import Grammar, Story
from llmcourse.text.tokenizers import Tokenizer


class Estimate(NamedTuple):
    """An estimated value with the standard error due to sampling."""

    value: float
    standard_error: float


@cache
def world_text() -> str:
    """Return the text of the tales' grammar, read once."""
    source = DATA / "tales.txt"
    return source.read_text(encoding="utf-8")


@cache
def world() -> Grammar:
    """Return the grammar of the tales, read once."""
    return Grammar(world_text())


def generate(n: int, seed: int) -> Iterator[Story]:
    """Yield n stories, the same ones for the same seed on every machine.

    Raises:
        ValueError: If n is negative.
    """
    check_range(0, n_stories=n)
    rng = random.Random(seed)
    return (world().sample(rng) for _ in range(n))


def parse(text: str) -> Story:
    """Return a text as a story: its facts and its exact probability.

    Raises:
        ValueError: If the text is not a tale; the message names the first word that
            does not fit.
    """
    return world().parse(text)


def log_prob(text: str) -> float:
    """Return the exact log-probability of a tale, in nats.

    Raises:
        ValueError: If the text is not a tale.
    """
    return world().log_prob(text)


def word_surprises(text: str, grammar: Grammar | None = None) -> list[float]:
    r"""Return the exact surprise of each word of a story, in nats.

    The surprise of a word is -log P(word | all words before it) under the grammar.
    Words are split at white space, and each includes whether another word follows it:
    "apple" could become "apples". So the surprises sum to -log P(story).

    Args:
        text: A story of the grammar.
        grammar: By default, the tales' grammar.

    Raises:
        ValueError: If the text is not a story of the grammar.

    >>> grammar = Grammar("rule story\n    [Mia|Tom] [ran|slept|sang].")
    >>> [round(math.exp(nats)) for nats in word_surprises("Mia ran.", grammar)]
    [2, 3]
    """
    grammar = world() if grammar is None else grammar
    whole = grammar.log_prob(text)
    # Each end lies after the space, where the word is complete.
    ends = [match.end() for match in re.finditer(r"\S+\s+", text)]
    logs = [0.0, *(grammar.prefix_log_prob(text[:end]) for end in ends), whole]
    return [max(before - after, 0.0) for before, after in pairwise(logs)]


def entropy_per_word() -> float:
    """Return the exact entropy of the tales, in nats per word.

    This is the entropy of a story over its mean number of words, which are split at
    white space and include their punctuation.
    """
    return world().entropy() / world().measures.words


def bits_per_byte() -> float:
    """Return the exact entropy of the tales, in bits per byte of UTF-8."""
    return world().entropy() / math.log(2) / world().measures.size


def entropy_per_token(tokenizer: Tokenizer, texts: Sequence[str]) -> Estimate:
    """Return the lowest possible loss for a tokenizer, in nats per token.

    The entropy of a story is exact; the mean number of tokens is estimated from
    texts, so the result comes with its standard error. A model also predicts the end
    of each document: one more token, with no entropy of its own.

    Args:
        tokenizer: Cuts the stories into tokens.
        texts: Stories to count tokens in.

    Raises:
        ValueError: If fewer than two texts are given.
    """
    check_range(2, n_texts=len(texts))
    counts = [len(tokenizer.encode(text)) + 1 for text in texts]
    mean = fmean(counts)
    value = world().entropy() / mean
    return Estimate(value, value / mean * stdev(counts) / math.sqrt(len(counts)))
