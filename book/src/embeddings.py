# %% [markdown]
# (embeddings)=
# # Embeddings
#
# A token's number says nothing about the token; a vector, learned from the company that the token keeps, says a great deal.
#
# **You will be able to**
#
# - explain what an embedding is, and which of its numbers a training step changes,
# - train word vectors with gradients that you derived yourself,
# - choose between three measures of similarity, and say what each is blind to,
# - judge a claim such as "king − man + woman = queen" with a full test set, a baseline and an interval,
# - say what the single vector of a word learns from the word's company, and what it cannot tell apart: opposites, two senses, positions.
#
# **You need** [Tokenization](tokenization.ipynb), and to know what a gradient is.
#
# **Takes** about half an hour to read with the code.
#
# **Runs in** about 30 seconds on one processor core.

# %% [markdown]
# ## Setup

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn.functional import logsigmoid, normalize, one_hot

from llmcourse import plotting
from llmcourse.checks import embeddings as checks
from llmcourse.intervals import bootstrap_interval
from llmcourse.model.folders import load_pretrained
from llmcourse.model.transformer import hidden_states
from llmcourse.studies import stored_study
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
from llmcourse.training.presets import BASE_LLM
from llmcourse.widgets.embedding import EmbeddingExplorer

plotting.use_course_style()
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## The problem
#
# A {term}`tokenizer` turns a text into ids, and an id is only a name.
# The next cell numbers the words of three thousand {term}`tales`, the most frequent first.
# (In this chapter a token is a whole word in lower case that occurs at least five times; everything here holds for pieces of words too.)

# %%
stories = [story.text for story in tales.generate(3000, seed=0)]
counted = embeddings.count_texts(stories, min_count=5)
number = {word: i for i, word in enumerate(counted.words)}
fox = number["fox"]
print(f"{len(counted.words):,} different words, {len(counted.ids):,} in the text")
print("next to fox:", {counted.words[i]: i for i in range(fox - 1, fox + 2)})
print("and far off:", {word: number[word] for word in ("hedgehog", "mouse", "bear")})

# %% [markdown]
# As numbers, `fox` lies between words that have nothing to do with it, and other animals are somewhere else.
# A network that multiplies and adds ids would have to unlearn this order.
#
# One way out is an axis for each word: a **{term}`one-hot vector`** has a 1 at the word's place and a 0 everywhere else.
# Then no word is near another by accident, but any two words are equally far apart.

# %%
three = torch.tensor([number[word] for word in ("fox", "hedgehog", "soup")])
one_hots = one_hot(three, len(counted.words)).float()
distances = torch.cdist(one_hots, one_hots)
print(f"shape {tuple(one_hots.shape)}")
print(f"from fox to hedgehog {distances[0, 1]:.2f}, to soup {distances[0, 2]:.2f}")

# %% tags=["remove-cell"]
assert distances[0, 1] == distances[0, 2] > 0

# %% [markdown]
# What we want is a few numbers for each word, and similar words near each other.
#
# ![Left: fox, hedgehog and soup at the corners of a triangle whose three sides are all 1.41 long. Right: fox and hedgehog near each other, soup far from both.](figures/equally-far-apart.svg)
#
# *One-hot vectors put any two words equally far apart; an embedding can put similar words near each other.*
#
# ## By hand
#
# **Looking up.**
# An {term}`embedding` is a table with a row of $D$ numbers for each of $V$ tokens, here two numbers for each of three words.
#
# | id | word | vector |
# |---|---|---|
# | 0 | hen | (2, 1) |
# | 1 | cow | (1, 2) |
# | 2 | tin | (−1, 0) |
#
# The text *cow cow hen* has the ids 1, 1, 0, so its vectors are (1, 2), (1, 2), (2, 1): copies of rows of the table.
# The one-hot vector of `cow`, (0, 1, 0), times the table gives the row of `cow`, because it multiplies the other two by zero.
# Let the gradient of a loss with respect to each copy be (1, 1).
# Each row gets the sum over its copies: (2, 2) for `cow`, which was copied twice, (1, 1) for `hen`, and zero for `tin`.
#
# ![Above: a table with the rows hen 2 1, cow 1 2, tin −1 0; arrows copy the row of cow to two vectors and the row of hen to a third. Below: three gradients of 1 1; arrows lead back, and add up to hen 1 1, cow 2 2, tin 0 0.](figures/rows-copied-and-gradients-added.svg)
#
# *Forward, rows are copied; backward, the gradients of all copies of a row are added.*
#
# PyTorch calls the table `nn.Embedding`.

# %%
table = nn.Embedding.from_pretrained(
    torch.tensor([[2.0, 1.0], [1.0, 2.0], [-1.0, 0.0]]), freeze=False
)
ids = torch.tensor([1, 1, 0])  # cow cow hen
rows = table(ids)
by_product = one_hot(ids, 3).float() @ table.weight
print("lookup and product are equal:", torch.equal(rows, by_product))
rows.sum().backward()  # gives each copy the gradient (1, 1)
print("gradient of the table:", table.weight.grad.tolist())

