"""How surprising each word of a tale is: exactly, and to models that learned it."""

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from llmcourse.text.grammar import Grammar
from llmcourse.text.tales import world

Surprises = Callable[[str], Sequence[float]]


def word_surprises(text: str, grammar: Grammar | None = None) -> list[float]:
    r"""Return the exact surprise of each word of a story, in nats.

    The surprise of a word is -log P(word | all words before it) under the grammar.
    A word is what white space separates, and whether another one follows belongs to
    it: "apple" could become "apples". So they sum to -log P(story).

    Args:
        text: A story of the grammar.
        grammar: By default, that of the tales.

    Raises:
        ValueError: If the text is no story of the grammar.

    >>> grammar = Grammar("rule story\n    [Mia|Tom] [ran|slept|sang].")
    >>> [round(math.exp(nats)) for nats in word_surprises("Mia ran.", grammar)]
    [2, 3]
    """
    grammar = world() if grammar is None else grammar
    whole = grammar.log_prob(text)
    # Each end lies behind the space, where the word is complete.
    ends = [match.end() for match in re.finditer(r"\S+\s+", text)]
    logs = [0.0, *(grammar.prefix_log_prob(text[:end]) for end in ends), whole]
    return [max(before - after, 0.0) for before, after in pairwise(logs)]


def predictor_state(
    name: str, surprises: Surprises, texts: Sequence[str]
) -> dict[str, Any]:
    """Return a predictor's name and its surprise at each word of each text."""
    nats = []
    for text in texts:
        values = [float(value) for value in surprises(text)]
        n_words = len(text.split())
        if len(values) != n_words:
            raise ValueError(
                f"{name!r} must give one surprise for each of {n_words} words, "
                f"got {len(values)} for {text[:40]!r}"
            )
        if not all(math.isfinite(value) and value >= 0 for value in values):
            raise ValueError(
                f"surprises must be finite and not negative, {name!r} gave "
                f"{min(values):g} to {max(values):g}"
            )
        nats.append([round(value, 6) for value in values])
    return {"name": name, "nats": nats}
