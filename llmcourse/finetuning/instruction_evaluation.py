"""How many instructions a model follows exactly, and what it forgot while learning.

    seen wordings, new stories    has it learned the tasks?
    held-out wordings             does it understand the request, or know it by heart?
    held-out combinations         heroes and plots that no instruction combined

Every kind of task has the same number of instructions, so the overall share is the
mean of the kinds' shares. A rule decides whether an answer is right; each share has a
Wilson interval. Questions are answered greedily. Tales are sampled: greedy ones are
less often valid, because they repeat words that the grammar draws only once.

Forgetting is measured on plain stories: how far the loss is above that of the best
possible model, before and after, on the same stories.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import stdev
from typing import Any

import torch

from llmcourse.arguments import check_one_of, check_range
from llmcourse.finetuning.answering import answer_batch, knows_conversations
from llmcourse.finetuning.instructions import KINDS, Example, HeldOut, check, examples
from llmcourse.intervals import Count
from llmcourse.model.generation import GREEDY, Sampling
from llmcourse.model.transformer import Transformer
from llmcourse.text import tales
from llmcourse.text.tales import Estimate
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import CountProgress, StageProgress
from llmcourse.training.evaluation import TEST_SEED, document_nll

SPLITS: Mapping[str, HeldOut] = {
    "seen wordings, new stories": False,
    "held-out wordings": "phrasing",
    "held-out combinations": "pair",
}
"""What is asked, by name: `held_out` of `instructions.examples`."""

TALE_TEMPERATURE = 0.5
"""At which tales are sampled; all other answers are greedy."""

# Of prompt and answer. The recipe of `instruct-llm` allows 480, but the numbers on the
# cards are measured with this limit.
_MOST_TOKENS = 420


@dataclass(frozen=True)
class Score:
    """Right answers to instructions, by kind.

    >>> score = Score({"who": Count(3, 4), "why": Count(1, 4)})
    >>> score.overall
    Count(right=4, n=8)
    """

    by_kind: Mapping[str, Count]

    @property
    def overall(self) -> Count:
        """Right answers over all kinds."""
        counts = self.by_kind.values()
        return Count(sum(c.right for c in counts), sum(c.n for c in counts))

    def to_json(self) -> dict[str, Any]:
        """Return all counts, shares and intervals."""
        kinds = {kind: count.to_json() for kind, count in self.by_kind.items()}
        return {"overall": self.overall.to_json(), "by_kind": kinds}


def instruction_scores(
    model: Transformer,
    tokenizer: BPETokenizer,
    n_per_kind: int = 30,
    seed: int = TEST_SEED,
    *,
    splits: Sequence[str] = tuple(SPLITS),
    kinds: Sequence[str] = KINDS,
    progress: CountProgress | None = None,
) -> dict[str, Score]:
    """Return how many instructions a model follows exactly, in each split.

    Its answers are greedy; tales, whose right answers cannot be listed, are sampled.
    Instructions that with their answers have more than 420 tokens, or than the model's
    context less 8, are left out. All kinds are drawn with one seed and share some
    stories, although the interval of the overall share assumes independent questions.

    Args:
        model: The model.
        tokenizer: Its tokenizer. Without the special tokens of `chat`, the model is
            given its best chance: either all that it writes or the first sentence
            may be the answer.
        n_per_kind: How many instructions of each kind, in each split.
        seed: Of the instructions; must differ from the one of training.
        splits: Names from `SPLITS`.
        kinds: Kinds of task.
        progress: Called with the number of instructions answered and the total.

    Raises:
        ValueError: If nothing is asked, or a split or a kind is unknown.
    """
    check_range(1, n_per_kind=n_per_kind, kinds=len(kinds), splits=len(splits))
    for split in splits:
        check_one_of("split", split, SPLITS)
    longest = min(_MOST_TOKENS, model.config.context_length - 8)
    draw = partial(examples, n_per_kind, seed, tokenizer=tokenizer, max_tokens=longest)
    asked = [
        (split, kind, example)
        for split in splits
        for kind in kinds
        for example in draw(kinds=[kind], held_out=SPLITS[split])
    ]
    counts = {split: dict.fromkeys(kinds, Count(0, 0)) for split in splits}
    chatty = knows_conversations(tokenizer)
    generator = torch.Generator().manual_seed(seed)
    sampled = Sampling(temperature=TALE_TEMPERATURE)
    for is_question, sampling in ((True, GREEDY), (False, sampled)):
        part = [one for one in asked if bool(one[-1].accepted) == is_question]
        n_before = 0 if is_question else len(asked) - len(part)
        texts = answer_batch(
            model,
            tokenizer,
            [example.turns for *_, example in part],
            max_new_tokens=[_most_tokens(e, tokenizer, model) for *_, e in part],
            sampling=sampling,
            generator=generator,
            progress=progress and partial(_tell, progress, n_before, len(asked)),
        )
        for (split, kind, example), text in zip(part, texts, strict=True):
            tries = [text] if chatty else [text, first_sentence(text)]
            is_right = any(check(example, each) for each in tries)
            before = counts[split][kind]
            counts[split][kind] = Count(before.right + is_right, before.n + 1)
    return {split: Score(found) for split, found in counts.items()}


def _tell(progress: CountProgress, n_before: int, n: int, done: int, _: int) -> None:
    """Report how many of all are done, given how many of one part."""
    progress(n_before + done, n)


def _most_tokens(example: Example, tokenizer: BPETokenizer, model: Transformer) -> int:
    """Return the number of tokens after which an answer must be wrong."""
    if not example.accepted:
        return model.config.context_length
    lengths = (len(tokenizer.encode(text)) for text in example.accepted)
    return 2 * max(lengths) + 8


def first_sentence(text: str) -> str:
    """Return a text up to its first `.`, `!`, `?` or line break.

    >>> first_sentence(" The owl. Then it flew away.")
    'The owl.'
    """
    return re.split(r"(?<=[.!?\n])", text.strip(), maxsplit=1)[0].strip()


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """The loss on plain stories above the entropy floor, before and after a run."""

    n_stories: int
    before: float  # nats/token above the floor
    after: float  # nats/token above the floor
    increase: Estimate  # nats/token, with its standard error over the stories

    def to_json(self) -> dict[str, Any]:
        """Return all numbers."""
        return vars(self) | {"increase": self.increase._asdict()}


def forgetting(
    before: tuple[Transformer, BPETokenizer],
    after: tuple[Transformer, BPETokenizer],
    n_stories: int = 200,
    seed: int = TEST_SEED,
    progress: StageProgress | None = None,
) -> Forgetting:
    """Return how much the loss on plain stories has risen, in nats per token.

    Both models read the same stories, so that the luck of the draw cancels out.

    Args:
        before: A model, and its tokenizer.
        after: The model made from it; its tokenizer may have more special tokens.
        n_stories: How many stories.
        seed: Of the stories.
        progress: Called with "stories before" or "stories after", the number of
            windows read, and the total.

    Raises:
        ValueError: If there are fewer than two stories, or if the tokenizers differ.
    """
    check_range(2, n_stories=n_stories)
    stories = list(tales.generate(n_stories, seed))
    texts = [story.text for story in stories]
    bars = [progress and partial(progress, f"stories {n}") for n in ("before", "after")]
    first, n_tokens = document_nll(*before, texts, bars[0])
    second, n_others = document_nll(*after, texts, bars[1])
    if n_tokens != n_others:
        raise ValueError(
            "both tokenizers must cut stories into the same tokens, got "
            f"{sum(n_tokens)} and {sum(n_others)} of them"
        )
    exact = -math.fsum(story.log_prob for story in stories)
    total = sum(n_tokens)
    changes = [b - a for a, b in zip(first, second, strict=True)]  # nats per story
    error = stdev(changes) * math.sqrt(n_stories) / total
    return Forgetting(
        n_stories=n_stories,
        before=(math.fsum(first) - exact) / total,
        after=(math.fsum(second) - exact) / total,
        increase=Estimate(math.fsum(changes) / total, error),
    )
