r"""A probabilistic grammar with memory whose every story has an exact probability.

A story is written from left to right. Where the grammar leaves a choice, one
alternative is drawn and its words are written at once, so a text can be parsed back
to the choices that made it, and

    log P(story) = log P(choice 1) + log P(choice 2 | choice 1) + …

is exact. The entropy, the mean of −log P over all stories, follows by the chain rule
without listing them: the entropy of each choice, plus the mean entropy of what comes
after. This is dynamic programming: what comes after depends only on those bound
variables that later choices look at, so few states have to be distinguished.

>>> grammar = Grammar('''
... rule story
...     {Who=name} sang.[| {Who} slept.]
... list name
...     Mia, Tom
... ''')
>>> sorted(story.text for story in grammar.enumerate())
['Mia sang.', 'Mia sang. Mia slept.', 'Tom sang.', 'Tom sang. Tom slept.']
>>> round(grammar.log_prob("Tom sang."), 3), round(grammar.entropy(), 3)  # log 4
(-1.386, 1.386)
>>> grammar.parse("Tom sang. Tom slept.").facts
{'who': 'Tom'}

`grammar_text` describes the format of a grammar's text.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, count, takewhile
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from llmcourse.text.grammar_text import (
    Call,
    Cell,
    Entry,
    Env,
    Item,
    Key,
    Note,
    Pick,
    Reader,
    Ref,
    Unrolled,
    check_items,
)

Vector: TypeAlias = npt.NDArray[Any]
ENTROPY, WORDS, SIZE, MENTIONS = 0, 1, 2, 3  # the places of a vector


@dataclass(frozen=True)
class Story:
    """A story with what made it: its facts, its choices and their probability."""

    text: str
    log_prob: float  # in nats
    facts: Mapping[str, str]  # each variable's word
    choices: tuple[int, ...] = field(repr=False)  # the derivation, left to right

    def __hash__(self) -> int:
        return hash(self.text)

    def listed(self, name: str) -> tuple[str, ...]:
        """Return the numbered facts of a name in order: item1, item2, item3."""
        keys = (f"{name}{number}" for number in count(1))
        return tuple(self.facts[k] for k in takewhile(self.facts.__contains__, keys))


@dataclass(frozen=True)
class Measures:
    """Expectations over all stories."""

    stories: int  # how many there are
    entropy: float  # in nats per story
    words: float  # mean length in words, as white space separates them
    size: float  # mean length in bytes of UTF-8


class Choices(NamedTuple):
    """The choices taken so far, as a linked list with the last one first."""

    number: int
    prob: float
    before: "Choices | None"


class State(NamedTuple):
    """A derivation under way."""

    cell: Cell | None  # what is still to be written
    at: int  # how much is written, in characters
    env: Env  # the bound variables
    choices: Choices | None  # the choices so far
    beyond: str  # what the last item wrote beyond the given text


class Grammar:
    """A grammar, from its text.

    Args:
        text: The rules and word lists.
        start: The rule that a story expands.

    Raises:
        ValueError: If the text is no grammar; the message names the line.
    """

    def __init__(self, text: str, start: str = "story") -> None:
        reader = Reader(text)
        if start not in reader.rules:
            raise ValueError(f"wanted a rule {start!r} to start with, got none")
        self.rules, self.lists = reader.rules, reader.lists
        self._unrolled = Unrolled(self.rules[start])
        check_items((self._unrolled.root.item,), {})

    def sample(self, rng: random.Random) -> Story:
        """Return a story drawn from the grammar's distribution."""
        draft = _Draft()
        draft.write((self._unrolled.root.item,), rng.random)
        return draft.story()

    def parse(self, text: str) -> Story:
        """Return the story that a text is: its facts, choices and probability.

        Raises:
            ValueError: If the grammar cannot write the text; the message names the
                word that no derivation reaches. Also if two derivations write it,
                for then the grammar is ambiguous.
        """
        states, reached = self._derive(text, partial=False)
        if len(states) == 1:
            return _Draft(text, states[0].env, states[0].choices).story()
        if states:
            raise ValueError(
                f"ambiguous grammar: {len(states)} derivations of {text!r}"
            )
        raise ValueError("not a story of this grammar: " + _stop(text, reached))

    def log_prob(self, text: str) -> float:
        """Return the exact log-probability of a story, in nats.

        Raises:
            ValueError: If the text is no story (see `parse`).
        """
        return self.parse(text).log_prob

    def prefix_log_prob(self, prefix: str) -> float:
        """Return log of the probability that a story begins so, in nats.

        Differences give the true probability of the next word: the one that a
        language model is asked to learn.

        Raises:
            ValueError: If no story begins so.
        """
        return math.log(math.fsum(_prob(state) for state in self._begun(prefix)))

    def complete(self, prefix: str, rng: random.Random) -> Story:
        """Return a story that begins so, drawn from the stories that do.

        Raises:
            ValueError: If no story begins so.
        """
        states = self._begun(prefix)
        cumulative = list(accumulate(_prob(state) for state in states))
        number = bisect_right(cumulative, rng.random() * cumulative[-1])
        cell, _, env, choices, beyond = states[min(number, len(states) - 1)]
        draft = _Draft(prefix + beyond, env, choices)
        items = []
        while cell is not None:
            items.append(cell.item)
            cell = cell.then
        draft.write(tuple(items), rng.random)
        return draft.story()

    def enumerate(self) -> Iterator[Story]:
        """Yield every story once; for small grammars."""
        stack: list[tuple[Cell | None, str, Env, Choices | None]] = [
            (self._unrolled.root, "", {}, None)
        ]
        while stack:
            cell, text, env, choices = stack.pop()
            while cell is not None and not isinstance(cell.item, Call | Pick):
                if isinstance(cell.item, Note):
                    env = {**env, cell.item.var: cell.item.entry}
                elif isinstance(cell.item, Ref):
                    text += env[cell.item.var][cell.item.form]
                else:
                    text += cell.item
                cell = cell.then
            if cell is None:
                yield _Draft(text, env, choices).story()
                continue
            for option in self._unrolled.options(cell, env):
                taken = Choices(option.number, option.prob, choices)
                stack.append((option.then, text + option.words, option.env, taken))

    def entropy(self) -> float:
        """Return the exact entropy of the distribution, in nats per story."""
        return self.measures.entropy

    @cached_property
    def measures(self) -> Measures:
        """The number of stories; exact mean entropy, words and bytes of a story."""
        return _ExactMeasures(self._unrolled).measures()

    def _begun(self, prefix: str) -> list[State]:
        states, reached = self._derive(prefix, partial=True)
        if not states:
            raise ValueError("no story begins so: " + _stop(prefix, reached))
        return states

    def _derive(self, text: str, partial: bool) -> tuple[list[State], int]:
        """Return all ways to write a text, and how far into it any way came.

        With `partial`, ways to write something that begins with the text; `beyond` is
        what the last item writes after it.
        """
        end, reached = len(text), 0
        states: list[State] = []
        stack: list[State] = [State(self._unrolled.root, 0, {}, None, "")]

        while stack:
            cell, at, env, choices, beyond = stack.pop()
            while cell is not None and (at < end or not partial):
                item = cell.item
                if isinstance(item, Call | Pick):
                    for option in self._unrolled.options(cell, env, text, at, partial):
                        taken = Choices(option.number, option.prob, choices)
                        place, over = at + len(option.words), option.words[end - at :]
                        stack.append(State(option.then, place, option.env, taken, over))
                    break
                if isinstance(item, Note):
                    env = {**env, item.var: item.entry}
                else:
                    words = item if isinstance(item, str) else env[item.var][item.form]
                    fits = partial and words.startswith(text[at:])
                    if not fits and not text.startswith(words, at):
                        break
                    at, beyond = at + len(words), words[end - at :]
                cell = cell.then
            else:
                if at >= end:
                    states.append(State(cell, at, env, choices, beyond))
            reached = max(reached, min(at, end))
        return states, reached


