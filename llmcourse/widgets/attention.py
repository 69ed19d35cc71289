"""The explorer of attention: which tokens each head of a model looks at."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from llmcourse.arguments import check_one_of, check_range
from llmcourse.widgets.base import Explorer, counted, script

LEVELS: Final = 255  # steps of a weight in the page: one byte


class AttentionExplorer(Explorer):
    """Show what every attention head looks at, from each token of a text.

    The reader picks a layer, a head and a token to look from, and sees the weights as
    coloured tokens, as a matrix, and in words. Kinds of heads, if given, fill a map of
    all heads, and lead to the strongest head of each kind.

    Args:
        texts: The tokens of each text, as strings that join to the text.
        weights: For each text, how much each head of each layer looks at each token,
            from each token; see `attention.attention_weights`.
        kinds: What heads may look at, such as "the token before", and the share of each
            head's attention that goes there, by layer, averaged over texts.
            The strongest head of the first kind is shown at the start.
        query: The token to look from at the start, counted from 1; by default the last
            one of the first text.

    Raises:
        ValueError: If texts and weights do not match, a row is not a distribution over
            the tokens up to its own, or `query` is out of range.

    >>> AttentionExplorer([["a", "b"]], [torch.tensor([[[[1.0, 0.0], [0.2, 0.8]]]])])
    AttentionExplorer(1 text, 1 layer of 1 head)
    """

    _css = script("explorer.css", "attention.css")
    _esm = script("common.js", "attention.js")

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        weights: Sequence[Tensor],
        kinds: Mapping[str, Tensor] | None = None,
        *,
        query: int | None = None,
    ) -> None:
        check_range(1, texts=len(texts))
        check_one_of("number of weights", len(weights), [len(texts)])
        n_layers, n_heads = weights[0].shape[:2]
        kinds = kinds or {}
        for name, scores in kinds.items():
            check_one_of(f"shape of {name!r}", scores.shape, [(n_layers, n_heads)])
        best = int(next(iter(kinds.values())).argmax()) if kinds else 0
        start = len(texts[0]) if query is None else query
        check_range(1, len(texts[0]), query=start)
        super().__init__(
            f"{counted(len(texts), 'text')}, {counted(n_layers, 'layer')} of "
            f"{counted(n_heads, 'head')}",
            texts=[
                packed_weights(tokens, each, n_layers, n_heads)
                for tokens, each in zip(texts, weights, strict=True)
            ],
            kinds=[
                {"name": name, "scores": scores.double().round(decimals=3).tolist()}
                for name, scores in kinds.items()
            ],
            n_layers=n_layers,
            n_heads=n_heads,
            layer=best // n_heads + 1,
            head=best % n_heads + 1,
            query=start,
        )


def packed_weights(
    tokens: Sequence[str],
    weights: Float[Tensor, "layer head query key"],
    n_layers: int,
    n_heads: int,
) -> dict[str, Any]:
    """Return tokens and weights for the page, each weight in steps of 1 / 255.

    Keys after the query are left out: a causal model gives them 0.

    Raises:
        ValueError: If there is no token, if a head lacks a row and a column for each,
            or if a row is not a distribution over the tokens up to its own.

    >>> packed_weights(["a", "b"], torch.tensor([[[[1.0, 0.0], [0.2, 0.8]]]]), 1, 1)
    {'tokens': ['a', 'b'], 'weights': '/zPM'}
    """
    n_tokens = len(tokens)
    check_range(1, n_tokens=n_tokens)
    wanted = (n_layers, n_heads, n_tokens, n_tokens)
    check_one_of(f"shape of {n_tokens} tokens' weights", weights.shape, [wanted])
    weights = weights.detach().double().tril()
    check_range(0, weights=weights.min().item())
    sums = weights.sum(dim=-1)
    if not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise ValueError(
            "each row of weights must be shares of one over the tokens up to its own, "
            f"got sums from {sums.min():.3g} to {sums.max():.3g}"
        )
    rows, columns = torch.tril_indices(n_tokens, n_tokens).unbind()
    levels = (weights[..., rows, columns] * LEVELS).round().byte().cpu()
    return {
        "tokens": list(tokens),
        "weights": b64encode(levels.numpy().tobytes()).decode(),
    }
