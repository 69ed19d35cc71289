"""Low-rank adapters: learn a small correction to a large matrix, and only that.

        x ──┬── W  (frozen) ────────────(+)── y        y = x Wᵀ + s · x Aᵀ Bᵀ
            └── A  ── B  ── · alpha / rank ┘
              in → rank → out

W has in · out numbers, A and B together rank · (in + out). B starts at zero, so the
adapted model starts as the model that it was. Once learned, s · B A can be added to W:
the model then costs what it cost before.

Source: Hu et al. (2021), "LoRA: Low-rank adaptation of large language models".
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear


class LoRALinear(nn.Linear):
    """A linear layer whose weights are frozen, and that learns a low-rank correction.

    Args:
        layer: Its weight and bias are used, not copied, and are frozen.
        rank: Width of the correction.
        alpha: The correction is multiplied by alpha / rank, so that its size does
            not depend on the rank.
        generator: Source of the first A; None draws from torch's global one.

    Raises:
        ValueError: If rank or alpha is not positive, or alpha not finite.

    Source: Hu et al. (2021), section 4.1. There A is Gaussian; its deviation, which
    they do not give, is 1 / √in here, so that x Aᵀ is about as large as x.

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
        """What the correction is multiplied by, without unit."""
        return self.alpha / self.rank

    @property
    def merged(self) -> bool:
        """Whether the correction is part of the weight now."""
        return self._apart is not None

    @torch.no_grad()
    def correction(self) -> Float[Tensor, "out in"]:
        """Return what the adapter adds to the weight, without unit."""
        _, a, b = self._apart or (self.weight, self.lora_a, self.lora_b)
        return self.scale * (b @ a)

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Return the layer's output, corrected."""
        y = linear(x, self.weight, self.bias)
        if self.merged:
            return y
        return y + self.scale * linear(linear(x, self.lora_a), self.lora_b)

    def merge(self) -> None:
        """Add the correction to the weight; it is the layer's only weight then.

        The weight as it was is kept aside, so `unmerge` gives it back to the bit.
        Neither it nor the adapter is among the parameters until then.
        """
        if self._apart is None:
            assert isinstance(self.weight, nn.Parameter)
            merged = self.weight + self.correction()
            self._apart = self.weight, self.lora_a, self.lora_b
            self.weight = nn.Parameter(merged.detach(), requires_grad=False)
            del self.lora_a, self.lora_b

    def unmerge(self) -> None:
        """Take the correction out of the weight again: it can go on learning."""
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
    """Freeze the model and give the linear layers of some names a low-rank adapter.

    Args:
        model: Changed in place. What it computes stays the same to the bit. Of a
            `Classifier`, give the `body`: its head then goes on learning in full.
        rank: See `LoRALinear`.
        alpha: See `LoRALinear`.
        targets: Last parts of the layers' names: some of query, key, value, output,
            gate, up and down. The paper found query and value to be enough.
        generator: Source of the first weights; None draws from torch's global one.

    Raises:
        ValueError: If a target is not the name of a linear layer in the blocks, if
            there are none or the model has adapters already, or as `LoRALinear`.

    Source: Hu et al. (2021), section 7.1 (the targets).
    """
    layers = dict(linear_layers(model))
    names = {name.rpartition(".")[2] for name in layers}
    if isinstance(targets, str) or not targets or not set(targets) <= names:
        raise ValueError(f"targets must be some of {sorted(names)}, got {targets!r}")
    chosen = [name for name in layers if name.rpartition(".")[2] in targets]
    add_lora_to(model, dict.fromkeys(chosen, (rank, alpha)), generator)


def add_lora_to(
    model: nn.Module,
    sizes: dict[str, tuple[int, float | int]],
    generator: torch.Generator | None = None,
) -> None:
    """Freeze the model and give each of the layers named an adapter of its own size.

    Args:
        model: Changed in place; not at all if refused.
        sizes: Rank and alpha for each layer's full name.
        generator: As in `add_lora`.

    Raises:
        ValueError: If the model has adapters already, if no layer is named or one that
            is no linear layer in the blocks, or as `LoRALinear`.
    """
    if n_layers := len(list(lora_layers(model))):
        raise ValueError(
            f"the model has {n_layers} adapters already: merge or remove them first"
        )
    layers = dict(linear_layers(model))
    if not sizes:
        raise ValueError("adapters are wanted for at least one layer, got none")
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
    if rank < 1 or not 0 < alpha < math.inf:
        raise ValueError(
            "rank and alpha must be positive and finite, "
            f"got rank {rank} and alpha {alpha}"
        )


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

    The model can then be saved like one without adapters. What is merged does not
    learn; make optimizers only after `unmerge_lora`. Move the model to another
    device or type before merging, or after unmerging, not between.

    Raises:
        ValueError: If the model has no adapters.
    """
    for layer in _all_adapted(model):
        layer.merge()


def unmerge_lora(model: nn.Module) -> None:
    """Take every correction out of its weight: both are what they were, to the bit.

    Raises:
        ValueError: If the model has no adapters.
    """
    for layer in _all_adapted(model):
        layer.unmerge()


def remove_lora(model: nn.Module) -> None:
    """Turn all adapted layers into plain ones again, and unfreeze the model.

    What is merged stays in the weights, for good; what is not is lost.

    Raises:
        ValueError: If the model has no adapters.
    """
    _all_adapted(model)
    for name, adapted in list(lora_layers(model)):
        layer = nn.Linear(
            adapted.in_features,
            adapted.out_features,
            adapted.bias is not None,
            device="meta",
        )
        layer.weight, layer.bias = adapted.weight, adapted.bias
        model.set_submodule(name, layer)
    model.requires_grad_(True)


def _all_adapted(model: nn.Module) -> list[LoRALinear]:
    if not (layers := [layer for _, layer in lora_layers(model)]):
        raise ValueError("the model must have adapters, got one without: see add_lora")
    return layers


class ParameterCounts(NamedTuple):
    """Numbers in a model's weights."""

    learned: int  # not frozen
    total: int


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Return how many of the model's parameters learn, and how many there are.

    >>> count_parameters(LoRALinear(nn.Linear(5, 3), rank=2, alpha=4))
    ParameterCounts(learned=16, total=34)
    """
    weights = list(model.parameters())
    return ParameterCounts(
        learned=sum(weight.numel() for weight in weights if weight.requires_grad),
        total=sum(weight.numel() for weight in weights),
    )
