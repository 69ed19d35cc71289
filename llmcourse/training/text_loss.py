"""The loss of a text under a model: by document and by word.

Each document is read from its start, the mark `<|endoftext|>` before it, and its end
is predicted too. What is longer than the model's context is read in windows:

    first     ├────────────────┤            all of its targets count
    second            ├────────┬───────┤    reads half a window that has been counted,
                                            so that nothing is predicted from little

By word, the losses can be compared with the grammar's exact surprises. Words that
repeat a fact of the story are what a model must remember rather than guess:

    story       Once a girl named Ella … gave Ella   a      blue   boat.
    tokens      O nce a girl named E lla … gave E lla  a  blue  bo at .
    losses      2.1   0.0 1.2 0.1  2.9       0.0 3.1   0.4  3.8   5.0
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from llmcourse.model.transformer import Transformer
from llmcourse.text.grammar import Story
from llmcourse.text.packing import end_of_text
from llmcourse.text.tokenizers import BPETokenizer
from llmcourse.training import losses
from llmcourse.training.config import CountProgress

_MOST_LOGITS = 1 << 24  # computed at once: 64 MiB


@dataclass(frozen=True, kw_only=True)
class TextLoss:
    """How well a model predicts a text, each document's end included."""

    n_documents: int
    n_tokens: int  # predicted, ends included
    n_bytes: int  # of the text in UTF-8
    loss: float  # in nats per token

    @property
    def perplexity(self) -> float:
        """Equally likely choices that the loss amounts to."""
        return losses.perplexity(self.loss)

    @property
    def bits_per_byte(self) -> float:
        """The loss in bits per byte of text."""
        return losses.bits_per_byte(self.loss, self.n_tokens, self.n_bytes)

    def to_json(self) -> dict[str, Any]:
        """Return all numbers, derived ones too."""
        derived = {"perplexity": self.perplexity, "bits_per_byte": self.bits_per_byte}
        return asdict(self) | derived


def text_loss(
    model: Transformer,
    tokenizer: BPETokenizer,
    texts: Sequence[str],
    progress: CountProgress | None = None,
) -> TextLoss:
    """Return how well a model predicts documents, each read from its start.

    Every token counts once, the end of each document too. What is longer than the
    model's context is read in windows that overlap by half, so that after the first
    window each token is predicted from at least half a context.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        texts: The documents.
        progress: Called with the number of windows read and of all.

    Raises:
        ValueError: If there is no text or only empty ones, or no `<|endoftext|>`.
    """
    n_bytes = sum(len(text.encode()) for text in texts)
    if n_bytes == 0:
        raise ValueError(f"a loss needs some text, got {len(texts)} empty documents")
    nll, n_tokens = document_nll(model, tokenizer, texts, progress)
    return TextLoss(
        n_documents=len(texts),
        n_tokens=sum(n_tokens),
        n_bytes=n_bytes,
        loss=math.fsum(nll) / sum(n_tokens),
    )


