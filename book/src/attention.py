# %% [markdown]
# (attention)=
# # Attention
#
# Attention lets every token look back at all tokens before it, choose which of them matter, and fetch what they hold.
#
# **You will be able to**
#
# - compute attention by hand, and write it in a few lines for a batch of sequences,
# - say what the mask, several heads, shared keys and rotary positions are for, and test each of them,
# - write a key-value cache, and say what it saves and what it takes,
# - find out what the heads of a trained model do: look at their weights, and take heads away.
#
# **You need** Python and a little torch (a matrix product and `softmax`), and the chapters [The whole pipeline, once](pipeline.ipynb), [Tokenization](tokenization.ipynb) and [Embeddings](embeddings.ipynb).
#
# **Takes** about 45 minutes to read with the code.
#
# **Runs in** about half a minute on one processor core.
#
# The next chapter, [The transformer](transformer.ipynb), builds the rest of the model around attention.

# %% [markdown]
# ## Setup

# %% tags=["hide-input"]
import re
import textwrap
from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import rms_norm, scaled_dot_product_attention
from torch.testing import assert_close

from llmcourse import plotting
from llmcourse.checks import attention as checks
from llmcourse.model import attention, costs, positions
from llmcourse.model.attention import attention_weights
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import TINY, Transformer
from llmcourse.text import tales
from llmcourse.text.ngrams import NGramModel
from llmcourse.training.presets import BASE_LLM
from llmcourse.widgets.attention import AttentionExplorer

plotting.use_course_style()
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## The problem
#
# Here is one of the {term}`tales`.
# Its hero is named at the beginning, and again and again after that.
# To predict the next word, a model must recall a name from far back.

# %%
story = next(tales.generate(1, seed=56))
hero = story.facts["hero"]
words = re.findall(r"\w+", story.text)
places = [i for i, word in enumerate(words) if word == hero]
gaps = torch.tensor(places).diff().tolist()
print(textwrap.fill(story.text, 80))
print(f"{hero} returns after {', '.join(map(str, gaps))} words")

# %% tags=["remove-cell"]
assert len(gaps) > 2 and max(gaps) > 40

# %% [markdown]
# Can the simplest predictors do it?
# An {term}`n-gram` model counts which words followed the last $n - 1$ words in its training text.
# The next cells train three of them on a thousand tales, then stop in a hundred new tales wherever the hero's name is about to return.
# The model is told that a name comes next, and has to say which.


# %%
def to_words(text):
    """Return the words and the punctuation of a text."""
    return re.findall(r"\w+|[^\w\s]", text)


# %%
train_tales = list(tales.generate(1000, seed=0))
new_tales = list(tales.generate(100, seed=1))
names = sorted({tale.facts["hero"] for tale in train_tales})
print(f"{len(names)} heroes' names")

# %% [markdown]
# For each return of a hero we keep the words before it, and the name.

# %%
returns = []
for tale in new_tales:
    row, name = to_words(tale.text), tale.facts["hero"]
    mentions = [i for i, word in enumerate(row) if word == name]
    returns += [(tuple(row[:i]), name) for i in mentions[1:]]
print(f"{len(returns)} returns")

# %% [markdown]
# Each model gives the name that is most probable after these words.

# %%
texts = [" ".join(to_words(tale.text)) for tale in train_tales]
for n in (2, 4, 6):
    prob = NGramModel(texts, n).prob
    right = [name == max(names, key=lambda x: prob(x, past)) for past, name in returns]
    print(f"n = {n}: {sum(right) / len(right):.0%} of {len(returns)} returns are right")
print(f"guessing one of {len(names)} names: {1 / len(names):.0%}")

# %% [markdown]
# They do about as well as guessing: 2 % are only five names.
# Only the earlier mention tells which name it is, and it is nearly always farther back than they see.
# Longer runs of words would reach it, but hardly ever occur twice.
#
# ![Four rows of words, each from one mention of Leo to the next: 45, 25, 13 and 7 words. The five words before the next Leo, the ones a model with n = 6 sees, are coloured. In no row do they reach back to the earlier Leo.](figures/how-far-ngrams-see.svg)
#
# *The tale's four returns: the name is always farther back than $n = 6$ sees.*
#
# What can see farther back?
# The simplest way to use *all* earlier words is to average their vectors.
# But an average forgets the order, and each word becomes only a small part of it.

# %%
vectors = dict(zip(["dog", "bites", "man"], torch.randn(3, 4, generator=generator)))


def average(text):
    """Return the mean vector of the words of a text."""
    return torch.stack([vectors[word] for word in text.split()]).mean(dim=0)


# %%
same = torch.allclose(average("dog bites man"), average("man bites dog"))
before = words[: places[-1]]
print(f"dog bites man and man bites dog have the same average: {same}")
print(f"{hero} is {before.count(hero) / len(before):.0%} of the words so far")

# %% [markdown]
# Who bites whom is lost, and the hero is only a small part of the mixture.
# An n-gram knows the order but sees only a few words; an average sees everything but blurs it.
# We want an average whose weights are *chosen* at every position, by what the words are and where they are.
# That is **{term}`attention`**; when a text looks at itself, as here, it is **self-attention**.
#
# ## By hand
#
# Here are three tokens.
# Each has a **{term}`key <query, key, value>`** by which it is found, and a **value** that it hands over.
# The third token asks with the **query** $q = \sqrt 2\,(\ln 2, \ln 4)$.
#
# | token | key $k$ | value $v$ | score $q \cdot k / \sqrt 2$ | exponential $e^{\text{score}}$ | weight |
# |---|---|---|---|---|---|
# | 1 | $(1, 0)$ | 7 | $\ln 2$ | 2 | 2/7 |
# | 2 | $(0, 1)$ | 14 | $\ln 4$ | 4 | 4/7 |
# | 3 | $(0, 0)$ | 0 | 0 | 1 | 1/7 |
#
# A score says how well a key fits the query.
# It is their dot product, divided by the square root of the vectors' width, $\sqrt 2$ (exercise 2 asks why).
# The **{term}`softmax`** turns the scores into shares: their exponentials, divided by the sum.
# Token 3 gathers the values in these shares: $\frac27 \cdot 7 + \frac47 \cdot 14 + \frac17 \cdot 0 = 10$.
#
# ![From top to bottom: the query of token 3 goes to three keys, (1, 0), (0, 1) and (0, 0). Bars below them show the weights 2/7, 4/7 and 1/7. Arrows of these widths carry the values 7, 14 and 0 into one box, 10.](figures/attention-by-hand.svg)
#
# *Keys decide the shares; values are what is shared out.
# The width of an arrow is its weight.*
#
# If token 2 asks with the same query, it sees only itself and token 1, because the third hasn't been written yet.
# Its shares are 2/6 and 4/6, and it gathers $\frac26 \cdot 7 + \frac46 \cdot 14 = 11\frac23$.
# The first token sees only itself, so it gathers its own value, 7.

