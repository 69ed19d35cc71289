"""The sizes and the schedule of each model that is pretrained here.

    preset           tales drawn     layers   width   vocabulary
    tiny             300 tales            1      32          512   to see that it works
    small            6,000 tales          2      96         2048   *pipeline*
    base-llm-small   100,000 tales        3     256         3072   for further training
    base-llm         300,800 tales        6     256         3072   for everything else

`pipeline` makes a model from such a recipe.
"""

from dataclasses import dataclass, replace

import torch

from llmcourse.arguments import check_range
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import (
    Transformer,
    TransformerConfig,
    mimetic_initialisation,
)
from llmcourse.training.config import PretrainingConfig


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """Sizes of every stage."""

    n_stories: int
    model: TransformerConfig
    pretraining: PretrainingConfig
    copying_start: bool = False  # begin with `transformer.mimetic_initialisation`
    first: tuple[str, ...] = ()  # lines of the tales to begin with, see `curriculum`
    seed: int = 0
    base: str | None = None  # continue this model, with its tokenizer; None: a new one

    def new_model(self) -> Transformer:
        """Return a model with its initial weights."""
        if self.base is not None:
            return load_pretrained(self.base)[0]
        generator = torch.Generator().manual_seed(self.seed)
        model = Transformer(self.model, generator)
        if self.copying_start:
            mimetic_initialisation(model, generator)
        return model

    def __post_init__(self) -> None:
        """Raise ValueError for a corpus that cannot be split."""
        check_range(100, n_stories=self.n_stories)


SMALL = PipelineConfig(
    n_stories=6000,
    model=TransformerConfig(
        vocab_size=2048,
        d_model=96,
        n_layers=2,
        n_heads=3,
        n_kv_heads=3,
        d_ff=256,
        context_length=384,  # longer than any tale
    ),
    pretraining=PretrainingConfig(
        steps=4000,
        batch_size=1,
        context_length=288,  # a tale
        learning_rate=8e-3,
        embedding_speed=4,
        warmup_steps=100,
        eval_interval=200,
        eval_examples=32,
    ),
    copying_start=True,
)
"""A minute on one core: the sizes of the chapter *pipeline*."""


BASE_LLM = PipelineConfig(
    n_stories=300_800,
    model=TransformerConfig(
        vocab_size=3072,
        d_model=256,
        n_layers=6,
        n_heads=8,
        n_kv_heads=8,
        d_ff=544,
        context_length=512,
    ),
    pretraining=PretrainingConfig(
        steps=9_400,
        batch_size=32,
        context_length=288,  # longer than any tale
        learning_rate=8e-3,
        optimizer="muon",
        embedding_speed=4,
        warmup_steps=100,
        eval_interval=500,
        eval_examples=100,
        precision="bfloat16",
    ),
    copying_start=True,
    first=(
        "Every {daytime}",
        "never forgot that {daytime}",
        "from that {daytime} on",
        "to the old place, {hiding_place}",
    ),
)
"""The model that most chapters look into.

Training takes one and a half to two and a half hours on two cores with bfloat16
instructions, compiled.
"""

BASE_LLM_SMALL = replace(
    BASE_LLM,
    n_stories=100_000,
    model=replace(BASE_LLM.model, n_layers=3),
    pretraining=replace(
        BASE_LLM.pretraining,
        steps=16_000,
        batch_size=4,
        learning_rate=3e-3,
        optimizer="adamw",
        eval_interval=1000,
    ),
    first=(),
)
"""The model that chapters train further: half the layers, forty minutes on one core."""

TINY = PipelineConfig(
    n_stories=300,
    model=TransformerConfig(
        vocab_size=512,
        d_model=32,
        n_layers=1,
        n_heads=2,
        n_kv_heads=1,
        d_ff=64,
        context_length=512,
    ),
    pretraining=PretrainingConfig(
        steps=40,
        batch_size=4,
        context_length=64,
        learning_rate=1e-2,
        warmup_steps=4,
        eval_interval=10,
        eval_examples=8,
    ),
)
"""A few seconds: to see that everything works, not to read what the model writes."""

PRESETS = {
    "base-llm": BASE_LLM,
    "base-llm-small": BASE_LLM_SMALL,
    "small": SMALL,
    "tiny": TINY,
}
