"""Prompts and preferences: what is asked, what is compared, what is kept."""

import re
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from align_cases import config_of, want_length
from chat_cases import base, chatty

from llmcourse.alignment.preferences import (
    EXAM_SEED,
    exam_prompts,
    make_prompts,
    prompt_of,
    story_prompt,
)
from llmcourse.alignment.reward_model import RewardModel
from llmcourse.finetuning.finetuning import FinetuningConfig, answer_loss
from llmcourse.finetuning.instruction_tuning import plain_stories
from llmcourse.model.folders import save_pretrained
from llmcourse.recipes import align
from llmcourse.recipes.align import (
    AlignConfig,
    Preferences,
    collect,
    collected,
    ptx_texts,
    train_policy,
)
from llmcourse.text.tales import world

CONFIG = config_of("grpo", "unused")


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy") / "base"
    save_pretrained(*base(), folder)
    return folder


@pytest.fixture(autouse=True)
def long_is_good(monkeypatch):
    want_length(monkeypatch)


def test_a_model_that_answers_gets_orders_and_another_gets_beginnings():
    orders = make_prompts(3, 0, chatty()[1])
    assert orders == [prompt_of(p.text, chatty()[1]) for p in orders]
    assert all(re.search("story|tale", p.text) for p in orders)
    beginnings = make_prompts(3, 0, base()[1])
    assert beginnings == [story_prompt(p.text, base()[1]) for p in beginnings]
    for prompt in beginnings:
        assert 8 <= len(prompt.text.split()) <= 16
        world().prefix_log_prob(prompt.text)  # a tale can begin so


def test_prompts_are_different_and_of_their_seed():
    _, tokenizer = chatty()
    prompts = make_prompts(12, 4, tokenizer)
    assert len({prompt.text for prompt in prompts}) == 12
    assert make_prompts(5, 4, tokenizer) == prompts[:5]
    assert not {p.text for p in exam_prompts(12, tokenizer)} & {p.text for p in prompts}


def test_pairs_are_of_the_policy_s_answers_with_their_worth():
    policy, tokenizer = chatty()
    train = collect(CONFIG, policy, tokenizer)
    valid = collect(CONFIG, policy, tokenizer, held_out=True)
    asked = {p.text for p in make_prompts(CONFIG.n_prompts, 3, tokenizer)}
    assert {pair.prompt for pair in train} <= asked
    assert not {pair.prompt for pair in valid} & asked
    assert len(train) <= CONFIG.n_prompts * CONFIG.pairs_per_prompt
    for pair in (*train, *valid):
        assert pair.gold_chosen == len(pair.chosen)
        assert pair.gold_rejected == len(pair.rejected)


def test_an_annotator_who_never_errs_prefers_what_is_wanted():
    found = collect(replace(CONFIG, agreement=1), *base())
    assert all(pair.gold_chosen >= pair.gold_rejected for pair in found)


def test_progress_counts_answers():
    told = []
    for held_out in (False, True):
        collect(CONFIG, *base(), lambda *at: told.append(at), held_out=held_out)
    assert told[-1] == ("answers held out", 8, 8)
    assert ("answers to compare", 20, 20) in told


def test_pairs_stay_in_a_file_of_their_recipe(tmp_path, monkeypatch):
    path = tmp_path / "pairs.json"
    first = collected(path, CONFIG, *base())
    with monkeypatch.context() as patch:
        patch.delattr(align, "sample_in_batches")  # nobody may be asked again
        assert collected(path, CONFIG, *base()) == first
    with pytest.raises(
        ValueError, match="holds pairs of another recipe or policy: .* must be"
    ):
        collected(path, replace(CONFIG, agreement=0.7), *base())
    other = type(base()[0])(base()[0].config, torch.Generator().manual_seed(9))
    with pytest.raises(
        ValueError, match="holds pairs of another recipe or policy: .* must be"
    ):
        collected(path, CONFIG, other, base()[1])
    text = path.read_text(encoding="utf-8")
    for damaged in ("", text[:-20], "[1]\n[2]\n"):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(ValueError, match="must hold a study"):
            collected(path, CONFIG, *base())


def test_answers_that_are_all_alike_cannot_be_compared(monkeypatch):
    def alike(policy, prompts, *_, **__):
        return [SimpleNamespace(texts=["same"] * len(prompts))]

    monkeypatch.setattr(align, "sample_in_batches", alike)
    with pytest.raises(ValueError, match="two different answers, got none"):
        collect(CONFIG, *base())


@pytest.mark.parametrize(
    ("field", "value"),
    [("agreement", 0.4), ("agreement", 1.1)],
)
def test_sizes_that_make_no_sense(field, value):
    with pytest.raises(ValueError, match=rf"{field} must be .*, got {value}"):
        AlignConfig(**{field: value})


@pytest.mark.parametrize("seed", [-2, -1, 0, 1])
def test_what_the_exam_asks_is_not_trained(seed):
    with pytest.raises(ValueError, match="seed must not be one of the exam's"):
        AlignConfig(seed=EXAM_SEED + seed)


@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_plain_stories_keep_what_was_known(base_folder, method):
    """With no reward at all, they are all that a policy learns from."""
    config, (policy, tokenizer) = config_of(method, str(base_folder)), base()
    training = replace(config.training, ptx_coef=1.0, ptx_batch_size=4, iterations=8)
    nothing, model = Preferences(train=[], valid=[]), RewardModel(policy)
    texts = [*plain_stories(20, 99, tokenizer, policy.config.context_length)]

    def worth_nothing(prompts, texts):
        return torch.zeros(len(prompts))

    def loss_after(**changes):
        learning = deepcopy(policy)
        changed = replace(config, n_texts=30, training=replace(training, **changes))
        train_policy(changed, learning, tokenizer, nothing, model, proxy=worth_nothing)
        return answer_loss(learning, texts, FinetuningConfig()).item()

    assert loss_after() < loss_after(ptx_coef=0) - 0.1


def test_half_of_what_a_policy_learned_before_are_instructions(base_folder):
    """One that has seen no conversation learns from stories alone."""
    config = replace(config_of("grpo", str(base_folder)), n_texts=9)
    for (policy, tokenizer), n_talks in ((base(), 0), (chatty(), 5)):
        texts = ptx_texts(config, policy, tokenizer)
        asked = tokenizer.special_tokens.get("<|user|>", -1)
        assert len(texts) == 9
        assert sum(asked in text.ids for text in texts) == n_talks
        assert max(map(len, texts)) <= policy.config.context_length


@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_what_is_trained_is_not_what_was_compared(base_folder, method):
    """The policy's prompts are of a seed of their own, two above that of the pairs."""
    config, (policy, tokenizer) = config_of(method, str(base_folder)), base()
    nothing, asked = Preferences(train=[], valid=[]), set()

    def note(prompts, texts):
        asked.update(prompts)
        return torch.zeros(len(prompts))

    model = RewardModel(policy)
    train_policy(config, deepcopy(policy), tokenizer, nothing, model, proxy=note)
    n, seed = config.n_training_prompts, config.seed
    assert asked <= {prompt.text for prompt in make_prompts(n, seed + 2, tokenizer)}
    assert not asked & {prompt.text for prompt in make_prompts(n, seed, tokenizer)}
