# %% [markdown]
# (pretraining)=
# # Pretraining
#
# A language model learns by guessing the next token at every place of a great deal of text.
# The entropy of our text is known, so at any moment we can say how much has been learned, and how much is left to learn.
#
# **You will be able to**
#
# - turn a text into training examples, and a model's guess into a loss in nats,
# - write the training loop with AdamW and its schedule, and say what warm-up, clipping, accumulation, checkpoints and mixed precision are for,
# - read a loss: against the floor, against simple models, per token, per byte, and word by word; and say why looking things up is learned late,
# - evaluate a base model by multiple choice, and recognise from its losses a leak or a text learned by heart.
#
# **You need** the chapters [The transformer](transformer.ipynb) and [The corpus](corpus.ipynb); for the part up to *Windows and batches* it's enough to look up *logits*, *softmax* and *entropy floor* in the [Glossary](glossary.md).
#
# **Takes** about 50 minutes to read with the code.
#
# **Runs in** about two minutes on one processor core.

# %% [markdown]
# ## Setup

# %% tags=["hide-input"]
import copy
import re
import textwrap
from dataclasses import replace
from math import cos, exp, inf, log, pi
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel

from llmcourse import plotting, studies
from llmcourse.checks import pretraining as checks
from llmcourse.model.folders import load_pretrained
from llmcourse.model.generation import GREEDY, Sampling, write
from llmcourse.model.transformer import Transformer
from llmcourse.text import ngrams, tales
from llmcourse.text.documents import python_docs
from llmcourse.text.documents import tales as tale_documents
from llmcourse.text.ngrams import compressed_bits_per_byte
from llmcourse.text.tales import word_surprises
from llmcourse.training import pipeline, windows
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import Evaluation, learning_rate
from llmcourse.training.evaluation import (
    count_valid,
    recall_losses,
    recalls,
    tale_loss,
    text_loss,
    word_losses,
    write_samples,
)
from llmcourse.training.optimizers import make_optimizer, orthogonalise
from llmcourse.training.pipeline import token_array
from llmcourse.training.presets import BASE_LLM, SMALL
from llmcourse.training.pretraining import pretrain
from llmcourse.widgets.loss import LossExplorer, Moment
from llmcourse.widgets.sampling import SamplingExplorer

plotting.use_course_style()
_ = torch.set_num_threads(1)

# %% [markdown]
# ## The problem
#
# *The quick brown fox jumps over the lazy …*
#
# You know the next word, and you did not reason it out: you have read the sentence before.
# `base-llm`, the model that comes with this book, has read {term}`tales` and nothing else.
# Its vocabulary has the word; what does it say?

# %%
base, base_tokenizer = load_pretrained("base-llm")
prompt = "The quick brown fox jumps over the lazy"
ids = torch.tensor([[0, *base_tokenizer.encode(prompt)]])  # 0: a text begins
with torch.no_grad():
    probs = base(ids)[0, -1].softmax(dim=-1)  # (V,)

# %% tags=["nbval-ignore-output"]
best = probs.topk(3).indices.tolist()
dog = base_tokenizer.encode(" dog")[0]
print("most probable:", [base_tokenizer.decode([i]) for i in best])
print(f"' dog': {probs[dog]:.1%}")

# %% tags=["remove-cell"]
assert dog not in best

# %% [markdown]
# Dogs do occur in the tales, but the word *lazy* doesn't, so this model doesn't expect a dog after it.
# The model isn't stupid; it hasn't read what you have read.
# Everything that a language model knows came in through one question: *what is the next token?*
# Guessing it is called **{term}`next-token prediction`**; this chapter does so hundreds of thousands of times, and measures what comes of it.

# %% [markdown]
# ## By hand
#
# Suppose that the eight different words of that sentence are a whole language.
# After *the lazy*, a model gives each of them a score.
# Softmax turns the scores into a distribution.
# The loss is minus the logarithm of the probability of the word that really came.
#
# | word | score $z$ | exponential $e^z$ | probability $p = e^z / 28.8$ |
# |---|---|---|---|
# | *dog* | 3 | 20.1 | 0.70 |
# | *fox* | 1 | 2.7 | 0.09 |
# | each of the other six | 0 | 1 | 0.035 |
#
# So *dog* costs $-\ln 0.70 = 0.36$ {term}`nat`s.
# A model that knows nothing gives each word $1/8$ and pays $\ln 8 = 2.08$ nats, whatever comes.
#
# ![A curve of the loss in nats over the probability of the word that came. It falls from 4 at a probability near 0, steeply at first, to 0 at probability 1. Three points on it: lazy costs 3.36, knowing nothing 2.08, dog 0.36.](figures/loss-of-what-came.svg)
#
# *A word that came at a probability of 0.035, such as “lazy”, would have cost more than knowing nothing.*

# %%
words = f"{prompt} dog".lower().split()
vocab = list(dict.fromkeys(words))  # each word once
scores = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 3])
probs = scores.softmax(dim=0)
loss = -probs[vocab.index("dog")].log()
print(f"dog costs {loss:.2f} nats; knowing nothing costs {log(8):.2f} nats")

# %% tags=["hide-input"]
torch.testing.assert_close(loss, cross_entropy(scores, torch.tensor(7)))

# %% [markdown]
# This sentence teaches more than *dog*: every word but the first is the answer to a question that the words before it ask.

# %%
for i in range(1, len(words)):
    print(f"{words[i]:5} after {' '.join(words[:i])}")

# %% [markdown]
# Nine words, eight examples.
# A transformer answers all eight in a single pass, since no position can see what comes after it.
# Nobody had to label anything: the text itself holds the answers, which is why this is called **self-supervised learning**.
#
# ![From a lower row of eight words that are read, the to lazy, arrows lead up into one wide box, where each position sees what is to its left. From there eight arrows lead up to a row of targets, the same sentence shifted by one word: quick to dog.](figures/guesses-of-one-window.svg)
#
# *The same sentence twice, shifted by one word: below, what is read; above, what is to be guessed.*
#
# Two of the questions end with *the*: the answer to one is *quick*, to the other *lazy*.
# A model that sees only one word back must split its bet; one that sees the whole row needn't.

# %% [markdown]
# ## The idea
#
# The probability of a text is a product of next-token probabilities, so the losses add up:
#
# $$-\ln p_\theta(x_1, \dots, x_T) = -\sum_{t=1}^{T} \ln p_\theta(x_t \mid x_1, \dots, x_{t-1}).$$
#
# A model that writes in this way, one token after the other, is {term}`autoregressive`.
# The loss of a model is the mean over all positions in the text, and training moves the weights $\theta$ against its gradient.
# Averaged over everything that the source can write, it has two parts:
#
# $$\mathcal{L}(\theta) = H + D_\text{KL}(\text{source} \,\|\, p_\theta) \;\ge\; H.$$
#
# $H$ is the {term}`entropy` of the source: what is truly uncertain at each position.
# $D_\text{KL}$, the Kullback–Leibler divergence, is what the model has not learned: the mean of $\ln (p / p_\theta)$, where $p$ is the source's own probability.
# It is never negative.
# (On the very texts that it was trained on, a model can pay less than $H$, as the section *Learning by heart* shows.)
# On ordinary text nobody knows $H$, so nobody can tell the two apart.
# The tales come from a grammar whose $H$ is computed exactly ([The corpus](corpus.ipynb)), so here we can.
#
# | Symbol | Meaning | Unit | Name in code |
# |---|---|---|---|
# | $\mathcal{L}$ | mean loss over the tokens that came | nats/token | `loss` |
# | $H$ | entropy of the source: the floor | nats/token | `floor` |
# | $\mathcal{L} / H - 1$ | what is left to learn, as a share of the floor | – | `gap` |
# | $e^{\mathcal{L}}$ | **{term}`perplexity`**: as uncertain as a fair die with that many sides | tokens | `perplexity` |
# | $\frac{\mathcal{L}}{\ln 2} \cdot \frac{\text{tokens}}{\text{bytes}}$ | {term}`bits per byte`: compares across tokenizers | bits/byte | `bits_per_byte` |
# | $B$, $T$ | windows in a batch, tokens read from each | – | `batch_size`, `context_length` |

# %% [markdown]
# ## In code
#
# ### Windows and batches
#
# The data are freshly told tales and a tokenizer trained on them.
# All stories form one long row of ids, with the mark `<|endoftext|>`, number 0, around each.
# The model and its recipe, `SMALL`, are those of [The whole pipeline, once](pipeline.ipynb), with 2,400 steps instead of 4,000.

# %%
data = pipeline.prepare(SMALL)
tokenizer, sizes = data.tokenizer, SMALL.model
plan = replace(SMALL.pretraining, steps=2400)
n_marks = int((data.train == 0).sum())
tokens_per_step = round(len(data.train) / n_marks)  # one story in each step
print(f"{n_marks - 1:,} stories, {tokens_per_step} tokens each on average")

# %% [markdown]
# Here is the model, before it has learned anything.


