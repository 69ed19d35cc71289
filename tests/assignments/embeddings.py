# ---
# jupyter:
#   llmcourse:
#     version: 1
#     blocked: [llmcourse.text.embeddings]
# ---

# %% [markdown]
# # Assignment: word vectors
#
# You make word vectors in two ways: by learning them with skip-gram, and by counting.
# You also write the measures for them: cosines and analogies.
#
# | Task | Points | Difficulty | Minutes |
# |---|---|---|---|
# | 1. Cosines | 2 | ★ | 10 |
# | 2. Company | 2 | ★ | 15 |
# | 3. Thinning | 2 | ★ | 10 |
# | 4. The loss of skip-gram | 2 | ★★ | 15 |
# | 5. A step of learning | 3 | ★★★ | 25 |
# | 6. Analogies | 2 | ★★ | 15 |
# | 7. Counting instead of learning | 2 | ★★ | 20 |
# | 8. What vectors know (written) | 5 | ★★ | 25 |
#
# 20 points in all. Read the chapter [Embeddings](../embeddings.ipynb) first; the letters are the same here: $V$ words, $D$ numbers for each, $v$ for a word in the middle, $u$ for a word around it.
# Replace every `raise NotImplementedError()` with your code, then run the cell below it: it is silent if your code is right, and says what is wrong if it is not.
# Some points come from hidden tests, which check the same requirements with other inputs.
# No function may change the arguments that it is given; some hidden tests check that, too.
#
# The package `llmcourse` has all of this.
# The first code cell locks it away: here you write it yourself.

# %% given="setup"
import sys
from math import log

import torch

from llmcourse.classroom.tasks import close, describe, generator

sys.modules["llmcourse.text.embeddings"] = None  # this is what you write yourself


# %% [markdown]
# ## 1. Cosines (2 points)
#
# Write `cosines(x, y)`: from (N, D) and (M, D) to the (N, M) cosines of each row of `x` with each row of `y`,
#
# $$
# \cos(x, y) = \frac{x \cdot y}{\lVert x \rVert \, \lVert y \rVert}.
# $$
#
# A vector of zeros has no direction: its cosine with everything is 0.
#
# The vectors (3, 4) and (4, 3) have the cosine $24 / 25$.


# %% answer="cosines"
def cosines(x, y):
    """Return the cosine of each row of x with each row of y, (N, M)."""
    ### BEGIN SOLUTION
    lengths_x, lengths_y = x.norm(dim=1), y.norm(dim=1)
    products = torch.outer(lengths_x, lengths_y)
    return (x @ y.T / products).nan_to_num()
    ### END SOLUTION


# %% test="cosines" points=1
x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
y = torch.tensor([[4.0, 3.0], [30.0, 40.0], [-4.0, 3.0]])
got = cosines(x, y)
assert tuple(got.shape) == (2, 3), (
    f"2 rows and 3 rows give a table of shape (2, 3), got {describe(got)}"
)
assert close(got[0], torch.tensor([0.96, 1.0, 0.0])), (
    "(3, 4) has the cosines 24/25, 1 and 0 with (4, 3), (30, 40) and (-4, 3), got "
    f"{describe(got[0])}; divide by both lengths"
)
assert close(got[1], torch.zeros(3)), (
    f"a vector of zeros has the cosine 0 with everything, got {describe(got[1])}"
)

# %% hidden="cosines" points=1
# Hidden: random vectors, long and short ones, zeros on both sides (1 point)
g = generator(1)
for scale in (1.0, 1e-3, 1e3):
    x, y = scale * torch.randn(4, 6, generator=g), torch.randn(5, 6, generator=g)
    y[2], y[3] = 0, 0.05 * y[3]
    saved = x.clone(), y.clone()
    wanted = torch.nn.functional.cosine_similarity(x[:, None], y[None], dim=-1)
    got = cosines(x, y)
    assert close(got, wanted), (
        f"vectors of size {scale:g}: wanted shape (4, 5), got {describe(got)}, or other "
        "numbers; the length of a vector must not matter"
    )
    assert torch.equal(x, saved[0]), "cosines must not change x"
    assert torch.equal(y, saved[1]), "cosines must not change y"

