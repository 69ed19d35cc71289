# %% [markdown]
# (pipeline)=
# # The whole pipeline, once
#
# Raw text goes in; out comes a model that writes, answers, and has learned what people prefer.
# There are six stages, and this page runs the first five in miniature.
#
# **You will be able to**
#
# - name the stages of a language model's life, and what goes in and comes out of each;
# - say what a model that has learned nothing does, and give its loss in nats and in bits;
# - train a small transformer from scratch, judge it against simple models and a floor, and explain why that floor is not zero;
# - say what instructions and preferences change in a model, and what they do not.
#
# **You need** Python, and to know what a gradient is.
# The [Glossary](glossary.md) explains the words, and [Notation](notation.md) the symbols.
#
# **Takes** about 40 minutes to read with the code.
#
# **Runs in** about two and a half minutes on one processor core.

# %% [markdown]
# ## Setup
#
# Run this cell and read on: each name is explained where it is first used.

# %% tags=["hide-input"]
import textwrap
from itertools import islice

import torch
from torch.nn.functional import cross_entropy

from llmcourse import plotting
from llmcourse.model.generation import Sampling, write
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text import corpus, ngrams, tales
from llmcourse.text.documents import tales as tale_documents
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import learning_rate
from llmcourse.training.evaluation import document_nll, text_loss
from llmcourse.training.optimizers import make_optimizer
from llmcourse.training.pipeline import token_array
from llmcourse.training.presets import SMALL
from llmcourse.training.pretraining import pretrain
from llmcourse.training.windows import Windows

plotting.use_course_style()
_ = torch.set_num_threads(1)


def show(text):  # in lines that fit the page
    print(textwrap.fill(text, 80), end="\n\n")


# %% [markdown]
# ## The problem
#
# A {term}`transformer` is the kind of neural network that most of this course is about.
# Even with random weights it is a complete language model.
# It reads {term}`token`s, pieces of text, and gives a probability to every token that could come next.
# Here is one continuing a sentence.
# Its {term}`tokenizer`, the program that cuts text into tokens, has only the 256 bytes and a mark between texts, so any text will do to train it.
# Rounding can change what it writes, so your output may differ.

# %% tags=["nbval-ignore-output"]
bytes_only = BPETokenizer.train(["any text"], 257, ["<|endoftext|>"])  # 256 + 1
sizes = TransformerConfig(vocab_size=257)
newborn = Transformer(sizes, torch.Generator().manual_seed(0))  # random weights
start = "Once upon a time there was a "
noise = write(newborn, bytes_only, start, max_new_tokens=40)
print(repr(noise))  # repr shows unprintable characters as codes

# %% [markdown]
# That is noise.
# The model knows no words and no spelling; it doesn't even know which bytes are letters.
# The *machine* is complete: it has all the parts that large models have.
# What it lacks is what text could teach it, and a way to learn from text.
# The stages on this page turn this noise into a model that writes.

# %% [markdown]
# ## By hand
#
# Take a language of two equally likely sentences: *the cat sat* and *the dog ran*.
# It has five words.
# A model that has learned nothing gives each of them the probability $1/5$ at every position.
# For each word that comes, it pays $-\ln \frac15 = \ln 5$: this is the **loss**, in {term}`nat`s.
# Divide by $\ln 2$ to get bits: one nat is 1.44 bits.
#
# A model that knows the language perfectly pays less, but more than zero.
#
# ![The two sentences as a tree. After the comes cat or dog, each with probability 1/2; sat always follows cat, and ran always follows dog. The perfect model has the losses 0, ln 2 and 0, on average 0.23; the untrained one has ln 5 at each word, on average 1.61.](figures/two-sentences-as-a-tree.svg)
#
# *Only the second word is uncertain: `the` always comes first, and the second word decides between `sat` and `ran`.*
#
# That word costs $\ln 2$ and the others nothing: on average $\frac13 \ln 2$ per word.
# No model can do better, since nothing before the second word tells you which one it will be.

# %%
newborn_loss = -torch.tensor([1 / 5, 1 / 5, 1 / 5]).log().mean()
perfect_loss = -torch.tensor([1, 1 / 2, 1]).log().mean()
print(f"nothing learned {newborn_loss:.2f}, perfect {perfect_loss:.2f} nats/word")

# %% [markdown]
# Two facts about this toy hold for every model in this book.
# With small random weights, the loss starts near the logarithm of the size of the {term}`vocabulary`, the set of tokens that a model knows.
# At best it ends at a floor that is not zero: the {term}`entropy` of the text.

