# %% [markdown]
# (context_window)=
# # The context window
#
# A model can use only what it reads in one pass, its window; how long that may be is limited by the positions that it knows, by the distances that training has shown it, and by the cost of letting every token look at all before it.
#
# **You will be able to**
#
# - say where three limits of a window come from: the positions, the training, the cost;
# - compute how the arithmetic and the memory of attention grow with the length;
# - compute attention block by block and in a sliding window, and say what a window or a state of fixed size gives up;
# - price a key-value cache;
# - test what a model finds in a long text, and stretch its window.
#
# **You need** the chapters {doc}`transformer`, for attention, rotary positions and the cache, and {doc}`pretraining`.
#
# **Runs in** about a minute on one processor core.

# %% [markdown]
# ## Setup

# %%
import copy
import math
import random
import textwrap
import time
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import torch
from torch.testing import assert_close

from llmcourse import plotting
from llmcourse.checks import context_window as checks
from llmcourse.model import costs, long_context
from llmcourse.model.attention import causal_mask, fused_attention, naive_attention
from llmcourse.model.folders import load_pretrained
from llmcourse.model.peak_memory import PeakMemory
from llmcourse.model.transformer import TINY, Transformer
from llmcourse.retrieval.needles import Haystack, needle_share
from llmcourse.text import tales
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.loop import make_optimizer
from llmcourse.training.pretraining import train_step
from llmcourse.training.studies import ContextPoint, stored_study
from llmcourse.training.text_loss import text_loss

plotting.use_course_style()
torch.set_num_threads(1)
torch.set_grad_enabled(False)
base, tokenizer = load_pretrained("base-llm")
generator = torch.Generator().manual_seed(0)


def fastest(act, n=5):
    """Return the processor time of the fastest of n runs, in seconds."""
    spans = []
    for _ in range(n):
        start = time.process_time()
        act()
        spans.append(time.process_time() - start)
    return min(spans)


# %% [markdown]
# ## The problem
#
# Somewhere in a text stands what somebody wore, and at the end the colour is asked for.
# The sentences between are taken from other tales; they name nobody, and no colour.
# Such a test is called a {term}`needle in a haystack`.
# The needle counts as found if, of all colours, the model gives the right one the highest probability; whoever guesses finds one in twenty.

# %%
haystack = Haystack(tokenizer)
needle = haystack.hide(70, depth=0.5, rng=random.Random(3))
print(textwrap.fill(f"{needle.text} …", 80))
print("wanted:", needle.answer, "of", len(haystack.colours), "colours")

# %% [markdown]
# Now `base-llm` is asked for twelve such colours, in texts of 120 tokens and in texts of 400, with the needle near the beginning.
# Its window has room for 512.
# Then it is given 513.

# %%
near, far = (needle_share(base, haystack, n, depth=0, n=12) for n in (120, 400))
print(f"room for {base.config.context_length} tokens")
print("120 tokens:", "all or nearly all found" if near.share > 0.8 else near)
print("400 tokens:", "hardly any" if far.share < 0.4 else far)
assert near.share > 0.8 and far.share < 0.4
try:
    base(torch.zeros(1, 513, dtype=torch.long))
except ValueError as error:
    print("513 tokens:", error)

# %% [markdown]
# So there are two ends: one where the model refuses, and one before it where the text still fits and the model no longer makes anything of it.
# Neither is a law of nature, and this chapter looks for where they come from.
#
# ![A bar of 512 tokens: the first 180 are marked as a tale, the rest as room that was never trained. Arrows point to it: at 120 tokens, found; at 400, lost; at 513, beyond the end, refused.](figures/two-ends-of-the-window.svg)
#
# *The two ends of the window of `base-llm`.
# It was trained on tales, which have 180 tokens on average.*
#
# And what *fits*?
# Windows are counted in tokens, texts in words, so a tokenizer is needed to say.

# %%
texts = [story.text for story in tales.generate(200, seed=1_000_000)]
n_tokens = sum(len(tokenizer.encode(text)) + 1 for text in texts)
n_words = sum(len(text.split()) for text in texts)
per_word = n_tokens / n_words
print(f"{per_word:.1f} tokens for a word, {n_tokens / len(texts):.0f} for a tale")
for words, name in ((250, "a page"), (5_000, "an article"), (90_000, "a novel")):
    n = words * per_word
    print(f"{name:11}{words:7,} words  {n / 512:8.1f} windows of 512 tokens")
assert 1 < per_word < 2

