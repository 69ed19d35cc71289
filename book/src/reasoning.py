# %% [markdown]
# (reasoning)=
# # Reasoning: rewards that can be checked
#
# Writing down its steps helps a model answer questions that it cannot answer at once; where a program can check the answers, the model can learn from its own attempts.
#
# **You will be able to**
#
# - say why a chain of thought helps a model with a fixed number of layers,
# - check an answer by its outcome and by its process, and say how the two differ,
# - estimate pass@k without bias, and set it beside a vote and a single answer,
# - run GRPO on checked answers, and set it beside cheap baselines,
# - write the loss by which a student learns from its teacher's probabilities.
#
# **You need** the chapters [Learning from preferences: RLHF](rlhf.ipynb) and [Reward hacking and mode collapse](reward_hacking.ipynb).
#
# **Takes** about an hour to read with the code.
#
# **Runs in** about a minute on one processor core.

# %% [markdown]
# ## Setup

# %% tags=["hide-input"]
import copy
import re
from itertools import islice, zip_longest
from math import comb
from statistics import fmean
from textwrap import fill, shorten
from types import SimpleNamespace

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from llmcourse import plotting
from llmcourse.alignment import verifiable
from llmcourse.alignment.losses import entropy, group_advantages
from llmcourse.alignment.preferences import end_of_answer, prompt_of
from llmcourse.alignment.rollouts import Scorer, sample_rollouts
from llmcourse.alignment.verifiable import (
    direct_answer,
    questions,
    worked_answer,
)
from llmcourse.checks import reasoning as checks
from llmcourse.finetuning.chat import Message, tokenized
from llmcourse.finetuning.examples import collate
from llmcourse.model.folders import load_pretrained
from llmcourse.model.generation import GREEDY, generate
from llmcourse.studies import stored_study
from llmcourse.training.losses import cross_entropy

plotting.use_course_style()
_ = torch.set_num_threads(1)

# %% [markdown]
# ## The problem
#
# Here are four short sums, drawn from a small grammar.
# A *step* is one event that changes the number: the first sum has one, the last has four.
# All totals are from one to twelve.

# %%
four = list(questions(4, seed=11))
for question in four:
    print(fill(question.text, 80))

# %% [markdown]
# You probably needed a moment for the last one, and counted along: *twelve, ten, twelve, nine*.
# We ask the same four of `instruct-llm`, which answers questions about tales.

# %%
start, tokenizer = load_pretrained("instruct-llm")
end = end_of_answer(tokenizer)
draws = torch.Generator().manual_seed(0)


def answer(model, problems, n=1, generator=draws):
    """Return the rollouts of n answers to each question, side by side."""
    prompts = [prompt_of(q.text, tokenizer) for q in problems for _ in range(n)]
    return sample_rollouts(
        model, prompts, 40, tokenizer=tokenizer, stop=[end], generator=generator
    )


# %% [markdown]
# Each answer has up to forty tokens; here are the four.

# %% tags=["nbval-ignore-output"]
for text in answer(start, four).texts:
    print(shorten(text, 78, placeholder=" …"))

# %% [markdown]
# In our run, none of its answers is even a number, because these aren't tales: it learned to look a number up, but never to work one out.
# So we teach it, and there are two ways to write the same lesson.
# A *direct* answer gives only the result; a *worked* one gives the steps first.

# %%
print("direct:", direct_answer(four[1]))
print("worked:", worked_answer(four[1]))

# %% [markdown]
# *Predict*: we fine-tune two copies of `instruct-llm` on a few thousand of these questions, with one to three steps.
# The answers that they learn, the *labels*, are direct for one copy and worked for the other.
# Which will be right more often on new questions with three steps?
# Will either of them manage four steps, which no label had?
#
# :::{dropdown} Answer
# At three steps, the worked answers win by far.
# At four steps, neither does well, and the worked one mostly does worse; the experiment below shows what it does there.
# :::

# %% [markdown]
# ## By hand
#
# Kate has ten pears, and Otto has five.
# A model has answered *How many?* five times about each of them.
#
# | question | its five answers | right | one answer | vote | best of five |
# |---|---|---|---|---|---|
# | Kate | 10, 7, 10, 9, 10 | 3 | 3/5 | 10: right | right |
# | Otto | 4, 5, 4, 2, 4 | 1 | 1/5 | 4: wrong | right |
# | mean | | | 2/5 | 1/2 | 1 |
#
# *One answer*, drawn at random, is right with probability equal to the share of right ones.
# A *vote* keeps the number that occurs most often, even if fewer than half of the answers give it.
# The *best of five* needs a *verifier*, something that knows a right answer when it sees one, and then one right answer is enough.
#
# ![Two rows of five answers. Kate, 10: 10, 7, 10, 9, 10; the vote says 10, which is right, and so does the verifier. Otto, 5: 4, 5, 4, 2, 4; the vote says 4, which is wrong; the verifier finds the 5.](figures/vote-or-verifier.svg)
#
# *A vote strengthens the majority, right or wrong; a verifier needs a single right answer.*
#
# How often would the best of **two** be right for Otto?
# There are $\binom{5}{2} = 10$ ways to take two of his five answers.
# $\binom{4}{2} = 6$ of them take two wrong ones, so $1 - 6/10 = 2/5$.
# The next cell lists all the pairs.

# %%
otto = [4, 5, 4, 2, 4]
pairs = [(i, j) for i in range(5) for j in range(i)]
n_right = sum(5 in (otto[i], otto[j]) for i, j in pairs)
print(f"{n_right} of {len(pairs)} pairs have the right answer")
assert n_right / len(pairs) == 1 - comb(4, 2) / comb(5, 2) == 2 / 5

