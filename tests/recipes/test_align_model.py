"""From a recipe to two folders: what is in them, what the cards say, how it goes on."""

import json
import re
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from align_cases import METHODS, config_of, want_length
from chat_cases import base, chatty

from llmcourse.alignment.evaluation import evaluate_policy
from llmcourse.alignment.preferences import agreement_rate, exam_prompts, make_prompts
from llmcourse.alignment.reward_model import RewardModel, load_reward_model, text_reward
from llmcourse.finetuning.answering import has_chat_tokens
from llmcourse.finetuning.instruction_evaluation import forgetting, instruction_scores
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.recipes import align_model
from llmcourse.recipes.align_card import AlignMaking, aligned_card, card_of
from llmcourse.recipes.align_model import (
    AlignExam,
    align,
    collected,
    make_aligned,
    measure_reward,
    teach,
)
from llmcourse.recipes.align_recipe import Preferences
from llmcourse.recipes.reward_card import reward_card
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import Evaluation

EXAM = AlignExam(n_prompts=3, n_per_kind=1, n_stories=2, seed=5)
QUICK = AlignExam(n_prompts=2, n_per_kind=0, n_stories=2)
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
    few = partial(instruction_scores, kinds=("who", "list"))
    with pytest.MonkeyPatch.context() as patch:
        want_length(patch)
        patch.setattr(align_model, "instruction_scores", few)
        quality = make_aligned(
            config, folder, names=("judge", "small"), command=COMMAND, exam=EXAM
        )
    return folder, config, quality


@pytest.fixture(autouse=True)
def long_is_good(monkeypatch):
    want_length(monkeypatch)


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
    proxy = text_reward(reward_model, tokenizer, chat=True)
    prompts, most = exam_prompts(3, tokenizer), config.max_new_tokens
    again = evaluate_policy(policy, start, tokenizer, prompts, proxy, most, EXAM.seed)
    assert dict(quality.after) == again.summary()
    assert quality.gold.after == pytest.approx(again.gold.mean().item())
    pairs = collected(folder / "pairs.jsonl", config, start, tokenizer).valid
    assert quality.reward == measure_reward(reward_model, tokenizer, pairs)
    assert quality.reward.ceiling == agreement_rate(pairs)
    scores = instruction_scores(
        policy,
        tokenizer,
        1,
        EXAM.seed,
        splits=("held-out wordings",),
        kinds=("who", "list"),
    )
    assert quality.scores == scores
    assert quality.forgetting == forgetting(
        (start, tokenizer), (policy, tokenizer), 2, EXAM.seed
    )
    found = json.loads(json.dumps(quality.to_json()))
    assert {"before", "after", "gold", "reward_model"} < set(found)


def test_the_cards_say_what_was_measured(made):
    folder, _, quality = made
    text = (folder / "model" / "README.md").read_text(encoding="utf-8")
    gold, after, lost = quality.gold, quality.after, quality.forgetting
    for found in (
        "# small\n",
        f"| gold reward | {gold.before:.2f} | {gold.after:.2f} of 10 points |",
        f"{gold.in_sd:+.2f} standard deviations of the start |",
        f"| KL from the start | 0 | {after['kl']:.1f} nats per answer |",
        "| instructions, held-out wordings | 0.0 % of 2 (0 % … 66 %) |",
        f"| {lost.before:.4f} | {lost.after:.4f} nats/token |",
        "| method | GRPO |",
        "| iterations | 2 |",
        "5 orders to write a story, each answered 4 times",
        "agrees with it in 85 % of pairs",
        COMMAND,
    ):
        assert found in text, found
    text = (folder / "reward/model/README.md").read_text(encoding="utf-8")
    accuracy = quality.reward.accuracy
    for found in (
        "# judge\n",
        f"| {100 * accuracy.rate:.1f} % of {accuracy.n} held-out pairs (",
        "ceiling",
        "2 steps of 4 pairs",
        "read from the mean over all tokens for half of the features, ",
        "told of each token | its place, and its surprisal and entropy for `",
        COMMAND,
    ):
        assert found in text, found
    for name in ("model", "reward/model"):
        text = (folder / name / "README.md").read_text(encoding="utf-8")
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({row.count("|") for row in table.splitlines()}) == 1


def test_the_card_counts_passes_over_what_the_batches_are_of(made):
    """30 pairs of 4 prompts, in 2 steps of 4: of pairs 0.3 passes, of prompts 2."""
    folder, config, quality = made
    policy, tokenizer = load_pretrained(config.policy)
    pairs = collected(folder / "pairs.jsonl", config, policy, tokenizer)
    for by_prompt, steps in (
        (False, "2 steps of 4 pairs: 0.3 passes"),
        (True, "2 steps of 4 prompts, each with all its pairs: 2.0 passes"),
    ):
        making = AlignMaking(
            config=replace(config, reward=replace(config.reward, by_prompt=by_prompt)),
            sizes=policy.config,
            n_pairs=30,
            n_prompts=4,
            example=pairs.valid[0],
            chat=True,
            command=COMMAND,
        )
        assert f"| {steps} |" in reward_card("judge", making, quality.reward)


