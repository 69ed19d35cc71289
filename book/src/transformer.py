# %% [markdown]
# (transformer)=
# # The transformer
#
# A transformer is a stack of blocks around one stream of vectors: attention gathers from other positions, a small network works on each, and every part only adds.
#
# **You will be able to**
#
# - say what the residual stream, norms, positions and the feed-forward network are for, and what a model does without each,
# - assemble from these parts a model of the shape of GPT-2 or of Llama, and count its parameters and its arithmetic,
# - put a mixture of experts in the place of the feed-forward network, and tell the parameters that it has from those that a token uses,
# - follow what one layer writes and a later one reads, as in completing `A B … A`, which takes two layers of attention.
#
# **You need** the chapter [Attention](attention.ipynb), and a little torch (`backward` and an optimizer).
#
# **Takes** about 50 minutes to read with the code.
#
# **Runs in** about half a minute on one processor core.

# %% [markdown]
# ## Setup

# %% tags=["hide-input"]
import re
from collections import Counter
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy, normalize, one_hot
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from llmcourse import plotting
from llmcourse.checks import transformer as checks
from llmcourse.model import attention, costs, transformer
from llmcourse.model.attention import attention_weights
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import (
    GPT2_SMALL,
    SMOLLM2_135M,
    TINY,
    Transformer,
    hidden_states,
)
from llmcourse.studies import stored_study
from llmcourse.text import tales

plotting.use_course_style()
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## The problem
#
# Attention mixes the vectors of a text, but a stack of attention layers is not yet a language model.
# To see why, the next cells send sixteen random vectors through twelve layers of attention with random weights, and nothing else.
# At several depths they measure how alike the positions are, as the mean cosine similarity of two of them, and how long their vectors are.


# %%
def mean_similarity(x):
    """Return the mean cosine similarity of the vectors of two positions."""
    x, n = normalize(x, dim=-1), len(x)
    return ((x @ x.T).sum() - n) / (n * (n - 1))


# %%
runs = []
for seed in range(3):
    model = Transformer(replace(TINY, n_layers=12), generator.manual_seed(seed))
    states = [torch.randn(1, 16, 64, generator=generator)]
    for block in model.blocks:
        states.append(block.attention(states[-1], model.rotary(slice(0, 16))).detach())
    runs.append([(mean_similarity(x[0]), x.norm(dim=-1).mean()) for x in states])

# %%
print("layers   similarity, 3 models   mean length")
for n in (0, 1, 2, 4, 12):
    similarities = " ".join(f"{run[n][0]:z6.2f}" for run in runs)
    print(f"{n:6}{similarities}{runs[0][n][1]:14.1g}")

# %% tags=["remove-cell"]
assert all(run[0][0] < 0.1 and run[4][0] > 0.9 for run in runs)
assert all(run[12][1] < 1e-4 for run in runs)

# %% [markdown]
# The three models have different weights; the length is that of the first.
# After four layers all positions hold nearly the same vector, and after twelve almost nothing is left of it.
# Each layer hands on only a mixture, and mixtures of mixtures end up looking alike {cite:p}`dong2021`.
# Each layer's last matrix starts with small weights, since its output is meant to be added to vectors.
# With nothing to add it to, each layer makes the vectors shorter.
# (With larger weights the vectors wouldn't vanish, but their length would still wander.)
#
# Three parts are missing.
# The **residual stream** preserves what each position had, and the **norm** brings the vectors to one size before each part reads them.
# Attention only moves what is there; the **feed-forward network** computes with it.
#
# ## By hand
#
# Two layers of attention can do what one cannot: complete `A B … A`.
# Let each position have two slots, one for its letter and one for a *note*, which is empty at first.
# The text is `A B G D A`.
#
# | position | 0 | 1 | 2 | 3 | 4 |
# |---|---|---|---|---|---|
# | letter | A | B | G | D | A |
# | note, added by layer 1 | – | after A | after B | after G | after D |
# | score of *after A?* in layer 2 | 0 | 1 | 0 | 0 | 0 |
#
# - **Layer 1** looks one position back, and *adds* what it finds as a note.
# - **Layer 2** asks from the last `A` for the note *after A*.
#   Position 1 has it.
#   Its letter, `B`, is fetched, and `B` is right.
#
# The letters are not lost when the notes are written, because a layer adds to the vector and replaces nothing.
#
# ![The letters A, B, G, D, A are read, each with a line that goes up. In layer 1 an arrow goes from each letter to the next, which notes the letter before it: after A, after B, after G, after D. In layer 2 the last A asks: after A? An arrow from B, whose note fits, brings B to this A, and B is predicted.](figures/induction-in-two-layers.svg)
#
# *The first layer notes at each letter what came before it.
# The second uses this note to find the letter that followed the earlier `A`, and fetches it.*
#
# Here is the same with vectors: four coordinates say which letter it is, four more hold the note.

# %%
letters = torch.eye(4)[[0, 1, 2, 3, 0]]  # A B G D A
stream = torch.cat((letters, torch.zeros(5, 4)), dim=-1)
one_back = torch.diag(torch.ones(4), diagonal=-1)  # row t looks at t - 1
stream[:, 4:] += one_back @ stream[:, :4]  # layer 1 adds the notes
scores = stream[:, 4:] @ stream[4, :4]  # keys: notes; query: the last letter
weights = (10 * scores).softmax(dim=0)  # 10, so that the best takes nearly all
fetched = weights @ stream[:, :4]  # values: letters
print("scores:", scores.tolist(), "fetched:", "ABGD"[fetched.argmax()])

# %% [markdown]
# One layer is not enough: its keys are made from the letters alone, and no letter knows what came before it.
#
# ## The idea
#
# A transformer keeps one vector $h_t$ of $D$ numbers for each position $t$: the **{term}`residual stream`**.
# It begins as the {term}`embedding` of the token and passes through $L$ layers, called **blocks**.
# Each block adds to it twice: first what attention gathers from other positions, then what a small network makes of the result.
#
# $$
# \begin{aligned}
# h &\leftarrow h + \operatorname{attention}(\operatorname{norm}(h)), \\
# h &\leftarrow h + \operatorname{ffn}(\operatorname{norm}(h)).
# \end{aligned}
# $$
#
# ![A blue arrow goes up: the residual stream. Two loops leave it and come back: through a norm and attention, and above that through a norm and a feed-forward network. Where a loop comes back, a plus adds what it brings to the stream.](figures/transformer-block.svg)
#
# *A block: two parts read the stream and add to it. Nothing else changes it.*
#
# **Norm.**
# Before a part reads the stream, each vector is scaled to one size.
# The norm of Llama and most later models is **{term}`RMSNorm`**:
#
# $$
# \operatorname{norm}(h) = g \odot \frac{h}{\sqrt{\frac1D \sum_i h_i^2 + \varepsilon}},
# $$
#
# with learned weights $g$, a small $\varepsilon$, and $\odot$ for the product coordinate by coordinate.
# Each part reads a normalised copy of the stream and adds to the stream itself: this is **{term}`pre-norm`**.
# The first transformer normalised the stream after each sum instead (*post-norm*), and so do most drawings of it {cite:p}`vaswani2017`.
# Such models have to begin training with very small steps {cite:p}`xiong2020`.
#
# **Feed-forward network.**
# It works on each position by itself: it widens the vector, decides what to keep, and brings it back to the width of the stream.
# In the form called **{term}`SwiGLU`**:
#
# $$
# \begin{aligned}
# \operatorname{ffn}(x) &= W_\text{down} \left(\operatorname{silu}(W_\text{gate}\, x) \odot W_\text{up}\, x\right), \\
# \operatorname{silu}(y) &= \frac{y}{1 + e^{-y}}.
# \end{aligned}
# $$
#
# $\operatorname{silu}$ is a soft switch: it passes large numbers on, and brings very negative ones to 0.
#
# **Logits.**
# At the end the vector of each position is compared with the embedding of each of the $V$ tokens.
# $z_t = E \operatorname{norm}(h_t)$ are the {term}`logits`, and their softmax is the distribution of the next token.
#
# | Symbol | Meaning | Shape | Name in code |
# |---|---|---|---|
# | $E$ | embedding of all tokens, for reading and scoring | $V \times D$ | `embedding.weight` |
# | $h_1, \dots, h_T$ | residual stream | $T \times D$ | `x`, `hidden_states` |
# | $L$ | blocks | – | `n_layers` |
# | $g$ | weights of a norm | $D$ | `norm.weight` |
# | $W_\text{gate}, W_\text{up}$ | widen | $F \times D$ | `gate.weight`, `up.weight` |
# | $W_\text{down}$ | brings back | $D \times F$ | `down.weight` |
# | $F$ | width inside the network | – | `d_ff` |
# | $z$ | scores of the next token | $T \times V$ | `logits` |
#
# ## In code
#
# ### The norm
#
# By hand: $(1, 7)$ has the mean square $\frac12 (1 + 49) = 25$, so it becomes $(\frac15, \frac75)$.
# A vector a thousand times as long gives the same, because a norm forgets the length.


