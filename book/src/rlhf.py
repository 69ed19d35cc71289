# %% [markdown]
# (rlhf)=
# # Learning from preferences: RLHF
#
# One model learns from comparisons what people like; a second learns to write what the first one likes, and finds the first one's mistakes.
#
# **You will be able to**
#
# - say what RLHF is, and what PPO, GRPO and DPO each need,
# - turn comparisons into rewards, by the model of Bradley and Terry,
# - train a reward model, and judge its accuracy by how often people agree,
# - write GRPO as a loop and DPO as a loss,
# - recognise reward hacking: the learned reward goes up, what people want goes down.
#
# **You need** the chapter [Instruction tuning](instruction_tuning.ipynb).
#
# **Takes** about an hour to read with the code.
#
# **Runs in** about two minutes on one processor core.

# %% [markdown]
# ## Setup

# %% tags=["hide-input"]
import copy
import math
from functools import partial
from textwrap import fill, shorten

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence
from torch.testing import assert_close

from llmcourse import plotting
from llmcourse.alignment import losses, preferences
from llmcourse.alignment.gold_reward import gold_reward, reward_parts
from llmcourse.alignment.reward_model import (
    RewardConfig,
    RewardModel,
    pair_rewards,
    text_reward,
    train_reward_model,
)
from llmcourse.alignment.rollouts import Scorer, sample_rollouts
from llmcourse.checks import rlhf as checks
from llmcourse.intervals import bootstrap_interval
from llmcourse.model.folders import load_pretrained
from llmcourse.text import tales
from llmcourse.widgets.stopping import Stop, StoppingExplorer

plotting.use_course_style()
_ = torch.set_num_threads(1)


# %% [markdown]
# ## The problem
#
# `base-llm-small` writes {term}`tales`.
# We let it finish the same beginning eight times.
# It writes until the mark that ends a text, id 0, or for 260 tokens; `sample_rollouts` lets it write several stories side by side.
# A reader gives each story points, on a scale from 0 to 10.

# %% tags=["nbval-ignore-output"]
base, tokenizer = load_pretrained("base-llm-small")
answer = partial(sample_rollouts, tokenizer=tokenizer, stop=[0])
beginning = "Long ago there was a shy little boy named Henry"
prompt = preferences.story_prompt(beginning, tokenizer)
generator = torch.Generator().manual_seed(0)
stories = answer(base, [prompt] * 8, 260, generator=generator).texts
story_of = {gold_reward(prompt.text, text): text for text in stories}
print("points:", ", ".join(f"{points:.1f}" for points in sorted(story_of)))

# %% [markdown]
# Here is how the worst begins, and how the best ends.

# %% tags=["nbval-ignore-output"]
worst, best = min(story_of), max(story_of)
begun = shorten(beginning + story_of[worst], 378, placeholder=" …")
print(fill(f"{worst:.1f} {begun}", 80) + "\n")
print(fill(f"{best:.1f} … {story_of[best][-250:].partition(' ')[2]}", 80))

# %% tags=["remove-cell"]
assert best > worst + 2

# %% [markdown]
# The same model wrote all eight, from the same beginning.
# Some fall apart halfway, and those that hold together are not equally good.
# (Look for the first place where the bad one breaks: kind deeds and vivid words after it count for nothing.)
# The model could write the best of them every time, if it knew which one that was.
# But nothing in its training tells it that one story is better than another.
# It imitates dull stories as faithfully as charming ones, and instruction tuning imitates too.
#
# In this chapter, `gold_reward` knows which story is better: a rule made for this course, which takes the place of people.
# It wants a story that holds together and has what the prompt names, with a happy ending, kind deeds of several sorts, vivid words and the right length.
# If the prompt orders a different ending, it wants that one.
# Real people don't have such a rule.
# Ask them for points, and each uses their own scale, which drifts from day to day.
# Ask *which of these two is better?*, and two people agree in 73 to 77 of 100 pairs {cite:p}`stiennon2020,ouyang2022`.
#
# So we ask the rule only *which of two*, and let it err at times.
# The one who compares is called an **{term}`annotator`**; here it is a program.
# Now and then we still look at the points, as nobody could in reality, to see what has become of people's wishes.
#
# ![Boxes in a ring. Gold points lead to an annotator, who says which of two and sometimes errs. From there an arrow leads to pairs; they train a reward model, and it trains the policy. A dashed arrow leads from the policy back to the gold points: its stories, looked at but not learned from.](figures/who-sees-the-points.svg)
#
# *No model ever learns from the points directly: they reach the policy, the model that writes, only through comparisons.*
#
# ### The words
#
# What the figure shows is **RLHF**, **{term}`reinforcement learning from human feedback`**.
#
# | Word | Meaning | Here |
# |---|---|---|
# | *{term}`reinforcement learning`* | learning by trial and error: act, receive a reward, do more of what was rewarded | a language model writes a story |
# | the {term}`policy` | what acts | `base-llm-small`, which will change |
# | an {term}`action` | one choice | the next token |
# | the *{term}`reward`* | how good the outcome was | one number for a whole story |
# | *human feedback* | where the reward comes from | comparisons of two stories |
#
# Learning from comparisons is older, but {cite:t}`christiano2017` made it work with deep networks.
# People compared short clips of simulated robots and games, a network learned the reward, and one simulated robot learned to do backflips.
# {cite:t}`ziegler2019` and {cite:t}`stiennon2020` applied it to language models.
# {cite:t}`ouyang2022` made InstructGPT with it, in three steps:
#
# - *Step 1* is **supervised fine-tuning** on answers that people wrote: the chapter [Instruction tuning](instruction_tuning.ipynb).
# - *Step 2*: a **reward model** learns from comparisons of the model's answers.
# - *Step 3*: the model learns to write what the reward model likes.
#
# This chapter does steps 2 and 3.
# Making a model do what people want is called **alignment**.

# %% [markdown]
# ## By hand
#
# Take three answers: A was preferred to B in three of four comparisons, and B to C in three of four.
# A and C were never compared.
# How often will A be preferred to C?
#
# The **{term}`Bradley–Terry model`** gives each answer a reward $r$.
# It says that A is preferred to B with probability $\sigma(r_A - r_B)$, where $\sigma(x) = 1/(1 + e^{-x})$.
#
# | pair | A over B | B over C | A over C |
# |---|---|---|---|
# | seen | 3 : 1 | 3 : 1 | – |
# | $\sigma(\text{difference})$ | 3/4 | 3/4 | 9/10 |
# | difference of rewards | $\ln 3$ | $\ln 3$ | $2 \ln 3$ |
#
# The odds, $\sigma(x) / (1 - \sigma(x))$, are $e^x$, so odds of three to one mean a difference of $\ln 3$.
# Differences add up, so odds multiply: nine to one, without a single comparison of A with C.
#
# ![A line with three points, C at minus 1.10, B at zero, and A at plus 1.10. C and B are ln 3 apart: B won three to one. B and A are ln 3 apart as well: A won three to one. The bracket from C to A says two times ln 3, so A wins nine to one.](figures/rewards-on-a-scale.svg)
#
# *The comparisons we saw set two distances, in blue.
# Their sum predicts a comparison that nobody made, in green.*
#
# Only differences count: rewards of $\ln 3, 0, -\ln 3$ and of $100 + \ln 3, 100, 100 - \ln 3$ mean the same.
#
# The loss of a comparison is its surprise.
# If the model says that A wins with probability 3/4, the loss is $-\ln \tfrac34 = 0.29$ nats when A wins, and $-\ln \tfrac14 = 1.39$ when it loses.
# The loss is convex in the rewards, so where its gradient is zero, they fit the eight comparisons best; the next two cells check this.

