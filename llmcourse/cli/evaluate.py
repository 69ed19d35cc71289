"""The command `evaluate`: how good a model is."""

import json
from typing import Annotated, Any

import torch
import typer
from rich.text import Text

from llmcourse.cli.console import Model, Quiet, Seed, app, bars, documents_of, out
from llmcourse.pretrained import load_pretrained
from llmcourse.story_evaluation import (
    TEST_SEED,
    Samples,
    TaleLoss,
    tale_loss,
    write_samples,
)
from llmcourse.text_loss import TextLoss, text_loss


@app.command()
def evaluate(
    model: Model,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Own text, notes/**/*.txt, or python_docs; not the tales."),
    ] = None,
    n_stories: Annotated[
        int, typer.Option("--stories", help="Tales for the loss.")
    ] = 500,
    n_samples: Annotated[
        int, typer.Option("--samples", help="Tales that the model writes; 0: none.")
    ] = 200,
    show: Annotated[int, typer.Option(help="Samples to print.")] = 2,
    seed: Seed = TEST_SEED,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model: on fresh tales against their floor, or on your own text.

    `llmcourse evaluate --model base-llm`

    `llmcourse evaluate --model my-model/ --data "notes/**/*.txt" --json`
    """
    loaded, tokenizer = load_pretrained(model)
    found: dict[str, Any] = {"model": model}
    samples = None
    with bars(quiet) as draw:
        if data:
            texts = [document.text for document in documents_of(data, n_stories, seed)]
            loss: TextLoss | TaleLoss = text_loss(
                loaded, tokenizer, texts, lambda *at: draw("documents", *at)
            )
        else:
            loss = tale_loss(
                loaded, tokenizer, n_stories, seed, lambda *at: draw("stories", *at)
            )
            if n_samples:
                samples = write_samples(
                    loaded,
                    tokenizer,
                    n_samples,
                    generator=torch.Generator().manual_seed(seed),
                    progress=lambda *at: draw("samples", *at),
                )
    if as_json:
        found |= loss.to_json() | ({"samples": samples.to_json()} if samples else {})
        print(json.dumps(found, indent=2))
        return
    _print_text(loss.text if isinstance(loss, TaleLoss) else loss)
    if isinstance(loss, TaleLoss):
        _print_gap(loss)
    if samples:
        _print_samples(samples, show)


def _print_text(loss: TextLoss) -> None:
    out.print(
        f"text: {loss.n_documents:,} documents, {loss.n_tokens:,} tokens, "
        f"{loss.n_bytes:,} bytes"
    )
    out.print(
        f"loss: {loss.loss:.4f} nats/token, perplexity {loss.perplexity:.3f}, "
        f"{loss.bits_per_byte:.4f} bits/byte"
    )


def _print_gap(loss: TaleLoss) -> None:
    out.print(
        f"floor: {loss.floor.value:.4f} ± {loss.floor.standard_error:.4f} nats/token; "
        f"the loss is {loss.gap:.2%} above it"
    )
    gap = loss.paired_gap
    out.print(
        f"story by story: {loss.excess.value:.3f} ± {loss.excess.standard_error:.3f} "
        f"nats above the exact price, {gap.value:.2%} ± {gap.standard_error:.2%}"
    )


def _print_samples(samples: Samples, show: int) -> None:
    low, high = samples.interval
    out.print(
        f"samples: {samples.n_valid} of {len(samples.samples)} are valid stories, "
        f"{samples.valid_share:.0%} ({low:.0%} … {high:.0%})"
    )
    for sample in samples.samples[:show]:
        out.print(Text(f"\n{sample.text}\n→ {sample.error or 'valid'}"))
