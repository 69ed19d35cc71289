# %% [markdown]
# (rlhf)=
# # Learning from preferences
#
# People can say which of two answers they like better.
# From such comparisons a model can learn a reward, and another one, from the reward, to write what earns it; and that one will find whatever the reward has misunderstood.
#
# **You will be able to**
#
# - turn comparisons into rewards, by the model of Bradley and Terry,
# - write the losses of a reward model, of DPO, and of PPO's and GRPO's updates, and say what each of them needs,
# - compare policies by what they gained at the same distance from where they started,
# - recognise over-optimisation: the learned reward goes up, what people want goes down,
# - say what a KL penalty buys, and what it does not.
#
# **You need** the chapter {doc}`instruction_tuning`.
#
# **Runs in** about two minutes on one processor core.

# %% [markdown]
# ## Setup

# %%
import copy
import math
from functools import partial
from textwrap import fill

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import logsigmoid
from torch.testing import assert_close

from llmcourse import plotting
from llmcourse.alignment import losses, preferences
from llmcourse.alignment.curves import (
    Curve,
    StudyPoint,
    curves_of,
    plot_against_kl,
)
from llmcourse.alignment.evaluation import evaluate_policy, gain_of
from llmcourse.alignment.gold_reward import gold_reward, reward_parts
from llmcourse.alignment.grpo import GRPOConfig, grpo
from llmcourse.alignment.reward_model import (
    RewardConfig,
    RewardModel,
    load_reward_model,
    pair_accuracy,
    text_reward,
    train_reward_model,
)
from llmcourse.alignment.rollouts import sample_rollouts
from llmcourse.alignment.surprisal import SurprisalReader
from llmcourse.checks import rlhf as checks
from llmcourse.model.folders import load_pretrained
from llmcourse.text import tales
from llmcourse.training.checkpoints import Run
from llmcourse.training.intervals import wilson_interval
from llmcourse.training.studies import stored_study

plotting.use_course_style()
_ = torch.set_num_threads(1)


# %% [markdown]
# ## The problem
#
# `base-llm` writes {term}`tales`.
# Here are the ends of two of eight with the same beginning, and what all eight are worth to their reader, on a scale from 0 to 10.

# %% tags=["nbval-ignore-output"]
base, tokenizer = load_pretrained("base-llm")
answer = partial(sample_rollouts, tokenizer=tokenizer, stop=[0])
prompt = preferences.story_prompt(
    "Long ago there was a shy little boy named Henry", tokenizer
)
generator = torch.Generator().manual_seed(0)
stories = answer(base, [prompt] * 8, 260, generator=generator).texts
worth = {gold_reward(prompt.text, text): text for text in stories}
print("points:", ", ".join(f"{points:.1f}" for points in sorted(worth)))
for points in (min(worth), max(worth)):
    print("\n" + fill(f"{points:.1f} …{worth[points][-250:]}", 80))
assert max(worth) > min(worth) + 2

# %% [markdown]
# All of these were written by the same model, from the same beginning; some fall apart half way, and of those that do not, some are better than others.
# (The first reads well where it ends; it broke further up, and its reader counts only what comes before the break.)
# The model could write the best of them every time, if it knew which one that is.
# But its training knows no better or worse: it imitates what it was shown, the dull stories as faithfully as the charming ones.
# Instructions do not change that; they, too, are learned by imitation.
#
# Who knows?
# The points come from `gold_reward`, a rule of this course that stands for what people really want of a story: a happy ending, kind deeds of several kinds, vivid words, the right length, and all of it only if the story holds together.
# With real people there is no such rule.
# Ask for points, and everybody has a scale of his own, which is another one tomorrow.
# Ask *which of these two?*, and people agree rather well.
# So this is what we shall do: the rule will answer nothing but *which of two*, and err at times; in the end we shall look at the points, which nobody could in reality, to see what has become of what people want.
#
# ![Boxes in a ring. Gold points lead to an annotator, who says which of two, and errs at times; from there to pairs, which train a reward model, which trains the policy. A dashed arrow leads from the policy back to the gold points: its stories, looked at and not learned from.](figures/who-sees-the-points.svg)
#
# *Nothing that learns sees the points: they reach the policy through comparisons alone.*

# %% [markdown]
# ## By hand
#
# Three answers: A was preferred to B in three of four comparisons, and B to C in three of four; A and C were never compared.
# How often will A be preferred to C?
#
# The {term}`model of Bradley and Terry <Bradley–Terry model>` gives each answer a reward $r$, and says that A is preferred to B with the probability $\sigma(r_A - r_B)$, where $\sigma(x) = 1/(1 + e^{-x})$.
#
# | pair | A over B | B over C | A over C |
# |---|---|---|---|
# | seen | 3 : 1 | 3 : 1 | – |
# | $\sigma(\text{difference})$ | 3/4 | 3/4 | 9/10 |
# | difference of rewards | $\ln 3$ | $\ln 3$ | $2 \ln 3$ |
#
# The odds are multiplied, three times three, and so the rewards are added: nine to one, without a single comparison of A with C.
#
# ![A line with three points, C at minus 1.10, B at zero, and A at plus 1.10. C and B are ln 3 apart, as are B and A, with the note that each of the two won three to one. The bracket from C to A says two times ln 3, so A wins nine to one.](figures/rewards-on-a-scale.svg)
#
# *The comparisons that were seen set two distances, in blue.
# Their sum predicts a comparison that nobody made, in green.*
#
# Only differences count: rewards of $\ln 3, 0, -\ln 3$ and of $100 + \ln 3, 100, 100 - \ln 3$ say the same.
#
# A preference costs what every surprise costs: whoever thinks that A wins with the probability 3/4 pays $-\ln \tfrac34 = 0.29$ nats when it does, and $-\ln \tfrac14 = 1.39$ when it does not.

# %%
rewards = torch.tensor([math.log(3), 0.0, -math.log(3)], requires_grad=True)
A, B, C = range(3)
seen = [(A, B)] * 3 + [(B, A)] + [(B, C)] * 3 + [(C, B)]
chosen, rejected = (rewards[list(side)] for side in zip(*seen))
loss = -logsigmoid(chosen - rejected).mean()
loss.backward()
print(f"P(A over C) = {torch.sigmoid(rewards[A] - rewards[C]):.2f}")
odds = torch.tensor([3 / 4, 1 / 4])
print("A over B costs {:.2f} nats, B over A {:.2f}".format(*-odds.log()))
print(f"mean surprise {loss:.2f} nats per pair; knowing nothing, {math.log(2):.2f}")
assert_close(rewards.grad, torch.zeros(3), atol=1e-6, rtol=0)