# %% [markdown]
# ## The idea
#
# ### Why steps help
#
# A model with $L$ layers passes each token through $L$ layers, one after the other, whatever it is asked.
# A question with three steps, worked out in their order, takes three sums in a row, since each starts from the result of the one before.
# (For sums there is a shortcut, which is to add up all changes side by side, but the model would have to find it.)
# A direct answer has to fit all three into the layers, and each sum may take more than one layer: find the total, find the change, add.
#
# A **{term}`chain of thought`** {cite:p}`nye2021,wei2022chain` writes the results down.
# Every written token enters at the first layer again, and each depends on the one before, so $m$ tokens pass through $m \cdot L$ layers, one after the other.
# (Only tokens that say something new carry a result on; the *So* of a direct answer is always the same, so its number has to come from one pass.)
# The text is the model's scratch paper.
# A model trained to write such chains before it answers is called a **{term}`reasoning model`**, and what is computed while a model answers, in longer chains or in more answers to choose from, is called **{term}`test-time compute`**.
#
# ![Left: direct, one stack of three layers between question and ten. Right: worked, three stacks; the first turns the question into seven, the input of the second; the second gives nine, the input of the third; the third gives ten.](figures/layers-or-tokens.svg)
#
# *In a direct answer the number comes from one pass through the layers, three in the drawing.
# A worked answer goes through the layers again with every token; only its results are drawn.*
#
# What a transformer can compute in one go is limited; with enough written steps, it can compute more {cite:p}`merrill2024`.
# A second reason is about learning: each step of a chain is a small lesson of its own.
# A direct answer shows only the end of the sum, and the model has to work out how it came about.
#
# ### Two verifiers
#
# A **{term}`verifier`** says whether an answer is right; it can be a trained model, but here it is a program.
# A verifier of the *outcome* reads only the last number.
# A verifier of the *process* reads every step.
# A chain can be wrong and still end in the right number, so the first is more lenient.
#
# We don't need to store the answers: the grammar that wrote a question can also parse it.
# So our verifiers know the right totals and apply their rule without error; the rule can still be too lenient or too strict.
# A {term}`reward model`, by contrast, can also misjudge single answers.
# Reinforcement learning with verifiable rewards, {term}`RLVR` for short, takes its rewards from a verifier {cite:p}`lambert2024,guo2025`.
#
# ### More answers
#
# Where one answer may be wrong, several can help; *greedy*, a single answer, is for comparison.
#
# | way | keeps | needs |
# |---|---|---|
# | best of $n$ | any right answer | a verifier, each time the model is used |
# | **{term}`self-consistency`** | the number that most answers say {cite:p}`wang2023consistency` | answers that can be compared |
# | greedy | the most probable token, at each step | nothing |
#
# **{term}`pass@k`** is the probability that at least one of $k$ answers is right; pass@1 is the probability that a single sampled answer is right.
# With $n \ge k$ answers to a question, $c$ of them right, count the ways to take $k$, as you did for Otto {cite:p}`chen2021`:
#
# $$\widehat{\text{pass@}k} = 1 - \binom{n - c}{k} \bigg/ \binom{n}{k}.$$
#
# ### Learning from checked answers
#
# There are three ways to learn, which differ in who writes the answers and how much each answer counts.
# All three minimise the same loss over $N$ answers.
# Answer $y_i$ belongs to question $x_i$, has $|y_i|$ tokens, and counts with the weight $w_i$:
#
# $$\mathcal{L} = -\frac1N \sum_i w_i \cdot \frac{1}{|y_i|} \ln \pi(y_i \mid x_i).$$
#
# | Way | Who wrote $y_i$ | Its weight $w_i$ |
# |---|---|---|
# | fine-tuning | people (here: a program) | 1 |
# | **rejection sampling fine-tuning** | the model | 1 if right, else 0 |
# | {term}`GRPO` | the model | the {term}`advantage`: the reward less its group's mean, in standard deviations |
#
# The second, a form of {term}`rejection sampling`, is also called *expert iteration*; STaR {cite:p}`zelikman2022` is of this kind.
# The third also learns from mistakes: it makes them less probable.
# We make one update per batch, so GRPO's ratio is 1 and nothing is clipped ([Learning from preferences: RLHF](rlhf.ipynb)).
# The gradient of the ratio is $\nabla\pi / \pi_\text{old}$; at a ratio of 1 that is $\nabla\pi / \pi$, the gradient of $\ln \pi$.
# So without a KL penalty, which we leave out here, GRPO has the gradient of this loss.
# (When the study in the experiment below fine-tunes, it averages over all tokens of a batch, so long answers count more; the idea is the same.)
#
# ![Two groups of four answers with rewards and advantages. Kate: So ten has reward 1 and advantage plus 1.5; nine, six and twelve have reward 0 and advantage minus 0.5. Otto: two, six, two and one all have reward 0 and advantage 0.](figures/checked-groups.svg)
#
# *Two groups of GRPO.
# Where all answers are wrong, there is nothing to compare, and nothing is learned.*
#
# ### From a teacher to a student
#
# **{term}`Distillation <distillation>`** trains a small *student* on what a larger *teacher* has learned {cite:p}`hinton2015`.
# The student can imitate the chains that the teacher writes, either all of them or only those that a verifier passes.
# Or it can imitate the teacher's *soft targets*: the probabilities $p^\text{T}$ of all tokens at each place.
# Its loss is then the divergence of these from its own probabilities $p^\text{S}$: $D_\text{KL}(p^\text{T} \,\|\, p^\text{S})$ (exercise 5).
#
# ![From a teacher of three layers two arrows lead to a student of one layer: checked chains, token by token, and the same with all probabilities, drawn as bars for six, seven and eight. From above come labels, the answer alone.](figures/three-lessons-for-a-student.svg)
#
# *Three lessons for a student: the answer alone, the teacher's chains that passed the verifier, and the teacher's probabilities at each token of these chains.
# (In our experiment teacher and student have the same size, and no answer is dropped.)*
#
# | Symbol | Meaning | Name in code |
# |---|---|---|
# | $n$, $c$ | answers to a question, right ones among them | `n`, `n_right` |
# | $k$ | answers that may be tried | `k` |
# | $p$ | probability that an answer to a question is right | – |
# | $\pi$ | the policy | `policy` |
# | $x_i$, $y_i$, $w_i$ | a question, an answer to it, and how much the answer counts | –, `ids`, `weights` |
# | $p^\text{T}$, $p^\text{S}$ | probabilities of teacher and student | `teacher`, `student` |
# | $L$, $m$ | layers, tokens written | – |

# %% [markdown]
# ## In code
#
# ### Verifiers
#
# The verifier of the outcome takes two lines: find the number words, and compare the last one.
# `question.totals` are the running totals, as the grammar reads them.

# %%
WORD = "|".join(verifiable.WORDS)  # zero to twelve


def is_right(question, text):
    """Return whether the last number of an answer is right."""
    numbers = re.findall(rf"\b({WORD})\b", text)
    return numbers[-1:] == [verifiable.WORDS[question.totals[-1]]]


# %%
kate = verifiable.read_question(
    "Kate had nine pears. A fox took two. Howard gave her three. "
    "How many pears does Kate have now?"
)
print("totals:", *kate.totals)
print("worked answer:", worked_answer(kate))

# %% [markdown]
# Here are five answers about Kate's pears.

# %%
attempts = (
    worked_answer(kate),
    "So ten.",
    "First nine less two is six. Then six and four is ten. So ten.",
    "First nine and three is twelve. Then twelve less two is ten. So ten.",
    "First nine less two is seven. Then seven and three is nine. So nine.",
)

# %% [markdown]
# The package has both verifiers; they judge each of the five.

# %%
print("outcome  process  answer")
for text in attempts:
    outcome = verifiable.outcome_is_right(kate.text, text)
    process = verifiable.process_is_right(kate.text, text)
    assert outcome == is_right(kate, text)
    print(f"{outcome!s:7}  {process!s:7}  {text}")

# %% [markdown]
# The third answer makes two mistakes that cancel out.
# The fourth adds up, but in a different order from the question; our verifier of the process is strict.
#
# ### pass@k and a vote


# %%
def pass_at_k(n, n_right, k):
    """Return the share of all ways to take k of n answers that have a right one."""
    return 1 - comb(n - n_right, k) / comb(n, k)


for k in (1, 2, 5):
    print(f"Otto, pass@{k}: {pass_at_k(5, 1, k):.1f}")
    assert pass_at_k(5, 1, k) == verifiable.pass_at_k(5, 1, k)
print("vote:", verifiable.vote(["So four.", "So five.", "So four."]))

# %% [markdown]
# The estimate is **unbiased**: over many draws of $n$ answers, its mean is the true pass@k.
# Plugging the share of right answers into $1 - (1 - p)^k$ is biased: the result is too low.
# It takes the $k$ answers *with* replacement, so the same wrong answer can be taken twice.
# The next cell draws 10 answers many times, each right with probability 1/10, and compares both with the truth at $k = 5$.

# %%
generator = torch.Generator().manual_seed(1)
right = torch.rand(20_000, 10, generator=generator) < 0.1
counts = right.sum(dim=1).tolist()  # right answers in each draw of 10
truth = 1 - 0.9**5
unbiased = fmean(pass_at_k(10, c, 5) for c in counts)
biased = fmean(1 - (1 - c / 10) ** 5 for c in counts)
print(f"pass@5 is {truth:.2f}; by counting {unbiased:.2f}, by plugging in {biased:.2f}")