# %%
model = SMALL.new_model()  # its first weights are explained further down
n_parameters = sum(weight.numel() for weight in model.parameters())
log_vocab = log(sizes.vocab_size)
print(f"{n_parameters:,} parameters; it will read {plan.steps:,} stories")
print(f"log V = {log_vocab:.2f} nats/token")

# %% [markdown]
# A window is $T + 1$ tokens of that row.
# The model reads all but the last, and the targets are all but the first.
# Several windows together are a **batch**, and one update of the weights is a **step**.
# When all windows have been read once, one **epoch** is over.
# The windows below begin anywhere; in training on tales, each window begins with a story and holds nothing else (`start_token=0`), and in this page's minute of training a batch is one window.
#
# Where a window holds the end of one text and the beginning of the next, the second can look back at the first.
# The mark between them says only that they are unrelated; the model has to learn to ignore what is before it.
# Llama 3 hides the earlier text instead: a token can look only at tokens of its own text {cite:p}`grattafiori2024`.
# (Its authors found that this mattered little, except with very long windows.)
# `PackedSequences` has the same effect in [Instruction tuning](instruction_tuning.ipynb).
#
# At every position the model reads the true tokens before it, not its own guesses: this is **{term}`teacher forcing`** {cite:p}`williams1989`.
# So it can learn from all positions of a window at once.
# When it writes, it has to go on from its own words, mistakes included, which it never saw in training.
# That difference is called **{term}`exposure bias`** {cite:p}`ranzato2016`.

# %%
row = torch.tensor(data.train).long()  # the long row of ids
T = 5
rows = torch.stack([row[i : i + T + 1] for i in (0, 1000, 2000)])  # (B, T + 1)
ids, targets = rows[:, :-1], rows[:, 1:]
print(f"windows {tuple(rows.shape)}, ids and targets {tuple(ids.shape)}")
for i in range(len(rows)):
    print(ids[i].tolist(), "→", targets[i].tolist())

# %% [markdown]
# ### The loop
#
# Five lines do the learning: scores, loss, gradient, clip, step.
#
# ![Five boxes joined by arrows in a circle: scores, of shape (B, T, V); the loss, one number; the gradient, for each weight; clip, if it is too long; the step, in which the weights move. The next batch comes in from above, at the scores. In the middle: 2400 steps.](figures/training-loop.svg)
#
# *Once around is one step, with a batch of its own.*
#
# *Clip* shortens a gradient that is too long, so that no single batch counts too much (**{term}`gradient clipping`**).
# The sections *AdamW* and *The schedule* explain `make_optimizer` and `learning_rate`.
# The token embeddings form a group of their own, which may learn faster.


# %%
def learn(model, batches, config):
    optimizer = make_optimizer(model, config)  # AdamW
    losses = []
    for step in range(config.steps):
        rows = next(batches)  # (B, T + 1)
        logits = model(rows[:, :-1])  # (B, T, V)
        loss = cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # a gradient for each weight
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        for group in optimizer.param_groups:
            speed = group.get("speed", 1)
            group["lr"] = speed * learning_rate(step, config)
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
# ### AdamW
#
# Plain **stochastic gradient descent** (SGD) subtracts the gradient, times a learning rate.
# But gradients of different weights differ in size by orders of magnitude, and no single rate suits them all.
# **AdamW** {cite:p}`loshchilov2019` scales the gradient of each weight by a number of its own, so that all steps become about equally long.
# For each weight it keeps two running means, one of the gradient and one of its square.
# It divides the first by the root of the second.
#
# ![From the gradient g two arrows lead to two boxes: m, the running mean of g, and v, the running mean of g squared. Both lead to a box, m divided by the root of v, which is mostly between -1 and 1. An arrow from there, labelled minus rate times, leads to the weight. A second arrow into the weight is weight decay: multiply by 1 minus rate times decay.](figures/step-of-adamw.svg)
#
# *Whatever the size of the gradient, the step is mostly no longer than the learning rate.*
#
# **Weight decay** is the second part: each step shrinks the weight a little, whatever its gradient.
# A weight that the data does not keep in place drifts to zero.
# (The *W* in AdamW says that the shrinking is *decoupled*: it isn't added to the gradient, as it was in Adam.)


# %%
class MyAdamW:
    def __init__(self, weights, betas=(0.9, 0.99), decay=0.1):
        self.weights, self.betas, self.decay = list(weights), betas, decay
        self.means = [torch.zeros_like(w) for w in self.weights]  # of gradients
        self.squares = [torch.zeros_like(w) for w in self.weights]
        self.t = 0

    @torch.no_grad()
    def step(self, rate):
        self.t += 1
        a, b = self.betas
        for w, mean, square in zip(self.weights, self.means, self.squares):
            mean.lerp_(w.grad, 1 - a)  # a of the old mean, 1 - a of the gradient
            square.lerp_(w.grad**2, 1 - b)
            m, v = mean / (1 - a**self.t), square / (1 - b**self.t)
            w.mul_(1 - rate * self.decay)  # decay, apart from the gradient
            w.sub_(rate * m / (v.sqrt() + 1e-8))


# %% [markdown]
# Both means begin at zero, so at first they are too small; dividing by `1 - a**t` and `1 - b**t` makes up for that.
# Three weights show what the optimizer does.
# One has a small gradient, one a gradient a thousand times as large, and one a gradient whose sign changes at every step.

# %%
three = torch.zeros(3, requires_grad=True)
optimizer = MyAdamW([three], decay=0.0)
for step in range(20):
    three.grad = torch.tensor([0.01, 10.0, (-1.0) ** step])
    optimizer.step(rate=0.1)
print("after 20 steps of rate 0.1:", [round(w, 2) for w in three.tolist()])

# %% [markdown]
# The first two moved equally far, 20 times the rate.
# The third hardly moved: a gradient that keeps changing its sign is mostly noise, and its mean is near zero.
#
# Our class and torch's AdamW take the same steps.
# Both get the same matrix of weights, drawn at random.


# %%
def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


mine = torch.randn(4, 3, generator=seeded())
theirs = mine.clone().requires_grad_()
my_adamw = MyAdamW([mine])
torch_adamw = torch.optim.AdamW([theirs], 0.02, betas=(0.9, 0.99), weight_decay=0.1)

# %% [markdown]
# Five steps follow, with the same random gradients for both.

# %%
for step in range(5):
    mine.grad = theirs.grad = torch.randn(4, 3, generator=seeded(step))
    my_adamw.step(rate=0.02)
    torch_adamw.step()
torch.testing.assert_close(mine, theirs.detach())
print("after five steps, the same weights")

# %% [markdown]
# AdamW keeps two numbers for each weight; with the weight and its gradient that makes four.
# In float32, at four bytes a number, a model of 7 billion parameters needs 7 · 4 · 4 = 112 GB for them.
#
# ### Muon: all directions of a matrix at once
#
# AdamW treats a matrix as a heap of separate numbers.
# **Muon** {cite:p}`jordan2024` treats it as a matrix.
# A matrix stretches some directions more than others; its **singular values** say how much.
# The gradient of a matrix has a few large singular values and many small ones.
# So a plain step moves the matrix along only a few directions.
# Muon keeps a running mean of the gradients, makes its singular values about equal, and steps along the result.
#
# A singular value decomposition would be slow.
# The **Newton–Schulz** iteration does nearly the same with nothing but matrix products.
# $M M^\top M$ has the directions of $M$ and the cubes of its singular values.
# So a polynomial of odd powers changes only the singular values.
# The three numbers in the code are chosen so that five rounds bring most singular values to about 1.


# %%
def newton_schulz(matrix, steps=5):
    x = matrix / matrix.norm()  # all singular values are at most 1
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
    return x


# %% [markdown]
# Let's try it on a real gradient: that of an untrained model's value matrix, on the beginning of one story.

# %%
story = row[None, : tokens_per_step + 1]
untrained = Transformer(sizes, seeded())
logits = untrained(story[:, :-1])
cross_entropy(logits.flatten(0, 1), story[:, 1:].flatten()).backward()
gradient = untrained.blocks[0].attention.value.weight.grad
print("gradient (D, D):", tuple(gradient.shape))

# %% [markdown]
# Here are its singular values before and after, as shares of the largest.

# %%
for name, matrix in (("before", gradient), ("after", newton_schulz(gradient))):
    values = torch.linalg.svdvals(matrix)
    shares = values / values[0]
    print(f"{name:6}  largest 1.00, 10th {shares[9]:.2f}, 50th {shares[49]:.2f}")

# %% tags=["hide-input"]
before, after = map(torch.linalg.svdvals, (gradient, newton_schulz(gradient)))
assert before[49] < 0.1 * before[0]
assert after[49] > 0.3 * after[0]
assert 0.6 < after[9] < 1.3
theirs = orthogonalise(gradient, dtype=torch.float32)
torch.testing.assert_close(newton_schulz(gradient), theirs, rtol=1e-3, atol=1e-3)

# %% [markdown]
# A few directions no longer dominate the step.
# Muon is for the matrices inside the blocks; embeddings and norms stay with AdamW.
# It keeps no mean of squares, and models with many billions of parameters have been trained with it {cite:p}`liu2025`.
# In the package, set `optimizer="muon"` in the config; [Scaling laws](scaling_laws.ipynb) compares the two.

