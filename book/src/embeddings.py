# %% [markdown]
# (embeddings)=
# # Embeddings
#
# A token's number says nothing about the token; a vector for each, learned from the company that it keeps, says a great deal.
#
# **You will be able to**
#
# - explain what an embedding is, and which of its numbers a training step changes,
# - train word vectors with gradients that you derived yourself,
# - choose between three measures of similarity, and say what each is blind to,
# - judge a claim such as "king − man + woman = queen" with a full test set, a baseline and an interval,
# - say what a word's one vector learns from the company of the word, and what it cannot tell apart: opposites, two senses, positions.
#
# **You need** {doc}`tokenization`, what a gradient is, and for one cell what singular vectors are.
#
# **Runs in** about 40 seconds on two CPU cores.

# %% [markdown]
# ## Setup

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn.functional import logsigmoid, one_hot

from llmcourse import plotting
from llmcourse.checks import embeddings as checks
from llmcourse.model import positions
from llmcourse.model.folders import load_pretrained
from llmcourse.model.inspection import hidden_states
from llmcourse.text import embeddings, tales
from llmcourse.text.embeddings import (
    WordVectors,
    entries,
    neighbour_purity,
    relations,
    score_analogies,
    similarities,
    word_classes,
)
from llmcourse.training.intervals import bootstrap_interval, wilson_interval
from llmcourse.training.presets import BASE_LLM
from llmcourse.widgets.embedding import EmbeddingExplorer

plotting.use_course_style()
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## The problem
#
# A {term}`tokenizer` turns a text into ids, and an id is only a name.
# To see what a model would make of it as a number, the next cell numbers the words of three thousand {term}`tales`, the stories that this course's grammar writes, by how frequent they are.
# (In this chapter a token is a whole word, in small letters, that occurs at least five times: it makes the results easy to read, and all of it holds for pieces of words too.)

# %%
stories = [story.text for story in tales.generate(3000, seed=0)]
counted = embeddings.count_texts(stories, min_count=5)
number = {word: i for i, word in enumerate(counted.words)}
fox = number["fox"]
print(f"{len(counted.words):,} words, {len(counted.ids):,} in the text")
print("next to fox:", {counted.words[i]: i for i in range(fox - 1, fox + 2)})
print("and far off:", {word: number[word] for word in ("hedgehog", "mouse", "bear")})

# %% [markdown]
# As numbers, `fox` lies between words that have nothing to do with it, and other animals of the tales are somewhere else.
# A network that multiplies and adds ids would have to unlearn this order, which says how frequent a word is and nothing else.
#
# One way out gives each word an axis of its own.
# A {term}`one-hot vector` has a 1 at the word's place and a 0 everywhere else.
# No word is then nearer to another by accident, but every two words are exactly equally far apart: `fox` and `hedgehog`, `fox` and `soup`.

# %%
three = torch.tensor([number[word] for word in ("fox", "hedgehog", "soup")])
one_hots = one_hot(three, len(counted.words)).float()
distances = torch.cdist(one_hots, one_hots)
print(f"shape {tuple(one_hots.shape)}")
print(f"from fox to hedgehog {distances[0, 1]:.2f}, to soup {distances[0, 2]:.2f}")
assert distances[0, 1] == distances[0, 2] > 0

# %% [markdown]
# What we want lies between: few numbers for each word, and words that are alike near each other.
# Nobody can write down such a table for a whole language.
# It has to be learned from text.
#
# ![Left: fox, hedgehog and soup at the corners of a triangle whose three sides are all 1.41 long. Right: fox and hedgehog near each other, soup far from both.](figures/equally-far-apart.svg)
#
# *One-hot vectors put every two words equally far apart.
# An embedding may put like words near each other.*
#
# ## By hand
#
# **Looking up.**
# Three words, two numbers for each: six numbers in a table, the {term}`embedding`.
#
# | id | word | vector |
# |---|---|---|
# | 0 | hen | (2, 1) |
# | 1 | cow | (1, 2) |
# | 2 | tin | (−1, 0) |
#
# The text *cow cow hen* has the ids 1, 1, 0, so its vectors are (1, 2), (1, 2), (2, 1): rows of the table, copied.
# The one-hot vector of `cow`, (0, 1, 0), times the table gives the row of `cow`, for it multiplies the two others by zero.
# If the gradient of a loss by each copy is (1, 1), then that by the row of `cow`, copied twice, is (2, 2), by the row of `hen` (1, 1), and by that of `tin` zero.
#
# ![Above: a table with the rows hen 2 1, cow 1 2, tin −1 0; arrows copy the row of cow to two vectors and the row of hen to a third. Below: three gradients of 1 1; arrows lead back, and add up to hen 1 1, cow 2 2, tin 0 0.](figures/rows-copied-and-gradients-added.svg)
#
# *Forward, rows are copied; backward, the gradients of all copies of a row are added.
# The row of `tin` takes part in neither.*
#
# **How alike?**
# Between `hen` and `cow` the dot product is $2 \cdot 1 + 1 \cdot 2 = 4$.
# Both vectors have the length $\sqrt 5$, so the cosine of the angle between them is $4 / 5$.
# Their distance is the length of (1, −1), which is $\sqrt 2$.
#
# ![The vectors hen, 2 1, and cow, 1 2, in the plane, with the angle between them and a dashed line between their tips. Dot product 4: lengths and angle. Cosine 4/5: the angle alone. Distance √2: from tip to tip.](figures/how-alike-are-hen-and-cow.svg)
#
# *Three measures of the same two vectors.*
#
# **One step of learning.**
# The vectors are to tell which words stand together.
# Let the word in the middle of a stretch of text have $v = (1, 0)$, a word beside it, its company, $u_+ = (0, 1)$, and a word drawn at random, noise, $u_- = (0, -2)$.
# The sigmoid, $\sigma(s) = 1 / (1 + e^{-s})$, makes of a dot product the probability that the other word is company.
# Both dot products with $v$ are 0, and $\sigma(0) = 1/2$.
# It should have been 1 for the company and 0 for the noise, so the errors are $-1/2$ and $+1/2$.
# In a step of rate 1 each vector moves against the error times *the other* vector:
#
# | vector | error · other | after the step |
# |---|---|---|
# | $v$ | $-\frac12 u_+ + \frac12 u_- = (0, -1.5)$ | (1, 1.5) |
# | $u_+$ | $-\frac12 v = (-0.5, 0)$ | (0.5, 1) |
# | $u_-$ | $+\frac12 v = (0.5, 0)$ | (−0.5, −2) |
#
# The dot products are now $0.5 + 1.5 = 2$ and $-0.5 - 3 = -3.5$: the company is told from the noise.
#
# ![Arrows in the plane. Before: v to the right, the company u₊ up, the noise u₋ down, and both dot products 0. After: v points up beside u₊, with a dot product of 2, and away from u₋, with one of −3.5.](figures/one-step-of-learning.svg)
#
# *One step turns $v$ and its company to each other, and $v$ and the noise apart.*

