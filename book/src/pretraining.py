# %% [markdown]
# (pretraining)=
# # Pretraining
#
# A language model learns by guessing the next token at every place of a great deal of text; here the text has a known entropy, so we can say at any moment how much of what could be learned has been.
#
# **You will be able to**
#
# - turn a text into training examples, and a model's guess into a price in nats,
# - write the training loop, and say what warm-up, clipping, accumulation and checkpoints are for,
# - read a loss: against the floor, against simple models, per token, per byte, and word by word; and say why looking things up is learned so late,
# - use a scaling law within its range, and recognise from a loss a leak, or a text learned by heart.
#
# **You need** the chapters {doc}`transformer` and {doc}`corpus`; up to the first training, the words *logits*, *softmax* and *entropy floor* from the {doc}`glossary` will do.
#
# **Runs in** about two minutes on one processor core.

# %% [markdown]
# ## Setup

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy

from llmcourse import plotting
from llmcourse.checks import pretraining as checks
from llmcourse.model.folders import load_pretrained
from llmcourse.model.generation import GREEDY, Sampling, write
from llmcourse.model.inspection import attention_weights
from llmcourse.model.transformer import Transformer
from llmcourse.text import ngrams, tales
from llmcourse.text.documents import python_docs
from llmcourse.text.documents import tales as tale_documents
from llmcourse.text.ngrams import compressed_bits_per_byte
from llmcourse.training import pipeline, scaling, studies, windows
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import Evaluation, learning_rate
from llmcourse.training.loop import make_optimizer
from llmcourse.training.pipeline import token_array
from llmcourse.training.presets import BASE_LLM, SMALL
from llmcourse.training.pretraining import pretrain
from llmcourse.training.story_evaluation import count_valid, tale_loss, write_samples
from llmcourse.training.text_loss import recall_losses, recalls, text_loss, word_losses
from llmcourse.widgets.loss import LossExplorer, Moment
from llmcourse.widgets.sampling import SamplingExplorer
from llmcourse.widgets.surprise import word_surprises

plotting.use_course_style()
_ = torch.set_num_threads(1)

# %% [markdown]
# ## The problem
#
# *The quick brown fox jumps over the lazy …*
#
# You know the next word, and you did not reason it out: you have read the sentence before.
# `base-llm`, the model that this book ships, has read {term}`tales`, and nothing else.
# Its vocabulary has the word.
# What does it say?

# %%
base, base_tokenizer = load_pretrained("base-llm")
prompt = "The quick brown fox jumps over the lazy"
ids = torch.tensor([[0, *base_tokenizer.encode(prompt)]])  # 0: a text begins
with torch.no_grad():
    probs = base(ids)[0, -1].softmax(dim=-1)  # (V,)
best = probs.topk(3).indices.tolist()
(dog,) = base_tokenizer.encode(" dog")
print("likeliest:", [base_tokenizer.decode([i]) for i in best])
print(f"' dog': {probs[dog]:.1%}")
assert dog not in best

# %% [markdown]
# It lets another adjective follow, or names a relative; a dog, to this model, is an odd idea.
# The model is not stupid, it has not read what you have read.
# Everything that a language model knows came in through one question: *what is the next token?*
# This chapter asks that question hundreds of thousands of times, and measures what comes of it.

# %% [markdown]
# ## By hand
#
# Let the words of that sentence be a whole language: eight words, and after *the lazy* a model has given each of them a score.
# Softmax turns the scores into a distribution, and the price of the word that really came is minus the logarithm of its probability.
#
# | word | the | quick | brown | fox | jumps | over | lazy | dog |
# |---|---|---|---|---|---|---|---|---|
# | score $z$ | 0 | 0 | 0 | 1 | 0 | 0 | 0 | 3 |
# | $e^z$ | 1 | 1 | 1 | 2.7 | 1 | 1 | 1 | 20.1 |
# | $p = e^z / 28.8$ | 0.03 | 0.03 | 0.03 | 0.09 | 0.03 | 0.03 | 0.03 | 0.70 |
#
# So *dog* costs $-\ln 0.70 = 0.36$ {term}`nat`s.
# A model that knows nothing gives each word $1/8$ and pays $\ln 8 = 2.08$ nats, whatever comes.
#
# ![A curve of the price in nats over the probability of the word that came. It falls from 4 at a probability near 0, steeply at first, to 0 at probability 1. Three points on it: lazy costs 3.36, knowing nothing 2.08, dog 0.36.](figures/price-of-what-came.svg)
#
# *A word that came at a probability of 0.03, such as “lazy”, would have cost more than knowing nothing.*
#
# And *dog* is not the only thing to be learned from this sentence: every word but the first is the answer to a question that the words before it ask.

# %%
words = f"{prompt} dog".lower().split()
vocab = list(dict.fromkeys(words))  # each word once
scores = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 3])
p = scores.softmax(dim=0)
print(", ".join(f"{word} {x:.2f}" for word, x in zip(vocab, p.tolist())))
price, ignorant = -p[vocab.index("dog")].log(), torch.tensor(8.0).log()
print(f"dog costs {price:.2f} nats; knowing nothing, {ignorant:.2f} nats")
torch.testing.assert_close(price, cross_entropy(scores, torch.tensor(7)))
for i in range(1, len(words)):
    print(f"{' '.join(words[:i]):40} → {words[i]}")

# %% [markdown]
# Nine words, eight examples; and a transformer answers all eight in a single pass, since no place can see what comes behind it.
#
# ![A lower row of eight words that are read, from the to lazy, leads by arrows up into one wide box, where each place sees what is to its left. From there eight arrows lead up to a row of targets, the same sentence moved by one word: quick to dog.](figures/guesses-of-one-window.svg)
#
# *The same sentence twice, moved by one word: below what is read, above what is to be guessed.*
#
# Note the two questions that end with *the*: the answer to one is *quick*, to the other *lazy*.
# A model that sees one word back must split its bet there; one that sees the whole row need not.

