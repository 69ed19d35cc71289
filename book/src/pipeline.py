# %% [markdown]
# (pipeline)=
# # The whole way, once
#
# Raw text goes in at one end, and a model that writes, answers and has learned what is liked comes out at the other: six stages, of which this page runs the first five, small.
#
# **You will be able to**
#
# - name the stages of a language model's life, and what goes in and comes out of each;
# - say what a model that has learned nothing does, and give its loss in nats and in bits;
# - train a small transformer from scratch, judge it against simple models and a floor, and explain why that floor is not zero;
# - say what instructions and preferences change in a model, and what they do not.
#
# **You need** Python, and what a gradient is.
# The {doc}`glossary` has the words, {doc}`notation` the letters.
#
# **Runs in** about two and a half minutes on one processor core.

# %% [markdown]
# ## Setup

# %%
import copy
import re
from itertools import islice
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy

_ = torch.set_num_threads(1)
from llmcourse import plotting
from llmcourse.alignment import preferences, rollouts
from llmcourse.alignment.gold_reward import reward_parts
from llmcourse.alignment.grpo import GRPOConfig, grpo
from llmcourse.alignment.reward_model import (
    RewardConfig,
    RewardModel,
    text_reward,
    train_reward_model,
)
from llmcourse.checks import pipeline as checks
from llmcourse.finetuning.answering import greedy_answers
from llmcourse.finetuning.finetuning import FinetuningConfig
from llmcourse.finetuning.instruction_tuning import InstructConfig, follow
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.model.generation import Sampling, write
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text import corpus, documents, ngrams, tales
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import learning_rate
from llmcourse.training.loop import make_optimizer
from llmcourse.training.pipeline import token_array
from llmcourse.training.presets import SMALL
from llmcourse.training.pretraining import pretrain
from llmcourse.training.text_loss import document_nll, text_loss
from llmcourse.training.windows import Windows
from llmcourse.widgets.sampling import SamplingExplorer

plotting.use_course_style()

# %% [markdown]
# ## The problem
#
# A transformer with random weights is already a complete language model: it takes {term}`token`s, pieces of text, and gives a probability to every token that could come next.
# Here is one, asked to go on with a sentence; its pieces are single bytes, 256 of them, and a mark between texts.
# What it writes depends on the last digit of the arithmetic, so yours may differ.

# %% tags=["nbval-ignore-output"]
bytes_only = BPETokenizer.train(["any text"], 257, ["<|endoftext|>"])
newborn = Transformer(
    TransformerConfig(vocab_size=257), torch.Generator().manual_seed(0)
)
start = "Once upon a time there was a "
noise = write(newborn, bytes_only, start, max_new_tokens=40)
assert noise.startswith(start)
print(repr(noise))

# %% [markdown]
# That is noise.
# It knows no word, no spelling, not even which bytes are letters.
# Nothing is missing in the *machine*: it has all the parts that the large ones have.
# What is missing is everything that text could have told it, and a way to take that in.
# Between this noise and a model that writes lie the stages of this page.

# %% [markdown]
# ## By hand
#
# Take a language of two sentences, each as likely as the other: *the cat sat* and *the dog ran*.
# There are five words.
# A model that has learned nothing gives each of them the probability $1/5$ at every place, and pays $-\ln \frac15 = \ln 5$ for each word that then comes: this price is the loss, in {term}`nat`s.
#
# A model that knows the language perfectly pays less, but not nothing.
#
# ![The two sentences as a tree. After the come cat or dog, each with probability 1/2; after cat comes sat and after dog ran, for certain. The perfect model has the losses 0, ln 2 and 0, on average 0.23; the untrained one has ln 5 at each word, on average 1.61.](figures/two-sentences-as-a-tree.svg)
#
# *Only the second word is uncertain: `the` always comes first, and `sat` or `ran` is decided by the word before.*
#
# On average that is $\frac13 \ln 2$ per word, and no model can do better, because the choice of the second word is nowhere to be read before it is made.