def test_cards_claim_no_licence_of_others(made):
    folder, config, _ = made
    for name in ("model", "reward/model"):
        text = (folder / name / "README.md").read_text(encoding="utf-8")
        assert "license:" not in text
        assert f"## Licence\n\nThat of `{config.policy}` decides." in text
    card = card_of("text-generation", "# small", {}, "instruct-llm")
    assert "license: mit" in card
    assert "## Licence\n\nMIT" in card


def test_the_cards_code_survives_quotation_marks(made):
    folder, config, quality = made
    policy, tokenizer = load_pretrained(config.policy)
    found = collected(folder / "pairs.jsonl", config, policy, tokenizer)
    example = replace(found.valid[0], chosen='"Yes," it\'s said. "Good night!"')
    making = AlignMaking(
        config=config,
        sizes=policy.config,
        n_pairs=30,
        n_prompts=4,
        example=example,
        chat=True,
        command=COMMAND,
    )
    for card in (
        reward_card("judge", making, quality.reward),
        aligned_card("small", making, quality),
    ):
        (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        compile(code, "README.md", "exec")


@pytest.mark.parametrize("name", ["model", "reward/model"])
def test_the_cards_code_runs(made, capsys, name):
    text = (made[0] / name / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(code.replace("FOLDER", str(made[0] / name)), "README.md", "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.parametrize("method", METHODS)
def test_what_happened_is_returned_whole_when_nothing_is_left(
    policies, tmp_path, method
):
    config, tokenizer = config_of(method, str(policies / "base")), base()[1]
    pairs = collected(tmp_path / "pairs.jsonl", config, *base())
    judge_of_them, run = teach(config, *base(), pairs).model, Run(folder=tmp_path)
    first, again = (
        align(config, deepcopy(base()[0]), tokenizer, pairs, judge_of_them, run)
        for _ in range(2)
    )
    assert first
    assert again == first


@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_what_is_trained_is_not_what_was_compared(policies, method):
    """The policy's prompts are of a seed of their own, two above that of the pairs."""
    config, (policy, tokenizer) = config_of(method, str(policies / "base")), base()
    nothing, asked = Preferences(train=[], valid=[]), set()

    def note(prompts, texts):
        asked.update(prompts)
        return torch.zeros(len(prompts))

    model = RewardModel.from_model(policy)
    align(config, deepcopy(policy), tokenizer, nothing, model, proxy=note)
    n, seed = config.n_training_prompts, config.seed
    assert asked <= {prompt.text for prompt in make_prompts(n, seed + 2, tokenizer)}
    assert not asked & {prompt.text for prompt in make_prompts(n, seed, tokenizer)}


@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_run_goes_on_to_the_same_bytes(policies, tmp_path, method):
    config = config_of(method, str(policies / "base"))

    def stop(record):
        if isinstance(record, Evaluation) and record.step == 1:
            raise KeyboardInterrupt

    whole = make_aligned(config, tmp_path / "whole", exam=QUICK)
    for when in ("teaching", "progress"):
        with pytest.raises(KeyboardInterrupt):
            make_aligned(config, tmp_path / "parts", exam=QUICK, **{when: stop})
        assert not (tmp_path / "parts" / "model").exists()
    again = make_aligned(config, tmp_path / "parts", exam=QUICK)
    assert again.to_json() == whole.to_json()
    for name in ("model", "reward/model"):
        ours, theirs = (
            (tmp_path / part / name / "model.safetensors").read_bytes()
            for part in ("parts", "whole")
        )
        assert ours == theirs
    assert whole.scores is None
    card = (tmp_path / "whole/model/README.md").read_text(encoding="utf-8")
    assert "first words of stories" in card


def test_a_reader_that_cannot_be_is_refused_before_anything_is_written(
    policies, tmp_path
):
    config, other = config_of("grpo", str(policies / "chat")), tmp_path / "other"
    model = Transformer(TransformerConfig(vocab_size=256))
    save_pretrained(model, BPETokenizer.train(["a tale"], 256), other)
    for reader, message in (
        ("nobody", "got 'nobody'"),
        (str(other), "tokens of who is told"),
    ):
        with pytest.raises(ValueError, match=message):
            make_aligned(replace(config, reader=reader), tmp_path / "run", exam=QUICK)
        assert not [*(tmp_path / "run").iterdir()]