# %% [markdown]
# ## The idea
#
# The probability of a text is a product of next-token probabilities, so its price is a sum:
#
# $$-\ln p_\theta(x_1, \dots, x_T) = -\sum_{t=1}^{T} \ln p_\theta(x_t \mid x_1, \dots, x_{t-1}).$$
#
# The loss is that price per token, averaged over the text, and training moves the weights $\theta$ against its gradient.
# Averaged over all that the source can write, it has two parts:
#
# $$\mathcal{L}(\theta) = H + D_\text{KL}(\text{source} \,\|\, p_\theta) \;\ge\; H.$$
#
# $H$ is the {term}`entropy` of the source, what is truly open in each place; $D_\text{KL}$, the Kullback–Leibler divergence, is what the model has not learned, and it is never negative.
# (On the very texts that it was trained on, a model can pay less than $H$; the section *Learning by heart* lets one do so.)
# On ordinary text the two cannot be told apart, because nobody knows $H$.
# The tales come from a grammar whose $H$ is computed exactly ({doc}`corpus`), so here they can.
#
# | Symbol | Meaning | Unit | Name in code |
# |---|---|---|---|
# | $\mathcal{L}$ | mean price of what came | nats/token | `loss` |
# | $H$ | entropy of the source: the floor | nats/token | `floor` |
# | $\mathcal{L} / H - 1$ | what is left to learn, as a share of the floor | – | `gap` |
# | $e^{\mathcal{L}}$ | {term}`perplexity`: as unsure as a fair die of that many sides | tokens | `perplexity` |
# | $\mathcal{L} / \ln 2 \cdot$ tokens / bytes | {term}`bits per byte`: compares across tokenizers | bits/byte | `bits_per_byte` |
# | $N$, $D$ | parameters of the model, tokens it was trained on | – | `n_parameters`, `n_tokens` |

# %% [markdown]
# ## In code
#
# The data: freshly told tales, a tokenizer trained on them, and all of it as one long row of numbers, with the mark `<|endoftext|>`, number 0, around each story.
# The model: two layers, the one of the chapter {doc}`pipeline`, whose recipe is called `SMALL`.

# %%
data, sizes = pipeline.prepare(SMALL), SMALL.model
tokenizer = data.tokenizer
plan = replace(SMALL.pretraining, steps=2400)
per_step = round(len(data.train) / (data.train == 0).sum())  # a story


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def on_tales(model, config, **options):
    given = data.train, data.valid, config, seeded()
    return pretrain(model, *given, start_token=0, **options)


model = SMALL.new_model()  # its first weights are explained further down
n_parameters = sum(weight.numel() for weight in model.parameters())
log_vocab = torch.tensor(float(sizes.vocab_size)).log().item()
print(f"{n_parameters:,} parameters, {plan.steps} stories of {per_step} tokens")
print(f"log V = {log_vocab:.2f} nats/token")

# %% [markdown]
# The loop takes a batch of windows, each of $T + 1$ tokens; the model reads all but the last and is asked at every place for the token one further on.
# Five lines do the learning: scores, loss, gradient, clip, step.
#
# ![Five boxes joined by arrows in a circle: scores, of shape (B, T, V); the loss, one number; the gradient, for each weight; clip, if it is too long; the step, in which the weights move. From above the next batch comes in at the scores. In the middle: 2400 steps.](figures/training-loop.svg)
#
# *Once around is one step, with a batch of its own.*
#
# *Clip* shortens a gradient that is too long ({term}`gradient clipping`).
# The step is made by *AdamW*, which keeps for each weight a running mean of its gradient and of the gradient's square, and divides the one by the root of the other.
# How far it goes is the learning rate: it rises over the first steps, the *warm-up*, and then falls along half a wave of a cosine.
#
# ![A curve over 2400 steps. It rises in a straight line from 0 to 0.008 in the first 100 steps, the warm-up, and then falls along half a wave of a cosine to 0.](figures/learning-rate-shape.svg)
#
# *The learning rate of this page's training.*


# %%
def learn(model, batches, config):
    optimizer, losses = make_optimizer(model, config), []  # AdamW
    for step in range(config.steps):
        rows = next(batches)  # (B, T + 1)
        logits = model(rows[:, :-1])  # (B, T, V)
        loss = cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # a gradient for each weight
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        for group in optimizer.param_groups:
            speed = group.get("speed", 1)  # embeddings may learn faster
            group["lr"] = speed * learning_rate(step, config)  # up, then down
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
# The package's `pretrain` is this loop, with measuring and saving in between.
# From the same start both must give the same losses, and so must a third run that cuts each batch of four windows into two parts and adds up their gradients, which takes half the memory: {term}`gradient accumulation`.
#
# ![Above, four windows together make one gradient, and a step follows. Below, windows 1 and 2 make a gradient, windows 3 and 4 another; a plus adds the two, and one step follows.](figures/gradient-accumulation.svg)
#
# *In two parts only two windows are in memory at a time, and the step is the same.*

# %%
few = replace(plan, steps=4, batch_size=4, context_length=32, warmup_steps=2)
batches = windows.Windows(data.train, 32, start_token=0).shuffled(4, seeded())
mine = learn(Transformer(sizes, seeded(1)), batches, few)
for config in (few, replace(few, accumulation=2)):
    twin = Transformer(sizes, seeded(1))
    theirs = on_tales(twin, config)
    losses = [update.loss for update in theirs.updates]
    torch.testing.assert_close(mine, losses, rtol=1e-3, atol=1e-3)
print(f"{len(mine)} steps, three ways, the same losses")

