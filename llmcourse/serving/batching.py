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

Sequences of different lengths, read on side by side: one token each.

    slot 0   t t t t t t t ●           ●  the token that is read now
    slot 1   t t ●                     t  keys and values that are there
    slot 2   (free)
    slot 3   t t t t t ●

`KVCache` is for sequences that began together. Here each slot has a length of its own,
so that one sequence can leave and another take its place while the rest goes on.

What a sequence gets does not depend on the others, to the last bit. A processor adds up
a product of matrices in an order that depends on their shapes, so the shapes must not
depend on who is there: all matrices have a row for every slot, free or not, and each
sequence looks at a number of keys that follows from its own length alone. Nor must
anything depend on the slot: there is a multiple of 16 rows, because the last numbers of
a list, if they do not fill a processor's vector, are computed in another way.

The thread in which the model works, while others talk to those who wait.

    connections ── submit ──► queue ──► Batcher.step, again and again
                ◄─ deliver ───────────── each new token

A step takes milliseconds and must not be interrupted; a connection must be answered
at any time. So the model has a thread of its own, which sleeps when there is nothing
to do.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from llmcourse.model.attention import GroupedQueryAttention, KVCache, causal_attention
from llmcourse.model.generation import (
    Sampling,
    inverse_cdf,
    next_token_distribution,
)
from llmcourse.model.positions import apply_rope
from llmcourse.model.quantization import QuantizedEmbedding
from llmcourse.model.transformer import Block, Transformer

_FEWEST_KEYS = 32
_ROWS = 16  # times a width that is a multiple of 4: four vectors of 16 floats


class SlotCache:
    """Keys and values of several sequences, each of a length of its own.

    Args:
        model: Whose keys and values they are.
        n_slots: Most sequences at a time.
        capacity: Most positions of each; None takes the model's `context_length`.

    Raises:
        ValueError: If there is no slot or no room, or if the model reads in a way that
            `read_next` does not: attention of another kind, an embedding that looks
            around, subclasses or hooks of the parts that are not called.

    >>> from llmcourse.model.transformer import TINY
    >>> cache = SlotCache(Transformer(TINY), n_slots=3, capacity=40)
    >>> cache.lengths, cache.n_bytes
    ([0, 0, 0], 122880)
    """

    def __init__(
        self, model: Transformer, n_slots: int, capacity: int | None = None
    ) -> None:
        if not _reads_as_usual(model):
            raise ValueError(
                "slots need a model whose attention looks at all keys, with a plain "
                "embedding, without subclasses or hooks of model, blocks and attention"
            )
        rows = model.new_cache(n_slots, capacity)
        self.keys, self.values = rows.keys, rows.values  # (L, slot, K, S, d_head)
        self.capacity = rows.capacity
        self.lengths = [0] * n_slots  # in positions

    @property
    def n_bytes(self) -> int:
        """Memory taken by keys and values together, in bytes."""
        return self.keys.nbytes + self.values.nbytes

    def fill(self, slot: int, cache: KVCache) -> None:
        """Put a sequence that was read by itself into a slot.

        Raises:
            ValueError: If it is longer than the slot, or not one sequence.
        """
        n = cache.length
        if cache.keys.shape[1] != 1 or n > self.capacity:
            raise ValueError(
                f"a slot holds 1 sequence of at most {self.capacity} positions, "
                f"got {cache.keys.shape[1]} of {n}"
            )
        self.keys[:, slot, :, :n] = cache.keys[:, 0, :, :n]
        self.values[:, slot, :, :n] = cache.values[:, 0, :, :n]
        self.lengths[slot] = n

    def free(self, slot: int) -> None:
        """Let the next sequence have a slot."""
        self.lengths[slot] = 0


def _reads_as_usual(model: Transformer) -> bool:
    """Return whether `read_next` does what the model does.

    Model, blocks and attention layers are not called there, only what is inside them.
    """
    kinds = {Transformer, Block, GroupedQueryAttention}
    replaced = [part for part in model.modules() if isinstance(part, tuple(kinds))]
    return (
        type(model.embedding) in (nn.Embedding, QuantizedEmbedding)
        and len(replaced) == 1 + 2 * model.config.n_layers
        and all(
            type(part) in kinds
            and getattr(part, "attend", causal_attention) is causal_attention
            and not part._forward_hooks
            and not part._forward_pre_hooks
            for part in replaced
        )
    )


@torch.inference_mode()
def read_prompt(
    model: Transformer, ids: Int[Tensor, "prompt"], cache: SlotCache, slot: int
) -> Float[Tensor, "vocab"]:
    """Read a prompt into a slot; return the logits (no unit) of what comes next.

    The prompt is read by itself, all of its tokens at once.

    Raises:
        ValueError: If it is empty or does not fit, or as the model.
    """
    own = model.new_cache(1, capacity=max(1, len(ids)))
    logits: Tensor = model(ids[None], own)[0, -1]
    cache.fill(slot, own)
    return logits


