# %% [markdown]
# (transformer)=
# # The transformer
#
# A transformer lets every token look back at all tokens before it, choose which of them matter, and fetch what they hold; two layers of this are enough to bring back a word from far away.
#
# **You will be able to**
#
# - compute attention by hand, and write it in a few lines,
# - say what each part is for: heads, positions, norms, feed-forward network, residual stream, cache,
# - assemble from these parts a model of the shape of GPT-2, or of Llama, the family of Meta's that many others are modelled on, and count its parameters and its arithmetic,
# - follow what one layer writes and a later one reads, as in completing `A B … A`, which takes two layers of attention,
# - find out what a model's parts do, or do wrong: change a token or take a head away, and see what moves.
#
# **You need** Python and a little torch (a matrix product, `softmax`, `backward`), and the chapters {doc}`pipeline`, {doc}`tokenization` and {doc}`embeddings`.
#
# **Runs in** about a minute on two CPU cores.

# %% [markdown]
# ## Setup

# %%
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from llmcourse import plotting
from llmcourse.checks import transformer as checks
from llmcourse.model import attention, costs, positions, transformer
from llmcourse.model.folders import load_pretrained
from llmcourse.model.inspection import attention_weights, hidden_states
from llmcourse.model.transformer import GPT2_SMALL, SMOLLM2_135M, TINY, Transformer
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
# Whoever predicts the next word must bring the name back, from however far.

# %%
story = next(tales.generate(1, seed=56))
hero = story.facts["hero"]
words = re.findall(r"\w+", story.text)
places = [i for i, word in enumerate(words) if word == hero]
gaps = torch.tensor(places).diff().tolist()
print(re.sub(r"(.{1,72})( |$)", r"\1\n", story.text))
print(f"{hero} returns after {', '.join(map(str, gaps))} words")
assert len(gaps) > 2 and max(gaps) > 40

# %% [markdown]
# Can the simplest predictors do it?
# An {term}`n-gram` model counts which words followed the last $n - 1$ words in its training text.
# The next cell trains three of them on two thousand tales.
# Then it goes through a hundred new tales, and wherever the hero's name comes again it asks: *here comes a name; which of all that you know is the most probable?*


# %%
def to_words(text):
    return re.findall(r"\w+|[^\w\s]", text)


told, new = list(tales.generate(2000, seed=0)), list(tales.generate(100, seed=1))
names = sorted({tale.facts["hero"] for tale in told})
texts = [" ".join(to_words(tale.text)) for tale in told]
returns = []  # of a hero: the words before, the name
for tale in new:
    row, name = to_words(tale.text), tale.facts["hero"]
    at = [i for i, word in enumerate(row) if word == name]
    returns += [(tuple(row[:i]), name) for i in at[1:]]
ngram_share = {}
for n in (2, 4, 6):
    prob = NGramModel(texts, n).prob
    right = [name == max(names, key=lambda x: prob(x, past)) for past, name in returns]
    ngram_share[n] = sum(right) / len(right)
    print(f"n = {n}: right at {ngram_share[n]:.0%} of {len(returns)} returns")
print(f"guessing one of {len(names)} names: {1 / len(names):.0%}")

# %% [markdown]
# They do no better than guessing.
# What decides is the name, and it stands farther back than they look.
# A run that is long enough to reach it would hardly ever have been seen before.
#
# ![Four rows of words, each from one mention of Leo to the next: 45, 25, 13 and 7 words. The five words before the next Leo, which a model with n = 6 sees, are coloured. In no row do they reach back to the earlier Leo.](figures/how-far-ngrams-see.svg)
#
# *The tale's four returns: the name is always farther back than $n = 6$ sees.*
#
# What sees far?
# The plainest way to use *all* words of the past is to average their vectors.
# But an average forgets the order, and everything in it becomes small.

# %%
vectors = dict(zip(["dog", "bites", "man"], torch.randn(3, 4, generator=generator)))


def average(text):
    return torch.stack([vectors[word] for word in text.split()]).mean(dim=0)


same = torch.allclose(average("dog bites man"), average("man bites dog"))
before = words[: places[-1]]
print(f"dog bites man is man bites dog: {same}")
print(f"{hero} is {before.count(hero) / len(before):.0%} of the words so far")

# %% [markdown]
# Who bites whom is lost, and the hero is a small part of a mixture of everything.
# One predictor knows the order but sees no further than its run, the other sees everything but blurs it.
# Wanted is an average whose weights are *chosen* at every place, by what the words are and where they stand.
# That is {term}`attention`.
#
# ## By hand
#
# Here are three tokens.
# Each has a *key* by which it is found and a *value* that it hands over.
# The third asks with the *query* $q = \sqrt 2\,(\ln 2, \ln 4)$.
#
# | token | key $k$ | value $v$ | score $q \cdot k / \sqrt 2$ | power $e^{\text{score}}$ | weight |
# |---|---|---|---|---|---|
# | 1 | $(1, 0)$ | 7 | $\ln 2$ | 2 | 2/7 |
# | 2 | $(0, 1)$ | 14 | $\ln 4$ | 4 | 4/7 |
# | 3 | $(0, 0)$ | 0 | 0 | 1 | 1/7 |
#
# A score says how well a key fits the query: their dot product, divided by the root of the vectors' width, $\sqrt 2$ (exercise 2 asks why).
# The {term}`softmax` makes shares of the scores: their exponentials, divided by the sum.
# What token 3 gathers is the values in these shares: $\frac27 \cdot 7 + \frac47 \cdot 14 + \frac17 \cdot 0 = 10$.
#
# ![From top to bottom: the query of token 3 goes to three keys, (1, 0), (0, 1) and (0, 0). Bars below them are the weights 2/7, 4/7 and 1/7. The values 7, 14 and 0 flow by arrows of these widths into one box, 10.](figures/attention-by-hand.svg)
#
# *Keys decide the shares, values are what is shared out.
# The width of an arrow is its weight.*
#
# If token 2 asks with the same query, it sees only itself and token 1, for the third is not written yet.
# Its shares are 2/6 and 4/6, and it gathers $\frac26 \cdot 7 + \frac46 \cdot 14 = 11\frac23$.

# %%
query = 2**0.5 * torch.tensor([2.0, 4.0]).log().expand(3, 2)  # all ask the same
key = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
value = torch.tensor([[7.0], [14.0], [0.0]])
mask = attention.causal_mask(3, 3)
context, weights = attention.naive_attention(query, key, value, mask)
assert_close(weights[2], torch.tensor([2.0, 4.0, 1.0]) / 7)
assert_close(context[:, 0], torch.tensor([7.0, 35 / 3, 10.0]))
print("gathered:", [round(x, 2) for x in context[:, 0].tolist()])

