"""Fine-tuning: train a pretrained model on examples of the answers wanted.

    pretraining    every token of every text is a target
    fine-tuning    a few chosen examples; of each, only the answer is a target

The loop, the schedule and the update are those of pretraining, and so is the model,
unless it is given low-rank adapters to learn instead (`lora`), or another output
(`classification`). Frozen weights stay as they are.

Source: Wei et al. (2022), "Finetuned language models are zero-shot learners";
Ouyang et al. (2022), "Training language models to follow instructions with human
feedback", section 3.5 (supervised fine-tuning).
"""

from collections.abc import Callable, Sequence, Sized
from dataclasses import asdict, dataclass
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from llmcourse.arguments import check_ids
from llmcourse.finetuning.classification import Classifier
from llmcourse.finetuning.examples import (
    ShuffledExamples,
    TokenizedExample,
    collate,
    examples_fingerprint,
)
from llmcourse.model.transformer import Transformer
from llmcourse.training.checkpoints import Run, weights_fingerprint
from llmcourse.training.config import History, PretrainingConfig
from llmcourse.training.loop import predict, train

_Row = TypeVar("_Row", bound=Sized)


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig(PretrainingConfig):
    """How long and how fast a model is fine-tuned: pretraining's settings, gentler.

    `batch_size` and `eval_examples` count examples, and `context_length` is the most
    tokens to be read in an example.
    """

    steps: int = 300
    context_length: int = 512
    learning_rate: float | int = 5e-4
    warmup_steps: int = 20
    weight_decay: float | int = 0.0  # pretrained weights should not shrink
    eval_interval: int = 50


def masked_cross_entropy(
    logits: Float[Tensor, "*batch vocab"],
    targets: Int[Tensor, "*batch"],
    mask: Bool[Tensor, "*batch"],
) -> Float[Tensor, ""]:
    """Return the mean loss over the targets that count, in nats per such target.

    All targets have equal weight, so a long answer weighs more than a short one.

    Args:
        logits: Unnormalised log-probabilities.
        targets: Index of the correct token at each position; anything where masked.
        mask: True where the target counts.

    Raises:
        ValueError: If no target counts: there is no mean over nothing.

    >>> logits, targets = torch.zeros(3, 4), torch.tensor([0, 3, 2])
    >>> masked_cross_entropy(logits, targets, torch.tensor([False, True, True]))
    tensor(1.3863)
    """
    if not mask.any():
        raise ValueError(
            f"a loss needs at least one target that counts, got none of {mask.numel()}"
        )
    return cross_entropy(logits[mask], targets[mask])


def answer_loss(
    model: Transformer | Classifier,
    examples: Sequence[TokenizedExample],
    config: FinetuningConfig,
) -> Float[Tensor, ""]:
    """Return the model's mean loss on the answers, in nats per target that counts.

    Args:
        model: Reads the examples, each on its own.
        examples: The batch.
        config: Gives the precision.

    Raises:
        ValueError: If there are no examples, or if the model cannot read their ids.
    """
    batch = collate(examples)
    logits = predict(model, batch.ids, config)  # (B, T, V)
    targets, mask = batch.targets.to(logits.device), batch.mask.to(logits.device)
    return masked_cross_entropy(logits, targets, mask)


def train_on_rows(
    model: nn.Module,
    rows: Sequence[_Row],
    valid: Sequence[_Row],
    loss: Callable[[Sequence[_Row]], Tensor],
    config: FinetuningConfig,
    generator: torch.Generator,
    *,
    weight: Callable[[_Row], int],
    metrics: Callable[[], dict[str, float]] = dict,
    recipe: dict[str, Any],
    run: Run,
) -> History:
    """Train a model in place on batches of similar-length rows; return the losses.

    Args:
        model: Changed in place where it is not frozen.
        rows: What is learned: examples, or pairs of them.
        valid: The same, held out; `eval_examples` of them are evaluated.
        loss: As in `loop.train`.
        config: How long and how fast.
        generator: Decides the order of the rows.
        weight: Returns how much a row counts in a mean.
        metrics: Returns what else was measured since its last call.
        recipe: What must be the same to resume from a checkpoint.
        run: Where to save checkpoints and report progress.

    Raises:
        ValueError: If there are fewer rows than a batch has, if the whole model is
            frozen, if the processes of `parallel` cannot share a batch or differ, or if
            the folder's checkpoints belong to another run.
        FloatingPointError: If a loss or its gradient is not finite. The model then
            still has the weights from before that step.
        OSError: If a checkpoint cannot be written.
    """
    places = np.linspace(0, len(valid) - 1, min(config.eval_examples, len(valid)))
    held_out = [valid[place] for place in places.round().astype(int)]
    return train(
        model,
        ShuffledExamples(rows, config.batch_size, generator),
        sorted(held_out, key=len),
        loss,
        config,
        weight=lambda part: sum(map(weight, part)),
        metrics=metrics,
        recipe=recipe,
        run=run,
    )


def finetune(
    model: Transformer | Classifier,
    examples: Sequence[TokenizedExample],
    valid: Sequence[TokenizedExample],
    config: FinetuningConfig,
    generator: torch.Generator,
    *,
    run: Run = Run(),
) -> History:
    """Train the model in place on the answers; return the losses, in nats per target.

    Evaluations, checkpoints and reproducibility are as in `pretraining.pretrain`.

    Args:
        model: Changed in place where it is not frozen. To resume from a checkpoint,
            pass the same as at first: the weights from before the first step, with
            the same adapters and the same `alpha`.
        examples: What to learn.
        valid: Held-out examples.
        config: How long and how fast.
        generator: Decides the order of the examples.
        run: Where to save checkpoints and report progress.

    Raises:
        ValueError: If an example is too long or holds ids or targets that the model
            does not have, if there are fewer than a batch, or none held out; if the
            whole model is frozen; or if the folder's checkpoints belong to another
            run, or to one that began with another model.
        FloatingPointError: If a loss or its gradient is not finite. The model then
            still has the weights from before that step.
        OSError: If a checkpoint cannot be written.
    """
    _check(model, examples, config)
    _check(model, valid, config)
    return train_on_rows(
        model,
        examples,
        valid,
        partial(answer_loss, model, config=config),
        config,
        generator,
        weight=attrgetter("n_targets"),
        recipe={
            "model": asdict(model.config),
            "train_tokens": examples_fingerprint(examples),
            "valid_tokens": examples_fingerprint(valid),
            "seed": generator.initial_seed(),
            "start": weights_fingerprint(model),  # from before the first step
        },
        run=run,
    )


def _check(
    model: Transformer | Classifier,
    examples: Sequence[TokenizedExample],
    config: FinetuningConfig,
) -> None:
    """Check every example once, before the first step."""
    if not examples:
        raise ValueError(
            "fine-tuning needs examples to learn from and to hold out, got none"
        )
    limit = min(config.context_length, model.config.context_length)
    if too_long := [len(example) for example in examples if len(example) > limit]:
        raise ValueError(
            f"examples must have at most {limit} tokens to read, "
            f"but {len(too_long)} of {len(examples)} have up to {max(too_long)}"
        )
    n_ids = model.config.vocab_size
    n_outputs = model.n_classes if isinstance(model, Classifier) else n_ids
    for name, vocab in (("ids", n_ids), ("targets", n_outputs)):
        values = torch.cat([getattr(example, name) for example in examples])
        check_ids(name, values, vocab)