# %% [markdown]
# A long training will be interrupted sooner or later.
# A {term}`checkpoint` holds everything that the next step depends on: weights, the optimizer's moments, the place in the shuffled data.
# The next cell stops a training in the middle, by an error that is raised after step 3, calls `pretrain` again, and compares with one that was never stopped: not about equal, but bit by bit.
#
# ![Three rows of steps. The first goes from step 1 to step 4 in one go. The second makes steps 1, 2 and 3 and ends in an error; from its step 2 an arrow leads down to a checkpoint. The third begins there, with step 3, and ends with step 4. A dashed line joins the two fourth steps: same bits.](figures/stopped-and-resumed.svg)
#
# *Step 3 was made, but not saved, so it is made again.*


# %%
from tempfile import TemporaryDirectory


def stop(event):
    if event.step == 3:
        raise KeyboardInterrupt


once, again = Transformer(sizes, seeded(1)), Transformer(sizes, seeded(7))
with TemporaryDirectory() as folder:
    saved = Run(folder=folder, interval=2)
    try:
        on_tales(once, few, run=replace(saved, progress=stop))
    except KeyboardInterrupt:
        print("stopped at step 3; the newest checkpoint is that of step 2")
    on_tales(again, few, run=saved)  # its other first weights are replaced
whole = Transformer(sizes, seeded(1))
on_tales(whole, few)
same = zip(again.state_dict().values(), whole.state_dict().values())
print("same bits:", all(torch.equal(a, b) for a, b in same))

# %% [markdown]
# ## Experiment
#
# ### A minute of learning
#
# *Predict*: the untrained model pays about $\ln V$.
# Which will it learn sooner: what kind of word comes next, or *which* name, colour or place, of all those that the story has mentioned?
#
# First the levels to compare with.
# The floor is the exact price of a hundred held-out stories; two simple models count tokens, and pairs of tokens.

# %%
held_out = [story.text for story in tales.generate(100, seed=1)]
n_tokens = sum(len(tokenizer.encode(text)) + 1 for text in held_out)
floor = -sum(map(tales.log_prob, held_out)) / n_tokens
rows, held_out_rows = [data.train.tolist()], [data.valid.tolist()]
levels = {"log V": log_vocab}
for n, name in ((1, "unigram"), (2, "bigram")):
    levels[name] = ngrams.NGramModel(rows, n, sizes.vocab_size).loss(held_out_rows)
levels["floor"] = floor
assert floor < levels["bigram"] < levels["unigram"] < log_vocab
print(", ".join(f"{name} {x:.2f}" for name, x in levels.items()), "nats/token")

# %% [markdown]
# To see what is learned when, the words of twenty held-out stories are sorted into two heaps.
# *Recalls* repeat a fact of the story, the hero's name for one, or the colour of the coat: whoever remembers the story can say them.
# *Others* are all the rest.
# At eight moments of the training we note what the model pays for a word of each heap, and let it write.
# (A word, with the space before it and the marks behind it, is one token or several, so untrained the model pays more than $\ln V$ for one.)

# %%
stories = list(tales.generate(20, seed=2))
moments, heaps, stops = [], [], (0, 100, 200, 400, 800, 1200, 1800, 2400)


def now(text):
    return word_losses(model, tokenizer, text)


def look(event):
    if isinstance(event, Evaluation) and event.step in stops:
        heaps.append(recall_losses(stories, now))
        sample = write(
            model, tokenizer, "Once upon a time", sampling=Sampling(temperature=0.7)
        )
        moments.append(Moment(event.step * per_step, event.loss, sample))


exact = recall_losses(stories, word_surprises)
print(f"{exact.n_recalls} recalls, {exact.n_others} other words")

# %% [markdown]
# Now the training, the longest cell of this page.
# The last digits of a training differ between processors, so what it prints may differ from yours a little; the assertions may not.

# %% tags=["nbval-ignore-output"]
plan = replace(plan, eval_interval=100, eval_examples=24)
history = on_tales(model, plan, run=Run(progress=look))
result = text_loss(model, tokenizer, held_out)
assert floor < result.loss < levels["bigram"]
assert abs(moments[0].loss - log_vocab) < 0.2
gap = result.loss / floor - 1
print(f"loss {result.loss:.2f} nats/token, {gap:.0%} above the floor of {floor:.2f}")
print(f"perplexity {result.perplexity:.1f}, floor {torch.tensor(floor).exp():.1f}")
print(f"{result.bits_per_byte:.2f} bits/byte, floor {tales.bits_per_byte():.2f}")

# %% mystnb={"image": {"alt": "Loss over tokens seen, on training batches and on held-out text. Both fall from log V, steeply at first, past the level of the unigram model almost at once and past that of the bigram model after about a third of the training; then they flatten and end well above the floor."}}
fig, ax = plt.subplots(figsize=(7, 3))
plotting.plot_loss(ax, history.curves(per_step), levels)
_ = ax.set(ylim=(0, log_vocab * 1.08))

# %% [markdown]
# The curve falls steeply at first, then ever more slowly, and ends far above the floor.
# On this scale its end looks flat, and whoever does not know the floor might call that converged; but in the last quarter of the table below the prices still fall, though the learning rate is running out.
#
# What is still missing?
# The table says it by heap: the price of a word in nats at each moment, and in the last lines what the grammar itself pays, which nobody can beat.
# Below it, move through the same moments and read what the model wrote.

# %% tags=["nbval-ignore-output"]
print("   tokens   recalls    others")
for moment, heap in zip(moments, heaps):
    print(f"{moment.n_tokens:9,} {heap.recalls:9.2f} {heap.others:9.2f}")
print(f"  grammar {exact.recalls:9.2f} {exact.others:9.2f}")
first, last = heaps[0], heaps[-1]
left = last.recalls - exact.recalls, last.others - exact.others
done = 1 - left[0] / (first.recalls - exact.recalls)
done_others = 1 - left[1] / (first.others - exact.others)
assert done + 0.1 < done_others
print(f"way done {done:8.0%} {done_others:9.0%}")
n_recalls, n_others = exact.n_recalls, exact.n_others
share = left[0] * n_recalls / (left[0] * n_recalls + left[1] * n_others)
print(f"recalls: {n_recalls / (n_recalls + n_others):.0%} of the words,", end=" ")
print(f"{share:.0%} of what is left to learn")
seen = [update.step * per_step for update in history.updates]
LossExplorer(moments, levels, (seen, [update.loss for update in history.updates]))

