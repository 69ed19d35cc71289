"""How far long work is: what is told, and when."""

import pytest

from llmcourse.training.config import report_progress


@pytest.mark.parametrize("n", [0, 1, 99, 100, 101, 250, 777])
def test_about_a_hundred_times_and_at_the_end(n):
    """All items come; the last is told of, and no more than 200 times is spoken."""
    told = []
    items = [*report_progress(range(n), n, "work", lambda *found: told.append(found))]
    assert items == [*range(n)]
    assert len(told) <= 200
    assert {(stage, total) for stage, _, total in told} <= {("work", n)}
    done = [number for _, number, _ in told]
    assert done == sorted({*done})
    assert done[-1:] == ([n] if n else [])


def test_items_come_one_by_one():
    """Of an item is told when the next is asked for: then it has been used."""
    told = []
    items = report_progress(
        iter("abc"), 3, "letters", lambda *found: told.append(found)
    )
    assert next(items) == "a"
    assert told == []
    assert next(items) == "b"
    assert told == [("letters", 1, 3)]


def test_nobody_need_listen():
    assert [*report_progress("abc", 3, "letters", None)] == ["a", "b", "c"]