# %% tags=["remove-cell"]
assert torch.equal(rows, by_product)
assert table.weight.grad.tolist() == [[1, 1], [2, 2], [0, 0]]
hen, cow, _ = table.weight.detach()
for kind, wanted in [("dot", 4.0), ("cosine", 4 / 5), ("euclidean", -(2**0.5))]:
    torch.testing.assert_close(similarities(hen, cow[None], kind)[0].item(), wanted)

# %% [markdown]
# **One step of learning.**
# The vectors should tell us which words occur together.
# Let the word in the middle have the vector $v = (1, 0)$.
# A word beside it, its *company*, has $u_+ = (0, 1)$; a word drawn at random, *noise*, has $u_- = (0, -2)$.
# The sigmoid, $\sigma(s) = 1 / (1 + e^{-s})$, turns a dot product into the probability that the other word is company.
# Both dot products with $v$ are 0, and $\sigma(0) = 1/2$.
# The probability should have been 1 for the company and 0 for the noise, so the errors are $-1/2$ and $+1/2$.
# The gradient for each vector is the sum of error × other vector (derived below, under *Skip-gram*).
# With learning rate 1, subtract it:
#
# | vector | error · other | after the step |
# |---|---|---|
# | $v$ | $-\frac12 u_+ + \frac12 u_- = (0, -1.5)$ | (1, 1.5) |
# | $u_+$ | $-\frac12 v = (-0.5, 0)$ | (0.5, 1) |
# | $u_-$ | $+\frac12 v = (0.5, 0)$ | (−0.5, −2) |
#
# The dot products are now $0.5 + 1.5 = 2$ and $-0.5 - 3 = -3.5$: high for the company, low for the noise.
#
# ![Arrows in the plane. Before: v to the right, the company u₊ up, the noise u₋ down; both dot products are 0. After: v points up beside u₊, with a dot product of 2, and away from u₋, with a dot product of −3.5.](figures/one-step-of-learning.svg)
#
# *One step turns $v$ and its company towards each other, and turns $v$ and the noise apart.*

# %% [markdown]
# ## The idea
#
# **Company.**
# "You shall know a word by the company it keeps" {cite:p}`firth1957`: words that occur in the same surroundings have something in common {cite:p}`harris1954`.
# **{term}`Skip-gram <skip-gram>`** turns this into a task {cite:p}`mikolov2013a`.
# For a word $c$ in the middle and a word $o$ at most $m$ places away, the score $u_o \cdot v_c$ should be high.
# For $K$ words $n_1, \dots, n_K$ drawn at random it should be low:
#
# $$
# \mathcal{L} = -\ln \sigma(u_o \cdot v_c) - \sum_{k=1}^{K} \ln \sigma(-u_{n_k} \cdot v_c) .
# $$
#
# This is **{term}`negative sampling`** {cite:p}`mikolov2013b`.
# Each word has two vectors, $v$ for when it is in the middle and $u$ for when it is around, and in the end $v$ is kept.
# (With one vector for both, a word's score with itself could never be below zero, though words rarely occur next to themselves.)
# Two words that keep the same company need high scores with the same vectors $u$, so their vectors $v$ become alike.
#
# ![The words a proud boy lived on the market, with a window of two words to each side of boy. Lines lead from the vector v of boy to six vectors u. The one of proud, from the window, should get a high score; those of wears, duck, the, talkative and george, drawn at random, should get low ones.](figures/one-pair-and-its-noise.svg)
#
# *One pair of a word and its company, with $K = 5$ words of noise.*
#
# | Symbol | Meaning | Shape | Name in code |
# |---|---|---|---|
# | $v_c$ | a word in the middle: a row of $V \times D$ | $D$ | `center` |
# | $u_o$, $u_n$ | a word around, or noise: a row of $V \times D$ | $D$ | `contexts` |
# | $m$, $K$ | window; noise words for each pair | – | `window`, `n_negatives` |
#
# **Similarity.**
# Three measures say how alike two vectors are; each is larger for vectors that are more alike.
# The third, `euclidean` in code, is the distance with a minus sign.
#
# | Measure | Formula | hen and cow | Blind to |
# |---|---|---|---|
# | dot product | $x \cdot y$ | $2 \cdot 1 + 1 \cdot 2 = 4$ | what is at right angles to $x$; it grows with the lengths |
# | **{term}`cosine similarity`** | $x \cdot y \,/\, (\lVert x \rVert \lVert y \rVert)$ | $4 \,/\, (\sqrt 5 \sqrt 5) = 4/5$ | lengths |
# | distance | $-\lVert x - y \rVert$ | $-\sqrt 2$ | where the origin is: a shift of all vectors changes nothing |
#
# ![The vectors hen, 2 1, and cow, 1 2, in the plane, with the angle between them and a dashed line between their tips. Dot product 4: lengths and angle. Cosine 4/5: the angle alone. Distance √2: from tip to tip.](figures/how-alike-are-hen-and-cow.svg)
#
# *Three measures of the same two vectors.*
#
# ## In code
#
# ### The table in a language model
#
# In a step of training, only the rows that were looked up get a gradient.
# So a rare token learns rarely, and with plain gradient descent a token that never occurs keeps its random start.
# (Optimizers that go on along the mean of earlier gradients, or shrink all weights a little at each step, move the other rows, too.)
#
# A language model also needs a table at its end, to score the next token.
# With **tied embeddings** {cite:p}`press2017` this is the same table, so every row gets a little gradient from there.
#
# How large a part of a model is the table, with `d_model` numbers for each token?

