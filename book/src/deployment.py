# %% [markdown]
# (deployment)=
# # Deployment
#
# A model becomes a service when many callers can use it at once, each as if nobody else were there.
# The service must read each weight once for all of them, and put a limit on everything that could grow.
#
# **You will be able to**
#
# - say why reading a prompt and writing an answer have different bottlenecks;
# - batch requests that come and go, and say what keeps an answer independent of the others;
# - store weights in 8 and in 4 bits, and say what that costs;
# - start a service that streams its answers, bound what it takes on, and read its load test.
#
# **You need** the chapters [The transformer](transformer.ipynb) and [Instruction tuning](instruction_tuning.ipynb), and [Attention](attention.ipynb) for the key-value cache.
#
# **Takes** about 40 minutes to read with the code.
#
# **Runs in** about a minute on one processor core.

# %% [markdown]
# ## Setup

# %% tags=["hide-input"]
import asyncio
import copy
import math
import re
import textwrap
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import matplotlib.pyplot as plt
import openai
import torch

from llmcourse import plotting
from llmcourse.checks import deployment as checks
from llmcourse.finetuning import instructions
from llmcourse.finetuning.chat import Message, encode_prompt
from llmcourse.model.costs import forward_flops_per_token, kv_cache_bytes
from llmcourse.model.folders import load_pretrained
from llmcourse.model.generation import (
    GREEDY,
    Sampling,
    generate,
    next_token_distribution,
)
from llmcourse.model.quantization import (
    load_quantized,
    quantization_error,
    quantize_model,
    save_quantized,
    weight_bytes,
)
from llmcourse.serving.app import create_app
from llmcourse.serving.batching import Batcher, Request, read_next, read_prompt
from llmcourse.serving.load_test import load_test
from llmcourse.serving.server import running
from llmcourse.serving.wire import ServiceConfig
from llmcourse.text import tales
from llmcourse.training.evaluation import text_loss
from llmcourse.widgets.batching import BatchingExplorer, Load
from llmcourse.widgets.memory import MemoryExplorer
from llmcourse.widgets.sizes import KNOWN_MODELS

plotting.use_course_style()
torch.set_num_threads(1)
NAME = "instruct-llm"
model, tokenizer = load_pretrained(NAME)
START = tokenizer.special_tokens["<|endoftext|>"]

# %% [markdown]
# ## The problem
#
# Forty readers open a page, and each asks the model for a story.
# Some of the stories are short, some are long.
# If a program answers them one after the other, the last reader waits for all the others, although the processor could do more at a time.
#
# To see how much more, we count in *steps*: one step of the model writes one token for each of its readers.
# For now, suppose that every step takes equally long; the experiment below measures how far that is true.

# %%
stories = [story.text for story in tales.generate(40, seed=1)]
lengths = [len(tokenizer.encode(text)) for text in stories]
one_by_one = sum(lengths)
batches = [lengths[start : start + 8] for start in range(0, 40, 8)]
eight_at_a_time = sum(max(batch) for batch in batches)
print(f"one by one: {one_by_one:,} steps; eight at a time: {eight_at_a_time:,} steps")
print(f"the best that eight could do: {math.ceil(one_by_one / 8):,} steps")

# %% tags=["remove-cell"]
assert one_by_one / 8 < eight_at_a_time < one_by_one / 4

# %% [markdown]
# Eight at a time is far better, but not the best: a finished short story waits in the batch until the longest of the eight is done.
# (For 905 steps, all eight slots would have to be busy to the end.)
# And readers do not come in eights.

# %% [markdown]
# ## By hand
#
# Five requests, A to E, want 2, 7, 3, 1 and 4 tokens; two can be written at a time.
#
# One after the other, they take $2 + 7 + 3 + 1 + 4 = 17$ steps.
# In fixed pairs, $(2, 7)$, $(3, 1)$ and $(4)$, they take $7 + 3 + 4 = 14$.
# If each finished request gives its place to the next in the queue, they take 10:
#
# ![Three timelines of the requests A to E over 17 steps. One after the other: 17 steps in one row. In fixed pairs: A beside B, C beside D, E alone, with dashed stretches in which a slot is idle, 14 steps. With each free slot going to the next request: A, C, D and E in one slot, B in the other, 10 steps, and the second slot is idle only in the last three.](figures/three-ways-to-share-steps.svg)
#
# *In the last plan, C begins in step 3, as soon as A is finished.
# Nobody waits for B to end.*
#
# The package does the same: here its `Batcher` has two slots, and each request says when it is done.

# %%
batcher = Batcher(model, max_batch=2)
requests = {
    name: Request(ids=[START], max_new_tokens=n)
    for name, n in zip("ABCDE", (2, 7, 3, 1, 4), strict=True)
}
batcher.submit(*requests.values())
print(f"{len(requests)} requests are waiting")

# %% [markdown]
# After each step, we note which requests have finished.

# %%
finished = {}
for step in range(1, 11):
    batcher.step()
    for name, request in requests.items():
        if request.finish and name not in finished:
            finished[name] = step
print("finished:", ", ".join(f"{name} in step {n}" for name, n in finished.items()))

# %% tags=["remove-cell"]
assert finished == {"A": 2, "B": 7, "C": 5, "D": 6, "E": 10}

# %% [markdown]
# ## The idea
#
# Writing has two parts.
# In the **prefill** the model reads the prompt, all tokens at once, and stores keys and values in the {term}`key-value cache`.
# In the **decode** it writes one token per step, looking at the cache.
#
# ![Four rows of cells. Prefill: all nine cells of the prompt are computed, and a first token, I, comes out. Decode 1 to 3: the earlier cells are grey, in the cache, and only the newest is computed; out come da, a comma, and a.](figures/prefill-then-decode.svg)
#
# *One answer, step by step: the first step reads the whole prompt, each further step only the token that was written last.*
#
# | symbol | meaning | prefill | decode, one request | decode, $B$ requests |
# |---|---|---|---|---|
# | $T$ | tokens that a step reads | all of the prompt | 1 | $B$ |
# | $2PT$ | arithmetic with $P$ weights, FLOPs | much | little | $B$ times that |
# | $4P$ | bytes of weights to be fetched | once | once | once |
# | $T / 2$ | FLOPs for each byte | high | 1/2 | $B / 2$ |
#
# (Each weight has four bytes here, and each token needs one multiplication and one addition with it.)
#
# As a rule of thumb, a processor can do tens of FLOPs while one byte comes from memory.
# So the prefill is **compute-bound**: it is limited by arithmetic.
# The decode of a single request is **memory-bound**: the arithmetic waits for the weights.
# If $B$ requests run side by side, each weight is fetched once for all of them.
# In a large model that is the main reason for **batching**; in one as small as ours, the program around the arithmetic also counts.
# Suppose that a processor does 40 FLOPs for each byte.
# If only the weights are counted, sixteen requests are then still memory-bound; the border is at $B / 2 = 40$, that is, at eighty requests.
# (A large GPU does hundreds of FLOPs for each byte, so by this count its border is at hundreds of requests.)
# But each request also reads a cache of its own, and no other request shares these bytes.
# With texts of thousands of tokens, the caches keep the decode memory-bound, however large the batch is.
#
# ![Three columns, each with the same box, all weights, and an arrow down to what is computed with them. Prefill: 256 tokens, 128 FLOPs per byte. Decode, alone: 1 token, half a FLOP per byte. Decode, 16: 16 tokens, 8 FLOPs per byte.](figures/weights-fetched-once.svg)
#
# *Each step fetches all weights once; what differs is how many tokens they meet.*
#
# We count the FLOPs for each byte of weights in our model.
# (The argument 1 counts a token that looks at no others.)

# %%
config = model.config
for n_tokens, step in ((256, "prefill"), (1, "decode, alone"), (16, "decode, 16")):
    flops = forward_flops_per_token(config, 1) * n_tokens
    print(f"{step:14}{flops / weight_bytes(model):6.3g} FLOPs for each byte")

# %% tags=["remove-cell"]
per_byte = forward_flops_per_token(config, 1) / weight_bytes(model)
assert 0.4 < per_byte < 0.6

# %% [markdown]
# Each request needs a cache of its own, here with room for the whole window.

# %%
caches = [model.new_cache() for _ in range(16)]
per_request = kv_cache_bytes(config, config.context_length)
in_all = sum(cache.n_bytes for cache in caches)
print(f"weights              {weight_bytes(model) / 2**20:5.1f} MiB")
print(f"cache of one request {per_request / 2**20:5.1f} MiB")
print(f"caches of sixteen    {in_all / 2**20:5.1f} MiB")

