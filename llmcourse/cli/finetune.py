"""The command `finetune`: from a model that continues to one that answers."""

import shlex
from contextlib import ExitStack
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import typer

from llmcourse.cli.console import Quiet, TrainingBar, app, bars, out
from llmcourse.cli.results import print_forgetting, print_scores
from llmcourse.cli.running import (
    LearningRate,
    Machine,
    OutFolder,
    Precision,
    Resume,
    Threads,
    command_line,
    given,
    in_precision,
    prepare_folders,
    stoppable,
    use_cores,
)
from llmcourse.finetuning import instruction_tuning
from llmcourse.finetuning.chat import read_conversations
from llmcourse.finetuning.finetuning import FinetuningConfig
from llmcourse.finetuning.instruction_tuning import InstructConfig, n_held_out
from llmcourse.recipes.instruct_card import InstructQuality
from llmcourse.recipes.instruct_model import Exam, make_instruct
from llmcourse.training.checkpoints import Run
from llmcourse.training.config import Evaluation, JSONLinesLog, Record, TrainingProgress


@app.command()
def finetune(
    preset: Annotated[str, typer.Option(help="instruct-llm or tiny.")] = "instruct-llm",
    model: Annotated[
        str | None, typer.Option(help="What is tuned: a folder or a name; base-llm.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="JSON lines of conversations of your own, no instructions."),
    ] = None,
    truncate: Annotated[
        bool,
        typer.Option(
            "--truncate", help="Let those that are too long lose their first exchanges."
        ),
    ] = False,
    packed: Annotated[
        bool,
        typer.Option(
            "--packed",
            help="Lay a batch out as one row, unpadded; saves time if lengths differ.",
        ),
    ] = False,
    lora: Annotated[
        int | None,
        typer.Option(
            help="Learn adapters of this rank, and the embedding of a model that lacks "
            "the tokens of conversations; nothing else.",
            min=1,
        ),
    ] = None,
    out_folder: OutFolder = None,
    resume: Resume = False,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Of the last part; the preset's; of --data three passes, but 100 at "
            "least and the preset's at most.",
            min=1,
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="The preset's.", min=1)] = None,
    learning_rate: LearningRate = None,
    precision: Precision = None,
    examples: Annotated[
        int | None, typer.Option(help="Instructions; the preset's.", min=1)
    ] = None,
    plain: Annotated[
        int | None,
        typer.Option(
            help="Plain stories among them; the preset's, of --data 0.", min=0
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of instructions and order; the preset's.")
    ] = None,
    threads: Threads = None,
    questions: Annotated[
        int, typer.Option(help="Of each kind and split, to measure; 0: none.", min=0)
    ] = 30,
    stories: Annotated[
        int, typer.Option(help="Tales to measure what was forgotten; 0: none.", min=0)
    ] = 200,
    machine: Machine = "",
    quiet: Quiet = False,
) -> None:
    """Teach a model to answer: instructions about tales, or conversations of your own.

    In the folder are then `checkpoints/`, `log.jsonl` and `model/`, and with `--lora`
    on a model that knows conversations already `adapter/`. Ctrl-C stops, and with
    `--resume` the same command goes on, to the same model.

    `llmcourse finetune --out run/`

    `llmcourse finetune --model run/model --data mine.jsonl --lora 8 --out my-run/`
    """
    use_cores(threads)
    training = {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "precision": precision,
    }
    sources = tuple(str(path) for path in data or ())
    if sources and plain is None:
        plain = 0
    sizes = {"base": model, "rank": lora, "n_examples": examples, "n_stories": plain}
    sizes |= {"truncate": truncate or None, "packed": packed or None}
    config = _config(preset, seed, sources, sizes, training)
    exam = Exam(n_per_kind=questions, n_stories=stories)
    folder = out_folder or Path(f"run-{preset}")
    words = ["llmcourse", "finetune", "--preset", preset, "--out", str(folder)]
    for source in sources:
        words += ["--data", source]
    words += ["--truncate"] * truncate + ["--packed"] * packed
    options = training | {"model": model, "lora": lora, "examples": examples}
    options |= {"plain": plain, "seed": seed, "threads": threads}
    if exam != Exam():
        options |= {"questions": questions, "stories": stories}
    command = command_line(words, options)
    prepare_folders(folder, resume=resume)
    with stoppable(command_line(words, options | {"machine": machine or None})):
        quality = _make(
            config,
            folder,
            quiet,
            name=folder.resolve().name if sources else preset,
            command=command,
            exam=exam,
            machine=machine,
        )
    _print(quality, folder / "model")


