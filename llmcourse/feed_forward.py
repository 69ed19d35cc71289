"""The feed-forward network: what a block does with each position by itself.

    GELU      down(gelu(up(x)))                 two matrices, as in GPT-2
    SwiGLU    down(silu(gate(x)) · up(x))       three, as in Llama

Both widen the vector from d_model to d_ff coordinates, bend it there, and write the
result back to the width of the residual stream. Without the bend the matrices would
collapse into one.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu as fused_gelu
from torch.nn.functional import silu


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return x · P(a standard normal number is below x), in the tanh form.

        x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))

    A smooth step: large numbers pass, large negative ones are cut to 0. The tanh
    differs from the normal distribution by less than 0.001; GPT-2 was trained with it.

    Source: Hendrycks and Gimpel (2016), "Gaussian error linear units", section 2.

    >>> gelu(torch.tensor([-9.0, 0.0, 1.0, 9.0]))
    tensor([-0.0000, 0.0000, 0.8412, 9.0000])
    """
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1.0 + torch.tanh(inner))


class GELUNetwork(nn.Module):
    """Feed-forward network of two matrices with biases and a GELU between them.

    Source: Radford et al. (2019), GPT-2; Vaswani et al. (2017), section 3.3, with
    another bend.
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)

    def forward(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        """Return what the network adds to each vector."""
        # torch's own, in one pass over the hidden units: `gelu` equals it by test.
        update: Tensor = self.down(fused_gelu(self.up(x), approximate="tanh"))
        return update


class SwiGLU(nn.Module):
    """Feed-forward network whose hidden units are switched by a smooth gate.

        down(silu(gate(x)) · up(x)),   silu(z) = z · sigmoid(z)

    Source: Shazeer (2020), "GLU variants improve transformer", equation 6.
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=False)
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        """Return what the network adds to each vector."""
        update: Tensor = self.down(silu(self.gate(x)) * self.up(x))
        return update