# %% [markdown]
# ### The schedule
#
# The learning rate sets how far a step goes, and it changes during training.
# It rises over the first steps, the **warm-up**, and then falls along half a wave of a cosine: **cosine decay** {cite:p}`loshchilov2017`.
#
# ![A curve over 2400 steps. It rises in a straight line from 0 to 0.008 in the first 100 steps, the warm-up, and then falls along half a wave of a cosine to 0.](figures/learning-rate-shape.svg)
#
# *The learning rate of this page's training run.*
#
# The first gradients are wild and AdamW's means still rest on few of them, so the first steps are short.
# At the end, short steps let the weights settle; with long ones they keep jumping around, as *Batch size, and noise in the gradient* shows below.
# (In a very short run from random weights, long steps right to the end gain more than settling does: see [Scaling laws](scaling_laws.ipynb).)


# %%
def cosine_schedule(step, steps, warmup, peak):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)  # 0 → 1
    return peak * 0.5 * (1 + cos(pi * done))


# %%
rates = [cosine_schedule(step, plan.steps, 100, 0.008) for step in range(plan.steps)]
for step in (0, 49, 99, 1250, 2399):
    print(f"step {step:5,}: rate {rates[step]:.4f}")
package_rates = [learning_rate(step, plan) for step in range(plan.steps)]
torch.testing.assert_close(rates, package_rates)

# %% [markdown]
# A cosine has to know from the start when training ends.
# Exercise 3 builds another common schedule, **warmup–stable–decay** (WSD), which doesn't.

# %% [markdown]
# ### Gradient accumulation, and many machines
#
# A batch may be too large for the memory.
# **{term}`Gradient accumulation <gradient accumulation>`** cuts it into parts and adds up their gradients before the step.
# With two parts, what the backward pass needs takes half the memory; weights, gradients and means take as much as before.
#
# The package's `pretrain` is the loop above, with measuring and saving added.
# From the same start it must give the same losses as ours, with each batch of four windows whole or in two parts.
#
# ![Above, four windows together make one gradient, and a step follows. Below, windows 1 and 2 make a gradient, windows 3 and 4 another; a plus adds the two, and one step follows.](figures/gradient-accumulation.svg)
#
# *In two parts, only two windows are in memory at a time, and the step is the same.*


# %%
def on_tales(model, config, seed=0, **options):
    return pretrain(
        model, data.train, data.valid, config, seeded(seed), start_token=0, **options
    )


# %% [markdown]
# First four steps with our own loop.

# %%
few = replace(plan, steps=4, batch_size=4, context_length=32, warmup_steps=2)
batches = windows.Windows(data.train, 32, start_token=0).shuffled(4, seeded())
losses = learn(Transformer(sizes, seeded(1)), batches, few)
print("losses:", *(f"{loss:.2f}" for loss in losses), "nats/token")

# %% [markdown]
# Then the package's, with the whole batch at once and in two parts.

# %%
for config in (few, replace(few, accumulation=2)):
    history = on_tales(Transformer(sizes, seeded(1)), config)
    package_losses = [update.loss for update in history.updates]
    torch.testing.assert_close(losses, package_losses, rtol=1e-3, atol=1e-3)
print(f"{len(losses)} steps in three ways: the same losses")

# %% [markdown]
# **{term}`Gradient checkpointing <gradient checkpointing>`** saves memory in another way {cite:p}`chen2016`.
# It keeps only some of the numbers that the backward pass needs, and computes the others again.
# That costs up to one more forward pass, and changes no result.
# (It has nothing to do with the checkpoints of the next section.)
#
# The same sum of gradients makes many processors work as one.
# In **data parallelism** each has a copy of the model and reads its part of the batch.
# Then all add up their gradients (an *all-reduce*), and all take the same step.
# If the model doesn't fit on one processor, it is split as well.
# **{term}`Sharding <sharding>`** gives each a part of the weights, of the gradients and of the optimizer's means; *ZeRO* {cite:p}`rajbhandari2020` and torch's *FSDP* {cite:p}`zhao2023` do this.
# **{term}`Tensor parallelism <tensor parallelism>`** gives each a part of every matrix {cite:p}`shoeybi2019`, and **{term}`pipeline parallelism`** some of the layers {cite:p}`huang2019`.
# All of this together is **{term}`distributed training`**; [Beyond the laptop](scaling.ipynb) runs the first two in two processes, and works out the others.

# %% [markdown]
# ### Checkpoints
#
# A long training run will be interrupted sooner or later.
# A {term}`checkpoint` holds everything that the next step depends on: the weights, the optimizer's means, the place in the shuffled data.
# The next cells stop a run with an error after step 3 and call `pretrain` again.
# Then they compare the result, bit by bit, with a run that was never stopped.
#
# ![Three rows of steps. The first goes from step 1 to step 4 in one go. The second takes steps 1, 2 and 3 and ends in an error; from its step 2 an arrow leads down to a checkpoint. The third, resumed from there, takes steps 3 and 4. A dashed line joins the two fourth steps: same bits.](figures/stopped-and-resumed.svg)
#
# *Step 3 was taken but not saved, so it is taken again.*


# %%
def stop(event):
    if event.step == 3:
        raise KeyboardInterrupt


# %% [markdown]
# A `Run` says where checkpoints are saved and after how many steps, and which function is called after each step.

# %%
stopped, resumed = Transformer(sizes, seeded(1)), Transformer(sizes, seeded(7))
with TemporaryDirectory() as folder:
    run = Run(folder=folder, interval=2)
    try:
        on_tales(stopped, few, run=replace(run, progress=stop))
    except KeyboardInterrupt:
        print("stopped at step 3; the newest checkpoint is that of step 2")
    on_tales(resumed, few, run=run)  # the checkpoint replaces its weights

# %%
uninterrupted = Transformer(sizes, seeded(1))
on_tales(uninterrupted, few)
pairs = zip(resumed.state_dict().values(), uninterrupted.state_dict().values())
print("the same bits:", all(torch.equal(a, b) for a, b in pairs))

# %% [markdown]
# A checkpoint is also the way out of a **{term}`loss spike`**, a sudden jump of the loss, which is common in large runs.
# For PaLM the run went back to a checkpoint from before each spike, and skipped a few hundred batches {cite:p}`chowdhery2023`.
#
# ### Precision
#
# A float32 has 32 bits.
# Half as many are enough for most of the arithmetic, and processors with instructions for them need less time ([Speed, side by side](performance.md) says how much).
# **bfloat16** keeps the range of float32 but gives up digits.
#
# ![Three rows of bits. float32: 1 for the sign, 8 for the exponent, 23 for the fraction. bfloat16: 1, 8 and 7. float16: 1, 5 and 10.](figures/bits-of-three-formats.svg)
#
# *The exponent says how large a number is, the fraction how precise.*
#
# With seven bits of fraction the numbers just above 1 are 1/128 apart.
# A weight of 1 that should grow by 0.001 doesn't move, however often we add it.

# %%
for dtype in (torch.bfloat16, torch.float32):
    weight = torch.ones((), dtype=dtype)
    for _ in range(100):
        weight += 0.001
    print(f"{dtype!s:15} 1 + 100 · 0.001 = {weight.item():.2f}")

# %% [markdown]
# So training is done in **mixed precision**: matrices are multiplied in bfloat16, while the weights, the optimizer's means and the sums stay in float32.
# Torch's `autocast` does this.
# The next cell shows only that the loss of a trained model on one tale hardly changes.

# %% tags=["nbval-ignore-output"]
tale = next(tales.generate(1, seed=7))
ids = torch.tensor([0, *base_tokenizer.encode(tale.text)])
with torch.no_grad():
    full = base(ids[None, :-1])[0]  # logits (T, V)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = base(ids[None, :-1])[0].float()
losses = [cross_entropy(logits, ids[1:]).item() for logits in (full, mixed)]
print(f"float32 {losses[0]:.3f}, mixed precision {losses[1]:.3f} nats/token")

# %% tags=["remove-cell"]
assert abs(losses[0] - losses[1]) < 0.03

# %% [markdown]
# The next cell trains for a hundred steps in both precisions, from three seeds each, and prints the loss on held-out text.

# %% tags=["nbval-ignore-output"]
short = replace(
    plan, steps=100, batch_size=4, context_length=64, warmup_steps=10, eval_interval=100
)
for precision in ("float32", "bfloat16"):
    config = replace(short, precision=precision)
    runs = [on_tales(Transformer(sizes, seeded(seed)), config) for seed in (1, 2, 3)]
    losses = [run.evaluations[-1].loss for run in runs]
    print(f"{precision:8}", *(f"{loss:.2f}" for loss in losses), "nats/token")