# %%
rewards = torch.tensor([math.log(3), 0.0, -math.log(3)], requires_grad=True)
A, B, C = range(3)
comparisons = [(A, B)] * 3 + [(B, A)] + [(B, C)] * 3 + [(C, B)]  # the winner first
print(f"P(A over C) = {torch.sigmoid(rewards[A] - rewards[C]):.2f}")

# %% [markdown]
# The loss is the mean over the eight comparisons, and its gradient is zero.

# %%
chosen = rewards[[winner for winner, _ in comparisons]]
rejected = rewards[[loser for _, loser in comparisons]]
loss = -logsigmoid(chosen - rejected).mean()
loss.backward()
print(f"loss {loss:.2f} nats per pair; with equal rewards, {math.log(2):.2f}")
assert_close(rewards.grad, torch.zeros(3), atol=1e-6, rtol=0)

# %% [markdown]
# No other rewards make the comparisons more probable.
# A reward model works the same way, with one change: a network that reads a text replaces the table of rewards.
# So it has an opinion even on texts that nobody compared.

# %% [markdown]
# ## The idea
#
# **The {term}`reward model`** is a language model with a different last layer, its *head*.
# It reads a prompt $x$ and an answer $y$, and returns one number, $r_\phi(x, y)$, instead of logits; $\phi$ are its weights.
# It learns from **{term}`preference pairs <preference pair>`** of a chosen and a rejected answer, $y^+$ and $y^-$:
#
# $$\mathcal{L}(\phi) = -\ln \sigma\big(r_\phi(x, y^+) - r_\phi(x, y^-)\big).$$
#
# **The aim.**
# The policy should earn a high reward and stay near the {term}`reference`, the model it started as:
#
# $$\max_\pi \; \mathbb{E}\big[r_\phi(x, y)\big] - \beta \, D_\text{KL}(\pi \,\|\, \pi_\text{ref}).$$
#
# $\mathbb{E}$ is the mean over prompts and the policy's answers.
# The **{term}`KL divergence`** says how far the policy has moved.
# Take the log-probability of an answer under both models and subtract: the mean difference over the policy's own answers is the divergence, in nats.
# An estimate from few answers can come out slightly negative.
# Each nat of distance costs a reward of $\beta$.
#
# There are three common ways to get there.
#
# ![Above, pairs train a reward model; the policy gets prompts and sends answers to the reward model, which returns rewards; a dashed leash, the KL divergence, ties the policy to the reference. Below, DPO: pairs train the policy with no reward model in between; its reward is beta times the log of the ratio of policy to reference.](figures/two-ways-from-pairs.svg)
#
# *PPO and GRPO: the reward model learns from the pairs, and then judges what the policy writes, again and again.
# DPO: the pairs train the policy directly.*
#
# **{term}`GRPO`**, group relative policy optimisation {cite:p}`shao2024`, repeats five steps:
#
# 1. *sample* several answers to each prompt, a **group**;
# 2. let the reward model give each its *reward* $r_i$;
# 3. compute the {term}`advantage`: how far a reward is above the mean of its group, in standard deviations, $A_i = (r_i - \bar r) / s$;
# 4. compute the *loss*, which makes the tokens of good answers more probable, and those of bad ones less probable;
# 5. take a *step* with the optimizer.
#
# ![Five boxes in a ring: sample, reward, advantage, loss, step. Between them the example of one prompt: four answers; rewards 5, 6, 6, 7; advantages minus 1.22, 0, 0, plus 1.22; one number; and new weights, which lead back to sample.](figures/one-round-of-grpo.svg)
#
# *One round of GRPO, with four answers to one prompt.*
#
# Let $\pi_\text{old}$ be the policy that wrote the answers.
# The ratio $\rho_t = \pi(y_t) / \pi_\text{old}(y_t)$ says how much more probable token $y_t$, given those before it, has become since.
# It is 1 at first, and moves if several steps are taken with the same answers.
# All tokens of an answer share its advantage $A$.
# The loss of a token is
#
# $$
# \begin{gathered}
# -\min\big(\rho_t A,\; \text{clip}(\rho_t, 1 - \varepsilon, 1 + \varepsilon)\, A\big) \\
# {} + \beta\,(e^{-\delta_t} - 1 + \delta_t), \\
# \delta_t = \ln \pi(y_t) - \ln \pi_\text{ref}(y_t).
# \end{gathered}
# $$
#
# In the first part, $\text{clip}$ keeps the ratio between $1 - \varepsilon$ and $1 + \varepsilon$, here with $\varepsilon = 0.2$.
# A good token is pushed up until it is $1 + \varepsilon$ times as probable as when it was sampled; then its own gradient is zero.
#
# ![Two graphs over the ratio. For an advantage of plus 1 the line rises and is flat from 1.2 on; a point at 0.5 goes on, one at 1.5 stops. For an advantage of minus 1 the line is flat up to 0.8 and then falls; a point at 0.5 stops, one at 1.5 goes on.](figures/clipped-ratio.svg)
#
# *The graphs show what is earned, the first part of the loss without its minus.
# Where the line is flat, the gradient is zero.
# Clipping stops a change that has gone far enough, but never one that went the wrong way.*
#
# The second part, often called *k3*, estimates the KL divergence from a single sampled token.
# Its mean over the policy's tokens is correct, since $e^{-\delta_t} = \pi_\text{ref} / \pi$ is 1 on average; unlike $\delta_t$ itself, it is never negative.
# But with fresh answers its gradient is, on average, that of the divergence the other way round, $D_\text{KL}(\pi_\text{ref} \,\|\, \pi)$.
# So GRPO's best policy is not quite the best one for our aim; the two are close only near the reference.
#
# A close relative, **RLOO** (*leave one out*), compares an answer with the mean of the *others* {cite:p}`kool2019,ahmadian2024`.
# In a group of $G$, that difference is $G / (G - 1)$ times the distance from the mean of all.
#
# **{term}`PPO`**, proximal policy optimisation {cite:p}`schulman2017`, is older and needs one more network.
# For every token it asks: did things go better than expected?
# The **{term}`critic`** supplies the expectation, so each token has an advantage of its own (exercise 3).
# In RLHF, the learned reward comes only with the last token.
# At every token, a cost for the distance, $\beta\,\delta_t$, is subtracted {cite:p}`ziegler2019`.
# PPO also introduced the *clipping* above.
#
# The two penalties differ.
# PPO pulls back with its cost, $\beta\,\delta_t$, which grows with the distance.
# On a token that has become more probable, GRPO's penalty pulls back with its slope, $\beta\,(1 - e^{-\delta_t})$, so never by more than $\beta$.
#
# ![Two curves over delta, from 0 to 4 nats. PPO's is a straight line that rises to four times beta. GRPO's begins with the same slope, bends, and stays below beta.](figures/two-leashes.svg)
#
# *The pull of two penalties with the same weight.
# Near the reference they pull alike; far from it, only PPO's pull keeps growing.*
#
# **DPO**, {term}`direct preference optimisation` {cite:p}`rafailov2023`, needs no reward model and samples nothing: the pairs are enough.
# The best policy for our aim is known: $\pi^*$ is proportional to $\pi_\text{ref}\, e^{r/\beta}$ (exercise 2).
#
# ![Four groups of bars for the answers A, B and C. Reference: 33 % each. Beta 2: 52, 30 and 17 %. Beta 1: 69, 23 and 8 %. Beta one half: 89, 10 and 1 %.](figures/best-policy-for-three-answers.svg)
#
# *The best policy for the three answers above, with rewards $\ln 3$, 0 and $-\ln 3$, if the reference writes all three equally often.
# The smaller $\beta$ is, the further it moves from the reference.*
#
# Read this backwards: every policy is the best one for some reward.
# To find it, take the logarithm and solve for $r$.
# It is the **{term}`implicit reward`** $\beta \ln(\pi / \pi_\text{ref})$, plus a constant for each prompt, which cancels between two answers to the same prompt.
# Put that reward into the reward model's loss, and the policy can learn from the pairs directly:
#
# $$\mathcal{L}(\theta) = -\ln \sigma\Big(\beta \ln \frac{\pi_\theta(y^+)}{\pi_\text{ref}(y^+)} - \beta \ln \frac{\pi_\theta(y^-)}{\pi_\text{ref}(y^-)}\Big).$$
#
# | Symbol | Meaning | Unit | Name in code |
# |---|---|---|---|
# | $r_\phi$ | learned reward, the *proxy* | – | `reward_model`, `reward` |
# | gold | what people really want; known only in this course | points | `gold_reward`, `vividness` |
# | $\pi$, $\pi_\text{ref}$ | policy, and what it was at the start | – | `policy`, `reference` |
# | $D_\text{KL}$ | how far it has gone: mean of $\ln \pi(y) - \ln \pi_\text{ref}(y)$ over its answers | nats/answer | `kl` |
# | $\beta$ | what a nat of distance costs | reward/nat; GRPO: deviations/nat | `kl_coef`, `beta` |
# | $A$ | advantage | – | `advantages` |
# | $\rho$, $\varepsilon$ | how much more probable a token has become; how far in one go | – | `ratio`, 0.2 |

