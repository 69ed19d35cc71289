"""The stopping explorer: its state, and its JavaScript in Node.

How it looks and answers the keyboard is tested in a browser, in tests/site.
"""

import json
import math

import pytest

from llmcourse.alignment.evaluation import StudyPoint, curves_of
from llmcourse.studies import stored_study
from llmcourse.widgets.stopping import Stop, StoppingExplorer

STOPS = [Stop(1, -0.01, 0.2, 3.6), Stop(4, 9.0, 1.5, 4.25), Stop(9, 30, 2, 0.9, "fox")]


def test_the_state_is_every_moment_of_every_policy():
    explorer = StoppingExplorer({"GRPO": STOPS})
    (run,) = json.loads(explorer.runs)
    assert run["name"] == "GRPO"
    assert [tuple(stop) for stop in run["stops"]] == [tuple(stop) for stop in STOPS]
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
        assert name not in explorer._esm


def test_the_stored_study_fits_into_a_page():
    points = stored_study("rlhf", StudyPoint).points
    runs = {}
    for experiment, curve in curves_of(points).items():
        parts = zip(curve.kl, curve.proxy, curve.gold, strict=True)
        runs[str(experiment)] = [Stop(i, *part) for i, part in enumerate(parts)]
    state = StoppingExplorer(runs).runs
    assert len(state) < 60_000
    assert sum(len(run["stops"]) for run in json.loads(state)) == len(points)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 5, [0, 1, 2, 3, 4, 5]),
        (-0.4, 3.1, [0, 1, 2, 3]),
        (-1.2, 0.1, [-1, -0.5, 0]),
        (0, 0.03, [0, 0.01, 0.02, 0.03]),
        (2, 2, [2]),
    ],
)
def test_levels_are_round_and_within(javascript, low, high, wanted):
    levels = javascript(StoppingExplorer, "m.levels(x[0], x[1])", [low, high])
    assert levels == pytest.approx(wanted)


def test_the_first_of_the_highest_is_found(javascript):
    assert javascript(StoppingExplorer, "m.highest(x)", [1, 4, 2, 4]) == 1


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "policies must be at least 1, got 0"),
        ({"a": STOPS[:1]}, "moments of 'a' must be at least 2, got 1"),
        ({"a": STOPS[::-1]}, "steps of 'a' must grow"),
        ({"a": [*STOPS, Stop(10, math.inf, 0, 0)]}, "must be finite"),
    ],
)
def test_what_cannot_be_shown_is_refused(runs, message):
    with pytest.raises(ValueError, match=message):
        StoppingExplorer(runs)