# %%
newborn_loss = -torch.tensor([1 / 5, 1 / 5, 1 / 5]).log().mean()
perfect_loss = -torch.tensor([1, 1 / 2, 1]).log().mean()
print(f"nothing learned {newborn_loss:.2f}, perfect {perfect_loss:.2f} nats/word")

# %% [markdown]
# Two things of this toy hold for every model in this book.
# With small random weights the loss starts near the logarithm of the vocabulary's size.
# And it ends, at best, at a floor that is not zero: the {term}`entropy` of the text.

# %% [markdown]
# ## The idea
#
# A language model gives a probability to the next token, given all tokens before it.
# Training lowers the mean price of the tokens that really came, the {term}`cross-entropy`:
#
# $$\mathcal{L}(\theta) = -\frac{1}{T} \sum_{t=1}^{T} \ln p_\theta(x_{t+1} \mid x_1, \dots, x_t) \;\ge\; H \quad \text{on average.}$$
#
# | Symbol | Meaning | Shape | Name in code |
# |---|---|---|---|
# | $x_1, \dots, x_T$ | the tokens of a text, as numbers | $T$ | `ids` |
# | $x_2, \dots, x_{T+1}$ | at every place, the token that comes next | $T$ | `targets` |
# | $p_\theta$ | the model's probabilities: its scores for the $V$ tokens, made positive and divided by their sum (softmax) | $T \times V$ | `logits.softmax(-1)` |
# | $\mathcal{L}$ | mean price of what came, in nats per token | one number | `loss` |
# | $H$ | entropy of the source, in nats per token: the floor | one number | `floor` |
#
# For text from the web nobody knows $H$.
# In this book we do: the stories come from a grammar, a set of rules that says what can follow what and how often, so the probability of every story is known exactly, and with it the floor.
#
# The life of a model has six stages.
# Each takes what the stage before it made.
#
# | Stage | In | Out | Where |
# |---|---|---|---|
# | 1. corpus | raw text | clean documents, parted for training and measuring | {doc}`corpus` |
# | 2. tokenization | documents | one long row of numbers | {doc}`tokenization` |
# | 3. pretraining | the numbers | a model that continues text | this page, {doc}`pretraining` |
# | 4. fine-tuning | that model, instructions | a model that answers | this page, {doc}`fine_tuning`, {doc}`instruction_tuning` |
# | 5. RLHF | that model, comparisons | a model that answers as people prefer | this page, {doc}`rlhf` |
# | 6. deployment | any of these | a service | {doc}`deployment` |

# %% [markdown]
# ## In code
#
# ### Stage 1: a corpus
#
# The raw text is a few thousand short stories, the {term}`tales`.

# %%
documents = list(documents.tales(SMALL.n_stories, seed=SMALL.seed))
print(documents[0].text)

# %% [markdown]
# A corpus is cleaned, filtered and rid of copies before anything is learned from it.
# The report says what each step took away.
# Then some documents are put aside, to measure on text that the model has never seen.

# %%
kept, report = corpus.build_corpus(documents)
print(report)
splits = corpus.split(kept)
print({name: len(part) for name, part in splits.items()})

# %% [markdown]
# From a well-kept generator there is nothing to remove; {doc}`corpus` shows what real text loses here.

# %% [markdown]
# ### Stage 2: numbers
#
# The tokenizer learns from the training documents which pieces of text are worth a number of their own.

# %%
tokenizer = BPETokenizer.train(
    (document.text for document in splits["train"]),
    vocab_size=SMALL.model.vocab_size,
    special_tokens=["<|endoftext|>"],
)
sentence = documents[0].text.partition(".")[0]
print(tokenizer.tokens(sentence))
print(f"{tokenizer.vocab_size:,} tokens in the vocabulary")

# %% [markdown]
# Most words of this small world have become one piece.
# The documents now stand one after the other as one row of numbers, with a mark, number 0, before the first and after each.

