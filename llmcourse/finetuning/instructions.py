"""Instructions about tales, with answers that a rule can check.

Questions that need reading, and tasks that need writing, made from stories whose facts
are known:

    kind        task                                          right is
    six kinds   a question: who, where, what, why, how many,  what the facts say
                or a list
    summarise   the story in one sentence                     hero, plot and ending
    continue    the rest of a story                           what makes it a tale
    rewrite     another last paragraph, in a given tone       a tale that ends so
    write       a story to order, with many details           a tale with all of them
    tell        a story to order, in a few words              a tale like that
    brief       a question, under a system prompt that        the same in few words
                wants few words
    unsaid      a question about what is in another story     "The story does not say."
    outside     something unrelated to tales                  "I only know my tales."

What is asked, and how, is in `data/instructions.txt` (for the last kind in
`data/outside.txt`). A topic there says which stories it fits, how the request is
worded, and which answers are right, as templates over the story's facts in the
notation of the grammar:

    who owner @ plot=stray                    kind, name, facts that must hold
        ? Who did the {stray} belong to?      two wordings or more; the last is held out
        ? Who had lost the {stray}?
        ? Name the owner of the {stray}.
        = The {stray} belonged to the {owner}.   the answer, a whole sentence
        = The {owner}.                           and other accepted answers

Two things are kept out of training, to see whether a model has understood rather than
learned by heart: the last wording of every task, and stories whose kind of hero and
plot are in `HELD_OUT_PAIRS`. Plain stories may have such a hero and plot.

A tale is drawn in two parts, the beginning and the ending, because one kind of task
asks for another ending: the grammar gets a mark where the rules of the endings begin.
This uses no randomness, so the tales stay the same. `follow_ups` asks further questions
about the same story.

>>> example = next(examples(1, seed=0, kinds=["who"]))
>>> check(example, example.answer), check(example, "Somebody else.")
(True, False)
>>> fill("{Hero.he} wore {shade.a} {garment}.", forms({
...     "hero": "Mia", "shade": "orange", "garment": "coat"}))
'She wore an orange coat.'
>>> tale = draw_tale(random.Random(7))
>>> tale.story == world().parse(f"{tale.beginning} {tale.end}")
True

Source: Ouyang et al. (2022), "Training language models to follow instructions with
human feedback", section 3, where people wrote prompts and answers; held-out tasks to
measure generalisation as in Wei et al. (2022), "Finetuned language models are
zero-shot learners". Unlike theirs, every answer here is checked by rule.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import permutations
from typing import Literal, TypeAlias

from llmcourse.arguments import check_one_of, check_range
from llmcourse.files import DATA
from llmcourse.finetuning.chat import Message
from llmcourse.text.grammar import Grammar, Story
from llmcourse.text.grammar_text import Entry
from llmcourse.text.tales import parse, world, world_text
from llmcourse.text.tokenizers import Tokenizer

HEADER = re.compile(
    r"(?P<kind>how many|[a-z]+) (?P<name>[a-z]+)"
    r"(?: @ (?P<when>\w+=[^=,]+(?:, \w+=[^=,]+)*))?"
)
FIELD = re.compile(r"\{([A-Za-z][a-z0-9_]*)(?:\.([a-z]+))?\}")

QUESTIONS = ("who", "where", "what", "why", "how many", "list")

# Variables whose words have irregular forms, and the lists that hold these.
_LISTS = {
    "hero": ("girl", "boy", "sheanimal", "heanimal"),
    "relative": ("relative",),
    **dict.fromkeys(("job", "job1", "job2", "owner", "judge"), ("job",)),
    "place": ("place",),
    "wish": ("wish",),
    "plant": ("plant",),
    "count": ("number", "plenty", "years"),
}


@dataclass(frozen=True, kw_only=True)
class Topic:
    """Something to ask about a story, or to ask for."""

    kind: str
    name: str
    when: Mapping[str, str] = field(default_factory=dict)  # facts that must hold
    phrasings: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()  # the items of a list, `{list}` in an answer

    @property
    def fields(self) -> frozenset[str]:
        """The variables that the templates use."""
        templates = (*self.phrasings, *self.answers, *self.parts)
        found = frozenset(name for text in templates for name in variables(text))
        return found - {"list"} if self.parts else found

    def fits(self, facts: Mapping[str, str]) -> bool:
        """Return whether a story has the facts that the topic is about."""
        return all(facts.get(name) == value for name, value in self.when.items()) and (
            self.fields <= facts.keys()
        )

    def right_answers(self, words: Mapping[str, Entry]) -> tuple[str, ...]:
        """Return all right answers, first the one to learn; lists in every order."""
        if not self.parts:
            return tuple(fill(answer, words) for answer in self.answers)
        things = [fill(part, words) for part in self.parts]
        return tuple(
            fill(answer, {**words, "list": Entry(word=_enumeration(order))})
            for answer in (*self.answers, "{List}.")
            for order in permutations(things)
        )


def variables(template: str) -> tuple[str, ...]:
    """Return the variables that a template uses, in order.

    >>> variables("{Hero} lives with {hero.his} {relative}.")
    ('hero', 'hero', 'relative')
    """
    return tuple(name.lower() for name, _ in FIELD.findall(template))


def fill(template: str, words: Mapping[str, Entry]) -> str:
    """Return a template with its fields filled in.

    Args:
        template: With `{name}` or `{name.form}`; `{Name}` capitalises the word.
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
    """Return the facts' words with their forms: articles, plurals, pronouns.

    Args:
        facts: As `Story.facts`.
    """
    return {
        name: _irregular().get((name, word)) or Entry(word=word)
        for name, word in facts.items()
    }


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
    """Yield the topics of a file in the format shown in the module's docstring.

    Raises:
        ValueError: If a line is neither a header nor part of a topic; it is named.
    """
    drafts: list[tuple[re.Match[str], dict[str, list[str]]]] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        header = None if raw[0].isspace() else HEADER.fullmatch(line)
        if header is not None:
            drafts.append((header, {"?": [], "=": [], "+": []}))
        elif drafts and raw[0].isspace() and line[0] in drafts[-1][1]:
            template = line[1:].strip().replace(" // ", "\n\n")
            drafts[-1][1][line[0]].append(template)
        else:
            raise ValueError(
                f"line {number}: wanted 'KIND NAME' or 'KIND NAME @ FACT=WORD, …', and "
                f"'?', '=' or '+' under it, got {line!r}"
            )
    for header, templates in drafts:
        pairs = header["when"].split(", ") if header["when"] else []
        yield Topic(
            kind=header["kind"],
            name=header["name"],
            when=dict(pair.split("=") for pair in pairs),
            phrasings=tuple(templates["?"]),
            answers=tuple(templates["="]),
            parts=tuple(templates["+"]),
        )