# %% tags=["remove-cell"]
assert abs(unbiased - truth) < 0.01 < truth - biased

# %% [markdown]
# ### One loop for all ways to learn
#
# A batch has a row for each question with its answer.
# As in [Instruction tuning](instruction_tuning.ipynb), an example has the ids to read, the targets (the same text, one place further) and a mask that says which targets count.
# `Scorer` wants something else: the whole text, and a mask that says which of *its* tokens belong to the answer.
# The whole text is the first id followed by all targets.
# Its first token is never a target, so the mask gets one more False at the left: that is `pad(…, (1, 0))`.


# %%
def rows_of(pairs):
    """Return ids and answer mask of questions with answers, a row for each."""
    chats = [[Message("user", q), Message("assistant", a)] for q, a in pairs]
    examples = tokenized(chats, tokenizer, start.config.context_length)
    whole = [torch.cat((example.ids[:1], example.targets)) for example in examples]
    return pad_sequence(whole, batch_first=True), pad(collate(examples).mask, (1, 0))


ids, mask = rows_of([(q.text, worked_answer(q)) for q in four])
print(f"{len(ids)} rows of {ids.shape[1]} positions")
print("tokens of the answers:", mask.sum(dim=1).tolist())

# %% [markdown]
# The update is the loss from above: a `Scorer` reads the answers and returns the log-probability of each of their tokens.


# %%
def update(policy, optimizer, ids, mask, weights):
    """Make answers of positive weight more probable, and others less."""
    log_probs = Scorer(policy)(ids, mask).log_probs  # 0 outside of the answers
    mean = log_probs.sum(dim=1) / mask.sum(dim=1)
    loss = -(weights * mean).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()


# %% [markdown]
# All loops on this page use AdamW without weight decay.


# %%
def make_optimizer(policy, rate):
    return torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0)


# %% [markdown]
# **Fine-tuning** gives every label the weight 1.
# A few labels give us a start: about a thousand worked answers with one to three steps, each read once.


# %%
def teach(model, write_answer, n_updates, seed=0):
    """Return a copy of the model after n_updates updates, with 16 labels each."""
    policy = copy.deepcopy(model)
    optimizer = make_optimizer(policy, 1.5e-3)
    problems = questions(16 * n_updates, seed=seed, n_steps=(1, 2, 3))
    for number in range(n_updates):
        optimizer.param_groups[0]["lr"] = 1.5e-3 * min(1, (number + 1) / 10)
        ids, mask = rows_of([(q.text, write_answer(q)) for q in islice(problems, 16)])
        update(policy, optimizer, ids, mask, torch.ones(16))
    return policy


# %% tags=["nbval-ignore-output"]
weak = teach(start, worked_answer, n_updates=60)
exam = list(questions(24, seed=99, n_steps=(1, 2, 3)))
for question, text in zip(exam[:6], answer(weak, exam[:6]).texts):
    verdict = "right" if is_right(question, text) else "wrong"
    print(fill(f"{verdict}: {text}", 80))

# %% [markdown]
# It has learned the form, but in our run only one of these six answers is right.
# An answer with a wrong step can still end in the right number, and then it passes; the experiment counts how often.
#
# **GRPO** samples, verifies, computes advantages, and updates: that is the whole loop.


# %%
def grpo(policy, rounds, seed=0, verifier=verifiable.outcome_is_right):
    """Train a policy in place; return the share of rewarded answers in each round."""
    generator, shares = torch.Generator().manual_seed(seed), []
    optimizer = make_optimizer(policy, 2e-4)
    problems = questions(8 * rounds, seed=5_000 + seed, n_steps=(1, 2, 3))
    for _ in range(rounds):
        eight = list(islice(problems, 8))
        batch = answer(policy, eight, n=8, generator=generator)  # sample
        pairs = zip(batch.prompts, batch.texts)
        rewards = torch.tensor([float(verifier(p.text, text)) for p, text in pairs])
        weights = group_advantages(rewards, group_size=8)
        update(policy, optimizer, batch.ids, batch.answer_mask, weights)
        shares.append(rewards.mean().item())
    return shares


# %% [markdown]
# If the starting model never gives a right answer, the rewards are equal in every group.
# So all advantages are 0, and so is the gradient.
# The next cell gives `instruct-llm` itself, without labels, one round of GRPO, and counts the weights that moved.
# It rewards right chains, since an answer without steps may end in the right number by luck.

# %% tags=["nbval-ignore-output"]
policy = copy.deepcopy(start)
shares = grpo(policy, rounds=1, verifier=verifiable.process_is_right)
moved = 0
for before, after in zip(start.parameters(), policy.parameters()):
    moved += (before != after).sum().item()
print(f"rewarded: {shares[0]:.0%}; weights that moved: {moved}")

# %% tags=["remove-cell"]
assert shares[0] > 0 or moved == 0

# %% [markdown]
# Reinforcement learning makes rare right answers more frequent.
# It cannot reward an answer that never comes, so labels come first.
# The next cell shows that the loop runs; four rounds are too few to see a gain.

# %% tags=["nbval-ignore-output"]
policy = copy.deepcopy(weak)
shares = grpo(policy, rounds=4)
print("right in each round:", ", ".join(f"{share:.0%}" for share in shares))

# %% [markdown]
# Each round asks different questions, so the numbers jump around, and in our run they happened to fall.
# The experiment runs a hundred rounds, with three seeds.
#
# ### A token, or all probabilities
#
# Distillation changes only what the student is compared with.
# Here is one place, small enough to work out on paper, where three words can come: *seven*, *six* and *eight*.
# The teacher gives them 1/2, 1/4 and 1/4, the student 1/4, 1/4 and 1/2.
# If the teacher's text has *seven* there, the student's loss is $-\ln \frac14 = 2 \ln 2$; for *six* it is the same, and for *eight* it is $\ln 2$.
# With soft targets, nothing is drawn:
#
# $$D_\text{KL} = \tfrac12 \ln \tfrac{1/2}{1/4} + \tfrac14 \ln \tfrac{1/4}{1/4} + \tfrac14 \ln \tfrac{1/4}{1/2} = \tfrac14 \ln 2.$$

# %%
teacher = torch.tensor([1 / 2, 1 / 4, 1 / 4])
student = torch.tensor([1 / 4, 1 / 4, 1 / 2])
token_losses = -student.log()  # the loss for each word that the teacher may draw
for word, nats in zip(("seven", "six", "eight"), token_losses):
    print(f"the teacher drew {word}: {nats:.2f} nats")
soft_loss = (teacher * (teacher / student).log()).sum()
print(f"the teacher's probabilities: {soft_loss:.2f} nats")
print(f"mean over what it may draw: {teacher @ token_losses:.2f} nats")

# %% tags=["hide-input"]
for word in range(3):
    theirs = cross_entropy(student.log(), torch.tensor(word))
    torch.testing.assert_close(token_losses[word], theirs)
torch.testing.assert_close(soft_loss, torch.tensor(2.0).log() / 4)
divergence = torch.nn.functional.kl_div(student.log(), teacher, reduction="sum")
torch.testing.assert_close(soft_loss, divergence)
torch.testing.assert_close(teacher @ token_losses, soft_loss + entropy(teacher.log()))

# %% [markdown]
# The mean loss of a token is larger than the divergence by the teacher's own {term}`entropy`, here 1.21 − 0.17 = 1.04 nats.
# The student can't change that part.
# So both losses have the same gradient on average, but a single token says something different each time.

# %% [markdown]
# ## Experiment
#
# The study ran everything three times, with different labels, in a different order and with different draws; `book/studies/reasoning_study.py` repeats it.
# All models are measured on the same 48 questions, twelve for each number of steps, answered several times at temperature 1.
# Labels have one to three steps, so the questions with four show what carries over.