# %%
MODELS = {  # vocabulary, width, parameters, tied?
    "GPT-2 small": (50_257, 768, 124.4e6, True),
    "GPT-2 XL": (50_257, 1_600, 1.558e9, True),
    "Llama 3 8B": (128_256, 4_096, 8.03e9, False),
    "Llama 3 70B": (128_256, 8_192, 70.6e9, False),
}

print("model         embedding   table at the end")
for name, (vocab_size, d_model, n_parameters, tied) in MODELS.items():
    share = vocab_size * d_model / n_parameters
    last = "the same" if tied else f"another {share:.1%}"
    print(f"{name:13} {share:9.1%}   {last}")

# %% [markdown]
# In the smallest of these models it is almost a third of all parameters; in the largest it hardly counts.
#
# ### Skip-gram
#
# Since $\sigma' = \sigma \, (1 - \sigma)$ and $\sigma(-s) = 1 - \sigma(s)$, the derivative of the loss with respect to a score is $\sigma(s) - 1$ for the company and $\sigma(s)$ for noise: the errors of the example.
# The derivative of the score with respect to one of its two vectors is the other vector.
# For a batch of pairs at once:


# %%
def pair_gradients(center, contexts):  # (B, D), (B, 1 + K, D)
    """Return the gradients of each pair's loss for its vectors."""
    errors = (contexts * center[:, None]).sum(-1).sigmoid()  # (B, 1 + K)
    errors[:, 0] -= 1  # the first should have been 1, the others 0
    by_center = (errors[..., None] * contexts).sum(dim=1)  # (B, D)
    by_contexts = errors[..., None] * center[:, None]  # (B, 1 + K, D)
    return by_center, by_contexts


# %% [markdown]
# With the vectors of the example it finds what we found by hand.

# %%
middle, around = torch.tensor([[1.0, 0]]), torch.tensor([[[0.0, 1], [0, -2]]])
by_middle, by_around = pair_gradients(middle, around)
print("gradient of v:", by_middle[0].tolist())
scores = (around - by_around) @ (middle - by_middle).squeeze()
print("dot products after the step:", scores[0].tolist())

# %% tags=["remove-cell"]
assert by_middle[0].tolist() == [0, -1.5] and scores[0].tolist() == [2, -3.5]

# %% [markdown]
# Autograd, which knows only the formula of the loss, must find the same gradients, here for random vectors; the folded cell compares them with the package's.

# %%
center = torch.randn(7, 5, generator=generator, requires_grad=True)
contexts = torch.randn(7, 4, 5, generator=generator, requires_grad=True)
scores = (contexts * center[:, None]).sum(-1)
loss = -(logsigmoid(scores[:, 0]).sum() + logsigmoid(-scores[:, 1:]).sum())
by_autograd = torch.autograd.grad(loss, (center, contexts))
mine = pair_gradients(center.detach(), contexts.detach())
largest = max((a - b).abs().max() for a, b in zip(mine, by_autograd))
print("largest difference below 1e-5:", bool(largest < 1e-5))

# %% tags=["hide-cell"]
assert largest < 1e-5
theirs = embeddings.skipgram_gradients(center.detach(), contexts.detach())[1:]
torch.testing.assert_close(theirs, by_autograd)

# %% [markdown]
# The package's `train_skipgram` repeats this step in four passes through the tales, with two details that matter.
# Noise is drawn in proportion to a word's count to the power $3/4$, so rare words are drawn more often than their share of the text would suggest.
# Words such as `the`, which say little about the words beside them, are *thinned out*: if a word's share $f$ of the text is above a threshold $\tau$, here 0.001, each occurrence is kept with probability $\sqrt{\tau / f}$.
# The vectors $u$ begin at zero, so at first all scores are 0, and each of the $1 + K = 6$ guesses costs $\ln 2$.
# Everything below about skip-gram comes from this one run, unless stated otherwise.

# %%
trained = embeddings.train_skipgram(stories, generator)
vectors = trained.vectors
print(f"{len(vectors):,} words with {vectors.vectors.shape[1]} numbers each")
untrained_loss = 6 * torch.tensor(2.0).log().item()
print(f"loss {untrained_loss:.1f} → {trained.losses[-1]:.1f} nats/pair")

# %% tags=["remove-cell"]
assert trained.losses[-1] < untrained_loss / 2

# %% [markdown]
# ## Experiment
#
# ### Near, by which measure?
#
# *Predict:* frequent words have short vectors here.
# Which measure will put frequent words near each other, and which will prefer words with long vectors, whatever they are?
#
# :::{dropdown} Answer
# The distance: short vectors all lie near the origin, and so near each other.
# The dot product: it grows with the length of the other vector.
# :::

