"""Train skip-gram with four other seeds, and ask all analogies of each.

    python book/studies/analogy_study.py --out llmcourse/data/analogies.json

The chapter `embeddings` trains once; what it says of the eight relations it holds
against these runs. About a minute for each on one core.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from study_command import resumed, run_study_command, with_points

from llmcourse.text import tales
from llmcourse.text.embeddings import (
    SkipGramConfig,
    neighbour_purity,
    relations,
    score_analogies,
    train_skipgram,
    word_classes,
)

SEEDS = (1, 2, 3, 4)
RECIPE = asdict(SkipGramConfig()) | {"n_stories": 3000}


@dataclass(frozen=True, kw_only=True)
class AnalogyRun:
    """What one run finds, as shares; of questions by relation."""

    seed: int
    same_class: float  # of the words whose nearest is of their class
    right: dict[str, float]
    nearest: dict[str, float]  # without arithmetic
    copied: dict[str, float]  # b or c would be the best answer


def analogy_run(stories: list[str], seed: int) -> AnalogyRun:
    """Train once, and ask all questions."""
    generator = torch.Generator().manual_seed(seed)
    vectors = train_skipgram(stories, generator).vectors
    classes = {word: kind for word, kind in word_classes().items() if word in vectors}
    kinds = sorted(set(classes.values()))
    labels = torch.tensor([kinds.index(kind) for kind in classes.values()])
    same = neighbour_purity(vectors.only(classes).vectors, labels)
    scores = {
        name: score_analogies(vectors, pairs) for name, pairs in relations().items()
    }

    def shares(kind: str) -> dict[str, float]:
        return {n: round(getattr(s, kind).mean().item(), 3) for n, s in scores.items()}

    return AnalogyRun(
        seed=seed,
        same_class=round(same.mean().item(), 3),
        right=shares("right"),
        nearest=shares("nearest"),
        copied=shares("copied"),
    )


def run_analogy_study(
    path: str | Path,
    seeds: Sequence[int] = SEEDS,
    n_stories: int = 3000,
    progress: Callable[[AnalogyRun], None] | None = None,
) -> None:
    """Write the study into a file, run by run; go on from there if it was stopped."""
    stories = [story.text for story in tales.generate(n_stories, seed=0)]
    study = resumed(path, RECIPE | {"n_stories": n_stories}, AnalogyRun)
    done = {point.seed for point in study.points}
    for seed in sorted(set(seeds) - done):
        study = with_points(study, [analogy_run(stories, seed)], path, progress)


if __name__ == "__main__":
    run_study_command(run_analogy_study, __doc__)
