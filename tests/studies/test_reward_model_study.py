"""The study of what reward models read: four kinds, which differ as they should."""

from dataclasses import replace

import pytest
import reward_model_study
from align_cases import config_of, want_length
from chat_cases import base
from reward_model_study import KINDS, RewardModelStudyConfig, run_study

from llmcourse.model.folders import save_pretrained
from llmcourse.recipes import align


@pytest.fixture
def config(tmp_path, monkeypatch):
    want_length(monkeypatch)
    save_pretrained(*base(), tmp_path / "base")
    recipe = config_of("grpo", str(tmp_path / "base"))
    monkeypatch.setitem(align.PRESETS, "tiny", {"grpo": recipe})
    # One of two stories is said to break: with random weights, all of them would.
    said = {}
    monkeypatch.setattr(
        reward_model_study,
        "_breaks",
        lambda _, text: said.setdefault(text, len(said) % 2),
    )
    return RewardModelStudyConfig(preset="tiny", seeds=(0, 1), n_orders=2, steps=2)


def test_the_study_has_four_kinds_a_seed_and_goes_on(tmp_path, config, monkeypatch):
    path, told = tmp_path / "models.json", []
    study = run_study(path, replace(config, seeds=(0,)), told.append)
    assert [point.kind for point in told] == [*KINDS]
    assert len({point.right for point in told}) + len({p.with_gold for p in told}) > 2
    for point in study.points:
        assert 0 < point.n_one_breaks <= point.n_pairs
        assert all(
            0 <= s <= 1 for s in (point.right, point.with_gold, point.one_breaks)
        )
    monkeypatch.delattr(reward_model_study, "collected")  # all is there
    assert run_study(path, replace(config, seeds=(0,))) == study
    with pytest.raises(ValueError, match="holds results of another recipe"):
        run_study(path, config)


def test_seeds_need_orders_of_their_own(tmp_path, config):
    with pytest.raises(ValueError, match="wanted 6 orders, got 5"):
        run_study(tmp_path / "models.json", replace(config, n_orders=3))