# %%
print("word     measure    nearest words")
for word in ("fox", "careful", "she"):
    for kind in embeddings.SIMILARITIES:
        near = ", ".join(other for other, _ in vectors.nearest(word, k=5, kind=kind))
        print(f"{word:8} {kind:10} {near}")

# %% tags=["remove-cell"]
# The nearest of she by distance are frequent; by dot product fox lies beside tale
shortest = {word for word, _ in vectors.nearest("she", k=5, kind="euclidean")}
assert shortest <= set(counted.words[:20])  # the most frequent
assert {"tale", "story"} <= {word for word, _ in vectors.nearest("fox", 5, "dot")}
lengths = vectors.vectors.norm(dim=1)
assert min(lengths[number["tale"]], lengths[number["story"]]) > lengths.mean()
assert lengths[:20].mean() < 0.7 * lengths.mean()  # frequent words have short vectors

# %% [markdown]
# By cosine, `careful` lies beside other traits, and `fox` beside others that can be the hero of a tale.
# By distance, the five words nearest to `she` are all among the twenty most frequent.
# By dot product, `fox` lies beside `tale` and `story`, which are nothing like a fox, but their vectors are long.
#
# Cosine is the custom, and a sensible one here.
# But it throws away the length, and what a cosine means depends on how the vectors were trained {cite:p}`steck2024`.
#
# ### A map
#
# Forty-eight axes cannot be drawn, but two can: the first two **{term}`principal components <principal component>`**, the directions along which the vectors vary most {cite:p}`pearson1901`.
# The grammar of the tales gives many words a class, such as animal or colour; we draw the words of seven classes.

# %%
classes = {word: name for word, name in word_classes().items() if word in vectors}
shown = ("name", "animal", "trade", "place", "colour", "food", "trait")
on_map = [word for word in classes if classes[word] in shown]
points, _, share = embeddings.project(vectors.only(on_map).vectors)
print(f"{len(on_map)} words; the map holds {share.sum():.0%} of their variance")

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
assert (heroes.mean(0) - friends.mean(0)).norm() > points.norm(dim=1).mean()
assert (young - trades).norm() < (young - animals).norm() / 2
assert (species - traits).norm() < (species - animals).norm() / 2

# %% [markdown]
# *The vectors in the plane of their first two principal components, coloured by class.*
#
# Nobody told the vectors what an animal is, and yet the classes form clusters.
# (The map leaves out most of the variance, so words that are near on it need not really be near.)
# The exceptions teach more: a vector says which *part* a word plays.
#
# - The names form two clusters, heroes on the right and their friends beside the animals: the grammar never lets a friend be a hero.
# - Young animals lie beside the trades: in their tale, the hero asks a baker and a tailor who the lost `lamb` belongs to.
# - Animals that are heroes lie among the traits, since a hero is, say, *a brave otter*.
#
# In the explorer, choose a word and compare its neighbours under the three measures; the sums of words are for the next section.
# (It holds only words with a class and those of the next section, so `tale` and `story` are missing.)

# %%
drawn = {word: name for word, name in classes.items() if name != "hobby"}
answers = {
    word for pairs in relations().values() for word in set().union(*pairs.values())
}
EmbeddingExplorer(
    vectors.only(sorted(drawn.keys() | (answers & number.keys()))),
    drawn,
    word="fox",
    analogy=("baker", "kneading", "tailor"),
)

# %% [markdown]
# ### Is *king − man + woman = queen*?
#
# The most famous claim about word vectors is that the step from `man` to `woman` is also the step from `king` to `queen`.
# So the **{term}`analogy`** "$a$ is to $b$ as $c$ is to what?" is answered by the word nearest, by cosine, to $v_b - v_a + v_c$, each brought to length 1 {cite:p}`mikolov2013c`.
# By custom $a$, $b$ and $c$ are not allowed as answers.

# %%
unit = normalize(vectors.vectors, dim=1)


def analogy(a, b, c, k=3):
    """Return the k words nearest to b - a + c, and the nearest if all are allowed."""
    ids = [number[word] for word in (a, b, c)]
    v_a, v_b, v_c = unit[ids]
    scores = unit @ (v_b - v_a + v_c)
    unrestricted = counted.words[scores.argmax()]
    scores[ids] = -torch.inf  # a, b and c are no answers
    return [counted.words[i] for i in scores.topk(k).indices], unrestricted


# %% [markdown]
# Three examples, with and without the custom:

# %%
for a, b, c in [
    ("baker", "kneading", "tailor"),
    ("girl", "boy", "mother"),
    ("apple", "apples", "pear"),
]:
    answers, unrestricted = analogy(a, b, c)
    print(f"{a} : {b} = {c} : {', '.join(answers)}", end="; ")
    print(f"without the custom: {unrestricted}")

