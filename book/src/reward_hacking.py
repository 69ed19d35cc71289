# %% [markdown]
# (reward-hacking)=
# # Reward hacking and mode collapse
#
# A policy that is optimised for too long loses what people wanted, and often its variety too; cheap baselines show what the optimisation was worth.
#
# **You will be able to**
#
# - compare policies at the same distance from their start, over several seeds,
# - recognise over-optimisation in a study, and say what a KL penalty buys,
# - set an aligned model beside cheap baselines: a lower temperature, the best of n,
# - measure diversity, and recognise mode collapse.
#
# **You need** the chapter [Learning from preferences: RLHF](rlhf.ipynb).
#
# **Takes** about 45 minutes to read with the code.
#
# **Runs in** about a minute on one processor core.

# %% [markdown]
# ## Setup

# %% tags=["hide-input"]
import json
import math
from collections import Counter
from functools import partial
from statistics import fmean, stdev
from textwrap import fill
from types import SimpleNamespace

import matplotlib.pyplot as plt
import torch
from torch.testing import assert_close

from llmcourse import plotting
from llmcourse.alignment import preferences
from llmcourse.alignment.evaluation import EDGES, Curve, StudyPoint, band_of, curves_of
from llmcourse.alignment.gold_reward import gold_reward, valid_part
from llmcourse.alignment.reward_model import load_reward_model, text_reward
from llmcourse.alignment.rollouts import sample_rollouts
from llmcourse.alignment.surprisal import SurprisalReader
from llmcourse.checks import reward_hacking as checks
from llmcourse.intervals import bootstrap_interval, wilson_interval, win_rate
from llmcourse.model.folders import find_model, load_pretrained
from llmcourse.plotting import plot_against_kl
from llmcourse.studies import stored_study
from llmcourse.text import tales
from llmcourse.widgets.stopping import Stop, StoppingExplorer

plotting.use_course_style()
_ = torch.set_num_threads(1)

# %% [markdown]
# ## The problem
#
# `aligned-llm` was made from `instruct-llm` by GRPO, with a reward model that learned from comparisons of whole stories.
# A rule, `gold_reward`, takes the place of people: it gives a story 0 to 10 points ([Learning from preferences: RLHF](rlhf.ipynb)).
# On average, stories by `aligned-llm` earn more points than those by `instruct-llm`.
# We give both eight orders for a tale in which somebody makes a present, and each writes four stories to each order.
# Here is one of the orders, with the first story by each model.

# %%
start, tokenizer = load_pretrained("instruct-llm")
aligned, _ = load_pretrained("aligned-llm")
end = preferences.end_of_answer(tokenizer)
write = partial(sample_rollouts, max_new_tokens=260, tokenizer=tokenizer, stop=[end])
orders = preferences.exam_prompts(160, tokenizer)
presents = [each for each in orders if " makes " in each.text]
orders = orders[:8]  # for later, of all kinds
order = presents[0]
print(len(presents), "orders for a present, such as:\n")
print(fill(order.text, 80))

# %% tags=["nbval-ignore-output"]
stories = {}
for name, model in (("instruct-llm", start), ("aligned-llm", aligned)):
    seeded = torch.Generator().manual_seed(0)
    stories[name] = write(model, presents * 4, generator=seeded).texts
    text = stories[name][0]
    points = gold_reward(order.text, text)
    print(f"{name}, {points:.1f} points:\n{fill(text, 80)}\n")

# %% [markdown]
# In our run, both stories earn many points, but only the first is about a necklace.
# For each story that holds together, `tales.parse` says which plot it has; that of making a present is called *gift*.
# We count the plots, and take the mean of the points.


# %% tags=["nbval-ignore-output"]
def plot(text):
    """Return the plot of a story, or "breaks" if it is none."""
    try:
        return tales.parse(text).facts["plot"]
    except ValueError:
        return "breaks"


plots = {name: Counter(map(plot, texts)) for name, texts in stories.items()}
for name, counts in plots.items():
    earned = (gold_reward(p.text, text) for p, text in zip(presents * 4, stories[name]))
    print(f"{name:13} {fmean(earned):.1f} points;", end=" ")
    print(", ".join(f"{kind} {n}" for kind, n in counts.most_common()))

# %% tags=["remove-cell"]
assert len(presents) == 8 and plots["instruct-llm"]["breaks"] > 8
assert plots["aligned-llm"]["gift"] < 5 < plots["instruct-llm"]["gift"]

# %% [markdown]
# In our run, `instruct-llm` breaks more than half of these stories.
# `aligned-llm` breaks only a few and earns twice as many points, but none of the 27 that hold together is about a present: all tell how something is carried to somebody (*basket*).
# All that an order names, apart from its ending, is worth one point of ten together, while a story that breaks loses at least half of its points.
# So the policy earns most with another tale, one that it seldom breaks.
# The mean reward doesn't show this.
# So this page asks two questions: what was gained, compared with cheap ways, and what was lost?
#
# ## By hand
#
# A prompt has five possible answers.
# The reward model gives the *proxy*; people would give the *gold*.
# Answer E is a hack.
#
# | answer | A | B | C | D | E |
# |---|---|---|---|---|---|
# | proxy | 1 | 2 | 3 | 4 | 9 |
# | gold | 1 | 4 | 6 | 8 | 3 |
#
# Draw $n$ of the five, without putting any back, and keep the one with the highest proxy: the {term}`best of n`.
# With $n = 2$ there are ten ways to draw; E is kept in four of them, D in three, C in two, B in one.
# The mean gold is $(4 \cdot 3 + 3 \cdot 8 + 2 \cdot 6 + 4)/10 = 5.2$.
#
# | n | 1 | 2 | 3 | 4 | 5 |
# |---|---|---|---|---|---|
# | mean proxy | 3.8 | 5.6 | 6.9 | 8.0 | 9.0 |
# | mean gold | 4.4 | **5.2** | 4.8 | 4.0 | 3.0 |
#
# ![Two lines over n from 1 to 5. The proxy rises from 3.8 to 9. Gold rises from 4.4 to 5.2 at n = 2 and then falls to 3.](figures/best-of-five-by-hand.svg)
#
# *In this example, more choice always raises the proxy; gold rises and then falls.*
#
# The reward model is not useless: it ranks A to D as people do.
# A little selection is better than none, but too much finds the hack.
# The next cell checks two columns by drawing at random.

# %%
proxy, gold = torch.tensor([[1.0, 2, 3, 4, 9], [1, 4, 6, 8, 3]])
generator = torch.Generator().manual_seed(0)
for n in (2, 4):
    drawn = torch.rand(20_000, 5, generator=generator).argsort(dim=1)[:, :n]
    highest = proxy[drawn].argmax(dim=1, keepdim=True)
    kept = drawn.gather(1, highest)
    print(f"n = {n}: proxy {proxy[kept].mean():.1f}, gold {gold[kept].mean():.1f}")
    assert abs(gold[kept].mean() - {2: 5.2, 4: 4.0}[n]) < 0.1

