"""The runs of the chapter *transformer*: what each part is for, and who takes what.

    python book/studies/transformer_study.py --out transformer.json

has 36 short trainings, ten minutes on one core, and goes on where it was stopped:

    walks     small models that lack a part, on the task `A B … A`, over three seeds
    tales     a mixture of experts beside two dense models, over three seeds

What it trains, and how, are the chapter's own functions, taken from its source: the
recipe holds a hash of them, so results of an older page are not taken for new ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study_command import page_functions, resumed, run_study_command, with_points

from llmcourse.studies import Study

PAGE = Path(__file__).parents[1] / "src" / "transformer.py"
NAMES = [
    "N_LETTERS",
    "random_walks",
    "without_residual",
    "remove",
    "small_model",
    "train_on_walks",
    "kinds_of_heads",
    "MixtureOfExperts",
    "balance_loss",
    "words_of",
    "COMMON",
    "NUMBER",
    "READ",
    "READERS",
    "small_reader",
    "train_on_tales",
    "routed_words",
]
SEEDS = 0, 1, 2
WALKS = {  # name: layers, part that is missing, steps
    "two layers": (2, "", 400),
    "one layer": (1, "", 1200),
    "no positions": (2, "positions", 1200),
    "no network": (2, "network", 400),
    "no norms": (2, "norms", 1200),
    "no residual": (2, "residual", 1200),
    "six layers": (6, "", 400),
    "six, no residual": (6, "residual", 1200),
}
TALES = "dense, 64 wide", "mixture", "mixture, no balance", "dense, 256 wide"
EVERY = 20  # steps that a stored loss is the mean of


@dataclass(frozen=True, kw_only=True)
class TransformerPoint:
    """One training: the task, what was trained, and what came out."""

    task: str
    name: str
    seed: int
    losses: list[float]  # means over `EVERY` steps; of tales, on held-out ones
    found: dict[str, Any]  # of walks, heads by kind; of tales, experts by word


def means(losses: list[float]) -> list[float]:
    """Return the mean loss of each `EVERY` steps."""
    chunks = [losses[i : i + EVERY] for i in range(0, len(losses), EVERY)]
    return [round(sum(chunk) / len(chunk), 4) for chunk in chunks]


def walk_point(page: dict[str, Any], name: str, seed: int) -> TransformerPoint:
    """Train a small model on walks; if it is whole, see what its heads look at."""
    n_layers, without, steps = WALKS[name]
    model = page["small_model"](n_layers, without, seed)
    losses = means(page["train_on_walks"](model, steps, seed))
    found = {}
    if name == "two layers":
        generator = page["torch"].Generator().manual_seed(3)
        ids, known = page["random_walks"](500, generator)
        shares = page["kinds_of_heads"](model, ids[:, :-1], known)
        kinds = "before", "behind a copy"
        found = {k: share.tolist() for k, share in zip(kinds, shares, strict=True)}
    return TransformerPoint(
        task="walks", name=name, seed=seed, losses=losses, found=found
    )


def tale_point(page: dict[str, Any], name: str, seed: int) -> TransformerPoint:
    """Train a reader of tales with one of the networks."""
    model = page["small_reader"](name, seed)
    balance = 0.0 if "no balance" in name else 0.01
    loss = page["train_on_tales"](model, balance, seed=seed)
    found: dict[str, Any] = {}
    if name.startswith("mixture"):
        shares, words, usual = page["routed_words"](model)
        found = {"shares": shares, "words": words, "usual": usual}
    return TransformerPoint(
        task="tales", name=name, seed=seed, losses=[round(loss, 4)], found=found
    )


def run_transformer_study(
    path: str | Path,
    names: tuple[str, ...] = (*WALKS, *TALES),
    seeds: tuple[int, ...] = SEEDS,
    progress: Callable[[TransformerPoint], None] | None = None,
) -> Study[TransformerPoint]:
    """Train what is not in the file yet, and return all."""
    page, code = page_functions(PAGE, NAMES)
    study = resumed(path, {"code": code, "every": EVERY}, TransformerPoint)
    done = {(point.name, point.seed) for point in study.points}
    for name in names:
        for seed in seeds:
            if (name, seed) not in done:
                one = walk_point if name in WALKS else tale_point
                points = [one(page, name, seed)]
                study = with_points(study, points, path, progress)
    return study


if __name__ == "__main__":
    run_study_command(run_transformer_study, __doc__)
