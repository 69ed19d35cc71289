"""Continuous batching: nobody is lost, and nobody notices the others."""

import random
import threading

import pytest
import torch

from llmcourse.model.generation import Sampling, generate
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.serving.batching import Batcher, QueueFullError, Request

CONFIG = TransformerConfig(
    vocab_size=53,
    d_model=24,
    n_layers=2,
    n_heads=3,
    n_kv_heads=3,
    d_ff=36,
    context_length=48,
)
MODEL = Transformer(CONFIG, torch.Generator().manual_seed(0)).eval()


def request(ids=(4, 8), n=5, seed=0, stop=(), deliver=None, **sampling):
    return Request(
        ids=list(ids),
        max_new_tokens=n,
        stop=stop,
        sampling=Sampling(**sampling),
        seed=seed,
        deliver=deliver or (lambda _: None),
    )


def mixed_requests(n, seed=0):
    """Return requests of all kinds: lengths, temperatures, cuts and stops."""
    chance = random.Random(seed)
    return [
        request(
            [chance.randrange(53) for _ in range(chance.randint(1, 20))],
            chance.randint(1, 18),
            seed=number,
            stop=chance.choice([(), (3,), (3, 40)]),
            temperature=chance.choice([0, 0.7, 1.0, 1.0, 5.0]),
            top_k=chance.choice([None, None, 7]),
            top_p=chance.choice([None, None, 0.8]),
        )
        for number in range(n)
    ]


# Worked example


def test_worked_example_of_who_is_where():
    """Two slots; A writes 1 token, B 3 and C 2. C takes A's slot when A has left:

    step       1   2   3
    slot 0     A   C   C
    slot 1     B   B   B
    """
    batcher = Batcher(MODEL, max_batch=2)
    a, b, c = requests = [request(n=n) for n in (1, 3, 2)]
    batcher.submit(*requests)
    assert batcher.step() == 2
    assert a.finish == "length"
    assert (list(batcher.running), list(batcher.waiting)) == ([1], [c])
    assert batcher.step() == 2
    assert batcher.running == {1: b, 0: c}
    assert batcher.step() == 2
    assert batcher.idle
    assert [len(r.written) for r in requests] == [1, 3, 2]


# Laws


@pytest.mark.parametrize("max_batch", [3, 8])
def test_every_answer_is_that_of_a_lone_request(max_batch):
    lone, together = mixed_requests(24), mixed_requests(24)
    batcher = Batcher(MODEL, max_batch, max_queue=40)
    for one in lone:
        batcher.submit(one)
        batcher.run()
    batcher.submit(*together)
    batcher.run()
    assert [(r.written, r.finish) for r in together] == [
        (r.written, r.finish) for r in lone
    ]
    assert {r.finish for r in lone} == {"stop", "length"}


def test_what_is_delivered_is_what_was_written():
    heard: dict[int, list[int | None]] = {}
    requests = mixed_requests(12)
    for number, one in enumerate(requests):
        one.deliver = heard.setdefault(number, []).append
    batcher = Batcher(MODEL, max_batch=5)
    batcher.submit(*requests)
    batcher.run()
    assert list(heard.values()) == [[*one.written, None] for one in requests]


def test_a_cancelled_request_makes_room_and_disturbs_nobody():
    lone = request(n=20, seed=5)
    batcher = Batcher(MODEL, max_batch=2)
    batcher.submit(lone)
    batcher.run()
    heard = []
    kept, dropped, waits = (request(n=20, seed=s) for s in (5, 6, 7))
    never = request(deliver=heard.append)
    batcher.submit(kept, dropped, waits, never)
    for _ in range(4):
        batcher.step()
    batcher.cancel(dropped)
    batcher.cancel(never)
    batcher.run()
    batcher.cancel(kept)  # too late
    assert kept.written == lone.written
    assert (len(dropped.written), dropped.finish) == (4, "cancelled")
    assert (len(waits.written), waits.finish) == (20, "length")
    assert heard == [None]