# %%
study = stored_study("reasoning", SimpleNamespace)
n_seeds = len({point.seed for point in study.points})
print(f"{len(study.points)} models, {n_seeds} seeds")

# %% [markdown]
# `runs` picks the models of one way to learn.
# If no number of labels is given, it takes those with the most.


# %%
def runs(way, n_labels=None):
    """Return the points of one way, one for each seed."""
    of_way = [point for point in study.points if point.way == way]
    most = max(point.n_labels for point in of_way) if n_labels is None else n_labels
    return [point for point in of_way if point.n_labels == most]


# %% [markdown]
# A model's `right` counts the right answers to each question.
# The questions take turns: one step, two, three, four, and from one again.


# %%
def share(point, n_steps=(1, 2, 3)):
    """Return the share of right answers to questions with these numbers of steps."""
    counts = [c for i, c in enumerate(point.right) if 1 + i % 4 in n_steps]
    return sum(counts) / len(counts) / point.n_answers


print(f"before any lesson: {share(runs('start')[0], (1, 2, 3, 4)):.0%} right")

# %% [markdown]
# These few are numbers said by chance; none has a right chain.
#
# ### Direct against worked
#
# This figure answers the prediction at the top of the page.

# %% mystnb={"image": {"alt": "Two panels showing the share of right answers over the number of labels, from 960 to 3,200. Left, one to three steps: worked answers rise steeply to more than nine tenths, direct ones to a third. Right, four steps: worked answers stay near a seventh, direct ones rise to a quarter."}} tags=["hide-input"]
label_counts = [n * study.recipe["batch_size"] for n in study.recipe["looks"]]
fig, axes = plt.subplots(1, 2, figsize=(7, 2.5), sharey=True)
for ax, steps in zip(axes, ((1, 2, 3), (4,))):
    for style, way in (("s--", "direct"), ("o-", "worked")):
        shares = [[share(p, steps) for p in runs(way, n)] for n in label_counts]
        for n, values in zip(label_counts, shares):
            ax.plot([n] * len(values), values, ".", color="grey", ms=4)
        ax.plot(label_counts, [fmean(values) for values in shares], style, label=way)
    _ = ax.set(xlabel="labels, each read once", ylim=(0, 1), xticks=label_counts)
axes[0].set(ylabel="share of right answers", title="one to three steps, as taught")
axes[1].set(title="four steps, never taught")
for ax in axes:
    plotting.label_lines(ax)

# %% [markdown]
# *Grey: the individual seeds; the lines are their means.*
#
# The next cell splits the last points, at 3,200 labels, by the number of steps.

# %%
print("answers learned  steps  share right, three seeds")
for way in ("direct", "worked"):
    for n_steps in (1, 2, 3, 4):
        shares = [share(point, (n_steps,)) for point in runs(way)]
        print(f"{way:15} {n_steps:6} ", *(f"{s:5.0%}" for s in shares))

# %% [markdown]
# The same questions teach far more when the answers show the steps, even where there is only one step.
# Depth should matter least there, so much of the gain probably comes from the second reason: a worked label shows more.
# This experiment does not separate the two reasons.
# With direct answers, the model gets about a quarter of the sums with three steps right; with worked ones, nine of ten.
#
# At four steps, the worked model is no better with two of the seeds than guessing one number in a dozen; with the third, a third of its answers are right.
# The direct one is right in about a quarter, on average.
# To see what the worked model does there, the next cell counts the steps that `weak` from this page writes, since the study kept only counts, not its models.
# `weak` has read fewer labels, but of the same one to three steps.

# %% tags=["nbval-ignore-output"]
four_steps = list(questions(24, seed=7, n_steps=4))
texts = answer(weak, four_steps).texts
lengths = [len(verifiable.read_steps(text)) for text in texts]
print("steps written  answers")
for n in sorted(set(lengths)):
    print(f"{n:13} {lengths.count(n):8}")

# %% [markdown]
# Here are the first two answers, each after the right totals, and the number of right ones among all 24.

# %% tags=["nbval-ignore-output"]
for question, text in zip(four_steps[:2], texts):
    print(fill(f"{question.totals}: {text}", 80))
n_right = sum(is_right(q, text) for q, text in zip(four_steps, texts))
print(f"{n_right} of {len(four_steps)} right")

# %% [markdown]
# Most of its answers stop early, after no more steps than its labels had.
# Of all 24, few end in the right number.
# More depth does not help an answer that stops too soon.
# Whether the early end is all that is wrong is the subject of the next section.

# %% tags=["remove-cell"]
for direct, worked in zip(runs("direct"), runs("worked")):
    assert share(worked) > share(direct) + 0.2
    assert max(share(direct, (4,)), share(worked, (4,))) < 0.5

# %% [markdown]
# ### A calculator, and more steps
#
# Three things can go wrong in a worked answer: the model *reads* a change wrongly, *adds* wrongly, or *stops* too soon.
# A program that takes part in the writing can remove the last two.
#
# - **Adding**: whenever the model has written a sum up to *is*, a calculator writes the result.
#   {cite:t}`cobbe2021` did so for school mathematics; it is a simple form of {term}`tool use`.
# - **Stopping**: when the model begins its last sentence with *So* after too few steps, we replace the word by *Then*, and it has to go on.
#   This is the trick of the model s1, called *budget forcing*, where the word *Wait* replaced the end of a chain {cite:p}`muennighoff2025`.
#
# Here is the calculator.


# %%
def calculator(text):
    """Return the result of the sum at the end of a text, or "" if there is none."""
    found = re.search(rf"({WORD}) (and|less) ({WORD}) is$", text)
    if not found:
        return ""
    before, change = map(verifiable.WORDS.index, found.group(1, 3))
    result = before + change if found[2] == "and" else before - change
    return f" {verifiable.WORDS[result]}" if 0 <= result <= 12 else ""


print("First nine less two is" + calculator("First nine less two is"))

# %% [markdown]
# The model writes greedily, and halts after *is*, after *So* and at the end.
# (The answers above were drawn at random, so the counts differ a little.)
# Then the program may write something, and the model goes on from there, as if it had written it.

# %%
IS, SO, THEN = (tokenizer.encode(word)[0] for word in (" is", " So", " Then"))


def guided(problem, calculate=False, least=0):
    """Return an answer of `weak`, written with these kinds of help."""
    prompt, written = prompt_of(problem.text, tokenizer).ids, []
    while written[-1:] != [end] and len(written) < 40:
        ids = torch.tensor([*prompt, *written])
        stop, room = (IS, SO, end), 40 - len(written)
        ids = generate(weak, ids, room, sampling=GREEDY, stop=stop)
        written = ids[len(prompt) :].tolist()
        if written[-1] == SO and written.count(IS) < least:
            written[-1] = THEN
        if written[-1] == IS and calculate:
            written += tokenizer.encode(calculator(tokenizer.decode(written)))
    return tokenizer.decode([i for i in written if i != end])


# %% [markdown]
# We let it answer 24 questions with one to three steps, and the 24 with four steps from above.
# For each way of writing, the table counts the right answers, and those that misread a change, have a wrong sum, or are too short, with too few steps.
# A change counts as misread if it isn't the question's change at this place, so another order counts, too.


# %%
def faults(problem, text):
    """Return whether an answer has a wrong change, a wrong sum, too few steps."""
    said = verifiable.read_steps(text)
    pairs = zip(said, problem.steps)
    misread = any(ours.change != theirs.change for ours, theirs in pairs)
    added = any(step.before + step.change != step.after for step in said)
    return misread, added, len(said) < len(problem.steps)


