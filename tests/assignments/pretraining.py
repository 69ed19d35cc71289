# ---
# jupyter:
#   llmcourse:
#     version: 1
#     blocked: [llmcourse.training.config, llmcourse.training.evaluation, llmcourse.training.loop, llmcourse.training.losses, llmcourse.training.optimizers, llmcourse.training.pretraining, llmcourse.training.windows]
# ---

# %% [markdown]
# # Assignment: a step of pretraining
#
# You write everything that happens in one step of pretraining: examples, loss, gradient, learning rate, clipping, and the optimizer's step.
# At the end you read the loss that comes out of it.
#
# | Task | Points | Difficulty | Minutes |
# |---|---|---|---|
# | 1. Examples | 2 | ★ | 10 |
# | 2. The loss | 3 | ★★ | 20 |
# | 3. Its gradient | 2 | ★★ | 15 |
# | 4. The learning rate | 2 | ★ | 10 |
# | 5. Clipping | 2 | ★ | 10 |
# | 6. AdamW | 3 | ★★★ | 25 |
# | 7. Reading a loss (one point of code, two written) | 3 | ★★ | 20 |
# | 8. Three curves (written) | 3 | ★★★ | 20 |
#
# 20 points in all. Read the chapter [Pretraining](../pretraining.ipynb) first; the letters are the same here: $B$ sequences of $T$ tokens, and a vocabulary of $V$.
# Replace every `raise NotImplementedError()` with your code, then run the cell below it: it is silent if your code is right, and says what is wrong if it is not.
# Some points come from hidden tests, which check the same requirements with other inputs.
# No function may change the arguments that it is given; some hidden tests check that, too.
#
# The first code cell locks away the package's own training.
# Write yours without `torch.nn.functional`, `torch.optim` and `backward()` as well: what they do is what you write.
# No test checks this, but whoever marks your work will.
# Functions of torch itself, such as `torch.softmax` and `torch.logsumexp`, are fine.

# %% given="setup"
import sys
from math import cos, exp, inf, log, pi

import torch

from llmcourse.classroom.tasks import close, describe, generator, is_pair

MODULES = "config evaluation loop losses optimizers pretraining windows"
for module in MODULES.split():
    sys.modules[f"llmcourse.training.{module}"] = None  # this is what you write


# %% [markdown]
# ## 1. Examples (2 points)
#
# A text is one long row of ids, a tensor of $n$ integers.
# It is cut into windows of $T + 1$ ids; the model reads the first $T$ of them and is asked at every place for the next id.
# Windows overlap by one id, so that each id but the first is a target once.
# Ids left at the end that do not fill a window are dropped.
# A row that is too short for a single window has none: both tensors are then of shape (0, T).
#
# Write `examples(tokens, context_length)`: two tensors, ids and targets, each of shape (windows, T).
#
# The row 5, 6, 7, 8, 9, 1 with $T = 2$ gives the ids $[[5, 6], [7, 8]]$ and the targets $[[6, 7], [8, 9]]$; the 1 is left over.


# %% answer="examples"
def examples(tokens, context_length):
    """Return the ids that a model reads and the targets, (windows, T) each."""
    ### BEGIN SOLUTION
    n_windows = max(0, len(tokens) - 1) // context_length
    end = n_windows * context_length
    shape = n_windows, context_length
    return tokens[:end].reshape(shape), tokens[1 : end + 1].reshape(shape)
    ### END SOLUTION


# %% test="examples" points=1
got = examples(torch.tensor([5, 6, 7, 8, 9, 1]), 2)
assert is_pair(got, torch.Tensor), (
    f"examples returns two tensors, ids and targets, got {describe(got)}"
)
ids, targets = got
assert ids.tolist() == [[5, 6], [7, 8]], (
    "windows of 2 + 1 overlap by one, so the second begins at 7: wanted the ids "
    f"[[5, 6], [7, 8]], got {ids.tolist()}"
)
assert targets.tolist() == [[6, 7], [8, 9]], (
    f"each target is the id one further on: [[6, 7], [8, 9]], got {targets.tolist()}"
)
row = torch.tensor([5, 6, 7, 8, 9, 1, 4, 2])
for n, left in ((8, "one id is left over"), (7, "no id is left over")):
    ids, targets = examples(row[:n], 3)
    for name, got, wanted in (
        ("ids", ids, [[5, 6, 7], [8, 9, 1]]),
        ("targets", targets, [[6, 7, 8], [9, 1, 4]]),
    ):
        assert got.tolist() == wanted, (
            f"{row[:n].tolist()} in windows of 3 + 1, {left}: wanted the {name} {wanted}, "
            f"got {got.tolist()}"
        )