# %%
def rms_norm(x, weight, eps=1e-5):
    """Return vectors (..., D), each with a mean square of 1, times the weight."""
    return weight * x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()


x = torch.tensor([1.0, 7.0])
for each in (x, 1000 * x):
    print(each.tolist(), "→", [round(y, 3) for y in rms_norm(each, 1.0).tolist()])

# %% tags=["hide-input"]
x, weight = torch.randn(2, 5, 24, generator=generator)
ours, theirs = transformer.RMSNorm(24), torch.nn.RMSNorm(24, eps=1e-5)
ours.weight.data, theirs.weight.data = weight[0], weight[0]
for other in (ours(x), theirs(x)):
    assert_close(rms_norm(x, weight[0]), other)

# %% [markdown]
# Torch's RMSNorm and the package's give the same result.
# GPT-2's **LayerNorm** also subtracts the mean; exercise 1 derives it from the norm above.
#
# ### The feed-forward network
#
# In code the formula of SwiGLU takes three lines.


# %%
def feed_forward(network, x):
    """Return what a SwiGLU network adds to each vector, (..., D)."""
    gate = network.gate(x)
    silu = gate * torch.sigmoid(gate)
    return network.down(silu * network.up(x))


network = transformer.SwiGLU(24, 64)
print("up", tuple(network.up.weight.shape), "down", tuple(network.down.weight.shape))

# %% tags=["hide-input"]
assert_close(feed_forward(network, x), network(x))

# %% [markdown]
# ![A small box x of 24 numbers leads by two matrices, gate and up, to two tall boxes of 64. The gate's output passes through a switch; then the two are multiplied, coordinate by coordinate, into 64 numbers, and the matrix down turns them into 24.](figures/feed-forward-gate.svg)
#
# *The upper path opens or closes each of the 64 coordinates that the lower path computes.*
#
# ### The whole model
#
# Now we join the parts, in the order of the formulas.
# The attention layer is the package's, which [Attention](attention.ipynb) wrote out by hand; `rotation` holds the cosines and sines of RoPE.
# All functions take a batch of sequences.


# %%
def block_forward(block, x, rotation):
    """Return the residual stream (B, T, D) after a block."""
    seen = rms_norm(x, block.attention_norm.weight)
    x = x + block.attention(seen, rotation)
    seen = rms_norm(x, block.feed_forward_norm.weight)
    return x + feed_forward(block.feed_forward, seen)


# %%
def forward(model, ids):
    """Return the logits (B, T, V), and the stream before and after each block."""
    x, rotation = model.embedding.weight[ids], model.rotary(slice(0, ids.shape[1]))
    stream = [x]
    for block in model.blocks:
        x = block_forward(block, x, rotation)
        stream.append(x)
    logits = rms_norm(x, model.norm.weight) @ model.embedding.weight.T
    return logits, torch.stack(stream)


# %% [markdown]
# The next cell takes a model of the package with random weights; `TINY` is a set of very small sizes.
# The two must arrive at the same stream after every block, and at the same logits.

# %%
model = Transformer(replace(TINY, n_layers=3, n_kv_heads=2), generator)
ids = torch.randint(TINY.vocab_size, (2, 9), generator=generator)
logits, stream = forward(model, ids)
assert_close(stream, hidden_states(model, ids))
assert_close(logits, model(ids))
print("stream", tuple(stream.shape), "logits", tuple(logits.shape))

# %% [markdown]
# There are four states of the stream, one before each block and one after the last.
# And each of the nine positions of the two sequences has a score for each of the 512 tokens.
#
# ![From below: 2 sequences of 9 tokens, the embedding E of 512 by 64, blocks 1 to 3, a norm, the embedding again, and logits of shape (2, 9, 512). Dashed lines leave the stream before each of the three blocks and after the last: together the stream of shape (4, 2, 9, 64).](figures/whole-model.svg)
#
# *The whole model: where the four states are taken, and their shapes.*
#
# This is the whole architecture of Llama 1 to 3, Meta's models, whose shape many others share {cite:p}`touvron2023`; Llama 4 has mixtures of experts.
# (All but its smallest versions score the next token with a second matrix instead of the embedding: `tied_embeddings=False`.)
# [Real models](real_models.ipynb) opens the file of such a model and computes its answers from the tensors, in fewer than forty lines.
#
# ### GPT-2 by a change of the config
#
# GPT-2 is older and differs in its parts, not in its overall plan {cite:p}`radford2019`.
# It has LayerNorm instead of RMSNorm and, instead of RoPE, a learned vector for each position, added at the start.
# Its network has two matrices with a **{term}`GELU`** between them, and all matrices and norms of the blocks have biases.
# Two entries of the config, the family and the width of the network, turn the package's model into a GPT-2.

# %%
gpt2 = Transformer(replace(TINY, family="gpt2", d_ff=256), generator)
for part, n in costs.parameter_counts(gpt2.config).items():
    print(f"{part.replace('_', '-'):13}{n:7,}")

# %% [markdown]
# For a model of Llama's shape the table would have the same lines, except for the positions.
# Torch has a layer of the same shape as GPT-2's blocks, so we can ask it for a second opinion.
# The folded cell gives it the same weights, and both must give the same result.

# %% tags=["hide-input"]
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
print("equal to torch's layer")

