"""Updates of each trainer against plain torch, written down here once more.

Nothing of the package is used for what is expected but the model's logits: losses,
advantages, clipping, schedules and weight decay are this file's own. In the settings
each of them matters.
"""

import math
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from model_cases import seeded
from policy_cases import PROMPTS, STOP, Letters, make_policy, share_of_f
from torch.nn.functional import gelu, linear, logsigmoid

from llmcourse.alignment.dpo import DPOConfig, dpo
from llmcourse.alignment.grpo import GRPO, GRPOConfig
from llmcourse.alignment.ppo import PPO, PPOConfig
from llmcourse.alignment.preferences import TokenizedPair
from llmcourse.alignment.reward_model import (
    RewardConfig,
    RewardModel,
    train_reward_model,
)
from llmcourse.finetuning.examples import TokenizedExample
from llmcourse.finetuning.finetuning import (
    FinetuningConfig,
    answer_loss,
)
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.loop import update_weights, weighted_losses
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.pretraining import train_step


def draw(generator, low, high, n):
    return torch.randint(low, high, (n,), generator=generator)


def adamw(model, decay, betas=(0.9, 0.99), speed=1):
    """Return AdamW as described: decay for the blocks' matrices, a faster table."""
    groups = []
    for name, weight in model.named_parameters():
        inside = "blocks." in name and weight.ndim == 2
        table = name.endswith("embedding.weight") and "un" not in name
        groups.append(
            {
                "params": [weight],
                "weight_decay": decay if inside else 0.0,
                "speed": speed if table else 1,
            }
        )
    return torch.optim.AdamW(groups, betas=betas)


def step(model, optimizer, loss, rate, clip_norm):
    optimizer.zero_grad()
    loss.backward()
    weights = [w for w in model.parameters() if w.grad is not None]
    norm = sum(w.grad.square().sum() for w in weights).sqrt()
    for weight in weights:
        weight.grad *= min(1.0, clip_norm / (norm.item() + 1e-6))
    for group in optimizer.param_groups:
        group["lr"] = rate * group["speed"]
    optimizer.step()


def rates(config):
    """Return the learning rate of each step: a line up, then half a cosine."""
    n_up, n_down = config.warmup_steps, config.steps - config.warmup_steps
    up = [(number + 1) / n_up for number in range(n_up)]
    down = [0.5 + 0.5 * math.cos(math.pi * number / n_down) for number in range(n_down)]
    low = config.final_share
    return [
        config.learning_rate * x for x in [*up, *(low + (1 - low) * x for x in down)]
    ]


def check_equal(ours, theirs, start, atol=1e-4):
    """Check that two models are equal, and moved much farther than the tolerance."""
    for one, other, old in zip(
        ours.parameters(), theirs.parameters(), start.parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=atol)
        assert (one - old).abs().max() > 20 * atol


def log_prob(model, prompt, answer):
    """Return the log-probability of each token of an answer."""
    ids = torch.cat((prompt, answer))
    logits = model(ids[None, :-1])[0, len(prompt) - 1 :]
    return logits.log_softmax(-1)[torch.arange(len(answer)), answer]


# The options that all of these trainings share, at values that matter.
COMMON = {
    "steps": 4,
    "warmup_steps": 2,
    "learning_rate": 0.02,
    "final_share": 0.2,
    "weight_decay": 3.0,
    "betas": (0.8, 0.9),
    "clip_norm": 0.1,
    "accumulation": 2,
    "embedding_speed": 0.5,
}


def n_targets(examples):
    return sum(example.n_targets for example in examples)


# Reference


def test_pretraining():
    config = PretrainingConfig(**COMMON, batch_size=4)
    ours, theirs, start = make_policy(), make_policy(), make_policy()
    optimizer = make_optimizer(ours, config)
    plain = adamw(theirs, 3.0, (0.8, 0.9), 0.5)
    for number, rate in enumerate(rates(config)):
        windows = draw(seeded(number), 0, 11, 4 * 9).view(4, 9)
        train_step(ours, optimizer, windows, number, config)
        each = [log_prob(theirs, window[:1], window[1:]) for window in windows]
        step(theirs, plain, -torch.cat(each).mean(), rate, 0.1)
    check_equal(ours, theirs, start)


