"""How soon a model learns to look a word up, from four starts and five seeds.

    python book/studies/copying_study.py --out copying.json

takes some two minutes on one core and goes on where it was stopped. Each text is
thirty-one words and one colour, anywhere; then a mark asks for the colour. The chapter
*pretraining* shows the curves.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from study_command import resumed, run_study_command, with_points
from torch import Tensor
from torch.nn.functional import cross_entropy

from llmcourse.model.attention import attention_weights
from llmcourse.model.transformer import (
    Transformer,
    TransformerConfig,
    mimetic_initialisation,
)
from llmcourse.studies import Study
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.pretraining import train_step

STARTS = ("neither", "W_O = W_V^T", "large embeddings", "both")
N_WORDS = 32  # of a text, before the mark
N_KINDS = 64  # of words, and of colours


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One training: what was measured after each number of texts."""

    start: str
    seed: int  # of the first weights and of the texts
    losses: list[float]  # of the answer, in nats
    looks: list[float]  # share of the better head's attention on the colour


@dataclass(frozen=True, kw_only=True)
class CopyingConfig:
    """What all trainings share."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 600
    batch_size: int = 16  # texts
    interval: int = 20  # steps from one measurement to the next
    learning_rate: float | int = 3e-3
    d_model: int = 64
    n_heads: int = 2
    embedding_speed: int = 4  # where the embeddings are large


def lookups(n_texts: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return texts (B, T + 2), each with its answer at the end, and the places (B)."""

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    rows = draw(N_KINDS + 1, 2 * N_KINDS + 1, n_texts, N_WORDS + 2)
    colour, place = draw(1, N_KINDS + 1, n_texts), draw(0, N_WORDS, n_texts)
    rows[torch.arange(n_texts), place] = colour
    rows[:, -2], rows[:, -1] = 0, colour  # 0 asks which colour it was
    return rows, place


def new_model(start: str, seed: int, config: CopyingConfig) -> Transformer:
    """Return a model of one block with one of the four starts."""
    sizes = TransformerConfig(
        vocab_size=2 * N_KINDS + 1,
        d_model=config.d_model,
        n_layers=1,
        n_heads=config.n_heads,
        n_kv_heads=config.n_heads,
        d_ff=2 * config.d_model,
        context_length=64,
    )
    generator = torch.Generator().manual_seed(seed)
    usual, mimetic = Transformer(sizes, generator), Transformer(sizes)
    mimetic.load_state_dict(usual.state_dict())
    mimetic_initialisation(mimetic, generator)
    wanted = {
        "neither": [],
        "W_O = W_V^T": ["attention"],
        "large embeddings": ["embedding", "norm.weight"],
        "both": [""],
    }[start]
    state = usual.state_dict()
    for name, weight in mimetic.state_dict().items():
        inside = name.startswith("blocks.")
        for part in wanted:
            if part in name and (part != "norm.weight" or not inside):
                state[name] = weight
    usual.load_state_dict(state)
    return usual


@torch.no_grad()
def judged(model: Transformer, rows: Tensor, places: Tensor) -> tuple[float, float]:
    """Return the loss of the answers, and the share of attention on the colours."""
    answers = model(rows[:, :-1])[:, -1]  # (B, V)
    weights = attention_weights(model, rows[:, :-1])[0, :, :, -1]  # (B, H, T)
    looks = weights[torch.arange(len(rows)), :, places].mean(dim=0).max()
    return cross_entropy(answers, rows[:, -1]).item(), looks.item()


def run_study(
    path: str | Path,
    config: CopyingConfig = CopyingConfig(),
    progress: Callable[[Curve], None] | None = None,
) -> Study[Curve]:
    """Train all models, write the results after each, and return them.

    Args:
        path: The file of the results.
        config: What they share.
        progress: Called with each model that was trained.

    Raises:
        ValueError: If the file holds results of another recipe.
        OSError: If it cannot be written.
    """
    recipe = asdict(config) | {"seeds": list(config.seeds)}
    study = resumed(path, recipe, Curve)
    for seed in config.seeds:
        for start in STARTS:
            if (start, seed) not in {(p.start, p.seed) for p in study.points}:
                study = with_points(
                    study, [_train(start, seed, config)], path, progress
                )
    return study


def _train(start: str, seed: int, config: CopyingConfig) -> Curve:
    large = start in ("large embeddings", "both")
    training = PretrainingConfig(
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        embedding_speed=config.embedding_speed if large else 1,
        warmup_steps=10,
    )
    model = new_model(start, seed, config)
    optimizer = make_optimizer(model, training)
    tests, places = lookups(100, torch.Generator().manual_seed(1000))
    texts = torch.Generator().manual_seed(seed)
    found = []
    for step in range(config.steps):
        if step % config.interval == 0:
            found.append(judged(model, tests, places))
        rows, _ = lookups(config.batch_size, texts)
        train_step(model, optimizer, rows, step, training)
    found.append(judged(model, tests, places))
    losses, looks = zip(*found, strict=True)
    return Curve(
        start=start,
        seed=seed,
        losses=[round(loss, 3) for loss in losses],
        looks=[round(share, 3) for share in looks],
    )


if __name__ == "__main__":
    run_study_command(run_study, __doc__)
