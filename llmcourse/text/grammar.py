r"""A probabilistic grammar with memory whose every story has an exact probability.

A story is written from left to right. Where the grammar offers a choice, one
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
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, NamedTuple, TypeAlias, no_type_check

import numpy as np
import numpy.typing as npt

from llmcourse.text.grammar_text import (
    Cell,
    Entry,
    Env,
    Key,
    Note,
    Pick,
    Reader,
    Ref,
    Rule,
)

Vector: TypeAlias = npt.NDArray[Any]
ENTROPY, WORDS, SIZE, MENTIONS = 0, 1, 2, 3  # indices into a vector


@dataclass(frozen=True)
class Story:
    """A story and what made it: its facts, its choices and their probability."""

    text: str
    log_prob: float  # in nats
    facts: Mapping[str, str] = field(hash=False)  # each variable's word
    choices: tuple[int, ...] = field(repr=False)  # the derivation, left to right


@dataclass(frozen=True)
class Measures:
    """Expectations over all stories."""

    entropy: float  # in nats per story
    words: float  # mean length in words, as white space separates them
    size: float  # mean length in bytes of UTF-8


class State(NamedTuple):
    """A story in progress."""

    cell: Cell | None  # what is still to be written
    text: str  # what is written
    env: Env  # the bound variables
    choices: tuple[tuple[int, float], ...]  # number and probability of each

    def prob(self) -> float:
        """Return the probability of the choices taken so far."""
        return math.prod((prob for _, prob in reversed(self.choices)), start=1.0)

    def story(self) -> Story:
        """Return the finished story."""
        return Story(
            text=self.text,
            log_prob=math.fsum(math.log(prob) for _, prob in self.choices),
            facts={name: entry["word"] for name, entry in self.env.items()},
            choices=tuple(number for number, _ in self.choices),
        )


class Grammar:
    """A grammar, read from its text.

    Args:
        text: The word lists and rules; a story expands the rule `story`.

    Raises:
        ValueError: If the text is not a grammar; the message names the line.
    """

    def __init__(self, text: str) -> None:
        reader = Reader(text)
        if "story" not in reader.rules:
            raise ValueError("wanted a rule 'story' to start with, got none")
        self.rules, self.lists = reader.rules, reader.lists
        self._mentions = reader.mentions
        self._start = State(Cell(self.rules["story"], None), "", {}, ())

    def sample(self, rng: random.Random) -> Story:
        """Return a story drawn from the grammar's distribution."""
        return _finished(self._start, rng.random).story()

    def parse(self, text: str) -> Story:
        """Return a text as a story: its facts, choices and probability.

        Raises:
            ValueError: If the grammar cannot write the text; the message names the
                word that no derivation reaches. Also if two derivations write it,
                since the grammar is then ambiguous.
        """
        states = self._derive(text, whole=True)
        if len(states) > 1:
            raise ValueError(
                f"ambiguous grammar: {len(states)} derivations of {text!r}"
            )
        return states[0].story()

    def log_prob(self, text: str) -> float:
        """Return the exact log-probability of a story, in nats.

        Raises:
            ValueError: If the text is not a story (see `parse`).
        """
        return self.parse(text).log_prob

    def prefix_log_prob(self, prefix: str) -> float:
        """Return the log-probability that a story begins with the prefix, in nats.

        Differences give the true log-probability of the next word, which a language
        model is asked to learn.

        Raises:
            ValueError: If no story begins this way.
        """
        states = self._derive(prefix, whole=False)
        return math.log(math.fsum(state.prob() for state in states))

    def complete(self, prefix: str, rng: random.Random) -> Story:
        """Return a story that begins with the prefix, drawn from all that do.

        Raises:
            ValueError: If no story begins this way.
        """
        states = self._derive(prefix, whole=False)
        [state] = rng.choices(states, weights=[state.prob() for state in states])
        return _finished(state, rng.random).story()

    def pieces(self, story: Story) -> Iterator[tuple[str, str]]:
        """Yield the pieces of a story's text, each with what wrote it.

        That is the variable whose word it is, or the list of a word that no variable
        holds; for words that the grammar spells out, it is the named rule entered
        last.

        >>> grammar = Grammar('''
        ... rule story
        ...     {who=name} [ran|sat].
        ... list name
        ...     Mia
        ... ''')
        >>> list(grammar.pieces(grammar.parse("Mia ran.")))
        [('Mia', 'who'), (' ', 'story'), ('ran', 'story'), ('.', 'story')]
        """
        choices, rule = iter(story.choices), ""
        cell, _, env, _ = self._start
        while cell is not None:
            item, then = cell.item, cell.then
            if isinstance(item, Rule):
                rule = rule if item.name.startswith("choice ") else item.name
                then = item.at(env).cells(then)[next(choices)]
            elif isinstance(item, Pick):
                entry = item.source.free(env)[next(choices)]
                env = {**env, item.var: entry} if item.var else env
                yield entry[item.form], item.var or item.source.name
            elif isinstance(item, Note):
                env = {**env, item.var: item.entry}
            elif isinstance(item, Ref):
                yield env[item.var][item.form], item.var
            else:
                yield item, rule
            cell = then

    def enumerate(self) -> Iterator[Story]:
        """Yield every story once; for small grammars."""
        for state in _derivations(self._start, lambda written, words: True):
            yield state.story()

    def entropy(self) -> float:
        """Return the exact entropy of the distribution, in nats per story."""
        return self.measures.entropy

    @cached_property
    def measures(self) -> Measures:
        """The exact mean entropy, words and bytes of a story."""
        return _ExactMeasures(self._mentions).measures(self._start.cell)

    def _derive(self, text: str, *, whole: bool) -> list[State]:
        """Return all ways to write a text or, if not `whole`, one starting with it."""
        reached = 0

        def fits(written: str, words: str) -> bool:
            nonlocal reached
            at = len(written)
            if not text.startswith(words, at) and (
                whole or not words.startswith(text[at:])
            ):
                return False
            reached = max(reached, at + len(words))
            return True

        ends = _derivations(self._start, fits, math.inf if whole else len(text))
        if states := [end for end in ends if len(end.text) >= len(text)]:
            return states
        problem = "not a story of this grammar" if whole else "no story begins so"
        before, after = text[:reached], text[reached : reached + 20]
        word = len(before.split()) + (before[-1:] in ("", " ", "\n"))
        raise ValueError(
            f"{problem}: it stops fitting at word {word}, after {before[-30:]!r}, "
            f"at {after!r}"
        )


