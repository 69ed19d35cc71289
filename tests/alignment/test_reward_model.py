"""A reward model: one number for a text, learned from comparisons."""

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from model_cases import SMALL, seeded

from llmcourse.alignment.preferences import TokenizedPair
from llmcourse.alignment.reward_model import (
    RewardConfig,
    RewardModel,
    pad_texts,
    pair_rewards,
    share_preferred,
    train_reward_model,
)
from llmcourse.alignment.surprisal import SurprisalReader
from llmcourse.finetuning.lora import add_lora
from llmcourse.model.transformer import Transformer, hidden_states
from llmcourse.training.checkpoints import Run, checkpoint_paths
from llmcourse.training.config import Update

SIZES = replace(SMALL, n_kv_heads=2)
SHORT = RewardConfig(
    steps=5,
    batch_size=4,
    context_length=9,
    learning_rate=0.01,
    warmup_steps=2,
    eval_interval=2,
    eval_examples=5,
    accumulation=2,
)
TEXTS = [torch.tensor(ids) for ids in ([5, 0, 3, 9, 7], [4], [12, 1, 1])]


def make_model(seed=0, family="llama", pooling="last"):
    model = Transformer(replace(SIZES, family=family), seeded(seed))
    return RewardModel(model, seeded(seed), pooling)


def make_pairs(n=11, seed=0):
    """Return pairs of random answers; the chosen one has token 4 in it."""
    generator = seeded(seed)

    def draw(low, high, n=1):
        return torch.randint(low, high, (n,), generator=generator)

    return [
        TokenizedPair(
            draw(5, 13, 2),
            torch.cat((draw(5, 13, int(draw(0, 3))), torch.tensor([4, 0]))),
            torch.cat((draw(5, 13, int(draw(1, 4))), torch.tensor([0]))),
        )
        for _ in range(n)
    ]


def run(model=None, folder=None, config=SHORT, progress=None, **options):
    model = model or make_model()
    history = train_reward_model(
        model,
        make_pairs(),
        make_pairs(7, seed=1),
        config,
        seeded(),
        run=Run(folder=folder, interval=2, progress=progress),
        **options,
    )
    return model, history


# Worked example


def test_worked_example_of_a_head():
    """A head that reads one coordinate and doubles it, and a zero that lies at 3."""
    model = Transformer(SIZES, seeded())
    reward_model = RewardModel(model)
    with torch.no_grad():
        reward_model.head.weight.zero_()
        reward_model.head.weight[0, 7] = 2.0
        reward_model.offset.fill_(3.0)
    features = model.norm(hidden_states(model, TEXTS[0][None])[-1])  # (1, T, D)
    for last in (0, 2, 4):
        found = reward_model(TEXTS[0][None], torch.tensor([last]))
        torch.testing.assert_close(found, 2 * features[:, last, 7] - 3)
    mean = RewardModel(model, pooling="mean")
    mean.load_state_dict(reward_model.state_dict())
    found = mean(TEXTS[0][None], torch.tensor([2]))
    torch.testing.assert_close(found, 2 * features[:, :3, 7].mean(dim=1) - 3)
    both = RewardModel(model, pooling="mean and max")
    both.load_state_dict(reward_model.state_dict())
    with torch.no_grad():
        both.head.weight[0, 8] = 1.0  # of the second half: the maximum
    found = both(TEXTS[0][None], torch.tensor([2]))
    average, highest = features[:, :3, 7].mean(dim=1), features[:, :3, 8].amax(dim=1)
    torch.testing.assert_close(found, 2 * average + highest - 3)


def test_worked_example_of_learning_what_is_preferred():
    """Answers with token 4 in them were preferred: held-out ones are told apart."""
    config = replace(SHORT, steps=100, eval_interval=50)
    model, valid = make_model(), make_pairs(20, seed=1)
    train_reward_model(model, make_pairs(60), valid, config, seeded())
    chosen, rejected = pair_rewards(model, valid)
    assert share_preferred(chosen - rejected) > 0.9


