"""How far long work is, told while it goes on.

    CountProgress     done, of how many           questions, stories
    StageProgress     stage, done, of how many    work of several kinds
    TrainingProgress  an update, an evaluation    a training

Whoever works takes such a function and calls it; who made it decides what is shown.
Downloads, which tell of bytes, and policies, of their iterations, have kinds of their
own.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

from llmcourse.training_log import Record

CountProgress: TypeAlias = Callable[[int, int], None]
StageProgress: TypeAlias = Callable[[str, int, int], None]
TrainingProgress: TypeAlias = Callable[[Record], None]
_Item = TypeVar("_Item")


def telling(
    items: Iterable[_Item], n: int, stage: str, progress: StageProgress | None
) -> Iterator[_Item]:
    """Yield the items, and tell now and then how many it has been.

    Args:
        items: What is asked for one by one.
        n: How many there are.
        stage: What is done with them.
        progress: Called after every hundredth part, and after the last.

    >>> [*telling("ab", 2, "letters", print)]
    letters 1 2
    letters 2 2
    ['a', 'b']
    """
    every = max(1, n // 100)
    for number, item in enumerate(items, start=1):
        yield item
        if progress is not None and (number % every == 0 or number == n):
            progress(stage, number, n)
