# %% [markdown]
# (scaling)=
# # Beyond the laptop
#
# A model that is too large or too slow to train on one machine is trained on many, and planned on paper first.
#
# **You will be able to**
#
# - train in two processes to the result of one, and say what they exchange and when,
# - count the memory of a training run, and say what checkpointing and sharding take off it,
# - say what data, tensor and pipeline parallelism divide, and which of them needs the fastest links,
# - plan a training run from a million to a trillion parameters, in FLOPs, processors, hours and money, and say how sure the plan is.
#
# **You need** the chapters [Pretraining](pretraining.ipynb) and [Scaling laws](scaling_laws.ipynb).
#
# **Takes** about 45 minutes to read with the code.
#
# **Runs in** about half a minute on two processor cores.

# %% [markdown]
# ## Setup
#
# `launch` runs functions of this page in two processes, and returns what each process returned.
# It uses `torchrun`, torch's own program, which starts a script several times and gives each process its number; the processes exchange numbers through a library, here *gloo*.

# %% tags=["hide-input"]
import inspect
import os
import subprocess
import sys
from functools import partial
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy, linear, silu
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parameters_to_vector
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from llmcourse import plotting
from llmcourse.checks import scaling as checks
from llmcourse.model.costs import PeakMemory, n_parameters
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text import tales
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.presets import SMALL
from llmcourse.training.pretraining import pretrain

plotting.use_course_style()
_ = torch.set_num_threads(1)

# %% tags=["hide-input"]
PROGRAM = """
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parameters_to_vector
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.text import tales
from llmcourse.training.config import PretrainingConfig
from llmcourse.training.pretraining import pretrain

{functions}

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, n = dist.get_rank(), dist.get_world_size()
torch.save([worker(rank, n) for worker in ({names},)], f"{folder}/{{rank}}.pt")
dist.destroy_process_group()
"""