@torch.inference_mode()
def read_next(
    model: Transformer, ids: dict[int, int], cache: SlotCache
) -> Float[Tensor, "row vocab"]:
    """Read one more token in some slots; return the logits (no unit), a row for each.

    Args:
        model: The model.
        ids: The token for each slot that has one. The result's other rows, and those
            behind the last slot's, mean nothing.
        cache: Is extended by these tokens.

    Raises:
        ValueError: If a slot is empty or full.
    """
    for slot in ids:
        if not 0 < cache.lengths[slot] < cache.capacity:
            raise ValueError(
                f"slot {slot} must hold 1 … {cache.capacity - 1} positions to read "
                f"on, got {cache.lengths[slot]}"
            )
    n_rows = -(-len(cache.lengths) // _ROWS) * _ROWS
    row_ids = torch.zeros(n_rows, 1, dtype=torch.int64)
    here = torch.zeros(n_rows, dtype=torch.int64)  # position of each row's token
    for slot, new in ids.items():
        row_ids[slot, 0], here[slot] = new, cache.lengths[slot]
    x: Tensor = model.embedding(row_ids)  # (row, 1, D)
    if model.positions is not None:
        x = x + model.positions.weight[here, None]
    angles = None
    if model.cos is not None and model.sin is not None:
        angles = model.cos[here], model.sin[here]  # (row, d_head / 2)
    groups = _groups(cache, torch.tensor(sorted(ids)))
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        x = x + _attend(block, x, angles, cache, layer, groups)
        x = x + block.feed_forward(block.feed_forward_norm(x))
    for slot in ids:
        cache.lengths[slot] += 1
    x = model.norm(x)[:, 0]
    if model.unembedding is None:
        return linear(x, model.embedding.weight)
    logits: Tensor = model.unembedding(x)
    return logits


class _Group(NamedTuple):
    """Slots that look at equally many keys."""

    slots: Int[Tensor, "group"]
    places: Int[Tensor, "group"]  # where their new keys go
    n_keys: int
    mask: Bool[Tensor, "group 1 1 key"]  # True where a key may be looked at


def _groups(cache: SlotCache, slots: Int[Tensor, "chosen"]) -> list[_Group]:
    places = torch.tensor(cache.lengths)[slots]
    widths = [_n_keys(place + 1, cache.capacity) for place in places.tolist()]
    groups = []
    for width in sorted(set(widths)):
        chosen = torch.tensor(widths) == width
        mask = torch.arange(width) <= places[chosen, None]
        groups.append(_Group(slots[chosen], places[chosen], width, mask[:, None, None]))
    return groups


def _attend(
    block: Block,
    x: Float[Tensor, "row 1 d_model"],
    angles: tuple[Tensor, Tensor] | None,
    cache: SlotCache,
    layer: int,
    groups: list[_Group],
) -> Float[Tensor, "row 1 d_model"]:
    """Return what each slot's new token gathers from itself and those before it."""
    attention, normed = block.attention, block.attention_norm(x)
    query, key, value = (
        projection(normed).view(len(x), -1, attention.d_head)
        for projection in (attention.query, attention.key, attention.value)
    )  # (row, H, d_head), (row, K, d_head) twice
    if angles is not None:
        # Each row is at a position of its own, so rows stand where positions do.
        query, key = (
            apply_rope(heads.transpose(0, 1), *angles).transpose(0, 1)
            for heads in (query, key)
        )
    context = torch.zeros_like(query)
    grouped = query.shape[1] > key.shape[1]
    for slots, places, n_keys, mask in groups:
        cache.keys[layer, slots, :, places] = key[slots]
        cache.values[layer, slots, :, places] = value[slots]
        context[slots] = scaled_dot_product_attention(
            query[slots, :, None],
            cache.keys[layer, slots, :, :n_keys],
            cache.values[layer, slots, :, :n_keys],
            attn_mask=mask,
            enable_gqa=grouped,
        )[:, :, 0]
    update: Tensor = attention.output(context.flatten(1)[:, None])
    return update


def _n_keys(length: int, capacity: int) -> int:
    """Return how many keys a sequence looks at, those past its end masked.

    >>> _n_keys(1, 100), _n_keys(33, 100), _n_keys(65, 100)
    (32, 64, 100)
    """
    width = _FEWEST_KEYS
    while width < length:
        width *= 2
    return min(width, capacity)


_LOG = logging.getLogger(__name__)

Finish = Literal["stop", "length", "cancelled", "error"]


class QueueFullError(RuntimeError):
    """No slot and no place in the queue is left."""


@dataclass(eq=False, kw_only=True)
class Request:
    """A prompt to go on with, and what has been written so far."""

    ids: list[int]  # of the prompt
    max_new_tokens: int
    sampling: Sampling = Sampling()
    seed: int = 0
    stop: Collection[int] = ()  # ids that end the answer; not part of `written`
    # Called with each new id, and with None once there will be no more.
    deliver: Callable[[int | None], None] = lambda _: None
    written: list[int] = field(default_factory=list)
    finish: Finish | None = None  # None: not yet

    def __post_init__(self) -> None:
        """Seed the request's own generator."""
        self.generator = torch.Generator().manual_seed(self.seed)


class Batcher:
    """Gives free slots to waiting requests, and every request its next token.

    `submit` and `cancel` may be called from any thread, `step` from one only.

    Args:
        model: What writes.
        max_batch: Slots: most requests that are answered at a time.
        max_queue: Most requests that wait for a slot.

    Raises:
        ValueError: If there is no slot, or less than no queue.

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
        groups: dict[Sampling, list[int]] = {}
        for slot, request in requests.items():
            groups.setdefault(request.sampling, []).append(slot)
        for sampling, slots in groups.items():
            scores = torch.stack([logits[slot] for slot in slots])
            generators = [requests[slot].generator for slot in slots]
            drawn = _drawn(scores, sampling, generators)
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
    sampling: Sampling,
    generators: list[torch.Generator],
) -> list[int | None]:
    """Return an id for each row, None for one whose logits are not finite.

    As in `generation`: the same seed gives the same ids as there.
    """
    sound = logits.isfinite().all(dim=-1)
    if sampling.temperature == 0:
        ids = logits.argmax(dim=-1)
    else:
        uniform = torch.cat([torch.rand(1, generator=own) for own in generators])
        logits = logits.where(sound[:, None], 0.0)
        ids = inverse_cdf(next_token_distribution(logits, sampling), uniform)
    return [int(new) if ok else None for new, ok in zip(ids, sound, strict=True)]


_LOG_of_engine = logging.getLogger(__name__)
_T = TypeVar("_T")


class Engine:
    """Works on requests until it is stopped.

    Args:
        batcher: What is to be done, and with which model.
        after_step: Called with the tokens that a step wrote, in the thread.

    >>> import torch
    >>> from llmcourse.model.transformer import TINY, Transformer
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

    def __init__(
        self, batcher: Batcher, after_step: Callable[[int], None] = lambda _: None
    ) -> None:
        self.batcher, self.after_step = batcher, after_step
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Engine":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to work, for the first time or again.

        Raises:
            RuntimeError: If it works already.
        """
        if self._thread is not None:
            raise RuntimeError("the engine works already")
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the step that is being made; what is not finished fails."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @property
    def alive(self) -> bool:
        """Whether requests are taken."""
        thread = self._thread
        return thread is not None and thread.is_alive() and not self._stopping

    def submit(self, *requests: Request) -> None:
        """Let requests be answered: all of them, or none.

        Raises:
            ValueError: As `Batcher.submit`.
            QueueFullError: As there, or if the engine has stopped.
        """
        with self._wake:
            self._check()
            self.batcher.submit(*requests)
            self._wake.notify()

    def cancel(self, *requests: Request) -> None:
        """Let requests end, those that have not."""
        for request in requests:
            self.batcher.cancel(request)

    def run(self, job: Callable[[], _T]) -> "Future[_T]":
        """Let something else be done with the model, between two steps.

        Raises:
            QueueFullError: If too much waits already, or the engine has stopped.
        """
        future: Future[_T] = Future()
        with self._wake:
            self._check()
            if len(self._jobs) >= 4 * self.batcher.max_queue + 4:
                raise QueueFullError("too many jobs wait: try again later")
            self._jobs.append((future, job))
            self._wake.notify()
        return future

    def _check(self) -> None:
        if not self.alive:
            raise QueueFullError("the engine is not running")

    def _work(self) -> None:
        while True:
            with self._wake:
                while self._rests():
                    self._wake.wait()
                if self._stopping:
                    break
                job = self._jobs.popleft() if self._jobs else None
            if job is not None:
                _do(*job)
            if not self.batcher.idle:
                self._step()
        self.batcher.fail()
        while self._jobs:
            future, _ = self._jobs.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(QueueFullError("the engine has stopped"))

    def _rests(self) -> bool:
        return self.batcher.idle and not self._jobs and not self._stopping

    def _step(self) -> None:
        try:
            self.after_step(self.batcher.step())
        except Exception:  # a fault of ours: those who wait must hear of it
            _LOG_of_engine.exception("a step of the model failed")
            self.batcher.fail()


def _do(future: "Future[Any]", job: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except Exception as error:
        future.set_exception(error)