# %%
train_tokens, valid_tokens = (
    token_array(splits[part], tokenizer) for part in ("train", "validation")
)
print(f"{len(train_tokens):,} tokens to learn from, {len(valid_tokens):,} held out")
print(train_tokens[:12].tolist())

# %% [markdown]
# ### Stage 3: a model, and how it learns
#
# The model is a small {term}`transformer` of the kind that today's large ones are.
# Its weights are random but for one thing, which makes a minute go further: the last layer is set up so that what the model has read can be copied; why that helps is told in {doc}`pretraining`.

# %%
config = SMALL.model
model = SMALL.new_model()
n_parameters = sum(weight.numel() for weight in model.parameters())
print(f"{n_parameters:,} parameters, {config.n_layers} layers")

# %% [markdown]
# Before it learns, its loss should be what the toy above promised: the logarithm of the vocabulary's size.

# %%
held_out = splits["validation"][:100]
texts = [document.text for document in held_out]
untrained_loss = text_loss(model, tokenizer, texts).loss
log_vocab = torch.tensor(config.vocab_size).log().item()
assert abs(untrained_loss - log_vocab) < 0.2
print(f"log V = {log_vocab:.2f}, the model's loss {untrained_loss:.1f} nats/token")

# %% [markdown]
# One step of learning takes a batch of windows (stretches of the text; in this page's training, one story per step), asks the model at every place for the next token, and moves all weights a little in the direction that makes the true ones likelier.
# Here is the loop; `make_optimizer` chooses how gradients move weights, `learning_rate` how far, and clipping limits a gradient that is too large.
#
# ![A window of nine tokens: the mark, C, arl, a comma, a, proud, boy, a comma, lived, with their ids. Below it the ids, the first eight, and the targets, the last eight, moved one place to the left. An arrow leads from each id to the target below it, the next token of the window.](figures/targets-are-ids-shifted.svg)
#
# *One window gives a guess at every place: the target is always the next token.*


# %%
def train(model, batches, config):
    optimizer, prices = make_optimizer(model, config), []
    for step, windows in enumerate(islice(batches, config.steps)):
        ids, targets = windows[:, :-1], windows[:, 1:]  # (B, T) each
        logits = model(ids)  # (B, T, V)
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        optimizer.step()
        prices.append(loss.item())
    return prices


# %% [markdown]
# The package's `pretrain` is this loop, with measuring in between.
# On a few steps from the same start, both must give the same losses.

# %%
few = type(SMALL.pretraining)(steps=4, batch_size=2, context_length=32, eval_examples=2)
twins = [Transformer(config, torch.Generator().manual_seed(1)) for _ in range(2)]
batches = Windows(train_tokens, few.context_length).shuffled(
    few.batch_size, torch.Generator().manual_seed(2)
)
mine = train(twins[0], batches, few)
theirs = pretrain(
    twins[1], train_tokens, valid_tokens, few, torch.Generator().manual_seed(2)
)
twin_prices = torch.tensor([update.loss for update in theirs.updates])
torch.testing.assert_close(torch.tensor(mine), twin_prices)

# %% [markdown]
# ![Seven boxes from top to bottom, joined by the steps between them. Raw text of 6,000 stories; documents, 5,403 of them to train; one row of 1,106,583 ids; ids of shape B by T; the stream, B by T by 96; logits, B by T by 2,048; the loss, one number.](figures/from-stories-to-a-loss.svg)
#
# *Stages 1 to 3 so far, with the size of what leaves each step.*
#
# ## Experiment
#
# *Predict*: the loss starts at $\ln V$.
# After less than a minute of learning, on one processor core, how much of the way to the floor will be done: a quarter, half, nearly all?
#
# First the floor, estimated by the exact price of a hundred held-out stories, and, on all held-out text, two simple models: one that knows only how frequent each token is (unigram), and one that also knows the token before (bigram).

