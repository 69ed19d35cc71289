"""Load tests: every request is counted once, and percentiles are what they say."""

import asyncio

import httpx
import numpy as np
import pytest
from service_cases import NAME, small_service

from llmcourse.serving.load_test import Load, load_test


def percentile(seconds, p):
    load = Load(n_callers=1, seconds=tuple(seconds), n_tokens=1, wall_seconds=1.0)
    return load.percentile(p)


def test_worked_example_of_percentiles():
    """Of ten values the fifth is the median, the tenth is p95 and p99."""
    values = [float(n) for n in (7, 3, 9, 1, 5, 2, 10, 4, 8, 6)]
    assert [percentile(values, p) for p in (10, 50, 95, 99, 100)] == [1, 5, 10, 10, 10]


@pytest.mark.parametrize("p", range(1, 101))
def test_of_a_hundred_values_each_is_its_own_percentile(p):
    """As 7 / 100 * 100 is more than 7 in floating point, order counts."""
    assert percentile([float(n) for n in range(100, 0, -1)], p) == p
    assert percentile([float(n) for n in range(1, 1001)], p + 0.1 * (p < 100)) == (
        10 * p + (p < 100)
    )


def test_throughput_is_tokens_by_time():
    load = Load(n_callers=2, seconds=(1.0, 3.0), n_tokens=60, wall_seconds=4.0)
    assert (load.tokens_per_second, load.percentile(50)) == (15, 1)


def test_every_request_is_made_once():
    asked = []

    def body(number):
        asked.append(number)
        return {"model": NAME, "prompt": "x", "max_tokens": 1 + number % 3, "seed": 1}

    with small_service() as (url, _):
        load = asyncio.run(load_test(url, body, 4, 12))
        assert sorted(asked) == list(range(12))
        assert len(load.seconds) == 12
        assert load.n_tokens <= 4 * (1 + 2 + 3)
        assert max(load.seconds) <= load.wall_seconds
        with pytest.raises(httpx.HTTPStatusError):
            asyncio.run(load_test(url, lambda _: {}, 1, 1))


@pytest.mark.parametrize("p", [1, 33, 50, 90, 99, 100])
def test_equals_numpy(p):
    values = np.random.default_rng(0).random(37)
    theirs = np.percentile(values, p, method="inverted_cdf")
    assert percentile(values.tolist(), p) == theirs


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="n_callers must be in 1 … 2, got 3"):
        asyncio.run(load_test("http://127.0.0.1", dict, 3, 2))
