# %% [markdown]
# (fine_tuning)=
# # Fine-tuning
#
# A model that has read much applies what it learns from a few hundred examples to words that none of them contains; what that costs, and what the model forgets in doing so, depends on which of its weights may move, and how far.
#
# **You will be able to**
#
# - turn a language model into a classifier: pad a batch, read it at the last tokens, and take the loss over the classes,
# - say what a low-rank adapter is, compute one by hand, and merge it,
# - compare head only, full fine-tuning and LoRA: what is learned, and what it costs in memory,
# - say what pretraining is worth beside labelled examples, and measure and limit what fine-tuning forgets of it.
#
# **You need** the chapters {doc}`transformer` and {doc}`pretraining`.
#
# **Runs in** about two minutes on one processor core.

# %% [markdown]
# ## Setup

# %%
import copy
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from llmcourse import plotting
from llmcourse.checks import fine_tuning as checks
from llmcourse.finetuning import lora
from llmcourse.finetuning.classification import Classifier, accuracy
from llmcourse.finetuning.examples import ShuffledExamples, TokenizedExample, collate
from llmcourse.finetuning.finetuning import FinetuningConfig, finetune
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import Transformer
from llmcourse.text import tales
from llmcourse.training.intervals import wilson_interval
from llmcourse.training.loop import make_optimizer
from llmcourse.training.text_loss import document_nll

plotting.use_course_style()
torch.set_num_threads(1)
base, tokenizer = load_pretrained("base-llm")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## The problem
#
# *Kate lived above the toy shop with her patient aunt. She loved jokes.*
#
# Who loved jokes?
# An editor of tales wants to be warned wherever the next *he* or *she* could be either of two people: the hero, or the relative that the hero lives with.
# She has marked a few openings by hand, *clear* (0) or *ambiguous* (1), and wants a program that marks the rest.
#
# The next cell makes such marked openings: the beginning of a tale, from the hero's name to the word that names the relative.
# The first *his* or *her* belongs to the hero.
# All four pairings come equally often, so that neither the hero nor the relative alone says anything about the label.

# %%
WOMEN = ("mother", "grandmother", "aunt", "big sister")


def opening(story):
    start, end = (story.text.index(story.facts[n]) for n in ("hero", "relative"))
    return story.text[start : end + len(story.facts["relative"])]


def pairing(story):
    hero = re.search(r"\b(his|her)\b", story.text)[0] == "her"
    return hero, story.facts["relative"] in WOMEN


def labelled(n, seed):
    """Return n openings with labels; any four in a row have the four pairings."""
    stories = list(tales.generate(3 * n, seed=seed))
    kinds = (0, 0), (0, 1), (1, 1), (1, 0)
    heaps = [[s for s in stories if pairing(s) == kind] for kind in kinds]
    rows = [story for four in zip(*heaps) for story in four][:n]
    return [(opening(s), int(len(set(pairing(s))) == 1)) for s in rows]


# %% [markdown]
# A thousand for training, and two hundred to measure on, from other tales.

# %%
train, test = labelled(1024, seed=11), labelled(200, seed=12)
train = [row for row in train if row not in test]
assert len(train) > 1000
assert not any(re.search(r"\b(his|her) (big )?\w+$", text) for text, _ in train)
for text, label in train[:4]:
    print(label, text)
assert sum(label for _, label in test) == 100

# %% [markdown]
# The classical tool for few texts and two classes counts words: one weight for each word, and a logistic regression to find the weights.
# The next cell turns texts into sets of words, or of words and pairs of neighbouring words, and these into rows of zeros and ones.


# %%
def bags_of_words(texts, known, longest):
    """Return for each text a row of 0 and 1, a column for each word of the known."""
    runs = []
    for text in texts:
        row = re.findall(r"\w+", text.lower())
        sizes = range(1, longest + 1)
        runs.append(
            {tuple(row[i : i + n]) for n in sizes for i in range(len(row) - n + 1)}
        )
    words = sorted(set().union(*runs[:known]))
    return torch.tensor([[float(word in run) for word in words] for run in runs])


# %% [markdown]
# A thousand labels, a weight for each column, and the weights of least loss; a small price on large weights keeps it from learning names by heart.


# %%
def regression(train, test, longest):
    """Return the share of test texts that a logistic regression gets right."""
    n = len(train)
    x = bags_of_words([text for text, _ in train + test], n, longest)
    y = torch.tensor([label for _, label in train + test])
    weights = torch.zeros(x.shape[1], 2, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=50)

    def loss():
        optimizer.zero_grad()
        loss = cross_entropy(x[:n] @ weights, y[:n])
        (loss + 0.005 * weights.square().sum()).backward()
        return loss

    optimizer.step(loss)
    found = (x[n:] @ weights).argmax(dim=1)
    return (found == y[n:]).float().mean().item()


