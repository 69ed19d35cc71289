"""The study that the chapter plots: what is stored, and that it runs again."""

from dataclasses import asdict, replace

import pytest
from context_study import ContextPoint, ContextStudyConfig, run_context_study
from story_measures import BANDS, EDGES

from llmcourse.model.long_context import ATTENTION_KINDS
from llmcourse.studies import load_study, save_study, stored_study

SMALL = ContextStudyConfig(
    n_stories=100,
    d_model=16,
    n_layers=1,
    n_heads=2,
    d_ff=12,
    steps=2,
    warmup_steps=1,
    n_held_out=30,
)

# Worked example


def test_the_stored_study_is_of_the_recipe_in_the_code():
    study = stored_study("context", ContextPoint)
    assert study.recipe == asdict(ContextStudyConfig()) | {"edges": [*EDGES]}
    assert sorted((p.kind, p.seed) for p in study.points) == sorted(
        (kind, seed) for kind in ATTENTION_KINDS for seed in (0, 1, 2)
    )
    assert len({point.n_parameters for point in study.points}) == 1
    assert all([*point.recalled] == [*map(str, BANDS)] for point in study.points)


# Law


def test_a_study_goes_on_where_it_was_stopped(tmp_path):
    path, trained = tmp_path / "study.json", []
    run_context_study(path, ["full"], [0], SMALL, trained.append)
    before = load_study(path, ContextPoint)
    study = run_context_study(path, ["full", "window"], [0], SMALL, trained.append)
    assert [point.kind for point in trained] == ["full", "window"]
    assert study.points[:1] == before.points
    assert study.points == load_study(path, ContextPoint).points


# Refusal


def test_another_recipe_is_refused(tmp_path):
    path = tmp_path / "study.json"
    save_study(stored_study("context", ContextPoint), path)
    with pytest.raises(ValueError, match="holds results of another recipe: .* must be"):
        run_context_study(path, config=replace(SMALL, steps=3))
