# %% [markdown]
# (whole_algorithm)=
# # The whole algorithm
#
# Here is a whole GPT, from its derivatives to the text that it writes, in fewer than 200 lines of plain Python.
# A GPT learns to predict the next word of a text, and writes by predicting one word after another.
# Apart from the stories, which come from the course's package, it needs only the standard library.
#
# Everything else in this course makes these lines faster, larger, or more useful.
# Read them first, and nothing later will seem like magic; read them last, and you will recognise every line.
#
# **You need** Python and the chain rule.
#
# **Takes** about half an hour to read with the code.
#
# **Runs in** about half a minute on one processor core.

# %% [markdown]
# ## A text
#
# The model will learn to begin a story.
# Here is all that it imports.

# %%
import math
import random
import re
from itertools import pairwise
from operator import mul
from textwrap import fill

from llmcourse.text import tales

# %% [markdown]
# The model's text is the first sentences of 2,000 tales, cut into words, with `END` before and after each sentence.
# Each punctuation mark, such as a comma or a hyphen, counts as a word.

# %%
starts = [
    re.match(r".*?[.!?]", story.text)[0] for story in tales.generate(2000, seed=0)
]
sentences = [re.findall(r"\w+|[^\w\s]", start) for start in starts]
END = "<end>"
words = [END, *sorted({word for sentence in sentences for word in sentence})]
number = {word: i for i, word in enumerate(words)}
print(len(words), "words:", *words[40:52])
print(*sentences[0][:13])

# %% [markdown]
# ## Derivatives
#
# A model is made of numbers that it learns, its **weights**; the **loss** says how bad its predictions are.
# For each weight, a training step asks: if this number grows a little, does the loss go up or down, and how fast?
# The answer is the number's **gradient**.
# So each vector below keeps two lists of the same length: its numbers and their gradients.
#
# Each operation computes its result, and appends a function `back` to a list, the **tape**.
# Given the gradient of the result, `back` adds to the gradients of the inputs, by the chain rule.
# Calling these functions from the last to the first is **backpropagation**.


# %%
class Vector:
    """Some numbers, and the derivative of the loss by each of them."""

    def __init__(self, data):
        self.data = data
        self.grad = [0.0] * len(data)


tape = []


# %% [markdown]
# In a sum, the gradient of the result goes unchanged to both inputs.


# %%
def add(a, b):
    out = Vector([x + y for x, y in zip(a.data, b.data)])

    def back():
        a.grad = [g + up for g, up in zip(a.grad, out.grad)]
        b.grad = [g + up for g, up in zip(b.grad, out.grad)]

    tape.append(back)
    return out


# %% [markdown]
# The product of a matrix with a vector is one dot product for each row, a sum of weights times inputs.
# In `back`, a weight gets the gradient of its row's result (`up`) times the input.
# An input gets the same gradient times the weight, added up over the rows.


# %%
def dot(a, b):
    return sum(map(mul, a, b))


def linear(matrix, x):
    """Return the product of a matrix, a list of its rows, with a vector."""
    out = Vector([dot(row.data, x.data) for row in matrix])

    def back():
        for row, up in zip(matrix, out.grad):
            row.grad = [g + up * value for g, value in zip(row.grad, x.data)]
        columns = zip(*(row.data for row in matrix))
        x.grad = [g + dot(out.grad, column) for g, column in zip(x.grad, columns)]

    tape.append(back)
    return out


# %% [markdown]
# `linear` does most of the work, here and in every large model.
# The next operations are not linear; without them, all the layers together could do no more than a single matrix.
#
# The first keeps positive numbers, and replaces negative ones with 0.


# %%
def relu(x):
    out = Vector([max(0.0, value) for value in x.data])

    def back():
        x.grad = [g + up * (y > 0) for g, up, y in zip(x.grad, out.grad, out.data)]

    tape.append(back)
    return out


# %% [markdown]
# The second brings every vector to the same length.
# The factor `scale` depends on $x$ as well, so the derivative has two terms: $\partial y_j / \partial x_i = s\,(\delta_{ij} - y_i y_j / n)$.
# Here $y$ is the result, $s$ is `scale`, and $\delta_{ij}$ is 1 if $i = j$, and 0 otherwise.