# %% [markdown]
# Now with words, and with words and pairs; the last digit may differ between processors.
# Two hundred openings are a sample, so each share comes with a 95 % {term}`confidence interval`: of intervals made in this way, 95 of a hundred hold the share that ever more openings would give.

# %% tags=["nbval-ignore-output"]
for runs, name in ((1, "words"), (2, "words and pairs")):
    share = regression(train, test, runs)
    low, high = wilson_interval(round(share * len(test)), len(test))
    assert low < 0.5 < high
    print(f"{name}: {share:.0%} right, 95 % interval {low:.0%} to {high:.0%}")

# %% [markdown]
# After a thousand examples they guess, and the section *By hand* says why.
#
# `base-llm`, the model that the chapter {doc}`pretraining` ends with, has read of thousands of aunts, and *she* behind them.
# It must know something of who is a *she*, but it cannot be asked: it takes a question for the beginning of a text, and goes on with it.

# %% [markdown]
# ## By hand
#
# ### Why a bag of words cannot
#
# Let $u = 1$ if the hero is a *she* and $-1$ otherwise, and $v$ likewise for the relative.
# A bag of words adds up weights, so all it can do is $p u + q v + c$, and a positive sum is to mean *ambiguous*.
#
# | hero $u$ | relative $v$ | wanted | the sum |
# |---|---|---|---|
# | $1$ | $1$ | positive | $p + q + c$ |
# | $-1$ | $-1$ | positive | $-p - q + c$ |
# | $1$ | $-1$ | negative | $p - q + c$ |
# | $-1$ | $1$ | negative | $-p + q + c$ |
#
# The first two sums add up to $2c$, which would have to be positive, and the last two also to $2c$, which would have to be negative.
# Three of the four can be had, with $p = q = 1$ and $c = -1$, but the regression does not look for that: with all four equally frequent its loss is least when all weights are zero.
#
# ![Four openings at the corners of a square, by whether the hero and the relative are a he or a she. Anna and her aunt, and Digby and his brother, at opposite corners, have a plus: ambiguous. Toffee and his sister, and Rosa and her brother, at the other two, have a minus: clear. A dashed line cuts off Anna's corner: 3 of 4 are right.](figures/two-things-agree.svg)
#
# *A sum of weights is a straight line through the square.
# None has both plus signs on one side and both minus signs on the other; the dashed one gets three of four.*
#
# Pairs of neighbouring words are no help: in these openings an adjective stands between *her* and *aunt*, so no pair holds both.
# What is wanted is the *product* $u v$: whether two things agree.
# Attention can bring the two to one place, and a feed-forward network can multiply.
#
# ### A correction of rank one
#
# A trained matrix $W$ is to be corrected without touching it.
# Let the correction be a column times a row, $B A$, doubled:
#
# $$
# W = \begin{pmatrix} 1 & 0 & 2 \\ 0 & 1 & 1 \end{pmatrix}, \quad
# B = \begin{pmatrix} 1 \\ 2 \end{pmatrix}, \quad
# A = \begin{pmatrix} 1 & 0 & -1 \end{pmatrix}, \quad
# W + 2 B A = \begin{pmatrix} 3 & 0 & 0 \\ 4 & 1 & -3 \end{pmatrix}.
# $$
#
# For the input $z = (1, 1, 1)$ the matrix alone gives $(3, 2)$.
# $A$ makes one number of $z$, here $1 - 1 = 0$, so for this $z$ nothing is corrected; for $z = (1, 0, 0)$ it makes $1$, and $(1, 0)$ becomes $(3, 4)$.
# A correction of rank one looks at its input in one direction, and moves the output in one direction.
#
# ![The input z = (1, 0, 0) takes two ways. Above, through the frozen W, to (1, 0). Below, through the row A to the one number 1, and from there through the column B and times 2 to (2, 4). A plus adds the two: (3, 4).](figures/correction-of-rank-one.svg)
#
# *The way below passes through one number: this is what rank one means.*

# %%
W = torch.tensor([[1.0, 0, 2], [0, 1, 1]])
A, B, scale = torch.tensor([[1.0, 0, -1]]), torch.tensor([[1.0], [2]]), 2
for z in (torch.ones(3), torch.tensor([1.0, 0, 0])):
    corrected = W @ z + scale * (B @ (A @ z))  # never computes B A
    assert_close(corrected, (W + scale * B @ A) @ z)
    print([int(v) for v in W @ z], "becomes", [int(v) for v in corrected])

