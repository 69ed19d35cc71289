# %% [markdown]
# (context_window)=
# # The context window
#
# Besides what it has learned, a model can use only what it reads in one pass: its **context window**.
# Three things limit its length: the positions that the model knows, the distances that training has shown it, and the cost of attention.
#
# **You will be able to**
#
# - say where three limits of a window come from: the positions, the training, the cost;
# - compute how the arithmetic and the memory of attention grow with the length;
# - compute attention block by block and in a sliding window, and say what a window or a state of fixed size gives up;
# - price a key-value cache;
# - test what a model finds in a long text, and stretch its window.
#
# **You need** the chapters [Attention](attention.ipynb), for heads, rotary positions and the cache, [The transformer](transformer.ipynb) and [Pretraining](pretraining.ipynb).
#
# **Takes** about 45 minutes to read with the code.
#
# **Runs in** about a minute on one processor core.

# %% [markdown]
# ## Setup

# %% tags=["hide-input"]
import copy
import math
import random
import textwrap
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import matplotlib.pyplot as plt
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from llmcourse import plotting
from llmcourse.checks import context_window as checks
from llmcourse.model import costs, long_context
from llmcourse.model.attention import (
    GroupedQueryAttention,
    causal_mask,
    fused_attention,
    naive_attention,
)
from llmcourse.model.costs import PeakMemory
from llmcourse.model.folders import load_pretrained
from llmcourse.model.positions import RopeScaling, ntk_base, rope_frequencies
from llmcourse.model.transformer import TINY, Transformer
from llmcourse.retrieval.needles import Haystack, count_found
from llmcourse.studies import stored_study
from llmcourse.text import tales
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.evaluation import text_loss
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.pretraining import train_step
from llmcourse.widgets.sizes import KNOWN_MODELS
from llmcourse.widgets.window import WindowExplorer

plotting.use_course_style()
torch.set_num_threads(1)
torch.set_grad_enabled(False)
base, tokenizer = load_pretrained("base-llm")
config = base.config
generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## The problem
#
# Somewhere a text says what colour somebody wore, and at its end the model must supply that colour.
# The sentences in between come from other tales and mention neither names nor colours.
# Such a test is called a **{term}`needle in a haystack`**.
# The needle counts as found if the model gives the right colour the highest probability of all colours.
# A blind guess is right one time in twenty.
# Here is such a text of about 70 tokens, with the needle halfway (a `depth` of 0 is the beginning, 1 the end).

# %%
haystack = Haystack(tokenizer)
needle = haystack.hide(70, depth=0.5, rng=random.Random(3))
print(textwrap.fill(f"{needle.text} …", 80))
print(f"answer: {needle.answer}, one of {len(haystack.colours)} colours")

# %% [markdown]
# We ask `base-llm` for 24 such colours, in texts of 120 tokens and in texts of 400, with the needle halfway.
# Each count is followed by its 95 % interval: the true shares that are plausible after so few trials.
# Then we give the model one more token than its window holds.

# %% tags=["nbval-ignore-output"]
found = {n: count_found(base, haystack, n, depth=0.5, n=24) for n in (120, 400)}
for n, count in found.items():
    low, high = count.interval
    print(f"{n} tokens: {count.right} of {count.n} found ({low:.0%} to {high:.0%})")

# %% tags=["remove-cell"]
assert found[120].share > found[400].share

# %%
print("room for", config.context_length, "tokens")
try:
    base(torch.zeros(1, config.context_length + 1, dtype=torch.long))
except ValueError as error:
    print("one more:", error)

# %% [markdown]
# So the window has two ends.
# At the outer end the model refuses the text.
# At the inner end, which comes first, the text still fits, but the model often no longer finds what it needs.
# Neither end is a law of nature; this chapter shows where they come from.
#
# ![A bar of 512 tokens: the first 240 are marked as tales; the rest fits, but was hardly ever trained. Arrows point to it: at 120 tokens, mostly found; at 400, mostly lost; at 513, beyond the end, refused.](figures/two-ends-of-the-window.svg)
#
# *The two ends of the window of `base-llm`, for a fact in the middle of the text.
# It was trained on tales, which have 180 tokens on average and hardly ever more than 240.*
#
# Windows are measured in tokens and texts in words, so the next cell converts one to the other to see how much text fits.

# %%
texts = [story.text for story in tales.generate(200, seed=1_000_000)]
n_tokens = sum(len(tokenizer.encode(text)) + 1 for text in texts)
n_words = sum(len(text.split()) for text in texts)
per_word = n_tokens / n_words
print(f"{per_word:.1f} tokens for a word, {n_tokens / len(texts):.0f} for a tale")
for words, name in ((250, "a page"), (5_000, "an article"), (90_000, "a novel")):
    n = words * per_word
    print(f"{name:11}{words:7,} words  {n / 512:7.3g} windows of 512 tokens")

# %% tags=["remove-cell"]
assert 1 < per_word < 2

# %% [markdown]
# Our window holds two or three tales, or less than two pages; a novel fills hundreds of windows.
#
# ## By hand
#
# ### The table of scores
#
# With 4 tokens, attention fills a table of $4 \times 4 = 16$ scores; 10 of them are used, and the others lie in the future.
# With 8 tokens there are 64 scores, with 16 there are 256.
# Doubling the length makes the table four times as large.
# For 100,000 tokens it has ten billion scores, in every head of every layer.
#
# ### Softmax in two pieces
#
# We never need the whole table at once.
# Say a query has the scores $0$ and $\ln 3$ for two keys, whose values are 8 and 4.
# All at once: the exponentials are 1 and 3, so the result is $(1 \cdot 8 + 3 \cdot 4) / 4 = 5$.
#
# Now piece by piece.
# Every exponential is taken relative to the largest score so far, so none can overflow:
#
# ![Two columns of three boxes. After the first key, with score 0 and value 8: m is 0, l is 1, u is 8. Arrows lead to the second column, for the key with score ln 3 and value 4: m rises to ln 3; l and u are multiplied by one third, added to, and become 4/3 and 20/3. Their quotient is 5.](figures/softmax-in-two-pieces.svg)
#
# *From the first key to the second: the largest score $m$, the sum $\ell$, and the mixture of values $u$, not yet divided.*
#
# When the largest score rises by $\ln 3$, the earlier sums shrink by $e^{-\ln 3} = \frac13$.
# At the end $u / \ell = \frac{20}3 / \frac43 = 5$, the same.
# We kept only three numbers, and no table.
# This is the **{term}`online softmax`**.

# %%
scores, values = torch.tensor([0, math.log(3)]), torch.tensor([8.0, 4])
largest, total, mixture = scores[0], torch.tensor(1.0), values[0]
new = torch.maximum(largest, scores[1])
shrink, weight = (largest - new).exp(), (scores[1] - new).exp()
total, mixture = total * shrink + weight, mixture * shrink + weight * values[1]
print(f"{mixture:.2f} / {total:.2f} = {mixture / total:.0f}")
assert_close(mixture / total, scores.softmax(0) @ values)

