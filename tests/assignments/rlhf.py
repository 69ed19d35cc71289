# ---
# jupyter:
#   llmcourse:
#     version: 1
#     blocked: [llmcourse.alignment.losses, llmcourse.alignment.verifiable]
# ---

# %% [markdown]
# # Assignment: learning from preferences
#
# You write the formulas that turn comparisons into a better model: the loss of a reward model, DPO, and the updates of PPO and GRPO; and you compute how often one of several answers is right.
# At the end you have every loss that an alignment run needs, and you can say what each of them measures.
#
# | Task | Points | Difficulty | Minutes |
# |---|---|---|---|
# | 1. A reward model, the best of n, and pass@k | 3 | ★★ | 25 |
# | 2. How probable an answer is | 2 | ★★ | 15 |
# | 3. How far the policy has gone | 2 | ★★ | 15 |
# | 4. DPO | 2 | ★ | 10 |
# | 5. Advantages of tokens | 2 | ★★★ | 25 |
# | 6. PPO's clipped loss | 2 | ★★ | 15 |
# | 7. GRPO | 2 | ★★★ | 20 |
# | 8. Read a run, and a chain (written) | 5 | ★★ | 30 |
#
# 20 points in all. Read the chapters [Learning from preferences](../rlhf.ipynb), [Reward hacking](../reward_hacking.ipynb) and [Reasoning](../reasoning.ipynb) first.
# Replace every `raise NotImplementedError()` with your code, then run the cell below it: it is silent if your code is right, and says what is wrong if it is not.
# Some points come from hidden tests, which check the same requirements with other inputs.
# No function may change the arguments that it is given; some hidden tests check that, too.
#
# The package `llmcourse` has all of these as well. The first code cell locks them away: here you write them yourself.
#
# B is the number of answers in a batch, T the number of positions, V the size of the vocabulary.
# A loss is there to be trained on, so autograd must be able to take the gradient of each that you write, and of the log-probabilities that go into it.

# %% given="setup"
import sys
from itertools import combinations
from math import comb, exp, log

import torch
from torch.nn import functional
from torch.nn.functional import logsigmoid

from llmcourse.classroom.tasks import close, describe, generator, gradient

for module in ("llmcourse.alignment.losses", "llmcourse.alignment.verifiable"):
    sys.modules[module] = None  # this is what you write yourself


# %% [markdown]
# ## 1. A reward model, the best of n, and pass@k (3 points)
#
# A reward model gives each answer one number.
# Write `preference_loss(chosen, rejected)`: its loss on a batch of pairs, in nats per pair, as a tensor without dimensions.
# `chosen` and `rejected` have the shape (pairs,), for $n$ pairs in the same order:
#
# $$\mathcal{L} = -\frac1n \sum_i \ln \sigma\big(r_i^+ - r_i^-\big).$$
#
# A pair with the rewards $\ln 3$ and $0$ costs $-\ln \tfrac34 = 0.288$ nats.
# The loss of a pair whose rewards are far apart must not become infinite: `logsigmoid` takes care of that, `log(sigmoid(x))` does not.
#
# The simplest use of a reward model needs no training: write $n$ answers, and keep the one with the highest reward.
# Write `best_of_n(rewards, gold, n)`: how much gold reward that yields on average.
# `rewards` and `gold` are two lists of numbers, one of each for every answer that was written, and all rewards are different.
# The average is over **all** ways to take $n$ of these answers.
#
# Take the rewards `[1, 3, 2]`, the gold rewards `[5, 6, 7]` and $n = 2$: there are three ways.
# Of the rewards (1, 3) and (3, 2), the answer with the gold reward 6 is kept, and of (1, 2) the one with 7.
# The average is $19/3$.
#
# Where a program can check answers, each is right or wrong, and the best of $k$ is right if one of the $k$ is.
# Write `pass_at_k(n, n_right, k)`: the share of **all** ways to take $k$ of $n$ answers, `n_right` of them right, that take at least one right answer.
# Of four answers with a single right one there are six pairs, and three of them have it: `pass_at_k(4, 1, 2)` is 0.5.


# %% answer="preference-loss"
def preference_loss(chosen, rejected):
    """Return the mean loss of a reward model on pairs, in nats."""
    ### BEGIN SOLUTION
    return -logsigmoid(chosen - rejected).mean()
    ### END SOLUTION


# %% test="preference-loss" points=0.5
got = preference_loss(torch.tensor([log(3.0)]), torch.tensor([0.0]))
assert close(got, -log(3 / 4)), (
    "rewards of ln 3 and 0 mean that the chosen answer is preferred in 3 of 4 cases, "
    f"so this pair costs -ln(3/4) = 0.288 nats; got {got}"
)
got = preference_loss(torch.tensor([2.0, 5.0]), torch.tensor([2.0, 5.0]))
assert close(got, log(2)), (
    f"equal rewards are a guess, and each pair costs ln 2 = 0.693 nats; got {got}"
)