# %%
def norm(x):
    """Divide by the root of the mean square, so that vectors keep one length."""
    n = len(x.data)
    scale = (dot(x.data, x.data) / n + 1e-5) ** -0.5
    out = Vector([value * scale for value in x.data])

    def back():
        along = dot(out.grad, out.data) / n
        x.grad = [
            g + scale * (up - along * y) for g, up, y in zip(x.grad, out.grad, out.data)
        ]

    tape.append(back)
    return out


# %% [markdown]
# The third turns any numbers into probabilities.
# Subtracting the largest first changes no share, and keeps `exp` from overflowing.
# `softmax` isn't on the tape itself; `attend` and the loss, which call it, take its derivative.


# %%
def softmax(values):
    """Return shares that sum to one; the largest value gets the most."""
    largest = max(values)
    powers = [math.exp(value - largest) for value in values]
    total = sum(powers)
    return [power / total for power in powers]


print([round(share, 2) for share in softmax([0.0, 1.0, 2.0])])

# %% [markdown]
# Attention lets a word fetch what it needs from the words so far, itself included.
# Every word has three vectors: it asks with its **query**, is found by its **key**, and hands over its **value**.
# The better a key fits the query, the larger the share of its value in the result.
# The vectors are cut into two parts, the **heads**.
# Each head works by itself, so a word can look at two places at once.
# How well a key fits is its *score*: the dot product of the two parts, divided by the root of how many numbers a part has, so that longer parts do not get larger scores.
#
# For the softmax, with scores $s$ and shares $p$, the derivative is $\partial p_i / \partial s_j = p_i (\delta_{ij} - p_j)$.
# In the code, `share_grads` holds the loss's derivative by each share, and `mean` is their mean, weighted by the shares.
# A score's derivative is its share times the difference between its entry in `share_grads` and `mean`.
# The section *Is it right?* compares all derivatives with torch's.


# %%
def add_to(vector, part, more):
    vector.grad[part] = [g + m for g, m in zip(vector.grad[part], more)]


def attend(query, keys, values, n_heads):
    """Return, for each head, the mean of the values whose keys fit its query."""
    size = len(query.data) // n_heads
    heads, mixed = [], []
    for start in range(0, len(query.data), size):
        part = slice(start, start + size)
        scores = [dot(query.data[part], k.data[part]) / size**0.5 for k in keys]
        shares = softmax(scores)
        columns = zip(*(value.data[part] for value in values))
        mixed += [dot(shares, column) for column in columns]
        heads.append((part, shares))
    out = Vector(mixed)

    def back():
        for part, shares in heads:
            up = out.grad[part]
            share_grads = [dot(up, value.data[part]) for value in values]
            mean = dot(shares, share_grads)
            for share, grad, key, value in zip(shares, share_grads, keys, values):
                slope = share * (grad - mean) / size**0.5
                add_to(value, part, [share * u for u in up])
                add_to(query, part, [slope * k for k in key.data[part]])
                add_to(key, part, [slope * q for q in query.data[part]])

    tape.append(back)
    return out


# %% [markdown]
# Here is the tape at work on three operations, with numbers that you can follow on paper.
# The matrix of `linear` has a single row, `w`.
#
# ![Above, forwards: a = 2, −1 and b = 1, −2 go through add, 3, −3, through relu, 3, 0, and with w = 2, 5 through linear, 6. An arrow leads from each operation down to its backward function, on the tape. Below, backwards: from 1 the first call, back of linear, leads to 2, 5 and to w: 3, 0; the second, back of relu, to 2, 0; the third, back of add, to a: 2, 0 and b: 2, 0.](figures/tape-forwards-and-back.svg)
#
# *Numbers are blue, and the gradients of the numbers above them are orange; the 1 is given.
# The function appended last is called first.*

# %%
a, b, w = Vector([2.0, -1.0]), Vector([1.0, -2.0]), Vector([2.0, 5.0])
result = linear([w], relu(add(a, b)))
result.grad = [1.0]  # we ask by how much the result itself changes
for back in reversed(tape):
    back()
tape.clear()
print(f"result {result.data}; gradients: a {a.grad}, b {b.grad}, w {w.grad}")

# %% tags=["remove-cell"]
assert (result.data, w.grad, a.grad, b.grad) == ([6], [3, 0], [2, 0], [2, 0])

