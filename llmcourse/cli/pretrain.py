"""The command `pretrain`: from text to a model in a folder, in one go or in several."""

from datetime import timedelta
from typing import Annotated, Literal

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import documents_of, out, print_json, steps_of

Size = Annotated[int | None, typer.Option(help="Default: the preset's.", min=1)]


def pretrain(
    preset: Annotated[
        Literal["base-llm", "base-llm-small", "small", "tiny"],
        typer.Option(help="The recipe."),
    ] = "small",
    config: opt.Config = None,
    from_model: Annotated[
        str | None,
        typer.Option(
            "--from", help="A model to train further on --data: folder or name."
        ),
    ] = None,
    data: opt.Data = None,
    column: opt.Column = None,
    filter: opt.Filter = False,
    language: opt.Language = None,
    out_folder: opt.OutFolder = None,
    resume: opt.Resume = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what training would take.")
    ] = False,
    layers: Size = None,
    width: Size = None,
    heads: Size = None,
    vocab_size: Annotated[
        int | None,
        typer.Option(help="Default: the preset's; less for a short text.", min=1),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(help="Tokens in a window. Default: the preset's.", min=1),
    ] = None,
    batch_size: opt.BatchSize = None,
    steps: opt.Steps = None,
    learning_rate: opt.LearningRate = None,
    optimizer: Annotated[
        Literal["adamw", "muon"] | None, typer.Option(help="Default: the preset's.")
    ] = None,
    dtype: opt.TrainedIn = "auto",
    gradient_checkpointing: opt.GradientCheckpointing = False,
    compile: opt.Compile = False,
    fsdp: opt.Sharded = False,
    device: opt.Device = "cpu",
    seed: opt.Seed = 0,
    threads: opt.Threads = None,
    stories: opt.Stories = 500,
    samples: opt.Samples = 500,
    tensorboard: opt.TensorBoard = None,
    machine: opt.Machine = "",
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Pretrain a model on tales, with their entropy floor, or on your text.

    Your text may be of any kind, language and length. The report compares the model's
    bits per byte with those of gzip and a trigram model, and shows three samples.
    Folders that Hugging Face's `datasets` has saved, .parquet files and, with
    `--column`, .jsonl files are read row by row.

    Processes started by torchrun share each batch and, with `--fsdp`, the weights;
    the model is the same.

    The folder then holds `checkpoints/`, `prepared/` (the text as ids), `log.jsonl`
    and `model/`. Ctrl-C stops, and the same command with `--resume` goes on at once, to
    the same model.

    `llmcourse pretrain --preset base-llm --out run/`

    `llmcourse pretrain --data notes/ --data book.txt --out my-run/`

    `llmcourse pretrain --data saved/train --column story --out my-run/`

    `torchrun --nproc-per-node 2 -m llmcourse pretrain --fsdp --out run/`

    `llmcourse pretrain --from base-llm --data notes/ --out my-run/`

    `llmcourse pretrain --layers 4 --width 128 --heads 4 --optimizer muon --dry-run`
    """
    from functools import partial

    from llmcourse.cli.running import Command, run_command, show, show_model, use_cores
    from llmcourse.recipes import base
    from llmcourse.recipes.cards import tables
    from llmcourse.training.pipeline import estimate_training

    command = Command(pretrain, locals())
    of_data = {"--column": column, "--filter": filter, "--language": language}
    for name, given in {"--from": from_model, **of_data}.items():
        if given and not data:
            raise ValueError(f"{name} needs --data: the text that a model should learn")
    plan = base.configured(
        preset,
        seed=seed,
        vocab_size=vocab_size,
        layers=layers,
        width=width,
        heads=heads,
        context_length=context,
        precision=dtype,
        base=from_model,
        batch_size=batch_size,
        steps=steps,
        learning_rate=learning_rate,
        optimizer=optimizer,
    )
    if dry_run:
        use_cores(threads)
        found = estimate_training(plan, command.change)
        if as_json:
            print_json(found._asdict())
            return
        out.print(f"parameters: {found.n_parameters:,}")
        out.print(f"memory: {found.peak_bytes / 1e6:,.0f} MB of tensors at the peak")
        seconds = timedelta(seconds=round(found.seconds))
        out.print(f"time: {seconds} of training here (h:mm:ss)")
        return
    recipe = partial(
        base.make_base,
        plan,
        sources=tuple(data or ()),
        documents=documents_of(data or (), plan.n_stories, seed, column=column),
        steps=steps_of(data or (), filter, language),
        n_stories=stories,
        n_samples=samples,
    )
    folder, quality = run_command(command, recipe)
    if as_json or not quality:
        return  # another process has measured, or all is printed already
    show(tables("base_tables", quality=quality)[0])
    for number, text in enumerate(quality.get("written", []), start=1):
        out.print(f"\nsample {number}: {text}")
    show_model(folder / "model", "generate")
