"""Short stories from a small world, with the exact probability of every one.

The world and its words are the text file `data/tales.txt`; `grammar` reads it, writes
stories with it and parses them back. Because the true distribution is known, the
lowest loss that any model can reach on these stories, their entropy, is known too.

>>> story = next(iter(generate(1, seed=7)))
>>> parse(story.text) == story
True
>>> log_prob(story.text) == story.log_prob
True
"""

import math
import random
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, Protocol, runtime_checkable

from llmcourse.grammar import Grammar, Story

__all__ = [
    "Estimate",
    "Story",
    "bits_per_byte",
    "entropy_per_token",
    "entropy_per_word",
    "generate",
    "log_prob",
    "parse",
    "world",
]


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns a text into tokens, one id each."""

    def encode(self, text: str) -> Any:
        """Return the ids of a text."""


class Estimate(NamedTuple):
    """A value with the standard error that sampling leaves in it."""

    value: float
    standard_error: float


@cache
def world() -> Grammar:
    """Return the grammar of the tales, read once."""
    source = resources.files("llmcourse").joinpath("data/tales.txt")
    return Grammar(source.read_text(encoding="utf-8"))


def generate(n: int, seed: int) -> Iterator[Story]:
    """Yield n stories, the same ones for the same seed on every machine.

    Raises:
        ValueError: If n is negative.
    """
    if n < 0:
        raise ValueError(f"the number of stories cannot be negative, got {n}")
    return _generate(n, random.Random(seed))


def _generate(n: int, rng: random.Random) -> Iterator[Story]:
    for _ in range(n):
        yield world().sample(rng)


def parse(text: str) -> Story:
    """Return the story that a text is: its facts and its exact probability.

    Raises:
        ValueError: If the text is no tale; the message names the first word that
            does not fit.
    """
    return world().parse(text)


def log_prob(text: str) -> float:
    """Return the exact log-probability of a tale, in nats.

    Raises:
        ValueError: If the text is no tale.
    """
    return world().log_prob(text)


def entropy_per_word() -> float:
    """Return the exact entropy of the tales, in nats per word.

    A word is what white space separates, its punctuation included: entropy of a
    story over the mean number of words in a story.
    """
    return world().entropy() / world().measures.words


def bits_per_byte() -> float:
    """Return the exact entropy of the tales, in bits per byte of UTF-8."""
    return world().entropy() / math.log(2) / world().measures.size


def entropy_per_token(
    tokenizer: Encoder, texts: Sequence[str] | None = None, end_tokens: int = 1
) -> Estimate:
    """Return the lowest possible loss for a tokenizer, in nats per token.

    The entropy of a story is exact; the mean number of tokens is estimated from
    texts, so the result comes with its standard error. A model that also predicts
    the end of each document does so at one more token, of no entropy of its own.

    Args:
        tokenizer: Anything with `encode`.
        texts: Stories to count tokens in; by default 2,000 generated ones.
        end_tokens: Tokens that end a document and are predicted too.

    Raises:
        ValueError: If fewer than two texts are given.
    """
    if texts is None:
        texts = [story.text for story in generate(2_000, seed=0)]
    if len(texts) < 2:
        raise ValueError(f"wanted at least 2 texts to count tokens, got {len(texts)}")
    counts = [len(tokenizer.encode(text)) + end_tokens for text in texts]
    mean = math.fsum(counts) / len(counts)
    variance = math.fsum((c - mean) ** 2 for c in counts) / (len(counts) - 1)
    value = world().entropy() / mean
    return Estimate(value, value / mean * math.sqrt(variance / len(counts)))