# %% [markdown]
# Here mixed precision costs at most about two hundredths of a nat, no more than the seeds differ in float32.
# (Only the first 64 tokens of each story are read here, so these losses can't be compared with those of whole stories below.)
#
# *float16* has more digits than bfloat16 but a smaller range, so small gradients become 0 in it.
# **{term}`Loss scaling <loss scaling>`** helps: multiply the loss by a large number before the backward pass, and divide the gradients by it afterwards {cite:p}`micikevicius2018`.
# bfloat16 rarely needs that.
# **{term}`FP8`** has 8 bits, which means few digits and a small range.
# So each tensor, or each part of one, gets a scale of its own {cite:p}`micikevicius2022`.
# DeepSeek-V3 was trained with most of its matrix products in FP8 {cite:p}`deepseek2024v3`.
#
# ## Experiment
#
# ### A minute of learning
#
# *Predict*: the untrained model pays about $\ln V$.
# Which will it learn sooner: what *kind* of word comes next, or *which* name, colour or place, of all those that the story has mentioned?
#
# :::{dropdown} Answer
# The kind.
# That takes frequencies and short patterns, while a fact has to be looked up; the table below shows both.
# :::
#
# First come the levels to compare with.
# The floor is the exact cost of a hundred held-out stories.

# %%
held_out = [story.text for story in tales.generate(100, seed=1)]
n_tokens = sum(len(tokenizer.encode(text)) + 1 for text in held_out)  # 1: the mark
floor = -sum(tales.log_prob(text) for text in held_out) / n_tokens
print(f"{len(held_out)} stories, {n_tokens:,} tokens: floor {floor:.2f} nats/token")

# %% [markdown]
# Two simple models count single tokens and pairs of tokens.

# %%
levels = {"log V": log_vocab}
for n, name in ((1, "unigram"), (2, "bigram")):
    counts = ngrams.NGramModel([data.train.tolist()], n, sizes.vocab_size)
    levels[name] = counts.loss([data.valid.tolist()])
levels["floor"] = floor
for name, level in levels.items():
    print(f"{name:7} {level:.2f} nats/token")

# %% tags=["remove-cell"]
assert floor < levels["bigram"] < levels["unigram"] < log_vocab

# %% [markdown]
# To see what is learned when, we sort the words of twenty held-out stories into two groups.
# *Recalls* repeat a fact of the story, such as the hero's name or the colour of the coat.
# *Others* are all the rest.

# %%
stories = list(tales.generate(20, seed=2))
exact = recall_losses(stories, word_surprises)  # what the grammar pays for each word
print(f"{exact.n_recalls} recalls, {exact.n_others:,} other words")

# %% [markdown]
# At eight moments during training we note what the model pays for a word of each group, and let it write.
# (A word is one token or several, so the untrained model pays more than $\ln V$ for one.)

# %%
moments, groups = [], []
recorded_steps = (0, 100, 200, 400, 800, 1200, 1800, 2400)
sampling = Sampling(temperature=0.7)


def record(event):
    if isinstance(event, Evaluation) and event.step in recorded_steps:
        losses = recall_losses(
            stories, lambda text: word_losses(model, tokenizer, text)
        )
        sample = write(model, tokenizer, "Once upon a time", sampling=sampling)
        groups.append(losses)
        moments.append(Moment(event.step * tokens_per_step, event.loss, sample))


# %% [markdown]
# Now comes the training, the longest cell on this page; it is one run.
# The last digits of a run differ between processors, so your output may differ a little.

# %% tags=["nbval-ignore-output"]
plan = replace(plan, eval_interval=100, eval_examples=24)
history = on_tales(model, plan, run=Run(progress=record))
result = text_loss(model, tokenizer, held_out)
gap = result.loss / floor - 1
print(f"loss {result.loss:.2f} nats/token, {gap:.0%} above the floor of {floor:.2f}")
print(f"perplexity {result.perplexity:.1f}, floor {exp(floor):.1f}")
print(f"{result.bits_per_byte:.2f} bits/byte, floor {tales.bits_per_byte():.2f}")

# %% tags=["remove-cell"]
assert floor < result.loss < levels["bigram"]
assert abs(moments[0].loss - log_vocab) < 0.2

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss over tokens seen, on training batches and on held-out text. Both fall from log V, steeply at first, past the level of the unigram model almost at once and past that of the bigram model after about a third of the training; then they flatten and end well above the floor. A second panel shows the loss above the floor on a logarithmic axis: it falls from 7 to 1, and flattens only near the end."}}
plotting.plot_training(history.curves(tokens_per_step), levels)

# %% [markdown]
# *One run. Left, the loss and the levels to compare it with; right, how far it is above the floor, on a logarithmic axis.*
#
# The curve falls steeply at first, then ever more slowly, and ends far above the floor.
# On the left its end looks flat, and without the floor one might call that converged.
# But on the right it is still one nat above the floor.
# The losses still fall in the last quarter of the training, between the last two moments in the table below, even though the learning rate is running out.
#
# What is still missing?
# The table gives the loss of a word of each group, in nats, at each moment.
# The line `grammar` shows what the grammar itself pays; over all words, no model can pay less on average.

# %% tags=["nbval-ignore-output"]
print("   tokens   recalls    others")
for moment, group in zip(moments, groups):
    print(f"{moment.n_tokens:9,} {group.recalls:9.1f} {group.others:9.1f}")
print(f"  grammar {exact.recalls:9.1f} {exact.others:9.1f}")

# %% [markdown]
# The next cell says how much of the way from the first moment's loss to the grammar's has been covered at the end.

# %% tags=["nbval-ignore-output"]
first, last = groups[0], groups[-1]
done_recalls = (first.recalls - last.recalls) / (first.recalls - exact.recalls)
done_others = (first.others - last.others) / (first.others - exact.others)
print(f"way covered: recalls {done_recalls:.0%}, others {done_others:.0%}")

# %% [markdown]
# Recalls are few; here is their share of the words, and of what is left to learn.

# %% tags=["nbval-ignore-output"]
left_recalls = exact.n_recalls * (last.recalls - exact.recalls)  # nats, all words
left_others = exact.n_others * (last.others - exact.others)
share_of_words = exact.n_recalls / (exact.n_recalls + exact.n_others)
share_of_rest = left_recalls / (left_recalls + left_others)
print(
    f"recalls: {share_of_words:.0%} of the words, {share_of_rest:.0%} of what is left"
)

# %% tags=["remove-cell"]
assert done_recalls + 0.1 < done_others
assert last.recalls > log(100)

# %% [markdown]
# Move through the same moments and read what the model wrote.

# %% tags=["nbval-ignore-output"]
tokens_read = [update.step * tokens_per_step for update in history.updates]
training_losses = [update.loss for update in history.updates]
LossExplorer(moments, levels, (tokens_read, training_losses))

# %% [markdown]
# A jumble of words and parts of words becomes phrases, the phrases sentences, the sentences a story of the right shape.
# In the last samples, watch whether the story sticks to its hero.
# The other words are most of the way down: what kind of word comes, how it is spelled, how a sentence goes on.
# The recalls lag: they are few, yet they make up a good part of what is left.
# One still costs more than a guess among a hundred words, $\ln 100 = 4.6$ nats.
# The model may know *that* a name comes here, but it hardly looks up the name that the story gave.
#
# ### Why looking up is learned late
#
# To say *her crimson cardigan* a second time, a head must do two things.
# It must *find* the colour, thirty words back, by query and key.
# And it must *hand on* what it found, by value and output, so that the next token is *crimson*.
# If the head can do neither yet, as at a random start, learning one of them gains little.
# A head that can only find passes on noise; one that can only hand on passes on a mean over everything.
# So the loss first stays where a guess among all colours puts it, on a **{term}`plateau`**.
# Large models also have heads that need each other, and they appear within a short stretch of training {cite:p}`olsson2022`.
#
# A toy task shows it.
# Each text is thirty-one words, numbered from 65 to 128, with one colour, from 1 to 64, somewhere among them.
# Then a mark, 0, asks for the colour.
# A model that cannot look back pays $\ln 64$.


# %%
def lookups(n_texts, generator):
    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    rows = draw(65, 129, n_texts, 34)  # 64 kinds of words
    colour, place = draw(1, 65, n_texts), draw(0, 32, n_texts)  # 64 of colours
    rows[torch.arange(n_texts), place] = colour
    rows[:, -2], rows[:, -1] = 0, colour  # 0 asks which colour it was
    return rows


# %%
example = lookups(1, seeded())[0].tolist()
print(textwrap.fill(" ".join(map(str, example)), 80))
print(f"chance: {log(64):.2f} nats for the answer")