# %% [markdown]
# ## 2. Company (2 points)
#
# Write `context_pairs(texts, window)`: the pairs that skip-gram learns from.
# A text is a list of ids.
# Each word of a text is the middle once, and makes a pair `(middle, other)` with each word at most `window` places before or after it.
# A pair never reaches from one text into the next, and a place is never paired with itself.
#
# Return a list of tuples: text after text, middle after middle, and for each middle the others from left to right.
#
# The text 7, 8, 9 with a window of 1 gives (7, 8), (8, 7), (8, 9), (9, 8).


# %% answer="context-pairs"
def context_pairs(texts, window):
    """Return the pairs of a word and each other word at most `window` places away."""
    ### BEGIN SOLUTION
    pairs = []
    for ids in texts:
        for i, middle in enumerate(ids):
            around = ids[max(0, i - window) : i] + ids[i + 1 : i + 1 + window]
            pairs += [(middle, other) for other in around]
    return pairs
    ### END SOLUTION


# %% test="context-pairs" points=1
got = context_pairs([[7, 8, 9]], 1)
assert got == [(7, 8), (8, 7), (8, 9), (9, 8)], (
    f"wanted (7, 8), (8, 7), (8, 9), (9, 8) for the text 7, 8, 9, got {got}"
)
got = context_pairs([[1, 2], [3, 4]], 5)
assert got == [(1, 2), (2, 1), (3, 4), (4, 3)], (
    f"no pair reaches from one text into the next: wanted four pairs, got {got}"
)
got = context_pairs([[1, 2, 1, 3]], 2)
wanted = [
    (1, 2),
    (1, 1),
    (2, 1),
    (2, 1),
    (2, 3),
    (1, 1),
    (1, 2),
    (1, 3),
    (3, 2),
    (3, 1),
]
assert got == wanted, (
    f"the text 1, 2, 1, 3 with a window of 2 has the pairs {wanted}, got {got}; a word may "
    "be beside itself at another place, and a slice that begins below 0 begins at the end"
)

# %% hidden="context-pairs" points=1
# Hidden: random texts, words that repeat, empty texts, wide windows (1 point)
g = generator(2)
for window in (1, 2, 4, 30):
    lengths = (9, 0, 1, 12)
    texts = [torch.randint(0, 5, (n,), generator=g).tolist() for n in lengths]
    saved = [list(ids) for ids in texts]
    wanted = []
    for ids in texts:
        for i in range(len(ids)):
            for j in range(len(ids)):
                if 0 < abs(i - j) <= window:
                    wanted.append((ids[i], ids[j]))
    got = [tuple(pair) for pair in context_pairs(texts, window)]
    assert len(got) == len(wanted), (
        f"window {window}, texts of 9, 0, 1 and 12 words: wanted {len(wanted)} pairs, "
        f"got {len(got)}; a word may be beside another occurrence of itself, and "
        "before the first word there is nothing"
    )
    assert got == wanted, (
        f"window {window}: other pairs, or another order than text after text, middle "
        "after middle, from left to right"
    )
    assert texts == saved, "context_pairs must not change the texts"

# %% [markdown]
# ## 3. Thinning (2 points)
#
# Words like *the* keep everybody company and so say little about any word.
# If a word's share of all occurrences is $f$, each of its occurrences is kept with the probability $\sqrt{\tau / f}$, or always if that is above 1.
#
# Write `thin(ids, counts, threshold, draws)`: the list of the ids that are kept, in their order.
# `counts[i]` says how often the word `i` occurs in the whole corpus (a word with the count 0 is always kept), and `threshold` is $\tau$.
# `draws` holds a random number from 0 to 1 for each id; the id is kept if its number is *below* the probability.
#
# With the counts 90 and 10 and $\tau = 0.1$, the first word has $f = 0.9$ and is kept with the probability $1/3$; the second has $f = 0.1$ and is always kept.


