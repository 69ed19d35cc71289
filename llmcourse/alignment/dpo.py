"""Direct preference optimisation: learn from comparisons, without a reward model.

    reference ── log-probabilities of all answers, once ──┐
    policy ───── log-probabilities of a batch's answers ──┴── loss ── update

Training raises not the probability of the chosen answer but its growth relative to
that of the rejected answer: both may fall, and often do.

Source: Rafailov et al. (2023), "Direct preference optimization: Your language model is
secretly a reward model".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from llmcourse.alignment import losses
from llmcourse.alignment.preferences import TokenizedPair, check_pairs
from llmcourse.alignment.reward_model import PairsConfig, train_on_pairs
from llmcourse.arguments import check_one_of, check_positive
from llmcourse.finetuning.examples import collate
from llmcourse.model.transformer import Transformer
from llmcourse.training.checkpoints import Run, weights_fingerprint
from llmcourse.training.config import History
from llmcourse.training.loop import predict


@dataclass(frozen=True, kw_only=True)
class DPOConfig(PairsConfig):
    """How long and how fast a policy learns from pairs: slower than in fine-tuning."""

    method: ClassVar[str] = "dpo"

    steps: int = 100
    learning_rate: float | int = 1e-4
    beta: float | int = 0.1  # strength of the penalty for leaving the reference
    loss_type: str = "sigmoid"  # from `losses.PAIR_LOSSES`

    def __post_init__(self) -> None:
        """Raise ValueError for an impossible setting."""
        super().__post_init__()
        check_positive(beta=self.beta)
        check_one_of("loss_type", self.loss_type, losses.PAIR_LOSSES)


class PairLogProbs(NamedTuple):
    """A model's log-probabilities of the two answers of each pair, in nats."""

    chosen: Float[Tensor, "pair"]
    rejected: Float[Tensor, "pair"]


def pair_log_probs(
    model: Transformer, pairs: Sequence[TokenizedPair], config: DPOConfig
) -> PairLogProbs:
    """Return the log-probabilities of all answers, given their prompts, in nats.

    For losses in `PER_TOKEN_LOSSES`, they are means over an answer's tokens, else sums.

    Args:
        model: The policy or the reference.
        pairs: All read in one batch.
        config: Gives the precision and the loss.

    Raises:
        ValueError: If there are no pairs, or as in `Transformer`.
    """
    examples = [pair.examples() for pair in pairs]
    batch = collate([c for c, _ in examples] + [r for _, r in examples])
    logits = predict(model, batch.ids, config).float()  # (2 B, T, V)
    targets, mask = batch.targets.to(logits.device), batch.mask.to(logits.device)
    log_probs = losses.sequence_log_probs(logits, targets, mask)
    if config.loss_type in losses.PER_TOKEN_LOSSES:
        log_probs = log_probs / mask.sum(dim=1)
    return PairLogProbs(*log_probs.chunk(2))


def dpo(
    model: Transformer,
    pairs: Sequence[TokenizedPair],
    valid: Sequence[TokenizedPair],
    config: DPOConfig,
    generator: torch.Generator,
    *,
    reference: Transformer | None = None,
    run: Run = Run(),
) -> History:
    """Train a policy in place on preferences; return the losses, in nats per pair.

    Metrics of updates and evaluations are as in `reward_model.train_on_pairs`,
    with the implicit rewards of `losses.dpo_loss`. At the start all rewards are zero,
    and DPO's own loss is log 2.

    Args:
        model: The policy; changed in place where it is not frozen. It may have
            adapters.
        pairs: What to learn.
        valid: Held-out pairs.
        config: How long and how fast.
        generator: Decides the order of the pairs.
        reference: What the policy is held to; not changed. By default, the policy as
            passed: to resume from a checkpoint, pass that of before the first step.
        run: Where to save checkpoints and report progress.

    Raises:
        ValueError: If a pair is too long or holds ids that the model does not have,
            if there are fewer than a batch, or none held out; if the whole model is
            frozen; or if the folder's checkpoints belong to another run, or to one
            with another reference.
        FloatingPointError: If a loss or its gradient is not finite. The model then
            still has the weights from before that step.
        OSError: If a checkpoint cannot be written.
    """
    reference = reference or model
    once: dict[TokenizedPair, Tensor] = {}  # both log-probabilities under the reference
    size = config.batch_size // config.accumulation
    for part in (valid, pairs):
        check_pairs(part, reference.config, config.context_length)
        by_length = sorted(part, key=len)
        for start in range(0, len(part), size):
            batch = by_length[start : start + size]
            with torch.no_grad():
                both = torch.stack(pair_log_probs(reference, batch, config)).cpu()
            once |= dict(zip(batch, both.T, strict=True))

    def compare(batch: Sequence[TokenizedPair]) -> losses.Comparison:
        ours = pair_log_probs(model, batch, config)
        theirs = torch.stack([once[pair] for pair in batch], dim=1).to(ours.chosen)
        return losses.dpo_loss(
            *ours, *theirs, beta=config.beta, loss_type=config.loss_type
        )

    objective = f"DPO, reference {weights_fingerprint(reference)}"
    return train_on_pairs(
        model, pairs, valid, config, generator, compare, objective, run=run
    )
