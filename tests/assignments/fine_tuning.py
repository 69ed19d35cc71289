# ---
# jupyter:
#   llmcourse:
#     version: 1
#     blocked:
#       - llmcourse.finetuning.classification
#       - llmcourse.finetuning.examples
#       - llmcourse.finetuning.lora
# ---

# %% [markdown]
# # Assignment: fine-tuning by hand
#
# You write what turns a pretrained model into a classifier: padded batches, adapters of low rank, and a loss for unequal classes.
# Then you write measures of what was learned and what was forgotten.
# At the end you can adapt a model, and say what it cost.
#
# | Task | Points | Difficulty | Minutes |
# |---|---|---|---|
# | 1. A padded batch | 2 | ★ | 15 |
# | 2. A layer with an adapter | 2 | ★ | 10 |
# | 3. Merge adapters, and make one | 3 | ★★★ | 25 |
# | 4. What it costs to train | 2 | ★★ | 15 |
# | 5. Unequal classes | 2 | ★★ | 15 |
# | 6. Accuracy is not enough | 2 | ★★ | 15 |
# | 7. What is forgotten | 2 | ★★ | 15 |
# | 8. Explain (written) | 5 | ★★ | 25 |
#
# 20 points in all. Read the chapter [Fine-tuning](../fine_tuning.ipynb) first.
# Replace every `raise NotImplementedError()` with your code, then run the cell below it: it is silent if your code is right, and says what is wrong if it is not.
# Some points come from hidden tests, which check the same requirements with other inputs.
# No function may change the arguments that it is given; some hidden tests check that, too.
#
# The package `llmcourse` has adapters and batches of its own. The first code cell locks them away: here you write them yourself.
#
# In shapes, B is the number of texts in a batch, T the number of positions, D the width of the model, C the number of classes.

# %% given="setup"
import sys
from math import log, prod

import torch
from torch.nn import functional

from llmcourse.classroom.tasks import close, describe, generator, is_pair

for name in ("classification", "examples", "lora"):
    sys.modules[f"llmcourse.finetuning.{name}"] = None  # this is what you write


# %% [markdown]
# ## 1. A padded batch (2 points)
#
# Write `pad(texts)`: from a list of texts, each a list of ids with at least one id, to the pair `(ids, mask)`.
# Both are tensors (B, T), where T is the length of the longest text.
# `ids` (of `torch.int64`) has each text on the left of its row, and zeros after it; `mask` (of `torch.bool`) is `True` on the texts, and `False` on the padding.
# Zero is an id like any other, so only the mask says what is padding.
#
# The last token of a text is the one that has read all of it.
# Write `pool_last(features, mask)`: from `features` (B, T, D) to the vectors (B, D) of the last tokens, which are the last `True` of each row.
# Some tokenizers pad on the left, so do not rely on the side: `False, True, True` has its last token at position 2.


# %% answer="pad"
def pad(texts):
    """Return a batch of ids, filled up on the right with zeros, and its mask."""
    ### BEGIN SOLUTION
    longest = max(len(text) for text in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.int64)
    mask = torch.zeros(len(texts), longest, dtype=torch.bool)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = True
    return ids, mask
    ### END SOLUTION


# %% answer="pool-last"
def pool_last(features, mask):
    """Return the vector of each text's last token, (B, D)."""
    ### BEGIN SOLUTION
    places = torch.arange(mask.shape[1]) * mask
    return features[torch.arange(len(features)), places.amax(dim=1)]
    ### END SOLUTION


# %% test="batch" points=1
got = pad([[5, 6, 7], [8, 0]])
assert is_pair(got, torch.Tensor), (
    f"a pair of two tensors (ids, mask) was wanted, got {describe(got)}"
)
ids, mask = got
assert ids.tolist() == [[5, 6, 7], [8, 0, 0]], (
    f"the longest text has three ids, the other is filled up with a zero; got {ids}"
)
assert mask.tolist() == [[True, True, True], [True, True, False]], (
    "the 0 that belongs to the second text is not padding: the mask comes from the "
    f"lengths, not from the ids; got {mask}"
)
features = torch.tensor([[[1.0, 2], [3, 4], [5, 6]], [[7, 8], [9, 10], [11, 12]]])
got = pool_last(features, mask)
assert close(got, [[5.0, 6], [9, 10]]), (
    f"the last tokens are at the positions 2 and 1: wanted (5, 6) and (9, 10), got {got}"
)
left = torch.tensor([[False, True, True], [False, False, True]])
got = pool_last(features, left)
assert close(got, [[5.0, 6], [11, 12]]), (
    "padded on the left, both texts end at position 2: wanted (5, 6) and (11, 12), got "
    f"{got}; the number of tokens does not say where the last one is"
)