# %% tags=["remove-cell"]
assert in_all == 16 * per_request

# %% [markdown]
# Sixteen requests side by side do sixteen times the arithmetic for the same bytes of weights.
# But their caches take several times as much room as the weights.
# So it is the caches that decide how many requests fit into a service's memory.
#
# ![Two bars to the same scale: the weights, 18.6 MiB, and sixteen caches of 6 MiB in a row, 96 MiB in all, more than five times as long.](figures/caches-beside-the-weights.svg)
#
# *Memory for sixteen requests, to scale: one copy of the weights, and a cache for each request.*
#
# ## In code
#
# Here is **{term}`continuous batching`** in fewer than twenty lines.
# Free slots go to waiting requests, every sequence in a slot gets its next token, and finished sequences leave.
# (To stay short, it differs a little from the plan above: a new sequence gets two tokens in its first round, one by reading the prompt and one by the decode, and a finished one leaves only in the next round.)
# `read_prompt` is the prefill, and discards what the cache held before; `read_next` is one step of the decode.
# It takes the last token of each busy slot and returns one row of logits for each slot; the rows of free slots mean nothing.
# We always take the most probable token.


# %%
def write_all(prompts, lengths, n_slots):
    caches = [model.new_cache() for _ in range(n_slots)]
    waiting, in_slot = list(range(len(prompts))), {}  # slot: number of its request
    texts = [[] for _ in prompts]
    while waiting or in_slot:
        free = [slot for slot in range(n_slots) if slot not in in_slot]
        for slot in free[: len(waiting)]:
            n = waiting.pop(0)
            in_slot[slot] = n
            logits = read_prompt(model, torch.tensor(prompts[n]), caches[slot])
            texts[n].append(int(logits.argmax()))
        in_slot = {slot: n for slot, n in in_slot.items() if len(texts[n]) < lengths[n]}
        if in_slot:
            last = {slot: texts[n][-1] for slot, n in in_slot.items()}
            logits = read_next(model, last, caches)
            for slot, n in in_slot.items():
                texts[n].append(int(logits[slot].argmax()))
    return texts


# %% [markdown]
# We continue twelve beginnings of tales, of different lengths, by different numbers of tokens.
# We do this with `write_all` in five slots, then with the package's `Batcher`, also in five, and then for each one alone with `generate`.
# In the text below, a bar marks the end of the prompt.

# %%
prompts = [
    [START, *tokenizer.encode(text)[: 5 + 3 * n]] for n, text in enumerate(stories[:12])
]
n_new = [4 + (7 * n) % 23 for n in range(12)]
mine = write_all(prompts, n_new, n_slots=5)
fourth = f"{tokenizer.decode(prompts[3][1:])} |{tokenizer.decode(mine[3])} …"
print(textwrap.fill(fourth, 80))

# %% tags=["hide-input"]
theirs = [
    Request(ids=ids, max_new_tokens=n, sampling=GREEDY)
    for ids, n in zip(prompts, n_new, strict=True)
]
batcher = Batcher(model, max_batch=5)
batcher.submit(*theirs)
batcher.run()
assert mine == [request.written for request in theirs]
for ids, text in zip(prompts, mine, strict=True):
    alone = generate(model, torch.tensor(ids), len(text), sampling=GREEDY)
    assert alone[len(ids) :].tolist() == text
print("all twelve agree, token by token")

# %% [markdown]
# ### Explore: shared steps
#
# Here are two plans for the same requests: fixed batches, and the package's continuous batching.
# A fixed batch starts with the requests that are waiting, and nobody else comes in before its last answer is written.
# Both read a long prompt in pieces of 256 tokens, so that the others need not wait for all of it; this is called **chunked prefill**.
# A step starts no new piece once it has read 256 tokens, and the prompt with the least left to read comes first.
# (The plans only count steps, so a prompt may be longer than the window of our models.)
# Begin with the five requests from above.
# Then let a long prompt come in while others write: who waits for it?
# Add slots, or write requests of your own: when do both plans take the same number of steps?

# %% tags=["hide-input"]
BatchingExplorer(
    {
        "by hand": [Load(0, 1, n) for n in (2, 7, 3, 1, 4)],
        "one long answer among short ones": [
            *(Load(2 * n, 20, 6) for n in range(6)),
            Load(1, 20, 40),
        ],
        "a long prompt comes in": [
            Load(0, 20, 20),
            Load(0, 12, 12),
            Load(2, 1400, 6),
            Load(3, 30, 8),
            Load(9, 10, 10),
        ],
        "equal and all at once": [Load(0, 20, 10)] * 8,
    }
)

# %% [markdown]
# ### Nobody notices the other requests
#
# All twelve texts agreed above, and this cannot be taken for granted.
# A processor adds up a product of matrices in an order that depends on their shapes, and floating-point sums depend on the order.
# So a row of a large batch may differ in its last bits from the same row computed alone.
# A service whose answers do not depend on the other requests is **batch-invariant**; {cite:t}`he2025` showed that most were not, and why.
# The next cell shows such a sum, whose result depends on the order on any processor.
# Whether a row of a batch differs depends on the processor, so the cell after it shows only that the difference is small.

# %%
large, small = torch.tensor(1e8), torch.tensor(1.0)
print(f"(100,000,000 + 1) - 100,000,000 = {large + small - large:.0f}")
print(f"(100,000,000 - 100,000,000) + 1 = {large - large + small:.0f}")

# %% [markdown]
# (A float of 32 bits has about seven digits, too few for a hundred million and one.)
#
# Now the row: the first of sixteen is multiplied alone, then together with the others.

# %%
weight = model.blocks[0].attention.query.weight.detach()
rows = torch.randn(16, weight.shape[1], generator=torch.Generator().manual_seed(0))
alone, together = rows[:1] @ weight.T, (rows @ weight.T)[:1]
difference = (alone - together).abs().max()
print("a row alone and among sixteen, the same to 0.0001:", bool(difference < 1e-4))

# %% tags=["remove-cell"]
assert difference < 1e-4

# %% [markdown]
# Such a small difference seldom matters.
# In greedy decoding it matters only if the two best tokens are nearly equal.
# In sampling it matters only if the random number falls almost on the border between two tokens.
# But in a service that writes millions of tokens a day this does happen, and an answer you cannot reproduce is a bug you cannot fix.
# `read_next` therefore keeps a row for every slot, free or not, in each of its matrices.
# Attention is computed for each slot by itself, so the shape of its products depends on that sequence's length alone.
#
# ![Two products of rows and weights. On the left, alone, only the first row is taken; on the right, with seven others, all rows are. Both have the same number of rows.](figures/rows-for-every-slot.svg)
#
# *With the same shape the sums are taken in the same order, so the first row has the same bits.*
#
# We compare the bits that a sequence gets by itself with those that it gets beside seven others.


# %%
def bits_of_first(n_others):
    """Return the logits after the first prompt and one more token, as whole numbers."""
    caches = [model.new_cache() for _ in range(8)]
    slots = range(1 + n_others)
    for slot in slots:
        read_prompt(model, torch.tensor(prompts[slot]), caches[slot])
    logits = read_next(model, dict.fromkeys(slots, START), caches)
    return logits[0].view(torch.int32)  # the 32 bits of each, read as a number


# %%
alone, beside_others = bits_of_first(0), bits_of_first(7)
n_same = int((alone == beside_others).sum())
print(f"{n_same:,} of {len(alone):,} logits have the same bits")

# %% tags=["remove-cell"]
assert n_same == len(alone)

# %% [markdown]
# Each request also has its own random generator, so a sampled answer does not depend on the others either.
# To check this, we first let twelve requests be answered one at a time.


# %%
def twelve_requests():
    return [
        Request(ids=ids, max_new_tokens=25, sampling=Sampling(top_p=0.95), seed=n)
        for n, ids in enumerate(prompts)
    ]


# %%
batcher = Batcher(model, max_batch=8)
alone = twelve_requests()
for request in alone:
    batcher.submit(request)
    batcher.run()
print(textwrap.fill(f"the first: …{tokenizer.decode(alone[0].written)} …", 80))

# %% [markdown]
# The same requests once more, but submitted together, so that up to eight are answered side by side:

# %%
side_by_side = twelve_requests()
batcher.submit(*side_by_side)
batcher.run()
same = [r.written for r in side_by_side] == [r.written for r in alone]
print("all twelve answers are the same as when written alone:", same)

# %% tags=["remove-cell"]
assert same

# %% [markdown]
# ## Experiment: what batching is worth
#
# *Predict*: with sixteen requests at once instead of one, how does the number of tokens per second change for all together, and how for each of them?
#
# :::{dropdown} Answer
# Together they get several times as many tokens per second, and each of them gets fewer: a step takes longer, but far less than sixteen times as long.
# :::
#
# **{term}`Tokens per second <tokens per second>`** is the usual measure of speed, for one request or for all together.
# We let 1 to 16 requests write side by side and measure the time of a step: the shortest of a hundred, as it was disturbed least.
# They begin together, so no slots are needed: each matrix has as many rows as there are requests.


# %%
@torch.inference_mode()
def step_seconds(n_requests, n_steps=20):
    cache = model.new_cache(n_requests, n_steps)
    ids, times = torch.full((n_requests, 1), START), []
    for _ in range(n_steps):
        start = time.thread_time()  # of this thread alone
        ids = model(ids, cache).argmax(dim=-1)
        times.append(time.thread_time() - start)
    return min(times)


# %%
sizes = [1, 2, 4, 8, 16]
rounds = [[step_seconds(n) for n in sizes] for _ in range(5)]
seconds = [min(times) for times in zip(*rounds, strict=True)]
for_all = [n / s for n, s in zip(sizes, seconds, strict=True)]
for_each = [1 / s for s in seconds]

# %% tags=["remove-cell"]
assert for_all[-1] > 3 * for_all[0]
assert for_each[-1] > for_each[0] / 5

# %% tags=["hide-input"] mystnb={"image": {"alt": "Tokens per second against the number of requests at a time, from 1 to 16, both axes logarithmic: the line for all requests together rises steeply, to several times the speed of one alone; the line for each request falls, but far less."}}
fig, ax = plt.subplots(figsize=(4, 2.5))
ax.plot(sizes, for_all, "o-", label="all together")
ax.plot(sizes, for_each, "s--", label="each")
ax.set_xscale("log", base=2)
ax.set_yscale("log", base=2)
ax.xaxis.set_major_formatter("{x:.0f}")
ax.yaxis.set_major_formatter("{x:,.0f}")
_ = ax.set(xlabel="requests at a time (log scale)", ylabel="tokens/s (log scale)")
_ = plotting.label_lines(ax)

# %% [markdown]
# *Tokens per second of all requests together, and of each.*
#
# Together, sixteen requests get several times as many tokens as one; each waits longer for a token, but far less than sixteen times as long.
# So a step takes longer with more requests, though less than in proportion: they share its fixed cost.
# In a large model, that cost is mostly fetching the weights.
# In one as small as ours, part of it is the program that calls one small operation after another.
# (This experiment does not separate the two.)
# The service below reaches only a fraction of this: each of its steps has a row for every slot, taken or not, and rounds their number up to a multiple of sixteen.
# A processor computes several numbers with one instruction, here for sixteen rows; fewer rows would not fill the last instruction, and would be computed differently.
# The empty rows, and attention computed slot by slot, are the cost of batch invariance.
# The queue, the tokenizer and the network come on top.
# The gain also has a limit: once arithmetic takes most of a step, each further request makes the step longer by the same amount, and the throughput, the tokens per second of all together, hardly grows.
#
# A single text gains in the same way if several of its tokens are read in one pass, as in a prefill.
# All times are relative to a pass that reads one token.


# %%
@torch.inference_mode()
def pass_seconds(n_tokens, n_passes=20):
    """Return the shortest time of a pass that reads n tokens, after 64 others."""
    cache, times = model.new_cache(1, 64 + n_tokens), []
    model(torch.full((1, 64), START), cache)
    for _ in range(n_passes):
        cache.length = 64  # forget the last pass
        start = time.thread_time()
        model(torch.full((1, n_tokens), START), cache)
        times.append(time.thread_time() - start)
    return min(times)


# %% tags=["nbval-ignore-output"]
times = {n: pass_seconds(n) for n in (1, 2, 5, 64, 256)}
print("tokens read   time of the pass   for each token")
for n, taken in times.items():
    print(f"{n:11}{taken / times[1]:19.1f}{taken / times[1] / n:17.2f}")

# %% [markdown]
# Five tokens in one pass take less than twice as long as one.
# In a long prompt a token takes about a twentieth of the time of one that is written.
# From 64 to 256 tokens this falls little further, perhaps because arithmetic now takes most of the pass.
# This is one reason why services often charge several times as much for a token that they write as for one that they read.
#
# ## Smaller weights
#
# If weights take the time and the room, smaller weights save both.
# Storing weights as small whole numbers is called **{term}`quantization`** {cite:p}`jacob2018`.
# Eight bits instead of 32 can hold the whole numbers from −127 to 127.
# Each row of a matrix gets a scale, so that its largest weight becomes 127 or −127:

# %%
row = torch.tensor([0.30, -0.11, 0.02, -0.27])
scale = row.abs().max() / 127
numbers = (row / scale).round()
print("weights        ", *(f"{w:7.3f}" for w in row))
print("stored         ", *(f"{n:7.0f}" for n in numbers), f"   scale {scale:.4f}")
print("times the scale", *(f"{n * scale:7.3f}" for n in numbers))

# %% tags=["remove-cell"]
assert (numbers * scale - row).abs().max() <= scale / 2

# %% [markdown]
# Four bits have 16 patterns; we leave one out, so that there are as many numbers below zero as above.
# With these 15, from −7 to 7, the steps are coarse, and one large weight makes them coarse for its whole row; so each group of 32 weights gets a scale of its own {cite:p}`shen2020`.
#
# ![Four weights on a line, with arrows up to a scale with many fine marks and down to one with 15 marks. Above, 8 bits: minus 0.27 becomes minus 114, minus 0.11 minus 47, 0.02 becomes 8 and 0.30 becomes 127, with straight arrows. Below, 4 bits: minus 6, minus 3, 0 and 7, which stand for minus 0.26, minus 0.13, 0 and 0.30, with slanted arrows.](figures/rounding-to-eight-and-four-bits.svg)
#
# *The four weights from above, rounded to the next step.
# With 255 numbers the arrows are nearly straight; with 15, they slant by the rounding error.*
#
# We store the model both ways, read it back, and measure its {term}`perplexity` on fresh tales.
# *Off by* is the length of the vector of all rounding errors, as a share of the length of the vector of all weights.

# %%
fresh = [story.text for story in tales.generate(12, seed=99)]
before = text_loss(model, tokenizer, fresh).perplexity
print(f"32 bits: {weight_bytes(model) / 2**20:4.1f} MiB, perplexity {before:.3f}")


# %%
def saved_and_loaded(bits, group):
    """Return the size of the file in bytes, and the model read back from it."""
    with TemporaryDirectory() as folder:
        save_quantized(quantize_model(model, bits, group), tokenizer, folder)
        size = (Path(folder) / "model.safetensors").stat().st_size
        small, _ = load_quantized(folder)
    return size, small


# %% [markdown]
# Eight bits with a scale for each row, then four bits with a scale for every 32 weights:

# %%
perplexity = {}
for bits, group in ((8, None), (4, 32)):
    size, small = saved_and_loaded(bits, group)
    perplexity[bits] = text_loss(small, tokenizer, fresh).perplexity
    error = quantization_error(model, small)
    print(f"{bits:2} bits: {size / 2**20:4.1f} MiB, ", end="")
    print(f"perplexity {perplexity[bits]:.3f}, weights off by {error:.1%}")

# %% tags=["hide-cell"]
assert abs(perplexity[8] / before - 1) < 0.01
assert abs(perplexity[4] / before - 1) < 0.05

# %% [markdown]
# On these tales, with this model, a file a quarter of the size costs nothing that shows in the perplexity, and one a seventh of the size hardly anything.
# (A folded cell asserts less than 1 % and less than 5 %.)
# With four bits the weights are off by almost a tenth.
# Do these errors cancel in a sum of many products?
# We give each matrix of the original model and of the four-bit one, `small` from the loop above, the same input and compare the outputs, and then the two models' predictions.
# (Torch calls a *forward hook* after a layer, with the layer, a tuple of its inputs, and its output.)