# %% [markdown]
# Torch's layer has one more option, which was set to 0.
# **{term}`Dropout <dropout>`** sets a random share of the numbers to zero at each step of training {cite:p}`srivastava2014`.
# So no part can rely on any single other part, which discourages learning by heart.
# Large models read most of their text only once, so many are pretrained without dropout, as PaLM was {cite:p}`chowdhery2023` and ours are.
#
# ### Encoders, and encoders with decoders
#
# Torch calls its layer an *encoder* layer; only the mask made it a decoder.
# An **{term}`encoder`** has no causal mask: every position sees all the others.
# It cannot write, but it reads well; BERT is one, trained to fill in hidden words {cite:p}`devlin2019`.
# The first transformer, made for translation, had an encoder and a decoder {cite:p}`vaswani2017`, and so does T5 {cite:p}`raffel2020`.
# The encoder reads the source, and the **decoder** writes the translation.
# In each of the decoder's blocks a third part, **{term}`cross-attention`**, takes queries from the decoder, and keys and values from the encoder.
# GPT-2, Llama and nearly all chat models are **decoder-only**: source and answer are one text.
#
# A decoder is **{term}`autoregressive`**: it writes one token at a time, each from all tokens before it.
# **{term}`Diffusion language models <diffusion language model>`** write differently: they start from a text of masks and fill in all its places over several passes {cite:p}`nie2025`.
#
# Nothing in the stack requires its inputs to be words.
# A **{term}`multimodal model`** also reads pictures: it cuts a picture into square patches and turns each into a vector {cite:p}`dosovitskiy2021`.
# Brought to the width of the stream, these vectors take their places in the sequence like the tokens of a text {cite:p}`liu2023llava`.
#
# ![Three tables showing which token sees which. Encoder: four tokens, all cells coloured. Decoder-only: the lower triangle is coloured. Encoder–decoder: three written tokens see all four source tokens, and of the written ones the lower triangle.](figures/who-sees-whom.svg)
#
# *One row for each token that looks; what it sees is coloured.*
#
# ### A mixture of experts
#
# The feed-forward networks hold most parameters of a large model.
# A **{term}`mixture of experts`** has several networks, the experts, where a block had one, and each token uses only a few {cite:p}`shazeer2017`.
# A small matrix, the **{term}`router`**, scores the experts for each token.
# The experts with the highest scores get the token, and their outputs are mixed by the softmax of those scores.
#
# By hand: for one token the router gives four experts the scores $\ln 3$, $0$, $\ln 2$ and $\ln 9$, and two are used.
# They are the fourth and the first, with the shares $\frac{9}{12}$ and $\frac{3}{12}$.
# The other two compute nothing.
#
# ![A token goes to a router with the scores ln 3, 0, ln 2 and ln 9 for four experts. Experts 1 and 4 are used, with the shares 3/12 and 9/12; their outputs are added. Experts 2 and 3 are grey: not used.](figures/experts-for-a-token.svg)
#
# *The width of an arrow is the share of an expert's output.*


