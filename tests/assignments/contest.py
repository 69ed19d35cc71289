# ---
# jupyter:
#   llmcourse:
#     version: 1
#     blocked: [llmcourse.classroom.contest, llmcourse.intervals, llmcourse.training.evaluation]
# ---

# %% [markdown]
# # Tools for the contest
#
# The tales come from a grammar, so the lowest possible loss on them is known exactly.
# Train a model whose loss is as near to that floor as you can get, in little space and little time:
#
# - **6 MB**: the files `model.safetensors`, `config.json` and `tokenizer.json` have at most 6,000,000 bytes in total.
# - **20 minutes** of processor time for the whole training of one model, all cores added up, its tokenizer included.
# - **Three seeds** of the same recipe, or your entry has no rank.
#
# The [page of the contest](../contest.md) has the rules, how to hand in, and a leaderboard.
# In this notebook you write the tools that a fair comparison needs and, at the end, your report.
#
# | Task | Points | Difficulty | Time |
# |---|---|---|---|
# | 1. The excess | 2 | ★ | 10 minutes |
# | 2. Two models, the same stories | 2 | ★★ | 10 minutes |
# | 3. Draw again: the bootstrap | 2 | ★★ | 15 minutes |
# | 4. Better, or luck | 3 | ★★ | 25 minutes |
# | 5. How many bytes | 2 | ★★ | 15 minutes |
# | 6. A schedule within the budget | 2 | ★★★ | 25 minutes |
# | 7. Your report (written) | 4 | ★★★ | as you like |
# | 8. What did not help (written) | 3 | ★★ | 30 minutes |
#
# 20 points in all, and none of them for the rank: a careful report on a model that came last earns all of them.
# Tasks 7 and 8 need up to 12 training runs, three seeds each of a baseline, two changes and an idea that did not help.
# At 20 minutes each, that is 4 hours of processor time, so plan for it.
# You may compare with a smaller budget, the same for all, if your report says so.
# Read the chapter [Pretraining](../pretraining.ipynb) first.
# Replace every `raise NotImplementedError()` with your code, then run the cell below it: it is silent if your code is right, and says what is wrong if it is not.
# Some points come from hidden tests, which check the same requirements with other inputs.
# No function may change the arguments that it is given; some hidden tests check that, too.
#
# The first code cell locks away the package's own versions of these tools.

# %% given="setup"
import sys
from math import inf, sqrt
from statistics import mean, stdev

import torch

from llmcourse.classroom.tasks import describe, generator, is_pair

for module in ("classroom.contest", "intervals", "training.evaluation"):
    sys.modules[f"llmcourse.{module}"] = None  # this is what you write


def near(got, wanted, tolerance=1e-9):
    """Return whether something is a number, and nearly another one."""
    try:
        return abs(float(got) - float(wanted)) <= tolerance * max(1, abs(float(wanted)))
    except (TypeError, ValueError, RuntimeError):
        return False


# %% [markdown]
# ## 1. The excess (2 points)
#
# A model reads story $i$ and pays the loss $\ell_{it}$ for each of its tokens, the end of the story included.
# The grammar gives the story the exact probability $P_i$, so nobody who knows only the grammar can pay less than $-\ln P_i$ on average over many stories.
# The excess of the story is what the model pays on top:
#
# $$
# e_i = \sum_t \ell_{it} - (-\ln P_i) = \sum_t \ell_{it} + \ln P_i.
# $$
#
# Its unit is nats per story, so it does not matter how many tokens a tokenizer cuts the story into.
# A single $e_i$ may be negative, by luck; the mean over many new stories estimates the Kullback–Leibler divergence, which never is.
#
# Write `excess(losses, log_probs)`.
# `losses` is a list of tensors, one for each story, of shape (tokens,) and different lengths; `log_probs` is a list of the numbers $\ln P_i$.
# Return a tensor of shape (stories,) in float64, of shape (0,) if there is no story.
# Sum in float64 as well: adding up hundreds of float32 numbers loses digits.
#
# Losses of 2, 1 and 0.5 nats for a story with $\ln P = -3$ give an excess of 0.5.


