"""The command `export`: write a model in a form that other programs open."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import make_folder, say


def export(
    model: opt.Model,
    out: Annotated[Path, typer.Option("--out", help="A folder, or a .gguf file.")],
    form: Annotated[
        Literal["hf", "gguf"],
        typer.Option("--format", help="hf: for transformers; gguf: for llama.cpp."),
    ] = "hf",
    numbers: Annotated[
        Literal["F32", "F16", "Q8_0"], typer.Option(help="Of the matrices in gguf.")
    ] = "F16",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write over what is there.")
    ] = False,
) -> None:
    """Write a model in a form that transformers or llama.cpp opens.

    `llmcourse export --model base-llm --out base/`

    `llmcourse export --model base-llm --format gguf --out base.gguf --numbers Q8_0`
    """
    from llmcourse.model.folders import load_pretrained, save_pretrained
    from llmcourse.model.gguf_files import write_gguf

    if out.is_file() and not overwrite:
        raise ValueError(f"{str(out)!r} is there already: add --overwrite")
    if form == "hf":
        make_folder(out, overwrite)
    loaded, tokenizer = load_pretrained(model)
    if form == "gguf":
        write_gguf(loaded, tokenizer, out, numbers)
    else:
        save_pretrained(loaded, tokenizer, out)
    say(f"written to {out}")
