"""A ladder of recipes for pretraining: one thing changed at a time, three seeds each.

    python book/studies/ladder_study.py --out ladder.json

takes some three hours on one core with bfloat16 and goes on where it was stopped. All
models but those of one rung read the same number of stories, each once. A model is
measured by the nats that a new story costs it above the grammar's own price.

With `--steps 3000` the best rung, and the one it is compared with, are climbed again
at three times the length, in an hour: does a lead last?
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from study_command import resumed, run_study_command, with_points

from llmcourse.model.costs import n_parameters
from llmcourse.studies import Study
from llmcourse.training.config import fall_back_to_float32
from llmcourse.training.evaluation import tale_loss
from llmcourse.training.pipeline import TrainingData, prepare, run_recipe
from llmcourse.training.presets import BASE_LLM_SMALL


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One model of the ladder: a recipe, and what a story costs above the floor."""

    name: str  # of the recipe
    seed: int  # of the first weights and the order of the stories
    n_parameters: int
    n_stories: int  # that were read
    excess: float  # nats per story


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One rung: what it changes of the study's recipe.

    Attributes:
        name: Of the rung.
        model: Fields of `TransformerConfig`.
        training: Fields of `PretrainingConfig`.
        copying_start: Whether to begin with `mimetic_initialisation`.
    """

    name: str
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    copying_start: bool = True


def _shape(width: int, layers: int, d_ff: int) -> dict[str, int]:
    heads = width // 32
    return {
        "d_model": width,
        "n_layers": layers,
        "d_ff": d_ff,
        "n_heads": heads,
        "n_kv_heads": heads,
    }


def _muon(**training: Any) -> dict[str, Any]:
    return {"optimizer": "muon", "learning_rate": 0.006} | training


RECIPES = (
    Recipe(name="AdamW, rate 0.004"),
    Recipe(name="Muon, rate 0.006", training=_muon()),
    Recipe(name="AdamW, rate 0.002", training={"learning_rate": 0.002}),
    Recipe(name="AdamW, rate 0.008", training={"learning_rate": 0.008}),
    Recipe(name="Muon, rate 0.003", training=_muon(learning_rate=0.003)),
    Recipe(name="Muon, rate 0.012", training=_muon(learning_rate=0.012)),
    Recipe(name="Muon, 6 layers of 192", model=_shape(192, 6, 352), training=_muon()),
    Recipe(name="Muon, 6 layers of 256", model=_shape(256, 6, 544), training=_muon()),
    Recipe(
        name="Muon, twice the steps of half the batch",
        training=_muon(steps=2000, batch_size=4),
    ),
    Recipe(
        name="Muon, half the steps of twice the batch",
        training=_muon(steps=500, batch_size=16),
    ),
    Recipe(
        name="Muon, without the copying start", training=_muon(), copying_start=False
    ),
    Recipe(name="Muon, embeddings as fast", training=_muon(embedding_speed=1)),
    Recipe(name="Muon, ends at a tenth", training=_muon(final_share=0.1)),
    Recipe(
        name="Muon, QK-norm",
        model={"qk_norm": True},
        training=_muon(),
    ),
    Recipe(name="Muon, half the stories", training=_muon(steps=500)),
)
BEST = ("Muon, rate 0.006", "Muon, QK-norm")


@dataclass(frozen=True, kw_only=True)
class LadderConfig:
    """What all rungs share."""

    seeds: tuple[int, ...] = (0, 1, 2)  # of the first weights and the order
    n_stories: int = 10_000  # those of the tokenizer, too; none is read twice
    n_held_out: int = 300  # stories
    steps: int = 1000
    batch_size: int = 8


def run_study(
    path: str | Path,
    recipes: Sequence[Recipe] = RECIPES,
    config: LadderConfig = LadderConfig(),
    progress: Callable[[Rung], None] | None = None,
) -> Study[Rung]:
    """Train all models, write the results after each, and return them.

    Args:
        path: The file of the results.
        recipes: Which rungs.
        config: What they share.
        progress: Called with each model that was trained.

    Raises:
        ValueError: If the file holds results of another recipe.
        OSError: If it cannot be written.
    """
    recipe = asdict(config) | {"seeds": list(config.seeds)}
    study = resumed(path, recipe, Rung)
    data = prepare(replace(BASE_LLM_SMALL, n_stories=config.n_stories))
    for one in recipes:
        for seed in config.seeds:
            if (one.name, seed) not in {(p.name, p.seed) for p in study.points}:
                point = _train(one, seed, config, data)
                study = with_points(study, [point], path, progress)
    return study


def _train(recipe: Recipe, seed: int, config: LadderConfig, data: TrainingData) -> Rung:
    sizes = replace(BASE_LLM_SMALL.model, **recipe.model)
    shared = {"steps": config.steps, "batch_size": config.batch_size}
    changed = {"learning_rate": 0.004} | shared | recipe.training
    training = replace(
        BASE_LLM_SMALL.pretraining, **changed, eval_interval=config.steps
    )
    pipeline = replace(
        BASE_LLM_SMALL,
        model=sizes,
        pretraining=fall_back_to_float32(training),
        copying_start=recipe.copying_start,
        seed=seed,
    )
    model = run_recipe(pipeline, data=data).model
    excess = tale_loss(model, data.tokenizer, config.n_held_out, seed=1).excess
    return Rung(
        name=recipe.name,
        seed=seed,
        n_parameters=n_parameters(sizes),
        n_stories=training.steps * training.batch_size,
        excess=round(excess.value, 3),
    )


def run_length(
    path: str | Path, steps: int, progress: Callable[[Rung], None]
) -> Study[Rung]:
    """Train all recipes, or at another length the best two; return as `run_study`.

    Args:
        path: The file of the results.
        steps: Of each training, as long as its recipe says nothing else.
        progress: Called with each model that was trained.
    """
    config = LadderConfig()
    if steps == config.steps:
        return run_study(path, progress=progress)
    n_stories = steps * config.batch_size + 2000
    config = replace(config, steps=steps, n_stories=n_stories)
    by_name = {recipe.name: recipe for recipe in RECIPES}
    return run_study(path, [by_name[name] for name in BEST], config, progress)


if __name__ == "__main__":
    run_study_command(run_length, __doc__, options={"steps": LadderConfig().steps})
