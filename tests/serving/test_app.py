"""The service over real connections: right answers, right refusals, nobody lost."""

import asyncio
import json
import socket
import threading
import time

import httpx
import openai
import pytest
import torch
from pydantic import ValidationError
from service_cases import (
    LONG,
    NAME,
    alive,
    batcher_of,
    small_model,
    small_service,
    small_tokenizer,
    wait_until,
)
from tokenization_cases import sentencepiece

from llmcourse.finetuning.answering import stream_answer
from llmcourse.finetuning.chat import Message, encode_prompt
from llmcourse.model import generation
from llmcourse.model.generation import Sampling, stream_text
from llmcourse.serving.app import create_app
from llmcourse.serving.batching import Request
from llmcourse.serving.logprobs import token_name
from llmcourse.serving.server import running
from llmcourse.serving.wire import ChatRequest, CompletionRequest, ServiceConfig
from llmcourse.text.tokenizers import BPETokenizer

HTTP = httpx.Client(timeout=300)  # one for all: setting one up takes its time
TALK = [{"role": "user", "content": "Who was brave?"}]


@pytest.fixture(scope="module")
def service():
    with small_service() as found:
        yield found


@pytest.fixture(scope="module")
def url(service):
    return service[0]


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def post(url, path="completions", **fields):
    body = {"model": NAME} | fields
    return HTTP.post(f"{url}/v1/{path}", json=body)


# Worked example


def test_worked_example_of_a_completion(url):
    """Five tokens of a text, as it goes over the wire."""
    found = post(url, prompt="Once", max_tokens=5, seed=1).json()
    assert found["id"].startswith("cmpl-")
    assert (found["object"], found["model"]) == ("text_completion", NAME)
    [choice] = found["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "length")
    n_read = 1 + len(small_tokenizer().encode("Once"))
    assert found["usage"] == {
        "prompt_tokens": n_read,
        "completion_tokens": 5,
        "total_tokens": n_read + 5,
    }


# Laws


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0}, {"top_p": 0.8}])
def test_the_official_client_gets_the_text_that_the_model_writes(client, sampling):
    written = "".join(
        stream_text(
            small_model(),
            small_tokenizer(),
            "Once upon",
            max_new_tokens=20,
            seed=3,
            sampling=Sampling(**sampling),
        )
    )
    asked = {"model": NAME, "prompt": "Once upon", "max_tokens": 20, "seed": 3}
    whole = client.completions.create(**asked, **sampling)
    assert whole.choices[0].text == written
    pieces = [
        chunk.choices[0].text
        for chunk in client.completions.create(**asked, **sampling, stream=True)
    ]
    assert "".join(pieces) == written
    assert len(pieces) > 5


def test_a_text_goes_on_with_its_space_and_an_answer_begins_without():
    """Of a SentencePiece tokenizer, whose texts begin with a space of their own."""
    template = "{{ bos_token }}{{ messages[0]['content'] }}"
    tokenizer = sentencepiece(["the bees see the trees"], vocab_size=320)
    tokenizer = tokenizer.with_options(n_ids=320, chat_template=template)

    def space_after(ids):
        """Return the seed with which a space comes after these ids."""
        for seed in range(1_000):
            generator = torch.Generator().manual_seed(seed)
            new = generation.stream(
                small_model(), torch.tensor(ids), 1, generator=generator
            )
            if tokenizer.pieces[next(new)].startswith(b" "):
                return seed
        raise AssertionError

    app = create_app(small_model(), tokenizer, NAME, ServiceConfig())
    prompt = [1, *tokenizer.encode(TALK[0]["content"])]
    with running(app, grace_seconds=2) as url:
        asked = {"max_tokens": 9, "seed": space_after(prompt)}
        goes_on = post(url, prompt=TALK[0]["content"], **asked).json()["choices"][0]
        assert goes_on["text"].startswith(" ")
        echoed = post(url, prompt=prompt, echo=True, **asked).json()["choices"][0]
        assert echoed["text"] == TALK[0]["content"] + goes_on["text"]
        answer = post(url, "chat/completions", messages=TALK, **asked).json()
        answer = answer["choices"][0]["message"]["content"]
        assert answer == goes_on["text"].removeprefix(" ")
        asked["seed"] = space_after([1])
        begun = post(url, prompt="", **asked).json()["choices"][0]
        assert not begun["text"].startswith(" ")