# %% tags=["nbval-ignore-output"]
counts = {}
print("steps   help                     right  misread  wrong sum  too short")
for name, problems, calculate, least in (
    ("1 to 3  none", exam, False, 0),
    ("1 to 3  calculator", exam, True, 0),
    ("4       none", four_steps, False, 0),
    ("4       calculator", four_steps, True, 0),
    ("4       calculator, four steps", four_steps, True, 4),
):
    texts = [guided(problem, calculate, least) for problem in problems]
    rows = [(is_right(p, t), *faults(p, t)) for p, t in zip(problems, texts)]
    counts[name] = [sum(column) for column in zip(*rows)]
    print("{:31} {:6} {:8} {:10} {:10}".format(name, *counts[name]))

# %% [markdown]
# Here are the first two answers of the last row, again after the right totals.

# %% tags=["nbval-ignore-output"]
for question, text in zip(four_steps[:2], texts):
    print(fill(f"{question.totals}: {text}", 80))

# %% tags=["remove-cell"]
right = {name: row[0] for name, row in counts.items()}
assert right["1 to 3  calculator"] > right["1 to 3  none"]
assert counts["1 to 3  calculator"][2] <= 2 < counts["1 to 3  none"][2]
whole = counts["4       calculator, four steps"]
assert max(whole[2:]) <= 4 and whole[0] < 14 < whole[1]

# %% [markdown]
# Up to three steps, the calculator leaves no wrong sum, and many more answers are right.
# What is left is mostly misread changes, which no calculator can mend.
#
# At four steps, too, the calculator leaves hardly a wrong sum, but every answer still stops too soon, and no more are right.
# (It is silent where a result is below zero or above twelve; there the model goes on by itself.)
# With four steps forced as well, no answer is too short.
# Still only 3 of 24 are right in our run, and all 24 misread a change, so the three right ones misread one too.
# (The first answer above is one of these: the question's changes are +1, +3, +3 and +1, the answer has +1, +3, +1 and +3, which has the same sum.)
# So the early end and the wrong sums are not all that is wrong: the model misreads questions with four steps, which it was never taught.
# (`weak` misreads a third of the shorter questions, too; how much a model with 3,200 labels misreads at four steps was not counted.)

# %% [markdown]
# ### Right for the wrong reasons
#
# The next cell counts how many of the right answers have a right chain.

# %%
for n in label_counts:
    points = runs("worked", n)
    kept = sum(sum(p.process) for p in points) / sum(sum(p.right) for p in points)
    print(f"{n:5,} labels: {kept:.0%} of the right answers have a right chain")

# %% [markdown]
# With few labels, many right numbers come after wrong steps: there are only twelve numbers to guess from, and the verifier of the outcome passes lucky answers.
# With more labels, there are far fewer of these.
#
# ### One answer, a vote, a verifier
#
# The study's *weak* model has read 1,920 labels, twice as many as `weak` above.
# *Predict*: it answers each question 16 times.
# Will a vote of the 16 add much to a single answer, or little?
# And what will a verifier add that picks a right answer if there is one?
#
# :::{dropdown} Answer
# The vote adds a few percentage points to a single answer; with a verifier, a quarter of all questions more are solved than by a single answer.
# :::
#
# We get the curve of pass@k from the 16 answers by counting, with `pass_at_k` from above.


# %%
def solved(point, k, by="right"):
    """Return the mean pass@k; `by` says of what: "right" numbers, "process" of chains."""
    return fmean(pass_at_k(point.n_answers, c, k) for c in vars(point)[by])


# %% [markdown]
# We compare the weak model with the one that has read all labels.

# %%
every = (1, 2, 3, 4)  # all numbers of steps
ks = (1, 2, 4, 8, 16)  # numbers of answers
weak_labels = study.recipe["weak"] * study.recipe["batch_size"]
models = {"weak": runs("worked", weak_labels), "more labels": runs("worked")}
for name, points in models.items():
    print(f"{name}: {points[0].n_labels:,} labels, {len(points)} seeds")

# %% [markdown]
# The table is over all 48 questions.

# %% tags=["hide-input"]
measures = {
    "one answer": lambda p: share(p, every),
    "one answer, temperature 1/2": lambda p: p.cool,
    "one greedy answer": lambda p: p.greedy,
    "vote of 16": lambda p: p.votes[-1],
    "pass@16": lambda p: solved(p, 16),
    "pass@16 of right chains": lambda p: solved(p, 16, by="process"),
}
print(f"{'':27}", *(f"{name:>12}" for name in models))
for name, measure in measures.items():
    means = (fmean(map(measure, points)) for points in models.values())
    print(f"{name:27}", *(f"{mean:12.0%}" for mean in means))

# %% mystnb={"image": {"alt": "Two panels over the number of answers k, for the weak model and for the one with more labels. pass@k rises with k; the vote rises little above one randomly chosen answer, and not above the dash-dotted line of the greedy answer."}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7, 2.5), sharey=True)
for ax, (name, points) in zip(axes, models.items()):
    curves = (
        (
            "o-",
            "pass@k: a verifier",
            [[solved(p, k) for p in points] for k in ks],
        ),
        ("s--", "vote of k", list(zip(*(p.votes for p in points)))),
        ("k:", "one of k, by chance", [[share(p, every) for p in points]] * len(ks)),
    )
    for style, label, values in curves:
        ax.plot(ks, [fmean(some) for some in values], style, label=label)
    ax.axhline(fmean(p.greedy for p in points), color="C2", ls="-.", label="greedy")
    ax.set_xscale("log", base=2)
    _ = ax.set(xlabel="k answers (log scale)", ylim=(0, 1), title=name)
    _ = ax.set_xticks(ks, [str(k) for k in ks])
axes[0].set_ylabel("share of questions")
for ax in axes:
    plotting.label_lines(ax, fontsize=7)

# %% [markdown]
# *pass@k and the vote of k answers; dash-dotted, one greedy answer.*
#
# The vote of $k$ is an estimate from eight random draws of $k$ of the sixteen answers, so it moves a little by chance.
# A vote of one is one answer; a vote of two is hardly more, since where the two differ, the number said first counts.
#
# A vote beats one sampled answer by a few percentage points.
# But one greedy answer does at least as well, for a sixteenth of the arithmetic.
# A vote keeps the model's favourite, right or wrong, and the greedy answer is probably mostly the same.
# (For large models and harder problems, votes gained more {cite:p}`wang2023consistency`.)
#
# With the weak model, a verifier finds a right answer among sixteen for most questions that a single answer gets wrong.
# So the model *can* do more than it does.
# Much of this is luck, because sixteen guesses among twelve numbers often hit; pass@16 *of right chains* leaves numbers out that were only guessed (and with them, chains in another order).
# It is about three quarters: nearly every question of the taught kind, and none with four steps.
# With more labels, the model gets more right at the first attempt.
# Its pass@16 is then about the same, lower with two of the seeds and higher with one; that of right chains is the same with one seed and a little higher with two.
# (With one of the seeds, right chains include those for one question with four steps.)

# %% tags=["remove-cell"]
for points in models.values():
    single, top = (fmean(solved(p, k) for p in points) for k in (1, 16))
    voted, greedy = (fmean(x) for x in zip(*((p.votes[-1], p.greedy) for p in points)))
    assert single < voted < top
    assert abs(voted - greedy) < 0.15
assert fmean(solved(p, 16) - p.votes[-1] for p in models["weak"]) > 0.15