# %%
def compare(rounded, layer, inputs, output):
    theirs = rounded(inputs[0])  # the same input, other weights
    errors.append(((theirs - output).norm() / output.norm()).item())


errors, hooks = [], []
for name, part in model.named_modules():
    if isinstance(part, torch.nn.Linear):
        hook = partial(compare, small.get_submodule(name))
        hooks.append(part.register_forward_hook(hook))
ids = torch.tensor([[START, *tokenizer.encode(fresh[0])]])
with torch.no_grad():
    log_p, log_q = (each(ids).log_softmax(dim=-1) for each in (model, small))
for hook in hooks:
    hook.remove()

# %%
low, high = min(errors), max(errors)
print(f"outputs of {len(errors)} matrices off by {low:.0%} to {high:.0%}")
distance = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
print(f"predictions {distance:.3f} nats/token apart")
sure = (log_p.exp().amax(dim=-1) > 0.99).float().mean()
print(f"at {sure:.0%} of the places one token has a probability above 99%")

# %% tags=["remove-cell"]
assert low > 0.03 and high < 0.2 and distance < 0.02 and sure > 0.5

# %% [markdown]
# As a share, the error hardly shrinks: the outputs are off by 6 to 10 %, and all weights together by 9 %.
# Errors of both signs do cancel in a long sum, but the products themselves have both signs and cancel too, so the error stays about the same share of the sum.
#
# The predictions are close nevertheless.
# The distance printed is the KL divergence; as long as the errors of the logits are small, it grows with their square, so half the error gives a quarter of the distance.
# And at most places one token is far ahead of all others, so a small error rarely changes which is best.
# Some systems round the activations as well; large models have a few of extreme size, which then need special care {cite:p}`dettmers2022`.
# For weights alone, two methods are common; both need no training, only some sample texts, to see which activations the weights meet.
#
# - **{term}`GPTQ`** rounds a matrix column by column, and after each one changes those not yet rounded, to make up for the error in the outputs {cite:p}`frantar2023`.
# - **{term}`AWQ`** scales up the weights that meet large activations before it rounds them, and divides these activations by the same factor, so that these weights lose less {cite:p}`lin2024`.
#
# **{term}`Pruning <pruning>`** is another way to save: it sets the weights that matter least to zero {cite:p}`han2015`.
# Half of a large model's weights can go with little loss {cite:p}`frantar2023sparse`.
# The model is faster only where the processor can skip the zeros.
#
# To see whether four bits are faster, we let the model write forty tokens with its original weights and with four-bit ones.


# %%
def writing_seconds(writer):
    times = []
    for _ in range(5):
        start = time.thread_time()
        generate(writer, torch.tensor([START]), 40)
        times.append(time.thread_time() - start)
    return min(times)


# %% tags=["nbval-ignore-output"]
ratio = writing_seconds(small) / writing_seconds(model)
print(f"four bits take {ratio:.1f} times as long")

# %% tags=["remove-cell"]
assert ratio > 1

# %% [markdown]
# Here they are not: our code turns the numbers back into floats before it multiplies them, and that takes more time than it saves.
# Small numbers are faster where they are fetched as they are, and unpacked only inside the multiplication; real services have GPU programs, called *kernels*, that do so.
#
# Small weights also travel well.
# With eight bits and a scale for each row, a model of the course is small enough to be sent with a page.
# It then runs where the page is read, without any service.
#
# :::{div} llmcourse-writing
# On the course's site, `base-llm` writes on here, in the reader's browser, from *Once there was*, or from words of your own.
# :::
#
# ### Explore: what fits on a card
#
# Weights and caches share a card's memory.
# Choose a model and a card: how many texts, of what length, can it answer at once?
# Then store the weights in fewer bits, let heads share their keys and values, or double the length, and see which part gives way.
# To plan a training run, choose it in the list *To*: each parameter then takes 16 bytes, in either precision, as [Beyond the laptop](scaling.ipynb) counts them.

# %%
CARDS = {"RTX 4090": 24e9, "L40S": 48e9, "H100": 80e9, "H200": 141e9}
MemoryExplorer({NAME: config, **KNOWN_MODELS}, CARDS)

# %% [markdown]
# ## Fewer passes
#
# ### Guess and check: speculative decoding
#
# A memory-bound step, one *pass* through all the weights, has arithmetic to spare, so a model can check several tokens in little more than the time of one.
# **Speculative decoding** makes use of this {cite:p}`leviathan2023,chen2023speculative`.
# A small, fast **draft model** guesses the next few tokens; the large one, the **target**, checks all of them in a single pass.
#
# ![Ida, a bossy girl: a small model guesses lived, in, the, woods, in four steps. The large model checks them in one step: lived and in are right, for the third it writes a in place of the, and woods is dropped. Three tokens from one step of the large model.](figures/guesses-checked.svg)
#
# *Four guesses, two of them right: the step of the large model gives three tokens, the same three that it would have written by itself.*
#
# Our draft is a very cheap one: in a thousand tales, it counts which token followed each run of four.
# Where it has never seen the last four tokens, it goes by the last three, and so on.


# %%
def count_followers(texts, n=4):
    followers = defaultdict(Counter)
    for text in texts:
        ids = [START, *tokenizer.encode(text), START]
        for place in range(1, len(ids)):
            for length in range(min(n, place) + 1):
                followers[tuple(ids[place - length : place])][ids[place]] += 1
    return followers


# %% [markdown]
# For example, these tokens most often begin a tale:

# %%
followers = count_followers(story.text for story in tales.generate(1000, seed=5))
for token, n in followers[(START,)].most_common(3):
    print(f"{tokenizer.decode([token])!r:8}{n:4} of 1,000 tales")


# %%
def draft(ids, n=4):
    """Return the probabilities of the next token, by the longest run that was seen."""
    runs = (tuple(ids[len(ids) - k :]) for k in range(min(n, len(ids)), -1, -1))
    counts = next(followers[run] for run in runs if run in followers)
    probs = torch.zeros(model.config.vocab_size)
    probs[list(counts)] = torch.tensor([*counts.values()], dtype=torch.float)
    return probs / probs.sum()


# %% [markdown]
# When answers are sampled, no single token is *right*.
# The draft drew the guess $x$ with probability $q(x)$; the target would have drawn it with $p(x)$.
# We accept it with probability $\min(1, p(x) / q(x))$.
# If we reject it, we draw from the tokens to which the draft gave too little: from $\max(0, p - q)$, scaled to sum to one.
# (A random number $u$ from 0 to 1 is below $p / q$ with that probability; the code tests $u q < p$ to avoid a division.)


# %%
def accept(p, q, guess, generator):
    """Return a token that is distributed as p, and whether it is the guess."""
    if torch.rand((), generator=generator) * q[guess] < p[guess]:
        return guess, True
    missing = (p - q).clamp(min=0)
    return int(torch.multinomial(missing, 1, generator=generator)), False


# %% [markdown]
# The token is then distributed exactly as $p$.
# It is $x$ as an accepted guess with probability $q(x) \min(1, p(x)/q(x)) = \min(p(x), q(x))$.
# A guess is rejected with probability $r = 1 - \sum_y \min(p(y), q(y))$, and since $\max(0, p - q) = p - \min(p, q)$, the sum $\sum_y \max(0, p(y) - q(y))$ is the same $r$.
# So rejections add $r \cdot \max(0, p(x) - q(x)) / r$ to the probability of $x$, and in all it is
#
# $$
# \min(p(x), q(x)) + \max(0, p(x) - q(x)) = p(x).
# $$
#
# Here is the same with the numbers of our two models, after the beginning of a tale:

# %%
ids = prompts[5]
with torch.no_grad():
    p, q = model(torch.tensor([ids]))[0, -1].softmax(-1), draft(ids)
accepted, missing = torch.minimum(p, q), (p - q).clamp(min=0)
rejected = 1 - accepted.sum()
torch.testing.assert_close(accepted + rejected * missing / missing.sum(), p)
print("accepted guesses and replacements add up to the target's probabilities")

# %% [markdown]
# Here is the whole loop.
# Setting the length of the cache drops the tokens that were rejected.
# The cache does not hold the newest token yet: the next pass reads that one, then the new guesses.
# The last `n_guesses + 1` rows of the pass are the target's distributions: one at each guess, and one after the last.