# %%
class MixtureOfExperts(torch.nn.Module):
    """Several feed-forward networks; a router gives each token to a few of them."""

    def __init__(self, d_model, d_ff, n_experts, n_used):
        super().__init__()
        self.n_used = n_used
        self.router = torch.nn.Linear(d_model, n_experts, bias=False)
        networks = [transformer.SwiGLU(d_model, d_ff) for _ in range(n_experts)]
        self.experts = torch.nn.ModuleList(networks)

    def forward(self, x):
        self.scores = self.router(x)  # (..., experts)
        best, self.chosen = self.scores.topk(self.n_used, dim=-1)  # (..., used)
        shares, output = best.softmax(dim=-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            slots = self.chosen == number  # (..., used)
            here = slots.any(dim=-1)  # the tokens that this expert is given
            share = (shares * slots).sum(dim=-1, keepdim=True)
            output[here] += share[here] * expert(x[here])
        return output


# %% [markdown]
# Two cases show that the code is right.
# A mixture of one expert must equal that network alone, and one that uses all its experts must equal their plain weighted sum.

# %%
x = torch.randn(2, 5, 24, generator=generator)
single, whole = MixtureOfExperts(24, 64, 1, 1), MixtureOfExperts(24, 64, 4, 4)
assert_close(single(x), single.experts[0](x))
shares = whole.router(x).softmax(dim=-1)
outputs = torch.stack([expert(x) for expert in whole.experts], dim=-1)
assert_close(whole(x), (outputs * shares[..., None, :]).sum(dim=-1))
print("one expert: equal to its network; four: equal to their weighted sum")

# %% [markdown]
# Mixtral has the shape of Mistral 7B, but with eight networks in place of each one; a token uses two of them {cite:p}`jiang2024`.
# The next cells count the parameters that it has, and those that a token uses.
# (`SMOLLM2_135M` is the config of a small open model of Llama's shape, [Real models](real_models.ipynb).)

# %%
MISTRAL_7B = replace(
    SMOLLM2_135M, vocab_size=32_000, d_model=4096, n_layers=32, n_heads=32,
    n_kv_heads=8, d_ff=14_336, tied_embeddings=False,
)  # fmt: skip
print(f"Mistral 7B has {costs.n_parameters(MISTRAL_7B) / 1e9:.1f} billion parameters")

# %%
counts = costs.parameter_counts(MISTRAL_7B)
routers = 32 * 4096 * 8  # blocks, width, experts
rest = sum(counts.values()) - counts["feed_forward"] + routers
for name, n_networks in (("Mixtral has", 8), ("a token uses", 2)):
    n = rest + n_networks * counts["feed_forward"]
    print(f"{name} {n / 1e9:.1f} billion parameters")

# %% [markdown]
# So it needs the memory of a model with 47 billion parameters, and the arithmetic of one with 13 billion.
#
# **Balance.**
# Nothing so far keeps the router from giving all tokens to the same few experts.
# So a second loss is added, with a small weight.
# It is 1 when all experts get equally many tokens, and grows when the router prefers a few {cite:p}`fedus2022`.
# A token that uses two experts fills two *slots*.
# For each expert, the share of all slots that it is given is multiplied by the mean probability that the router gives it.
# The loss is the sum of these products, times the number of experts.
# (Shares of slots are counts, which have no gradient; the router learns through the probabilities.)


# %%
def balance_loss(mixture):
    """Return 1 if slots are spread evenly; at most n_experts / n_used."""
    n_experts = mixture.router.out_features
    given = one_hot(mixture.chosen, n_experts).float().flatten(0, -2).mean(dim=0)
    wanted = mixture.scores.softmax(dim=-1).flatten(0, -2).mean(dim=0)
    return n_experts * (given * wanted).sum()


# %% [markdown]
# To see whether it helps, and which expert gets what, we train *readers* of tales: small models of one block.
# Tokens are whole words here, so that we can read which expert takes which.
# All words but the 1,499 most common ones share one token, printed as `?` like the question mark.


# %%
def words_of(seed, n):
    """Return the words of n tales, one after the other, in lower case."""
    text = " ".join(tale.text for tale in tales.generate(n, seed=seed))
    return re.findall(r"\w+|[^\w\s]", text.lower())


# %%
COMMON = ["?", *(word for word, _ in Counter(words_of(0, 1000)).most_common(1499))]
NUMBER = {word: number for number, word in enumerate(COMMON)}
READ, NEW = (
    torch.tensor([NUMBER.get(word, 0) for word in words_of(seed, n)])
    for seed, n in ((0, 1000), (1, 100))
)
print(f"{len(READ):,} words to train on, {len(NEW):,} new ones to test with")


# %% [markdown]
# Four readers are compared.
# Two are mixtures, one of them trained without the balance loss.
# The *dense* ones have a single network.
# In one it has about as many weights as a token uses in the mixture, in the other about as many as all eight experts.

# %%
READERS = {  # width of a network, how many there are, how many a token uses
    "dense, 64 wide": (64, 1, 1),
    "mixture": (32, 8, 2),
    "mixture, no balance": (32, 8, 2),
    "dense, 256 wide": (256, 1, 1),
}


# %%
def small_reader(name, seed=0):
    """Return a reader of words, of one block, with the network of that name."""
    torch.manual_seed(seed)
    model = Transformer(replace(TINY, vocab_size=1500, d_model=48, n_layers=1))
    d_ff, n_experts, n_used = READERS[name]
    model.blocks[0].feed_forward = MixtureOfExperts(48, d_ff, n_experts, n_used)
    return model


# %%
def train_on_tales(model, balance=0.01, steps=500, seed=0):
    """Train on windows of 64 words; return the loss on new tales, in nats per word."""
    optimizer = torch.optim.AdamW(model.parameters(), 6e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, steps)
    generator = torch.Generator().manual_seed(10 + seed)
    for _ in range(steps):
        starts = torch.randint(len(READ) - 65, (8, 1), generator=generator)
        ids = READ[starts + torch.arange(65)]
        loss = cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss = loss + balance * balance_loss(model.blocks[0].feed_forward)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    rows = NEW[: len(NEW) // 65 * 65].view(-1, 65)
    with torch.no_grad():
        logits = model(rows[:, :-1])
    return cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).item()


# %% [markdown]
# `book/studies/transformer_study.py` trained all four with three seeds each, using these very functions.
#
# *Predict*: will the mixture do as well as the dense reader with the same arithmetic, as the one with as many weights, or neither?
#
# :::{dropdown} Answer
# Neither: with each seed it is better than the reader with the same arithmetic, and not as good as the dense one with as many weights.
# A token uses about a quarter of the mixture's weights.
# :::

# %%
points = stored_study("transformer", dict).points
reader_losses = {name: [] for name in READERS}
for point in points:
    if point["name"] in READERS:
        reader_losses[point["name"]] += point["losses"]

# %% tags=["hide-input"]
print("                    weights    used   loss of three seeds (nats/word)")
for name, (d_ff, n_experts, n_used) in READERS.items():
    router, network = 48 * n_experts, 3 * 48 * d_ff
    n_weights, n_used_weights = router + n_experts * network, router + n_used * network
    losses = " ".join(f"{loss:.2f}" for loss in reader_losses[name])
    print(f"{name:20}{n_weights:7,}  {n_used_weights:6,}   {losses}")

# %% tags=["remove-cell"]
dense_small, mixed, unbalanced, dense_large = reader_losses.values()
assert all(
    large < mix < small for small, mix, large in zip(dense_small, mixed, dense_large)
)
assert all(abs(mix - other) < 0.05 for mix, other in zip(mixed, unbalanced))

# %% [markdown]
# A mixture buys capacity at the cost of memory, not of arithmetic.
# The balance loss hardly changes the loss on tales here; what it does change comes at the end of this section.
#
# The next cells train one mixture on this page, and look at which expert takes which words.
# For each expert they print the share of tokens that have it as their first choice, and the words for which this happens most often.
# (The last digits of a run differ between processors, so your words may differ.)


# %%
@torch.no_grad()
def routed_words(model, n_words=6):
    """Return which shares of tokens have the experts as first choice, which words most
    often, and how often a frequent word has its usual one."""
    rows = NEW[: len(NEW) // 64 * 64].view(-1, 64)
    mixture = model.blocks[0].feed_forward
    model(rows)
    first = one_hot(mixture.chosen[..., 0], mixture.router.out_features).flatten(0, 1)
    table = torch.zeros(len(COMMON), first.shape[1]).index_add_(
        0, rows.flatten(), first.float()
    )  # (words, experts)
    words = [[COMMON[i] for i in top] for top in table.topk(n_words, dim=0).indices.T]
    frequent = table[table.sum(dim=1) >= 20]
    usual = frequent.amax(dim=1).sum() / frequent.sum()
    return (table.sum(dim=0) / table.sum()).tolist(), words, usual.item()


# %% tags=["nbval-ignore-output"]
reader = small_reader("mixture")
train_on_tales(reader)
shares, words, usual = routed_words(reader)
print("share of tokens   most frequent words")
for share, frequent in zip(shares, words):
    print(f"{share:15.0%}   {' '.join(frequent)}")
print(f"a frequent word is given to its usual expert {usual:.0%} of the time")

# %% [markdown]
# In this page's run one expert's list begins with pronouns, and another's has mostly articles and possessives.
# Nobody told the router about kinds of words.
# The other experts take a mixed bag; this is one seed, and another may divide the words differently.
# Mostly the word itself decides: a frequent word goes to the same expert most of the time.
# {cite:t}`jiang2024` see something similar in Mixtral: which expert takes what shows patterns of syntax, but no clear patterns of subject.
#
# The study has the shares of the experts, and this last share, for all seeds.

# %%
print(f"{'':20} shares of experts   words with their usual expert")
for point in points:
    if point["name"].startswith("mixture"):
        shares, usual = point["found"]["shares"], point["found"]["usual"]
        span = f"{min(shares):4.0%} to {max(shares):4.0%}"
        print(f"{point['name']:20}{span:>18}{usual:32.0%}")

# %% tags=["remove-cell"]
of_kind = {n: [p["found"] for p in points if p["name"] == n] for n in READERS}
assert all(each["usual"] > 0.7 for each in of_kind["mixture"])
assert all(max(each["shares"]) < 0.25 for each in of_kind["mixture"])
assert all(min(each["shares"]) > 0.01 for each in of_kind["mixture"])
for each in of_kind["mixture, no balance"]:
    assert min(each["shares"]) < 0.01 and max(each["shares"]) > 0.25

# %% [markdown]
# An even share is one in eight.
# With the balance loss no expert is the first choice for more than a quarter of the tokens, and each is the first choice for some.
# Without it two experts are the first choice for more than a quarter each, with every seed (the table shows only the largest share), and another for hardly any.
# (Second choices are not counted here.)
#
# ### What it costs
#
# All costs follow from the sizes.
# First come the parameters.
# Nothing is downloaded for the large models, because their published configs are enough.

# %%
LLAMA3_8B = replace(MISTRAL_7B, vocab_size=128_256)
LLAMA3_70B = replace(LLAMA3_8B, d_model=8192, n_layers=80, n_heads=64, d_ff=28_672)
base_llm, tokenizer = load_pretrained("base-llm")

# %% [markdown]
# The table gives each part's share of all parameters.

# %%
configs = {
    "base-llm": base_llm.config,
    "GPT-2 small": GPT2_SMALL,
    "SmolLM2-135M": SMOLLM2_135M,
    "Llama 3 8B": LLAMA3_8B,
    "Llama 3 70B": LLAMA3_70B,
}
counts = [costs.parameter_counts(config) for config in configs.values()]

# %% tags=["hide-input"]
print(f"{'':13}", *(f"{name:>14}" for name in configs))
print(f"{'parameters':13}", *(f"{sum(each.values()):14,}" for each in counts))
for part in ("embedding", "unembedding", "positions", "attention", "feed_forward"):
    shares = [each.get(part, 0) / sum(each.values()) for each in counts]
    print(f"{part.replace('_', '-'):13}", *(f"{share:14.1%}" for share in shares))

# %% tags=["remove-cell"]
assert [sum(each.values()) for each in counts[3:]] == [8_030_261_248, 70_553_706_496]
small = [each["embedding"] / sum(each.values()) for each in counts[1:3]]
large = [2 * each["embedding"] / sum(each.values()) for each in counts[3:]]
assert min(small) > 1 / 5 > 2 / 15 > max(large)
assert 0.15 < counts[0]["embedding"] / sum(counts[0].values()) < min(small)
assert all(each["feed_forward"] > each["attention"] for each in counts)
for model in (Transformer(TINY), base_llm):
    n = sum(weight.numel() for weight in model.parameters())
    assert n == costs.n_parameters(model.config)

# %% [markdown]
# In the small models the embedding is a large share, from about a sixth to nearly a third of all parameters.
# (`base-llm` is the smallest of the three, yet its embedding has the lowest share of the three, because its vocabulary is small.)
# In the large ones it is a small share, and so is the *unembedding*, the second matrix that scores the next token.
# The blocks grow with the square of the width, these tables only with the width.
# Most of the rest is feed-forward networks.
#
# Next comes the arithmetic.
# Each weight of a matrix is used once for each token, in one multiplication and one addition.
# With heads of width $d$, each pair of positions costs $2d$ operations in the scores and as many in mixing the values, in every head.
# Such operations are called {term}`FLOPs <FLOP>`.
# All pairs are counted, although the mask hides almost half of them.

# %%
for n in (128, 1024, 8192):
    flops = costs.forward_flops_per_token(SMOLLM2_135M, n)
    per_weight = flops / costs.n_parameters(SMOLLM2_135M)
    print(
        f"SmolLM2-135M, {n:5,} tokens: {per_weight:.1f} FLOPs per parameter and token"
    )

# %% [markdown]
# Two operations for each parameter and token is the rule of thumb, and it holds while texts are short.
# The pairs of positions grow with the length.
# At 8,192 tokens, the full context of this model, they cost about twice as much as all of its matrices.
#
# Torch can count the operations that it carries out.
# The folded cell compares both counts for three models.


# %% tags=["hide-input"]
def counted(model, n):
    """Return the FLOPs of reading n tokens, as torch counts them."""
    counter, kernels = FlopCounterMode(display=False), torch.nn.attention
    with torch.no_grad(), kernels.sdpa_kernel(kernels.SDPBackend.MATH), counter:
        model(torch.zeros(1, n, dtype=torch.long))
    return counter.get_total_flops()


assert 6.1 < per_weight < 6.3
for model in (Transformer(TINY), base_llm, gpt2):
    for n in (5, 100):
        closed = n * costs.forward_flops_per_token(model.config, n)
        assert counted(model, n) == closed
print("equal to torch's counts")

# %% [markdown]
# ## Experiment
#
# ### A task that only a good memory can solve
#
# To find out which parts it takes to bring something back, here is a task that asks for that and nothing else.
# Every sequence has a secret rule of its own: which of eight letters follows which.
# Now and then there is a jump to a random letter, so counting places does not help.
# After `A B`, expect `B` after the next `A`; knowing other sequences doesn't help.

# %%
N_LETTERS, LENGTH = 8, 24


def random_walks(n, generator, jump=0.25):
    """Return n walks, and where the next letter follows from what came before."""
    after = torch.rand(n, N_LETTERS, generator=generator).argsort(dim=1)  # the rules
    ids = torch.randint(N_LETTERS, (n, LENGTH), generator=generator)
    jumps = torch.rand(n, LENGTH, generator=generator) < jump
    for t in range(1, LENGTH):
        follows = after.gather(1, ids[:, t - 1 : t])[:, 0]
        ids[:, t] = torch.where(jumps[:, t], ids[:, t], follows)
    pairs = ids[:, :-1] * N_LETTERS + ids[:, 1:]
    seen = (pairs[:, :, None] == pairs[:, None, :]).tril(-1).any(dim=-1)
    return ids, seen & ~jumps[:, 1:]


# %%
ids, known = random_walks(2, torch.Generator().manual_seed(7))
for walk, marks in zip(ids, known):
    print(" ".join("ABCDEFGH"[i] for i in walk))
    print("  " + " ".join("^" if marked else " " for marked in marks))

# %% [markdown]
# There is a mark below each letter that follows the rule, if the same pair of letters has occurred before.
# Only these letters are graded.
# (The loss can't reach zero, because an earlier letter may have come from a jump; guessing costs $\ln 8 \approx 2.08$ nats.)
#
# ### Take parts away
#
# The models are small: two layers of two heads, 32 coordinates.
# They come from the package, with one part disabled at a time.
#
# - *Positions*: all angles of RoPE are 0.
# - *Norms*: vectors pass through unchanged.
# - *Network*: it adds 0.
# - *Residual stream*: each part *replaces* the vector that it would add to.
#
# One more model has a single layer, and two have six, one of these without the residual stream.


# %%
def without_residual(block, x, rotation, *_):
    """Return what a block hands on if it replaces each vector and adds nothing."""
    x = block.attention(block.attention_norm(x), rotation)
    return block.feed_forward(block.feed_forward_norm(x))


# %%
def remove(model, part):
    """Take a part of the model away, in place."""
    if part == "positions":
        model.rotary.cos.fill_(1.0)  # cosine and sine of the angle 0
        model.rotary.sin.fill_(0.0)
    if part == "norms":
        model.norm = torch.nn.Identity()
    for block in model.blocks:
        if part == "norms":
            block.attention_norm = block.feed_forward_norm = torch.nn.Identity()
        if part == "residual":
            block.forward = lambda *read, block=block: without_residual(block, *read)
        if part == "network":  # what is below infinity becomes 0
            block.feed_forward = torch.nn.Threshold(torch.inf, 0.0)


# %%
def small_model(n_layers, without="", seed=0):
    """Return a model for walks, of two heads and 32 coordinates, less a part."""
    sizes = {"vocab_size": N_LETTERS, "d_model": 32, "d_ff": 64}
    config = replace(TINY, n_layers=n_layers, n_heads=2, n_kv_heads=2, **sizes)
    model = Transformer(config, torch.Generator().manual_seed(seed))
    remove(model, without)
    return model


# %%
def train_on_walks(model, steps=400, seed=0):
    """Train on new walks; return the losses, in nats per known letter."""
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3, (0.9, 0.98), weight_decay=0)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 30, total_iters=30)
    generator, losses = torch.Generator().manual_seed(10 + seed), []
    for _ in range(steps):
        ids, known = random_walks(32, generator)
        loss = cross_entropy(model(ids[:, :-1])[known], ids[:, 1:][known])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warm_up.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
