"""What commands that train share: the precision that they learn in, their folders."""

from importlib import import_module

import pytest

from llmcourse.cli.running import in_precision, prepare_folders
from llmcourse.recipes import align_recipe
from llmcourse.training import config as training_config
from llmcourse.training.config import PretrainingConfig

HERE = ("float32", "bfloat16")  # what a processor may be good at


def trainings(command, asked=None):
    """Return what the commands' largest presets train with, as they would be run."""
    module = import_module(f"llmcourse.cli.{command}")
    if command == "pretrain":
        return [module._config("base-llm", 0, None, {"precision": asked}).pretraining]
    if command == "finetune":
        config = module._config("instruct-llm", None, (), {}, {"precision": asked})
        return [part.finetuning for part in (config, *config.earlier())]
    config = align_recipe.preset("aligned-llm", "dpo")
    config = module._with(config, None, None, None, None, asked)
    return [config.reward, config.training]


@pytest.mark.parametrize("here", HERE)
@pytest.mark.parametrize("command", ["pretrain", "finetune", "align"])
def test_what_the_processor_lacks_is_not_imitated(monkeypatch, command, here):
    monkeypatch.setattr(training_config, "best_precision", lambda: here)
    assert {config.precision for config in trainings(command)} == {here}


@pytest.mark.parametrize("asked", HERE)
@pytest.mark.parametrize("here", HERE)
@pytest.mark.parametrize("command", ["pretrain", "finetune", "align"])
def test_what_is_asked_for_is_done(monkeypatch, command, here, asked):
    monkeypatch.setattr(training_config, "best_precision", lambda: here)
    assert {config.precision for config in trainings(command, asked)} == {asked}


@pytest.mark.parametrize("here", HERE)
def test_a_preset_in_float32_stays_so(monkeypatch, here):
    monkeypatch.setattr(training_config, "best_precision", lambda: here)
    config = PretrainingConfig(steps=7)
    assert in_precision(config, None) == config


def test_checkpoints_of_an_earlier_part_are_found_too(tmp_path, capsys):
    place = tmp_path / "checkpoints" / "first" / "first"
    place.mkdir(parents=True)
    (place / "step-00000000.safetensors").touch()
    prepare_folders(tmp_path, resume=True)
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match="holds checkpoints already: add --resume"):
        prepare_folders(tmp_path, resume=False)


def test_folders_are_made_refused_or_begun_anew(tmp_path, capsys):
    one, other = tmp_path / "one", tmp_path / "one" / "other"
    prepare_folders(one, other, resume=False)
    assert not capsys.readouterr().err
    prepare_folders(one, other, resume=True)
    assert "no checkpoint in" in capsys.readouterr().err
    (other / "checkpoints" / "step-00000001.safetensors").touch()
    prepare_folders(one, other, resume=True)
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match=r"other' holds checkpoints already: add"):
        prepare_folders(one, other, resume=False)