# %% [markdown]
# ### GRPO, beside cheaper ways
#
# Three ways start from the weak model:
#
# - *GRPO* samples 6,400 answers, eight to a question, in 100 rounds, and runs again, with each seed, at five times the rate (*fast*);
# - *rejection sampling* has the weak model write as many before it learns, drops wrong answers and duplicates, and reads the rest twice;
# - *more labels* are another 1,280 worked answers, each read once.
#
# *Predict*: which of them will raise the share of right answers?
# Will GRPO raise pass@16, that is, solve questions that the weak model could not solve in sixteen attempts?
#
# :::{dropdown} Answer
# All three raise it, and GRPO, without any further labels, gets as far as more labels, on average.
# But one greedy answer of the weak model is right just as often as a sampled one after GRPO.
# At five times the rate, GRPO makes the model worse.
# At the usual rate, pass@16 falls with two of the three seeds, but only for questions with four steps, for which GRPO found no right chain.
# :::
#
# In the table, *cool* is one answer at temperature 1/2, *vote* is of sixteen, and *chain@16* is pass@16 of right chains.
# *chain* is the share of right answers that have a right chain; *distinct* counts how many different answers there are among sixteen.
# *tales* is how far the loss on plain tales has risen above that of `instruct-llm`, in nats per token, measured on only four tales.

# %% tags=["hide-input"]
ways = {
    "weak": runs("worked", weak_labels),
    "GRPO": runs("grpo"),
    "GRPO, fast": runs("grpo, fast"),
    "rejection": runs("rejection"),
    "more labels": runs("worked"),
}
print(
    "way         pass@1  cool greedy  vote  pass@16  chain@16  chain  distinct  tales"
)
for name, points in ways.items():
    kept = sum(sum(p.process) for p in points) / sum(sum(p.right) for p in points)
    one, all16 = (fmean(solved(p, k) for p in points) for k in (1, 16))
    chains16 = fmean(solved(p, 16, by="process") for p in points)
    voted = fmean(p.votes[-1] for p in points)
    cool, greedy, texts, forgot = (
        fmean(vars(p)[key] for p in points)
        for key in ("cool", "greedy", "chains", "tales")
    )
    print(f"{name:11} {one:6.0%} {cool:5.0%} {greedy:6.0%} {voted:5.0%}", end="")
    print(f" {all16:8.0%} {chains16:9.0%} {kept:6.0%} {texts:9.1f} {forgot:+6.2f}")

# %% [markdown]
# All this is over all 48 questions, so we also split pass@16 by the number of steps, before GRPO and after.


# %%
def pass_at_16(points, n_steps):
    """Return the mean pass@16 of the questions with these numbers of steps."""
    return fmean(
        pass_at_k(point.n_answers, c, 16)
        for point in points
        for i, c in enumerate(point.right)
        if 1 + i % 4 in n_steps
    )


# %%
for name in ("weak", "GRPO"):
    taught, new = pass_at_16(ways[name], (1, 2, 3)), pass_at_16(ways[name], (4,))
    print(f"{name:5} pass@16: one to three steps {taught:.0%}, four steps {new:.0%}")

# %% [markdown]
# The rewards on the right of the next figure are for questions with one to three steps, so they are higher than pass@1.

# %% mystnb={"image": {"alt": "Two panels. Left, pass@k over k from 1 to 16 for five models: GRPO and more labels begin highest; the weak model begins below them and ends highest; GRPO at five times the rate is far below all. Right, the share of rewarded answers over 100 rounds of GRPO, for three seeds and their mean: it jumps from round to round and rises."}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7, 2.5))
for style, (name, points) in zip(("k:", "o-", "x:", "s--", "^-."), ways.items()):
    values = [fmean(solved(p, k) for p in points) for k in ks]
    axes[0].plot(ks, values, style, label=name)
axes[0].set_xscale("log", base=2)
axes[0].set_xticks(ks, [str(k) for k in ks])
axes[0].set(xlabel="k answers (log scale)", ylabel="pass@k", ylim=(0, 1))
by_round = [*zip(*(p.rewards for p in ways["GRPO"]))]
rounds = range(1, 1 + len(by_round))
axes[1].fill_between(rounds, [*map(min, by_round)], [*map(max, by_round)], alpha=0.25)
axes[1].plot(rounds, [*map(fmean, by_round)])
_ = axes[1].set(xlabel="round of GRPO", ylabel="share rewarded", ylim=(0, 1))
_ = plotting.label_lines(axes[0])

# %% [markdown]
# *Left, pass@k of each way; right, the share of GRPO's answers that were rewarded: the mean of three seeds, and their range.*
#
# GRPO mainly did what a lower temperature does: it made the model's favourite more probable.
# One sampled answer is right in 62 % before GRPO and in 75 % after it; before rounding, that is a gain of twelve percentage points, without any further labels.
# Of these twelve points, the weak model gets seven or eight at temperature 1/2 or with a vote of sixteen, and nearly all with one greedy answer.
# GRPO's own greedy answers are a few points better on average, but with one of the seeds they are worse.
# So the favourite was already right for most questions of the taught kind.
# A verifier that chooses among sixteen finds a right number for nearly nine of ten questions.
# But much of what it adds is luck: a right *chain* is among the sixteen for only 74 %.
#
# GRPO's sixteen answers vary less, and more of the right ones have a right chain.
# pass@16 falls only at four steps, where no right number came with a right chain; no right chain of four steps appeared after GRPO either.
# At one to three steps it was already at 99 %, so these questions are too easy to show whether GRPO solves new ones.
# Larger studies have measured that {cite:p}`yue2025`.
#
# Rejection sampling learns from the same kind of answers and gains with every seed, but each time less than GRPO.
# All its answers are the weak model's, while GRPO's get better as it learns; GRPO also learns from wrong ones; and rejection sampling drops duplicates, so a frequent right answer counts no more than a rare one.
# The study doesn't tell us which of these matter.
#
# On average, 1,280 labels did as much as five times as many answers in GRPO.
# But their gains differ widely: 2, 21 and 11 percentage points with the three seeds, and 11 to 13 with GRPO.
# (On tales the weak model is at +0.02, more labels at +0.03 and GRPO at +0.01, but these are only four tales.)
# A worked label shows the right token at each of its twenty or so places.
# A reward is one bit for a whole chain, and a group that agrees doesn't give even that (exercise 4).
# But someone has to write every label, while a verifier is written once.
#
# The rate has to be low: at five times the rate, GRPO makes the model worse with every seed, and with one of them it loses most of what the labels had taught.
# An update that goes too far probably spoils the answers that the next one learns from.
# Real runs go on for thousands of rounds, with larger groups {cite:p}`guo2025`.

# %% tags=["remove-cell"]
ones = {name: [solved(p, 1) for p in points] for name, points in ways.items()}
for name in ("GRPO", "more labels"):
    assert fmean(ones[name]) > fmean(ones["weak"]) + 0.05
assert all(a > b for a, b in zip(ones["GRPO"], ones["rejection"]))
assert all(b > a for a, b in zip(ones["weak"], ones["rejection"]))
worse = [fast / weak for fast, weak in zip(ones["GRPO, fast"], ones["weak"])]
assert max(worse) < 1 and min(worse) < 0.5
weak_cool = fmean(p.cool for p in ways["weak"])
assert weak_cool < fmean(ones["GRPO"]) < fmean(p.greedy for p in ways["weak"]) + 0.02
tops = {name: fmean(solved(p, 16) for p in points) for name, points in ways.items()}
assert tops["GRPO"] < tops["weak"]
assert not any(sum(p.process[3::4]) for p in ways["weak"] + ways["GRPO"])
gains = {
    name: [round(100 * (a - b)) for a, b in zip(ones[name], ones["weak"])]
    for name in ("GRPO", "more labels")
}
tried = {name: [solved(p, 16) for p in points] for name, points in ways.items()}
for name, seeds in (("more labels", [False, True, False]), ("GRPO", [False] * 3)):
    assert [a > b for a, b in zip(tried[name], tried["weak"])] == seeds