# %% [markdown]
# Our window holds two or three tales, and not even two pages; a novel is hundreds of windows.
#
# ## By hand
#
# ### The table of scores
#
# With 4 tokens, attention fills a table of $4 \times 4 = 16$ scores; 10 of them are of use, the others lie in the future.
# With 8 tokens there are 64, with 16 there are 256.
# Twice the length is four times the table: for 100,000 tokens ten thousand million scores, for every head of every layer.
#
# ### Softmax in two pieces
#
# Does the table have to be there as a whole?
# A query has the scores $0$ and $\ln 3$ for two keys, whose values are 8 and 4.
# At once: the exponentials are 1 and 3, so the result is $(1 \cdot 8 + 3 \cdot 4) / 4 = 5$.
#
# Piece by piece, and with every exponential taken relative to the largest score so far, so that none can overflow:
#
# ![Two columns of three boxes. After the first key, with score 0 and value 8: m is 0, l is 1, c is 8. Arrows lead to the second column, which gets score ln 3 and value 4: m rises to ln 3; l and c are multiplied by one third, and become 4/3 and 20/3. Their quotient is 5.](figures/softmax-in-two-pieces.svg)
#
# *From the first key to the second: the largest score $m$, the sum $\ell$, and the mixture of values $c$.*
#
# When the largest score rises by $\ln 3$, what was summed shrinks by $e^{-\ln 3} = \frac13$.
# At the end $c / \ell = \frac{20}3 / \frac43 = 5$, the same.
# Three numbers were kept, and no table.

# %%
scores, values = torch.tensor([0, math.log(3)]), torch.tensor([8.0, 4])
largest, total, mixture = scores[0], torch.tensor(1.0), values[0]
new = torch.maximum(largest, scores[1])
shrink, weight = (largest - new).exp(), (scores[1] - new).exp()
total, mixture = total * shrink + weight, mixture * shrink + weight * values[1]
assert_close(mixture / total, scores.softmax(0) @ values)
print(f"{mixture:.2f} / {total:.2f} = {mixture / total:.0f}")

# %% [markdown]
# ## The idea
#
# For every position $t$, attention is a weighted mean of the values of positions $s$:
#
# $$
# c_t = \frac{\sum_{s \in S_t} a_{ts} v_s}{\sum_{s \in S_t} a_{ts}}.
# $$
#
# The ways to read long texts differ in which positions $S_t$ they look at, how the weights $a_{ts}$ are made, and in what order it is all computed.
#
# | Way | looks at $S_t$ | weight $a_{ts}$ | scores for $n$ tokens | kept while writing |
# |---|---|---|---|---|
# | naive | all up to $t$ | $e^{q_t \cdot k_s / \sqrt d}$ | $n^2$, all at once | keys, values: grows with $n$ |
# | chunked, fused | the same | the same | $n^2$, a block at a time | the same |
# | {term}`sliding window` | the last $w$ | the same | $2 w n$ | the last $w$ keys, values |
# | {term}`linear attention` | all up to $t$ | $\varphi(q_t) \cdot \varphi(k_s)$ | a block's width for each | one table $d \times (d + 1)$ |
#
# *Naive* is the attention of the chapter {doc}`transformer`, with the whole table.
# *Chunked* is exact: the same numbers in another order; and *fused* is torch's own function for that, a single compiled kernel.
# A *window* gives up what lies behind it, but layers add up: what position $t$ gathers in the second layer was itself gathered up to $w - 1$ positions earlier.
# It is computed in blocks of $w$ positions, and each query is compared with the keys of its own block and of the one before: $2w$ scores, half of which are hidden.
#
# ![Three tables of 12 by 12 scores, with those that are used in colour and those that are computed and hidden in grey. Naive: the lower triangle in colour, the upper in grey, 144 scores, all at once. Chunked: ten numbered tiles on and below the diagonal, 90 scores, 9 at a time. Window of 3: a narrow band, with some grey beside it, 63 scores.](figures/three-ways-through-the-table.svg)
#
# *Coloured scores are used, grey ones are computed and hidden, white ones are never computed.
# Chunked attention gives the same result as naive attention, tile after tile; a window leaves most of the past out.*
#
# ![Three rows of circles: tokens, layer 1, layer 2. From the last position of layer 2 lines lead to three positions of layer 1, and from these to five tokens, four of them before the last.](figures/reach-over-layers.svg)
#
# *A window of 3 over two layers: position $t$ gathers from 4 positions back, 2 for each layer.*
#
# *Linear attention* gives up the softmax.
# If the weight is a product of features $\varphi$, the sum over the past can be taken before the query is known:
#
# $$
# \sum_{s \le t} \left(\varphi(q_t) \cdot \varphi(k_s)\right) v_s = \varphi(q_t)^\top \Bigl[\sum_{s \le t} \varphi(k_s) v_s^\top\Bigr],
# $$
#
# and the bracket has the same size, however long the text {cite:p}`katharopoulos2020`.
# The denominator needs $\sum_s \varphi(k_s)$ as well, one more column: $d \times (d + 1)$ numbers in all.
#
# ![A column, the features of a key, times a row, its value with a 1 behind it, is added to a table of four rows and five columns, the last of another colour: the state. The features of a query read it from below, and give the row c, divided by its sum.](figures/state-of-fixed-size.svg)
#
# *Every position adds its product to the same table, here with $d = 4$, and the query reads only the table.
# The last column sums the keys, for the denominator.*
#
# | Symbol | Meaning | Shape | Name in code |
# |---|---|---|---|
# | $n$ | length of the text, in tokens | – | `n_positions` |
# | $d$, $H$, $K$ | width of a head; heads; key-value heads | – | `d_head`, `n_heads`, `n_kv_heads` |
# | $m, \ell, c$ | largest score, sum, mixture of a row so far | a number, a number, $d$ | `largest`, `total`, `mixture` |
# | $w$ | width of the window | – | `window` |
# | $\varphi$ | features, never negative: here $\operatorname{elu}(x) + 1$, which is $x + 1$ above zero and $e^x$ below | $d \to d$ | `features` |
# | $2 L K d \cdot b$ | bytes of cache for a token, $L$ layers, $b$ bytes a number | – | `kv_bytes_per_token` |