# %%
query = 2**0.5 * torch.tensor([2.0, 4.0]).log().expand(3, 2)  # all ask the same
key = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
value = torch.tensor([[7.0], [14.0], [0.0]])
mask = attention.causal_mask(3, 3)
context, weights = attention.naive_attention(query, key, value, mask)
print("gathered:", [round(number, 1) for number in context[:, 0].tolist()])

# %% tags=["remove-cell"]
assert_close(weights[2], torch.tensor([2.0, 4.0, 1.0]) / 7)
assert_close(context[:, 0], torch.tensor([7.0, 35 / 3, 10.0]))

# %% [markdown]
# The package agrees.
# The **{term}`causal mask`** keeps each query from seeing keys after its own position.
#
# ![A table: the three rows are the tokens that ask, the three columns the tokens they look at. The weights fill a triangle: 1; 2/6 and 4/6; 2/7, 4/7 and 1/7. The cells above the diagonal are grey and 0. Arrows lead from the rows to the gathered values: 7, 11⅔ and 10.](figures/causal-triangle.svg)
#
# *One row for each token that asks, all with the same query.
# Each row sums to 1, and the mask leaves a triangle.*
#
# ## The idea
#
# An attention layer reads one vector $x_t$ of $D$ numbers for each of $T$ positions.
# It has $H$ **{term}`heads <attention head>`**.
# Each head has three matrices of its own, which turn every position's vector into a query, a key and a value:
#
# $$
# q_t = R_t W_Q\, x_t, \qquad
# k_s = R_s W_K\, x_s, \qquad
# v_s = W_V\, x_s.
# $$
#
# $R_t$ encodes the position.
# It rotates pairs of coordinates by angles proportional to $t$.
# If query and key both rotate, only the difference of their positions counts: $(R_t q) \cdot (R_s k) = q \cdot (R_{s-t}\, k)$.
# This is **{term}`RoPE`**, rotary position embedding; exercise 3 derives the formula.
#
# At position $t$ the head gathers the context $c_t$, a mixture of the values up to there:
#
# $$
# s_{ts} = \frac{q_t \cdot k_s}{\sqrt{d}}, \qquad
# a_{ts} = \frac{e^{s_{ts}}}{\sum_{r \le t} e^{s_{tr}}}, \qquad
# c_t = \sum_{s \le t} a_{ts} v_s.
# $$
#
# (The letter $s$ with two indices is a score; as an index it is the position being looked at.)
# Another matrix, $W_O$, mixes what all the heads gathered into one vector of $D$ numbers: $W_O \left[c_t^1, \dots, c_t^H\right]$.
# The model adds this vector to $x_t$.
#
# | Symbol | Meaning | Shape | Name in code |
# |---|---|---|---|
# | $T$, $S$ | how many positions ask, and how many are looked at; here the same | – | in comments |
# | $x$ | what the layer reads | $T \times D$ | `x` |
# | $q, k, v$ | query, key, value of a head | $T \times d$ | `query`, `key`, `value` |
# | $s$, $a$ | scores and weights of a head | $T \times T$ | `scores`, `weights` |
# | $c$ | what a head gathers | $T \times d$ | `context` |
# | $H$, $d$ | heads, and the width of one, $d = D / H$ | – | `n_heads`, `d_head` |
# | $W_Q, W_K, W_V$ | matrices of a head, stored one above the other | $d \times D$ | `query.weight`, … |
# | $W_O$ | mixes what all heads gathered | $D \times D$ | `output.weight` |
#
# There may be fewer key-value heads than query heads, $K < H$: then each serves $H / K$ of them.
#
# ## In code
#
# ### One head
#
# Here are the formulas, line by line.
# First come the scores, for any number of leading dimensions, such as the $B$ sequences of a batch.


# %%
def attention_scores(query, key):
    """Return how well each key fits each query, (..., T, S)."""
    return query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5


# %% [markdown]
# Then comes the mask.
# Keys in the future get the score $-\infty$, whose exponential is 0.


# %%
def hide_future(scores):
    """Return the scores, with those of later keys at minus infinity."""
    future = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
    return scores.masked_fill(future, -torch.inf)


# %% [markdown]
# Last come the weights and the mixture of values.
# The cell below runs a batch of two sequences and prints the weights of the first.


# %%
def attend(query, key, value):
    """Return the contexts (..., T, d) and the weights (..., T, S)."""
    weights = hide_future(attention_scores(query, key)).softmax(dim=-1)
    return weights @ value, weights


query, key, value = torch.randn(3, 2, 4, 6, generator=generator)  # (B, T, d) each
context, weights = attend(query, key, value)
for row in weights[0]:
    print("  ".join(f"{weight:.2f}" for weight in row))

# %% tags=["hide-input"]
mask = attention.causal_mask(4, 4)
assert_close((context, weights), attention.naive_attention(query, key, value, mask))
assert_close(context, scaled_dot_product_attention(query, key, value, is_causal=True))

# %% [markdown]
# Row $t$ holds the weights that position $t$ gives to each position: they are zero for later ones, and sum to one.
# The package and torch give the same result, as the folded cell checks.
#
# ### What the table costs
#
# The scores are a table of $T \times T$ numbers for each head and sequence.
# How much memory is that, at four bytes a number?

# %%
for n in (1024, 8192, 131_072):
    print(f"{n:7,} tokens: {4 * n * n / 2**20:9,.0f} MiB for one head")

# %% [markdown]
# Eight times the length takes 64 times the memory.
# At the longest lengths in use, no machine has room for the tables of all heads.
# **{term}`FlashAttention`** computes the same contexts tile by tile, a small piece of the table at a time, and never holds the whole table {cite:p}`dao2022`.
# Torch's `scaled_dot_product_attention` does so where the hardware can.
# [The context window](context_window.ipynb) implements the tiles.
#
# ### Several heads, and fewer keys
#
# One head has one softmax, so it looks for one thing at a time.
# A layer therefore has several heads side by side, each with a slice of the width: **{term}`multi-head attention`**.
# Splitting and merging only move numbers around.