def test_the_official_client_talks(client):
    generator = torch.Generator().manual_seed(5)
    answered = "".join(
        stream_answer(
            small_model(),
            small_tokenizer(),
            [Message("user", "Who was brave?")],
            max_new_tokens=30,
            sampling=Sampling(top_k=20),
            generator=generator,
        )
    )
    asked = {
        "model": NAME,
        "messages": TALK,
        "max_completion_tokens": 30,
        "seed": 5,
        "extra_body": {"top_k": 20},
    }
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.content == answered
    stream = client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    said = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(said) == answered
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


def test_several_prompts_and_choices_come_in_order(client):
    asked = {"model": NAME, "max_tokens": 6, "seed": 8}
    lone = [
        client.completions.create(prompt=prompt, **(asked | {"seed": seed}))
        for prompt, seed in (("A", 8), ("A", 9), ("B c", 10), ("B c", 11))
    ]
    texts = [one.choices[0].text for one in lone]
    together = client.completions.create(prompt=["A", "B c"], n=2, **asked)
    assert [choice.text for choice in together.choices] == texts
    mixed = ["", "", "", ""]
    stream = client.completions.create(prompt=["A", "B c"], n=2, stream=True, **asked)
    for chunk in stream:
        mixed[chunk.choices[0].index] += chunk.choices[0].text
    assert mixed == texts


def test_a_string_that_ends_the_text(client):
    asked = {"model": NAME, "prompt": "x", "max_tokens": 40, "seed": 4}
    whole = client.completions.create(**asked).choices[0].text
    stop = whole[7:9]
    for stream in (False, True):
        found = client.completions.create(**asked, stop=[stop, "\0"], stream=stream)
        parts = list(found) if stream else [found]
        text = "".join(part.choices[0].text for part in parts)
        assert text == whole[: whole.index(stop)]
        assert parts[-1].choices[0].finish_reason == "stop"


