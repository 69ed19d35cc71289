"""Low-rank adapters as files, in the form that Hugging Face `peft` reads and writes.

    adapter_config.json          rank, alpha, which layers
    adapter_model.safetensors    base_model.model.model.layers.0.self_attn.q_proj
                                     .lora_A.weight, .lora_B.weight, …

An adapter is small and useless without the model that it was learned on; nothing in
it says whether another model of the same shape is that one.

GPT-2's query, key and value are one matrix there, and so is their adapter: ours are
written side by side, as one whose rank is the sum of theirs.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from llmcourse.files import new_file
from llmcourse.hugging_face import their_name
from llmcourse.lora import LoRALinear, add_lora_to, linear_layers, lora_layers
from llmcourse.model_folders import written_at_once
from llmcourse.transformer import Transformer

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_ENDINGS = {".lora_A.weight": "A", ".lora_B.weight": "B"}
# What may be set and changes nothing here: how it was learned, and what the names and
# shapes of the weights say as well. Whatever else is set is refused.
_HARMLESS = {
    *("alpha_pattern", "auto_mapping", "base_model_name_or_path", "exclude_modules"),
    *("fan_in_fan_out", "inference_mode", "layers_pattern", "layers_to_transform"),
    *("lora_alpha", "lora_dropout", "megatron_core", "peft_type", "peft_version"),
    *("qalora_group_size", "r", "rank_pattern", "revision", "target_modules"),
    "task_type",
}
_REQUIRED = {"bias": ("none", None), "init_lora_weights": (True, False, "gaussian")}


def save_adapter(
    model: Transformer, folder: str | Path, base_model: str | None = None
) -> None:
    """Write the model's adapters into a folder, for `load_adapter` and for `peft`.

    Args:
        model: Has adapters that are not merged.
        folder: Created if missing.
        base_model: Name or path of the model they were learned on, for the record.

    Raises:
        ValueError: If there are no adapters, if they are merged, or if a number in
            them is not finite.
        OSError: If a file cannot be written; older ones then stay.
    """
    adapted = dict(lora_layers(model))
    if not adapted or any(layer.merged for layer in adapted.values()):
        state = "merged ones" if adapted else "none"
        raise ValueError(f"the model must have adapters to be saved, got {state}")
    weights: dict[str, Tensor] = {}
    sizes: dict[str, tuple[int, float | int]] = {}
    for theirs, ours in _their_modules(model).items():
        if not any(name in adapted for name in ours):
            continue
        a, b, alpha = _joined([*ours.values()])
        weights[f"{_PREFIX}{theirs}.lora_A.weight"] = a.float().contiguous()
        weights[f"{_PREFIX}{theirs}.lora_B.weight"] = b.float().contiguous()
        sizes[theirs] = (len(a), alpha)
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise ValueError(f"{name} must be finite to be saved, and is not")
    config = _config(sizes, [*_their_modules(model)])
    config["base_model_name_or_path"] = base_model
    config["fan_in_fan_out"] = model.config.family == "gpt2"
    # Both take their places at the end, when both are whole and on disk.
    with written_at_once(Path(folder)) as staging:
        with new_file(staging / _WEIGHTS) as file:
            file.write(save(weights, metadata={"format": "pt"}))
        with new_file(staging / _CONFIG) as file:
            file.write((json.dumps(config, indent=2) + "\n").encode())


def load_adapter(model: Transformer, folder: str | Path) -> None:
    """Give a model the adapters of a folder; the rest of it is frozen.

    Args:
        model: That they were learned on. Changed in place; not at all if refused.
        folder: As `save_adapter` or `peft` writes it.

    Raises:
        ValueError: If a file is missing or damaged, if the adapters are for layers of
            another name or shape, hold a number that is not finite, or do more than
            the sum of two products; or if the model has adapters already.
        OSError: If a file cannot be read.
    """
    folder = Path(folder)
    config = _read_config(folder / _CONFIG)
    found = _read_weights(folder / _WEIGHTS)
    modules = _their_modules(model)
    sizes: dict[str, tuple[int, float | int]] = {}
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    for theirs, pair in sorted(found.items()):
        if theirs not in modules:
            raise ValueError(
                f"{theirs!r} has an adapter, but is no layer of this model"
            )
        layers = modules[theirs]
        a, b = _checked(theirs, pair, [*layers.values()], _of(theirs, config, "r"))
        rows = [layer.out_features for layer in layers.values()]
        for ours, part in zip(layers, torch.split(b, rows), strict=True):
            sizes[ours] = (len(a), _of(theirs, config, "lora_alpha"))
            parts[ours] = (a, part)
    add_lora_to(model, sizes, torch.Generator())
    with torch.no_grad():
        for name, layer in lora_layers(model):
            layer.lora_a.copy_(parts[name][0])
            layer.lora_b.copy_(parts[name][1])


def _their_modules(model: Transformer) -> dict[str, dict[str, nn.Linear]]:
    """Return, for each linear layer in their blocks, ours that it consists of."""
    modules: dict[str, dict[str, nn.Linear]] = {}
    for name, layer in linear_layers(model):
        theirs = their_name(f"{name}.weight", model.config.family)
        modules.setdefault(theirs.removesuffix(".weight"), {})[name] = layer
    return modules


def _joined(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor, float | int]:
    """Return A, B and alpha of one adapter that does what those of some layers do.

    Theirs is one matrix with the layers' rows below each other. Each row of A serves
    one of them, so B is zero everywhere else.
    """
    adapted = [layer for layer in layers if isinstance(layer, LoRALinear)]
    rank, first = sum(layer.rank for layer in adapted), adapted[0]
    rows, start = [], 0
    for layer in layers:
        b = layer.weight.new_zeros(layer.out_features, rank)
        if isinstance(layer, LoRALinear):
            part = layer.lora_b.detach() * (layer.scale / first.scale)
            b[:, start : start + layer.rank] = part
            start += layer.rank
        rows.append(b)
    a = torch.cat([layer.lora_a.detach() for layer in adapted])
    alpha = first.alpha if rank == first.rank else first.alpha * rank / first.rank
    return a, torch.cat(rows), alpha


def _config(
    sizes: Mapping[str, tuple[int, float | int]], modules: Sequence[str]
) -> dict[str, Any]:
    """Return what `adapter_config.json` says of adapters of these ranks and alphas."""
    rank, alpha = Counter(sizes.values()).most_common(1)[0][0]
    targets: set[str] = set()
    for name in sizes:
        last = name.rpartition(".")[2]
        alike = [other for other in modules if other.endswith(f".{last}")]
        targets.add(last if set(alike) <= sizes.keys() else name)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(targets),
        "rank_pattern": {n: r for n, (r, _) in sizes.items() if r != rank},
        "alpha_pattern": {n: a for n, (_, a) in sizes.items() if a != alpha},
    }


def _of(module: str, config: Mapping[str, Any], name: str) -> Any:
    """Return a layer's rank or alpha: its own, if the config gives it one."""
    patterns = config.get({"r": "rank_pattern", "lora_alpha": "alpha_pattern"}[name])
    for pattern, value in (patterns or {}).items():
        if f".{module}".endswith(f".{pattern}"):
            return value
    return config[name]


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"an adapter's folder needs the file {str(path)!r}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} must be JSON: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError(f"{str(path)!r} must describe a low-rank adapter (LORA)")
    for name, allowed in _REQUIRED.items():
        if config.setdefault(name, allowed[0]) not in allowed:
            raise ValueError(f"{name} must be {allowed[0]!r}, got {config[name]!r}")
    known = _HARMLESS | _REQUIRED.keys()
    if more := [name for name in config if config[name] and name not in known]:
        raise ValueError(f"{str(path)!r} cannot be followed in {more}")
    patterns = [config.get(name) or {} for name in ("rank_pattern", "alpha_pattern")]
    if not all(isinstance(pattern, dict) for pattern in patterns):
        raise ValueError(f"patterns must be objects of layers' names, got {patterns}")
    ranks, alphas = patterns
    if odd := [n for n in {*ranks, *alphas} if not n.replace(".", "").isidentifier()]:
        raise ValueError(f"patterns must be names of layers, got {odd}")
    for rank in (config.get("r"), *ranks.values()):
        if type(rank) is not int or rank < 1:
            raise ValueError(f"r must be a positive whole number, got {rank!r}")
    for alpha in (config.get("lora_alpha"), *alphas.values()):
        if type(alpha) not in (int, float) or not 0 < alpha < math.inf:
            raise ValueError(f"lora_alpha must be a positive number, got {alpha!r}")
    return config


