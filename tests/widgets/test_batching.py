"""The batching explorer: its plans in Node beside the package's `Batcher`.

How it looks and answers the keyboard is tested in a browser, in tests/site.
"""

import random
from dataclasses import replace

import pytest

from llmcourse.model.transformer import TINY, Transformer
from llmcourse.serving.batching import Batcher, Request
from llmcourse.widgets.batching import BatchingExplorer, Load

BY_HAND = [Load(0, 1, n) for n in (2, 7, 3, 1, 4)]


def random_loads(seed):
    """Return some requests, a few of them with prompts of several chunks."""
    rng = random.Random(seed)
    return [
        Load(rng.randrange(12), rng.choice((1, 9, 250, 257, 700)), rng.randrange(1, 15))
        for _ in range(rng.randrange(1, 9))
    ]


def planned(javascript, loads, slots, kind):
    """Return the page's plan: what slots do, and when first and last tokens come."""
    requests = [
        {"name": "", "arrival": a, "prompt": p, "answer": n} for a, p, n in loads
    ]
    return javascript(
        BatchingExplorer,
        "((plan) => [plan, m.summary(x.requests, plan)])"
        "(m.plan(x.requests, x.slots, x.kind))",
        {"requests": requests, "slots": slots, "kind": kind},
    )


def by_the_batcher(loads, slots):
    """Return in which step each request's first and last token came."""
    batcher = Batcher(Transformer(replace(TINY, context_length=1024)), slots)
    requests = [Request(ids=[1] * p, max_new_tokens=n) for _, p, n in loads]
    times = [{} for _ in loads]
    step = 0
    while any(request.finish is None for request in requests):
        for request, load in zip(requests, loads, strict=True):
            if load.arrival == step:
                batcher.submit(request)
        batcher.step()
        step += 1
        for request, time in zip(requests, times, strict=True):
            if request.written:
                time.setdefault("first", step)
            if request.finish:
                time.setdefault("last", step)
    return times


@pytest.mark.parametrize(("kind", "steps"), [("fixed", 14), ("continuous", 10)])
def test_the_plans_by_hand(javascript, kind, steps):
    """The chapter's five requests on two slots."""
    plan, summary = planned(javascript, BY_HAND, 2, kind)
    assert summary["steps"] == steps
    assert summary["used"] == pytest.approx(17 / (2 * steps))
    last = {"fixed": [2, 7, 10, 8, 14], "continuous": [2, 7, 5, 6, 10]}[kind]
    assert [time["last"] for time in plan["times"]] == last


@pytest.mark.parametrize("seed", range(6))
def test_continuous_batching_is_the_batchers(javascript, seed):
    loads, slots = random_loads(seed), 1 + seed % 4
    plan, _ = planned(javascript, loads, slots, "continuous")
    assert plan["times"] == by_the_batcher(loads, slots)


@pytest.mark.parametrize("kind", ["fixed", "continuous"])
def test_every_token_is_written_once(javascript, kind):
    loads = random_loads(seed=7)
    plan, summary = planned(javascript, loads, 3, kind)
    assert {len(row) for row in plan["rows"]} == {summary["steps"]}
    for number, load in enumerate(loads):
        does = [does for row in plan["rows"] for who, does in row if who == number]
        n_reads = does.count("reads")
        assert n_reads == -(-load.prompt // 256)
        assert does.count("writes") == load.answer - 1  # the first comes with reading


def test_runs_are_put_together(javascript):
    row = [[0, "reads"], [0, "writes"], [0, "writes"], [None, "idle"], [1, "reads"]]
    assert javascript(BatchingExplorer, "m.runs(x)", row) == [
        [0, "reads", 0, 1],
        [0, "writes", 1, 2],
        [None, "idle", 3, 1],
        [1, "reads", 4, 1],
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (" \n", "no request"),
        ("0 1 2\n0 1", "Line 2 is not a request"),
        ("0 1 2.5", "Line 1"),
        ("0 🙂 2", "Line 1"),
        ("0 1 61", "answer from 1 to 60"),
        ("0 \ud800 1", "Line 1"),
        ("0 1 2\n" * 17, "At most 16 requests"),
        ("1" * 100_000, "Line 1"),
    ],
    ids=range(8),
)
def test_what_is_no_request_is_told(javascript, text, fault):
    assert fault in javascript(BatchingExplorer, "m.parsed(x).fault", text)


def test_requests_are_read_line_by_line(javascript):
    requests = javascript(BatchingExplorer, "m.parsed(x).requests", "0 20 7\n\n 3,1;2")
    assert [tuple(r.values()) for r in requests] == [("A", 0, 20, 7), ("B", 3, 1, 2)]


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ({}, "examples must be at least 1, got 0"),
        ({"none": []}, "requests of 'none' must be"),
        ({"late": [Load(101, 1, 1)]}, "arrival must be"),
        ({"long": [Load(0, 2001, 1)]}, "prompt must be"),
        ({"silent": [Load(0, 1, 0)]}, "answer must be"),
    ],
)
def test_what_cannot_be_shown_is_refused(examples, message):
    with pytest.raises(ValueError, match=message):
        BatchingExplorer(examples)


def test_who_came_first_is_read_first_where_as_much_is_left(javascript):
    loads = [Load(0, 1, 1), Load(0, 768, 5), Load(0, 512, 5)]
    plan, _ = planned(javascript, loads, 2, "continuous")
    assert plan["times"] == by_the_batcher(loads, 2)