# %% [markdown]
# ## The idea
#
# Given all the tokens so far, a language model gives a probability to each token that could come next.
# Training lowers the mean loss over the tokens that actually came, the **{term}`cross-entropy`**:
#
# $$\mathcal{L}(\theta) = -\frac{1}{T} \sum_{t=1}^{T} \ln p_\theta(x_{t+1} \mid x_1, \dots, x_t) \;\ge\; H \quad \text{on average.}$$
#
# | Symbol | Meaning | Shape | Name in code |
# |---|---|---|---|
# | $x_1, \dots, x_T$ | the tokens of a text, as numbers | $T$ | `ids` |
# | $x_2, \dots, x_{T+1}$ | at every position, the token that comes next | $T$ | `targets` |
# | $\theta$, $V$ | the model's weights; how many tokens it knows | – | `model.parameters()`, `vocab_size` |
# | $p_\theta$ | the model's probabilities: its scores for the $V$ tokens, made positive and divided by their sum (softmax) | $T \times V$ | `logits.softmax(-1)` |
# | $\mathcal{L}$ | mean loss over the tokens that came, in nats per token | one number | `loss` |
# | $H$ | entropy of the source, in nats per token: the floor | one number | `floor` |
#
# A short text may by luck cost less than $H$ per token; the mean over many new texts cannot.
# Nobody knows $H$ for text from the web.
# In this book we know it, because a grammar writes the stories: rules that say what can follow what, and how often.
# They give the exact probability of every story, and with it the floor.
#
# A model's life has six stages; each takes what an earlier stage made, usually the one just before it.
#
# | Stage | In | Out | Chapter |
# |---|---|---|---|
# | 1. corpus | raw text | clean documents, split for training and measuring | [The corpus](corpus.ipynb) |
# | 2. tokenization | documents | one long row of numbers | [Tokenization](tokenization.ipynb) |
# | 3. pretraining | the numbers | a model that continues text | [Pretraining](pretraining.ipynb) |
# | 4. fine-tuning | that model, instructions | a model that answers | [Fine-tuning](fine_tuning.ipynb), [Instruction tuning](instruction_tuning.ipynb) |
# | 5. RLHF (reinforcement learning from human feedback) | that model, comparisons | a model that answers as people prefer | [Learning from preferences: RLHF](rlhf.ipynb) |
# | 6. deployment | any of these | a service | [Deployment](deployment.ipynb) |

# %% [markdown]
# ## In code
#
# ### Stage 1: a corpus
#
# The raw text is a few thousand short stories, the {term}`tales`.
# `SMALL` is the recipe for this page's model: the number of stories, the model's sizes and its training.

# %%
documents = list(tale_documents(SMALL.n_stories, seed=SMALL.seed))
show(documents[0].text)

# %% [markdown]
# Before anything is learned from a corpus, it is cleaned, filtered and stripped of copies.
# A web crawl finds many pages twice; to imitate that, we add three copies.
# The report says what each step removed.
# Then some documents are held out, so we can measure on text that the model has never seen.

# %%
crawled = documents + documents[:3]
kept, report = corpus.build_corpus(crawled)
print(report)

# %%
splits = corpus.split(kept)
for name, part in splits.items():
    print(f"{name:10}{len(part):6,} documents")

# %% [markdown]
# The copies are gone (3 documents of 6,003, which round to 0.0 %), and in these clean stories there was nothing else to remove.
# [The corpus](corpus.ipynb) shows what real text loses here.

# %% [markdown]
# ### Stage 2: numbers
#
# From the training documents, the tokenizer learns which pieces of text deserve a number of their own.

# %%
tokenizer = BPETokenizer.train(
    (document.text for document in splits["train"]),
    vocab_size=SMALL.model.vocab_size,
    special_tokens=["<|endoftext|>"],
)
sentence = documents[0].text.partition(".")[0]
show(" | ".join(tokenizer.tokens(sentence)))
print(f"{tokenizer.vocab_size:,} tokens in the vocabulary")

# %% [markdown]
# Most words of this small world have become a single token, together with the space before them.
# Now all the documents become one row of numbers, with the mark `<|endoftext|>`, number 0, before the first and after each.

# %%
train_tokens = token_array(splits["train"], tokenizer)
valid_tokens = token_array(splits["validation"], tokenizer)
print(f"{len(train_tokens):,} tokens to learn from, {len(valid_tokens):,} held out")
print(train_tokens[:12].tolist())

# %% [markdown]
# ### Stage 3: a model, and how it learns
#
# The model is a small transformer, of the same kind as today's large ones.
# Its weights are random, except that part of the second of its two layers starts out copying what it has read; [Pretraining](pretraining.ipynb) gives a likely reason why this helps.

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
print(f"log V = {log_vocab:.2f}, the model's loss {untrained_loss:.1f} nats/token")

# %% tags=["remove-cell"]
assert abs(untrained_loss - log_vocab) < 0.2

# %% [markdown]
# One **step** of learning takes a **batch** of windows, which are stretches of the text.
# Here each window is one story, cut after 288 tokens if it is longer, and a batch is a single window.
# The model guesses the next token at every position.
# Then each weight moves a little in the direction that makes the true tokens more probable.
#
# In the loop below, `make_optimizer` decides how gradients move the weights, and `learning_rate` decides how far.
# The token embeddings, a row of weights for each token, have a higher `speed`: they learn four times as fast.
# Clipping shortens a gradient that is too long.
# In the comments, $B$ is the number of windows in a batch.
# `flatten` puts the positions of all windows into one list, as `cross_entropy` expects.
#
# ![A window of nine tokens: the mark, C, arl, a comma, a, proud, boy, a comma, lived, with their ids. Below it the ids, the first eight, and the targets, the last eight, shifted one place to the left. An arrow leads from each id to the target below it, the next token of the window.](figures/targets-are-ids-shifted.svg)
#
# *One window gives a guess at every position: the target is always the next token.*


# %%
def train(model, batches, config):
    optimizer, losses = make_optimizer(model, config), []
    for step, windows in enumerate(batches):
        ids, targets = windows[:, :-1], windows[:, 1:]  # (B, T) each
        logits = model(ids)  # (B, T, V)
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config) * group.get("speed", 1)
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
# The package's `pretrain` is this loop, with measurements in between.
# We take the first four steps of this page's training by hand, on a twin with the same first weights.
# Further down, the real training must begin with the same four losses.