def launch(*workers, n=2):
    """Run functions of this page in n processes; return, for each, n results."""
    known = (new_model, batch, mean_loss, *workers)
    functions = "\n".join(inspect.getsource(one) for one in known)
    names = ", ".join(one.__name__ for one in workers)
    with TemporaryDirectory() as name:
        folder = Path(name).as_posix()
        text = PROGRAM.format(functions=functions, names=names, folder=folder)
        program = Path(name, "program.py")
        program.write_text(text, encoding="utf-8")
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        ended = subprocess.run(
            [*torchrun, "--nproc-per-node", str(n), str(program)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "USE_LIBUV": "0"},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
        found = [torch.load(Path(name, f"{rank}.pt")) for rank in range(n)]
    return list(zip(*found))


# %% [markdown]
# ## The problem
#
# Llama 3.1 405B has 405 billion parameters and has read 15.6 trillion tokens {cite:p}`grattafiori2024`.
# Such models come from **{term}`distributed training`**, on thousands of processors at once.
# One core would not get far.
# We assume $6ND$ FLOPs ([Scaling laws](scaling_laws.ipynb)), 50 billion FLOPs a second for a core (a guess: measure yours), and 16 bytes for each parameter, counted below.

# %%
N, D = 405e9, 15.6e12
years = 6 * N * D / 50e9 / (3600 * 24 * 365)
print(f"time on one core: {years / 1e6:.0f} million years")
print(f"memory: {16 * N / 1e12:.1f} TB, or {ceil(16 * N / 80e9)} GPUs of 80 GB")

# %% [markdown]
# There are two walls, time and memory.
# More machines push both walls back, but they must talk to each other, which also takes time.
# This page shows four ways to split a training run: by rows of the batch, by what is held in memory, inside each matrix, and by layers.
# We run and check the first two, try the third on one network, and calculate how long processes wait in the fourth.

# %% [markdown]
# ## By hand
#
# A model has one weight, $w = 1$, and predicts $w x$.
# The loss is the mean of $(w x - t)^2$ over a batch of four examples, and the gradient of one example is $2x(wx - t)$.
#
# | example | input $x$ | target $t$ | gradient | process |
# |---|---|---|---|---|
# | 0 | 1 | 3 | −4 | 0 |
# | 1 | 2 | 2 | 0 | 1 |
# | 2 | 3 | 3 | 0 | 0 |
# | 3 | 2 | 6 | −16 | 1 |
#
# One process computes the mean of all four, −5.
# Two processes take two examples each: their means are −2 and −8, and the mean of these is again −5.
# So both know the gradient of the whole batch once they have exchanged *one number*.
#
# This goes wrong if the shares are unequal.
# Say that process 0 has three examples and process 1 only the last: the means are −1.33 and −16, and their mean is −8.67.
# So each process divides the sum of its gradients by the size of the *whole* batch, and then the results are added.
# (Texts are of unequal lengths, so shares are unequal in tokens even where they are equal in rows.)

# %%
x, t = torch.tensor([1.0, 2, 3, 2]), torch.tensor([3.0, 2, 3, 6])
gradients = 2 * x * (x - t)  # w is 1
equal = gradients[0::2].mean(), gradients[1::2].mean()
print(f"whole batch {gradients.mean():.0f}, equal shares {sum(equal) / 2:.0f}")

# %%
unequal = gradients[:3].mean(), gradients[3:].mean()
sums = gradients[:3].sum() / 4, gradients[3:].sum() / 4
print(f"unequal shares: mean of the means {sum(unequal) / 2:.2f}")
print(f"sums divided by four, added: {sum(sums):.0f}")

# %% [markdown]
# ## Data parallel
#
# ### The idea
#
# In **{term}`data parallelism`** each process has the whole model and its own rows of each batch.
# After the backward pass all gradients are added, and each process takes the step for itself.
# The exchange that leaves the sum of all vectors with everyone is called **{term}`all-reduce`**.
#
# ![Two columns, process 0 and process 1. Each has the same weights w, its own rows of the batch, and its gradient made from both. The two gradients go into one wide box in the middle: all-reduce, their sum. From there an arrow leads to a step in each column, and on to new weights, the same in both.](figures/two-processes-one-step.svg)
#
# *Rows differ, gradients differ; after the all-reduce both processes take the same step.*
#
# | Symbol | Meaning | Name in code |
# |---|---|---|
# | $n$ | processes that train together, each with its own device | `n`, *world size* |
# | $r$ | number of a process, from 0 | `rank` |
# | $N$, $D$ | parameters; training tokens | `n_parameters`, `n_tokens` |
#
# ### In code
#
# A small transformer reads the bytes of tales.


# %%
def new_model():
    sizes = TransformerConfig(
        vocab_size=256, d_model=64, n_layers=2, n_heads=2, n_kv_heads=2, d_ff=128
    )
    return Transformer(sizes, torch.Generator().manual_seed(0))


# %% [markdown]
# A step's batch depends only on the step, so it is the same for any number of processes.


# %%
def batch(step):
    texts = [story.text.encode()[:65] for story in tales.generate(8, seed=step)]
    return torch.tensor([list(text) for text in texts])  # (B, T + 1)


print("rows and bytes of a batch:", tuple(batch(0).shape))


# %%
def mean_loss(model, rows):
    logits = model(rows[:, :-1])  # (B, T, V)
    return cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


# %% [markdown]
# The loop is that of [Pretraining](pretraining.ipynb) without clipping and schedule, and with three changes: a share of the rows, a division by `n`, and the all-reduce.
# (Clipping would come after the all-reduce, so that all processes scale by the same norm.)
# (Here all shares are equal, so a share's mean divided by `n` equals its sum divided by the size of the whole batch.)


# %%
def train(rank=0, n=1, exchange=True):
    model = new_model()
    losses = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(20):
        rows = batch(step)[rank::n]  # this process's share
        loss = mean_loss(model, rows) / n  # its part of the batch's mean
        optimizer.zero_grad()
        loss.backward()
        if n > 1 and exchange:
            for weight in model.parameters():
                dist.all_reduce(weight.grad)  # the sum over all processes
        optimizer.step()
        losses.append(loss.item())
    return losses, parameters_to_vector(model.parameters()).detach()


# %%
alone_losses, alone = train()
first, second = launch(train)[0]  # losses and weights of each process
print("step   one process   process 0 + process 1")
for step in (0, 9, 19):
    parts = first[0][step], second[0][step]
    print(f"{step + 1:4}{alone_losses[step]:14.2f}   {parts[0]:.2f} + {parts[1]:.2f}")

# %% [markdown]
# In each row the two parts on the right add up to the loss on the left, in nats a byte.
# The weights agree as well: bit for bit between the two processes, and up to rounding with the single process.

# %%
same_bits = torch.equal(first[1], second[1])
close = torch.allclose(first[1], alone, atol=1e-3)
print("weights of the two processes, the same bits:", same_bits)
print("weights of one process, the same within 0.001:", close)

# %% tags=["remove-cell"]
sums = [a + b for a, b in zip(first[0], second[0])]
torch.testing.assert_close(sums, alone_losses, rtol=0, atol=1e-5)
assert torch.equal(first[1], second[1])
assert (first[1] - alone).abs().max() < 1e-3

# %% [markdown]
# ### What breaks it
#
# *Predict*: both processes start with the same weights.
# If we forget the all-reduce, do they stay close, since they learn from the same kind of text?
#
# :::{dropdown} Answer
# No, they drift apart, and each becomes a model of its own that has read half of the text.
# No error is raised and each loss falls, so the mistake shows only if the weights of the processes are compared, or the result with that of one process.
# (With the all-reduce, the distance below would be 0.)
# :::

# %%
apart = [train(rank, 2, exchange=False) for rank in (0, 1)]
start = parameters_to_vector(new_model().parameters()).detach()
distance = (apart[0][1] - apart[1][1]).norm() / (apart[0][1] - start).norm()
print(f"distance between the two: {distance:.0%} of the way that process 0 has gone")

# %% tags=["remove-cell"]
assert distance > 0.3 and all(losses[-1] < losses[0] for losses, _ in apart)

# %% [markdown]
# ### What an all-reduce sends
#
# If everybody sent everything to process 0, its link to the network would be the bottleneck.
# In a **ring** each process talks only to its neighbour {cite:p}`patarasuk2009`.
# The vector is cut into $n$ parts.
# In $n - 1$ rounds the parts travel around the ring, and each process adds what it has: this is **{term}`reduce-scatter`**, after which each process has the sum of *one* part.
# In $n - 1$ more rounds the sums travel on: this is **{term}`all-gather`**.
#
# ![Three processes, each a row of three cells. At the start process 0 has a0, b0, c0, process 1 a1, b1, c1, process 2 a2, b2, c2. After reduce-scatter each has the sum of one part: process 0 the sum of b, process 1 of c, process 2 of a. After all-gather all have the sums of a, b and c.](figures/ring-of-three.svg)
#
# *Reduce-scatter leaves each process with one sum; all-gather passes the sums around.*


# %%
def ring_all_reduce(vectors):
    n = len(vectors)
    parts = [list(vector.clone().chunk(n)) for vector in vectors]
    sent = [0] * n
    for phase in (0, 1):  # reduce-scatter, then all-gather
        for turn in range(n - 1):
            for rank in range(n):
                k = (rank - turn + phase) % n  # the part that is passed on
                neighbour = parts[(rank + 1) % n]
                old = neighbour[k] if phase == 0 else 0
                neighbour[k] = parts[rank][k] + old
                sent[rank] += len(parts[rank][k])
    return [torch.cat(own_parts) for own_parts in parts], sent


# %%
for n in (2, 4, 8):
    vectors = list(torch.randn(n, 8 * 7, generator=torch.Generator().manual_seed(n)))
    sums, sent = ring_all_reduce(vectors)
    torch.testing.assert_close(sums, [sum(vectors)] * n)
    print(f"{n} processes, {len(vectors[0])} numbers each: {sent[0]} sent by each")

# %% [markdown]
# Each process sends $2 \frac{n - 1}{n}$ times the vector, less than twice, however many processes there are.
# That is why data parallelism scales so far.
# (The number of rounds grows, and each has a delay, so with thousands of processes, trees or rings within rings take the place of the ring.)
#
# If computing takes longer than sending, the two can overlap, and the sending then costs no extra time.
# Take a GPU that reaches 400 of an H100's 989 teraFLOPs a second, with a network link of 50 GB a second (400 Gbit).
# Its gradients take 2 bytes a number.

# %%
speed, link = 400e12, 50e9
seconds_to_send = 2 * 2 / link  # for each parameter: 2 bytes, sent nearly twice
seconds_to_compute = 4 / speed  # backward, for each parameter and token
tokens = seconds_to_send / seconds_to_compute
print(f"{tokens:,.0f} tokens for each process and step")
print(f"{16_384 * tokens / 1e6:.0f} million for 16,384 processes")

# %% [markdown]
# The number of parameters cancels out.
# To hide the sending behind its backward pass, a process needs about eight thousand tokens in each step, however large the model, if each token uses all of its parameters.
# With 16,384 processes that makes a huge batch; Llama 3.1 405B took 16 million, because larger batches gain little ([Pretraining](pretraining.ipynb)).
# So the largest runs split something else as well.
#
# ### With a library
#
# Torch's `DistributedDataParallel` (**{term}`DDP`**) runs data parallelism for any model {cite:p}`li2020`.
# It adds up gradients in buckets of 25 MB, while the backward pass is still computing those of the layers below.
# This package does it in `llmcourse.training.parallel`, in one piece and without overlap.


# %%
def train_ddp(rank, n):
    model = new_model()
    losses = []
    replica = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(20):
        loss = mean_loss(replica, batch(step)[rank::n])  # DDP takes the mean itself
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / n)
    return losses, parameters_to_vector(model.parameters()).detach()