# %% [markdown]
# The first token sees itself alone, so it gathers its own value, 7.
#
# ![A table of three rows, who asks, and three columns, who is looked at. The weights fill a triangle: 1; 2/6 and 4/6; 2/7, 4/7 and 1/7. The cells above the diagonal are grey and 0. Arrows lead from the rows to what is gathered: 7, 11⅔ and 10.](figures/causal-triangle.svg)
#
# *A row for each token that asks, all with the same query.
# Each row sums to 1, and the mask leaves a triangle.*
#
# ## The idea
#
# A transformer keeps one vector $h_t$ of $D$ numbers for each position $t$: the {term}`residual stream`.
# It begins as the {term}`embedding` of the token and passes through $L$ layers, called blocks.
# Each block adds to it twice: first what attention gathers from other positions, then what a small network makes of the result.
#
# $$
# h_t \leftarrow h_t + W_O \left[c_t^1, \dots, c_t^H\right],
# \qquad
# h_t \leftarrow h_t + \operatorname{ffn}(\operatorname{norm}(h_t)).
# $$
#
# **Attention.**
# Each of $H$ {term}`heads <attention head>` has matrices of its own, with which it makes a query, a key and a value of every position.
# At position $t$ it gathers $c_t$, a mixture of the values up to there:
#
# $$
# q_t = R_t W_Q \operatorname{norm}(h_t), \quad
# k_s = R_s W_K \operatorname{norm}(h_s), \quad
# v_s = W_V \operatorname{norm}(h_s),
# $$
#
# $$
# s_{ts} = \frac{q_t \cdot k_s}{\sqrt{d}}, \qquad
# a_{ts} = \frac{e^{s_{ts}}}{\sum_{r \le t} e^{s_{tr}}}, \qquad
# c_t = \sum_{s \le t} a_{ts} v_s.
# $$
#
# **Positions.**
# $R_t$ turns pairs of coordinates by angles in proportion to $t$.
# Turning both sides leaves only the difference: $(R_t q) \cdot (R_s k) = q \cdot (R_{s-t}\, k)$.
# This is rotary position embedding, {term}`RoPE`.
#
# **Norm and network.**
# Before it is read, every vector is brought to one size, and the network works on each position by itself:
#
# $$
# \operatorname{norm}(h) = g \odot \frac{h}{\sqrt{\frac1D \sum_i h_i^2 + \varepsilon}},
# \qquad
# \operatorname{ffn}(x) = W_\text{down} \left(\operatorname{silu}(W_\text{gate}\, x) \odot W_\text{up}\, x\right),
# $$
#
# with learned weights $g$, a small $\varepsilon$, $\operatorname{silu}(y) = y / (1 + e^{-y})$, a smooth switch, and $\odot$ for coordinate by coordinate.
# This norm is called RMSNorm, this network SwiGLU, and that each part reads a normalised stream is called pre-norm.
#
# **Logits.**
# At the end the vector of each position is compared with the embedding of each of $V$ tokens: $z_t = E \operatorname{norm}(h_t)$ are the {term}`logits`, and their softmax is the distribution of the next token.
#
# | Symbol | Meaning | Shape | Name in code |
# |---|---|---|---|
# | $E$ | embedding of all tokens, read and scored with | $V \times D$ | `embedding.weight` |
# | $h_1, \dots, h_T$ | residual stream | $T \times D$ | `x`, `hidden_states` |
# | $q, k, v$ | query, key, value of a head | $T \times d$ | `query`, `key`, `value` |
# | $s$, $a$ | scores, and weights, of a head | $T \times T$ | `scores`, `weights` |
# | $c$ | what a head gathers | $T \times d$ | `context` |
# | $H$, $d$ | heads, and the width of one, $d = D / H$ | – | `n_heads`, `d_head` |
# | $W_Q, W_K, W_V$ | matrices of a head, stored one above the other | $d \times D$ | `query.weight`, … |
# | $W_O$ | mixes what all heads gathered | $D \times D$ | `output.weight` |
# | $\operatorname{ffn}$ | feed-forward network, `d_ff` wide inside | from $D$ to $D$ | `feed_forward` |
# | $z$ | scores of the next token | $T \times V$ | `logits` |
#
# There may be fewer key-value heads than query heads, $K < H$: then each serves $H / K$ of them.
#
# ## In code
#
# ### One head
#
# The formulas, line by line.
# What lies in the future gets the score $-\infty$, whose exponential is 0.


# %%
def attend(query, key, value):
    """Return what each position gathers, and the weights; nobody sees the future."""
    n = len(query)
    scores = query @ key.T / query.shape[-1] ** 0.5  # (T, T)
    future = torch.ones(n, n, dtype=torch.bool).triu(diagonal=1)
    weights = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
    return weights @ value, weights


query, key, value = torch.randn(3, 4, 6, generator=generator)
context, weights = attend(query, key, value)
mask = attention.causal_mask(4, 4)
assert_close((context, weights), attention.naive_attention(query, key, value, mask))
rows = [each[None] for each in (query, key, value)]  # torch wants a batch
assert_close(context, scaled_dot_product_attention(*rows, is_causal=True)[0])
for row in weights:
    print("  ".join(f"{weight:.2f}" for weight in row))

# %% [markdown]
# Row $t$ holds the shares with which position $t$ looks at each position: zeros after itself, and a sum of one.
# The package and torch give the same.
# Torch's function has ways to do so without ever writing this table down as a whole, which long texts need.
#
# ### Several heads, and fewer keys
#
# One head has one softmax, so it can look for one thing at a time.
# A layer therefore has several heads side by side, each with a slice of the width.
# In {term}`grouped-query attention` several query heads share the keys and values of one head: here six query heads share two key-value heads, so there is a third of the keys and values to keep.
#
# ![Six boxes of queries in two groups of three. From each group an arrow goes to one key and one value: queries 1 to 3 share key 1 and value 1, queries 4 to 6 share key 2 and value 2.](figures/shared-keys.svg)
#
# *Three query heads ask the same keys, and mix the same values.*


