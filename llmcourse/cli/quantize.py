"""The command `quantize`: a model in 8 or 4 bits, which every command opens."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import check_folder, out, print_json


def quantize(
    model: opt.Model,
    to: Annotated[Path, typer.Option("--out", help="A new folder.")],
    bits: Annotated[
        Literal["8", "4"], typer.Option(help="Bits for each number in a matrix.")
    ] = "8",
    group: Annotated[
        int | None,
        typer.Option(
            help="Numbers that share a scale. Default: 8 bits, a row; 4 bits, 32.",
            min=1,
        ),
    ] = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.AsJson = False,
) -> None:
    """Store a model's matrices in 8 or 4 bits, and say what that costs.

    `llmcourse quantize --model base-llm --bits 4 --out small/`
    """
    from llmcourse.model.folders import load_pretrained
    from llmcourse.model.quantization import (
        quantization_error,
        quantize_model,
        save_quantized,
        weight_bytes,
    )

    check_folder(to, overwrite)
    loaded, tokenizer = load_pretrained(model)
    small = quantize_model(loaded, int(bits), group or (32 if bits == "4" else None))
    save_quantized(small, tokenizer, to)
    before, after = weight_bytes(loaded), weight_bytes(small)
    error = quantization_error(loaded, small)
    if as_json:
        sizes = {"bytes_before": before, "bytes_after": after}
        print_json(sizes | {"error": error, "folder": str(to)})
        return
    out.print(f"weights: {before / 1e6:.1f} MB in float32, {after / 1e6:.1f} MB now")
    out.print(f"error of the weights: {error:.2%}")
    out.print(f"written to {to}")