# %% [markdown]
# The package's `pretrain` finds out by itself whether it runs in several processes.


# %%
def train_package(rank=0, n=1):
    tokens = torch.cat([batch(step).flatten() for step in range(20)])
    config = PretrainingConfig(steps=20, batch_size=8, context_length=64)
    generator = torch.Generator().manual_seed(0)
    history = pretrain(new_model(), tokens, tokens, config, generator)
    return [update.loss for update in history.updates]


# %%
ddp_results, package_results = launch(train_ddp, train_package)
ddp, package = ddp_results[0], package_results[0]  # of process 0
print(
    "DDP and our loop, the same weights:", torch.allclose(ddp[1], first[1], atol=1e-3)
)
differences = [abs(a - b) for a, b in zip(package, train_package())]
same = max(differences) < 1e-5
print("package, two processes and one, the same losses:", same)

# %% tags=["remove-cell"]
torch.testing.assert_close(ddp[0], first[0], rtol=0, atol=1e-4)
assert torch.allclose(ddp[1], first[1], atol=1e-3)
assert same

# %% [markdown]
# So these two commands do the same training in one process and in two (over thousands of steps, rounding adds up):
#
# ```bash
# llmcourse pretrain --preset base-llm --out run/
# torchrun --nproc-per-node 2 -m llmcourse pretrain --preset base-llm --out run-2/
# ```
#
# The first process writes logs and checkpoints.
# If a process dies, `torchrun` ends them all, and `--resume` goes on with any number of processes that divides the batch.
#
# :::{dropdown} Two machines, and SLURM
# With GPUs, `--device cuda` gives each process one of them.
# Gradients then travel by NCCL, NVIDIA's program for messages between GPUs, instead of gloo, the one for processors.
# Start this on each of two machines with eight GPUs; `node0` is the name of the first.
# The folder is on a disk that both can see, because all processes read the checkpoint when they resume.
#
# ```bash
# torchrun --nnodes 2 --nproc-per-node 8 \
#   --rdzv-backend c10d --rdzv-id tales --rdzv-endpoint node0:29500 \
#   -m llmcourse pretrain --preset base-llm --device cuda --out /shared/run
# ```
#
# If a training run is too large for one GPU, add `--fsdp`; at the start each process still makes the whole model once.
#
# On a cluster whose machines are shared out by the program SLURM, the same thing is a job that picks up where it left off when it is started again.
# Below its first line, `#!/bin/bash`, comes:
#
# ```bash
# #SBATCH --job-name=tales
# #SBATCH --nodes=2
# #SBATCH --ntasks-per-node=1
# #SBATCH --gpus-per-node=8
# #SBATCH --time=01:00:00
# #SBATCH --requeue
# first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 8 \
#   --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:29500" \
#   -m llmcourse pretrain --preset base-llm --device cuda \
#   --out /shared/run --resume --quiet
# ```
#
# The course has no GPU: we tested on processors that `torchrun` finds its partner on another machine; the rest is untested.
# :::

# %% [markdown]
# ## What training holds in memory
#
# Four things are in memory at once: weights, their gradients, AdamW's two running means, and the **{term}`activations`**, the numbers that the backward pass needs again.
#
# | bytes for each parameter | in float32 | {term}`mixed precision` |
# |---|---|---|
# | weights | 4 | 2, and a copy of 4 for the optimizer |
# | gradients | 4 | 2 |
# | AdamW's means | 8 | 8 |
# | together | 16 | 16 |
#
# Mixed precision makes arithmetic faster, but it doesn't make this sum smaller.
# (The table shows how ZeRO counts {cite:p}`rajbhandari2020`; Megatron keeps gradients at 4 bytes, which makes 18.
# Torch's `autocast`, which this course uses, keeps weights and gradients at 4 bytes and rounds copies as it multiplies: 16 again.)
# We count the bytes of one step with `PeakMemory`, which sees every tensor that torch makes.


# %%
def memory_of_step(rows, change=None):
    """Return the parameters, the bytes after a step, and those of activations."""
    with PeakMemory() as memory:
        model = new_model()
        if change is not None:
            change(model)
        optimizer = torch.optim.AdamW(model.parameters())
        n = sum(weight.numel() for weight in model.parameters())
        loss = mean_loss(model, rows)
        activations = memory.live - 4 * n
        loss.backward()
        optimizer.step()
        del loss
    return n, memory.live, activations


# %%
n_weights, held, _ = memory_of_step(batch(0))
print(f"{n_weights:,} parameters, {held / n_weights:.1f} bytes for each after a step")

# %% tags=["remove-cell"]
assert abs(held / n_weights - 16) < 0.3

# %% [markdown]
# (The part above 16 is the table of angles for the positions.)
# What the backward pass needs comes on top, and grows with the number of tokens in the batch.

# %%
layers, width = 2, 64
print("rows   tokens   activations      bytes for each token, layer and coordinate")
for n_rows in (1, 2, 4, 8):
    n_tokens = n_rows * 64
    _, _, activations = memory_of_step(batch(0)[:n_rows])
    per_number = activations / n_tokens / layers / width
    print(f"{n_rows:4}{n_tokens:9}{activations / 2**20:10.2f} MiB{per_number:12.0f}")

# %% [markdown]
# The bytes for each token stay the same: twice the batch takes twice the room.
# (Logits and probabilities are included; in a larger model they matter less.)
#
# ### Checkpointing: compute it again
#
# **{term}`Gradient checkpointing <gradient checkpointing>`** keeps only what goes into each block, and computes the inside again during the backward pass {cite:p}`chen2016`.
# That is one more forward pass, $2ND$ FLOPs: $8ND$ instead of $6ND$.