# %%
table = nn.Embedding.from_pretrained(
    torch.tensor([[2.0, 1.0], [1.0, 2.0], [-1.0, 0.0]]), freeze=False
)
table(torch.tensor([1, 1, 0])).sum().backward()  # (1, 1) by each copy
assert table.weight.grad.tolist() == [[1, 1], [2, 2], [0, 0]]

hen, cow, _ = table.weight.detach()
for kind, wanted in [("dot", 4.0), ("cosine", 4 / 5), ("euclidean", -(2**0.5))]:
    torch.testing.assert_close(similarities(hen, cow[None], kind)[0].item(), wanted)

middle, around = torch.tensor([[1.0, 0]]), torch.tensor([[[0.0, 1], [0, -2]]])
_, by_middle, by_around = embeddings.skipgram_gradients(middle, around)
print("gradient of v:", by_middle[0].tolist())
scores = (around - by_around) @ (middle - by_middle).squeeze()
print("dot products after the step:", scores[0].tolist())

# %% [markdown]
# ## The idea
#
# **A table.**
# The embedding is a matrix $E$ with a row of $D$ numbers for each of $V$ tokens; token $x$ becomes the vector $E_x$, a row that is looked up and never multiplied out.
#
# **Company.**
# How should the rows be filled?
# "You shall know a word by the company it keeps" {cite:p}`firth1957`: words that occur in the same surroundings have something in common {cite:p}`harris1954`.
# {term}`Skip-gram <skip-gram>` makes a task of it {cite:p}`mikolov2013a`.
# For a word $c$ in the middle and a word $o$ at most $m$ places away, the score $u_o \cdot v_c$ should be high; for $K$ words $n_1, \dots, n_K$ drawn at random it should be low:
#
# $$
# \mathcal{L} = -\ln \sigma(u_o \cdot v_c) - \sum_{k=1}^{K} \ln \sigma(-u_{n_k} \cdot v_c),
# \qquad
# \sigma(s) = \frac{1}{1 + e^{-s}} .
# $$
#
# This is {term}`negative sampling` {cite:p}`mikolov2013b`.
# Each word has two vectors, $v$ for when it is in the middle and $u$ for when it is around, and $v$ is kept in the end.
#
# ![The words a proud boy lived on the market, with a window of two words to each side of boy. Lines lead from the vector v of boy to six vectors u: to that of proud, from the window, whose score should be high, and to those of wears, duck, the, talkative and george, drawn at random, whose scores should be low.](figures/one-pair-and-its-noise.svg)
#
# *One pair of a word and its company, with $K = 5$ words of noise.
# The words `a`, `lived` and `on` make three more pairs with `boy`, each with new noise.*
#
# The derivative of the loss by a score is $\sigma(s) - 1$ for the company and $\sigma(s)$ for noise, the errors of the example above; that of the score by one of its vectors is the other vector.
#
# Two details matter in practice.
# Noise is drawn in proportion to the count of a word to the power $3/4$, which gives rare words more than their share, and the most frequent ones less (exercise 4 asks how much).
# And words such as `the`, whose share $f$ of the text is above a threshold $\tau$, are thinned out, for they are everybody's company: each occurrence is kept with probability $\sqrt{\tau / f}$.
#
# **Similarity.**
# Three measures are in use, each larger for what is more alike; the second is called {term}`cosine similarity`, and the third is the distance with a minus.
#
# | Measure | Formula | Blind to |
# |---|---|---|
# | dot product | $x \cdot y$ | nothing: it grows with the lengths |
# | cosine | $x \cdot y \,/\, (\lVert x \rVert \lVert y \rVert)$ | lengths |
# | distance | $-\lVert x - y \rVert$ | where the origin is |
#
# | Symbol | Meaning | Shape | Name in code |
# |---|---|---|---|
# | $E$ | embedding matrix, one row a token | $V \times D$ | `embedding.weight` |
# | $v_c$ | vectors of words in the middle | $V \times D$ | `vectors` |
# | $u_o$, $u_n$ | vectors of words around, noise | $V \times D$ | `contexts` |
# | $m$, $K$ | window; noise words for each pair | – | `window`, `n_negatives` |
# | $\sigma(s) - 1$, $\sigma(s)$ | errors | (pairs, 1 + K) | `errors` |
#
# ## In code
#
# ### A lookup
#
# PyTorch calls the table `nn.Embedding`.
# Here it is in the size of a small GPT-2: fifty thousand tokens, 768 numbers each.
# Four ids give four rows; the product with one-hot vectors gives the same, at the price of multiplying almost fifty thousand zeros for each.
# And which rows does a step of training touch?
# Whatever the loss is, its gradient reaches only the rows that were looked up, here one of them twice.

# %%
big = nn.Embedding(50_000, 768)
ids = torch.tensor([17, 4_912, 17, 49_999])
rows = big(ids)
assert torch.equal(rows, one_hot(ids, 50_000).float() @ big.weight)
print(f"{tuple(ids.shape)} → {tuple(rows.shape)}")
print(f"the table: {big.weight.numel():,} numbers, {big.weight.nbytes / 2**20:.0f} MiB")

rows.square().sum().backward()
touched = big.weight.grad.any(dim=1).nonzero().flatten()
print("rows with a gradient:", touched.tolist())
assert torch.equal(big.weight.grad[17], 2 * 2 * big.weight[17])  # two copies
del big, rows

# %% [markdown]
# So a rare token learns rarely.
# A token that never occurs in the training text keeps the row that it was born with.
# (If the same table also scores the next token, as in many language models {cite:p}`press2017`, every row gets a little gradient from there.)
#
# ### Skip-gram
#
# The gradient of the loss, for a batch of pairs at once: company first, then the noise.
# Autograd, which knows only the formula of the loss, must find the same numbers, and so must the package.


# %%
def pair_gradients(center, targets):  # (B, D), (B, 1 + K, D)
    """Return the gradients of each pair's loss by its vectors."""
    errors = (targets * center[:, None]).sum(-1).sigmoid()  # (B, 1 + K)
    errors[:, 0] -= 1  # the first should have been 1, the others 0
    by_center = (errors[..., None] * targets).sum(dim=1)  # (B, D)
    return by_center, errors[..., None] * center[:, None]  # and (B, 1 + K, D)