# %% tags=["nbval-ignore-output"]
settings = SMALL.pretraining
windows = Windows(train_tokens, settings.context_length, start_token=0)
batches = windows.shuffled(
    settings.batch_size, torch.Generator().manual_seed(SMALL.seed)
)
first_losses = train(SMALL.new_model(), islice(batches, 4), settings)
print(", ".join(f"{loss:.1f}" for loss in first_losses), "nats/token")

# %% [markdown]
# The loss hardly moves yet: the learning rate is still rising, over the first hundred steps.
#
# ![Seven boxes from top to bottom, joined by the steps between them. Raw text of 6,000 stories; documents, 5,403 of them for training; one row of 1,106,583 ids; ids of shape B by T; the stream, B by T by 96; logits, B by T by 2,048; the loss, one number.](figures/from-stories-to-a-loss.svg)
#
# *Stages 1 to 3 so far, with the size of each step's output.
# The stream is what the layers read and add to: one vector for each id.*
#
# ## Experiment
#
# *Predict*: the loss starts at $\ln V$.
# After a minute of learning on one processor core, how much of the way to the floor will it have come: a quarter, half, nearly all?
#
# :::{dropdown} Answer
# About nine tenths; the number is printed after the training below.
# The last tenth is the hard part.
# :::
#
# First we need the floor, estimated from the exact cost of a hundred held-out stories.
# Two simple models give levels for comparison.
# The **unigram** model knows only how frequent each token is; the **bigram** model also sees the token before.

# %%
exact_costs = [-tales.log_prob(document.text) for document in held_out]  # in nats
floor = sum(exact_costs) / (len(token_array(held_out, tokenizer)) - 1)
print(f"floor {floor:.2f} nats/token")

# %% [markdown]
# The simple models count tokens, and pairs of tokens, in the training text.
# (A pair that never occurred there gets a small probability, too.)

# %%
rows, held_out_rows = [train_tokens.tolist()], [valid_tokens.tolist()]
baselines = {}
for name, n in (("unigram", 1), ("bigram", 2)):
    counts = ngrams.NGramModel(rows, n, config.vocab_size)
    baselines[name] = counts.loss(held_out_rows)
for name, level in {"log V": log_vocab, **baselines, "floor": floor}.items():
    print(f"{name:7} {level:.2f} nats/token")

# %% tags=["remove-cell"]
assert floor < baselines["bigram"] < baselines["unigram"] < log_vocab

# %% [markdown]
# ![A line of losses in nats per token. log V, 7.62, knows nothing; unigram, 6.09, how frequent a token is; bigram, 2.78, also the token before; the floor, 0.45, the grammar. A question mark hangs over the stretch between bigram and floor.](figures/levels-of-loss.svg)
#
# *Below each level is what a model with that loss knows.
# Where on the orange stretch will the transformer end up?*
#
# Now the training, the slowest cell on this page.
# The last digits of a run differ between processors, so your output may differ a little; the assertions still hold.

# %% tags=["nbval-ignore-output"]
history = pretrain(
    model,
    train_tokens,
    valid_tokens,
    settings,
    torch.Generator().manual_seed(SMALL.seed),
    start_token=0,  # each window begins with the mark
)

# %% [markdown]
# This is how much of the way from $\ln V$ to the floor is done.

# %% tags=["nbval-ignore-output"]
loss = text_loss(model, tokenizer, texts).loss
done = (log_vocab - loss) / (log_vocab - floor)
print(f"loss {loss:.2f}, floor {floor:.2f} nats/token: {done:.0%} of the way is done")

# %% tags=["hide-input"]
began = torch.tensor([update.loss for update in history.updates[:4]])
torch.testing.assert_close(began, torch.tensor(first_losses), rtol=1e-3, atol=1e-3)
assert floor < loss < baselines["bigram"] < baselines["unigram"]
assert done > 0.8
assert loss > 1.5 * floor
assert settings.steps < len(splits["train"])  # one window a step
assert sum(u.loss for u in history.updates[80:100]) / 20 < baselines["unigram"]
assert all(e.loss < baselines["bigram"] for e in history.evaluations if e.step >= 800)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss over tokens seen, on training batches and on held-out text. Both start at log V, fall steeply past the level of the unigram model and after a fifth of the training past that of the bigram model, then ever more slowly, and end well above the floor. After its first points the held-out curve runs through the middle of the noisy training curve. A second panel shows the loss above the floor on a logarithmic axis: it falls from 7 to 0.7, and flattens near the end."}}
per_step = round(len(train_tokens) / len(splits["train"]))  # a story
levels = {"log V": log_vocab, **baselines, "floor": floor}
plotting.plot_training(history.curves(per_step), levels)