# %% hidden="batch" points=1
# Hidden: types, one text, texts of one token, padding on the left or between (1 point)
ids, mask = pad([[4]])
assert ids.dtype == torch.int64, f"ids are torch.int64, got {ids.dtype}"
assert mask.dtype == torch.bool, f"a mask is torch.bool, got {mask.dtype}"
assert (ids.tolist(), mask.tolist()) == ([[4]], [[True]]), "one text of one id"
lengths = [2, 5, 1]
texts = [
    torch.randint(0, 60_000, (n,), generator=generator(n)).tolist() for n in lengths
]
texts[1][2] = 0  # an id like any other
copies = [list(text) for text in texts]
ids, mask = pad(texts)
assert texts == copies, "pad must not change the texts"
assert ids.shape == (3, 5), f"3 texts of up to 5 ids: (3, 5), got {tuple(ids.shape)}"
for text, row, own in zip(texts, ids, mask):
    assert row.tolist() == text + [0] * (5 - len(text)), f"{text} became {row.tolist()}"
    assert own.tolist() == [i < len(text) for i in range(5)], f"{text}: mask {own}"
features = torch.randn(3, 5, 4, generator=generator(6))
want = torch.stack([features[i, n - 1] for i, n in enumerate(lengths)])
assert close(pool_last(features, mask), want), "the last tokens are at 1, 4 and 0"
assert close(pool_last(features, mask.flip(1)), features[:, 4]), (
    "with the padding on the left the last token is at the last position, "
    "not at the number of tokens less 1"
)
got = pool_last(features[:1, :3], torch.tensor([[True, False, True]]))
assert close(got, features[:1, 2]), (
    "the mask True, False, True has its last True at position 2: wanted "
    f"{describe(features[:1, 2])}, got {describe(got)}"
)
both = torch.tensor([[False, True, False, False], [True, False, True, False]])
got = pool_last(features[:2, :4], both)
assert close(got, features[[0, 1], [1, 2]]), (
    "padded on both sides, the mask False, True, False, False has its last True at "
    "position 1, and True, False, True, False at position 2; got other vectors"
)

# %% [markdown]
# ## 2. A layer with an adapter (2 points)
#
# LoRA leaves the weight $W$ of a layer as it is, and adds a correction of rank $r$:
#
# $$y = W z + c + \frac{\alpha}{r} B A z,$$
#
# with $W$ (out, in), the bias $c$ (out,), $A$ (r, in) and $B$ (out, r).
# Write `lora_forward(x, weight, bias, a, b, alpha)`.
# `x` holds the inputs $z$ and has the shape (…, in), with any number of dimensions before the last; the result has (…, out).
# The rank $r$ is the number of rows of `a`.
# `bias` may be `None`.
#
# With $W = (1, 0)$, $A = (1, 1)$, $B = (3)$, $\alpha = 2$ and no bias, $z = (1, 2)$ becomes $1 + 2 \cdot 3 \cdot 3 = 19$.


# %% answer="lora-forward"
def lora_forward(x, weight, bias, a, b, alpha):
    """Return what a layer with a low-rank adapter makes of its input."""
    ### BEGIN SOLUTION
    y = x @ weight.T + alpha / len(a) * (x @ a.T @ b.T)
    return y if bias is None else y + bias
    ### END SOLUTION


# %% test="lora-forward" points=1
one = torch.ones(1, 1)
x, weight, a = torch.tensor([1.0, 2]), torch.tensor([[1.0, 0]]), torch.ones(1, 2)
got = lora_forward(x, weight, None, a, 3 * one, 2.0)
assert close(got, [19.0]), f"W z = 1, A z = 3, and 2 · 3 · 3 = 18: 19, got {got}"
got = lora_forward(x, weight, torch.tensor([5.0]), a, 0 * one, 2.0)
assert close(got, [6.0]), (
    f"with B = 0 the adapter does nothing: W z + bias = 6, got {got}"
)

x, weight = torch.tensor([[1.0, 2, 3], [0, 1, 0]]), torch.zeros(4, 3)
a = torch.tensor([[1.0, 0, 1], [0, 1, 0]])  # rank 2, in 3
b = torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, 2]])  # out 4, rank 2
got = lora_forward(x, weight, None, a, b, 6.0)
assert close(got, [[12.0, 6, 18, 12], [0, 3, 3, 6]]), (
    "rank 2 and α = 6: A z is (4, 2) and (0, 1), B makes (4, 2, 6, 4) and (0, 1, 1, 2) of "
    f"it, and α / r is 3; got {got}"
)

