"""The command `evaluate`: how good a model is."""

import json
from collections.abc import Callable, Mapping
from typing import Annotated

import typer
from rich.text import Text

from llmcourse.alignment.reward_model import load_reward_model
from llmcourse.cli.console import (
    Data,
    Questions,
    Quiet,
    Samples,
    Stories,
    bars,
    documents_of,
    out,
)
from llmcourse.cli.running import show
from llmcourse.finetuning.answering import has_chat_tokens
from llmcourse.finetuning.instruction_evaluation import instruction_scores
from llmcourse.model.folders import load_pretrained
from llmcourse.recipes.align import (
    ALIGNED_LLM,
    aligned_quality,
    aligned_table,
    collect,
    reward_quality,
    reward_table,
)
from llmcourse.recipes.base import (
    N_SAMPLES,
    N_STORIES,
    feature_table,
    loss_table,
    tale_quality,
    text_quality,
)
from llmcourse.recipes.cards import Table
from llmcourse.recipes.instruct import (
    Exam,
    instruct_quality,
    instruct_tables,
    score_table,
    scores_to_json,
)
from llmcourse.training.config import StageProgress
from llmcourse.training.story_evaluation import TEST_SEED, Sample


def evaluate(
    model: Annotated[
        str | None,
        typer.Option(help="A model's folder, or the name of a shipped one."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All shipped models, as their cards say.")
    ] = False,
    data: Data = None,
    stories: Stories = N_STORIES,
    samples: Samples = N_SAMPLES,
    questions: Questions = 30,
    show_samples: Annotated[
        int, typer.Option("--show", help="How many of the samples to print.", min=0)
    ] = 2,
    seed: Annotated[int, typer.Option(help="Of stories and samples.")] = TEST_SEED,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on fresh tales, with their floor, or on your text.

    A model that knows conversations is asked instructions, too. With `--all` every
    shipped model is measured as its card says, whatever else is named.

    `llmcourse evaluate --model base-llm`

    `llmcourse evaluate --model my-run/model --data "notes/**/*.txt" --json`

    `llmcourse evaluate --all`
    """
    if everything:
        evaluate_all(quiet)
        return
    if model is None:
        raise ValueError("wanted --model or --all, got neither")
    loaded, tokenizer = load_pretrained(model)
    written: list[Sample] = []
    with bars(quiet) as draw:
        if data:
            texts = [document.text for document in documents_of(data, stories, seed)]
            quality = text_quality(loaded, tokenizer, texts, draw)
        else:
            quality, written = tale_quality(
                loaded, tokenizer, stories, samples, seed, draw
            )
            if questions and has_chat_tokens(tokenizer):
                scores = instruction_scores(
                    loaded,
                    tokenizer,
                    questions,
                    seed,
                    progress=lambda *at: draw("answers", *at),
                )
                quality["instructions"] = scores_to_json(scores)
    if as_json:
        out.print_json(json.dumps({"model": model} | quality))
        return
    out.print(
        f"text: {quality['n_documents']:,} documents, {quality['n_tokens']:,} tokens, "
        f"{quality['n_bytes']:,} bytes"
    )
    show(loss_table(quality), feature_table(quality))
    for sample in written[:show_samples]:
        out.print(Text(f"\n{sample.text}\n→ {sample.error or 'valid'}"))
    if "instructions" in quality:
        show(score_table(quality["instructions"]))


def _base(draw: StageProgress) -> list[Table]:
    model = load_pretrained("base-llm")
    quality, _ = tale_quality(*model, N_STORIES, N_SAMPLES, TEST_SEED, draw)
    return [loss_table(quality), feature_table(quality)]


def _instruct(draw: StageProgress) -> list[Table]:
    models = load_pretrained("base-llm"), load_pretrained("instruct-llm")
    return instruct_tables(instruct_quality(*models, Exam(), draw))


# What all methods have in common: how answers are written and compared.
_ALIGN = ALIGNED_LLM["grpo"]


def _reward(draw: StageProgress) -> list[Table]:
    policy = load_pretrained(_ALIGN.policy)
    pairs = collect(_ALIGN, *policy, draw, held_out=True)
    return [reward_table(reward_quality(*load_reward_model("reward-model"), pairs))]


def _aligned(draw: StageProgress) -> list[Table]:
    models = load_pretrained(_ALIGN.policy), load_pretrained("aligned-llm")
    judge, _ = load_reward_model("reward-model")
    quality = aligned_quality(_ALIGN, *models, judge, Exam(), draw)
    return [aligned_table(quality)]


MEASURES: Mapping[str, Callable[[StageProgress], list[Table]]] = {
    "base-llm": _base,
    "instruct-llm": _instruct,
    "reward-model": _reward,
    "aligned-llm": _aligned,
}
"""What the card of each shipped model states, in the order in which they are made."""


def evaluate_all(quiet: bool) -> None:
    """Measure every model that ships."""
    for name, measure in MEASURES.items():
        out.print(f"{name}:")
        with bars(quiet) as draw:
            tables = measure(draw)
        show(*tables)
        out.print()