# %% [markdown]
# A few examples prove little.
# The grammar of the tales knows all the pairs of eight relations, such as *young : parent* (lamb and sheep) and *place : thing* (beach and starfish), so we can ask every question.
# The arithmetic has two rivals: a *baseline*, the word nearest to $c$ without any arithmetic {cite:p}`linzen2016`, and a *guess* among all words of the right kind.
# A {term}`confidence interval` says how far the score might move with other questions.
# Questions with the same $c$ tend to be right or wrong together.
# So the **bootstrap** {cite:p}`efron1979` draws the words $c$: as many as there are, with replacement, again and again.
# The interval holds the middle 95 % of the scores.

# %%
results = {name: score_analogies(vectors, each) for name, each in relations().items()}
intervals = {
    name: bootstrap_interval(result.right, generator)
    for name, result in results.items()
}
for name, result in results.items():
    print(f"{name:17} {result.right.mean():4.0%} right")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Eight rows, one for each relation: share of right answers with its interval, the nearest-word baseline and chance. Trade and work, young animal and cry, animal and cry lie far to the right of chance and baseline. Female and male lies far to the right, but so does its baseline, inside the interval. The other four lie to the left of 0.15, some a little above chance, some below."}}
fig, ax = plt.subplots(figsize=(7, 2.9))
for place, (name, score) in enumerate(results.items()):
    low, high = intervals[name]
    ax.plot([low, high], [place, place], color="C0", linewidth=2.5, alpha=0.5)
    marks = ((score.right, "oC0"), (score.nearest, "xC1"), (score.chance, "|k"))
    for values, style in marks:
        ax.plot(values.mean(), place, style, markersize=7)
labels = ("arithmetic ", "right", "C0"), (" nearest to c", "left", "C1")
first = results["female : male"]
named = zip(
    (first.right, first.nearest, first.chance), (*labels, ("guess", "left", "k"))
)
for values, (label, side, colour) in named:
    where = (values.mean(), -0.35)
    ax.annotate(label, where, ha=side, color=colour, fontsize=8)
ax.set_yticks(range(len(results)), results)
ax.invert_yaxis()
_ = ax.set(xlabel="share of questions answered right", xlim=(-0.03, 1))

# %% [markdown]
# *Share of questions answered right, for each relation: by the arithmetic (dot), with its interval; by the word nearest to $c$ (cross); and by a guess among words of the right kind (upright stroke).*
#
# For *young : cry*, *animal : cry* and *trade : work* the arithmetic works, far above the baseline and a guess.
# *female : male* looks as good but is not.
# Without any arithmetic, the word nearest to `mother` is `father`, and the nearest word is right at least as often as the arithmetic: the cross lies to the right of the dot, inside its interval.
# The other four get about one question in ten right, or fewer.
# For *one : many* about nine answers in ten are some plural, but hardly any is the right one.
# In four runs with other seeds (`book/studies/analogy_study.py`), the same three work, and those four stay below one in four.

# %% tags=["remove-cell"]
runs = stored_study("analogies", dict).points
for name in ("young : cry", "animal : cry", "trade : work"):
    assert all(run["right"][name] > 0.35 > 4 * run["nearest"][name] for run in runs)
for name in ("one : many", "number : one less", "young : parent", "place : thing"):
    assert all(run["right"][name] < 0.25 for run in runs)
    assert results[name].right.mean() < 0.12
assert all(run["nearest"]["female : male"] > 0.5 for run in runs)
# female : male is no better than its baseline, and most sums land on b or c
gain = results["female : male"].right - results["female : male"].nearest
assert bootstrap_interval(gain, generator).low < 0
assert vectors.nearest("mother", k=1)[0][0] == "father"
assert results["one : many"].kind.mean() > 0.8 > results["one : many"].right.mean()
assert sum(score.copied.mean() > 0.5 for score in results.values()) >= 6

# %% [markdown]
# *Predict:* what sets the three apart?
# The folded cell counts how often the words of a relation's pairs come within five places of each other, and divides by what chance would give.

# %% tags=["hide-input"]
center, context = embeddings.context_pairs(counted.ids, counted.text_of, window=5)
size = len(counted.words)
beside = torch.bincount(center * size + context, minlength=size**2).view(size, size)
total = beside.sum(dim=1).double()
together = {}
print("relation           times chance")
for name, pairs in relations().items():
    known = [(a, b) for a in pairs for b in pairs[a] if {a, b} <= number.keys()]
    a, b = torch.tensor([(number[a], number[b]) for a, b in known]).T
    together[name] = beside[a, b].sum() / ((total[a] * total[b]).sum() / total.sum())
    print(f"{name:18} {together[name]:12.0f}")

# %% tags=["remove-cell"]
for name, result in results.items():
    rival = max(result.chance.mean(), result.nearest.mean())
    assert (together[name] > 100) == bool(intervals[name].low > 2 * rival)