# %% [markdown]
# At these rewards the gradient is zero: no others make what was seen more likely.
# That is all there is to a reward model, but for one thing: its rewards are not three numbers in a table, they are what a network says of a text, and so it has an opinion of texts that nobody compared.

# %% [markdown]
# ## The idea
#
# **A reward model** is a language model with another head: it reads prompt $x$ and answer $y$ and says one number, $r_\phi(x, y)$.
# It is trained on {term}`pairs <preference pair>` of a chosen and a rejected answer, $y^+$ and $y^-$:
#
# $$\mathcal{L}(\phi) = -\ln \sigma\big(r_\phi(x, y^+) - r_\phi(x, y^-)\big).$$
#
# **The policy**, the model that writes, is then to earn much, and yet stay near the {term}`reference`, the model that it was:
#
# $$\max_\pi \; \mathbb{E}\big[r_\phi(x, y)\big] - \beta \, D_\text{KL}(\pi \,\|\, \pi_\text{ref}).$$
#
# The {term}`KL divergence` says how far the policy has gone: how much likelier than the reference it thinks its own answers, on average.
#
# Three ways to go there.
#
# ![Above, pairs train a reward model; the policy gets prompts and sends answers to the reward model, which returns rewards; a dashed leash, the KL divergence, ties the policy to the reference. Below, DPO: pairs train the policy with no reward model between, and its reward is beta times the log of the ratio of policy and reference.](figures/two-ways-from-pairs.svg)
#
# *PPO and GRPO: the reward model learns from the pairs, and then judges what the policy writes, again and again.
# DPO: the pairs train the policy itself.*
#
# *PPO* lets the policy write, and asks for each token how much better than expected it went on from there, the {term}`advantage` $A_t$; a second network, the {term}`critic`, has to know what was expected.
# The critic learns from what was then earned, by the squared error.
# What a nat of distance costs is subtracted from the reward, token by token.
# With $\pi_\text{old}$ for the policy that wrote the answers, tokens of positive advantage are made likelier until they are $1 + \varepsilon$ times as likely as when they were written, and from there on push no further:
#
# $$\mathcal{L} = -\min\big(\rho_t A_t,\; \text{clip}(\rho_t, 1 - \varepsilon, 1 + \varepsilon)\, A_t\big).$$
#
# Here $\rho_t = \pi(y_t) / \pi_\text{old}(y_t)$.
#
# *GRPO* has no critic: the policy answers each prompt several times, and what counts is how far an answer's reward is above the mean of its group, in standard deviations: $A_i = (r_i - \bar r) / s$, for all tokens of the answer alike.
# The distance is part of its loss, to which each token adds
#
# $$\beta\,(e^{-\delta_t} - 1 + \delta_t), \qquad \delta_t = \ln \pi(y_t) - \ln \pi_\text{ref}(y_t).$$
#
# This grows with $\delta_t$ at the rate $\beta\,(1 - e^{-\delta_t})$: a token that has become likelier is never pulled back harder than by $\beta$.
#
# ![Two curves over delta, from 0 to 4 nats. PPO's is a straight line that rises to four times beta. GRPO's begins with the same slope, bends, and stays below beta.](figures/two-leashes.svg)
#
# *Two penalties with the same weight.
# Near the reference they are alike; far from it, only PPO's keeps growing.*
#
# *DPO* has no reward model, and the policy writes nothing while it learns: the pairs are enough.
# The best policy for the aim above is known: $\pi^* \propto \pi_\text{ref}\, e^{r/\beta}$.
#
# ![Four groups of bars for the answers A, B and C. Reference: 33 % each. Beta 2: 52, 30 and 17 %. Beta 1: 69, 23 and 8 %. Beta one half: 89, 10 and 1 %.](figures/best-policy-for-three-answers.svg)
#
# *The best policy for the answers from above, with rewards $\ln 3$, 0 and $-\ln 3$, if the reference writes all three equally often.
# The smaller $\beta$ is, the further it moves from the reference.*
#
# Read backwards, each policy is the best one for some reward, $r = \beta \ln(\pi / \pi_\text{ref})$ and a constant that a difference does not see; so put *that* into the loss of the reward model, and train the policy on the pairs at once:
#
# $$\mathcal{L}(\theta) = -\ln \sigma\Big(\beta \ln \frac{\pi_\theta(y^+)}{\pi_\text{ref}(y^+)} - \beta \ln \frac{\pi_\theta(y^-)}{\pi_\text{ref}(y^-)}\Big).$$
#
# | Symbol | Meaning | Unit | Name in code |
# |---|---|---|---|
# | $r_\phi$ | learned reward, the *proxy* | – | `reward_model`, `proxy` |
# | gold | what people really want; known here alone | points | `gold_reward` |
# | $\pi$, $\pi_\text{ref}$ | policy, and what it was at the start | – | `policy`, `reference` |
# | $D_\text{KL}$ | how far it has gone: mean of $\ln \pi(y) - \ln \pi_\text{ref}(y)$ over its answers | nats/answer | `kl` |
# | $\beta$ | what a nat of distance costs | reward/nat | `kl_coef`, `beta` |
# | $A$ | advantage | – | `advantages` |
# | $\rho$, $\varepsilon$ | how much likelier a token has become; how far in one go | – | `ratio`, `clip_range` |

# %% [markdown]
# ## In code
#
# Two losses, advantages and the clipping, each beside the package's, on random numbers.
# First the reward model's.

# %%
r_chosen, r_rejected = torch.randn(2, 5, generator=generator)
mine = -logsigmoid(r_chosen - r_rejected).mean()
assert_close(mine, losses.bradley_terry_loss(r_chosen, r_rejected))
print(f"{mine:.2f} nats per pair")


# %% [markdown]
# DPO's is the same function, of other rewards.
# At the start, policy and reference are one, and every pair costs $\ln 2$.


