"""The runs of the fine-tuning study: two tasks, from `base-llm-small` or from nothing.

    python book/studies/finetuning_study.py --out finetuning.json

takes about nine minutes on one core and goes on where it was stopped. The first task,
*plot*, names the plot of a tale from its first four sentences. The second, *pronoun*,
says whether the next *he* or *she* could mean two people; some of its runs see no
grandparent in training and are asked about them afterwards; others try adapters of
several ranks, and all weights, at the same learning rates. Each run is measured on
held-out texts, and on plain tales, which show what was forgotten. The chapter
*fine_tuning* tells what comes out.
"""

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import product
from pathlib import Path

import torch
from study_command import resumed, run_study_command, with_points

from llmcourse.finetuning import lora
from llmcourse.finetuning.classification import Classifier, accuracy
from llmcourse.finetuning.examples import TokenizedExample
from llmcourse.finetuning.finetuning import FinetuningConfig, finetune
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.studies import Study
from llmcourse.text import tales
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.evaluation import text_loss

Rows = list[tuple[str, int]]  # texts with their classes

WOMEN = ("mother", "grandmother", "aunt", "big sister")
EVERY_MATRIX = ("query", "key", "value", "output", "gate", "up", "down")
RANKS = (None, 1, 2, 4, 8, 16)  # None: all weights learn
RATES = (2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3, 6.4e-3)
N_CLASSES = {"plot": 10, "pronoun": 2, "no grandparents": 2}


@dataclass(frozen=True)
class Job:
    """One run: what is learned, from which start, by which weights, how fast."""

    task: str
    start: str  # "pretrained" or "random"
    rank: int | None  # of the adapters; None: all weights learn
    rate: float
    n_labels: int


@dataclass(frozen=True, kw_only=True)
class FinetuningPoint:
    """One run, and what came out."""

    task: str
    start: str
    rank: int | None
    rate: float
    n_labels: int
    seed: int
    right: float  # share of held-out texts
    grandparents: float | None  # the same, of those that no label was about
    tales: float  # what plain tales cost more than before, in nats per token


@dataclass(frozen=True, kw_only=True)
class FinetuningStudyConfig:
    """What all runs share."""

    steps: dict[str, int] = field(
        default_factory=lambda: {"plot": 48, "pronoun": 128, "no grandparents": 128}
    )
    batch_size: int = 8
    alpha: int = 8
    n_held_out: int = 200
    n_tales: int = 10


def jobs() -> list[Job]:
    """Return what the stored study asks, for each seed."""
    starts = (("pretrained", 6e-4), ("random", 2e-3))
    ways = product(RANKS, RATES)
    return [
        *(Job("plot", start, None, rate, 20) for start, rate in starts),
        *(Job("pronoun", "pretrained", rank, rate, 960) for rank, rate in ways),
        *(Job("no grandparents", start, None, 6e-4, 320) for start, _ in starts),
    ]


def run_finetuning_study(
    path: str | Path,
    wanted: Sequence[Job] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    config: FinetuningStudyConfig = FinetuningStudyConfig(),
    progress: Callable[[FinetuningPoint], None] | None = None,
) -> Study[FinetuningPoint]:
    """Do all runs, write the results after each, and return them.

    Runs that the file has are not done again.

    Args:
        path: The file of the results.
        wanted: The runs; None: those of the stored study.
        seeds: Each run is done once for each: with labels, head and order of its own.
        config: What the runs share.
        progress: Called with each run that was done.

    Raises:
        ValueError: If the file holds results of another recipe.
        OSError: If it cannot be written.
    """
    study = resumed(path, asdict(config), FinetuningPoint)
    base, tokenizer = load_pretrained("base-llm-small")
    before = _tale_loss(base, tokenizer, config.n_tales)
    done = {(_job(point), point.seed) for point in study.points}
    for job, seed in product(jobs() if wanted is None else wanted, seeds):
        if (job, seed) not in done:
            point = _run(job, seed, config, base, tokenizer, before)
            study = with_points(study, [point], path, progress)
    return study