# %% [markdown]
# ## In code
#
# ### A task for two minutes
#
# Whole stories take too long here.
# So `base-llm-small` gets the first six words of a tale and writes forty more tokens, and gold is a simpler rule, `vividness`.
# It gives one point for each different adjective from a list, including those in the beginning.
# The *Long* of *Long ago* counts too; the *big* of a *big brother* does not, nor do words that aren't on the list, such as *crooked*.
# Counting stops at the first word that no tale could have there.
# These points cannot be compared with those above.


# %%
N_TOKENS = 40


def vividness(prompt, text):
    return 14 * reward_parts(prompt, text).detail  # a fraction of 14 adjectives


def beginnings(n, seed):
    """Return n different beginnings of tales, six words each."""
    words = (" ".join(s.text.split()[:6]) for s in tales.generate(10 * n, seed=seed))
    different = list(dict.fromkeys(words))[:n]
    return [preferences.story_prompt(text, tokenizer) for text in different]


# %% tags=["nbval-ignore-output"]
first = beginnings(1, seed=5)[0]
for text in answer(base, [first] * 3, N_TOKENS, generator=generator).texts:
    points = vividness(first.text, text)
    print(fill(f"(points: {points:.0f}) {first.text}{text}", 80) + "\n")

# %% [markdown]
# When adjectives are strung together as they never are in a tale, only the first one counts.

# %%
begun, broken = "Long ago there was a", " shy shy loud tall old"
points = vividness(begun, broken)
assert points == vividness(begun, " shy")
print(f"{points:.0f} points: one for Long, one for the first shy")

# %% [markdown]
# For each of a hundred beginnings, `base-llm-small` writes four texts, and the annotator makes four comparisons among them.
# Where the two texts have different points, the annotator is made to agree with the points in 85 of 100 pairs, give or take chance.
# By the Bradley–Terry model, it errs most often where they are close.
# Where they are equal, it tosses a coin.
# On unequal pairs, two such annotators agree if both are right or both err: in about $0.85^2 + 0.15^2$, or three of four.
# People agree about as often, over all their pairs; with equal pairs counted, our annotators would agree less often.
# Another forty beginnings, with their own texts, are held out.
# (Some beginnings occur in several of this chapter's sets; the texts are always new.)


# %%
def compare(n, seed):
    """Return pairs of answers to n beginnings, as an annotator prefers them."""
    prompts = beginnings(n, seed)
    generator = torch.Generator().manual_seed(seed)
    four_each = [prompt for prompt in prompts for _ in range(4)]
    texts = answer(base, four_each, N_TOKENS, generator=generator).texts
    candidates = [(p.text, texts[4 * i : 4 * i + 4]) for i, p in enumerate(prompts)]
    return preferences.sample_pairs(
        candidates, generator, agreement=0.85, pairs_per_prompt=4, reward=vividness
    )


# %% tags=["nbval-ignore-output"]
pairs, held_out = compare(100, seed=0), compare(40, seed=1)
print(f"{len(pairs)} pairs to learn from, {len(held_out)} held out")

# %% [markdown]
# On average, the chosen texts have more points than the rejected ones.

# %% tags=["nbval-ignore-output"]
chosen_points = sum(pair.gold_chosen for pair in pairs) / len(pairs)
rejected_points = sum(pair.gold_rejected for pair in pairs) / len(pairs)
mean_points = (chosen_points + rejected_points) / 2
gap = chosen_points - rejected_points
print(f"points on average: {mean_points:.1f}")
print(f"the chosen text has {gap:.1f} points more than the rejected one")

# %% [markdown]
# Even the points cannot predict everything that the annotator says of the held-out pairs: of those with equal points, only half can be guessed right.

