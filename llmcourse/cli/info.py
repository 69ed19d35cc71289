"""The command `info`: what is in a model's folder or file."""

import re
from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

import typer

from llmcourse.cli import options as opt
from llmcourse.cli.console import out, print_json


def info(
    model: Annotated[
        str, typer.Argument(help="A folder, a .gguf file or a name, as for --model.")
    ],
    tensors: Annotated[
        bool, typer.Option("--tensors", help="List all tensors, with type and shape.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Show what is in a model: sizes, parameters, bytes, tensors.

    Layers of the same shape share a line; measurements are on the card, README.md in
    the folder.

    `llmcourse info base-llm --tensors`
    """
    from llmcourse.alignment.reward_model import load_reward_model
    from llmcourse.cli.running import open_model
    from llmcourse.model.costs import kv_cache_bytes, n_parameters
    from llmcourse.model.folders import find_model, read_json
    from llmcourse.model.quantization import weight_bytes

    path = find_model(model)
    is_reward = path.is_dir() and "num_labels" in read_json(path / "config.json")
    loaded, tokenizer = load_reward_model(path) if is_reward else open_model(path)
    n = sum(weight.numel() for weight in loaded.parameters())
    facts: dict[str, Any] = {
        "path": str(path),
        "parameters": n if is_reward else n_parameters(loaded.config),
        "bytes of weights, loaded": weight_bytes(loaded),
        "bytes of cache for each token": kv_cache_bytes(loaded.config, 1),
        "special tokens": [*tokenizer.special_tokens],
        **{name: value for name, value in asdict(loaded.config).items() if value},
    }
    if (path / "README.md").is_file():
        facts["card"] = str(path / "README.md")
    shapes = Counter(
        " ".join((re.sub(r"\.\d+\.", ".*.", name), _form(weight)))
        for name, weight in loaded.state_dict().items()
    )
    if as_json:
        print_json(facts | ({"tensors": shapes} if tensors else {}))
        return
    for name, value in facts.items():
        is_count = isinstance(value, int) and not isinstance(value, bool)
        out.print(f"{name}: {value:,}" if is_count else f"{name}: {value}")
    for line, n in shapes.items() if tensors else ():
        out.print(f"{n:3} × {line}")


def _form(weight: Any) -> str:
    """Return a tensor's type and shape, as in "float32 (3072, 256)"."""
    return f"{str(weight.dtype).removeprefix('torch.')} {tuple(weight.shape)}"