# Law


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_head_is_of_the_models_own_precision(dtype):
    model = RewardModel(Transformer(SIZES, seeded()).to(dtype), seeded())
    assert model.head.weight.dtype == model.offset.dtype == dtype
    assert model(TEXTS[0][None], torch.tensor([4])).dtype == dtype


@pytest.mark.parametrize("pooling", ["last", "mean", "mean and max"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_what_comes_after_the_last_token_has_no_influence(family, pooling):
    model = make_model(family=family, pooling=pooling)
    ids, last = pad_texts(TEXTS)
    found = model(ids, last)
    for n, text in enumerate(TEXTS):
        alone = model(text[None], last[n : n + 1])
        torch.testing.assert_close(found[n : n + 1], alone)
        others = ids.clone()
        others[n, len(text) :] = 11
        torch.testing.assert_close(model(others, last), found)


def test_all_pairs_of_a_prompt_may_be_learned_at_once_and_answers_read_once():
    """As one batch of the same six pairs; either way, six of twelve texts are read."""
    pairs = [
        TokenizedPair(torch.tensor([start]), *map(torch.tensor, answers))
        for start in (5, 6)
        for answers in combinations(([7, 0], [8, 9, 0], [10, 4, 4, 0]), 2)
    ]
    by_prompt = replace(SHORT, steps=1, batch_size=2, accumulation=1, by_prompt=True)
    by_pair = replace(by_prompt, batch_size=6, by_prompt=False)
    made, n_read = [], []
    for config in (by_prompt, by_pair):
        model = make_model().double()
        model.register_forward_hook(lambda _, given, __: n_read.append(len(given[0])))
        train_reward_model(model, pairs, pairs[:1], config, seeded())
        made.append(model)
        n_read.append(None)
    split = n_read.index(None)
    found = n_read[:split].count(6), n_read[split:].count(6), n_read.count(12)
    assert found == (1, 1, 0)
    for ours, theirs in zip(*(model.parameters() for model in made), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_prompt_with_more_pairs_weighs_more(accumulation):
    """Of three pairs and of one: as one batch of the four, also prompt by prompt."""
    answers = [torch.tensor(ids) for ids in ([7, 0], [8, 9, 0], [10, 4, 4, 0])]
    first = torch.tensor([5])
    pairs = [TokenizedPair(first, *two) for two in combinations(answers, 2)]
    pairs.append(TokenizedPair(torch.tensor([6]), *answers[:2]))
    config = replace(SHORT, steps=1, batch_size=4, accumulation=1)
    ways = (
        config,
        replace(config, batch_size=2, accumulation=accumulation, by_prompt=True),
    )
    made = []
    for way in ways:
        made.append(make_model().double())
        train_reward_model(made[-1], pairs, pairs[:1], way, seeded())
    for ours, theirs in zip(*(model.parameters() for model in made), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_fewer_prompts_than_a_batch_are_refused():
    pair = make_pairs(1)[0]
    config = replace(SHORT, batch_size=2, accumulation=1, by_prompt=True)
    with pytest.raises(ValueError, match="examples must be at least 2, got 1"):
        train_reward_model(make_model(), [pair, pair], [pair], config, seeded())


def test_the_language_model_stays_as_it_is():
    """What is trained is a copy, and of the first model nothing else is lost."""
    model = Transformer(SIZES, seeded())
    before = {name: w.clone() for name, w in model.state_dict().items()}
    run(RewardModel(model, seeded()))
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())


def test_gradients_are_those_of_finite_differences():
    """Of the loss of one pair, by the head's weights and by a matrix deep inside."""
    model = make_model().double()
    pair = make_pairs(1)[0]
    ids, last = pad_texts(pair.texts())

    def loss():
        chosen, rejected = model(ids, last).unbind()
        return -(chosen - rejected).sigmoid().log()

    loss().backward()
    for weight in (model.head.weight, model.body.blocks[0].attention.value.weight):
        place, step = (0, 3), 1e-5
        with torch.no_grad():
            weight[place] += step
            high = loss()
            weight[place] -= 2 * step
            low = loss()
            weight[place] += step
        slope = ((high - low) / (2 * step)).item()
        assert weight.grad[place].item() == pytest.approx(slope, rel=1e-4, abs=1e-9)


def test_the_history_is_complete_and_in_order():
    seen = []
    _, history = run(progress=seen.append)
    assert [update.step for update in history.updates] == [1, 2, 3, 4, 5]
    assert [evaluation.step for evaluation in history.evaluations] == [0, 2, 4, 5]
    assert all(record.metrics.keys() == {"margin", "accuracy"} for record in seen)


def test_adapters_and_the_head_learn_and_nothing_else():
    model = Transformer(SIZES, seeded())
    add_lora(model, rank=2, alpha=4, generator=seeded())
    reward_model = RewardModel(model, seeded())
    before = {name: w.clone() for name, w in reward_model.state_dict().items()}
    run(reward_model)
    for name, weight in reward_model.state_dict().items():
        learns = "lora" in name or "head" in name
        assert torch.equal(weight, before[name]) != learns, name


# Refusal


def test_refuses_texts_without_tokens():
    for texts in ([], [torch.tensor([1]), torch.tensor([], dtype=torch.int64)]):
        with pytest.raises(ValueError, match="must be at least 1, got 0"):
            pad_texts(texts)


def test_refuses_what_cannot_be_learned():
    fine = make_pairs()
    long = TokenizedPair(torch.arange(7), torch.tensor([1, 2, 0]), torch.tensor([0]))
    for pairs, valid, message in (
        ([], fine, "got 0"),
        (fine, [], "got 0"),
        ([*fine, long], fine, "tokens of prompt and answer must be in 1 … 9"),
        (fine, [long], "tokens of prompt and answer must be in 1 … 9"),
        (fine[:3], fine, "examples must be at least 4, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            train_reward_model(make_model(), pairs, valid, SHORT, seeded())
    with pytest.raises(ValueError, match="must be at least 0, got -1"):
        replace(SHORT, center_rewards_coefficient=-1)


def test_refuses_checkpoints_of_another_objective(tmp_path):
    run(folder=tmp_path)
    other = replace(SHORT, center_rewards_coefficient=0.5)
    with pytest.raises(ValueError, match=r"another run: config\.center"):
        run(folder=tmp_path, config=other)
    begun_elsewhere = RewardModel(Transformer(SIZES, seeded(9)), seeded())
    with pytest.raises(ValueError, match=r"another run: start must be"):
        run(begun_elsewhere, tmp_path)


def test_refuses_checkpoints_of_a_model_with_another_reader(tmp_path):
    model = Transformer(SIZES, seeded())

    def told(start, seed=7):
        reader = SurprisalReader(model=Transformer(SIZES, seeded(seed)), start=start)
        return RewardModel(model, seeded(), "mean", reader).train()

    run(told(None), tmp_path)
    for other in (told(None, seed=8), told(4)):
        with pytest.raises(ValueError, match="another run: objective must be"):
            run(other, tmp_path)


def test_a_loss_that_is_no_number_stops_it_and_the_last_checkpoint_stays(tmp_path):
    model = make_model()

    def progress(record):
        if isinstance(record, Update) and record.step == 3:
            with torch.no_grad():
                model.head.weight[0, 0] = math.nan

    with pytest.raises(FloatingPointError, match="step 4 needs a finite loss"):
        run(model, tmp_path, progress=progress)
    assert [path.stem for path in checkpoint_paths(tmp_path)][-1] == "step-00000002"
    assert run(make_model(), tmp_path)[1] == run()[1]