# %% tags=["nbval-ignore-output"]
rate = preferences.agreement_rate(held_out)  # of pairs with different points
equal = sum(pair.gold_chosen == pair.gold_rejected for pair in held_out)
ceiling = (rate * (len(held_out) - equal) + equal / 2) / len(held_out)
print(f"held-out pairs with equal points: {equal}")
print(f"in the others, the annotator agrees with the points in {rate:.0%}")
print(f"so the points themselves predict {ceiling:.0%} of all pairs")

# %% tags=["remove-cell"]
assert (len(pairs), len(held_out)) == (400, 160)

# %% [markdown]
# ### The reward model
#
# Its loss is one line; we check it against the package's on random rewards.

# %%
r_chosen, r_rejected = torch.randn(2, 5, generator=generator)
mine = -logsigmoid(r_chosen - r_rejected).mean()
assert_close(mine, losses.bradley_terry_loss(r_chosen, r_rejected))
print(f"{mine:.2f} nats per pair")

# %% [markdown]
# The result is near $\ln 2$, the loss of equal rewards, only by chance.
#
# The model starts as a copy of `base-llm-small`, so it already knows the language.
# With `pooling="mean"`, its head reads the mean of all token vectors.

# %%
train_pairs = preferences.tokenize_pairs(pairs, tokenizer)
test_pairs = preferences.tokenize_pairs(held_out, tokenizer)
reward_model = RewardModel(base, torch.Generator().manual_seed(0), pooling="mean")
n_weights = sum(weight.numel() for weight in reward_model.parameters())
print(f"the reward model has {n_weights / 1e6:.1f} million weights")

# %% [markdown]
# It reads each pair once, sixteen in a step.
# (The training loop watches eight held-out pairs, from which it does not learn.
# It also pulls the rewards gently towards zero, because the pairs fix only differences.)

# %% tags=["nbval-ignore-output"]
config = RewardConfig(steps=25, learning_rate=7e-4, warmup_steps=3, eval_interval=25)
shuffle = torch.Generator().manual_seed(0)
train_reward_model(reward_model, train_pairs, test_pairs[:8], config, shuffle)
_ = reward_model.eval()

# %% [markdown]
# We count how often the reward model prefers the chosen answer of a held-out pair.
# The 160 pairs are not 160 independent cases, since every four share a beginning and its texts.
# So we first average over each beginning, and the interval counts forty cases.

# %% tags=["nbval-ignore-output"]
chosen, rejected = pair_rewards(reward_model, test_pairs)
right = (chosen > rejected).double().view(40, 4).mean(dim=1)  # for each beginning
low, high = bootstrap_interval(right, torch.Generator().manual_seed(0))
print(f"right in {right.mean():.0%} of held-out pairs", end=" ")
print(f"(95% interval: {low:.0%} to {high:.0%})")

# %% tags=["remove-cell"]
assert right.mean() > 0.55

# %% [markdown]
# Guessing would give half.
# A reward model also says how sure it is: by the Bradley–Terry model, one answer is preferred with probability $\sigma$ of the difference of rewards.
# It is **{term}`calibrated <calibration>`** if it is right in 70 of 100 pairs about which it is 70 % sure.

# %% tags=["nbval-ignore-output"]
confidence = (chosen - rejected).abs().sigmoid().mean()
print(f"{confidence:.0%} sure on average, right in {right.mean():.0%}")

# %% tags=["remove-cell"]
assert confidence < right.mean()

# %% [markdown]
# In this one run, our model doubts itself too much: in 25 steps its rewards have hardly moved apart.
# For these pairs, the best we can hope for is what the points themselves predict, printed above: nobody can predict the annotator's errors.
# The course also comes with `reward-model`, which was trained for far longer.
# Its card compares how sure it is with how often it is right, on 3,500 other pairs, in five classes, and gives the best that could be hoped for there.
# The reward model of InstructGPT, far larger than ours, was right in 72 % of pairs, and in 70 % for annotators it had not learned from {cite:p}`ouyang2022`.
# Its annotators agreed with each other in 73 to 77 %.

# %% [markdown]
# ### GRPO, step by step
#
# **Sample.**
# The tasks are a hundred beginnings.
# A batch has eight of them, with four answers to each.

# %%
tasks = beginnings(100, seed=5)


def sample(policy, generator):
    """Return four answers to each of eight beginnings, side by side."""
    eight = torch.randperm(len(tasks), generator=generator)[:8].tolist()
    prompts = [tasks[i] for i in eight for _ in range(4)]
    return answer(policy, prompts, N_TOKENS, generator=generator)


# %% tags=["nbval-ignore-output"]
batch = sample(base, generator)
print(f"{len(batch)} answers; shape of the ids: {tuple(batch.ids.shape)}")
print(f"sampled tokens: {int(batch.answer_mask.sum()):,}")

# %% [markdown]
# `batch` holds **{term}`rollouts <rollout>`**: ids, a mask of the sampled tokens, and the log-probability of each sampled token.
#
# **Reward.**
# The reward model reads each beginning with its answer and returns one number.

# %% tags=["nbval-ignore-output"]
reward = text_reward(reward_model, tokenizer)


def prompt_texts(batch):
    return [prompt.text for prompt in batch.prompts]


scores = reward(prompt_texts(batch), batch.texts)
print(
    "rewards of the first group:", ", ".join(f"{score:+z.2f}" for score in scores[:4])
)

# %% [markdown]
# **Advantage.**
# Each answer is compared with the answers to its own prompt.
#
# ![Two scales of rewards from 0 to 8, one for each prompt, with four dots each. First prompt: 5, 6, 6, 7, mean 6, advantages minus 1.22, zero, plus 1.22. Second prompt: three dots at 1, one at 5, mean 2, advantages minus 0.50 and plus 1.50. The dots at 5 are coloured.](figures/advantages-in-two-groups.svg)
#
# *A reward of 5 (coloured) is the worst of one group and the best of the other.*
#
# The second group has the lower rewards, but its best answer has the higher advantage: it stands alone above three equal ones.


# %%
def advantages(scores):
    """Return how far each reward is above its group's mean, in deviations."""
    groups = scores.view(-1, 4)
    centred = groups - groups.mean(dim=1, keepdim=True)
    spread = groups.std(dim=1, keepdim=True) + 1e-4  # against division by zero
    return (centred / spread).flatten()


# %%
example = torch.tensor([7.0, 6.0, 6.0, 5.0, 1.0, 1.0, 1.0, 5.0])
for group in advantages(example).view(-1, 4):
    print("advantages:", ", ".join(f"{advantage:+.2f}" for advantage in group))

# %% [markdown]
# The package agrees.
# RLOO's distance from the mean of the others is 4/3 times the distance from the mean of all four.