# %%
prices = [-tales.log_prob(document.text) for document in held_out]  # nats, exact
floor = sum(prices) / (len(token_array(held_out, tokenizer)) - 1)
rows, held_out_rows = [train_tokens.tolist()], [valid_tokens.tolist()]
baselines = {
    name: ngrams.NGramModel(rows, n, config.vocab_size).loss(held_out_rows)
    for name, n in (("unigram", 1), ("bigram", 2))
}
assert floor < baselines["bigram"] < baselines["unigram"] < log_vocab
for name, level in {"log V": log_vocab, **baselines, "floor": floor}.items():
    print(f"{name:7} {level:.2f} nats/token")

# %% [markdown]
# ![A line of losses in nats per token. log V, 7.62, knows nothing; unigram, 6.09, how frequent a token is; bigram, 2.78, and the token before; the floor, 0.45, the grammar. A question mark stands over the stretch between bigram and floor.](figures/levels-of-loss.svg)
#
# *Below each level is what a model with that loss knows.
# Where on the orange stretch will the transformer end?*
#
# Now the training, the longest cell of this page.
# The last digits of a training differ between processors, so its output may differ from yours a little; the assertions may not.

# %% tags=["nbval-ignore-output"]
history = pretrain(
    model,
    train_tokens,
    valid_tokens,
    SMALL.pretraining,
    torch.Generator().manual_seed(SMALL.seed),
    start_token=tokenizer.special_tokens["<|endoftext|>"],
)
loss = text_loss(model, tokenizer, texts).loss
assert floor < loss < baselines["bigram"] < baselines["unigram"]
done = (log_vocab - loss) / (log_vocab - floor)
assert done > 0.8
assert loss > 1.5 * floor
assert SMALL.pretraining.steps < len(splits["train"])  # one window a step
print(f"loss {loss:.2f}, floor {floor:.2f} nats/token: {done:.0%} of the way is done")

# %% mystnb={"image": {"alt": "Loss over tokens seen, on training batches and on held-out text. Both start at log V, fall steeply past the level of the unigram model and after a fifth of the training past that of the bigram model, then ever more slowly, and end well above the floor. The held-out curve runs through the middle of the noisy training curve."}}
per_step = round(len(train_tokens) / len(splits["train"]))  # a story
fig, ax = plt.subplots(figsize=(7, 3))
levels = {"log V": log_vocab, **baselines, "floor": floor}
plotting.plot_loss(ax, history.curves(per_step), levels)
_ = ax.set(ylim=(0, log_vocab * 1.08))

# %% [markdown]
# More than four fifths of the way are done, and the rest is the hard part: the loss is still well above the floor.
# In the first fiftieth it passes the model that knows how frequent each token is, in the first fifth the one that knows pairs; the long rest takes more than the token before: the spelling of rarer words, sentences, and facts from further back.
# (The dashed curve is of thirty-two held-out stories, the printed loss of a hundred others, so the two ends differ a little.)
# The two curves run together because the training takes less than one pass: every training window, too, is priced before the model has learned from it.
#
# What does it write now?
# The mark between documents is its only prompt.
# The {term}`temperature` divides the scores before the softmax, so below 1 likely tokens become likelier still.

# %% tags=["nbval-ignore-output"]
stories = [
    write(model, tokenizer, sampling=Sampling(temperature=0.5), seed=seed)
    for seed in range(3)
]
assert all(len(story.split()) > 20 for story in stories)
print("\n\n".join(stories))

# %% [markdown]
# The beginnings are those of real tales, and so are many sentences.
# Look for what a minute was too short for: words glued together from wrong pieces, a name or a pronoun that changes half way, a story that turns into another.
# All but the first need facts from earlier in the story, some of them from far back; {doc}`corpus` shows how the grammar plants them.
#
# ### Forty minutes instead of one
#
# The same functions, on more stories, with a larger model and for forty minutes on one core, made `base-llm`, which comes with the package and with which most later chapters begin.
# Its tokens are others, so the two models are compared by how many nats above the floor a whole story costs them.

