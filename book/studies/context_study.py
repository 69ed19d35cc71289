"""The runs of the context study: one model, three ways to look back.

    python book/studies/context_study.py --out context.json

takes about eighteen minutes on one core and goes on where it was stopped. All models
have the same sizes, the same number of parameters and the tokenizer of `base-llm`, and
read the same tales in the same order, none of them twice. They differ in their
attention, see `long_context`. Measured on tales that none has read: the loss over
the position, and how often a fact is repeated rightly from near and from afar. The
chapter *context_window* plots what comes out.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from story_measures import (
    EDGES,
    fact_recalls,
    means_between,
    position_losses,
    shares_by_distance,
)
from study_command import resumed, run_study_command, with_points

from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import load_pretrained
from llmcourse.model.long_context import ATTENTION_KINDS, set_attention
from llmcourse.model.transformer import TransformerConfig
from llmcourse.studies import Study
from llmcourse.text.documents import tales
from llmcourse.text.packing import end_of_text
from llmcourse.text.tales import generate
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import PretrainingConfig, fall_back_to_float32
from llmcourse.training.pipeline import token_array
from llmcourse.training.presets import PipelineConfig
from llmcourse.training.pretraining import pretrain


@dataclass(frozen=True, kw_only=True)
class ContextStudyConfig:
    """What all models of the study share."""

    n_stories: int = 10_000  # for training: no story is read twice
    d_model: int = 128
    n_layers: int = 2
    n_heads: int = 4
    d_ff: int = 344
    window: int = 32  # of the attention in a window, in tokens
    steps: int = 2500
    batch_size: int = 4  # stories
    context_length: int = 288  # longer than any tale, in tokens
    learning_rate: float | int = 4e-3
    embedding_speed: float | int = 4
    warmup_steps: int = 100
    precision: str = "bfloat16"  # where the processor has it
    n_held_out: int = 1000  # stories
    edges: tuple[int, ...] = EDGES  # positions between which losses are averaged


@dataclass(frozen=True, kw_only=True)
class ContextPoint:
    """One model of the study: a kind of attention, and what it reaches."""

    kind: str  # of attention
    seed: int  # of the first weights and the order of the stories
    n_parameters: int
    loss: float  # on held-out tales, in nats per token
    losses: list[float]  # between the recipe's `edges`, in nats per token
    recalled: dict[str, list[int]]  # right ones and all, by distance in tokens


def run_context_study(
    path: str | Path,
    kinds: Sequence[str] = tuple(ATTENTION_KINDS),
    seeds: Sequence[int] = (0, 1, 2),
    config: ContextStudyConfig = ContextStudyConfig(),
    progress: Callable[[ContextPoint], None] | None = None,
) -> Study[ContextPoint]:
    """Train all models, write the results after each, and return them.

    Models that the file has are not trained again.

    Args:
        path: The file of the results.
        kinds: Of attention.
        seeds: One model of each kind for each.
        config: What the models share.
        progress: Called with each model that was trained.

    Raises:
        ValueError: If the file holds results of another recipe, or if there is no
            such kind.
        OSError: If it cannot be written.
    """
    study = resumed(path, asdict(config), ContextPoint)
    _, tokenizer = load_pretrained("base-llm")
    ids = token_array(tales(config.n_stories, seed=0), tokenizer, np.uint16)
    done = {(point.kind, point.seed) for point in study.points}
    for seed in seeds:
        for kind in kinds:
            if (kind, seed) in done:
                continue
            point = _train(kind, seed, config, tokenizer, ids)
            study = with_points(study, [point], path, progress)
    return study


def recipe(
    seed: int, config: ContextStudyConfig, tokenizer: BPETokenizer
) -> PipelineConfig:
    """Return sizes, schedule and first weights, of whichever kind of attention."""
    model = TransformerConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=config.d_model,
        n_layers=config.n_layers,
        n_heads=config.n_heads,
        n_kv_heads=config.n_heads,
        d_ff=config.d_ff,
        context_length=config.context_length,
    )
    training = PretrainingConfig(
        steps=config.steps,
        batch_size=config.batch_size,
        context_length=config.context_length,
        learning_rate=config.learning_rate,
        embedding_speed=config.embedding_speed,
        warmup_steps=config.warmup_steps,
        eval_interval=config.steps,
        precision="bfloat16" if config.precision == "bfloat16" else "float32",
    )
    return PipelineConfig(
        n_stories=config.n_stories,
        model=model,
        pretraining=fall_back_to_float32(training),
        copying_start=True,
        seed=seed,
    )


def _train(
    kind: str,
    seed: int,
    config: ContextStudyConfig,
    tokenizer: BPETokenizer,
    ids: "np.ndarray[tuple[int], np.dtype[np.uint16]]",
) -> ContextPoint:
    plan = recipe(seed, config, tokenizer)
    model = plan.new_model()
    set_attention(model, kind, config.window)
    generator = torch.Generator().manual_seed(seed)
    start = end_of_text(tokenizer)
    n_last = len(ids) // 10  # all that is read of them is a loss at start and end
    pretrain(model, ids, ids[-n_last:], plan.pretraining, generator, start_token=start)
    held_out = list(generate(config.n_held_out, seed=1))
    found = position_losses(model, tokenizer, [story.text for story in held_out])
    recalled = shares_by_distance(fact_recalls(model, tokenizer, held_out))
    return ContextPoint(
        kind=kind,
        seed=seed,
        n_parameters=n_parameters(plan.model),
        loss=round(found.nanmean().item(), 5),
        losses=[round(loss, 5) for loss in means_between(found, config.edges)],
        recalled={str(distance): [*count] for distance, count in recalled.items()},
    )


if __name__ == "__main__":
    run_study_command(run_context_study, __doc__)