# %% hidden="preference-loss" points=0.5
# Hidden: random rewards, rewards that are far apart, the gradient (0.5 points)
chosen, rejected = 3 * torch.randn(2, 7, generator=generator(1))
want = functional.binary_cross_entropy_with_logits(chosen - rejected, torch.ones(7))
got = preference_loss(chosen.clone(), rejected.clone())
assert close(got, want), f"7 random pairs cost {want:.4f} nats on average, got {got}"
got = preference_loss(torch.tensor([0.0, 300.0]), torch.tensor([300.0, 0.0]))
assert close(got, 150.0), (
    "one pair is wrong by 300 and costs 300 nats, the other costs nothing: 150 on "
    f"average, got {got}; take logsigmoid, not the log of a sigmoid"
)
won, lost = gradient(preference_loss, chosen, rejected)
want = -torch.sigmoid(rejected - chosen) / 7
assert close(won, want), (
    "a pair's gradient of the chosen reward is minus the probability that the rejected "
    f"answer had, over the number of pairs: wanted {want}, got {won}"
)
assert close(lost, -want), f"the rejected reward has the other sign, got {lost}"


# %% answer="best-of-n"
def best_of_n(rewards, gold, n):
    """Return the mean gold reward of the best of n answers, by their rewards."""
    ### BEGIN SOLUTION
    order = sorted(range(len(rewards)), key=lambda i: rewards[i])
    ways = [comb(below, n - 1) for below in range(len(order))]
    return sum(way * gold[i] for way, i in zip(ways, order)) / sum(ways)
    ### END SOLUTION


# %% test="best-of-n" points=0.5
got = best_of_n([1, 3, 2], [5, 6, 7], 2)
assert abs(got - 19 / 3) < 1e-6, f"the example of the text gives 19/3, got {got}"
got = best_of_n([1, 3, 2], [5, 6, 7], 1)
assert abs(got - 6) < 1e-6, (
    f"with n = 1 nothing is chosen: the mean gold is 6, got {got}"
)
got = best_of_n([1, 3, 2], [5, 6, 7], 3)
assert abs(got - 6) < 1e-6, f"all three: reward 3 is kept, its gold is 6, got {got}"

# %% hidden="best-of-n" points=0.5
# Hidden: random rewards and gold rewards (0.5 points)
rewards, gold = torch.randn(2, 9, generator=generator(2)).tolist()
for n in (2, 4):
    kept = [max(way, key=rewards.__getitem__) for way in combinations(range(9), n)]
    want = sum(gold[i] for i in kept) / len(kept)
    copies = list(rewards), list(gold)
    got = best_of_n(*copies, n)
    assert copies == (rewards, gold), "best_of_n must not change its two lists"
    assert abs(got - want) < 1e-5, (
        f"9 answers, n = {n}: the mean over all {len(kept)} ways is {want:.4f}, got {got}; "
        "the reward chooses, and the gold reward of what was chosen counts"
    )


# %% answer="pass-at-k"
def pass_at_k(n, n_right, k):
    """Return the share of ways to take k of n answers that take a right one."""
    ### BEGIN SOLUTION
    return 1 - comb(n - n_right, k) / comb(n, k)
    ### END SOLUTION


# %% test="pass-at-k" points=0.5
got = pass_at_k(4, 1, 2)
assert abs(got - 0.5) < 1e-6, (
    f"three of the six pairs have the right answer: 0.5, got {got}; 0.4375 comes from "
    "taking the same answer twice"
)
got = pass_at_k(5, 3, 1)
assert abs(got - 0.6) < 1e-6, f"one of five, three are right: 0.6, got {got}"
got = pass_at_k(5, 3, 3)
assert abs(got - 1) < 1e-6, f"only two are wrong, so each three have a right one: {got}"

# %% hidden="pass-at-k" points=0.5
# Hidden: all ways are listed and counted (0.5 points)
for n, right, k in ((6, 2, 3), (7, 1, 4), (5, 0, 2), (4, 4, 2), (8, 3, 2)):
    ways = list(combinations([True] * right + [False] * (n - right), k))
    want = sum(map(any, ways)) / len(ways)
    got = pass_at_k(n, right, k)
    assert abs(got - want) < 1e-6, (
        f"{n} answers, {right} right, k = {k}: {want:.4f} of {len(ways)} ways, got {got}"
    )

# %% [markdown]
# ## 2. How probable an answer is (2 points)
#
# Everything from here on needs the log-probabilities of the tokens of an answer.
# Write `answer_log_probs(logits, ids, mask)`:
#
# - `logits` (B, T, V): what the model says **after** reading each position, so `logits[:, t]` are the scores for the token at `t + 1`;
# - `ids` (B, T): prompt, answer and padding;
# - `mask` (B, T), of bools: `True` on the tokens of the answer. The first token of a row is never one of them.
#
# Return a tensor (B, T − 1): at column $t$ the log-probability, in nats, of the token at $t + 1$, and 0 where that token does not belong to the answer.
# What the model says where nothing counts must have no influence on these numbers, not even if it is `nan`.
# Logits may be hundreds apart, where a probability is rounded to 0 and its logarithm to $-\infty$: do not take the logarithm of a softmax.
#
# For a vocabulary of four and equal logits, each token of the answer has $-\ln 4 = -1.386$.


# %% answer="answer-log-probs"
def answer_log_probs(logits, ids, mask):
    """Return the log-probability of each token of the answers, 0 elsewhere."""
    ### BEGIN SOLUTION
    log_probs = logits[:, :-1].log_softmax(dim=-1)
    asked = log_probs.gather(2, ids[:, 1:, None])[:, :, 0]
    return asked.where(mask[:, 1:], 0.0)
    ### END SOLUTION


