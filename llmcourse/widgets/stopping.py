"""The explorer of over-optimisation: a policy, stopped where the reader likes."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from llmcourse.arguments import check_range
from llmcourse.widgets.base import Explorer, as_json, counted, script


class Stop(NamedTuple):
    """A policy at one moment of its training."""

    step: int
    kl: float | int  # from the start, in nats per answer
    proxy: float | int  # the mean learned reward, without unit
    gold: float | int  # the mean gold reward, in points
    text: str = ""  # a sample of what it wrote then


class StoppingExplorer(Explorer):
    """Show a policy's learned and gold reward wherever its training is stopped.

    Both are drawn over the KL divergence from the start, moment by moment, with what
    the policy wrote then, if that is known.

    Args:
        runs: Name of a policy to its moments, in order.
        unit: What a step is called.

    Raises:
        ValueError: If there is no run, one has fewer than two moments, its steps do
            not increase, or a number is not finite.

    >>> stops = [Stop(1, 0.0, 0.2, 3.6), Stop(9, 30.0, 1.5, 0.9, "a sly sly fox")]
    >>> StoppingExplorer({"GRPO": stops, "PPO": stops})
    StoppingExplorer(2 policies)
    """

    _css = script("explorer.css", "panels.css", "loss.css")
    _esm = script("common.js", "panels.js", "stopping.js")

    def __init__(
        self, runs: Mapping[str, Sequence[Stop]], unit: str = "iteration"
    ) -> None:
        check_range(1, policies=len(runs))
        kept = []
        for name, stops in runs.items():
            check_range(2, **{f"moments of {name!r}": len(stops)})
            if not all(a.step < b.step for a, b in pairwise(stops)):
                raise ValueError(f"the steps of {name!r} must grow")
            rows = [
                (s.step, round(s.kl, 2), round(s.proxy, 3), round(s.gold, 2), s.text)
                for s in stops
            ]
            kept.append({"name": name, "stops": rows})
        summary = counted(len(runs), "policy", "policies")
        super().__init__(summary, runs=as_json(kept), unit=unit)