# %% [markdown]
# The arithmetic works for the three relations whose words meet more than a hundred times as often as by chance, and for no others.
# With eight relations this is a pattern, not a proof.
#
# The custom matters too: for most relations the sum is usually nearest to $b$ or $c$ itself, and forbidding them hides this.
#
# ![Two parallelograms. Left: the step from baker to kneading, repeated at tailor, ends at a cross beside sewing. Right: the step from girl to boy is short; repeated at mother, it ends at a cross near mother. Nearest to it are mother, which is not allowed, then grandmother, then father.](figures/where-the-sum-lands.svg)
#
# *The step of the first pair (orange), repeated at the third word, ends at ×.
# On the right it is short, so × is nearest to `mother` itself (places from this page's vectors, in the plane of the three words).*
#
# On real text more relations work.
# **GloVe** fits dot products to the logarithms of all the pair counts at once.
# Its best vectors, from 42 billion words, answer 75 % of 19,544 questions right {cite:p}`pennington2014`.
# The nearest word and the custom matter there as well {cite:p}`linzen2016,rogers2017`; [Real models](real_models.ipynb) tries the rows of a real model.
#
# ### The vectors inside a language model
#
# A {term}`transformer` begins with an embedding too, and nobody trains it for similarity: its rows are learned along with everything else, for {term}`next-token prediction`.
# `base-llm` is the model that this course has trained on the tales, in a single run.
# Its tokens are pieces of words; we take the words that are a single piece.

# %%
model, tokenizer = load_pretrained("base-llm")
word_ids = {}
for word, name in classes.items():
    ids = tokenizer.encode(" " + (word.capitalize() if name == "name" else word))
    if len(ids) == 1:
        word_ids[word] = ids[0]
print(f"{len(word_ids)} words are one piece")

# %% [markdown]
# We compare its table, before and after training, with the vectors of skip-gram.
# `neighbour_purity` is 1 for a word if the one nearest by cosine is of the same class, and 0 if not.

# %%
ids = list(word_ids.values())
tables = {
    "untrained": BASE_LLM.new_model().embedding.weight.detach()[ids],
    "skip-gram": vectors.only(word_ids).vectors,
    "model": model.embedding.weight.detach()[ids],
}
kinds = sorted(set(classes.values()))
labels = torch.tensor([kinds.index(classes[word]) for word in word_ids])
purity = {name: neighbour_purity(each, labels).mean() for name, each in tables.items()}
for name, share in purity.items():
    print(f"{name:10} {share:.0%} of the nearest words are of the same class")
chance = (labels == labels[:, None]).float().mean()
print(f"{'by chance':10} {chance:.0%}")

# %% tags=["remove-cell"]
assert purity["untrained"] < 0.3
assert min(purity["skip-gram"], purity["model"]) > 0.95

# %% [markdown]
# Before training, the table knows nothing: it does as well as words drawn at random.
# After training, nearly all nearest words are of the same class, although nobody asked for that.
#
# The vectors inside large models often share a direction: they are **anisotropic**, and the mean cosine of two of them is far above 0 {cite:p}`ethayarajh2019`.
# There a cosine of 0.5 may say nothing.
# For word vectors such as GloVe's, it helps to subtract the mean vector and to remove a few directions along which all vary most {cite:p}`mu2018`.

# %% [markdown]
# ### One word, many vectors
#
# `spring` is a season, but in some tales it is a magic spring, with water to drink.
# The table has one row for both: a **static** vector.
# A language model turns it into a **contextual** one: it adds to the row what the earlier words say (the next chapter shows how).
# We take thirty tales with each of the two senses, and cut each right after `spring`.

# %%
senses = {"season": [], "water": []}
for story in tales.generate(6000, seed=1):
    before, found, _ = story.text.partition(" spring")
    if found:
        sense = "water" if before.endswith("magic") else "season"
        senses[sense].append(before + found)
for sense, texts in senses.items():
    print(f"{sense}: … {' '.join(texts[0].split()[-7:])}")

# %% [markdown]
# The model reads each of them, and we keep two vectors of that last word: as it leaves the table, and as it leaves the model.

# %%
end = tokenizer.special_tokens["<|endoftext|>"]
in_table, after_model = [], []
for text in senses["season"][:30] + senses["water"][:30]:
    hidden = hidden_states(model, torch.tensor([end, *tokenizer.encode(text)]))
    in_table.append(hidden[0, -1])
    after_model.append(hidden[-1, -1])
print("different vectors in the table:", len(torch.stack(in_table).unique(dim=0)))

# %% [markdown]
# Among the sixty vectors that leave the model, how often is the nearest from a text with the same sense?
# (By chance it would be so for about half of them.)

# %%
is_water = (torch.arange(60) >= 30).long()
same_sense = neighbour_purity(torch.stack(after_model), is_water).mean()
print(f"after the model, the nearest has the same sense for {same_sense:.0%}")

# %% tags=["remove-cell"]
assert same_sense > 0.8

# %% [markdown]
# In the table all sixty are the same vector; after the model, the two senses can be told apart.
# (The word before gives the sense away, *magic* for water and *One*, *was* or *Next* for the season.
# So this shows that the vector takes up what comes before it, not how much of it.)
#
# A **{term}`sentence embedding`** is made of contextual vectors: usually their mean, or the one at a chosen place.
#
# A row says what a token is, not where it is.
# So a model must also learn where each token is, to tell *dog bites man* from *man bites dog*; [Attention](attention.ipynb) shows how it is told.
#
# ### What breaks it
#
# **Opposites.**
# `careful` and `careless` play the same part, and keep much the same company.

