"""Continuous batching: many requests are answered at once, each as if it were alone.

    slot 0   A A A A A A A ·           a finished request leaves,
    slot 1   B B · D D D D D D         a waiting one takes its place,
    slot 2   C C C C · E E E …         and nobody waits for the longest answer
             ───────── steps ───►

Each step of the `Batcher` has the same five parts:

    admit      free slots go to the requests that have waited longest
    prefill    the model reads new prompts into their slots' key-value caches
    decode     all other slots read one token each, in one forward pass
    deliver    each request samples its next token and delivers it
    evict      finished and cancelled requests leave their slots

Decoding for all slots costs hardly more than for one, as most of the work is reading
the weights. A long prompt is read in chunks, one per step, so that the other requests
keep going meanwhile. A slot's cache has room for one request's prompt and answer, and
is freed with the slot.

A request's result does not depend on the others, down to the last bit. Each has its own
random generator and cache, and attention is called once per slot. A matrix product is
summed in an order that depends on its shape, so all products have the same number of
rows, whether slots are taken or free: a multiple of 16, because leftover numbers that
do not fill a vector of the processor are computed in a different way. Where a prompt is
cut into chunks depends on its own length alone.

The `Engine` is the thread in which the model works:

    connections ── submit ──► queue ──► Batcher.step, again and again
                ◄─ deliver ───────────── each new token

Source: Yu et al. (2022), "Orca", section 3.1 (iteration-level scheduling); Agrawal et
al. (2023), "SARATHI", section 4.2 (chunked prefills).
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmcourse.arguments import check_fits, check_ids, check_range
from llmcourse.model.attention import KVCache, RaggedCache
from llmcourse.model.generation import Sampling, draw
from llmcourse.model.transformer import Transformer

_LOG = logging.getLogger(__name__)
_CHUNK = 256  # most tokens of a prompt that are read in one step
_ROWS = 16  # with widths that are multiples of 4, they fill whole vectors of 16 floats


@torch.inference_mode()
def read_prompt(
    model: Transformer, ids: Int[Tensor, "prompt"], cache: KVCache
) -> Float[Tensor, "vocab"]:
    """Prefill: read a prompt into a cache; return the next token's logits (no unit).

    All tokens are read at once. The cache's former content is dropped.

    Raises:
        ValueError: If the prompt is empty or does not fit, or as in
            `Transformer.forward`.
    """
    cache.length = 0
    logits: Tensor = model(ids[None], cache)
    return logits[0, -1]


@torch.inference_mode()
def read_next(
    model: Transformer, ids: dict[int, int], caches: Sequence[KVCache | None]
) -> Float[Tensor, "row vocab"]:
    """Decode: read one token in some slots; return logits (no unit), a row per slot.

    Args:
        model: The model.
        ids: Slot to token. The result's other rows mean nothing.
        caches: The cache of each slot, None where it is free; where a token is read,
            it is added to the cache.

    Raises:
        ValueError: If a slot is full, or as in `Transformer.forward`.
    """
    n_rows = -(-len(caches) // _ROWS) * _ROWS
    device = model.norm.weight.device  # a quantized embedding's weight takes long
    row_ids = torch.zeros(n_rows, 1, dtype=torch.int64, device=device)
    rows: list[KVCache | None] = [None] * n_rows
    for slot, new in ids.items():
        row_ids[slot, 0], rows[slot] = new, caches[slot]
    logits: Tensor = model(row_ids, RaggedCache(rows))
    return logits[:, 0]


class TokenLogprob(NamedTuple):
    """How probable a token was, and which tokens were most probable in its place."""

    id: int
    logprob: float | None  # under the model's own distribution: temperature 1, nothing
    # cut off; None for the first token of a prompt, as nothing comes before it
    top: list[tuple[int, float]]  # id and logprob, the most probable first


def token_logprobs(
    logits: Float[Tensor, "token vocab"], ids: Sequence[int], n_top: int
) -> list[TokenLogprob]:
    """Return the log-probabilities of tokens, from the logits at their places.

    >>> [(id_, logprob, top)] = token_logprobs(torch.zeros(1, 4), [2], n_top=1)
    >>> id_, round(logprob, 4), len(top)  # one of four, all alike
    (2, -1.3863, 1)
    """
    logprobs = logits.float().log_softmax(dim=-1).cpu()
    own = logprobs[torch.arange(len(ids)), torch.tensor(ids).long()].tolist()
    best = logprobs.topk(min(n_top, logprobs.shape[-1]), dim=-1)
    tops = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        TokenLogprob(id_, logprob, list(zip(*top, strict=True)))
        for id_, logprob, top in zip(ids, own, tops, strict=True)
    ]


Finish = Literal["stop", "length", "cancelled", "error"]


@dataclass(eq=False, kw_only=True)
class Request:
    """A prompt to continue, and what has been written so far."""

    ids: list[int]  # of the prompt
    max_new_tokens: int
    sampling: Sampling = Sampling()
    seed: int = 0
    stop: Collection[int] = ()  # ids that end the answer; not part of `written`
    n_top: int | None = None  # most probable tokens in each logprob; None: no logprobs
    score_prompt: bool = False  # whether to record the prompt's logprobs as well
    # Called with each new id, and with None once there will be no more.
    deliver: Callable[[int | None], None] = lambda _: None
    n_read: int = 0  # tokens of the prompt, so far
    written: list[int] = field(default_factory=list)
    # Of the prompt, if asked for, then of every sampled token, including the one that
    # ended the answer. Each is recorded before its token is delivered.
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None  # None: not yet

    def __post_init__(self) -> None:
        """Seed the request's own generator."""
        self.generator = torch.Generator().manual_seed(self.seed)


