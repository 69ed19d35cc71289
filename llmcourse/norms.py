"""Normalisation: every vector is brought to one size before a sublayer reads it.

    LayerNorm   subtract the mean, divide by the deviation, then weight and bias
    RMSNorm     divide by the root mean square, then weight

The residual stream grows from block to block; what reads it should not have to care.
RMSNorm drops the mean and the bias, and nothing is lost by it: newer models use it.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """Shift and scale each vector to mean 0 and variance 1, then weight and bias.

    `eps` is added to the variance, so a vector whose coordinates are all equal
    becomes 0, not a division by 0.

    Source: Ba, Kiros and Hinton (2016), "Layer normalization", equation 4.

    >>> LayerNorm(2)(torch.tensor([3.0, 5.0]))  # mean 4, deviation 1
    tensor([-1.0000,  1.0000], grad_fn=<AddcmulBackward0>)
    """

    def __init__(self, width: int, eps: float | int = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(
        self, x: Float[Tensor, "*batch width"]
    ) -> Float[Tensor, "*batch width"]:
        """Return the shifted and scaled vectors, without unit."""
        centred = x - x.mean(dim=-1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + self.eps)
        return torch.addcmul(self.bias, centred * scale, self.weight)


class RMSNorm(nn.Module):
    """Scale each vector to root-mean-square 1, then each coordinate by a weight.

    Source: Zhang and Sennrich (2019), "Root mean square layer normalization".

    >>> RMSNorm(2)(torch.tensor([3.0, 4.0]))  # divided by √12.5
    tensor([0.8485, 1.1314], grad_fn=<MulBackward0>)
    """

    def __init__(self, width: int, eps: float | int = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(
        self, x: Float[Tensor, "*batch width"]
    ) -> Float[Tensor, "*batch width"]:
        """Return the scaled vectors, without unit."""
        scale = torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps)
        return x * scale * self.weight
