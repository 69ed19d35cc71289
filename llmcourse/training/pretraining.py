"""Pretraining: guess the next token everywhere, and be corrected everywhere.

    tokens   The   quick   brown   fox    one window of the text
    ids      The   quick   brown          what the model reads
    targets        quick   brown   fox    what it should have guessed

Each position is a training example of its own, so one window of T + 1 tokens gives
T of them in a single pass.
"""

from dataclasses import asdict
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from llmcourse.arguments import check_ids, check_range
from llmcourse.model.transformer import Transformer
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import History, PretrainingConfig, Update
from llmcourse.training.loop import predict, train, update_weights, weighted_losses
from llmcourse.training.losses import blockwise_cross_entropy
from llmcourse.training.windows import (
    NO_TOKEN,
    Tokens,
    Windows,
    pieces,
    tokens_fingerprint,
)


def pretrain(
    model: Transformer,
    train_tokens: Tokens,
    valid_tokens: Tokens,
    config: PretrainingConfig,
    generator: torch.Generator,
    *,
    start_token: int | None = None,
    in_order: bool = False,
    run: Run = Run(),
) -> History:
    """Train the model in place; return the losses, in nats per token.

    The same generator state gives the same run. The model is evaluated before the
    first step, every `eval_interval` steps and after the last, always on the same
    windows.

    Args:
        model: Changed in place.
        train_tokens: The text to learn from.
        valid_tokens: The held-out text.
        config: How long and how fast.
        generator: Decides the order of the windows.
        start_token: If given, each window begins at this token and ends with the
            next, so that the model always reads one document, from its start.
        in_order: Whether the first pass takes the windows roughly in order, and only
            later ones shuffle them.
        run: Where the run is saved, so that it can be stopped, and who follows it;
            by default, nowhere and nobody.

    Raises:
        ValueError: If tokens are not one-dimensional integers within the vocabulary
            or too few for one batch, or the windows too long for the model; if the
            processes of `parallel` cannot share a batch or do not agree; or if the
            checkpoints in the folder belong to another run, or all are damaged.
        FloatingPointError: If a loss or its gradient is not finite. The model then
            still has the weights from before that step.
        OSError: If a checkpoint cannot be written.
    """
    length = config.context_length
    check_range(1, model.config.context_length, context_length=length)
    windows, valid = (
        Windows(tokens, length, start_token) for tokens in (train_tokens, valid_tokens)
    )
    for text in (windows, valid):
        for _, piece in pieces(text.tokens):
            check_ids("tokens", piece, model.config.vocab_size)
    return train(
        model,
        windows.shuffled(config.batch_size, generator, in_order=in_order),
        valid.spread(config.eval_examples),
        partial(next_token_loss, model, config=config),
        config,
        weight=n_targets,
        recipe={
            "model": asdict(model.config),
            "train_tokens": tokens_fingerprint(windows.tokens),
            "valid_tokens": tokens_fingerprint(valid.tokens),
            "start_token": start_token,
            "in_order": in_order,
            "seed": generator.initial_seed(),
        },
        run=run,
    )


def train_step(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    windows: Int[Tensor, "batch window"],
    step: int,
    config: PretrainingConfig,
) -> Update:
    """Make one update; return its record, the loss in nats per token.

    Calls `optimizer.zero_grad()` first.

    Args:
        model: Changed in place.
        optimizer: Optimizer of the model, see `make_optimizer`.
        windows: T + 1 tokens in each row; processed in `accumulation` equal parts.
        step: Updates made before this one; sets the learning rate.
        config: How long and how fast.

    Raises:
        ValueError: As in `next_token_loss`.
        FloatingPointError: If the loss or its gradient is not finite.
    """
    loss = partial(next_token_loss, model, config=config)
    shares = weighted_losses(windows, loss, n_targets, config)
    return update_weights(model, optimizer, shares, step, config)


def n_targets(windows: Int[Tensor, "batch window"]) -> int:
    """Return the number of tokens to guess: all but each row's first and `NO_TOKEN`."""
    return int((windows[:, 1:] != NO_TOKEN).sum())


def next_token_loss(
    model: Transformer, windows: Int[Tensor, "batch window"], config: PretrainingConfig
) -> Tensor:
    """Return the model's mean loss on windows of T + 1 tokens, in nats per token.

    A row may end early: `NO_TOKEN` is not to be guessed. It is read as token 0, which
    no token before it can see.

    Raises:
        ValueError: If there is nothing to predict, if the windows are longer than the
            model can read, or if a target is outside the vocabulary.
    """
    logits = predict(model, windows[:, :-1].clamp(min=0), config)  # (B, T, V)
    targets = windows[:, 1:].flatten().to(logits.device)
    return blockwise_cross_entropy(logits.flatten(0, 1), targets, ignored=NO_TOKEN)