class QueueFullError(RuntimeError):
    """No slot is free, and the queue has no place left."""


class Batcher:
    """Gives free slots to waiting requests, and every request its next token.

    `submit`, `cancel` and `fail` may be called from any thread, the others from one.

    Args:
        model: The model that writes.
        max_batch: Slots: most requests answered at a time.
        max_queue: Most requests that may wait for a slot.

    Raises:
        ValueError: If `max_batch` is below 1 or `max_queue` below 0.

    >>> from llmcourse.model.transformer import TINY
    >>> batcher = Batcher(Transformer(TINY), max_batch=2)
    >>> requests = [Request(ids=[n], max_new_tokens=n) for n in (1, 2, 3)]
    >>> for request in requests:
    ...     batcher.submit(request)
    >>> batcher.run()
    >>> [len(request.written) for request in requests]
    [1, 2, 3]
    """

    def __init__(
        self, model: Transformer, max_batch: int = 16, max_queue: int = 64
    ) -> None:
        check_range(1, max_batch=max_batch)
        check_range(0, max_queue=max_queue)
        self.model, self.max_batch, self.max_queue = model, max_batch, max_queue
        self.caches: list[KVCache | None] = [None] * max_batch  # one per slot
        self.running: dict[int, Request] = {}  # by slot
        self.waiting: deque[Request] = deque()
        self._lock = threading.Lock()  # for `running` and `waiting`

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.running and not self.waiting

    def submit(self, *requests: Request) -> None:
        """Queue requests for slots: all of them, or none.

        Raises:
            ValueError: If a prompt is empty or has an id outside the vocabulary, if it
                does not fit, with the tokens to be written, into the `context_length`,
                or if there are more requests than slots and places in the queue.
            QueueFullError: If there are too many already.
        """
        config = self.model.config
        for request in requests:
            n_new = request.max_new_tokens
            check_range(0, max_new_tokens=n_new)
            check_fits(len(request.ids), n_new, config.context_length)
            check_ids("ids", torch.tensor(request.ids), config.vocab_size)
        n_places = self.max_batch + self.max_queue
        if len(requests) > n_places:
            raise ValueError(
                f"at most {n_places} texts can be written at once, got {len(requests)}"
            )
        with self._lock:
            if len(self.running) + len(self.waiting) + len(requests) > n_places:
                raise QueueFullError(
                    f"at most {self.max_batch} requests are answered at a time and "
                    f"{self.max_queue} wait: try again later"
                )
            self.waiting.extend(requests)

    def cancel(self, *requests: Request) -> None:
        """End requests before their next token, unless they have already ended."""
        for request in requests:
            request.finish = request.finish or "cancelled"

    def step(self) -> None:
        """Give every request its next token, unless its prompt is still being read."""
        self.evict()  # those that were cancelled meanwhile
        last = {n: one.written[-1] for n, one in self.running.items() if one.written}
        self._admit()
        self._prefill()
        if last:
            logits = read_next(self.model, last, self.caches)
            for slot in last:
                self._write(self.running[slot], logits[slot])
        self.evict()

    def run(self) -> None:
        """Take steps until every request is answered."""
        while not self.idle:
            self.step()

    def fail(self, *, waiting_only: bool = False) -> None:
        """End requests before the next step, with an error that they did not cause."""
        with self._lock:
            running = () if waiting_only else self.running.values()
            for request in (*running, *self.waiting):
                request.finish = request.finish or "error"

    def _admit(self) -> None:
        """Give the free slots to the requests that have waited longest."""
        with self._lock:
            for slot in range(self.max_batch):
                if slot not in self.running and self.waiting:
                    self.running[slot] = self.waiting.popleft()

    def _prefill(self) -> None:
        """Read more of the prompts, about one chunk's length in all.

        The one with the least left goes first, so no short prompt waits for a long one.
        """
        unread = {
            slot: len(request.ids) - request.n_read
            for slot, request in self.running.items()
            if request.n_read < len(request.ids)
        }
        n_read = 0
        for slot in sorted(unread, key=lambda slot: unread[slot]):
            if n_read < _CHUNK:
                n_read += self._read_chunk(slot)

    @torch.inference_mode()
    def _read_chunk(self, slot: int) -> int:
        """Read a prompt's next chunk; return its length.

        After the last one, the first token is written.
        """
        request = self.running[slot]
        start = request.n_read
        if start == 0:
            room = len(request.ids) + request.max_new_tokens
            self.caches[slot] = self.model.new_cache(capacity=room)
        ids = request.ids[start : start + _CHUNK]
        batch = torch.tensor([ids], device=self.model.norm.weight.device)
        logits = self.model(batch, self.caches[slot])[0]
        request.n_read += len(ids)
        if request.n_top is not None and request.score_prompt:
            if start == 0:
                request.logprobs.append(TokenLogprob(ids[0], None, []))
            following = request.ids[start + 1 : start + 1 + len(ids)]
            request.logprobs += token_logprobs(
                logits[: len(following)], following, request.n_top
            )
        if request.n_read == len(request.ids):
            self._write(request, logits[-1])
        return len(ids)

    def _write(self, request: Request, logits: Float[Tensor, "vocab"]) -> None:
        """Sample a request's next token and deliver it, unless it ends the answer."""
        if request.max_new_tokens == 0:
            request.finish = "length"
            return
        if not logits.isfinite().all():
            _LOG.error("the model gave scores that are not finite")
            request.finish = "error"
            return
        new = int(draw(logits[None], request.sampling, request.generator))
        if request.n_top is not None:
            request.logprobs += token_logprobs(logits[None], [new], request.n_top)
        if new in request.stop:
            request.finish = "stop"
            return
        request.written.append(new)
        if len(request.written) == request.max_new_tokens:
            request.finish = "length"
        self._deliver(request, new)

    def _deliver(self, request: Request, new: int | None) -> None:
        try:
            request.deliver(new)
        except Exception:  # it must not harm the other requests
            _LOG.exception("a token could not be delivered")
            self.cancel(request)

    def evict(self) -> None:
        """Free the slots and queue places of all requests that have ended."""
        with self._lock:
            gone = [r for r in (*self.running.values(), *self.waiting) if r.finish]
            for slot in [slot for slot, r in self.running.items() if r in gone]:
                del self.running[slot]
                self.caches[slot] = None
            self.waiting = deque(r for r in self.waiting if r not in gone)
        for request in gone:
            self._deliver(request, None)


