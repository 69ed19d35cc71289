"""The study of baselines: what is picked, how diverse it is, going on, other models."""

from dataclasses import replace

import pytest
import torch
from baselines_study import (
    BaselinePoint,
    BaselinesConfig,
    averaged,
    cooled,
    distinct,
    run_baselines_study,
)
from chat_cases import SIZES, chatty

from llmcourse.alignment.reward_model import (
    RewardModel,
    load_reward_model,
    save_reward_model,
)
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.studies import load_study, stored_study
from llmcourse.training.checkpoints import weights_fingerprint


@pytest.fixture
def config(tmp_path):
    model, tokenizer = chatty()
    other = Transformer(model.config, torch.Generator().manual_seed(5))
    save_pretrained(model, tokenizer, tmp_path / "start")
    save_pretrained(other, tokenizer, tmp_path / "aligned")
    judge = RewardModel(model, torch.Generator().manual_seed(6))
    save_reward_model(judge, tokenizer, tmp_path / "reward")
    names = {name: str(tmp_path / name) for name in ("start", "aligned", "reward")}
    return BaselinesConfig(**names, n_orders=2, n_seeds=2, max_new_tokens=8)


def test_the_stored_study_is_of_the_shipped_models():
    config = BaselinesConfig()
    models = [load_pretrained(name)[0] for name in (config.start, config.aligned)]
    models.append(load_reward_model(config.reward)[0])
    found = [weights_fingerprint(model)[:16] for model in models]
    assert stored_study("baselines", BaselinePoint).recipe["weights"] == found


def test_the_study_goes_on_where_it_was(tmp_path, config):
    path, told = tmp_path / "baselines.json", []
    whole = run_baselines_study(path, config, told.append)
    assert load_study(path, BaselinePoint) == whole
    assert len(told) == len(whole.points) == 11 * 2
    assert run_baselines_study(path, config, told.append) == whole
    assert len(told) == 11 * 2  # nothing was done again
    by_way = {point.way: point for point in whole.points if point.seed == 0}
    assert by_way["start, temperature 1"].kl == by_way["random one of 16"].kl == 0
    four, sixteen = by_way["best of 4"], by_way["best of 16"]
    assert (four.kl, sixteen.kl) == (0.64, 1.84)  # ln n − (n − 1) / n
    assert sixteen.proxy >= four.proxy >= by_way["start, temperature 1"].proxy
    assert by_way["aligned, temperature 1"].distinct_within > 0
    assert all(len(point.gold) == 2 for point in whole.points)
    save_pretrained(*chatty(), tmp_path / "aligned")  # another model, the same name
    with pytest.raises(ValueError, match="results of another recipe: weights"):
        run_baselines_study(path, config)
    with pytest.raises(ValueError, match="results of another recipe"):
        run_baselines_study(path, replace(config, n_orders=3))


def test_a_cooled_model_has_the_logits_divided():
    model = Transformer(SIZES, torch.Generator().manual_seed(0))
    ids = torch.tensor([[5, 0, 3]])
    with torch.no_grad():
        torch.testing.assert_close(cooled(model, 0.5)(ids), 2 * model(ids))


def test_an_averaged_model_is_halfway_and_changes_neither():
    one, other = (
        Transformer(SIZES, torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    made, before = averaged(one, other), one.norm.weight.clone()
    for name, weight in made.state_dict().items():
        mean = (one.state_dict()[name] + other.state_dict()[name]) / 2
        torch.testing.assert_close(weight, mean)
    torch.testing.assert_close(one.norm.weight, before)


def test_distinct_counts_each_run_once():
    assert distinct(["a b c d e", "a b c d f"]) == 3 / 4
    assert distinct(["a b c d e"], n=2, most=3) == 1
    assert distinct(["a b"]) == 0
