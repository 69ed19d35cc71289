"""Curves of a study: grouped, smoothed and drawn."""

from dataclasses import asdict

import matplotlib.pyplot as plt
import pytest
from rlhf_study import EXPERIMENTS, RlhfStudyConfig

from llmcourse.alignment.curves import (
    Curve,
    Experiment,
    StudyPoint,
    curves_of,
    plot_against_kl,
)
from llmcourse.training.studies import stored_study


def point(step, seed=0, **changes):
    values = {"method": "grpo", "n_pairs": 100, "cost": 0, "accuracy": 0.7}
    means = {"kl": float(step), "gold": 4.0 + step, "proxy": step / 10}
    return StudyPoint(**(values | means | {"step": step, "seed": seed} | changes))


RISING = Curve(
    kl=(0.0, 1.0, 4.0, 9.0), gold=(4.0, 5.0, 7.0, 6.0), proxy=(0.0, 1.0, 2.0, 3.0)
)


def test_points_become_one_curve_for_each_policy():
    points = [point(2), point(1), point(1, seed=1), point(1, method="dpo", cost=0.1)]
    points.append(point(1, reward_seed=1))
    found = curves_of(points)
    assert list(found) == [
        Experiment(method="grpo", n_pairs=100, cost=0),
        Experiment(method="grpo", n_pairs=100, cost=0, seed=1),
        Experiment(method="dpo", n_pairs=100, cost=0.1),
        Experiment(method="grpo", n_pairs=100, cost=0, reward_seed=1),
    ]
    first = found[Experiment(method="grpo", n_pairs=100, cost=0)]
    assert first == Curve(kl=(1.0, 2.0), gold=(5.0, 6.0), proxy=(0.1, 0.2))


def test_smoothing_keeps_the_ends_and_straight_lines():
    falling = (5.0, 4.0, 3.0, 2.0, 1.0)
    line = Curve(kl=(0.0, 1.0, 2.0, 3.0, 4.0), gold=falling, proxy=falling)
    for width in (1, 3, 5, 99):
        assert line.smoothed(width) == line
    assert RISING.smoothed(3).gold == pytest.approx((4, 16 / 3, 6, 6))


def test_a_figure_has_a_line_and_an_end_for_each_curve():
    _, ax = plt.subplots()
    plot_against_kl(ax, {"PPO": [RISING, RISING], "DPO": [RISING]}, width=3)
    lines = [line for line in ax.lines if len(line.get_xdata()) > 1]
    assert len(lines) == 3
    assert len(ax.lines) == 6
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["PPO", "DPO"]
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()
    assert list(lines[0].get_ydata()) == list(RISING.smoothed(3).gold)
    assert "points" in ax.get_ylabel()
    ax.figure.canvas.draw()  # the scale can be drawn, margins included
    plt.close(ax.figure)


def test_the_proxy_is_drawn_too():
    _, ax = plt.subplots()
    plot_against_kl(ax, {"PPO": [RISING]}, "proxy")
    assert list(ax.lines[0].get_ydata()) == [0, 1, 2, 3]
    assert ax.get_legend() is None
    plt.close(ax.figure)


def test_what_makes_no_curve_is_refused():
    with pytest.raises(ValueError, match="odd and positive"):
        RISING.smoothed(2)
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match="empty"):
        plot_against_kl(ax, {"PPO": []})
    plt.close(ax.figure)


def test_the_stored_study_is_that_of_the_recipe():
    study = stored_study("rlhf", StudyPoint)
    assert study.recipe == asdict(RlhfStudyConfig())
    found = curves_of(study.points)
    assert found.keys() == set(EXPERIMENTS)
    for recipe, curve in found.items():
        assert len(curve.kl) == (4 if recipe.method == "dpo" else 30)
        assert abs(curve.kl[0]) < 0.01
        assert all(0 <= gold <= 10 for gold in curve.gold)