def _read_weights(path: Path) -> dict[str, dict[str, Tensor]]:
    """Return A and B of each of their layers, whichever there are of the two."""
    if not path.is_file():
        raise ValueError(f"an adapter's folder needs the file {str(path)!r}")
    try:
        weights = load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(
            f"{str(path)!r} must be a whole safetensors file: {error}"
        ) from error
    found: dict[str, dict[str, Tensor]] = {}
    for name, weight in weights.items():
        ending = name[-len(".lora_A.weight") :]
        if not name.startswith(_PREFIX) or ending not in _ENDINGS:
            raise ValueError(f"{name!r} in {str(path)!r} is no part of such an adapter")
        module = name.removeprefix(_PREFIX).removesuffix(ending)
        found.setdefault(module, {})[_ENDINGS[ending]] = weight
    if not found:
        raise ValueError(f"{str(path)!r} must hold an adapter, got none")
    return found


def _checked(
    module: str, pair: Mapping[str, Tensor], layers: Sequence[nn.Linear], rank: int
) -> tuple[Tensor, Tensor]:
    """Return A and B if they fit the layers, side by side."""
    n_out = sum(layer.out_features for layer in layers)
    wanted = {"A": (rank, layers[0].in_features), "B": (n_out, rank)}
    got = {name: tuple(weight.shape) for name, weight in sorted(pair.items())}
    if got != wanted:
        raise ValueError(f"the adapter of {module} must have {wanted}, got {got}")
    if not all(weight.is_floating_point() for weight in pair.values()):
        kinds = [weight.dtype for weight in pair.values()]
        raise ValueError(f"the adapter of {module} must have floats, got {kinds}")
    if not all(weight.isfinite().all() for weight in pair.values()):
        raise ValueError(f"the adapter of {module} must be finite, and is not")
    return pair["A"].float(), pair["B"].float()