def test_everybody_gets_the_answer_of_a_lone_request():
    """64 callers at once, four requests each; queue and slots are full all the time."""
    kinds = [
        {"prompt": "Once upon a time"[:n], "seed": n, "max_tokens": 3 + n // 2}
        | ({"temperature": 0.8, "top_p": 0.9} if n % 3 else {})
        for n in range(1, 13)
    ]

    async def run():
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as http:

            async def ask(kind):
                body = {"model": NAME} | kind
                found = await http.post("/v1/completions", json=body)
                return found.json()["choices"][0]["text"]

            async def caller(number):
                wanted = [(number + step) % 12 for step in range(4)]
                return [(kind, await ask(kinds[kind])) for kind in wanted]

            lone = [await ask(kind) for kind in kinds]
            crowd = await asyncio.gather(*map(caller, range(64)))
        return lone, [pair for pairs in crowd for pair in pairs]

    with small_service(max_batch=16, max_queue=48) as (url, app):
        lone, answers = asyncio.run(run())
        assert len(answers) == 256
        assert all(text == lone[kind] for kind, text in answers)
        assert batcher_of(app).idle
        counted = HTTP.get(f"{url}/metrics").text
    assert "llmcourse_first_token_seconds_count 268.0" in counted
    assert "llmcourse_running_requests 0.0" in counted


def test_a_caller_who_vanishes_stops_the_writing():
    with small_service(slow=0.05) as (url, app):
        batcher, asked = batcher_of(app), []
        submit = batcher.submit
        batcher.submit = lambda *new: (asked.extend(new), submit(*new))
        for stream in (True, False):
            asked.clear()
            with httpx.Client(base_url=url, timeout=300) as http:
                if stream:
                    request = http.build_request(
                        "POST", "/v1/completions", json=LONG | {"stream": True}
                    )
                    next(http.send(request, stream=True).iter_lines())
                else:
                    parts = httpx.URL(url)
                    with socket.create_connection((parts.host, parts.port)) as caller:
                        body = json.dumps(LONG).encode()
                        head = f"Host: x\r\nContent-Length: {len(body)}\r\n"
                        path = b"POST /v1/completions HTTP/1.1\r\n"
                        kind = b"Content-Type: application/json\r\n\r\n"
                        caller.sendall(path + head.encode() + kind + body)
                        wait_until(lambda: asked)
            wait_until(lambda: asked and asked[0].finish)
            assert [request.finish for request in asked] == ["cancelled"]
            wait_until(lambda: batcher.idle)
        assert post(url, prompt="x", max_tokens=2).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_is_gone_at_once_stops_the_writing(stream):
    """Gone before the first event is asked for: nobody has begun to write it."""
    app = create_app(small_model(), small_tokenizer(), NAME)
    batcher, asked = batcher_of(app), []
    submit, step = batcher.submit, batcher.step
    batcher.submit = lambda *new: (asked.extend(new), submit(*new))
    batcher.step = lambda: (time.sleep(0.02), step())[1]
    body = json.dumps(LONG | {"stream": stream}).encode()
    heard = iter([{"type": "http.request", "body": body, "more_body": False}])
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/completions",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }

    async def receive():
        return next(heard, {"type": "http.disconnect"})

    async def send(_):
        await asyncio.sleep(0)  # as servers do whose buffers are full

    with app.state.service.engine:
        asyncio.run(app(scope, receive, send))
        wait_until(lambda: batcher.idle)
    assert [request.finish for request in asked] == ["cancelled"]


def test_a_service_can_be_started_again():
    app = create_app(small_model(), small_tokenizer(), NAME)
    for _ in range(2):
        with running(app) as url:
            assert post(url, prompt="x", max_tokens=2).status_code == 200


def test_a_fault_of_ours_ends_one_request_only(monkeypatch):
    with small_service() as (url, _):
        monkeypatch.setattr("llmcourse.serving.app._info", lambda _: 1 // 0)
        for _ in range(3):  # the connection lives on
            found = HTTP.get(f"{url}/v1/models")
            assert found.status_code == 500
            assert found.json()["error"]["type"] == "server_error"
        monkeypatch.undo()
        assert HTTP.get(f"{url}/v1/models").status_code == 200


def test_nothing_of_a_request_is_kept(url, service):
    for number in range(20):
        stream = number % 2 == 0
        post(url, prompt="x", max_tokens=2, stream=stream)
        post(url, prompt=7)
    wait_until(lambda: alive(Request) == 0)


def test_the_page_asks_no_other_host(url):
    page = HTTP.get(f"{url}/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/", "/chat.css", "/chat.js"):
        found = HTTP.get(url + path)
        assert found.status_code == 200
        assert "//" not in found.text.replace("// ", "").replace("://", "//x"), path


def own_logprobs(ids):
    """Return the model's own numbers: after each token, of every token."""
    with torch.no_grad():
        return small_model()(torch.tensor([ids]))[0].log_softmax(dim=-1)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"seed": 3, "top_p": 0.8}])