# %% [markdown]
# ## The idea
#
# **{term}`Over-optimisation <over-optimisation>`**: past some point, more optimisation of the learned reward lowers what it is meant to measure.
# {cite:t}`gao2023` measured it with a known gold reward, for best of $n$ and for PPO, and found a law for each.
# With $d = \sqrt{D_\text{KL}}$, the gold reward under PPO is about
#
# $$R(d) = R_0 + d\,(\alpha - \beta \ln d).$$
#
# $R_0$ is the gold reward at the start.
# $\alpha$ sets the rise, and $\beta$ bends it down; this is not the $\beta$ of the losses.
# For best of $n$ the law is $R_0 + d\,(\alpha - \beta d)$.
# The KL divergence is the axis because it can be measured and compared for every policy, whatever the learning rate and the number of steps.
# Methods still differ in what they gain per nat.
#
# Best of $n$, which trains nothing, has a place on that axis too: at most $\ln n - (n - 1)/n$ nats, which is 1.8 for $n = 16$ (exercise 1).
#
# **What gets hacked** depends on what raters cannot see or judge.
#
# - *Length*: longer answers seem better, and much of a gain can be length alone {cite:p}`singhal2024`.
# - *{term}`Sycophancy <sycophancy>`*: people like to be agreed with, so models learn to agree, even with what is wrong {cite:p}`sharma2024`.
# - *Errors that nobody notices*: a confident tone pays off, whether or not the answer is right.
#
# **{term}`Mode collapse <mode collapse>`**: the policy writes few kinds of answers, though the reference wrote many.
# This is not an accident of training; the aim itself asks for it.
# Recall the best policy: $\pi^*$ is proportional to $\pi_\text{ref}\, e^{r/\beta}$, where $\beta$ is again what a nat of distance costs.
# With a small $\beta$, a slight preference becomes a certainty.
#
# ![Three groups of bars for four endings with rewards 1, 0.9, 0.8 and 0. Reference: 25 % each. Beta 0.1: 67, 24, 9 and 0 %. Beta 0.02: 99, 1, 0 and 0 %.](figures/small-preference-becomes-certainty.svg)
#
# *The best policy for four endings with the rewards 1, 0.9, 0.8 and 0.
# People liked three of them almost equally.*
#
# **Diversity** has a simple measure, **{term}`distinct-n`** {cite:p}`li2016`: the number of different runs of $n$ words in some texts, divided by the total number of runs.
# (The paper divides by the number of words, which for $n > 1$ is a little larger.)
#
# ![Two sentences, a gentle girl lived here, and a gentle boy lived here. The four runs of two words in each are marked; a gentle and lived here occur in both, so six of the eight runs are distinct.](figures/distinct-runs.svg)
#
# *Distinct-2 of two sentences: 6 of 8.*
#
# Distinct-n falls as texts are added, because language repeats itself, so only equal numbers of texts of equal length can be compared.
#
# | Symbol | Meaning | Unit | Name in code |
# |---|---|---|---|
# | proxy | learned reward, what is optimised | – | `proxy` |
# | gold | what people really want | points | `gold` |
# | $D_\text{KL}$, $d$ | distance from the start, and its square root | nats/answer | `kl` |
# | $n$ | answers that one is chosen from | – | `n` |
#
# ## In code
#
# Distinct-n takes a few lines.


# %%
def distinct(texts, n):
    """Return the share of different runs of n words among all, of some texts."""
    runs = Counter()
    for text in texts:
        words = text.split()
        for i in range(len(words) - n + 1):
            runs[tuple(words[i : i + n])] += 1
    return len(runs) / runs.total()


# %%
two = ["a gentle girl lived here", "a gentle boy lived here"]
print(f"distinct-2 = {distinct(two, 2):.2f}")
assert distinct(two, 2) == 6 / 8

# %% [markdown]
# Best of $n$ is just as short.
# The reward model that comes with the course picks one of eight stories for the order above.

# %% tags=["nbval-ignore-output"]
reward_model, _ = load_reward_model("reward-model")
reward = text_reward(reward_model, tokenizer)
eight = write(start, [order] * 8, generator=torch.Generator().manual_seed(1)).texts
rewards = reward([order.text] * 8, eight)
points = [gold_reward(order.text, text) for text in eight]
best = int(rewards.argmax())
print("points of the eight stories:", ", ".join(f"{p:.1f}" for p in sorted(points)))
print(f"points of the one with the highest reward: {points[best]:.1f}")

# %% [markdown]
# In our run it chooses the best of the eight.
# One order shows little; the section *Cheap baselines* has 256.
#
# ## Experiment
#
# ### A study of twenty-four policies
#
# A study trained twenty-four policies: twelve to compare methods, and twelve to compare numbers of pairs.
# (`python book/studies/rlhf_study.py --out FILE` takes about two hours; its results are stored with the package.)
# In it, `base-llm-small` continues the first words of tales to their end, and gold is `gold_reward`.
# Annotators who agree with gold in 85 of 100 pairs compared four answers to each of 840 beginnings.
# Four answers make six pairs, so there are 5,040 pairs.
# For each of 100, 1,000 and 5,040 pairs we trained four reward models with different seeds; with 100 or 1,000 pairs, each of the four has pairs of its own.

# %%
study = stored_study("rlhf", StudyPoint)
curves = curves_of(study.points)
accuracy = {(p.n_pairs, p.reward_seed): p.accuracy for p in reversed(study.points)}
rates = {}
print("pairs learned  held-out pairs right, four seeds")
for n_pairs in (100, 1000, 5040):
    rates[n_pairs] = [accuracy[n_pairs, seed] for seed in range(4)]
    print(f"{n_pairs:13,} ", ", ".join(f"{rate:.0%}" for rate in rates[n_pairs]))

# %% tags=["remove-cell"]
assert max(rates[100]) < min(rates[5040]) < 0.85

# %% [markdown]
# There are 750 held-out pairs, six for each of 125 beginnings, and six comparisons of the same four stories are not six independent cases.
# If the six told us no more than one does, there would be 125 cases.
# So the right interval lies between the two below.

# %%
for n in (125, 750):
    low, high = wilson_interval(round(n * rates[5040][0]), n)
    print(f"5,040 pairs, first seed, as {n} cases: {low:.0%} to {high:.0%}")

# %% [markdown]
# Fifty times as many comparisons help, but less than you might hope.
# Gold itself would be right in about 85 %, as the annotator errs in the rest; all twelve reward models fall far short of that.
# Here, a story is better mostly because it holds together to its last sentence, and a small model probably misses that a cloak was a different colour before.
#
# *Predict*: PPO, GRPO and DPO learn from the same pairs, four seeds each, all with a penalty on the distance.
# Which gains most at the same distance from the start?
#
# :::{dropdown} Answer
# GRPO, within the first few nats.
# Then it loses all that it gained, and more.
# On average, PPO gains nothing, and DPO loses: half a point as far as it is drawn, and 0.8 points at the end of its four runs.
# :::

# %% tags=["hide-input"] mystnb={"image": {"alt": "Gold reward over the KL divergence for three methods: each is a line, the mean of four seeds, with a band from the lowest to the highest seed. All start at about the same reward. GRPO rises to a peak within the first nats and then falls far below its start. PPO and DPO stay near their start and end a little below it."}}
frontier = {
    method.upper(): [c for r, c in curves.items() if r.method == method and r.cost]
    for method in ("grpo", "ppo", "dpo")
}
fig, ax = plt.subplots(figsize=(4.6, 2.9))
plot_against_kl(ax, {name: band_of(curves) for name, curves in frontier.items()})
assert {len(seeds) for seeds in frontier.values()} == {4}
assert EDGES == (1, 4, 9, 25, 64, 144, 400)
assert all(60 < max(curve.kl) < 400 for curve in frontier["GRPO"])
assert all(max(curve.kl) < 50 for curve in frontier["PPO"])
falls = [curve.gold[0] - curve.gold[-1] for curve in frontier["DPO"]]
assert min(falls) > 0 and round(sum(falls) / 4, 1) == 0.8

