"""Figures show the data they were given."""

import matplotlib as mpl
import pytest

from llmcourse import plotting


def test_bars_carry_their_values_from_top_to_bottom(ax):
    plotting.plot_bars(ax, {"word": 4.5, "byte": 1.0}, "bytes per token", digits=1)
    assert [bar.get_width() for bar in ax.patches] == [4.5, 1.0]
    assert [text.get_text() for text in ax.texts] == ["4.5", "1.0"]
    assert ax.yaxis_inverted()


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
    with pytest.raises(ValueError, match="at least one value"):
        plotting.plot_bars(ax, {}, "bytes")
    with pytest.raises(ValueError, match="got 1, 2 and 1"):
        plotting.plot_map(ax, [(0.0, 0.0)], ["word"], ["left", "right"])