ids, targets = examples(row, 8)
assert ids.shape == targets.shape == (0, 8), (
    "8 ids do not fill a window of 8 + 1: wanted two tensors of shape (0, 8), got "
    f"{tuple(ids.shape)} and {tuple(targets.shape)}"
)

# %% hidden="examples" points=1
# Hidden: long rows, rows that just fill a window or do not, the empty row (1 point)
g = generator(1)
for n, length in (
    (50, 7),
    (22, 7),
    (21, 7),
    (8, 7),
    (7, 7),
    (1, 3),
    (0, 3),
    (5, 1),
    (1, 1),
):
    tokens = torch.randint(0, 99, (n,), generator=g)
    saved = tokens.clone()
    ids, targets = examples(tokens, length)
    starts = [start for start in range(0, n, length) if start + length < n]
    where = f"{n} ids in windows of {length} + 1"
    for got, name in ((ids, "ids"), (targets, "targets")):
        assert tuple(got.shape) == (len(starts), length), (
            f"{where}: wanted {name} of shape {(len(starts), length)}, got {describe(got)}"
        )
        assert got.dtype == torch.int64, f"{where}: ids are integers, got {got.dtype}"
    row = tokens.tolist()
    assert ids.tolist() == [row[s : s + length] for s in starts], (
        f"{where}: each window begins where the last target of the one before is"
    )
    assert targets.tolist() == [row[s + 1 : s + 1 + length] for s in starts], (
        f"{where}: the targets are the ids, moved on by one"
    )
    assert torch.equal(tokens, saved), "examples must not change the row"

# %% [markdown]
# ## 2. The loss (3 points)
#
# Write `cross_entropy(logits, targets)`: the mean over all places of
#
# $$
# -\ln p(\text{target}) = \ln \sum_v e^{z_v} - z_\text{target},
# $$
#
# in nats, from logits of shape (B, T, V) and targets of shape (B, T), as a tensor of one number (shape `()`).
#
# - A target of $-1$ does not count: its place is not part of the mean.
#   (This is how padding is left out.)
#   If no place counts, the loss is 0.
# - Logits may be in the thousands, where $e^z$ overflows.
#   Adding the same number to all logits of a place changes no probability, so subtract the largest first.
#   A probability can be so small that it is rounded to 0, and its logarithm is then $-\infty$: do not take the logarithm of `torch.softmax`.
# - A logit may be $-\infty$: that token has probability 0.
#
# With the logits $(0, 0, 0, \ln 5)$ and the target 3, the probability is 5/8 and the loss $\ln 1.6$.


# %% answer="cross-entropy"
def cross_entropy(logits, targets):
    """Return the mean loss in nats over the places whose target is not -1."""
    ### BEGIN SOLUTION
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    log_probs = shifted - shifted.exp().sum(dim=-1, keepdim=True).log()  # (B, T, V)
    counts = targets >= 0
    picked = log_probs.gather(-1, targets.clamp(min=0)[..., None])[..., 0]  # (B, T)
    return -picked[counts].sum() / counts.sum().clamp(min=1)
    ### END SOLUTION


# %% test="cross-entropy" points=1
logits = torch.tensor([[[0.0, 0.0, 0.0, log(5)], [0.0, 0.0, 0.0, 0.0]]])
got = cross_entropy(logits, torch.tensor([[3, 1]]))
assert close(got, torch.tensor((log(1.6) + log(4)) / 2)), (
    "5/8 for the first target costs ln 1.6 = 0.470, 1/4 for the second ln 4 = 1.386; "
    f"the mean is 0.928, a tensor of shape (), got {describe(got)}"
)
got = cross_entropy(logits, torch.tensor([[3, -1]]))
assert close(got, torch.tensor(log(1.6))), (
    "the second target is -1 and does not count, so the mean is over one place: 0.470, "
    f"got {describe(got)}"
)
got = cross_entropy(logits + 1000, torch.tensor([[3, 1]]))
assert close(got, torch.tensor((log(1.6) + log(4)) / 2), 1e-3), (
    f"1000 more on all logits changes no probability: wanted 0.928, got {describe(got)}; "
    "subtract the largest logit before you take exponentials"
)
for row, target, wanted, why in (
    ([0.0, 1000.0], 0, 1000.0, "a target 1000 below the best costs 1000 nats"),
    ([0.0, -inf, 0.0], 2, log(2), "-inf is a probability of 0, so two tokens are left"),
    ([0.0, 0.0], -1, 0.0, "no place counts"),
):
    got = cross_entropy(torch.tensor([[row]]), torch.tensor([[target]]))
    assert close(got, torch.tensor(wanted)), (
        f"logits {row}, target {target}: {why}; wanted {wanted:.3f}, got {describe(got)}"
    )