# %% test="answer-log-probs" points=1
ids = torch.tensor([[0, 3, 2, 1]])
mask = torch.tensor([[False, False, True, True]])
got = answer_log_probs(torch.zeros(1, 4, 4), ids, mask)
assert getattr(got, "shape", None) == (1, 3), (
    "four tokens have three predictions, from position 0 to 2: a tensor of shape (1, 3), "
    f"got {describe(got)}"
)
assert close(got, [[0.0, -log(4), -log(4)]]), (
    "of four equally probable tokens each has -ln 4 = -1.386; the token 3 belongs to "
    f"the prompt and gets 0; got {got}"
)
sure = torch.zeros(1, 4, 4)
sure[0, 1, 2] = sure[0, 2, 1] = 50.0
got = answer_log_probs(sure, ids, mask)
assert close(got, [[0.0, 0.0, 0.0]]), (
    "after position 1 this model is sure of token 2, and after position 2 of token 1; "
    f"that is what comes, so the log-probabilities are 0; got {got}"
)
logits = torch.tensor([0.0, 0.0, log(6)]).expand(2, 4, 3)  # B 2, T 4, V 3
ids = torch.tensor([[1, 2, 2, 0], [0, 0, 1, 0]])
mask = torch.tensor([[False, False, True, True], [False, True, False, False]])
got = answer_log_probs(logits, ids, mask)
assert close(got, [[0.0, log(3 / 4), -log(8)], [-log(8), 0.0, 0.0]]), (
    "of three tokens the last has 3/4 and the others 1/8 each; the first answer is 2, 0 and "
    f"the second is 0: wanted 0, ln 3/4, ln 1/8 and ln 1/8, 0, 0, got {got}; the softmax is "
    "over the last dimension, and the mask is shifted as the ids are"
)

# %% hidden="answer-log-probs" points=1
# Hidden: random logits, prompts and lengths; large logits; nan where nothing counts (1 point)
B, T, V = 3, 6, 5
logits = 4 * torch.randn(B, T, V, generator=generator(3))
ids = torch.randint(0, V, (B, T), generator=generator(4))
logits[0, 2, (ids[0, 3] + 1) % V] += 500  # the token that comes has hardly a chance
mask = torch.zeros(B, T, dtype=torch.bool)
mask[0, 2:6] = mask[1, 4] = mask[2, 1:4] = True
want = torch.zeros(B, T - 1)
for b in range(B):
    for t in range(1, T):
        if mask[b, t]:
            want[b, t - 1] = -functional.cross_entropy(logits[b, t - 1], ids[b, t])
before = logits.clone(), ids.clone(), mask.clone()
got = answer_log_probs(logits, ids, mask)
assert close(got, want), (
    f"wanted {want}, got {got}; logits[:, t] belong to ids[:, t + 1], and so does the mask; "
    "the log of a softmax is -inf where log_softmax still has a number"
)
unchanged = zip((logits, ids, mask), before)
assert all(torch.equal(now, then) for now, then in unchanged), (
    "answer_log_probs must not change what it is given"
)
logits[1, 0], logits[2, 5] = float("nan"), float("nan")
got = answer_log_probs(logits, ids, mask)
assert close(got, want), (
    "logits of nan where nothing counts must not change the rest, and give 0 there: "
    "choose with `where`, for nan times 0 is nan"
)
[slope] = gradient(
    answer_log_probs,
    torch.zeros(1, 2, 4),
    torch.tensor([[0, 3]]),
    torch.tensor([[False, True]]),
)
want = torch.tensor([[[-0.25, -0.25, -0.25, 0.75], [0.0, 0.0, 0.0, 0.0]]])
assert close(slope, want), (
    f"the gradient is 1 for the token that comes, less its probabilities, got {slope}"
)

# %% [markdown]
# ## 3. How far the policy has gone (2 points)
#
# The distance is $D_\text{KL}(\pi \,\|\, \pi_\text{ref})$: the mean of $\delta = \ln \pi(y) - \ln \pi_\text{ref}(y)$ over tokens that **the policy** has drawn.
# There are two usual ways to estimate it from single tokens:
#
# $$k_1 = \delta, \qquad k_3 = e^{-\delta} - 1 + \delta.$$
#
# Both are right on average; $k_3$ is never negative, and is the one in GRPO's loss.
# Write `kl_terms(log_probs, reference_log_probs)`: the pair `(k1, k3)`, each a tensor of the same shape as the arguments.
#
# A token had the probability 1/4 under the reference and has 1/2 under the policy.
# So $\delta = \ln 2$, $k_1 = 0.693$ and $k_3 = \tfrac12 - 1 + 0.693 = 0.193$.


# %% answer="kl-terms"
def kl_terms(log_probs, reference_log_probs):
    """Return two estimates of the KL divergence from the reference, token by token."""
    ### BEGIN SOLUTION
    delta = log_probs - reference_log_probs
    return delta, (-delta).exp() - 1 + delta
    ### END SOLUTION


# %% test="kl-terms" points=1
k1, k3 = kl_terms(torch.tensor([[log(1 / 2)]]), torch.tensor([[log(1 / 4)]]))
assert close(k1, [[log(2)]]), (
    f"the policy finds the token twice as probable as the reference: ln 2, got {k1}"
)
assert close(k3, [[log(2) - 1 / 2]]), f"1/2 - 1 + ln 2 = 0.193, got {k3}"

