"""Instructions about tales, with answers that a rule can check.

Questions that need reading, and tasks that need writing, made from stories whose facts
are known:

    kind        task                                          right is
    six kinds   a question: who, where, what, why, how many,  what the facts say
                or for a list
    summarise   the story in one sentence                     hero, plot and ending
    continue    the rest of a story                           what makes it a tale
    rewrite     another last paragraph, of the tone ordered   a tale that ends so
    write       a story to order                              a tale with all of that

What is asked, and how, stands in `data/instructions.txt`. To see whether a model has
understood rather than learned by heart, two things are kept out of the instructions
that it learns: the last wording of every task, and stories whose kind of hero and plot
are in `HELD_OUT_PAIRS`. Plain stories may have such a hero and plot: a model may have
read of them, but nobody has asked it about them.

>>> example = next(examples(1, seed=0, kinds=["who"]))
>>> check(example, example.answer), check(example, "Somebody else.")
(True, False)

Source: Ouyang et al. (2022), "Training language models to follow instructions with
human feedback", section 3, where people wrote prompts and answers; held-out tasks to
measure generalisation as in Wei et al. (2022), "Finetuned language models are
zero-shot learners". Unlike theirs, every answer here is checked by rule.
"""

import random
import re
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from llmcourse.instruction_examples import (
    HELD_OUT_PAIRS,
    KINDS,
    Example,
    draw_tale,
    make,
)
from llmcourse.instruction_topics import QUESTIONS
from llmcourse.tales import Encoder, parse

__all__ = [
    "HELD_OUT_PAIRS",
    "KINDS",
    "QUESTIONS",
    "Example",
    "HeldOut",
    "check",
    "examples",
    "normalised",
]

HeldOut: TypeAlias = bool | Literal["phrasing", "pair"]

_TRIES = 5000  # stories without a fitting example before giving up


def examples(
    n: int,
    seed: int,
    *,
    kinds: Sequence[str] = KINDS,
    held_out: HeldOut = False,
    tokenizer: Encoder | None = None,
    max_tokens: int = 420,
) -> Iterator[Example]:
    """Yield n examples, the same ones for the same arguments on every machine.

    Args:
        n: How many.
        seed: Of the stories and of what is asked. Evaluate with another one.
        kinds: Kinds to draw from, each as often.
        held_out: False for training. "phrasing" gives wordings that training lacks,
            "pair" stories of `HELD_OUT_PAIRS`, True both at once.
        tokenizer: If given, long examples are skipped.
        max_tokens: The most that prompt and answer may have then, together.

    Raises:
        ValueError: If n is negative, a kind is unknown or none is named, or
            `held_out` is none of the four. On iteration: if nothing is short enough.
    """
    if n < 0:
        raise ValueError(f"the number of examples cannot be negative, got {n}")
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"wanted kinds from {', '.join(KINDS)}, got {list(kinds)}")
    if held_out not in (False, True, "phrasing", "pair"):
        raise ValueError(
            f"held_out must be False, True, 'phrasing' or 'pair', got {held_out!r}"
        )
    limit = None if tokenizer is None else (tokenizer, max_tokens)
    rng = random.Random(f"instructions {seed}")
    return (_one(rng.choice(kinds), rng, held_out, limit) for _ in range(n))


def _one(
    kind: str, rng: random.Random, held_out: HeldOut, limit: tuple[Encoder, int] | None
) -> Example:
    """Return the first example that fits, from as many stories as it takes."""
    new_pair, new_phrasing = held_out in (True, "pair"), held_out in (True, "phrasing")
    for _ in range(_TRIES):
        tale = draw_tale(rng)
        if tale.new_pair != new_pair:
            continue
        example = make(kind, tale, rng, new_phrasing=new_phrasing)
        if example is None:
            continue
        if limit is None or _length(example, limit[0]) <= limit[1]:
            return example
    raise ValueError(
        f"found no example of kind {kind!r} in {_TRIES} stories"
        + (f" with at most {limit[1]} tokens" if limit else "")
    )


def _length(example: Example, tokenizer: Encoder) -> int:
    """Return the tokens of prompt and answer."""
    texts = (example.prompt, example.answer)
    return sum(len(tokenizer.encode(text)) for text in texts)


def check(example: Example, answer: str) -> bool:
    """Return whether an answer is right; no text makes it fail.

    Where the right answers can be listed, it must be one of them, but for case,
    punctuation and articles. Elsewhere it must make a tale, to the last letter,
    together with the beginning it was given, and the tale must have the facts that
    were asked for.
    """
    if example.accepted:
        return normalised(answer) in {normalised(text) for text in example.accepted}
    try:
        facts = parse(f"{example.beginning} {answer.strip()}".strip()).facts
    except ValueError:
        return False
    return all(facts.get(name) == word for name, word in example.wanted.items())


def normalised(answer: str) -> tuple[str, ...]:
    """Return the words of an answer that count.

    Marks count within a word alone, so that neither quotes nor dashes stick to one.

    >>> normalised("- 'Because the owl had a SILVER bell'")
    ('owl', 'had', 'silver', 'bell')
    """
    words = re.findall(r"\w+(?:['-]\w+)*", answer.lower())
    return tuple(w for w in words if w not in ("a", "an", "the", "because"))