# %% [markdown]
# ## The idea
#
# For every position $t$, attention is a weighted mean of the values of positions $s$:
#
# $$
# c_t = \frac{\sum_{s \in S_t} a_{ts} v_s}{\sum_{s \in S_t} a_{ts}}.
# $$
#
# The ways to read long texts differ in three respects: which positions $S_t$ they look at, how they form the weights $a_{ts}$, and in what order they compute.
#
# | Way | looks at $S_t$ | weight $a_{ts}$ | scores for $n$ tokens | kept while writing |
# |---|---|---|---|---|
# | naive | all up to $t$ | $e^{q_t \cdot k_s / \sqrt d}$ | $n^2$, all at once | keys, values: grows with $n$ |
# | chunked, fused | the same | the same | up to $n^2$, a block at a time | the same |
# | {term}`sliding window` | the last $w$ | the same | $2 w n$ | the last $w$ keys, values |
# | {term}`linear attention` | all up to $t$ | $\varphi(q_t) \cdot \varphi(k_s)$ | in training, $n$ times the block length; in writing, none | one table $d \times (d + 1)$ |
#
# (Linear attention has two forms, one for training and one for writing; *A window and a state* explains why only the first computes scores.)
#
# **Naive attention** is what the chapter [Attention](attention.ipynb) computed, with the whole table.
# **Chunked attention** is exact: it computes the same numbers in another order.
# **Fused attention** is torch's own function for this, a single compiled program (a **{term}`kernel`**); the best-known such kernel is **FlashAttention** {cite:p}`dao2022`.
#
# A **sliding window** ignores everything before it, but its reach adds up over the layers.
# In the second layer, position $t$ reads from positions that have themselves gathered from up to $w - 1$ positions further back.
# We compute it in blocks of $w$ positions: each query meets the keys of its own block and of the block before.
# That makes $2w$ scores per query, half of which are hidden.
#
# ![Three tables of 12 by 12 scores: scores that are used are coloured; scores that are computed but hidden are grey. Naive: the lower triangle coloured, the upper grey, 144 scores, all at once. Chunked: ten numbered tiles on and below the diagonal, 90 scores, 9 at a time. Window of 3: a narrow band, with some grey beside it, 63 scores.](figures/three-ways-through-the-table.svg)
#
# *Coloured scores are used, grey ones are computed and hidden, empty ones are never computed.
# Chunked attention gives the same result as naive attention, tile by tile; a window leaves out most of the past.*
#
# ![Three rows of circles: tokens, layer 1, layer 2. Lines lead from the last position of layer 2 to three positions of layer 1, and from these to five tokens: the last one and the four before it.](figures/reach-over-layers.svg)
#
# *A window of 3 over two layers: position $t$ reaches 4 positions back, 2 per layer.*
#
# **Linear attention** gives up the softmax.
# Let the weight be a product of features $\varphi$.
# A dot product is a row times a column, $\varphi(q_t) \cdot \varphi(k_s) = \varphi(q_t)^\top \varphi(k_s)$, and $\varphi(q_t)$ is the same in every term.
# So it can be taken out of the sum, and the sum over the past can be made before we know the query (each value is a row here):
#
# $$
# \sum_{s \le t} \left(\varphi(q_t) \cdot \varphi(k_s)\right) v_s^\top = \varphi(q_t)^\top \Bigl[\sum_{s \le t} \varphi(k_s) v_s^\top\Bigr].
# $$
#
# The bracket, called the **state**, has the same size however long the text is {cite:p}`katharopoulos2020`.
# The denominator also needs $\sum_s \varphi(k_s)$, one more column: $d \times (d + 1)$ numbers in all.
#
# ![The product of a column (the features of a key) and a row (its value followed by a 1) is added to the state, a table of four rows and five columns, the last in another colour. The features of a query read it from below and give the row c, divided by the sum in the last column.](figures/state-of-fixed-size.svg)
#
# *Every position adds its product to the same table, here with $d = 4$, and the query reads only the table.
# The last column sums the keys, for the denominator.*
#
# | Symbol | Meaning | Shape | Name in code |
# |---|---|---|---|
# | $n$ | length of the text, in tokens | – | `n_positions` |
# | $d$, $H$, $K$ | width of a head; heads; key-value heads | – | `d_head`, `n_heads`, `n_kv_heads` |
# | $m, \ell, u$ | largest score, sum, undivided mixture of a row so far | a number, a number, $d$ | `largest`, `total`, `mixture` |
# | $w$ | width of the window | – | `window` |
# | $\varphi$ | features, never negative: here $\operatorname{elu}(x) + 1$, which is $x + 1$ above zero and $e^x$ below | $d \to d$ | `features` |
# | $2 L K d \cdot b$ | bytes of cache per token, with $L$ layers and $b$ bytes per number | – | `kv_bytes_per_token` |

# %% [markdown]
# ## In code
#
# ### Block by block
#
# These are the two steps from above, for all queries of one head at once, and with a block of keys in place of one key.
# Keys of later positions get the score $-\infty$, and so the weight 0.


# %%
def online(query, key, value, block):
    largest = torch.full((len(query), 1), -torch.inf)
    total, mixture = torch.zeros(len(query), 1), torch.zeros(len(query), value.shape[1])
    for start in range(0, len(key), block):
        scores = query @ key[start : start + block].T / query.shape[1] ** 0.5
        columns = torch.arange(len(key))[start : start + block]
        scores[columns > torch.arange(len(query))[:, None]] = -torch.inf
        new = largest.maximum(scores.amax(1, keepdim=True))
        weights, shrink = (scores - new).exp(), (largest - new).exp()
        total = total * shrink + weights.sum(1, keepdim=True)
        mixture = mixture * shrink + weights @ value[start : start + block]
        largest = new
    return mixture / total


# %% [markdown]
# It must agree with `naive_attention`, and so must the package's version.

# %%
qkv = torch.randn(3, 1, 1, 300, 32, generator=generator)
naive, _ = naive_attention(*qkv, causal_mask(300, 300))
mine = online(*qkv[:, 0, 0], block=64)
package = long_context.chunked_attention(*qkv, block=64)
assert_close(mine, naive[0, 0], atol=1e-5, rtol=1e-5)
assert_close(package, naive, atol=1e-5, rtol=1e-5)
print("all three agree, to 0.00001")

# %% [markdown]
# Torch's fused kernel is this loop, compiled {cite:p}`milakov2018,dao2022`.
# It has its own backward pass, described in *The table comes back in training*.
# You may read that the *memory* of attention grows with the square of the length.
# That is true of the table, but the table need not be stored; the *arithmetic* does grow with the square.
#
# ### A window and a state
#
# A window is a band in the table, and a band can be computed block by block, without the rest.
# Here is the mask of a window of three, for six tokens.

# %%
for row in long_context.sliding_window_mask(6, 6, window=3):
    print("".join(" ■" if seen else " ·" for seen in row))

# %% [markdown]
# The package computes only the band; the result must equal that of the whole table with a mask.

# %%
banded = long_context.sliding_window_attention(*qkv, window=32)
masked, _ = naive_attention(*qkv, long_context.sliding_window_mask(300, 300, 32))
assert_close(banded, masked, atol=1e-5, rtol=1e-5)
print("both agree, to 0.00001")

# %% [markdown]
# Linear attention takes features $\varphi$ of queries and keys; these are never negative.
# Here are those of −1, 0 and 2.

# %%
features = long_context.elu_features
print(*(f"{x:.2f}" for x in features(torch.tensor([-1.0, 0.0, 2.0]))))

# %% [markdown]
# Linear attention has two forms that must agree.
# In training, the positions of a block are computed side by side, and only what came before the block is read from the state.
# In writing, the positions come one after the other, and everything is read from the state:


# %%
def recurrent(query, key, value):
    """Return linear attention's context, one position after the other."""
    state, total = torch.zeros(key.shape[1], value.shape[1]), torch.zeros(key.shape[1])
    rows = []
    for q, k, v in zip(features(query), features(key), value):
        state, total = state + torch.outer(k, v), total + k
        rows.append(q @ state / (q @ total))
    return torch.stack(rows)


# %% tags=["hide-input"]
mine = recurrent(*(x[0, 0] for x in qkv))
assert_close(mine, long_context.linear_attention(*qkv)[0, 0], atol=1e-4, rtol=1e-4)
state = long_context.LinearState()
for t in range(300):
    last = state.read(*(x[:, :, t] for x in qkv))
assert_close(last[0, 0], mine[-1], atol=1e-4, rtol=1e-4)
print(f"state after 300 positions: {state.n_bytes:,} bytes")
print(f"keys and values of these: {2 * 300 * 32 * 4:,} bytes")

# %% [markdown]
# ![Bars to scale. Full attention keeps 76,800 bytes, with an arrow because this grows with every token. A window of 32 keeps 8,192 bytes and linear attention 4,224 bytes; neither grows.](figures/kept-while-writing.svg)
#
# *What one head keeps after 300 positions, to scale.*
#
# ## Experiment
#
# First comes the cost of attention, then positions that were never trained.
# Then the cache: how large it is, and how shared keys, fewer bits and a window make it smaller.
# Then we see what windows and states give up.
# The last two parts return to the needle: where it is lost, and how to find more of them without any training.
#
# ### What it costs
#
# *Predict*: going from 1,024 tokens to 8,192, eight times as many, how much more arithmetic and how much more memory does each way take?
#
# :::{dropdown} Answer
# Naive attention takes 64 times the memory, chunked and fused attention at most 8 times.
# Naive and fused attention do 64 times the arithmetic, chunked attention somewhat less.
# Window and linear attention take 8 times as much of both.
# :::
#
# We take one head, 32 wide.
# Memory is the largest number of bytes that new tensors hold at any one time.
# Arithmetic is what torch counts: each product and each sum in the multiplications of matrices.
# Time is processor time, the fastest of three runs.