# %%
def split_heads(x, d_head):
    """Return (B, T, H · d) as (B, H, T, d)."""
    return x.unflatten(-1, (-1, d_head)).transpose(1, 2)


def merge_heads(x):
    """Return (B, H, T, d) as (B, T, H · d)."""
    return x.transpose(1, 2).flatten(-2)


# %% [markdown]
# In **{term}`grouped-query attention`** several query heads share the keys and values of one head.
# Here six query heads share two key-value heads, so only a third as many keys and values are computed and, later, kept.
#
# ![Six boxes of queries in two groups of three. From each group an arrow goes to one key and one value: queries 1 to 3 share key 1 and value 1, queries 4 to 6 share key 2 and value 2.](figures/shared-keys.svg)
#
# *Three query heads ask the same keys and mix the same values.*


# %%
def project(layer, x):
    """Return the queries (B, H, T, d), and keys and values (B, K, T, d)."""
    parts = layer.query, layer.key, layer.value
    return [split_heads(part(x), layer.d_head) for part in parts]


def repeat_kv(heads, n_heads):
    """Return key or value heads, each once for every query head that it serves."""
    return heads.repeat_interleave(n_heads // heads.shape[1], dim=1)


# %% [markdown]
# With these functions a whole layer takes four lines.
# (`TINY` is the package's smallest set of sizes; `replace` copies it with some of them changed.)
# Our layer borrows the matrices of one of the package's layers, so the two must give the same result.


# %%
def grouped_query_attention(layer, x):
    """Return what a layer adds to each position of x, (B, T, D)."""
    query, key, value = project(layer, x)
    key, value = (repeat_kv(heads, query.shape[1]) for heads in (key, value))
    context, _ = attend(query, key, value)
    return layer.output(merge_heads(context))


# %%
config = replace(TINY, d_model=48, n_heads=6, n_kv_heads=2)
model = Transformer(config, generator)
layer = model.blocks[0].attention
x = torch.randn(2, 5, 48, generator=generator)
for name, weight in layer.named_parameters():
    print(f"{name:14}", tuple(weight.shape))

# %% tags=["hide-input"]
assert_close(grouped_query_attention(layer, x), layer(x))

# %% [markdown]
# The matrices have 48 rows for the queries, and 16 each for the keys and the values.
# With $K = H$ this is multi-head attention; with $K = 1$ it is called multi-query attention.
#
# ### Positions
#
# The layer above left out $R_t$, the rotations.
# Without them only the mask tells positions apart: a query doesn't know the order of the tokens before it.
# Swap the first two tokens, and the last one still gathers the same thing.

# %%
swapped = x[:, [1, 0, 2, 3, 4]]
one, two = (grouped_query_attention(layer, each)[:, -1] for each in (x, swapped))
print("the last position gathers the same:", torch.allclose(one, two, atol=1e-6))

# %% [markdown]
# So one layer cannot tell the order by itself; several layers can learn much of it from the mask, but more slowly ([The transformer](transformer.ipynb)).
# Most models therefore get a **{term}`positional encoding`**; the usual one today is RoPE.
# It rotates the pair of coordinates $i$ and $i + d/2$, counted from 0, of every query and key by the angle $t \cdot 10{,}000^{-2i/d}$.
# The first pairs turn fast and tell nearby positions apart; the last turn slowly.


# %%
def apply_rope(x, at):
    """Return vectors (..., T, d), turned by the angles of their positions, (T,)."""
    first, second = x.chunk(2, dim=-1)
    half = first.shape[-1]
    angles = torch.outer(at, 10_000.0 ** (-torch.arange(half) / half))  # (T, d / 2)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


# %% tags=["hide-input"]
heads = torch.randn(3, 6, 8, generator=generator)
tables = positions.rope_tables(6, d_head=8)
assert_close(apply_rope(heads, torch.arange(6)), positions.apply_rope(heads, *tables))

# %% [markdown]
# The next cell puts the same query and the same key at each of six positions.
# What does the score depend on?

# %%
query, key = torch.randn(2, 1, 8, generator=generator).expand(2, 6, 8)
at = torch.arange(6)
scores = apply_rope(query, at) @ apply_rope(key, at).T
print("distance   pairs   score   largest difference")
for distance in range(6):
    same = scores.diagonal(-distance)  # (0 + distance, 0), (1 + distance, 1), ...
    difference = same.max() - same.min()
    print(f"{distance:8} {len(same):7} {same[0]:7.2f} {difference:20.2f}")

# %% tags=["remove-cell"]
for distance in range(6):
    same = scores.diagonal(-distance)
    assert_close(same, same[:1].expand(len(same)))

# %% [markdown]
# It's one query and one key, yet the score changes with the distance between them, and with nothing else.
# So a head can learn *the token before me*, wherever it is.
#
# ![Three circles with two arrows each, key and query, turned by their positions. With the key at 0 and the query at 1, and with the key at 3 and the query at 4, the angle between the arrows is the same, and so is the score, −0.13. With the key at 0 and the query at 3, the angle is wider and the score is −0.85.](figures/rotary-turns.svg)
#
# *One pair of coordinates of another query and key, both of length 1, turned by one radian for each position.
# From the first circle to the second both arrows turn, and the angle between them stays the same.*
#
# There are other ways.
# GPT-2 adds a *learned* vector for each position to the embedding {cite:p}`radford2019`, and the first transformer added fixed vectors of sines and cosines, *sinusoidal* positions {cite:p}`vaswani2017`.
# **{term}`ALiBi`** subtracts from each score a penalty that grows with the distance {cite:p}`press2022`.
# The next cells put one query and one key three places apart, all along a text of forty tokens.
# How much does their score vary with the place?

# %%
pair = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(1))
query, key = pair.expand(2, 40, 8)
at = torch.arange(40)

# %% [markdown]
# The sinusoidal vectors hold the sines and cosines of RoPE's angles.

# %%
cos, sin = positions.rope_tables(40, d_head=8)
waves = torch.stack((sin, cos), dim=-1).flatten(-2)  # (T, d)
print("one vector for each position:", tuple(waves.shape))

# %% [markdown]
# For each of the three, we score every query with every key, and print how much those at a distance of three vary.

# %%
scores = {
    "sinusoidal": (query + waves) @ (key + waves).T,
    "RoPE": apply_rope(query, at) @ apply_rope(key, at).T,
    "ALiBi": query @ key.T - (at[:, None] - at) / 2,  # half a point per token
}
for name, each in scores.items():
    same = each.diagonal(-3)  # the query three places after the key
    print(f"{name:10} varies by {same.max() - same.min():.2f}")