# %% [markdown]
# *One run. Left, the loss and the levels for comparison; right, how far the loss is above the floor, on a logarithmic axis.*
#
# Most of the way is done, but the hard part is left: the loss is still well above the floor.
# The model passes the unigram model in the first fiftieth of the training, and the bigram model in the first fifth.
# In the long remainder, what is left to learn is what the token before does not tell: the spelling of rarer words, whole sentences, and facts from further back.
#
# The dashed curve is measured on thirty-two held-out stories and the printed loss on a hundred, so their final values differ a little.
# (The floor is from the same hundred, the levels of the simple models from all 290.)
# The two curves run together because no story is read twice: every training story is new to the model as well.
#
# What does the model write now?
# Its {term}`prompt`, the text that it is given to continue, is only the mark between documents.
# The **{term}`temperature`** divides the scores before the softmax; below 1 it makes probable tokens even more probable.

# %% tags=["nbval-ignore-output"]
stories = [
    write(model, tokenizer, sampling=Sampling(temperature=0.5), seed=seed)
    for seed in range(3)
]
for story in stories:
    show(story)

# %% tags=["remove-cell"]
assert all(len(story.split()) > 20 for story in stories)

# %% [markdown]
# They begin like real tales, and many sentences are right.
# Look for what a minute of training was too short to teach.
# Words turn up where they make no sense, a name or a pronoun changes halfway through, and numbers do not add up.
# The last two depend on facts from earlier in the story; [The corpus](corpus.ipynb) shows how the grammar plants them.
#
# ### A longer run: base-llm
#
# The same `pretrain` function made `base-llm`, with a larger model, more stories, more time and another optimizer.
# It comes with the package, and many later chapters look inside it.
# Its tokenizer is different, so we compare the two models by how many nats above the floor a whole story costs them.

# %% tags=["nbval-ignore-output"]
from llmcourse.model.folders import load_pretrained

base, base_tokenizer = load_pretrained("base-llm")
unread = [story.text for story in tales.generate(100, seed=1)]  # new to both
exact = -sum(tales.log_prob(text) for text in unread) / len(unread)
print(f"floor {exact:.1f} nats per story")


# %% tags=["nbval-ignore-output"]
def above_floor(model, tokenizer):
    """Return how many nats above the floor an unread story costs, on average."""
    costs, _ = document_nll(model, tokenizer, unread)
    return sum(costs) / len(unread) - exact


ours, longer = above_floor(model, tokenizer), above_floor(base, base_tokenizer)
print(f"this page's model {ours:6.3g} nats per story above the floor")
print(f"base-llm          {longer:6.3g} nats per story above the floor")

# %% tags=["remove-cell"]
assert 0 < longer < ours / 3

# %% [markdown]
# Here is a story by `base-llm`.

# %% tags=["nbval-ignore-output"]
show(write(base, base_tokenizer, sampling=Sampling(temperature=0.5), seed=0))

# %% [markdown]
# [Pretraining](pretraining.ipynb) measures how far it has come, and how many of its stories are valid.
#
# ### Stage 4: instructions
#
# A model that has only learned to continue text does not reliably answer questions.
# So we train it on conversations, in which new marks say who is speaking: this is **{term}`instruction tuning`**.
# Here only the answers count towards the loss.
#
# This stage and the next one are a preview.
# Each new word gets half a sentence here and a chapter later, so read for the order of things, not for the settings.
# What only sets things up is folded, beginning with the imports.

# %% tags=["hide-input"]
import copy
from tempfile import TemporaryDirectory

from llmcourse.alignment import preferences, rollouts
from llmcourse.alignment.gold_reward import reward_parts
from llmcourse.alignment.grpo import GRPOConfig, grpo
from llmcourse.alignment.reward_model import (
    RewardConfig,
    RewardModel,
    text_reward,
    train_reward_model,
)
from llmcourse.finetuning.answering import answer_batch
from llmcourse.finetuning.finetuning import FinetuningConfig
from llmcourse.finetuning.instruction_tuning import InstructConfig, run_recipe
from llmcourse.model.folders import save_pretrained

# %% [markdown]
# This page's model now gets a few seconds of instructions: 240 conversations, each about a story.
# Each begins with a question of one of two kinds, *who* or *what*, and goes on with up to eight more, of these and other kinds.
# The recipe (folded) says with which model to begin, what to ask, and how much; [Instruction tuning](instruction_tuning.ipynb) explains how such conversations are written and learned.

# %% tags=["hide-input"]
finetuning = FinetuningConfig(
    steps=60, warmup_steps=5, learning_rate=4e-3, embedding_speed=4,
    context_length=384, eval_interval=60, eval_examples=16,
)  # fmt: skip
folder = TemporaryDirectory()
save_pretrained(model, tokenizer, folder.name)

recipe = InstructConfig(
    base=folder.name,  # the model to begin with
    kinds=("who", "what"),  # of the first question
    n_examples=240,
    most_follow_ups=8,  # more questions about the same story
    max_tokens=370,  # of a conversation
    n_stories=0,  # plain stories mixed in
    n_held_out=16,  # conversations to measure with
    finetuning=finetuning,
)

# %% tags=["nbval-ignore-output"]
tuned = run_recipe(recipe)  # trains a copy of the model
before, after = [evaluation.loss for evaluation in tuned.history.evaluations]
print(f"held-out answers: {before:.1f}, then {after:.1f} nats/token")
folder.cleanup()

# %% tags=["remove-cell"]
assert after < before / 2 and before > log_vocab