def _derivations(
    start: State, fits: Callable[[str, str], bool], enough: float | int = math.inf
) -> Iterator[State]:
    """Yield all that a story can become, written to its end or `enough` characters.

    Args:
        start: What is already written.
        fits: Whether the text written so far may continue with these words.
        enough: Characters after which no more is written.
    """
    stack = [start]
    while stack:
        cell, text, env, choices = stack.pop()
        while cell is not None and len(text) < enough:
            item = cell.item
            if isinstance(item, Rule):
                choice = item.at(env)
                cells = choice.cells(cell.then)
                for number, prob in enumerate(choice.probs):
                    taken = (*choices, (number, prob))
                    stack.append(State(cells[number], text, env, taken))
                break
            if isinstance(item, Pick):
                free = item.source.free(env)
                for number, entry in enumerate(free):
                    if fits(text, words := entry[item.form]):
                        bound = {**env, item.var: entry} if item.var else env
                        taken = (*choices, (number, 1 / len(free)))
                        stack.append(State(cell.then, text + words, bound, taken))
                break
            if isinstance(item, Note):
                env = {**env, item.var: item.entry}
            else:
                words = item if isinstance(item, str) else env[item.var][item.form]
                if not fits(text, words):
                    break
                text += words
            cell = cell.then
        else:
            yield State(cell, text, env, choices)


