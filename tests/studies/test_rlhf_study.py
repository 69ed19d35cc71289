"""The study of alignment: it trains, stores, goes on, and refuses another recipe."""

from dataclasses import replace

import pytest
import rlhf_study
from align_cases import METHODS, config_of, want_length
from chat_cases import base
from rlhf_study import EXPERIMENTS, RlhfStudyConfig, configs, run_rlhf_study

from llmcourse.alignment.evaluation import Experiment, StudyPoint
from llmcourse.model.folders import save_pretrained
from llmcourse.recipes import align
from llmcourse.studies import load_study

FEW = tuple(
    Experiment(method=method, n_pairs=8, cost=cost, seed=1)
    for method, cost in (("grpo", 0), ("ppo", 0.1), ("dpo", 0.2))
)


@pytest.fixture
def config(tmp_path, monkeypatch):
    want_length(monkeypatch)
    save_pretrained(*base(), tmp_path / "base")
    tiny = {
        method: replace(config_of(method, "none"), reader=None) for method in METHODS
    }
    monkeypatch.setitem(align.PRESETS, "tiny", tiny)
    return RlhfStudyConfig(
        policy=str(tmp_path / "base"),
        preset="tiny",
        n_prompts=4,
        n_held_out=2,
        iterations=2,
        dpo_steps=2,
        reward_steps=2,
        n_eval_answers=3,
    )


def test_the_study_goes_on_where_it_was(tmp_path, config, monkeypatch):
    path, told = tmp_path / "rlhf.json", []
    run_rlhf_study(path, FEW[:1], config, told.append)
    assert [(point.method, point.step) for point in told] == [("grpo", 1), ("grpo", 2)]
    first = told[0]
    assert first.kl == pytest.approx(0, abs=1e-3)  # from before the first update
    whole = run_rlhf_study(path, FEW, config, told.append)
    assert [point.method for point in told] == ["grpo"] * 2 + ["ppo"] * 2 + ["dpo"] * 3
    assert load_study(path, StudyPoint) == whole
    assert {point.experiment for point in whole.points} == set(FEW)
    for point in whole.points:
        assert 0 <= point.gold <= 10
        assert 0 <= point.accuracy <= 1
    again = [point for point in whole.points if point.method == "dpo"]
    assert again[0].kl == pytest.approx(0, abs=1e-3)
    monkeypatch.delattr(rlhf_study, "align")  # nothing may be trained again
    assert run_rlhf_study(path, FEW, config) == whole
    with pytest.raises(ValueError, match="holds results of another recipe: .* must be"):
        run_rlhf_study(path, FEW, replace(config, iterations=3))


def test_recipes_follow_the_experiment():
    study = RlhfStudyConfig()
    for experiment in EXPERIMENTS:
        recipe = configs(experiment, study)
        assert recipe.method == experiment.method
        cost = "beta" if experiment.method == "dpo" else "kl_coef"
        assert getattr(recipe.training, cost) == experiment.cost
        assert recipe.n_prompts * recipe.pairs_per_prompt >= experiment.n_pairs
    few, many = (
        configs(Experiment(method="ppo", n_pairs=n, cost=0), study).reward.steps
        for n in (100, 5000)
    )
    assert few < many
    assert len({(e.method, e.n_pairs, e.cost, e.seed) for e in EXPERIMENTS}) == 24


def test_a_reward_model_of_each_seed_learns_from_other_pairs(tmp_path, config):
    """The policy has one seed, so its rewards differ by the reward model alone."""
    each = [replace(FEW[0], n_pairs=4, reward_seed=seed) for seed in range(2)]
    points = run_rlhf_study(tmp_path / "rlhf.json", each, config).points
    first, second = (point for point in points if point.step == 1)
    assert (first.reward_seed, second.reward_seed) == (0, 1)
    assert first.gold == second.gold
    assert first.proxy != second.proxy