@cache
def topics() -> Mapping[str, tuple[Topic, ...]]:
    """Return the topics of the tales by kind, read once."""
    source = DATA / "instructions.txt"
    by_kind: dict[str, list[Topic]] = {}
    for topic in read_topics(source.read_text(encoding="utf-8")):
        by_kind.setdefault(topic.kind, []).append(topic)
    return {kind: tuple(found) for kind, found in by_kind.items()}


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
"""Kinds of hero and plots that no instruction combines in training."""

KINDS = (
    *QUESTIONS,
    *("summarise", "continue", "rewrite", "write", "tell"),
    *("brief", "unsaid", "outside"),  # where the answer has limits
)

UNSAID, OUTSIDE = "The story does not say.", "I only know my tales."

MARK = "¶"  # where an ending begins; no tale contains it
_ENDING_RULE = re.compile(r" (?=<(?:\w+_end|home_again)>)")
_SENTENCE_END = re.compile(r"(?<=\.) (?=[A-Z\"])")
_COMPLETIONS = 12  # drawn at most, to find one with another ending


@dataclass(frozen=True, kw_only=True)
class Example:
    """An instruction and a right answer, with all that is needed to check others."""

    kind: str  # one of KINDS
    topic: str  # which one of that kind
    prompt: str
    answer: str
    story: Story  # what it was made from
    phrasing: int  # number of the wording; the last is held out
    accepted: tuple[str, ...] = ()  # right answers, where they can be listed
    beginning: str = ""  # otherwise: the text that the answer continues,
    wanted: Mapping[str, str] = field(default_factory=dict)  # and what it must contain
    system: str = ""  # what the system prompt asks for

    @property
    def turns(self) -> list[Message]:
        """What the model is asked, with a system prompt if there is one."""
        system = [Message("system", self.system)] if self.system else []
        return [*system, Message("user", self.prompt)]


