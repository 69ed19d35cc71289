"""Questions of the form "a is to b as c is to what?", all that a grammar knows of.

The word lists of the tales say which words belong together: a fox cub has a parent, an
animal a cry, a trade its work. Each such relation gives a question for every two of
its pairs, so nobody chooses which are asked:

    baker : kneading :: tailor : ?        right if it is "sewing"

The same lists sort words into classes (colours, trades, …), with which clusters of
vectors can be compared.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Final, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from llmcourse.embeddings import WordVectors, analogy_query
from llmcourse.grammar import Grammar
from llmcourse.grammar_parts import Entry
from llmcourse.shingles import words
from llmcourse.tales import world

Pairs: TypeAlias = Mapping[str, frozenset[str]]  # a word and its right partners

# Class to the lists of the tales whose words, where they are single, belong to it.
CLASSES: Final = {
    "name": ("girl", "boy", "pal", "sheanimal", "heanimal"),
    "animal": ("species", "visitor", "wayfarer", "stray"),
    "trade": ("job",),
    "family": ("relative",),
    "place": ("place",),
    "colour": ("colour", "coat"),
    "food": ("food",),
    "garment": ("garment",),
    "toy": ("toy",),
    "number": ("number", "plenty", "years"),
    "trait": ("trait",),
    "hobby": ("hobby",),
    "weather": ("weather",),
}


def entries(grammar: Grammar, *names: str) -> list[Entry]:
    """Return the entries of some word lists, under all their keys.

    Raises:
        ValueError: If the grammar has no such list.
    """
    if unknown := [name for name in names if name not in grammar.lists]:
        raise ValueError(f"wanted lists of the grammar, got {', '.join(unknown)}")
    choices = [grammar.lists[name].choices.values() for name in names]
    return [entry for lists in choices for held in lists for entry in held]


def word_classes(grammar: Grammar | None = None) -> dict[str, str]:
    """Return the class of each single word that has exactly one, see `CLASSES`.

    >>> classes = word_classes()
    >>> classes["fox"], classes["kite"], "orange" in classes, "honey" in classes
    ('animal', 'toy', True, True)
    """
    grammar = grammar or world()
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, lists in CLASSES.items():
        for entry in entries(grammar, *lists):
            if len(parts := words(entry["word"])) == 1:
                found[parts[0]].add(name)
    return {word: min(names) for word, names in found.items() if len(names) == 1}


def relations(grammar: Grammar | None = None) -> dict[str, Pairs]:
    """Return the relations between words that the lists of the tales hold.

    Of entries of several words, the one that carries the meaning is taken: the last
    of a noun ("big sister"), the first of an activity ("kneading dough").
    """
    grammar = grammar or world()

    def listed(name: str) -> list[Entry]:
        return entries(grammar, name)

    girl, boy = listed("girl")[0], listed("boy")[0]
    she, he = (
        [words(e["word"])[-1] for e in listed("relative") if e["he"] == form]
        for form in ("she", "he")
    )
    gender = [("girl", "boy"), *zip(she, he, strict=True)]
    gender += [(girl[form], boy[form]) for form in ("he", "him", "his", "himself")]
    cries = [(e["word"], e["noise"]) for e in entries(grammar, "visitor", "wayfarer")]
    food = [entry for entry in listed("food") if len(words(entry["word"])) == 1]
    found = {
        "female : male": gender,
        "one : many": [(entry["word"], entry["s"]) for entry in food],
        "number : one less": [(e["word"], e["less"]) for e in listed("number")],
        "young : parent": [(e["word"], e["parent"]) for e in listed("stray")],
        "young : cry": [(e["word"], e["cry"]) for e in listed("stray")],
        "animal : cry": cries,
        "trade : work": [(e["word"], words(e["work"])[0]) for e in listed("job")],
        "place : thing": [*_things_of_places(grammar)],
    }
    return {name: _grouped(pairs) for name, pairs in found.items()}


def _things_of_places(grammar: Grammar) -> Iterator[tuple[str, str]]:
    """Yield each place with each single word of what is found there alone."""
    found = [
        (place, entry["word"])
        for place, held in grammar.lists["thing"].choices.items()
        for entry in held
        if len(words(entry["word"])) == 1
    ]
    places = Counter(word for _, word in found)
    yield from (pair for pair in found if places[pair[1]] == 1)


def _grouped(pairs: Iterable[tuple[str, str]]) -> Pairs:
    grouped: defaultdict[str, set[str]] = defaultdict(set)
    for a, b in pairs:
        grouped[a].add(b)
    return {a: frozenset(partners) for a, partners in grouped.items()}


def questions(pairs: Pairs) -> Iterator[tuple[str, str, str, frozenset[str]]]:
    """Yield every question a : b :: c : ? of a relation, and its right answers.

    Left out are those whose b would be a right answer, for b cannot be given.

    >>> len(list(questions({"a": frozenset("x"), "b": frozenset("xy")})))
    1
    """
    for a, c in permutations(pairs, 2):
        for b in sorted(pairs[a] - pairs[c]):
            yield a, b, c, pairs[c]


@dataclass(frozen=True)
class AnalogyScore:
    """How the questions of one relation were answered.

    The tensors have one value for each word c that was asked about, the mean over
    its questions, in fractions of one. Questions about the same word are not
    independent, so intervals are to be taken over these.
    """

    n_questions: int
    right: Float[Tensor, "word"]  # the best answer is right
    kind: Float[Tensor, "word"]  # it is a partner of some word of the relation
    nearest: Float[Tensor, "word"]  # what lies nearest to c, with no arithmetic, is
    chance: Float[Tensor, "word"]  # a guess among the partners not given is
    copied: Float[Tensor, "word"]  # the best answer is b or c, if they may be given


def score_analogies(vectors: WordVectors, pairs: Pairs) -> AnalogyScore:
    """Return how well sums of vectors answer all questions of a relation.

    As is usual, a, b and c are no answers, for the arithmetic or for the word
    nearest to c alone; `copied` says what happens otherwise. Words without a vector
    are left out of the relation. Both are measured by cosines.

    Args:
        vectors: Of the words; all of them are possible answers.
        pairs: The relation.

    Raises:
        ValueError: If the relation has no question about known words.

    >>> v = WordVectors(["he", "she", "him", "her"],
    ...     torch.tensor([[1.0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1]]))
    >>> pairs = {"he": frozenset({"she"}), "him": frozenset({"her"})}
    >>> score_analogies(v, pairs).right
    tensor([1., 1.])
    """
    vocabulary = frozenset(vectors.words)
    known = {a: pairs[a] & vocabulary for a in pairs if a in vocabulary}
    known = {a: partners for a, partners in known.items() if partners}
    asked = list(questions(known))
    if not asked:
        raise ValueError(
            f"wanted a relation with questions about known words, got {len(known)} of "
            f"{len(pairs)} words with partners among them"
        )
    given = torch.tensor([[vectors.ids[word] for word in q[:3]] for q in asked])
    unit = normalize(vectors.vectors, dim=-1)
    a, b, c = unit[given].unbind(dim=1)  # (Q, D) each
    sums = analogy_query(a, b, c) @ unit.T  # (Q, V)
    answers = [vectors.words[i] for i in _best_other(sums, given)]
    neighbours = [vectors.words[i] for i in _best_other(c @ unit.T, given)]
    copied = (sums.argmax(dim=1)[:, None] == given[:, 1:]).any(dim=1)  # b or c
    kind = frozenset[str]().union(*known.values())
    outcomes = [
        (
            answer in right,
            answer in kind,
            neighbour in right,
            len(right) / len(kind.difference(words)),
            same,
        )
        for (*words, right), answer, neighbour, same in zip(
            asked, answers, neighbours, copied.tolist(), strict=True
        )
    ]
    by_word: defaultdict[str, list[tuple[float, ...]]] = defaultdict(list)
    for (*_, c_word, _), outcome in zip(asked, outcomes, strict=True):
        by_word[c_word].append(outcome)
    means = torch.stack([torch.tensor(held).mean(dim=0) for held in by_word.values()])
    return AnalogyScore(len(asked), *means.unbind(dim=1))


def _best_other(
    scores: Float[Tensor, "question vocab"], given: Int[Tensor, "question 3"]
) -> list[int]:
    """Return the best-scored word of each question that is not given in it."""
    best: list[int] = scores.scatter(1, given, float("-inf")).argmax(dim=1).tolist()
    return best