# %%
def gather(layer, x, turn=lambda heads: heads):
    """Return what an attention layer adds to each position of x, (T, D)."""
    query, key, value = (
        part(x).unflatten(-1, (-1, layer.d_head)).transpose(0, 1)
        for part in (layer.query, layer.key, layer.value)
    )  # (H, T, d_head), (K, T, d_head) twice
    query, key = turn(query), turn(key)
    group = len(query) // len(key)  # query heads that share a key-value head
    triples = ((q, key[h // group], value[h // group]) for h, q in enumerate(query))
    contexts = [attend(*triple)[0] for triple in triples]
    return layer.output(torch.cat(contexts, dim=-1))


config = replace(TINY, d_model=48, n_heads=6, n_kv_heads=2)
layer = Transformer(config, generator).blocks[0].attention
x = torch.randn(5, 48, generator=generator)
assert_close(gather(layer, x), layer(x[None])[0])
for name, weight in layer.named_parameters():
    print(f"{name:14}", tuple(weight.shape))

# %% [markdown]
# The matrices have 48 rows for the queries, and 16 for the keys and for the values.
#
# ### Positions
#
# Nothing so far knows where a token stands: let two earlier tokens change places, and the sum is the same.
# RoPE turns the pair of coordinates $i$ and $i + d/2$ of every query and key by the angle $t \cdot 10{,}000^{-2i/d}$.
# As a complex number, a pair is turned by one multiplication.
# The cell also puts one and the same query and key at all of six positions, and shows what the score depends on.


# %%
def turn(x, base=10_000.0):
    """Return vectors, each turned by angles that grow with its position."""
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half) / half)
    angles = torch.outer(torch.arange(x.shape[-2]), frequencies)  # (T, half)
    pairs = torch.complex(x[..., :half], x[..., half:])
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), dim=-1)


tables = positions.rope_tables(6, d_head=8)
x = torch.randn(3, 6, 8, generator=generator)
assert_close(turn(x), positions.apply_rope(x, *tables))
query, key = torch.randn(2, 1, 8, generator=generator).expand(2, 6, 8)
scores = turn(query) @ turn(key).T
for distance in range(6):
    same = scores.diagonal(-distance)  # (0 + distance, 0), (1 + distance, 1), ...
    assert_close(same, same[:1].expand(len(same)))
    print(f"distance {distance}: {len(same)} pairs, one score: {same[0]:5.2f}")

# %% [markdown]
# One query and one key, and yet the score changes with the distance between them, and with nothing else.
# So a head can learn *the token before me*, wherever it stands.
#
# ![Three circles with two arrows each, key and query, turned by their positions. With the key at 0 and the query at 1, and with the key at 3 and the query at 4, the angle between the arrows is the same, and so is the score, −0.13. With the key at 0 and the query at 3 the angle is wider and the score −0.85.](figures/rotary-turns.svg)
#
# *One pair of coordinates of another query and key, both of length 1, turned by one radian for each position.
# From the first circle to the second both arrows turn, and the angle between them stays.*
#
# ### What happens to each position by itself
#
# That is a norm, and the {term}`feed-forward network`.
# The norm forgets the length of a vector: a thousand times the vector gives the same.


# %%
def rms_norm(x, weight, eps=1e-5):
    return weight * x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()


def think(network, x):
    gate = network.gate(x)
    return network.down(gate * torch.sigmoid(gate) * network.up(x))


x, weight = torch.randn(2, 5, 24, generator=generator)
ours, theirs = transformer.RMSNorm(24), torch.nn.RMSNorm(24, eps=1e-5)
ours.weight.data, theirs.weight.data = weight[0], weight[0]
for other in (ours(x), theirs(x), ours(1000 * x)):
    assert_close(rms_norm(x, weight[0]), other, atol=1e-4, rtol=1e-4)
assert_close(transformer.LayerNorm(24)(x), torch.nn.LayerNorm(24)(x))
model = Transformer(replace(TINY, d_model=24, d_ff=64), generator)
network = model.blocks[0].feed_forward
assert_close(think(network, x), network(x))
print("up", tuple(network.up.weight.shape), "down", tuple(network.down.weight.shape))

# %% [markdown]
# The network widens each vector, decides coordinate by coordinate what to keep, and brings the result back to the width of the stream.
#
# ![A small box x of 24 numbers leads by two matrices, gate and up, to two tall boxes of 64. What the gate gives passes a switch; then the two are multiplied, coordinate by coordinate, to 64 numbers, and the matrix down makes 24 of them.](figures/feed-forward-gate.svg)
#
# *The upper way opens or closes each of the 64 coordinates that the lower way computes.*
#
# GPT-2's LayerNorm also subtracts the mean; an exercise below derives it from the norm above.
#
# ### All of it
#
# ![A blue arrow goes up: the residual stream. Two loops leave it and come back: through a norm and attention, and above that through a norm and a feed-forward network. Where a loop comes back, a plus adds what it brings to the stream.](figures/transformer-block.svg)
#
# *A block: two parts read the stream, and add to it. Nothing else changes it.*
#
# Now the parts are joined, in the order of the formulas.
# The cell takes the weights of a model of the package, with random numbers in them, and must arrive at the same stream after every block, and at the same logits.


# %%
def read(model, ids):
    """Return the logits and the residual stream of a model of Llama's shape."""
    x = model.embedding.weight[ids]  # (T, D)
    stream = [x]
    for block in model.blocks:
        seen = rms_norm(x, block.attention_norm.weight)
        x = x + gather(block.attention, seen, turn)
        seen = rms_norm(x, block.feed_forward_norm.weight)
        x = x + think(block.feed_forward, seen)
        stream.append(x)
    logits = rms_norm(x, model.norm.weight) @ model.embedding.weight.T
    return logits, torch.stack(stream)


model = Transformer(replace(TINY, n_layers=3, n_kv_heads=2), generator)
ids = torch.randint(TINY.vocab_size, (9,), generator=generator)
logits, stream = read(model, ids)
assert_close(stream, hidden_states(model, ids))
assert_close(logits, model(ids[None])[0])
print("stream", tuple(stream.shape), "logits", tuple(logits.shape))

# %% [markdown]
# Four states of the stream, one before each block and one after the last, and at each of nine positions a score for all 512 tokens.
#
# ![From below: 9 tokens, the embedding E of 512 by 64, blocks 1 to 3, a norm, the embedding again, and logits of shape (9, 512). Dashed lines leave the stream before each of the three blocks and after the last: together the stream of shape (4, 9, 64).](figures/whole-model.svg)
#
# *The whole model: where the four states are taken, and with which shapes.*
#
# This is the whole architecture of Llama.
# (Its large versions score the next token with a second matrix instead of the embedding: `tied_embeddings=False`.)
#
# ### GPT-2 by a change of the config
#
# GPT-2 is older and differs in its parts, not in its plan.
# It has LayerNorm for RMSNorm and, in place of RoPE, a learned vector for each position, added at the start.
# Its network has two matrices with a {term}`GELU` between them, and everything has biases.
# Two entries of the config, the family and the width of the network, make the package's model a GPT-2.
# Torch has a layer of this shape, so it can be asked for a second opinion: with the same weights, both must give the same.

