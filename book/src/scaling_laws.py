# %% [markdown]
# (scaling_laws)=
# # Scaling laws
#
# A large model is trained only once, so its size and its settings are chosen by training small ones.
# Twenty-two small models show how the loss falls with parameters and tokens, and how far such a curve can be trusted.
# About a hundred others compare learning rates, optimizers and whole recipes.
#
# **You will be able to**
#
# - say what a training run costs, in FLOPs, hours and money,
# - fit a scaling law to small runs, and say how the result depends on what is minimised and on which runs are left out,
# - find the best size for a budget, from IsoFLOP curves and from a law,
# - say how far a scaling law can be trusted, and what it leaves out,
# - choose a learning rate, an optimizer and other settings by short runs, and say what these cannot tell.
#
# **You need** the chapter [Pretraining](pretraining.ipynb).
#
# **Takes** about 50 minutes to read with the code.
#
# **Runs in** about half a minute on one processor core.

# %% [markdown]
# ## Setup

# %% tags=["hide-input"]
from itertools import pairwise
from math import exp, log

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import huber_loss

from llmcourse import plotting, studies
from llmcourse.checks import scaling_laws as checks
from llmcourse.model.costs import forward_flops_per_token, n_parameters
from llmcourse.training import scaling
from llmcourse.training.presets import SMALL

plotting.use_course_style()
_ = torch.set_num_threads(1)

# %% [markdown]
# ## The problem
#
# You have one hour of computer time.
# Do you train a large model on a little text, or a small model on a lot?
# Here are the losses of twenty-two runs on the tales: four sizes times five amounts of text, and one of the twenty with three seeds.
# The **floor** is the entropy of the tales, below which no model's loss can fall on average ([Pretraining](pretraining.ipynb)).

# %%
study = studies.stored_study("scaling", scaling.Point)
true_floor = study.recipe["floor"]  # nats/token, exact
losses = {(p.n_parameters, p.n_tokens, p.seed): p.loss for p in study.points}
model_sizes = sorted({p.n_parameters for p in study.points})
text_sizes = sorted({p.n_tokens for p in study.points})  # in tokens
print(f"{len(losses)} runs; the floor is {true_floor:.2f} nats/token")

# %% tags=["hide-input"]
print("loss (nats/token): parameters down the side, tokens along the top")
print(f"{'':10}" + "".join(f"{n:>11,}" for n in text_sizes))
for size in model_sizes:
    row = (losses[size, n, 0] for n in text_sizes)
    print(f"{size:10,}" + "".join(f"{loss:11.2f}" for loss in row))

# %%
repeats = sorted(losses[122_784, 416_000, seed] for seed in range(3))
print("one of them, three seeds:", ", ".join(f"{loss:.2f}" for loss in repeats))

# %% [markdown]
# More of either lowers the loss, each time by less.
# Now compare three runs that took about the same work: parameters times tokens come to 3 to 5 times $10^{11}$.
# The model with 122,784 parameters read all the text, the one with 295,744 half of it, and the one with 786,048 an eighth.
# The middle one has the lowest loss.
# (It also did the most work of the three; at equal work it still has the lowest, as the valleys below show.)
# This page finds that middle for budgets well inside the range of its runs, and asks how far beyond it a law can be trusted.
#
# All models have two layers, and share the tokenizer and the copying start ([Pretraining](pretraining.ipynb)) of `base-llm`.
# Each run has a schedule of its own, whose learning rate reaches zero at the last step.
# The peak of the rate is proportional to the width to the power −3/4: at twice the width it is 0.6 times as high.
# (*What each setting does*, below, shows one reason why a wider model needs a lower rate.)
# It wasn't tuned for each size or length, so some runs may end higher than they need to.
# `python book/studies/scaling_study.py --out scaling.json` repeats them in about twenty minutes.
# All but one are single runs; the three seeds above show what luck does.
# A tale counts as 208 tokens here, the length of a window, though it fills only about 180 of them on average.
# So all our values of $D$ are about 15 % too large, by the same factor in every run, which leaves the exponents unchanged.

# %% [markdown]
# ## By hand
#
# Suppose that we knew the loss as a function of $N$ parameters and $D$ tokens:
#
# $$\mathcal{L}(N, D) = 0.5 + \frac{100}{\sqrt{N}} + \frac{1000}{\sqrt{D}}.$$
#
# In training, every token passes through every parameter, so the work grows with the product $N \cdot D$; how much it is exactly comes below.
# Our budget allows $N \cdot D = 10^{10}$.
# Here are three ways to spend it:
#
# | parameters $N$ | tokens $D$ | floor | from the size | from the text | loss |
# |---|---|---|---|---|---|
# | 5,000 | 2,000,000 | 0.5 | 1.41 | 0.71 | 2.62 |
# | 10,000 | 1,000,000 | 0.5 | 1 | 1 | 2.50 |
# | 20,000 | 500,000 | 0.5 | 0.71 | 1.41 | 2.62 |
#
# ![Three bars that begin with the same floor, 0.5. Two more parts follow, from the size and from the text. 5,000 parameters: 1.41 and 0.71, in all 2.62. 10,000: 1 and 1, in all 2.50. 20,000: 0.71 and 1.41, in all 2.62.](figures/one-budget-three-sizes.svg)
#
# *One budget, three sizes: what the small model lacks in size it can't make up by reading, and vice versa.*
#
# The best model is neither the largest nor the one that reads the most.

# %%
for n in (5_000, 10_000, 20_000):
    d = 1e10 / n
    loss = 0.5 + 100 / n**0.5 + 1000 / d**0.5
    print(f"{n:6,} parameters, {d:9,.0f} tokens: loss {loss:.2f}")

# %% [markdown]
# ## The idea
#
# The law that the field uses has five numbers {cite:p}`hoffmann2022`:
#
# $$\mathcal{L}(N, D) = E + A\,N^{-\alpha} + B\,D^{-\beta}.$$
#
# Its first term is what remains when model and text grow without end; if the law is true, this is the entropy of the source.
# For real texts nobody knows that entropy; for the tales it is known, so this can be tested.
#
# | Symbol | Meaning | Unit | Name in code |
# |---|---|---|---|
# | $N$, $D$ | parameters; tokens it was trained on | – | `n_parameters`, `n_tokens` |
# | $E$ | loss that no size or text can remove | nats/token | `Law.floor` |
# | $A$, $\alpha$ | how the loss falls with the size | nats/token, – | `Law.a` (in `log_loss`, `a` is $\ln A$), `alpha` |
# | $B$, $\beta$ | how the loss falls with the text | nats/token, – | `Law.b`, `beta` |
# | $C \approx 6ND$ | work of training | FLOPs | `budget` |
#
# ### What a token costs: six FLOPs for each parameter
#
# A FLOP is one floating-point operation: an addition or a multiplication.
# In the forward pass each weight is multiplied by one number and the product is added to a sum: 2 FLOPs for each token.
# In the backward pass the same is done twice: once for the gradient of the weight, once for the gradient that is passed further down.
#
# ![A weight w between an input x and an output y. Forward: y gets w times x, 2 FLOPs. Backward, for the weight: its gradient gets x times the gradient of y, 2 FLOPs. Backward, for the layer below: the gradient of x gets w times the gradient of y, 2 FLOPs. Together 6.](figures/six-flops-for-a-weight.svg)
#
# *One weight, one token, one training step.*
#
# So $C \approx 6ND$.
# This leaves out what attention computes between positions, which grows with the length of the text.
# And it counts the table of embeddings like any other matrix.
# (Ours is used as one, because the same table scores the next token.)