# %%
def fastest(function, n=5):
    """Return the processor time of the fastest of n calls, in seconds."""
    seconds = []
    for _ in range(n):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds)


# %% [markdown]
# The masks of naive attention are made beforehand, so that they do not count.

# %%
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
masks = {n: causal_mask(n, n) for n in LENGTHS}


def with_mask(query, key, value):
    return naive_attention(query, key, value, masks[query.shape[2]])


# %% [markdown]
# Each of the five ways is a function of queries, keys and values.

# %%
WAYS = {
    "naive": with_mask,
    "chunked": partial(long_context.chunked_attention, block=256),
    "fused": fused_attention,
    "window": partial(long_context.sliding_window_attention, window=64),
    "linear": partial(long_context.linear_attention, block=64),
}

# %%
times, n_bytes, work = {}, {}, {}
for n in LENGTHS:
    qkv = torch.randn(3, 1, 1, n, 32, generator=generator)
    for name, way in WAYS.items():
        with PeakMemory() as memory:
            way(*qkv)
        n_bytes[name, n] = memory.peak
        # The counter knows this kernel, which makes the whole table.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            way(*qkv)
        work[name, n] = counter.get_total_flops()
        times[name, n] = fastest(partial(way, *qkv), n=3)

# %% [markdown]
# With both axes logarithmic, growth with a power of $n$ is a straight line whose slope is the power.
# The numbers beside the lines are their slopes from 1,024 to 8,192 tokens, fitted by least squares.
# With slope 1, eight times the length takes 8 times as much; with slope 2, $8^2 = 64$ times as much.


# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels over the length from 256 to 8,192 tokens, both axes logarithmic. Left, processor time: naive, chunked and fused attention rise steeply, window and linear attention less so. Right, memory: naive attention rises steeply to about 600 MiB; fused, window and linear rise only in proportion to the length, all below 20 MiB, and chunked is nearly flat."}}
def slope(measured, name, lengths=LENGTHS[-4:]):
    x, y = torch.tensor([(n, measured[name, n]) for n in lengths]).double().log().T
    return ((x - x.mean()) @ (y - y.mean()) / (x - x.mean()).square().sum()).item()


fig, panels = plt.subplots(1, 2, figsize=(7, 2.7))
for ax, measured, unit in zip(panels, (times, n_bytes), (1e-3, 2**20)):
    for name, style in zip(WAYS, ("-", "--", "-.", ":", (0, (3, 1, 1, 1)))):
        label = f"{name}: {slope(measured, name):.1f}"
        ax.plot(
            LENGTHS, [measured[name, n] / unit for n in LENGTHS], ls=style, label=label
        )
    _ = ax.set(xscale="log", yscale="log", xlabel="length (tokens, log scale)")
    _ = ax.set_xticks(LENGTHS[::2], [f"{n:,}" for n in LENGTHS[::2]])
    _ = ax.set_xticks((), minor=True)
_ = panels[0].set(ylabel="processor time (ms, log scale)")
_ = panels[1].set(ylabel="memory (MiB, log scale)")
for ax in panels:
    plotting.label_lines(ax, fontsize=7)
assert min(slope(times, "naive"), slope(times, "fused")) > 1.4
assert max(slope(times, "window"), slope(times, "linear")) < 1.6
assert times["naive", 8192] > 4 * max(times[x, 8192] for x in ("window", "linear"))

# %% [markdown]
# *Left, the time for one head on the machine that made this page; right, the most memory that new tensors held.*
#
# Times differ from machine to machine and from run to run; bytes and FLOPs do not.
# The next cell prints what eight times the length costs, and what 8,192 tokens cost.

# %% tags=["hide-input"]
print("           eight times the length     at 8,192 tokens")
print("           memory     arithmetic       MiB      GFLOP")
for name in WAYS:
    more = [measured[name, 8192] / measured[name, 1024] for measured in (n_bytes, work)]
    print(f"{name:10}{more[0]:5.0f} times{more[1]:9.0f} times", end="")
    print(f"{n_bytes[name, 8192] / 2**20:10.3g}{work[name, 8192] / 1e9:11.3g}")

# %% tags=["remove-cell"]
assert abs(slope(n_bytes, "naive") - 2) < 0.05
assert max(slope(n_bytes, x) for x in WAYS if x != "naive") < 1.05

# %% [markdown]
# The table costs twice over: time to fill it, and memory to hold it.
# Chunked and fused attention use the same pairs of positions as naive attention, but in memory that grows no faster than $n$.
# (Chunked attention's four tiles of 256 × 256 numbers take 1 MiB at any length, which at 1,024 tokens is most of its memory.)
# Chunked attention also skips the tiles above the diagonal.
# At 8,192 tokens these are nearly half of all tiles, at 1,024 a smaller share, so its work grows by a factor of less than 64.
# (For the fused kernel torch counts all $n^2$ pairs.)
# Window and linear attention also do less work: here by more than a factor of thirty.
# They use more memory than the fused kernel only because our code computes all blocks at once.
# (What the fused kernel uses internally and frees again is not counted; it does not grow with the length.)
#
# The slopes of the time need not match the powers of the arithmetic.
# On the machine that made this page, only the time of naive attention grows faster than its arithmetic.
# A likely reason is that a large table no longer fits into the processor's fast memory and has to be fetched from slow memory.
# Short texts take longer than their arithmetic suggests, because every call has a fixed cost; this makes the slopes smaller.
#
# In a whole model there are two kinds of arithmetic.
# The weight matrices process each token once, whatever the length of the text; attention compares pairs of tokens.
# We compute at what length the pairs begin to matter, for `base-llm`, which is 256 wide, and for `TINY`, a config that is a quarter as wide.

# %%
for name, sizes in {"base-llm": config, "TINY": TINY}.items():
    alone = costs.forward_flops_per_token(sizes, 1)
    for n in (512, 8192, 131_072):
        share = 1 - alone / costs.forward_flops_per_token(sizes, n)
        print(f"{name:9} {n:8,} tokens: {share:5.1%} of the arithmetic is for pairs")

# %% [markdown]
# At 512 tokens the pairs take a quarter of the arithmetic in `base-llm` and half of it in the narrower model; in long texts they take nearly all.
# (This counts all pairs, as torch does; half of them are hidden by the mask and need not be computed.)
# What counts is the length relative to the width.
# The work of the matrices grows with the square of the width, the work of the pairs with width times length.
#
# ### The table comes back in training
#
# So far we have only read.
# For training we need gradients, and autograd keeps what the backward pass will use.
#
# *Predict*: we differentiate our own loop, `online`, and the fused kernel.
# Does the memory of each still grow only with $n$?
#
# :::{dropdown} Answer
# The kernel's does.
# Our loop keeps the weights of all blocks, and together they are the table.
# :::


# %%
def fused_head(query, key, value):
    batch = (x[None, None] for x in (query, key, value))  # one text, one head
    return fused_attention(*batch)[0, 0]


def training_memory(way, n):
    """Return the most bytes held while a head is computed and differentiated."""
    inputs = [torch.randn(n, 32).requires_grad_() for _ in range(3)]
    with torch.enable_grad(), PeakMemory() as memory:  # gradients: off until here
        way(*inputs).sum().backward()  # any single number will do
    return memory.peak


# %%
growth = {}
for name, way in {"loop": partial(online, block=256), "kernel": fused_head}.items():
    short, long = (training_memory(way, n) for n in (1024, 4096))
    growth[name] = long / short
    print(f"{name:7}{long / 2**20:6.1f} MiB for 4,096 tokens, ", end="")
    print(f"{growth[name]:.0f} times as much as for 1,024")

# %% tags=["remove-cell"]
assert growth["loop"] > 10 and growth["kernel"] < 5

