"""The ladder of recipes: it runs, goes on, and each rung changes what it says."""

from dataclasses import replace

import ladder_study
import pytest
from ladder_study import BEST, RECIPES, LadderConfig, Rung, run_length, run_study

from llmcourse.studies import load_study
from llmcourse.training.presets import TINY

SMALL = LadderConfig(seeds=(0,), n_stories=100, n_held_out=3, steps=2, batch_size=2)

# Worked example


def test_rungs_have_names_of_their_own():
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_rung_reads_as_much(recipe):
    training = {"steps": 1000, "batch_size": 8} | recipe.training
    n_stories = 4_000 if recipe.name == "Muon, half the stories" else 8_000
    assert training["steps"] * training["batch_size"] == n_stories


def test_what_a_rung_does_not_change_is_the_small_bases():
    assert ladder_study.BASE_LLM_SMALL.model.n_layers == 3
    assert ladder_study.BASE_LLM_SMALL.pretraining.optimizer == "adamw"
    assert not ladder_study.BASE_LLM_SMALL.first


# Law


def test_a_study_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(ladder_study, "BASE_LLM_SMALL", TINY)
    path, trained = tmp_path / "ladder.json", []
    run_study(path, RECIPES[:1], SMALL, trained.append)
    study = run_study(path, RECIPES[:2], SMALL, trained.append)
    assert [rung.name for rung in trained] == ["AdamW, rate 0.004", "Muon, rate 0.006"]
    assert study.points == tuple(trained) == load_study(path, Rung).points
    assert [rung.n_stories for rung in trained] == [4, 4]
    assert trained[0].excess != trained[1].excess


def test_another_length_is_that_of_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(ladder_study, "BASE_LLM_SMALL", TINY)
    monkeypatch.setattr(ladder_study, "LadderConfig", lambda: SMALL)
    told = []
    study = run_length(tmp_path / "long.json", 3, told.append)
    assert [rung.name for rung in told] == [*BEST]
    assert [rung.n_stories for rung in told] == [6] * 2
    assert study.recipe["steps"] == 3


# Refusal


def test_another_recipe_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ladder_study, "BASE_LLM_SMALL", TINY)
    path = tmp_path / "ladder.json"
    run_study(path, RECIPES[:1], SMALL)
    with pytest.raises(ValueError, match="holds results of another recipe"):
        run_study(path, RECIPES[:1], replace(SMALL, steps=3))