# %% hidden="lora-forward" points=1
# Hidden: random layers, ranks and shapes of the input (1 point)
for rank, shape in ((3, (2, 6, 5)), (2, (5,)), (4, (7, 5))):
    draw = generator(10 + rank)
    x = torch.randn(*shape, generator=draw)
    weight, bias = torch.randn(4, 5, generator=draw), torch.randn(4, generator=draw)
    a, b = torch.randn(rank, 5, generator=draw), torch.randn(4, rank, generator=draw)
    got = lora_forward(x, weight, bias, a, b, 6.0)
    change = sum(torch.outer(b[:, i], a[i]) for i in range(rank)) * 6 / rank
    want = functional.linear(x, weight + change, bias)
    assert close(got, want), (
        f"rank {rank}, alpha 6, x {shape}: the correction is {6 / rank:g} · B A z; wanted "
        f"shape {tuple(want.shape)}, got {tuple(got.shape)}, or other numbers"
    )

# %% [markdown]
# ## 3. Merge adapters, and make one (3 points)
#
# A model may carry several adapters at once, say one for a style and one for a task.
# Write `merge_all(weight, adapters)`: the one matrix that does what the weight and all adapters do together.
# `adapters` is a list of triples `(a, b, alpha)`, each with a rank of its own.
# The arguments stay as they are.
#
# Now the other way round: full fine-tuning has changed a weight by `change` (out, in), and you want that change as an adapter.
# Write `make_adapter(change, rank, alpha)`: the pair `(a, b)` for which $\frac{\alpha}{r} B A$ is as near to `change` as a matrix of this rank can be.
# Near means that the sum of the squares of all differences is small.
# `u, s, v = torch.linalg.svd(change)` gives `change` as $\sum_i s_i\, u_i v_i^\top$, with $u_i$ in the columns of `u` and $v_i$ in the **rows** of `v`.
# By the theorem of Eckart and Young, the nearest matrix keeps the first `rank` terms, which have the largest $s_i$, and drops the others.
# How $s_i$ and the scale are shared between A and B is up to you.
# The rank is at most the smaller of out and in.
#
# For `change` = $\begin{pmatrix} 4 & 0 \\ 0 & 1 \end{pmatrix}$ and rank 1, the correction keeps the 4 and drops the 1.


# %% answer="merge-all"
def merge_all(weight, adapters):
    """Return the weight with the corrections of all adapters added."""
    ### BEGIN SOLUTION
    merged = weight
    for a, b, alpha in adapters:
        merged = merged + alpha / len(a) * b @ a
    return merged
    ### END SOLUTION


# %% answer="make-adapter"
def make_adapter(change, rank, alpha):
    """Return A and B of the adapter that is nearest to a change of a weight."""
    ### BEGIN SOLUTION
    u, s, v = torch.linalg.svd(change)
    return v[:rank], u[:, :rank] * s[:rank] * rank / alpha
    ### END SOLUTION


# %% test="adapters" points=1
weight = torch.tensor([[1.0, 0, 2], [0, 1, 1]])
first = torch.tensor([[1.0, 0, -1]]), torch.tensor([[1.0], [2]]), 2.0
got = merge_all(weight, [first])
assert close(got, [[3.0, 0, 0], [4, 1, -3]]), (
    f"the example of the chapter: W + 2 B A is (3, 0, 0), (4, 1, -3); got {got}"
)
assert weight.tolist() == [[1, 0, 2], [0, 1, 1]], (
    f"the weight that is given stays as it is; it has become {weight.tolist()}"
)
second = torch.tensor([[1.0, 0, 0], [0, 1, 0]]), torch.tensor([[1.0, 0], [0, 1]]), 6.0
got = merge_all(weight, [first, second])
assert close(got, [[6.0, 0, 0], [4, 4, -3]]), (
    "another adapter, of rank 2 and with α = 6, adds 3 B A = (3, 0, 0), (0, 3, 0) to that; "
    f"got {got}; each adapter has its own rank and α"
)
a, b = make_adapter(torch.tensor([[4.0, 0], [0, 1]]), 1, 2.0)
assert (a.shape, b.shape) == ((1, 2), (2, 1)), (
    f"A is (rank, in) and B (out, rank), got {tuple(a.shape)} and {tuple(b.shape)}"
)
assert close(2 * b @ a, [[4.0, 0], [0, 0]]), (
    f"rank 1 keeps the 4, and alpha / rank is 2 here: 2 B A is {2 * b @ a}"
)

change = torch.tensor([[0.0, 3, 0], [0, 0, 5], [1, 0, 0], [0, 0, 0]])
a, b = make_adapter(change, 2, 6.0)
assert (a.shape, b.shape) == ((2, 3), (4, 2)), (
    "of a change (4, 3) and rank 2, A is (2, 3) and B (4, 2), got "
    f"{tuple(a.shape)} and {tuple(b.shape)}"
)
assert close(6 / 2 * b @ a, [[0.0, 3, 0], [0, 0, 5], [0, 0, 0], [0, 0, 0]]), (
    "rank 2 keeps the 3 and the 5 at their places and drops the 1, and α / r is 3: 3 B A is "
    f"{3 * b @ a}; A has rows of v, B columns of u, and s counts once"
)

