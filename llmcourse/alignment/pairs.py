"""The training that a reward model and a policy under DPO have in common.

    pairs ── a batch ── what each pair says ── loss, margin, accuracy
                                          └──── update

They differ in what a pair says: two rewards, or two ratios of probabilities. The loop,
the schedule and the update are those of all trainings.
"""

from collections.abc import Callable, Sequence, Sized
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmcourse.alignment.preferences import (
    TokenizedPair,
    check_pairs,
    fingerprint_of_pairs,
)
from llmcourse.finetuning.finetuning import FinetuningConfig, train_on_rows
from llmcourse.model.transformer import TransformerConfig
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import History

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
        rows: What is learned; each stands for a pair, and its length is that of its
            longer text in tokens.
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
    seen: list[Tensor] = []

    def loss(part: Sequence[_Row]) -> Tensor:
        found = compare(part)
        seen.append(found.margins.detach())
        return found.loss

    def metrics() -> dict[str, float]:
        margins = torch.cat(seen).double()
        seen.clear()
        return {"margin": margins.mean().item(), "accuracy": share_preferred(margins)}

    return train_on_rows(
        model,
        rows,
        valid,
        loss,
        config,
        generator,
        weight=lambda row: 1,
        metrics=metrics,
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


def share_preferred(margins: Float[Tensor, "pair"]) -> float:
    """Return the share of pairs with a positive margin, as a fraction; ties count half.

    >>> share_preferred(torch.tensor([0.5, -2.0, 3.0, 0.0]))
    0.625
    """
    return ((margins > 0).double() + (margins == 0).double() / 2).mean().item()