# %%
@torch.inference_mode()
def speculate(prompt, n_new, n_guesses, generator, sampling=Sampling()):
    ids, cache = list(prompt), model.new_cache()
    n_passes = n_accepted = 0
    while len(ids) < len(prompt) + n_new:
        guessed, qs = list(ids), []
        for _ in range(n_guesses):
            qs.append(draft(guessed))
            guessed.append(int(torch.multinomial(qs[-1], 1, generator=generator)))
        logits = model(torch.tensor([guessed[cache.length :]]), cache)[0]
        ps = next_token_distribution(logits[-n_guesses - 1 :], sampling)
        n_passes += 1
        for p, q, guess in zip(ps, qs, guessed[len(ids) :]):
            token, accepted = accept(p, q, guess, generator)
            ids.append(token)
            n_accepted += accepted
            if not accepted:
                break
        else:  # all were accepted: the pass gives one token more
            ids.append(int(torch.multinomial(ps[-1], 1, generator=generator)))
        cache.length = len(ids) - 1
    return ids, n_passes, n_accepted


# %% [markdown]
# With a temperature of 0, $p$ is 1 for the best token and 0 for all others.
# So a guess is accepted only if it is that token, and is otherwise replaced by it.
# The text is then the one that the target would write alone, unless rounding decides between two nearly equal tokens.

# %%
seeded = torch.Generator().manual_seed(0)
for prompt in prompts[:3]:
    alone = generate(model, torch.tensor(prompt), 40, sampling=GREEDY).tolist()
    ids, n_passes, _ = speculate(prompt, len(alone) - len(prompt), 4, seeded, GREEDY)
    assert ids[: len(alone)] == alone
print("three texts, token by token the same as the target's own")

# %% [markdown]
# To see how much this saves, we write 150 tokens at a temperature of 1, with three seeds for each number of guesses, and count passes, not seconds.
# *Accepted* is the mean over the seeds, with the lowest and the highest in brackets.

# %%
runs = {}
for n_guesses in (1, 2, 4, 8):
    runs[n_guesses] = [
        speculate([START], 150, n_guesses, torch.Generator().manual_seed(seed))
        for seed in range(3)
    ]

# %% tags=["hide-input", "nbval-ignore-output"]
print("guesses   accepted (lowest, highest)   tokens per pass")
per_pass = {}
for n_guesses, seeds in runs.items():
    shares = [n_accepted / (n_guesses * n_passes) for _, n_passes, n_accepted in seeds]
    n_tokens = sum(len(ids) - 1 for ids, _, _ in seeds)
    per_pass[n_guesses] = n_tokens / sum(n_passes for _, n_passes, _ in seeds)
    accepted = f"{sum(shares) / 3:.0%} ({min(shares):.0%}, {max(shares):.0%})"
    print(f"{n_guesses:5}{accepted:>22}{per_pass[n_guesses]:18.2f}")

# %% tags=["remove-cell"]
assert 1.2 < per_pass[1] < 2 and per_pass[4] > per_pass[1]

# %% [markdown]
# Even a table of counts saves a good part of the target's passes.
# In theory, more guesses never give fewer tokens per pass, on average; here four guesses gave no more than two, and eight gave more, but with three runs of each, both may be chance.
# What does fall is the share accepted: after the first wrong guess, the rest are wasted.
# Saving passes saves seconds only under two conditions: the draft must be much cheaper than the target, and a pass over several tokens must take little longer than a pass over one, as when it waits for memory.
# To check four guesses, a pass reads five tokens: the newest one and the guesses.
# Above, such a pass took about 1.4 times as long as a pass of one token, so even with a free draft some two tokens per pass would make the writing about 1.4 times as fast, not twice.
# With short texts, a service with a full batch has little arithmetic to spare, so speculation helps most when there are few callers.
#
# ### Read once: prefix caching
#
# Many requests begin alike: with the same instructions, or with a document that is asked about again and again.
# **Prefix caching** keeps the keys and values of that beginning, and a new request reads only what is new {cite:p}`kwon2023,zheng2024`.
# Here are eight questions about one story:

# %%
QUESTIONS = """Who is the hero of this story?
Tell me who the story is about.
Where does the story happen?
What is the name of the hero?
Summarise the story in one sentence.
Can you say who the hero is?
Name the hero of this tale.
Make a list of the characters.""".splitlines()

# %% [markdown]
# The eight prompts are the same up to a certain token.

# %%
talks = [[Message("user", f"{stories[0]}\n\n{question}")] for question in QUESTIONS]
prompt_ids = [encode_prompt(talk, tokenizer) for talk in talks]
alike = [len(set(column)) == 1 for column in zip(*prompt_ids)]
n_shared = alike.index(False)
print(f"the first {n_shared} tokens are the same")

# %% [markdown]
# We read these once, into a cache.

# %%
prefix = model.new_cache()
with torch.no_grad():
    model(torch.tensor([prompt_ids[0][:n_shared]]), prefix)
print(f"the cache holds {prefix.length} tokens")

# %% [markdown]
# Each question goes on from a copy of that cache; its logits are compared with those after the whole prompt.

# %%
with torch.no_grad():
    for ids in prompt_ids:
        cache = copy.deepcopy(prefix)
        cached = model(torch.tensor([ids[n_shared:]]), cache)[0, -1]
        whole = model(torch.tensor([ids]))[0, -1]
        torch.testing.assert_close(cached, whole, atol=1e-3, rtol=1e-3)
print(f"for all {len(prompt_ids)} questions, the logits are the same to 0.001")

# %% [markdown]
# This is how many tokens are read in all.

# %%
n_whole = sum(len(ids) for ids in prompt_ids)
n_read = n_shared + sum(len(ids) - n_shared for ids in prompt_ids)
print(f"tokens read: {n_whole:,} without the prefix cache, {n_read} with it")

# %% tags=["remove-cell"]
assert n_read < n_whole / 3

# %% [markdown]
# The logits are the same up to rounding, and most of the prefill is gone.
# Only a *beginning* can be shared without changing the result: keys and values depend on everything before them.
# So put what is always the same first, and the question last.

# %% [markdown]
# ## A service
#
# So that programs written for OpenAI's models can use ours, `create_app` puts it behind the interface that they expect, and `running` lets it listen, on this machine only.
# It listens until `stack` is closed, at the end of the chapter.
# On the command line, `llmcourse serve --model instruct-llm --port 8000` does the same; you can talk to the model on the page at its address.

# %%
stack = ExitStack()
app = create_app(model, tokenizer, NAME, ServiceConfig(max_batch=8, max_queue=16))
url = stack.enter_context(running(app))
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
[served] = client.models.list()
print(served.id, "with a window of", served.context_length, "tokens")

# %% [markdown]
# OpenAI's own client asks for an answer in a conversation, with a temperature of 0: the most probable token each time.

# %%
question = "Write a story about a brave girl named Ida."
talk = [{"role": "user", "content": question}]
reply = client.chat.completions.create(
    model=NAME, messages=talk, temperature=0, max_tokens=40
)
print(textwrap.fill(reply.choices[0].message.content, 80))

# %% tags=["remove-cell"]
assert reply.usage.completion_tokens <= 40

# %% [markdown]
# With `stream` the same answer comes piece by piece, so you can begin to read at once.
# The pieces are **{term}`server-sent events`**, lines that begin with `data:`.
# This is **{term}`streaming`**.

# %%
stream = client.chat.completions.create(
    model=NAME, messages=talk, temperature=0, max_tokens=40, stream=True
)
pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
print("|".join(pieces[1:9]))

# %% tags=["remove-cell"]
assert "".join(pieces) == reply.choices[0].message.content

# %% [markdown]
# Users control temperature and top-p ([Pretraining](pretraining.ipynb)), the maximum number of tokens, strings that end the text, and the seed.
# In the tales, a sentence that begins with *One* nearly always says when something happened.
# The first cell prints the model's own probabilities of the next word; the second draws the next token sixteen times at each of four temperatures.

# %%
beginning = "Once upon a time there was a girl called Ida. One"
with torch.no_grad():
    logits = model(torch.tensor([[START, *tokenizer.encode(beginning)]]))[0, -1]
best = logits.softmax(dim=-1).topk(6)
for p, token in zip(best.values.tolist(), best.indices.tolist()):
    print(f"{tokenizer.decode([token]).strip():8}{p:4.0%}")

# %%
drawn, body = {}, {"model": NAME, "prompt": beginning, "n": 16, "max_tokens": 1}
for temperature in (0, 0.5, 1.0, 2.0):
    reply = client.completions.create(**body, temperature=temperature, seed=1)
    drawn[temperature] = Counter(choice.text.strip() for choice in reply.choices)
    counts = [f"{word!r} {n}" for word, n in drawn[temperature].most_common()]
    print(textwrap.fill(f"temperature {temperature}: {', '.join(counts)}", 80))

