"""How good a base model is: its loss by document and word, compared with the grammar.

Each document is read from its start, with the mark `<|endoftext|>` before it, and its
end is also predicted. A document longer than the model's context is read in windows:

    first     ├────────────────┤            all of its targets count
    second            ├────────┬───────┤    rereads half a window already counted, so
                                            that no prediction has too little context

Word by word, losses can be compared with the grammar's exact surprises. Words that
repeat a fact of the story are what a model must remember rather than guess:

    story       Once a girl named Ella … gave Ella   a      blue   boat.
    tokens      O nce a girl named E lla … gave E lla  a  blue  bo at .
    losses      2.1   0.0 1.2 0.1  2.9       0.0 3.1   0.4  3.8   5.0

For the tales, the best possible model is known: the grammar. Against it we measure

    excess    a story's negative log-likelihood minus its exact one, in nats
    valid     how many of the model's own stories the grammar can write

The mean excess is the Kullback–Leibler divergence of the model from the grammar, per
story. It hardly depends on which stories are drawn: a story that is improbable under
the grammar is also improbable under the model, and only the difference counts.
"""

import math
import re
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise, takewhile
from statistics import stdev
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from llmcourse.arguments import check_range
from llmcourse.intervals import Count
from llmcourse.model.generation import generate
from llmcourse.model.transformer import Transformer
from llmcourse.text import tales
from llmcourse.text.grammar import Story
from llmcourse.text.packing import end_of_text
from llmcourse.text.tales import Estimate
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import losses
from llmcourse.training.config import CountProgress

_MOST_LOGITS = 1 << 24  # computed at once: 64 MiB


@dataclass(frozen=True, kw_only=True)
class TextLoss:
    """How well a model predicts a text, including each document's end."""

    n_documents: int
    n_tokens: int  # predicted, ends included
    n_bytes: int  # of the text in UTF-8
    loss: float  # in nats per token

    @property
    def perplexity(self) -> float:
        """Number of equally likely choices that the loss amounts to."""
        return losses.perplexity(self.loss)

    @property
    def bits_per_byte(self) -> float:
        """The loss in bits per byte of text."""
        return losses.bits_per_byte(self.loss, self.n_tokens, self.n_bytes)

    def to_json(self) -> dict[str, Any]:
        """Return all numbers, including derived ones."""
        derived = {"perplexity": self.perplexity, "bits_per_byte": self.bits_per_byte}
        return asdict(self) | derived


def text_loss(
    model: Transformer,
    tokenizer: BPETokenizer,
    texts: Sequence[str],
    progress: CountProgress | None = None,
) -> TextLoss:
    """Return how well a model predicts documents, each read from its start.

    Every token counts once, and so does the end of each document. A document longer
    than the model's context is read in windows that overlap by half, so that after the
    first window each token is predicted from at least half a context.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        texts: The documents.
        progress: Called with the number of windows read, and of how many.

    Raises:
        ValueError: If there are no texts or only empty ones, or no `<|endoftext|>`.
    """
    n_bytes = sum(len(text.encode()) for text in texts)
    check_range(1, **{"bytes of text": n_bytes})
    nll, n_tokens = document_nll(model, tokenizer, texts, progress)
    return TextLoss(
        n_documents=len(texts),
        n_tokens=sum(n_tokens),
        n_bytes=n_bytes,
        loss=math.fsum(nll) / sum(n_tokens),
    )


class _Window(NamedTuple):
    """A part of a document that is read in one pass."""

    document: int
    ids: Tensor  # what is read, (T,)
    targets: Tensor  # (T,); -100 where an earlier window has predicted them


