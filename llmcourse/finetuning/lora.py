"""Low-rank adapters: learn a small correction to a large matrix, and only that.

        x ──┬── W  (frozen) ────────────(+)── y        y = x Wᵀ + s · x Aᵀ Bᵀ
            └── A  ── B  ── · alpha / rank ┘
              in → rank → out

W has in · out numbers, A and B together rank · (in + out). B starts at zero, so at
first the adapted model computes the same as before. Once learned, s · B A can be added
to W: the model then costs no more than before.

`save_adapter` and `load_adapter` use the files of Hugging Face `peft`:

    adapter_config.json          rank, alpha, which layers
    adapter_model.safetensors    base_model.model.model.layers.0.self_attn.q_proj
                                     .lora_A.weight, .lora_B.weight, …

An adapter works only with the model that it was trained on, and its files do not
identify that model: another one of the same shape goes unnoticed. In `peft`, GPT-2's
query, key and value are one matrix with one adapter: our three are written side by
side, as one adapter whose rank is their sum.

Source: Hu et al. (2022), "LoRA: Low-rank adaptation of large language models".
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import linear

from llmcourse.arguments import check_positive, check_range
from llmcourse.files import write_file, write_json
from llmcourse.model.folders import StoredWeights, read_json, written_at_once
from llmcourse.model.hugging_face import their_name
from llmcourse.model.transformer import Transformer


class LoRALinear(nn.Linear):
    """A linear layer with frozen weights that learns a low-rank correction.

    Args:
        layer: Its weight and bias are used, not copied, and are frozen.
        rank: Width of the correction.
        alpha: The correction is multiplied by alpha / rank, so that its size does
            not depend on the rank.
        generator: Source of the initial A; None draws from torch's global one.

    Raises:
        ValueError: If rank or alpha is not positive, or alpha not finite.

    Source: Hu et al. (2022), section 4.1. There A is Gaussian; its deviation, which
    the paper does not give, is 1 / √in here, so that x Aᵀ is about as large as x.

    >>> layer = nn.Linear(5, 3)
    >>> adapted, x = LoRALinear(layer, rank=2, alpha=4), torch.ones(1, 5)
    >>> torch.equal(adapted(x), layer(x)), adapted.lora_a.shape, adapted.lora_b.shape
    (True, torch.Size([2, 5]), torch.Size([3, 2]))
    """

    def __init__(
        self,
        layer: nn.Linear,
        rank: int,
        alpha: float | int,
        generator: torch.Generator | None = None,
    ) -> None:
        _check_size(rank, alpha)
        has_bias = layer.bias is not None
        super().__init__(layer.in_features, layer.out_features, has_bias, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.requires_grad_(False)
        self.rank, self.alpha = rank, alpha
        a = torch.randn(rank, layer.in_features, generator=generator)
        a = a * layer.in_features**-0.5
        self.lora_a = nn.Parameter(a.to(layer.weight))  # its type and device
        self.lora_b = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))
        self._apart: tuple[nn.Parameter, nn.Parameter, nn.Parameter] | None = None

    @property
    def scale(self) -> float:
        """What the correction is multiplied by (unitless)."""
        return self.alpha / self.rank

    @property
    def merged(self) -> bool:
        """Whether the correction is part of the weight now."""
        return self._apart is not None

    @torch.no_grad()
    def correction(self) -> Float[Tensor, "out in"]:
        """Return what the adapter adds to the weight (unitless)."""
        _, a, b = self._apart or (self.weight, self.lora_a, self.lora_b)
        return self.scale * (b @ a)

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Return the layer's output, corrected."""
        y = linear(x, self.weight, self.bias)
        if self.merged:
            return y
        return y + self.scale * linear(linear(x, self.lora_a), self.lora_b)

    def merge(self) -> None:
        """Add the correction to the weight, which is then the layer's only one.

        The original weight is kept aside, so `unmerge` restores it bit for bit.
        Until then, neither it nor the adapter is among the parameters.
        """
        if self._apart is None:
            assert isinstance(self.weight, nn.Parameter)
            merged = self.weight + self.correction()
            self._apart = self.weight, self.lora_a, self.lora_b
            self.weight = nn.Parameter(merged.detach(), requires_grad=False)
            del self.lora_a, self.lora_b

    def unmerge(self) -> None:
        """Take the correction out of the weight again, to train it further."""
        if self._apart is not None:
            self.weight, self.lora_a, self.lora_b = self._apart
            self._apart = None