# %% [markdown]
# Before the instructions, the loss on answers is above $\ln V$, the loss of knowing nothing.
# The model has never seen the new marks, and after a story it expects anything but an answer.
# `instruct-llm`, which comes with the course, was made from `base-llm` by a much longer tuning ([Instruction tuning](instruction_tuning.ipynb)).
# In every second one of its conversations all tokens count, not just the answers, and plain stories are mixed in.
#
# From here on, every model gets the same three requests.
# Two are about a tale of the brave young boy Milo and his funny mother; the third is an order.
# Models without the new marks get the requests as plain text.
# The answers are collected and shown together at the end of stage 5.

# %%
[story] = tales.generate(1, seed=9)
hero, relative = story.facts["hero"], story.facts["relative"]
requests = [
    f"{story.text}\n\nWho is the hero of this story?",
    f"{story.text}\n\nTell me who {hero} lives with.",
    "Write a story about a girl named Mia who is afraid of thunder.",
]
print(f"hero: {hero}, relative: {relative}")

# %% [markdown]
# Each answer has at most 24 tokens.


# %%
def answer_requests(model, tokenizer):
    return answer_batch(model, tokenizer, requests, max_new_tokens=[24] * 3)


# %% tags=["nbval-ignore-output"]
small, _ = load_pretrained("base-llm-small")  # it has base-llm's tokenizer
answers = {
    "this page's model": answer_requests(model, tokenizer),
    "… after instructions": answer_requests(tuned.model, tuned.tokenizer),
    "base-llm": answer_requests(base, base_tokenizer),
    "instruct-llm": answer_requests(*load_pretrained("instruct-llm")),
}

# %% tags=["remove-cell"]
assert hero in answers["instruct-llm"][0] and relative in answers["instruct-llm"][1]

# %% [markdown]
# ### Stage 5: preferences
#
# So far the model has only been shown good answers; nothing has told it which of two is *better*.
# So people, called **{term}`annotators <annotator>`**, are asked which of two answers they prefer.
# A **{term}`reward model`**, a second model that reads a text and gives it one number, learns to predict their choice.
# The model that writes, now called the **{term}`policy`**, is then trained to earn a high number, its reward.
# [Learning from preferences: RLHF](rlhf.ipynb) takes all this apart.
#
# Here it all takes half a minute.
# The policy continues a story from its first words.
# The people are replaced as well: our annotator is a program that prefers the text with more distinct adjectives.
# It stops counting at the first word that could not come there in any tale.
# If the counts differ, it still chooses the text with fewer adjectives in 15 of 100 cases on average, most often where the counts are close; if they are equal, it tosses a coin.
# Neither the reward model nor the policy is told any of this.
# This page's own model will not do here, because its stories soon stop being tales.
# We start from `base-llm-small`, which is quicker to train: it has half of `base-llm`'s layers and has read about a fifth as many stories.
# It has had no instructions, so stage 4 is skipped here; real models go through it first.
#
# ![Two rows. First: base-llm-small writes 4 texts for each of 100 beginnings, an annotator that errs in 15 of 100 cases on average prefers one of two texts, and 400 pairs go to the reward model. Then: the policy sends texts to the reward model and gets rewards back; a dashed line ties it to base-llm-small, with a penalty for moving away.](figures/preferences-in-two-steps.svg)
#
# *The annotator is asked only in the first step; in the second, the reward model takes its place.*
#
# Two short functions, folded: one counts adjectives as the annotator does, the other lets a model continue beginnings.


# %% tags=["hide-input"]
def adjectives(prompt, text):
    """Return how many distinct adjectives the annotator counts, from the beginning on."""
    share = reward_parts(prompt, text).detail  # the count / 14, at most 1
    return 14 * share


def continuations(model, prompts, n, seed):
    """Return n texts of 40 tokens for each prompt."""
    generator = torch.Generator().manual_seed(seed)
    repeated = [prompt for prompt in prompts for _ in range(n)]
    return rollouts.sample_rollouts(
        model, repeated, 40, tokenizer=base_tokenizer, stop=[0], generator=generator
    ).texts


# %% [markdown]
# First come the comparisons: the model writes four texts for each of a hundred beginnings, and the annotator is shown four pairs for each beginning.

# %%
prompts = preferences.make_prompts(100, 0, base_tokenizer)
texts = continuations(small, prompts, 4, seed=0)
candidates = [(p.text, texts[4 * i : 4 * i + 4]) for i, p in enumerate(prompts)]
print(f"{len(texts)} texts for {len(candidates)} beginnings")

# %% [markdown]
# The annotator chooses one of each pair.

# %%
pairs = preferences.sample_pairs(
    candidates,
    torch.Generator().manual_seed(0),
    reward=adjectives,
    agreement=0.85,  # how often the annotator chooses the higher reward
    pairs_per_prompt=4,
)
print(f"{len(pairs)} comparisons")

# %% [markdown]
# The reward model is a copy of `base-llm-small` with a new last layer, its *head*, that gives each text a single number.
# It learns from the comparisons in twenty-five steps.

# %%
rows = preferences.tokenize_pairs(pairs, base_tokenizer)
reward_model = RewardModel(small, torch.Generator().manual_seed(0), "mean")
reward_config = RewardConfig(
    steps=25, learning_rate=7e-4, warmup_steps=3, eval_interval=25
)
shuffle = torch.Generator().manual_seed(0)
unused = rows[:8]  # pairs to measure with; here nobody looks at the result
train_reward_model(reward_model, rows, unused, reward_config, shuffle)
reward = text_reward(reward_model.eval(), base_tokenizer)