center = torch.randn(7, 5, generator=generator, requires_grad=True)
targets = torch.randn(7, 4, 5, generator=generator, requires_grad=True)
scores = (targets * center[:, None]).sum(-1)
loss = -(logsigmoid(scores[:, 0]).sum() + logsigmoid(-scores[:, 1:]).sum())
by_autograd = torch.autograd.grad(loss, (center, targets))
mine = pair_gradients(center.detach(), targets.detach())
theirs = embeddings.skipgram_gradients(center.detach(), targets.detach())[1:]
torch.testing.assert_close(mine, by_autograd)
torch.testing.assert_close(theirs, by_autograd)

# %% [markdown]
# The package's `train_skipgram` is this step in a loop: thin out, list the pairs (near words more often than far ones), draw noise, subtract the gradients.
# The next cell is the longest of the chapter: four passes through the three thousand tales.
# The vectors $u$ begin at zero, so at first all scores are 0, and each of the $1 + K = 6$ guesses costs $\ln 2$.

# %%
trained = embeddings.train_skipgram(stories, generator)
vectors = trained.vectors
print(f"{len(vectors):,} words with {vectors.vectors.shape[1]} numbers each")
untrained_loss = 6 * torch.tensor(2.0).log().item()
print(f"loss {untrained_loss:.1f} → {trained.losses[-1]:.1f} nats/pair")
assert trained.losses[-1] < untrained_loss / 2

# %% [markdown]
# ## Experiment
#
# ### Near by what measure?
#
# *Predict:* the three measures often agree.
# Which of them will put frequent words, whose vectors are short, beside each other, and which will prefer words with long vectors, whatever they are?

# %%
for word in ("fox", "red", "careful", "she"):
    for kind in embeddings.SIMILARITIES:
        near = ", ".join(other for other, _ in vectors.nearest(word, k=5, kind=kind))
        print(f"{word:8} {kind:10} {near}")
shortest = {word for word, _ in vectors.nearest("she", k=5, kind="euclidean")}
assert shortest <= set(counted.words[:20])  # the most frequent
assert {"tale", "story"} <= {word for word, _ in vectors.nearest("fox", 5, "dot")}

# %% [markdown]
# By cosine a colour lies beside colours, `careful` beside other traits, and `fox` beside others who can be heroes of a tale: animals, a boy, a girl.
# By distance the five nearest of `she` are all among the twenty most frequent words: such words have short vectors, as the next cell shows, so they lie near the origin and near each other.
# By dot product `fox` lies beside `tale` and `story`, words of how a tale begins, which are nothing like a fox.
#
# Three numbers say the same of all words: how long the five nearest are, on average, relative to the word itself; how many words are never among anyone's five nearest; and, for words with a class in the grammar (animal, colour, trade, …), how often the nearest word is of the same class.

# %%
classes = word_classes()
classed = [word for word in classes if word in vectors]
class_names = sorted(set(classes.values()))
labels = torch.tensor([class_names.index(classes[word]) for word in classed])
length = vectors.vectors.norm(dim=1)
relative, never, same_class = {}, {}, {}
for kind in embeddings.SIMILARITIES:
    closeness = similarities(vectors.vectors, vectors.vectors, kind)
    nearest = closeness.fill_diagonal_(-torch.inf).topk(5).indices  # (V, 5)
    relative[kind] = (length[nearest].mean(1) / length).mean().item()
    never[kind] = len(vectors) - len(nearest.unique())
    purity = neighbour_purity(vectors.only(classed).vectors, labels, kind=kind)
    same_class[kind] = purity.mean().item()
    print(f"{kind:10} lengths × {relative[kind]:.2f}, never near: {never[kind]}")
print("nearest is of the same class:", {k: f"{p:.0%}" for k, p in same_class.items()})
frequent = length[:20].mean() / length.mean()
print(f"the 20 most frequent words: {frequent:.1f} of the mean length")
assert relative["euclidean"] < 1 < relative["cosine"] + 0.05 < relative["dot"]
assert never["dot"] > 2 * max(never["cosine"], never["euclidean"])
assert frequent < 0.7 and min(same_class.values()) > 0.95

# %% [markdown]
# The measures differ where lengths do.
# Distance finds shorter vectors and the dot product longer ones, and the dot product leaves a good part of the words in nobody's neighbourhood: longer ones take their places.
# Among the words that have a class the choice hardly matters: over nineteen times out of twenty the nearest of them is of the same class.
#
# Cosine is the custom, and a sensible one here.
# It is no law: length is information that it throws away, and what a cosine means depends on how the vectors were trained {cite:p}`steck2024`.
#
# ### A map
#
# Forty-eight axes cannot be drawn, but two can: the first two {term}`principal components <principal component>`, the directions along which the vectors vary most {cite:p}`pearson1901`.
# Take the mean off all vectors; the components are the right singular vectors of what is left, the columns of $W$ in $X = U \Sigma W^\top$, and the share of the variance that each explains is its squared singular value, from the diagonal of $\Sigma$, over the sum of all.

# %%
shown = ("name", "animal", "trade", "place", "colour", "food", "trait")
on_map = [word for word in classed if classes[word] in shown]
cloud = vectors.only(on_map).vectors
centred = cloud - cloud.mean(dim=0)
_, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
explained = sizes.square() / sizes.square().sum()
points, _, share = embeddings.project(cloud, n_components=2)
torch.testing.assert_close(share, explained[:2])
torch.testing.assert_close(points.abs(), (centred @ directions[:2].T).abs())
print(f"two of {len(explained)} directions hold {share.sum():.0%} of the variance")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Words as dots on a plane, coloured by class. Colours, trades, places, foods and animals form clusters of their own. Names form two clusters far apart. Young animals such as lamb and gosling lie beside the trades, away from the other animals; hedgehog, otter and other species lie among the traits."}}
fig, ax = plt.subplots(figsize=(7, 4.6))
written = plotting.plot_map(ax, points.tolist(), on_map, [classes[w] for w in on_map])
assert {text.get_text() for text in written[: len(shown)]} == set(shown)
assert len(written) > 60


def places_of(*lists):
    words = [entry["word"].lower() for entry in entries(tales.world(), *lists)]
    return points[[on_map.index(word) for word in words if word in on_map]]


lists = ("stray", "visitor", "job", "species", "trait")
young, animals, trades, species, traits = (places_of(each).mean(0) for each in lists)
heroes, friends = places_of("girl", "boy"), places_of("pal")
edge, among = points[[on_map.index(w) for w in ("honey", "biscuit")]], heroes.mean(0)
assert (among - friends.mean(0)).norm() > points.norm(dim=1).mean()
assert (edge - among).norm(dim=1).min() > (heroes - among).norm(dim=1).max()
assert (young - trades).norm() < (young - animals).norm() / 2
assert (species - traits).norm() < (species - animals).norm() / 2