def test_finetuning():
    """Each target that counts weighs the same, in whichever part of the batch."""
    config = FinetuningConfig(**COMMON, batch_size=4, context_length=17)
    ours, theirs, start = make_policy(), make_policy(), make_policy()
    optimizer = make_optimizer(ours, config)
    plain = adamw(theirs, 3.0, (0.8, 0.9), 0.5)
    for number, rate in enumerate(rates(config)):
        generator = seeded(number)
        texts = [
            (draw(generator, 0, 11, n), draw(generator, 0, 11, m))
            for n, m in ((2, 5), (4, 1), (1, 3), (6, 2))
        ]
        examples = [
            TokenizedExample.of_tokens([*p, *a], [False] * len(p) + [True] * len(a))
            for p, a in ((p.tolist(), a.tolist()) for p, a in texts)
        ]
        loss = partial(answer_loss, ours, config=config)
        shares = weighted_losses(examples, loss, n_targets, config)
        update_weights(ours, optimizer, shares, number, config)
        each = [log_prob(theirs, prompt, answer) for prompt, answer in texts]
        step(theirs, plain, -torch.cat(each).mean(), rate, 0.1)
    check_equal(ours, theirs, start)


def make_pairs():
    """Return as many pairs as a batch has: then their order does not matter."""
    generator = seeded(4)
    return [
        TokenizedPair(*(draw(generator, 0, 11, n) for n in sizes))
        for sizes in ((2, 3, 5), (1, 6, 2), (4, 1, 3), (3, 4, 6))
    ]


def test_dpo():
    config = DPOConfig(**COMMON, batch_size=4, context_length=17, beta=0.4)
    ours, theirs, start = make_policy(), make_policy(), make_policy()
    pairs, reference = make_pairs(), make_policy(seed=7)
    history = dpo(ours, pairs, pairs, config, seeded(), reference=reference)
    plain = adamw(theirs, 3.0, (0.8, 0.9), 0.5)
    for record, rate in zip(history.updates, rates(config), strict=True):
        losses = []
        for pair in pairs:
            chosen, rejected = (
                log_prob(theirs, pair.prompt, answer).sum()
                - log_prob(reference, pair.prompt, answer).sum().detach()
                for answer in (pair.chosen, pair.rejected)
            )
            losses.append(-logsigmoid(0.4 * (chosen - rejected)))
        loss = torch.stack(losses).mean()
        assert record.loss == pytest.approx(loss.item(), rel=1e-4)
        step(theirs, plain, loss, rate, 0.1)
    check_equal(ours, theirs, start)


def test_a_reward_model():
    config = RewardConfig(
        **COMMON, batch_size=4, context_length=17, center_rewards_coefficient=0.3
    )
    pairs = make_pairs()
    ours, theirs, start = (RewardModel(make_policy(), seeded(5)) for _ in range(3))
    history = train_reward_model(ours, pairs, pairs, config, seeded())
    plain = adamw(theirs, 3.0, (0.8, 0.9), 0.5)

    def reward(prompt, answer):
        features = theirs.body(torch.cat((prompt, answer))[None])  # (1, T, D)
        return features[0, -1] @ theirs.head.weight[0]

    for record, rate in zip(history.updates, rates(config), strict=True):
        losses = []
        for pair in pairs:
            chosen = reward(pair.prompt, pair.chosen)
            rejected = reward(pair.prompt, pair.rejected)
            losses.append((1 + (rejected - chosen).exp()).log())
            losses[-1] = losses[-1] + 0.3 * (chosen + rejected) ** 2
        loss = torch.stack(losses).mean()
        assert record.loss == pytest.approx(loss.item(), rel=1e-4)
        step(theirs, plain, loss, rate, 0.1)
    check_equal(ours, theirs, start)