def test_logprobs_of_a_completion_are_the_models_own(client, stream, sampling):
    asked = {"model": NAME, "prompt": "Ah, 24 €.", "max_tokens": 12, "logprobs": 3}
    found = client.completions.create(**asked, **sampling, echo=True, stream=stream)
    choices = [part.choices[0] for part in (found if stream else [found])]
    text = "".join(choice.text for choice in choices)
    tokenizer = small_tokenizer()
    [start] = (tokenizer.special_tokens[name] for name in ["<|endoftext|>"])
    written = client.completions.create(**asked, **sampling).choices[0].text
    assert text == asked["prompt"] + written
    said = {}
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        parts = [getattr(choice.logprobs, name) for choice in choices]
        said[name] = [entry for part in parts for entry in part]
    n_prompt = len(tokenizer.encode(asked["prompt"]))
    ids = [start, *tokenizer.encode(asked["prompt"])]
    named = {token_name(id_, tokenizer): id_ for id_ in range(320)}
    ids += [named[name] for name in said["tokens"][n_prompt:]]
    want = own_logprobs(ids)
    assert len(said["tokens"]) == len(ids) - 1 == n_prompt + 12
    for place, (name, logprob) in enumerate(
        zip(said["tokens"], said["token_logprobs"], strict=True)
    ):
        assert name == token_name(ids[place + 1], tokenizer)
        assert logprob == pytest.approx(float(want[place, ids[place + 1]]), abs=1e-4)
        top = said["top_logprobs"][place]
        assert top[name] == logprob
        best = want[place].topk(3).values.tolist()
        assert sorted(top.values())[-3:] == pytest.approx(best[::-1], abs=1e-4)
    # All begin where they stand, but for bytes that are no character by themselves.
    for name, offset in zip(said["tokens"], said["text_offset"], strict=True):
        if name.startswith("bytes:"):
            break
        assert text.startswith(name, offset)
    assert offset >= text.index("€")


def test_a_stream_has_the_tokens_of_its_text_and_no_others(client):
    """A token that might begin a stop string is held back, and so is its logprob."""
    asked = {"model": NAME, "prompt": "Once upon", "max_tokens": 9, "temperature": 0}
    first = client.completions.create(**asked).choices[0].text
    asked |= {"logprobs": 0, "echo": True, "stop": first[2:6]}
    whole = client.completions.create(**asked).choices[0]
    parts = [
        part.choices[0] for part in client.completions.create(**asked, stream=True)
    ]
    tokens = [token for part in parts for token in part.logprobs.tokens]
    assert "".join(part.text for part in parts) == whole.text
    assert tokens == whole.logprobs.tokens


