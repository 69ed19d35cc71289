"""Studies: results of many training runs, stored in a file that chapters plot.

    {"recipe": {…},      what all the runs have in common
     "points": [{…},     the results, one line for each
                {…}]}

The scripts in `book/studies/` make them, and continue a stopped one if the recipe is
still the same. The package ships those that chapters plot, in `llmcourse/data`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from llmcourse.files import DATA, write_file

_Point = TypeVar("_Point")


@dataclass(frozen=True, kw_only=True)
class Study(Generic[_Point]):
    """The recipe of a study, and its results."""

    recipe: dict[str, Any]
    points: tuple[_Point, ...] = ()


def load_study(path: str | Path, point: Callable[..., _Point]) -> Study[_Point]:
    """Return the study in a file.

    Args:
        path: The file.
        point: Makes a point from its values, passed by name.

    Raises:
        ValueError: If the file holds no such study.
        OSError: If it cannot be read.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        points = tuple(point(**values) for values in found["points"])
        return Study(recipe=dict(found["recipe"]), points=points)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} must hold a study, got: {error!r}") from error


def stored_study(name: str, point: Callable[..., _Point]) -> Study[_Point]:
    """Return a study that comes with the package. Errors are as in `load_study`.

    >>> from llmcourse.training.scaling import Point
    >>> len(stored_study("scaling", Point).points)
    22
    """
    return load_study(DATA / f"{name}.json", point)


def save_study(study: Study[Any], path: str | Path) -> None:
    """Write a study into a file, one line for each point.

    Raises:
        ValueError: If there is no folder for it.
        OSError: If it cannot be written.
    """
    recipe = json.dumps(study.recipe, indent=1)
    points = ",\n  ".join(json.dumps(asdict(point)) for point in study.points)
    write_file(path, f'{{"recipe": {recipe},\n"points": [\n  {points}\n]}}\n')