# %% hidden="cross-entropy" points=2
# Hidden: random values, padding, logits that are far apart or minus infinity (2 points)
g = generator(2)
for scale, share in ((1.0, 0.0), (3.0, 0.4), (2000.0, 0.2)):
    logits = scale * torch.randn(3, 5, 7, generator=g)
    targets = torch.randint(0, 7, (3, 5), generator=g)
    targets[torch.rand(3, 5, generator=g) < share] = -1
    targets[0, 0] = 0
    saved = logits.clone(), targets.clone()
    wanted = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-1
    )
    got = cross_entropy(logits, targets)
    assert close(got, wanted, 1e-4), (
        f"logits of size {scale:g}, {int((targets < 0).sum())} of 15 places without a "
        f"target: wanted {describe(wanted)} of shape (), got {describe(got)}; log after softmax "
        "makes infinities where logits are far apart"
    )
    assert torch.equal(logits, saved[0]), "cross_entropy must not change the logits"
    assert torch.equal(targets, saved[1]), "cross_entropy must not change the targets"
    log_probs = logits.log_softmax(dim=-1)
    one = torch.full((3, 5), -1)
    one[2, 4] = 6
    got = cross_entropy(logits, one)
    assert close(got, -log_probs[2, 4, 6], 1e-4), (
        f"one place of 15 counts, and its loss is {-log_probs[2, 4, 6]:.4f}; "
        f"got {describe(got)}"
    )
got = cross_entropy(torch.randn(2, 3, 4, generator=g), torch.full((2, 3), -1))
assert close(got, torch.tensor(0.0)), f"no place counts: wanted 0, got {describe(got)}"
got = cross_entropy(torch.tensor([[[-inf, 0.0], [5.0, 5.0]]]), torch.tensor([[-1, 0]]))
assert close(got, torch.tensor(log(2))), (
    "the place without a target must not count in any way, also with a logit of -inf: "
    f"wanted ln 2, got {describe(got)}"
)
got = cross_entropy(torch.tensor([[[0.0, 2000.0]]]), torch.tensor([[0]]))
assert close(got, torch.tensor(2000.0)), (
    f"a target 2000 below the best costs 2000 nats, got {describe(got)}"
)

# %% [markdown]
# ## 3. Its gradient (2 points)
#
# The backward pass of every step begins with one formula: at each place that counts, the derivative of the loss with respect to the logits is
#
# $$
# \frac{\partial \mathcal{L}}{\partial z_v} = \frac1n \left(p_v - [v = \text{target}]\right),
# $$
#
# where $n$ is the number of places that count, and the bracket is 1 for the target and 0 for all others.
# So the target's logit is pushed up by what its probability lacks of 1, and all others are pushed down by the probability that they have.
#
# Write `loss_gradient(logits, targets)`, which returns this gradient, in the shape of the logits, by the formula.
# Here, too, logits may be in the thousands or $-\infty$.
# Places with the target $-1$ have a gradient of 0.
# If no place counts, the whole gradient is 0.


# %% answer="loss-gradient"
def loss_gradient(logits, targets):
    """Return the derivative of the mean loss by each logit, (B, T, V)."""
    ### BEGIN SOLUTION
    probs = logits.softmax(dim=-1)
    is_target = torch.arange(logits.shape[-1]) == targets[..., None]  # (B, T, V)
    counts = targets >= 0
    n = counts.sum().clamp(min=1)
    return (probs - is_target.float()) * counts[..., None] / n
    ### END SOLUTION


