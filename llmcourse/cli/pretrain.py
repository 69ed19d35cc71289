"""The command `pretrain`: from text to a model in a folder, in one go or in several."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from llmcourse.cli.console import (
    Quiet,
    Samples,
    Stories,
    TrainingBar,
    app,
    bars,
    documents_of,
    out,
)
from llmcourse.cli.results import measure, print_loss, print_samples
from llmcourse.cli.running import (
    LearningRate,
    Machine,
    OutFolder,
    Precision,
    Resume,
    Steps,
    Threads,
    command_line,
    given,
    in_precision,
    prepare_folders,
    stoppable,
    use_cores,
)
from llmcourse.model.costs import n_parameters
from llmcourse.model.folders import load_pretrained, save_pretrained
from llmcourse.recipes.base_card import Making, card
from llmcourse.training import pipeline
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import JSONLinesLog, Record
from llmcourse.training.pipeline import PipelineConfig
from llmcourse.training.story_evaluation import TEST_SEED, TaleLoss
from llmcourse.training.text_loss import TextLoss, text_loss

_STORIES, _SAMPLES = 500, 200  # measured and written unless asked otherwise


@app.command()
def pretrain(
    preset: Annotated[str, typer.Option(help="base-llm, small or tiny.")] = "small",
    data: Annotated[
        list[str] | None,
        typer.Option(help="notes/**/*.txt or python_docs: your text, not the tales."),
    ] = None,
    out_folder: OutFolder = None,
    resume: Resume = False,
    steps: Steps = None,
    learning_rate: LearningRate = None,
    precision: Precision = None,
    vocab_size: Annotated[int | None, typer.Option(help="The preset's.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of tales, weights and order.")] = 0,
    threads: Threads = None,
    stories: Stories = _STORIES,
    samples: Samples = _SAMPLES,
    machine: Machine = "",
    quiet: Quiet = False,
) -> None:
    """Pretrain a model: on tales, measured against their floor, or on your own text.

    In the folder are then `checkpoints/`, `log.jsonl` and `model/`. Ctrl-C stops, and
    with `--resume` the same command goes on, to the same model.

    `llmcourse pretrain --preset base-llm --out run/`

    `llmcourse pretrain --data "notes/**/*.txt" --out my-run/`
    """
    use_cores(threads)
    changes = {
        "steps": steps,
        "learning_rate": learning_rate,
        "precision": precision,
    }
    config = _config(preset, seed, vocab_size, changes)
    folder = out_folder or Path(f"run-{preset}")
    options = changes | {"vocab_size": vocab_size, "seed": seed or None}
    options |= {"threads": threads}
    if not data and (stories, samples) != (_STORIES, _SAMPLES):
        options |= {"stories": stories, "samples": samples}
    job = _Job(
        name=preset if not data else folder.resolve().name,
        config=config,
        sources=data or [],
        folder=folder,
        command=_command(preset, data or [], folder, options),
        n_stories=stories,
        n_samples=samples,
        machine=machine,
        quiet=quiet,
    )
    prepare_folders(folder, resume=resume)
    options |= {"machine": machine or None}
    with stoppable(_command(preset, data or [], folder, options)):
        _make(job)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is to be made, and where."""

    name: str
    config: PipelineConfig
    sources: list[str]
    folder: Path
    command: str
    n_stories: int
    n_samples: int
    machine: str
    quiet: bool


def _config(
    preset: str, seed: int, vocab_size: int | None, changes: dict[str, Any]
) -> PipelineConfig:
    """Return the preset with what was asked for instead."""
    config = pipeline.preset(preset)
    wanted = given(changes)
    training = in_precision(config.pretraining, wanted.pop("precision", None))
    return replace(
        config,
        seed=seed,
        model=replace(config.model, vocab_size=vocab_size or config.model.vocab_size),
        pretraining=replace(training, **wanted),
    )


def _command(
    preset: str, data: list[str], folder: Path, options: dict[str, Any]
) -> str:
    """Return the command line of this training, to be typed again."""
    words = ["llmcourse", "pretrain", "--preset", preset, "--out", str(folder)]
    for source in data:
        words += ["--data", source]
    return command_line(words, options)


def _make(job: _Job) -> None:
    """Train, save, measure, and say how good it is."""
    data = _data(job)
    n = job.config.pretraining.batch_size * job.config.pretraining.context_length
    out.print(
        f"{job.name}: {n_parameters(job.config.model):,} parameters, "
        f"{len(data.train):,} tokens of text, "
        f"{job.config.pretraining.steps:,} steps of {n:,} tokens"
    )
    log = JSONLinesLog(job.folder / "log.jsonl")
    with TrainingBar(job.config.pretraining.steps, job.quiet) as bar:

        def progress(record: Record) -> None:
            log(record)
            bar.show(record)

        run = Run(
            folder=job.folder / "checkpoints",
            interval=job.config.pretraining.eval_interval,
            progress=progress,
        )
        trained = pipeline.follow(job.config, run, data=data)
    folder = job.folder / "model"
    save_pretrained(trained.model, trained.tokenizer, folder, torch.float16)
    _measure_and_describe(job, data, folder)


def _data(job: _Job) -> pipeline.TrainingData:
    with bars(job.quiet) as draw:
        if not job.sources:
            return pipeline.prepare(job.config, draw)
        documents = documents_of(job.sources, job.config.n_stories, job.config.seed)
        data = pipeline.prepare_text(job.config, documents)
    out.print(f"{data.report}\n")
    return data


def _measure_and_describe(job: _Job, data: pipeline.TrainingData, folder: Path) -> None:
    """Measure the model as it is in the file; write its card beside it."""
    model, tokenizer = load_pretrained(folder)
    loss: TextLoss | TaleLoss
    written = None
    with bars(job.quiet) as draw:
        if data.held_out:
            texts = [document.text for document in data.held_out]
            loss = text_loss(model, tokenizer, texts, lambda *at: draw("text", *at))
        else:
            loss, written = measure(
                model, tokenizer, job.n_stories, job.n_samples, TEST_SEED, draw
            )
    making = Making(
        config=job.config,
        n_train_tokens=len(data.train),
        command=job.command,
        sources=job.sources,
        n_threads=torch.get_num_threads(),
        machine=job.machine,
    )
    text = card(job.name, making, loss, written)
    save_pretrained(model, tokenizer, folder, torch.float16, card=text)
    print_loss(loss)
    if written:
        print_samples(written, show=1)
    size = sum(path.stat().st_size for path in folder.iterdir())
    out.print(f"\nmodel: {folder} ({size / 1e6:.1f} MB)")
    out.print(f"to let it write: llmcourse generate --model {shlex.quote(str(folder))}")