# %% [markdown]
# Here $A$ and $B$ have five numbers where $W$ has six, hardly a saving.
# But the matrix grows with the product of its sides, and the correction with their sum, times its rank.
#
# ## The idea
#
# **A head.**
# The model turns a text $x$ into one vector for each token, and the last of these has read all of the text.
# In place of the scores for the next token we put a small matrix $U$ with a row for each class, new and random, and train by the loss that we know ($\theta$ are all weights that learn):
#
# $$
# p_\theta(y \mid x) = \operatorname{softmax}(U h_T + b)_y,
# \qquad
# \mathcal{L}(\theta) = -\frac1n \sum_{i=1}^n \ln p_\theta(y_i \mid x_i).
# $$
#
# **Which weights move?**
# There are three usual answers.
#
# - *Head only*: $U$ and $b$; the rest is {term}`frozen <frozen weights>`, a fixed way to turn a text into a vector.
# - *Full*: all weights, starting from the pretrained ones.
# - *{term}`LoRA`*: $U$ and $b$, and for some of the matrices $W$ inside a correction of low rank $r$ to what they make of their input $z$,
#
# $$
# W z + \frac{\alpha}{r} B A z,
# $$
#
# with $W$ frozen, $A$ random and $B = 0$ at the start, so that training begins at the pretrained model {cite:p}`hu2021`.
#
# **Memory.**
# Every weight takes 4 bytes.
# One that learns takes 12 more: its gradient, and the two running means that AdamW keeps of it.
#
# ![Three models side by side, each of a head, three layers and an embedding. Head only: the head learns, all else is frozen; 514 weights learn, 10.8 MiB. LoRA of rank 2: the head learns, and beside each frozen layer a small BA; 27,202 learn, 11.2 MiB. Full: everything learns, 2,828,546 weights, 43.2 MiB.](figures/three-ways.svg)
#
# *The three ways for `base-llm`, with the bytes that training takes.
# They are counted further down.*
#
# | Symbol | Meaning | Shape | Name in code |
# |---|---|---|---|
# | $x_i$, $y_i$ | the $n$ texts and their labels | – | `examples` |
# | $h_T$ | vector of the last token | $D$ | `features` |
# | $U$, $b$ | head: scores the $C$ classes, here 2 | $C \times D$, $C$ | `head` |
# | $W$ | a trained matrix | out $\times$ in | `weight` |
# | $A$, $B$ | its adapter | $r \times$ in, out $\times r$ | `lora_a`, `lora_b` |
# | $r$, $\alpha$ | rank; strength of the correction | – | `rank`, `alpha` |
# | $N$, $N_\text{learned}$ | weights in all, weights that learn | – | `total`, `learned` |
# | $4 N + 12 N_\text{learned}$ | bytes for weights and training, without activations | – | `training_bytes` |

# %% [markdown]
# ## In code
#
# ### The loop
#
# The openings become token numbers, with the mark `<|endoftext|>`, number 0, where each begins.


# %%
def tokenized(rows):
    of_label = TokenizedExample.of_label
    return [of_label([0, *tokenizer.encode(text)], label) for text, label in rows]


examples, held_out = tokenized(train), tokenized(test)
longest = max(len(example) for example in examples + held_out)
batch = collate(examples[:3])
print("ids", tuple(batch.ids.shape), "classes", batch.targets[batch.mask].tolist())

# %% [markdown]
# Short texts are filled up on the right; `mask` is true at each text's last token, the only place where the classifier is asked.
#
# ![Three rows of 21 cells, the openings of Digby, Toffee and Anna. Their 16, 19 and 21 tokens are read from the left; the rest is padding. The last token of each, brother, sister and aunt, is asked for the class: 1, 0 and 1.](figures/asked-at-the-last-token.svg)
#
# *One question for each text, at its last token, which has read all the others.*
#
# The loop is that of the chapter {doc}`pretraining` with another question.