def test_offsets_count_what_bytes_without_a_character_become(client):
    tokenizer = small_tokenizer()
    ids = [
        *tokenizer.encode("The"),
        tokenizer.vocab[b"\xc3"],
        *tokenizer.encode(" sat"),
    ]
    asked = {"model": NAME, "prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 0}
    found = client.completions.create(**asked).choices[0]
    assert found.text == "The\ufffd sat"
    pairs = zip(found.logprobs.tokens, found.logprobs.text_offset, strict=True)
    for name, offset in pairs:
        assert name.startswith("bytes:") or found.text.startswith(name, offset)


def test_a_text_is_scored_without_a_word_written(client):
    """As evaluation harnesses ask: ids, `echo`, and nothing or one token to write."""
    ids = small_tokenizer().encode("Once upon a time")
    want = own_logprobs(ids)[:-1]
    want = want[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].tolist()
    asked = {"model": NAME, "prompt": [ids, ids[:3]], "echo": True, "logprobs": 0}
    for n_new in (0, 1):
        found = client.completions.create(**asked, max_tokens=n_new, temperature=0)
        first, second = found.choices
        assert first.text.startswith("Once upon a time")
        assert first.logprobs.token_logprobs[0] is None
        assert first.logprobs.top_logprobs[0] is None
        assert first.logprobs.token_logprobs[1 : len(ids)] == pytest.approx(
            want, abs=1e-4
        )
        assert len(second.logprobs.tokens) == 3 + n_new
        assert found.usage.completion_tokens == 2 * n_new
    plain = client.completions.create(model=NAME, prompt=["x"], max_tokens=0)
    assert (plain.choices[0].text, plain.choices[0].finish_reason) == ("", "length")


def test_the_token_that_ends_a_text_is_scored_with_a_completion(client):
    """So a harness that asks for one token gets one; a message has its own tokens."""
    for seed in range(100):
        asked = {"model": NAME, "prompt": "x", "max_tokens": 50, "seed": seed}
        [choice] = client.completions.create(**asked, logprobs=1).choices
        if choice.finish_reason == "stop":
            break
    assert choice.logprobs.tokens[-1] in small_tokenizer().special_tokens
    assert choice.logprobs.text_offset[-1] == len(choice.text)


@pytest.mark.parametrize("stream", [True, False])
def test_logprobs_of_an_answer_are_the_models_own(client, stream):
    tokenizer = small_tokenizer()
    asked = {"model": NAME, "messages": TALK, "max_tokens": 20, "seed": 5}
    found = client.chat.completions.create(
        **asked, logprobs=True, top_logprobs=2, stream=stream
    )
    choices = [part.choices[0] for part in (found if stream else [found])]
    entries = [e for c in choices if c.logprobs for e in c.logprobs.content]
    ids = encode_prompt([Message("user", TALK[0]["content"])], tokenizer)
    n_prompt = len(ids)
    named = {token_name(id_, tokenizer): id_ for id_ in range(320)}
    ids += [named[entry.token] for entry in entries]
    said = b"".join(bytes(entry.bytes) for entry in entries)
    special = set(tokenizer.special_tokens)
    assert not special & {entry.token for entry in entries}
    message = client.chat.completions.create(**asked).choices[0].message
    assert said.decode(errors="replace") == message.content
    want = own_logprobs(ids)[n_prompt - 1 : -1]
    for entry, row, id_ in zip(entries, want, ids[n_prompt:], strict=True):
        assert entry.logprob == pytest.approx(float(row[id_]), abs=1e-4)
        tops = [top.logprob for top in entry.top_logprobs]
        assert tops == pytest.approx(row.topk(2).values.tolist(), abs=1e-4)


@pytest.mark.parametrize("stream", [True, False])
def test_tokens_behind_a_string_that_ends_the_text_are_not_scored(client, stream):
    asked = {"model": NAME, "prompt": "x", "max_tokens": 40, "seed": 4, "logprobs": 0}
    whole = client.completions.create(**asked).choices[0]
    stop = whole.text[7:9]
    found = client.completions.create(**asked, stop=[stop], stream=stream)
    choices = [part.choices[0] for part in (found if stream else [found])]
    tokens = [token for choice in choices for token in choice.logprobs.tokens]
    text = "".join(choice.text for choice in choices)
    n = sum(offset < len(text) for offset in whole.logprobs.text_offset)
    assert tokens == whole.logprobs.tokens[:n]


def test_the_service_reads_no_more_than_it_is_told_to():
    with small_service(context=20) as (url, _):
        [model] = HTTP.get(f"{url}/v1/models").json()["data"]
        assert model["context_length"] == 20
        found = post(url, prompt="x", max_tokens=19)
        assert found.status_code == 400
        assert "window is 20 tokens" in found.json()["error"]["message"]
        assert post(url, prompt="x", max_tokens=18).status_code == 200
    with pytest.raises(ValueError, match="context must be in 1 … 96, got 97"):
        create_app(small_model(), small_tokenizer(), NAME, ServiceConfig(context=97))


def test_a_page_of_another_host_is_not_answered():
    """A name that leads here may be anybody's: DNS rebinding."""
    names = ("127.0.0.1", "localhost", "[::1]")
    with small_service(allowed_hosts=names) as (url, _):
        for host, status in (
            *(("evil.example", 400), ("127.0.0.1.evil.example:80", 400)),
            *(("127.0.0.1:80", 200), ("LOCALHOST", 200), ("[::1]:8000", 200)),
        ):
            found = HTTP.get(f"{url}/health", headers={"host": host})
            assert found.status_code == status, host


def test_one_fault_is_found_in_a_list_however_long():
    """Not 660,000, each with a copy of what is wrong."""
    few = {"model": NAME, "messages": TALK}
    for kind, fields in (
        (ChatRequest, {"messages": [{}] * 100_000}),
        (ChatRequest, {"messages": [{"role": "user", "content": [{}] * 100_000}]}),
        (ChatRequest, {"tools": [{}] * 100_000}),
        (ChatRequest, {"stop": [7] * 100_000}),
        (ChatRequest, {"logit_bias": dict.fromkeys(map(str, range(100_000)), "x")}),
        (CompletionRequest, {"prompt": [[]] * 100_000}),
        (CompletionRequest, {"prompt": [1.5] * 100_000}),
        (CompletionRequest, {"prompt": [-1] * 100_000}),
    ):
        with pytest.raises(ValidationError) as found:
            kind.model_validate(few | fields)
        assert found.value.error_count() <= 3


def test_a_service_that_ends_sends_the_queue_away_and_ends_streams_with_a_word():
    """A step takes a second, so that the first stream outlives the others' words."""
    with small_service(max_batch=1, slow=1.0) as (url, app):
        engine, found = app.state.service.engine, {}

        def ask(name, stream):
            found[name] = post(url, **LONG, stream=stream)

        threads = []
        for name, stream in (("runs", True), ("waits", True), ("waits too", False)):
            threads.append(threading.Thread(target=ask, args=(name, stream)))
            threads[-1].start()
            n = len(threads) - 1
            wait_until(
                lambda n=n: (
                    len(engine.batcher.running) == 1
                    and len(engine.batcher.waiting) == n
                )
            )
        engine.stop(waiting_only=True)
        for thread in threads[1:]:
            thread.join(300)
        assert len(engine.batcher.running) == 1
        assert found["waits too"].status_code == 503
        assert found["waits too"].headers["retry-after"] == "1"
        assert post(url, prompt="x").status_code == 503
        engine.stop()
        threads[0].join(300)
        for name in ("runs", "waits"):
            events = found[name].text.split("\n\n")
            assert events[-2] == "data: [DONE]"
            error = json.loads(events[-3].removeprefix("data: "))["error"]
            assert error["message"] == "The service is stopping."


# Reference


def test_the_description_knows_every_path(url):
    described = HTTP.get(f"{url}/openapi.json").json()["paths"]
    assert set(described) == {
        "/v1/models",
        "/v1/models/{name}",
        "/v1/completions",
        "/v1/chat/completions",
        "/health",
        "/metrics",
    }
    assert "422" not in described["/v1/completions"]["post"]["responses"]


def test_models_are_listed(client):
    [model] = client.models.list()
    assert (model.id, model.context_length, model.chat) == (NAME, 96, True)
    assert client.models.retrieve(NAME) == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_health(url):
    idle = {"status": "ok", "running": 0, "waiting": 0}
    assert HTTP.get(f"{url}/health").json() == idle


# Refusals


@pytest.mark.parametrize(
    ("status", "path", "fields", "message"),
    [
        (404, "completions", {"model": "gpt-4", "prompt": "x"}, "no such model"),
        (400, "completions", {}, "prompt: Field required"),
        (400, "completions", {"prompt": 7}, "prompt"),
        (400, "completions", {"prompt": []}, "prompt: List should have at least 1"),
        (400, "chat/completions", {"messages": TALK, "max_tokens": 0}, "max_tokens"),
        (400, "completions", {"prompt": [7, 320]}, "ids must be in 0 … 319"),
        (400, "completions", {"prompt": [7, "x"]}, "prompt.1"),
        (400, "completions", {"prompt": [[7], []]}, "prompt.1"),
        (400, "completions", {"prompt": "x", "max_tokens": -5}, "max_tokens"),
        (400, "completions", {"prompt": "x", "max_tokens": "5"}, "valid integer"),
        (400, "completions", {"prompt": "x", "max_tokens": 10**30}, "max_tokens"),
        (400, "completions", {"prompt": "x", "max_tokens": 95}, "window is 96 tokens"),
        (400, "completions", {"prompt": "x " * 200}, "context window"),
        (400, "completions", {"prompt": "x" * 500_000}, "answer up to 1."),
        (400, "completions", {"prompt": "x", "echo": 1}, "echo"),
        (400, "completions", {"prompt": "x", "temperature": -1}, "temperature"),
        (400, "completions", {"prompt": "x", "temperature": 2.5}, "temperature"),
        (400, "completions", {"prompt": "x", "temperature": True}, "temperature"),
        (400, "completions", {"prompt": "x", "top_p": 0}, "top_p"),
        (400, "completions", {"prompt": "x", "n": 17}, "n: "),
        (400, "completions", {"prompt": "x", "seed": 2**64}, "seed"),
        (400, "completions", {"prompt": "x", "stop": ""}, "stop"),
        (
            400,
            "completions",
            {"prompt": "x", "stop": ["a"] * 5},
            "stop: List should have at most 4",
        ),
        (400, "completions", {"prompt": "x", "logit_bias": {"5": 1.0}}, "logit_bias"),
        (400, "completions", {"prompt": "x", "presence_penalty": 0.5}, "Not supported"),
        (400, "completions", {"prompt": "x", "min_p": 0.1}, "min_p: Not supported"),
        (400, "completions", {"prompt": "x", "repetition_penalty": 1.1}, "repetition"),
        (400, "completions", {"prompt": "x", "min_tokens": 5}, "min_tokens: Not"),
        (400, "completions", {"prompt": "x", "ignore_eos": True}, "ignore_eos: Not"),
        (400, "chat/completions", {"messages": [{}] * 9_999}, "messages"),
        (400, "chat/completions", {"messages": []}, "messages"),
        (400, "chat/completions", {"messages": TALK * 2}, "take turns"),
        (400, "chat/completions", {"messages": [{"role": "king"}]}, "messages.0"),
        (400, "completions", {"prompt": "x", "logprobs": 21}, "logprobs"),
        (400, "chat/completions", {"messages": TALK, "logprobs": 3}, "logprobs"),
        (
            400,
            "chat/completions",
            {"messages": TALK, "top_logprobs": 3},
            "top_logprobs",
        ),
        (400, "chat/completions", {"messages": TALK, "tools": [{}]}, "tools"),
        (400, "chat/completions", {"messages": TALK, "functions": [{}]}, "functions"),
        (
            400,
            "chat/completions",
            {"messages": TALK, "tool_choice": "required"},
            "tool_choice",
        ),
        (400, "completions", {"prompt": ["x"] * 6, "n": 16}, "at most 80 texts"),
    ],
)
def test_wrong_requests(url, status, path, fields, message):
    found = post(url, path, **fields)
    assert found.status_code == status
    error = found.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert message in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"model": "tiny", "prompt": "x", "temperature": NaN}',
        b'{"model": "tiny", "prompt": "x", "temperature": 1e999}',
        b'{"model": "tiny", "prompt": "x", "seed": 1' + b"0" * 5000 + b"}",
        b'{"model": "tiny", "prompt": "\\ud83d"}',
        b'{"model": "\\ud83d", "prompt": "x"}',
        b'{"model": "tiny", "prompt": ["a", 1]}',
    ],
)
def test_bodies_that_mean_nothing(url, body):
    headers = {"content-type": "application/json"}
    found = HTTP.post(f"{url}/v1/completions", content=body, headers=headers)
    assert found.status_code == 400
    assert found.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a\0b"},
        {"prompt": "", "temperature": 1e-300},
        {"prompt": "\U0001f600" * 3, "seed": -(2**63), "n": 16},
        {"prompt": "x", "seed": 2**63 - 1, "n": 2, "top_k": 2**31 - 1, "user": "me"},
        {"prompt": "x", "unheard_of": [1], "logprobs": None, "stop": []},
    ],
)
def test_strange_requests_that_are_right(url, fields):
    # With a seed: without one, the first token may be one that ends the text.
    found = post(url, max_tokens=3, **{"seed": 0} | fields)
    assert found.status_code == 200, found.text
    assert found.json()["usage"]["completion_tokens"] >= 1