# %% [markdown]
# One block with two heads learns this task, from four different starts.
# The usual start draws all weights at random.
# `mimetic_initialisation` in the module `transformer` is the **{term}`copying start`**, which the model above began with.
# It changes two things, and here each is also tried alone:
#
# - *heads that copy*: $W_O = W_V^\top$, both larger than usual, so that whatever is found is handed on, larger but otherwise unchanged, and query and key almost zero, so that a head looks at all places alike;
# - *large embeddings*: they are as large as what the blocks add to them, and learn four times as fast as the rest.
#
# Starting where training leads anyway is the idea of {cite:t}`trockman2023`.
#
# ![Four boxes in a square. The head looks everywhere or at the colour; it hands on noise, or hands on what it finds unchanged. From the usual start, everywhere and noise, a step to either neighbour pays little. From the copying start, everywhere but unchanged, one step, looking at the colour, pays at once and gives crimson. From looking at the colour with noise, the step to handing it on unchanged would pay too.](figures/two-halves-of-copying.svg)
#
# *From the usual start both ways first lead to a box that is hardly better.
# The copying start is one step from the answer.*
#
# *Predict*: which of the two changes helps more?
#
# :::{dropdown} Answer
# The heads that copy; the figure below shows how much.
# :::
#
# `python book/studies/copying_study.py --out copying.json` trained each start with five seeds.

# %%
copying = studies.stored_study("copying", dict)
interval = copying.recipe["interval"] * copying.recipe["batch_size"]  # in texts
texts_needed = {}
for run in copying.points:
    below = [i for i, loss in enumerate(run["losses"]) if loss < 1]
    needed = interval * below[0] if below else inf
    texts_needed.setdefault(run["start"], []).append(needed)

# %% tags=["hide-input"]
print("texts read until the answer costs less than 1 nat, five seeds:")
for start, numbers in texts_needed.items():
    name = start.replace("W_O = W_V^T", "heads that copy")
    print(f"{name:17}", *(f"{n:6,}" if n < inf else " never" for n in sorted(numbers)))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four panels, one for each start: the loss of the answer over texts read, with five lines in each. Most rise at first. With heads that copy, alone or with large embeddings, all five then drop at once, below 1 nat after about a thousand texts. With neither, and with large embeddings alone, they come down to the dotted line of chance, run along it for a while, and fall below 1 nat at about three thousand texts or more; one with neither is still high at the end."}}
fig, axes = plt.subplots(1, 4, figsize=(8, 2.4), sharex=True, sharey=True)
for ax, start in zip(axes, texts_needed):
    for run in (run for run in copying.points if run["start"] == start):
        texts = [interval * i for i in range(len(run["losses"]))]
        ax.plot(texts, run["losses"], color="C0", linewidth=1, alpha=0.7)
    ax.axhline(log(64), color="0.45", linestyle=":")
    name = start.replace("W_O = W_V^T", "heads that copy")
    ax.set_title(name, fontsize=9)
    ax.set(xlabel="texts read", xticks=(0, 4000, 8000), ylim=(0, 6))
_ = axes[0].set(ylabel="loss of the answer (nats)")

# %% [markdown]
# *The loss of the answer from four starts, with five seeds each; dotted, a guess among all colours.*

# %% tags=["remove-cell"]
assert max(texts_needed["W_O = W_V^T"] + texts_needed["both"]) < 1500
assert min(texts_needed["neither"] + texts_needed["large embeddings"]) > 2500

# %% [markdown]
# At first the loss rises in most runs, though in none with large embeddings alone.
# Hardly any words of these texts are colours, so at first a colour becomes less probable.
# Then the usual start, `neither`, comes down to the dotted line of $\ln 64$: the model knows *that* a colour is asked for.
# After a stretch on the plateau it also finds the colour.
# Four of five runs need about three thousand texts; one hasn't got there when the runs end, at 9,600 texts.
# Nothing in the curve says in advance when that will be.
#
# Heads that copy need about a thousand texts, in every run: less than half as many.
# Large embeddings alone bring no clear gain, and together with the heads they add little.
# This fits the picture: with handing on in place, finding pays.
# (These heads also start with larger values and outputs than usual; this study does not tell whether that or the copying helps.)
#
# The model above began with heads that copy, and yet its recalls still cost a lot at the end.
# So on the tales this start is not enough; probably spelling and grammar have to be learned first.
# This figure doesn't say how much the start gains there; [Scaling laws](scaling_laws.ipynb) measures it for a larger model.
# Large models begin at random, and learn to look things up from the sheer amount of text.

# %% [markdown]
# ### Batch size, and noise in the gradient
#
# The **{term}`batch size`** is the number of windows in a step.
# A larger batch gives a better gradient, but each step takes more work.
# How large should it be?
# ([Scaling laws](scaling_laws.ipynb) compares batch sizes and other settings over many runs.)
#
# The gradient of one story is the gradient of the whole text plus noise.
# The mean over $B$ stories has only a $B$-th of the noise variance.
# The **gradient noise scale** is the $B$ at which this equals the squared length of the gradient: noise variance over squared length {cite:p}`mccandlish2018`.
# Far below it, twice the batch with a longer step is about as good as two steps; far above, the extra stories are wasted work.
#
# We measure it on the gradients of the first 160 tokens of sixty-four stories, at the start and at the end of the training above.
# It is one run, so trust the size, not the digits.
#
# The first function puts all gradients of one story into one vector.


# %%
def flat_gradient(model, row):
    model.zero_grad()
    logits = model(row[None, :-1])
    cross_entropy(logits.flatten(0, 1), row[1:]).backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


# %% [markdown]
# The second compares these vectors: their variance is the noise.
# Their mean still contains some noise, which is subtracted.


# %%
def noise_scale(model, rows):
    gradients = torch.stack([flat_gradient(model, row) for row in rows])  # (n, weights)
    noise = gradients.var(dim=0).sum()
    signal = gradients.mean(dim=0).square().sum() - noise / len(rows)
    return (noise / signal).item()


# %% tags=["nbval-ignore-output"]
rows = windows.Windows(data.train, 160, start_token=0).spread(64)  # (64, T + 1)
rows = [row[row >= 0] for row in rows]  # -1 fills up short stories
scales = {
    "start": noise_scale(SMALL.new_model(), rows),
    "end": noise_scale(model, rows),
}
for name, scale in scales.items():
    print(f"{name:5} noise scale {scale:.3g} stories")

# %% tags=["remove-cell"]
assert 4 * scales["start"] < scales["end"]

# %% [markdown]
# At first a few stories are enough for a good gradient, because they all say the same thing: how frequent words are.
# Later the stories differ, and it takes hundreds.
# That is why batches are often made larger as training goes on.
# It is also a reason for short steps at the end: a small learning rate averages over many batches.
#
# The minute of training reads only one story in a step, which is below the noise scale at the start and far below it at the end.
# By the rule above, fewer and longer steps with more stories should do about as well.
# In short runs of so small a model they don't: [Scaling laws](scaling_laws.ipynb) tries four stories in a step, with longer steps, too, and the same text then teaches less.
# Large models are trained with batches of millions of tokens: their noise scale allows it, and thousands of processors have to share a batch.
#
# To see what short steps gain, we train copies of the model for sixty more steps.
# The rate rises to its peak in ten steps; then it stays there (`final_share=1`) or falls to zero (`final_share=0`).
# `AveragedModel`, from torch, keeps the mean of each weight, here over the states after steps 30 to 59.


# %%
def train_on(model, final_share, seed):
    """Return the model after 60 more steps, and the mean of 30 late states."""
    later = copy.deepcopy(model)
    mean = AveragedModel(later)

    def add(event):
        if 30 <= event.step < 60:
            mean.update_parameters(later)

    config = replace(plan, steps=60, warmup_steps=10, final_share=final_share)
    on_tales(later, config, seed, run=Run(progress=add))
    return later, mean.module


# %% [markdown]
# The trained model has settled already.
# So sixty steps at the peak come first, to have a start that hasn't.
# From there three seeds, each with texts of its own, go on in both ways.
#
# *Predict*: which of the two ends lower, and how good is the mean of the weights at the peak?
#
# :::{dropdown} Answer
# The falling rate ends lower, and the mean is nearly as good.
# :::

# %% tags=["nbval-ignore-output"]
restless, _ = train_on(model, final_share=1, seed=0)
print(f"start {text_loss(restless, tokenizer, held_out).loss:.2f} nats/token")
print("at the peak   its mean weights   falling rate")
settling = []
for seed in (1, 2, 3):
    ends = *train_on(restless, 1, seed), train_on(restless, 0, seed)[0]
    settling.append([text_loss(end, tokenizer, held_out).loss for end in ends])
    print("{:11.2f} {:18.2f} {:14.2f}".format(*settling[-1]))

# %% tags=["remove-cell"]
assert all(max(mean, falling) < peak - 0.05 for peak, mean, falling in settling)

# %% [markdown]
# With the same texts, the falling rate ends about two tenths of a nat lower with each seed.
# With the rate at its peak, the loss even ends above its start.
# Yet the *mean* of those same weights is nearly as good as the falling rate: the weights jump around a better place.
# (Llama 3's final model is a mean of checkpoints, too, taken while the rate falls {cite:p}`grattafiori2024`.)
# All of these losses are far above that of the trained model: sixty long steps, and perhaps AdamW's means begun anew, undid much of what it had learned.

# %% [markdown]
# ### Learning by heart
#
# *Predict*: three models of the same sizes, from the usual start, take 320 steps each, one story a step: one on twenty stories, one on eighty, and one on three hundred and twenty.
# After which does it predict its own stories best, and after which new ones?
#
# :::{dropdown} Answer
# Its own after twenty, far below the floor; new ones after eighty or more, and far worse after twenty.
# :::

