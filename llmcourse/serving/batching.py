"""Continuous batching: many requests are answered at once, each as if it were alone.

    slot 0   A A A A A A A ·           a request that is finished leaves,
    slot 1   B B · D D D D D D         one that waits takes its place,
    slot 2   C C C C · E E E …         and nobody waits for the longest answer
             ───────── steps ───►

Each step of the `Batcher` has the same five parts:

    admit      free slots go to the requests that have waited longest
    prefill    the model reads new prompts into their slots' key-value caches
    decode     all other slots read one token each, in one forward pass
    deliver    each request draws its next token and hands it over
    evict      finished and cancelled requests leave their slots

The decode costs hardly more than one token for one request, as reading the weights is
most of the work. A long prompt is read in chunks, one a step, so that the other
requests go on meanwhile. A slot's cache has room for one request's prompt and answer,
and is given up with the slot.

What a request gets does not depend on the others, to the last bit. Each has a random
generator and a cache of its own, and attention has a call for each slot. A product of
matrices is summed in an order that depends on its shape, so all of them always have the
same number of rows, whether a slot is taken or free: a multiple of 16, because the last
numbers of a list that do not fill a processor's vector are computed in another way.
Where a prompt is cut into chunks depends on its own length alone.

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
_CHUNK = 256  # most tokens of a prompt that are read at once
_ROWS = 16  # times a width that is a multiple of 4: four vectors of 16 floats


@torch.inference_mode()
def read_prompt(
    model: Transformer, ids: Int[Tensor, "prompt"], cache: KVCache
) -> Float[Tensor, "vocab"]:
    """Prefill: read a prompt into a cache; return the next token's logits, no unit.

    All of its tokens are read at once. What the cache held before is dropped.

    Raises:
        ValueError: If it is empty or does not fit, or as the model.
    """
    cache.length = 0
    logits: Tensor = model(ids[None], cache)
    return logits[0, -1]


@torch.inference_mode()
def read_next(
    model: Transformer, ids: dict[int, int], caches: Sequence[KVCache | None]
) -> Float[Tensor, "row vocab"]:
    """Decode: read one token in some slots; return the logits (no unit), a row a slot.

    Args:
        model: The model.
        ids: The token for each slot that has one. The result's other rows mean nothing.
        caches: Of each slot, None where it is free; those that have a token are
            extended by it.

    Raises:
        ValueError: If a slot is full, or as the model.
    """
    n_rows = -(-len(caches) // _ROWS) * _ROWS
    device = model.embedding.weight.device
    row_ids = torch.zeros(n_rows, 1, dtype=torch.int64, device=device)
    rows: list[KVCache | None] = [None] * n_rows
    for slot, new in ids.items():
        row_ids[slot, 0], rows[slot] = new, caches[slot]
    logits: Tensor = model(row_ids, RaggedCache(rows))
    return logits[:, 0]


class TokenLogprob(NamedTuple):
    """How probable a token was at its place, and which were the most probable there."""

    id: int
    logprob: float | None  # by the model's own distribution, at temperature 1 and
    # without cuts; None for the first token of a prompt, which nothing comes before
    top: list[tuple[int, float]]  # id and logprob, the most probable first


def token_logprobs(
    logits: Float[Tensor, "token vocab"], ids: Sequence[int], n_top: int
) -> list[TokenLogprob]:
    """Return the log-probabilities of tokens, from the logits that they were drawn by.

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
    score_prompt: bool = False  # whether to note the prompt's logprobs, too
    # Called with each new id, and with None once there will be no more.
    deliver: Callable[[int | None], None] = lambda _: None
    n_read: int = 0  # tokens of the prompt
    written: list[int] = field(default_factory=list)
    # Of the prompt, if wanted, then of all that was drawn, the id that ended the answer
    # too. A token's is noted before it is delivered.
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None  # None: not yet

    def __post_init__(self) -> None:
        """Seed the request's own generator."""
        self.generator = torch.Generator().manual_seed(self.seed)


class QueueFullError(RuntimeError):
    """No slot and no place in the queue is left."""


class Batcher:
    """Gives free slots to waiting requests, and every request its next token.

    `submit`, `cancel` and `fail` may be called from any thread, the others from one.

    Args:
        model: What writes.
        max_batch: Slots: most requests that are answered at a time.
        max_queue: Most requests that wait for a slot.

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
        self.caches: list[KVCache | None] = [None] * max_batch  # of each slot
        self.running: dict[int, Request] = {}  # by slot
        self.waiting: deque[Request] = deque()
        self._lock = threading.Lock()  # for `running` and `waiting`

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.running and not self.waiting

    def submit(self, *requests: Request) -> None:
        """Let requests wait for slots: all of them, or none.

        Raises:
            ValueError: If a prompt is empty or has an id outside the vocabulary, if it
                does not fit, with what is to be written, into the model's
                `context_length`, or if there are more requests than slots and places.
            QueueFullError: If there are too many already.
        """
        for request in requests:
            self._check(request)
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

    def _check(self, request: Request) -> None:
        config, n_new = self.model.config, request.max_new_tokens
        check_range(0, max_new_tokens=n_new)
        check_fits(len(request.ids), n_new, config.context_length)
        check_ids("ids", torch.tensor(request.ids), config.vocab_size)

    def cancel(self, *requests: Request) -> None:
        """End requests before their next token, unless they have ended."""
        for request in requests:
            request.finish = request.finish or "cancelled"

    def step(self) -> None:
        """Give every request its next token, but for those whose prompts are long."""
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
        """Make steps until every request is answered."""
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
        """Read on in the prompts, about a chunk's length in all.

        First where least is left, so that no short prompt waits for a long one.
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
        """Read on in one prompt, at its end with a first token; return how far."""
        request = self.running[slot]
        start = request.n_read
        if start == 0:
            room = len(request.ids) + request.max_new_tokens
            self.caches[slot] = self.model.new_cache(capacity=room)
        ids = request.ids[start : start + _CHUNK]
        batch = torch.tensor([ids], device=self.model.embedding.weight.device)
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
        """Draw a request's next token and deliver it, unless that is its end."""
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
        except Exception:  # must not harm the other requests
            _LOG.exception("a token could not be delivered")
            self.cancel(request)

    def evict(self) -> None:
        """Free the slots and the places in the queue of all that have ended."""
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
        batcher: What makes the steps.

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
        self.alive = False  # whether requests are taken
        self._changed = threading.Condition()  # something to do, or the end

    def __enter__(self) -> "Engine":
        self.alive = True
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End after the current step; what is not finished fails."""
        self.stop()
        self._thread.join()

    def stop(self, *, waiting_only: bool = False) -> None:
        """Take no more requests; fail all that are not finished, or only wait."""
        with self._changed:
            self.alive = False
            self.batcher.fail(waiting_only=waiting_only)
            self._changed.notify()

    def submit(self, *requests: Request) -> None:
        """Let requests be answered: all of them, or none.

        Raises:
            ValueError: As `Batcher.submit`.
            QueueFullError: As there, or if the engine has stopped.
        """
        with self._changed:
            if not self.alive:
                raise QueueFullError("the engine is not running")
            self.batcher.submit(*requests)
            self._changed.notify()

    def _work(self) -> None:
        """Make steps as long as there is something to do; else wait."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self.alive or not self.batcher.idle)
            if self.batcher.idle:
                return
            try:
                self.batcher.step()
            except Exception:  # those who wait must hear of it
                _LOG.exception("a step of the model failed")
                self.batcher.fail()
                self.batcher.evict()