def _finished(start: State, draw: Callable[[], float]) -> State:
    """Return one way to finish a story, drawing each choice."""
    cell, text, env, choices = start
    out, env, taken = [text], dict(env), [*choices]
    while cell is not None:
        item, then = cell.item, cell.then
        if type(item) is str:
            out.append(item)
        elif type(item) is Ref:
            out.append(env[item.var][item.form])
        elif type(item) is Note:
            env[item.var] = item.entry
        elif type(item) is Rule:
            choice = item.at(env)
            number = bisect_right(choice.cumulative, draw())
            taken.append((number, choice.probs[number]))
            then = choice.cells(then)[number]
        elif type(item) is Pick:
            free = item.source.free(env)
            number = int(draw() * len(free))
            taken.append((number, 1 / len(free)))
            out.append(free[number][item.form])
            if item.var:
                env[item.var] = free[number]
        cell = then
    return State(None, "".join(out), env, tuple(taken))


class Segment(NamedTuple):
    """What is always written between a cell and the next choice."""

    vector: Vector
    notes: Env
    choice: Cell | None


@no_type_check  # its two million calls, type-checked, would take tests half a minute
class _ExactMeasures:
    """Computes the measures by dynamic programming, from the ends of stories backwards.

    They are computed once for each place in a story and each set of values that later
    choices look at; all other variables are forgotten. Forgetting a variable loses the
    length of its words, so its mentions are only counted, and become words and bytes
    where the variable is bound and its value is known.

    A vector holds the means of what is still to come: entropy, gaps between words,
    bytes, and mentions of each form of each variable that is already bound.
    """

    def __init__(self, mentions: Collection[Key]) -> None:
        # The place of each form of a variable in the vectors.
        self._place = {key: n for n, key in enumerate(sorted(mentions), MENTIONS)}
        self._segment = cache(self._new_segment)
        self._needed = cache(self._new_needs)
        self._groups: dict[tuple[int, tuple[str, ...]], list[list[Entry]]] = {}
        self._written: dict[tuple[str, int], tuple[list[int], Vector]] = {}
        self._after_choice: dict[tuple[object, ...], Vector] = {}

    def measures(self, root: Cell | None) -> Measures:
        """Return the measures of all stories; words are one more than the gaps."""
        entropy, gaps, size = self._after(root, {})[:MENTIONS].tolist()
        return Measures(entropy, gaps + 1, size)

    def _after(self, cell: Cell | None, env: Env) -> Vector:
        """Return the means of all continuations from a cell on."""
        segment = self._segment(cell)
        vector = segment.vector
        if segment.choice is not None:
            env = {**env, **segment.notes} if segment.notes else env
            key = (segment.choice, *self._looked_at(segment.choice, env))
            if key not in self._after_choice:
                pick = isinstance(segment.choice.item, Pick)
                choose = self._pick if pick else self._call
                self._after_choice[key] = choose(segment.choice, env)
            vector = vector + self._after_choice[key]
        for var, entry in segment.notes.items():
            vector = self._expand(vector, var, [entry])
        return vector

    def _looked_at(self, choice: Cell, env: Env) -> Iterator[object]:
        """Yield all that a choice and those after it can see of the variables."""
        for var, form in self._needed(choice):
            entry = env.get(var)
            if entry is None:
                yield None
            else:
                yield _form(entry, form) if form else id(entry.home)

    def _new_segment(self, cell: Cell | None) -> Segment:
        """Return what is always written between a cell and the next choice."""
        vector = np.zeros(MENTIONS + len(self._place))
        notes: Env = {}
        while cell is not None and not isinstance(cell.item, Rule | Pick):
            if isinstance(cell.item, Ref):
                vector[self._place[cell.item.var, cell.item.form]] += 1
            elif isinstance(cell.item, Note):
                notes[cell.item.var] = cell.item.entry
            else:
                vector[WORDS : SIZE + 1] += _lengths(cell.item)
            cell = cell.then
        return Segment(vector, notes, cell)

    def _call(self, cell: Cell, env: Env) -> Vector:
        """Return the measures from the choice of a rule's alternative on."""
        means = np.zeros(MENTIONS + len(self._place))
        assert isinstance(cell.item, Rule)
        choice = cell.item.at(env)
        for prob, then in zip(choice.probs, choice.cells(cell.then), strict=True):
            means += prob * self._after(then, env)
            means[ENTROPY] -= prob * math.log(prob)
        return means

    def _pick(self, cell: Cell, env: Env) -> Vector:
        """Return the measures from a pick on.

        Entries that look alike to all later choices form a group. Which entries of a
        group are taken is forgotten, but all are equally likely to be, so the mean
        length of their words is the mean over the whole group.
        """
        pick = cell.item
        assert isinstance(pick, Pick)
        entries = pick.source.at(env)
        taken = pick.source.taken(entries, env)
        free = len(entries) - len(taken)
        means = np.zeros(MENTIONS + len(self._place))
        means[ENTROPY] = math.log(free)
        for group in self._alike(pick, cell.then, entries):
            left = [entry for entry in group if entry.index not in taken]
            if left:
                bound = {**env, pick.var: left[0]} if pick.var else env
                vector = self._after(cell.then, bound).copy()
                vector[self._place[pick.var, pick.form]] += 1  # the words of the pick
                means += len(left) / free * self._expand(vector, pick.var, group)
        return means

    def _alike(
        self, pick: Pick, then: Cell | None, entries: list[Entry]
    ) -> list[list[Entry]]:
        """Return the entries of a pick in groups that look alike to later choices."""
        needed = self._needed(self._segment(then).choice)
        forms = tuple(form for var, form in needed if var == pick.var and form)
        key = (id(entries), forms)
        if key not in self._groups:
            groups: dict[tuple[str, ...], list[Entry]] = {}
            for entry in entries:
                groups.setdefault(tuple(entry[f] for f in forms), []).append(entry)
            self._groups[key] = list(groups.values())
        return self._groups[key]

    def _expand(self, vector: Vector, var: str, group: list[Entry]) -> Vector:
        """Return a copy with a variable's mentions as words: the mean over a group."""
        key = (var, id(group) if len(group) > 1 else id(group[0]))
        if key not in self._written:
            keys = [k for k in self._place if k[0] == var and _form(group[0], k[1])]
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

    def _new_needs(self, cell: Cell | None) -> tuple[Key, ...]:
        """Return what a choice and those after it look at: forms of variables.

        A form of "" means only whether the variable is bound, and from which list: the
        number of entries still free depends on that.
        """
        if cell is None:
            return ()
        item = cell.item
        needs: set[Key] = set()
        if isinstance(item, Pick):
            block: Rule = item.source
            after = self._later(cell.then)
            needs.update(key for key in after if key[0] != item.var)
            # A second entry of a list differs from the first: where the forms of one
            # are looked at later, those of the others have to be known.
            forms = {"", *(form for var, form in after if var == item.var)}
            needs.update((v, f) for v in item.source.variables for f in forms)
        else:
            assert isinstance(item, Rule)
            block = item
            for choice in block.choices.values():
                for then in choice.cells(cell.then):
                    needs.update(self._later(then))
        return tuple(sorted(needs | ({block.key} if block.key else set())))

    def _later(self, cell: Cell | None) -> list[Key]:
        """Return what is needed from a cell on, except what is noted on the way."""
        segment = self._segment(cell)
        return [k for k in self._needed(segment.choice) if k[0] not in segment.notes]


def _lengths(text: str) -> tuple[int, int]:
    """Return the number of gaps between words, and of bytes, in a text."""
    return text.count(" ") + text.count("\n"), len(text.encode())


def _form(entry: Entry, form: str) -> str | None:
    """Return a form of an entry, or None if it has no such form."""
    try:
        return entry[form]
    except KeyError:
        return None