# %% hidden="merge-all" points=1
# Hidden: no adapter, several of different ranks, nothing that is given is changed (1 point)
draw = generator(20)
weight = torch.randn(4, 6, generator=draw)
adapters = [
    (torch.randn(r, 6, generator=draw), torch.randn(4, r, generator=draw), alpha)
    for r, alpha in ((1, 3.0), (3, 8.0), (2, 1.0))
]
copies = [weight.clone(), *[(a.clone(), b.clone()) for a, b, _ in adapters]]
assert close(merge_all(weight, []), weight), "without adapters the weight is the weight"
got = merge_all(weight, adapters)
want = weight.clone()
for a, b, alpha in adapters:
    want += torch.einsum("or,ri->oi", b, a) * (alpha / a.shape[0])
assert close(got, want), (
    "three adapters of the ranks 1, 3 and 2: each has its own scale alpha / rank"
)
assert torch.equal(weight, copies[0]), "merge_all must not change the weight"
for (a, b, _), (a_before, b_before) in zip(adapters, copies[1:]):
    assert torch.equal(a, a_before), "merge_all must not change an adapter's A"
    assert torch.equal(b, b_before), "merge_all must not change an adapter's B"

# %% hidden="make-adapter" points=1
# Hidden: random changes of full rank, tall and wide, several ranks and strengths (1 point)
tall = torch.randn(7, 5, generator=generator(21), dtype=torch.float64)
for change, rank, alpha in (
    (tall, 1, 4.0),
    (tall, 3, 0.5),
    (tall, 5, 5.0),
    (tall.T.contiguous(), 2, 3.0),
    (tall.T.contiguous(), 5, 1.0),
):
    (n_out, n_in), before = change.shape, change.clone()
    a, b = make_adapter(change, rank, alpha)
    assert (a.shape, b.shape) == ((rank, n_in), (n_out, rank)), (
        f"change ({n_out}, {n_in}), rank {rank}: A ({rank}, {n_in}) and B ({n_out}, {rank}) "
        f"were wanted, got {tuple(a.shape)} and {tuple(b.shape)}"
    )
    vectors = torch.linalg.eigh(change.T @ change).eigenvectors  # smallest first
    kept = vectors[:, n_in - rank :]
    want = change @ kept @ kept.T
    got = alpha / rank * b @ a
    error = (got - change).square().sum()
    least = (want - change).square().sum()
    assert close(got, want), (
        f"rank {rank}, alpha {alpha}: the nearest correction misses by {least:.3f}, yours "
        f"by {error:.3f}; take the largest singular values, and divide by alpha / rank"
    )
    assert torch.equal(change, before), "make_adapter must not change the change"

# %% [markdown]
# ## 4. What it costs to train (2 points)
#
# Every weight takes 4 bytes; one that learns takes 12 more, for its gradient and the two means of AdamW.
# Write `training_cost(shapes, way, targets, rank)`: the triple `(total, learned, n_bytes)`.
#
# - `shapes` is a dict from the name of each weight to its shape, such as `"blocks.0.attention.query": (64, 64)` or `"head.bias": (2,)`.
# - `way` is `"head"`, `"full"` or `"lora"`. The weights whose names begin with `head.` always learn; with `"full"` all others do as well.
# - With `"lora"` a matrix (out, in) gets an adapter of the given rank if the **last part** of its name, after the last dot if there is one, is one of `targets`. A vector gets none, and `targets` never name weights of the head. Adapters are weights: they count in the total, and they learn.
#
# Take a head of (2, 3) and a `query` of (4, 3) with rank 1: the adapter has $4 + 3 = 7$ numbers.
# So there are 25 in all, of which 13 learn, and $4 \cdot 25 + 12 \cdot 13 = 256$ bytes.


# %% answer="training-cost"
def training_cost(shapes, way, targets, rank):
    """Return how many weights there are, how many learn, and the bytes for both."""
    ### BEGIN SOLUTION
    total = learned = 0
    for name, shape in shapes.items():
        total += prod(shape)
        if way == "full" or name.startswith("head."):
            learned += prod(shape)
        if way == "lora" and len(shape) == 2 and name.split(".")[-1] in targets:
            total += rank * sum(shape)
            learned += rank * sum(shape)
    return total, learned, 4 * total + 12 * learned
    ### END SOLUTION