# %% tags=["nbval-ignore-output"]
plain = replace(plan, embedding_speed=1)  # from the usual start
short = replace(plain, steps=320, warmup_steps=20, eval_interval=320)
documents = list(tale_documents(320, seed=0))
students = {n: Transformer(sizes, seeded()) for n in (20, 80, 320)}
for n, student in students.items():
    train_ids = token_array(documents[:n], tokenizer)
    pretrain(student, train_ids, data.valid, short, seeded(), start_token=0)
print("trained on", ", ".join(str(n) for n in students), "stories")

# %% [markdown]
# The next cell compares the losses on stories that all three have read with those on new ones.

# %% tags=["nbval-ignore-output"]
read_by_all = [document.text for document in documents[:20]]
by_heart = {}
print("trained on   twenty of these   new stories   (nats/token)")
for n, student in students.items():
    known = text_loss(student, tokenizer, read_by_all).loss
    new = text_loss(student, tokenizer, held_out).loss
    by_heart[n] = known, new
    print(f"{n:10} {known:17.2f} {new:13.2f}")

# %% tags=["remove-cell"]
story = documents[0].text
opening = " ".join(story.split()[:8])
assert write(students[20], tokenizer, opening, sampling=GREEDY) == story
assert by_heart[20][0] < floor < 0.5 * by_heart[320][0]
assert by_heart[20][1] > 1 + max(by_heart[80][1], by_heart[320][1])
assert 0 < by_heart[320][1] - by_heart[320][0] < 0.5

# %% [markdown]
# With twenty stories, read in sixteen epochs, the loss on them falls below the floor.
# Given the first eight words of its first story, it writes all the rest, to the last letter; this is **memorisation**.
# For new stories it pays far more than the other two models, because it is sure of the wrong words: this is **{term}`overfitting`**.
# The third model reads each of its three hundred and twenty stories once.
# It pays only a little less for a story that it has read than for a new one.
# (Each line is one run.
# The gap between twenty stories and the others is too large for chance.
# On new stories, the gap between eighty and three hundred and twenty may be chance.)
#
# **{term}`Label smoothing <label smoothing>`** keeps a model from being too sure: the right token should get 0.9, say, and all tokens share the rest {cite:p}`szegedy2016`.
# The first transformer translated better with it, though its perplexity got worse {cite:p}`vaswani2017`.
# Pretraining wants the true probabilities, so it mostly leaves label smoothing out.
#
# A loss clearly below the floor is a sign of memory or of a leak, if it is measured correctly.
# In a *leak* the model sees what it should predict: the targets aren't shifted, the mask is missing, or held-out texts were in the training text.
# Without a floor, we compare with held-out text, or give the model the beginning of a training text and see whether it writes the rest word for word, as above.
# Good text is scarce, so large models do read some of it more than once.
# Up to about four epochs are nearly as good as new text; after some sixteen, more reading gains little {cite:p}`muennighoff2023`.

# %% [markdown]
# ### The same loop on real text
#
# The documentation that comes with your Python was written by people, so it is less regular than the tales ([The corpus](corpus.ipynb)).
# Nobody knows its floor, so we compare with programs that predict for a living: compressors.
# A compressed file's length in bits, divided by the length of the text, is a loss in {term}`bits per byte`.
# Each compressor is measured twice: on the held-out pages alone, and on the pages after the training text, where only the added length counts.
# The second way uses all of the training text, of which the model will read less than a third.
#
# The same loop trains a model of these sizes on this text, again from the usual start, with a tokenizer of its own, and windows that begin anywhere.
# The text differs between versions of Python, and so do these numbers, which come from one run.

# %% tags=["nbval-ignore-output"]
real = pipeline.prepare_text(SMALL, python_docs())
pages = [page.text for page in real.held_out[:20]]
train_text = real.tokenizer.decode(real.train.tolist(), skip_special_tokens=True)
alone = compressed_bits_per_byte("\n\n".join(pages))
after = compressed_bits_per_byte("\n\n".join(pages), before=train_text)
print("bits/byte    alone   after the training text")
for name in alone:
    print(f"{name:9} {alone[name]:8.2f} {after[name]:9.2f}")

# %% [markdown]
# Now the model, which has the training text only in its weights; the second cell lets it write.

# %% tags=["nbval-ignore-output"]
docs_plan = replace(plain, steps=600, warmup_steps=30, eval_interval=600)
docs_model = Transformer(sizes, seeded())
pretrain(docs_model, real.train, real.valid, docs_plan, seeded())
docs = text_loss(docs_model, real.tokenizer, pages)
n_read = docs_plan.steps * docs_plan.context_length
print(f"model: {docs.bits_per_byte:.2f} bits/byte")
print(f"it has read {n_read:,} of {len(real.train):,} tokens")

# %% tags=["remove-cell"]
assert after["xz"] == min(after.values()) < min(alone.values())
assert max(alone.values()) < docs.bits_per_byte < 4

# %% tags=["nbval-ignore-output"]
sample = write(
    docs_model,
    real.tokenizer,
    "Return the",
    max_new_tokens=80,
    sampling=sampling,
    seed=1,
)
print(textwrap.fill(" ".join(sample.split()), 80))

# %% [markdown]
# From far away the sample looks like documentation, with words, punctuation and bits of code, but it says nothing.
# Real text is far richer than the tales, and the model has seen less than a third of a small manual, once.
#
# In bits per byte the model comes last.
# Each compressor beats it even alone, probably because documentation repeats itself within these pages.
# xz gains most from the training text: it has that text at hand, letter by letter, so it copies.
# (By their formats, gzip looks back no farther than 32 KiB, and bz2 sorts each block of 900 kB by itself, so only the earlier text in the same block as these pages helps.)
# Large models turn this around.
# One with 70 billion parameters compressed text, pictures and speech better than the programs made for them {cite:p}`deletang2024`, not counting its own size.

# %% [markdown]
# ### A longer run: base-llm
#
# What do a larger model and longer training buy?
# `base-llm` is larger, and has read far more tales, none of them twice.
# It was also trained with Muon instead of AdamW, and with 32 tales in a batch, so size and length alone do not explain the gain.
# It is one run, and its {term}`card <model card>` has the recipe.
# (Its loss and floor are in its own, larger tokens; its bits per byte can be compared with those of the model that was trained for a minute.)
# A story counts as valid if the grammar could have written it, to the last letter.

# %% tags=["nbval-ignore-output"]
base_plan = BASE_LLM.pretraining
n_parameters = sum(weight.numel() for weight in base.parameters())
stories_read = base_plan.steps * base_plan.batch_size
print(f"{n_parameters:,} parameters, {stories_read:,} stories")

# %% tags=["nbval-ignore-output"]
base_loss = tale_loss(base, base_tokenizer, n_stories=100)
print(f"loss {base_loss.text.loss:.2f}, floor {base_loss.sample_floor:.2f} nats/token")
print(f"{base_loss.paired_gap.value:.1%} above the floor")
print(f"{base_loss.text.bits_per_byte:.2f} bits/byte")

# %% tags=["remove-cell"]
assert 2 * base_loss.paired_gap.value < gap

# %% tags=["nbval-ignore-output"]
samples = write_samples(base, base_tokenizer, 30, generator=seeded())
valid = count_valid(samples)
low, high = valid.interval
print(f"{valid.right} of 30 samples are valid stories")
print(f"95% interval of the share: {low:.0%} to {high:.0%}")
print(textwrap.fill(write(base, base_tokenizer, seed=1), 80))

# %% [markdown]
# Of the gap left after a minute, almost nothing remains, and most samples are stories that the grammar could have told.
# Read this one as the grammar would, with an eye on what is worn, what is found and who gets what: one slip makes a story invalid.
# (`tales.log_prob` raises an error for a story that the grammar could not have written, so you can check your verdict.)
#
# On forty held-out stories we measure how much of what each model pays above the grammar goes to recalls, and whether it matters how many words back the fact was last mentioned.

# %%
models = {"a minute": (model, tokenizer), "base-llm": (base, base_tokenizer)}
forty = stories + list(tales.generate(20, seed=3))
exact_costs = [word_surprises(story.text) for story in forty]
print(f"{len(forty)} stories, {sum(len(recalls(story)) for story in forty)} recalls")

# %% [markdown]
# The *excess* of a word is what the model pays for it above the grammar.
# The function adds up the excess of all words, and puts that of each recall into the list of its distance.

# %%
DISTANCES = (1, 6, 12, 24, 48, 96)  # at least so many words back


def excess_costs(model, tokenizer):
    """Return the total excess of all words, and that of each recall, by distance."""
    total, by_distance = 0.0, {distance: [] for distance in DISTANCES}
    for story, exact in zip(forty, exact_costs):
        costs = word_losses(model, tokenizer, story.text)
        total += sum(costs) - sum(exact)
        for place, distance in recalls(story):
            nearest = max(d for d in DISTANCES if d <= distance)
            by_distance[nearest].append(costs[place] - exact[place])
    return total, by_distance