# %% test="loss-gradient" points=1
logits = torch.tensor([[[0.0, 0.0, 0.0, log(5)], [0.0, 0.0, 0.0, 0.0]]])
got = loss_gradient(logits, torch.tensor([[3, -1]]))
assert torch.is_tensor(got), f"the gradient is a tensor, got {describe(got)}"
assert tuple(got.shape) == (1, 2, 4), (
    f"a number for each logit, so the shape is (1, 2, 4), got {describe(got)}"
)
assert close(got[0, 0], torch.tensor([1, 1, 1, -3]) / 8), (
    "the probabilities are 1/8, 1/8, 1/8 and 5/8; the target's gradient is 5/8 - 1: "
    f"wanted [1/8, 1/8, 1/8, -3/8], got {describe(got[0, 0])}; one place counts, so n = 1"
)
assert close(got[0, 1], torch.zeros(4)), (
    f"a place without a target has no gradient, got {describe(got[0, 1])}"
)
got = loss_gradient(logits, torch.tensor([[3, 1]]))
wanted = torch.tensor([[[1, 1, 1, -3], [2, -6, 2, 2]]]) / 16
assert close(got, wanted), (
    "if both places count, n is 2, and the second has 1/4 each, minus 1 for token 1: "
    f"wanted {wanted[0].tolist()}, got {got[0].tolist()}; divide by the number of places "
    "that count"
)
for row, target, wanted in (
    ([0.0, 1000.0], 0, [-1.0, 1.0]),
    ([0.0, -inf, 0.0], 2, [0.5, 0.0, -0.5]),
    ([0.0, 0.0], -1, [0.0, 0.0]),
):
    got = loss_gradient(torch.tensor([[row]]), torch.tensor([[target]]))
    assert close(got, [[wanted]]), (
        f"logits {row}, target {target}: wanted {[[wanted]]}, got {describe(got)}"
    )

# %% hidden="loss-gradient" points=1
# Hidden: random values against torch's own gradient, large logits (1 point)
got = loss_gradient(torch.tensor([[[0.0, 1.0], [1000.0, 0.0]]]), torch.tensor([[0, 0]]))
share = 1 / (1 + exp(-1))  # of the second token, at the first place
assert close(got, [[[-share / 2, share / 2], [0.0, 0.0]]], 1e-6), (
    "one place has logits near 0, the next near 1000: subtract from each place its own "
    f"largest logit; got {describe(got)}"
)
g = generator(3)
for scale, share in ((1.0, 0.0), (2.0, 0.4), (300.0, 0.3), (1.0, 1.1)):
    logits = scale * torch.randn(3, 5, 7, generator=g)
    targets = torch.randint(0, 7, (3, 5), generator=g)
    targets[torch.rand(3, 5, generator=g) < share] = -1
    if share == 0.3:
        targets[:] = -1
    if share < 1:
        targets[1, 1] = 0
    saved = logits.clone(), targets.clone()
    leaf = logits.clone().requires_grad_()
    rows, wanted_ids = leaf.flatten(0, 1), targets.flatten()
    total = torch.nn.functional.cross_entropy(
        rows, wanted_ids, ignore_index=-1, reduction="sum"
    )
    n = int((targets >= 0).sum())
    (wanted,) = torch.autograd.grad(total / max(1, n), leaf)
    got = loss_gradient(logits, targets)
    assert close(got, wanted, 1e-6), (
        f"logits of size {scale:g}, {n} of 15 places count: wanted shape (3, 5, 7) and "
        f"torch's gradient, got {describe(got)}; divide by the number of places that count"
    )
    assert torch.equal(logits, saved[0]), "loss_gradient must not change the logits"
    assert torch.equal(targets, saved[1]), "loss_gradient must not change the targets"

# %% [markdown]
# ## 4. The learning rate (2 points)
#
# Write `learning_rate(step, steps, warmup, peak, final_share)`, the rate of one step as a number.
# Steps are counted from 0.
#
# - Over the first `warmup` steps, of which there are at most `steps`, it rises in a straight line.
#   Step 0 has `1 / warmup` of the peak, not 0, and step `warmup - 1` has all of it.
# - From step `warmup` on it falls along half a wave of a cosine.
#   Step `warmup` still has the peak, and step `steps` would have `final_share` of it.
#   Let $u$ be the share of the fall that is done, from 0 to 1, and $f$ be `final_share`:
#
#   $$
#   \text{rate} = \text{peak} \cdot \left(f + (1 - f) \, \tfrac12 (1 + \cos \pi u)\right).
#   $$
#
# - From step `steps` on it stays there.
#   (If all steps are warm-up, step `steps` still has the peak, and only the steps after it have the final share.)
#
# With 12 steps, 4 of them warm-up, a peak of 0.8 and a final share of 0, step 0 has 0.2, steps 3 and 4 have 0.8, and step 8, in the middle of the fall, has 0.4.


# %% answer="learning-rate"
def learning_rate(step, steps, warmup, peak, final_share):
    """Return the learning rate of a step: up in a line, down along a cosine."""
    ### BEGIN SOLUTION
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1, (step - warmup) / max(1, steps - warmup))
    return peak * (final_share + (1 - final_share) * 0.5 * (1 + cos(pi * done)))
    ### END SOLUTION