def test_other_paths_and_methods(url):
    for status, found in (
        (404, HTTP.get(f"{url}/v2")),
        (404, HTTP.get(f"{url}/docs")),
        (405, HTTP.get(f"{url}/v1/completions")),
        (405, HTTP.delete(f"{url}/health")),
    ):
        assert found.status_code == status
        assert "message" in found.json()["error"]


def test_a_large_body_is_refused_and_the_connection_lives_on(url):
    with httpx.Client(base_url=url, timeout=300) as http:
        found = http.post("/v1/completions", content=b"x" * 10_000_000)
        assert found.status_code == 413
        assert found.json()["error"]["code"] == "size"
        assert http.get("/health").status_code == 200


def test_a_full_queue_says_so():
    with small_service(max_batch=1, max_queue=1) as (url, app):
        batcher, go_on = batcher_of(app), threading.Event()
        step = batcher.step
        batcher.step = lambda: (go_on.wait(300), step())[1]
        asked = {"prompt": "x", "max_tokens": 2}
        threads = [
            threading.Thread(target=post, args=(url,), kwargs=asked) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(batcher.running) + len(batcher.waiting) == 2)
        health = HTTP.get(f"{url}/health").json()
        assert (health["status"], health["running"] + health["waiting"]) == ("ok", 2)
        for stream in (False, True):
            found = post(url, **asked, stream=stream)
            assert found.status_code == 429
            assert found.json()["error"]["type"] == "rate_limit_error"
            assert found.headers["retry-after"] == "1"
        go_on.set()
        for thread in threads:
            thread.join()
        assert post(url, **asked).status_code == 200