# %% [markdown]
# Letters become words, words become sentences, sentences a story of the right shape; and then watch who the story is about.
# The other words are most of the way down: what kind of word comes, how it is spelled, how a sentence goes on.
# The recalls lag behind, and few as they are, they hold a good part of what is left.
# The model has learned *that* a name comes here, and which names are frequent, but hardly to look up which name the story gave.
#
# ### Why copying is hard to learn
#
# To say *her crimson cardigan* a second time, a head must do two things: find the colour, thirty words back, by its query and the keys; and hand on what it found, by value and output, so that the next token is *crimson*.
# What if it can do neither yet?
# Learning to find does not pay, for what is found is handed on as noise; learning to hand on does not pay, for what arrives is a mean over everything.
# Each half waits for the other, and the loss stays where a guess among all colours puts it: on a {term}`plateau`.
# In large models, too, there are heads of two layers that need each other, and they appear within a short stretch of the training {cite:p}`olsson2022`.
#
# A toy shows the plateau in seconds.
# Each text is thirty-one words and one colour, anywhere; then a mark asks for the colour.
# Whoever cannot look back pays $\ln 64$.


# %%
def lookups(n_texts, generator):
    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    rows = draw(65, 129, n_texts, 34)  # 64 kinds of words
    colour, place = draw(1, 65, n_texts), draw(0, 32, n_texts)  # 64 of colours
    rows[torch.arange(n_texts), place] = colour
    rows[:, -2], rows[:, -1] = 0, colour  # 0 asks which colour it was
    return rows, place


tests, places = lookups(100, seeded(1))
assert (tests[torch.arange(100), places] == tests[:, -1]).all()
print(f"chance: {torch.tensor(64.0).log():.2f} nats for the answer")

# %% [markdown]
# One block is enough here, for a colour is found by what it is, and not by what stands before it.
# It learns from two starts.
# The usual one draws all weights at random.
# The other is `mimetic_initialisation` of the module `transformer`, with which the model above began: query and key almost zero, so that every place is found alike, and value and output each other's mirror, $W_O = W_V^\top$, so that whatever is found is handed on *as it is*.
# The mean of all words is a poor answer, but the right colour is in it, so finding it pays from the first step on.
# It comes with a second thing: embeddings as large as what the blocks add to them, which learn four times as fast as the rest, so that one colour can be told from the next; small ones drown in the {term}`residual stream`, and drift together.
#
# ![Four boxes in a square. The head looks everywhere, or at the colour; it hands on noise, or what it finds as it is. From the usual start, everywhere and noise, neither step to a neighbour pays. From the copying start, everywhere but as it is, one step, to look at the colour, pays at once and gives crimson. To hand on as it is what is found at the colour would pay, too.](figures/two-halves-of-copying.svg)
#
# *From the usual start both ways first lead to a box that is no better.
# The copying start is one step from the answer.*
#
# Two numbers are to be followed: the price of the answer, and how much of its attention the better of the two heads gives to the place where the colour stands.


# %%
toy = replace(
    sizes, vocab_size=129, d_model=64, n_layers=1, n_heads=2, n_kv_heads=2, d_ff=128
)


def judge_lookups(pupil):
    with torch.no_grad():
        answers = pupil(tests[:, :-1])[:, -1]  # (B, V)
    weights = attention_weights(pupil, tests[:, :-1])[0, :, :, -1]  # (B, H, T)
    looks = weights[torch.arange(100), :, places].mean(dim=0).max()
    return cross_entropy(answers, tests[:, -1]).item(), looks.item()


pupils = {
    "usual start": Transformer(toy, seeded()),
    "copying start": replace(SMALL, model=toy).new_model(),
}
for name, pupil in pupils.items():
    price, looks = judge_lookups(pupil)
    print(f"{name}: {price:.1f} nats, {looks:.0%} of attention on the colour")

# %% [markdown]
# Before they learn, both know nothing, and look at the colour no more than at the other thirty-two places.
# Now the loop from above, the function `learn`, with a look at the pupil before each step.


# %% mystnb={"image": {"alt": "Two panels over the number of texts read, with one line for each start. Left: the price of the answer. From both it first rises. From the usual start it then comes down to the dotted line of chance and lies on it for thousands of texts, before it begins to fall; from the copying start it drops at once. Right: the share of attention on the colour. It jumps from near nothing to nearly all within the first thousand texts from the copying start; from the usual start it lies near zero for thousands of texts and then rises slowly."}}
def lessons(pupil, curve, generator):
    for step in range(600):
        if step % 5 == 0:
            curve.append((16 * step, *judge_lookups(pupil)))
        yield lookups(16, generator)[0]


fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.4))
for (name, pupil), style in zip(pupils.items(), plotting.LINE_STYLES):
    speed, curve = 4 if name == "copying start" else 1, []
    lesson = replace(plan, steps=600, learning_rate=3e-3, warmup_steps=10)
    taught = lessons(pupil, curve, seeded())
    learn(pupil, taught, replace(lesson, embedding_speed=speed))
    read, prices, looks = zip(*curve)
    _ = left.plot(read, prices, style, label=name), right.plot(read, looks, style)
    assert (prices[30] < 1) == (name == "copying start")
left.axhline(torch.tensor(64.0).log(), color="0.45", linestyle=":")
_ = left.set(xlabel="texts read", ylabel="answer (nats)", ylim=(0, None))
_ = right.set(xlabel="texts read", ylabel="attention on the colour", ylim=(0, 1))
_ = left.legend()

