"""The command `export`: write a model in a format that other programs open."""

import logging
from pathlib import Path
from typing import Annotated, Literal

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import check_folder, make_folder, say


def export(
    model: opt.Model,
    out: Annotated[
        Path, typer.Option("--out", help="A folder, or a .gguf or .onnx file.")
    ],
    form: Annotated[
        Literal["hf", "gguf", "onnx"],
        typer.Option(
            "--format",
            help="hf: for transformers; gguf: for llama.cpp and Ollama, with a "
            "Modelfile beside it; onnx: for onnxruntime.",
        ),
    ] = "hf",
    numbers: Annotated[
        Literal["F32", "F16", "Q8_0"] | None,
        typer.Option(help="Number type of the matrices in gguf. Default: F16."),
    ] = None,
    overwrite: opt.Overwrite = False,
) -> None:
    """Write a model in a format that other programs can open.

    `llmcourse export --model base-llm --out base/`

    `llmcourse export --model base-llm --format gguf --out base.gguf --numbers Q8_0`

    `llmcourse export --model base-llm --format onnx --out base.onnx`
    """
    from llmcourse.files import write_file
    from llmcourse.finetuning.chat import ollama_modelfile
    from llmcourse.model.folders import find_model, load_pretrained, save_pretrained
    from llmcourse.model.gguf_files import write_gguf
    from llmcourse.model.onnx_files import write_onnx

    if numbers and form != "gguf":
        raise ValueError(f"--numbers is for --format gguf, got --format {form}")
    find_model(model)  # before a folder is made
    recipe = out.parent / "Modelfile"
    for path in (out, recipe) if form == "gguf" else (out,):
        if path.is_dir() and form != "hf":
            raise ValueError(f"{str(path)!r} is a folder: name a file to write")
        if path.is_file() and not overwrite:
            raise ValueError(f"{str(path)!r} exists already: add --overwrite")
    if form == "hf":
        check_folder(out, overwrite)
    else:
        make_folder(out.parent)
    loaded, tokenizer = load_pretrained(model)
    if form == "gguf":
        write_gguf(loaded, tokenizer, out, numbers or "F16")
        try:
            text = ollama_modelfile(tokenizer, out.name, loaded.config.context_length)
        except ValueError as error:
            say(f"no Modelfile for Ollama: {error}")
        else:
            write_file(recipe, text)
    elif form == "onnx":
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        write_onnx(loaded, out)
    else:
        save_pretrained(loaded, tokenizer, out)
    say(f"written to {out}")