# %% answer="thin"
def thin(ids, counts, threshold, draws):
    """Return the ids that are kept when frequent words are thinned out."""
    ### BEGIN SOLUTION
    total = sum(counts)
    probs = [(threshold * total / n) ** 0.5 if n else 1.0 for n in counts]
    return [i for i, draw in zip(ids, draws) if draw < probs[i]]
    ### END SOLUTION


# %% test="thin" points=1
got = thin([0, 0, 1, 1], [90, 10], 0.1, [0.3, 0.4, 0.3, 0.99])
assert got == [0, 1, 1], (
    "word 0 is kept with probability 1/3, so its draw 0.3 keeps it and 0.4 does not; "
    f"word 1 is always kept: wanted [0, 1, 1], got {got}"
)

# %% hidden="thin" points=1
# Hidden: random counts and draws, words of no or one occurrence, draws at the limit (1 point)
g = generator(3)
for threshold in (0.2, 0.02, 1e-3):
    counts = torch.randint(1, 60, (9,), generator=g).tolist()
    counts[4] = 0
    ids = torch.randint(0, 4, (80,), generator=g).tolist() + [8, 5, 7] * 10
    draws = torch.rand(110, generator=g).tolist()
    wanted = []
    for i, draw in zip(ids, draws):
        if draw * draw * counts[i] < threshold * sum(counts):
            wanted.append(i)
    saved = list(ids), list(counts), list(draws)
    got = thin(ids, counts, threshold, draws)
    assert (ids, counts, draws) == saved, "thin must not change its arguments"
    assert list(got) == wanted, (
        f"counts {counts}, threshold {threshold:g}: of 110 ids {len(wanted)} are kept, got "
        f"{len(got)}, or others; the share is the count over the sum of all counts, and "
        "the root is taken"
    )
got = thin([0, 0, 1], [100, 0], 0.25, [0.5, 0.49, 0.9])
assert list(got) == [0, 1], (
    "with f = 1 and a threshold of 0.25 the probability is 1/2: a draw of 0.5 is not "
    f"below it, 0.49 is; got {got}"
)
got = thin([1], [3, 0], 0.01, [0.9])
assert list(got) == [1], f"a word with the count 0 is always kept, got {got}"
got = thin([0, 0], [1, 99], 0.0025, [0.6, 0.4])
assert list(got) == [0], (
    "a word that occurs once in 100 has f = 0.01, and the root of 0.0025 / 0.01 is 1/2: "
    f"the draw 0.4 keeps it, 0.6 does not; got {got}"
)
assert thin([], [1, 1], 0.5, []) == [], "no ids, nothing kept"

# %% [markdown]
# ## 4. The loss of skip-gram (2 points)
#
# Write `skipgram_loss(middle, company, noise)`: the loss of each pair, of shape (B,),
#
# $$
# \mathcal{L} = -\ln \sigma(u_o \cdot v_c) - \sum_{k=1}^{K} \ln \sigma(-u_{n_k} \cdot v_c),
# $$
#
# $$
# \sigma(s) = \frac{1}{1 + e^{-s}},
# $$
#
# from `middle`, the vectors $v_c$, of shape (B, D), `company`, the $u_o$, of shape (B, D), and `noise`, the $u_n$, of shape (B, K, D).
#
# Scores may be large: $\sigma(-200)$ is 0 in float32, but its logarithm is $-200$.
# `torch.nn.functional.logsigmoid` computes it safely.
#
# Where all scores are 0, each guess costs $\ln 2$, so with $K = 2$ the loss is $3 \ln 2$.


