"""What can be asked about a tale: the file `data/instructions.txt`, read and filled in.

A topic says for which stories it fits, how the request is worded, and which answers
are right, all as templates over the story's facts in the notation of the grammar::

    who owner @ plot=stray                    kind, name, facts that must hold
        ? Who did the {stray} belong to?      two wordings or more; the last is held out
        ? Who had lost the {stray}?
        ? Name the owner of the {stray}.
        = The {stray} belonged to the {owner}.   the answer, a whole sentence
        = The {owner}.                           and others that are accepted, too

So the data are a text file, as the world itself is. Ask something new there, or word
it differently, and there is more to learn from. What no tale can fit is refused, with
the number of its line.

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

from llmcourse.grammar_file import check
from llmcourse.grammar_parts import Call, Entry
from llmcourse.tales import world

HEADER = re.compile(
    r"(?P<kind>how many|[a-z]+) (?P<name>[a-z]+)"
    r"(?: @ (?P<when>\w+=[^=,]+(?:, \w+=[^=,]+)*))?"
)
FIELD = re.compile(r"\{([A-Za-z][a-z0-9_]*)(?:\.([a-z]+))?\}")

QUESTIONS = ("who", "where", "what", "why", "how many", "list")

# Kinds that are no questions: worded by a task, or tasks, which show these texts.
_ANSWERS_ONLY = ("summarise", "theme", "extra")
_TASK = "task"
_TASK_TEXTS = ("story", "beginning", "end", "tone", "theme", "extras")

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


class _Draft:
    """A topic that is being read: its header, and numbered lines by their marks."""

    def __init__(self, number: int, line: str) -> None:
        match = HEADER.fullmatch(line)
        if match is None:
            raise ValueError(
                f"line {number}: wanted 'KIND NAME' or 'KIND NAME @ FACT=WORD, …', "
                f"got {line!r}"
            )
        self.number, self.kind, self.name = number, match["kind"], match["name"]
        known = (*QUESTIONS, *_ANSWERS_ONLY, _TASK)
        if self.kind not in known:
            raise ValueError(
                f"line {number}: wanted a kind from {', '.join(known)}, "
                f"got {self.kind!r}"
            )
        pairs = match["when"].split(", ") if match["when"] else []
        self.when = dict(pair.split("=") for pair in pairs)
        for name, word in self.when.items():
            if word not in _vocabulary().get(name, ()):
                raise ValueError(
                    f"line {number}: wanted a fact that a tale can have, got "
                    f"'{name}={word}'"
                )
        self.lines: dict[str, list[tuple[int, str]]] = {"?": [], "=": [], "+": []}

    def topic(self) -> Topic:
        """Return the topic, checked."""
        texts = {
            mark: tuple(text for _, text in found) for mark, found in self.lines.items()
        }
        self._check_numbers(*(len(texts[mark]) for mark in "?=+"))
        words = dict(_any_words())
        if self.kind == _TASK:
            words |= {name: Entry(word=name) for name in _TASK_TEXTS}
        listed = {"list": Entry(word="list")} if texts["+"] else {}
        for mark, found in self.lines.items():
            for number, text in found:
                _check_fields(text, words | (listed if mark == "=" else {}), number)
        return Topic(
            kind=self.kind,
            name=self.name,
            when=self.when,
            phrasings=texts["?"],
            answers=texts["="],
            parts=texts["+"],
        )

    def _check_numbers(self, wordings: int, answers: int, parts: int) -> None:
        is_question = self.kind not in (*_ANSWERS_ONLY, _TASK)
        wanted = ""
        if wordings < 2 and self.kind not in _ANSWERS_ONLY:
            wanted = f"at least 2 wordings, the last one to hold out, got {wordings}"
        elif self.kind != _TASK and not answers and not (is_question and parts):
            wanted = "an answer, got none"
        elif parts == 1:
            wanted = "no things of a list or at least 2, got 1"
        if wanted:
            raise ValueError(
                f"line {self.number}: wanted for '{self.kind} {self.name}' {wanted}"
            )


def _check_fields(template: str, words: Mapping[str, Entry], number: int) -> None:
    """Raise ValueError for a template that could never be filled in."""
    try:
        filled = fill(template, words)
    except KeyError as error:
        raise ValueError(
            f"line {number}: wanted facts that a tale can have, in forms that they "
            f"have, got {error} in {template!r}"
        ) from None
    if "{" in filled or "}" in filled:
        raise ValueError(
            f"line {number}: wanted fields as {{name}} or {{name.form}}, got "
            f"{template!r}"
        )


@cache
def _vocabulary() -> Mapping[str, frozenset[str]]:
    """Return the words that each variable of the tales can hold."""
    bound = check((Call(world().rules["story"], line=0),), {})
    return {
        name: frozenset(entry["word"] for entry in entries if entry is not None)
        for name, entries in bound.items()
    }


@cache
def _any_words() -> Mapping[str, Entry]:
    """Return each variable with a word, in all forms that any of its words has."""
    merged: dict[str, Entry] = {}
    for name, words in _vocabulary().items():
        entry = merged[name] = Entry()
        for word in words:
            entry.update(forms({name: word})[name])
    return merged


def read_topics(text: str) -> Iterator[Topic]:
    """Yield the topics of a file in the form that the module's docstring shows.

    Raises:
        ValueError: If a line is no header, or stands under none; if a topic has too
            few wordings, no answer, or a list of one thing; if it names what no tale
            has. The line is named.
    """
    draft: _Draft | None = None
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if not raw[0].isspace():
            if draft is not None:
                yield draft.topic()
            draft = _Draft(number, line)
        elif draft is None or line[0] not in draft.lines:
            raise ValueError(
                f"line {number}: wanted '?', '=' or '+' under a topic, got {line!r}"
            )
        else:
            template = line[1:].strip().replace(" // ", "\n\n")
            draft.lines[line[0]].append((number, template))
    if draft is not None:
        yield draft.topic()


@cache
def topics() -> Mapping[str, tuple[Topic, ...]]:
    """Return the topics of the tales by kind, read once."""
    source = resources.files("llmcourse").joinpath("data/instructions.txt")
    by_kind: dict[str, list[Topic]] = {}
    for topic in read_topics(source.read_text(encoding="utf-8")):
        by_kind.setdefault(topic.kind, []).append(topic)
    return {kind: tuple(found) for kind, found in by_kind.items()}
