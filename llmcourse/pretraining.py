"""Pretraining: guess the next token everywhere, and be corrected everywhere.

    tokens   The   quick   brown   fox    one window of the text
    ids      The   quick   brown          what the model reads
    targets        quick   brown   fox    what it should have guessed

Each position is a training example of its own, so one window of T + 1 tokens gives
T of them in a single pass.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from llmcourse.transformer import Transformer
from llmcourse.windows import Tokens, Windows


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """How long and how fast a model learns."""

    steps: int = 1000
    batch_size: int = 8  # in windows
    context_length: int = 128  # of a window, in tokens
    learning_rate: float = 4e-3  # at its peak
    final_share: float = 0.0  # of the peak, where the learning rate ends
    warmup_steps: int = 50
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    eval_interval: int = 100  # in steps
    eval_windows: int = 64
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        """Raise ValueError for a value that no training can have."""
        for name, value in vars(self).items():
            if name == "betas":
                wanted, fine = "in [0, 1)", all(0 <= beta < 1 for beta in value)
            elif name == "precision":
                wanted, fine = "float32 or bfloat16", value in ("float32", "bfloat16")
            elif name == "final_share":
                wanted, fine = "in [0, 1]", 0 <= value <= 1
            elif name in ("warmup_steps", "weight_decay"):
                wanted, fine = "at least 0", value >= 0
            else:
                wanted, fine = "positive", value > 0
            if not fine:
                raise ValueError(f"{name} must be {wanted}, got {value}")


@dataclass(frozen=True, kw_only=True)
class Update:
    """One step of training; the loss is in nats per token."""

    step: int  # 1 is the first
    loss: float  # on this step's batch, before its update
    learning_rate: float
    gradient_norm: float  # before clipping


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The loss on the held-out windows, in nats per token."""

    step: int  # updates made so far; 0 is the untrained model
    loss: float


@dataclass(frozen=True, kw_only=True)
class History:
    """What happened in a training, in order."""

    updates: list[Update] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)


def pretrain(
    model: Transformer,
    train_tokens: Tokens,
    valid_tokens: Tokens,
    config: PretrainingConfig,
    generator: torch.Generator,
    *,
    progress: Callable[[Update | Evaluation], None] | None = None,
    start_token: int | None = None,
) -> History:
    """Train the model in place; return the losses, in nats per token.

    The same generator state gives the same training. The model is evaluated before
    the first step, every `eval_interval` steps and after the last.

    Args:
        model: Changed in place.
        train_tokens: The text to learn from.
        valid_tokens: The held-out text.
        config: How long and how fast.
        generator: Decides the order of the windows.
        progress: Called with each update and each evaluation.
        start_token: Where given, each window begins at this token, so that the
            model always reads a document from its start.

    Raises:
        ValueError: If tokens are not one-dimensional integers within the vocabulary
            or too few for one batch, or the windows too long for the model.
        FloatingPointError: If the loss or its gradient is not finite. The model then
            still has the weights from before that step.
    """
    length, limit = config.context_length, model.config.context_length
    if length > limit:
        raise ValueError(
            f"windows must fit into the model's context_length {limit}, got {length}"
        )
    train = Windows(train_tokens, length, start_token)
    batches = train.shuffled(config.batch_size, generator)
    held_out = Windows(valid_tokens, length, start_token).spread(config.eval_windows)
    optimizer = make_optimizer(model, config)
    history = History()
    for step in range(config.steps + 1):
        if step % config.eval_interval == 0 or step == config.steps:
            loss = mean_loss(model, held_out, config)
            history.evaluations.append(Evaluation(step=step, loss=loss))
            if progress:
                progress(history.evaluations[-1])
        if step < config.steps:
            update = train_step(model, optimizer, next(batches), step, config)
            history.updates.append(update)
            if progress:
                progress(history.updates[-1])
    return history


def train_step(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    windows: Int[Tensor, "batch window"],
    step: int,
    config: PretrainingConfig,
) -> Update:
    """Make one update; return its record, the loss in nats per token.

    Args:
        model: Changed in place.
        optimizer: Of the model's parameters, see `make_optimizer`.
        windows: T + 1 tokens in each row.
        step: Updates made before this one; sets the learning rate.
        config: How long and how fast.

    Raises:
        ValueError: If a token is outside the vocabulary.
        FloatingPointError: If the loss or its gradient is not finite.
    """
    loss = next_token_loss(model, windows, config)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
        optimizer.zero_grad()
        raise FloatingPointError(
            f"step {step + 1} needs a finite loss and gradient, got loss "
            f"{loss.item()} and gradient norm {norm.item()}: try a lower learning "
            f"rate than {config.learning_rate}"
        )
    rate = learning_rate(step, config)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()
    return Update(
        step=step + 1, loss=loss.item(), learning_rate=rate, gradient_norm=norm.item()
    )


def next_token_loss(
    model: Transformer, windows: Int[Tensor, "batch window"], config: PretrainingConfig
) -> Tensor:
    """Return the model's mean loss on windows of T + 1 tokens, in nats per token.

    Raises:
        ValueError: If a token is outside the vocabulary.
    """
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
    parts = torch.split(windows, config.batch_size)
    losses = [next_token_loss(model, part, config).item() for part in parts]
    weighted = (loss * len(part) for loss, part in zip(losses, parts, strict=True))
    return math.fsum(weighted) / len(windows)


def learning_rate(step: int, config: PretrainingConfig) -> float:
    """Return the learning rate of a step, in weight change per normalised gradient.

    It rises in a straight line over the first `warmup_steps` steps and then falls
    along half a cosine to `final_share` of its peak.

    Source: Loshchilov and Hutter (2017), "SGDR", equation 5, without restarts.

    >>> config = PretrainingConfig(steps=100, warmup_steps=4, learning_rate=0.8)
    >>> [round(learning_rate(step, config), 3) for step in (0, 1, 3, 52, 99)]
    [0.2, 0.4, 0.8, 0.4, 0.0]
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    fall = 0.5 * (1.0 + math.cos(math.pi * done))  # 1 → 0
    return config.learning_rate * (config.final_share + (1 - config.final_share) * fall)


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