# %% [markdown]
# *Means of four seeds; the bands reach from the lowest to the highest.
# Each run was judged many times along the way.
# These evaluations are grouped into classes of KL divergence, with borders at 1, 4, 9, 25, 64, 144 and 400 nats.
# Each run counts once in a class, and a class is drawn only if all four runs were in it.*
#
# On average, only GRPO rises above the start; between 4 and 9 nats, one of its four runs is hardly above it any more.
# GRPO also falls furthest: its penalty of 0.02 did not hold it, and its runs went as far as 67 to 400 nats.
# PPO had a penalty of the same weight and got no further than 50 nats.
# That fits a penalty that grows with the distance, but no PPO was run without one.
# DPO with $\beta = 0.1$ was judged only four times.
# Each method had one setting, so this is not a ranking of methods.
# It does show that with GRPO, the stopping point decides between gain and loss.
#
# ### Over-optimisation
#
# *Predict*: we run GRPO once more, without a penalty and for as many steps, with each of the twelve reward models.
# All learned rewards will go up.
# Which gold rewards will?
#
# :::{dropdown} Answer
# On average, gold rises for all three sizes within the first few nats, but less where the reward model had seen only 100 pairs.
# Then all twelve runs fall, almost to nothing.
# :::

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels over the KL divergence, three lines with bands for reward models of 100, 1,000 and 5,040 pairs. Left, the learned reward: all rise, steeply at first, and the one of 100 pairs highest. Right, the gold reward: all rise to a peak within the first nats, lower with 100 pairs than with 1,000 or 5,040, and then fall to nearly nothing."}}
by_pairs = {
    f"{n:,} pairs": [c for r, c in curves.items() if (r.n_pairs, r.cost) == (n, 0)]
    for n in rates
}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8))
for ax, quantity in zip(axes, ("proxy", "gold")):
    bands = {name: band_of(curves, quantity) for name, curves in by_pairs.items()}
    plot_against_kl(ax, bands, quantity)

# %% [markdown]
# *Left: what is optimised; right: what people want; means and bands of four reward models of each size.*
#
# The next cell prints the first, the highest and the last point of the three lines on the right, in points, with the KL of the highest and of the last.
# These are means of classes; most single runs end farther out.
# (`by_pairs` holds the twelve runs, four for each number of pairs; `frontier` holds those of the first figure, by method.)

# %%
print("reward model  first  highest (four seeds)  at KL  last  at KL (nats)")
for name, runs in by_pairs.items():
    bands = band_of(runs)
    first, last = bands[0], bands[-1]
    top = max(bands, key=lambda band: band.mean)
    print(f"{name:13} {first.mean:5.1f}  {top.mean:.1f} ({top.low:.1f} to", end=" ")
    print(f"{top.high:.1f}) {top.kl:12.0f} {last.mean:5.1f} {last.kl:6.0f}")

# %% tags=["remove-cell"]
for runs in by_pairs.values():
    bands = band_of(runs)
    top = max(band.mean for band in bands)
    assert top > bands[0].mean + 0.3 and bands[-1].mean < 1
    assert all(curve.proxy[-1] > curve.proxy[0] + 0.8 for curve in runs)

# %% [markdown]
# The shape is the one that {cite:t}`gao2023` found: up, over the top, and down, while the learned reward keeps rising.
# (The top is the highest class mean; the highest of many noisy evaluations would be too high.)
# On average the top is lower with 100 pairs, but the bands overlap.
# With 1,000 and with 5,040 pairs it is the same, while seeds of one size differ by a point.
# The scale of a learned reward means nothing by itself.
# The reward models with 100 pairs have read each pair many times, and give the highest rewards.
#
# A weak penalty might raise the top.
# So the next cell compares GRPO with a penalty of 0.02 and without one, in the class of 4 to 9 nats, where the tops were.
# All reward models learned from 5,040 pairs.
# Each of the four runs without a penalty has one of its own.
# Three of those with a penalty share one; the fourth has a copy of it, trained again from the same pairs on another machine, which is also right in 66 % of held-out pairs.

# %%
print("penalty  points (four seeds)  KL (nats)")
for name, runs in (("0.02", frontier["GRPO"]), ("none", by_pairs["5,040 pairs"])):
    [near] = [band for band in band_of(runs) if 4 < band.kl < 9]
    points = f"{near.mean:.1f} ({near.low:.1f} to {near.high:.1f})"
    print(f"{name:8} {points:20} {near.kl:.0f}")

# %% [markdown]
# Four runs of each show no difference, but they would miss a small one.
# {cite:t}`gao2023` found none either: at best, a penalty does what stopping in time would do.
# A penalty is meant to keep the policy where the reward model still judges well; this one was too weak for that.

# %% [markdown]
# ### Explore: where to stop
#
# Here are all policies of the study, one at a time.
# Follow one without a penalty from its start: where would you stop it if you saw only the learned reward?
# And where if you saw gold?
# Then take another seed: what belongs to the shape, and what is just the noise of one evaluation?

# %%
followed = {}
for point in study.points:
    penalty = f"penalty {point.cost}" if point.cost else "no penalty"
    kind = f"{point.method.upper()}, {penalty}, {point.n_pairs:,} pairs"
    stops = followed.setdefault(f"{kind}, seed {point.seed}", [])
    stops.append(Stop(point.step, point.kl, point.proxy, point.gold))
StoppingExplorer(dict(sorted(followed.items())), unit="step")

# %% [markdown]
# ### Cheap baselines
#
# `aligned-llm` was trained by GRPO with a weak penalty; now we ask how much of its gain we can get without training a policy.
# We compare five families of ways to write a story:
#
# - *Start*: `instruct-llm` at temperature 1, and at 0.5, where it makes fewer slips.
# - *Chosen among n*, with nothing trained: the *best of 4* and the *best of 16* by the same reward model.
#   Two controls need no reward model: a *random one of 16*, and the *most probable of 16*, with the highest mean log-probability per token.
# - *Aligned*: `aligned-llm` at both temperatures.
# - *Mean weights*: a model whose every weight is the mean of the start's and the aligned model's, at both temperatures; nothing more is learned.
# - A *ceiling*: the *best of 16 by gold*.
#
# `python book/studies/baselines_study.py --out FILE` carries out orders in all eleven ways; each seed has orders of its own.

# %%
baselines = stored_study("baselines", SimpleNamespace)
by_way = {}
for point in baselines.points:
    by_way.setdefault(point.way, []).append(point)
ways = list(by_way)
print(len(ways), "ways")

# %% [markdown]
# `golds` collects the gold of all stories that one way has written.


# %%
def golds(way):
    """Return the points of a way for all orders, always in the same order."""
    return torch.tensor([gold for point in by_way[way] for gold in point.gold])


n_orders, n_seeds = len(golds(ways[0])), len(by_way[ways[0]])
print(f"{n_seeds} seeds of {n_orders // n_seeds} orders each")

# %% tags=["remove-cell"]
assert n_seeds >= 4

# %% [markdown]
# *Predict*: how much of the gain of `aligned-llm` would four samples and the reward model have given?
# And a lower temperature, which needs no comparisons at all?
#
# :::{dropdown} Answer
# More than all of it; the lower temperature would give about a third.
# In the table and the plot below, compare each with *start, temperature 1*.
# But the aligned model gains from a lower temperature too.
# :::
#
# The intervals treat each order as one case, with one story.
# *Coherent* is the share of stories that hold together to their end, *complete* the share that also have everything their order names, except an ending, which is counted further below.
# *KL* is the distance in nats from the start at temperature 1; for a choice by a score among $n$, it is the upper bound.

# %% tags=["hide-input"]
print("way                      points (95% interval)  coherent  complete     KL")
for way, points in by_way.items():
    low, high = bootstrap_interval(golds(way), torch.Generator().manual_seed(0))
    coherent = sum(point.coherent for point in points) / n_orders
    kl = sum(point.kl for point in points) / n_seeds
    complete = sum(point.complete for point in points) / n_orders
    print(f"{way:29} {golds(way).mean():4.1f} ({low:.1f} to {high:.1f})", end="")
    print(f" {coherent:9.0%} {complete:9.0%} {kl:6.1f}")