# %%
def checkpointed(model):
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


# %%
flops = []
for name, change in (("all kept", None), ("checkpointed", checkpointed)):
    with FlopCounterMode(display=False) as counter:
        _, _, activations = memory_of_step(batch(0), change)
    flops.append(counter.get_total_flops())
    times = flops[-1] / flops[0]
    print(f"{name:13} {activations / 2**20:6.2f} MiB, {times:.1f} times the FLOPs")

# %% tags=["remove-cell"]
kept, again = (memory_of_step(batch(0), change)[2] for change in (None, checkpointed))
assert again < 0.6 * kept

# %% [markdown]
# Here the increase is less than a third, for two reasons.
# The scores of the next token are outside the blocks and are computed only once.
# And torch recomputes a block only up to the last number that it needs.
#
# The package does the same with `checkpoint_blocks(model)` in `llmcourse.training.loop`; for `pretrain` and `finetune`, the option `--gradient-checkpointing` turns it on.
# The trained model is the same, bit for bit.
# A table in [Speed, side by side](performance.md) shows what this and other options save and cost at the sizes of `base-llm-small`.
# With `--dry-run`, `pretrain` says how much memory and time a run would take, with the option or without:
#
# ```bash
# llmcourse pretrain --preset base-llm --gradient-checkpointing --dry-run
# ```

# %% [markdown]
# ### Sharding: hold it once
#
# In data parallelism each process holds the same 16 bytes for each parameter, but for most of a step it needs few of them.
# **{term}`Sharding <sharding>`** gives each process a part.
# ZeRO does so in three stages {cite:p}`rajbhandari2020`: first the optimizer's numbers are split, then the gradients too, then the weights too.
# The third stage is what torch calls *fully sharded data parallel*, **{term}`FSDP`** {cite:p}`zhao2023`.
#
# ![Four rows of three bars for one of four processes: weights, gradients, optimizer. DDP: all three are full. ZeRO-1: the optimizer is a quarter. ZeRO-2: gradients and optimizer are a quarter. ZeRO-3, FSDP: all three are a quarter. On the right, the bytes per parameter: 16, 7, 5.5 and 4.](figures/what-zero-shards.svg)
#
# *What one of four processes holds, in mixed precision: 2 bytes of weights, 2 of gradients, 12 for the optimizer.*
#
# Here are the bytes for each parameter, held by one of 1, 4, 64 and 1,024 processes.


# %%
def bytes_held(stage, n):  # for each parameter, by one process
    parts = [2, 2, 12]  # weights, gradients, the optimizer with its copy
    first_sharded = 3 - stage
    whole, sharded = sum(parts[:first_sharded]), sum(parts[first_sharded:])
    return whole + sharded / n


# %%
processes = 1, 4, 64, 1024
print("processes     " + "".join(f"{n:8,}" for n in processes))
for stage, name in enumerate(("DDP", "ZeRO-1", "ZeRO-2", "ZeRO-3 (FSDP)")):
    row = "".join(f"{bytes_held(stage, n):8.3g}" for n in processes)
    print(f"{name:14}{row}")

# %% [markdown]
# Only the last stage lets a model grow with the number of processes.
#
# FSDP needs more messages.
# Before a block computes, forward and again backward, its weights are gathered (all-gather); afterwards its gradients are added up in parts (reduce-scatter).
# Each of these three exchanges sends nearly $N$ numbers, one for each parameter.
# That makes $3N$ for each process and step, where the two halves of an all-reduce make $2N$.
#
# *Predict*: each of two processes holds half of every matrix.
# By how much do the losses differ from those of DDP?
#
# :::{dropdown} Answer
# By nothing but rounding.
# Each block sees whole matrices, gathered just before; only the place where numbers are kept has changed.
# :::


# %%
def train_fsdp(rank, n):
    model = new_model()
    losses = []
    for block in model.blocks:
        fully_shard(block)  # what is gathered together
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(20):
        loss = mean_loss(model, batch(step)[rank::n])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / n)
    held = sum(weight.to_local().numel() for weight in model.parameters())
    means = [optimizer.state[weight]["exp_avg"] for weight in model.parameters()]
    return losses, held, sum(mean.to_local().numel() for mean in means)


# %%
losses, held, means = launch(train_fsdp)[0][0]  # of process 0
print(f"of {n_weights:,} weights a process holds {held:,}, and means for {means:,}")
last, last_ddp = 2 * losses[-1], 2 * ddp[0][-1]  # they were divided by n
print(f"loss of process 0 at the end: FSDP {last:.2f}, DDP {last_ddp:.2f}")

# %% tags=["remove-cell"]
assert held == means == n_weights / 2
torch.testing.assert_close(losses, ddp[0], rtol=0, atol=1e-4)

# %% [markdown]
# The package does this with `shard(model)` in `llmcourse.training.parallel`, and `pretrain` and `finetune` do it with `--fsdp`:
#
# ```bash
# torchrun --nproc-per-node 2 -m llmcourse pretrain --preset base-llm --fsdp --out run-3/
# ```
#
# In the package's tests (fifty steps of a tiny model in float32), the losses match those of one process to $10^{-5}$, also with Muon, which gathers one matrix at a time.
# In a longer run, or in bfloat16, rounding can make a larger difference.
# A checkpoint is then a folder, into which each process writes its part (`torch.distributed.checkpoint`).
# Any number of processes that divides the batch can go on from it, with `--fsdp` or without, and also from a checkpoint in one file.
# At the end the parts are gathered, and the first process writes the model.
#
# With 42 million parameters, each of two processes holds 337 MB of weights, gradients and means, instead of 674.
# At its peak a process grows by 0.62 GB instead of 0.94: activations and the gathered block aren't sharded.
# `tests/benchmarks/bench_fsdp.py` measures this: run it with `torchrun --nproc-per-node 2`, once with `--fsdp` and once without.

# %% [markdown]
# ## Splitting the model itself
#
# ### Tensor parallel: a part of every matrix
#
# In **{term}`tensor parallelism`** each process multiplies by a part of each matrix {cite:p}`shoeybi2019`.
# A feed-forward network has widening matrices, here two, `gate` and `up`, and a narrowing one, `down`.
# The widening ones are cut so that each process gets some of the hidden units, the narrowing one so that it takes in just those.
# Then only the outputs must be added, once for the whole network.
#
# ![A row x goes to two processes. In each, half of the gate and up matrices give half of the hidden units, and then comes half of down. The two results meet at a plus, the all-reduce, and give y.](figures/feed-forward-in-two.svg)
#
# *Each process has half of the hidden units and everything that belongs to them.*