# %% test="learning-rate" points=1
for step, wanted in ((0, 0.2), (1, 0.4), (3, 0.8), (4, 0.8), (8, 0.4), (12, 0.0)):
    got = learning_rate(step, 12, 4, 0.8, 0.0)
    assert got is not None, "learning_rate returns a number, got None"
    assert abs(got - wanted) < 1e-6, (
        f"12 steps, 4 of warm-up, peak 0.8: step {step} has {wanted}, got {got}"
    )
got = learning_rate(8, 12, 4, 0.8, 0.5)
assert abs(got - 0.6) < 1e-6, (
    f"in the middle of the fall from 0.8 to half of it, the rate is 0.6, got {got}"
)

# %% hidden="learning-rate" points=1
# Hidden: other schedules, no warm-up, steps after the end, nothing but warm-up (1 point)
for steps, warmup, peak, share in (
    (50, 7, 0.3, 0.1),
    (9, 0, 2.0, 0.0),
    (30, 1, 1.0, 0.25),
):
    for step in range(steps + 5):
        if step < warmup:
            wanted = peak / warmup * (step + 1)
        else:
            u = min(step - warmup, steps - warmup) / (steps - warmup)
            wanted = peak * (share + (1 - share) * cos(pi * u / 2) ** 2)
        got = learning_rate(step, steps, warmup, peak, share)
        assert abs(got - wanted) < 1e-6, (
            f"step {step} of {steps}, warm-up {warmup}, peak {peak}, final share {share}: "
            f"wanted {wanted:.4f}, got {got:.4f}"
        )
for step, wanted in ((4, 0.5), (5, 0.5), (6, 0.05)):
    got = learning_rate(step, 5, 5, 0.5, 0.1)
    assert abs(got - wanted) < 1e-6, (
        f"all 5 steps are warm-up: step {step} has {wanted}, got {got}; the fall has no "
        "length then, so do not divide by 0"
    )

# %% [markdown]
# ## 5. Clipping (2 points)
#
# Write `clip(gradients, max_norm)`.
# `gradients` is a list of at least one tensor, of any shapes, one for each weight of the model.
# Return two things: the list of clipped gradients, and the norm that they had before, a tensor of one number (shape `()`).
#
# The norm is that of *all* numbers in all tensors together: the root of the sum of their squares.
# If it is larger than `max_norm`, all tensors are multiplied by `max_norm / norm`; otherwise they stay as they are.
#
# For example, $(3)$ and $(0, 4)$ have the norm 5 together; clipped to 1 they are $(0.6)$ and $(0, 0.8)$.


# %% answer="clip"
def clip(gradients, max_norm):
    """Return the gradients, shortened together to a norm, and the norm before."""
    ### BEGIN SOLUTION
    norm = torch.cat([each.flatten() for each in gradients]).square().sum().sqrt()
    factor = (max_norm / norm).clamp(max=1)
    return [each * factor for each in gradients], norm
    ### END SOLUTION


# %% test="clip" points=1
got = clip([torch.tensor([3.0]), torch.tensor([0.0, 4.0])], 1.0)
assert is_pair(got), f"clip returns a list and the norm, got {describe(got)}"
clipped, norm = got
assert close(norm, torch.tensor(5.0)), (
    "the root of 9 + 0 + 16 is 5, over all tensors together, and a tensor of shape (); "
    f"got {describe(norm)}"
)
assert len(clipped) == 2, f"two gradients in, two out; got {len(clipped)}"
assert close(clipped[0], torch.tensor([0.6])), (
    f"3 times 1/5 is 0.6, got {describe(clipped[0])}; all tensors have the same factor, so "
    "that the direction of the gradient stays"
)
assert close(clipped[1], torch.tensor([0.0, 0.8])), (
    f"(0, 4) times 1/5 is (0, 0.8), got {describe(clipped[1])}"
)
clipped, _ = clip([torch.tensor([3.0]), torch.tensor([0.0, 4.0])], 10.0)
assert close(clipped[1], torch.tensor([0.0, 4.0])), (
    f"a norm of 5 is below 10, so nothing changes; got {describe(clipped[1])}"
)

