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

    def add(self, text: str) -> None:
        """Count text that is written for certain."""
        self.words += _gaps(text)
        self.size += len(text.encode())

    def mix(self, other: "Measures", prob: float, ways: int = 1) -> None:
        """Add what comes after an option, or after several of equal probability.

        Args:
            other: The measures of what comes after.
            prob: The probability of all these options together.
            ways: How many options there are.
        """
        self.stories += ways * other.stories
        self.entropy += prob * (other.entropy - math.log(prob / ways))
        self.words += prob * other.words
        self.size += prob * other.size
        for key, count in other.mentions.items():
            self.mentions[key] += prob * count


def _gaps(text: str) -> int:
    """Return the number of gaps between words."""
    return text.count(" ") + text.count("\n")


def _settle(measures: Measures, var: str, group: list[Entry]) -> Measures:
    """Return a copy in which mentions of a variable are text: the mean of a group."""
    settled = replace(measures, mentions=Counter())
    for key, count in measures.mentions.items():
        if key[0] == var:
            texts = [entry[key[1]] for entry in group]
            settled.words += count * sum(map(_gaps, texts)) / len(texts)
            settled.size += count * len("".join(texts).encode()) / len(texts)
        else:
            settled.mentions[key] += count
    return settled


class Accountant:
    """Computes measures from the end of the stories to their beginning."""

    def __init__(self, unrolled: Unrolled) -> None:
        self._unrolled = unrolled
        self._done: dict[tuple[int, tuple[object, ...]], Measures] = {}
        self._needs: dict[int, tuple[Key, ...]] = {}

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
            here = _settle(here, note.var, [note.entry])
        return here

    def _choice(self, cell: Cell, env: Env) -> Measures:
        """Return the measures of a choice and all that comes after it."""
        state = tuple(
            (env[var].get(form) if form else id(env[var].home)) if var in env else None
            for var, form in self._needed(cell)
        )
        key = (id(cell), state)
        if key not in self._done:
            pick = isinstance(cell.item, Pick)
            self._done[key] = self._pick(cell, env) if pick else self._call(cell, env)
        return self._done[key]

    def _call(self, cell: Cell, env: Env) -> Measures:
        """Return the measures of the alternatives of a rule."""
        total = Measures(stories=0)
        for option in self._unrolled.options(cell, env):
            total.mix(self._after(option.then, env), option.prob)
        return total

    def _pick(self, cell: Cell, env: Env) -> Measures:
        """Return the measures of a pick from a list.

        Entries that look alike to all later choices form a group. Which of a group
        are taken is forgotten, but each is as likely to be taken as any other, so
        the mean length of their words is the mean over the whole group.
        """
        pick = cell.item
        assert isinstance(pick, Pick)
        entries = pick.source.at(env)
        taken = pick.source.taken(entries, env)
        free = len(entries) - len(taken)
        forms = [form for var, form in self._needed(cell.then) if var == pick.var]
        groups: dict[tuple[str, ...], list[Entry]] = {}
        for entry in entries:
            alike = tuple(entry[form] for form in forms if form)
            groups.setdefault(alike, []).append(entry)
        total = Measures(stories=0)
        for group in groups.values():
            left = [entry for entry in group if entry.index not in taken]
            if left:
                bound = {**env, pick.var: left[0]} if pick.var else env
                after = self._after(cell.then, bound)
                after.mentions[pick.var, pick.form] += 1  # the words of the pick
                after = _settle(after, pick.var, group)
                total.mix(after, len(left) / free, ways=len(left))
        return total

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
                after = self._needed(cell.then)
                needs.update(key for key in after if key[0] != item.var)
                # A second entry of a list is unlike the first: where the forms of
                # one are looked at later, those of the others have to be known.
                forms = {"", *(form for var, form in after if var == item.var)}
                needs.update((v, f) for v in item.source.variables for f in forms)
                key = item.source.key
            else:
                for then in self._unrolled.branches(cell):
                    needs.update(self._needed(then))
                key = item.rule.key
            self._needs[id(cell)] = tuple(sorted(needs | ({key} if key else set())))
        return tuple(key for key in self._needs[id(cell)] if key[0] not in notes)