# %%
opposites = [("careful", "careless"), ("patient", "impatient"), ("brave", "shy")]
ranks = {}
for word, opposite in opposites:
    order = [other for other, _ in vectors.nearest(word, k=len(vectors) - 1)]
    ranks[opposite] = order.index(opposite) + 1
    print(
        f"nearest to {word}: {opposite} is number {ranks[opposite]} of {len(order):,}"
    )

# %% tags=["remove-cell"]
assert max(ranks.values()) <= 50

# %% [markdown]
# So a search by vectors for *safe* medicines may well find *unsafe* ones.
#
# **Bias.**
# People's texts carry people's prejudices, and vectors take them up.
# In GloVe's vectors, the larger the share of women in an occupation, the nearer it is to words for women than to words for men, with a correlation of 0.9 {cite:p}`caliskan2017`.
# The famous *man : computer programmer = woman : homemaker* {cite:p}`bolukbasi2016` proves less: by the custom, `computer programmer` could not be the answer {cite:p}`nissim2020`.
#
# **Rare words.**
# A word that is hardly ever seen has a poor vector, or none.
# Pieces of words help.
# In **{term}`fastText`**, a word's vector is the sum of the vectors of its runs of a few letters and, if it was seen in training, of the whole word {cite:p}`bojanowski2017`.
#
# ## Takeaways
#
# - An embedding is a table with one row for each token; through the lookup, a step's gradient reaches only the rows that were used.
# - Words that keep the same company get similar vectors: skip-gram learns them by telling company from noise.
# - Cosine, distance and dot product differ in how lengths count, and find different neighbours where lengths differ.
# - On the tales, the arithmetic of analogies is far above its baseline and a guess only where the two words of a pair are often near each other.
# - The table of a language model also puts words of a kind together, though nobody trains it to.
# - A row is static: it cannot tell two senses or positions apart, and puts opposites among a word's near neighbours; it takes up the bias of its texts.
#
# *In practice* nobody trains skip-gram for a language model: the model's table is learned along with the rest.
# Vectors for searching come from models trained for it, on pairs of texts that belong together.

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
# ### Exercise 1 (check): three measures, three answers ★
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
# ### Exercise 2 (derive): what the scores want to be ★★
#
# Over the whole training, let the pair $(c, o)$ occur $N_{co}$ times, and $c$ in the middle of $N_c$ pairs, each with $K$ noise words.
# A noise word is $o$ with probability $q_o$.
# So $o$ meets $c$ as noise about $K N_c q_o$ times.
# If each score $s_{co} = u_o \cdot v_c$ could be chosen freely, which would make the loss smallest?
# Say in words what a high score means.

# %% tags=["hide-cell", "solution"]
# The loss has the terms -N_co ln σ(s) - K N_c q_o ln σ(-s). Its derivative,
# N_co (σ(s) - 1) + K N_c q_o σ(s), is zero where σ(s) = N_co / (N_co + K N_c q_o),
# so s = ln (N_co / (K N_c q_o)): Levy and Goldberg (2014).
# o is near c more often than it would by chance: the score is the logarithm of how much
# more often (the pointwise mutual information, PMI), less ln K. This holds if q are the
# words' own shares; with the power 3/4 it is a smoothed form of it.
# An example with N_co = 30 and K N_c q_o = 10: at ln 3 the derivative is zero.
score = torch.tensor(3.0).log().requires_grad_()
loss = -30 * logsigmoid(score) - 10 * logsigmoid(-score)
assert torch.autograd.grad(loss, score)[0].abs() < 1e-5

# %% [markdown]
# ### Exercise 3 (build): the nearest words ★
#
# Write the search that this chapter has used throughout: the ids of the $k$ words nearest to a word by cosine, without the word itself.
#
# ```python
# def nearest_words(vectors: Tensor, i: int, k: int) -> Tensor: ...  # (V, D) → (k,)
# ```
#
# Check it with `checks.nearest_words(nearest_words)`.
# Which of the two senses of `spring` do its nearest words show?


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
print("nearest to spring:", *(word for word, _ in vectors.nearest("spring", k=5)))
assert {"autumn", "winter"} & {word for word, _ in vectors.nearest("spring", k=5)}
# They are of the season. The magic spring is rarer, and it is in the same row, so it only
# shifts the vector a little.

# %% [markdown]
# ### Exercise 4 (explore): how wide a window? ★★★
#
# Train twice on the first six hundred tales, with a window of 1 and with one of 10: `embeddings.train_skipgram(stories[:600], generator, embeddings.SkipGramConfig(window=…))`.
# For what share of the trades, the keys of `relations()["trade : work"]`, is the nearest word also a trade?
# The heroes are `entries(tales.world(), "girl", "boy")`, each with the name under `"word"`, here needed in lower case, and the pronoun under `"he"`.
# For what share of them is the nearest of the other names one with the same pronoun?
# Which window finds words of the same *kind*, and which finds what goes *together*?
# Judge the claim that a window of 10 knows pronouns: what would a guess get, and what would a bootstrap draw?