class _Draft:
    """A story being written: the text so far, the variables and the choices."""

    def __init__(
        self, text: str = "", env: Env | None = None, choices: Choices | None = None
    ):
        self.out = [text]
        self.env = dict(env or {})
        self.choices: list[int] = []
        self.probs: list[float] = []
        while choices is not None:
            number, prob, choices = choices
            self.choices.append(number)
            self.probs.append(prob)
        self.choices.reverse()

    def write(self, items: tuple[Item, ...], draw: Callable[[], float]) -> None:
        """Write the items, drawing each choice."""
        env, out = self.env, self.out
        for item in items:
            if type(item) is str:
                out.append(item)
            elif type(item) is Ref:
                out.append(env[item.var][item.form])
            elif type(item) is Call:
                rule = item.rule
                choice = rule.choices["*"] if rule.key is None else rule.at(env)
                number = bisect_right(choice.cumulative, draw())
                self.choices.append(number)
                self.probs.append(choice.probs[number])
                self.write(choice.alternatives[number], draw)
            elif type(item) is Pick:
                source = item.source
                free = source.choices["*"] if source.key is None else source.at(env)
                if not env.keys().isdisjoint(source.variables):
                    free = source.free(env)
                number = int(draw() * len(free))
                self.choices.append(number)
                self.probs.append(1 / len(free))
                out.append(free[number][item.form])
                if item.var:
                    env[item.var] = free[number]
            elif type(item) is Note:
                env[item.var] = item.entry

    def story(self) -> Story:
        """Return the finished story."""
        return Story(
            text="".join(self.out),
            log_prob=math.fsum(map(math.log, self.probs)),
            facts={name: entry["word"] for name, entry in self.env.items()},
            choices=tuple(self.choices),
        )


def _prob(state: State) -> float:
    """Return the probability of the choices taken so far."""
    prob, choices = 1.0, state.choices
    while choices is not None:
        prob *= choices.prob
        choices = choices.before
    return prob