# %% answer="skipgram-loss"
def skipgram_loss(middle, company, noise):
    """Return the loss of each pair, (B,), in nats."""
    ### BEGIN SOLUTION
    logsigmoid = torch.nn.functional.logsigmoid
    good = torch.einsum("bd,bd->b", company, middle)
    bad = torch.einsum("bkd,bd->bk", noise, middle)
    return -logsigmoid(good) - logsigmoid(-bad).sum(dim=1)
    ### END SOLUTION


# %% test="skipgram-loss" points=1
got = skipgram_loss(torch.zeros(1, 4), torch.ones(1, 4), torch.ones(1, 2, 4))
assert close(got, torch.tensor([3 * log(2)])), (
    f"three scores of 0 cost ln 2 each, 2.079 in all, for one pair; got {describe(got)}"
)
got = skipgram_loss(
    torch.tensor([[log(3), 0.0]]),
    torch.tensor([[1.0, 5.0]]),
    torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]),
)
assert close(got, torch.tensor([log(4 / 3) + log(4) + log(2)])), (
    "the scores are ln 3 for the company, and ln 3 and 0 for the noise. The company's "
    "sigmoid is 3/4; the noise should be low, so it costs -ln 1/4 and -ln 1/2: 2.367 in "
    f"all, got {describe(got)}; 1.269 comes from noise with the sign of company"
)
got = skipgram_loss(
    torch.tensor([[0.0, 1.0], [log(3), 0.0], [0.0, 0.0]]),
    torch.tensor([[5.0, 0.0], [1.0, 5.0], [2.0, 2.0]]),
    torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]]]),
)
assert close(got, torch.tensor([2 * log(2), log(4 / 3) + log(4), 2 * log(2)])), (
    "three pairs with one word of noise each: their losses are 2 ln 2 = 1.386, "
    f"ln 4/3 + ln 4 = 1.674, and 2 ln 2 again; got {describe(got)}"
)

# %% hidden="skipgram-loss" points=1
# Hidden: random vectors, and scores of some hundreds (1 point)
g = generator(4)
for scale in (1.0, 15.0):
    middle, company = scale * torch.randn(2, 3, 5, generator=g)
    noise = scale * torch.randn(3, 4, 5, generator=g)
    wanted = []
    for v, u, others in zip(middle.double(), company.double(), noise.double()):
        scores = [-(u * v).sum(), *((n * v).sum() for n in others)]
        wanted.append(sum(s.clamp(min=0) + (-s.abs()).exp().log1p() for s in scores))
    got = skipgram_loss(middle, company, noise)
    assert close(got, torch.stack(wanted), 1e-3), (
        f"vectors of size {scale:g}: wanted {describe(torch.stack(wanted))}, one loss for each "
        f"of 3 pairs, got {describe(got)}"
    )
far = torch.full((1, 1), 20.0)
got = skipgram_loss(far, -far, far[None])
assert close(got, torch.tensor([800.0])), (
    "scores of -400 for the company and 400 for the noise cost 400 nats each: wanted "
    f"800, got {describe(got)}; take the logarithm of the sigmoid in one step"
)

# %% [markdown]
# ## 5. A step of learning (3 points)
#
# The derivative of the loss with respect to a score is the error: $\sigma(s) - 1$ for the company and $\sigma(s)$ for noise.
# The gradient with respect to one vector of a score is the error times *the other* vector.
#
# Write `skipgram_step(vectors, contexts, middles, targets, rate)`, one step of gradient descent on the *sum* of the losses of all pairs.
#
# | Name | Shape |
# |---|---|
# | `vectors`, `contexts`: the tables of $v$ and of $u$ | (V, D) |
# | `middles`: ids of the words in the middle | (B,) |
# | `targets`: ids of the company, first, and of the noise | (B, 1 + K) |
# | `rate`: the learning rate | a number |
#
# Return the two new tables; the old ones stay as they are.
# All gradients are taken at the old tables.
# If a word occurs in several pairs, or several times in one, its gradients add up.
#
# An example with $v = (2, 0)$, the company's $u_+ = (0, 1)$ and the noise's $u_- = (0, -3)$: both scores are 0, so the errors are $-\frac12$ and $+\frac12$.
# With a rate of 1, $v$ becomes $(2, 2)$, $u_+$ becomes $(1, 1)$, and $u_-$ becomes $(-1, -3)$.


