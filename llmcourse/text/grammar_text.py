"""The format of a story grammar: rules, word lists, and the fields of a template.

A grammar is a text file of blocks. A line at the margin opens a block, indented
lines fill it, a line that is indented further continues the one above it, and `#`
starts a comment line::

    list animal: word | he=it | sound        a word list with named forms
        owl | hooted                         one entry a line, or several with commas
        fox | barked

    list food @ animal                       a list that depends on a bound variable
        owl: moth, beetle
        fox: plum, egg

    rule story                               a rule: one alternative a line
        {Hero.a=animal} found {prize.a=food}. <end>

    rule end @ hero.sound                    a rule that depends on a bound variable
        hooted: {Hero.the} [hooted|sang] at the moon.
        barked: (3) {Hero.the} barked.
        barked: (1) {Hero.the} ate {prize.the}.

In a template, `<rule>` expands a rule, `[one|two]` is a choice on the spot, and
braces hold variables: `{hero=animal}` picks an entry that no variable holds yet and
binds it, `{hero}` repeats it, `{hero.sound}` is another form of it, `{=animal}`
picks without binding, `{ending: happy}` notes a fact and writes nothing. A capital
(`{Hero.sound}`) capitalises what is written. `(3)` in front is a weight. Every entry
has the forms `word`, `a` (with its article), `the` and `s` (plural); a column of that
name overrides the rule of thumb. The key `*` stands for all keys not named.

`Reader` turns such a text into word lists, rules and the items of templates, and
rejects a line that it cannot read. A variable used before it is bound only shows up
when `grammar` writes or parses a story.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeAlias

Key: TypeAlias = tuple[str, str]  # a variable and one of its forms


class Entry(dict[str, str]):
    """One entry of a word list: its forms by name; missing ones are derived.

    >>> owl = Entry(word="owl")
    >>> owl["a"], owl["The"], owl["s"]
    ('an owl', 'The owl', 'owls')
    """

    __slots__ = ("home", "index")
    home: "list[Entry]"  # its list, for finding words already taken
    index: int  # its place in that list

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


@dataclass(eq=False)
class Choice:
    """The alternatives of a rule under one key, with their probabilities."""

    alternatives: "list[tuple[Item, ...]]" = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    _cells: "dict[Cell | None, list[Cell | None]]" = field(
        default_factory=dict, init=False
    )

    @cached_property
    def probs(self) -> list[float]:
        """The probability of each alternative."""
        total = sum(self.weights)
        return [weight / total for weight in self.weights]

    @cached_property
    def cumulative(self) -> list[float]:
        """The probability of each alternative and all before it together."""
        *sums, total = accumulate(self.weights)
        return [*(weight / total for weight in sums), 1.0]

    def cells(self, then: "Cell | None") -> "list[Cell | None]":
        """Return the first cell of each alternative, with `then` after its last."""
        if then not in self._cells:
            self._cells[then] = []
            for items in self.alternatives:
                first = then
                for item in reversed(items):
                    first = Cell(item, first)
                self._cells[then].append(first)
        return self._cells[then]


@dataclass(eq=False, slots=True)
class Rule:
    """A named choice; with a key, one choice for each value of a bound variable."""

    name: str
    line: int
    key: Key | None = None
    choices: dict[str, Any] = field(default_factory=dict)

    def at(self, env: dict[str, Entry]) -> Any:
        """Return what the rule (or list) holds for the values bound so far."""
        if self.key is None:
            return self.choices["*"]
        var, form = self.key
        return self.choices.get(env[var][form]) or self.choices["*"]


@dataclass(eq=False, slots=True)
class WordList(Rule):
    """A named list of entries; with a key, one for each value of a variable."""

    forms: list[str] = field(default_factory=list)
    variables: set[str] = field(default_factory=set)  # bound by picks from it

    def free(self, env: dict[str, Entry]) -> list[Entry]:
        """Return the entries that no variable holds yet.

        Raises:
            ValueError: As in `taken`.
        """
        entries: list[Entry] = self.at(env)
        if env.keys().isdisjoint(self.variables):
            return entries
        taken = self.taken(entries, env)
        return [entry for entry in entries if entry.index not in taken]

    def taken(self, entries: list[Entry], env: dict[str, Entry]) -> list[int]:
        """Return the places of the entries that variables already hold.

        Raises:
            ValueError: If these are all entries; the message names the list's line.
        """
        held = [env[name] for name in self.variables if name in env]
        places = [entry.index for entry in held if entry.home is entries]
        if len(places) == len(entries):
            raise ValueError(
                f"line {self.line}: the list {self.name!r} must have more entries than "
                f"are taken from it, got {len(entries)}"
            )
        return places


@dataclass(frozen=True, slots=True, eq=False)
class Ref:
    """Write a form of a bound variable."""

    var: str
    form: str


@dataclass(frozen=True, slots=True, eq=False)
class Pick:
    """Pick a free entry of a list, write a form of it, and bind it."""

    var: str  # empty: do not bind
    form: str
    source: WordList


@dataclass(frozen=True, slots=True, eq=False)
class Note:
    """Bind a variable to a fixed value and write nothing."""

    var: str
    entry: Entry


Item: TypeAlias = str | Ref | Pick | Note | Rule  # a rule is to be expanded
Env: TypeAlias = dict[str, Entry]  # the bound variables


@dataclass(eq=False, slots=True)
class Cell:
    """An item still to be written, and the cells after it.

    Derivations with the same items left to write share their cells, so a cell and the
    bound variables together determine all that can follow.
    """

    item: Item
    then: "Cell | None"


NAME = r"[a-z][a-z0-9_]*"
HEADER = re.compile(rf"(rule|list) ({NAME})(?: @ ({NAME})(?:\.({NAME}))?)?(?:: (.+))?")
FIELD = re.compile(rf"([A-Za-z][a-z0-9_]*)?(?:\.({NAME}))?(?:(=|: )([^{{}}]+))?")
TOKEN = re.compile(r"\{[^{}<>|\[\]]*\}|<[^{}<>|\[\]]*>|[\[\]|]|[^\[\]|{}<>]+|.")


class Reader:
    """Turns the text of a grammar into linked rules and lists."""

    def __init__(self, text: str) -> None:
        self.rules: dict[str, Rule] = {}
        self.lists: dict[str, WordList] = {}
        self.mentions: set[Key] = set()  # the forms of variables that are written
        block: Rule | None = None
        for self._line, indent, words in _logical_lines(text):
            if indent == 0:
                block = self._open(words)
            elif isinstance(block, WordList):
                self._entries(block, words)
            elif block is not None:
                keys, rest = self._keys(block, words)
                for key in keys:
                    choice = block.choices.setdefault(key, Choice())
                    self._add(choice, TOKEN.findall(rest), closing="")
            else:
                raise self._fault("indented text before any rule or list")
        for kind, blocks in (("rule", self.rules), ("list", self.lists)):
            for each in blocks.values():
                if not each.choices:
                    self._line = each.line
                    raise self._fault(f"unknown or empty {kind} {each.name!r}")

    def _fault(self, problem: str) -> ValueError:
        return ValueError(f"line {self._line}: {problem}")

    def _rule(self, name: str) -> Rule:
        return self.rules.setdefault(name, Rule(name, self._line))

    def _list(self, name: str) -> WordList:
        return self.lists.setdefault(name, WordList(name, self._line))

    def _open(self, words: str) -> Rule:
        match = HEADER.fullmatch(words)
        if match is None:
            raise self._fault(f"wanted 'rule NAME' or 'list NAME', got {words!r}")
        kind, name, var, form, columns = match.groups()
        block: Rule = self._list(name) if kind == "list" else self._rule(name)
        if block.choices:
            raise self._fault(f"{kind} {name!r} is defined twice")
        block.key = (var, form or "word") if var else None
        block.line = self._line
        if isinstance(block, WordList):
            block.forms = [c.strip() for c in (columns or "word").split("|")]
        return block

    def _keys(self, block: Rule, words: str) -> tuple[list[str], str]:
        if block.key is None:
            return ["*"], words
        keys, colon, rest = words.partition(": ")
        if not colon:
            wanted = f"{block.name!r} has a key, so wanted 'KEY: …'"
            raise self._fault(f"{wanted}, got {words!r}")
        return [key.strip() for key in keys.split(",")], rest.strip()

    def _entries(self, block: WordList, words: str) -> None:
        keys, rest = self._keys(block, words)
        fixed = dict(form.split("=") for form in block.forms if "=" in form)
        open_forms = [form for form in block.forms if "=" not in form]
        if "word" not in open_forms:
            raise self._fault(f"list {block.name!r} needs the form 'word'")
        for key in keys:
            entries = block.choices.setdefault(key, [])
            for cell in rest.split(","):
                values = [value.strip() for value in cell.split("|")]
                if len(values) != len(open_forms) or not all(values):
                    wanted = " | ".join(open_forms)
                    raise self._fault(f"wanted {wanted}, got {cell.strip()!r}")
                entry = Entry(zip(open_forms, values, strict=True), **fixed)
                word = entry["word"]
                if any(word == other["word"] for other in entries):
                    raise self._fault(f"{word!r} occurs twice in list {block.name!r}")
                entry.home, entry.index = entries, len(entries)
                entries.append(entry)

    def _add(self, choice: Choice, tokens: list[str], closing: str) -> None:
        """Read alternatives into a choice, up to the closing bracket."""
        items: list[Item] = []
        weight = 1.0
        while True:
            token = tokens.pop(0) if tokens else ""
            if token in ("", "]") or (token == "|" and closing):
                if token != closing and token != "|":
                    raise self._fault("a bracket is open or closed without its partner")
                choice.alternatives.append(tuple(items))
                choice.weights.append(weight)
                if token == closing:
                    return
                items, weight = [], 1.0
            elif not items and (match := re.match(r"\((\d+)\) ?", token)):
                weight = float(match[1])
                if weight == 0:
                    raise self._fault("wanted a weight above 0, got 0")
                if token[match.end() :]:
                    items.append(token[match.end() :])
            elif token == "[":
                inner = Rule(f"choice in line {self._line}", self._line)
                inner.choices["*"] = Choice()
                self._add(inner.choices["*"], tokens, closing="]")
                items.append(inner)
            else:
                items.append(self._item(token))

    def _item(self, token: str) -> Item:
        if token[0] == "<" and re.fullmatch(f"<{NAME}>", token):
            return self._rule(token[1:-1])
        if token in ("|", "{", "}", "<", ">"):
            raise self._fault(f"stray {token!r} in a template")
        if token[0] != "{":
            return token
        match = FIELD.fullmatch(token[1:-1])
        if match is None or token == "{}":
            raise self._fault(f"cannot read the field {token}")
        var, form, sign, value = match.groups()
        var, form = var or "", form or "word"
        form = form.capitalize() if var[:1].isupper() else form
        var = var.lower()
        if sign == ": ":
            entry = Entry(word=value)
            entry.home, entry.index = [entry], 0
            return Note(var, entry)
        self.mentions.add((var, form))
        if sign == "=":
            source = self._list(value)
            source.variables.add(var)
            source.variables.discard("")
            return Pick(var, form, source)
        return Ref(var, form)


def _logical_lines(text: str) -> list[tuple[int, int, str]]:
    """Return (line number, indent, words) of lines, with continuations joined on."""
    lines: list[tuple[int, int, str]] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        words = raw.strip()
        indent = len(raw) - len(raw.lstrip())
        if not words or words.startswith("#"):
            continue
        if lines and indent > lines[-1][1] > 0:
            lines[-1] = (lines[-1][0], lines[-1][1], f"{lines[-1][2]} {words}")
        else:
            lines.append((number, indent, words))
    return lines