# %%
n_positions = 205  # tokens of a tale, by the small model's tokenizer
exact = 3 * forward_flops_per_token(SMALL.model, n_positions)  # forward, twice back
share = 6 * n_parameters(SMALL.model) / exact
print(f"this book's small model: 6N is {share:.0%} of the exact count")

# %% [markdown]
# The rest is the work of attention between positions.
# (The count has all pairs of positions, also those that the mask hides.)
#
# ### Hours and money
#
# A processor has a peak speed, and a training run reaches only a share of it, the **model FLOPs utilisation** (MFU).
# For a large run, 40 % is good.
# An H100, a graphics processor (GPU) made for this work, multiplies matrices in bfloat16 at up to 989 teraFLOPs a second.
# Renting one costs a few dollars an hour; we assume two.


# %%
def cost(n_parameters, n_tokens, peak=989e12, mfu=0.4, dollars=2.0):
    flops = 6 * n_parameters * n_tokens
    hours = flops / (peak * mfu) / 3600
    return flops, hours, dollars * hours


# %% [markdown]
# Here are four large models, with their parameters and tokens.

# %%
large_models = {
    "GPT-3": (175e9, 300e9),
    "Chinchilla": (70e9, 1.4e12),
    "Llama 3.1 8B": (8e9, 15e12),
    "Llama 3.1 405B": (405e9, 15.6e12),
}

# %%
print(f"{'':15}    FLOPs   million GPU hours   million dollars   tokens/parameter")
for name, (n, d) in large_models.items():
    flops, hours, money = cost(n, d)
    row = f"{hours / 1e6:20.3g}{money / 1e6:18.3g}{d / n:19,.0f}"
    print(f"{name:15} {flops:8.1e}{row}")

# %% [markdown]
# For the largest of these the authors state $3.8 \cdot 10^{25}$ FLOPs, which is $6ND$, and an MFU of about 40 % on 16,000 such processors {cite:p}`grattafiori2024`.
# The model card of Llama 3.1 {cite:p}`meta2024` states 30.8 million GPU hours for it, and 1.46 million for the 8-billion model.
# That is 1.2 times and nearly three times our numbers.
# So treat the hours as a rough guess: a real run often takes longer, and one with a higher MFU less.
# The dollars are for the final run alone; trials, failures, people and data come on top.
# (GPT-3 and Chinchilla were trained on other processors; their hours are for comparison only.)

# %% [markdown]
# ## In code
#
# ### Fitting the law
#
# {cite:t}`hoffmann2022` fit the *logarithm* of the loss, so that a miss of 2 % counts the same at 3 nats as at 0.8.
# And they use the **Huber loss**: a square for misses below $\delta = 10^{-3}$, and a straight line beyond, so that one odd run doesn't dominate the fit.
# Most of our misses are larger, so here it is almost the sum of their sizes.
#
# The law is also written with logarithms: $e = \ln E$, $a = \ln A$, $b = \ln B$.
# Then its three terms are $\exp(e)$, $\exp(a - \alpha \ln N)$ and $\exp(b - \beta \ln D)$.
# The logarithm of their sum is what torch's `logsumexp` computes from the three exponents.
# All five numbers now have a similar size, and $E$, $A$ and $B$ cannot become negative.


# %%
def log_loss(theta, n, d):
    e, a, alpha, b, beta = theta
    parts = e.expand_as(n), a - alpha * n.log(), b - beta * d.log()
    return torch.stack(parts).logsumexp(dim=0)


def columns(points):
    rows = [(p.n_parameters, p.n_tokens, p.loss) for p in points]
    return torch.tensor(rows).double().T


# %% [markdown]
# Here are three ways to measure how far a law is from the runs: squares of plain losses, squares of their logarithms, and Hoffmann's.


# %%
def squares(log_predicted, loss):
    return (log_predicted.exp() - loss).square().sum()


def log_squares(log_predicted, loss):
    return (log_predicted - loss.log()).square().sum()


def log_huber(log_predicted, loss):
    # Beyond delta it is about delta times the miss; 1e3 undoes that.
    return 1e3 * huber_loss(log_predicted, loss.log(), delta=1e-3, reduction="sum")


OBJECTIVES = {
    "squares": squares,
    "squares of logs": log_squares,
    "Huber of logs": log_huber,
}

# %% [markdown]
# LBFGS minimises them; it is an optimizer for a smooth loss over all the data at once.
# It calls `closure` for the loss and its gradient as often as it needs.
# We start it from a rough guess, with $E = e^{-1} \approx 0.37$ and both exponents 0.8.