# %%
def preference_surprise(policy, reference, beta):
    """Return DPO's loss from log-probabilities (chosen, rejected) of some pairs."""
    (won, lost), (won_before, lost_before) = policy, reference
    implied = beta * (won - won_before), beta * (lost - lost_before)
    return -logsigmoid(implied[0] - implied[1]).mean()


policy, reference = -50 + 5 * torch.randn(2, 2, 5, generator=generator)
mine = preference_surprise(policy, reference, 0.1)
assert_close(mine, losses.dpo_loss(*policy, *reference, beta=0.1).loss)
start = preference_surprise(reference, reference, 0.1)
assert_close(start, torch.tensor(2.0).log())
print(f"at the start {start:.2f} nats per pair")

# %% [markdown]
# GRPO's advantages: two prompts, four answers to each.
#
# ![Two scales of rewards from 0 to 8, one for each prompt, with four dots each. First prompt: 5, 6, 6, 7, mean 6, advantages minus 1.22, zero, plus 1.22. Second prompt: three dots at 1, one at 5, mean 2, advantages minus 0.50 and plus 1.50. The dots at 5 are coloured.](figures/advantages-in-two-groups.svg)
#
# *A reward of 5 (coloured) is the worst of one group and the best of the other.
# An answer is compared with the answers to its own prompt alone.*
#
# The second group has the lower rewards, and its best answer the higher advantage, for it stands out more.

# %%
scores = torch.tensor([[7.0, 6.0, 6.0, 5.0], [1.0, 1.0, 1.0, 5.0]])
centred = scores - scores.mean(dim=1, keepdim=True)
mine = centred / (scores.std(dim=1, keepdim=True) + 1e-4)
theirs = losses.group_advantages(scores.flatten(), group_size=4)
assert_close(mine.flatten(), theirs)
for group in mine.tolist():
    print(", ".join(f"{advantage:+.2f}" for advantage in group))
assert mine[1].max() > mine[0].max()

# %% [markdown]
# PPO's clipping, which GRPO uses too.
# A token that has become 1.5 times as likely, with $\varepsilon = 0.2$: if it was good, the gradient stops, for it has had its share of this round; if it was bad, it goes on.
#
# ![Two graphs over the ratio. For an advantage of plus 1 the line rises and is flat from 1.2 on; a point at 0.5 goes on, one at 1.5 stops. For an advantage of minus 1 the line is flat up to 0.8 and then falls; a point at 0.5 stops, one at 1.5 goes on.](figures/clipped-ratio.svg)
#
# *Where the line is flat, the gradient is zero, and the token pushes no further.
# Clipping stops a change that has gone far enough, and never one that went the wrong way.*

# %%
ratio = torch.tensor([[1.5, 1.5, 0.5, 0.5]]).requires_grad_()
advantage = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
mine = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
mine.backward()
everywhere = torch.ones(1, 4).bool()
old = torch.zeros(1, 4)
theirs = losses.ppo_policy_loss(ratio.log(), old, advantage, everywhere, clip_range=0.2)
assert_close(mine, theirs.loss)
for r, a, slope in zip(ratio[0].tolist(), advantage[0], ratio.grad[0]):
    print(f"ratio {r}, advantage {a:+.0f}: {'goes on' if slope else 'stops'}")
assert ratio.grad[0].bool().tolist() == [False, True, True, False]

# %% [markdown]
# ## Experiment
#
# ### Half a minute of learning from preferences
#
# For a start, something small, that is learned while you look on.
# `base-llm` gets the first six words of a tale and writes forty tokens more.
# Our annotators like *vivid* beginnings: a point for each different adjective from the lists of the tales, the first six words included, up to the first word that no tale could have there.

# %% tags=["nbval-ignore-output"]
N_TOKENS = 40


def vividness(prompt, text):
    return 14 * reward_parts(prompt, text).detail  # a fraction of 14 adjectives


def beginnings(n, seed):
    words = (" ".join(s.text.split()[:6]) for s in tales.generate(10 * n, seed=seed))
    return [
        preferences.story_prompt(text, tokenizer)
        for text in list(dict.fromkeys(words))[:n]
    ]


(first,) = beginnings(1, seed=5)
three = answer(base, [first] * 3, N_TOKENS, generator=generator).texts
for text in three:
    print(fill(f"{vividness(first.text, text):.0f}  {first.text}{text}", 80) + "\n")
begun, broken = "Long ago there was a", " shy shy loud tall old"
assert vividness(begun, broken) == vividness(begun, " shy")

# %% [markdown]
# Four such texts to each of a hundred beginnings, and four comparisons among them, by an annotator who agrees with the points in 85 of 100 cases.
# Forty more beginnings are held out.


# %% tags=["nbval-ignore-output"]
def compared(n, seed):
    """Return pairs of answers to n beginnings, as an annotator prefers them."""
    prompts, luck = beginnings(n, seed), torch.Generator().manual_seed(seed)
    asked = [prompt for prompt in prompts for _ in range(4)]
    texts = answer(base, asked, N_TOKENS, generator=luck).texts
    candidates = [(p.text, texts[4 * i : 4 * i + 4]) for i, p in enumerate(prompts)]
    options = {"agreement": 0.85, "pairs_per_prompt": 4, "reward": vividness}
    return preferences.sample_pairs(candidates, luck, **options)


pairs, held_out = compared(100, seed=0), compared(40, seed=1)
points = [p for pair in pairs for p in (pair.gold_chosen, pair.gold_rejected)]
usual = sum(points) / len(points)
print(f"{len(pairs)} pairs, {len(held_out)} held out; {usual:.1f} points on average")
rate = preferences.agreement_rate(held_out)
print(f"held out, the annotator agrees with the points in {rate:.0%}")
assert (len(pairs), len(held_out)) == (400, 160)

# %% [markdown]
# The reward model starts as a copy of `base-llm`, so that it knows the language, and reads each pair once.
# No model can foresee an annotator's errors, so the best to be had is the annotator's own agreement.

# %% tags=["nbval-ignore-output"]
learned, unseen = (
    preferences.tokenize_pairs(part, tokenizer) for part in (pairs, held_out)
)