# %% hidden="kl-terms" points=1
# Hidden: the mean over all tokens is the divergence, in the right direction (1 point)
policy, reference = torch.randn(2, 4, 6, generator=generator(5)).log_softmax(dim=-1)
k1, k3 = kl_terms(policy, reference)
want = functional.kl_div(reference, policy, reduction="none", log_target=True).sum(1)
for name, k in (("k1", k1), ("k3", k3)):
    shape = getattr(k, "shape", None)
    assert shape == (4, 6), f"{name} keeps the shape (4, 6), got {describe(k)}"
    mean = (policy.exp() * k).sum(dim=1)
    assert close(mean, want), (
        f"the mean of {name} over the policy's tokens must be KL(policy ‖ reference) "
        f"{want}, got {mean}; the policy draws, so it comes first in delta"
    )
assert (k3 >= -1e-6).all(), "k3 is never negative"
k1, k3 = kl_terms(policy, policy)
for k in (k1, k3):
    assert close(k, torch.zeros(4, 6)), "a policy is at the distance 0 from itself"

# %% [markdown]
# ## 4. DPO (2 points)
#
# Each policy is the best one for some reward, $\beta \ln(\pi / \pi_\text{ref})$, and DPO puts that reward into the loss of the reward model:
#
# $$\mathcal{L} = -\ln \sigma\Big(\beta \ln \frac{\pi(y^+)}{\pi_\text{ref}(y^+)} - \beta \ln \frac{\pi(y^-)}{\pi_\text{ref}(y^-)}\Big),$$
#
# as a mean over the pairs.
# Write `dpo_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta)`, a tensor without dimensions.
# The four tensors are what your `answer_log_probs` returns: one row for each pair, one column for each token, 0 where nothing counts.
# The log-probability of an **answer** is the sum over its tokens.
# Chosen and rejected answers may have different numbers of columns.
# As in task 1, a pair with a large margin must not make the loss infinite.
#
# The policy gives the two tokens of a chosen answer 0.5 nats more each than the reference, and nothing has changed for the rejected one.
# Then the margin is $\beta \cdot 1$, and with $\beta = 0.1$ the loss is $-\ln \sigma(0.1) = 0.644$.


# %% answer="dpo-loss"
def dpo_loss(
    policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta
):
    """Return DPO's loss from the log-probabilities of tokens, in nats per pair."""
    ### BEGIN SOLUTION
    chosen = (policy_chosen - reference_chosen).sum(dim=1)
    rejected = (policy_rejected - reference_rejected).sum(dim=1)
    return preference_loss(beta * chosen, beta * rejected)
    ### END SOLUTION


# %% test="dpo-loss" points=1
won, lost = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-3.0, -1.0, -1.0]])
got = dpo_loss(won, lost, won, lost, 0.1)
assert close(got, log(2)), (
    f"at the start the policy is the reference, and every pair costs ln 2; got {got}"
)
got = dpo_loss(won + 0.5, lost, won, lost, 0.1)
assert close(got, log(1 + exp(-0.1))), (
    "two tokens gained 0.5 nats each: the margin is 0.1 · 1, the loss 0.644; got "
    f"{got}. Sum over the tokens, and do not divide by their number"
)

lost = torch.tensor([[-3.0, -1.0, -1.0], [-2.0, -2.0, 0.0]])
won = torch.tensor([[-1.0, -2.0], [-4.0, 0.0]])
gained = torch.tensor([[0.5, 0.5], [3.0, 0.0]])
got = dpo_loss(won + gained, lost, won, lost, 1.0)
assert close(got, (log(1 + exp(-1)) + log(1 + exp(-3))) / 2), (
    "two pairs with the margins 1 and 3 and β = 1 cost 0.313 and 0.049, and 0.181 on "
    f"average; got {got}; 0.018 comes from one sum over both pairs"
)
got = dpo_loss(won, lost + 1.0, won, lost, 1.0)
assert close(got, log(1 + exp(3))), (
    "the three tokens of the rejected answers gained 1 nat each: the margin is -3 and the "
    f"loss 3.049, got {got}; 0.049 comes from the wrong sign"
)

# %% hidden="dpo-loss" points=1
# Hidden: random pairs and beta, and the gradient (1 point)
won = -2 * torch.rand(2, 3, 5, generator=generator(6))  # policy and reference
lost = -2 * torch.rand(2, 3, 4, generator=generator(7))
for beta in (0.1, 1.5):
    gain = [(won[0, i].sum() - won[1, i].sum()).item() for i in range(3)]
    loss = [(lost[0, i].sum() - lost[1, i].sum()).item() for i in range(3)]
    want = sum(log(1 + exp(beta * (b - a))) for a, b in zip(gain, loss)) / 3
    got = dpo_loss(*(x.clone() for x in (won[0], lost[0], won[1], lost[1])), beta)
    assert close(got, want), (
        f"three random pairs, beta = {beta}: wanted {want:.4f}, got {got}"
    )