# %% [markdown]
# Nobody told the vectors what an animal is, and yet the classes are clusters.
# (The map leaves out most of the variance, so what is near on it need not be near.)
# The exceptions teach more.
#
# - The names are two clusters: heroes of the tales (`simon`, `grace`, …) in one, their friends (`laura`, `edgar`, …) in the other, for the grammar never lets a friend be a hero.
# - The young animals (`lamb`, `gosling`, …) lie apart from their parents, beside the trades: in their tale one of them is lost, and the hero asks a baker and a tailor whose it is.
# - The animals that are heroes (`otter`, `hedgehog`, …) lie among the traits, for a hero is *a brave otter*.
# - `honey` and `biscuit` hang farther out than any girl or boy: they are names of animals, and things to eat besides, and each has to make do with one vector.
#
# So a vector says which *part* a word plays in the text.
# Whether that is its meaning is for you to decide.
#
# In the explorer, choose a word and compare its neighbours under the three measures.
# (What is below them, sums of words, belongs to the next section: come back to it then.)

# %%
partners = {b for pairs in relations().values() for bs in pairs.values() for b in bs}
some = sorted({w for w in classed if classes[w] != "hobby"} | (partners & set(number)))
few = {word: name for word, name in classes.items() if name != "hobby"}
EmbeddingExplorer(
    vectors.only(some), few, word="fox", analogy=("baker", "kneading", "tailor")
)

# %% [markdown]
# *Question:* among these words, find one whose three lists have hardly a word in common, and compare its length, `vectors["fox"].norm()` for `fox`, with the mean, `length.mean()`.
# If it is short: what then decides a distance to it, and what a dot product?
#
# ### Is *king − man + woman = queen*?
#
# The most famous claim about word vectors is that differences mean something: the step from `man` to `woman` is also the step from `king` to `queen`.
# So the {term}`analogy` "$a$ is to $b$ as $c$ is to what?" is answered by the word nearest, by cosine, to $v_b - v_a + v_c$, each brought to length 1 {cite:p}`mikolov2013c`.
# Usually a few examples are shown that work.
# The grammar of the tales knows all pairs of eight relations, so all questions can be asked: *girl* is to *boy* as *mother* is to what?
# The others are `apple : apples`, `four : three`, `lamb : sheep`, `lamb : bleating`, `owl : hooted`, `baker : kneading` and `beach : starfish`.
#
# Three things make the number honest.
#
# - *A baseline.*
#   By custom $a$, $b$ and $c$ are not allowed as answers, so the nearest *other* word to $c$ may be right without any arithmetic {cite:p}`linzen2016`.
# - *Chance.*
#   A guess among all words of the right kind is right now and then.
# - *A {term}`confidence interval`.*
#   A score on so many questions would be another on others.
#
# *Predict:* for which of the eight relations will the arithmetic work?

# %%
answered = {
    name: score_analogies(vectors, pairs) for name, pairs in relations().items()
}
interval = {}
print("                  questions right  95 %        nearest chance kind  b or c")
for name, score in answered.items():
    interval[name] = bootstrap_interval(score.right, generator)
    low, high = interval[name]
    print(
        f"{name:18} {score.n_questions:8} {score.right.mean():5.2f}  {low:.2f} … {high:.2f}"
        f" {score.nearest.mean():7.2f} {score.chance.mean():6.2f}"
        f" {score.kind.mean():4.2f} {score.copied.mean():7.2f}"
    )

# %% [markdown]
# *Right* is the share of questions whose best answer is right, *nearest* that of the baseline, *chance* that of a guess.
# *Kind* says how often the answer is at least of the right kind: some animal's cry, if not this animal's.
# The last column is for later.
#
# About the interval: there are thousands of questions about cries, but only some dozens of animals, and questions about one animal tend to be right or wrong together.
# An interval that takes the questions for independent, such as that of {cite:t}`wilson1927`, is too narrow.
# The bootstrap of {cite:t}`efron1979`, over animals, is not: it draws as many animals from the animals, with replacement, again and again, and looks at how much the mean moves.

# %%
cries = answered["animal : cry"]
n_right = round(cries.n_questions * cries.right.mean().item())
naive = wilson_interval(n_right, cries.n_questions)
honest = interval["animal : cry"]
print(f"{cries.n_questions} questions:  {naive.low:.2f} … {naive.high:.2f} (Wilson)")
print(
    f"{len(cries.right)} animals:      {honest.low:.2f} … {honest.high:.2f} (bootstrap)"
)
assert honest.high - honest.low > 2 * (naive.high - naive.low)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Eight rows, one for each relation: share of right answers with its interval, the nearest-word baseline and chance. Trade and work, young animal and cry, animal and cry lie far right of chance and baseline. Female and male lies far right, but so does its baseline, inside the interval. The other four lie at chance or little above."}}
fig, ax = plt.subplots(figsize=(7, 2.9))
for place, (name, score) in enumerate(answered.items()):
    low, high = interval[name]
    ax.plot([low, high], [place, place], color="C0", linewidth=2.5, alpha=0.5)
    marks = [(score.right, "oC0", "arithmetic, with its 95 % interval")]
    marks += [(score.nearest, "xC1", "word nearest to c alone")]
    marks += [(score.chance, "|k", "a guess of the right kind")]
    for values, style, label in marks:
        label = label if place == 0 else None
        ax.plot(values.mean(), place, style, markersize=7, label=label)
ax.set_yticks(range(len(answered)), answered)
ax.invert_yaxis()
ax.legend(loc="center right", bbox_to_anchor=(1, 0.68))
_ = ax.set(xlabel="share of questions answered right", xlim=(-0.03, 1))

# %% [markdown]
# Three relations work, far above the baseline and chance.
# One, *female : male*, looks as good, and is not: without any arithmetic, the word nearest to `mother` is `father`, and the interval of the difference reaches below zero.
# The other four are right in hardly more than one question of ten, and near chance.
# Asked for plurals, the arithmetic nearly always gives some plural, and hardly ever the right one.
#
# What sets the three apart?
# The next cell counts, from the text alone, how many times as often as by chance the two words of a pair stand within five places of each other.