# %%
def fit_law(points, objective, start=(-1.0, 9.0, 0.8, 10.0, 0.8)):
    n, d, loss = columns(points)
    theta = torch.tensor(start, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [theta], max_iter=500, tolerance_change=1e-13, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = OBJECTIVES[objective](log_loss(theta, n, d), loss)
        value.backward()
        return value

    optimizer.step(closure)
    return theta.detach()


# %% [markdown]
# The package's `scaling.fit` uses squares of plain losses, and finds the same law in another way.
# For given exponents the law is linear in $E$, $A$ and $B$, so it searches only for the exponents.

# %%
law = scaling.fit(study.points)
e, a, alpha, b, beta = fit_law(study.points, "squares").tolist()
print(f"by LBFGS E {exp(e):.2f}, alpha {alpha:.2f}, beta {beta:.2f}")
print(f"package  E {law.floor:.2f}, alpha {law.alpha:.2f}, beta {law.beta:.2f}")

# %% tags=["remove-cell"]
assert abs(exp(e) - law.floor) < 0.02
assert abs(alpha - law.alpha) < 0.02
assert abs(beta - law.beta) < 0.02

# %% [markdown]
# ## Experiment
#
# ### What is minimised, and which runs
#
# *Predict*: the shortest runs stop long before learning ends.
# If we leave them out, does $E$ come nearer to the true floor, and which way of fitting comes nearest?
#
# :::{dropdown} Answer
# In all three ways $E$ comes nearer; with all runs included it is far below the floor.
# The ways with logarithms come nearest here, probably because the runs with the largest losses no longer dominate the fit.
# :::

# %%
fitted_floors = {}
for least in text_sizes[:3]:
    points = [p for p in study.points if p.n_tokens >= least]
    for objective in OBJECTIVES:
        e = fit_law(points, objective)[0]
        fitted_floors[least, objective] = e.exp().item()

# %% tags=["hide-input"]
print(f"E (nats/token) by what is minimised; the true floor is {true_floor:.2f}")
print(f"{'fitted to runs of':24}" + "".join(f"{name:>17}" for name in OBJECTIVES))
for least in text_sizes[:3]:
    row = "".join(f"{fitted_floors[least, name]:17.2f}" for name in OBJECTIVES)
    print(f"{least:9,} tokens or more" + row)

# %% tags=["remove-cell"]
shortest, second = text_sizes[:2]
for objective in OBJECTIVES:
    assert fitted_floors[shortest, objective] < true_floor - 0.1
    gain = fitted_floors[second, objective] - fitted_floors[shortest, objective]
    assert gain > 0.05
for least in text_sizes[:3]:
    assert fitted_floors[least, "squares"] < fitted_floors[least, "Huber of logs"]
assert abs(fitted_floors[second, "Huber of logs"] - true_floor) < 0.02

# %% mystnb={"image": {"alt": "Loss over tokens, both axes logarithmic, for four sizes of model: points, and the law fitted without the shortest runs by the Huber loss of logarithms. The curves go through or close to the points from 416,000 tokens on; the points of the shortest runs lie below the curves. A dotted line is the true floor, below all points."}} tags=["hide-input"]
longer = [p for p in study.points if p.n_tokens >= text_sizes[1]]
theta = fit_law(longer, "Huber of logs")
e, a, alpha, b, beta = theta.tolist()
hoffmann = scaling.Law(floor=exp(e), a=exp(a), alpha=alpha, b=exp(b), beta=beta)
fig, ax = plt.subplots(figsize=(7, 3))
scaling.plot_scaling(ax, study.points, hoffmann, true_floor)
_ = ax.set(xlim=(1.5e5, 8e6))

# %% [markdown]
# *Loss against the length of the training text, from 208,000 to 3,328,000 tokens, for models of four sizes (parameters beside each line).
# Markers are runs, lines the law fitted by the Huber loss of logarithms; the dotted line is the true floor.*
#
# Each line is the law for one number of parameters, fitted to the points from 416,000 tokens on; the shortest runs all lie below their lines.
# The same formula, fitted to all of these runs or to most of them, gives an $E$ anywhere from a third of the floor to the floor itself.
# Plain squares are dominated by the runs of 2 to 3.5 nats, because a miss of 2 % is largest in nats there.
# With the Huber loss of logarithms and without the shortest runs, the law arrives at the true floor; with squares of logarithms it comes near.
#
# So two choices that look technical move the answer a lot: *what is minimised*, and *for which runs the law holds*.
# For the shortest it doesn't; perhaps, after a thousand stories, the models are still learning spelling and grammar.
# A power law that is fitted there doesn't know what will be learned next.
# We were able to choose the runs because we know the floor.
# Without it we would see only that $E$ moves a lot when runs are left out, which is a warning by itself.
#
# ### How sure is it?
#
# To see how far chance moves $E$, we use a **bootstrap**: draw as many runs as there are, with replacement, fit again, and look at the spread.
# (Its last digits differ between processors.)

# %% tags=["nbval-ignore-output"]
generator = torch.Generator().manual_seed(0)
resampled = []
for _ in range(60):
    places = torch.randint(len(longer), (len(longer),), generator=generator)
    sample = [longer[i] for i in places]
    resampled.append(fit_law(sample, "Huber of logs", theta.tolist()).tolist())

# %% tags=["nbval-ignore-output"]
floors = sorted(exp(parameters[0]) for parameters in resampled)
low, high = floors[3], floors[-4]  # 90 % of them lie between
print(f"E = {exp(e):.2f}, 90 % of the resamples from {low:.2f} to {high:.2f}")

# %% tags=["remove-cell"]
assert low < 0.35 < true_floor < high

# %% [markdown]
# The interval contains the true floor and much else: eighteen runs don't tell us where the curve ends.
# So luck helped the fit above to come so close to the floor.
#
# The test that matters is harder: predict larger runs from smaller ones.
# We leave out the four runs that took the most work, fit the rest, and predict those four.
# The last column shows by how much each prediction misses, from the run with the least work to the one with the most.

# %%
largest = sorted(longer, key=lambda p: p.n_parameters * p.n_tokens)[-4:]
rest = [p for p in longer if p not in largest]
print(f"{len(rest)} runs to fit, {len(largest)} to predict")

# %%
n, d, loss = columns(largest)
predicted = {}
print("minimised           E   error of the predicted losses")
for objective in OBJECTIVES:
    fitted = fit_law(rest, objective)
    predicted[objective] = log_loss(fitted, n, d).exp()
    errors = predicted[objective] / loss - 1
    row = ", ".join(f"{error:+.0%}" for error in errors.tolist())
    print(f"{objective:15}{fitted[0].exp():6.2f}   {row}")

# %% tags=["remove-cell"]
for objective in OBJECTIVES:
    errors = (log_loss(fit_law(rest, objective), n, d) - loss.log()).exp() - 1
    assert (errors < 0.01).all()
    assert errors[-1] < -0.15
sizes = [(p.n_parameters, p.n_tokens) for p in largest]
assert sizes == sorted(sizes, key=lambda size: size[0] * size[1])

# %% [markdown]
# Here are the last row's predictions, beside what was measured.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Measured and predicted losses of the four largest runs, from the least work to the most, each pair joined by a line with the gap beside it: −4 %, −11 %, −16 % and −24 %. The predictions are always the lower ones. The largest run, with 786,048 parameters and 3,328,000 tokens, ends at 0.76 nats per token; 0.58 was predicted."}}
fig, ax = plt.subplots(figsize=(7, 2.6))
law_says = predicted["Huber of logs"].tolist()
for place, (run, low) in enumerate(zip(largest, law_says)):
    _ = ax.plot([place, place], [low, run.loss], color="0.6", linewidth=1, zorder=0)
    gap = f"  {low / run.loss - 1:+.0%}".replace("-", "−")
    _ = ax.text(place, (low + run.loss) / 2, gap, va="center", fontsize=9)
_ = ax.plot([p.loss for p in largest], "o", color="C0", label="measured")
_ = ax.plot(law_says, "x", color="C1", label="predicted")
names = [f"{p.n_parameters:,} parameters\n{p.n_tokens:,} tokens" for p in largest]
_ = ax.set(xticks=range(4), xticklabels=names, ylabel="loss (nats/token)")
_ = ax.set(xlim=(-0.4, 3.6), ylim=(0, 1.3))
_ = plotting.label_lines(ax)

# %% [markdown]
# *The four largest runs, from the least work to the most: dots are measured losses, crosses those that the law predicts from the fourteen smaller runs, and the numbers are the gaps.*
#
# **For the largest run the law promised a loss about a quarter lower than the run then reached.**
# All three ways predict too low a loss, and the miss grows with the distance.
# Nothing in the smaller runs shows the bend towards the floor, so $E$ falls to zero.
# A likely reason for the miss: the smaller runs show how fast spelling and grammar are learned, and the law goes on at that pace.
# A growing share of what is left then is facts to look up, which are learned late and take more text ([Pretraining](pretraining.ipynb)).
# So the real loss falls more slowly than the law promises.
#
# So our **{term}`scaling law`** is useful within the range that was measured, and hardly beyond it.
# The bootstrap's interval covers only chance; how far a law misses outside its range, only a larger run can tell.

# %% [markdown]
# ### IsoFLOP curves
#
# The best size for a budget can be read off without any law.
# Fix the budget $C$, and train each size on the tokens that it can then afford, $D = C / 6N$.
# Plotted against size, the loss is a valley: left of its lowest point the models are too small, right of it they read too little.
# These are **IsoFLOP curves**.
#
# Our runs were not made at equal budgets, so we read each size's loss off the line between its two nearest runs, on logarithmic axes.
# A parabola through the points gives the lowest point, marked by a cross in the figure; the numbers beside the curves are budgets in FLOPs.


# %%
def loss_at(n, budget):
    log_d = log(budget / 6 / n)
    runs = [(log(d), log(losses[n, d, 0])) for d in text_sizes]
    for (d0, loss0), (d1, loss1) in pairwise(runs):  # all four are logarithms
        if d0 <= log_d <= d1:
            return exp(loss0 + (loss1 - loss0) * (log_d - d0) / (d1 - d0))
    return None


# %% [markdown]
# A valley has a point for a size if we ran that size with fewer tokens than it can afford, and with more.
# Here is the valley of $10^{12}$ FLOPs, as pairs of size and loss.


# %%
def valley(budget):
    curve = [(n, loss_at(n, budget)) for n in model_sizes]
    return [(n, loss) for n, loss in curve if loss is not None]


print([(n, round(loss, 2)) for n, loss in valley(1e12)])


# %%
def lowest(points):
    """Return where a parabola through the points, over the log of x, is lowest."""
    x, y = torch.tensor([(log(n), loss) for n, loss in points]).double().T
    powers = torch.stack((x**2, x, torch.ones_like(x)), dim=1)
    p, q, _ = torch.linalg.lstsq(powers, y[:, None]).solution[:, 0]
    return exp(-q / (2 * p))


# %%
budgets = (4e11, 6e11, 1e12, 1.6e12, 2.4e12)
best = {budget: lowest(valley(budget)) for budget in budgets}
print("  FLOPs   best number of parameters   tokens for each")
for budget, n in best.items():
    print(f"{budget:.1e}{n / 1e3:19.0f} thousand{budget / 6 / n / n:18.1f}")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss over parameters, logarithmic, for five budgets: three or four points for each, joined by a parabola. Each is a valley, and the larger the budget, the lower it lies. The lowest points, marked by crosses, move to the right, from about 130 thousand to about 290 thousand parameters."}}
fig, ax = plt.subplots(figsize=(7, 3))
for number, (c, n) in enumerate(best.items()):
    sizes, found = zip(*valley(c))
    x, y = torch.tensor([sizes, found]).double()
    powers_of_x = torch.stack((x.log() ** 2, x.log(), torch.ones_like(x)), dim=1)
    parabola = torch.linalg.lstsq(powers_of_x, y[:, None]).solution
    line = torch.linspace(log(min(sizes)), log(max(sizes)), 50).double()
    curve = torch.stack((line**2, line, torch.ones_like(line)), dim=1) @ parabola
    _ = ax.plot(line.exp(), curve, color=f"C{number}", linewidth=1)
    _ = ax.plot(sizes, found, "o", color=f"C{number}", markersize=4)
    bottom = torch.tensor([log(n) ** 2, log(n), 1.0]).double() @ parabola
    _ = ax.plot([n], bottom, "x", color="0.2")
    _ = ax.text(
        sizes[-1] * 1.04, found[-1], f"{c:.1e}", color=f"C{number}", va="center"
    )
_ = ax.set(xscale="log", xlabel="parameters, log scale", xlim=(5e4, 1.3e6))
plotting.plain_log_ticks(ax.xaxis)
_ = ax.set(ylabel="loss (nats/token)")

# %% [markdown]
# *Loss against size at five budgets, in FLOPs; a cross marks the lowest point of each parabola.*

# %% tags=["remove-cell"]
in_order = [best[c] for c in budgets]
assert in_order == sorted(in_order)
assert all(model_sizes[1] < n < model_sizes[-1] for n in in_order)

# %% [markdown]
# The valleys are steep here: a model two or three times too small or too large ends tenths of a nat higher.
# As the budget grows, the lowest point moves to larger models, and to more text for them.
# (A parabola through three or four points is a rough tool, and all five budgets use the same single runs: they show a trend, not five independent results.)

# %% [markdown]
# ### The compute-optimal frontier
#
# The lowest points of all valleys are the **compute-optimal frontier**.
# By the law it is a straight line on logarithmic axes.
# Put $D = C / 6N$ into the law and set the derivative to zero (exercise 2).
# At the best size both parts fall equally fast: $\alpha A N^{-\alpha} = \beta B D^{-\beta}$.
# Solved for $N$, this is
#
# $$
# \begin{aligned}
# N_\text{best} &= G \left(\frac{C}{6}\right)^{\beta / (\alpha + \beta)}, \\
# G &= \left(\frac{\alpha A}{\beta B}\right)^{1 / (\alpha + \beta)}.
# \end{aligned}
# $$
#
# The tokens follow from $D = C / 6N$: they grow like $C^{\alpha / (\alpha + \beta)}$.
# If $\alpha = \beta$, both powers are 1/2.
#
# ![A map with parameters to the right and tokens upwards, both logarithmic. Parallel lines fall to the right: each is one budget. A dot on each line marks the lowest loss; an arrow through the dots, the frontier, rises to the right. Below it models are too large, above it they are too small.](figures/compute-optimal-frontier.svg)
#
# *All runs on one falling line take the same work.*
#
# The law in the next cell is the one fitted above by the Huber loss of logarithms, without the shortest runs.

# %% tags=["nbval-ignore-output"]
x, y = torch.tensor([(log(c), log(n)) for c, n in best.items()]).double().T
slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
power = beta / (alpha + beta)
powers = sorted(beta / (alpha + beta) for _, _, alpha, _, beta in resampled)
print(f"N grows like C to the power {slope:.2f} by the valleys,")
print(f"{power:.2f} by the law (90 %: {powers[3]:.2f} to {powers[-4]:.2f})")

# %% [markdown]
# The two agree within the interval: parameters and tokens should grow at about the same rate, each roughly like the square root of the budget.
# That is what {cite:t}`hoffmann2022` found for models up to twenty thousand times as large.
# The *ratio* is different here: four to five tokens for each parameter as we count them, or about four without the empty ends of the windows, where they found about twenty.
# Our runs don't decide whether it grows or falls with the budget: by the valleys it grows a little, by this law it falls.

# %% [markdown]
# ### What a law does not know
#
# A law describes the runs that it was fitted to, with their text, tokenizer, optimizer and schedule.
# Another recipe has different numbers: a better optimizer lowers all curves, and the law knows nothing about it.
# The best-known early laws {cite:p}`kaplan2020` recommended models that were too large, and it took four years to settle why.
# {cite:t}`hoffmann2022` suspected the learning-rate schedule, but that wasn't the main reason.
# In the early runs, part of the work was not counted, the warm-up was too long for small models, and settings were not tuned for each size {cite:p}`porian2024`.
# A law of the mean loss also says nothing about single skills.
# In [Pretraining](pretraining.ipynb), looking facts up is learned late, and the loss gives no warning of it.
#
# {cite:t}`wei2022emergent` collected tasks on which small models only guess and larger ones suddenly succeed, and called these **{term}`emergent abilities <emergent ability>`**.
# {cite:t}`schaeffer2023` answered that much of the suddenness comes from the measure.
# Suppose that an answer counts only if each of its ten tokens is right.
# Then a probability of 0.8 for each token gives $0.8^{10} \approx 0.11$, and one of 0.95 gives $0.95^{10} \approx 0.60$.
# Judged token by token, the same models improve smoothly.
#
# A law also depends on what was counted.
# Here $N$ includes the table of embeddings.
# That is nine tenths of our smallest model and half of our largest, but half a percent of a model with 405 billion parameters.
# (It is one percent with the output matrix, which is separate there.)
# So don't carry our numbers of tokens per parameter over to other texts and sizes.

# %% [markdown]
# ### What each setting does
#
# A law holds for one recipe, and the recipe has to be chosen as well.
# Two more studies follow; their losses cannot be compared with those above, or with each other.
# The question of both is whether what wins a short run also wins a long one.
#
# | Study | Model | Reads | Measured in |
# |---|---|---|---|
# | the law | two layers, width 16 to 128 | 1,000 to 16,000 stories | nats/token, floor 0.51 |
# | one setting at a time | two layers, width 64 | 320 stories | nats/token, floor 0.46 |
# | a ladder of recipes | mostly three layers, width 256 | 8,000 stories, then 24,000 | nats/story above the floor |
#
# Numbers that are chosen and not learned are called **hyperparameters**: learning rate, warm-up, batch size, weight decay, and also the sizes of the model.
# A small model, two layers of width 64 with random initial weights, reads 320 stories once, one per step.
# Its rate rises over 16 steps and then falls to zero; its weight decay is 0.1.
# We change one setting at a time, with three seeds each.
# (Its tokens are those of the small model of [Pretraining](pretraining.ipynb), hence the floor of 0.46.)
# SGD has a *momentum* of 0.9 here: it steps along a running sum of its gradients, and has no weight decay.
# `python book/studies/settings_study.py --out settings.json` repeats these runs.
#
# *Predict*: over a factor of sixty in AdamW's learning rate, how does the loss change?
# And which optimizer ends lowest, if each gets its best rate?
#
# :::{dropdown} Answer
# It is a valley: the loss is high at both ends.
# Muon ends lowest, AdamW next, SGD highest.
# :::

# %%
settings = studies.stored_study("settings", dict)
by_rate = {}
for run in settings.points:
    key = run["group"], run["changes"]["learning_rate"]
    by_rate.setdefault(key, []).append(run["loss"])
mean = {key: sum(losses) / len(losses) for key, losses in by_rate.items()}
print(f"AdamW, rate 0.008: {mean['AdamW', 0.008]:.2f} nats/token, mean of three seeds")

# %% [markdown]
# The next cell picks, for each optimizer, the best of the rates that were tried.

# %%
for name in ("SGD", "AdamW", "Muon"):
    least, rate = min((mean[key], key[1]) for key in mean if key[0] == name)
    print(f"{name:6} {least:.2f} nats/token at its best rate, {rate}")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Held-out loss over the learning rate, logarithmic, with three dots at each rate and a line through their means for each optimizer. AdamW is a valley from 0.001 to 0.064 with its lowest point at 0.008, and both ends more than a nat higher. SGD is a valley farther right, at 0.3, and higher. Muon is lowest of all, nearly flat from 0.008 to 0.032."}}
fig, ax = plt.subplots(figsize=(7, 3))
for name, style in zip(("AdamW", "SGD", "Muon"), plotting.LINE_STYLES):
    rates = sorted(rate for group, rate in mean if group == name)
    (line,) = ax.plot(rates, [mean[name, r] for r in rates], style, label=name)
    for rate in rates:
        dots = by_rate[name, rate]
        _ = ax.plot([rate] * len(dots), dots, ".", color=line.get_color())
_ = ax.set(xscale="log", xlabel="peak learning rate, log scale")
plotting.plain_log_ticks(ax.xaxis)
_ = ax.set(ylabel="loss (nats/token)")
_ = plotting.label_lines(ax)

# %% [markdown]
# *Held-out loss after 320 stories, against the peak learning rate: dots are seeds, lines go through their means.*

# %% tags=["remove-cell"]
assert all(len(losses) == 3 for losses in by_rate.values())
adam = [mean["AdamW", rate] for rate in (0.001, 0.008, 0.064)]
assert adam[1] + 0.8 < min(adam[0], adam[2])
least = {n: min(x for (g, _), x in mean.items() if g == n) for n in ("Muon", "SGD")}
assert least["Muon"] + 0.2 < adam[1] < least["SGD"] - 0.2

# %% [markdown]
# At AdamW's highest rates the model learns little more than which tokens are frequent; knowing only that costs 6.1 nats a token ([Pretraining](pretraining.ipynb)).
# It doesn't explode, because AdamW divides each step by the size of the gradients; it stalls.
# The best rate also depends on the size of the model, which makes it costly to find for a large one.
#
# A single matrix shows one reason.
# The first step of AdamW moves every weight by the learning rate, up or down by the sign of its gradient.
# An output adds up as many of these changes as there are inputs, so how far it moves depends on the width.
# The function below measures this with random numbers: a matrix reads an input $x$ and takes one step towards a random target.
# It returns how far the outputs move (root mean square), first for $x$, then for 256 other inputs.


# %%
def changes(x, rate):
    """Return how far one step of AdamW on x moves the outputs for x and for others."""
    width = len(x)
    weight = torch.randn(width, width, generator=draws).div(width**0.5).requires_grad_()
    before = weight.detach().clone()
    optimizer = torch.optim.AdamW([weight], rate, weight_decay=0)
    (weight @ x - torch.randn(width, generator=draws)).square().mean().backward()
    optimizer.step()
    moved = weight.detach() - before
    others = torch.randn(width, 256, generator=draws)
    return [(moved @ inputs).square().mean().sqrt().item() for inputs in (x, others)]


# %% [markdown]
# Three widths follow, at the rate 0.004 and at a rate that falls with the width, 0.256 / width, which is 0.004 at width 64.
# The last column has a *one-hot* input: a single 1, and 0 everywhere else.
# A table of embeddings reads such an input, because a token picks one of its rows.
# Before the step, the outputs are about 1 in size; those of the one-hot input, which picks a single column, are $1 / \sqrt{\text{width}}$.

# %%
draws = torch.Generator().manual_seed(0)
print("       for x                      for others  for x, one-hot")
print("width  rate 0.004  0.256 / width  rate 0.004  rate 0.004")
for width in (64, 256, 1024):
    x = torch.randn(width, generator=draws)
    same, others = changes(x, 0.004)
    lower, _ = changes(x, 0.256 / width)
    one_hot, _ = changes(torch.eye(width)[0], 0.004)
    print(f"{width:5} {same:11.2f} {lower:14.2f} {others:11.2f} {one_hot:11.3f}")

# %% tags=["remove-cell"]
narrow, wide = (changes(torch.randn(n, generator=draws), 0.004) for n in (64, 1024))
assert 12 < wide[0] / narrow[0] < 21  # the widths: 16 times
assert 3 < wide[1] / narrow[1] < 5.5  # their roots: 4 times
assert 0.75 < lower / narrow[0] < 1.33
assert abs(one_hot - 0.004) < 1e-4

# %% [markdown]
# At a fixed rate, the outputs for $x$ move in proportion to the width: all changes line up with the input that caused them.
# With width 1024 a single step moves them by three times their size.
# At a rate that falls as 1 / width, they move equally far at each width.
# For a one-hot input, just one change counts, and its size is the rate at any width.
#
# **{term}`μP`** scales initial weights and rates so that outputs move equally far at any width, and the best rate of a small model holds for a large one {cite:p}`yang2022`.
# With AdamW, the rate of the matrices inside the model falls as 1 / width, and the rate of the table of embeddings stays the same.
#
# These are first steps on one input, and other inputs line up less.
# For unrelated ones, the outputs move in proportion to the *root* of the width, so a rate that falls as the width to the power −1/2 would be enough.
# Real inputs are neither equal nor unrelated, so the best power may lie between −1 and −1/2, as the −3/4 at the top of this page does.
#
# Back to the small model and its 320 stories: here are the other settings, each beside AdamW at the same rate, with the lowest and highest of three seeds.
# A seed gives all settings the same start and the same order of stories, so the last column can compare them seed by seed.


# %% tags=["hide-input"]
def with_range(losses):
    mean = sum(losses) / len(losses)
    return f"{mean:.2f} ({min(losses):.2f} to {max(losses):.2f})"


print(
    f"setting            rate   {'loss (nats/token)':23}{'AdamW, same rate':23}higher for"
)
for (group, rate), changed in by_rate.items():
    if group not in ("AdamW", "SGD", "Muon"):
        usual = by_rate["AdamW", rate]
        higher = sum(a > b for a, b in zip(changed, usual))
        row = f"{with_range(changed):23}{with_range(usual):23}"
        print(f"{group:16}{rate:7}   {row}{higher} of {len(usual)} seeds")

# %% tags=["remove-cell"]
adam = {rate: mean[group, rate] for group, rate in mean if group == "AdamW"}
more = {key: mean[key] - adam[key[1]] for key in mean if key[1] in adam}
assert all(more["batch of 4", rate] > 0.1 for rate in (0.008, 0.016))
assert all(more["no warm-up", rate] > 0 for rate in (0.008, 0.016))
assert all(more["constant rate", rate] < -0.1 for rate in (0.004, 0.008))
assert more["weight decay 1", 0.008] < -0.1 < 0 < more["no weight decay", 0.008]
assert mean["constant rate", 0.008] > mean["constant rate", 0.004]
for group, rate in more:
    pairs = zip(by_rate[group, rate], by_rate["AdamW", rate])
    assert group == "AdamW" or len({ours > theirs for ours, theirs in pairs}) == 1

# %% [markdown]
# - **{term}`Batch size <batch size>`**: with four stories in a batch the same text gives only a quarter of the steps.
#   The loss ends higher, at the rate 0.008 far higher.
#   Here steps are scarce, not good gradients.
# - **Warm-up** gains about two tenths of a nat.
# - **Weight decay** also gains, and ten times the usual 0.1 gains more.
#   It can't be a remedy for overfitting here, because nothing is read twice.
#   A likely reason is that it keeps the weights small, so that the same steps change more.
# - **Decay of the rate** loses: a constant rate ends lower at both peaks.
#   In so short a run, long steps right to the end gain more than settling does.
#   (A constant 0.008 ends higher than a constant 0.004 on average, but not with every seed.)
#
# Every difference in the table has the same sign with all three seeds.
# (By chance alone a row would do so one time in four, so trust the large differences more than the small ones.)
# All of them are results of 320 stories, not laws.
# What helps in a short run may hurt in a long one.
# So compare settings at a length as near to the final one as you can afford.

# %% [markdown]
# ### A ladder of recipes
#
# So here is the recipe of a larger model, taken apart in runs closer in length to that of `base-llm`.
# The model has the sizes of `base-llm-small`, three layers of width 256, and the copying start.
# It reads 8,000 stories once, eight per step.
# In the table below, each row is the second row (Muon with the rate 0.006) with one change.
# (But AdamW has rates of its own, and one of the deeper models is narrower.)
# `base-llm` itself takes 32 stories per step and the rate 0.008: with nearly forty times as many stories, it can afford larger batches, and larger batches bear a higher rate.
# Each recipe was trained from three seeds.
# We measure how much a new story costs above the floor.
# (A story has about 180 tokens, so 18 nats a story are 0.1 nats a token.)
# `python book/studies/ladder_study.py --out ladder.json` repeats it, in about three hours on one core.
#
# *Predict*: twice as many layers, twice the batch, more normalisation, a rate that doesn't end at zero: which of these help?
#
# :::{dropdown} Answer
# The normalisation helps a lot, and the rate perhaps a little.
# :::


# %%
def ladder_results(study):
    """Return each recipe's losses, and how far they are above the second row's."""
    excess = {}  # nats per story above the floor
    for run in studies.stored_study(study, dict).points:
        excess.setdefault(run["name"], []).append(run["excess"])
    excess = {name: torch.tensor(losses) for name, losses in excess.items()}
    muon = excess["Muon, rate 0.006"]
    return excess, {name: losses - muon for name, losses in excess.items()}


# %% tags=["hide-input"]
def print_ladder(study):
    """Print the results of a ladder."""
    excess, differences = ladder_results(study)
    print(f"{'nats per story above the floor':40} mean   more than Muon, rate 0.006")
    for name, difference in differences.items():
        error = difference.std() / len(difference) ** 0.5
        print(f"{name:40} {excess[name].mean():4.1f}", end="")
        print(f"  {difference.mean():+z5.1f} ± {error:.1f}")


print_ladder("ladder")

# %% tags=["remove-cell"]
_, change = ladder_results("ladder")
doubt = {name: 2 * more.std().item() / 3**0.5 for name, more in change.items()}
better = {name for name, more in change.items() if more.mean() < -doubt[name]}
assert better == {"Muon, QK-norm", "Muon, ends at a tenth"}
alike = {name for name, more in change.items() if abs(more.mean()) < doubt[name]}
assert alike == {"Muon, rate 0.003"}
assert all(change[f"AdamW, rate {rate}"].mean() > 5 for rate in (0.002, 0.004, 0.008))

# %% [markdown]
# The number after ± is one standard error of the difference, seed by seed.
# With only three seeds, chance alone exceeds two standard errors about one time in five, and four about one time in twenty.
# So take a change of fewer than four standard errors as a hint.
#
# - **The optimizer**: at the best of its three rates, AdamW ends 5.5 nats a story higher than Muon.
#   One step up in the rate costs either of them more than 30 nats; one step down, little.
#   The best rates are lower than for the small model above: 0.004 instead of 0.008 for AdamW, 0.006 instead of 0.016 for Muon.
# - **QK-norm** gains 7 nats, more than any other row, for 192 more parameters: queries and keys are scaled to one size before they meet ([Attention](attention.ipynb)).
#   (`base-llm` doesn't have it.)
# - **Depth**: six layers, with about as many parameters or with 1.7 times as many, end a little higher at this length: a hint.
# - **Batch**: with half the batch, and also with twice the batch, at the same rate, the same text teaches less.
#   (For half the batch this is also a hint.)
# - **The copying start** pays: without it the model ends about where the recipe gets on half the stories, probably still on the plateau ([Pretraining](pretraining.ipynb)).
# - **Embeddings** learn four times as fast as the rest in all rows but one; learning only *as fast* as the rest costs 9 nats.
#   The one-hot input above suggests why they can bear a higher rate, but only in part: the same table is also the last layer, whose inputs are not one-hot.
# - **The final rate**: ending at a tenth of the peak instead of zero gains a little.
#   This is also a hint, with the same sign as the constant rate in the short runs above, which gained far more.
#
# To see whether such a lead lasts, Muon was trained again, with and without QK-norm, on 24,000 stories, three times as many (`--steps 3000` does it).
#
# *Predict*: what is left of QK-norm's seven nats?
#
# :::{dropdown} Answer
# Less than one, and three seeds don't make even that certain.
# :::

# %%
print_ladder("ladder_long")

# %% tags=["remove-cell"]
excess, change = ladder_results("ladder_long")
assert all(losses.mean() < 5 for losses in excess.values())
lead = change["Muon, QK-norm"]
assert abs(lead.mean()) < 2 * lead.std() / 3**0.5

# %% [markdown]
# The difference is less than twice its standard error, and with one of the three seeds QK-norm ends higher.
# A change that helps early need not help in the end.
# `base-llm` reads nearly forty times as many stories as the first ladder's models, and has six layers.
# Neither ladder says whether depth pays at that length.

# %% [markdown]
# ## Takeaways
#
# Training costs about $6ND$ FLOPs: two for each weight and token forward, four backward; hours and money follow from the speed that is reached.
# Loss falls as $E + A N^{-\alpha} + B D^{-\beta}$, for runs to which the law applies.
# What is minimised and which runs are fitted move what the law says about the far end.
# The Huber loss of logarithms, without the shortest runs, arrived at the true floor, though with a wide interval.
# Plain squares of all runs arrived at a third of it.
# For a fixed budget the loss against size is a valley.
# As the budget grows, its lowest point moves to larger models and more text.
# An interval covers only chance; held-out larger runs show how far a law misses, and ours predicted their losses too low.
# Against the learning rate the loss is a valley as well, with steps too short on one side and too long on the other.
# Each optimizer has its own best rate.
# A recipe that leads after a short run need not lead after a long one.
#
# *In practice*: {cite:t}`kaplan2020` recommended large models on little text.
# {cite:t}`hoffmann2022` gave each run a schedule of its own, and found that parameters and tokens should grow together, at about twenty tokens for each parameter.
# They trained **{term}`Chinchilla`** like that, with 70 billion parameters on 1.4 trillion tokens, and it beat a model four times its size.
# "Chinchilla-optimal" means this ratio.
# The authors looked for the best ratio in three ways, and two of them agreed on about twenty; the third, fitting the law, gave a smaller model on more text.
# Others read the points off a published figure and refitted the law {cite:p}`besiroglu2024`.
# The published fit was off, its intervals were far too narrow, and the new fit agrees with the other two ways.
#
# A model that will be *used* a lot should be smaller and trained for longer: each answer costs $2N$ FLOPs a token {cite:p}`sardana2024`.
# That is why the 8-billion model in the table above has read nearly two thousand tokens for each parameter.
#
# How such a training run is shared among many machines is the subject of [Beyond the laptop](scaling.ipynb).

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("scaling_laws")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (derive): a run on one machine ★
#
# You have one machine with eight H100s for a week, at an MFU of 40 %.
# How many FLOPs is that?
# At twenty tokens for each parameter, how large a model can you train, and on how many tokens?
# What would the week cost at two dollars an hour for each H100?

# %% tags=["hide-cell", "solution"]
hours = 8 * 7 * 24
budget = hours * 3600 * 989e12 * 0.4
size = (budget / 6 / 20) ** 0.5  # C = 6 N · 20 N
print(f"{budget:.1e} FLOPs: {size:.1e} parameters on {20 * size:.1e} tokens")
print(f"{2 * hours:,} dollars")

# %% [markdown]
# ### Exercise 2 (derive): dividing a budget ★★
#
# Training costs about $C = 6ND$ FLOPs.
# For a given $C$, which $N$ makes $A N^{-\alpha} + B D^{-\beta}$ smallest?
# Put $D = C / 6N$ into it and set the derivative to zero.
#
# ```python
# def best_size(a, alpha, b, beta, budget):
#     return n_parameters
# ```
#
# Check it with `checks.best_size(best_size)`.
# By the law above, `hoffmann` in the code, how many tokens should the model read for each parameter at a budget of $10^{12}$ FLOPs?
# Does that number grow or fall with the budget?
# (In the notebook `a` and `b` are logarithms; use `hoffmann.a` and `hoffmann.b`.)
# For which budgets would you trust the answer?


# %% tags=["hide-cell", "solution"]
def best_size(a, alpha, b, beta, budget):
    # alpha A N^-alpha = beta B D^-beta: both halves of the excess fall equally fast
    ratio = alpha * a / (beta * b) * (budget / 6) ** beta
    return ratio ** (1 / (alpha + beta))


checks.best_size(best_size)
h = hoffmann
sizes = [best_size(h.a, h.alpha, h.b, h.beta, c) for c in (1e12, 1e13)]
ratios = [c / 6 / n**2 for c, n in zip((1e12, 1e13), sizes)]
print(
    f"{ratios[0]:.1f} tokens for each parameter, at ten times the budget {ratios[1]:.1f}"
)
# D / N goes like C to the power (alpha - beta) / (alpha + beta): it falls if beta is
# larger. Trust it for the budgets of the valleys, 4e11 to 2.4e12 FLOPs. Near the largest
# that was run, 6 · 786,048 · 3,328,000 = 1.6e13, the best size is already beyond our
# largest model. The valleys say that the number grows a little, and the exponent's
# interval holds one half: our runs do not decide it.
assert abs(ratios[1] / ratios[0] - 10 ** ((alpha - beta) / (alpha + beta))) < 1e-6

# %% [markdown]
# ### Exercise 3 (build): how sure is the best size ★★★
#
# Write a bootstrap of the best size, in 20 lines or so.
# `size_interval(points, budgets, n)` resamples the runs $n$ times, fits the law by the Huber loss of logarithms, and takes `best_size`.
# It returns the 5th and the 95th percentile for each budget.
# Skip fits with an exponent below 0.05.
# Take `longer` and 40 draws, and start each fit from `theta`.
# Give the interval for $10^{12}$, $10^{13}$ and $10^{15}$ FLOPs.
# How does its width, as a ratio of its ends, grow with the distance from the runs?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
def size_interval(points, budgets, n, seed=1):
    generator = torch.Generator().manual_seed(seed)
    start = fit_law(points, "Huber of logs").tolist()
    found = {budget: [] for budget in budgets}
    for _ in range(n):
        places = torch.randint(len(points), (len(points),), generator=generator)
        sample = [points[i] for i in places]
        _, a, alpha, b, beta = fit_law(sample, "Huber of logs", start).tolist()
        if min(alpha, beta) <= 0.05:
            continue  # no law: the sample has too few sizes or texts
        for budget in budgets:
            size = best_size(exp(a), alpha, exp(b), beta, budget)
            found[budget].append(size)
    ends = {}
    for budget, sizes in found.items():
        sizes.sort()
        cut = round(0.05 * len(sizes))
        ends[budget] = sizes[cut], sizes[-1 - cut]
    return ends


intervals = size_interval(longer, (1e12, 1e13, 1e15), n=40)
for budget, (low, high) in intervals.items():
    print(f"{budget:.0e} FLOPs: a factor of {high / low:.1f} between the ends")
assert intervals[1e12][1] / intervals[1e12][0] < intervals[1e15][1] / intervals[1e15][0]
# Near the runs the size is known well; a thousand times beyond them by a wide factor,
# and that is chance alone: it does not show where the law ceases to hold.

# %% [markdown]
# ### Exercise 4 (explore): a whole size left out ★★★
#
# Fit the runs of 416,000 tokens or more without those of the largest model, in each of the three ways.
# Then predict the ones left out.
# Which run is predicted best, which worst, and how do the misses change as the text grows?

# %% tags=["hide-cell", "solution"]
largest_model = [p for p in longer if p.n_parameters == model_sizes[-1]]
narrower = [p for p in longer if p.n_parameters < model_sizes[-1]]
n, d, loss = columns(largest_model)
print(f"{'tokens':16}" + "".join(f"{p.n_tokens:11,}" for p in largest_model))
for objective in OBJECTIVES:
    errors = (log_loss(fit_law(narrower, objective), n, d) - loss.log()).exp() - 1
    print(f"{objective:16}" + "".join(f"{error:+11.1%}" for error in errors.tolist()))
    assert errors[0] > 0 > errors[-1]
# In all three ways the run of 1,664,000 tokens is predicted best. By logarithms the
# shortest is worst; by plain squares the longest is about as bad. The misses go from too
# high to too low: the measured loss falls more slowly with the tokens than the law's.

# %% [markdown]
# ### Exercise 5 (explore): the bottom of the valley ★★
#
# Would a rate between those that were tried be better?
# `lowest(points)` fits a parabola over the logarithm of the first number of each point.
# Give it the three rates of AdamW with the lowest means: which rate does it propose?
# (`mean` has them, under keys such as `("AdamW", 0.008)`.)
# How much lower is the parabola there than the loss at the best rate that was tried, and is that more than the seeds differ?
# (For its height at that point, fit the parabola once more.)

# %% tags=["hide-cell", "solution"]
tried = sorted((loss, rate) for (group, rate), loss in mean.items() if group == "AdamW")
(least_loss, good), *_ = tried[:3]
proposed = lowest([(rate, loss) for loss, rate in tried[:3]])
x, y = torch.tensor([(log(rate), loss) for loss, rate in tried[:3]]).double().T
powers_of_x = torch.stack((x**2, x, torch.ones_like(x)), dim=1)
parabola = torch.linalg.solve(powers_of_x, y)
at = torch.tensor([log(proposed) ** 2, log(proposed), 1.0]).double() @ parabola
spread = max(by_rate["AdamW", good]) - min(by_rate["AdamW", good])
print(f"tried {good}, proposed {proposed:.4f}: {least_loss - at:.3f} nats lower")
print(f"the seeds at {good} are {spread:.2f} nats apart")
# The proposal is near the rate that was tried, and what it promises is less than the
# seeds differ: finer steps would need more seeds, not more rates.

# %% [markdown]
# ## Sources
#
# The law, the Huber loss of logarithms and IsoFLOP curves are from {cite:t}`hoffmann2022`, after {cite:t}`kaplan2020`; {cite:t}`besiroglu2024` tried to repeat the fit.
# {cite:t}`porian2024` explain where the two laws differ.
# {cite:t}`sardana2024` work out that a model that is used a lot should be smaller.
# Muon is from {cite:t}`jordan2024`, and *μP* from {cite:t}`yang2022`.
# Emergent abilities are from {cite:t}`wei2022emergent`, and the doubt about them from {cite:t}`schaeffer2023`.