# %% [markdown]
# The next plot shows the points and the complete stories of this table.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels with a row for each of the eleven ways, sorted by their mean points. Left, the points with their 95 % intervals, from 5.6 for a random one of 16 to 8.3 for the best of 16 by gold; below that come the best of 16, the aligned model at temperature 0.5, the best of 4, the aligned model at temperature 1, mean weights at 0.5 and at 1, the start at 0.5, the most probable of 16 and the start at 1. Right, the share of complete stories: between 73 and 80 % for a random one of 16, for the start and the mean weights at temperature 1 and for the aligned model at both, and above 85 % for all others."}}
FAMILIES = {  # a part of the ways' names, colour and marker
    "ceiling": ("by gold", "0.4", "v"),
    "aligned": ("aligned", "C1", "D"),
    "mean weights": ("mean", "C2", "^"),
    "start": ("start", "C0", "o"),
    "chosen among n": ("of", "C3", "s"),
}


def family(way):
    """Return the name of a way's family."""
    return next(name for name, (part, *_) in FAMILIES.items() if part in way)


fig, (left, right) = plt.subplots(
    1, 2, figsize=(7, 3.4), sharey=True, width_ratios=(2, 1)
)
from_lowest, dots = sorted(ways, key=lambda way: golds(way).mean()), {}
for row, way in enumerate(from_lowest):
    _, colour, marker = FAMILIES[family(way)]
    ends = bootstrap_interval(golds(way), torch.Generator().manual_seed(0))
    left.plot(ends, (row, row), color=colour)
    (dots[family(way)],) = left.plot(golds(way).mean(), row, marker, color=colour)
    complete = sum(point.complete for point in by_way[way]) / n_orders
    right.plot(complete, row, marker, color=colour)
left.set_yticks(range(len(ways)), from_lowest)
left.set(xlabel="gold (points)")
right.set(xlabel="complete stories", xlim=(0.7, 1))
right.xaxis.set_major_formatter("{x:.0%}")
_ = fig.legend([*dots.values()], [*dots], loc="outside lower center", ncols=5)

# %% tags=["remove-cell"]
share = {way: sum(p.complete for p in by_way[way]) / n_orders for way in ways}
assert share["aligned, temperature 1"] < share["start, temperature 1"] < 0.85
for way in ("best of 4", "best of 16", "start, temperature 0.5"):
    assert share[way] > 0.85
assert dots.keys() == FAMILIES.keys()

# %% [markdown]
# *Left, mean points with their 95 % intervals; right, the share of complete stories.
# In both panels, farther right is better.*
#
# At temperature 1, one answer from the aligned model is worth more than the start's at temperature 0.5, and less than the best of four.
# The best of four also stays much nearer to the start, and far more of its stories are complete; but it writes four stories to keep one.
# So the headline number of a report, *aligned against start*, tells us little about the training: beside it belongs what a few samples would have brought.
#
# At the lower temperature, too, the aligned model is more than a point ahead of its start, so it has learned something besides caution.
# There it is worth nearly as much as the best of sixteen, and writes one answer, not sixteen; but fewer of its stories are complete.
# Always compare two models at the same temperature, and at more than one.
#
# The *most probable of 16* uses no comparisons at all, and yet gains 0.6 points over a *random one of 16*.
# More of its stories hold together, probably because a broken story contains improbable words.
# (More of them also end sadly, as the table below shows, and gold likes that less.)
#
# The reward model chooses far better than chance and nearly as well as gold.
# From four to sixteen, its choice gains another 0.5 points, but slightly fewer of the stories are complete.
#
# The folded cell compares pairs of ways order by order.
# Because some orders are harder than others, this gives narrower intervals for a difference than if the two ways had carried out different orders.
# Most are only a little narrower.
# The one for the best of 16 over the best of 4 is narrower by two fifths, as both choose from the same samples.
# (Differences are rounded after the subtraction.)

# %% tags=["hide-cell"]
start_gold, start_cool = golds("start, temperature 1"), golds("start, temperature 0.5")
best_of_4, best_of_16 = golds("best of 4"), golds("best of 16")
aligned_gold, aligned_cool = (
    golds("aligned, temperature 1"),
    golds("aligned, temperature 0.5"),
)
mean_gold, mean_cool = golds("mean weights, temperature 1"), golds(ways[-1])
print("gain (over the start, if not named) points (95% interval)")
for name, gain in (
    ("temperature 0.5", start_cool - start_gold),
    ("best of 4", best_of_4 - start_gold),
    ("best of 16", best_of_16 - start_gold),
    ("best of 16, over best of 4", best_of_16 - best_of_4),
    ("random one of 16", golds("random one of 16") - start_gold),
    ("aligned", aligned_gold - start_gold),
    ("aligned, over temperature 0.5", aligned_gold - start_cool),
    ("aligned, over best of 4", aligned_gold - best_of_4),
    ("at 0.5: aligned, over start", aligned_cool - start_cool),
    ("aligned at 0.5, over best of 16", aligned_cool - best_of_16),
    ("mean weights", mean_gold - start_gold),
    ("mean weights at 0.5, over start", mean_cool - start_cool),
    ("the same, over best of 16", mean_cool - best_of_16),
    ("the same, over aligned at 0.5", mean_cool - aligned_cool),
):
    low, high = bootstrap_interval(gain, torch.Generator().manual_seed(0))
    print(f"{name:35} {gain.mean():+.1f} ({low:+.1f} to {high:+.1f})")

# %% tags=["remove-cell"]
assert best_of_4.mean() > start_gold.mean() + 0.5 < aligned_gold.mean()
assert aligned_cool.mean() > start_cool.mean() + 0.5
for one, other, most in ((best_of_16, best_of_4, 0.4), (aligned_gold, best_of_4, 1)):
    assert (one - other).var() < most * (one.var() + other.var())

# %% [markdown]
# *Start, temperature 1* and *random one of 16* are one policy, sampled twice, and 0.1 points apart; with 256 orders, chance can do more than that.
# By the card of `aligned-llm`, over 1,000 orders and with four sampling seeds, training gained 1.5 to 1.8 points.
#
# Leaderboards report a **{term}`win rate`** instead: the share of prompts on which one model's answer is the better one, with a tie counting half.
# People can say which answer is better, but hardly by how many points.

# %%
print("aligned against    win rate (95% interval)  points where it wins, loses")
for name, other in (("start", start_gold), ("best of 4", best_of_4)):
    won = win_rate(aligned_gold, other, torch.Generator().manual_seed(0))
    rate = "{:.0%} ({:.0%} to {:.0%})".format(won.rate, *won.interval)
    gap = aligned_gold - other
    print(f"{name:18} {rate:24} {gap[gap > 0].mean():+.1f}", end=", ")
    print(f"{gap[gap < 0].mean():+.1f}")

# %% [markdown]
# The aligned model beats the start in nearly eight of ten orders, and the best of four in more than half, which may be chance.
# A win rate doesn't say by how much: where the best of four wins, it wins by twice as many points, so its mean is higher.
#
# ### Mode collapse
#
# To measure how different these stories are from one another, we compare equal numbers of texts, and the first hundred words of each.
#
# - *distinct-4*: among the stories of one seed, each to a different order.
# - *within*: distinct-4 among four stories to the same order; a dash where only one was written or kept.
# - *openings*: how many different first three words there are, as a share of the stories.
# - *happy*, *sad*, *surprising*: how the stories that hold together end.

# %% tags=["hide-input"]
print("way                           distinct-4  within  openings", end="")
print("  happy   sad  surprising")
for way, points in by_way.items():
    four_words = sum(point.distinct_4 for point in points) / n_seeds
    within = sum(point.distinct_within for point in points) / n_seeds
    openings = sum(point.openings for point in points) / n_orders
    endings = Counter()
    for point in points:
        endings.update(point.endings)
    ends = [endings[e] / endings.total() for e in ("happy", "sad", "surprising")]
    same = f"{within:.2f}" if within > 0 else "–"
    print(f"{way:29} {four_words:10.2f} {same:>7} {openings:9.0%}", end="")
    print("{:7.0%} {:5.0%} {:10.0%}".format(*ends))

# %% tags=["remove-cell"]
first, last = (
    by_way[way] for way in ("start, temperature 1", "aligned, temperature 1")
)
assert all(a.distinct_4 > b.distinct_4 for a, b in zip(first, last))
varied = [sum(point.distinct_within for point in own) for own in (first, last)]
assert varied[0] > varied[1]