# %% tags=["remove-cell"]
different = [len(words) for words in drawn.values()]
assert different[0] == 1 < different[1] <= different[2] < different[3]
assert drawn[0.5].most_common(1)[0][1] > 5 > drawn[2.0].most_common(1)[0][1]

# %% [markdown]
# At a temperature of 0 all sixteen are the most probable token.
# The lower the temperature, the more a lead counts: at 0.5 *day* should come up in about four of ten draws.
# (Sixteen draws don't show it; that *summer* came up once more is chance.)
# At 1 the tokens are drawn according to their probabilities; sixteen draws are too few to show which of the likely ones leads.
# At 2 most of the tokens that come up do so once: thousands that are each improbable are probable together, and some make no sense here.
# (This is one seed.)
#
# Other services have more knobs; ours refuses the first two, and knows nothing of the third.
#
# - **{term}`Min-p <min-p>`** keeps the tokens with at least a share $p$ of the best one's probability {cite:p}`nguyen2025`.
#   Where the model is sure, few are left; where it is not, many.
# - A **{term}`repetition penalty`** lowers the logits of tokens that the text already contains {cite:p}`keskar2019`.
# - **{term}`Beam search <beam search>`** keeps the few most probable beginnings at each step, where greedy decoding keeps one.
#   It worked well for translation {cite:p}`sutskever2014`; it makes open-ended text dull and repetitive {cite:p}`holtzman2020`.
#
# **{term}`Logprobs <logprobs>`** are the log-probabilities of the tokens written, and of the best alternatives, returned with the answer if `logprobs` asks for them.
# Ours are logarithms of the model's own probabilities, whatever the temperature.
# With `echo=True` and `max_tokens=0` a completion returns only those of the prompt.
# So a test can compare models over HTTP, by the loss on a text, or by which of several answers is the most probable.
#
# A bad request comes back as an error that the client understands, before any work is done:

# %%
for wrong in ({"max_tokens": 5000}, {"temperature": -1}, {"model": "gpt-4"}):
    try:
        client.completions.create(**({"model": NAME, "prompt": "Once"} | wrong))
    except openai.APIStatusError as error:
        message = f"{error.status_code} {type(error).__name__}: {error.body['message']}"
        print(textwrap.fill(message, 80, subsequent_indent="    "))

# %% [markdown]
# ### An answer in a given form
#
# Programs need answers in a fixed form, such as JSON with certain fields; this is **{term}`structured output`**.
# (*JSON mode* promises less: valid JSON, but not which fields it has.)
# **{term}`Constrained decoding <constrained decoding>`** guarantees the form, unless the answer is cut off {cite:p}`willard2023`.
# At each step the tokens that the form does not allow get the logit $-\infty$, and we take the best of the others.
# Our form is a list of all texts that are allowed.
# Real systems cannot list them: they turn a regular expression or a grammar into a machine with states, an *automaton*, and work out in advance which tokens each state allows.
# (Our service has no such option; it sends plain text.)

# %%
spelled = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size)]


@torch.no_grad()
def constrained(prompt, forms):
    text, ids, cache = "", [*prompt], model.new_cache()
    while text not in forms:
        logits = model(torch.tensor([ids[cache.length :]]), cache)[0, -1]
        fits = [any(f.startswith(text + piece) for f in forms) for piece in spelled]
        ids.append(logits.where(torch.tensor(fits), -torch.inf).argmax().item())
        text += spelled[ids[-1]]
    return text, ids[len(prompt) :]


# %% [markdown]
# *Predict*: `instruct-llm` has never seen JSON.
# We ask it twenty times how many things there were in a tale, once freely and once with only `{"number": "one"}` to `{"number": "twelve"}` allowed.
# In which of the two ways is it right more often?
#
# :::{dropdown} Answer
# Freely, by far.
# The form is kept each time, but the numbers in it are no better than guesses.
# :::
#
# We also allow a space before the number, and a short sentence instead of JSON.
# In what is printed, bars separate the tokens.

# %%
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
NUMBERS += ["ten", "eleven", "twelve"]
FORMS = {  # doubled braces stand for themselves
    "in JSON": '{{"number": "{}"}}',
    "in JSON, with a space": '{{"number": " {}"}}',
    "in a sentence": "There were {}.",
}
END = tokenizer.special_tokens["<|end|>"]


def number_in(text):
    return next((w for w in re.findall(r"\w+", text.lower()) if w in NUMBERS), None)


# %%
asked = [*instructions.examples(20, seed=3, kinds=["how many"])]
right, shown = Counter(), {}
for example in asked:
    prompt, number = encode_prompt(example.turns, tokenizer), number_in(example.answer)
    written = generate(model, torch.tensor(prompt), 12, sampling=GREEDY, stop=[END])
    free = tokenizer.decode(written[len(prompt) : -1].tolist())  # without the end
    right["freely"] += number_in(free) == number
    for name, form in FORMS.items():
        text, ids = constrained(prompt, [form.format(n) for n in NUMBERS])
        right[name] += number_in(text) == number
        shown[name] = "|".join(spelled[token] for token in ids)

# %%
print(f"The last one's number is {number}. Freely: {free}", *shown.values(), sep="\n")
for name, n in right.items():
    print(f"{name:22}{n:3} of {len(asked)} right")

# %% tags=["remove-cell"]
assert right["freely"] >= 15 and right["in JSON"] <= 6 and right["in a sentence"] <= 12

# %%
with torch.no_grad():
    first = model(torch.tensor([prompt]))[0, -1].softmax(dim=-1).tolist()
form = FORMS["in JSON"].format("one")
allowed = [p for p, t in zip(first, spelled, strict=True) if form.startswith(t)]
print(f"probability that the model's answer begins like the form: {sum(allowed):.0e}")

# %% tags=["remove-cell"]
assert sum(allowed) < 1e-4

# %% [markdown]
# One of twelve numbers, chosen at random, would be right in one or two of twenty cases; in JSON the model does no better.
# It would hardly ever have begun like this: the mask looks only at the form and takes the best *allowed* token, however improbable.
# From there on the model continues a text unlike any that it has learned from.
# The mask allows every way to cut the form, and some are new to the model: *seven* and *There* are each in three pieces.
# In a sentence the model is right more often than by chance, but far less often than freely; twenty questions are too few to say whether the space helps.
#
# Large models know JSON.
# In a fixed form they do worse than in a free one where they must reason first; where the answer is one of a few labels, the form can even help {cite:p}`tam2024`.
# So put a field for the reasoning before the field for the answer, or let the model answer freely and take out what you need, as `number_in` does.
# Or teach the form first, by examples.
#
# ### Under load
#
# *Predict*: the service answers eight requests at a time.
# How do waiting times and throughput change from one caller to 24?
#
# :::{dropdown} Answer
# Throughput rises steeply until the eight slots are full, and then little or not at all.
# Waiting times rise throughout; beyond eight callers it is the queue that grows.
# :::
#
# Each caller asks for 64 tokens, and asks again as soon as the answer is there.
# (With answers of a few tokens, we would be measuring the prefill and the network.)
# Service and callers run in this process, so we count its processor time; other programs on the machine then disturb the measurement much less.
# Waiting time is called **{term}`latency`**, and we report it in **{term}`percentiles <percentile>`**.
# Half of the answers took no longer than *p50*, 95 in a hundred no longer than *p95*, and 99 no longer than *p99*.
#
# ![A bar of 120 cells, from the fastest answer to the slowest, with three marks: p50 at the 60th, p95 at the 114th, p99 at the 119th.](figures/percentiles-of-120-answers.svg)
#
# *120 answers, sorted by the time they took: a percentile is the time of one of them.*
#
# Our runs have 6 to 75 answers, too few for p99, and with few callers p95 is just the slowest answer.
# A real service measures p99 on thousands of answers.


# %%
def request_body(seed):
    return {"model": NAME, "prompt": "Once", "max_tokens": 64, "seed": seed}


# %% [markdown]
# For each number of callers, the load test sends three requests per caller and three more.
# (`await` waits for a result and meanwhile lets other work of the process go on, here the service and the other callers.)