# %%
network = new_model().blocks[0].feed_forward  # down(silu(gate(x)) · up(x))
x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
gates, ups = network.gate.weight.chunk(2, dim=0), network.up.weight.chunk(2, dim=0)
downs = network.down.weight.chunk(2, dim=1)
print("gate", tuple(network.gate.weight.shape), "→ twice", tuple(gates[0].shape))
print("down", tuple(network.down.weight.shape), "→ twice", tuple(downs[0].shape))

# %% [markdown]
# Each process computes its part, and the parts are added.

# %%
parts = [
    linear(silu(linear(x, gate)) * linear(x, up), down)
    for gate, up, down in zip(gates, ups, downs)
]
y = network(x)
print("the sum of the parts is the whole:", torch.allclose(sum(parts), y, atol=1e-5))
print("one part alone is not:", not torch.allclose(parts[0], y, atol=0.1))

# %% tags=["remove-cell"]
torch.testing.assert_close(sum(parts), y, rtol=1e-4, atol=1e-5)
assert not torch.allclose(parts[0], y, atol=0.1)

# %% [markdown]
# Attention is cut in the same way, by heads.
# So each layer has two all-reduces forward and two backward.
# For each token, an all-reduce adds up as many numbers as the model is wide, and in the simplest form nothing is computed in the meantime.
# The next cell compares sending with computing, for Llama 3.1 405B cut into eight.
# Inside a machine, GPUs are joined by NVLink, at 450 GB a second in each direction; between machines, by links of 50.

# %%
width, layers, n = 16_384, 126, 8
# For each token and layer 4 all-reduces of 2 bytes a number, sent 2 (n - 1) / n times
n_bytes = 4 * width * 2 * 2 * (n - 1) / n
compute = 6 * 405e9 / layers / n / 400e12  # seconds, for each token and layer
for name, link in (("inside a machine", 450e9), ("between machines", 50e9)):
    print(f"{name}: sending adds {n_bytes / link / compute:.0%} to computing")

# %% [markdown]
# So tensor parallelism stays inside a machine, where eight GPUs are joined (in newer systems, a rack of 72).
#
# ### Pipeline parallel: some of the layers
#
# In **{term}`pipeline parallelism`** each process has some of the layers, a *stage*, and hands its output to the next {cite:p}`huang2019`.
# It sends little: one vector for each token from stage to stage, and its gradient back.
# But while one stage computes, the others would wait, so the batch is cut into **{term}`micro-batches <micro-batch>`**, which follow each other.
#
# ![A timetable of four rows, one for each stage. Blue cells are micro-batches 1 to 4 going forward, each stage one step after the one above; orange cells are the same going backward, in reverse. The other cells are empty: each stage waits in six of the fourteen steps.](figures/pipeline-of-four-stages.svg)
#
# *Four stages, four micro-batches: each stage works in 8 of 14 steps, and waits in 6.*
#
# The waiting is called the **{term}`bubble`**.
# With $p$ stages and $m$ micro-batches, a stage works for $m$ out of $m + p - 1$ steps in each direction.
# (Interleaved timetables wait less {cite:p}`narayanan2021`.)

# %%
print("micro-batches  " + "".join(f"{m:>7}" for m in (1, 4, 16, 64)))
for p in (4, 16):
    row = "".join(f"{(p - 1) / (m + p - 1):7.0%}" for m in (1, 4, 16, 64))
    print(f"{p:2} stages wait {row}")

# %% [markdown]
# ### All of them at once
#
# For Llama 3.1 405B every matrix was cut in 8, the layers into 16 stages, and 128 such groups read their own parts of the batch.

# %%
tensor, pipeline, data = 8, 16, 128
print(f"{tensor * pipeline * data:,} GPUs")
own = 405e9 / (tensor * pipeline)  # parameters that one GPU holds and computes with
print(f"each computes with {own / 1e9:.1f} billion parameters")
print(f"weights: {2 * own / 1e9:.1f} GB in each")
print(f"optimizer, sharded over {data}: {12 * own / data / 1e9:.1f} GB in each")

# %% [markdown]
# The more a split must wait for its messages, the closer together its GPUs should be.
# Tensor parallelism stays within a machine, then comes the pipeline, and data parallelism, whose messages travel while a GPU computes, spans all machines.
# Long texts are cut as well (**{term}`context parallelism`**), and the experts of a {term}`mixture of experts` are spread over GPUs, each kept whole (**{term}`expert parallelism`**).

# %% [markdown]
# ## Planning a run
#
# A plan takes five numbers: parameters, tokens, a GPU's speed, the share of it that is reached (MFU), and the price of an hour.
# (The MFU counts only the arithmetic that the model needs: what checkpointing computes again does not count, so it lowers the MFU.)


# %%
def plan(n_parameters, n_tokens, peak=989e12, mfu=0.4, dollars=2.0):
    flops = 6 * n_parameters * n_tokens
    hours = flops / (peak * mfu) / 3600  # of one GPU
    return flops, hours, dollars * hours


# %% [markdown]
# ### Checked against published runs: FLOPs
#
# Four reports state how much arithmetic their runs took or were given: {cite:t}`brown2020` (table D.1), {cite:t}`hoffmann2022` (the budget of Gopher), {cite:t}`grattafiori2024`, and the log of nanochat, a small model that anyone can train {cite:p}`karpathy2025`.

# %%
stated = {  # parameters, tokens, FLOPs as published
    "GPT-3 Small": (125e6, 300e9, 2.25e20),
    "GPT-3": (174.6e9, 300e9, 3.14e23),
    "Chinchilla": (70e9, 1.4e12, 5.76e23),
    "Llama 3.1 405B": (405e9, 15.6e12, 3.8e25),
    "nanochat d20": (560_988_160, 11_219_763_200, 3.917670e19),
}

# %%
print(f"{'FLOPs':19} 6ND   published   difference")
for name, (n, d, published) in stated.items():
    flops = plan(n, d)[0]
    print(f"{name:15}{flops:8.2e}{published:12.2e}{flops / published - 1:+z13.0%}")

# %% tags=["remove-cell"]
for n, d, published in stated.values():
    assert abs(plan(n, d)[0] / published - 1) < 0.15