# %% answer="skipgram-step"
def skipgram_step(vectors, contexts, middles, targets, rate):
    """Return both tables after one step of gradient descent."""
    ### BEGIN SOLUTION
    v, u = vectors[middles], contexts[targets]  # (B, D), (B, 1 + K, D)
    errors = torch.einsum("bkd,bd->bk", u, v).sigmoid()
    errors[:, 0] -= 1
    by_v = torch.einsum("bk,bkd->bd", errors, u)
    by_u = torch.einsum("bk,bd->bkd", errors, v)
    vectors = vectors.index_add(0, middles, -rate * by_v)
    contexts = contexts.index_add(0, targets.flatten(), -rate * by_u.flatten(0, 1))
    return vectors, contexts
    ### END SOLUTION


# %% test="skipgram-step" points=1
vectors = torch.tensor([[2.0, 0.0], [5.0, 5.0], [6.0, 6.0]])
contexts = torch.tensor([[9.0, 9.0], [0.0, 1.0], [0.0, -3.0]])
new_v, new_u = skipgram_step(
    vectors, contexts, torch.tensor([0]), torch.tensor([[1, 2]]), 1.0
)
assert close(new_v, torch.tensor([[2.0, 2.0], [5.0, 5.0], [6.0, 6.0]])), (
    "v = (2, 0) moves against -1/2 · (0, 1) + 1/2 · (0, -3) = (0, -2) and becomes (2, 2); "
    f"the others stay; got {describe(new_v)}"
)
assert close(new_u, torch.tensor([[9.0, 9.0], [1.0, 1.0], [-1.0, -3.0]])), (
    "the company moves by 1/2 · v to (1, 1), the noise by -1/2 · v to (-1, -3), with "
    f"v = (2, 0) as it was before; got {describe(new_u)}"
)
_, new_u = skipgram_step(
    vectors, contexts, torch.tensor([0, 0]), torch.tensor([[1, 2], [1, 2]]), 1.0
)
assert close(new_u[1], torch.tensor([2.0, 1.0])), (
    "the same pair twice moves the company twice as far, from (0, 1) to (2, 1), got "
    f"{describe(new_u[1])}; `contexts[ids] -= …` counts an id that repeats only once"
)

# %% hidden="skipgram-step" points=2
# Hidden: random tables with ids that repeat, against autograd; old tables stay (2 points)
g = generator(5)
for rate, batch, n_noise in ((0.1, 7, 4), (0.5, 3, 1), (0.02, 30, 2)):
    vectors = torch.randn(6, 5, generator=g)
    contexts = torch.randn(6, 5, generator=g)
    middles = torch.randint(0, 4, (batch,), generator=g)
    targets = torch.randint(0, 6, (batch, 1 + n_noise), generator=g)
    targets[0, 1] = targets[0, 0]  # noise may be the company itself
    leaves = vectors.clone().requires_grad_(), contexts.clone().requires_grad_()
    scores = (leaves[0][middles][:, None] * leaves[1][targets]).sum(dim=-1)
    signs = torch.ones(batch, 1 + n_noise)
    signs[:, 1:] = -1
    loss = torch.nn.functional.softplus(-signs * scores).sum()
    gradients = torch.autograd.grad(loss, leaves)
    saved = vectors.clone(), contexts.clone()
    got = skipgram_step(vectors, contexts, middles, targets, rate)
    for new, old, by, name in zip(got, saved, gradients, ("vectors", "contexts")):
        assert close(new, old - rate * by, 1e-4), (
            f"{batch} pairs, {n_noise} noise words each, rate {rate}: the {name} are not "
            "the old ones minus rate times the gradient of the summed loss; words that "
            "occur several times get the sum of their gradients"
        )
    assert torch.equal(vectors, saved[0]), "the old vectors must stay as they are"
    assert torch.equal(contexts, saved[1]), "the old contexts must stay as they are"

