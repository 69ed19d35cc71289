"""The thread of the model: it works, it rests, it survives and it ends."""

import threading
import time

import pytest
import torch

from llmcourse.model.transformer import TINY, Transformer
from llmcourse.serving.batching import Batcher, Engine, QueueFullError, Request

MODEL = Transformer(TINY, torch.Generator().manual_seed(0)).eval()


def request(n=3):
    done = threading.Event()
    made = Request(
        ids=[4, 8],
        max_new_tokens=n,
        deliver=lambda new: done.set() if new is None else None,
    )
    return made, done


# Worked example


def test_worked_example_of_three_tokens():
    sizes = []
    with Engine(Batcher(MODEL, max_batch=2), sizes.append) as engine:
        asked, done = request()
        engine.submit(asked)
        assert done.wait(300)
    assert (asked.finish, sizes) == ("length", [1, 1, 1])


# Laws


def test_jobs_and_requests_take_turns():
    with Engine(Batcher(MODEL)) as engine:
        asked, done = request(40)
        engine.submit(asked)
        assert engine.run(lambda: 6 * 7).result(300) == 42
        with pytest.raises(ZeroDivisionError):
            engine.run(lambda: 1 // 0).result(300)
        assert done.wait(300)


def test_a_step_that_fails_is_told_and_survived():
    batcher = Batcher(MODEL)
    right, batcher.step = batcher.step, lambda: 1 // 0
    with Engine(batcher) as engine:
        bad, done = request()
        engine.submit(bad)
        assert done.wait(300)
        assert bad.finish == "error"
        batcher.step = right
        good, done = request()
        engine.submit(good)
        assert done.wait(300)
        assert good.finish == "length"


def test_what_is_not_finished_at_the_end_fails():
    asked, done = request(120)
    with Engine(Batcher(MODEL)) as engine:
        engine.submit(asked)
    assert done.is_set()
    assert asked.finish == "error"


def test_jobs_that_wait_at_the_end_fail():
    begun, end = threading.Event(), threading.Event()
    engine = Engine(Batcher(MODEL))
    with engine:
        engine.run(lambda: (begun.set(), end.wait(300)))
        assert begun.wait(300)
        waits = engine.run(lambda: 6 * 7)
        stop = threading.Thread(target=engine.stop)
        stop.start()
        while engine.alive:
            time.sleep(0.001)
        end.set()
        stop.join()
    with pytest.raises(QueueFullError, match="has stopped"):
        waits.result(300)


def test_it_can_be_started_again_but_not_twice():
    engine = Engine(Batcher(MODEL))
    for _ in range(2):
        with engine:
            asked, done = request()
            engine.submit(asked)
            assert done.wait(300)
            with pytest.raises(RuntimeError, match="works already"):
                engine.start()


def test_a_request_can_be_cancelled():
    with Engine(Batcher(MODEL)) as engine:
        asked, done = request(120)
        engine.submit(asked)
        engine.cancel(asked)
        assert done.wait(300)
        assert asked.finish == "cancelled"


# Refusals


def test_an_engine_that_does_not_run_takes_nothing():
    engine = Engine(Batcher(MODEL))
    assert not engine.alive
    with pytest.raises(QueueFullError, match="not running"):
        engine.submit(request()[0])
    with engine:
        assert engine.alive
        with pytest.raises(ValueError, match="at least 1 token"):
            engine.submit(Request(ids=[], max_new_tokens=3))
    with pytest.raises(QueueFullError):
        engine.run(lambda: 1)