# %% [markdown]
# These agree within a few percent, but that proves less than it seems.
# GPT-3's authors used the same 6 FLOPs for each parameter and token, and Chinchilla's number is a budget set beforehand.
# Nanochat counts more finely, without the embedding table and with attention; in a small model with a large vocabulary these two nearly cancel out.
#
# ### Hours
#
# Hours depend on the MFU.
# Nanochat's was published: 48 %.
# For Llama 3.1 405B it was 41 % while the run was up, a little more than 90 % of the time over 54 days.
# For Llama 2 {cite:p}`touvron2023b` it wasn't published, and we assume 40 % of an A100, the GPU before the H100.

# %%
A100, H100 = 312e12, 989e12  # FLOPs a second in bfloat16, without sparsity
hours_of = {  # parameters, tokens, peak, MFU, GPU hours as published
    "Llama 2 7B": (7e9, 2e12, A100, 0.40, 184_320),
    "Llama 2 13B": (13e9, 2e12, A100, 0.40, 368_640),
    "Llama 2 34B": (34e9, 2e12, A100, 0.40, 1_038_336),
    "Llama 2 70B": (70e9, 2e12, A100, 0.40, 1_720_320),
    "Llama 3.1 405B": (405e9, 15.6e12, H100, 0.41 * 0.9, 30_840_000),
    "nanochat d20": (560_988_160, 11_219_763_200, H100, 0.48, 8 * 172 / 60),
}

# %%
print(f"{'GPU hours':17}     plan    published   difference")
for name, (n, d, peak, mfu, published) in hours_of.items():
    hours = plan(n, d, peak, mfu)[1]
    print(f"{name:14}{hours:12,.0f}{published:13,.0f}{hours / published - 1:+z13.0%}")

# %% tags=["remove-cell"]
for n, d, peak, mfu, published in hours_of.values():
    assert abs(plan(n, d, peak, mfu)[1] / published - 1) < 0.15

# %% [markdown]
# All six are within 15 %.
# With a run's own MFU that checks only the arithmetic; for Llama 2, where nothing was taken from the run, it says more.
#
# To see whether 40 % is a law, we turn the formula around: which MFU do the published hours of three more models imply {cite:p}`meta2024,deepseek2024v3`?

# %%
others = {  # parameters used for a token, tokens, GPU hours as published
    "Llama 3.1 8B": (8e9, 15e12, 1_460_000),
    "Llama 3.1 70B": (70e9, 15e12, 7_000_000),
    # It uses 37 of 671 billion at a time; the hours are of H800s.
    "DeepSeek-V3": (37e9, 14.8e12, 2_664_000),
}

# %%
implied = {}
for name, (n, d, published) in others.items():
    implied[name] = plan(n, d, H100, 1)[1] / published
    print(f"{name:14} {implied[name]:.0%} of an H100's bfloat16 peak")

# %% tags=["remove-cell"]
assert implied["Llama 3.1 8B"] < 0.16
assert 0.3 < implied["DeepSeek-V3"] < 0.4

# %% [markdown]
# It isn't a law: the smallest of the three implies a third of what the plan assumed.
# Llama 3.1's card doesn't say why, or what its hours include.
# (DeepSeek-V3 multiplied in 8 bits, where the peak speed is twice as high, so it reached half as large a share of that.
# It used H800s, which compute as fast as an H100 but have slower links.)

# %% mystnb={"image": {"alt": "GPU hours as planned over GPU hours as published, both on logarithmic axes from 20 to 40 million. Six points lie on the diagonal or next to it: nanochat d20 at the lower left, the four Llama 2 models in the middle, Llama 3.1 405B at the upper right. Two crosses, planned with 40 percent, lie below the diagonal: Llama 3.1 8B and 70B."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(4.5, 3))
for n, d, peak, mfu, published in hours_of.values():
    hours = plan(n, d, peak, mfu)[1]
    ax.plot(published, hours, "o", color="C0", markersize=4)
for name in ("Llama 3.1 8B", "Llama 3.1 70B"):
    n, d, published = others[name]
    ax.plot(published, plan(n, d)[1], "x", color="C1", markersize=6)
    ax.text(
        published * 1.3, plan(n, d)[1] * 0.7, name.removeprefix("Llama "), fontsize=8
    )
ax.plot([10, 1e8], [10, 1e8], ":", color="0.45", linewidth=1)
ax.text(60, 14, "nanochat d20", fontsize=8)
ax.text(1.5e4, 6e5, "Llama 2", fontsize=8)
ax.text(1.2e6, 4e7, "3.1 405B", fontsize=8)
_ = ax.set(xscale="log", yscale="log", xlim=(10, 1e8), ylim=(10, 1e8))
_ = ax.set(xlabel="GPU hours published, log scale", ylabel="planned, log scale")

# %% [markdown]
# *GPU hours as planned against GPU hours as published; on the diagonal the two are equal.*
#
# The dots were planned with a published MFU, or with 40 % for Llama 2.
# The crosses were also planned with 40 %; one of the two runs took nearly three times as many hours.
# So a plan is only as good as its MFU.
# Measure it in the first minutes of a run, on the machines that you will use, and plan again.
#
# ### Money
#
# Two reports state what the run cost, along with the price of an hour.
# Both costs are just hours times this price.
# (DeepSeek-V3's 2,788,000 hours are all of its training, the 2,664,000 above its pretraining alone.)

# %%
deepseek = 2_788_000 * 2.0  # all hours, at two dollars
nanochat = (3 + 51 / 60) * 24  # the whole run of 3:51 hours, at 24 dollars for 8 GPUs
print(f"DeepSeek-V3 {deepseek / 1e6:.3f} million dollars, published 5.576 million")
print(f"nanochat    {nanochat:.2f} dollars, published 92.40")

# %% [markdown]
# ### Energy and carbon
#
# Energy is hours times power, and carbon is energy times what the grid emits for each kilowatt-hour.
# A data centre also needs electricity for cooling and for converting voltages.
# For each kilowatt-hour that reaches the machines it may draw 1.1; this factor is its *power usage effectiveness* (PUE).
#
# Three reports give hours, power and carbon: {cite:t}`touvron2023` and {cite:t}`touvron2023b` for Llama 1 and 2, and {cite:t}`luccioni2023` for BLOOM.
# (BLOOM has 176 billion parameters and was trained in France; there we count the GPUs alone.)
# The report on Llama 2 and the card of Llama 3.1 {cite:p}`meta2024` leave out PUE and grid; we assume those of Llama 1.
# (A megawatt-hour, MWh, is 1,000 kWh; tons are metric.)