def add_lora(
    model: nn.Module,
    rank: int,
    alpha: float | int,
    targets: Sequence[str] = ("query", "value"),
    generator: torch.Generator | None = None,
) -> None:
    """Freeze the model and give linear layers with some names a low-rank adapter.

    Args:
        model: Changed in place. What it computes stays the same bit for bit. Of a
            `Classifier`, pass the `body`: its head is then still trained in full.
        rank: See `LoRALinear`.
        alpha: See `LoRALinear`.
        targets: Last parts of the layers' names: some of query, key, value, output,
            gate, up and down. The paper found query and value to be enough.
        generator: Source of the initial weights; None draws from torch's global one.

    Raises:
        ValueError: If a target is not the name of a linear layer in the blocks, if
            there are no targets, if the model already has adapters, if the rank is
            above the width of all targets, or as in `LoRALinear`.

    Source: Hu et al. (2022), section 7.1 (the targets).
    """
    layers = dict(linear_layers(model))
    names = {name.rpartition(".")[2] for name in layers}
    if isinstance(targets, str) or not targets or not set(targets) <= names:
        raise ValueError(f"targets must be some of {sorted(names)}, got {targets!r}")
    chosen = [name for name in layers if name.rpartition(".")[2] in targets]
    # A higher rank would not improve any correction.
    check_range(1, max(min(layers[name].weight.shape) for name in chosen), rank=rank)
    add_lora_to(model, dict.fromkeys(chosen, (rank, alpha)), generator)


def add_lora_to(
    model: nn.Module,
    sizes: dict[str, tuple[int, float | int]],
    generator: torch.Generator | None = None,
) -> None:
    """Freeze the model and give each named layer an adapter of its own size.

    Args:
        model: Changed in place; unchanged if refused.
        sizes: Rank and alpha for each layer's full name.
        generator: As in `add_lora`.

    Raises:
        ValueError: If the model already has adapters, if a name is not that of a
            linear layer in the blocks, or as in `LoRALinear`.
    """
    if n_layers := len(list(lora_layers(model))):
        raise ValueError(
            f"the model has {n_layers} adapters already: call remove_lora first"
        )
    layers = dict(linear_layers(model))
    if unknown := sorted(sizes.keys() - layers.keys()):
        raise ValueError(f"names must be linear layers in the blocks, got {unknown}")
    for rank, alpha in sizes.values():
        _check_size(rank, alpha)
    adapted = {
        name: LoRALinear(layers[name], rank, alpha, generator)
        for name, (rank, alpha) in sizes.items()
    }
    model.requires_grad_(False)
    for name, layer in adapted.items():
        model.set_submodule(name, layer)


def _check_size(rank: int, alpha: float | int) -> None:
    check_range(1, rank=rank)
    check_range(0, alpha=alpha)
    check_positive(alpha=alpha)


def linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Yield name and layer of every linear layer inside the model's blocks."""
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear) and "blocks." in name:
            yield name, part


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """Yield name and layer of every linear layer that has an adapter."""
    for name, part in model.named_modules():
        if isinstance(part, LoRALinear):
            yield name, part


def merge_lora(model: nn.Module) -> None:
    """Add every correction to its weight: the same outputs, at no extra cost.

    The model can then be saved like one without adapters. What is merged is not
    trained, and meanwhile the model must not be moved to another device or dtype;
    `LoRALinear.unmerge` takes a correction out again, bit for bit.

    Raises:
        ValueError: If the model has no adapters.
    """
    for layer in _all_adapted(model).values():
        layer.merge()


def remove_lora(model: nn.Module) -> None:
    """Turn all adapted layers into plain ones again, and unfreeze the model.

    Merged corrections stay in the weights for good; others are lost.

    Raises:
        ValueError: If the model has no adapters.
    """
    for name, adapted in _all_adapted(model).items():
        sizes = adapted.in_features, adapted.out_features
        layer = nn.Linear(*sizes, bias=adapted.bias is not None, device="meta")
        layer.weight, layer.bias = adapted.weight, adapted.bias
        model.set_submodule(name, layer)
    model.requires_grad_(True)


