"""Figures show the data they were given."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from llmcourse import plotting
from llmcourse.pretraining import Evaluation, History, Update


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


def test_loss_curves_and_levels_are_drawn_where_they_belong(ax):
    curves = {"training": ([0, 10, 20], [5.0, 3.0, 2.0]), "held out": ([0], [5.5])}
    plotting.plot_loss(ax, curves, {"floor": 1.5})
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
    plotting.plot_history(ax, history, 10, {"log V": 9.2})
    batches, held_out, _ = ax.lines
    assert batches.get_xydata().tolist() == [[10, 8], [20, 7]]
    assert held_out.get_xydata().tolist() == [[0, 9.5], [20, 7.5]]


def test_bars_carry_their_values_from_top_to_bottom(ax):
    plotting.plot_bars(ax, {"word": 4.5, "byte": 1.0}, "bytes per token", digits=1)
    assert [bar.get_width() for bar in ax.patches] == [4.5, 1.0]
    assert [text.get_text() for text in ax.texts] == ["4.5", "1.0"]
    assert ax.yaxis_inverted()


def test_course_style_is_applied():
    with mpl.rc_context():
        plotting.use_course_style()
        assert not mpl.rcParams["axes.spines.top"]
        assert mpl.rcParams["font.size"] == 9


def test_refusals(ax):
    with pytest.raises(ValueError, match=r"as many tokens as losses.*got 2 and 1"):
        plotting.plot_loss(ax, {"training": ([0, 1], [5.0])}, {})
    with pytest.raises(ValueError, match="at least one value"):
        plotting.plot_bars(ax, {}, "bytes")