# %% mystnb={"image": {"alt": "Gold reward over diversity, distinct-4, one dot for each of the eleven ways. All ways that use the start lie to the right, about as diverse as the start, from one answer at the bottom to the best of sixteen by gold at the top. The two dots of the aligned model lie to the left, one a little lower than the best of four and the other, farther to the left, a little higher. Of the two dots of the mean weights, one lies a little above the start's dot at temperature 0.5, the other a little below the aligned model's at temperature 1, and to its right."}} tags=["hide-input"]
lowest = min(ways, key=lambda way: golds(way).mean())
fig, ax = plt.subplots(figsize=(5.4, 3))
for way, points in by_way.items():
    x = sum(point.distinct_4 for point in points) / n_seeds
    y = golds(way).mean().item()
    _, colour, marker = FAMILIES[family(way)]
    ax.plot(x, y, marker, color=colour)
    shift, side = (4, -9) if way == lowest else (4, 3), "left"
    if way in ("most probable of 16", "aligned, temperature 1"):  # others are right
        shift, side = (-4, 3), "right"
    if way in ("start, temperature 0.5", ways[-1]):
        shift, side = (0, -12), "center"
    name = way.replace("temperature", "T")
    ax.annotate(name, (x, y), shift, textcoords="offset points", fontsize=7, ha=side)
ax.margins(x=0.34, y=0.12)
_ = ax.set(xlabel="distinct-4 of the first hundred words", ylabel="gold (points)")

# %% [markdown]
# *Gold reward over variety, a dot for each way in the colour of its family; up and to the right is better.*
#
# Neither a lower temperature nor choosing costs the start much variety of words.
# At 0.5 the start has even more different openings, 80 %.
# (Two samples of the start at temperature 1 have 62 and 70 %, so read small differences as chance.)
# But choosing by the reward model narrows the endings, and with sixteen probably the openings, too.
# So does choosing by gold, which likes happy endings best.
#
# In openings the aligned model went further than any choosing, and in endings about as far.
#
# - *Endings*: of its stories that hold together, 97 % end happily, about as many as with the best of sixteen.
#   At temperature 0.5, all do.
# - *Openings*: at temperature 1 it has between half and two thirds as many as the start.
#   At 0.5 it has fewer than four tenths as many as the start at 0.5.
# - *Words*: distinct-4 is 0.88 at temperature 1, and 0.86 at 0.5; the start has 0.90 at both.
#
# This is **mode collapse**, a common effect of RLHF.
# {cite:t}`kirk2024` found less diversity after it than after supervised fine-tuning, for one prompt and across prompts.
# Here it shows in both: *within* one order, distinct-4 fell from 0.87 to 0.85.
#
# Gold likes happy endings, so part of this was asked for.
# But nothing rewards variety: gold and the reward model read each story alone.
#
# Some orders name an ending.
# The next cell counts these orders, and how many of these endings were told; a story that breaks doesn't have one.

# %%
texts = [each.text for each in preferences.exam_prompts(n_orders, tokenizer)]
for ending in ("happy", "sad", "surprising"):
    n = sum(f"{ending} ending" in text for text in texts)
    print(f"{n} orders name a {ending} ending")
print()
for way in (*ways[:2], "start, temperature 0.5", "aligned, temperature 1", "best of 4"):
    kept = sum(point.obeyed[0] for point in by_way[way])
    ordered = sum(point.obeyed[1] for point in by_way[way])
    print(f"{way:25} keeps the ordered ending in {kept} of {ordered}")

# %% [markdown]
# Here the aligned model keeps more of them than its start did, since fewer of its stories break, and two thirds of these orders name a happy ending.
# Part is luck: *random one of 16*, the same policy as the start, keeps 26.
# A lower temperature keeps 28, and the best of four keeps 42.
# A model that always ends happily cannot carry out an order for a sad ending.
#
# What is not rewarded can also be forgotten: this is the **{term}`alignment tax`**.
# The card of `aligned-llm` measures it, before and after, over all kinds of instructions.
# The cell prints all of them together and two kinds: orders to *write* a story, with all details checked, and questions that ask *who*.

# %%
card = json.loads((find_model("aligned-llm") / "card.json").read_text("utf-8"))
measured = card["quality"]
print("instructions right:  all (of 1,120)  write (of 80)  who (of 80)")
for when in ("before", "after"):
    scores = measured[f"instructions_{when}"]["held-out wordings"]
    overall, kinds = scores["overall"], scores["by_kind"]
    print(f"{when:19} {overall['right']:5,} = {overall['share']:4.0%}", end=" ")
    print(f"{kinds['write']['right']:16} {kinds['who']['right']:12}")

# %% [markdown]
# The card also has the loss on plain stories.

# %%
for when in ("before", "after"):
    loss = measured["forgetting"][when]
    print(f"{when}: {loss:.3f} nats/token above the floor")

# %% [markdown]
# Each update of `aligned-llm` also learned from new texts of the kinds that its start had learned from: half plain stories, half instructions.
# Their loss has the weight `ptx_coef`; {cite:t}`ouyang2022` did the same with pretraining texts.
# The loss on plain stories is only a little higher than before; no run shows what it would be without these texts.
#
# Hardly any tax was paid: of 1,120 instructions, one fewer is followed.
# Orders to write, which is what the policy was trained on, are carried out a little more often; that may be chance, too, or because fewer stories break.
# Questions were not rewarded at all; *who* is answered as well as before.
#
# In the baselines, at temperature 1, fewer stories of the aligned model are complete than of its start, 73 and 78 %; with 256 orders, that may be chance.
# But a mean over all kinds of orders can hide one of them.
# At the top of this page, the orders for a present were nearly given up; they are one in twenty.
#
# Five other policies, whose figures come with the package, show what the instructions in each update contributed, what the reward model did, and what more iterations do.
# The first three began with an earlier `instruct-llm`, which followed 89 % of the instructions.
#
# - *8 plain stories* are what the first learned from in each update.
# - *16, half instructions*: the second learned from 16 texts instead, half of them instructions; all else was as for the first.
# - *The same, more pairs*: the third differs from the second only in the reward model, which learned from twice as many orders, with twice as many steps.
# - *A better start*: the fourth had another start, and much else was changed with it: its reward model learned from twice as many orders again and in one and a half times as many steps, the KL penalty was halved and `ptx_coef` doubled, and there were 300 iterations, not 220.
#   So its row doesn't show what any one of these did.
# - *450 iterations* is `aligned-llm`, trained half as long again.
#
# The last row is `aligned-llm` itself, measured in the same way.
# It differs from *a better start* only in the reward model, which is told one number more of each token; the section *Look at what it gets wrong* says why.
#
# The columns are: pairs in which the reward model agrees with gold, gain in points, KL, instructions right, orders to write carried out of 80, openings, and complete stories.
# (*Openings* are those of 1,000 stories; the table above has sets of 32, where less is repeated, so its shares are larger.)

# %% tags=["hide-input"]
policies = [vars(point) for point in stored_study("policies", SimpleNamespace).points]
after = measured["instructions_after"]["held-out wordings"]
aligned_points = by_way["aligned, temperature 1"]
policies.append(
    {
        "policy": "aligned-llm",
        "with_gold": measured["reward_model"]["with_gold"],
        "gain": sum(measured["gains"]) / len(measured["gains"]),
        "kl": measured["after"]["kl"],
        "instructions": after["overall"]["share"],
        "write": after["by_kind"]["write"]["right"],
        "openings": measured["after"]["openings"],
        "complete": sum(point.complete for point in aligned_points) / n_orders,
    }
)
print("policy                  pairs   gain   KL  right  write  openings  complete")
for p in policies:
    print(f"{p['policy']:22} {p['with_gold']:6.0%} {p['gain']:6.2f}", end=" ")
    print(f"{p['kl']:4.1f} {p['instructions']:6.0%} {p['write']:6}", end=" ")
    print(f"{p['openings']:9.0%} {p['complete']:9.0%}")