got = dpo_loss(torch.tensor([[-300.0]]), *torch.zeros(3, 1, 1), 1.0)
assert close(got, 300.0), f"a pair with the margin -300 costs 300 nats, got {got}"
up, down, *_ = gradient(dpo_loss, won[0], lost[0], won[1], lost[1], 1.5)
surprise = 1 / (1 + torch.tensor([exp(1.5 * (a - b)) for a, b in zip(gain, loss)]))
want = -1.5 * surprise[:, None] / 3
assert close(up, want.expand(3, 5)), (
    "every token of a chosen answer gets the gradient -beta · σ(-margin) / pairs"
)
assert close(down, -want.expand(3, 4)), "and every token of the rejected one the other"

# %% [markdown]
# ## 5. Advantages of tokens (2 points)
#
# For each token, PPO asks how much better than expected the answer went on.
# `values` is what the critic expected before each token; `rewards` is what each token brought.
# The error of the expectation, and the advantage, are
#
# $$\delta_t = r_t + \gamma V_{t+1} - V_t, \qquad A_t = \delta_t + \gamma \lambda A_{t+1},$$
#
# where after the last token of an answer nothing is expected and nothing follows: $V = 0$ and $A = 0$ there.
#
# Write `gae(rewards, values, mask, gamma, gae_lambda)`, with tensors of the shape (B, T).
# `mask` is `True` on the tokens of an answer; they are on the left, and padding fills the row on the right.
# Return the advantages (B, T), 0 on padding.
# What `rewards` and `values` hold on padding must have no influence, not even if it is `nan`.
#
# Rewards 0, 0, 8 and values 4, 5, 6, with $\gamma = 1$ and $\lambda = \tfrac12$: the errors are 1, 1, 2, and the advantages 2, 2, 2.


# %% answer="gae"
def gae(rewards, values, mask, gamma, gae_lambda):
    """Return the generalised advantage estimate of each token, 0 on padding."""
    ### BEGIN SOLUTION
    advantages = torch.zeros_like(values)
    value = advantage = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        error = rewards[:, t] + gamma * value - values[:, t]
        advantage = error + gamma * gae_lambda * advantage
        advantage = advantage.where(mask[:, t], 0.0)
        value = values[:, t].where(mask[:, t], 0.0)
        advantages[:, t] = advantage
    return advantages
    ### END SOLUTION


# %% test="gae" points=1
row = torch.tensor([[0.0, 0.0, 8.0]]), torch.tensor([[4.0, 5.0, 6.0]])
got = gae(*row, torch.ones(1, 3, dtype=torch.bool), 1.0, 0.5)
assert close(got, [[2.0, 2.0, 2.0]]), (
    "the errors are 5 - 4 = 1, 6 - 5 = 1 and 8 - 6 = 2; from the end: 2, then "
    f"1 + 2 / 2 = 2, then 1 + 2 / 2 = 2; got {got}"
)
padded = torch.tensor([[0.0, 8.0, 77.0]]), torch.tensor([[4.0, 5.0, 99.0]])
got = gae(*padded, torch.tensor([[True, True, False]]), 1.0, 0.0)
assert close(got, [[1.0, 3.0, 0.0]]), (
    "the answer ends after its second token: nothing is expected there, not the 99 of "
    f"the padding; wanted 1, 3, 0, got {got}"
)

both = torch.tensor([[0.0, 0.0, 8.0], [0.0, 8.0, 77.0]])
values = torch.tensor([[4.0, 5.0, 6.0], [4.0, 5.0, 99.0]])
mask = torch.tensor([[True, True, True], [True, True, False]])
got = gae(both, values, mask, 0.5, 0.5)
assert close(got, [[-1.875, -1.5, 2.0], [-0.75, 3.0, 0.0]]), (
    "γ = λ = 1/2: in the first row the errors are 5/2 - 4 = -1.5, 6/2 - 5 = -2 and 2, and "
    "the advantages from the end 2, -2 + 2/4 = -1.5 and -1.5 - 1.5/4 = -1.875; in the "
    f"second 3 and -1.5 + 3/4 = -0.75; got {got}; what follows shrinks by γ and by λ"
)

# %% hidden="gae" points=1
# Hidden: random answers of different lengths, several γ and λ (1 point)
rewards, values = torch.randn(2, 3, 6, generator=generator(8), dtype=torch.float64)
lengths = (6, 1, 4)
mask = torch.arange(6) < torch.tensor(lengths)[:, None]
before = rewards.clone(), values.clone()
for gamma, lam in ((0.9, 0.7), (1.0, 1.0), (0.5, 0.0)):
    want = torch.zeros(3, 6, dtype=torch.float64)
    for b, n in enumerate(lengths):
        v = [*values[b, :n].tolist(), 0.0]
        error = [rewards[b, t].item() + gamma * v[t + 1] - v[t] for t in range(n)]
        for t in range(n):
            want[b, t] = sum((gamma * lam) ** (k - t) * error[k] for k in range(t, n))
    got = gae(rewards, values, mask, gamma, lam)
    assert close(got, want), (
        f"γ = {gamma}, λ = {lam}, answers of 6, 1 and 4 tokens: wanted {want}, got {got}"
    )
for now, then in zip((rewards, values), before):
    assert torch.equal(now, then), "gae must not change what it is given"