def taught(n_pairs):
    """Return a reward model that has read so many pairs, once."""
    model = RewardModel(base, torch.Generator().manual_seed(0), "mean")
    config = RewardConfig(
        steps=n_pairs // 16, learning_rate=7e-4, warmup_steps=3, eval_interval=25
    )
    shuffle = torch.Generator().manual_seed(0)
    train_reward_model(model, learned[:n_pairs], unseen[:8], config, shuffle)
    return model.eval()


reward_models = {n: taught(n) for n in (48, 400)}
for n, model in reward_models.items():
    found = pair_accuracy(model, unseen)
    low, high = found.interval
    print(f"{n:3} pairs: {found.rate:.0%} of held-out pairs ({low:.0%} to {high:.0%})")
assert found.rate > 0.55

# %% [markdown]
# With 48 pairs it knows no better than a coin; with 400 it knows something, and not all that could be known.
# *Predict*: now the policy is trained to earn what this reward model gives, by GRPO, 22 iterations of 32 answers, and nothing holds it back.
# What will happen to the reward model's rewards, and what to the points?


# %%
def trained(kl_coef, iterations=22, seed=0, n_pairs=400):
    """Return a policy that learned by a reward model, its curve, and answers of it."""
    policy, proxy = copy.deepcopy(base), text_reward(reward_models[n_pairs], tokenizer)
    points, answers, records = [], [], []

    def watched(prompts, texts):
        points.append(sum(map(vividness, prompts, texts)) / len(texts))
        answers.append([*map("".join, zip(prompts, texts))])
        return proxy(prompts, texts)

    config = GRPOConfig(
        iterations=iterations, prompts_per_iteration=8, answers_per_prompt=4,
        epochs=1, learning_rate=1e-3, warmup_updates=4,
        max_new_tokens=N_TOKENS, kl_coef=kl_coef,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    options = {"tokenizer": tokenizer, "stop": [0], "run": Run(progress=records.append)}
    grpo(policy, beginnings(100, seed=5), watched, config, generator, **options)
    kl, earned = tuple(r.kl for r in records), tuple(r.reward for r in records)
    return policy, Curve(kl=kl, gold=tuple(points), proxy=earned), answers


# %% tags=["nbval-ignore-output"]
free, curve, answers = trained(kl_coef=0)
for i in (0, 4, 8, 12, 16, 21):
    where = f"KL {curve.kl[i]:5.1f}, proxy {curve.proxy[i]:+.2f}"
    print(f"iteration {i + 1:2}: {where}, {curve.gold[i]:.1f} points")


def late(values):
    """Return the mean of the last five."""
    return sum(values[-5:]) / 5


assert late(curve.proxy) > curve.proxy[0] + 0.1
assert late(curve.gold) < usual - 1

# %% [markdown]
# The reward model is more and more pleased, and the reader is not.
# At first the points hold, or even seem to rise; a policy can choose sentences that have an adjective in them.
# Then the learned reward still pays, and the points fall, far below where the policy came from.
# This is {term}`over-optimisation`, and texts from the end show what was found.

# %% tags=["nbval-ignore-output"]
for text in answers[-1][::8]:
    print(fill(text, 80) + "\n")


def could_be_a_tale(text):
    """Return whether a tale can begin so; the last word may have been cut off."""
    try:
        tales.world().prefix_log_prob(text.rsplit(" ", 1)[0])
    except ValueError:
        return False
    return True


fine = [sum(map(could_be_a_tale, texts)) for texts in answers]
for number in (1, len(fine)):
    print(f"iteration {number}: {fine[number - 1]} of 32 texts could begin a tale")
assert fine[0] > 24 and fine[-1] < 16

# %% [markdown]
# Of the last texts hardly one could begin a tale, even where it reads well, and nobody ever preferred texts like these; hardly any was ever shown.
# The reward model has learned from beginnings that were nearly all of the right grammar, and what set the chosen apart in them was some adjectives more.
# What a broken sentence is worth it was never told, so it thinks of it what its few pairs let it think.
# What comes again and again need not even be an adjective: in the run printed here it is also *peeping*, which in tales follows *a little white duckling*, and to the reward model what goes along with the good may be as good as the good.
# A policy that is optimised goes to where the reward model is wrong in its favour, for that is where the reward is.
#
# ### What the penalty buys
#
# *Predict*: the same, but the loss has the distance to the reference in it, with a weight of 0.1.
# Will the policy earn less of the learned reward?
# Of the points?

# %% tags=["nbval-ignore-output"]
held, held_curve, _ = trained(kl_coef=0.1)
for name, c in (("no penalty", curve), ("penalty", held_curve)):
    ends = f"KL {late(c.kl):.0f}, proxy {late(c.proxy):+.2f}"
    print(f"{name:10}: in the end {ends}, {late(c.gold):.1f} points")
assert late(held_curve.kl) < late(curve.kl) / 2
assert late(held_curve.gold) > late(curve.gold) + 1

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels over the KL divergence. Left, the learned reward: without a penalty it rises all the way, far to the right; with it, the line ends early and lower. Right, the points: with the penalty the line rises above the dotted level of usual texts and ends there, near; without, it rises a little and then falls far below, far to the right."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.7))
groups = {"no penalty": [curve], "penalty 0.1": [held_curve]}
for ax, quantity in zip(axes, ("proxy", "gold")):
    plot_against_kl(ax, groups, quantity, width=5)
axes[1].axhline(usual, color="0.45", linestyle=":", linewidth=1)
end = axes[1].get_xlim()[1]
_ = axes[1].text(end, usual, "usual", ha="right", va="bottom", fontsize=8)

# %% [markdown]
# (The dotted line is the mean of the texts that were compared; an iteration is 32 texts, and the first may lie above or below it.)
# The penalty costs some of the learned reward, and with it the points rise: the policy ends nearer to where the reward model has seen what it judges.
# The penalty does not make the reward model any wiser.
# Here the policy with the penalty also seems to be ahead at the same distance.
# {cite:t}`gao2023` found no such difference, so that a penalty does what stopping in time would do; one run of each cannot decide.

# %% [markdown]
# ### The study: whole stories, three methods
#
# What follows takes an hour or two and is stored with the package; `python book/studies/rlhf_study.py --out FILE` repeats it.
# `base-llm` gets the first words of tales and writes them to their end, and what people want is all that `gold_reward` counts: that the tale holds together, its ending, its kind deeds, its words and its length.
# Annotators who agree with that in 85 of 100 cases compared four answers to each of 840 beginnings, all against all.
# Reward models learned from a hundred pairs, from a thousand, and from all: three of each size, which differ in their first weights and their order, and the smaller ones in their pairs.

# %%
study = stored_study("rlhf", StudyPoint)
curves = curves_of(study.points)
found = sorted({(p.n_pairs, p.reward_seed, p.accuracy) for p in study.points})
rates = {n: [rate for m, _, rate in found if m == n] for n in (100, 1000, 5040)}
for n_pairs, own in rates.items():
    said = ", ".join(f"{rate:.0%}" for rate in own)
    print(f"{n_pairs:5,} pairs: {said} of held-out pairs")
low, high = wilson_interval(round(750 * rates[5040][0]), 750)
print(f"95 % interval of the first with 5,040: {low:.0%} to {high:.0%}")
print(f"{len(curves)} policies, looked at {len(study.points)} times")
assert max(rates[100]) < min(rates[5040]) <= max(rates[5040]) < 0.85

# %% [markdown]
# Fifty times as many comparisons raise the share by some six percentage points, and all nine are far from the annotator's 85.
# The interval is that of 750 pairs, six for each of 125 beginnings, as if they were independent; between a hundred and all it leaves a difference, between neighbours hardly.
# Most of what makes one story better than another here is whether it holds together to its last sentence, and that is hard to see for a small model: it would have to notice that a cloak was blue before.
#
# *Predict*: PPO, GRPO and DPO learn from the same pairs, each three times, with a cost of the distance in all of them.
# At the same distance from the start, which of them has gained most of what people want?

# %% tags=["hide-input"] mystnb={"image": {"alt": "Gold reward over the KL divergence for three policies by each of three methods. All start at about three to four points. The three lines of GRPO rise to a top of four to five points at about five nats, are back at the start before thirty, and fall below one point on their long way to hundreds of nats. Those of PPO go up and down about where they started, up to some thirty nats; two end lower and one higher. Those of DPO, with fewer moments to look at, end lower, one of them by more than a point."}}
frontier = {
    method.upper(): [c for r, c in curves.items() if r.method == method and r.cost]
    for method in ("ppo", "grpo", "dpo")
}
fig, ax = plt.subplots(figsize=(4.6, 2.9))
plot_against_kl(ax, frontier, width=5)
assert {len(seeds) for seeds in frontier.values()} == {3}

# %%
for name, seeds in frontier.items():
    width = 5 if len(seeds[0].kl) > 5 else 1  # DPO was looked at four times
    smooth = [c.smoothed(width) for c in seeds]
    tops = [max(zip(c.gold, c.kl)) for c in smooth]
    best = ", ".join(f"{gold:.1f} at {kl:.0f} nats" for gold, kl in tops)
    last = [late(c.gold) if width == 5 else c.gold[-1] for c in seeds]
    ends = ", ".join(f"{gold:.1f}" for gold in last)
    print(f"{name:4} highest: {best}; in the end: {ends} points")
grpo_tops = [max(c.smoothed(5).gold) for c in frontier["GRPO"]]
ppo_tops = [max(c.smoothed(5).gold) for c in frontier["PPO"]]
assert min(grpo_tops) > max(ppo_tops)
grpo_ends, ppo_ends = ([late(c.gold) for c in frontier[n]] for n in ("GRPO", "PPO"))
assert max(grpo_ends) < 1.2 and min(ppo_ends) > 2.5
assert all(c.gold[0] - late(c.gold) < 0.7 for c in frontier["PPO"])

# %% [markdown]
# GRPO gains a point or so within the first six nats, keeps nothing of it beyond twenty, and in the end writes stories that are worth about a point; its penalty of 0.02 did not hold it.
# PPO has gained nothing that could be told from noise, and its last five looks find it where it began, or half a point below: a look is at 32 stories, and the means of so few go up and down by themselves.
# Its penalty has the same weight, but is another: PPO takes it from the reward, and the farther a token has moved, the more it costs; in GRPO's loss no token is pulled back harder than by the weight itself, 0.02, where advantages are about 1.
# DPO, whose $\beta$ is 0.1, was looked at only at the start and after every forty steps: two of three had gained half a point at the first look after the start, and all end below it; how they fared between the looks is not known.
# So it depends on where one stops: GRPO has the highest tops and the lowest ends.
# With settings found for each of them the order might be another.
#
# ### Over-optimisation
#
# *Predict*: GRPO once more, with no penalty and for as long, by each of the nine reward models.
# All learned rewards will go up; which gold rewards will?

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels over the KL divergence, three lines for each size of reward model, 100, 1,000 and 5,040 pairs. Left, the learned reward: all rise, steeply up to about twenty nats, then slowly, those of 100 pairs twice as high as the others. Right, the gold reward: all rise to a top before ten nats, those of 100 pairs to four points at most, the others to between four and a little over five, and then fall; one line of 1,000 pairs and two of 5,040 fall more slowly than the rest, and all end near nothing."}}
by_pairs = {
    f"{n:,} pairs": [
        curve for made, curve in curves.items() if (made.n_pairs, made.cost) == (n, 0)
    ]
    for n in rates
}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8))
for ax, quantity in zip(axes, ("proxy", "gold")):
    plot_against_kl(ax, by_pairs, quantity, width=5)

