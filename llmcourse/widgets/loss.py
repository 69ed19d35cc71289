"""The explorer of loss: a run's loss, and what the model wrote as it fell."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Final, NamedTuple

from llmcourse.arguments import check_one_of, check_range
from llmcourse.widgets.base import Explorer, checked_texts, script

MAX_POINTS: Final = 200  # in a curve in the page


class Moment(NamedTuple):
    """A training run, stopped for a look at its model."""

    n_tokens: int  # seen so far
    loss: float | int  # on held-out text, in nats per token
    text: str  # what the model wrote then


class LossExplorer(Explorer):
    """Show a training run: its loss against known levels, and its samples.

    The reader moves through the moments at which the model was sampled, and sees the
    loss and the text of each.

    Args:
        moments: In order; the first one is usually the untrained model.
        levels: Name to loss in nats per token, for comparison: an ignorant model,
            simple models, the floor. The highest is where learning starts and the
            lowest where it must end.
        curve: Tokens seen, and the loss on the training batches there, in nats per
            token. If there are many points, each run of them is shown as its mean.

    Raises:
        ValueError: If there are fewer than two moments or levels, a text is empty,
            tokens do not increase, a loss is negative or not finite, or the curve's
            two parts differ in length.

    >>> moments = [Moment(0, 7.6, "q gx"), Moment(208_000, 1.9, "Once upon")]
    >>> LossExplorer(moments, {"log V": 7.6, "floor": 0.5})
    LossExplorer(2 moments, log V, floor)
    """

    _css = script("explorer.css", "loss.css")
    _esm = script("common.js", "loss.js")

    def __init__(
        self,
        moments: Sequence[Moment],
        levels: Mapping[str, float | int],
        curve: tuple[Sequence[int], Sequence[float | int]] = ((), ()),
    ) -> None:
        check_range(2, moments=len(moments), levels=len(levels))
        checked_texts([each.text for each in moments])
        _check_order("moments", [each.n_tokens for each in moments])
        for loss in (*(each.loss for each in moments), *levels.values(), *curve[1]):
            check_range(0, loss=loss)
        super().__init__(
            f"{len(moments)} moments, {', '.join(levels)}",
            moments=[
                {"tokens": n_tokens, "loss": round(loss, 4), "text": text}
                for n_tokens, loss, text in moments
            ],
            levels=[
                {"name": name, "loss": round(loss, 4)}
                for name, loss in sorted(levels.items(), key=lambda item: -item[1])
            ],
            curve=thinned(*curve),
            moment=len(moments),  # the last is shown at the start
        )


def thinned(
    tokens: Sequence[int], losses: Sequence[float | int], most: int = MAX_POINTS
) -> list[list[float]]:
    """Return at most `most` points of a curve, each the mean of a run of points.

    Raises:
        ValueError: If there are not as many tokens as losses, or tokens do not
            increase.

    >>> thinned([10, 20, 30, 40], [4.0, 2.0, 3.0, 1.0], most=2)
    [[15.0, 3.0], [35.0, 2.0]]
    """
    check_one_of("losses in a curve", len(losses), [len(tokens)])
    _check_order("the curve", tokens)
    size = max(1, math.ceil(len(tokens) / most))
    runs = [slice(start, start + size) for start in range(0, len(tokens), size)]
    return [
        [round(fmean(tokens[run]), 1), round(fmean(losses[run]), 4)] for run in runs
    ]


def _check_order(name: str, tokens: Sequence[int]) -> None:
    grown = all(a < b for a, b in pairwise(tokens))
    if not grown or (tokens and tokens[0] < 0):
        raise ValueError(f"tokens of {name} must grow from 0 or more, got {tokens[:9]}")