# %% test="training-cost" points=1
shapes = {"blocks.0.attention.query": (4, 3), "head.weight": (2, 3)}
for way, want in (
    ("head", (18, 6, 144)),
    ("full", (18, 18, 288)),
    ("lora", (25, 13, 256)),
):
    got = tuple(training_cost(shapes, way, ["query"], 1))
    assert got == want, f"{way}: wanted {want} for (total, learned, bytes), got {got}"

shapes = {"blocks.0.attention.query": (4, 3), "blocks.0.query_norm": (4,)}
shapes |= {"blocks.0.attention.value": (5, 3), "head.bias": (2,)}
got = tuple(training_cost(shapes, "lora", ["query", "value"], 2))
assert got == (63, 32, 636), (
    "33 weights, and adapters of rank 2 of 2 · (4 + 3) = 14 and 2 · (5 + 3) = 16 numbers; "
    f"with the 2 of the head 32 learn: wanted (63, 32, 636), got {got}; `query_norm` is no "
    "`query`"
)

# %% hidden="training-cost" points=1
# Hidden: a model of three layers, other targets and ranks, names that look alike (1 point)
shapes = {"embedding.weight": (50, 8), "head.weight": (3, 8), "head.bias": (3,)}
for i in range(3):
    shapes[f"blocks.{i}.attention.query"] = (8, 8)
    shapes[f"blocks.{i}.attention.query_norm"] = (8,)
    shapes[f"blocks.{i}.feed_forward.up"] = (21, 8)
    shapes[f"blocks.{i}.heads.down"] = (8, 21)
copy = dict(shapes)
n, head = 50 * 8 + 27 + 3 * (64 + 8 + 2 * 168), 27
for way, targets, rank, extra in (
    ("head", ("query",), 4, 0),
    ("full", ("query",), 4, 0),
    ("lora", ("query",), 4, 3 * 4 * 16),
    ("lora", ("query", "up", "down"), 2, 3 * 2 * (16 + 29 + 29)),
    ("lora", (), 2, 0),
):
    learned = n if way == "full" else head + extra
    want = n + extra, learned, 4 * (n + extra) + 12 * learned
    got = tuple(training_cost(shapes, way, targets, rank))
    assert got == want, (
        f"{way}, adapters for {targets}, rank {rank}: wanted {want}, got {got}; "
        "query_norm is not a query, and heads.down is not part of the head"
    )
assert shapes == copy, "training_cost must not change the shapes"
shapes = {"head_norm.weight": (4,), "blocks.0.head.scale": (4,), "head.bias": (2,)}
shapes |= {"blocks.0.subquery": (4, 4)}
got = tuple(training_cost(shapes, "lora", ["query"], 1))
assert got == (26, 2, 128), (
    "of `head_norm.weight`, `blocks.0.head.scale` and `head.bias` only the last begins "
    "with `head.`, and `subquery` is no `query`: wanted (26, 2, 128), got "
    f"{got}"
)
got = tuple(training_cost({"query": (4, 3)}, "lora", ["query"], 1))
assert got == (19, 7, 160), (
    "a name without a dot is its own last part, so `query` gets an adapter of 4 + 3 "
    f"numbers: wanted (19, 7, 160), got {got}"
)
shapes = {"blocks.0.up": (4,), "head.bias": (2,)}
got = tuple(training_cost(shapes, "lora", ["up"], 1))
assert got == (6, 2, 48), (
    "only a matrix gets an adapter, and here `up` is a vector of 4 numbers: wanted "
    f"(6, 2, 48), got {got}"
)

# %% [markdown]
# ## 5. Unequal classes (2 points)
#
# If one opening in twenty is ambiguous, a classifier that always says *clear* has a low loss.
# Weights bring the rare class back: with $n$ examples, $C$ classes and $n_c$ examples of class $c$,
#
# $$w_c = \frac{n}{C\, n_c}, \qquad \mathcal{L} = \frac{\sum_i w_{y_i} \cdot (-\ln p(y_i \mid x_i))}{\sum_i w_{y_i}}.$$
#
# Write `class_weights(labels, n_classes)`: from labels (n,) to the weights (C,), floats, with 0 for a class that has no examples.
# Then write `weighted_loss(logits, labels, weights)`: from logits (n, C) to the loss, a tensor without dimensions.
# Logits may be large.
#
# Labels 0, 0, 0, 1 and two classes: the weights are $\tfrac{4}{6}$ and $2$, and each class has the same sum of weights, 2.


# %% answer="class-weights"
def class_weights(labels, n_classes):
    """Return a weight for each class, so that all classes weigh the same."""
    ### BEGIN SOLUTION
    counts = labels.bincount(minlength=n_classes)
    return (len(labels) / (n_classes * counts)).where(counts > 0, 0.0)
    ### END SOLUTION


