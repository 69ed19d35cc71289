"""Losses over tokens, and the law that they follow, are drawn where they belong."""

import pytest

from llmcourse.training.config import Evaluation, History, Update
from llmcourse.training.scaling import Law, Point
from llmcourse.training_figures import plot_history, plot_loss, plot_scaling


def test_loss_curves_and_levels_are_drawn_where_they_belong(ax):
    curves = {"training": ([0, 10, 20], [5.0, 3.0, 2.0]), "held out": ([0], [5.5])}
    plot_loss(ax, curves, {"floor": 1.5})
    training, held_out, floor = ax.lines
    assert training.get_xydata().tolist() == [[0, 5], [10, 3], [20, 2]]
    assert held_out.get_ydata().tolist() == [5.5]
    assert set(floor.get_ydata()) == {1.5}
    assert training.get_linestyle() != held_out.get_linestyle()
    assert [text.get_text() for text in ax.texts] == ["floor"]
    assert "nats/token" in ax.get_ylabel()


def test_a_history_is_drawn_over_the_tokens_seen(ax):
    history = History(
        updates=[
            Update(step=n, loss=9.0 - n, learning_rate=0.1, gradient_norm=1.0)
            for n in (1, 2)
        ],
        evaluations=[Evaluation(step=0, loss=9.5), Evaluation(step=2, loss=7.5)],
    )
    plot_history(ax, history, 10, {"log V": 9.2})
    batches, held_out, _ = ax.lines
    assert batches.get_xydata().tolist() == [[10, 8], [20, 7]]
    assert held_out.get_xydata().tolist() == [[0, 9.5], [20, 7.5]]


def test_a_law_is_drawn_through_the_points_of_each_size(ax):
    law = Law(floor=0.5, a=8.0, alpha=0.5, b=27.0, beta=1 / 3)
    points = [
        Point(n_parameters=n, n_tokens=d, loss=law.loss(n, d) + 0.25)
        for n in (16, 64)
        for d in (27, 1000, 8000)
    ]
    plot_scaling(ax, points, law, 0.4)
    line, marks, other, _, floor = ax.lines
    assert marks.get_xdata().tolist() == [27, 1000, 8000]
    assert marks.get_ydata() == pytest.approx([11.75, 5.45, 4.1])
    assert [line.get_ydata()[i] for i in (0, -1)] == pytest.approx([11.5, 3.85])
    assert line.get_xdata()[-1] == pytest.approx(8000)
    assert other.get_ydata()[0] == pytest.approx(law.loss(64, 27))
    assert set(floor.get_ydata()) == {0.4}
    assert [text.get_text() for text in ax.texts] == [" 16", " 64", "floor"]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert line.get_color() == marks.get_color() != other.get_color()


def test_refusals(ax):
    with pytest.raises(ValueError, match=r"as many tokens as losses.*got 2 and 1"):
        plot_loss(ax, {"training": ([0, 1], [5.0])}, {})
    with pytest.raises(ValueError, match="at least one point"):
        plot_scaling(ax, [], Law(floor=0.5, a=8.0, alpha=0.5, b=27.0, beta=0.3), 0.4)