# %%
gain = answered["female : male"].right - answered["female : male"].nearest
assert bootstrap_interval(gain, generator).low < 0
assert vectors.nearest("mother", k=1)[0][0] == "father"
center, context = embeddings.context_pairs(counted.ids, counted.text_of, window=5)
size = len(counted.words)
beside = torch.bincount(center * size + context, minlength=size**2).view(size, size)
total = beside.sum(dim=1).double()
for name, pairs in relations().items():
    known = [(a, b) for a in pairs for b in pairs[a] if {a, b} <= number.keys()]
    a, b = torch.tensor([(number[a], number[b]) for a, b in known]).T
    by_chance = (total[a] * total[b]).sum() / total.sum()
    together = beside[a, b].sum() / by_chance
    score, low = answered[name], interval[name].low
    works = low > 2 * max(score.chance.mean(), score.nearest.mean())
    print(f"{name:18} {together:4.0f} ×", "  ← the arithmetic works" if works else "")
    assert works == (together > 100)
assert sum(score.copied.mean() > 0.5 for score in answered.values()) >= 6

# %% [markdown]
# The arithmetic works where the two words of a pair stand side by side far more often than by chance, and not where they merely correspond.
# In the tales `apple` and `apples` meet only a few times as often as by chance, and little ties one to the other rather than to `pears`.
# In a large corpus of real text both stand beside *tree* and *pie*, and such pairs do better {cite:p}`mikolov2013c`.
#
# Now to the custom that $a$, $b$ and $c$ are no answers.
# The last column of the table above says how often the best answer would be $b$ or $c$ itself, if they were allowed: for most relations, more often than not.
# Mostly, the sum lands next to where it began, and the custom hides it.
#
# ![Two parallelograms. Left: the step from baker to kneading, put at tailor, ends at a cross beside sewing. Right: the step from girl to boy is short; put at mother, it ends at a cross near mother. Nearest to it are mother, which is not allowed, then grandmother, then father.](figures/where-the-sum-lands.svg)
#
# *The step of the first pair (orange), repeated at the third word, ends at ×.
# On the right it is short, so × is nearest to `mother` itself (places from this page's vectors, in the plane of the three words).*
#
# None of this is special to the tales: the same was found for large vectors from real text {cite:p}`linzen2016,rogers2017`.
# Differences of vectors carry something, and less than the famous example suggests.
#
# ### The vectors inside a language model
#
# A {term}`transformer` begins with an embedding too, and nobody trains it for similarity: its rows are learned along with everything else, for {term}`next-token prediction`.
# `base-llm` is the model that this course has trained on the tales.
# Its tokens are pieces of words, so the next cell takes those words that are one piece.
# It compares three tables: the model's before training, the vectors of skip-gram, and the model's after training.
# (The recipe of `base-llm` fixes its random start, so the table before training can be made again.)
#
# Two questions are asked for each word and each grouping of the words.
# Is its *nearest word* of the same group?
# And is its *nearest mean* that of its group: the mean of the group's other words, each brought to length 1, against the means of the other groups?
#
# *Predict:* skip-gram looks five words back and forth.
# A language model has to choose the next word from all that came before.
# Which of the two must know whether `Mia` is a girl?

# %%
model, tokenizer = load_pretrained("base-llm")
newborn = BASE_LLM.new_model()
tokens = {}
for word, name in classes.items():
    ids = tokenizer.encode(" " + (word.capitalize() if name == "name" else word))
    if len(ids) == 1 and word in vectors:
        tokens[word] = ids[0]
held = list(tokens.values())
rows = [each.embedding.weight.detach()[held] for each in (newborn, model)]
untrained, learned = (WordVectors(list(tokens), matrix) for matrix in rows)
tables = {"untrained": untrained, "skip-gram": vectors, "model": learned}
kept = torch.cosine_similarity(*rows).mean()
print(f"{len(tokens)} words; cosine of a row before and after training: {kept:.1f}")
assert kept > 0.5


# %%
def mean_purity(x, group):
    """Return for what share of the rows the nearest mean is that of the own group."""
    unit = x / x.norm(dim=1, keepdim=True)
    member = one_hot(group).float()  # (N, groups)
    sums = member.T @ unit - member[..., None] * unit[:, None]  # without itself
    means = sums / sums.norm(dim=-1, keepdim=True)  # (N, groups, D)
    nearest = (means @ unit[..., None]).squeeze(-1).argmax(dim=1)
    return (nearest == group).float().mean()


# What the grammar notes of each word: the sort of a trait, and which of she and he.
listed, people = entries(tales.world(), "trait"), entries(tales.world(), "girl", "boy")
groups = {
    "class": classes,
    "sort of trait": {e["word"]: e["group"] for e in listed},
    "name: she or he": {e["word"].lower(): e["he"] for e in people},
    "trade: she or he": {e["word"]: e["he"] for e in entries(tales.world(), "job")},
}

# %%
by_word, by_mean = {}, {}
print(f"{'nearest word, mean':18} words  chance", *(f"{name:>11}" for name in tables))
for what, group_of in groups.items():
    words = [word for word in group_of if word in tokens]
    kinds = sorted(set(group_of.values()))
    group = torch.tensor([kinds.index(group_of[word]) for word in words])
    chance = (group.bincount() / len(group)).square().sum()
    row = f"{what:18} {len(words):5} {chance:7.2f}"
    for name, table in tables.items():
        x = table.only(words).vectors
        by_word[what, name] = one = neighbour_purity(x, group).mean()
        by_mean[what, name] = other = mean_purity(x, group)
        row += f"  {one:.2f}, {other:.2f}"
    print(row)
assert by_mean["class", "untrained"] < 0.3 < 0.85 < by_word["class", "model"]
assert min(by_mean[what, "model"] for what in groups) > 0.9
assert max(by_word["name: she or he", name] for name in tables) < 0.7
assert max(by_mean["name: she or he", name] for name in list(tables)[:2]) < 0.8

# %% [markdown]
# Before training the table knows nothing: neighbours and means are near chance.
# (A mean that leaves the word itself out lies a little away from it, so where nothing is known it may do worse than chance.)
# After it, the classes are nearly as clear as in skip-gram, although nobody asked for them.
#
# The rows about pronouns show what a task makes of the vectors.
# To this skip-gram a name is a name, and whether *she* or *he* goes with it is hardly to be seen: within five words of a name, and after thinning, there is seldom a pronoun (exercise 6 looks farther).
# The language model cannot do without: a few sentences after `Mia` it has to write *she* or *he*, and it pays for every mistake.
#
# But does it know?
# By the nearest word, names are a coin toss; by the nearest mean, every single one is right.
# A row of the model is mostly the word's own.
# Much of it is the random start, which it still resembles, and it must tell `Mia` from every other name, for the model copies names out of the story.
# The pronoun is a small part of such a row.
# Between two names it drowns in all that differs; in a mean over dozens of names the differences cancel, and what they share is left.
#
# ![A sketch of 16 names in a tall column, circles for she a little to the left of squares for he. Lines join each to its nearest, which has the same pronoun for 8 of 16. Beside it the two means, one circle and one square, clearly apart.](figures/pronoun-in-the-mean.svg)
#
# *A sketch: up and down is what is a name's own, left and right the pronoun.
# The nearest name is as often of the other kind; the means differ in the pronoun alone.*
#
# So what is not to be seen among the neighbours may still be in the vectors, along one direction of many.
# That is enough for the model, whose layers read a row by dot products with directions that they have learned.