# %% tags=["hide-input"]
assert_close(advantages(example), losses.group_advantages(example, group_size=4))
from_all, from_others = 7 - (7 + 6 + 6 + 5) / 4, 7 - (6 + 6 + 5) / 3
assert math.isclose(from_others, 4 / 3 * from_all)

# %% [markdown]
# **Loss.**
# Each sampled token has one value; we average over each answer, and then over the answers.


# %%
def policy_loss(log_probs, old_log_probs, reference, advantage, mask, kl_coef):
    """Return GRPO's loss, from log-probabilities of the sampled tokens."""
    ratio, delta = (log_probs - old_log_probs).exp(), log_probs - reference
    unclipped = ratio * advantage[:, None]
    clipped = ratio.clamp(0.8, 1.2) * advantage[:, None]
    penalty = (-delta).exp() - 1 + delta
    token_loss = kl_coef * penalty - torch.minimum(unclipped, clipped)
    return ((token_loss * mask).sum(dim=1) / mask.sum(dim=1)).mean()


# %% [markdown]
# The test gives it log-probabilities that have moved, so that some tokens are clipped.

# %% tags=["hide-input"]
mask, old_log_probs = batch.answer_mask, batch.log_probs
moved = old_log_probs + 0.3 * torch.randn(mask.shape, generator=generator) * mask
inputs = (moved, old_log_probs, old_log_probs, advantages(scores), mask)
theirs = losses.grpo_loss(*inputs, clip_range=0.2, kl_coef=0.1)
assert theirs.clip_fraction > 0.1
assert_close(policy_loss(*inputs, kl_coef=0.1), theirs.loss)

# %% [markdown]
# **Step.**
# The gradient is shortened if it is longer than 1, and then the optimizer moves the weights.


# %%
def step(policy, optimizer, loss):
    """Make one update."""
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()


# %% [markdown]
# Now the loop: sample, reward, advantage, loss, step.
# A `Scorer` reads answers that are already written and returns the log-probabilities of their tokens, with gradients.
# Each batch is used once, so every ratio is 1 and nothing is clipped.
# The loss still has a gradient: at a ratio of 1, the gradient of $\rho_t$ is that of $\ln \pi(y_t)$.
# PPO and many GRPO runs take several steps on each batch; then the ratios move.
# The learning rate is four times the one in [The whole pipeline, once](pipeline.ipynb), so that damage shows within twelve rounds.
# There, with the smaller rate and a penalty, the points rose.
#
# We want to look at every round later, so `measure` returns its means and its texts for `grpo` to keep.


# %%
def measure(batch, reference, scores):
    """Return KL, mean reward, mean points and whole texts of a batch."""
    kl = (batch.log_probs - reference).sum(dim=1).mean().item()
    prompts = prompt_texts(batch)
    gold = sum(map(vividness, prompts, batch.texts)) / len(batch)
    texts = [prompt + text for prompt, text in zip(prompts, batch.texts)]
    return kl, scores.mean().item(), gold, texts


# %%
def grpo(kl_coef, seed, rounds=12):
    """Return a policy and the records of its rounds."""
    policy, generator = copy.deepcopy(base), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-3, weight_decay=0)
    records = []
    for number in range(rounds):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (number + 1) / 4)  # warm-up
        batch = sample(policy, generator)
        ids, mask, old = batch.ids, batch.answer_mask, batch.log_probs
        scores = reward(prompt_texts(batch), batch.texts)
        with torch.no_grad():
            reference = Scorer(base)(ids, mask).log_probs
        now = Scorer(policy)(ids, mask).log_probs
        loss = policy_loss(now, old, reference, advantages(scores), mask, kl_coef)
        step(policy, optimizer, loss)
        records.append(measure(batch, reference, scores))
    return policy, records


# %% [markdown]
# ### DPO
#
# DPO needs the log-probability of whole answers: the sum over their tokens.
# (Our answers were cut off after forty tokens; the end mark that the package adds to each was never sampled, so we leave it out.)


# %%
def answer_log_probs(model, pairs):
    """Return the log-probabilities of chosen and rejected answers: two rows."""
    texts = [text for pair in pairs for text in pair.texts()]
    starts = torch.tensor([len(pair.prompt) for pair in pairs for _ in range(2)])
    ends = torch.tensor([len(text) for text in texts])
    ids = pad_sequence(texts, batch_first=True)
    place = torch.arange(ids.shape[1])
    mask = (place >= starts[:, None]) & (place < ends[:, None] - 1)
    return Scorer(model)(ids, mask).log_probs.sum(dim=1).view(-1, 2).T


# %% [markdown]
# DPO uses the reward model's loss, with implicit rewards in place of learned ones.
# At the start, policy and reference are the same, so every pair has the loss $\ln 2$.


# %%
def dpo_loss(policy, reference, beta):
    """Return DPO's loss, from log-probabilities of chosen and rejected answers."""
    chosen, rejected = beta * (policy - reference)  # implicit rewards
    return -logsigmoid(chosen - rejected).mean()


# %%
with torch.no_grad():
    before = answer_log_probs(base, train_pairs)
first_loss = dpo_loss(before, before, beta=0.1)
print(f"at the start {first_loss:.2f} nats per pair")
assert_close(first_loss, torch.tensor(2.0).log())

# %% tags=["hide-input"]
after = before + torch.randn(before.shape, generator=generator)
theirs = losses.dpo_loss(*after, *before, beta=0.1).loss
assert_close(dpo_loss(after, before, beta=0.1), theirs)

# %% [markdown]
# The training is a plain loop over the pairs.
# It samples nothing and asks no reward model.


# %%
def dpo(seed, beta=0.1, steps=25):
    """Return a policy that has read each pair once."""
    policy, generator = copy.deepcopy(base), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-4, weight_decay=0)
    order = torch.randperm(len(train_pairs), generator=generator).view(steps, -1)
    for rows in order.tolist():
        now = answer_log_probs(policy, [train_pairs[i] for i in rows])
        step(policy, optimizer, dpo_loss(now, before[:, rows], beta))
    return policy


# %% [markdown]
# ## Experiment
#
# ### Reward hacking, live
#
# *Predict*: the policy is now trained to earn what the reward model gives, and nothing holds it back.
# What will happen to the learned reward, and what will happen to the points?
#
# :::{dropdown} Answer
# The learned reward rises.
# The points hold steady or rise at first, but in the last round they are below where they began.
# How fast and how far they fall varies widely from seed to seed.
# :::

# %% tags=["nbval-ignore-output"]
hacked, records = grpo(kl_coef=0, seed=0)
print("round  KL (nats)  learned reward  points")
for number in (0, 3, 5, 7, 9, 11):
    kl, proxy, gold, _ = records[number]
    print(f"{number + 1:5} {kl:z10.1f} {proxy:+z15.2f} {gold:7.1f}")