# %% [markdown]
# One table of 4,096 × 4,096 numbers takes 64 MiB.
# Autograd keeps two, the scores and the weights, the mask, and a mixture for each block: all these grow with the square of $n$.
# The rest grows only with $n$, so the factor is a little less than 16.
#
# The kernel has its own backward pass {cite:p}`dao2022`.
# From the forward pass it keeps its inputs, its output, and one more number for each query: $M = m + \ln \ell$, from the largest score and the sum of the exponentials.
# In the backward pass it computes a score $s$ again; the weight is then $e^{s - M}$, and no table is needed.
# Gradient checkpointing, too, computes again what it does not store, for whole layers ([Beyond the laptop](scaling.ipynb)).
#
# ### Positions never seen in training
#
# *Predict*: two small models learn to repeat a pattern of four tokens, on texts of 24 tokens.
# One has a learned vector for each position, like GPT-2.
# The other turns its queries and keys by angles ({term}`RoPE`), as Llama and `base-llm` do.
# What do they do from position 25 on?
#
# :::{dropdown} Answer
# The model with learned positions fails at once.
# The one with angles goes on: *four back* is the same angle everywhere.
# :::


# %%
def pattern(n, length, generator):
    """Return texts that repeat four tokens of their own again and again."""
    four = torch.randint(1, 20, (n, 4), generator=generator)
    return four.repeat(1, length // 4 + 1)[:, :length]


rows = pattern(200, 65, torch.Generator().manual_seed(1))
print("a text begins:", rows[0, :10].tolist())

# %% [markdown]
# These 200 texts are for the test; each step of training draws 32 new ones.


# %%
@torch.enable_grad()
def learn_pattern(family, seed):
    sizes = {"d_model": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "d_ff": 64}
    small = replace(TINY, vocab_size=20, context_length=64, family=family, **sizes)
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(small, generator)
    plan = PretrainingConfig(steps=200, learning_rate=1e-2, context_length=24)
    optimizer = make_optimizer(model, plan)
    for step in range(plan.steps):
        train_step(model, optimizer, pattern(32, 25, generator), step, plan)
    return model


# %% [markdown]
# We train each of them three times, with different seeds.
# (The two families also differ in norms, biases and feed-forward networks, but these treat all positions alike.)

# %%
right = {}
for seed in range(3):
    for family, name in (("gpt2", "learned"), ("llama", "rotary")):
        predicted = learn_pattern(family, seed)(rows[:, :-1]).argmax(-1)
        right[name, seed] = predicted == rows[:, 1:]

# %% tags=["hide-input", "nbval-ignore-output"]
shares = {}
print("                 predicted correctly at positions")
print("positions  seed      9–24     25–32     33–64")
for (name, seed), correct in right.items():
    parts = correct[:, 8:24], correct[:, 24:32], correct[:, 32:64]
    shares[name, seed] = [part.float().mean().item() for part in parts]
    print(f"{name:10}{seed:5}", *(f"{share:9.0%}" for share in shares[name, seed]))

# %% tags=["remove-cell"]
for seed in range(3):
    assert min(shares["rotary", seed]) > 0.7 and shares["learned", seed][0] > 0.9
    assert max(shares["learned", seed][1:]) < 0.6

# %% [markdown]
# Vectors that were never trained are noise, and the model fails as soon as they begin.
# It does little better than a guess among the four tokens of the pattern.
# Such a guess is right about three times in ten, because a token may occur twice among the four.
# After position 64 there is no vector at all, and the package refuses.
#
# ![Above, learned positions: a bar from 1 to 24, trained, and from 24 to 64, noise that was never trained. Below, positions that turn: a line with the same small arrow, four back, once before the end of the trained part and twice beyond it.](figures/rows-and-angles.svg)
#
# *A learned vector belongs to one position.
# An angle belongs to a distance, and the same distance occurs again beyond 24.*
#
# Angles depend on distances, and *four back* looks the same everywhere, so the other model goes on, though a little less surely.
# Angles help only at *distances* that training has shown: four back was shown, hundreds back were not.
# `base-llm` also turns its queries and keys, and it still refused: its table of angles was made for 512 positions.
# We can compute more angles at any time, and `extend_context` below does so.
# What the model makes of them is another matter.
#
# ### A cache, and how large it is
#
# To write the next token after 401, a model without a {term}`key-value cache` reads all of them again; with a cache, it reads only the newest.

# %%
ids = torch.randint(1, 3000, (1, 401), generator=generator)
cache = base.new_cache()
_ = base(ids[:, :-1], cache)
print(f"the cache holds {cache.length} tokens")


# %%
def with_cache():
    cache.length = 400  # as if nothing had been written yet
    return base(ids[:, -1:], cache)


assert_close(with_cache()[0, -1], base(ids)[0, -1], atol=1e-3, rtol=1e-3)
ratio = fastest(lambda: base(ids)) / fastest(with_cache)
print("the same logits, more than five times as fast:", ratio > 5)

# %% tags=["remove-cell"]
assert ratio > 5

# %%
flops = costs.forward_flops_per_token(config, 401)
print(f"arithmetic without a cache: 401 times as much, {401 * flops / 1e9:.1f} GFLOP")
print(f"cache: {cache.n_bytes / cache.capacity / 2**10:.0f} KiB per token")

# %% [markdown]
# The time falls by more than a factor of five, but not by a factor of 401.
# A likely reason is that even for one token all matrices have to be read from memory ([Deployment](deployment.ipynb)).
#
# The cache costs memory.
# It grows with layers, width and length; for many long texts at once, it takes more room than the weights.
# If four query heads share their keys and values, the cache is a quarter as large; that is **grouped-query attention** (GQA).
#
# ![Three boxes of the same height, 32 layers, and the same depth, 131,072 positions. The first is 32 heads wide and holds 64 GiB, the second 8 heads and 16 GiB, the third, a thin slice, one head and 2 GiB.](figures/cache-as-a-box.svg)
#
# *The cache of one long text, for models like Llama 7B and Llama 3.1 8B: each point of a box holds a key and a value, 128 numbers each.*
#
# In the next cell, the four numbers for each model are the layers, the key-value heads, the width of a head, and the bytes per number.

# %%
ours = (config.n_layers, config.n_kv_heads, config.d_head, 4)
caches = {
    "our base-llm, float32": ours,
    "Llama 7B, every head its own": (32, 32, 128, 2),
    "Llama 3.1 8B, four heads share": (32, 8, 128, 2),
    "the same, if all heads shared": (32, 1, 128, 2),
}

# %%
print(f"{'cache of':31}{'one token':>12}{'131,072 tokens':>18}")
for name, sizes in caches.items():
    per_token = costs.kv_bytes_per_token(*sizes)
    gib = per_token * 131_072 / 2**30
    print(f"{name:31}{per_token / 2**10:8.0f} KiB{gib:14.1f} GiB")

# %% tags=["remove-cell"]
assert costs.kv_bytes_per_token(*ours) == cache.n_bytes / cache.capacity

# %% [markdown]
# At two bytes each, the weights of Llama 3.1 8B take 15 GiB, so the cache of one long text takes as much room as the model itself.
# Without shared keys and values, as in the first Llama {cite:p}`touvron2023`, it would take four times that.
# (In `base-llm`, each head has its own keys and values.)
#
# **Multi-head latent attention** (MLA) goes further: it caches one short vector per token and layer, and computes the keys and values of all heads from it.
# These keys have no position, so one rotary key, shared by all heads, is computed apart and cached beside the vector.
# In DeepSeek-V2 that makes 512 + 64 numbers in each of 60 layers {cite:p}`deepseek2024`: about 68 KiB a token, in a model with 30 times the weights of Llama 3.1 8B.
#
# ### Fewer bits in the cache
#
# The other factor is the number of bytes that each number takes.
# **KV-cache quantization** stores keys and values as small whole numbers, with one scale for each vector.
# We read the first half of twelve tales, round the cache, and measure the loss on the second half.
# (What the second half adds to the cache stays exact, so a cache that is rounded throughout may cost more.)


# %%
def rounded(x, bits):
    top = 2 ** (bits - 1) - 1  # 127 for 8 bits
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-8) / top
    return (x / scale).round() * scale


vector = torch.tensor([1.0, 0.6, 0.1, -0.3])
print(*(f"{x:.2f}" for x in rounded(vector, bits=4)))

# %% [markdown]
# That was a vector of four numbers, in four bits.
# Now the same for all keys and values in the cache.