# %% tags=["nbval-ignore-output"]
base, base_tokenizer = load_pretrained("base-llm")
texts = [document.text for document in held_out]
excess = {
    name: (sum(document_nll(*pair, texts)[0]) - sum(prices)) / len(texts)
    for name, pair in {
        "a minute": (model, tokenizer),
        "forty minutes": (base, base_tokenizer),
    }.items()
}
assert 0 < excess["forty minutes"] < excess["a minute"] / 3
print(
    {name: f"{nats:.0f} nats a story above the floor" for name, nats in excess.items()}
)
print(write(base, base_tokenizer, sampling=Sampling(temperature=0.5), seed=0))

# %% [markdown]
# How it was made, and what it still gets wrong, is told in {doc}`pretraining`.
#
# ### Stage 4: instructions
#
# A model that goes on with text does not answer.
# It is shown conversations, of which only the answers are graded; here are some seconds of that, on the model that this page has made, with questions of two kinds about two hundred and forty stories.

# %% tags=["nbval-ignore-output"]
with TemporaryDirectory() as folder:
    save_pretrained(model, tokenizer, folder)
    lesson = InstructConfig(
        base=folder, n_examples=240, n_stories=0, n_held_out=16,
        kinds=("who", "what"), most_follow_ups=8, max_tokens=370,
        finetuning=FinetuningConfig(
            steps=30, context_length=384, learning_rate=2e-3, embedding_speed=4,
            warmup_steps=5, eval_interval=30, eval_examples=16,
        ),
    )  # fmt: skip
    pupil = follow(lesson)
before, after = (found.loss for found in pupil.history.evaluations)
print(f"held-out answers: {before:.1f}, then {after:.1f} nats/token")
assert after < before / 2

# %% [markdown]
# The first number is more than $\ln V$, what knowing nothing costs: this model had never seen the new marks that say who speaks and where an answer ends, and behind a story it expected anything but an answer.
# `instruct-llm`, which comes with the package, is `base-llm` after eighty minutes of such lessons, of ten kinds; some of its conversations are graded whole, and plain stories are mixed in, so that it forgets less.
#
# From here on the same three requests go to every model, in the form that it knows: with those marks, or, to a model without them, as plain text.
# The first two are about a tale of the brave young boy Milo and his funny mother: a question whose answer the tale repeats again and again, and one whose answer it hardly repeats.
# The third is an order.

# %% tags=["nbval-ignore-output"]
(story,) = tales.generate(1, seed=9)
hero, relative = story.facts["hero"], story.facts["relative"]
requests = [
    f"{story.text}\n\nWho is the hero of this story?",
    f"{story.text}\n\nTell me who {hero} lives with.",
    "Write a story about a girl named Mia who is afraid of thunder.",
]


def said(model, tokenizer):
    return greedy_answers(model, tokenizer, requests, max_new_tokens=[24] * 3)


answers = {
    "this page's model": said(model, tokenizer),
    "… after instructions": said(pupil.model, pupil.tokenizer),
    "base-llm": said(base, base_tokenizer),
    "instruct-llm": said(*load_pretrained("instruct-llm")),
}
assert hero in answers["instruct-llm"][0] and relative in answers["instruct-llm"][1]

# %% [markdown]
# ### Stage 5: preferences
#
# Which answers are *better* no text says.
# People are asked which of two they like, a {term}`reward model` learns to foresee what they will say, and the model, from here on called the {term}`policy`, is trained to earn its reward.
# So it goes here, in half a minute: a model goes on with the first words of stories; an annotator (a program, who errs in 15 of 100 cases) prefers the text with more different adjectives, counted as far as it is a tale; and neither the reward model nor the policy is told that.
# The model is `base-llm`: the stories of this page's own soon stop being tales, as seen above, so there would be little to choose between.
#
# ![Two rows. First: base-llm writes 4 texts for each of 100 beginnings, an annotator who errs in 15 of 100 cases prefers one of two, and 400 pairs go to the reward model. Then: the policy sends texts to the reward model and gets rewards back; a dashed line ties it to base-llm, with a penalty for going far.](figures/preferences-in-two-steps.svg)
#
# *The annotator is asked only in the first step; in the second, the reward model stands in.*