# %% [markdown]
# The reward model likes the last texts better than the first; by the points, they are worse.
# In the last rounds the learned reward falls a little, too, but not to where it began.
# (Each row is a single batch of 32 texts, so the numbers jump around.)
# Here are some of the last texts.

# %% tags=["nbval-ignore-output"]
last_texts = records[-1][-1]
for text in last_texts[::8]:
    print(fill(text, 80) + "\n")

# %% [markdown]
# To count the broken texts, we ask the grammar of the tales whether a tale can begin like that.


# %%
def could_be_a_tale(text):
    """Return whether a tale can begin so; the last word may have been cut off."""
    try:
        tales.world().prefix_log_prob(text.rsplit(" ", 1)[0])
    except ValueError:
        return False
    return True


# %% tags=["nbval-ignore-output"]
for number in (0, 11):
    n_whole = sum(map(could_be_a_tale, records[number][-1]))
    print(f"round {number + 1}: {n_whole} of 32 texts could begin a tale")

# %% tags=["remove-cell"]
assert sum(map(could_be_a_tale, records[0][-1])) > 24

# %% [markdown]
# A text may read well at first sight, yet no tale could begin like that.
# The next cell compares the rewards of whole and of broken texts.

# %% tags=["nbval-ignore-output"]
whole = [text for text in records[0][-1] if could_be_a_tale(text)]
broken = [text for text in last_texts if not could_be_a_tale(text)]
print("texts             number  mean learned reward")
for name, texts in (("whole, round 1", whole), ("broken, round 12", broken)):
    mean = reward([""] * len(texts), texts).mean() if texts else math.nan
    print(f"{name:17} {len(texts):6} {mean:+20.2f}")

# %% [markdown]
# This is **{term}`reward hacking`**: more reward for what nobody wanted.
# The reward model learned from texts that were nearly all well formed.
# The chosen ones had about one more adjective on average; it could learn that, and anything else in which they differed by chance.
# It never learned what a broken sentence is worth, so it rates one by whatever its few pairs happen to imply.
# Even words that aren't adjectives can pay off (exercise 5).
# And the policy has moved to where the reward model errs in its favour.
# This run doesn't show how much of the damage large steps alone would have done.
#
# When people optimise a measure, it stops measuring what they wanted: this is known as **Goodhart's law**.
#
# ### What the penalty buys
#
# *Predict*: we train three policies without the KL term and three with it, at $\beta = 0.1$.
# The seeds decide the tasks and the samples; all six learn from the one reward model above.
# With the penalty, will the policy earn less of the learned reward?
# Will it stay nearer to where it began?
#
# :::{dropdown} Answer
# It earns about as much, and on average it stays nearer, though not with every seed.
# Without the penalty the points vary widely from run to run; three runs of each are too few to say whether it helps.
# [Reward hacking and mode collapse](reward_hacking.ipynb) has more runs.
# :::

# %% tags=["nbval-ignore-output"]
penalised, penalised_records = grpo(kl_coef=0.1, seed=0)
runs = {0: [records], 0.1: [penalised_records]}
for kl_coef in runs:
    for seed in (1, 2):
        runs[kl_coef].append(grpo(kl_coef, seed)[1])
print(", ".join(f"{len(own)} runs with β = {kl_coef}" for kl_coef, own in runs.items()))

# %% [markdown]
# Single rounds jump around, so the table has means over the last three.

# %%
KL, PROXY, POINTS = range(3)  # places in a record


def late(run, place):
    """Return the mean of one entry over the last three rounds."""
    return sum(record[place] for record in run[-3:]) / 3


# %% tags=["nbval-ignore-output"]
print("  β  seed  KL (nats)  learned reward  points")
for kl_coef, own in runs.items():
    for seed, run in enumerate(own):
        kl, proxy, gold = late(run, KL), late(run, PROXY), late(run, POINTS)
        print(f"{kl_coef:3} {seed:5} {kl:z10.1f} {proxy:+z15.2f} {gold:7.1f}")

# %% tags=["remove-cell"]
assert sum(late(run, POINTS) for run in runs[0]) / 3 < mean_points - 0.5
kl_free, kl_penalised = (sum(late(run, KL) for run in own) for own in runs.values())
assert kl_free > kl_penalised
for own in runs.values():
    assert all(late(run, PROXY) > run[0][PROXY] + 0.05 for run in own)

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"image": {"alt": "Two panels over twelve rounds, each with two lines and their bands. Left, the learned reward: both lines rise, close together until round 6; the line with the penalty goes on rising to the end. Right, the points: both lines begin at the dotted level of usual texts and fall from round 5 on, with the penalty more slowly; the band without it becomes very wide, from far below to above the dotted line."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.6))
for ax, place, label in zip(axes, (PROXY, POINTS), ("learned reward", "gold (points)")):
    for (kl_coef, own), style in zip(runs.items(), ("-", "--")):
        values = torch.tensor([[record[place] for record in run] for run in own])
        values = values.unfold(1, 3, 1).mean(dim=2)  # of three rounds
        at = range(2, 12)
        (line,) = ax.plot(at, values.mean(0), style, label=f"β = {kl_coef}")
        ends = values.amin(0), values.amax(0)
        ax.fill_between(at, *ends, color=line.get_color(), alpha=0.2)
    _ = ax.set(xlabel="round", ylabel=label)
axes[1].axhline(mean_points, color="0.45", linestyle=":", linewidth=1)
_ = [plotting.label_lines(ax) for ax in axes]

# %% [markdown]
# *Means of three seeds, over three rounds each, drawn at the middle one; the bands reach from the lowest to the highest seed.
# Dotted: the mean points of the compared texts.*
#
# After the same number of rounds, the policies with the penalty are nearer to the start on average.
# They also have more points on average, but three seeds are too few to rely on it.
# The penalty does not hold them for good: the section on DPO and best of n, below, judges one of them after its last round.
# On a token that has become more probable, GRPO pulls back by at most $\beta = 0.1$; advantages are about 1, so they can win.
# On average the points fell more slowly with the penalty, but that too may be chance: in the table above, the run with the most points left, seed 0, had no penalty.
# And the penalty makes the reward model no wiser.
#
# ### Explore: what was written on the way
#
# Here is each round of the six runs, with two of its texts.
# Step through a run without a penalty: in which round would you have noticed, by reading, that something is wrong?
# Does the learned reward tell you?
# Then read a run with the penalty in the same rounds.

# %% tags=["nbval-ignore-output"]
followed = {}
for kl_coef, own in runs.items():
    for seed, run in enumerate(own):
        stops = []
        for number, (kl, proxy, gold, texts) in enumerate(run, start=1):
            stops.append(Stop(number, kl, proxy, gold, "\n\n".join(texts[:2])))
        followed[f"β = {kl_coef}, seed {seed}"] = stops
StoppingExplorer(followed, unit="round")