@torch.inference_mode()
def document_nll(
    model: Transformer,
    tokenizer: BPETokenizer,
    texts: Iterable[str],
    progress: CountProgress | None = None,
) -> tuple[list[float], list[int]]:
    """Return each document's negative log-likelihood in nats, and its number of tokens.

    The end of a document counts as one of its tokens. Windows of nearly equal length
    are read side by side.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        texts: The documents.
        progress: Called with the number of windows read, and of how many.

    Raises:
        ValueError: If there is no `<|endoftext|>`.
    """
    end, limit = end_of_text(tokenizer), model.config.context_length
    rows = [[end, *tokenizer.encode(text), end] for text in texts]
    windows = [
        w for number, row in enumerate(rows) for w in _windows(number, row, limit)
    ]
    windows.sort(key=lambda window: len(window.ids), reverse=True)
    parts: list[list[float]] = [[] for _ in rows]
    done = 0
    while done < len(windows):
        size = len(windows[done].ids) * model.config.vocab_size
        most = max(1, _MOST_LOGITS // size)
        batch = windows[done : done + most]
        for window, nll in zip(batch, _window_nll(model, batch), strict=True):
            parts[window.document].append(nll)
        done += len(batch)
        if progress is not None:
            progress(done, len(windows))
    return [math.fsum(part) for part in parts], [len(row) - 1 for row in rows]


def _windows(document: int, ids: list[int], limit: int) -> Iterator[_Window]:
    """Yield the windows of at most `limit` targets that a document is read in."""
    known = 0  # targets predicted so far
    while known < len(ids) - 1:
        start = max(0, known - limit // 2)
        part = torch.tensor(ids[start : start + limit + 1])
        targets = part[1:].clone()
        targets[: known - start] = -100
        yield _Window(document, part[:-1], targets)
        known = start + limit


def _window_nll(model: Transformer, windows: Sequence[_Window]) -> list[float]:
    """Return the negative log-likelihood of the new targets of each window, in nats."""
    device = model.embedding.weight.device
    ids = pad_sequence([window.ids for window in windows], batch_first=True)
    targets = [window.targets for window in windows]
    wanted = pad_sequence(targets, batch_first=True, padding_value=-100).to(device)
    logits = model(ids.to(device)).flatten(0, 1)  # (B T, V); nothing sees the padding
    losses = cross_entropy(logits.float(), wanted.flatten(), reduction="none")
    nll: list[float] = losses.view(wanted.shape).double().sum(dim=1).tolist()
    return nll


_MARKS = ".,;:!?\"'"


class Recall(NamedTuple):
    """A word that repeats a fact of the story."""

    place: int  # index of the word, from 0
    distance: int  # words back to where the fact last occurred


@torch.inference_mode()
def word_losses(model: Transformer, tokenizer: BPETokenizer, text: str) -> list[float]:
    """Return a model's loss on each word of a text, in nats; the last includes the end.

    White space belongs to the word after it, and the end of the text to the last
    word, so the losses add up to the loss of the whole text.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        text: A text that fits into the model's context.

    Raises:
        ValueError: If the text has no word or is too long, if a token holds parts of
            two words, or if there is no `<|endoftext|>`.
    """
    ids, losses = token_losses(model, tokenizer, text)
    pieces = [tokenizer.pieces[i] for i in ids[1:-1].tolist()]
    return _by_word(losses.double().tolist(), pieces)


def token_losses(
    model: Transformer, tokenizer: BPETokenizer, text: str
) -> tuple[Tensor, Tensor]:
    """Return a document's ids (T + 1), and the loss of each but the first (T), in nats.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        text: A text that fits into the model's context.

    Raises:
        ValueError: If the text is too long, or there is no `<|endoftext|>`.
    """
    end = end_of_text(tokenizer)
    device = model.embedding.weight.device
    ids = torch.tensor([end, *tokenizer.encode(text), end], device=device)
    logits: Tensor = model(ids[None, :-1])[0]  # (T, V)
    return ids, cross_entropy(logits.float(), ids[1:], reduction="none")


def _by_word(losses: list[float], pieces: list[bytes]) -> list[float]:
    """Return the sum of losses over each word's pieces; the last loss is the end's.

    >>> _by_word([1.0, 2.0, 4.0, 8.0], [b"a", b" bo", b"at"])
    [1.0, 14.0]
    """
    text = b"".join(pieces).decode()
    # In bytes, since a letter or a space can be cut into several pieces.
    ends = [len(text[: word.end()].encode()) for word in re.finditer(r"\S+", text)]
    check_range(1, **{"words of a text": len(ends)})
    words, place = [0.0] * len(ends), 0
    for loss, piece in zip(losses, [*pieces, b""], strict=True):
        if len((said := piece.decode(errors="replace")).split()) > 1:
            raise ValueError(f"a token must be part of one word, got {said!r}")
        words[min(bisect(ends, place), len(ends) - 1)] += loss
        place += len(piece)
    return words


def recalls(story: Story) -> list[Recall]:
    """Return the words of a story that repeat the last word of one of its facts.

    The last word carries the fact: in "under the bridge" it is "bridge".

    >>> from llmcourse.text.tales import generate
    >>> story = next(generate(1, seed=0))
    >>> first = recalls(story)[0]
    >>> story.facts["hero"], story.text.split()[first.place], first.distance
    ('Carl', 'Carl', 24)
    """
    facts = {_bare(fact.split()[-1]) for fact in story.facts.values()}
    seen: dict[str, int] = {}
    found = []
    for place, word in enumerate(map(_bare, story.text.split())):
        if word not in facts:
            continue
        if word in seen:
            found.append(Recall(place, place - seen[word]))
        seen[word] = place
    return found


class RecallLosses(NamedTuple):
    """Mean loss of words that repeat a fact, and of all others, in nats per word."""

    recalls: float
    others: float
    n_recalls: int
    n_others: int


def recall_losses(
    stories: Sequence[Story], losses: Callable[[str], Sequence[float]]
) -> RecallLosses:
    """Return the mean loss of words that repeat a fact and of all others.

    Args:
        stories: Stories of the tales.
        losses: Returns the loss of each word of a text, in nats: `word_losses` of a
            model, or the exact ones, `tales.word_surprises`.

    Raises:
        ValueError: If one of the two kinds has no words, or a text not as many losses
            as words.
    """
    found: dict[bool, list[float]] = {True: [], False: []}
    for story in stories:
        places, n_words = (
            {place for place, _ in recalls(story)},
            len(story.text.split()),
        )
        for place, loss in zip(range(n_words), losses(story.text), strict=True):
            found[place in places].append(loss)
    counts = len(found[True]), len(found[False])
    check_range(1, **{"words that repeat a fact": counts[0], "others": counts[1]})
    totals = math.fsum(found[True]), math.fsum(found[False])
    return RecallLosses(totals[0] / counts[0], totals[1] / counts[1], *counts)


def _bare(word: str) -> str:
    """Return a word without punctuation and possessive, in lower case.

    >>> _bare('"Ella,'), _bare("Ella's")
    ('ella', 'ella')
    """
    return word.strip(_MARKS).lower().removesuffix("'s").strip(_MARKS)


TEST_SEED = 1_000_000  # of stories that no preset trains on
_SAMPLES_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True)
class TaleLoss:
    """How close a model is to the grammar, measured on stories it has not seen."""

    text: TextLoss
    floor: Estimate  # entropy in nats per token, expected over all stories
    sample_floor: float  # nats per token: exact, for these stories
    excess: Estimate  # nats per story: the model's nll minus the exact one

    @property
    def gap(self) -> float:
        """How far the loss is above the floor, as a fraction of it."""
        return losses.gap_to_floor(self.text.loss, self.floor.value)

    @property
    def paired_gap(self) -> Estimate:
        """The gap, from the excess: less noisy, since both losses share one sample."""
        entropy = tales.world().entropy()  # nats per story
        return Estimate(*(value / entropy for value in self.excess))

    def to_json(self) -> dict[str, Any]:
        """Return all numbers, including derived ones."""
        return self.text.to_json() | {
            "floor": self.floor._asdict(),
            "sample_floor": self.sample_floor,
            "gap": self.gap,
            "excess_per_story": self.excess._asdict(),
            "paired_gap": self.paired_gap._asdict(),
        }


@dataclass(frozen=True)
class Sample:
    """A story that a model wrote."""

    text: str
    error: str | None  # why the grammar cannot write it; None for a valid one


def count_valid(samples: Sequence[Sample]) -> Count:
    """Return how many samples the grammar can write, to the last letter."""
    return Count(sum(sample.error is None for sample in samples), len(samples))


def tale_loss(
    model: Transformer,
    tokenizer: BPETokenizer,
    n_stories: int = 500,
    seed: int = TEST_SEED,
    progress: CountProgress | None = None,
) -> TaleLoss:
    """Return how close a model is to the grammar, on freshly drawn stories.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        n_stories: How many stories to draw.
        seed: Seed of the stories; should differ from the training's.
        progress: As in `text_loss`.

    Raises:
        ValueError: If there are fewer than two stories, or no `<|endoftext|>`.
    """
    check_range(2, n_stories=n_stories)
    stories = list(tales.generate(n_stories, seed))
    texts = [story.text for story in stories]
    nll, n_tokens = document_nll(model, tokenizer, texts, progress)
    excess = [p + story.log_prob for p, story in zip(nll, stories, strict=True)]
    error = stdev(excess) / math.sqrt(n_stories)
    return TaleLoss(
        text=TextLoss(
            n_documents=n_stories,
            n_tokens=sum(n_tokens),
            n_bytes=sum(len(text.encode()) for text in texts),
            loss=math.fsum(nll) / sum(n_tokens),
        ),
        floor=tales.entropy_per_token(tokenizer, texts),
        sample_floor=-math.fsum(s.log_prob for s in stories) / sum(n_tokens),
        excess=Estimate(math.fsum(excess) / n_stories, error),
    )


class Feature(NamedTuple):
    """A part of the grammar, and a model's loss above the grammar's there."""

    name: str  # of a variable, a list or a rule, see `Grammar.pieces`
    excess: float  # nats per story, on its words
    example: str  # the word with the largest excess, and seven before it


@torch.inference_mode()
def costliest_features(
    model: Transformer,
    tokenizer: BPETokenizer,
    n_stories: int = 100,
    seed: int = TEST_SEED,
    progress: CountProgress | None = None,
) -> list[Feature]:
    """Return the parts of the grammar, ordered by a model's excess, largest first.

    A word counts for the part that wrote its first letter. Stories that do not fit into
    the model's context are left out; if none fits, nothing is returned.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        n_stories: How many stories to read, word by word.
        seed: Seed of the stories.
        progress: Called with the number of stories read, and of how many.

    Raises:
        ValueError: If there is no `<|endoftext|>`, or if a token holds parts of two
            words.
    """
    costs: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
    n_read = 0
    for number, story in enumerate(tales.generate(n_stories, seed), start=1):
        if len(tokenizer.encode(story.text)) < model.config.context_length:
            n_read += 1
            for name, cost, example in _costs(model, tokenizer, story):
                costs[name].append((cost, example))
        if progress is not None:
            progress(number, n_stories)
    features = [
        Feature(name, sum(cost for cost, _ in found) / n_read, max(found)[1])
        for name, found in costs.items()
    ]
    return sorted(features, key=lambda feature: -feature.excess)


def _costs(
    model: Transformer, tokenizer: BPETokenizer, story: Story
) -> Iterator[tuple[str, float, str]]:
    """Yield what wrote each word, its excess in nats, and the text up to it."""
    text = story.text
    wrote = [name for piece, name in tales.world().pieces(story) for _ in piece]
    losses, exact = word_losses(model, tokenizer, text), exact_losses(tokenizer, text)
    words = list(re.finditer(r"\S+", text))
    for place, word in enumerate(words):
        letter = re.compile(r"\w").search(text, word.start())
        name = wrote[letter.start() if letter else word.start()]
        start = words[max(0, place - 7)].start()
        yield name, losses[place] - exact[place], text[start : word.end()]


def exact_losses(tokenizer: BPETokenizer, text: str) -> list[float]:
    """Return each word's loss under the best model of these tokens, in nats.

    The tokens of "softly" do not say whether a comma follows: the next one does. But
    if "apples" is a token, the token "apple" says that no s follows.

    Args:
        tokenizer: Splits the words.
        text: A tale.

    Raises:
        ValueError: If it is not a tale.
    """
    world, logs = tales.world(), [0.0]
    for match in re.finditer(r"\S+(?=\s)", text):
        begun = text[: match.end()]
        mass = math.exp(world.prefix_log_prob(begun))
        for other in _other_words(tokenizer, begun):
            with suppress(ValueError):  # no tale continues like this
                mass -= math.exp(world.prefix_log_prob(other))
        logs.append(math.log(mass))
    logs.append(world.log_prob(text))
    return [before - after for before, after in pairwise(logs)]


def _other_words(tokenizer: BPETokenizer, begun: str) -> list[str]:
    """Return texts with the last word made longer, if that changes its tokens."""
    ids, letters = tokenizer.encode(begun), re.search(r"\w+$", begun)
    stem = letters[0].lower() if letters else "\n"  # which no word has
    found: list[str] = []
    for word in sorted(w for w in _words() - {stem} if w.startswith(stem)):
        other = begun + word[len(stem) :]
        is_new = not any(map(other.startswith, found))
        if is_new and tokenizer.encode(other)[: len(ids)] != ids:
            found.append(other)
    return found


@cache
def _words() -> frozenset[str]:
    """Return the words that the grammar of the tales contains."""
    return frozenset(re.findall(r"\w+", tales.world_text().lower()))


def write_samples(
    model: Transformer,
    tokenizer: BPETokenizer,
    n: int = 200,
    *,
    generator: torch.Generator | None = None,
    progress: CountProgress | None = None,
) -> list[Sample]:
    """Let a model write stories from scratch; return each with its error, if any.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        n: How many stories.
        generator: Source of randomness.
        progress: Called with the number of stories written, and of how many.

    Raises:
        ValueError: If n is not positive, or as in `generation.generate`.
    """
    check_range(1, n=n)
    end = end_of_text(tokenizer)
    samples: list[Sample] = []
    while len(samples) < n:
        shape = (min(_SAMPLES_AT_ONCE, n - len(samples)), 1)
        prompts = torch.full(shape, end, device=model.embedding.weight.device)
        room = model.config.context_length - 1
        rows = generate(model, prompts, room, stop=[end], generator=generator)
        answers = (takewhile(end.__ne__, row) for row in rows[:, 1:].tolist())
        texts = map(tokenizer.decode, answers)
        samples += [Sample(text, _error(text)) for text in texts]
        if progress is not None:
            progress(len(samples), n)
    return samples


def _error(text: str) -> str | None:
    try:
        tales.parse(text)
    except ValueError as error:
        return str(error)
    return None
