"""The command `finetune`: from a model that continues to one that answers."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from llmcourse.cli import options as opt


def finetune(
    preset: Annotated[
        Literal["instruct-llm", "tiny"],
        typer.Option(help="The recipe."),
    ] = "instruct-llm",
    config: opt.Config = None,
    out_folder: opt.OutFolder = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Your conversations, as JSON of messages, ShareGPT or Alpaca; or -."
        ),
    ] = None,
    truncate: Annotated[
        bool,
        typer.Option(
            "--truncate",
            help="Let conversations that are too long lose their first exchanges.",
        ),
    ] = False,
    resume: opt.Resume = False,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Number of steps. Default: the preset's; with --data, three passes, "
            "but at least 100 steps and at most the preset's.",
            min=1,
        ),
    ] = None,
    batch_size: opt.BatchSize = None,
    learning_rate: opt.LearningRate = None,
    dtype: opt.TrainedIn = "auto",
    gradient_checkpointing: opt.GradientCheckpointing = False,
    compile: opt.Compile = False,
    fsdp: opt.Sharded = False,
    device: opt.Device = "cpu",
    model: Annotated[
        str | None,
        typer.Option(help="The base: a folder or a name. Default: base-llm."),
    ] = None,
    lora: Annotated[
        int | None,
        typer.Option(
            help="Train only adapters of this rank, and the embedding if the model "
            "lacks the tokens for conversations.",
            min=1,
        ),
    ] = None,
    seed: opt.Seed = 0,
    threads: opt.Threads = None,
    questions: opt.Questions = 30,
    stories: Annotated[
        int, typer.Option(help="Tales to measure forgetting on; 0: none.", min=0)
    ] = 200,
    tensorboard: opt.TensorBoard = None,
    machine: opt.Machine = "",
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Fine-tune a model on instructions about tales, or your conversations.

    The folder then holds `checkpoints/`, `log.jsonl` and `model/`, and with `--lora`,
    if the model already knows conversations, `adapter/`. Ctrl-C stops, and the same
    command with `--resume` goes on to the same model.

    `llmcourse finetune --out run/`

    `llmcourse finetune --model run/model --data mine.jsonl --lora 8 --out my-run/`

    `torchrun --nproc-per-node 2 -m llmcourse finetune --fsdp --out run/`
    """
    from llmcourse.cli.running import Command, run_command, show, show_model
    from llmcourse.recipes import instruct

    command = Command(finetune, locals())
    if fsdp and lora:
        raise ValueError(
            "--fsdp shards whole weights and cannot be combined with --lora"
        )
    recipe = instruct.configured(
        preset,
        seed=seed,
        sources=tuple(map(str, data or ())),
        sizes={
            "base": model,
            "rank": lora,
            "n_stories": 0 if data else None,
            "truncate": truncate,
        },
        precision=dtype,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    exam = instruct.Exam(n_per_kind=questions, n_stories=stories)
    folder, quality = run_command(
        command, lambda run: instruct.make_instruct(recipe, run, exam)
    )
    if as_json or not quality:
        return  # another process has measured, or all is printed already
    show(*instruct.instruct_tables(quality))
    show_model(folder / "model", "chat")
