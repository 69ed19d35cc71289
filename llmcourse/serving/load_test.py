"""A load test: many callers at once; how long each waits, and the throughput.

    caller 1   ├── ask ──┤├─ ask ─┤├── ask ──┤        closed loop: each asks again
    caller 2   ├─── ask ───┤├── ask ──┤├─ ask ─┤      as soon as it is answered

A mean hides the longest waits, so waiting times are given as percentiles: 95 of 100
requests take no longer than p95.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from llmcourse.arguments import check_range


@dataclass(frozen=True, kw_only=True)
class Load:
    """The results of a load test."""

    n_callers: int
    seconds: tuple[float, ...]  # of each request, from asking to the whole answer
    n_tokens: int  # written for all
    wall_seconds: float  # from the first request to the last answer

    @property
    def tokens_per_second(self) -> float:
        """Throughput: tokens written for all callers, per second."""
        return self.n_tokens / self.wall_seconds

    def percentile(self, p: float | int) -> float:
        """Return the smallest of the seconds that p % of the requests did not exceed.

        Source: The nearest-rank method; others interpolate between two values.

        >>> seconds = (4.0, 1.0, 3.0, 2.0)
        >>> load = Load(n_callers=4, seconds=seconds, n_tokens=9, wall_seconds=4.0)
        >>> load.percentile(50), load.percentile(99)
        (2.0, 4.0)
        """
        n = round(p * len(self.seconds) / 100, 9)  # so that 16.1 % of 1,000 is 161
        return sorted(self.seconds)[max(math.ceil(n), 1) - 1]


async def load_test(
    url: str,
    body: Callable[[int], dict[str, Any]],
    n_callers: int,
    n_requests: int,
    *,
    path: str = "/v1/completions",
    clock: Callable[[], float] = time.perf_counter,
) -> Load:
    """Return how a service does with several callers, each asking again and again.

    Args:
        url: The service's address.
        body: Maps a request's number to its JSON body.
        n_callers: How many ask at once.
        n_requests: Requests of all callers together.
        path: Path of the endpoint.
        clock: Returns the time in seconds; if the service runs in this process,
            `time.process_time` leaves out other programs.

    Raises:
        ValueError: If there is no caller or fewer requests than callers.
        httpx.HTTPError: If an answer is an error or never comes.
    """
    check_range(1, n_requests, n_callers=n_callers)
    seconds: list[float] = []
    numbers = iter(range(n_requests))
    limits = httpx.Limits(max_connections=n_callers)
    n_tokens = 0
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as http:

        async def caller() -> None:
            nonlocal n_tokens
            for number in numbers:
                start = clock()
                answer = await http.post(path, json=body(number))
                answer.raise_for_status()
                seconds.append(clock() - start)
                n_tokens += answer.json()["usage"]["completion_tokens"]

        start = clock()
        await asyncio.gather(*(caller() for _ in range(n_callers)))
        wall = clock() - start
    return Load(
        n_callers=n_callers,
        seconds=tuple(seconds),
        n_tokens=n_tokens,
        wall_seconds=wall,
    )