# %% tags=["remove-cell"]
first, second, third, fourth, fifth, last = policies
assert first["write"] < second["write"] == third["write"] < last["write"]
assert last["kl"] < second["kl"] and last["complete"] > fifth["complete"]
assert second["kl"] < third["kl"] and second["complete"] > third["complete"]
assert third["gain"] > max(first["gain"], second["gain"])
assert last["gain"] < fourth["gain"] < fifth["gain"] < third["gain"]
assert fifth["instructions"] < fourth["instructions"] - 0.02 < last["instructions"]
assert round(1120 * (last["instructions"] - fifth["instructions"])) == 31

# %% [markdown]
# With the instructions, more orders were carried out, and the stories begin in more ways.
# With more pairs, the third policy gained more points and went farther from its start: it has as many openings as the second, but fewer complete stories.
# *A better start* and `aligned-llm` stayed nearest to their start, which had more points already, and have the most complete stories.
# In as many iterations, the reward model of `aligned-llm` brought no more points, though it agrees with gold in more pairs.
# With 450 iterations in place of 300, the policy gained about 0.4 points more, at 1.7 times the distance, but it follows 31 of the 1,120 instructions fewer, and fewer of its stories are complete.
# So we chose the shorter run.
# (One run of each is no proof.)
#
# A cheap way to keep more of what gets lost is a kind of {term}`model merging`: take the mean of the weights, half start and half aligned {cite:p}`lin2024tax`.
#
# ```python
# for weight, theirs in zip(start.parameters(), aligned.parameters()):
#     weight.lerp_(theirs, 0.5)  # as `averaged` in book/studies/baselines_study.py
# ```
#
# This mean, too, is in the plot of all ways.
# It keeps about half of the gain, at about a fifth of the distance, and its stories are complete at least as often as the start's.
#
# At temperature 0.5, one of its stories is worth about as much as the aligned model's at temperature 1, and nearly nine of ten are complete.
# Of the ways that write one story, only the aligned model at 0.5 is clearly better, by 0.8 points.
#
# The mean also begins its stories in more ways than the aligned model, but in fewer than the start.
# (This is one aligned model, and *half* was not tuned.)
#
# ### A reward model that reads surprises
#
# An error that a reward model does not see costs the policy nothing, so the reward model of `aligned-llm` gets help to see slips.
# About two in ten of the stories that `instruct-llm` writes to order at temperature 1 break somewhere: a name is forgotten, or one word is wrong.
# A reward model that reads only tokens can hardly find one wrong word in a whole story.
# But `base-llm`, from which `instruct-llm` was made, could tell: a word that doesn't fit is often one that it doesn't expect.
#
# So `reward-model` gets four numbers with each token; each is multiplied by a learned vector and added to the token's own vector.
# They are the surprisal $-\ln p(y_t \mid y_{<t})$ under `base-llm`, the entropy there (the surprisal that it expects), the place in the answer, and 1 if the token has already occurred in the answer, otherwise 0.
# A single wrong word gets lost in a mean over two hundred tokens.
# So for half of the last layer's numbers the head reads the mean over the tokens, and for the other half the maximum.
#
# ![Five rows join in a plus: the vector of a token; its surprisal s, times a vector; the expected surprisal e, times a vector; its place n, times a vector; and w, whether it is repeated, times a vector. Surprisal and expected surprisal come from base-llm. The sum goes through layers; half of the result is averaged over the tokens, the maximum is taken of the other half, and both together give the reward.](figures/reward-model-reads-surprises.svg)
#
# *What the reward model reads of one token.
# The maximum is meant to let a single surprise be heard among two hundred tokens.*
#
# Below is a story by `instruct-llm` that breaks.

# %% tags=["nbval-ignore-output"]
texts = write(start, orders, generator=torch.Generator().manual_seed(0)).texts
points = [gold_reward(order.text, text) for order, text in zip(orders, texts)]
worst = points.index(min(points))
print(f"{fill(orders[worst].text, 80)}\n\n{fill(texts[worst], 80)}")

# %% [markdown]
# *Predict*: which of its words will surprise `base-llm` more than it had expected?
#
# :::{dropdown} Answer
# Above all, anything that doesn't fit what came before, such as another name, words from another plot or a wrong word, or the word right after it.
# Other surprises aren't slips: a rare word, or *an* in place of *a*.
# :::

# %% tags=["nbval-ignore-output"]
reader = SurprisalReader.of(*load_pretrained("base-llm"), tokenizer)
prompt, story = orders[worst].ids, tokenizer.encode(texts[worst])
# It reads only what follows the token that begins an answer.
features = reader.features(torch.tensor([[*prompt, *story]]))[0, len(prompt) :]
nats, expected, _, _ = features.T  # surprisal, entropy, place, what is repeated
print("surprisal  expected  text (surprisal in nats, of its last token)")
for i in (nats - expected).topk(5).indices.tolist():
    last_tokens = tokenizer.decode(story[max(0, i - 3) : i + 1])
    print(f"{nats[i]:9.1f} {expected[i]:9.1f}  {last_tokens!r}")

# %% [markdown]
# In each line, both numbers belong to the last token.
# In our run the five lines show three slips: in the tales, *Amina* is the name of heroes and never of a friend (two lines); *had to move* belongs to another plot; and nobody moves to *circles* (two lines).
# That *Rufus* then takes her place is a slip, too, but isn't in the list.
# `reader` looks only at the story, not at the order.
# So it may notice a name that changes within the story, but not one that was wrong from the start.
# Not every surprise above the expected is a slip; the reward model has to learn from the pairs which ones are.
#
# ### Look at what it gets wrong
#
# An earlier `reward-model` had only the first three numbers, and most of its errors with whole against broken stories had one cause.
# To find it, read where stories break.
#
# In every broken story, `valid_part` finds the first word with which it can't be a tale any more.
# *Predict*: how often is this word hardly more of a surprise to `base-llm` than it expected?
# (Its surprisal is then at most a nat above the entropy.)
#
# :::{dropdown} Answer
# In about a third of the broken stories.
# :::

# %% tags=["nbval-ignore-output"]
asked = preferences.exam_prompts(160, tokenizer)
told = write(start, asked, generator=torch.Generator().manual_seed(3)).texts
slips = []
for each, text in zip(asked, told):
    fits = valid_part(text)
    wrong = text[len(fits) :].split()[:1]
    if not wrong or plot(text) != "breaks":
        continue
    before, word = tokenizer.encode(fits), tokenizer.encode(" " + wrong[0])
    ids = torch.tensor([[*each.ids, *before, *word]])
    nats, expected, _, repeated = reader.features(ids)[0, -len(word) :].T
    slips.append(
        {
            "surprises": bool((nats - expected).max() > 1),
            "repeated": bool(repeated[0] == 1),
            "text": f"{fits[-64:]} >> {wrong[0]}".replace("\n", " "),
        }
    )
unseen = [slip for slip in slips if not slip["surprises"]]
others = [slip for slip in slips if slip["surprises"]]
print(f"{len(slips)} of {len(told)} stories break at a word.")
for name, group in (("more than 1 nat", others), ("at most 1 nat", unseen)):
    begun = sum(slip["repeated"] for slip in group)
    print(f"{name} above the entropy: {len(group)} words;", end=" ")
    print(f"{begun} begin with a repeated token")
print("\nFour of the last:")
for slip in unseen[:4]:
    print(f"… {slip['text']}")

# %% tags=["remove-cell"]
assert len(slips) > 20 and len(unseen) > 0.2 * len(slips)
assert sum(slip["repeated"] for slip in unseen) > 0.9 * len(unseen)
assert sum(slip["repeated"] for slip in others) < 0.5 * len(others)

