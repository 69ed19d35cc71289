"""The command `pipeline`: every stage, one after the other."""

from pathlib import Path
from typing import Annotated

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import (
    bars,
    documents_of,
    make_folder,
    out,
    print_json,
    steps_of,
)


def pipeline(
    sources: opt.Sources = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Keep tokenizer and model here.")
    ] = None,
    filter: opt.Filter = False,
    language: opt.Language = None,
    steps: Annotated[
        int, typer.Option(help="Number of training steps.", min=1)
    ] = 4_000,
    n_stories: Annotated[int, typer.Option(help="Number of tales.")] = 6_000,
    seed: opt.Seed = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Turn raw text into a model that writes, in about a minute.

    `llmcourse pipeline`

    `llmcourse pipeline --steps 2000 --out my-model/`

    `llmcourse pipeline notes/ book.txt`
    """
    from dataclasses import replace

    import torch

    from llmcourse.files import write_file
    from llmcourse.model.folders import save_pretrained
    from llmcourse.model.generation import write
    from llmcourse.training import pipeline as stages
    from llmcourse.training.losses import gap_to_floor
    from llmcourse.training.presets import SMALL

    torch.set_num_threads(1)  # for matrices this small a second thread only waits
    training = replace(SMALL.pretraining, steps=steps)
    config = replace(SMALL, n_stories=n_stories, pretraining=training, seed=seed)
    documents = documents_of(sources, n_stories, seed) if sources else None
    if out_folder is not None:
        make_folder(out_folder, overwrite)
    with bars(quiet) as show:
        done_to = steps_of(sources or (), filter, language)
        result = stages.run(config, documents, show, done_to)
    untrained = stages.fit_recipe(config, result.data).new_model()
    samples = {"before": write(untrained, result.tokenizer, seed=seed)}
    for n, name in enumerate(("after", "another (1) after", "another (2) after")):
        samples[name] = write(result.model, result.tokenizer, seed=seed + n)
    if out_folder is not None:
        save_pretrained(result.model, result.tokenizer, out_folder)
        write_file(out_folder / "corpus.txt", f"{result.data.report}\n")
        text = f"before\n{samples['before']}\n\nafter\n{samples['after']}\n"
        write_file(out_folder / "samples.txt", text)
    if as_json:
        found = {"loss": result.loss, "bits_per_byte": result.bits_per_byte}
        print_json(found | {"floor": result.floor and result.floor.value})
        return
    out.print(f"\n{result.data.report}\n")
    out.print(f"tokenizer: {result.tokenizer.vocab_size:,} tokens")
    first = result.history.evaluations[0]
    out.print(f"loss: {first.loss:.2f} → {result.loss:.2f} nats/token on held-out text")
    if result.floor is not None:
        floor = result.floor.value
        gap = gap_to_floor(result.loss, floor)
        out.print(f"floor: {floor:.2f} nats/token; the loss is {gap:.0%} above it")
    bits = [f"{name} {value:.2f}" for name, value in result.bits_per_byte.items()]
    out.print(f"bits per byte: {' · '.join(bits)}")
    for name, text in samples.items():
        out.print(f"\n{name} training: {text[:600]}")
    out.print("\nwhat comes next: llmcourse finetune, llmcourse align, llmcourse serve")
    if out_folder is not None:
        out.print(f"kept in {out_folder}")