# %% [markdown]
# Then the policy, another copy of `base-llm-small`, learns from the rewards.
# The method is **{term}`GRPO`** ([Learning from preferences: RLHF](rlhf.ipynb)): write several texts for each beginning, and make the ones that earn more than the others more probable.
# A penalty grows with the policy's distance from the model that it started as, the {term}`KL divergence`.
# `kl_coef` says what a nat of it costs, in standard deviations of the rewards for one beginning.
# Without the penalty, a policy may end in nonsense that the reward model likes ([Reward hacking and mode collapse](reward_hacking.ipynb)).

# %%
policy = copy.deepcopy(small)
grpo_config = GRPOConfig(
    iterations=14, prompts_per_iteration=8, epochs=1, learning_rate=5e-4,
    warmup_updates=4, max_new_tokens=40, kl_coef=0.1,
)  # fmt: skip
generator = torch.Generator().manual_seed(0)
_ = grpo(
    policy, prompts, reward, grpo_config, generator, tokenizer=base_tokenizer, stop=[0]
)

# %% [markdown]
# Has it learned what the annotator likes?
# The original model and the trained one continue ninety-six new beginnings, with the same random draws.
# (The annotator reads the beginning too, so its adjectives, about two, are in every count.)

# %% tags=["nbval-ignore-output"]
new_prompts = preferences.exam_prompts(96, base_tokenizer)


def count_adjectives(model):
    texts = continuations(model, new_prompts, 1, seed=1)
    return torch.tensor([adjectives(p.text, t) for p, t in zip(new_prompts, texts)])


before, after = count_adjectives(small), count_adjectives(policy)
print(f"adjectives, with the beginning's: {before.mean():.1f}, then {after.mean():.1f}")

# %% tags=["nbval-ignore-output"]
gains = after - before
error = gains.std() / len(gains) ** 0.5
print(f"gain {gains.mean():+.1f} ± {error:.1f} adjectives")

# %% [markdown]
# (The number after ± is one standard error: about how far the mean would typically change with other beginnings.
# The training itself was run only once.)
#
# Is there a simpler way?
# We let the original model write four texts for each beginning, and keep the one that the reward model likes best.

# %% tags=["nbval-ignore-output"]
four = continuations(small, new_prompts, 4, seed=2)
repeated = [prompt.text for prompt in new_prompts for _ in range(4)]
rewards = reward(repeated, four).view(-1, 4)
counts = torch.tensor(list(map(adjectives, repeated, four))).view(-1, 4)
best_of_four = counts.gather(1, rewards.argmax(dim=1, keepdim=True)).mean()
print(f"the best of four: {best_of_four:.1f} adjectives")

# %% [markdown]
# These texts also show how good the reward model is: of two with different numbers of adjectives, how often does it prefer the one with more?

# %% tags=["nbval-ignore-output"]
one, other = torch.combinations(torch.arange(4)).T
agrees = (rewards[:, one] - rewards[:, other]) * (counts[:, one] - counts[:, other])
accuracy = (agrees[agrees != 0] > 0).float().mean()
print(f"the reward model is right about {accuracy:.0%} of new pairs")

# %% tags=["remove-cell"]
assert gains.mean() > 0
assert abs(best_of_four - after.mean()) < 0.5
assert 0.6 < accuracy < 0.95

# %% [markdown]
# The policy was never told about adjectives: comparisons taught it what is liked.
# The best of four gets as far without training a policy, but for each text it writes four.
# [Learning from preferences: RLHF](rlhf.ipynb) and [Reward hacking and mode collapse](reward_hacking.ipynb) compare more such methods.
# They also ask what happens if this goes on and on, and how a reward model is fooled.
#
# Here are the answers to the three requests, stage by stage.
# The new policy continues text, like its base, so it is asked in plain text.
#
# ![Three columns: text, instructions, preferences. Arrows lead from this page's model to the same model after instructions; from base-llm to instruct-llm, and on to aligned-llm; from base-llm-small straight to base-llm-small after preferences.](figures/models-and-their-origin.svg)
#
# *Which model was made from which.
# base-llm, base-llm-small, instruct-llm and aligned-llm come with the course.*
#
# **What to expect.**
# Most of these answers are nonsense, because most of these models had too little training, or no instructions.
# Compare what each stage adds.
#
# - Three of the six have never been asked anything: this page's model, `base-llm`, and `base-llm-small` after preferences.
#   They only go on with the text.
#   Some write a full stop and end it; a small model may go on with words that do not exist.
# - This page's model after instructions has had a minute of training and a few seconds of questions.
#   That is enough for the form of an answer, not for a right one.
# - `instruct-llm` and `aligned-llm` had much longer training, so look to them for answers.

# %% tags=["nbval-ignore-output"]
answers["base-llm-small after preferences"] = answer_requests(policy, base_tokenizer)
answers["aligned-llm"] = answer_requests(*load_pretrained("aligned-llm"))
for number, request in enumerate(requests):
    print(request.rpartition("\n\n")[2])
    for stage, texts in answers.items():
        one_line = " ".join(texts[number].split())
        print(f"  {stage:33} {one_line[:48]}")