# %% answer="excess"
def excess(losses, log_probs):
    """Return each story's excess over the floor in nats, (stories,) in float64."""
    ### BEGIN SOLUTION
    sums = [each.double().sum().item() for each in losses]
    exact = torch.tensor(log_probs, dtype=torch.float64)
    return torch.tensor(sums, dtype=torch.float64) + exact
    ### END SOLUTION


# %% test="excess" points=1
got = excess([torch.tensor([2.0, 1.0, 0.5]), torch.tensor([4.0])], [-3.0, -4.25])
assert torch.is_tensor(got), f"excess returns a tensor, got {describe(got)}"
assert got.tolist() == [0.5, -0.25], (
    "2 + 1 + 0.5 nats are 0.5 above the exact 3; 4 nats are 0.25 below the exact 4.25: "
    f"wanted [0.5, -0.25], got {got.tolist()}"
)
assert got.dtype == torch.float64, f"the excess is in float64, got {got.dtype}"

# %% hidden="excess" points=1
# Hidden: random stories of other lengths, exact sums, no story (1 point)
g = generator(1)
losses = [10 * torch.rand(n, generator=g) for n in (3, 700, 1, 180, 2500)]
saved = [each.clone() for each in losses]
log_probs = (-900 * torch.rand(5, generator=g, dtype=torch.float64)).tolist()
got = excess(losses, log_probs)
assert tuple(got.shape) == (5,), (
    f"five stories: a tensor of shape (5,), got {tuple(got.shape)}"
)
for i in range(5):
    wanted = sum(losses[i].tolist()) + log_probs[i]
    assert abs(got[i].item() - wanted) < 1e-8, (
        f"story {i} of {len(losses[i])} tokens has an excess of {wanted:.9f}, got "
        f"{got[i].item():.9f}; make losses and log_probs float64 before you add them up"
    )
assert all(map(torch.equal, losses, saved)), "excess must not change the losses"
got = excess([], [])
assert tuple(got.shape) == (0,), f"no story: a tensor of shape (0,), got {got}"

# %% [markdown]
# ## 2. Two models, the same stories (2 points)
#
# Some stories are hard for every model.
# If two models read the same stories, that hardness drops out of the difference $d_i = a_i - b_i$, and what is left is much less noisy.
#
# Write `paired(a, b)`: two numbers, the mean of the differences $d_i$ and its standard error,
#
# $$
# \bar d = \frac1n \sum_i d_i, \qquad
# \mathrm{se} = \frac{s}{\sqrt n},
# $$
#
# $$
# s^2 = \frac{1}{n - 1} \sum_i (d_i - \bar d)^2.
# $$
#
# `a` and `b` are tensors of shape (stories,), the excess of each story under two models, of at least one story.
# With a single story the error is unknown: return infinity (`inf`) for it.
#
# Excesses of 3, 9, 6 and 2, 6, 4 differ by 1, 3 and 2: the mean is 2, $s = 1$, and the standard error is $1 / \sqrt 3 = 0.577$.
# The errors of the two models' own means are three times and twice as large: 1.73 and 1.15.


# %% answer="paired"
def paired(a, b):
    """Return the mean difference a - b per story and its standard error, in nats."""
    ### BEGIN SOLUTION
    gaps = a.double() - b.double()
    n = len(gaps)
    error = gaps.std().item() / sqrt(n) if n > 1 else inf
    return gaps.mean().item(), error
    ### END SOLUTION


# %% test="paired" points=1
got = paired(torch.tensor([3.0, 9.0, 6.0]), torch.tensor([2.0, 6.0, 4.0]))
assert is_pair(got), f"paired returns two numbers, got {describe(got)}"
assert near(got[0], 2), f"the differences 1, 3, 2 have the mean 2, got {got[0]}"
assert near(got[1], 1 / sqrt(3), 1e-6), (
    "the differences 1, 3, 2 have s = 1 (divide by n - 1 = 2), so the error of their mean "
    f"is 1/√3 = 0.577, got {got[1]}"
)

