r"""Exact expectations over all stories of a grammar, without listing them.

The measures of a choice follow by the chain rule: its own entropy, plus the mean
measures of what comes after each option. They are computed once for each place in a
story and each set of values that later choices look at; all other variables are
forgotten. With a forgotten variable goes the length of its words, so its mentions are
only counted, and become bytes where the variable is bound and its value is known.

>>> from llmcourse.grammar import Grammar
>>> text = "rule story\n  {Who=name}[|, {who}|, {who}, {who}]!\nlist name\n  Mia, Jo"
>>> Grammar(text).measures  # log 6; 1 to 3 words of 2 or 3 letters; marks and spaces
Measures(stories=6, entropy=1.791..., words=2.0, size=8.0)
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from llmcourse.grammar_parts import (
    Call,
    Cell,
    Entry,
    Env,
    Key,
    Note,
    Pick,
    Ref,
    Unrolled,
)

Vector: TypeAlias = npt.NDArray[Any]
ENTROPY, WORDS, SIZE, MENTIONS = 0, 1, 2, 3  # what the places of a vector hold


@dataclass(frozen=True)
class Measures:
    """Expectations over all stories."""

    stories: int  # how many there are
    entropy: float  # in nats per story
    words: float  # mean length in words, as white space separates them
    size: float  # mean length in bytes of UTF-8


class Stretch(NamedTuple):
    """What is written for certain before the next choice."""

    vector: Vector
    notes: Env
    choice: Cell | None


class Accountant:
    """Computes the measures, from the ends of the stories to their beginning.

    A vector holds the means of what is still to come: entropy, gaps between words,
    bytes, and mentions of each form of each variable that is bound already.
    """

    def __init__(self, unrolled: Unrolled) -> None:
        self._unrolled = unrolled
        self._place: dict[Key, int] = {}  # of a form of a variable in the vectors
        for key in sorted(unrolled.mentions()):
            self._place[key] = MENTIONS + len(self._place)
        self._stretches: dict[int, Stretch] = {}
        self._needs: dict[int, tuple[Key, ...]] = {}
        self._groups: dict[tuple[int, tuple[str, ...]], list[list[Entry]]] = {}
        self._settled: dict[tuple[str, int], tuple[list[int], Vector]] = {}
        self._done: dict[tuple[object, ...], tuple[int, Vector]] = {}

    def total(self) -> Measures:
        """Return the measures of all stories; words are one more than the gaps."""
        stories, vector = self._after(self._unrolled.root, {})
        entropy, gaps, size = vector[:MENTIONS].tolist()
        return Measures(stories, entropy, gaps + 1, size)

    def _after(self, cell: Cell | None, env: Env) -> tuple[int, Vector]:
        """Return the number and the means of all that may be written from a cell on."""
        stretch = self._stretch(cell)
        if stretch.choice is None:
            stories, vector = 1, stretch.vector
        else:
            env = {**env, **stretch.notes} if stretch.notes else env
            state: list[object] = [id(stretch.choice)]
            for var, form in self._needed(stretch.choice):
                seen = env.get(var)
                if seen is not None:
                    state.append(seen.get(form) if form else id(seen.home))
                else:
                    state.append(None)
            key = tuple(state)
            if key not in self._done:
                pick = isinstance(stretch.choice.item, Pick)
                take = self._pick if pick else self._call
                self._done[key] = take(stretch.choice, env)
            stories, vector = self._done[key]
            vector = vector + stretch.vector
        for var, entry in stretch.notes.items():
            vector = self._settle(vector, var, [entry])
        return stories, vector

    def _stretch(self, cell: Cell | None) -> Stretch:
        """Return what stands between a cell and the next choice."""
        start = cell
        if id(start) not in self._stretches:
            vector = np.zeros(MENTIONS + len(self._place))
            notes: Env = {}
            while cell is not None and not isinstance(cell.item, Call | Pick):
                if isinstance(cell.item, Ref):
                    vector[self._place[cell.item.var, cell.item.form]] += 1
                elif isinstance(cell.item, Note):
                    notes[cell.item.var] = cell.item.entry
                else:
                    vector[WORDS : SIZE + 1] += _lengths(cell.item)
                cell = cell.then
            self._stretches[id(start)] = Stretch(vector, notes, cell)
        return self._stretches[id(start)]

    def _call(self, cell: Cell, env: Env) -> tuple[int, Vector]:
        """Return the measures from a choice between the alternatives of a rule on."""
        total, means = 0, np.zeros(MENTIONS + len(self._place))
        for option in self._unrolled.options(cell, env):
            stories, vector = self._after(option.then, env)
            total += stories
            means += option.prob * vector
            means[ENTROPY] -= option.prob * math.log(option.prob)
        return total, means

    def _pick(self, cell: Cell, env: Env) -> tuple[int, Vector]:
        """Return the measures from a pick on.

        Entries that look alike to all later choices form a group. Which of a group
        are taken is forgotten, but each is as likely to be taken as any other, so
        the mean length of their words is the mean over the whole group.
        """
        pick = cell.item
        assert isinstance(pick, Pick)
        entries = pick.source.at(env)
        taken = pick.source.taken(entries, env)
        free = len(entries) - len(taken)
        total, means = 0, np.zeros(MENTIONS + len(self._place))
        means[ENTROPY] = math.log(free)
        for group in self._alike(cell, entries):
            left = [entry for entry in group if entry.index not in taken]
            if left:
                bound = {**env, pick.var: left[0]} if pick.var else env
                stories, vector = self._after(cell.then, bound)
                vector = vector.copy()
                vector[self._place[pick.var, pick.form]] += 1  # the words of the pick
                total += stories * len(left)
                means += len(left) / free * self._settle(vector, pick.var, group)
        return total, means

    def _alike(self, cell: Cell, entries: list[Entry]) -> list[list[Entry]]:
        """Return the entries of a pick in groups that later choices cannot tell."""
        var = cell.item.var if isinstance(cell.item, Pick) else ""
        needed = self._needed(self._stretch(cell.then).choice)
        forms = tuple(form for name, form in needed if name == var and form)
        key = (id(entries), forms)
        if key not in self._groups:
            groups: dict[tuple[str, ...], list[Entry]] = {}
            for entry in entries:
                groups.setdefault(tuple(entry[f] for f in forms), []).append(entry)
            self._groups[key] = list(groups.values())
        return self._groups[key]

    def _settle(self, vector: Vector, var: str, group: list[Entry]) -> Vector:
        """Return a copy in which mentions of a variable are text: a group's mean."""
        key = (var, id(group) if len(group) > 1 else id(group[0]))
        if key not in self._settled:
            keys = [k for k in self._place if k[0] == var and _has(group[0], k[1])]
            lengths = [
                np.mean([_lengths(entry[form]) for entry in group], axis=0)
                for _, form in keys
            ]
            places = [self._place[key] for key in keys]
            self._settled[key] = places, np.reshape(lengths, (len(keys), 2))
        places, means = self._settled[key]
        settled = vector.copy()
        settled[WORDS : SIZE + 1] += vector[places] @ means
        settled[places] = 0
        return settled

    def _needed(self, cell: Cell | None) -> tuple[Key, ...]:
        """Return what a choice and those after it look at: forms of variables.

        A form of "" means only whether the variable is bound, and from which list:
        that is what the number of entries that are still free depends on.
        """
        if cell is None:
            return ()
        if id(cell) not in self._needs:
            item = cell.item
            needs: set[Key] = set()
            if isinstance(item, Pick):
                block = item.source
                after = self._later(cell.then)
                needs.update(key for key in after if key[0] != item.var)
                # A second entry of a list is unlike the first: where the forms of
                # one are looked at later, those of the others have to be known.
                forms = {"", *(form for var, form in after if var == item.var)}
                needs.update((v, f) for v in block.variables for f in forms)
                key = block.key
            else:
                assert isinstance(item, Call)
                for then in self._unrolled.branches(cell):
                    needs.update(self._later(then))
                key = item.rule.key
            self._needs[id(cell)] = tuple(sorted(needs | ({key} if key else set())))
        return self._needs[id(cell)]

    def _later(self, cell: Cell | None) -> list[Key]:
        """Return what is needed from a cell on, but for what is noted on the way."""
        stretch = self._stretch(cell)
        return [k for k in self._needed(stretch.choice) if k[0] not in stretch.notes]


def _lengths(text: str) -> tuple[int, int]:
    """Return the number of gaps between words, and of bytes, in a text."""
    return text.count(" ") + text.count("\n"), len(text.encode())


def _has(entry: Entry, form: str) -> bool:
    """Say whether an entry has a form."""
    try:
        return bool(entry[form])
    except KeyError:
        return False
