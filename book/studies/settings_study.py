"""What the settings of a training do: one is changed at a time, with three seeds each.

    python book/studies/settings_study.py --out settings.json

takes some six minutes on one core and goes on where it was stopped. All models have two
layers of width 64 and read 320 stories of the tales, once, from a random start. The
chapter *scaling_laws* shows what comes out.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from study_command import resumed, run_study_command, with_points

from llmcourse.model.transformer import Transformer
from llmcourse.studies import Study
from llmcourse.text.tales import generate, log_prob
from llmcourse.training.evaluation import text_loss
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.pipeline import TrainingData, prepare
from llmcourse.training.presets import SMALL
from llmcourse.training.pretraining import train_step
from llmcourse.training.windows import Windows


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a training changes of the recipe that all share."""

    group: str  # which of the chapter's comparisons it is of
    optimizer: str = "adamw"
    changes: dict[str, Any] = field(default_factory=dict)  # of `PretrainingConfig`


@dataclass(frozen=True, kw_only=True)
class Result:
    """One trained model."""

    group: str
    optimizer: str
    changes: dict[str, Any]
    seed: int
    loss: float  # on held-out stories, in nats per token


def _rates(group: str, rates: Sequence[float], **others: Any) -> list[Setting]:
    optimizer = others.pop("optimizer", "adamw")
    return [
        Setting(group=group, optimizer=optimizer, changes={"learning_rate": r} | others)
        for r in rates
    ]


SETTINGS = (
    *_rates("AdamW", (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)),
    *_rates("SGD", (0.1, 0.3, 1.0), optimizer="sgd"),
    *_rates("Muon", (0.008, 0.016, 0.032), optimizer="muon"),
    *_rates("batch of 4", (0.008, 0.016), batch_size=4, steps=80, warmup_steps=4),
    *_rates("weight decay 1", (0.008,), weight_decay=1.0),
    *_rates("no weight decay", (0.008,), weight_decay=0.0),
    *_rates("no warm-up", (0.008, 0.016), warmup_steps=0),
    *_rates("constant rate", (0.004, 0.008), final_share=1.0),
)


@dataclass(frozen=True, kw_only=True)
class SettingsConfig:
    """What all trainings share."""

    seeds: tuple[int, ...] = (0, 1, 2)  # of the first weights and the order
    d_model: int = 64
    steps: int = 320  # of one story each
    warmup_steps: int = 16
    n_held_out: int = 100  # stories


def run_study(
    path: str | Path,
    settings: Sequence[Setting] = SETTINGS,
    config: SettingsConfig = SettingsConfig(),
    progress: Callable[[Result], None] | None = None,
) -> Study[Result]:
    """Train all models, write the results after each, and return them.

    The recipe has the exact price of the held-out stories, too, as "floor".

    Args:
        path: The file of the results.
        settings: Which trainings.
        config: What they share.
        progress: Called with each model that was trained.

    Raises:
        ValueError: If the file holds results of another recipe.
        OSError: If it cannot be written.
    """
    data = prepare(SMALL)
    texts = [story.text for story in generate(config.n_held_out, seed=1)]
    n_tokens = sum(len(data.tokenizer.encode(text)) + 1 for text in texts)
    floor = -sum(map(log_prob, texts)) / n_tokens
    recipe = asdict(config) | {"seeds": list(config.seeds), "floor": round(floor, 5)}
    study = resumed(path, recipe, Result)
    for one in settings:
        for seed in config.seeds:
            shared = {**asdict(one), "seed": seed}
            done = [{**asdict(point), "loss": None} for point in study.points]
            if {**shared, "loss": None} not in done:
                loss = _train(one, seed, config, data, texts)
                point = Result(**shared, loss=round(loss, 4))
                study = with_points(study, [point], path, progress)
    return study


def _train(
    setting: Setting,
    seed: int,
    config: SettingsConfig,
    data: TrainingData,
    texts: Sequence[str],
) -> float:
    """Return the loss of a model on held-out texts, in nats per token."""
    heads = config.d_model // 32
    sizes = replace(
        SMALL.model,
        d_model=config.d_model,
        n_heads=heads,
        n_kv_heads=heads,
        d_ff=4 * round(config.d_model * 2 / 3),
    )
    shared = {
        "steps": config.steps,
        "warmup_steps": config.warmup_steps,
        "embedding_speed": 1,
    }
    training = replace(SMALL.pretraining, **(shared | setting.changes))
    model = Transformer(sizes, torch.Generator().manual_seed(seed))
    optimizer: torch.optim.Optimizer
    if setting.optimizer == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    else:
        chosen = {} if setting.optimizer == "adamw" else {"optimizer": "muon"}
        optimizer = make_optimizer(model, replace(training, **chosen))
    windows = Windows(data.train, training.context_length, start_token=0)
    order = torch.Generator().manual_seed(seed)
    batches = windows.shuffled(training.batch_size, order)
    for step in range(training.steps):
        train_step(model, optimizer, next(batches), step, training)
    return text_loss(model, data.tokenizer, texts).loss


if __name__ == "__main__":
    run_study_command(run_study, __doc__)
