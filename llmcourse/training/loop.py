"""The training loop for whatever is learned: update, evaluate, save, report.

    batches ── update ── update ── update ── …        one step each
                            │
              evaluation, checkpoint, at intervals

Pretraining, fine-tuning, DPO and reward models differ in what a batch is and in its
loss. How an update is made from a loss, in `update_weights`, is the same for all.
"""

import ctypes
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llmcourse.model.attention import KVCache, RaggedCache
from llmcourse.model.transformer import Block
from llmcourse.training import parallel
from llmcourse.training.checkpoints import Run, Stateful
from llmcourse.training.config import (
    Evaluation,
    History,
    PretrainingConfig,
    Update,
    autocast,
    learning_rate,
)
from llmcourse.training.optimizers import make_optimizer


@runtime_checkable
class Batches(Stateful, Protocol):
    """An endless iterator over batches that knows which come next."""

    def __next__(self) -> Any:
        """Return the next batch."""


Loss: TypeAlias = Callable[[Any], Tensor]  # the mean loss on some rows
Weight: TypeAlias = Callable[[Any], int]  # how much some rows count in a mean


def train(
    model: nn.Module,
    batches: Batches,
    held_out: Any,
    loss: Loss,
    config: PretrainingConfig,
    *,
    weight: Weight,
    metrics: Callable[[], dict[str, float]] = dict,
    recipe: dict[str, Any],
    run: Run,
) -> History:
    """Make all steps of a run, or those that are left; return the losses.

    Args:
        model: Changed in place where it is not frozen, and so are the batches.
        batches: An endless iterator that knows where it is.
        held_out: Rows like those of a batch, a tensor or a list.
        loss: With the current model.
        config: How long and how fast.
        weight: For example, the number of the rows' targets.
        metrics: Returns what else was measured since its last call.
        recipe: What must match to resume, besides the config: plain values.
        run: Where the run is saved, and who follows it.

    Raises:
        ValueError: If the whole model is frozen, if the processes of `parallel` cannot
            share a batch or differ, or as in `Run.resume`.
        FloatingPointError: If a loss, a gradient or a weight is not finite.
        OSError: If a checkpoint cannot be written.
    """
    parallel.check_divides(config)
    optimizer, history = make_optimizer(model, config), History()
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer}
    parts |= {"batches": batches, "history": history}
    recipe = {"config": asdict(config), **recipe}
    resumed = run.resume(recipe, parts)
    parallel.check_alike("recipe", str(run.whole_recipe(recipe, parts)))
    parallel.check_alike("number of steps made", len(history.updates))
    for step in range(len(history.updates), config.steps + 1):
        last = step == config.steps
        if not resumed:  # what was saved has been evaluated
            if last or step % config.eval_interval == 0:
                mean = mean_loss(held_out, loss, weight, config)
                if not math.isfinite(mean):
                    raise FloatingPointError(
                        f"step {step} needs a finite loss on the held-out text, got "
                        f"{mean}: try a lower learning rate than {config.learning_rate}"
                    )
                found = Evaluation(step=step, loss=mean, metrics=metrics())
                history.evaluations.append(found)
                run.log(found)
            run.save_if_due(step, recipe, parts, last=last)
        if not last:
            shares = weighted_losses(next(batches), loss, weight, config)
            update = update_weights(model, optimizer, shares, step, config)
            history.updates.append(replace(update, metrics=metrics()))
            run.log(history.updates[-1])
        resumed = False
    return history


def weighted_losses(
    batch: Any, loss: Loss, weight: Weight, config: PretrainingConfig
) -> Iterator[Tensor]:
    """Yield what each of this process's parts of a batch adds to its mean loss.

    Parts can have different weights, so the mean of their means would be wrong.

    Args:
        batch: Rows, a tensor or a list, in `accumulation` parts.
        loss: As in `train`.
        weight: As in `train`.
        config: Sets the number of parts.
    """
    own, total = parallel.own_rows(batch), weight(batch)
    for part in _cut(own, math.ceil(len(own) / config.accumulation)):
        yield loss(part) * (weight(part) / total)


