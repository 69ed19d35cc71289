"""Scaling laws: how the loss falls with parameters and tokens, and where it would end.

    loss(N, D)  =  floor  +  A · N^-alpha  +  B · D^-beta

    N  parameters of the model         floor  what no size and no text can remove
    D  tokens that it was trained on

Many small models are trained, the five numbers are fitted to their losses, and the
curve is followed to sizes that nobody has trained. For given exponents, the other three
numbers follow by linear least squares, so only the exponents are searched for: on a
grid, and then around the best, in ever smaller steps.

Source: Hoffmann et al. (2022), section 3.3; but with squared errors of plain losses.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator
from torch import Tensor

from llmcourse import plotting
from llmcourse.arguments import check_positive, check_range

_GRID = 20  # exponents tried along each axis
_REACH = 2.0  # the largest of them
_FINEST = 1e-7  # smallest step of the search
_DOUBLE = torch.float64


@dataclass(frozen=True, kw_only=True)
class Point:
    """One trained model."""

    n_parameters: int
    n_tokens: int  # seen in training
    loss: float  # on held-out text, in nats per token
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Law:
    """The loss as a function of parameters and tokens, in nats per token."""

    floor: float  # nats per token
    a: float  # nats per token that a single parameter would add
    alpha: float
    b: float  # nats per token that a single token would add
    beta: float

    def loss(self, n_parameters: float | int, n_tokens: float | int) -> float:
        """Return the loss that the law predicts, in nats per token."""
        by_size = self.a * math.pow(n_parameters, -self.alpha)
        return self.floor + by_size + self.b * math.pow(n_tokens, -self.beta)


def fit(points: Sequence[Point]) -> Law:
    """Return the law that is closest to the points, by least squares of the loss.

    Args:
        points: At least five, of at least three numbers of parameters and of tokens.

    Raises:
        ValueError: If there are too few points, sizes or amounts of text, or if a
            value is not positive.

    >>> law = Law(floor=0.5, a=40.0, alpha=0.4, b=90.0, beta=0.5)
    >>> sizes = [(n, d) for n in (1e4, 1e5, 1e6) for d in (1e5, 1e6, 1e7)]
    >>> points = [
    ...     Point(n_parameters=int(n), n_tokens=int(d), loss=law.loss(n, d))
    ...     for n, d in sizes
    ... ]
    >>> found = fit(points)
    >>> round(found.floor, 2), round(found.alpha, 2), round(found.beta, 2)
    (0.5, 0.4, 0.5)
    """
    check_range(5, points=len(points))
    for name in ("n_parameters", "n_tokens"):
        n_different = len({getattr(point, name) for point in points})
        check_range(3, **{f"different {name}": n_different})
    rows = [(p.n_parameters, p.n_tokens, p.loss) for p in points]
    for n_parameters, n_tokens, loss in rows:
        check_positive(n_parameters=n_parameters, n_tokens=n_tokens, loss=loss)
        check_range(0, loss=loss)  # which also refuses infinity
    sizes, texts, losses = torch.tensor(rows, dtype=_DOUBLE).T
    # In units of typical sizes, all columns are near 1 and the sums well behaved.
    unit_n, unit_d = sizes.log().mean().exp(), texts.log().mean().exp()
    logs = (sizes / unit_n).log(), (texts / unit_d).log()
    (end, a, b), (alpha, beta) = _search(*logs, losses)
    return Law(
        floor=end,
        a=a * float(unit_n) ** alpha,
        alpha=alpha,
        b=b * float(unit_d) ** beta,
        beta=beta,
    )


def _search(
    log_n: Float64[Tensor, "point"],
    log_d: Float64[Tensor, "point"],
    losses: Float64[Tensor, "point"],
) -> tuple[list[float], list[float]]:
    """Return floor, a and b, and the exponents alpha and beta, of the least squares.

    After a grid, the neighbours of the best exponents so far are tried; if none is
    better, those at half the distance. For given exponents, the law is linear in the
    other three. Source: Hooke and Jeeves (1961), "Direct search".
    """
    around = torch.arange(-2, 3, dtype=_DOUBLE)
    neighbours = torch.cartesian_prod(around, around)
    step, least = _REACH / _GRID, torch.tensor(torch.inf)
    grid = torch.arange(1, _GRID + 1, dtype=_DOUBLE) * step
    tried = torch.cartesian_prod(grid, grid)
    while step > _FINEST:
        by_size = (-tried[:, :1] * log_n).exp()  # (grid, point)
        by_text = (-tried[:, 1:] * log_d).exp()
        columns = torch.stack((torch.ones_like(by_size), by_size, by_text), dim=-1)
        weights, squares = _least_squares(columns, losses)
        place = squares.argmin()
        if squares[place] < least:
            least, best, found = squares[place], tried[place], weights[place]
        else:
            step /= 2
        tried = (best + step * neighbours).clamp(min=_FINEST)
    return found.tolist(), best.tolist()


def _least_squares(
    columns: Float64[Tensor, "grid point weight"], losses: Float64[Tensor, "point"]
) -> tuple[Float64[Tensor, "grid weight"], Float64[Tensor, "grid"]]:
    """Return the weights of the columns that fit the losses best, and their squares.

    By the normal equations; a trace of ridge keeps equal columns solvable. No weight is
    below 0, since no loss ends there or grows with size or text: if all three columns
    would need such a weight, the best two are taken, or the best one.
    """
    ridge = 1e-10 * torch.eye(columns.shape[-1], dtype=_DOUBLE)
    best = torch.zeros_like(columns[:, 0])
    least = losses.square().sum().expand(len(columns))
    for kept in product((1.0, 0.0), repeat=columns.shape[-1]):
        some = columns * torch.tensor(kept, dtype=_DOUBLE)
        turned = some.transpose(1, 2)
        weights = torch.linalg.solve(turned @ some + ridge, turned @ losses)
        squares = ((some @ weights[..., None]).squeeze(-1) - losses).square().sum(-1)
        better = (weights >= 0).all(dim=-1) & (squares < least)
        best = torch.where(better[:, None], weights, best)
        least = torch.where(better, squares, least)
    return best, least


def plot_scaling(
    ax: Axes, points: Sequence[Point], law: Law, floor: float | int
) -> None:
    """Plot the losses of runs of several sizes over tokens, and a law.

    Both axes are logarithmic. Each model size has its own colour and marker, and its
    number of parameters is written at the end of its line.

    Args:
        ax: Where to draw.
        points: The runs; those the law was not fitted to may be among them.
        law: Drawn as a line for each size.
        floor: The lowest possible loss, in nats per token.
    """
    texts = sorted({point.n_tokens for point in points})
    along = [texts[0] * (texts[-1] / texts[0]) ** (i / 40) for i in range(41)]
    for number, size in enumerate(sorted({point.n_parameters for point in points})):
        own = [(p.n_tokens, p.loss) for p in points if p.n_parameters == size]
        colour, mark = f"C{number % 7}", "osD^v"[number % 5]
        losses = [law.loss(size, n) for n in along]
        ax.plot(along, losses, linewidth=1, color=colour)
        ax.plot(*zip(*own, strict=True), mark, markersize=4, color=colour)
        name = f"   {size:,}"
        ax.text(along[-1], losses[-1], name, color=colour, va="center", fontsize=8)
    ax.axhline(floor, color="0.45", linestyle=":", linewidth=1)
    ax.text(texts[0], floor, "floor", va="bottom", fontsize=8)
    ax.set(xscale="log", yscale="log", xlabel="tokens, log scale")
    ax.set(ylabel="loss (nats/token), log scale")
    ax.yaxis.set_major_locator(FixedLocator([0.25, 0.5, 1, 2, 4]))
    ax.yaxis.set_minor_locator(NullLocator())
    plotting.plain_log_ticks(ax.xaxis)
    ax.yaxis.set_major_formatter("{x:g}")