# %% [markdown]
# In the tales, a thing may have any of two dozen colours except that of the hero's garment.
# `base-llm` gives nearly the same probability to all of them.
# To leave out the one would save it $\ln(24/23)$, some 0.04 nats in a whole story, so it has hardly learned that.
# The wrong colour is then no more of a surprise than the right ones.
# So it is with a thing that is found twice in one story.
# But where a slip is no surprise, something was repeated that should have been new: in our run every time, and in only four of the nineteen other slips.
# This takes only one bit to say: hence the fourth number.
#
# Does the reward model use it?
# We cover one part of its input at a time: a learned vector that is set to zero adds nothing.
# Then we compare each of the broken stories with as many whole ones.
# A coin would prefer the whole one in half of the pairs.
#
# *Predict*: what costs most, to cover the surprisals, the place, or what is repeated?
#
# :::{dropdown} Answer
# The surprisals; what is repeated comes second.
# :::


# %% tags=["nbval-ignore-output"]
def prefers_whole(rewards):
    """Return the share of pairs in which the whole story has the higher reward."""
    of_broken, of_whole = rewards.split(len(broken))
    return (of_whole[:, None] > of_broken).float().mean().item()


broken = [n for n, text in enumerate(told) if plot(text) == "breaks"]
whole = [n for n in range(len(told)) if n not in broken][: len(broken)]
prompts = [asked[n].text for n in broken + whole]
texts = [told[n] for n in broken + whole]
vectors = reward_model.surprise.surprise.weight.data  # a column for each number
learned, parts = vectors.clone(), {"nothing": [], "the place": [2]}
parts |= {"what is repeated": [3], "surprisal and entropy": [0, 1]}
seen = {}
for part, columns in parts.items():
    vectors[:, columns] = 0
    seen[part] = prefers_whole(reward(prompts, texts))
    vectors.copy_(learned)
    print(f"covered: {part:22} prefers the whole story in {seen[part]:.0%}")

# %% tags=["remove-cell"]
assert min(seen["nothing"], seen["the place"]) > 0.9 > seen["what is repeated"] + 0.05
assert abs(seen["surprisal and entropy"] - 0.5) < 0.15

# %% [markdown]
# In our run the whole story has the higher reward in 96 % of the pairs.
# With the surprisals covered, it is a coin's throw: all that this reward model knows of slips, it knows from its reader.
# With repetition covered, it misses one in five.
# The place can be covered without harm.
#
# This shows what a finished model uses, not what it would have learned without it.
# For that, `python book/studies/reward_model_study.py --out FILE` trains four kinds of reward model, with three seeds each.
# Each learns from eight answers to each of 500 orders, an eighth of what `reward-model` learned from.
#
# *Predict*: which step brings most: the maximum, the three numbers, or the bit?
#
# :::{dropdown} Answer
# The three numbers.
# With so few comparisons, the other two bring nothing.
# :::

# %% tags=["hide-input"]
told_of = {
    "tokens": "tokens alone, mean",
    "maximum": "and maximum",
    "surprisal": "and three numbers",
    "repetition": "and what is repeated",
}
trials = stored_study("reward_models", dict).points
print("right, in % of held-out pairs, and standard error over seeds")
print(f"{'':22} as the annotator  as gold  one breaks")
for kind, name in told_of.items():
    row = f"{name:22}"
    for measure, width in (("right", 10), ("with_gold", 8), ("one_breaks", 6)):
        shares = [100 * trial[measure] for trial in trials if trial["kind"] == kind]
        error = stdev(shares) / len(shares) ** 0.5
        row += f"{fmean(shares):{width}.1f} ± {error:.1f}"
    print(row)

# %% tags=["remove-cell"]
mean = {
    (kind, measure): fmean(t[measure] for t in trials if t["kind"] == kind)
    for kind in told_of
    for measure in ("with_gold", "one_breaks")
}
assert mean["surprisal", "with_gold"] > mean["maximum", "with_gold"] + 0.1
assert abs(mean["maximum", "with_gold"] - mean["tokens", "with_gold"]) < 0.01
assert abs(mean["repetition", "with_gold"] - mean["surprisal", "with_gold"]) < 0.01
assert mean["tokens", "one_breaks"] < 0.6 and mean["surprisal", "one_breaks"] > 0.85
assert all(sum(t["kind"] == kind for t in trials) == 3 for kind in told_of)

# %% [markdown]
# The three numbers bring more than eleven points of agreement with gold.
# Without them, where one of the two stories breaks, a reward model is right only a little more often than a coin.
# The maximum brings nothing where only tokens are read; whether it helps once there are surprisals was not tried.
#
# The bit brings nothing, either, with so few comparisons.
# With eight times as many, and six times as many steps, it seems to: in the table of policies, the reward model of *a better start*, with three numbers, agreed with gold in 88 % of held-out pairs, and that of `aligned-llm`, with four, in 92 %.
# That is one run of each.
# A cheap trial can hide what a part is worth later, so try again nearer to the size that you want.
#
# ### Honest limits
#
# - **The recipe used gold.**
#   It was found with an earlier `instruct-llm`.
#   After 155 of 220 iterations we looked at gold, over 200 orders, and lowered the learning rate from there on.
#   With people, each such look costs money.
#   The penalty and `ptx_coef` were changed later, after we had read the card of an earlier `aligned-llm`.
#   While the present one learned, nobody looked at gold.
#   But of it and the one of 450 iterations, we chose with both cards before us.
# - **Other ways were tried once.**
#   With that earlier model, fine-tuning on the best of eight answers to each of 1,000 orders gained 0.2 points.
#   DPO at a rate of 1e-4 gained nothing.
#   Neither was tuned, so this is not a ranking; these runs are not stored.
# - **One run.**
#   `aligned-llm` is one run, with one seed; the study has four for each setting.
# - **No control for the surprises.**
#   No policy was trained for as long with a reward model that reads only tokens.
#   So the value of surprises is shown for pairs, not for policies.
# - **The annotator is a formula.**
#   It follows the Bradley–Terry model, as the loss assumes, and errs independently each time.
#   People disagree, change their minds, and have habits that can be learned.
# - **Gold is a rule.**
#   It doesn't ask for variety.
#   What people want is more than this rule, and partly unknown.
# - **Another machine, another policy.**
#   Processors round differently, and these small differences grow during a training.