# %%
gpt2 = Transformer(replace(TINY, family="gpt2", d_ff=256), generator)
block = gpt2.blocks[0]
sizes = {"d_model": 64, "nhead": 4, "dim_feedforward": 256, "dropout": 0}
order = {"norm_first": True, "batch_first": True, "activation": torch.nn.GELU("tanh")}
theirs = torch.nn.TransformerEncoderLayer(**sizes, **order)
parts = [block.attention.query, block.attention.key, block.attention.value]
theirs.self_attn.in_proj_weight.data = torch.cat([part.weight.data for part in parts])
theirs.self_attn.in_proj_bias.data = torch.cat([part.bias.data for part in parts])
theirs.self_attn.out_proj.load_state_dict(block.attention.output.state_dict())
theirs.linear1.load_state_dict(block.feed_forward.up.state_dict())
theirs.linear2.load_state_dict(block.feed_forward.down.state_dict())
x, future = torch.randn(2, 7, 64, generator=generator), ~attention.causal_mask(7, 7)
assert_close(block(x), theirs(x, src_mask=future), atol=1e-5, rtol=1e-4)
for part, n in costs.parameter_counts(gpt2.config).items():
    print(f"{part:13}{n:7,}")

# %% [markdown]
# They agree, and the count of its parameters shows the one part that Llama's shape does not have: the positions.
#
# ### Nobody sees the future
#
# A model that is to predict the next token must not see it.
# The {term}`causal mask` is there to ensure that, and the next cell checks the whole model from outside.
# It changes one token of nine, each in turn, and marks the positions whose logits move.
#
# That nobody sees the future makes writing cheap.
# What a position has computed is never changed by what is appended, so its keys and values can be kept: that is the {term}`key-value cache`.
#
# ![The words Once upon a time, read one after the other, in two staircases. With the cache each step reads one new word, and those before it are kept: four tokens are read. Without it each step reads all words again: ten tokens.](figures/key-value-cache.svg)
#
# *Each row writes one token more.
# With the cache a step reads one token and looks back at the keys and values that were kept.*
#
# The cell also feeds a model one token at a time, each read once, and gets the logits of the whole.
# Then it counts the arithmetic of writing a hundred tokens, with the cache and by reading everything again for each.

# %%
before = model(ids[None])[0]
for t in range(len(ids)):
    changed = ids.clone()
    changed[t] = (ids[t] + 1) % TINY.vocab_size
    moved = (model(changed[None])[0] - before).abs().amax(dim=-1) > 1e-6
    assert moved.tolist() == [False] * t + [True] * (len(ids) - t)
    print("".join("■" if each else "·" for each in moved), f" token {t + 1} changed")

cache = model.new_cache()
pieces = [model(ids[None, t : t + 1], cache)[0] for t in range(len(ids))]
assert_close(torch.cat(pieces), before)
flops = [costs.forward_flops_per_token(model.config, t) for t in range(1, 101)]
again = sum(t * flops_at for t, flops_at in enumerate(flops, start=1))
print(f"the cache spares {1 - sum(flops) / again:.0%} of the arithmetic")
print(f"and takes {cache.n_bytes / 2**10:.0f} KiB for {cache.capacity} positions")
assert cache.n_bytes == costs.kv_cache_bytes(model.config, cache.capacity)

# %% [markdown]
# Whatever is changed, all positions from there on move, and none before.
# So one pass over a text of $T$ tokens is $T$ honest predictions at once, which is what makes training cheap; and nearly all of the arithmetic of writing is spared, for some memory.
#
# ### What it costs
#
# All sizes are known, so all costs are, too.
# First the parameters: where do they sit?
# Nothing is downloaded for the large models, for the config is enough.
# (`base-llm` is this book's own model; {doc}`pipeline` trains a smaller one.)

# %%
base_llm, tokenizer = load_pretrained("base-llm")
end = tokenizer.special_tokens["<|endoftext|>"]
table = {
    "TINY": TINY,
    "base-llm": base_llm.config,
    "GPT-2 small": GPT2_SMALL,
    "SmolLM2-135M": SMOLLM2_135M,
}
counts = [costs.parameter_counts(config) for config in table.values()]
print(f"{'':13}", *(f"{name:>13}" for name in table))
print(f"{'parameters':13}", *(f"{sum(each.values()):13,}" for each in counts))
for part in ("embedding", "positions", "attention", "feed_forward", "norms"):
    shares = [each.get(part, 0) / sum(each.values()) for each in counts]
    print(f"{part:13}", *(f"{share:13.1%}" for share in shares))
    assert part != "embedding" or all(1 / 5 < share < 1 / 3 for share in shares)
assert all(1.5 < each["feed_forward"] / each["attention"] < 3.1 for each in counts)
for model in (Transformer(TINY), base_llm):
    n = sum(weight.numel() for weight in model.parameters())
    assert n == costs.n_parameters(model.config)

# %% [markdown]
# The embedding is between a fifth and a third of each: larger models were given larger vocabularies.
# In the blocks the network has one and a half to three times as many parameters as attention, and norms hardly count.
#
# Then the arithmetic.
# Each weight of a matrix is used once for each token, in one multiplication and one addition.
# Each pair of positions costs $2d$ operations in the scores and as many in the mixture, in every head.
# Such operations are called FLOPs, and all pairs are counted, although the mask hides almost half of them.
# Torch counts what it carries out, and must find the same number, in both families.


# %%
def counted(model, n):
    """Return the FLOPs of reading n tokens, as torch counts them."""
    counter, kernels = FlopCounterMode(display=False), torch.nn.attention
    with torch.no_grad(), kernels.sdpa_kernel(kernels.SDPBackend.MATH), counter:
        model(torch.zeros(1, n, dtype=torch.long))
    return counter.get_total_flops()


for model in (Transformer(TINY), base_llm, gpt2):
    for n in (5, 100):
        closed = n * costs.forward_flops_per_token(model.config, n)
        assert counted(model, n) == closed
for n in (128, 1024, 8192):
    flops = costs.forward_flops_per_token(SMOLLM2_135M, n)
    per_weight = flops / costs.n_parameters(SMOLLM2_135M)
    print(f"SmolLM2-135M, {n:4} tokens: {per_weight:.1f} FLOPs per parameter and token")
assert 6.1 < per_weight < 6.3

# %% [markdown]
# Two operations for each parameter and token is the rule of thumb, and it holds while texts are short.
# The pairs of positions grow with the length, and at the full context of this model they cost about twice as much as all of its matrices.
#
# ## Experiment
#
# ### A task that only a good memory can solve
#
# Which parts does it take to bring something back?
# Here is that task and nothing else.
# Every sequence has a secret rule of its own: which of eight letters follows which.
# Now and then there is a jump to a random letter, so counting places does not help.
# Whoever has seen `A B` in this sequence will expect `B` after the next `A`; no knowledge from other sequences helps.

# %%
N_LETTERS, LENGTH = 8, 24