got = gae(
    torch.tensor([[3.0]]), torch.tensor([[1.0]]), torch.tensor([[True]]), 1.0, 1.0
)
assert close(got, [[2.0]]), f"one token: 3 - 1 = 2, got {got}"
rewards, values = rewards.where(mask, torch.nan), values.where(mask, torch.nan)
got, want = gae(rewards, values, mask, 0.9, 0.7), gae(*before, mask, 0.9, 0.7)
assert close(got, want), f"nan on padding must not change the rest, got {got}"

# %% [markdown]
# ## 6. PPO's clipped loss (2 points)
#
# A token was drawn by the policy as it was then, with the log-probability `old_log_probs`.
# Now the policy gives it `log_probs`, so the token has become $\rho = e^{\ln \pi - \ln \pi_\text{old}}$ times as probable.
# The loss of a token is
#
# $$-\min\big(\rho A,\; \text{clip}(\rho, 1 - \varepsilon, 1 + \varepsilon)\, A\big).$$
#
# Write `ppo_loss(log_probs, old_log_probs, advantages, mask, clip_range)`: the mean over all tokens of the batch at which the mask is `True`, as a tensor without dimensions.
# Here `clip_range` is $\varepsilon$, and `advantages` holds $A$.
# All four tensors have the shape (B, T), and what they hold elsewhere must have no influence on the loss or its gradient, not even if it is `nan` or infinite.
#
# With $\rho = 1.5$, $A = 2$ and $\varepsilon = 0.2$ the loss is $-\min(3, 2.4) = -2.4$.
# With $A = -2$ it is $-\min(-3, -2.4) = 3$.


# %% answer="ppo-loss"
def ppo_loss(log_probs, old_log_probs, advantages, mask, clip_range):
    """Return PPO's clipped loss, a mean over the tokens of the mask."""
    ### BEGIN SOLUTION
    ratio = (log_probs[mask] - old_log_probs[mask]).exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    gain = torch.minimum(ratio * advantages[mask], clipped * advantages[mask])
    return -gain.mean()
    ### END SOLUTION


# %% test="ppo-loss" points=1
everywhere = torch.ones(1, 1, dtype=torch.bool)
old = torch.tensor([[-3.0]])
for ratio, advantage, want in ((1.5, 2.0, -2.4), (1.5, -2.0, 3.0), (0.5, -2.0, 1.6)):
    got = ppo_loss(old + log(ratio), old, torch.tensor([[advantage]]), everywhere, 0.2)
    assert close(got, want), (
        f"ratio {ratio}, advantage {advantage}: wanted {want}, got {got}; the smaller of "
        "the two gains counts, and a loss has the other sign"
    )

old = torch.tensor([[-1.0, -2.0, -9.0], [-3.0, -9.0, -9.0]])
moved = old + torch.tensor([[log(1.1), log(1.5), 7.0], [log(0.5), -7.0, 7.0]])
gains = torch.tensor([[2.0, 1.0, 50.0], [-1.0, float("nan"), -50.0]])
mask = torch.tensor([[True, True, False], [True, False, False]])
got = ppo_loss(moved, old, gains, mask, 0.2)
assert close(got, (-2.2 - 1.2 + 0.8) / 3), (
    "three of six tokens count, with the losses -2.2, -1.2 and 0.8: their mean is -0.867, "
    f"got {got}; -0.433 comes from a division by all six, and the mean is over tokens, not "
    "rows; nan times 0 is nan, so choose the tokens first"
)

# %% hidden="ppo-loss" points=1
# Hidden: random batches with a mask, another range, and where the gradient stops (1 point)
B, T = 3, 5
new, old, gains = torch.randn(3, B, T, generator=generator(9))
mask = torch.arange(T) < torch.tensor([5, 1, 3])[:, None]
terms = []
for b, t in mask.nonzero().tolist():
    ratio, a = exp(new[b, t].item() - old[b, t].item()), gains[b, t].item()
    terms.append(-min(ratio, 1.3) * a if a > 0 else -max(ratio, 0.7) * a)
got = ppo_loss(new, old, gains, mask, 0.3)
want = sum(terms) / len(terms)
assert close(got, want), (
    f"9 of 15 tokens count, and the mean over these 9 is {want:.4f}; got {got}"
)
new[1, 4], gains[2, 3] = float("inf"), float("nan")
given = [new, old, gains]
before = [x.clone() for x in given]
got = ppo_loss(new, old, gains, mask, 0.3)
assert close(got, want), f"inf and nan outside of the mask changed the loss to {got}"
for now, then in zip(given, before):
    assert torch.allclose(now, then, equal_nan=True), (
        "ppo_loss must not change what it is given, not even outside of the mask"
    )
slope = gradient(ppo_loss, new, old, gains, mask, 0.3)[0]
assert close(slope[~mask], torch.zeros(6)), (
    f"what is outside of the mask has a gradient of 0, got {slope[~mask]}"
)
ratio = torch.tensor([[1.5, 1.5, 0.5, 0.5]])
slopes = gradient(
    ppo_loss,
    ratio.log(),
    torch.zeros(1, 4),
    torch.tensor([[1.0, -1.0, 1.0, -1.0]]),
    torch.ones(1, 4, dtype=torch.bool),
    0.2,
)[0]
want = torch.tensor([[0.0, 1.5, -0.5, 0.0]]) / 4
assert close(slopes, want), (
    "good tokens stop at 1 + ε, bad ones at 1 - ε, and the others go on: the gradients "
    f"of ratios 1.5, 1.5, 0.5, 0.5 with advantages 1, -1, 1, -1 are {want}, got {slopes}"
)