# %%
runs = {  # GPU hours, kW of one GPU, PUE, kg of CO2 for a kWh, tons as published
    "Llama 1 65B": (1_022_362, 0.4, 1.1, 0.385, 173),
    "Llama 2 70B": (1_720_320, 0.4, 1.1, 0.385, 291.42),
    "BLOOM": (1_082_990, 0.4, 1.0, 0.057, 24.7),
    "Llama 3.1 405B": (30_840_000, 0.7, 1.1, 0.385, 8930),
}

# %%
print(f"{'':14}{'MWh':>9}{'tons of CO2':>13}{'published':>11}")
for name, (gpu_hours, kilowatts, pue, grid, published) in runs.items():
    energy = gpu_hours * kilowatts * pue  # kWh
    tons = energy * grid / 1000
    print(f"{name:14}{energy / 1000:9,.0f}{tons:13,.0f}{published:11,.0f}")

# %% tags=["remove-cell"]
for gpu_hours, kilowatts, pue, grid, published in runs.values():
    assert abs(gpu_hours * kilowatts * pue * grid / 1000 / published - 1) < 0.03

# %% [markdown]
# Again this checks mainly the arithmetic: three of the reports multiplied the same numbers, with the power that a GPU is rated for.
# For Llama 2 our assumptions fit exactly; for Llama 3.1 they are 2 % off.
#
# BLOOM took about as much energy as Llama 1 65B but emitted a seventh of the carbon, because France's electricity comes mostly from nuclear power.
# And the final run is not everything.
# Making BLOOM's machines and keeping them switched on adds 25.8 tons to its 24.7.
# Developing Llama 1, with its smaller models and all trials, took 2,638 MWh, nearly six times the 450 of its largest model.
#
# How does that compare with using a model?
# Google measured 0.24 watt-hours for the median text prompt to its assistant, idle machines and cooling included {cite:p}`elsworth2025`.

# %%
gpu_hours, kilowatts, pue, *_ = runs["Llama 3.1 405B"]
prompts = gpu_hours * kilowatts * pue * 1000 / 0.24  # Wh, then prompts
print(f"Llama 3.1 405B's training: {prompts / 1e9:.0f} billion such prompts")

# %% [markdown]
# The prompts are to another model, so compare only the sizes.
# At a billion prompts a day, this is the energy of a hundred days; in a year such a service uses more than three times as much as the training did.
# (Answers that first write down many steps take much more than the median prompt; they are the subject of [Reasoning: rewards that can be checked](reasoning.ipynb).)
# So for a popular model, use takes more energy than the final run within months, and later more than all trials before it; [Deployment](deployment.ipynb) is about cheaper tokens.

# %% [markdown]
# ### From a million to a trillion
#
# Each model reads twenty tokens for each parameter, and we want to finish in 30 days.
# Half of a GPU's 80 GB is for the 16 bytes of each parameter, and the other half for activations.
# The table shows how many GPUs we need for memory and how many for the 30 days; the larger number decides.

# %%
print("parameters    FLOPs   for memory   for 30 days   GPU hours   dollars")
for n in (1e6, 1e8, 1e9, 1e10, 1e11, 1e12):
    flops, hours, money = plan(n, 20 * n)
    memory, days = ceil(16 * n / 40e9), ceil(hours / (30 * 24))
    print(f"{n:10.0e}{flops:9.0e}{memory:13,}{days:14,}{hours:12.1e}{money:10.1e}")

# %% [markdown]
# Ten times the parameters take a hundred times the work, since the text grows as well.
# Up to a billion, a single GPU will do.
# Beyond that, time demands more GPUs than memory does.
#
# Most models of the last line's size are now mixtures of experts.
# They compute only with the parameters that a token *uses*, though all must be in memory.
# DeepSeek-V3 holds 671 billion and computes with 37.
#
# For comparison, the course's small model ([The whole pipeline, once](pipeline.ipynb)) reads 4,000 stories of about 200 tokens.

# %%
small = n_parameters(SMALL.model)
stories = SMALL.pretraining.steps * SMALL.pretraining.batch_size
flops, hours, money = plan(small, stories * 200)
print(f"{small:,} parameters, {flops:.0e} FLOPs: {flops / 50e9:.0f} seconds on a core")
print(f"on a GPU at 40 %: {3600 * hours:.3f} seconds")
watt_hours = 10 * flops / 50e9 / 3600  # of a core that takes ten watts
print(f"{watt_hours:.2f} watt-hours on the core: {watt_hours / 0.24:.1f} of a prompt")

# %% tags=["remove-cell"]
assert stories == 4000

# %% [markdown]
# (A GPU wouldn't reach 40 % there: matrices this small don't keep it busy.)

# %% [markdown]
# ## Takeaways
#
# In data parallelism each process has the whole model and its own rows, and the sum of all gradients is the gradient of the batch.
# In a ring each process sends less than twice the vector, however many processes there are.
# Training holds 16 bytes for each parameter, and activations that grow with the tokens in a step.
# Checkpointing computes activations again, for up to a third more arithmetic.
# Sharding the optimizer divides 12 of the 16 bytes and sends no more; sharding everything sends half as much again.
# Tensor parallelism cuts every matrix and needs the fastest links; a pipeline cuts the layers, sends little, and waits in its bubble.
# Training takes about $6ND$ FLOPs; hours, money and energy follow from the MFU, which must be measured.
#
# *In practice*: begin with the simplest option that fits: one GPU, then DDP, then FSDP, and then the others.
# Save checkpoints often: with 16,384 GPUs, Llama 3.1 405B was interrupted 466 times in 54 days, mostly by broken hardware {cite:p}`grattafiori2024`.
# The names differ between programs (Megatron, DeepSpeed, torchtitan, JAX), but the splits are those on this page.
#
# The next chapters need one core again: [Fine-tuning](fine_tuning.ipynb) teaches a trained model a task.

# %% [markdown]
# ## Quiz
#
# Choose an answer; the line below the question says why it is right or wrong.

# %% tags=["remove-input"]
from llmcourse.classroom.quizzes import Quiz

Quiz.read("scaling")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1 (check): does it fit? ★
#
# In mixed precision, how many bytes of weights, gradients and optimizer does one of `n_processes` hold, at stage 0 (DDP) to 3 (FSDP)?
#
# ```python
# def training_bytes(n_parameters, n_processes, stage):
#     return n_bytes
# ```
#
# Check it with `checks.training_bytes(training_bytes)`.
# How many GPUs of 80 GB does a model of 70 billion parameters need at stage 3, if half of each is left for activations?
# What would checkpointing change about that number?


