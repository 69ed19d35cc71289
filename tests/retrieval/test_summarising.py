"""Summaries in pieces, with functions in place of a model."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcourse.retrieval.summarising import grouped, map_reduce, refine


def initials(texts):
    return [text.replace("\n", "")[:3] for text in texts]


# Worked example


def test_five_pieces_by_hand():
    """Summaries of three letters, and room for eight with the gap: two fit together.

    5 pieces, then ⌈5 / 2⌉ = 3 groups, 2 groups and 1: eleven calls in all.
    """
    pieces = ["aaaa", "bbbb", "cccc", "dddd", "eeee"]
    made = map_reduce(pieces, initials, lambda text: len(text) <= 8)
    assert [len(level) for level in made.levels] == [5, 3, 2, 1]
    assert made.levels[1] == ("aaa\n\nbbb", "ccc\n\nddd", "eee")
    assert made.summaries[1] == ("aaa", "ccc", "eee")
    assert made.text == "aaa"
    assert sum(map(len, made.levels)) == 11


def test_refine_carries_a_summary_along():
    seen = []

    def revise(old, new):
        seen.append((old, new))
        return old + new[0]

    assert refine(["one", "two", "three"], initials, revise) == ["one", "onet", "onett"]
    assert seen == [("one", "two"), ("onet", "three")]


# Law


@given(st.lists(st.text(max_size=9), max_size=12), st.integers(0, 30))
def test_groups_keep_order_and_text_and_are_as_large_as_can_be(texts, room):
    groups = grouped(texts, lambda text: len(text) <= room)
    assert "\n\n".join(groups) == "\n\n".join(texts)
    assert all(len(group) <= room or group in texts for group in groups)


@pytest.mark.parametrize("n", [1, 2, 7, 16])
def test_map_reduce_ends_after_as_many_rounds_as_the_logarithm_says(n):
    made = map_reduce(["piece"] * n, initials, lambda text: len(text) <= 8)
    assert len(made.levels) == 1 + math.ceil(math.log2(n))
    assert len(made.summaries[-1]) == 1


# Refusal


def test_refusals():
    for summary in (
        lambda: map_reduce([], initials, bool),
        lambda: refine([], initials, lambda old, new: old),
    ):
        with pytest.raises(ValueError, match="pieces must be at least 1, got 0"):
            summary()
    with pytest.raises(ValueError, match="no two of 3 neighbouring summaries fit"):
        map_reduce(["a", "b", "c"], initials, lambda text: len(text) < 4)
    with pytest.raises(ValueError, match="number of summaries must be 2, got 1"):
        map_reduce(["a", "b"], lambda texts: texts[:1], bool)
