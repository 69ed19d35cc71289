"""Scaling laws: how the loss falls with parameters and tokens, and where it would end.

    loss(N, D)  =  floor  +  A · N^-alpha  +  B · D^-beta

    N  parameters of the model         floor  what no size and no text can remove
    D  tokens that it was trained on

Many small models are trained, the five numbers are fitted to their losses, and the
curve is followed to sizes that nobody has trained. For given exponents the other three
numbers are a matter of linear least squares, so the fit tries a grid of exponents and
goes down from the best.

Source: Hoffmann et al. (2022), section 3.3; unlike them, squares of plain losses.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from llmcourse.training.intervals import Interval

RESULTS = Path(str(resources.files("llmcourse"))) / "data" / "scaling.json"
_GRID = 20  # exponents tried along each axis
_REACH = 2.0  # the largest of them
_MOST_STEPS = 300
_PRECISION = 1e-3  # of an interval's ends, in nats per token
_DOUBLE = torch.float64
_ALL_BUT_FLOOR = torch.tensor([0, 1, 1, 1, 1], dtype=_DOUBLE)


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
    a: float  # nats per token that one parameter alone would cost
    alpha: float
    b: float  # nats per token that one token alone would cost
    beta: float

    def loss(self, n_parameters: float | int, n_tokens: float | int) -> float:
        """Return the loss that the law foretells, in nats per token."""
        by_size = self.a * math.pow(n_parameters, -self.alpha)
        return self.floor + by_size + self.b * math.pow(n_tokens, -self.beta)


@dataclass(frozen=True, kw_only=True)
class Study:
    """Stored results: what was trained, on what, and what came out."""

    recipe: dict[str, object]
    floor: float  # exact price of the held-out stories, in nats per token
    points: tuple[Point, ...]


def load_study(path: str | Path = RESULTS) -> Study:
    """Return the results of a scaling study, by default of the one in the package.

    Raises:
        ValueError: If the file is no such results.
        OSError: If it cannot be read.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        points = tuple(Point(**point) for point in found["points"])
        return Study(recipe=found["recipe"], floor=found["floor"], points=points)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} must hold the results of a scaling study: {error!r}"
        ) from error


def to_json(study: Study) -> str:
    """Return a study as text, one line for each model."""
    points = ",\n  ".join(json.dumps(asdict(point)) for point in study.points)
    return (
        f'{{"recipe": {json.dumps(study.recipe, indent=1)},\n'
        f'"floor": {study.floor!r},\n"points": [\n  {points}\n]}}\n'
    )


