"""Continuous batching: many requests are answered at once, each as if it were alone.

    slot 0   A A A A A A A ·           a request that is finished leaves,
    slot 1   B B · D D D D D D         one that waits takes its place,
    slot 2   C C C C · E E E …         and nobody waits for the longest answer
             ───────── steps ───►

In each step every slot's sequence is given one more token. That costs hardly more than
one token for one of them, as reading the weights is most of the work.

Each request has a generator of its own, and what it computes does not depend on the
others, see `slots`: the answer is the one that it would get with nobody else there.

Source: Yu et al. (2022), "Orca", section 3.1 (iteration-level scheduling).
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from llmcourse.generation import next_token_distribution
from llmcourse.rollouts import fall
from llmcourse.slots import SlotCache, read_next, read_prompt
from llmcourse.transformer import Transformer

_LOG = logging.getLogger(__name__)

Finish = Literal["stop", "length", "cancelled", "error"]


class QueueFullError(RuntimeError):
    """No slot and no place in the queue is left."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a request's tokens are drawn; see `generation.next_token_distribution`.

    Raises:
        ValueError: As there.
    """

    temperature: float | int = 1.0
    top_k: int | None = None
    top_p: float | int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for options that nothing can be drawn with."""
        self.distribution(torch.zeros(1))

    def distribution(
        self, logits: Float[Tensor, "*batch vocab"]
    ) -> Float[Tensor, "*batch vocab"]:
        """Return the probabilities to draw from."""
        return next_token_distribution(logits, self.temperature, self.top_k, self.top_p)


@dataclass(eq=False, kw_only=True)
class Request:
    """A prompt to go on with, and what has been written so far."""

    ids: list[int]  # of the prompt
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop: Collection[int] = ()  # ids that end the answer; not part of `written`
    # Called with each new id, and with None once there will be no more.
    deliver: Callable[[int | None], None] = lambda _: None
    written: list[int] = field(default_factory=list)
    finish: Finish | None = None  # None: not yet

    def __post_init__(self) -> None:
        """Seed the request's own generator."""
        self.generator = torch.Generator().manual_seed(self.sampling.seed)


