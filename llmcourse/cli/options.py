"""Options and arguments that mean the same in every command.

def generate(model: opt.Model, seed: opt.Seed = 0) -> None: ...
"""

import sys
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

import typer


def read(text: str) -> str:
    """Return a text, or for "-" all of standard input except its last newline."""
    return sys.stdin.read().removesuffix("\n") if text == "-" else text


def use_config(context: typer.Context, path: Path | None) -> Path | None:
    """Use the values in a TOML file as the defaults of a command's options."""
    if path is None:
        return None
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{str(path)!r} must be TOML: {error}") from error
    names = {
        option.lstrip("-"): parameter.name
        for parameter in context.command.params
        for option in parameter.opts
    }
    for key in found.keys() - names.keys():
        near = ", ".join(get_close_matches(key, names)) or "none"
        raise typer.BadParameter(f"there is no option {key!r}; similar: {near}")
    many = {one.name for one in context.command.params if getattr(one, "multiple", 0)}
    context.default_map = {
        names[key]: [value] if names[key] in many and isinstance(value, str) else value
        for key, value in found.items()
    }
    return path


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Seed = Annotated[
    int, typer.Option(help="Seed for everything random.", min=0, max=2**32 - 1)
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="A folder, a .gguf file, a shipped model, smollm2 or hf:owner/name.",
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        help="Your text, not the tales: notes/, *.txt, a dataset, python_docs or -."
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        help="tales, python_docs, -, a dataset, or files: notes/ or notes/**/*.txt."
    ),
]
Column = Annotated[
    str | None,
    typer.Option(
        help="Column of a dataset that holds the texts. Default: text. Only with this "
        "option is .jsonl read by rows. Needs llmcourse[datasets].",
        show_default=False,
    ),
]
Filter = Annotated[
    bool, typer.Option("--filter", help="Drop what is not good English prose.")
]
Language = Annotated[
    Literal["de", "en", "es", "fr", "it", "nl", "pt", "sv"] | None,
    typer.Option(help="Drop what is in any other language."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Write over what is there.")
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]

Text = Annotated[
    str, typer.Argument(help="A text; - reads standard input.", callback=read)
]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where the model runs.")
]
_Dtype = Literal["auto", "float32", "bfloat16"]
Dtype = Annotated[
    _Dtype,
    typer.Option(
        help="Number type of the weights; auto: bfloat16 on cuda, else float32."
    ),
]

# Sampling
Temperature = Annotated[
    float,
    typer.Option(help="Below 1: less random; above 1: more; 0: the most probable."),
]
TopK = Annotated[
    int | None, typer.Option(help="Sample from the k most probable tokens.")
]
TopP = Annotated[
    float | None,
    typer.Option(
        help="Sample from the most probable tokens that add up to probability p."
    ),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(help="Most tokens in each text. Default: as many as fit.", min=1),
]

# Training
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="A TOML file of options; the command line overrides it.",
        callback=use_config,
        is_eager=True,
        show_default=False,
    ),
]
OutFolder = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Folder for checkpoints, log and model. Default: run-PRESET."
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue from the folder's checkpoints.")
]
Steps = Annotated[
    int | None, typer.Option(help="Number of steps. Default: the preset's.", min=1)
]
BatchSize = Annotated[
    int | None, typer.Option(help="Rows in a batch. Default: the preset's.", min=1)
]
LearningRate = Annotated[
    float | None, typer.Option(help="Peak learning rate. Default: the preset's.")
]
TrainedIn = Annotated[
    _Dtype,
    typer.Option(
        "--dtype",
        "--precision",
        help="Number type for training; auto: what is fast here.",
    ),
]
GradientCheckpointing = Annotated[
    bool,
    typer.Option(
        "--gradient-checkpointing",
        help="Recompute the inside of blocks in the backward pass: less memory, more "
        "time, the same model.",
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the model first, which takes a minute, for faster steps: the "
        "same model apart from rounding. Needs a C++ compiler.",
    ),
]
Sharded = Annotated[
    bool,
    typer.Option(
        "--fsdp",
        help="Shard weights, gradients and optimizer state across torchrun's "
        "processes: less memory in each, the same model.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(help="Processor cores to use. Default: all.", min=1, max=1024),
]
TensorBoard = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        help="Also write the curves of log.jsonl here for TensorBoard. Needs "
        "llmcourse[tensorboard].",
        show_default=False,
    ),
]
Machine = Annotated[
    str,
    typer.Option(
        help="What the model's card should say about the machine that trained it."
    ),
]

# Measuring
Stories = Annotated[
    int, typer.Option(help="Fresh tales to measure the loss on.", min=2)
]
Samples = Annotated[
    int,
    typer.Option(help="Tales for the model to write, which are then checked.", min=0),
]
Questions = Annotated[
    int, typer.Option(help="Instructions of each kind to measure on; 0: none.", min=0)
]