# The same study trained each model with three seeds, for its weights and its walks.
# Taking one thing away and training again is also an {term}`ablation`.
# A loss here is a mean over twenty steps, always on new walks.
# Three of the models were trained for 400 steps only, the others for 1,200.
#
# *Predict*: which of these solve the task, and which stay near chance?
# Is one layer enough: couldn't a head simply look for the earlier `A`?
#
# :::{dropdown} Answer
# One layer is not enough, and six layers without the residual stream stay at chance.
# All others but one get there, some of them much later; without positions, the model gets only most of the way.
# :::

# %%
losses = {}
for point in points:
    if point["name"] not in READERS:
        losses.setdefault(point["name"], []).append(point["losses"])
losses = {name: torch.tensor(runs) for name, runs in losses.items()}
print("two layers: seeds, means of 20 steps:", tuple(losses["two layers"].shape))

# %% tags=["hide-input"]
print("loss of three seeds (nats per known letter)")
print(f"{'':18} after 400 steps   after 1,200 steps")
for name, runs in losses.items():  # (seeds, steps / 20)
    early = " ".join(f"{loss:.2f}" for loss in runs[:, 19])
    late = " ".join(f"{loss:.2f}" for loss in runs[:, 59:].flatten())
    print(f"{name:18} {early}    {late}".rstrip())

