"""Options and arguments that mean the same in every command.

def generate(model: opt.Model, seed: opt.Seed = 0) -> None: ...
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer


def read(text: str) -> str:
    """Return a text, or for "-" what standard input holds, but for its last newline."""
    return sys.stdin.read().removesuffix("\n") if text == "-" else text


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
    typer.Option(help="notes/, *.txt or python_docs: your text, not the tales."),
]
Sources = Annotated[
    list[str] | None,
    typer.Argument(help="tales, python_docs, or files: notes/ or notes/**/*.txt"),
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
System = Annotated[
    str, typer.Option(help="What a model is told first, if it has learned to obey.")
]

# Sampling
Temperature = Annotated[
    float, typer.Option(help="Below 1 safer, above 1 wilder; 0: the likeliest.")
]
TopK = Annotated[int | None, typer.Option(help="Sample from the k likeliest tokens.")]
TopP = Annotated[
    float | None,
    typer.Option(help="Sample from the likeliest tokens of probability p together."),
]
MaxNewTokens = Annotated[
    int | None, typer.Option(help="Most tokens of each text; what fits.", min=1)
]

# Training
OutFolder = Annotated[
    Path | None,
    typer.Option("--out", help="For checkpoints, logs and models; run-PRESET."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the folder's checkpoints.")
]
Steps = Annotated[int | None, typer.Option(help="The preset's.", min=1)]
BatchSize = Annotated[int | None, typer.Option(help="The preset's.", min=1)]
LearningRate = Annotated[float | None, typer.Option(help="At its peak; the preset's.")]
Precision = Annotated[
    Literal["float32", "bfloat16"] | None,
    typer.Option(help="Of the training; what is fast here."),
]
Threads = Annotated[
    int | None, typer.Option(help="Processor cores; all.", min=1, max=1024)
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
