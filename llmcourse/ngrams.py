"""Counting models: guess the next token from the few before it, by counting.

    p(cat | the) = how often "the cat" stood in the text / how often "the" did

With nothing before it that is a unigram model, with one token a bigram model. They
are the yardstick of a neural model: what is learned beyond counting?
"""

import math

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray


def ngram_loss(
    train: Int[np.ndarray, "train_token"],
    held_out: Int[np.ndarray, "held_out_token"],
    vocab_size: int,
    n: int,
    strength: float | int = 1.0,
) -> float:
    """Return the loss of an n-gram model on held-out tokens, in nats per token.

    Each order is smoothed with the one below: p(x | context) counts as if x had been
    seen `strength` · p(x | shorter context) times more. So nothing has probability
    zero, and a context that never occurred leaves the word to the shorter one.

    Args:
        train: Tokens to count in.
        held_out: Tokens to predict; the first n − 1 serve as context alone.
        vocab_size: Number of ids.
        n: 1 for a unigram model, 2 for a bigram model, and so on.
        strength: Weight of the shorter context, in observations.

    Raises:
        ValueError: If n is below 1 or too large to count, if there are fewer than n
            tokens, if an id is outside the vocabulary, or strength is not positive.

    Source: MacKay and Peto (1995), "A hierarchical Dirichlet language model",
    section 3.

    >>> tokens = np.array([0, 1] * 500)
    >>> round(ngram_loss(tokens, tokens, vocab_size=2, n=1), 2)  # log 2
    0.69
    >>> round(ngram_loss(tokens, tokens, vocab_size=2, n=2), 2)  # no surprise left
    0.0
    """
    if n < 1 or vocab_size**n >= 2**63:
        limit = int(63 / math.log2(max(vocab_size, 2)))
        raise ValueError(f"n must be from 1 to {limit}, got {n}")
    if not strength > 0:
        raise ValueError(f"strength must be positive, got {strength}")
    for name, tokens in (("train", train), ("held_out", held_out)):
        if len(tokens) < n:
            raise ValueError(f"{name} must have at least {n} tokens, got {len(tokens)}")
        if tokens.min() < 0 or tokens.max() >= vocab_size:
            raise ValueError(
                f"ids must be in 0 … {vocab_size - 1}, got {tokens.min()} … "
                f"{tokens.max()} in {name}"
            )
    n_targets = len(held_out) - n + 1
    probs = np.full(n_targets, 1 / vocab_size)
    for order in range(1, n + 1):
        seen = _runs(train, order, vocab_size)
        wanted = _runs(held_out, order, vocab_size)[-n_targets:]
        together = _count(seen, wanted)
        alone = _count(seen // vocab_size, wanted // vocab_size)
        # `//` drops the last token of a run: what is left is its context.
        probs = (together + strength * probs) / (alone + strength)
    return float(-np.log(probs).mean())


def _runs(
    tokens: Int[np.ndarray, "token"], length: int, vocab_size: int
) -> NDArray[np.int64]:
    """Return each run of tokens as one number: its digits, to the base V."""
    runs = np.zeros(len(tokens) - length + 1, dtype=np.int64)
    for place in range(length):
        runs = runs * vocab_size + tokens[place : place + len(runs)]
    return runs


def _count(
    seen: Int[np.ndarray, "run"], wanted: Int[np.ndarray, "target"]
) -> Float[np.ndarray, "target"]:
    """Return how often each wanted run was seen."""
    values, counts = np.unique(seen, return_counts=True)
    places = np.searchsorted(values, wanted).clip(max=len(values) - 1)
    found: NDArray[np.float64] = np.where(values[places] == wanted, counts[places], 0.0)
    return found