def _stop(text: str, reached: int) -> str:
    """Say at which word a text stopped fitting."""
    before, after = text[:reached], text[reached : reached + 20]
    word = len(before.split()) + (before[-1:] in ("", " ", "\n"))
    return f"it stops fitting at word {word}, after {before[-30:]!r}, at {after!r}"


class Segment(NamedTuple):
    """What is always written between a cell and the next choice."""

    vector: Vector
    notes: Env
    choice: Cell | None


class _ExactMeasures:
    """Computes the measures by dynamic programming, from the ends of the stories.

    They are computed once for each place in a story and each set of values that later
    choices look at; all other variables are forgotten. With a forgotten variable the
    length of its words is lost, so its mentions are only counted, and become words and
    bytes where the variable is bound and its value is known.

    A vector holds the means of what is still to come: entropy, gaps between words,
    bytes, and mentions of each form of each variable that is bound already.
    """

    def __init__(self, unrolled: Unrolled) -> None:
        self._unrolled = unrolled
        self._place: dict[Key, int] = {}  # of a form of a variable in the vectors
        for key in sorted(unrolled.mentions()):
            self._place[key] = MENTIONS + len(self._place)
        self._segments: dict[int, Segment] = {}
        self._needs: dict[int, tuple[Key, ...]] = {}
        self._groups: dict[tuple[int, tuple[str, ...]], list[list[Entry]]] = {}
        self._written: dict[tuple[str, int], tuple[list[int], Vector]] = {}
        self._after_choice: dict[tuple[object, ...], tuple[int, Vector]] = {}

    def measures(self) -> Measures:
        """Return the measures of all stories; words are one more than the gaps."""
        stories, vector = self._after(self._unrolled.root, {})
        entropy, gaps, size = vector[:MENTIONS].tolist()
        return Measures(stories, entropy, gaps + 1, size)

    def _after(self, cell: Cell | None, env: Env) -> tuple[int, Vector]:
        """Return the number and the means of all that can follow from a cell on."""
        segment = self._segment(cell)
        if segment.choice is None:
            stories, vector = 1, segment.vector
        else:
            env = {**env, **segment.notes} if segment.notes else env
            state: list[object] = [id(segment.choice)]
            for var, form in self._needed(segment.choice):
                entry = env.get(var)
                if entry is None:
                    state.append(None)
                else:
                    state.append(entry.get(form) if form else id(entry.home))
            key = tuple(state)
            if key not in self._after_choice:
                pick = isinstance(segment.choice.item, Pick)
                choose = self._pick if pick else self._call
                self._after_choice[key] = choose(segment.choice, env)
            stories, vector = self._after_choice[key]
            vector = vector + segment.vector
        for var, entry in segment.notes.items():
            vector = self._expand(vector, var, [entry])
        return stories, vector

    def _segment(self, cell: Cell | None) -> Segment:
        """Return what stands between a cell and the next choice."""
        start = cell
        if id(start) not in self._segments:
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
            self._segments[id(start)] = Segment(vector, notes, cell)
        return self._segments[id(start)]

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
                means += len(left) / free * self._expand(vector, pick.var, group)
        return total, means

    def _alike(self, cell: Cell, entries: list[Entry]) -> list[list[Entry]]:
        """Return the entries of a pick in groups that look alike to later choices."""
        var = cell.item.var if isinstance(cell.item, Pick) else ""
        needed = self._needed(self._segment(cell.then).choice)
        forms = tuple(form for name, form in needed if name == var and form)
        key = (id(entries), forms)
        if key not in self._groups:
            groups: dict[tuple[str, ...], list[Entry]] = {}
            for entry in entries:
                groups.setdefault(tuple(entry[f] for f in forms), []).append(entry)
            self._groups[key] = list(groups.values())
        return self._groups[key]

    def _expand(self, vector: Vector, var: str, group: list[Entry]) -> Vector:
        """Return a copy with mentions of a variable as words: the mean of a group."""
        key = (var, id(group) if len(group) > 1 else id(group[0]))
        if key not in self._written:
            keys = [k for k in self._place if k[0] == var and _has(group[0], k[1])]
            lengths = [
                np.mean([_lengths(entry[form]) for entry in group], axis=0)
                for _, form in keys
            ]
            places = [self._place[key] for key in keys]
            self._written[key] = places, np.reshape(lengths, (len(keys), 2))
        places, means = self._written[key]
        written = vector.copy()
        written[WORDS : SIZE + 1] += vector[places] @ means
        written[places] = 0
        return written

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
        """Return what is needed from a cell on, except what is noted on the way."""
        segment = self._segment(cell)
        return [k for k in self._needed(segment.choice) if k[0] not in segment.notes]


def _lengths(text: str) -> tuple[int, int]:
    """Return the number of gaps between words, and of bytes, in a text."""
    return text.count(" ") + text.count("\n"), len(text.encode())


def _has(entry: Entry, form: str) -> bool:
    """Say whether an entry has a form."""
    try:
        return bool(entry[form])
    except KeyError:
        return False