# %% hidden="clip" points=1
# Hidden: tensors of other shapes, a norm of 0, gradients that come in unchanged (1 point)
g = generator(4)
for max_norm in (0.5, 3.0, 100.0):
    shapes = ((2, 3), (5,), (), (1, 4, 2))
    gradients = [torch.randn(shape, generator=g) for shape in shapes]
    saved = [each.clone() for each in gradients]
    leaves = [torch.zeros(shape, requires_grad=True) for shape in shapes]
    for leaf, each in zip(leaves, gradients):
        leaf.grad = each.clone()
    wanted = torch.nn.utils.clip_grad_norm_(leaves, max_norm)
    clipped, norm = clip(gradients, max_norm)
    assert close(norm, wanted), (
        f"the norm before clipping is {wanted:.4f}, got {describe(norm)}"
    )
    assert len(clipped) == 4, f"four gradients in, four out; got {len(clipped)}"
    for got, leaf in zip(clipped, leaves):
        assert close(got, leaf.grad), (
            f"norm {wanted:.2f}, clipped to {max_norm:g}: a gradient of shape "
            f"{tuple(leaf.shape)} became {describe(got)}, wanted {describe(leaf.grad)}"
        )
    assert all(map(torch.equal, gradients, saved)), "clip must not change its inputs"
clipped, norm = clip([torch.zeros(3), torch.zeros(2, 2)], 1.0)
assert close(norm, torch.tensor(0.0)), f"zeros have the norm 0, got {describe(norm)}"
assert close(clipped[0], torch.zeros(3)), (
    f"gradients of 0 stay 0, got {describe(clipped[0])}; do not divide 0 by 0"
)

# %% [markdown]
# ## 6. AdamW (3 points)
#
# For each weight AdamW keeps $m$, a running mean of its gradient $g$, and $s$, a running mean of the gradient's square, both 0 at the beginning.
# Step number $k$, counted from 1, is
#
# $$
# m \leftarrow \beta_1 m + (1 - \beta_1)\, g, \qquad
# s \leftarrow \beta_2 s + (1 - \beta_2)\, g^2,
# $$
#
# $$
# w \leftarrow (1 - \eta \lambda)\, w - \eta\, \frac{m / (1 - \beta_1^k)}{\sqrt{s / (1 - \beta_2^k)} + \varepsilon}.
# $$
#
# The divisions by $1 - \beta^k$ make up for starting at 0: without them $m$ and $s$ would be too small at first, and the first steps would have the wrong length.
# The decay $\lambda$ shrinks the weight itself and is *not* added to the gradient: it is decoupled from $m$ and $s$, hence the W in the name.
#
# Write `adamw(weight, gradient, state, rate, betas, eps, decay)`.
# `state` is the tuple `(m, s, k)` after the steps so far, with $k = 0$ before the first; `rate` is $\eta$, `betas` is $(\beta_1, \beta_2)$, `decay` is $\lambda$.
# Return the new weight and the new state.
# The tensors that come in stay as they are.
#
# An example: $w = 2$, $g = 4$, the first step, $\eta = 0.1$, $\lambda = 0.5$, $\varepsilon = 0$.
# Then $m / (1 - \beta_1) = 4$ and the root is 4 as well, so $w$ becomes $0.95 \cdot 2 - 0.1 \cdot 1 = 1.8$.


# %% answer="adamw"
def adamw(weight, gradient, state, rate, betas, eps, decay):
    """Return the weight and the state after one step of AdamW."""
    ### BEGIN SOLUTION
    mean, square, n_steps = state
    beta_1, beta_2 = betas
    n_steps = n_steps + 1
    mean = beta_1 * mean + (1 - beta_1) * gradient
    square = beta_2 * square + (1 - beta_2) * gradient.square()
    direction = mean / (1 - beta_1**n_steps)
    size = (square / (1 - beta_2**n_steps)).sqrt()
    weight = (1 - rate * decay) * weight - rate * direction / (size + eps)
    return weight, (mean, square, n_steps)
    ### END SOLUTION


