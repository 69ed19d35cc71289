"""Small recipes that alignment is tested with."""

from dataclasses import replace
from functools import partial

import pytest

from llmcourse.alignment import preferences
from llmcourse.alignment.preferences import sample_pairs
from llmcourse.recipes.align import TINY, AlignConfig

METHODS = ("ppo", "grpo", "dpo")


def config_of(method: str, policy: str) -> AlignConfig:
    """Return the smallest recipe by a method, for a policy's folder."""
    config = replace(TINY[method], policy=policy, n_prompts=5, n_held_out=2, seed=3)
    config = replace(config, reader=policy, pooling="mean and max")
    if method == "dpo":
        return config
    return replace(config, training=replace(config.training, learning_rate=0.01))


def want_length(patch: pytest.MonkeyPatch) -> None:
    """Let the annotator want long texts: to a model of random weights gold gives 0."""
    long = partial(sample_pairs, reward=lambda prompt, text: float(len(text)))
    patch.setattr(preferences, "sample_pairs", long)
