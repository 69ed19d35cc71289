"""A model against the grammar of the tales, whose best possible model is known.

    excess    a story's negative log-likelihood minus its exact one, in nats
    valid     how many of the model's own stories the grammar can write
    recalled  how many facts of a story the model repeats, by how far back they are

The mean excess is the Kullback–Leibler divergence of the model from the grammar, per
story. Chance in the draw of the stories hardly touches it: a story that is improbable
under the grammar is so under the model too, and only the difference counts.

What is recalled shows how far back a model remembers:

    Carl, a shy baker, … her yellow shawl …         gave the yellow ?
                             └────────── 61 tokens ─────────┘

The text up to the word is given, and the model is right if its most probable choice is
the word, at every token of it.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import stdev
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llmcourse.model.generation import Sampling, generate
from llmcourse.model.transformer import Transformer
from llmcourse.text import tales
from llmcourse.text.grammar import Story
from llmcourse.text.packing import end_of_text
from llmcourse.text.tales import Estimate
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import losses
from llmcourse.training.config import CountProgress
from llmcourse.training.intervals import Interval, wilson_interval
from llmcourse.training.text_loss import TextLoss, document_nll, recalls

TEST_SEED = 1_000_000  # of stories that no preset trains on
_SAMPLES_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True)
class TaleLoss:
    """How near a model is to the grammar, measured on stories it has not seen."""

    text: TextLoss
    floor: Estimate  # entropy in nats per token, expected of any stories
    sample_floor: float  # nats per token: exact, of these stories
    excess: Estimate  # nats per story: the model's nll minus the exact one

    @property
    def gap(self) -> float:
        """Share of the floor by which the loss lies above it, as a fraction."""
        return losses.gap_to_floor(self.text.loss, self.floor.value)

    @property
    def paired_gap(self) -> Estimate:
        """The same from the excess: of less chance, since the stories are the same."""
        entropy = tales.world().entropy()  # nats per story
        return Estimate(*(value / entropy for value in self.excess))

    def to_json(self) -> dict[str, Any]:
        """Return all numbers, derived ones too."""
        return self.text.to_json() | {
            "floor": self.floor._asdict(),
            "sample_floor": self.sample_floor,
            "gap": self.gap,
            "excess_per_story": self.excess._asdict(),
            "paired_gap": self.paired_gap._asdict(),
        }


@dataclass(frozen=True)
class Sample:
    """A story that a model wrote."""

    text: str
    error: str | None  # why the grammar cannot write it; None for a valid one


@dataclass(frozen=True)
class Samples:
    """How many of a model's own stories are stories of the grammar."""

    samples: tuple[Sample, ...]

    @property
    def n_valid(self) -> int:
        """Number of samples that the grammar can write, to the last letter."""
        return sum(sample.error is None for sample in self.samples)

    @property
    def valid_share(self) -> float:
        """Share of valid samples, as a fraction."""
        return self.n_valid / len(self.samples)

    @property
    def interval(self) -> Interval:
        """Where the share lies that more samples would show, at 95 %."""
        return wilson_interval(self.n_valid, len(self.samples))

    def to_json(self) -> dict[str, Any]:
        """Return counts, share and interval."""
        return {
            "n": len(self.samples),
            "n_valid": self.n_valid,
            "valid_share": self.valid_share,
            "interval": self.interval._asdict(),
        }


def tale_loss(
    model: Transformer,
    tokenizer: BPETokenizer,
    n_stories: int = 500,
    seed: int = TEST_SEED,
    progress: CountProgress | None = None,
) -> TaleLoss:
    """Return how near a model is to the grammar, on freshly drawn stories.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        n_stories: How many stories to draw.
        seed: Of the stories; another one than the training's.
        progress: As in `text_loss.text_loss`.

    Raises:
        ValueError: If there are fewer than two stories, or no `<|endoftext|>`.
    """
    if n_stories < 2:
        raise ValueError(f"a standard error needs at least 2 stories, got {n_stories}")
    stories = list(tales.generate(n_stories, seed))
    texts = [story.text for story in stories]
    nll, n_tokens = document_nll(model, tokenizer, texts, progress)
    excess = [p + story.log_prob for p, story in zip(nll, stories, strict=True)]
    return TaleLoss(
        text=TextLoss(
            n_documents=n_stories,
            n_tokens=sum(n_tokens),
            n_bytes=sum(len(text.encode()) for text in texts),
            loss=math.fsum(nll) / sum(n_tokens),
        ),
        floor=tales.entropy_per_token(tokenizer, texts),
        sample_floor=-math.fsum(s.log_prob for s in stories) / sum(n_tokens),
        excess=Estimate(
            math.fsum(excess) / n_stories, stdev(excess) / math.sqrt(n_stories)
        ),
    )


def write_samples(
    model: Transformer,
    tokenizer: BPETokenizer,
    n: int = 200,
    *,
    sampling: Sampling = Sampling(),
    generator: torch.Generator | None = None,
    progress: CountProgress | None = None,
) -> Samples:
    """Let a model write stories from nothing; return which of them are tales.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        n: How many stories.
        sampling: Temperature, top-k and top-p.
        generator: Source of randomness.
        progress: Called with the number of stories written and of all.

    Raises:
        ValueError: If n is not positive, or as `generation.generate`.
    """
    if n < 1:
        raise ValueError(f"the number of samples must be positive, got {n}")
    end = end_of_text(tokenizer)
    samples: list[Sample] = []
    while len(samples) < n:
        prompts = torch.full((min(_SAMPLES_AT_ONCE, n - len(samples)), 1), end)
        rows = generate(
            model,
            prompts,
            model.config.context_length - 1,
            sampling=sampling,
            stop=[end],
            generator=generator,
        )
        texts = (tokenizer.decode(_until(row, end)) for row in rows[:, 1:].tolist())
        samples += [Sample(text, _error(text)) for text in texts]
        if progress is not None:
            progress(len(samples), n)
    return Samples(tuple(samples))


def _until(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids


def _error(text: str) -> str | None:
    try:
        tales.parse(text)
    except ValueError as error:
        return str(error)
    return None


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

    Raises:
        ValueError: If the pieces do not make up the text.

    >>> from llmcourse.text.tales import generate
    >>> story = next(generate(1, seed=0))
    >>> next(fact_places(story, list(story.text)))  # of one letter each
    Place(word='Carl', tokens=range(142, 146), distance=142)
    """
    if "".join(pieces) != story.text:
        raise ValueError(f"wanted the pieces of {story.text!r}, got {list(pieces)!r}")
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


class Share(NamedTuple):
    """How many of some cases were right."""

    right: int
    n: int

    @property
    def rate(self) -> float:
        """The share, as a fraction of one."""
        return self.right / self.n


def shares_by_distance(
    found: Iterable[FactRecall], bands: Mapping[int, tuple[int, int]] = BANDS
) -> dict[int, Share]:
    """Return the share of right ones in each band of distances.

    Args:
        found: From `fact_recalls`.
        bands: By name, the least and the largest distance, in tokens.

    Raises:
        ValueError: If a band is empty.

    >>> cases = [FactRecall("Mia", 20, True), FactRecall("blue", 22, False)]
    >>> shares_by_distance(cases, {20: (15, 25)})
    {20: Share(right=1, n=2)}
    """
    cases, shares = list(found), {}
    for name, (least, most) in bands.items():
        right = [case.right for case in cases if least <= case.distance <= most]
        if not right:
            raise ValueError(
                f"no fact stands {least} to {most} tokens back, of {len(cases)}"
            )
        shares[name] = Share(sum(right), len(right))
    return shares