def _all_adapted(model: nn.Module) -> dict[str, LoRALinear]:
    if not (layers := dict(lora_layers(model))):
        raise ValueError("the model must have adapters, got one without: see add_lora")
    return layers


class ParameterCounts(NamedTuple):
    """How many parameters a model has."""

    learned: int  # not frozen
    total: int


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Return how many of the model's parameters are trained, and how many there are.

    >>> count_parameters(LoRALinear(nn.Linear(5, 3), rank=2, alpha=4))
    ParameterCounts(learned=16, total=34)
    """
    weights = list(model.parameters())
    return ParameterCounts(
        learned=sum(weight.numel() for weight in weights if weight.requires_grad),
        total=sum(weight.numel() for weight in weights),
    )


_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_NAME = re.compile(rf"{re.escape(_PREFIX)}(.+)\.lora_([AB])\.weight")
# Settings that are accepted: those read below, those that matter only in training, and
# those that the weights' names and shapes imply. Any others are refused.
_HARMLESS = {
    *("alpha_pattern", "auto_mapping", "base_model_name_or_path", "exclude_modules"),
    *("fan_in_fan_out", "inference_mode", "layers_pattern", "layers_to_transform"),
    *("lora_alpha", "lora_dropout", "megatron_core", "peft_type", "peft_version"),
    *("qalora_group_size", "r", "rank_pattern", "revision", "target_modules"),
    *("task_type", "use_rslora"),
}
_PATTERNS = {"r": "rank_pattern", "lora_alpha": "alpha_pattern"}
_REQUIRED = {"bias": ("none", None), "init_lora_weights": (True, False, "gaussian")}


def save_adapter(
    model: Transformer, folder: str | Path, base_model: str | None = None
) -> None:
    """Write the model's adapters into a folder, for `load_adapter` and for `peft`.

    Args:
        model: Has adapters that are not merged.
        folder: Created if missing.
        base_model: Name or path of the model they were trained on, for the record.

    Raises:
        ValueError: If there are no adapters, if they are merged, or if a number in
            them is not finite.
        OSError: If a file cannot be written; older ones then stay unchanged.
    """
    adapted = dict(lora_layers(model))
    if not adapted or any(layer.merged for layer in adapted.values()):
        state = "merged ones" if adapted else "none"
        raise ValueError(f"the model must have adapters to be saved, got {state}")
    weights: dict[str, Tensor] = {}
    sizes: dict[str, tuple[int, float | int]] = {}
    modules = _their_modules(model)
    for theirs, ours in modules.items():
        if not any(name in adapted for name in ours):
            continue
        a, b, alpha = _joined([*ours.values()])
        weights[f"{_PREFIX}{theirs}.lora_A.weight"] = a.float().contiguous()
        weights[f"{_PREFIX}{theirs}.lora_B.weight"] = b.float().contiguous()
        sizes[theirs] = (len(a), alpha)
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise ValueError(f"{name} must be finite to be saved, but is not")
    config = _config(sizes, [*modules])
    config["base_model_name_or_path"] = base_model
    config["fan_in_fan_out"] = model.config.family == "gpt2"
    # Both are moved into place at the end, when both are complete and on disk.
    with written_at_once(Path(folder)) as staging:
        write_file(staging / _WEIGHTS, save(weights, metadata={"format": "pt"}))
        write_json(staging / _CONFIG, config)


def load_adapter(model: Transformer, folder: str | Path) -> None:
    """Load the adapters of a folder into a model, and freeze the rest of it.

    Args:
        model: The one they were trained on. Changed in place; unchanged if refused.
        folder: As `save_adapter` or `peft` writes it. A rank-stabilised adapter, which
            divides by the root of the rank, gets an alpha to the same effect.

    Raises:
        ValueError: If a file is missing or damaged, if the adapters are for layers of
            another name or shape, hold a number that is not finite, or use more than
            plain low-rank adaptation; or if the model already has adapters.
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
                f"{theirs!r} has an adapter, but is not a layer of this model"
            )
        layers, rank = modules[theirs], _of(theirs, config, "r")
        rows = [layer.out_features for layer in layers.values()]
        n_in = next(iter(layers.values())).in_features
        wanted = {"A": (rank, n_in), "B": (sum(rows), rank)}
        got = {name: tuple(weight.shape) for name, weight in sorted(pair.items())}
        if got != wanted:
            raise ValueError(f"the adapter of {theirs} must have {wanted}, got {got}")
        if not all(weight.isfinite().all() for weight in pair.values()):
            raise ValueError(f"the adapter of {theirs} must be finite, but is not")
        alpha = _of(theirs, config, "lora_alpha")
        if config.get("use_rslora"):  # divides by the root of the rank
            alpha *= math.sqrt(rank)
        for ours, part in zip(layers, torch.split(pair["B"], rows), strict=True):
            sizes[ours] = (rank, alpha)
            parts[ours] = (pair["A"], part)
    add_lora_to(model, sizes, torch.Generator())
    with torch.no_grad():
        for name, layer in lora_layers(model):
            layer.lora_a.copy_(parts[name][0])
            layer.lora_b.copy_(parts[name][1])