# %% [markdown]
# None of the three models without instructions answers.
# A few seconds of instructions teach this page's model the form of an answer, and to stop after it, but not to find the right one in the story, or to carry out an order.
# `instruct-llm` and `aligned-llm` find both answers, stop after them, and begin a story about a girl, as ordered.
# (The lines are too short to show whether the thunder comes.)
# *Miaia*, in our run, is a slip: now and then, even these two get a word wrong.
# The preference for adjectives did not teach the policy to answer: no comparison ever showed a question about a story and its answer.
#
# Preferences choose among the things that a model already says.
# So instructions come first and preferences second, as with `aligned-llm`; [Reward hacking and mode collapse](reward_hacking.ipynb) measures what that model gained, and at what cost.
#
# The sixth stage is a service that many people can ask at once: [Deployment](deployment.ipynb).
# [The context window](context_window.ipynb) and [Documents longer than the window](retrieval.ipynb) show how a model reaches text beyond what it can read at once.
#
# ### Explore: what the model knows about the next word
#
# Here are the forty tokens that this page's model finds most probable after the beginning of a story.
# Lower the temperature and the likely ones gain; raise it and they all become more alike; then draw one.
# (Top-k and top-p leave out the least probable tokens; [Pretraining](pretraining.ipynb) explains them.)

# %%
prompt = "Once upon a time there was a"
ids = torch.tensor([[train_tokens[0], *tokenizer.encode(prompt)]])  # the end mark first
with torch.no_grad():
    logits = model(ids)[0, -1]  # (V,)
best = logits.topk(40)
print(f"{len(best.values)} of {len(logits):,} tokens")

# %%
from llmcourse.widgets.sampling import SamplingExplorer

SamplingExplorer(
    [tokenizer.decode([i]) for i in best.indices.tolist()],
    best.values.tolist(),
    prompt=prompt,
)

# %% [markdown]
# *Question*: which temperature would you choose to write a story, and which to answer a question that has one right answer?
#
# :::{dropdown} Answer
# Where only one answer is right, a low one, or always the most probable token: every other draw is a risk.
# For stories a middle one, say 0.5 to 1: lower makes them all alike, higher makes them fall apart.
# :::
#
# `base-llm` itself runs in the page, and draws from all the tokens that it knows.
# At temperature 3, much of the probability goes to tokens that are not among the forty most probable.
#
# :::{div} llmcourse-writing
# On the course's site, `base-llm` writes on here from *Once upon a time there was a*, or from words of your own.
# :::
#
# ### What breaks it
#
# The model has learned *this* text, not language in general.
# On a line of code it does worse than a model that has learned nothing.

# %% tags=["nbval-ignore-output"]
foreign = "def price(tokens): return sum(-log(p) for p in tokens)  # in nats"
row = torch.tensor([[0, *tokenizer.encode(foreign)]])
with torch.no_grad():
    foreign_loss = cross_entropy(model(row[:, :-1])[0], row[0, 1:]).item()
print(f"a line of code: {foreign_loss:.0f} nats/token")
print(f"knowing nothing: {log_vocab:.1f} nats/token")

# %% tags=["remove-cell"]
assert foreign_loss > log_vocab

# %% [markdown]
# A model that is sure of its tales is also sure that no code will come: confidence is not knowledge.
# What a model has read decides what it can do, so there is a chapter on [the corpus](corpus.ipynb).

# %% [markdown]
# ## Takeaways
#
# A language model is a function from the tokens so far to a probability for every next token.
# Pretraining raises the probability of the tokens that actually came, at every position of every text.
# With small random weights, the loss starts near the logarithm of the vocabulary's size.
# On new text, no model can have a mean loss below the entropy of the source.
# Here that floor is known, and a minute of training goes most of the way to it.
# The model's stories show what it still lacks: some spelling and sense, and facts that a story names early and needs late.
# A model knows the text that it has read, and is confidently wrong elsewhere.
# Instructions teach it to answer; preferences teach it which of the things it could say people like.
#
# *In practice*: the sizes are far larger, and many models have one more stage: they learn from rewards that a program checks ([Reasoning: rewards that can be checked](reasoning.ipynb)).
# GPT-3 had 175 billion parameters and read 300 billion tokens {cite:p}`brown2020`.
# How best to divide a budget between parameters and tokens was measured by {cite:t}`kaplan2020` and corrected by {cite:t}`hoffmann2022`.
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

# %% tags=["hide-input"]
import re
from dataclasses import replace

from llmcourse.checks import pipeline as checks
from llmcourse.text.documents import python_docs

# %% [markdown]
# ### Exercise 1 (check): the first loss ★
#
# A new model with a vocabulary of 50,257 tokens has learned nothing yet.
# Roughly what is its loss, in nats per token, and in bits?
# Write both down, to one decimal, before you unfold the answer.

# %% tags=["hide-cell", "solution"]
first = torch.tensor(50_257.0).log()
print(f"{first:.1f} nats, {first / torch.tensor(2.0).log():.1f} bits per token")

# %% [markdown]
# ### Exercise 2 (derive): a floor by hand ★★
#
# In the two-sentence language above, let *cat* come nine times out of ten and *dog* once; everything else stays the same.
# What is the floor per word now?
# Is it higher or lower than before, and why?

# %% tags=["hide-cell", "solution"]
p = torch.tensor([0.9, 0.1])
new_floor = -(p * p.log()).sum() / 3  # one uncertain word out of three
assert new_floor < perfect_loss  # what is nearly certain surprises less on average
print(f"{new_floor:.2f} nats/word, before {perfect_loss:.2f}")