def walks(n, generator, jump=0.25):
    """Return n walks, and where the next letter follows from what came before."""
    after = torch.rand(n, N_LETTERS, generator=generator).argsort(dim=1)  # the rules
    ids = torch.randint(N_LETTERS, (n, LENGTH), generator=generator)
    jumps = torch.rand(n, LENGTH, generator=generator) < jump
    for t in range(1, LENGTH):
        next_letter = after.gather(1, ids[:, t - 1 : t])[:, 0]
        ids[:, t] = torch.where(jumps[:, t], ids[:, t], next_letter)
    pairs = ids[:, :-1] * N_LETTERS + ids[:, 1:]
    seen = (pairs[:, :, None] == pairs[:, None, :]).tril(-1).any(dim=-1)
    return ids, seen & ~jumps[:, 1:]


ids, known = walks(2, torch.Generator().manual_seed(7))
for row, follows in zip(ids, known):
    print(" ".join("ABCDEFGH"[i] for i in row))
    print("  " + " ".join("^" if each else " " for each in follows))

# %% [markdown]
# The marks stand below the letters that follow the rule where it was seen at work before.
# Only these are graded.
# (The loss cannot reach zero, for what was seen may have been a jump; guessing costs $\ln 8$ nats.)
#
# The models are small: two heads, 32 coordinates.
# They are the package's, and parts are taken away from outside: positions by turning everything by the angle 0, norms by passing vectors through as they are, the feed-forward network by letting it add 0, and the residual stream by *replacing* each vector where a block would add to it.


# %%
def replace_not_add(block, x, rotation, *_):
    x = block.attention(block.attention_norm(x), rotation)
    return block.feed_forward(block.feed_forward_norm(x))


def build(n_layers, without=""):
    small = replace(TINY, vocab_size=8, d_model=32, n_heads=2, n_kv_heads=2, d_ff=64)
    seed = torch.Generator().manual_seed(0)
    model = Transformer(replace(small, n_layers=n_layers), seed)
    if without == "positions":
        model.rotary.cos.fill_(1.0), model.rotary.sin.fill_(0.0)  # of the angle 0
    for block in model.blocks:
        if without == "norms":
            block.attention_norm = torch.nn.Identity()
            block.feed_forward_norm = model.norm = torch.nn.Identity()
        if without == "residual":
            block.forward = lambda *read, block=block: replace_not_add(block, *read)
        if without == "network":  # what is below infinity becomes 0
            block.feed_forward = torch.nn.Threshold(torch.inf, 0.0)
    return model


# %%
def practise(model, steps=400):
    """Train on new walks; return the losses, in nats per known letter."""
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3, (0.9, 0.98), weight_decay=0)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 30, total_iters=30)
    generator, losses = torch.Generator().manual_seed(10), []
    for _ in range(steps):
        ids, known = walks(32, generator)
        loss = cross_entropy(model(ids[:, :-1])[known], ids[:, 1:][known])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warm_up.step()
        losses.append(loss.item())
    return losses


students = {"two layers": build(2), "one layer": build(1)}
students |= {f"no {part}": build(2, part) for part in ("positions", "norms", "network")}
students |= {"six layers": build(6), "six, no residual": build(6, "residual")}

# %% [markdown]
# *Predict*: which of these solve the task, and which stay near chance?
# Is one layer enough: could a head not simply look for the earlier `A`?

# %% mystnb={"image": {"alt": "Loss over 400 steps for seven small models. All begin at chance, 2.08 nats. The model of two layers falls slowly to about 1.7, then within some fifty steps to below 0.4, and so does the one without a network, a little later. One layer, and two layers without norms, end near 1.6. Two layers without positions end a little above 1. Six layers fall first of all, to below 0.5 within 150 steps; without the residual stream they stay at chance."}}
losses = {name: practise(student) for name, student in students.items()}
final = {name: sum(each[-20:]) / 20 for name, each in losses.items()}
assert sum(losses["two layers"][100:120]) / 20 > 1.4  # and then it falls
assert final["two layers"] < 0.6 < 1.2 < min(final["one layer"], final["no norms"])
assert final["no positions"] > final["two layers"] + 0.3
assert final["no network"] < 1.0
assert final["six layers"] < 0.6 and final["six, no residual"] > 1.8
assert sum(losses["six layers"][200:220]) < sum(losses["two layers"][200:220])

fig, ax = plt.subplots(figsize=(7, 3))
for number, (name, each) in enumerate(losses.items()):
    smooth = torch.tensor(each).unfold(0, 10, 10).mean(dim=-1)
    style = plotting.LINE_STYLES[number % len(plotting.LINE_STYLES)]
    ax.plot(range(5, 400, 10), smooth, style, label=name)
ax.axhline(torch.tensor(8).log(), color="0.45", linestyle=":", label="guessing")
ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
_ = ax.set(xlabel="steps", ylabel="loss (nats per known letter)", ylim=(0, 2.3))

# %% [markdown]
# The complete model learns slowly for half of the time, and then the rest almost at once.
# Of those that lack something only one does so:
#
# - **One layer** is not enough.
#   A head that looks for the earlier `A` finds `A`, but what it needs is the letter *behind* it, and nothing at that place says that an `A` came before.
# - **Without positions** the model gets part of the way, and late.
#   No head can look for *the letter before me*; but the mask alone lets a position tell early from late, and that is worth something {cite:p}`haviv2022`.
# - **Without norms** little is learned in this time.
# - **Without the feed-forward network** it succeeds all the same.
#   Bringing back is the business of attention; in language models the network seems to hold much of what was learned about words and facts {cite:p}`geva2021`.
# - **Without the residual stream** six layers never leave chance; with it they learn the task sooner than two.
#   Each layer passes on only what it has made of a mixture, and in mixtures of mixtures positions come to look alike {cite:p}`dong2021`, which may be the reason here.
#   (Try two layers without it, with other seeds.)
#
# How do two layers do it?
# Their weights tell.
# The next cell measures how much each head looks at the letter before, and how much at the letters that stand behind earlier copies of the present one.
# The first share is a mean over all places, the second over those whose letter stood before; and a letter can count for both: in `A B A`, the `B` stands before the last `A`, and behind a copy of it.
# (The last digits of a training differ between processors, so what it prints may differ from yours; its assertions may not.)

# %% tags=["nbval-ignore-output"]
ids, known = walks(500, torch.Generator().manual_seed(3))
ids = ids[:, :-1]
weights = attention_weights(students["two layers"], ids)  # (L, B, H, T, S)
previous = weights.diagonal(-1, dim1=-2, dim2=-1).mean(dim=(1, 3))
after_copy = torch.zeros(500, LENGTH - 1, LENGTH - 1, dtype=torch.bool)
after_copy[:, :, 1:] = ids[:, :, None] == ids[:, None, :-1]
found = (weights * after_copy.tril()[:, None]).sum(dim=-1)  # (L, B, H, T)
induction = found.transpose(2, 3)[:, known].mean(dim=1)
for number, scores in enumerate(zip(previous.flatten(), induction.flatten())):
    layer, head = divmod(number, 2)
    before, after = (f"{score:4.0%}" for score in scores)
    print(f"layer {layer + 1}, head {head + 1}: {before} before, {after} behind a copy")
