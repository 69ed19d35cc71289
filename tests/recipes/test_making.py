"""What all recipes share: precision, presets, and how a stopped run goes on."""

from dataclasses import replace
from typing import get_args, get_type_hints

import pytest
from align_cases import METHODS, config_of, want_length
from chat_cases import CONFIG
from chat_cases import base as base_model

from llmcourse.alignment.losses import PAIR_LOSSES
from llmcourse.cli.align import align as align_command
from llmcourse.cli.finetune import finetune
from llmcourse.cli.pretrain import pretrain
from llmcourse.finetuning import instruction_tuning
from llmcourse.model.folders import save_pretrained
from llmcourse.recipes import align, base, instruct
from llmcourse.recipes.align import make_aligned
from llmcourse.recipes.making import Making, in_precision
from llmcourse.training import config as training_config
from llmcourse.training import presets
from llmcourse.training.config import Evaluation, PretrainingConfig

HERE = ("float32", "bfloat16")  # what a processor may be good at


def precisions(recipe, asked=None):
    """Return in what the largest presets are trained."""
    if recipe == "base":
        return {base.configured("base-llm", precision=asked).pretraining.precision}
    if recipe == "instruct":
        config = instruct.configured("instruct-llm", precision=asked)
        return {config.finetuning.precision}
    config = align.configured(align.ALIGNED_LLM["dpo"], precision=asked)
    return {config.reward.precision, config.training.precision}


@pytest.mark.parametrize("here", HERE)
@pytest.mark.parametrize("asked", [None, *HERE])
@pytest.mark.parametrize("recipe", ["base", "instruct", "align"])
def test_precision_is_what_is_asked_for_or_fast_here(monkeypatch, recipe, asked, here):
    has = here == "bfloat16"
    monkeypatch.setattr(training_config, "has_bfloat16_instructions", lambda: has)
    assert precisions(recipe, asked) == {asked or here}


@pytest.mark.parametrize("here", HERE)
def test_a_preset_in_float32_stays_so(monkeypatch, here):
    has = here == "bfloat16"
    monkeypatch.setattr(training_config, "has_bfloat16_instructions", lambda: has)
    config = PretrainingConfig(steps=7)
    assert in_precision(config, None) == config


@pytest.mark.parametrize(
    ("command", "option", "known"),
    [
        (pretrain, "preset", presets.PRESETS),
        (finetune, "preset", instruction_tuning.PRESETS),
        (align_command, "preset", align.PRESETS),
        (align_command, "method", align.ALIGNED_LLM),
    ],
)
def test_the_command_line_offers_every_preset_and_method(command, option, known):
    assert set(get_args(get_type_hints(command)[option])) == set(known)


def test_the_command_line_offers_every_loss_of_pairs():
    literal, _ = get_args(get_type_hints(align_command)["loss"])  # or none of them
    assert set(get_args(literal)) == set(PAIR_LOSSES)


def make_smallest(recipe, policy, run):
    """Make the smallest models of a recipe."""
    exam = instruct.Exam(n_per_kind=0, n_stories=2, n_prompts=2)
    if recipe != "instruct":
        return make_aligned(config_of(recipe, policy), run, exam)
    return instruct.make_instruct(replace(CONFIG, base=policy), run, exam)


@pytest.mark.parametrize("recipe", ["instruct", *METHODS])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path, monkeypatch, recipe):
    """It is stopped in each of its trainings, after the first step."""
    want_length(monkeypatch)
    save_pretrained(*base_model(), tmp_path / "base")
    trainings, places = ("reward model", "policy"), ("model", "reward/model")
    if recipe == "instruct":
        trainings, places = ("fine-tuning",), ("model",)

    def stop(record):
        if isinstance(record, Evaluation) and record.step == 1:
            raise KeyboardInterrupt

    def run(place, stopped=None):
        def training(name, log, steps):
            return stop if name == stopped else lambda record: None

        making = Making(folder=tmp_path / place, name="small", training=training)
        return make_smallest(recipe, str(tmp_path / "base"), making)

    whole = run("whole")
    for name in trainings:
        with pytest.raises(KeyboardInterrupt):
            run("parts", name)
        assert not (tmp_path / "parts" / "model").exists()
    assert run("parts") == whole
    for place in places:
        ours, theirs = (
            (tmp_path / part / place / "model.safetensors").read_bytes()
            for part in ("parts", "whole")
        )
        assert ours == theirs
    assert "instructions_after" not in whole


def test_tales_in_another_order_are_prepared_anew(tmp_path, monkeypatch):
    """What is kept of tales says which of them come first."""
    asked = []
    monkeypatch.setattr(
        base, "kept_or_made", lambda _, made_of, *rest: asked.append(made_of)
    )
    run = Making(folder=tmp_path, name="small")
    for first in (("{hero}",), ()):
        base._data(replace(presets.TINY, first=first), run, None, [])
    assert asked[0] != asked[1]