# %% [markdown]
# A model that only knows which letters have occurred can guess among them; this is what it then pays.

# %%
ids, known = random_walks(500, torch.Generator().manual_seed(3))
n_letters = one_hot(ids[:, :-1]).cumsum(dim=1).clamp(max=1).sum(dim=-1)  # so far
guess = n_letters[known].double().log().mean()
print(f"a guess among the letters so far: {guess:.2f} nats")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels of losses over 1,200 steps, each line with the mean and the range of three seeds. Left, two layers fall from 2.1 to about 0.2 in 400 steps, with or without a feed-forward network; without positions the loss falls more slowly, to about 0.5 at the end; one layer falls slowly to 1.3. Right, two layers without norms fall much later than the complete model, and those without the residual stream somewhat later, with a wide range, but all to below 0.2; six layers fall first; six layers without the residual stream stay at chance."}}
panels = ["two layers", "no network", "no positions", "one layer"], [
    "two layers", "no norms", "no residual", "six layers", "six, no residual"
]  # fmt: skip
fig, axes = plt.subplots(1, 2, figsize=(7, 3), sharey=True)
for ax, chosen in zip(axes, panels):
    for number, name in enumerate(chosen):
        each, style = losses[name], plotting.LINE_STYLES[number % 4]
        steps = range(10, 20 * each.shape[1], 20)
        ax.plot(steps, each.mean(dim=0), style, label=name)
        ax.fill_between(steps, each.amin(dim=0), each.amax(dim=0), alpha=0.2)
    ax.axhline(torch.tensor(8).log(), color="0.45", linestyle=":", linewidth=1)
    ax.set(xlabel="steps", ylim=(-0.3, 2.3))
    labels = {label.get_text(): label for label in plotting.label_lines(ax)}
for name, below in (("two layers", -12), ("six layers", -21)):
    labels[name].set(position=(6, below))  # under the line of "no residual"
_ = axes[0].set(ylabel="loss (nats per known letter)")

# %% [markdown]
# *Mean of three seeds; the band runs from the lowest to the highest.
# The dotted line is guessing.*

# %% tags=["remove-cell"]
at_400 = {name: each[:, 19] for name, each in losses.items()}
at_end = {name: each[:, -1] for name, each in losses.items()}
assert max(at_400[name].max() for name in ("two layers", "no network")) < 0.5
assert at_400["one layer"].min() > 1.5 > at_end["one layer"].max() > 1.2
assert at_400["no positions"].min() > 0.8 > 0.6 > at_end["no positions"].max()
assert at_end["no positions"].min() > 2 * at_end["two layers"].max()
assert at_400["no norms"].min() > 1.4 and at_end["no norms"].max() < 0.3
assert (at_400["no residual"] > 0.5).sum() == 2 and at_end["no residual"].max() < 0.3
assert at_400["six layers"].max() < 0.5 and at_end["six, no residual"].min() > 2
assert (losses["six layers"][:, 9] < losses["two layers"][:, 9]).all()
assert abs(guess - 1.7) < 0.05

# %% [markdown]
# The loss of the complete model, `two layers`, falls slowly at first, and then quickly.
#
# - **One layer** is not enough.
#   A head that looks for the earlier `A` finds `A`, but it needs the next letter.
#   Nothing at that letter's place says that an `A` came before.
#   Its loss first falls to that of a guess among the letters so far, and then slowly below that.
#   In 1,200 steps it doesn't come near the loss of two layers.
# - **Without positions** the model learns later, and in 1,200 steps it gets most of the way.
#   No head of the first layer can look for *the letter before me*.
#   But the mask alone lets a position tell early from late {cite:p}`haviv2022`, and two layers can make use of that.
# - **Without the feed-forward network** it succeeds all the same: bringing things back is the work of attention.
# - **Without norms** little is learned in 400 steps, but in 1,200 steps the task is solved.
#   So with these initial weights and this learning rate, norms make learning faster.
#   Part of that may be due to our start: embeddings begin small, and a norm brings them up to size.
# - **Without the residual stream** two layers learn later with two of the three seeds, just as soon with the third, and all solve the task in the end.
#   A head can look at its own position and hand the vector on, which may be how they manage.
#   Six layers without it are still at chance after 1,200 steps, and six with it have learned the task after 400.
#   So on this task, with these initial weights and this learning rate, the deeper model needs the stream more.
#
# ### How do two layers do it?
#
# Their attention weights tell us.
# The next cells train the complete model here, and measure where each head looks.
# They compute two shares of its weight: on the letter before, and on the letters *right after* earlier copies of the current one.
# The first share is a mean over all places, the second over those from which a marked letter is predicted.
# A letter can count for both: in `A B A`, the `B` is before the last `A`, and right after a copy of it.


# %%
def kinds_of_heads(model, ids, known):
    """Return the mean weight on the letter before, and after copies, (L, H) each."""
    weights = attention_weights(model, ids)  # (L, B, H, T, S)
    previous = weights.diagonal(-1, dim1=-2, dim2=-1).mean(dim=(1, 3))
    after = torch.zeros_like(weights[0, :, 0])  # (B, T, S)
    after[:, :, 1:] = ids[:, :, None] == ids[:, None, :-1]
    found = (weights * after.tril()[:, None]).sum(dim=-1)  # (L, B, H, T)
    return previous, found.transpose(2, 3)[:, known].mean(dim=1)


# %% tags=["nbval-ignore-output"]
student = small_model(2)
student_losses = train_on_walks(student)
last_loss = sum(student_losses[-20:]) / 20
print(f"mean loss of the last 20 steps: {last_loss:.2f} nats per known letter")

# %% tags=["nbval-ignore-output"]
ids, known = random_walks(500, torch.Generator().manual_seed(3))
before, after = kinds_of_heads(student, ids[:, :-1], known)
print("layer   head   on the letter before   after a copy")
for layer in range(2):
    for head in range(2):
        shares = f"{before[layer, head]:23.0%}{after[layer, head]:15.0%}"
        print(f"{layer + 1:5}{head + 1:7}{shares}")

# %% [markdown]
# The study has the same shares for its three seeds.

# %%
best = []  # of each seed and layer, the largest share of a head
for point in points:
    if point["name"] == "two layers":
        best.append([torch.tensor(x).amax(dim=1) for x in point["found"].values()])
print("seed   layer 1, on the letter before   layer 2, after a copy   (best heads)")
for seed, (before, after) in enumerate(best):
    print(f"{seed:4}{before[0]:32.0%}{after[1]:24.0%}")

# %% tags=["remove-cell"]
for before, after in best:
    assert before[0] > 0.7 > 0.3 > before[1] and after[1] > 0.7 > 0.4 > after[0]

# %% [markdown]
# In the first layer one head looks at the letter before.
# So the vector at the place of `B` can now also hold *an A came before me*.
# In the second layer the heads look from the new `A` at `B`, which is where this note leads.
# That fits what we did by hand; exercise 6 takes heads away, and shows how far this supports it.
#
# Heads like these, which need a head of an earlier layer that looks one place back, are called **{term}`induction heads <induction head>`**.
# {cite:t}`olsson2022` found them in all the multi-layer language models that they studied, and a sudden drop in the loss when they appear.
#
# ### What the model would say after each block
#
# The last norm and the table that scores the tokens (in `base-llm` the embedding itself) read the stream after the last block.
# They can read it after any other block as well: this is the **{term}`logit lens`** {cite:p}`nostalgebraist2020`.
# The story below has one hero, named at its beginning.
# For each state of the stream, the next cells print the token that `base-llm` would write next.
# State 0 is before the first block.