assert previous[0].max() > 0.5 > 2 * previous[1].max()
assert induction[1].max() > 0.6 > induction[0].max()

# %% [markdown]
# In the first layer a head looks at the letter before.
# So the vector at the place of `B` now also holds *an A came before me*.
# In the second layer the heads look from the new `A` for exactly that, land on `B`, and fetch it.
#
# ![The letters A, B, G, D, A are read, each with a line that goes up. In layer 1 an arrow goes from each letter to the next one, which notes what came before it: after A, after B, after G, after D. In layer 2 the last A asks: after A? An arrow from B, whose note fits, brings B to it, and B is predicted.](figures/induction-in-two-layers.svg)
#
# *The first layer notes at each letter what came before it.
# The second finds by this note the letter that followed the earlier `A`, and fetches it.*
#
# Heads like these, which need a head before them that looks one place back, are called {term}`induction heads <induction head>`.
# {cite:t}`olsson2022` found them in all the language models of more than one layer that they studied, and a sudden drop of the loss when they appear.
# It takes two layers, because the second looks for what the first has written.
#
# ### What the heads of a trained model look at
#
# Back to the tales.
# A tale says its facts once, near the beginning, and comes back to them: the hero's name, the colour of a coat, the coat.
# Which heads of `base-llm` look at them?
# The next two cells read the hundred tales from the beginning of this chapter, and collect the weights that each head gives to four kinds of keys.
# For the first three, the head is asked from the places where such a word comes next, and stood before:
#
# - *the hero's name*, where it stood before,
# - *a colour*, where this colour stood before,
# - *a garment*, where this garment stood before,
# - *the token before*, from everywhere.
#
# A head's score for a kind is its mean weight there.


# %%
def kinds_of(ids, name):
    """Return which keys each query would look at, (T, S), for each kind."""
    coming, places = ids.roll(-1), torch.arange(len(ids))
    coming[-1] = -1  # nothing comes after the end
    copies = (coming[:, None] == ids).tril()
    sets = {"the hero's name": name, "a colour": colours, "a garment": garments}
    kinds = {kind: copies & torch.isin(coming, x)[:, None] for kind, x in sets.items()}
    return kinds | {"the token before": places[:, None] - places == 1}


def look(model, rows):
    """Return the mean weight of each head on the keys of each kind, (L, H)."""
    found = {}
    for ids, name in rows:
        weights = attention_weights(model, ids)  # (L, H, T, S)
        for kind, keys in kinds_of(ids, name).items():
            there = (weights * keys).sum(dim=-1)[..., keys.any(dim=-1)]
            found.setdefault(kind, []).append(there)  # (L, H, places)
    return {kind: torch.cat(each, dim=-1).mean(dim=-1) for kind, each in found.items()}


# %% [markdown]
# The second cell names the best two heads of each kind, beside the median head, and shows them all in an explorer.
# It begins where the hero of a new tale is about to be named again, with the head that looks most at such names.
# Move the token from which it looks; then choose another kind of head.
# (`■` is the mark before the story.)


# %%
def first_ids(words):
    return torch.tensor([tokenizer.encode(" " + word)[0] for word in sorted(words)])


candidates, colours, garments = (
    first_ids({tale.facts[fact] for tale in told})
    for fact in ("hero", "shade", "garment")
)
texts = [torch.tensor([end, *tokenizer.encode(tale.text)]) for tale in new]
rows = [(ids, first_ids([t.facts["hero"]])) for ids, t in zip(texts, new)]
kinds, n_heads = look(base_llm, rows), base_llm.config.n_heads
for kind, scores in kinds.items():
    best = [divmod(i, n_heads) for i in scores.flatten().topk(2).indices.tolist()]
    tops = "; ".join(f"layer {i + 1}, head {j + 1} {scores[i, j]:.0%}" for i, j in best)
    print(f"{kind:16} {tops}; median {scores.median():.0%}")
    assert (scores[2].max() > 0.7) == (kind != "the token before")
pieces = [["■ ", *(tokenizer.decode([i]) for i in x[1:64].tolist())] for x in texts[:3]]
weights = [attention_weights(base_llm, ids[:64]) for ids in texts[:3]]
again = int((texts[0] == rows[0][1]).nonzero()[1])
AttentionExplorer(pieces, weights, kinds, query=again)

# %% [markdown]
# *Question*: look from other places with the head that finds names.
# What does it look at where no name comes next?
#
# The best heads of the first three kinds are all in the last layer, and give the word that is needed nearly all of their weight, while the median head gives it next to none.
# Some serve two kinds: one head is among the best for colours and for garments.
# For the token before there is no such specialist: its best head gives it less than a third.
#
# The heads for names are no induction heads: the hero's name returns behind all sorts of words, so the word before it gives no hint.
# They seem to search by kind, *the name, please*, where an induction head would search by the word before.
# (A garment mostly returns behind its colour, so for the heads that find garments this table cannot tell.)
#
# ### What was put there, and what was learned
#
# Did nobody tell these heads what to do?
# Half of it, yes.
# A head has two halves: $W_Q$ and $W_K$ decide *where* it looks, $W_V$ and $W_O$ what comes of it.
# `mimetic_initialisation` of the module `transformer` gave the second half to each head of the last layer, before the first step of training: $W_O = W_V^\top$, which adds to the stream a part of what was found, *as it is*.
# ({doc}`pretraining` shows why: each half is useless without the other, so neither is learned soon.)
#
# Both halves can be measured, before training and after it, for the recipe fixes the start, and it can be made again.
# *Looks* is the mean weight on the hero's name, as above.
# *Hands on* gives a head the bare embedding of a name, and compares what it makes of it with the embeddings of all names: for what share of the names is the most similar one that name itself?


# %%
@torch.no_grad()
def handed_on(model, ids):
    """Return the share of tokens that come out as they went in, (L, H)."""
    table, answers, parts = model.embedding.weight[ids], [], (n_heads, -1)
    for block in model.blocks:
        value = block.attention.value(block.attention_norm(table)).unflatten(-1, parts)
        matrix = block.attention.output.weight.unflatten(-1, parts)  # (D, H, d_head)
        written = torch.einsum("nhd, ehd -> hne", value, matrix)  # (H, tokens, D)
        answers.append((model.norm(written) @ table.T).argmax(dim=-1))  # (H, tokens)
    return (torch.stack(answers) == torch.arange(len(ids))).float().mean(dim=-1)


pair = BASE_LLM.new_model(), base_llm
looks = [look(each, rows[:30])["the hero's name"] for each in pair]
hands = [handed_on(each, candidates) for each in pair]
for part, (first, last) in {"looks": looks, "hands on": hands}.items():
    for layer, (old, now) in enumerate(zip(first.mean(1), last.mean(1)), start=1):
        print(f"{part:8} in layer {layer}: {old:4.0%} → {now:.0%}")
