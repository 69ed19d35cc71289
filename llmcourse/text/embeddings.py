"""Vectors for words: similarity, maps, skip-gram training, analogies.

Three measures of how alike two vectors are; larger means more alike:

    dot         x · y             grows with the length of both
    cosine      x · y / |x| |y|   the angle alone
    euclidean   −|x − y|          the distance, lengths included

They work for any vectors: those of skip-gram, or the rows of a language model's
embedding matrix.

*Skip-gram with negative sampling* learns vectors from the contexts of words. Each word
of a text learns to tell the words around it from words drawn at random:

    there was a brave [girl] called Mia in …
                brave, called, Mia: the context    → score up
                soup, lantern, slept: the noise    → score down

A word has two vectors, one as the centre and one as a context; the score of a pair is
their dot product. The gradient is written out below, without autograd.

*Analogies* are questions of the form "a is to b as c is to what?". The word lists of
the tales say which words belong together: a fox cub has a parent, an animal a cry, a
trade its work. Each such relation gives a question for every two of its pairs, so
the questions are not hand-picked:

    baker : kneading :: tailor : ?        right if it is "sewing"

The same lists sort words into classes (colours, trades, …) to compare clusters of
vectors with.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Final, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from llmcourse.arguments import check_one_of, check_positive, check_range
from llmcourse.text.deduplication import words
from llmcourse.text.grammar import Grammar
from llmcourse.text.grammar_text import Entry
from llmcourse.text.tales import world

SIMILARITIES: Final = ("cosine", "euclidean", "dot")


def similarities(
    queries: Float[Tensor, "*batch d_model"],
    vectors: Float[Tensor, "vocab d_model"],
    kind: str = "cosine",
) -> Float[Tensor, "*batch vocab"]:
    """Return how alike each query is to each vector; larger means more alike.

    Cosines have no unit and lie in −1 … 1, dot products and distances are in the
    units of the vectors. The cosine with a vector of zeros is 0.

    Raises:
        ValueError: If the kind is not one of the three.

    >>> x, others = torch.tensor([1.0, 0.0]), torch.tensor([[3.0, 4.0], [1.0, 1.0]])
    >>> [similarities(x, others, kind).tolist() for kind in ("dot", "euclidean")]
    [[3.0, 1.0], [-4.47..., -1.0]]
    """
    check_one_of("kind", kind, SIMILARITIES)
    if kind == "dot":
        return queries @ vectors.T
    if kind == "cosine":
        return normalize(queries, dim=-1) @ normalize(vectors, dim=-1).T
    # Subtract one by one: the shortcut by squares loses small distances.
    distances: Tensor = (queries.unsqueeze(-2) - vectors).norm(dim=-1)
    return -distances


class WordVectors:
    """Words, each with its vector.

    Args:
        words: Distinct words.
        vectors: One row for each.

    Raises:
        ValueError: If a word occurs twice, or words and rows differ in number.

    >>> v = WordVectors(["hen", "cow", "tin"], torch.tensor([[2.0, 1], [1, 1], [0, 1]]))
    >>> v["cow"]
    tensor([1., 1.])
    >>> [word for word, _ in v.nearest("hen", k=2)]
    ['cow', 'tin']
    """

    def __init__(
        self, words: Sequence[str], vectors: Float[Tensor, "vocab d_model"]
    ) -> None:
        self.words, self.vectors = list(words), vectors
        self.ids = {word: i for i, word in enumerate(self.words)}
        if not len(self.ids) == len(self.words) == len(vectors):
            raise ValueError(
                f"wanted one vector for each distinct word, got {len(vectors)} for "
                f"{len(self.words)} words, {len(self.ids)} of them distinct"
            )

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.ids

    def __getitem__(self, word: str) -> Float[Tensor, "d_model"]:
        return self.vectors[self._id(word)]

    def only(self, words: Iterable[str]) -> "WordVectors":
        """Return the vectors of some words, in the order given.

        Raises:
            ValueError: If a word is unknown, or occurs twice.
        """
        chosen = list(words)
        return WordVectors(chosen, self.vectors[[self._id(word) for word in chosen]])

    def nearest(
        self, word: str, k: int = 5, kind: str = "cosine"
    ) -> list[tuple[str, float]]:
        """Return the k other words most like a word, and their similarities.

        Raises:
            ValueError: If word or kind is unknown, or there are fewer than k others.
        """
        check_range(1, len(self) - 1, k=k)
        scores = similarities(self[word], self.vectors, kind)
        scores[self.ids[word]] = -math.inf
        values, ids = scores.topk(k)
        names = [self.words[i] for i in ids.tolist()]
        return list(zip(names, values.tolist(), strict=True))

    def _id(self, word: str) -> int:
        if word not in self.ids:
            raise ValueError(f"wanted one of {len(self)} known words, got {word!r}")
        return self.ids[word]


def analogy_query(
    a: Float[Tensor, "*batch d_model"],
    b: Float[Tensor, "*batch d_model"],
    c: Float[Tensor, "*batch d_model"],
) -> Float[Tensor, "*batch d_model"]:
    """Return where the answer to "a is to b as c is to what?" should lie, no unit.

    Take the step from a to b, starting at c. All three are scaled to length 1 first,
    so that no word counts more because its vector is long.

    Source: Mikolov, Yih and Zweig (2013), "Linguistic regularities in continuous
    space word representations", section 4.

    >>> analogy_query(*torch.tensor([[1.0, 0], [0, 1], [1, 0]]))
    tensor([0., 1.])
    """
    return normalize(b, dim=-1) - normalize(a, dim=-1) + normalize(c, dim=-1)


class Projection(NamedTuple):
    """What `project` returns."""

    points: Float[Tensor, "vocab component"]  # the projected vectors
    directions: Float[Tensor, "component d_model"]  # unit vectors, at right angles
    explained: Float[Tensor, "component"]  # share of the variance along each


def project(
    vectors: Float[Tensor, "vocab d_model"], n_components: int = 2
) -> Projection:
    """Return the principal components: the map that keeps most of the variance.

    The mean is subtracted; the directions are the first right singular vectors of
    what is left, and each explains its squared singular value's share. A direction
    and its opposite explain the same, so each is turned to make its largest
    coordinate positive: the map does not flip from one computer to another.

    Args:
        vectors: At least two.
        n_components: How many directions to keep.

    Raises:
        ValueError: If there are no more vectors or fewer coordinates than components,
            or all vectors are equal.

    Source: Pearson (1901), "On lines and planes of closest fit".

    >>> points, _, explained = project(torch.tensor([[0.0, 0], [2, 0], [4, 0]]), 1)
    >>> points.squeeze(1).tolist(), explained.item()
    ([-2.0, 0.0, 2.0], 1.0)
    """
    check_range(1, min(len(vectors) - 1, vectors.shape[1]), n_components=n_components)
    centred = vectors - vectors.mean(dim=0)
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    if not sizes[0] > 0:
        raise ValueError("wanted vectors that differ, got all equal")
    directions = directions[:n_components]
    largest = directions.abs().argmax(dim=1, keepdim=True)
    directions = directions * directions.gather(1, largest).sign()
    explained = sizes.square() / sizes.square().sum()
    return Projection(centred @ directions.T, directions, explained[:n_components])


def neighbour_purity(
    vectors: Float[Tensor, "vocab d_model"], labels: Int[Tensor, "vocab"]
) -> Float[Tensor, "vocab"]:
    """Return, for each vector, 1 if the one nearest to it has the same label, else 0.

    Nearest is measured by cosine. The mean measures how well the labels' groups
    separate: 1 if every vector lies among its own, about the groups' own shares if
    labels mean nothing.

    Raises:
        ValueError: If there are fewer than two vectors.

    >>> pairs = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> neighbour_purity(pairs, labels=torch.tensor([0, 0, 1, 0]))
    tensor([1., 1., 0., 0.])
    """
    check_range(2, n_vectors=len(vectors))
    scores = similarities(vectors, vectors).fill_diagonal_(-math.inf)
    return (labels[scores.argmax(dim=1)] == labels).float()


@dataclass(frozen=True, kw_only=True)
class SkipGramConfig:
    """Sizes of the vectors and of their training."""

    d_model: int = 48
    window: int = 5  # farthest word that counts as context
    n_negatives: int = 5  # noise words for each context word
    min_count: int = 5  # rarer words are left out
    subsampling: float = 1e-3  # words with more than this share are thinned out
    noise_power: float = 0.75  # noise is drawn by counts to this power
    epochs: int = 4
    batch_size: int = 512  # pairs
    learning_rate: float = 0.1  # at the start; it falls to zero

    def __post_init__(self) -> None:
        """Raise ValueError for a size that cannot work."""
        check_positive(**{**vars(self), "noise_power": None})


@dataclass(frozen=True)
class CountedTexts:
    """Texts as rows of word ids, the most frequent word being 0."""

    words: list[str]
    counts: Int[Tensor, "vocab"]
    ids: Int[Tensor, "n"]  # all texts, one after the other
    text_of: Int[Tensor, "n"] = field(repr=False)  # which text each id is from


@dataclass(frozen=True)
class SkipGram:
    """The result of training."""

    vectors: WordVectors  # of the words in the middle
    losses: list[float]  # mean of each hundred batches, in nats per pair


def count_texts(texts: Iterable[str], min_count: int = 1) -> CountedTexts:
    """Return texts as word ids, without case, punctuation and rare words.

    Args:
        texts: Any texts; words are cut by `deduplication.words`.
        min_count: Words that occur less often are left out.

    Raises:
        ValueError: If no word is left.

    >>> count_texts(["The hen.", "The hen and the cow."], min_count=2).ids.tolist()
    [0, 1, 0, 1, 0]
    """
    rows = [words(text) for text in texts]
    counts = Counter(word for row in rows for word in row)
    kept = [word for word in counts if counts[word] >= min_count]
    kept.sort(key=lambda word: (-counts[word], word))
    if not kept:
        raise ValueError(f"wanted words that occur {min_count} times, got none")
    ids = {word: i for i, word in enumerate(kept)}
    pairs = torch.tensor(
        [(ids[w], text) for text, row in enumerate(rows) for w in row if w in ids]
    )
    frequency = torch.tensor([counts[word] for word in kept])
    return CountedTexts(kept, frequency, *pairs.unbind(dim=1))


def noise_distribution(
    counts: Int[Tensor, "vocab"], power: float | int = 0.75
) -> Float[Tensor, "vocab"]:
    """Return each word's probability of being drawn as noise, as fractions of one.

    Source: Mikolov et al. (2013), "Distributed representations", section 2.2.

    >>> noise_distribution(torch.tensor([16, 1]))  # 16 to the power 3/4 is 8
    tensor([0.8889, 0.1111])
    """
    weights = counts.double() ** power
    return (weights / weights.sum()).float()


def keep_probability(
    counts: Int[Tensor, "vocab"], threshold: float | int
) -> Float[Tensor, "vocab"]:
    """Return the probability that an occurrence of each word is kept, no unit.

    Words with a share f above the threshold t are kept with probability √(t / f).

    Source: Mikolov et al. (2013), "Distributed representations", equation 5.

    >>> keep_probability(torch.tensor([80, 19, 1]), threshold=0.05)
    tensor([0.2500, 0.5130, 1.0000])
    """
    share = counts / counts.sum()
    return (threshold / share).sqrt().clamp(max=1.0)


def context_pairs(
    ids: Int[Tensor, "n"],
    text_of: Int[Tensor, "n"],
    window: int,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, "pair"], Int[Tensor, "pair"]]:
    """Return all pairs of a centre word and a context word, as two rows of ids.

    Args:
        ids: Words of all texts, one after the other.
        text_of: The text of each; a context does not extend past its text.
        window: How many words on each side count.
        generator: If given, each word draws its own window from 1 … `window`, so
            that near words count more, and the pairs are shuffled.

    Source: Mikolov, Chen, Corrado and Dean (2013), "Efficient estimation", section
    3.2, for the random windows.

    >>> ids = torch.tensor([7, 8, 9])
    >>> center, context = context_pairs(ids, torch.zeros(3, dtype=torch.long), 1)
    >>> list(zip(center.tolist(), context.tolist()))
    [(7, 8), (8, 9), (8, 7), (9, 8)]
    """
    reach = torch.full_like(ids, window)
    if generator is not None:
        reach = torch.randint(1, window + 1, ids.shape, generator=generator)
    pairs = []
    for distance in range(1, min(window, len(ids) - 1) + 1):
        right = torch.arange(distance, len(ids))
        left = right - distance
        same_text = text_of[left] == text_of[right]
        for center, context in ((left, right), (right, left)):
            near = same_text & (reach[center] >= distance)
            pairs.append(torch.stack((ids[center[near]], ids[context[near]])))
    center, context = torch.cat(pairs, dim=1) if pairs else ids.new_zeros(2, 0)
    if generator is not None:
        order = torch.randperm(len(center), generator=generator)
        center, context = center[order], context[order]
    return center, context


def skipgram_gradients(
    center: Float[Tensor, "pair d_model"],
    targets: Float[Tensor, "pair target d_model"],
    counted: Bool[Tensor, "pair target"] | None = None,
) -> tuple[
    Float[Tensor, ""],
    Float[Tensor, "pair d_model"],
    Float[Tensor, "pair target d_model"],
]:
    """Return the loss in nats per pair, and the gradient of each pair's own loss.

        loss = −log σ(s₀) − Σₖ log σ(−sₖ)        s = targets · center
        d loss / d s = σ(s) − (1, 0, 0, …)

    Args:
        center: Vectors of the centre words.
        targets: For each, the vector of its context word, then those of the noise.
        counted: False for targets that are to be ignored; None counts all.

    Source: Mikolov et al. (2013), "Distributed representations", equation 4.

    >>> targets = torch.tensor([[[0.0, 1.0], [0.0, -2.0]]])
    >>> _, by_center, _ = skipgram_gradients(torch.tensor([[1.0, 0.0]]), targets)
    >>> by_center[0]  # both scores are 0, both probabilities 1/2
    tensor([ 0.0000, -1.5000])
    """
    scores = (targets @ center.unsqueeze(-1)).squeeze(-1)  # (pair, 1 + K)
    errors = scores.sigmoid()
    errors[:, 0] -= 1
    signed = torch.cat((scores[:, :1], -scores[:, 1:]), dim=1)
    losses = -logsigmoid(signed)
    if counted is not None:
        errors, losses = errors * counted, losses * counted
    by_center = (errors.unsqueeze(1) @ targets).squeeze(1)
    by_targets = errors.unsqueeze(-1) * center.unsqueeze(1)
    return losses.sum(dim=1).mean(), by_center, by_targets


def train_skipgram(
    texts: Iterable[str],
    generator: torch.Generator,
    config: SkipGramConfig | None = None,
) -> SkipGram:
    """Return word vectors learned from texts by skip-gram with negative sampling.

    Plain gradient descent on each batch of pairs, with a learning rate that falls
    linearly to zero. Noise that happens to be the context word is ignored, as in the
    authors' own program.

    Args:
        texts: At least two words in one of them must be frequent enough.
        generator: Source of initial vectors, thinning, windows, order and noise.
        config: The sizes; by default, for a few thousand tales.

    Raises:
        ValueError: If the texts contain no pair of words.

    Source: Mikolov et al. (2013), "Distributed representations of words and phrases
    and their compositionality".
    """
    config = config or SkipGramConfig()
    counted = count_texts(texts, config.min_count)
    vocab_size = len(counted.words)
    vectors = torch.rand(vocab_size, config.d_model, generator=generator) - 0.5
    vectors /= config.d_model
    contexts = torch.zeros_like(vectors)
    keep = keep_probability(counted.counts, config.subsampling)
    shares = noise_distribution(counted.counts, config.noise_power).double().cumsum(0)
    losses: list[float] = []
    for epoch in range(config.epochs):
        kept = torch.rand(len(counted.ids), generator=generator) < keep[counted.ids]
        centers, context_ids = context_pairs(
            counted.ids[kept], counted.text_of[kept], config.window, generator
        )
        for start in range(0, len(centers), config.batch_size):
            batch = slice(start, start + config.batch_size)
            center, context = centers[batch], context_ids[batch, None]
            shape = (len(center), config.n_negatives)
            draws = torch.rand(shape, generator=generator, dtype=shares.dtype)
            noise = torch.searchsorted(shares, draws * shares[-1])
            ids = torch.cat((context, noise), dim=1)  # (pair, 1 + K)
            fresh = torch.ones_like(ids, dtype=torch.bool)
            fresh[:, 1:] = noise != context
            loss, by_center, by_targets = skipgram_gradients(
                vectors[center], contexts[ids], fresh
            )
            done = (epoch + start / len(centers)) / config.epochs
            step = -config.learning_rate * (1 - done)
            vectors.index_add_(0, center, by_center, alpha=step)
            contexts.index_add_(0, ids.flatten(), by_targets.flatten(0, 1), alpha=step)
            losses.append(loss.item())
    if not losses:
        raise ValueError("wanted texts with two frequent words side by side, got none")
    hundreds = [losses[start : start + 100] for start in range(0, len(losses), 100)]
    return SkipGram(
        vectors=WordVectors(counted.words, vectors),
        losses=[sum(part) / len(part) for part in hundreds],
    )


Pairs: TypeAlias = Mapping[str, frozenset[str]]  # a word and its right partners

# Each class, and the word lists of the tales whose single words belong to it.
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
    """Return the entries of some word lists, under all their keys."""
    choices = [grammar.lists[name].choices.values() for name in names]
    return [entry for lists in choices for held in lists for entry in held]


def word_classes() -> dict[str, str]:
    """Return the class of each single word that is in exactly one of `CLASSES`.

    >>> classes = word_classes()
    >>> classes["fox"], classes["kite"], "orange" in classes, "honey" in classes
    ('animal', 'toy', True, True)
    """
    classes: defaultdict[str, set[str]] = defaultdict(set)
    for name, lists in CLASSES.items():
        for entry in entries(world(), *lists):
            if len(parts := words(entry["word"])) == 1:
                classes[parts[0]].add(name)
    return {word: min(names) for word, names in classes.items() if len(names) == 1}


def relations() -> dict[str, Pairs]:
    """Return the relations between words that the lists of the tales contain.

    From entries of several words, the one that carries the meaning is taken: the last
    of a noun ("big sister"), the first of an activity ("kneading dough").
    """
    grammar = world()

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
    things = [
        (place, entry["word"])
        for place, held in grammar.lists["thing"].choices.items()
        for entry in held
    ]
    n_places = Counter(word for _, word in things)
    pairs_of = {
        "female : male": gender,
        "one : many": [(e["word"], e["s"]) for e in listed("food")],
        "number : one less": [(e["word"], e["less"]) for e in listed("number")],
        "young : parent": [(e["word"], e["parent"]) for e in listed("stray")],
        "young : cry": [(e["word"], e["cry"]) for e in listed("stray")],
        "animal : cry": cries,
        "trade : work": [(e["word"], words(e["work"])[0]) for e in listed("job")],
        "place : thing": [pair for pair in things if n_places[pair[1]] == 1],
    }
    relations: dict[str, Pairs] = {}
    for name, pairs in pairs_of.items():
        grouped: defaultdict[str, set[str]] = defaultdict(set)
        for a, b in pairs:
            if len(words(a)) == len(words(b)) == 1:
                grouped[a].add(b)
        relations[name] = {a: frozenset(partners) for a, partners in grouped.items()}
    return relations


def questions(pairs: Pairs) -> Iterator[tuple[str, str, str, frozenset[str]]]:
    """Yield every question a : b :: c : ? of a relation, and its right answers.

    a and b do not count as answers, so questions whose b would be a right answer, or
    whose a would be the only one, are left out.

    >>> len(list(questions({"a": frozenset("x"), "b": frozenset("xy")})))
    1
    """
    for a, c in permutations(pairs, 2):
        if right := pairs[c] - {a}:
            for b in sorted(pairs[a] - pairs[c]):
                yield a, b, c, right


@dataclass(frozen=True)
class AnalogyScore:
    """How the questions of one relation were answered.

    The tensors have one value for each word c that was asked about, the mean over
    its questions, in fractions of one. Questions about the same word are not
    independent, so compute intervals over these means.
    """

    right: Float[Tensor, "word"]  # the best answer is right
    kind: Float[Tensor, "word"]  # the best answer is a partner in this relation
    nearest: Float[Tensor, "word"]  # the word nearest to c alone is right
    chance: Float[Tensor, "word"]  # a guess among the partners not given is right
    copied: Float[Tensor, "word"]  # the best answer is b or c, if these are allowed


def score_analogies(vectors: WordVectors, pairs: Pairs) -> AnalogyScore:
    """Return how well sums of vectors answer all questions of a relation.

    As usual, a, b and c do not count as answers, for the arithmetic or for the word
    nearest to c alone; `copied` says what happens if they do. Words without a vector
    are left out of the relation. Both are measured by cosines.

    Args:
        vectors: Of words, all of which are possible answers.
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
    check_range(1, **{"questions about known words": len(asked)})
    given = torch.tensor([[vectors.ids[word] for word in q[:3]] for q in asked])
    unit = normalize(vectors.vectors, dim=-1)
    a, b, c = unit[given].unbind(dim=1)  # (Q, D) each
    sums = analogy_query(a, b, c) @ unit.T  # (Q, V)
    answers, neighbours = (
        [vectors.words[i] for i in scores.scatter(1, given, -math.inf).argmax(dim=1)]
        for scores in (sums, c @ unit.T)
    )
    copied = (sums.argmax(dim=1)[:, None] == given[:, 1:]).any(dim=1)  # b or c
    kind = frozenset[str]().union(*known.values())
    by_word: defaultdict[str, list[tuple[float, ...]]] = defaultdict(list)
    for (*abc, right), answer, neighbour, same in zip(
        asked, answers, neighbours, copied.tolist(), strict=True
    ):
        chance = len(right) / len(kind.difference(abc))
        outcome = (answer in right, answer in kind, neighbour in right, chance, same)
        by_word[abc[-1]].append(outcome)
    means = torch.stack([torch.tensor(held).mean(dim=0) for held in by_word.values()])
    return AnalogyScore(*means.unbind(dim=1))
