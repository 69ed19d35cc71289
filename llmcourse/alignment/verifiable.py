"""Rewards that can be checked: short sums in words, and verifiers of their answers.

    question   Kate had nine pears. A fox took two. Howard gave her three. How many
               pears does Kate have now?
    direct     So ten.
    worked     First nine less two is seven. Then seven and three is ten. So ten.

A grammar writes the questions, with the names, foods and animals of the tales and one
to four steps. All totals are from one to twelve, which are single tokens of the
course's tokenizer. The grammar can also read its questions, so the right answer to each
one is known.

Two verifiers judge an answer. `outcome_is_right` looks only at its last number;
`process_is_right` requires every step of the question, all of them right.

>>> question = next(questions(1, n_steps=2, seed=0))
>>> worked = worked_answer(question)
>>> outcome_is_right(question.text, worked), process_is_right(question.text, worked)
(True, True)
>>> direct = direct_answer(question)
>>> outcome_is_right(question.text, direct), process_is_right(question.text, direct)
(True, False)

Source: Cobbe et al. (2021), "Training verifiers to solve math word problems"; Wei et
al. (2022), "Chain-of-thought prompting", for answers that state their steps.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from math import comb
from random import Random
from typing import NamedTuple

from llmcourse.arguments import check_range
from llmcourse.text import tales
from llmcourse.text.grammar import Grammar

MOST_STEPS = 4
LARGEST = 12  # of the totals; the smallest is one
MOST_CHANGE = 3
# A number is the index of its word.
WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve",
)  # fmt: skip
_WORD = f"({'|'.join(WORDS)})"
_BEFORE, _AFTER = r"(?<![\w-])", r"(?![\w-])"  # so not part of "twenty-one"
_NUMBER = re.compile(f"{_BEFORE}{_WORD}{_AFTER}")
_SAID_STEP = re.compile(f"{_BEFORE}{_WORD} (and|less) {_WORD} is {_WORD}{_AFTER}")
_LISTS = re.compile(r"^list (?:girl|boy|pal|species|food)\b.*\n(?:[ \t].*\n)+", re.M)
_STORY = """
rule story
    {hero=girl} had <told>
    {hero=boy} had <told>

rule told
    {first=first} {food.s=food}. EVENTS How many {food.s} does {hero} have now?

list first
    two, three, four, five, six, seven, eight, nine, ten, eleven, twelve
"""
_STEP = """
rule eventN @ BEFORE
    one: <gainN>
    twelve: <lossN>
    *: [<gainN>|<lossN>]

rule gainN
    {=pal} gave {hero.him} {stepN.amount=moreN}.
    {Hero.he} found {stepN.amount=moreN}.

rule lossN
    {TakerN.a=species} took {stepN.amount=fewerN}.
    {Hero.he} gave {=pal} {stepN.amount=fewerN}.
    {Hero.he} ate {stepN.amount=fewerN}.