# %%
def adapt(classifier, batches, config):
    optimizer, losses = make_optimizer(classifier, config), []
    for step in range(config.steps):
        batch = collate(next(batches))
        logits = classifier(batch.ids)  # (B, T, C)
        loss = cross_entropy(logits[batch.mask], batch.targets[batch.mask])
        optimizer.zero_grad()
        loss.backward()
        weights = [w for w in classifier.parameters() if w.requires_grad]
        torch.nn.utils.clip_grad_norm_(weights, config.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(
                1, (step + 1) / config.warmup_steps
            )
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
# The package's `finetune` does the same, and also lowers the rate towards the end; with `final_share=1` it does not.
# Both must come to the same losses.
# In our plan more than a third of the steps is warm-up: as long as the head is still random, what it asks of the layers is random, too, and should not move them far.

# %%
plan = FinetuningConfig(
    steps=64,
    batch_size=16,
    context_length=longest,
    learning_rate=6e-4,
    warmup_steps=25,
    eval_interval=64,
    eval_examples=8,
)
few = replace(plan, steps=3, eval_interval=3, warmup_steps=2, final_share=1)
mine = Classifier(copy.deepcopy(base), 2, generator=seeded())
theirs = Classifier(copy.deepcopy(base), 2, generator=seeded())
losses = adapt(mine, ShuffledExamples(examples, 16, seeded()), few)
history = finetune(theirs, examples, held_out, few, seeded())
assert_close(losses, [u.loss for u in history.updates], rtol=1e-3, atol=1e-4)
print(f"{len(losses)} steps, twice, the same losses")

# %% [markdown]
# ### A low-rank adapter
#
# One matrix of the model, its adapter, and the formula beside the package's layer.
#
# ![A large square, W of 256 by 256, with 65,536 frozen numbers. A plus, and beside it two lines, hardly thicker than the border of the square: B of 256 by 4 upright, and A of 4 by 256 lying; in both together 2,048 numbers learn.](figures/low-rank-to-scale.svg)
#
# *A matrix of queries and its adapter of rank 4, drawn to scale.*
#
# A new adapter has $B = 0$ and does nothing, so we put something into it.
# Once it has learned, the correction can be added to the matrix for good; the layer then costs what it did before, and gives the same; and it can be taken out again.

# %%
query = copy.deepcopy(base.blocks[0].attention.query)
adapted = lora.LoRALinear(query, rank=4, alpha=8, generator=seeded())
x = torch.randn(5, query.in_features, generator=seeded(1))
assert torch.equal(adapted(x), query(x))  # at first
torch.nn.init.normal_(adapted.lora_b, std=0.1, generator=seeded(2))
a, b = adapted.lora_a, adapted.lora_b
y = x @ query.weight.T + 8 / 4 * (x @ a.T) @ b.T
assert_close(y, adapted(x))
print("W", tuple(query.weight.shape), "A", tuple(a.shape), "B", tuple(b.shape))
print(f"{a.numel() + b.numel():,} numbers correct {query.weight.numel():,}")
before = adapted.weight.clone()
adapted.merge()
assert_close(adapted.weight, before + 8 / 4 * b @ a)
assert_close(adapted(x), y)
adapted.unmerge()
assert torch.equal(adapted.weight, before)
print("merged = not merged; unmerged, the weights are as they were")

# %% [markdown]
# `add_lora` gives an adapter to every matrix that has one of the given names, and freezes the rest of the model.
# `save_adapter` writes the adapters in the form of Hugging Face's `peft`, which can load them; and `load_adapter` reads what `peft` has saved.
# They get something to save first.

# %%
writer = copy.deepcopy(base)
lora.add_lora(writer, rank=4, alpha=8, targets=("query", "value"), generator=seeded())
for name, weight in writer.named_parameters():
    if name.endswith("lora_b"):
        torch.nn.init.normal_(weight, std=0.1, generator=seeded(2))
ids = torch.tensor([[0, *tokenizer.encode(train[0][0])]])
assert not torch.equal(writer(ids), base(ids))
with TemporaryDirectory() as folder:
    lora.save_adapter(writer, folder, base_model="base-llm")
    for path in sorted(Path(folder).iterdir()):
        print(f"{path.name:27} {path.stat().st_size:7,} bytes")
    reader = copy.deepcopy(base)
    lora.load_adapter(reader, folder)
    assert torch.equal(reader(ids), writer(ids))
counts = lora.count_parameters(writer)
print(f"learned: {counts.learned / counts.total:.1%} of the weights")

# %% [markdown]
# ## Experiment
#
# ### Three ways on one budget
#
# *Predict*: each way gets the same number of steps, on the same examples.
# Will the head alone do, on top of features that were made for another question?
# How large a rank does the task need?
# Which of them will still be able to tell tales afterwards?
#
# First the two measures.
# Memory is counted, tensor by tensor, after one update, and must agree with the formula.
# What is forgotten is measured on ten plain tales: the model is asked for the next token again, through its own last matrix, and each tale is priced, before and after.
# (That matrix is the embedding, too, so in full fine-tuning it has been moved with the rest.)


# %%
def training_bytes(total, learned):
    return 4 * total + 12 * learned


def count_bytes(classifier, examples, config):
    optimizer = make_optimizer(classifier, config)
    batch = collate(examples)
    cross_entropy(
        classifier(batch.ids)[batch.mask], batch.targets[batch.mask]
    ).backward()
    optimizer.step()
    tensors = [*classifier.parameters()]
    tensors += [weight.grad for weight in tensors if weight.grad is not None]
    for state in optimizer.state.values():
        tensors += [state["exp_avg"], state["exp_avg_sq"]]
    return sum(tensor.nbytes for tensor in tensors)


# %% [markdown]
# `prepare` makes a classifier in one of the ways; every matrix of the layers gets an adapter, with the same $\alpha$ for all ranks.
# Adapters start at nothing and are given a rate several times as high as that of all weights, as is usual, and the head alone a still higher one.


# %%
RANKS = (1, 2, 4, 8, 16)
EVERY_MATRIX = "query", "key", "value", "output", "gate", "up", "down"


def prepare(way, model, seed=0):
    classifier = Classifier(model, 2, generator=seeded(seed))
    if way == "head":
        classifier.freeze_body()
    elif way != "full":
        lora.add_lora(classifier.body, way, 8, EVERY_MATRIX, seeded(seed))
    return classifier


def rate(way):
    return {"full": 6e-4, "head": 3e-2}.get(way, 4e-3)


# %% [markdown]
# Now each way in turn.

# %%
plain = [story.text for story in tales.generate(10, seed=13)]
results, kept = {}, {}


def tale_prices(model):
    """Return what each tale costs; their mean is in nats per token."""
    prices, n_tokens = document_nll(model, tokenizer, plain)
    return torch.tensor(prices) * len(plain) / sum(n_tokens)


for way in ("head", *RANKS, "full"):
    model = copy.deepcopy(base)
    classifier = prepare(way, model)
    counts = lora.count_parameters(classifier)
    n_bytes = training_bytes(counts.total, counts.learned)
    assert n_bytes == count_bytes(prepare(way, copy.deepcopy(base)), examples[:2], plan)
    config = replace(plan, learning_rate=rate(way), eval_interval=45)
    history = finetune(classifier, examples, held_out, config, seeded())
    results[way] = counts.learned, n_bytes, history, accuracy(classifier, held_out)
    kept[way] = model, tale_prices(model)

# %% [markdown]
# The table follows; its last digits depend on the processor.
# The loss on held-out openings is given after 45 steps and after all 64, to see who is late; the last column is what plain tales cost more than before, in nats per token, with the standard error over the ten tales.

# %% tags=["nbval-ignore-output"]
tales_before = tale_prices(base)
print(f"before, plain tales cost {tales_before.mean():.2f} nats/token")
print("way        learned   MiB   loss at 45, 64   right   (95 %)        tales, more")
for way, (learned, n_bytes, history, share) in results.items():
    name = way if way in ("head", "full") else f"rank {way}"
    low, high = wilson_interval(round(share * len(test)), len(test))
    _, late, end = (found.loss for found in history.evaluations)
    more = kept[way][1] - tales_before
    print(f"{name:8} {learned:9,} {n_bytes / 2**20:5.1f}", end="   ")
    print(f"{late:.2f} and {end:.2f} {share:9.0%}   {low:.0%} to {high:.0%}", end="   ")
    print(f"{more.mean():+.2f} ± {more.std() / len(more) ** 0.5:.2f}")
shares = {way: share for way, (*_, share) in results.items()}
assert shares["head"] < 0.8 and min(shares[w] for w in (*RANKS, "full")) > 0.9
assert results[1][0] < 0.01 * results["full"][0]
after_45 = {rank: results[rank][2].evaluations[1].loss for rank in RANKS}
assert after_45[1] > max(after_45[2], after_45[4], after_45[8])
tale_loss = {way: prices.mean() for way, (_, prices) in kept.items()}
assert tale_loss["head"] == tales_before.mean() < tale_loss["full"]
assert min(tale_loss[rank] for rank in RANKS) > 1.05 * tale_loss["full"]

# %% [markdown]
# With all weights the task is learned, and with LoRA even at rank 1, where less than one weight in a hundred learns: a correction in a single direction of every matrix is enough here.
# After 45 steps rank 1 is behind ranks 2 to 8, and full fine-tuning, at its lower rate, behind them all; in the end all are nearly always right, and a higher rank than 2 has brought nothing.
# With one seed, and rates that differ, the table does not say why.
# The head alone stays far behind.
# Is that the fault of the features, which were made to foretell the next word, or of the way the head was trained?
# The next cell takes six hundred openings' features out of the untouched model, brings each coordinate to one size, and fits a head to the end.


# %%
def features(examples):
    batch = collate(examples)
    with torch.no_grad():
        return Classifier(base, 2).body(batch.ids)[batch.mask]  # (B, D)


known, new = features(examples[:600]), features(held_out)
x, z = ((rows - known.mean(dim=0)) / known.std(dim=0) for rows in (known, new))
y = torch.tensor([label for _, label in train[:600]])
head = torch.zeros(x.shape[1], 2, requires_grad=True)


def head_loss():
    head.grad = None
    loss = cross_entropy(x @ head, y)
    (loss + 0.001 * head.square().sum()).backward()
    return loss


_ = torch.optim.LBFGS([head], max_iter=80).step(head_loss)

# %% tags=["nbval-ignore-output"]
labels = torch.tensor([label for _, label in test])
fitted = ((z @ head).argmax(dim=1) == labels).sum().item()
low, high = wilson_interval(fitted, len(test))
assert low > 0.5 and high < 0.9
print(f"a fitted head: {fitted / len(test):.0%} right (95 %: {low:.0%} to {high:.0%})")

# %% [markdown]
# Better than guessing, so it was the training in part, with few steps and features of all sizes: that hero and relative agree does lie in the features, if not plainly, and a head that is fitted to the end finds some of it.
# A frozen model is a set of features that somebody else chose; it pays to look how far they go before anything inside is moved.
#
# Gradients and optimizer make up three quarters of the memory in full fine-tuning, and little with LoRA; what remains are the weights themselves.
# For a model of billions of weights that is the difference between one processor and several.
# The time of a step falls far less: the whole model must still be run forwards, and backwards down to the lowest adapter.
#
# The last column is the price.
# The model that has learned to mark openings no longer tells tales as well as before: nothing in the new loss asks it to.
# This is {term}`catastrophic forgetting`.
# Adapters that are in place do not spare the tales either: they, too, change what the layers compute.
# Compare the rows: at the rates used here they forget more than full fine-tuning does, small as they are, and the rank does not say how much.
# Only the head has touched nothing.
#
# But an adapter can be taken off.

# %%
for rank in RANKS:
    model, _ = kept[rank]
    lora.remove_lora(model)
    assert torch.equal(tale_prices(model), tales_before)
print("adapters removed: the loss on tales is what it was, to the last bit")

# %% [markdown]
# So one model can be kept in memory once, with a small file for each of many tasks.
# What full fine-tuning has overwritten is gone, unless a copy was kept, as large as the model.
#
# ### What pretraining is worth
#
# *Predict*: the same network, the same steps, the same labelled openings; once from the pretrained weights, once from random ones.
# How many examples is pretraining worth?
#
# The answer depends on what is asked afterwards, so we ask two things.
# No opening with a *grandmother* or a *grandfather* is used for training.
# We measure on held-out openings with the other relatives, and on openings with these two, about which the labels have said nothing.

# %%
marked = tokenized([row for row in train if "grand" not in row[0]])
same = tokenized([row for row in test if "grand" not in row[0]])
other = tokenized([row for row in train if "grand" in row[0]])
assert len(marked) >= 640 and len(same) > 120 and len(other) > 160
relatives = sorted({text.split()[-1] for text, _ in train})
print(len(relatives), "relatives:", ", ".join(relatives))
for word in ("grandmother", "grandfather"):
    assert len(tokenizer.encode(" " + word)) == 1 and word in relatives

# %% [markdown]
# For each number of examples and each start there are two trainings, with different seeds and different openings.


# %%
def learn(n, start, seed):
    """Return the accuracies, same words and others, after n examples of one's own."""
    if start == "pretrained":
        model = copy.deepcopy(base)
    else:
        model = Transformer(base.config, seeded(seed))
    classifier = prepare("full", model, seed)
    own = marked[320 * seed : 320 * seed + n]
    finetune(classifier, own, held_out, plan, seeded(seed))
    return [accuracy(classifier, rows) for rows in (same, other[:160])]


sizes, seeds, curves = (20, 80, 320), range(2), {}
for start in ("pretrained", "random"):
    runs = [[learn(n, start, seed) for seed in seeds] for n in sizes]
    curves[start] = torch.tensor(runs)  # (sizes, seeds, 2)

# %% mystnb={"image": {"alt": "Two panels: share of openings marked rightly over the number of labelled examples, on a logarithmic axis. Left, relatives that occurred in the labelled set: the curves from pretrained and from random weights both rise from a little over one half to one, the random one being somewhat ahead. Right, relatives that never occurred there: the curve from pretrained weights rises to one, that from random weights stays near one half, where guessing is."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.7), sharey=True)
words = "relatives that were marked", "relatives never marked"
for ax, word, part in zip(axes, words, (0, 1)):
    for (start, runs), style in zip(curves.items(), plotting.LINE_STYLES):
        shares_of = runs[:, :, part]
        mean = shares_of.mean(dim=1)
        ends = torch.stack((mean - shares_of.amin(1), shares_of.amax(1) - mean))
        ax.errorbar(
            sizes, mean, ends, fmt=style, marker="o", ms=3, capsize=3, label=start
        )
    ax.axhline(0.5, color="grey", linewidth=0.8)
    _ = ax.set(xscale="log", xlabel=f"labelled examples (log scale)\n{word}")
    _ = ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
_ = axes[0].set(ylabel="right (share)")
_ = axes[0].legend(title="start", loc="upper left")
pretrained, random = (runs.mean(dim=1) for runs in curves.values())  # (sizes, 2)
assert min(pretrained[2, 0], random[2, 0]) > 0.9  # same words: both
assert pretrained[2, 1] > 0.85 and random[2, 1] < 0.7  # others: one
assert max(pretrained[0].max(), random[0].max()) < 0.75  # too few

# %% [markdown]
# The bars reach from the worse to the better of the two seeds.
# The left panel is a surprise: on relatives that were marked, random weights do no worse with few examples, rather better as far as two seeds can say, and with 320 both are nearly always right.
# With two of the eight left out there are only six relatives, and *his* and *her*; who has seen them all with labels can learn their pairings by heart, and needs no pretraining.
# With 20 examples neither start gets far.
#
# The right panel shows what pretraining is worth here.
# About a *grandmother* the labels have said nothing, and her word is one token, with a random vector in the random network, which must guess.
# The pretrained one knows from its tales that she is a *she*, like an aunt; having learned from labels what to compare, it compares her rightly, too.
#
# ![Eight relatives in two columns, she and he, twice. With a random start mother, sister, aunt, father, brother and uncle are learned from labels, and grandmother and grandfather have a question mark. With a pretrained start all eight are known from the tales.](figures/what-labels-leave-open.svg)
#
# *Who is a *she* and who a *he*: what labels say of six words, and text of all eight.*
#
# That knowledge came from text without a single label.
# So how many examples pretraining is worth has two answers: on marked relatives none, on the others more than all of these labels together.
# This is {term}`transfer`, and it is why models are pretrained at all.
#
# ### Too fast
#
# *Predict*: the higher the rate, the more is learned?
#
# The next cell fine-tunes all weights at rates from gentle to rough, and looks at the task and at the tales.

# %%
rates = (3e-5, 6e-4, 2e-3, 1e-2)
by_rate = []
for peak in rates:
    if peak == rate("full"):  # has been done
        model, share = kept["full"][0], shares["full"]
    else:
        model = copy.deepcopy(base)
        classifier = prepare("full", model)
        finetune(
            classifier, examples, held_out, replace(plan, learning_rate=peak), seeded()
        )
        share = accuracy(classifier, held_out)
    by_rate.append((share, tale_prices(model).mean().item()))

# %% mystnb={"image": {"alt": "Two panels over the learning rate, on logarithmic axes. Left, the share of openings marked rightly: one half or little more at the lowest rate, near one at the two in the middle, and back at one half at the highest. Right, the loss on plain tales: near its old level at the two lower rates, several times as high at the third, and many times as high at the highest."}}
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.6))
found, losses = zip(*by_rate)
untouched = tales_before.mean().item()
left.plot(rates, found, marker="o", markersize=3)
left.axhline(0.5, color="grey", linewidth=0.8)
right.plot(rates, losses, marker="o", markersize=3)
right.axhline(untouched, color="grey", linewidth=0.8)
right.annotate("before", (rates[-1], untouched), ha="right", va="bottom")
label = "learning rate (log scale)"
_ = left.set(xscale="log", xlabel=label, ylabel="right (share)")
_ = right.set(
    xscale="log", yscale="log", xlabel=label, ylabel="tales (nats/token, log)"
)
_ = right.set_yticks((0.5, 1, 2, 5), ("0.5", "1", "2", "5"))
_ = right.set_yticks((), minor=True)
assert min(found[1:3]) > 0.9 and max(found[0], found[-1]) < 0.7
assert losses[0] < 1.05 * untouched and losses[1] < 1.2 * untouched
assert losses[2] > 2 * untouched and losses[3] > 3 * losses[2] / 2