def _config(
    preset: str,
    seed: int | None,
    sources: tuple[str, ...],
    sizes: dict[str, Any],
    training: dict[str, Any],
) -> InstructConfig:
    """Return the preset with what was asked for instead."""
    config = instruction_tuning.preset(preset)
    wanted = given(training)
    precision = wanted.pop("precision", None)
    sizes = given(sizes)
    if sources and "steps" not in wanted:
        wanted["steps"] = _steps_for(sources, config.finetuning)
    own: dict[str, Any] = {
        name: sizes[name] for name in ("base", "rank", "packed") if name in sizes
    }
    steps = wanted.get("steps", config.finetuning.steps)
    if steps < config.finetuning.eval_interval:
        wanted["eval_interval"] = max(1, steps // 5)
    first = None
    parts = [] if sources else config.earlier()
    for n, part in enumerate(parts, start=1):
        drawn = part.seed if seed is None else seed + 2 * n  # held out is the next
        learning = in_precision(part.finetuning, precision)
        first = replace(part, **own, seed=drawn, first=first, finetuning=learning)
    return replace(
        config,
        **sizes,
        seed=config.seed if seed is None else seed,
        first=first,
        sources=sources,
        finetuning=replace(in_precision(config.finetuning, precision), **wanted),
    )


def _steps_for(sources: tuple[str, ...], training: FinetuningConfig) -> int:
    """Return the steps of three passes, but a hundred at least, or the preset's."""
    n = sum(len(read_conversations(path)) for path in sources)
    learned = n - n_held_out(n)
    return min(training.steps, max(100, ceil(3 * learned / training.batch_size)))


def _make(
    config: InstructConfig, folder: Path, quiet: bool, **rest: Any
) -> InstructQuality:
    """Train with a log and bars, save and measure."""
    what = ", ".join(config.sources) or f"{config.n_examples:,} instructions"
    training = config.finetuning
    out.print(
        f"{rest['name']}: {config.base} learns {what} and {config.n_stories:,} plain "
        f"stories in {training.steps:,} steps of {training.batch_size} examples"
    )
    with ExitStack() as stack:

        def shown(name: str, log_name: str, steps: int) -> TrainingProgress:
            log = JSONLinesLog(folder / log_name)
            bar = stack.enter_context(TrainingBar(steps, quiet, name=name))

            def progress(record: Record) -> None:
                log(record)
                bar.show(record)
                if isinstance(record, Evaluation) and record.step == steps:
                    bar.close()  # what comes now has bars of its own

            return progress

        *earlier, _ = parts = [*config.earlier(), config]
        before = [
            shown(f"part {n}", f"log-{n}.jsonl", part.finetuning.steps)
            for n, part in enumerate(earlier, start=1)
        ]
        return make_instruct(
            config,
            folder,
            run=Run(
                # Of all parts: a short last one must not make the long ones write more.
                interval=max(part.finetuning.eval_interval for part in parts),
                progress=shown("fine-tuning", "log.jsonl", training.steps),
            ),
            before=before,
            stages=stack.enter_context(bars(quiet)),
            **rest,
        )


def _print(quality: InstructQuality, folder: Path) -> None:
    out.print(
        f"held-out conversations: {quality.loss_before:.3f} → {quality.loss:.3f} "
        "nats/token of the answers"
    )
    if quality.scores is not None:
        print_scores(quality.scores)
    for split, score in (quality.base_scores or {}).items():
        print_scores({f"the base, {split}": score}, by_kind=False)
    if quality.forgetting is not None:
        print_forgetting(quality.forgetting)
    size = sum(path.stat().st_size for path in folder.iterdir())
    out.print(f"\nmodel: {folder} ({size / 1e6:.1f} MB)")
    out.print(f"to talk to it: llmcourse chat --model {shlex.quote(str(folder))}")