# %% [markdown]
# With RoPE and ALiBi the same two vectors at the same distance have the same score everywhere.
# Sines and cosines are added before the product, so the place itself also counts.
#
# ### QK-norm: queries and keys of one size
#
# With large scores, a head looks at only one position and then hardly learns: all its weights are near 0 or 1, where the softmax hardly changes.
# Queries and keys can grow in training until that happens.
# **{term}`QK-norm`** scales every query and key to one size before the scores are computed {cite:p}`henry2020`; Gemma 3 and Qwen3 do so {cite:p}`gemma2025,yang2025`.


# %%
def qk_norm(query, key):
    """Return both, each vector divided by the root of its mean square."""
    return [rms_norm(x, x.shape[-1:]) for x in (query, key)]


# %% [markdown]
# We make a hundred queries and keys one, three and ten times as long, and look at the greatest weight, averaged over the queries.

# %%
query, key = torch.randn(2, 100, 64, generator=generator)
print("length   greatest weight   with QK-norm")
for size in (1, 3, 10):
    long_query, long_key = size * query, size * key
    weights = attention_scores(long_query, long_key).softmax(dim=-1)
    normed = attention_scores(*qk_norm(long_query, long_key)).softmax(dim=-1)
    plain_top, normed_top = (each.amax(dim=-1).mean() for each in (weights, normed))
    print(f"× {size:<6} {plain_top:15.2f} {normed_top:14.2f}")

# %% tags=["remove-cell"]
assert plain_top > 0.9 and normed_top < 0.2

# %% [markdown]
# However long the queries and keys are, once normed they give the same weights.
# A learned weight for each coordinate lets the model sharpen its attention again, as far as that helps.
#
# ### Nobody sees the future
#
# A model that predicts the next token must not see it.
# The next two cells test a whole three-layer model of the package from the outside.
# The first one lets it read nine tokens.

# %%
reader = Transformer(replace(TINY, n_layers=3, n_kv_heads=2), generator)
ids = torch.randint(TINY.vocab_size, (1, 9), generator=generator)
with torch.no_grad():
    logits = reader(ids)
print("logits:", tuple(logits.shape))

# %% [markdown]
# The second one changes each of the tokens in turn, and marks the positions whose logits move.

# %%
moved = []
for t in range(9):
    changed = ids.clone()
    changed[0, t] = (ids[0, t] + 1) % TINY.vocab_size
    with torch.no_grad():
        difference = (reader(changed) - logits)[0].abs().amax(dim=-1)
    moved.append((difference > 1e-6).tolist())
    print("".join("■" if each else "·" for each in moved[t]), f" token {t + 1} changed")

# %% tags=["remove-cell"]
assert moved == [[False] * t + [True] * (9 - t) for t in range(9)]

# %% [markdown]
# Whichever token is changed, all positions from there on move, and none before it.
# So one pass over a text of $T$ tokens gives $T$ honest predictions at once, which makes training cheap.
#
# ### A key-value cache
#
# The mask also makes writing cheap.
# What a position has computed never changes as the text goes on, so its keys and values can be kept.
# That is the **{term}`key-value cache`**.
#
# ![The words Once upon a time, read one after the other, in two staircases. With the cache, each step reads one new word, and the earlier ones are kept: four tokens are read. Without it, each step reads all words again: ten tokens.](figures/key-value-cache.svg)
#
# *Each row writes one more token.
# With the cache a step reads one token and looks back at the stored keys and values.*
#
# The cache of a layer is a pair of tensors, to which every new position adds a key and a value.
# Keys are rotated before they are stored.
# There is nothing to mask: the new position is the last, so all keys belong to its past.


# %%
def read_one(layer, x, cache):
    """Return what a layer adds to one new position (B, 1, D), and the longer cache."""
    query, key, value = project(layer, x)
    old_keys, old_values = cache
    at = torch.tensor([old_keys.shape[2]])  # as many positions were read before
    keys = torch.cat((old_keys, apply_rope(key, at)), dim=2)  # (B, K, S, d)
    values = torch.cat((old_values, value), dim=2)
    query = apply_rope(query, at)
    n_heads = query.shape[1]
    weights = attention_scores(query, repeat_kv(keys, n_heads)).softmax(dim=-1)
    context = weights @ repeat_kv(values, n_heads)  # (B, H, 1, d)
    return layer.output(merge_heads(context)), (keys, values)


# %% [markdown]
# Five positions, read one by one, must give what the layer gives when it reads all five at once.

# %%
empty = torch.zeros(2, 2, 0, 8)  # (B, K, S, d), with no position yet
cache, added = (empty, empty), []
for t in range(5):
    row, cache = read_one(layer, x[:, t : t + 1], cache)
    added.append(row)
    print(f"after position {t}: keys {tuple(cache[0].shape)}")

# %% [markdown]
# The package's `KVCache` reserves room for all positions at the start, and then fills it.
# The folded cell compares both: the same keys, the same values, and the same result as without a cache.

# %% tags=["hide-input"]
rotation = model.rotary(slice(0, 5))
assert_close(torch.cat(added, dim=1), layer(x, rotation))
sizes = {"n_layers": 1, "batch_size": 2, "n_kv_heads": 2, "capacity": 5, "d_head": 8}
theirs = attention.KVCache(**sizes)
assert_close(layer(x, rotation, theirs), layer(x, rotation))
assert_close(cache, (theirs.keys[0], theirs.values[0]))
print("equal to the package's cache, and to reading all at once")

# %% [markdown]
# What does a cache save, and what does it take?
# The next cell counts the arithmetic of a whole model writing a hundred tokens: with the cache, and rereading everything for each token.

# %%
flops = [costs.forward_flops_per_token(reader.config, t) for t in range(1, 101)]
without_cache = sum(t * flops_at for t, flops_at in enumerate(flops, start=1))
print(f"the cache saves {1 - sum(flops) / without_cache:.0%} of the arithmetic")
kib = costs.kv_cache_bytes(reader.config, 100) / 2**10
print(f"and takes {kib:.0f} KiB for 100 positions")