# %% [markdown]
# At first the price rises for both, since nearly all words of these texts are no colours.
# Then a head of the copying start finds the place, and the price falls with that.
# The usual start soon teaches *that* a colour is asked for, and no more: the price stays on the plateau of $\ln 64$, the dotted line, and the attention is nowhere, for thousands of texts.
# Only then does its attention begin to turn to the colour, and the price follows; nothing in the curve of the loss had told that, or when.
# (The two starts differ in the blocks and in the embeddings; how much is due to each, this figure does not say.)
#
# On the tales the start is no such wonder in a minute: spelling and grammar have to be learned first, and in the table above the recalls are far from free, though the model began as a copier.
# It tells in the long run, which is too long for this page: an earlier `base-llm`, as large and begun at random, read more text than the present one and was left on the plateau for most of it.
# It is a trick for small budgets.
# Large models begin at random and learn to look things up from the sheer amount of text; the idea of starting where training leads anyway is from {cite:t}`trockman2023`.

# %% [markdown]
# ### The learning rate, and warming up
#
# This training, and the others that this page still makes itself, begin at random, as models usually do.
# *Predict*: of these short trainings, which ends lowest, and where does warming up matter?

# %% tags=["nbval-ignore-output"]
narrow = replace(sizes, d_model=64, n_heads=2, n_kv_heads=2, d_ff=172)
plain = replace(plan, embedding_speed=1)  # for the usual start
ends = {}
for rate in (0.002, 0.004, 0.25):
    for warmup in (1, 30):
        short = replace(
            plain,
            steps=150,
            context_length=128,
            learning_rate=rate,
            warmup_steps=warmup,
        )
        tried = Transformer(narrow, seeded())
        run = on_tales(tried, short)
        ends[rate, warmup] = run.evaluations[-1].loss
assert min(ends, key=ends.get)[0] == 0.004
assert all(ends[0.25, w] > min(ends.values()) + 0.7 for w in (1, 30))
print("peak rate   no warm-up   30 steps of warm-up")
for rate in (0.002, 0.004, 0.25):
    print(f"{rate:9} {ends[rate, 1]:12.2f} {ends[rate, 30]:12.2f}")

# %% [markdown]
# The middle one ends lowest: half of it is a little slow for so few steps, and at sixty times as much the model has learned little more than which tokens are frequent, which the unigram model above knows too.
# It does not explode, for AdamW divides each step by the size of the gradients; it stalls.
# And warming up changes little in these runs, of one seed each.
# That is an honest result of a small model, not a law: it is in deep models trained with large batches, near the highest rate that they bear, that the first steps do damage and warming up earns its place.

# %% [markdown]
# ### Scaling: more parameters, more text
#
# Where would a larger model end, with more text?
# The field's answer is a law with five numbers {cite:p}`hoffmann2022`:
#
# $$\mathcal{L}(N, D) = E + A\,N^{-\alpha} + B\,D^{-\beta}.$$
#
# $E$ is what remains when the model and the text have grown without end; if the law is true, $E = H$.
# Elsewhere that is a matter of faith, and here it can be tested.
# The study is stored in the package: twenty-two trainings of four widths, from 208 thousand to 3.3 million tokens, each with a schedule of its own, and all with the start of `base-llm`.
# They have two layers and read one story at a time, of 208 tokens at most; `base-llm` has three, and reads four whole stories at a time, so it is not quite of this series.
# `python book/studies/scaling_study.py --out scaling.json` repeats it in about twenty minutes.
#
# Mind the unit: the study counts in the tokens of `base-llm`'s vocabulary, which is larger than that of this page's model.
# A tale has fewer of them, and the same entropy, so the floor *per token* is higher than the one above.

# %%
study = studies.stored_study("scaling", scaling.Point)
true_floor = study.recipe["floor"]
losses = {(p.n_parameters, p.n_tokens, p.seed): p.loss for p in study.points}
widths, reads, seeds = (sorted(set(column)) for column in zip(*losses))
print("parameters" + "".join(f"{n:>11,}" for n in reads) + "  tokens")
for width in widths:
    row = (losses.get((width, n, 0)) for n in reads)
    cells = (f"{loss:11.2f}" if loss else f"{'–':>11}" for loss in row)
    print(f"{width:10,}" + "".join(cells))
repeats = sorted(losses[122_784, 416_000, seed] for seed in seeds)
print(f"one of them with three seeds: {', '.join(f'{x:.2f}' for x in repeats)}")

# %% [markdown]
# More of either lowers the loss, each time by less, and the smallest model stays far above the others, however much it reads.
# Now the fit.
# For given exponents the law is linear in $E$, $A$ and $B$, so least squares finds those three at once, and we try all pairs of exponents on a grid.
# The package's `fit` goes on from the best of such a grid, and must end at the same place.


# %%
def fit_on_grid(points, exponents):
    rows = [(p.n_parameters / 1e5, p.n_tokens / 1e6, p.loss) for p in points]
    n, d, loss = torch.tensor(rows).double().T
    best = float("inf"), 0.0
    for alpha in exponents:
        for beta in exponents:
            columns = torch.stack((torch.ones_like(n), n**-alpha, d**-beta), dim=1)
            solution = torch.linalg.lstsq(columns, loss[:, None]).solution
            squares = (columns @ solution - loss[:, None]).square().mean()
            best = min(best, (squares.item() ** 0.5, solution[0].item()))
    return best


misfit, end = fit_on_grid(study.points, [i / 50 for i in range(20, 50)])
print(f"E = {end:.1f} nats/token; the law misses a training by {misfit:.2f} typically")
law = scaling.fit(study.points)
assert abs(law.floor - end) < 0.05
assert abs(scaling.misfit(law, study.points) - misfit) < 1e-3

# %% [markdown]
# How sure is $E$?
# Hold it fixed at other values, fit the rest, and see how much worse the law gets: the values that are hardly worse form an interval.
# And where would the law put a model of the size and the reading of `base-llm`?
#
# *Predict*: leave the shortest trainings out.
# Does $E$ come nearer to the floor, and does the interval get narrower?

