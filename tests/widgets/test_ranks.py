"""The rank explorer: its state, and its JavaScript in Node.

How it looks and answers the keyboard is tested in a browser, in tests/site.
"""

import json
import math

import pytest

from llmcourse.studies import stored_study
from llmcourse.widgets.ranks import RankExplorer, Tuned

RATES = (2e-4, 4e-4, 8e-4)
RUNS = [
    Tuned(rank, rate, 0.5 + 0.1 * k + (rank or 0) / 100, -0.01 + k)
    for k, rate in enumerate(RATES)
    for rank in (None, 8, 2)
    for _ in range(2)
]
LEARNED = {None: 1000, 2: 20, 8: 80, 16: 160}

# Worked example


def test_the_state_is_every_run_by_way_and_rate():
    explorer = RankExplorer(RUNS, LEARNED, guess=0.5)
    found = json.loads(explorer.found)
    assert found["rates"] == list(RATES)
    assert [way["rank"] for way in found["ways"]] == [None, 2, 8]
    assert [way["learned"] for way in found["ways"]] == [1000, 20, 80]
    for way in found["ways"]:
        told = [
            Tuned(way["rank"], rate, *run)
            for rate, runs in zip(RATES, way["runs"], strict=True)
            for run in runs
        ]
        assert told == [run for run in RUNS if run.rank == way["rank"]]
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
        assert name not in explorer._esm


def test_the_stored_study_fits_into_a_page():
    points = [
        p for p in stored_study("finetuning", dict).points if "pronoun" in p["task"]
    ]
    runs = [Tuned(p["rank"], p["rate"], p["right"], p["tales"]) for p in points]
    learned = {run.rank: run.rank or 100 for run in runs}
    found = RankExplorer(runs, learned, guess=0.5).found
    assert len(found) < 10_000
    assert sum(len(at) for w in json.loads(found)["ways"] for at in w["runs"]) == len(
        runs
    )


# Comparison with Python


@pytest.mark.parametrize("runs", [[0.5], [0.995, 0.985, 1.0], [0.515, 0.61, 0.425]])
def test_means_and_spreads_are_those_of_python(javascript, runs):
    def percent(share):
        return f"{share:.1%}".replace(".0%", "%").replace("%", " %")

    ends = f"{percent(min(runs))} to {percent(max(runs))}"
    told = javascript(
        RankExplorer, "`${m.percent(m.mean(x))}: ${m.range(x, m.percent)}`", runs
    )
    assert told == f"{percent(sum(runs) / len(runs))}: {ends}"


def test_the_scale_of_forgetting_is_even_far_from_zero(javascript):
    values = [-0.1, 0, 0.001, 0.002, 1, 10, 100]
    high = [javascript(RankExplorer, "m.stretched(x)", value) for value in values]
    assert high == pytest.approx([math.asinh(value / 0.03) for value in values])
    assert high == sorted(high)
    assert high[3] == pytest.approx(2 * high[2], rel=0.01)
    assert high[6] - high[5] == pytest.approx(high[5] - high[4], rel=0.01)


@pytest.mark.parametrize(
    ("n", "text"),
    [(1000, "1,000 (100 %)"), (20, "20 (2 %)"), (1, "1 (0.1 %)"), (234, "234 (23 %)")],
)
def test_the_share_that_learns_has_two_digits(javascript, n, text):
    assert javascript(RankExplorer, "m.learnedText(x, 1000)", n) == text


# Refusal


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "got one kind"),
        ([run for run in RUNS if run.rank is None], "got one kind"),
        ([run for run in RUNS if run.rank], "got one kind"),
        (RUNS[:-1], "same number of runs at each learning rate"),
        (
            [*RUNS, Tuned(2, 1e-3, 0.5, 0.0)],
            "same number of runs at each learning rate",
        ),
        (
            [*RUNS, Tuned(4, 2e-4, 0.5, 0.0)],
            "same number of runs at each learning rate",
        ),
        ([*RUNS, Tuned(2, 0.0, 0.5, 0.0)], "rate must be positive"),
        ([*RUNS, Tuned(2, 2e-4, 1.5, 0.0)], "right must be in 0 … 1"),
        ([*RUNS[1:], RUNS[0]._replace(forgotten=math.nan)], "must be finite"),
        ([*RUNS, Tuned(2, math.nan, 0.5, 0.0)], "rate must be positive"),
    ],
)
def test_runs_that_cannot_be_shown_are_refused(runs, message):
    with pytest.raises(ValueError, match=message):
        RankExplorer(runs, LEARNED, guess=0.5)


def test_other_numbers_that_cannot_be_shown_are_refused():
    with pytest.raises(ValueError, match=r"missing for \{8\}"):
        RankExplorer(RUNS, {None: 1000, 2: 20}, guess=0.5)
    with pytest.raises(ValueError, match="learned with 2 must be positive"):
        RankExplorer(RUNS, {**LEARNED, 2: 0}, guess=0.5)
    with pytest.raises(ValueError, match="guess must be in"):
        RankExplorer(RUNS, LEARNED, guess=2)