# %% hidden="paired" points=1
# Hidden: random stories, hard ones that drop out, one story (1 point)
g = generator(2)
for n in (2, 7, 40):
    hard = 50 * torch.rand(n, generator=g, dtype=torch.float64)
    a = hard + torch.randn(n, generator=g, dtype=torch.float64)
    b = hard + torch.randn(n, generator=g, dtype=torch.float64) - 1
    saved = a.clone(), b.clone()
    gaps = [x - y for x, y in zip(a.tolist(), b.tolist())]
    got = paired(a, b)
    assert near(got[0], mean(gaps)), (
        f"{n} stories: the mean of a - b is {mean(gaps):.4f}, got {got[0]}"
    )
    assert near(got[1], stdev(gaps) / sqrt(n)), (
        f"{n} stories: the differences have the error {stdev(gaps) / sqrt(n):.4f}, got "
        f"{got[1]}; the errors of the two means, put together, are much larger"
    )
    assert torch.equal(a, saved[0]), "paired must not change a"
    assert torch.equal(b, saved[1]), "paired must not change b"
got = paired(torch.tensor([5.0]), torch.tensor([2.0]))
assert near(got[0], 3), f"one story: the difference is 3, got {got[0]}"
assert got[1] == inf, f"one story says nothing of the error: infinity, got {got[1]}"

# %% [markdown]
# ## 3. Draw again: the bootstrap (2 points)
#
# Two standard errors around a mean are a good interval if the mean is roughly normal.
# The bootstrap asks for less: draw $n$ of the $n$ differences again, with replacement, and take the mean; do that many times, and see where most of the means lie.
#
# Write `bootstrap(differences, picks, level)`: the two ends of the interval.
# `differences` has shape (stories,), with at least one story.
# `picks` has shape (draws, stories), with at least one draw: each row holds the numbers of the stories in one draw, and a story may occur in it several times, or not at all.
# The interval leaves out the share $(1 - \text{level}) / 2$ of the draws at each end; `torch.quantile` finds the place.
# Compute in float64.
#
# The differences 0, 2 and 4 with the picks (0, 0, 0), (0, 1, 2) and (2, 2, 2) have the means 0, 2 and 4.
# At a level of 0.5, a quarter of the way in from each end, the interval goes from 1 to 3.


# %% answer="bootstrap"
def bootstrap(differences, picks, level):
    """Return the ends of the interval that holds a share of the draws' means."""
    ### BEGIN SOLUTION
    means = differences.double()[picks].mean(dim=1)  # (draws,)
    outside = (1 - level) / 2
    low, high = torch.quantile(means, outside), torch.quantile(means, 1 - outside)
    return low.item(), high.item()
    ### END SOLUTION


# %% test="bootstrap" points=1
rows = torch.tensor([[0, 0, 0], [0, 1, 2], [2, 2, 2]])
got = bootstrap(torch.tensor([0.0, 2.0, 4.0]), rows, 0.5)
assert is_pair(got), f"bootstrap returns two numbers, got {describe(got)}"
assert all(map(near, got, (1, 3))), (
    "the draws have the means 0, 2 and 4; a quarter in from each end lie 1 and 3, got "
    f"{got}"
)
got = bootstrap(torch.tensor([0.0, 2.0, 4.0]), rows, 1.0)
assert all(map(near, got, (0, 4))), (
    f"a level of 1 leaves nothing out: from 0 to 4, got {got}"
)

# %% hidden="bootstrap" points=1
# Hidden: many draws at several levels, fewer draws than stories (1 point)
g = generator(3)
for n, n_draws, level in ((9, 40, 0.95), (30, 200, 0.9), (12, 5, 0.6), (4, 1, 0.8)):
    differences = 3 * torch.randn(n, generator=g, dtype=torch.float64)
    rows = torch.randint(0, n, (n_draws, n), generator=g)
    saved = differences.clone(), rows.clone()
    means = sorted(mean(differences[i].item() for i in row) for row in rows.tolist())
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        place = share * (n_draws - 1)
        left = min(int(place), n_draws - 1)
        right = min(left + 1, n_draws - 1)
        ends.append(means[left] + (place - left) * (means[right] - means[left]))
    got = bootstrap(differences, rows, level)
    assert is_pair(got), f"bootstrap returns two numbers, got {describe(got)}"
    assert all(abs(x - end) < 1e-7 for x, end in zip(got, ends)), (
        f"{n_draws} draws of {n} stories at the level {level}: wanted from {ends[0]:.4f} "
        f"to {ends[1]:.4f}, got {got}; one mean for each row of picks, and (1 - level) / 2 "
        "of the draws are outside at each end"
    )
    assert torch.equal(differences, saved[0]), "bootstrap must not change its input"
    assert torch.equal(rows, saved[1]), "bootstrap must not change the picks"