# %%
def loss_of_second_half(text, bits):
    ids = torch.tensor([[0, *tokenizer.encode(text)]])  # 0: <|endoftext|>
    half, cache = ids.shape[1] // 2, base.new_cache()
    base(ids[:, :half], cache)
    if bits < 32:
        cache.keys = rounded(cache.keys, bits)
        cache.values = rounded(cache.values, bits)
    return cross_entropy(base(ids[:, half:-1], cache)[0], ids[0, half + 1 :]).item()


# %% tags=["nbval-ignore-output"]
few, losses = texts[:12], {}
for bits in (32, 8, 4, 2):
    losses[bits] = sum(loss_of_second_half(text, bits) for text in few) / len(few)
    print(f"{bits:2} bits: {losses[bits]:.3f} nats/token")

# %% tags=["remove-cell"]
assert max(abs(losses[bits] - losses[32]) for bits in (8, 4)) < 0.02
assert losses[2] > losses[32]

# %% [markdown]
# Eight bits make no visible difference, and take half the room of the usual sixteen.
# Four make none that shows in twelve tales, and two perhaps a small one.
# (Two bits leave only −1, 0 and 1 here.)
# This is one small model, on short texts.
# To get down to two bits in large models, {cite:t}`liu2024kivi` give keys a scale for each channel (the same coordinate of many tokens) and values one for each token.
#
# ### What fits on which card?
#
# Now we can say how many texts a machine can serve at once.
# We serve Llama 3.1 8B at two bytes a weight and leave a tenth of the card free.
# The prices, in dollars an hour, are assumptions, roughly what cloud providers charged in 2025; put in your own.

# %%
CARDS = {  # gigabytes, dollars an hour
    "RTX 4090": (24, 0.40),
    "L40S": (48, 0.90),
    "H100": (80, 2.50),
    "H200": (141, 3.50),
}
weights, per_token = 8.03e9 * 2, costs.kv_bytes_per_token(32, 8, 128, 2)


# %%
def texts_that_fit(gigabytes, n_tokens, bits):
    """Return how many caches of n_tokens fit beside the weights."""
    room = 0.9 * gigabytes * 1e9 - weights
    return int(room / (per_token * n_tokens * bits / 16))


print("an H100 holds", texts_that_fit(80, 8192, 16), "texts of 8,192 tokens")

# %% [markdown]
# The table has all the cards, with caches of 16 and of 8 bits.

# %% tags=["hide-input"]
print("                 texts of 8,192 tokens    of 131,072       cents an hour")
print("card      $/hour  16-bit cache   8-bit  16-bit   8-bit  for one of 8,192")
for card, (gigabytes, dollars) in CARDS.items():
    fit = [texts_that_fit(gigabytes, 8192, bits) for bits in (16, 8)]
    fit += [texts_that_fit(gigabytes, 131_072, bits) for bits in (16, 8)]
    print(f"{card:9}{dollars:7.2f}{fit[0]:14}{fit[1]:8}{fit[2]:8}{fit[3]:8}", end="")
    print(f"{100 * dollars / fit[0]:18.1f}")

# %% tags=["remove-cell"]
room = 0.9 * 80e9 - weights  # by hand for the H100: 55.9 GB, 1.07 GB for 8,192 tokens
assert int(room / (131_072 * 8192)) == 52 and int(room / (131_072 * 131_072)) == 3

# %% [markdown]
# The smallest card holds the model and a few texts of 8,192 tokens, but not one of 131,072.
# It is the cheapest by the hour and the most expensive by the text, because the weights leave it little room.
# Which of the larger cards is cheapest depends on their prices.
# If users fill the window you promise, it decides how many of them share a card: sixteen times the window, a sixteenth of the users.
#
# Many requests begin with the same text: the same instructions or the same document.
# **Prompt caching** (or prefix caching) keeps the keys and values of such a beginning for the next request {cite:p}`kwon2023,zheng2024`; {cite:t}`gim2024` also reuse pieces in the middle.
# The chapter [Deployment](deployment.ipynb) puts it to use.
#
# ### A cache that forgets
#
# A window needs no more cache than its own width.
# We give a copy of the model a window of 32, and a cache that keeps only the last 32 positions.
# Reading 300 tokens one by one must give the same result as reading them all at once.

# %%
windowed = copy.deepcopy(base)
long_context.set_attention(windowed, "window", window=32)
window_cache = windowed.new_cache(1, 32, long_context.WindowCache)
n_bytes_before = window_cache.n_bytes
logits = [windowed(ids[:, t : t + 1], window_cache) for t in range(300)]
growth = window_cache.n_bytes - n_bytes_before
print(f"300 tokens read; the cache has grown by {growth} bytes")

# %%
assert_close(torch.cat(logits, 1), windowed(ids[:, :300]), atol=1e-3, rtol=1e-3)
print("the same logits as when reading all at once, to 0.001")

# %% [markdown]
# A model that was trained with full attention gets worse with such a window.
# Large models put much of their attention on the very first tokens, whatever these say; when the window drops those tokens, the models write nonsense.
# Such tokens are called {term}`attention sinks <attention sink>`.
# **{term}`StreamingLLM`** keeps the first four tokens and the last few thousand, and writes on without end {cite:p}`xiao2024`.
# It remembers nothing of what lay in between.
# Exercise 6 tries it on `base-llm`.
#
# ### Explore: a window of your own
#
# Paste a text of your own: how many tokens does it have, and what does each model cut off?
# Then move the query, and change what it sees.
# Watch the first tokens: a sliding window leaves them behind, sinks keep them, and only more layers or a wider window bring back what lies in between.
# Below, double the length a few times.
# With each step, full attention takes four times as many scores and twice the cache; a window takes twice as many scores and the same cache.
# (The tokens of all models are counted with the tokenizer of `base-llm`.)

# %%
long_text = " ".join(texts[:4])
WindowExplorer(long_text, tokenizer, {"base-llm": config, **KNOWN_MODELS})

# %% [markdown]
# ### What each shortcut gives up
#
# *Predict*: windows and states are cheap; what can they no longer do?
#
# :::{dropdown} Answer
# They lose facts.
# A window loses those beyond its reach; a state of fixed size loses those that it cannot tell apart.
# :::
#
# Nine models of one size were trained on the same tales: three each with full attention, with a window of 32 tokens, and with linear attention.
# Three of a kind are few, so we also print the lowest and the highest, and draw conclusions only from differences much larger than those among the three.
# All nine have rotary positions, the copying start ([Pretraining](pretraining.ipynb)) and the same learning rate, chosen for models with full attention.
# With settings of its own, linear attention might lose less.
# The runs are stored with their recipe; `python book/studies/context_study.py --out FILE` repeats them in about eighteen minutes.
# Tales name facts early and need them late.
# On tales that no model has read, we measure two things: the loss at each position, and how often a fact is repeated correctly.
# For the second, we ask how far back the fact was last mentioned.
# (*20 tokens back* means from 15 to 25, *60* from 50 to 70, *150* from 120 to 180.)

# %%
study = stored_study("context", SimpleNamespace)
kinds = {}
for kind in long_context.ATTENTION_KINDS:
    kinds[kind] = [p for p in study.points if p.kind == kind]
n_weights, n_layers = study.points[0].n_parameters, study.recipe["n_layers"]
print(
    f"{n_weights:,} weights, {n_layers} layers, {len(kinds['full'])} models of each kind"
)


# %%
def recall_rates(points, distance):
    """Return the share of facts that each model repeats from this far back."""
    counts = [point.recalled[distance] for point in points]
    return [right / n for right, n in counts]


print(*(f"{rate:.0%}" for rate in recall_rates(kinds["full"], "20")))

# %% [markdown]
# These are the three models with full attention, for facts 20 tokens back.
# The table has all kinds and distances.
# The facts at the three distances are different facts, so compare the kinds within one column; along a row, only large differences mean something.

# %% tags=["hide-input"]
print("facts repeated correctly: mean (lowest and highest model)")
print("         20 tokens back    60 tokens back    150 tokens back")
recalled = {}
for kind, points in kinds.items():
    rates = [recall_rates(points, distance) for distance in ("20", "60", "150")]
    recalled[kind] = [sum(each) / len(each) for each in rates]
    cells = [f"{sum(r) / len(r):4.0%} ({min(r):3.0%}, {max(r):3.0%})" for r in rates]
    print(f"{kind:8}", "   ".join(cells))