# %% [markdown]
# The cache saves nearly all of the arithmetic of writing, in exchange for memory that grows with every token.
# [The context window](context_window.ipynb) works out what the cache of large models costs.
#
# ## Experiment
#
# ### What the heads of a trained model look at
#
# Back to the tales.
# A tale states its facts once, near the beginning, and comes back to them: the hero's name, the colour of a coat, the coat itself.
# Which heads of `base-llm`, the longer-trained model in [The whole pipeline, once](pipeline.ipynb), look at them?
# (It is one model from one training run; another may divide the work differently.)
# The next cells read forty of the new tales and collect the weights that each head gives to four kinds of keys:
#
# - *the hero's name*: its earlier mentions,
# - *a colour*: earlier occurrences of the same colour,
# - *a garment*: earlier occurrences of the same garment,
# - *the token before*, from every position.
#
# (The ids in `colours` and `garments` are collected a few cells below; `name` is the id of the hero's name.)
# For the first three, the head looks from the place right before such a word, if the word has occurred earlier.
# A head's score for a kind is the average weight that it gives to these keys.


# %%
def kinds_of_keys(ids, name):
    """Return which keys each query would look at, (T, S), for each kind."""
    coming = torch.cat((ids[1:], torch.tensor([-1])))  # nothing comes after the end
    copies = (coming[:, None] == ids).tril()  # the key is the token that comes next
    words = {"the hero's name": name, "a colour": colours, "a garment": garments}
    kinds = {kind: copies & torch.isin(coming, x)[:, None] for kind, x in words.items()}
    places = torch.arange(len(ids))
    return kinds | {"the token before": places[:, None] - places == 1}


# %%
def head_scores(model, rows):
    """Return the mean weight of each head on the keys of each kind, (L, H)."""
    collected = {}
    for ids, name in rows:
        weights = attention_weights(model, ids)  # (L, H, T, S)
        for kind, keys in kinds_of_keys(ids, name).items():
            places = keys.any(dim=-1)  # where a query looks for this kind
            on_keys = (weights * keys).sum(dim=-1)[..., places]  # (L, H, places)
            collected.setdefault(kind, []).append(on_keys)
    return {
        kind: torch.cat(each, dim=-1).mean(dim=-1) for kind, each in collected.items()
    }


# %% [markdown]
# How many heads does the model have?

# %%
base_llm, tokenizer = load_pretrained("base-llm")
n_heads = base_llm.config.n_heads
end = tokenizer.special_tokens["<|endoftext|>"]
print(f"{base_llm.config.n_layers} layers of {n_heads} heads")

# %% [markdown]
# The model reads tokens, so each name, colour and garment is turned into an id, that of its first token.


# %%
def first_ids(words):
    """Return the id of the first token of each word, sorted by word."""
    return torch.tensor([tokenizer.encode(" " + word)[0] for word in sorted(words)])


candidates = first_ids({tale.facts["hero"] for tale in train_tales})
colours = first_ids({tale.facts["shade"] for tale in train_tales})
garments = first_ids({tale.facts["garment"] for tale in train_tales})
print(f"{len(candidates)} names, {len(colours)} colours, {len(garments)} garments")

# %% [markdown]
# The forty tales become ids as well, each paired with the id of its hero's name.

# %%
texts = [torch.tensor([end, *tokenizer.encode(tale.text)]) for tale in new_tales[:40]]
heroes = [first_ids([tale.facts["hero"]]) for tale in new_tales[:40]]
rows = list(zip(texts, heroes))
print(f"the first tale has {len(texts[0])} tokens")

# %% [markdown]
# Every head gets a score for each of the four kinds.

# %%
kinds = head_scores(base_llm, rows)
print(f"{len(kinds)} kinds of keys; layers, heads: {tuple(kinds['a colour'].shape)}")

# %% [markdown]
# Here are the two best heads for each kind, with the median of all heads.

# %% tags=["hide-input"]
print("kind of key        best head              second-best head       median")
for kind, scores in kinds.items():
    flat = scores.flatten()
    print(f"{kind:16}", end="   ")
    for i in flat.topk(2).indices.tolist():
        print(
            f"layer {i // n_heads + 1}, head {i % n_heads + 1}: {flat[i]:3.0%}",
            end="   ",
        )
    print(f"{scores.median():6.0%}")

# %% tags=["remove-cell"]
for kind, scores in kinds.items():
    assert kind == "the token before" or scores.max() > 0.5 > 5 * scores.median()
assert kinds["the token before"].max() < 0.3

# %% [markdown]
# For names, colours and garments there are heads that give most of their weight to the word that is needed.
# The median head gives it almost none, while one of these heads is first or second for all three.
# To look at the token before, a head needs nothing but RoPE.
# Yet the last line shows that no head of this model puts much of its weight there.
#
# The explorer shows the weights of single heads.
# It opens where the hero of a new tale is about to be named again, with the head that looks most at such names.
# Move the token that the head looks from.
# Then choose *a garment*, where head 7 is slightly ahead, or *the token before*, where other heads are best.
# (`■` is the mark before the story.)

# %%
pieces = []
for row in texts[:2]:
    pieces.append(["■ "] + [tokenizer.decode([i]) for i in row[1:64].tolist()])
weights = [attention_weights(base_llm, row[:64]) for row in texts[:2]]
returns_at = int((texts[0] == rows[0][1]).nonzero()[1])
AttentionExplorer(pieces, weights, kinds, query=returns_at)

# %% [markdown]
# *Question*: look from other places with the head that finds names.
# What does it look at where no name comes next?
#
# :::{dropdown} Answer
# It can't look at nothing, because its weights must sum to one.
# So it mostly spreads them over many tokens.
# Near the beginning much of the weight is on the mark `■`.
# At some places nearly all of it is on a token just before, which this chapter does not explain.
# Where a name or another word of the story might come next, it looks that word up, whether it comes or not.
# The next section is about that mark.
# :::
#
# The next explorer does the same for a sentence of your own, and measures the heads' scores for each kind of key there.
# One sentence isn't much to judge a head by.
#
# :::{div} llmcourse-sentence by-attention
# On the course's site, `base-llm` reads a sentence of yours here, and shows what each head looks at.
# It begins with *Long ago there was a kind little boy named Walter, who lived above the bakery with his musical mother. He mostly wore a faded blue cardigan and liked painting. Nearly every day Walter put on his blue cardigan*.
# :::
#
# The heads for names seem to search by kind, as in *the hero's name, please*: the word before would be little help.

# %%
helped = []
for past, name in returns:
    words_before = {before for before, word in pairwise(past) if word == name}
    helped.append(past[-1] in words_before)
print(f"of {len(returns)} returns of a name {sum(helped) / len(helped):.0%}", end=" ")
print("follow a word that also came before an earlier mention")

