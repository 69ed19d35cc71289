"""The command `evaluate`: how good a model is."""

from typing import Annotated

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import bars, documents_of, out, print_json


def evaluate(
    model: Annotated[
        str | None,
        typer.Option(help="A model's folder, or the name of a shipped one."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All shipped models, as on their cards.")
    ] = False,
    data: opt.Data = None,
    stories: opt.Stories = 500,
    samples: opt.Samples = 500,
    questions: opt.Questions = 30,
    seed: opt.Seed = 1_000_000,
    device: opt.Device = "cpu",
    dtype: opt.Dtype = "float32",
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Measure a model on fresh tales, with their floor, or on your text.

    A model that knows conversations is also given instructions. With `--all`, every
    shipped model is measured as on its card, whatever else you ask for.

    `llmcourse evaluate --model base-llm`

    `llmcourse evaluate --model my-run/model --data "notes/**/*.txt" --json`

    `llmcourse evaluate --all`
    """
    from functools import partial

    from llmcourse.cli import measuring
    from llmcourse.cli.running import open_model, show, use_cores
    from llmcourse.finetuning.chat import has_chat_tokens
    from llmcourse.finetuning.instruction_evaluation import instruction_scores
    from llmcourse.recipes import base, instruct
    from llmcourse.recipes.cards import tables
    from llmcourse.training.evaluation import Sample, text_loss

    if everything:
        measuring.evaluate_all(quiet, as_json)
        return
    if model is None:
        raise ValueError("wanted --model or --all, got neither")
    loaded, tokenizer = open_model(model, device, dtype)
    use_cores(None)  # whole windows at once keep more than one busy
    written: list[Sample] = []
    with bars(quiet) as draw:
        if data:
            texts = [document.text for document in documents_of(data, stories, seed)]
            told = partial(draw, "text")
            quality = text_loss(loaded, tokenizer, texts, told).to_json()
        else:
            quality, written = base.tale_quality(
                loaded, tokenizer, stories, samples, seed, draw
            )
            if questions and has_chat_tokens(tokenizer):
                scores = instruction_scores(
                    loaded,
                    tokenizer,
                    questions,
                    seed,
                    progress=partial(draw, "answers"),
                )
                quality["instructions"] = instruct.scores_to_json(scores)
    if as_json:
        print_json({"model": model} | quality)
        return
    out.print(
        f"text: {quality['n_documents']:,} documents, {quality['n_tokens']:,} tokens, "
        f"{quality['n_bytes']:,} bytes"
    )
    show(*tables("base_tables", quality=quality))
    for sample in written[:2]:
        out.print(f"\n{sample.text}\n→ {sample.error or 'valid'}")
    if "instructions" in quality:
        show(*tables("scores", scores=quality["instructions"]))