# %% tags=["remove-cell"]
assert all(len(points) >= 3 for points in kinds.values())
assert min(recalled["full"]) > 0.6
assert recalled["window"][0] > 2 * recalled["window"][2] > 0
assert max(recalled["linear"]) < 0.3

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels for three kinds of attention. Left, loss over the position in the tale: all three are alike over the first 32 tokens; from there, the loss of full attention falls to about half a nat per token and rises a little at the end. The loss with the window lies above it. The loss of linear attention falls to about one nat at 50 to 60 tokens and then climbs to about 1.2 at the right end. Right, the share of facts repeated correctly from 20, 60 and 150 tokens back: full attention about two thirds to four fifths at all distances; the window about two fifths at 20 and one tenth beyond; linear attention below one fifth everywhere."}}
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.7))
edges = torch.tensor(study.recipe["edges"])
middles = (edges[:-1] + edges[1:]) / 2
curves = {}
for (kind, points), style in zip(kinds.items(), plotting.LINE_STYLES):
    losses = torch.tensor([p.losses for p in points])
    curves[kind] = losses.mean(0)
    left.plot(middles, curves[kind], style)
    left.fill_between(middles, losses.amin(0), losses.amax(0), alpha=0.3)
    right.plot((20, 60, 150), recalled[kind], style, marker="o", ms=3, label=kind)
_ = left.set(xlabel="position (tokens)", ylabel="loss (nats/token)")
_ = right.set(
    xlabel="fact last mentioned … tokens back", ylabel="repeated correctly (share)"
)
_ = right.set(ylim=(0, 1))
plotting.label_lines(right)
assert (curves["window"][:2] - curves["full"][:2]).abs().max() < 0.05
assert (curves["full"][5:] < curves["window"][5:] - 0.1).all()
assert (curves["window"][5:] < curves["linear"][5:] - 0.1).all()

# %% [markdown]
# *Left, the loss at each position of a tale; right, how often a fact is repeated correctly.
# The labels on the right hold for both.
# Lines are means of three models; bands reach from the lowest to the highest.*
#
# Over the first 32 tokens the window hides nothing, and its models are as good as those with full attention.
# From there on the curves part.
# Facts from 20 tokens back still lie inside the window, and the models with the window repeat more of these than of those further back.
# Full attention repeated still more of them in these runs, but its own three models lie as far apart as the two kinds do.
# If the difference is more than chance, the fact may lie inside the window while the words that ask for it lie outside.
# A distance of 60 is at the edge of what two layers can reach, $2 \cdot 31 = 62$.
# A distance of 150 is out of reach: correct answers there are probably guesses.
#
# ### Why the loss of linear attention rises
#
# Linear attention sees everything, and yet its loss (above, left) is lowest between 48 and 64 tokens, and higher everywhere after that.
# The text also changes along a tale: at the last positions even the loss of full attention rises.
# So we compare the two at the same positions:

# %%
gap = curves["linear"] - curves["full"]
for start, end, nats in zip(edges, edges[1:], gap):
    print(f"positions {start:3} to {end:3}: {abs(nats):.2f} nats/token apart")

# %% tags=["remove-cell"]
assert gap[-1] > gap[-2] > gap[4] > gap[3] > gap[2] > gap[1]
assert curves["full"][-1] > curves["full"][-2]

# %% [markdown]
# The gap grows with every step.
# After 64 tokens, full attention gets better until the last step, and linear attention gets worse at all steps but one.
# The end of a tale repeats facts from its beginning, so a model must look them up, and perhaps linear attention cannot focus on any one of them.
# To see how well a query can focus at best, let one of $n$ random keys be equal to the query, and look at its share of the weight.


# %%
def weight_on_match(n):
    """Return the weight of the equal key, with softmax and with features."""
    q = torch.randn(200, 1, 32, generator=generator)
    k = torch.cat((q, torch.randn(200, n - 1, 32, generator=generator)), dim=1)
    softmax = (q @ k.mT / 32**0.5).softmax(-1)
    linear = features(q) @ features(k).mT
    linear = linear / linear.sum(-1, keepdim=True)
    return softmax[..., 0].mean().item(), linear[..., 0].mean().item()


# %%
matches = {}
print("keys      softmax   linear")
for n in (10, 100, 1000):
    softmax, linear = weight_on_match(n)
    matches[n] = softmax, linear
    print(f"{n:4}{softmax:12.0%}{linear:9.1%}")

# %% tags=["remove-cell"]
for n, (softmax, linear) in matches.items():
    assert softmax > 5 * linear and linear < 2 / n

# %% [markdown]
# Without the exponential, no weight dominates: the right key gets only about 1.4 times an equal share of $1/n$; softmax gives it far more.
# So with every further token, all the facts in the table probably blur a little more, and nothing is ever removed from it.
# Trained keys are not random, but the table still has only $d \times (d + 1)$ numbers.
#
# These are the oldest and plainest features for linear attention, on tales that need a lot of recall.
# Newer methods do better: with richer features, with states that forget on purpose, or with a few layers of full attention among them {cite:p}`arora2024,yang2024deltanet`.
# **{term}`State-space models <state-space model>`** arrived at much the same idea from another direction: they pass a state of fixed size from token to token.
# In **{term}`Mamba`** the token itself determines what is written into the state and how fast the rest fades {cite:p}`gu2024`.
# A table of fixed size cannot hold all that a growing cache holds.
#
# ### Lost in the haystack
#
# Back to the needle: the text gets longer, and the needle lies at the beginning, in the middle or at the end.
#
# ![Three bars, each a text that begins with Ella and ends with in her and three dots. In between are sentences from other tales, and among these the needle, labelled white: at the beginning, in the middle, or just before the end.](figures/needle-at-three-depths.svg)
#
# *The same needle at three depths; at the end it is closest to the question.*
#
# `base-llm` was trained on one tale at a time, of 180 tokens on average; it is one run, with one seed.
# Each cell shows the share found in 24 trials and, below it, the 95 % interval.

# %%
lengths, depths = (60, 120, 200, 280, 400), (0, 0.5, 1)
counts = []
for depth in depths:
    counts.append([count_found(base, haystack, n, depth, n=24) for n in lengths])
found = torch.tensor([[count.share for count in row] for row in counts])

# %% tags=["hide-input"] mystnb={"image": {"classes": "own-ground", "alt": "A table in shades of colour: the length of the text, from 60 to 400 tokens, by the depth of the needle: beginning, middle and end. Each cell shows its share and interval. Short texts, on the left, are light: nearly all needles are found. To the right the cells become dark: the row for the end from 120 tokens on, the row for the middle at 400; the row for the beginning stays light."}}
fig, ax = plt.subplots(figsize=(5.6, 2.4))
_ = ax.imshow(found, vmin=0, vmax=1, cmap="cividis", aspect="auto")
for i, row in enumerate(counts):
    for j, count in enumerate(row):
        low, high = count.interval
        text = f"{count.share:.0%}\n{low:.0%}–{high:.0%}"
        colour = "black" if count.share > 0.5 else "white"
        ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=7)
_ = ax.set_xticks(range(5), lengths)
_ = ax.set_yticks(range(3), ("beginning", "middle", "end"))
_ = ax.set(xlabel="length of the text (tokens)", ylabel="needle at")
ax.grid(visible=False)
assert found[:, 0].mean() > found[:, -1].mean()
assert all(count.right == count.n for count in counts[0][:4])  # at the beginning
assert (found[2, 2:] < found[0, 2:]).all() and found[:, -1].mean() < 0.45

