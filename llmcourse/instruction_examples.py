"""How an instruction of each kind is made from a tale.

A tale is drawn in two parts, the beginning and the ending, for one kind of task asks
for another ending. Both parts come from the grammar itself, with a mark put where the
rules of the endings begin; a mark takes no randomness, so the tales stay the same.

>>> tale = draw_tale(random.Random(7))
>>> tale.story == world().parse(f"{tale.beginning} {tale.end}")
True
>>> make("summarise", tale, random.Random(7)).phrasing < 7  # the eighth is held out
True
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources

from llmcourse.grammar import Grammar, Story
from llmcourse.grammar_parts import Entry
from llmcourse.instruction_topics import (
    QUESTIONS,
    Topic,
    fill,
    forms,
    topics,
    variables,
)
from llmcourse.tales import world

HELD_OUT_PAIRS = frozenset(
    {
        ("girl", "journey"),
        ("boy", "gift"),
        ("fox", "search"),
        ("otter", "fear"),
        ("rabbit", "seeds"),
        ("mouse", "contest"),
        ("bear", "quarrel"),
        ("hedgehog", "box"),
        ("squirrel", "stray"),
        ("badger", "basket"),
        ("mole", "journey"),
        ("beaver", "contest"),
        ("hamster", "stray"),
        ("raccoon", "quarrel"),
    }
)
"""Kinds of hero and plots that no instruction has together in training."""

KINDS = (*QUESTIONS, "summarise", "continue", "rewrite", "write")

MARK = "¶"  # where an ending begins; no tale has it
_ENDING_RULE = re.compile(r" (?=<(?:\w+_end|home_again)>)")
_SENTENCE_END = re.compile(r"(?<=\.) (?=[A-Z\"])")
_COMPLETIONS = 12  # drawn at most, until one has another ending


@dataclass(frozen=True, kw_only=True)
class Example:
    """An instruction and a right answer, with all that is needed to check others."""

    kind: str  # one of KINDS
    topic: str  # what of that kind
    prompt: str
    answer: str
    story: Story  # what it was made from
    phrasing: int  # number of the wording
    new_phrasing: bool  # the wording does not occur in training
    new_pair: bool  # no instruction in training has this kind of hero in this plot
    accepted: tuple[str, ...] = ()  # right answers, where they can be listed
    beginning: str = ""  # elsewhere: what the answer goes on with,
    wanted: Mapping[str, str] = field(default_factory=dict)  # and what must be in it

    @property
    def held_out(self) -> bool:
        """Whether it must not be learned from."""
        return self.new_phrasing or self.new_pair


@dataclass(frozen=True)
class Tale:
    """A story in two parts, and its words with their forms."""

    story: Story
    beginning: str
    end: str
    words: Mapping[str, Entry]

    @property
    def new_pair(self) -> bool:
        """Whether no instruction in training has this kind of hero in this plot."""
        return (self.story.facts["kind"], self.story.facts["plot"]) in HELD_OUT_PAIRS


def draw_tale(rng: random.Random) -> Tale:
    """Return a tale as `tales.generate` draws it, with its ending apart."""
    marked = _marked().sample(rng)
    beginning, _, end = marked.text.partition(f" {MARK}")
    story = replace(marked, text=f"{beginning} {end}")
    return Tale(story, beginning, end, forms(story.facts))


@cache
def _marked() -> Grammar:
    """Return the grammar of the tales with a mark where a story's ending begins."""
    source = resources.files("llmcourse").joinpath("data/tales.txt")
    text = source.read_text(encoding="utf-8")
    return Grammar(_ENDING_RULE.sub(f" {MARK}", text))


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What a kind of instruction makes of a tale; the fields as in `Example`."""

    topic: str
    wordings: Sequence[str]
    answer: str
    texts: Mapping[str, str] = field(default_factory=dict)  # that the wordings show
    accepted: tuple[str, ...] = ()
    beginning: str = ""
    wanted: Mapping[str, str] = field(default_factory=dict)


def make(
    kind: str, tale: Tale, rng: random.Random, *, new_phrasing: bool = False
) -> Example | None:
    """Return an example of a kind, or None if the tale has nothing of that kind.

    Args:
        kind: One of `KINDS`.
        tale: From `draw_tale`.
        rng: Source of what is left open: topic, wording, where to cut, what to order.
        new_phrasing: Whether to use the wording that training lacks.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"wanted a kind from {', '.join(KINDS)}, got {kind!r}")
    task = _MAKERS.get(kind, _question)(kind, tale, rng)
    if task is None:
        return None
    last = len(task.wordings) - 1
    phrasing = last if new_phrasing else rng.randrange(last)
    texts = {name: Entry(word=text) for name, text in task.texts.items()}
    return Example(
        kind=kind,
        topic=task.topic,
        prompt=fill(task.wordings[phrasing], {**tale.words, **texts}),
        answer=task.answer,
        story=tale.story,
        phrasing=phrasing,
        new_phrasing=new_phrasing,
        new_pair=tale.new_pair,
        accepted=task.accepted,
        beginning=task.beginning,
        wanted=task.wanted,
    )