# %%
loads = []
for n_callers in (1, 2, 4, 8, 16, 24):
    n_requests = 3 * n_callers + 3
    load = await load_test(
        url, request_body, n_callers, n_requests, clock=time.process_time
    )
    loads.append(load)

# %% tags=["remove-cell"]
p50 = [load.percentile(50) for load in loads]
assert loads[3].tokens_per_second > 1.5 * loads[0].tokens_per_second
assert p50[5] > 1.2 * p50[3]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels against the number of callers. Left, the seconds that requests take: both lines rise with the number of callers, p95 above p50, and more steeply beyond eight callers. Right, tokens per second: the line rises steeply up to eight callers, the number of slots, and hardly beyond."}}
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.5))
n_callers = [load.n_callers for load in loads]
for p, style in ((50, "o-"), (95, "s--")):
    left.plot(n_callers, [load.percentile(p) for load in loads], style, label=f"p{p}")
speeds = [load.tokens_per_second for load in loads]
right.plot(n_callers, speeds, "o-", color="C2")  # not the colour of p50
_ = left.set(ylabel="time of an answer (s)", ylim=(0, None))
_ = right.set(ylabel="throughput (tokens/s)", ylim=(0, None))
_ = [ax.set(xlabel="callers", xticks=n_callers) for ax in (left, right)]
_ = plotting.label_lines(left)

# %% [markdown]
# *Against the number of callers: left, half of the requests take at most p50 seconds, nineteen in twenty at most p95; right, tokens per second for all together.*
#
# While there are free slots, more callers bring much more **{term}`throughput`**, at the cost of some more waiting.
# Beyond eight callers all slots are taken, and a free one is filled from the queue at once, so further callers add nothing to throughput here and make everyone wait longer.
# Users remember the slowest answers, the *tail* that p95 and p99 measure.
#
# A reader who sees the text appear waits for two things: the **{term}`time to first token`** (TTFT), and the time for each further token.
# We read streams and note when the first piece comes.


