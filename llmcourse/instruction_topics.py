"""What can be asked about a tale: the file `data/instructions.txt`, read and filled in.

A topic says for which stories it fits, how the request is worded, and which answers
are right, all as templates over the story's facts in the notation of the grammar::

    who owner @ plot=stray                    kind, name, facts that must hold
        ? Who did the {stray} belong to?      wordings; the last one is held out
        ? Who had lost the {stray}?
        ? Name the owner of the {stray}.
        = The {stray} belonged to the {owner}.   the answer, a whole sentence
        = The {owner}.                           and others that are accepted, too

So the data are a text file, as the world itself is. Ask something new there, or word
it differently, and there is more to learn from.

>>> fill("{Hero.he} wore {shade.a} {garment}.", forms({
...     "hero": "Mia", "shade": "orange", "garment": "coat"}))
'She wore an orange coat.'
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import permutations

from llmcourse.grammar_parts import Entry
from llmcourse.tales import world

HEADER = re.compile(
    r"(?P<kind>how many|[a-z]+) (?P<name>[a-z]+)(?: @ (?P<when>\w+=.+))?"
)
FIELD = re.compile(r"\{([A-Za-z][a-z0-9_]*)(?:\.([a-z]+))?\}")

# Variables whose words have forms that no rule of thumb gives, and where those stand.
_LISTS = {
    "hero": ("girl", "boy", "sheanimal", "heanimal"),
    "relative": ("relative",),
    "job": ("job",),
    "place": ("place",),
    "wish": ("wish",),
    "plant": ("plant",),
    "count": ("number", "plenty", "years"),
}


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One thing to ask about a story, or to ask for."""

    kind: str
    name: str
    when: Mapping[str, str] = field(default_factory=dict)  # facts that must hold
    phrasings: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()  # of a list: its things, `{list}` in an answer

    @property
    def fields(self) -> frozenset[str]:
        """The variables that the templates write."""
        templates = (*self.phrasings, *self.answers, *self.parts)
        found = frozenset(name for text in templates for name in variables(text))
        return found - {"list"} if self.parts else found

    def fits(self, facts: Mapping[str, str]) -> bool:
        """Whether a story has the facts that the topic is about."""
        return all(facts.get(name) == value for name, value in self.when.items()) and (
            self.fields <= facts.keys()
        )

    def right_answers(self, words: Mapping[str, Entry]) -> tuple[str, ...]:
        """Return all right answers, the one to learn first; lists in any order."""
        if not self.parts:
            return tuple(fill(answer, words) for answer in self.answers)
        things = [fill(part, words) for part in self.parts]
        return tuple(
            fill(answer, {**words, "list": Entry(word=_enumeration(order))})
            for answer in (*self.answers, "{List}.")
            for order in permutations(things)
        )


def variables(template: str) -> tuple[str, ...]:
    """Return the variables that a template writes, in order.

    >>> variables("{Hero} lives with {hero.his} {relative}.")
    ('hero', 'hero', 'relative')
    """
    return tuple(name.lower() for name, _ in FIELD.findall(template))


def fill(template: str, words: Mapping[str, Entry]) -> str:
    """Return a template with its fields written.

    Args:
        template: With `{name}` or `{name.form}`; a capital capitalises.
        words: From `forms`.

    Raises:
        KeyError: If a variable is missing.
    """

    def word(match: re.Match[str]) -> str:
        name, form = match[1], match[2] or "word"
        form = form.capitalize() if name[0].isupper() else form
        return words[name.lower()][form]

    return FIELD.sub(word, template)


def forms(facts: Mapping[str, str]) -> dict[str, Entry]:
    """Return the words of facts with their forms: articles, plurals, pronouns.

    Args:
        facts: As `Story.facts`.
    """
    return {
        name: _irregular().get((_group(name), word)) or Entry(word=word)
        for name, word in facts.items()
    }


def _group(name: str) -> str:
    return "job" if name in ("job1", "job2", "owner", "judge") else name


@cache
def _irregular() -> dict[tuple[str, str], Entry]:
    """Return the entries of the world's lists with forms of their own."""
    found: dict[tuple[str, str], Entry] = {}
    for name, lists in _LISTS.items():
        for entry in (e for each in lists for e in world().lists[each].choices["*"]):
            found.setdefault((name, entry["word"]), Entry()).update(entry)
    return found


def _enumeration(things: tuple[str, ...]) -> str:
    return f"{', '.join(things[:-1])} and {things[-1]}"


def read_topics(text: str) -> Iterator[Topic]:
    """Yield the topics of a file in the form that the module's docstring shows.

    Raises:
        ValueError: If a line is no header, or stands under none; it is named.
    """
    kind, name, when = "", "", ""
    lines: dict[str, list[str]] = {}
    for number, raw in enumerate([*text.splitlines(), "end end"], start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if raw[0].isspace():
            if line[0] not in "?=+" or not lines:
                raise ValueError(
                    f"line {number}: wanted '?', '=' or '+' under a topic, got {line!r}"
                )
            lines[line[0]].append(line[1:].strip().replace(" // ", "\n\n"))
            continue
        if lines:
            yield Topic(
                kind=kind,
                name=name,
                when=dict(pair.split("=") for pair in when.split(", ") if pair),
                phrasings=tuple(lines["?"]),
                answers=tuple(lines["="]),
                parts=tuple(lines["+"]),
            )
        match = HEADER.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number}: wanted 'KIND NAME', got {line!r}")
        kind, name, when = match["kind"], match["name"], match["when"] or ""
        lines = {"?": [], "=": [], "+": []}


@cache
def topics() -> Mapping[str, tuple[Topic, ...]]:
    """Return the topics of the tales by kind, read once."""
    source = resources.files("llmcourse").joinpath("data/instructions.txt")
    by_kind: dict[str, list[Topic]] = {}
    for topic in read_topics(source.read_text(encoding="utf-8")):
        by_kind.setdefault(topic.kind, []).append(topic)
    return {kind: tuple(found) for kind, found in by_kind.items()}