# %% [markdown]
# ## 7. GRPO (2 points)
#
# GRPO has no critic.
# The policy answers each prompt several times, and an answer is compared with the others of its group.
#
# Write `group_advantages(scores)`: from scores (prompts, answers to each) to advantages of the same shape, $(r - \bar r) / (s + 10^{-4})$.
# $\bar r$ and $s$ are the mean and the standard deviation of the group, the latter of a sample (divided by $n - 1$, as `torch.std` does).
#
# Then write `grpo_loss(log_probs, old_log_probs, reference_log_probs, advantages, mask, clip_range, beta)`, a tensor without dimensions.
# `advantages` (B,) has one number for each answer, which all of its tokens share; the other tensors are (B, T).
# A token's loss is PPO's, plus $\beta k_3$.
# Take the mean over the tokens of **each answer** first, and then the mean over the answers, so that a long answer counts as much as a short one.
# Each answer has at least one token, and what the tensors hold outside the mask must have no influence on the loss or its gradient, not even if it is `nan` or infinite.
#
# Scores 7, 6, 6, 5 have the mean 6 and the deviation 0.816, so the first answer has the advantage 1.22.


# %% answer="group-advantages"
def group_advantages(scores):
    """Return how far each score is above its group's mean, in standard deviations."""
    ### BEGIN SOLUTION
    centred = scores - scores.mean(dim=1, keepdim=True)
    return centred / (scores.std(dim=1, keepdim=True) + 1e-4)
    ### END SOLUTION


# %% answer="grpo-loss"
def grpo_loss(
    log_probs, old_log_probs, reference_log_probs, advantages, mask, clip_range, beta
):
    """Return GRPO's loss: the mean over answers of the mean over their tokens."""
    ### BEGIN SOLUTION
    losses = []
    for i in range(len(mask)):
        own = mask[i]
        gains = advantages[i].expand_as(own)
        policy = ppo_loss(log_probs[i], old_log_probs[i], gains, own, clip_range)
        _, k3 = kl_terms(log_probs[i][own], reference_log_probs[i][own])
        losses.append(policy + beta * k3.mean())
    return torch.stack(losses).mean()
    ### END SOLUTION


# %% test="grpo" points=1
scores = torch.tensor([[7.0, 6.0, 6.0, 5.0], [1.0, 1.0, 1.0, 5.0]])
got = group_advantages(scores)
deviation = torch.tensor([[(2 / 3) ** 0.5], [2.0]]) + 1e-4
want = torch.tensor([[1.0, 0, 0, -1], [-1, -1, -1, 3]]) / deviation
assert close(got, want), (
    f"wanted {want}, got {got}; each row is a group, compared with its own mean"
)
old = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, -1.0, float("nan")]])
mask = torch.tensor([[True, True, True], [True, False, False]])
got = grpo_loss(old, old, old, torch.tensor([1.0, 2.0]), mask, 0.2, 0.1)
assert close(got, -1.5), (
    "nothing has moved yet: the answers have the losses -1 and -2, whatever their "
    f"lengths, and -1.5 on average; got {got}; nan stands outside of the mask"
)
reference = old - log(2)
got = grpo_loss(old, old, reference, torch.tensor([0.0, 0.0]), mask, 0.2, 0.1)
assert close(got, 0.1 * (log(2) - 0.5)), (
    "without advantages the loss is 0.1 times k3, which is 0.193 at every token; "
    f"got {got}"
)

# %% hidden="grpo" points=1
# Hidden: equal scores, groups of another size, random answers of different lengths (1 point)
got = group_advantages(torch.tensor([[2.0, 2.0, 2.0], [0.0, 0.0, 1e-4]]))
assert close(got[0], torch.zeros(3)), (
    f"a group of equal scores teaches nothing: wanted zeros, got {got[0]}"
)
want = torch.tensor([-1.0, -1.0, 2.0]) / 3e4 / (1e-4 / 3**0.5 + 1e-4)
assert close(got[1], want), (
    f"10^-4 is added to the deviation 0.58 · 10^-4, so the last has 0.42; got {got[1]}"
)
scores = 5 + torch.randn(3, 5, generator=generator(10))
before, got = scores.clone(), group_advantages(scores)
for row, mine in zip(scores, got):
    mean = sum(row.tolist()) / 5
    deviation = (sum((x - mean) ** 2 for x in row.tolist()) / 4) ** 0.5
    want = torch.tensor([(x - mean) / (deviation + 1e-4) for x in row.tolist()])
    assert close(mine, want), f"scores {row}: wanted {want}, got {mine}"
assert torch.equal(scores, before), "group_advantages must not change the scores"
new, old, reference = torch.randn(3, 4, 6, generator=generator(11))
advantages = torch.randn(4, generator=generator(12))
lengths = (6, 2, 1, 4)
mask = torch.arange(6) < torch.tensor(lengths)[:, None]
want = 0.0
for b, n in enumerate(lengths):
    for t in range(n):
        ratio, a = exp(new[b, t].item() - old[b, t].item()), advantages[b].item()
        d = new[b, t].item() - reference[b, t].item()
        gain = min(ratio, 1.1) * a if a > 0 else max(ratio, 0.9) * a
        want += (0.4 * (exp(-d) - 1 + d) - gain) / n / 4