# %% [markdown]
# (A garment mostly returns after its colour, so its heads may search by kind or by the word before; the scores above can't tell which.)
#
# ### Attention sinks: where spare weight goes
#
# A head with nothing to look for must still give away a weight of one.
# In many large models it gives most of that weight to the first token, whatever that is: an **{term}`attention sink`** {cite:p}`xiao2024`.
# If that token is dropped from the cache to save room, the model's predictions fall apart.
# In gpt-oss a learned number in each head's softmax takes up the spare weight instead {cite:p}`openai2025`.
#
# Does `base-llm` have sinks?
# The next cells take each head's weight on the first token, the mark, from places 5 to 32 and from all later ones.
# An even share is what a head that treats all tokens alike would give.

# %%
on_first = [attention_weights(base_llm, row)[..., 0] for row in texts]  # (L, H, T)
print("layers, heads and tokens of the first tale:", tuple(on_first[0].shape))

# %% [markdown]
# We average these weights over the places and over the tales; `even` is the even share.

# %%
parts = {"from places 5 to 32": slice(4, 32), "later": slice(32, None)}
sinks, even = {}, {}
for name, part in parts.items():
    sinks[name] = torch.stack([x[..., part].mean(dim=-1) for x in on_first]).mean(dim=0)
    shares = [(1 / torch.arange(1, len(row) + 1))[part].mean() for row in texts]
    even[name] = sum(shares) / len(shares)

# %% tags=["hide-input"]
print("weight on the first token   even share   median head   highest head")
for name, by_head in sinks.items():
    print(f"{name:25} {even[name]:12.1%}", end=" ")
    print(f"{by_head.median():13.1%} {by_head.max():14.1%}")

# %% tags=["remove-cell"]
assert sinks["later"].max() < 0.2 and sinks["later"].median() > 0.015
assert sinks["from places 5 to 32"].max() > 0.3

# %% [markdown]
# After the 32nd token no head gives the first one much of its weight, so this model has no sink in this sense.
# Near the beginning, where there is little else to look at, some heads give the mark a large part of their weight.
# Even later, at least half of the heads lean towards the mark: the median is about twice the even share, though still small.
# [Real models](real_models.ipynb) finds sinks in a model of 30 layers, and heads that copy.
#
# ### What was built in, and what was learned
#
# Half of what the heads for names do was built in.
# A head has two halves: $W_Q$ and $W_K$ decide *where* it looks, $W_V$ and $W_O$ what it hands on.
# `mimetic_initialisation` in the module `transformer` gave each head of the last layer its second half before the first step of training.
# There the rows of $W_V$ are at right angles, and $W_O = W_V^\top$.
# So the part of the found vector that lies along these rows is added, larger but otherwise *as it is*, to the vector of the position that asks.
# (The idea of beginning with such products is from {cite:t}`trockman2023`, who give this one the opposite sign.)
# [Pretraining](pretraining.ipynb) gives a likely reason why it helps: each half gains little without the other, so neither is learned early.
#
# ![Two halves of a head. Where it looks, by queries and keys: learned. What it hands on, by values and output: built in before training, in the last layer. An arrow leads from a text with the name Leo through both halves to the prediction Leo.](figures/two-halves-of-a-head.svg)
#
# *Queries and keys find the place; values and output hand on what is there.*
#
# Both halves can be measured, before training and after it, because the recipe fixes the initial weights.
# *Looks* is the mean weight on the hero's name, as above, now over ten tales.
# *Hands on* gives a head the bare embedding of a name, and compares its output with the embeddings of all names.
# It is the share of names for which the most similar one is the name itself.
# (`attention_norm` and `norm` scale vectors to one size before they are read; [The transformer](transformer.ipynb) explains them.)


# %%
@torch.no_grad()
def handed_on(model, ids):
    """Return the share of tokens that come out as they went in, (L, H)."""
    table = model.embedding.weight[ids]  # (tokens, D)
    by_head = (n_heads, -1)
    shares = []
    for block in model.blocks:
        layer = block.attention
        value = layer.value(block.attention_norm(table)).unflatten(-1, by_head)
        matrix = layer.output.weight.unflatten(-1, by_head)  # (D, H, d)
        written = torch.einsum("nhd, ehd -> hne", value, matrix)  # (H, tokens, D)
        nearest = (model.norm(written) @ table.T).argmax(dim=-1)  # (H, tokens)
        shares.append((nearest == torch.arange(len(ids))).float().mean(dim=-1))
    return torch.stack(shares)


# %%
models = BASE_LLM.new_model(), base_llm  # before training and after it
looks = [head_scores(each, rows[:10])["the hero's name"] for each in models]
hands = [handed_on(each, candidates) for each in models]
most = [each.max() for each in looks]
print(f"most weight of a head on the name: {most[0]:.0%} before, {most[1]:.0%} after")

# %% [markdown]
# Here are both for each layer, averaged over its heads.

# %% tags=["hide-input"]
print("            looks              hands on")
print("layer   before   after      before   after")
for i in range(len(base_llm.blocks)):
    before, after = (part[i].mean() for part in looks)
    print(f"{i + 1:5} {before:8.0%} {after:7.0%}", end="")
    before, after = (part[i].mean() for part in hands)
    print(f" {before:11.0%} {after:7.0%}")

# %% tags=["remove-cell"]
assert hands[0][-1].min() > 0.9 and looks[0].max() < 0.1 < 0.3 < looks[1][-1].mean()
assert hands[1][-1].mean() < 0.9 * hands[0][-1].mean()

# %% [markdown]
# Before training, every head of the last layer hands on every name so that it can be recognised; that was built in.
# But these heads look at the name no more than other heads do, which is hardly at all.
# Training taught them to look, and kept only part of what was built in: the last layer's heads now hand on fewer names, on average.
# (The measure uses bare embeddings, which isn't quite what reaches the last layer.)
#
# ### Taking heads away
#
# A head that looks at a name need not be the one that writes it.
# To find out, take it away: that is an **{term}`ablation`**.
# The first function below silences some heads by setting to zero the columns of $W_O$ that read what they gathered.
# The second measures how often the right name beats those of all other heroes where the hero returns, and does the same for colours.
# (The names of friends come from another list and don't compete.)
# Names that begin a text or a quotation are left out: without a space before them they are different tokens.


# %%
def silence(model, heads):
    """Let the heads, pairs of layer and number, add nothing; in place."""
    for layer, head in heads:
        matrix = model.blocks[layer].attention.output.weight
        matrix.data.unflatten(-1, (n_heads, -1))[:, head] = 0