# %% [markdown]
# ### One word, many vectors
#
# `spring` is a season, and in some tales it is a magic spring, with water to drink.
# The table has one row for both.
# But the layers above it add to that row what the words before it say: the vector that runs along the {term}`residual stream` belongs to the word *here*.
#
# ![At the bottom one box, the row of spring. Two arrows go up from it, each through three layers. Into the layers on the left comes the word before, One, and at the top is spring, the season; on the right it is magic, and at the top spring, the water.](figures/two-senses-of-spring.svg)
#
# *One row in the table; two vectors at the top, for the layers add what the words before say.*
#
# The next cell takes thirty tales with each of the two, cuts each right after `spring`, and reads the vector at that last word, as it leaves the table and after each layer.
#
# (A *layer* adds something to the vector; the next chapter says what.)
# The cell prints how far the vectors have turned from the row after each layer, and how alike that layer's additions are for the sixty tales; the figure shows how alike the vectors are.
#
# *Predict:* how alike are two springs of the same sense, and of different senses, before the first layer, and after the last?

# %%
senses = {"season": [], "water": []}
for story in tales.generate(6000, seed=1):
    before, found, _ = story.text.partition(" spring")
    if found:
        sense = "water" if before.endswith("magic") else "season"
        senses[sense].append(before + found)
for sense, texts in senses.items():
    print(f"{sense}: …{texts[0][-36:]}")
end = tokenizer.special_tokens["<|endoftext|>"]
states = []
for text in senses["season"][:30] + senses["water"][:30]:
    ids = torch.tensor([end, *tokenizer.encode(text)])
    assert ids[-1] == tokenizer.encode(" spring")[-1]
    states.append(hidden_states(model, ids)[:, -1])  # (layers + 1, D)
states = torch.stack(states, dim=1)  # (layers + 1, 60, D)
for layer, added in enumerate(states.diff(dim=0), start=1):
    turned = torch.cosine_similarity(states[layer], states[0], dim=-1).mean()
    alike = similarities(added, added).mean()
    print(f"layer {layer}: cosine to the row {turned:.2f}, of additions {alike:.2f}")
others = hidden_states(model, ids)  # every word of one tale

# %% tags=["hide-input"] mystnb={"image": {"alt": "Mean cosine against layer. For springs of the same sense and for springs of different senses it starts at 1 and stays almost there for two layers. After the third it has fallen, for different senses farther than for one. For two different words of a tale it starts at 0 and rises a little, far below."}}
is_water = torch.arange(60) >= 30
same = is_water[:, None] == is_water
pairs = {"same sense": same & ~torch.eye(60, dtype=torch.bool), "other sense": ~same}
cosines = {
    name: [similarities(x, x)[mask].mean() for x in states]
    for name, mask in pairs.items()
}
apart = ~torch.eye(others.shape[1], dtype=torch.bool)
cosines["two words of a tale"] = [similarities(x, x)[apart].mean() for x in others]
fig, ax = plt.subplots(figsize=(4.5, 2.5))
for style, (name, values) in zip(("o-", "s--", "^:"), cosines.items()):
    ax.plot(values, style, label=name)
ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
ax.set_xticks(range(len(states)), ["table", *range(1, len(states))])
_ = ax.set(xlabel="after layer", ylabel="mean cosine", ylim=(-0.05, 1.05))
assert cosines["other sense"][0] > 0.9999 and min(cosines["other sense"][:3]) > 0.95
assert cosines["same sense"][-1] > cosines["other sense"][-1] + 0.1
purity = [neighbour_purity(x, is_water.long()).mean() for x in states[1:]]
print("nearest has the same sense:", *(f"{share:.0%}" for share in purity))
assert min(purity) > 0.9

# %% [markdown]
# In the table all sixty are the same vector.
# The first two layers turn it far from that row, but for all sixty by nearly the same addition, which hardly depends on the sense: the cosine of two such additions is close to 1.
# Yet the little that differs tells the senses apart: after the first layer already, the nearest of the other 59 has the same sense in over nine cases of ten.
# (One layer is enough, for *magic* stands right before the word.)
# Two different words of a tale have little in common at any layer.
# The last layer, which has to say what comes next, is the one that turns those of different senses farther apart than those of one.
#
# This is the difference between a *static* vector, a row of a table, and a *contextual* one.
# When people speak of the embedding of a sentence or a document, they mean contextual vectors, usually averaged over its words or taken at one of them.
# In large models, too, the higher the layer, the more do the vectors of one word differ from context to context {cite:p}`ethayarajh2019`.
#
# ### Where a token stands
#
# A row of the table says what a token is, not where.
# {term}`Attention <attention>`, which the next chapter explains, makes a *query* and a *key* of every token; the dot product of one token's query with another's key is a *score*, by which the first takes up more or less of the second.
# If all look at all, it cannot tell *dog bites man* from *man bites dog* unless positions are put in.
# There are four common ways, and `llmcourse.model.positions` has the last three:
#
# - *learned*: a second table, one row for each position, added to the tokens' rows {cite:p}`radford2019`,
# - *sinusoidal*: fixed waves of many lengths, added likewise {cite:p}`vaswani2017`,
# - *{term}`RoPE`*, rotary position embedding: queries and keys are turned by angles that grow with the position {cite:p}`su2021`,
# - *ALiBi*, attention with linear biases: a penalty for distance is subtracted from the score {cite:p}`press2022`.
#
# ![Three boxes from top to bottom: row; query and key; score. Learned and sinusoidal positions are added to the row, RoPE turns query and key, ALiBi takes a penalty from the score.](figures/where-positions-enter.svg)
#
# *The four ways act at three places between a token's row and its score.*
#
# The next cell takes one pair of tokens, a query and a key three places before it, moves the pair to the right along the text, and prints the score of the two each time.
# To be short, it adds the first two to query and key themselves, as if these were the tokens' rows.
# (ALiBi has several penalties, one for each *head* of the next chapter; this is the steepest.)
#
# *Predict:* for which ways does the score stay the same?