# %% [markdown]
# If the first number of `a` grows by 0.1, the result grows by 0.2.
# The second number can change a little without any effect, since `relu` made it 0.
#
# ## The model
#
# A word becomes a vector, and so does its place in the sentence; their sum goes through a block.
# There, attention gathers information from the words so far, and a small network transforms it.
# Both only *add* to the vector.
# Large models stack from a few dozen to more than a hundred such blocks.
# `norm` brings every vector to the same length before it is read.
# At the end, the vector is compared with the vector of every word: the more alike the two are, the more probable this word is to come next.
#
# ![From below, a thick blue line: words, 261 × 24, plus places, 32 × 24. The first branch leads through norm, query, key, value, 3 × (24 × 24), attend with 2 heads of 12, and output, 24 × 24, back to a plus on the line; keys and values are kept in the cache. The second leads through norm, wide, 72 × 24, relu, and narrow, 24 × 72, to another plus. Above, norm, words again, and 261 scores. A table: words 6,264, places 768, attention 2,304, network 3,456, total 12,792.](figures/model-of-one-page.svg)
#
# *The whole model.
# The learned parts are green or orange, and labelled with their rows and columns.
# The scores use the same word vectors as the input.*

# %%
D, HEADS, BLOCKS, LONGEST = 24, 2, 1, 32
rng = random.Random(0)


def matrix(n_rows, n_columns, spread):
    return [
        Vector([rng.gauss(0, spread) for _ in range(n_columns)]) for _ in range(n_rows)
    ]


# %%
model = {"words": matrix(len(words), D, 0.1), "places": matrix(LONGEST, D, 0.1)}
for b in range(BLOCKS):
    for name in ("query", "key", "value"):
        model[f"{name} {b}"] = matrix(D, D, D**-0.5)
    model[f"output {b}"] = matrix(D, D, 0.0)  # a new block adds nothing at first
    model[f"wide {b}"] = matrix(3 * D, D, D**-0.5)
    model[f"narrow {b}"] = matrix(D, 3 * D, 0.0)

# %% [markdown]
# These are its matrices, with their rows and columns.

# %%
weights = [row for rows in model.values() for row in rows]
for name, rows in model.items():
    print(f"{name:8} {len(rows):3} × {len(rows[0].data)}")
print(f"{sum(len(row.data) for row in weights):,} numbers to be learned")


# %%
def next_word(i, place, cache):
    """Return the scores of all words to follow word i; the cache grows by one place."""
    x = add(model["words"][i], model["places"][place])
    for b in range(BLOCKS):
        keys, values = cache[b]
        seen = norm(x)
        keys.append(linear(model[f"key {b}"], seen))
        values.append(linear(model[f"value {b}"], seen))
        found = attend(linear(model[f"query {b}"], seen), keys, values, HEADS)
        x = add(x, linear(model[f"output {b}"], found))
        hidden = relu(linear(model[f"wide {b}"], norm(x)))
        x = add(x, linear(model[f"narrow {b}"], hidden))
    return linear(model["words"], norm(x))


# %%
def empty_cache():
    return [([], []) for _ in range(BLOCKS)]


# %% [markdown]
# The keys and values of the words so far are kept in the cache, and a word sees only what is there.
# Later words need not be hidden: they have not been read yet.
#
# ## The loss
#
# The loss of a word is $-\ln p$, where $p$ is the probability that the model gave it.
# It is 0 if the model was certain of this word, and $\ln V$ if all $V$ words were equally probable; its unit is the **nat**.
# A new model, with random weights, starts near $\ln V$ or a little above it, because it prefers some words by accident.
# By the formula for the softmax, the derivative of $-\ln p$ by a score is its share, minus 1 for the word that came.


# %%
def loss(sentence):
    """Return the mean loss of a sentence's words, in nats; set its scores' gradients."""
    ids = [number[word] for word in (END, *sentence, END)]
    cache, total = empty_cache(), 0.0
    for place, (i, target) in enumerate(pairwise(ids)):
        scores = next_word(i, place, cache)
        shares = softmax(scores.data)
        total -= math.log(shares[target])
        shares[target] -= 1.0  # now the derivative of -ln p by each score
        scores.grad = [share / (len(ids) - 1) for share in shares]
    return total / (len(ids) - 1)


# %%
untrained = loss(sentences[0])
tape.clear()
print(f"before training {untrained:.2f} nats; ln V = {math.log(len(words)):.2f} nats")

