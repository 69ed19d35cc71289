"""What a text costs under a model: the loss of documents, long and short.

Each document is read from its start, the mark `<|endoftext|>` before it, and its end
is predicted too. What is longer than the model's context is read in windows:

    first     ├────────────────┤            all of its targets count
    second            ├────────┬───────┤    reads half a window that has been counted,
                                            so that nothing is predicted from little
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from llmcourse import losses
from llmcourse.packing import end_of_text
from llmcourse.progress import CountProgress
from llmcourse.tokenization import BPETokenizer
from llmcourse.transformer import Transformer

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
    model's context is read in windows that overlap by half, so that behind the first
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
    prices, n_tokens = document_prices(model, tokenizer, texts, progress)
    return TextLoss(
        n_documents=len(texts),
        n_tokens=sum(n_tokens),
        n_bytes=n_bytes,
        loss=math.fsum(prices) / sum(n_tokens),
    )


class _Window(NamedTuple):
    """A part of a document that is read at once."""

    document: int
    ids: list[int]  # what is read, and one more
    n_known: int  # targets that an earlier window has predicted


@torch.inference_mode()
def document_prices(
    model: Transformer,
    tokenizer: BPETokenizer,
    texts: Iterable[str],
    progress: CountProgress | None = None,
) -> tuple[list[float], list[int]]:
    """Return what each document costs in nats, and its tokens, the end included.

    Windows of nearly equal length are read side by side.

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
        for window, price in zip(batch, _prices(model, batch), strict=True):
            parts[window.document].append(price)
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


def _prices(model: Transformer, windows: Sequence[_Window]) -> list[float]:
    """Return what the new targets of each window cost, in nats."""
    lengths = [len(window.ids) - 1 for window in windows]
    shape = (len(windows), max(lengths))
    ids, targets = torch.zeros(shape, dtype=torch.long), torch.full(shape, -100)
    for row, (window, length) in enumerate(zip(windows, lengths, strict=True)):
        whole = torch.tensor(window.ids)
        ids[row, :length] = whole[:-1]  # what follows is behind: nothing sees it
        targets[row, window.n_known : length] = whole[1 + window.n_known :]
    device = model.embedding.weight.device
    logits: Tensor = model(ids.to(device))  # (B, T, V)
    costs = cross_entropy(
        logits.flatten(0, 1), targets.to(device).flatten(), reduction="none"
    )
    prices: list[float] = costs.view(shape).double().sum(dim=1).tolist()
    return prices