print("hands on, heads of layer 3:", *(f"{share:.0%}" for share in hands[1][2]))
assert hands[0][2].min() > 0.9 and looks[0].max() < 0.05 < 0.4 < looks[1][2].mean()

# %% [markdown]
# Before training every head of the last layer hands on every name as it is; this was put there.
# But it looks at the name no more than any other head does, that is, hardly.
# Training on text has taught it to look.
# The handing on has even become less faithful, most of all in head 4, which turned to colours and garments.
# In the first two layers heads neither look at the name nor hand it on.
#
# ![Two halves of a head in the last layer. Where it looks, by queries and keys: 2 % before training, 61 % after it; learned. What it hands on, by values and output: 100 % before, 80 % after; put there.](figures/two-halves-of-a-head.svg)
#
# *The last layer, mean of its heads, before training and after it: how much they look at the name, and how many of the names they hand on as they are.*
#
# ### Take them away
#
# A head that looks at a name need not be the one that writes it.
# To know, take it away.
# The next function silences some heads, by setting to zero the columns of $W_O$ that read what they gathered.
# Then it asks how often the right name beats all other names where the hero returns, and the right colour all other colours where a colour returns.
# The first is the question that the n-grams were asked, except that names which begin a text or a quotation are left out: without a space before them they are other tokens.
#
# Each head of the last layer counts as a *name head* or a *colour head*, whichever of the two it looks at more.


# %%
@torch.no_grad()
def recalled(silent):
    """Return the shares of names and of colours that come back right, in percent."""
    pupil, _ = load_pretrained("base-llm")
    for layer, head in silent:
        matrix = pupil.blocks[layer].attention.output.weight
        matrix.unflatten(-1, (n_heads, -1))[:, head] = 0
    right = {"the hero's name": [], "a colour": []}
    for ids, name in rows:
        logits, kinds = pupil(ids[None])[0], kinds_of(ids, name)
        for kind, of in zip(right, (candidates, colours)):
            at = kinds[kind].any(dim=-1).nonzero()[:, 0]
            right[kind] += (of[logits[at][:, of].argmax(-1)] == ids[at + 1]).tolist()
    return {kind: 100 * sum(each) / len(each) for kind, each in right.items()}


on_names, on_colours = (kinds[kind][2] for kind in ("the hero's name", "a colour"))
order = on_names.argsort(descending=True).tolist()
name_heads = [(2, head) for head in order if on_names[head] > on_colours[head]]
colour_heads = [(2, head) for head in order if (2, head) not in name_heads]

# %% [markdown]
# For comparison, as many heads of the first two layers are silenced as there are name heads.
#
# *Predict*: what is forgotten without the one head that looks most at names, without all name heads, without the colour heads?

# %% mystnb={"image": {"alt": "Two panels of six bars: how many returns of the hero's name, and of a colour, are right. With all heads it is nearly all of both, and so it is without the best name head, and with only the best name head. Without all name heads hardly a name is right, and most colours are. Without the colour heads all names are right, and hardly a colour. Without as many heads in layers 1 and 2 both lose a little."}}
drawn = torch.randperm(2 * n_heads, generator=generator)[: len(name_heads)].tolist()
silenced = {
    "all heads": [],
    "without the best name head": name_heads[:1],
    "with one name head left": name_heads[1:],
    f"without all {len(name_heads)} name heads": name_heads,
    f"without the {len(colour_heads)} colour heads": colour_heads,
    f"without {len(drawn)} in layers 1 and 2": [divmod(i, n_heads) for i in drawn],
}
right = {name: recalled(heads) for name, heads in silenced.items()}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.2), sharey=True)
for ax, kind in zip(axes, right["all heads"]):
    shares = {name: each[kind] for name, each in right.items()}
    plotting.plot_bars(ax, shares, f"{kind}, right (%)", 0)
axes[0].invert_yaxis()  # the two share it, and each has turned it over
of_names, of_colours = zip(*(each.values() for each in right.values()))
assert min(*of_names[:3], of_names[4]) > 90 > 15 > of_names[3]
assert min(of_colours[:4]) > 75 > 25 > of_colours[4]
assert 50 < of_names[5] < of_names[0] and 50 < of_colours[5] < of_colours[0]

# %% [markdown]
# The model brings back nearly every name, which no n-gram could.
# Without its name heads it is hardly better than guessing, and yet most colours are still right; without its colour heads it is the other way round.
# So the heads have divided the work by *what* they bring back, and this nobody told them.
#
# Nor is it one head for one fact.
# Without the best name head hardly a name is lost, for the others stand in; and with it alone hardly one is lost either.
# Whoever takes away a single head, and sees that nothing happens, must not conclude that it does nothing.
#
# Without as many heads of the first two layers a few of both are lost, though these look at neither.
# What the last heads search for must be written into the stream before, and that is work of the layers below.
#
# ## Takeaways
#
# - Attention is an average of the past whose weights are chosen at every place, by how well keys fit the query; the mask keeps the future out, so one pass over a text gives as many honest predictions as it has tokens.
# - Each part has a job: several heads look for several things, RoPE tells a head how far away a token is and nothing else, norms keep vectors at one size, the residual stream lets every layer add to what the others wrote, and the network works on each position by itself.
# - Completing `A B … A` takes two layers of attention: the first writes *what came before me* into each position, the second looks for it.
# - The heads of a trained model divide the work, and stand in for each other; in `base-llm` handing on was given at the start, and where to look was learned; what heads are for is found by taking them away, not by looking at their weights alone.
# - Parameters and arithmetic follow from the sizes alone: about two operations for each parameter and token, plus a part that grows with the length of the text.
#
# *In practice* the models of today are this one, larger.
# Llama has pre-norm blocks with RMSNorm, SwiGLU and RoPE {cite:p}`touvron2023`, later versions with grouped queries {cite:p}`ainslie2023,grattafiori2024`.
# The attention of long texts is computed in tiles, without ever holding the table of weights {cite:p}`dao2022`.
# Some large models replace the feed-forward network by many, of which each token uses a few {cite:p}`shazeer2017`.
# Training one of these on text is the subject of {doc}`pretraining`.

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("transformer")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (check): who may look
#
# With a key-value cache there are fewer queries than keys: the queries stand at the last of the keys' positions.
# Write the mask for this case, True where a query may look.
#
# ```python
# def cached_mask(n_queries: int, n_keys: int) -> Tensor:  # (T, S), of bool
# ```
#
# Before you write it, say how many of the ten entries for two queries and five keys are True.
# Check it with `checks.cached_mask(cached_mask)`.
# Then suppose that a mask lets every query see one key too many, the one right after it: what would the chapter's test of a changed token show for a model of three layers?


