"""Curves of a study: grouped, averaged and drawn."""

from dataclasses import asdict

import matplotlib.pyplot as plt
import pytest
from rlhf_study import EXPERIMENTS, RlhfStudyConfig

from llmcourse.alignment.evaluation import (
    Curve,
    Experiment,
    StudyPoint,
    band_of,
    curves_of,
)
from llmcourse.plotting import plot_against_kl
from llmcourse.studies import stored_study


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


def test_a_band_counts_each_curve_once_in_a_class():
    """By hand: between 1 and 4 nats one curve is once at 5, another thrice at 8."""
    often = Curve(kl=(0.0, 2.0, 3.0, 1.0), gold=(4.0, 7.0, 8.0, 9.0), proxy=(0.0,) * 4)
    first, second = band_of([RISING, often])
    assert first == (0, 4, 4, 4)
    assert second == (1.5, 6.5, 5, 8)  # kl: (1 + 2) / 2
    assert band_of([RISING, often], "proxy")[1].mean == 0.5
    assert len(band_of([RISING])) == 4  # 4 and 9 are the first of their classes


def test_a_figure_has_a_line_and_a_band_for_each_group():
    _, ax = plt.subplots()
    plot_against_kl(ax, {"PPO": band_of([RISING, RISING]), "DPO": band_of([RISING])})
    assert len(ax.lines) == len(ax.collections) == 2
    assert {text.get_text() for text in ax.texts} == {"PPO", "DPO"}
    assert ax.lines[0].get_color() != ax.lines[1].get_color()
    assert list(ax.lines[0].get_ydata()) == list(RISING.gold)
    assert "points" in ax.get_ylabel()
    ax.figure.canvas.draw()  # the scale can be drawn, margins included
    plt.close(ax.figure)


def test_a_label_that_a_line_crosses_moves_under_its_own_line():
    """By hand: the falling line passes to the right of the other's end."""
    falling = [(0.0, 6.0, 6.0, 6.0), (400.0, 0.0, 0.0, 0.0)]
    level = [(0.0, 3.0, 3.0, 3.0), (90.0, 3.0, 3.0, 3.0)]
    _, ax = plt.subplots()
    plot_against_kl(ax, {"falling": falling, "level": level})
    places = {label.get_text(): label for label in ax.texts}
    assert places["falling"].get_horizontalalignment() == "left"
    assert places["level"].get_horizontalalignment() == "center"
    assert places["level"].get_position() == (0, -11)
    plt.close(ax.figure)


def test_the_proxy_is_drawn_too():
    _, ax = plt.subplots()
    plot_against_kl(ax, {"PPO": band_of([RISING], "proxy")}, "proxy")
    assert list(ax.lines[0].get_ydata()) == [0, 1, 2, 3]
    assert not ax.texts  # a single line needs no name
    plt.close(ax.figure)


def test_refuses_a_band_of_no_curves():
    with pytest.raises(ValueError, match="n_curves must be at least 1, got 0"):
        band_of([])


def test_the_stored_study_is_that_of_the_recipe():
    study = stored_study("rlhf", StudyPoint)
    assert study.recipe == asdict(RlhfStudyConfig())
    found = curves_of(study.points)
    assert found.keys() == set(EXPERIMENTS)
    for recipe, curve in found.items():
        assert len(curve.kl) == (4 if recipe.method == "dpo" else 30)
        assert abs(curve.kl[0]) < 0.01
        assert all(0 <= gold <= 10 for gold in curve.gold)