class Engine:
    """Works on requests, in a thread of its own, while its `with` block is open.

    A step takes milliseconds and must not be interrupted; a connection must be answered
    at any time. The thread sleeps when there is nothing to do.

    Args:
        batcher: The batcher that takes the steps.

    >>> from llmcourse.model.transformer import TINY
    >>> done = threading.Event()
    >>> request = Request(
    ...     ids=[4, 8],
    ...     max_new_tokens=3,
    ...     deliver=lambda new: done.set() if new is None else None,
    ... )
    >>> with Engine(Batcher(Transformer(TINY))) as engine:
    ...     engine.submit(request)
    ...     done.wait(60)
    True
    """

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher
        self.alive = False  # whether requests are accepted
        self._changed = threading.Condition()  # signals new work, or the end

    def __enter__(self) -> "Engine":
        self.alive = True
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End after the current step; unfinished requests fail."""
        self.stop()
        self._thread.join()

    def stop(self, *, waiting_only: bool = False) -> None:
        """Accept no more requests; fail all unfinished ones, or only those waiting."""
        with self._changed:
            self.alive = False
            self.batcher.fail(waiting_only=waiting_only)
            self._changed.notify()

    def submit(self, *requests: Request) -> None:
        """Pass requests to the batcher: all of them, or none.

        Raises:
            ValueError: As in `Batcher.submit`.
            QueueFullError: As in `Batcher.submit`, or if the engine is not running.
        """
        with self._changed:
            if not self.alive:
                raise QueueFullError("the engine is not running")
            self.batcher.submit(*requests)
            self._changed.notify()

    def _work(self) -> None:
        """Take steps as long as there is something to do; otherwise wait."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self.alive or not self.batcher.idle)
            if self.batcher.idle:
                return
            try:
                self.batcher.step()
            except Exception:  # the callers must be told
                _LOG.exception("a step of the model failed")
                self.batcher.fail()
                self.batcher.evict()
