"""The flow that all recipes share: precision, and which presets there are."""

from typing import get_args, get_type_hints

import pytest

from llmcourse.cli.align import align as align_command
from llmcourse.cli.finetune import finetune
from llmcourse.cli.pretrain import pretrain
from llmcourse.finetuning import instruction_tuning
from llmcourse.recipes import align, base, instruct
from llmcourse.recipes.making import in_precision
from llmcourse.training import config as training_config
from llmcourse.training import presets
from llmcourse.training.config import PretrainingConfig

HERE = ("float32", "bfloat16")  # what a processor may be good at


def precisions(recipe, asked=None):
    """Return in what the largest presets are trained."""
    if recipe == "base":
        return {base.configured("base-llm", precision=asked).pretraining.precision}
    if recipe == "instruct":
        parts = instruct.configured("instruct-llm", precision=asked)
        return {part.finetuning.precision for part in parts}
    config = align.configured(align.ALIGNED_LLM["dpo"], precision=asked)
    return {config.reward.precision, config.training.precision}


@pytest.mark.parametrize("here", HERE)
@pytest.mark.parametrize("asked", [None, *HERE])
@pytest.mark.parametrize("recipe", ["base", "instruct", "align"])
def test_precision_is_what_is_asked_for_or_fast_here(monkeypatch, recipe, asked, here):
    monkeypatch.setattr(training_config, "best_precision", lambda: here)
    assert precisions(recipe, asked) == {asked or here}


@pytest.mark.parametrize("here", HERE)
def test_a_preset_in_float32_stays_so(monkeypatch, here):
    monkeypatch.setattr(training_config, "best_precision", lambda: here)
    config = PretrainingConfig(steps=7)
    assert in_precision(config, None) == config


@pytest.mark.parametrize(
    ("command", "option", "known"),
    [
        (pretrain, "preset", presets.PRESETS),
        (finetune, "preset", instruction_tuning.PRESETS),
        (align_command, "preset", align.PRESETS),
        (align_command, "method", align.METHODS),
    ],
)
def test_the_command_line_offers_every_preset_and_method(command, option, known):
    assert set(get_args(get_type_hints(command)[option])) == set(known)