def test_requests_come_from_any_thread():
    batcher = Batcher(MODEL, max_batch=4, max_queue=100)
    requests = mixed_requests(60)
    threads = [
        threading.Thread(target=batcher.submit, args=requests[n::3]) for n in range(3)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or not batcher.idle:
        batcher.step()
    assert all(one.finish in ("stop", "length") for one in requests)


def test_a_model_that_fails_for_one_goes_on_for_others():
    """An embedding that is not a number spoils the answers that hold it, no others."""
    broken = Transformer(CONFIG, torch.Generator().manual_seed(0)).eval()
    broken.unembedding = torch.nn.Linear(24, 53, bias=False)
    with torch.no_grad():
        broken.unembedding.weight.copy_(broken.embedding.weight)
        broken.embedding.weight[9] = float("nan")
    batcher = Batcher(broken, max_batch=3)
    bad, good = request([9]), request([4], temperature=0)
    batcher.submit(bad, good)
    batcher.run()
    assert (bad.finish, bad.written) == ("error", [])
    assert good.finish == "length"
    left = request()
    batcher.submit(left, request())
    batcher.fail()
    assert (left.finish, batcher.idle) == ("error", True)


def test_who_cannot_be_told_is_asked_no_more(caplog):
    """A listener that fails ends its own request, and no other."""

    def deaf(_):
        raise RuntimeError("the loop is closed")

    batcher = Batcher(MODEL, max_batch=3)
    lost, good = request(n=9, deliver=deaf), request(n=9)
    batcher.submit(lost, good)
    batcher.run()
    assert (lost.finish, len(lost.written)) == ("cancelled", 1)
    assert (good.finish, len(good.written)) == ("length", 9)
    assert "could not be delivered" in caplog.text


# Reference


def test_equals_generate():
    """With the same seed. A flip needs a difference of 1e-6 in a probability where a
    point falls: less than 1 in 1,000 for these 20 answers.
    """
    requests = mixed_requests(20, seed=1)
    batcher = Batcher(MODEL, max_batch=8)
    batcher.submit(*requests)
    batcher.run()
    for one in requests:
        whole = generate(
            MODEL,
            torch.tensor(one.ids),
            one.max_new_tokens,
            sampling=one.sampling,
            stop=one.stop,
            generator=torch.Generator().manual_seed(one.seed),
        ).tolist()
        assert [i for i in whole[len(one.ids) :] if i not in one.stop] == one.written


# Refusals


@pytest.mark.parametrize(
    ("ids", "n", "match"),
    [
        ([], 3, "at least 1 token to read and 1 to write, got 0 and 3"),
        ([1], 0, "got 1 and 0"),
        ([1] * 40, 9, "context window is 48 tokens, got 40 of the prompt and 9"),
        ([1, 53], 3, r"ids must be in 0 … 52, got 1 … 53"),
        ([-1], 3, r"got -1 … -1"),
    ],
)
def test_requests_that_cannot_be_answered_are_refused(ids, n, match):
    batcher = Batcher(MODEL)
    with pytest.raises(ValueError, match=match):
        batcher.submit(request(), request(ids, n))
    assert batcher.idle  # nor is the one beside it taken


def test_a_full_queue_refuses():
    batcher = Batcher(MODEL, max_batch=2, max_queue=1)
    with pytest.raises(ValueError, match="at most 3 texts can be written at once"):
        batcher.submit(*(request() for _ in range(4)))  # later is no better than now
    batcher.submit(request(), request())
    with pytest.raises(QueueFullError, match="2 requests .* and 1 wait"):
        batcher.submit(request(), request())
    batcher.submit(request())
    with pytest.raises(QueueFullError):
        batcher.submit(request())
    batcher.run()
    batcher.submit(request())


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="max_batch must be at least 1"):
        Batcher(MODEL, max_batch=0)