# %% [markdown]
# ## 4. Better, or luck (3 points)
#
# More test stories do not help against another kind of luck: the same recipe with another seed ends up elsewhere.
# So a recipe is trained with three seeds or more, and two recipes are compared over all of them.
#
# Write `verdict(one, other)`.
# Each argument is a list of excesses, one for each seed.
# Let $m$ be the mean, $s^2$ the variance (with $n - 1$) and $n$ the number of seeds of a recipe.
# The difference $m_1 - m_2$ has the standard error
#
# $$
# \mathrm{se} = \sqrt{\frac{s_1^2}{n_1} + \frac{s_2^2}{n_2}}.
# $$
#
# - `"first"`: the first recipe is better, so its mean is *lower* by more than 2 se;
# - `"second"`: the second is better by more than 2 se;
# - `"open"`: neither, or one of the two has fewer than three seeds.
#
# Then write `ranks(entries)`, which takes a dict from names to such lists and returns a dict from names to ranks.
# The rank of an entry is 1 plus the number of entries that are better than it, by the verdict.
# So entries that are beaten by equally many others share a rank.
# (The leaderboard of the contest does the same, but gives no rank to an entry with fewer than three seeds, and adds the error from the draw of stories, as in task 2, to that of the seeds.)
#
# Excesses of 1, 2, 3 and 3, 4, 5 have variances of 1, so se = √(2/3) = 0.816, and the difference of 2 is more than twice that: `"first"`.
# With 2, 3, 4 for the second, the difference is 1: `"open"`.


# %% answer="verdict"
def verdict(one, other):
    """Return which list of excesses is lower by more than two standard errors."""
    ### BEGIN SOLUTION
    if min(len(one), len(other)) < 3:
        return "open"
    gap = mean(other) - mean(one)
    error = sqrt(stdev(one) ** 2 / len(one) + stdev(other) ** 2 / len(other))
    if abs(gap) <= 2 * error:
        return "open"
    return "first" if gap > 0 else "second"
    ### END SOLUTION


def ranks(entries):
    """Return each entry's rank: 1 plus the number of entries that are better."""
    ### BEGIN SOLUTION
    return {
        name: 1 + sum(verdict(other, own) == "first" for other in entries.values())
        for name, own in entries.items()
    }
    ### END SOLUTION