# %% test="adamw" points=1
given = [torch.tensor([x]) for x in (2.0, 4.0, 0.0, 0.0)]
weight, gradient, m, s = given
got = adamw(weight, gradient, (m, s, 0), 0.1, (0.9, 0.96), 0.0, 0.5)
assert is_pair(got), f"adamw returns the weight and the state, got {describe(got)}"
assert [each.item() for each in given] == [2, 4, 0, 0], (
    "adamw must not change the tensors that it is given, so no `mul_` or `*=` on them: "
    f"w, g, m, s were 2, 4, 0, 0 and are now {[each.item() for each in given]}"
)
got, state = got
assert len(state) == 3, f"the state is (m, s, k), got {len(state)} things"
assert state[2] == 1, f"after the first step k is 1, got {state[2]}"
assert close(state[0], torch.tensor([0.4])), (
    f"m is 0.9 · 0 + 0.1 · 4 = 0.4, without the correction; got {describe(state[0])}; 0.5 "
    "comes from a decay that was added to the gradient"
)
assert close(state[1], torch.tensor([0.64])), (
    f"s is 0.96 · 0 + 0.04 · 16 = 0.64, without the correction; got {describe(state[1])}"
)
assert close(got, torch.tensor([1.8])), (
    "the first step: 0.95 · 2 from the decay, minus 0.1 · 4/4, is 1.8; got "
    f"{describe(got)}; 1.85 comes from m / √s without the divisions by 1 - β to the power of k, "
    "and 1.9 from a missing term"
)
got, state = adamw(got, torch.tensor([4.0]), state, 0.1, (0.9, 0.96), 0.0, 0.5)
assert close(got, torch.tensor([1.61])), (
    "the second step, with the same gradient, is 0.95 · 1.8 minus 0.1 · 4/4 = 1.61; got "
    f"{describe(got)}; k is 2 now, in both powers"
)
got, _ = adamw(weight, gradient, (m, s, 0), 0.1, (0.9, 0.96), 4.0, 0)
assert close(got, torch.tensor([1.95])), (
    "without decay, and with ε = 4, the first step is 0.1 · 4 / (4 + 4) = 0.05, so w is "
    f"1.95, got {describe(got)}; ε is added to the root, not under it"
)

# %% hidden="adamw" points=2
# Hidden: many steps against torch's optimizer, small gradients, no decay (2 points)
g = generator(5)
settings = (
    (0.1, (0.9, 0.95), 1e-8, 0.1, 1.0),
    (0.02, (0.5, 0.999), 1e-3, 0.0, 1e-2),
    (0.3, (0.0, 0.9), 0.1, 0.7, 3.0),
)
for rate, betas, eps, decay, scale in settings:
    weight = torch.randn(3, 4, generator=g)
    leaf = weight.clone().requires_grad_()
    optimizer = torch.optim.AdamW([leaf], rate, betas, eps, weight_decay=decay)
    state = torch.zeros(3, 4), torch.zeros(3, 4), 0
    for step in range(1, 9):
        gradient = scale * torch.randn(3, 4, generator=g)
        leaf.grad = gradient.clone()
        optimizer.step()
        before = weight.clone(), gradient.clone(), state[0].clone(), state[1].clone()
        new, later = adamw(weight, gradient, state, rate, betas, eps, decay)
        after = weight, gradient, state[0], state[1]
        assert all(map(torch.equal, before, after)), (
            "adamw must not change the tensors that it is given; make new ones"
        )
        assert close(new, leaf.detach(), 1e-5), (
            f"step {step} with rate {rate}, betas {betas}, eps {eps:g} and decay {decay} "
            "does not lead where torch's AdamW gets; eps is added to the root, and the "
            "decay is rate · decay of the weight"
        )
        mean, square = (
            optimizer.state[leaf][name] for name in ("exp_avg", "exp_avg_sq")
        )
        assert close(later[0], mean, 1e-6), f"step {step}: m is another than torch's"
        assert close(later[1], square, 1e-6), f"step {step}: s is another than torch's"
        assert later[2] == step, f"after step {step} k is {step}, got {later[2]}"
        weight, state = new, later

# %% [markdown]
# ## 7. Reading a loss (3 points, two of them written)
#
# A test text has been read, and each of its tokens has a loss in nats.
# Write `reading(losses, n_bytes, floor)`, which returns a dict of numbers:
#
# - `"loss"`: the mean over the tokens, $\mathcal{L}$, in nats per token;
# - `"perplexity"`: $e^{\mathcal{L}}$;
# - `"bits_per_byte"`: the bits for the whole text, divided by its `n_bytes` bytes; one bit is $\ln 2$ nats;
# - `"gap"`: how far the loss is above the floor, as a share of the floor: $\mathcal{L} / H - 1$.
#
# `losses` is a tensor of shape (tokens,), with at least one token, and `floor` is $H$, the entropy of the source in nats per token.


# %% answer="reading"
def reading(losses, n_bytes, floor):
    """Return loss, perplexity, bits per byte and the gap to the floor, in a dict."""
    ### BEGIN SOLUTION
    loss = losses.double().mean().item()
    return {
        "loss": loss,
        "perplexity": exp(loss),
        "bits_per_byte": losses.double().sum().item() / log(2) / n_bytes,
        "gap": loss / floor - 1,
    }
    ### END SOLUTION


