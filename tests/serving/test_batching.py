"""Continuous batching: nobody is lost, and nobody notices the others."""

import math
import random
import threading
import time
from dataclasses import replace

import pytest
import torch

from llmcourse.model import quantization
from llmcourse.model.generation import Sampling, generate
from llmcourse.model.quantization import quantize_model
from llmcourse.model.transformer import Transformer, TransformerConfig
from llmcourse.serving.batching import (
    Batcher,
    Engine,
    QueueFullError,
    Request,
    read_next,
    read_prompt,
    token_logprobs,
)

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


def request(ids=(4, 8), n=5, seed=0, stop=(), deliver=None, n_top=None, **sampling):
    return Request(
        ids=list(ids),
        max_new_tokens=n,
        stop=stop,
        sampling=Sampling(**sampling),
        seed=seed,
        n_top=n_top,
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


def listened(n=3):
    """Return a request and the event that its end sets."""
    done = threading.Event()
    made = request(n=n, deliver=lambda new: done.set() if new is None else None)
    return made, done


# The caches of the slots

LLAMA = TransformerConfig(
    vocab_size=53,
    d_model=48,
    n_layers=3,
    n_heads=6,
    n_kv_heads=2,
    d_ff=36,
    context_length=80,
)
FAMILIES = {
    "llama": LLAMA,
    "gpt2": replace(LLAMA, family="gpt2", n_kv_heads=6),
    "untied": replace(LLAMA, tied_embeddings=False, n_kv_heads=6),
}
EACH = pytest.mark.parametrize("name", FAMILIES)


def make_model(name="llama"):
    return Transformer(FAMILIES[name], torch.Generator().manual_seed(0)).eval()


def make_caches(model, n_slots, capacity=None):
    return [model.new_cache(1, capacity) for _ in range(n_slots)]


def some_ids(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 53, (n,), generator=generator)


def test_worked_example_of_lengths():
    """Two prompts of 3 and 5 tokens in slots 2 and 0; then slot 2 reads two more."""
    model = make_model()
    caches = make_caches(model, 4)
    read_prompt(model, some_ids(3), caches[2])
    read_prompt(model, some_ids(5), caches[0])
    assert [held.length for held in caches] == [5, 0, 3, 0]
    for new in (7, 8):
        read_next(model, {2: new}, caches)
    assert [held.length for held in caches] == [5, 0, 5, 0]
    read_prompt(model, some_ids(2), caches[0])  # another sequence takes the slot
    assert [held.length for held in caches] == [2, 0, 5, 0]


@EACH
def test_each_slot_equals_the_model_without_a_cache(name):
    model = make_model(name)
    caches = make_caches(model, 4)
    texts = {0: some_ids(40, 1), 1: some_ids(70, 2), 3: some_ids(36, 3)}
    starts = {0: 25, 1: 58, 3: 1}
    for slot, start in starts.items():
        logits = read_prompt(model, texts[slot][:start], caches[slot])
        with torch.no_grad():
            want = model(texts[slot][None, :start])[0, -1]
        torch.testing.assert_close(logits, want, rtol=1e-4, atol=1e-5)
    for step in range(10):
        places = {slot: start + step for slot, start in starts.items()}
        ids = {slot: int(texts[slot][place]) for slot, place in places.items()}
        logits = read_next(model, ids, caches)
        for slot, place in places.items():
            with torch.no_grad():
                want = model(texts[slot][None, : place + 1])[0, -1]
            torch.testing.assert_close(logits[slot], want, rtol=1e-4, atol=1e-5)


@EACH
def test_neither_place_nor_company_changes_a_bit(name):
    model = make_model(name)
    prompt, rest = some_ids(27, 4), some_ids(12, 5).tolist()

    def alone_in(slot):
        caches = make_caches(model, 17)
        read_prompt(model, prompt, caches[slot])
        return torch.stack([read_next(model, {slot: i}, caches)[slot] for i in rest])

    caches = make_caches(model, 17)
    for slot, n in ((4, 50), (0, 3), (1, 27)):
        read_prompt(model, some_ids(n, 6 + slot), caches[slot])
    read_prompt(model, prompt, caches[3])
    crowded = torch.stack(
        [
            read_next(model, dict.fromkeys((4, 0, 1), 9) | {3: i}, caches)[3]
            for i in rest
        ]
    )
    for slot in (*range(5), 15, 16):
        assert torch.equal(alone_in(slot), crowded)


def test_what_a_slot_held_before_does_not_matter():
    model = make_model()
    caches, fresh = make_caches(model, 2), make_caches(model, 2)
    read_prompt(model, some_ids(60, 8), caches[1])
    read_next(model, {1: 5}, caches)
    for held in (caches, fresh):
        read_prompt(model, some_ids(4, 9), held[1])
    assert torch.equal(
        read_next(model, {1: 6}, caches)[1], read_next(model, {1: 6}, fresh)[1]
    )


def test_a_quantized_model_has_slots_too():
    model = quantize_model(make_model("untied"))
    caches, ids = make_caches(model, 3), some_ids(9)
    read_prompt(model, ids[:8], caches[1])
    with torch.no_grad():
        want = model(ids[None])[0, -1]
    torch.testing.assert_close(
        read_next(model, {1: int(ids[8])}, caches)[1], want, rtol=1e-4, atol=1e-5
    )


def test_a_quantized_embedding_is_computed_once_a_step(monkeypatch):
    """It is the largest matrix: all scores need it, and nothing else may ask for it."""
    rows, whole = [], quantization.dequantize
    monkeypatch.setattr(
        quantization,
        "dequantize",
        lambda numbers, scale: (rows.append(len(numbers)), whole(numbers, scale))[1],
    )
    batcher = Batcher(quantize_model(MODEL), max_batch=2)
    batcher.submit(request(n=4))
    batcher.step()
    del rows[:]
    batcher.step()
    assert rows.count(CONFIG.vocab_size) == 1


def test_what_does_not_fit_is_refused():
    model = make_model()
    caches = make_caches(model, 2, capacity=6)
    with pytest.raises(ValueError, match=r"at most 6 positions, got 7"):
        read_prompt(model, some_ids(7), caches[0])
    read_prompt(model, some_ids(6), caches[1])
    with pytest.raises(ValueError, match=r"at most 6 positions, got 7"):
        read_next(model, {1: 3}, caches)
    with pytest.raises(ValueError, match="context_length is 80"):
        read_prompt(model, some_ids(0), caches[0])
    caches = make_caches(model, 2)
    read_prompt(model, some_ids(80), caches[1])
    with pytest.raises(ValueError, match="80 cached and 1 new"):
        read_next(model, {1: 3}, caches)


# The batcher


def test_a_long_prompt_is_read_in_chunks_while_others_are_answered(monkeypatch):
    """Chunks of 8 tokens: a prompt of 20 takes three steps, and another goes on."""
    monkeypatch.setattr("llmcourse.serving.batching._CHUNK", 8)
    batcher = Batcher(MODEL, max_batch=2)
    first, long = request(n=9, seed=1), request(range(20), n=2, temperature=0)
    batcher.submit(first)
    batcher.step()
    batcher.submit(long)
    heard = []
    while not long.finish:
        batcher.step()
        heard.append((long.n_read, len(long.written), len(first.written)))
    assert heard == [(8, 0, 2), (16, 0, 3), (20, 1, 4), (20, 2, 5)]
    want = generate(MODEL, torch.arange(20), 2, sampling=Sampling(temperature=0))
    assert long.written == want[20:].tolist()


def test_a_short_prompt_does_not_wait_for_long_ones(monkeypatch):
    monkeypatch.setattr("llmcourse.serving.batching._CHUNK", 8)
    batcher = Batcher(MODEL, max_batch=4)
    long, short = [request(range(40), n=2) for _ in range(3)], request(n=2)
    batcher.submit(*long)
    batcher.step()
    assert [one.n_read for one in long] == [8, 0, 0]  # a chunk in all, not each
    batcher.submit(short)
    batcher.step()
    batcher.step()
    assert (short.finish, [one.finish for one in long]) == ("length", [None] * 3)
    batcher.run()
    assert {one.finish for one in long} == {"length"}


def test_chunks_do_not_depend_on_company(monkeypatch):
    monkeypatch.setattr("llmcourse.serving.batching._CHUNK", 8)
    lone, *crowd = (request(range(n), n=3, n_top=1) for n in (21, 21, 7, 30, 18))
    batcher = Batcher(MODEL, max_batch=3)
    batcher.submit(lone)
    batcher.run()
    batcher.submit(*crowd[::-1])
    batcher.run()
    assert crowd[0].logprobs == lone.logprobs


def test_worked_example_of_logprobs(monkeypatch):
    """Of the prompt, in chunks of two, and of two tokens that are drawn."""
    monkeypatch.setattr("llmcourse.serving.batching._CHUNK", 2)
    one = request([5, 9, 2, 7, 1], n=2, temperature=0)
    one.n_top, one.score_prompt = 2, True
    batcher = Batcher(MODEL)
    batcher.submit(one)
    batcher.run()
    ids = one.ids + one.written
    assert [token.id for token in one.logprobs] == ids
    assert one.logprobs[0].logprob is None
    with torch.no_grad():
        want = MODEL(torch.tensor([ids]))[0].log_softmax(dim=-1)
    for token, row in zip(one.logprobs[1:], want[:-1], strict=True):
        assert token.logprob == pytest.approx(float(row[token.id]), abs=1e-5)
        assert token.top[0] == (
            int(row.argmax()),
            pytest.approx(float(row.max()), abs=1e-5),
        )
        assert len(token.top) == 2


def test_room_is_taken_for_what_is_asked_and_given_back():
    batcher = Batcher(MODEL, max_batch=2)
    assert batcher.caches == [None, None]
    batcher.submit(request([1, 2, 3], n=4))
    batcher.step()
    assert batcher.caches[0].capacity == 7
    assert batcher.caches[1] is None
    batcher.run()
    assert batcher.caches == [None, None]


def test_worked_example_of_who_is_where():
    """Two slots; A writes 1 token, B 3 and C 2. C takes A's slot when A has left:

    step       1   2   3
    slot 0     A   C   C
    slot 1     B   B   B
    """
    batcher = Batcher(MODEL, max_batch=2)
    a, b, c = requests = [request(n=n) for n in (1, 3, 2)]
    batcher.submit(*requests)
    batcher.step()
    assert a.finish == "length"
    assert (list(batcher.running), list(batcher.waiting)) == ([1], [c])
    batcher.step()
    assert batcher.running == {1: b, 0: c}
    batcher.step()
    assert batcher.idle
    assert [len(r.written) for r in requests] == [1, 3, 2]


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


def test_a_model_that_fails_for_one_goes_on_for_others(caplog):
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
    assert "scores that are not finite" in caplog.text
    assert (bad.finish, bad.written) == ("error", [])
    assert good.finish == "length"
    left = request()
    batcher.submit(left, request())
    batcher.fail()
    batcher.step()
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


@pytest.mark.parametrize(
    ("ids", "n", "match"),
    [
        ([], 3, "n_prompt must be at least 1, got 0"),
        ([1], -1, "max_new_tokens must be at least 0, got -1"),
        ([1] * 40, 9, "must fit into context_length = 48, got 40 \\+ 9"),
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


# The engine


def test_worked_example_of_three_tokens():
    with Engine(Batcher(MODEL, max_batch=2)) as engine:
        asked, done = listened()
        engine.submit(asked)
        assert done.wait(300)
    assert (asked.finish, len(asked.written)) == ("length", 3)


def test_a_step_that_fails_ends_its_requests_and_no_others():
    batcher = Batcher(MODEL)
    right, batcher.step = batcher.step, lambda: 1 // 0
    with Engine(batcher) as engine:
        bad, done = listened()
        engine.submit(bad)
        assert done.wait(300)
        assert bad.finish == "error"
        batcher.step = right
        good, done = listened()
        engine.submit(good)
        assert done.wait(300)
        assert good.finish == "length"


def test_what_is_not_finished_at_the_end_fails():
    """The engine stops while a step is being made."""
    begun, batcher = threading.Event(), Batcher(MODEL)
    engine, step = Engine(batcher), batcher.step

    def step_until_the_end():
        begun.set()
        while engine.alive:
            time.sleep(0.001)
        return step()

    batcher.step = step_until_the_end
    asked, done = listened(40)
    with engine:
        engine.submit(asked)
        assert begun.wait(300)
    assert done.is_set()
    assert asked.finish == "error"


def test_an_engine_can_be_started_again():
    engine = Engine(Batcher(MODEL))
    for _ in range(2):
        with engine:
            assert engine.alive
            asked, done = listened()
            engine.submit(asked)
            assert done.wait(300)
        assert not engine.alive


def test_an_engine_that_does_not_run_takes_nothing():
    engine = Engine(Batcher(MODEL))
    with pytest.raises(QueueFullError, match="not running"):
        engine.submit(request())
    with engine, pytest.raises(ValueError, match="n_prompt must be at least 1"):
        engine.submit(Request(ids=[], max_new_tokens=3))


def test_logprobs_of_a_model_in_bfloat16_are_those_of_a_text():
    """In 8 bits of mantissa a probability of nearly one would be one."""
    logits = torch.tensor([[9.0, 0, 0]], dtype=torch.bfloat16)
    [(_, logprob, _)] = token_logprobs(logits, [0], n_top=1)
    assert logprob == pytest.approx(-math.log(1 + 2 * math.exp(-9)), rel=1e-3)
