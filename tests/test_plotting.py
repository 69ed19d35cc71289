"""Figures show the data they were given."""

from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from llmcourse import plotting
from llmcourse.training.config import Evaluation, History, Update


def test_bars_carry_their_values_from_top_to_bottom(ax):
    plotting.plot_bars(ax, {"word": 4.5, "byte": 1.0}, "bytes per token", digits=1)
    assert [bar.get_width() for bar in ax.patches] == [4.5, 1.0]
    assert [text.get_text() for text in ax.texts] == ["4.5", "1.0"]
    assert ax.yaxis_inverted()


def test_loss_curves_and_levels_are_drawn_where_they_belong(ax):
    curves = {"training": ([0, 10, 20], [5.0, 3.0, 2.0]), "held out": ([0], [5.5])}
    plotting.plot_loss(ax, curves, {"floor": 1.5})
    training, held_out, floor = ax.lines
    assert training.get_xydata().tolist() == [[0, 5], [10, 3], [20, 2]]
    assert held_out.get_ydata().tolist() == [5.5]
    assert set(floor.get_ydata()) == {1.5}
    assert training.get_linestyle() != held_out.get_linestyle()
    assert [text.get_text() for text in ax.texts] == ["floor", "training", "held out"]
    assert "nats/token" in ax.get_ylabel()


def test_a_history_is_drawn_over_the_tokens_seen(ax):
    history = History(
        updates=[
            Update(step=n, loss=9.0 - n, learning_rate=0.1, gradient_norm=1.0)
            for n in (1, 2)
        ],
        evaluations=[Evaluation(step=0, loss=9.5), Evaluation(step=2, loss=7.5)],
    )
    plotting.plot_loss(ax, history.curves(10), {"log V": 9.2})
    batches, held_out, _ = ax.lines
    assert batches.get_xydata().tolist() == [[10, 8], [20, 7]]
    assert held_out.get_xydata().tolist() == [[0, 9.5], [20, 7.5]]


def test_a_training_is_drawn_above_its_floor_too():
    curves = {"training": ([0, 10, 20], [5.5, 2.5, 1.6])}
    plotting.plot_training(curves, {"log V": 6.0, "floor": 1.5})
    losses, excess = plt.gcf().axes
    assert losses.lines[0].get_ydata().tolist() == [5.5, 2.5, 1.6]
    assert excess.lines[0].get_ydata() == pytest.approx([4, 1, 0.1])
    assert excess.get_yscale() == "log"
    plt.close()


def test_a_logarithmic_axis_has_plain_numbers_at_1_2_and_5(ax):
    ax.set(xscale="log", xlim=(0.15, 6000))
    plotting.plain_log_ticks(ax.xaxis)
    ax.figure.canvas.draw()
    seen = [t.get_text() for t in ax.get_xticklabels() if t.get_position()[0] > 0.1]
    shown = "0.2 0.5 1 2 5 10 20 50 100 200 500 1,000 2,000 5,000"
    assert set(shown.split()) <= set(seen)
    assert len(ax.xaxis.get_minorticklocs()) == 0


def test_lines_are_labelled_at_their_ends_and_no_label_covers_another(ax):
    for name, end in {"low": 0.5, "top": 1.0, "near the top": 0.99}.items():
        ax.plot([1, 10], [0.2, end], label=name)
    ax.plot([1, 10], [0, 0])  # has no label
    ax.axhline(0.52, color="0.4", label="level")
    ax.set_xscale("log")
    labels = plotting.label_lines(ax)
    assert [text.get_text() for text in labels] == [
        "low",
        "level",
        "near the top",
        "top",
    ]
    boxes = [label.get_window_extent() for label in labels]
    for below, above in pairwise(boxes):
        assert below.y1 <= above.y0
    for label, end in zip(labels, (0.5, 0.52, 0.99, 1.0), strict=True):
        line = next(x for x in ax.lines if x.get_label() == label.get_text())
        assert label.get_color() == line.get_color()
        x, y = ax.transData.transform((10, end))
        box = label.get_window_extent()
        assert box.x0 >= min(x, ax.bbox.x1)
        assert abs((box.y0 + box.y1) / 2 - y) < 1.5 * box.height


def test_no_label_of_a_map_covers_another_or_a_dot(ax):
    """Two tight classes and one far word: some words find room, not all of them."""
    points = [(i % 5 * 0.1, i // 5 * 0.1) for i in range(20)]
    points += [(x + 4, y + 3) for x, y in points] + [(0.0, 3.0)]
    words = [f"word{i}" for i in range(41)]
    classes = ["left"] * 20 + ["right"] * 20 + ["left"]
    labels = plotting.plot_map(ax, points, words, classes)
    texts = [label.get_text() for label in labels]
    assert texts[:3] == ["left", "right", "word40"]  # classes, then the loneliest word
    assert 3 < len(texts) < 43
    assert sorted(texts) == sorted(text.get_text() for text in ax.texts)
    boxes = [label.get_window_extent() for label in labels]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        if i >= 2:
            places = ax.transData.transform(points)
            assert not any(box.contains(*place) for place in places)
    drawn = [tuple(p) for dots in ax.collections for p in dots.get_offsets().tolist()]
    assert sorted(drawn) == sorted(points)


def test_course_style_is_applied():
    with mpl.rc_context():
        plotting.use_course_style()
        assert not mpl.rcParams["axes.spines.top"]
        assert mpl.rcParams["font.size"] == 9


def test_refusals(ax):
    with pytest.raises(ValueError, match="longer"):
        plotting.plot_map(ax, [(0.0, 0.0)], ["word"], ["left", "right"])


def test_a_curve_has_a_loss_for_each_number_of_tokens(ax):
    with pytest.raises(ValueError, match="same first dimension"):
        plotting.plot_loss(ax, {"training": ([0, 1], [5.0])}, {})


def test_a_loss_below_the_floor_has_its_label_in_the_figure():
    """On a few texts a loss can be lower than the floor, which is a mean over many."""
    curves = {"training": ([0, 10, 20], [5.0, 2.0, 1.4])}
    plotting.plot_training(curves, {"floor": 1.5})
    figure = plt.gcf()
    width, height = figure.get_tightbbox().size
    assert width < 2 * figure.get_figwidth()
    assert height < 2 * figure.get_figheight()
    plt.close()
    plotting.plot_training({"training": ([0, 10], [1.4, 1.3])}, {"floor": 1.5})
    assert [t.get_text() for t in plt.gcf().axes[1].texts] == []
    plt.close()