# %% answer="weighted-loss"
def weighted_loss(logits, labels, weights):
    """Return the weighted mean of the examples' losses, in nats."""
    ### BEGIN SOLUTION
    losses = -logits.log_softmax(dim=1)[torch.arange(len(labels)), labels]
    own = weights[labels]
    return (own * losses).sum() / own.sum()
    ### END SOLUTION


# %% test="classes" points=1
labels = torch.tensor([0, 0, 0, 1])
got = class_weights(labels, 2)
assert isinstance(got, torch.Tensor), f"a tensor was wanted, got {describe(got)}"
assert close(got, [4 / 6, 2.0]), (
    f"three examples of class 0 and one of class 1: weights 4/6 and 4/2, got {got}"
)
logits = torch.tensor([[log(3.0), 0.0]] * 4)
got = weighted_loss(logits, labels, torch.tensor([4 / 6, 2.0]))
assert isinstance(got, torch.Tensor), f"a tensor was wanted, got {describe(got)}"
assert close(got, (log(4 / 3) + log(4)) / 2), (
    "p is 3/4 for class 0 and 1/4 for class 1; both classes have the same weight in "
    f"all, so the loss is (ln 4/3 + ln 4) / 2 = 0.837; got {got}"
)

got = weighted_loss(logits, labels, torch.tensor([2.0, 12.0]))
assert close(got, (log(4 / 3) + 2 * log(4)) / 3), (
    "with the weights 2 and 12 it is (6 · ln 4/3 + 12 · ln 4) / 18 = 1.020; got "
    f"{got}; the sum is divided by the sum of the weights, not by the number of examples"
)
got = class_weights(labels, 3)
assert close(got, [4 / 9, 4 / 3, 0.0]), (
    f"a third class without examples has the weight 0: wanted 4/9, 4/3, 0, got {got}"
)

# %% hidden="classes" points=1
# Hidden: a class without examples, random logits, large logits (1 point)
labels = torch.tensor([2, 0, 2, 2, 0, 4, 2])
same = labels.clone()
got = class_weights(labels, 6)
assert close(got, [7 / 12, 0.0, 7 / 24, 0.0, 7 / 6, 0.0]), (
    f"classes 1, 3 and 5 have no example, and so the weight 0: got {got}"
)
assert got.is_floating_point(), f"weights are floats, got {got.dtype}"
assert torch.equal(labels, same), "class_weights must not change the labels"
logits = 3 * torch.randn(7, 5, generator=generator(30))
weights = 0.1 + torch.rand(5, generator=generator(31))
before = logits.clone(), same, weights.clone()
got = weighted_loss(logits, labels, weights)
want = functional.cross_entropy(logits, labels, weight=weights)
assert close(got, want), (
    f"seven examples, random weights: wanted {want:.4f}, got {got}; divide by the sum of "
    "the examples' weights, not by their number"
)
got = weighted_loss(400 * logits, labels, weights)
want = functional.cross_entropy(400 * logits, labels, weight=weights)
assert close(got, want), f"large logits: wanted {want:.1f}, got {got}; use log_softmax"
for now, then in zip((logits, labels, weights), before):
    assert torch.equal(now, then), "weighted_loss must not change what it is given"

# %% [markdown]
# ## 6. Accuracy is not enough (2 points)
#
# For one class $c$, let $h_c$ be how often it was predicted correctly, $p_c$ how often it was predicted, and $n_c$ how often it occurs.
# Its **F1 score** is the harmonic mean of precision $h_c / p_c$ and recall $h_c / n_c$, which is $2 h_c / (p_c + n_c)$.
# The **macro F1** is the mean over classes, each counting equally.
# Classes that neither occur nor are predicted are left out of that mean.
#
# Write `scores(predicted, labels, n_classes)`: the pair `(accuracy, macro F1)`, both between 0 and 1, from two lists of class numbers of the same length.
#
# Labels 0, 0, 0, 1 and four times the prediction 0: the accuracy is $3/4$, the F1 scores are $6/7$ and $0$, and the macro F1 is $3/7$.


# %% answer="scores"
def scores(predicted, labels, n_classes):
    """Return the accuracy and the macro F1 of predictions."""
    ### BEGIN SOLUTION
    found = [y for p, y in zip(predicted, labels) if p == y]
    f1 = []
    for c in range(n_classes):
        seen = predicted.count(c) + labels.count(c)
        if seen:
            f1.append(2 * found.count(c) / seen)
    return len(found) / len(labels), sum(f1) / len(f1)
    ### END SOLUTION


# %% test="scores" points=1
accuracy, macro = scores([0, 0, 0, 0], [0, 0, 0, 1], 2)
assert abs(accuracy - 3 / 4) < 1e-6, f"three of four are right, got {accuracy}"
assert abs(macro - 3 / 7) < 1e-6, (
    "class 0 has 2 · 3 / (4 + 3) = 6/7, class 1 was never found and has 0; the mean is "
    f"3/7, got {macro}"
)