# %%
far, d_head = 64, 8
query, key = torch.randn(2, d_head, generator=generator)
learned = torch.randn(far, d_head, generator=generator)  # as it is before training
waves = positions.sinusoidal_positions(far, d_head)
cos, sin = positions.rope_tables(far, d_head)
queries = positions.apply_rope(query.expand(far, -1), cos, sin)  # at each position
keys = positions.apply_rope(key.expand(far, -1), cos, sin)
penalty = positions.alibi_bias(8, far)[0]  # of the first of 8 heads
score = {
    "learned": (query + learned) @ (key + learned).T,
    "sinusoidal": (query + waves) @ (key + waves).T,
    "RoPE": queries @ keys.T,
    "ALiBi": query @ key + penalty,
}
for name, table in score.items():
    row = "  ".join(f"({i}, {i - 3}) {table[i, i - 3]:5.2f}" for i in (3, 13, 60))
    print(f"{name:10}  {row}")
    moved = table.diagonal(offset=-3)
    assert torch.allclose(moved, moved[:1], atol=1e-4) == (name in ("RoPE", "ALiBi"))

# %% [markdown]
# With RoPE and ALiBi the score of two tokens depends on how far apart they are, wherever they are.
# With sinusoids this holds for the waves by themselves; added to tokens they also meet the tokens' own coordinates, and the score moves.
# The laws behind it, one line each:

# %%
sine, cosine = waves[:-3, 0::2], waves[:-3, 1::2]  # of all positions but the last 3
shifted = torch.stack(
    (sine * cos[3] + cosine * sin[3], cosine * cos[3] - sine * sin[3]), -1
)
torch.testing.assert_close(shifted.flatten(-2), waves[3:])  # a shift is a rotation
assert torch.allclose(queries.norm(dim=1), query.norm())  # RoPE keeps lengths
steps = penalty[40, :41].diff()  # towards the query, from key to key
assert torch.allclose(steps, steps[0])  # ALiBi is linear in the distance
try:
    nn.Embedding.from_pretrained(learned)(torch.tensor([far]))
except IndexError:
    print(f"learned: there is no position {far} in a table of {far}")

# %% [markdown]
# The waves at position $t + 3$ are those at $t$, each pair of coordinates turned by the same angles whatever $t$ is.
# RoPE applies this rotation to queries and keys instead of adding it, which is why only the difference of two positions is left in a dot product.
# The learned table has no such law: row 64 of a table of 64 does not exist, and how row 3 differs from row 6 has nothing to do with how 60 differs from 63 unless training makes it so.
# {doc}`transformer` puts RoPE to work.
#
# ### What breaks it
#
# **Opposites.**
# `careful` and `careless` play the same part, and keep much the same company.
#
# **Rare words.**
# A word that occurs less than five times has no vector here at all.

# %%
for word, opposite in [
    ("careful", "careless"),
    ("patient", "impatient"),
    ("brave", "shy"),
]:
    order = [other for other, _ in vectors.nearest(word, k=len(vectors) - 1)]
    print(f"{opposite} is among the 50 nearest of {word}: {opposite in order[:50]}")
    assert opposite in order[:50]
n_tales = sum("puffin" in story.lower() for story in stories)
print(f"puffin is in {n_tales} of the tales, has a vector: {'puffin' in vectors}")
assert "puffin" not in vectors

# %% [markdown]
# Of two thousand words the opposite is among the nearest fifty.
# A search by vectors that is asked for *safe* medicines may well find the *unsafe*.
# Pieces of words ease the second trouble, not the first.
#
# ## Takeaways
#
# - An embedding is a table with one row for each token; looking up is copying a row, and a training step changes, through the lookup, only the rows that were looked up.
# - Words that keep the same company get similar vectors: skip-gram learns them by telling company from noise, with a gradient of one line.
# - Cosine, distance and dot product differ in how lengths count, and find different neighbours where lengths differ.
# - The arithmetic of analogies mostly finds a word of the right kind, and the right word only where the two words of a pair stand together in the text; baselines and intervals belong to every such score.
# - The table of a language model holds what its task needs, if not always where a look at neighbours finds it; its layers turn a token's one static vector into a contextual one; positions are put in besides, by RoPE and ALiBi so that a score depends on the two tokens and their distance, not on where the pair stands.
#
# *In practice* nobody trains skip-gram for a language model: its table is learned with the rest, and often it is also the table that scores the next token {cite:p}`press2017`.
# Vectors for searching come from models trained for it, on pairs of texts that belong together.
# RoPE is what most open models of today use for positions, Llama's among them {cite:p}`touvron2023,grattafiori2024`.

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("embeddings")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (check): three measures, three answers
#
# Three vectors, `owl` (12, 0), `hen` (3, 4) and `cow` (0, 1), and a query (1, 2).
# Which is nearest by dot product, which by cosine, which by distance?
# Write a dictionary with the keys `"dot"`, `"cosine"` and `"euclidean"`, and try `checks.name_neighbours(answer)`.

# %% tags=["hide-cell", "solution"]
answer = {
    "dot": "owl",  # 12, against 11 and 2
    "cosine": "hen",  # 11 / (5 √5) = 0.98, against 0.45 and 0.89
    "euclidean": "cow",  # √2, against √8 and √125
}
checks.name_neighbours(answer)

# %% [markdown]
# ### Exercise 2 (derive): what the scores want to be
#
# Over the whole training, let the pair $(c, o)$ occur $N_{co}$ times, and $c$ in the middle $N_c$ times, each time with $K$ noise words drawn from $q$.
# So $o$ meets $c$ as noise about $K N_c q_o$ times.
#
# - (a) If each score $s_{co} = u_o \cdot v_c$ could be chosen freely, which would make the loss smallest?
# - (b) Say in words what a high score means.
# - (c) Do the trained vectors agree?
#   Compare their scores with your formula for all pairs that occur at least 20 times.
#   (`beside` has the counts of pairs, and thinning multiplies them by `embeddings.keep_probability` of both words; `trained.contexts.vectors` are the $u$, `embeddings.noise_distribution` gives the $q$, and `embeddings.SkipGramConfig` has the threshold and $K$.)

# %% tags=["hide-cell", "solution"]
# (a) The loss has the terms -N_co ln σ(s) - K N_c q_o ln σ(-s). Its derivative by s,
# N_co (σ(s) - 1) + K N_c q_o σ(s), is zero where σ(s) = N_co / (N_co + K N_c q_o),
# so s = ln (N_co / (K N_c q_o)): Levy and Goldberg (2014).
# (b) o stands beside c more often than it would by chance: the score is the logarithm
# of how much more often, less ln K. It is a shifted pointwise mutual information.
config = embeddings.SkipGramConfig()
keep = embeddings.keep_probability(counted.counts, config.subsampling)
noise = embeddings.noise_distribution(counted.counts)
thinned = beside * keep[:, None] * keep
share = thinned / thinned.sum(dim=1, keepdim=True)  # N_co / N_c
wanted = (share / (config.n_negatives * noise)).log()
often = beside >= 20
scores = (vectors.vectors @ trained.contexts.vectors.T)[often]
correlation = torch.corrcoef(torch.stack((scores, wanted[often])))[0, 1]
print(f"correlation {correlation:.1f} over {int(often.sum()):,} pairs")
assert correlation > 0.86