# %%
@torch.no_grad()
def logit_lens(model, ids):
    """Return what each state of the stream makes of the next token, (L + 1, V)."""
    logits, stream = forward(model, ids)
    seen = rms_norm(stream[:, 0, -1], model.norm.weight)  # (L + 1, D)
    lens = seen @ model.embedding.weight.T
    assert_close(lens[-1], logits[0, -1])
    return lens.softmax(dim=-1)


# %%
prompt = (
    "Once upon a time there was a brave young girl named Ella. She lived by the river "
    "with her grandmother and loved painting. One day her grandmother was very sad. "
    '"I shall make her a hat," said'
)

# %% tags=["nbval-ignore-output"]
mark = tokenizer.special_tokens["<|endoftext|>"]
lens = logit_lens(base_llm, torch.tensor([[mark, *tokenizer.encode(prompt)]]))
for n, probs in enumerate(lens):
    word = tokenizer.decode([int(probs.argmax())])
    print(f"state {n}:{word:6}{probs.max():5.0%}")

# %% tags=["remove-cell"]
said, ella = (tokenizer.encode(word)[0] for word in (" said", " Ella"))
best = lens.argmax(dim=-1)
assert (best[:-1] == said).all() and best[-1] == ella

# %% [markdown]
# Up to the last block the lens shows `said`, the token that was just read.
# Here one table both reads and scores, and each row of it matches itself best; and the embedding, made large at the start, is longer than what each of the first blocks adds.
# The name, which has to be looked up far back, shows up only after the last block.
# In this model that is no surprise: heads that hand on what they find were built into its last layer before training ([Attention](attention.ipynb)).
# This is one text, and the lens has a limit: a later block may use what the last norm and matrix cannot read.
# So a *tuned lens* learns a small correction for each block {cite:p}`belrose2023`.
#
# Try the lens on words of your own, after each token.
# Is there a word that is settled before the last block?
#
# :::{div} llmcourse-sentence by-layer
# On the course's site, `base-llm` reads a sentence of yours here, and shows what it would say after each block.
# It begins with *Once upon a time there was a brave young girl named Ella. "I shall make a hat," said*.
# :::
#
# Finding out from a model's numbers how it works is called **{term}`interpretability`**.
# We read attention weights and states of the stream.
# **{term}`Probing <probing>`** trains a small classifier on the states instead: it shows what they hold, but not whether the model uses it {cite:p}`belinkov2022`.
# [Fine-tuning](fine_tuning.ipynb) has a linear one.
#
# Reading single coordinates helps little, because most of them take part in many unrelated things.
# A stream of $D$ numbers can hold more than $D$ features, each a direction of its own, if few are present at once.
# This is called **{term}`superposition`**, and {cite:t}`elhage2022` show it in a model small enough to run here.
# It must put 20 features into 5 numbers and get them back.
# Each feature is absent, or a random number between 0 and 1, and has a direction (a row of $W$, 20 × 5).
# The features $x$ are written as $x W$ and read back as $\operatorname{ReLU}(x W W^\top + b)$; both $W$ and $b$ are trained.
# (ReLU turns negative numbers into 0.)
# The loss is the squared error, in which feature $i$ has the importance $0.8^i$.
# We train three models at once, with different first weights.


# %%
importance = 0.8 ** torch.arange(20)


def store(present):
    """Train three models; return their directions, and their mean error at the end."""
    generator = torch.Generator().manual_seed(0)
    directions = (0.3 * torch.randn(3, 20, 5, generator=generator)).requires_grad_()
    bias = torch.zeros(3, 1, 20, requires_grad=True)
    optimizer, errors = torch.optim.Adam([directions, bias], lr=0.01), []
    for _ in range(1000):
        value, chance = torch.rand(2, 3, 256, 20, generator=generator)
        x = value * (chance < present)  # (model, example, feature)
        read = torch.relu(x @ directions @ directions.mT + bias)
        errors.append((importance * (read - x) ** 2).sum(dim=-1).mean(dim=-1))
        optimizer.zero_grad()
        errors[-1].sum().backward()
        optimizer.step()
    return directions.detach(), torch.stack(errors[-200:]).detach().mean(dim=0)


# %% [markdown]
# We count the features whose direction is longer than a half, in each of the three models.
# (On another processor a number can be one larger or smaller.)
# For comparison, a model could keep the five most important features, each in a number of its own, and give the mean of each of the others.
# The last three numbers say what share of that model's error is left.
# (A feature that is present with probability $p$ has the variance $p/3 - p^2/4$.)

# %% tags=["nbval-ignore-output"]
kept = {}
print("present   with a direction              error left")
for present in (1, 0.1, 0.01):
    directions, left = store(present)
    kept[present] = (directions.norm(dim=-1) > 0.5).sum(dim=-1).tolist()
    left = left / (importance[5:].sum() * (present / 3 - present**2 / 4))
    numbers = "".join(f"{n:4}" for n in kept[present])
    print(f"{present:7.0%}{numbers:>19}", *(f"{x:7.0%}" for x in left))

# %% tags=["remove-cell"]
assert max(kept[1]) < 7 < min(kept[0.1]) and min(kept[0.01]) > 12

# %% [markdown]
# If all features are always present, each model has five directions, and its error is about that of the model which keeps the five most important features.
# If one in ten is present, it has directions for about ten, and if one in a hundred, for about fifteen: three times as many as it has numbers.
# More than five directions cannot all be at right angles, so features that are present together disturb each other.
# But that is rare if few are present, and the bias and the ReLU can remove small disturbances.
# So it pays: about a half of the error is left if one in ten is present, and about a quarter if one in a hundred is.
# The toy shows that superposition can pay, not that a language model makes use of it.
#
# A **{term}`sparse autoencoder`** learns a long list of directions, and writes each state as a sum of a few of them.
# For many such directions people can name what they stand for {cite:p}`cunningham2024`.
#
# ## Takeaways
#
# - Every part of a block reads a normalised stream and adds to it, so later layers can read what earlier ones wrote.
# - Completing `A B … A` takes two layers of attention: the first writes *what came before me*, the second looks for it.
# - Taking a part away can make a model fail, or only make it learn more slowly; only longer runs tell the two apart.
# - Parameters and arithmetic follow from the sizes alone.
#   Each token costs about two operations for every parameter that it uses, plus a part that grows with the length.
# - A mixture of experts has many parameters and uses few of them for each token.
#
# *In practice* most of today's models are this one, only larger; some have something cheaper than attention in most layers ([The context window](context_window.ipynb)).
# Llama has pre-norm blocks with RMSNorm, SwiGLU and RoPE {cite:p}`touvron2023`; later versions add grouped queries {cite:p}`grattafiori2024`.
# Most of the largest models are now mixtures of experts, as Mixtral was early on {cite:p}`jiang2024`.
# The feed-forward networks seem to hold much of what was learned about patterns of words and what follows them {cite:p}`geva2021`.
# Training such a model on text is the subject of [Pretraining](pretraining.ipynb).

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
# ### Exercise 1 (derive): LayerNorm from RMSNorm ★★
#
# Show that RMSNorm forgets the length of a vector: for $c > 0$, it maps $x$ and $c\,x$ to the same vector, if $\varepsilon$ doesn't matter.
# Then show that LayerNorm, $(x - \bar x) / \sqrt{\operatorname{var}(x) + \varepsilon}$, is RMSNorm of a centred vector.
# Write LayerNorm in one line with the chapter's `rms_norm`.
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
# ### Exercise 2 (check): a router by hand ★
#
# A router scores four experts with $0$, $\ln 6$, $\ln 2$ and $\ln 3$ for one token, and two are used.
# The experts' outputs would be 8, 4, 10 and 1.
# What comes out?
# What would come out if all four were used?
# Then suppose that a mixture of eight experts gives all tokens of a batch to two of them, half of the slots to each.
# The router's mean probability of these two is ½ each.
# What is the balance loss, and what is it if all eight get equal shares?