# %% tags=["hide-cell", "solution"]
def training_bytes(n_parameters, n_processes, stage):
    each = 0
    for place, n_bytes in enumerate((12, 2, 2), start=1):  # sharded in this order
        each += n_bytes / n_processes if place <= stage else n_bytes
    return each * n_parameters


checks.training_bytes(training_bytes)
n_gpus = next(n for n in range(1, 1000) if training_bytes(70e9, n, 3) <= 40e9)
print(f"{n_gpus} GPUs")
# Nothing, as long as half of each is kept for activations. But checkpointing makes these
# smaller: if less room will do for them, fewer GPUs are enough.

# %% [markdown]
# ### Exercise 2 (derive): how many micro-batches ★★
#
# A pipeline of `stages` should wait for at most the share `most` of its time.
# What is the smallest number of micro-batches that it needs?
#
# ```python
# def micro_batches(stages, most):
#     return n_micro_batches
# ```
#
# Check it with `checks.micro_batches(micro_batches)`.
# Llama 3.1 405B had 16 stages: how many would it need for 10 %, and why not simply take more?


# %% tags=["hide-cell", "solution"]
def micro_batches(stages, most):
    # (p - 1) / (m + p - 1) <= most  means  m >= (p - 1) (1 / most - 1)
    return max(1, ceil((stages - 1) * (1 / most - 1) - 1e-9))


checks.micro_batches(micro_batches)
print(f"{micro_batches(16, 0.1)} micro-batches")
# Each group of a pipeline must then read so many in every step. With 128 groups the batch
# grows beyond what the training can use, and small micro-batches use a GPU badly.

# %% [markdown]
# ### Exercise 3 (build): a network in parts ★★
#
# Cut the feed-forward network `down(silu(gate(x)) · up(x))` into `n` parts, so that their outputs add up to its output.
# The matrices are stored as in `torch.nn.Linear`: `gate` and `up` of shape (hidden, width), `down` of (width, hidden), and `n` divides the hidden units.
#
# ```python
# def split_network(gate, up, down, n):
#     return parts  # a list of n tuples (gate, up, down)
# ```
#
# Check it with `checks.split_network(split_network)`.
# Which numbers do the processes exchange, and how many for each token?


# %% tags=["hide-cell", "solution"]
def split_network(gate, up, down, n):
    return list(zip(gate.chunk(n), up.chunk(n), down.chunk(n, dim=1)))


checks.split_network(split_network)
# Only the outputs, added by one all-reduce: as many numbers as the model is wide.

# %% [markdown]
# ### Exercise 4 (build): an optimizer in parts ★★★
#
# Write ZeRO-1 for a model whose weights are one vector.
# `gradients` has the shape (steps, processes, weights): what each process found in each step.
# In each step the gradients are averaged so that each process gets only its part, as in reduce-scatter.
# Each process keeps AdamW's means for its part alone, without weight decay, and updates its part; then all parts are gathered.
# Write it like `MyAdamW` in [Pretraining](pretraining.ipynb), with $\beta$s of 0.9 and 0.99 and $\epsilon = 10^{-8}$, and return the weights.
# The number of processes divides the number of weights.
#
# ```python
# def zero_one(weights, gradients, rate):
#     return weights
# ```
#
# Check it with `checks.zero_one(zero_one)`; that sees only the weights, so make sure yourself that each process keeps its part of the means.
# Does a process send more numbers in each step than with an all-reduce, fewer, or as many?


# %% tags=["hide-cell", "solution"]
def zero_one(weights, gradients, rate):
    _, n, size = gradients.shape
    means, squares = torch.zeros(n, size // n), torch.zeros(n, size // n)

    def step_of(rank, t, part, gradient):  # what one process does, with its row
        means[rank] = 0.9 * means[rank] + 0.1 * gradient
        squares[rank] = 0.99 * squares[rank] + 0.01 * gradient**2
        mean = means[rank] / (1 - 0.9**t)
        square = squares[rank] / (1 - 0.99**t)
        return part - rate * mean / (square.sqrt() + 1e-8)

    for t, found in enumerate(gradients, start=1):  # (n, weights)
        scattered = found.mean(dim=0).chunk(n)  # reduce-scatter
        parts = weights.chunk(n)
        updated = [step_of(r, t, parts[r], scattered[r]) for r in range(n)]
        weights = torch.cat(updated)  # all-gather
    return weights


checks.zero_one(zero_one)
# As many: reduce-scatter and all-gather are the two halves of an all-reduce. Stage 1
# divides 12 of the 16 bytes and sends no more: often the first thing to try.

# %% [markdown]
# ### Exercise 5 (build): a plan ★★
#
# What is the smallest number of GPUs with which a training run fits into memory and ends in time?
# At stage 3 each may hold `room` bytes at 16 bytes for each parameter, and each computes `speed` FLOPs a second.
#
# ```python
# def fewest_processors(n_parameters, n_tokens, days, room, speed):
#     return n
# ```
#
# Check it with `checks.fewest_processors(fewest_processors)`.
# Plan a model of your own: choose its size and text, say what decides, memory or time, and what the hours cost.
# Which of your numbers would you measure first?


# %% tags=["hide-cell", "solution"]
def fewest_processors(n_parameters, n_tokens, days, room, speed):
    for_memory = ceil(16 * n_parameters / room)
    for_time = ceil(6 * n_parameters * n_tokens / (speed * days * 24 * 3600))
    return max(for_memory, for_time)


checks.fewest_processors(fewest_processors)
n = fewest_processors(7e9, 2e12, days=21, room=40e9, speed=0.4 * H100)
print(f"{n} H100s for Llama 2 7B in three weeks: {n * 21 * 24 * 2:,} dollars")
# Time decides: three GPUs could hold it. Measure the speed, for the MFU is the guess.

# %% [markdown]
# ## Sources
#
# Data parallelism as torch does it is from {cite:t}`li2020`, the ring from {cite:t}`patarasuk2009`.
# ZeRO is from {cite:t}`rajbhandari2020`, FSDP from {cite:t}`zhao2023`, and gradient checkpointing of deep networks from {cite:t}`chen2016`.
# Tensor parallelism is from {cite:t}`shoeybi2019`, and the pipeline of micro-batches from {cite:t}`huang2019`.
# {cite:t}`narayanan2021` and {cite:t}`grattafiori2024` describe how the splits are combined.
# The model FLOPs utilisation is from {cite:t}`chowdhery2023`.
# {cite:t}`patterson2021` show how to account for energy and carbon, and by how much they depend on the place and the processor.