# %% [markdown]
# *Share of needles found in 24 trials each, with its 95 % interval.*
#
# The window that counts is not the one in the config.
# In texts of 60 tokens the model finds every needle; in texts of 400 tokens it misses two in three, although its window has room for them.
# Three things may be at work in the last column and the last row.
#
# - *Distance to the needle.*
#   At the beginning of 400 tokens it is nearly 400 tokens from the question, farther than in any tale.
# - *Distance to the name.*
#   In the middle of 400 tokens the needle is only about 200 tokens away; at the beginning of 200 or 280 tokens it is as far or farther, and always found.
#   But the first sentence, with the name that the question is about, is again nearly 400 tokens away.
#   This can't be all, since the name is just as far away when the needle is at the beginning of 400 tokens.
#   Of three ways to slow the angles down, one brings back about half of these needles and another most of them (next section).
# - *Place.*
#   A needle at the end is always near the question, and yet it is the first to be lost, already in texts of 120 tokens, about as long as the shortest tales.
#   In the tales this kind of fact comes at the beginning, and the model seems to have learned to look for it there.
#   In the middle, too, fewer are found than at the beginning, from 120 tokens on.
#
# Large models have habits of their own: many of those tested in 2023 found what came first or last, but what lay in between was **{term}`lost in the middle`** {cite:p}`liu2024`.
# And one needle is an easy test.
# **RULER** asks for several needles, for chains of facts and for counts, and finds that many windows are shorter than promised {cite:p}`hsieh2024`.
#
# ### Stretching the window
#
# At long distances, the angles of the *slow* pairs are new to the model.
# (A pair that makes a whole turn within the trained length has already shown every angle.)
# So we can turn everything more slowly, until no angle is larger than those seen in training: this is **position interpolation** {cite:p}`chen2023`.
#
# ![Two lines. On the upper one are the positions 0, 192, 384 and 576; arrows lead from them to 0, 64, 128 and 192 on the lower one. Its part beyond 192 is dashed: angles never seen in training.](figures/positions-squeezed.svg)
#
# *Position interpolation, with a window stretched three times: position 576 gets the angle of position 192.
# Neighbours are only a third as far apart as before.*
#
# RoPE turns the $i$-th pair of coordinates by $\theta_i = b^{-2i/d}$ radians a token, with $b = 10{,}000$.
# To stretch a window $s$ times, interpolation divides all speeds by $s$:


# %%
def speeds(d, base=10_000.0):
    return base ** (-torch.arange(0, d, 2) / d)


def interpolated(s, d):
    return speeds(d) / s


# %% [markdown]
# (In the package and below, this is called `linear`; it has nothing to do with linear attention.)
# It also slows down the fast pairs, which tell neighbours apart.
# **NTK-aware scaling** spares them: it takes a larger base, so that the fastest pair keeps its speed and the slowest turns $s$ times as slowly.
# The fastest pair, $i = 0$, turns by one radian a token with any base, and the slowest, $i = d/2 - 1$, by $b^{-(d-2)/d}$.
# With the base $b \cdot s^{d/(d-2)}$ the latter becomes $b^{-(d-2)/d} / s$.
# (NTK is the *neural tangent kernel*, a theory of what networks learn easily.)


# %%
def ntk_aware(s, d):
    return speeds(d, base=10_000 * s ** (d / (d - 2)))


# %% [markdown]
# **YaRN** {cite:p}`peng2024` asks how many turns each pair makes within the old length.
# A pair that makes more than 32 turns keeps its speed, and one that makes less than a single turn is slowed down $s$ times.
# In between, a ramp leads from one to the other.
# Over the old length, $T$ tokens (`length` in the code), pair $i$ makes $r = T \theta_i / 2\pi$ turns.
# With $\theta_i = b^{-2i/d}$, solved for $i$, this is $i = \frac{d}{2 \ln b} \ln \frac{T}{2 \pi r}$.
# For 32 turns and for one, it gives the two ends of the ramp, rounded outwards.
# (In 192 tokens even the fastest pair makes only 31 turns, so our ramp begins at pair 0.)


