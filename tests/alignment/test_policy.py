"""What PPO and GRPO have in common: they learn, repeat, go on, and stop in time."""

from dataclasses import asdict
from itertools import pairwise

import pytest
import torch
from model_cases import seeded
from policy_cases import METHODS, PROMPTS, learn, make_policy, share_of_f

from llmcourse.alignment.policy import RolloutBatch
from llmcourse.alignment.preferences import Prompt
from llmcourse.finetuning.lora import add_lora
from llmcourse.training.checkpoints import checkpoint_paths

both = pytest.mark.parametrize("method", METHODS)


def weights_of(model):
    return [weight.detach().clone() for weight in model.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# Worked example


@both
def test_a_policy_learns_what_is_paid_for(method):
    """One letter in eleven at first; it pays, and soon it is nearly all there is."""
    policy = make_policy(std=0.1)
    history = learn(
        method,
        policy,
        iterations=25,
        answers_per_prompt=6,
        minibatch_size=9,
        kl_coef=0.0,
    )
    assert history[0].reward < 0.25
    assert history[-1].reward > 0.7
    assert history[-1].kl > 3
    assert history[-1].entropy < history[0].entropy


# Law


@both
def test_history_tells_every_iteration(method):
    seen = []
    history = learn(method, make_policy(), progress=seen.append)
    assert history == seen
    assert [found.iteration for found in history] == [1, 2, 3, 4]
    first = history[0]
    assert first.kl == pytest.approx(0, abs=1e-4)  # nothing learned yet
    assert all(1 <= found.length <= 7 for found in history)
    assert all(0 <= found.finished <= 1 for found in history)
    assert all(0 <= found.clip_fraction <= 1 for found in history)
    assert all((found.value_loss is None) == (method == "grpo") for found in history)


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_policies_in_another_type_learn(method, dtype):
    policy = make_policy().to(dtype)
    start = weights_of(policy)
    learn(method, policy)
    assert not same(weights_of(policy), start)
    assert {weight.dtype for weight in policy.parameters()} == {dtype}


@both
def test_low_precision_learns_almost_the_same(method):
    """Samples are the same; what is learned from them is close, and not equal."""
    exact, rough = make_policy(), make_policy()
    start = weights_of(exact)
    one, other = (
        learn(method, policy, iterations=1, precision=precision)
        for policy, precision in ((exact, "float32"), (rough, "bfloat16"))
    )
    assert one[0].reward == other[0].reward
    assert one[0].entropy == pytest.approx(other[0].entropy, rel=1e-2)
    moved, apart = (
        sum(
            (a - b).norm().item() for a, b in zip(weights_of(exact), these, strict=True)
        )
        for these in (start, weights_of(rough))
    )
    assert 0 < apart < 0.2 * moved


@both
def test_the_penalty_holds_a_policy_near(method):
    many = {"iterations": 12, "answers_per_prompt": 6, "minibatch_size": 9}
    free, held = (
        learn(method, make_policy(std=0.1), kl_coef=weight, **many)
        for weight in (0.0, 2.0)
    )
    assert free[-1].kl > 1
    assert held[-1].kl < 0.5 * free[-1].kl


@both
def test_the_same_generator_gives_the_same_training(method):
    policies = [make_policy() for _ in range(3)]
    histories = [
        learn(method, policy, seed=seed)
        for policy, seed in zip(policies, (1, 1, 2), strict=True)
    ]
    assert histories[0] == histories[1]
    assert same(*(weights_of(policy) for policy in policies[:2]))
    assert histories[0] != histories[2]


@both
@pytest.mark.parametrize("stopped_after", [2, 3])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(
    method, stopped_after, tmp_path
):
    whole = make_policy()
    expected = learn(method, whole, iterations=5)

    def stop(found):
        if found.iteration == stopped_after:
            raise KeyboardInterrupt

    options = {"folder": tmp_path, "interval": 2, "iterations": 5}
    with pytest.raises(KeyboardInterrupt):
        learn(method, make_policy(), progress=stop, **options)
    resumed, seen = make_policy(), []
    found = learn(method, resumed, progress=seen.append, **options)
    assert found == expected
    # What was told before it could be saved is made, and told, again.
    assert seen == expected[0 if stopped_after == 2 else 2 :]
    assert same(weights_of(resumed), weights_of(whole))
    again = learn(method, make_policy(), progress=pytest.fail, **options)
    assert again == expected, "nothing was left to do"


@both
def test_in_the_cooldown_steps_get_shorter(method):
    """The first half is as without it, and the last update a short one."""
    steps = {}
    for cooldown in (0, 0.5):
        policy, before = make_policy(), []
        learn(
            method,
            policy,
            iterations=8,
            cooldown=cooldown,
            progress=lambda _, policy=policy, seen=before: seen.append(
                torch.cat([weight.flatten() for weight in weights_of(policy)])
            ),
        )
        steps[cooldown] = [(b - a).norm().item() for a, b in pairwise(before)]
    assert steps[0.5][:3] == steps[0][:3]
    assert steps[0.5][-1] < 0.5 * steps[0][-1]


@both
def test_only_what_is_not_frozen_learns(method):
    policy = make_policy()
    add_lora(policy, rank=2, alpha=4, generator=seeded())
    before = {n: w.detach().clone() for n, w in policy.named_parameters()}
    learn(method, policy)
    changed = {
        name
        for name, weight in policy.named_parameters()
        if (weight != before[name]).any()
    }
    assert changed
    assert all("lora" in name for name in changed)


def test_a_reward_is_told_prompts_and_answers():
    calls = []

    def reward(prompts, texts):
        calls.append((prompts, texts))
        return share_of_f(prompts, texts)

    learn("grpo", make_policy(), reward=reward, iterations=1)
    ((prompts, texts),) = calls
    assert len(prompts) == len(texts) == 6
    assert prompts[::2] == prompts[1::2]  # the answers to a prompt are side by side
    assert len(set(prompts)) == 3  # no prompt twice


# Refusals


@both
@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_none_stops_the_training(method, score, tmp_path):
    policy, calls = make_policy(), []

    def reward(prompts, texts):
        calls.append(None)
        scores = share_of_f(prompts, texts)
        if len(calls) == 3:
            scores[1] = score
        return scores

    options = {"folder": tmp_path, "interval": 1}
    with pytest.raises(FloatingPointError, match=f"iteration 3 .* got {score}"):
        learn(method, policy, reward=reward, **options)
    assert checkpoint_paths(tmp_path)[-1].stem.endswith("2")  # the last good one
    assert all(weight.isfinite().all() for weight in policy.parameters())
    healed = make_policy()
    assert learn(method, healed, **options) == learn(method, make_policy())


@both
def test_a_loss_that_is_not_finite_changes_no_weight(method):
    """Scores near the largest number make sums that are infinite."""
    policy = make_policy()
    before = weights_of(policy)
    options = {"scale": False} if method == "grpo" else {}

    def reward(prompts, texts):
        return 3e38 * torch.tensor([(-1.0) ** n for n in range(len(texts))])

    with pytest.raises(FloatingPointError, match="finite loss and gradient"):
        learn(method, policy, reward=reward, **options)
    assert same(weights_of(policy), before)


@both
def test_rewards_of_another_shape(method):
    for shape in ((6, 1), (5,), ()):
        with pytest.raises(ValueError, match="must give 6 scores, one for each"):
            learn(method, make_policy(), reward=lambda p, t, s=shape: torch.zeros(s))


@both
def test_what_cannot_be_trained(method, tmp_path):
    with pytest.raises(ValueError, match="n_prompts must be at least 3, got 2"):
        learn(method, make_policy(), prompts=PROMPTS[:2])
    with pytest.raises(ValueError, match=r"context_length = 17, got 11 \+ 7"):
        learn(method, make_policy(), prompts=[*PROMPTS, Prompt("", (1,) * 11)])
    frozen = make_policy()
    frozen.requires_grad_(False)
    with pytest.raises(ValueError, match="not frozen"):
        learn(method, frozen)
    with pytest.raises(ValueError, match=r"ptx_coef 0.1 needs texts, got none"):
        learn(method, make_policy(), ptx_coef=0.1)
    learn(method, make_policy(), folder=tmp_path)
    for policy, options, message in (
        (make_policy(seed=9), {}, "reference must be"),
        (make_policy(), {"clip_range": 0.1}, "config.clip_range must be 0.2, got 0.1"),
        (make_policy(), {"seed": 4}, "seed must be 0, got 4"),
        (make_policy(), {"prompts": PROMPTS[1:]}, "prompts must be"),
    ):
        with pytest.raises(ValueError, match=message):
            learn(method, policy, folder=tmp_path, **options)


@both
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 0),
        ("prompts_per_iteration", 0),
        ("epochs", 0),
        ("minibatch_size", -1),
        ("max_new_tokens", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("clip_range", 0.0),
        ("kl_coef", -0.1),
        ("cooldown", -0.1),
        ("cooldown", 1.1),
    ],
)
def test_settings_that_no_training_can_have(method, name, value):
    config = METHODS[method][1]
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
        config(**{name: value})
    assert config(kl_coef=0, warmup_updates=0)
    assert asdict(config())["clip_range"] == 0.2


def test_rows_are_cut_to_the_longest_of_them():
    mask = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 0, 0]]).bool()
    numbers = torch.arange(15.0).view(3, 5)
    whole = RolloutBatch(
        ids=torch.arange(15).view(3, 5),
        mask=mask,
        log_probs=numbers,
        reference_log_probs=-numbers,
        advantages=torch.tensor([5.0, 6.0, 7.0]),
        returns=2 * numbers,
    )
    part = whole.rows(torch.tensor([2, 0]))
    assert part.ids.tolist() == [[10, 11, 12], [0, 1, 2]]
    assert part.mask.tolist() == [[False, True, False], [False, True, True]]
    assert torch.equal(part.reference_log_probs, -part.log_probs)
    assert torch.equal(part.returns, 2 * part.log_probs)
    assert part.advantages.tolist() == [7, 5]


@both
@pytest.mark.parametrize("ids", [(), (99_999,)])
def test_prompts_that_a_policy_cannot_read_are_refused(method, ids):
    with pytest.raises(ValueError, match="prompts must be"):
        learn(method, make_policy(), prompts=[*PROMPTS, Prompt("a", ids)])