# %%
gains = {}
for name, own in by_pairs.items():
    smooth = [c.smoothed(5) for c in own]
    tops = [max(zip(c.gold, c.kl)) for c in smooth]
    said = ", ".join(f"{gold:.1f} at {kl:.0f}" for gold, kl in tops)
    ends = ", ".join(f"{c.gold[-1]:.1f}" for c in smooth)
    print(f"{name:11} highest: {said} nats; in the end: {ends} points")
    gains[name] = [gold - c.gold[0] for (gold, _), c in zip(tops, smooth)]
    print(f"{'':11} gained: {', '.join(f'{gain:.1f}' for gain in gains[name])} points")
    assert min(gains[name]) > 0 and max(c.gold[-1] for c in smooth) < 1
    assert min(c.proxy[-1] - c.proxy[0] for c in smooth) > 0.8
assert max(gains["100 pairs"]) < 0.5 < min(gains["5,040 pairs"])

# %% [markdown]
# Over the top and down, nine times, and up before that in all but one of them, which only comes back to where it began: the shape that {cite:t}`gao2023` found for much larger policies and reward models, with a gold reward that was a model itself.
# By a reward model of 100 pairs little is gained, half a point at most, and no more by one of the three of 1,000; by the other five it is about a point or more, and mostly the fall is slower, as there.
# Between 1,000 and 5,040 pairs the reward models of one size differ as much as the sizes do: the highest top and the slowest fall of all belong to one of 1,000, which is right in no more of the held-out pairs than another of them.
# The learned reward does not fall where the top is passed: it goes on rising, more slowly.
# How high is no measure: each reward model has a scale of its own, and those of 100 pairs have read them sixteen times, the others once or twice.
#
# Their law says, with $d = \sqrt{D_\text{KL}}$, that the gold reward is about
#
# $$R(d) = R_0 + d\,(\alpha - \beta \ln d),$$
#
# where $\alpha$ is the rise and $\beta$, which is not the $\beta$ of the losses, what bends it down: the top is where $\ln d = \alpha / \beta - 1$.
# The law has no floor, but gold rewards have one, zero, where these runs end; so we fit it, by least squares, to the first hundred nats.