def test_an_answer_that_takes_too_long():
    with small_service(request_seconds=0.15, slow=0.02) as (url, app):
        batcher, asked = batcher_of(app), []
        submit = batcher.submit
        batcher.submit = lambda *new: (asked.extend(new), submit(*new))
        found = post(url, **LONG)
        assert found.status_code == 504
        assert found.json()["error"]["type"] == "timeout_error"
        events = post(url, **LONG, stream=True).text.split("\n\n")
        assert "error" in json.loads(events[-3].removeprefix("data: "))
        assert events[-2] == "data: [DONE]"
        wait_until(lambda: batcher.idle)
        assert {request.finish for request in asked} == {"cancelled"}


def test_the_key_is_asked_for():
    with small_service(api_key="s3cret") as (url, _):
        asked = {"model": NAME, "prompt": "x"}
        for key in ("", "Bearer", "Bearer wrong", "Basic s3cret", "Bearer s3cret2"):
            found = HTTP.post(
                f"{url}/v1/completions", json=asked, headers={"authorization": key}
            )
            assert found.status_code == 401
            assert found.headers["www-authenticate"] == "Bearer"
            assert found.json()["error"]["code"] == "invalid_api_key"
        raw = {"authorization": b"Bearer \xff"}
        assert HTTP.get(f"{url}/v1/models", headers=raw).status_code == 401
        with openai.OpenAI(base_url=f"{url}/v1", api_key="s3cret") as client:
            assert client.completions.create(**asked).choices
        with (
            openai.OpenAI(base_url=f"{url}/v1", api_key="other") as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.models.list()
        assert HTTP.get(f"{url}/health").status_code == 200


@pytest.mark.parametrize("key", ["voilà", "ключ", "日本"])
def test_a_key_may_have_other_letters(key):
    """The last byte of "voilà" is white space in Latin-1, as which headers are read."""
    with small_service(api_key=key) as (url, _):
        for sent, status in ((key, 200), (f"{key}x", 401), (key[:-1], 401)):
            headers = {"authorization": f"Bearer {sent}".encode()}
            assert HTTP.get(f"{url}/v1/models", headers=headers).status_code == status


def test_a_model_without_conversations_says_so():
    with small_service(chat=False) as (url, _):
        found = post(url, "chat/completions", messages=TALK)
        assert found.status_code == 400
        assert found.json()["error"]["code"] == "no_chat_model"


def test_wrong_configurations_are_refused():
    for name, value in (
        *(("max_batch", 0), ("max_queue", -1), ("request_seconds", 0)),
        *(("body_seconds", 0), ("max_body_bytes", 0)),
        *(("api_key", ""), ("api_key", " "), ("api_key", "s3cret\n")),
    ):
        with pytest.raises(ValueError, match=name):
            ServiceConfig(**{name: value})
    with pytest.raises(ValueError, match="the model's 320 ids"):
        create_app(small_model(), BPETokenizer.train(["a"], 256), NAME)
