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
    """Return a text, or for "-" what standard input holds, but for its last newline."""
    return sys.stdin.read().removesuffix("\n") if text == "-" else text


def use_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take what a TOML file says as the defaults of a command's options."""
    if path is None:
        return None
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{str(path)!r} must be TOML: {error}") from error
    names = {
        option.lstrip("-"): parameter.name
        for parameter in context.command.params
        for option in parameter.opts
    }
    for key in found.keys() - names.keys():
        near = ", ".join(get_close_matches(key, names)) or "nothing"
        raise typer.BadParameter(f"there is no option {key!r}, near it is {near}")
    context.default_map = {names[key]: value for key, value in found.items()}
    return path


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Seed = Annotated[
    int, typer.Option(help="Of everything that is random.", min=0, max=2**32 - 1)
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
        help="notes/, *.txt, - or python_docs: your text, not the tales; a dataset."
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        help="tales, python_docs, - or files: notes/ or notes/**/*.txt; a dataset."
    ),
]
Column = Annotated[
    str | None,
    typer.Option(
        help="Of a dataset: where the texts are, if not in text. Only with it is "
        ".jsonl read by rows. Needs llmcourse[datasets].",
        show_default=False,
    ),
]
Filter = Annotated[
    bool, typer.Option("--filter", help="Drop what is no good English prose.")
]
Language = Annotated[
    Literal["de", "en", "es", "fr", "it", "nl", "pt", "sv"] | None,
    typer.Option(help="Drop what is in another language."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")
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
    _Dtype, typer.Option(help="Of weights; auto: bfloat16 on cuda, else float32.")
]
System = Annotated[
    str, typer.Option(help="A system message, for models that learned to follow one.")
]

# Sampling
Temperature = Annotated[
    float, typer.Option(help="Below 1 less random, above 1 more; 0: the most probable.")
]
TopK = Annotated[
    int | None, typer.Option(help="Sample from the k most probable tokens.")
]
TopP = Annotated[
    float | None,
    typer.Option(
        help="Sample from the most probable tokens of probability p together."
    ),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(help="Most tokens of each text. Default: what fits.", min=1),
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
        "--out", help="Folder of checkpoints, log and model. Default: run-PRESET."
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the folder's checkpoints.")
]
Steps = Annotated[
    int | None, typer.Option(help="Number of steps. Default: the preset's.", min=1)
]
BatchSize = Annotated[
    int | None, typer.Option(help="Rows of a batch. Default: the preset's.", min=1)
]
LearningRate = Annotated[
    float | None, typer.Option(help="At its peak. Default: the preset's.")
]
TrainedIn = Annotated[
    _Dtype,
    typer.Option("--dtype", "--precision", help="Of the training; auto: fast here."),
]
GradientCheckpointing = Annotated[
    bool,
    typer.Option(
        "--gradient-checkpointing",
        help="Compute the inside of blocks again in the backward pass: less memory, "
        "more time, the same model.",
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the model first, which takes a minute, for faster steps: the "
        "same model but for rounding. Needs a C++ compiler.",
    ),
]
Sharded = Annotated[
    bool,
    typer.Option(
        "--fsdp",
        help="Shard weights, gradients and optimizer state among the processes of "
        "torchrun: less memory in each, the same model.",
    ),
]
Threads = Annotated[
    int | None, typer.Option(help="Processor cores; all.", min=1, max=1024)
]
TensorBoard = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        help="Write the curves of log.jsonl here for TensorBoard, too; needs "
        "llmcourse[tensorboard].",
        show_default=False,
    ),
]
Machine = Annotated[
    str, typer.Option(help="Words for the model's card on what trained it.")
]

# Measuring
Stories = Annotated[
    int, typer.Option(help="Fresh tales to measure the loss on.", min=2)
]
Samples = Annotated[
    int, typer.Option(help="Tales that the model writes, to be checked.", min=0)
]
Questions = Annotated[
    int, typer.Option(help="Instructions of each kind, to measure; 0: none.", min=0)
]