# %%
def yarn(s, d, length):
    ends = [math.log(length / (2 * math.pi * turns)) for turns in (32, 1)]
    low, high = (d * end / (2 * math.log(10_000)) for end in ends)  # numbers of pairs
    low, high = max(math.floor(low), 0), math.ceil(high)
    ramp = ((torch.arange(d // 2) - low) / (high - low)).clamp(0, 1)
    return speeds(d) * (1 - ramp) + speeds(d) / s * ramp


# %% [markdown]
# YaRN also multiplies queries and keys by $0.1 \ln s + 1$, which makes attention a little sharper.
# All three match the package's versions, for a head as wide as ours, stretched three times from 192 tokens:

# %%
d = config.d_head
linear = RopeScaling(kind="linear", factor=3)
ramped = RopeScaling(kind="yarn", factor=3, original_length=192)
assert_close(interpolated(3, d), rope_frequencies(d, 1e4, linear))
assert_close(ntk_aware(3, d), rope_frequencies(d, ntk_base(1e4, d, 3)))
assert_close(yarn(3, d, 192), rope_frequencies(d, 1e4, ramped))
print(f"the same speeds for all {d // 2} pairs of coordinates")

# %% [markdown]
# ![Three rows of 16 bars, from fast pairs on the left to slow ones on the right. Linear: all bars at 3 times. NTK-aware: rising evenly from 1 to 3 times. YaRN: rising from 1 to 3 times over the first seven pairs, and 3 times from there on.](figures/angles-slowed-down.svg)
#
# *How many times more slowly each of the 16 pairs of `base-llm` turns when 192 tokens are stretched to 576.*
#
# *Predict*: no weight is changed; which of the three ways helps, and what does it cost on short texts?
#
# :::{dropdown} Answer
# With YaRN the model finds far more needles in the middle, and with NTK-aware scaling probably more; interpolation doesn't help there.
# At the beginning all three find every needle, but without them the model already found most.
# All three raise the loss on plain tales, and interpolation raises it most: it slows down the pairs that tell neighbours apart.
# :::
#
# All three stretch the window three times, from 192 tokens (a longish tale) to 576; `none` only computes more angles.

# %%
stretched, on_tales = {}, {}
for way in ("none", "linear", "ntk", "yarn"):
    model = long_context.extend_context(base, 576, way, trained_length=192)
    stretched[way] = [count_found(model, haystack, 400, x, n=24) for x in (0, 0.5)]
    on_tales[way] = text_loss(model, tokenizer, few).loss

# %% tags=["nbval-ignore-output"]
print("found in 400 tokens, at the beginning    in the middle  loss on tales")
for way, found in stretched.items():
    cells = (f"{x.share:.0%} ({x.interval[0]:.0%}–{x.interval[1]:.0%})" for x in found)
    print(f"{way:19}", *(f"{cell:>16}" for cell in cells), f"{on_tales[way]:14.2f}")

# %% tags=["remove-cell"]
for way in ("ntk", "yarn"):
    assert all(a.share > b.share for a, b in zip(stretched[way], stretched["none"]))
assert stretched["linear"][1].right <= stretched["none"][1].right + 3
assert stretched["linear"][1].right < stretched["ntk"][1].right - 3
assert all(on_tales[way] > on_tales["none"] for way in ("linear", "ntk", "yarn"))
assert on_tales["ntk"] < on_tales["linear"] and on_tales["yarn"] < on_tales["linear"]

# %% [markdown]
# The table's digits depend on the processor; what the text says about them holds on all that we tried.
# With NTK-aware scaling and YaRN, the same weights find all the needles at the beginning of 400 tokens.
# Of those in the middle that they missed before, they find about half with NTK-aware scaling, and most with YaRN.
# Interpolation blurs the differences between neighbours: its loss on plain tales rises most.
# It finds needles at the beginning, but in the middle no more than the model does without it.
# Compare the shares by their intervals: with 24 trials, differences of a few needles mean nothing; so the clear gain is in the middle.
# In practice, a short training run at the new length follows {cite:p}`chen2023,peng2024`.

# %% [markdown]
# ## Takeaways
#
# A context window ends for three reasons: positions that do not exist, distances that training has never shown, and cost.
# The arithmetic of full attention grows with the square of the length.
# Its memory does so only if we store the table of scores; the online softmax needs no table, and for training a kernel computes its parts again.
# A sliding window and linear attention make both grow with the length, and pay for it in recall.
# A window cannot reach further than its width times its layers; a state of fixed size holds only so much.
# While writing, a key-value cache trades memory for arithmetic.
# Grouped queries, latent vectors and fewer bits divide that memory, and a window bounds it.
# A text that fits is not necessarily understood: test what a model finds at every depth and length.
#
# *In practice*, windows have grown from a thousand tokens to a million within a few years, by all of these means together:
#
# | Model | window (tokens) | how |
# |---|---|---|
# | GPT-2 {cite:p}`radford2019` | 1,024 | learned positions, full attention |
# | Mistral 7B {cite:p}`jiang2023` | 8,192 | window of 4,096 in every layer, a cache of that width, grouped queries |
# | DeepSeek-V2 {cite:p}`deepseek2024` | 128K | latent attention, YaRN |
# | Llama 3.1 {cite:p}`grattafiori2024` | 128K (131,072) | RoPE with base 500,000, in the released files with its slow pairs turned 8 times more slowly (`llama3`), grouped queries, training at growing lengths |
# | Gemma 3 {cite:p}`gemma2025` | 128K | five layers with a window of 1,024 to one with full attention |
# | MiniMax-01 {cite:p}`minimax2025` | 1,000,000 in training | seven layers of linear attention to one of softmax |
# | Gemini 1.5 {cite:p}`gemini2024` | 1,000,000 and more | not published; needles found at 99 % and above |
#
# However long a window is, what goes into it matters: instructions, earlier turns, documents, examples, results of tools.
# Choosing and arranging all this is called **{term}`context engineering`** {cite:p}`mei2025`.
# A text longer than any window has to be cut, summarised in pieces, or searched; that is the subject of the chapter [Documents longer than the window](retrieval.ipynb).

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("context_window")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (check): the price of a conversation ★
#
# How many bytes does the key-value cache of `n_sequences` texts of `n_tokens` tokens take?
#
# ```python
# def cache_bytes(n_layers, n_kv_heads, d_head, n_tokens, n_sequences, bytes_per_number):
#     return n_bytes
# ```
#
# Check it with `checks.cache_bytes(cache_bytes)`.


# %% tags=["hide-cell", "solution"]
def cache_bytes(n_layers, n_kv_heads, d_head, n_tokens, n_sequences, bytes_per_number):
    numbers = 2 * n_layers * n_kv_heads * d_head  # key and value
    return numbers * n_tokens * n_sequences * bytes_per_number


checks.cache_bytes(cache_bytes)

# %% [markdown]
# ### Exercise 2 (build): a band ★★
#
# Make the mask of a causal sliding window for n positions: true where row $t$ may look at column $s$.
# With a window of 1, a position sees only itself.
#
# ```python
# def window_mask(n, window):
#     return mask  # (n, n), bool
# ```
#
# Check it with `checks.window_mask(window_mask)`.
# How many places are true in the mask of 8,192 positions with a window of 64, and in a causal mask without a window?
# What happens to the two numbers if the text is twice as long?
# What does that mean for the arithmetic, and for the memory if all scores are held at once?


# %% tags=["hide-cell", "solution"]
def window_mask(n, window):
    back = torch.arange(n)[:, None] - torch.arange(n)
    return (back >= 0) & (back < window)


checks.window_mask(window_mask)
# With the window 64 · 8,192 - 64 · 63 / 2 = 522,272 places, without it 8,192 · 8,193 / 2,
# about 33.6 million. In a text twice as long the first about doubles, and the second
# becomes four times as large: the arithmetic, and the memory if all scores are held.

# %% [markdown]
# ### Exercise 3 (build): join two halves ★★
#
# Two workers have each read half of the keys for the same query.
# Each hands over its largest score $m$, its sum $\ell$ and its mixture $u$, not yet divided.
# Return the result of attention over all keys.
#
# ```python
# def join(first, second):  # each (m, l, u): two numbers and a vector, as tensors
#     return context
# ```
#
# Check it with `checks.join_halves(join)`.


# %% tags=["hide-cell", "solution"]
def join(first, second):
    largest = torch.maximum(first[0], second[0])
    shares = [(m - largest).exp() for m, _, _ in (first, second)]
    total = sum(share * part[1] for share, part in zip(shares, (first, second)))
    mixture = sum(share * part[2] for share, part in zip(shares, (first, second)))
    return mixture / total


checks.join_halves(join)

# %% [markdown]
# ### Exercise 4 (derive): how many layers? ★★
#
# Every layer has a window of $w$ tokens, the position itself included.
# At least how many layers does it take for a token `distance` positions back to matter to the last one?
#
# ```python
# def layers_needed(distance, window):
#     return n_layers
# ```
#
# Check it with `checks.layers_needed(layers_needed)`.
# What does that say about facts 150 tokens back, for our window of 32 and two layers?


# %% tags=["hide-cell", "solution"]
def layers_needed(distance, window):
    return -(-distance // (window - 1))  # each layer reaches window - 1 further back


checks.layers_needed(layers_needed)
print(f"for 150 tokens back: {layers_needed(150, 32)} layers, and ours has two")

# %% [markdown]
# ### Exercise 5 (explore): how much to stretch ★★★
#
# With YaRN, we can reach 576 tokens from a trained length of 288, of 192 or of 96: factors of 2, 3 and 6.
# How does the choice change what is found at the beginning of 400 tokens, and the loss on tales?
# `base` refuses 513 tokens, and at 400 it finds less than at 120.
# Which of the chapter's three limits is at work in each case, and which ones does stretching move?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
for trained in (288, 96):
    model = long_context.extend_context(base, 576, "yarn", trained_length=trained)
    share = count_found(model, haystack, 400, depth=0, n=24)
    loss = text_loss(model, tokenizer, few).loss
    print(f"by {576 / trained:.0f}: {share.right} of {share.n} found, tales {loss:.2f}")
    assert share.right > stretched["none"][0].right
# Each factor finds more needles at the beginning than no stretching does. The loss on
# tales rises with the factor, for more stretching blurs near distances. 513 tokens are
# refused because there are no positions for them; at 400, needles are lost because such
# lengths were never trained. Stretching moves both. The third limit, the cost, stays.

# %% [markdown]
# ### Exercise 6 (build): attention sinks ★★★
#
# Give a copy of `base` an attention of your own: each position sees the last `window` positions and the first `n_sinks`.
# Every layer that is a `GroupedQueryAttention` has a function `attend(query, key, value)`, which you can replace.
# All three have the shape (rows, heads, positions, width of a head), though other models may have fewer heads of keys and values.
# The result has the shape of `query`.
# `scaled_dot_product_attention` takes `attn_mask` and `enable_gqa=True`; a sink must not let a position see what comes after it.
# Measure the loss on `few` with a window of 32 and with 0, 1 and 4 sinks.
# The first token is `<|endoftext|>`; the next three name the hero in about one tale in three.
# Which part of the gain comes from a sink, and which from memory?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
def with_sinks(model, window, n_sinks):
    def attend(query, key, value):
        sizes = query.shape[2], key.shape[2]
        mask = long_context.sliding_window_mask(*sizes, window)
        mask[:, :n_sinks] |= causal_mask(*sizes)[:, :n_sinks]
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, enable_gqa=True
        )

    model = copy.deepcopy(model)
    for layer in model.modules():
        if isinstance(layer, GroupedQueryAttention):
            layer.attend = attend
    return model


for n_sinks in (0, 1, 4):
    loss = text_loss(with_sinks(base, 32, n_sinks), tokenizer, few).loss
    print(f"window of 32, sinks: {n_sinks}   {loss:.2f} nats/token")
print(f"all positions             {on_tales['none']:.2f} nats/token")
# The first token says nothing, so what it gains is a sink's: here that is next to nothing.
# What the next three gain is probably the hero's name; the loss on names alone
# would tell. Most of what the window costs lies elsewhere, farther back than 32 tokens.
# Large models on long texts fall apart without their first tokens (Xiao et al.).

# %% [markdown]
# ## Sources
#
# The online softmax is from {cite:t}`milakov2018`, its use in a kernel from {cite:t}`dao2022`.
# Attention to a neighbourhood alone goes back to {cite:t}`parmar2018`, for images, and {cite:t}`liu2018`, for texts cut into blocks.
# {cite:t}`child2019` combined a sliding window with longer steps, and {cite:t}`beltagy2020` with a few positions that see everything.
# Linear attention goes back to {cite:t}`katharopoulos2020`, shared keys and values to {cite:t}`shazeer2019` and {cite:t}`ainslie2023`.
# Latent attention is from {cite:t}`deepseek2024`, the cache in few bits from {cite:t}`liu2024kivi`, attention sinks from {cite:t}`xiao2024`, and cached pieces of prompts from {cite:t}`gim2024`.
# The scaling of rotary positions is from {cite:t}`chen2023` and {cite:t}`peng2024`; NTK-aware scaling was first posted on a forum, and {cite:t}`peng2024` describe it.
# The needle test was made known by {cite:t}`kamradt2023`.
