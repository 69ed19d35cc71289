"""Skip-gram with negative sampling: word vectors from the company that words keep.

Each word of a text is asked to tell the words around it from words drawn at random:

    there was a brave [girl] called Mia in …
                brave, called, Mia: her company   → score up
                soup, lantern, slept: the noise   → score down

A word has two vectors, one for being in the middle and one for being around, and the
score is their dot product. The gradient is written out below; no autograd runs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from llmcourse.embeddings import WordVectors
from llmcourse.shingles import words


@dataclass(frozen=True, kw_only=True)
class SkipGramConfig:
    """Sizes of the vectors and of their training."""

    d_model: int = 48
    window: int = 5  # farthest neighbour that counts as company, in words
    n_negatives: int = 5  # noise words for each word of company
    min_count: int = 5  # rarer words are left out
    subsampling: float = 1e-3  # words with more than this share are thinned out
    noise_power: float = 0.75  # noise is drawn by counts to this power
    epochs: int = 4
    batch_size: int = 512  # pairs
    learning_rate: float = 0.1  # at the start; it falls to zero

    def __post_init__(self) -> None:
        """Raise ValueError for a size that no training can have."""
        for name, value in vars(self).items():
            if name != "noise_power" and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")


@dataclass(frozen=True)
class CountedTexts:
    """Texts as rows of word ids, the most frequent word being 0."""

    words: list[str]
    counts: Int[Tensor, "vocab"]
    ids: Int[Tensor, "n"]  # all texts, one after the other
    text_of: Int[Tensor, "n"] = field(repr=False)  # which text each id stands in


@dataclass(frozen=True)
class SkipGram:
    """What a training made."""

    vectors: WordVectors  # of words in the middle: the ones to use
    contexts: WordVectors  # of words around
    losses: list[float]  # mean of each hundred batches, in nats per pair


def count_texts(texts: Iterable[str], min_count: int = 1) -> CountedTexts:
    """Return texts as word ids, without case, punctuation and rare words.

    Args:
        texts: Any texts; words are cut by `shingles.words`.
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
    found = torch.tensor(
        [(ids[w], text) for text, row in enumerate(rows) for w in row if w in ids]
    )
    frequency = torch.tensor([counts[word] for word in kept])
    return CountedTexts(kept, frequency, found[:, 0], found[:, 1])


def noise_distribution(
    counts: Int[Tensor, "vocab"], power: float | int = 0.75
) -> Float[Tensor, "vocab"]:
    """Return the probability of each word to be drawn as noise, as fractions of one.

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
    """Return all pairs of a word and a word of its company, as two rows of ids.

    Args:
        ids: Words of all texts, one after the other.
        text_of: The text of each; company is kept within a text.
        window: How many words to each side count.
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
        center: Vectors of the words in the middle.
        targets: For each, the vector of its company first, then those of the noise.
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

    Plain gradient descent on each batch of pairs, with a rate that falls to zero in
    a straight line. Noise that is by chance the company itself is ignored, as in the
    authors' own program.

    Args:
        texts: At least two words in one of them must be frequent enough.
        generator: Source of first vectors, thinning, windows, order and noise.
        config: The sizes; by default, for a few thousand tales.

    Raises:
        ValueError: If the texts hold no pair of words.

    Source: Mikolov et al. (2013), "Distributed representations of words and phrases
    and their compositionality".
    """
    config = config or SkipGramConfig()
    counted = count_texts(texts, config.min_count)
    vocab_size = len(counted.words)
    vectors = torch.rand(vocab_size, config.d_model, generator=generator) - 0.5
    vectors /= config.d_model
    contexts = torch.zeros_like(vectors)
    losses: list[float] = []
    for rate, center, context, noise in _batches(counted, config, generator):
        ids = torch.cat((context[:, None], noise), dim=1)  # (pair, 1 + K)
        fresh = torch.ones_like(ids, dtype=torch.bool)
        fresh[:, 1:] = noise != context[:, None]
        loss, by_center, by_targets = skipgram_gradients(
            vectors[center], contexts[ids], fresh
        )
        vectors.index_add_(0, center, by_center, alpha=-rate)
        contexts.index_add_(0, ids.flatten(), by_targets.flatten(0, 1), alpha=-rate)
        losses.append(loss.item())
    if not losses:
        raise ValueError("wanted texts with two frequent words side by side, got none")
    hundreds = [losses[start : start + 100] for start in range(0, len(losses), 100)]
    return SkipGram(
        vectors=WordVectors(counted.words, vectors),
        contexts=WordVectors(counted.words, contexts),
        losses=[sum(part) / len(part) for part in hundreds],
    )


def _batches(
    counted: CountedTexts, config: SkipGramConfig, generator: torch.Generator
) -> Iterator[tuple[float, Tensor, Tensor, Tensor]]:
    """Yield the rate and the ids of middle, company and noise of each batch."""
    keep = keep_probability(counted.counts, config.subsampling)
    noise = noise_distribution(counted.counts, config.noise_power).double().cumsum(0)
    for epoch in range(config.epochs):
        kept = torch.rand(len(counted.ids), generator=generator) < keep[counted.ids]
        pairs = context_pairs(
            counted.ids[kept], counted.text_of[kept], config.window, generator
        )
        starts = range(0, len(pairs[0]), config.batch_size)
        for start in starts:
            center, context = (row[start : start + config.batch_size] for row in pairs)
            done = (epoch + start / len(pairs[0])) / config.epochs
            shape = (len(center), config.n_negatives)
            draws = torch.rand(shape, generator=generator, dtype=noise.dtype)
            drawn = torch.searchsorted(noise, draws * noise[-1])
            yield config.learning_rate * (1 - done), center, context, drawn
