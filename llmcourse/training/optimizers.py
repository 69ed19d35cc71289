"""Muon and AdamW, and which weights are trained with which.

    gradients ── momentum ── M = U S Vᵀ ── orthogonalise ── U Vᵀ ── step

A matrix's gradient is large along a few directions and small along all others, and so
is AdamW's step. Muon keeps the directions but makes them equally long, with a few
matrix products (Newton–Schulz) instead of a decomposition. It is for matrices between
hidden layers; embeddings and norms stay with AdamW. Processes that train together
divide up the matrices.

Sources: Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural
networks"; the length of a step as in Liu et al. (2025), "Muon is scalable for LLM
training", section 2.2, so that AdamW's learning rates fit.
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmcourse.training import parallel
from llmcourse.training.config import PretrainingConfig

A, B, C = 3.4445, -4.7750, 2.0315
"""Coefficients of a x + b x³ + c x⁵: applied five times, it takes 0.01 … 1 near 1."""


def orthogonalise(
    matrix: Float[Tensor, "rows columns"],
    dtype: torch.dtype = torch.bfloat16,
) -> Float[Tensor, "rows columns"]:
    """Return a matrix with the same singular vectors and singular values of about one.

    Each step applies the odd polynomial above to all singular values at once, since
    (M Mᵀ) M has the vectors of M and the cubes of its values. They end up between 0.7
    and 1.2, which is close enough.

    Args:
        matrix: Of any shape.
        dtype: Type to compute in.

    >>> made = orthogonalise(torch.diag(torch.tensor([3.0, 0.2])), dtype=torch.float32)
    >>> [round(value.item(), 1) for value in torch.linalg.svdvals(made)]
    [1.1, 0.7]
    """
    x = matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x  # so that the square below is the smaller one
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        square = x @ x.mT
        quintic = torch.addmm(square, square, square, beta=B, alpha=C)
        x = torch.addmm(x, quintic, x, beta=A)  # A x + (B square + C square²) x
    made: Tensor = x.mT if tall else x
    return made.to(matrix.dtype).contiguous()


MOMENTUM = 0.95  # share of the old mean in the running mean of gradients


class Muon(torch.optim.AdamW):
    """Muon for groups of parameters with `"muon": True`, AdamW for all others.

    Args:
        groups: Parameter groups; those for Muon hold matrices.
        dtype: Type in which steps are orthogonalised.
        options: Options of AdamW.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        dtype: torch.dtype = torch.bfloat16,
        **options: Any,
    ) -> None:
        self.dtype = dtype
        super().__init__(groups, **options)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Make one step from the gradients; Muon's are then dropped."""
        for group in self.param_groups:
            if group.get("muon", False):
                self._step_matrices(group)
        super().step()

    def _step_matrices(self, group: dict[str, Any]) -> None:
        learning = [weight for weight in group["params"] if weight.grad is not None]
        made = parallel.share_out(
            partial(orthogonalise, dtype=self.dtype), map(self._momentum, learning)
        )
        for weight, direction in zip(learning, made, strict=True):
            length = 0.2 * max(weight.shape) ** 0.5  # typical of AdamW's steps
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.sub_(direction, alpha=group["lr"] * length)
            weight.grad = None  # nothing is left for AdamW

    def _momentum(self, weight: Tensor) -> Tensor:
        """Return the running mean of a weight's gradients, one step ahead."""
        assert weight.grad is not None
        state = self.state[weight]
        state.setdefault("step", torch.zeros(()))  # AdamW looks for it
        mean = state.setdefault("momentum", torch.zeros_like(weight))
        mean.lerp_(weight.grad, 1 - MOMENTUM)
        return weight.grad.lerp(mean, MOMENTUM)  # Nesterov's


def make_optimizer(model: nn.Module, config: PretrainingConfig) -> Muon:
    """Return an optimizer that decays the blocks' matrices, not embeddings or norms.

    The matrices use AdamW or Muon, as the config says, and the rest AdamW.

    Decay pulls weights towards zero unless the data holds them in place. A rare token's
    embedding is hardly ever held, and a norm's weight belongs near one. Frozen weights
    are left out. Token embeddings learn `embedding_speed` times as fast as the rest:
    AdamW moves all weights about equally far, whatever their size.

    Raises:
        ValueError: If all weights are frozen.

    Source: Loshchilov and Hutter (2019), "Decoupled weight decay regularization".
    """
    named = [pair for pair in model.named_parameters() if pair[1].requires_grad]
    if not named:
        raise ValueError("to be trained, a model needs a weight that is not frozen")
    matrices = [w for name, w in named if "blocks." in name and w.ndim >= 2]
    tokens = [w for name, w in named if f".{name}".endswith(".embedding.weight")]
    apart = {id(weight) for weight in matrices + tokens}
    others = [weight for _, weight in named if id(weight) not in apart]
    groups: list[dict[str, Any]] = [
        {
            "params": matrices,
            "weight_decay": config.weight_decay,
            "muon": config.optimizer == "muon",
        },
        {"params": tokens, "weight_decay": 0.0, "speed": config.embedding_speed},
        {"params": others, "weight_decay": 0.0},
    ]
    return Muon(
        groups,
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
        dtype=getattr(torch, config.precision),
    )