# %% [markdown]
# ### GRPO beside DPO and best of n
#
# The simplest use of a reward model trains nothing: sample $n$ answers and keep the one with the highest reward.
# This is **{term}`best of n`**, the baseline that any training has to beat.
# Two controls don't choose: the base model at a temperature of 0.5, and the first of eight answers, whatever its reward.
# All get the same 64 beginnings; some of them also occur among the tasks or in the compared pairs.

# %%
exam = beginnings(64, seed=9)


def write_exam(policy, n=1):
    """Return the beginnings of the exam, each n times, and answers to them."""
    prompts = [prompt for prompt in exam for _ in range(n)]
    generator = torch.Generator().manual_seed(0)
    batch = answer(policy, prompts, N_TOKENS, generator=generator)
    return prompt_texts(batch), batch.texts


# %% [markdown]
# The next function judges such answers: by the reward model, by their points, by how many are well formed, and by how many different words they use.


# %%
def judged(name, prompts, texts):
    """Print what answers are worth, the points with one standard error."""
    gold = torch.tensor([*map(vividness, prompts, texts)])
    error = gold.std() / len(gold) ** 0.5
    n_whole = sum(could_be_a_tale(p + text) for p, text in zip(prompts, texts))
    proxy = reward(prompts, texts).mean()
    n_words = len(set(" ".join(texts).split()))
    print(
        f"{name:15} proxy {proxy:+.2f}, {gold.mean():.1f} ± {error:.1f} points", end=""
    )
    print(f", {n_whole / len(texts):.0%} well formed, {n_words} different words")


# %% [markdown]
# First the base model, at temperature 1 and at 0.5.

# %% tags=["nbval-ignore-output"]
judged("base-llm-small", *write_exam(base))
cooler = copy.deepcopy(base)
cooler.norm.weight.data /= 0.5  # its logits are twice as large
judged("temperature 0.5", *write_exam(cooler))

# %% [markdown]
# Now it writes eight answers to each beginning, and the reward model keeps the best of the first four, or of all eight.

# %% tags=["nbval-ignore-output"]
prompts, many = write_exam(base, n=8)
judged("one of 8, any", prompts[::8], many[::8])
rewards_of_many = reward(prompts, many).view(64, 8)
for n in (4, 8):
    kept = rewards_of_many[:, :n].argmax(dim=1)
    best = [many[8 * i + int(k)] for i, k in enumerate(kept)]
    judged(f"best of {n}", prompts[::8], best)

# %% [markdown]
# Here are the two policies of GRPO with seed 0.

# %% tags=["nbval-ignore-output"]
judged("GRPO, β = 0", *write_exam(hacked))
judged("GRPO, β = 0.1", *write_exam(penalised))

# %% [markdown]
# And here is one that DPO trained.

# %% tags=["nbval-ignore-output"]
dpo_policy = dpo(seed=0)
judged("DPO, β = 0.1", *write_exam(dpo_policy))

# %% [markdown]
# By how much has DPO changed the log-probability of a compared answer, on average over 64 pairs?

# %% tags=["nbval-ignore-output"]
print("pairs     chosen  rejected (nats)")
for name, subset in (("learned", train_pairs[:64]), ("held out", test_pairs[:64])):
    with torch.no_grad():
        change = answer_log_probs(dpo_policy, subset) - answer_log_probs(base, subset)
    chosen, rejected = change.mean(dim=1)
    print(f"{name:8} {chosen:+7.1f} {rejected:+9.1f}")

# %% [markdown]
# Best of four gains a point without training any policy; best of eight gains no more here.
# Both controls get about the same points as single answers of `base-llm-small`.
# DPO, which needs no reward model, gains some of what choosing gains.
# The penalty did not hold GRPO: its last policy has no more points than the one without it, and most texts of both are broken.
# Without the penalty the fall of seed 0 was sudden: two rounds before its last, it still had more points than at the start.
# Both GRPO policies use about a third fewer different words than the start: [Reward hacking and mode collapse](reward_hacking.ipynb) has more on this loss of **diversity**.
# (Each trained policy is one run, taken after its last step; the number after ± is one standard error over the 64 texts.)
#
# The last table shows how DPO works.
# Its loss contains only the difference between the two answers.
# On the learned pairs it was mainly the rejected answer that became less probable; on the held-out pairs both did, the rejected one more so.
# The loss doesn't care which.
# After DPO, fewer texts are well formed; with 64 texts from one run, that may still be chance.
#
# ### Three models, one order
#
# The course ships one model from each stage: `base-llm`, which only continues a text, `instruct-llm`, which learned to answer, and `aligned-llm`, which GRPO made of it.
# Its learned reward came from `reward-model`, which has read pairs of whole tales.
# On the course's site, give all of them the same order, with several seeds, and compare what you like with what the reward model likes.
#
# :::{div} llmcourse-comparison
# On the course's site, the three models answer one order here, side by side, and `reward-model` says what it thinks of each.
# Such an order is: *Write a story about a girl named Ella who takes part in a dance contest against Vincent. She lives at the end of the street. She wears a green jumper.*
# Or: *Tell me a tale of Sara, a girl who has to carry four cookies to a sailor. It happens by the river. She likes knitting.*
# :::

# %% [markdown]
# ## Takeaways
#
# RLHF has three steps: supervised fine-tuning, a reward model that learns from comparisons, and a policy that learns to earn its reward.
# By the Bradley–Terry model, comparisons determine differences between rewards.
# How often two people agree is a yardstick for a reward model; its upper limit is how often the best possible guess agrees with one annotator's label.
# Its accuracy tells us nothing about other kinds of text.
# GRPO repeats sample, reward, advantage, loss, step, and compares each answer with the mean of its group.
# PPO gets the expected reward from a critic; DPO needs neither a reward model nor samples, since a policy implies a reward.
# An optimised policy finds what the reward model overrates.
# With three seeds, a KL penalty kept it nearer to the start on average, but did not hold it; a penalty can't mend the reward.
#
# *In practice*: people compare tens of thousands of answers, and the policies are hundreds to tens of thousands of times as large {cite:p}`stiennon2020,ouyang2022`.
# New comparisons are collected on what the policy now writes, so that the reward model learns where it was hacked.
# GRPO was introduced for mathematics, with trained reward models {cite:p}`shao2024`.
# Where a program can check the result, the check itself can be the reward, which is harder to fool.
# Tülu 3 named this *reinforcement learning with verifiable rewards*, **{term}`RLVR`** {cite:p}`lambert2024`; DeepSeek-R1 learned long chains of thought from it, by GRPO {cite:p}`guo2025`.
# The chapter [Reasoning: rewards that can be checked](reasoning.ipynb) does this with sums in words.
#
# Later recipes change GRPO's loss.
# {cite:t}`liu2025r1` do not divide by the deviation, because that gives more weight to prompts that are nearly always or nearly never solved.
# Nor do they divide by the length of each answer, because that punishes each token of a long wrong answer less.
# DAPO {cite:p}`yu2025` averages over all tokens, gives probabilities more room to rise before the clip, and has no KL penalty.
# DPO has variants, too.
# Its loss still falls when the gap between the two implicit rewards grows, even for a pair that the policy already ranks clearly.
# IPO aims at a fixed gap {cite:p}`azar2024` (`llmcourse align --method dpo --loss ipo`).
# KTO learns from single answers that are marked good or bad {cite:p}`ethayarajh2024`, and ORPO {cite:p}`hong2024` and SimPO {cite:p}`meng2024` need no reference model.
#
# The next chapter, [Reward hacking and mode collapse](reward_hacking.ipynb), asks how far a learned reward carries, and what is lost on the way.

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
# ### Exercise 1 (check): from wins to rewards ★
#
# One answer was preferred to another `wins` times, and the other `losses` times.
# What difference between their rewards makes that most probable?
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
# ### Exercise 2 (derive): the best policy ★★
#
# A prompt has a handful of possible answers.
# Given the reference's probabilities, the rewards and $\beta$, which policy has the highest mean reward, less $\beta$ times its KL divergence from the reference?
# Write the aim as $-\beta D_\text{KL}(\pi \,\|\, q)$ plus a constant, for a distribution $q$ that you find on the way.
#
# ```python
# def best_policy(reference, rewards, beta):
#     return probs
# ```
#
# Check it with `checks.best_policy(best_policy)`; it must also work for a reward of 1,000.
# What becomes of that policy if $\beta$ goes to zero, or grows without bound?
# Does either repair an answer whose reward is wrong?