# %% [markdown]
# ## Takeaways
#
# The learned reward is not evidence of success; for that you need a judge that the policy was not trained on.
# Without a penalty, gold rose on average to an early top and then fell in every run, while the learned reward kept rising.
# The weak KL penalty we tried did not visibly raise that top, and did not hold the policy.
# Compare a gain with cheap baselines: a lower temperature, and the best of n by the same reward model.
# What is not rewarded can get lost: the aligned model's endings and openings become alike, the more so at a low temperature.
# Orders of one kind, at which the start often failed, were hardly ever carried out any more; the mean reward shows none of this.
# In our one case, averaging the weights before and after kept about half of the gain, and the stories were as complete as the start's.
#
# *In practice*: where people can't make enough comparisons, a model does: **{term}`RLAIF`**, reinforcement learning from AI feedback.
# **{term}`Constitutional AI <constitutional AI>`** began this {cite:p}`bai2022`.
# A model criticises and rewrites its own answers following a list of written principles, the *constitution*, and is tuned on the result.
# Then it compares answers by the same principles, and a reward is learned from that.
# The labels become cheap, but inherit the habits of the model that gives them.
#
# Whatever the reward, look for faults on purpose before others find them.
# In **{term}`red teaming`** people, or other models, try to make a model misbehave {cite:p}`ganguli2022,perez2022`.
# For long solutions, **process supervision** rewards each step instead of the outcome, so that a right answer for wrong reasons earns less {cite:p}`uesato2022,lightman2024`.
# An ensemble of reward models is harder to hack, but is still hacked where all err alike {cite:p}`eisenstein2024`.
# A stronger KL penalty alone did not bring diversity back in the experiments of {cite:t}`kirk2024`; measure diversity, and reward it if you want it.
#
# The next chapter, [Reasoning: rewards that can be checked](reasoning.ipynb), takes its rewards from a program that checks the result, and also measures how often the steps are right.

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("reward_hacking")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (derive): the distance of the best of n ★★
#
# How far from the model is the best of $n$ answers, as a KL divergence?
# Suppose that no two answers have the same reward, and that each single answer is very improbable.
# Describe each answer by its rank $u$: the probability that another answer of the model has a lower reward.
# For the model's own answers $u$ is spread evenly between 0 and 1.
# Begin with the probability that all $n$ ranks are below $u$.
#
# ```python
# def best_of_n_kl(n):
#     return nats
# ```
#
# Check it with `checks.best_of_n_kl(best_of_n_kl)`.
# Which policies in the table of baselines have a larger KL than the best of 4, and a lower mean?
# Can you be sure of both, the larger KL and the lower mean?
#
# :::{dropdown} Answer
# All $n$ ranks are below $u$ with probability $u^n$, so the highest rank has the density $n u^{n-1}$.
# That is how many times as probable an answer of rank $u$ becomes.
# The divergence is the mean of its logarithm, $\ln n + (n - 1) \int_0^1 n u^{n-1} \ln u \, du$, and the integral is $-1/n$.
#
# The best of 4 is at most 0.6 nats away; its real distance can only be smaller.
# Five policies have a larger KL in the table and a lower mean.
# Compared order by order, as in the cell below, all five intervals of the lead are above zero, so we are sure of the lower means.
# The KL of all but *most probable of 16* was measured.
# That one is an upper bound, but a tie between two probabilities is hardly possible in long texts, so the bound is close.
# :::


# %% tags=["hide-cell", "solution"]
def best_of_n_kl(n):
    # The highest of n has the density n u^(n−1); the mean of its logarithm is
    # ln n + (n − 1) · mean of ln u = ln n − (n − 1) / n.
    return math.log(n) - (n - 1) / n


checks.best_of_n_kl(best_of_n_kl)
print(f"best of 16: {best_of_n_kl(16):.1f} nats; of 1,000: {best_of_n_kl(1000):.1f}")
below = "most probable of 16", "start, temperature 0.5", ways[-2]
for way in (*below, "aligned, temperature 1", ways[-1]):
    ahead, seeded = best_of_4 - golds(way), torch.Generator().manual_seed(0)
    low, high = bootstrap_interval(ahead, seeded)
    print(f"best of 4, over {way}: {ahead.mean():+.1f} ({low:+.1f} to {high:+.1f})")
# The number depends on n alone; where answers tie, it is an upper bound. These five are
# such policies; compared order by order, we are sure of all of them.

# %% [markdown]
# ### Exercise 2 (check): diversity within a prompt ★
#
# A policy can be diverse across prompts, yet answer each of them in just one way.
# Given groups of texts, one group for each prompt, return the mean over the groups of distinct-n within the group.
# All groups have at least one run of $n$ words.
#
# ```python
# def distinct_within(groups, n):
#     return share
# ```
#
# Check it with `checks.distinct_within(distinct_within)`.
# Which column of the table is this, and why is it lower for the start than distinct-4 across prompts, although that counts 32 stories together and not four?


# %% tags=["hide-cell", "solution"]
def distinct_within(groups, n):
    return sum(distinct(texts, n) for texts in groups) / len(groups)


checks.distinct_within(distinct_within)
# The column "within". Answers to one prompt share its names and things, so it is lower.

# %% [markdown]
# ### Exercise 3 (build): the law of over-optimisation ★★
#
# Fit $R(d) - R_0 = d\,(\alpha - \beta \ln d)$ to the twelve runs without a penalty, and find where the law has its top and how high it is.
# The law has no floor, but gold rewards have one, at zero; so fit only the first hundred nats, by least squares.
# Test your function on a curve that follows the law exactly.
# It takes 20 to 40 lines.
# Each curve of `by_pairs` has `kl`, `gold` and `proxy`; leave out points where `kl` is 0.
# Do $\alpha$ and $\beta$ depend on the number of pairs?
# By how many points (root mean square, over the points that you fitted) does the law miss each run, and how high is its top in comparison?


# %% tags=["hide-cell", "solution"]
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

for name, runs in by_pairs.items():
    fits = [rise_and_fall(curve) for curve in runs]
    alphas, betas, off = ([f"{x:z.1f}" for x in column] for column in zip(*fits))
    tops = [(math.exp(2 * (a / b - 1)), b * math.exp(a / b - 1)) for a, b, _ in fits]
    highest = ", ".join(f"+{top:.1f} at {kl:.0f}" for kl, top in tops)
    print(f"{name}: alpha {', '.join(alphas)}; beta {', '.join(betas)}")
    print(f"    misses by {', '.join(off)} points")
    print(f"    tops {highest} nats")
# The derivative is alpha − beta (ln d + 1), zero at ln d = alpha / beta − 1; the top is
# beta e^(alpha / beta − 1) above the start. With 100 pairs, both tend to be smaller than
# with 5,040; the runs with 1,000 overlap with both, so four of each are too few to see
# how the two depend on the pairs. The law misses by half a point, as much as many tops
# are high: the runs have its shape, and do not confirm the formula.

# %% [markdown]
# ### Exercise 4 (explore): how many to choose from ★★★
#
# Let `instruct-llm` carry out eight orders, sixteen times each, and keep the best of $n$ by `reward` for $n$ from 1 to 16.
# Plot the mean learned reward and the mean points over $n$; average over many random choices of the $n$.
# The learned reward can only rise with $n$; do the points fall?
# If nobody knew the points, how could you notice that a larger $n$ does harm?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"] mystnb={"image": {"alt": "Two panels over n from 1 to 16. The mean learned reward of the answers kept rises all the way, ever more slowly; the mean gold reward rises steeply for the first three answers, and then slowly, up to sixteen."}}
prompts = [order for order in orders for _ in range(16)]
texts = write(start, prompts, generator=torch.Generator().manual_seed(2)).texts
prompts = [order.text for order in prompts]
points = torch.tensor([*map(gold_reward, prompts, texts)])
table = torch.stack([reward(prompts, texts), points])
table = table.view(2, 8, 16)
generator, means = torch.Generator().manual_seed(0), []
for n in range(1, 17):
    places = torch.rand(8, 200, 16, generator=generator).argsort(dim=2)
    drawn = places[:, :, :n].flatten(1)  # 200 choices of n for each order
    some = table.gather(2, drawn.expand(2, -1, -1)).view(2, 8, 200, n)
    kept = some.gather(3, some[:1].argmax(dim=3, keepdim=True).expand(2, -1, -1, -1))
    means.append(kept.mean(dim=(1, 2, 3)))
fig, axes = plt.subplots(1, 2, figsize=(7, 2.5))
for ax, values, label in zip(axes, zip(*means), ("learned reward", "gold (points)")):
    ax.plot(range(1, 17), values)
    _ = ax.set(xlabel="n", ylabel=label, xticks=(1, 4, 8, 12, 16))
# Up to sixteen the points do not fall here; they rise ever more slowly. Let people
# compare the story kept of n with that kept of 2 n, and stop when they no longer prefer
# the second.

# %% [markdown]
# ## Sources
#
# A known gold reward in place of people, over-optimisation and its law are from {cite:t}`gao2023`.
# Best of n as a baseline is in {cite:t}`stiennon2020`; its divergence is given there and in {cite:t}`gao2023`.
# *Reward hacking* as a problem of its own is in {cite:t}`amodei2016`; sycophancy in {cite:t}`sharma2024`; length in {cite:t}`singhal2024`; diversity after RLHF in {cite:t}`kirk2024`.
# Distinct-n is from {cite:t}`li2016`.