# %%
base_size = sum(weight.numel() for weight in base.parameters())
base_plan = BASE_LLM.pretraining
judged = tale_loss(base, base_tokenizer, n_stories=100)
a_story = judged.text.n_tokens / judged.text.n_documents  # in tokens
base_read = round(base_plan.steps * base_plan.batch_size * a_story)
print("fitted to trainings on       E   interval    base-llm   (nats/token)")
for least in reads[:3]:
    points = [point for point in study.points if point.n_tokens >= least]
    low, high = scaling.floor_interval(points)
    one = scaling.fit(points)
    foretold = one.loss(base_size, base_read)
    interval = f"{low:.1f} to {high:.1f}"
    print(f"{least:8,} tokens or more   {one.floor:.1f}  {interval} {foretold:9.2f}")
    assert foretold < true_floor
print(f"in truth                    {true_floor:.2f} {judged.text.loss:20.2f}")
assert scaling.floor_interval(study.points).high < true_floor < high

# %% mystnb={"image": {"alt": "Left: loss over tokens on logarithmic axes for four sizes of model, points and the fitted law, and a fifth curve and point for base-llm. The curves of the larger models run downwards through the dotted line of the floor; the points of the larger models bend away above their curves, and that of base-llm lies almost on the floor, far above its own. Right: how far the law is from the points for each assumed floor, for all trainings and for the longer ones. For all, it is least well below the true floor and clearly more there; for the longer ones the line is lower and flat, up to the true floor and beyond."}}
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.8))
largest = scaling.Point(
    n_parameters=base_size, n_tokens=base_read, loss=judged.text.loss
)
scaling.plot_scaling(left, [*study.points, largest], law, true_floor)
_ = left.set(xlim=(1.5e5, 2e8))
floors = [i / 20 for i in range(15)]
for least, name in ((reads[0], "all"), (reads[2], "the longer ones")):
    points = [point for point in study.points if point.n_tokens >= least]
    misfits = [scaling.misfit(scaling.fit(points, e), points) for e in floors]
    right.plot(floors, misfits, label=name)
right.axvline(true_floor, color="0.45", linestyle=":")
_ = right.text(true_floor + 0.02, 0.004, "true floor", fontsize=8)
_ = right.legend(loc="upper left")
_ = right.set(xlabel="assumed E (nats/token)", ylabel="misfit", ylim=(0, None))

# %% [markdown]
# On the left, each curve has its number of parameters at its end.
# The four upper ones were fitted; the lowest is the law's word on `base-llm`, and the triangle that points down, almost on the floor, is what became of it.
# It is well above what the law foretold.
# Fitted to all trainings, the law says that endless growth would bring the loss far below the floor, with an interval that leaves the true floor out.
# The more of the short trainings are left out, the nearer the law comes to `base-llm`; and the less sure it is of $E$, until its interval has everything in it from nothing to beyond the floor.
#
# Nothing is wrong with the arithmetic; the form of the law is, as the interval without the true floor says.
# (A part of the miss at `base-llm` may be due to its other recipe.)
# It misses the trainings by no more than another seed moves them, but it misses them in a pattern, the points of the larger models against their curves on the left: below them in the middle, while grammar and spelling are learned, and above them at the end, where, as the heaps above suggest, recalls are what is left.
# A power law that is fitted while one thing is learned does not know of the next.
#
# Within the range that was measured the law is of use, say to choose between two sizes.
# Beyond, it is a guess, and its interval is not the size of the doubt.
# That it misses a longer training, anyone can see who pays for one; that its $E$ is wrong, only those who know the floor.

# %% [markdown]
# ### Learning by heart
#
# *Predict*: the same model makes 320 steps, one story each, on twenty stories, on eighty, and on three hundred and twenty.
# After which does it price its own stories best, and after which new ones?

# %% tags=["nbval-ignore-output"]
brief = replace(plain, steps=320, warmup_steps=20, eval_interval=320)
documents = list(tale_documents(320, seed=0))
by_heart = {}
for n in (20, 80, 320):
    pupil = Transformer(sizes, seeded())
    own = token_array(documents[:n], tokenizer)
    pretrain(pupil, own, data.valid, brief, seeded(), start_token=0)
    known = text_loss(pupil, tokenizer, [d.text for d in documents[:20]]).loss
    by_heart[n] = known, text_loss(pupil, tokenizer, held_out).loss
    if n == 20:
        story = documents[0].text
        opening = " ".join(story.split()[:8])
        recited = write(pupil, tokenizer, opening, sampling=GREEDY)
assert recited == story
assert by_heart[20][0] < floor < 0.5 * by_heart[320][0]
assert by_heart[20][1] > by_heart[80][1] > by_heart[320][1]
assert 0 < by_heart[320][1] - by_heart[320][0] < 0.5
print("stories   twenty of them   new ones   (nats/token)")
for n, (known, new) in by_heart.items():
    print(f"{n:7,} {known:16.2f} {new:10.2f}")

# %% [markdown]
# With twenty stories, each read sixteen times, the model prices them below the floor: after a few words it knows which one it is in, and recites it to the last letter, as the cell asserts.
# For new stories it pays far more than the other two, for it is sure of the wrong words.
# Of three hundred and twenty stories it reads each once, and what was read costs only a little less than what is new.
# A loss clearly below the floor is always a sign of memory, or of a leak; without a floor the comparison with held-out text has to tell.

# %% [markdown]
# ### The same loop on real text
#
# The documentation that your Python carries is text by people, with all that goes with it ({doc}`corpus`).
# There is no known floor, so we compare with programs whose trade is prediction: compressors.
# A compressed file's length in bits, over the length of the text, is a loss in {term}`bits per byte`.
# They come in two ways: alone with the held-out pages, or with the training text before them, of which only the additional length counts; the second is what the model has, too.
#
# The same loop then trains a model on this text, with a tokenizer of its own, and windows that begin anywhere.
# The text differs between versions of Python, and so do these numbers.

