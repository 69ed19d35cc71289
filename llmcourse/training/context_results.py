"""Results of the context study: full, window and linear attention compared.

`book/studies/context_study.py` trains the models; the chapter *context_window* plots
what came out.
"""

import json
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from llmcourse.training.story_evaluation import Share

RESULTS = Path(str(resources.files("llmcourse"))) / "data" / "context.json"


@dataclass(frozen=True, kw_only=True)
class ContextPoint:
    """One trained model."""

    kind: str  # of attention
    seed: int  # of the first weights and the order of the stories
    n_parameters: int
    loss: float  # on held-out tales, in nats per token
    losses: tuple[float, ...]  # between the positions of `edges`, in nats per token
    recalled: dict[int, Share]  # by distance, in tokens


@dataclass(frozen=True, kw_only=True)
class ContextStudy:
    """Stored results: what was trained, on what, and what came out."""

    recipe: dict[str, object]
    edges: tuple[int, ...]  # positions between which losses are averaged
    points: tuple[ContextPoint, ...] = ()


def load_context_study(path: str | Path = RESULTS) -> ContextStudy:
    """Return the results of a context study, by default of the one in the package.

    Raises:
        ValueError: If the file is no such results.
        OSError: If it cannot be read.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        points = tuple(_point(point) for point in found["points"])
        edges = tuple(found["edges"])
        return ContextStudy(recipe=found["recipe"], edges=edges, points=points)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} must hold the results of a context study: {error!r}"
        ) from error


def _point(found: dict[str, object]) -> ContextPoint:
    """Return a point as it was before it became JSON."""
    recalled, losses = found.pop("recalled"), found.pop("losses")
    if not isinstance(recalled, dict) or not isinstance(losses, list):
        raise ValueError(f"wanted recalled facts and losses, got {recalled}, {losses}")
    shares = {int(distance): Share(*share) for distance, share in recalled.items()}
    return ContextPoint(**found, recalled=shares, losses=tuple(losses))  # type: ignore[arg-type]


def to_json(study: ContextStudy) -> str:
    """Return a study as text, one line for each model."""
    points = ",\n  ".join(json.dumps(asdict(point)) for point in study.points)
    return (
        f'{{"recipe": {json.dumps(study.recipe, indent=1)},\n'
        f'"edges": {json.dumps(study.edges)},\n"points": [\n  {points}\n]}}\n'
    )