def _their_modules(model: Transformer) -> dict[str, dict[str, nn.Linear]]:
    """Return our layers that make up each linear layer in Hugging Face's blocks."""
    modules: dict[str, dict[str, nn.Linear]] = {}
    for name, layer in linear_layers(model):
        theirs = their_name(f"{name}.weight", model.config.family)
        modules.setdefault(theirs.removesuffix(".weight"), {})[name] = layer
    return modules


def _joined(layers: Sequence[nn.Linear]) -> tuple[Tensor, Tensor, float | int]:
    """Return A, B and alpha of one adapter that equals those of some layers together.

    In Hugging Face's format, one matrix stacks the layers' rows. Each row of A serves
    one layer, so B is zero everywhere else.
    """
    adapted = [layer for layer in layers if isinstance(layer, LoRALinear)]
    rank, first = sum(layer.rank for layer in adapted), adapted[0]
    parts = [
        layer.lora_b * (layer.scale / first.scale)
        if isinstance(layer, LoRALinear)
        else layer.weight.new_zeros(layer.out_features, 0)
        for layer in layers
    ]
    a = torch.cat([layer.lora_a for layer in adapted])
    alpha = first.alpha if rank == first.rank else first.alpha * rank / first.rank
    b: Tensor = torch.block_diag(*parts)  # type: ignore[no-untyped-call]
    return a.detach(), b.detach(), alpha


def _config(
    sizes: Mapping[str, tuple[int, float | int]], modules: Sequence[str]
) -> dict[str, Any]:
    """Return the contents of `adapter_config.json` for these ranks and alphas."""
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
    for pattern, value in (config.get(_PATTERNS[name]) or {}).items():
        if f".{module}".endswith(f".{pattern}") or pattern == f"^{module}":
            return value
    return config.get(name)


def _read_config(path: Path) -> dict[str, Any]:
    config = read_json(path)
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{str(path)!r} must describe a low-rank adapter (LORA)")
    for name, allowed in _REQUIRED.items():
        if config.setdefault(name, allowed[0]) not in allowed:
            raise ValueError(f"{name} must be {allowed[0]!r}, got {config[name]!r}")
    known = _HARMLESS | _REQUIRED.keys()
    if more := [name for name in config if config[name] and name not in known]:
        raise ValueError(f"{str(path)!r} has settings that are not supported: {more}")
    for name in _PATTERNS.values():
        found = config.get(name) or {}
        if not isinstance(found, dict) or not all(map(_is_name, found)):
            raise ValueError(f"{name} must be an object of layers' names, got {found}")
    alphas = [config.get("lora_alpha"), *(config.get("alpha_pattern") or {}).values()]
    if odd := [alpha for alpha in alphas if type(alpha) not in (int, float)]:
        raise ValueError(f"lora_alpha must be a number, got {odd}")
    return config


def _is_name(pattern: str) -> bool:
    """Return whether what `peft` reads as a regular expression is just a name."""
    return pattern.removeprefix("^").replace(".", "").isidentifier()


def _read_weights(path: Path) -> dict[str, dict[str, Tensor]]:
    """Return A and B of each layer in the file, or whichever of them is there."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, weight in StoredWeights([path]).items():
        if (match := _NAME.fullmatch(name)) is None:
            raise ValueError(f"{name!r} in {str(path)!r} is not part of an adapter")
        found.setdefault(match[1], {})[match[2]] = weight
    if not found:
        raise ValueError(f"{str(path)!r} must hold an adapter, got none")
    return found