# %% tags=["nbval-ignore-output"]
real = pipeline.prepare_text(SMALL, python_docs())
pages = [page.text for page in real.held_out[:20]]
new = "\n\n".join(pages)
read = real.tokenizer.decode(real.train.tolist(), skip_special_tokens=True)
alone = compressed_bits_per_byte(new)
after = compressed_bits_per_byte(new, before=read)
writer = Transformer(sizes, seeded())
brisk = replace(plain, steps=600, warmup_steps=30, eval_interval=600)
pretrain(writer, real.train, real.valid, brisk, seeded())
docs = text_loss(writer, real.tokenizer, pages)
assert after["xz"] == min(after.values()) < min(alone.values())
assert max(alone.values()) < docs.bits_per_byte < 4
print("bits/byte    alone   after the training text")
for name in alone:
    print(f"{name:9} {alone[name]:8.2f} {after[name]:9.2f}")
print(f"model {docs.bits_per_byte:21.2f}")
print(f"read: {brisk.steps * brisk.context_length:,} of {len(real.train):,} tokens")

# %% [markdown]
# After this short a training, the model comes last.
# Look at what each is given: xz has the whole training text at hand, letter by letter, and documentation repeats itself, so it copies; alone, without that text, it does not stand out.
# (By their formats gzip looks back no farther than 32 KiB, and bz2 sorts blocks of 900 kB, so the text before helps these two little.)
# Our model has seen less than half of the text, once, and kept what fits into its weights.
# Large models turn this around: one of 70 billion parameters compressed text, pictures and speech better than the programs made for them {cite:p}`deletang2024`, if one does not count its own size.

# %% [markdown]
# ### A longer training: base-llm
#
# What does a longer training buy?
# `base-llm` is wider and deeper, began as a copier as well, and has read sixty-four thousand tales, none of them twice.
# (Its loss and floor are again in its own, larger tokens; the bits per byte compare with the model above.)
# A story counts as valid if the grammar could have written it, to the last letter.

# %% tags=["nbval-ignore-output"]
samples = write_samples(base, base_tokenizer, 30, generator=seeded())
valid = count_valid(samples)
low, high = valid.interval
stories_read = base_plan.steps * base_plan.batch_size
print(f"{base_size:,} parameters, {stories_read:,} stories of {a_story:.0f} tokens")
print(f"loss {judged.text.loss:.2f}, floor {judged.sample_floor:.2f} nats/token")
print(f"{judged.paired_gap.value:.0%} above the floor;", end=" ")
print(f"{judged.text.bits_per_byte:.2f} bits/byte")
print(f"{valid.right} of 30 samples are valid stories (95 %: {low:.0%} to {high:.0%})")
assert 2 * judged.paired_gap.value < gap
told = write(base, base_tokenizer, seed=1).split()
for start in range(0, len(told), 14):
    print(" ".join(told[start : start + 14]))

# %% [markdown]
# Of the gap that a minute left, hardly anything remains, and several of the thirty samples are stories that the grammar could have told.
# Read this one again, and keep an eye on the coat, on the numbers, on who gets what: one slip is enough to make a story invalid.
#
# So where is the rest of the gap?
# For each recall, take how many words back the fact last stood, and what the model pays more than the grammar.

# %% tags=["nbval-ignore-output"]
edges = [1, 6, 12, 24, 48, 96, 300]
readers = {"a minute": (model, tokenizer), "base-llm": (base, base_tokenizer)}
excess = {name: [[] for _ in edges[1:]] for name in readers}
in_all = dict.fromkeys(readers, 0.0)
for story in stories + list(tales.generate(20, seed=3)):
    truth = word_surprises(story.text)
    for name, reader in readers.items():
        prices = word_losses(*reader, story.text)
        in_all[name] += sum(prices) - sum(truth)
        for place, far in recalls(story):
            where = sum(far >= edge for edge in edges) - 1
            excess[name][where].append(prices[place] - truth[place])
print("words back" + "".join(f"{edge:>7}+" for edge in edges[:-1]))
for name, bins in excess.items():
    means = [sum(x) / len(x) for x in bins]
    print(f"{name:10}" + "".join(f"{mean:8.2f}" for mean in means))
    share = sum(map(sum, bins)) / in_all[name]
    print(f"{in_all[name] / 40:.0f} nats a story too many, {share:.0%} for recall")
assert in_all["base-llm"] < in_all["a minute"] / 5

# %% [markdown]
# `base-llm` has learned to look things up: facts that stood in the last dozen words cost next to nothing more than they must, and those from the other end of the story a small part of a nat.
# The model of a minute pays whole nats for each, at every distance.
# Of the little that `base-llm` still pays too much, a part is recall, and the rest is spread thinly over all other words.
#
# ### Explore: what base-llm knows of the next word
#
# The story below has named a hero; the model's distribution over the next token is a measured one.
# Temperature divides the scores, top-k and top-p cut off the tail before the draw.

# %%
begun = (
    "Once upon a time there was a brave young girl named Ella. "
    "She lived by the river with her grandmother and loved painting. One winter"
)
ids = torch.tensor([[0, *base_tokenizer.encode(begun)]])
with torch.no_grad():
    best = base(ids)[0, -1].topk(60)
SamplingExplorer(
    [base_tokenizer.decode([i]) for i in best.indices.tolist()],
    best.values.tolist(),
    prompt=begun,
)

# %% [markdown]
# Which settings would make every story of the model the same, and which would let it write words that no tale has?