# %% [markdown]
# At the lowest rate the steps are too small to learn the task, and next to nothing is forgotten.
# In between the task is learned, and the tales pay for it: little at the lower of the two rates, several times the old loss at the higher.
# At the highest rate both are lost: the steps throw the weights so far that nothing of the pretraining is left, and nothing is learned in its place.
# There is a window of rates, and the accuracy alone does not show where in it one is: of two rates that learn the task equally well, the lower one keeps more of the model.

# %% [markdown]
# ## Takeaways
#
# Fine-tuning is the loop of pretraining with few examples, another question and, where all weights move, smaller steps; a classifier is a language model whose last matrix is exchanged for one with a row for each class.
# A head on frozen features can only use what lies ready in them; what is hardly there, the inside has to learn to compute.
# LoRA adds to a frozen matrix a product of two thin ones; it starts at nothing, can be merged and taken off, and needs optimizer memory only for itself.
# Pretraining is worth most where the labels are silent: a word that no example contains is a word all the same to a model that has read it.
# Whatever the new loss does not ask for may be forgotten, the faster the higher the learning rate.
#
# *In practice*: language models were first fine-tuned as classifiers {cite:p}`howard2018,radford2018`, with small rates that rise at first and then fall.
# LoRA is the usual way to adapt models of billions of weights; on larger tasks than ours it learns somewhat less than full fine-tuning and forgets less {cite:p}`biderman2024`; compare that with the table above.
# Where fine-tuning bends the features, what is far from the labelled examples can become worse than with the head alone {cite:p}`kumar2022`.
# Networks that forget one task over the next were described long before {cite:p}`mccloskey1989`; mixing old examples into the new ones is still the plainest help.
#
# Here the new question was put by exchanging the last matrix; in the next chapter, {doc}`instruction_tuning`, the model keeps it, and answers in words.

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("fine_tuning")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (check): what an adapter has to learn
#
# Given are the shapes of the matrices that get an adapter, each as (out, in), and the rank.
# How many numbers learn?
#
# ```python
# def adapter_parameters(shapes, rank):
#     return n_learned
# ```
#
# Check it with `checks.adapter_parameters(adapter_parameters)`.


