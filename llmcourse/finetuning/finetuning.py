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

from collections.abc import Sequence, Sized
from dataclasses import asdict, dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from llmcourse.arguments import check_ids, check_range
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
    context_length: int = 512  # most tokens to be read in an example
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
    check_range(1, **{"targets that count": int(mask.sum())})
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
    logits = predict(model, batch.ids, config).float()  # (B, T, V)
    targets, mask = batch.targets.to(logits.device), batch.mask.to(logits.device)
    return masked_cross_entropy(logits, targets, mask)


def batches_of(
    rows: Sequence[_Row],
    valid: Sequence[_Row],
    config: FinetuningConfig,
    generator: torch.Generator,
) -> tuple[ShuffledExamples[_Row], list[_Row]]:
    """Return batches of similar-length rows, and the held-out rows to evaluate.

    Args:
        rows: What is learned: examples, or pairs of them.
        valid: The same, held out.
        config: Says how many rows a batch has, and how many are evaluated.
        generator: Decides the order of the rows.

    Raises:
        ValueError: If there are fewer rows than a batch has.
    """
    places = np.linspace(0, len(valid) - 1, min(config.eval_examples, len(valid)))
    held_out = [valid[place] for place in places.round().astype(int)]
    batches = ShuffledExamples(rows, config.batch_size, generator)
    return batches, sorted(held_out, key=len)


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
    n_ids = model.config.vocab_size
    n_outputs = model.n_classes if isinstance(model, Classifier) else n_ids
    limit = min(config.context_length, model.config.context_length)
    for part in (examples, valid):
        check_range(1, **{"examples to learn from or to hold out": len(part)})
        check_range(1, limit, **{"tokens of an example": max(map(len, part))})
        check_ids("ids", torch.cat([example.ids for example in part]), n_ids)
        check_ids("targets", torch.cat([e.targets for e in part]), n_outputs)
    return train(
        model,
        *batches_of(examples, valid, config, generator),
        partial(answer_loss, model, config=config),
        config,
        weight=lambda rows: sum(row.n_targets for row in rows),
        recipe={
            "model": asdict(model.config),
            "train_tokens": examples_fingerprint(examples),
            "valid_tokens": examples_fingerprint(valid),
            "seed": generator.initial_seed(),
            "start": weights_fingerprint(model),  # from before the first step
        },
        run=run,
    )