# %% [markdown]
# ## Takeaways
#
# Pretraining is one question, what comes next, asked at every place of a text; the loss is the mean of $-\ln p$ of what came.
# It starts at $\ln V$, and on new text it cannot, on average, fall below the entropy of the source; frequencies are learned first, then pairs, then sentences, and last what has to be looked up far back in the text.
# What has to be looked up has no gradient at first, for finding is useless without handing on, and the reverse; a copying start, with large embeddings that learn fast, spared the toy the plateau, and large models leave it by the amount of text.
# A curve that looks flat may be far from the floor: the model of this page stopped well above it, and `base-llm` went on to a few percent.
# A scaling law describes the range it was measured in; followed beyond it, ours foretold a loss below the floor, and its interval did not warn of that.
# On little text the same loop learns the text by heart, and only held-out text shows it.
#
# *In practice*: the loop is the same, on thousands of processors, with batches of millions of tokens, which are accumulated, and with warm-up, clipping and checkpoints, without which runs of weeks would be lost.
# Budgets are divided by scaling laws: {cite:t}`kaplan2020` advised large models on little text, and {cite:t}`hoffmann2022`, who gave each training a schedule of its own, about twenty tokens for each parameter; models that will be used much are trained far longer than that {cite:p}`grattafiori2024`.
# In larger models, too, heads that look up what followed an earlier occurrence form at one stage of the training, and leave a bump in the curve of the loss {cite:p}`olsson2022`.
#
# What a pretrained model can be taught further, with few examples, is the subject of the next chapters, first of {doc}`fine_tuning`.

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
# ### Exercise 1 (check): how many examples
#
# A text of $n$ tokens is cut into windows of $T + 1$ tokens that overlap by one, so that each token but the first is a target once.
# What is left at the end and fills no window is dropped.
# How many windows are there, and how many guesses?
#
# ```python
# def count_examples(n_tokens, context_length):
#     return n_windows, n_guesses
# ```
#
# Check it with `checks.count_examples(count_examples)`.
# A text of the toy with the colours has 34 tokens: how many guesses is that, how many of them need a look back, and why does the usual start not learn these for so long?


# %% tags=["hide-cell", "solution"]
def count_examples(n_tokens, context_length):
    n_windows = (n_tokens - 1) // context_length
    return n_windows, n_windows * context_length


checks.count_examples(count_examples)
# 33 guesses, of which only the last needs a look back. At the usual start finding the
# colour does not pay before it can be handed on, nor handing on before it is found.

# %% [markdown]
# ### Exercise 2 (build): the loss, safely
#
# Write the cross-entropy without torch's own: from logits of shape $(B, T, V)$ and targets of shape $(B, T)$ to the mean price in nats.
# The logits may be in the thousands.
#
# ```python
# def my_cross_entropy(logits, targets):
#     return loss
# ```
#
# Check it with `checks.cross_entropy(my_cross_entropy)`.
# On a text of 1,000 bytes, which are 250 tokens, a model has a loss of 2.77 nats per token: what are its perplexity and its bits per byte?


# %% tags=["hide-cell", "solution"]
def my_cross_entropy(logits, targets):
    logits = logits - logits.amax(dim=-1, keepdim=True)  # changes no probability
    log_probs = logits - logits.exp().sum(dim=-1, keepdim=True).log()  # (B, T, V)
    return -log_probs.gather(-1, targets[..., None]).mean()


checks.cross_entropy(my_cross_entropy)
# A perplexity of e^2.77 = 16; that is 4 bits per token, and with 4 bytes to a token
# 1 bit per byte.

# %% [markdown]
# ### Exercise 3 (build): another schedule
#
# The cosine has to know the end from the start.
# A trapezoid does not: the rate rises in a straight line, stays at its peak as long as one likes, and falls in a straight line over the last steps.
# The first step has the first part of the rise, not 0, and the step after the last would have 0.
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
# ### Exercise 4 (build): parts of unequal size
#
# A batch of five windows does not fit into memory, and is read two windows at a time, which leaves one for the end.
# Leave in the weights the gradient of the mean loss over all five.
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
# Warm-up is for the first steps, which do damage at a high rate; clipping for a rare
# gradient that is far too long; checkpoints for going on after an interruption.

# %% [markdown]
# ### Exercise 5 (derive): dividing a budget
#
# Training costs about $C = 6ND$ FLOPs.
# For a given $C$, which $N$ makes $A N^{-\alpha} + B D^{-\beta}$ least?
# Put $D = C / 6N$ into it and set the derivative to zero.
#
# ```python
# def best_size(a, alpha, b, beta, budget):
#     return n_parameters
# ```
#
# Check it with `checks.best_size(best_size)`.
# By the law that was fitted above, how many tokens should each parameter of a model see, for a budget of $10^{13}$ FLOPs, and should that number grow or fall with the budget?
# For which budgets would you trust the answer?


# %% tags=["hide-cell", "solution"]
def best_size(a, alpha, b, beta, budget):
    # alpha A N^-alpha = beta B D^-beta: both halves of the excess fall equally fast
    ratio = alpha * a / (beta * b) * (budget / 6) ** beta
    return ratio ** (1 / (alpha + beta))


checks.best_size(best_size)
sizes_by_budget = {
    c: best_size(law.a, law.alpha, law.b, law.beta, c) for c in (1e13, 1e14)
}
per_parameter = [c / 6 / n**2 for c, n in sizes_by_budget.items()]
power = (law.alpha - law.beta) / (law.alpha + law.beta)
# D / N goes like C to that power, so it grows if alpha is larger than beta.
print(f"about {per_parameter[0]:.0f} tokens for each parameter")
print(f"for ten times the budget {10**power:.2f} times as many")
assert abs(per_parameter[1] / per_parameter[0] - 10**power) < 1e-6
# Trust it up to the budget of the study's largest run, 6 · 786,048 · 3,328,000 or about
# 1.6e13 FLOPs; 1e14 is beyond all that was measured.

# %% [markdown]
# ## Sources
#
# Language modelling as prediction, its entropy, and the guessing of letters are Shannon's {cite:p}`shannon1948,shannon1951`; perplexity is from {cite:t}`jelinek1977`.
# The optimizer is AdamW {cite:p}`loshchilov2019`.
# The law and the way to fit it are from {cite:t}`hoffmann2022`, after {cite:t}`kaplan2020`.
# That prediction and compression are one thing is in Shannon's first paper; {cite:t}`deletang2024` measured it for large models.