# %% [markdown]
# ### Exercise 3 (build): the nearest words
#
# Write the search that this chapter has used throughout: the ids of the $k$ words nearest to a word by cosine, without the word itself.
#
# ```python
# def nearest_words(vectors: Tensor, i: int, k: int) -> Tensor: ...  # (V, D) → (k,)
# ```
#
# Check it with `checks.nearest_words(nearest_words)`.
# Which of the two senses of `spring` do its nearest words show, and where is the other one?


# %% tags=["hide-cell", "solution"]
def nearest_words(vectors, i, k):
    """Return the ids of the k vectors with the largest cosine to vector i."""
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    cosine = unit @ unit[i]
    cosine[i] = -torch.inf  # not itself
    return cosine.topk(k).indices


checks.nearest_words(nearest_words)
mine = [vectors.words[i] for i in nearest_words(vectors.vectors, number["fox"], 5)]
assert mine == [word for word, _ in vectors.nearest("fox", k=5)]
# The nearest of spring are seasons and kinds of weather. The magic spring is rarer, and it is in
# the same row, so it only shifts the vector a little.

# %% [markdown]
# ### Exercise 4 (build): noise
#
# Write the distribution that noise words are drawn from: counts to a power, divided by their sum.
#
# ```python
# def noise_probs(counts: Tensor, power: float) -> Tensor: ...  # (V,) → (V,)
# ```
#
# Check it with `checks.noise_probs(noise_probs)`.
# By which factor does this change how often `the` is drawn, compared with its share of the text, and how often a word is that was seen five times?
# And which rows of the two tables, $v$ and $u$, change in a step with one pair, say *fox* in the middle and *ran* beside it, and five noise words?


# %% tags=["hide-cell", "solution"]
def noise_probs(counts, power):
    """Return the probability of each word to be drawn as noise."""
    weights = counts**power
    return weights / weights.sum()


checks.noise_probs(noise_probs)
probs = noise_probs(counted.counts, 0.75)
torch.testing.assert_close(probs, embeddings.noise_distribution(counted.counts))
factor = probs / (counted.counts / counted.counts.sum())
print(
    f"the: × {factor[0]:.2f}, a word seen {counted.counts[-1]} times: × {factor[-1]:.1f}"
)
# One row of v changes, that of fox, and at most six of u: that of ran, and the noise's.

# %% [markdown]
# ### Exercise 5 (build): the first direction
#
# Find the first principal component with nothing but products of a matrix and a vector.
# Take the mean off; start from any direction; multiply by $X^\top X$ and bring the result to length 1, again and again.
#
# ```python
# def first_direction(vectors: Tensor) -> Tensor: ...  # (V, D) → (D,)
# ```
#
# Check it with `checks.first_direction(first_direction)`.
# Why does it converge, and when is it slow?


# %% tags=["hide-cell", "solution"]
def first_direction(vectors):
    """Return the direction of the largest variance, by power iteration."""
    centred = vectors - vectors.mean(dim=0)
    direction = torch.ones(vectors.shape[1])
    for _ in range(200):
        direction = centred.T @ (centred @ direction)
        direction = direction / direction.norm()
    return direction


checks.first_direction(first_direction)
# Each product stretches the part along component i by its variance, so the largest
# wins; it takes long when the two largest are nearly equal.
cosine = first_direction(cloud) @ embeddings.project(cloud).directions[0]
assert abs(cosine) > 0.999

# %% [markdown]
# ### Exercise 6 (explore): how wide a window?
#
# Train twice on the first six hundred tales, with a window of 1 and with one of 10 (`SkipGramConfig(window=…)`).
# Whom does `baker` lie near each time?
# For all trades, the keys of `relations()["trade : work"]`, measure how often the nearest word is another trade; for the heroes' names, in `groups["name: she or he"]` with their pronouns, how often the nearest name goes with the same one.
# Which window finds words of the same *kind*, and which finds what goes *together*?
# Judge the claim that a window of 10 knows pronouns: what would a guess get, and over what would a bootstrap draw?


# %% tags=["hide-cell", "solution"]
trades, heroes = relations()["trade : work"], groups["name: she or he"]
pronoun = torch.tensor([kind == "she" for kind in heroes.values()]).long()
same_kind, same_pronoun = {}, {}
for window in (1, 10):
    config = embeddings.SkipGramConfig(window=window)
    found = embeddings.train_skipgram(stories[:600], generator, config).vectors
    near = [found.nearest(word, k=1)[0][0] for word in trades]
    same_kind[window] = sum(word in trades for word in near) / len(trades)
    purity_of_names = neighbour_purity(found.only(heroes).vectors, pronoun)
    same_pronoun[window] = purity_of_names.mean().item()
    print(f"window {window:2}: baker is nearest to {found.nearest('baker', k=1)[0][0]}")
    kinds = f"same kind {same_kind[window]:.1f}"
    print(f"  {kinds}, same pronoun {same_pronoun[window]:.1f}")
assert same_kind[1] > 0.9 > 0.6 > same_kind[10]
assert same_pronoun[1] < 0.65 < 0.7 < same_pronoun[10]
# Words of a kind replace each other, so their next neighbours are the same; within ten
# words of a baker stands what bakers do, and of a name, its pronoun.
# Half of the names go with each pronoun, so a guess gets about one half. The bootstrap
# draws names, not words of the text; and one run is one draw of the start and the noise.

# %% [markdown]
# ## Sources
#
# - Company and meaning: {cite:t}`harris1954`, {cite:t}`firth1957`; skip-gram: {cite:t}`mikolov2013a`; negative sampling, noise and thinning: {cite:t}`mikolov2013b`; what its scores become: {cite:t}`levy2014`.
# - Analogies: {cite:t}`mikolov2013c`; the case against them: {cite:t}`linzen2016`, {cite:t}`rogers2017`; what cosines may mean: {cite:t}`steck2024`.
# - Principal components: {cite:t}`pearson1901`; intervals: {cite:t}`wilson1927`, {cite:t}`efron1979`, and a comparison of intervals for shares: {cite:t}`brown2001`.
# - Tables that read and write: {cite:t}`press2017`; static and contextual vectors: {cite:t}`ethayarajh2019`; positions: {cite:t}`vaswani2017`, {cite:t}`radford2019`, {cite:t}`su2021`, {cite:t}`press2022`.