# %%
def rise_and_fall(curve, farthest=100):
    """Return alpha and beta of the law, and how far it misses, in points."""
    kl, gold = torch.tensor([curve.kl, curve.gold], dtype=torch.float64)
    near = (kl > 0) & (kl < farthest)
    d, gain = kl[near].sqrt(), gold[near] - gold[0]
    columns = torch.stack((d, -d * d.log()), dim=1)
    solution = torch.linalg.lstsq(columns, gain[:, None]).solution
    off = (columns @ solution - gain[:, None]).square().mean().sqrt().item()
    return *solution[:, 0].tolist(), off


kl = (0.0, 1.0, 4.0, 9.0, 49.0)
gold = tuple(3 + x**0.5 * (2 - 0.5 * math.log(max(x, 1) ** 0.5)) for x in kl)
assert_close(rise_and_fall(Curve(kl=kl, gold=gold, proxy=kl))[:2], (2.0, 0.5))

# %%
beneath = 0
for name, own in by_pairs.items():
    fits = [rise_and_fall(c.smoothed(5)) for c in own]
    tops = [b * math.exp(a / b - 1) for a, b, _ in fits]  # of the law, over its start
    beneath += sum(top < gain for top, gain in zip(tops, gains[name]))
    alphas, betas, off = ([f"{x:.1f}" for x in column] for column in zip(*fits))
    print(f"{name:11} alpha {', '.join(alphas)}; beta {', '.join(betas)}", end="; ")
    print(f"off by {', '.join(off)} points")
print(f"the law's top is beneath what was seen in {beneath} of 9 trainings")
assert beneath >= 7
held_back = frontier["GRPO"][0].smoothed(5)
free_run = by_pairs["5,040 pairs"][0].smoothed(5)
for name, c in (("0.02", held_back), ("none", free_run)):
    print(
        f"penalty {name}: highest {max(c.gold):.1f}, at the end {c.gold[-1]:.1f} points"
    )
assert abs(max(held_back.gold) - max(free_run.gold)) < 0.3

# %% [markdown]
# The law misses by about a third of a point, and where it matters: it puts nearly all of the tops lower than they were.
# $\alpha$ and $\beta$ differ between trainings of one size as much as between sizes, so three of each are too few to see how they grow with the number of pairs.
# The last two lines compare GRPO with its penalty and without, by the same reward model and with the same seed: a penalty that is too weak to stop a policy does not raise the top.
# The one of the small experiment was five times as strong.
#
# ### A judge that is told what surprises a reader of stories
#
# `aligned-llm`, which comes with the package, is made of `instruct-llm` in the same way: orders, four answers to each, which are compared, a reward model, GRPO with the penalty 0.02.
# About half of what `instruct-llm` writes to order breaks somewhere: it forgets a name, or whether there was a boy or a girl, or one word is wrong.
# It is a matter of a word or a few among a hundred and fifty, and whoever learns from a few thousand comparisons hardly finds them: a reward model that reads tokens is right in 64 of 100 held-out pairs, after 12,000.
# But there is one who could tell: `base-llm`, which has read sixty-four thousand whole stories and nothing else.
# A word that does not fit where it stands is often one that it does not expect.
#
# So `reward-model` gets more than tokens.
# `SurprisalEmbedding` lets `base-llm` read the answer along, and adds to the vector of each token three learned vectors, multiplied by three numbers: the token's surprisal $-\ln p(y_t \mid y_{<t})$ after those before it in the answer, the entropy of what was expected there, with which to compare, and how far into the answer it stands.
# And since one wrong word spoils a story, and is lost in a mean over two hundred tokens, the head reads the mean over the text of only half of the last layer's numbers, and of the other half the maximum.
#
# ![Four rows join in a plus: the vector of the token Marta; 16.1, its surprisal, times a vector; 0.0, what was expected, times a vector; and its place times a vector. The three numbers are read by base-llm. The sum goes through layers; half of the result is averaged over the tokens, of the other half the maximum is taken, and both give the reward.](figures/judge-told-of-surprises.svg)
#
# *What the judge reads of one token; the numbers are those of a wrong name in a story below.
# The maximum lets a single surprise be heard among two hundred tokens.*
#
# All of it together makes 74 of 100 pairs, and the correlation of single rewards with gold rises from 0.36 to 0.70.
# Three times as many comparisons make no more of it, 74 of 100 and 0.71, in a training of the same length: there each answer is read only once, for all comparisons of its prompt {cite:p}`ouyang2022`.
# The repository's script `tests/benchmarks/bench_reward_model.py` trains all three.
# To let a reader tell of its surprises is this course's idea; the reward models of the papers named here read tokens alone.
#
# What has GRPO made of that?
# Forty orders are carried out by both models, with the same luck.