# %% tags=["nbval-ignore-output"]
excess = {name: excess_costs(*pair) for name, pair in models.items()}
for name, (total, by_distance) in excess.items():
    recalled = sum(sum(costs) for costs in by_distance.values())
    print(f"{name}: {total / len(forty):.1f} nats a story above the grammar;", end=" ")
    print(f"for recalls alone, {recalled / len(forty):.1f}")

# %% tags=["hide-input", "nbval-ignore-output"]
print("excess of a recall (nats), by the number of words back")
print(f"{'':10}" + "".join(f"{distance:>7}+" for distance in DISTANCES))
for name, (_, by_distance) in excess.items():
    means = [sum(costs) / len(costs) for costs in by_distance.values()]
    print(f"{name:10}" + "".join(f"{mean:z8.2f}" for mean in means))

# %% tags=["remove-cell"]
assert excess["base-llm"][0] < excess["a minute"][0] / 5

# %% [markdown]
# `base-llm` has learned to look things up, even from the other end of the story, and now pays almost nothing extra for them.
# (The excess of the recalls can be a little below zero, by chance or because the model expects recalls slightly too often.)
# The one-minute model pays several nats extra for each fact, at every distance.
#
# ### In-context learning
#
# What `base-llm` looked up wasn't in any of its weights: the story told it a moment ago.
# Three stories differ in one word, the name: what does the model expect when the name comes up again?

# %%
names = ["Ella", "Wendy", "Hanna"]
name_ids = [base_tokenizer.encode(" " + name)[0] for name in names]
story = (
    "Once upon a time there was a kind young girl named {}. She lived by the river "
    "with her grandmother and loved painting. One day her grandmother was very sad. "
    '"I shall make her a hat," said'
)

# %%
print("probability of" + "".join(f"{name:>8}" for name in names))
name_probs = {}
for name in names:
    ids = torch.tensor([[0, *base_tokenizer.encode(story.format(name))]])
    with torch.no_grad():
        name_probs[name] = base(ids)[0, -1].softmax(dim=0)[name_ids]
    row = "".join(f"{p:8.2f}" for p in name_probs[name].tolist())
    print(f"if named {name:5}" + row)

# %% tags=["remove-cell"]
for number, name in enumerate(names):
    assert name_probs[name][number] > 0.8 * name_probs[name].sum()

# %% [markdown]
# No weight was changed, and yet the model has learned the name.
# Learning from what is in the context is called **in-context learning**.
# Large models do it with whole tasks: given a few worked examples in the prompt, they solve the next one, which is **few-shot prompting** {cite:p}`brown2020`.
# With a description of the task but no examples, it is **{term}`zero-shot prompting`**.
# `base-llm` can't do either, because no tale shows a task and its solution.
# It has learned only the kind of looking up that its text rewards.

# %% [markdown]
# ### Evaluating a base model by multiple choice
#
# A loss tells people little, so models are compared on **benchmarks**, sets of questions with known answers.
# A **{term}`base model`** has only been pretrained: it does not answer questions, but it gives a probability to every text.
# So it gets a context and four continuations, one of them right, and its choice is the one with the highest **{term}`log-likelihood`**.
# HellaSwag works like that {cite:p}`zellers2019`.
# **{term}`MMLU`** has questions on 57 subjects, from school to law and medicine, with four answers each {cite:p}`hendrycks2021`.
# There the probabilities of the letters A to D are compared.


# %%
def log_likelihood(model, tokenizer, context, choice):
    before, after = tokenizer.encode(context), tokenizer.encode(" " + choice)
    ids = torch.tensor([0, *before, *after])
    with torch.no_grad():
        log_p = model(ids[None, :-1])[0].log_softmax(dim=-1)  # (T, V)
    return log_p.gather(1, ids[1:, None])[len(before) :].sum().item()


# %% [markdown]
# `choose` returns the number of the choice with the highest log-likelihood.


# %%
def choose(model, tokenizer, context, choices):
    scores = [log_likelihood(model, tokenizer, context, choice) for choice in choices]
    return scores.index(max(scores))


# %% [markdown]
# Our benchmark asks for the next sentence of a held-out tale, in two ways.
# *Easy*: the wrong sentences come from three other tales, with the hero's name replaced by the right one.


# %%
def sentences(text):
    return re.split(r'(?<=[.!?]) (?=[A-Z"])', text)


def easy(story, others):
    parts, hero = sentences(story.text), story.facts["hero"]
    wrong = [
        sentences(other.text)[5].replace(other.facts["hero"], hero) for other in others
    ]
    return " ".join(parts[:5]), [parts[5], *wrong]


# %% [markdown]
# *Hard*: the right sentence repeats a colour from the beginning, and the wrong ones have another colour there.


# %%
def hard(story, others):
    before, right = story.text.rsplit(". ", 1)  # the last sentence
    shade = story.facts["shade"]
    wrong = [right.replace(shade, other.facts["shade"]) for other in others]
    return before + ".", [right, *wrong]


# %% [markdown]
# The folded cell picks forty stories, and for each three others that have other colours.
# The cell after it prints a hard question.
# (Only the end of the story is printed; the colour was named earlier.)

# %% tags=["hide-input"]
pool = [s for s in tales.generate(400, seed=5) if "shade" in s.facts]
chosen = [s for s in pool if s.facts["shade"] in s.text.rsplit(". ", 1)[-1]][:40]
questions = []
for number, story in enumerate(chosen):
    others = [s for s in pool if s.facts["shade"] != story.facts["shade"]]
    shades = {s.facts["shade"]: s for s in others[number:] + others[:number]}
    questions.append((story, list(shades.values())[:3]))

# %%
context, choices = hard(*questions[0])
print(textwrap.fill("… " + context[-150:].partition(" ")[2], 80))
print(*choices, sep="\n")

# %% [markdown]
# Both models choose; the right sentence always has the number 0.

# %% tags=["nbval-ignore-output"]
n_right = {}
for name, pair in models.items():
    for kind in (easy, hard):
        picked = [choose(*pair, *kind(*question)) for question in questions]
        n_right[name, kind.__name__] = picked.count(0)

# %% tags=["nbval-ignore-output"]
print("right, of 40    easy   hard   (guessing: 10)")
for name in models:
    print(f"{name:13}{n_right[name, 'easy']:7}{n_right[name, 'hard']:7}")

# %% tags=["remove-cell"]
assert n_right["base-llm", "hard"] > n_right["a minute", "hard"]

# %% [markdown]
# On the easy questions the one-minute model does better than guessing, though it is far from always right; on the hard ones it guesses.
# `base-llm` solves all of them or all but one, so these questions can tell us nothing more about it: the benchmark is *saturated*.
#
# Every benchmark has its traps.
# Long answers have a low probability, so scores are often divided by the length; exercise 6 shows how much that can change.
# With forty questions a 95 % interval reaches up to about 15 percentage points to each side.
# And questions that were in the training text measure memory: **{term}`benchmark contamination`**, the same leak as above.
# [The corpus](corpus.ipynb) detects it by shared runs of words.
#
# ### Explore: what base-llm knows of the next word
#
# The story below has named a hero; the explorer shows the model's own distribution over its whole vocabulary.
# **{term}`Temperature <temperature>`** divides the scores.
# **{term}`Top-k <top-k>`** keeps the *k* most probable tokens, **{term}`top-p`** the fewest whose probabilities sum to at least *p*; the tail is cut off.
# The last bar is that tail: raise the temperature, and see how much goes to the many tokens that hardly fit.

# %%
prompt = (
    "Once upon a time there was a brave young girl named Ella. "
    "She lived by the river with her grandmother and loved painting. One winter"
)
ids = torch.tensor([[0, *base_tokenizer.encode(prompt)]])
with torch.no_grad():
    logits = base(ids)[0, -1]  # (V,)
vocab = [base_tokenizer.decode([i]) for i in range(len(logits))]
SamplingExplorer(vocab, logits.tolist(), prompt=prompt)

# %% [markdown]
# *Question*: which settings would make all the model's stories the same, and which would let it write words that don't occur in any tale?
#
# :::{dropdown} Answer
# Top-k of 1, or a temperature near 0: the draw is then always the most probable token, which is **{term}`greedy decoding`**.
# A high temperature without top-k or top-p: it lifts even tokens that the model considers nearly impossible.
# :::
#
# That was one place in one story.
# In the next explorer the model itself reads what you type, and gives its distribution over the whole vocabulary after each token.
# Pick an improbable token by its bar, and see whether the story finds its way back.
#
# :::{div} llmcourse-writing
# On the course's site, `base-llm` writes on here from *Once upon a time there was a brave young girl named Ella. She lived by the river*, or from words of your own.
# :::