# %% tags=["hide-cell", "solution"]
def adapter_parameters(shapes, rank):
    return sum(rank * (n_out + n_in) for n_out, n_in in shapes)


checks.adapter_parameters(adapter_parameters)

# %% [markdown]
# ### Exercise 2 (build): the last word
#
# A batch of texts of unequal length, filled up on the right, has given logits of shape $(B, T, C)$.
# Return the $(B, C)$ that count, each at its text's last token.
#
# ```python
# def last_logits(logits, lengths):  # lengths: list of B numbers
#     ...
# ```
#
# Check it with `checks.last_logits(last_logits)`.


# %% tags=["hide-cell", "solution"]
def last_logits(logits, lengths):
    return logits[torch.arange(len(lengths)), torch.tensor(lengths) - 1]


checks.last_logits(last_logits)

# %% [markdown]
# ### Exercise 3 (build): merge an adapter
#
# From $W$ (out, in), $A$ (rank, in), $B$ (out, rank) and $\alpha$, make the matrix that does what all of them do.
# Leave those that you are given as they are.
#
# ```python
# def merge_adapter(weight, a, b, alpha):
#     return merged
# ```
#
# Check it with `checks.merge_adapter(merge_adapter)`.


# %% tags=["hide-cell", "solution"]
def merge_adapter(weight, a, b, alpha):
    return weight + alpha / len(a) * b @ a


