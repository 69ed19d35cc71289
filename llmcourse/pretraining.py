"""Pretraining: guess the next token everywhere, and be corrected everywhere.

    tokens   The   quick   brown   fox    one window of the text
    ids      The   quick   brown          what the model reads
    targets        quick   brown   fox    what it should have guessed

Each position is a training example of its own, so one window of T + 1 tokens gives
T of them in a single pass.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from llmcourse.checkpoints import (
    Checkpoint,
    Run,
    checkpoint_paths,
    resume,
    save_checkpoint,
)
from llmcourse.schedule import PretrainingConfig as PretrainingConfig
from llmcourse.schedule import best_precision as best_precision
from llmcourse.schedule import learning_rate as learning_rate
from llmcourse.training_log import Evaluation as Evaluation
from llmcourse.training_log import History as History
from llmcourse.training_log import Update as Update
from llmcourse.transformer import Transformer
from llmcourse.windows import Tokens, Windows, check_ids, fingerprint


def pretrain(
    model: Transformer,
    train_tokens: Tokens,
    valid_tokens: Tokens,
    config: PretrainingConfig,
    generator: torch.Generator,
    *,
    progress: Callable[[Update | Evaluation], None] | None = None,
    start_token: int | None = None,
    checkpoint_folder: str | Path | None = None,
    checkpoint_interval: int = 100,
    tokenizer: str | None = None,
) -> History:
    """Train the model in place; return the losses, in nats per token.

    The same generator state gives the same training. The model is evaluated before
    the first step, every `eval_interval` steps and after the last, always on the same
    windows.

    With a folder, the training can be stopped at any moment. Called again in the same
    way it goes on from the folder's newest checkpoint, and ends with the bits of a
    training that was never stopped, given the same processor, number of threads and
    version of torch.

    Args:
        model: Changed in place.
        train_tokens: The text to learn from.
        valid_tokens: The held-out text.
        config: How long and how fast.
        generator: Decides the order of the windows.
        progress: Called with each update and each evaluation that is made now, not
            with those of before a checkpoint.
        start_token: Where given, each window begins at this token, so that the
            model always reads a document from its start.
        checkpoint_folder: Of this training alone; created if missing.
        checkpoint_interval: Steps from one checkpoint to the next; there is one
            before the first step and after the last, too.
        tokenizer: Fingerprint of what made the tokens, to be compared with that of
            the checkpoints, see `packing.tokenizer_fingerprint`.

    Raises:
        ValueError: If tokens are not one-dimensional integers within the vocabulary
            or too few for one batch, or the windows too long for the model; or if
            the checkpoints in the folder are of another training, or all damaged.
        FloatingPointError: If a loss or its gradient is not finite. The model then
            still has the weights from before that step.
        OSError: If a checkpoint cannot be written.
    """
    if checkpoint_interval < 1:
        raise ValueError(
            f"checkpoint_interval must be positive, got {checkpoint_interval}"
        )
    train = _windows(train_tokens, model, config, start_token)
    valid = _windows(valid_tokens, model, config, start_token)
    held_out = valid.spread(config.eval_windows)
    batches = train.shuffled(config.batch_size, generator)
    optimizer = make_optimizer(model, config)
    run = Run(
        config=config,
        model=model.config,
        train_tokens=fingerprint(train.tokens),
        valid_tokens=fingerprint(valid.tokens),
        start_token=start_token,
        tokenizer=tokenizer,
        seed=generator.initial_seed(),
    )
    history, saved = History(), -1
    if checkpoint_folder is not None and checkpoint_paths(checkpoint_folder):
        history = resume(checkpoint_folder, run, model, optimizer, batches)
        saved = len(history.updates)
    for step in range(len(history.updates), config.steps + 1):
        last = step == config.steps
        if step != saved and (last or step % config.eval_interval == 0):
            history.evaluations.append(_evaluate(model, held_out, step, config))
            if progress:
                progress(history.evaluations[-1])
        due = step != saved and (last or step % checkpoint_interval == 0)
        if due and checkpoint_folder is not None:
            now = Checkpoint.of(run, history, model, optimizer, batches)
            save_checkpoint(checkpoint_folder, now)
        if not last:
            update = train_step(model, optimizer, next(batches), step, config)
            history.updates.append(update)
            if progress:
                progress(update)
    return history


def _windows(
    tokens: Tokens,
    model: Transformer,
    config: PretrainingConfig,
    start_token: int | None,
) -> Windows:
    """Return the windows of a text that the model can be trained on, all of it."""
    length, limit = config.context_length, model.config.context_length
    if length > limit:
        raise ValueError(
            f"windows must fit into the model's context_length {limit}, got {length}"
        )
    windows = Windows(tokens, length, start_token)
    check_ids(windows.tokens, model.config.vocab_size)
    return windows


def _evaluate(
    model: Transformer,
    held_out: Int[Tensor, "batch window"],
    step: int,
    config: PretrainingConfig,
) -> Evaluation:
    loss = mean_loss(model, held_out, config)
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"step {step} needs a finite loss on the held-out text, got {loss}: try a "
            f"lower learning rate than {config.learning_rate}"
        )
    return Evaluation(step=step, loss=loss)


def train_step(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    windows: Int[Tensor, "batch window"],
    step: int,
    config: PretrainingConfig,
) -> Update:
    """Make one update; return its record, the loss in nats per token.

    Gradients that the model still has from elsewhere are dropped first.

    Args:
        model: Changed in place.
        optimizer: Of the model's parameters, see `make_optimizer`.
        windows: T + 1 tokens in each row; processed in `accumulation` equal parts.
        step: Updates made before this one; sets the learning rate.
        config: How long and how fast.

    Raises:
        ValueError: If a token is outside the vocabulary, or if the windows are too
            long or too short or cannot be divided into the parts.
        FloatingPointError: If the loss or its gradient is not finite.
    """
    optimizer.zero_grad()
    try:
        loss = _add_gradients(model, windows, config)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        if not (math.isfinite(loss) and math.isfinite(norm.item())):
            raise FloatingPointError(
                f"step {step + 1} needs a finite loss and gradient, got loss {loss} "
                f"and gradient norm {norm.item()}: try a lower learning rate than "
                f"{config.learning_rate}"
            )
        rate = learning_rate(step, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    finally:
        optimizer.zero_grad()
    return Update(
        step=step + 1, loss=loss, learning_rate=rate, gradient_norm=norm.item()
    )


def _add_gradients(
    model: Transformer, windows: Int[Tensor, "batch window"], config: PretrainingConfig
) -> float:
    """Add the gradient of the mean loss to the weights', part by part; return the loss.

    The mean over a batch is the mean over its equal parts of their means, and so is
    its gradient. Only one part's activations are in memory at a time.
    """
    if len(windows) % config.accumulation:
        raise ValueError(
            f"accumulation must divide the {len(windows)} windows of the batch, "
            f"got {config.accumulation}"
        )
    losses = []
    for part in windows.chunk(config.accumulation):
        loss = next_token_loss(model, part, config)
        (loss / config.accumulation).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
    return torch.stack(losses).mean().item()


def next_token_loss(
    model: Transformer, windows: Int[Tensor, "batch window"], config: PretrainingConfig
) -> Tensor:
    """Return the model's mean loss on windows of T + 1 tokens, in nats per token.

    Raises:
        ValueError: If there are no windows, if they have nothing to predict or more
            than the model can read, or if a token is outside the vocabulary.
    """
    if windows.shape[0] < 1 or windows.shape[1] < 2:
        raise ValueError(
            "there must be a window, and at least 2 tokens in each, "
            f"got {windows.shape[0]} of {windows.shape[1]} tokens"
        )
    low, high, vocab = int(windows.min()), int(windows.max()), model.config.vocab_size
    if low < 0 or high >= vocab:
        raise ValueError(f"tokens must be in 0 … {vocab - 1}, got {low} … {high}")
    windows = windows.to(model.embedding.weight.device)
    low_precision = config.precision == "bfloat16"
    with torch.autocast(windows.device.type, torch.bfloat16, enabled=low_precision):
        logits = model(windows[:, :-1])  # (B, T, V)
    # torch's own, in one pass: `losses.cross_entropy` equals it by test.
    return cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())


@torch.no_grad()
def mean_loss(
    model: Transformer, windows: Int[Tensor, "batch window"], config: PretrainingConfig
) -> float:
    """Return the loss over any number of windows, in nats per token."""
    parts = torch.split(windows, config.batch_size // config.accumulation)
    losses = [next_token_loss(model, part, config).item() for part in parts]
    weighted = (loss * len(part) for loss, part in zip(losses, parts, strict=True))
    return math.fsum(weighted) / len(windows)


def make_optimizer(model: Transformer, config: PretrainingConfig) -> torch.optim.AdamW:
    """Return AdamW that decays the matrices, but neither embedding nor norms.

    Decay pulls weights that the data does not hold in place towards zero. A rare
    token's embedding is hardly ever held, and a norm's weight belongs near one.

    Source: Loshchilov and Hutter (2019), "Decoupled weight decay regularization".
    """
    blocks = list(model.blocks.parameters())
    matrices = [weight for weight in blocks if weight.ndim >= 2]
    others = [weight for weight in blocks if weight.ndim < 2]
    others += [*model.embedding.parameters(), *model.norm.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=config.betas, fused=True
    )