def _job(point: FinetuningPoint) -> Job:
    return Job(point.task, point.start, point.rank, point.rate, point.n_labels)


@cache
def plots(n: int, seed: int) -> Rows:
    """Return n beginnings of tales, four sentences each; each plot as often."""
    heaps: dict[str, list[str]] = {}
    for story in tales.generate(2 * n + 100, seed=seed):  # enough of each
        sentences = re.split(r'(?<=[.!?"]) (?=[A-Z"])', story.text)
        heaps.setdefault(story.facts["plot"], []).append(" ".join(sentences[:4]))
    ordered = [heaps[plot] for plot in sorted(heaps)]
    rows = [enumerate(texts) for texts in zip(*ordered, strict=False)]
    return [(text, label) for row in rows for label, text in row][:n]


@cache
def pronouns(n: int, seed: int) -> Rows:
    """Return n openings, of each pairing of he and she as many."""
    heaps: dict[tuple[bool, bool], list[str]] = {
        pair: [] for pair in product((False, True), repeat=2)
    }
    for story in tales.generate(2 * n + 100, seed=seed):
        hero, relative = story.facts["hero"], story.facts["relative"]
        start, end = story.text.index(hero), story.text.index(relative)
        found = re.search(r"\b(his|her)\b", story.text)
        assert found is not None
        pair = found[0] == "her", relative in WOMEN
        heaps[pair].append(story.text[start : end + len(relative)])
    fours = zip(*heaps.values(), strict=False)
    rows = [zip(texts, heaps, strict=True) for texts in fours]
    return [(text, int(a == b)) for row in rows for text, (a, b) in row][:n]


def _texts(job: Job, seed: int, n_held_out: int) -> tuple[Rows, Rows, Rows]:
    """Return texts to learn from, texts to measure on, and those on grandparents."""
    make = plots if job.task == "plot" else pronouns
    test, pool = make(n_held_out, 12), make(1280, 100 + seed)
    train, other = [row for row in pool if row not in test], []
    if job.task == "no grandparents":
        other = [row for row in train if "grand" in row[0]][:n_held_out]
        train, test = (
            [row for row in rows if "grand" not in row[0]] for rows in (train, test)
        )
    return train[: job.n_labels], test, other


def _run(
    job: Job,
    seed: int,
    config: FinetuningStudyConfig,
    base: Transformer,
    tokenizer: BPETokenizer,
    before: float,
) -> FinetuningPoint:
    def tokenized(rows: Rows) -> list[TokenizedExample]:
        of_label = TokenizedExample.of_label
        return [of_label([0, *tokenizer.encode(text)], label) for text, label in rows]

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    if job.start == "pretrained":
        model = copy.deepcopy(base)
    else:
        model = Transformer(base.config, generator())
    classifier = Classifier(model, N_CLASSES[job.task], generator())
    if job.rank is not None:
        lora.add_lora(
            classifier.body, job.rank, config.alpha, EVERY_MATRIX, generator()
        )
    train, test, other = map(tokenized, _texts(job, seed, config.n_held_out))
    steps = config.steps[job.task]
    plan = FinetuningConfig(
        steps=steps,
        batch_size=config.batch_size,
        context_length=base.config.context_length,
        learning_rate=job.rate,
        warmup_steps=max(1, steps // 3),
        eval_interval=steps,
        eval_examples=1,
    )
    finetune(classifier, train, test, plan, generator())
    return FinetuningPoint(
        **asdict(job),
        seed=seed,
        right=round(accuracy(classifier, test), 4),
        grandparents=round(accuracy(classifier, other), 4) if other else None,
        tales=round(_tale_loss(model, tokenizer, config.n_tales) - before, 4),
    )


def _tale_loss(model: Transformer, tokenizer: BPETokenizer, n: int) -> float:
    """Return the loss on plain tales, in nats per token."""
    texts = [story.text for story in tales.generate(n, seed=13)]
    return text_loss(model, tokenizer, texts).loss


if __name__ == "__main__":
    run_study_command(run_finetuning_study, __doc__)