@torch.no_grad()
def mean_loss(
    rows: Any, loss: Loss, weight: Weight, config: PretrainingConfig
) -> float:
    """Return the mean loss over any number of rows, read in parts as large as a step's.

    Arguments are as in `weighted_losses`.
    """
    parts = _cut(rows, config.batch_size // config.accumulation)
    return math.fsum(loss(part).item() * weight(part) for part in parts) / weight(rows)


def _cut(rows: Any, size: int) -> list[Any]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def update_weights(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    shares: Iterable[Tensor],
    step: int,
    config: PretrainingConfig,
) -> Update:
    """Make one update from a loss in parts; return its record, in the loss's unit.

    The loss is the sum of its shares. Each is requested once the gradient of the one
    before is done, so only one part's activations are in memory at a time.
    `optimizer.zero_grad()` is called first.

    Args:
        model: Changed in place, where its weights are not frozen.
        optimizer: The optimizer of these weights.
        shares: Scalars, each with its graph; at least one. The shares of all processes
            of `parallel` add up.
        step: Updates made before this one; sets the learning rate.
        config: How long and how fast.

    Raises:
        FloatingPointError: If the loss or its gradient is not finite.
    """
    optimizer.zero_grad()
    try:
        losses = []
        for share in shares:
            share.backward()  # type: ignore[no-untyped-call]
            losses.append(share.detach())
        loss = parallel.add_up(torch.stack(losses).sum().item(), model)
        learning = [weight for weight in model.parameters() if weight.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(learning, config.clip_norm)
        norm = parallel.whole(norm)
        if not (math.isfinite(loss) and math.isfinite(norm.item())):
            raise FloatingPointError(
                f"step {step + 1} needs a finite loss and gradient, got loss {loss} "
                f"and gradient norm {norm.item()}: try a lower learning rate than "
                f"{config.learning_rate}"
            )
        rate = learning_rate(step, config)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("speed", 1)
        optimizer.step()
    finally:
        optimizer.zero_grad()
    return Update(
        step=step + 1, loss=loss, learning_rate=rate, gradient_norm=norm.item()
    )


def predict(model: nn.Module, ids: Tensor, config: PretrainingConfig) -> Tensor:
    """Return the model's logits, computed in the config's precision and still in it.

    Args:
        model: Gives a logit for each position and output.
        ids: What it reads, on any device.
        config: Sets the precision.
    """
    ids = ids.to(next(model.parameters()).device)
    with autocast(config.precision, ids.device):
        logits: Tensor = model(ids)
    return logits


def checkpoint_blocks(model: nn.Module) -> None:
    """Make each block of a model keep only its input; change the model in place.

    Everything inside is recomputed in the backward pass. A run gives the same bits,
    with less memory and one more forward pass of the blocks. This is called gradient or
    activation checkpointing; the checkpoints of a `Run` are something else.

    Args:
        model: A `Transformer`, or a module that holds one. With gradients, it then
            raises a ValueError for a key-value cache, which no block may write twice.

    Source: Chen et al. (2016), "Training deep nets with sublinear memory cost".
    """
    for part in model.modules():
        if isinstance(part, Block):
            again = partial(_compute_twice, part.forward)
            part.forward = again  # type: ignore[method-assign]


def _compute_twice(forward: Callable[..., Tensor], *inputs: Any) -> Tensor:
    if torch.is_grad_enabled():
        for each in inputs:
            if isinstance(each, KVCache | RaggedCache):
                raise ValueError(
                    "a model with checkpoint_blocks must get no key-value cache, got a "
                    f"{type(each).__name__}: use torch.no_grad() to read with it"
                )
    update: Tensor = checkpoint(forward, *inputs, use_reentrant=False)
    return update


def compile_model(model: nn.Module) -> None:
    """Let torch compile a model's forward and backward passes; change it in place.

    Many small operations become a few loops in C++, which read and write each number
    fewer times. Steps are faster and losses stay the same up to rounding, but a run
    begins with a minute of processor time for compiling: once for batches of any
    length, and once more for evaluation without gradients.

    Args:
        model: A `Transformer`, or any other module.

    Raises:
        OSError: If there is no C++ compiler.

    Source: Ansel et al. (2024), "PyTorch 2: Faster machine learning through dynamic
    Python bytecode transformation and graph compilation".
    """
    compilers = (os.environ.get("CXX", "g++"), "clang++", "cl")
    if not any(map(shutil.which, compilers)):
        raise OSError("compiling a model needs a C++ compiler, such as g++, got none")
    model.compile(dynamic=True)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of the options in malloc.h
_MOST = 2**31 - 1  # options are of C's type int
_MOST_OF_OLD_VERSIONS = 2**25  # bytes; they refuse to keep larger blocks


def keep_freed_memory() -> bool:
    """Let the process keep memory that it has freed; return whether it does.

    Each training step makes tensors of the same sizes and drops them. glibc, the C
    library of Linux, hands large blocks back to the system, which then has to find and
    clear each page again for the next step. Keeping them changes no results but saves
    time: with batches of 8 × 256 tokens, a vocabulary of 2,048 and one thread, a step
    without this took 1.25 times the processor time in bfloat16, and 1.09 times in
    float32. In return, the process holds on to its peak memory until it ends. Call it
    once before training, in a program of your own, not in a library.

    Without glibc, nothing happens. The environment variables
    ``MALLOC_TRIM_THRESHOLD_`` and ``MALLOC_MMAP_THRESHOLD_`` do the same from outside.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018, others have another mallopt or none
        mallopt = libc.mallopt
    except (OSError, TypeError, AttributeError):
        return False
    large = any(
        mallopt(_MMAP_THRESHOLD, n_bytes) for n_bytes in (_MOST, _MOST_OF_OLD_VERSIONS)
    )
    return large and bool(mallopt(_TRIM_THRESHOLD, _MOST))
