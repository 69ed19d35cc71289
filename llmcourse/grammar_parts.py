"""What a story grammar is made of: word lists, rules, and the items of a template.

`grammar_file` reads these from text; `grammar` writes and reads stories with them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

Key: TypeAlias = tuple[str, str]  # a variable and one of its forms


class Entry(dict[str, str]):
    """One entry of a word list: its forms by name; missing ones are derived.

    >>> owl = Entry(word="owl")
    >>> owl["a"], owl["The"], owl["s"]
    ('an owl', 'The owl', 'owls')
    """

    __slots__ = ("home", "index")
    home: "list[Entry]"  # the list it stands in, for finding words already taken
    index: int  # its place there

    def __missing__(self, form: str) -> str:
        word = self["word"]
        if form[0].isupper():  # {Hero.he}: the same, with a capital
            text = self[form.lower()]
            text = text[:1].upper() + text[1:]
        elif form == "a":
            text = ("an " if word[0] in "aeiou" else "a ") + word
        elif form == "the":
            text = "the " + word
        elif form == "s":
            text = _plural(word)
        else:
            raise KeyError(form)
        self[form] = text
        return text


def _plural(noun: str) -> str:
    """Return the regular plural of an English noun."""
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(s|x|z|ch|sh)$", noun) else "s")


@dataclass(eq=False, slots=True)
class Choice:
    """The alternatives of a rule under one key, with their probabilities."""

    alternatives: "list[tuple[Item, ...]]" = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    probs: list[float] = field(default_factory=list)
    cumulative: list[float] = field(default_factory=list)

    def close(self) -> None:
        """Turn the weights into probabilities."""
        total = sum(self.weights)
        self.probs = [weight / total for weight in self.weights]
        self.cumulative = [weight / total for weight in accumulate(self.weights)]
        self.cumulative[-1] = 1.0


@dataclass(eq=False, slots=True)
class Rule:
    """A named choice; with a key, one choice for each value of a bound variable."""

    name: str
    line: int
    key: Key | None = None
    choices: dict[str, Any] = field(default_factory=dict)
    busy: bool = False  # being checked: for finding rules that contain themselves

    def at(self, env: dict[str, Entry]) -> Any:
        """Return what the rule (or list) holds under the values bound so far."""
        if self.key is None:
            return self.choices["*"]
        value = env[self.key[0]][self.key[1]]
        return self.choices[value] if value in self.choices else self.choices["*"]


@dataclass(eq=False, slots=True)
class WordList(Rule):
    """A named list of entries; with a key, one for each value of a variable."""

    forms: list[str] = field(default_factory=list)
    variables: set[str] = field(default_factory=set)  # those picked from it

    def free(self, env: dict[str, Entry]) -> list[Entry]:
        """Return the entries that no variable holds yet.

        Raises:
            ValueError: As `taken`.
        """
        entries: list[Entry] = self.at(env)
        taken = self.taken(entries, env)
        return [e for e in entries if e.index not in taken] if taken else entries

    def taken(self, entries: list[Entry], env: dict[str, Entry]) -> list[int]:
        """Return the places of the entries that variables hold already, in order.

        Raises:
            ValueError: If those are all of them; the list's line is named.
        """
        held = [env[name] for name in self.variables if name in env]
        found = sorted(entry.index for entry in held if entry.home is entries)
        if len(found) == len(entries):
            raise ValueError(
                f"line {self.line}: the list {self.name!r} must have more entries than "
                f"are taken from it, got {len(entries)}"
            )
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Ref:
    """Write a form of a bound variable."""

    var: str
    form: str
    line: int


@dataclass(frozen=True, slots=True, eq=False)
class Pick:
    """Pick a free entry of a list, write a form of it, and bind it."""

    var: str  # empty: do not bind
    form: str
    source: WordList
    line: int


@dataclass(frozen=True, slots=True, eq=False)
class Note:
    """Bind a variable to a fixed value and write nothing."""

    var: str
    entry: Entry
    line: int


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Expand a rule."""

    rule: Rule
    line: int


Item: TypeAlias = str | Ref | Pick | Note | Call
Env: TypeAlias = dict[str, Entry]  # the bound variables


class Cell:
    """An item still to be written, and the cells after it.

    Derivations with the same things left to write share their cells, so a cell says
    all about the future that the bound variables do not.
    """

    __slots__ = ("item", "then")

    def __init__(self, item: Item, then: "Cell | None") -> None:
        self.item = item
        self.then = then


class Option(NamedTuple):
    """One way to take a choice: where it leads, and what it writes and binds."""

    number: int
    prob: float
    words: str
    then: Cell | None
    env: Env


class Unrolled:
    """The choices of a grammar, one after the other, as a graph of cells."""

    def __init__(self, start: Rule) -> None:
        self.root = Cell(Call(start, line=start.line), None)
        self._cells: dict[tuple[int, int], Cell | None] = {}

    def options(
        self, cell: Cell, env: Env, text: str = "", at: int = 0, partial: bool = True
    ) -> list[Option]:
        """Return the options of a choice whose words fit a text.

        Args:
            cell: The choice.
            env: The variables bound before it.
            text: The text that the words have to continue.
            at: Where in the text they begin.
            partial: Whether they may go beyond the end of the text.
        """
        item = cell.item
        if isinstance(item, Call):
            choice = item.rule.at(env)
            return [
                Option(number, prob, "", self._before(items, cell.then), env)
                for number, (prob, items) in enumerate(
                    zip(choice.probs, choice.alternatives, strict=True)
                )
            ]
        assert isinstance(item, Pick)
        free = item.source.free(env)
        rest = text[at:] if partial else None
        options = []
        for number, entry in enumerate(free):
            words = entry[item.form]
            if text.startswith(words, at) or (
                rest is not None and words.startswith(rest)
            ):
                bound = {**env, item.var: entry} if item.var else env
                options.append(Option(number, 1 / len(free), words, cell.then, bound))
        return options

    def mentions(self) -> set[Key]:
        """Return the forms of variables that any template writes."""
        found: set[Key] = set()
        todo: list[Item] = [self.root.item]
        seen: set[int] = set()
        while todo:
            item = todo.pop()
            if isinstance(item, Ref | Pick):
                found.add((item.var, item.form))
            elif isinstance(item, Call) and id(item.rule) not in seen:
                seen.add(id(item.rule))
                for choice in item.rule.choices.values():
                    todo.extend(i for items in choice.alternatives for i in items)
        return found

    def branches(self, cell: Cell) -> Iterator[Cell | None]:
        """Yield where each alternative of a rule leads, whatever its key."""
        assert isinstance(cell.item, Call)
        for choice in cell.item.rule.choices.values():
            for items in choice.alternatives:
                yield self._before(items, cell.then)

    def _before(self, items: tuple[Item, ...], then: Cell | None) -> Cell | None:
        """Return the cells of some items, followed by those of what comes after."""
        key = (id(items), id(then))
        if key not in self._cells:
            cell = then
            for item in reversed(items):
                cell = Cell(item, cell)
            self._cells[key] = cell
        return self._cells[key]