# %% test="reading" points=1
got = reading(
    torch.tensor([log(2), 3 * log(2), 5 * log(2), 3 * log(2)]), 16, 2 * log(2)
)
assert isinstance(got, dict), f"reading returns a dict, got {describe(got)}"
for name, wanted, why in (
    (
        "loss",
        3 * log(2),
        "the mean of 1, 3, 5 and 3 bits is 3 bits, that is 3 ln 2 nats",
    ),
    ("perplexity", 8.0, "e to the 3 ln 2 is 8: as unsure as a die of 8 sides"),
    ("bits_per_byte", 0.75, "12 bits in all, for 16 bytes"),
    ("gap", 0.5, "3 ln 2 is one half more than the floor of 2 ln 2"),
):
    assert name in got, f"the dict has {sorted(got)}, but {name!r} is missing"
    assert abs(got[name] - wanted) < 1e-5, f"{name}: {why}; got {got[name]}"
losses = 4 * torch.rand(37, generator=generator(6))
saved, n_bits = losses.clone(), float(losses.double().sum()) / log(2)
got = reading(losses, 150, 4.0)
assert torch.equal(losses, saved), "reading must not change the losses"
share = n_bits * log(2) / 37 / 4.0
assert abs(got["gap"] - (share - 1)) < 1e-5, (
    f"this loss is {share:.5f} of the floor of 4 nats, so the gap is below 0, "
    f"{share - 1:.5f}; got {got['gap']}"
)
assert abs(got["bits_per_byte"] - n_bits / 150) < 1e-4, (
    f"{n_bits:.2f} bits for 150 bytes are {n_bits / 150:.4f} each, "
    f"got {got['bits_per_byte']}"
)
assert abs(2 ** (n_bits / 37) - got["perplexity"]) < 1e-3, (
    f"{n_bits:.2f} bits for 37 tokens: a perplexity of 2 to the {n_bits / 37:.3f}, "
    f"got {got['perplexity']}"
)

# %% [markdown]
# Two models read the same text of 20,000 bytes.
# Model A cuts it into 4,000 tokens and has a loss of 3.0 nats per token.
# Model B cuts it into 5,000 tokens and has a loss of 2.5 nats per token.
#
# Which one predicts the text better?
# Give the numbers that decide, and say why loss and perplexity do not.

# %% [markdown] written="two-models" points=2
# Model A: it needs 4,000 · 3.0 = 12,000 nats for the text, B needs 5,000 · 2.5 = 12,500.
# In bits per byte that is 12,000 / ln 2 / 20,000 = 0.866 for A, and 0.902 for B.
# Loss and perplexity (20 against 12) are per token, and A's tokens are longer: each holds 5 bytes instead of 4, so there is more to predict in each.
#
# One point: A, with bits per byte (or nats of the whole text) worked out.
# One point: per-token numbers compare only models with the same tokens.

# %% [markdown]
# ## 8. Three curves (3 points, written)
#
# Three students train a model with a vocabulary of 512 tokens on tales, whose floor is known: 1.2 nats per token.
# For each, say what the most probable cause is, and how to check it; where several causes fit, one is enough.
#
# - Ana's very first loss, before any step, is 40 nats per token.
# - Ben's loss on held-out tales has fallen to 0.3 nats.
# - Cem's loss falls to 1.9 nats on his twenty training tales and then to 0.1, while on held-out tales it rises.
#
# Say also why Ben's 0.3 and Cem's 0.1 need not have the same cause.

# %% [markdown] written="curves" points=3
# Ana: a model that knows nothing gives each token about 1/512 and pays ln 512 = 6.2 nats. 40 nats means that it is sure of wrong tokens: the first weights are too large (or the scores are not divided, or the targets do not belong to the logits).
# Check the size of the logits before the first step.
#
# Ben: no model can be below the floor on text that is new.
# So the model sees what it should not: targets that are not shifted, no causal mask, or held-out tales that are in the training data.
# Check: change a later token and see whether earlier logits move; look for held-out tales in the training text; look at one example and its targets.
# (Another possible cause is a mean that includes easy padding.)
#
# Cem: his model learns twenty tales by heart.
# On the very texts that it was trained on, a model can fall below the floor without a bug; the held-out loss tells.
# Check by letting it write: it recites.
# More text or fewer steps would help.
#
# One point for each: ln V and too sure a start; a leak, since the floor holds for new text; learning by heart, told apart from Ben's case by which text is below the floor.
