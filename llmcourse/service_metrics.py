"""What the service counts, in the form that Prometheus collects.

    llmcourse_responses_total{path="/v1/completions",status="200"}  41.0
    llmcourse_tokens_total{kind="written"}                        1874.0
    llmcourse_running_requests                                       3.0

Counts only grow; what is going on now are gauges; how long things take is counted in
classes, from which quantiles are computed later.

Source: Prometheus, "Metric types" and "Text-based exposition format".
"""

import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmcourse.batching import Batcher

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class ServiceMetrics:
    """The numbers of one service.

    >>> import torch
    >>> from llmcourse.transformer import TINY, Transformer
    >>> metrics = ServiceMetrics(Batcher(Transformer(TINY)))
    >>> metrics.tokens.labels("written").inc(3)
    >>> b'llmcourse_tokens_total{kind="written"} 3.0' in metrics.text()
    True
    """

    def __init__(self, batcher: Batcher) -> None:
        self.registry = registry = CollectorRegistry()
        self.responses = Counter(
            "llmcourse_responses",
            "Answers by path and HTTP status.",
            ["path", "status"],
            registry=registry,
        )
        self.tokens = Counter(
            "llmcourse_tokens", "Tokens read and written.", ["kind"], registry=registry
        )
        self.seconds = Histogram(
            "llmcourse_response_seconds",
            "From a request to the end of its answer, in seconds.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_token = Histogram(
            "llmcourse_first_token_seconds",
            "From a request to the first token of its answer, in seconds.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "llmcourse_step_tokens",
            "Tokens that one step of the model wrote.",
            buckets=_SIZES,
            registry=registry,
        )
        running = Gauge(
            "llmcourse_running_requests", "Requests in a slot.", registry=registry
        )
        running.set_function(lambda: len(batcher.running))
        waiting = Gauge(
            "llmcourse_waiting_requests", "Requests in the queue.", registry=registry
        )
        waiting.set_function(lambda: len(batcher.waiting))

    def text(self) -> bytes:
        """Return all numbers as Prometheus reads them."""
        return generate_latest(self.registry)


class CountResponses:
    """Counts every answer that passes through it, and the seconds that it took.

    Args:
        app: What is behind.
        metrics: Where to count.
        paths: Those that are told apart; all others are one.
    """

    def __init__(
        self, app: ASGIApp, metrics: ServiceMetrics, paths: frozenset[str]
    ) -> None:
        self.app, self.metrics, self.paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"
        start = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.responses.labels(path, str(message["status"])).inc()
            await send(message)

        try:
            await self.app(scope, receive, counted)
        finally:
            seconds = time.perf_counter() - start
            self.metrics.seconds.labels(path).observe(seconds)