class Batcher:
    """Gives free slots to waiting requests, and every request its next token.

    `submit` and `cancel` may be called from any thread, `step` from one only.

    Args:
        model: What writes.
        max_batch: Slots: most requests that are answered at a time.
        max_queue: Most requests that wait for a slot.

    Raises:
        ValueError: If there is no slot, or less than no queue.

    >>> from llmcourse.transformer import TINY
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
        if max_batch < 1 or max_queue < 0:
            raise ValueError(
                "max_batch must be at least 1 and max_queue at least 0, "
                f"got {max_batch} and {max_queue}"
            )
        self.model, self.max_batch, self.max_queue = model, max_batch, max_queue
        self.cache = SlotCache(model, max_batch)
        self.running: dict[int, Request] = {}  # by slot
        self.waiting: deque[Request] = deque()
        self._lock = threading.Lock()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.running and not self.waiting

    def submit(self, *requests: Request) -> None:
        """Let requests wait for slots: all of them, or none.

        Raises:
            ValueError: If a prompt is empty or has an id that the model lacks, if no
                token is to be written, if both together do not fit into the model's
                `context_length`, or if these are more requests than there are places.
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
            n_open = len(self.running) + len(self.waiting) + len(requests)
            if n_open > n_places:
                raise QueueFullError(
                    f"at most {self.max_batch} requests are answered at a time and "
                    f"{self.max_queue} wait: try again later"
                )
            self.waiting.extend(requests)

    def cancel(self, request: Request) -> None:
        """Let a request end before its next token, unless it has ended."""
        with self._lock:
            if request.finish is None:
                request.finish = "cancelled"

    def step(self) -> int:
        """Give every request its next token; return how many tokens were written."""
        self._drop_cancelled()
        admitted = self._admit()
        old = {slot: r for slot, r in self.running.items() if slot not in admitted}
        written = sum(self._begin(slot, request) for slot, request in admitted.items())
        if old:
            last = {slot: request.written[-1] for slot, request in old.items()}
            logits = read_next(self.model, last, self.cache)
            written += self._draw(old, logits)
        self._drop_cancelled()
        return written

    def run(self) -> None:
        """Go on until every request is answered."""
        while not self.idle:
            self.step()

    def fail(self) -> None:
        """End all requests: something went wrong that none of them is to blame for."""
        with self._lock:
            ended = [*self.running.values(), *self.waiting]
            self.running.clear()
            self.waiting.clear()
            self.cache.lengths = [0] * self.max_batch
        for request in ended:
            request.finish = request.finish or "error"
            self._tell(request, None)

    def _check(self, request: Request) -> None:
        config, n_prompt = self.model.config, len(request.ids)
        if n_prompt < 1 or request.max_new_tokens < 1:
            raise ValueError(
                "a request needs at least 1 token to read and 1 to write, "
                f"got {n_prompt} and {request.max_new_tokens}"
            )
        if n_prompt + request.max_new_tokens > config.context_length:
            raise ValueError(
                f"the model's context window is {config.context_length} tokens, got "
                f"{n_prompt} of the prompt and {request.max_new_tokens} to write"
            )
        if not 0 <= min(request.ids) <= max(request.ids) < config.vocab_size:
            raise ValueError(
                f"ids must be in 0 … {config.vocab_size - 1}, "
                f"got {min(request.ids)} … {max(request.ids)}"
            )

    def _admit(self) -> dict[int, Request]:
        """Give the free slots to those that have waited longest."""
        with self._lock:
            free = [n for n in range(self.max_batch) if n not in self.running]
            admitted = {}
            while free and self.waiting:
                admitted[free.pop(0)] = self.waiting.popleft()
            self.running |= admitted
        return admitted

    def _begin(self, slot: int, request: Request) -> int:
        """Read a prompt and draw the first token."""
        logits = read_prompt(self.model, torch.tensor(request.ids), self.cache, slot)
        return self._draw({slot: request}, {slot: logits})

    def _draw(
        self, requests: dict[int, Request], logits: Tensor | dict[int, Tensor]
    ) -> int:
        """Draw the next token of some requests; return how many were written."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for slot, request in requests.items():
            how = request.sampling
            groups.setdefault((how.temperature, how.top_k, how.top_p), []).append(slot)
        for slots in groups.values():
            scores = torch.stack([logits[slot] for slot in slots])
            how = requests[slots[0]].sampling
            drawn = _drawn(scores, how, [requests[slot].generator for slot in slots])
            for slot, new in zip(slots, drawn, strict=True):
                self._give(requests[slot], new)
        return sum(request.finish in (None, "length") for request in requests.values())

    def _give(self, request: Request, new: int | None) -> None:
        """Write a token down, or the end of the answer."""
        with self._lock:
            if request.finish is not None:
                return
            if new is None:
                request.finish = "error"
            elif new in request.stop:
                request.finish = "stop"
            else:
                request.written.append(new)
                if len(request.written) == request.max_new_tokens:
                    request.finish = "length"
        if request.finish in (None, "length"):
            self._tell(request, new)

    def _tell(self, request: Request, new: int | None) -> None:
        """Deliver a token, or that there are no more, whatever comes of it."""
        try:
            request.deliver(new)
        except Exception:  # theirs: the other requests must not suffer from it
            _LOG.exception("a token could not be delivered")
            self.cancel(request)

    def _drop_cancelled(self) -> None:
        """Free the slots and the places in the queue of all that have ended."""
        with self._lock:
            ended = [n for n, request in self.running.items() if request.finish]
            gone = [self.running.pop(slot) for slot in ended]
            gone += [request for request in self.waiting if request.finish]
            self.waiting = deque(r for r in self.waiting if not r.finish)
        for slot in ended:
            self.cache.free(slot)
        for request in gone:
            self._tell(request, None)


@torch.inference_mode()
def _drawn(
    logits: Float[Tensor, "row vocab"],
    how: Sampling,
    generators: list[torch.Generator],
) -> list[int | None]:
    """Return an id for each row, None for one whose logits are not finite.

    As in `generation`: the same seed gives the same ids as there.
    """
    sound = logits.isfinite().all(dim=-1)
    if how.temperature == 0:
        ids = logits.argmax(dim=-1)
    else:
        luck = torch.cat([torch.rand(1, generator=own) for own in generators])
        ids = fall(how.distribution(logits.where(sound[:, None], 0.0)), luck)
    return [int(new) if ok else None for new, ok in zip(ids, sound, strict=True)]