# %% test="verdict" points=1
got = verdict([1.0, 2.0, 3.0], [3.0, 4.0, 5.0])
assert got == "first", (
    "the first is lower by 2, and 2 se = 1.63; a lower excess is the better one: wanted "
    f"'first', got {got!r}"
)
got = verdict([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])
assert got == "second", f"now the second is lower by 2: wanted 'second', got {got!r}"
got = verdict([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
assert got == "open", f"a difference of 1 is below 2 se = 1.63, got {got!r}"
got = verdict([1.0, 1.1], [9.0, 9.1, 9.2])
assert got == "open", f"two seeds are too few for a verdict, got {got!r}"
got = ranks({"wide": [1.0, 2.0, 3.0], "low": [0.9, 1.0, 1.1], "far": [8.0, 8.1, 8.2]})
assert got == {"wide": 1, "low": 1, "far": 3}, (
    "nothing tells 'wide' and 'low' apart, so both have rank 1; two entries are better "
    f"than 'far', so its rank is 3; got {got}"
)

# %% hidden="verdict" points=2
# Hidden: random recipes, other numbers of seeds, ties, no spread, ranks of many (2 points)
g = generator(4)
recipes = {}
for i in range(24):
    n, shift, spread = 1 + i % 6, 4 * torch.rand((), generator=g), 0.1 + i % 3
    values = 2 + shift + spread * torch.randn(n, generator=g)
    recipes[f"recipe {i}"] = [round(x, 3) for x in values.tolist()]
wins = dict.fromkeys(recipes, 0)
for name, one in recipes.items():
    for rival, other in recipes.items():
        wanted = "open"
        if len(one) > 2 and len(other) > 2:
            a, b = torch.tensor(one).double(), torch.tensor(other).double()
            error = (a.var() / len(a) + b.var() / len(b)).sqrt()
            size = (a.mean() - b.mean()) / error if name != rival else 0.0
            wanted = "first" if size < -2 else "second" if size > 2 else "open"
        wins[rival] += wanted == "first"
        got = verdict(one, other)
        assert got == wanted, (
            f"seeds {one} against {other}: wanted {wanted!r}, got {got!r}; each variance "
            "is divided by its own number of seeds"
        )
got = ranks(recipes)
for name, n in wins.items():
    assert got[name] == n + 1, (
        f"{n} recipes are better than {name}, so its rank is {n + 1}, got {got[name]}"
    )
for one, other, wanted in (
    ([2.0] * 3, [2.0] * 3, "open"),
    ([2.0] * 3, [2.5] * 4, "first"),
    ([2.5] * 4, [2.0] * 3, "second"),
    ([1.0], [9.0], "open"),
    ([], [1.0, 2.0, 3.0], "open"),
    ([2.0, 3.0, 4.0], [2.0, 3.0, 4.0], "open"),
):
    got = verdict(one, other)
    assert got == wanted, f"{one} against {other}: wanted {wanted!r}, got {got!r}"
assert ranks({}) == {}, "without entries there are no ranks"
assert ranks({"alone": [1.0]}) == {"alone": 1}, "nobody is better than the only entry"

# %% [markdown]
# ## 5. How many bytes (2 points)
#
# 6 MB are soon full, so plan before you train.
# Write `stored(shapes, bits, tied, besides)`, the bytes of a model as a whole number.
#
# - `shapes` is a dict from the name of each weight to its shape, a list of whole numbers.
#   The shape `[]` is a single number.
# - `bits` is a dict from names to the bits that one number of that weight takes.
#   A weight that is not in it takes 16.
# - `tied` is a dict from names to names: a weight in it shares the numbers of another one and is not stored.
# - `besides` is the bytes of the configuration and the tokenizer.
#
# Each weight begins at a new byte: 5 numbers of 4 bits are 20 bits, and take 3 bytes.
#
# An embedding of shape [6, 4] in 16 bits takes 48 bytes, a norm of shape [5] in 4 bits takes 3, and an output tied to the embedding none.
# With 100 bytes besides, that makes 151.


# %% answer="stored"
def stored(shapes, bits, tied, besides):
    """Return the bytes that a model's weights take, and what else is stored."""
    ### BEGIN SOLUTION
    total = besides
    for name, shape in shapes.items():
        if name in tied:
            continue
        n_bits = bits.get(name, 16)
        for length in shape:
            n_bits = n_bits * length
        total += (n_bits + 7) // 8
    return total
    ### END SOLUTION


# %% test="stored" points=1
example = {"embedding": [6, 4], "norm": [5], "output": [6, 4]}
got = stored(example, {"norm": 4}, {"output": "embedding"}, 100)
assert got == 151, (
    "6 · 4 numbers of 2 bytes are 48, 5 numbers of 4 bits are 3 whole bytes, the tied "
    f"output is not stored, and 100 are besides: 151, got {got}"
)
got = stored({"scale": []}, {"scale": 32}, {}, 0)
assert got == 4, f"the shape [] is one number, here of 32 bits: 4 bytes, got {got}"

# %% hidden="stored" points=1
# Hidden: random shapes and widths, several tied weights, weights of no size (1 point)
g = generator(5)
for trial in range(6):
    shapes, bits, tied, wanted = {}, {}, {}, 1000 * trial
    for i in range(9):
        n_dims = (i + trial) % 4
        shape = torch.randint(1, 9, (n_dims,), generator=g).tolist()
        shapes[f"w{i}"] = shape
        width = 16
        if i % 2:
            width = bits[f"w{i}"] = (1, 3, 4, 8, 32)[(i + trial) % 5]
        if i in (4, 7) and trial:
            tied[f"w{i}"] = "w0"
        else:
            n_bits = torch.zeros(shape).numel() * width
            wanted += n_bits // 8 + (n_bits % 8 > 0)
    got = stored(shapes, bits, tied, 1000 * trial)
    assert got == wanted, (
        f"shapes {shapes}, bits {bits}, tied {tied}, besides {1000 * trial}: wanted "
        f"{wanted} bytes, got {got}; round up for each weight by itself"
    )
    assert isinstance(got, int), f"bytes are a whole number, got {got!r}"
assert stored({}, {}, {}, 7) == 7, "without weights only what is besides is stored"
assert stored({"none": [0, 5]}, {}, {}, 0) == 0, "0 · 5 numbers take no byte"

# %% [markdown]
# ## 6. A schedule within the budget (2 points)
#
# A run that is cut off in the middle of its schedule is worth little: the last steps, at a low learning rate, bring the loss down most.
# So find out first how many steps fit.
#
# Write `steps_within(budget, fixed, per_step, interval, per_check)`, all of them whole numbers, times in milliseconds.
# `fixed` is spent once: the tokenizer and loading.
# A step takes `per_step`, at least 1.
# The held-out loss is measured after every `interval` steps (at least 1), and after the last step if that is not one of them; each time takes `per_check`.
# Return the largest number of steps for which all of this takes at most `budget`; it is 0 if not even one step fits.
#
# With a budget of 100, 10 fixed, 5 per step, and a check of 20 after every 4 steps, 4 steps take 10 + 20 + 20 = 50.
# 8 steps would take 90, and 9 steps 90 + 5 + 20 = 115: so the answer is 8.
#
# Steps are slower when the machine is busy.
# The learning rate can follow the clock instead of the steps, so that it always gets to its end.
# Write `rate_at(spent, budget, warmup, peak)`: over the first share `warmup` of the budget the rate rises in a straight line from 0 to the peak, then it falls in a straight line to 0, which it reaches when `spent` reaches the budget.
# From then on it is 0.
# `warmup` is at least 0 and less than 1; if it is 0, the rate begins at the peak.


# %% answer="schedule"
def steps_within(budget, fixed, per_step, interval, per_check):
    """Return how many steps fit into a budget, checks included."""
    ### BEGIN SOLUTION
    room = max(0, budget - fixed)
    per_round = interval * per_step + per_check
    rounds, left = divmod(room, per_round)
    return rounds * interval + max(0, (left - per_check) // per_step)
    ### END SOLUTION


def rate_at(spent, budget, warmup, peak):
    """Return the learning rate when a part of the budget is spent."""
    ### BEGIN SOLUTION
    share = spent / budget
    if share < warmup:
        return peak * share / warmup
    return peak * max(0.0, (1 - share) / (1 - warmup))
    ### END SOLUTION


# %% test="schedule" points=1
for budget, wanted in ((100, 8), (90, 8), (89, 7), (50, 4), (35, 1), (34, 0), (5, 0)):
    got = steps_within(budget, 10, 5, 4, 20)
    assert got == wanted, (
        f"10 fixed, 5 per step, a check of 20 after every 4 steps and at the end: {wanted} "
        f"steps fit into {budget}, got {got}"
    )
for spent, wanted in ((0, 0.0), (5, 0.2), (10, 0.4), (55, 0.2), (100, 0.0), (120, 0.0)):
    got = rate_at(spent, 100, 0.1, 0.4)
    assert near(got, wanted), (
        f"{spent} of 100 spent, a warm-up of 0.1 and a peak of 0.4: {wanted}, got {got}"
    )

# %% hidden="schedule" points=1
# Hidden: random budgets against counting up step by step, other warm-ups (1 point)
g = generator(6)


def cost(n, fixed, per_step, interval, per_check):
    """Return what n steps take, for tests."""
    checks = sum(1 for step in range(1, n + 1) if step % interval == 0 or step == n)
    return fixed + n * per_step + checks * per_check


low, high = torch.tensor([0, 0, 1, 1, 0]), torch.tensor([400, 60, 12, 9, 30])
drawn = [low + (torch.rand(5, generator=g) * (high - low)).long() for _ in range(60)]
for case in ([5, 5, 1, 3, 0], [0, 9, 1, 2, 0], *(each.tolist() for each in drawn)):
    budget, *rest = case
    wanted = 0
    while cost(wanted + 1, *rest) <= budget:
        wanted += 1
    got = steps_within(budget, *rest)
    assert got == wanted, (
        f"budget {budget}, fixed {rest[0]}, per step {rest[1]}, a check of {rest[3]} after "
        f"every {rest[2]} steps and at the end: wanted {wanted}, got {got}"
    )
for budget, warmup, peak in ((60.0, 0.25, 2.0), (7.0, 0.5, 0.3), (1200.0, 0.0, 1.0)):
    for i in range(26):
        spent = budget * i / 20
        if spent < warmup * budget:
            wanted = peak * (spent / (warmup * budget))
        else:
            wanted = peak * max(budget - spent, 0) / (budget - warmup * budget)
        got = rate_at(spent, budget, warmup, peak)
        assert near(got, wanted, 1e-7), (
            f"{spent} of {budget} spent, warm-up {warmup}, peak {peak}: wanted "
            f"{wanted:.4f}, got {got}"
        )

# %% [markdown]
# ## 7. Your report (4 points, written)
#
# In at most one page, say what you handed in and how you know how good it is:
#
# - the recipe: sizes, tokenizer, data, schedule, and the processor minutes that it took, with the command that measured them and the machine;
# - the excess of each seed, the mean with its error, and bytes and SHA-256 of each model that you hand in, one for each seed, as in your `score.json`;
# - at least two changes that you tried against a baseline, each with three seeds or more, as a table: what was changed, excess, verdict;
# - which choices were made on which stories. The contest's stories are for the end, not for choosing.

# %% [markdown] written="report" points=4
# A report that earns all points might read like this.
#
# "Baseline: 2 layers, width 128, 1,024 tokens, batches of 4 stories, stretched to 20 minutes with `steps_within`: 19.4 processor minutes by `time.process_time()`, 3.1 MB.
# All choices were made on 500 tales of seed 77; the contest's tales were read once per seed, at the end.
# Excess over seeds 0, 1, 2: 6.1, 6.6, 6.3; mean 6.33 ± 0.15 nats per story.
# Change A, batches of 2 stories instead of 4 and twice the steps: 5.2, 5.5, 5.1, mean 5.27 ± 0.12: better, by 1.07 with se 0.19.
# Change B, a third layer in the same time, so fewer steps: 6.0, 6.9, 6.2, mean 6.37 ± 0.27: open.
# Handed in: A with the seeds 0, 1 and 2, 3.1 MB each, SHA-256 8c1f…, 02d7… and f3a9…; the mean over the seeds, not the best seed, is what we claim."
# (The numbers here are made up to show the form.)
#
# One point: the recipe can be run again from the report, and the minutes of all parts are measured, on stated hardware.
# One point: three seeds or more for every claim, with mean and error; no best seed sold as the result.
# One point: two changes or more against a baseline that differs in nothing else (the same budget above all), and verdicts that follow from the errors.
# One point: the report tells what was chosen on which stories, and the contest's stories were not used for choosing; the score agrees with the file (`llmcourse course score FOLDER --against score.json`).

# %% [markdown]
# ## 8. What did not help (3 points, written)
#
# Name at least one idea that you expected to help and that did not, with its numbers (three seeds or more, with the error).
# Say what you expected and why, what the measurement rules out and what it does not, and what you would do next with ten times the budget.
#
# Then answer this: a friend trained twenty recipes with one seed each, chose the one with the lowest excess on the contest's stories, and reports that excess.
# Say what is wrong with the number, in which direction, and how to report it properly.

# %% [markdown] written="negative" points=3
# For example: "We expected a larger vocabulary to help, as stories become shorter and steps cheaper.
# With 3,072 instead of 1,024 tokens the excess was 5.4 ± 0.3 against 5.3 ± 0.1, three seeds each: open.
# That rules out a gain of more than about 2 · 0.32 − 0.1 = 0.5 nats per story at this budget; it does not rule out a smaller one, or one from longer training, in which the rare tokens are seen more often.
# With ten times the budget we would try both vocabularies again, with more steps and six seeds."
# (These numbers are made up, too.)
#
# The friend's number is too low.
# The lowest of twenty has won by its recipe and by luck, with its seed and with the stories, and that luck will not come again.
# The proper way: choose on other stories, train the chosen recipe with new seeds, and report their mean and error on stories that were used for no choice; also say that twenty were tried.
#
# One point: an expectation with a reason, and numbers with an error from three seeds or more.
# One point: "no difference was found" is told apart from "there is none": how large a gain the errors still allow, and at which budget.
# One point: the minimum of many is too low (selection), and new seeds and new stories after the choice put that right.