# %% [markdown]
# ## 6. Analogies (2 points)
#
# *$a$ is to $b$ as $c$ is to what?*
# The answer is the word whose vector has the largest cosine with $v_b - v_a + v_c$, each of the three brought to length 1 first.
# By convention, $a$, $b$ and $c$ themselves are not allowed as answers.
#
# Write `analogy(vectors, a, b, c)`: from the table (V, D) and three ids to the id of the answer, an `int`.
# No vector of the table is 0.


# %% answer="analogy"
def analogy(vectors, a, b, c):
    """Return the id of the word that is to c as b is to a."""
    ### BEGIN SOLUTION
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    scores = unit @ (unit[b] - unit[a] + unit[c])
    scores[[a, b, c]] = -torch.inf
    return int(scores.argmax())
    ### END SOLUTION


# %% test="analogy" points=1
# man, woman, king, queen, soup: the first coordinate is rank, the second is sex
words = torch.tensor([[1.0, -1, 0], [1, 1, 0], [3, -1, 1], [3, 1, 1], [0.1, 3, 5]])
got = analogy(words, 0, 1, 2)
assert got not in (0, 1, 2), f"a, b and c are not allowed as answers, got {got}"
assert got == 3, f"man is to woman as king is to queen, 3; got {got}"
words = torch.tensor([[1.0, -1, 0], [1, 1, 0], [3, -1, 1], [3, 1, 1], [3, -3, 1]])
got = analogy(words, 0, 1, 2)
assert got == 3, (
    f"woman minus man plus king is near queen, 3; got {got}; 4 comes from man minus woman"
)
got = analogy(words * torch.tensor([[1.0], [1], [100], [1], [1]]), 0, 1, 2)
assert got == 3, (
    "king's vector, a hundred times as long, must not change the answer: bring all to "
    f"length 1 before you add; got {got}"
)

got = analogy(words * torch.tensor([[1.0], [1], [1], [1], [100]]), 0, 1, 2)
assert got == 3, (
    "a word whose vector is a hundred times as long is not a better answer for it: take "
    f"the largest cosine, not the largest product; got {got}"
)

# %% hidden="analogy" points=1
# Hidden: random tables with vectors of all lengths (1 point)
g = generator(6)
for number in range(30):
    vectors = (
        torch.randn(12, 3, generator=g) * torch.rand(12, 1, generator=g).exp() ** 3
    )
    a, b, c = torch.randperm(12, generator=g)[:3].tolist()
    if number % 5 == 4:
        c = a
    saved = vectors.clone()
    lengths = vectors.square().sum(dim=1).sqrt()
    sought = vectors[b] / lengths[b] + vectors[c] / lengths[c] - vectors[a] / lengths[a]
    ranked = sorted(range(12), key=lambda i: -float(vectors[i] @ sought / lengths[i]))
    wanted = next(i for i in ranked if i not in (a, b, c))
    got = analogy(vectors, a, b, c)
    assert type(got) is int, f"an id is an int, got {type(got).__name__}"
    assert got == wanted, (
        f"{a} is to {b} as {c} is to {wanted}, got {got}; take the largest cosine with "
        "b - a + c, all brought to length 1, and neither a, b nor c"
    )
    assert torch.equal(vectors, saved), "analogy must not change the vectors"
words = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [1.0, 0.1], [-1.0, 0.1]])
got = analogy(words, 0, 1, 2)
assert got == 3, (
    "the best of those that are allowed is the answer, however small its cosine: 3, got "
    f"{got}"
)

# %% [markdown]
# ## 7. Counting instead of learning (2 points)
#
# Up to a constant, skip-gram's scores tend to a number that can be found by counting: the logarithm of how much more often two words occur together than by chance.
# Let $N_{co}$ be how often the pair occurs, $N_c$ and $N_o$ the sums of its row and its column, and $N$ the sum of all.
# Then the *positive pointwise mutual information* is
#
# $$
# \operatorname{ppmi}_{co} = \max\left(0, \, \ln \frac{N_{co} \, N}{N_c \, N_o}\right).
# $$
#
# - Write `ppmi(counts)`, from the table of counts (V, V) to the table of ppmi.
#   Where $N_{co} = 0$ it is 0, even if a whole row or column is 0.
# - Write `svd_vectors(table, d)`: a vector of $d$ numbers for each row of a table.
#   With the singular value decomposition $U \Sigma W^\top$ of the table, singular values from large to small, these are the first $d$ columns of $U$, each times the *root* of its singular value.
#
# For the counts $\begin{pmatrix} 0 & 3 \\ 3 & 2 \end{pmatrix}$ the sums are 3 and 5, 8 in all, so the pair of different words has $\ln \frac{3 \cdot 8}{3 \cdot 5} = \ln 1.6$, and both other entries are 0.


# %% answer="counting"
def ppmi(counts):
    """Return the positive pointwise mutual information of each pair, (V, V)."""
    ### BEGIN SOLUTION
    rows, columns = counts.sum(dim=1, keepdim=True), counts.sum(dim=0)
    ratios = counts * counts.sum() / (rows * columns)
    return ratios.log().clamp(min=0).nan_to_num()
    ### END SOLUTION


def svd_vectors(table, d):
    """Return a vector of d numbers for each row of a table, (V, d)."""
    ### BEGIN SOLUTION
    u, sizes, _ = torch.linalg.svd(table)
    return u[:, :d] * sizes[:d].sqrt()
    ### END SOLUTION


# %% test="counting" points=1
got = ppmi(torch.tensor([[0.0, 3.0, 0.0], [3.0, 2.0, 0.0], [0.0, 0.0, 0.0]]))
wanted = torch.tensor([[0, log(1.6), 0], [log(1.6), 0, 0], [0, 0, 0]])
assert close(got, wanted), (
    "the pair of words 0 and 1 has ln 1.6 = 0.470, all others have 0: what is rarer than "
    f"by chance, what never occurs, and words without any pair; got {got.tolist()}"
)
got = ppmi(torch.tensor([[0.0, 3.0], [0.0, 1.0]]))
assert close(got, torch.zeros(2, 2)), (
    "a row of 3, a column of 4, and 4 in all: 3 · 4 / (3 · 4) is 1 and ln 1 is 0, and so it "
    f"is for the 1; wanted 0 everywhere, got {describe(got)}; N_c is the sum of the row and "
    "N_o that of the column"
)
got = svd_vectors(torch.tensor([[4.0, 0.0], [0.0, 9.0]]), 1)
assert close(got.abs(), torch.tensor([[0.0], [3.0]])), (
    "the largest singular value is 9, its vector is (0, 1), and the root of 9 is 3: "
    f"wanted 0 and 3, up to a sign, got {describe(got)}"
)

got = svd_vectors(torch.tensor([[0.0, 4.0, 0.0], [9.0, 0.0, 0.0]]), 2)
assert close(got.abs(), torch.tensor([[0.0, 2.0], [3.0, 0.0]])), (
    "the rows (0, 4, 0) and (9, 0, 0) have the singular values 9 and 4: the vectors are "
    f"(0, 2) and (3, 0), up to signs, got {describe(got)}; they come from the columns of U"
)