# %%
@torch.no_grad()
def recalled(silenced):
    """Return the shares of names and of colours that come back right, in percent."""
    model, _ = load_pretrained("base-llm")
    silence(model, silenced)
    choices = {"the hero's name": candidates, "a colour": colours}
    right = {kind: [] for kind in choices}
    for ids, name in rows[:30]:
        logits = model(ids[None])[0]
        kinds = kinds_of_keys(ids, name)
        for kind, words in choices.items():
            at = kinds[kind].any(dim=-1).nonzero()[:, 0]  # where such a word comes next
            best = words[logits[at][:, words].argmax(dim=-1)]
            right[kind] += (best == ids[at + 1]).tolist()
    return {kind: 100 * sum(each) / len(each) for kind, each in right.items()}


# %% [markdown]
# A *name head* is one that gives the hero's name more than a fifth of its weight.
# All of them are in the last layer.
# For comparison, we draw as many other heads from all layers and silence them, three times.

# %%
on_names = kinds["the hero's name"].flatten()
order = on_names.argsort(descending=True).tolist()
name_heads = [divmod(i, n_heads) for i in order if on_names[i] > 0.2]
others = [divmod(i, n_heads) for i in order if on_names[i] <= 0.2]
draws = [torch.randperm(len(others), generator=generator) for _ in range(3)]
drawn = [[others[i] for i in draw[: len(name_heads)].tolist()] for draw in draws]
print(f"{len(name_heads)} of {len(order)} heads are name heads")

# %% tags=["remove-cell"]
assert {layer for layer, _ in name_heads} == {len(base_llm.blocks) - 1}

# %% [markdown]
# *Predict*: what does the model forget without the one head that looks most at names, and what without all name heads?
#
# :::{dropdown} Answer
# Without the best name head no name is lost in our run: the others, which look at the name anyway, are enough.
# Without all name heads no name comes back.
# :::

# %%
of_draws = [recalled(heads) for heads in drawn]
mean = {kind: sum(each[kind] for each in of_draws) / 3 for kind in of_draws[0]}
right = {
    "all heads": recalled([]),
    "without the best name head": recalled(name_heads[:1]),
    "without all name heads": recalled(name_heads),
    "without as many others": mean,
}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels of four bars: how often the model gets a return of the hero's name, or of a colour, right. With all heads, and without the best name head, 100 % of both are right. With all name heads removed, hardly a name or a colour is right. With as many other heads removed, nearly all are."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 1.9), sharey=True)
for ax, kind in zip(axes, right["all heads"]):
    shares = {name: each[kind] for name, each in right.items()}
    plotting.plot_bars(ax, shares, f"{kind}, right (%)", 0)
axes[0].invert_yaxis()  # the panels share the axis, and each call inverted it
of_names = [each["the hero's name"] for each in right.values()]
assert min(of_names[:2]) > 80 and of_names[2] < 35 and of_names[2] < of_names[3] - 20
assert right["without all name heads"]["a colour"] < 35

# %% [markdown]
# *How often the right name or colour beats all others where it returns, in thirty tales; the last bar is the mean of three draws.*
#
# In these tales the model brings back every name, which none of the three n-gram models could do.
# (It has read far more tales than they have, but more tales wouldn't let them see farther back.)
# One head can be spared; all name heads together cannot.
# Silencing as many others costs almost nothing: a few heads do the looking up.
# (But nearly all of these others are in lower layers; the last layer has only two other heads to compare with.)
# So if you take away a single head and nothing happens, don't conclude that it does nothing.
#
# Now look at the third bar of the right panel.
# Colours fall there nearly as far as names, so the same heads bring back both.
# "Name head" is our word for what we measured, not for everything that such a head does.
#
# ## Takeaways
#
# - Attention is an average of the past whose weights are chosen at every position, by how well keys fit the query.
# - The mask keeps the future out.
#   So one pass gives as many honest predictions as there are tokens, and keys and values can be cached.
# - Several heads look for several things, and heads that share keys make the cache smaller.
#   RoPE tells a head how far away a token is, and nothing else.
# - In this model heads can replace each other.
#   To find out what they are for, take them away, singly and together, and compare with as many others.
#
# *In practice* most large models today use rotary positions {cite:p}`su2021`, and grouped queries {cite:p}`ainslie2023,grattafiori2024` or {term}`multi-head latent attention`.
# Their attention is computed in tiles, with FlashAttention {cite:p}`dao2022` or a successor.
# Many add QK-norm, and a program that drops old tokens from the cache can keep the first few as sinks {cite:p}`xiao2024`.
# [The context window](context_window.ipynb) is about shorter caches, windows and states of fixed size.

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("attention")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (check): who may look ★
#
# With a key-value cache there may be fewer queries than keys: the queries are at the last few of the keys' positions.
# Write the mask for this case, True where a query may look.
#
# ```python
# def cached_mask(n_queries: int, n_keys: int) -> Tensor:  # (T, S), of bool
# ```
#
# Before you write it, say how many of the ten entries for two queries and five keys are True.
# Check it with `checks.cached_mask(cached_mask)`.
# Then suppose that a mask lets every query see one key too many, the one right after it.
# What would the chapter's changed-token test show for a three-layer model?


# %% tags=["hide-cell", "solution"]
def cached_mask(n_queries, n_keys):
    query_at = torch.arange(n_keys - n_queries, n_keys)
    return torch.arange(n_keys) <= query_at[:, None]


checks.cached_mask(cached_mask)
print(cached_mask(2, 5).sum(dim=1).tolist(), "keys for the first and the second query")
# The marks would begin three places before the changed token: what it changes reaches
# one position farther back in every layer.

# %% [markdown]
# ### Exercise 2 (build): one head from its matrices ★★
#
# Write a whole attention head, from the vectors and its three matrices to what each position gathers.
# Use no functions from the chapter or the package.
#
# ```python
# def attention_head(x, w_query, w_key, w_value):  # (T, D), three times (D, d_head)
#     return context  # (T, d_head)
# ```
#
# Check it with `checks.attention_head(attention_head)`.
# Then work out what the division by $\sqrt{d}$ is for.
# Let $q$ and $k$ have independent coordinates of mean 0 and variance 1, and derive the variance of $q \cdot k$.
# Then draw random queries and keys, and leave out the division.
# How large is the greatest of a hundred weights, on average, when $d$ is 4, and when it is 256?


# %% tags=["hide-cell", "solution"]
def attention_head(x, w_query, w_key, w_value):
    query, key, value = x @ w_query, x @ w_key, x @ w_value
    scores = query @ key.T / w_query.shape[1] ** 0.5
    may_look = torch.ones(len(x), len(x)).tril().bool()
    return scores.where(may_look, -torch.inf).softmax(dim=-1) @ value