# %% tags=["nbval-ignore-output"]
shipped, _ = load_reward_model("reward-model")
writer, words = load_pretrained("instruct-llm")
aligned, _ = load_pretrained("aligned-llm")
orders, proxy = preferences.exam_prompts(40, words), text_reward(shipped, words)
asked = [order.text for order in orders]
both = [
    evaluate_policy(one, writer, words, orders, proxy, 260) for one in (writer, aligned)
]
before, after = both
gain, kl = gain_of(before, after), after.kl.mean()
ends = "{:+.1f} to {:+.1f}".format(*gain.interval)
print(f"gold {gain.before:.1f} → {gain.after:.1f} points, KL {kl:.0f} nats")
print(f"gain {gain.gain:+.1f} points (95 %: {ends})")
won = gain.better
print(f"better in {won.wins}, worse in {won.losses}, equal in {won.ties}")
assert after.proxy.mean() > before.proxy.mean()
for what, holds in (
    ("begin with “Many years ago”", lambda _, text: text.startswith("Many years")),
    ("hold together to the end", lambda *both: reward_parts(*both).coherence == 1),
):
    n_before, n_after = (sum(map(holds, asked, each.texts)) for each in both)
    print(f"{what}: {n_before}, then {n_after} of {len(asked)}")

# %% [markdown]
# Forty stories say that there is a gain, hardly how much; the card of `aligned-llm`, from 400 orders, has +2.9 points (+2.5 to +3.2) at 25 nats, where the policies of the study had lost what they had gained.
# Of two stories to the same order the better one, by gold, is that of `aligned-llm` in 86 of 100 cases (82 to 90), says the card.
# Such a *win rate*, where a tie is half a win, is what leaderboards report, for people can say which answer is better, and hardly by how many points.
# More was changed than the judge: the policy starts as a model that follows orders, the judge learns from more than twice as many comparisons, and there are 800 updates in place of 120, smaller ones, each from 32 answers in place of 8, with eight answers to an order in place of four; over the last fifth they get smaller still.
# Which of these did it was not tried one by one.
# What is better in one of these stories than in another is above all that it holds together, and more of them do.
#
# There is a price, too: many stories begin with the same words now.
# And what is not paid for can be lost: a plain story of the grammar, told without an order, now costs 0.13 nats per token above the floor; before it was 0.03, as the card says.
# Instructions of all ten kinds, nine of which were not trained here, are followed as before, 81 % exactly, and 80 % before.
# But thirty of these three hundred are orders to write: `instruct-llm` carries out 14 of them to the letter, `aligned-llm` 8, as `llmcourse evaluate --all` counts.
# That may be chance; but gold gives only one of its ten points for having in the story what the order names, so there was little reason to keep it.
#
# *Predict*: below is the worst of the forty stories of `instruct-llm`.
# Which of its words will surprise `base-llm` more than it had expected?

# %% tags=["nbval-ignore-output"]
reader = SurprisalReader.of(*load_pretrained("base-llm"), words)
n = int(before.gold.argmin())
prompt, story = orders[n].ids, words.encode(before.texts[n])
told = reader.features(torch.tensor([[*prompt, *story]]))[0, len(prompt) :]
nats, expected, _ = told.T
print(f"{fill(asked[n], 80)}\n\n{fill(before.texts[n], 80)}\n")
for i in (nats - expected).topk(5).indices.tolist():
    slip = words.decode(story[max(0, i - 3) : i + 1])
    print(f"{nats[i]:.1f} nats, expected {expected[i]:.1f}: {slip!r}")

# %% [markdown]
# The number is that of the last token in each line.
# The order was for a girl named Marta, and the story begins with Digby: so *Marta*, three sentences later, comes out of nowhere.
# A reader of the answer alone knows nothing of the order; that *Digby* is the wrong name it cannot see, only that the story contradicts itself.
# *Girl* is next, for in all stories Digby is an animal, and then *a ivory*, where other words would have been possible; the last two are no slips.
# So even a surprise beyond the expected need not be a slip, and what is a slip the reward model has to learn from the pairs.
#
# ### Honest limits
#
# How long `aligned-llm` was trained was decided by gold, of other orders than its card's.
# In a first run, of 480 iterations without the smaller steps at the end, 256 stories had gained 1.5 points after 190 iterations, 2.3 after 320 and 2.5 after 380; after 430 it was 1.6, and 1.7 after 480, while the learned reward was higher each time; the repository's script `tests/benchmarks/bench_stopping.py` repeats that run.
# So this judge is fooled as well, and when to stop one cannot tell from its rewards.
# Here the points could be looked at; with people, each such look costs money.
#
# No policy was trained for 400 iterations by a judge that reads tokens alone, so what the surprises and the maximum are worth is shown for pairs, not for policies.
#
# What was wanted here is a rule that a program can check; people want more, disagree, and change their minds.
# The annotator follows the model of Bradley and Terry exactly, which is just what the reward model's loss assumes, and his errors are independent of each other; the errors of people have habits, and habits can be learned.
#
# The policies are small, and in the study each method had one set of settings, so a comparison of methods is one of settings as well; on another processor the same seed ends with other broken sentences.

# %% [markdown]
# ## Takeaways
#
# Comparisons determine differences of rewards, by the model of Bradley and Terry; a reward model is the same with a network in place of a table.
# PPO and GRPO let the policy write and make likelier what earned more than expected, where PPO asks a critic what was to be expected, and GRPO the other answers to the same prompt; DPO needs no reward model, and no writing while it learns, for a policy implies a reward by what it has made likelier.
#
# A policy that is optimised goes where the reward model errs in its favour, so after a while the learned reward goes up and what is wanted goes down; by reward models that had seen a hundred comparisons the policies came up little, by those that had seen more they came higher before they fell.
# The KL divergence says how far a policy has gone; a penalty on it that is strong enough keeps the policy near, where the reward model errs less, and costs some of the learned reward.
#
# What is measured by the reward that was optimised is no evidence; only a judge that the policy has not been trained on is.
#
# *In practice*: people compare tens of thousands of answers, the policies are thousands of times larger, and gold is more people, asked again {cite:p}`ouyang2022,stiennon2020`.
# New comparisons are collected on what the policy writes by then, so that the reward model sees where it was hacked.
# For mathematics and programs the reward can be a check of the result, which is harder to fool than a model of taste; GRPO was introduced on mathematics {cite:p}`shao2024`.

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("rlhf")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (check): from wins to rewards
#
# One answer was preferred to another `wins` times, and the other `losses` times.
# Which difference of rewards makes that likeliest?
#
# ```python
# def reward_gap(wins, losses):
#     return difference
# ```
#
# Check it with `checks.reward_gap(reward_gap)`.