# %% [markdown]
# ## In code
#
# ### Block by block
#
# The two steps by hand, for all rows of one head at once, with a block of keys in place of one.
# It must give what `naive_attention` gives, and so must the package's version; its gradients are compared in the package's tests.


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


qkv = torch.randn(3, 1, 1, 300, 32, generator=generator)
naive, _ = naive_attention(*qkv, causal_mask(300, 300))
first = online(*qkv[:, 0, 0], block=64)
assert_close(first, naive[0, 0], atol=1e-5, rtol=1e-5)
assert_close(
    long_context.chunked_attention(*qkv, block=64), naive, atol=1e-5, rtol=1e-5
)

# %% [markdown]
# Torch's fused kernel is this loop, compiled {cite:p}`milakov2018,dao2022`.
# Where it is said that attention's *memory* grows with the square of the length, the table is meant, and it need not be there; the *arithmetic* does.
#
# ### A window and a state
#
# A window is a band in the table, and a band can be computed in blocks without the rest.
# The first rows of a window of three, and the package's function against the whole table with a mask:

# %%
for row in long_context.sliding_window_mask(6, 6, window=3):
    print("".join(" ■" if seen else " ·" for seen in row))
banded = long_context.sliding_window_attention(*qkv, window=32)
masked, _ = naive_attention(*qkv, long_context.sliding_window_mask(300, 300, 32))
assert_close(banded, masked, atol=1e-5, rtol=1e-5)

# %% [markdown]
# Linear attention has two forms that must agree: with all positions side by side, for training, and one after the other with a state, for writing.


# %%
def recurrent(query, key, value):
    """Return linear attention's context, one position after the other."""
    state, total = torch.zeros(key.shape[1], value.shape[1]), torch.zeros(key.shape[1])
    rows = []
    for q, k, v in zip(
        long_context.elu_features(query), long_context.elu_features(key), value
    ):
        state, total = state + torch.outer(k, v), total + k
        rows.append(q @ state / (q @ total))
    return torch.stack(rows)


mine = recurrent(*(x[0, 0] for x in qkv))
assert_close(mine, long_context.linear_attention(*qkv)[0, 0], atol=1e-4, rtol=1e-4)
state = long_context.LinearState()
for t in range(300):
    last = state.read(*(x[:, :, t] for x in qkv))
assert_close(last[0, 0], mine[-1], atol=1e-4, rtol=1e-4)
print(f"state after 300 positions: {state.n_bytes:,} bytes")
print(f"their keys and values:    {2 * 300 * 32 * 4:,} bytes")

# %% [markdown]
# ![Bars to scale. Full attention keeps 76,800 bytes, with an arrow for what grows with every token. A window of 32 keeps 8,192 bytes, linear attention 4,224 bytes, and both stay.](figures/kept-while-writing.svg)
#
# *What one head keeps after 300 positions, to scale.*
#
# ## Experiment
#
# ### What it costs
#
# *Predict*: from 1,024 tokens to 8,192, eight times as many: how much more time, and how much more memory, does each way take?
#
# One head, 32 wide.
# Memory is counted as the most bytes that new tensors hold at once, arithmetic by formula (tests hold the formulas against torch's counter), and the time is that of the processor.

# %%
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
WAYS = {
    "naive": lambda *qkv: naive_attention(*qkv, masks[qkv[0].shape[2]]),
    "chunked": partial(long_context.chunked_attention, block=256),
    "fused": fused_attention,
    "window": partial(long_context.sliding_window_attention, window=64),
    "linear": partial(long_context.linear_attention, block=64),
}
masks = {n: causal_mask(n, n) for n in LENGTHS}

# %%
times, n_bytes = {}, {}
for n in LENGTHS:
    long = torch.randn(3, 1, 1, n, 32, generator=generator)
    for name, way in WAYS.items():
        with PeakMemory() as memory:
            way(*long)
        n_bytes[name, n] = memory.peak
        times[name, n] = fastest(partial(way, *long), n=3)

# %% [markdown]
# On axes that are both logarithmic, growth with a power of $n$ is a straight line, and its slope is the power.
# The slope over the last four lengths, from 1,024 to 8,192, is fitted by least squares and stands in the legends.
# With slope 1, eight times the length takes 8 times as much; with slope 2 it takes $8^2 = 64$ times.


# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels over the length from 256 to 8,192 tokens, both axes logarithmic. Left, processor time: naive, chunked and fused attention rise steeply, window and linear attention less so. Right, memory: naive attention rises steeply to about 600 MiB; fused, window and linear rise as slowly as the length itself, all below 20 MiB, and chunked is nearly flat."}}
def power(found, name, lengths=LENGTHS[-4:]):
    x, y = torch.tensor([(n, found[name, n]) for n in lengths]).double().log().T
    return ((x - x.mean()) @ (y - y.mean()) / (x - x.mean()).square().sum()).item()


fig, panels = plt.subplots(1, 2, figsize=(7, 2.7))
for ax, found, unit in zip(panels, (times, n_bytes), (1e-3, 2**20)):
    for name, style in zip(WAYS, ("-", "--", "-.", ":", (0, (3, 1, 1, 1)))):
        label = f"{name}, slope {power(found, name):.1f}"
        values = [found[name, n] / unit for n in LENGTHS]
        ax.plot(LENGTHS, values, ls=style, label=label)
    _ = ax.set(xscale="log", yscale="log", xlabel="length (tokens, log scale)")
    _ = ax.set_xticks(LENGTHS[::2], [f"{n:,}" for n in LENGTHS[::2]])
    _ = ax.set_xticks((), minor=True)
    _ = ax.legend(fontsize=7)
_ = panels[0].set(ylabel="processor time (ms, log scale)")
_ = panels[1].set(ylabel="memory (MiB, log scale)")
assert min(power(times, "naive"), power(times, "fused")) > 1.4
assert max(power(times, "window"), power(times, "linear")) < 1.6
assert times["naive", 8192] > 4 * max(times[x, 8192] for x in ("window", "linear"))

# %% [markdown]
# Times differ from machine to machine, and from run to run; bytes and FLOPs do not.
# The next cell prints what eight times the length takes of both, and what 8,192 tokens take.

# %%
print("           eight times the length     at 8,192 tokens")
print("           memory     arithmetic       MiB      GFLOP")
for name in WAYS:
    width = 256 if name == "chunked" else 64
    short, cost = (costs.attention_cost(name, n, 1, 32, width) for n in (1024, 8192))
    memory = n_bytes[name, 8192] / n_bytes[name, 1024]
    print(f"{name:10}{memory:5.0f} times{cost.flops / short.flops:9.0f} times", end="")
    print(f"{n_bytes[name, 8192] / 2**20:10.1f}{cost.flops / 1e9:11.2f}")
    assert math.isclose(cost.n_bytes, n_bytes[name, 8192], rel_tol=0.05)
assert abs(power(n_bytes, "naive") - 2) < 0.05
assert max(power(n_bytes, x) for x in WAYS if x != "naive") < 1.05

# %% [markdown]
# The table is dear twice over: it takes the time to fill it and the memory to hold it.
# Chunked and fused attention work on the same pairs of positions in memory that grows with $n$ or less; only naive attention needs room with $n^2$.
# Chunked attention skips the tiles above the diagonal: at 8,192 tokens they are nearly half of all, at 1,024 fewer, and so its work grows less than 64 times.
# Its memory grows least of all, for in short texts a few tiles, whose size stays as it is, outweigh what grows; from some thousands of tokens on, it grows with the length.
# Window and linear attention also do less work, by more than a factor of thirty here, and double when the length doubles.
# That they hold more than the fused kernel is due to how the package computes them: all blocks side by side, not one after the other.
# (What the fused kernel uses inside and gives back at once is not counted; it does not grow with the length.)
#
# The slopes of the time lie near the powers of the arithmetic, not on them.
# Naive attention is slower than its arithmetic, for a table that outgrows the processor's cache has to be fetched from memory and brought back.
# Short texts take longer than their arithmetic, for every call costs something whatever the length, and that makes the lines flat at their left ends.
#
# In a whole model attention is only part of the work, for matrices meet each token once, whatever the length.
# Where does attention begin to matter?
# The next cell computes it for two models: `base-llm`, 256 wide, and `TINY`, a config of the package that is a quarter as wide.

# %%
for name, config in {"base-llm": base.config, "TINY": TINY}.items():
    alone = costs.forward_flops_per_token(config, 1)
    for n in (512, 8192, 131_072):
        share = 1 - alone / costs.forward_flops_per_token(config, n)
        print(
            f"{name:9} {n:8,} tokens: {share:5.1%} of the arithmetic is attention's pairs"
        )

# %% [markdown]
# In short texts attention's pairs are a fifth of the arithmetic or a half, the more the narrower the model; in long ones they are nearly all there is.
# What counts is the length beside the width: the work of the matrices grows with the square of the width, that of the pairs with width times length.
#
# ### Positions that were never learned
#
# *Predict*: two small models learn to repeat a pattern of four tokens, both on texts of 24; one has a learned vector for each position, as GPT-2 has, the other turns its queries and keys by angles ({term}`RoPE`), as Llama and `base-llm` do.
# What do they do from position 25 on?