accuracy, macro = scores([0, 2, 1, 0, 2], [0, 2, 2, 0, 1], 4)
assert abs(accuracy - 3 / 5) < 1e-6, f"three of five are right, got {accuracy}"
assert abs(macro - 1 / 2) < 1e-6, (
    "class 0 has 1, class 1 has 0, class 2 has 2 / (2 + 2), and class 3 is left out, as it "
    f"neither occurs nor is predicted: the mean is 1/2, got {macro}"
)
macro = scores([0, 0, 1, 1], [0, 0, 0, 1], 2)[1]
assert abs(macro - 11 / 15) < 1e-6, (
    "class 0 has 2 · 2 / (2 + 3) = 4/5 and class 1 has 2 / (2 + 1) = 2/3: the mean is "
    f"11/15 = 0.7333, got {macro}; take F1 for each class first, and then the mean"
)

# %% hidden="scores" points=1
# Hidden: random predictions of four classes, some never predicted or never there, all right (1 point)
accuracy, macro = scores([1, 2, 1], [1, 2, 1], 5)
assert abs(accuracy - 1) < 1e-6, f"all right: accuracy 1, got {accuracy}"
assert abs(macro - 1) < 1e-6, (
    f"all right: macro F1 1, got {macro}; classes 0, 3 and 4 are not there at all"
)
accuracy, macro = scores([0, 1], [0, 0], 2)
assert abs(accuracy - 1 / 2) < 1e-6, f"one of two is right, got {accuracy}"
assert abs(macro - 1 / 3) < 1e-6, (
    "class 0 has 2 / (1 + 2), and class 1, which is predicted but never occurs, counts "
    f"with 0: the mean is 1/3, got {macro}"
)
labels = torch.randint(0, 4, (60,), generator=generator(40))
guess = torch.randint(0, 3, (60,), generator=generator(41))
guess = torch.where(torch.arange(60) % 3 == 0, labels.clamp(max=2), guess)
table = torch.zeros(4, 4)
for p, y in zip(guess.tolist(), labels.tolist()):
    table[p, y] += 1
hits = table.diagonal()
precision = hits / table.sum(dim=1).clamp(min=1e-9)
recall = hits / table.sum(dim=0).clamp(min=1e-9)
f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-9)
given = guess.tolist(), labels.tolist()
accuracy, macro = scores(*given, 6)
want = (hits.sum() / 60).item(), f1.mean().item()
assert abs(accuracy - want[0]) < 1e-5, f"accuracy {want[0]:.4f}, got {accuracy}"
assert abs(macro - want[1]) < 1e-5, (
    f"macro F1 {want[1]:.4f}, got {macro}; class 3 occurs and is never predicted, so it "
    "counts with 0; classes 4 and 5 do not count"
)
assert given == (guess.tolist(), labels.tolist()), (
    "scores must not change the predictions and the labels"
)

# %% [markdown]
# ## 7. What is forgotten (2 points)
#
# A model was measured on the same texts before and after fine-tuning.
# `before` and `after` hold the loss of each text, in nats for the whole text; `n_tokens` holds its number of tokens.
# Write `forgetting(before, after, n_tokens)`: the pair `(increase, standard_error)`, both in nats per token.
#
# Let $m$ be the mean number of tokens per text.
# Text $i$ has become worse by $d_i = (\text{after}_i - \text{before}_i) / m$.
# The increase is the mean $\bar d$ of these, and its standard error is $s / \sqrt n$.
# Here $s$ is the sample standard deviation of the $d_i$ (divided by $n - 1$).
# Both measurements are of the same texts, so subtract first: then differences in how hard the texts are add no noise.
#
# Two texts of 10 and 30 tokens, before 20 and 60 nats, after 22 and 66: $d$ is 0.1 and 0.3, the increase 0.2, and the error 0.1.


# %% answer="forgetting"
def forgetting(before, after, n_tokens):
    """Return by how much texts cost more than before, with the standard error."""
    ### BEGIN SOLUTION
    n = len(before)
    size = sum(n_tokens) / n
    worse = [(new - old) / size for old, new in zip(before, after)]
    mean = sum(worse) / n
    variance = sum((d - mean) ** 2 for d in worse) / (n - 1)
    return mean, (variance / n) ** 0.5
    ### END SOLUTION


# %% test="forgetting" points=1
increase, error = forgetting([20.0, 60.0], [22.0, 66.0], [10, 30])
assert abs(increase - 0.2) < 1e-6, (
    f"8 nats more on 40 tokens are 0.2 nats per token, got {increase}"
)
assert abs(error - 0.1) < 1e-6, (
    f"0.1 and 0.3 have the deviation 0.141, divided by the root of 2: 0.1, got {error}"
)