@dataclass(frozen=True)
class Tale:
    """A story in two parts, and its words with their forms."""

    story: Story
    beginning: str
    end: str
    words: dict[str, Entry]

    @property
    def new_pair(self) -> bool:
        """Whether no instruction in training has this kind of hero in this plot."""
        return (self.story.facts["kind"], self.story.facts["plot"]) in HELD_OUT_PAIRS


def draw_tale(rng: random.Random) -> Tale:
    """Return a tale as `tales.generate` draws it, split before its ending."""
    marked = _marked().sample(rng)
    beginning, _, end = marked.text.partition(f" {MARK}")
    story = replace(marked, text=f"{beginning} {end}")
    return Tale(story, beginning, end, forms(story.facts))


@cache
def _marked() -> Grammar:
    """Return the grammar of the tales with a mark where a story's ending begins."""
    return Grammar(_ENDING_RULE.sub(f" {MARK}", world_text()))


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What a kind of instruction turns a tale into; fields as in `Example`."""

    topic: str
    wordings: Sequence[str] = ()  # by default those of the kind
    answer: str = ""  # the first of those accepted, if there are any
    texts: Mapping[str, str] = field(default_factory=dict)  # more to fill in
    accepted: tuple[str, ...] = ()
    beginning: str = ""
    wanted: Mapping[str, str] = field(default_factory=dict)
    systems: Sequence[str] = ("",)  # system prompts, the last one being held out


class _UnfitTaleError(Exception):
    """A tale does not allow an instruction of some kind."""


def make(
    kind: str, tale: Tale, rng: random.Random, *, new_phrasing: bool = False
) -> Example | None:
    """Return an example of a kind, or None if the tale does not allow one.

    Args:
        kind: One of `KINDS`.
        tale: From `draw_tale`.
        rng: Source of all choices: topic, wording, where to cut, what to order.
        new_phrasing: Whether to use the wording that training lacks.
    """
    try:
        task = _MAKERS.get(kind, _question)(kind, tale, rng)
    except _UnfitTaleError:
        return None
    wordings = task.wordings or _wordings(kind)
    last = len(wordings) - 1
    phrasing = last if new_phrasing else rng.randrange(last)
    texts = {"story": tale.story.text, "beginning": task.beginning, "end": tale.end}
    filled = {name: Entry(word=text) for name, text in (texts | {**task.texts}).items()}
    *systems, new_system = task.systems
    return Example(
        kind=kind,
        topic=task.topic,
        prompt=fill(wordings[phrasing], tale.words | filled),
        answer=task.answer or task.accepted[0],
        story=tale.story,
        phrasing=phrasing,
        accepted=task.accepted,
        beginning=task.beginning,
        wanted=task.wanted,
        system=rng.choice(systems) if systems and not new_phrasing else new_system,
    )


def _question(kind: str, tale: Tale, rng: random.Random) -> _Task:
    topic = _any_topic(kind, tale, rng)
    return _Task(
        topic=topic.name,
        wordings=_with_story(topic.phrasings),
        accepted=topic.right_answers(tale.words),
    )


def _with_story(questions: Sequence[str]) -> list[str]:
    """Return wordings in both orders: 2, 5, … come before the story, others after."""
    return [
        f"{question}\n\n{{story}}" if number % 3 == 2 else f"{{story}}\n\n{question}"
        for number, question in enumerate(questions)
    ]


def _brief(kind: str, tale: Tale, rng: random.Random) -> _Task:
    """Ask a question that has an answer shorter than a sentence, and require it."""
    asked = _question(rng.choice(QUESTIONS), tale, rng)
    if not (short := _shorter(asked.accepted)):
        raise _UnfitTaleError
    return replace(asked, accepted=short, systems=_wordings(kind))


def _shorter(accepted: Sequence[str]) -> tuple[str, ...]:
    """Return the right answers that are shorter than the first one."""
    first, *others = (len(normalised(text)) for text in accepted)
    pairs = zip(accepted[1:], others, strict=True)
    return tuple(text for text, length in pairs if length < first)


def _unsaid(kind: str, tale: Tale, rng: random.Random) -> _Task:
    """Ask about something that is in another story, but not in this one."""
    other, words = draw_tale(rng), tale.words
    topic = _any_topic(rng.choice(QUESTIONS), other, rng)
    if topic.fits(tale.story.facts):
        raise _UnfitTaleError
    # What is in every story, such as the hero, is taken from this one.
    shared = {name: words[name] for name in _IN_EVERY_STORY}
    words = {**other.words, **shared, "story": Entry(word="{story}")}  # filled in later

    def asks_for_it(question: str) -> bool:
        names = {*variables(question)} - _IN_EVERY_STORY
        return any(words[name]["word"] not in tale.story.text for name in names)

    *seen, new = topic.phrasings
    fitting = [*filter(asks_for_it, seen)]
    if not fitting or not asks_for_it(new):
        raise _UnfitTaleError
    return _Task(
        topic=topic.name,
        wordings=[fill(wording, words) for wording in _with_story([*fitting, new])],
        accepted=(UNSAID,),
    )


def _outside(kind: str, tale: Tale, rng: random.Random) -> _Task:
    """Ask something that no tale answers."""
    wordings = []
    for split in ("seen", "new"):
        drawn = (_not_tales().sample(rng) for _ in range(_TRIES))
        wordings += [next(d.text for d in drawn if d.facts["wording"] == split)]
    return _Task(topic=kind, wordings=wordings, accepted=(OUTSIDE,))


@cache
def _not_tales() -> Grammar:
    """Return the grammar of requests that no tale answers."""
    source = DATA / "outside.txt"
    return Grammar(source.read_text(encoding="utf-8"))


def _summarise(kind: str, tale: Tale, rng: random.Random) -> _Task:
    topic = _any_topic(kind, tale, rng)
    what = fill(topic.answers[0], tale.words)
    who = ("{hero}, {trait.a} {kind},", "{hero}, {kind.a},", "{hero}")
    return _Task(
        topic=topic.name,
        accepted=tuple(f"{fill(names, tale.words)} {what}" for names in who),
    )


def _continue(kind: str, tale: Tale, rng: random.Random) -> _Task:
    """Cut a tale after a sentence, in its second or third quarter."""
    text = tale.story.text
    ends = [match.start() for match in _SENTENCE_END.finditer(text)]
    middle = [at for at in ends if 0.25 < at / len(text) < 0.75]
    cuts = [at for at in middle if text.count('"', 0, at) % 2 == 0]  # not within speech
    if not cuts:
        raise _UnfitTaleError
    at = rng.choice(cuts)
    return _Task(topic="rest", answer=text[at + 1 :], beginning=text[:at])


def _rewrite(kind: str, tale: Tale, rng: random.Random) -> _Task:
    """Draw endings from the grammar until one has another tone."""
    drawn = (world().complete(tale.beginning, rng) for _ in range(_COMPLETIONS))
    old = tale.story.facts["ending"]
    other = next((story for story in drawn if story.facts["ending"] != old), None)
    if other is None:
        raise _UnfitTaleError
    tone = other.facts["ending"]
    return _Task(
        topic=tone,
        texts={"tone": tone},
        answer=other.text[len(tale.beginning) + 1 :],
        beginning=tale.beginning,
        wanted={"ending": tone},
    )


def _write(kind: str, tale: Tale, rng: random.Random) -> _Task:
    """Order a tale: who, what about, where, and up to two more things."""
    theme = _any_topic("theme", tale, rng)
    facts = tale.story.facts
    fitting = {topic.name: topic for topic in topics()["extra"] if topic.fits(facts)}
    where = "place" if "place" in fitting else "home"
    taken = {"place", "home"} | {
        n for n, t in fitting.items() if t.fields <= theme.fields
    }
    others = sorted(fitting.keys() - taken)
    extras = [where, *rng.sample(others, rng.randrange(3))]
    templates = [theme.answers[0], *(fitting[name].answers[0] for name in extras)]
    ordered = {name for template in templates for name in variables(template)}
    texts = [fill(template, tale.words) for template in templates]
    return _Task(
        topic=theme.name,
        texts={"theme": texts[0], "extras": " ".join(texts[1:])},
        answer=tale.story.text,
        wanted={name: facts[name] for name in sorted(ordered | _ALWAYS_ORDERED)},
    )


def _tell(kind: str, tale: Tale, rng: random.Random) -> _Task:
    """Order a tale in a few words: what about, how it ends, or neither."""
    about = _any_topic("about", tale, rng)
    form = rng.choice([t for t in topics()["form"] if not t.fields & about.fields])
    order = fill(f"{form.answers[0]} {about.answers[0]}".strip(), tale.words)
    facts, ordered = tale.story.facts, form.fields | about.fields | about.when.keys()
    return _Task(
        topic=about.name,
        texts={"order": order},
        answer=tale.story.text,
        wanted={name: facts[name] for name in sorted(ordered)},
    )


_ALWAYS_ORDERED = {"hero", "kind", "plot"}
_MAKERS: Mapping[str, Callable[[str, Tale, random.Random], _Task]] = {
    "summarise": _summarise,
    "continue": _continue,
    "rewrite": _rewrite,
    "write": _write,
    "tell": _tell,
    "brief": _brief,
    "unsaid": _unsaid,
    "outside": _outside,
}
_TELLING = ("continue", "write", "tell")  # the answer ends the story, or is the story
_IN_EVERY_STORY = frozenset(
    ["hero", "kind", "trait", "relative", "home", "shade", "garment", "hobby"]
)


def _any_topic(kind: str, tale: Tale, rng: random.Random) -> Topic:
    """Return a random topic that fits; those of its plot are three times as likely."""
    fitting = [topic for topic in topics()[kind] if topic.fits(tale.story.facts)]
    weighted = [topic for topic in fitting for _ in range(3 if topic.when else 1)]
    if not weighted:
        raise _UnfitTaleError
    return rng.choice(weighted)


def _wordings(task: str) -> tuple[str, ...]:
    return next(t.phrasings for t in topics()["task"] if t.name == task)


HeldOut: TypeAlias = bool | Literal["phrasing", "pair"]

_TRIES = 5000  # stories without a fitting example before giving up


def examples(
    n: int,
    seed: int,
    *,
    kinds: Sequence[str] = KINDS,
    held_out: HeldOut = False,
    tokenizer: Tokenizer | None = None,
    max_tokens: int = 420,
) -> Iterator[Example]:
    """Yield n examples, the same ones for the same arguments on every machine.

    Args:
        n: How many.
        seed: Of the stories and of what is asked. Evaluate with another one.
        kinds: Kinds to draw from, with equal probability.
        held_out: False for training. "phrasing" gives wordings that training lacks,
            "pair" stories of `HELD_OUT_PAIRS`, True both at once.
        tokenizer: If given, long examples are skipped.
        max_tokens: Most tokens of system prompt, prompt and answer together.

    Raises:
        ValueError: If n is negative, a kind is unknown or none is named, or
            `held_out` is none of the four. On iteration: if nothing is short enough.
    """
    check_range(0, n=n)
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"wanted kinds from {', '.join(KINDS)}, got {list(kinds)}")
    check_one_of("held_out", held_out, (False, True, "phrasing", "pair"))
    rng = random.Random(f"instructions {seed}")

    def fits(example: Example) -> bool:
        if tokenizer is None:
            return True
        texts = (example.system, example.prompt, example.answer)
        return sum(len(tokenizer.encode(text)) for text in texts) <= max_tokens

    return (_one(rng.choice(kinds), rng, held_out, fits) for _ in range(n))


def _one(
    kind: str, rng: random.Random, held_out: HeldOut, fits: Callable[[Example], bool]
) -> Example:
    """Return the first example that fits, from as many stories as it takes."""
    new_pair, new_phrasing = held_out in (True, "pair"), held_out in (True, "phrasing")
    for _ in range(_TRIES):
        tale = draw_tale(rng)
        if tale.new_pair != new_pair:
            continue
        example = make(kind, tale, rng, new_phrasing=new_phrasing)
        if example is not None and fits(example):
            return example
    raise ValueError(f"found no example of kind {kind!r} that fits in {_TRIES} stories")


def check(example: Example, answer: str) -> bool:
    """Return whether an answer is right; no text raises an error.

    If the right answers can be listed, it must be one of them, up to case, punctuation,
    articles and "because". Otherwise, together with the beginning that was given, it
    must be a tale, to the last letter, with the facts that were asked for.
    """
    if example.accepted:
        return normalised(answer) in {normalised(text) for text in example.accepted}
    try:
        facts = parse(f"{example.beginning} {answer.strip()}".strip()).facts
    except ValueError:
        return False
    return all(facts.get(name) == word for name, word in example.wanted.items())


def normalised(answer: str) -> tuple[str, ...]:
    """Return the words of an answer that count.

    Marks count only within a word, so that neither quotes nor dashes stick to it.

    >>> normalised("- 'Because the owl had a SILVER bell'")
    ('owl', 'had', 'silver', 'bell')
    """
    words = re.findall(r"\w+(?:['-]\w+)*", answer.lower())
    return tuple(w for w in words if w not in ("a", "an", "the", "because"))


def follow_ups(example: Example, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield each other question that can be asked about a story, with its answer.

    They come in random order, in wordings that training may see; if few words were
    wanted, the answers stay short. A story that the answer tells can also be asked
    about. For "summarise", "rewrite" and "outside" there are none.

    Args:
        example: What was asked first.
        rng: Source of order and wordings.

    >>> first = next(examples(1, seed=0, kinds=["who"]))
    >>> more = list(follow_ups(first, random.Random(0)))
    >>> len(more) > 5, any(first.story.text in question for question, _ in more)
    (True, False)
    """
    brief, words = example.kind == "brief", forms(example.story.facts)
    if not brief and example.kind not in (*QUESTIONS, *_TELLING, "unsaid"):
        return
    left = [
        topic
        for kind in QUESTIONS
        for topic in topics()[kind]
        if topic.fits(example.story.facts)
        and (topic.name != example.topic or (kind != example.kind and not brief))
    ]
    rng.shuffle(left)
    for topic in left:
        answers = topic.right_answers(words)
        if chosen := _shorter(answers) if brief else answers:
            wording = rng.choice(topic.phrasings[:-1])
            yield fill(wording, words), chosen[0]