# %%
def pattern(n, length, generator):
    """Return texts that repeat four tokens of their own again and again."""
    four = torch.randint(1, 20, (n, 4), generator=generator)
    return four.repeat(1, length // 4 + 1)[:, :length]


@torch.enable_grad()
def learn_pattern(family, seed=0):
    sizes = {"d_model": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "d_ff": 64}
    config = replace(TINY, vocab_size=20, context_length=64, family=family, **sizes)
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config, generator)
    plan = PretrainingConfig(steps=400, learning_rate=1e-2, context_length=24)
    optimizer = make_optimizer(model, plan)
    for step in range(plan.steps):
        train_step(model, optimizer, pattern(32, 25, generator), step, plan)
    return model


# %%
shares, rows = {}, pattern(200, 65, torch.Generator().manual_seed(1))
for family, name in (("gpt2", "learned"), ("llama", "turning")):
    right = learn_pattern(family)(rows[:, :-1]).argmax(-1) == rows[:, 1:]
    parts = ((8, 24), (24, 32), (32, 64))
    shares[name] = [right[:, a:b].float().mean().item() for a, b in parts]
print("foretold rightly, at   positions 9–24      25–32      33–64")
for name, found in shares.items():
    words = ["over 80 %" if x > 0.8 else "under 60 %" for x in found]
    print(f"{name + ' positions':20}", *(f"{each:>12}" for each in words))
assert min(shares["turning"]) > 0.8 and shares["learned"][0] > 0.95
assert max(shares["learned"][1:]) < 0.6

# %% [markdown]
# Vectors that were never trained are noise, and where they begin the model fails at once; past the last row there is not even noise, and the package refuses.
#
# ![Above, learned positions: a bar from 1 to 24, trained, and from 24 to 64, noise that was never trained. Below, positions that turn: a line with the same little arrow, four back, before the end of training and twice beyond it.](figures/rows-and-angles.svg)
#
# *A learned vector belongs to one position.
# An angle belongs to a distance, and the same distance comes again beyond 24.*
#
# Angles depend on distances, and *four back* looks the same everywhere, so the other model goes on.
# But that is so only for distances that it has met, as the needle has shown already.
# `base-llm` turns its queries and keys, too, and refused all the same: its table of angles was made for 512 positions.
# More of them can be computed at any time, without training, and `extend_context` below does so; what the model makes of them is another matter.
#
# ### A cache, and how large it is
#
# To go on from 401 tokens, a model without a {term}`key-value cache` reads all of them again; with one it reads the newest alone.

# %%
ids = torch.randint(1, 3000, (1, 401), generator=generator)
cache = base.new_cache()
base(ids[:, :-1], cache)


def with_cache():
    cache.length = 400  # as if nothing had been written yet
    return base(ids[:, -1:], cache)


assert_close(with_cache()[0, -1], base(ids)[0, -1], atol=1e-3, rtol=1e-3)
assert fastest(lambda: base(ids)) > 5 * fastest(with_cache)
flops = costs.forward_flops_per_token(base.config, 401)
print(f"arithmetic without a cache: 401 times as much, {401 * flops / 1e9:.1f} GFLOP")
print(f"cache: {cache.n_bytes / cache.capacity / 2**10:.0f} KiB for each token")

# %% [markdown]
# The time falls, too, by more than the factor of five that the cell asserts; not by as much as the arithmetic, for even one token needs all matrices to be read from memory.
#
# The price is memory.
# It grows with layers, width and length, and for large models in long windows it exceeds the weights.
# Sharing keys and values among query heads divides it.
#
# ![Three boxes of the same height, 32 layers, and the same depth, 131,072 positions. The first is 32 heads wide and holds 64 GiB, the second 8 heads and 16 GiB, the third, a thin slice, one head and 2 GiB.](figures/cache-as-a-box.svg)
#
# *The cache of one long text, for models like Llama 7B and Llama 3 8B: each point of a box holds a key and a value, 128 numbers each.*
#
# The four numbers of a row are layers, key-value heads, width of a head, and bytes a number.

# %%
rows = {
    "our base-llm, float32": (3, 8, 32, 4),
    "Llama 7B, every head its own": (32, 32, 128, 2),
    "Llama 3 8B, four heads share": (32, 8, 128, 2),
    "the same, if all heads shared": (32, 1, 128, 2),
}
for name, sizes in rows.items():
    per_token = costs.kv_bytes_per_token(*sizes)
    print(f"{name:32}{per_token / 2**10:5.0f} KiB a token", end="")
    print(f"{per_token * 131_072 / 2**30:8.1f} GiB for 131,072")
print(f"weights of Llama 3 8B, in two bytes each: {8.03e9 * 2 / 2**30:.0f} GiB")
assert costs.kv_bytes_per_token(3, 8, 32, 4) == cache.n_bytes / cache.capacity

