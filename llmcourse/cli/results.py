"""Measurements of a model, taken with a bar and printed for people."""

from collections.abc import Mapping

import torch
from rich.text import Text

from llmcourse.cli.console import out
from llmcourse.finetuning.instruction_evaluation import Forgetting, Score
from llmcourse.model.transformer import Transformer
from llmcourse.recipes.instruct_card import share_of
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training.config import StageProgress
from llmcourse.training.story_evaluation import (
    Samples,
    TaleLoss,
    tale_loss,
    write_samples,
)
from llmcourse.training.text_loss import TextLoss


def measure(
    model: Transformer,
    tokenizer: BPETokenizer,
    n_stories: int,
    n_samples: int,
    seed: int,
    draw: StageProgress,
) -> tuple[TaleLoss, Samples | None]:
    """Return a model's loss on fresh tales, and tales of its own if any are wanted."""
    loss = tale_loss(
        model, tokenizer, n_stories, seed, lambda *at: draw("stories read", *at)
    )
    if n_samples == 0:
        return loss, None
    samples = write_samples(
        model,
        tokenizer,
        n_samples,
        generator=torch.Generator().manual_seed(seed),
        progress=lambda *at: draw("stories written", *at),
    )
    return loss, samples


def print_loss(loss: TextLoss | TaleLoss) -> None:
    """Print a loss, and where it is known, how far above the floor it is."""
    text = loss.text if isinstance(loss, TaleLoss) else loss
    out.print(
        f"text: {text.n_documents:,} documents, {text.n_tokens:,} tokens, "
        f"{text.n_bytes:,} bytes"
    )
    out.print(
        f"loss: {text.loss:.4f} nats/token, perplexity {text.perplexity:.3f}, "
        f"{text.bits_per_byte:.4f} bits/byte"
    )
    if isinstance(loss, TaleLoss):
        _print_gap(loss)


def _print_gap(loss: TaleLoss) -> None:
    floor, excess, gap = loss.floor, loss.excess, loss.paired_gap
    out.print(
        f"floor: {floor.value:.4f} ± {floor.standard_error:.4f} nats/token; "
        f"gap: the loss is {loss.gap:.2%} above it"
    )
    out.print(
        f"story by story: {excess.value:.3f} ± {excess.standard_error:.3f} nats above "
        f"the exact price, {gap.value:.2%} ± {gap.standard_error:.2%}"
    )


def print_samples(samples: Samples, show: int) -> None:
    """Print how many stories are valid, and the first few of them."""
    low, high = samples.interval
    out.print(
        f"samples: {samples.n_valid} of {len(samples.samples)} are valid stories, "
        f"{samples.valid_share:.0%} ({low:.0%} … {high:.0%})"
    )
    for sample in samples.samples[:show]:
        out.print(Text(f"\n{sample.text}\n→ {sample.error or 'valid'}"))


def print_scores(scores: Mapping[str, Score], *, by_kind: bool = True) -> None:
    """Print how many instructions are followed, all kinds together and one by one."""
    for split, score in scores.items():
        out.print(f"{split}: {share_of(score.overall)} exactly right")
        if by_kind:
            kinds = (
                f"{kind} {count.right}/{count.n}"
                for kind, count in score.by_kind.items()
            )
            out.print(f"    {', '.join(kinds)}")


def print_forgetting(found: Forgetting) -> None:
    """Print how much dearer plain stories have become."""
    increase = found.increase
    out.print(
        f"forgotten: {found.n_stories:,} plain stories cost {found.before:.4f} → "
        f"{found.after:.4f} nats/token above the floor, {increase.value:+.4f} ± "
        f"{increase.standard_error:.4f}"
    )