# The same for those who learn from their own answers. Their minibatches are smaller
# than an iteration, and there are several epochs, so that clipping matters.
POLICY = {
    "iterations": 3,
    "prompts_per_iteration": 3,
    "answers_per_prompt": 2,
    "minibatch_size": 4,
    "max_new_tokens": 7,
    "learning_rate": 0.02,
    "warmup_updates": 3,
    "cooldown": 0.4,
    "clip_norm": 0.5,
    "epochs": 3,
    "clip_range": 0.05,
    "kl_coef": 0.3,
}


def policy_pace(update, n_updates=18):
    """Return the share of the peak: a line up, flat, and down over the last 40 %."""
    return min(1.0, (n_updates - update) / (0.4 * n_updates)) * min(1, (update + 1) / 3)


@dataclass
class Answer:
    """One answer, what it scored, and what was made of it."""

    prompt: torch.Tensor
    ids: torch.Tensor
    score: float
    old: torch.Tensor  # log-probabilities of its tokens when it was drawn
    reference: torch.Tensor
    advantages: torch.Tensor | None = None
    values: torch.Tensor | None = None
    returns: torch.Tensor | None = None


def recorded(trainer):
    """Return a class that notes what was answered, and which answers were learned."""

    class Recorded(trainer):
        """Notes rollouts and minibatches."""

        def compute_advantages(self, rollouts, scores, reference_log_probs):
            self.seen.append((rollouts, []))
            return super().compute_advantages(rollouts, scores, reference_log_probs)

        def update(self, part):
            rollouts, minibatches = self.seen[-1]
            width = part.ids.shape[1]
            same = (rollouts.ids[:, None, :width] == part.ids).all(-1)
            same &= (rollouts.answer_mask[:, None, :width] == part.mask).all(-1)
            minibatches.append(same.int().argmax(0).tolist())  # equal ones are equal
            return super().update(part)

    return Recorded


def train(trainer, config, policy, **others):
    learner = recorded(trainer)(
        policy,
        PROMPTS,
        share_of_f,
        config,
        seeded(),
        tokenizer=Letters(),
        stop=STOP,
        **others,
    )
    learner.seen = []
    head = deepcopy(getattr(learner, "value_head", None))
    found = [learner.iterate() for _ in range(config.iterations)]
    assert min(iteration.clip_fraction for iteration in found) > 0.1
    assert 0 < sum(iteration.finished for iteration in found) < len(found)
    return learner, head


def answers_of(rollouts, policy, reference):
    """Return the answers, scored anew: the share of f."""
    found = []
    for prompt, row, mask in zip(
        rollouts.prompts, rollouts.ids, rollouts.answer_mask, strict=True
    ):
        ids, start = row[mask].clone(), torch.tensor(prompt.ids)
        text = ids[:-1] if int(ids[-1]) == STOP[0] else ids
        score = (text == 5).sum() / max(1, len(text))
        logs = [log_prob(model, start, ids).detach() for model in (policy, reference)]
        found.append(Answer(start, ids, score.item(), *logs))
    return found


def clipped(ratio, advantage, clip_range=0.05):
    """Return the gain of each token; none beyond the edge where there is most of it."""
    edge = (1 + clip_range) * advantage.clamp(min=0) + (
        1 - clip_range
    ) * advantage.clamp(max=0)
    return torch.minimum(ratio * advantage, edge)