def _question(kind: str, tale: Tale, rng: random.Random) -> _Task | None:
    topic = _any_topic(kind, tale, rng)
    if topic is None:
        return None
    accepted = topic.right_answers(tale.words)
    # Training has both orders: wordings 2, 5, … come before the story, others after it.
    wordings = [
        f"{question}\n\n{{story}}" if number % 3 == 2 else f"{{story}}\n\n{question}"
        for number, question in enumerate(topic.phrasings)
    ]
    return _Task(
        topic=topic.name,
        wordings=wordings,
        texts={"story": tale.story.text},
        answer=accepted[0],
        accepted=accepted,
    )


def _summarise(kind: str, tale: Tale, rng: random.Random) -> _Task | None:
    topic = _any_topic(kind, tale, rng)
    if topic is None:
        return None
    what = fill(topic.answers[0], tale.words)
    who = ("{hero}, {trait.a} {kind},", "{hero}, {kind.a},", "{hero}")
    accepted = tuple(f"{fill(names, tale.words)} {what}" for names in who)
    return _Task(
        topic=topic.name,
        wordings=_wordings(kind),
        texts={"story": tale.story.text},
        answer=accepted[0],
        accepted=accepted,
    )


def _continue(kind: str, tale: Tale, rng: random.Random) -> _Task | None:
    """Cut a tale after a sentence, in its second or third quarter."""
    text = tale.story.text
    ends = [match.start() for match in _SENTENCE_END.finditer(text)]
    middle = [at for at in ends if 0.25 < at / len(text) < 0.75]
    cuts = [at for at in middle if text.count('"', 0, at) % 2 == 0]  # nobody speaks
    if not cuts:
        return None
    at = rng.choice(cuts)
    return _Task(
        topic="rest",
        wordings=_wordings(kind),
        texts={"beginning": text[:at]},
        answer=text[at + 1 :],
        beginning=text[:at],
    )


def _rewrite(kind: str, tale: Tale, rng: random.Random) -> _Task | None:
    """Draw endings from the grammar until one has another tone."""
    drawn = (world().complete(tale.beginning, rng) for _ in range(_COMPLETIONS))
    old = tale.story.facts["ending"]
    other = next((story for story in drawn if story.facts["ending"] != old), None)
    if other is None:
        return None
    tone = other.facts["ending"]
    return _Task(
        topic=tone,
        wordings=_wordings(kind),
        texts={"beginning": tale.beginning, "end": tale.end, "tone": tone},
        answer=other.text[len(tale.beginning) + 1 :],
        beginning=tale.beginning,
        wanted={"ending": tone},
    )


def _write(kind: str, tale: Tale, rng: random.Random) -> _Task | None:
    """Order a tale: who, what about, where, and up to two things more."""
    theme = _any_topic("theme", tale, rng)
    if theme is None:
        return None
    facts = tale.story.facts
    fitting = {topic.name: topic for topic in topics()["extra"] if topic.fits(facts)}
    where = "place" if "place" in fitting else "home"
    told = {"place", "home"} | {
        n for n, t in fitting.items() if t.fields <= theme.fields
    }
    others = sorted(fitting.keys() - told)
    extras = [where, *rng.sample(others, rng.randrange(3))]
    templates = [theme.answers[0], *(fitting[name].answers[0] for name in extras)]
    ordered = {name for template in templates for name in variables(template)}
    texts = [fill(template, tale.words) for template in templates]
    return _Task(
        topic=theme.name,
        wordings=_wordings(kind),
        texts={"theme": texts[0], "extras": " ".join(texts[1:])},
        answer=tale.story.text,
        wanted={name: facts[name] for name in sorted(ordered | _ALWAYS_ORDERED)},
    )


_ALWAYS_ORDERED = {"hero", "kind", "plot"}
_MAKERS: Mapping[str, Callable[[str, Tale, random.Random], _Task | None]] = {
    "summarise": _summarise,
    "continue": _continue,
    "rewrite": _rewrite,
    "write": _write,
}


def _any_topic(kind: str, tale: Tale, rng: random.Random) -> Topic | None:
    """Return a topic that fits; those of its plot more often than general ones."""
    fitting = [topic for topic in topics()[kind] if topic.fits(tale.story.facts)]
    weighted = [topic for topic in fitting for _ in range(3 if topic.when else 1)]
    return rng.choice(weighted) if weighted else None


def _wordings(task: str) -> tuple[str, ...]:
    return next(t.phrasings for t in topics()["task"] if t.name == task)