assert sum(a < b for a, b in zip(tried["GRPO"], tried["weak"])) == 2
assert gains["more labels"] == [2, 21, 11] and sorted(gains["GRPO"])[::2] == [11, 13]

# %% [markdown]
# ### What a teacher's probabilities say
#
# A student can learn from tokens that its teacher drew, or from the teacher's probabilities.
# Take one place in a chain, after *nine less two is*, and a teacher that gives *seven* 88 %, *six* 8 % and *eight* 4 %.
#
# *Predict*: a student that only counts sees ten draws.
# How close does it get to the teacher, in nats, and how close after a thousand?
#
# :::{dropdown} Answer
# After ten draws it is off by about a twentieth of a nat, after a hundred by a hundredth, and after a thousand by a thousandth.
# The three probabilities would have told it everything at once.
# :::

# %% [markdown]
# We repeat the count two thousand times and take the mean.
# We add half a draw to each word, so that none has probability 0.

# %%
teacher = torch.tensor([0.88, 0.08, 0.04])
generator = torch.Generator().manual_seed(0)
print("draws  mean distance from the teacher (nats)")
for n in (10, 100, 1000):
    drawn = teacher.multinomial(2000 * n, replacement=True, generator=generator)
    counts = torch.stack([(drawn.view(2000, n) == word).sum(1) for word in range(3)], 1)
    student = (counts + 0.5) / (n + 1.5)
    distance = (teacher * (teacher / student).log()).sum(dim=1).mean().item()
    print(f"{n:5} {distance:10.4f}")

# %% [markdown]
# From a hundred draws to a thousand, the distance falls to a tenth.
# From ten to a hundred it falls only to a fifth, since the added half draws still matter there.
# A network shares what it learns between places, so it needs fewer draws at each; but one token still tells it little.
#
# So a student that is shown probabilities should need fewer answers.
# The teacher here is the model after GRPO, and two students start from `instruct-llm`, which is the same size and has not learned any sums.
# The two differ only in their targets.
# The teacher answers 1,920 questions with one to three steps once each, rightly or wrongly.
# One student imitates the tokens of these answers, the other learns the teacher's probabilities at each of their places.
# For comparison we show the weak model, which read worked answers to the same questions, and the teacher.

# %%
students = {
    "weak model": ways["weak"],
    "student, from tokens": runs("distilled"),
    "student, from probabilities": runs("distilled, soft"),
    "teacher": ways["GRPO"],
}
print(f"teacher, up to three steps: {fmean(map(share, ways['GRPO'])):.0%} right")

# %% [markdown]
# The table counts all 48 questions, those with four steps included.

# %%
print("model                        share right, three seeds    mean")
for name, points in students.items():
    shares = [solved(p, 1) for p in points]
    print(f"{name:28}", *(f"{s:7.0%}" for s in shares), f"{fmean(shares):8.0%}")

# %% tags=["remove-cell"]
hard, soft = (students[f"student, from {what}"] for what in ("tokens", "probabilities"))
better = sum(solved(a, 1) < solved(b, 1) for a, b in zip(hard, soft))
assert 0 < better < len(soft)
assert fmean(solved(p, 1) for p in soft) < fmean(ones["weak"]) < fmean(ones["GRPO"])

# %% [markdown]
# On average the probabilities teach more than the tokens, as they should.
# But with one of the seeds it is the other way round, so three seeds don't show it.
# With so few answers, neither student comes near the teacher; the one that learned from probabilities is about as good as the weak model, which read right labels for the same questions.
# A teacher's mistakes are learned too; the study doesn't tell us how much that costs.
#
# Soft targets need the teacher's logits and the same vocabulary; to imitate its texts, you need only the texts.
#
# ### Honest limits
#
# - **One kind of question.**
#   The sums have one form, and their grammar is known.
#   A verifier for real mathematics has to read answers in any form, and one for code needs tests that someone wrote.
# - **A small model, and few rounds.**
#   Three seeds and 48 questions leave several percentage points to luck.
#   GRPO ran for a hundred rounds; real runs take thousands.
# - **The steps were given.**
#   Our labels say what a step is.
#   Large models bring chains of their own from pretraining, and rewards for the outcome make these longer {cite:p}`guo2025`.

# %% [markdown]
# ## Takeaways
#
# A model computes each token with a fixed number of layers; the tokens it writes are scratch paper.
# Each step of a chain is also a lesson of its own.
# A verifier of the outcome passes right answers with wrong chains; one of the process does not.
# A calculator removes wrong sums, and forcing more steps removes the early end; neither helps a model that misreads the question.
# pass@k counts the ways to take $k$ of $n$ answers; a vote needs no verifier, but can only strengthen what the model says most often.
# Apart from how they average, fine-tuning, rejection sampling and GRPO are one loss with different weights: 1, right or wrong, and the advantage.
# A starting model without right answers gets no gradient, so a few labels come first.
# From then on, GRPO on checked answers needs no labels, but it needs more answers.
# A reward is one bit for a chain, while a label gives every token.
# GRPO made probable what was possible: pass@1 rose; pass@16 was already near its maximum for the taught kind, and at four steps it fell on average.
# One greedy answer of the model before GRPO was right as often as one sampled answer after it.
# A student that sees its teacher's probabilities is told more by each answer than one that sees tokens.
# Three seeds did not show that it learns more.
#
# *In practice*: {cite:t}`cobbe2021` trained verifiers and let them choose among a hundred answers to school mathematics problems.
# {cite:t}`wei2022chain` put eight worked examples in the prompt, and only large models gained from them.
# DeepSeek-R1-Zero began GRPO with a model that was sometimes right, and rewarded only the outcome and the form {cite:p}`guo2025`.
# Its authors also distilled its successor, DeepSeek-R1: small models learned more from its chains than from rewards of their own.
# {cite:t}`yue2025` found that after RLVR, models solve more problems in one attempt but fewer in hundreds of attempts than before.
# In their runs, what was possible became probable, but little new became possible; whether longer training changes this is disputed.
# {cite:t}`lightman2024` trained one verifier on the steps and one on the outcome; the first chose better among many answers.
# A chain is not a report of how a model reached its answer.
# Given a hint in the prompt, models followed it but gave other reasons {cite:p}`turpin2023`.
#
# A chain makes the text longer, and every new token attends to all of it; how long a text may be, and what that costs, is the subject of [The context window](context_window.ipynb).

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("reasoning")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (check): how deep an answer is ★
#
# A model reads a question and writes some tokens, one after the other.
# How many layers are on the longest path from the question to the last token that it writes?
# Each written token is read as the next input.
#
# ```python
# def longest_path(n_layers, n_written):
#     return n
# ```
#
# Check it with `checks.longest_path(longest_path)`.
# How deep is the worked answer about Kate's pears in `instruct-llm`, which has six layers, if each word and each full stop is a token?


# %% tags=["hide-cell", "solution"]
def longest_path(n_layers, n_written):
    return n_layers * n_written


checks.longest_path(longest_path)
written = len(re.findall(r"\w+|\.", worked_answer(kate)))
depth, short = (longest_path(start.config.n_layers, n) for n in (written, 3))
print(f"{depth} layers, instead of {short} for 'So ten.'")