checks.merge_adapter(merge_adapter)

# %% [markdown]
# ### Exercise 4 (derive): what fits
#
# The frozen weights of a model are stored in a format of `frozen_bytes` bytes each.
# Weights that learn take 16 bytes, as in this chapter; activations are not counted.
# A device has room for `room` bytes, and the model has `n_frozen` weights.
# How many weights, as a whole number, can its adapters have at most?
# Return 0 if not even the model fits.
#
# ```python
# def most_learned(room, n_frozen, frozen_bytes):
#     return n_learned
# ```
#
# Check it with `checks.most_learned(most_learned)`.
# How does the answer for 24 GiB and seven billion weights change from four bytes to two, and to one half?


# %% tags=["hide-cell", "solution"]
def most_learned(room, n_frozen, frozen_bytes):
    left = room - frozen_bytes * n_frozen  # >= 16 n
    return max(0, int(left // 16))


checks.most_learned(most_learned)
for size in (4, 2, 0.5):
    n = most_learned(24 * 2**30, 7_000_000_000, size)
    print(f"{size} bytes for a frozen weight: {n / 1e6:,.0f} million can learn")

# %% [markdown]
# ### Exercise 5 (explore): fewer adapters
#
# The authors of LoRA gave adapters to queries and values alone.
# Do that at rank 4, with the steps and the rate of this chapter, and compare with the table: what is learned, how many weights learn, and what becomes of the tales?
# How would you find out whether what these adapters learn carries over to relatives that no label mentions?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
model = copy.deepcopy(base)
classifier = Classifier(model, 2, generator=seeded())
lora.add_lora(classifier.body, 4, 8, ("query", "value"), generator=seeded())
finetune(classifier, examples, held_out, replace(plan, learning_rate=4e-3), seeded())
learned = lora.count_parameters(classifier).learned
share, loss = accuracy(classifier, held_out), tale_prices(model).mean()
print(f"{learned:,} weights learn: {share:.0%} right, tales {loss:.2f}")
# Fewer matrices bend less: the task is learned a little less well, or later, and
# much less is forgotten.
# Leave the openings with two of the relatives out of the training, and measure on
# these alone; a random start shows what pretraining adds.
assert loss < tale_loss[8]

# %% [markdown]
# ## Sources
#
# Language models as classifiers are from {cite:t}`howard2018` and {cite:t}`radford2018`; low-rank adapters from {cite:t}`hu2021`.
# That one layer of weights cannot compute whether two things agree is an old observation {cite:p}`minsky1969`.
# The intervals of shares are Wilson's {cite:p}`wilson1927`.
