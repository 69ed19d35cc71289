"""How wrong a language model is: one number, in four units.

A model gives every possible next token a probability. Its loss is the mean of
-log(probability of the token that actually came). The same loss is read as

    nats per token    cross_entropy    what training minimises
    tokens            perplexity       as unsure as a fair die with that many sides
    bits per byte     bits_per_byte    comparable between different tokenizers
    share of floor    gap_to_floor     how much of it is the model's own fault
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmcourse.arguments import check_ids, check_positive, check_range

_ROWS = 64  # a block's probabilities then stay in the processor's cache


def cross_entropy(
    logits: Float[Tensor, "*batch vocab"],
    targets: Int[Tensor, "*batch"],
) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood of the targets, in nats per token.

    The largest logit is subtracted before exponentiation (`logsumexp` does so),
    so logits of any magnitude are safe, if their type can hold their differences.

    Args:
        logits: Unnormalised log-probabilities.
        targets: Index of the correct token at each position.

    Raises:
        ValueError: If there is no target, or one outside the vocabulary.

    Source: Goodfellow et al. (2016), section 5.5.

    >>> cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3]))  # log 4
    tensor(1.3863)
    """
    _check_targets(targets, vocab=logits.shape[-1])
    target_logits = logits.gather(-1, targets.long().unsqueeze(-1)).squeeze(-1)  # (*B)
    return torch.mean(logits.logsumexp(dim=-1) - target_logits)


class _InBlocks(torch.autograd.Function):
    """The loss and, in the same pass, its gradient; a few rows at a time.

    loss = mean of  log(Σ exp(logits)) - logit of the target
    ∂loss / ∂logits = (softmax(logits) - one at the target) / number of targets
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, ignored: int) -> Tensor:
        counted = targets != ignored  # (N,)
        columns = (targets.long() * counted)[:, None]  # any one for ignored targets
        precise = torch.promote_types(logits.dtype, torch.float32)
        share = (counted / counted.sum().clamp(min=1)).to(precise)  # of the mean, (N,)
        losses = torch.empty_like(share)
        gradient = torch.empty_like(logits) if logits.requires_grad else None
        for start in range(0, len(logits), _ROWS):
            rows = slice(start, start + _ROWS)
            column, weight = columns[rows], share[rows, None]  # (R, 1)
            block = logits[rows].to(precise)  # (R, V)
            probs = block.softmax(dim=-1)
            short = block.amax(-1, keepdim=True) - block.gather(-1, column)
            # The largest logit has probability exp(0) / Σ: its -log is log Σ.
            losses[rows] = (short - probs.amax(-1, keepdim=True).log()).squeeze(-1)
            if gradient is not None:
                probs *= weight
                gradient[rows] = probs.scatter_add_(-1, column, -weight)
        ctx.save_for_backward(gradient)
        return losses[counted].mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient if upstream == 1 else gradient * upstream, None, None


def blockwise_cross_entropy(
    logits: Float[Tensor, "position vocab"],
    targets: Int[Tensor, "position"],
    ignored: int = -100,
) -> Float[Tensor, ""]:
    """Return the same as `cross_entropy`, in nats per token, with less memory and time.

    Only a few rows of probabilities exist at a time, in float32 even if the logits'
    precision is lower. The gradient is computed in the same pass, in the precision of
    the logits. There is no second derivative: asking for one raises a RuntimeError.

    Args:
        logits: Unnormalised log-probabilities.
        targets: Index of the correct token at each position.
        ignored: A target that does not count. If none counts, the loss is NaN and its
            gradient 0.

    Raises:
        ValueError: If there is no target, or one outside the vocabulary.

    >>> blockwise_cross_entropy(torch.zeros(3, 4), torch.tensor([0, -100, 3]))  # log 4
    tensor(1.3863)
    """
    vocab = logits.shape[-1]
    _check_targets(targets.where(targets != ignored, 0), vocab)
    loss: Tensor = _InBlocks.apply(logits, targets, ignored)  # type: ignore[no-untyped-call, unused-ignore]
    return loss


def _check_targets(targets: Int[Tensor, "*batch"], vocab: int) -> None:
    check_range(1, **{"number of targets": targets.numel()})
    check_ids("targets", targets, vocab)


def perplexity(nats_per_token: float) -> float:
    """Return exp(loss), in tokens: the number of equally likely choices it amounts to.

    A loss of 710 nats or more gives infinity, as the number is too large for a float.

    Source: Jelinek et al. (1977), "Perplexity: a measure of the difficulty of
    speech recognition tasks".

    >>> round(perplexity(math.log(6)), 9)  # a fair die
    6.0
    """
    try:
        return math.exp(nats_per_token)
    except OverflowError:
        return math.inf


def bits_per_byte(nats_per_token: float, n_tokens: int, n_bytes: int) -> float:
    """Return the loss in bits per byte of UTF-8 text.

    With longer tokens, a model makes fewer but harder predictions. Spread over the
    bytes of the text, losses with different tokenizers can be compared.

    Args:
        nats_per_token: Mean loss over the text.
        n_tokens: Number of tokens that the mean was taken over.
        n_bytes: Length of the same text in bytes.

    Raises:
        ValueError: If there are no bytes.

    Source: Gao et al. (2020), "The Pile", section 3.1.

    >>> bits_per_byte(math.log(256), n_tokens=10, n_bytes=10)  # knows nothing
    8.0
    """
    check_range(1, n_bytes=n_bytes)
    return nats_per_token / math.log(2) * n_tokens / n_bytes


def gap_to_floor(loss: float, floor: float) -> float:
    """Return how far a loss is above the floor, as a fraction of the floor.

    The floor is the entropy of the source, in the same unit as the loss: the lowest
    possible loss. The difference is the Kullback–Leibler divergence of the model from
    the source, so only a model equal to the source has gap 0. On a small sample the
    loss can fall below the floor by chance, and the gap is then negative.

    Raises:
        ValueError: If the floor is not above 0.

    Source: Shannon (1948), theorem 9; Cover and Thomas (2006), section 2.3.

    >>> round(gap_to_floor(1.03, floor=1.0), 6)  # 3 % above
    0.03
    """
    check_positive(floor=floor)
    return loss / floor - 1.0