# %% hidden="counting" points=1
# Hidden: random counts, not symmetric, with empty rows and columns (1 point)
g = generator(7)
for size in (4, 7):
    counts = torch.randint(0, 6, (size, size), generator=g).float()
    counts[1] = 0
    counts[:, 2] = 0
    saved = counts.clone()
    n, wanted = counts.double(), torch.zeros(size, size)
    for c in range(size):
        for o in range(size):
            if n[c, o] > 0:
                chance = n[c].sum() / n.sum() * n[:, o].sum()
                wanted[c, o] = max(0.0, float(torch.log(n[c, o] / chance)))
    got = ppmi(counts)
    assert close(got, wanted), (
        f"{size} words, one without a row and one without a column: wanted ppmi of shape "
        f"{(size, size)} without nan, got {describe(got)}; rows and columns have sums of their own"
    )
    assert torch.equal(counts, saved), "ppmi must not change the counts"
    table = torch.rand(size, size, generator=g)
    powers, directions = torch.linalg.eigh(table.double() @ table.double().T)
    for d in (1, 3):
        x = svd_vectors(table, d)
        assert tuple(x.shape) == (size, d), f"wanted {(size, d)}, got {describe(x)}"
        wanted = torch.zeros(size, size, dtype=torch.double)
        for i in range(1, d + 1):
            wanted += powers[-i].sqrt() * torch.outer(
                directions[:, -i], directions[:, -i]
            )
        assert close(x @ x.T, wanted, 1e-4), (
            f"the products of the vectors with each other, for d = {d}, must be those of "
            "the first columns of U times the roots of the singular values"
        )

# %% [markdown]
# ## 8. What vectors know (5 points, written)
#
# **Opposites** (3 points).
# In vectors from skip-gram, *hot* and *cold* have a cosine of 0.9, and *hot* and *stove* one of 0.4.
# Say what skip-gram learns from, and why that puts *cold* nearer to *hot* than *stove*.
# Name one use that this harms and one that it does not, and say why.
# Then say which of the two pairs moves closer together with a much wider window, and why.

# %% [markdown] written="opposites" points=3
# Skip-gram sees only company: two words get similar vectors if the same words surround them, that is, if one could take the other's place.
# *The water is hot* and *the water is cold* differ in nothing else, so both have nearly the same company.
# *Hot* and *stove* occur together, but neither can take the other's place.
#
# Harmed: any use that depends on a word's exact meaning, such as a search for *safe medicines* that finds *unsafe* ones, or telling whether a review is good or bad.
# Not harmed: sorting words by kind (all words for temperature), or finding the topic of a text.
#
# With a wide window the company is the topic of the whole passage, not the slot in the sentence.
# So words that belong together become alike, such as *hot* and *stove*; words that replace each other stay near as far as they share a topic.
#
# One point: same company, one could take the other's place.
# One point: a use that is harmed and one that is not, with a reason.
# One point: hot and stove, since a wide window finds what goes together.

# %% [markdown]
# **A report** (2 points).
# Somebody reports that the arithmetic of analogies is right on 70 % of 1,200 questions about 25 countries and their capitals, with $a$, $b$ and $c$ excluded as answers.
# Name two numbers that you would ask for before believing that differences of vectors carry meaning, and say what each would tell you.

# %% [markdown] written="report" points=2
# - How often just the word nearest to c, without any arithmetic, is right (among the words that are allowed): if *Paris* is the nearest to *France* anyway, the difference adds nothing.
# - How often the best answer would be b or c if these were allowed: then the sum hardly moves from where it began, and the convention hides that.
# - What a guess among capitals gives: with 25 of them 4 %.
# - An interval that treats the countries, not the 1,200 questions, as the sample: there are only 25 of them, so it is much wider.
# - Whether the two words of a pair are side by side in the text (*Paris, France*), which is what makes the arithmetic work.
#
# One point for each of two such numbers, with what it would tell.