# %% [markdown]
# ### Exercise 2 (build): a verifier that reads ★★★
#
# Our verifiers leave the reading to a grammar.
# Write one that reads both texts itself, and finds the first wrong step of an answer.
# It takes 20 to 40 lines.
#
# The number that changes is always the hero's, who is named in the first sentence.
# Every sentence between the first and the question is an event with one number.
# *Found* and *gave him* or *gave her* add that number; *took*, *ate*, and *gave* with a name take it away.
#
# A step such as *nine less two is seven* is wrong if one of its three numbers, or its sign, does not match the question.
# A missing step counts as wrong at its place, and so does an extra one.
# Return the place of the first wrong step, counted from 0, or −1 if nothing is wrong; the last sentence, *So ten*, is not judged.
#
# ```python
# def first_wrong_step(question, text):
#     return place
# ```
#
# Check it with `checks.first_wrong_step(first_wrong_step)`.
# Then compare it with `verifiable.read_question`, on a hundred questions.
# A reward for each step before the first mistake would be *process supervision*.


# %% tags=["hide-cell", "solution"]
NUMBER = {word: n for n, word in enumerate(verifiable.WORDS)}
ANY = f"({'|'.join(NUMBER)})"
STEP = re.compile(rf"\b{ANY} (and|less) {ANY} is {ANY}\b")


def signed(sign, amount):
    return NUMBER[amount] if sign == "and" else -NUMBER[amount]


def steps_of(question):
    """Return total before, change and total after of each event."""
    first, *events, _ = question.split(". ")
    (word,) = re.findall(rf"\b{ANY}\b", first)
    total, steps = NUMBER[word], []
    for event in events:
        (word,) = re.findall(rf"\b{ANY}\b", event)
        gains = re.search(r"\b(found|gave (him|her))\b", event)
        change = signed("and" if gains else "less", word)
        steps.append((total, change, total + change))
        total += change
    return steps


def first_wrong_step(question, text):
    written = [
        (NUMBER[before], signed(sign, amount), NUMBER[after])
        for before, sign, amount, after in STEP.findall(text)
    ]
    both = zip_longest(steps_of(question), written)
    return next((place for place, (a, b) in enumerate(both) if a != b), -1)


checks.first_wrong_step(first_wrong_step)
for text in attempts:
    print(first_wrong_step(kate.text, text), text[:60])
for question in questions(100, seed=2):
    totals = [after for *_, after in steps_of(question.text)]
    assert totals == list(question.totals[1:])

# %% [markdown]
# ### Exercise 3 (derive): what a vote is worth ★★
#
# Each answer to a question is right with probability $p$, independently of the others, and all wrong ones give the same number.
# How often is a vote of three right?
#
# ```python
# def vote_of_three(p):
#     return probability
# ```
#
# Check it with `checks.vote_of_three(vote_of_three)`.
# For which $p$ is the vote better than one answer?
# Why do votes do better where wrong answers differ?


# %% tags=["hide-cell", "solution"]
def vote_of_three(p):
    # All three are right, or two are: three ways to choose the wrong one.
    return p**3 + 3 * p**2 * (1 - p)


checks.vote_of_three(vote_of_three)
for p in (0.3, 0.5, 0.7):
    print(f"p = {p}: a vote is right in {vote_of_three(p):.0%}")
# The difference to p is p (1 − p) (2 p − 1): a vote helps above 1/2. Where wrong answers
# differ they split their votes, and a right number wins with less than half of them.

# %% [markdown]
# ### Exercise 4 (derive): groups that teach ★★
#
# Each answer to a question is right with probability $p$, independently of the others, and a group has $G$ answers.
# What is the probability that GRPO learns from the group, that is, that its rewards are not all equal?
#
# ```python
# def groups_that_teach(p, size):
#     return probability
# ```
#
# Check it with `checks.groups_that_teach(groups_that_teach)`.
# Which questions are a waste of sampling, and what would you do about it?


# %% tags=["hide-cell", "solution"]
def groups_that_teach(p, size):
    return 1 - p**size - (1 - p) ** size


checks.groups_that_teach(groups_that_teach)
for p in (0.01, 0.1, 0.5, 0.9, 0.99):
    print(f"p = {p}: {groups_that_teach(p, 8):.0%} of groups of eight")
# Those that are far too hard or too easy. Leave out questions that the policy always or
# never solves, or draw larger groups for hard ones.

# %% [markdown]
# ### Exercise 5 (build): soft targets ★★
#
# Write the loss of a student that learns from its teacher's probabilities.
# `student` and `teacher` are logits, one row for each token.
# Return the mean over the tokens of $D_\text{KL}(p^\text{T} \,\|\, p^\text{S}) = \sum_v p^\text{T}_v (\ln p^\text{T}_v - \ln p^\text{S}_v)$.
#
# ```python
# def soft_target_loss(student, teacher):
#     return loss
# ```
#
# Check it with `checks.soft_target_loss(soft_target_loss)`.
# What becomes of it if the teacher is certain of one token?


# %% tags=["hide-cell", "solution"]
def soft_target_loss(student, teacher):
    student, teacher = student.log_softmax(dim=1), teacher.log_softmax(dim=1)
    return (teacher.exp() * (teacher - student)).sum(dim=1).mean()


checks.soft_target_loss(soft_target_loss)
certain, logits = torch.tensor([[40.0, 0.0, 0.0]]), torch.tensor([[1.0, 2.0, 0.5]])
hard = torch.nn.functional.cross_entropy(logits, torch.tensor([0]))
print(f"{soft_target_loss(logits, certain):.3f} = {hard:.3f} nats, the cross-entropy")
# A teacher that is certain gives the loss of an ordinary label.

# %% [markdown]
# ### Exercise 6 (explore): a verifier with a hole ★★
#
# Write a verifier that passes an answer if it says the right number *anywhere*, as `says_it_somewhere(prompt, text)`.
# Let `weak` answer the questions of `exam`, four times each: how many answers pass even though their outcome is wrong?
# Write one answer that passes for every question.
# What will GRPO make of this, if you give it enough rounds?


# %% tags=["hide-cell", "solution", "nbval-ignore-output"]
def says_it_somewhere(prompt, text):
    total = verifiable.read_question(prompt).totals[-1]
    return verifiable.WORDS[total] in re.findall(r"\w+", text)


batch = answer(weak, exam, n=4)
verdicts = [
    (says_it_somewhere(p.text, text), verifiable.outcome_is_right(p.text, text))
    for p, text in zip(batch.prompts, batch.texts)
]
print(f"{verdicts.count((True, False))} of {len(verdicts)} answers pass and are wrong")
trick = " ".join(verifiable.WORDS)
assert all(says_it_somewhere(question.text, trick) for question in exam)
# A policy needs to find such an answer only once in a group: it is then the best of the
# group, and becomes more probable. Longer chains name more numbers, so they are a way
# there. What was a small mistake of the verifier becomes the policy's aim, which is
# reward hacking again. Read the last number, and refuse an answer without "So".

# %% [markdown]
# ## Sources
#
# Written steps are from {cite:t}`nye2021`, who call them a scratchpad, and {cite:t}`wei2022chain`, who put them into the prompt.
# What they add to a transformer is shown in {cite:t}`merrill2024`.
# Verifiers are from {cite:t}`cobbe2021`, process supervision from {cite:t}`uesato2022` and {cite:t}`lightman2024`, and the vote from {cite:t}`wang2023consistency`.
# pass@k and its unbiased estimate are in {cite:t}`chen2021`.
# Learning from one's own right answers is STaR {cite:p}`zelikman2022`; GRPO is from {cite:t}`shao2024`; RLVR was named by {cite:t}`lambert2024`.
# Distillation is from {cite:t}`hinton2015`.
