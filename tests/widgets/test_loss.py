"""The loss explorer: its state, and its JavaScript in Node.

How it looks and answers the keyboard is tested in a browser, in tests/site.
"""

import json
import math

import pytest

from llmcourse.widgets.loss import LossExplorer, Moment, thinned

MOMENTS = [
    Moment(0, 7.7, "q gx"),
    Moment(30, 2.5, "Once upin"),
    Moment(90, 1.5, "Once"),
]
LEVELS = {"floor": 0.5, "log V": 7.5, "bigram": 2.0}


def test_a_curve_is_thinned_by_hand():
    """Five points in runs of two: means of tokens and of losses, the last one alone."""
    curve = thinned([1, 2, 3, 4, 5], [6.0, 4.0, 3.0, 2.0, 1.0], most=3)
    assert curve == [[1.5, 5.0], [3.5, 2.5], [5.0, 1.0]]


@pytest.mark.parametrize("n", [1, 3, 199, 200, 201, 4000])
def test_a_thinned_curve_is_short_and_keeps_its_mean(n):
    losses = [math.sin(i) + 2 for i in range(n)]
    curve = thinned(list(range(1, n + 1)), losses)
    assert len(curve) <= 200
    size = math.ceil(n / 200)
    counts = [size] * (n // size) + ([n % size] if n % size else [])
    mean = sum(c * loss for c, (_, loss) in zip(counts, curve, strict=True)) / n
    assert mean == pytest.approx(sum(losses) / n, abs=1e-3)


def test_the_state_is_moments_levels_from_the_top_and_the_curve():
    explorer = LossExplorer(MOMENTS, LEVELS, ([10, 20], [6.0, 3.0]))
    assert explorer.moments[1] == {"tokens": 30, "loss": 2.5, "text": "Once upin"}
    assert [level["name"] for level in explorer.levels] == ["log V", "bigram", "floor"]
    assert explorer.curve == [[10, 6.0], [20, 3.0]]
    assert explorer.moment == 3
    assert repr(explorer) == "LossExplorer(3 moments, floor, log V, bigram)"
    state = {name: explorer.get_state()[name] for name in explorer.keys}
    assert len(json.dumps(state)) < 40_000
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
        assert name not in explorer._esm


@pytest.mark.parametrize("top", [0.03, 0.9, 1, 7.9, 8, 42, 208_000, 832_000])
def test_ticks_are_round_and_reach_nearly_to_the_top(javascript, top):
    steps = javascript(LossExplorer, "m.ticks(x)", top)
    assert steps[0] == 0
    assert 2 <= len(steps) <= 6
    assert steps[-1] <= top * (1 + 1e-6) < steps[-1] + steps[1] * 1.0001
    assert float(f"{steps[1]:.0e}") == pytest.approx(steps[1])  # one digit


@pytest.mark.parametrize("top", [208_000, 416_000, 492_000, 499_999, 832_000])
def test_a_phone_has_a_number_above_zero_too(javascript, top):
    steps = javascript(LossExplorer, "m.ticks(x, 2)", top)
    assert 2 <= len(steps) <= 3
    assert top / 2.5 < steps[-1] <= top


def test_labels_never_cover_another(javascript):
    heights = javascript(LossExplorer, "m.apart(x, 15)", [20, 22, 80, 90, 200])
    assert heights == [20, 35, 80, 95, 200]


def test_where_a_loss_stands(javascript):
    levels = LossExplorer(MOMENTS, LEVELS).levels

    def between(loss: float) -> str:
        return javascript(
            LossExplorer,
            "m.between(x.loss, x.levels)",
            {"loss": loss, "levels": levels},
        )

    assert between(7.7) == "above log V"
    assert between(2.5) == "between log V and bigram"
    assert between(1.5) == "between bigram and floor"
    assert between(0.4) == "below floor"
    assert javascript(LossExplorer, "m.progress(x, 7.5, 0.5)", 2.25) == 0.75


@pytest.mark.parametrize(
    ("moments", "levels", "curve", "message"),
    [
        (MOMENTS[:1], LEVELS, ((), ()), "moments must be at least 2, got 1"),
        (MOMENTS, {"floor": 0.5}, ((), ()), "levels must be at least 2, got 1"),
        ([*MOMENTS, Moment(95, 1.0, "")], LEVELS, ((), ()), "not empty"),
        (MOMENTS[::-1], LEVELS, ((), ()), "tokens of moments must grow"),
        (
            MOMENTS,
            LEVELS | {"odd": math.inf},
            ((), ()),
            "loss must be at least 0, got inf",
        ),
        (MOMENTS, LEVELS | {"odd": -1.0}, ((), ()), "loss must be at least 0, got -1"),
        (MOMENTS, LEVELS, ([1, 2], [5.0]), "losses in a curve must be 2, got 1"),
        (MOMENTS, LEVELS, ([2, 2], [5.0, 4.0]), "tokens of the curve must grow"),
        (MOMENTS, LEVELS, ([-1, 2], [5.0, 4.0]), "from 0 or more"),
        (MOMENTS, LEVELS, ([1, 2], [5.0, math.nan]), "got nan"),
    ],
)
def test_what_cannot_be_shown_is_refused(moments, levels, curve, message):
    with pytest.raises(ValueError, match=message):
        LossExplorer(moments, levels, curve)