# %% tags=["hide-cell", "solution"]
powers, outputs = torch.tensor([1.0, 6, 2, 3]), torch.tensor([8.0, 4, 10, 1])
best = powers.topk(2).indices  # the second and the fourth, with shares 6/9 and 3/9
two = (powers[best] * outputs[best]).sum() / powers[best].sum()
four = (powers * outputs).sum() / powers.sum()
print(f"two experts {two:.0f}, all four {four:.2f}")
given = wanted = torch.tensor([0.5, 0.5, 0, 0, 0, 0, 0, 0])
print("balance loss:", (8 * given * wanted).sum().item(), "and", 8 * 8 * (1 / 8) ** 2)

# %% [markdown]
# ### Exercise 3 (build): count the parameters ★★
#
# Write the number of parameters of a model of Llama's shape in closed form.
# Use `vocab_size`, `d_model`, `n_layers`, `n_heads`, `n_kv_heads`, `d_head`, `d_ff` and `tied_embeddings` of its config.
# (`n_heads` times `d_head` may differ from `d_model`.)
#
# ```python
# def parameter_count(config) -> int:
# ```
#
# Check it with `checks.parameter_count(parameter_count)`.
# How many would SmolLM2-135M have without grouped queries, that is, with as many key-value heads as query heads?
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
# ### Exercise 4 (build): write with a cache ★★
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
end = tokenizer.special_tokens["<|endoftext|>"]
prompt_ids = torch.tensor([end, *tokenizer.encode("Once upon a time")])
print(tokenizer.decode(write_with_cache(base_llm, prompt_ids, 12)).strip())

# %% [markdown]
# ### Exercise 5 (build): a cache of your own ★★★
#
# Now write the same without `model(...)` and without `new_cache`: keep a pair of keys and values for each block, in a list.
# Take from the model its embedding, its norms, its matrices and `model.rotary(slice(t, t + 1))`, the rotation of position $t$ for `apply_rope` of `llmcourse.model.positions`.
# Read one position at a time, the prompt included.
#
# ```python
# def write_by_hand(model, ids, n) -> list[int]:  # as write_with_cache
# ```
#
# Compare with `write_with_cache` for `base-llm` and for a model with fewer key-value heads.
# Expect 25 to 35 lines.
# Which of your lines would change for a mixture of experts?


# %% tags=["hide-cell", "solution"]
from llmcourse.model.positions import apply_rope


def attend_one(layer, seen, rotation, caches, number):
    """Return what attention adds at the new position (1, 1, D); extend its cache."""
    query, key, value = (
        part(seen).unflatten(-1, (-1, layer.d_head)).transpose(1, 2)
        for part in (layer.query, layer.key, layer.value)
    )  # (1, H, 1, d_head), (1, K, 1, d_head) twice
    query, key = apply_rope(query, *rotation), apply_rope(key, *rotation)
    if caches[number] is not None:
        key = torch.cat((caches[number][0], key), dim=2)
        value = torch.cat((caches[number][1], value), dim=2)
    caches[number] = key, value
    group = query.shape[1] // key.shape[1]
    key, value = (heads.repeat_interleave(group, dim=1) for heads in (key, value))
    weights = (query @ key.mT / layer.d_head**0.5).softmax(dim=-1)
    return layer.output((weights @ value).transpose(1, 2).flatten(-2))


@torch.no_grad()
def write_by_hand(model, ids, n):
    caches, row = [None] * len(model.blocks), ids.tolist()
    for t in range(len(ids) + n - 1):
        x = model.embedding.weight[row[t]][None, None]
        rotation = model.rotary(slice(t, t + 1))
        for number, block in enumerate(model.blocks):
            seen = rms_norm(x, block.attention_norm.weight)
            x = x + attend_one(block.attention, seen, rotation, caches, number)
            seen = rms_norm(x, block.feed_forward_norm.weight)
            x = x + feed_forward(block.feed_forward, seen)
        if t >= len(ids) - 1:
            logits = rms_norm(x, model.norm.weight) @ model.embedding.weight.T
            row.append(int(logits.argmax()))
    return row[len(ids) :]


grouped = Transformer(replace(TINY, n_kv_heads=2), generator)
for each, start in ((base_llm, prompt_ids), (grouped, prompt_ids % TINY.vocab_size)):
    assert write_by_hand(each, start, 12) == write_with_cache(each, start, 12)
# Only the line with feed_forward: experts look at one position, and keep nothing.

# %% [markdown]
# ### Exercise 6 (explore): take the note away ★★
#
# The chapter's `student` completes `A B … A` with two layers.
# Silence one head at a time, by setting to zero the columns of `attention.output.weight` that read it.
# Measure the loss at known letters, on new walks.
# Which head can the model least do without, and how does the loss then compare with that of a one-layer model?
# What would you have to do to show the same for all seeds?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
@torch.no_grad()
def loss_without(layer, head):
    matrix = student.blocks[layer].attention.output.weight
    saved = matrix.clone()
    matrix.unflatten(-1, (2, -1))[:, head] = 0
    loss = cross_entropy(student(ids[:, :-1])[known], ids[:, 1:][known])
    matrix.copy_(saved)
    return loss.item()


for layer, head in ((0, 0), (0, 1), (1, 0), (1, 1)):
    print(
        f"without layer {layer + 1}, head {head + 1}: {loss_without(layer, head):.2f}"
    )
# Without the head that looks one place back the loss is above that of one layer: perhaps
# the second layer still looks for notes, and fetches what is wrong. Without the other
# head of layer 1 the loss rises as well. So layer 2 relies on both; this test does not
# say on what.
# The heads of layer 2 can stand in for each other in part. For all seeds: train
# small_model(2, seed=...) with each, and find the head by its share, not by its number.

# %% [markdown]
# ## Sources
#
# - The transformer: {cite:t}`vaswani2017`; the norm before each part: studied by {cite:t}`xiong2020`; decoder-only, trained on next-token prediction: {cite:t}`radford2018`, {cite:t}`radford2019`; encoder-only: {cite:t}`devlin2019`.
# - The parts: RMSNorm {cite:p}`zhang2019`, LayerNorm {cite:p}`ba2016`, GELU {cite:p}`hendrycks2016`, SwiGLU {cite:p}`shazeer2020`; Llama, which joins them: {cite:t}`touvron2023`.
# - Mixtures of experts: {cite:t}`shazeer2017`, {cite:t}`fedus2022`, {cite:t}`jiang2024`.
# - Induction heads: {cite:t}`olsson2022`, after {cite:t}`elhage2021`, who read small models of attention by hand; learning without positions: {cite:t}`haviv2022`; attention without a residual stream: {cite:t}`dong2021`.
# - Looking inside: the logit lens {cite:p}`nostalgebraist2020`, probing {cite:p}`belinkov2022`, superposition {cite:p}`elhage2022`, sparse autoencoders {cite:p}`cunningham2024`.
# - Counting parameters and operations: {cite:t}`kaplan2020` and {cite:t}`hoffmann2022`.
