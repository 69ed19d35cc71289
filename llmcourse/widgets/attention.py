"""Which tokens each head of a model looks at, on texts of one's own."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from llmcourse.widgets.base import Explorer, script

LEVELS: Final = 255  # of a weight in the page: one byte


class AttentionExplorer(Explorer):
    """Show what every attention head looks at, from each token of a text.

    The reader picks a layer, a head and a token to look from, and sees the weights as
    coloured tokens, as a matrix, and in words. Kinds of heads, if there are any, fill
    a map of all heads, and lead to the strongest of each.

    Args:
        texts: The tokens of each text, as strings that join to the text.
        weights: For each text, how much each head of each layer looks at each token,
            from each token; see `inspection.attention_weights`.
        kinds: What heads may look at, such as "the token before", and to what share
            each head of each layer does, on average over texts.
        layer: Which layer is shown at the start, counted from 1; by default the one
            with the strongest head of the first kind.
        head: Likewise.
        query: Which token is looked from at the start, counted from 1; by default
            the last one of the first text.

    Raises:
        ValueError: If texts and weights do not fit, a row is no distribution over the
            tokens up to its own, a score is no share, or a start is out of range.

    >>> AttentionExplorer([["a", "b"]], [torch.tensor([[[[1.0, 0.0], [0.2, 0.8]]]])])
    AttentionExplorer(1 text, 1 layer of 1 head)
    """

    _css = script("explorer.css", "attention.css")
    _esm = script("common.js", "attention.js")
    texts: traitlets.List[Any] = traitlets.List().tag(sync=True)
    kinds: traitlets.List[Any] = traitlets.List().tag(sync=True)
    n_layers = traitlets.Int().tag(sync=True)
    n_heads = traitlets.Int().tag(sync=True)
    layer = traitlets.Int().tag(sync=True)
    head = traitlets.Int().tag(sync=True)
    query = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        weights: Sequence[Tensor],
        kinds: Mapping[str, Tensor] | None = None,
        *,
        layer: int | None = None,
        head: int | None = None,
        query: int | None = None,
    ) -> None:
        n_layers, n_heads = _shape_of(texts, weights)
        states = [
            head_scores(name, scores, (n_layers, n_heads))
            for name, scores in (kinds or {}).items()
        ]
        best = int(next(iter(kinds.values())).argmax()) if kinds else 0
        start = {
            "layer": (best // n_heads + 1 if layer is None else layer, n_layers),
            "head": (best % n_heads + 1 if head is None else head, n_heads),
            "query": (len(texts[0]) if query is None else query, len(texts[0])),
        }
        for name, (value, last) in start.items():
            if not 1 <= value <= last:
                raise ValueError(f"{name} must be from 1 to {last}, got {value}")
        packed = [packed_weights(t, w) for t, w in zip(texts, weights, strict=True)]
        self._summary = (
            f"{_count(len(texts), 'text')}, {_count(n_layers, 'layer')} of "
            f"{_count(n_heads, 'head')}"
        )
        super().__init__(
            texts=packed,
            kinds=states,
            n_layers=n_layers,
            n_heads=n_heads,
            **{name: value for name, (value, _) in start.items()},
        )


def _shape_of(
    texts: Sequence[Sequence[str]], weights: Sequence[Tensor]
) -> tuple[int, int]:
    """Return the numbers of layers and of heads that all weights have."""
    if not texts or len(texts) != len(weights):
        raise ValueError(
            "there must be at least one text, and weights for each, got "
            f"{len(texts)} and {len(weights)}"
        )
    n_layers, n_heads = weights[0].shape[:2]
    if any(each.shape[:2] != (n_layers, n_heads) for each in weights):
        raise ValueError(
            f"each text must have weights of {n_layers} layers of {n_heads} heads, "
            f"got {[tuple(each.shape[:2]) for each in weights]}"
        )
    return n_layers, n_heads


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def packed_weights(
    tokens: Sequence[str], weights: Float[Tensor, "layer head query key"]
) -> dict[str, Any]:
    """Return tokens and weights for the page, each weight in steps of 1 / 255.

    What lies after the query is left out: it is 0 for a causal model.

    Raises:
        ValueError: If there is no row and column for each token, or if a row is no
            distribution over the tokens up to its own.

    >>> packed_weights(["a", "b"], torch.tensor([[[[1.0, 0.0], [0.2, 0.8]]]]))
    {'tokens': ['a', 'b'], 'weights': '/zPM'}
    """
    n_tokens = len(tokens)
    if not n_tokens or not all(tokens):
        raise ValueError(f"tokens must be strings that are not empty, got {tokens!r}")
    if weights.shape[-2:] != (n_tokens, n_tokens):
        raise ValueError(
            f"{n_tokens} tokens need {n_tokens} × {n_tokens} weights for each head, "
            f"got {tuple(weights.shape)}"
        )
    weights = weights.detach().double()
    sums = weights.tril().sum(dim=-1)
    fine = bool(torch.isfinite(weights).all()) and bool((weights >= 0).all())
    if not (fine and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)):
        raise ValueError(
            "each row of weights must be shares of one over the tokens up to its own, "
            f"got sums from {sums.min():.3g} to {sums.max():.3g}"
        )
    rows, columns = torch.tril_indices(n_tokens, n_tokens).unbind()
    levels = (weights[..., rows, columns] * LEVELS).round().byte()
    return {
        "tokens": list(tokens),
        "weights": b64encode(bytes(levels.flatten())).decode(),
    }


def head_scores(name: str, scores: Tensor, shape: tuple[int, int]) -> dict[str, Any]:
    """Return a kind of head for the page: its name and each head's share of it.

    Raises:
        ValueError: If there is not one share from 0 to 1 for each head of each layer.
    """
    if tuple(scores.shape) != shape:
        raise ValueError(
            f"kind {name!r} must have a score for each layer and head, {shape}, "
            f"got {tuple(scores.shape)}"
        )
    values = scores.detach().double()
    if not bool(((values >= 0) & (values <= 1 + 1e-6)).all()):
        raise ValueError(
            f"scores are shares from 0 to 1, kind {name!r} has {values.min():.3g} to "
            f"{values.max():.3g}"
        )
    return {
        "name": name,
        "scores": [[round(x, 3) for x in row] for row in values.tolist()],
    }
