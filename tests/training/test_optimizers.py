"""Muon: equal to torch's, orthogonal, with AdamW for the rest."""

import pytest
import torch
from torch.testing import assert_close

from llmcourse.training.optimizers import MOMENTUM, Muon, orthogonalise


@pytest.mark.parametrize("shape", [(6, 6), (5, 9), (9, 5)])
def test_singular_values_become_about_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = orthogonalise(matrices, dtype=torch.float32)
    values = torch.linalg.svdvals(made)
    assert values.min() > 0.5
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inside = left.mT @ made @ right.mT  # diagonal, if the vectors are the same
    assert_close(inside, torch.diag_embed(torch.diagonal(inside, dim1=-2, dim2=-1)))


def test_nothing_to_learn_is_no_step() -> None:
    assert orthogonalise(torch.zeros(3, 4)).tolist() == torch.zeros(3, 4).tolist()


def gradients(weights: list[torch.Tensor], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator)


def make_weights() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    shapes = [(8, 8), (8, 8), (12, 8), (8, 12), (8,)]
    return [torch.randn(s, generator=generator).requires_grad_() for s in shapes]


def test_equal_to_torch() -> None:
    ours, theirs = make_weights(), make_weights()
    groups = [
        {"params": ours[:4], "muon": True, "weight_decay": 0.1},
        {"params": ours[4:], "weight_decay": 0.0},
    ]
    own = Muon(groups, lr=0.02, betas=(0.9, 0.99), fused=True)
    muon = torch.optim.Muon(
        theirs[:4], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(theirs[4:], lr=0.02, betas=(0.9, 0.99), weight_decay=0.0)
    for step in range(5):
        gradients(ours, step)
        gradients(theirs, step)
        own.step()
        muon.step()
        adamw.step()
    for weight, wanted, before in zip(ours, theirs, make_weights(), strict=True):
        moved = (wanted - before).norm()  # in bfloat16, with sums in another order
        assert (weight - wanted).norm() < 0.03 * moved


def test_goes_on_from_its_state() -> None:
    whole, parts = make_weights(), make_weights()

    def optimizer(weights: list[torch.Tensor]) -> Muon:
        groups = [{"params": weights[:4], "muon": True}, {"params": weights[4:]}]
        return Muon(groups, lr=0.02, fused=True)

    one, other = optimizer(whole), optimizer(parts)
    for step in range(4):
        gradients(whole, step)
        one.step()
        if step == 2:
            state = other.state_dict()
            other = optimizer(parts)
            other.load_state_dict(state)
        gradients(parts, step)
        other.step()
    for weight, wanted in zip(parts, whole, strict=True):
        assert torch.equal(weight, wanted)


def test_a_weight_without_gradient_stays() -> None:
    weights = make_weights()
    before = weights[0].detach().clone()
    Muon([{"params": weights[:2], "muon": True}], lr=0.1).step()
    assert torch.equal(weights[0], before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_are_orthogonalised_in_the_type_asked_for(dtype: torch.dtype) -> None:
    """Processors without instructions for bfloat16 are slow in it."""
    [weight] = weights = [torch.zeros(8, 4, requires_grad=True)]
    gradients(weights, seed=1)
    assert weight.grad is not None
    nesterov = weight.grad.lerp(weight.grad * (1 - MOMENTUM), MOMENTUM)
    Muon([{"params": weights, "muon": True}], lr=1.0, dtype=dtype).step()
    made = -weight.detach() / (0.2 * 8**0.5)
    for kind in (torch.float32, torch.bfloat16):
        error = (made - orthogonalise(nesterov, dtype=kind)).abs().max()
        assert (error < 1e-5) == (kind == dtype)