# %% hidden="forgetting" points=1
# Hidden: random texts, and texts that have all become worse by the same (1 point)
increase, error = forgetting([10.0, 50.0, 90.0], [13.0, 53.0, 93.0], [5, 4, 6])
assert abs(increase - 0.6) < 1e-6, f"9 nats on 15 tokens: 0.6, got {increase}"
assert abs(error) < 1e-6, (
    f"all three became worse by 3 nats: no error, got {error}; subtract text by text"
)
for after, want in (([18.0, 66.0], (0.1, 0.2)), ([18.0, 58.0], (-0.1, 0.0))):
    got = forgetting([20.0, 60.0], after, [10, 30])
    assert is_pair(got), f"a pair, got {describe(got)}"
    assert max(abs(a - b) for a, b in zip(got, want)) < 1e-6, (
        f"before 20 and 60 nats, after {after}, 10 and 30 tokens: a text that became "
        f"better counts with its minus; wanted {want}, got {got}"
    )
tokens = torch.randint(20, 90, (11,), generator=generator(50))
old = 2 * tokens + torch.randn(11, generator=generator(51), dtype=torch.float64)
new = old + 5 * torch.randn(11, generator=generator(52), dtype=torch.float64) + 9
given = old.tolist(), new.tolist(), tokens.tolist()
increase, error = forgetting(*given)
want = ((new.sum() - old.sum()) / tokens.sum()).item()
assert abs(increase - want) < 1e-6, (
    f"11 texts: {want:.5f} nats per token more, got {increase}"
)
want = ((new - old).std() * 11**0.5 / tokens.sum()).item()
assert abs(error - want) < 1e-6, f"11 texts: standard error {want:.5f}, got {error}"
assert given == (old.tolist(), new.tolist(), tokens.tolist()), (
    "forgetting must not change the losses and the numbers of tokens"
)

# %% [markdown]
# ## 8. Explain (5 points, written)
#
# **Question A** (2 points).
# LoRA begins with a random $A$ and $B = 0$.
# Say what would happen in training with $A = 0$ and $B = 0$, and give the reason from the gradients of $B A z$. (1 point)
# Say what is wrong with a random $A$ and a random $B$. (1 point)

# %% [markdown] written="start" points=2
# Question A.
# The gradient of B is a product with A z, and that of A is a product with Bᵀ.
# With both at zero, both gradients are zero, so nothing ever moves: the adapter never learns.
# With B = 0 and a random A, the gradient of A is zero in the first step, but that of B is not; from the second step on both learn.
# With both random, the correction is random from the start: the model is no longer the pretrained one, and its first steps have to repair the damage.
#
# One point: no gradient, with the reason. One point: the start is no longer the pretrained model.

# %% [markdown]
# **Question B** (3 points).
# An editor's openings are *clear* in 96 of 100 cases and *ambiguous* in 4.
# Three classifiers were measured on 1,000 of them, and on plain tales:
#
# | Way | Accuracy | Macro F1 | Rise of the loss on tales (nats/token) |
# |---|---|---|---|
# | head only | 0.96 | 0.49 | 0.00 |
# | full, without class weights | 0.98 | 0.84 | 0.31 ± 0.04 |
# | full, with class weights | 0.96 | 0.79 | 0.34 ± 0.04 |
#
# Say what the first classifier does, and how you can tell. (1 point)
# The third finds more of the ambiguous openings than the second: explain how its accuracy can still be lower, and name a use for which you would take it. (1 point)
# Then say what you would do if the model had to keep telling tales as well as before, and say whether that keeps the tales fully or only in part. (1 point)

# %% [markdown] written="editor" points=3
# Question B.
# The first says *clear* to everything, or nearly.
# Its accuracy is the share of the frequent class, and F1 scores of 0.98 for one class and 0 for the other have the mean 0.49.
# Weights make a missed ambiguous opening as expensive as 24 false alarms.
# So the classifier warns more often, finds more, and gives more false alarms.
# There are 24 times as many clear openings, so these alarms cost more accuracy than the openings that it finds bring in.
# It is the one to take where a miss is worse than a false alarm: for an editor who looks at every warning anyway.
# (Its probabilities of *ambiguous* are then too high, and have to be corrected before they are used as such.)
# To keep the tales fully: adapters that are taken off for tales, or a copy of the old weights.
# A lower rate, or tales mixed into the training, keeps them only in part: it will reduce the forgetting but not end it.
#
# One point: always the frequent class, by the numbers. One point: false alarms among many clear ones, and a fitting use. One point: a way that keeps the old model (adapters taken off, a copy) or one that reduces the forgetting, with the right one of *fully* and *in part*.
