"""From a recipe to two folders: what is in them, what the cards say, how it goes on."""

import json
import math
import re
from dataclasses import replace
from statistics import fmean

import pytest
import torch
from align_cases import config_of, want_length
from chat_cases import base, chatty

from llmcourse.alignment.evaluation import evaluate_policy
from llmcourse.alignment.preferences import (
    agreement_rate,
    exam_prompts,
    tokenize_pairs,
)
from llmcourse.alignment.reward_model import (
    load_reward_model,
    pair_rewards,
    text_reward,
)
from llmcourse.finetuning.chat import has_chat_tokens
from llmcourse.finetuning.instruction_evaluation import forgetting, instruction_scores
from llmcourse.intervals import wilson_interval
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.recipes.align import (
    collected,
    make_aligned,
    reward_quality,
)
from llmcourse.recipes.cards import fill_card
from llmcourse.recipes.instruct import Exam, scores_to_json
from llmcourse.recipes.making import Making
from llmcourse.text.tokenizers import BPETokenizer

EXAM = Exam(
    n_prompts=3, n_seeds=2, n_per_kind=1, n_stories=2, seed=5, kinds=("who", "list")
)
QUICK = Exam(n_prompts=2, n_per_kind=0, n_stories=2)
COMMAND = "llmcourse align --preset tiny --out run/"


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    place = tmp_path_factory.mktemp("policies")
    save_pretrained(*base(), place / "base")
    save_pretrained(*chatty(), place / "chat")
    return place


@pytest.fixture(scope="module")
def made(policies, tmp_path_factory):
    """The folder of a small run, its config and its quality; few kinds are asked."""
    folder = tmp_path_factory.mktemp("made") / "run"
    config = config_of("grpo", str(policies / "chat"))
    with pytest.MonkeyPatch.context() as patch:
        want_length(patch)
        run = Making(folder=folder, name="small", command=COMMAND)
        quality = make_aligned(config, run, EXAM)
    return folder, config, quality


@pytest.fixture(autouse=True)
def long_is_good(monkeypatch):
    want_length(monkeypatch)


def test_the_facts_make_the_cards(made):
    folder, config, _ = made
    for place, kind, name in (
        ("model", "aligned", "small"),
        ("reward/model", "reward", "reward-model"),
    ):
        facts = json.loads((folder / place / "card.json").read_text(encoding="utf-8"))
        text = (folder / place / "README.md").read_text(encoding="utf-8")
        assert text == fill_card(kind, facts, name=name, config=config)
        assert COMMAND in text


def test_the_folders_hold_both_models(made):
    folder, config, _ = made
    policy, tokenizer = load_pretrained(folder / "model")
    assert has_chat_tokens(tokenizer)
    assert (folder / "model" / "generation_config.json").is_file()
    settings = json.loads((folder / "model/tokenizer_config.json").read_text())
    assert "<|assistant|>" in settings["chat_template"]
    reward_model, _ = load_reward_model(folder / "reward" / "model")
    assert reward_model.pooling == "mean and max"
    assert reward_model.surprise is not None
    start, _ = load_pretrained(config.policy)
    moved = [
        name
        for name, weight in policy.state_dict().items()
        if not torch.equal(weight, start.state_dict()[name].half().float())
    ]
    assert moved


def test_quality_is_of_the_weights_in_the_files(made):
    folder, config, quality = made
    start, tokenizer = load_pretrained(config.policy)
    policy, _ = load_pretrained(folder / "model")
    reward_model, _ = load_reward_model(folder / "reward" / "model")
    proxy = text_reward(reward_model, tokenizer)
    prompts, most = exam_prompts(3, tokenizer), config.max_new_tokens
    again = evaluate_policy(policy, start, tokenizer, prompts, proxy, most, EXAM.seed)
    assert quality["gold"]["after"] == pytest.approx(again.gold.mean().item())
    other = evaluate_policy(
        policy, start, tokenizer, prompts, proxy, most, EXAM.seed + 1
    )
    one, two = again.summary(), other.summary()
    means = {name: (one[name] + two[name]) / 2 for name in one}
    assert quality["after"] == pytest.approx(means)
    theirs = [
        evaluate_policy(start, start, tokenizer, prompts, proxy, most, EXAM.seed + i)
        for i in range(3)
    ]
    policies = again.gold, other.gold
    gains = [(a - b.gold).mean() for a, b in zip(policies, theirs[:2], strict=True)]
    assert quality["gains"] == pytest.approx([gain.item() for gain in gains])
    noise = (theirs[2].gold - theirs[0].gold).mean().item()
    assert quality["control"]["gain"] == pytest.approx(noise)
    pairs = collected(folder / "pairs.json", config, start, tokenizer).valid
    assert quality["reward_model"] == reward_quality(reward_model, tokenizer, pairs)
    assert quality["reward_model"]["ceiling"] == agreement_rate(pairs)
    tokens = tokenize_pairs(pairs, tokenizer, reward_model.config.context_length)
    chosen, rejected = pair_rewards(reward_model, tokens)
    right = int((chosen > rejected).sum())  # and no ties
    assert quality["reward_model"]["accuracy"] == {
        "rate": right / len(pairs),
        "interval": wilson_interval(right, len(pairs))._asdict(),
        "n": len(pairs),
    }
    classes: dict[int, list[float]] = {}
    for gap in (chosen - rejected).tolist():
        sure = 1 / (1 + math.exp(-abs(gap)))
        classes.setdefault(min(4, int(10 * sure) - 5), []).append(gap > 0)
    assert [
        (found["n"], found["right"]) for found in quality["reward_model"]["calibration"]
    ] == [(len(own), fmean(own)) for _, own in sorted(classes.items())]
    scores = instruction_scores(
        policy,
        tokenizer,
        1,
        EXAM.seed,
        splits=("held-out wordings",),
        kinds=("who", "list"),
    )
    assert quality["instructions_after"] == scores_to_json(scores)
    models = (start, tokenizer), (policy, tokenizer)
    assert quality["forgetting"] == forgetting(*models, 2, EXAM.seed).to_json()


def test_a_reward_model_without_a_preference_is_right_half_of_the_time(made):
    folder, config, _ = made
    pairs = collected(folder / "pairs.json", config, *load_pretrained(config.policy))
    reward_model, tokenizer = load_reward_model(folder / "reward" / "model")
    torch.nn.init.zeros_(reward_model.head.weight)
    quality = reward_quality(reward_model, tokenizer, pairs.valid)
    assert quality["with_gold"] == quality["accuracy"]["rate"] == 0.5
    assert [found["right"] for found in quality["calibration"]] == [0.5]


@pytest.mark.parametrize("name", ["model", "reward/model"])
def test_the_cards_code_runs(made, capsys, name):
    text = (made[0] / name / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(code.replace("FOLDER", str(made[0] / name)), "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_a_reader_that_cannot_be_is_refused_before_anything_is_written(
    policies, tmp_path
):
    config, other = config_of("grpo", str(policies / "chat")), tmp_path / "other"
    model = Transformer(TransformerConfig(vocab_size=256))
    save_pretrained(model, BPETokenizer.train(["a tale"], 256), other)
    for reader, message in (
        ("nobody", "got 'nobody'"),
        (str(other), "the reader's tokens must be the reward model's"),
    ):
        run = Making(folder=tmp_path / "run", name="small")
        with pytest.raises(ValueError, match=message):
            make_aligned(replace(config, reader=reader), run, QUICK)
        assert not run.folder.exists()
