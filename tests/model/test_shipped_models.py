"""What ships is small, opens, has a card, and is as good as the card says."""

import json
import math
import re
from pathlib import Path
from statistics import mean

import pytest
from safetensors import safe_open

from llmcourse.alignment.evaluation import evaluate_policy
from llmcourse.alignment.preferences import make_prompts
from llmcourse.alignment.reward_model import load_reward_model, text_reward
from llmcourse.model import folders
from llmcourse.model.folders import load_pretrained, shipped_models
from llmcourse.text import tales
from llmcourse.training.text_loss import document_nll

MODELS = pytest.mark.parametrize("name", shipped_models())


def folder_of(name: str) -> Path:
    return folders._MODELS / name


@MODELS
def test_a_shipped_model_is_small(name):
    assert sum(path.stat().st_size for path in folder_of(name).rglob("*")) <= 6e6


@MODELS
def test_nothing_but_the_model_is_in_its_folder(name):
    known = {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert {path.name for path in folder_of(name).iterdir()} <= known


@MODELS
def test_weights_are_stored_in_half_precision(name):
    with safe_open(folder_of(name) / "model.safetensors", framework="pt") as file:
        types = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    assert types == {"F16"}
    config = json.loads((folder_of(name) / "config.json").read_text(encoding="utf-8"))
    assert "float16" in (config.get("dtype"), config.get("torch_dtype"))


@MODELS
def test_a_shipped_model_has_a_card(name):
    card = (folder_of(name) / "README.md").read_text(encoding="utf-8")
    assert f"# {name}\n" in card
    for section in ("Data", "Recipe", "Quality", "Limits", "Use", "Rebuild", "Licence"):
        assert f"## {section}\n" in card


@pytest.mark.skipif("base-llm" not in shipped_models(), reason="is not shipped")
def test_the_base_model_is_as_good_as_its_card_says():
    """The excess per story on 30 more stories lies within 6 standard errors.

    The card's error on n stories tells the deviation of one. False alarm: below
    1e-6, were the mean of 30 normal; it is a little wider.
    """
    card = (folder_of("base-llm") / "README.md").read_text(encoding="utf-8")
    value, error = map(float, re.findall(r"([\d.]+) ± ([\d.]+) nats/story", card)[0])
    n = int(re.findall(r"Measured on ([\d,]+) stories", card)[0].replace(",", ""))
    stories = list(tales.generate(30, seed=424_242))
    model, tokenizer = load_pretrained("base-llm")
    prices, _ = document_nll(model, tokenizer, [story.text for story in stories])
    excess = mean(p + s.log_prob for p, s in zip(prices, stories, strict=True))
    deviation = error * math.sqrt(n)  # of one story
    assert abs(excess - value) <= 6 * deviation * math.sqrt(1 / 30 + 1 / n)


@pytest.mark.skipif("aligned-llm" not in shipped_models(), reason="is not shipped")
def test_the_aligned_model_earns_more_of_what_it_was_trained_by():
    """48 orders, with the same luck before and after. The mean gain of the learned
    reward is compared with nothing, and what is wanted must not have been lost.
    """
    start, tokenizer = load_pretrained("instruct-llm")
    made, _ = load_pretrained("aligned-llm")
    model, _ = load_reward_model("reward-model")
    orders = make_prompts(48, 31_337, tokenizer)
    proxy = text_reward(model, tokenizer, chat=True)
    before, after = (
        evaluate_policy(policy, start, tokenizer, orders, proxy, 260)
        for policy in (start, made)
    )
    assert (after.proxy - before.proxy).mean() > 0.1
    assert (after.gold - before.gold).mean() > -0.5