# %% tags=["hide-cell", "solution"]
def cached_mask(n_queries, n_keys):
    query_at = torch.arange(n_keys - n_queries, n_keys)
    return torch.arange(n_keys) <= query_at[:, None]


checks.cached_mask(cached_mask)
print(cached_mask(2, 5).sum(dim=1).tolist(), "keys for the first and the second query")
# The marks would begin three places before the changed token: what it changes reaches
# one position farther back in every layer.

# %% [markdown]
# ### Exercise 2 (build): one head from its matrices
#
# Write a whole attention head, from the vectors and its three matrices to what each position gathers, without a function of the package.
#
# ```python
# def attention_head(x, w_query, w_key, w_value):  # (T, D), three times (D, d_head)
#     return context  # (T, d_head)
# ```
#
# Check it with `checks.attention_head(attention_head)`.
# Then ask what the division by $\sqrt{d}$ is for: let $q$ and $k$ have independent coordinates of mean 0 and variance 1, and derive the variance of $q \cdot k$.
# Without the division, how large is the greatest of a hundred weights, on average, when $d$ is 4, and when it is 256?


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
# ### Exercise 3 (derive): LayerNorm from RMSNorm
#
# Show that RMSNorm forgets the length of a vector, that is, gives $x$ and $c\,x$ the same for $c > 0$ where $\varepsilon$ does not matter.
# Then show that LayerNorm, $(x - \bar x) / \sqrt{\operatorname{var}(x) + \varepsilon}$, is RMSNorm of a centred vector, and write it in one line with the chapter's `rms_norm`.
#
# ```python
# def layer_norm(x):  # (*, D), weight 1, bias 0, eps 1e-5
# ```
#
# Check it with `checks.layer_norm(layer_norm)`.


# %% tags=["hide-cell", "solution"]
def layer_norm(x):
    return rms_norm(x - x.mean(dim=-1, keepdim=True), weight=1.0)


checks.layer_norm(layer_norm)
# c x has the root mean square c rms(x), so the factor c cancels. The variance is the
# mean square of the centred vector: dividing by its root is what RMSNorm does.

# %% [markdown]
# ### Exercise 4 (derive): a score without positions
#
# RoPE turns both, but only the difference counts.
# Show it for one pair of coordinates, by writing $q$ and $k$ as complex numbers whose product $\operatorname{Re}(q \bar k)$ is the dot product.
# Then write the dot product of a query and a key after RoPE, from how many tokens they are apart, without ever asking where they stand (and without the division by $\sqrt d$).
#
# ```python
# def rope_score(query, key, distance):  # (d_head,), (d_head,), the key that far behind
# ```
#
# Check it with `checks.rope_score(rope_score)`.
# Two layers complete `A B … A`: for which distance must the score of the head in the first layer be high, and why can no distance serve the head in the second?


# %% tags=["hide-cell", "solution"]
def rope_score(query, key, distance):
    half = len(query) // 2
    angles = distance * 10_000.0 ** (-torch.arange(half) / half)
    query, key = (torch.complex(x[:half], x[half:]) for x in (query, key))
    turned = query * torch.polar(torch.ones(half), angles)
    return (turned * key.conj()).real.sum()


checks.rope_score(rope_score)
# (q e^(i t w)) times the conjugate of (k e^(i s w)) is q k̄ e^(i (t - s) w).
# The first looks one place back. The earlier A may be any distance away, so the second
# has to search by what the first has written, not by place.

# %% [markdown]
# ### Exercise 5 (build): count the parameters
#
# Write the number of parameters of a model of Llama's shape, in closed form, from `vocab_size`, `d_model`, `n_layers`, `n_heads`, `n_kv_heads`, `d_head`, `d_ff` and `tied_embeddings` of its config.
#
# ```python
# def parameter_count(config) -> int:
# ```
#
# Check it with `checks.parameter_count(parameter_count)`.
# How many would SmolLM2-135M have without grouped queries?
# And about how many operations does it need for one more token of a short text, with a cache?


# %% tags=["hide-cell", "solution"]
def parameter_count(config):
    width, heads = config.d_model, config.n_heads * config.d_head
    shared = config.n_kv_heads * config.d_head
    per_block = 2 * width * (heads + shared) + 3 * width * config.d_ff + 2 * width
    tables = 1 if config.tied_embeddings else 2
    return tables * config.vocab_size * width + config.n_layers * per_block + width


checks.parameter_count(parameter_count)
full = parameter_count(replace(SMOLLM2_135M, n_kv_heads=SMOLLM2_135M.n_heads))
print(f"{parameter_count(SMOLLM2_135M):,} with shared keys, {full:,} without")
# Two for each parameter: about 0.27 billion. What the earlier tokens need was spent before.

# %% [markdown]
# ### Exercise 6 (build): write with a cache
#
# Write $n$ tokens, one after the other, each the most probable one, and let the model read every token only once.
# `model.new_cache()` gives an empty cache, and `model(ids, cache)` reads the ids of shape (1, T) that are not in it yet.
#
# ```python
# def write_with_cache(model, ids, n) -> list[int]:  # ids (T,), returns the n new ids
# ```
#
# Check it with `checks.write_with_cache(write_with_cache)`.
# What does `base-llm` write after *Once upon a time*?


# %% tags=["hide-cell", "solution"]
@torch.no_grad()
def write_with_cache(model, ids, n):
    cache, written = model.new_cache(), []
    for _ in range(n):
        logits = model(ids[None], cache)[0, -1]
        ids = logits.argmax()[None]  # all that is read next
        written.append(int(ids))
    return written


checks.write_with_cache(write_with_cache)
ids = torch.tensor([end, *tokenizer.encode("Once upon a time")])
print(tokenizer.decode(write_with_cache(base_llm, ids, 12)))

# %% [markdown]
# ## Sources
#
# - Attention and the transformer: {cite:t}`vaswani2017`; the norm before each part: {cite:t}`xiong2020`; decoder-only, trained on next-token prediction: {cite:t}`radford2019`.
# - The parts: RMSNorm {cite:p}`zhang2019`, LayerNorm {cite:p}`ba2016`, GELU {cite:p}`hendrycks2016`, SwiGLU {cite:p}`shazeer2020`, RoPE {cite:p}`su2021`, grouped queries {cite:p}`ainslie2023`; Llama, which joins them: {cite:t}`touvron2023`.
# - Induction heads: {cite:t}`olsson2022`, after {cite:t}`elhage2021`, who read small models of attention by hand; learning without positions: {cite:t}`haviv2022`; attention without a residual stream: {cite:t}`dong2021`; a start with heads that hand on what they find: {cite:t}`trockman2023`.
# - Counting parameters and operations: {cite:t}`kaplan2020` and {cite:t}`hoffmann2022`.
