"""What a model makes of the text before: losses by position, and facts recalled.

By position, losses show what more of the text before is worth: a model that makes use
of all that it has read predicts better and better. What is recalled shows how far back
a model remembers:

    Carl, a shy baker, … her yellow shawl …         gave the yellow ?
                             └────────── 61 tokens ─────────┘

The text up to the word is given, and the model is right if its most probable choice is
the word, at every token of it.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llmcourse.intervals import Count
from llmcourse.model.transformer import Transformer
from llmcourse.text.grammar import Story
from llmcourse.text.packing import end_of_text
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.evaluation import recalls, token_losses

EDGES = (0, 16, 32, 48, 64, 96, 128, 160, 224)  # in tokens; tales end soon after


@torch.inference_mode()
def position_losses(
    model: Transformer, tokenizer: BPETokenizer, texts: Sequence[str]
) -> Float64[Tensor, "document position"]:
    """Return what each token of some documents costs, in nats; NaN behind their ends.

    Each document is read from its start, and its end is predicted too.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        texts: Documents that fit into the model's context.

    Raises:
        ValueError: If one is too long, or if there is no `<|endoftext|>`.
    """
    rows = [token_losses(model, tokenizer, text)[1].double() for text in texts]
    return pad_sequence(rows, batch_first=True, padding_value=math.nan)


def means_between(
    losses: Float64[Tensor, "document position"], edges: Sequence[int] = EDGES
) -> list[float]:
    """Return the mean loss between each two positions, in nats per token.

    Args:
        losses: Of `position_losses`.
        edges: Increasing; the first of two belongs to the mean, the second not.
    """
    return [losses[:, start:end].nanmean().item() for start, end in pairwise(edges)]


BANDS: Mapping[int, tuple[int, int]] = {20: (15, 25), 60: (50, 70), 150: (120, 180)}
"""Distances, and between which ones what counts as such, in tokens."""

# Whether the hero is a boy or a girl is said again by every he and she.
_GIVEN_AWAY = {"boy", "girl"}


class FactRecall(NamedTuple):
    """A word that repeats a fact, and whether a model foretold it."""

    word: str
    distance: int  # tokens back to where the fact last stood
    right: bool


class Place(NamedTuple):
    """Where a word that repeats a fact stands, in tokens of its text."""

    word: str
    tokens: range  # of the word, without the marks around it
    distance: int  # tokens back to where the fact last stood


def fact_places(story: Story, pieces: Sequence[str]) -> Iterator[Place]:
    """Yield the words of a tale that repeat a fact, and their tokens.

    Names and other words of facts count, but not *boy* and *girl*.

    Args:
        story: The tale.
        pieces: The text of each of its tokens.

    >>> from llmcourse.text.tales import generate
    >>> story = next(generate(1, seed=0))
    >>> next(fact_places(story, list(story.text)))  # of one letter each
    Place(word='Carl', tokens=range(142, 146), distance=142)
    """
    starts = list(accumulate(map(len, pieces), initial=0))
    words = list(re.finditer(r"\S+", story.text))

    def tokens(place: int) -> tuple[str, range]:
        """Return a word without marks, and the tokens that hold its letters."""
        whole = words[place]
        letters = re.search(r"\w[\w-]*", whole.group())
        assert letters is not None  # a word of a fact has letters
        start, end = (whole.start() + edge for edge in letters.span())
        spans = enumerate(pairwise(starts))
        inside = [i for i, (first, last) in spans if first < end and start < last]
        return letters.group(), range(inside[0], inside[-1] + 1)

    for place, distance in recalls(story):
        word, here = tokens(place)
        _, before = tokens(place - distance)
        if word.lower() not in _GIVEN_AWAY:
            yield Place(word, here, here.start - before.start)


@torch.inference_mode()
def fact_recalls(
    model: Transformer, tokenizer: BPETokenizer, stories: Iterable[Story]
) -> list[FactRecall]:
    """Return every repeated fact of some tales, and whether the model foretold it.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        stories: Tales that fit into the model's context.

    Raises:
        ValueError: If a tale is too long, or if there is no `<|endoftext|>`.
    """
    end, found = end_of_text(tokenizer), []
    for story in stories:
        ids = tokenizer.encode(story.text)
        logits: Tensor = model(torch.tensor([[end, *ids[:-1]]]))[0]  # (T, V)
        right = (logits.argmax(dim=-1) == torch.tensor(ids)).tolist()
        for place in fact_places(story, [tokenizer.decode([i]) for i in ids]):
            all_right = all(right[token] for token in place.tokens)
            found.append(FactRecall(place.word, place.distance, all_right))
    return found


def shares_by_distance(found: Iterable[FactRecall]) -> dict[int, Count]:
    """Return the share of right ones in each band of distances.

    >>> cases = [FactRecall("Mia", 20, True), FactRecall("blue", 22, False)]
    >>> shares_by_distance(cases)[20]
    Count(right=1, n=2)
    """
    cases, shares = list(found), {}
    for name, (least, most) in BANDS.items():
        right = [case.right for case in cases if least <= case.distance <= most]
        shares[name] = Count(sum(right), len(right))
    return shares