# %% tags=["hide-cell", "solution"]
def best_policy(reference, rewards, beta):
    # Σ π r − β Σ π ln(π / ref) = −β Σ π ln(π / (ref e^(r/β))), so q ∝ ref e^(r/β)
    reference, rewards = torch.tensor([reference, rewards], dtype=torch.float64)
    return (reference.log() + rewards / beta).softmax(dim=0).tolist()


checks.best_policy(best_policy)
# β → 0: only the answer with the highest reward, however improbable it was; large β:
# the reference. Neither mends a wrong reward; a large β only gives it less weight.

# %% [markdown]
# ### Exercise 3 (build): who earned it? ★★
#
# PPO's critic expected `values` before each token of an answer, and the tokens earned `rewards`.
# The *error* of such an expectation is the token's reward, plus what is expected after it, minus what was expected before it.
# After the last token nothing is expected.
# A token's advantage is its own error, plus $\lambda$ times the next token's, $\lambda^2$ times the one after that, and so on.
# This is **generalised advantage estimation**, GAE {cite:p}`schulman2016`.
#
# ![Three tokens between four expectations: 4, 5, 6, and 0 after the last. Rewards 0, minus 1, plus 8. Errors 0 plus 5 minus 4, plus 1; minus 1 plus 6 minus 5, zero; 8 plus 0 minus 6, plus 2. Advantages plus 1.5, plus 1 and plus 2; each is passed on to the token before it, times one half.](figures/who-earned-it.svg)
#
# *An example with $\lambda = 1/2$: token 2 was as good as expected, but gets an advantage from what came after it.*
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
# ### Exercise 4 (build): rejection sampling ★★
#
# Between best of $n$ and GRPO there is a third way.
# Sample four answers to each of 64 tasks, and keep the one of each four that the reward model likes best.
# Fine-tune on the kept answers, with the loss from the chapter [Instruction tuning](instruction_tuning.ipynb), and sample again from the new policy.
# This is **rejection sampling**, or best-of-n fine-tuning; it needs 20 to 40 lines.
# Use `tasks[:64]` and AdamW with a rate of 3e-4: two rounds, each of 16 steps with four of the kept texts.
# Measure the result with `judged`.
# Which of the five steps of GRPO does it lack, and what keeps the policy near its start?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
def best_of_four(policy, subset, generator):
    """Return the best of four answers to each task, as ids and mask."""
    prompts = [task for task in subset for _ in range(4)]
    batch = answer(policy, prompts, N_TOKENS, generator=generator)
    scores = reward(prompt_texts(batch), batch.texts).view(-1, 4)
    rows = 4 * torch.arange(len(subset)) + scores.argmax(dim=1)
    return batch.ids[rows], batch.answer_mask[rows]


def rejection_sampling(rounds=2, steps=16):
    """Return a policy that was fine-tuned on its own best answers."""
    policy, generator = copy.deepcopy(base), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-4, weight_decay=0)
    for _ in range(rounds):
        ids, mask = best_of_four(policy, tasks[:64], generator)
        for rows in torch.randperm(64, generator=generator).view(steps, -1):
            log_probs = Scorer(policy)(ids[rows], mask[rows]).log_probs
            step(policy, optimizer, -log_probs.sum() / mask[rows].sum())
    return policy


judged("two rounds", *write_exam(rejection_sampling()))
# It lacks the advantage: what is kept counts one, all else nothing. So no bad answer is
# pushed down; the others lose only what the kept ones gain. No penalty holds the policy;
# it should move little, for it imitates itself.

# %% [markdown]
# ### Exercise 5 (explore): fool the reward model by hand ★★★
#
# Continue `first.text` with a text that no reader would take for a tale, but that earns more than every answer in `many`.
# (They have other beginnings, and pairs compare only texts with the same one, so this is a rough yardstick.)
# In which texts would you look for words that pay off?
# What would you add to the comparisons so that the next reward model isn't fooled this way?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
words = " ".join(last_texts).split()  # what the policy found
frequent = sorted(set(words), key=words.count, reverse=True)[:40]
tries = [(" " + word) * 30 for word in frequent]
scores = reward([first.text] * len(tries), tries)
for i in scores.argsort(descending=True)[:3]:
    print(f"{scores[i]:+.2f} for 30 times {frequent[i]!r}")
print(f"{rewards_of_many.max():+.2f} for the best of {len(many)} real answers")
# Nobody compared such texts. Comparisons in which they lose would help, until the next
# policy finds something else.

# %% [markdown]
# ## Sources
#
# Paired comparisons are from {cite:t}`bradley1952`.
# Learning a reward from people's comparisons with deep networks is from {cite:t}`christiano2017`; for language models, with a KL penalty, from {cite:t}`ziegler2019`, {cite:t}`stiennon2020` and {cite:t}`ouyang2022`.
# PPO is from {cite:t}`schulman2017`, its advantages from {cite:t}`schulman2016`; DPO from {cite:t}`rafailov2023`; GRPO from {cite:t}`shao2024`, who take their estimate of the KL divergence from a note by John Schulman; RLOO from {cite:t}`kool2019`, and for language models from {cite:t}`ahmadian2024`.
# Best of n and rejection sampling are compared with PPO by {cite:t}`touvron2023b`.
# A whole book on the subject is {cite:t}`lambert2025`.