# %% tags=["hide-cell", "solution"]
def reward_gap(wins, losses):
    return math.log(wins / losses)  # σ of it is wins / (wins + losses)


checks.reward_gap(reward_gap)

# %% [markdown]
# ### Exercise 2 (derive): the best policy
#
# A prompt has a handful of possible answers.
# Given the reference's probabilities, the rewards and $\beta$, which policy has the highest mean reward, less $\beta$ times its KL divergence from the reference?
# Write the aim as $-\beta D_\text{KL}(\pi \,\|\, q)$ and a constant, for a distribution $q$ that you find on the way.
#
# ```python
# def best_policy(reference, rewards, beta):
#     return probs
# ```
#
# Check it with `checks.best_policy(best_policy)`.
# What becomes of that policy if $\beta$ goes to zero, or grows without end, and does either mend an answer whose reward is wrong?


# %% tags=["hide-cell", "solution"]
def best_policy(reference, rewards, beta):
    # Σ π r − β Σ π ln(π / ref) = −β Σ π ln(π / (ref e^(r/β))), so q ∝ ref e^(r/β)
    reference, rewards = torch.tensor([reference, rewards], dtype=torch.float64)
    return (reference.log() + rewards / beta).softmax(dim=0).tolist()


checks.best_policy(best_policy)
# β → 0: only the answer with the highest reward, however improbable it was; large β:
# the reference. Neither mends a wrong reward; a large β only gives it less weight.

# %% [markdown]
# ### Exercise 3 (derive): the best of n
#
# The plainest way to use a reward model trains nothing: write $n$ answers and keep the one with the highest reward.
# How far from the model is that, as a KL divergence?
# Suppose that no two answers have the same reward, and give each the share $u$ of answers below it, a number between 0 and 1.
#
# ```python
# def best_of_n_kl(n):
#     return nats
# ```
#
# Check it with `checks.best_of_n_kl(best_of_n_kl)`.


# %% tags=["hide-cell", "solution"]
def best_of_n_kl(n):
    # The highest of n has the density n u^(n−1); the mean of its logarithm is
    # ln n + (n − 1) · mean of ln u = ln n − (n − 1) / n.
    return math.log(n) - (n - 1) / n


checks.best_of_n_kl(best_of_n_kl)
print(f"best of 16: {best_of_n_kl(16):.1f} nats; of 1,000: {best_of_n_kl(1000):.1f}")

# %% [markdown]
# ### Exercise 4 (build): who earned it?
#
# PPO's critic expected `values` before each token of an answer, and the tokens brought `rewards`.
# The *error* of such an expectation is the token's reward, plus what is expected after it, less what was expected before; after the last token nothing is expected.
# A token's advantage is its own error, plus $\lambda$ times the next token's, $\lambda^2$ times the one after that, and so on.
#
# ![Three tokens between four expectations: 4, 5, 6, and 0 after the last. Rewards 0, minus 1, plus 8. Errors 0 plus 5 minus 4, plus 1; minus 1 plus 6 minus 5, zero; 8 plus 0 minus 6, plus 2. Advantages plus 1.5, plus 1 and plus 2; each is passed on to the token before, times one half.](figures/who-earned-it.svg)
#
# *An example with $\lambda = 1/2$: token 2 was as good as expected, and gets an advantage from what came after it.*
#
# ```python
# def token_advantages(rewards, values, gae_lambda):
#     return advantages
# ```
#
# Check it with `checks.token_advantages(token_advantages)`.


# %% tags=["hide-cell", "solution"]
def token_advantages(rewards, values, gae_lambda):
    found, after, expected = [], 0.0, 0.0
    for reward, value in zip(reversed(rewards), reversed(values)):
        after = reward + expected - value + gae_lambda * after
        found, expected = [after, *found], value
    return found


checks.token_advantages(token_advantages)
row = torch.tensor([[0.0, -1.0, 8.0]]), torch.tensor([[4.0, 5.0, 6.0]])
theirs = losses.gae(*row, torch.ones(1, 3).bool(), gae_lambda=0.5)
assert_close(
    torch.tensor([token_advantages(*(r[0].tolist() for r in row), 0.5)]), theirs
)

# %% [markdown]
# ### Exercise 5 (explore): the best of sixteen
#
# Let `base-llm` write sixteen answers to some beginnings, and keep the one that the live reward model likes best: how many points has it, beside a usual one?
# And by the reward model of 48 pairs, which knew next to nothing?
# By exercise 3 that is less than two nats away, where GRPO without a penalty went dozens of nats.
# The learned reward of the best of $n$ can only rise with $n$: what would tell you that $n$ has become too large?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
asked = [prompt for prompt in beginnings(8, seed=9) for _ in range(16)]
texts = answer(base, asked, N_TOKENS, generator=generator).texts
prompts = [prompt.text for prompt in asked]
vivid = torch.tensor([*map(vividness, prompts, texts)]).view(8, 16)
print(f"usual: {vivid.mean():.1f} points; best there is: {vivid.amax(1).mean():.1f}")
for n, model in reward_models.items():
    best = text_reward(model, tokenizer)(prompts, texts).view(8, 16).argmax(dim=1)
    kept = vivid.gather(1, best[:, None]).mean()
    print(f"best of 16 by {n} pairs: {kept:.1f} points")
# The points of what is kept: where they fall while the learned reward rises, n is too
# large. Where nobody knows the points, people must compare again.

# %% [markdown]
# ## Sources
#
# Paired comparisons are from {cite:t}`bradley1952`; learning a reward from people's comparisons, and a language model by it with a KL penalty, from {cite:t}`ziegler2019`, {cite:t}`stiennon2020` and {cite:t}`ouyang2022`.
# PPO is from {cite:t}`schulman2017`, its advantages from {cite:t}`schulman2016`; DPO from {cite:t}`rafailov2023`; GRPO from {cite:t}`shao2024`.
# A known gold reward in place of people, and the law of over-optimisation, are from {cite:t}`gao2023`.