class _Window(NamedTuple):
    """A part of a document that is read at once."""

    document: int
    ids: list[int]  # what is read, and one more
    n_known: int  # targets that an earlier window has predicted


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
        progress: Called with the number of windows read and of all.

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
        length = len(windows[done].ids) - 1
        most = max(1, _MOST_LOGITS // (length * model.config.vocab_size))
        batch = windows[done : done + most]
        for window, nll in zip(batch, _window_nll(model, batch), strict=True):
            parts[window.document].append(nll)
        done += len(batch)
        if progress is not None:
            progress(done, len(windows))
    return [math.fsum(part) for part in parts], [len(row) - 1 for row in rows]


def _windows(document: int, ids: list[int], limit: int) -> Iterator[_Window]:
    """Yield the windows of at most `limit` targets that a document is read in."""
    yield _Window(document, ids[: limit + 1], 0)
    known = limit  # targets predicted so far
    while known < len(ids) - 1:
        start = known - limit // 2
        yield _Window(document, ids[start : start + limit + 1], known - start)
        known = start + limit


def _window_nll(model: Transformer, windows: Sequence[_Window]) -> list[float]:
    """Return the negative log-likelihood of the new targets of each window, in nats."""
    lengths = [len(window.ids) - 1 for window in windows]
    shape = (len(windows), max(lengths))
    ids, targets = torch.zeros(shape, dtype=torch.long), torch.full(shape, -100)
    for row, (window, length) in enumerate(zip(windows, lengths, strict=True)):
        whole = torch.tensor(window.ids)
        ids[row, :length] = whole[:-1]  # padding comes after: nothing sees it
        targets[row, window.n_known : length] = whole[1 + window.n_known :]
    device = model.embedding.weight.device
    logits: Tensor = model(ids.to(device))  # (B, T, V)
    losses = cross_entropy(
        logits.flatten(0, 1).float(), targets.to(device).flatten(), reduction="none"
    )
    nll: list[float] = losses.view(shape).double().sum(dim=1).tolist()
    return nll


_MARKS = ".,;:!?\"'"


class Recall(NamedTuple):
    """A word that repeats a fact of the story."""

    place: int  # of the word, counted from 0
    distance: int  # words back to where the fact last occurred


@torch.inference_mode()
def word_losses(model: Transformer, tokenizer: BPETokenizer, text: str) -> list[float]:
    """Return a model's loss on each word of a text, in nats; the last one ends it.

    White space belongs to the word after it, and the end of the text to the last
    word, so the losses sum to that of the whole text.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with `<|endoftext|>`.
        text: A text that fits into the model's context.

    Raises:
        ValueError: If the text has no word or is too long, if a token holds parts of
            two words, or if there is no `<|endoftext|>`.
    """
    ids, losses = token_losses(model, tokenizer, text)
    pieces = [tokenizer.decode([i]) for i in ids[1:-1].tolist()]
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


def _by_word(losses: list[float], pieces: list[str]) -> list[float]:
    """Return the sum of losses over the pieces of each word; the last loss ends it all.

    >>> _by_word([1.0, 2.0, 4.0, 8.0], ["a", " bo", "at"])
    [1.0, 14.0]
    """
    n_words = len("".join(pieces).split())
    if n_words == 0:
        raise ValueError("a loss by word needs at least one word, got none")
    words, read = [0.0] * n_words, ""
    for loss, piece in zip(losses, [*pieces, " "], strict=True):
        if len(piece.split()) > 1:
            raise ValueError(f"a token must be part of one word, got {piece!r}")
        read += piece
        n_begun = len(read.split())
        number = n_begun - 1 if piece.strip() else n_begun  # white space: of the next
        words[min(number, n_words - 1)] += loss
    return words


def recalls(story: Story) -> list[Recall]:
    """Return the words of a story that repeat the last word of one of its facts.

    The last words carry them: of "under the bridge" it is "bridge".

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
    """What words cost that repeat a fact, and all others, in nats per word."""

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
        ValueError: If there is no word of either kind.
    """
    found: dict[bool, list[float]] = {True: [], False: []}
    for story in stories:
        places = {place for place, _ in recalls(story)}
        for place, loss in enumerate(losses(story.text)):
            found[place in places].append(loss)
    counts = len(found[True]), len(found[False])
    if not all(counts):
        raise ValueError(
            f"wanted words that repeat a fact and others, got {counts[0]} and "
            f"{counts[1]}"
        )
    totals = math.fsum(found[True]), math.fsum(found[False])
    return RecallLosses(totals[0] / counts[0], totals[1] / counts[1], *counts)


def _bare(word: str) -> str:
    """Return a word without marks and possessive, in small letters.

    >>> _bare('"Ella,'), _bare("Ella's")
    ('ella', 'ella')
    """
    return word.strip(_MARKS).lower().removesuffix("'s").strip(_MARKS)
