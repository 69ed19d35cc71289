"""The loss word by word: where in a story a model pays, and for what.

    story       Once a girl named Ella … gave Ella   a      blue   boat.
    tokens      O nce a girl named E lla … gave E lla  a  blue  bo at .
    losses      2.1   0.0 1.2 0.1  2.9       0.0 3.1   0.4  3.8   5.0

A word is what white space separates, as in the grammar of the tales, so a model's
losses and the grammar's exact surprises stand side by side. Words that repeat a fact
of the story are what a model must remember rather than guess.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from llmcourse.grammar import Story
from llmcourse.packing import end_of_text
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer

_MARKS = ".,;:!?\"'"


class Recall(NamedTuple):
    """A word that repeats a fact of the story."""

    place: int  # of the word, counted from 0
    distance: int  # words back to where the fact last stood


@torch.inference_mode()
def word_losses(model: Transformer, tokenizer: BPETokenizer, text: str) -> list[float]:
    """Return what each word of a text costs a model, in nats; the last one ends it.

    White space belongs to the word behind it, and the end of the text to the last
    word, so the losses sum to that of the whole text.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        text: A text that fits into the model's context.

    Raises:
        ValueError: If the text has no word or is too long, if a token holds parts of
            two words, or if there is no `<|endoftext|>`.
    """
    end = end_of_text(tokenizer)
    ids = torch.tensor([end, *tokenizer.encode(text), end])
    if len(ids) - 1 > model.config.context_length:
        raise ValueError(
            f"the text must fit into {model.config.context_length} tokens, got "
            f"{len(ids) - 1}"
        )
    logits: Tensor = model(ids[None, :-1])[0]  # (T, V)
    losses = cross_entropy(logits, ids[1:], reduction="none").double()
    return _by_word(
        losses.tolist(), [tokenizer.decode([i]) for i in ids[1:-1].tolist()]
    )


def _by_word(losses: list[float], pieces: list[str]) -> list[float]:
    """Return the sum of losses over the pieces of each word; the last loss ends it all.

    >>> _by_word([1.0, 2.0, 4.0, 8.0], ["a", " bo", "at"])
    [1.0, 14.0]
    """
    words: list[float] = []
    space = 0.0  # loss of white space that waits for its word
    after_space = True
    for loss, piece in zip(losses[:-1], pieces, strict=True):
        if len(piece.split()) > 1:
            raise ValueError(f"a token must be part of one word, got {piece!r}")
        if not piece.strip():
            space, after_space = space + loss, True
            continue
        if after_space or piece[0].isspace():
            words.append(0.0)
        words[-1] += space + loss
        space, after_space = 0.0, piece[-1].isspace()
    if not words:
        raise ValueError("a loss by word needs at least one word, got none")
    words[-1] += space + losses[-1]
    return words


def recalls(story: Story) -> list[Recall]:
    """Return the words of a story that repeat the last word of one of its facts.

    The last words carry them: of "under the bridge" it is "bridge".

    >>> from llmcourse.tales import generate
    >>> story = next(generate(1, seed=0))
    >>> first = recalls(story)[0]
    >>> story.facts["hero"], story.text.split()[first.place], first.distance
    ('Carl', 'Carl', 24)
    """
    facts = {_bare(fact.split()[-1]) for fact in story.facts.values()}
    seen: dict[str, int] = {}
    found = []
    for place, word in enumerate(map(_bare, story.text.split())):
        if word not in facts:
            continue
        if word in seen:
            found.append(Recall(place, place - seen[word]))
        seen[word] = place
    return found


class RecallLosses(NamedTuple):
    """What words cost that repeat a fact, and all others, in nats per word."""

    recalls: float
    others: float
    n_recalls: int
    n_others: int


def recall_losses(
    stories: Sequence[Story], losses: Callable[[str], Sequence[float]]
) -> RecallLosses:
    """Return the mean loss of words that repeat a fact and of all others.

    Args:
        stories: Stories of the tales.
        losses: From a text to the loss of each of its words, in nats: a model's
            `word_losses`, or the exact ones of the grammar.

    Raises:
        ValueError: If there is no word of either kind.
    """
    found: dict[bool, list[float]] = {True: [], False: []}
    for story in stories:
        places = {place for place, _ in recalls(story)}
        for place, loss in enumerate(losses(story.text)):
            found[place in places].append(loss)
    counts = len(found[True]), len(found[False])
    if not all(counts):
        raise ValueError(
            f"wanted words that repeat a fact and others, got {counts[0]} and "
            f"{counts[1]}"
        )
    totals = math.fsum(found[True]), math.fsum(found[False])
    return RecallLosses(totals[0] / counts[0], totals[1] / counts[1], *counts)


def _bare(word: str) -> str:
    """Return a word without marks and possessive, in small letters.

    >>> _bare('"Ella,'), _bare("Ella's")
    ('ella', 'ella')
    """
    return word.strip(_MARKS).lower().removesuffix("'s").strip(_MARKS)