# %% [markdown]
# One long text in Llama 3's cache takes as much room as the model itself; without shared keys and values, as in the first Llama {cite:p}`touvron2023`, it would take four times that.
#
# A window needs no more than its own width.
# The next cell gives a copy of the model a window of 32, lets it read 300 tokens one by one with a cache that forgets, and compares with reading them at once.

# %%
windowed = copy.deepcopy(base)
long_context.set_attention(windowed, "window", window=32)
small = long_context.new_window_cache(windowed, window=32)
n_bytes_before = small.n_bytes
pieces = [windowed(ids[:, t : t + 1], small) for t in range(300)]
assert_close(torch.cat(pieces, 1), windowed(ids[:, :300]), atol=1e-3, rtol=1e-3)
assert small.n_bytes == n_bytes_before
print(f"300 tokens read; the cache holds {small.n_bytes // 2**10} KiB, as at the start")

# %% [markdown]
# ### What is given up
#
# *Predict*: windows and states are cheap; what can they no longer do?
#
# Six models of one size were trained on the same tales: two each with full attention, with a window of 32 tokens, and with linear attention.
# The runs take about twelve minutes and are stored with their recipe; `python book/studies/context_study.py --out FILE` makes them again.
# Tales name facts early and need them late, and two things are measured on tales that no model has read: the loss over the position, and how often a word that repeats a fact is foretold, by how far back the fact last stood.
# (*20 tokens back* are those from 15 to 25, *60* from 50 to 70, *150* from 120 to 180.)

# %%
study = stored_study("context", ContextPoint.of)
kinds = {
    kind: [p for p in study.points if p.kind == kind]
    for kind in long_context.ATTENTION_KINDS
}
print(f"{study.points[0].n_parameters:,} weights, {study.recipe['n_layers']} layers")
print(f"{'facts repeated rightly,':26} 20    60   150 tokens back")
recalled = {}
for kind, points in kinds.items():
    rates = [[p.recalled[x].share for p in points] for x in (20, 60, 150)]
    recalled[kind] = [sum(each) / len(each) for each in rates]
    print(f"{kind:23}", *(f"{rate:5.0%}" for rate in recalled[kind]))
assert min(recalled["full"]) > 0.6
assert recalled["window"][0] > 2 * recalled["window"][2] > 0
assert max(recalled["linear"]) < 0.3

# %% mystnb={"image": {"alt": "Two panels for three kinds of attention. Left, loss over the position in the tale: all three are alike over the first 32 tokens; from there the loss of full attention falls to about one half nat per token, that of the window stays above it, and that of linear attention stays near one. Right, share of facts repeated rightly from 20, 60 and 150 tokens back: full attention about three quarters to five sixths at all distances; the window about two fifths at 20 and one tenth beyond; linear attention below one fifth everywhere."}}
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.7))
edges = torch.tensor(study.recipe["edges"])
middles = (edges[:-1] + edges[1:]) / 2
curves = {}
for (kind, points), style in zip(kinds.items(), plotting.LINE_STYLES):
    losses = torch.tensor([p.losses for p in points])
    curves[kind] = losses.mean(0)
    left.plot(middles, curves[kind], style, label=kind)
    right.plot((20, 60, 150), recalled[kind], style, marker="o", markersize=3)
_ = left.set(xlabel="position (tokens)", ylabel="loss (nats/token)")
_ = right.set(xlabel="fact last stood … tokens back", ylabel="repeated rightly (share)")
_ = right.set(ylim=(0, 1))
_ = left.legend()
assert (curves["window"][:2] - curves["full"][:2]).abs().max() < 0.05
assert (curves["full"][5:] < curves["window"][5:] - 0.1).all()
assert (curves["window"][5:] < curves["linear"][5:] - 0.1).all()

# %% [markdown]
# Over the first 32 tokens the window hides nothing, and its models are as good as those with full attention.
# From there on the curves part.
# Facts from 20 tokens back still lie inside the window, and more of them are repeated than from afar, though fewer than with full attention: what tells that this fact is wanted now may itself lie farther back.
# 60 is at the edge of what two layers of it can reach, and 150 is out of reach: what is left there is guessing.
#
# Linear attention looks at everything, and yet from some sixty tokens on its loss is the highest, and of the facts out of the window's reach it repeats as few as the window does, about.
# It has no sharp look: without the exponential no weight towers above the others, and all facts lie on top of each other in one small table.
# These are its oldest and plainest features, on a task that is nothing but recall; newer ones do better, with richer features, with states that forget on purpose, or with a few layers of full attention among them {cite:p}`arora2024,yang2024deltanet`.
# Cheap is not the same as free: the table of fixed size cannot hold what the growing cache holds.
#
# ### Lost in the haystack
#
# Back to the needle: the text gets longer, and the needle lies at the beginning, in the middle or at the end.
#
# ![Three bars, each a text that begins with Ella and ends with in her and three dots. Between them lie sentences from other tales, and among these the needle, marked white: at the beginning, in the middle, or just before the end.](figures/needle-at-three-depths.svg)
#
# *The same needle at three depths; at the end it is closest to the question.*
#
# `base-llm` was trained on one tale at a time, of 180 tokens on average.

