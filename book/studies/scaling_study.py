"""The runs of the scaling study: small models of four widths, on more and more tales.

    python book/studies/scaling_study.py --out scaling.json

takes about twenty minutes on one core and goes on where it was stopped. All models
have two layers, and the tokenizer and the start of `base-llm`; each reads a story once,
if at all, and each has a schedule of its own that ends at zero. The chapter
*scaling_laws* fits what comes out, see `training.scaling`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from study_command import resumed, run_study_command, with_points

from llmcourse.model.costs import n_parameters
from llmcourse.model.transformer import (
    Transformer,
    TransformerConfig,
    mimetic_initialisation,
)
from llmcourse.studies import Study
from llmcourse.text.packing import end_of_text
from llmcourse.text.tales import generate, log_prob
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.evaluation import text_loss
from llmcourse.training.pipeline import TrainingData, prepare
from llmcourse.training.presets import PipelineConfig
from llmcourse.training.pretraining import pretrain
from llmcourse.training.scaling import Point


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One model of the study."""

    d_model: int
    steps: int  # of one window each
    seed: int = 0  # of the first weights and the order of the stories


_STEPS = (1000, 2000, 4000, 8000, 16000)  # 208 tokens each

EXPERIMENTS = (
    *(Experiment(d_model=d, steps=s) for s in _STEPS for d in (16, 32, 64, 128)),
    *(Experiment(d_model=32, steps=_STEPS[1], seed=seed) for seed in (1, 2)),
)
"""The cheap ones first; two repeat one with other seeds, to show what chance does."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What all models of the study share."""

    n_stories: int = 16_000  # a window each: no story is read twice
    vocab_size: int = 3072
    n_layers: int = 2
    d_head: int = 32
    context_length: int = 208  # of a window; few tales are longer
    learning_rate: float | int = 0.02  # at width 16; falls with width^-3/4
    warmup_share: float | int = 0.05  # of the steps
    n_held_out: int = 300  # stories
    copying_start: bool = True  # begin with `transformer.mimetic_initialisation`
    embedding_speed: float | int = 4


def configs(
    experiment: Experiment, study: StudyConfig
) -> tuple[TransformerConfig, PretrainingConfig]:
    """Return model and training of an experiment.

    >>> model, training = configs(Experiment(d_model=128, steps=1000), StudyConfig())
    >>> n_parameters(model), round(training.learning_rate, 4)
    (786048, 0.0042)
    """
    width = experiment.d_model
    heads = max(1, width // study.d_head)
    model = TransformerConfig(
        vocab_size=study.vocab_size,
        d_model=width,
        n_layers=study.n_layers,
        n_heads=heads,
        n_kv_heads=heads,
        d_ff=4 * round(width * 2 / 3),
        context_length=2 * study.context_length,
    )
    training = PretrainingConfig(
        steps=experiment.steps,
        batch_size=1,
        context_length=study.context_length,
        learning_rate=study.learning_rate * (width / 16) ** -0.75,
        warmup_steps=round(study.warmup_share * experiment.steps),
        eval_interval=experiment.steps,
        embedding_speed=study.embedding_speed,
    )
    return model, training


def run_study(
    path: str | Path,
    experiments: Sequence[Experiment] = EXPERIMENTS,
    config: StudyConfig = StudyConfig(),
    progress: Callable[[Point], None] | None = None,
) -> Study[Point]:
    """Train all models, write the results after each, and return them.

    Models that the file has are not trained again. Its recipe has the exact price of
    the held-out stories, too, as "floor", in nats per token.

    Args:
        path: The file of the results.
        experiments: Which models.
        config: What they share.
        progress: Called with each model that was trained.

    Raises:
        ValueError: If the file holds results of another recipe.
        OSError: If it cannot be written.
    """
    base, _ = configs(experiments[0], config)
    data = prepare(
        PipelineConfig(
            n_stories=config.n_stories, model=base, pretraining=PretrainingConfig()
        )
    )
    stories = [story.text for story in generate(config.n_held_out, seed=1)]
    floor = -sum(map(log_prob, stories)) / _n_tokens(data, stories)
    study = resumed(path, asdict(config) | {"floor": round(floor, 9)}, Point)
    done = {(p.n_parameters, p.n_tokens, p.seed) for p in study.points}
    for experiment in experiments:
        if point_key(experiment, config) in done:
            continue
        point = _train(experiment, config, data, stories)
        study = with_points(study, [point], path, progress)
    return study


def point_key(
    experiment: Experiment, config: StudyConfig = StudyConfig()
) -> tuple[int, int, int]:
    """Return what tells a model from the others: parameters, tokens, seed."""
    model, training = configs(experiment, config)
    n_tokens = training.steps * training.context_length
    return n_parameters(model), n_tokens, experiment.seed


def _n_tokens(data: TrainingData, stories: Sequence[str]) -> int:
    """Return the tokens to be predicted, the end of each story among them."""
    return sum(len(data.tokenizer.encode(story)) + 1 for story in stories)


def _train(
    experiment: Experiment,
    config: StudyConfig,
    data: TrainingData,
    stories: Sequence[str],
) -> Point:
    sizes, training = configs(experiment, config)
    seed = experiment.seed
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(sizes, generator)
    if config.copying_start:
        mimetic_initialisation(model, generator)
    pretrain(
        model,
        data.train,
        data.valid,
        training,
        torch.Generator().manual_seed(seed),
        start_token=end_of_text(data.tokenizer),
    )
    loss = text_loss(model, data.tokenizer, stories).loss
    size, seen, _ = point_key(experiment, config)
    return Point(n_parameters=size, n_tokens=seen, loss=round(loss, 5), seed=seed)


if __name__ == "__main__":
    run_study_command(run_study, __doc__)