# %%
def adjectives(prompt, text):
    return 14 * reward_parts(prompt, text).detail  # different ones, while it is a tale


def continued(model, prompts, n, seed):
    luck = torch.Generator().manual_seed(seed)
    asked = [prompt for prompt in prompts for _ in range(n)]
    options = {"tokenizer": base_tokenizer, "stop": [0], "generator": luck}
    return rollouts.sample_rollouts(model, asked, 40, **options).texts


prompts = preferences.make_prompts(100, 0, base_tokenizer)
texts = continued(base, prompts, 4, seed=0)
candidates = [(p.text, texts[4 * i : 4 * i + 4]) for i, p in enumerate(prompts)]
options = {"agreement": 0.85, "pairs_per_prompt": 4, "reward": adjectives}
pairs = preferences.sample_pairs(
    candidates, torch.Generator().manual_seed(0), **options
)
print(f"{len(pairs)} comparisons")

# %% [markdown]
# First the reward model, then, by it, the policy; a penalty keeps the policy from going too far from where it started.

# %%
rows = preferences.tokenize_pairs(pairs, base_tokenizer)
judge = RewardModel(base, torch.Generator().manual_seed(0), "mean")
reading = RewardConfig(steps=25, learning_rate=7e-4, warmup_steps=3, eval_interval=25)
train_reward_model(judge, rows, rows[:8], reading, torch.Generator().manual_seed(0))
policy = copy.deepcopy(base)
course = GRPOConfig(
    iterations=14, prompts_per_iteration=8, epochs=1, learning_rate=5e-4,
    warmup_updates=4, max_new_tokens=40, kl_coef=0.1,
)  # fmt: skip
options = {"tokenizer": base_tokenizer, "stop": [0]}
reward, luck = text_reward(judge.eval(), base_tokenizer), torch.Generator()
records = grpo(policy, prompts, reward, course, luck.manual_seed(0), **options)

# %% [markdown]
# Has it learned what the annotator likes?
# Ninety-six new beginnings, continued by the model before and after with the same luck, tell.

# %% tags=["nbval-ignore-output"]
exam = preferences.exam_prompts(96, base_tokenizer)
liked = {
    name: [adjectives(p.text, t) for p, t in zip(exam, continued(model, exam, 1, 1))]
    for name, model in (("before", base), ("after", policy))
}
gains = torch.tensor(liked["after"]) - torch.tensor(liked["before"])
error = gains.std() / len(gains) ** 0.5
print(f"{gains.mean():+.1f} ± {error:.1f} adjectives in forty tokens")
print(f"KL divergence {records[-1].kl:.0f} nats per text")
assert gains.mean() > 0

# %% [markdown]
# Behind ± stands one standard error.
# The {term}`KL divergence` says how far the policy has moved: by so much likelier than the model it started from it thinks its own texts, on average.
# Nobody ever told it about adjectives: it has inferred from comparisons what was liked.
# What happens if it is trained on and on, and how a reward model is fooled, is the subject of {doc}`rlhf`.
#
# Here are the three requests, stage by stage.
# The new policy is still a model that goes on with text, so it is asked in plain text, like its base.
#
# ![Three columns: text, instructions, preferences. This page's model, a minute, leads to the one after instructions, some seconds. base-llm, forty minutes, leads to instruct-llm, eighty minutes, and on to aligned-llm, an hour and a half; and also straight to base-llm after preferences, half a minute.](figures/six-models-and-their-origin.svg)
#
# *Which model was made from which, and how long each training took.*

# %% tags=["nbval-ignore-output"]
answers["base-llm after preferences"] = said(policy, base_tokenizer)
answers["aligned-llm"] = said(*load_pretrained("aligned-llm"))
for number, request in enumerate(requests):
    print(request.rpartition("\n\n")[2])
    for stage, texts in answers.items():
        print(f"  {stage:30} {' '.join(texts[number].split())[:90]}")