# %% tags=["hide-cell", "solution"]
people = entries(tales.world(), "girl", "boy")
trades = relations()["trade : work"]
heroes = {person["word"].lower(): person["he"] for person in people}
pronoun = torch.tensor([kind == "she" for kind in heroes.values()]).long()
same_kind, same_pronoun = {}, {}
for window in (1, 10):
    config = embeddings.SkipGramConfig(window=window)
    found = embeddings.train_skipgram(stories[:600], generator, config).vectors
    near = [found.nearest(word, k=1)[0][0] for word in trades]
    same_kind[window] = sum(word in trades for word in near) / len(trades)
    purity_of_names = neighbour_purity(found.only(heroes).vectors, pronoun)
    same_pronoun[window] = purity_of_names.mean().item()
    shares = same_kind[window], same_pronoun[window]
    print("window {:2}: same kind {:.1f}, same pronoun {:.1f}".format(window, *shares))
assert same_kind[1] > 0.9 > 0.6 > same_kind[10]
assert same_pronoun[1] < 0.65 < 0.7 < same_pronoun[10]
# Words of a kind replace each other, so their next neighbours are the same. Ten words to
# each side also reach what goes with a word: of a name, more often its pronoun.
# Half of the names go with each pronoun, so a guess gets about one half. The bootstrap
# draws names, not words of the text; and one run is one draw of the start and the noise.

# %% [markdown]
# ### Exercise 5 (build): skip-gram from start to end ★★★
#
# Write the training loop yourself, with `pair_gradients`, for the first three hundred tales.
#
# ```python
# def train(ids: Tensor, text_of: Tensor, counts: Tensor, epochs: int) -> Tensor: ...  # (V, D)
# ```
#
# In each epoch keep each word with `embeddings.keep_probability(counts, 1e-3)`, list the pairs with `embeddings.context_pairs(ids, text_of, 5, generator)`, and step through them in batches of 512.
# Each pair gets five words of noise, drawn from `embeddings.noise_distribution(counts)`.
# `embeddings.count_texts(stories[:300], min_count=5)` has the `words`, `ids`, `text_of` and `counts`.
# Several pairs in a batch may share a row, so add up with `index_add_`.
# Use a rate of 0.1 and 48 numbers; `v` starts at random with a standard deviation of 0.1, and `u` at zero.
# (`WordVectors(words, v)` gives your vectors the methods `nearest` and `only`.)
# After four epochs, is the nearest word of the same class for more than half of the words that have a class?
# And which rows of the two tables does a step with a single pair change, say *fox* in the middle and *ran* beside it?


# %% tags=["hide-cell", "solution"]
def train(ids, text_of, counts, epochs):
    """Return the vectors v of skip-gram with negative sampling."""
    v = 0.1 * torch.randn(len(counts), 48, generator=generator)
    u = torch.zeros_like(v)
    keep = embeddings.keep_probability(counts, 1e-3)
    noise = embeddings.noise_distribution(counts)
    for _ in range(epochs):
        kept = torch.rand(len(ids), generator=generator) < keep[ids]
        pairs = embeddings.context_pairs(ids[kept], text_of[kept], 5, generator)
        for center, company in zip(*(side.split(512) for side in pairs)):
            drawn = torch.multinomial(noise, 5 * len(center), True, generator=generator)
            around = torch.cat((company[:, None], drawn.view(-1, 5)), dim=1)
            by_center, by_around = pair_gradients(v[center], u[around])
            v.index_add_(0, center, by_center, alpha=-0.1)
            u.index_add_(0, around.flatten(), by_around.flatten(0, 1), alpha=-0.1)
    return v


few = embeddings.count_texts(stories[:300], min_count=5)
mine = WordVectors(few.words, train(few.ids, few.text_of, few.counts, epochs=4))
known = [word for word in classes if word in mine]
group = torch.tensor([kinds.index(classes[word]) for word in known])
purity = neighbour_purity(mine.only(known).vectors, group).mean()
print(f"the nearest is of the same class for {purity:.0%} of {len(known)} words")
assert purity > 0.5
# One row of v changes, that of fox, and at most six of u: that of ran, and the noise's.

# %% [markdown]
# ## Sources
#
# - Company and meaning: {cite:t}`harris1954`, {cite:t}`firth1957`; skip-gram: {cite:t}`mikolov2013a`; negative sampling, noise and thinning: {cite:t}`mikolov2013b`; what its scores become: {cite:t}`levy2014`; GloVe: {cite:t}`pennington2014`; fastText: {cite:t}`bojanowski2017`.
# - Analogies: {cite:t}`mikolov2013c`; the case against them: {cite:t}`linzen2016`, {cite:t}`rogers2017`; what cosines may mean: {cite:t}`steck2024`; bias: {cite:t}`bolukbasi2016`, {cite:t}`caliskan2017`, {cite:t}`nissim2020`.
# - Principal components: {cite:t}`pearson1901`; intervals: {cite:t}`efron1979`.
# - Tables that read and write: {cite:t}`press2017`; the mean vector: {cite:t}`mu2018`; contextual vectors: {cite:t}`ethayarajh2019`.