# %% mystnb={"image": {"alt": "A table in shades of colour: length of the text from 60 to 400 tokens, by depth of the needle at beginning, middle and end. Nearly everything is found at 60 tokens, and at 120 but for the end; at 200 the needle at the beginning is still found and the one at the end seldom; at 400 almost nothing is found."}}
lengths, depths = (60, 120, 200, 280, 400), (0, 0.5, 1)
rows = [
    [needle_share(base, haystack, n, depth, n=12).share for n in lengths]
    for depth in depths
]
found = torch.tensor(rows)
fig, ax = plt.subplots(figsize=(4, 2))
_ = ax.imshow(found, vmin=0, vmax=1, cmap="cividis", aspect="auto")
for i, share in enumerate(found.flatten().tolist()):
    colour = "black" if share > 0.5 else "white"
    ax.text(i % 5, i // 5, f"{share:.0%}", ha="center", va="center", color=colour)
_ = ax.set_xticks(range(5), lengths)
_ = ax.set_yticks(range(3), ("beginning", "middle", "end"))
_ = ax.set(xlabel="length of the text (tokens)", ylabel="needle at")
ax.grid(visible=False)
assert found[:2, 0].min() > 0.8 and found[0, 1] > 0.7 and found[:, -1].max() < 0.5
assert found[0, 2] > found[2, 2]

# %% [markdown]
# The window that counts is not the one in the config.
# What was told at the beginning is found as far as training has shown such distances; beyond that the model is lost, although its window has room for more.
# And within reach the *place* matters: a needle near the end is close by, and yet in longer texts it is seldom found, for in the tales this kind of fact is told at the beginning, and there the model has learned to look.
# Large models have such habits, too: many find what stands at the beginning or the end and lose what stands in the middle {cite:p}`liu2024`.
#
# ### Stretching the window
#
# The angles at far distances are new to the model, so one can turn everything more slowly until they are old: that is position interpolation {cite:p}`chen2023`.
#
# ![Two lines. On the upper one positions 0, 192, 384 and 576; arrows lead from them to 0, 64, 128 and 192 on the lower one. There, all from 192 on is dashed: angles never seen in training.](figures/positions-squeezed.svg)
#
# *Position interpolation, stretched three times: position 576 gets the angle of position 192.
# Neighbours are only a third as far apart as before.*
#
# (In the table it is called `linear`; it has nothing to do with linear attention.)
# *NTK-aware* scaling (after the *neural tangent kernel*, a theory of what networks learn easily) spares the fast angles, which tell neighbours apart, by a larger base, and *YaRN* leaves the fast ones alone, slows down the slow ones, and blends between {cite:p}`peng2024`.
#
# ![Three rows of 16 bars, from fast pairs on the left to slow ones on the right. Linear: all bars at 3 times. NTK-aware: rising evenly from 1 to 3 times. YaRN: rising from 1 to 3 times over the first seven pairs, and 3 times from there on.](figures/angles-slowed-down.svg)
#
# *How many times more slowly each of the 16 pairs of `base-llm` turns, if 192 tokens are stretched to 576.*
#
# *Predict*: no weight is changed; which of them helps, and what does it cost on short texts?
#
# All three are made to stretch three times, from 192 tokens, a longish tale, to 576.

# %%
few = texts[:12]
ways = {
    way: long_context.extend_context(base, 576, way, trained_length=192)
    for way in ("none", "linear", "ntk", "yarn")
}
stretched = {
    way: [needle_share(model, haystack, 400, depth, n=12).share for depth in (0, 0.5)]
    for way, model in ways.items()
}
on_tales = {way: text_loss(model, tokenizer, few).loss for way, model in ways.items()}
assert stretched["none"][0] < 0.4 and stretched["yarn"][0] > 0.7
assert stretched["yarn"][0] >= stretched["none"][0] + 0.4
assert all(on_tales[way] > on_tales["none"] for way in ("linear", "yarn"))
assert on_tales["none"] < on_tales["ntk"] < on_tales["yarn"] < on_tales["linear"]
assert stretched["ntk"][0] < stretched["yarn"][0]

# %% tags=["nbval-ignore-output"]
print("400 tokens, found:   beginning  middle      loss on tales")
for way, (first, middle) in stretched.items():
    print(f"{way:21}{first:9.0%}{middle:8.0%}{on_tales[way]:14.2f}")

# %% [markdown]
# The table's digits depend on the processor; the relations that the cell above it asserts do not.
# Turned more slowly, the same weights find at 400 tokens what they could not find before.
# Interpolation finds much, too, but it blurs what stands next to what, and pays for that on plain tales; YaRN pays less.
# NTK-aware scaling paid least in the run above, and found less than YaRN.
# In practice a short training at the new length follows {cite:p}`chen2023,peng2024`.

# %% [markdown]
# ## Takeaways
#
# A context window ends for three reasons: positions that do not exist, distances that training has never shown, and cost.
# The arithmetic of full attention grows with the square of the length; its memory only if the table of scores is written down, and the online softmax does without.
# A sliding window and linear attention make both grow with the length, and pay in recall: the one cannot reach behind its window times its layers, the other cannot pick one fact out of a state of fixed size.
# While writing, a key-value cache trades memory for arithmetic; grouped queries divide that memory, a window bounds it.
# What fits is not what is found: a window is worth what tests at every depth and length show.
#
# *In practice*, windows have grown from a thousand tokens to a million within a few years, by all of these means together:
#
# | Model | window (tokens) | how |
# |---|---|---|
# | GPT-2 {cite:p}`radford2019` | 1,024 | learned positions, full attention |
# | Mistral 7B {cite:p}`jiang2023` | 8,192 | window of 4,096 in every layer, rolling cache, grouped queries |
# | Llama 3.1 {cite:p}`grattafiori2024` | 128,000 | RoPE with base 500,000, grouped queries, training at growing lengths |
# | Gemma 3 {cite:p}`gemma2025` | 128,000 | five layers with a window of 1,024 to one with full attention |
# | MiniMax-01 {cite:p}`minimax2025` | 1,000,000 in training | seven layers of linear attention to one of softmax |
# | Gemini 1.5 {cite:p}`gemini2024` | 1,000,000 and more | not published; needles found at 99 % and above |
#
# What is longer than any window has to be cut, summarised in pieces, or searched; that is the subject of the chapter {doc}`retrieval`.

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
# ### Exercise 1 (check): the price of a conversation
#
# How many bytes does the key-value cache of `n_sequences` texts of `n_tokens` take?
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
# ### Exercise 2 (build): a band
#
# Make the mask of a causal sliding window for n positions: true where row $t$ may look at column $s$.
# A window of 1 sees only itself.
#
# ```python
# def window_mask(n, window):
#     return mask  # (n, n), bool
# ```
#
# Check it with `checks.window_mask(window_mask)`.
# How many places are true in the mask of 8,192 positions with a window of 64, and in a causal mask without a window?
# What becomes of the two numbers if the text is twice as long, and so of the arithmetic, and of the memory if all scores are held at once?


# %% tags=["hide-cell", "solution"]
def window_mask(n, window):
    back = torch.arange(n)[:, None] - torch.arange(n)
    return (back >= 0) & (back < window)


checks.window_mask(window_mask)
# With the window 64 · 8,192 - 64 · 63 / 2 = 522,272 places, without it 8,192 · 8,193 / 2,
# about 33.6 million. In a text twice as long the first about doubles, and the second
# becomes four times as large: the arithmetic, and the memory if all scores are held.

# %% [markdown]
# ### Exercise 3 (build): join two halves
#
# Two workers have each read half of the keys for the same query.
# Each hands over its largest score $m$, its sum $\ell$ and its mixture $c$, not yet divided.
# Return the attention's result over all keys.
#
# ```python
# def join(first, second):  # each (m, l, c): two numbers and a vector, as tensors
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
# ### Exercise 4 (derive): how many layers?
#
# Every layer has a window of $w$ tokens, the position itself included.
# How many layers does it take at least for a token `distance` positions back to matter to the last one?
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
# ### Exercise 5 (explore): how much to stretch
#
# With YaRN, 576 tokens can be reached from a trained length of 288, of 192 or of 96: factors of 2, 3 and 6.
# How does the choice move what is found at 400 tokens, and the loss on tales?
# `base` refuses 513 tokens, and at 400 it finds hardly anything: which of the chapter's three limits is each, and which ones does stretching move?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
for trained in (288, 96):
    model = long_context.extend_context(base, 576, "yarn", trained_length=trained)
    share = needle_share(model, haystack, 400, depth=0, n=12)
    loss = text_loss(model, tokenizer, few).loss
    print(f"by {576 / trained:.0f}: {share.right} of {share.n} found, tales {loss:.2f}")
# More stretching brings farther distances into the known range, and blurs near ones.
# 513 is refused for want of positions, and 400 fails for want of training at such
# distances. Stretching moves both. The third limit, the cost, stays as it is.

# %% [markdown]
# ## Sources
#
# The online softmax is from {cite:t}`milakov2018`, its use in a kernel from {cite:t}`dao2022`.
# Sliding windows in transformers go back to {cite:t}`child2019`, linear attention to {cite:t}`katharopoulos2020`, shared keys and values to {cite:t}`shazeer2019` and {cite:t}`ainslie2023`.
# Scaling of rotary positions is by {cite:t}`chen2023` and {cite:t}`peng2024`.
# The test of the needle was made known by {cite:t}`kamradt2023`.