"""


class Step(NamedTuple):
    """One step of a sum, as it is or as an answer has it."""

    before: int
    change: int
    after: int


@dataclass(frozen=True)
class Question:
    """A short sum in words.

    >>> Question("", totals=(9, 7, 10)).steps[0]
    Step(before=9, change=-2, after=7)
    """

    text: str
    totals: tuple[int, ...]  # at first, and after each step

    @property
    def steps(self) -> list[Step]:
        """The steps of a worked answer."""
        pairs = pairwise(self.totals)
        return [Step(before, after - before, after) for before, after in pairs]


def _grammar_text(n_steps: int) -> str:
    """Return the grammar of questions with that many steps.

    How much a step may change depends on the total before it, so that no total leaves
    its range: the list of step 2 has the total after step 1 as its key.
    """
    events = " ".join(f"<event{n}>" for n in range(1, n_steps + 1))
    parts = [*_LISTS.findall(tales.world_text()), _STORY.replace("EVENTS", events)]
    before = "first"
    for n in range(1, n_steps + 1):
        numbered = r"(event|gain|loss|step|more|fewer|Taker)N"
        step = re.sub(numbered, rf"\g<1>{n}", _STEP)
        parts.append(step.replace("BEFORE", before))
        for name, sign in (("more", 1), ("fewer", -1)):
            parts.append(f"\nlist {name}{n} @ {before}: word | amount | after\n")
            for total in range(1, LARGEST + 1):
                entries = [
                    f"{' '.join(said)} | {said[1]} | {WORDS[total + change]}"
                    for change in (sign * n for n in range(1, MOST_CHANGE + 1))
                    if 1 <= total + change <= LARGEST and (said := _said(change))
                ]
                if entries:
                    parts.append(f"    {WORDS[total]}: {', '.join(entries)}\n")
        before = f"step{n}.after"
    return "".join(parts)


def _said(change: int) -> tuple[str, str]:
    """Return sign and amount of a change, as words."""
    return "and" if change > 0 else "less", WORDS[abs(change)]


@cache
def _grammar(n_steps: int) -> Grammar:
    return Grammar(_grammar_text(n_steps))


def questions(
    n: int, seed: int, n_steps: int | Sequence[int] = range(1, MOST_STEPS + 1)
) -> Iterator[Question]:
    """Yield n questions, the same ones for the same seed on every machine.

    Args:
        n: How many.
        seed: Of the draws.
        n_steps: Steps of every question, or numbers of steps to use in turn.

    Raises:
        ValueError: If n is negative, or a question would have no step or too many.
    """
    turns = [n_steps] if isinstance(n_steps, int) else list(n_steps)
    check_range(0, n=n)
    check_range(1, numbers_of_steps=len(turns))
    for steps in turns:
        check_range(1, MOST_STEPS, n_steps=steps)
    rng = Random(seed)
    for number in range(n):
        story = _grammar(turns[number % len(turns)]).sample(rng)
        yield read_question(story.text)


@lru_cache(maxsize=10_000)
def read_question(text: str) -> Question:
    """Return a question with its totals, as the grammar reads it.

    Raises:
        ValueError: If it is not in the grammar; the message names the wrong word.
    """
    n_steps = min(max(text.count(". ") - 1, 1), MOST_STEPS)
    facts = _grammar(n_steps).parse(text).facts
    totals = [WORDS.index(facts["first"])]
    for number in range(1, n_steps + 1):
        sign, amount = facts[f"step{number}"].split()
        change = WORDS.index(amount)
        totals.append(totals[-1] + (change if sign == "and" else -change))
    return Question(text, tuple(totals))


def direct_answer(question: Question) -> str:
    """Return the answer that states only the last total.

    >>> direct_answer(Question("", totals=(9, 7, 10)))
    'So ten.'
    """
    return f"So {WORDS[question.totals[-1]]}."


def worked_answer(question: Question) -> str:
    """Return the answer that first states each step.

    >>> worked_answer(Question("", totals=(9, 7, 10)))
    'First nine less two is seven. Then seven and three is ten. So ten.'
    """
    said: list[str] = []
    for before, change, after in question.steps:
        opening, (sign, amount) = "Then" if said else "First", _said(change)
        said.append(f"{opening} {WORDS[before]} {sign} {amount} is {WORDS[after]}.")
    return " ".join([*said, direct_answer(question)])


def last_number(answer: str) -> int | None:
    """Return the last number in an answer; None if there is none.

    >>> last_number("First nine less two is six. So seven.")
    7
    """
    found = _NUMBER.findall(answer)
    return WORDS.index(found[-1]) if found else None


def read_steps(answer: str) -> list[Step]:
    """Return the steps that an answer states, right or wrong.

    >>> read_steps("First nine less two is six. So seven.")
    [Step(before=9, change=-2, after=6)]
    """
    steps = []
    for before, sign, amount, after in _SAID_STEP.findall(answer):
        change = WORDS.index(amount) * (1 if sign == "and" else -1)
        steps.append(Step(WORDS.index(before), change, WORDS.index(after)))
    return steps


def outcome_is_right(prompt: str, answer: str) -> bool:
    """Return whether the last number of an answer is right, whatever comes before it.

    Raises:
        ValueError: As in `read_question`.
    """
    return last_number(answer) == read_question(prompt).totals[-1]


def process_is_right(prompt: str, answer: str) -> bool:
    """Return whether an answer states every step and the result, all of them right.

    Raises:
        ValueError: As in `read_question`.
    """
    is_whole = read_steps(answer) == read_question(prompt).steps
    return is_whole and outcome_is_right(prompt, answer)


def pass_at_k(n: int, n_right: int, k: int) -> float:
    """Return the share of all choices of k from n answers that include a right one.

    It is the unbiased estimate of the probability that k new answers include one.

    Args:
        n: Answers that were sampled.
        n_right: Right ones among them.
        k: Answers that may be tried.

    Raises:
        ValueError: If there are more right ones than answers, or k is not from 1 to n.

    Source: Chen et al. (2021), "Evaluating large language models trained on code",
    equation 1.

    >>> pass_at_k(4, 1, 2)  # three of the six pairs have the right one
    0.5
    """
    check_range(0, n, n_right=n_right)
    check_range(1, n, k=k)
    return 1 - comb(n - n_right, k) / comb(n, k)


def vote(answers: Sequence[str]) -> int | None:
    """Return the most frequent last number of answers; in a tie, the one said first.

    Source: Wang et al. (2023), "Self-consistency improves chain of thought reasoning".

    >>> vote(["So ten.", "So six.", "I am a fox.", "So six."])
    6
    """
    said = Counter(n for n in map(last_number, answers) if n is not None)
    return max(said, key=said.__getitem__) if said else None