@pytest.mark.parametrize(
    ("averaging", "ptx_coef"), [("sequence", 0), ("token", 0), ("token", 0.4)]
)
def test_grpo(averaging, ptx_coef):
    """With `ptx_coef`, there is but one text to draw: the same in every update."""
    config = GRPOConfig(
        **POLICY, averaging=averaging, ptx_coef=ptx_coef, ptx_batch_size=2
    )
    ours, theirs, start = make_policy(), make_policy(), make_policy()
    words = torch.tensor([4, 1, 7, 7, 2])
    text = TokenizedExample.of_tokens([3, *words.tolist()], [False, *[True] * 5])
    learner, _ = train(GRPO, config, ours, texts=[text])
    plain, n_updates = adamw(theirs, 0.0), 0
    for rollouts, minibatches in learner.seen:
        answers = answers_of(rollouts, theirs, start)
        for one, other in zip(answers[::2], answers[1::2], strict=True):
            half = (one.score - other.score) / 2  # deviation √2 · |half|
            one.advantages = torch.tensor(half / (2**0.5 * abs(half) + 1e-4))
            other.advantages = -one.advantages
        for rows in minibatches:
            losses = []
            for answer in (answers[row] for row in rows):
                now = log_prob(theirs, answer.prompt, answer.ids)
                gain = clipped((now - answer.old).exp(), answer.advantages)
                away = answer.reference - now
                losses.append(0.3 * (away.exp() - away - 1) - gain)
            each = [loss.mean() for loss in losses]
            loss = torch.cat(losses) if averaging == "token" else torch.stack(each)
            before = -log_prob(theirs, torch.tensor([3]), words).mean()
            loss = loss.mean() + ptx_coef * before
            step(theirs, plain, loss, 0.02 * policy_pace(n_updates), 0.5)
            n_updates += 1
    assert n_updates == 18
    check_equal(ours, theirs, start, atol=1e-3)


def read(policy, head, answer):
    """Return log-probabilities and values of an answer's tokens."""
    kept = []
    hook = policy.norm.register_forward_hook(lambda *parts: kept.append(parts[-1]))
    ids, n = torch.cat((answer.prompt, answer.ids)), len(answer.ids)
    log_probs = policy(ids[None, :-1])[0, -n:].log_softmax(-1)  # (n, V)
    hook.remove()
    hidden = gelu(
        linear(kept[0][0, -n:].detach(), head.hidden.weight, head.hidden.bias)
    )
    values = hidden @ head.output.weight[0] + head.output.bias
    drawn = log_probs[torch.arange(n), answer.ids]
    return drawn, values


def test_ppo():
    config = PPOConfig(
        **POLICY,
        gamma=0.9,
        gae_lambda=0.6,
        value_learning_rate=0.05,
    )
    ours, theirs, start = make_policy(), make_policy(), make_policy()
    learner, head = train(PPO, config, ours)
    first_head, n_updates = deepcopy(head), 0
    plain, plain_head = adamw(theirs, 0.0), adamw(head, 0.0)
    for rollouts, minibatches in learner.seen:
        answers = answers_of(rollouts, theirs, start)
        if not n_updates:
            scores = [answer.score for answer in answers]
            head.output.bias.data.fill_(sum(scores) / len(scores))
        for answer in answers:
            answer.values = read(theirs, head, answer)[1].detach()
            rewards = -0.3 * (answer.old - answer.reference)
            rewards[-1] += answer.score
            after = torch.cat((answer.values[1:], torch.zeros(1)))
            surprise = rewards + 0.9 * after - answer.values
            n = len(surprise)
            answer.advantages = torch.stack(
                [
                    sum(0.54 ** (k - t) * surprise[k] for k in range(t, n))
                    for t in range(n)
                ]
            )
            answer.returns = answer.advantages + answer.values
        every = torch.cat([answer.advantages for answer in answers])
        for answer in answers:
            answer.advantages = (answer.advantages - every.mean()) / every.std()
        for rows in minibatches:
            losses, errors = [], []
            for answer in (answers[row] for row in rows):
                now, values = read(theirs, head, answer)
                gain = clipped((now - answer.old).exp(), answer.advantages)
                losses.append(-gain)
                errors.append((values - answer.returns) ** 2 / 2)
            pace, n_updates = policy_pace(n_updates), n_updates + 1
            step(head, plain_head, torch.cat(errors).mean(), 0.05 * pace, 0.5)
            step(theirs, plain, torch.cat(losses).mean(), 0.02 * pace, 0.5)
    assert n_updates == 18
    check_equal(ours, theirs, start, atol=1e-3)
    check_equal(learner.value_head, head, first_head, atol=1e-3)
