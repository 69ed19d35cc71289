"""A model against the grammar of the tales, whose best possible model is known.

    excess    a story's negative log-likelihood minus its exact one, in nats
    valid     how many of the model's own stories the grammar can write

The mean excess is the Kullback–Leibler divergence of the model from the grammar, per
story. Chance in the draw of the stories hardly touches it: a story that is improbable
under the grammar is so under the model too, and only the difference counts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import stdev
from typing import Any

import torch

from llmcourse.arguments import check_range
from llmcourse.model.generation import generate
from llmcourse.model.transformer import Transformer
from llmcourse.text import tales
from llmcourse.text.packing import end_of_text
from llmcourse.text.tales import Estimate
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import losses
from llmcourse.training.config import CountProgress
from llmcourse.training.intervals import Count
from llmcourse.training.text_loss import TextLoss, document_nll

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
        """The gap, from the excess: less noisy, since both losses are of one sample."""
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


def count_valid(samples: Sequence[Sample]) -> Count:
    """Return how many samples the grammar can write, to the last letter."""
    return Count(sum(sample.error is None for sample in samples), len(samples))


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
    check_range(2, n_stories=n_stories)
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
    generator: torch.Generator | None = None,
    progress: CountProgress | None = None,
) -> list[Sample]:
    """Let a model write stories from nothing; return which of them are tales.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        n: How many stories.
        generator: Source of randomness.
        progress: Called with the number of stories written and of all.

    Raises:
        ValueError: If n is not positive, or as `generation.generate`.
    """
    check_range(1, n=n)
    end = end_of_text(tokenizer)
    samples: list[Sample] = []
    while len(samples) < n:
        shape = (min(_SAMPLES_AT_ONCE, n - len(samples)), 1)
        prompts = torch.full(shape, end, device=model.embedding.weight.device)
        rows = generate(
            model,
            prompts,
            model.config.context_length - 1,
            stop=[end],
            generator=generator,
        )
        answers = (takewhile(end.__ne__, row) for row in rows[:, 1:].tolist())
        texts = map(tokenizer.decode, answers)
        samples += [Sample(text, _error(text)) for text in texts]
        if progress is not None:
            progress(len(samples), n)
    return samples


def _error(text: str) -> str | None:
    try:
        tales.parse(text)
    except ValueError as error:
        return str(error)
    return None