got = grpo_loss(new, old, reference, advantages, mask, 0.1, 0.4)
assert close(got, want), (
    f"four answers of 6, 2, 1 and 4 tokens: wanted {want:.4f}, got {got}; first the mean "
    "over the tokens of an answer, then over the answers"
)
new[1, 4] = reference[2, 2] = float("inf")
given = [new, old, reference, advantages]
before = [x.clone() for x in given]
got = grpo_loss(new, old, reference, advantages, mask, 0.1, 0.4)
assert close(got, want), f"inf outside of the mask changed the loss to {got}"
assert all(map(torch.equal, given, before)), (
    "grpo_loss must not change what it is given, not even outside of the mask"
)
slope = gradient(grpo_loss, new, old, reference, advantages, mask, 0.1, 0.4)[0]
assert close(slope[~mask], torch.zeros(11)), (
    f"what is outside of the mask has a gradient of 0, got {slope[~mask]}; `where` on the "
    "finished losses is too late: there, 0 times infinity becomes nan"
)
row = torch.tensor([[-1.0, -1.0]])
two = torch.tensor([[True, True]])
slope = gradient(
    *(grpo_loss, row, row, row - torch.tensor([1.0, 0.0]), torch.tensor([1.0])),
    *(two, 0.2, 0.5),
)[0]
want = torch.tensor([[0.5 * (1 - exp(-1)) - 1, -1.0]]) / 2
assert close(slope, want), (
    "of two tokens with the advantage 1 and β = 0.5, the first is a nat above the "
    f"reference: the gradients are {want}, got {slope}"
)

# %% [markdown]
# ## 8. Read a run, and a chain (5 points, written)
#
# GRPO trained a policy with a reward model that had seen 1,000 pairs.
# These are evaluations of the run; in this course the gold reward is known.
#
# | Iteration | KL (nats/answer) | Learned reward | Gold reward |
# |---|---|---|---|
# | 0 | 0 | 0.1 | 3.4 |
# | 20 | 6 | 0.9 | 4.6 |
# | 60 | 31 | 1.5 | 3.1 |
# | 120 | 140 | 1.9 | 0.8 |
#
# **Question A** (3 points).
# Say in a few sentences what happened between iterations 20 and 120, and why the learned reward kept rising.
# Say what a KL penalty would change and what it would not.
# Then say how you would decide when to stop, if the gold reward were not known, and name something that can be lost without any of the columns showing it.

# %% [markdown] written="read-a-run" points=3
# Question A.
# This is over-optimisation: the policy moved to texts on which the reward model errs in its favour, because there the reward is highest.
# The reward model has never compared such texts, so nothing in its training tells it that they are bad; the policy is trained on the learned reward itself, so that keeps rising.
# A penalty keeps the policy near the reference, where the reward model has seen what it judges.
# It costs some of the learned reward.
# It does not make the reward model right, and a penalty that is too weak only delays the fall.
# Without the gold reward you need a judge that the policy was not trained on: people compare new answers of the policy at several checkpoints.
# Stop where they no longer prefer the newer policy, and collect new pairs there.
# The learned reward is not evidence.
# Diversity can be lost: all columns are means over single stories, and say nothing about how alike the stories are.
#
# One point: over-optimisation, and that the policy finds the reward model's errors. One point: the penalty limits the distance, but does not put the reward model right. One point: an independent judge, not the learned reward (a held-out share of the old pairs alone is not enough, as they are far from the new texts), and something lost, such as diversity.

# %% [markdown]
# **Question B** (1 point).
# A friend estimates the KL divergence with your $k_1$, but on answers that **the reference** has written, and finds $-2.1$ nats per answer.
# Say which quantity this estimates, and why it is negative.
# Say which texts this estimate overlooks when a policy has found a new trick.

# %% [markdown] written="wrong-direction" points=1
# Question B.
# The mean of ln π − ln π_ref over answers of the reference is −D_KL(π_ref ‖ π).
# A KL divergence is never negative, so this is never positive: on average the reference finds its own answers more probable than any other model does.
# It looks only at what the reference writes.
# A trick is a text that the policy writes often and the reference hardly ever.
# Such texts do not occur in the sample, so they do not count, and the distance seems small.
#
# Half a point: minus the divergence in the other direction, and so at most 0. Half a point: texts that only the policy writes are missing.

# %% [markdown]
# **Question C** (1 point).
# A model of three layers is asked for sums of three steps.
# Say why it is right more often when it writes down its steps, and why a right result does not show that the steps are right.
# You want a model of one layer to answer such sums: say whether you would train it on the results of the larger model's answers or also on their steps, and which answers you would leave out.

# %% [markdown] written="right-for-wrong-reasons" points=1
# Question C.
# A direct answer has to do three sums, one after the other, within three layers; with a chain, each written result is read again by all layers.
# Mistakes can cancel, or the last number can be a guess, and a verifier of the outcome sees only the last number.
# So I train the small model on the larger one's chains, and leave out those in which a verifier of the process finds a mistake (or at least those with a wrong result).
# Training on results alone would ask it for something that it has too few layers for.
#
# Half a point: the layers bound what is computed for one token, and written tokens are read again. Half a point: the chain has to be checked, not only the result, and chains teach the student.
