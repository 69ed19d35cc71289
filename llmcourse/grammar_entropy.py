"""Exact expectations over all stories of a grammar, without listing them.

The measures of a choice are the chain rule: its own entropy, plus the mean measures
of what comes after each option. They are computed once for each cell and each set of
values that later choices look at; all other variables are forgotten. Lengths of words
are forgotten with them, so mentions of a variable (`{hero}`) are counted as mentions
and turned into bytes where the variable is bound and its value is known.
"""

import math
from collections import Counter
from dataclasses import dataclass, field, replace

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


@dataclass(eq=False, slots=True)
class Measures:
    """Expectations over all stories, or over all continuations of a state."""

    stories: int = 1  # how many there are
    entropy: float = 0.0  # in nats per story
    words: float = 0.0  # mean length in words
    size: float = 0.0  # mean length in bytes of UTF-8
    mentions: Counter[Key] = field(default_factory=Counter)
    """Mean number of mentions still to come of variables that are bound already."""

    def add(self, text: str, weight: float = 1.0) -> None:
        """Count text that is written with some probability."""
        self.words += weight * (text.count(" ") + text.count("\n"))
        self.size += weight * len(text.encode())

    def mix(self, other: "Measures", prob: float) -> None:
        """Add the measures of an option, weighted with its probability."""
        self.stories += other.stories
        self.entropy += prob * (other.entropy - math.log(prob))
        self.words += prob * other.words
        self.size += prob * other.size
        for key, count in other.mentions.items():
            self.mentions[key] += prob * count


class Accountant:
    """Computes measures from the end of the stories to their beginning."""

    def __init__(self, unrolled: Unrolled) -> None:
        self._unrolled = unrolled
        self._done: dict[tuple[int, tuple[object, ...]], Measures] = {}
        self._needs: dict[int, frozenset[Key]] = {}

    def total(self) -> Measures:
        """Return the measures of all stories; words are one more than the gaps."""
        found = self._after(self._unrolled.root, {})
        return Measures(found.stories, found.entropy, found.words + 1, found.size)

    def _after(self, cell: Cell | None, env: Env) -> Measures:
        """Return the measures of all that is written from a cell on."""
        here = Measures()
        notes: list[Note] = []
        while cell is not None and not isinstance(cell.item, Call | Pick):
            if isinstance(cell.item, Ref):
                here.mentions[cell.item.var, cell.item.form] += 1
            elif isinstance(cell.item, Note):
                notes.append(cell.item)
                env = {**env, cell.item.var: cell.item.entry}
            else:
                here.add(cell.item)
            cell = cell.then
        if cell is not None:
            rest = self._choice(cell, env)
            here.stories, here.entropy = rest.stories, rest.entropy
            here.words += rest.words
            here.size += rest.size
            for key, count in rest.mentions.items():
                here.mentions[key] += count
        for note in notes:
            here = _bind(here, note.var, note.entry)
        return here

    def _choice(self, cell: Cell, env: Env) -> Measures:
        """Return the measures of a choice and all that comes after it."""
        state = tuple(
            None if var not in env else env[var][form] if form else id(env[var].home)
            for var, form in self._needed(cell)
        )
        done = self._done.get((id(cell), state))
        if done is None:
            done = Measures(stories=0)
            for option in self._unrolled.options(cell, env):
                after = self._after(option.then, option.env)
                if isinstance(cell.item, Pick):
                    after = _bind(after, cell.item.var, option.env.get(cell.item.var))
                    after.add(option.words)
                done.mix(after, option.prob)
            self._done[id(cell), state] = done
        return done

    def _needed(self, cell: Cell | None) -> tuple[Key, ...]:
        """Return what later choices look at: forms of variables, in a fixed order.

        A form of "" means only whether the variable is bound, and from which list:
        that is what the number of entries that are still free depends on.
        """
        notes = set()
        while cell is not None and not isinstance(cell.item, Call | Pick):
            if isinstance(cell.item, Note):
                notes.add(cell.item.var)
            cell = cell.then
        if cell is None:
            return ()
        if id(cell) not in self._needs:
            item = cell.item
            needs: set[Key] = set()
            if isinstance(item, Pick):
                needs.update(self._needed(cell.then))
                needs = {key for key in needs if key[0] != item.var}
                needs.update((var, "") for var in item.source.variables)
                key = item.source.key
            else:
                for then in self._unrolled.branches(cell):
                    needs.update(self._needed(then))
                key = item.rule.key
            self._needs[id(cell)] = tuple(sorted(needs | ({key} if key else set())))
        return tuple(key for key in self._needs[id(cell)] if key[0] not in notes)


def _bind(measures: Measures, var: str, entry: Entry | None) -> Measures:
    """Return a copy in which the mentions of a variable have become text."""
    bound = replace(measures, mentions=Counter())
    for key, count in measures.mentions.items():
        if key[0] == var and entry is not None:
            bound.add(entry[key[1]], weight=count)
        else:
            bound.mentions[key] += count
    return bound