def fit(points: Sequence[Point], floor: float | int | None = None) -> Law:
    """Return the law that lies closest to the points, by least squares of the loss.

    Args:
        points: At least five, of several numbers of parameters and of tokens.
        floor: Where given, the law must end there, in nats per token, and only the
            other four numbers are fitted.

    Raises:
        ValueError: If there are too few points, sizes or amounts of text.

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
    sizes, texts, losses = _columns(points)
    # Measured in typical sizes, all columns are near 1 and the sums well behaved.
    unit_n, unit_d = sizes.log().mean().exp(), texts.log().mean().exp()
    data = _Data((sizes / unit_n).log(), (texts / unit_d).log(), losses)
    start = _best_of_grid(data, floor)
    found = _descend(start, data, is_free=floor is None)
    if found[0] < 0:
        found = _descend(_best_of_grid(data, 0.0), data, is_free=False)
    end, a, alpha, b, beta = found.tolist()
    return Law(
        floor=end,
        a=a * float(unit_n) ** alpha,
        alpha=alpha,
        b=b * float(unit_d) ** beta,
        beta=beta,
    )


def misfit(law: Law, points: Sequence[Point]) -> float:
    """Return the root of the mean squared distance from law to points, in nats/token.

    Raises:
        ValueError: If there is no point.
    """
    if not points:
        raise ValueError("a misfit needs at least one point, got none")
    squares = [(law.loss(p.n_parameters, p.n_tokens) - p.loss) ** 2 for p in points]
    return math.sqrt(math.fsum(squares) / len(points))


def floor_interval(points: Sequence[Point], level: float | int = 0.95) -> Interval:
    """Return which floors the points allow, in nats per token.

    A floor is allowed if the best law that ends there fits hardly worse than the best
    of all: its squares sum to at most 1 + z² / (n - 5) times as much, where z is 1.96
    for 95 %. The interval knows of chance alone: whether the law has the right form at
    all is a question that it does not ask.

    Args:
        points: As in `fit`, at least six.
        level: Share of such intervals that would hold the true floor if the law had
            the right form and the points were many.

    Raises:
        ValueError: As `fit`, or if there is no point to spare, or if the level is not
            between 0 and 1.

    Source: Venzon and Moolgavkar (1988), "A method for computing
    profile-likelihood-based confidence intervals".
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    best = fit(points)
    if len(points) < 6:
        raise ValueError(f"an interval needs at least 6 points, got {len(points)}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    most = misfit(best, points) * math.sqrt(1 + z * z / (len(points) - 5))

    def is_allowed(floor: float) -> bool:
        return misfit(fit(points, floor), points) <= most

    ends = []
    for end in (0.0, min(point.loss for point in points)):
        inside, outside = best.floor, end
        if is_allowed(outside):
            inside = outside
        while abs(inside - outside) > _PRECISION:
            middle = (inside + outside) / 2
            if is_allowed(middle):
                inside = middle
            else:
                outside = middle
        ends.append(inside)
    return Interval(*ends)


class _Data(NamedTuple):
    """Logarithms of parameters and tokens, in typical ones, and the losses."""

    log_n: Float64[Tensor, "point"]
    log_d: Float64[Tensor, "point"]
    losses: Float64[Tensor, "point"]


def _best_of_grid(data: _Data, floor: float | int | None) -> Float64[Tensor, "5"]:
    """Return floor, a, alpha, b and beta, the best where a grid of exponents is tried.

    For given exponents the law is linear in the other three, and solved for them.
    """
    steps = torch.linspace(_REACH / _GRID, _REACH, _GRID, dtype=_DOUBLE)
    exponents = torch.cartesian_prod(steps, steps)
    by_size = (-exponents[:, :1] * data.log_n).exp()  # (grid, point)
    by_text = (-exponents[:, 1:] * data.log_d).exp()
    columns = torch.stack((torch.ones_like(by_size), by_size, by_text), dim=-1)
    if floor is None:
        weights = _least_squares(columns, data.losses)
    else:
        slopes = _least_squares(columns[..., 1:], data.losses - floor)
        weights = torch.cat((torch.full_like(slopes[:, :1], floor), slopes), dim=-1)
    misses = (columns @ weights[..., None]).squeeze(-1) - data.losses
    # Where there is text or size that makes no difference, any slope above 0 will do.
    weights[:, 1:].clamp_(min=1e-6)
    best = misses.square().sum(dim=-1).argmin()
    end, a, b = weights[best]
    return torch.stack((end, a, exponents[best, 0], b, exponents[best, 1]))


def _descend(
    start: Float64[Tensor, "5"], data: _Data, *, is_free: bool
) -> Float64[Tensor, "5"]:
    """Return floor, a, alpha, b and beta where no step makes the squares less.

    Gauss and Newton's step solves the problem as if the law were a straight line
    nearby. Where it fails, it is damped until it succeeds.

    Source: Levenberg (1944); Marquardt (1963). Slopes and exponents stay positive.
    """
    at, damping = start, 1e-3
    misses, slopes = _misses(at, data)
    for _ in range(_MOST_STEPS):
        slopes = slopes if is_free else slopes * _ALL_BUT_FLOOR
        square = slopes.T @ slopes
        damped = square + damping * square.diagonal().clamp(min=1e-12).diag()
        step = torch.linalg.solve(damped, slopes.T @ misses)
        new = at - step
        new_misses, new_slopes = _misses(new, data)
        better = bool((new[1:] > 0).all()) and new_misses.norm() < misses.norm()
        if better:
            at, misses, slopes = new, new_misses, new_slopes
            if step.norm() < 1e-9 * at.norm():
                break
        damping = damping / 3 if better else damping * 4
        if damping > 1e12:
            break  # not even the smallest step helps
    return at


def _misses(
    at: Float64[Tensor, "5"], data: _Data
) -> tuple[Float64[Tensor, "point"], Float64[Tensor, "point 5"]]:
    """Return by how much a law misses each point, and the slopes of that."""
    end, a, alpha, b, beta = at
    by_size, by_text = (-alpha * data.log_n).exp(), (-beta * data.log_d).exp()
    slopes = (
        torch.ones_like(by_size),
        by_size,
        -a * by_size * data.log_n,
        by_text,
        -b * by_text * data.log_d,
    )
    misses = end + a * by_size + b * by_text - data.losses
    return misses, torch.stack(slopes, dim=-1)


def _least_squares(
    columns: Float64[Tensor, "grid point weight"], losses: Float64[Tensor, "point"]
) -> Float64[Tensor, "grid weight"]:
    """Return the weights whose sum of the columns comes closest to the losses.

    By the normal equations; a trace of ridge keeps equal columns solvable.
    """
    turned = columns.transpose(1, 2)
    ridge = 1e-10 * torch.eye(columns.shape[-1], dtype=_DOUBLE)
    weights: Tensor = torch.linalg.solve(turned @ columns + ridge, turned @ losses)
    return weights


def _columns(points: Sequence[Point]) -> list[Tensor]:
    sizes = {point.n_parameters for point in points}
    texts = {point.n_tokens for point in points}
    if len(points) < 5 or len(sizes) < 3 or len(texts) < 3:
        raise ValueError(
            "a law of five numbers needs at least 5 points of 3 numbers of parameters "
            f"and 3 of tokens, got {len(points)} points of {len(sizes)} and "
            f"{len(texts)}"
        )
    rows = [(p.n_parameters, p.n_tokens, p.loss) for p in points]
    return list(torch.tensor(rows, dtype=_DOUBLE).T)