checks.attention_head(attention_head)
# q · k is a sum of d products, each of mean 0 and variance 1: its variance is d.
for d in (4, 256):
    query, key = torch.randn(2, 100, d, generator=generator)
    scores = query @ key.T
    plain, divided = (
        each.softmax(dim=-1).amax(dim=-1).mean() for each in (scores, scores / d**0.5)
    )
    print(f"d = {d:3}: greatest weight {plain:.1f} plain, {divided:.1f} divided")
# Undivided, wide heads look at one of a hundred positions only, by chance.

# %% [markdown]
# ### Exercise 3 (derive): a score without positions ★★
#
# RoPE rotates query and key, but only the difference counts.
# Show it for one pair of coordinates, by writing $q$ and $k$ as complex numbers whose product $\operatorname{Re}(q \bar k)$ is the dot product.
# Then write a function for the dot product of a query and a key after RoPE.
# It is given the two vectors and their distance in tokens, not their positions.
# Leave out the division by $\sqrt d$.
#
# ```python
# def rope_score(query, key, distance):  # (d_head,) each; 1: the key is right before
# ```
#
# Check it with `checks.rope_score(rope_score)`.
# If a head is to look at the token before, for which distance must its score be high?
# Could a head find the last mention of a name in this way?


# %% tags=["hide-cell", "solution"]
def rope_score(query, key, distance):
    half = len(query) // 2
    angles = distance * 10_000.0 ** (-torch.arange(half) / half)
    query, key = (torch.complex(x[:half], x[half:]) for x in (query, key))
    turned = query * torch.polar(torch.ones(half), angles)
    return (turned * key.conj()).real.sum()


checks.rope_score(rope_score)
# (q e^(i t w)) times the conjugate of (k e^(i s w)) is q k̄ e^(i (t - s) w).
# For distance 1. The name may be any distance away, so a head has to find it by what
# the query and the key say, not by place.

# %% [markdown]
# ### Exercise 4 (build): a layer that reads in pieces ★★★
#
# `read_one` reads one position.
# A service reads a long prompt in pieces of many positions, and then writes tokens one by one.
# Write a layer that takes any number of new positions.
#
# ```python
# def read_piece(layer, x, cache=None):  # (B, T, D), keys and values so far
#     return added, cache  # (B, T, D), the longer keys and values
# ```
#
# Check it yourself: cut the chapter's `x` into pieces of 2, 1 and 2 positions, and compare with `layer(x, model.rotary(slice(0, 5)))`; `model.rotary` gives the cosines and sines of those positions.
# Then leave the mask out: which positions still come out right, and why?
# Expect 15 to 25 lines with the test.


# %% tags=["hide-cell", "solution"]
def read_piece(layer, x, cache=None, mask=True):
    query, key, value = project(layer, x)
    n_read = 0 if cache is None else cache[0].shape[2]
    at = torch.arange(n_read, n_read + x.shape[1])
    query, key = apply_rope(query, at), apply_rope(key, at)
    if cache is not None:
        key = torch.cat((cache[0], key), dim=2)
        value = torch.cat((cache[1], value), dim=2)
    keys, values = (repeat_kv(heads, query.shape[1]) for heads in (key, value))
    scores = attention_scores(query, keys)
    if mask:
        may_look = cached_mask(x.shape[1], key.shape[2])
        scores = scores.masked_fill(~may_look, -torch.inf)
    context = scores.softmax(dim=-1) @ values
    return layer.output(merge_heads(context)), (key, value)


def read_pieces(mask):
    cache, added = None, []
    for piece in x.split([2, 1, 2], dim=1):
        row, cache = read_piece(layer, piece, cache, mask)
        added.append(row)
    return torch.cat(added, dim=1)


whole = layer(x, model.rotary(slice(0, 5)))
assert_close(read_pieces(mask=True), whole)
wrong = (read_pieces(mask=False) - whole).abs().amax(dim=(0, 2)) > 1e-6
print("without the mask, wrong at:", wrong.nonzero()[:, 0].tolist())
# The last position of each piece is right: all keys so far are its past. A piece of one
# position needs no mask. Earlier positions of a piece see those after them.

# %% [markdown]
# ### Exercise 5 (explore): heads for garments ★★
#
# Which heads bring back garments?
# Rank all heads by their score for *a garment*, and silence the best one, then the best two, four and eight.
# Measure how often the right garment beats all other garments where one returns.
# Compare with as many heads drawn from the rest.
# What does your result say about heads that can replace each other?


# %% tags=["hide-cell", "solution"]
@torch.no_grad()
def garments_right(silent):
    model, _ = load_pretrained("base-llm")
    silence(model, silent)
    right = []
    for ids, name in rows[:15]:
        at = kinds_of_keys(ids, name)["a garment"].any(dim=-1).nonzero()[:, 0]
        best = garments[model(ids[None])[0][at][:, garments].argmax(-1)]
        right += (best == ids[at + 1]).tolist()
    return sum(right) / len(right)


ranked = kinds["a garment"].flatten().argsort(descending=True).tolist()
print("silenced   the best heads   other heads")
for n in (0, 1, 2, 4, 8):
    drawn = 8 + torch.randperm(len(ranked) - 8, generator=generator)[:n]
    rest = [ranked[i] for i in drawn.tolist()]
    shares = [
        garments_right([divmod(i, n_heads) for i in heads])
        for heads in (ranked[:n], rest)
    ]
    best, other = ("most right" if share > 0.5 else "few right" for share in shares)
    print(f"{n:8}   {best:14}   {other}")
# Even without four of the best heads most garments come back, for more heads than that
# look at garments. "Most" hides how many are lost: print the shares, and silence one head
# after the other to find where it breaks. Repeat the draw of other heads: one draw is one
# number. And the best eight are the whole last layer, so all other heads are in lower
# layers: this does not compare heads of one layer.

# %% [markdown]
# ## Sources
#
# - Scaled dot-product attention, several heads, sinusoidal positions: {cite:t}`vaswani2017`; computed in tiles: {cite:t}`dao2022`.
# - Shared keys, one head for all: {cite:t}`shazeer2019`; one for each group: {cite:t}`ainslie2023`; RoPE: {cite:t}`su2021`; ALiBi: {cite:t}`press2022`; QK-norm: {cite:t}`henry2020`.
# - Sinks: {cite:t}`xiao2024`; a start with such products, of the opposite sign: {cite:t}`trockman2023`.