# %% [markdown]
# ## Takeaways
#
# Pretraining is self-supervised: the text itself says at every position what comes next, and the loss is the mean of $-\ln p$ over these tokens.
# The loss starts at $\ln V$, and on new text it cannot, on average, fall below the entropy of the source.
# In our run frequencies and short patterns were learned first; after a minute the model still looked hardly anything up.
# With AdamW no weight's step is much longer than the learning rate, however large its gradient; warm-up and decay shape that length during training.
# The largest useful batch grew in our run, as the stories began to disagree about the gradient; {cite:t}`mccandlish2018` see the same in other training runs.
# On little text the same loop learns the text by heart, which held-out text shows, or the beginning of a training text that the model completes word for word.
# A base model is evaluated by the probabilities that it gives to answers, not by what it says.
#
# *In practice*: the loop is the same, on thousands of processors, with batches of millions of tokens, mixed precision, warm-up, clipping and checkpoints.
# The text is shuffled, as here, and not sorted from easy to hard, which would be a **{term}`curriculum`** {cite:p}`bengio2009`.
# (`base-llm` is an exception: over the first twelfth of its training, tales with a few rare lines come more often; its card names them.)
# But order does count at the end: Llama 3 read its longest texts late, and some of its best text last {cite:p}`grattafiori2024`.
# Some models guess more than one token at each place, the next and those after it: **{term}`multi-token prediction`** {cite:p}`gloeckle2024,deepseek2024v3`.
# [Scaling laws](scaling_laws.ipynb) is about how large a model should be, how much it should read and with which settings; [Fine-tuning](fine_tuning.ipynb) teaches it more, with few examples.

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("pretraining")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (check): how many examples ★
#
# A text of $n$ tokens is cut into windows of $T + 1$ tokens that overlap by one, so that each token but the first is a target once.
# Tokens left over at the end that don't fill a window are dropped.
# How many windows are there, and how many guesses?
#
# ```python
# def count_examples(n_tokens, context_length):
#     return n_windows, n_guesses
# ```
#
# Check it with `checks.count_examples(count_examples)`.
# A text of the toy task with the colours has 34 tokens.
# How many guesses is that, how many of them need a look back, and why are these learned late from the usual start?


# %% tags=["hide-cell", "solution"]
def count_examples(n_tokens, context_length):
    n_windows = (n_tokens - 1) // context_length
    return n_windows, n_windows * context_length


checks.count_examples(count_examples)
# 33 guesses, of which only the last needs a look back. From the usual start finding the
# colour gains little before it can be handed on, and handing on little before it is found.

# %% [markdown]
# ### Exercise 2 (build): the loss, safely ★★
#
# Write the cross-entropy without torch's own: from logits of shape $(B, T, V)$ and targets of shape $(B, T)$ to the mean loss in nats.
# The logits may be in the thousands.
#
# ```python
# def my_cross_entropy(logits, targets):
#     return loss
# ```
#
# Check it with `checks.cross_entropy(my_cross_entropy)`.
# On a text of 1,000 bytes, or 250 tokens, a model has a loss of 2.77 nats per token.
# What are its perplexity and its bits per byte?


# %% tags=["hide-cell", "solution"]
def my_cross_entropy(logits, targets):
    logits = logits - logits.amax(dim=-1, keepdim=True)  # changes no probability
    log_probs = logits - logits.exp().sum(dim=-1, keepdim=True).log()  # (B, T, V)
    return -log_probs.gather(-1, targets[..., None]).mean()


checks.cross_entropy(my_cross_entropy)
# A perplexity of e^2.77 = 16; that is 4 bits per token, and with 4 bytes to a token
# 1 bit per byte.

# %% [markdown]
# ### Exercise 3 (build): warmup, stable, decay ★★
#
# A cosine has to know from the start when training ends; this schedule, a trapezoid, doesn't.
# The rate rises in a straight line, stays at its peak as long as you like, and falls in a straight line over the last steps.
# The first step gets the first part of the rise, not 0, and the step after the last would get 0.
# (`steps` matters only for the last `fall` steps: until then the training can be prolonged.)
#
# ```python
# def trapezoid(step, steps, rise, fall, peak):
#     return rate
# ```
#
# Check it with `checks.trapezoid(trapezoid)`.


# %% tags=["hide-cell", "solution"]
def trapezoid(step, steps, rise, fall, peak):
    return peak * min(1, (step + 1) / rise, (steps - step) / fall)


checks.trapezoid(trapezoid)

# %% [markdown]
# ### Exercise 4 (build): parts of unequal size ★★
#
# A batch of five windows doesn't fit into memory, so it is read two windows at a time, which leaves one for the end.
# Leave the gradient of the mean loss over all five in the weights' `grad`.
#
# ```python
# def accumulate(model, ids, targets, rows):  # (B, T) each; at most `rows` at a time
#     ...  # calls backward()
# ```
#
# Check it with `checks.accumulate(accumulate)`.
# Accumulation is for batches that do not fit into memory; what are warm-up, clipping and checkpoints for?


# %% tags=["hide-cell", "solution"]
def accumulate(model, ids, targets, rows):
    for part, wanted in zip(ids.split(rows), targets.split(rows)):
        loss = cross_entropy(model(part).flatten(0, 1), wanted.flatten())
        (loss * len(part) / len(ids)).backward()  # its share of the mean


checks.accumulate(accumulate)
# Warm-up is for the first steps, when AdamW's means rest on few gradients; clipping for
# a rare gradient that is far too long; checkpoints for going on after an interruption.

# %% [markdown]
# ### Exercise 5 (build): the whole trainer, by hand ★★★
#
# Write a trainer of 20 to 40 lines that uses nothing from `llmcourse.training` but `Windows`.
# It has its own loss, schedule and clipping, and two `MyAdamW`: one with decay for the blocks' matrices, one without for the rest.
# (`print(few)` shows the names of all settings; the gradient of all weights together is made no longer than `clip_norm`.)
# It returns the losses.
# Try it on `data.train` with `replace(few, embedding_speed=1, weight_decay=10)`, and take the batches as in the section on gradient accumulation.
# It must end with the same losses and weights as `on_tales`, both starting from `Transformer(sizes, seeded(1))`.
# (So strong a decay shows at once where it acts and where it doesn't.)


# %% tags=["hide-cell", "solution"]
def my_trainer(model, tokens, config):
    matrices = [w for n, w in model.named_parameters() if "blocks" in n and w.ndim == 2]
    others = [w for w in model.parameters() if all(w is not m for m in matrices)]
    optimizers = [
        MyAdamW(matrices, config.betas, config.weight_decay),
        MyAdamW(others, config.betas, decay=0.0),
    ]
    length, size = config.context_length, config.batch_size
    batches = windows.Windows(tokens, length, start_token=0).shuffled(size, seeded())
    losses = []
    for step in range(config.steps):
        rows = next(batches)
        loss = my_cross_entropy(model(rows[:, :-1]), rows[:, 1:])
        model.zero_grad()
        loss.backward()
        norm = sum(w.grad.square().sum() for w in model.parameters()).sqrt()
        for w in model.parameters():
            w.grad.mul_(min(1.0, config.clip_norm / norm.item()))
        warmup, peak = config.warmup_steps, config.learning_rate
        rate = cosine_schedule(step, config.steps, warmup, peak)
        for optimizer in optimizers:
            optimizer.step(rate)
        losses.append(loss.item())
    return losses


alike = replace(few, embedding_speed=1, weight_decay=10)
ours, theirs = (Transformer(sizes, seeded(1)) for _ in range(2))
wanted = [update.loss for update in on_tales(theirs, alike).updates]
mine = my_trainer(ours, data.train, alike)
torch.testing.assert_close(mine, wanted, rtol=1e-3, atol=1e-3)
for one, other in zip(ours.parameters(), theirs.parameters()):
    torch.testing.assert_close(one, other, rtol=0, atol=2e-3)

# %% [markdown]
# ### Exercise 6 (explore): by the token, or by the choice ★★★
#
# Divide the log-likelihood of each choice by its number of tokens before choosing.
# Does the easy benchmark become easier or harder for the one-minute model, and why can't this matter much for the hard one?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
def choose_by_mean(model, tokenizer, context, choices):
    lengths = [len(tokenizer.encode(" " + choice)) for choice in choices]
    scores = [log_likelihood(model, tokenizer, context, choice) for choice in choices]
    means = [score / length for score, length in zip(scores, lengths)]
    return means.index(max(means))


for kind in (easy, hard):
    picked = [choose_by_mean(model, tokenizer, *kind(*one)) for one in questions]
    print(f"{kind.__name__}: {picked.count(0)} of {len(picked)}")
# The sum favours short choices, whatever they say, so the mean finds more of the easy
# ones. In the hard benchmark all choices have about the same length.

# %% [markdown]
# ## Sources
#
# Language modelling as prediction, its entropy, and the guessing of letters are Shannon's {cite:p}`shannon1948,shannon1951`; perplexity is from {cite:t}`jelinek1977`.
# The optimizer is AdamW {cite:p}`loshchilov2019`, after Adam {cite:p}`kingma2015`; Muon is from {cite:t}`jordan2024`.
# The gradient noise scale is from {cite:t}`mccandlish2018`, mixed precision from {cite:t}`micikevicius2018`.
# That prediction and compression are one thing is in Shannon's first paper; {cite:t}`deletang2024` measured it for large models.
