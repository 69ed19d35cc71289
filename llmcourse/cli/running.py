"""What commands that train share: cores, folders, how to stop, and what is printed."""

import os
import shlex
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
import typer

from llmcourse.arguments import check_one_of
from llmcourse.cli.console import bars, make_folder, out, print_json, say
from llmcourse.cli.tensorboard import TensorBoardLog
from llmcourse.files import locked
from llmcourse.model.folders import find_model, load_pretrained
from llmcourse.model.quantization import is_quantized, load_quantized, weight_bytes
from llmcourse.model.transformer import Transformer
from llmcourse.recipes.cards import Table
from llmcourse.recipes.making import Making
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import parallel
from llmcourse.training.checkpoints import checkpoint_paths
from llmcourse.training.config import JSONLinesLog, Record, TrainingProgress, Update
from llmcourse.training.loop import checkpoint_blocks, compile_model, keep_freed_memory

SMALL = 50_000_000  # bytes of weights; a larger model writes faster on two cores
_DECIDE_NOTHING = {"as_json", "config", "machine", "quiet", "resume", "tensorboard"}


def use_cores(threads: int | None) -> None:
    """Compute on this many cores, or all, and keep the memory that training frees.

    The processes that torchrun started on this machine share its cores.
    """
    keep_freed_memory()
    share = n_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    torch.set_num_threads(threads or max(1, share))


def find_device(device: str) -> str:
    """Return the name of an available device; for "auto", the fastest one.

    Raises:
        ValueError: If it is not available.
    """
    mps = torch.backends.mps.is_available()
    devices = {"cuda": torch.cuda.is_available(), "mps": mps, "cpu": True}
    there = [name for name, is_there in devices.items() if is_there]
    check_one_of("device", device, ["auto", *there])
    return there[0] if device == "auto" else device


def open_model(
    name: str | Path, device: str = "cpu", dtype: str = "float32"
) -> tuple[Transformer, BPETokenizer]:
    """Return a model on a device and in a type, and its tokenizer.

    A quantized model has its own types, and computes in float32. For a small model, one
    core is used from here on: with a second one it writes no faster, and slower on a
    busy machine, since each waits for the other.

    Raises:
        ValueError: If the device is not available, or as in `load_pretrained`.
        OSError: If a file cannot be read.
    """
    device = find_device(device)
    folder = find_model(name)
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    kind: torch.dtype = getattr(torch, dtype)
    if is_quantized(folder):
        model, tokenizer = load_quantized(folder)
    else:
        model, tokenizer = load_pretrained(folder, kind)
    if weight_bytes(model) < SMALL:
        torch.set_num_threads(1)
    return model.to(device), tokenizer


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Command(NamedTuple):
    """A command that trains, and the options that it was called with."""

    function: Callable[..., None]
    options: Mapping[str, Any]

    def change(self, model: torch.nn.Module) -> None:
        """Make a model save memory or time while it learns, as the options ask."""
        if self.options.get("gradient_checkpointing"):
            checkpoint_blocks(model)
        if self.options.get("compile"):
            compile_model(model)
        if self.options.get("fsdp"):
            parallel.shard(model)

    def line(self, folder: Path, *more: str) -> str:
        """Return the command line to type again, without default values.

        Args:
            folder: Value of `--out`, always given.
            more: Options to keep although they decide nothing about a model.
        """
        words = ["llmcourse", self.function.__name__]
        if parallel.n_processes() > 1:
            count = str(parallel.n_processes())
            words = ["torchrun", "--nproc-per-node", count, "-m", *words]
        for name, parameter in signature(self.function).parameters.items():
            value = folder if name == "out_folder" else self.options[name]
            always = name in ("preset", "method")
            if name in _DECIDE_NOTHING - {*more}:
                continue
            if value == parameter.default and not always:
                continue
            option = "--" + name.removesuffix("_folder").removesuffix("_model")
            option = option.replace("_", "-")
            for each in value if isinstance(value, list) else [value]:
                words += [option] if each is True else [option, str(each)]
        return shlex.join(words)


def run_command(
    command: Command,
    recipe: Callable[[Making], dict[str, Any]],
    name: str | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Follow a recipe with logs and bars; return the folder, and how good the model is.

    With `--json`, this is printed on one line, and nothing else.

    Args:
        command: Has the options that all training commands have.
        recipe: Makes the models, and returns how good they are.
        name: The model's; by default the folder's with `--data`, else the preset's.
    """
    options = command.options
    use_cores(options["threads"])
    device = find_device(options.get("device", "cpu"))
    board: Path | None = options.get("tensorboard")
    if board is not None:
        TensorBoardLog(board)  # fails now rather than after the data is prepared
    folder: Path = options["out_folder"] or Path(f"run-{options['preset']}")
    if name is None:
        name = folder.resolve().name if options["data"] else options["preset"]
    with ExitStack() as stack:
        stack.enter_context(parallel.processes(device))
        first = parallel.rank() == 0
        if first:
            make_folder(folder)
            stack.enter_context(locked(folder))
            prepare_folder(folder, resume=options["resume"])
        draw = stack.enter_context(bars(options["quiet"] or not first))

        def training(name: str, path: Path, steps: int) -> TrainingProgress:
            logs: list[TrainingProgress] = [JSONLinesLog(path)]
            if board is not None:
                logs.append(TensorBoardLog(board / name))
            beside: dict[str, str] = {}

            def progress(record: Record) -> None:
                for log in logs:
                    log(record)
                is_update = isinstance(record, Update)
                beside["loss" if is_update else "held out"] = f"{record.loss:.3f}"
                if record.step < steps or not is_update:  # an evaluation comes last
                    draw(name, record.step, steps, **beside)

            return progress

        run = Making(
            folder=folder,
            name=name,
            command=command.line(folder),
            machine=options["machine"],
            device=device,
            change=command.change,
            training=training,
            stages=draw,
            say=out.print if first and not options["as_json"] else lambda text: None,
        )
        try:
            quality = recipe(run)
        except KeyboardInterrupt:
            if first:
                again = command.line(folder, "machine", "tensorboard")
                say(f"stopped; to go on: {again} --resume")
            raise typer.Exit(130) from None
        if options["as_json"] and first:
            print_json({"folder": str(folder)} | quality)
        return folder, quality


def prepare_folder(folder: Path, *, resume: bool) -> None:
    """Make a folder before anything takes time; refuse one that is taken.

    It is taken if it holds checkpoints and `resume` is false.
    """
    found = any(map(checkpoint_paths, folder.rglob("checkpoints")))
    if found and not resume:
        raise ValueError(
            f"{str(folder)!r} holds checkpoints already: add --resume to continue "
            "that run, or name another folder"
        )
    if resume and not found:
        say(f"no checkpoint in {str(folder)!r}: training starts at the beginning")
    make_folder(folder / "checkpoints")


def show(*tables: Table) -> None:
    """Print the rows of tables, as a model's card has them."""
    for table in tables:
        if table.rows and table.head != ("measure", "value"):
            out.print(f"{table.head[0]}: {' · '.join(table.head[1:])}")
        for name, *values in table.rows:
            out.print(f"{name}: {' · '.join(value for value in values if value)}")


def show_model(folder: Path, then: str = "") -> None:
    """Print how large a model is, and what to do with it next."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    out.print(f"\nmodel: {folder} ({size / 1e6:.1f} MB)")
    if then:
        out.print(f"next: llmcourse {then} --model {shlex.quote(str(folder))}")