# %%
async def first_and_last(http, seed):
    """Return the seconds until the first piece, and until the last."""
    start, times = time.process_time(), []
    body = request_body(seed) | {"stream": True}
    async with http.stream("POST", "/v1/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                times.append(time.process_time() - start)
    return times[0], times[-1]


# %% [markdown]
# One, eight and 24 callers begin at once, each with a seed of its own.

# %%
waits = {}
async with httpx.AsyncClient(base_url=url, timeout=120) as http:
    for n_callers in (1, 8, 24):
        streams = [first_and_last(http, seed) for seed in range(n_callers)]
        waits[n_callers] = await asyncio.gather(*streams)

# %% tags=["hide-input", "nbval-ignore-output"]
firsts = {}
print("callers at once   first token: median, slowest   each further token")
for n_callers, times in waits.items():
    firsts[n_callers] = first = sorted(first for first, _ in times)
    each = sum(last - first for first, last in times) / (63 * n_callers)
    print(f"{n_callers:9}{first[n_callers // 2]:20.2f} s {first[-1]:8.2f} s", end="")
    print(f"{1000 * each:14.0f} ms")

# %% tags=["remove-cell"]
assert firsts[24][-1] > firsts[8][-1]

# %% [markdown]
# With eight callers everyone has a slot, and the first token comes soon.
# With 24, sixteen wait in the queue while one or two whole answers of others are written, and that is nearly all of their time to first token.
#
# ### What a million tokens costs
#
# Cost follows from throughput: dollars an hour, divided by tokens an hour.
# The prices and the H100's throughput are assumptions; put in your own.
# (Our throughput is per second of processor time, the callers' included; a bill counts hours on the clock.)
# (An H100 is a large GPU, and would run a much larger model, so compare only the first two lines with each other.)


# %% tags=["nbval-ignore-output"]
def dollars_per_million(dollars_an_hour, tokens_per_second):
    return dollars_an_hour / (3600 * tokens_per_second) * 1e6


alone, full = loads[0].tokens_per_second, loads[3].tokens_per_second
unit = "dollars per million tokens"
print(f"one core, 1 caller:  {dollars_per_million(0.04, alone):.3f} {unit}")
print(f"one core, 8 callers: {dollars_per_million(0.04, full):.3f} {unit}")
print(f"an H100, full batch: {dollars_per_million(2.50, 2500):.3f} {unit}")

# %% tags=["remove-cell"]
assert round(dollars_per_million(2.50, 2500), 3) == 0.278

# %% [markdown]
# The same machine writes cheaper tokens for eight callers than for one.
# The machine costs the same whether its slots are full or empty, so the price of a token depends on how full the batch is.
#
# ### A limit on the queue
#
# A queue needs a limit: a service that accepts everything answers nobody in time.
# Ours has 8 slots and 16 places in the queue; a request that finds them all taken gets status 429, *try again later*.
#
# ![Sixty requests go to a queue of 16 places, from there to 8 slots, and from these as answers out. Another arrow turns off before the queue: all full, 429, try again later.](figures/slots-queue-and-429.svg)
#
# *A request that finds the queue full is told so at once.*

# %%
async with httpx.AsyncClient(base_url=url, timeout=60) as http:
    bodies = [request_body(seed) | {"max_tokens": 99} for seed in range(60)]
    posts = [http.post("/v1/completions", json=body) for body in bodies]
    statuses = [answer.status_code for answer in await asyncio.gather(*posts)]
print("statuses of sixty requests:", sorted(set(statuses)))
print("at least 24 were answered:", statuses.count(200) >= 24)

# %% tags=["remove-cell"]
assert statuses.count(200) >= 24
assert set(statuses) == {200, 429}

# %% [markdown]
# A caller who leaves early leaves nothing behind: closing the stream stops the writing.

# %%
stream = client.completions.create(
    model=NAME, prompt="Once", max_tokens=400, stream=True
)
next(iter(stream))
batcher = app.state.service.engine.batcher
[request] = batcher.running.values()
stream.close()
while not batcher.idle:
    await asyncio.sleep(0.01)
print("the request was", request.finish)
stack.close()

# %% tags=["remove-cell"]
assert request.finish == "cancelled" and len(request.written) < 400

# %% [markdown]
# ## Takeaways
#
# In a large model, reading a prompt is bound by arithmetic, and writing for one caller by memory, since each step fetches all weights, for one token or for many.
# So answers are written side by side, and the place of a finished one goes to the next request at once.
# An answer must not depend on who else is there: each request has its own generator, and sums do not change their order with the batch.
# For our model on our tales, eight bits cost nothing that shows, and four bits little; whether they are faster depends on the program that multiplies.
# Speculative decoding saves passes and changes no probability; prefix caching reads a shared beginning only once.
# Constrained decoding makes sure of an answer's form, and can cost what is in it.
# A service bounds everything that could grow: here the queue and the tokens, and with `ServiceConfig` also the size of a request and the time it may take.
# Judge it by its throughput, by the time to first token, *and* by the tail of its waiting times.
# While it runs, **{term}`monitoring`** watches these numbers: at `/metrics` ours reports its tokens, its queue and the time to first token.
#
# *In practice*: scheduling by the step instead of by the request came with Orca {cite:p}`yu2022`.
# Each of our slots reserves memory for the longest answer that its request allows, at most the whole window.
# vLLM hands out the cache in pages, as an operating system does with memory, and has room for several times as many requests {cite:p}`kwon2023`; this is called **PagedAttention**.
#
# ![Above, three rows of eight cells, a window for each of the requests A, B and C: 3, 1 and 5 cells are used, and the rest is reserved. Below, the same 24 cells as pages: nine are used, in any order, and fifteen are free for others.](figures/slots-and-pages.svg)
#
# *The same three answers in the same memory: if each may fill its window, the whole window is reserved at once, but a page only when it is needed.*
#
# A model that is too large for one device is split: by layers {cite:p}`huang2019`, or by cutting each matrix into columns or rows {cite:p}`shoeybi2019`.
#
# Our models are folders that other programs can open: to them `instruct-llm` is a Llama, with its chat template.
# One of these programs is itself a service: `transformers serve FOLDER` answers through the same interface.
# The benchmark of [Speed, side by side](performance.md) asks both services the same questions, and goes on only if their answers are the same, word for word.
# llama.cpp, which runs models on laptops and phones, wants a file in its own format.
# This format is **{term}`GGUF`**: weights (mostly quantized), tokenizer and settings in one file {cite:p}`gguf2023`.
# `llmcourse export --format gguf` writes it, and with that file llama.cpp writes the tokens that our code finds most probable (where two are almost equally probable, either of them; [Into other programs, and back](other_programs.md) has the measurements).
# A test compares the logits of our folders in `transformers` with our own.
#
# A model that is passed on needs a **{term}`model card`** {cite:p}`mitchell2019`.
# It says what the model was trained on and is meant for, how it was measured, and where it fails.
# Ours come with the models, as `README.md`.
# A service may also want to recognise its own texts later.
# For this, a **{term}`watermark`** makes some tokens more likely at each step; which ones depends on the token before {cite:p}`kirchenbauer2023`.
# Those who know the rule can count how often it was followed.
# Rewriting the text weakens the mark.
#
# That completes the journey of the chapter [The whole pipeline, once](pipeline.ipynb): text has become a model, and the model a service.
# The last chapter, [Real models](real_models.ipynb), opens a model that has read the web, with the same code.

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("deployment")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (build): steps of a batch ★★
#
# Requests want `lengths` tokens, in this order, and there are `slots` slots.
# How many steps does continuous batching take?
#
# ```python
# def batch_steps(lengths, slots):
#     return n_steps
# ```
#
# Check it with `checks.batch_steps(batch_steps)`.


# %% tags=["hide-cell", "solution"]
def batch_steps(lengths, slots):
    ends = [0] * slots
    for length in lengths:
        ends[ends.index(min(ends))] += length
    return max(ends)


checks.batch_steps(batch_steps)
print(f"{batch_steps(lengths, 8):,} steps for the forty stories of the beginning")

# %% [markdown]
# ### Exercise 2 (build): a percentile ★★
#
# Return the smallest of the values such that at least `p` percent of all values are not above it, for $0 < p \le 100$.
# The values come in any order; do not change the caller's list.
#
# ```python
# def percentile(values, p):
#     return value
# ```
#
# Check it with `checks.percentile(percentile)`.


# %% tags=["hide-cell", "solution"]
def percentile(values, p):
    return sorted(values)[math.ceil(p * len(values) / 100) - 1]


checks.percentile(percentile)

# %% [markdown]
# ### Exercise 3 (check): what fits ★
#
# `room` bytes are left for caches.
# How many sequences of `positions` tokens fit, for a model of `layers` layers with `kv_heads` key-value heads of width `d_head` in each, and numbers of `size` bytes?
#
# ```python
# def sequences_that_fit(room, layers, kv_heads, d_head, positions, size):
#     return n_sequences
# ```
#
# Check it with `checks.sequences_that_fit(sequences_that_fit)`.
# What does it give for $40 \cdot 10^9$ bytes, 32 layers, windows of 8,192 and two bytes, with 32 heads of width 128, and with 8?


# %% tags=["hide-cell", "solution"]
def sequences_that_fit(room, layers, kv_heads, d_head, positions, size):
    return room // (2 * layers * kv_heads * d_head * positions * size)


checks.sequences_that_fit(sequences_that_fit)
for kv_heads in (32, 8):
    n = sequences_that_fit(40 * 10**9, 32, kv_heads, 128, 8192, 2)
    print(f"{kv_heads} key-value heads: {n} sequences")

# %% [markdown]
# ### Exercise 4 (build): eight bits ★★
#
# Turn a matrix of weights into whole numbers from −127 to 127, of type `torch.int8`, with one scale for each row, as a column.
# Use no loop; no row is all zeros.
#
# ```python
# def quantize_rows(weight):  # (row, column)
#     return numbers, scale  # (row, column), (row, 1)
# ```
#
# Check it with `checks.quantize_rows(quantize_rows)`.


# %% tags=["hide-cell", "solution"]
def quantize_rows(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round().to(torch.int8), scale


checks.quantize_rows(quantize_rows)

# %% [markdown]
# ### Exercise 5 (derive): guesses that are checked ★★
#
# In speculative decoding a small model guesses `n` tokens, and the large one checks all of them in one step.
# Suppose that each guess is right with probability `a`, independently of the others.
# The guesses before the first wrong one are kept, and after them comes the large model's own token.
#
# How many tokens does a step of the large model give, on average?
#
# ```python
# def tokens_per_check(a, n):
#     return expected_tokens
# ```
#
# Check it with `checks.tokens_per_check(tokens_per_check)`.
# How many tokens is that for `a` = 0.8 and `n` = 4, and what would more guesses give at best?
# Why does a step that checks four guesses take a large model hardly longer than one that writes a single token?


# %% tags=["hide-cell", "solution"]
def tokens_per_check(a, n):
    return sum(a**guess for guess in range(n + 1))


checks.tokens_per_check(tokens_per_check)
print(f"{tokens_per_check(0.8, 4):.2f} tokens, and never more than {1 / (1 - 0.8):.0f}")
# A step for one request waits for the weights, which are fetched once for any number of
# tokens: checking guesses is a small prefill.

# %% [markdown]
# ### Exercise 6 (explore): how coarse may it be? ★
#
# Take four bits with a scale for a whole row, and with one for every 32 or 16 weights: `quantize_model(model, 4, group)`, with `None` for a whole row.
# Print the error of the weights (`quantization_error`) and the share of the bytes (`weight_bytes`) for all three.
# What does a scale for fewer weights gain, and what does it cost?


# %% tags=["hide-cell", "solution"]
errors = {}
for group in (None, 32, 16):
    small = quantize_model(model, 4, group)
    errors[group] = quantization_error(model, small)
    share = weight_bytes(small) / weight_bytes(model)
    name = f"groups of {group}" if group else "whole rows"
    print(f"{name:12} off by {errors[group]:.1%}, {share:.1%} of the bytes")
# Smaller groups fit their weights better, and pay for it with more scales.
assert errors[16] < errors[32] < errors[None]

# %% [markdown]
# ### Exercise 7 (build): a draft from the prompt itself ★★★
#
# If the answer quotes its prompt, the draft needs no table of counts: look for the last two tokens earlier in the text, and guess what followed there.
# This is called **prompt lookup**.
# Its guess is certain, so $q$ is 1 for one token, and the acceptance rule becomes: keep $x$ with probability $p(x)$.
# Write `lookup(ids)`, which returns such a `q`, with one number for each token of the vocabulary, or `None` if the pair is new.
# If the pair occurs several times, take the latest occurrence.
# Take eight of the `fresh` stories as they are, and at each place look only at the tokens before it.
# How often is there a guess, and how often is it the story's next token?
# For what kind of text would it work well?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
def lookup(ids):
    pair = ids[-2:]
    for place in range(len(ids) - 3, -1, -1):  # the latest first
        if ids[place : place + 2] == pair:
            q = torch.zeros(model.config.vocab_size)
            q[ids[place + 2]] = 1.0
            return q
    return None


n_tokens = n_guessed = n_right = 0
for text in fresh[:8]:
    ids = [START, *tokenizer.encode(text)]
    for n in range(2, len(ids)):
        q = lookup(ids[:n])
        n_tokens += 1
        if q is not None:
            n_guessed += 1
            n_right += int(q[ids[n]])
print(f"{n_guessed} guesses for {n_tokens:,} tokens, {n_right} of them right")
# Tales repeat few pairs, and what follows them is often new. Summaries, edits of code and
# answers that quote a document repeat long stretches, and there it is good.

# %% [markdown]
# ## Sources
#
# Continuous batching is from {cite:t}`yu2022`, where it is called iteration-level scheduling; the paged cache from {cite:t}`kwon2023`.
# Speculative decoding is from {cite:t}`leviathan2023` and {cite:t}`chen2023speculative`; prefix caching is part of the systems of {cite:t}`kwon2023` and {cite:t}`zheng2024`.
# Whole numbers with a scale for inference are from {cite:t}`jacob2018`, a scale for each row (or channel) from {cite:t}`krishnamoorthi2018`, and one for each group from {cite:t}`shen2020`.
# What outliers need is worked out by {cite:t}`dettmers2022`, and a correction of rounding errors, which we leave out, by {cite:t}`frantar2023`.
# More knobs: min-p {cite:p}`nguyen2025`, the repetition penalty {cite:p}`keskar2019`, constrained decoding {cite:p}`willard2023` and what it costs {cite:p}`tam2024`; why likely text can be bad text: {cite:t}`holtzman2020`.
# Batch invariance was made known by {cite:t}`he2025`; the split of matrices over devices is from {cite:t}`shoeybi2019`.
# That decoding is bound by memory and prefill by arithmetic is worked out in {cite:t}`pope2023`.
