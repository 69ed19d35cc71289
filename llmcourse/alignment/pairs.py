"""The training that a reward model and a policy under DPO have in common.

    pairs ── a batch ── what each pair says ── loss, margin, accuracy
                                          └──── update

They differ in what a pair says: two rewards, or two ratios of probabilities. The loop,
the schedule and the update are those of all trainings.
"""

import math
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmcourse.alignment.preferences import (
    TokenizedPair,
    check_pairs,
    fingerprint_of_pairs,
)
from llmcourse.finetuning.examples import ShuffledExamples
from llmcourse.finetuning.finetuning import FinetuningConfig
from llmcourse.model.transformer import TransformerConfig
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import Evaluation, History, Update
from llmcourse.training.loop import make_optimizer, train, update_weights

_Row = TypeVar("_Row", bound=Sized)


@dataclass(frozen=True, kw_only=True)
class PairsConfig(FinetuningConfig):
    """How long and how fast something learns from pairs: fine-tuning's settings.

    `batch_size` counts pairs, `context_length` is the most tokens that prompt and
    answer may have, and `eval_examples` the most held-out pairs looked at.
    """

    batch_size: int = 16
    warmup_steps: int = 10
    eval_interval: int = 20


class Comparison(NamedTuple):
    """What some pairs say of a model."""

    loss: Float[Tensor, ""]  # mean over the rows, in nats per pair
    margins: Float[Tensor, "pair"]  # reward of the chosen answer over the other's


Compare = Callable[[Sequence[_Row]], Comparison]


def train_on_pairs(
    model: nn.Module,
    rows: Sequence[_Row],
    valid: Sequence[_Row],
    compare: Compare[_Row],
    config: FinetuningConfig,
    generator: torch.Generator,
    *,
    recipe: dict[str, Any],
    run: Run,
) -> History:
    """Train a model in place until it agrees with the preferences; return the losses.

    Losses are in nats per pair, means over rows. The metrics of updates and evaluations
    are "margin", the mean by which the chosen answer's reward is higher, and
    "accuracy", the share of pairs in which it is, a tie counted half.

    Args:
        model: Changed in place where it is not frozen.
        rows: What is learned; each stands for a pair, or for all pairs of a prompt, and
            its length is that of its longest text in tokens.
        valid: The same, held out; `eval_examples` of them are looked at.
        compare: Makes a comparison of rows by the model as it is then.
        config: How long and how fast.
        generator: Decides the order of the rows.
        recipe: See `pairs_recipe`.
        run: Where the training is saved, and who follows it.

    Raises:
        ValueError: If there are fewer rows than a batch has, if the whole model is
            frozen, or if the folder's checkpoints are of another training.
        FloatingPointError: If a loss or its gradient is not finite. The model then
            still has the weights from before that step.
        OSError: If a checkpoint cannot be written.
    """
    held_out = _spread(valid, config.eval_examples)
    optimizer = make_optimizer(model, config)

    def update(batch: Sequence[_Row], step: int) -> Update:
        seen: list[Tensor] = []
        shares = _shares(batch, len(batch) // config.accumulation, compare, seen)
        record = update_weights(model, optimizer, shares, step, config)
        return replace(record, metrics=_metrics(seen))

    @torch.no_grad()
    def evaluate(step: int) -> Evaluation:
        seen: list[Tensor] = []
        size = config.batch_size // config.accumulation
        shares = _shares(held_out, size, compare, seen)
        loss = math.fsum(share.item() for share in shares)
        return Evaluation(step=step, loss=loss, metrics=_metrics(seen))

    return train(
        model,
        optimizer,
        ShuffledExamples(rows, config.batch_size, generator),
        config,
        update=update,
        evaluate=evaluate,
        recipe=recipe,
        run=run,
    )


def pairs_recipe(
    pairs: Sequence[TokenizedPair],
    valid: Sequence[TokenizedPair],
    sizes: TransformerConfig,
    config: PairsConfig,
    generator: torch.Generator,
    objective: str,
) -> dict[str, Any]:
    """Return what must be the same for a training on pairs to go on.

    Args:
        pairs: What is learned.
        valid: Held-out pairs.
        sizes: Of the model.
        config: How long and how fast.
        generator: Decides the order.
        objective: The loss in words, with all that it depends on.

    Raises:
        ValueError: If a pair is too long or holds ids that the model does not have,
            or if there are none.
    """
    for part in (pairs, valid):
        check_pairs(part, sizes, config.context_length)
    return {
        "model": asdict(sizes),
        "train_tokens": fingerprint_of_pairs(pairs),
        "valid_tokens": fingerprint_of_pairs(valid),
        "seed": generator.initial_seed(),
        "objective": objective,
    }


def _spread(rows: Sequence[_Row], n: int) -> list[_Row]:
    """Return n rows spread evenly over all, or all, the shortest first."""
    places = np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int)
    return sorted((rows[place] for place in places), key=len)


def _shares(
    rows: Sequence[_Row], size: int, compare: Compare[_Row], seen: list[Tensor]
) -> Iterator[Tensor]:
    """Yield what each part adds to the mean over all rows; put its margins down."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        found = compare(part)
        seen.append(found.margins.detach())
        yield found.loss * (len(part) / len(rows))


def _metrics(seen: Sequence[Tensor]) -> dict[str, float]:
    margins = torch.cat([*seen]).double()
    return {"margin": margins.mean().item(), "accuracy": share_preferred(margins)}


def share_preferred(margins: Float[Tensor, "pair"]) -> float:
    """Return the share of pairs with a positive margin, as a fraction; ties count half.

    >>> share_preferred(torch.tensor([0.5, -2.0, 3.0, 0.0]))
    0.625
    """
    return ((margins > 0).double() + (margins == 0).double() / 2).mean().item()