# %% [markdown]
# ## Learning
#
# For each sentence in turn, compute the loss, play the tape backwards, and move every weight a little against its gradient.
# **AdamW** divides the mean of a weight's recent gradients by their usual size, the root of the mean of their squares.
# So a weight with small gradients moves about as fast as one with large gradients; one whose gradients keep changing sign hardly moves.
# Both means begin at zero; in step $t$, dividing by $1 - 0.9^t$ and $1 - 0.99^t$ makes up for that.
# AdamW also pulls every weight a little towards zero.

# %%
RATE, STEPS = 0.015, 800
means = [[0.0] * len(row.data) for row in weights]
squares = [[0.0] * len(row.data) for row in weights]


# %% [markdown]
# A step learns from one sentence, at a rate that rises over the first 50 steps and then falls towards zero.
# The model reads 800 of the 2,000 sentences, each once; each printed loss is the mean over the last 200.


# %%
def step(sentence, t):
    """Learn from a sentence; return its loss before that."""
    cost = loss(sentence)
    for back in reversed(tape):
        back()
    tape.clear()
    rate = RATE * min(1, t / 50) * (1 - t / (STEPS + 1))  # warm up, then slow down
    a, b = 1 - 0.9**t, 1 - 0.99**t  # both means begin at zero
    for n, row in enumerate(weights):
        means[n] = [0.9 * m + 0.1 * g for m, g in zip(means[n], row.grad)]
        squares[n] = [0.99 * s + 0.01 * g * g for s, g in zip(squares[n], row.grad)]
        row.data = [
            w - rate * (m / a / ((s / b) ** 0.5 + 1e-8) + 0.01 * w)
            for w, m, s in zip(row.data, means[n], squares[n])
        ]
        row.grad = [0.0] * len(row.data)
    return cost


# %%
costs = []
for t in range(1, STEPS + 1):
    costs.append(step(sentences[t % len(sentences)], t))
    if t % 200 == 0:
        print(f"after {t:4} sentences: {sum(costs[-200:]) / 200:.1f} nats a word")


# %% [markdown]
# ## Writing
#
# To write, ask the model for the probabilities of the next word, draw a word from them, and let the model read it like any other.
#
# ![A ring of boxes. The last word and its place go into next_word, which reads from the cache of keys and values and adds to it. Out come 261 scores; softmax makes shares of them: boy and girl have long bars, otter a short one. One word is drawn, and goes in as the next last word.](figures/one-word-at-a-time.svg)
#
# *Once around writes one word; the shares are an example.*


# %%
def write(rng):
    """Return a sentence of the model's own."""
    cache, written = empty_cache(), [END]
    while len(written) < LONGEST:
        scores = next_word(number[written[-1]], len(written) - 1, cache)
        written += rng.choices(words, softmax(scores.data))
        tape.clear()
        if written[-1] == END:
            break
    text = " ".join(written[1:]).removesuffix(END).replace(" - ", "-")
    return re.sub(r" ([,.])", r"\1", text)


# %%
written = [write(random.Random(seed)) for seed in range(4)]
print(*(fill(sentence, 80) for sentence in written), sep="\n\n")

# %% [markdown]
# ## How good is it?
#
# Some of these sentences read almost like the beginning of a tale, and others fall apart.
# Strictly speaking, no tale can begin with any of the four: in the tales, Toffee is never a girl, and nobody lives *beside the houseboat*.
# A grammar writes the tales, and it knows the probability of every beginning.
# So we know the **floor**, the loss that no model can beat on average ([The whole pipeline, once](pipeline.ipynb) explains it).
# Here it is for the first sentences of 100 other tales, next to this model's loss on them, from one run with one seed.

# %%
new = [re.match(r".*?[.!?]", story.text)[0] for story in tales.generate(100, seed=1)]
cut = [re.findall(r"\w+|[^\w\s]", start) for start in new]
n_words = sum(len(sentence) + 1 for sentence in cut)
floor = -sum(map(tales.world().prefix_log_prob, new)) / n_words
cost = sum(loss(sentence) * (len(sentence) + 1) for sentence in cut) / n_words
tape.clear()
print(f"model {cost:.2f} nats a word, floor {floor:.2f}")


