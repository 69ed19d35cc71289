"""What was made by one recipe is not gone on with by another: say where they differ."""

from collections.abc import Mapping
from typing import Any

_TOLD = 3  # differences that are named; a recipe has dozens of settings


def check_same_recipe(
    refusal: str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Raise ValueError if two recipes differ, and say in what: three things at most.

    Args:
        refusal: The beginning of the message: which file or folder is of which recipe.
        before: Names and plain values, maybe nested: what is there was made so.
        now: The same, of what shall go on.

    >>> check_same_recipe("'run' is another's", {"a": {"b": 1}}, {"a": {"b": 2}})
    Traceback (most recent call last):
    ValueError: 'run' is another's: a.b must be 1, got 2
    """
    before, now = _flat(before), _flat(now)
    odd = [
        name
        for name in before | now
        if (name in before, before.get(name)) != (name in now, now.get(name))
    ]
    if odd:
        told = [
            f"{name} must be {before.get(name)!r}, got {now.get(name)!r}"
            for name in odd[:_TOLD]
        ]
        told += [f"{len(odd) - _TOLD} more differ"] if odd[_TOLD:] else []
        raise ValueError(f"{refusal}: {'; '.join(told)}")


def _flat(value: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Return nested settings in one level.

    >>> _flat({"model": {"d_model": 8}, "seed": 0})
    {'model.d_model': 8, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, part in value.items():
        inner = _flat(part, f"{name}{key}.") if isinstance(part, dict) else None
        flat |= {f"{name}{key}": part} if inner is None else inner
    return flat