# %% [markdown]
# Base models go on with the text: `base-llm` ends each question with a full stop and takes the order for the beginning of a tale; this page's model goes on with scraps of stories after all three.
# A few seconds of instructions teach an opening, which then stands before every answer; they teach neither how to find the right answer in the story nor when to stop.
# `instruct-llm` does both here.
# And these preferences, for adjectives, made nobody answer: no comparison ever showed a question.
# Preferences choose among the things that a model says already, so instructions come first, and preferences after them, as in `aligned-llm`, which is `instruct-llm` after an hour and a half of preferences: it follows as many instructions as before, and more of its stories hold together; {doc}`rlhf` measures both, and what it cost.
#
# The sixth stage, a service that many can ask at once, is the last chapter's, {doc}`deployment`; and what lies beyond the model's window is in {doc}`context_window` and {doc}`retrieval`.
#
# ### Explore: what the model knows of the next word
#
# Here is the trained model's own distribution over the next token, after the beginning of a story.
# Lower the temperature and see the likely grow; raise it and see the noise come back; then draw.

# %%
prompt = "Once upon a time there was a"
ids = torch.tensor([[train_tokens[0], *tokenizer.encode(prompt)]])  # the end mark first
with torch.no_grad():
    logits = model(ids)[0, -1]  # (V,)
best = logits.topk(40)
SamplingExplorer(
    [tokenizer.decode([i]) for i in best.indices.tolist()],
    best.values.tolist(),
    prompt=prompt,
)

# %% [markdown]
# Which temperature would you choose to write a story, and which to answer a question that has one right answer?
#
# ### What breaks it
#
# The model has learned *this* text, not language as such.
# Shown a sentence from elsewhere, it pays more than if it had learned nothing.

# %%
foreign = "def price(tokens): return sum(-log(p) for p in tokens)  # in nats"
row = torch.tensor([[0, *tokenizer.encode(foreign)]])
with torch.no_grad():
    foreign_loss = cross_entropy(model(row[:, :-1])[0], row[0, 1:]).item()
assert foreign_loss > log_vocab
print("a line of code costs more than with no model at all:", foreign_loss > log_vocab)

# %% [markdown]
# Confidence is not knowledge: a model that is sure of its tales is sure that nobody writes code.
# What a model has read decides what it can do, which is why the next chapter is about the corpus.

# %% [markdown]
# ## Takeaways
#
# A language model is a function from the tokens so far to a probability for every token that could come next, and pretraining makes the tokens that really came likelier, at every place of every text.
# With random weights its loss is the logarithm of the vocabulary's size.
# No model can go below the entropy of the text, on average over new text; here that floor is known, and a minute of training does most of the way to it.
# What is left of the way is partly long-range, facts that a story names early and needs late, and partly plain spelling; this page does not measure the shares.
# A model knows the text that it has read, and is confidently wrong elsewhere.
# Instructions teach it when to show what it knows, and preferences which of the things it could say are liked.
#
# *In practice*: the stages are the same, the sizes are not.
# GPT-3 had 175 billion parameters and read 300 billion tokens {cite:p}`brown2020`; how to divide a budget between parameters and tokens was measured by {cite:t}`kaplan2020` and corrected by {cite:t}`hoffmann2022`.
# The loop is the one above, spread over thousands of processors.

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("pipeline")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (check): the first loss
#
# A model with a vocabulary of 50,257 tokens is created and asked at once.
# About what is its loss, in nats per token, and in bits?
# Write both down, to one digit after the point, before you unfold the answer.

# %% tags=["hide-cell", "solution"]
first = torch.tensor(50_257.0).log()
print(f"{first:.1f} nats, {first / torch.tensor(2.0).log():.1f} bits per token")

# %% [markdown]
# ### Exercise 2 (derive): a floor by hand
#
# In the two-sentence language above, let *cat* come nine times out of ten, *dog* once, all else as before.
# What is the floor now, per word?
# Is it higher or lower than before, and why?