# %% [markdown]
# ### Exercise 3 (build): inputs and targets ★
#
# Write `shift(windows)`, which takes a batch of windows of $T + 1$ tokens and returns what the model reads and what it should predict, each of $T$ tokens.
#
# ```python
# def shift(windows):  # (B, T + 1)
#     return ids, targets  # (B, T) each
# ```
#
# Check it with `checks.shift(shift)`.
# Which of the six stages is the first to need this, what goes into that stage, and what comes out of it?


# %% tags=["hide-cell", "solution"]
def shift(windows):
    return windows[:, :-1], windows[:, 1:]


checks.shift(shift)
# Pretraining, stage 3: in goes the row of numbers that the tokenizer made, and out comes
# a model that continues text.

# %% [markdown]
# ### Exercise 4 (build): a model that counts ★★
#
# Write `bigram_probs(ids, vocab_size)`, which returns a table of shape $(V, V)$.
# Row $a$, column $b$ holds the share of $b$ among all the tokens that follow $a$ in the text.
# (`ids` may be a tensor or a NumPy array, as `train_tokens` is; `torch.as_tensor(ids)` takes both.)
# Add one to every count first, so that no probability is zero.
# Check it with `checks.bigram_probs(bigram_probs)`, then compare its loss on held-out text with the floor and the transformer.


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
def bigram_probs(ids, vocab_size):
    pairs = torch.as_tensor(ids[:-1]) * vocab_size + torch.as_tensor(ids[1:])
    counts = torch.bincount(pairs, minlength=vocab_size**2) + 1.0
    table = counts.reshape(vocab_size, vocab_size)  # (V, V)
    return table / table.sum(dim=1, keepdim=True)


checks.bigram_probs(bigram_probs)
table = bigram_probs(train_tokens, config.vocab_size)
counted = -table[valid_tokens[:-1], valid_tokens[1:]].log().mean().item()
print(f"adding one {counted:.2f}, transformer {loss:.2f}, floor {floor:.2f} nats/token")
assert loss < baselines["bigram"] < counted  # adding one to all is a crude smoothing

# %% [markdown]
# ### Exercise 5 (explore): temperature and truth ★★★
#
# `tales.parse(text)` raises `ValueError` if a text is not a story of the grammar, and the message says at which word the text stops fitting.
# Write twenty stories with `write(model, tokenizer, sampling=Sampling(temperature=t), seed=s)` at each of the temperatures 0.3 and 1.5.
# If there is an error `at word N`, N − 1 words fit; if there is none, all words fit.
# How many words fit on average?
# What does the temperature trade for what?
# A low temperature and preferences both choose among what a model can say.
# What can preferences do that a temperature cannot, and for what does a model need instructions?


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
# What a low temperature costs is variety: its stories are more alike.
# A low temperature favours what is likely already, preferences favour what is liked,
# also where it was unlikely. To answer questions a model has to be shown answers.

# %% [markdown]
# ### Exercise 6 (build): the stages on another text ★★★
#
# Run stages 2 and 3 on real text: `python_docs()` from `llmcourse.text.documents` gives the documentation of your Python.
# Write a function `life(documents, steps)` of 20 to 30 lines.
# It splits the documents, trains a tokenizer of 2,048 tokens, and makes one row of ids for training and one for measuring.
# Then it trains a new model with `train` from above.
# It returns the held-out loss of the model and of a bigram model.
# The windows may begin anywhere: leave out `start_token`.
# `Windows(ids, 128).spread(100)` gives a hundred held-out windows to measure with.
# Take the first 400 documents, and `replace(settings, steps=steps, context_length=128, embedding_speed=1)`.
# After 300 steps of batch size 1, does the model beat the bigram model?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
def life(documents, steps):
    splits = corpus.split(documents)  # docstrings are short: cleaning would drop many
    tokenizer = BPETokenizer.train(
        (document.text for document in splits["train"]),
        vocab_size=config.vocab_size,
        special_tokens=["<|endoftext|>"],
    )
    train_ids = token_array(splits["train"], tokenizer)
    valid_ids = token_array(splits["validation"], tokenizer)
    plan = replace(settings, steps=steps, context_length=128, embedding_speed=1)
    generator = torch.Generator().manual_seed(0)
    model = Transformer(config, generator)
    windows = Windows(train_ids, plan.context_length)
    batches = windows.shuffled(plan.batch_size, generator)
    train(model, islice(batches, steps), plan)
    rows = Windows(valid_ids, plan.context_length).spread(100)  # (100, T + 1)
    with torch.no_grad():
        logits = model(rows[:, :-1])
    own = cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).item()
    counts = ngrams.NGramModel([train_ids.tolist()], 2, config.vocab_size)
    return own, counts.loss([valid_ids.tolist()])


own, counted = life(list(python_docs())[:400], steps=300)
print(f"transformer {own:.1f}, bigram {counted:.1f} nats/token")
# The bigram model wins by far: counting takes one pass, while the transformer has made
# 300 small steps and has read a part of the text.

# %% [markdown]
# ## Sources
#
# The loss and its floor are Shannon's {cite:p}`shannon1948`, who also had people guess the next letter of a text to measure the entropy of English {cite:p}`shannon1951`.
# The transformer is from {cite:t}`vaswani2017`; training one on next-token prediction and then writing with it, as here, is the recipe of GPT-2 {cite:p}`radford2019`.