# %% tags=["hide-input"]
def begins_a_tale(sentence):
    try:
        return tales.world().prefix_log_prob(sentence) > -math.inf
    except ValueError:  # no tale begins like that
        return False


assert all(map(begins_a_tale, new)) and not any(map(begins_a_tale, written))

# %% [markdown]
# ## Is it right?
#
# Here is the same model in torch, the library of the rest of the course, with the same weights.
# It must give the same loss, the same gradients and, after five steps of torch's own AdamW, the same weights.

# %% tags=["hide-input"]
import torch
from torch.nn import functional

theirs = {
    name: torch.tensor([row.data for row in rows], dtype=torch.float64).requires_grad_()
    for name, rows in model.items()
}


def torch_loss(sentence):
    """Return the loss of a sentence by the same model, written with torch."""
    ids = torch.tensor([number[word] for word in (END, *sentence, END)])
    x = theirs["words"][ids[:-1]] + theirs["places"][: len(ids) - 1]
    for b in range(BLOCKS):
        seen = functional.rms_norm(x, (D,), eps=1e-5)
        q, k, v = (
            (seen @ theirs[f"{name} {b}"].T).view(-1, HEADS, D // HEADS).transpose(0, 1)
            for name in ("query", "key", "value")
        )
        found = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + found.transpose(0, 1).flatten(1) @ theirs[f"output {b}"].T
        seen = functional.rms_norm(x, (D,), eps=1e-5)
        x = x + (seen @ theirs[f"wide {b}"].T).relu() @ theirs[f"narrow {b}"].T
    scores = functional.rms_norm(x, (D,), eps=1e-5) @ theirs["words"].T
    return functional.cross_entropy(scores, ids[1:])


ours = loss(sentences[0])
for back in reversed(tape):
    back()
tape.clear()
their_loss = torch_loss(sentences[0])
their_loss.backward()
assert abs(ours - their_loss.item()) < 1e-9
for name, rows in model.items():
    torch.testing.assert_close(
        torch.tensor([row.grad for row in rows], dtype=torch.float64), theirs[name].grad
    )
for row in weights:
    row.grad = [0.0] * len(row.data)

# Five steps from the beginning of AdamW's means, at the rates of `step`
means = [[0.0] * len(row.data) for row in weights]
squares = [[0.0] * len(row.data) for row in weights]
adamw = torch.optim.AdamW(theirs.values(), betas=(0.9, 0.99), weight_decay=0.01)
for t in range(1, 6):
    step(sentences[t], t)
    adamw.param_groups[0]["lr"] = RATE * t / 50 * (1 - t / (STEPS + 1))
    adamw.zero_grad()
    torch_loss(sentences[t]).backward()
    adamw.step()
for name, rows in model.items():
    ours = torch.tensor([row.data for row in rows], dtype=torch.float64)
    torch.testing.assert_close(ours, theirs[name].detach(), rtol=1e-6, atol=1e-8)
print("loss, gradients and five steps are equal")

# %% [markdown]
# ## What is missing
#
# No basic idea is missing.
# The models in the rest of this course differ from this one mainly in size and speed.
# They read pieces of words instead of whole words ([Tokenization](tokenization.ipynb)), many positions at once in one matrix product ([The transformer](transformer.ipynb)), and millions of tokens of text ([Pretraining](pretraining.ipynb)).
# Afterwards they learn to answer ([Instruction tuning](instruction_tuning.ipynb)), and to answer the way people prefer ([Learning from preferences: RLHF](rlhf.ipynb)).
# The first takes the same loss, the second another one, and also texts that the model writes itself.

# %% [markdown]
# ## Exercises
#
# A **{term}`finite difference`** tells whether a gradient worked out on paper is right: move one number a little up, then a little down, and divide the change in the result by the distance.
# It takes two passes for every number, so nobody trains like that, but hardly any slip escapes it.
# In the next cell, the result is a weighted sum of the numbers that the operation returns.


# %%
def compare(operation, *inputs):
    """Compare the gradients of an operation with finite differences."""

    tape.clear()  # of what an error has left there

    def result():
        out = operation(*inputs)
        return out, sum(n * value for n, value in enumerate(out.data, 1))

    for x in inputs:
        x.grad = [0.0] * len(x.data)
    out, _ = result()
    out.grad = [float(n) for n in range(1, len(out.data) + 1)]
    for back in reversed(tape):
        back()
    for k, x in enumerate(inputs, 1):
        for i, value in enumerate(x.data):
            x.data[i] = value + 1e-5
            above = result()[1]
            x.data[i] = value - 1e-5
            slope = (above - result()[1]) / 2e-5
            x.data[i] = value
            found = f"got {x.grad[i]:.4f}, expected {slope:.4f}"
            assert abs(x.grad[i] - slope) < 1e-6, f"input {k}, number {i}: {found}"
    tape.clear()
    print("all gradients are right")


# %% [markdown]
# Two of the page's operations show how it is used.

# %%
a, b = Vector([2.0, -1.0, 0.5]), Vector([1.0, -2.0, 3.0])
compare(add, a, b)
compare(norm, a)

# %% [markdown]
# ### Exercise 1 (build): a gate ★★
#
# In Llama's blocks a *gate* takes the place of `relu`: two vectors are multiplied, number by number, and one of them has gone through SiLU, $x\,\sigma(x)$, where $\sigma(x) = 1 / (1 + e^{-x})$.
# Write both operations, each with its `back`.
#
# ```python
# def multiply(a, b):
#     return out
#
#
# def silu(x):
#     return out
# ```
#
# Check them with `compare(multiply, a, b)` and `compare(silu, a)`.
# Then try `compare(lambda x: multiply(x, silu(x)), a)`, where `a` goes in twice.
# What would go wrong there if `back` replaced gradients instead of adding to them?


# %% tags=["hide-cell", "solution"]
def multiply(a, b):
    out = Vector([x * y for x, y in zip(a.data, b.data)])

    def back():
        a.grad = [g + up * y for g, up, y in zip(a.grad, out.grad, b.data)]
        b.grad = [g + up * x for g, up, x in zip(b.grad, out.grad, a.data)]

    tape.append(back)
    return out


def silu(x):
    gates = [1 / (1 + math.exp(-value)) for value in x.data]
    out = Vector([value * gate for value, gate in zip(x.data, gates)])

    def back():
        # (x σ)' = σ + x σ (1 − σ)
        slopes = [s + v * s * (1 - s) for v, s in zip(x.data, gates)]
        x.grad = [g + up * slope for g, up, slope in zip(x.grad, out.grad, slopes)]

    tape.append(back)
    return out


compare(multiply, a, b)
compare(silu, a)
compare(lambda x: multiply(x, silu(x)), a)
# The second call would throw away what the first had found: `a` has two ways to the
# result, and its gradient is the sum over both.

# %% [markdown]
# ### Exercise 2 (explore): a lower temperature ★
#
# Change `write` so that it divides the scores by a **temperature** before the softmax.
# Write forty sentences at temperature 1, and forty at 1/2.
# How many can begin a tale, according to `begins_a_tale` in the folded cell of *How good is it?*, and how many different words do they use in all?
# What happens to both numbers as the temperature goes to 0?


# %% tags=["hide-cell", "solution"]
def write_at(temperature, rng):
    cache, written = empty_cache(), [END]
    while len(written) < LONGEST:
        scores = next_word(number[written[-1]], len(written) - 1, cache)
        shares = softmax([score / temperature for score in scores.data])
        written += rng.choices(words, shares)
        tape.clear()
        if written[-1] == END:
            break
    text = " ".join(written[1:]).removesuffix(END).replace(" - ", "-")
    return re.sub(r" ([,.])", r"\1", text)


for temperature in (1, 1 / 2):
    drawn = [write_at(temperature, random.Random(seed)) for seed in range(40)]
    right = sum(map(begins_a_tale, drawn))
    parted = [re.findall(r"\w+|[^\w\s]", sentence) for sentence in drawn]
    different = {word for sentence in parted for word in sentence}
    print(f"temperature {temperature}: {right} of 40, {len(different)} different words")
# Less probable words, and with them slips, become rarer, and so does variety. Near 0
# the most probable word is always taken: all forty are one sentence, so the first number
# becomes 0 or 40, and the second that sentence's number of different words.

# %% [markdown]
# ## Sources
#
# - A whole GPT in one file, on scalars: Karpathy's *microgpt*; its way of taking derivatives: his *micrograd*.
# - Backpropagation: made known by {cite:t}`rumelhart1986`; attention in this form: {cite:t}`vaswani2017`; the optimizer: {cite:t}`loshchilov2019`.