# %% tags=["hide-cell", "solution"]
p = torch.tensor([0.9, 0.1])
new_floor = -(p * p.log()).sum() / 3  # one uncertain word out of three
assert new_floor < perfect_loss  # what is nearly certain surprises less on average
print(f"{new_floor:.2f} nats/word, before {perfect_loss:.2f}")

# %% [markdown]
# ### Exercise 3 (build): inputs and targets
#
# Write `shift(window)`, which takes a batch of windows of $T + 1$ tokens and returns what the model reads and what it should predict, each of $T$ tokens.
#
# ```python
# def shift(windows):  # (B, T + 1)
#     return ids, targets  # (B, T) each
# ```
#
# Check it with `checks.shift(shift)`.
# Which of the six stages is the first that needs this, and what goes in and comes out of that stage?


# %% tags=["hide-cell", "solution"]
def shift(windows):
    return windows[:, :-1], windows[:, 1:]


checks.shift(shift)
# Pretraining, stage 3: in goes the row of numbers that the tokenizer made, and out comes
# a model that continues text.

# %% [markdown]
# ### Exercise 4 (build): a model that counts
#
# Write `bigram_probs(ids, vocab_size)`, which returns a table of shape $(V, V)$: in row $a$ and column $b$ the share of $b$ among all tokens that follow $a$ in the text.
# Add one to every count first, so that no probability is zero.
# Check it with `checks.bigram_probs(bigram_probs)`, then compare its loss on held-out text with the floor and the transformer.


# %% tags=["hide-cell", "solution"]
def bigram_probs(ids, vocab_size):
    pairs = torch.as_tensor(ids[:-1]) * vocab_size + torch.as_tensor(ids[1:])
    counts = torch.bincount(pairs, minlength=vocab_size**2) + 1.0
    table = counts.reshape(vocab_size, vocab_size)  # (V, V)
    return table / table.sum(dim=1, keepdim=True)


checks.bigram_probs(bigram_probs)
table = bigram_probs(train_tokens, config.vocab_size)
counted = -table[valid_tokens[:-1], valid_tokens[1:]].log().mean().item()
assert loss < baselines["bigram"] < counted  # adding one to all is a crude smoothing

# %% [markdown]
# ### Exercise 5 (explore): temperature and truth
#
# `tales.parse(text)` raises `ValueError` if a text is not a story of the grammar, and the message says at which word the text stops fitting.
# Write twenty stories with `write(model, tokenizer, sampling=Sampling(temperature=t), seed=s)` at each of the temperatures 0.3 and 1.5.
# The error says `at word N`, so N − 1 words fit, and all of them if there is no error: how many on average?
# What does the temperature trade for what?
# A low temperature and preferences both choose among what a model can say: what can preferences do that a temperature cannot, and what takes instructions?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
# The counts depend on the last digits of the training, so they are not compared.
def fitting_words(text):
    try:
        return len(tales.parse(text).text.split())
    except ValueError as error:
        return int(re.search(r"at word (\d+)", str(error))[1]) - 1


fit = {}
for temperature in (0.3, 1.5):
    texts = [
        write(model, tokenizer, sampling=Sampling(temperature=temperature), seed=s)
        for s in range(20)
    ]
    fit[temperature] = sum(map(fitting_words, texts)) / 20
print({t: f"{n:.0f} words fit" for t, n in fit.items()})
assert fit[0.3] > 2 * fit[1.5]  # safer choices, more words that fit
# A low temperature favours what is likely already, preferences favour what is liked,
# also where it was unlikely. To answer questions a model has to be shown answers.

# %% [markdown]
# ## Sources
#
# The loss and its floor are Shannon's {cite:p}`shannon1948`, who also let people guess the next letter of a text to measure the entropy of English {cite:p}`shannon1951`.
# The transformer is from {cite:t}`vaswani2017`; training one on next-token prediction and then writing with it, as here, is the recipe of GPT-2 {cite:p}`radford2019`.
