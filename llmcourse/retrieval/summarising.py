"""Summaries of texts too long to be read at once, by map-reduce or refine.

    map-reduce    1 → a ┐                 refine    1 → a
                  2 → b ├ a b c → s                 a 2 → b
                  3 → c ┘                           b 3 → s

Map-reduce summarises all pieces at once, each on its own, and then the summaries, as
often as it takes. Refine carries a summary along and rewrites it with each piece, so
every piece is read with all before it in mind, or what is left of that.

Neither contains a model: the caller passes a function that summarises. What is missing
from a summary was lost in one of these calls; all results are kept, to find which.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

from llmcourse.arguments import check_one_of, check_range

Summarise: TypeAlias = Callable[[Sequence[str]], Sequence[str]]
Revise: TypeAlias = Callable[[str, str], str]

_JOINT = "\n\n"  # between joined texts


@dataclass(frozen=True)
class MapReduce:
    """A summary, and everything it was made from."""

    levels: tuple[tuple[str, ...], ...]  # what was summarised, in each round
    summaries: tuple[tuple[str, ...], ...]  # the results of each round

    @property
    def text(self) -> str:
        """The summary of everything."""
        return self.summaries[-1][0]


def map_reduce(
    pieces: Sequence[str], summarise: Summarise, fits: Callable[[str], bool]
) -> MapReduce:
    r"""Return the summary of the summaries of all pieces.

    Neighbouring summaries are joined, as many as fit, and summarised again, until
    only one is left.

    Args:
        pieces: The pieces of a text, in order.
        summarise: Returns the summaries of several texts.
        fits: Whether a text is short enough to be summarised at once.

    Raises:
        ValueError: If there are no pieces, there is not one summary for each text, or
            no two neighbouring summaries fit together, so the rounds would never end.

    >>> first = lambda texts: [text[:2] for text in texts]
    >>> made = map_reduce(["abc", "def", "ghi"], first, lambda text: len(text) <= 6)
    >>> made.levels
    (('abc', 'def', 'ghi'), ('ab\n\nde', 'gh'), ('ab\n\ngh',))
    """
    check_range(1, pieces=len(pieces))
    levels = [tuple(pieces)]
    summaries: list[tuple[str, ...]] = []
    while True:
        made = tuple(summarise(levels[-1]))
        check_one_of("number of summaries", len(made), [len(levels[-1])])
        summaries.append(made)
        if len(made) == 1:
            return MapReduce(tuple(levels), tuple(summaries))
        groups = grouped(made, fits)
        if len(groups) == len(made):
            raise ValueError(
                f"no two of {len(groups)} neighbouring summaries fit together: shorter "
                "summaries are wanted, or more room"
            )
        levels.append(tuple(groups))


def grouped(texts: Sequence[str], fits: Callable[[str], bool]) -> list[str]:
    r"""Return neighbouring texts joined into groups, as many in each as fit.

    A text that does not fit stays alone.

    >>> grouped(["a", "b", "cd"], lambda text: len(text) <= 4)
    ['a\n\nb', 'cd']
    """
    groups: list[str] = []
    for text in texts:
        longer = f"{groups[-1]}{_JOINT}{text}" if groups else text
        if groups and fits(longer):
            groups[-1] = longer
        else:
            groups.append(text)
    return groups


def refine(pieces: Sequence[str], summarise: Summarise, revise: Revise) -> list[str]:
    """Return the summary after each piece; the last one covers everything.

    Args:
        pieces: The pieces of a text, in order.
        summarise: Returns the summaries of several texts; it is given the first piece.
        revise: Turns a summary and the next piece into a summary of both.

    Raises:
        ValueError: If there are no pieces.

    >>> refine(["ab", "cd", "ef"], lambda texts: texts, lambda old, new: old[0] + new)
    ['ab', 'acd', 'aef']
    """
    check_range(1, pieces=len(pieces))
    (first,) = summarise(pieces[:1])
    return [*accumulate(pieces[1:], revise, initial=first)]
